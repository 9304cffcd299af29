//! Reading the memory of the machine under inspection.

use crate::addr::{PhysAddr, VirtAddr};
use core::fmt;

/// Physical memory that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The first address that cannot be read.
    pub addr: PhysAddr,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical memory at {} cannot be read", self.addr)
    }
}

impl core::error::Error for Unreadable {}

/// Physical memory of the machine under inspection: the direct map in the panic path, the identity map in
/// purgatory, a vmcore on a host.
///
/// The implementation decides which addresses are accessed. In crash context it must refuse an address that is not
/// known to be RAM.
pub trait PhysicalMemory {
    /// Copies `buf.len()` bytes, starting at `addr`. The range may cross page boundaries.
    ///
    /// # Errors
    /// Fails with the first address that cannot be read. `buf` may then be partly written.
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable>;

    /// The `len` bytes at `addr`, without a copy, if they are contiguous in the reader's own memory. `None` does not
    /// mean that [`read`](Self::read) fails.
    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let _ = (addr, len);
        None
    }
}

impl<M: PhysicalMemory + ?Sized> PhysicalMemory for &M {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read(addr, buf)
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        (**self).view(addr, len)
    }
}

/// Why memory at a virtual address cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The page tables do not map the address.
    Unmapped {
        /// The address that is not mapped.
        addr: VirtAddr,
        /// The level of the entry that is not present: 5 (PGD), 4 (P4D, the top level of 4-level paging), 3 (PUD),
        /// 2 (PMD), 1 (PTE). See [`Level::number`](crate::paging::Level::number).
        level: u8,
    },
    /// A page table, or the memory that the address translates to, cannot be read.
    Unreadable(Unreadable),
}

impl From<Unreadable> for ReadError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped { addr, level } => {
                let entry = match level {
                    5 => "PGD",
                    4 => "P4D",
                    3 => "PUD",
                    2 => "PMD",
                    _ => "PTE",
                };
                write!(f, "{addr} is not mapped ({entry} entry not present)")
            }
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}

/// The little-endian number at `offset` of `bytes`; `None` if it does not lie inside.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
