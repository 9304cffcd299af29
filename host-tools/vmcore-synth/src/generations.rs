//! The table of generations: each is written as what differs from the one before.

use super::generation::{
    Compound, Flags, KernelGeneration, Keys, MemoryModel, PageLayout, TailLink, Types, Zones,
};

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

const G2_6_18: KernelGeneration = KernelGeneration {
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
const G2_6_32: KernelGeneration = KernelGeneration {
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
const G2_6_38: KernelGeneration = KernelGeneration {
    name: "2.6.38",
    release: "2.6.38-synth",
    flags: FLAGS_2_6_38,
    types: TYPES_2_6_38,
    huge_anon: true,
    ..G2_6_32
};
const G3_1: KernelGeneration =
    KernelGeneration { name: "3.1", release: "3.1.0-synth", page: PAGE_3_1, types: TYPES_2_6_39, ..G2_6_38 };
const G3_10: KernelGeneration =
    KernelGeneration { name: "3.10", release: "3.10.0-synth", keys: K3_10, mem_section_size: 32, ..G3_1 };
const G3_18: KernelGeneration =
    KernelGeneration { name: "3.18", release: "3.18.0-synth", keys: K3_18, ..G3_10 };
const G4_4: KernelGeneration = KernelGeneration {
    name: "4.4",
    release: "4.4.0-synth",
    page: PAGE_4_4,
    compound: Compound::Words { dtor: 40, order: 42 },
    flags: FLAGS_4_4,
    keys: K4_4,
    ..G3_18
};
const G4_6: KernelGeneration = KernelGeneration { name: "4.6", release: "4.6.0-synth", keys: K4_6, ..G4_4 };
const G4_16: KernelGeneration = KernelGeneration {
    name: "4.16",
    release: "4.16.0-synth",
    compound: Compound::Bytes { dtor: 40, order: 41 },
    flags: FLAGS_4_10,
    keys: K4_16,
    mem_section_size: 16,
    ..G4_6
};
const G4_18: KernelGeneration = KernelGeneration {
    name: "4.18",
    release: "4.18.0-synth",
    page: PAGE_4_18,
    compound: Compound::Bytes { dtor: 16, order: 17 },
    types: TYPES_4_18,
    keys: K4_18,
    ..G4_16
};
const G5_4: KernelGeneration = KernelGeneration {
    name: "5.4",
    release: "5.4.0-synth",
    flags: FLAGS_4_20,
    types: TYPES_5_0,
    keys: K5_4,
    zones: &ZONES_5_10,
    page_offset: 0xffff_8880_0000_0000,
    ..G4_18
};
const G5_10: KernelGeneration =
    KernelGeneration { name: "5.10", release: "5.10.0-synth", keys: K5_10, mem_section_size: 32, ..G5_4 };
const G6_1: KernelGeneration = KernelGeneration {
    name: "6.1",
    release: "6.1.0-synth",
    keys: K6_1,
    zones: &ZONES_6_1,
    large_folios: true,
    fake_heads: true,
    ..G5_10
};
const G6_2: KernelGeneration = KernelGeneration { name: "6.2", release: "6.2.0-synth", ..G6_1 };
const G6_4: KernelGeneration = KernelGeneration { name: "6.4", release: "6.4.0-synth", ..G6_2 };
const G6_6: KernelGeneration = KernelGeneration {
    name: "6.6",
    release: "6.6.0-synth",
    compound: Compound::TailFlags { hugetlb: 8 },
    flags: FLAGS_6_6,
    keys: K6_6,
    ..G6_4
};
const G6_9: KernelGeneration = KernelGeneration {
    name: "6.9",
    release: "6.9.0-synth",
    compound: Compound::TailFlagsTyped,
    types: TYPES_6_9,
    ..G6_6
};
const G6_10: KernelGeneration =
    KernelGeneration { name: "6.10", release: "6.10.0-synth", flags: FLAGS_6_10, types: TYPES_6_10, ..G6_9 };
const G6_11: KernelGeneration =
    KernelGeneration { name: "6.11", release: "6.11.0-synth", types: TYPES_6_11, ..G6_10 };
const G6_12: KernelGeneration =
    KernelGeneration { name: "6.12", release: "6.12.0-synth", flags: FLAGS_6_12, types: TYPES_6_12, ..G6_11 };
const G6_16: KernelGeneration =
    KernelGeneration { name: "6.16", release: "6.16.0-synth", flags: FLAGS_6_14, types: TYPES_6_16, ..G6_12 };
const G6_18: KernelGeneration = KernelGeneration { name: "6.18", release: "6.18.0-synth", ..G6_16 };
const G7_1: KernelGeneration = KernelGeneration {
    name: "7.1",
    release: "7.1.0-synth",
    page: PAGE_7_1,
    zones: &ZONES_7_2,
    fake_heads: false,
    ..G6_18
};
const G7_2: KernelGeneration = KernelGeneration { name: "7.2", release: "7.2.0-synth", ..G7_1 };

/// All generations, oldest first.
pub const GENERATIONS: &[KernelGeneration] = &[
    G2_6_18, G2_6_32, G2_6_38, G3_1, G3_10, G3_18, G4_4, G4_6, G4_16, G4_18, G5_4, G5_10, G6_1, G6_2, G6_4,
    G6_6, G6_9, G6_10, G6_11, G6_12, G6_16, G6_18, G7_1, G7_2,
];

impl KernelGeneration {
    /// The generation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        GENERATIONS.iter().find(|generation| generation.name == name)
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
            assert_eq!(KernelGeneration::named(generation.name).map(|g| g.release), Some(generation.release));
        }
        assert!(KernelGeneration::named("2.4").is_none());
    }
}
