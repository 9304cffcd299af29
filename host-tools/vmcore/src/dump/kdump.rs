//! Writes a kdump-compressed dump, header version 6, as makedumpfile lays it out.
//!
//! Memory is constant, whatever the machine's size. A first pass goes over the frames window by window, asks the
//! filter, and writes the bitmaps to their places in the file; after it the number of pages is known, and with it
//! where their data start. A second pass reads the 2nd bitmap back, piece by piece, and writes descriptors and data.
//! So neither the window's size nor the number of threads changes a byte of the dump.

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

/// How a dump is written.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// The dump level to be recorded; when a dump is filtered again, that dump's level is added. Its bit 1 stores
    /// all zero pages as one; the filter does what the other bits say.
    pub level: u32,
    /// How pages are compressed.
    pub codec: Codec,
    /// Threads that compress; 0 and 1 do it without any further thread.
    pub threads: usize,
    /// Bytes of bitmap that the filter sees at a time (makedumpfile's cyclic buffer); at least 64.
    pub buffer_bytes: u64,
    /// Whether to write a flattened stream.
    pub flattened: bool,
    /// Frames that the bitmaps cover, if fewer than the image's [`max_pfn`](ImageFacts::max_pfn): makedumpfile
    /// stops at the end of the last memory section.
    pub max_mapnr: Option<u64>,
    /// The memory that exists, if it is to be other than what the image says
    /// (`Machine::exists` of the crate `page-filter`).
    pub exists: Option<FrameRanges>,
    /// What the headers say of the machine; by default what the image knows.
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

/// What became of the frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpReport {
    /// Frames that the bitmaps cover.
    pub max_mapnr: u64,
    /// Frames that exist: bits of the 1st bitmap.
    pub existing: u64,
    /// Frames that have data: what the filter was asked about.
    pub dumpable: u64,
    /// Pages in the dump: bits of the 2nd bitmap.
    pub kept: u64,
    /// Pages of them that are the shared zero page.
    pub zero: u64,
    /// Pages of them that are stored compressed.
    pub compressed: u64,
    /// Pages of them that could not be read from the image. They are in the dump as zeros: one bad page must not
    /// cost the dump.
    pub unreadable: u64,
    /// The first of those.
    pub first_unreadable: Option<Pfn>,
    /// Bytes of page data.
    pub data_bytes: u64,
    /// Bytes written, everything included.
    pub written: u64,
}

/// Bytes of bitmap that are written or read back at a time.
const BITMAP_PIECE: usize = 64 << 10;
/// Bytes of descriptors that are written at a time.
const DESC_PIECE: usize = 8192 * PageDesc::SIZE;

/// Bytes of page data that are worth a write of their own: the copy would cost more than the call.
const LARGE: usize = 128 << 10;
/// Bytes of page data that are written at a time otherwise: large writes, whatever the pages compress to.
const DATA_PIECE: usize = 1 << 20;

/// Writes the dump of the frames of `image` that `filter` keeps to `out`.
///
/// # Errors
/// If the filter fails, or the output can't be written; `out` then leaves nothing behind.
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
        return Err(Error::unusable(format!("{max_mapnr} frames are no machine's memory")));
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

/// Writes the 1st bitmap, padding included. Returns how many bits are set.
fn write_bitmap1(exists: &FrameRanges, layout: &FileLayout, sink: &mut Sink) -> Result<u64> {
    let mut existing_frames = 0;
    let mut at = layout.bitmap1;
    // The padding has no frames: windows over all bits, of which those behind the last frame stay clear.
    for window in windows(layout.bitmap_size() * 8, BITMAP_PIECE as u64 * 8) {
        let bitmap = existing(exists, window);
        existing_frames += bitmap.count();
        let bytes = bitmap.to_bytes();
        sink.write_at(at, &bytes)?;
        at += bytes.len() as u64;
    }
    Ok(existing_frames)
}

/// Makes the 2nd bitmap and writes it, padding included.
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
    // Whole blocks, so that what is lost with an unreadable one doesn't depend on the windows.
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
    bitmap2.complete(sink, layout)?;
    progress.finish();
    Ok(bitmap2)
}

/// Where the 2nd bitmap waits for the second pass.
enum Bitmap2 {
    /// At its place in the dump.
    InPlace(u64),
    /// In a file without a name, if the dump can't be read back.
    Beside(File),
}

impl Bitmap2 {
    fn new(sink: &Sink, layout: &FileLayout) -> Result<Self> {
        if sink.can_read_back() {
            return Ok(Self::InPlace(layout.bitmap2));
        }
        tempfile::tempfile().map(Self::Beside).map_err(|e| {
            Error::failure("the temporary file for the 2nd bitmap can't be made")
                .because(e)
                .with_hint("Set TMPDIR to a directory with room for a bit per page frame.")
        })
    }

    fn write_at(&self, sink: &mut Sink, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::InPlace(start) => sink.write_at(start + offset, bytes),
            Self::Beside(file) => file.write_all_at(bytes, offset).map_err(temporary_failed),
        }
    }

    fn read_at(&self, sink: &Sink, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::InPlace(start) => sink.read_at(start + offset, bytes),
            Self::Beside(file) => file.read_exact_at(bytes, offset).map_err(temporary_failed),
        }
    }

    /// Brings the bitmap into the dump, if it is not there yet.
    fn complete(&self, sink: &mut Sink, layout: &FileLayout) -> Result<()> {
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

fn temporary_failed(error: std::io::Error) -> Error {
    Error::failure("the temporary file for the 2nd bitmap failed")
        .because(error)
        .with_hint("Set TMPDIR to a directory with room for a bit per page frame.")
}

/// The frames of the 2nd bitmap, ascending.
struct KeptFrames {
    bitmap: Bitmap2,
    /// Bytes of the bitmap.
    size: u64,
    /// The piece at hand, and where it starts in the bitmap.
    piece: Vec<u8>,
    piece_at: u64,
    /// The next word of the piece, and what is left of the word before.
    next_word: usize,
    word: u64,
}

impl KeptFrames {
    fn new(bitmap: Bitmap2, max_mapnr: u64) -> Self {
        // Whole words: the padding behind the last frame is there, and zero.
        let size = max_mapnr.div_ceil(64) * 8;
        Self { bitmap, size, piece: Vec::new(), piece_at: 0, next_word: 0, word: 0 }
    }

    /// Puts the next frames into `frames`, up to [`BATCH`] of them.
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

    /// Goes to the next word. `false` if there is none.
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

/// The second pass: descriptors and data.
struct PageWriter<'a> {
    frames: KeptFrames,
    sink: Sink,
    /// Descriptors to be written, and where they go.
    descriptors: Vec<u8>,
    descriptors_at: u64,
    zero_page: PageDesc,
    /// Page data to be written, and where they go.
    data: Vec<u8>,
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

    /// Writes `bytes` behind the data so far, or keeps them until there are more.
    fn put_data(&mut self, bytes: &[u8]) -> Result<()> {
        if self.data.len() + bytes.len() > DATA_PIECE {
            self.flush_data()?;
        }
        // What is large already is not copied once more.
        if bytes.len() >= LARGE {
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
