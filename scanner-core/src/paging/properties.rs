//! Property tests: for page tables that the builder makes, and for arbitrary page tables.

use super::sparse::SparseMemory;
use super::*;
use crate::addr::{Pfn, PfnRange, PhysAddr, VirtAddr};
use crate::memory::{PhysicalMemory, ReadError, Unreadable};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

/// Frames of the window from which ranges are drawn: 3 GiB, so that adjacent 1 GiB pages occur.
const WINDOW: u64 = 3 << 18;
/// Physical address of the tables, outside every window.
const TABLES: PhysAddr = PhysAddr::new(1 << 40);

/// Page tables in memory, as the processor reads them.
struct TableMemory(Vec<[u64; ENTRIES]>);

impl PhysicalMemory for TableMemory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let offset = addr.as_u64().checked_sub(TABLES.as_u64()).ok_or(Unreadable { addr })? as usize;
        let entry = self.0.get(offset / 4096).ok_or(Unreadable { addr })?[offset % 4096 / 8];
        buf.copy_from_slice(&entry.to_le_bytes());
        Ok(())
    }
}

fn options() -> impl Strategy<Value = DirectMapOptions> {
    let offset = prop_oneof![
        Just(0),
        Just(0xffff_8880_0000_0000_u64),
        Just(0xffff_8880_0020_0000),
        Just(0xffff_8880_0000_3000),
        Just(0x1234_5000),
    ];
    let sme_mask = prop_oneof![Just(0), Just(1_u64 << 47), Just(1 << 51)];
    (any::<[bool; 3]>(), sme_mask, offset).prop_map(|([five_level, use_1g, use_2m], sme_mask, offset)| {
        DirectMapOptions { five_level, use_1g, use_2m, sme_mask, offset }
    })
}

/// A frame of the window; most are near a boundary of a large page.
fn frame() -> impl Strategy<Value = u64> {
    let border = prop_oneof![
        (0..=WINDOW >> 18).prop_map(|n| n << 18),
        (0..=WINDOW >> 9).prop_map(|n| n << 9),
        0..=WINDOW
    ];
    (border, prop_oneof![Just(0_i64), -3..=3_i64])
        .prop_map(|(border, distance)| border.saturating_add_signed(distance).min(WINDOW))
}

/// The first frame of the window: 0, below a 512 GiB boundary, or below a 64 TiB boundary.
fn window_start() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just((1_u64 << 27) - (1 << 18)), Just((1 << 34) - (2 << 18))]
}

/// A model of the direct map: one flag per frame. It computes the expected page tables.
struct Model {
    start: u64,
    mapped: Vec<bool>,
}

