//! Decides the pages of one bitmap word at once.
//!
//! The scan of a busy machine spends most of its time here. The decisions that nearly all pages need have no branches,
//! so adjacent pages of different kinds cause no mispredictions. The remaining pages are decided one by one, by
//! [`Predicates::decide`].

use super::level::{FramesByClass, PageClass};
use super::predicates::{Decision, Predicates, Test};
use crate::addr::Pfn;
use crate::arch::prefetch;
use crate::kernel::layout::KernelLayout;

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

/// Size of the `struct page` that batches support, in bytes. Nearly all kernels since 4.18 have this layout.
const SIZE: usize = 64;
/// Pages that are processed without a branch. A batch consists of whole groups.
const GROUP: usize = 8;
/// Field offsets of that `struct page`, in bytes. The fields lie in one cache line.
const FLAGS: usize = 0;
const COMPOUND_HEAD: usize = 8;
const MAPPING: usize = 24;
const MAPCOUNT: usize = 48;

/// The rules in the form that batches use.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchTables {
    flags: FlagTable,
    types: TypeSet,
}

impl BatchTables {
    /// The tables of `rules`, for a kernel with `layout`; `None` if batches do not support the layout or the rules.
    pub(super) fn new(layout: &KernelLayout, rules: &Predicates) -> Option<Self> {
        let page = &layout.page;
        let is_supported = page.size == SIZE
            && page.flags == FLAGS
            && page.compound_head == Some(COMPOUND_HEAD)
            && page.mapping == MAPPING
            && page.mapcount == Some(MAPCOUNT);
        // All of these kernels mark free pages by a type.
        if !is_supported || rules.buddy_flag != 0 {
            return None;
        }
        let types = [rules.slab, rules.buddy, rules.unaccepted, rules.offline, rules.hugetlb];
        let is_type = |test: Test| {
            let (first, last) = (test.value as u32, (test.value | !test.mask) as u32);
            test == Test::NEVER || may_be_type(first) && may_be_type(last)
        };
        if !types.into_iter().all(is_type) {
            return None;
        }
        let used = &rules.used;
        let rare = rules.hwpoison | rules.slab_flag;
        let mask = used.lru | used.swap.mask | used.private | rules.head | rare;
        let flags = FlagTable::new(mask, |flags| FlagProperties {
            cache: used.is_cache(flags),
            private: used.is_private(flags),
            head: flags & rules.head != 0,
            rare: flags & rare != 0,
        })?;
        let types = TypeSet::of([rules.buddy, rules.unaccepted, rules.offline, rules.hugetlb]);
        Some(Self { flags, types })
    }
}

/// A set of page types, as a bit per hash value. There are 64 hash values, so a few other types collide with a member.
#[derive(Clone, Copy, Debug)]
struct TypeSet {
    /// The bits that the tests of all members compare.
    mask: u64,
    slots: u64,
}

impl TypeSet {
    fn of(types: [Test; 4]) -> Self {
        let types = types.into_iter().filter(|test| *test != Test::NEVER);
        let mask = types.clone().fold(u64::from(u32::MAX), |mask, test| mask & test.mask);
        let slots = types.fold(0, |slots, test| slots | 1 << Self::slot(test.value & mask));
        Self { mask, slots }
    }

    /// Knuth's multiplicative hash.
    #[inline(always)]
    fn slot(mapcount: u64) -> u32 {
        (mapcount as u32).wrapping_mul(0x9e37_79b1) >> 26
    }

    /// 1 if the type of `page` may be in the set, else 0.
    #[inline(always)]
    fn may_contain(&self, page: &[u8; SIZE]) -> u64 {
        self.slots >> Self::slot(word::<MAPCOUNT>(page) & self.mask) & 1
    }
}

/// Whether a value of `_mapcount` can be a page type. A count of mappings is at least -1.
const fn may_be_type(mapcount: u32) -> bool {
    mapcount.wrapping_add(1) >> 31 != 0
}

