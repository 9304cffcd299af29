//! The chunk table of version 2: the locations of the bitmap's chunks.

use super::error::{ADDRESS_END, Expected, InfoError, between, exactly, multiple_of};
use super::wire::wire_struct;
use crate::addr::{Pfn, PfnRange};

wire_struct! {
    /// An entry of the chunk table. A chunk is a physically contiguous part of the bitmap.
    pub struct ChunkEntry, "crash_dump_bitmap_chunk", 24 bytes {
        /// Physical address of the chunk (in a file: offset), a multiple of 8.
        0 => address: u64, "uint64_t";
        /// Size of the chunk in bytes: one bit per frame, rounded up to whole bytes.
        8 => size: u64, "uint64_t";
        /// CRC-32C of the chunk's bytes if it is sealed, else 0.
        16 => crc32c: u32, "uint32_t";
        /// Bit 0: the chunk is final, and sealed with its checksum. Other bits are 0.
        20 => flags: u32, "uint32_t";
    }
}

impl ChunkEntry {
    /// The bit of [`flags`](Self::flags) that marks a chunk as final, with a checksum.
    pub const SEALED: u32 = 1;

    /// The entry of a chunk of `size` bytes at `address` that is not sealed.
    pub const fn unsealed(address: u64, size: u64) -> Self {
        Self { address, size, crc32c: 0, flags: 0 }
    }

    /// The entry of the same chunk, sealed with the checksum of its bytes.
    #[must_use]
    pub const fn sealed(self, crc32c: u32) -> Self {
        Self { crc32c, flags: Self::SEALED, ..self }
    }

    /// Whether the chunk is final and [`crc32c`](Self::crc32c) is its checksum.
    pub const fn is_sealed(&self) -> bool {
        self.flags & Self::SEALED != 0
    }

    /// The first address after the chunk.
    const fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }
}

/// The division of a bitmap's frames into chunks. All chunks except the last have `1 << chunk_shift` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkGeometry {
    /// The first frame of the bitmap.
    pub first_frame: u64,
    /// Number of frames of the bitmap.
    pub frame_count: u64,
    /// Binary logarithm of the frames of each chunk except the last.
    pub chunk_shift: u32,
    /// Number of chunks.
    pub chunk_count: u32,
}

impl ChunkGeometry {
    /// The frames of the bitmap.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    /// The frames of chunk `index`; `None` after the last chunk.
    #[inline]
    pub const fn chunk_frames(&self, index: u32) -> Option<PfnRange> {
        if index >= self.chunk_count {
            return None;
        }
        let Some(per_chunk) = 1u64.checked_shl(self.chunk_shift) else { return None };
        let before = per_chunk.saturating_mul(index as u64);
        let range = PfnRange::from_start(Pfn::new(self.first_frame).saturating_add(before), per_chunk);
        Some(range.intersection(self.frames()))
    }

    /// Size of chunk `index` in bytes; 0 after the last chunk.
    #[inline]
    pub const fn chunk_size(&self, index: u32) -> u64 {
        match self.chunk_frames(index) {
            Some(frames) => frames.len().div_ceil(8),
            None => 0,
        }
    }
}

/// Number of chunks for `frame_count` frames; `u32::MAX` if the number does not fit.
pub(super) const fn chunks_for(frame_count: u64, chunk_shift: u32) -> u32 {
    let count = match 1u64.checked_shl(chunk_shift) {
        Some(per_chunk) => frame_count.div_ceil(per_chunk),
        None => u64::MAX,
    };
    if count > u32::MAX as u64 { u32::MAX } else { count as u32 }
}

/// A chunk table in memory. Entries are decoded on request.
#[derive(Clone, Copy, Debug)]
pub struct ChunkTable<'a> {
    geometry: ChunkGeometry,
    table: &'a [u8],
}

impl<'a> ChunkTable<'a> {
    /// The entries in `table`, for the chunks of `geometry`.
    pub(super) const fn new(geometry: ChunkGeometry, table: &'a [u8]) -> Self {
        Self { geometry, table }
    }

    /// Number of chunks.
    pub const fn len(&self) -> u32 {
        self.geometry.chunk_count
    }

    /// Whether there are no chunks. A valid table has at least one.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index`; `None` after the last entry.
    pub fn get(&self, index: u32) -> Option<ChunkEntry> {
        let offset = (index as usize).checked_mul(ChunkEntry::SIZE)?;
        ChunkEntry::from_bytes(self.table.get(offset..)?.first_chunk()?).ok()
    }

    /// The frames of chunk `index`; `None` after the last chunk.
    pub fn frames(&self, index: u32) -> Option<PfnRange> {
        self.geometry.chunk_frames(index)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkEntry> + 'a {
        let (entries, _) = self.table.as_chunks::<{ ChunkEntry::SIZE }>();
        entries.iter().filter_map(|entry| ChunkEntry::from_bytes(entry).ok())
    }

    /// Checks every entry, and that no chunk overlaps another one or `area`, the memory of header and table. If the
    /// bitmap is `complete`, every chunk must be sealed. All pairs are compared, at most 8 million (`v2::MAX_CHUNKS`):
    /// sorting would need memory.
    pub(super) fn check(&self, area: ChunkEntry, complete: bool) -> Result<(), InfoError> {
        for (index, chunk) in (0..).zip(self.iter()) {
            self.check_entry(index, &chunk, complete).map_err(|error| error.in_chunk(index))?;
            let others = self.iter().take(index as usize);
            if let Some(other) = core::iter::once(area).chain(others).find(|other| overlap(&chunk, other)) {
                let rule = if other == area {
                    Expected::Rule("a chunk outside of the header and the chunk table")
                } else {
                    Expected::Rule("a chunk that no earlier one overlaps")
                };
                return Err(InfoError::new("address", rule, chunk.address).in_chunk(index));
            }
        }
        Ok(())
    }

    fn check_entry(&self, index: u32, chunk: &ChunkEntry, complete: bool) -> Result<(), InfoError> {
        exactly("size", self.geometry.chunk_size(index), chunk.size)?;
        multiple_of("address", 8, chunk.address)?;
        between("address", 8, ADDRESS_END.saturating_sub(chunk.size), chunk.address)?;
        between("flags", 0, u64::from(ChunkEntry::SEALED), u64::from(chunk.flags))?;
        if !chunk.is_sealed() {
            exactly("crc32c", 0, u64::from(chunk.crc32c))?;
            if complete {
                let rule = Expected::Rule("a sealed chunk (1), since the state is complete");
                return Err(InfoError::new("flags", rule, u64::from(chunk.flags)));
            }
        }
        Ok(())
    }
}

fn overlap(a: &ChunkEntry, b: &ChunkEntry) -> bool {
    a.address < b.end() && b.address < a.end()
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
