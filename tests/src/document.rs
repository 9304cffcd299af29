//! Parts of the documentation that tests make. A part stands between two lines, `<!-- NAME:begin -->` and
//! `<!-- NAME:end -->`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// With this environment variable set, [`check`] writes the part instead of comparing it.
pub const UPDATE: &str = "UPDATE_DOCS";

/// Tests run side by side, and several may write parts of one file.
static WRITING: Mutex<()> = Mutex::new(());

/// The path of a file of the documentation, from the project's root.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Compares the part `name` of `file` with `made`, or writes it if [`UPDATE`] is set.
///
/// # Panics
/// If they differ, or if the file has no such part.
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
        "{file}: the part {name} is out of date; write it with {UPDATE}=1. It should be:\n{made}"
    );
    std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).expect("the document can be written");
}