/// [`may_be_type`] of `page`, as 0 or 1. The field is in the upper half of an aligned word, so that an addition and a
/// shift suffice.
#[inline(always)]
fn type_mask(page: &[u8; SIZE]) -> u64 {
    word::<{ MAPCOUNT - 4 }>(page).wrapping_add(1 << 32) >> 63
}

/// The properties of a page that follow from its flags.
#[derive(Clone, Copy, Debug)]
struct FlagProperties {
    cache: bool,
    private: bool,
    head: bool,
    /// The page has a rare flag that other rules test: `PG_hwpoison`, `PG_slab`.
    rare: bool,
}

/// A lookup table from the flags of a page to its properties, without branches. A multiplication gathers the relevant
/// flags into an index (a perfect hash).
#[derive(Clone, Copy, Debug)]
struct FlagTable {
    mask: u64,
    multiplier: u64,
    /// For each set of flags, four bits of properties: cache, private, head, rare. [`SPREAD`] expands them to four
    /// bytes.
    properties: [u8; Self::LEN],
}

/// Expands four bits: bit `i` becomes the highest bit of byte `i`. Eight such words, each shifted right by one before
/// the next is added, give one byte per property.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, which checks the index")]
const SPREAD: &[u32; 16] = &{
    let mut spread = [0; 16];
    let mut bits: u32 = 0;
    while bits < 16 {
        spread[bits as usize] = (bits & 1) << 7 | (bits & 2) << 14 | (bits & 4) << 21 | (bits & 8) << 28;
        bits += 1;
    }
    spread
};

impl FlagTable {
    /// The largest number of flags in a table.
    const MAX_FLAGS: u32 = 8;
    const LEN: usize = 1 << Self::MAX_FLAGS;
    /// Number of multipliers that are tried. For each kernel since 4.18, one of the first few hundred is suitable.
    const TRIES: u32 = 1 << 14;

    /// The table for the flags in `mask`; `None` if there are too many flags, or if no multiplier is suitable.
    fn new(mask: u64, properties_of: impl Fn(u64) -> FlagProperties) -> Option<Self> {
        if mask.count_ones() > Self::MAX_FLAGS {
            return None;
        }
        let multiplier = multipliers().take(Self::TRIES as usize).find(|by| is_perfect_hash(mask, *by))?;
        let mut table = Self { mask, multiplier, properties: [0; Self::LEN] };
        for flags in subsets(mask) {
            let FlagProperties { cache, private, head, rare } = properties_of(flags);
            if let Some(slot) = table.properties.get_mut(index(flags, multiplier)) {
                *slot = [rare, head, private, cache].into_iter().fold(0, |all, bit| all << 1 | u8::from(bit));
            }
        }
        Some(table)
    }

    /// The properties of `page`: the highest bits of four bytes (see [`SPREAD`]).
    #[inline(always)]
    fn properties(&self, page: &[u8; SIZE]) -> u32 {
        let at = index(word::<FLAGS>(page) & self.mask, self.multiplier);
        let properties = self.properties.get(at).map_or(0, |properties| properties & 15);
        SPREAD.get(usize::from(properties)).copied().unwrap_or(0)
    }
}

/// The index of a set of flags in a table.
#[inline(always)]
fn index(flags: u64, multiplier: u64) -> usize {
    (flags.wrapping_mul(multiplier) >> 64_u32.wrapping_sub(FlagTable::MAX_FLAGS)) as usize
}

/// Whether `multiplier` gives each subset of `mask` an index of its own.
fn is_perfect_hash(mask: u64, multiplier: u64) -> bool {
    let mut taken = [false; FlagTable::LEN];
    subsets(mask).all(|flags| {
        taken.get_mut(index(flags, multiplier)).is_some_and(|taken| !core::mem::replace(taken, true))
    })
}

/// All subsets of the bits of `mask`.
fn subsets(mask: u64) -> impl Iterator<Item = u64> {
    let mut next = Some(0);
    core::iter::from_fn(move || {
        let set: u64 = next?;
        // The bits outside the mask are set, so the carry passes them.
        next = Some((set | !mask).wrapping_add(1) & mask).filter(|next| *next != 0);
        Some(set)
    })
}

