use super::*;
use crate::addr::PhysAddr;
use crate::memory::Unreadable;
use crate::rules::test_kernels::{TestKernel, TestPage};
use crate::rules::{Decision, RuleSet};
use crate::scan::RunToCompletion;
use core::ops::{ControlFlow, Range};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Frames of a section, of `struct page`s of 64 bytes.
const SECTION: u64 = 4096;
/// Sections 0, 1 and 3 have `struct page`s; section 2 has none.
const PRESENT: [u64; 3] = [0, 1, 3];
const END: u64 = 4 * SECTION;

/// The kernel address of physical 0, and of the `struct page` of frame 0.
const DIRECT: u64 = 0xffff_8880_0000_0000;
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
/// Where the page tables, the array of sections and the array of `struct page` are, in physical memory.
const TABLES: u64 = 0x1000;
const SECTIONS: u64 = 0x6000;
const PAGES: u64 = 0x10_0000;
/// Physical pages of `struct page`s: each describes 64 frames.
const PAGES_OF_PAGES: u64 = END / 64;

/// How the array of `struct page` lies in physical memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Placing {
    /// In one piece.
    Contiguous,
    /// The last page first.
    Reversed,
    /// In runs of a whole block of 512 frames, which are not in their order.
    Blocks,
}

struct Machine {
    kernel: TestKernel,
    bytes: Vec<u8>,
    placing: Placing,
    /// Whether memory can be looked at in place.
    has_views: bool,
    lost: Vec<u64>,
}

impl PhysicalMemory for Machine {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let at = addr.as_u64();
        let lost = self
            .lost
            .iter()
            .find(|page| (at..at + buf.len() as u64).contains(*page) || at & !0xfff == **page);
        if let Some(lost) = lost {
            return Err(Unreadable { addr: PhysAddr::new(at.max(*lost)) });
        }
        let bytes = self.bytes.get(at as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(Unreadable { addr })?);
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let at = addr.as_u64();
        let is_lost = self.lost.iter().any(|page| at < page + 0x1000 && *page < at + len as u64);
        if !self.has_views || is_lost {
            return None;
        }
        self.bytes.get(at as usize..)?.get(..len)
    }
}

impl Machine {
    /// A machine whose pages are all the kernel's own.
    fn new(placing: Placing, has_views: bool) -> Self {
        let kernel = TestKernel::of("6.1.0")
            .changed("SYMBOL(swapper_pg_dir)", "ffffffff80001000")
            .changed("SYMBOL(mem_section)", &std::format!("{:x}", DIRECT + SECTIONS))
            .changed("LENGTH(mem_section)", "16")
            .with("NUMBER(SECTION_SIZE_BITS)=24");
        let bytes = std::vec![0; (PAGES + END * 64) as usize];
        let mut machine = Self { kernel, bytes, placing, has_views, lost: Vec::new() };
        let index = |addr: u64, shift: u32| 8 * (addr >> shift & 511);
        let table = |number: u64| TABLES + 0x1000 * number;
        machine.set(table(0) + index(DIRECT, 39), table(1) | 1);
        machine.set(table(1) + index(DIRECT, 30), 1 << 7 | 1);
        machine.set(table(0) + index(VMEMMAP, 39), table(2) | 1);
        machine.set(table(2) + index(VMEMMAP, 30), table(3) | 1);
        machine.set(table(3) + index(VMEMMAP, 21), table(4) | 1);
        for page in 0..PAGES_OF_PAGES {
            machine.set(table(4) + 8 * page, (PAGES + 0x1000 * machine.place_of(page)) | 1);
        }
        for section in PRESENT {
            machine.set(SECTIONS + 32 * section, VMEMMAP | 0xf);
        }
        machine.put_all(0..END, TestPage::default());
        machine
    }

