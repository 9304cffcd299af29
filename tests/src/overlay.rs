//! Bitmaps in the memory of a machine, as a producer writes them.

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

/// A memory image in which some bytes are replaced.
pub struct OverlayImage<'i> {
    image: &'i dyn MemoryImage,
    facts: ImageFacts,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl<'i> OverlayImage<'i> {
    /// An overlay of `image` without replaced bytes.
    pub fn new(image: &'i dyn MemoryImage) -> Self {
        Self { image, facts: image.facts().clone(), pieces: Vec::new() }
    }

    /// Replaces the memory at physical address `at` with `bytes`. A later piece overrides earlier ones.
    pub fn put(mut self, at: u64, bytes: Vec<u8>) -> Self {
        self.pieces.push((at, bytes));
        self
    }

    /// Replaces the memory at the address of each piece.
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

/// The location and the state of a bitmap in memory.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Physical address of the info structure.
    pub at: u64,
    /// Physical address of the first chunk. Each following chunk starts one page after the end of the previous one.
    pub chunks: u64,
    /// Whether the chunks are sealed.
    pub sealed: bool,
}

/// `file` as pieces of memory with their addresses; the first piece is the info structure.
///
/// # Panics
/// Panics if the info cannot be encoded.
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
            // The smallest chunk size, so that there are many chunks.
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
                let address = site.chunks + u64::from(index) * chunk_distance(header.chunk_size(0));
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

/// Distance between the start addresses of two chunks, in bytes.
fn chunk_distance(chunk_size: u64) -> u64 {
    chunk_size.next_multiple_of(4096) + 4096
}

/// A machine with several sections, and the bitmap of a scan at dump level 31.
pub struct SimulatedMachine {
    /// Its vmcore.
    pub file: NamedTempFile,
    /// Its memory, without the bitmap.
    pub image: Box<dyn MemoryImage>,
    /// The bitmap in version 1.
    pub v1: BitmapFile,
    /// The bitmap in version 2.
    pub v2: BitmapFile,
    /// A free block with room for the structure and its chunks.
    pub site: Site,
}

/// The machine that all tests share.
pub static MACHINE: LazyLock<SimulatedMachine> = LazyLock::new(|| {
    let generation = GENERATIONS.iter().find(|g| g.name == "6.12").expect("generation 6.12 exists");
    let (file, _) =
        crate::synth::file(&Spec { edge_cases: false, ..Spec::with_everything(generation, 512 << 20) });
    let image = open(file.path(), &OpenOptions::default()).expect("the simulated vmcore opens");
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).expect("the simulated kernel is known");
    let mut scanned = scan(&machine, DumpLevel::all(), &mut RunToCompletion);
    // A real producer uses kernel memory, which is kept. This one uses part of a free block, so these frames are marked
    // as kept and do not count as free.
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
            .expect("the bitmap has the size of the machine")
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

    /// Virtual address of the structure in the direct map.
    ///
    /// # Panics
    /// Panics if the structure is in no segment.
    pub fn virtual_address(&self) -> u64 {
        let segments = &self.image.facts().segments;
        let contains = |s: &&Segment| (s.phys.as_u64()..s.phys.as_u64() + s.mem_size).contains(&self.site.at);
        let segment = segments.iter().find(contains).expect("the structure is in a segment");
        segment.virt.as_u64() + (self.site.at - segment.phys.as_u64())
    }
}

/// Search hints that locate the structure at `at`.
pub fn by_address(at: u64) -> SearchHints {
    SearchHints { command_line: None, address: Some(PhysAddr::new(at)) }
}

/// The bits of `found` for the first `frames` frames, read in windows of `size` frames.
///
/// # Panics
/// Panics if the bitmap cannot be read.
pub fn kept(found: &mut MemoryBitmap<'_>, frames: u64, size: u64) -> FrameBitmap {
    let mut kept = FrameBitmap::ones(frames);
    for start in (0..frames).step_by(size as usize) {
        let window = PfnRange::new(Pfn::new(start), Pfn::new(frames.min(start + size)));
        let words = (start / 64) as usize..window.end.as_u64().div_ceil(64) as usize;
        found.filter(window, &mut kept.words_mut()[words]).expect("the bitmap can be read");
    }
    kept
}
