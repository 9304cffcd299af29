//! Each rule by itself, for the kernels that have it: what it excludes, and where it ends.

use super::*;
use crate::rules::test_kernels::{TestKernel, TestPage};
use std::vec::Vec;

const RULE_SETS: [RuleSet; 2] = [RuleSet::Makedumpfile, RuleSet::Kernel];
/// Everything that can be excluded without looking at the contents of pages.
const ALL: u64 = 31;

/// The decision about a page at `pfn` that `next` follows.
struct Case<'k> {
    kernel: &'k TestKernel,
    level: u64,
    rule_set: RuleSet,
    pfn: u64,
    page: TestPage,
    next: Option<TestPage>,
}

impl<'k> Case<'k> {
    /// A page of `kernel` at frame 0, at level 31 and by makedumpfile's rules, followed by one of the kernel's own.
    fn of(kernel: &'k TestKernel, page: TestPage) -> Self {
        let next = Some(TestPage::default());
        Self { kernel, level: ALL, rule_set: RuleSet::Makedumpfile, pfn: 0, page, next }
    }

    /// A compound page, as its head and first tail say.
    fn compound(kernel: &'k TestKernel, head: TestPage, first_tail: TestPage) -> Self {
        Self { next: Some(first_tail), ..Self::of(kernel, head) }
    }

    fn at(self, pfn: u64) -> Self {
        Self { pfn, ..self }
    }

    fn level(self, level: u64) -> Self {
        Self { level, ..self }
    }

    fn by(self, rule_set: RuleSet) -> Self {
        Self { rule_set, ..self }
    }

    fn decision(&self) -> Decision {
        let rules = Predicates::new(
            &self.kernel.layout(),
            DumpLevel::from_number(self.level).unwrap(),
            self.rule_set,
        );
        let next = self.next.map(|next| next.bytes(self.kernel));
        rules.decide(Pfn::new(self.pfn), &self.page.bytes(self.kernel), next.as_deref())
    }
}

fn exclude(class: PageClass, frames: u64) -> Decision {
    Decision::Exclude { class, frames }
}

/// Kernels that export this number.
fn kernels_with(number: &str) -> Vec<TestKernel> {
    let kernels: Vec<_> =
        TestKernel::all().into_iter().filter(|kernel| kernel.number(number).is_some()).collect();
    assert!(!kernels.is_empty(), "a kernel exports {number}");
    kernels
}

// What each kernel says of its pages, at level 31.

fn each_kernel_and_rule_set(check: impl Fn(&TestKernel, RuleSet)) {
    for kernel in TestKernel::all() {
        RULE_SETS.iter().for_each(|rule_set| check(&kernel, *rule_set));
    }
}

#[test]
fn pages_of_the_kernel_itself_are_kept() {
    each_kernel_and_rule_set(|kernel, rules| {
        for page in [
            TestPage::default(),
            TestPage::flagged(kernel, &["PG_private"]),
            TestPage { private: 3, mapping: 2, ..TestPage::default() },
            TestPage::head(kernel, false),
            TestPage { mapcount: 0, ..TestPage::default() },
        ] {
            assert_eq!(Case::of(kernel, page).by(rules).decision(), Decision::Keep, "{kernel} {page:x?}");
        }
    });
}

#[test]
fn pages_on_the_lru_are_cache() {
    each_kernel_and_rule_set(|kernel, rules| {
        let page = TestPage::flagged(kernel, &["PG_lru"]);
        assert_eq!(Case::of(kernel, page).by(rules).decision(), exclude(PageClass::Cache, 1), "{kernel}");
        let page = TestPage::flagged(kernel, &["PG_lru", "PG_private"]);
        assert_eq!(
            Case::of(kernel, page).by(rules).decision(),
            exclude(PageClass::CachePrivate, 1),
            "{kernel}"
        );
    });
}

#[test]
fn swap_cache_off_the_lru_is_cache() {
    each_kernel_and_rule_set(|kernel, rules| {
        let page = TestPage::flagged(kernel, &["PG_swapcache", "PG_swapbacked"]);
        assert_eq!(Case::of(kernel, page).by(rules).decision(), exclude(PageClass::Cache, 1), "{kernel}");
    });
}

