//! The kernel generations that a simulated machine can run: what tells them apart. They are data alone, in a table of their
//! own; no decision is made elsewhere.
//!
//! A generation is a span of kernel releases whose `struct page` and VMCOREINFO look the same to a dump filter.
//! Offsets and numbers are those of x86_64 with 4 KiB pages and a distribution-like configuration; where the numbers
//! depend on the configuration (the tail of the page flags), one configuration stands for all.

use bitflags::bitflags;

/// Where the members of `struct page` are, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PageLayout {
    /// `SIZE(page)`.
    pub size: u64,
    /// `page.mapping`.
    pub mapping: u64,
    /// `page.lru`, two pointers.
    pub lru: u64,
    /// `page.private`: the order of a free block.
    pub private: u64,
    /// `page._mapcount`, or `page_type`; 32 bits.
    pub mapcount: u64,
    /// `page._refcount`, before 4.7 `page._count`; 32 bits.
    pub refcount: u64,
    /// Where a tail page says which compound page it belongs to.
    pub tail: TailLink,
}

/// How a tail page of a compound page points at its head.
#[derive(Clone, Copy, Debug)]
pub enum TailLink {
    /// Before 4.4: the tail flag, and the head's address in `first_page`, which shares `private`.
    FirstPage,
    /// 4.4 and later: the head's address with bit 0 set, at this offset.
    Head(u64),
    /// 7.1 and later: a mask that leads to the head, with bit 0 set, at this offset (commit d50569612c29).
    Mask(u64),
}

/// Where the first tail page keeps the compound page's order, and how a hugetlb page is known.
#[derive(Clone, Copy, Debug)]
pub enum Compound {
    /// Before 4.4: `lru.prev` is the order, `lru.next` the destructor's address.
    LruPointers,
    /// 4.4 to 4.15: 16-bit members.
    Words {
        /// Offset of `compound_dtor` in the first tail page.
        dtor: u64,
        /// Offset of `compound_order` in the first tail page.
        order: u64,
    },
    /// 4.16 to 6.5: 8-bit members.
    Bytes {
        /// Offset of `compound_dtor` in the first tail page.
        dtor: u64,
        /// Offset of `compound_order` in the first tail page.
        order: u64,
    },
    /// 6.6 to 6.8: the order in the low byte of the first tail page's flags, hugetlb as this flag of it.
    TailFlags {
        /// `PG_hugetlb`.
        hugetlb: u8,
    },
    /// 6.9 and later: the same, but hugetlb is a page type of the head.
    TailFlagsTyped,
}

/// Bit numbers in `page.flags`; `None` where the generation has no such flag.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    pub(super) referenced: u8,
    pub(super) uptodate: u8,
    pub(super) lru: u8,
    pub(super) waiters: Option<u8>,
    pub(super) slab: Option<u8>,
    pub(super) reserved: u8,
    pub(super) private: u8,
    pub(super) head: u8,
    pub(super) tail: Option<u8>,
    pub(super) swapcache: u8,
    pub(super) swapbacked: Option<u8>,
    pub(super) buddy: Option<u8>,
    pub(super) hwpoison: Option<u8>,
}

/// Values of the `_mapcount` word (`page_type`) that name a page's kind; `None` where the generation has no such type.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    pub(super) buddy: Option<u32>,
    pub(super) offline: Option<u32>,
    pub(super) table: Option<u32>,
    pub(super) hugetlb: Option<u32>,
    pub(super) slab: Option<u32>,
    pub(super) unaccepted: Option<u32>,
}

bitflags! {
    /// Which keys, beyond the base set of 2.6.24, a generation's VMCOREINFO has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Keys: u32 {
        /// `page._mapcount`, `page.private`, `PG_slab`, `PAGE_BUDDY_MAPCOUNT_VALUE` (3.9, commit 8d67091ec6ae).
        const BUDDY = 1 << 0;
        /// `PG_hwpoison`.
        const HWPOISON = 1 << 1;
        /// `PG_head_mask` (3.16).
        const HEAD_MASK = 1 << 2;
        /// `free_huge_page` (3.17, gone with 4.4).
        const FREE_HUGE_PAGE = 1 << 3;
        /// `compound_dtor`, `compound_order`, `HUGETLB_PAGE_DTOR` (4.4; in `folio` from 6.3 on; gone with 6.6).
        const DTOR = 1 << 4;
        /// `page.compound_head` or `page.compound_info` (4.6).
        const TAIL = 1 << 5;
        /// `PG_swapbacked` (4.17).
        const SWAPBACKED = 1 << 6;
        /// `PAGE_OFFLINE_MAPCOUNT_VALUE` (5.0).
        const OFFLINE = 1 << 7;
        /// `MAX_PHYSMEM_BITS` (5.9) and `SECTION_SIZE_BITS` (5.13).
        const SECTION_BITS = 1 << 8;
        /// `phys_base`, `KERNELOFFSET`, `KERNEL_IMAGE_SIZE`: a kernel at a random address (4.10 has all of them).
        const RANDOM_BASE = 1 << 9;
        /// `pgtable_l5_enabled` and `sme_mask`: the machine may have five levels (4.17).
        const FIVE_LEVEL = 1 << 10;
        /// `page._refcount` in place of `page._count` (4.7).
        const REFCOUNT = 1 << 11;
        /// `init_top_pgt` in place of `init_level4_pgt` (4.13).
        const TOP_PGT = 1 << 12;
        /// `uts_namespace.name`: it is the first member (5.13 and later).
        const UTS_NAME = 1 << 13;
        /// `SIZE(pageflags)` and `PG_buddy`, or a buddy value: given by hand, since the kernel doesn't export them.
        const BY_HAND = 1 << 14;
    }
}

