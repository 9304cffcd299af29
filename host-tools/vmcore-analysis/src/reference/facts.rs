//! The fields of a `struct page`, before any rule is applied.

use scanner_core::kernel::layout::{CompoundPages, TailField};
use scanner_core::{KernelLayout, Pfn};

/// The fields of a `struct page` that the rules read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// The page frame.
    pub pfn: Pfn,
    /// `flags`.
    pub flags: u64,
    /// `mapping`.
    pub mapping: u64,
    /// The `_mapcount` word, which is `page_type` for pages with a type; 0 if VMCOREINFO has no offset for it.
    pub mapcount: u32,
    /// `private`; 0 if VMCOREINFO has no offset for it.
    pub private: u64,
    /// `compound_head`, since 7.1 `compound_info`; 0 if VMCOREINFO has no offset for it.
    pub compound_head: u64,
    /// The following `struct page`, read as the first tail of a compound page; `None` if it is not in the block that
    /// makedumpfile reads.
    pub first_tail: Option<FirstTail>,
}

/// The fields of a compound page's first tail, the `struct page` following its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstTail {
    /// `flags`.
    pub flags: u64,
    /// The order field; 0 if VMCOREINFO has no offset for it.
    pub order: u64,
    /// The destructor field; 0 if VMCOREINFO has no offset for it.
    pub destructor: u64,
}

impl PageFacts {
    /// Reads the fields from the bytes of `page` and of the following `struct page`, `next`.
    pub fn read(layout: &KernelLayout, pfn: Pfn, page: &[u8], next: Option<&[u8]>) -> Self {
        let optional = |at: Option<usize>| at.map_or(0, |at| number(page, at, 8));
        Self {
            pfn,
            flags: number(page, layout.page.flags, 8),
            mapping: number(page, layout.page.mapping, 8),
            mapcount: layout.page.mapcount.map_or(0, |at| number(page, at, 4) as u32),
            private: optional(layout.page.private),
            compound_head: optional(layout.page.compound_head),
            first_tail: next.map(|tail| FirstTail::read(layout, tail)),
        }
    }

    /// Whether the page is the tail of a compound page.
    pub fn is_tail(&self) -> bool {
        self.compound_head % 2 == 1
    }
}

impl FirstTail {
    fn read(layout: &KernelLayout, tail: &[u8]) -> Self {
        let field = |field: Option<TailField>| field.map_or(0, |f| number(tail, f.offset, f.width));
        let (order, destructor) = match layout.compound {
            CompoundPages::Destructor { order, dtor, .. } => (field(order), field(dtor)),
            CompoundPages::TypedHugetlb { .. } | CompoundPages::FlaggedHugetlb { .. } => (0, 0),
        };
        Self { flags: number(tail, layout.page.flags, 8), order, destructor }
    }
}

/// The little-endian number of `width` bytes at `at`. Bytes after the end count as 0.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    (0..width).rev().fold(0, |sum, i| sum << 8 | u64::from(bytes.get(at + i).copied().unwrap_or(0)))
}
