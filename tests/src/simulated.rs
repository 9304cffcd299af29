//! Small machines with random `struct page`s, for kernels of every generation.

use scanner_core::kernel::layout::{CompoundPages, FreePages};
use scanner_core::{
    KernelLayout, PAGE_SIZE, Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable, VmcoreInfo,
};
use vmcore::frames::FrameRanges;
use vmcore::image::{ImageFacts, ImageFormat, MemoryImage};
use vmcore_synth::{KernelGeneration, page_keys};

/// A set of VMCOREINFO keys for page classification: those of a generation of [`vmcore_synth`], complete or with some
/// keys removed.
#[derive(Clone, Copy, Debug)]
pub struct Exports {
    /// Its name in messages.
    pub name: &'static str,
    /// The generation.
    generation: &'static str,
    /// Whether VMCOREINFO has the keys that users add by hand for kernels before 3.9.
    hand_keys: bool,
    /// Prefixes of the removed lines.
    without: &'static [&'static str],
}

const fn all_of(generation: &'static str) -> Exports {
    Exports { name: generation, generation, hand_keys: false, without: &[] }
}

/// All sets of keys that the project supports.
pub const EXPORTS: [Exports; 16] = [
    all_of("2.6.32"),
    Exports { name: "2.6.32 with PG_buddy", hand_keys: true, ..all_of("2.6.32") },
    all_of("3.18"),
    all_of("4.6"),
    // PG_swapbacked is not exported before 4.17.
    all_of("4.16"),
    all_of("5.10"),
    Exports {
        name: "5.10 without hugetlb and hwpoison",
        without: &["NUMBER(HUGETLB_PAGE_DTOR)", "OFFSET(page.compound_", "NUMBER(PG_hwpoison)", OFFLINE],
        ..all_of("5.10")
    },
    all_of("6.4"),
    all_of("6.6"),
    Exports { name: "6.6 without hugetlb", without: &["NUMBER(PG_hugetlb)", OFFLINE], ..all_of("6.6") },
    all_of("6.9"),
    all_of("6.10"),
    all_of("6.11"),
    all_of("6.12"),
    all_of("6.16"),
    all_of("7.2"),
];

const OFFLINE: &str = "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)";

impl Exports {
    /// The VMCOREINFO text of a [`SimulatedMachine`] with sections of `1 << section_bits` bytes.
    ///
    /// # Panics
    /// Panics if the generation does not exist.
    pub fn vmcoreinfo(&self, section_bits: u32) -> String {
        let generation = KernelGeneration::named(self.generation).expect("a generation");
        let keys = page_keys(generation, self.hand_keys);
        let kept = keys.lines().filter(|line| !self.without.iter().any(|start| line.starts_with(start)));
        let sections = MAX_SECTIONS;
        let physmem_bits = section_bits + sections.ilog2();
        let machine = format!(
            "SYMBOL(init_top_pgt)={:x} NUMBER(phys_base)=0 SYMBOL(mem_section)={:x} LENGTH(mem_section)={sections} \
             SIZE(mem_section)=16 OFFSET(mem_section.section_mem_map)=0 \
             NUMBER(SECTION_SIZE_BITS)={section_bits} NUMBER(MAX_PHYSMEM_BITS)={physmem_bits}",
            IMAGE_MAP + PGD,
            IMAGE_MAP + MEM_SECTION
        );
        kept.chain(machine.split_whitespace()).flat_map(|line| [line, "\n"]).collect()
    }

    /// The kernel layout that the keys resolve to.
    ///
    /// # Panics
    /// Panics if they do not resolve.
    pub fn layout(&self) -> KernelLayout {
        let text = self.vmcoreinfo(21);
        let info = VmcoreInfo::parse(text.as_bytes()).expect("the text parses");
        KernelLayout::resolve(&info, None).expect("the layout resolves")
    }
}

/// A generator of reproducible pseudo-random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator with the seed `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64-bit number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// True with probability `1/n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A random `struct page`. Values that the rules test are more frequent than by chance.
pub fn random_page(layout: &KernelLayout, dice: &mut Dice) -> Vec<u8> {
    let mut page: Vec<u8> = (0..layout.page.size).map(|_| dice.any() as u8).collect();
    if dice.once_in(8) {
        return page;
    }
    let mut put = |at: usize, value: u64, width: usize| {
        page[at..at + width].copy_from_slice(&value.to_le_bytes()[..width])
    };
    let flags = &layout.flags;
    let mut word = 0;
    let bits = [
        flags.lru,
        flags.private,
        flags.swapcache,
        flags.swapbacked.unwrap_or(0),
        flags.slab,
        flags.head,
        flags.hwpoison.unwrap_or(0),
    ];
    for bit in bits {
        word |= if dice.once_in(4) { bit } else { 0 };
    }
    if let CompoundPages::FlaggedHugetlb { hugetlb } = layout.compound {
        word |= if dice.once_in(3) { hugetlb } else { 0 };
    }
    // The low byte of a first tail page's flags is the order.
    if dice.once_in(3) {
        word = word & !0xff | [0, 1, 2, 9, 10, 18, 31, 64][dice.below(8) as usize];
    }
    put(layout.page.flags, word, 8);
    put(layout.page.mapping, [0, 0, 1, 2, 3, 0xffff_8880_0000_0001][dice.below(6) as usize], 8);
    if let Some(at) = layout.page.mapcount {
        let hugetlb = match layout.compound {
            CompoundPages::TypedHugetlb { hugetlb } => Some(hugetlb),
            _ => None,
        };
        let buddy = match layout.free {
            FreePages::Type(value) => Some(value),
            _ => None,
        };
        let types =
            [buddy, layout.types.slab, layout.types.offline, layout.types.unaccepted, hugetlb, None, None];
        let mut value = types[dice.below(7) as usize].unwrap_or(u32::MAX);
        if dice.once_in(6) {
            value ^= dice.below(1 << 24) as u32;
        }
        put(at, u64::from(value), 4);
    }
    if let Some(at) = layout.page.private {
        put(at, if dice.once_in(10) { dice.any() } else { dice.below(13) }, 8);
    }
    if let Some(at) = layout.page.compound_head {
        put(at, dice.any() & !1 | u64::from(dice.once_in(5)), 8);
    }
    if let CompoundPages::Destructor { order, dtor, hugetlb_dtor, free_huge_page } = layout.compound {
        if let Some(field) = order.filter(|_| !dice.once_in(8)) {
            put(field.offset, dice.below(11), field.width);
        }
        if let Some(field) = dtor.filter(|_| dice.once_in(2)) {
            put(field.offset, hugetlb_dtor.or(free_huge_page).unwrap_or(0), field.width);
        }
    }
    page
}

