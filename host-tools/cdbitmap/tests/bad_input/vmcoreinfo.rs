//! VMCOREINFO that is missing, truncated, contradictory, or has impossible values.

use crate::bench::{Bench, HEALTHY, with};
use std::fs::File;
use std::io::Read;

/// Returns the text without the lines that start with `key`, and with `line` at the end unless it is empty.
fn replaced(key: &str, line: &str) -> String {
    let text = &HEALTHY.vmcoreinfo;
    assert!(text.lines().any(|l| l.starts_with(key)), "no {key} in\n{text}");
    let others = text.lines().filter(|l| !l.starts_with(key));
    others.chain((!line.is_empty()).then_some(line)).map(|l| format!("{l}\n")).collect()
}

#[test]
fn no_text_at_all() {
    let mut bench = Bench::new();
    let head = HEALTHY.core.first(8192);
    let name = head.windows(11).position(|w| w == b"VMCOREINFO\0").unwrap();
    let nameless = with(&head, name, b"vmcoreinfo");
    bench.put("without", nameless);
    bench.put("junk", [0xa5; 500]);
    bench.put("empty", "");
    bench.put("prose", "It was a dark and stormy night.\n");
    bench.put("huge", vec![b'x'; 2 << 20]);
    for options in [
        "",
        "--vmcoreinfo missing",
        "--vmcoreinfo .",
        "--vmcoreinfo empty",
        "--vmcoreinfo junk",
        "--vmcoreinfo prose",
        "--vmcoreinfo huge",
    ] {
        bench.refused(&format!("scan without -o out {options}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn lines_that_are_missing() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    for key in [
        "OSRELEASE",
        "SYMBOL(",
        "SYMBOL(mem_section)",
        "SIZE(mem_section)",
        "SIZE(page)",
        "OFFSET(page.flags)",
        "OFFSET(page.mapping)",
    ] {
        let file = format!("without_{key}").replace(['(', ')'], "_");
        bench.put(&file, replaced(key, ""));
        bench.refused(&format!("dump core out --vmcoreinfo {file}"));
    }
    let half = HEALTHY.vmcoreinfo.len() / 2;
    for (name, size) in [("first_half", half), ("first_bytes", 30), ("release_only", 5)] {
        bench.put(name, &HEALTHY.vmcoreinfo[..size]);
        bench.refused(&format!("dump core out --vmcoreinfo {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn values_that_can_not_be() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    for (index, (key, value)) in [
        ("OSRELEASE", "banana"),
        ("PAGESIZE", "65536"),
        ("SIZE(page)", "0"),
        ("SIZE(page)", "1152921504606846976"),
        ("SIZE(page)", "big"),
        ("SIZE(page)", ""),
        ("SIZE(page)", "-64"),
        ("SIZE(page)", "99999999999999999999999"),
        ("OFFSET(page.flags)", "200"),
        ("OFFSET(page._mapcount)", "18446744073709551615"),
        ("SIZE(mem_section)", "0"),
        ("OFFSET(mem_section.section_mem_map)", "4096"),
        ("NUMBER(SECTION_SIZE_BITS)", "12"),
        ("NUMBER(SECTION_SIZE_BITS)", "200"),
        ("NUMBER(MAX_PHYSMEM_BITS)", "64"),
        ("LENGTH(zone.free_area)", "0"),
        ("LENGTH(zone.free_area)", "64"),
        ("NUMBER(PG_lru)", "64"),
        ("NUMBER(PG_lru)", "-1"),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "1311768467463790320"),
        ("SYMBOL(mem_section)", "0"),
        ("SYMBOL(mem_section)", "1000"),
        ("SYMBOL(mem_section)", "ffff888000000000"),
        ("SYMBOL(mem_section)", "fffffffffffffff8"),
        ("SYMBOL(mem_section)", "ffffc90000000000"),
        ("SYMBOL(init_top_pgt)", "ffffffff80000123"),
        ("SYMBOL(init_top_pgt)", "123"),
        ("NUMBER(phys_base)", "9223372036854775807"),
        ("NUMBER(phys_base)", "-4096"),
        ("NUMBER(phys_base)", "17"),
        ("NUMBER(pgtable_l5_enabled)", "1"),
        ("NUMBER(sme_mask)", "-1"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("{key}={value}");
        let name = format!("{index:02}");
        if HEALTHY.vmcoreinfo.contains(key) {
            bench.put(&name, replaced(key, &line));
        } else {
            bench.put(&name, format!("{}{line}\n", HEALTHY.vmcoreinfo));
        }
        bench.say(&line);
        bench.refused(&format!("dump core out --vmcoreinfo {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn lines_that_contradict_each_other() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    for (name, line) in [
        ("two_releases", "OSRELEASE=5.10.0"),
        ("two_sizes", "SIZE(page)=56"),
        ("two_symbols", "SYMBOL(mem_section)=ffffffff81000000"),
    ] {
        bench.put(name, format!("{}{line}\n", HEALTHY.vmcoreinfo));
        bench.refused(&format!("dump core out --vmcoreinfo {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

/// The VMCOREINFO of another machine would exclude the wrong pages, so nothing is written.
#[test]
fn the_text_of_another_machine() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    for fixture in ["5.10", "6.1-numa", "6.12", "7.2"] {
        bench.put(fixture, fixture_vmcoreinfo(fixture));
        bench.refused(&format!("dump core out --vmcoreinfo {fixture}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

/// Returns the VMCOREINFO of a fixture, a real machine.
fn fixture_vmcoreinfo(name: &str) -> Vec<u8> {
    let directory = if name == "6.1-numa" { "demo" } else { "../../tests/fixtures" };
    let path = format!("{}/{directory}/{name}.vmcore.zst", env!("CARGO_MANIFEST_DIR"));
    let mut head = Vec::new();
    let decoder = zstd::Decoder::new(File::open(path).unwrap()).unwrap();
    decoder.take(1 << 20).read_to_end(&mut head).unwrap();
    let start = head.windows(10).position(|w| w == b"OSRELEASE=").unwrap();
    head[start..].iter().copied().take_while(|byte| *byte != 0).collect()
}
