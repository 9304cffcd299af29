//! Processor architectures.

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// x86_64 with pages of 4 KiB.
    X86_64,
}

impl Architecture {
    /// The name, as `uname -m` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }

    /// Binary logarithm of the page size.
    pub const fn page_shift(self) -> u32 {
        match self {
            Self::X86_64 => 12,
        }
    }
}
