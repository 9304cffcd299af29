//! The command line of `cdbitmap`. This library is not an API: the generator of the man pages uses the definition of
//! the command line, and tests use the demo's files. Programs use the crates `vmcore`, `page-filter` and
//! `vmcore-analysis`.

pub mod commands;
pub mod progress;
pub mod sample;
