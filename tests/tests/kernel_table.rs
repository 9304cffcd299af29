//! The tables of `Documentation/guide/kernels.md` are generated from the fixtures and the simulated machines.
//! `UPDATE_DOCS=1 cargo test -p cross-tests --test kernel_table` updates them.

use cross_tests::document;
use cross_tests::fixture::{Fixture, names};
use cross_tests::synth::{file, small};
use std::path::Path;
use vmcore::image::{OpenOptions, open};
use vmcore_analysis::inspect::{ImageReport, MachineReport};
use vmcore_synth::GENERATIONS;

const DOCUMENT: &str = "Documentation/guide/kernels.md";

/// The report of `inspect` about the machine in `vmcore`, and the number of existing page frames.
fn machine(vmcore: &Path) -> (MachineReport, u64) {
    let image = open(vmcore, &OpenOptions::default()).unwrap();
    let report = ImageReport::new(&*image).unwrap();
    let why = report.not_understood.unwrap_or_default();
    (report.machine.unwrap_or_else(|| panic!("{}: {why}", vmcore.display())), report.existing_frames)
}

/// A Markdown table.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rows = rows.iter().map(|row| line(row));
    [line(&head.map(str::to_owned)), format!("|{}\n", "---|".repeat(N))].into_iter().chain(rows).collect()
}

#[test]
fn real_kernels() {
    let mut rows: Vec<_> = names()
        .iter()
        .map(|name| {
            let fixture = Fixture::unpack(name);
            let (machine, frames) = machine(fixture.path());
            assert_eq!(machine.release, fixture.bitmaps.kernel, "{name}");
            let reference = fixture.bitmaps.makedumpfile.trim_start_matches("makedumpfile: version ");
            let reference = reference.split(' ').next().unwrap_or(reference);
            [
                machine.release,
                name.clone(),
                format!("{} levels", machine.page_table_levels),
                machine.memory_model.to_owned(),
                format!("{} bytes", machine.struct_page),
                frames.to_string(),
                reference.to_owned(),
            ]
        })
        .collect();
    // 6.1 before 6.12, and fixtures of one kernel adjacent.
    let key = |row: &[String; 7]| {
        let numbers: Vec<u64> =
            row[0].split(['.', '-', '+']).map_while(|number| number.parse().ok()).collect();
        (numbers, row[1].clone())
    };
    rows.sort_by_key(key);
    let head =
        ["Kernel", "Fixture", "Page tables", "Memory model", "`struct page`", "Page frames", "makedumpfile"];
    document::check(DOCUMENT, "kernels", &table(head, rows));
}

#[test]
fn simulated_kernels() {
    let rows = GENERATIONS
        .iter()
        .map(|generation| {
            let (core, _) = file(&small(generation));
            let (machine, _) = machine(core.path());
            [
                generation.name.to_owned(),
                machine.memory_model.to_owned(),
                format!("{} bytes", machine.struct_page),
                machine.free_pages.to_owned(),
                machine.compound_pages.to_owned(),
            ]
        })
        .collect();
    let head = ["Generation", "Memory model", "`struct page`", "Free pages", "Compound pages"];
    document::check(DOCUMENT, "generations", &table(head, rows));
}
