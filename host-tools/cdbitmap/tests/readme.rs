//! Checks that the run in the README is the output of `cdbitmap demo`.

use std::path::Path;
use std::process::Command;

/// The README has this line instead of the picture on the terminal.
const LEFT_OUT: &str = "[the picture of the memory: see below]";

#[test]
fn the_real_run_is_what_the_demo_prints() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, behind) =
        readme.split_once("From `cargo run --release -- demo`, the picture left out:\n\n```\n").unwrap();
    let (shown, _) = behind.split_once("```\n").unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_cdbitmap")).arg("demo").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (before, picture) = printed.split_once("# Picture the memory\n").unwrap();
    let (_, behind) = picture.split_once("# Write the filtered dump").unwrap();
    let printed = format!("{before}{LEFT_OUT}\n\n# Write the filtered dump{behind}");
    assert_eq!(untimed(shown), untimed(&printed));
}

/// The lines without times, which are the same in each run.
fn untimed(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("STEP [")).collect()
}
