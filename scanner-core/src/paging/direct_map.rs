//! Builds page tables that map physical memory at a fixed offset; offset 0 is an identity map.
//!
//! The purgatory stage must map the dead kernel's memory before it can read it. Memory consists of a few large ranges,
//! so large pages keep the tables small: mapping 1 TiB takes 2 GiB of PTEs, 4 MiB of PMDs, or two tables of PUDs.

use super::entry::{ADDRESS_MASK, ENTRIES, EntryFlags, Level, Table, bytes_to_border, offset_mask};
use super::walk::AddressSpace;
use crate::addr::{PAGE_SHIFT, PHYS_ADDR_BITS, Pfn, PfnRange, PhysAddr, VirtAddr};
use core::fmt;

/// The flags of every entry. Accessed and dirty are set in advance, so the processor never writes to the tables. NX is
/// clear, since the purgatory stage runs from the map.
const FLAGS: EntryFlags =
    EntryFlags::PRESENT.union(EntryFlags::WRITABLE).union(EntryFlags::ACCESSED).union(EntryFlags::DIRTY);

/// The levels whose entries can map a page, largest page first.
const PAGE_LEVELS: [Level; 3] = [Level::Pud, Level::Pmd, Level::Pte];

/// The levels of tables below the root.
const INNER_LEVELS: [Level; 4] = [Level::P4d, Level::Pud, Level::Pmd, Level::Pte];

/// Options of a direct map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectMapOptions {
    /// Build five levels. Must agree with the processor's CR4.LA57.
    pub five_level: bool,
    /// Use 1 GiB pages where they fit. The processor must support them (CPUID 8000_0001h, EDX bit 26).
    pub use_1g: bool,
    /// Use 2 MiB pages where they fit.
    pub use_2m: bool,
    /// Mask of the memory encryption bit (AMD SME), which is set in every entry; 0 for none.
    pub sme_mask: u64,
    /// Virtual minus physical address, a multiple of 4 KiB; 0 for an identity map. A large page is used only if the
    /// offset is a multiple of its size.
    pub offset: u64,
}

/// Why a direct map cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectMapError {
    /// [`DirectMapOptions::offset`] is not a multiple of 4 KiB.
    UnalignedOffset,
    /// [`DirectMapOptions::sme_mask`] has bits outside the address bits (51:12).
    BadEncryptionMask,
    /// A range that passes the largest physical address (52 bits, or the bits below the encryption bit), or whose
    /// virtual addresses are not canonical.
    OutOfRange(PfnRange),
    /// The pool has too few tables.
    PoolExhausted {
        /// Number of tables that the whole map needs.
        needed: u64,
    },
    /// The pool allocated a table whose address is unaligned or does not fit an entry.
    BadTable(PhysAddr),
}

impl fmt::Display for DirectMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnalignedOffset => f.write_str("direct map: the offset is not a multiple of 4 KiB"),
            Self::BadEncryptionMask => f.write_str("direct map: the encryption mask has bits outside 51:12"),
            Self::OutOfRange(range) => write!(f, "direct map: page frames {range} are out of range"),
            Self::PoolExhausted { needed } => write!(f, "direct map: too few page tables ({needed} needed)"),
            Self::BadTable(addr) => write!(f, "direct map: {addr} cannot hold a page table"),
        }
    }
}

impl core::error::Error for DirectMapError {}

/// Allocates and writes the tables of a direct map.
pub trait TablePool {
    /// Allocates a page frame for a table, with all entries 0. `None` if the pool is exhausted.
    fn allocate(&mut self) -> Option<PhysAddr>;

    /// Writes `entries` to the table at `table`, starting with index `first`. [`allocate`](Self::allocate) returned
    /// `table`. Never writes past the table's end.
    fn write(&mut self, table: PhysAddr, first: usize, entries: impl Iterator<Item = u64>);
}

/// A pool of tables in physically contiguous memory.
#[derive(Debug)]
pub struct FixedPool<'a> {
    tables: &'a mut [[u64; ENTRIES]],
    start: PhysAddr,
    used: usize,
}

impl<'a> FixedPool<'a> {
    /// A pool of `tables`, whose physical address is `start`.
    pub const fn new(tables: &'a mut [[u64; ENTRIES]], start: PhysAddr) -> Self {
        Self { tables, start, used: 0 }
    }

    /// Number of tables that have been allocated.
    pub const fn used(&self) -> usize {
        self.used
    }
}

