use super::*;
use crate::kernel::vmcoreinfo::VmcoreInfo;
use crate::rules::test_kernels::TestKernel;
use crate::rules::{DumpLevel, RuleSet, Rules};
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

/// What all kernels since 4.18 say about `struct page`.
const COMMON: &str = "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82022000\nSYMBOL(mem_section)=ff21ec18deeb0680\n\
    LENGTH(mem_section)=2048\nSIZE(mem_section)=32\nOFFSET(mem_section.section_mem_map)=0\nSIZE(page)=64\n\
    OFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\nOFFSET(page.lru)=8\n\
    OFFSET(page._mapcount)=48\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8\nLENGTH(zone.free_area)=11\n";
/// 5.10: slab has a flag, compound pages a destructor.
const OLD: &str = "OSRELEASE=5.10.0\nNUMBER(PG_lru)=4\nNUMBER(PG_private)=13\nNUMBER(PG_swapcache)=10\n\
    NUMBER(PG_swapbacked)=19\nNUMBER(PG_slab)=9\nNUMBER(PG_hwpoison)=23\nNUMBER(PG_head_mask)=65536\n\
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n\
    NUMBER(HUGETLB_PAGE_DTOR)=2\nOFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n";
/// 6.16: slab, hugetlb and unaccepted pages have types.
const NEW: &str = "OSRELEASE=6.16.0\nNUMBER(PG_lru)=5\nNUMBER(PG_private)=14\nNUMBER(PG_swapcache)=10\n\
    NUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=20\nNUMBER(PG_head_mask)=64\n\
    NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n\
    NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\n\
    NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n";

/// Values of `_mapcount` that mark types, in either kernel, and some that don't.
const MAPCOUNTS: [u32; 12] = [
    u32::MAX,
    0,
    3,
    !0x80,
    !0x100,
    !0x200,
    0xf000_0000,
    0xf100_0000,
    0xf200_0000,
    0xf400_0000,
    0xf500_0000,
    0xf512_3456,
];

fn rules(kernel: &str, level: u64, rule_set: RuleSet) -> Rules {
    let text: String = [kernel, COMMON].concat();
    let layout = KernelLayout::resolve(&VmcoreInfo::parse(text.as_bytes()).unwrap(), Some(0)).unwrap();
    Rules::new(&layout, DumpLevel::from_number(level).unwrap(), rule_set)
}

/// A `struct page` of which anything may be set, though mostly little is.
fn page() -> impl Strategy<Value = [u8; SIZE]> {
    let flags = prop_oneof![
        Just(0),
        Just(0x2c),
        Just(0x14),
        Just(0x2_002c),
        prop::sample::subsequence(std::vec![4, 5, 6, 7, 9, 10, 13, 14, 16, 17, 19, 20, 23], 0..5)
            .prop_map(|bits: Vec<u32>| bits.into_iter().fold(0_u64, |flags, bit| flags | 1 << bit)),
    ];
    let head = prop_oneof![5 => Just(0_u64), 1 => Just(1), 1 => Just(0x9_0902)];
    let mapping = prop_oneof![Just(0_u64), Just(0x1000), Just(0x1001)];
    let order = prop_oneof![3 => 0_u64..4, 1 => 4_u64..12, 1 => Just(u64::MAX)];
    let mapcount = prop_oneof![3 => Just(u32::MAX), 2 => prop::sample::select(&MAPCOUNTS[..])];
    (flags, head, mapping, order, mapcount).prop_map(|(flags, head, mapping, order, mapcount)| {
        let mut page = [0; SIZE];
        page[FLAGS..][..8].copy_from_slice(&flags.to_le_bytes());
        page[COMPOUND_HEAD..][..8].copy_from_slice(&head.to_le_bytes());
        page[16..18].copy_from_slice(&[2, order as u8]);
        page[MAPPING..][..8].copy_from_slice(&mapping.to_le_bytes());
        page[40..48].copy_from_slice(&order.to_le_bytes());
        page[MAPCOUNT..][..4].copy_from_slice(&mapcount.to_le_bytes());
        page
    })
}

