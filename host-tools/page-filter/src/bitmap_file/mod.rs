//! Bitmap files: `crash_dump_bitmap_info` at offset 0, with file offsets for addresses.
//!
//! [`BitmapReader`] reads them, and equally the bitmap that a crashed kernel left in its memory, in constant memory;
//! [`BitmapFile`] holds one as a whole. `Documentation/format.md` is the specification.

mod check_machine;
mod convert;
mod copy;
mod reader;
mod report;
mod scanned;
mod stopped;
mod writer;

pub use convert::Conversion;
pub use reader::{BitmapReader, DamagedChunk, FileAsMemory, Survey};
pub use report::{ChunkReport, CountReport, ExceptionReport, RecordedScan, Report};

use scanner_core::info::{Version, v1, v2};
use scanner_core::{Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use vmcore::frames::FrameBitmap;
use vmcore::{Error, Result};

/// The largest bitmap that is held in memory, in bytes: 64 TiB of memory.
const MAX_IN_MEMORY: u64 = 2 << 30;

/// Whether the file `path` is a bitmap file, of whatever version: by version 2's magic, or by the small number that
/// version 1 starts with, which no memory image does.
///
/// # Errors
/// If it can't be read.
pub fn is_bitmap_file(path: &Path) -> Result<bool> {
    let mut start = [0; 8];
    let mut file =
        File::open(path).map_err(|error| Error::unusable("can't be opened").at(path).because(error))?;
    let found = match file.read(&mut start) {
        Ok(found) => found,
        // A directory, which is for others to refuse.
        Err(_) => return Ok(false),
    };
    let version = u32::from_le_bytes([start[0], start[1], start[2], start[3]]);
    Ok(found == 8 && (start == v2::MAGIC || (1..=255).contains(&version)))
}

/// The structure that describes a bitmap, in one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// Version 1.
    V1(v1::Info),
    /// Version 2.
    V2(Box<v2::Header>),
}

impl Info {
    /// The version of the format.
    pub fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// The frames that the bitmap stands for.
    pub fn frames(&self) -> PfnRange {
        match self {
            Self::V1(info) => PfnRange::from_start(Pfn::new(0), info.frames()),
            Self::V2(header) => header.frames(),
        }
    }
}

/// Pages that a producer has counted as excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub pages: u64,
    /// Whether the format and the producer count every page that is excluded.
    pub all: bool,
}

impl Counted {
    /// Whether a bitmap of which `cleared` bits are clear may be the one that was counted.
    pub fn agrees_with(self, cleared: u64) -> bool {
        self.pages == cleared || (self.pages < cleared && !self.all)
    }
}

impl Info {
    /// What the producer has counted; `None` as long as it was not done with it.
    pub fn counted(&self) -> Option<Counted> {
        let (counts, complete) = match self {
            // Version 1 has no room for offline pages.
            Self::V1(i) => (
                vec![i.cache_pages, i.cache_private_pages, i.user_pages, i.free_pages, i.hwpoison_pages],
                false,
            ),
            Self::V2(h) if matches!(h.state, v2::State::Empty | v2::State::Scanning) => return None,
            Self::V2(h) => {
                let counts = [
                    h.cache_pages,
                    h.cache_private_pages,
                    h.user_pages,
                    h.free_pages,
                    h.hwpoison_pages,
                    h.offline_pages,
                    h.unaccepted_pages,
                ];
                let complete = !counts.contains(&v2::NOT_COUNTED);
                // Zero pages that were not counted were not looked for.
                (counts.into_iter().chain([h.zero_pages]).collect(), complete)
            }
        };
        let counts = counts.into_iter().filter(|count| *count != v2::NOT_COUNTED);
        Some(Counted { pages: counts.fold(0, u64::saturating_add), all: complete })
    }
}

/// A bitmap, and the structure that describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapFile {
    /// The structure; addresses, chunks and checksums in it are those of where it came from, and are made anew
    /// when it is written.
    pub info: Info,
    /// A bit for each of the structure's frames: bit 0 is `info.frames().start`.
    pub bits: FrameBitmap,
}

impl BitmapFile {
    /// Reads the bitmap file `path`, and checks all of it.
    ///
    /// # Errors
    /// If it can't be read, or is not a valid bitmap file; or is one for more than 64 TiB of memory, which only a
    /// [`BitmapReader`] takes.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_reader(&BitmapReader::open(path)?).map_err(|error| error.at(path))
    }

    /// The same from the bytes of a file.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_reader(&BitmapReader::from_bytes(bytes)?)
    }

    /// Takes a whole bitmap into memory.
    ///
    /// # Errors
    /// If a chunk can't be read or doesn't have its checksum, or the bitmap is larger than 2 GiB.
    pub fn from_reader<M: PhysicalMemory>(reader: &BitmapReader<M>) -> Result<Self> {
        let frames = reader.info().frames();
        if frames.len().div_ceil(8) > MAX_IN_MEMORY {
            return Err(Error::unusable(format!(
                "a bitmap of {} page frames is too large to be held in memory",
                frames.len()
            )));
        }
        FrameBitmap::require_room(frames.len(), 1)?;
        reader.survey()?.intact()?;
        let mut bits = FrameBitmap::new(frames.len());
        bits.set_range(PfnRange::from_start(Pfn::new(0), frames.len()));
        reader.clear_excluded(frames, bits.words_mut())?;
        Ok(Self { info: reader.info().clone(), bits })
    }

    /// Whether the bitmap keeps `pfn`; frames that it has no bit for are kept.
    pub fn keeps(&self, pfn: Pfn) -> bool {
        let frames = self.info.frames();
        !frames.contains(pfn) || self.bits.get(Pfn::new(pfn.frames_since(frames.start)))
    }
}

/// Bytes that are a file's content.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl PhysicalMemory for Bytes<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let found = self.view(addr, buf.len()).ok_or(Unreadable { addr })?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.0.get(usize::try_from(addr.as_u64()).ok()?..)?.get(..len)
    }
}

#[cfg(test)]
mod tests;
