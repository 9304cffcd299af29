//! Damaged ELF vmcores.

use crate::bench::{Bench, HEALTHY, with};

/// Offsets of `e_phoff`, `e_phentsize` and `e_phnum` in the ELF header.
const PHOFF: usize = 32;
const PHENTSIZE: usize = 54;
const PHNUM: usize = 56;
/// Offset and size of the program headers: the first is the `PT_NOTE`, the `PT_LOAD`s follow.
const HEADERS: usize = 64;
const HEADER: usize = 56;
/// Offsets of fields in a program header.
const P_OFFSET: usize = 8;
const P_PADDR: usize = 24;
const P_FILESZ: usize = 32;
const P_MEMSZ: usize = 40;
/// File offset of the notes.
const NOTES: usize = 4096;

#[test]
fn cut_off_anywhere() {
    let mut bench = Bench::new();
    let head = HEALTHY.core.first(8192);
    for size in [4, 17, 20, 63, HEADERS, HEADERS + HEADER + 1, NOTES, NOTES + 5, NOTES + 400, NOTES + 700] {
        let name = format!("cut_{size}");
        bench.put(&name, &head[..size]);
        bench.refused(&format!("dump {name} out"));
    }
    insta::assert_snapshot!(bench.transcript());
}

/// A truncated image is scanned as far as possible, with a warning.
#[test]
fn cut_off_in_memory() {
    let mut bench = Bench::new();
    // The struct page array is at the end of memory. Pages without a struct page in the image are kept.
    for (name, size) in
        [("no_memory", 8192), ("half", 64 << 20), ("nearly_all", HEALTHY.core.size() - (1 << 20))]
    {
        HEALTHY.core.cut(size).write(&bench.path(name));
        bench.survived(&format!("dump {name} out --force"));
        bench.done(&format!("dump {name} out -d 1 --force"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn headers_that_contradict_the_file_or_themselves() {
    let head = HEALTHY.core.first(8192);
    let mut bench = Bench::new();
    let note = |field: usize, value: u64| with(&head, HEADERS + field, &value.to_le_bytes());
    let load = |field: usize, value: u64| with(&head, HEADERS + HEADER + field, &value.to_le_bytes());
    for (name, bytes) in [
        ("phoff_behind_the_end", with(&head, PHOFF, &u64::MAX.to_le_bytes())),
        ("phentsize_32", with(&head, PHENTSIZE, &[32, 0])),
        ("phnum_65534", with(&head, PHNUM, &0xfffe_u16.to_le_bytes())),
        ("phnum_in_a_section_that_is_not_there", with(&head, PHNUM, &[0xff, 0xff])),
        ("phnum_0", with(&head, PHNUM, &[0, 0])),
        ("phnum_1", with(&head, PHNUM, &[1, 0])),
        ("note_behind_the_end", note(P_OFFSET, 1 << 40)),
        ("note_of_an_exbibyte", note(P_FILESZ, 1 << 60)),
        ("note_of_80_bytes", note(P_FILESZ, 80)),
        ("note_size_broken", with(&head, NOTES + 4, &[0xff; 4])),
        ("load_behind_physical_memory", load(P_PADDR, 1 << 60)),
        ("load_that_wraps_around", load(P_MEMSZ, u64::MAX)),
    ] {
        bench.put(name, bytes);
        bench.refused(&format!("dump {name} out"));
    }
    insta::assert_snapshot!(bench.transcript());
}