#[test]
fn the_swap_cache_flag_means_nothing_without_swapbacked_where_that_is_known() {
    each_kernel_and_rule_set(|kernel, rules| {
        let page = TestPage::flagged(kernel, &["PG_swapcache"]);
        let expected =
            if kernel.flag("PG_swapbacked") == 0 { exclude(PageClass::Cache, 1) } else { Decision::Keep };
        assert_eq!(Case::of(kernel, page).by(rules).decision(), expected, "{kernel}");
        let page = TestPage::flagged(kernel, &["PG_swapbacked"]);
        assert_eq!(Case::of(kernel, page).by(rules).decision(), Decision::Keep, "{kernel}");
    });
}

#[test]
fn anonymous_pages_are_user_data_on_the_lru_or_off_it() {
    each_kernel_and_rule_set(|kernel, rules| {
        for flags in [0, kernel.flag("PG_lru"), kernel.flag("PG_lru") | kernel.flag("PG_private")] {
            let page = TestPage::anonymous().and(flags);
            assert_eq!(Case::of(kernel, page).by(rules).decision(), exclude(PageClass::User, 1), "{kernel}");
        }
    });
}

#[test]
fn only_the_lowest_bit_of_mapping_makes_a_page_anonymous() {
    each_kernel_and_rule_set(|kernel, rules| {
        for (mapping, expected) in [
            (2, Decision::Keep),
            (3, exclude(PageClass::User, 1)),
            (!1, Decision::Keep),
            (1, exclude(PageClass::User, 1)),
        ] {
            let page = TestPage { mapping, ..TestPage::default() };
            assert_eq!(Case::of(kernel, page).by(rules).decision(), expected, "{kernel} {mapping:#x}");
        }
    });
}

#[test]
fn slab_pages_are_not_anonymous_whatever_mapping_holds() {
    each_kernel_and_rule_set(|kernel, rules| {
        let page = if kernel.page_type("SLAB").is_some() {
            TestPage::typed(kernel, "SLAB")
        } else {
            TestPage::flagged(kernel, &["PG_slab"])
        };
        let page = TestPage { mapping: 1, ..page };
        assert_eq!(Case::of(kernel, page).by(rules).decision(), Decision::Keep, "{kernel}");
    });
}

#[test]
fn free_blocks_have_the_frames_of_their_order() {
    each_kernel_and_rule_set(|kernel, rules| {
        for order in 0..11 {
            let case = Case::of(kernel, TestPage::free(kernel, order)).by(rules);
            assert_eq!(case.decision(), exclude(PageClass::Free, 1 << order), "{kernel}");
        }
    });
}

#[test]
fn a_free_block_of_an_order_that_no_list_has_is_kept() {
    each_kernel_and_rule_set(|kernel, rules| {
        for order in [11, 12, 63, 64, u64::MAX] {
            let page = TestPage::free(kernel, order).and(kernel.flag("PG_lru"));
            assert_eq!(
                Case::of(kernel, page).by(rules).decision(),
                Decision::KeepBadOrder,
                "{kernel} {order}"
            );
        }
    });
}

#[test]
fn the_largest_order_is_what_the_kernel_says() {
    let kernel = TestKernel::of("6.1.0").changed("LENGTH(zone.free_area)", "3");
    assert_eq!(Case::of(&kernel, TestPage::free(&kernel, 2)).decision(), exclude(PageClass::Free, 4));
    assert_eq!(Case::of(&kernel, TestPage::free(&kernel, 3)).decision(), Decision::KeepBadOrder);
}

#[test]
fn free_blocks_need_not_be_aligned() {
    let kernel = TestKernel::of("6.1.0");
    assert_eq!(Case::of(&kernel, TestPage::free(&kernel, 4)).at(3).decision(), exclude(PageClass::Free, 16));
}

