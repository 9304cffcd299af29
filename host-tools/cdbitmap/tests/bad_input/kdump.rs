//! Damaged kdump-compressed files, plain and flattened.

use crate::bench::{Bench, HEALTHY, with};

/// Offsets of fields in the header.
const VERSION: usize = 8;
const BLOCK_SIZE: usize = 428;
const SUB_HDR_SIZE: usize = 432;
const BITMAP_BLOCKS: usize = 436;
const MAX_MAPNR: usize = 440;
/// File offsets of fields in the sub header.
const OFFSET_VMCOREINFO: usize = 4096 + 32;
const OFFSET_NOTE: usize = 4096 + 48;
const SIZE_NOTE: usize = 4096 + 56;
const SIZE_ERASEINFO: usize = 4096 + 72;
const MAX_MAPNR_64: usize = 4096 + 96;
/// Sizes of the header of a flattened file, and of the header of a record.
const FLATTENED_HEADER: usize = 4096;
const RECORD: usize = 16;

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn cut_off_anywhere() {
    let mut bench = Bench::new();
    let dump = &HEALTHY.kdump;
    let bitmaps = (1 + number(dump, SUB_HDR_SIZE)) * 4096;
    let descriptors = bitmaps + number(dump, BITMAP_BLOCKS) * 4096;
    for (name, size) in [
        ("in_the_header", 300),
        ("behind_the_header", 4096),
        ("in_the_sub_header", 4096 + 50),
        ("in_the_notes", 4096 + 200),
        ("in_the_1st_bitmap", bitmaps + 100),
        ("in_the_2nd_bitmap", descriptors - 4096 + 10),
        ("in_the_descriptors", descriptors + 100),
        ("in_the_pages", dump.len() / 2),
    ] {
        bench.put(name, &dump[..size]);
        bench.refused(&format!("dump {name} out"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn headers_that_contradict_the_file_or_themselves() {
    let mut bench = Bench::new();
    let dump = &HEALTHY.kdump;
    for (name, bytes) in [
        ("version_7", with(dump, VERSION, &[7])),
        ("version_0", with(dump, VERSION, &[0])),
        ("block_size_65536", with(dump, BLOCK_SIZE, &65536_u32.to_le_bytes())),
        ("sub_header_of_4g_blocks", with(dump, SUB_HDR_SIZE, &[0xff; 4])),
        ("bitmaps_of_4g_blocks", with(dump, BITMAP_BLOCKS, &[0xff; 4])),
        ("no_bitmaps", with(dump, BITMAP_BLOCKS, &[0; 4])),
        ("max_mapnr_0", with(&with(dump, MAX_MAPNR, &[0; 4]), MAX_MAPNR_64, &[0; 8])),
        ("max_mapnr_2_to_40", with(dump, MAX_MAPNR_64, &(1_u64 << 40).to_le_bytes())),
        ("max_mapnr_all_ones", with(dump, MAX_MAPNR_64, &[0xff; 8])),
        ("notes_behind_the_end", with(dump, OFFSET_NOTE, &(1_u64 << 50).to_le_bytes())),
        ("notes_of_an_exbibyte", with(dump, SIZE_NOTE, &(1_u64 << 60).to_le_bytes())),
        ("vmcoreinfo_behind_the_end", with(dump, OFFSET_VMCOREINFO, &[0xff; 8])),
        ("erase_info_of_an_exbibyte", with(dump, SIZE_ERASEINFO, &(1_u64 << 60).to_le_bytes())),
    ] {
        bench.put(name, bytes);
        bench.refused(&format!("dump {name} out"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn flattened() {
    let mut bench = Bench::new();
    let stream = &HEALTHY.flattened;
    for (name, bytes) in [
        ("cut_in_the_stream_header", stream[..1000].to_vec()),
        ("cut_behind_the_stream_header", stream[..FLATTENED_HEADER].to_vec()),
        ("cut_in_a_record_header", stream[..FLATTENED_HEADER + 9].to_vec()),
        ("cut_in_the_dump_header", stream[..FLATTENED_HEADER + RECORD + 200].to_vec()),
        ("type_2", with(stream, 23, &[2])),
        ("version_2", with(stream, 31, &[2])),
        ("record_at_a_negative_offset", with(stream, FLATTENED_HEADER, &[0x80])),
        ("record_of_negative_size", with(stream, FLATTENED_HEADER + 8, &[0x80])),
        ("record_of_an_exbibyte", with(stream, FLATTENED_HEADER + 8, &[0x10])),
        (
            "record_behind_all_files",
            with(stream, FLATTENED_HEADER, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
    ] {
        bench.put(name, bytes);
        bench.refused(&format!("dump {name} out"));
    }
    insta::assert_snapshot!(bench.transcript());
}