impl Model {
    fn new(start: u64, ranges: &[PfnRange]) -> Self {
        let mut mapped = std::vec![false; WINDOW as usize];
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            mapped[(range.start.as_u64() - start) as usize..(range.end.as_u64() - start) as usize].fill(true);
        }
        Self { start, mapped }
    }

    /// The expected page size of each frame, as binary logarithm of frames, and the expected number of tables.
    fn pages_and_tables(&self, options: DirectMapOptions) -> (Vec<Option<u32>>, usize) {
        let mut shifts = std::vec![None; self.mapped.len()];
        let mut tables = BTreeSet::from([(99, 0)]); // The root.
        let offset = options.offset >> 12;
        for (shift, allowed) in [(18, options.use_1g), (9, options.use_2m), (0, true)] {
            if !allowed || !offset.is_multiple_of(1 << shift) {
                continue;
            }
            // Windows start at a multiple of 1 GiB.
            for (n, block) in self.mapped.chunks(1 << shift).enumerate() {
                let first = n << shift;
                if shifts[first].is_some() || block.len() < 1 << shift || !block.iter().all(|m| *m) {
                    continue;
                }
                shifts[first..first + block.len()].fill(Some(shift));
                let page = (self.start + first as u64).wrapping_add(offset);
                let top = if options.five_level { 36 } else { 27 };
                for table in [9, 18, 27, 36].into_iter().filter(|table| shift < *table && *table <= top) {
                    tables.insert((table, page >> table));
                }
            }
        }
        (shifts, tables.len())
    }

    /// The runs of mapped and of unmapped frames, alternating.
    fn runs(&self) -> Vec<(bool, u64, u64)> {
        let mut at = self.start;
        let runs = self.mapped.chunk_by(|a, b| a == b);
        runs.map(|run| {
            at += run.len() as u64;
            (run[0], at - run.len() as u64, run.len() as u64)
        })
        .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_walk_finds_what_the_builder_mapped_and_nothing_else(
        options in options(),
        start in window_start(),
        ends in prop::collection::vec((frame(), frame()), 0..7),
    ) {
        let mut ranges: Vec<_> =
            ends.iter().map(|(a, b)| PfnRange::new(Pfn::new(start + a), Pfn::new(start + b))).collect();
        let model = Model::new(start, &ranges);
        let map = DirectMap::new(&mut ranges, options).unwrap();
        let (shifts, tables) = model.pages_and_tables(options);

        prop_assert_eq!(map.tables_needed(), tables as u64);
        let mut memory = TableMemory(std::vec![[u64::MAX; ENTRIES]; tables]);
        let mut pool = FixedPool::new(&mut memory.0, TABLES);
        let space = map.build(&mut pool).unwrap();
        prop_assert_eq!(pool.used(), tables);

        // Every frame of the window: is it mapped, to the right address, with the right page size?
        let virt = |frame: u64| VirtAddr::new(((start + frame) << 12).wrapping_add(options.offset));
        let mut frame = 0;
        while frame < WINDOW {
            let translated = space.translate(&memory, virt(frame));
            match shifts[frame as usize] {
                Some(shift) => {
                    let phys = PhysAddr::new((start + frame) << 12);
                    prop_assert_eq!(translated, Ok(Piece { virt: virt(frame), phys, len: 4096 << shift }));
                    frame += 1 << shift;
                }
                None => {
                    let is_unmapped = matches!(translated, Err(ReadError::Unmapped { addr, .. }) if addr == virt(frame));
                    prop_assert!(is_unmapped, "frame {} gives {:?}", frame, translated);
                    frame += 1;
                }
            }
        }

        // The window as one range: the pieces are the model's runs.
        let mut parts = space.pieces(&memory, virt(0), WINDOW << 12).peekable();
        for (is_mapped, first, count) in model.runs() {
            if is_mapped {
                let piece = Piece { virt: virt(first - start), phys: Pfn::new(first).addr(), len: count << 12 };
                prop_assert_eq!(parts.next(), Some(Ok(piece)));
                continue;
            }
            let mut hole = 0;
            while let Some(Err(part)) = parts.next_if(|part| part.is_err()) {
                prop_assert_eq!(part.virt.as_u64(), virt(first - start).as_u64() + hole);
                hole += part.len;
            }
            prop_assert_eq!(hole, count << 12);
        }
        prop_assert_eq!(parts.next(), None);

        // The spans agree with the model's pages.
        let mut frame = 0;
        for span in map.spans() {
            frame += shifts[frame..].iter().take_while(|shift| shift.is_none()).count();
            let first = start + frame as u64;
            prop_assert_eq!(span.phys, Pfn::new(first).addr());
            prop_assert_eq!(span.virt, virt(frame as u64));
            let shift = shifts[frame];
            let len = shifts[frame..].iter().take_while(|s| **s == shift).count();
            prop_assert_eq!(span.len, (len as u64) << 12);
            prop_assert_eq!(Some(span.level.shift() - 12), shift);
            frame += len;
        }
        prop_assert!(shifts[frame..].iter().all(Option::is_none));
    }
}

/// Four PMD entries: each is a hole, a large page or a table of PTEs. Physical addresses are drawn from few values, so
/// that adjacent pages are often contiguous.
#[derive(Clone, Debug)]
enum PmdEntry {
    Hole,
    Large(u64),
    /// Runs of PTEs: their number, and the frame of the first one if they are present.
    Table(Vec<(u64, Option<u64>)>),
}

fn pmd_entry() -> impl Strategy<Value = PmdEntry> {
    let run =
        (1..200_u64, prop::option::of((0..3_u64, 0..200_u64).prop_map(|(block, frame)| block << 9 | frame)));
    prop_oneof![
        Just(PmdEntry::Hole),
        (0..3_u64).prop_map(PmdEntry::Large),
        prop::collection::vec(run, 0..6).prop_map(PmdEntry::Table),
    ]
}

const BASE: u64 = 0xffff_c900_3fc0_0000;
const PRESENT: u64 = EntryFlags::PRESENT.bits();

