//! What a single `struct page` says about its page: the rules.
//!
//! The order of the rules and each predicate are makedumpfile's (`__exclude_unnecessary_pages`, version 1.7.9). The
//! differences between the two rule sets are resolved into masks when the rules are set up, so that the scan runs
//! the same code for both.

mod batch;

pub use batch::Batch;

use crate::addr::Pfn;
use crate::layout::{CompoundPages, FreePages, KernelLayout, TailField};
use crate::level::{DumpLevel, PageClass, RuleSet};
use crate::memory::u64_at;
use crate::vmcoreinfo::Release;
use batch::Batchable;

/// Orders of compound pages up to this are believed: 2^30 frames are 4 TiB. makedumpfile shifts a 32-bit 1 by the
/// order, which beyond 30 has no meaningful result.
pub const MAX_COMPOUND_ORDER: u32 = 30;

/// Frames whose `struct page`s makedumpfile reads at once. The last of such a block is never taken for a compound
/// page of more than one page, since its first tail is in the next block.
pub const BLOCK_FRAMES: u64 = 512;

/// A test of a word: `word & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    mask: u64,
    value: u64,
}

impl Test {
    /// Holds for no word.
    const NEVER: Self = Self { mask: 0, value: 1 };

    /// Holds for words that have all of these bits.
    const fn all_of(bits: u64) -> Self {
        Self { mask: bits, value: bits }
    }

    const fn holds(self, word: u64) -> bool {
        word & self.mask == self.value
    }
}

/// The rules for one kernel, dump level and rule set, resolved into what the scan needs for each page.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    level: DumpLevel,
    rule_set: RuleSet,
    size: usize,
    flags_at: usize,
    mapping_at: usize,
    mapcount_at: Option<usize>,
    private_at: Option<usize>,
    head_at: Option<usize>,
    used: UsedPages,
    slab_flag: u64,
    head: u64,
    hwpoison: u64,
    slab: Test,
    buddy: Test,
    buddy_flag: u64,
    unaccepted: Test,
    offline: Test,
    compound: CompoundPages,
    hugetlb: Test,
    free_area_length: u32,
    batch: Option<Batchable>,
}

/// The rules for pages that processes and files use, which are most pages of a busy machine: for 64 at once, one in
/// each bit.
#[derive(Clone, Copy, Debug)]
struct UsedPages {
    lru: u64,
    /// A swap cache page off the LRU. `PG_swapcache` shares its bit with another flag since 4.10 and means swap cache
    /// only together with `PG_swapbacked`.
    swap: Test,
    private: u64,
    /// All ones for the classes that go, as the dump level says.
    cache_goes: u64,
    private_goes: u64,
    user_goes: u64,
}

/// Which of 64 pages go, by their class. No page has two.
#[derive(Clone, Copy, Debug)]
struct UsedPagesOut {
    cache: u64,
    private: u64,
    user: u64,
}

impl UsedPagesOut {
    /// Those that go.
    fn any(self) -> u64 {
        self.cache | self.private | self.user
    }
}

impl UsedPages {
    fn new(layout: &KernelLayout, level: DumpLevel) -> Self {
        let goes = |class: PageClass| if class.left_out_at(level) { u64::MAX } else { 0 };
        Self {
            lru: layout.flags.lru,
            swap: Test::all_of(layout.flags.swapcache | layout.flags.swapbacked.unwrap_or(0)),
            private: layout.flags.private,
            cache_goes: goes(PageClass::Cache),
            private_goes: goes(PageClass::CachePrivate),
            user_goes: goes(PageClass::User),
        }
    }

    /// Whether a page belongs to a file or to swap, if it isn't anonymous.
    #[inline(always)]
    fn is_cache(&self, flags: u64) -> bool {
        (flags & self.lru != 0) | self.swap.holds(flags)
    }

    /// Whether a cache page has private data.
    #[inline(always)]
    fn is_private(&self, flags: u64) -> bool {
        flags & self.private != 0
    }

    /// What goes of the pages whose bits are set in these.
    #[inline(always)]
    fn out(&self, cache: u64, private: u64, anon: u64) -> UsedPagesOut {
        let cache = cache & !anon;
        UsedPagesOut {
            cache: cache & !private & self.cache_goes,
            private: cache & private & self.private_goes,
            user: anon & self.user_goes,
        }
    }
}

/// What the rules say about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Keep,
    /// Keep it: marked free, but of an order that no free block has. makedumpfile warns about these.
    KeepBadOrder,
    /// Leave it out, with the frames that follow it.
    Exclude {
        /// What it is used for.
        class: PageClass,
        /// How many frames, it included.
        frames: u64,
    },
}

