//! Bitmaps in a machine's memory: located in each way; complete, damaged, of another machine, incomplete.

use cross_tests::overlay::{MACHINE, OverlayImage, Site, by_address, kept, pieces};
use page_filter::bitmap_file::{BitmapFile, Info};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{MemoryBitmap, Request, SearchHints, find};
use scanner_core::info::Version;
use scanner_core::info::v2::{NOT_COUNTED, State};
use scanner_core::{Counters, DumpLevel, Pfn, PfnRange, RuleSet};
use vmcore::frames::FrameBitmap;
use vmcore::output::OutputFile;

const REQUEST: Request = Request { level: DumpLevel::all(), rules: RuleSet::Makedumpfile };

#[test]
fn each_way_locates_the_bitmap() {
    for version in [Version::V1, Version::V2] {
        let at = MACHINE.site.at;
        let line = |address: u64| format!("SYMBOL(crash_dump_bitmap_info)={address:x}");
        let command_line =
            Some(format!("irqpoll crash_dump_bitmap=0x0 nr_cpus=1 crash_dump_bitmap={at:#x}\n"));
        let cases = [
            (MACHINE.with_bitmap(version).vmcoreinfo_line(&line(at)), SearchHints::default(), "VMCOREINFO"),
            (
                MACHINE.with_bitmap(version).vmcoreinfo_line(&line(MACHINE.virtual_address())),
                SearchHints::default(),
                "VMCOREINFO",
            ),
            (
                MACHINE.with_bitmap(version).note(b"CDBITMAP", 1, &at.to_le_bytes()),
                SearchHints::default(),
                "ELF note",
            ),
            (MACHINE.with_bitmap(version), SearchHints { command_line, address: None }, "command line"),
            (MACHINE.with_bitmap(version), by_address(at), "--bitmap-address"),
        ];
        for (image, hints, by) in cases {
            let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
            let mut found = MemoryBitmap::new(&machine, &hints, REQUEST).unwrap();
            assert_eq!((found.report().found_by, found.report().address), (by, at));
            let expected = FrameBitmap::from_bytes(&MACHINE.file_of(version).bits.to_bytes(), machine.frames);
            assert!(kept(&mut found, machine.frames, 4096) == expected, "{by}");
        }
    }
}

#[test]
fn the_first_valid_location_is_used_and_all_reasons_are_reported() {
    let at = MACHINE.site.at;
    let image = MACHINE
        .with_bitmap(Version::V2)
        .vmcoreinfo_line("SYMBOL(crash_dump_bitmap_info)=not-hexadecimal")
        .note(b"CDBITMAP", 1, &(at + 8).to_le_bytes());
    let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
    let found = MemoryBitmap::new(&machine, &by_address(at), REQUEST).unwrap();
    assert_eq!(found.report().found_by, "--bitmap-address");
    let error = find(&image, None, &by_address(1)).err().unwrap().report();
    for reason in [
        "VMCOREINFO: \"not-hexadecimal\" is not an address; ELF note: at 0x",
        "version: expected 1",
        "--bitmap-address: at 0x1: the address is not a multiple of 8",
    ] {
        assert!(error.contains(reason), "{error}");
    }
    let error = find(&*MACHINE.image, None, &SearchHints::default()).err().unwrap().report();
    assert!(error.contains("no bitmap is named by"), "{error}");
}

#[test]
fn undecided_frames_are_scanned_or_kept() {
    let frames = MACHINE.v2.info.frames().len();
    for (stopped_at, sealed) in [(1, true), (100_000, false), (frames - 1, true)] {
        let mut file = MACHINE.v2.clone();
        if let Info::V2(header) = &mut file.info {
            header.state = State::OutOfBudget;
            header.scanned_up_to = stopped_at;
            header.set_counters(&Counters::default());
            header.free_pages = NOT_COUNTED;
        }
        file.bits.set_range(PfnRange::new(Pfn::new(stopped_at), Pfn::new(frames)));
        let site = Site { sealed, ..MACHINE.site };
        let image = OverlayImage::new(&*MACHINE.image).put_all(pieces(&file, site));
        let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
        let mut as_it_is = MemoryBitmap::new(&machine, &by_address(site.at), REQUEST).unwrap();
        assert!(kept(&mut as_it_is, frames, 8192) == file.bits);
        let mut scanned = MemoryBitmap::new(&machine, &by_address(site.at), REQUEST).unwrap();
        scanned.scan_the_rest(&machine, REQUEST.level);
        // Where the scan decides, it excludes the free block that contains the bitmap.
        let mut expected = MACHINE.v2.bits.clone();
        let place = PfnRange::from_start(Pfn::new(site.at / 4096), 64);
        if place.end.as_u64().next_multiple_of(8192) > stopped_at {
            expected.clear_range(place);
        }
        assert!(kept(&mut scanned, frames, 8192) == expected, "{stopped_at}");
    }
}

#[test]
fn a_copy_is_a_bitmap_file() {
    let directory = tempfile::tempdir().unwrap();
    for version in [Version::V1, Version::V2] {
        let image = MACHINE.with_bitmap(version);
        let found = find(&image, None, &by_address(MACHINE.site.at)).unwrap();
        let path = directory.path().join("bitmap");
        found.reader.copy_to(OutputFile::create(&path, true).unwrap()).unwrap();
        let (copy, left) = (BitmapFile::read(&path).unwrap(), MACHINE.file_of(version));
        assert!(copy.to_bytes().unwrap() == left.to_bytes().unwrap());
    }
}
