//! Reading a bitmap in constant memory, from a file or from the memory of a crashed machine.

use super::info::Info;
use scanner_core::crc32c::Crc32c;
use scanner_core::info::v2::ChunkEntry;
use scanner_core::info::{InfoError, Version, probe, v1, v2};
use scanner_core::{Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use std::path::{Path, PathBuf};
use vmcore::filter::FrameFilter;
use vmcore::image::file::PlainFile;
use vmcore::{Error, Result};

/// Bytes of bitmap that are looked at in one go.
const WINDOW_BYTES: usize = 64 << 10;

/// Bytes that are a file's content.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl PhysicalMemory for Bytes<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let found = self.view(addr, buf.len()).ok_or(Unreadable { addr })?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.0.get(usize::try_from(addr.as_u64()).ok()?..)?.get(..len)
    }
}

/// A file as memory: addresses are file offsets.
#[derive(Debug)]
pub struct FileAsMemory(PlainFile);

impl PhysicalMemory for FileAsMemory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read(addr.as_u64(), buf).map_err(|_| Unreadable { addr })
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.0.view(addr.as_u64(), len)
    }
}

/// A bitmap whose structure and chunk table have been checked, and whose bits are read when they are asked for.
#[derive(Debug)]
pub struct BitmapReader<M> {
    memory: M,
    path: Option<PathBuf>,
    info: Info,
    /// The pieces of the bitmap in order; version 1 has one.
    chunks: Vec<(PfnRange, ChunkEntry)>,
}

/// What a look at every bit of a bitmap showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Frames whose bit is set.
    pub kept: u64,
    /// Chunks that have the checksum that the table gives.
    pub sealed: u32,
    /// Chunks without a checksum.
    pub unsealed: u32,
    /// Chunks that have another one.
    pub damaged: Vec<DamagedChunk>,
}

/// A chunk whose bytes don't have the checksum that the table gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its number in the table.
    pub index: u32,
    /// The frames that it stands for.
    pub frames: PfnRange,
    /// The checksum in the table.
    pub expected: u32,
    /// That of the bytes.
    pub found: u32,
}

impl Survey {
    /// Refuses a bitmap with a damaged chunk.
    ///
    /// # Errors
    /// Names the first damaged chunk.
    pub fn intact(&self) -> Result<()> {
        let Some(chunk) = self.damaged.first() else { return Ok(()) };
        Err(Error::unusable(format!(
            "chunk {} of the bitmap (page frames {}): crc32c: expected {:#010x}, found {:#010x}; {} of {} chunks are damaged",
            chunk.index,
            chunk.frames,
            chunk.expected,
            chunk.found,
            self.damaged.len(),
            self.damaged.len() + self.sealed as usize + self.unsealed as usize,
        ))
        .with_hint("The bitmap can't be trusted. Scan the memory itself instead."))
    }
}

impl BitmapReader<FileAsMemory> {
    /// Opens the bitmap file `path`, and checks its structure, chunk table, and that it holds all chunks.
    ///
    /// # Errors
    /// If it can't be read, or is not a valid bitmap file.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::unusable("is a directory")
                .at(path)
                .with_hint("Give the bitmap file inside it."));
        }
        let file = PlainFile::open_unmapped(path)?;
        let size = file.size();
        let mut reader =
            Self::in_memory(FileAsMemory(file), PhysAddr::new(0)).map_err(|error| error.at(path))?;
        reader.check_extent(size).map_err(|error| error.at(path))?;
        reader.path = Some(path.to_owned());
        Ok(reader)
    }
}

impl<'a> BitmapReader<Bytes<'a>> {
    /// The same for the bytes of a file.
    ///
    /// # Errors
    /// If they are not a valid bitmap file.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        let reader = Self::in_memory(Bytes(bytes), PhysAddr::new(0))?;
        reader.check_extent(bytes.len() as u64)?;
        Ok(reader)
    }
}

