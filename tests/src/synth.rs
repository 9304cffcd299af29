//! Simulated machines in temporary files.

use tempfile::NamedTempFile;
use vmcore_synth::{KernelGeneration, Spec, Summary, write};

/// A small machine of `generation` with all page classes and all edge cases.
pub fn small(generation: &'static KernelGeneration) -> Spec {
    Spec::with_everything(generation, 256 << 20)
}

/// The machine `spec` as a temporary file, and the counts that a filter must find in it.
///
/// # Panics
/// Panics if the file cannot be written.
pub fn file(spec: &Spec) -> (NamedTempFile, Summary) {
    let file = NamedTempFile::new().expect("temporary files can be made");
    let summary = write(spec, file.as_file()).expect("the machine can be written");
    (file, summary)
}
