//! Addresses of symbols in the kernel's image.

use super::machine::{KERNEL_PHYS, Machine, ROOT_PHYS};

/// Addresses of symbols in the kernel's image.
pub(super) struct Symbols {
    pub stext: u64,
    pub init_uts_ns: u64,
    pub node_online_map: u64,
    pub node_data: u64,
    pub root_table: u64,
    pub mem_map: u64,
    pub free_huge_page: u64,
}

impl Symbols {
    pub fn of(machine: &Machine) -> Self {
        let at = |offset: u64| machine.kernel_virt + offset;
        Self {
            stext: at(0),
            free_huge_page: at(0x12_3450),
            init_uts_ns: at(0x60_0000),
            node_online_map: at(0x60_1000),
            node_data: at(0x60_2000),
            root_table: at(ROOT_PHYS - KERNEL_PHYS),
            mem_map: at(0x60_5000),
        }
    }
}
