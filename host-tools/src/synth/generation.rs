//! The kernel generations that a simulated machine can run: one table of data, and no decision elsewhere.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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
pub struct Generation {
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

/// `_mapcount` of a page that no one maps and that has no type.
pub(super) const NO_TYPE: u32 = u32::MAX;
/// Direct map with five levels.
pub(super) const PAGE_OFFSET_5LEVEL: u64 = 0xff11_0000_0000_0000;
/// Virtual memory map with five levels.
pub(super) const VMEMMAP_5LEVEL: u64 = 0xffd4_0000_0000_0000;
/// Physical address bits with five levels.
pub(super) const PHYSMEM_BITS_5LEVEL: u32 = 52;

const PAGE_2_6_18: PageLayout = PageLayout {
    size: 56,
    mapping: 24,
    lru: 40,
    private: 16,
    mapcount: 12,
    refcount: 8,
    tail: TailLink::FirstPage,
};
const PAGE_3_1: PageLayout = PageLayout {
    size: 64,
    mapping: 8,
    lru: 32,
    private: 48,
    mapcount: 24,
    refcount: 28,
    tail: TailLink::FirstPage,
};
const PAGE_4_4: PageLayout = PageLayout { tail: TailLink::Head(32), ..PAGE_3_1 };
const PAGE_4_18: PageLayout = PageLayout {
    size: 64,
    mapping: 24,
    lru: 8,
    private: 40,
    mapcount: 48,
    refcount: 52,
    tail: TailLink::Head(8),
};
const PAGE_7_1: PageLayout = PageLayout { tail: TailLink::Mask(8), ..PAGE_4_18 };

const FLAGS_2_6_18: Flags = Flags {
    referenced: 2,
    uptodate: 3,
    lru: 5,
    waiters: None,
    slab: Some(7),
    reserved: 10,
    private: 11,
    // PG_compound: heads and tails have the same flag.
    head: 14,
    tail: Some(14),
    swapcache: 15,
    swapbacked: None,
    buddy: Some(19),
    hwpoison: None,
};
const FLAGS_2_6_32: Flags =
    Flags { tail: Some(15), swapcache: 16, swapbacked: Some(20), hwpoison: Some(24), ..FLAGS_2_6_18 };
const FLAGS_2_6_38: Flags = Flags { buddy: None, swapbacked: Some(19), hwpoison: Some(23), ..FLAGS_2_6_32 };
const FLAGS_4_4: Flags =
    Flags { tail: None, swapcache: 15, swapbacked: Some(18), hwpoison: Some(22), ..FLAGS_2_6_38 };
const FLAGS_4_10: Flags =
    Flags { waiters: Some(7), slab: Some(8), swapcache: 9, reserved: 11, private: 12, head: 15, ..FLAGS_4_4 };
const FLAGS_4_20: Flags = Flags {
    referenced: 1,
    uptodate: 2,
    lru: 4,
    slab: Some(9),
    swapcache: 10,
    reserved: 12,
    private: 13,
    head: 16,
    swapbacked: Some(19),
    hwpoison: Some(23),
    ..FLAGS_4_10
};
const FLAGS_6_6: Flags = Flags {
    referenced: 2,
    uptodate: 3,
    lru: 5,
    head: 6,
    slab: Some(11),
    swapcache: 12,
    reserved: 14,
    private: 15,
    ..FLAGS_4_20
};
const FLAGS_6_10: Flags = Flags {
    slab: None,
    swapcache: 11,
    reserved: 13,
    private: 14,
    swapbacked: Some(18),
    hwpoison: Some(21),
    ..FLAGS_6_6
};
const FLAGS_6_12: Flags =
    Flags { swapcache: 10, private: 14, swapbacked: Some(17), hwpoison: Some(20), ..FLAGS_6_10 };
const FLAGS_6_14: Flags = Flags { hwpoison: Some(21), ..FLAGS_6_12 };

const TYPES_NONE: Types =
    Types { buddy: None, offline: None, table: None, hugetlb: None, slab: None, unaccepted: None };
const TYPES_2_6_38: Types = Types { buddy: Some(-2_i32 as u32), ..TYPES_NONE };
const TYPES_2_6_39: Types = Types { buddy: Some(-128_i32 as u32), ..TYPES_NONE };
const TYPES_4_18: Types = Types { buddy: Some(!0x80), table: Some(!0x400), ..TYPES_NONE };
const TYPES_5_0: Types = Types { offline: Some(!0x100), table: Some(!0x200), ..TYPES_4_18 };
const TYPES_6_9: Types = Types { hugetlb: Some(!0x800), ..TYPES_5_0 };
const TYPES_6_10: Types = Types { slab: Some(!0x1000), ..TYPES_6_9 };
const TYPES_6_11: Types = Types {
    buddy: Some(!0x4000_0000),
    offline: Some(!0x2000_0000),
    table: Some(!0x1000_0000),
    hugetlb: Some(!0x0400_0000),
    slab: Some(!0x0200_0000),
    unaccepted: None,
};
const TYPES_6_12: Types = Types {
    buddy: Some(0xf000_0000),
    offline: Some(0xf100_0000),
    table: Some(0xf200_0000),
    hugetlb: Some(0xf400_0000),
    slab: Some(0xf500_0000),
    unaccepted: None,
};
const TYPES_6_16: Types = Types { unaccepted: Some(0xf700_0000), ..TYPES_6_12 };

const ZONES_2_6_18: Zones = Zones {
    zone_size: 640,
    free_area: 128,
    free_area_size: 24,
    migrate_types: None,
    free_pages: 0,
    spanned_pages: 600,
    node_size: 10240,
    nr_zones: 10100,
    node_mem_map: 10104,
    node_start_pfn: 10112,
    node_spanned_pages: 10128,
    node_id: 10136,
    max_nodes: 64,
};
const ZONES_2_6_32: Zones = Zones {
    zone_size: 1664,
    free_area: 192,
    free_area_size: 104,
    migrate_types: Some(6),
    free_pages: 1472,
    spanned_pages: 112,
    node_size: 10304,
    nr_zones: 9632,
    node_mem_map: 9696,
    node_start_pfn: 9640,
    node_spanned_pages: 9656,
    node_id: 9664,
    max_nodes: 64,
};
const ZONES_5_10: Zones = Zones {
    zone_size: 1472,
    free_area_size: 88,
    migrate_types: Some(5),
    free_pages: 1280,
    spanned_pages: 120,
    node_size: 171_968,
    nr_zones: 171_232,
    node_mem_map: 171_280,
    node_start_pfn: 171_240,
    node_spanned_pages: 171_256,
    node_id: 171_264,
    max_nodes: 1024,
    ..ZONES_2_6_32
};
const ZONES_6_1: Zones = Zones {
    zone_size: 1536,
    free_area: 256,
    free_pages: 1344,
    spanned_pages: 144,
    node_size: 174_208,
    nr_zones: 171_552,
    node_mem_map: 171_592,
    node_start_pfn: 171_560,
    node_spanned_pages: 171_576,
    node_id: 171_584,
    ..ZONES_5_10
};
const ZONES_7_2: Zones = Zones {
    zone_size: 1856,
    free_area_size: 104,
    migrate_types: Some(6),
    free_pages: 1536,
    spanned_pages: 160,
    node_size: 176_256,
    nr_zones: 173_152,
    node_mem_map: 173_192,
    node_start_pfn: 173_160,
    node_spanned_pages: 173_176,
    node_id: 173_184,
    ..ZONES_6_1
};

const K2_6_18: Keys = Keys::BY_HAND;
const K3_10: Keys = Keys::BUDDY.union(Keys::HWPOISON);
const K3_18: Keys = K3_10.union(Keys::HEAD_MASK).union(Keys::FREE_HUGE_PAGE);
const K4_4: Keys = K3_10.union(Keys::HEAD_MASK).union(Keys::DTOR);
const K4_6: Keys = K4_4.union(Keys::TAIL);
const K4_16: Keys = K4_6.union(Keys::REFCOUNT).union(Keys::TOP_PGT).union(Keys::RANDOM_BASE);
const K4_18: Keys = K4_16.union(Keys::SWAPBACKED).union(Keys::FIVE_LEVEL);
const K5_4: Keys = K4_18.union(Keys::OFFLINE);
const K5_10: Keys = K5_4.union(Keys::SECTION_BITS);
const K6_1: Keys = K5_10.union(Keys::UTS_NAME);
const K6_6: Keys = K6_1.difference(Keys::DTOR);

const G2_6_18: Generation = Generation {
    name: "2.6.18",
    release: "2.6.18-synth",
    page: PAGE_2_6_18,
    compound: Compound::LruPointers,
    flags: FLAGS_2_6_18,
    types: TYPES_NONE,
    keys: K2_6_18,
    zones: &ZONES_2_6_18,
    model: MemoryModel::Discontig,
    mem_section_size: 8,
    max_physmem_bits: 40,
    page_offset: 0xffff_8100_0000_0000,
    vmemmap: 0xffff_e200_0000_0000,
    huge_anon: false,
    large_folios: false,
    fake_heads: false,
};
const G2_6_32: Generation = Generation {
    name: "2.6.32",
    release: "2.6.32-synth",
    flags: FLAGS_2_6_32,
    zones: &ZONES_2_6_32,
    model: MemoryModel::Vmemmap,
    mem_section_size: 16,
    max_physmem_bits: 46,
    page_offset: 0xffff_8800_0000_0000,
    vmemmap: 0xffff_ea00_0000_0000,
    ..G2_6_18
};
const G2_6_38: Generation = Generation {
    name: "2.6.38",
    release: "2.6.38-synth",
    flags: FLAGS_2_6_38,
    types: TYPES_2_6_38,
    huge_anon: true,
    ..G2_6_32
};
const G3_1: Generation =
    Generation { name: "3.1", release: "3.1.0-synth", page: PAGE_3_1, types: TYPES_2_6_39, ..G2_6_38 };
const G3_10: Generation =
    Generation { name: "3.10", release: "3.10.0-synth", keys: K3_10, mem_section_size: 32, ..G3_1 };
const G3_18: Generation = Generation { name: "3.18", release: "3.18.0-synth", keys: K3_18, ..G3_10 };
const G4_4: Generation = Generation {
    name: "4.4",
    release: "4.4.0-synth",
    page: PAGE_4_4,
    compound: Compound::Words { dtor: 40, order: 42 },
    flags: FLAGS_4_4,
    keys: K4_4,
    ..G3_18
};
const G4_6: Generation = Generation { name: "4.6", release: "4.6.0-synth", keys: K4_6, ..G4_4 };
const G4_16: Generation = Generation {
    name: "4.16",
    release: "4.16.0-synth",
    compound: Compound::Bytes { dtor: 40, order: 41 },
    flags: FLAGS_4_10,
    keys: K4_16,
    mem_section_size: 16,
    ..G4_6
};
const G4_18: Generation = Generation {
    name: "4.18",
    release: "4.18.0-synth",
    page: PAGE_4_18,
    compound: Compound::Bytes { dtor: 16, order: 17 },
    types: TYPES_4_18,
    keys: K4_18,
    ..G4_16
};
const G5_4: Generation = Generation {
    name: "5.4",
    release: "5.4.0-synth",
    flags: FLAGS_4_20,
    types: TYPES_5_0,
    keys: K5_4,
    zones: &ZONES_5_10,
    page_offset: 0xffff_8880_0000_0000,
    ..G4_18
};
const G5_10: Generation =
    Generation { name: "5.10", release: "5.10.0-synth", keys: K5_10, mem_section_size: 32, ..G5_4 };
const G6_1: Generation = Generation {
    name: "6.1",
    release: "6.1.0-synth",
    keys: K6_1,
    zones: &ZONES_6_1,
    large_folios: true,
    fake_heads: true,
    ..G5_10
};
const G6_2: Generation = Generation { name: "6.2", release: "6.2.0-synth", ..G6_1 };
const G6_4: Generation = Generation { name: "6.4", release: "6.4.0-synth", ..G6_2 };
const G6_6: Generation = Generation {
    name: "6.6",
    release: "6.6.0-synth",
    compound: Compound::TailFlags { hugetlb: 8 },
    flags: FLAGS_6_6,
    keys: K6_6,
    ..G6_4
};
const G6_9: Generation = Generation {
    name: "6.9",
    release: "6.9.0-synth",
    compound: Compound::TailFlagsTyped,
    types: TYPES_6_9,
    ..G6_6
};
const G6_10: Generation =
    Generation { name: "6.10", release: "6.10.0-synth", flags: FLAGS_6_10, types: TYPES_6_10, ..G6_9 };
const G6_11: Generation = Generation { name: "6.11", release: "6.11.0-synth", types: TYPES_6_11, ..G6_10 };
const G6_12: Generation =
    Generation { name: "6.12", release: "6.12.0-synth", flags: FLAGS_6_12, types: TYPES_6_12, ..G6_11 };
const G6_16: Generation =
    Generation { name: "6.16", release: "6.16.0-synth", flags: FLAGS_6_14, types: TYPES_6_16, ..G6_12 };
const G6_18: Generation = Generation { name: "6.18", release: "6.18.0-synth", ..G6_16 };
const G7_1: Generation = Generation {
    name: "7.1",
    release: "7.1.0-synth",
    page: PAGE_7_1,
    zones: &ZONES_7_2,
    fake_heads: false,
    ..G6_18
};
const G7_2: Generation = Generation { name: "7.2", release: "7.2.0-synth", ..G7_1 };

/// All generations, oldest first.
pub const GENERATIONS: &[Generation] = &[
    G2_6_18, G2_6_32, G2_6_38, G3_1, G3_10, G3_18, G4_4, G4_6, G4_16, G4_18, G5_4, G5_10, G6_1, G6_2, G6_4,
    G6_6, G6_9, G6_10, G6_11, G6_12, G6_16, G6_18, G7_1, G7_2,
];

impl Generation {
    /// The generation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        GENERATIONS.iter().find(|generation| generation.name == name)
    }

