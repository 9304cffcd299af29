//! The checks themselves, on small trees: each has to find what it is for, and nothing else.

use super::circles::{circles, describe, describe_rooms};
use super::modules::Modules;
use super::plan::{Dependencies, block, dependencies, differences};
use super::unsafe_code;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A crate of these files, with their texts; the first one is its root.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Modules, String>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let modules = Modules::read(&directory.path().join(files[0].0));
    (directory, modules)
}

/// All uses between files, as "FILE -> FILE".
fn uses(files: &[(&str, &str)]) -> Vec<String> {
    let (directory, modules) = tree(files);
    let modules = modules.unwrap();
    let name =
        |index: usize| modules.files[index].strip_prefix(directory.path()).unwrap().display().to_string();
    modules.uses().keys().map(|(from, to)| format!("{} -> {}", name(*from), name(*to))).collect()
}

/// What the check prints about a crate.
fn described(files: &[(&str, &str)]) -> String {
    let (directory, modules) = tree(files);
    describe("house", &modules.unwrap(), directory.path())
}

const ROOT: &str = "mod a; mod b; mod c;";

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    let text = described(&[
        ("lib.rs", ROOT),
        ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
        ("b.rs", "pub struct B;\nimpl B {\n    fn to(self) -> super::a::A { crate::a::A(self) }\n}\n"),
        ("c.rs", "use crate::a::A;\nfn c(_: A) {}\n"),
    ]);
    assert_eq!(
        text,
        "house: 2 files use each other in a circle\n  \
         a.rs:1 uses crate::b::B of b.rs (and 1 more)\n  \
         b.rs:3 uses crate::a::A of a.rs (and 1 more)\n"
    );
}

#[test]
fn longer_circles_are_spelled_out() {
    let text = described(&[
        ("lib.rs", ROOT),
        ("a.rs", "pub fn a() { crate::b::b() }"),
        ("b.rs", "pub fn b() { crate::c::c() }"),
        ("c.rs", "pub fn c() { crate::a::a() }"),
    ]);
    assert_eq!(
        text,
        "house: 3 files use each other in a circle\n  \
         a.rs:1 uses crate::b::b of b.rs\n  \
         b.rs:1 uses crate::c::c of c.rs\n  \
         c.rs:1 uses crate::a::a of a.rs\n"
    );
}

#[test]
fn directories_can_use_each_other_where_no_files_do() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; fn all() { a::a(); b::b(); c::c() }"),
        ("src/a/mod.rs", "mod deep; pub use deep::a;"),
        ("src/a/deep.rs", "pub fn a() { crate::b::b() }"),
        ("src/b.rs", "pub fn b() { crate::c::c() }"),
        ("src/c/mod.rs", "mod other; pub fn c() {}"),
        ("src/c/other.rs", "fn other() { crate::a::a() }"),
    ];
    assert_eq!(described(&files), "");
    let (directory, modules) = tree(&files);
    assert_eq!(
        describe_rooms("house", &modules.unwrap(), &directory.path().join("src")),
        "house: 3 modules use each other in a circle: a, b, c\n  \
         a/deep.rs:1 uses crate::b::b of b.rs\n  \
         b.rs:1 uses crate::c::c of c/mod.rs\n  \
         c/other.rs:1 uses crate::a::a of a/deep.rs\n"
    );
}

#[test]
fn each_circle_is_found_once() {
    let place = |line| super::modules::Use { line, path: "x".to_owned() };
    let uses = |between: &[(usize, usize)]| -> super::modules::Uses {
        between.iter().map(|between| (*between, BTreeSet::from([place(1)]))).collect()
    };
    assert!(circles(&uses(&[(0, 1), (1, 2), (0, 2), (3, 0)])).is_empty());
    // Without the use of 2 by 1 the longer one is no circle either.
    assert_eq!(circles(&uses(&[(0, 1), (1, 2), (2, 0), (2, 1)])), [vec![1, 2]]);
    assert_eq!(circles(&uses(&[(0, 1), (1, 0), (2, 3), (3, 2), (1, 2)])), [vec![0, 1], vec![2, 3]]);
    // The use with the fewest places is the one to take away.
    let mut more = uses(&[(0, 1), (1, 0), (1, 2), (2, 0)]);
    more.get_mut(&(0, 1)).unwrap().insert(place(2));
    assert_eq!(circles(&more), [vec![0, 1], vec![0, 1, 2]]);
}

