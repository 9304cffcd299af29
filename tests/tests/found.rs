//! Bitmaps that are found in a machine's memory: by each of the ways, whole, damaged, of others, unfinished.

use cdbitmap::bitmap_file::{BitmapFile, Info};
use cdbitmap::dump::FrameFilter;
use cdbitmap::found::{Clues, Found, Job, find};
use cdbitmap::frames::FrameBitmap;
use cdbitmap::image::{MemoryImage, OpenOptions, open};
use cdbitmap::machine::Machine;
use cdbitmap::output::OutputFile;
use cdbitmap::scan::scan;
use cdbitmap::synth::{GENERATIONS, Spec};
use cross_tests::planted::{Planted, Site, pieces};
use cross_tests::synth;
use scanner_core::info::Version;
use scanner_core::info::v2::{Producer, State};
use scanner_core::scan::Unhurried;
use scanner_core::{DumpLevel, Pfn, PfnRange, PhysAddr, RuleSet};
use std::sync::LazyLock;
use std::time::Duration;

/// A machine of several sections, and the bitmap that its producer would have made.
struct Bench {
    image: Box<dyn MemoryImage>,
    v1: BitmapFile,
    v2: BitmapFile,
    /// Where there is room for a structure and its chunks.
    site: Site,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let generation = GENERATIONS.iter().find(|g| g.name == "6.12").expect("6.12 can be simulated");
    let (file, _) = synth::file(&Spec { edge_cases: false, ..Spec::with_everything(generation, 512 << 20) });
    let image = open(file.path(), &OpenOptions::default()).unwrap();
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).unwrap();
    let mut scanned = scan(&machine, DumpLevel::all(), &mut Unhurried);
    // A real producer's memory is the kernel's own, and kept. Here it is that of a free block.
    let excluded = {
        let mut bits = FrameBitmap::ones(scanned.bitmap.frames());
        for (all, kept) in bits.words_mut().iter_mut().zip(scanned.bitmap.words()) {
            *all &= !kept;
        }
        bits.to_ranges()
    };
    let room = excluded.as_slice().iter().find(|range| range.len() >= 64).expect("a free block");
    scanned.bitmap.set_range(PfnRange::from_start(room.start, 64));
    let of_scan =
        |version| BitmapFile::of_scan(&machine, DumpLevel::all(), &scanned, version, Duration::ZERO).unwrap();
    let (v1, mut v2) = (of_scan(Version::V1), of_scan(Version::V2));
    if let Info::V2(header) = &mut v2.info {
        header.producer = Producer::Panic;
        header.free_pages -= 64;
    }
    let at = room.start.addr().as_u64();
    Bench { site: Site { at, chunks: at + 0x8000, sealed: true }, v1, v2, image }
});

impl Bench {
    fn file(&self, version: Version) -> &BitmapFile {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    fn planted(&self, version: Version) -> Planted<'_> {
        Planted::new(&*self.image).put_all(pieces(self.file(version), self.site))
    }

    /// The direct map's address of the structure.
    fn virtual_address(&self) -> u64 {
        let segments = &self.image.facts().segments;
        let holds = |s: &&cdbitmap::image::Segment| {
            (s.phys.as_u64()..s.phys.as_u64() + s.mem_size).contains(&self.site.at)
        };
        let segment = segments.iter().find(holds).unwrap();
        segment.virt.as_u64() + (self.site.at - segment.phys.as_u64())
    }
}

const JOB: Job = Job { level: DumpLevel::all(), rules: RuleSet::Makedumpfile };

fn by_option(at: u64) -> Clues {
    Clues { command_line: None, address: Some(PhysAddr::new(at)) }
}

/// What `found` keeps of the machine, asked for in windows of `size` frames.
fn kept(found: &mut Found<'_>, frames: u64, size: u64) -> FrameBitmap {
    let mut kept = FrameBitmap::ones(frames);
    for start in (0..frames).step_by(size as usize) {
        let window = PfnRange::new(Pfn::new(start), Pfn::new(frames.min(start + size)));
        let words = (start / 64) as usize..window.end.as_u64().div_ceil(64) as usize;
        found.filter(window, &mut kept.words_mut()[words]).unwrap();
    }
    kept
}

