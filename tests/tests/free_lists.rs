//! Free pages from the zones' free lists, on simulated machines of kernels that do not export how a `struct page` marks
//! them.

use page_filter::machine::Machine;
use page_filter::scan::{ScannedBitmap, scan};
use scanner_core::kernel::layout::FreePages;
use scanner_core::memmap::free_lists::{FreeListError, FreeLists};
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, PageClass, RuleSet};
use vmcore::image::{OpenOptions, open};
use vmcore_synth::{Fault, KernelGeneration, MemoryModel, Spec, write};

/// A machine whose VMCOREINFO describes free pages only by the free lists.
fn spec(generation: &str, model: MemoryModel, nodes: u32) -> Spec {
    let generation = KernelGeneration::named(generation).expect("there is such a generation");
    let everything = Spec::with_everything(generation, 256 << 20);
    Spec {
        model: Some(model),
        nodes,
        hotplug: false,
        hand_keys: false,
        edge_cases: false,
        seed: 7,
        ..everything
    }
}

/// Scans `spec` at `level`. Returns also the machine's number of free pages.
fn scan_at(spec: &Spec, level: DumpLevel) -> (ScannedBitmap, u64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let summary = write(spec, file.as_file()).unwrap();
    let image = open(file.path(), &OpenOptions::default()).unwrap();
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).unwrap();
    assert_eq!(machine.layout.free, FreePages::FreeLists);
    (scan(&machine, level, &mut RunToCompletion), summary.expected.free)
}

#[test]
fn all_free_pages_are_found_in_every_memory_model() {
    for (generation, model, nodes) in [
        ("2.6.18", MemoryModel::Flat, 1),
        ("2.6.18", MemoryModel::Discontig, 2),
        ("2.6.18", MemoryModel::Sparse, 2),
        ("2.6.32", MemoryModel::SparseExtreme, 2),
        ("2.6.32", MemoryModel::Vmemmap, 2),
    ] {
        for level in [DumpLevel::FREE, DumpLevel::all()] {
            let (scanned, free) = scan_at(&spec(generation, model, nodes), level);
            assert_eq!(scanned.findings.broken_free_lists, []);
            assert_eq!(scanned.findings.counters.get(PageClass::Free), free, "{generation} {model:?}");
        }
    }
}

#[test]
fn a_broken_list_is_reported_and_loses_only_its_rest() {
    for fault in [Fault::FreeListLoop, Fault::FreeListBroken] {
        let faulty = Spec { faults: vec![fault], ..spec("2.6.32", MemoryModel::Vmemmap, 1) };
        let (scanned, free) = scan_at(&faulty, DumpLevel::FREE);
        let [(FreeLists::List { .. }, FreeListError::BrokenLink { .. })] =
            scanned.findings.broken_free_lists[..]
        else {
            panic!("{fault:?}: {:?}", scanned.findings.broken_free_lists);
        };
        let found = scanned.findings.counters.get(PageClass::Free);
        // A list whose last entry points back into the list has listed all of its blocks by then.
        let lost = if fault == Fault::FreeListLoop { 0..free / 2 } else { 1..free / 2 };
        assert!(lost.contains(&(free - found)), "{fault:?}: {found} of {free}");
    }
}
