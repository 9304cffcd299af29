//! What to tell about a bitmap that was found in memory: one line for people, an object for programs.

use super::locate::Place;
use crate::bitmap_file::Report;
use scanner_core::{PfnRange, PhysAddr};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// What was found in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryBitmapReport {
    /// What named the address.
    pub found_by: &'static str,
    /// The physical address of the structure.
    pub address: u64,
    /// The first page frame that the producer has not decided about.
    pub decided_up_to: u64,
    /// Page frames of the bitmap that it has not decided about.
    pub undecided_frames: u64,
    /// What becomes of those: they are scanned, or kept.
    pub undecided: &'static str,
    /// What the bitmap says, and what its bits show.
    pub bitmap: Report,
}

impl MemoryBitmapReport {
    pub(super) fn new(place: Place, at: PhysAddr, bitmap: Report, decided: PfnRange) -> Self {
        Self {
            found_by: place.name(),
            address: at.as_u64(),
            decided_up_to: decided.end.as_u64(),
            undecided_frames: (bitmap.first_frame + bitmap.frames).saturating_sub(decided.end.as_u64()),
            undecided: "kept",
            bitmap,
        }
    }

    pub(super) fn undecided_are_scanned(&mut self) {
        self.undecided = "scanned";
    }
}

impl fmt::Display for MemoryBitmapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bitmap = &self.bitmap;
        write!(f, "found by {} at {:#x}: version {}", self.found_by, self.address, bitmap.version)?;
        if let Some(scan) = &bitmap.scan {
            write!(f, ", producer {}, state {}", scan.producer, scan.state)?;
            if let Some(level) = scan.dump_level {
                write!(f, ", dump level {level}")?;
            }
        }
        let end = bitmap.first_frame + bitmap.frames;
        write!(f, "; frames {:#x}..{end:#x}: {} excluded", bitmap.first_frame, bitmap.excluded_frames)?;
        let counts = bitmap.counts.iter().filter(|count| !count.kept && count.pages > 0);
        for (count, before) in counts.zip(std::iter::once(" (").chain(std::iter::repeat(", "))) {
            write!(f, "{before}{} {}", count.class, count.pages)?;
        }
        if bitmap.counts.iter().any(|count| !count.kept && count.pages > 0) {
            f.write_str(")")?;
        }
        write!(f, ", {} kept", bitmap.kept_frames)?;
        if self.undecided_frames > 0 {
            let (count, from) = (self.undecided_frames, self.decided_up_to);
            write!(f, "; {count} from {from:#x} on not decided and {}", self.undecided)?;
        }
        let times = bitmap.scan.as_ref().map_or([0; 3], |scan| scan.nanoseconds);
        let measured = ["setup", "scan", "seal"].into_iter().zip(times).filter(|(_, time)| *time != 0);
        for ((what, time), before) in measured.zip(std::iter::once("; ").chain(std::iter::repeat(", "))) {
            write!(f, "{before}{what} {:.1?}", Duration::from_nanos(time))?;
        }
        if !bitmap.chunks.damaged.is_empty() {
            write!(f, "; {} of {} chunks are damaged", bitmap.chunks.damaged.len(), bitmap.chunks.total)?;
        }
        match bitmap.chunks.unsealed {
            0 => Ok(()),
            unsealed => write!(f, "; {unsealed} of {} chunks without a checksum", bitmap.chunks.total),
        }
    }
}
