use super::*;
use crate::addr::VirtAddr;
use crate::memory::Unreadable;
use proptest::prelude::*;
use std::vec::Vec;

/// A bitmap in chunks of `chunk_frames` frames, a multiple of 64. Chunks can be missing.
struct Chunks {
    frames: PfnRange,
    chunk_frames: u64,
    chunks: Vec<Vec<u64>>,
    counts_only: bool,
    /// How often a chunk was asked for.
    accesses: u64,
}

impl Chunks {
    fn new(first: u64, count: u64, chunk_frames: u64) -> Self {
        let words = chunk_frames.div_ceil(64) as usize;
        Self {
            frames: PfnRange::from_start(Pfn::new(first), count),
            chunk_frames,
            chunks: std::vec![std::vec![u64::MAX; words]; count.div_ceil(chunk_frames) as usize],
            counts_only: false,
            accesses: 0,
        }
    }

    /// No bits at all.
    fn counting(first: u64, count: u64) -> Self {
        Self { chunks: Vec::new(), counts_only: true, ..Self::new(first, count, count) }
    }

    fn excluded(&self) -> Vec<u64> {
        let first = self.frames.start.as_u64();
        (0..self.frames.len())
            .filter(|index| {
                let chunk = &self.chunks[(index / self.chunk_frames) as usize];
                let bit = index % self.chunk_frames;
                chunk.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 0)
            })
            .map(|index| first + index)
            .collect()
    }
}

impl BitmapChunks for &mut Chunks {
    fn frames(&self) -> PfnRange {
        self.frames
    }

    fn counts_only(&self) -> bool {
        self.counts_only
    }

    fn chunk_mut(&mut self, pfn: Pfn) -> Option<(PfnRange, &mut [u64])> {
        self.accesses += 1;
        if !self.frames.contains(pfn) {
            return None;
        }
        let index = pfn.frames_since(self.frames.start) / self.chunk_frames;
        let start = self.frames.start.saturating_add(index * self.chunk_frames);
        let own = PfnRange::from_start(start, self.chunk_frames).intersection(self.frames);
        let words = self.chunks.get_mut(index as usize)?;
        (!words.is_empty()).then_some((own, &mut words[..]))
    }
}

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

/// Bits of one class.
fn masks(class: PageClass, bits: u64) -> FramesByClass {
    let mut masks = FramesByClass::default();
    masks[class as usize] = bits;
    masks
}