#[test]
fn a_free_page_by_type_is_no_slab_page_but_one_by_flag_may_be() {
    let typed = TestKernel::of("6.1.0");
    let page = TestPage::free(&typed, 0).and(typed.flag("PG_slab"));
    assert_eq!(Case::of(&typed, page).decision(), Decision::Keep);
    let flagged = TestKernel::of("2.6.32");
    let page = TestPage::free(&flagged, 0).and(flagged.flag("PG_slab"));
    assert_eq!(Case::of(&flagged, page).decision(), exclude(PageClass::Free, 1));
}

#[test]
fn free_pages_of_a_kernel_without_type_and_flag_are_kept() {
    let kernel = TestKernel::of("6.1.0");
    let page = TestPage::free(&kernel, 0);
    let silent = kernel.without("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)");
    assert_eq!(Case::of(&silent, page).decision(), Decision::Keep);
}

#[test]
fn an_unaccepted_page_stands_for_a_block_of_the_largest_order() {
    for kernel in kernels_with("PAGE_UNACCEPTED_MAPCOUNT_VALUE") {
        let page = TestPage { private: 99, ..TestPage::typed(&kernel, "UNACCEPTED") };
        assert_eq!(Case::of(&kernel, page).decision(), exclude(PageClass::Unaccepted, 1024), "{kernel}");
    }
}

#[test]
fn offline_pages_are_excluded_unless_they_are_slab() {
    for kernel in kernels_with("PAGE_OFFLINE_MAPCOUNT_VALUE") {
        let page = TestPage::typed(&kernel, "OFFLINE");
        assert_eq!(Case::of(&kernel, page).decision(), exclude(PageClass::Offline, 1), "{kernel}");
        assert_eq!(
            Case::of(&kernel, page.and(kernel.flag("PG_slab"))).decision(),
            Decision::Keep,
            "{kernel}"
        );
    }
}

#[test]
fn types_are_no_types_in_a_kernel_that_does_not_export_them() {
    let kernel = TestKernel::of("6.16.0");
    for name in ["OFFLINE", "UNACCEPTED", "BUDDY"] {
        let page = TestPage::typed(&kernel, name);
        let silent = kernel.clone().without(&std::format!("NUMBER(PAGE_{name}_MAPCOUNT_VALUE)"));
        assert_eq!(Case::of(&silent, page).decision(), Decision::Keep, "{name}");
    }
}

#[test]
fn poisoned_pages_are_excluded_where_the_flag_is_known() {
    for kernel in kernels_with("PG_hwpoison") {
        let page = TestPage::flagged(&kernel, &["PG_hwpoison"]);
        assert_eq!(Case::of(&kernel, page).decision(), exclude(PageClass::Hwpoison, 1), "{kernel}");
        let silent = kernel.clone().without("NUMBER(PG_hwpoison)");
        assert_eq!(Case::of(&silent, page).decision(), Decision::Keep, "{kernel}");
    }
}

#[test]
fn a_kernel_without_mapcount_has_no_types() {
    let kernel = TestKernel::of("6.1.0");
    let page = TestPage::typed(&kernel, "OFFLINE");
    let silent = kernel.without("OFFSET(page._mapcount)");
    assert_eq!(Case::of(&silent, page).decision(), Decision::Keep);
}

#[test]
fn a_struct_page_that_ends_early_is_kept() {
    let kernel = TestKernel::of("6.1.0");
    let rules = kernel.rules(ALL, RuleSet::Makedumpfile);
    let page = TestPage::typed(&kernel, "OFFLINE").bytes(&kernel);
    assert_eq!(rules.decide(Pfn::new(0), &page[..51], None), Decision::Keep);
    assert_eq!(rules.decide(Pfn::new(0), &page[..52], None), exclude(PageClass::Offline, 1));
    assert_eq!(rules.decide(Pfn::new(0), &[], None), Decision::Keep);
}

// Tail pages.

#[test]
fn tail_pages_are_kept_whatever_else_they_say() {
    for kernel in TestKernel::all() {
        let page =
            TestPage { compound_head: 0xffff_ea00_0000_0001, ..TestPage::flagged(&kernel, &["PG_lru"]) };
        let knows_tails =
            kernel.offset("page.compound_head").or(kernel.offset("page.compound_info")).is_some();
        let expected = if knows_tails { Decision::Keep } else { exclude(PageClass::Cache, 1) };
        assert_eq!(Case::of(&kernel, page).decision(), expected, "{kernel}");
    }
}

