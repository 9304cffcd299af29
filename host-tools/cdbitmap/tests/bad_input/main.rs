//! Bad input, one file per kind. Each case is run with the real binary, whose answer goes into a snapshot: read it
//! as somebody who was called at night reads it. It names what is wrong, where, and what to do.

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
