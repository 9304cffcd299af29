//! Runs the fuzz targets without a fuzzer: on their seeds, on inputs that a fuzzer found earlier, and on a few hundred
//! damaged copies of both.

use cross_tests::fuzz::{TARGETS, run, seeds};
use cross_tests::simulated::Dice;
use std::path::Path;

/// Number of damaged copies of each input; `FUZZ_COPIES` overrides it.
fn copies() -> u64 {
    std::env::var("FUZZ_COPIES").ok().and_then(|number| number.parse().ok()).unwrap_or(100)
}

/// Inputs of fixed defects that a fuzzer found: `tests/fuzz/found/TARGET/*`.
fn found(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(name);
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// Overwrites some bytes, or truncates the input.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        if dice.once_in(6) {
            bytes.truncate(at);
        } else if let Some(byte) = bytes.get_mut(at) {
            *byte = [0, 0xff, 0x7f, dice.any() as u8][dice.below(4) as usize];
        }
    }
}

#[test]
fn targets_pass() {
    let mut dice = Dice::new(1);
    for (name, _) in TARGETS {
        run(name, &[]);
        for input in seeds(name).into_iter().chain(found(name)) {
            run(name, &input);
            for _ in 0..copies() {
                let mut bytes = input.clone();
                damage(&mut bytes, &mut dice);
                run(name, &bytes);
            }
        }
    }
}

/// Each target has seeds and a file in `tests/fuzz/fuzz_targets`.
#[test]
fn every_target_has_seeds_and_a_file() {
    for (name, _) in TARGETS {
        assert!(!seeds(name).is_empty(), "{name}");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(file.exists(), "{}", file.display());
    }
}