impl TablePool for FixedPool<'_> {
    fn allocate(&mut self) -> Option<PhysAddr> {
        let addr =
            self.start.checked_add((self.used as u64).checked_mul(size_of::<[u64; ENTRIES]>() as u64)?)?;
        self.tables.get_mut(self.used)?.fill(0);
        self.used = self.used.saturating_add(1);
        Some(addr)
    }

    fn write(&mut self, table: PhysAddr, first: usize, entries: impl Iterator<Item = u64>) {
        let number = table.as_u64().wrapping_sub(self.start.as_u64()) >> PAGE_SHIFT;
        let slots = self.tables.get_mut(number as usize).and_then(|table| table.get_mut(first..));
        for (slot, entry) in slots.into_iter().flatten().zip(entries) {
            *slot = entry;
        }
    }
}

/// A part of the direct map whose pages all have one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its virtual address.
    pub virt: VirtAddr,
    /// Its physical address.
    pub phys: PhysAddr,
    /// Its size in bytes.
    pub len: u64,
    /// The level of the entries that map it; [`Level::entry_span`] is the size of its pages.
    pub level: Level,
}

/// A direct map that can be built: the ranges are sorted, and all addresses are valid.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap<'a> {
    ranges: &'a [PfnRange],
    options: DirectMapOptions,
}

impl<'a> DirectMap<'a> {
    /// A direct map of exactly `ranges`. The ranges may overlap and may be in any order; they are sorted and merged in
    /// place. See [`covering`] for ranges of bytes.
    ///
    /// # Errors
    /// Any [`DirectMapError`] except `PoolExhausted` and `BadTable`.
    pub fn new(ranges: &'a mut [PfnRange], options: DirectMapOptions) -> Result<Self, DirectMapError> {
        if options.offset & offset_mask(Level::Pte.entry_span()) != 0 {
            return Err(DirectMapError::UnalignedOffset);
        }
        if options.sme_mask & !ADDRESS_MASK != 0 {
            return Err(DirectMapError::BadEncryptionMask);
        }
        let map = Self { ranges: sort_and_merge(ranges), options };
        match map.ranges.iter().find(|range| !map.can_map(**range)) {
            Some(range) => Err(DirectMapError::OutOfRange(*range)),
            None => Ok(map),
        }
    }

    /// The spans of the map, in ascending order of physical addresses. A range has at most five spans.
    pub fn spans(&self) -> impl Iterator<Item = Span> + use<'a> {
        let map = *self;
        map.ranges.iter().flat_map(move |range| {
            let mut at = range.start.addr().as_u64();
            let end = range.end.addr().as_u64();
            core::iter::from_fn(move || {
                let span = map.span(at, end)?;
                at = at.saturating_add(span.len);
                Some(span)
            })
        })
    }

    /// Number of tables that [`build`](Self::build) allocates.
    pub fn tables_needed(&self) -> u64 {
        let mut count = CountingPool(0);
        // Cannot fail: this pool is never exhausted, and its table address is valid.
        let _ = self.build(&mut count);
        count.0
    }

    /// Builds the tables. The root of the result is the value for CR3 (plus the encryption mask, if there is one).
    ///
    /// # Errors
    /// [`DirectMapError::PoolExhausted`] or [`DirectMapError::BadTable`]. The tables are then incomplete.
    pub fn build<P: TablePool>(&self, pool: &mut P) -> Result<AddressSpace, DirectMapError> {
        let mut tables = Tables::new(self, pool)?;
        for span in self.spans() {
            tables.map(span)?;
        }
        let DirectMapOptions { five_level, sme_mask, .. } = self.options;
        Ok(AddressSpace { root: tables.root.phys, five_level, sme_mask })
    }

    /// Whether all physical and virtual addresses of `range` are valid.
    fn can_map(&self, range: PfnRange) -> bool {
        let address_bits = match self.options.sme_mask {
            0 => PHYS_ADDR_BITS,
            // The address bits from the encryption bit on are not available.
            mask => mask.trailing_zeros(),
        };
        let last = range.end.as_u64().saturating_sub(1);
        if last >> address_bits.saturating_sub(PAGE_SHIFT) != 0 {
            return false;
        }
        let (first, last) = (self.virt(range.start.addr()), self.virt(Pfn::new(last).addr()));
        let top = Level::top(self.options.five_level);
        // The gap between the canonical halves is larger than physical memory, so no range can span it.
        first <= last && top.is_canonical(first) && top.is_canonical(last)
    }

    /// The virtual address of `phys` in the map.
    const fn virt(&self, phys: PhysAddr) -> VirtAddr {
        VirtAddr::new(phys.as_u64().wrapping_add(self.options.offset))
    }

    /// The longest span that starts at physical address `at` and ends at or before `end`, with the largest page that
    /// fits.
    fn span(&self, at: u64, end: u64) -> Option<Span> {
        let mut larger_page = None;
        for level in PAGE_LEVELS.into_iter().filter(|level| self.may_use(*level)) {
            let page = level.entry_span();
            let pages_end = end & !offset_mask(page);
            if at & offset_mask(page) == 0 && at < pages_end {
                // The span ends where a larger page fits, or after the last page of this size.
                let larger_begin = larger_page.and_then(|larger| first_page(larger, at, end));
                let span_end = larger_begin.unwrap_or(pages_end);
                let phys = PhysAddr::new(at);
                return Some(Span { virt: self.virt(phys), phys, len: span_end.saturating_sub(at), level });
            }
            larger_page = Some(page);
        }
        None
    }

    /// Whether pages of `level` are allowed, and the offset keeps them aligned.
    const fn may_use(&self, level: Level) -> bool {
        let allowed = match level {
            Level::Pte => true,
            Level::Pmd => self.options.use_2m,
            Level::Pud => self.options.use_1g,
            Level::P4d | Level::Pgd => false,
        };
        allowed && self.options.offset & offset_mask(level.entry_span()) == 0
    }
}

