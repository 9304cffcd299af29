//! The named differences between the kernel's own predicates and makedumpfile's.

use scanner_core::RuleSet;

/// A point where the rule set `kernel` differs from `makedumpfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// makedumpfile reads `PG_waiters` as `PG_slab`.
    WaitersAsSlab,
    /// makedumpfile compares the whole word of a page type.
    WholeTypeWord,
    /// makedumpfile does not know compound orders in a kernel without hugetlb.
    OrderWithoutHugetlb,
    /// makedumpfile recognises hugetlb by a flag that other owners use, too.
    HugetlbByChance,
    /// makedumpfile leaves the sixth flag of a section in its `struct page` address.
    SectionFlag,
    /// makedumpfile leaves the last, partial page of a segment out of the 1st bitmap.
    PartialPage,
}

impl Difference {
    /// All differences, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::WaitersAsSlab,
        Self::WholeTypeWord,
        Self::OrderWithoutHugetlb,
        Self::HugetlbByChance,
        Self::SectionFlag,
        Self::PartialPage,
    ];

    /// The name in reports and in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => "waiters-as-slab",
            Self::WholeTypeWord => "whole-type-word",
            Self::OrderWithoutHugetlb => "order-without-hugetlb",
            Self::HugetlbByChance => "hugetlb-by-chance",
            Self::SectionFlag => "section-flag",
            Self::PartialPage => "partial-page",
        }
    }

    /// The kernels that the difference concerns.
    pub const fn kernels(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => "6.10 and later",
            Self::WholeTypeWord => "6.12 and later",
            Self::OrderWithoutHugetlb => "6.6 and later without CONFIG_HUGETLB_PAGE",
            Self::HugetlbByChance => "6.6 to 6.8",
            Self::SectionFlag => "6.15 and later with hugetlb_free_vmemmap=on and gigantic pages from boot",
            Self::PartialPage => "all",
        }
    }

    /// The behaviour of makedumpfile, then that of the rule set `kernel`.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => {
                "If the kernel does not export PG_slab, makedumpfile takes bit 7 of page.flags for it, which \
                 is PG_waiters: a page that a task waits for counts as slab. The rule set kernel uses the \
                 page type alone."
            }
            Self::WholeTypeWord => {
                "makedumpfile compares all 32 bits of page_type, but the low 24 bits belong to the type's \
                 owner. The rule set kernel compares the top byte."
            }
            Self::OrderWithoutHugetlb => {
                "If the kernel exports neither hugetlb's page type nor PG_hugetlb, makedumpfile does not \
                 know the order of a compound page and excludes its first page only. The rule set kernel \
                 reads the order from the low byte of the first tail's flags."
            }
            Self::HugetlbByChance => {
                "makedumpfile takes a compound page for hugetlb if its first tail has the bit PG_hugetlb, \
                 but other owners of compound pages use this bit, too. The rule set kernel also requires the \
                 order of a 2 MiB or 1 GiB page."
            }
            Self::SectionFlag => {
                "makedumpfile masks five flags out of section_mem_map. SECTION_IS_VMEMMAP_PREINIT is a sixth \
                 flag: if it is set, makedumpfile reads the section's struct pages 32 bytes off. The rule \
                 set kernel masks six flags."
            }
            Self::PartialPage => {
                "In cyclic mode, makedumpfile leaves a page out of the 1st bitmap if a segment ends inside \
                 this page. With the rule set kernel, every page that a segment touches exists."
            }
        }
    }

    /// The pages that the difference changes, with makedumpfile's result in parentheses.
    pub const fn pages(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => {
                "anonymous pages with waiters (cache instead of user data), free and offline pages with that bit (kept)"
            }
            Self::WholeTypeWord => {
                "free, unaccepted, offline, hugetlb and slab pages whose owner uses the low 24 bits (not recognised)"
            }
            Self::OrderWithoutHugetlb => "tail pages of compound cache and anonymous pages (kept)",
            Self::HugetlbByChance => {
                "compound pages of drivers and of the kernel, such as idt_table (left out as user data)"
            }
            Self::SectionFlag => "all pages of these sections (most are kept)",
            Self::PartialPage => {
                "the last page of a segment that does not end at a page boundary (not in the dump)"
            }
        }
    }
}

/// A set of [`Difference`]s that are decided as the kernel does. The rule set `makedumpfile` has none of them, `kernel`
/// has all. Sets of one show which difference matters for a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixes(u8);

impl Fixes {
    /// The empty set: makedumpfile's rules.
    pub const NONE: Self = Self(0);

    /// The set of `difference` alone.
    pub const fn only(difference: Difference) -> Self {
        Self(1 << difference as u8)
    }

    /// The set of `rule_set`.
    pub fn of(rule_set: RuleSet) -> Self {
        match rule_set {
            RuleSet::Makedumpfile => Self::NONE,
            RuleSet::Kernel => Self(Difference::ALL.iter().fold(0, |all, d| all | Self::only(*d).0)),
        }
    }

    /// This set without `difference`.
    #[must_use]
    pub const fn without(self, difference: Difference) -> Self {
        Self(self.0 & !Self::only(difference).0)
    }

    /// Whether `difference` is in this set.
    pub const fn contain(self, difference: Difference) -> bool {
        self.0 & Self::only(difference).0 != 0
    }
}
