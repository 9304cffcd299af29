//! Damaged memory: every fault that a simulated machine can have.

use crate::bench::Bench;

/// A scan of damaged memory keeps more pages, or fails with a message. It never hangs.
#[test]
fn every_fault_is_survived_or_named() {
    let mut bench = Bench::new();
    for fault in [
        "unmapped-vmemmap",
        "vmemmap-outside",
        "section-outside",
        "table-loop",
        "section-high-flag",
        "free-list-loop",
        "free-list-broken",
        "truncated",
        "table-ones",
        "section-root-unmapped",
    ] {
        bench.done(&format!("synth -o core --force -m 256M --profile idle --fault {fault}"));
        bench.survived("dump core out --force");
    }
    insta::assert_snapshot!(bench.transcript());
}

/// Kernels before 3.9, without the values that users add to their VMCOREINFO: the scan finds free pages by the free
/// lists.
#[test]
fn free_lists_that_lead_nowhere() {
    let mut bench = Bench::new();
    for fault in ["free-list-loop", "free-list-broken"] {
        bench.done(&format!(
            "synth -o core --force -m 256M --profile mixed --kernel 2.6.32 --no-hand-keys --fault {fault}"
        ));
        let report = bench.done("scan core -d 31");
        bench.say(&report.lines().filter(|line| line.contains("free")).collect::<Vec<_>>().join("\n"));
    }
    insta::assert_snapshot!(bench.transcript());
}
