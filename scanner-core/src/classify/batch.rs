//! Many pages at once: those of one word of the bitmap.
//!
//! A busy machine's time goes here. What nearly all pages need is worked out without a branch, so that pages of
//! different kinds side by side cost nothing; the others are decided one by one, by [`Rules::decide`].

use super::{Rules, Test, Verdict};
use crate::addr::Pfn;
use crate::layout::KernelLayout;
use crate::level::{FramesByClass, PageClass};
use crate::prefetch;

#[cfg(test)]
mod tests;

/// Bytes of the `struct page` that can be looked at in batches, as nearly all kernels since 4.18 have it.
const SIZE: usize = 64;
/// Pages that are looked at without a question in between: a batch has some eights of them.
const EIGHT: usize = 8;
/// Where its fields are: those that tell what a page is used for lie in one cache line.
const FLAGS: usize = 0;
const COMPOUND_HEAD: usize = 8;
const MAPPING: usize = 24;
const MAPCOUNT: usize = 48;

/// What can be told of pages in batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batchable {
    flags: FlagTable,
    types: TypeSet,
}

impl Batchable {
    /// What can be told by `rules`, for a kernel of this layout; `None` if it is not the usual one.
    pub(super) fn new(layout: &KernelLayout, rules: &Rules) -> Option<Self> {
        let page = &layout.page;
        let usual = page.size == SIZE
            && page.flags == FLAGS
            && page.compound_head == Some(COMPOUND_HEAD)
            && page.mapping == MAPPING
            && page.mapcount == Some(MAPCOUNT);
        // Free pages have a type in all of these kernels.
        if !usual || rules.buddy_flag != 0 {
            return None;
        }
        let types = [rules.slab, rules.buddy, rules.unaccepted, rules.offline, rules.hugetlb];
        let told = |test: Test| {
            let (first, last) = (test.value as u32, (test.value | !test.mask) as u32);
            test == Test::NEVER || may_be_type(first) && may_be_type(last)
        };
        if !types.into_iter().all(told) {
            return None;
        }
        let used = &rules.used;
        let rare = rules.hwpoison | rules.slab_flag;
        let mask = used.lru | used.swap.mask | used.private | rules.head | rare;
        let flags = FlagTable::new(mask, |flags| FlagSigns {
            cache: used.is_cache(flags),
            private: used.is_private(flags),
            head: flags & rules.head != 0,
            rare: flags & rare != 0,
        })?;
        let types = TypeSet::of([rules.buddy, rules.unaccepted, rules.offline, rules.hugetlb]);
        Some(Self { flags, types })
    }
}

/// Types of pages that rules ask for. Of the others a few look like one of them, since each has one of 64 places.
#[derive(Clone, Copy, Debug)]
struct TypeSet {
    /// The bits that count in all of them.
    mask: u64,
    places: u64,
}

impl TypeSet {
    fn of(types: [Test; 4]) -> Self {
        let types = types.into_iter().filter(|test| *test != Test::NEVER);
        let mask = types.clone().fold(u64::from(u32::MAX), |mask, test| mask & test.mask);
        let places = types.fold(0, |places, test| places | 1 << Self::place(test.value & mask));
        Self { mask, places }
    }

    /// Knuth's multiplicative hash.
    #[inline(always)]
    fn place(mapcount: u64) -> u32 {
        (mapcount as u32).wrapping_mul(0x9e37_79b1) >> 26
    }

    /// 1 if a page may be of one of these types.
    #[inline(always)]
    fn may_have(&self, page: &[u8; SIZE]) -> u64 {
        self.places >> Self::place(word::<MAPCOUNT>(page) & self.mask) & 1
    }
}

/// Whether a number in place of the count of mappings may mark a type of page. The count is never below -1.
const fn may_be_type(mapcount: u32) -> bool {
    mapcount.wrapping_add(1) >> 31 != 0
}

/// [`may_be_type`] of a page, at the lowest bit. It is found in the upper half of a word, so that it takes no more than
/// an addition and a shift.
#[inline(always)]
fn type_sign(page: &[u8; SIZE]) -> u64 {
    word::<{ MAPCOUNT - 4 }>(page).wrapping_add(1 << 32) >> 63
}

/// What the flags of a page say.
#[derive(Clone, Copy, Debug)]
struct FlagSigns {
    cache: bool,
    private: bool,
    head: bool,
    /// Has a flag that few pages have, and that other rules ask for: `PG_hwpoison`, `PG_slab`.
    rare: bool,
}

/// What the flags of a page say, found without a branch: the flags that count are brought together by a multiplication,
/// and looked up.
#[derive(Clone, Copy, Debug)]
struct FlagTable {
    mask: u64,
    multiplier: u64,
    /// For each set of flags its signs, of which [`SPREAD`] makes four bytes: cache, private, head, rare.
    signs: [u8; Self::LEN],
}

