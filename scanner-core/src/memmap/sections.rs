//! Maps frames to their `struct page`s, by the kernel's memory model.
//!
//! Sections are looked up one at a time and are not cached. A machine of any size therefore needs no memory for them,
//! and sections that are hot-added after the setup are found.

use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::kernel::layout::{KernelLayout, MemoryModelKeys};
use crate::memory::{PhysicalMemory, ReadError};
use crate::paging::AddressSpace;
use crate::rules::RuleSet;
use core::fmt;
use core::num::NonZeroU64;

/// The largest number of nodes of a DISCONTIGMEM machine. x86_64 kernels with that model (before 2.6.25) have at
/// most 64.
pub const MAX_DISCONTIG_NODES: usize = 64;

/// Bit 0 of `section_mem_map`: the section exists.
const SECTION_MARKED_PRESENT: u64 = 1;
/// The bits of `section_mem_map` that makedumpfile treats as flags.
const SECTION_FLAGS: u64 = 0x1f;
/// Since 6.15 bit 5 can also be a flag (SECTION_IS_VMEMMAP_PREINIT). The address of an aligned array never has it set.
const SECTION_FLAGS_PREINIT: u64 = 0x3f;

/// A memory section: frames whose `struct page`s are contiguous in the kernel's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The frames.
    pub frames: PfnRange,
    /// The address of the first frame's `struct page`.
    pub mem_map: VirtAddr,
}

impl Section {
    /// The frame whose `struct page` is at `page`. `page_size` is the size of `struct page` in bytes.
    fn frame_of(&self, page: VirtAddr, page_size: NonZeroU64) -> Option<Pfn> {
        let offset = page.as_u64().checked_sub(self.mem_map.as_u64())?;
        let index = offset / page_size;
        (offset % page_size == 0 && index < self.frames.len())
            .then(|| self.frames.start.saturating_add(index))
    }
}

/// The result of a section lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The section has `struct page`s.
    Present(Section),
    /// These frames have no `struct page`.
    Absent(PfnRange),
    /// The section's description is damaged: it is not known whether these frames have `struct page`s.
    Damaged(PfnRange, SectionError),
}

/// Why a section cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionError {
    /// Its description cannot be read.
    Read(ReadError),
    /// Its description does not point to kernel memory.
    NotKernelMemory(VirtAddr),
    /// No section has `struct page`s.
    NoSections,
    /// `LENGTH(node_data)` is out of range.
    TooManyNodes(u64),
}

impl From<ReadError> for SectionError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for SectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::NotKernelMemory(addr) => {
                write!(f, "the memory section's struct pages are at {addr}, which is not a kernel address")
            }
            Self::NoSections => f.write_str(
                "no memory section has struct pages: mem_section is empty or its address is wrong",
            ),
            Self::TooManyNodes(nodes) => {
                write!(f, "VMCOREINFO: LENGTH(node_data)={nodes} is out of range (0..={MAX_DISCONTIG_NODES})")
            }
        }
    }
}

impl core::error::Error for SectionError {}

