//! The demo prints what the guide and the README show. `UPDATE_DOCS=1` writes the part of the guide.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the guide has in place of the picture in the terminal.
const OMITTED: &str = "[the picture of the memory: see below]\n\n";
/// The part of the guide that has the whole run.
const BEGIN: &str = "<!-- demo:begin -->\n```\n";
const END: &str = "```\n<!-- demo:end -->\n";

/// A file of the documentation.
fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// What the demo prints, without the picture.
fn printed() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cdbitmap")).arg("demo").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (before, picture) = printed.split_once("# Picture the memory\n").unwrap();
    let at = picture.find("# Write the filtered dump").unwrap();
    format!("{before}{OMITTED}{}", &picture[at..])
}

/// The lines that are the same in each run.
fn untimed(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("STEP [")).collect()
}

#[test]
fn the_guide_shows_the_whole_run() {
    let path = document("Documentation/guide/demo.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let printed = printed();
    if untimed(shown) != untimed(&printed) && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{printed}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(untimed(shown), untimed(&printed), "update the guide with UPDATE_DOCS=1");
}

#[test]
fn the_readme_shows_lines_of_the_run_in_their_order() {
    let text = std::fs::read_to_string(document("README.md")).unwrap();
    let (_, after) = text.split_once("From `cargo run --release -- demo`, shortened").unwrap();
    let (shown, _) = after.split_once("```\n").unwrap().1.split_once("```\n").unwrap();
    let printed = printed();
    let mut lines = printed.lines();
    for line in shown.lines().filter(|line| !line.is_empty()) {
        assert!(
            lines.any(|it| it == line),
            "the demo does not print this line, or not in this order: {line}"
        );
    }
}
