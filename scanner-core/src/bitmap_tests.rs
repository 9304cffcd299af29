use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

/// The frames of `bitmap` that are kept.
fn kept(bitmap: &Bitmap<'_>) -> Vec<u64> {
    let frames = bitmap.frames();
    (frames.start.as_u64()..frames.end.as_u64()).filter(|pfn| bitmap.get(Pfn::new(*pfn))).collect()
}

#[test]
fn words_must_be_enough() {
    let frames = PfnRange::from_start(Pfn::new(0), 130);
    assert!(Bitmap::new(frames, &mut [0; 3]).is_ok());
    let error = Bitmap::new(frames, &mut [0; 2]).unwrap_err();
    assert_eq!(error, TooFewWords { needed: 3 });
    assert!(error.to_string().contains('3'), "{error}");
    assert!(Bitmap::new(PfnRange::from_start(Pfn::new(0), 128), &mut [0; 2]).is_ok());
}

#[test]
fn frames_without_a_bit_are_kept() {
    let mut words = [0; 2];
    let bitmap = Bitmap::new(range(64, 164), &mut words).unwrap();
    assert!(bitmap.get(Pfn::new(63)) && bitmap.get(Pfn::new(164)));
    assert!(!bitmap.get(Pfn::new(64)) && !bitmap.get(Pfn::new(163)));
}

#[test]
fn the_first_frame_has_the_lowest_bit_of_the_first_word() {
    let mut words = [1 << 63 | 1, 2];
    let bitmap = Bitmap::new(range(10, 110), &mut words).unwrap();
    assert_eq!(kept(&bitmap), [10, 73, 75]);
}

#[test]
fn a_bitmap_that_is_filled_keeps_everything() {
    let mut words = [0; 2];
    let mut bitmap = Bitmap::new(range(0, 100), &mut words).unwrap();
    bitmap.fill();
    assert_eq!(kept(&bitmap).len(), 100);
    assert_eq!(words, [u64::MAX; 2]);
}

/// Ends of words, of cache lines, and of the bitmap, and their neighbours.
const BORDERS: [u64; 18] =
    [0, 1, 62, 63, 64, 65, 127, 128, 500, 511, 512, 513, 575, 576, 577, 1151, 1152, 1280];

#[test]
fn a_range_loses_exactly_its_bits_wherever_it_starts_and_ends() {
    for (from, to) in BORDERS.iter().flat_map(|from| BORDERS.map(|to| (*from, to))).filter(|(a, b)| a <= b) {
        let mut words = [u64::MAX; 20];
        let mut bitmap = Bitmap::new(range(0, 1280), &mut words).unwrap();
        assert_eq!(bitmap.clear(range(from, to)), to - from, "{from}..{to}");
        let expected: Vec<u64> = (0..1280).filter(|pfn| *pfn < from || to <= *pfn).collect();
        assert_eq!(kept(&bitmap), expected, "{from}..{to}");
    }
}

#[test]
fn bits_that_are_cleared_already_do_not_count() {
    for already in [0, 63, 64, 70, 511, 512, 700, 1279] {
        let mut words = [u64::MAX; 20];
        let mut bitmap = Bitmap::new(range(0, 1280), &mut words).unwrap();
        assert_eq!(bitmap.clear(range(already, already + 1)), 1);
        assert_eq!(bitmap.clear(range(0, 1280)), 1279, "without {already}");
        assert_eq!(bitmap.clear(range(0, 1280)), 0);
    }
}

#[test]
fn frames_outside_the_bitmap_are_not_cleared_or_counted() {
    let mut words = [u64::MAX; 3];
    let mut bitmap = Bitmap::new(range(100, 200), &mut words).unwrap();
    assert_eq!(bitmap.clear(range(0, 100)), 0);
    assert_eq!(bitmap.clear(range(200, 1000)), 0);
    assert_eq!(bitmap.clear(range(50, 110)), 10);
    assert_eq!(bitmap.clear(range(190, 5000)), 10);
    assert_eq!(bitmap.clear(range(150, 150)), 0);
    assert_eq!(kept(&bitmap), (110..190).collect::<Vec<_>>());
}

#[test]
fn bits_past_the_words_of_a_chunk_are_not_cleared_or_counted() {
    let mut words = [u64::MAX; 2];
    assert_eq!(clear_in_chunk(&mut words, 0, 129), 0);
    assert_eq!(clear_in_chunk(&mut words, 128, 1), 0);
    assert_eq!(clear_in_chunk(&mut words, 0, 0), 0);
    assert_eq!(words, [u64::MAX; 2]);
    assert_eq!(clear_in_chunk(&mut words, 0, 128), 128);
}

