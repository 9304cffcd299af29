//! The man pages match the command line, and their examples are valid.

use cdbitmap::commands::CommandLine;
use clap::{CommandFactory, Parser};
use cross_tests::man::{EXAMPLES, directory, pages};
use std::collections::BTreeSet;

#[test]
fn the_pages_are_up_to_date() {
    let made: BTreeSet<(String, String)> = pages().unwrap().into_iter().collect();
    let entries = directory().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let there = entries.filter(|path| path.extension().is_some_and(|extension| extension == "1"));
    let there: BTreeSet<(String, String)> = there
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let names = |pages: &BTreeSet<(String, String)>| -> Vec<String> {
        pages.iter().map(|(name, _)| name.clone()).collect()
    };
    let stale: Vec<_> = made.symmetric_difference(&there).map(|(name, _)| name).collect();
    assert!(
        stale.is_empty(),
        "stale: {stale:?} (made {:?}); run `cargo run -p cross-tests --bin man`",
        names(&made)
    );
}

#[test]
fn every_command_has_valid_examples() {
    let root = CommandLine::command();
    for command in root.get_subcommands() {
        let name = command.get_name();
        let examples = EXAMPLES.iter().find(|(of, _)| *of == name);
        assert!(examples.is_some_and(|(_, examples)| !examples.is_empty()), "{name} has no example");
    }
    let known = |name: &str| name.is_empty() || root.find_subcommand(name).is_some();
    for (_, examples) in EXAMPLES.iter().filter(|(name, _)| known(name)) {
        for (_, arguments) in *examples {
            let words = std::iter::once("cdbitmap").chain(arguments.split(' '));
            let parsed = CommandLine::try_parse_from(words);
            assert!(parsed.is_ok(), "{arguments}: {}", parsed.unwrap_err());
        }
    }
}
