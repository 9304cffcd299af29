//! The bitmap file of a scan on a host.

use super::file::BitmapFile;
use super::info::Info;
use crate::machine::Machine;
use crate::scan::ScannedBitmap;
use scanner_core::info::{Version, v1, v2};
use scanner_core::{DumpLevel, Pfn, PfnRange};
use std::time::Duration;
use vmcore::Result;
use vmcore::frames::FrameBitmap;

impl BitmapFile {
    /// The bitmap file of what a scan of `machine` at `level` found, in `version` of the format. `setup` is what
    /// resolving the layout took.
    ///
    /// # Errors
    /// If the structure can't describe it.
    pub fn of_scan(
        machine: &Machine<'_>,
        level: DumpLevel,
        scanned: &ScannedBitmap,
        version: Version,
        setup: Duration,
    ) -> Result<Self> {
        match version {
            Version::V1 => Ok(version_1(scanned)),
            Version::V2 => Ok(version_2(machine, level, scanned, setup)),
        }
    }
}

/// Version 1 counts in bytes of bitmap: frames behind the last one are kept, whether they exist or not.
fn version_1(scanned: &ScannedBitmap) -> BitmapFile {
    let frames = scanned.bitmap.frames();
    let mut bits = FrameBitmap::ones(frames.next_multiple_of(8));
    for (all, scanned) in bits.words_mut().iter_mut().zip(scanned.bitmap.words()) {
        *all &= scanned;
    }
    bits.set_range(PfnRange::new(Pfn::new(frames), Pfn::new(frames.next_multiple_of(8))));
    // The address is made when the file is written; it only must not say that there is no bitmap.
    let mut info = v1::Info { bitmap: 1, bitmap_size: frames.div_ceil(8), ..v1::Info::NO_BITMAP };
    info.set_counters(&scanned.findings.counters);
    BitmapFile { info: Info::V1(info), bits }
}

fn version_2(
    machine: &Machine<'_>,
    level: DumpLevel,
    scanned: &ScannedBitmap,
    setup: Duration,
) -> BitmapFile {
    let findings = &scanned.findings;
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut header = v2::Header::new(Pfn::new(0), scanned.bitmap.frames(), v2::MIN_CHUNK_SHIFT);
    header.producer = v2::Producer::Host;
    header.state = if findings.complete { v2::State::Complete } else { v2::State::Cancelled };
    header.set_scan(level, machine.rule_set, &findings.counters);
    header.scanned_up_to = findings.scanned_up_to.as_u64();
    header.unscanned_pages = scanned.bitmap.frames().saturating_sub(findings.scanned_up_to.as_u64());
    header.unreadable_pages = findings.unreadable_frames;
    header.bad_order_pages = findings.bad_orders;
    header.setup_ns = nanoseconds(setup);
    header.scan_ns = nanoseconds(findings.time);
    header.set_clock("monotonic");
    header.set_kernel_release(machine.os_release());
    header.set_build_id(&machine.build_id());
    header.vmcoreinfo_crc = machine.vmcoreinfo_crc();
    BitmapFile { info: Info::V2(Box::new(header)), bits: scanned.bitmap.clone() }
}