#[test]
fn an_item_counts_for_the_file_that_defines_it() {
    // By way of the root, of another module, of a renamed one, of a glob.
    for (root, user) in [
        ("mod a; mod b; mod c; pub use b::B;", "use crate::B; fn a(_: B) {}"),
        ("mod a; mod b; mod c; pub use b::B;", "fn a(_: crate::B) {}"),
        ("mod a; mod b; mod c; pub use b::{self as other, B as Renamed};", "fn a(_: crate::Renamed) {}"),
        ("mod a; mod b; mod c; pub use b::{self as other};", "fn a(_: crate::other::B) {}"),
        ("mod a; mod b; mod c; pub use b::*;", "fn a(_: crate::B) {}"),
        ("mod a; mod b; mod c; pub use c::again::B;", "use super::B; fn a(_: B) {}"),
        ("mod a; mod b; mod c; pub use c::*;", "fn a(_: super::again::B) {}"),
        (ROOT, "use crate::c::again::B as C; fn a(_: C) {}"),
        (ROOT, "use crate::c::again; fn a(_: again::B) {}"),
        (ROOT, "use crate::b; fn a(_: b::B) {}"),
        (ROOT, "use crate::b::*; fn a(_: B) {}"),
        (ROOT, "use crate::{b::{self}, c}; fn a() { let _ = b::B; }"),
        (ROOT, "fn a() { use super::b::B; let B = B; }"),
        (ROOT, "fn a(_: Vec<Option<&'static crate::b::B>>) {}"),
        (ROOT, "fn a() { <crate::b::B as Clone>::clone(); }"),
        (ROOT, "fn a() { assert_eq!(1, crate::b::B::NUMBER); }"),
        (ROOT, "use crate::b as other; fn a() { println!(\"{}\", other::B.value); }"),
        (ROOT, "macro_rules! make { () => { $crate::b::B } }"),
        (ROOT, "mod inline { fn a(_: super::super::b::B) {} }"),
        (ROOT, "mod inline { use super::*; fn a(_: B) {} } use crate::b::B;"),
    ] {
        let files = [
            ("lib.rs", root),
            ("a.rs", user),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub mod again { pub use crate::b::*; } "),
        ];
        assert_eq!(uses(&files), ["a.rs -> b.rs"], "{root}\n{user}");
    }
}

#[test]
fn what_names_no_item_of_another_file_is_no_use() {
    for user in [
        "use std::fmt; use core::b; use b::x; fn a(_: fmt::Arguments) {}",
        "use ::b::B; fn a(_: ::b::B) {}",
        "use crate::b; mod b2 { pub struct B; } use b2::B; fn a(_: B) {}",
        "struct B; fn a(_: B) {}",
        "use super::b::*; fn a(count: usize) -> usize { count }",
        "/// See [`crate::b::B`].\n#[doc = \"crate::b::B\"]\nfn a() { let _ = \"crate::b::B\"; }",
        "#[cfg(test)]\nmod tests { use crate::b::B; }",
        "#[cfg(all(test, target_os = \"linux\"))]\nuse crate::b::B;",
        "#[test]\nfn a(_: crate::b::B) {}",
        "struct A; impl A { #[cfg(test)] fn a(_: crate::b::B) {} }",
        "fn a() { #[cfg(test)] let _ = crate::b::B; #[cfg(test)] use crate::b::B; }",
        "fn a(it: It) { println!(\"{}\", it.B); format!(\"{}\", ::b::B); }",
    ] {
        let files =
            [("lib.rs", ROOT), ("a.rs", user), ("b.rs", "pub struct B; pub fn count() {}"), ("c.rs", "")];
        assert_eq!(uses(&files), [] as [&str; 0], "{user}");
    }
    // What is compiled for tests as well counts.
    for user in [
        "#[cfg(any(test, target_os = \"none\"))]\nuse crate::b::B;",
        "#[cfg(not(test))]\nuse crate::b::B;",
        "#[cfg(target_os = \"none\")]\nfn a(_: crate::b::B) {}",
    ] {
        let files = [("lib.rs", ROOT), ("a.rs", user), ("b.rs", "pub struct B;"), ("c.rs", "")];
        assert_eq!(uses(&files), ["a.rs -> b.rs"], "{user}");
    }
}

