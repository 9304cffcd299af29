//! Tests with bad input, one file per kind. Each test runs the real binary and compares its messages with a snapshot. A
//! message must name what failed, where, and what to do.

mod bench;
mod bitmap;
mod command_line;
mod elf;
mod identity;
mod kdump;
mod memory;
mod output;
mod promises;
mod vmcoreinfo;
