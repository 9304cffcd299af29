use super::*;
use crate::frames::FrameBitmap;
use crate::image::bytes::FileBytes;
use crate::image::elf::ElfImage;
use crate::image::file::PlainFile;
use crate::image::identify::from_facts;
use crate::image::kdump::KdumpImage;
use crate::image::testing::{ElfBuilder, note};
use crate::progress::Silent;
use proptest::prelude::*;
use scanner_core::{PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use std::path::Path;
use std::sync::LazyLock;

const PAGE: u64 = PAGE_SIZE as u64;

/// Two segments with a gap between them: frames 0x10..0x210 with zero pages, runs and noise, and frames 0x300..0x304 of
/// which the file has one and a half.
fn machine() -> ElfBuilder {
    let mut memory = Vec::new();
    for frame in 0..0x200u64 {
        let mut state = frame.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        memory.extend((0..PAGE).map(|i| match frame % 4 {
            0 => 0,
            1 => (i / 64) as u8,
            2 => (frame + i % 7) as u8,
            _ => {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            }
        }));
    }
    let mut machine =
        ElfBuilder::new().load(0x10 * PAGE, 0x200 * PAGE, &memory).load(0x300 * PAGE, 4 * PAGE, &[7; 6144]);
    machine.notes = [
        note("CORE", 1, &[0; 336]),
        note("CORE", 1, &[0; 336]),
        note("VMCOREINFO", 0, b"OSRELEASE=6.1.0\nCRASHTIME=1700000000\nNUMBER(phys_base)=4096\n"),
    ]
    .concat();
    machine
}

/// The machine as an image, built once, since the tests read all of its pages.
fn elf() -> &'static ElfImage {
    static ELF: LazyLock<ElfImage> =
        LazyLock::new(|| ElfImage::from_bytes(PlainFile::InMemory(machine().build())).unwrap());
    &ELF
}

/// A filter that keeps the frames for which `keep` is true, and checks its calls.
struct Rule<F> {
    keep: F,
    next: u64,
}

impl<F: Fn(u64) -> bool> FrameFilter for Rule<F> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        assert_eq!((window.start.as_u64(), window.start.as_u64() % 64), (self.next, 0));
        assert_eq!(keep.len() as u64, window.len().div_ceil(64));
        self.next = window.end.as_u64();
        for pfn in window.start.as_u64()..window.end.as_u64() {
            let bit = pfn - window.start.as_u64();
            if !(self.keep)(pfn) {
                keep[(bit / 64) as usize] &= !(1 << (bit % 64));
            }
        }
        Ok(())
    }
}

fn dump(image: &dyn MemoryImage, keep: impl Fn(u64) -> bool, options: &DumpOptions) -> (Vec<u8>, DumpReport) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("dump");
    let out = OutputFile::create(&target, false).unwrap();
    let report = write(image, &mut Rule { keep, next: 0 }, options, out, &Silent).unwrap();
    let bytes = std::fs::read(&target).unwrap();
    assert!(report.written >= bytes.len() as u64, "{report:?}");
    (bytes, report)
}

fn open(bytes: &[u8]) -> KdumpImage {
    KdumpImage::from_bytes(PlainFile::InMemory(bytes.to_vec())).unwrap()
}

fn page(image: &dyn MemoryImage, pfn: u64) -> Result<Vec<u8>, Unreadable> {
    let mut page = vec![0xee; PAGE_SIZE];
    image.read(Pfn::new(pfn).addr(), &mut page).map(|()| page)
}

fn kept(image: &dyn MemoryImage) -> &FrameBitmap {
    &image.facts().filtered.as_ref().unwrap().kept
}

/// The rearranged file of a flattened stream.
fn rearranged(stream: &[u8]) -> Vec<u8> {
    let file = FileBytes::new(PlainFile::InMemory(stream.to_vec())).unwrap();
    file.get(0, file.len()).unwrap().into_owned()
}