/// What goes of the frames from `first` on, each with its class, and which have bad orders.
#[derive(Debug, Default, PartialEq)]
struct Gone(Vec<(u64, PageClass)>, Vec<u64>);

fn one_by_one(rules: &Rules, first: u64, pages: &[u8]) -> Gone {
    let mut gone = Gone::default();
    let end = first + (pages.len() / SIZE) as u64;
    let mut at = first;
    while at < end {
        let (page, behind) = pages[((at - first) as usize) * SIZE..].split_at(SIZE);
        let frames = match rules.decide(Pfn::new(at), page, behind.get(..SIZE)) {
            Decision::Keep => 1,
            Decision::KeepBadOrder => {
                gone.1.push(at);
                1
            }
            Decision::Exclude { class, frames } => {
                gone.0.extend((at..at + frames).map(|frame| (frame, class)));
                frames
            }
        };
        at += frames;
    }
    gone
}

fn in_batches(rules: &Rules, first: u64, pages: &[u8]) -> Gone {
    let (mut gone, mut batch) = (Gone::default(), PageBatch::default());
    let end = first + (pages.len() / SIZE) as u64;
    let mut at = first;
    while at < end {
        let rest = &pages[((at - first) as usize) * SIZE..];
        rules.decide_batch(Pfn::new(at), end - at, rest, &mut batch);
        let word = at & !63;
        let mut here: Vec<(u64, PageClass)> = Vec::new();
        for (class, out) in PageClass::ALL.iter().zip(&batch.excluded) {
            here.extend((0..64).filter(|bit| out >> bit & 1 == 1).map(|bit| (word + bit, *class)));
        }
        here.sort_by_key(|(frame, _)| *frame);
        gone.0.extend(here);
        gone.1.extend((0..64).filter(|bit| batch.bad_orders >> bit & 1 == 1).map(|bit| word + bit));
        at += u64::from(batch.pages);
        if let Some((class, frames)) = batch.block {
            gone.0.extend((at..at + frames).map(|frame| (frame, class)));
            at += frames;
        }
    }
    gone
}

proptest! {
    #[test]
    fn batches_decide_as_one_page_after_the_other(
        new in any::<bool>(),
        kernel_rules in any::<bool>(),
        level in 0_u64..32,
        first in 0_u64..200,
        pages in prop::collection::vec(page(), 1..200),
        alike in prop::collection::vec((page(), 0_usize..200, 1_usize..80), 0..3),
    ) {
        let rule_set = if kernel_rules { RuleSet::Kernel } else { RuleSet::Makedumpfile };
        let rules = rules(if new { NEW } else { OLD }, level, rule_set);
        prop_assert!(rules.tables.is_some());
        let mut pages = pages;
        // Runs of pages that say the same, as memory has them.
        for (page, start, count) in alike {
            pages.iter_mut().skip(start).take(count).for_each(|place| *place = page);
        }
        let bytes = pages.as_flattened();
        prop_assert_eq!(in_batches(&rules, first, bytes), one_by_one(&rules, first, bytes));
    }
}

/// A kernel's flags may lie anywhere, but for all that there have been a multiplier is found.
#[test]
fn each_numbering_of_flags_finds_a_table() {
    for flags in [
        &[5, 8, 9, 12, 15, 18, 22][..],
        &[4, 9, 10, 13, 16, 19, 23],
        &[5, 6, 11, 12, 15, 19, 23],
        &[5, 6, 7, 11, 14, 18, 21],
        &[5, 6, 7, 10, 14, 17, 20],
        &[5, 6, 7, 10, 14, 17, 21],
    ] {
        let mask = flags.iter().fold(0, |mask, flag| mask | 1 << flag);
        let properties = |set: u64| FlagProperties {
            cache: set & 1 << flags[0] != 0,
            private: set & 1 << flags[1] != 0,
            head: set & 1 << flags[2] != 0,
            rare: set & 1 << flags[6] != 0,
        };
        let table = FlagTable::new(mask, properties).unwrap();
        assert_eq!(subsets(mask).count(), 128);
        for set in subsets(mask) {
            let mut page = [0xff; SIZE];
            page[..8].copy_from_slice(&(set | !mask).to_le_bytes());
            let FlagProperties { cache, private, head, rare } = properties(set);
            assert_eq!(
                table.properties(&page).to_le_bytes(),
                [cache, private, head, rare].map(|s| u8::from(s) << 7)
            );
        }
    }
}

