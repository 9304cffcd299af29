//! Memory of a machine for tests: words at physical addresses, and page tables that map them.

use crate::addr::PhysAddr;
use crate::memory::{PhysicalMemory, Unreadable};
use core::cell::Cell;
use core::ops::Range;
use std::collections::BTreeMap;
use std::vec::Vec;

/// The kernel address of physical 0. The first GiB is mapped from there.
pub(super) const DIRECT: u64 = 0xffff_8880_0000_0000;
/// Where `SYMBOL(swapper_pg_dir)` has to point, with a `phys_base` of 0.
pub(super) const PAGE_TABLES: &str = "ffffffff80001000";

/// Memory in which all words are 0 but those that are set.
#[derive(Debug, Default)]
pub(super) struct TestMemory {
    words: BTreeMap<u64, u64>,
    lost: Vec<Range<u64>>,
    reads: Cell<u64>,
}

impl TestMemory {
    /// Memory with page tables, and nothing else.
    pub(super) fn new() -> Self {
        let mut memory = Self::default();
        memory.set(0x1000 + 8 * (DIRECT >> 39 & 511), 0x2000 | 1);
        // One page of 1 GiB.
        memory.set(0x2000 + 8 * (DIRECT >> 30 & 511), 1 << 7 | 1);
        memory
    }

    /// Sets the word at a physical address, a multiple of 8.
    pub(super) fn set(&mut self, at: u64, word: u64) {
        self.words.insert(at, word);
    }

    /// Makes these physical addresses unreadable.
    pub(super) fn lose(&mut self, at: Range<u64>) {
        self.lost.push(at);
    }

    /// How many reads there were since the last call.
    pub(super) fn take_reads(&self) -> u64 {
        self.reads.take()
    }
}

impl PhysicalMemory for TestMemory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.reads.set(self.reads.get() + 1);
        for (at, byte) in (addr.as_u64()..).zip(buf) {
            if self.lost.iter().any(|lost| lost.contains(&at)) {
                return Err(Unreadable { addr: PhysAddr::new(at) });
            }
            let word = self.words.get(&(at & !7)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}
