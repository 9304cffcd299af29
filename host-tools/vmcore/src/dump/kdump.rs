//! Writes a kdump-compressed dump, header version 6, with makedumpfile's file layout.
//!
//! The writer makes two passes. The first pass calls the filter for each window of frames and writes both bitmaps.
//! Then the number of pages is known, and so is the offset of their data. The second pass reads the 2nd bitmap back in
//! pieces, and writes descriptors and data. So the memory does not depend on the machine's size, and the bytes of the
//! dump do not depend on the size of a window or on the number of threads.

use super::dumpable::{DumpableFrames, existing, windows};
use super::head::{FileLayout, Head};
use super::pipeline::{self, BATCH, BatchIo, FrameBatch, PageEncoding, StoredPage};
use super::sink::Sink;
use crate::filter::FrameFilter;
use crate::format::kdump::BLOCK_SIZE;
use crate::format::kdump::{Extent, PageDesc};
use crate::frames::FrameRanges;
use crate::identity::DumpIdentity;
use crate::image::{ImageFacts, MemoryImage, identify};
use crate::output::OutputFile;
use crate::progress::Progress;
use crate::{Error, Result};
use page_codecs::Codec;
use scanner_core::rules::BLOCK_FRAMES;
use scanner_core::{PAGE_SIZE, Pfn};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Options for writing a dump.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// The dump level for the header. If the image is a dump, its level is added.
    ///
    /// If bit 0 is set (value 1), all zero pages share one stored page. The filter is responsible for the other bits.
    pub level: u32,
    /// The codec for page data.
    pub codec: Codec,
    /// Number of compression threads. With 0 or 1 the calling thread compresses.
    pub threads: usize,
    /// Bytes of bitmap in one window of the filter (makedumpfile's cyclic buffer). It is rounded down to whole blocks
    /// of [`BLOCK_FRAMES`] frames; the minimum is one block.
    pub buffer_bytes: u64,
    /// Whether to write a flattened stream.
    pub flattened: bool,
    /// Number of frames that the bitmaps cover, if it is smaller than the image's [`max_pfn`](ImageFacts::max_pfn).
    /// makedumpfile stops at the end of the last memory section.
    pub max_mapnr: Option<u64>,
    /// The memory that exists (`Machine::exists` of the crate `page-filter`). The default is the image's
    /// [`exists`](ImageFacts::exists).
    pub exists: Option<FrameRanges>,
    /// The identity for the headers. The default is [`identify`] of the image.
    pub identity: Option<DumpIdentity>,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self {
            level: 0,
            codec: Codec::Raw,
            threads: 1,
            buffer_bytes: 4 << 20,
            flattened: false,
            max_mapnr: None,
            exists: None,
            identity: None,
        }
    }
}

/// Counts of the frames and bytes of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpReport {
    /// Number of frames that the bitmaps cover.
    pub max_mapnr: u64,
    /// Number of existing frames: bits set in the 1st bitmap.
    pub existing: u64,
    /// Number of frames with data: the input of the filter.
    pub dumpable: u64,
    /// Number of pages in the dump: bits set in the 2nd bitmap.
    pub kept: u64,
    /// Number of kept pages that use the shared zero page.
    pub zero: u64,
    /// Number of kept pages that are stored compressed.
    pub compressed: u64,
    /// Number of kept pages that could not be read from the image. The dump has zeros for them, so that one bad page
    /// does not fail the dump.
    pub unreadable: u64,
    /// The first unreadable page.
    pub first_unreadable: Option<Pfn>,
    /// Bytes of page data.
    pub data_bytes: u64,
    /// All bytes that were written to the output.
    pub written: u64,
}

/// Bytes of bitmap that are written or read back in one operation.
const BITMAP_PIECE: usize = 64 << 10;
/// Size of the descriptor buffer in bytes.
const DESC_PIECE: usize = 8192 * PageDesc::SIZE;

/// Page data of at least this many bytes are written directly: copying them to the buffer costs more than the call.
const DIRECT_WRITE: usize = 128 << 10;
/// Size of the page data buffer in bytes. It keeps writes large, even if pages compress well.
const DATA_PIECE: usize = 1 << 20;

