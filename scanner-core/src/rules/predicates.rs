//! The predicates that decide one page.
//!
//! The predicates and their order are makedumpfile's (`__exclude_unnecessary_pages`, version 1.7.9). The differences
//! between the two rule sets become masks when the rules are set up, so that the scan runs the same code for both.

use super::level::{DumpLevel, PageClass, RuleSet};
use crate::addr::Pfn;
use crate::kernel::layout::{CompoundPages, FreePages, KernelLayout, TailField};
use crate::kernel::vmcoreinfo::Release;
use crate::memory::u64_at;

/// The largest order of a compound page that is accepted: 2^30 frames are 4 TiB. makedumpfile shifts a 32-bit 1 by the
/// order, which is undefined for larger orders.
pub const MAX_COMPOUND_ORDER: u32 = 30;

/// Number of frames whose `struct page`s makedumpfile reads at once. The last frame of such a block never counts as the
/// head of a compound page, since its first tail is in the next block.
pub const BLOCK_FRAMES: u64 = 512;

/// A test of a word: `word & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) mask: u64,
    pub(super) value: u64,
}

impl Test {
    /// A test that holds for no word.
    pub(super) const NEVER: Self = Self { mask: 0, value: 1 };

    /// A test that holds for words with all of `bits` set.
    const fn all_of(bits: u64) -> Self {
        Self { mask: bits, value: bits }
    }

    const fn holds(self, word: u64) -> bool {
        word & self.mask == self.value
    }
}

/// The rules for one kernel, dump level and rule set, as offsets, masks and tests.
#[derive(Clone, Copy, Debug)]
pub struct Predicates {
    pub(super) level: DumpLevel,
    pub(super) rule_set: RuleSet,
    pub(super) size: usize,
    pub(super) flags_at: usize,
    pub(super) mapping_at: usize,
    pub(super) mapcount_at: Option<usize>,
    pub(super) private_at: Option<usize>,
    pub(super) head_at: Option<usize>,
    pub(super) used: UsedPages,
    pub(super) slab_flag: u64,
    pub(super) head: u64,
    pub(super) hwpoison: u64,
    pub(super) slab: Test,
    pub(super) buddy: Test,
    pub(super) buddy_flag: u64,
    pub(super) unaccepted: Test,
    pub(super) offline: Test,
    pub(super) compound: CompoundPages,
    pub(super) hugetlb: Test,
    pub(super) free_area_length: u32,
}

/// The rules for pages that processes and files use: most pages of a busy machine. They decide up to 64 pages at once,
/// one per bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsedPages {
    pub(super) lru: u64,
    /// A swap cache page, also if it is not on the LRU. Since 4.10 `PG_swapcache` shares its bit with another flag and
    /// means swap cache only together with `PG_swapbacked`.
    pub(super) swap: Test,
    pub(super) private: u64,
    /// For each class: all ones if the dump level excludes it, else 0.
    cache_mask: u64,
    private_mask: u64,
    user_mask: u64,
}

/// Masks of the excluded pages among 64 used pages, by class. A page is in at most one mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExcludedUsedPages {
    pub(super) cache: u64,
    pub(super) private: u64,
    pub(super) user: u64,
}

impl ExcludedUsedPages {
    /// The mask of all excluded pages.
    pub(super) fn all(self) -> u64 {
        self.cache | self.private | self.user
    }
}

impl UsedPages {
    fn new(layout: &KernelLayout, level: DumpLevel) -> Self {
        let class_mask = |class: PageClass| if class.is_excluded_at(level) { u64::MAX } else { 0 };
        Self {
            lru: layout.flags.lru,
            swap: Test::all_of(layout.flags.swapcache | layout.flags.swapbacked.unwrap_or(0)),
            private: layout.flags.private,
            cache_mask: class_mask(PageClass::Cache),
            private_mask: class_mask(PageClass::CachePrivate),
            user_mask: class_mask(PageClass::User),
        }
    }

    /// Whether a page belongs to the page cache or the swap cache, provided that it is not anonymous.
    #[inline(always)]
    pub(super) fn is_cache(&self, flags: u64) -> bool {
        (flags & self.lru != 0) | self.swap.holds(flags)
    }

    /// Whether a cache page has private data.
    #[inline(always)]
    pub(super) fn is_private(&self, flags: u64) -> bool {
        flags & self.private != 0
    }

    /// The excluded pages among those that the masks describe.
    #[inline(always)]
    pub(super) fn excluded(&self, cache: u64, private: u64, anon: u64) -> ExcludedUsedPages {
        let cache = cache & !anon;
        ExcludedUsedPages {
            cache: cache & !private & self.cache_mask,
            private: cache & private & self.private_mask,
            user: anon & self.user_mask,
        }
    }
}