impl<M: PhysicalMemory> BitmapReader<M> {
    /// The bitmap whose structure is at `at` in `memory`, as `SYMBOL(crash_dump_bitmap_info)` gives it.
    ///
    /// # Errors
    /// If there is no valid structure, or one that says that there is no bitmap.
    pub fn in_memory(memory: M, at: PhysAddr) -> Result<Self> {
        let (info, chunks) = match probe(&read_start(&memory, at, v1::Info::SIZE)?).map_err(invalid)? {
            Version::V1 => read_v1(&memory, at)?,
            Version::V2 => read_v2(&memory, at)?,
        };
        Ok(Self { memory, path: None, info, chunks })
    }

    /// The structure that describes the bitmap.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The chunks with the frames that each stands for; version 1 has one, never sealed.
    pub fn chunks(&self) -> &[(PfnRange, ChunkEntry)] {
        &self.chunks
    }

    /// Looks at every bit: counts them, and compares the checksums.
    ///
    /// # Errors
    /// If a chunk can't be read. A wrong checksum is none; see [`Survey::intact`].
    pub fn survey(&self) -> Result<Survey> {
        let mut survey = Survey::default();
        for (index, (frames, chunk)) in (0..).zip(&self.chunks) {
            let mut crc = Crc32c::new();
            self.each_window(*frames, *frames, chunk, |window, bytes| {
                crc.update(bytes);
                let kept = words(bytes, window.len()).map(|word| u64::from(word.count_ones()));
                survey.kept += kept.sum::<u64>() - padding(window.len());
            })?;
            let (expected, found) = (chunk.crc32c, crc.finish());
            if !chunk.is_sealed() {
                survey.unsealed += 1;
            } else if expected == found {
                survey.sealed += 1;
            } else {
                survey.damaged.push(DamagedChunk { index, frames: *frames, expected, found });
            }
        }
        Ok(survey)
    }

    /// Clears in `keep` the bits of those frames of `window` that the bitmap excludes; see [`FrameFilter::filter`].
    /// Frames that it has no bit for stay as they are.
    ///
    /// # Errors
    /// If a chunk can't be read.
    pub fn clear_excluded(&self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        let first = self.chunks.partition_point(|(frames, _)| frames.end <= window.start);
        for (frames, chunk) in &self.chunks[first..] {
            if frames.start >= window.end {
                break;
            }
            self.each_window(window.intersection(*frames), *frames, chunk, |part, bytes| {
                let skip = (part.start.frames_since(window.start) / 64) as usize;
                for (word, kept) in keep.iter_mut().skip(skip).zip(words(bytes, part.len())) {
                    *word &= kept;
                }
            })?;
        }
        Ok(())
    }

    /// Hands out the bytes of all chunks in their order, piece by piece.
    pub(super) fn each_piece(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for (frames, chunk) in &self.chunks {
            let mut result = Ok(());
            self.each_window(*frames, *frames, chunk, |_, bytes| {
                if result.is_ok() {
                    result = each(bytes);
                }
            })?;
            result?;
        }
        Ok(())
    }

    /// Hands out the bytes of `part` of the frames of a chunk, piece by piece. Every piece starts at a multiple of
    /// 64 frames from the chunk's first one.
    fn each_window(
        &self,
        part: PfnRange,
        frames: PfnRange,
        chunk: &ChunkEntry,
        mut each: impl FnMut(PfnRange, &[u8]),
    ) -> Result<()> {
        let mut buffer = [0; WINDOW_BYTES];
        let mut start = part.start;
        while start < part.end {
            let window = PfnRange::from_start(start, 8 * WINDOW_BYTES as u64);
            let window = window.intersection(part);
            let bytes = &mut buffer[..window.len().div_ceil(8) as usize];
            let addr = PhysAddr::new(chunk.address + start.frames_since(frames.start) / 8);
            self.memory.read(addr, bytes).map_err(|error| self.lost(frames, error))?;
            each(window, bytes);
            start = window.end;
        }
        Ok(())
    }

