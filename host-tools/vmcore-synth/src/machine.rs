//! The layout of a machine: where memory is, what of it the dump lists, and where the kernel's own data lives.

use super::generation::{
    KernelGeneration, Keys, MemoryModel, PAGE_OFFSET_5LEVEL, PHYSMEM_BITS_5LEVEL, VMEMMAP_5LEVEL,
};
use scanner_core::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange, PhysAddr, VirtAddr};
use vmcore::frames::FrameRanges;
use vmcore::image::Segment;
use vmcore::{Error, Result};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Frames of a memory section.
pub(super) const SECTION_FRAMES: u64 = 1 << (27 - PAGE_SHIFT);
/// Frames of a region: the largest block of the buddy allocator, and the unit in which memory is populated.
pub(super) const REGION_FRAMES: u64 = 1 << 10;
/// Bytes of a region.
const REGION: u64 = REGION_FRAMES << PAGE_SHIFT;
/// Where a PC's memory below 4 GiB ends, to leave room for devices.
const LOW_END: u64 = 3 * GIB;
/// Where the kernel's image is in physical memory, and how large it is.
pub(super) const KERNEL_PHYS: u64 = 16 * MIB;
/// Bytes of the kernel's image.
pub(super) const KERNEL_SIZE: u64 = 8 * MIB;
/// `__START_KERNEL_map`.
pub(super) const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Where the root table is in physical memory: inside the kernel's image.
pub(super) const ROOT_PHYS: u64 = KERNEL_PHYS + 0x60_4000;
/// Bytes set aside for page tables.
const TABLES_SIZE: u64 = 4 * MIB;
/// How far into the file physical address 0 is. What is a large page in memory is one in the file, so that the page cache
/// can hold it, and map it, as one.
pub(super) const FILE_START: u64 = 2 * MIB;
/// The last whole megabyte below the first memory hole is not whole: it ends within a page, as on real machines.
const LOWEST: (u64, u64) = (0x1000, 0x9_fc00);

/// What the machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Profile {
    /// Nearly all memory free, in the largest blocks; the larger the machine, the more is in use.
    Idle,
    /// A server just after boot: 2 GiB in use besides its array of struct page, all else free in the largest blocks.
    Booted,
    /// Every page in use: anonymous, cache, slab, page tables, kernel, huge pages.
    Busy,
    /// Every page in use by itself: no huge page that a scan could jump over, and neighbours of different kinds.
    Crowded,
    /// Everything: free blocks of all orders between used pages, broken, offline and unaccepted pages.
    Mixed,
}

/// What is wrong with the machine, for tests with input that can't be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Fault {
    /// The virtual memory map of one present section is not mapped.
    UnmappedVmemmap,
    /// The virtual memory map of one present section is mapped to physical memory that the dump doesn't list.
    VmemmapOutside,
    /// The memory map of one present section starts at an address that is not the kernel's.
    SectionOutside,
    /// A page table entry on the way to the memory map points back at its own table.
    TableLoop,
    /// The kernel's root page table entry for the memory map has every bit set.
    TableOnes,
    /// The root array of sections points at an address that nothing maps.
    SectionRootUnmapped,
    /// A section carries flag bits that makedumpfile doesn't mask off (bit 5, as 6.15 and later may set).
    SectionHighFlag,
    /// A free list leads back into itself.
    FreeListLoop,
    /// A free list's back pointer is wrong.
    FreeListBroken,
    /// The file ends before the memory it claims to hold.
    Truncated,
}

/// A machine to simulate.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The kernel.
    pub generation: &'static KernelGeneration,
    /// Bytes of memory; the hole below 4 GiB comes on top.
    pub memory: u64,
    /// What the machine does.
    pub profile: Profile,
    /// Another memory model than the generation's usual one.
    pub model: Option<MemoryModel>,
    /// Five levels of page tables.
    pub five_level: bool,
    /// NUMA nodes, at least 1.
    pub nodes: u32,
    /// Two sections added behind a hole while running, the second of them not online.
    pub hotplug: bool,
    /// Whether VMCOREINFO has the values that users add by hand for kernels before 3.9; without them free pages are
    /// found by the free lists.
    pub hand_keys: bool,
    /// Whether the machine has the pages of [`EDGE_CASES`](super::EDGE_CASES).
    pub edge_cases: bool,
    /// Whether pages have contents; without, all of them read as zeros.
    pub contents: bool,
    /// Whether the file has all of the array of `struct page`, as one that was copied has, rather than holes where it
    /// is zeros.
    pub dense: bool,
    /// What is wrong with the machine.
    pub faults: Vec<Fault>,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

impl Spec {
    /// A machine with everything in it: all kinds of pages, edge cases, memory added while running. One node, the
    /// generation's usual memory model, no page contents, no faults.
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

/// A run of `struct page`s: contiguous in virtual and in physical memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapPiece {
    /// The frames it describes.
    pub frames: PfnRange,
    /// Virtual address of the first frame's `struct page`.
    pub virt: u64,
    /// Physical address of it.
    pub phys: u64,
}