#[test]
fn a_parent_and_its_child_are_a_circle_if_each_needs_the_other() {
    let parent = |text: &str| format!("mod part;\npub struct Whole;\n{text}");
    let uses_of = |parent: &str, child: &str| {
        uses(&[("lib.rs", "mod whole;"), ("whole/mod.rs", parent), ("whole/part.rs", child)])
    };
    let up = "whole/part.rs -> whole/mod.rs";
    let down = "whole/mod.rs -> whole/part.rs";
    let child = "use super::Whole; pub struct Part(Whole); pub trait Helps {}";
    // The parent's own code uses the child.
    for text in [
        "use part::Part; fn parts(_: Part) {}",
        "pub use part::Part; fn parts(_: Part) {}",
        "fn parts(_: part::Part) {}",
        "fn parts(_: self::part::Part) {}",
        "use part::Helps;",
    ] {
        assert_eq!(uses_of(&parent(text), child), [down, up], "{text}");
    }
    // The parent only gives the child's items another name.
    for text in
        ["", "pub use part::Part;", "pub(crate) use self::part::*;", "pub(super) use part::{Part as Other};"]
    {
        assert_eq!(uses_of(&parent(text), child), [up], "{text}");
    }
    // The child uses what the parent only imports or re-exports.
    let files = [
        ("lib.rs", "mod whole; mod base;"),
        ("base.rs", "pub struct Base;"),
        ("whole.rs", "mod part; mod other; pub use crate::base::Base; use part::Part; fn parts(_: Part) {}"),
        ("whole/part.rs", "use super::Base; use super::other::Other; pub struct Part(Base, Other);"),
        ("whole/other.rs", "pub struct Other;"),
    ];
    assert_eq!(
        uses(&files),
        [
            "whole.rs -> whole/part.rs",
            "whole.rs -> base.rs",
            "whole/part.rs -> whole/other.rs",
            "whole/part.rs -> base.rs"
        ]
    );
    assert_eq!(described(&files), "");
}

#[test]
fn a_public_import_from_aside_counts() {
    let files = [("lib.rs", ROOT), ("a.rs", "pub use crate::b::B;"), ("b.rs", "pub struct B;"), ("c.rs", "")];
    assert_eq!(uses(&files), ["a.rs -> b.rs"]);
}

#[test]
fn an_exported_macro_is_found_at_the_root() {
    let files = [
        ("lib.rs", ROOT),
        ("a.rs", "fn a() { crate::make!(1) }"),
        ("b.rs", "#[macro_export] macro_rules! make { ($x:expr) => { $x } }"),
        ("c.rs", "use crate::make; fn c() { make!(2) }"),
    ];
    assert_eq!(uses(&files), ["a.rs -> b.rs", "c.rs -> b.rs"]);
}

#[test]
fn what_a_macro_defines_is_an_item() {
    let files = [
        ("lib.rs", ROOT),
        ("a.rs", "use crate::b::*; fn a(_: Flags) {}"),
        ("b.rs", "bitflags! { pub struct Flags: u32 { const ONE = 1; } }"),
        ("c.rs", "fn c(_: crate::b::MadeSomehow) {}"),
    ];
    assert_eq!(uses(&files), ["a.rs -> b.rs", "c.rs -> b.rs"]);
}

#[test]
fn files_are_found_where_the_compiler_looks() {
    let files = [
        (
            "lib.rs",
            "mod a; mod inline { pub mod deep; } #[path = \"elsewhere/x.rs\"] mod x; #[cfg(test)] mod missing;",
        ),
        ("a/mod.rs", "mod sub;"),
        ("a/sub.rs", "mod below;"),
        ("a/sub/below.rs", "#![allow(unused)]"),
        ("inline/deep.rs", "fn d() { crate::x::x() }"),
        ("elsewhere/x.rs", "pub fn x() {} mod y;"),
        ("elsewhere/y.rs", "fn y() { super::x() }"),
    ];
    let (directory, modules) = tree(&files);
    let found: Vec<PathBuf> = modules.unwrap().files;
    let names: BTreeSet<String> =
        found.iter().map(|f| f.strip_prefix(directory.path()).unwrap().display().to_string()).collect();
    assert_eq!(names, files.iter().map(|(name, _)| (*name).to_owned()).collect());
    assert_eq!(uses(&files), ["inline/deep.rs -> elsewhere/x.rs", "elsewhere/y.rs -> elsewhere/x.rs"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (_directory, missing) = tree(&[("lib.rs", "mod gone;")]);
    assert!(missing.unwrap_err().contains("gone/mod.rs"));
    let (_directory, broken) = tree(&[("lib.rs", "fn (")]);
    assert!(broken.unwrap_err().contains("lib.rs:1: "));
}

#[test]
fn names_that_lead_back_to_themselves_end() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::*; pub use b::*; pub use self::Nothing as Nothing;"),
        ("a.rs", "pub use crate::*; pub use super::b::Nothing; fn a(_: Nothing) {}"),
        ("b.rs", "pub use crate::a::Nothing; pub use crate::*;"),
    ];
    let _ = uses(&files);
}

