//! The layout of a machine: its memory ranges, the segments of the dump, and the addresses of the kernel's own data.

use super::generation::{
    KernelGeneration, Keys, MemoryModel, PAGE_OFFSET_5LEVEL, PHYSMEM_BITS_5LEVEL, VMEMMAP_5LEVEL,
};
use scanner_core::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange, PhysAddr, VirtAddr};
use vmcore::frames::FrameRanges;
use vmcore::image::Segment;
use vmcore::{Error, Result};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Frames of a memory section (128 MiB).
pub(super) const SECTION_FRAMES: u64 = 1 << (27 - PAGE_SHIFT);
/// Frames of a region (4 MiB): the largest block of the buddy allocator, and the unit of population.
pub(super) const REGION_FRAMES: u64 = 1 << 10;
/// Bytes of a region.
const REGION: u64 = REGION_FRAMES << PAGE_SHIFT;
/// End of the memory below 4 GiB; devices use the addresses above it, as on a PC.
const LOW_END: u64 = 3 * GIB;
/// Physical address of the kernel's image.
pub(super) const KERNEL_PHYS: u64 = 16 * MIB;
/// Bytes of the kernel's image.
pub(super) const KERNEL_SIZE: u64 = 8 * MIB;
/// `__START_KERNEL_map`.
pub(super) const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Physical address of the root page table, inside the kernel's image.
pub(super) const ROOT_PHYS: u64 = KERNEL_PHYS + 0x60_4000;
/// Bytes reserved for page tables.
const TABLES_SIZE: u64 = 4 * MIB;
/// File offset of physical address 0. It is a multiple of 2 MiB, so that the page cache can hold and map a 2 MiB page
/// of the machine as one large folio.
pub(super) const FILE_START: u64 = 2 * MIB;
/// The memory below 640 KiB, as `(start, end)`. It ends within a page, as on real machines.
const LOWEST: (u64, u64) = (0x1000, 0x9_fc00);

/// The workload of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Profile {
    /// Nearly all memory is free, in the largest blocks; the used part grows with the machine.
    Idle,
    /// A server just after boot: 2 GiB and the struct page array are in use, the rest is free in the largest blocks.
    Booted,
    /// Every page is in use: anonymous, cache, slab, page tables, kernel, huge pages.
    Busy,
    /// Every page is in use, without huge pages that a scan could skip, and adjacent pages differ in class.
    Crowded,
    /// All classes: free blocks of all orders between used pages; hwpoison, offline and unaccepted pages.
    Mixed,
}

/// A defect of the machine, for tests with untrusted input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Fault {
    /// The virtual memory map of one present section is not mapped.
    UnmappedVmemmap,
    /// The virtual memory map of one present section is mapped to physical memory outside the dump.
    VmemmapOutside,
    /// The memory map of one present section starts at an address outside the kernel's address space.
    SectionOutside,
    /// A page table entry of the memory map points back to its own table.
    TableLoop,
    /// The kernel's root page table entry for the memory map has every bit set.
    TableOnes,
    /// The root array of sections points to an unmapped address.
    SectionRootUnmapped,
    /// A section has a flag that makedumpfile does not mask off (bit 5, which 6.15 and later may set).
    SectionHighFlag,
    /// A free list contains a loop.
    FreeListLoop,
    /// A `prev` pointer in a free list is wrong.
    FreeListBroken,
    /// The file ends before the end of the memory in its headers.
    Truncated,
}

