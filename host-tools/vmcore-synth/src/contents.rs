//! The contents of a machine's pages: text, which is compressible, noise, which is not, and zeros.

use super::elf::SparseCore;
use super::machine::Machine;
use super::rng::Rng;
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};
use vmcore::Result;

/// Maximum number of pages with contents; all others read as zeros.
const MAX_PAGES: u64 = 1 << 15;
/// Pages in one write.
const RUN: u64 = 64;
/// Number of different text pages, and of different noise pages.
const POOL: u64 = 16;
const WORDS: &[&str] = &[
    "kernel", "panic", "page", "frame", "struct", "dump", "level", "zone", "buddy", "order", "vmcore",
    "node", "crash",
];

/// Writes contents to pages throughout the machine, except those of the kernel's own data.
pub(super) fn write(machine: &Machine, out: &SparseCore<'_>) -> Result<()> {
    if !machine.spec.contents {
        return Ok(());
    }
    let mut rng = Rng::new(machine.spec.seed, 5, 0);
    let mut pool: Vec<Vec<u8>> = (0..POOL).map(|_| text(&mut rng)).collect();
    pool.extend((0..POOL).map(|_| noise(&mut rng)));
    let available = machine.backed.minus(&machine.reserved);
    let written = MAX_PAGES.min(available.count() / 2);
    let every = available.count().div_ceil(written.max(1));
    let mut buffer = Vec::with_capacity(RUN as usize * PAGE_SIZE);
    for range in available.as_slice() {
        let mut start = range.start.as_u64();
        while start < range.end.as_u64() {
            // One run at a random position among each `every` runs.
            let mut rng = Rng::new(machine.spec.seed, 6, start);
            let first = Pfn::new(start + rng.below(every) * RUN);
            let run = PfnRange::from_start(first, RUN).intersection(*range);
            buffer.clear();
            for _ in 0..run.len() {
                match rng.below(4) {
                    0 => buffer.resize(buffer.len() + PAGE_SIZE, 0),
                    1 | 2 => buffer.extend_from_slice(&pool[rng.below(POOL) as usize]),
                    _ => buffer.extend_from_slice(&pool[(POOL + rng.below(POOL)) as usize]),
                }
            }
            out.write(run.start.addr().as_u64(), &buffer)?;
            start += every * RUN;
        }
    }
    Ok(())
}

fn text(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAGE_SIZE + 16);
    while bytes.len() < PAGE_SIZE {
        bytes.extend_from_slice(WORDS[rng.below(WORDS.len() as u64) as usize].as_bytes());
        bytes.push(b' ');
    }
    bytes.truncate(PAGE_SIZE);
    bytes
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..PAGE_SIZE / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
}