// Which kernels have tables.

/// A `struct page` with these fields.
fn page_of(flags: u64, mapping: u64, mapcount: u32, order: u64) -> [u8; SIZE] {
    let mut page = [0; SIZE];
    page[FLAGS..][..8].copy_from_slice(&flags.to_le_bytes());
    page[MAPPING..][..8].copy_from_slice(&mapping.to_le_bytes());
    page[40..48].copy_from_slice(&order.to_le_bytes());
    page[MAPCOUNT..][..4].copy_from_slice(&mapcount.to_le_bytes());
    page
}

fn has_tables(kernel: &TestKernel, rule_set: RuleSet) -> bool {
    kernel.rules(31, rule_set).tables.is_some()
}

#[test]
fn kernels_since_4_18_have_tables() {
    for kernel in TestKernel::all() {
        let is_usual = !["2.6.32", "3.10.0", "4.14.0", "4.16.18"].contains(&kernel.release());
        assert_eq!(has_tables(&kernel, RuleSet::Makedumpfile), is_usual, "{kernel}");
    }
}

#[test]
fn a_field_in_another_place_takes_the_tables_away() {
    let usual = TestKernel::of("6.1.0");
    for (key, value) in [
        ("SIZE(page)", "72"),
        ("OFFSET(page.flags)", "40"),
        ("OFFSET(page.compound_head)", "16"),
        ("OFFSET(page.mapping)", "32"),
        ("OFFSET(page._mapcount)", "52"),
    ] {
        assert!(!has_tables(&usual.clone().changed(key, value), RuleSet::Makedumpfile), "{key}={value}");
    }
    for key in ["OFFSET(page.compound_head)", "OFFSET(page._mapcount)"] {
        assert!(!has_tables(&usual.clone().without(key), RuleSet::Makedumpfile), "without {key}");
    }
}

#[test]
fn a_kernel_whose_free_pages_have_a_flag_has_no_tables() {
    let kernel =
        TestKernel::of("6.1.0").without("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)").with("NUMBER(PG_buddy)=3");
    assert!(!has_tables(&kernel, RuleSet::Makedumpfile));
    // The flag does not matter where no one asks for free pages.
    assert!(kernel.rules(15, RuleSet::Makedumpfile).tables.is_some());
}

