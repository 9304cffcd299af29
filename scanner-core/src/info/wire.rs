//! Declares the structures of the formats. One declaration generates the `repr(C)` struct, its table of fields, and its
//! conversions from and to bytes, so that code, documentation and the C header cannot differ.

use super::error::{Code, Expected, InfoError, InvalidValue};

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, in Rust and in C.
    pub name: &'static str,
    /// Its offset in the structure, in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
    /// Its type in C. An array has the form `uint8_t[8]`.
    pub c_type: &'static str,
    /// Its meaning, in words.
    pub meaning: &'static str,
}

/// A structure of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructureLayout {
    /// Its tag in C.
    pub c_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields, by ascending offset. Bytes between them are padding.
    pub fields: &'static [Field],
}

/// A type of fields: little-endian, of fixed size.
pub(super) trait Wire: Sized {
    /// Reads the value at `offset`. Fails if the bytes are not a valid value.
    fn read(bytes: &[u8], offset: usize) -> Result<Self, InvalidValue>;

    /// Writes the value at `offset`.
    fn write(&self, out: &mut [u8], offset: usize);
}

/// The `N` bytes at `offset`; zeros if they are not inside `bytes`. That never happens for a field: the declarations
/// below assert at compile time that every field lies inside its structure.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}

/// Writes `value` at `offset`; see [`array_at`].
pub(super) fn put_array<const N: usize>(out: &mut [u8], offset: usize, value: [u8; N]) {
    if let Some(place) = out.get_mut(offset..).and_then(|b| b.first_chunk_mut()) {
        *place = value;
    }
}

impl Wire for u32 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, InvalidValue> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, self.to_le_bytes());
    }
}

impl Wire for u64 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, InvalidValue> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, self.to_le_bytes());
    }
}

impl Wire for u8 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, InvalidValue> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, [*self]);
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, InvalidValue> {
        Ok(array_at(bytes, offset))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, *self);
    }
}

/// Reads a field. An error has the field's name.
pub(super) fn read_field<T: Wire>(bytes: &[u8], field: &'static str, offset: usize) -> Result<T, InfoError> {
    T::read(bytes, offset).map_err(|wrong| wrong.in_field(field))
}

/// The error for a number that is not one of `codes`.
pub(super) fn unknown_code(codes: &'static [Code], found: u32) -> InvalidValue {
    InvalidValue { expected: Expected::OneOf(codes), found: u64::from(found) }
}

/// Declares a structure. The doc comment of each field is its meaning in the table of fields.
macro_rules! wire_struct {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident, $c_name:literal, $size:literal bytes {
            $($(#[doc = $meaning:literal])+ $offset:literal => $field:ident: $type:ty, $c_type:literal;)*
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $field: $type,)*
        }

        impl $name {
            /// Size of the structure in bytes.
            pub const SIZE: usize = $size;

            /// The description of the structure: its fields and their offsets.
            pub const LAYOUT: $crate::info::wire::StructureLayout = $crate::info::wire::StructureLayout {
                c_name: $c_name,
                size: $size,
                fields: &[$($crate::info::wire::Field {
                    name: stringify!($field),
                    offset: $offset,
                    size: size_of::<$type>(),
                    c_type: $c_type,
                    meaning: concat!($($meaning),+).trim_ascii(),
                },)*],
            };

            /// The structure in `bytes`. Checks only the fields that have fixed choices.
            pub(super) fn from_bytes(bytes: &[u8; $size]) -> Result<Self, $crate::info::InfoError> {
                Ok(Self {
                    $($field: $crate::info::wire::read_field(bytes, stringify!($field), $offset)?,)*
                })
            }

            /// The structure as bytes. Padding is zero.
            pub(super) fn to_bytes(self) -> [u8; $size] {
                let mut out = [0; $size];
                $($crate::info::wire::Wire::write(&self.$field, &mut out, $offset);)*
                out
            }
        }

        static_assertions::const_assert_eq!(size_of::<$name>(), $size);
        $(static_assertions::const_assert_eq!(core::mem::offset_of!($name, $field), $offset);)*
    };
}

/// Declares the choices of a field: their numbers, their names, and as doc comments their meanings.
macro_rules! wire_codes {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[doc = $meaning:literal])+ $variant:ident = $value:literal, $text:literal;)*
        }
    ) => {
        $(#[$attribute])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $meaning])+ $variant = $value,)*
        }

        impl $name {
            /// The descriptions of all choices, by ascending number.
            pub const CODES: &[$crate::info::error::Code] = &[$($crate::info::error::Code {
                value: $value,
                name: $text,
                meaning: concat!($($meaning),+).trim_ascii(),
            },)*];

            /// The choice with number `code`; `None` if there is none.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number of the choice, as in the field.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// The name of the choice in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::info::wire::Wire for $name {
            fn read(bytes: &[u8], offset: usize) -> Result<Self, $crate::info::error::InvalidValue> {
                let code = u32::from_le_bytes($crate::info::wire::array_at(bytes, offset));
                Self::from_code(code).ok_or($crate::info::wire::unknown_code(Self::CODES, code))
            }

            fn write(&self, out: &mut [u8], offset: usize) {
                $crate::info::wire::put_array(out, offset, self.code().to_le_bytes());
            }
        }
    };
}

pub(super) use {wire_codes, wire_struct};

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
