//! A flattened stream that reads like the file it stands for, without being rearranged on disk.

use super::file::PlainFile;
use crate::format::flattened::{self, HEADER_SIZE, RECORD_HEADER_SIZE};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where the bytes of the file are in the stream.
#[derive(Debug, Default)]
pub struct FlattenedIndex {
    /// Pieces without overlap, by their offset in the file.
    pieces: BTreeMap<u64, Stored>,
    /// Whether the stream has its end record.
    complete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    /// The first offset of the file behind the piece.
    end: u64,
    /// Where its first byte is in the stream.
    position: u64,
}

/// Bytes of the file that are in one piece in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they are in the file.
    pub offset: u64,
    /// Where they are in the stream.
    pub position: u64,
    /// How many they are.
    pub size: u64,
}

/// What to do about a damaged stream.
const COPY_AGAIN: &str = "The stream is damaged: copy it again, in binary mode.";

impl FlattenedIndex {
    /// Reads the records of `stream`. One that is cut off counts as far as it goes.
    ///
    /// # Errors
    /// If it is not a flattened stream of the known version, or a record lies outside any possible file.
    pub fn new(stream: &PlainFile) -> Result<Self> {
        let mut head = [0; HEADER_SIZE];
        let failed = |e| Error::unusable("the flattened dump can't be read").because(e);
        let there = HEADER_SIZE.min(stream.size() as usize);
        stream.read(0, &mut head[..there]).map_err(failed)?;
        if there < HEADER_SIZE {
            return Err(Error::unusable(format!(
                "the flattened dump of {there} bytes is cut off inside its header of {HEADER_SIZE}"
            ))
            .with_hint(COPY_AGAIN));
        }
        if !flattened::is_known_version(&head) {
            let (kind, version) = flattened::type_and_version(&head);
            return Err(Error::unusable(format!(
                "a flattened dump of type {kind}, version {version}, expected type 1, version 1"
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
            let there = stream.size() - position;
            index.insert(offset, size.min(there), position);
            if size > there {
                break;
            }
            at = position + size;
        }
        Ok(index)
    }

    /// Whether the stream has its end record: otherwise it was cut off.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes of the file, up to the last one that a record has.
    pub fn len(&self) -> u64 {
        self.pieces.last_key_value().map_or(0, |(_, piece)| piece.end)
    }

    /// Whether no record has any byte.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces of the file's `range`, ascending. What lies between them was never written: zeros.
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

    /// Puts a piece over whatever is there already.
    fn insert(&mut self, start: u64, size: u64, position: u64) {
        if size == 0 {
            return;
        }
        let end = start + size;
        // The last piece that starts before this one may reach into it, or even past it.
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
        // Pieces that start inside are covered, the last one perhaps not wholly.
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
        fn damaged_streams_are_no_reason_to_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = flattened::header().to_vec();
            bytes.extend(tail);
            let _ = index(&bytes);
        }
    }

    #[test]
    fn a_cut_stream_keeps_what_arrived() {
        let mut stream = stream(&[(0, vec![1; 10]), (10, vec![2; 10])]);
        stream.truncate(stream.len() - 16 - 4);
        let index = index(&stream).unwrap();
        assert!(!index.is_complete());
        assert_eq!(index.len(), 16);
    }
}
