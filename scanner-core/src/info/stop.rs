//! What stopped a scan, in more detail than its state says.
//!
//! The fields for it begin at [`Header::cause`]. They are zero where nothing is said, which is also what stands in
//! bitmaps of producers that didn't know them.

use super::error::{InfoError, between, exactly};
use super::layout::wire_codes;
use super::v2::Header;

wire_codes! {
    /// What stopped a scan, in more detail than its state.
    pub enum Cause {
        /// Nothing that the state doesn't say.
        NotSaid = 0, "not-said";
        /// An exception of the processor: cause_number and the exception's fields say which.
        Exception = 1, "exception";
        /// The producer's parameters are not those that it was given, or contradict themselves.
        Parameters = 2, "parameters";
        /// The producer's code is not what was loaded.
        Code = 3, "code";
        /// The processor's page tables have another number of levels than the kernel's were known to have.
        Levels = 4, "levels";
        /// The producer's own page tables don't fit where they have to.
        Tables = 5, "tables";
        /// The scanner refuses what it was given: cause_number is its status.
        Refused = 6, "refused";
    }
}

/// The number of a page fault among the exceptions.
pub const PAGE_FAULT: u32 = 14;
/// The number of a machine check.
pub const MACHINE_CHECK: u32 = 18;
/// The largest number of an exception or interrupt.
const LAST_VECTOR: u64 = 255;

/// The exceptions of x86_64 by their numbers.
const EXCEPTIONS: [(u32, &str); 22] = [
    (0, "divide error"),
    (1, "debug exception"),
    (2, "NMI"),
    (3, "breakpoint"),
    (4, "overflow"),
    (5, "bound range exceeded"),
    (6, "invalid opcode"),
    (7, "device not available"),
    (8, "double fault"),
    (10, "invalid TSS"),
    (11, "segment not present"),
    (12, "stack fault"),
    (13, "general protection fault"),
    (PAGE_FAULT, "page fault"),
    (16, "x87 floating-point error"),
    (17, "alignment check"),
    (MACHINE_CHECK, "machine check"),
    (19, "SIMD floating-point exception"),
    (20, "virtualization exception"),
    (21, "control protection exception"),
    (29, "VMM communication exception"),
    (30, "security exception"),
];

/// The name of the exception with this number; `None` for a number that processors keep to themselves.
pub fn exception_name(number: u32) -> Option<&'static str> {
    // Not by match: that could be a table of jumps.
    EXCEPTIONS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

impl Header {
    /// What is said of a stop has to fit its cause.
    pub(super) fn check_stop(&self) -> Result<(), InfoError> {
        let number = u64::from(self.cause_number);
        match self.cause {
            Cause::Exception => return between("cause_number", 0, LAST_VECTOR, number),
            Cause::Refused => {}
            _ => exactly("cause_number", 0, number)?,
        }
        exactly("exception_error", 0, self.exception_error)?;
        exactly("exception_at", 0, self.exception_at)?;
        exactly("exception_address", 0, self.exception_address)
    }
}
