//! Bitmaps in the memory of a machine, as a producer leaves them there.

use page_filter::bitmap_file::{BitmapFile, Info};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{MemoryBitmap, SearchHints};
use page_filter::scan::scan;
use scanner_core::crc32c::crc32c;
use scanner_core::info::v2::{ChunkEntry, Header, Producer};
use scanner_core::info::{Version, v1};
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, Pfn, PfnRange, PhysAddr, PhysicalMemory, RuleSet, Unreadable};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::NamedTempFile;
use vmcore::filter::FrameFilter;
use vmcore::frames::FrameBitmap;
use vmcore::image::{ImageFacts, MemoryImage, OpenOptions, Segment, open};
use vmcore_synth::{GENERATIONS, Spec};

/// An image with other bytes at some places.
pub struct OverlayImage<'i> {
    image: &'i dyn MemoryImage,
    facts: ImageFacts,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl<'i> OverlayImage<'i> {
    /// The image as it is.
    pub fn new(image: &'i dyn MemoryImage) -> Self {
        Self { image, facts: image.facts().clone(), pieces: Vec::new() }
    }

    /// Puts `bytes` at physical address `at`; later pieces lie over earlier ones.
    pub fn put(mut self, at: u64, bytes: Vec<u8>) -> Self {
        self.pieces.push((at, bytes));
        self
    }

    /// Puts each of `pieces` at its address.
    pub fn put_all(mut self, pieces: Vec<(u64, Vec<u8>)>) -> Self {
        self.pieces.extend(pieces);
        self
    }

    /// Appends a line to VMCOREINFO.
    pub fn vmcoreinfo_line(mut self, line: &str) -> Self {
        self.facts.vmcoreinfo.get_or_insert_default().extend(format!("{line}\n").bytes());
        self
    }

    /// Appends an ELF note.
    pub fn note(mut self, name: &[u8], kind: u32, desc: &[u8]) -> Self {
        let notes = &mut self.facts.notes;
        for number in [name.len() as u32 + 1, desc.len() as u32, kind] {
            notes.extend(number.to_le_bytes());
        }
        notes.extend(name);
        notes.resize((notes.len() + 1).next_multiple_of(4), 0);
        notes.extend(desc);
        notes.resize(notes.len().next_multiple_of(4), 0);
        self
    }
}

impl PhysicalMemory for OverlayImage<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.image.read(addr, buf)?;
        let start = addr.as_u64();
        let end = start + buf.len() as u64;
        for (at, bytes) in &self.pieces {
            let (from, to) = (start.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let piece = &bytes[(from - at) as usize..(to - at) as usize];
                buf[(from - start) as usize..(to - start) as usize].copy_from_slice(piece);
            }
        }
        Ok(())
    }
}

impl MemoryImage for OverlayImage<'_> {
    fn facts(&self) -> &ImageFacts {
        &self.facts
    }
}

/// How a producer leaves a bitmap.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Where the structure is.
    pub at: u64,
    /// Where the first chunk is; each of the others begins a page behind the one before.
    pub chunks: u64,
    /// Whether the chunks are sealed.
    pub sealed: bool,
}

/// What `file` looks like in memory: pieces and their addresses, the structure first.
///
/// # Panics
/// If it can't be described.
pub fn pieces(file: &BitmapFile, site: Site) -> Vec<(u64, Vec<u8>)> {
    let bits = file.bits.to_bytes();
    match &file.info {
        Info::V1(info) => {
            let mut structure = vec![0; v1::Info::SIZE];
            let info = v1::Info { bitmap: site.chunks, ..*info };
            info.encode(&mut structure).expect("the structure is valid");
            vec![(site.at, structure), (site.chunks, bits)]
        }
        Info::V2(header) => {
            // The smallest chunks there are, so that there are many.
            let shape = Header::new(header.frames().start, header.frame_count, 15);
            let header = Header {
                self_address: site.at,
                chunk_shift: shape.chunk_shift,
                chunk_table: shape.chunk_table,
                chunk_count: shape.chunk_count,
                ..**header
            };
            let mut area = vec![0; header.area_size()];
            let mut pieces = Vec::new();
            for index in 0..header.chunk_count {
                let size = header.chunk_size(index);
                let start = index as usize * header.chunk_size(0) as usize;
                let bytes = bits[start..start + size as usize].to_vec();
                let address = site.chunks + u64::from(index) * size_of_place(header.chunk_size(0));
                let mut chunk = ChunkEntry::unsealed(address, size);
                if site.sealed {
                    chunk = chunk.sealed(crc32c(&bytes));
                }
                header.put_chunk(&mut area, index, &chunk).expect("the chunk is in the table");
                pieces.push((address, bytes));
            }
            header.encode(&mut area).expect("the header is valid");
            pieces.insert(0, (site.at, area));
            pieces
        }
    }
}

