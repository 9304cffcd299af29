//! Failures of calls from C.

use scanner_core::info::ScanStatus;
use scanner_core::kernel::LayoutError;
use scanner_core::kernel::vmcoreinfo::VmcoreInfoError;
use scanner_core::memmap::sections::SectionError;
use scanner_core::memory::ReadError;
use scanner_core::paging::DirectMapError;

/// Why a call failed: a status, its subject, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub status: ScanStatus,
    /// The key, argument or field that is invalid; empty if there is none.
    pub about: &'static str,
    /// The invalid value, address or index; 0 if there is none.
    pub value: u64,
}

impl Failure {
    pub const fn new(status: ScanStatus, about: &'static str, value: u64) -> Self {
        Self { status, about, value }
    }

    pub const fn argument(about: &'static str) -> Self {
        Self::new(ScanStatus::BadArgument, about, 0)
    }

    /// Writes the failure as `meaning: about (0x...)`, followed by a zero byte. The text is cut if `out` is too small.
    /// Returns its length without the zero byte.
    // Not core::fmt: its code is larger than that of the scan.
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

/// A text under construction. Excess characters are dropped.
struct Text<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Text<'_> {
    fn push(&mut self, words: &str) {
        words.bytes().for_each(|byte| self.push_byte(byte));
    }

    fn push_byte(&mut self, byte: u8) {
        // The last byte is reserved for the zero byte.
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
            VmcoreInfoError::Malformed(key) => Self::new(ScanStatus::KeyMalformed, key.text(), 0),
            VmcoreInfoError::Contradictory { key, second, .. } => {
                Self::new(ScanStatus::KeyContradictory, key.text(), second)
            }
            VmcoreInfoError::ContradictoryRelease | VmcoreInfoError::NoRelease => {
                Self::new(ScanStatus::NoRelease, "OSRELEASE", 0)
            }
            VmcoreInfoError::Missing(key) => Self::new(ScanStatus::KeyMissing, key.text(), 0),
        }
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::VmcoreInfo(error) => error.into(),
            LayoutError::OutOfRange { key, value, .. } => {
                Self::new(ScanStatus::KeyOutOfRange, key.text(), value)
            }
            LayoutError::NoneOf { keys, .. } => Self::new(ScanStatus::KeyMissing, keys, 0),
        }
    }
}

impl From<SectionError> for Failure {
    fn from(error: SectionError) -> Self {
        match error {
            SectionError::Read(ReadError::Unmapped { addr, .. }) => {
                Self::new(ScanStatus::Unreadable, "unmapped kernel address", addr.as_u64())
            }
            SectionError::Read(ReadError::Unreadable(at)) => {
                Self::new(ScanStatus::Unreadable, "physical address", at.addr.as_u64())
            }
            SectionError::NotKernelMemory(addr) => {
                Self::new(ScanStatus::Unreadable, "not a kernel address", addr.as_u64())
            }
            SectionError::NoSections => Self::new(ScanStatus::NoSections, "SYMBOL(mem_section)", 0),
            SectionError::TooManyNodes(nodes) => {
                Self::new(ScanStatus::KeyOutOfRange, "LENGTH(node_data)", nodes)
            }
        }
    }
}

/// The status of a direct map that cannot be built.
pub(crate) fn status_of_map(error: DirectMapError) -> ScanStatus {
    match error {
        DirectMapError::PoolExhausted { .. } => ScanStatus::TooFewTables,
        _ => ScanStatus::CannotMap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scanner_core::kernel::vmcoreinfo::Key;

    #[test]
    fn a_failure_names_its_key_and_value() {
        let error = LayoutError::OutOfRange { key: Key::SizePage, value: 0x1234_5678, expected: "56..=256" };
        let mut out = [0xff; 200];
        let len = Failure::from(error).write(&mut out);
        assert_eq!(&out[..len], b"the value of a key of VMCOREINFO is out of range: SIZE(page) (0x12345678)");
        assert_eq!(out[len], 0);
    }

    #[test]
    fn a_text_is_cut_off_where_the_buffer_ends() {
        let failure = Failure::argument("chunks");
        for room in 0..80 {
            let mut out = vec![0xff; room];
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
