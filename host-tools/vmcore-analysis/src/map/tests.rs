use super::*;
use page_filter::scan::scan;
use scanner_core::PageClass;
use scanner_core::scan::RunToCompletion;
use std::collections::BTreeSet;
use vmcore::image::{OpenOptions, open};
use vmcore_synth::{KernelGeneration, Spec, write};

/// A machine with pages of all classes and two nodes, of 64 MiB and 24 MiB. A hole separates the nodes.
fn small_map(columns: usize, max_lines: usize) -> MemoryMap {
    use FrameClass::*;
    let lengths = [
        (Kept, 159),
        (Hole, 97),
        (Kept, 2000),
        (Free, 5000),
        (User, 6000),
        (Hwpoison, 1),
        (CachePrivate, 127),
        (Cache, 2500),
        (Free, 500),
        (Hole, 0x30000),
        (Free, 3000),
        (Unaccepted, 1000),
        (Offline, 1000),
        (Unreadable, 44),
        (NoData, 100),
        (Kept, 1000),
    ];
    let mut end = Pfn::new(0);
    let runs = lengths.map(|(class, len)| {
        let frames = PfnRange::from_start(end, len);
        end = frames.end;
        ClassRun { frames, class }
    });
    let exists = runs.iter().filter(|run| run.class != Hole).map(|run| run.frames);
    let mut grid = Grid::new(&FrameRanges::from_ranges(exists), columns, max_lines);
    runs.into_iter().for_each(|run| grid.add(run));
    let second = Pfn::new(0x34000);
    MemoryMap {
        release: "6.1.0-<small>".to_owned(),
        level: DumpLevel::all(),
        rule_set: RuleSet::Makedumpfile,
        frames: end.as_u64(),
        grid,
        nodes: vec![(0, PfnRange::new(Pfn::new(0), second)), (1, PfnRange::new(second, end))],
        findings: ScanFindings { complete: true, ..ScanFindings::default() },
    }
}

fn empty_map() -> MemoryMap {
    let grid = Grid::new(&FrameRanges::default(), COLUMNS, MAX_LINES);
    MemoryMap { frames: 0, grid, nodes: Vec::new(), ..small_map(COLUMNS, MAX_LINES) }
}

#[test]
fn terminal_shows_every_class() {
    insta::assert_snapshot!(small_map(64, 16).to_terminal(Look::Letters));
}

#[test]
fn colours_match_the_terminals_depth() {
    let map = small_map(64, 16);
    let (many, few) = (map.to_terminal(Look::TrueColour), map.to_terminal(Look::Colours256));
    let Colour(red, green, blue) = Colour::of(FrameClass::Free);
    assert!(many.contains(&format!("\x1b[48;2;{red};{green};{blue}m")));
    assert!(!few.contains("48;2;") && few.contains("\x1b[48;5;"));
    for text in [many, few] {
        // Each line ends with a reset of the colours.
        assert!(text.lines().filter(|l| l.contains('\x1b')).all(|l| l.rfind("\x1b[0m") == l.rfind('\x1b')));
    }
}

#[test]
fn svg_shows_every_class() {
    insta::assert_snapshot!(to_svg(&small_map(COLUMNS, MAX_LINES).draw()));
}

#[test]
fn a_png_has_the_colours_of_the_legend() {
    let map = small_map(COLUMNS, MAX_LINES);
    let drawing = map.draw();
    let file = to_png(&drawing).unwrap();
    let mut decoder = ::png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(::png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (drawing.width, drawing.height));
    let colours: BTreeSet<Colour> = pixels.chunks_exact(3).map(|p| Colour(p[0], p[1], p[2])).collect();
    for class in FrameClass::ALL {
        assert!(colours.contains(&Colour::of(class)), "{class:?}");
    }
    assert!(colours.len() < 256, "a palette has at most 256 colours");
}

#[test]
fn a_machine_without_memory_has_a_picture() {
    let map = empty_map();
    assert!(to_svg(&map.draw()).ends_with("</svg>\n"));
    assert!(!to_png(&map.draw()).unwrap().is_empty());
    assert!(map.to_terminal(Look::Letters).starts_with("Memory of Linux"));
}

#[test]
fn a_cell_shows_one_poisoned_page() {
    let map = small_map(COLUMNS, 8);
    let red = |shape: &&Shape| matches!(shape, Shape::Rect(r) if r.fill == Colour::of(FrameClass::Hwpoison));
    // One in the map, one in the legend.
    assert_eq!(map.draw().shapes.iter().filter(red).count(), 2);
    assert!(map.to_terminal(Look::Letters).contains('!'));
}

/// A simulated machine with pages of all classes, and holes.
fn with_machine(check: impl FnOnce(&Machine<'_>)) {
    let generation = KernelGeneration::named("6.16").unwrap();
    let spec = Spec { nodes: 2, seed: 3, ..Spec::with_everything(generation, 128 << 20) };
    let file = tempfile::NamedTempFile::new().unwrap();
    write(&spec, file.as_file()).unwrap();
    let image = open(file.path(), &OpenOptions::default()).unwrap();
    check(&Machine::new(&*image, RuleSet::Makedumpfile).unwrap());
}

#[test]
fn runs_cover_every_frame_once_and_agree_with_a_scan() {
    with_machine(|machine| {
        let mut checkpoint = RunToCompletion;
        let mut counts = ClassCounts::default();
        let mut end = Pfn::new(0);
        let mut previous = None;
        for run in ClassRuns::new(machine, DumpLevel::all(), &mut checkpoint) {
            assert_eq!(run.frames.start, end);
            assert_ne!(Some(run.class), previous, "two adjacent runs have the same class");
            (end, previous) = (run.frames.end, Some(run.class));
            counts.add(run.class, run.frames.len());
        }
        assert_eq!(end.as_u64(), machine.frames);
        let mut scanned = scan(machine, DumpLevel::all(), &mut RunToCompletion);
        scanned
            .bitmap
            .intersect(&vmcore::frames::FrameBitmap::from_ranges(&machine.exists(), machine.frames));
        let excluded: u64 = PageClass::ALL.into_iter().map(|class| counts.get(class.into())).sum();
        assert_eq!(counts.existing() - excluded, scanned.bitmap.count());
        for class in
            [FrameClass::Unaccepted, FrameClass::Offline, FrameClass::Hwpoison, FrameClass::CachePrivate]
        {
            assert!(counts.get(class) > 0, "{class:?}");
        }
    });
}

#[test]
fn map_and_report_have_the_same_counts() {
    with_machine(|machine| {
        let map = MemoryMap::of(machine, DumpLevel::all(), (32, 10), &mut RunToCompletion);
        assert_eq!(map.grid.counts().total(), machine.frames);
        assert_eq!(map.nodes.len(), 2);
        let mut text = Vec::new();
        let mut checkpoint = RunToCompletion;
        let runs = ClassRuns::new(machine, DumpLevel::all(), &mut checkpoint);
        RunsReport::new(machine, DumpLevel::all(), runs).write(&mut text).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for class in FrameClass::ALL {
            let frames = map.grid.counts().get(class);
            assert_eq!(report["counts"][class.name()], frames);
            let runs = report["runs"].as_array().unwrap().iter().filter(|run| run["class"] == class.name());
            assert_eq!(runs.map(|run| run["frames"].as_u64().unwrap()).sum::<u64>(), frames);
        }
    });
}
