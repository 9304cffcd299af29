//! Translating addresses of the kernel under inspection.

use crate::addr::{PhysAddr, VirtAddr};
use crate::memory::{PhysicalMemory, ReadError};

/// The page tables of the kernel under inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Where the top-level table is.
    pub root: PhysAddr,
    /// Whether the top level is a PML5 (57-bit addresses).
    pub five_level: bool,
    /// The memory encryption bit (AMD SME) that entries carry and that is not part of the address; 0 without.
    pub sme_mask: u64,
}

/// A physically contiguous part of a virtual range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the kernel's address space.
    pub virt: VirtAddr,
    /// Where it starts in physical memory.
    pub phys: PhysAddr,
    /// Bytes.
    pub len: u64,
}

impl AddressSpace {
    /// The physical address behind `addr`, and how many bytes from there on the same table entry maps.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn translate<M: PhysicalMemory + ?Sized>(&self, memory: &M, addr: VirtAddr) -> Result<Piece, ReadError> {
        let _ = (memory, addr);
        todo!()
    }

    /// The largest physically contiguous piece that starts at `addr`, at most `len` bytes.
    ///
    /// # Errors
    /// If already the first byte can't be translated.
    pub fn piece<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        addr: VirtAddr,
        len: u64,
    ) -> Result<Piece, ReadError> {
        let _ = (memory, addr, len);
        todo!()
    }

    /// Copies `buf.len()` bytes from the virtual address `addr` on, across pages.
    ///
    /// # Errors
    /// See [`ReadError`]; `buf` may then be partly written.
    pub fn read<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        addr: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let _ = (memory, addr, buf);
        todo!()
    }
}
