//! The mutable state of a scan: the scan, its tally, and the contents of the info structures.

use crate::failure::Failure;
use crate::output::Output;
use crate::types::{Callbacks, ScanResult};
use scanner_core::crc32c::Crc32c;
use scanner_core::info::v2::{self, Header};
use scanner_core::info::{InfoError, ScanStatus, v1};
use scanner_core::scan::{BitmapRecorder, Checkpoint, Outcome, SCRATCH_BYTES, Scan, Tally};
use scanner_core::{PAGE_SIZE, PageClass, Pfn, PfnRange, PhysAddr};

/// Bytes of the bitmap that are sealed between two checkpoints.
const SEAL_BYTES: usize = 1 << 16;

/// Frames between two updates of the info while a scan runs: 4 GiB of memory.
const RECORD_FRAMES: u64 = 1 << 20;

/// The mutable state of a scan.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` if no scan is needed ([`Rules::need_scan`](scanner_core::Rules::need_scan)). Refers to the fixed part of
    /// the state.
    pub scan: Option<Scan<'static>>,
    pub tally: Tally,
    /// Number of sealed chunks.
    pub sealed: u32,
    pub header: Header,
    pub scratch: [u8; SCRATCH_BYTES],
}

impl Progress {
    /// Sets every bit, and writes an info structure with state "empty". `start` is the time at which the setup started.
    pub fn begin(&mut self, output: &mut Output<'_>, start: u64) -> Result<(), Failure> {
        let setup = output.setup();
        if !setup.has_bitmap() {
            return Ok(());
        }
        for index in 0..self.header.chunk_count {
            let Some((_, words)) = output.chunk(index) else {
                return Err(Failure::new(ScanStatus::BadChunk, "chunk number", u64::from(index)));
            };
            words.fill(u64::MAX);
        }
        let bad_info = |error: InfoError| Failure::new(ScanStatus::BadInfo, error.field, 0);
        self.reset_table(output).map_err(bad_info)?;
        self.header.setup_ns = setup.setup().now().saturating_sub(start);
        self.header.encode(output.info()).map_err(bad_info)?;
        if let Some(area) = output.info_v1() {
            v1::Info::NO_BITMAP.encode(area).map_err(bad_info)?;
        }
        Ok(())
    }

    /// Scans and seals, until the caller's checkpoint stops it.
    pub fn run(&mut self, memory: &Callbacks, output: &mut Output<'_>) -> ScanStatus {
        let setup = output.setup().setup();
        if self.header.state == v2::State::Complete {
            return ScanStatus::Done;
        }
        // The info is written anew: another state may have used its memory, and a dying kernel may have corrupted it.
        // This cannot fail, since the setup did the same.
        let _ = self.reset_table(output);
        self.record(output, v2::State::Scanning);
        let start = setup.now();
        let outcome = self.scan(memory, output);
        let scanned = setup.now();
        self.header.scan_ns = self.header.scan_ns.saturating_add(scanned.saturating_sub(start));
        self.keep_own_frames(output);
        let sealed = self.seal(output);
        self.header.seal_ns = self.header.seal_ns.saturating_add(setup.now().saturating_sub(scanned));
        if sealed && outcome == Outcome::Completed {
            self.record(output, v2::State::Complete);
            ScanStatus::Done
        } else {
            self.record(output, v2::State::OutOfBudget);
            ScanStatus::Interrupted
        }
    }

    /// Decides all frames, until the caller's checkpoint stops it.
    fn scan(&mut self, memory: &Callbacks, output: &mut Output<'_>) -> Outcome {
        let mut setup = output.setup();
        let frames = setup.setup().frames();
        while let Some(scan) = self.scan.as_mut().filter(|scan| scan.next() < frames.end) {
            let next_record = (scan.next().as_u64() | RECORD_FRAMES.wrapping_sub(1)).saturating_add(1);
            let limit = Pfn::new(next_record).min(frames.end);
            let mut recorder = BitmapRecorder::new(&mut *output, &mut self.tally);
            if scan.run(memory, limit, &mut self.scratch, &mut recorder, &mut setup) == Outcome::Interrupted {
                return Outcome::Interrupted;
            }
            self.record(output, v2::State::Scanning);
        }
        Outcome::Completed
    }

    /// Writes the chunk table, with all chunks unsealed.
    fn reset_table(&mut self, output: &mut Output<'_>) -> Result<(), InfoError> {
        self.sealed = 0;
        for (index, chunk) in (0..self.header.chunk_count).zip(output.setup().chunks()) {
            let entry = v2::ChunkEntry::unsealed(chunk.address, self.header.chunk_size(index));
            self.header.put_chunk(output.info(), index, &entry)?;
        }
        Ok(())
    }