/// A machine to simulate.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The kernel.
    pub generation: &'static KernelGeneration,
    /// Bytes of memory, without the hole below 4 GiB.
    pub memory: u64,
    /// The workload.
    pub profile: Profile,
    /// The memory model, if it is not the generation's default.
    pub model: Option<MemoryModel>,
    /// Whether the page tables have five levels.
    pub five_level: bool,
    /// NUMA nodes, at least 1.
    pub nodes: u32,
    /// Whether memory was added at run time: two sections after a hole, the second of them not online.
    pub hotplug: bool,
    /// Whether VMCOREINFO has the values that users add by hand for kernels before 3.9. Without them a filter finds
    /// free pages through the free lists.
    pub hand_keys: bool,
    /// Whether the machine has the pages of [`EDGE_CASES`](super::EDGE_CASES).
    pub edge_cases: bool,
    /// Whether pages have contents. Without them all pages read as zeros.
    pub contents: bool,
    /// Whether the file stores the whole `struct page` array, like a copied file. Otherwise its zero pages are holes.
    pub dense: bool,
    /// The machine's defects.
    pub faults: Vec<Fault>,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Spec {
    /// A machine with all page classes, edge cases and memory added at run time. It has one node, the generation's
    /// default memory model, no page contents and no faults.
    pub fn with_everything(generation: &'static KernelGeneration, memory: u64) -> Self {
        Self {
            generation,
            memory,
            profile: Profile::Mixed,
            model: None,
            five_level: false,
            nodes: 1,
            hotplug: true,
            hand_keys: true,
            edge_cases: true,
            contents: false,
            dense: false,
            faults: Vec::new(),
            seed: 1,
        }
    }
}

/// A run of `struct page`s that is contiguous in virtual and in physical memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapPiece {
    /// The frames that the run describes.
    pub frames: PfnRange,
    /// Virtual address of the first frame's `struct page`.
    pub virt: u64,
    /// Physical address of the first frame's `struct page`.
    pub phys: u64,
}

/// The regions of the edge cases, as region numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct EdgeRegions {
    /// A compound page whose second half is in a memory hole.
    pub hole_start: u64,
    /// A compound page whose head is in a memory hole.
    pub hole_end: u64,
    /// A `PT_LOAD` whose file data ends early. The following region has no file data.
    pub no_data: u64,
    /// The pages of [`EDGE_CASES`](super::EDGE_CASES).
    pub listed: u64,
    /// Two hugetlb pages with an optimised memory map (HVO).
    pub folded: u64,
    /// The region in whose middle a free block starts that crosses the end of a section.
    pub crossing: Option<u64>,
}

/// A machine with all addresses assigned.
#[derive(Debug)]
pub(super) struct Machine {
    pub spec: Spec,
    pub generation: &'static KernelGeneration,
    pub model: MemoryModel,
    pub page_offset: u64,
    pub vmemmap: u64,
    /// Virtual address of the kernel's image.
    pub kernel_virt: u64,
    /// All memory, including the capture kernel's.
    pub ram: FrameRanges,
    /// Memory that the population does not use: the kernel's image and data, and the capture kernel's memory.
    pub reserved: FrameRanges,
    /// Memory of the section that is not online.
    pub not_online: PfnRange,
    /// The `PT_LOAD` segments of the dump.
    pub loads: Vec<Segment>,
    /// Frames that overlap a `PT_LOAD`.
    pub exists: FrameRanges,
    /// Frames whose first byte is in the file.
    pub backed: FrameRanges,
    /// The frames of each node, holes included.
    pub nodes: Vec<PfnRange>,
    pub memmap: Vec<MapPiece>,
    /// Physical memory of the page tables.
    pub tables: std::ops::Range<u64>,
    /// Physical address of the section array, or of the array of roots followed by the root arrays.
    pub sections: u64,
    /// Physical address of the first `pglist_data`. The others follow it without gaps.
    pub node_data: u64,
    pub edges: Option<EdgeRegions>,
}