/// The decision about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep the page.
    Keep,
    /// Keep the page: it is marked free, but its order is out of range. makedumpfile warns about such pages.
    KeepBadOrder,
    /// Exclude the page and the frames that follow it.
    Exclude {
        /// The class of the page.
        class: PageClass,
        /// The number of excluded frames, including the page itself.
        frames: u64,
    },
}

/// Order and type of a compound page, from its head and first tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compound {
    /// The order; 0 for a page that is not a head, or whose order is out of range.
    pub order: u32,
    /// Whether the page is a hugetlb page.
    pub hugetlb: bool,
}

impl Predicates {
    /// The rules of `rule_set` at `level`, for a kernel with `layout`.
    pub fn new(layout: &KernelLayout, level: DumpLevel, rule_set: RuleSet) -> Self {
        let free = level.contains(DumpLevel::FREE);
        let kernel = rule_set == RuleSet::Kernel;
        let typed =
            |value: Option<u32>| value.map_or(Test::NEVER, |v| type_test(layout.release, rule_set, v));
        let (buddy, buddy_flag) = match layout.free {
            FreePages::Type(value) if free => (typed(Some(value)), 0),
            FreePages::Flag(mask) if free => (Test::NEVER, mask),
            _ => (Test::NEVER, 0),
        };
        // In kernels without PG_slab, the bit that makedumpfile uses for it is another flag: PG_waiters.
        let slab_flag = if kernel && layout.types.slab.is_some() && !layout.flags.slab_exported {
            0
        } else {
            layout.flags.slab
        };
        let hugetlb = match layout.compound {
            CompoundPages::TypedHugetlb { hugetlb } => typed(Some(hugetlb)),
            _ => Test::NEVER,
        };
        Self {
            level,
            rule_set,
            size: layout.page.size,
            flags_at: layout.page.flags,
            mapping_at: layout.page.mapping,
            mapcount_at: layout.page.mapcount,
            private_at: layout.page.private,
            head_at: layout.page.compound_head,
            used: UsedPages::new(layout, level),
            slab_flag,
            head: layout.flags.head,
            hwpoison: layout.flags.hwpoison.unwrap_or(0),
            slab: typed(layout.types.slab),
            buddy,
            buddy_flag,
            unaccepted: if free { typed(layout.types.unaccepted) } else { Test::NEVER },
            offline: typed(layout.types.offline),
            compound: compound_rule(layout, rule_set),
            hugetlb,
            free_area_length: layout.free_area_length,
        }
    }

    /// Whether a scan can exclude pages; see [`Rules::need_scan`](super::Rules::need_scan).
    pub fn need_scan(&self) -> bool {
        self.level.intersects(DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE | DumpLevel::USER)
            || self.hwpoison != 0
            || self.buddy != Test::NEVER
            || self.buddy_flag != 0
    }

    /// `sizeof(struct page)` in bytes.
    pub fn page_size(&self) -> usize {
        self.size
    }

    /// The rule set.
    pub fn rule_set(&self) -> RuleSet {
        self.rule_set
    }

    /// Decides frame `pfn`. `page` is its `struct page`, `next` the `struct page` of the following frame.
    #[inline]
    pub fn decide(&self, pfn: Pfn, page: &[u8], next: Option<&[u8]>) -> Decision {
        let word = |at: Option<usize>| at.and_then(|at| u64_at(page, at)).unwrap_or(0);
        // The decision about a head page includes its tail pages.
        if word(self.head_at) & 1 != 0 {
            return Decision::Keep;
        }
        let flags = word(Some(self.flags_at));
        let mapcount = self.mapcount_at.and_then(|at| u32_at(page, at)).map_or(0, u64::from);
        let slab = self.is_slab(flags, mapcount);
        if (self.buddy.holds(mapcount) && !slab) || flags & self.buddy_flag != 0 {
            let order = word(self.private_at);
            if order >= u64::from(self.free_area_length) {
                return Decision::KeepBadOrder;
            }
            return Decision::Exclude { class: PageClass::Free, frames: 1 << order };
        }
        if self.unaccepted.holds(mapcount) {
            // Unaccepted blocks all have the largest order (mm/page_alloc.c, 6.16).
            let frames = 1 << self.free_area_length.saturating_sub(1);
            return Decision::Exclude { class: PageClass::Unaccepted, frames };
        }
        let anon = word(Some(self.mapping_at)) & 1 != 0 && !slab;
        let compound = || self.compound(pfn, flags, mapcount, next);
        let (cache, private) = (self.used.is_cache(flags), self.used.is_private(flags));
        let excluded = self.used.excluded(cache.into(), private.into(), anon.into());
        let class = if excluded.cache != 0 {
            PageClass::Cache
        } else if excluded.private != 0 {
            PageClass::CachePrivate
        } else if excluded.user != 0 || self.level.contains(DumpLevel::USER) && compound().hugetlb {
            PageClass::User
        } else if flags & self.hwpoison != 0 {
            PageClass::Hwpoison
        } else if self.offline.holds(mapcount) && !slab {
            PageClass::Offline
        } else {
            return Decision::Keep;
        };
        Decision::Exclude { class, frames: 1 << compound().order }
    }

