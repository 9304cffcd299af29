//! `cdbitmap scan`: counts per class, times, sizes of dumps; the bitmap.

use super::{ImageArgs, parse_level, parse_rules};
use crate::Result;
use crate::machine::Machine;
use crate::scan::scan;
use clap::Args;
use scanner_core::scan::Unhurried;
use scanner_core::{DumpLevel, RuleSet};

/// Scans an image.
#[derive(Args, Debug)]
pub struct Scan {
    #[command(flatten)]
    image: ImageArgs,
    /// The classes of pages to leave out: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", value_parser = parse_level)]
    level: DumpLevel,
    /// Which rules decide: makedumpfile's, bit for bit, or the kernel's own
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
}

impl Scan {
    /// Runs the command.
    ///
    /// # Errors
    /// If the image can't be scanned.
    pub fn run(&self) -> Result<()> {
        let image = self.image.open()?;
        let machine = Machine::new(&*image, self.rules).map_err(|e| e.at(&self.image.image))?;
        let scanned = scan(&machine, self.level, &mut Unhurried);
        println!("{:?}", scanned.findings);
        Ok(())
    }
}
