//! The layout of a kernel's data structures, as far as the scanner uses them. It is resolved once, from VMCOREINFO.

use super::architecture::Architecture;
use crate::addr::VirtAddr;
use crate::kernel::free_lists::FreeListLayout;
use crate::kernel::nodes::NodeLayout;
use crate::kernel::vmcoreinfo::Release;
use crate::paging::AddressSpace;

/// The largest size of `struct page` that is accepted, in bytes. Kernels have 56 or 64, and up to 128 with debug
/// options.
pub const MAX_STRUCT_PAGE: usize = 256;

/// Size and field offsets of `struct page`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructPage {
    /// `sizeof(struct page)`.
    pub size: usize,
    /// `flags`, 64 bits.
    pub flags: usize,
    /// `mapping`, 64 bits.
    pub mapping: usize,
    /// `_mapcount` (`page_type` since 4.18), 32 bits. If `None`, the field of every page counts as 0.
    pub mapcount: Option<usize>,
    /// `private`, 64 bits: the order of a free block.
    pub private: Option<usize>,
    /// `compound_head` (`compound_info` since 7.1), 64 bits; bit 0 marks a tail page. Since 4.6.
    pub compound_head: Option<usize>,
}

/// Masks of the bits of `page.flags`; 0 for a flag that the kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFlags {
    /// `PG_lru`.
    pub lru: u64,
    /// `PG_private`.
    pub private: u64,
    /// `PG_swapcache`.
    pub swapcache: u64,
    /// `PG_swapbacked`. `PG_swapcache` means swap cache only if this bit is also set. `None` if the bit is not known.
    pub swapbacked: Option<u64>,
    /// `PG_slab`. Kernels since 6.10 have a page type instead and do not export the flag; makedumpfile's default is bit
    /// 7.
    pub slab: u64,
    /// Whether the kernel exports [`slab`](Self::slab).
    pub slab_exported: bool,
    /// `PG_head`, or the bits that mark the head of a compound page.
    pub head: u64,
    /// `PG_hwpoison`, in kernels with CONFIG_MEMORY_FAILURE.
    pub hwpoison: Option<u64>,
}

/// Page types: the 32-bit values of the `_mapcount` field that mark them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTypes {
    /// Offline (since 5.0).
    pub offline: Option<u32>,
    /// Slab (since 6.10).
    pub slab: Option<u32>,
    /// Unaccepted memory (since 6.16).
    pub unaccepted: Option<u32>,
}

/// How free pages are identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreePages {
    /// By the value of the `_mapcount` field (since 2.6.38, exported since 3.9). The order is in `private`.
    Type(u32),
    /// By a bit of `flags`, `PG_buddy` (2.6.17 to 2.6.37). The order is in `private`.
    Flag(u64),
    /// By the free lists of all zones: `struct page` does not identify free pages.
    FreeLists,
}

/// A field of the first tail page of a compound page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailField {
    /// Offset in that `struct page`, in bytes.
    pub offset: usize,
    /// Size in bytes: 1, 2 or 8.
    pub width: usize,
}

/// How the order of a compound page is found, and how hugetlb pages are identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompoundPages {
    /// 6.9 and later: the order is in the low byte of the first tail's flags. The head's `_mapcount` field marks
    /// hugetlb.
    TypedHugetlb {
        /// The value of the `_mapcount` field.
        hugetlb: u32,
    },
    /// 6.6 to 6.8: the order is in the low byte of the first tail's flags. A bit of these flags marks hugetlb.
    FlaggedHugetlb {
        /// The mask of the bit.
        hugetlb: u64,
    },
    /// Before 6.6: order and destructor are fields of the first tail.
    Destructor {
        /// The field of the order; `None` if the kernel does not export it.
        order: Option<TailField>,
        /// The field of the destructor.
        dtor: Option<TailField>,
        /// The number of hugetlb's destructor (since 4.4).
        hugetlb_dtor: Option<u64>,
        /// The address of hugetlb's destructor (before 4.5).
        free_huge_page: Option<u64>,
    },
}

/// The memory model: the layout of the array of `struct page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryModelKeys {
    /// SPARSEMEM: an array of `struct mem_section`, or (EXTREME) an array of pointers to pages of `struct mem_section`.
    Sparse {
        /// The array. In a text made from debug information of 4.15 or later: a pointer to the array.
        mem_section: VirtAddr,
        /// Whether the array holds pointers (EXTREME).
        extreme: bool,
        /// `sizeof(struct mem_section)`.
        entry_size: u64,
        /// Offset of `mem_section.section_mem_map`.
        map_offset: u64,
        /// Binary logarithm of the frames of a section.
        frames_shift: u32,
        /// Number of sections that the array describes (`NR_MEM_SECTIONS`). Memory after the array is not part of it.
        sections: u64,
    },
    /// DISCONTIGMEM: one array per node.
    Discontig {
        /// The array of pointers to `pglist_data`.
        node_data: VirtAddr,
        /// Number of pointers.
        nodes: u64,
        /// Offset of `pglist_data.node_mem_map`.
        node_mem_map: u64,
        /// Offset of `pglist_data.node_start_pfn`.
        node_start_pfn: u64,
        /// Offset of `pglist_data.node_spanned_pages`.
        node_spanned_pages: u64,
    },
    /// FLATMEM: one array, which starts with frame 0.
    Flat {
        /// The pointer to the array.
        mem_map: VirtAddr,
    },
}