impl Machine {
    /// Assigns all addresses.
    ///
    /// # Errors
    /// `spec` is impossible, or the memory map does not fit.
    pub fn new(spec: &Spec) -> Result<Self> {
        let generation = spec.generation;
        let model = spec.model.unwrap_or(generation.model);
        check(spec)?;
        let low = spec.memory.min(LOW_END);
        let high = spec.memory - low;
        let top = if high == 0 { low } else { 4 * GIB + high };
        let added = (top.next_multiple_of(SECTION_FRAMES << PAGE_SHIFT)) + 256 * MIB;
        let section = SECTION_FRAMES << PAGE_SHIFT;

        let mut ram = vec![frames(LOWEST.0, LOWEST.1), frames(MIB, low), frames(4 * GIB, 4 * GIB + high)];
        let mut not_online = PfnRange::default();
        if spec.hotplug {
            ram.push(frames(added, added + 2 * section));
            not_online = frames(added + section, added + 2 * section);
        }
        let ram = FrameRanges::from_ranges(ram);
        let max_pfn = ram.end().as_u64();

        // The capture kernel's memory is a hole in the dump. With edge cases its borders cut huge pages.
        let crash_size = (spec.memory / 32).clamp(4 * MIB, 256 * MIB).next_multiple_of(REGION);
        let crash_base = (low / 2) / REGION * REGION;
        let cut = if spec.edge_cases { MIB } else { 0 };
        let crash = crash_base + cut..crash_base + crash_size + cut;
        let edges = spec.edge_cases.then(|| EdgeRegions::around(crash_base, crash_size, low));

        // The kernel's small data grows upwards from the image, the memory map downwards from the end of memory.
        let tables = KERNEL_PHYS + KERNEL_SIZE..KERNEL_PHYS + KERNEL_SIZE + TABLES_SIZE;
        let sections = tables.end;
        let sections_size = section_bytes(spec, model, max_pfn).next_multiple_of(MIB);
        let node_data = sections + sections_size;
        let arena_end =
            (node_data + u64::from(spec.nodes) * generation.zones.node_size).next_multiple_of(REGION);
        let vmemmap = if spec.five_level { VMEMMAP_5LEVEL } else { generation.vmemmap };
        let page_offset = if spec.five_level { PAGE_OFFSET_5LEVEL } else { generation.page_offset };
        let nodes = split_nodes(spec, &ram);
        // The memory map is at the end of the larger piece of memory.
        let (memmap_end, bottom) =
            if high < spec.memory / 16 { (low, crash.end + 8 * REGION) } else { (top, 4 * GIB) };
        let (memmap, memmap_start) =
            place_memmap(generation, model, &ram, &nodes, memmap_end, (page_offset, vmemmap));
        if memmap_start < bottom || arena_end > crash.start {
            return Err(Error::unusable("the memory map does not fit into the simulated machine's memory")
                .with_hint("Use a larger --memory or fewer --nodes."));
        }
        let reserved = FrameRanges::from_ranges([
            frames(KERNEL_PHYS, arena_end),
            frames(crash.start, crash.end),
            frames(memmap_start / REGION * REGION, memmap_end),
        ]);

        let random = generation.keys.contains(Keys::RANDOM_BASE);
        let kernel_virt = KERNEL_MAP + KERNEL_PHYS + if random { 0x1c20_0000 } else { 0 };
        let mut machine = Self {
            spec: spec.clone(),
            generation,
            model,
            page_offset,
            vmemmap,
            kernel_virt,
            ram,
            reserved,
            not_online,
            loads: Vec::new(),
            exists: FrameRanges::default(),
            backed: FrameRanges::default(),
            nodes,
            memmap,
            tables,
            sections,
            node_data,
            edges,
        };
        machine.list_loads(crash);
        Ok(machine)
    }

    /// `phys_base`: physical address = address in the image - `__START_KERNEL_map` + `phys_base`.
    pub fn phys_base(&self) -> i64 {
        (KERNEL_PHYS + KERNEL_MAP).wrapping_sub(self.kernel_virt) as i64
    }

    /// Virtual address in the direct map.
    pub fn direct(&self, phys: u64) -> u64 {
        self.page_offset + phys
    }

    /// Physical address bits that the kernel's section table covers.
    pub fn physmem_bits(&self) -> u32 {
        if self.spec.five_level { PHYSMEM_BITS_5LEVEL } else { self.generation.max_physmem_bits }
    }

    /// Bytes of a `struct page`.
    pub fn page_size(&self) -> u64 {
        self.generation.page.size
    }

    /// Whether a filter can recognise a free page by its `struct page`. Otherwise it follows the free lists.
    pub fn finds_buddies(&self) -> bool {
        self.generation.exports_buddy() || self.by_hand()
    }

    /// Whether VMCOREINFO has values that a user added by hand.
    pub fn by_hand(&self) -> bool {
        self.spec.hand_keys
            && self.generation.keys.contains(Keys::BY_HAND)
            && !self.generation.exports_buddy()
    }

    /// The numbers of the sections that contain memory, ascending.
    pub fn sections_present(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.ram.end().as_u64().div_ceil(SECTION_FRAMES);
        (0..count).filter(|&nr| {
            let window = PfnRange::from_start(Pfn::new(nr * SECTION_FRAMES), SECTION_FRAMES);
            self.ram.within(window).next().is_some()
        })
    }

