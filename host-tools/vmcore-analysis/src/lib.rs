//! What became of the pages of a vmcore, and why.
//!
//! [`reference`] states the rules a second time, page by page, in code of its own. [`verify()`] and [`diff()`] hold bitmaps
//! and dumps against it; [`explain`] says which rule decides about one page; [`map`] draws memory by class.

pub mod because;
pub mod contents;
pub mod diff;
pub mod explain;
pub mod info_layout;
pub mod inspect;
pub mod map;
pub mod reference;
pub mod scan_report;
pub mod subject;
pub mod verify;

pub use because::because;
pub use contents::{ContentsReport, compare_contents};
pub use diff::{DiffReport, DifferingRange, diff};
pub use subject::{Subject, differing_line};
pub use verify::{Asked, Comparison, Finding, Mistake, VerifyOutcome, VerifyReport, verify};
