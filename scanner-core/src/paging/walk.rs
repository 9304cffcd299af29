//! Translates virtual addresses of the kernel under inspection.

use super::entry::{ADDRESS_MASK, Entry, EntryFlags, Level, Table, bytes_to_border, offset_mask};
use crate::addr::{PhysAddr, VirtAddr};
use crate::memory::{PhysicalMemory, ReadError};

/// The start of the kernel image mapping (`__START_KERNEL_map`), which maps physical address `phys_base`.
pub const START_KERNEL_MAP: VirtAddr = VirtAddr::new(0xffff_ffff_8000_0000);

/// The page tables of the kernel under inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Physical address of the top-level table.
    pub root: PhysAddr,
    /// Whether the page tables have five levels (57-bit addresses).
    pub five_level: bool,
    /// Mask of the memory encryption bit (AMD SME). Entries have it set; it is not part of the address. 0 without SME.
    pub sme_mask: u64,
}

/// A physically contiguous part of a virtual range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its virtual address.
    pub virt: VirtAddr,
    /// Its physical address.
    pub phys: PhysAddr,
    /// Its size in bytes.
    pub len: u64,
}

/// A part of a virtual range that cannot be translated, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Its virtual address.
    pub virt: VirtAddr,
    /// Its size in bytes.
    pub len: u64,
    /// The reason: an entry that is not present, or a table that cannot be read.
    pub error: ReadError,
}

impl AddressSpace {
    /// The kernel's page tables, from VMCOREINFO: `SYMBOL(init_top_pgt)`, `NUMBER(phys_base)`,
    /// `NUMBER(pgtable_l5_enabled)` and `NUMBER(sme_mask)`.
    ///
    /// `phys_base` is negative, in two's complement, if the kernel is loaded below the physical address that it is
    /// linked for. `None` if the symbol is not in the kernel image mapping, or if the resulting address is unaligned or
    /// has more than 52 bits.
    pub const fn from_symbol(
        init_top_pgt: VirtAddr,
        phys_base: u64,
        five_level: bool,
        sme_mask: u64,
    ) -> Option<Self> {
        let Some(offset) = init_top_pgt.as_u64().checked_sub(START_KERNEL_MAP.as_u64()) else {
            return None;
        };
        let root = offset.wrapping_add(phys_base);
        if root & !ADDRESS_MASK != 0 {
            return None;
        }
        Some(Self { root: PhysAddr::new(root), five_level, sme_mask })
    }

    /// Whether the processor accepts `addr`; see [`Level::is_canonical`].
    pub const fn is_canonical(&self, addr: VirtAddr) -> bool {
        Level::top(self.five_level).is_canonical(addr)
    }

