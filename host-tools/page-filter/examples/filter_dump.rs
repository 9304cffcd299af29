//! Writes a filtered dump at level 31, compressed with zstd: `filter_dump IMAGE DUMP`.

use page_filter::machine::Machine;
use page_filter::scan::WindowScan;
use scanner_core::{DumpLevel, RuleSet};
use std::path::Path;
use vmcore::dump::Codec;
use vmcore::dump::kdump::{DumpOptions, write};
use vmcore::image::{OpenOptions, open};
use vmcore::output::OutputFile;
use vmcore::progress::Silent;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, image, dump] = &arguments[..] else { return Err("usage: filter_dump IMAGE DUMP".into()) };

    let image = open(Path::new(image), &OpenOptions::default())?;
    let machine = Machine::new(&*image, RuleSet::Makedumpfile)?;
    let level = DumpLevel::all();
    let options = DumpOptions {
        level: level.bits().into(),
        codec: Codec::Zstd,
        max_mapnr: Some(machine.frames),
        ..DumpOptions::default()
    };
    let output = OutputFile::create(Path::new(dump), false)?;
    let report = write(&*image, &mut WindowScan::new(&machine, level), &options, output, &Silent)?;
    println!("{report:?}");
    Ok(())
}