/// Writes a dump of `image` to `out`, with the frames that `filter` keeps.
///
/// # Errors
/// If the filter fails, or the output cannot be written. A regular output file is then removed.
pub fn write(
    image: &dyn MemoryImage,
    filter: &mut dyn FrameFilter,
    options: &DumpOptions,
    out: OutputFile,
    progress: &dyn Progress,
) -> Result<DumpReport> {
    let facts = image.facts();
    let max_mapnr = options.max_mapnr.unwrap_or(facts.max_pfn).min(facts.max_pfn);
    if max_mapnr == 0 || max_mapnr > Pfn::END.as_u64() {
        return Err(Error::unusable(format!(
            "cannot dump {max_mapnr} page frames, expected 1 to {}",
            Pfn::END.as_u64()
        )));
    }
    let mut sink = Sink::new(out, options.flattened)?;
    let identity = options.identity.clone().unwrap_or_else(|| identify(image));
    let level = options.level | facts.filtered.as_ref().map_or(0, |filtered| filtered.level);
    let mut head = Head::new(facts, &identity, level, options.codec, max_mapnr)?;
    sink.write_at(0, &head.to_bytes())?;

    let mut report = DumpReport { max_mapnr, ..DumpReport::default() };
    let layout = FileLayout::new(&head);
    let exists = options.exists.as_ref().unwrap_or(&facts.exists);
    report.existing = write_bitmap1(exists, &layout, &mut sink)?;
    let bitmap2 = write_bitmap2(facts, filter, options, &layout, &mut sink, &mut report, progress)?;

    let data = layout.descriptors + report.kept * PageDesc::SIZE as u64;
    let share_zero = level & 1 != 0;
    let mut writer = PageWriter {
        frames: KeptFrames::new(bitmap2, max_mapnr),
        sink,
        descriptors: Vec::with_capacity(DESC_PIECE),
        descriptors_at: layout.descriptors,
        zero_page: PageDesc { offset: data, size: PAGE_SIZE as u32, flags: 0 },
        data: Vec::with_capacity(DATA_PIECE),
        data_at: data,
        report,
        progress,
    };
    progress.start("Copying data", writer.report.kept);
    if share_zero {
        writer.data.resize(PAGE_SIZE, 0);
    }
    pipeline::run(image, PageEncoding { codec: options.codec, share_zero }, options.threads, &mut writer)?;
    writer.flush_descriptors()?;
    writer.flush_data()?;
    progress.finish();

    let PageWriter { mut sink, mut report, data_at, .. } = writer;
    report.data_bytes = data_at - data;
    if !identity.erase_info.is_empty() {
        sink.write_at(data_at, &identity.erase_info)?;
        head.sub.erase_info = Extent { offset: data_at, size: identity.erase_info.len() as u64 };
        sink.write_at(BLOCK_SIZE as u64, &head.sub.to_bytes())?;
    }
    report.written = sink.finish()?;
    Ok(report)
}

/// Writes the 1st bitmap with its padding. Returns the number of bits set.
fn write_bitmap1(exists: &FrameRanges, layout: &FileLayout, sink: &mut Sink) -> Result<u64> {
    let mut existing_frames = 0;
    let mut at = layout.bitmap1;
    // The windows also cover the padding after `max_mapnr`. A bit of the padding is set only if `exists` has the frame.
    for window in windows(layout.bitmap_size() * 8, BITMAP_PIECE as u64 * 8) {
        let bitmap = existing(exists, window);
        existing_frames += bitmap.count();
        let bytes = bitmap.to_bytes();
        sink.write_at(at, &bytes)?;
        at += bytes.len() as u64;
    }
    Ok(existing_frames)
}

