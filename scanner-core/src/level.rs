//! Dump levels, page classes, rule sets, and what is counted.

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// A dump level: the classes of pages that a dump leaves out, numbered as makedumpfile's `-d`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DumpLevel: u8 {
        /// Pages of all zero bytes. A scan never looks for them: that takes the pages' contents.
        const ZERO = 1;
        /// Cache pages without private data.
        const CACHE = 2;
        /// Cache pages with private data, and also those without (4 implies 2).
        const CACHE_PRIVATE = 4;
        /// Pages of user processes: anonymous memory and hugetlb pages.
        const USER = 8;
        /// Free pages.
        const FREE = 16;
    }
}

impl DumpLevel {
    /// The level `level`; `None` past 31.
    pub fn from_number(level: u64) -> Option<Self> {
        u8::try_from(level).ok().and_then(Self::from_bits)
    }
}

/// Which rules decide about a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleSet {
    /// makedumpfile's, bit for bit.
    #[default]
    Makedumpfile = 0,
    /// The kernel's own predicates where makedumpfile's differ from them.
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

/// What a page that can be left out is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageClass {
    /// Free, in the buddy allocator.
    Free = 0,
    /// Free, and not accepted from the hypervisor yet (TDX, SEV-SNP); makedumpfile counts it as free.
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
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Unaccepted,
        Self::Cache,
        Self::CachePrivate,
        Self::User,
        Self::Hwpoison,
        Self::Offline,
    ];

    /// Whether a dump at `level` leaves pages of this class out.
    pub fn left_out_at(self, level: DumpLevel) -> bool {
        match self {
            Self::Free | Self::Unaccepted => level.contains(DumpLevel::FREE),
            Self::Cache => level.intersects(DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE),
            Self::CachePrivate => level.contains(DumpLevel::CACHE_PRIVATE),
            Self::User => level.contains(DumpLevel::USER),
            // Of no use, or not to be touched, at any level.
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

/// Some of 64 frames, class by class: one in each bit of the class's word.
pub type FramesByClass = [u64; PageClass::ALL.len()];

/// Pages left out, per class. Each counts once, when its bit goes from 1 to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; PageClass::ALL.len()]);

impl Counters {
    /// Pages of `class`.
    pub fn get(&self, class: PageClass) -> u64 {
        self.0.get(class as usize).copied().unwrap_or(0)
    }

    /// Counts `pages` more of `class`.
    pub fn add(&mut self, class: PageClass, pages: u64) {
        if let Some(counter) = self.0.get_mut(class as usize) {
            *counter = counter.saturating_add(pages);
        }
    }

    /// Clears the bits of `which` in `word`, class by class, and counts those that were set.
    #[inline]
    pub fn clear(&mut self, word: &mut u64, which: &FramesByClass) {
        for (counter, which) in self.0.iter_mut().zip(which).filter(|(_, which)| **which != 0) {
            let cleared = *word & which;
            *word ^= cleared;
            *counter = counter.saturating_add(cleared.count_ones().into());
        }
    }

    /// Pages of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}
