//! Compares the scan's bitmaps of simulated machines of every kernel generation with makedumpfile's, bit for bit, at
//! every dump level. The environment variable `MAKEDUMPFILE` is the path of makedumpfile; without it the tests are
//! skipped.

use cross_tests::synth::{file, small};
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, Pfn, PfnRange, RuleSet};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use vmcore::dump::dumpable::DumpableFrames;
use vmcore::image::{OpenOptions, open};
use vmcore_synth::{GENERATIONS, KernelGeneration, MemoryModel, Profile, Spec};

/// The path of makedumpfile. Prints a message if `MAKEDUMPFILE` is not set.
fn makedumpfile() -> Option<OsString> {
    let binary = std::env::var_os("MAKEDUMPFILE");
    if binary.is_none() {
        // The test harness captures the output of `eprintln!`.
        let _ = writeln!(std::io::stderr(), "SKIPPED: set MAKEDUMPFILE to compare with makedumpfile");
    }
    binary
}

/// Filters `core` into `dump`.
fn filter(makedumpfile: &OsString, core: &Path, dump: &Path, level: u64) {
    let output = Command::new(makedumpfile)
        .args(["-f", "-l", "--message-level", "31", "-d"])
        .arg(level.to_string())
        .args([core, dump])
        .output()
        .expect("MAKEDUMPFILE can be run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "makedumpfile -d {level}: {said}");
}

/// Compares the 2nd bitmap of each of `levels`.
fn compare(makedumpfile: &OsString, spec: &Spec, levels: impl IntoIterator<Item = u64>) {
    let (core, _) = file(spec);
    let dump = tempfile::NamedTempFile::new().unwrap();
    let image = open(core.path(), &OpenOptions::default()).unwrap();
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).unwrap();
    let exists = machine.exists();
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let dumpable = DumpableFrames::new(image.facts(), &exists).window(all);
    let name = spec.generation.name;
    for number in levels {
        let level = DumpLevel::from_number(number).unwrap();
        filter(makedumpfile, core.path(), dump.path(), number);
        let theirs = open(dump.path(), &OpenOptions::default()).unwrap();
        let theirs = &theirs.facts().filtered.as_ref().expect("a dump is filtered").kept;
        let mut ours = dumpable.clone();
        ours.intersect(&scan(&machine, level, &mut RunToCompletion).bitmap);
        let (ours, theirs) = (ours.to_ranges(), theirs.to_ranges());
        assert!(
            ours == theirs,
            "{name}, level {number}, {spec:?}: kept although makedumpfile drops them: {:?}; dropped although it keeps them: \
             {:?}",
            ours.minus(&theirs),
            theirs.minus(&ours)
        );
    }
}

#[test]
fn every_generation_at_every_level() {
    let Some(makedumpfile) = makedumpfile() else { return };
    for generation in GENERATIONS {
        compare(&makedumpfile, &small(generation), 0..32);
    }
}

#[test]
fn every_memory_model_with_and_without_keys_added_by_hand() {
    let Some(makedumpfile) = makedumpfile() else { return };
    for name in ["2.6.18", "2.6.32", "2.6.38", "3.1"] {
        use MemoryModel::{Discontig, Flat, Sparse, SparseExtreme, Vmemmap};
        for model in [Vmemmap, SparseExtreme, Sparse, Discontig, Flat] {
            for hand_keys in [false, true] {
                let spec = Spec {
                    model: Some(model),
                    hand_keys,
                    nodes: if model == Flat { 1 } else { 2 },
                    ..small(KernelGeneration::named(name).unwrap())
                };
                compare(&makedumpfile, &spec, [8, 16, 31]);
            }
        }
    }
}

#[test]
fn profiles_nodes_and_five_levels() {
    let Some(makedumpfile) = makedumpfile() else { return };
    for name in ["4.18", "6.1", "7.2"] {
        for profile in [Profile::Idle, Profile::Booted, Profile::Busy, Profile::Crowded] {
            let spec = Spec {
                profile,
                memory: 5 << 30,
                five_level: true,
                nodes: 3,
                ..small(KernelGeneration::named(name).unwrap())
            };
            compare(&makedumpfile, &spec, [4, 8, 31]);
        }
    }
}
