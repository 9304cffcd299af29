//! The purgatory stage on the host: it scans the fixtures' memory, with an area as the loader makes it.

use crash_stage::machine::Machine;
use crash_stage::parameters::{self, INFO_SIZE, Parameters};
use crash_stage::stage::{self, End, Exception, Progress};
use cross_tests::fixture::Fixture;
use cross_tests::stage::image;
use page_filter::machine::Machine as ScannedMachine;
use scanner_core::info::ScanStatus;
use scanner_core::info::v2::{Cause, Header, NOT_COUNTED, Producer, State};
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, PfnRange, RuleSet};
use stage_loader::area::{Area, Facts, StageRequest};
use std::cell::Cell;
use vmcore::frames::FrameBitmap;
use vmcore::image::{MemoryImage, OpenOptions, open};

/// Physical address of the area: after the fixtures' memory.
const AREA: u64 = 1 << 40;

thread_local! {
    static MEMORY: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
    static LOADED: Cell<*const u8> = const { Cell::new(std::ptr::null()) };
    static STACK: Cell<*const u8> = const { Cell::new(std::ptr::null()) };
    static FIVE_LEVELS: Cell<bool> = const { Cell::new(false) };
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// A machine whose memory is a vector, and whose clock advances each time it is read.
struct Simulated;

impl Machine for Simulated {
    fn ticks() -> u64 {
        TICKS.set(TICKS.get() + 1);
        TICKS.get()
    }

    fn at(addr: u64) -> *mut u8 {
        MEMORY.get().wrapping_add(addr as usize)
    }

    fn address_of(place: *const u8) -> u64 {
        AREA + (place as u64).wrapping_sub(LOADED.get() as u64)
    }

    fn guard() -> *const u8 {
        STACK.get()
    }

    fn has_five_levels() -> bool {
        FIVE_LEVELS.get()
    }

    unsafe fn use_page_tables(root: u64) {
        assert!(root > AREA && root.is_multiple_of(PAGE_SIZE as u64));
    }

    fn inject_fault(fault: u64) {
        unreachable!("fault {fault} was not requested");
    }

    fn print(_: u16, _: u8) {
        unreachable!("the machine has no serial console");
    }
}

/// A crashed machine with a loaded stage.
struct Crashed {
    memory: Vec<u8>,
    facts: Facts,
    area: Area,
    /// The area's memory and one additional page, as words so that it is aligned.
    loaded: Vec<u64>,
    progress: Progress,
}

impl Crashed {
    fn new(machine: &ScannedMachine<'_>) -> Self {
        let backed = &machine.image.facts().backed;
        let mut memory = vec![0; machine.frames as usize * PAGE_SIZE];
        let mut page = [0; PAGE_SIZE];
        for pfn in backed.as_slice().iter().flat_map(|range| range.start.as_u64()..range.end.as_u64()) {
            machine.image.read(Pfn::new(pfn).addr(), &mut page).unwrap();
            if page != [0; PAGE_SIZE] {
                memory[pfn as usize * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&page);
            }
        }
        let facts = Facts {
            ram: backed.as_slice().to_vec(),
            vmcoreinfo: machine.image.facts().vmcoreinfo.clone().unwrap(),
            five_level: machine.layout.space.five_level,
            has_1g: true,
            tsc_khz: 1,
        };
        let area = area(&facts, 31, 0);
        Self { memory, facts, area, loaded: Vec::new(), progress: Progress::new() }
    }

    /// Loads a stage for dump level `level`, whose time budget ends after `looks` reads of the clock.
    fn load(&mut self, level: u64, looks: u64) {
        self.area = area(&self.facts, level, looks);
        self.progress = Progress::new();
        self.loaded = vec![0; (self.area.size() as usize + PAGE_SIZE) / 8];
        let bytes = self.area.bytes_for(0x1234_5000);
        self.bytes()[..bytes.len()].copy_from_slice(&bytes);
    }

    /// The bytes of the area.
    fn bytes(&mut self) -> &mut [u8] {
        let start = self.loaded.as_ptr().cast::<u8>().align_offset(PAGE_SIZE);
        let size = self.area.size() as usize;
        // SAFETY: `self.loaded` has at least `size + PAGE_SIZE` initialised bytes, any of which is a valid `u8`, and
        // `&mut self` makes the borrow unique.
        unsafe {
            &mut std::slice::from_raw_parts_mut(self.loaded.as_mut_ptr().cast::<u8>(), size + PAGE_SIZE)
                [start..][..size]
        }
    }

    /// Runs the stage; `end` replaces the result of its scan.
    fn run(&mut self, end: Option<End>) -> End {
        MEMORY.set(self.memory.as_mut_ptr());
        FIVE_LEVELS.set(self.facts.five_level);
        TICKS.set(0);
        let numbers = *self.area.numbers();
        let start = self.bytes().as_mut_ptr();
        LOADED.set(start);
        STACK.set(start.wrapping_add(numbers.state as usize));
        let block = start.wrapping_add(numbers.image_size as usize);
        // SAFETY: `start` and `block` point into the area, which is in `self.loaded`. `Simulated::at` maps the physical
        // addresses in the area's ranges to `self.memory`. `self` is borrowed mutably, and `Simulated` uses thread-local
        // variables, so nothing else accesses either.
        unsafe {
            let ended = stage::scan::<Simulated>(start, block, &self.progress);
            let exception = Exception { vector: 14, error: 2, ip: AREA + 0x123, address: 0x5000 };
            stage::finish::<Simulated>(start, block, &self.progress, end.unwrap_or(ended), &exception);
            ended
        }
    }

    fn header(&mut self) -> Header {
        let (info, at) = (self.area.numbers().info() as usize, self.area.info());
        Header::decode(&self.bytes()[info..info + INFO_SIZE as usize], at).unwrap()
    }

    /// Whether the info is the one that the loader prepared, which excludes nothing, with the cause `cause`.
    fn keeps_everything(&mut self, cause: Cause) -> bool {
        let header = self.header();
        (header.state, header.cause, header.frame_count) == (State::Cancelled, cause, 64)
    }

    fn bits(&mut self) -> FrameBitmap {
        let (start, frames) = (self.area.numbers().bitmap as usize, self.area.numbers().frame_count);
        let bytes = &self.bytes()[start..];
        let mut bits = FrameBitmap::ones(frames);
        for (word, bytes) in bits.words_mut().iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word &= u64::from_le_bytes(*bytes);
        }
        bits
    }
}

