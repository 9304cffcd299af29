//! `crash_dump_bitmap_info`: the structure that locates and describes a bitmap, in memory and in a file.
//!
//! Version 1 is the structure of the 2013 proposal, byte for byte. Version 2 adds checksums, chunks and the state of
//! the scan, so that a reader can check a bitmap. A bitmap file has the same structure at offset 0, with file offsets
//! instead of physical addresses. `Documentation/reference/bitmap-format.md` is the specification.

mod chunks;
mod codes;
mod error;
mod status;
pub mod v1;
pub mod v2;
mod wire;

pub use error::{Code, Expected, InfoError};
pub use status::ScanStatus;
pub use wire::{Field, StructureLayout};

use wire::array_at;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The structure of the 2013 proposal; see [`v1`].
    V1,
    /// See [`v2`].
    V2,
}

/// Detects the version of the structure at the start of `bytes`. Version 1 starts with its version number, version 2
/// with a magic. A reader of version 1 takes the magic for an unknown version and refuses it.
///
/// # Errors
/// Fails if `bytes` is too short, or if the structure has neither version. If its version is newer than this reader,
/// [`InfoError::is_newer_version`] is true.
pub fn probe(bytes: &[u8]) -> Result<Version, InfoError> {
    if bytes.len() < v1::Info::SIZE {
        let needed = v1::Info::SIZE as u64;
        return Err(InfoError::new("version", Expected::Bytes(needed), bytes.len() as u64));
    }
    if array_at(bytes, 0) == v2::MAGIC {
        return match u32::from_le_bytes(array_at(bytes, v2::VERSION_OFFSET)) {
            v2::VERSION => Ok(Version::V2),
            other => Err(InfoError::new("version", Expected::Version(v2::VERSION), u64::from(other))),
        };
    }
    match u32::from_le_bytes(array_at(bytes, 0)) {
        v1::VERSION => Ok(Version::V1),
        other => Err(InfoError::new(
            "version",
            Expected::Rule("1, or version 2's magic CDBITMAP"),
            u64::from(other),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn each_version_is_told_from_the_others() {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        assert_eq!(probe(&bytes), Ok(Version::V1));
        bytes[..8].copy_from_slice(b"CDBITMAP");
        bytes[8] = 2;
        assert_eq!(probe(&bytes), Ok(Version::V2));
        bytes[8] = 3;
        let error = probe(&bytes).unwrap_err();
        assert!(error.is_newer_version());
        assert_eq!(error.to_string(), "version: expected 2, found 3");
    }

    #[test]
    fn what_is_neither_is_refused_by_name() {
        let mut elf = [0; 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        assert_eq!(
            probe(&elf).unwrap_err().to_string(),
            "version: expected 1, or version 2's magic CDBITMAP, found 1179403647 (0x464c457f)"
        );
        assert!(probe(&elf[..63]).unwrap_err().is_truncated());
    }

    #[test]
    fn the_magic_alone_is_no_version_2() {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(b"CDBITMAP");
        assert_eq!(probe(&bytes).unwrap_err().expected, Expected::Version(2));
        bytes[8] = 2;
        bytes[7] = b'Q';
        assert!(matches!(probe(&bytes).unwrap_err().expected, Expected::Rule(_)));
        bytes[..8].copy_from_slice(&[1, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!(probe(&bytes), Ok(Version::V1));
    }

    #[test]
    fn every_status_has_a_meaning() {
        assert_eq!(ScanStatus::C_NAMES.len(), 16);
        assert_eq!(ScanStatus::Done.meaning(), ScanStatus::C_NAMES[0].2);
        assert_eq!(ScanStatus::CannotMap.meaning(), ScanStatus::C_NAMES[15].2);
        assert!(ScanStatus::C_NAMES.iter().all(|(_, _, meaning)| !meaning.is_empty()));
    }
}