/// The start of the first page of `size` bytes, a power of two, that fits into `at..end`.
fn first_page(size: u64, at: u64, end: u64) -> Option<u64> {
    let begin = at.checked_add(offset_mask(size))? & !offset_mask(size);
    (begin.checked_add(size)? <= end).then_some(begin)
}

/// The page frames that contain the `len` bytes from `addr` on.
pub const fn covering(addr: PhysAddr, len: u64) -> PfnRange {
    let end = match addr.checked_add(len) {
        Some(end) => end.pfn_ceil(),
        // After every valid frame, so that `DirectMap::new` refuses the range.
        None => Pfn::new(u64::MAX),
    };
    if len == 0 { PfnRange::new(end, end) } else { PfnRange::new(addr.pfn(), end) }
}

/// Sorts `ranges` and merges those that overlap or are adjacent. Returns the resulting ranges.
fn sort_and_merge(ranges: &mut [PfnRange]) -> &[PfnRange] {
    // Insertion sort: memory maps are nearly sorted, and core's sorts have a path to a panic.
    for sorted in 1..ranges.len() {
        for at in (0..sorted).rev() {
            match ranges.get_mut(at..).and_then(<[_]>::first_chunk_mut) {
                Some([low, high]) if high.start.as_u64() < low.start.as_u64() => core::mem::swap(low, high),
                _ => break,
            }
        }
    }
    let mut kept: usize = 0;
    for at in 0..ranges.len() {
        let Some(range) = ranges.get(at).copied().filter(|range| !range.is_empty()) else { continue };
        match kept.checked_sub(1).and_then(|last| ranges.get_mut(last)) {
            Some(last) if range.start.as_u64() <= last.end.as_u64() => {
                if range.end.as_u64() > last.end.as_u64() {
                    last.end = range.end;
                }
            }
            _ => {
                if let Some(free) = ranges.get_mut(kept) {
                    *free = range;
                }
                kept = kept.saturating_add(1);
            }
        }
    }
    ranges.get(..kept).unwrap_or_default()
}

/// The tables under construction. Addresses ascend, so only the newest table of each level is written to.
struct Tables<'p, P> {
    pool: &'p mut P,
    map: DirectMap<'p>,
    root: Table,
    /// The newest table of each of [`INNER_LEVELS`].
    newest: [Option<Table>; INNER_LEVELS.len()],
}

impl<'p, P: TablePool> Tables<'p, P> {
    fn new(map: &DirectMap<'p>, pool: &'p mut P) -> Result<Self, DirectMapError> {
        let level = Level::top(map.options.five_level);
        let root = Table { level, phys: allocate(pool, map)?, virt: VirtAddr::new(0) };
        Ok(Self { pool, map: *map, root, newest: [None; _] })
    }

    /// Writes the entries for `span`, table by table.
    fn map(&mut self, span: Span) -> Result<(), DirectMapError> {
        let huge = if span.level == Level::Pte { EntryFlags::empty() } else { EntryFlags::HUGE };
        let low_bits = self.map.options.sme_mask | FLAGS.union(huge).bits();
        let mut done = 0;
        while done < span.len {
            let virt = VirtAddr::new(span.virt.as_u64().wrapping_add(done));
            let table = self.table(virt, span.level)?;
            let in_table = bytes_to_border(virt, span.level.table_span());
            let len = in_table.min(span.len.saturating_sub(done));
            let start = span.phys.as_u64().saturating_add(done);
            let shift = span.level.shift();
            let pages = (0..len >> shift).map(|page| start.saturating_add(page << shift));
            self.pool.write(table.phys, span.level.index(virt), pages.map(|phys| phys | low_bits));
            done = done.saturating_add(len);
        }
        Ok(())
    }