#[test]
fn a_type_that_could_be_a_count_of_mappings_takes_the_tables_away() {
    for (value, has) in
        [("-1", false), ("0", false), ("2147483646", false), ("2147483647", true), ("-2", true)]
    {
        let kernel = TestKernel::of("6.1.0").changed("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", value);
        assert_eq!(has_tables(&kernel, RuleSet::Makedumpfile), has, "{value}");
    }
    // By its top byte alone, -1 would be of this type.
    let kernel = TestKernel::of("6.12.0").changed("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "-16777216");
    assert!(has_tables(&kernel, RuleSet::Makedumpfile));
    assert!(!has_tables(&kernel, RuleSet::Kernel));
}

// Types.

#[test]
fn types_are_what_no_count_of_mappings_can_be() {
    for (mapcount, is_type) in [
        (0, false),
        (1, false),
        (0x7fff_fffe, false),
        (0x7fff_ffff, true),
        (0x8000_0000, true),
        (0xf000_0000, true),
        (0xffff_fffe, true),
        (0xffff_ffff, false),
    ] {
        assert_eq!(may_be_type(mapcount), is_type, "{mapcount:#x}");
        let mut page = page_of(u64::MAX, u64::MAX, mapcount, u64::MAX);
        assert_eq!(type_mask(&page), u64::from(is_type), "{mapcount:#x}");
        // Whatever the fields around it hold.
        page[MAPCOUNT + 4..].fill(0xff);
        assert_eq!(type_mask(&page), u64::from(is_type), "{mapcount:#x}");
    }
}

fn type_test(value: u32, mask: u64) -> Test {
    Test { mask, value: value.into() }
}

#[test]
fn a_set_of_types_contains_its_members() {
    let whole = u64::from(u32::MAX);
    let set = TypeSet::of([
        type_test(0xffff_ff7f, whole),
        type_test(0xffff_feff, whole),
        type_test(0xffff_ff7f, whole),
        Test::NEVER,
    ]);
    for (mapcount, is_member) in [(0xffff_ff7f, 1), (0xffff_feff, 1), (0xffff_fdff, 0), (0xffff_fbff, 0)] {
        assert_eq!(set.may_contain(&page_of(0, 0, mapcount, 0)), is_member, "{mapcount:#x}");
    }
}

#[test]
fn a_set_compares_the_bits_that_all_members_have() {
    let (whole, top_byte) = (u64::from(u32::MAX), 0xff00_0000);
    let set = TypeSet::of([
        type_test(0xf000_0000, top_byte),
        type_test(0xf100_1234, whole),
        Test::NEVER,
        Test::NEVER,
    ]);
    for (mapcount, is_member) in [(0xf012_3456, 1), (0xf100_1234, 1), (0xf112_3456, 1), (0xf200_0000, 0)] {
        assert_eq!(set.may_contain(&page_of(0, 0, mapcount, 0)), is_member, "{mapcount:#x}");
    }
}

#[test]
fn an_empty_set_contains_nothing() {
    let set = TypeSet::of([Test::NEVER; 4]);
    for mapcount in [0, 1, 0xf000_0000, 0xffff_ffff] {
        assert_eq!(set.may_contain(&page_of(0, 0, mapcount, 0)), 0, "{mapcount:#x}");
    }
}

#[test]
fn the_types_of_each_kernel_have_slots_of_their_own() {
    // Before 6.11, 6.11, and since 6.12.
    for types in [
        &[!0x80, !0x100, !0x200, !0x400, !0x800, !0x1000][..],
        &[!0x4000_0000, !0x2000_0000, !0x1000_0000, !0x0800_0000, !0x0400_0000, !0x0200_0000, !0x0080_0000],
        &[0xf000_0000, 0xf100_0000, 0xf200_0000, 0xf300_0000, 0xf400_0000, 0xf500_0000, 0xf700_0000],
    ] {
        let mut slots: Vec<u32> = types.iter().map(|value: &u32| TypeSet::slot(u64::from(*value))).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), types.len(), "{types:x?}");
        assert!(slots.iter().all(|slot| *slot < 64));
    }
}

// Flags.

#[test]
fn a_table_has_at_most_eight_flags() {
    let nothing = |_| FlagProperties { cache: false, private: false, head: false, rare: false };
    assert!(FlagTable::new(0xff, nothing).is_some());
    assert!(FlagTable::new(0x1ff, nothing).is_none());
}

#[test]
fn a_multiplier_is_suitable_if_each_set_of_flags_has_an_index_of_its_own() {
    assert!(is_perfect_hash(0b11, 1 << 62));
    assert!(is_perfect_hash(0b11, 1 << 56));
    // The upper flag leaves the word, or both do.
    assert!(!is_perfect_hash(0b11, 1 << 63));
    assert!(!is_perfect_hash(0b11, 0));
    // The lower one does not reach the index.
    assert!(!is_perfect_hash(0b11, 1 << 55));
}

#[test]
fn all_subsets_come_once_the_empty_one_first() {
    assert_eq!(subsets(0b1010_0001).collect::<Vec<_>>(), [0, 1, 0x20, 0x21, 0x80, 0x81, 0xa0, 0xa1]);
    assert_eq!(subsets(0).collect::<Vec<_>>(), [0]);
    assert_eq!(subsets(1 << 63).collect::<Vec<_>>(), [0, 1 << 63]);
}

