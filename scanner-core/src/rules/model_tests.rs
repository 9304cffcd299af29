//! An independent model of the rules, compared with them on pages of all kinds.

use super::test_kernels::{TestKernel, TestPage};
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// What makedumpfile 1.7.9 does with each page (`__exclude_unnecessary_pages`), by the keys of VMCOREINFO as they stand
/// in the text. Knows nothing of the crate's layout, masks and batches.
struct Model {
    level: u64,
    /// Whether the kernel's own predicates apply where makedumpfile's differ.
    kernel_rules: bool,
    version: (u32, u32),
    page_size: usize,
    flags_at: usize,
    mapping_at: usize,
    mapcount_at: Option<usize>,
    private_at: Option<usize>,
    compound_head_at: Option<usize>,
    lru: u64,
    private: u64,
    swapcache: u64,
    swapbacked: u64,
    slab: u64,
    head: u64,
    hwpoison: u64,
    buddy_flag: Option<u64>,
    buddy: Option<u32>,
    offline: Option<u32>,
    slab_type: Option<u32>,
    unaccepted: Option<u32>,
    hugetlb: Option<u32>,
    hugetlb_flag: Option<u64>,
    /// Where the first tail has its order, and in how many bytes.
    order: Option<(usize, usize)>,
    dtor: Option<(usize, usize)>,
    hugetlb_dtor: Option<u64>,
    free_huge_page: Option<u64>,
    free_area_length: u64,
}

impl Model {
    fn new(kernel: &TestKernel, level: u64, rule_set: RuleSet) -> Self {
        let mut numbers = kernel.release().split('.').map(|number| number.parse().unwrap());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let page_size = kernel.page_size();
        let bit = |name, default| kernel.number(name).or(default).map(|number| 1_u64 << number);
        let (private, swapcache) =
            (bit("PG_private", Some(11)).unwrap(), bit("PG_swapcache", Some(15)).unwrap());
        let guessed = if swapcache < private { private << 6 } else { 0 };
        let width = if version >= (4, 16) { 1 } else { 2 };
        let tail_field = |folio, own, link, width| {
            let own_field =
                kernel.offset(folio).map(|offset| offset - page_size).or_else(|| kernel.offset(own));
            let on_lru = || Some(kernel.offset("page.lru")? + kernel.offset(link)?);
            own_field.or_else(|| if version < (4, 4) { on_lru() } else { None }).map(|at| (at, width))
        };
        Self {
            level,
            kernel_rules: rule_set == RuleSet::Kernel,
            version,
            page_size,
            flags_at: kernel.offset("page.flags").unwrap(),
            mapping_at: kernel.offset("page.mapping").unwrap(),
            mapcount_at: kernel.offset("page._mapcount"),
            private_at: kernel.offset("page.private"),
            compound_head_at: kernel
                .offset("page.compound_info")
                .or_else(|| kernel.offset("page.compound_head")),
            lru: bit("PG_lru", Some(5)).unwrap(),
            private,
            swapcache,
            swapbacked: bit("PG_swapbacked", None).unwrap_or(guessed),
            slab: bit("PG_slab", Some(7)).unwrap(),
            head: kernel.number("PG_head_mask").unwrap_or(1 << 14),
            hwpoison: bit("PG_hwpoison", None).unwrap_or(0),
            buddy_flag: bit("PG_buddy", None),
            buddy: kernel.page_type("BUDDY"),
            offline: kernel.page_type("OFFLINE"),
            slab_type: kernel.page_type("SLAB"),
            unaccepted: kernel.page_type("UNACCEPTED"),
            hugetlb: kernel.page_type("HUGETLB"),
            hugetlb_flag: bit("PG_hugetlb", None),
            order: tail_field("folio._folio_order", "page.compound_order", "list_head.prev", width),
            dtor: tail_field(
                "folio._folio_dtor",
                "page.compound_dtor",
                "list_head.next",
                if version < (4, 4) { 8 } else { width },
            ),
            hugetlb_dtor: kernel.number("HUGETLB_PAGE_DTOR"),
            free_huge_page: kernel.key("SYMBOL(free_huge_page)"),
            free_area_length: kernel.key("LENGTH(zone.free_area)").unwrap_or(11),
        }
    }