#[test]
fn only_the_lowest_bit_makes_a_tail() {
    let kernel = TestKernel::of("6.1.0");
    let page = TestPage { compound_head: !1, ..TestPage::flagged(&kernel, &["PG_lru"]) };
    assert_eq!(Case::of(&kernel, page).decision(), exclude(PageClass::Cache, 1));
}

#[test]
fn an_uninitialised_struct_page_of_all_ones_is_kept() {
    let kernel = TestKernel::of("6.1.0");
    let rules = kernel.rules(ALL, RuleSet::Makedumpfile);
    assert_eq!(rules.decide(Pfn::new(0), &[0xff; 64], None), Decision::Keep);
}

// Compound pages.

/// A compound page of anonymous memory, of so many frames.
fn folio(kernel: &TestKernel, order: u64) -> Case<'_> {
    let head = TestPage::anonymous().and(kernel.head_mask());
    Case::compound(kernel, head, TestPage::first_tail(kernel, order, false))
}

#[test]
fn a_compound_page_has_the_frames_of_its_order() {
    each_kernel_and_rule_set(|kernel, rules| {
        for order in [1, 2, 9, 18, 29, 30] {
            let case = folio(kernel, order).by(rules);
            assert_eq!(case.decision(), exclude(PageClass::User, 1 << order), "{kernel} {order}");
        }
    });
}

#[test]
fn each_class_of_compound_page_goes_as_a_whole() {
    each_kernel_and_rule_set(|kernel, rules| {
        let head = kernel.head_mask();
        let lru = kernel.flag("PG_lru");
        let private = kernel.flag("PG_private");
        for (page, class) in [
            (TestPage::default().and(lru), PageClass::Cache),
            (TestPage::default().and(lru | private), PageClass::CachePrivate),
            (TestPage::anonymous(), PageClass::User),
        ] {
            let case =
                Case::compound(kernel, page.and(head), TestPage::first_tail(kernel, 3, false)).by(rules);
            assert_eq!(case.decision(), exclude(class, 8), "{kernel}");
        }
        if kernel.flag("PG_hwpoison") != 0 {
            let page = TestPage::flagged(kernel, &["PG_hwpoison"]).and(head);
            let case = Case::compound(kernel, page, TestPage::first_tail(kernel, 3, false)).by(rules);
            assert_eq!(case.decision(), exclude(PageClass::Hwpoison, 8), "{kernel}");
        }
    });
}

#[test]
fn an_order_past_30_is_not_believed() {
    each_kernel_and_rule_set(|kernel, rules| {
        for order in [31, 32, 63, 64, 255] {
            let case = folio(kernel, order).by(rules);
            assert_eq!(case.decision(), exclude(PageClass::User, 1), "{kernel} {order}");
        }
    });
}

#[test]
fn an_order_that_the_frame_is_not_aligned_to_is_not_believed() {
    each_kernel_and_rule_set(|kernel, rules| {
        for (pfn, order, frames) in
            [(8, 3, 8), (8, 4, 1), (1, 1, 1), (1 << 18, 18, 1 << 18), (1 << 17, 18, 1)]
        {
            let case = folio(kernel, order).by(rules).at(pfn);
            assert_eq!(case.decision(), exclude(PageClass::User, frames), "{kernel} {order} at {pfn}");
        }
    });
}

#[test]
fn the_last_page_of_a_block_of_512_is_no_head() {
    let kernel = TestKernel::of("6.1.0");
    let case = |pfn| folio(&kernel, 0).at(pfn);
    // Order 0 would go with any head: hugetlb tells the difference.
    for (pfn, expected) in [
        (510, exclude(PageClass::User, 1)),
        (511, Decision::Keep),
        (512, exclude(PageClass::User, 1)),
        (1023, Decision::Keep),
    ] {
        let head = TestPage::head(&kernel, true);
        let tail = Some(TestPage::first_tail(&kernel, 0, true));
        assert_eq!(Case { page: head, next: tail, ..case(pfn) }.decision(), expected, "{pfn}");
    }
}