    /// The table of `level` that covers `virt`. Allocates it and the tables above it if they do not exist.
    fn table(&mut self, virt: VirtAddr, level: Level) -> Result<Table, DirectMapError> {
        let mut table = self.root;
        let below =
            INNER_LEVELS.into_iter().zip(&mut self.newest).filter(|(inner, _)| *inner < self.root.level);
        for (inner, newest) in below.take_while(|(inner, _)| *inner >= level) {
            table = match *newest {
                Some(known) if known.covers(virt) => known,
                _ => {
                    let phys = allocate(self.pool, &self.map)?;
                    // Dirty has no meaning in an entry that points to a table.
                    let flags = FLAGS.difference(EntryFlags::DIRTY).bits() | self.map.options.sme_mask;
                    let entry = phys.as_u64() | flags;
                    self.pool.write(table.phys, table.level.index(virt), core::iter::once(entry));
                    *newest.insert(Table { level: inner, phys, virt })
                }
            };
        }
        Ok(table)
    }
}

/// Allocates a table whose address fits an entry.
fn allocate<P: TablePool>(pool: &mut P, map: &DirectMap<'_>) -> Result<PhysAddr, DirectMapError> {
    match pool.allocate() {
        Some(addr) if addr.as_u64() & (!ADDRESS_MASK | map.options.sme_mask) == 0 => Ok(addr),
        Some(addr) => Err(DirectMapError::BadTable(addr)),
        None => Err(DirectMapError::PoolExhausted { needed: map.tables_needed() }),
    }
}

/// Counts allocations.
struct CountingPool(u64);

impl TablePool for CountingPool {
    fn allocate(&mut self) -> Option<PhysAddr> {
        self.0 = self.0.saturating_add(1);
        Some(PhysAddr::new(0))
    }

