//! Random access to the dump in a flattened stream, without rearranging it on disk.

use super::file::PlainFile;
use crate::format::flattened::{self, HEADER_SIZE, RECORD_HEADER_SIZE};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// The map from offsets in the rearranged file to positions in the stream.
#[derive(Debug, Default)]
pub struct FlattenedIndex {
    /// Disjoint pieces, by their offset in the file.
    pieces: BTreeMap<u64, Stored>,
    /// Whether the stream has its end record.
    complete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    /// The first offset in the file after the piece.
    end: u64,
    /// The position of the first byte in the stream.
    position: u64,
}

/// A range of the file that is contiguous in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the file.
    pub offset: u64,
    /// Position in the stream.
    pub position: u64,
    /// Size in bytes.
    pub size: u64,
}

/// The hint for a damaged stream.
const COPY_AGAIN: &str = "The stream is damaged: copy it again, in binary mode.";

impl FlattenedIndex {
    /// Reads the record headers of `stream`. If the last record is cut off, the index has the part that exists.
    ///
    /// # Errors
    /// If `stream` is not a flattened stream of the supported version, or the offset or size of a record is impossible.
    pub fn new(stream: &PlainFile) -> Result<Self> {
        let mut head = [0; HEADER_SIZE];
        let failed = |e| Error::unusable("the flattened dump cannot be read").because(e);
        let available = HEADER_SIZE.min(stream.size() as usize);
        stream.read(0, &mut head[..available]).map_err(failed)?;
        if available < HEADER_SIZE {
            return Err(Error::unusable(format!(
                "the flattened dump of {available} bytes is cut off inside its header of {HEADER_SIZE} bytes"
            ))
            .with_hint(COPY_AGAIN));
        }
        if !flattened::is_known_version(&head) {
            let (kind, version) = flattened::type_and_version(&head);
            return Err(Error::unusable(format!(
                "the flattened dump has type {kind}, version {version}, expected type 1, version 1"
            ))
            .with_hint(
                "Rearrange it with the makedumpfile that wrote it: `makedumpfile -R VMCORE < FILE`.",
            ));
        }
        let mut index = Self::default();
        let mut at = HEADER_SIZE as u64;
        while stream.size() - at >= RECORD_HEADER_SIZE as u64 {
            let mut record = [0; RECORD_HEADER_SIZE];
            stream.read(at, &mut record).map_err(failed)?;
            if record == flattened::END_RECORD {
                index.complete = true;
                break;
            }
            let (offset, size) = flattened::parse_record(&record);
            let in_file = u64::try_from(offset).ok().zip(u64::try_from(size).ok());
            let Some((offset, size)) = in_file.filter(|(offset, size)| *size <= i64::MAX as u64 - offset)
            else {
                return Err(Error::unusable(format!(
                    "the record at byte {at} of the flattened dump is damaged (offset {offset}, size {size})"
                ))
                .with_hint(COPY_AGAIN));
            };
            let position = at + RECORD_HEADER_SIZE as u64;
            let available = stream.size() - position;
            index.insert(offset, size.min(available), position);
            if size > available {
                break;
            }
            at = position + size;
        }
        Ok(index)
    }

    /// Whether the stream has its end record. Otherwise it is cut off.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Size of the file in bytes, up to the last byte of any record.
    pub fn len(&self) -> u64 {
        self.pieces.last_key_value().map_or(0, |(_, piece)| piece.end)
    }

    /// Whether no record has data.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces in `range` of the file, ascending. The bytes between them were never written and read as zeros.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        let first = self.pieces.range(..=range.start).next_back().map_or(range.start, |(offset, _)| *offset);
        self.pieces.range(first..range.end.max(first)).filter_map(move |(&start, stored)| {
            let (offset, end) = (start.max(range.start), stored.end.min(range.end));
            (offset < end).then(|| Piece {
                offset,
                position: stored.position + (offset - start),
                size: end - offset,
            })
        })
    }

    /// Adds a piece, which overwrites the parts of earlier pieces that it overlaps.
    fn insert(&mut self, start: u64, size: u64, position: u64) {
        if size == 0 {
            return;
        }
        let end = start + size;
        // The last piece that starts before this one can overlap its start, or extend past its end.
        if let Some((&before, piece)) = self.pieces.range_mut(..start).next_back()
            && piece.end > start
        {
            let old = *piece;
            piece.end = start;
            if old.end > end {
                let position = old.position + (end - before);
                self.pieces.insert(end, Stored { end: old.end, position });
            }
        }
        // Pieces that start inside this one are overwritten. The last one can extend past the end.
        while let Some((&covered, &piece)) = self.pieces.range(start..end).next() {
            self.pieces.remove(&covered);
            if piece.end > end {
                let position = piece.position + (end - covered);
                self.pieces.insert(end, Stored { end: piece.end, position });
            }
        }
        self.pieces.insert(start, Stored { end, position });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(records: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut stream = flattened::header().to_vec();
        for (offset, data) in records {
            stream.extend(flattened::record_header(*offset, data.len() as u64));
            stream.extend(data);
        }
        stream.extend(flattened::END_RECORD);
        stream
    }

    fn index(stream: &[u8]) -> Result<FlattenedIndex> {
        FlattenedIndex::new(&PlainFile::InMemory(stream.to_vec()))
    }

    fn read(stream: &[u8], index: &FlattenedIndex, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        for piece in index.pieces(range.clone()) {
            let at = (piece.offset - range.start) as usize;
            bytes[at..][..piece.size as usize]
                .copy_from_slice(&stream[piece.position as usize..][..piece.size as usize]);
        }
        bytes
    }

    proptest! {
        #[test]
        fn later_records_overwrite_earlier_ones(
            records in prop::collection::vec((0u64..200, prop::collection::vec(1u8.., 0..60)), 0..20),
            start in 0u64..250, size in 0u64..100,
        ) {
            let mut file = vec![0; 400];
            for (offset, data) in &records {
                file[*offset as usize..][..data.len()].copy_from_slice(data);
            }
            let stream = stream(&records);
            let index = index(&stream).unwrap();
            prop_assert!(index.is_complete());
            let end = file.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
            prop_assert_eq!(index.len(), end as u64);
            prop_assert_eq!(read(&stream, &index, 0..400), file.clone());
            let range = start as usize..(start + size) as usize;
            prop_assert_eq!(read(&stream, &index, start..start + size), file[range].to_vec());
        }

        #[test]
        fn damaged_streams_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = flattened::header().to_vec();
            bytes.extend(tail);
            let _ = index(&bytes);
        }
    }

    #[test]
    fn a_truncated_stream_keeps_the_complete_part() {
        let mut stream = stream(&[(0, vec![1; 10]), (10, vec![2; 10])]);
        stream.truncate(stream.len() - 16 - 4);
        let index = index(&stream).unwrap();
        assert!(!index.is_complete());
        assert_eq!(index.len(), 16);
    }
}
