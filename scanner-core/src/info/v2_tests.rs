//! Tests of version 2: what is valid comes back, what is damaged is seen, what is contradictory is named.

use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

const AT: u64 = 0x7_4000_0000;

/// A complete bitmap of 100,000 frames in four chunks.
fn header() -> Header {
    let mut header = Header {
        self_address: AT,
        producer: Producer::Panic,
        state: State::Complete,
        dump_level: 31,
        rules: RecordedRules::Makedumpfile,
        scanned_up_to: 64 + 100_000,
        user_pages: 4711,
        scan_ns: 1_234_567,
        ..Header::new(Pfn::new(64), 100_000, 15)
    };
    header.set_kernel_release("6.12.0-test");
    header.set_clock("tsc 2893 MHz");
    header.set_build_id(&[0xab; 20]);
    header
}

fn chunk(header: &Header, index: u32) -> ChunkEntry {
    ChunkEntry::unsealed(0x1000_0000 - u64::from(index) * 0x1000, header.chunk_size(index)).sealed(index)
}

fn area_of(header: &Header) -> Vec<u8> {
    let mut area = std::vec![0; header.area_size()];
    for index in 0..header.chunk_count {
        header.put_chunk(&mut area, index, &chunk(header, index)).unwrap();
    }
    header.encode(&mut area).unwrap();
    area
}

/// Puts a checksum that fits over what the header says that it covers.
fn reseal(area: &mut [u8]) {
    let covered = Header::area_size_of(area).unwrap_or(area.len()).min(area.len());
    let crc = area_crc(&area[..covered]);
    put_array(area, CRC_OFFSET, crc.to_le_bytes());
}

/// The error after `change` and a new checksum over the result.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> InfoError {
    let mut area = area_of(&header());
    change(&mut area);
    reseal(&mut area);
    Header::decode(&area, AT).unwrap_err()
}

fn refused_field(offset: usize, value: u64, size: usize) -> InfoError {
    refused(|area| area[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]))
}

