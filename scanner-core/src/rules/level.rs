//! Dump levels, page classes, rule sets and counters.

use crate::addr::{Pfn, PfnRange};
use crate::bitmap::runs_of;
use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// A dump level: the kinds of pages that a dump excludes. The bits are those of makedumpfile's `-d`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DumpLevel: u8 {
        /// Pages that hold only zeros. A scan does not find them: it does not read page contents.
        const ZERO = 1;
        /// Cache pages without private data.
        const CACHE = 2;
        /// Cache pages with private data, and those without (4 implies 2).
        const CACHE_PRIVATE = 4;
        /// Pages of user processes: anonymous memory and hugetlb pages.
        const USER = 8;
        /// Free pages.
        const FREE = 16;
    }
}

impl DumpLevel {
    /// The dump level `level`; `None` if it is greater than 31.
    pub fn from_number(level: u64) -> Option<Self> {
        u8::try_from(level).ok().and_then(Self::from_bits)
    }
}

/// The rules that decide about pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleSet {
    /// makedumpfile's rules, bit for bit.
    #[default]
    Makedumpfile = 0,
    /// The kernel's own predicates where makedumpfile's rules differ from them.
    Kernel = 1,
}

impl RuleSet {
    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Makedumpfile => "makedumpfile",
            Self::Kernel => "kernel",
        }
    }
}

/// The use of a page that can be excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageClass {
    /// Free, in the buddy allocator.
    Free = 0,
    /// Free, and not yet accepted from the hypervisor (TDX, SEV-SNP). makedumpfile counts these pages as free.
    Unaccepted = 1,
    /// Page cache or shared memory without private data.
    Cache = 2,
    /// Page cache with private data (buffer heads and the like).
    CachePrivate = 3,
    /// Anonymous memory or hugetlb.
    User = 4,
    /// Poisoned by a memory error.
    Hwpoison = 5,
    /// Logically offline (balloon, virtio-mem).
    Offline = 6,
}

impl PageClass {
    /// All classes.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Unaccepted,
        Self::Cache,
        Self::CachePrivate,
        Self::User,
        Self::Hwpoison,
        Self::Offline,
    ];

    /// Whether a dump at `level` excludes pages of this class.
    pub fn is_excluded_at(self, level: DumpLevel) -> bool {
        match self {
            Self::Free | Self::Unaccepted => level.contains(DumpLevel::FREE),
            Self::Cache => level.intersects(DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE),
            Self::CachePrivate => level.contains(DumpLevel::CACHE_PRIVATE),
            Self::User => level.contains(DumpLevel::USER),
            // At every level: poisoned pages must not be read, and offline pages have no useful contents.
            Self::Hwpoison | Self::Offline => true,
        }
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Unaccepted => "unaccepted",
            Self::Cache => "cache",
            Self::CachePrivate => "cache_private",
            Self::User => "user",
            Self::Hwpoison => "hwpoison",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for PageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mask of 64 frames for each page class.
pub type FramesByClass = [u64; PageClass::ALL.len()];

/// The runs of adjacent frames in each mask, as ranges, class by class. Bit `i` stands for frame `first + i`.
pub fn runs_by_class(first: Pfn, masks: &FramesByClass) -> impl Iterator<Item = (PfnRange, PageClass)> {
    let classes = PageClass::ALL.iter().zip(masks);
    classes.flat_map(move |(class, mask)| runs_of(first, *mask).map(|frames| (frames, *class)))
}

/// Excluded pages per class. A page counts once, when its bit changes from 1 to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; PageClass::ALL.len()]);

impl Counters {
    /// Number of pages of `class`.
    pub fn get(&self, class: PageClass) -> u64 {
        self.0.get(class as usize).copied().unwrap_or(0)
    }

    /// Adds `pages` to the count of `class`.
    pub fn add(&mut self, class: PageClass, pages: u64) {
        if let Some(counter) = self.0.get_mut(class as usize) {
            *counter = counter.saturating_add(pages);
        }
    }

    /// Clears the bits of `masks` in `word`, class by class, and counts the bits that were set.
    #[inline]
    pub fn clear(&mut self, word: &mut u64, masks: &FramesByClass) {
        for (counter, mask) in self.0.iter_mut().zip(masks).filter(|(_, mask)| **mask != 0) {
            let cleared = *word & mask;
            *word ^= cleared;
            *counter = counter.saturating_add(cleared.count_ones().into());
        }
    }

    /// Number of pages of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