/// The lowest four bits of each number, as the highest bits of four bytes: eight of them, each moved down by one when the
/// next is added, make a byte of each sign.
#[expect(clippy::indexing_slicing, reason = "this runs in the compiler, which checks it")]
const SPREAD: &[u32; 16] = &{
    let mut spread = [0; 16];
    let mut signs: u32 = 0;
    while signs < 16 {
        spread[signs as usize] = (signs & 1) << 7 | (signs & 2) << 14 | (signs & 4) << 21 | (signs & 8) << 28;
        signs += 1;
    }
    spread
};

impl FlagTable {
    /// Flags that it can tell apart, at most.
    const FLAGS: u32 = 8;
    const LEN: usize = 1 << Self::FLAGS;
    /// Multipliers that are tried. Of the kernels since 4.18, each has found one after a few hundred.
    const TRIES: u32 = 1 << 14;

    /// The table of the flags of `mask`; `None` if there are too many.
    fn new(mask: u64, signs_of: impl Fn(u64) -> FlagSigns) -> Option<Self> {
        if mask.count_ones() > Self::FLAGS {
            return None;
        }
        let multiplier = multipliers().take(Self::TRIES as usize).find(|by| keeps_apart(mask, *by))?;
        let mut table = Self { mask, multiplier, signs: [0; Self::LEN] };
        for flags in subsets(mask) {
            let FlagSigns { cache, private, head, rare } = signs_of(flags);
            if let Some(place) = table.signs.get_mut(index(flags, multiplier)) {
                *place =
                    [rare, head, private, cache].into_iter().fold(0, |all, sign| all << 1 | u8::from(sign));
            }
        }
        Some(table)
    }

    #[inline(always)]
    fn signs(&self, page: &[u8; SIZE]) -> u32 {
        let at = index(word::<FLAGS>(page) & self.mask, self.multiplier);
        let signs = self.signs.get(at).map_or(0, |signs| signs & 15);
        SPREAD.get(usize::from(signs)).copied().unwrap_or(0)
    }
}

/// Where a set of flags is in a table.
#[inline(always)]
fn index(flags: u64, multiplier: u64) -> usize {
    (flags.wrapping_mul(multiplier) >> 64_u32.wrapping_sub(FlagTable::FLAGS)) as usize
}

/// Whether each set of the flags of `mask` gets a place of its own.
fn keeps_apart(mask: u64, multiplier: u64) -> bool {
    let mut taken = [false; FlagTable::LEN];
    subsets(mask).all(|flags| {
        taken.get_mut(index(flags, multiplier)).is_some_and(|taken| !core::mem::replace(taken, true))
    })
}

/// All sets of the bits of `mask`.
fn subsets(mask: u64) -> impl Iterator<Item = u64> {
    let mut next = Some(0);
    core::iter::from_fn(move || {
        let set: u64 = next?;
        // What is not of the mask carries the one over to its next bit.
        next = Some((set | !mask).wrapping_add(1) & mask).filter(|next| *next != 0);
        Some(set)
    })
}

/// Numbers with few bits set, the same ones each time: the kind that brings bits together.
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

/// What the rules say about the pages of one word of the bitmap, or about the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch {
    /// How many pages have been decided about.
    pub pages: u32,
    /// Which of them are left out, class by class; the lowest bit stands for a frame that is a multiple of 64.
    pub out: FramesByClass,
    /// Which of them are kept as marked free, but of an order that no free block has.
    pub bad_orders: u64,
    /// What is left out from the page behind these on, if that is more than one word of the bitmap has.
    pub block: Option<(PageClass, u64)>,
}

/// What there is to know of the pages of one word of the bitmap, each at the bit of its frame.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    cache: u64,
    private: u64,
    anon: u64,
    /// Tail pages: if they go, they went with their heads.
    tail: u64,
    /// Heads of compound pages.
    head: u64,
    /// Those of which other rules may have something to say.
    special: u64,
}

