//! A bitmap from memory as a file, with whatever may be wrong with it.

use super::info::Info;
use super::reader::BitmapReader;
use super::writer::{ALIGNMENT, start_v1};
use scanner_core::PhysicalMemory;
use scanner_core::info::InfoError;
use scanner_core::info::v2::{ChunkEntry, Header};
use vmcore::output::OutputFile;
use vmcore::{Error, Result};

impl<M: PhysicalMemory> BitmapReader<M> {
    /// Writes the bitmap to `file` as a bitmap file, and finishes it. Addresses become offsets; all else stays as the
    /// producer left it, checksums of chunks included, so that a damage is still seen in the copy. Takes little
    /// memory, whatever the bitmap's size.
    ///
    /// # Errors
    /// If a chunk can't be read, or the file not be written.
    pub fn copy_to(&self, mut file: OutputFile) -> Result<()> {
        let start = match self.info() {
            Info::V1(info) => start_v1(info),
            Info::V2(header) => start_v2(header, self.chunks().iter().map(|(_, chunk)| chunk)),
        };
        let invalid =
            |error: InfoError| Error::failure("crash_dump_bitmap_info can't be written").because(error);
        file.append(&start.map_err(invalid)?)?;
        self.each_piece(|bytes| file.append(bytes))?;
        file.finish()
    }
}

/// The area and its padding. The chunks follow each other without a gap: each but the last has a multiple of 8 bytes.
fn start_v2<'c>(header: &Header, chunks: impl Iterator<Item = &'c ChunkEntry>) -> Result<Vec<u8>, InfoError> {
    let header = Header { self_address: 0, ..*header };
    let mut address = (header.area_size() as u64).next_multiple_of(ALIGNMENT);
    let mut start = vec![0; address as usize];
    for (index, chunk) in (0..).zip(chunks) {
        header.put_chunk(&mut start, index, &ChunkEntry { address, ..*chunk })?;
        address += chunk.size;
    }
    header.encode(&mut start)?;
    Ok(start)
}
