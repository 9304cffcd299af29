//! `cdbitmap explain`: everything about one page.

use super::arguments::{ImageArgs, parse_level, parse_rules};
use super::print::{print, print_json};
use clap::Args;
use scanner_core::{DumpLevel, Pfn, RuleSet};
use serde::Serialize;
use vmcore::Result;
use vmcore_analysis::explain::{Explanation, parse_frame};

/// Explains pages.
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    image: ImageArgs,
    /// Page frame numbers (1234, pfn:0x4d2) or physical addresses (0x4d2000)
    #[arg(required = true, value_name = "PAGE", value_parser = parse_frame)]
    pages: Vec<Pfn>,
    /// The dump level of the verdict; all levels are listed anyway
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", allow_hyphen_values = true, default_value = "31", value_parser = parse_level)]
    level: DumpLevel,
    /// The rule set of the verdict; the other one's is told too
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    pages: Vec<Explanation>,
}

impl Explain {
    /// Runs the command.
    ///
    /// # Errors
    /// If the image can't be understood.
    pub fn run(&self) -> Result<()> {
        let image = self.image.open()?;
        let explain = |pfn: &Pfn| {
            Explanation::new(&*image, *pfn, self.level, self.rules).map_err(|e| e.at(&self.image.image))
        };
        let pages = self.pages.iter().map(explain).collect::<Result<Vec<_>>>()?;
        if self.json {
            return print_json(&Report { pages });
        }
        let texts: Vec<String> = pages.iter().map(ToString::to_string).collect();
        print(texts.join("\n"))
    }
}