/// The memory sections of a machine.
#[derive(Clone, Debug)]
pub struct MemorySections {
    model: Model,
    page_size: u64,
    space: AddressSpace,
    frames: PfnRange,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per scan, and no allocator")]
enum Model {
    Sparse {
        roots: VirtAddr,
        extreme: bool,
        entry_size: u64,
        per_root: NonZeroU64,
        map_offset: u64,
        frames_shift: u32,
        flags: u64,
    },
    Arrays(heapless::Vec<Section, MAX_DISCONTIG_NODES>),
}

impl MemorySections {
    /// Locates the arrays of `struct page` of the frames below `max_pfn`.
    ///
    /// # Errors
    /// Fails if the description of the memory model cannot be read, or describes no `struct page`.
    pub fn locate<M: PhysicalMemory + ?Sized>(
        layout: &KernelLayout,
        memory: &M,
        max_pfn: Pfn,
        rule_set: RuleSet,
    ) -> Result<Self, SectionError> {
        let frames = PfnRange::new(Pfn::new(0), max_pfn.min(Pfn::END));
        let page_size = layout.page.size as u64;
        let space = layout.space;
        let with = |model| Self { model, page_size, space, frames };
        match layout.model {
            MemoryModelKeys::Sparse {
                mem_section,
                extreme,
                entry_size,
                map_offset,
                frames_shift,
                sections,
            } => {
                let table = 1_u64.checked_shl(frames_shift).unwrap_or(0).saturating_mul(sections);
                let frames = PfnRange::new(frames.start, frames.end.min(Pfn::new(table)));
                let with = |model| Self { model, page_size, space, frames };
                let per_root = 1_u64
                    .checked_shl(layout.page_shift)
                    .and_then(|page| page.checked_div(entry_size))
                    .and_then(NonZeroU64::new)
                    .unwrap_or(NonZeroU64::MIN);
                let aligned = page_size & SECTION_FLAGS_PREINIT == 0;
                let flags = if rule_set == RuleSet::Kernel && aligned {
                    SECTION_FLAGS_PREINIT
                } else {
                    SECTION_FLAGS
                };
                let sparse = |roots| Model::Sparse {
                    roots,
                    extreme,
                    entry_size,
                    per_root,
                    map_offset,
                    frames_shift,
                    flags,
                };
                // VMCOREINFO has the address of the array. Since 4.15, a text that is made from debug information may
                // have the address of the pointer to the array.
                let mut sections = with(sparse(mem_section));
                if sections.any_present(memory) {
                    return Ok(sections);
                }
                let empty = sections.why_empty(memory);
                if extreme {
                    sections.model = sparse(VirtAddr::new(space.read_u64(memory, mem_section)?));
                }
                if extreme && sections.any_present(memory) { Ok(sections) } else { Err(empty) }
            }
            MemoryModelKeys::Flat { mem_map } => {
                let mem_map = VirtAddr::new(space.read_u64(memory, mem_map)?);
                if !mem_map.is_kernel() {
                    return Err(SectionError::NotKernelMemory(mem_map));
                }
                let mut arrays = heapless::Vec::new();
                // Cannot fail: the vector has room for 64.
                let _ = arrays.push(Section { frames, mem_map });
                Ok(with(Model::Arrays(arrays)))
            }
            MemoryModelKeys::Discontig {
                node_data,
                nodes,
                node_mem_map,
                node_start_pfn,
                node_spanned_pages,
            } => {
                let offsets = [node_mem_map, node_start_pfn, node_spanned_pages];
                Ok(with(Model::Arrays(node_arrays(&space, memory, node_data, nodes, offsets, frames)?)))
            }
        }
    }

    /// Looks up the section of `pfn`; `None` after the last frame. The frames of the result contain `pfn` and end where
    /// the section ends, or where the run of absent sections ends.
    pub fn lookup<M: PhysicalMemory + ?Sized>(&self, memory: &M, pfn: Pfn) -> Option<Lookup> {
        if !self.frames.contains(pfn) {
            return None;
        }
        Some(match &self.model {
            Model::Sparse { .. } => self.lookup_sparse(memory, pfn),
            Model::Arrays(arrays) => match arrays.iter().find(|s| s.frames.contains(pfn)) {
                Some(section) => Lookup::Present(*section),
                None => {
                    let next = arrays.iter().map(|s| s.frames.start).filter(|start| *start > pfn).min();
                    Lookup::Absent(PfnRange::new(pfn, next.unwrap_or(self.frames.end)))
                }
            },
        })
    }

