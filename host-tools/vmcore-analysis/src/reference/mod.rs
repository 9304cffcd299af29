//! A second, slow implementation of the rules, to check the scanner: page by page, as makedumpfile does it.
//!
//! It shares the kernel's layout, the page tables and the section table with the scanner, but no code that decides: it
//! has no precomputed masks, no batches of pages and no operations on whole bitmap words. If the scanner and the
//! reference disagree, one of them is wrong. `Documentation/reference/rules.md` lists the rules and the differences
//! between the two rule sets.

mod difference;
mod facts;
mod rules;
mod scan;

pub use difference::{Difference, Fixes};
pub use facts::{FirstTail, PageFacts};
pub use rules::{Compound, Judge, MAX_ORDER, Rule, RuleDecision};
pub use scan::{Exclusion, FrameDecision, KeptBecause, ReferenceScan, Run, StructPage, locate, page};
