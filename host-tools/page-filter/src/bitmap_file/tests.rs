//! Tests of bitmap files: what is written is read, what is damaged is refused, what a filter clears is right.

use super::*;
use proptest::prelude::*;
use scanner_core::info::Version;
use scanner_core::info::v2::{ChunkEntry, Header, Producer, RecordedRules, State};
use scanner_core::{Pfn, PfnRange, PhysAddr};
use vmcore::filter::FrameFilter;
use vmcore::frames::FrameBitmap;
use vmcore::frames::FrameRanges;

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

fn v2_file(first: u64, frames: u64, kept: &[PfnRange]) -> BitmapFile {
    let mut header = Header {
        producer: Producer::Host,
        state: State::Complete,
        dump_level: 31,
        rules: RecordedRules::Makedumpfile,
        scanned_up_to: first + frames,
        user_pages: 17,
        unaccepted_pages: 3,
        free_pages: 4,
        ..Header::new(Pfn::new(first), frames, 40)
    };
    header.set_kernel_release("6.12.0-test");
    let kept = FrameRanges::from_ranges(kept.iter().copied());
    BitmapFile { info: Info::V2(Box::new(header)), bits: FrameBitmap::from_ranges(&kept, frames) }
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    for file in [
        v2_file(0, 100_000, &[range(5, 70), range(99_990, 100_000)]),
        v2_file(128, 65, &[range(64, 65)]),
        v2_file(0, 100_000, &[range(5, 70)]).convert(Version::V1).unwrap().file,
    ] {
        let path = directory.path().join("bitmap");
        file.write(&path, true).unwrap();
        let read = BitmapFile::read(&path).unwrap();
        assert_eq!(read.bits, file.bits);
        assert_eq!(read.info.frames(), file.info.frames());
        assert_eq!(read.to_bytes().unwrap(), std::fs::read(&path).unwrap());
    }
}

#[test]
fn frames_without_a_bit_are_kept() {
    let bytes = v2_file(64, 100, &[range(0, 10)]).to_bytes().unwrap();
    let file = BitmapFile::from_bytes(&bytes).unwrap();
    assert!(file.keeps(Pfn::new(63)) && file.keeps(Pfn::new(64)) && file.keeps(Pfn::new(164)));
    assert!(!file.keeps(Pfn::new(74)) && !file.keeps(Pfn::new(163)));

    let mut keep = [u64::MAX; 4];
    BitmapReader::from_bytes(&bytes).unwrap().filter(range(0, 256), &mut keep).unwrap();
    assert_eq!(keep, [u64::MAX, 0x3ff, u64::MAX << 36, u64::MAX]);
}

