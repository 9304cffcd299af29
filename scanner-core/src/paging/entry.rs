//! A page table entry, and the level of its table.
//!
//! Sources: Intel SDM volume 3, 4.5 (4-level and 5-level paging); AMD APM volume 2, 5.3.

use crate::addr::{PhysAddr, VirtAddr};

/// Number of entries of a table. An entry has 8 bytes, so a table fills one page frame.
pub const ENTRIES: usize = 512;

/// The address bits of an entry, 51:12.
pub(super) const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

bitflags::bitflags! {
    /// The flag bits of an entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// The entry maps a page or points to a table. If clear, the processor ignores all other bits.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// User-mode accesses are allowed.
        const USER = 1 << 2;
        /// Write-through caching.
        const PWT = 1 << 3;
        /// Caching is disabled.
        const PCD = 1 << 4;
        /// The processor has used the entry.
        const ACCESSED = 1 << 5;
        /// The processor has written to the page.
        const DIRTY = 1 << 6;
        /// In a PMD or PUD entry (the SDM's PS bit): the entry maps a 2 MiB or 1 GiB page instead of pointing to a
        /// table.
        const HUGE = 1 << 7;
        /// In a PTE: selects the memory type. The bit is the same as [`HUGE`](Self::HUGE).
        const PAT = 1 << 7;
        /// The translation stays in the TLB when CR3 changes.
        const GLOBAL = 1 << 8;
        /// In an entry that maps a 2 MiB or 1 GiB page: selects the memory type. Not part of the address.
        const PAT_LARGE = 1 << 12;
        /// Instruction fetches are not allowed.
        const NX = 1 << 63;
    }
}

/// The level of a table. The names are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Entries map 4 KiB pages.
    Pte = 1,
    /// Entries map 2 MiB pages or point to tables of PTEs.
    Pmd = 2,
    /// Entries map 1 GiB pages or point to tables of PMDs.
    Pud = 3,
    /// The top level of 4-level paging. An entry covers 512 GiB.
    P4d = 4,
    /// The top level of 5-level paging. An entry covers 256 TiB.
    Pgd = 5,
}

impl Level {
    /// The level of the table that CR3 points to.
    pub const fn top(five_level: bool) -> Self {
        if five_level { Self::Pgd } else { Self::P4d }
    }

    /// The number of the level: 5 for the PGD of 5-level paging, down to 1 for the PTE.
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

    /// The lowest address bit that selects an entry. An entry covers `1 << shift()` bytes.
    pub const fn shift(self) -> u32 {
        match self {
            Self::Pte => 12,
            Self::Pmd => 21,
            Self::Pud => 30,
            Self::P4d => 39,
            Self::Pgd => 48,
        }
    }

    /// Bytes that one entry covers.
    pub const fn entry_span(self) -> u64 {
        1 << self.shift()
    }

    /// Bytes that one table covers.
    pub const fn table_span(self) -> u64 {
        self.entry_span() << ENTRIES.trailing_zeros()
    }

    /// Whether `addr` is canonical if this is the top level: the bits above the translated ones must all equal the
    /// highest translated bit. The processor refuses other addresses.
    pub const fn is_canonical(self, addr: VirtAddr) -> bool {
        let half = self.table_span() >> 1;
        addr.as_u64().wrapping_add(half) < self.table_span()
    }

    /// The index of the entry for `addr` in its table; always less than [`ENTRIES`].
    pub const fn index(self, addr: VirtAddr) -> usize {
        (addr.as_u64() >> self.shift()) as usize & (ENTRIES - 1)
    }
}

/// An entry as it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The flags, without the address bits.
    pub const fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }

    /// Whether the entry, in a table of `level`, maps a page; otherwise it points to a table. Meaningful only if
    /// [`EntryFlags::PRESENT`] is set.
    pub const fn maps_page(self, level: Level) -> bool {
        matches!(level, Level::Pte)
            || matches!(level, Level::Pmd | Level::Pud) && self.flags().contains(EntryFlags::HUGE)
    }

    /// The physical address in the entry of a table of `level`: that of the page that it maps, or that of the table
    /// that it points to (see [`maps_page`](Self::maps_page)). The address excludes the encryption bit `sme_mask` and,
    /// for a large page, the bits below the page size.
    pub const fn address(self, level: Level, sme_mask: u64) -> PhysAddr {
        let address = self.0 & ADDRESS_MASK & !sme_mask;
        if self.maps_page(level) {
            PhysAddr::new(address & !offset_mask(level.entry_span()))
        } else {
            PhysAddr::new(address)
        }
    }
}

/// A table, and the part of the address space that it covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) level: Level,
    pub(super) phys: PhysAddr,
    /// Any address that the table covers.
    pub(super) virt: VirtAddr,
}

impl Table {
    /// Whether the table covers `addr`.
    pub(super) const fn covers(&self, addr: VirtAddr) -> bool {
        (self.virt.as_u64() ^ addr.as_u64()) < self.level.table_span()
    }
}

/// The address bits below `size`, a power of two.
pub(super) const fn offset_mask(size: u64) -> u64 {
    size.wrapping_sub(1)
}

/// Bytes from `addr` to the next multiple of `span`, a power of two.
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