    fn set(&mut self, at: u64, word: u64) {
        self.bytes[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }

    /// Which page of physical memory has the `struct page`s of the frames from `64 * page` on.
    fn place_of(&self, page: u64) -> u64 {
        match self.placing {
            Placing::Contiguous => page,
            Placing::Reversed => PAGES_OF_PAGES - 1 - page,
            Placing::Blocks => (PAGES_OF_PAGES / 8 - 1 - page / 8) * 8 + page % 8,
        }
    }

    fn place_of_page(&self, pfn: u64) -> u64 {
        PAGES + 0x1000 * self.place_of(pfn / 64) + 64 * (pfn % 64)
    }

    fn put(&mut self, pfn: u64, page: TestPage) {
        self.put_all(pfn..pfn + 1, page);
    }

    fn put_all(&mut self, frames: Range<u64>, page: TestPage) {
        let bytes = page.bytes(&self.kernel);
        for pfn in frames {
            let at = self.place_of_page(pfn) as usize;
            self.bytes[at..at + 64].copy_from_slice(&bytes);
        }
    }

    /// Puts a free block of `order` at `pfn`.
    fn put_free(&mut self, pfn: u64, order: u64) {
        self.put(pfn, TestPage::free(&self.kernel, order));
    }

    fn put_anonymous(&mut self, pfn: u64) {
        self.put(pfn, TestPage::anonymous());
    }

    /// Puts a compound page of anonymous memory at `pfn`.
    fn put_folio(&mut self, pfn: u64, order: u64) {
        self.put(pfn, TestPage::anonymous().and(self.kernel.head_mask()));
        self.put(pfn + 1, TestPage::first_tail(&self.kernel, order, false));
    }

    fn page(&self, pfn: u64) -> &[u8] {
        &self.bytes[self.place_of_page(pfn) as usize..][..64]
    }

    fn rules(&self) -> Rules {
        self.kernel.rules(31, RuleSet::Makedumpfile)
    }

    fn sections(&self) -> MemorySections {
        MemorySections::locate(&self.kernel.layout(), self, Pfn::new(END), RuleSet::Makedumpfile).unwrap()
    }

    /// What is excluded, section by section and page by page.
    fn expected(&self, ranges: &[PfnRange]) -> Found {
        let (rules, mut found) = (self.rules(), Found::default());
        for section in PRESENT {
            let section = range(section * SECTION, (section + 1) * SECTION);
            let mut decided = section.start.as_u64();
            for frames in ranges.iter().map(|range| range.intersection(section)) {
                let mut pfn = frames.start.as_u64().max(decided);
                while pfn < frames.end.as_u64() {
                    let next = section.contains(Pfn::new(pfn + 1)).then(|| self.page(pfn + 1));
                    let count = match rules.decide(Pfn::new(pfn), self.page(pfn), next) {
                        Decision::Keep => 1,
                        Decision::KeepBadOrder => {
                            found.bad_orders.push(pfn);
                            1
                        }
                        Decision::Exclude { class, frames } => {
                            found.exclude(PfnRange::from_start(Pfn::new(pfn), frames), class);
                            frames
                        }
                    };
                    pfn += count;
                    decided = pfn;
                }
            }
        }
        found
    }

    /// A whole scan of `ranges`.
    fn scan(&self, ranges: &[PfnRange], scratch: usize) -> Found {
        let (sections, mut found) = (self.sections(), Found::default());
        let mut scan = Scan::new(self.rules(), &sections, ranges);
        let mut scratch = std::vec![0; scratch];
        let outcome = scan.run(self, Pfn::new(END), &mut scratch, &mut found, &mut RunToCompletion);
        assert_eq!((outcome, scan.next()), (Outcome::Completed, Pfn::new(END)));
        found
    }
}

/// What a scan tells.
#[derive(Debug, Default, PartialEq)]
struct Found {
    excluded: BTreeMap<u64, PageClass>,
    bad_orders: Vec<u64>,
    unreadable: Vec<(PfnRange, SectionError)>,
}

impl Found {
    fn frames(&self) -> Vec<u64> {
        self.excluded.keys().copied().collect()
    }

    /// The frames that cannot be read, those side by side together.
    fn unreadable_frames(&self) -> Vec<PfnRange> {
        let mut runs: Vec<PfnRange> = Vec::new();
        for (frames, _) in &self.unreadable {
            match runs.last_mut() {
                Some(last) if last.end == frames.start => last.end = frames.end,
                _ => runs.push(*frames),
            }
        }
        runs
    }
}

impl Observer for Found {
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        for pfn in frames.start.as_u64()..frames.end.as_u64() {
            self.excluded.entry(pfn).or_insert(class);
        }
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        self.unreadable.push((frames, error));
    }

    fn bad_order(&mut self, pfn: Pfn) {
        self.bad_orders.push(pfn.as_u64());
    }
}

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

/// All frames.
const ALL: [PfnRange; 1] = [PfnRange::new(Pfn::new(0), Pfn::new(END))];

