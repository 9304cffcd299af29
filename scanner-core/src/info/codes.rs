//! The fields of fixed choices: producer, state, rules, and what stopped a scan.
//!
//! A cause of 0 says nothing. It is also what bitmaps have whose producers did not know the field.

use super::wire::wire_codes;
use crate::rules::RuleSet;

wire_codes! {
    /// Who wrote a bitmap.
    pub enum Producer {
        /// Not recorded: converted from version 1.
        NotRecorded = 0, "not-recorded";
        /// The panic path of the first kernel.
        Panic = 1, "panic";
        /// A purgatory stage between the first kernel and the capture kernel.
        Purgatory = 2, "purgatory";
        /// A tool on a host, from a vmcore.
        Host = 3, "host";
    }
}

wire_codes! {
    /// How far a scan got. In every state the bitmap keeps a superset of the right pages.
    pub enum State {
        /// Set up, not begun: every bit is 1.
        Empty = 0, "empty";
        /// Begun, and never ended by the producer: the machine stopped, or the scan runs still.
        Scanning = 1, "scanning";
        /// All frames are decided and all chunks sealed.
        Complete = 2, "complete";
        /// Stopped by the time budget.
        OutOfBudget = 3, "out-of-budget";
        /// Stopped by memory that could not be read, or another exception.
        Fault = 4, "fault";
        /// Stopped because the kernel's data contradict themselves.
        Corrupt = 5, "corrupt";
        /// Stopped by whoever ran it, or by a check of its own.
        Cancelled = 6, "cancelled";
        /// Not recorded: converted from version 1.
        NotRecorded = 7, "not-recorded";
    }
}

wire_codes! {
    /// Whose rules decided about the pages.
    pub enum RecordedRules {
        /// makedumpfile's, bit for bit.
        Makedumpfile = 0, "makedumpfile";
        /// The kernel's own predicates.
        Kernel = 1, "kernel";
        /// Not recorded: converted from version 1.
        NotRecorded = 2, "not-recorded";
    }
}

impl From<RuleSet> for RecordedRules {
    fn from(rules: RuleSet) -> Self {
        match rules {
            RuleSet::Makedumpfile => Self::Makedumpfile,
            RuleSet::Kernel => Self::Kernel,
        }
    }
}

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
pub(super) const LAST_VECTOR: u64 = 255;

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
