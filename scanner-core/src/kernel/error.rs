//! Why a kernel's layout cannot be used.

use super::vmcoreinfo::{Key, Radix, VmcoreInfoError};
use core::fmt;

/// Why a kernel's layout cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The text is malformed, or a required key is missing.
    VmcoreInfo(VmcoreInfoError),
    /// The value of a key is out of range.
    OutOfRange {
        /// The key.
        key: Key,
        /// Its value.
        value: u64,
        /// The valid values, in words: the message has them in parentheses.
        expected: &'static str,
    },
    /// All of the alternative keys for something are missing.
    NoneOf {
        /// What the keys describe.
        what: &'static str,
        /// The alternative keys, as text.
        keys: &'static str,
    },
}

impl From<VmcoreInfoError> for LayoutError {
    fn from(error: VmcoreInfoError) -> Self {
        Self::VmcoreInfo(error)
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VmcoreInfo(error) => error.fmt(f),
            Self::OutOfRange { key, value, expected } if key.radix() == Radix::Hex => {
                write!(f, "VMCOREINFO: {}={value:x} is out of range ({expected})", key.text())
            }
            Self::OutOfRange { key, value, expected } => {
                write!(f, "VMCOREINFO: {}={} is out of range ({expected})", key.text(), value.cast_signed())
            }
            Self::NoneOf { what, keys } => {
                write!(f, "VMCOREINFO: cannot locate {what}: no {keys}")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

pub(crate) fn out_of_range(key: Key, value: u64, expected: &'static str) -> LayoutError {
    LayoutError::OutOfRange { key, value, expected }
}
