//! The calls between the C files of the kernel module.
//!
//! linker/kernel-module/internal.h lists the files, each above those that it calls, and declares after `/* FILE */` what
//! FILE defines.

use super::top;
use std::collections::BTreeMap;

/// The C files in the order of the list in a header.
fn listed(header: &str) -> Vec<&str> {
    let words = header.lines().filter_map(|line| line.strip_prefix(" *   ")?.split_whitespace().next());
    words.filter(|word| word.ends_with(".c")).collect()
}

/// The functions and variables that headers declare, each with its file.
fn declared(headers: &[&str]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for header in headers {
        let mut file = None;
        for line in header.lines() {
            if let Some(comment) = line.strip_prefix("/* ").and_then(|line| line.strip_suffix(".c */")) {
                file = Some(format!("{comment}.c"));
            }
            let Some(file) = &file else { continue };
            // Fields of structures are indented, and a type is no call.
            if !line.starts_with(char::is_whitespace) {
                for name in words(line).filter(|name| !line.contains(&format!("struct {name}"))) {
                    names.insert(name.to_owned(), file.clone());
                }
            }
        }
    }
    names
}

/// The words of C code that start with `cdb_`.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.starts_with("cdb_"))
}

/// The calls of a file that stands above, a line each.
fn calls_upwards(
    order: &[&str],
    names: &BTreeMap<String, String>,
    files: &[(String, String)],
) -> Vec<String> {
    let place = |file: &str| order.iter().position(|listed| *listed == file);
    let mut found = Vec::new();
    for (file, text) in files {
        let Some(own) = place(file) else {
            found.push(format!("{file} is not in the list of internal.h"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for name in words(line) {
                let Some(definer) = names.get(name).filter(|definer| *definer != file) else { continue };
                if place(definer).is_none_or(|definer| definer < own) {
                    found.push(format!("{file}:{} uses {name} of {definer}", number + 1));
                }
            }
        }
    }
    found
}

#[test]
fn the_files_of_the_kernel_module_call_one_way() {
    let directory = top().join("linker/kernel-module");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let (internal, test) = (read("internal.h"), read("test.h"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".c") {
            files.push((name.clone(), read(&name)));
        }
    }
    files.sort();
    let names = declared(&[&internal, &test]);
    assert!(names.len() > 20, "internal.h declares only {names:?}");
    let found = calls_upwards(&listed(&internal), &names, &files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_call_upwards_is_found() {
    let header = "/*\n *   main.c     loads\n *   proc.c     shows\n *   params.c   parameters\n */\n\
                  struct cdb_scan {\n};\n/* proc.c */\nint cdb_proc_create(void);\n/* params.c */\nextern u32 cdb_rules;\n\
                  struct cdb_text *cdb_text_of(struct cdb_scan *scan);\n";
    let names = declared(&[header]);
    assert_eq!(names.keys().collect::<Vec<_>>(), ["cdb_proc_create", "cdb_rules", "cdb_text_of"]);
    let order = listed(header);
    assert_eq!(order, ["main.c", "proc.c", "params.c"]);
    let files = |name: &str, text: &str| [(name.to_owned(), text.to_owned())];
    assert!(calls_upwards(&order, &names, &files("main.c", "cdb_proc_create();\ncdb_rules = 1;")).is_empty());
    assert_eq!(
        calls_upwards(&order, &names, &files("params.c", "u32 cdb_rules;\ncdb_proc_create();")),
        ["params.c:2 uses cdb_proc_create of proc.c"]
    );
    assert_eq!(
        calls_upwards(&order, &names, &files("new.c", "")),
        ["new.c is not in the list of internal.h"]
    );
}
