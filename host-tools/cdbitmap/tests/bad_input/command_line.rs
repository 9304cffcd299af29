//! Invalid command lines.

use crate::bench::Bench;

#[test]
fn wrong_arguments() {
    let mut bench = Bench::new();
    for arguments in [
        "scan core -d 32",
        "scan core -d -1",
        "scan core -d x",
        "scan core -d",
        "dump core",
        "dump core out -d 0x1f",
        "dump core out -c -l",
        "dump core out --num-threads 0",
        "dump core out --cyclic-buffer 0",
        "scan core --rules mine",
        "scan core --format 3",
        "convert in out",
        "convert in out --format 3",
        "verify bitmap -d 32",
        "verify bitmap -d 31",
        "verify bitmap --vmcoreinfo text",
        "diff a",
        "diff a b -d -1",
        "explain core",
        "explain core page",
        "explain core 0xffffffffffffffffff",
        "explain core -1",
        "synth -o out -m 1",
        "synth -o out -m 99999999999999T",
        "synth -o out --kernel 1.0",
        "synth -o out --nodes 0",
        "synth -o out --nodes 99999",
        "scna core",
    ] {
        bench.refused(arguments);
    }
    insta::assert_snapshot!(bench.transcript());
}