proptest! {
    #[test]
    fn pieces_are_the_pages_merged(
        entries in prop::collection::vec(pmd_entry(), 4),
        addr in 0..0x80_0000_u64,
        len in 0..0x90_0000_u64,
    ) {
        let mut memory = SparseMemory::default();
        memory.set_entry(0x1000, Level::P4d, BASE, 0x2000 | PRESENT);
        // The third and fourth entry are in the next table of PMDs.
        memory.set_entry(0x2000, Level::Pud, BASE, 0x3000 | PRESENT);
        memory.set_entry(0x2000, Level::Pud, BASE + 0x40_0000, 0x4000 | PRESENT);
        for (n, entry) in entries.iter().enumerate() {
            let virt = BASE + n as u64 * 0x20_0000;
            let (pmds, ptes) = (if n < 2 { 0x3000 } else { 0x4000 }, 0x5000 + n as u64 * 0x1000);
            match entry {
                PmdEntry::Hole => memory.set_entry(pmds, Level::Pmd, virt, 0),
                PmdEntry::Large(block) => {
                    memory.set_entry(pmds, Level::Pmd, virt, block << 21 | PRESENT | EntryFlags::HUGE.bits());
                }
                PmdEntry::Table(runs) => {
                    memory.set_entry(pmds, Level::Pmd, virt, ptes | PRESENT);
                    memory.set_entry(ptes, Level::Pte, virt, 0);
                    let mut page = 0;
                    for (count, frame) in runs {
                        for n in (0..*count).take_while(|n| page + n < 512) {
                            let entry = frame.map_or(0, |frame| (frame + n) << 12 | PRESENT);
                            memory.set_entry(ptes, Level::Pte, virt + ((page + n) << 12), entry);
                        }
                        page += count;
                    }
                }
            }
        }
        let space = AddressSpace { root: PhysAddr::new(0x1000), five_level: false, sme_mask: 0 };

        // Translate each page from the root, and merge runs of contiguous pages and of unmapped pages.
        let (first, end) = (BASE + addr, BASE + addr + len);
        let mut naive: Vec<(u64, u64, Option<u64>)> = Vec::new();
        let mut at = first;
        while at < end {
            let next = end.min((at | 0xfff) + 1);
            let phys = space.translate(&memory, VirtAddr::new(at)).ok().map(|piece| piece.phys.as_u64());
            match naive.last_mut() {
                Some((_, len, known)) if known.map(|known| known + *len) == phys => *len += next - at,
                _ => naive.push((at, next - at, phys)),
            }
            at = next;
        }

        let mut merged: Vec<(u64, u64, Option<u64>)> = Vec::new();
        for part in space.pieces(&memory, VirtAddr::new(first), len) {
            match (part, merged.last_mut()) {
                (Err(hole), Some((_, len, None))) => *len += hole.len,
                (Err(hole), _) => merged.push((hole.virt.as_u64(), hole.len, None)),
                (Ok(piece), _) => merged.push((piece.virt.as_u64(), piece.len, Some(piece.phys.as_u64()))),
            }
        }
        prop_assert_eq!(&merged, &naive);

        let piece = space.piece(&memory, VirtAddr::new(first), len).ok();
        if let Some((_, len, phys)) = naive.first() {
            prop_assert_eq!(piece.map(|piece| piece.phys.as_u64()), *phys);
            prop_assert!(phys.is_none() || piece.is_some_and(|piece| piece.len == *len));
        }
    }

    #[test]
    fn any_memory_is_walked_to_the_end_of_the_range(
        // Eight frames whose entries point to each other at random, often with PRESENT set.
        entries in prop::collection::vec((0..12_u64, any::<u64>(), 0..4_u8), 8 * ENTRIES),
        (five_level, sme_mask) in any::<(bool, u64)>(),
        (addr, len) in (any::<u64>(), 0..1_u64 << 24),
    ) {
        let mut memory = SparseMemory::default();
        for (n, (frame, other_bits, absent)) in entries.iter().enumerate() {
            let entry = frame << 12 | other_bits & 0xfff0_0000_0000_0fff | u64::from(*absent != 0);
            memory.write(PhysAddr::new(n as u64 * 8), &entry.to_le_bytes());
        }
        let space = AddressSpace { root: PhysAddr::new(0), five_level, sme_mask };
        let addr = if addr % 5 == 0 { addr } else { addr | u64::MAX << 47 };
        let mut at = VirtAddr::new(addr);
        let mut left = len.min(addr.wrapping_neg().wrapping_sub(1).saturating_add(1));
        for part in space.pieces(&memory, at, len) {
            let (virt, len) = match part {
                Ok(piece) => (piece.virt, piece.len),
                Err(hole) => (hole.virt, hole.len),
            };
            prop_assert_eq!(virt, at);
            prop_assert!(0 < len && len <= left);
            left -= len;
            at = VirtAddr::new(at.as_u64().wrapping_add(len));
        }
        prop_assert_eq!(left, 0);
    }
}
