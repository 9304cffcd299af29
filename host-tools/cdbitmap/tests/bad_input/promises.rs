//! Headers with sizes of petabytes. Every run has 2 GiB of address space, so an allocation for such a size fails.

use crate::bench::{Bench, HEALTHY, with};
use std::fs::File;

/// The first `PT_LOAD`'s `p_paddr` and `p_memsz`.
const PADDR: usize = 64 + 56 + 24;
const MEMSZ: usize = 64 + 56 + 40;

#[test]
fn memory_of_petabytes() {
    let mut bench = Bench::new();
    let head = HEALTHY.core.first(1 << 20);
    for (name, field, value) in [
        ("memory_of_4_pib", MEMSZ, (1_u64 << 52) - (1 << 20)),
        ("memory_of_16_tib", MEMSZ, 1 << 44),
        ("memory_at_4_pib", PADDR, (1 << 52) - (1 << 30)),
        ("memory_at_256_tib", PADDR, 1 << 48),
    ] {
        let mut core = HEALTHY.core.clone();
        core.put(0, &with(&head, field, &value.to_le_bytes())[..4096]);
        core.write(&bench.path(name));
        // The kernel's table of memory sections limits the scan, not the headers.
        bench.survived(&format!("scan {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

/// Files with holes can really have the sizes in their headers.
#[test]
fn bitmaps_of_gigabytes() {
    let mut bench = Bench::new();
    let mut dump = HEALTHY.kdump[..8192].to_vec();
    dump[436..440].copy_from_slice(&(1_u32 << 25).to_le_bytes());
    dump[4096 + 96..][..8].copy_from_slice(&(1_u64 << 39).to_le_bytes());
    let v1 = with(&HEALTHY.bitmap_v1, 16, &(1_u64 << 31).to_le_bytes());
    for (name, bytes, size) in [("dump", dump, 1_u64 << 38), ("bitmap", v1, 1 << 32)] {
        bench.put(name, bytes);
        File::options().write(true).open(bench.path(name)).unwrap().set_len(size).unwrap();
    }
    bench.refused("dump dump out");
    bench.refused("inspect dump");
    bench.refused("convert bitmap out --format 2");
    insta::assert_snapshot!(bench.transcript());
}
