//! What changes while a scan runs: its place, what it has found, and what the info structures say.

use super::Fixed;
use super::status::{Failure, Status};
use super::types::{Chunk, Findings, Setup};
use crate::addr::{PAGE_SIZE, Pfn, PfnRange, PhysAddr};
use crate::bitmap::clear_in_chunk;
use crate::info::v2::{self, Header};
use crate::info::{Crc32c, InfoError, v1};
use crate::level::{Counters, FramesByClass, PageClass};
use crate::memory::ReadError;
use crate::scan::{Outcome, Pace, SCRATCH_BYTES, Scan, Sink};
use crate::sections::SectionError;

/// Bytes of bitmap that are sealed between two questions to the caller whether to go on.
const SEAL_BYTES: usize = 1 << 16;

/// Frames that are scanned until the info says how far the scan is: 4 GiB of memory.
const RECORD_FRAMES: u64 = 1 << 20;

/// What changes while a scan runs.
#[derive(Debug)]
pub(super) struct Progress {
    /// `None` if no rule can find anything. Refers to the state's fixed part.
    pub scan: Option<Scan<'static>>,
    pub tally: Tally,
    /// Chunks that are sealed.
    pub sealed: u32,
    pub header: Header,
    pub scratch: [u8; SCRATCH_BYTES],
}

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    counters: Counters,
    unreadable: u64,
    first_unreadable: u64,
    bad_orders: u64,
    /// Without a bitmap: where the frames end that are counted. A scan goes up, so that no frame counts twice.
    counted_to: Pfn,
}

impl Progress {
    /// Sets every bit, and writes info that says "empty". `start` is when set-up began.
    pub fn begin(&mut self, fixed: &Fixed, start: u64) -> Result<(), Failure> {
        let setup = &fixed.setup;
        if !setup.has_bitmap() {
            return Ok(());
        }
        for index in 0..self.header.chunk_count {
            let Some((_, words)) = self.chunk(setup, index) else {
                return Err(Failure::new(Status::BadChunk, "chunk number", u64::from(index)));
            };
            words.fill(u64::MAX);
        }
        let bad_info = |error: InfoError| Failure::new(Status::BadInfo, error.field, 0);
        self.begin_table(setup).map_err(bad_info)?;
        self.header.setup_ns = setup.now().saturating_sub(start);
        // SAFETY: set-up has checked the info's memory, and no other slice of it is in use.
        let area = unsafe { setup.info() };
        self.header.encode(area).map_err(bad_info)?;
        // SAFETY: as above, for version 1.
        if let Some(area) = unsafe { setup.info_v1() } {
            v1::Info::NO_BITMAP.encode(area).map_err(bad_info)?;
        }
        Ok(())
    }

    /// Scans and seals, as far as the caller lets it.
    pub fn run(&mut self, fixed: &Fixed) -> Status {
        let setup = &fixed.setup;
        if self.header.state == v2::State::Complete {
            return Status::Done;
        }
        // Nothing that was written before is relied on: another state may have used the info since, and a dying kernel
        // may have scribbled on it. Set-up has done this once, so that it can't fail.
        let _ = self.begin_table(setup);
        self.record(setup, v2::State::Scanning);
        let start = setup.now();
        let outcome = self.scan(fixed);
        let scanned = setup.now();
        self.header.scan_ns = self.header.scan_ns.saturating_add(scanned.saturating_sub(start));
        self.keep_own(setup);
        let sealed = self.seal(setup);
        self.header.seal_ns = self.header.seal_ns.saturating_add(setup.now().saturating_sub(scanned));
        if sealed && outcome == Outcome::Reached {
            self.record(setup, v2::State::Complete);
            Status::Done
        } else {
            self.record(setup, v2::State::OutOfBudget);
            Status::Interrupted
        }
    }

    /// Decides about all frames, as far as the caller lets it.
    fn scan(&mut self, fixed: &Fixed) -> Outcome {
        let setup = &fixed.setup;
        while let Some(scan) = self.scan.as_mut().filter(|scan| scan.next() < setup.frames().end) {
            let next_record = (scan.next().as_u64() | RECORD_FRAMES.wrapping_sub(1)).saturating_add(1);
            let limit = Pfn::new(next_record).min(setup.frames().end);
            let mut sink =
                ChunkSink { chunks: Chunks { setup, header: &self.header }, tally: &mut self.tally };
            if scan.run(&fixed.memory, limit, &mut self.scratch, &mut sink, &mut Paced(setup))
                == Outcome::Interrupted
            {
                return Outcome::Interrupted;
            }
            self.record(setup, v2::State::Scanning);
        }
        Outcome::Reached
    }