    /// Keeps the frames that hold the bitmap and the info, whatever the decision about them.
    #[inline(never)]
    fn keep_own_frames(&mut self, output: &mut Output<'_>) {
        let setup = output.setup();
        for chunk in setup.chunks() {
            self.keep(output, chunk.address, chunk.size);
        }
        if setup.has_bitmap() {
            self.keep(output, setup.setup().info_address, setup.setup().info_size);
        }
    }

    /// Sets the bits of the frames that contain the `size` bytes from `address` on.
    fn keep(&mut self, output: &mut Output<'_>, address: u64, size: usize) {
        let end = address.saturating_add(size as u64).div_ceil(PAGE_SIZE as u64);
        let own = PfnRange::new(PhysAddr::new(address).pfn(), Pfn::new(end));
        let own = own.intersection(self.header.frames());
        for frame in own.start.as_u64()..own.end.as_u64() {
            let at = frame.saturating_sub(self.header.first_frame);
            let shift = self.header.chunk_shift & 63;
            let in_chunk = at & (1_u64 << shift).wrapping_sub(1);
            if let Some((_, words)) = output.chunk((at >> shift) as u32)
                && let Some(word) = words.get_mut((in_chunk >> 6) as usize)
            {
                *word |= 1 << (in_chunk & 63);
            }
        }
    }

    /// The current results.
    pub fn result(&self) -> ScanResult {
        let pages = |class| self.tally.counters.get(class);
        ScanResult {
            next_frame: self.next().as_u64(),
            free_pages: pages(PageClass::Free),
            unaccepted_pages: pages(PageClass::Unaccepted),
            cache_pages: pages(PageClass::Cache),
            cache_private_pages: pages(PageClass::CachePrivate),
            user_pages: pages(PageClass::User),
            hwpoison_pages: pages(PageClass::Hwpoison),
            offline_pages: pages(PageClass::Offline),
            unreadable_pages: self.tally.unreadable,
            bad_order_pages: self.tally.bad_orders,
        }
    }

    /// The first frame that is not decided.
    fn next(&self) -> Pfn {
        let frames = self.header.frames();
        self.scan.as_ref().map_or(frames.end, |scan| scan.next().max(frames.start).min(frames.end))
    }

    /// Seals the chunks that are not sealed. Returns `false` if the caller's checkpoint stops it.
    // `#[inline(never)]` keeps its locals off the stack during the scan.
    #[inline(never)]
    fn seal(&mut self, output: &mut Output<'_>) -> bool {
        let mut setup = output.setup();
        while self.sealed < self.header.chunk_count
            && let Some((chunk, bytes)) = output.chunk_bytes(self.sealed)
        {
            let mut crc = Crc32c::new();
            for piece in bytes.chunks(SEAL_BYTES) {
                if setup.check(self.header.frames().end).is_break() {
                    return false;
                }
                crc.update(piece);
            }
            let size = bytes.len() as u64;
            let entry = v2::ChunkEntry::unsealed(chunk.address, size).sealed(crc.finish());
            // Cannot fail: the setup has written all entries.
            let _ = self.header.put_chunk(output.info(), self.sealed, &entry);
            self.sealed = self.sealed.saturating_add(1);
        }
        true
    }

    /// Writes the position and the results of the scan to the info structures. Cannot fail: the setup has encoded the
    /// same header.
    fn record(&mut self, output: &mut Output<'_>, state: v2::State) {
        let setup = output.setup();
        let next = self.next();
        let header = &mut self.header;
        header.state = state;
        header.scanned_up_to = next.as_u64();
        header.set_counters(&self.tally.counters);
        header.unreadable_pages = self.tally.unreadable;
        header.first_unreadable = self.tally.first_unreadable.as_u64();
        header.bad_order_pages = self.tally.bad_orders;
        let rest = PfnRange::new(next, header.frames().end);
        header.unscanned_pages =
            setup.ranges().iter().fold(0, |sum, range| sum.saturating_add(range.intersection(rest).len()));
        if !setup.has_bitmap() {
            return;
        }
        header.update(output.info());
        let mut info = v1::Info::NO_BITMAP;
        if state == v2::State::Complete
            && self.header.first_frame == 0
            && self.header.chunk_count == 1
            && let [chunk, ..] = setup.chunks()
        {
            info.bitmap = chunk.address;
            info.bitmap_size = self.header.chunk_size(0);
            info.set_counters(&self.tally.counters);
        }
        if let Some(area) = output.info_v1() {
            let _ = info.encode(area);
        }
    }
}