    fn is_type(&self, mapcount: u32, value: Option<u32>) -> bool {
        let Some(value) = value else { return false };
        // The low 24 bits of the word belong to the type's owner.
        let top_byte_only = self.kernel_rules && self.version >= (6, 12) && value << 8 == 0;
        if top_byte_only { mapcount >> 24 == value >> 24 } else { mapcount == value }
    }

    fn is_slab(&self, flags: u64, mapcount: u32) -> bool {
        // Without a key of its own, bit 7 is PG_waiters.
        let is_waiters = self.kernel_rules && self.slab_type.is_some() && self.slab == 1 << 7;
        self.is_type(mapcount, self.slab_type) || (!is_waiters && flags & self.slab != 0)
    }

    /// How many frames a compound page has, and whether hugetlb owns it.
    fn compound(&self, pfn: u64, flags: u64, mapcount: u32, next: Option<&[u8]>) -> (u64, bool) {
        let Some(tail) = next.filter(|_| flags & self.head != 0 && pfn % 512 != 511) else {
            return (1, false);
        };
        let tail_flags = number(tail, self.flags_at, 8);
        let low_byte = self.hugetlb.is_some() || self.hugetlb_flag.is_some();
        // 6.6 to 6.8 without hugetlb export nothing about it.
        let silent = self.version >= (6, 6) && self.order.is_none() && self.dtor.is_none();
        let order = if low_byte || (silent && self.kernel_rules) {
            tail_flags & 0xff
        } else {
            self.order.map_or(0, |(at, width)| number(tail, at, width))
        };
        // 30 is ours: a shift of a 32-bit number by more has no meaning.
        let frames = if order <= 30 && pfn.is_multiple_of(1 << order) { 1 << order } else { 1 };
        let hugetlb = if let Some(hugetlb) = self.hugetlb {
            self.is_type(mapcount, Some(hugetlb))
        } else if let Some(flag) = self.hugetlb_flag {
            tail_flags & flag != 0 && (!self.kernel_rules || frames == 1 << 9 || frames == 1 << 18)
        } else {
            let dtor = Some(self.dtor.map_or(0, |(at, width)| number(tail, at, width)));
            (dtor == self.hugetlb_dtor || dtor == self.free_huge_page) && !(silent && self.kernel_rules)
        };
        (frames, hugetlb)
    }

    fn decide(&self, pfn: u64, page: &[u8], next: Option<&[u8]>) -> Decision {
        let field = |at: Option<usize>, width| at.map_or(0, |at| number(page, at, width));
        let (flags, mapping) = (number(page, self.flags_at, 8), number(page, self.mapping_at, 8));
        let mapcount = field(self.mapcount_at, 4) as u32;
        let (frames, hugetlb) = self.compound(pfn, flags, mapcount, next);
        let slab = self.is_slab(flags, mapcount);
        let anon = mapping & 1 != 0 && !slab;
        let swap_cache = flags & self.swapcache != 0 && flags & self.swapbacked == self.swapbacked;
        let cache = (flags & self.lru != 0 || swap_cache) && !anon;
        let private = flags & self.private != 0;
        let drops = |bit: u64| self.level & bit != 0;

        if field(self.compound_head_at, 8) & 1 != 0 {
            return Decision::Keep;
        }
        let free = match (self.private_at, self.buddy, self.mapcount_at, self.buddy_flag) {
            (Some(_), Some(_), Some(_), _) => !slab && self.is_type(mapcount, self.buddy),
            (Some(_), None, _, Some(flag)) => flags & flag != 0,
            _ => false,
        };
        if drops(16) && free {
            let order = field(self.private_at, 8);
            if order >= self.free_area_length {
                return Decision::KeepBadOrder;
            }
            return Decision::Exclude { class: PageClass::Free, frames: 1 << order };
        }
        if drops(16) && self.is_type(mapcount, self.unaccepted) {
            return Decision::Exclude {
                class: PageClass::Unaccepted,
                frames: 1 << (self.free_area_length - 1),
            };
        }
        let class = if (drops(2) && cache && !private) || (drops(4) && cache) {
            if private { PageClass::CachePrivate } else { PageClass::Cache }
        } else if drops(8) && (anon || hugetlb) {
            PageClass::User
        } else if flags & self.hwpoison != 0 {
            PageClass::Hwpoison
        } else if !slab && self.is_type(mapcount, self.offline) {
            PageClass::Offline
        } else {
            return Decision::Keep;
        };
        Decision::Exclude { class, frames }
    }

