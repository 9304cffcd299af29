//! One entry of a page table, and the level of the table it stands in.
//!
//! Sources: Intel SDM volume 3, 4.5 (4-level and 5-level paging); AMD APM volume 2, 5.3.

use crate::addr::{PhysAddr, VirtAddr};

/// Entries of one table; with 8 bytes each, a table fills one page frame.
pub const ENTRIES: usize = 512;

/// Bits 51:12, the largest address that an entry can hold.
pub(super) const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

bitflags::bitflags! {
    /// What an entry says besides an address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// The entry maps a page or points to a table. Clear: the other bits mean nothing to the processor.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// User mode may access.
        const USER = 1 << 2;
        /// Write-through caching.
        const PWT = 1 << 3;
        /// Caching disabled.
        const PCD = 1 << 4;
        /// The processor has used the entry.
        const ACCESSED = 1 << 5;
        /// The processor has written to the page.
        const DIRTY = 1 << 6;
        /// In a PMD or PUD entry (there called PS): the entry maps a 2 MiB or 1 GiB page instead of pointing to
        /// a table.
        const HUGE = 1 << 7;
        /// In a PTE: the same bit as [`HUGE`](Self::HUGE) selects the memory type.
        const PAT = 1 << 7;
        /// The translation survives a change of CR3.
        const GLOBAL = 1 << 8;
        /// In an entry that maps a 2 MiB or 1 GiB page: selects the memory type. No part of the address.
        const PAT_LARGE = 1 << 12;
        /// No instruction may be fetched.
        const NX = 1 << 63;
    }
}

/// The level of a table, named as the kernel names its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Entries map 4 KiB pages.
    Pte = 1,
    /// Entries map 2 MiB pages or point to tables of PTEs.
    Pmd = 2,
    /// Entries map 1 GiB pages or point to tables of PMDs.
    Pud = 3,
    /// The top level of 4-level paging. An entry stands for 512 GiB.
    P4d = 4,
    /// The top level of 5-level paging. An entry stands for 256 TiB.
    Pgd = 5,
}

impl Level {
    /// The level of the table that CR3 points to.
    pub const fn top(five_level: bool) -> Self {
        if five_level { Self::Pgd } else { Self::P4d }
    }

    /// 5 for the PGD of 5-level paging down to 1 for the PTE.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The level of the tables that this level's entries point to.
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::Pte => None,
            Self::Pmd => Some(Self::Pte),
            Self::Pud => Some(Self::Pmd),
            Self::P4d => Some(Self::Pud),
            Self::Pgd => Some(Self::P4d),
        }
    }

    /// The lowest address bit that selects an entry: an entry stands for `1 << shift()` bytes.
    pub const fn shift(self) -> u32 {
        match self {
            Self::Pte => 12,
            Self::Pmd => 21,
            Self::Pud => 30,
            Self::P4d => 39,
            Self::Pgd => 48,
        }
    }

    /// Bytes that one entry stands for.
    pub const fn entry_span(self) -> u64 {
        1 << self.shift()
    }

    /// Bytes that one table stands for.
    pub const fn table_span(self) -> u64 {
        self.entry_span() << ENTRIES.trailing_zeros()
    }

    /// Whether tables with this level at the top reach `addr`: all bits above their reach must equal the topmost
    /// one of it, or the processor refuses the address.
    pub const fn is_canonical(self, addr: VirtAddr) -> bool {
        let half = self.table_span() >> 1;
        addr.as_u64().wrapping_add(half) < self.table_span()
    }

    /// Which entry of its table stands for `addr`; always less than [`ENTRIES`].
    pub const fn index(self, addr: VirtAddr) -> usize {
        (addr.as_u64() >> self.shift()) as usize & (ENTRIES - 1)
    }
}

