//! Headers that promise petabytes. Every run has 2 GiB of address space: believing one of them would show.

use crate::bench::{Bench, HEALTHY, with};

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
        // Sections end where the kernel's own table of them ends, whatever the headers say.
        bench.survived(&format!("scan {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}
