//! How a call of the scanner's C interface ended. [`Cause::Refused`](super::v2::Cause::Refused) records the number.

macro_rules! statuses {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $value:literal, $c_name:literal;)*) => {
        /// How a call from C ended; [`C_NAMES`](Self::C_NAMES) are the names in the header.
        #[repr(i32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ScanStatus {
            $($(#[doc = $meaning])+ $variant = $value,)*
        }

        impl ScanStatus {
            /// Every status: its name in C, its number, and what it means in words.
            pub const C_NAMES: &'static [(&'static str, i32, &'static str)] =
                &[$(($c_name, $value, concat!($($meaning),+).trim_ascii()),)*];

            /// What it means, in words.
            pub fn meaning(self) -> &'static str {
                // Not by match: that would be a jump table with a trap for numbers that can't be.
                let own = Self::C_NAMES.iter().find(|(_, value, _)| *value == self as i32);
                own.map_or("", |(_, _, meaning)| meaning)
            }
        }
    };
}

statuses! {
    /// done
    Done = 0, "CRASH_SCAN_DONE";
    /// interrupted by the caller; the next call goes on
    Interrupted = 1, "CRASH_SCAN_INTERRUPTED";
    /// the state is a null pointer, unaligned, too small, or was not set up
    BadState = 16, "CRASH_SCAN_BAD_STATE";
    /// an argument is a null pointer, unaligned, or out of range
    BadArgument = 17, "CRASH_SCAN_BAD_ARGUMENT";
    /// a chunk of the bitmap is missing, unaligned, or too small
    BadChunk = 18, "CRASH_SCAN_BAD_CHUNK";
    /// the memory ranges are not ascending and disjoint
    BadRange = 19, "CRASH_SCAN_BAD_RANGE";
    /// VMCOREINFO has no OSRELEASE with a kernel version in it, or two different ones
    NoRelease = 20, "CRASH_SCAN_NO_RELEASE";
    /// a key of VMCOREINFO is missing
    KeyMissing = 21, "CRASH_SCAN_KEY_MISSING";
    /// the value of a key of VMCOREINFO is not a number
    KeyMalformed = 22, "CRASH_SCAN_KEY_MALFORMED";
    /// a key of VMCOREINFO stands there twice, with different values
    KeyContradictory = 23, "CRASH_SCAN_KEY_CONTRADICTORY";
    /// the value of a key of VMCOREINFO can't be
    KeyOutOfRange = 24, "CRASH_SCAN_KEY_OUT_OF_RANGE";
    /// the kernel's memory can't be read where the array of struct page is described
    Unreadable = 25, "CRASH_SCAN_UNREADABLE";
    /// no memory section has struct pages
    NoSections = 26, "CRASH_SCAN_NO_SECTIONS";
    /// the bitmap can't be described by crash_dump_bitmap_info
    BadInfo = 27, "CRASH_SCAN_BAD_INFO";
    /// the direct map takes more page tables
    TooFewTables = 28, "CRASH_SCAN_TOO_FEW_TABLES";
    /// a range, an option or a table of the direct map is impossible
    CannotMap = 29, "CRASH_SCAN_CANNOT_MAP";
}