#[test]
fn the_dump_does_not_depend_on_threads_or_buffer_and_reads_back() {
    let machine = elf();
    let keep = |pfn: u64| !pfn.is_multiple_of(5);
    for codec in Codec::ALL {
        let base = DumpOptions { level: 31, codec, ..DumpOptions::default() };
        let (plain, report) = dump(machine, keep, &base);
        for flattened in [false, true] {
            let options = DumpOptions { flattened, ..base.clone() };
            let (first, _) = dump(machine, keep, &options);
            for (threads, buffer_bytes) in [(2, 1), (3, 24), (0, 1000)] {
                let options = DumpOptions { threads, buffer_bytes, ..options.clone() };
                assert!(dump(machine, keep, &options).0 == first, "{options:?}");
            }
            if flattened {
                assert!(rearranged(&first) == plain, "{codec:?}");
            }
            let image = open(&first);
            assert_eq!(image.codec(), codec);
            assert_eq!(image.facts().exists, machine.facts().exists);
            assert_eq!(image.facts().max_pfn, 0x304);
            for pfn in 0..0x310 {
                // In the second segment only two frames have data, the second one only half of a page.
                let in_dump = ((0x10..0x210).contains(&pfn) || pfn == 0x300 || pfn == 0x301) && keep(pfn);
                assert_eq!(kept(&image).get(Pfn::new(pfn)), in_dump, "{pfn:#x}");
                let expected = if in_dump { page(machine, pfn) } else { Err(at(pfn)) };
                assert_eq!(page(&image, pfn), expected, "{codec:?} {pfn:#x}");
            }
        }
        assert_eq!((report.existing, report.dumpable), (0x204, 0x202));
        assert_eq!(report.kept, kept(&open(&plain)).count());
        assert_eq!((report.zero, report.unreadable), (102, 0));
        assert_eq!(report.compressed > 0, codec != Codec::Raw);
    }
}

fn at(pfn: u64) -> Unreadable {
    Unreadable { addr: PhysAddr::new(pfn * PAGE) }
}

#[test]
fn headers_have_the_values_of_the_notes() {
    let (bytes, _) = dump(elf(), |_| true, &DumpOptions { level: 1, ..DumpOptions::default() });
    let image = open(&bytes);
    let identity = image.recorded_identity().unwrap();
    assert_eq!((identity.release.as_str(), identity.machine.as_str()), ("6.1.0", "x86_64"));
    assert_eq!((identity.crash_time, identity.phys_base, identity.nr_cpus), (1_700_000_000, 4096, 2));
    assert_eq!(image.facts().notes, machine().notes);
    assert_eq!(image.facts().vmcoreinfo, elf().facts().vmcoreinfo);
}

#[test]
fn vmcoreinfo_from_another_file_gets_a_note() {
    let core = ElfBuilder { notes: note("CORE", 1, &[0; 33]), ..machine() }.build();
    let elf = crate::image::testing::file(&core);
    let info = crate::image::testing::file(b"OSRELEASE=5.10\n");
    let options = crate::image::OpenOptions { vmcoreinfo: Some(info.path().into()), ..Default::default() };
    let (bytes, _) =
        dump(&*crate::image::open(elf.path(), &options).unwrap(), |_| true, &DumpOptions::default());
    let image = open(&bytes);
    assert_eq!(image.facts().vmcoreinfo.as_deref(), Some(&b"OSRELEASE=5.10\n"[..]));
    assert_eq!(image.recorded_identity().unwrap().release, "5.10");
}

#[test]
fn a_dump_filtered_again_has_both_levels_and_the_pages_that_both_keep() {
    let mut identity = from_facts(elf().facts());
    identity.nodename = "host".into();
    identity.erase_info = b"erase jiffies 8\n".to_vec();
    let options =
        DumpOptions { level: 16, codec: Codec::Lzo, identity: Some(identity), ..Default::default() };
    let (first, _) = dump(elf(), |pfn| pfn % 2 == 1, &options);
    let options = DumpOptions { level: 1, codec: Codec::Zstd, flattened: true, ..Default::default() };
    let (second, report) = dump(&open(&first), |pfn| pfn % 3 != 0, &options);
    let image = open(&second);
    assert_eq!(image.facts().filtered.as_ref().unwrap().level, 17);
    assert_eq!(image.recorded_identity(), open(&first).recorded_identity());
    assert_eq!(image.recorded_identity().unwrap().erase_info, b"erase jiffies 8\n");
    for pfn in 0x10..0x210 {
        assert_eq!(kept(&image).get(Pfn::new(pfn)), pfn % 2 == 1 && pfn % 3 != 0);
        if let Ok(data) = page(&image, pfn) {
            assert_eq!(Ok(data), page(elf(), pfn));
        }
    }
    assert_eq!((report.unreadable, report.kept), (0, kept(&image).count()));
}