#[test]
fn a_head_without_a_next_struct_page_is_a_single_page() {
    let kernel = TestKernel::of("6.1.0");
    let case = folio(&kernel, 3);
    assert_eq!(Case { next: None, ..case }.decision(), exclude(PageClass::User, 1));
}

#[test]
fn a_page_without_the_head_flag_is_a_single_page() {
    each_kernel_and_rule_set(|kernel, rules| {
        let case =
            Case::compound(kernel, TestPage::anonymous(), TestPage::first_tail(kernel, 3, true)).by(rules);
        assert_eq!(case.decision(), exclude(PageClass::User, 1), "{kernel}");
    });
}

#[test]
fn any_bit_of_the_head_mask_makes_a_head() {
    let kernel = TestKernel::of("2.6.32").with("NUMBER(PG_head_mask)=49152");
    for bit in [14, 15] {
        let head = TestPage::anonymous().and(1 << bit);
        let case = Case::compound(&kernel, head, TestPage::first_tail(&kernel, 3, false));
        assert_eq!(case.decision(), exclude(PageClass::User, 8), "bit {bit}");
    }
}

#[test]
fn only_the_low_byte_of_the_tails_flags_is_the_order() {
    for release in ["6.6.0", "6.9.0", "6.16.0"] {
        let kernel = TestKernel::of(release);
        let tail = TestPage { flags: 0xffff_0000_0000_0003, ..TestPage::default() };
        let case = Case::compound(&kernel, TestPage::anonymous().and(kernel.head_mask()), tail);
        assert_eq!(case.decision(), exclude(PageClass::User, 8), "{kernel}");
    }
}

#[test]
fn order_and_destructor_have_the_width_of_their_kernel() {
    for (release, order, frames) in [
        // Two bytes: 0x109 is past 30.
        ("4.14.0", 0x109, 1),
        // One byte: what stands after it belongs to another field.
        ("4.18.0", 0x109, 512),
        ("6.4.0", 0x109, 512),
    ] {
        let kernel = TestKernel::of(release);
        let mut tail = TestPage::default().bytes(&kernel);
        let at = kernel
            .offset("page.compound_order")
            .or(kernel.offset("folio._folio_order").map(|at| at - 64))
            .unwrap();
        tail[at..at + 2].copy_from_slice(&u16::to_le_bytes(order));
        let rules = kernel.rules(ALL, RuleSet::Makedumpfile);
        let head = TestPage::anonymous().and(kernel.head_mask()).bytes(&kernel);
        let decision = rules.decide(Pfn::new(0), &head, Some(&tail));
        assert_eq!(decision, exclude(PageClass::User, frames), "{kernel}");
    }
}

#[test]
fn a_first_tail_that_ends_early_says_nothing() {
    for release in ["2.6.32", "4.14.0", "4.18.0", "6.6.0"] {
        let kernel = TestKernel::of(release);
        let rules = kernel.rules(ALL, RuleSet::Makedumpfile);
        let head = TestPage::anonymous().and(kernel.head_mask()).bytes(&kernel);
        assert_eq!(rules.decide(Pfn::new(0), &head, Some(&[])), exclude(PageClass::User, 1), "{kernel}");
    }
}

#[test]
fn compound_says_order_and_owner() {
    let kernel = TestKernel::of("6.1.0");
    let rules = kernel.rules(ALL, RuleSet::Makedumpfile);
    let tail = TestPage::first_tail(&kernel, 9, true).bytes(&kernel);
    let of = |flags, next| rules.compound(Pfn::new(512), flags, u64::from(u32::MAX), next);
    assert_eq!(of(kernel.head_mask(), Some(&tail[..])), Compound { order: 9, hugetlb: true });
    assert_eq!(of(0, Some(&tail[..])), Compound::default());
    assert_eq!(of(kernel.head_mask(), None), Compound::default());
}

// hugetlb.

fn huge_page(kernel: &TestKernel, order: u64) -> Case<'_> {
    Case::compound(kernel, TestPage::head(kernel, true), TestPage::first_tail(kernel, order, true))
}