    /// All sections in ascending order: present, absent and damaged ones.
    pub fn iter<'m, M: PhysicalMemory + ?Sized>(
        &'m self,
        memory: &'m M,
    ) -> impl Iterator<Item = Lookup> + 'm {
        let mut pfn = self.frames.start;
        core::iter::from_fn(move || {
            let found = self.lookup(memory, pfn)?;
            pfn = match found {
                Lookup::Present(section) => section.frames.end,
                Lookup::Absent(frames) | Lookup::Damaged(frames, _) => frames.end,
            };
            Some(found)
        })
    }

    /// The first frame after the last section that has `struct page`s: makedumpfile's `max_mapnr`. A damaged section
    /// counts as present, so that its memory is kept; makedumpfile would not dump it.
    pub fn end<M: PhysicalMemory + ?Sized>(&self, memory: &M) -> Pfn {
        self.iter(memory).fold(Pfn::new(0), |end, found| match found {
            Lookup::Present(section) => section.frames.end,
            Lookup::Damaged(frames, _) => frames.end,
            Lookup::Absent(_) => end,
        })
    }

    /// The frame whose `struct page` is at `page`, as the kernel's `page_to_pfn`. [`frame_finder`](Self::frame_finder)
    /// is faster for many frames.
    pub fn frame_of<M: PhysicalMemory + ?Sized>(&self, memory: &M, page: VirtAddr) -> Option<Pfn> {
        self.frame_finder().frame_of(memory, page)
    }

    /// A finder of frames by the addresses of their `struct page`s.
    pub fn frame_finder(&self) -> FrameFinder<'_> {
        FrameFinder { sections: self, cached: None }
    }

    /// The frames that lookups cover: frame 0 up to `max_pfn` or the end of the section table.
    pub fn frames(&self) -> PfnRange {
        self.frames
    }

    /// The page tables that translate the addresses of `struct page`s.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The name of the memory model, as makedumpfile prints it.
    pub fn model_name(&self) -> &'static str {
        match &self.model {
            Model::Sparse { extreme: true, .. } => "SPARSEMEM_EX",
            Model::Sparse { extreme: false, .. } => "SPARSEMEM",
            Model::Arrays(arrays)
                if arrays.len() == 1 && arrays.first().is_some_and(|a| a.frames == self.frames) =>
            {
                "FLATMEM"
            }
            Model::Arrays(_) => "DISCONTIGMEM",
        }
    }

    fn any_present<M: PhysicalMemory + ?Sized>(&self, memory: &M) -> bool {
        self.iter(memory).any(|found| matches!(found, Lookup::Present(_)))
    }

    /// The first error of a damaged section, or [`SectionError::NoSections`].
    fn why_empty<M: PhysicalMemory + ?Sized>(&self, memory: &M) -> SectionError {
        let damaged = self.iter(memory).find_map(|found| match found {
            Lookup::Damaged(_, error) => Some(error),
            _ => None,
        });
        damaged.unwrap_or(SectionError::NoSections)
    }

    fn lookup_sparse<M: PhysicalMemory + ?Sized>(&self, memory: &M, pfn: Pfn) -> Lookup {
        let Model::Sparse { roots, extreme, entry_size, per_root, map_offset, frames_shift, flags } =
            self.model
        else {
            return Lookup::Absent(PfnRange::new(pfn, self.frames.end));
        };
        let number = pfn.as_u64() >> frames_shift;
        let sections = |first: u64, count: u64| {
            let start = Pfn::new(first << frames_shift);
            PfnRange::from_start(start, count << frames_shift).intersection(self.frames)
        };
        let frames = sections(number, 1);
        let (root, index) = if extreme { (number / per_root, number % per_root) } else { (0, number) };
        let array = if extreme {
            let pointer = roots.checked_add(root.saturating_mul(8));
            match pointer.map(|at| self.space.read_u64(memory, at)) {
                // The root has no sections, or lies outside the address space.
                None | Some(Ok(0)) => {
                    let rest =
                        PfnRange::new(pfn, sections(root.saturating_mul(per_root.get()), per_root.get()).end);
                    return Lookup::Absent(rest);
                }
                Some(Ok(array)) => VirtAddr::new(array),
                Some(Err(error)) => {
                    let rest =
                        PfnRange::new(pfn, sections(root.saturating_mul(per_root.get()), per_root.get()).end);
                    return Lookup::Damaged(rest, error.into());
                }
            }
        } else {
            roots
        };
        let entry = array.checked_add(index.saturating_mul(entry_size));
        let Some(at) = entry.filter(|at| at.is_kernel()).and_then(|at| at.checked_add(map_offset)) else {
            return Lookup::Damaged(frames, SectionError::NotKernelMemory(array));
        };
        let coded = match self.space.read_u64(memory, at) {
            Ok(word) => word,
            Err(error) => return Lookup::Damaged(frames, error.into()),
        };
        if coded & SECTION_MARKED_PRESENT == 0 {
            return Lookup::Absent(frames);
        }
        // The kernel encodes the array's address minus the section's first frame, so that the frame number indexes it.
        let first = frames.start.as_u64().wrapping_mul(self.page_size);
        let mem_map = VirtAddr::new((coded & !flags).wrapping_add(first));
        if mem_map.is_kernel() {
            Lookup::Present(Section { frames, mem_map })
        } else {
            Lookup::Damaged(frames, SectionError::NotKernelMemory(mem_map))
        }
    }
}