#[test]
fn unsafe_code_is_found() {
    let text = "fn a() {\n    unsafe { x() }\n}\nunsafe impl Send for A {}\n#[unsafe(no_mangle)]\nextern \"C\" fn c() {}\n\
                // unsafe\nmacro_rules! m { () => {\n unsafe { y() } } }\n\
                #[cfg(test)]\nmod tests {\n fn t() { unsafe {} }\n}\nfn d() { let _ = \"unsafe\"; }\n";
    let (directory, _) = tree(&[
        ("lib.rs", text),
        ("tests/a.rs", "fn a() {}"),
        ("other/Cargo.toml", ""),
        ("other/lib.rs", "unsafe fn a() {}"),
        ("target/CACHEDIR.TAG", ""),
        ("target/out.rs", "unsafe fn a() {}"),
    ]);
    let expected =
        [("lib.rs".to_owned(), BTreeSet::from([2, 4, 5, 9, 12])), ("tests/a.rs".to_owned(), BTreeSet::new())];
    assert_eq!(unsafe_code::lines(directory.path(), directory.path()).unwrap(), expected.into());
    let (directory, _) = tree(&[("lib.rs", "fn ( {")]);
    assert!(unsafe_code::lines(directory.path(), directory.path()).unwrap_err().starts_with("lib.rs: "));
}

#[test]
fn unsafe_code_outside_of_the_list_is_named() {
    let files: BTreeMap<String, BTreeSet<usize>> = [
        ("core/src/arch/prefetch.rs", &[3][..]),
        ("core/src/scan.rs", &[]),
        ("core/src/archive.rs", &[7, 9]),
        ("core/src/crc.rs", &[1]),
    ]
    .into_iter()
    .map(|(file, lines)| (file.to_owned(), lines.iter().copied().collect()))
    .collect();
    assert_eq!(
        unsafe_code::differences(
            &["core/src/arch/", "core/src/crc  # SSE 4.2", "", "core/src/scan.rs"],
            &files
        ),
        "core/src/archive.rs has unsafe in line 7, 9, and is not listed\n\
         core/src/scan.rs is listed, and nothing there has unsafe\n"
    );
    assert_eq!(unsafe_code::differences(&["core"], &files), "");
}

#[test]
fn a_block_is_found_by_its_name() {
    let text = "# Plan\n```\nplan\n```\n```plan\na -> b\n\nb\n```\nand\n  ```unsafe\nx/y\n  ```\n```twice\n```\n```twice\n```\n";
    assert_eq!(block(text, "plan").unwrap(), ["a -> b", "", "b"]);
    assert_eq!(block(text, "unsafe").unwrap(), ["x/y"]);
    assert_eq!(block(text, "twice"), None);
    assert_eq!(block(text, "nothing"), None);
}

fn plan(lines: &[(&str, &[&str])]) -> Dependencies {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    lines.iter().map(|(name, uses)| ((*name).to_owned(), set(uses))).collect()
}

#[test]
fn a_plan_is_read() {
    let lines = ["# The core.", "core ->", "tools -> core, codecs", "codecs", ""];
    let expected = plan(&[("core", &[]), ("tools", &["codecs", "core"]), ("codecs", &[])]);
    assert_eq!(dependencies(&lines).unwrap(), expected);
    for (lines, because) in [
        (&["a -> b", "a -> c"][..], "a stands there twice"),
        (&["a b -> c"], "not of the form"),
        (&["a -> b c"], "not of the form"),
        (&["-> c"], "not of the form"),
    ] {
        assert!(dependencies(lines).unwrap_err().contains(because));
    }
}

#[test]
fn each_difference_from_the_plan_is_named() {
    let planned = plan(&[("core", &[]), ("tools", &["core", "codecs"]), ("gone", &[]), ("codecs", &[])]);
    let real = plan(&[("core", &["tools"]), ("tools", &["core"]), ("new", &[]), ("codecs", &[])]);
    assert_eq!(
        differences(&planned, &real),
        "core uses tools, and the plan does not allow it\n\
         the plan has gone, which is no crate of the workspace\n\
         new is not in the plan\n\
         the plan says that tools uses codecs, and it does not\n"
    );
    assert_eq!(differences(&planned, &planned), "");
}
