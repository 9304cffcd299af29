use super::*;
use crate::kernel::vmcoreinfo::VmcoreInfo;
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
