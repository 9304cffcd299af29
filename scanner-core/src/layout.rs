//! What of a kernel's data structures the scanner needs to know, resolved once from VMCOREINFO.

mod resolve;

use crate::addr::VirtAddr;
use crate::free_list::FreeListLayout;
use crate::nodes::NodeLayout;
use crate::paging::AddressSpace;
use crate::vmcoreinfo::{Key, Radix, Release, VmcoreInfoError};
use core::fmt;

/// The largest `struct page` that is accepted, in bytes. Kernels have 56 or 64, with debug options up to 128.
pub const MAX_STRUCT_PAGE: usize = 256;

/// A layout that can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The text itself is wrong, or a key that can't be done without is missing.
    VmcoreInfo(VmcoreInfoError),
    /// A key's value can't be.
    OutOfRange {
        /// The key.
        key: Key,
        /// Its value.
        value: u64,
        /// What it has to be, to follow "must be".
        must_be: &'static str,
    },
    /// None of some keys is there.
    NoneOf {
        /// What they are for.
        what: &'static str,
        /// The keys, as text.
        keys: &'static str,
    },
}

impl From<VmcoreInfoError> for LayoutError {
    fn from(error: VmcoreInfoError) -> Self {
        Self::VmcoreInfo(error)
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VmcoreInfo(error) => error.fmt(f),
            Self::OutOfRange { key, value, must_be } if key.radix() == Radix::Hex => {
                write!(f, "VMCOREINFO: {} is {value:#x}, but must be {must_be}", key.text())
            }
            Self::OutOfRange { key, value, must_be } => {
                write!(
                    f,
                    "VMCOREINFO: {} is {} ({value:#x}), but must be {must_be}",
                    key.text(),
                    value.cast_signed()
                )
            }
            Self::NoneOf { what, keys } => {
                write!(f, "VMCOREINFO: no way to find {what}: none of {keys} is there")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

/// Where the fields of `struct page` are, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructPage {
    /// `sizeof(struct page)`.
    pub size: usize,
    /// `flags`, 64 bits.
    pub flags: usize,
    /// `mapping`, 64 bits.
    pub mapping: usize,
    /// `_mapcount` (`page_type` since 4.18), 32 bits. Without it every page reads as 0.
    pub mapcount: Option<usize>,
    /// `private`, 64 bits: a free block's order.
    pub private: Option<usize>,
    /// `compound_head` (`compound_info` since 7.1), 64 bits; bit 0 marks a tail page. Since 4.6.
    pub compound_head: Option<usize>,
}

/// Bits of `page.flags`, as masks; 0 for a flag that the kernel doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFlags {
    /// `PG_lru`.
    pub lru: u64,
    /// `PG_private`.
    pub private: u64,
    /// `PG_swapcache`.
    pub swapcache: u64,
    /// `PG_swapbacked`, which has to be set for `PG_swapcache` to mean anything; `None` if not known.
    pub swapbacked: Option<u64>,
    /// `PG_slab`. Kernels from 6.10 on have a page type instead and don't export it: makedumpfile's default is bit 7.
    pub slab: u64,
    /// Whether the kernel exported [`slab`](Self::slab).
    pub slab_exported: bool,
    /// `PG_head`, or the bits that mark the head of a compound page.
    pub head: u64,
    /// `PG_hwpoison`, with CONFIG_MEMORY_FAILURE.
    pub hwpoison: Option<u64>,
}

/// Values of the `_mapcount` word that mark a page's type, as 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTypes {
    /// Offline (since 5.0).
    pub offline: Option<u32>,
    /// Slab (since 6.10).
    pub slab: Option<u32>,
    /// Not accepted yet (since 6.16).
    pub unaccepted: Option<u32>,
}

/// How free pages are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreePages {
    /// By the value of the `_mapcount` word (2.6.38 and later, exported since 3.9), the order in `private`.
    Type(u32),
    /// By a bit of `flags`, `PG_buddy` (2.6.17 to 2.6.37), the order in `private`.
    Flag(u64),
    /// `struct page` doesn't tell: the free lists of all zones have to be followed.
    FreeLists,
}

/// A number in the first tail page of a compound page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailField {
    /// Bytes from the start of that `struct page`.
    pub offset: usize,
    /// Its size in bytes: 1, 2 or 8.
    pub width: usize,
}

/// How the order of a compound page, and that it belongs to hugetlb, are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompoundPages {
    /// 6.9 and later: the order in the low byte of the first tail's flags, hugetlb by the head's `_mapcount` word.
    TypedHugetlb {
        /// The value that marks hugetlb.
        hugetlb: u32,
    },
    /// 6.6 to 6.8: the order in the low byte of the first tail's flags, hugetlb by one of its bits.
    FlaggedHugetlb {
        /// The bit, as a mask.
        hugetlb: u64,
    },
    /// Before: order and destructor are fields of the first tail.
    Destructor {
        /// The order's field, if the kernel says where it is.
        order: Option<TailField>,
        /// The destructor's field.
        dtor: Option<TailField>,
        /// The destructor's number for hugetlb (4.4 and later).
        hugetlb_dtor: Option<u64>,
        /// The destructor's address for hugetlb (before 4.5).
        free_huge_page: Option<u64>,
    },
}

