//! The messages that `Documentation/guide/troubleshooting.md` explains are in the source.

use cross_tests::document;
use std::path::Path;

const DOCUMENT: &str = "Documentation/guide/troubleshooting.md";
/// The directories of source files with messages, and the messages of other programs.
const ROOMS: [&str; 3] = ["scanner-core", "host-tools", "linker"];
const OF_OTHERS: [&str; 3] = ["/sys/kernel/kexec_crash_size", "modprobe: ERROR", ".NAME."];

/// Appends the text of all source files in `directory` to `text`, with each string on one line.
fn source(directory: &Path, text: &mut String) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("target") {
                source(&path, text);
            }
        } else if let Ok(file) = std::fs::read_to_string(&path) {
            let mut parts = file.split("\\\n");
            text.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| text.push_str(part.trim_start()));
        }
    }
}

/// The code spans at the start of the tables' rows.
fn messages(document: &str) -> impl Iterator<Item = &str> {
    document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next())
}

#[test]
fn each_message_is_in_the_source() {
    let mut text = String::new();
    ROOMS.iter().for_each(|room| source(&document::path(room), &mut text));
    let page = std::fs::read_to_string(document::path(DOCUMENT)).unwrap();
    let (mut seen, mut missing) = (0, Vec::new());
    for message in messages(&page).filter(|it| !OF_OTHERS.iter().any(|other| it.starts_with(other))) {
        seen += 1;
        // The document prefixes a message with its program, and replaces its variable parts with an ellipsis.
        let message = ["cdbitmap-makedumpfile: ", "install: ", "kexec: "]
            .iter()
            .find_map(|program| message.strip_prefix(program))
            .unwrap_or(message);
        let parts = message.split('…').map(str::trim).filter(|part| part.len() > 2);
        missing
            .extend(parts.filter(|part| !text.contains(part)).map(|part| format!("{part:?} of {message:?}")));
    }
    assert!(seen > 40, "{DOCUMENT} has only {seen} messages");
    assert!(
        missing.is_empty(),
        "{DOCUMENT} quotes messages that no source file has:\n{}",
        missing.join("\n")
    );
}
