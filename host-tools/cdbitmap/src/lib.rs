//! The command line of `cdbitmap`. No API: this library is there so that the man pages can be made from the definition
//! of the command line, and so that tests can use the demo's files. What a program may want is in the crates
//! `vmcore`, `page-filter` and `vmcore-analysis`.

pub mod commands;
pub mod progress;
pub mod sample;