    #[inline(always)]
    fn is_slab(&self, flags: u64, mapcount: u64) -> bool {
        self.slab.holds(mapcount) | (flags & self.slab_flag != 0)
    }

    /// Whether the first tail is not needed to identify hugetlb pages: the head has a page type, or the dump level
    /// keeps hugetlb pages.
    pub(super) fn head_identifies_hugetlb(&self) -> bool {
        matches!(self.compound, CompoundPages::TypedHugetlb { .. }) || !self.level.contains(DumpLevel::USER)
    }

    /// The order of the compound page whose head is `pfn`, and whether it is a hugetlb page. A head that is the last
    /// frame of a block, or that has no following `struct page`, counts as a single page.
    #[inline]
    pub fn compound(&self, pfn: Pfn, flags: u64, mapcount: u64, next: Option<&[u8]>) -> Compound {
        let last_of_block = pfn.as_u64() % BLOCK_FRAMES == BLOCK_FRAMES.wrapping_sub(1);
        let (false, Some(tail)) = (flags & self.head == 0 || last_of_block, next) else {
            return Compound::default();
        };
        let tail_flags = || u64_at(tail, self.flags_at).unwrap_or(0);
        let (order, hugetlb) = match self.compound {
            CompoundPages::TypedHugetlb { .. } => (tail_flags() & 0xff, self.hugetlb.holds(mapcount)),
            CompoundPages::FlaggedHugetlb { hugetlb } => (tail_flags() & 0xff, tail_flags() & hugetlb != 0),
            CompoundPages::Destructor { order, dtor, hugetlb_dtor, free_huge_page } => {
                let order = order.map_or(0, |field| tail_value(tail, field));
                // As in makedumpfile, an unknown destructor is 0 and is compared like any other value.
                let dtor = dtor.map_or(0, |field| tail_value(tail, field));
                (order, hugetlb_dtor == Some(dtor) || free_huge_page == Some(dtor))
            }
        };
        let is_plausible = order <= u64::from(MAX_COMPOUND_ORDER) && pfn.is_aligned(order as u32);
        let order = if is_plausible { order as u32 } else { 0 };
        // In compound pages that are not folios, the flag bit of the first tail has another meaning. hugetlb pages have
        // order 9 or 18.
        let is_unrelated = self.rule_set == RuleSet::Kernel
            && matches!(self.compound, CompoundPages::FlaggedHugetlb { .. })
            && order != 9
            && order != 18;
        Compound { order, hugetlb: hugetlb && !is_unrelated }
    }
}

/// The test for a page type. makedumpfile compares all 32 bits. Since 6.12 the kernel compares the top byte only; the
/// other bits belong to the owner of the type (PGTY_mapcount_underflow in include/linux/page-flags.h).
fn type_test(release: Release, rule_set: RuleSet, value: u32) -> Test {
    let top_byte_only =
        rule_set == RuleSet::Kernel && release >= Release::new(6, 12, 0) && value & 0xff_ffff == 0;
    Test { mask: if top_byte_only { 0xff00_0000 } else { 0xffff_ffff }, value: value.into() }
}

/// How compound pages are identified. Kernels 6.6 to 6.8 without hugetlb do not export how to find the order, but it is
/// also in the low byte of the first tail's flags.
fn compound_rule(layout: &KernelLayout, rule_set: RuleSet) -> CompoundPages {
    match layout.compound {
        CompoundPages::Destructor { order: None, dtor: None, .. }
            if rule_set == RuleSet::Kernel && layout.release >= Release::new(6, 6, 0) =>
        {
            CompoundPages::FlaggedHugetlb { hugetlb: 0 }
        }
        rule => rule,
    }
}

#[inline]
fn tail_value(tail: &[u8], field: TailField) -> u64 {
    match field.width {
        1 => tail.get(field.offset).copied().map(u64::from),
        2 => {
            tail.get(field.offset..).and_then(|b| b.first_chunk()).map(|b| u64::from(u16::from_le_bytes(*b)))
        }
        _ => u64_at(tail, field.offset),
    }
    .unwrap_or(0)
}

#[inline]
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

#[cfg(test)]
#[path = "predicates_tests.rs"]
mod tests;
