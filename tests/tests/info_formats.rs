//! The formats of `crash_dump_bitmap_info`: golden files, the specification's tables, and the C header.

use page_filter::bitmap_file::{BitmapFile, BitmapReader, Info};
use scanner_core::info::v2::{Cause, ChunkEntry, Header, Producer, RecordedRules, State};
use scanner_core::info::{Code, StructureLayout, Version, v1};
use scanner_core::{Pfn, PfnRange};
use std::path::{Path, PathBuf};
use std::process::Command;
use vmcore_analysis::info_layout;

const BOTH: [Version; 2] = [Version::V1, Version::V2];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A golden file. Golden files were assembled byte by byte, not by this project's code. They represent all existing
/// files, so they are never regenerated: if a test fails, the code is wrong.
fn golden(name: &str) -> Vec<u8> {
    let path = root().join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn set_bits(file: &BitmapFile) -> Vec<(u64, u64)> {
    let ranges = file.bits.to_ranges();
    ranges.as_slice().iter().map(|range| (range.start.as_u64(), range.end.as_u64())).collect()
}

#[test]
fn golden_version_1_is_read_and_written_unchanged() {
    let bytes = golden("v1.bin");
    let file = BitmapFile::from_bytes(&bytes).unwrap();
    let expected = v1::Info {
        version: 1,
        bitmap: 4096,
        bitmap_size: 16,
        cache_pages: 11,
        cache_private_pages: 22,
        user_pages: 33,
        free_pages: 44,
        hwpoison_pages: 55,
    };
    assert_eq!(file.info, Info::V1(expected));
    assert_eq!(
        set_bits(&file),
        [
            (0, 1),
            (15, 24),
            (32, 33),
            (34, 35),
            (36, 37),
            (38, 39),
            (41, 42),
            (43, 44),
            (45, 46),
            (47, 48),
            (52, 60),
            (120, 121),
            (127, 128)
        ]
    );
    assert_eq!(file.to_bytes().unwrap(), bytes);
}

#[test]
fn golden_version_2_is_read() {
    let bytes = golden("v2.bin");
    let file = BitmapFile::from_bytes(&bytes).unwrap();
    let mut expected = Header {
        self_address: 0,
        producer: Producer::Host,
        state: State::Complete,
        dump_level: 31,
        rules: RecordedRules::Kernel,
        scanned_up_to: 128 + 65_636,
        chunk_table: 512,
        header_crc: 0xd5d5_2bab,
        first_unreadable: 0x1_2345_6000,
        zero_pages: 1,
        cache_pages: 2,
        cache_private_pages: 3,
        user_pages: 4,
        free_pages: 5,
        hwpoison_pages: 6,
        offline_pages: 7,
        unaccepted_pages: 8,
        unreadable_pages: 9,
        unscanned_pages: 10,
        bad_order_pages: 11,
        setup_ns: 1001,
        scan_ns: 2002,
        seal_ns: 3003,
        vmcoreinfo_crc: 0xcafe_f00d,
        ..Header::new(Pfn::new(128), 65_636, 15)
    };
    expected.set_clock("tsc 2893 MHz");
    expected.set_build_id(&core::array::from_fn::<u8, 20, _>(|i| i as u8 + 1));
    expected.set_kernel_release("6.12.0-golden");
    assert_eq!(file.info, Info::V2(Box::new(expected)));
    assert_eq!(set_bits(&file), [(0, 512), (32768, 32772), (65536 + 99, 65536 + 100)]);

    let reader = BitmapReader::from_bytes(&bytes).unwrap();
    let chunk = |address, size, crc| ChunkEntry::unsealed(address, size).sealed(crc);
    let range = |start, len| PfnRange::from_start(Pfn::new(start), len);
    assert_eq!(
        reader.chunks(),
        [
            (range(128, 32768), chunk(8192, 4096, 0x51ca_a1a6)),
            (range(128 + 32768, 32768), chunk(4096, 4096, 0xd71d_2b27)),
            (range(128 + 65536, 100), chunk(12288, 13, 0x3682_fd2b)),
        ]
    );
}

/// The file of a purgatory stage that a page fault stopped, with the fields of the cause.
#[test]
fn golden_version_2_with_a_cause_is_read_and_encoded() {
    let bytes = golden("v2-exception.bin");
    let file = BitmapFile::from_bytes(&bytes).unwrap();
    let mut expected = Header {
        producer: Producer::Purgatory,
        state: State::Fault,
        dump_level: 31,
        rules: RecordedRules::Makedumpfile,
        scanned_up_to: 256,
        header_crc: 0x9b72_e93e,
        unscanned_pages: 744,
        setup_ns: 1001,
        vmcoreinfo_crc: 0xcafe_f00d,
        cause: Cause::Exception,
        cause_number: 14,
        exception_error: 2,
        exception_at: 0x1234,
        exception_address: 0xffff_ffff_ffff_f000,
        ..Header::new(Pfn::new(0), 1000, 40)
    };
    expected.set_clock("tsc 2893 MHz");
    expected.set_build_id(&core::array::from_fn::<u8, 20, _>(|i| i as u8 + 1));
    expected.set_kernel_release("6.12.0-golden");
    assert_eq!(file.info, Info::V2(Box::new(expected)));
    assert_eq!(set_bits(&file), [(0, 4), (255, 1000)]);
    let report = BitmapReader::from_bytes(&bytes).unwrap().describe().unwrap().scan.unwrap();
    let said = "page fault writing 0xfffffffffffff000, at stage+0x1234";
    assert_eq!(report.stopped_by.as_deref(), Some(said));
    assert_eq!(file.convert(Version::V1).unwrap().lost.iter().filter(|lost| lost.contains(said)).count(), 1);
    let mut area = bytes.clone();
    assert_eq!(expected.encode(&mut area), Ok(512 + 24));
    assert_eq!(area, bytes);
}

#[test]
fn golden_version_2_is_encoded_to_the_same_bytes() {
    let bytes = golden("v2.bin");
    let header = Header::decode(&bytes, 0).unwrap();
    let chunks: Vec<ChunkEntry> = header.chunks(&bytes).unwrap().iter().collect();
    let mut area = vec![0xff; header.area_size()];
    for (index, chunk) in (0..).zip(&chunks) {
        header.put_chunk(&mut area, index, chunk).unwrap();
    }
    assert_eq!(header.encode(&mut area), Ok(512 + 3 * 24));
    assert_eq!(area, bytes[..area.len()]);

    // Writing a file lays out its chunks again; all other fields are unchanged.
    let file = BitmapFile::from_bytes(&bytes).unwrap();
    let again = BitmapFile::from_bytes(&file.to_bytes().unwrap()).unwrap();
    assert_eq!(again.bits, file.bits);
    let Info::V2(written) = again.info else { panic!("not version 2") };
    assert_eq!((written.chunk_shift, written.chunk_count), (23, 1));
    let chunks_of = |header: &Header| (header.chunk_shift, header.chunk_count, header.header_crc);
    let (chunk_shift, chunk_count, header_crc) = chunks_of(&header);
    assert_eq!(Header { chunk_shift, chunk_count, header_crc, ..*written }, header);
}

#[test]
fn the_layout_as_text() {
    insta::assert_snapshot!("layout_table", info_layout::tables(&BOTH));
    insta::assert_snapshot!("layout_json", format!("{:#}", info_layout::json(&BOTH)));
}

/// The fields of a structure do not overlap, and the bytes between them are C padding.
#[test]
fn fields_do_not_overlap() {
    for layout in [v1::Info::LAYOUT, Header::LAYOUT, ChunkEntry::LAYOUT] {
        let mut end = 0;
        for field in layout.fields {
            let padding = field.offset - end;
            assert!(padding == 0 || field.name == "bitmap" && padding == 4, "{}", field.name);
            end = field.offset + field.size;
        }
        assert_eq!(end, layout.size, "{}", layout.c_name);
    }
}

#[test]
fn the_specification_has_the_tables_from_the_code() {
    let text = std::fs::read_to_string(root().join("Documentation/reference/bitmap-format.md")).unwrap();
    let structures = [v1::Info::LAYOUT, Header::LAYOUT, ChunkEntry::LAYOUT];
    let codes = [Producer::CODES, State::CODES, RecordedRules::CODES, Cause::CODES];
    let tables = structures.iter().map(|layout: &StructureLayout| info_layout::field_table(layout));
    for table in tables.chain(codes.iter().map(|codes: &&[Code]| info_layout::code_table(codes))) {
        assert!(text.contains(&table), "Documentation/reference/bitmap-format.md lacks this table:\n{table}");
    }
}

#[test]
fn the_c_header_matches_the_code() {
    let path = root().join("linker/crash-scan/include/crash_dump_bitmap.h");
    let header = info_layout::c_header(&BOTH);
    assert!(
        std::fs::read_to_string(&path).unwrap() == header,
        "{} differs from `cdbitmap layout --as c`",
        path.display()
    );
}

/// A C program that includes the header reads the same values from the golden files as the code.
#[test]
fn c_reads_the_golden_file() {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: cc is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("reader.c"), directory.path().join("reader"));
    std::fs::write(&source, C_READER).unwrap();
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root().join("linker/crash-scan/include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let run = |name: &str| {
        let output = Command::new(&program).arg(root().join("tests/golden").join(name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("v1.bin"), "version 1 bitmap 4096 size 16 user 33 hwpoison 55\n");
    assert_eq!(
        run("v2.bin"),
        "version 2 state complete level 31 frames 128+65636 user 4 release 6.12.0-golden\n\
         chunk 2 at 12288 size 13 crc 3682fd2b sealed 1\n"
    );
}

const C_READER: &str = r#"
#include "crash_dump_bitmap.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static unsigned char area[4096];
    struct crash_dump_bitmap_info_v1 v1;
    struct crash_dump_bitmap_info_v2 v2;
    struct crash_dump_bitmap_chunk chunk;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;

    if (!file || fread(area, sizeof(area), 1, file) != 1)
        return 1;
    memcpy(&v1, area, sizeof(v1));
    memcpy(&v2, area, sizeof(v2));
    if (memcmp(v2.magic, CRASH_DUMP_BITMAP_V2_MAGIC, sizeof(v2.magic))) {
        printf("version %u bitmap %llu size %llu user %lu hwpoison %lu\n", v1.version, v1.bitmap,
               v1.bitmap_size, v1.user_pages, v1.hwpoison_pages);
        return 0;
    }
    printf("version %u state %s level %u frames %llu+%llu user %llu release %s\n", v2.version,
           v2.state == CRASH_DUMP_BITMAP_STATE_COMPLETE ? "complete" : "other", v2.dump_level,
           (unsigned long long)v2.first_frame, (unsigned long long)v2.frame_count,
           (unsigned long long)v2.user_pages, v2.kernel_release);
    memcpy(&chunk, area + v2.chunk_table + 2 * v2.chunk_entry_size, sizeof(chunk));
    printf("chunk 2 at %llu size %llu crc %x sealed %u\n", (unsigned long long)chunk.address,
           (unsigned long long)chunk.size, chunk.crc32c, chunk.flags & CRASH_DUMP_BITMAP_CHUNK_SEALED);
    return 0;
}
"#;
