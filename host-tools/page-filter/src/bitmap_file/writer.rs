//! Writing bitmap files.

use super::file::BitmapFile;
use super::info::Info;
use scanner_core::crc32c::Crc32c;
use scanner_core::info::v2::{ChunkEntry, Header};
use scanner_core::info::{InfoError, v1, v2};
use std::path::Path;
use vmcore::frames::FrameBitmap;
use vmcore::output::OutputFile;
use vmcore::{Error, Result};

/// Bits start at a multiple of this, so that a file can be mapped.
pub(super) const ALIGNMENT: u64 = 4096;

/// Binary logarithm of the frames of a chunk in a file: 1 MiB of bitmap, 32 GiB of memory. Larger machines get
/// larger chunks.
const CHUNK_SHIFT: u32 = 23;

impl BitmapFile {
    /// Writes the bitmap file `path`, which appears whole or not at all; it replaces a file only with `force`.
    /// Addresses, chunks and checksums are made anew; all else of the structure is written as it is.
    ///
    /// # Errors
    /// If the structure is not valid, or not for as many frames as there are bits, or the file can't be written.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        self.write_to(OutputFile::create(path, force)?)
    }

    /// Writes the bitmap file to `file`, and finishes it.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub fn write_to(&self, mut file: OutputFile) -> Result<()> {
        let start = self.start().map_err(|error| error.at(file.path()))?;
        file.append(&start)?;
        blocks(self.bits.words(), self.bits.frames().div_ceil(8))
            .try_for_each(|bytes| file.append(&bytes))?;
        file.finish()
    }

    /// The bytes of the bitmap file.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = self.start()?;
        bytes.extend(blocks(self.bits.words(), self.bits.frames().div_ceil(8)).flatten());
        Ok(bytes)
    }

    /// All that stands before the bits.
    fn start(&self) -> Result<Vec<u8>> {
        let frames = self.info.frames().len();
        if frames != self.bits.frames() {
            return Err(Error::failure(format!(
                "the bitmap has {} bits, but the structure says {frames} page frames",
                self.bits.frames()
            )));
        }
        let invalid =
            |error: InfoError| Error::failure("crash_dump_bitmap_info can't be written").because(error);
        match &self.info {
            Info::V1(info) => start_v1(info),
            Info::V2(header) => start_v2(header, &self.bits),
        }
        .map_err(invalid)
    }
}

/// All of a file of version 1 that stands before the bits.
pub(super) fn start_v1(info: &v1::Info) -> Result<Vec<u8>, InfoError> {
    let mut start = vec![0; ALIGNMENT as usize];
    v1::Info { bitmap: ALIGNMENT, ..*info }.encode(&mut start)?;
    Ok(start)
}

/// The area and its padding. The chunks follow each other without a gap.
fn start_v2(header: &Header, bits: &FrameBitmap) -> Result<Vec<u8>, InfoError> {
    let shifts = CHUNK_SHIFT..v2::MAX_CHUNK_SHIFT;
    let fits = |shift: &u32| header.frame_count >> shift < u64::from(v2::MAX_CHUNKS);
    let chunk_shift = shifts.into_iter().find(fits).unwrap_or(v2::MAX_CHUNK_SHIFT);
    let shape = Header::new(header.frames().start, header.frame_count, chunk_shift);
    let header = Header {
        self_address: 0,
        chunk_shift,
        chunk_table: shape.chunk_table,
        chunk_count: shape.chunk_count,
        ..*header
    };
    let mut address = (header.area_size() as u64).next_multiple_of(ALIGNMENT);
    let mut start = vec![0; address as usize];
    let mut words = bits.words();
    for index in 0..header.chunk_count {
        let size = header.chunk_size(index);
        let (now, later) = words.split_at(words.len().min(size.div_ceil(8) as usize));
        let mut crc = Crc32c::new();
        blocks(now, size).for_each(|bytes| crc.update(&bytes));
        header.put_chunk(&mut start, index, &ChunkEntry::unsealed(address, size).sealed(crc.finish()))?;
        address += size;
        words = later;
    }
    header.encode(&mut start)?;
    Ok(start)
}

/// The first `size` bytes of `words`, block by block.
fn blocks(words: &[u64], size: u64) -> impl Iterator<Item = Vec<u8>> {
    const WORDS: usize = 8192;
    (0..).zip(words.chunks(WORDS)).map(move |(index, block): (u64, _)| {
        let mut bytes: Vec<u8> = block.iter().flat_map(|word| word.to_le_bytes()).collect();
        let left = size.saturating_sub(index * 8 * WORDS as u64);
        bytes.truncate(left.min(bytes.len() as u64) as usize);
        bytes
    })
}