    /// Sections in one root of the two-level section table.
    pub fn sections_per_root(&self) -> u64 {
        PAGE_SIZE as u64 / self.generation.mem_section_size
    }

    /// Entries of `mem_section`: sections, or roots of the two-level table.
    pub fn mem_section_length(&self) -> u64 {
        let sections = 1 << (self.physmem_bits() - 27);
        if self.model == MemoryModel::Sparse { sections } else { sections.div_ceil(self.sections_per_root()) }
    }

    /// The run of `struct page`s that describes a frame.
    pub fn map_piece(&self, pfn: u64) -> Option<&MapPiece> {
        // `memmap` is sorted by frame.
        let after = self.memmap.partition_point(|piece| piece.frames.start.as_u64() <= pfn);
        let piece = self.memmap.get(after.checked_sub(1)?)?;
        piece.frames.contains(Pfn::new(pfn)).then_some(piece)
    }

    /// Virtual address of a frame's `struct page`; 0 if it has none.
    pub fn struct_page(&self, pfn: u64) -> u64 {
        self.map_piece(pfn)
            .map_or(0, |piece| piece.virt + (pfn - piece.frames.start.as_u64()) * self.page_size())
    }

    /// Physical address of a frame's `struct page`; 0 if it has none.
    pub fn struct_page_phys(&self, pfn: u64) -> u64 {
        self.map_piece(pfn)
            .map_or(0, |piece| piece.phys + (pfn - piece.frames.start.as_u64()) * self.page_size())
    }

    /// The node that a frame belongs to.
    pub fn node_of(&self, pfn: u64) -> usize {
        self.nodes.iter().position(|node| node.contains(Pfn::new(pfn))).unwrap_or(0)
    }

    /// The zone that a frame belongs to: DMA, DMA32, Normal.
    pub fn zone_of(pfn: u64) -> usize {
        match pfn << PAGE_SHIFT {
            0..0x100_0000 => 0,
            0x100_0000..0x1_0000_0000 => 1,
            _ => 2,
        }
    }

    /// A section in the middle of the machine, for faults.
    pub fn victim_section(&self) -> u64 {
        let present: Vec<u64> = self.sections_present().collect();
        present[present.len() / 2]
    }

    fn list_loads(&mut self, crash: std::ops::Range<u64>) {
        // The segment of the kernel's image comes first and overlaps a segment of memory.
        let mut loads =
            vec![self.load(KERNEL_PHYS, KERNEL_PHYS + KERNEL_SIZE, KERNEL_SIZE, self.kernel_virt)];
        let mut plain = |this: &Self, start: u64, end: u64| {
            if start < end {
                loads.push(this.load(start, end, end - start, this.direct(start)));
            }
        };
        plain(self, LOWEST.0, LOWEST.1);
        let mut late = Vec::new();
        for range in self.ram.as_slice() {
            let (start, end) = (range.start.addr().as_u64(), range.end.addr().as_u64());
            if start < MIB {
                continue;
            }
            if crash.start < start || crash.start >= end {
                plain(self, start, end);
                continue;
            }
            plain(self, start, crash.start);
            let Some(edges) = self.edges else {
                plain(self, crash.end, end);
                continue;
            };
            let short = edges.no_data * REGION;
            plain(self, crash.end, short);
            // One segment whose file data ends within a page, and one without file data.
            late.push(self.load(short, short + REGION, 3 * MIB + 0x200, self.direct(short)));
            late.push(self.load(short + REGION, short + 2 * REGION, 0, self.direct(short + REGION)));
            plain(self, short + 2 * REGION, end);
        }
        loads.append(&mut late);
        loads[1..].sort_by_key(|load| load.phys);
        self.exists =
            FrameRanges::from_ranges(loads.iter().map(|l| {
                PfnRange::new(l.phys.pfn(), PhysAddr::new(l.phys.as_u64() + l.mem_size).pfn_ceil())
            }));
        self.backed =
            FrameRanges::from_ranges(loads.iter().map(|l| {
                PfnRange::new(l.phys.pfn(), PhysAddr::new(l.phys.as_u64() + l.file_size).pfn_ceil())
            }));
        self.loads = loads;
    }

