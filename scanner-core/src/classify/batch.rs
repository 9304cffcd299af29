//! Many pages at once: those of one word of the bitmap.
//!
//! A busy machine's time goes here. What nearly all pages need is worked out without a branch, so that pages of
//! different kinds side by side cost nothing; the others are decided one by one, by [`Rules::decide`].

use super::{Rules, Test, Verdict};
use crate::addr::Pfn;
use crate::layout::KernelLayout;
use crate::level::PageClass;

/// Bytes of the `struct page` that can be looked at in batches, as nearly all kernels since 4.18 have it.
const SIZE: usize = 64;
/// Where its fields are: those that tell what a page is used for lie in one cache line.
const FLAGS: usize = 0;
const COMPOUND_HEAD: usize = 8;
const MAPPING: usize = 24;
const MAPCOUNT: usize = 48;

/// Which pages can be decided by whether they are cache, private, anonymous.
#[derive(Clone, Copy, Debug)]
pub(super) enum Batchable {
    /// None: the layout is not the usual one.
    Never,
    /// Those with none of these flags, and with none of these types.
    Without {
        /// `PG_head`, `PG_hwpoison`, `PG_slab`, and the like.
        flags: u64,
        /// The smallest of them.
        first_type: u32,
        /// The largest is so much more.
        types: u32,
    },
}

impl Batchable {
    /// What can be decided by `rules`, for a kernel of this layout.
    pub(super) fn new(layout: &KernelLayout, rules: &Rules) -> Self {
        let page = &layout.page;
        let usual = page.size == SIZE
            && page.flags == FLAGS
            && page.compound_head == Some(COMPOUND_HEAD)
            && page.mapping == MAPPING
            && page.mapcount == Some(MAPCOUNT);
        if !usual {
            return Self::Never;
        }
        // By default one that can't be: of an address space that is full of pages.
        let (mut first, mut last) = (u32::MAX, 0);
        for test in [rules.slab, rules.buddy, rules.unaccepted, rules.offline, rules.hugetlb] {
            if test != Test::NEVER {
                first = first.min(test.value as u32);
                last = last.max((test.value | !test.mask) as u32);
            }
        }
        let flags = rules.head | rules.hwpoison | rules.buddy_flag | rules.slab_flag;
        if first > last {
            (first, last) = (1 << 31, 1 << 31);
        }
        Self::Without { flags, first_type: first, types: last.wrapping_sub(first) }
    }
}

/// What the rules say about the pages of one word of the bitmap, or about the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch {
    /// How many pages have been decided about.
    pub pages: u32,
    /// Which of them are left out, class by class; the lowest bit stands for a frame that is a multiple of 64.
    pub out: [u64; PageClass::ALL.len()],
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
    /// Those that have to be looked at one by one.
    other: u64,
}

impl Rules {
    /// Decides about the frames from `pfn` on whose `struct page`s `pages` starts with, at most `count` and at most up
    /// to the next one that is a multiple of 64. It decides about one at least, unless there is none.
    #[inline]
    pub fn decide_batch(&self, pfn: Pfn, count: u64, pages: &[u8], batch: &mut Batch) {
        (batch.pages, batch.bad_orders, batch.block) = (0, 0, None);
        batch.out.fill(0);
        let first_bit = (pfn.as_u64() & 63) as u32;
        if let Batchable::Never = self.batch {
            if let Some((page, behind)) = pages.split_at_checked(self.size) {
                batch.pages = 1;
                batch.take(self.decide(pfn, page, behind.get(..self.size)), first_bit, first_bit);
            }
            return;
        }
        let (pages, _) = pages.as_chunks::<SIZE>();
        let room = 64_u64.wrapping_sub(first_bit.into()).min(count);
        let wanted = pages.get(..room as usize).unwrap_or(pages);
        // What follows a large block most often is another one, of whose struct pages only the first is to be touched.
        if wanted.first().is_some_and(|page| self.is_other(page))
            && let Verdict::Exclude { class, frames } = self.decide_other(pfn, pages, 0)
            && frames >= room
        {
            let behind = (frames as usize).wrapping_mul(SIZE * PREFETCH_BLOCKS);
            prefetch(pages.as_ptr().cast::<u8>().wrapping_add(behind));
            batch.block = Some((class, frames));
            return;
        }
        batch.pages = wanted.len() as u32;
        let signs = self.signs(wanted, first_bit);
        let left =
            self.decide_others(pfn, pages, signs.other & !signs.tail, batch) & !signs.other & !signs.tail;
        let used = self.used.out(signs.cache & left, signs.private, signs.anon & left);
        batch.add(PageClass::Cache, used.cache);
        batch.add(PageClass::CachePrivate, used.private);
        batch.add(PageClass::User, used.user);
    }

    /// The signs of `pages`, at most 64, of which the first has its bit at `first_bit`. The time of a scan goes here.
    #[inline(never)]
    fn signs(&self, pages: &[[u8; SIZE]], first_bit: u32) -> Signs {
        let mut signs = Signs::default();
        for page in pages {
            prefetch(page.as_ptr().wrapping_add(PREFETCH));
            let flags = word::<FLAGS>(page);
            // The last page comes to stand at the lowest bit.
            signs.cache = signs.cache << 1 | u64::from(self.used.is_cache(flags));
            signs.private = signs.private << 1 | u64::from(self.used.is_private(flags));
            signs.anon = signs.anon << 1 | word::<MAPPING>(page) & 1;
            signs.tail = signs.tail << 1 | word::<COMPOUND_HEAD>(page) & 1;
            signs.other = signs.other << 1 | u64::from(self.is_other(page));
        }
        let unused = 64_u32.wrapping_sub(pages.len() as u32);
        let place = |bits: u64| bits.reverse_bits().checked_shr(unused).unwrap_or(0) << (first_bit & 63);
        Signs {
            cache: place(signs.cache),
            private: place(signs.private),
            anon: place(signs.anon),
            tail: place(signs.tail),
            other: place(signs.other),
        }
    }

    /// Whether a page has to be looked at by itself.
    #[inline(always)]
    fn is_other(&self, page: &[u8; SIZE]) -> bool {
        let Batchable::Without { flags, first_type, types } = self.batch else { return true };
        let mapcount = word::<MAPCOUNT>(page) as u32;
        (word::<FLAGS>(page) & flags != 0) | (mapcount.wrapping_sub(first_type) <= types)
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

/// How far ahead of the page that is looked at, in bytes.
const PREFETCH: usize = 16 << 10;
/// How many blocks ahead, if they are all as large as the one that was just found.
const PREFETCH_BLOCKS: usize = 8;

/// Asks the processor for the cache line at `at`, wherever that is.
#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it takes any address, and touches neither memory nor registers that anyone sees.
    unsafe {
        core::arch::asm!("prefetcht1 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