/// Calls the filter for each window, and writes the 2nd bitmap with its padding.
fn write_bitmap2(
    facts: &ImageFacts,
    filter: &mut dyn FrameFilter,
    options: &DumpOptions,
    layout: &FileLayout,
    sink: &mut Sink,
    report: &mut DumpReport,
    progress: &dyn Progress,
) -> Result<Bitmap2> {
    let bitmap2 = Bitmap2::new(sink, layout)?;
    let dumpable = DumpableFrames::new(facts, options.exists.as_ref().unwrap_or(&facts.exists));
    // Windows have whole blocks. Otherwise the loss of an unreadable block would depend on the size of a window.
    let window_frames = options.buffer_bytes.saturating_mul(8).clamp(BLOCK_FRAMES, Pfn::END.as_u64());
    let window_frames = window_frames / BLOCK_FRAMES * BLOCK_FRAMES;
    progress.start("Excluding unnecessary pages", report.max_mapnr);
    for window in windows(report.max_mapnr, window_frames) {
        let mut keep = dumpable.window(window);
        report.dumpable += keep.count();
        filter.filter(window, keep.words_mut())?;
        report.kept += keep.count();
        bitmap2.write_at(sink, window.start.as_u64() / 8, &keep.to_bytes())?;
        progress.advance(window.len());
    }
    let end = report.max_mapnr.div_ceil(8);
    bitmap2.write_at(sink, end, &vec![0; (layout.bitmap_size() - end) as usize])?;
    bitmap2.copy_to_dump(sink, layout)?;
    progress.finish();
    Ok(bitmap2)
}

/// The storage of the 2nd bitmap between the two passes.
enum Bitmap2 {
    /// The dump itself, at this offset.
    InPlace(u64),
    /// An unnamed temporary file, if the dump cannot be read back.
    Temporary(File),
}

impl Bitmap2 {
    fn new(sink: &Sink, layout: &FileLayout) -> Result<Self> {
        if sink.can_read_back() {
            return Ok(Self::InPlace(layout.bitmap2));
        }
        tempfile::tempfile().map(Self::Temporary).map_err(|e| {
            Error::failure("cannot create the temporary file for the 2nd bitmap")
                .because(e)
                .with_hint(SET_TMPDIR)
        })
    }

    fn write_at(&self, sink: &mut Sink, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::InPlace(start) => sink.write_at(start + offset, bytes),
            Self::Temporary(file) => file.write_all_at(bytes, offset).map_err(temporary_failed),
        }
    }

    fn read_at(&self, sink: &Sink, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::InPlace(start) => sink.read_at(start + offset, bytes),
            Self::Temporary(file) => file.read_exact_at(bytes, offset).map_err(temporary_failed),
        }
    }

    /// Copies the bitmap to the dump, unless it is there already.
    fn copy_to_dump(&self, sink: &mut Sink, layout: &FileLayout) -> Result<()> {
        if let Self::InPlace(_) = self {
            return Ok(());
        }
        let mut piece = vec![0; BITMAP_PIECE];
        let mut offset = 0;
        while offset < layout.bitmap_size() {
            let size = (layout.bitmap_size() - offset).min(BITMAP_PIECE as u64) as usize;
            self.read_at(sink, offset, &mut piece[..size])?;
            sink.write_at(layout.bitmap2 + offset, &piece[..size])?;
            offset += size as u64;
        }
        Ok(())
    }
}

/// The hint for a failure of the temporary file.
const SET_TMPDIR: &str = "Set TMPDIR to a directory with enough free space: one bit for each page frame.";

fn temporary_failed(error: std::io::Error) -> Error {
    Error::failure("cannot access the temporary file for the 2nd bitmap").because(error).with_hint(SET_TMPDIR)
}

/// Iterates over the frames of the 2nd bitmap, ascending.
struct KeptFrames {
    bitmap: Bitmap2,
    /// Bytes of the bitmap.
    size: u64,
    /// The current piece of the bitmap.
    piece: Vec<u8>,
    /// Offset of the piece in the bitmap, in bytes.
    piece_at: u64,
    /// Index of the next word in the piece.
    next_word: usize,
    /// The remaining bits of the current word.
    word: u64,
}

impl KeptFrames {
    fn new(bitmap: Bitmap2, max_mapnr: u64) -> Self {
        // Whole words: the bitmap has padding after the last frame, which is zero.
        let size = max_mapnr.div_ceil(64) * 8;
        Self { bitmap, size, piece: Vec::new(), piece_at: 0, next_word: 0, word: 0 }
    }

