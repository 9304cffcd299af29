//! The fields with fixed choices: producer, state, rules, and the cause of a stop.
//!
//! Cause 0 gives no details. Bitmaps of producers that are older than the field also have this value.

use super::wire::wire_codes;
use crate::rules::RuleSet;

wire_codes! {
    /// The producer of a bitmap.
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
    /// The state of a scan. In every state the bitmap keeps a superset of the pages that a complete scan keeps.
    pub enum State {
        /// The scan is set up but has not started: every bit is 1.
        Empty = 0, "empty";
        /// The scan has started and has not ended: it is still running, or the machine stopped.
        Scanning = 1, "scanning";
        /// All frames are decided and all chunks are sealed.
        Complete = 2, "complete";
        /// Stopped by the time budget.
        OutOfBudget = 3, "out-of-budget";
        /// Stopped by memory that could not be read, or another exception.
        Fault = 4, "fault";
        /// Stopped because the kernel's data are inconsistent.
        Corrupt = 5, "corrupt";
        /// Stopped by the caller, or by a check of the producer.
        Cancelled = 6, "cancelled";
        /// Not recorded: converted from version 1.
        NotRecorded = 7, "not-recorded";
    }
}

wire_codes! {
    /// The rule set that decided about the pages.
    pub enum RecordedRules {
        /// makedumpfile's rules, bit for bit.
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
    /// The cause of a stop, in more detail than the state.
    pub enum Cause {
        /// No details besides the state.
        NotSaid = 0, "not-said";
        /// A processor exception; see cause_number and the exception fields.
        Exception = 1, "exception";
        /// The producer's parameters are corrupted, inconsistent, or for another load address.
        Parameters = 2, "parameters";
        /// The producer's code is not the code that was loaded.
        Code = 3, "code";
        /// The processor's page tables do not have the number of levels that the producer was set up for.
        Levels = 4, "levels";
        /// The producer cannot build its page tables in the memory reserved for them.
        Tables = 5, "tables";
        /// The scanner refused the setup; cause_number is its status.
        Refused = 6, "refused";
    }
}

/// The exception number of a page fault.
pub const PAGE_FAULT: u32 = 14;
/// The exception number of a machine check.
pub const MACHINE_CHECK: u32 = 18;
/// The largest number of an exception or interrupt on x86_64.
pub(super) const LAST_VECTOR: u64 = 255;

/// The exceptions of x86_64: their numbers and names.
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

/// The name of exception `number`; `None` for a reserved number.
pub fn exception_name(number: u32) -> Option<&'static str> {
    // Not a match: the compiler could turn it into a jump table.
    EXCEPTIONS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

#[cfg(test)]
#[path = "codes_tests.rs"]
mod tests;
