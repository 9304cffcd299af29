//! The kernel's page tables: image, direct map, virtual memory map.

use super::elf::SparseCore;
use super::generation::MemoryModel;
use super::machine::{Fault, KERNEL_PHYS, KERNEL_SIZE, Machine, ROOT_PHYS, SECTION_FRAMES};
use scanner_core::PAGE_SIZE;
use std::collections::BTreeMap;
use vmcore::{Error, Result};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED_DIRTY: u64 = 0x60;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const TABLE: u64 = PRESENT | WRITABLE | ACCESSED_DIRTY;
const MIB_2: u64 = 2 << 20;
/// Entries of a table.
const ENTRIES: usize = PAGE_SIZE / 8;

/// Page tables under construction. The root is in the kernel's image ([`ROOT_PHYS`]), the other tables are in the pool.
struct PageTables {
    root: u64,
    top_level: u32,
    pool: std::ops::Range<u64>,
    tables: BTreeMap<u64, Box<[u64; ENTRIES]>>,
}

/// Builds and writes the page tables of `machine`.
pub(super) fn write(machine: &Machine, out: &SparseCore<'_>) -> Result<()> {
    let mut tables = PageTables::new(if machine.spec.five_level { 5 } else { 4 }, machine.tables.clone());
    tables.map(machine.kernel_virt, KERNEL_PHYS, KERNEL_SIZE)?;
    for range in machine.ram.as_slice() {
        // The kernel maps whole pages of 2 MiB, small holes included.
        let start = range.start.addr().as_u64() / MIB_2 * MIB_2;
        let end = range.end.addr().as_u64().next_multiple_of(MIB_2);
        tables.map(machine.direct(start), start, end - start)?;
    }
    if machine.model == MemoryModel::Vmemmap {
        for piece in &machine.memmap {
            let within = piece.virt % MIB_2;
            let len = (within + piece.frames.len() * machine.page_size()).next_multiple_of(MIB_2);
            tables.map(piece.virt - within, piece.phys - within, len)?;
        }
        optimise_hugetlb_maps(machine, &mut tables)?;
        break_vmemmap(machine, &mut tables)?;
    }
    for (&phys, table) in &tables.tables {
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        out.write(phys, &bytes)?;
    }
    Ok(())
}

/// Applies HVO: maps all eight pages of a hugetlb page's memory map to the first one.
fn optimise_hugetlb_maps(machine: &Machine, tables: &mut PageTables) -> Result<()> {
    let (Some(edges), true) = (machine.edges, machine.generation.fake_heads) else {
        return Ok(());
    };
    let first = edges.folded * super::machine::REGION_FRAMES;
    for head in [first, first + 512] {
        let virt = machine.vmemmap + head * machine.page_size();
        let Some(phys) = tables.translate(virt) else { continue };
        for page in 1..8 {
            tables.map_small(virt + page * PAGE_SIZE as u64, phys)?;
        }
    }
    Ok(())
}

fn break_vmemmap(machine: &Machine, tables: &mut PageTables) -> Result<()> {
    let victim = machine.vmemmap + machine.victim_section() * SECTION_FRAMES * machine.page_size();
    for fault in &machine.spec.faults {
        match fault {
            Fault::UnmappedVmemmap => *tables.entry(victim, 2)? = 0,
            Fault::VmemmapOutside => {
                let outside = machine.ram.end().addr().as_u64().next_multiple_of(MIB_2);
                *tables.entry(victim, 2)? = outside | TABLE | LARGE;
            }
            Fault::TableLoop => {
                // The PUD entry points to the table that contains it, so the walk stays in this table.
                let p4d = tables.entry(victim, 4)?;
                let own = *p4d & ADDRESS;
                *tables.entry(victim, 3)? = own | TABLE;
            }
            Fault::TableOnes => *tables.entry(victim, tables.top_level)? = u64::MAX,
            _ => {}
        }
    }
    Ok(())
}

impl PageTables {
    fn new(top_level: u32, pool: std::ops::Range<u64>) -> Self {
        let tables = BTreeMap::from([(ROOT_PHYS, Box::new([0; ENTRIES]))]);
        Self { root: ROOT_PHYS, top_level, pool, tables }
    }