/// A fixed sequence of pseudo-random numbers with few bits set. Such multipliers gather bits well.
fn multipliers() -> impl Iterator<Item = u64> {
    let mut state: u64 = 1;
    let mut random = move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    core::iter::repeat_with(move || random() & random() & random())
}

/// The decisions about the pages of one bitmap word, or about the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageBatch {
    /// Number of pages that are decided.
    pub pages: u32,
    /// The excluded pages. Bit 0 of each mask stands for a frame that is a multiple of 64.
    pub excluded: FramesByClass,
    /// The pages that are kept because they are marked free but have an order that is out of range.
    pub bad_orders: u64,
    /// A block of excluded frames that starts after these pages and may end after the bitmap word: its class and its
    /// number of frames.
    pub block: Option<(PageClass, u64)>,
}

/// Properties of the pages of one bitmap word. Each page has the bit of its frame.
#[derive(Clone, Copy, Debug, Default)]
struct PageMasks {
    cache: u64,
    private: u64,
    anon: u64,
    /// Tail pages. The decision about the head includes them.
    tail: u64,
    /// Heads of compound pages.
    head: u64,
    /// Pages with a type or a rare flag, which other rules test.
    special: u64,
}

impl BatchTables {
    /// See [`Rules::decide_batch`](super::Rules::decide_batch). Without `tables`, decides one page.
    #[inline]
    pub(super) fn decide(
        tables: Option<&Self>,
        predicates: &Predicates,
        pfn: Pfn,
        count: u64,
        pages: &[u8],
        batch: &mut PageBatch,
    ) {
        (batch.pages, batch.bad_orders, batch.block) = (0, 0, None);
        batch.excluded.fill(0);
        let first_bit = (pfn.as_u64() & 63) as u32;
        let room = 64_u64.wrapping_sub(first_bit.into()).min(count);
        let wanted = pages.get(..(room as usize).wrapping_mul(SIZE)).unwrap_or(pages);
        let (groups, _) = wanted.as_chunks::<SIZE>().0.as_chunks::<GROUP>();
        let (Some(tables), Some([first, ..])) = (tables, groups.first()) else {
            if let Some(decision) = decide_unbatched(predicates, pfn, pages) {
                batch.pages = 1;
                batch.record(decision, first_bit, first_bit);
            }
            return;
        };
        let (pages, _) = pages.as_chunks::<SIZE>();
        // A large block is usually followed by another large block. Only its first struct page needs to be read.
        if tables.may_be_block(predicates, first)
            && let Decision::Exclude { class, frames } = decide_one(predicates, pfn, pages, 0)
            && frames >= room
        {
            batch.block = Some((class, equal_blocks(predicates, pfn, count, pages, class, frames)));
            return;
        }
        batch.pages = groups.as_flattened().len() as u32;
        let masks = tables.masks(groups, first_bit);
        let special = masks.special & !masks.tail;
        // A special page with the anon bit is not always anonymous: slab uses the field `mapping` for other data.
        let candidates = tables.rule_candidates(predicates, groups.as_flattened(), special, first_bit)
            | special & masks.anon;
        let used =
            |among: u64| predicates.used.excluded(masks.cache & among, masks.private, masks.anon & among);
        // The head of an excluded compound page determines how many frames are excluded.
        let heads =
            masks.head & if predicates.head_identifies_hugetlb() { used(u64::MAX).all() } else { u64::MAX };
        let single = (candidates | heads) & !masks.tail;
        let undecided = decide_each(predicates, pfn, pages, single, batch) & !single & !masks.tail;
        let used = used(undecided);
        batch.add(PageClass::Cache, used.cache);
        batch.add(PageClass::CachePrivate, used.private);
        batch.add(PageClass::User, used.user);
    }

