//! Bitmaps in the memory of a machine, as a producer leaves them there.

use cdbitmap::bitmap_file::{BitmapFile, Info};
use cdbitmap::image::{ImageFacts, MemoryImage};
use scanner_core::info::v2::{Chunk, Header};
use scanner_core::info::{crc32c, v1};
use scanner_core::{PhysAddr, PhysicalMemory, Unreadable};

/// An image with other bytes at some places.
pub struct Planted<'i> {
    image: &'i dyn MemoryImage,
    facts: ImageFacts,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl<'i> Planted<'i> {
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

impl PhysicalMemory for Planted<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.image.read(addr, buf)?;
        let (start, end) = (addr.as_u64(), addr.as_u64() + buf.len() as u64);
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

impl MemoryImage for Planted<'_> {
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
                let mut chunk = Chunk::unsealed(address, size);
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
