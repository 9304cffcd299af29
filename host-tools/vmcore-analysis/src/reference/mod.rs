//! A second, slow classification to judge the scanner by: page by page, straight from makedumpfile's rules.
//!
//! It shares the kernel's layout, the page tables and the section table with the scanner, and nothing of its
//! decisions: no masks resolved beforehand, no runs, no jumps over words. Where the scanner and this disagree, one of
//! them is wrong. `Documentation/rules.md` lists the rules and the differences between the two rule sets.

mod difference;
mod facts;
mod rules;
mod scan;

pub use difference::{Difference, Fixes};
pub use facts::{FirstTail, PageFacts};
pub use rules::{Compound, Judge, MAX_ORDER, Rule, RuleDecision};
pub use scan::{Exclusion, FrameDecision, KeptBecause, ReferenceScan, Run, StructPage, locate, page};