fn each_machine(mut check: impl FnMut(Machine)) {
    for placing in [Placing::Contiguous, Placing::Reversed, Placing::Blocks] {
        [true, false].into_iter().for_each(|has_views| check(Machine::new(placing, has_views)));
    }
}

#[test]
fn pages_of_all_sections_are_found() {
    each_machine(|mut machine| {
        for pfn in [0, 1, 63, 64, 511, 512, SECTION - 1, SECTION, 3 * SECTION, END - 1] {
            machine.put_anonymous(pfn);
        }
        // There is no section 2, whatever its struct pages say.
        machine.put_anonymous(2 * SECTION);
        let found = machine.scan(&ALL, SCRATCH_BYTES);
        let expected = [0, 1, 63, 64, 511, 512, SECTION - 1, SECTION, 3 * SECTION, END - 1];
        assert_eq!(found.frames(), expected);
        assert!(found.unreadable.is_empty());
    });
}

#[test]
fn only_frames_of_the_ranges_are_looked_at() {
    each_machine(|mut machine| {
        machine.put_all(0..END, TestPage::anonymous());
        let ranges =
            [range(10, 20), range(600, 601), range(4000, 4200), range(9000, 12_300), range(13_000, 99_999)];
        let found = machine.scan(&ranges, SCRATCH_BYTES);
        let expected: Vec<u64> =
            (10..20).chain(600..601).chain(4000..4200).chain(12_288..12_300).chain(13_000..END).collect();
        assert_eq!(found.frames(), expected);
    });
}

#[test]
fn a_block_goes_with_its_first_page_even_outside_the_ranges() {
    each_machine(|mut machine| {
        machine.put_free(64, 6);
        machine.put_anonymous(127);
        let found = machine.scan(&[range(0, 70), range(100, 300)], SCRATCH_BYTES);
        assert_eq!(found.frames(), (64..128).collect::<Vec<_>>());
        // Without its first page it stays.
        assert_eq!(machine.scan(&[range(65, 300)], SCRATCH_BYTES).frames(), [127]);
    });
}

#[test]
fn a_block_that_reaches_into_the_next_section_does_not_hide_its_pages() {
    each_machine(|mut machine| {
        machine.put_free(SECTION - 4, 3);
        machine.put_free(SECTION + 2, 2);
        let found = machine.scan(&ALL, SCRATCH_BYTES);
        assert_eq!(found.frames(), (SECTION - 4..SECTION + 6).collect::<Vec<_>>());
    });
}

#[test]
fn a_head_at_the_end_of_a_range_is_understood_by_its_tail_behind_it() {
    each_machine(|mut machine| {
        machine.put_folio(128, 4);
        let found = machine.scan(&[range(0, 129)], SCRATCH_BYTES);
        assert_eq!(found.frames(), (128..144).collect::<Vec<_>>());
    });
}

#[test]
fn impossible_orders_are_told() {
    each_machine(|mut machine| {
        machine.put_free(700, 11);
        machine.put_free(3 * SECTION + 1, 99);
        let found = machine.scan(&ALL, SCRATCH_BYTES);
        assert_eq!((found.bad_orders, found.excluded.len()), (std::vec![700, 3 * SECTION + 1], 0));
    });
}

#[test]
fn little_scratch_memory_costs_nothing_but_time() {
    each_machine(|mut machine| {
        for pfn in [0, 100, 511, 512, 5000] {
            machine.put_anonymous(pfn);
        }
        machine.put_folio(126, 1);
        machine.put_folio(1016, 3);
        machine.put_free(1024, 10);
        let expected = machine.expected(&ALL);
        for scratch in [128, 192, 64 * 64, 64 * 65, 64 * 511, SCRATCH_BYTES, 2 * SCRATCH_BYTES] {
            assert_eq!(machine.scan(&ALL, scratch), expected, "{scratch} bytes");
        }
    });
}

// Memory that cannot be read.

#[test]
fn struct_pages_that_cannot_be_read_keep_their_block() {
    each_machine(|mut machine| {
        machine.put_all(0..SECTION, TestPage::anonymous());
        // Frames 640 to 703, of the second block of 512.
        let lost = PAGES + 0x1000 * machine.place_of(10);
        machine.lost.push(lost);
        let found = machine.scan(&ALL, SCRATCH_BYTES);
        assert_eq!(found.unreadable_frames(), [range(512, 1024)]);
        assert_eq!(found.frames(), (0..512).chain(1024..SECTION).collect::<Vec<_>>());
        let addr = PhysAddr::new(lost);
        assert_eq!(found.unreadable[0].1, SectionError::Read(ReadError::Unreadable(Unreadable { addr })));
    });
}

