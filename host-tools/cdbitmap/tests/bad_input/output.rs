//! Outputs that cannot be written: full disks, existing files, missing directories.

use crate::bench::{Bench, HEALTHY};
use page_filter::bitmap_file::BitmapFile;

/// Simulates a full disk by a limit on the size of files, in blocks of 512 bytes.
const FULL: &str = "trap '' XFSZ; ulimit -f 8;";

#[test]
fn a_full_disk() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    bench.refused("dump core /dev/full");
    bench.refused("dump core /dev/full --flattened");
    bench.refused("scan core -o /dev/full");
    bench.put("bitmap", &HEALTHY.bitmap);
    bench.refused("convert bitmap /dev/full --format 1");
    bench.refused_within(FULL, "dump core out");
    bench.refused_within(FULL, "dump core out --flattened");
    bench.refused_within(FULL, "scan core -o out");
    bench.refused_within(FULL, "synth -o out");
    bench.refused_within("exec >/dev/full;", "dump core - --flattened");
    bench.refused_within("exec >/dev/full;", "scan core");
    bench.refused_within("exec >/dev/full;", "scan core --json");
    for arguments in [
        "layout",
        "synth --list",
        "inspect core",
        "inspect core --vmcoreinfo-text",
        "inspect bitmap",
        "verify bitmap",
        "diff bitmap bitmap",
        "explain core 0x1000",
    ] {
        bench.refused_within("exec >/dev/full;", arguments);
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn a_place_that_can_not_be_written() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    bench.put("bitmap", &HEALTHY.bitmap);
    bench.put("old", "old");
    std::fs::create_dir(bench.path("directory")).unwrap();
    for verb in ["dump core", "scan core -o", "convert bitmap --format 1", "synth -o"] {
        for place in ["old", "directory", "nowhere/out", "old/out", "directory/.."] {
            bench.refused(&format!("{verb} {place}"));
        }
    }
    bench.put("old.png", "old");
    bench.refused("map core -o old.png");
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).unwrap();
    bench.refused("dump core dangling");
    assert_eq!(std::fs::read(bench.path("old")).unwrap(), b"old");
    insta::assert_snapshot!(bench.transcript());
}

/// A complete dump is a success, even if its report cannot be written.
#[test]
fn a_dump_that_nobody_is_told_of() {
    let mut bench = Bench::new();
    HEALTHY.core.cut(127 << 20).write(&bench.path("core"));
    for limit in ["exec >/dev/full;", "exec 2>/dev/full;", "exec >&- 2>&-;"] {
        bench.done_within(limit, "dump core out --force");
    }
    bench.refused_within("exec 2>/dev/full;", "dump missing out2");
    insta::assert_snapshot!(bench.transcript());
}

/// A bitmap on standard output is not mixed with the report.
#[test]
fn standard_output() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    bench.done_within("exec >bitmap;", "scan core -o -");
    bench.done_within("exec >json;", "scan core -o - --json");
    for name in ["bitmap", "json"] {
        BitmapFile::read(&bench.path(name)).unwrap();
        assert_eq!(std::fs::metadata(bench.path(name)).unwrap().len(), HEALTHY.bitmap.len() as u64);
    }
    bench.put("nothing", "");
    bench.refused_within("exec >nothing;", "synth -o -");
}

/// The image must not be overwritten by a mistake on the command line.
#[test]
fn the_image_as_output() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    bench.refused("dump core core");
    bench.refused("dump core core --force");
    bench.refused("scan core -o core --force");
    std::fs::rename(bench.path("core"), bench.path("core.png")).unwrap();
    bench.refused("map core.png -o core.png --force");
    bench.put("bitmap", &HEALTHY.bitmap);
    bench.refused("convert bitmap bitmap --format 1 --force");
    insta::assert_snapshot!(bench.transcript());
}
