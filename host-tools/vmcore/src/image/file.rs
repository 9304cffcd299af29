//! Access to the bytes of an image file: mapped, through windows, or with `pread`.

use super::windows::{Backing, BorrowedWindow, Windows};
use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How a file is accessed. A file in `/proc` is always accessed through [`Windows`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The whole file is mapped. Fastest for random access, but every accessed page counts as memory of this process.
    #[default]
    Whole,
    /// The file is accessed through [`Windows`], or with `pread` if it consists mostly of holes. Memory use does not
    /// depend on the file's size. As fast as [`Whole`](Self::Whole) if the accesses are large.
    Pieces,
    /// Any file is accessed through [`Windows`], as `/proc/vmcore` is.
    Windows,
}

/// A file that is read at any offset. It is never written.
///
/// Usually the whole file is mapped: no data are copied, and a scan is fastest. There are two exceptions:
///
/// - `/proc/vmcore`, and files that must take little memory, are accessed through [`Windows`]. Reading `/proc/vmcore`
///   is slow, and a mapping of all of it takes too much memory for page tables.
/// - Files that cannot be mapped (on some network file systems) and files that consist mostly of holes are read with
///   `pread`. For a mapped hole the kernel allocates page cache pages, with read-ahead.
///
/// **Hazard:** if another process truncates the file while it is mapped, an access after the new end terminates this
/// process with SIGBUS. Only a signal handler could turn that into an error. Do not open a vmcore that is still being
/// written. [`PlainFile::open_unmapped`] avoids the hazard.
#[derive(Debug)]
pub enum PlainFile {
    /// The whole file, mapped read-only.
    Mapped(Mmap),
    /// A file with a few mapped windows.
    Windowed(Box<Windows>),
    /// An open file that is read with `pread`, and its size in bytes.
    Unmapped(File, u64),
    /// Contents in memory, without a file.
    InMemory(Vec<u8>),
}

/// Bytes of an image that are borrowed without a copy.
#[derive(Debug)]
pub enum Borrowed<'a> {
    /// Bytes that are valid as long as the image.
    InPlace(&'a [u8]),
    /// Bytes of a window, which stays mapped as long as this value exists.
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
    /// Opens `path` with the given `access`.
    ///
    /// # Errors
    /// If the file cannot be opened, or is not seekable.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let (file, size) = open(path)?;
        if is_on_proc(&file) || access == Access::Windows {
            return Ok(Self::Windowed(Box::new(Windows::new(file, size, Backing::Memory))));
        }
        if access == Access::Pieces {
            return Ok(if is_mostly_holes(&file) {
                Self::Unmapped(file, size)
            } else {
                Self::Windowed(Box::new(Windows::new(file, size, Backing::Disk)))
            });
        }
        // SAFETY: `Mmap::map` requires that no process modifies or truncates the file while it is mapped. This code
        // cannot enforce that; it relies on the user, as the type's documentation says. The mapping is read-only and
        // owned by `self`, so this process does not write the bytes, and no slice of them outlives the mapping. If
        // another process breaks the requirement by a write, a `&[u8]` changes its contents, which Rust does not
        // define. In practice every value of a `u8` is valid, and readers copy a number before they check and use it.
        // A truncation raises SIGBUS.
        match unsafe { Mmap::map(&file) } {
            Ok(map) if map.len() as u64 == size => Ok(Self::Mapped(map)),
            _ => Ok(Self::Unmapped(file, size)),
        }
    }

    /// Opens `path` for reads with `pread`, without a mapping.
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

    /// All bytes of the file, if they are in memory or mapped as a whole.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped(map) => Some(map),
            Self::Windowed(_) | Self::Unmapped(..) => None,
            Self::InMemory(bytes) => Some(bytes),
        }
    }

    /// The `len` bytes at `offset`, if the file has them and they are in memory or mapped as a whole.
    pub fn view(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.as_slice()?.get(usize::try_from(offset).ok()?..)?.get(..len)
    }

    /// Borrows the bytes at `offset` without a copy: `len` bytes, or those of them that are in the first window.
    ///
    /// Unlike [`view`](Self::view), this also works for [`Windowed`](Self::Windowed) files. `None` if the bytes must be
    /// read.
    pub fn borrow_bytes(&self, offset: u64, len: usize) -> Option<Borrowed<'_>> {
        match self {
            Self::Windowed(windows) => windows.borrow_bytes(offset, len).map(Borrowed::Window),
            _ => self.view(offset, len).map(Borrowed::InPlace),
        }
    }

    /// Whether `offset` is in a hole of the file, which reads as zeros, and the end offset of that hole or data.
    ///
    /// Returns `(false, u64::MAX)` if this is not known. Only windowed files on a disk and unmapped files are checked,
    /// to save reads of holes.
    pub fn hole_at(&self, offset: u64) -> (bool, u64) {
        let (file, size) = match self {
            Self::Unmapped(file, size) => (file, *size),
            Self::Windowed(windows) if windows.backing() == Backing::Disk => (windows.file(), windows.size()),
            _ => return (false, u64::MAX),
        };
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (true, data.min(size)),
            Ok(_) => (false, rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset)).unwrap_or(u64::MAX)),
            // The file has no data after `offset`.
            Err(rustix::io::Errno::NXIO) if offset < size => (true, size),
            // A block device, or a file system without SEEK_DATA.
            Err(_) => (false, u64::MAX),
        }
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// If the file ends before the last byte, or cannot be read.
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

/// Reads a small file.
///
/// # Errors
/// If the file cannot be read, or has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |e| Error::unusable("cannot be read").at(path).because(e);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::unusable(format!("is larger than {limit} bytes"))
            .at(path)
            .with_hint("Check that this is the right file."));
    }
    Ok(bytes)
}

/// Whether `file` is on procfs, as `/proc/vmcore` is.
fn is_on_proc(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// The hint for a file that is not seekable.
const NO_PIPE: &str = "Copy it to a regular file first: an image needs random access.";

/// Whether less than 1/16 of `file` is allocated on the disk.
fn is_mostly_holes(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.blocks() * 512 < meta.size() / 16)
}

/// Opens `path` and determines its size in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    let mut file = File::open(path).map_err(|e| Error::unusable("cannot be opened").at(path).because(e))?;
    // The metadata of a block device do not have its size; a seek returns it.
    let size = file.seek(SeekFrom::End(0)).map_err(|e| {
        Error::unusable("is not seekable (perhaps a pipe)").at(path).because(e).with_hint(NO_PIPE)
    })?;
    Ok((file, size))
}