/// Marsaglia's generator with shifts of 13, 7 and 17, from 1 on.
#[test]
fn multipliers_are_three_numbers_of_the_generator_each() {
    let random: [u64; 6] = [
        1_082_269_761,
        1_152_992_998_833_853_505,
        11_177_516_664_432_764_457,
        17_678_023_832_001_937_445,
        9_659_130_143_999_365_733,
        17_775_799_001_133_815_809,
    ];
    let expected = [random[0] & random[1] & random[2], random[3] & random[4] & random[5]];
    assert_eq!(multipliers().take(2).collect::<Vec<_>>(), expected);
}

// What the pages of a word say.

proptest! {
    #[test]
    fn each_page_has_the_bit_of_its_frame_in_the_masks(
        new: bool,
        kernel_rules: bool,
        pages in prop::collection::vec(page(), 64),
        first_bit in 0_u32..57,
        groups in 1_usize..9,
    ) {
        let rule_set = if kernel_rules { RuleSet::Kernel } else { RuleSet::Makedumpfile };
        let rules = rules(if new { NEW } else { OLD }, 31, rule_set);
        let predicates = &rules.predicates;
        let pages = &pages[..(8 * groups).min((64 - first_bit as usize) / 8 * 8)];
        let masks = rules.tables.as_ref().unwrap().masks(pages.as_chunks().0, first_bit);
        let expected = |has: &dyn Fn(&[u8; SIZE], u64) -> bool| {
            (first_bit..).zip(pages).fold(0, |mask, (bit, page)| {
                mask | u64::from(has(page, word::<FLAGS>(page))) << bit
            })
        };
        let mapcount = |page: &[u8; SIZE]| word::<MAPCOUNT>(page) as u32;
        let rare = predicates.hwpoison | predicates.slab_flag;
        prop_assert_eq!(masks.cache, expected(&|_, flags| predicates.used.is_cache(flags)));
        prop_assert_eq!(masks.private, expected(&|_, flags| predicates.used.is_private(flags)));
        prop_assert_eq!(masks.head, expected(&|_, flags| flags & predicates.head != 0));
        prop_assert_eq!(masks.anon, expected(&|page, _| page[MAPPING] & 1 != 0));
        prop_assert_eq!(masks.tail, expected(&|page, _| page[COMPOUND_HEAD] & 1 != 0));
        prop_assert_eq!(masks.special, expected(&|page, flags| flags & rare != 0 || may_be_type(mapcount(page))));
    }
}

const OFFLINE: u32 = 0xf100_0000;
const TABLE: u32 = 0xf200_0000;
const SLAB: u32 = 0xf500_0000;
const FREE: u32 = 0xf000_0000;

#[test]
fn pages_are_candidates_if_a_rule_asks_for_their_type_or_flag() {
    let rules = rules(NEW, 31, RuleSet::Makedumpfile);
    let tables = rules.tables.as_ref().unwrap();
    let poisoned = 1 << 20;
    let pages = [
        page_of(0, 0, OFFLINE, 0),
        page_of(0, 0, TABLE, 0),
        page_of(poisoned, 0, u32::MAX, 0),
        page_of(0, 0, SLAB, 0),
        page_of(1 << 7, 0, u32::MAX, 0),
        page_of(poisoned, 0, OFFLINE, 0),
        page_of(0, 0, u32::MAX, 0),
        page_of(0, 0, OFFLINE, 0),
    ];
    for first_bit in [0, 10, 56] {
        let candidates =
            |mask: u64| tables.rule_candidates(&rules.predicates, &pages, mask << first_bit, first_bit);
        assert_eq!(candidates(0xff), 0b1010_0101 << first_bit, "from bit {first_bit}");
        // Only those that are asked about.
        assert_eq!(candidates(0b0111_1110), 0b0010_0100 << first_bit, "from bit {first_bit}");
        assert_eq!(candidates(0), 0);
    }
}