impl Rules {
    /// Decides about the frames from `pfn` on whose `struct page`s `pages` starts with, at most `count` and at most up
    /// to the next one that is a multiple of 64. It decides about one at least, unless there is none.
    #[inline]
    pub fn decide_batch(&self, pfn: Pfn, count: u64, pages: &[u8], batch: &mut Batch) {
        (batch.pages, batch.bad_orders, batch.block) = (0, 0, None);
        batch.out.fill(0);
        let first_bit = (pfn.as_u64() & 63) as u32;
        let room = 64_u64.wrapping_sub(first_bit.into()).min(count);
        let wanted = pages.get(..(room as usize).wrapping_mul(SIZE)).unwrap_or(pages);
        let (eights, _) = wanted.as_chunks::<SIZE>().0.as_chunks::<EIGHT>();
        let (Some(batchable), Some([first, ..])) = (&self.batch, eights.first()) else {
            if let Some((page, behind)) = pages.split_at_checked(self.size) {
                batch.pages = 1;
                batch.take(self.decide(pfn, page, behind.get(..self.size)), first_bit, first_bit);
            }
            return;
        };
        let (pages, _) = pages.as_chunks::<SIZE>();
        // What follows a large block most often is another one, of whose struct pages only the first is to be touched.
        if self.may_be_block(batchable, first)
            && let Verdict::Exclude { class, frames } = self.decide_other(pfn, pages, 0)
            && frames >= room
        {
            batch.block = Some((class, self.blocks_alike(pfn, count, pages, class, frames)));
            return;
        }
        batch.pages = eights.as_flattened().len() as u32;
        let signs = batchable.signs(eights, first_bit);
        let special = signs.special & !signs.tail;
        // An anonymous page that is special may be none, since slab uses the place for something else.
        let asked_for =
            self.asked_for(batchable, eights.as_flattened(), special, first_bit) | special & signs.anon;
        let used = |among: u64| self.used.out(signs.cache & among, signs.private, signs.anon & among);
        // Of a compound page that goes, its head tells how many frames it has.
        let heads = signs.head & if self.heads_tell_hugetlb() { used(u64::MAX).any() } else { u64::MAX };
        let single = (asked_for | heads) & !signs.tail;
        let left = self.decide_others(pfn, pages, single, batch) & !single & !signs.tail;
        let used = used(left);
        batch.add(PageClass::Cache, used.cache);
        batch.add(PageClass::CachePrivate, used.private);
        batch.add(PageClass::User, used.user);
    }

    /// Whether a page may be the first of a large block that goes.
    #[inline(always)]
    fn may_be_block(&self, batchable: &Batchable, page: &[u8; SIZE]) -> bool {
        let flags = batchable.flags.signs(page);
        // Of heads those that go, as long as they tell: the kernel's own are many, and small.
        let used = if self.heads_tell_hugetlb() { flags >> 7 | word::<MAPPING>(page) as u32 } else { 1 };
        batchable.types.may_have(page) | u64::from(flags >> 23 & used & 1) != 0
    }

    /// How many frames the blocks have that start `pages` and are all as the first is, of `class` and of so many `frames`;
    /// `count` as for a batch. Where the next one is doesn't follow from what this one says, so that the processor looks
    /// at several at once.
    #[inline(never)]
    fn blocks_alike(&self, pfn: Pfn, count: u64, pages: &[[u8; SIZE]], class: PageClass, frames: u64) -> u64 {
        let first = Verdict::Exclude { class, frames };
        let ahead = (frames as usize).wrapping_mul(SIZE * PREFETCH_BLOCKS);
        let mut alike = 0;
        while let Some([page, behind @ ..]) = pages.get(alike as usize..).filter(|_| alike < count) {
            prefetch::far::<0>(page.as_ptr().wrapping_add(ahead));
            let next = behind.first().map(|page| &page[..]);
            if alike > 0 && self.decide(pfn.saturating_add(alike), page, next) != first {
                break;
            }
            alike = alike.saturating_add(frames);
        }
        // Of pages that are in use every line is needed, and nobody has asked for the first ones behind a block.
        let behind = pages.get(alike as usize..).unwrap_or(&[]);
        if behind.first().is_some_and(|page| type_sign(page) == 0) {
            behind.iter().take(PREFETCH_FAR / SIZE).for_each(|page| prefetch::far::<0>(page.as_ptr()));
        }
        alike.max(frames)
    }

    /// Those of `pages`, the first at `first_bit`, whose bits are set in `which` and that may have a type, or a flag, that
    /// some rule asks for.
    #[inline(never)]
    fn asked_for(&self, batchable: &Batchable, pages: &[[u8; SIZE]], mut which: u64, first_bit: u32) -> u64 {
        let mut found = 0;
        while which != 0 {
            let bit = which.trailing_zeros();
            if let Some(page) = pages.get(bit.wrapping_sub(first_bit) as usize) {
                let is_poisoned = u64::from(word::<FLAGS>(page) & self.hwpoison != 0);
                found |= (batchable.types.may_have(page) | is_poisoned) << bit;
            }
            which &= which.wrapping_sub(1);
        }
        found
    }

