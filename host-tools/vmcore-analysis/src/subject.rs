//! The files that [`verify()`](crate::verify()) and [`diff()`](crate::diff()) examine.

use page_filter::bitmap_file::{BitmapReader, FileAsMemory, is_bitmap_file};
use page_filter::machine::Machine;
use scanner_core::{Pfn, PfnRange};
use std::path::Path;
use vmcore::frames::{FrameBitmap, FrameRanges};
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::{Error, Result};

/// An opened file: a bitmap file, a dump, or an image without a 2nd bitmap.
pub enum Subject {
    /// A bitmap file.
    Bitmap(BitmapReader<FileAsMemory>),
    /// A dump: a filtered image.
    Dump(Box<dyn MemoryImage>),
    /// A vmcore, or another unfiltered image.
    Memory(Box<dyn MemoryImage>),
}

impl Subject {
    /// Opens the file at `path` and detects its kind.
    ///
    /// # Errors
    /// Fails if the file is of no known kind, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        if is_bitmap_file(path)? {
            return BitmapReader::open(path).map(Self::Bitmap);
        }
        let image = open(path, &OpenOptions::default())?;
        Ok(if image.facts().filtered.is_some() { Self::Dump(image) } else { Self::Memory(image) })
    }

    /// Opens the file at `path`, which must have a 2nd bitmap.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does, and for an unfiltered image.
    pub fn open_filtered(path: &Path) -> Result<Self> {
        match Self::open(path)? {
            Self::Memory(_) => Err(Error::unusable("has no 2nd bitmap: the image is not filtered")
                .at(path)
                .with_hint("Give a bitmap file or a kdump-compressed dump, and the vmcore with --image.")),
            subject => Ok(subject),
        }
    }

    /// The kind of file, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bitmap(_) => "bitmap file",
            Self::Dump(_) => "dump",
            Self::Memory(_) => "unfiltered image",
        }
    }

    /// One more than the last frame that the file covers.
    pub fn end(&self) -> u64 {
        match self {
            Self::Bitmap(reader) => reader.info().frames().end.as_u64(),
            Self::Dump(image) | Self::Memory(image) => image.facts().max_pfn,
        }
    }

    /// The frames that exist: the 1st bitmap. `None` for a bitmap file.
    pub fn exists(&self) -> Option<&FrameRanges> {
        self.image().map(|image| &image.facts().exists)
    }

    /// The memory image; `None` for a bitmap file.
    pub fn image(&self) -> Option<&dyn MemoryImage> {
        match self {
            Self::Bitmap(_) => None,
            Self::Dump(image) | Self::Memory(image) => Some(&**image),
        }
    }

    /// The reason why the file is of another machine or another boot than `machine`; `None` if there is no such reason.
    pub fn differs_from_machine(&self, machine: &Machine<'_>) -> Option<String> {
        match self {
            // One line omits the error's hint, which is about writing dumps.
            Self::Bitmap(reader) => reader.check_machine(machine).err().map(|error| error.in_one_line()),
            Self::Dump(image) | Self::Memory(image) => differing_line(&**image, machine.image)
                .map(|(own, other)| format!("VMCOREINFO has {own} in the dump, {other} in the image")),
        }
    }

    /// The 2nd bitmap for frames `0..frames`. For an unfiltered image, the frames that have data.
    ///
    /// Frames outside a bitmap file count as kept. Frames outside a dump count as excluded.
    ///
    /// # Errors
    /// Fails if the bitmap cannot be read.
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
                // The dump may have bits after the last frame. They must be clear.
                let mut all = FrameBitmap::ones(frames);
                all.intersect(&kept);
                Ok(all)
            }
        }
    }
}

/// The first key of VMCOREINFO whose lines differ between `a` and `b`: both lines. Images of the same crash have the
/// same lines.
///
/// `None` if all common keys agree, or if an image has no VMCOREINFO.
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
