//! Analysis of vmcores, filtered dumps and bitmaps: which pages are kept, and why.
//!
//! [`mod@reference`] implements the rules a second time, page by page, without the scanner's code. [`verify()`] and
//! [`diff()`] compare bitmaps and dumps with it. [`explain`] names the rule that decides about one page. [`map`] draws
//! memory by page class.

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