/// Finds frames by the addresses of their `struct page`s.
///
/// It caches the section of the last result. With a vmemmap, that section gives the location of all others. Without one
/// (before 2.6.24), the next `struct page` is usually in the same section; if not, all sections are searched, as
/// makedumpfile's `page_to_pfn` always does.
#[derive(Clone, Debug)]
pub struct FrameFinder<'s> {
    sections: &'s MemorySections,
    cached: Option<Section>,
}

impl FrameFinder<'_> {
    /// The frame whose `struct page` is at `page`; `None` if there is none.
    pub fn frame_of<M: PhysicalMemory + ?Sized>(&mut self, memory: &M, page: VirtAddr) -> Option<Pfn> {
        let page_size = NonZeroU64::new(self.sections.page_size)?;
        let present = |found| match found {
            Lookup::Present(section) => Some(section),
            _ => None,
        };
        if self.cached.is_none() {
            self.cached = self.sections.iter(memory).find_map(present);
        }
        let cached = self.cached?;
        if let Some(pfn) = cached.frame_of(page, page_size) {
            return Some(pfn);
        }
        let vmemmap =
            cached.mem_map.as_u64().wrapping_sub(cached.frames.start.as_u64().wrapping_mul(page_size.get()));
        let guess = Pfn::new(page.as_u64().wrapping_sub(vmemmap) / page_size);
        let holds = |section: &Section| section.frame_of(page, page_size).is_some();
        let found = self
            .sections
            .lookup(memory, guess)
            .and_then(present)
            .filter(holds)
            .or_else(|| self.sections.iter(memory).filter_map(present).find(holds))?;
        self.cached = Some(found);
        found.frame_of(page, page_size)
    }
}

/// The arrays of `struct page` of a DISCONTIGMEM machine's nodes. A lookup does not depend on their order.
fn node_arrays<M: PhysicalMemory + ?Sized>(
    space: &AddressSpace,
    memory: &M,
    node_data: VirtAddr,
    nodes: u64,
    [mem_map, start_pfn, spanned_pages]: [u64; 3],
    frames: PfnRange,
) -> Result<heapless::Vec<Section, MAX_DISCONTIG_NODES>, SectionError> {
    if nodes > MAX_DISCONTIG_NODES as u64 {
        return Err(SectionError::TooManyNodes(nodes));
    }
    let mut arrays = heapless::Vec::new();
    for node in 0..nodes {
        let pointer = node_data.checked_add(node.saturating_mul(8)).unwrap_or_default();
        let pgdat = VirtAddr::new(space.read_u64(memory, pointer)?);
        if !pgdat.is_kernel() {
            continue;
        }
        let field = |offset| space.read_u64(memory, pgdat.checked_add(offset).unwrap_or_default());
        let own =
            PfnRange::from_start(Pfn::new(field(start_pfn)?), field(spanned_pages)?).intersection(frames);
        let mem_map = VirtAddr::new(field(mem_map)?);
        if own.is_empty() {
            continue;
        }
        if !mem_map.is_kernel() {
            return Err(SectionError::NotKernelMemory(mem_map));
        }
        let _ = arrays.push(Section { frames: own, mem_map });
    }
    if arrays.is_empty() { Err(SectionError::NoSections) } else { Ok(arrays) }
}

#[cfg(test)]
#[path = "sections_tests.rs"]
mod tests;