/// Regions that hold the edge cases.
#[derive(Clone, Copy, Debug)]
pub(super) struct EdgeRegions {
    /// A compound page whose second half is in a memory hole.
    pub hole_start: u64,
    /// A compound page whose head is in a memory hole.
    pub hole_end: u64,
    /// A `PT_LOAD` whose file data ends early; the region behind has none at all.
    pub no_data: u64,
    /// The pages of the list.
    pub listed: u64,
    /// Two hugetlb pages whose memory map is folded.
    pub folded: u64,
    /// A free block that crosses the end of a section starts in the middle of this region.
    pub crossing: Option<u64>,
}

/// A machine, decided down to every address.
#[derive(Debug)]
pub(super) struct Machine {
    pub spec: Spec,
    pub generation: &'static KernelGeneration,
    pub model: MemoryModel,
    pub page_offset: u64,
    pub vmemmap: u64,
    /// Virtual address of the kernel's image.
    pub kernel_virt: u64,
    /// All memory, the capture kernel's too.
    pub ram: FrameRanges,
    /// Memory that is not for the population: kernel, its data, the capture kernel's.
    pub reserved: FrameRanges,
    /// Memory of the section that is not online.
    pub not_online: PfnRange,
    /// What the dump lists.
    pub loads: Vec<Segment>,
    /// Frames that a `PT_LOAD` touches.
    pub exists: FrameRanges,
    /// Frames whose first byte the file holds.
    pub backed: FrameRanges,
    /// The frames of each node; they may span holes.
    pub nodes: Vec<PfnRange>,
    pub memmap: Vec<MapPiece>,
    /// Physical memory of the page tables.
    pub tables: std::ops::Range<u64>,
    /// Physical address of the section array, or of its roots followed by the arrays they point at.
    pub sections: u64,
    /// Physical address of the first `pglist_data`; one behind the other.
    pub node_data: u64,
    pub edges: Option<EdgeRegions>,
}

impl Machine {
    /// Decides where everything is.
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

        // The capture kernel's memory: a hole in the dump. With edge cases its borders cut huge pages.
        let crash_size = (spec.memory / 32).clamp(4 * MIB, 256 * MIB).next_multiple_of(REGION);
        let crash_base = (low / 2) / REGION * REGION;
        let cut = if spec.edge_cases { MIB } else { 0 };
        let crash = crash_base + cut..crash_base + crash_size + cut;
        let edges = spec.edge_cases.then(|| EdgeRegions::behind(crash_base, crash_size, low));

