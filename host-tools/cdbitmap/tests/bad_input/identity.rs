//! Files that are not a vmcore.

use crate::bench::{Bench, HEALTHY, with};

#[test]
fn what_is_no_vmcore_is_named() {
    let healthy = &*HEALTHY;
    let head = healthy.core.first(8192);
    let mut bench = Bench::new();
    bench.put("empty", "");
    bench.put("one_byte", "\x7f");
    bench.put("zeros", [0; 8192]);
    bench.put("text", "Dear reader,\n");
    bench.put("compressed.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    bench.put("bitmap", &healthy.bitmap);
    bench.put("magic", with(&head, 1, b"elf"));
    bench.put("aarch64", with(&head, 18, &[183, 0]));
    bench.put("i386", with(&with(&head, 18, &[3, 0]), 4, &[1]));
    bench.put("x32", with(&head, 4, &[1]));
    bench.put("big_endian", with(&with(&head, 5, &[2]), 18, &[0, 62]));
    bench.put("vmlinux", with(&head, 16, &[2, 0]));
    std::fs::create_dir(bench.path("directory")).unwrap();
    for name in [
        "missing",
        "directory",
        "/dev/null",
        "empty",
        "one_byte",
        "zeros",
        "text",
        "compressed.gz",
        "bitmap",
        "magic",
        "aarch64",
        "i386",
        "x32",
        "big_endian",
        "vmlinux",
    ] {
        bench.refused(&format!("scan {name} -o out"));
    }
    insta::assert_snapshot!(bench.transcript());
}

/// Every command that takes an image prints the same message as `scan`.
#[test]
fn every_verb_says_the_same() {
    let mut bench = Bench::new();
    bench.put("empty", "");
    bench.put("bitmap", &HEALTHY.bitmap);
    for arguments in [
        "dump empty out",
        "dump bitmap out",
        "inspect empty",
        "verify empty",
        "diff empty empty",
        "explain empty 1",
        "scan missing",
        "dump missing out",
        "inspect missing",
        "inspect bitmap --vmcoreinfo-text",
        "verify missing",
        "diff missing bitmap",
        "explain missing 1",
        "convert missing out --format 1",
        "verify bitmap --image missing",
        "diff bitmap bitmap --image missing",
    ] {
        bench.refused(arguments);
    }
    insta::assert_snapshot!(bench.transcript());
}
