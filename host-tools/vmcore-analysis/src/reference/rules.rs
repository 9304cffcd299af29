//! makedumpfile's rules in order, with the kernel's predicates where [`Fixes`] selects them.

use super::difference::{Difference, Fixes};
use super::facts::{FirstTail, PageFacts};
use scanner_core::kernel::layout::{CompoundPages, FreePages};
use scanner_core::kernel::vmcoreinfo::Release;
use scanner_core::{DumpLevel, KernelLayout, PageClass};
use std::fmt;

/// The largest valid order of a compound page. A larger order counts as damage: makedumpfile shifts a 32-bit 1 by the
/// order, which is undefined for 31 and more.
pub const MAX_ORDER: u64 = 30;

/// The number of `struct page`s that makedumpfile reads at once (`PGMM_CACHED`). The last one of a block has no
/// following one, so makedumpfile cannot see its first tail.
pub(super) const BLOCK: u64 = 512;

/// The rules, in the order of makedumpfile's `__exclude_unnecessary_pages`. The first rule that holds decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// i: keeps a tail page.
    Tail,
    /// ii: keeps a free page with an impossible order.
    BadOrder,
    /// ii: excludes free pages.
    Free,
    /// iii: excludes unaccepted pages.
    Unaccepted,
    /// iv: excludes non-private page cache.
    Cache,
    /// v: excludes page cache, private or not.
    CachePrivate,
    /// vi: excludes user data.
    User,
    /// vii: excludes poisoned pages.
    Hwpoison,
    /// viii: excludes offline pages.
    Offline,
    /// x: keeps all other pages.
    Unexcludable,
    /// xi: excludes free pages that only the zones' free lists show. It does not depend on `struct page`.
    FreeList,
}

impl Rule {
    /// All rules, in their order.
    pub const ALL: [Self; 11] = [
        Self::Tail,
        Self::BadOrder,
        Self::Free,
        Self::Unaccepted,
        Self::Cache,
        Self::CachePrivate,
        Self::User,
        Self::Hwpoison,
        Self::Offline,
        Self::Unexcludable,
        Self::FreeList,
    ];

    /// The rule's number.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Tail => "i",
            Self::BadOrder | Self::Free => "ii",
            Self::Unaccepted => "iii",
            Self::Cache => "iv",
            Self::CachePrivate => "v",
            Self::User => "vi",
            Self::Hwpoison => "vii",
            Self::Offline => "viii",
            Self::Unexcludable => "x",
            Self::FreeList => "xi",
        }
    }

    /// The rule's name, with makedumpfile's terms.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tail => "compound tail page",
            Self::BadOrder => "invalid free page order",
            Self::Free => "free page",
            Self::Unaccepted => "unaccepted page",
            Self::Cache => "non-private cache page",
            Self::CachePrivate => "cache page, private or not",
            Self::User => "user process data page",
            Self::Hwpoison => "hwpoison page",
            Self::Offline => "logically offline page",
            Self::Unexcludable => "unexcludable page",
            Self::FreeList => "free page by the free lists",
        }
    }

    /// The bit of the dump level that enables the rule; empty for a rule that is always enabled.
    pub const fn level(self) -> DumpLevel {
        match self {
            Self::BadOrder | Self::Free | Self::Unaccepted | Self::FreeList => DumpLevel::FREE,
            Self::Cache => DumpLevel::CACHE,
            Self::CachePrivate => DumpLevel::CACHE_PRIVATE,
            Self::User => DumpLevel::USER,
            Self::Tail | Self::Hwpoison | Self::Offline | Self::Unexcludable => DumpLevel::empty(),
        }
    }

    /// The condition of the rule, in words.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Tail => "compound_head & 1; excluded only together with its head",
            Self::BadOrder => "free, but private is not less than LENGTH(zone.free_area)",
            Self::Free => "_mapcount is PAGE_BUDDY_MAPCOUNT_VALUE and not slab (before 2.6.38: PG_buddy)",
            Self::Unaccepted => "_mapcount is PAGE_UNACCEPTED_MAPCOUNT_VALUE",
            Self::Cache => "PG_lru, or PG_swapcache with PG_swapbacked; not PG_private; not anonymous",
            Self::CachePrivate => "PG_lru, or PG_swapcache with PG_swapbacked; not anonymous",
            Self::User => "anonymous (mapping & 1 and not slab), or a hugetlb page's head",
            Self::Hwpoison => "PG_hwpoison",
            Self::Offline => "_mapcount is PAGE_OFFLINE_MAPCOUNT_VALUE and not slab",
            Self::Unexcludable => "no other rule holds",
            Self::FreeList => {
                "in a free list of an online node, if struct page does not show which pages are free"
            }
        }
    }

    /// The number of frames that the rule excludes, in words.
    pub const fn extent(self) -> &'static str {
        match self {
            Self::Tail | Self::BadOrder | Self::Unexcludable => "kept",
            Self::Free => "2^private",
            Self::FreeList => "2^order of the list",
            Self::Unaccepted => "2^(LENGTH(zone.free_area) - 1)",
            Self::Cache | Self::CachePrivate | Self::User | Self::Hwpoison | Self::Offline => {
                "2^compound order"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, {}", self.number(), self.name())
    }
}