    /// Whether `page` may be the first page of a large excluded block.
    #[inline(always)]
    fn may_be_block(&self, predicates: &Predicates, page: &[u8; SIZE]) -> bool {
        let flags = self.flags.properties(page);
        // Of the heads, only those of cache and anonymous pages, if the head identifies hugetlb: the kernel's own
        // compound pages are many and small.
        let used =
            if predicates.head_identifies_hugetlb() { flags >> 7 | word::<MAPPING>(page) as u32 } else { 1 };
        self.types.may_contain(page) | u64::from(flags >> 23 & used & 1) != 0
    }

    /// The pages in `mask` that may have a type or a flag that a rule tests. `first_bit` is the bit of the first of
    /// `pages`.
    #[inline(never)]
    fn rule_candidates(
        &self,
        predicates: &Predicates,
        pages: &[[u8; SIZE]],
        mut mask: u64,
        first_bit: u32,
    ) -> u64 {
        let mut candidates = 0;
        while mask != 0 {
            let bit = mask.trailing_zeros();
            if let Some(page) = pages.get(bit.wrapping_sub(first_bit) as usize) {
                let is_poisoned = u64::from(word::<FLAGS>(page) & predicates.hwpoison != 0);
                candidates |= (self.types.may_contain(page) | is_poisoned) << bit;
            }
            mask &= mask.wrapping_sub(1);
        }
        candidates
    }

    /// The properties of at most 64 pages, in groups. `first_bit` is the bit of the first page. This is the hot loop of
    /// a scan.
    #[inline(never)]
    fn masks(&self, groups: &[[[u8; SIZE]; GROUP]], first_bit: u32) -> PageMasks {
        let (mut masks, mut typed) = (PageMasks::default(), 0);
        for group in groups {
            let mut flags = 0_u32;
            for page in group {
                prefetch::to_l2::<PREFETCH_L2>(page.as_ptr());
                prefetch::to_l1::<PREFETCH_L1>(page.as_ptr());
                // Later pages have higher bits.
                flags = flags >> 1 | self.flags.properties(page);
                masks.anon = masks.anon >> 1 | word::<MAPPING>(page) << 63;
                masks.tail = masks.tail >> 1 | word::<COMPOUND_HEAD>(page) << 63;
                typed = typed << 1 | type_mask(page);
            }
            let [cache, private, head, rare] = flags.to_le_bytes().map(u64::from);
            let all = [&mut masks.cache, &mut masks.private, &mut masks.head, &mut masks.special];
            for (mask, bits) in all.into_iter().zip([cache, private, head, rare]) {
                // The lowest byte is empty: there are at most eight groups.
                *mask = (*mask | bits).rotate_right(8);
            }
        }
        // In `typed` the last page has the lowest bit.
        masks.special |= typed.reverse_bits();
        // In the masks the last page has the highest bit. Shift each page to the bit of its frame.
        let end_bit = first_bit.wrapping_add(groups.as_flattened().len() as u32);
        let align = |bits: u64| bits >> (64_u32.wrapping_sub(end_bit) & 63);
        PageMasks {
            cache: align(masks.cache),
            private: align(masks.private),
            anon: align(masks.anon),
            tail: align(masks.tail),
            head: align(masks.head),
            special: align(masks.special),
        }
    }
}

/// The number of frames of the consecutive blocks at the start of `pages` that are like the first one: of `class`, with
/// `frames` frames each. `count` is as for a batch. The location of the next block does not depend on the contents of
/// the current one, so the processor reads several blocks in parallel.
#[inline(never)]
fn equal_blocks(
    predicates: &Predicates,
    pfn: Pfn,
    count: u64,
    pages: &[[u8; SIZE]],
    class: PageClass,
    frames: u64,
) -> u64 {
    let first = Decision::Exclude { class, frames };
    let ahead = (frames as usize).wrapping_mul(SIZE * PREFETCH_BLOCKS);
    let mut end = 0;
    while let Some([page, rest @ ..]) = pages.get(end as usize..).filter(|_| end < count) {
        prefetch::to_l2::<0>(page.as_ptr().wrapping_add(ahead));
        let next = rest.first().map(|page| &page[..]);
        if end > 0 && predicates.decide(pfn.saturating_add(end), page, next) != first {
            break;
        }
        end = end.saturating_add(frames);
    }
    // The batches after the blocks read every cache line, and the first lines have not been prefetched.
    let rest = pages.get(end as usize..).unwrap_or(&[]);
    if rest.first().is_some_and(|page| type_mask(page) == 0) {
        rest.iter().take(PREFETCH_L2 / SIZE).for_each(|page| prefetch::to_l2::<0>(page.as_ptr()));
    }
    end.max(frames)
}

