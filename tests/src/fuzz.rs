//! The fuzz targets: each calls a parser of untrusted input through its public entry point.
//!
//! A target returns on success and panics on failure. `tests/fuzz` runs the targets under libFuzzer. The test
//! `tests/tests/fuzz.rs` replays [`seeds`] and all inputs that a fuzzer found earlier.

use crate::fixture;
use crate::overlay::{OverlayImage, Site, pieces};
use crate::simulated::{Dice, EXPORTS, SimulatedMachine};
use core::mem::offset_of;
use page_codecs::{Codec, Compressor, Decompressor};
use page_filter::bitmap_file::{BitmapFile, BitmapReader, Info};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{SearchHints, find};
use page_filter::scan::WindowScan;
use scanner_core::crc32c::crc32c;
use scanner_core::info::v2::{ChunkEntry, Header, MAGIC, VERSION};
use scanner_core::info::{Version, probe, v1};
use scanner_core::paging::AddressSpace;
use scanner_core::scan::RunToCompletion;
use scanner_core::{
    DumpLevel, KernelLayout, PAGE_SIZE, Pfn, PfnRange, PhysAddr, PhysicalMemory, RuleSet, Unreadable,
    VirtAddr, VmcoreInfo,
};
use stage_loader::image::StageImage;
use stage_loader::iomem::Iomem;
use std::fs::File;
use std::io::Read;
use vmcore::format::flattened;
use vmcore::frames::{FrameBitmap, FrameRanges};
use vmcore::image::MemoryImage;
use vmcore::image::elf::ElfImage;
use vmcore::image::file::PlainFile;
use vmcore::image::identify;
use vmcore::image::kdump::KdumpImage;
use vmcore::image::notes::{CoreNotes, vmcoreinfo_text};
use vmcore::image::raw::{MapRange, RawImage, parse_map};

/// The name of a target and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 15] = [
    ("elf_image", elf_image),
    ("kdump_image", kdump_image),
    ("flattened", flattened_image),
    ("notes", notes),
    ("vmcoreinfo", vmcoreinfo),
    ("raw_map", raw_map),
    ("page_walk", page_walk),
    ("hostile_memory", hostile_memory),
    ("bitmap_file", bitmap_file),
    ("info_v1", info_v1),
    ("info_v2", info_v2),
    ("found", found),
    ("stage_image", stage_image),
    ("iomem", iomem),
    ("page_codecs", page_codecs),
];

/// Runs the target `name` on `bytes`.
///
/// # Panics
/// Panics if there is no such target, or if the target finds a defect.
pub fn run(name: &str, bytes: &[u8]) {
    match TARGETS.iter().find(|(target, _)| *target == name) {
        Some((_, target)) => target(bytes),
        None => panic!("no fuzz target is called {name}"),
    }
}

/// Seeds of the target `name`: inputs that pass most of the parser's checks.
///
/// # Panics
/// Panics if there is no such target, or if a fixture cannot be read.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let head = || fixture_head("6.12", 64 << 10);
    let text = || {
        let head = head();
        let start = head.windows(10).position(|w| w == b"OSRELEASE=").expect("the fixture has a VMCOREINFO");
        head[start..].iter().copied().take_while(|byte| *byte != 0).collect::<Vec<u8>>()
    };
    match name {
        "stage_image" => vec![crate::stage::image_file()],
        "iomem" => vec![
            b"00001000-0009fbff : System RAM\n00100000-1fffffff : System RAM\n  13000000-1effffff : Crash kernel\n"
                .to_vec(),
        ],
        "elf_image" => vec![head(), fixture_head("5.10", 16 << 10)],
        "kdump_image" => vec![small_kdump()],
        "flattened" => vec![flatten(&small_kdump())],
        "notes" => vec![head()[4096..8192].to_vec(), head()],
        "vmcoreinfo" => EXPORTS.iter().map(|g| g.vmcoreinfo(27).into_bytes()).chain([text()]).collect(),
        "raw_map" => vec![
            b"1000-2fff\n100000-101bff 2000 # the second\n".to_vec(),
            b"00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n".to_vec(),
        ],
        "page_walk" => {
            let table = |entry: u64| entry.to_le_bytes().repeat(512);
            vec![[vec![0; 9], table(0x1063), table(0x2063), table(0xe3)].concat()]
        }
        "hostile_memory" => (0..EXPORTS.len() as u8).map(|index| vec![index, 31, 0]).collect(),
        "found" => found_seeds(),
        "page_codecs" => head().chunks(PAGE_SIZE).map(<[u8]>::to_vec).collect(),
        "bitmap_file" | "info_v1" | "info_v2" => {
            vec![
                include_bytes!("../golden/v1.bin").to_vec(),
                include_bytes!("../golden/v2.bin").to_vec(),
                include_bytes!("../golden/v2-exception.bin").to_vec(),
            ]
        }
        _ => panic!("no fuzz target is called {name}"),
    }
}