/// The decision of the rules about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleDecision {
    /// The rule that decided.
    pub rule: Rule,
    /// The class of the excluded page; `None` if the page is kept.
    pub class: Option<PageClass>,
    /// The number of frames that the decision applies to, this one included.
    pub frames: u64,
}

impl RuleDecision {
    fn keep(rule: Rule) -> Self {
        Self { rule, class: None, frames: 1 }
    }

    fn exclude(rule: Rule, class: PageClass, frames: u64) -> Self {
        Self { rule, class: Some(class), frames }
    }
}

/// The properties of a compound page, from its head and first tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compound {
    /// The order; 0 for a page that is not a head, or whose order is impossible.
    pub order: u64,
    /// The order in memory, possible or not; `None` if the page is not a head.
    pub claimed_order: Option<u64>,
    /// Whether it is a hugetlb page.
    pub hugetlb: bool,
}

/// The rules for one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'l> {
    layout: &'l KernelLayout,
    fixes: Fixes,
}

impl<'l> Judge<'l> {
    /// The rules for a kernel with this `layout`. `fixes` are the differences that are decided as the kernel does.
    pub fn new(layout: &'l KernelLayout, fixes: Fixes) -> Self {
        Self { layout, fixes }
    }

    /// Whether makedumpfile reads `struct page`s at `level`: if the level excludes cache or user pages, if the kernel
    /// exports `PG_hwpoison`, or if the level excludes free pages and `struct page` shows which pages are free.
    pub fn scans_at(&self, level: DumpLevel) -> bool {
        let cache_or_user = [DumpLevel::CACHE, DumpLevel::CACHE_PRIVATE, DumpLevel::USER];
        cache_or_user.iter().any(|bit| level.contains(*bit))
            || self.layout.flags.hwpoison.is_some()
            || (level.contains(DumpLevel::FREE) && self.layout.free != FreePages::FreeLists)
    }

    /// Decides about a page at `level`.
    pub fn decide(&self, page: &PageFacts, level: DumpLevel) -> RuleDecision {
        if page.is_tail() {
            return RuleDecision::keep(Rule::Tail);
        }
        let length = u64::from(self.layout.free_area_length);
        if level.contains(DumpLevel::FREE) && self.is_free(page) {
            if page.private >= length {
                return RuleDecision::keep(Rule::BadOrder);
            }
            return RuleDecision::exclude(Rule::Free, PageClass::Free, 1 << page.private);
        }
        if level.contains(DumpLevel::FREE) && self.has_type(page, self.layout.types.unaccepted) {
            return RuleDecision::exclude(Rule::Unaccepted, PageClass::Unaccepted, 1 << (length - 1));
        }
        let compound = self.compound(page);
        let exclude = |rule, class| RuleDecision::exclude(rule, class, 1 << compound.order);
        let private = page.flags & self.layout.flags.private != 0;
        let cache = self.is_cache(page) && !self.is_anonymous(page);
        if level.contains(DumpLevel::CACHE) && cache && !private {
            return exclude(Rule::Cache, PageClass::Cache);
        }
        if level.contains(DumpLevel::CACHE_PRIVATE) && cache {
            let class = if private { PageClass::CachePrivate } else { PageClass::Cache };
            return exclude(Rule::CachePrivate, class);
        }
        if level.contains(DumpLevel::USER) && (self.is_anonymous(page) || compound.hugetlb) {
            return exclude(Rule::User, PageClass::User);
        }
        if self.layout.flags.hwpoison.is_some_and(|mask| page.flags & mask != 0) {
            return exclude(Rule::Hwpoison, PageClass::Hwpoison);
        }
        if self.has_type(page, self.layout.types.offline) && !self.is_slab(page) {
            return exclude(Rule::Offline, PageClass::Offline);
        }
        RuleDecision::keep(Rule::Unexcludable)
    }