fn recorded(chunks: &mut Chunks, record: impl FnOnce(&mut BitmapRecorder<'_, &mut Chunks>)) -> Tally {
    let mut tally = Tally::default();
    record(&mut BitmapRecorder::new(chunks, &mut tally));
    tally
}

#[test]
fn a_range_is_cleared_in_each_of_its_chunks() {
    for (start, end) in [(0, 64), (63, 65), (100, 150), (127, 128), (128, 129), (5, 300), (0, 1000)] {
        let mut chunks = Chunks::new(0, 300, 128);
        let tally = recorded(&mut chunks, |recorder| recorder.exclude(range(start, end), PageClass::User));
        let expected: Vec<u64> = (start..end.min(300)).collect();
        assert_eq!(chunks.excluded(), expected, "{start}..{end}");
        assert_eq!(tally.counters.get(PageClass::User), expected.len() as u64, "{start}..{end}");
        assert_eq!(tally.counters.total(), expected.len() as u64);
    }
}

#[test]
fn chunks_start_at_the_first_frame_of_the_bitmap() {
    let mut chunks = Chunks::new(1000, 300, 128);
    let tally = recorded(&mut chunks, |recorder| recorder.exclude(range(1100, 1140), PageClass::Free));
    assert_eq!(chunks.excluded(), (1100..1140).collect::<Vec<_>>());
    assert_eq!(tally.counters.get(PageClass::Free), 40);
}

#[test]
fn frames_outside_the_bitmap_are_neither_cleared_nor_counted() {
    let mut chunks = Chunks::new(128, 100, 64);
    let tally = recorded(&mut chunks, |recorder| {
        recorder.exclude(range(0, 128), PageClass::User);
        recorder.exclude(range(228, 500), PageClass::User);
        recorder.exclude_masked(Pfn::new(64), &masks(PageClass::User, u64::MAX));
        recorder.exclude_masked(Pfn::new(256), &masks(PageClass::User, u64::MAX));
    });
    assert_eq!(chunks.excluded(), []);
    assert_eq!(tally.counters.total(), 0);
}

#[test]
fn recording_ends_at_a_missing_chunk() {
    let mut chunks = Chunks::new(0, 384, 128);
    chunks.chunks[1].clear();
    let tally = recorded(&mut chunks, |recorder| {
        recorder.exclude(range(100, 300), PageClass::User);
        recorder.exclude_masked(Pfn::new(128), &masks(PageClass::User, u64::MAX));
        recorder.exclude_masked(Pfn::new(256), &masks(PageClass::User, 1));
    });
    assert_eq!(chunks.excluded(), (100..128).chain(256..257).collect::<Vec<_>>());
    assert_eq!(tally.counters.total(), 29);
}

#[test]
fn a_frame_counts_once_for_the_class_that_came_first() {
    let mut chunks = Chunks::new(0, 128, 64);
    let tally = recorded(&mut chunks, |recorder| {
        recorder.exclude(range(0, 10), PageClass::Free);
        recorder.exclude(range(5, 20), PageClass::User);
        recorder.exclude_masked(Pfn::new(0), &masks(PageClass::Cache, 0xff_ffff));
    });
    let counted = [PageClass::Free, PageClass::User, PageClass::Cache].map(|class| tally.counters.get(class));
    assert_eq!(counted, [10, 10, 4]);
}

#[test]
fn masks_clear_their_bits_of_a_word_class_by_class() {
    let mut both = masks(PageClass::Cache, 0b101);
    both[PageClass::Offline as usize] = 1 << 63;
    for first in [0, 64, 128, 192] {
        let mut chunks = Chunks::new(0, 256, 128);
        let tally = recorded(&mut chunks, |recorder| recorder.exclude_masked(Pfn::new(first), &both));
        assert_eq!(chunks.excluded(), [first, first + 2, first + 63]);
        assert_eq!((tally.counters.get(PageClass::Cache), tally.counters.get(PageClass::Offline)), (2, 1));
    }
}

#[test]
fn masks_clear_what_the_bitmap_has_of_a_word() {
    // Starts and ends in the middle of a word, and is not aligned to one.
    for (first, count) in [(70, 100), (64, 63), (64, 65), (1, 300), (100, 10)] {
        for word in [0, 64, 128] {
            let mut chunks = Chunks::new(first, count, 64);
            let tally = recorded(&mut chunks, |recorder| {
                recorder.exclude_masked(Pfn::new(word), &masks(PageClass::User, u64::MAX));
            });
            let expected: Vec<u64> =
                (word..word + 64).filter(|pfn| (first..first + count).contains(pfn)).collect();
            assert_eq!(chunks.excluded(), expected, "{word} of {first} and {count} more");
            assert_eq!(tally.counters.total(), expected.len() as u64);
        }
    }
}

#[test]
fn a_whole_word_takes_one_access_to_its_chunk() {
    for word in [64, 128, 192] {
        let mut chunks = Chunks::new(64, 192, 128);
        recorded(&mut chunks, |recorder| {
            recorder.exclude_masked(Pfn::new(word), &masks(PageClass::User, u64::MAX));
        });
        assert_eq!((chunks.accesses, chunks.excluded().len()), (1, 64), "{word}");
    }
}

// Without a bitmap.

#[test]
fn without_a_bitmap_frames_are_counted() {
    let tally = recorded(&mut Chunks::counting(64, 200), |recorder| {
        recorder.exclude(range(0, 70), PageClass::Free);
        recorder.exclude_masked(Pfn::new(64), &masks(PageClass::User, u64::MAX));
        recorder.exclude_masked(Pfn::new(128), &masks(PageClass::User, 0b11));
        recorder.exclude(range(192, 1000), PageClass::Offline);
    });
    let counted =
        [PageClass::Free, PageClass::User, PageClass::Offline].map(|class| tally.counters.get(class));
    assert_eq!(counted, [6, 58 + 2, 264 - 192]);
}

#[test]
fn without_a_bitmap_frames_that_are_excluded_twice_count_once() {
    let tally = recorded(&mut Chunks::counting(0, 1024), |recorder| {
        recorder.exclude(range(0, 300), PageClass::User);
        recorder.exclude(range(100, 200), PageClass::Free);
        recorder.exclude(range(250, 310), PageClass::Cache);
        recorder.exclude_masked(Pfn::new(192), &masks(PageClass::Free, u64::MAX));
        recorder.exclude_masked(Pfn::new(256), &masks(PageClass::Free, u64::MAX));
    });
    let counted = [PageClass::User, PageClass::Cache, PageClass::Free].map(|class| tally.counters.get(class));
    assert_eq!(counted, [300, 10, 320 - 310]);
}

#[test]
fn without_a_bitmap_the_classes_of_a_part_of_a_word_are_all_counted() {
    let tally = recorded(&mut Chunks::counting(0, 100), |recorder| {
        let mut both = masks(PageClass::Free, 1 << 30);
        both[PageClass::User as usize] = 0b1111;
        recorder.exclude_masked(Pfn::new(64), &both);
    });
    assert_eq!((tally.counters.get(PageClass::Free), tally.counters.get(PageClass::User)), (1, 4));
}

// What is kept, and why.

fn unreadable_at(addr: u64) -> SectionError {
    SectionError::Read(ReadError::Unreadable(Unreadable { addr: PhysAddr::new(addr) }))
}

#[test]
fn frames_whose_struct_pages_cannot_be_read_are_counted() {
    let mut chunks = Chunks::new(0, 64, 64);
    let tally = recorded(&mut chunks, |recorder| {
        recorder.unreadable(range(0, 10), unreadable_at(0x5000));
        recorder.unreadable(range(20, 25), unreadable_at(0x1000));
    });
    assert_eq!(tally.unreadable, 15);
    // The first one, not the lowest.
    assert_eq!(tally.first_unreadable, PhysAddr::new(0x5000));
    assert_eq!(chunks.excluded(), []);
}

#[test]
fn only_addresses_of_physical_memory_are_recorded() {
    let tally = recorded(&mut Chunks::new(0, 64, 64), |recorder| {
        let unmapped = ReadError::Unmapped { addr: VirtAddr::new(0xffff_ea00_0000_0000), level: 1 };
        recorder.unreadable(range(0, 1), SectionError::Read(unmapped));
        recorder.unreadable(range(1, 2), SectionError::NotKernelMemory(VirtAddr::new(0x1000)));
        recorder.unreadable(range(2, 3), unreadable_at(1 << 52));
    });
    assert_eq!((tally.unreadable, tally.first_unreadable), (3, PhysAddr::new(0)));
    let tally = recorded(&mut Chunks::new(0, 64, 64), |recorder| {
        recorder.unreadable(range(0, 1), unreadable_at((1 << 52) - 1));
    });
    assert_eq!(tally.first_unreadable, PhysAddr::new((1 << 52) - 1));
}

#[test]
fn free_blocks_of_impossible_orders_are_counted() {
    let mut chunks = Chunks::new(0, 64, 64);
    let tally = recorded(&mut chunks, |recorder| (0..3).for_each(|pfn| recorder.bad_order(Pfn::new(pfn))));
    assert_eq!(tally.bad_orders, 3);
    assert_eq!(chunks.excluded(), []);
}

#[derive(Clone, Debug)]
enum Call {
    Range(u64, u64, usize),
    Word(u64, FramesByClass),
}

fn call() -> impl Strategy<Value = Call> {
    let word = (0_u64..10, prop::array::uniform7(any::<u64>())).prop_map(|(word, mut masks)| {
        // Each frame has one class.
        let mut free = u64::MAX;
        for mask in &mut masks {
            *mask &= free;
            free &= !*mask;
        }
        Call::Word(word * 64, masks)
    });
    prop_oneof![
        (0_u64..700, 0_u64..300, 0_usize..7).prop_map(|(at, len, class)| Call::Range(at, len, class)),
        word
    ]
}

proptest! {
    #[test]
    fn chunks_and_counters_agree_with_a_plain_set(
        first in 0_u64..200,
        count in 1_u64..500,
        chunk_words in 1_u64..4,
        calls in prop::collection::vec(call(), 0..10),
    ) {
        let mut chunks = Chunks::new(first, count, 64 * chunk_words);
        let mut plain: Vec<Option<usize>> = std::vec![None; 1100];
        let tally = recorded(&mut chunks, |recorder| {
            for call in &calls {
                match call {
                    Call::Range(at, len, class) => {
                        recorder.exclude(range(*at, at + len), PageClass::ALL[*class]);
                        for pfn in *at..at + len {
                            plain[pfn as usize].get_or_insert(*class);
                        }
                    }
                    Call::Word(word, masks) => {
                        recorder.exclude_masked(Pfn::new(*word), masks);
                        for (class, mask) in masks.iter().enumerate() {
                            for pfn in (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| word + bit) {
                                plain[pfn as usize].get_or_insert(class);
                            }
                        }
                    }
                }
            }
        });
        let own = first..first + count;
        let expected: Vec<u64> = own.clone().filter(|pfn| plain[*pfn as usize].is_some()).collect();
        prop_assert_eq!(chunks.excluded(), expected);
        for (index, class) in PageClass::ALL.iter().enumerate() {
            let pages = own.clone().filter(|pfn| plain[*pfn as usize] == Some(index)).count();
            prop_assert_eq!(tally.counters.get(*class), pages as u64);
        }
    }

    /// A scan ascends: words from left to right, blocks that may reach into those that follow.
    #[test]
    fn counts_without_a_bitmap_are_those_with_one(
        first in 0_u64..200,
        count in 1_u64..900,
        words in prop::collection::vec((prop::array::uniform7(any::<u64>()), prop::option::of(0_u64..400)), 1..16),
    ) {
        let (mut chunks, mut counting) = (Chunks::new(first, count, 128), Chunks::counting(first, count));
        let record = |recorder: &mut BitmapRecorder<'_, &mut Chunks>| {
            for (word, (masks, block)) in (0..).map(|index| 64 * index).zip(&words) {
                let mut masks = *masks;
                let mut left = u64::MAX >> 1;
                for mask in &mut masks {
                    *mask &= left;
                    left &= !*mask;
                }
                recorder.exclude_masked(Pfn::new(word), &masks);
                if let Some(len) = block {
                    recorder.exclude(range(word + 63, word + 63 + len), PageClass::Free);
                }
            }
        };
        let with = recorded(&mut chunks, record).counters;
        prop_assert_eq!(recorded(&mut counting, record).counters, with);
    }
}
