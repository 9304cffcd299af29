//! Finds the files with `unsafe`, and compares them with a list.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Files, each with its lines that have the keyword `unsafe`.
pub type UnsafeLines = BTreeMap<String, BTreeSet<usize>>;

/// Reads all Rust files in a package's directory: sources, tests, benchmarks, examples and build scripts.
///
/// Directories of other packages are left out. The names are relative to `top`.
///
/// # Errors
/// A sentence that names the file or directory that cannot be read.
pub fn lines(package: &Path, top: &Path) -> Result<UnsafeLines, String> {
    let mut files = UnsafeLines::new();
    let mut work = vec![package.to_owned()];
    while let Some(directory) = work.pop() {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
        for entry in std::fs::read_dir(&directory).map_err(|error| named(&error))? {
            let path: PathBuf = entry.map_err(|error| named(&error))?.path();
            if path.is_dir() {
                if !path.join("Cargo.toml").exists() && !path.join("CACHEDIR.TAG").exists() {
                    work.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
                let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
                let tokens = text.parse().map_err(|error| format!("{name}: {error}"))?;
                files.insert(name, lines_of(tokens));
            }
        }
    }
    Ok(files)
}

fn lines_of(tokens: TokenStream) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    let mut work = vec![tokens];
    while let Some(tokens) = work.pop() {
        for token in tokens {
            match token {
                TokenTree::Group(group) => work.push(group.stream()),
                TokenTree::Ident(name) if name == "unsafe" => {
                    lines.insert(name.span().start().line);
                }
                _ => {}
            }
        }
    }
    lines
}

/// Files with `unsafe` under none of the prefixes, and prefixes without any, a line each; empty if there are none.
///
/// A prefix consists of whole names: `a/b` is a prefix of `a/b/c.rs` and not of `a/bc.rs`. `a/b` also stands for `a/b.rs`.
/// A `#` starts a comment.
pub fn differences(prefixes: &[&str], files: &UnsafeLines) -> String {
    let prefixes: Vec<&str> =
        prefixes.iter().map(|line| line.split('#').next().unwrap_or_default().trim()).collect();
    let is_under = |file: &str, prefix: &str| {
        Path::new(file).starts_with(prefix) || file.strip_suffix(".rs") == Some(prefix)
    };
    let mut text = String::new();
    for (file, lines) in files.iter().filter(|(_, lines)| !lines.is_empty()) {
        if !prefixes.iter().any(|prefix| !prefix.is_empty() && is_under(file, prefix)) {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            let _ = writeln!(text, "{file} has unsafe in line {}, and is not listed", lines.join(", "));
        }
    }
    for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty()) {
        let is_used = files.iter().any(|(file, lines)| is_under(file, prefix) && !lines.is_empty());
        if !is_used {
            let _ = writeln!(text, "{prefix} is listed, and nothing there has unsafe");
        }
    }
    text
}