#[test]
fn each_way_leads_to_it() {
    for version in [Version::V1, Version::V2] {
        let at = BENCH.site.at;
        let line = |address: u64| format!("SYMBOL(crash_dump_bitmap_info)={address:x}");
        let command_line =
            Some(format!("irqpoll crash_dump_bitmap=0x0 nr_cpus=1 crash_dump_bitmap={at:#x}\n"));
        let cases = [
            (BENCH.planted(version).vmcoreinfo_line(&line(at)), Clues::default(), "VMCOREINFO"),
            (
                BENCH.planted(version).vmcoreinfo_line(&line(BENCH.virtual_address())),
                Clues::default(),
                "VMCOREINFO",
            ),
            (BENCH.planted(version).note(b"CDBITMAP", 1, &at.to_le_bytes()), Clues::default(), "ELF note"),
            (BENCH.planted(version), Clues { command_line, address: None }, "command line"),
            (BENCH.planted(version), by_option(at), "--bitmap-address"),
        ];
        for (image, clues, by) in cases {
            let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
            let mut found = Found::new(&machine, &clues, JOB).unwrap();
            assert_eq!((found.report().found_by, found.report().address), (by, at));
            let expected = FrameBitmap::from_bytes(&BENCH.file(version).bits.to_bytes(), machine.frames);
            assert!(kept(&mut found, machine.frames, 4096) == expected, "{by}");
        }
    }
}

#[test]
fn the_first_place_that_holds_wins_and_all_reasons_are_told() {
    let at = BENCH.site.at;
    let image = BENCH
        .planted(Version::V2)
        .vmcoreinfo_line("SYMBOL(crash_dump_bitmap_info)=not-hexadecimal")
        .note(b"CDBITMAP", 1, &(at + 8).to_le_bytes());
    let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
    let found = Found::new(&machine, &by_option(at), JOB).unwrap();
    assert_eq!(found.report().found_by, "--bitmap-address");
    let error = find(&image, None, &by_option(1)).err().unwrap().to_string();
    for reason in [
        "VMCOREINFO: \"not-hexadecimal\" is no address; ELF note: at 0x",
        "version: expected 1",
        "--bitmap-address: at 0x1: the address is not a multiple of 8",
    ] {
        assert!(error.contains(reason), "{error}");
    }
    let error = find(&*BENCH.image, None, &Clues::default()).err().unwrap().to_string();
    assert!(error.contains("no bitmap is named by"), "{error}");
}

#[test]
fn what_is_not_decided_is_scanned_or_kept() {
    let frames = BENCH.v2.info.frames().len();
    for (stopped_at, sealed) in [(1, true), (100_000, false), (frames - 1, true)] {
        let mut file = BENCH.v2.clone();
        if let Info::V2(header) = &mut file.info {
            header.state = State::OutOfBudget;
            header.scanned_up_to = stopped_at;
        }
        file.bits.set_range(PfnRange::new(Pfn::new(stopped_at), Pfn::new(frames)));
        let site = Site { sealed, ..BENCH.site };
        let image = Planted::new(&*BENCH.image).put_all(pieces(&file, site));
        let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
        let mut as_it_is = Found::new(&machine, &by_option(site.at), JOB).unwrap();
        assert!(kept(&mut as_it_is, frames, 8192) == file.bits);
        let mut scanned = Found::new(&machine, &by_option(site.at), JOB).unwrap();
        scanned.scan_the_rest(&machine, JOB.level);
        // Where it decides, the scan leaves out the place that was made for the bitmap.
        let mut expected = BENCH.v2.bits.clone();
        let place = PfnRange::from_start(Pfn::new(site.at / 4096), 64);
        if place.end.as_u64().next_multiple_of(8192) > stopped_at {
            expected.clear_range(place);
        }
        assert!(kept(&mut scanned, frames, 8192) == expected, "{stopped_at}");
    }
}

#[test]
fn a_copy_of_it_is_a_bitmap_file() {
    let directory = tempfile::tempdir().unwrap();
    for version in [Version::V1, Version::V2] {
        let image = BENCH.planted(version);
        let found = find(&image, None, &by_option(BENCH.site.at)).unwrap();
        let path = directory.path().join("bitmap");
        found.reader.copy_to(OutputFile::create(&path, true).unwrap()).unwrap();
        let (copy, left) = (BitmapFile::read(&path).unwrap(), BENCH.file(version));
        assert!(copy.to_bytes().unwrap() == left.to_bytes().unwrap());
    }
}
