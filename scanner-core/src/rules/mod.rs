//! The rules: they decide from its `struct page` whether a page is excluded.
//!
//! - [`level`]: dump levels, page classes, rule sets, counters.
//! - [`predicates`]: makedumpfile's predicates in makedumpfile's order, for one page.
//! - [`batch`]: the same decisions for 64 pages at a time. The scan of a busy machine spends most of its time there.

pub mod batch;
pub mod level;
pub mod predicates;

pub use batch::PageBatch;
pub use level::{Counters, DumpLevel, FramesByClass, PageClass, RuleSet, runs_by_class};
pub use predicates::{BLOCK_FRAMES, Compound, Decision, MAX_COMPOUND_ORDER};

use crate::addr::Pfn;
use crate::kernel::layout::KernelLayout;
use batch::BatchTables;
use predicates::Predicates;

/// The rules for one kernel, dump level and rule set.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    predicates: Predicates,
    /// `None` for a kernel whose `struct page` does not have the common layout: its pages are decided one by one.
    tables: Option<BatchTables>,
}

impl Rules {
    /// The rules of `rule_set` at `level`, for a kernel with `layout`.
    pub fn new(layout: &KernelLayout, level: DumpLevel, rule_set: RuleSet) -> Self {
        let predicates = Predicates::new(layout, level, rule_set);
        Self { tables: BatchTables::new(layout, &predicates), predicates }
    }

    /// Whether a scan can exclude pages. As in makedumpfile, levels 0 and 1 need a scan only if the kernel exports
    /// `PG_hwpoison`; levels 16 and 17 also if `struct page` identifies free pages.
    pub fn need_scan(&self) -> bool {
        self.predicates.need_scan()
    }

    /// `sizeof(struct page)` in bytes.
    pub fn page_size(&self) -> usize {
        self.predicates.page_size()
    }

    /// The rule set.
    pub fn rule_set(&self) -> RuleSet {
        self.predicates.rule_set()
    }

    /// Decides frame `pfn`. `page` is its `struct page`, `next` the `struct page` of the following frame.
    #[inline]
    pub fn decide(&self, pfn: Pfn, page: &[u8], next: Option<&[u8]>) -> Decision {
        self.predicates.decide(pfn, page, next)
    }

    /// The order of the compound page whose head is `pfn`, and whether it is a hugetlb page. See
    /// [`Predicates::compound`].
    #[inline]
    pub fn compound(&self, pfn: Pfn, flags: u64, mapcount: u64, next: Option<&[u8]>) -> Compound {
        self.predicates.compound(pfn, flags, mapcount, next)
    }

    /// Decides the frames from `pfn` on: at most `count`, and at most up to the next multiple of 64. `pages` starts
    /// with their `struct page`s. Decides at least one frame, unless `pages` is empty.
    #[inline]
    pub fn decide_batch(&self, pfn: Pfn, count: u64, pages: &[u8], batch: &mut PageBatch) {
        BatchTables::decide(self.tables.as_ref(), &self.predicates, pfn, count, pages, batch);
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
#[cfg(test)]
pub(crate) mod test_kernels;