/// Decides the pages in `mask` one by one. The first of `pages` is the `struct page` of `pfn`. Returns the mask of all
/// frames that these decisions did not exclude.
#[inline(never)]
fn decide_each(
    predicates: &Predicates,
    pfn: Pfn,
    pages: &[[u8; SIZE]],
    mut mask: u64,
    batch: &mut PageBatch,
) -> u64 {
    let first_bit = (pfn.as_u64() & 63) as u32;
    let mut undecided = u64::MAX;
    while mask != 0 {
        let bit = mask.trailing_zeros();
        let decision = decide_one(predicates, pfn, pages, bit.wrapping_sub(first_bit));
        undecided &= !batch.record(decision, bit, first_bit);
        mask &= mask.wrapping_sub(1) & undecided;
    }
    undecided
}

/// [`Predicates::decide`] for the first of `pages`, if there are no tables; `None` if `pages` is empty.
#[inline(never)]
fn decide_unbatched(predicates: &Predicates, pfn: Pfn, pages: &[u8]) -> Option<Decision> {
    let (page, rest) = pages.split_at_checked(predicates.size)?;
    Some(predicates.decide(pfn, page, rest.get(..predicates.size)))
}

/// [`Predicates::decide`] for page `index` of `pages`. `#[inline(never)]` keeps it out of the callers' loops.
#[inline(never)]
fn decide_one(predicates: &Predicates, first: Pfn, pages: &[[u8; SIZE]], index: u32) -> Decision {
    let mut pages = pages.get(index as usize..).unwrap_or(&[]).iter();
    let Some(page) = pages.next() else { return Decision::Keep };
    predicates.decide(first.saturating_add(index.into()), page, pages.next().map(|page| &page[..]))
}

impl PageBatch {
    /// Records the decision about the page at `bit` of its word. `first_bit` is the bit of the batch's first page. If
    /// the decision covers more frames than the batch, the batch ends before that page. Returns the mask of the pages
    /// that need no other decision.
    fn record(&mut self, decision: Decision, bit: u32, first_bit: u32) -> u64 {
        match decision {
            Decision::Keep => 0,
            Decision::KeepBadOrder => {
                self.bad_orders |= 1 << (bit & 63);
                0
            }
            Decision::Exclude { class, frames } => {
                let before = bit.wrapping_sub(first_bit);
                if frames > u64::from(self.pages.wrapping_sub(before)) {
                    self.pages = before;
                    self.block = Some((class, frames));
                    return u64::MAX << (bit & 63);
                }
                let excluded = u64::MAX >> (64_u64.wrapping_sub(frames) & 63) << (bit & 63);
                self.add(class, excluded);
                excluded
            }
        }
    }

    fn add(&mut self, class: PageClass, mask: u64) {
        if let Some(excluded) = self.excluded.get_mut(class as usize) {
            *excluded |= mask;
        }
    }
}

/// The 64-bit word at offset `AT`.
#[inline(always)]
fn word<const AT: usize>(page: &[u8; SIZE]) -> u64 {
    const { assert!(AT + 8 <= SIZE) };
    page.get(AT..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Prefetch distance into L2, in bytes: covers the latency of memory.
const PREFETCH_L2: usize = 8 << 10;
/// Prefetch distance from L2 into L1, in bytes.
const PREFETCH_L1: usize = 2 << 10;
/// Prefetch distance in equal blocks.
const PREFETCH_BLOCKS: usize = 12;
