//! A bitmap file as a whole.

use super::info::Info;
use super::reader::BitmapReader;
use scanner_core::info::v2;
use scanner_core::{Pfn, PfnRange, PhysicalMemory};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use vmcore::frames::FrameBitmap;
use vmcore::{Error, Result};

/// The largest bitmap that is held in memory, in bytes: 64 TiB of memory.
pub(super) const MAX_IN_MEMORY: u64 = 2 << 30;

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
