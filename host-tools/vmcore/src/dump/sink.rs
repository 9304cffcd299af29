//! The output of a dump: a file, or a flattened stream.

use crate::format::flattened;
use crate::output::OutputFile;
use crate::{Error, Result};

/// A dump file that is being written.
pub struct Sink {
    out: OutputFile,
    flattened: bool,
}

impl Sink {
    /// Starts a dump to `out`.
    ///
    /// # Errors
    /// If `out` is a pipe and the dump is not `flattened`, or if the write fails.
    pub fn new(mut out: OutputFile, flattened: bool) -> Result<Self> {
        if flattened {
            out.append(&flattened::header())?;
        } else if !out.can_seek() {
            return Err(Error::unusable("only a flattened dump can be written to a pipe")
                .at(out.path())
                .with_hint("Write a flattened dump, or write to a file."));
        }
        Ok(Self { out, flattened })
    }

    /// Writes `bytes` at `offset` of the dump.
    ///
    /// # Errors
    /// If the disk is full, or the write fails.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.flattened {
            self.out.append(&flattened::record_header(offset, bytes.len() as u64))?;
            self.out.append(bytes)
        } else {
            self.out.write_at(offset, bytes)
        }
    }

    /// Whether [`read_at`](Self::read_at) works.
    pub fn can_read_back(&self) -> bool {
        !self.flattened && self.out.can_read_back()
    }

    /// Reads back the data that were written at `offset` of the dump.
    ///
    /// # Errors
    /// If the read fails.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.out.read_at(offset, bytes)
    }

    /// Completes the dump. Returns the number of bytes that were written.
    ///
    /// # Errors
    /// If the disk is full, or the write fails.
    pub fn finish(mut self) -> Result<u64> {
        if self.flattened {
            self.out.append(&flattened::END_RECORD)?;
        }
        let written = self.out.written();
        self.out.finish()?;
        Ok(written)
    }
}
