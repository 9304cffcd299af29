//! The kernel data that a filter reads to find the `struct page`s: release, nodes, sections, free lists.

use super::elf::SparseCore;
use super::free_lists::{FreeLists, ZONES, list_offset, node_phys};
use super::generation::{Keys, MemoryModel, ORDERS};
use super::machine::{Fault, KERNEL_PHYS, Machine, SECTION_FRAMES};
use super::symbols::Symbols;
use scanner_core::{PAGE_SHIFT, PAGE_SIZE};
use vmcore::Result;

/// Bytes of a field of `struct new_utsname`.
const UTS_FIELD: usize = 65;

/// Writes the data in the kernel's image, and the section table.
pub(super) fn write_kernel(machine: &Machine, out: &SparseCore<'_>) -> Result<()> {
    let symbols = Symbols::of(machine);
    let phys = |virt: u64| virt - machine.kernel_virt + KERNEL_PHYS;

    // In kernels that do not export the offset of `name`, a 32-bit reference count precedes it.
    let uts_name = if machine.generation.keys.contains(Keys::UTS_NAME) { 0 } else { size_of::<u32>() as u64 };
    out.write(phys(symbols.init_uts_ns) + uts_name, &utsname(machine.generation.release))?;

    let mut online = vec![0_u8; (machine.generation.zones.max_nodes / 8) as usize];
    for node in 0..machine.nodes.len() {
        online[node / 8] |= 1 << (node % 8);
    }
    out.write(phys(symbols.node_online_map), &online)?;
    for node in 0..machine.nodes.len() as u64 {
        out.write_u64(phys(symbols.node_data) + 8 * node, machine.direct(node_phys(machine, node as usize)))?;
    }
    if machine.model == MemoryModel::Flat {
        out.write_u64(phys(symbols.mem_map), machine.memmap[0].virt)?;
    }
    write_sections(machine, out)
}

fn utsname(release: &str) -> Vec<u8> {
    let mut bytes = vec![0; 6 * UTS_FIELD];
    for (field, text) in ["Linux", "synth", release, "#1 SMP", "x86_64", "(none)"].iter().enumerate() {
        bytes[field * UTS_FIELD..][..text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

/// Flag bits of `section_mem_map`: present, has a memory map, online, early.
const SECTION_FLAGS: u64 = 0b1111;
/// `SECTION_IS_ONLINE`.
const SECTION_ONLINE: u64 = 0b0100;

fn write_sections(machine: &Machine, out: &SparseCore<'_>) -> Result<()> {
    if matches!(machine.model, MemoryModel::Flat | MemoryModel::Discontig) {
        return Ok(());
    }
    let entry = machine.generation.mem_section_size;
    let per_root = machine.sections_per_root();
    let roots_bytes = (machine.mem_section_length() * 8).next_multiple_of(PAGE_SIZE as u64);
    let victim = machine.victim_section();
    for section in machine.sections_present() {
        let place = if machine.model == MemoryModel::Sparse {
            machine.sections + section * entry
        } else {
            let root = section / per_root;
            let array = machine.sections + roots_bytes + root * PAGE_SIZE as u64;
            let faulty =
                root == victim / per_root && machine.spec.faults.contains(&Fault::SectionRootUnmapped);
            let pointer = if faulty { machine.page_offset - PAGE_SIZE as u64 } else { machine.direct(array) };
            out.write_u64(machine.sections + root * 8, pointer)?;
            array + section % per_root * entry
        };
        out.write_u64(place, section_mem_map(machine, section, victim))?;
    }
    Ok(())
}

/// The word `section_mem_map`: the address that the `struct page` of frame 0 would have, and flags.
fn section_mem_map(machine: &Machine, section: u64, victim: u64) -> u64 {
    let first = section * SECTION_FRAMES;
    let map = machine.struct_page(first);
    let offline = machine.not_online.contains(scanner_core::Pfn::new(first));
    let mut flags = if offline { SECTION_FLAGS & !SECTION_ONLINE } else { SECTION_FLAGS };
    // Before 4.13 only the two lowest flags existed.
    if machine.generation.types.table.is_none() {
        flags &= 0b11;
    }
    if section == victim {
        for fault in &machine.spec.faults {
            match fault {
                Fault::SectionOutside => return flags,
                Fault::SectionHighFlag => flags |= 1 << 5,
                _ => {}
            }
        }
    }
    map.wrapping_sub(first * machine.page_size()) | flags
}

/// Writes the nodes with their zones; `lists` supplies the heads of the free lists.
pub(super) fn write_nodes(machine: &Machine, lists: &FreeLists, out: &SparseCore<'_>) -> Result<()> {
    let layout = machine.generation.zones;
    for (node, frames) in machine.nodes.iter().enumerate() {
        let mut bytes = vec![0_u8; layout.node_size as usize];
        let mut put = |at: u64, word: u64| bytes[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
        put(layout.nr_zones, ZONES as u64);
        put(layout.node_start_pfn, frames.start.as_u64());
        put(layout.node_spanned_pages, frames.len());
        put(layout.node_id, node as u64);
        if matches!(machine.model, MemoryModel::Flat | MemoryModel::Discontig) {
            put(layout.node_mem_map, machine.struct_page(frames.start.as_u64()));
        }
        for zone in 0..ZONES {
            let base = zone as u64 * layout.zone_size;
            let border = [0, 16 << 20, 4 << 30, u64::MAX].map(|phys: u64| phys >> PAGE_SHIFT);
            let start = border[zone].max(frames.start.as_u64());
            let end = border[zone + 1].min(frames.end.as_u64());
            put(base + layout.spanned_pages, end.saturating_sub(start));
            put(base + layout.free_pages, lists.free_pages(node, zone));
            for order in 0..ORDERS {
                for migrate_type in 0..layout.migrate_types.unwrap_or(1) {
                    let place = base + list_offset(machine, order, migrate_type);
                    let (first, last) = lists.ends(machine, node, zone, order, migrate_type);
                    put(place, first);
                    put(place + 8, last);
                }
            }
        }
        out.write(node_phys(machine, node), &bytes)?;
    }
    Ok(())
}