#[test]
fn hugetlb_pages_are_user_data() {
    each_kernel_and_rule_set(|kernel, rules| {
        for order in [9, 18] {
            let case = huge_page(kernel, order).by(rules);
            assert_eq!(case.decision(), exclude(PageClass::User, 1 << order), "{kernel}");
        }
    });
}

#[test]
fn hugetlb_pages_are_kept_without_the_level_of_user_data() {
    each_kernel_and_rule_set(|kernel, rules| {
        let case = huge_page(kernel, 9).by(rules).level(ALL - 8);
        assert_eq!(case.decision(), Decision::Keep, "{kernel}");
    });
}

#[test]
fn compound_pages_of_another_owner_are_kept() {
    each_kernel_and_rule_set(|kernel, rules| {
        let case =
            Case::compound(kernel, TestPage::head(kernel, false), TestPage::first_tail(kernel, 9, false));
        assert_eq!(case.by(rules).decision(), Decision::Keep, "{kernel}");
    });
}

#[test]
fn a_misaligned_hugetlb_head_goes_as_one_page() {
    for release in ["2.6.32", "4.14.0", "6.1.0", "6.6.0", "6.12.0"] {
        let kernel = TestKernel::of(release);
        assert_eq!(huge_page(&kernel, 9).at(8).decision(), exclude(PageClass::User, 1), "{kernel}");
    }
}

#[test]
fn hugetlb_is_known_by_the_address_of_its_destructor_or_by_its_number() {
    let kernel = TestKernel::of("4.14.0").with("SYMBOL(free_huge_page)=1234");
    for (dtor, expected) in
        [(2, exclude(PageClass::User, 512)), (0x1234, exclude(PageClass::User, 512)), (1, Decision::Keep)]
    {
        let tail = TestPage { dtor, ..TestPage::first_tail(&kernel, 9, false) };
        assert_eq!(
            Case::compound(&kernel, TestPage::head(&kernel, false), tail).decision(),
            expected,
            "{dtor}"
        );
    }
}

#[test]
fn an_unknown_destructor_reads_as_0() {
    let kernel = TestKernel::of("5.10.0")
        .without("OFFSET(page.compound_dtor)")
        .changed("NUMBER(HUGETLB_PAGE_DTOR)", "0");
    let head = TestPage::head(&kernel, true);
    assert_eq!(Case::compound(&kernel, head, TestPage::default()).decision(), exclude(PageClass::User, 1));
}

// Levels.

#[test]
fn each_level_excludes_its_classes() {
    let kernel = TestKernel::of("6.16.0");
    let lru = TestPage::flagged(&kernel, &["PG_lru"]);
    let pages: [(TestPage, PageClass, u64, u64); 8] = [
        (lru, PageClass::Cache, 1, 2 | 4),
        (lru.and(kernel.flag("PG_private")), PageClass::CachePrivate, 1, 4),
        (TestPage::anonymous(), PageClass::User, 1, 8),
        (TestPage::free(&kernel, 2), PageClass::Free, 4, 16),
        (TestPage::typed(&kernel, "UNACCEPTED"), PageClass::Unaccepted, 1024, 16),
        (TestPage::flagged(&kernel, &["PG_hwpoison"]), PageClass::Hwpoison, 1, u64::MAX),
        (TestPage::typed(&kernel, "OFFLINE"), PageClass::Offline, 1, u64::MAX),
        (TestPage::head(&kernel, true), PageClass::User, 1, 8),
    ];
    for rule_set in RULE_SETS {
        for level in 0..32 {
            for (page, class, frames, bits) in pages {
                let goes = bits == u64::MAX || level & bits != 0;
                let expected = if goes { exclude(class, frames) } else { Decision::Keep };
                let case = Case::of(&kernel, page).level(level).by(rule_set);
                assert_eq!(case.decision(), expected, "{class} at level {level}");
            }
        }
    }
}