fn elf_image(bytes: &[u8]) {
    if let Ok(image) = ElfImage::from_bytes(PlainFile::InMemory(bytes.to_vec())) {
        look_around(&image);
    }
}

fn kdump_image(bytes: &[u8]) {
    if let Ok(image) = KdumpImage::from_bytes(PlainFile::InMemory(bytes.to_vec())) {
        look_around(&image);
    }
}

/// Parses `bytes` as a flattened stream. Adds the stream's header if it is missing, so that mutations reach the
/// records.
fn flattened_image(bytes: &[u8]) {
    if flattened::is_flattened(bytes) {
        kdump_image(bytes);
    } else {
        kdump_image(&[&flattened::header(), bytes].concat());
    }
}

fn notes(bytes: &[u8]) {
    let _ = CoreNotes::parse(bytes);
    let _ = vmcoreinfo_text(bytes);
}

fn vmcoreinfo(bytes: &[u8]) {
    let Ok(info) = VmcoreInfo::parse(bytes) else { return };
    if let Ok(layout) = KernelLayout::resolve(&info, Some(0x100_0000)) {
        assert!(layout.page.flags + 8 <= layout.page.size && layout.page.mapping + 8 <= layout.page.size);
        let _ = layout.unavailable_rules().count();
    }
}

/// Address of the info structure in the memory of the target `found`.
const FOUND_AT: u64 = 8;

