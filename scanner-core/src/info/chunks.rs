//! The chunk table of version 2: where the pieces of the bitmap are.

use super::error::{ADDRESS_END, Expected, InfoError, between, exactly, multiple_of};
use super::wire::wire_struct;
use crate::addr::{Pfn, PfnRange};

wire_struct! {
    /// An entry of the chunk table: one physically contiguous piece of the bitmap.
    pub struct ChunkEntry, "crash_dump_bitmap_chunk", 24 bytes {
        /// Physical address of the chunk (in a file: offset), a multiple of 8.
        0 => address: u64, "uint64_t";
        /// Size of the chunk in bytes: a bit for each of its frames, rounded up to whole bytes.
        8 => size: u64, "uint64_t";
        /// CRC-32C of the chunk's bytes if it is sealed, else 0.
        16 => crc32c: u32, "uint32_t";
        /// Bit 0: the chunk is final, and sealed with its checksum. Other bits are 0.
        20 => flags: u32, "uint32_t";
    }
}

impl ChunkEntry {
    /// The bit of [`flags`](Self::flags) that says that the chunk is final and has its checksum.
    pub const SEALED: u32 = 1;

    /// A chunk of `size` bytes at `address` that is not sealed yet.
    pub const fn unsealed(address: u64, size: u64) -> Self {
        Self { address, size, crc32c: 0, flags: 0 }
    }

    /// The same chunk, final, with the checksum of its bytes.
    #[must_use]
    pub const fn sealed(self, crc32c: u32) -> Self {
        Self { crc32c, flags: Self::SEALED, ..self }
    }

    /// Whether the chunk is final, and [`crc32c`](Self::crc32c) its checksum.
    pub const fn is_sealed(&self) -> bool {
        self.flags & Self::SEALED != 0
    }

    /// The first byte behind the chunk.
    const fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }
}

/// How the frames of a bitmap are divided into chunks: all chunks but the last have `1 << chunk_shift` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkGeometry {
    /// The first frame of the bitmap.
    pub first_frame: u64,
    /// Frames of the bitmap.
    pub frame_count: u64,
    /// Binary logarithm of the frames of each chunk but the last.
    pub chunk_shift: u32,
    /// Number of chunks.
    pub chunk_count: u32,
}

impl ChunkGeometry {
    /// The frames of the bitmap.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    /// The frames that chunk `index` stands for; `None` after the last one.
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

    /// Bytes of chunk `index`; 0 after the last one.
    #[inline]
    pub const fn chunk_size(&self, index: u32) -> u64 {
        match self.chunk_frames(index) {
            Some(frames) => frames.len().div_ceil(8),
            None => 0,
        }
    }
}

/// Chunks for so many frames; `u32::MAX` if that is more than fits.
pub(super) const fn chunks_for(frame_count: u64, chunk_shift: u32) -> u32 {
    let count = match 1u64.checked_shl(chunk_shift) {
        Some(per_chunk) => frame_count.div_ceil(per_chunk),
        None => u64::MAX,
    };
    if count > u32::MAX as u64 { u32::MAX } else { count as u32 }
}

/// The chunk table as it lies in memory. Entries are decoded on request.
#[derive(Clone, Copy, Debug)]
pub struct ChunkTable<'a> {
    geometry: ChunkGeometry,
    table: &'a [u8],
}

impl<'a> ChunkTable<'a> {
    /// The entries in `table`, for chunks as `geometry` says.
    pub(super) const fn new(geometry: ChunkGeometry, table: &'a [u8]) -> Self {
        Self { geometry, table }
    }

    /// How many chunks there are.
    pub const fn len(&self) -> u32 {
        self.geometry.chunk_count
    }

    /// Whether there is none; a valid table has one at least.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index`; `None` behind the last one.
    pub fn get(&self, index: u32) -> Option<ChunkEntry> {
        let offset = (index as usize).checked_mul(ChunkEntry::SIZE)?;
        ChunkEntry::from_bytes(self.table.get(offset..)?.first_chunk()?).ok()
    }

    /// The frames that chunk `index` stands for; `None` behind the last one.
    pub fn frames(&self, index: u32) -> Option<PfnRange> {
        self.geometry.chunk_frames(index)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkEntry> + 'a {
        let (entries, _) = self.table.as_chunks::<{ ChunkEntry::SIZE }>();
        entries.iter().filter_map(|entry| ChunkEntry::from_bytes(entry).ok())
    }

    /// Checks every entry by itself, and that none overlaps another one or `area`, the memory of header and table; if the
    /// bitmap is `complete`, also that each is sealed. The comparison of each entry with each, at most 8 million pairs
    /// (`v2::MAX_CHUNKS`), needs no memory to sort in.
    pub(super) fn check(&self, area: ChunkEntry, complete: bool) -> Result<(), InfoError> {
        for (index, chunk) in (0..).zip(self.iter()) {
            self.check_entry(index, &chunk, complete).map_err(|error| error.of_chunk(index))?;
            let others = self.iter().take(index as usize);
            if let Some(other) = core::iter::once(area).chain(others).find(|other| overlap(&chunk, other)) {
                let rule = if other == area {
                    Expected::Rule("a chunk outside of the header and the chunk table")
                } else {
                    Expected::Rule("a chunk that no earlier one overlaps")
                };
                return Err(InfoError::new("address", rule, chunk.address).of_chunk(index));
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
