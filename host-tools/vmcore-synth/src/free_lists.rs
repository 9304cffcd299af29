//! The free lists of a machine's zones: the addresses of their heads, and their blocks.

use super::elf::SparseCore;
use super::generation::ORDERS;
use super::machine::{Fault, Machine, REGION_FRAMES};
use super::rng::Rng;
use vmcore::Result;

/// Zones of a node: DMA, DMA32, Normal.
pub(super) const ZONES: usize = 3;
/// Number of migrate types with free pages: unmovable, movable, reclaimable.
const MIGRATE_TYPES: u64 = 3;

/// Physical address of a node's `struct pglist_data`.
pub(super) fn node_phys(machine: &Machine, node: usize) -> u64 {
    machine.node_data + node as u64 * machine.generation.zones.node_size
}

/// Virtual address of a free list's head.
pub(super) fn list_head(machine: &Machine, node: usize, zone: usize, order: u64, migrate_type: u64) -> u64 {
    let zone_base = zone as u64 * machine.generation.zones.zone_size;
    machine.direct(node_phys(machine, node)) + zone_base + list_offset(machine, order, migrate_type)
}

/// Offset of a free list's head in its zone.
pub(super) fn list_offset(machine: &Machine, order: u64, migrate_type: u64) -> u64 {
    let layout = machine.generation.zones;
    layout.free_area + order * layout.free_area_size + migrate_type * 16
}

/// The free lists during construction: the first and the last block of each list.
pub(super) struct FreeLists {
    ends: Vec<Option<(u64, u64)>>,
    pages: Vec<u64>,
    types: u64,
    seed: u64,
    /// A block that is not the first one of its list.
    inner: Option<u64>,
}

impl FreeLists {
    pub fn new(machine: &Machine) -> Self {
        let types = machine.generation.zones.migrate_types.unwrap_or(1).min(MIGRATE_TYPES);
        let zones = machine.nodes.len() * ZONES;
        Self {
            ends: vec![None; zones * (ORDERS * types) as usize],
            pages: vec![0; zones],
            types,
            seed: machine.spec.seed,
            inner: None,
        }
    }

    /// The migrate type of a frame's region.
    pub fn migrate_type(&self, pfn: u64) -> u64 {
        Rng::new(self.seed, 4, pfn / REGION_FRAMES).below(self.types)
    }

    pub fn list_of(&self, machine: &Machine, pfn: u64, order: u64) -> usize {
        self.index(machine.node_of(pfn), Machine::zone_of(pfn), order, self.migrate_type(pfn))
    }

    fn index(&self, node: usize, zone: usize, order: u64, migrate_type: u64) -> usize {
        (node * ZONES + zone) * (ORDERS * self.types) as usize + (order * self.types + migrate_type) as usize
    }

    /// Appends a block to a list; returns the previous last block.
    pub fn append(&mut self, list: usize, pfn: u64, node: usize, zone: usize, order: u64) -> Option<u64> {
        self.pages[node * ZONES + zone] += 1 << order;
        let previous = self.ends[list].map(|(_, last)| last);
        let first = self.ends[list].map_or(pfn, |(first, _)| first);
        self.ends[list] = Some((first, pfn));
        if previous.is_some() {
            self.inner = Some(pfn);
        }
        previous
    }

    /// Free pages of a zone.
    pub fn free_pages(&self, node: usize, zone: usize) -> u64 {
        self.pages[node * ZONES + zone]
    }

    /// The pointers `next` and `prev` of a list's head. Both point to the head if the list is empty.
    pub fn ends(
        &self,
        machine: &Machine,
        node: usize,
        zone: usize,
        order: u64,
        migrate_type: u64,
    ) -> (u64, u64) {
        let head = list_head(machine, node, zone, order, migrate_type);
        if migrate_type >= self.types {
            return (head, head);
        }
        let lru = |pfn: u64| machine.struct_page(pfn) + machine.generation.page.lru;
        match self.ends[self.index(node, zone, order, migrate_type)] {
            Some((first, last)) => (lru(first), lru(last)),
            None => (head, head),
        }
    }

    /// Damages one list if the machine has such a fault.
    pub fn damage_one(&self, machine: &Machine, out: &SparseCore<'_>) -> Result<()> {
        let Some(inner) = self.inner else { return Ok(()) };
        let lru = machine.struct_page(inner) + machine.generation.page.lru;
        let place = machine.struct_page_phys(inner) + machine.generation.page.lru;
        for fault in &machine.spec.faults {
            match fault {
                Fault::FreeListLoop => out.write_u64(place, lru)?,
                Fault::FreeListBroken => out.write_u64(place + 8, lru + 0x1000)?,
                _ => {}
            }
        }
        Ok(())
    }
}