        // The kernel's own data: small things from the image upwards, the memory map from the top downwards.
        let tables = KERNEL_PHYS + KERNEL_SIZE..KERNEL_PHYS + KERNEL_SIZE + TABLES_SIZE;
        let sections = tables.end;
        let sections_size = section_bytes(spec, model, max_pfn).next_multiple_of(MIB);
        let node_data = sections + sections_size;
        let arena_end =
            (node_data + u64::from(spec.nodes) * generation.zones.node_size).next_multiple_of(REGION);
        let vmemmap = if spec.five_level { VMEMMAP_5LEVEL } else { generation.vmemmap };
        let page_offset = if spec.five_level { PAGE_OFFSET_5LEVEL } else { generation.page_offset };
        let nodes = split_nodes(spec, &ram);
        // The larger piece of memory is the memory map's home.
        let (home, bottom) =
            if high < spec.memory / 16 { (low, crash.end + 8 * REGION) } else { (top, 4 * GIB) };
        let (memmap, memmap_start) =
            place_memmap(generation, model, &ram, &nodes, home, (page_offset, vmemmap));
        if memmap_start < bottom || arena_end > crash.start {
            return Err(Error::unusable("the machine's memory has no room for its own memory map")
                .with_hint("Give it more --memory, or fewer --nodes."));
        }
        let reserved = FrameRanges::from_ranges([
            frames(KERNEL_PHYS, arena_end),
            frames(crash.start, crash.end),
            frames(memmap_start / REGION * REGION, home),
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

    /// `phys_base`: what the kernel adds to an address of its image, less `__START_KERNEL_map`.
    pub fn phys_base(&self) -> i64 {
        (KERNEL_PHYS + KERNEL_MAP).wrapping_sub(self.kernel_virt) as i64
    }

    /// Virtual address in the direct map.
    pub fn direct(&self, phys: u64) -> u64 {
        self.page_offset + phys
    }

    /// Bits of a physical address that the kernel's section table covers.
    pub fn physmem_bits(&self) -> u32 {
        if self.spec.five_level { PHYSMEM_BITS_5LEVEL } else { self.generation.max_physmem_bits }
    }

    /// Bytes of a `struct page`.
    pub fn page_size(&self) -> u64 {
        self.generation.page.size
    }

    /// Whether a filter knows a free page by its `struct page`; else it has to follow the free lists.
    pub fn finds_buddies(&self) -> bool {
        self.generation.exports_buddy() || self.by_hand()
    }

    /// Whether VMCOREINFO has values that a user gave by hand.
    pub fn by_hand(&self) -> bool {
        self.spec.hand_keys
            && self.generation.keys.contains(Keys::BY_HAND)
            && !self.generation.exports_buddy()
    }

    /// Sections that have memory, ascending.
    pub fn sections_present(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.ram.end().as_u64().div_ceil(SECTION_FRAMES);
        (0..count).filter(|&nr| {
            let window = PfnRange::from_start(Pfn::new(nr * SECTION_FRAMES), SECTION_FRAMES);
            self.ram.within(window).next().is_some()
        })
    }

    /// Sections for which a root of the two-level section table has room.
    pub fn sections_per_root(&self) -> u64 {
        PAGE_SIZE as u64 / self.generation.mem_section_size
    }

    /// Entries of `mem_section`: sections, or roots in the two-level table.
    pub fn mem_section_length(&self) -> u64 {
        let sections = 1 << (self.physmem_bits() - 27);
        if self.model == MemoryModel::Sparse { sections } else { sections.div_ceil(self.sections_per_root()) }
    }

    /// The run of `struct page`s that describes a frame.
    pub fn map_piece(&self, pfn: u64) -> Option<&MapPiece> {
        // The pieces are few, or one for each section: either way ascending.
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
        // The kernel's image comes first and overlaps the memory that it is in.
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
            let early = edges.no_data * REGION;
            plain(self, crash.end, early);
            // File data that ends early, within a page; and a piece with no file data.
            late.push(self.load(early, early + REGION, 3 * MIB + 0x200, self.direct(early)));
            late.push(self.load(early + REGION, early + 2 * REGION, 0, self.direct(early + REGION)));
            plain(self, early + 2 * REGION, end);
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
    fn behind(crash_base: u64, crash_size: u64, low: u64) -> Self {
        let hole_end = (crash_base + crash_size) / REGION;
        let section_regions = SECTION_FRAMES / REGION_FRAMES;
        let crossing = (hole_end + 6).next_multiple_of(section_regions) - 1;
        // There must be room behind for the memory map of a small machine.
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
        return Err(Error::unusable("a simulated machine needs at least 128 MiB, in whole 4 MiB"));
    }
    if spec.five_level && !spec.generation.keys.contains(Keys::FIVE_LEVEL) {
        return Err(Error::unusable(format!("Linux {name} has no five-level page tables"))
            .with_hint("Five levels exist since 4.18 in this simulation."));
    }
    let bits = if spec.five_level { PHYSMEM_BITS_5LEVEL } else { spec.generation.max_physmem_bits };
    // The direct map and the page table pool of the simulation end at 16 TiB.
    let limit = (1_u64 << bits).min(16 << 40) - 8 * GIB;
    if spec.memory > limit {
        return Err(Error::unusable(format!("Linux {name} is simulated with at most {} GiB", limit / GIB)));
    }
    let most = (spec.memory / (64 * MIB)).min(spec.generation.zones.max_nodes);
    if spec.nodes == 0 || u64::from(spec.nodes) > most {
        return Err(Error::unusable(format!("this machine can have 1 to {most} nodes")));
    }
    let model = spec.model.unwrap_or(spec.generation.model);
    if spec.nodes > 1 && model == MemoryModel::Flat {
        return Err(Error::unusable("a machine with one memory map for all memory has one node"));
    }
    if spec.faults.contains(&Fault::TableLoop) && model != MemoryModel::Vmemmap {
        return Err(Error::unusable("only a virtual memory map can have a loop in its page tables"));
    }
    Ok(())
}

/// Bytes of the section array, or of the roots and the arrays behind them.
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

/// Shares the memory between the nodes; borders are at sections, on small machines at regions.
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

/// Puts the memory map just below `top`; returns its pieces and where it starts in physical memory.
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
        // Section by section, as they come from the boot allocator.
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
                // 2 MiB pages map it: the same place within such a page on both sides.
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
    fn what_the_kernel_keeps_is_in_memory() {
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
    fn a_machine_that_cannot_exist_is_refused() {
        assert!(Machine::new(&spec(64 * MIB)).is_err());
        let old = KernelGeneration::named("2.6.18").unwrap();
        assert!(Machine::new(&Spec { generation: old, ..spec(4096 * GIB) }).is_err());
        assert!(Machine::new(&Spec { generation: old, five_level: true, ..spec(GIB) }).is_err());
        assert!(Machine::new(&Spec { nodes: 0, ..spec(GIB) }).is_err());
    }
}