/// What a compound page's head and first tail say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compound {
    /// Its order; 0 for a page that is not a head, or whose order can't be.
    pub order: u32,
    /// Whether it belongs to hugetlb.
    pub hugetlb: bool,
}

impl Rules {
    /// The rules of `rule_set` at `level`, for a kernel of this layout.
    pub fn new(layout: &KernelLayout, level: DumpLevel, rule_set: RuleSet) -> Self {
        let free = level.contains(DumpLevel::FREE);
        let kernel = rule_set == RuleSet::Kernel;
        let typed =
            |value: Option<u32>| value.map_or(Test::NEVER, |v| type_test(layout.release, rule_set, v));
        let (buddy, buddy_flag) = match layout.free {
            FreePages::Type(value) if free => (typed(Some(value)), 0),
            FreePages::Flag(mask) if free => (Test::NEVER, mask),
            _ => (Test::NEVER, 0),
        };
        // Kernels without PG_slab have another flag at the bit that makedumpfile takes for it: PG_waiters.
        let slab_flag = if kernel && layout.types.slab.is_some() && !layout.flags.slab_exported {
            0
        } else {
            layout.flags.slab
        };
        let hugetlb = match layout.compound {
            CompoundPages::TypedHugetlb { hugetlb } => typed(Some(hugetlb)),
            _ => Test::NEVER,
        };
        let rules = Self {
            level,
            rule_set,
            size: layout.page.size,
            flags_at: layout.page.flags,
            mapping_at: layout.page.mapping,
            mapcount_at: layout.page.mapcount,
            private_at: layout.page.private,
            head_at: layout.page.compound_head,
            used: UsedPages::new(layout, level),
            slab_flag,
            head: layout.flags.head,
            hwpoison: layout.flags.hwpoison.unwrap_or(0),
            slab: typed(layout.types.slab),
            buddy,
            buddy_flag,
            unaccepted: if free { typed(layout.types.unaccepted) } else { Test::NEVER },
            offline: typed(layout.types.offline),
            compound: compound_rule(layout, rule_set),
            hugetlb,
            free_area_length: layout.free_area_length,
            batch: None,
        };
        Self { batch: Batchable::new(layout, &rules), ..rules }
    }

    /// Whether any rule can find anything: at levels 0 and 1 makedumpfile looks at `struct page`s only if the kernel
    /// exports `PG_hwpoison`, at 16 and 17 also if they tell of free pages.
    pub fn need_scan(&self) -> bool {
        self.level.intersects(DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE | DumpLevel::USER)
            || self.hwpoison != 0
            || self.buddy != Test::NEVER
            || self.buddy_flag != 0
    }

    /// `sizeof(struct page)` in bytes.
    pub fn page_size(&self) -> usize {
        self.size
    }

    /// The rule set these rules belong to.
    pub fn rule_set(&self) -> RuleSet {
        self.rule_set
    }

    /// Decides about frame `pfn`, whose `struct page` is `page`; `next` is the one behind it.
    #[inline]
    pub fn decide(&self, pfn: Pfn, page: &[u8], next: Option<&[u8]>) -> Verdict {
        let word = |at: Option<usize>| at.and_then(|at| u64_at(page, at)).unwrap_or(0);
        // A tail page: if it goes, it went with its head.
        if word(self.head_at) & 1 != 0 {
            return Verdict::Keep;
        }
        let flags = word(Some(self.flags_at));
        let mapcount = self.mapcount_at.and_then(|at| u32_at(page, at)).map_or(0, u64::from);
        let slab = self.is_slab(flags, mapcount);
        if (self.buddy.holds(mapcount) && !slab) || flags & self.buddy_flag != 0 {
            let order = word(self.private_at);
            if order >= u64::from(self.free_area_length) {
                return Verdict::KeepBadOrder;
            }
            return Verdict::Exclude { class: PageClass::Free, frames: 1 << order };
        }
        if self.unaccepted.holds(mapcount) {
            // Pages wait to be accepted in blocks of the largest order only (mm/page_alloc.c, 6.16).
            let frames = 1 << self.free_area_length.saturating_sub(1);
            return Verdict::Exclude { class: PageClass::Unaccepted, frames };
        }
        let anon = word(Some(self.mapping_at)) & 1 != 0 && !slab;
        let compound = || self.compound(pfn, flags, mapcount, next);
        let (cache, private) = (self.used.is_cache(flags), self.used.is_private(flags));
        let out = self.used.out(cache.into(), private.into(), anon.into());
        let class = if out.cache != 0 {
            PageClass::Cache
        } else if out.private != 0 {
            PageClass::CachePrivate
        } else if out.user != 0 || self.level.contains(DumpLevel::USER) && compound().hugetlb {
            PageClass::User
        } else if flags & self.hwpoison != 0 {
            PageClass::Hwpoison
        } else if self.offline.holds(mapcount) && !slab {
            PageClass::Offline
        } else {
            return Verdict::Keep;
        };
        Verdict::Exclude { class, frames: 1 << compound().order }
    }