#[test]
fn a_word_may_start_a_block_if_its_first_page_is_free_or_an_excluded_head() {
    let rules = rules(NEW, 31, RuleSet::Makedumpfile);
    let (lru, head) = (1 << 5, 1 << 6);
    for (page, may_be) in [
        (page_of(0, 0, FREE, 10), true),
        (page_of(0, 0, OFFLINE, 0), true),
        (page_of(head, 0, 0xf400_0000, 0), true),
        (page_of(head | lru, 0, u32::MAX, 0), true),
        (page_of(head, 1, u32::MAX, 0), true),
        (page_of(head | lru, 1, u32::MAX, 0), true),
        (page_of(head | lru, 0, FREE, 0), true),
        (page_of(head, 0, u32::MAX, 0), false),
        (page_of(lru, 0, u32::MAX, 0), false),
        (page_of(0, 1, u32::MAX, 0), false),
        (page_of(0, 0, TABLE, 0), false),
        (page_of(0, 0, u32::MAX, 0), false),
    ] {
        let tables = rules.tables.as_ref().unwrap();
        assert_eq!(tables.may_be_block(&rules.predicates, &page), may_be, "{page:x?}");
    }
}

#[test]
fn any_head_may_start_a_block_if_only_its_tail_tells_that_it_is_hugetlb() {
    let rules = rules(OLD, 31, RuleSet::Makedumpfile);
    let may_be = |flags| {
        rules.tables.as_ref().unwrap().may_be_block(&rules.predicates, &page_of(flags, 0, u32::MAX, 0))
    };
    assert!(may_be(1 << 16));
    assert!(!may_be(1 << 4));
}

// What becomes of a word.

/// The batch of the frames from `pfn` on.
fn batch_of(pfn: u64, count: u64, pages: &[[u8; SIZE]]) -> PageBatch {
    // What a batch held before does not matter.
    let mut batch = PageBatch {
        pages: 7,
        excluded: [u64::MAX; 7],
        bad_orders: u64::MAX,
        block: Some((PageClass::User, 9)),
    };
    let rules = rules(NEW, 31, RuleSet::Makedumpfile);
    rules.decide_batch(Pfn::new(pfn), count, pages.as_flattened(), &mut batch);
    batch
}

/// `count` pages of the kernel's own.
fn kernel_pages(count: usize) -> Vec<[u8; SIZE]> {
    std::vec![page_of(0, 0, u32::MAX, 0); count]
}

fn excluded(class: PageClass, mask: u64) -> FramesByClass {
    let mut excluded = FramesByClass::default();
    excluded[class as usize] = mask;
    excluded
}

#[test]
fn a_batch_ends_with_its_word() {
    let pages = kernel_pages(200);
    for (pfn, count, decided) in
        [(0, 200, 64), (3, 200, 56), (128, 64, 64), (64, 30, 24), (70, 8, 8), (56, 200, 8)]
    {
        let batch = batch_of(pfn, count, &pages);
        assert_eq!((batch.pages, batch.block), (decided, None), "{count} from {pfn}");
        assert_eq!((batch.excluded, batch.bad_orders), (FramesByClass::default(), 0));
    }
}

#[test]
fn what_is_no_whole_group_is_decided_page_by_page() {
    let mut pages = kernel_pages(7);
    pages[0] = page_of(0, 0, OFFLINE, 0);
    assert_eq!(batch_of(60, 4, &pages).pages, 1);
    assert_eq!(batch_of(60, 4, &pages).excluded, excluded(PageClass::Offline, 1 << 60));
    assert_eq!(batch_of(0, 7, &pages).pages, 1);
    assert_eq!(batch_of(0, 7, &[]).pages, 0);
}

#[test]
fn a_small_block_is_part_of_its_word() {
    let mut pages = kernel_pages(64);
    pages[0] = page_of(0, 0, FREE, 2);
    pages[40] = page_of(0, 0, FREE, 3);
    let batch = batch_of(64, 64, &pages);
    assert_eq!((batch.pages, batch.block), (64, None));
    assert_eq!(batch.excluded, excluded(PageClass::Free, 0xff << 40 | 0xf));
}

