//! Scans of simulated machines of every kernel generation: each must find the pages that the machine was made with.

use cross_tests::synth::{file, small};
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{Counters, DumpLevel, PageClass, RuleSet};
use std::os::unix::fs::MetadataExt;
use vmcore::image::{OpenOptions, open};
use vmcore_synth::{ClassCounts, Fault, GENERATIONS, KernelGeneration, MemoryModel, Profile, Spec};

fn counted(counters: &Counters) -> ClassCounts {
    ClassCounts {
        cache: counters.get(PageClass::Cache),
        cache_private: counters.get(PageClass::CachePrivate),
        user: counters.get(PageClass::User),
        free: counters.get(PageClass::Free) + counters.get(PageClass::Unaccepted),
        hwpoison: counters.get(PageClass::Hwpoison),
        offline: counters.get(PageClass::Offline),
    }
}

/// Scans the machine at dump level 31, and compares the counts of each class with the machine's.
fn check(spec: &Spec) {
    let (core, summary) = file(spec);
    let image = open(core.path(), &OpenOptions::default()).unwrap();
    assert_eq!(image.facts().exists.count(), summary.frames, "{spec:?}");
    assert_eq!(image.facts().backed.count(), summary.backed, "{spec:?}");
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).unwrap();
    assert_eq!(machine.os_release(), spec.generation.release);
    let level = DumpLevel::from_number(31).unwrap();
    let found = scan(&machine, level, &mut RunToCompletion).findings;
    assert_eq!(found.unreadable_frames, 0, "{spec:?}");
    assert_eq!(counted(&found.counters), summary.expected, "{spec:?}");
}

#[test]
fn scans_find_the_pages_of_every_generation() {
    for generation in GENERATIONS {
        check(&small(generation));
    }
}

#[test]
fn scans_find_the_struct_pages_in_every_memory_model() {
    for name in ["2.6.18", "2.6.32", "3.1"] {
        use MemoryModel::{Discontig, Flat, Sparse, SparseExtreme, Vmemmap};
        for model in [Vmemmap, SparseExtreme, Sparse, Discontig, Flat] {
            check(&Spec { model: Some(model), ..small(KernelGeneration::named(name).unwrap()) });
        }
    }
}

#[test]
fn every_profile_on_machines_with_nodes_and_five_levels() {
    for name in ["4.18", "6.1", "6.6", "7.2"] {
        for profile in [Profile::Idle, Profile::Booted, Profile::Busy, Profile::Crowded, Profile::Mixed] {
            let spec =
                Spec { profile, five_level: true, nodes: 2, ..small(KernelGeneration::named(name).unwrap()) };
            check(&spec);
            check(&Spec { memory: 5 << 30, edge_cases: false, nodes: 3, five_level: false, ..spec });
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_file() {
    let spec = Spec { contents: true, ..small(KernelGeneration::named("6.12").unwrap()) };
    let read = |spec: &Spec| std::fs::read(file(spec).0.path()).unwrap();
    let first = read(&spec);
    assert!(first == read(&spec));
    assert!(first != read(&Spec { seed: 2, ..spec }));
}

#[test]
fn a_dense_file_has_the_same_bytes() {
    let spec = Spec { profile: Profile::Idle, ..small(KernelGeneration::named("6.12").unwrap()) };
    let ((sparse, _), (dense, _)) = (file(&spec), file(&Spec { dense: true, ..spec }));
    assert!(std::fs::read(sparse.path()).unwrap() == std::fs::read(dense.path()).unwrap());
    let blocks = |file: &std::fs::File| file.metadata().unwrap().blocks();
    assert!(blocks(dense.as_file()) > blocks(sparse.as_file()), "no holes in the array");
}

/// A scan of a faulty machine ends, and excludes no page that a scan of the machine without faults keeps.
#[test]
fn no_fault_makes_a_scan_exclude_more() {
    let level = DumpLevel::from_number(31).unwrap();
    // With free pages marked in their struct pages, and with free lists only.
    for name in ["6.12", "2.6.32"] {
        let sound =
            Spec { memory: 512 << 20, hand_keys: false, ..small(KernelGeneration::named(name).unwrap()) };
        let (core, _) = file(&sound);
        let image = open(core.path(), &OpenOptions::default()).unwrap();
        let whole =
            scan(&Machine::new(&*image, RuleSet::Makedumpfile).unwrap(), level, &mut RunToCompletion).bitmap;
        for fault in [
            Fault::UnmappedVmemmap,
            Fault::VmemmapOutside,
            Fault::SectionOutside,
            Fault::TableLoop,
            Fault::TableOnes,
            Fault::SectionRootUnmapped,
            Fault::FreeListLoop,
            Fault::FreeListBroken,
            Fault::Truncated,
        ] {
            let (core, _) = file(&Spec { faults: vec![fault], ..sound.clone() });
            // A rejected image or machine loses no page.
            let Ok(image) = open(core.path(), &OpenOptions::default()) else { continue };
            let Ok(machine) = Machine::new(&*image, RuleSet::Makedumpfile) else { continue };
            let scanned = scan(&machine, level, &mut RunToCompletion).bitmap;
            let lost = whole.to_ranges().minus(&scanned.to_ranges());
            let lost = lost.as_slice().iter().filter(|range| range.start.as_u64() < scanned.frames()).count();
            assert_eq!(lost, 0, "{name}, {fault:?}");
        }
    }
}