    /// Maps `len` bytes with the largest pages that fit. All arguments are multiples of 4 KiB.
    fn map(&mut self, virt: u64, phys: u64, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let (at, to) = (virt + done, phys + done);
            let fits = |size: u64| (at | to) % size == 0 && len - done >= size;
            let (level, size) = if fits(1 << 30) {
                (3, 1 << 30)
            } else if fits(MIB_2) {
                (2, MIB_2)
            } else {
                (1, PAGE_SIZE as u64)
            };
            let large = if level == 1 { 0 } else { LARGE };
            *self.entry(at, level)? = to | TABLE | large;
            done += size;
        }
        Ok(())
    }

    /// Maps one 4 KiB page. Splits the 2 MiB page that maps the address so far.
    fn map_small(&mut self, virt: u64, phys: u64) -> Result<()> {
        let large = *self.entry(virt, 2)?;
        if large & LARGE != 0 {
            *self.entry(virt, 2)? = 0;
            let base = large & ADDRESS & !(MIB_2 - 1);
            let start = virt / MIB_2 * MIB_2;
            for page in 0..ENTRIES as u64 {
                *self.entry(start + page * PAGE_SIZE as u64, 1)? = (base + page * PAGE_SIZE as u64) | TABLE;
            }
        }
        *self.entry(virt, 1)? = phys | TABLE;
        Ok(())
    }

    /// The entry for `virt` in the table of `level`. Creates missing tables above it.
    ///
    /// # Errors
    /// The pool is full.
    fn entry(&mut self, virt: u64, level: u32) -> Result<&mut u64> {
        let mut table = self.root;
        for above in (level + 1..=self.top_level).rev() {
            let index = index(virt, above);
            let mut entry = self.table(table)[index];
            if entry & PRESENT == 0 {
                let fresh = self.pool.start;
                if fresh >= self.pool.end {
                    return Err(Error::failure(
                        "the machine's page tables do not fit into their pool of 4 MiB",
                    ));
                }
                self.pool.start += PAGE_SIZE as u64;
                self.tables.insert(fresh, Box::new([0; ENTRIES]));
                entry = fresh | TABLE;
                self.table(table)[index] = entry;
            }
            table = entry & ADDRESS;
        }
        let index = index(virt, level);
        Ok(&mut self.table(table)[index])
    }

    /// The physical address of `virt`; for a 4 KiB page the address of the page.
    fn translate(&mut self, virt: u64) -> Option<u64> {
        let entry = *self.entry(virt, 2).ok()?;
        (entry & (PRESENT | LARGE) == PRESENT | LARGE)
            .then(|| (entry & ADDRESS & !(MIB_2 - 1)) + virt % MIB_2)
            .or_else(|| {
                let small = *self.entry(virt, 1).ok()?;
                Some(small & ADDRESS)
            })
    }

    fn table(&mut self, phys: u64) -> &mut [u64; ENTRIES] {
        self.tables.entry(phys).or_insert_with(|| Box::new([0; ENTRIES]))
    }
}

fn index(virt: u64, level: u32) -> usize {
    (virt >> (12 + 9 * (level - 1))) as usize % ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(tables: &PageTables, virt: u64) -> Option<u64> {
        let mut table = tables.root;
        for level in (1..=tables.top_level).rev() {
            let entry = tables.tables[&table][index(virt, level)];
            if entry & PRESENT == 0 {
                return None;
            }
            let size = 1 << (12 + 9 * (level - 1));
            if level == 1 || entry & LARGE != 0 {
                return Some((entry & ADDRESS & !(size - 1)) + virt % size);
            }
            table = entry & ADDRESS;
        }
        None
    }

    #[test]
    fn mapped_addresses_translate_with_any_page_size() {
        for levels in [4, 5] {
            let mut tables = PageTables::new(levels, 0x180_0000..0x1c0_0000);
            let base = 0xffff_8880_0000_0000;
            tables.map(base + 0x3fe0_0000, 0x3fe0_0000, (3 << 30) + 0x20_3000).unwrap();
            for offset in [0, 0x1f_ffff, 0x20_0000, 1 << 30, 3 << 30, (3 << 30) + 0x20_2fff] {
                assert_eq!(walk(&tables, base + 0x3fe0_0000 + offset), Some(0x3fe0_0000 + offset));
            }
            assert_eq!(walk(&tables, base), None);
            tables.map_small(base + 0x3fe0_1000, 0x7000).unwrap();
            assert_eq!(walk(&tables, base + 0x3fe0_1004), Some(0x7004));
            assert_eq!(walk(&tables, base + 0x3fe0_2004), Some(0x3fe0_2004));
        }
    }
}