/// How the array of `struct page` is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryModelKeys {
    /// SPARSEMEM: an array of `struct mem_section`, or (EXTREME) an array of pointers to pages of them.
    Sparse {
        /// The array (or since 4.15, with debug information, a pointer to it).
        mem_section: VirtAddr,
        /// Whether it is an array of pointers.
        extreme: bool,
        /// `sizeof(struct mem_section)`.
        entry_size: u64,
        /// Where `section_mem_map` is in it.
        map_offset: u64,
        /// Frames of a section are `1 << frames_shift`.
        frames_shift: u32,
        /// How many sections the array is for (`NR_MEM_SECTIONS`); what lies behind it is something else.
        sections: u64,
    },
    /// DISCONTIGMEM: an array per node.
    Discontig {
        /// The array of pointers to `pglist_data`.
        node_data: VirtAddr,
        /// How many there are.
        nodes: u64,
        /// Offset of `pglist_data.node_mem_map`.
        node_mem_map: u64,
        /// Offset of `pglist_data.node_start_pfn`.
        node_start_pfn: u64,
        /// Offset of `pglist_data.node_spanned_pages`.
        node_spanned_pages: u64,
    },
    /// FLATMEM: one array from frame 0 on.
    Flat {
        /// The pointer to it.
        mem_map: VirtAddr,
    },
}

/// A rule that can't find anything in this kernel, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadRule {
    /// Free pages: `struct page` doesn't tell and the free lists' keys are missing.
    Free,
    /// Free pages can only be found by following the free lists.
    FreeByListsOnly,
    /// Poisoned pages: `PG_hwpoison` is not exported.
    Hwpoison,
    /// Offline pages: the type is not exported.
    Offline,
    /// hugetlb pages: neither type, flag nor destructor is exported.
    Hugetlb,
    /// Compound pages: nothing tells their order, so only their head goes.
    CompoundOrder,
}

impl DeadRule {
    /// What is not found, and what is missing.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Free => {
                "free pages can't be told: neither PAGE_BUDDY_MAPCOUNT_VALUE with page._mapcount and page.private, nor PG_buddy, nor the zones' free lists are described"
            }
            Self::FreeByListsOnly => {
                "free pages are found by following the zones' free lists: struct page doesn't tell (no PAGE_BUDDY_MAPCOUNT_VALUE or PG_buddy with page.private)"
            }
            Self::Hwpoison => {
                "poisoned pages can't be told: PG_hwpoison is not exported (kernel without CONFIG_MEMORY_FAILURE, or older than 3.9)"
            }
            Self::Offline => {
                "offline pages can't be told: PAGE_OFFLINE_MAPCOUNT_VALUE is not exported (older than 5.0, or without CONFIG_HUGETLB_PAGE)"
            }
            Self::Hugetlb => {
                "hugetlb pages can't be told: neither a page type, PG_hugetlb nor a destructor is exported"
            }
            Self::CompoundOrder => {
                "the order of compound pages is not known: only their first page can be left out"
            }
        }
    }
}

/// What of a kernel's data structures the scanner needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLayout {
    /// The kernel's version.
    pub release: Release,
    /// `struct page`.
    pub page: StructPage,
    /// Its flags.
    pub flags: PageFlags,
    /// Its types.
    pub types: PageTypes,
    /// Free pages.
    pub free: FreePages,
    /// Compound pages.
    pub compound: CompoundPages,
    /// `LENGTH(zone.free_area)`: orders of free blocks are less than that.
    pub free_area_length: u32,
    /// The array of `struct page`.
    pub model: MemoryModelKeys,
    /// The NUMA nodes, if they are described.
    pub nodes: Option<NodeLayout>,
    /// The zones' free lists, if they are described.
    pub free_lists: Option<FreeListLayout>,
    /// The kernel's page tables.
    pub space: AddressSpace,
}

impl KernelLayout {
    /// Rules that can't find anything in this kernel. Which of them matter depends on the dump level.
    pub fn dead_rules(&self) -> impl Iterator<Item = DeadRule> {
        let lists = self.free == FreePages::FreeLists;
        let lists_known = self.nodes.is_some() && self.free_lists.is_some();
        let (order, hugetlb) = match self.compound {
            CompoundPages::TypedHugetlb { .. } | CompoundPages::FlaggedHugetlb { .. } => (true, true),
            CompoundPages::Destructor { order, dtor, hugetlb_dtor, free_huge_page } => {
                (order.is_some(), dtor.is_some() && (hugetlb_dtor.is_some() || free_huge_page.is_some()))
            }
        };
        [
            (DeadRule::Free, lists && !lists_known),
            (DeadRule::FreeByListsOnly, lists && lists_known),
            (DeadRule::Hwpoison, self.flags.hwpoison.is_none()),
            (DeadRule::Offline, self.types.offline.is_none()),
            (DeadRule::Hugetlb, !hugetlb),
            (DeadRule::CompoundOrder, !order),
        ]
        .into_iter()
        .filter_map(|(rule, dead)| dead.then_some(rule))
    }
}

pub(crate) fn out_of_range(key: Key, value: u64, must_be: &'static str) -> LayoutError {
    LayoutError::OutOfRange { key, value, must_be }
}