#[test]
fn a_word_loses_the_bits_of_the_mask() {
    for (word, mask, left, cleared) in [
        (u64::MAX, u64::MAX, 0, 64),
        (u64::MAX, 0xff, !0xff, 8),
        (0xf0, u64::MAX, 0, 4),
        (0xf0, 0x3c, 0xc0, 2),
        (0, u64::MAX, 0, 0),
        (u64::MAX, 0, u64::MAX, 0),
    ] {
        let mut changed = word;
        assert_eq!(clear_bits(&mut changed, mask), cleared, "{word:#x} without {mask:#x}");
        assert_eq!(changed, left, "{word:#x} without {mask:#x}");
    }
}

#[test]
fn a_word_is_lent_only_if_all_its_64_frames_have_bits_in_it() {
    let mut words = [1, 2, 3];
    let mut bitmap = Bitmap::new(range(64, 64 + 130), &mut words).unwrap();
    for (first, word) in [
        (64, Some(1)),
        (128, Some(2)),
        // Only two of its frames are in the bitmap.
        (192, None),
        (65, None),
        (127, None),
        (0, None),
        (256, None),
    ] {
        assert_eq!(bitmap.word_mut(Pfn::new(first)).copied(), word, "{first}");
    }
}

#[test]
fn the_last_word_is_lent_if_it_is_whole() {
    let mut words = [1, 2];
    let mut bitmap = Bitmap::new(range(64, 192), &mut words).unwrap();
    assert_eq!(bitmap.word_mut(Pfn::new(128)).copied(), Some(2));
}

#[test]
fn some_of_64_frames_are_cleared_wherever_the_bitmap_starts() {
    let which = 1 << 63 | 0b1011;
    for (first_of_bitmap, first, expected) in [
        (0, 64, std::vec![64, 65, 67, 127]),
        // Not at the border of a word.
        (1, 64, std::vec![64, 65, 67, 127]),
        // Only the last of them is in the bitmap.
        (100, 64, std::vec![127]),
        // Only the first two are.
        (0, 254, std::vec![254, 255]),
    ] {
        let mut words = [u64::MAX; 4];
        let mut bitmap = Bitmap::new(range(first_of_bitmap, 256), &mut words).unwrap();
        assert_eq!(bitmap.clear_masked(Pfn::new(first), which), expected.len() as u64);
        let cleared: Vec<u64> = (first_of_bitmap..256).filter(|pfn| !bitmap.get(Pfn::new(*pfn))).collect();
        assert_eq!(cleared, expected);
        assert_eq!(bitmap.clear_masked(Pfn::new(first), which), 0);
    }
}

#[test]
fn bits_come_as_runs() {
    let runs = |which: u64| -> Vec<(u64, u64)> {
        runs_of(Pfn::new(1000), which)
            .map(|run| (run.start.as_u64() - 1000, run.end.as_u64() - 1000))
            .collect()
    };
    assert_eq!(runs(0), []);
    assert_eq!(runs(1), [(0, 1)]);
    assert_eq!(runs(u64::MAX), [(0, 64)]);
    assert_eq!(runs(1 << 63), [(63, 64)]);
    assert_eq!(runs(0b110_1110), [(1, 4), (5, 7)]);
    assert_eq!(runs(!0 << 60 | 1), [(0, 1), (60, 64)]);
}

#[test]
fn a_bitmap_in_one_piece_is_its_only_chunk() {
    let mut words = [u64::MAX; 2];
    let mut bitmap = Bitmap::new(range(10, 100), &mut words).unwrap();
    assert_eq!(BitmapChunks::frames(&bitmap), range(10, 100));
    assert!(!bitmap.counts_only());
    for (pfn, has_chunk) in [(9, false), (10, true), (99, true), (100, false)] {
        let chunk = bitmap.chunk_mut(Pfn::new(pfn)).map(|(frames, words)| (frames, words.len()));
        assert_eq!(chunk, has_chunk.then_some((range(10, 100), 2)), "{pfn}");
    }
}

proptest! {
    #[test]
    fn clearing_agrees_with_a_plain_set(
        start in 0_u64..200,
        len in 1_u64..2000,
        clears in prop::collection::vec((0_u64..2500, 0_u64..1800), 0..12),
    ) {
        let mut words = std::vec![0; len.div_ceil(64) as usize];
        let mut bitmap = Bitmap::new(PfnRange::from_start(Pfn::new(start), len), &mut words).unwrap();
        bitmap.fill();
        let mut plain = std::vec![true; len as usize];
        for (from, count) in clears {
            let cleared = bitmap.clear(PfnRange::from_start(Pfn::new(from), count));
            let mut expected = 0;
            for pfn in from.max(start)..(from + count).min(start + len) {
                expected += u64::from(std::mem::replace(&mut plain[(pfn - start) as usize], false));
            }
            prop_assert_eq!(cleared, expected);
        }
        for (i, keep) in plain.iter().enumerate() {
            prop_assert_eq!(bitmap.get(Pfn::new(start + i as u64)), *keep);
        }
    }
}
