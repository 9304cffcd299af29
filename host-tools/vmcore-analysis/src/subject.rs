//! What verdicts are about: the 2nd bitmap of a bitmap file or of a dump.

use page_filter::bitmap_file::{BitmapReader, FileAsMemory, is_bitmap_file};
use page_filter::machine::Machine;
use scanner_core::{Pfn, PfnRange};
use std::path::Path;
use vmcore::frames::{FrameBitmap, FrameRanges};
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::{Error, Result};

/// A file with a 2nd bitmap, or memory without one.
pub enum Subject {
    /// A bitmap file.
    Bitmap(BitmapReader<FileAsMemory>),
    /// A dump: an image that was filtered.
    Dump(Box<dyn MemoryImage>),
    /// A vmcore, or another image that was not filtered.
    Memory(Box<dyn MemoryImage>),
}

impl Subject {
    /// Opens `path`, whatever of these it is.
    ///
    /// # Errors
    /// If it is nothing of that, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        if is_bitmap_file(path)? {
            return BitmapReader::open(path).map(Self::Bitmap);
        }
        let image = open(path, &OpenOptions::default())?;
        Ok(if image.facts().filtered.is_some() { Self::Dump(image) } else { Self::Memory(image) })
    }

    /// The same, but not memory without a 2nd bitmap.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and if it is a vmcore.
    pub fn open_filtered(path: &Path) -> Result<Self> {
        match Self::open(path)? {
            Self::Memory(_) => Err(Error::unusable("has no 2nd bitmap: it is memory that was not filtered")
                .at(path)
                .with_hint("Give a bitmap file or a kdump-compressed dump, and the vmcore with --image.")),
            subject => Ok(subject),
        }
    }

    /// What it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bitmap(_) => "bitmap file",
            Self::Dump(_) => "dump",
            Self::Memory(_) => "unfiltered image",
        }
    }

    /// One more than the last frame that it says something about.
    pub fn end(&self) -> u64 {
        match self {
            Self::Bitmap(reader) => reader.info().frames().end.as_u64(),
            Self::Dump(image) | Self::Memory(image) => image.facts().max_pfn,
        }
    }

    /// The 1st bitmap, if it has one.
    pub fn exists(&self) -> Option<&FrameRanges> {
        self.image().map(|image| &image.facts().exists)
    }

    /// Its memory, if it has some.
    pub fn image(&self) -> Option<&dyn MemoryImage> {
        match self {
            Self::Bitmap(_) => None,
            Self::Dump(image) | Self::Memory(image) => Some(&**image),
        }
    }

    /// What tells that it is not of `machine`, or of another boot; `None` if nothing does.
    pub fn differs_from_machine(&self, machine: &Machine<'_>) -> Option<String> {
        match self {
            // Without its hint, which is about making dumps.
            Self::Bitmap(reader) => reader.check_machine(machine).err().map(|error| error.in_one_line()),
            Self::Dump(image) | Self::Memory(image) => differing_line(&**image, machine.image)
                .map(|(own, other)| format!("VMCOREINFO has {own} in the dump, {other} in the image")),
        }
    }

    /// The 2nd bitmap for frames `0..frames`. Frames that a bitmap file has no bit for are kept; those that a dump
    /// has none for are not in it. For memory that was not filtered: the frames that have data.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn kept(&self, frames: u64) -> Result<FrameBitmap> {
        match self {
            Self::Bitmap(reader) => {
                let mut kept = FrameBitmap::ones(frames);
                let all = PfnRange::new(Pfn::new(0), Pfn::new(frames));
                reader.clear_excluded(all, kept.words_mut())?;
                Ok(kept)
            }
            Self::Dump(image) | Self::Memory(image) => {
                let facts = image.facts();
                let Some(filtered) = &facts.filtered else {
                    return Ok(FrameBitmap::from_ranges(&facts.backed, frames));
                };
                let mut kept = FrameBitmap::new(frames);
                for (word, from) in kept.words_mut().iter_mut().zip(filtered.kept.words()) {
                    *word = *from;
                }
                // Bits behind the last frame must stay clear.
                let mut all = FrameBitmap::ones(frames);
                all.intersect(&kept);
                Ok(all)
            }
        }
    }
}

/// The first line of VMCOREINFO that two images of the same crash would have alike and that these don't: both lines.
/// `None` if they agree, or one has no VMCOREINFO.
pub fn differing_line(a: &dyn MemoryImage, b: &dyn MemoryImage) -> Option<(String, String)> {
    let (a, b) = (lines(a)?, lines(b)?);
    let value = |lines: &[String], key: &str| {
        lines.iter().find(|line| line.split_once('=').is_some_and(|(k, _)| k == key)).cloned()
    };
    a.iter().find_map(|line| {
        let (key, _) = line.split_once('=')?;
        let other = value(&b, key)?;
        (other != *line).then(|| (line.clone(), other))
    })
}

fn lines(image: &dyn MemoryImage) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(image.facts().vmcoreinfo.as_deref()?).into_owned();
    Some(text.split('\0').next().unwrap_or_default().lines().map(str::to_owned).collect())
}