    fn load(&self, start: u64, end: u64, file_size: u64, virt: u64) -> Segment {
        Segment {
            phys: PhysAddr::new(start),
            virt: VirtAddr::new(virt),
            mem_size: end - start,
            file_size,
            offset: if file_size == 0 { 0 } else { FILE_START + start },
        }
    }
}

impl EdgeRegions {
    /// The edge case regions around the capture kernel's memory; `low` is the end of the memory below 4 GiB.
    fn around(crash_base: u64, crash_size: u64, low: u64) -> Self {
        let hole_end = (crash_base + crash_size) / REGION;
        let section_regions = SECTION_FRAMES / REGION_FRAMES;
        let crossing = (hole_end + 6).next_multiple_of(section_regions) - 1;
        // The memory map of a small machine must fit after these regions.
        let fits = (crossing + 2) * REGION + 64 * MIB <= low;
        Self {
            hole_start: crash_base / REGION,
            hole_end,
            no_data: hole_end + 1,
            listed: hole_end + 3,
            folded: hole_end + 4,
            crossing: fits.then_some(crossing),
        }
    }
}

fn frames(start: u64, end: u64) -> PfnRange {
    PfnRange::new(PhysAddr::new(start).pfn(), PhysAddr::new(end).pfn_ceil())
}

fn check(spec: &Spec) -> Result<()> {
    let name = spec.generation.name;
    if spec.memory < 128 * MIB || !spec.memory.is_multiple_of(REGION) {
        return Err(Error::unusable("the memory size must be a multiple of 4 MiB, at least 128 MiB"));
    }
    if spec.five_level && !spec.generation.keys.contains(Keys::FIVE_LEVEL) {
        return Err(Error::unusable(format!("Linux {name} has no five-level page tables"))
            .with_hint("The simulated generations have them from 4.18 on."));
    }
    let bits = if spec.five_level { PHYSMEM_BITS_5LEVEL } else { spec.generation.max_physmem_bits };
    // The simulated direct map and the page table pool cover 16 TiB.
    let limit = (1_u64 << bits).min(16 << 40) - 8 * GIB;
    if spec.memory > limit {
        return Err(Error::unusable(format!("a simulated Linux {name} has at most {} GiB", limit / GIB)));
    }
    let most = (spec.memory / (64 * MIB)).min(spec.generation.zones.max_nodes);
    if spec.nodes == 0 || u64::from(spec.nodes) > most {
        return Err(Error::unusable(format!("the number of nodes must be 1 to {most} for this machine")));
    }
    let model = spec.model.unwrap_or(spec.generation.model);
    if spec.nodes > 1 && model == MemoryModel::Flat {
        return Err(Error::unusable("a machine with the flat memory model must have one node"));
    }
    if spec.faults.contains(&Fault::TableLoop) && model != MemoryModel::Vmemmap {
        return Err(Error::unusable("the fault table-loop needs the memory model vmemmap"));
    }
    Ok(())
}

/// Bytes of the section array, or of the array of roots and the root arrays.
fn section_bytes(spec: &Spec, model: MemoryModel, max_pfn: u64) -> u64 {
    let bits = if spec.five_level { PHYSMEM_BITS_5LEVEL } else { spec.generation.max_physmem_bits };
    let size = spec.generation.mem_section_size;
    let per_root = PAGE_SIZE as u64 / size;
    match model {
        MemoryModel::Sparse => size << (bits - 27),
        MemoryModel::Vmemmap | MemoryModel::SparseExtreme => {
            let roots = (1_u64 << (bits - 27)).div_ceil(per_root) * 8;
            let used = max_pfn.div_ceil(SECTION_FRAMES).div_ceil(per_root);
            roots.next_multiple_of(PAGE_SIZE as u64) + used * PAGE_SIZE as u64
        }
        MemoryModel::Discontig | MemoryModel::Flat => PAGE_SIZE as u64,
    }
}