#[test]
fn a_block_up_to_the_end_of_its_word_is_part_of_it() {
    let mut pages = kernel_pages(128);
    pages[56] = page_of(0, 0, FREE, 3);
    let batch = batch_of(64, 128, &pages);
    assert_eq!((batch.pages, batch.block), (64, None));
    assert_eq!(batch.excluded, excluded(PageClass::Free, 0xff << 56));
}

#[test]
fn a_block_that_reaches_out_of_its_word_ends_the_batch() {
    let mut pages = kernel_pages(128);
    pages[3] = page_of(0, 0, OFFLINE, 0);
    pages[56] = page_of(0, 0, FREE, 4);
    pages[60] = page_of(0, 0, OFFLINE, 0);
    let batch = batch_of(64, 128, &pages);
    assert_eq!((batch.pages, batch.block), (56, Some((PageClass::Free, 16))));
    assert_eq!(batch.excluded, excluded(PageClass::Offline, 1 << 3));
}

#[test]
fn a_block_as_large_as_the_rest_of_its_word_is_a_block_by_itself() {
    let mut pages = kernel_pages(128);
    pages[0] = page_of(0, 0, FREE, 6);
    let batch = batch_of(64, 128, &pages);
    assert_eq!((batch.pages, batch.block), (0, Some((PageClass::Free, 64))));
    pages[0] = page_of(0, 0, FREE, 5);
    assert_eq!(batch_of(64, 128, &pages).block, None);
    assert_eq!(batch_of(96, 128, &pages).block, Some((PageClass::Free, 32)));
}

#[test]
fn equal_blocks_side_by_side_are_one() {
    let mut pages = kernel_pages(1024);
    for at in [0, 128, 256] {
        pages[at] = page_of(0, 0, FREE, 7);
    }
    pages[384] = page_of(0, 0, FREE, 6);
    assert_eq!(batch_of(0, 1024, &pages).block, Some((PageClass::Free, 384)));
    // As far as frames are asked for, and as far as there are struct pages.
    assert_eq!(batch_of(0, 256, &pages).block, Some((PageClass::Free, 256)));
    assert_eq!(batch_of(0, 257, &pages).block, Some((PageClass::Free, 384)));
    assert_eq!(batch_of(0, 1024, &pages[..200]).block, Some((PageClass::Free, 256)));
    assert_eq!(batch_of(0, 1024, &pages[..8]).block, Some((PageClass::Free, 128)));
}

#[test]
fn blocks_of_another_class_are_not_joined() {
    let mut pages = kernel_pages(512);
    pages[0] = page_of(0, 0, FREE, 7);
    // An anonymous page of as many frames.
    pages[128] = page_of(1 << 6, 1, u32::MAX, 0);
    pages[129] = page_of(7, 0, u32::MAX, 0);
    assert_eq!(batch_of(0, 512, &pages).block, Some((PageClass::Free, 128)));
    assert_eq!(batch_of(128, 384, &pages[128..]).block, Some((PageClass::User, 128)));
}

#[test]
fn impossible_orders_are_marked_at_their_frames() {
    let mut pages = kernel_pages(64);
    pages[0] = page_of(0, 0, FREE, 11);
    pages[63] = page_of(0, 0, FREE, 99);
    let batch = batch_of(64, 64, &pages);
    assert_eq!((batch.pages, batch.bad_orders), (64, 1 << 63 | 1));
    assert_eq!(batch.excluded, FramesByClass::default());
}

#[test]
fn a_page_inside_of_a_block_is_not_decided_again() {
    let mut pages = kernel_pages(64);
    pages[8] = page_of(0, 0, FREE, 3);
    pages[9] = page_of(0, 0, FREE, 99);
    pages[10] = page_of(1 << 5, 0, u32::MAX, 0);
    let batch = batch_of(64, 64, &pages);
    assert_eq!((batch.excluded, batch.bad_orders), (excluded(PageClass::Free, 0xff00), 0));
}
