//! Simulated machines in temporary files.

use tempfile::NamedTempFile;
use vmcore_synth::{KernelGeneration, Spec, Summary, write};

/// A small machine of `generation` with everything in it: all kinds of pages, all edge cases.
pub fn small(generation: &'static KernelGeneration) -> Spec {
    Spec::with_everything(generation, 256 << 20)
}

/// The machine `spec` as a file, and what a filter has to find in it.
///
/// # Panics
/// If it can't be written.
pub fn file(spec: &Spec) -> (NamedTempFile, Summary) {
    let file = NamedTempFile::new().expect("temporary files can be made");
    let summary = write(spec, file.as_file()).expect("the machine can be written");
    (file, summary)
}
