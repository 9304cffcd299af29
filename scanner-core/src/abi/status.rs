//! How a call from C ended.

use crate::layout::LayoutError;
use crate::memory::ReadError;
use crate::paging::DirectMapError;
use crate::sections::SectionError;
use crate::vmcoreinfo::VmcoreInfoError;

macro_rules! statuses {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $value:literal, $c_name:literal;)*) => {
        /// How a call from C ended; [`C_NAMES`](Self::C_NAMES) are the names in the header.
        #[repr(i32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            $($(#[doc = $meaning])+ $variant = $value,)*
        }

        impl Status {
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

/// Why a call failed: the status, what it is about, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: Status,
    /// The key, argument or field.
    pub about: &'static str,
    /// The value, address or index that is wrong; 0 if none is.
    pub value: u64,
}

impl Failure {
    pub const fn new(status: Status, about: &'static str, value: u64) -> Self {
        Self { status, about, value }
    }

    pub const fn argument(about: &'static str) -> Self {
        Self::new(Status::BadArgument, about, 0)
    }

    /// Writes the failure as `meaning: about (0x...)` with a zero byte behind it, cut off where `out` ends. Returns
    /// the bytes written without the zero. The formatting machinery of core would cost more room than the scan.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut text = Text { out, len: 0 };
        text.push(self.status.meaning());
        if !self.about.is_empty() {
            text.push(": ");
            text.push(self.about);
        }
        if self.value != 0 {
            text.push(" (");
            text.push_hexadecimal(self.value);
            text.push(")");
        }
        text.finish()
    }
}

struct Text<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Text<'_> {
    fn push(&mut self, words: &str) {
        words.bytes().for_each(|byte| self.push_byte(byte));
    }

    fn push_byte(&mut self, byte: u8) {
        // The last byte is for the zero.
        let room = self.out.len().saturating_sub(1);
        if let Some(place) = self.out.get_mut(..room).and_then(|out| out.get_mut(self.len)) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    fn push_hexadecimal(&mut self, value: u64) {
        self.push("0x");
        let digits = 16_u32.saturating_sub(value.leading_zeros() >> 2).max(1);
        for digit in (0..digits).rev() {
            let nibble = (value >> digit.saturating_mul(4) & 0xf) as u8;
            self.push_byte(if nibble < 10 { b'0' | nibble } else { nibble.wrapping_add(b'a' - 10) });
        }
    }

    fn finish(self) -> usize {
        if let Some(end) = self.out.get_mut(self.len) {
            *end = 0;
        }
        self.len
    }
}

impl From<VmcoreInfoError> for Failure {
    fn from(error: VmcoreInfoError) -> Self {
        match error {
            VmcoreInfoError::Malformed(key) => Self::new(Status::KeyMalformed, key.text(), 0),
            VmcoreInfoError::Contradictory { key, second, .. } => {
                Self::new(Status::KeyContradictory, key.text(), second)
            }
            VmcoreInfoError::ContradictoryRelease | VmcoreInfoError::NoRelease => {
                Self::new(Status::NoRelease, "OSRELEASE", 0)
            }
            VmcoreInfoError::Missing(key) => Self::new(Status::KeyMissing, key.text(), 0),
        }
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::VmcoreInfo(error) => error.into(),
            LayoutError::OutOfRange { key, value, .. } => Self::new(Status::KeyOutOfRange, key.text(), value),
            LayoutError::NoneOf { keys, .. } => Self::new(Status::KeyMissing, keys, 0),
        }
    }
}

impl From<SectionError> for Failure {
    fn from(error: SectionError) -> Self {
        match error {
            SectionError::Read(ReadError::Unmapped { addr, .. }) => {
                Self::new(Status::Unreadable, "unmapped kernel address", addr.as_u64())
            }
            SectionError::Read(ReadError::Unreadable(at)) => {
                Self::new(Status::Unreadable, "physical address", at.addr.as_u64())
            }
            SectionError::NotKernelMemory(addr) => {
                Self::new(Status::Unreadable, "not a kernel address", addr.as_u64())
            }
            SectionError::NoSections => Self::new(Status::NoSections, "SYMBOL(mem_section)", 0),
            SectionError::TooManyNodes(nodes) => Self::new(Status::KeyOutOfRange, "LENGTH(node_data)", nodes),
        }
    }
}

impl From<DirectMapError> for Status {
    fn from(error: DirectMapError) -> Self {
        match error {
            DirectMapError::PoolExhausted { .. } => Self::TooFewTables,
            _ => Self::CannotMap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmcoreinfo::Key;

    #[test]
    fn a_failure_names_its_key_and_value() {
        let error = LayoutError::OutOfRange { key: Key::SizePage, value: 0x1234_5678, must_be: "smaller" };
        let mut out = [0xff; 200];
        let len = Failure::from(error).write(&mut out);
        assert_eq!(&out[..len], b"the value of a key of VMCOREINFO can't be: SIZE(page) (0x12345678)");
        assert_eq!(out[len], 0);
    }

    #[test]
    fn a_text_is_cut_off_where_the_buffer_ends() {
        let failure = Failure::argument("chunks");
        for room in 0..80 {
            let mut out = std::vec![0xff; room];
            let len = failure.write(&mut out);
            assert_eq!(
                len,
                room.saturating_sub(1)
                    .min("an argument is a null pointer, unaligned, or out of range: chunks".len())
            );
            assert!(room == 0 || out[len] == 0);
        }
    }
}
