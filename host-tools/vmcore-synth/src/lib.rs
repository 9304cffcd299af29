//! Simulated machines: ELF vmcores with the page tables, memory sections, `struct page`s and VMCOREINFO of any kernel
//! generation. Tests and measurements use them where no real machine is available.
//!
//! ```text
//! Spec ──> Machine (ranges, sections, addresses) ──> Population (what each page is used for)
//!                │                                        │
//!                └──> VMCOREINFO, page tables             └──> struct pages, free lists ──> sparse ELF file
//! ```
//!
//! The [`Spec`] (its seed included) determines every byte. Each region of 4 MiB is generated independently, so memory
//! use does not grow with the machine. The file is sparse: bytes that no reader looks at are holes.

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

/// The VMCOREINFO lines of `generation` that page classification needs, and its release. They contain no address of a
/// machine. `hand_keys` adds the lines that users add by hand for kernels before 3.9.
pub fn page_keys(generation: &KernelGeneration, hand_keys: bool) -> String {
    vmcoreinfo::page_keys(generation, hand_keys)
}

/// A description of the vmcore that [`write()`] made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Apparent size of the file, in bytes; far larger than its allocated blocks.
    pub file_size: u64,
    /// Page frames in the file's `PT_LOAD` segments.
    pub frames: u64,
    /// Page frames whose data is in the file. A filter reads their `struct page`s, or skips them inside a block.
    pub backed: u64,
    /// Largest page frame number plus one.
    pub max_pfn: u64,
    /// Pages of each class that a filter must find at dump level 31.
    pub expected: ClassCounts,
}

/// Writes the machine `spec` as an ELF vmcore to `out`, an empty file.
///
/// # Errors
/// The machine is impossible (too small, or larger than the generation's physical address space), or the file cannot be
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
