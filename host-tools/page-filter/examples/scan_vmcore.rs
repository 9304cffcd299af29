//! Counts the pages of each class that dump level 31 excludes: `scan_vmcore IMAGE`.

use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, PageClass, RuleSet};
use std::path::Path;
use vmcore::image::{OpenOptions, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).ok_or("usage: scan_vmcore IMAGE")?;
    let image = open(Path::new(&image), &OpenOptions::default())?;
    let machine = Machine::new(&*image, RuleSet::Makedumpfile)?;
    let scanned = scan(&machine, DumpLevel::all(), &mut RunToCompletion);
    println!("kernel {}", machine.os_release());
    for class in PageClass::ALL {
        println!("{class:14} {:10} pages excluded", scanned.findings.counters.get(class));
    }
    Ok(())
}
