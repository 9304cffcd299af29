//! Fixtures: trimmed vmcores and makedumpfile's bitmaps for them, in `tests/fixtures`. The demo's fixture is in
//! `host-tools/cdbitmap/demo`.
//!
//! `NAME.vmcore.zst` is a vmcore trimmed by [`trim`](crate::trim). `NAME.bitmaps.zst` contains a text head of
//! `key: value` lines, an empty line, and makedumpfile's 2nd bitmaps for dump levels 0 to 31 of `bitmap_bytes` bytes
//! each. Both are compressed with zstd. The binary `trim-vmcore` makes both.

use cdbitmap::sample::copy_sparse;
pub use cdbitmap::sample::{Bitmaps, LEVELS};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// An unpacked fixture. Its vmcore is a sparse temporary file.
#[derive(Debug)]
pub struct Fixture {
    /// The vmcore.
    pub vmcore: NamedTempFile,
    /// makedumpfile's bitmaps.
    pub bitmaps: Bitmaps,
}

impl Fixture {
    /// Unpacks the fixture `name`.
    ///
    /// # Panics
    /// Panics if the fixture cannot be read or unpacked.
    pub fn unpack(name: &str) -> Self {
        let compressed = File::open(path(name, "vmcore.zst")).expect("the fixture's vmcore can be opened");
        let mut vmcore = NamedTempFile::new().expect("a temporary file");
        copy_sparse(decoder(compressed), vmcore.as_file_mut()).expect("the fixture's vmcore unpacks");
        let compressed = File::open(path(name, "bitmaps.zst")).expect("the fixture's bitmaps can be opened");
        let mut bytes = Vec::new();
        decoder(compressed).read_to_end(&mut bytes).expect("the fixture's bitmaps unpack");
        Self { vmcore, bitmaps: Bitmaps::parse(&bytes).expect("the fixture's bitmaps are well-formed") }
    }

    /// The path of the vmcore.
    pub fn path(&self) -> &Path {
        self.vmcore.path()
    }
}

/// The names of all fixtures, sorted.
///
/// # Panics
/// Panics if a directory cannot be read.
pub fn names() -> Vec<String> {
    let entries =
        DIRECTORIES.map(|directory| in_repository(directory).read_dir().expect("fixtures can be listed"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.expect("an entry of a directory").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".vmcore.zst").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The path of the file `NAME.ENDING` of the fixture `name`. The file need not exist.
pub fn path(name: &str, ending: &str) -> PathBuf {
    let [own, demo] = DIRECTORIES.map(|directory| in_repository(directory).join(format!("{name}.{ending}")));
    if demo.exists() { demo } else { own }
}

/// The directories of fixtures. The demo's fixture is in the crate whose binary embeds it.
const DIRECTORIES: [&str; 2] = ["tests/fixtures", "host-tools/cdbitmap/demo"];

fn in_repository(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory)
}

/// Compresses the contents of `source` into the file `target`.
///
/// # Errors
/// `source` cannot be read or `target` cannot be written.
pub fn compress(mut source: impl Read, target: &Path) -> std::io::Result<()> {
    let mut encoder = zstd::Encoder::new(File::create(target)?, 19)?;
    std::io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.flush()
}

fn decoder(compressed: File) -> impl Read {
    zstd::Decoder::new(compressed).expect("a decoder")
}