    /// Fills the chunk table with chunks that are not sealed.
    fn begin_table(&mut self, setup: &Setup) -> Result<(), InfoError> {
        self.sealed = 0;
        // SAFETY: set-up has checked the chunks, and their number.
        let chunks = unsafe { setup.chunks() };
        for (index, chunk) in (0..self.header.chunk_count).zip(chunks) {
            let entry = v2::Chunk::unsealed(chunk.address, self.header.chunk_size(index));
            // SAFETY: set-up has checked the info's memory, and no other slice of it is in use.
            self.header.put_chunk(unsafe { setup.info() }, index, &entry)?;
        }
        Ok(())
    }

    /// Keeps the frames that hold the bitmap and the info, whatever their struct pages said.
    #[inline(never)]
    fn keep_own(&mut self, setup: &Setup) {
        // SAFETY: set-up has checked the chunks, and their number.
        let chunks = unsafe { setup.chunks() };
        for chunk in chunks {
            self.keep(setup, chunk.address, chunk.size);
        }
        if setup.has_bitmap() {
            self.keep(setup, setup.info_address, setup.info_size);
        }
    }

    /// Sets the bits of the frames with the `size` bytes from `address` on.
    fn keep(&mut self, setup: &Setup, address: u64, size: usize) {
        let end = address.saturating_add(size as u64).div_ceil(PAGE_SIZE as u64);
        let own = PfnRange::new(PhysAddr::new(address).pfn(), Pfn::new(end));
        let own = own.intersection(self.header.frames());
        for frame in own.start.as_u64()..own.end.as_u64() {
            let at = frame.saturating_sub(self.header.first_frame);
            let shift = self.header.chunk_shift & 63;
            let in_chunk = at & (1_u64 << shift).wrapping_sub(1);
            if let Some((_, words)) = self.chunk(setup, (at >> shift) as u32)
                && let Some(word) = words.get_mut((in_chunk >> 6) as usize)
            {
                *word |= 1 << (in_chunk & 63);
            }
        }
    }

    /// What was found so far.
    pub fn findings(&self) -> Findings {
        let pages = |class| self.tally.counters.get(class);
        Findings {
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

    /// Chunk `index` and the words of it that hold bits.
    fn chunk<'a>(&self, setup: &Setup, index: u32) -> Option<(&'a Chunk, &'a mut [u64])> {
        // SAFETY: set-up has checked the chunks, and their number.
        let chunk = unsafe { setup.chunks() }.get(index as usize)?;
        // SAFETY: set-up has checked this chunk's pointer and size.
        Some((chunk, unsafe { words(chunk, &self.header, index) }))
    }

    /// Gives the chunks that have none yet their checksums; `false` if the caller stops it. Not inlined, so that the
    /// scan, which is over by then, doesn't find its stack taken.
    #[inline(never)]
    fn seal(&mut self, setup: &Setup) -> bool {
        while let Some((chunk, words)) =
            self.chunk(setup, self.sealed).filter(|_| self.sealed < self.header.chunk_count)
        {
            let size = self.header.chunk_size(self.sealed);
            let mut crc = Crc32c::new();
            let mut left = size as usize;
            for piece in words.chunks(SEAL_BYTES / 8) {
                if !setup.go_on(self.header.frames().end) {
                    return false;
                }
                // SAFETY: words can be seen as bytes, eight each.
                let bytes =
                    unsafe { core::slice::from_raw_parts(piece.as_ptr().cast::<u8>(), size_of_val(piece)) };
                crc.update(bytes.get(..left).unwrap_or(bytes));
                left = left.saturating_sub(bytes.len());
            }
            let entry = v2::Chunk::unsealed(chunk.address, size).sealed(crc.finish());
            // SAFETY: set-up has checked the info's memory, and no other slice of it is in use. It has also put all
            // entries there once, so that this one fits.
            let _ = self.header.put_chunk(unsafe { setup.info() }, self.sealed, &entry);
            self.sealed = self.sealed.saturating_add(1);
        }
        true
    }

    /// Writes how far the scan is, and what it found, to the info structures. Set-up has encoded the same header once,
    /// so that this can't fail.
    fn record(&mut self, setup: &Setup, state: v2::State) {
        let next = self.next();
        let header = &mut self.header;
        header.state = state;
        header.scanned_up_to = next.as_u64();
        header.set_counters(&self.tally.counters);
        header.unreadable_pages = self.tally.unreadable;
        header.first_unreadable = self.tally.first_unreadable;
        header.bad_order_pages = self.tally.bad_orders;
        let rest = PfnRange::new(next, header.frames().end);
        // SAFETY: set-up has checked the ranges.
        let ranges = unsafe { setup.ranges() };
        header.unscanned_pages =
            ranges.iter().fold(0, |sum, range| sum.saturating_add(range.intersection(rest).len()));
        if !setup.has_bitmap() {
            return;
        }
        // SAFETY: set-up has checked the info's memory, and no other slice of it is in use.
        header.update(unsafe { setup.info() });
        let mut info = v1::Info::NO_BITMAP;
        if state == v2::State::Complete
            && header.first_frame == 0
            && let Some((chunk, _)) = self.chunk(setup, 0).filter(|_| self.header.chunk_count == 1)
        {
            info.bitmap = chunk.address;
            info.bitmap_size = self.header.chunk_size(0);
            info.set_counters(&self.tally.counters);
        }
        // SAFETY: as for version 2.
        if let Some(area) = unsafe { setup.info_v1() } {
            let _ = info.encode(area);
        }
    }
}

/// The words of `chunk`, number `index`, that hold bits.
///
/// # Safety
/// Set-up must have checked the chunk, and no other slice of its words may be in use.
#[inline]
unsafe fn words<'a>(chunk: &Chunk, header: &Header, index: u32) -> &'a mut [u64] {
    let count = header.chunk_size(index).div_ceil(8) as usize;
    // SAFETY: the chunk is not null, aligned, and has at least this size; the caller of crash_scan_setup promised
    // that the memory is there and that only the scanner uses it.
    unsafe { core::slice::from_raw_parts_mut(chunk.words, count) }
}

/// Clears bits in the caller's chunks, if there are any, and counts.
struct ChunkSink<'s> {
    chunks: Chunks<'s>,
    tally: &'s mut Tally,
}