/// An entry as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The flags, without the address bits.
    pub const fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }

    /// Whether the entry, standing at `level`, maps a page; otherwise it points to a table. Meaningful only if
    /// [`EntryFlags::PRESENT`] is set.
    pub const fn maps_page(self, level: Level) -> bool {
        matches!(level, Level::Pte)
            || matches!(level, Level::Pmd | Level::Pud) && self.flags().contains(EntryFlags::HUGE)
    }

    /// The page frame that the entry, standing at `level`, maps or (see [`maps_page`](Self::maps_page)) the
    /// table that it points to. The encryption bit `sme_mask` is no part of the address, and neither are the
    /// bits of a large page's entry below its size.
    pub const fn address(self, level: Level, sme_mask: u64) -> PhysAddr {
        let address = self.0 & ADDRESS_MASK & !sme_mask;
        if self.maps_page(level) {
            PhysAddr::new(address & !offset_mask(level.entry_span()))
        } else {
            PhysAddr::new(address)
        }
    }
}

/// A table, and the part of the address space that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) level: Level,
    pub(super) phys: PhysAddr,
    /// Any address that the table stands for.
    pub(super) virt: VirtAddr,
}

impl Table {
    /// Whether the table stands for `addr`.
    pub(super) const fn covers(&self, addr: VirtAddr) -> bool {
        (self.virt.as_u64() ^ addr.as_u64()) < self.level.table_span()
    }
}

/// The address bits below `size`, a power of two.
pub(super) const fn offset_mask(size: u64) -> u64 {
    size.wrapping_sub(1)
}

/// Bytes from `addr` on up to the next multiple of `span`, a power of two.
pub(super) const fn bytes_to_border(addr: VirtAddr, span: u64) -> u64 {
    span.wrapping_sub(addr.as_u64() & offset_mask(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_keeps_neither_pat_nor_encryption_bit_in_its_address() {
        let c_bit = 1 << 47;
        let entry = Entry(0x12_3460_0000 | c_bit | (EntryFlags::PRESENT | EntryFlags::HUGE).bits());
        let with_pat = Entry(entry.0 | EntryFlags::PAT_LARGE.bits() | EntryFlags::NX.bits() | 0x7ff << 52);
        for entry in [entry, with_pat] {
            assert_eq!(entry.address(Level::Pmd, c_bit), PhysAddr::new(0x12_3460_0000));
            assert_eq!(entry.address(Level::Pud, c_bit), PhysAddr::new(0x12_0000_0000));
            assert_eq!(entry.address(Level::Pmd, 0), PhysAddr::new(0x12_3460_0000 | c_bit));
        }
    }

    #[test]
    fn the_pat_bit_of_a_pte_is_no_page_size() {
        let entry = Entry(0x5000 | (EntryFlags::PRESENT | EntryFlags::PAT).bits());
        assert!(entry.maps_page(Level::Pte));
        assert_eq!(entry.address(Level::Pte, 0), PhysAddr::new(0x5000));
    }

    #[test]
    fn only_pmd_and_pud_know_large_pages() {
        let entry = Entry(u64::MAX);
        assert!(entry.maps_page(Level::Pud) && entry.maps_page(Level::Pmd));
        assert!(!entry.maps_page(Level::P4d) && !entry.maps_page(Level::Pgd));
        assert_eq!(entry.address(Level::P4d, 0), PhysAddr::new(ADDRESS_MASK));
    }

    #[test]
    fn levels_split_an_address_into_indexes() {
        let addr = VirtAddr::new(3 << 48 | 511 << 39 | 7 << 30 | 1 << 21 | 300 << 12 | 0xabc);
        let indexes = [Level::Pgd, Level::P4d, Level::Pud, Level::Pmd, Level::Pte].map(|l| l.index(addr));
        assert_eq!(indexes, [3, 511, 7, 1, 300]);
        assert_eq!(Level::Pgd.below().unwrap().table_span(), Level::Pgd.entry_span());
        assert_eq!(Level::Pgd.table_span(), 1 << 57);
    }
}