#[test]
fn unreadable_frames_outside_of_the_ranges_are_not_told() {
    each_machine(|mut machine| {
        machine.lost.push(PAGES + 0x1000 * machine.place_of(10));
        let found = machine.scan(&[range(0, 600), range(650, 655), range(704, 710)], SCRATCH_BYTES);
        // What follows the lost page is read by itself.
        assert_eq!(found.unreadable_frames(), [range(512, 600), range(650, 655)]);
    });
}

#[test]
fn scratch_memory_of_less_than_a_struct_page_makes_all_unreadable_that_has_no_view() {
    let mut machine = Machine::new(Placing::Contiguous, false);
    machine.put_anonymous(5);
    for scratch in [0, 63] {
        let found = machine.scan(&[range(0, 600)], scratch);
        assert_eq!(found.unreadable_frames(), [range(0, 600)]);
        assert!(found.excluded.is_empty());
    }
    machine.has_views = true;
    assert_eq!(machine.scan(&[range(0, 600)], 0).frames(), [5]);
}

#[test]
fn a_damaged_section_keeps_its_frames() {
    let mut machine = Machine::new(Placing::Contiguous, true);
    machine.put_anonymous(7);
    machine.set(SECTIONS + 32, 1);
    let found = machine.scan(&[range(0, SECTION + 5), range(SECTION + 10, END)], SCRATCH_BYTES);
    assert_eq!(found.frames(), [7]);
    assert_eq!(found.unreadable_frames(), [range(SECTION, SECTION + 5), range(SECTION + 10, 2 * SECTION)]);
}

// Checkpoints and limits.

/// Notes where it was asked, and stops the scan each time.
#[derive(Default)]
struct Stops {
    asked: Vec<u64>,
    stopped: bool,
}