fn size_of_place(chunk: u64) -> u64 {
    chunk.next_multiple_of(4096) + 4096
}

/// A machine of several sections, and the bitmap that its producer would have made.
pub struct SimulatedMachine {
    /// Its vmcore.
    pub file: NamedTempFile,
    /// Its memory, without the bitmap.
    pub image: Box<dyn MemoryImage>,
    /// The bitmap in version 1.
    pub v1: BitmapFile,
    /// The same in version 2.
    pub v2: BitmapFile,
    /// Where there is room for a structure and its chunks.
    pub site: Site,
}

/// Made once for all tests.
pub static MACHINE: LazyLock<SimulatedMachine> = LazyLock::new(|| {
    let generation = GENERATIONS.iter().find(|g| g.name == "6.12").expect("6.12 can be simulated");
    let (file, _) =
        crate::synth::file(&Spec { edge_cases: false, ..Spec::with_everything(generation, 512 << 20) });
    let image = open(file.path(), &OpenOptions::default()).expect("the simulated machine is healthy");
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).expect("the simulated machine is healthy");
    let mut scanned = scan(&machine, DumpLevel::all(), &mut RunToCompletion);
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
    let of_scan = |version| {
        BitmapFile::of_scan(&machine, DumpLevel::all(), &scanned, version, Duration::ZERO)
            .expect("the simulated machine is healthy")
    };
    let (v1, mut v2) = (of_scan(Version::V1), of_scan(Version::V2));
    if let Info::V2(header) = &mut v2.info {
        header.producer = Producer::Panic;
        header.free_pages -= 64;
    }
    let at = room.start.addr().as_u64();
    SimulatedMachine { file, site: Site { at, chunks: at + 0x8000, sealed: true }, v1, v2, image }
});

impl SimulatedMachine {
    /// The bitmap in `version`.
    pub fn file_of(&self, version: Version) -> &BitmapFile {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    /// The machine with its bitmap in `version`.
    pub fn with_bitmap(&self, version: Version) -> OverlayImage<'_> {
        OverlayImage::new(&*self.image).put_all(pieces(self.file_of(version), self.site))
    }

    /// The direct map's address of the structure.
    ///
    /// # Panics
    /// If no segment has it.
    pub fn virtual_address(&self) -> u64 {
        let segments = &self.image.facts().segments;
        let holds = |s: &&Segment| (s.phys.as_u64()..s.phys.as_u64() + s.mem_size).contains(&self.site.at);
        let segment = segments.iter().find(holds).expect("the simulated machine is healthy");
        segment.virt.as_u64() + (self.site.at - segment.phys.as_u64())
    }
}

/// What says that the structure is at `at`.
pub fn by_address(at: u64) -> SearchHints {
    SearchHints { command_line: None, address: Some(PhysAddr::new(at)) }
}

/// What `found` keeps of the first `frames` frames, asked for in windows of `size` frames.
///
/// # Panics
/// If it can't be read.
pub fn kept(found: &mut MemoryBitmap<'_>, frames: u64, size: u64) -> FrameBitmap {
    let mut kept = FrameBitmap::ones(frames);
    for start in (0..frames).step_by(size as usize) {
        let window = PfnRange::new(Pfn::new(start), Pfn::new(frames.min(start + size)));
        let words = (start / 64) as usize..window.end.as_u64().div_ceil(64) as usize;
        found.filter(window, &mut kept.words_mut()[words]).expect("the bitmap can be read");
    }
    kept
}
