//! Generated parts of the documentation. A part lies between the lines `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// If this environment variable is set, [`check`] writes the part instead of comparing it.
pub const UPDATE: &str = "UPDATE_DOCS";

/// Serialises writes: tests run in parallel, and several can write parts of one file.
static WRITING: Mutex<()> = Mutex::new(());

/// The path of a documentation file; `name` is relative to the project's root.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Compares the part `name` of `file` with `made`, or writes it if [`UPDATE`] is set.
///
/// # Panics
/// Panics if they differ, or if the file has no such part.
pub fn check(file: &str, name: &str, made: &str) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path(file);
    let text = std::fs::read_to_string(&path).expect("the document can be read");
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} has no line {begin}"));
    let (part, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} has no line {end}"));
    if part == made {
        return;
    }
    assert!(
        std::env::var_os(UPDATE).is_some(),
        "{file}: the part {name} is out of date; update it with {UPDATE}=1. Expected:\n{made}"
    );
    std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).expect("the document can be written");
}