    /// Decides about those of `pages`, the first of which is `pfn`'s, whose bit is set in `others`, one by one. Returns
    /// which frames are left to be decided about: those that have not gone with one of them.
    #[inline(never)]
    fn decide_others(&self, pfn: Pfn, pages: &[[u8; SIZE]], mut others: u64, batch: &mut Batch) -> u64 {
        let first_bit = (pfn.as_u64() & 63) as u32;
        let mut left = u64::MAX;
        while others != 0 {
            let bit = others.trailing_zeros();
            let verdict = self.decide_other(pfn, pages, bit.wrapping_sub(first_bit));
            left &= !batch.take(verdict, bit, first_bit);
            others &= others.wrapping_sub(1) & left;
        }
        left
    }

    /// [`decide`](Self::decide) for one of `pages`, out of the way of the loop over all of them.
    #[inline(never)]
    fn decide_other(&self, first: Pfn, pages: &[[u8; SIZE]], index: u32) -> Verdict {
        let mut pages = pages.get(index as usize..).unwrap_or(&[]).iter();
        let Some(page) = pages.next() else { return Verdict::Keep };
        self.decide(first.saturating_add(index.into()), page, pages.next().map(|page| &page[..]))
    }
}

impl Batchable {
    /// The signs of `pages`, at most 64 in eights, of which the first has its bit at `first_bit`. The time of a scan
    /// goes here.
    #[inline(never)]
    fn signs(&self, pages: &[[[u8; SIZE]; EIGHT]], first_bit: u32) -> Signs {
        let (mut signs, mut typed) = (Signs::default(), 0);
        for eight in pages {
            let mut flags = 0_u32;
            for page in eight {
                prefetch::far::<PREFETCH_FAR>(page.as_ptr());
                prefetch::near::<PREFETCH_NEAR>(page.as_ptr());
                // What comes later stands higher.
                flags = flags >> 1 | self.flags.signs(page);
                signs.anon = signs.anon >> 1 | word::<MAPPING>(page) << 63;
                signs.tail = signs.tail >> 1 | word::<COMPOUND_HEAD>(page) << 63;
                typed = typed << 1 | type_sign(page);
            }
            let [cache, private, head, rare] = flags.to_le_bytes().map(u64::from);
            let all = [&mut signs.cache, &mut signs.private, &mut signs.head, &mut signs.special];
            for (sign, bits) in all.into_iter().zip([cache, private, head, rare]) {
                // Its lowest byte is empty, since there are eight at most.
                *sign = (*sign | bits).rotate_right(8);
            }
        }
        // Of these the last page stands at the lowest bit.
        signs.special |= typed.reverse_bits();
        // The last page stands at the highest bit: from there to its place.
        let last = first_bit.wrapping_add(pages.as_flattened().len() as u32);
        let place = |bits: u64| bits >> (64_u32.wrapping_sub(last) & 63);
        Signs {
            cache: place(signs.cache),
            private: place(signs.private),
            anon: place(signs.anon),
            tail: place(signs.tail),
            head: place(signs.head),
            special: place(signs.special),
        }
    }
}

impl Batch {
    /// Takes in what has been decided about the page at `bit` of its word. The batch starts at `first_bit`, and ends
    /// before a page that stands for more than the batch has. Returns the bits of the pages that need no other decision.
    fn take(&mut self, verdict: Verdict, bit: u32, first_bit: u32) -> u64 {
        match verdict {
            Verdict::Keep => 0,
            Verdict::KeepBadOrder => {
                self.bad_orders |= 1 << (bit & 63);
                0
            }
            Verdict::Exclude { class, frames } => {
                let before = bit.wrapping_sub(first_bit);
                if frames > u64::from(self.pages.wrapping_sub(before)) {
                    self.pages = before;
                    self.block = Some((class, frames));
                    return u64::MAX << (bit & 63);
                }
                let gone = u64::MAX >> (64_u64.wrapping_sub(frames) & 63) << (bit & 63);
                self.add(class, gone);
                gone
            }
        }
    }

    fn add(&mut self, class: PageClass, frames: u64) {
        if let Some(out) = self.out.get_mut(class as usize) {
            *out |= frames;
        }
    }
}

/// The 64 bits at `AT`.
#[inline(always)]
fn word<const AT: usize>(page: &[u8; SIZE]) -> u64 {
    const { assert!(AT + 8 <= SIZE) };
    page.get(AT..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// How far ahead of the page that is looked at, in bytes: into the second cache, which takes as long as memory does.
const PREFETCH_FAR: usize = 8 << 10;
/// From there into the first cache, so that nothing has to wait for it.
const PREFETCH_NEAR: usize = 2 << 10;
/// How many blocks ahead, if they are all as large as the one that was just found.
const PREFETCH_BLOCKS: usize = 12;
