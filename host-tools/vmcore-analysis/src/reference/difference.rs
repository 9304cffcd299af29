//! Where the kernel's own predicates differ from makedumpfile's: each difference by name.

use scanner_core::RuleSet;

/// A point at which the rule set `kernel` decides otherwise than `makedumpfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// `PG_waiters` read as `PG_slab`.
    WaitersAsSlab,
    /// The whole word of a page type compared.
    WholeTypeWord,
    /// Orders unknown without hugetlb.
    OrderWithoutHugetlb,
    /// hugetlb by a flag that others use too.
    HugetlbByChance,
    /// A section's sixth flag left in its address.
    SectionFlag,
    /// A segment's last, partial page left out of the 1st bitmap.
    PartialPage,
}

impl Difference {
    /// Every difference, in the order of the documentation.
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

    /// The kernels that it is about.
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

    /// What makedumpfile does, and what the rule set `kernel` does instead. One sentence each.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => {
                "makedumpfile takes bit 7 of page.flags for PG_slab where the kernel exports none, but there it is \
                 PG_waiters: a page that a task waits for counts as slab. The rule set kernel goes by the page type alone."
            }
            Self::WholeTypeWord => {
                "makedumpfile compares all 32 bits of page_type, of which the low 24 belong to the type's owner. The \
                 rule set kernel compares the top byte."
            }
            Self::OrderWithoutHugetlb => {
                "makedumpfile doesn't know the order of a compound page if the kernel exports neither hugetlb's type \
                 nor its flag, and leaves out the first page only. The rule set kernel finds the order in the low \
                 byte of the first tail's flags."
            }
            Self::HugetlbByChance => {
                "makedumpfile takes every compound page for hugetlb whose first tail has the bit PG_hugetlb, which \
                 other owners of compound pages use for themselves. The rule set kernel also wants the order of a \
                 2 MiB or 1 GiB page."
            }
            Self::SectionFlag => {
                "makedumpfile masks five flags out of section_mem_map, but SECTION_IS_VMEMMAP_PREINIT is a sixth: it \
                 then reads the section's struct pages 32 bytes off. The rule set kernel masks six."
            }
            Self::PartialPage => {
                "makedumpfile in its cyclic mode leaves the page that a segment ends within out of the 1st bitmap. \
                 With the rule set kernel every page that a segment touches exists."
            }
        }
    }

    /// Which pages the difference changes.
    pub const fn pages(self) -> &'static str {
        match self {
            Self::WaitersAsSlab => {
                "anonymous pages with waiters (cache instead of user data), free and offline pages with that bit (kept)"
            }
            Self::WholeTypeWord => {
                "free, unaccepted, offline, hugetlb and slab pages whose owner keeps something in the low 24 bits (not recognised)"
            }
            Self::OrderWithoutHugetlb => {
                "all but the first page of compound cache and anonymous pages (kept)"
            }
            Self::HugetlbByChance => {
                "compound pages of drivers and of the kernel, such as idt_table (left out as user data)"
            }
            Self::SectionFlag => "all pages of such sections (mostly kept)",
            Self::PartialPage => {
                "the last page of memory that doesn't end at a page border (not in the dump)"
            }
        }
    }
}

/// Which differences are decided the kernel's way. The rule set `makedumpfile` has none of them, `kernel` all; one at
/// a time shows which of them matters for a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixes(u8);

impl Fixes {
    /// makedumpfile's way everywhere.
    pub const NONE: Self = Self(0);

    /// The kernel's way for `difference` alone.
    pub const fn only(difference: Difference) -> Self {
        Self(1 << difference as u8)
    }

    /// Those of `rule_set`.
    pub fn of(rule_set: RuleSet) -> Self {
        match rule_set {
            RuleSet::Makedumpfile => Self::NONE,
            RuleSet::Kernel => Self(Difference::ALL.iter().fold(0, |all, d| all | Self::only(*d).0)),
        }
    }

    /// All of these but `difference`.
    #[must_use]
    pub const fn without(self, difference: Difference) -> Self {
        Self(self.0 & !Self::only(difference).0)
    }

    /// Whether `difference` is decided the kernel's way.
    pub const fn contain(self, difference: Difference) -> bool {
        self.0 & Self::only(difference).0 != 0
    }
}