    #[inline(always)]
    fn is_slab(&self, flags: u64, mapcount: u64) -> bool {
        self.slab.holds(mapcount) | (flags & self.slab_flag != 0)
    }

    /// Whether a head tells by itself that it belongs to hugetlb, or no one asks.
    fn heads_tell_hugetlb(&self) -> bool {
        matches!(self.compound, CompoundPages::TypedHugetlb { .. }) || !self.level.contains(DumpLevel::USER)
    }

    /// The order of the compound page that `pfn` heads, and whether it belongs to hugetlb. A head in the last place
    /// of a block, and one without a struct page behind it, count as single pages.
    #[inline]
    pub fn compound(&self, pfn: Pfn, flags: u64, mapcount: u64, next: Option<&[u8]>) -> Compound {
        let last_of_block = pfn.as_u64() % BLOCK_FRAMES == BLOCK_FRAMES.wrapping_sub(1);
        let (false, Some(tail)) = (flags & self.head == 0 || last_of_block, next) else {
            return Compound::default();
        };
        let tail_flags = || u64_at(tail, self.flags_at).unwrap_or(0);
        let (order, hugetlb) = match self.compound {
            CompoundPages::TypedHugetlb { .. } => (tail_flags() & 0xff, self.hugetlb.holds(mapcount)),
            CompoundPages::FlaggedHugetlb { hugetlb } => (tail_flags() & 0xff, tail_flags() & hugetlb != 0),
            CompoundPages::Destructor { order, dtor, hugetlb_dtor, free_huge_page } => {
                let order = order.map_or(0, |field| tail_value(tail, field));
                // An unknown destructor reads as 0, and 0 is compared like any other.
                let dtor = dtor.map_or(0, |field| tail_value(tail, field));
                (order, hugetlb_dtor == Some(dtor) || free_huge_page == Some(dtor))
            }
        };
        let believable = order <= u64::from(MAX_COMPOUND_ORDER) && pfn.is_aligned(order as u32);
        let order = if believable { order as u32 } else { 0 };
        // A flag of the first tail is also set by chance in compound pages that are no folios; hugetlb's have one of
        // two orders.
        let by_chance = self.rule_set == RuleSet::Kernel
            && matches!(self.compound, CompoundPages::FlaggedHugetlb { .. })
            && order != 9
            && order != 18;
        Compound { order, hugetlb: hugetlb && !by_chance }
    }
}

/// The test for a page type. makedumpfile compares the whole word; the kernel, since 6.12, its top byte only, since
/// the rest belongs to the type's owner (PGTY_mapcount_underflow in include/linux/page-flags.h).
fn type_test(release: Release, rule_set: RuleSet, value: u32) -> Test {
    let top_byte_only =
        rule_set == RuleSet::Kernel && release >= Release::new(6, 12, 0) && value & 0xff_ffff == 0;
    Test { mask: if top_byte_only { 0xff00_0000 } else { 0xffff_ffff }, value: value.into() }
}

/// How compound pages are recognised. Kernels 6.6 to 6.8 without hugetlb export nothing about the order, which is
/// in the low byte of the first tail's flags all the same.
fn compound_rule(layout: &KernelLayout, rule_set: RuleSet) -> CompoundPages {
    match layout.compound {
        CompoundPages::Destructor { order: None, dtor: None, .. }
            if rule_set == RuleSet::Kernel && layout.release >= Release::new(6, 6, 0) =>
        {
            CompoundPages::FlaggedHugetlb { hugetlb: 0 }
        }
        rule => rule,
    }
}

#[inline]
fn tail_value(tail: &[u8], field: TailField) -> u64 {
    match field.width {
        1 => tail.get(field.offset).copied().map(u64::from),
        2 => {
            tail.get(field.offset..).and_then(|b| b.first_chunk()).map(|b| u64::from(u16::from_le_bytes(*b)))
        }
        _ => u64_at(tail, field.offset),
    }
    .unwrap_or(0)
}

#[inline]
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