    /// The differences that change the decision about `page` at `level`: alone, added to makedumpfile's rules, or
    /// alone, removed from the kernel's rules.
    pub fn differences(layout: &KernelLayout, page: &PageFacts, level: DumpLevel) -> Vec<Difference> {
        let decide = |fixes| Judge::new(layout, fixes).decide(page, level);
        let (none, all) = (Fixes::NONE, Fixes::of(scanner_core::RuleSet::Kernel));
        let changes_decision = |d: &Difference| {
            decide(Fixes::only(*d)) != decide(none) || decide(all.without(*d)) != decide(all)
        };
        Difference::ALL.into_iter().filter(changes_decision).collect()
    }

    /// Whether the page is the head of a free block in the buddy allocator.
    pub fn is_free(&self, page: &PageFacts) -> bool {
        match self.layout.free {
            FreePages::Type(value) => self.has_type(page, Some(value)) && !self.is_slab(page),
            FreePages::Flag(mask) => page.flags & mask != 0,
            FreePages::FreeLists => false,
        }
    }

    /// Whether the page is a slab page.
    pub fn is_slab(&self, page: &PageFacts) -> bool {
        let (types, flags) = (&self.layout.types, &self.layout.flags);
        let flag_is_slab = flags.slab_exported || types.slab.is_none();
        self.has_type(page, types.slab)
            || (page.flags & flags.slab != 0
                && (flag_is_slab || !self.fixes.contain(Difference::WaitersAsSlab)))
    }

    /// Whether the page is anonymous memory, KSM included.
    pub fn is_anonymous(&self, page: &PageFacts) -> bool {
        page.mapping & 1 != 0 && !self.is_slab(page)
    }

    /// Whether the page is on an LRU list or in the swap cache. If `PG_swapbacked` is known, `PG_swapcache` counts only
    /// together with it.
    pub fn is_cache(&self, page: &PageFacts) -> bool {
        let flags = &self.layout.flags;
        let set = |mask: u64| page.flags & mask != 0;
        set(flags.lru) || (flags.swapbacked.is_none_or(set) && set(flags.swapcache))
    }

    /// Whether the page has the page type `value`.
    pub fn has_type(&self, page: &PageFacts, value: Option<u32>) -> bool {
        let Some(value) = value else { return false };
        // Since 6.12, a page type is a number in the top byte (include/linux/page-flags.h, PGTY_buddy and following).
        let in_top_byte = self.layout.release >= Release::new(6, 12, 0) && value << 8 == 0;
        if in_top_byte && self.fixes.contain(Difference::WholeTypeWord) {
            page.mapcount >> 24 == value >> 24
        } else {
            page.mapcount == value
        }
    }

    /// The compound page whose head is `page`.
    pub fn compound(&self, page: &PageFacts) -> Compound {
        let is_head = page.flags & self.layout.flags.head != 0;
        let has_next = page.pfn.as_u64() % BLOCK != BLOCK - 1;
        let Some(tail) = page.first_tail.filter(|_| is_head && has_next) else { return Compound::default() };
        let claimed = self.claimed_order(&tail);
        let possible = claimed <= MAX_ORDER && page.pfn.as_u64().is_multiple_of(1 << claimed);
        let order = if possible { claimed } else { 0 };
        let hugetlb = match self.layout.compound {
            CompoundPages::TypedHugetlb { hugetlb } => self.has_type(page, Some(hugetlb)),
            CompoundPages::FlaggedHugetlb { hugetlb } => {
                let hugetlb_order = order == 9 || order == 18;
                tail.flags & hugetlb != 0
                    && (hugetlb_order || !self.fixes.contain(Difference::HugetlbByChance))
            }
            CompoundPages::Destructor { hugetlb_dtor, free_huge_page, .. } => {
                !self.order_is_in_flags()
                    && [hugetlb_dtor, free_huge_page].into_iter().flatten().any(|d| d == tail.destructor)
            }
        };
        Compound { order, claimed_order: Some(claimed), hugetlb }
    }

    fn claimed_order(&self, tail: &FirstTail) -> u64 {
        match self.layout.compound {
            CompoundPages::Destructor { .. } if !self.order_is_in_flags() => tail.order,
            _ => tail.flags & 0xff,
        }
    }

    /// Whether the order is in the first tail's flags (6.6 and later) although the kernel exports nothing about it.
    fn order_is_in_flags(&self) -> bool {
        self.fixes.contain(Difference::OrderWithoutHugetlb)
            && self.layout.release >= Release::new(6, 6, 0)
            && matches!(self.layout.compound, CompoundPages::Destructor { order: None, dtor: None, .. })
    }
}