/// A small bitmap of each format version in memory, combined with each way to locate it.
fn found_seeds() -> Vec<Vec<u8>> {
    let v1 = v1::Info { bitmap: 1, bitmap_size: 125, free_pages: 3, ..v1::Info::NO_BITMAP };
    let v2 = Header::new(Pfn::new(64), 1000, 15);
    let site = Site { at: FOUND_AT, chunks: 1024, sealed: true };
    let memory = |info| {
        let file = BitmapFile { info, bits: FrameBitmap::ones(1000) };
        let mut memory = vec![0; 2048];
        for (at, bytes) in pieces(&file, site) {
            memory[at as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        memory
    };
    [memory(Info::V1(v1)), memory(Info::V2(Box::new(v2)))]
        .into_iter()
        .flat_map(|memory| (0..4).map(move |way| [&[way], &memory[1..]].concat()))
        .collect()
}

/// Searches a bitmap in memory that starts at address 0. The first byte selects the way that the bitmap is located.
fn found(bytes: &[u8]) {
    let Some(way) = bytes.first() else { return };
    let range = MapRange { start: 0, size: bytes.len() as u64, offset: 0 };
    let image = RawImage::from_bytes(PlainFile::InMemory(bytes.to_vec()), &[range]);
    let mut image = OverlayImage::new(&image);
    let mut hints = SearchHints::default();
    match way % 4 {
        0 => image = image.vmcoreinfo_line(&format!("SYMBOL(crash_dump_bitmap_info)={FOUND_AT:x}")),
        1 => image = image.note(b"CDBITMAP", 1, &FOUND_AT.to_le_bytes()),
        2 => hints.command_line = Some(String::from_utf8_lossy(bytes).replace('=', "= crash_dump_bitmap=")),
        _ => hints.address = Some(PhysAddr::new(FOUND_AT)),
    }
    let Ok(found) = find(&image, None, &hints) else { return };
    let Ok(report) = found.describe() else { return };
    assert_eq!(report.bitmap.kept_frames + report.bitmap.excluded_frames, report.bitmap.frames);
    let frames = found.reader.info().frames();
    let around = PfnRange::new(Pfn::new(frames.start.as_u64().saturating_sub(64)), frames.start);
    let mut keep = [u64::MAX; 2];
    let window = PfnRange::new(around.start, frames.start.saturating_add(64));
    found.reader.clear_excluded(window, &mut keep).expect("describe() has read it");
    assert!(around.is_empty() || keep[0] == u64::MAX, "frames outside the bitmap are kept");
}

fn raw_map(bytes: &[u8]) {
    if let Ok(ranges) = parse_map(bytes) {
        look_around(&RawImage::from_bytes(PlainFile::InMemory(vec![1; 10_000]), &ranges));
    }
}

/// Walks page tables in memory that repeats the input.
fn page_walk(bytes: &[u8]) {
    let Some((&[mode, ref addr @ ..], memory)) = bytes.split_first_chunk::<9>() else { return };
    if memory.len() < PAGE_SIZE {
        return;
    }
    let memory = Tiles(memory);
    let root = VirtAddr::new(0xffff_ffff_8000_0000);
    let sme_mask = if mode & 2 == 0 { 0 } else { 1 << 47 };
    let Some(space) = AddressSpace::from_symbol(root, 0, mode & 1 != 0, sme_mask) else { return };
    let addr = VirtAddr::new(u64::from_le_bytes(*addr));
    let translated = space.translate(&memory, addr);
    // A hole can be as large as the address space. The walk must skip it in one step.
    let len = 1 << (12 + (mode >> 2) % 12);
    let mut end = addr;
    for part in space.pieces(&memory, addr, len) {
        let (start, size) = match part {
            Ok(piece) => (end, piece.len),
            Err(hole) => (end, hole.len),
        };
        assert!(size > 0, "no part is empty");
        end = VirtAddr::new(start.as_u64().wrapping_add(size));
    }
    let mut buf = [0; 5000];
    let read = space.read(&memory, addr, &mut buf);
    assert!(read.is_err() || translated.is_ok(), "what can be read is mapped");
    let _ = space.read_u64(&memory, addr);
}

/// Scans a valid machine after parts of its memory were overwritten. The input is `generation, level, rules`, followed
/// by records of a four-byte address and eight bytes of memory.
fn hostile_memory(bytes: &[u8]) {
    let Some((&[generation, level, rules], records)) = bytes.split_first_chunk::<3>() else { return };
    let generation = &EXPORTS[usize::from(generation) % EXPORTS.len()];
    let mut memory = SimulatedMachine::new(generation, &mut Dice::new(u64::from(level >> 5)));
    for record in records.chunks_exact(12) {
        let (at, word) = record.split_at(4);
        let memory = memory.memory_mut();
        let at = u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize % (memory.len() - 8);
        memory[at..at + 8].copy_from_slice(word);
    }
    let rules = if rules & 1 == 0 { RuleSet::Makedumpfile } else { RuleSet::Kernel };
    let Ok(machine) = Machine::new(&memory, rules) else { return };
    let level = DumpLevel::from_number(u64::from(level & 31)).unwrap_or_default();
    let mut scan = WindowScan::new(&machine, level);
    for start in (0..machine.frames).step_by(512) {
        let window = PfnRange::new(Pfn::new(start), Pfn::new(machine.frames.min(start + 512)));
        assert!(scan.run(window, &mut [u64::MAX; 8], &mut RunToCompletion), "nothing stops it");
    }
    let findings = scan.findings();
    assert!(findings.unreadable_frames <= machine.frames);
    let _ = (machine.unavailable_rules(level), machine.exists(), identify(&memory));
}

/// A bitmap file that can be read can also be described and converted, and the converted file has the same bits.
fn bitmap_file(bytes: &[u8]) {
    if let Ok(reader) = BitmapReader::from_bytes(bytes) {
        let report = reader.describe().expect("all chunks are inside the file");
        assert!(!report.to_string().is_empty());
    }
    let Ok(file) = BitmapFile::from_bytes(bytes) else { return };
    for version in [Version::V1, Version::V2] {
        // Version 1 starts at frame 0, so a bitmap of high frames would take gigabytes.
        if file.info.frames().end.as_u64() > 1 << 24 {
            return;
        }
        let converted = file.convert(version).expect("small enough").file;
        let again = BitmapFile::from_bytes(&converted.to_bytes().expect("valid")).expect("valid");
        assert_eq!(again.bits, converted.bits);
    }
}

/// An info structure that decodes is encoded to the same bytes, except for the padding.
fn info_v1(bytes: &[u8]) {
    let _ = probe(bytes);
    if let Ok(info) = v1::Info::decode(bytes) {
        let mut again = [0xff; v1::Info::SIZE];
        assert_eq!(info.encode(&mut again), Ok(v1::Info::SIZE));
        assert_eq!(again[..4], bytes[..4]);
        assert_eq!(again[8..], bytes[8..v1::Info::SIZE]);
    }
}

/// Decodes a header whose checksum the target corrects, so that the fuzzer reaches the checks after it.
fn info_v2(bytes: &[u8]) {
    let _ = Header::decode(bytes, 0);
    if bytes.len() < Header::SIZE {
        return;
    }
    let mut area = bytes.to_vec();
    let mut put =
        |offset: usize, number: u32| area[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
    put(offset_of!(Header, version), VERSION);
    put(offset_of!(Header, header_size), Header::SIZE as u32);
    put(offset_of!(Header, chunk_entry_size), ChunkEntry::SIZE as u32);
    put(offset_of!(Header, header_crc), 0);
    area[..MAGIC.len()].copy_from_slice(&MAGIC);
    let Ok(size) = Header::area_size_of(&area) else { return };
    if size > area.len() {
        return;
    }
    let crc = crc32c(&area[..size]);
    area[offset_of!(Header, header_crc)..][..4].copy_from_slice(&crc.to_le_bytes());
    let at = area[offset_of!(Header, self_address)..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    if let Ok(header) = Header::decode(&area, at) {
        let mut again = area[..size].to_vec();
        again[..Header::SIZE].fill(0xff);
        assert_eq!(header.encode(&mut again), Ok(size));
        assert_eq!(again, area[..size]);
        let frames: u64 =
            (0..header.chunk_count).filter_map(|i| header.chunk_frames(i)).map(|f| f.len()).sum();
        assert_eq!(frames, header.frame_count);
    }
}

/// Reads at several addresses of the image, and checks its facts.
fn look_around(image: &dyn MemoryImage) {
    let facts = image.facts();
    assert!(ends_by(&facts.exists, facts.max_pfn) && ends_by(&facts.backed, facts.max_pfn));
    let mut page = [0; PAGE_SIZE];
    for range in facts.backed.as_slice().iter().take(8) {
        let last = Pfn::new(range.end.as_u64() - 1);
        for pfn in [range.start, last] {
            let read = image.read(pfn.addr(), &mut page);
            if let Some(view) = image.view(pfn.addr(), PAGE_SIZE) {
                assert!(read.is_ok() && view == page, "a view has the bytes of a read");
            }
        }
    }
    for addr in [0, 1, PAGE_SIZE as u64 - 1, facts.max_pfn << 12, u64::MAX] {
        let _ = image.read(PhysAddr::new(addr), &mut page);
        let _ = image.view(PhysAddr::new(addr), PAGE_SIZE);
    }
    let _ = (identify(image), Machine::new(image, RuleSet::Makedumpfile).is_ok());
}

fn ends_by(ranges: &FrameRanges, max_pfn: u64) -> bool {
    ranges.end().as_u64() <= max_pfn
}

/// Physical memory that repeats some bytes.
struct Tiles<'a>(&'a [u8]);

impl PhysicalMemory for Tiles<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let whole = self.0.len() / PAGE_SIZE * PAGE_SIZE;
        let start = (addr.as_u64() % whole as u64) as usize;
        for (at, byte) in (start..).zip(buf) {
            *byte = self.0[at % whole];
        }
        Ok(())
    }
}

/// The first `size` bytes of a fixture's vmcore.
fn fixture_head(name: &str, size: u64) -> Vec<u8> {
    let compressed = File::open(fixture::path(name, "vmcore.zst")).expect("the fixture can be opened");
    let mut head = Vec::new();
    let decoder = zstd::Decoder::new(compressed).expect("a decoder");
    decoder.take(size).read_to_end(&mut head).expect("the fixture unpacks");
    head
}

/// A kdump-compressed file of a few pages.
fn small_kdump() -> Vec<u8> {
    use vmcore::format::kdump::{DumpHeader, PageDesc, STATUS_INCOMPLETE, SubHeader};
    let header = DumpHeader {
        version: 6,
        utsname: [[b'x'; 65]; 6],
        timestamp: 1,
        status: STATUS_INCOMPLETE,
        sub_hdr_blocks: 1,
        bitmap_blocks: 2,
        max_mapnr: 64,
        nr_cpus: 1,
    };
    let sub_header = SubHeader { dump_level: 31, max_mapnr: 64, ..SubHeader::default() };
    let mut bytes = vec![0; 4 * PAGE_SIZE];
    bytes[..DumpHeader::SIZE].copy_from_slice(&header.to_bytes());
    bytes[PAGE_SIZE..][..SubHeader::SIZE].copy_from_slice(&sub_header.to_bytes());
    bytes[2 * PAGE_SIZE] = 0xff;
    bytes[3 * PAGE_SIZE] = 0x0f;
    let data = bytes.len() as u64 + 4 * PageDesc::SIZE as u64;
    // Uncompressed, and with the flag of each codec: zlib, lzo, snappy.
    for (index, flags) in (0..).zip([0, 1, 2, 4]) {
        let size = if flags == 0 { PAGE_SIZE as u32 } else { 100 };
        bytes.extend(PageDesc { offset: data + 100 * index, size, flags }.to_bytes());
    }
    bytes.extend((0..PAGE_SIZE).map(|at| at as u8));
    bytes
}

/// `bytes` as the records of a flattened stream, without the stream's header.
fn flatten(dump: &[u8]) -> Vec<u8> {
    let records = (0..).step_by(PAGE_SIZE).zip(dump.chunks(PAGE_SIZE));
    let records =
        records.flat_map(|(at, part)| [&flattened::record_header(at, part.len() as u64), part].concat());
    records.chain(flattened::END_RECORD).collect()
}

/// Parses and relocates the purgatory stage's image.
fn stage_image(bytes: &[u8]) {
    if let Ok(image) = StageImage::parse(bytes) {
        let moved = image.moved_to(1 << 40);
        assert!(moved.len() as u64 == image.size() && image.checked() <= image.size());
        assert!(image.entry() < image.checked());
    }
}

/// Decompresses the input with each codec. Also compresses a page that repeats the input, and checks that
/// decompression restores it.
fn page_codecs(bytes: &[u8]) {
    let mut decompressor = Decompressor::default();
    let page: [u8; PAGE_SIZE] =
        std::array::from_fn(|at| bytes.get(at % bytes.len().max(1)).copied().unwrap_or(0));
    for codec in Codec::ALL {
        let mut room = [0; Compressor::ROOM];
        let mut back = [0; PAGE_SIZE];
        let _ = decompressor.decompress(codec, bytes, &mut back);
        if let Some(size) = Compressor::new(codec).compress(&page, &mut room) {
            assert!(decompressor.decompress(codec, &room[..size], &mut back) && back == page, "{codec:?}");
        }
    }
}

/// Parses the running kernel's memory map, and shortens its crash kernel range as the loader does for kexec.
fn iomem(bytes: &[u8]) {
    let Ok(map) = Iomem::parse(&String::from_utf8_lossy(bytes)) else { return };
    assert!(map.ram().is_sorted_by(|one, next| one.end < next.start));
    if let Some(region) = map.crash_kernel().filter(|region| region.end - region.start >= 2) {
        let middle = region.start + (region.end - region.start) / 2;
        let shorter = Iomem::parse(&map.with_shorter_crash_kernel(middle)).expect("the written map parses");
        assert_eq!(shorter.ram(), map.ram());
    }
}
