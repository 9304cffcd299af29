//! A caller's [`Setup`] with checked pointers, and safe access to the memory that they point to.

use crate::failure::Failure;
use crate::types::{BitmapChunk, Callbacks, Setup};
use core::ops::ControlFlow;
use scanner_core::info::ScanStatus;
use scanner_core::info::v2::{ChunkGeometry, Header, MAX_CHUNKS, Producer};
use scanner_core::scan::Checkpoint;
use scanner_core::{DumpLevel, Pfn, PfnRange, RuleSet};

/// A setup with checked pointers.
///
/// Invariant: ranges, chunks and info are not null (chunks and info: unless there is no bitmap), aligned, and at most
/// `isize::MAX` bytes large. The ranges ascend, and each chunk has room for its frames. The caller of
/// `crash_scan_setup` promised that this memory stays valid as long as the state is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedSetup(Setup);

/// The numbers of a setup, converted to the scanner's types.
pub(crate) struct Request {
    pub level: DumpLevel,
    pub rule_set: RuleSet,
    pub producer: Producer,
    pub memory: Callbacks,
}

impl Setup {
    /// Converts the caller's numbers and callbacks.
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

    /// The time of the caller's clock in nanoseconds; 0 without a clock.
    pub(crate) fn now(&self) -> u64 {
        // SAFETY: the caller of `crash_scan_setup` promised that this function accepts its context.
        self.now.map_or(0, |now| unsafe { now(self.context) })
    }

    /// The VMCOREINFO text.
    ///
    /// # Safety
    /// The pointer and its size must be as `crash_scan_setup` requires.
    pub(crate) unsafe fn vmcoreinfo<'a>(&self) -> Result<&'a [u8], Failure> {
        if !is_slice(self.vmcoreinfo, self.vmcoreinfo_size) {
            return Err(Failure::argument("vmcoreinfo"));
        }
        // SAFETY: not null, at most `isize::MAX` bytes, and the caller promised the memory. Bytes need no alignment.
        Ok(unsafe { core::slice::from_raw_parts(self.vmcoreinfo.cast::<u8>(), self.vmcoreinfo_size) })
    }

    /// The name of the clock; empty without a name.
    ///
    /// # Safety
    /// `clock` must be null, or point to a text of at most 23 bytes that ends with a zero byte.
    pub(crate) unsafe fn clock<'a>(&self) -> &'a str {
        let start = self.clock.cast::<u8>();
        if start.is_null() {
            return "";
        }
        // SAFETY: not null, and the caller promised the bytes up to and including the zero byte.
        let is_text = |at: &usize| unsafe { start.add(*at).read() } != 0;
        let size = (0..23).take_while(is_text).count();
        // SAFETY: these bytes have just been read, and the caller promised not to change them during the call.
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
    /// The pointers must be as `crash_scan_setup` requires, as long as the result is used.
    pub unsafe fn new(setup: &Setup) -> Result<Self, Failure> {
        let checked = Self(*setup);
        if !is_slice(setup.ranges, setup.range_count) {
            return Err(Failure::argument("ranges"));
        }
        if setup.has_bitmap() && !is_slice(setup.chunks, setup.chunk_count) {
            return Err(Failure::argument("chunks"));
        }
        if setup.has_bitmap() && !is_slice(setup.info.cast::<u64>(), setup.info_size / 8) {
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
                is_slice(chunk.words, chunk.size / 8) && chunk.size as u64 >= size && chunk.address % 8 == 0
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

    /// The division of the frames into chunks.
    pub fn geometry(&self) -> ChunkGeometry {
        Header::new(self.0.frames().start, self.0.frame_count, self.0.chunk_shift).geometry()
    }

    /// The ranges of memory that exist. `'a` is the lifetime of the state.
    pub fn ranges<'a>(&self) -> &'a [PfnRange] {
        // SAFETY: the invariant: not null, aligned, at most `isize::MAX` bytes, and valid. Both types have the same
        // layout (types.rs), and the caller promised that only the scanner writes to this memory.
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

/// Calls the caller's checkpoint.
impl Checkpoint for &CheckedSetup {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        let setup = &self.0;
        // SAFETY: the caller of `crash_scan_setup` promised that this function accepts its context and any frame.
        let resume = setup.checkpoint.is_none_or(|check| unsafe { check(setup.context, next.as_u64()) } != 0);
        if resume { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Whether `start` and `count` can form a slice: `start` is aligned and not null, and the size is at most `isize::MAX`.
pub(crate) fn is_slice<T>(start: *const T, count: usize) -> bool {
    let size = size_of::<T>().checked_mul(count);
    !start.is_null() && start.is_aligned() && size.is_some_and(|size| size <= isize::MAX as usize)
}