/// Structures that hold the free lists; sizes and offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Zones {
    /// `SIZE(zone)`.
    pub zone_size: u64,
    /// `zone.free_area`, eleven of them.
    pub free_area: u64,
    /// `SIZE(free_area)`.
    pub free_area_size: u64,
    /// `LENGTH(free_area.free_list)`: migrate types; `None` before 2.6.24, with one list.
    pub migrate_types: Option<u64>,
    /// `zone.free_pages` before 2.6.21, `zone.vm_stat` since.
    pub free_pages: u64,
    /// `zone.spanned_pages`.
    pub spanned_pages: u64,
    /// `SIZE(pglist_data)`.
    pub node_size: u64,
    /// `pglist_data.nr_zones`.
    pub nr_zones: u64,
    /// `pglist_data.node_mem_map`; exported only with FLATMEM-like models.
    pub node_mem_map: u64,
    /// `pglist_data.node_start_pfn`.
    pub node_start_pfn: u64,
    /// `pglist_data.node_spanned_pages`.
    pub node_spanned_pages: u64,
    /// `pglist_data.node_id`.
    pub node_id: u64,
    /// Nodes that the kernel is built for: `LENGTH(node_data)`, bits of a `nodemask_t`.
    pub max_nodes: u64,
}

/// How the kernel finds the `struct page` of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum MemoryModel {
    /// SPARSEMEM with a virtual memory map: every kernel since 2.6.25.
    Vmemmap,
    /// SPARSEMEM EXTREME, the memory map of each section in the direct map.
    SparseExtreme,
    /// SPARSEMEM with one static array of sections.
    Sparse,
    /// One memory map for each node.
    Discontig,
    /// One memory map for all memory, holes too.
    Flat,
}

/// One generation of kernels.
#[derive(Clone, Copy, Debug)]
pub struct KernelGeneration {
    /// What to call it: the first release that looks like this, or the usual one.
    pub name: &'static str,
    /// `OSRELEASE`.
    pub release: &'static str,
    pub(super) page: PageLayout,
    pub(super) compound: Compound,
    pub(super) flags: Flags,
    pub(super) types: Types,
    pub(super) keys: Keys,
    pub(super) zones: &'static Zones,
    pub(super) model: MemoryModel,
    /// `SIZE(mem_section)`.
    pub(super) mem_section_size: u64,
    /// Bits of a physical address with four levels (with five: 52).
    pub(super) max_physmem_bits: u32,
    /// Where the direct map starts, with four levels.
    pub(super) page_offset: u64,
    /// Where the virtual memory map starts, with four levels.
    pub(super) vmemmap: u64,
    /// Transparent huge pages (2.6.38).
    pub(super) huge_anon: bool,
    /// Large folios in the page cache (5.18).
    pub(super) large_folios: bool,
    /// The memory map of a hugetlb page keeps one page, the others show it again (HVO, 5.18 to 7.0).
    pub(super) fake_heads: bool,
}

/// `HUGETLB_PAGE_DTOR`: the number of the destructor, 4.4 to 6.5.
pub(super) const HUGETLB_PAGE_DTOR: u8 = 2;
/// Orders of the buddy allocator.
pub(super) const ORDERS: u64 = 11;
/// `_mapcount` of a page that no one maps and that has no type.
pub(super) const NO_TYPE: u32 = u32::MAX;
/// Direct map with five levels.
pub(super) const PAGE_OFFSET_5LEVEL: u64 = 0xff11_0000_0000_0000;
/// Virtual memory map with five levels.
pub(super) const VMEMMAP_5LEVEL: u64 = 0xffd4_0000_0000_0000;
/// Physical address bits with five levels.
pub(super) const PHYSMEM_BITS_5LEVEL: u32 = 52;

impl KernelGeneration {
    /// Whether the kernel itself tells how to know a free page from its `struct page`.
    pub(super) fn exports_buddy(&self) -> bool {
        self.keys.contains(Keys::BUDDY)
    }

    /// Whether order and destructor are called members of `struct folio` (6.3 to 6.5).
    pub(super) fn names_folio(&self) -> bool {
        matches!(self.name, "6.4")
    }
}
