//! Output files that appear complete or not at all.

use crate::{Error, Result};
use rustix::fs::Access;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that is being written.
///
/// The data of a regular file go to the temporary file `.NAME.XXXXXX.partial` in the same directory, with mode 0600.
/// [`finish`](Self::finish) renames it. An error or a panic before that removes it and leaves the target unchanged.
/// Devices, pipes and `-` (standard output) are written directly.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    kind: Kind,
    /// Whether bytes can be written at any offset.
    seekable: bool,
    /// The offset of the next [`append`](Self::append).
    end: u64,
    written: u64,
    /// Bytes after which writes fail as on a full disk, for tests.
    #[cfg(test)]
    disk_space: u64,
}

#[derive(Debug)]
enum Kind {
    /// A temporary file that `finish` renames. With `force` it may replace a file.
    Temporary { file: NamedTempFile, force: bool },
    /// A target that is written directly. If `readable`, the written data can be read back.
    Direct { file: File, readable: bool },
}

/// Whether `target` is `-`, the name of standard output.
pub fn is_stdout(target: &Path) -> bool {
    target == Path::new("-")
}

impl OutputFile {
    /// Opens `target` for writing; `-` is standard output.
    ///
    /// # Errors
    /// If `target` is an existing file and `force` is not set, if it is a directory, if it is standard output and that
    /// is a terminal, or if it cannot be created.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        if is_stdout(target) {
            if io::stdout().is_terminal() {
                return Err(Error::unusable("standard output is a terminal")
                    .at(target)
                    .with_hint("Redirect it to a file or a pipe."));
            }
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let file = stdout.map_err(|e| Error::io(target, "cannot duplicate standard output", e))?;
            // Standard output counts as a pipe even if it is a file: other processes may write to it too.
            return Ok(Self::new(target, Kind::Direct { file: file.into(), readable: false }, false));
        }
        match std::fs::metadata(target) {
            Ok(meta) if meta.is_dir() => {
                Err(Error::unusable("is a directory").at(target).with_hint("Give the name of a file in it."))
            }
            Ok(meta) if !meta.is_file() => {
                let readable = meta.file_type().is_block_device();
                let file = OpenOptions::new().read(readable).write(true).open(target);
                let file = file.map_err(|e| Error::io(target, "cannot be opened for writing", e))?;
                let seekable = rustix::fs::tell(&file).is_ok();
                Ok(Self::new(target, Kind::Direct { file, readable }, seekable))
            }
            Ok(_) if !force => Err(already_exists(target)),
            // Without this check a dangling symbolic link would fail only in `finish`.
            Err(_) if !force && target.is_symlink() => Err(already_exists(target)),
            _ => {
                let name =
                    target.file_name().ok_or_else(|| Error::unusable("is not a file name").at(target))?;
                let directory = match target.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let mut prefix = std::ffi::OsString::from(".");
                prefix.push(name);
                prefix.push(".");
                check_directory(directory).map_err(|e| e.at(target))?;
                let file = tempfile::Builder::new()
                    .prefix(&prefix)
                    .suffix(".partial")
                    .tempfile_in(directory)
                    .map_err(|e| Error::io(target, "cannot be created", e))?;
                Ok(Self::new(target, Kind::Temporary { file, force }, true))
            }
        }
    }

    /// As [`create`](Self::create), but refuses to replace one of the `inputs`, even with `force`: a typing error must
    /// not destroy the only copy of a vmcore.
    ///
    /// # Errors
    /// If `target` is the same file as one of the `inputs`, and as [`create`](Self::create).
    pub fn create_beside(target: &Path, force: bool, inputs: &[&Path]) -> Result<Self> {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let own = identity(target);
        if own.is_some() && inputs.iter().any(|input| identity(input) == own) && !is_stdout(target) {
            return Err(Error::unusable("is an input of this command and would be overwritten")
                .at(target)
                .with_hint("Choose another name for the output."));
        }
        Self::create(target, force)
    }

    fn new(target: &Path, kind: Kind, seekable: bool) -> Self {
        Self {
            target: target.to_owned(),
            kind,
            seekable,
            end: 0,
            written: 0,
            #[cfg(test)]
            disk_space: u64::MAX,
        }
    }

    /// Makes writes fail as on a full disk after `disk_space` bytes.
    #[cfg(test)]
    pub(crate) fn with_disk_space(self, disk_space: u64) -> Self {
        Self { disk_space, ..self }
    }

    /// The path of the target.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Whether [`write_at`](Self::write_at) works. A pipe supports only [`append`](Self::append).
    pub fn can_seek(&self) -> bool {
        self.seekable
    }

    /// Whether [`read_at`](Self::read_at) works.
    pub fn can_read_back(&self) -> bool {
        match self.kind {
            Kind::Temporary { .. } => true,
            Kind::Direct { readable, .. } => readable,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes `bytes` after the bytes of the previous `append`.
    ///
    /// # Errors
    /// If the disk is full, or the write fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.seekable {
            self.write_at(self.end, bytes)?;
        } else {
            let result = self.file().write_all(bytes);
            self.check_write(bytes, result)?;
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// If the disk is full, the write fails, or the target is a pipe.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let result = self.file().write_all_at(bytes, offset);
        self.check_write(bytes, result)
    }

    /// Reads back the data that were written at `offset`.
    ///
    /// # Errors
    /// If the read fails, or the file is too short.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file()
            .read_exact_at(bytes, offset)
            .map_err(|e| Error::io(&self.target, "reading back failed", e))
    }

    /// Flushes all data to the disk and renames the temporary file to the target.
    ///
    /// # Errors
    /// If the flush fails, or if another process created the target meanwhile.
    pub fn finish(self) -> Result<()> {
        let flushed = match self.file().sync_all() {
            // Pipes and some devices do not support fsync.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            result => result,
        };
        flushed.map_err(|e| self.write_error(e))?;
        let Self { target, kind: Kind::Temporary { file, force }, .. } = self else { return Ok(()) };
        let persisted = if force { file.persist(&target) } else { file.persist_noclobber(&target) };
        match persisted {
            Ok(_) => Ok(()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(already_exists(&target)),
            Err(e) => Err(Error::io(&target, "cannot rename the temporary file", e.error)),
        }
    }

    /// The file, for operations that this type does not have, such as writing a sparse file.
    pub fn file(&self) -> &File {
        match &self.kind {
            Kind::Temporary { file, .. } => file.as_file(),
            Kind::Direct { file, .. } => file,
        }
    }

    /// Counts the written `bytes`, or returns the error of the write.
    fn check_write(&mut self, bytes: &[u8], result: io::Result<()>) -> Result<()> {
        #[cfg(test)]
        let result = if bytes.len() as u64 > self.disk_space.saturating_sub(self.written) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            result
        };
        result.map_err(|e| self.write_error(e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn write_error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        let what = format!("writing failed after {} bytes", self.written);
        let failed = Error::io(&self.target, &what, error);
        if full {
            failed.with_hint(
                "Make room, write to another file system, or use a higher dump level or a compressor.",
            )
        } else {
            failed
        }
    }
}

/// [`OutputFile::append`] for code that needs a [`Write`].
impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks that files can be created in `directory`.
fn check_directory(directory: &Path) -> Result<()> {
    // With "/." the check also fails if `directory` is a file.
    let inside = directory.join(".");
    rustix::fs::access(&inside, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        Error::failure(format!("cannot be created in {}", directory.display()))
            .because(io::Error::from(error))
            .with_hint("Create the directory, or choose one that you can write to.")
    })
}