    /// Translates `addr`. The piece ends where the page ends that contains `addr`.
    ///
    /// # Errors
    /// See [`ReadError`]. An address that is not canonical is unmapped at the top level.
    pub fn translate<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        addr: VirtAddr,
    ) -> Result<Piece, ReadError> {
        Walker { space: *self, leaf_table: None }.walk(memory, addr).map_err(|hole| hole.error)
    }

    /// The largest physically contiguous piece that starts at `addr` and has at most `len` bytes. It is empty if `len`
    /// is 0.
    ///
    /// Reads at most one table entry per page of the piece, and walks each table above them once.
    ///
    /// # Errors
    /// Fails if the first byte cannot be translated.
    // `#[inline(never)]` keeps the iterator off the caller's stack while the caller makes deeper calls.
    #[inline(never)]
    pub fn piece<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        addr: VirtAddr,
        len: u64,
    ) -> Result<Piece, ReadError> {
        match self.pieces(memory, addr, len).next() {
            Some(piece) => piece.map_err(|hole| hole.error),
            None => self.translate(memory, addr).map(|piece| Piece { len: 0, ..piece }),
        }
    }

    /// Splits the `len` bytes from `addr` on into parts, in order and without gaps. A part is the largest possible
    /// [`Piece`], or a [`Hole`] that one table entry leaves unmapped (up to 256 TiB). The range is cut at the end of
    /// the address space.
    ///
    /// Reads at most one table entry per 4 KiB of the range, and makes one walk per table.
    pub fn pieces<'m, M: PhysicalMemory + ?Sized>(
        &self,
        memory: &'m M,
        addr: VirtAddr,
        len: u64,
    ) -> Pieces<'m, M> {
        let available = addr.as_u64().wrapping_neg();
        let len = if available == 0 { len } else { len.min(available) };
        Pieces {
            memory,
            walker: Walker { space: *self, leaf_table: None },
            next: addr,
            left: len,
            lookahead: None,
        }
    }

    /// Copies `buf.len()` bytes, starting at virtual address `addr`. The range may cross page boundaries.
    ///
    /// # Errors
    /// See [`ReadError`]; `buf` may then be partly written.
    // `#[inline(never)]` as for `piece`.
    #[inline(never)]
    pub fn read<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        addr: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut rest = buf;
        for piece in self.pieces(memory, addr, rest.len() as u64) {
            let piece = piece.map_err(|hole| hole.error)?;
            // A piece is never longer than the rest of the range.
            let (part, following) = rest.split_at_mut(rest.len().min(piece.len as usize));
            memory.read(piece.phys, part)?;
            rest = following;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            // The parts have fewer bytes than `buf` only if the range passes the end of the address space.
            Err(ReadError::Unmapped { addr, level: Level::top(self.five_level).number() })
        }
    }

    /// The 64-bit number at `addr`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_u64<M: PhysicalMemory + ?Sized>(&self, memory: &M, addr: VirtAddr) -> Result<u64, ReadError> {
        // The number lies in at most two pages. Iterating over `pieces` would need several times the stack.
        let mut bytes = [0; 8];
        let first = self.translate(memory, addr)?;
        let (head, tail) = bytes.split_at_mut(first.len.min(8) as usize);
        memory.read(first.phys, head)?;
        if !tail.is_empty() {
            let next_page = addr.checked_add(first.len).unwrap_or_default();
            memory.read(self.translate(memory, next_page)?.phys, tail)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Iterator over the parts of a virtual range; see [`AddressSpace::pieces`].
#[derive(Clone, Debug)]
pub struct Pieces<'m, M: ?Sized> {
    memory: &'m M,
    walker: Walker,
    /// The first address that has not been translated.
    next: VirtAddr,
    /// Bytes of the range that start at `next`.
    left: u64,
    /// The part that ended the last piece. The next part starts with it.
    lookahead: Option<Result<Piece, Hole>>,
}

// The panic path has 1 KiB of stack in total.
static_assertions::const_assert!(size_of::<Pieces<'static, ()>>() <= 104);

impl<M: PhysicalMemory + ?Sized> Pieces<'_, M> {
    /// The part of the range that the next table entry covers.
    // Inlined: saves a stack frame in the panic path.
    #[inline(always)]
    fn next_entry(&mut self) -> Option<Result<Piece, Hole>> {
        if self.left == 0 {
            return None;
        }
        let mut part = self.walker.walk(self.memory, self.next);
        let len = match &mut part {
            Ok(Piece { len, .. }) | Err(Hole { len, .. }) => {
                *len = self.left.min(*len);
                *len
            }
        };
        self.left = self.left.saturating_sub(len);
        // Wraps to 0 at the end of the address space, where `left` is also 0.
        self.next = VirtAddr::new(self.next.as_u64().wrapping_add(len));
        Some(part)
    }
}

impl<M: PhysicalMemory + ?Sized> Iterator for Pieces<'_, M> {
    type Item = Result<Piece, Hole>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.lookahead.take() {
            Some(part) => part,
            None => self.next_entry()?,
        };
        let Ok(mut piece) = first else { return Some(first) };
        loop {
            match self.next_entry() {
                Some(Ok(more)) if piece.phys.checked_add(piece.len) == Some(more.phys) => {
                    piece.len = piece.len.saturating_add(more.len);
                }
                other => {
                    self.lookahead = other;
                    return Some(Ok(piece));
                }
            }
        }
    }
}

impl<M: PhysicalMemory + ?Sized> core::iter::FusedIterator for Pieces<'_, M> {}

/// Walks the tables from the root down. It caches the last table: adjacent addresses are usually in the same one.
#[derive(Clone, Copy, Debug)]
struct Walker {
    space: AddressSpace,
    leaf_table: Option<Table>,
}