#[test]
fn a_free_page_with_a_bad_order_is_an_ordinary_page_below_level_16() {
    let kernel = TestKernel::of("6.1.0");
    let page = TestPage::free(&kernel, 99).and(kernel.flag("PG_lru"));
    assert_eq!(Case::of(&kernel, page).level(15).decision(), exclude(PageClass::Cache, 1));
    assert_eq!(Case::of(&kernel, page).level(16).decision(), Decision::KeepBadOrder);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let kernel = TestKernel::of("6.1.0");
    let poisoned = kernel.flag("PG_hwpoison");
    for (page, level, expected) in [
        (TestPage::free(&kernel, 1).and(poisoned), 16, exclude(PageClass::Free, 2)),
        (TestPage::free(&kernel, 1).and(poisoned), 15, exclude(PageClass::Hwpoison, 1)),
        (TestPage::anonymous().and(poisoned), 8, exclude(PageClass::User, 1)),
        (TestPage::anonymous().and(poisoned), 2, exclude(PageClass::Hwpoison, 1)),
        (TestPage::typed(&kernel, "OFFLINE").and(poisoned), 0, exclude(PageClass::Hwpoison, 1)),
        (TestPage::typed(&kernel, "OFFLINE").and(kernel.flag("PG_lru")), 2, exclude(PageClass::Cache, 1)),
    ] {
        assert_eq!(Case::of(&kernel, page).level(level).decision(), expected, "{page:x?} at level {level}");
    }
}

#[test]
fn a_scan_is_needed_if_some_rule_can_find_something() {
    let free_flag = TestKernel::of("2.6.32");
    let free_type = TestKernel::of("6.1.0").without("NUMBER(PG_hwpoison)");
    let nothing = free_type.clone().without("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)");
    for level in 0..32 {
        let needs = |kernel: &TestKernel| kernel.rules(level, RuleSet::Makedumpfile).need_scan();
        // Poisoned pages are looked for at every level.
        assert!(needs(&TestKernel::of("6.1.0")), "level {level}");
        assert_eq!(needs(&nothing), level & 14 != 0, "level {level}");
        assert_eq!(needs(&free_flag), level > 1, "level {level}");
        assert_eq!(needs(&free_type), level > 1, "level {level}");
    }
}

#[test]
fn rules_say_whose_they_are_and_how_large_a_struct_page_is() {
    for rule_set in RULE_SETS {
        for (release, size) in [("2.6.32", 56), ("6.1.0", 64)] {
            let rules = TestKernel::of(release).rules(ALL, rule_set);
            assert_eq!((rules.rule_set(), rules.page_size()), (rule_set, size));
        }
    }
}

// Where the kernel's own predicates differ from makedumpfile's.

#[test]
fn pg_waiters_is_taken_for_slab_by_makedumpfile_alone() {
    for release in ["6.10.0", "6.12.0", "6.16.0", "7.1.0"] {
        let kernel = TestKernel::of(release);
        let page = TestPage::anonymous().and(1 << 7);
        assert_eq!(Case::of(&kernel, page).decision(), Decision::Keep, "{kernel}");
        let by_kernel = Case::of(&kernel, page).by(RuleSet::Kernel).decision();
        assert_eq!(by_kernel, exclude(PageClass::User, 1), "{kernel}");
    }
}

#[test]
fn a_slab_flag_that_is_exported_counts_beside_the_type() {
    let kernel = TestKernel::of("6.12.0").with("NUMBER(PG_slab)=7");
    let page = TestPage::anonymous().and(1 << 7);
    RULE_SETS.iter().for_each(|rules| {
        assert_eq!(Case::of(&kernel, page).by(*rules).decision(), Decision::Keep);
    });
}

#[test]
fn the_default_slab_flag_counts_before_slab_had_a_type() {
    let kernel = TestKernel::of("2.6.32");
    let page = TestPage::anonymous().and(1 << 7);
    assert_eq!(Case::of(&kernel, page).by(RuleSet::Kernel).decision(), Decision::Keep);
}