    /// Whether the kernel itself tells how to know a free page from its `struct page`.
    pub(super) fn exports_buddy(&self) -> bool {
        self.keys.contains(Keys::BUDDY)
    }

    /// Whether order and destructor are called members of `struct folio` (6.3 to 6.5).
    pub(super) fn names_folio(&self) -> bool {
        matches!(self.name, "6.4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_hold_their_members() {
        for generation in GENERATIONS {
            let (page, zones) = (&generation.page, generation.zones);
            for end in
                [page.mapping + 8, page.lru + 16, page.private + 8, page.mapcount + 4, page.refcount + 4]
            {
                assert!(end <= page.size, "{}", generation.name);
            }
            let lists = zones.free_area + 11 * zones.free_area_size;
            let behind =
                if zones.free_pages > zones.free_area { zones.free_pages } else { zones.spanned_pages };
            assert!(lists <= behind && zones.free_pages + 8 <= zones.zone_size, "{}", generation.name);
            assert!(16 * zones.migrate_types.unwrap_or(1) < zones.free_area_size, "{}", generation.name);
            assert!(4 * zones.zone_size <= zones.nr_zones, "{}", generation.name);
            for member in [zones.node_mem_map, zones.node_start_pfn, zones.node_spanned_pages, zones.node_id]
            {
                assert!(member + 8 <= zones.node_size && member > zones.nr_zones, "{}", generation.name);
            }
        }
    }

    #[test]
    fn a_name_finds_one_generation() {
        for generation in GENERATIONS {
            assert_eq!(Generation::named(generation.name).map(|g| g.release), Some(generation.release));
        }
        assert!(Generation::named("2.4").is_none());
    }
}