    /// What is excluded of the frames from `first` on, page by page.
    fn walk(&self, first: u64, pages: &[u8]) -> Excluded {
        let pages: Vec<&[u8]> = pages.chunks(self.page_size).collect();
        let mut excluded = Excluded::default();
        let mut index = 0;
        while let Some(page) = pages.get(index as usize) {
            let pfn = first + index;
            let frames = match self.decide(pfn, page, pages.get(index as usize + 1).copied()) {
                Decision::Keep => 1,
                Decision::KeepBadOrder => {
                    excluded.bad_orders.push(pfn);
                    1
                }
                Decision::Exclude { class, frames } => {
                    excluded.frames.extend((pfn..pfn + frames).map(|frame| (frame, class)));
                    frames
                }
            };
            index += frames;
        }
        excluded
    }
}

/// The number of `width` bytes at `at`.
fn number(page: &[u8], at: usize, width: usize) -> u64 {
    page[at..][..width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Frames excluded, each with its class, and frames whose free block has an impossible order.
#[derive(Debug, Default, PartialEq)]
struct Excluded {
    frames: Vec<(u64, PageClass)>,
    bad_orders: Vec<u64>,
}

/// What the rules exclude, word by word of the bitmap.
fn by_batches(rules: &Rules, first: u64, pages: &[u8]) -> Excluded {
    let (mut excluded, mut batch) = (Excluded::default(), PageBatch::default());
    let end = first + (pages.len() / rules.page_size()) as u64;
    let mut pfn = first;
    while pfn < end {
        let rest = &pages[(pfn - first) as usize * rules.page_size()..];
        rules.decide_batch(Pfn::new(pfn), end - pfn, rest, &mut batch);
        let word = Pfn::new(pfn & !63);
        let mut frames: Vec<(u64, PageClass)> = level::runs_by_class(word, &batch.excluded)
            .flat_map(|(range, class)| {
                (range.start.as_u64()..range.end.as_u64()).map(move |pfn| (pfn, class))
            })
            .collect();
        frames.sort();
        excluded.frames.extend(frames);
        excluded
            .bad_orders
            .extend((0..64).filter(|bit| batch.bad_orders >> bit & 1 == 1).map(|bit| (pfn & !63) + bit));
        pfn += u64::from(batch.pages);
        if let Some((class, frames)) = batch.block {
            excluded.frames.extend((pfn..pfn + frames).map(|frame| (frame, class)));
            pfn += frames;
        }
    }
    excluded
}

/// Bits that some kernel has a flag at.
const FLAGS: [u32; 19] = [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 23];
/// Words that some kernel marks a type with, and some that none does.
const MAPCOUNTS: [u32; 17] = [
    0,
    3,
    0xffff_ff80,
    !0x80,
    !0x100,
    !0x200,
    !0x800,
    !0x1000,
    0xf000_0000,
    0xf000_0001,
    0xf100_0000,
    0xf112_3456,
    0xf200_0000,
    0xf400_0000,
    0xf412_3456,
    0xf500_0000,
    0xf700_0000,
];

/// A `struct page` in which anything may be set, though mostly little is.
fn page() -> impl Strategy<Value = TestPage> {
    let flags = prop_oneof![
        2 => Just(0_u64),
        3 => prop::sample::subsequence(FLAGS.to_vec(), 0..6)
            .prop_map(|bits| bits.into_iter().fold(0, |flags, bit| flags | 1 << bit)),
        // The first tail of a compound page since 6.6.
        1 => (0_u64..12, any::<bool>()).prop_map(|(order, hugetlb)| order | u64::from(hugetlb) << 8),
    ];
    let mapcount = prop_oneof![3 => Just(u32::MAX), 2 => prop::sample::select(&MAPCOUNTS[..])];
    let order = prop_oneof![4 => 0_u64..4, 2 => 4_u64..12, 1 => prop::sample::select(&[18, 30, 31, 64, u64::MAX][..])];
    let dtor = prop::sample::select(&[0, 1, 2, 0xffff_ffff_8111_0000][..]);
    (
        flags,
        prop::sample::select(&[0_u64, 0, 0x1000, 0x1001, 0x1002, 0x1003][..]),
        mapcount,
        order.clone(),
        prop_oneof![6 => Just(0_u64), 1 => Just(1)],
        order,
        dtor,
    )
        .prop_map(|(flags, mapping, mapcount, private, compound_head, order, dtor)| TestPage {
            flags,
            mapping,
            mapcount,
            private,
            compound_head,
            order,
            dtor,
        })
}

/// Kernels of each generation, and some that do not say all that theirs could.
fn kernels() -> Vec<TestKernel> {
    let mut kernels = TestKernel::all();
    let of = TestKernel::of;
    kernels.extend([
        of("6.6.0").without("NUMBER(PG_hugetlb)"),
        of("6.1.0").without("OFFSET(page.compound_dtor)").without("OFFSET(page.compound_order)"),
        of("5.10.0").without("NUMBER(PG_hwpoison)"),
        of("5.10.0").without("OFFSET(page._mapcount)"),
        of("5.10.0").without("OFFSET(page.private)"),
        of("5.10.0").without("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)").with("NUMBER(PG_buddy)=3"),
        of("5.10.0").without("LENGTH(zone.free_area)"),
        of("6.16.0").changed("LENGTH(zone.free_area)", "14"),
        of("6.12.0").changed("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "-257"),
        of("4.14.0").changed("NUMBER(PG_swapcache)", "15"),
    ]);
    kernels
}

fn rule_set(kernel_rules: bool) -> RuleSet {
    if kernel_rules { RuleSet::Kernel } else { RuleSet::Makedumpfile }
}

proptest! {
    /// Of each page by itself, with each page after it.
    #[test]
    fn each_decision_is_the_models(
        kernel in prop::sample::select(kernels()),
        level in 0_u64..32,
        kernel_rules: bool,
        pfn in prop_oneof![0_u64..2048, Just(0), Just(1 << 18), Just(1 << 30), Just(511)],
        page in page(),
        next in prop::option::weighted(0.9, page()),
    ) {
        let rules = kernel.rules(level, rule_set(kernel_rules));
        let model = Model::new(&kernel, level, rule_set(kernel_rules));
        let (page, next) = (page.bytes(&kernel), next.map(|next| next.bytes(&kernel)));
        prop_assert_eq!(
            rules.decide(Pfn::new(pfn), &page, next.as_deref()),
            model.decide(pfn, &page, next.as_deref())
        );
    }

    /// Of runs of pages, as memory has them.
    #[test]
    fn batches_exclude_what_the_model_excludes(
        kernel in prop::sample::select(kernels()),
        level in 0_u64..32,
        kernel_rules: bool,
        first in 0_u64..600,
        pages in prop::collection::vec(page(), 1..200),
        alike in prop::collection::vec((page(), 0_usize..200, 1_usize..80), 0..3),
    ) {
        let rules = kernel.rules(level, rule_set(kernel_rules));
        let model = Model::new(&kernel, level, rule_set(kernel_rules));
        let mut pages = pages;
        for (page, start, count) in alike {
            pages.iter_mut().skip(start).take(count).for_each(|place| *place = page);
        }
        // A block of 4 TiB has too many frames for a list.
        pages.iter_mut().filter(|page| page.order > 18).for_each(|page| page.order = 31);
        pages.iter_mut().filter(|page| page.flags & 0xff > 18).for_each(|page| page.flags |= 0x80);
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.bytes(&kernel)).collect();
        prop_assert_eq!(by_batches(&rules, first, &bytes), model.walk(first, &bytes));
    }
}
