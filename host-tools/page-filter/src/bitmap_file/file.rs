//! A whole bitmap file in memory.

use super::info::Info;
use super::reader::BitmapReader;
use scanner_core::info::v2;
use scanner_core::{Pfn, PfnRange, PhysicalMemory};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use vmcore::frames::FrameBitmap;
use vmcore::{Error, Result};

/// The largest bitmap that is loaded into memory, in bytes: the bitmap of 64 TiB of memory.
pub(super) const MAX_IN_MEMORY: u64 = 2 << 30;

/// Whether the file `path` is a bitmap file of any version. Version 2 starts with its magic. Version 1 starts with a
/// small number, and no memory image does.
///
/// # Errors
/// Fails if the file cannot be opened.
pub fn is_bitmap_file(path: &Path) -> Result<bool> {
    let mut start = [0; 8];
    let mut file =
        File::open(path).map_err(|error| Error::unusable("cannot be opened").at(path).because(error))?;
    let length = match file.read(&mut start) {
        Ok(length) => length,
        // A directory. The caller's next step refuses it.
        Err(_) => return Ok(false),
    };
    let version = u32::from_le_bytes([start[0], start[1], start[2], start[3]]);
    Ok(length == 8 && (start == v2::MAGIC || (1..=255).contains(&version)))
}

/// A bitmap file: the bitmap, and the structure that describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapFile {
    /// The structure. Its addresses, chunks and checksums are those of its origin; writing the file replaces them.
    pub info: Info,
    /// One bit for each of the structure's frames; bit 0 is `info.frames().start`.
    pub bits: FrameBitmap,
}

impl BitmapFile {
    /// Reads the bitmap file `path`, and checks all of it.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is not a valid bitmap file, or is for more than 64 TiB of memory. Only a
    /// [`BitmapReader`] reads larger ones.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_reader(&BitmapReader::open(path)?).map_err(|error| error.at(path))
    }

    /// Reads a bitmap file from its bytes, and checks all of it.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_reader(&BitmapReader::from_bytes(bytes)?)
    }

    /// Loads a whole bitmap into memory.
    ///
    /// # Errors
    /// Fails if a chunk cannot be read or has a wrong checksum, or if the bitmap is larger than 2 GiB.
    pub fn from_reader<M: PhysicalMemory>(reader: &BitmapReader<M>) -> Result<Self> {
        let frames = reader.info().frames();
        if frames.len().div_ceil(8) > MAX_IN_MEMORY {
            return Err(Error::unusable(format!(
                "a bitmap of {} page frames is too large to load into memory",
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

    /// Whether the bitmap keeps `pfn`. Frames outside the bitmap are kept.
    pub fn keeps(&self, pfn: Pfn) -> bool {
        let frames = self.info.frames();
        !frames.contains(pfn) || self.bits.get(Pfn::new(pfn.frames_since(frames.start)))
    }
}