#[test]
fn what_a_types_owner_writes_hides_the_type_from_makedumpfile_alone() {
    let kernel = TestKernel::of("6.12.0");
    let page = TestPage { mapcount: 0xf112_3456, ..TestPage::default() };
    assert_eq!(Case::of(&kernel, page).decision(), Decision::Keep);
    assert_eq!(Case::of(&kernel, page).by(RuleSet::Kernel).decision(), exclude(PageClass::Offline, 1));
    let other = TestPage { mapcount: 0xf212_3456, ..TestPage::default() };
    assert_eq!(Case::of(&kernel, other).by(RuleSet::Kernel).decision(), Decision::Keep);
}

#[test]
fn types_are_whole_words_before_6_12() {
    // The value is one of 6.12, in the text of a kernel before.
    let kernel = TestKernel::of("6.10.0").changed("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "-251658240");
    let page = TestPage { mapcount: 0xf112_3456, ..TestPage::default() };
    assert_eq!(Case::of(&kernel, page).by(RuleSet::Kernel).decision(), Decision::Keep);
}

#[test]
fn a_type_that_uses_the_low_bits_is_a_whole_word() {
    let kernel = TestKernel::of("6.12.0").changed("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "-257");
    for (mapcount, expected) in [(!0x100, exclude(PageClass::Offline, 1)), (u32::MAX, Decision::Keep)] {
        let page = TestPage { mapcount, ..TestPage::default() };
        assert_eq!(Case::of(&kernel, page).by(RuleSet::Kernel).decision(), expected, "{mapcount:#x}");
    }
}

#[test]
fn the_hugetlb_flag_counts_only_with_an_order_of_hugetlb_by_the_kernels_rules() {
    for release in ["6.6.0", "6.8.0"] {
        let kernel = TestKernel::of(release);
        for order in 0..=30 {
            let case = huge_page(&kernel, order);
            assert_eq!(case.decision(), exclude(PageClass::User, 1 << order), "{kernel} {order}");
            let expected =
                if order == 9 || order == 18 { exclude(PageClass::User, 1 << order) } else { Decision::Keep };
            assert_eq!(
                huge_page(&kernel, order).by(RuleSet::Kernel).decision(),
                expected,
                "{kernel} {order}"
            );
        }
    }
}

#[test]
fn without_hugetlb_orders_since_6_6_are_known_by_the_kernels_rules_alone() {
    let kernel = TestKernel::of("6.6.0").without("NUMBER(PG_hugetlb)");
    let tail = TestPage { flags: 3 | 1 << 8, ..TestPage::default() };
    let case = || Case::compound(&kernel, TestPage::anonymous().and(kernel.head_mask()), tail);
    assert_eq!(case().decision(), exclude(PageClass::User, 1));
    assert_eq!(case().by(RuleSet::Kernel).decision(), exclude(PageClass::User, 8));
    // Nothing is hugetlb then, whatever the flags are.
    let tail = TestPage { flags: 9 | 1 << 8, ..TestPage::default() };
    let head = Case::compound(&kernel, TestPage::head(&kernel, false), tail).by(RuleSet::Kernel);
    assert_eq!(head.decision(), Decision::Keep);
}

#[test]
fn orders_before_6_6_are_unknown_if_nothing_is_said_of_them() {
    let kernel =
        TestKernel::of("6.4.0").without("OFFSET(folio._folio_order)").without("OFFSET(folio._folio_dtor)");
    let tail = TestPage { flags: 3, ..TestPage::default() };
    let case = Case::compound(&kernel, TestPage::anonymous().and(kernel.head_mask()), tail);
    assert_eq!(case.by(RuleSet::Kernel).decision(), exclude(PageClass::User, 1));
}

#[test]
fn a_known_destructor_is_used_even_if_the_order_is_not_known() {
    let kernel = TestKernel::of("6.6.0")
        .without("NUMBER(PG_hugetlb)")
        .with("OFFSET(page.compound_dtor)=16\nNUMBER(HUGETLB_PAGE_DTOR)=2");
    let head = TestPage::head(&kernel, false);
    let mut tail = TestPage { flags: 3, ..TestPage::default() }.bytes(&kernel);
    tail[16] = 2;
    let rules = kernel.rules(ALL, RuleSet::Kernel);
    let decision = rules.decide(Pfn::new(0), &head.bytes(&kernel), Some(&tail));
    assert_eq!(decision, exclude(PageClass::User, 1));
}
