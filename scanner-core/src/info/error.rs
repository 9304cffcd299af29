//! Errors of an invalid `crash_dump_bitmap_info`.

use crate::addr::Pfn;
use core::fmt;

/// The first address after the largest physical address of x86_64.
pub(super) const ADDRESS_END: u64 = Pfn::END.addr().as_u64();

/// A field of `crash_dump_bitmap_info` whose value is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoError {
    /// The field's name, as in the table of fields.
    pub field: &'static str,
    /// The index of the chunk whose entry contains the field; `None` for a field of the header.
    pub chunk: Option<u32>,
    /// The valid values.
    pub expected: Expected,
    /// The actual value.
    pub found: u64,
}

/// The valid values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This number.
    Exactly(u64),
    /// This version of the format.
    Version(u32),
    /// A number in this inclusive range.
    Between(u64, u64),
    /// A multiple of this number.
    MultipleOf(u64),
    /// One of these numbers.
    OneOf(&'static [Code]),
    /// At least this many bytes of input.
    Bytes(u64),
    /// A rule in words.
    Rule(&'static str),
}

/// A choice of a field with fixed choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number in the field.
    pub value: u32,
    /// Its name in reports. The C name is the field's prefix, followed by this name in upper case.
    pub name: &'static str,
    /// Its meaning, in words.
    pub meaning: &'static str,
}

/// An [`InfoError`] without the name of the field.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvalidValue {
    pub expected: Expected,
    pub found: u64,
}

impl InvalidValue {
    pub(super) fn in_field(self, field: &'static str) -> InfoError {
        InfoError::new(field, self.expected, self.found)
    }
}

impl InfoError {
    pub(super) const fn new(field: &'static str, expected: Expected, found: u64) -> Self {
        Self { field, chunk: None, expected, found }
    }

    pub(super) const fn in_chunk(self, index: u32) -> Self {
        Self { chunk: Some(index), ..self }
    }

    /// Whether the version of the structure is newer than this reader.
    pub const fn is_newer_version(&self) -> bool {
        matches!(self.expected, Expected::Version(known) if self.found > known as u64)
    }

    /// Whether the input is too short. With more bytes it may be valid.
    pub const fn is_truncated(&self) -> bool {
        matches!(self.expected, Expected::Bytes(_))
    }
}

/// Fails unless `found` is `expected`.
pub(super) fn exactly(field: &'static str, expected: u64, found: u64) -> Result<(), InfoError> {
    between(field, expected, expected, found)
}

/// Fails unless `found` is from `min` to `max`.
pub(super) fn between(field: &'static str, min: u64, max: u64, found: u64) -> Result<(), InfoError> {
    if min <= found && found <= max {
        return Ok(());
    }
    let expected = if min == max { Expected::Exactly(min) } else { Expected::Between(min, max) };
    Err(InfoError::new(field, expected, found))
}

/// Fails unless `found` is a multiple of `unit`, a power of two.
pub(super) fn multiple_of(field: &'static str, unit: u64, found: u64) -> Result<(), InfoError> {
    if found & unit.wrapping_sub(1) == 0 {
        return Ok(());
    }
    Err(InfoError::new(field, Expected::MultipleOf(unit), found))
}

/// A number in a message: decimal, and from 64 on also hexadecimal.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 64 { write!(f, "{}", self.0) } else { write!(f, "{} ({:#x})", self.0, self.0) }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exactly(value) => Number(value).fmt(f),
            Self::Version(version) => write!(f, "{version}"),
            Self::Between(min, max) => write!(f, "{} to {}", Number(min), Number(max)),
            Self::MultipleOf(unit) => write!(f, "a multiple of {unit}"),
            Self::OneOf(codes) => {
                f.write_str("one of")?;
                for code in codes {
                    write!(f, " {} ({})", code.value, code.name)?;
                }
                Ok(())
            }
            Self::Bytes(count) => write!(f, "at least {count} bytes"),
            Self::Rule(words) => f.write_str(words),
        }
    }
}

impl fmt::Display for InfoError {
    /// `field: expected X, found Y`, with the prefix `chunk N, ` for a field of a chunk's entry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.chunk {
            write!(f, "chunk {index}, ")?;
        }
        write!(f, "{}: expected {}, found {}", self.field, self.expected, Number(self.found))
    }
}

impl core::error::Error for InfoError {}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
