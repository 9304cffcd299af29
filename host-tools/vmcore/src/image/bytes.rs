//! The bytes of a dump file, which is plain or a flattened stream.

use super::file::PlainFile;
use super::flattened::FlattenedIndex;
use crate::Result;
use crate::format::flattened;
use std::borrow::Cow;
use std::io;

/// A dump file that is read at any offset.
#[derive(Debug)]
pub struct FileBytes {
    stored: PlainFile,
    flattened: Option<FlattenedIndex>,
}

impl FileBytes {
    /// The bytes of the dump in `stored`. If `stored` is a flattened stream, these are the bytes of the rearranged
    /// dump.
    ///
    /// # Errors
    /// If `stored` is a damaged flattened stream, or cannot be read.
    pub fn new(stored: PlainFile) -> Result<Self> {
        let mut signature = [0; 16];
        let is_flattened = stored.read(0, &mut signature).is_ok() && flattened::is_flattened(&signature);
        let flattened = is_flattened.then(|| FlattenedIndex::new(&stored)).transpose()?;
        Ok(Self { stored, flattened })
    }

    /// Whether the file is a flattened stream.
    pub fn is_flattened(&self) -> bool {
        self.flattened.is_some()
    }

    /// Whether the file is a flattened stream without its end record.
    pub fn is_cut(&self) -> bool {
        self.flattened.as_ref().is_some_and(|index| !index.is_complete())
    }

    /// Size of the dump in bytes. For a flattened stream this is the size of the rearranged dump.
    pub fn len(&self) -> u64 {
        self.flattened.as_ref().map_or(self.stored.size(), FlattenedIndex::len)
    }

    /// Whether the dump has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the stored file is large enough for `size` bytes of data, plus 64 KiB for blocks that were never
    /// written.
    ///
    /// One record of a flattened stream can claim any length, so this check comes before an allocation of `size` bytes.
    pub fn can_hold(&self, size: u64) -> bool {
        size <= self.stored.size().saturating_add(1 << 16)
    }

    /// The `size` bytes at `offset` without a copy, if they are contiguous and mapped or in memory.
    pub fn view(&self, offset: u64, size: usize) -> Option<&[u8]> {
        let Some(index) = &self.flattened else { return self.stored.view(offset, size) };
        let piece = index.pieces(offset..offset.checked_add(size as u64)?).next()?;
        if piece.size == size as u64 { self.stored.view(piece.position, size) } else { None }
    }

    /// The `size` bytes at `offset`. `None` if they exceed the file, fail the check of [`can_hold`](Self::can_hold), or
    /// cannot be read.
    pub fn get(&self, offset: u64, size: u64) -> Option<Cow<'_, [u8]>> {
        let end = offset.checked_add(size).filter(|end| *end <= self.len() && self.can_hold(size))?;
        let len = usize::try_from(size).ok()?;
        if let Some(bytes) = self.view(offset, len) {
            return Some(Cow::Borrowed(bytes));
        }
        let mut bytes = vec![0; len];
        let read = match &self.flattened {
            None => self.stored.read(offset, &mut bytes),
            Some(index) => index.pieces(offset..end).try_for_each(|piece| -> io::Result<()> {
                let at = (piece.offset - offset) as usize;
                self.stored.read(piece.position, &mut bytes[at..at + piece.size as usize])
            }),
        };
        read.ok().map(|()| Cow::Owned(bytes))
    }

    /// The first of the `size` bytes at `offset`: as many as the file has. Empty if they cannot be read.
    pub fn get_up_to(&self, offset: u64, size: u64) -> Cow<'_, [u8]> {
        let size = size.min(self.len().saturating_sub(offset));
        self.get(offset, size).unwrap_or_default()
    }
}