fn already_exists(target: &Path) -> Error {
    Error::unusable("already exists")
        .at(target)
        .with_hint("Remove it, choose another name, or overwrite it with --force.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_complete_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dump");
        let mut out = OutputFile::create(&target, false).unwrap();
        out.append(b"abc").unwrap();
        out.write_at(6, b"ghi").unwrap();
        out.append(b"def").unwrap();
        let temporary = names(directory.path());
        assert!(temporary[0].starts_with(".dump.") && temporary[0].ends_with(".partial"), "{temporary:?}");
        out.finish().unwrap();
        assert_eq!(names(directory.path()), ["dump"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"abcdefghi");
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn no_file_remains_without_finish() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dump");
        drop(OutputFile::create(&target, false).unwrap());
        let panicked = std::panic::catch_unwind(|| {
            let _out = OutputFile::create(&target, false).unwrap();
            panic!("intended");
        });
        assert!(panicked.is_err());
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn an_existing_file_is_replaced_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dump");
        let mut early = OutputFile::create(&target, false).unwrap();
        early.append(b"new").unwrap();
        std::fs::write(&target, "old").unwrap();
        assert!(OutputFile::create(&target, false).unwrap_err().report().contains("--force"));
        // The target was created after `create`: `finish` must not replace it either.
        assert!(early.finish().unwrap_err().report().contains("--force"));
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let mut forced = OutputFile::create(&target, true).unwrap();
        forced.append(b"new").unwrap();
        forced.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["dump"]);
    }

    #[test]
    fn devices_are_written_directly_and_a_full_device_gets_a_hint() {
        let mut null = OutputFile::create(Path::new("/dev/null"), false).unwrap();
        assert!(null.can_seek() && !null.can_read_back());
        null.append(b"gone").unwrap();
        null.finish().unwrap();
        let mut full = OutputFile::create(Path::new("/dev/full"), false).unwrap();
        let error = full.append(b"no room").unwrap_err().report();
        assert!(
            error.starts_with("/dev/full: writing failed after 0 bytes") && error.contains("Make room"),
            "{error}"
        );
        assert!(OutputFile::create(Path::new("/"), true).unwrap_err().report().contains("directory"));
    }
}
