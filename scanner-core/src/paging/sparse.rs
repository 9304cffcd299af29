//! Physical memory for tests. Frames exist once they are written to; other frames cannot be read.

use super::{Entry, Level};
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use crate::memory::{PhysicalMemory, Unreadable};
use std::collections::BTreeMap;
use std::vec::Vec;

#[derive(Clone, Debug, Default)]
pub(super) struct SparseMemory {
    frames: BTreeMap<Pfn, Vec<u8>>,
}

impl SparseMemory {
    /// Writes `bytes`, which must lie in one frame.
    pub(super) fn write(&mut self, addr: PhysAddr, bytes: &[u8]) {
        let frame = self.frames.entry(addr.pfn()).or_insert_with(|| std::vec![0; PAGE_SIZE]);
        frame[addr.page_offset()..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Writes the entry that maps `addr` in the table at `table`.
    pub(super) fn set_entry(&mut self, table: u64, level: Level, addr: u64, entry: u64) {
        let index = level.index(VirtAddr::new(addr)) as u64;
        self.write(PhysAddr::new(table + 8 * index), &Entry(entry).0.to_le_bytes());
    }
}

impl PhysicalMemory for SparseMemory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let mut done = 0;
        while done < buf.len() {
            let addr = PhysAddr::new(addr.as_u64() + done as u64);
            let frame = self.frames.get(&addr.pfn()).ok_or(Unreadable { addr })?;
            let part = &frame[addr.page_offset()..];
            let len = part.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&part[..len]);
            done += len;
        }
        Ok(())
    }
}
