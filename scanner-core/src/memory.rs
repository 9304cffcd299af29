//! How the scanner reads the memory of the machine under inspection.

use crate::addr::{PhysAddr, VirtAddr};
use core::fmt;

/// A read that could not be satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The first address that could not be read.
    pub addr: PhysAddr,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical memory at {} can't be read", self.addr)
    }
}

impl core::error::Error for Unreadable {}

/// Physical memory of the machine under inspection: the direct map in the panic path, the identity map in
/// purgatory, a vmcore on a host.
///
/// Whoever implements this decides what may be touched. In crash context an implementation must refuse an
/// address that is not known to be RAM, rather than try it.
pub trait PhysicalMemory {
    /// Copies `buf.len()` bytes from `addr` on. May cross page borders.
    ///
    /// # Errors
    /// The first address that can't be read; `buf` may then be partly written.
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable>;

    /// The `len` bytes from `addr` on in place, if they are contiguous in the reader's own memory. `None` says
    /// nothing about whether [`read`](Self::read) would succeed.
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

/// Why memory behind a virtual address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The page tables map nothing there.
    Unmapped {
        /// The address that is not mapped.
        addr: VirtAddr,
        /// The level whose entry says so: 5 for PGD of 5-level paging, 4 (PGD, P4D), 3 (PUD), 2 (PMD), 1 (PTE).
        level: u8,
    },
    /// A page table, or the memory that the address translates to, could not be read.
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
                write!(f, "kernel address {addr} is not mapped (level {level} entry not present)")
            }
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}

/// Reads the little-endian number at `offset` of `bytes`; `None` if it doesn't lie inside.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