    fn write(&mut self, _: PhysAddr, _: usize, _: impl Iterator<Item = u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    const LARGE: DirectMapOptions =
        DirectMapOptions { five_level: false, use_1g: true, use_2m: true, sme_mask: 0, offset: 0 };

    fn frames(start: u64, end: u64) -> PfnRange {
        PfnRange::new(Pfn::new(start), Pfn::new(end))
    }

    #[test]
    fn ranges_are_sorted_and_merged() {
        let mut ranges = [
            frames(50, 60),
            frames(5, 5),
            frames(10, 20),
            frames(9, 2),
            frames(20, 30),
            frames(12, 15),
            frames(0, 9),
        ];
        assert_eq!(sort_and_merge(&mut ranges), [frames(0, 9), frames(10, 30), frames(50, 60)]);
        assert_eq!(sort_and_merge(&mut []), []);
    }

    #[test]
    fn bytes_are_covered_by_whole_frames() {
        assert_eq!(covering(PhysAddr::new(0x1fff), 2), frames(1, 3));
        assert_eq!(covering(PhysAddr::new(0x1000), 0x1000), frames(1, 2));
        assert!(covering(PhysAddr::new(0x1234), 0).is_empty());
        let mut beyond = [covering(PhysAddr::new(u64::MAX - 10), 100)];
        assert!(matches!(DirectMap::new(&mut beyond, LARGE), Err(DirectMapError::OutOfRange(_))));
    }

    #[test]
    fn a_range_takes_small_pages_at_its_ends_and_large_ones_inside() {
        let mut ranges = [frames(0x3_fdff, 0x8_0201)];
        let map = DirectMap::new(&mut ranges, LARGE).unwrap();
        let spans: Vec<_> =
            map.spans().map(|span| (span.phys.pfn().as_u64(), span.len >> 12, span.level)).collect();
        assert_eq!(
            spans,
            [
                (0x3_fdff, 1, Level::Pte),
                (0x3_fe00, 0x200, Level::Pmd),
                (0x4_0000, 0x4_0000, Level::Pud),
                (0x8_0000, 0x200, Level::Pmd),
                (0x8_0200, 1, Level::Pte),
            ]
        );
        // The root, one PUD table, and a PMD and a PTE table at either end.
        assert_eq!(map.tables_needed(), 6);
        let five_level = DirectMapOptions { five_level: true, ..LARGE };
        assert_eq!(DirectMap::new(&mut [frames(0x3_fdff, 0x8_0201)], five_level).unwrap().tables_needed(), 7);
    }

    #[test]
    fn a_tebibyte_takes_as_many_tables_as_its_pages_are_small() {
        for (use_1g, use_2m, tables) in [
            (true, true, 3),
            (true, false, 3),
            (false, true, 3 + 1024),
            (false, false, 3 + 1024 + 512 * 1024),
        ] {
            let options = DirectMapOptions { use_1g, use_2m, ..LARGE };
            let mut ranges = [frames(0, 1 << 28)];
            assert_eq!(DirectMap::new(&mut ranges, options).unwrap().tables_needed(), tables);
        }
    }

    #[test]
    fn what_no_entry_can_hold_is_refused() {
        let refused = |range: PfnRange, options| DirectMap::new(&mut [range], options).unwrap_err();
        let out_of_range = |range| DirectMapError::OutOfRange(range);
        let five = DirectMapOptions { five_level: true, ..LARGE };
        let last_of_47_bits = frames((1 << 35) - 1, 1 << 35);
        let beyond_47_bits = frames((1 << 35) - 1, (1 << 35) + 1);
        assert!(DirectMap::new(&mut [last_of_47_bits], LARGE).is_ok());
        assert_eq!(refused(beyond_47_bits, LARGE), out_of_range(beyond_47_bits));
        assert!(DirectMap::new(&mut [beyond_47_bits], five).is_ok());
        // All of physical memory, in 57 bits.
        assert!(DirectMap::new(&mut [frames(0, 1 << 40)], five).is_ok());
        assert_eq!(refused(frames(0, (1 << 40) + 1), five), out_of_range(frames(0, (1 << 40) + 1)));
        // The encryption bit cuts the physical addresses.
        let encrypted = DirectMapOptions { sme_mask: 1 << 46, ..five };
        assert_eq!(refused(last_of_47_bits, encrypted), out_of_range(last_of_47_bits));
        // A map that would pass the end of the virtual address space.
        let wrapping = DirectMapOptions { offset: 0xffff_ffff_ffff_f000, ..LARGE };
        assert_eq!(refused(frames(0, 2), wrapping), out_of_range(frames(0, 2)));
        let unaligned = DirectMapOptions { offset: 0x800, ..LARGE };
        assert_eq!(refused(frames(0, 1), unaligned), DirectMapError::UnalignedOffset);
        let present_bit = DirectMapOptions { sme_mask: 1, ..LARGE };
        assert_eq!(refused(frames(0, 1), present_bit), DirectMapError::BadEncryptionMask);
    }

    #[test]
    fn a_pool_that_is_too_small_says_what_is_needed() {
        let mut ranges = [frames(0, 1)];
        let map = DirectMap::new(&mut ranges, LARGE).unwrap();
        for size in 0..4 {
            let mut tables = std::vec![[0; ENTRIES]; size];
            let error = map.build(&mut FixedPool::new(&mut tables, PhysAddr::new(0x1000))).unwrap_err();
            assert_eq!(error, DirectMapError::PoolExhausted { needed: 4 });
            assert!(error.to_string().contains("(4 needed)"));
        }
        let mut tables = std::vec![[0; ENTRIES]; 4];
        assert!(map.build(&mut FixedPool::new(&mut tables, PhysAddr::new(0x1000))).is_ok());
        let error = map.build(&mut FixedPool::new(&mut tables, PhysAddr::new(0x1008))).unwrap_err();
        assert_eq!(error, DirectMapError::BadTable(PhysAddr::new(0x1008)));
    }

    #[test]
    fn entries_carry_the_flags_and_the_encryption_bit() {
        let options = DirectMapOptions { sme_mask: 1 << 47, use_1g: false, ..LARGE };
        let mut ranges = [frames(0x200, 0x401)];
        let mut tables = std::vec![[0; ENTRIES]; 4];
        let mut pool = FixedPool::new(&mut tables, PhysAddr::new(0x10_0000));
        let space = DirectMap::new(&mut ranges, options).unwrap().build(&mut pool).unwrap();
        assert_eq!(space.root, PhysAddr::new(0x10_0000));
        let c_bit = 1_u64 << 47;
        // The tables come from the top down: root, PUD, PMD, PTE.
        assert_eq!(tables[0][0], 0x10_1000 | c_bit | 0x23);
        assert_eq!(tables[1][0], 0x10_2000 | c_bit | 0x23);
        assert_eq!(tables[2][..4], [0, 0x20_0000 | c_bit | 0xe3, 0x10_3000 | c_bit | 0x23, 0]);
        assert_eq!(tables[3][..2], [0x40_0000 | c_bit | 0x63, 0]);
    }
}