impl Walker {
    /// Translates `addr` and the bytes after it, up to the end of the span of one table entry.
    ///
    /// Terminates for any table contents, since each step goes one level down.
    fn walk<M: PhysicalMemory + ?Sized>(&mut self, memory: &M, addr: VirtAddr) -> Result<Piece, Hole> {
        let space = self.space;
        let top = Level::top(space.five_level);
        let unmapped = |level: Level, span: u64| Hole {
            virt: addr,
            len: bytes_to_border(addr, span),
            error: ReadError::Unmapped { addr, level: level.number() },
        };
        if !space.is_canonical(addr) {
            // No address between the two canonical halves is mapped: the hole ends where the upper half starts.
            let upper_half = (top.table_span() >> 1).wrapping_neg();
            return Err(Hole { len: upper_half.saturating_sub(addr.as_u64()), ..unmapped(top, 1) });
        }
        let mut table = match self.leaf_table {
            Some(table) if table.covers(addr) => table,
            _ => Table { level: top, phys: space.root, virt: addr },
        };
        loop {
            let level = table.level;
            let entry = match read_entry(memory, &table, addr) {
                Ok(entry) => entry,
                Err(error) => {
                    return Err(Hole { error, ..unmapped(level, level.table_span()) });
                }
            };
            self.leaf_table = Some(table);
            if !entry.flags().contains(EntryFlags::PRESENT) {
                return Err(unmapped(level, level.entry_span()));
            }
            let phys = entry.address(level, space.sme_mask);
            match level.below() {
                Some(below) if !entry.maps_page(level) => table = Table { level: below, phys, virt: addr },
                _ => {
                    let offset = addr.as_u64() & offset_mask(level.entry_span());
                    return Ok(Piece {
                        virt: addr,
                        phys: PhysAddr::new(phys.as_u64() | offset),
                        len: bytes_to_border(addr, level.entry_span()),
                    });
                }
            }
        }
    }
}

