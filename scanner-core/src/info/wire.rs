//! Structures of the formats as data: one declaration gives the `repr(C)` struct, its table of fields, and its
//! way from and to bytes, so that code, documentation and the C header can't differ.

use super::error::{Code, Expected, InfoError, Wrong};

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, in Rust and in C.
    pub name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Its type in C; an array as `uint8_t[8]`.
    pub c_type: &'static str,
    /// What it means, in words.
    pub meaning: &'static str,
}

/// A structure of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructureLayout {
    /// Its tag in C.
    pub c_name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Its fields, ascending; bytes between them are padding.
    pub fields: &'static [Field],
}

/// A type that can be a field: little-endian, of fixed size.
pub(super) trait Wire: Sized {
    /// The value at `offset`, or why there is none.
    fn read(bytes: &[u8], offset: usize) -> Result<Self, Wrong>;

    /// Puts the value at `offset`.
    fn write(&self, out: &mut [u8], offset: usize);
}

/// The `N` bytes at `offset`. The declarations below assert at compile time that every field lies inside its
/// structure, so the zeros for one that doesn't are never seen.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}

/// Puts `value` at `offset`; see [`array_at`].
pub(super) fn put_array<const N: usize>(out: &mut [u8], offset: usize, value: [u8; N]) {
    if let Some(place) = out.get_mut(offset..).and_then(|b| b.first_chunk_mut()) {
        *place = value;
    }
}

impl Wire for u32 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, Wrong> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, self.to_le_bytes());
    }
}

impl Wire for u64 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, Wrong> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, self.to_le_bytes());
    }
}

impl Wire for u8 {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, Wrong> {
        Ok(Self::from_le_bytes(array_at(bytes, offset)))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, [*self]);
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn read(bytes: &[u8], offset: usize) -> Result<Self, Wrong> {
        Ok(array_at(bytes, offset))
    }

    fn write(&self, out: &mut [u8], offset: usize) {
        put_array(out, offset, *self);
    }
}

/// Names the field that is wrong.
pub(super) fn read_field<T: Wire>(bytes: &[u8], field: &'static str, offset: usize) -> Result<T, InfoError> {
    T::read(bytes, offset).map_err(|wrong| wrong.in_field(field))
}

/// Refuses a number that is none of `codes`.
pub(super) fn unknown_code(codes: &'static [Code], found: u32) -> Wrong {
    Wrong { expected: Expected::OneOf(codes), found: u64::from(found) }
}

/// Declares a structure: each field's documentation is its meaning in the field table.
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
            /// Bytes of the structure.
            pub const SIZE: usize = $size;

            /// The structure as data.
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

            /// The fields as they stand in `bytes`. Only fields of fixed choices are checked here.
            pub(super) fn from_bytes(bytes: &[u8; $size]) -> Result<Self, $crate::info::InfoError> {
                Ok(Self {
                    $($field: $crate::info::wire::read_field(bytes, stringify!($field), $offset)?,)*
                })
            }

            /// The structure's bytes; padding is zero.
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

/// Declares the choices of a field, each with its number, its name and, as documentation, its meaning.
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
            /// The choices as data, ascending.
            pub const CODES: &[$crate::info::error::Code] = &[$($crate::info::error::Code {
                value: $value,
                name: $text,
                meaning: concat!($($meaning),+).trim_ascii(),
            },)*];

            /// The choice with this number.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number in the field.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// The name in reports.
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
            fn read(bytes: &[u8], offset: usize) -> Result<Self, $crate::info::error::Wrong> {
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
