//! The memory that a scan writes: the chunks of the bitmap, and the info structures.

use crate::setup::CheckedSetup;
use crate::types::BitmapChunk;
use scanner_core::bitmap::BitmapChunks;
use scanner_core::info::v1;
use scanner_core::info::v2::ChunkGeometry;
use scanner_core::{Pfn, PfnRange};

/// Exclusive access to the memory that a scan writes. Every slice borrows from it, so mutable slices cannot alias.
#[derive(Debug)]
pub(crate) struct Output<'s> {
    setup: &'s CheckedSetup,
    geometry: ChunkGeometry,
}

impl<'s> Output<'s> {
    /// Access to the memory of `setup`.
    ///
    /// # Safety
    /// No other `Output` for the same memory may exist, and no slice of that memory may be in use.
    pub unsafe fn new(setup: &'s CheckedSetup, geometry: ChunkGeometry) -> Self {
        Self { setup, geometry }
    }

    /// Chunk `index` of the bitmap, and its words that hold bits; `None` after the last chunk.
    pub fn chunk(&mut self, index: u32) -> Option<(&'s BitmapChunk, &mut [u64])> {
        let frames = self.geometry.chunk_frames(index)?;
        let chunk = self.setup.chunks().get(index as usize)?;
        // SAFETY: `CheckedSetup` checked that the chunk is not null, aligned and has a bit for each of its frames, and
        // the caller of `crash_scan_setup` promised that only the scanner writes there. `self` is the only access to it
        // (`new`), and the slice borrows `self` mutably.
        Some((chunk, unsafe { core::slice::from_raw_parts_mut(chunk.words, words_for(frames)) }))
    }

    /// Chunk `index` of the bitmap, and its bytes that hold bits; `None` after the last chunk.
    pub fn chunk_bytes(&self, index: u32) -> Option<(&'s BitmapChunk, &[u8])> {
        let chunk = self.setup.chunks().get(index as usize)?;
        let size = self.geometry.chunk_size(index) as usize;
        // SAFETY: as in `chunk`, with a shared borrow of `self`. Bytes need no alignment, and every value is a valid
        // byte.
        Some((chunk, unsafe { core::slice::from_raw_parts(chunk.words.cast::<u8>(), size) }))
    }

    /// The memory of `crash_dump_bitmap_info_v2` and its chunk table; empty without a bitmap.
    pub fn info(&mut self) -> &mut [u8] {
        if !self.setup.has_bitmap() {
            return &mut [];
        }
        let setup = self.setup.setup();
        // SAFETY: as for a chunk. Bytes need no alignment.
        unsafe { core::slice::from_raw_parts_mut(setup.info.cast::<u8>(), setup.info_size) }
    }

    /// The memory of `crash_dump_bitmap_info_v1`; `None` if the caller provides none.
    pub fn info_v1(&mut self) -> Option<&mut [u8]> {
        let info = self.setup.setup().info_v1.cast::<u8>();
        // SAFETY: not null, and the caller promised this size. Otherwise as for a chunk.
        (!info.is_null()).then(|| unsafe { core::slice::from_raw_parts_mut(info, v1::Info::SIZE) })
    }

    /// The setup that describes the memory.
    pub fn setup(&self) -> &'s CheckedSetup {
        self.setup
    }
}

impl BitmapChunks for &mut Output<'_> {
    fn frames(&self) -> PfnRange {
        self.geometry.frames()
    }

    fn counts_only(&self) -> bool {
        !self.setup.has_bitmap()
    }

    #[inline(never)]
    fn chunk_mut(&mut self, frame: Pfn) -> Option<(PfnRange, &mut [u64])> {
        let index = frame.frames_since(self.geometry.frames().start) >> (self.geometry.chunk_shift & 63);
        let frames = self.geometry.chunk_frames(index as u32)?;
        let chunk = self.setup.chunks().get(index as usize)?;
        // SAFETY: as in `Output::chunk`.
        Some((frames, unsafe { core::slice::from_raw_parts_mut(chunk.words, words_for(frames)) }))
    }
}

/// The number of words for the bits of `frames`.
fn words_for(frames: PfnRange) -> usize {
    frames.len().div_ceil(64) as usize
}
