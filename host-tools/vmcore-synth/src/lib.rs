//! Simulated machines: an ELF vmcore with page tables, memory sections, `struct page`s and VMCOREINFO of any kernel
//! generation, for tests and measurements that no real machine offers.
//!
//! ```text
//! Spec ──> Machine (ranges, sections, addresses) ──> Population (what each page is used for)
//!                │                                        │
//!                └──> VMCOREINFO, page tables             └──> struct pages, free lists ──> sparse ELF file
//! ```
//!
//! Everything follows from the [`Spec`], its seed included; any 4 MiB of the machine can be made by itself, so
//! memory use doesn't grow with the machine. The file is sparse: bytes that no reader looks at are holes.

mod classes;
mod contents;
mod edge;
mod elf;
mod free_lists;
mod generation;
mod generations;
mod machine;
mod memmap;
mod metadata;
mod page;
mod population;
mod rng;
mod symbols;
mod tables;
mod vmcoreinfo;

pub use classes::ClassCounts;
pub use edge::{EDGE_CASES, EdgeCase};
pub use generation::{KernelGeneration, MemoryModel};
pub use generations::GENERATIONS;
pub use machine::{Fault, Profile, Spec};

use machine::Machine;
use std::fs::File;
use vmcore::Result;

/// The lines of VMCOREINFO by which a kernel of `generation` lets its pages be classified, and its release: no address of
/// a machine is in them. `hand_keys` adds what users add for kernels before 3.9.
pub fn page_keys(generation: &KernelGeneration, hand_keys: bool) -> String {
    vmcoreinfo::page_keys(generation, hand_keys)
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Apparent size of the file, in bytes; far more than its blocks.
    pub file_size: u64,
    /// Frames of memory that the file's `PT_LOAD`s list.
    pub frames: u64,
    /// Frames whose `struct page` a filter looks at, or skips inside a block: those that the file holds.
    pub backed: u64,
    /// One more than the largest frame number.
    pub max_pfn: u64,
    /// What a filter at dump level 31 has to find.
    pub expected: ClassCounts,
}

/// Writes the machine `spec` as an ELF vmcore to `out`, an empty file.
///
/// # Errors
/// A machine that can't exist (too small, larger than the generation's physical addresses), or a file that can't be
/// written.
pub fn write(spec: &Spec, out: &File) -> Result<Summary> {
    let machine = Machine::new(spec)?;
    let out = elf::SparseCore::create(out, &machine, &vmcoreinfo::text(&machine))?;
    tables::write(&machine, &out)?;
    metadata::write_kernel(&machine, &out)?;
    let (expected, lists) = memmap::write(&machine, &out)?;
    metadata::write_nodes(&machine, &lists, &out)?;
    contents::write(&machine, &out)?;
    Ok(Summary {
        file_size: out.len(),
        frames: machine.exists.count(),
        backed: machine.backed.count(),
        max_pfn: machine.exists.end().as_u64(),
        expected,
    })
}
