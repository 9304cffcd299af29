//! The status codes of the scanner's C interface. [`Cause::Refused`](super::v2::Cause::Refused) records their numbers.

macro_rules! statuses {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $value:literal, $c_name:literal;)*) => {
        /// The status of a call from C. [`C_NAMES`](Self::C_NAMES) has the names in the header.
        #[repr(i32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ScanStatus {
            $($(#[doc = $meaning])+ $variant = $value,)*
        }

        impl ScanStatus {
            /// All statuses: name in C, number, and meaning in words.
            pub const C_NAMES: &'static [(&'static str, i32, &'static str)] =
                &[$(($c_name, $value, concat!($($meaning),+).trim_ascii()),)*];

            /// The meaning of the status, in words.
            pub fn meaning(self) -> &'static str {
                // Not a match: it would become a jump table with a trap for invalid numbers.
                let own = Self::C_NAMES.iter().find(|(_, value, _)| *value == self as i32);
                own.map_or("", |(_, _, meaning)| meaning)
            }
        }
    };
}

statuses! {
    /// done
    Done = 0, "CRASH_SCAN_DONE";
    /// interrupted by the caller; the next call resumes the scan
    Interrupted = 1, "CRASH_SCAN_INTERRUPTED";
    /// the state is a null pointer, unaligned, too small, or was not set up
    BadState = 16, "CRASH_SCAN_BAD_STATE";
    /// an argument is a null pointer, unaligned, or out of range
    BadArgument = 17, "CRASH_SCAN_BAD_ARGUMENT";
    /// a chunk of the bitmap is missing, unaligned, or too small
    BadChunk = 18, "CRASH_SCAN_BAD_CHUNK";
    /// the memory ranges are not ascending and disjoint
    BadRange = 19, "CRASH_SCAN_BAD_RANGE";
    /// VMCOREINFO has no OSRELEASE with a kernel version, or two different ones
    NoRelease = 20, "CRASH_SCAN_NO_RELEASE";
    /// a key of VMCOREINFO is missing
    KeyMissing = 21, "CRASH_SCAN_KEY_MISSING";
    /// the value of a key of VMCOREINFO is not a number
    KeyMalformed = 22, "CRASH_SCAN_KEY_MALFORMED";
    /// a key of VMCOREINFO occurs twice, with different values
    KeyContradictory = 23, "CRASH_SCAN_KEY_CONTRADICTORY";
    /// the value of a key of VMCOREINFO is out of range
    KeyOutOfRange = 24, "CRASH_SCAN_KEY_OUT_OF_RANGE";
    /// the memory that describes the array of struct page cannot be read
    Unreadable = 25, "CRASH_SCAN_UNREADABLE";
    /// no memory section has struct pages
    NoSections = 26, "CRASH_SCAN_NO_SECTIONS";
    /// crash_dump_bitmap_info cannot describe the bitmap
    BadInfo = 27, "CRASH_SCAN_BAD_INFO";
    /// the direct map needs more page tables
    TooFewTables = 28, "CRASH_SCAN_TOO_FEW_TABLES";
    /// a range, an option or a table of the direct map is invalid
    CannotMap = 29, "CRASH_SCAN_CANNOT_MAP";
}