/// An image with an unreadable page: frame number `.1`.
struct BadPage(&'static ElfImage, u64);

impl PhysicalMemory for BadPage {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let first = addr.pfn().as_u64();
        let is_bad = (first..first + buf.len().div_ceil(PAGE_SIZE) as u64).contains(&self.1);
        if is_bad { Err(Unreadable { addr }) } else { self.0.read(addr, buf) }
    }
}

impl MemoryImage for BadPage {
    fn facts(&self) -> &ImageFacts {
        self.0.facts()
    }
}

#[test]
fn an_unreadable_page_does_not_fail_the_dump() {
    for (level, zero) in [(0, 0), (1, 0x80 + 1)] {
        let options = DumpOptions { level, codec: Codec::Zlib, threads: 2, ..DumpOptions::default() };
        let (bytes, report) = dump(&BadPage(elf(), 0x13), |_| true, &options);
        assert_eq!((report.unreadable, report.first_unreadable), (1, Some(Pfn::new(0x13))));
        assert_eq!(report.zero, zero);
        let image = open(&bytes);
        assert_eq!(page(&image, 0x13), Ok(vec![0; PAGE_SIZE]));
        assert_eq!(page(&image, 0x12), page(elf(), 0x12));
        assert_eq!(page(&image, 0x17), page(elf(), 0x17));
    }
}

/// A filter that fails in the second window.
struct Fails;

impl FrameFilter for Fails {
    fn filter(&mut self, window: PfnRange, _: &mut [u64]) -> Result<()> {
        if window.start.as_u64() > 0 { Err(Error::failure("the filter failed")) } else { Ok(()) }
    }
}

#[test]
fn a_failed_dump_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let out = OutputFile::create(&directory.path().join("dump"), false).unwrap();
    let options = DumpOptions { buffer_bytes: 8, ..DumpOptions::default() };
    let error = write(elf(), &mut Fails, &options, out, &Silent).unwrap_err();
    assert_eq!(error.report(), "the filter failed");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let full = OutputFile::create(Path::new("/dev/full"), false).unwrap();
    let error = write(elf(), &mut Rule { keep: |_| true, next: 0 }, &options, full, &Silent).unwrap_err();
    assert!(error.report().contains("Make room"), "{error}");
}

#[test]
fn a_full_disk_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let whole = dump(elf(), |_| true, &DumpOptions::default()).1.written;
    for (threads, flattened) in [(1, false), (3, false), (3, true)] {
        let options = DumpOptions { threads, flattened, ..DumpOptions::default() };
        // The limits make the write of the head, a bitmap, descriptors or page data fail.
        for limit in [0, 5000, 14000, 200_000, whole - 1] {
            let out =
                OutputFile::create(&directory.path().join("dump"), false).unwrap().with_disk_space(limit);
            let error =
                write(elf(), &mut Rule { keep: |_| true, next: 0 }, &options, out, &Silent).unwrap_err();
            assert!(error.report().contains("Make room"), "{limit}: {error}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_device_that_cannot_be_read_back_is_written() {
    for flattened in [false, true] {
        let null = OutputFile::create(Path::new("/dev/null"), false).unwrap();
        let options = DumpOptions { flattened, ..DumpOptions::default() };
        let report = write(elf(), &mut Rule { keep: |_| true, next: 0 }, &options, null, &Silent).unwrap();
        assert_eq!(report.kept, 0x202);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_set_of_frames_round_trips(
        frames in prop::collection::btree_set(0x10u64..0x210, 0..200),
        max in 0x100u64..0x304,
    ) {
        let codec = Codec::Snappy;
        let options = DumpOptions { codec, max_mapnr: Some(max), buffer_bytes: 8, ..Default::default() };
        let (bytes, report) = dump(elf(), |pfn| frames.contains(&pfn), &options);
        let image = open(&bytes);
        prop_assert_eq!((report.max_mapnr, image.facts().max_pfn), (max, max));
        for pfn in 0..0x304 {
            let in_dump = frames.contains(&pfn) && pfn < max;
            prop_assert_eq!(kept(&image).get(Pfn::new(pfn)), in_dump);
            prop_assert_eq!(page(&image, pfn).ok(), in_dump.then(|| page(elf(), pfn).unwrap()));
        }
    }
}
