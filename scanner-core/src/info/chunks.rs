//! The chunk table of version 2: where the pieces of the bitmap are.

use super::ADDRESS_END;
use super::error::{Expected, InfoError, between, exactly, multiple_of};
use super::layout::wire_struct;
use super::v2::{Header, State};
use crate::addr::PfnRange;

wire_struct! {
    /// An entry of the chunk table: one physically contiguous piece of the bitmap.
    pub struct Chunk, "crash_dump_bitmap_chunk", 24 bytes {
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

impl Chunk {
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

/// The chunk table as it lies in memory; entries are decoded when they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    header: &'a Header,
    table: &'a [u8],
}

impl<'a> Chunks<'a> {
    /// The table of `header` in `area`, which starts with the header.
    ///
    /// # Errors
    /// If `area` ends before the table does.
    pub fn new(header: &'a Header, area: &'a [u8]) -> Result<Self, InfoError> {
        let needed = header.area_size();
        match area.get(header.chunk_table as usize..needed) {
            Some(table) => Ok(Self { header, table }),
            None => Err(InfoError::new("chunk_table", Expected::Bytes(needed as u64), area.len() as u64)),
        }
    }

    /// How many chunks there are.
    pub const fn len(&self) -> u32 {
        self.header.chunk_count
    }

    /// Whether there is none; a valid table has one at least.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index`; `None` behind the last one.
    pub fn get(&self, index: u32) -> Option<Chunk> {
        let offset = (index as usize).checked_mul(Chunk::SIZE)?;
        Chunk::from_bytes(self.table.get(offset..)?.first_chunk()?).ok()
    }

    /// The frames that chunk `index` stands for; `None` behind the last one.
    pub fn frames(&self, index: u32) -> Option<PfnRange> {
        self.header.chunk_frames(index)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Chunk> + 'a {
        let (entries, _) = self.table.as_chunks::<{ Chunk::SIZE }>();
        entries.iter().filter_map(|entry| Chunk::from_bytes(entry).ok())
    }

    /// Checks every entry by itself, and that none overlaps another one or the header. The latter compares each
    /// with each, at most 8 million pairs (`v2::MAX_CHUNKS`), since there is no memory to sort in.
    pub(super) fn check(&self) -> Result<(), InfoError> {
        let header = self.header;
        let area_end = header.self_address.saturating_add(header.area_size() as u64);
        let area = Chunk::unsealed(header.self_address, area_end.saturating_sub(header.self_address));
        for (index, chunk) in (0..).zip(self.iter()) {
            self.check_entry(index, &chunk).map_err(|error| error.of_chunk(index))?;
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

    fn check_entry(&self, index: u32, chunk: &Chunk) -> Result<(), InfoError> {
        exactly("size", self.header.chunk_size(index), chunk.size)?;
        multiple_of("address", 8, chunk.address)?;
        between("address", 8, ADDRESS_END.saturating_sub(chunk.size), chunk.address)?;
        between("flags", 0, u64::from(Chunk::SEALED), u64::from(chunk.flags))?;
        if !chunk.is_sealed() {
            exactly("crc32c", 0, u64::from(chunk.crc32c))?;
            if self.header.state == State::Complete {
                let rule = Expected::Rule("a sealed chunk (1), since the state is complete");
                return Err(InfoError::new("flags", rule, u64::from(chunk.flags)));
            }
        }
        Ok(())
    }
}

fn overlap(a: &Chunk, b: &Chunk) -> bool {
    a.address < b.end() && b.address < a.end()
}

impl Header {
    /// Puts entry `index` of the chunk table into `area`, which starts with the header. The header's checksum
    /// covers the table: [`encode`](Header::encode) comes afterwards.
    ///
    /// # Errors
    /// If there is no such chunk, or `area` ends before the table does.
    pub fn put_chunk(&self, area: &mut [u8], index: u32, chunk: &Chunk) -> Result<(), InfoError> {
        between("chunk_count", 0, u64::from(self.chunk_count).saturating_sub(1), u64::from(index))?;
        let room = area.len() as u64;
        let offset = self.chunk_offset(index);
        let Some(place) = area.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) else {
            return Err(InfoError::new("chunk_table", Expected::Bytes(self.area_size() as u64), room));
        };
        *place = chunk.to_bytes();
        Ok(())
    }

    fn chunk_offset(&self, index: u32) -> usize {
        (index as usize).saturating_mul(Chunk::SIZE).saturating_add(self.chunk_table as usize)
    }
}
