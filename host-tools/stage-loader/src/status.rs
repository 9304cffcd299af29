//! Checks whether a crash would run the stage now, by comparing the record with the running kernel.

use super::kcore::Kcore;
use super::record::{Record, boot_id};
use scanner_core::crc32c::crc32c;
use scanner_core::{KernelLayout, PhysAddr, PhysicalMemory as _, VirtAddr, VmcoreInfo};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use vmcore::Result;
use vmcore::units::human_bytes;

/// Largest part of the area that is compared, in bytes.
const MAX_LOADED: u64 = 64 << 20;
/// Size of the start of `struct kimage` that is searched for the entry, in bytes. The entry is the fourth word.
const KIMAGE_START: usize = 128;

/// The status of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether a crash would run the stage.
    pub loaded: bool,
    /// The reasons why it would not, or the checks that were not possible.
    pub notes: Vec<String>,
    /// The record of the stage that was loaded last.
    pub record: Option<Record>,
}

impl Status {
    /// Compares the record at `record` with the running kernel.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn of_this_machine(record: &Path) -> Result<Self> {
        let not_loaded = |record, note: &str| Self { loaded: false, notes: vec![note.to_owned()], record };
        let Some(record) = Record::read(record)? else {
            return Ok(not_loaded(None, "no stage was loaded since the last boot"));
        };
        if record.boot_id != boot_id() {
            return Ok(not_loaded(Some(record), "the stage was loaded before the last boot"));
        }
        let loaded = std::fs::read_to_string("/sys/kernel/kexec_crash_loaded").unwrap_or_default();
        if loaded.trim() != "1" {
            return Ok(not_loaded(Some(record), "the capture kernel was unloaded"));
        }
        let kcore = match Kcore::open(Path::new("/proc/kcore")) {
            Ok(kcore) => kcore,
            Err(error) => {
                let note = format!("the stage in memory was not checked: {}", error.in_one_line());
                return Ok(Self { loaded: true, notes: vec![note], record: Some(record) });
            }
        };
        let mut bytes = vec![0; record.loaded_size.min(MAX_LOADED) as usize];
        if kcore.read(PhysAddr::new(record.area), &mut bytes).is_err() || crc32c(&bytes) != record.loaded_crc
        {
            return Ok(not_loaded(Some(record), "the stage in memory was overwritten"));
        }
        Ok(match kimage_start(&kcore) {
            Some(words) if words.contains(&record.entry) => {
                Self { loaded: true, notes: Vec::new(), record: Some(record) }
            }
            Some(_) => not_loaded(Some(record), "another capture kernel was loaded later, without the stage"),
            None => {
                let note = "the stage is in memory; whether the kernel jumps to it is unknown";
                Self { loaded: true, notes: vec![note.to_owned()], record: Some(record) }
            }
        })
    }
}

/// The first words of the kernel's `kexec_crash_image`, a `struct kimage`. One of them is the entry. `None` if they
/// cannot be read.
fn kimage_start(kcore: &Kcore) -> Option<Vec<u64>> {
    let info = VmcoreInfo::parse(kcore.vmcoreinfo()).ok()?;
    let space = KernelLayout::resolve(&info, None).ok()?.space;
    let symbols = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let line = symbols.lines().find(|line| line.ends_with(" kexec_crash_image"))?;
    let symbol = u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|address| *address != 0)?;
    let image = space.read_u64(kcore, VirtAddr::new(symbol)).ok()?;
    let mut bytes = [0; KIMAGE_START];
    space.read(kcore, VirtAddr::new(image), &mut bytes).ok()?;
    Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Stage        {}", if self.loaded { "loaded" } else { "not loaded" })?;
        for note in &self.notes {
            writeln!(f, "             {note}")?;
        }
        let Some(record) = self.record.as_ref().filter(|_| self.loaded) else { return Ok(()) };
        writeln!(f, "Area         {:#x}, {}", record.area, human_bytes(record.area_size))?;
        writeln!(f, "Image        {}", human_bytes(record.image_size))?;
        writeln!(f, "Bitmap       {} for {} page frames", human_bytes(record.bitmap_size), record.frames)?;
        writeln!(f, "Info         {:#x}", record.info)?;
        writeln!(f, "Entry        {:#x}, then {:#x}", record.entry, record.next_entry)?;
        writeln!(f, "Dump level   {}", record.level)?;
        writeln!(f, "Budget       {} s", record.budget_ms / 1000)
    }
}