/// The caller's chunks, and what frames they are for.
struct Chunks<'s> {
    setup: &'s Setup,
    header: &'s Header,
}

impl Chunks<'_> {
    /// The frames of the chunk that `frame` is in, and the words that hold their bits.
    #[inline(never)]
    fn chunk_of(&mut self, frame: Pfn) -> Option<(PfnRange, &mut [u64])> {
        let index = frame.frames_since(self.header.frames().start) >> (self.header.chunk_shift & 63);
        let index = index as u32;
        // SAFETY: set-up has checked the chunks, and their number.
        let chunk = unsafe { self.setup.chunks() }.get(index as usize)?;
        // SAFETY: set-up has checked all chunks that have frames; this slice is the only one.
        Some((self.header.chunk_frames(index)?, unsafe { words(chunk, self.header, index) }))
    }
}

// Neither is inlined, so that what they need doesn't stand on the stack while pages are decided about.
impl Sink for ChunkSink<'_> {
    #[inline(never)]
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        let mut left = frames.intersection(self.chunks.header.frames());
        if !self.chunks.setup.has_bitmap() {
            left.start = left.start.max(self.tally.counted_to);
            if !left.is_empty() {
                self.tally.counters.add(class, left.len());
                self.tally.counted_to = left.end;
            }
            return;
        }
        while let Some((own, words)) = self.chunks.chunk_of(left.start).filter(|_| !left.is_empty()) {
            let here = left.intersection(own);
            let cleared = clear_in_chunk(words, here.start.frames_since(own.start), here.len());
            self.tally.counters.add(class, cleared);
            left.start = own.end.min(left.end);
        }
    }

    #[inline(never)]
    fn exclude_some(&mut self, first: Pfn, which: &FramesByClass) {
        let header = self.chunks.header;
        let at = first.as_u64().wrapping_sub(header.first_frame);
        if first < header.frames().start || at & 63 != 0 || header.frames().end.frames_since(first) < 64 {
            for (class, which) in PageClass::ALL.iter().zip(which) {
                let mut left = *which;
                while left != 0 {
                    let frame = first.saturating_add(left.trailing_zeros().into());
                    self.exclude(PfnRange::from_start(frame, 1), *class);
                    left &= left.wrapping_sub(1);
                }
            }
            return;
        }
        let counted = self.tally.counted_to.frames_since(first).min(64) as u32;
        let mut uncounted = u64::MAX.checked_shl(counted).unwrap_or(0);
        let word = if !self.chunks.setup.has_bitmap() {
            Some(&mut uncounted)
        } else {
            self.chunks
                .chunk_of(first)
                .and_then(|(own, words)| words.get_mut((first.frames_since(own.start) >> 6) as usize))
        };
        if let Some(word) = word {
            self.tally.counters.clear(word, which);
        }
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        let tally = &mut self.tally;
        tally.unreadable = tally.unreadable.saturating_add(frames.len());
        if let SectionError::Read(ReadError::Unreadable(at)) = error
            && tally.first_unreadable == 0
            && at.addr.pfn() < Pfn::END
        {
            tally.first_unreadable = at.addr.as_u64();
        }
    }

    fn bad_order(&mut self, _: Pfn) {
        self.tally.bad_orders = self.tally.bad_orders.saturating_add(1);
    }
}

/// Asks the caller.
struct Paced<'s>(&'s Setup);

impl Pace for Paced<'_> {
    fn go_on(&mut self, next: Pfn) -> bool {
        self.0.go_on(next)
    }
}
