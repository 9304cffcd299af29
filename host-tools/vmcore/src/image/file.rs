//! The bytes of a file, mapped where that is possible.

use super::windows::{Backing, BorrowedWindow, Windows};
use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How a file is looked at, unless it is of `/proc`: those are seen through [`Windows`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// All of it is mapped: fastest for looks at many places, and what was looked at counts as memory of this process.
    #[default]
    Whole,
    /// It is seen through [`Windows`] too, or read if it is hardly more than holes: little memory, whatever the file's
    /// size, and just as fast if the pieces are large.
    Pieces,
    /// It is seen through [`Windows`] as `/proc/vmcore` is, whatever it is.
    Windows,
}

/// The bytes of a file as they are on disk. They are only read.
///
/// A mapping of the whole file is the rule: nothing is copied, and a scan is fastest. `/proc/vmcore` is seen through
/// [`Windows`] instead: reading it is slow, and mapping all of it takes page tables. So are files of which a job is to
/// take little memory. What can't be mapped (on some network file systems) is read with `pread`, and so are files that
/// are hardly more than holes: the kernel brings in what is around a touched place too, and would make pages of them.
///
/// **Hazard:** if someone cuts the file off while it is mapped, a touch of what is gone ends the process with
/// SIGBUS; there is no way to turn that into an error without a signal handler. A vmcore that is still being
/// written should therefore not be opened. [`PlainFile::open_unmapped`] avoids the hazard.
#[derive(Debug)]
pub enum PlainFile {
    /// The whole file, mapped read-only.
    Mapped(Mmap),
    /// A file of which a few windows are mapped.
    Windowed(Box<Windows>),
    /// An open file, and its size in bytes.
    Unmapped(File, u64),
    /// Contents that are in memory already.
    InMemory(Vec<u8>),
}

/// Bytes of an image in place, which nobody has copied.
#[derive(Debug)]
pub enum Borrowed<'a> {
    /// They are there as long as the image is.
    InPlace(&'a [u8]),
    /// They are in a window.
    Window(BorrowedWindow),
}

impl Deref for Borrowed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Window(bytes) => bytes,
        }
    }
}

impl PlainFile {
    /// Opens `path` as `access` says.
    ///
    /// # Errors
    /// The file can't be opened, or has no size that can be found out.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let (file, size) = open(path)?;
        if is_of_proc(&file) || access == Access::Windows {
            return Ok(Self::Windowed(Box::new(Windows::new(file, size, Backing::Memory))));
        }
        if access == Access::Pieces {
            return Ok(if is_hollow(&file) {
                Self::Unmapped(file, size)
            } else {
                Self::Windowed(Box::new(Windows::new(file, size, Backing::Disk)))
            });
        }
        // SAFETY: The mapping is read-only and private to this value, which hands out its bytes only as long as it
        // lives. That nobody else changes the file meanwhile can't be enforced: other processes' writes show up as
        // changed bytes of type `u8`, for which each value is valid, and every number that is taken from them is
        // copied before it is checked. A file that is cut off ends the process; see the type's documentation.
        match unsafe { Mmap::map(&file) } {
            Ok(map) if map.len() as u64 == size => Ok(Self::Mapped(map)),
            _ => Ok(Self::Unmapped(file, size)),
        }
    }

    /// Opens `path` to be read with `pread`.
    ///
    /// # Errors
    /// As for [`PlainFile::open`].
    pub fn open_unmapped(path: &Path) -> Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self::Unmapped(file, size))
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Mapped(map) => map.len() as u64,
            Self::Windowed(windows) => windows.size(),
            Self::Unmapped(_, size) => *size,
            Self::InMemory(bytes) => bytes.len() as u64,
        }
    }

    /// All bytes in place, unless they have to be read.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped(map) => Some(map),
            Self::Windowed(_) | Self::Unmapped(..) => None,
            Self::InMemory(bytes) => Some(bytes),
        }
    }

    /// The `len` bytes at `offset` in place, if the file has them and they don't have to be read.
    pub fn view(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.as_slice()?.get(usize::try_from(offset).ok()?..)?.get(..len)
    }

    /// As [`view`](Self::view), and of a file that is seen through windows too: as many of the first of these bytes as
    /// one window has, which stays mapped until they are given back.
    pub fn borrow_bytes(&self, offset: u64, len: usize) -> Option<Borrowed<'_>> {
        match self {
            Self::Windowed(windows) => windows.borrow_bytes(offset, len).map(Borrowed::Window),
            _ => self.view(offset, len).map(Borrowed::InPlace),
        }
    }

    /// Whether the bytes from `offset` on are known to be zeros, since the file has a hole there, and up to where that
    /// holds. Only a file that is read or seen through windows knows: that saves the reading.
    pub fn hole_at(&self, offset: u64) -> (bool, u64) {
        let (file, size) = match self {
            Self::Unmapped(file, size) => (file, *size),
            Self::Windowed(windows) if windows.backing() == Backing::Disk => (windows.file(), windows.size()),
            _ => return (false, u64::MAX),
        };
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (true, data.min(size)),
            Ok(_) => (false, rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset)).unwrap_or(u64::MAX)),
            // There are no data behind.
            Err(rustix::io::Errno::NXIO) if offset < size => (true, size),
            // A block device, or a file system that does not know.
            Err(_) => (false, u64::MAX),
        }
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// The file ends before, or can't be read.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Windowed(windows) => windows.read(offset, buf),
            Self::Unmapped(file, _) => file.read_exact_at(buf, offset),
            Self::Mapped(_) | Self::InMemory(_) => {
                buf.copy_from_slice(self.view(offset, buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// The contents of a small file.
///
/// # Errors
/// The file can't be read, or has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |e| Error::unusable("can't be read").at(path).because(e);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(
            Error::unusable(format!("has more than {limit} bytes: this can't be the right file")).at(path)
        );
    }
    Ok(bytes)
}

/// Whether `file` is one of `/proc`, as `/proc/vmcore` is.
fn is_of_proc(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// What to do about a file without a size.
const NO_PIPE: &str = "Copy it to a file first: it is read in no particular order.";

/// Whether less than a sixteenth of `file` is on its disk.
fn is_hollow(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.blocks() * 512 < meta.size() / 16)
}

/// Opens `path` and finds out its size in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    let mut file = File::open(path).map_err(|e| Error::unusable("can't be opened").at(path).because(e))?;
    // A block device has no size in its metadata, but it can be sought.
    let size = file.seek(SeekFrom::End(0)).map_err(|e| {
        Error::unusable("has no size, as a pipe has none").at(path).because(e).with_hint(NO_PIPE)
    })?;
    Ok((file, size))
}