impl Checkpoint for Stops {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        self.asked.push(next.as_u64());
        self.stopped = !self.stopped;
        if self.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_scan_asks_its_checkpoint_every_4096_frames() {
    each_machine(|machine| {
        struct Asked(Vec<u64>);
        impl Checkpoint for Asked {
            fn check(&mut self, next: Pfn) -> ControlFlow<()> {
                self.0.push(next.as_u64());
                ControlFlow::Continue(())
            }
        }
        let (sections, mut asked) = (machine.sections(), Asked(Vec::new()));
        // Absent frames do not count.
        let ranges = [range(512, 1024), range(1536, END)];
        let mut scan = Scan::new(machine.rules(), &sections, &ranges);
        let mut scratch = std::vec![0; SCRATCH_BYTES];
        scan.run(&machine, Pfn::new(END), &mut scratch, &mut Found::default(), &mut asked);
        assert_eq!(asked.0, [512, 512 + 4096 + 512, 3 * SECTION + 1024]);
    });
}

#[test]
fn a_stopped_scan_goes_on_where_it_was() {
    each_machine(|mut machine| {
        (0..END).step_by(5).for_each(|pfn| machine.put_anonymous(pfn));
        let (sections, mut found, mut stops) = (machine.sections(), Found::default(), Stops::default());
        let mut scan = Scan::new(machine.rules(), &sections, &ALL);
        let mut scratch = std::vec![0; SCRATCH_BYTES];
        let mut interrupted = 0;
        while scan.run(&machine, Pfn::new(END), &mut scratch, &mut found, &mut stops) == Outcome::Interrupted
        {
            interrupted += 1;
            // It stands where it was asked, and has decided about all before and nothing after.
            let next = scan.next().as_u64();
            assert_eq!(Some(&next), stops.asked.last());
            let before = machine.expected(&[range(0, next)]);
            assert_eq!(found.frames(), before.frames());
        }
        assert_eq!(interrupted, 3);
        assert_eq!(found, machine.expected(&ALL));
    });
}

#[test]
fn a_scan_stops_at_its_limit() {
    each_machine(|mut machine| {
        machine.put_all(0..END, TestPage::anonymous());
        let (sections, mut found) = (machine.sections(), Found::default());
        let mut scan = Scan::new(machine.rules(), &sections, &ALL);
        let mut scratch = std::vec![0; SCRATCH_BYTES];
        for limit in [0, 1, 100, 512, SECTION, SECTION + 1, 2 * SECTION + 5, 3 * SECTION, END - 1, END] {
            scan.run(&machine, Pfn::new(limit), &mut scratch, &mut found, &mut RunToCompletion);
            assert_eq!(scan.next(), Pfn::new(limit));
            let expected = machine.expected(&[range(0, limit)]);
            assert_eq!(found.frames(), expected.frames(), "up to {limit}");
        }
    });
}

#[test]
fn a_limit_past_the_last_frame_is_reached() {
    let machine = Machine::new(Placing::Contiguous, true);
    let sections = machine.sections();
    let mut scan = Scan::new(machine.rules(), &sections, &ALL);
    let outcome = scan.run(&machine, Pfn::new(2 * END), &mut [], &mut Found::default(), &mut RunToCompletion);
    assert_eq!((outcome, scan.next()), (Outcome::Completed, Pfn::new(2 * END)));
}

#[test]
fn a_scan_can_start_at_a_later_section() {
    let mut machine = Machine::new(Placing::Contiguous, true);
    machine.put_free(SECTION - 4, 3);
    machine.put_anonymous(SECTION + 1);
    let (sections, mut found) = (machine.sections(), Found::default());
    let mut scan = Scan::starting_at(machine.rules(), &sections, &ALL, Pfn::new(SECTION));
    assert_eq!(scan.next(), Pfn::new(SECTION));
    scan.run(&machine, Pfn::new(END), &mut [], &mut found, &mut RunToCompletion);
    assert_eq!(found.frames(), [SECTION + 1]);
}

#[test]
fn equal_blocks_are_one_step_whatever_the_checkpoint_says() {
    struct Runs(Vec<PfnRange>);
    impl Observer for Runs {
        fn exclude(&mut self, frames: PfnRange, _: PageClass) {
            self.0.push(frames);
        }
    }
    let mut machine = Machine::new(Placing::Contiguous, true);
    (0..2 * SECTION).step_by(1024).for_each(|pfn| machine.put_free(pfn, 10));
    let (sections, mut runs) = (machine.sections(), Runs(Vec::new()));
    let mut scan = Scan::new(machine.rules(), &sections, &ALL);
    scan.run(&machine, Pfn::new(END), &mut [], &mut runs, &mut RunToCompletion);
    // A section each.
    assert_eq!(runs.0, [range(0, SECTION), range(SECTION, 2 * SECTION)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    /// However memory lies, is read, and the scan is cut: what is found is what a walk page by page finds.
    #[test]
    fn a_scan_finds_what_a_walk_finds(
        placing in prop::sample::select(&[Placing::Contiguous, Placing::Reversed, Placing::Blocks][..]),
        has_views: bool,
        objects in prop::collection::vec((0..END - 1, 0_u32..4, 0_u64..13), 0..100),
        cuts in prop::collection::vec(0..END, 0..8),
        limits in prop::collection::vec(0..END, 0..4),
        scratch_pages in 2_usize..600,
        stops: bool,
    ) {
        let mut machine = Machine::new(placing, has_views);
        for (pfn, kind, order) in objects {
            match kind {
                0 => machine.put_free(pfn, order),
                1 => machine.put_folio(pfn & !((1 << order.min(9)) - 1), order.min(9)),
                2 => machine.put_anonymous(pfn),
                _ => machine.put_all(pfn..END.min(pfn + (1 << order)), TestPage::anonymous()),
            }
        }
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.dedup();
        let mut ranges: Vec<PfnRange> = cuts.chunks_exact(2).map(|pair| range(pair[0], pair[1])).collect();
        if ranges.is_empty() {
            ranges.extend(ALL);
        }
        let (sections, mut found, mut checkpoint) = (machine.sections(), Found::default(), Stops::default());
        let mut scan = Scan::new(machine.rules(), &sections, &ranges);
        let mut scratch = std::vec![0; 64 * scratch_pages];
        let mut limits = limits;
        limits.sort_unstable();
        limits.push(END);
        for limit in limits {
            checkpoint.stopped = !stops;
            while scan.run(&machine, Pfn::new(limit), &mut scratch, &mut found, &mut checkpoint) == Outcome::Interrupted {}
        }
        let expected = machine.expected(&ranges);
        prop_assert_eq!(found.frames(), expected.frames());
        prop_assert_eq!(found, expected);
    }
}