/// A rule that cannot find pages in this kernel, because VMCOREINFO lacks keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableRule {
    /// Free pages: neither the keys of `struct page` nor those of the free lists are exported.
    Free,
    /// Free pages: only the walk of the free lists finds them.
    FreeByListsOnly,
    /// Hardware-poisoned pages: `PG_hwpoison` is not exported.
    Hwpoison,
    /// Offline pages: the page type is not exported.
    Offline,
    /// hugetlb pages: neither page type, flag nor destructor is exported.
    Hugetlb,
    /// Compound pages: their order is not exported, so only the head can be excluded.
    CompoundOrder,
}

impl UnavailableRule {
    /// The effect on the dump, and the keys that are missing.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Free => {
                "free pages cannot be identified: VMCOREINFO has neither PAGE_BUDDY_MAPCOUNT_VALUE with page._mapcount and page.private, nor PG_buddy, nor the zones' free lists"
            }
            Self::FreeByListsOnly => {
                "free pages are identified by the zones' free lists: VMCOREINFO has neither PAGE_BUDDY_MAPCOUNT_VALUE nor PG_buddy with page.private"
            }
            Self::Hwpoison => {
                "hardware-poisoned pages cannot be identified: PG_hwpoison is not exported (kernel without CONFIG_MEMORY_FAILURE, or older than 3.9)"
            }
            Self::Offline => {
                "offline pages cannot be identified: PAGE_OFFLINE_MAPCOUNT_VALUE is not exported (kernel older than 5.0, or without CONFIG_HUGETLB_PAGE)"
            }
            Self::Hugetlb => {
                "hugetlb pages cannot be identified: neither a page type, PG_hugetlb nor a destructor is exported"
            }
            Self::CompoundOrder => {
                "the order of compound pages is not exported: only their head pages can be excluded"
            }
        }
    }
}

/// The layout of a kernel's data structures, as far as the scanner uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLayout {
    /// The kernel's version.
    pub release: Release,
    /// The architecture.
    pub architecture: Architecture,
    /// Binary logarithm of the page size.
    pub page_shift: u32,
    /// Fields of `struct page`.
    pub page: StructPage,
    /// Bits of `page.flags`.
    pub flags: PageFlags,
    /// Page types.
    pub types: PageTypes,
    /// How free pages are identified.
    pub free: FreePages,
    /// How compound pages are identified.
    pub compound: CompoundPages,
    /// `LENGTH(zone.free_area)`: the order of a free block is less than this.
    pub free_area_length: u32,
    /// The memory model.
    pub model: MemoryModelKeys,
    /// The NUMA nodes, if VMCOREINFO describes them.
    pub nodes: Option<NodeLayout>,
    /// The zones' free lists, if VMCOREINFO describes them.
    pub free_lists: Option<FreeListLayout>,
    /// The kernel's page tables.
    pub space: AddressSpace,
}

impl KernelLayout {
    /// The rules that cannot find pages in this kernel. The dump level decides which of them matter.
    pub fn unavailable_rules(&self) -> impl Iterator<Item = UnavailableRule> {
        let lists = self.free == FreePages::FreeLists;
        let lists_known = self.nodes.is_some() && self.free_lists.is_some();
        let (order, hugetlb) = match self.compound {
            CompoundPages::TypedHugetlb { .. } | CompoundPages::FlaggedHugetlb { .. } => (true, true),
            CompoundPages::Destructor { order, dtor, hugetlb_dtor, free_huge_page } => {
                (order.is_some(), dtor.is_some() && (hugetlb_dtor.is_some() || free_huge_page.is_some()))
            }
        };
        [
            (UnavailableRule::Free, lists && !lists_known),
            (UnavailableRule::FreeByListsOnly, lists && lists_known),
            (UnavailableRule::Hwpoison, self.flags.hwpoison.is_none()),
            (UnavailableRule::Offline, self.types.offline.is_none()),
            (UnavailableRule::Hugetlb, !hugetlb),
            (UnavailableRule::CompoundOrder, !order),
        ]
        .into_iter()
        .filter_map(|(rule, unavailable)| unavailable.then_some(rule))
    }
}