    /// Appends the next frames to `frames`, until it has [`BATCH`] frames or there are no more.
    fn fill(&mut self, sink: &Sink, frames: &mut Vec<Pfn>) -> Result<()> {
        while frames.len() < BATCH {
            if self.word == 0 && !self.advance(sink)? {
                break;
            }
            if self.word != 0 {
                let first = self.piece_at * 8 + (self.next_word as u64 - 1) * 64;
                frames.push(Pfn::new(first + u64::from(self.word.trailing_zeros())));
                self.word &= self.word - 1;
            }
        }
        Ok(())
    }

    /// Loads the next word. Returns `false` after the last word.
    fn advance(&mut self, sink: &Sink) -> Result<bool> {
        if self.next_word * 8 == self.piece.len() {
            self.piece_at += self.piece.len() as u64;
            let size = (self.size - self.piece_at).min(BITMAP_PIECE as u64) as usize;
            if size == 0 {
                self.piece.clear();
                self.next_word = 0;
                return Ok(false);
            }
            self.piece.resize(size, 0);
            self.bitmap.read_at(sink, self.piece_at, &mut self.piece)?;
            self.next_word = 0;
        }
        let bytes = self.piece[self.next_word * 8..].first_chunk();
        self.word = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.next_word += 1;
        Ok(true)
    }
}

/// The second pass: writes descriptors and data.
struct PageWriter<'a> {
    frames: KeptFrames,
    sink: Sink,
    /// The buffer of descriptors.
    descriptors: Vec<u8>,
    /// Offset of the buffered descriptors in the dump.
    descriptors_at: u64,
    zero_page: PageDesc,
    /// The buffer of page data.
    data: Vec<u8>,
    /// Offset of the buffered page data in the dump.
    data_at: u64,
    report: DumpReport,
    progress: &'a dyn Progress,
}

impl PageWriter<'_> {
    fn flush_descriptors(&mut self) -> Result<()> {
        if !self.descriptors.is_empty() {
            self.sink.write_at(self.descriptors_at, &self.descriptors)?;
            self.descriptors_at += self.descriptors.len() as u64;
            self.descriptors.clear();
        }
        Ok(())
    }

    fn flush_data(&mut self) -> Result<()> {
        if !self.data.is_empty() {
            self.sink.write_at(self.data_at, &self.data)?;
            self.data_at += self.data.len() as u64;
            self.data.clear();
        }
        Ok(())
    }

    /// Appends `bytes` to the page data: to the buffer, or directly to the dump if they are large.
    fn put_data(&mut self, bytes: &[u8]) -> Result<()> {
        if self.data.len() + bytes.len() > DATA_PIECE {
            self.flush_data()?;
        }
        if bytes.len() >= DIRECT_WRITE {
            self.flush_data()?;
            self.sink.write_at(self.data_at, bytes)?;
            self.data_at += bytes.len() as u64;
        } else {
            self.data.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl BatchIo for PageWriter<'_> {
    fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()> {
        self.frames.fill(&self.sink, frames)
    }

    fn take(&mut self, batch: &FrameBatch) -> Result<()> {
        let mut offset = self.data_at + self.data.len() as u64;
        for page in &batch.pages {
            let desc = match *page {
                StoredPage::SharedZero => {
                    self.report.zero += 1;
                    self.zero_page
                }
                StoredPage::Data { size, codec } => {
                    self.report.compressed += u64::from(codec != Codec::Raw);
                    let desc = PageDesc { offset, size, flags: codec.flag() };
                    offset += u64::from(size);
                    desc
                }
            };
            self.descriptors.extend(desc.to_bytes());
        }
        if self.descriptors.len() + BATCH * PageDesc::SIZE > DESC_PIECE {
            self.flush_descriptors()?;
        }
        self.put_data(batch.data())?;
        self.report.unreadable += batch.unreadable.len() as u64;
        self.report.first_unreadable = self.report.first_unreadable.or(batch.unreadable.first().copied());
        self.progress.advance(batch.frames.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
