//! Files that appear whole or not at all.

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
/// A regular file is written aside, in the same directory as `.NAME.XXXXXX.partial` with mode 0600, and gets its
/// name in [`finish`](Self::finish). Whatever happens before (an error, a panic) removes it and leaves the target
/// as it was. Devices, pipes and `-` (standard output) are written directly.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    kind: Kind,
    /// Whether bytes can be written at any place.
    seekable: bool,
    /// Where [`append`](Self::append) goes on.
    end: u64,
    written: u64,
    /// Bytes after which the disk is full, for tests.
    #[cfg(test)]
    room: u64,
}

#[derive(Debug)]
enum Kind {
    /// Written aside; `force` says that it may replace a file.
    Aside { file: NamedTempFile, force: bool },
    /// Written directly; `readable` says that what was written can be read back.
    Direct { file: File, readable: bool },
}

/// Whether `target` stands for standard output.
pub fn is_stdout(target: &Path) -> bool {
    target == Path::new("-")
}

impl OutputFile {
    /// Begins to write `target`; `-` is standard output.
    ///
    /// # Errors
    /// If `target` is a file that exists and `force` is not set, if it is a directory or a terminal's standard output, or
    /// if it can't be created.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        if is_stdout(target) {
            if io::stdout().is_terminal() {
                return Err(Error::unusable("standard output is a terminal")
                    .at(target)
                    .with_hint("Send it to a file or through a pipe."));
            }
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let file = stdout.map_err(|e| Error::io(target, "standard output can't be written", e))?;
            // Even if it is a file, others may write there too: it counts as a pipe.
            return Ok(Self::new(target, Kind::Direct { file: file.into(), readable: false }, false));
        }
        match std::fs::metadata(target) {
            Ok(meta) if meta.is_dir() => {
                Err(Error::unusable("is a directory").at(target).with_hint("Give the name of a file in it."))
            }
            Ok(meta) if !meta.is_file() => {
                let readable = meta.file_type().is_block_device();
                let file = OpenOptions::new().read(readable).write(true).open(target);
                let file = file.map_err(|e| Error::io(target, "can't be written", e))?;
                let seekable = rustix::fs::tell(&file).is_ok();
                Ok(Self::new(target, Kind::Direct { file, readable }, seekable))
            }
            Ok(_) if !force => Err(exists(target)),
            // A link that leads nowhere would otherwise show only when the finished file gets its name.
            Err(_) if !force && target.is_symlink() => Err(exists(target)),
            _ => {
                let name = target.file_name().ok_or_else(|| Error::unusable("is no file name").at(target))?;
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
                    .map_err(|e| Error::io(target, "can't be created", e))?;
                Ok(Self::new(target, Kind::Aside { file, force }, true))
            }
        }
    }

    /// The same, but never in place of one of the `inputs`, not even with `force`: a slip of the pen must not cost
    /// the only copy of a vmcore.
    ///
    /// # Errors
    /// If `target` is the same file as one of the `inputs`; and as [`create`](Self::create).
    pub fn create_beside(target: &Path, force: bool, inputs: &[&Path]) -> Result<Self> {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let own = identity(target);
        if own.is_some() && inputs.iter().any(|input| identity(input) == own) && !is_stdout(target) {
            return Err(Error::unusable("is an input of this very command, and would be lost")
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
            room: u64::MAX,
        }
    }

    /// The same, on a disk that has room for so many bytes.
    #[cfg(test)]
    pub(crate) fn with_room(self, room: u64) -> Self {
        Self { room, ..self }
    }

    /// The path that it will have.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Whether [`write_at`](Self::write_at) works; a pipe only takes [`append`](Self::append).
    pub fn can_seek(&self) -> bool {
        self.seekable
    }

    /// Whether [`read_at`](Self::read_at) works.
    pub fn can_read_back(&self) -> bool {
        match self.kind {
            Kind::Aside { .. } => true,
            Kind::Direct { readable, .. } => readable,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes `bytes` behind the last ones that were appended.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.seekable {
            self.write_at(self.end, bytes)?;
        } else {
            let result = self.file().write_all(bytes);
            self.count(bytes, result)?;
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// If the disk is full, or fails, or is a pipe.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let result = self.file().write_all_at(bytes, offset);
        self.count(bytes, result)
    }

    /// Reads back what was written at `offset`.
    ///
    /// # Errors
    /// If the disk fails, or nothing was written there.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file()
            .read_exact_at(bytes, offset)
            .map_err(|e| Error::io(&self.target, "reading back failed", e))
    }

    /// Brings everything to the disk and gives the file its name.
    ///
    /// # Errors
    /// If the disk fails, or if another file got the name in the meantime.
    pub fn finish(self) -> Result<()> {
        let flushed = match self.file().sync_all() {
            // Pipes and some devices have nothing that could be flushed.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            result => result,
        };
        flushed.map_err(|e| self.failed(e))?;
        let Self { target, kind: Kind::Aside { file, force }, .. } = self else { return Ok(()) };
        let persisted = if force { file.persist(&target) } else { file.persist_noclobber(&target) };
        match persisted {
            Ok(_) => Ok(()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&target)),
            Err(e) => Err(Error::io(&target, "the finished file can't get its name", e.error)),
        }
    }

    /// The file, for writers that want more of it than bytes at places: holes.
    pub fn file(&self) -> &File {
        match &self.kind {
            Kind::Aside { file, .. } => file.as_file(),
            Kind::Direct { file, .. } => file,
        }
    }

    fn count(&mut self, bytes: &[u8], result: io::Result<()>) -> Result<()> {
        #[cfg(test)]
        let result = if bytes.len() as u64 > self.room.saturating_sub(self.written) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            result
        };
        result.map_err(|e| self.failed(e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
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

/// For writers that only know [`Write`]; the same as [`OutputFile::append`].
impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says of a directory in which no file can be created why that is so.
fn check_directory(directory: &Path) -> Result<()> {
    // What lies behind a file, not a directory, is not there either.
    let inside = directory.join(".");
    rustix::fs::access(&inside, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        Error::failure(format!("can't be created in {}", directory.display()))
            .because(io::Error::from(error))
            .with_hint("Create that directory, or choose one that can be written.")
    })
}

fn exists(target: &Path) -> Error {
    Error::unusable("exists already")
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
    fn a_file_appears_when_it_is_whole_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dump");
        let mut out = OutputFile::create(&target, false).unwrap();
        out.append(b"abc").unwrap();
        out.write_at(6, b"ghi").unwrap();
        out.append(b"def").unwrap();
        let aside = names(directory.path());
        assert!(aside[0].starts_with(".dump.") && aside[0].ends_with(".partial"), "{aside:?}");
        out.finish().unwrap();
        assert_eq!(names(directory.path()), ["dump"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"abcdefghi");
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_left_behind_without_finish() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dump");
        drop(OutputFile::create(&target, false).unwrap());
        let panicked = std::panic::catch_unwind(|| {
            let _out = OutputFile::create(&target, false).unwrap();
            panic!("on purpose");
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
        // It came while we wrote: still not replaced.
        assert!(early.finish().unwrap_err().report().contains("--force"));
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let mut forced = OutputFile::create(&target, true).unwrap();
        forced.append(b"new").unwrap();
        forced.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["dump"]);
    }

    #[test]
    fn devices_are_written_directly_and_a_full_one_is_explained() {
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
