//! A caller's [`Setup`] with its pointers checked, and safe access to what they point to.

use crate::failure::Failure;
use crate::types::{BitmapChunk, Callbacks, Setup};
use core::ops::ControlFlow;
use scanner_core::info::ScanStatus;
use scanner_core::info::v2::{ChunkGeometry, Header, MAX_CHUNKS, Producer};
use scanner_core::scan::Checkpoint;
use scanner_core::{DumpLevel, Pfn, PfnRange, RuleSet};

/// A setup whose pointers are checked.
///
/// Invariant: ranges, chunks and info are not null (unless there is no bitmap), aligned and of a possible size, ranges
/// ascend, and each chunk has room for its frames; and the caller of `crash_scan_setup` promised that this memory exists as
/// long as the state is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedSetup(Setup);

/// What the numbers of a setup mean.
pub(crate) struct Request {
    pub level: DumpLevel,
    pub rule_set: RuleSet,
    pub producer: Producer,
    pub memory: Callbacks,
}

impl Setup {
    /// The caller's numbers and callbacks.
    pub(crate) fn request(&self) -> Result<Request, Failure> {
        let rule_sets = [RuleSet::Makedumpfile, RuleSet::Kernel];
        let rule_set = rule_sets.into_iter().find(|rules| *rules as u32 == self.rules);
        Ok(Request {
            level: DumpLevel::from_number(u64::from(self.level)).ok_or(Failure::argument("level"))?,
            rule_set: rule_set.ok_or(Failure::argument("rules"))?,
            producer: Producer::from_code(self.producer).ok_or(Failure::argument("producer"))?,
            memory: Callbacks {
                context: self.context,
                read: self.read.ok_or(Failure::argument("read"))?,
                view: self.view,
            },
        })
    }

    /// Nanoseconds by the caller's clock; 0 without one.
    pub(crate) fn now(&self) -> u64 {
        // SAFETY: the caller of `crash_scan_setup` promised that this function accepts its context.
        self.now.map_or(0, |now| unsafe { now(self.context) })
    }

    /// The VMCOREINFO text.
    ///
    /// # Safety
    /// The pointer and its size must be as `crash_scan_setup` requires.
    pub(crate) unsafe fn vmcoreinfo<'a>(&self) -> Result<&'a [u8], Failure> {
        if !fits(self.vmcoreinfo, self.vmcoreinfo_size) {
            return Err(Failure::argument("vmcoreinfo"));
        }
        // SAFETY: not null, of a possible size, and the caller promised the memory. Bytes need no alignment.
        Ok(unsafe { core::slice::from_raw_parts(self.vmcoreinfo.cast::<u8>(), self.vmcoreinfo_size) })
    }

    /// The clock's name; empty without one.
    ///
    /// # Safety
    /// `clock` must be null, or point to a text of at most 23 bytes that ends with a zero byte.
    pub(crate) unsafe fn clock<'a>(&self) -> &'a str {
        let start = self.clock.cast::<u8>();
        if start.is_null() {
            return "";
        }
        // SAFETY: not null; the bytes up to the zero byte are there, and so is that.
        let is_text = |at: &usize| unsafe { start.add(*at).read() } != 0;
        let size = (0..23).take_while(is_text).count();
        // SAFETY: these bytes have just been read, and the caller promised not to change them meanwhile.
        core::str::from_utf8(unsafe { core::slice::from_raw_parts(start, size) }).unwrap_or_default()
    }

    /// The frames of the bitmap.
    pub(crate) fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    fn has_bitmap(&self) -> bool {
        self.chunk_count > 0
    }
}

impl CheckedSetup {
    /// Checks the pointers of `setup` and what they point to.
    ///
    /// # Safety
    /// The pointers must be as `crash_scan_setup` requires, for as long as the result is used.
    pub unsafe fn new(setup: &Setup) -> Result<Self, Failure> {
        let checked = Self(*setup);
        if !fits(setup.ranges, setup.range_count) {
            return Err(Failure::argument("ranges"));
        }
        if setup.has_bitmap() && !fits(setup.chunks, setup.chunk_count) {
            return Err(Failure::argument("chunks"));
        }
        if setup.has_bitmap() && !fits(setup.info.cast::<u64>(), setup.info_size / 8) {
            return Err(Failure::argument("info"));
        }
        let mut end = Pfn::new(0);
        for range in checked.ranges() {
            if range.start < end || range.end < range.start {
                return Err(Failure::new(ScanStatus::BadRange, "first frame", range.start.as_u64()));
            }
            end = range.end;
        }
        if !setup.has_bitmap() {
            return Ok(checked);
        }
        let geometry = checked.geometry();
        for index in 0..geometry.chunk_count {
            let size = geometry.chunk_size(index).next_multiple_of(8);
            let chunk = checked.chunks().get(index as usize).filter(|chunk| {
                fits(chunk.words, chunk.size / 8) && chunk.size as u64 >= size && chunk.address % 8 == 0
            });
            if chunk.is_none() || index >= MAX_CHUNKS {
                return Err(Failure::new(ScanStatus::BadChunk, "chunk number", u64::from(index)));
            }
        }
        Ok(checked)
    }

    /// The setup itself.
    pub fn setup(&self) -> &Setup {
        &self.0
    }

    /// How the frames are divided into chunks.
    pub fn geometry(&self) -> ChunkGeometry {
        Header::new(self.0.frames().start, self.0.frame_count, self.0.chunk_shift).geometry()
    }

    /// The memory that exists. `'a` is the time in which the state is used.
    pub fn ranges<'a>(&self) -> &'a [PfnRange] {
        // SAFETY: the invariant: not null, aligned, of a possible size, and there. Both types have one layout (types.rs),
        // and the caller promised that only the scanner writes to what the setup points to.
        unsafe { core::slice::from_raw_parts(self.0.ranges.cast::<PfnRange>(), self.0.range_count) }
    }

    /// Whether there is a bitmap, rather than only counts.
    pub fn has_bitmap(&self) -> bool {
        self.0.has_bitmap()
    }

    /// The chunks of the bitmap; none without a bitmap.
    pub fn chunks<'a>(&self) -> &'a [BitmapChunk] {
        if !self.has_bitmap() {
            return &[];
        }
        // SAFETY: as for the ranges.
        unsafe { core::slice::from_raw_parts(self.0.chunks, self.0.chunk_count) }
    }
}

/// Asks the caller at each checkpoint.
impl Checkpoint for &CheckedSetup {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        let setup = &self.0;
        // SAFETY: the caller of `crash_scan_setup` promised that this function accepts its context and any frame.
        let goes_on =
            setup.checkpoint.is_none_or(|check| unsafe { check(setup.context, next.as_u64()) } != 0);
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Whether `count` of what `start` points to can be a slice: not null, aligned, and of a possible size.
pub(crate) fn fits<T>(start: *const T, count: usize) -> bool {
    let size = size_of::<T>().checked_mul(count);
    !start.is_null() && start.is_aligned() && size.is_some_and(|size| size <= isize::MAX as usize)
}
