//! What is kept of a loaded stage, for `cdbitmap stage status`.

use super::area::Area;
use super::intercept::Loaded;
use serde::{Deserialize, Serialize};
use std::path::Path;
use vmcore::{Error, Result};

/// Where the record is kept: gone after a boot, as is what it is about.
pub const PATH: &str = "/run/cdbitmap-stage.json";

/// What is kept of a loaded stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The boot that it was loaded in.
    pub boot_id: String,
    /// Physical address of the area.
    pub area: u64,
    /// Its size in bytes.
    pub area_size: u64,
    /// Physical address of the info.
    pub info: u64,
    /// The stage's entry.
    pub entry: u64,
    /// Where the stage goes on.
    pub next_entry: u64,
    /// Bytes of the image.
    pub image_size: u64,
    /// Bytes of the bitmap.
    pub bitmap_size: u64,
    /// Frames of the bitmap.
    pub frames: u64,
    /// The dump level.
    pub level: u64,
    /// Milliseconds of the budget.
    pub budget_ms: u64,
    /// CRC-32C of what was loaded, from the area's start on, and how many bytes that are.
    pub loaded_crc: u32,
    /// See [`loaded_crc`](Self::loaded_crc).
    pub loaded_size: u64,
}

impl Record {
    /// The record of a stage that was just loaded.
    pub fn new(area: &Area, loaded: &Loaded) -> Self {
        let numbers = area.numbers();
        let bytes = area.bytes_for(loaded.entry);
        Self {
            boot_id: boot_id(),
            area: area.start(),
            area_size: area.size(),
            info: area.info(),
            entry: area.entry(),
            next_entry: loaded.entry,
            image_size: numbers.image_size,
            bitmap_size: numbers.bitmap_size,
            frames: numbers.frame_count,
            level: numbers.level,
            budget_ms: numbers.budget_ms,
            loaded_crc: scanner_core::crc32c::crc32c(&bytes),
            loaded_size: bytes.len() as u64,
        }
    }

    /// Reads what was kept; `None` if nothing was.
    ///
    /// # Errors
    /// If it can't be read or understood.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io(path, "can't be read", error))?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|error| Error::unusable("is no record of a stage").at(path).because(error))
    }

    /// Keeps the record.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(|error| Error::io(path, "can't be written", error))
    }
}

/// The running kernel's boot.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