#[test]
fn a_damaged_chunk_is_found_and_named() {
    // Two chunks: 2^23 frames and one more.
    let frames = (1 << 23) + 1;
    let mut bytes = v2_file(0, frames, &[range(0, frames)]).to_bytes().unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    let survey = BitmapReader::from_bytes(&bytes).unwrap().survey().unwrap();
    assert_eq!((survey.sealed, survey.damaged.len(), survey.damaged[0].index), (1, 1, 1));
    assert_eq!(survey.kept, frames);
    let error = BitmapFile::from_bytes(&bytes).unwrap_err().report();
    assert!(error.contains("chunk 1 of the bitmap (page frames 0x800000..0x800001): crc32c"), "{error}");
    let report = BitmapReader::from_bytes(&bytes).unwrap().describe().unwrap();
    assert_eq!(report.chunks.damaged, [1]);
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    for version in [Version::V1, Version::V2] {
        let bytes = v2_file(0, 1000, &[range(0, 9)]).convert(version).unwrap().file.to_bytes().unwrap();
        for len in 0..bytes.len() {
            assert!(BitmapFile::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
        }
        let error = BitmapFile::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err().report();
        assert!(error.contains("ends at byte 4221, but the file has 4220 bytes"), "{error}");
    }
}

#[test]
fn a_bitmap_of_a_hostile_size_takes_no_memory() {
    let mut bytes = vec![0; 4096];
    let info = scanner_core::info::v1::Info {
        bitmap: 64,
        bitmap_size: 1 << 37,
        ..scanner_core::info::v1::Info::NO_BITMAP
    };
    info.encode(&mut bytes).unwrap();
    let error = BitmapFile::from_bytes(&bytes).unwrap_err().report();
    assert!(error.contains("the file has 4096 bytes"), "{error}");
}

#[test]
fn what_is_no_bitmap_file_is_refused_with_a_reason() {
    let reason = |bytes: &[u8]| BitmapFile::from_bytes(bytes).unwrap_err().report();
    assert!(reason(b"").contains("can't be read as a whole"));
    assert!(reason(&[0; 64]).contains("version: expected 1, or version 2's magic CDBITMAP, found 0"));
    let mut empty = [0; 64];
    scanner_core::info::v1::Info::NO_BITMAP.encode(&mut empty).unwrap();
    assert!(reason(&empty).contains("says that there is no bitmap"));
    let mut newer = v2_file(0, 64, &[]).to_bytes().unwrap();
    newer[8] = 3;
    assert!(reason(&newer).contains("version: expected 2, found 3"));
    assert!(reason(&newer).contains("newer producer"));
}

#[test]
fn a_conversion_says_what_is_lost() {
    let file = v2_file(64, 100, &[range(0, 10)]);
    let down = file.convert(Version::V1).unwrap();
    for lost in [
        "the checksums of the structure and of each chunk",
        "the producer (host)",
        "the state of the scan (complete)",
        "the dump level (31)",
        "the rule set (makedumpfile)",
        "the first page frame (0x40); those below are kept",
        "which free pages are unaccepted (3); they count as free",
        "the kernel release (6.12.0-test)",
    ] {
        assert!(down.lost.iter().any(|phrase| phrase == lost), "{lost}: {:?}", down.lost);
    }
    let Info::V1(info) = &down.file.info else { panic!("not version 1") };
    assert_eq!((info.user_pages, info.free_pages, info.bitmap_size), (17, 7, 21));

    let up = down.file.convert(Version::V2).unwrap();
    assert!(up.lost.is_empty() && up.unknown.iter().any(|phrase| phrase == "the dump level"));
    for pfn in 0..300 {
        let pfn = Pfn::new(pfn);
        assert_eq!(file.keeps(pfn), down.file.keeps(pfn), "{pfn}");
        assert_eq!(file.keeps(pfn), up.file.keeps(pfn), "{pfn}");
    }
    let read = BitmapFile::from_bytes(&up.file.to_bytes().unwrap()).unwrap();
    let Info::V2(header) = &read.info else { panic!("not version 2") };
    assert_eq!((header.state, header.level(), header.user_pages), (State::NotRecorded, None, 17));
}

/// What a scan that never ended leaves in the memory of a machine: chunks here and there, none sealed.
#[test]
fn a_bitmap_is_read_from_the_memory_of_a_crashed_machine() {
    const AT: u64 = 0x3000;
    const CHUNKS: [u64; 3] = [0x8000, 0x2000, 0x6008];
    let mut header = Header::new(Pfn::new(64), 2 * 32768 + 70, 15);
    header.self_address = AT;
    header.state = State::Scanning;
    let mut memory = vec![0xff; 0x1_0000];
    let mut area = vec![0; header.area_size()];
    for (index, address) in (0..).zip(CHUNKS) {
        header.put_chunk(&mut area, index, &ChunkEntry::unsealed(address, header.chunk_size(index))).unwrap();
    }
    header.encode(&mut area).unwrap();
    memory[AT as usize..][..area.len()].copy_from_slice(&area);
    memory[CHUNKS[0] as usize + 1] = 0; // frames 64 + 8 to 64 + 15
    memory[CHUNKS[2] as usize + 8] = 0; // the last 6 frames, and 2 bits that stand for none

    let reader = BitmapReader::in_memory(Bytes(&memory), PhysAddr::new(AT)).unwrap();
    let survey = reader.survey().unwrap();
    assert_eq!((survey.kept, survey.sealed, survey.unsealed), (2 * 32768 + 70 - 14, 0, 3));
    assert_eq!(reader.describe().unwrap().scan.unwrap().state, "scanning");
    let file = BitmapFile::from_reader(&reader).unwrap();
    let last = 64 + 2 * 32768 + 64;
    let excluded: Vec<u64> = (0..last + 100).filter(|pfn| !file.keeps(Pfn::new(*pfn))).collect();
    assert_eq!(excluded, (72..80).chain(last..last + 6).collect::<Vec<u64>>());

    // The same bytes a page further on are someone else's.
    memory.copy_within(AT as usize..AT as usize + area.len(), 0xa000);
    let error = BitmapReader::in_memory(Bytes(&memory), PhysAddr::new(0xa000)).unwrap_err().report();
    assert!(error.contains("self_address: expected 40960 (0xa000), found 12288 (0x3000)"), "{error}");
}

#[test]
fn a_report_reads_well() {
    let bytes = v2_file(0, 1000, &[range(0, 250)]).to_bytes().unwrap();
    let report = BitmapReader::from_bytes(&bytes).unwrap().describe().unwrap();
    insta::assert_snapshot!(report);
}

proptest! {
    #[test]
    fn a_filter_agrees_with_the_bits(
        first in (0_u64..8).prop_map(|n| n * 64),
        frames in 1_u64..2000,
        kept in prop::collection::vec((0_u64..2000, 1_u64..300), 0..6),
        windows in prop::collection::vec((0_u64..40, 1_u64..1000), 1..6),
        version in prop::sample::select(vec![Version::V1, Version::V2]),
    ) {
        let kept: Vec<PfnRange> = kept.into_iter().map(|(start, len)| range(start, start + len)).collect();
        let file = v2_file(first, frames, &kept).convert(version).unwrap().file;
        let bytes = file.to_bytes().unwrap();
        let reader = BitmapReader::from_bytes(&bytes).unwrap();
        prop_assert_eq!(reader.survey().unwrap().kept, file.bits.count());
        for (start, len) in windows {
            let window = range(start * 64, start * 64 + len);
            let mut keep = vec![u64::MAX; len.div_ceil(64) as usize];
            reader.clear_excluded(window, &mut keep).unwrap();
            for index in 0..len {
                let bit = keep[(index / 64) as usize] >> (index % 64) & 1 == 1;
                prop_assert_eq!(bit, file.keeps(Pfn::new(window.start.as_u64() + index)));
            }
        }
    }

    #[test]
    fn mutated_files_never_panic(changes in prop::collection::vec((0usize..4224, any::<u8>()), 1..6)) {
        for version in [Version::V1, Version::V2] {
            let mut bytes = v2_file(0, 1000, &[range(0, 9)]).convert(version).unwrap().file.to_bytes().unwrap();
            for (offset, value) in &changes {
                if let Some(byte) = bytes.get_mut(*offset) {
                    *byte = *value;
                }
            }
            if let Ok(file) = BitmapFile::from_bytes(&bytes) {
                prop_assert!(file.to_bytes().is_ok());
            }
        }
    }
}