    fn lost(&self, frames: PfnRange, error: Unreadable) -> Error {
        let error =
            Error::failure(format!("the bitmap of page frames {frames} can't be read")).because(error);
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }

    /// Refuses a file of `size` bytes that ends before its last chunk, or has the bitmap over its structure.
    fn check_extent(&self, size: u64) -> Result<()> {
        for (index, (_, chunk)) in self.chunks.iter().enumerate() {
            let end = chunk.address + chunk.size;
            if end > size {
                return Err(Error::unusable(format!(
                    "chunk {index} of the bitmap ends at byte {end}, but the file has {size} bytes"
                ))
                .with_hint("The file was cut off. Make it again, or scan the memory itself."));
            }
            if chunk.address < v1::Info::SIZE as u64 {
                let at = chunk.address;
                return Err(Error::unusable(format!(
                    "the bitmap starts at byte {at}, inside the structure that describes it"
                )));
            }
        }
        Ok(())
    }
}

impl<M: PhysicalMemory> FrameFilter for BitmapReader<M> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        self.clear_excluded(window, keep)
    }
}

/// The bits of `frames` frames as words; those behind the last frame are set.
fn words(bytes: &[u8], frames: u64) -> impl Iterator<Item = u64> {
    let mut left = frames;
    bytes.chunks(8).map(move |chunk| {
        let mut raw = [0xff; 8];
        raw[..chunk.len()].copy_from_slice(chunk);
        let behind = if left < 64 { u64::MAX << left } else { 0 };
        left = left.saturating_sub(64);
        u64::from_le_bytes(raw) | behind
    })
}

/// How many bits of the last word are behind the last frame.
fn padding(frames: u64) -> u64 {
    frames.next_multiple_of(64) - frames
}

fn read_v1<M: PhysicalMemory>(memory: &M, at: PhysAddr) -> Result<(Info, Vec<(PfnRange, ChunkEntry)>)> {
    let info = v1::Info::decode(&read_start(memory, at, v1::Info::SIZE)?).map_err(invalid)?;
    if !info.has_bitmap() {
        return Err(Error::unusable("crash_dump_bitmap_info says that there is no bitmap")
            .with_hint("The first kernel didn't make one. Scan the memory itself."));
    }
    let chunk = ChunkEntry::unsealed(info.bitmap, info.bitmap_size);
    Ok((Info::V1(info), vec![(PfnRange::from_start(Pfn::new(0), info.frames()), chunk)]))
}

fn read_v2<M: PhysicalMemory>(memory: &M, at: PhysAddr) -> Result<(Info, Vec<(PfnRange, ChunkEntry)>)> {
    let start = read_start(memory, at, v2::Header::SIZE)?;
    let area = read_start(memory, at, v2::Header::area_size_of(&start).map_err(invalid)?)?;
    let header = v2::Header::decode(&area, at.as_u64()).map_err(invalid)?;
    let table = header.chunks(&area).map_err(invalid)?;
    let chunks = (0..).map_while(|index| table.frames(index)).zip(table.iter()).collect();
    Ok((Info::V2(Box::new(header)), chunks))
}

/// The first `size` bytes of the structure: at most 100 KiB.
fn read_start<M: PhysicalMemory>(memory: &M, at: PhysAddr, size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    memory.read(at, &mut bytes).map_err(|_| {
        Error::unusable(format!("crash_dump_bitmap_info can't be read as a whole: {size} bytes at {at}"))
            .with_hint(
                "The bitmap was cut off, or this is no bitmap. Make it again, or scan the memory itself.",
            )
    })?;
    Ok(bytes)
}

fn invalid(error: InfoError) -> Error {
    let hint = if error.is_newer_version() {
        "The bitmap comes from a newer producer. Use a newer cdbitmap, or scan the memory itself."
    } else {
        "This is no crash dump bitmap, or it is damaged. Scan the memory itself instead."
    };
    Error::unusable("not a valid crash_dump_bitmap_info").because(error).with_hint(hint)
}
