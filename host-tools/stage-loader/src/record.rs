//! The record of a loaded stage, which `cdbitmap stage status` compares with the running kernel.

use super::area::Area;
use super::intercept::Loaded;
use serde::{Deserialize, Serialize};
use std::path::Path;
use vmcore::{Error, Result};

/// Path of the record. `/run` is empty after a boot, and so is the memory of the loaded stage.
pub const PATH: &str = "/run/cdbitmap-stage.json";

/// The record of a loaded stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Identifier of the boot in which the stage was loaded.
    pub boot_id: String,
    /// Physical address of the area.
    pub area: u64,
    /// Size of the area in bytes.
    pub area_size: u64,
    /// Physical address of the bitmap's info.
    pub info: u64,
    /// Physical address of the stage's entry point.
    pub entry: u64,
    /// Address that the stage jumps to at its end: kexec's own entry.
    pub next_entry: u64,
    /// Size of the image in bytes.
    pub image_size: u64,
    /// Size of the bitmap in bytes.
    pub bitmap_size: u64,
    /// Number of page frames of the bitmap.
    pub frames: u64,
    /// The dump level.
    pub level: u64,
    /// Time budget of the scan in milliseconds.
    pub budget_ms: u64,
    /// CRC-32C of the first [`loaded_size`](Self::loaded_size) bytes of the area, as loaded.
    pub loaded_crc: u32,
    /// Number of bytes that [`loaded_crc`](Self::loaded_crc) covers: the image and the block.
    pub loaded_size: u64,
}

impl Record {
    /// The record of a stage that was loaded in this boot.
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

    /// Reads the record; `None` if there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a record.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io(path, "cannot be read", error))?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|error| Error::unusable("is not a stage record").at(path).because(error))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(|error| Error::io(path, "cannot be written", error))
    }
}

/// Identifier of the current boot; empty if it cannot be read.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