/// Reads the entry of `table` for `addr`.
fn read_entry<M: PhysicalMemory + ?Sized>(
    memory: &M,
    table: &Table,
    addr: VirtAddr,
) -> Result<Entry, ReadError> {
    // A table is aligned to its size, so OR adds the offset.
    let at = PhysAddr::new(table.phys.as_u64() | (table.level.index(addr) as u64) << 3);
    let mut bytes = [0; size_of::<u64>()];
    memory.read(at, &mut bytes)?;
    Ok(Entry(u64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::sparse::SparseMemory;
    use super::*;
    use std::vec::Vec;

    const PRESENT: u64 = EntryFlags::PRESENT.bits();
    const HUGE: u64 = EntryFlags::PRESENT.bits() | EntryFlags::HUGE.bits();
    const FOUR_LEVEL: AddressSpace =
        AddressSpace { root: PhysAddr::new(0x1000), five_level: false, sme_mask: 0 };
    const FIVE_LEVEL: AddressSpace = AddressSpace { five_level: true, ..FOUR_LEVEL };
    const BASE: u64 = 0xffff_ea00_0000_0000;

    /// Tables at 0x1000 (top), 0x2000, ... down to `lowest`, along the way to `BASE`.
    fn tables_down_to(space: AddressSpace, lowest: Level) -> (SparseMemory, u64) {
        let mut memory = SparseMemory::default();
        let (mut level, mut table) = (Level::top(space.five_level), space.root.as_u64());
        while level > lowest {
            memory.set_entry(table, level, BASE, (table + 0x1000) | PRESENT | space.sme_mask);
            (level, table) = (level.below().unwrap(), table + 0x1000);
        }
        (memory, table)
    }

    fn parts(
        space: AddressSpace,
        memory: &SparseMemory,
        addr: u64,
        len: u64,
    ) -> Vec<(u64, u64, Result<u64, ReadError>)> {
        space
            .pieces(memory, VirtAddr::new(addr), len)
            .map(|part| match part {
                Ok(p) => (p.virt.as_u64(), p.len, Ok(p.phys.as_u64())),
                Err(h) => (h.virt.as_u64(), h.len, Err(h.error)),
            })
            .collect()
    }

    fn unmapped(addr: u64, level: u8) -> ReadError {
        ReadError::Unmapped { addr: VirtAddr::new(addr), level }
    }

    #[test]
    fn every_page_size_at_every_depth() {
        for space in [FOUR_LEVEL, FIVE_LEVEL, AddressSpace { sme_mask: 1 << 47, ..FIVE_LEVEL }] {
            for (level, flags) in [(Level::Pte, PRESENT), (Level::Pmd, HUGE), (Level::Pud, HUGE)] {
                let (mut memory, table) = tables_down_to(space, level);
                memory.set_entry(table, level, BASE, 0x40_0000_0000 | flags | space.sme_mask);
                let piece = space.translate(&memory, VirtAddr::new(BASE + 0x123)).unwrap();
                let (phys, len) = (PhysAddr::new(0x40_0000_0123), level.entry_span() - 0x123);
                assert_eq!(piece, Piece { virt: VirtAddr::new(BASE + 0x123), phys, len });
            }
        }
    }

    #[test]
    fn an_absent_entry_names_its_level_and_spans_its_hole() {
        for (space, top) in [(FOUR_LEVEL, Level::P4d), (FIVE_LEVEL, Level::Pgd)] {
            for level in [Level::Pte, Level::Pmd, Level::Pud, Level::P4d, Level::Pgd] {
                if level > top {
                    continue;
                }
                let (mut memory, table) = tables_down_to(space, level);
                // All bits except PRESENT.
                memory.set_entry(table, level, BASE, !PRESENT);
                let addr = BASE + 0x1008;
                let entry_addr = if level == Level::Pte { BASE + 8 } else { addr };
                let [(virt, len, error)] = parts(space, &memory, entry_addr, 1).try_into().unwrap();
                assert_eq!((virt, len, error), (entry_addr, 1, Err(unmapped(entry_addr, level.number()))));
                let hole =
                    space.pieces(&memory, VirtAddr::new(entry_addr), u64::MAX).next().unwrap().unwrap_err();
                let to_border = level.entry_span() - entry_addr % level.entry_span();
                assert_eq!(hole.len, to_border.min(entry_addr.wrapping_neg()));
            }
        }
    }

    #[test]
    fn an_unreadable_table_is_one_hole() {
        let (mut memory, table) = tables_down_to(FOUR_LEVEL, Level::Pmd);
        memory.set_entry(table, Level::Pmd, BASE, 0x7_7000 | PRESENT);
        memory.set_entry(table, Level::Pmd, BASE + 0x20_0000, 0x4000_0000 | HUGE);
        let unreadable = crate::Unreadable { addr: PhysAddr::new(0x7_7000 + 5 * 8) }.into();
        assert_eq!(
            parts(FOUR_LEVEL, &memory, BASE + 0x5000, 0x30_0000),
            [(BASE + 0x5000, 0x1f_b000, Err(unreadable)), (BASE + 0x20_0000, 0x10_5000, Ok(0x4000_0000)),]
        );
        let nothing = SparseMemory::default();
        let hole = FOUR_LEVEL.pieces(&nothing, VirtAddr::new(BASE), u64::MAX).next().unwrap().unwrap_err();
        assert_eq!(hole.len, BASE.wrapping_neg());
    }

    #[test]
    fn addresses_that_are_not_canonical_are_one_hole() {
        for (space, level, bits) in [(FOUR_LEVEL, 4, 47), (FIVE_LEVEL, 5, 56)] {
            let (lower_end, upper_start) = (1_u64 << bits, u64::MAX << bits);
            let (mut memory, table) = tables_down_to(space, Level::top(space.five_level));
            memory.set_entry(table, Level::top(space.five_level), upper_start, 0);
            for (addr, canonical) in
                [(lower_end - 1, true), (lower_end, false), (upper_start - 1, false), (upper_start, true)]
            {
                assert_eq!(space.is_canonical(VirtAddr::new(addr)), canonical, "{addr:#x}");
            }
            let hole = space.pieces(&memory, VirtAddr::new(lower_end), u64::MAX).next().unwrap().unwrap_err();
            assert_eq!(hole.error, unmapped(lower_end, level));
            assert_eq!(hole.virt.as_u64() + hole.len, upper_start);
        }
    }

    #[test]
    fn neighbours_merge_across_tables_and_page_sizes() {
        // 2 MiB page, 2 MiB page, 512 PTEs, all physically adjacent; then a 2 MiB page elsewhere.
        let (mut memory, table) = tables_down_to(FOUR_LEVEL, Level::Pmd);
        for (n, entry) in [0x4000_0000 | HUGE, 0x4020_0000 | HUGE, 0x9000 | PRESENT, 0x8000_0000 | HUGE]
            .into_iter()
            .enumerate()
        {
            memory.set_entry(table, Level::Pmd, BASE + n as u64 * 0x20_0000, entry);
        }
        for n in 0..512 {
            memory.set_entry(0x9000, Level::Pte, BASE + n * 0x1000, (0x4040_0000 + n * 0x1000) | PRESENT);
        }
        assert_eq!(
            parts(FOUR_LEVEL, &memory, BASE + 0x1_0000, 0x80_0000),
            [
                (BASE + 0x1_0000, 0x5f_0000, Ok(0x4001_0000)),
                (BASE + 0x60_0000, 0x20_0000, Ok(0x8000_0000)),
                (BASE + 0x80_0000, 0x1_0000, Err(unmapped(BASE + 0x80_0000, 2))),
            ]
        );
        let piece = |len| FOUR_LEVEL.piece(&memory, VirtAddr::new(BASE), len).unwrap().len;
        assert_eq!([0, 1, 0x20_0001, u64::MAX].map(piece), [0, 1, 0x20_0001, 0x60_0000]);
    }

    #[test]
    fn the_range_ends_with_the_address_space() {
        let (mut memory, last) = (SparseMemory::default(), 0xffff_ffff_ffff_f000);
        for (level, table) in [(Level::P4d, 0x1000), (Level::Pud, 0x2000), (Level::Pmd, 0x3000)] {
            memory.set_entry(table, level, last, (table + 0x1000) | PRESENT);
        }
        memory.set_entry(0x4000, Level::Pte, last, 0x5000 | PRESENT);
        memory.write(PhysAddr::new(0x5ff8), b"the end.");
        assert_eq!(parts(FOUR_LEVEL, &memory, last + 0xff8, u64::MAX), [(last + 0xff8, 8, Ok(0x5ff8))]);
        let mut buf = [0; 8];
        FOUR_LEVEL.read(&memory, VirtAddr::new(last + 0xff8), &mut buf).unwrap();
        assert_eq!(&buf, b"the end.");
        let addr = VirtAddr::new(last + 0xff9);
        assert_eq!(FOUR_LEVEL.read(&memory, addr, &mut buf), Err(unmapped(addr.as_u64(), 4)));
    }

    #[test]
    fn a_read_goes_from_page_to_page() {
        let (mut memory, table) = tables_down_to(FOUR_LEVEL, Level::Pte);
        memory.set_entry(table, Level::Pte, BASE, 0x9000 | PRESENT);
        memory.set_entry(table, Level::Pte, BASE + 0x1000, 0x7000 | PRESENT);
        memory.write(PhysAddr::new(0x9ffc), b"VMCO");
        memory.write(PhysAddr::new(0x7000), b"REINFO");
        let mut buf = [0; 10];
        FOUR_LEVEL.read(&memory, VirtAddr::new(BASE + 0xffc), &mut buf).unwrap();
        assert_eq!(&buf, b"VMCOREINFO");
        // Nothing is mapped after the second page, so the read fails although its first part succeeds.
        let mut buf = [0; 0x2000];
        let expected = Err(unmapped(BASE + 0x2000, 1));
        assert_eq!(FOUR_LEVEL.read(&memory, VirtAddr::new(BASE + 0xffc), &mut buf), expected);
    }

    #[test]
    fn a_table_that_points_to_itself_ends_at_the_last_level() {
        let mut memory = SparseMemory::default();
        for n in 0..512 {
            memory.set_entry(0x1000, Level::Pte, n << 12, 0x1000 | PRESENT);
        }
        for space in [FOUR_LEVEL, FIVE_LEVEL] {
            let piece = space.translate(&memory, VirtAddr::new(BASE + 0x10)).unwrap();
            assert_eq!((piece.phys, piece.len), (PhysAddr::new(0x1010), 0xff0));
        }
    }

    #[test]
    fn the_root_comes_from_vmcoreinfo() {
        let root = |symbol, phys_base: u64| {
            AddressSpace::from_symbol(VirtAddr::new(symbol), phys_base, true, 1 << 51)
                .map(|s| s.root.as_u64())
        };
        assert_eq!(root(0xffff_ffff_8220_9000, 0), Some(0x220_9000));
        assert_eq!(root(0xffff_ffff_b701_0000, 31_541_166_080), Some(0x7_8f01_0000));
        assert_eq!(root(0xffff_ffff_b701_0000, (-0x3500_0000_i64).cast_unsigned()), Some(0x201_0000));
        assert_eq!(root(0xffff_ffff_b701_0000, (-0x4000_0000_i64).cast_unsigned()), None);
        assert_eq!(root(0xffff_ffff_b701_0008, 0), None);
        assert_eq!(root(0xffff_ffff_8000_0000, 1 << 52), None);
        assert_eq!(root(0xffff_8880_0000_0000, 0), None);
    }
}