/// Divides the memory among the nodes. Node borders are section borders, on small machines region borders.
fn split_nodes(spec: &Spec, ram: &FrameRanges) -> Vec<PfnRange> {
    let share = ram.count() / u64::from(spec.nodes);
    let unit = if share >= 4 * SECTION_FRAMES { SECTION_FRAMES } else { REGION_FRAMES };
    let mut borders = vec![0];
    let mut seen = 0;
    for range in ram.as_slice() {
        while borders.len() < spec.nodes as usize && seen + range.len() > share * borders.len() as u64 {
            let within = range.start.as_u64() + share * borders.len() as u64 - seen;
            borders.push(within / unit * unit);
        }
        seen += range.len();
    }
    borders.push(ram.end().as_u64());
    borders.windows(2).map(|pair| PfnRange::new(Pfn::new(pair[0]), Pfn::new(pair[1]))).collect()
}

/// Places the memory map just below `top`. Returns its pieces and its physical start address.
fn place_memmap(
    generation: &KernelGeneration,
    model: MemoryModel,
    ram: &FrameRanges,
    nodes: &[PfnRange],
    top: u64,
    (page_offset, vmemmap): (u64, u64),
) -> (Vec<MapPiece>, u64) {
    let size = generation.page.size;
    let sections = |range: &PfnRange| {
        PfnRange::new(
            Pfn::new(range.start.as_u64() / SECTION_FRAMES * SECTION_FRAMES),
            Pfn::new(range.end.as_u64().next_multiple_of(SECTION_FRAMES)),
        )
    };
    let described: Vec<PfnRange> = match model {
        MemoryModel::Flat => vec![PfnRange::new(Pfn::new(0), ram.end())],
        MemoryModel::Discontig => nodes.to_vec(),
        MemoryModel::Vmemmap => {
            FrameRanges::from_ranges(ram.as_slice().iter().map(sections)).as_slice().to_vec()
        }
        // One piece for each section, as the boot allocator allocates them.
        MemoryModel::SparseExtreme | MemoryModel::Sparse => {
            FrameRanges::from_ranges(ram.as_slice().iter().map(sections))
                .as_slice()
                .iter()
                .flat_map(|run| (run.start.as_u64()..run.end.as_u64()).step_by(SECTION_FRAMES as usize))
                .map(|start| PfnRange::from_start(Pfn::new(start), SECTION_FRAMES))
                .collect()
        }
    };
    let mut end = top;
    let pieces = described
        .into_iter()
        .map(|frames| {
            let bytes = frames.len() * size;
            if model == MemoryModel::Vmemmap {
                // 2 MiB pages map it, so the offset within such a page is the same on both sides.
                let virt = vmemmap + frames.start.as_u64() * size;
                let within = virt % (2 * MIB);
                end = (end - (within + bytes)) / (2 * MIB) * (2 * MIB);
                MapPiece { frames, virt, phys: end + within }
            } else {
                end = (end - bytes) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
                MapPiece { frames, virt: page_offset + end, phys: end }
            }
        })
        .collect();
    (pieces, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(memory: u64) -> Spec {
        Spec::with_everything(KernelGeneration::named("6.12").unwrap(), memory)
    }

    #[test]
    fn reserved_ranges_and_the_memory_map_are_in_memory() {
        for (memory, nodes) in [(128 * MIB, 1), (512 * MIB, 2), (5 * GIB, 3), (4096 * GIB, 8)] {
            let machine = Machine::new(&Spec { nodes, ..spec(memory) }).unwrap();
            for range in machine.reserved.as_slice() {
                assert_eq!(machine.ram.within(*range).map(PfnRange::len).sum::<u64>(), range.len());
            }
            for piece in &machine.memmap {
                let bytes = frames(piece.phys, piece.phys + piece.frames.len() * machine.page_size());
                assert_eq!(machine.reserved.within(bytes).map(PfnRange::len).sum::<u64>(), bytes.len());
            }
            assert_eq!(machine.nodes.len(), nodes as usize);
            assert!(machine.nodes.iter().all(|node| !node.is_empty()));
        }
    }

    #[test]
    fn an_impossible_machine_is_rejected() {
        assert!(Machine::new(&spec(64 * MIB)).is_err());
        let old = KernelGeneration::named("2.6.18").unwrap();
        assert!(Machine::new(&Spec { generation: old, ..spec(4096 * GIB) }).is_err());
        assert!(Machine::new(&Spec { generation: old, five_level: true, ..spec(GIB) }).is_err());
        assert!(Machine::new(&Spec { nodes: 0, ..spec(GIB) }).is_err());
    }
}