/// Start of the mapping of the kernel image, which maps physical memory from address 0 on.
const IMAGE_MAP: u64 = 0xffff_ffff_8000_0000;
/// Start of the mapping of the `struct page`s.
const MEM_MAP: u64 = 0xffff_ffff_c000_0000;
/// Physical addresses: page tables, section table, `struct page`s.
const PGD: u64 = 0x1000;
const PUD: u64 = 0x2000;
const PMD: u64 = 0x3000;
const PTE: u64 = 0x4000;
const MEM_SECTION: u64 = 0x6000;
const PAGES: u64 = 0x10000;
/// Entries of the section table.
const MAX_SECTIONS: u64 = 16;
/// Maximum number of frames.
pub const MAX_FRAMES: u64 = 4096;

/// A machine of up to [`MAX_FRAMES`] frames.
#[derive(Debug)]
pub struct SimulatedMachine {
    memory: Vec<u8>,
    facts: ImageFacts,
    viewable: bool,
}

impl SimulatedMachine {
    /// A random machine whose kernel exports the keys of `exports`.
    pub fn new(exports: &Exports, dice: &mut Dice) -> Self {
        let layout = exports.layout();
        let size = layout.page.size as u64;
        let section_bits = 21 + dice.below(3) as u32;
        let section_frames = 1 << (section_bits - 12);
        let frames = 1 + dice.below(MAX_FRAMES);
        let mut memory = vec![0; (PAGES + MAX_FRAMES * size) as usize];
        let mut put = |at: u64, value: u64| memory[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
        // Bits 0 and 1: present, writable. Bit 7: 1 GiB page.
        put(PGD + 511 * 8, PUD | 3);
        put(PUD + 510 * 8, 0x83);
        put(PUD + 511 * 8, PMD | 3);
        put(PMD, PTE | 3);
        let holes = dice.once_in(3);
        for page in 0..512 {
            if !(holes && dice.once_in(24)) {
                put(PTE + page * 8, (PAGES + page * PAGE_SIZE as u64) | 3);
            }
        }
        for section in 0..MAX_SECTIONS.min(MAX_FRAMES / section_frames) {
            // The kernel subtracts the section's first frame from the address. Flags: present, has a memory map,
            // online, early; since 6.15 also vmemmap preinitialised (bit 5).
            let flags = [0, 0xf, 0xf, 0x7, 0x2f][dice.below(5) as usize];
            if flags != 0 || section == 0 {
                put(MEM_SECTION + section * 16, MEM_MAP | flags | 1);
            }
        }
        let mut at = PAGES as usize;
        for _ in 0..frames {
            memory[at..at + size as usize].copy_from_slice(&random_page(&layout, dice));
            at += size as usize;
        }
        let facts = facts(frames, exports.vmcoreinfo(section_bits), dice);
        Self { memory, facts, viewable: dice.once_in(2) }
    }

    /// The physical memory from address 0 on, for tests that damage it.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

/// Image facts with random holes; some ranges also have no data in the file.
fn facts(frames: u64, vmcoreinfo: String, dice: &mut Dice) -> ImageFacts {
    let range = |start, end| PfnRange::new(Pfn::new(start), Pfn::new(end));
    let mut exists = vec![range(frames - 1, frames)];
    let mut start = 0;
    while start < frames {
        let end = (start + 1 + dice.below(2000)).min(frames);
        exists.push(range(start, end));
        start = end + dice.below(3) * dice.below(300);
    }
    let backed = exists.iter().filter(|_| !dice.once_in(6)).copied();
    ImageFacts {
        backed: FrameRanges::from_ranges(backed),
        exists: FrameRanges::from_ranges(exists.iter().copied()),
        max_pfn: frames,
        vmcoreinfo: Some(vmcoreinfo.into_bytes()),
        ..ImageFacts::empty(ImageFormat::Raw)
    }
}

impl PhysicalMemory for SimulatedMachine {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let start = addr.as_u64() as usize;
        let bytes = self.memory.get(start..start + buf.len()).ok_or(Unreadable { addr })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let start = addr.as_u64() as usize;
        self.memory.get(start..start + len).filter(|_| self.viewable)
    }
}

impl MemoryImage for SimulatedMachine {
    fn facts(&self) -> &ImageFacts {
        &self.facts
    }
}
