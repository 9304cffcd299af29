use super::*;
use std::vec::Vec;

/// 100,000 frames from 64 on, in chunks of 32768.
const GEOMETRY: ChunkGeometry =
    ChunkGeometry { first_frame: 64, frame_count: 100_000, chunk_shift: 15, chunk_count: 4 };
/// The memory of the header and the table.
const AREA: ChunkEntry = ChunkEntry::unsealed(0x10_0000, 608);

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

// Which frames each chunk stands for.

#[test]
fn all_chunks_but_the_last_have_the_same_frames() {
    assert_eq!(GEOMETRY.frames(), range(64, 100_064));
    let chunks: Vec<_> = (0..5).map(|index| GEOMETRY.chunk_frames(index)).collect();
    assert_eq!(
        chunks,
        [
            Some(range(64, 32_832)),
            Some(range(32_832, 65_600)),
            Some(range(65_600, 98_368)),
            Some(range(98_368, 100_064)),
            None
        ]
    );
}

#[test]
fn a_chunk_has_a_bit_for_each_frame_rounded_up_to_bytes() {
    assert_eq!([0, 2, 3, 4].map(|index| GEOMETRY.chunk_size(index)), [4096, 4096, 212, 0]);
    for (frame_count, size) in [(1, 1), (7, 1), (8, 1), (9, 2), (32_768, 4096)] {
        assert_eq!(ChunkGeometry { frame_count, ..GEOMETRY }.chunk_size(0), size, "{frame_count}");
    }
}

#[test]
fn a_shift_that_cannot_be_has_no_chunks() {
    let geometry = ChunkGeometry { chunk_shift: 64, ..GEOMETRY };
    assert_eq!((geometry.chunk_frames(0), geometry.chunk_size(0)), (None, 0));
}

#[test]
fn the_frames_tell_how_many_chunks_there_are() {
    for (frames, shift, chunks) in [
        (0, 15, 0),
        (1, 15, 1),
        (32_768, 15, 1),
        (32_769, 15, 2),
        (u64::from(u32::MAX), 0, u32::MAX),
        (1 << 40, 0, u32::MAX),
        (1, 64, u32::MAX),
    ] {
        assert_eq!(chunks_for(frames, shift), chunks, "{frames} {shift}");
    }
}

// Entries.

#[test]
fn an_entry_is_sealed_by_its_checksum() {
    let entry = ChunkEntry::unsealed(0x1000, 4096);
    assert!(!entry.is_sealed());
    let sealed = entry.sealed(77);
    assert!(sealed.is_sealed());
    assert_eq!((sealed.address, sealed.size, sealed.crc32c, sealed.flags), (0x1000, 4096, 77, 1));
    // Other bits say nothing about it.
    assert!(!ChunkEntry { flags: 2, ..entry }.is_sealed());
}

#[test]
fn chunks_overlap_if_they_share_a_byte() {
    let chunk = |address, size| ChunkEntry::unsealed(address, size);
    let middle = chunk(100, 10);
    for (other, expected) in [
        (chunk(90, 10), false),
        (chunk(90, 11), true),
        (chunk(105, 1), true),
        (chunk(109, 10), true),
        (chunk(110, 10), false),
        (chunk(0, 1000), true),
        (chunk(100, 10), true),
    ] {
        assert_eq!(overlap(&middle, &other), expected, "{other:?}");
        assert_eq!(overlap(&other, &middle), expected, "{other:?}");
    }
}

// The table.

fn entries() -> [ChunkEntry; 4] {
    [0, 1, 2, 3].map(|index| {
        ChunkEntry::unsealed(0x20_0000 + 0x1000 * u64::from(index), GEOMETRY.chunk_size(index)).sealed(index)
    })
}

fn bytes(entries: &[ChunkEntry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

fn check(entries: &[ChunkEntry], complete: bool) -> Result<(), InfoError> {
    ChunkTable::new(GEOMETRY, &bytes(entries)).check(AREA, complete)
}

/// The error of a table in which `change` was made to entry 2.
fn refused(change: impl FnOnce(&mut ChunkEntry)) -> InfoError {
    let mut entries = entries();
    change(&mut entries[2]);
    let error = check(&entries, true).unwrap_err();
    assert_eq!(error.chunk, Some(2));
    error
}

#[test]
fn a_table_has_its_entries_in_order() {
    let bytes = bytes(&entries());
    let table = ChunkTable::new(GEOMETRY, &bytes);
    assert_eq!(table.len(), 4);
    assert!(!table.is_empty());
    assert!(table.iter().eq(entries()));
    for (index, entry) in (0..).zip(entries()) {
        assert_eq!(table.get(index), Some(entry));
        assert_eq!(table.frames(index), GEOMETRY.chunk_frames(index));
    }
    assert_eq!((table.get(4), table.get(u32::MAX), table.frames(4)), (None, None, None));
}

#[test]
fn a_table_without_chunks_is_empty() {
    let table = ChunkTable::new(ChunkGeometry { chunk_count: 0, ..GEOMETRY }, &[]);
    assert!(table.is_empty());
    assert_eq!((table.len(), table.iter().count(), table.get(0)), (0, 0, None));
}

#[test]
fn sealed_chunks_side_by_side_are_valid() {
    assert_eq!(check(&entries(), true), Ok(()));
    assert_eq!(check(&entries(), false), Ok(()));
}

#[test]
fn unsealed_chunks_are_valid_until_the_bitmap_is_complete() {
    let mut entries = entries();
    entries[2] = ChunkEntry::unsealed(entries[2].address, entries[2].size);
    assert_eq!(check(&entries, false), Ok(()));
    assert_eq!(check(&entries, true).unwrap_err().field, "flags");
}

#[test]
fn a_chunk_has_the_size_of_its_frames() {
    for size in [0, 4095, 4097] {
        assert_eq!(refused(|entry| entry.size = size).field, "size", "{size}");
    }
}

#[test]
fn a_chunk_lies_in_physical_memory_after_its_first_8_bytes() {
    for address in [0, 7, 0x20_2004, (1 << 52) - 4088, (1 << 52) - 4096 + 8, u64::MAX - 7] {
        assert_eq!(refused(|entry| entry.address = address).field, "address", "{address:#x}");
    }
    for address in [8, (1 << 52) - 4096] {
        let mut entries = entries();
        entries[2].address = address;
        assert_eq!(check(&entries, true), Ok(()), "{address:#x}");
    }
}

#[test]
fn only_the_lowest_flag_is_known() {
    assert_eq!(refused(|entry| entry.flags = 2).field, "flags");
    assert_eq!(refused(|entry| entry.flags = 3).field, "flags");
}

#[test]
fn an_unsealed_chunk_has_no_checksum() {
    let mut entries = entries();
    entries[2].flags = 0;
    assert_eq!(check(&entries, false).unwrap_err().field, "crc32c");
}

#[test]
fn a_chunk_overlaps_neither_another_one_nor_the_header() {
    let other_chunk = refused(|entry| entry.address = 0x20_1008);
    let header = refused(|entry| entry.address = 0x10_0000 + 600);
    assert_eq!((other_chunk.field, header.field), ("address", "address"));
    assert_ne!(other_chunk.expected, header.expected);
    for address in [0x10_0000 + 608, 0x10_0000 - 4096] {
        let mut entries = entries();
        entries[2].address = address;
        assert_eq!(check(&entries, true), Ok(()), "{address:#x}");
    }
}