/// More clock reads than a scan makes.
const ENOUGH: u64 = 1 << 40;

fn area(facts: &Facts, level: u64, budget_ms: u64) -> Area {
    let level = DumpLevel::from_number(level).unwrap();
    let request =
        StageRequest { level, rules: RuleSet::Makedumpfile, budget_ms, serial_port: 0, injected_fault: 0 };
    Area::new(&image(), facts, &request, AREA).unwrap()
}

fn with_machine(name: &str, check: impl FnOnce(&ScannedMachine<'_>, &Fixture)) {
    let fixture = Fixture::unpack(name);
    let image: Box<dyn MemoryImage> = open(fixture.path(), &OpenOptions::default()).unwrap();
    check(&ScannedMachine::new(&*image, RuleSet::Makedumpfile).unwrap(), &fixture);
}

#[test]
fn its_bitmap_equals_makedumpfiles() {
    for name in ["5.10", "6.1-4level", "6.12"] {
        with_machine(name, |machine, fixture| {
            let exists = FrameBitmap::from_ranges(&machine.exists(), machine.frames);
            let mut crashed = Crashed::new(machine);
            for level in [30, 16, 8, 2] {
                crashed.load(level, ENOUGH);
                assert_eq!(crashed.run(None), End::Scanned);
                let header = crashed.header();
                assert_eq!((header.state, header.producer), (State::Complete, Producer::Purgatory));
                let mut ours = exists.clone();
                ours.intersect(&crashed.bits());
                assert!(ours == fixture.bitmaps.levels[level as usize], "{name}, level {level}");
            }
        });
    }
}

#[test]
fn a_stopped_stage_keeps_undecided_frames() {
    with_machine("6.1", |machine, _| {
        let mut crashed = Crashed::new(machine);
        crashed.load(31, ENOUGH);
        crashed.run(None);
        let whole = crashed.bits();
        let everything = FrameBitmap::ones(machine.frames);

        crashed.load(31, 0);
        assert_eq!(crashed.run(None), End::Scanned);
        assert_eq!(crashed.header().state, State::OutOfBudget);
        assert!(crashed.bits() == everything);

        for (end, state) in [(None, State::OutOfBudget), (Some(End::Exception), State::Fault)] {
            crashed.load(31, 8);
            assert_eq!(crashed.run(end), End::Scanned);
            let header = crashed.header();
            assert_eq!(header.state, state);
            assert!((1..header.frame_count).contains(&header.scanned_up_to), "{}", header.scanned_up_to);
            assert!(header.unscanned_pages > 0);
            // The counters of an interrupted scan are unknown.
            assert_eq!(header.user_pages == NOT_COUNTED, end.is_some());
            assert_eq!(header.first_unreadable == 0x5000, end.is_some());
            let said = (header.cause_number, header.exception_error, header.exception_at);
            assert_eq!(
                (header.cause, said, header.exception_address),
                match end {
                    Some(_) => (Cause::Exception, (14, 2, 0x123), 0x5000),
                    None => (Cause::NotSaid, (0, 0, 0), 0),
                }
            );
            let bits = crashed.bits();
            assert!(bits.words().iter().zip(whole.words()).all(|(some, all)| some & all == *all));
            assert!((header.scanned_up_to..machine.frames).all(|pfn| bits.get(Pfn::new(pfn))));
            assert!(bits != everything);
        }
    });
}

#[test]
fn a_stage_changed_after_loading_does_not_run() {
    with_machine("6.12-4level", |machine, _| {
        let mut crashed = Crashed::new(machine);
        let numbers = *crashed.area.numbers();
        for (at, expected, cause) in [
            (0, End::BadImage, Cause::Code),
            (numbers.image_size as usize, End::BadParameters, Cause::Parameters),
            ((numbers.image_size + numbers.block_size) as usize - 1, End::BadParameters, Cause::Parameters),
        ] {
            crashed.load(31, ENOUGH);
            crashed.bytes()[at] ^= 1;
            assert_eq!(crashed.run(None), expected, "byte {at:#x}");
            assert!(crashed.keeps_everything(cause), "byte {at:#x}");
        }
        crashed.load(31, ENOUGH);
        crashed.facts.five_level = !crashed.facts.five_level;
        assert_eq!(crashed.run(None), End::BadPaging);
        assert!(crashed.keeps_everything(Cause::Levels));
    });
}

/// Parameters with a correct checksum that would make the stage write outside its area.
#[test]
fn parameters_with_wrong_addresses_are_rejected() {
    with_machine("6.12-4level", |machine, _| {
        let mut crashed = Crashed::new(machine);
        let numbers = *crashed.area.numbers();
        let last = PfnRange::new(Pfn::new(AREA / 4096 - 8), Pfn::new(AREA / 4096 + 1));
        let wrong = [
            // The chunk: over memory after the area, and over the data before the chunk in the area.
            (Parameters { bitmap: numbers.area_size, ..numbers }, None),
            (Parameters { bitmap: 0_u64.wrapping_sub(64 << 20), ..numbers }, None),
            (Parameters { bitmap: numbers.tables, ..numbers }, None),
            // The area: at another address, and over the first kernel's memory.
            (Parameters { area: numbers.area - (64 << 20), ..numbers }, None),
            (numbers, Some(last)),
        ];
        for (index, (numbers, range)) in wrong.into_iter().enumerate() {
            crashed.load(31, ENOUGH);
            let untouched = crashed.area.bytes_for(0).len();
            let start = numbers.image_size as usize;
            let block = &mut crashed.bytes()[start..start + numbers.block_size as usize];
            block[..Parameters::SIZE].copy_from_slice(&numbers.to_bytes());
            if let Some(range) = range {
                let at = Parameters::SIZE + (numbers.range_count as usize - 1) * 16;
                block[at..at + 8].copy_from_slice(&range.start.as_u64().to_le_bytes());
                block[at + 8..at + 16].copy_from_slice(&range.end.as_u64().to_le_bytes());
            }
            parameters::seal(block);
            assert_eq!(crashed.run(None), End::BadParameters, "{index}");
            assert!(crashed.keeps_everything(Cause::Parameters), "{index}");
            assert!(crashed.bytes()[untouched..].iter().all(|byte| *byte == 0), "{index}");
        }
    });
}

#[test]
fn a_kernel_without_page_tables_is_a_fault() {
    with_machine("6.12-4level", |machine, _| {
        let mut crashed = Crashed::new(machine);
        crashed.memory.fill(0);
        crashed.load(31, ENOUGH);
        assert_eq!(crashed.run(None), End::Refused);
        let header = crashed.header();
        assert_eq!((header.state, header.frame_count), (State::Fault, 64));
        assert_eq!((header.cause, header.cause_number), (Cause::Refused, ScanStatus::Unreadable as u32));
    });
}