#[test]
fn a_header_comes_back_as_it_was() {
    let header = header();
    let area = area_of(&header);
    assert_eq!(Header::area_size_of(&area), Ok(area.len()));
    let decoded = Header::decode(&area, AT).unwrap();
    assert_eq!(Header { header_crc: 0, ..decoded }, header);
    assert_eq!(decoded.kernel_release(), "6.12.0-test");
    assert_eq!(decoded.clock(), "tsc 2893 MHz");
    assert_eq!(decoded.build_id(), [0xab; 20]);
    let chunks = decoded.chunks(&area).unwrap();
    assert_eq!(chunks.len(), 4);
    assert_eq!(chunks.get(3).unwrap().size, (100_000 - 3 * 32768_u64).div_ceil(8));
    assert_eq!(chunks.frames(3), Some(PfnRange::new(Pfn::new(64 + 3 * 32768), Pfn::new(100_064))));
    assert_eq!((chunks.get(4), chunks.frames(4)), (None, None));
    assert_eq!(chunks.iter().count(), 4);
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut area = area_of(&header());
    for bit in 0..area.len() * 8 {
        area[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&area, AT).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        area[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Header::decode(&area, AT).is_ok());
}

#[test]
fn every_truncation_is_seen() {
    let area = area_of(&header());
    for len in 0..area.len() {
        assert!(Header::decode(&area[..len], AT).unwrap_err().is_truncated(), "{len} bytes");
    }
    for len in 0..area.len() {
        let mut short = std::vec![0x55; len];
        assert!(header().encode(&mut short).unwrap_err().is_truncated());
        assert!(short.iter().all(|byte| *byte == 0x55));
    }
}

#[test]
fn a_copy_at_another_address_is_refused() {
    let error = Header::decode(&area_of(&header()), AT + 0x1000).unwrap_err();
    assert_eq!(error.field, "self_address");
    assert_eq!(error.expected, Expected::Exactly(AT + 0x1000));
    assert_eq!(error.found, AT);
}

#[test]
fn every_contradiction_is_named() {
    let cases = [
        ("version", offset_of!(Header, version), 3, 4),
        ("header_size", offset_of!(Header, header_size), 4096, 4),
        ("producer", offset_of!(Header, producer), 4, 4),
        ("state", offset_of!(Header, state), 8, 4),
        ("dump_level", offset_of!(Header, dump_level), 32, 4),
        ("rules", offset_of!(Header, rules), 3, 4),
        ("first_frame", offset_of!(Header, first_frame), 65, 8),
        ("first_frame", offset_of!(Header, first_frame), 1 << 41, 8),
        ("frame_count", offset_of!(Header, frame_count), 0, 8),
        ("frame_count", offset_of!(Header, frame_count), u64::MAX, 8),
        ("scanned_up_to", offset_of!(Header, scanned_up_to), 64, 8),
        ("chunk_shift", offset_of!(Header, chunk_shift), 14, 4),
        ("chunk_shift", offset_of!(Header, chunk_shift), 200, 4),
        ("chunk_count", offset_of!(Header, chunk_shift), 16, 4),
        ("chunk_count", offset_of!(Header, chunk_count), 3, 4),
        ("chunk_count", offset_of!(Header, chunk_count), 0, 4),
        ("chunk_count", offset_of!(Header, chunk_count), 4097, 4),
        ("page_shift", offset_of!(Header, page_shift), 14, 4),
        ("chunk_table", offset_of!(Header, chunk_table), 508, 4),
        ("chunk_table", offset_of!(Header, chunk_table), 4104, 4),
        ("chunk_entry_size", offset_of!(Header, chunk_entry_size), 32, 4),
        ("self_address", offset_of!(Header, self_address), AT + 4, 8),
        ("self_address", offset_of!(Header, self_address), (1 << 52) - 8, 8),
        ("first_unreadable", offset_of!(Header, first_unreadable), 1 << 52, 8),
        ("build_id_size", offset_of!(Header, build_id_size), 21, 4),
        ("build_id", offset_of!(Header, build_id_size), 19, 4),
        ("kernel_release", offset_of!(Header, kernel_release), 0x1b, 1),
        ("kernel_release", offset_of!(Header, kernel_release) + 64, 1, 1),
        ("clock", offset_of!(Header, clock) + 23, b'x'.into(), 1),
        ("padding", offset_of!(Header, padding) + 2, 1, 1),
        ("cause", offset_of!(Header, cause), 7, 4),
        ("cause_number", offset_of!(Header, cause_number), 14, 4),
        ("exception_error", offset_of!(Header, exception_error), 1, 8),
        ("exception_at", offset_of!(Header, exception_at), 1, 8),
        ("exception_address", offset_of!(Header, exception_address), 1, 8),
        ("reserved", offset_of!(Header, reserved) + 151, 1, 1),
    ];
    for (field, offset, value, size) in cases {
        assert_eq!(refused_field(offset, value, size).field, field, "{value:#x} at {offset}");
    }
    assert_eq!(
        refused_field(offset_of!(Header, dump_level), 32, 4).to_string(),
        "dump_level: expected 0 to 31, found 32"
    );
}

#[test]
fn every_contradiction_in_the_chunk_table_is_named() {
    let entry = |index: usize, offset: usize| Header::SIZE + index * ChunkEntry::SIZE + offset;
    let address = |index, value| refused_field(entry(index, 0), value, 8);
    for (index, value, rule) in [
        (2, 0x1000_0004, "a multiple of 8"),
        (2, 0, "8 to "),
        (2, (1 << 52) - 8, "8 to "),
        (2, u64::MAX - 7, "8 to "),
        (2, 0x1000_0000, "a chunk that no earlier one overlaps"),
        (2, AT, "a chunk outside of the header and the chunk table"),
        (2, AT - 4088, "a chunk outside of the header and the chunk table"),
    ] {
        let error = address(index, value);
        assert_eq!((error.field, error.chunk), ("address", Some(index as u32)), "{value:#x}");
        assert!(error.to_string().contains(rule), "{error}");
    }
    assert_eq!(refused_field(entry(0, 8), 4095, 8).field, "size");
    assert_eq!(refused_field(entry(3, 8), 4096, 8).field, "size");
    assert_eq!(refused_field(entry(0, 20), 3, 4).field, "flags");
    let unsealed = refused(|area| area[entry(1, 16)..entry(1, 24)].fill(0));
    assert_eq!(
        unsealed.to_string(),
        "chunk 1, flags: expected a sealed chunk (1), since the state is complete, found 0"
    );
    assert_eq!(refused_field(entry(1, 20), 0, 4).field, "crc32c");
}

#[test]
fn a_scan_that_stopped_leaves_a_valid_header() {
    for code in State::CODES {
        let state = State::from_code(code.value).unwrap();
        let base = Header { state, ..header() };
        let scanned_up_to = match state {
            State::Empty => 64,
            State::Complete => 100_064,
            _ => 4096,
        };
        let header = Header { scanned_up_to, ..base };
        assert_eq!(Header::decode(&area_of(&header), AT).unwrap().state, state);
    }
    // The largest machine: 4 PiB in chunks of 32 MiB.
    let largest = Header { self_address: 8, ..Header::new(Pfn::new(0), Pfn::END.as_u64(), 28) };
    assert_eq!(largest.chunk_count, MAX_CHUNKS);
    assert!(largest.encode(&mut std::vec![0; largest.area_size()]).is_ok());
}

#[test]
fn what_is_said_of_a_stop_fits_its_cause() {
    let header = Header { state: State::Fault, scanned_up_to: 4096, ..header() };
    for code in Cause::CODES {
        let cause = Cause::from_code(code.value).unwrap();
        let stopped = Header { cause, ..header };
        assert_eq!(Header::decode(&area_of(&stopped), AT).unwrap().cause, cause);
        let numbered = Header { cause_number: 256, ..stopped }.check().map_err(|error| error.field);
        assert_eq!(numbered, if cause == Cause::Refused { Ok(()) } else { Err("cause_number") });
        let said = Header { exception_error: 2, exception_at: 0x123, exception_address: !0, ..stopped };
        assert_eq!(said.check().is_ok(), cause == Cause::Exception);
    }
    assert_eq!(exception_name(6), Some("invalid opcode"));
    assert_eq!(exception_name(PAGE_FAULT), Some("page fault"));
    assert_eq!(exception_name(31), None);
}

#[test]
fn a_gap_before_the_table_is_zeroed_and_checked() {
    let header = Header { chunk_table: 1024, ..header() };
    let mut area = std::vec![0xff; header.area_size()];
    for index in 0..4 {
        header.put_chunk(&mut area, index, &chunk(&header, index)).unwrap();
    }
    header.encode(&mut area).unwrap();
    Header::decode(&area, AT).unwrap();
    area[1000] = 1;
    reseal(&mut area);
    assert_eq!(Header::decode(&area, AT).unwrap_err().field, "chunk_table");
}

#[test]
fn what_decode_would_refuse_is_not_encoded() {
    let mut area = std::vec![0; 1024];
    let wrong = Header { dump_level: 77, ..header() };
    assert_eq!(wrong.encode(&mut area).unwrap_err().field, "dump_level");
    let wrong = Header::new(Pfn::new(0), 1 << 30, 15);
    assert_eq!(wrong.encode(&mut area).unwrap_err().field, "chunk_count");
    assert!(area.iter().all(|byte| *byte == 0));
    assert_eq!(
        header().put_chunk(&mut area, 4, &ChunkEntry::unsealed(8, 8)).unwrap_err().field,
        "chunk_count"
    );
}

#[test]
fn text_that_does_not_fit_is_cut_off() {
    let mut header = header();
    header.set_kernel_release(&"x".repeat(80));
    assert_eq!(header.kernel_release().len(), 64);
    header.set_kernel_release("6.1\u{1b}[31m");
    assert_eq!(header.kernel_release(), "6.1");
    header.set_build_id(&[1; 21]);
    assert!(header.build_id().is_empty());
    header.check().unwrap();
}

/// Each field at the ends of what is accepted, and one past them.
#[test]
fn every_field_is_accepted_up_to_its_limits() {
    let fault = Header { state: State::Fault, scanned_up_to: 64, ..header() };
    let one_chunk = |frame_count, chunk_shift| Header::new(Pfn::new(0), frame_count, chunk_shift);
    let cases: [(&str, Header, Option<Header>); 15] = [
        ("dump_level", Header { dump_level: 31, ..fault }, Some(Header { dump_level: 32, ..fault })),
        ("dump_level", Header { dump_level: LEVEL_NOT_RECORDED, ..fault }, None),
        ("dump_level", Header { dump_level: 0, ..fault }, Some(Header { dump_level: u32::MAX - 1, ..fault })),
        ("scanned_up_to", fault, Some(Header { scanned_up_to: 63, ..fault })),
        (
            "scanned_up_to",
            Header { scanned_up_to: 100_064, ..fault },
            Some(Header { scanned_up_to: 100_065, ..fault }),
        ),
        ("frame_count", one_chunk(1, 15), Some(Header { frame_count: 0, ..one_chunk(1, 15) })),
        ("frame_count", one_chunk(1 << 40, 40), Some(one_chunk((1 << 40) + 1, 40))),
        ("chunk_shift", one_chunk(1, 15), Some(Header { chunk_shift: 14, ..one_chunk(1, 15) })),
        ("chunk_shift", one_chunk(1, 40), Some(Header { chunk_shift: 41, ..one_chunk(1, 15) })),
        ("chunk_count", one_chunk(4096 << 15, 15), Some(one_chunk((4096 << 15) + 1, 15))),
        ("chunk_table", Header { chunk_table: 4096, ..fault }, Some(Header { chunk_table: 4104, ..fault })),
        ("chunk_table", fault, Some(Header { chunk_table: 504, ..fault })),
        (
            "self_address",
            Header { self_address: (1 << 52) - 608, ..fault },
            Some(Header { self_address: (1 << 52) - 600, ..fault }),
        ),
        (
            "first_unreadable",
            Header { first_unreadable: (1 << 52) - 1, ..fault },
            Some(Header { first_unreadable: 1 << 52, ..fault }),
        ),
        ("build_id_size", fault, Some(Header { build_id_size: 21, ..fault })),
    ];
    for (field, accepted, refused) in cases {
        assert_eq!(accepted.check(), Ok(()), "{field}");
        let error = refused.map(|header| header.check().unwrap_err().field);
        assert!(error.is_none_or(|name| name == field), "{field}: {error:?}");
    }
}

#[test]
fn the_first_frame_may_be_the_last_aligned_one_of_physical_memory() {
    let header = Header::new(Pfn::new(Pfn::END.as_u64() - 64), 64, 15);
    assert_eq!(header.check(), Ok(()));
    assert_eq!(Header { frame_count: 65, ..header }.check().unwrap_err().field, "frame_count");
    assert_eq!(
        Header { first_frame: Pfn::END.as_u64() + 64, ..header }.check().unwrap_err().field,
        "first_frame"
    );
    let unaligned = Header { first_frame: 32, scanned_up_to: 32, ..header };
    assert_eq!(unaligned.check().unwrap_err().field, "first_frame");
}

#[test]
fn an_empty_bitmap_is_not_scanned_and_a_complete_one_is_to_its_end() {
    for (state, wrong) in [(State::Empty, [65, 100_064]), (State::Complete, [64, 100_063])] {
        for scanned_up_to in wrong {
            let header = Header { state, scanned_up_to, ..header() };
            assert_eq!(header.check().unwrap_err().field, "scanned_up_to", "{state} {scanned_up_to}");
        }
    }
}

#[test]
fn exceptions_have_numbers_up_to_255() {
    let fault = Header { state: State::Fault, scanned_up_to: 64, cause: Cause::Exception, ..header() };
    assert_eq!(Header { cause_number: 255, ..fault }.check(), Ok(()));
    assert_eq!(Header { cause_number: 256, ..fault }.check().unwrap_err().field, "cause_number");
    let refused = Header { cause: Cause::Refused, cause_number: u32::MAX, ..fault };
    assert_eq!(refused.check(), Ok(()));
}

#[test]
fn a_new_header_records_nothing_yet() {
    let new = Header::new(Pfn::new(128), 1000, 15);
    assert_eq!(new.check(), Ok(()));
    assert_eq!((new.level(), new.kernel_release(), new.clock()), (None, "", ""));
    assert!(new.build_id().is_empty());
    assert_eq!(new.frames(), PfnRange::from_start(Pfn::new(128), 1000));
    assert_eq!(new.area_size(), 512 + 24);
    assert_eq!((new.user_pages, new.unscanned_pages), (NOT_COUNTED, NOT_COUNTED));
}

#[test]
fn a_header_says_which_frames_and_bytes_each_chunk_has() {
    let header = header();
    assert_eq!(header.geometry().frames(), header.frames());
    for index in 0..5 {
        assert_eq!(header.chunk_frames(index), header.geometry().chunk_frames(index));
        assert_eq!(header.chunk_size(index), header.geometry().chunk_size(index));
    }
    assert_eq!((header.chunk_size(0), header.chunk_size(4)), (4096, 0));
    assert_eq!(header.chunk_frames(4), None);
}

#[test]
fn a_scan_is_recorded_with_level_rules_and_counters() {
    let mut counters = Counters::default();
    for (pages, class) in (1..).zip(PageClass::ALL) {
        counters.add(class, pages);
    }
    let mut header = Header::new(Pfn::new(0), 1000, 15);
    header.set_scan(DumpLevel::from_number(17).unwrap(), RuleSet::Kernel, &counters);
    assert_eq!((header.level(), header.rules), (Some(17), RecordedRules::Kernel));
    let recorded = [
        header.free_pages,
        header.unaccepted_pages,
        header.cache_pages,
        header.cache_private_pages,
        header.user_pages,
        header.hwpoison_pages,
        header.offline_pages,
    ];
    assert_eq!(recorded, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(header.zero_pages, NOT_COUNTED);
}

#[test]
fn updates_write_what_encode_writes() {
    let header = header();
    let area = area_of(&header);
    let mut again = area.clone();
    again[..Header::SIZE].fill(0xff);
    assert_eq!(header.update(&mut again), Some(area.len()));
    assert_eq!(again, area);
    assert_eq!(header.update(&mut again[..area.len() - 1]), None);
}

#[test]
fn a_chunk_is_put_only_where_the_table_has_it() {
    let header = header();
    let chunk = ChunkEntry::unsealed(8, 8);
    let mut area = std::vec![0; header.area_size()];
    assert_eq!(header.put_chunk(&mut area, 3, &chunk), Ok(()));
    assert_eq!(area.iter().position(|byte| *byte != 0), Some(512 + 3 * 24));
    let error = header.put_chunk(&mut area[..512 + 95], 3, &chunk).unwrap_err();
    assert_eq!((error.field, error.expected, error.found), ("chunk_table", Expected::Bytes(608), 607));
    assert!(header.chunks(&area[..607]).unwrap_err().is_truncated());
}

#[test]
fn text_ends_with_a_zero_byte_and_is_printable() {
    let check = |bytes: &[u8]| check_text("clock", bytes).is_ok();
    for (bytes, is_valid) in [
        (&b"tsc ~\0\0"[..], true),
        (b"\0", true),
        (b"", false),
        (b"tsc", false),
        (b"t\x1f\0", false),
        (b"t\x7f\0", false),
        (b"t\0x\0", false),
    ] {
        assert_eq!(check(bytes), is_valid, "{bytes:?}");
    }
    let unterminated = check_text("clock", b"tsc").unwrap_err();
    assert_eq!((unterminated.field, unterminated.found), ("clock", u64::from(b'c')));
}

#[test]
fn text_that_just_fits_is_kept() {
    let mut header = header();
    header.set_clock("12345678901234567890123");
    assert_eq!(header.clock(), "12345678901234567890123");
    header.set_clock("123456789012345678901234");
    assert_eq!(header.clock().len(), 23);
    header.check().unwrap();
    // A shorter text leaves nothing of the one before.
    header.set_clock("x");
    assert_eq!(header.clock, *b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_build_id_has_at_most_20_bytes() {
    let mut header = header();
    header.set_build_id(&[7; 16]);
    assert_eq!((header.build_id(), header.build_id_size), (&[7; 16][..], 16));
    header.check().unwrap();
    header.set_build_id(&[8; 20]);
    assert_eq!(header.build_id(), [8; 20]);
    header.set_build_id(&[9; 21]);
    assert_eq!((header.build_id(), header.build_id), (&[][..], [0; 20]));
}

#[test]
fn the_size_of_the_area_is_known_from_the_header_alone() {
    let area = area_of(&header());
    assert_eq!(Header::area_size_of(&area[..512]), Ok(608));
    let error = Header::area_size_of(&area[..511]).unwrap_err();
    assert_eq!((error.field, error.expected, error.found), ("header_size", Expected::Bytes(512), 511));
    let mut other = area.clone();
    other[0] = b'X';
    assert_eq!(Header::area_size_of(&other).unwrap_err().field, "magic");
}

proptest! {
    /// Whatever stands in the area, with a checksum that fits: no panic, and what is accepted is written back
    /// as the same bytes.
    #[test]
    fn mutated_areas(changes in prop::collection::vec((0usize..608, any::<u8>()), 1..8)) {
        let mut area = area_of(&header());
        for (offset, value) in changes {
            area[offset] = value;
        }
        reseal(&mut area);
        if let Ok(header) = Header::decode(&area, AT) {
            let mut again = area.clone();
            again[..Header::SIZE].fill(0);
            prop_assert_eq!(header.encode(&mut again), Ok(area.len()));
            prop_assert_eq!(again, area);
        }
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        prop_assert!(Header::decode(&bytes, 0).is_err());
    }
}
