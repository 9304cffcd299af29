use super::*;
use crate::addr::PhysAddr;
use crate::memmap::test_memory::{DIRECT, PAGE_TABLES, TestMemory};
use crate::memory::Unreadable;
use crate::rules::test_kernels::TestKernel;
use std::string::ToString;
use std::vec::Vec;

/// Frames of a memory section of 128 MiB.
const SECTION: u64 = 32768;
/// Sections of a root: as many entries of 32 bytes as a page has.
const PER_ROOT: u64 = 128;
/// The `struct page` of frame 0, on a machine with a vmemmap.
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;

/// Where the machines keep their descriptions, in physical memory.
const ROOTS: u64 = 0x3000;
const ARRAYS: [u64; 2] = [0x4000, 0x5000];
const POINTER: u64 = 0x6000;
const NODES: u64 = 0x7000;
/// Flags of an ordinary section: present, has a map, online, early.
const ONLINE: u64 = 0xf;

fn range(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

fn direct(phys: u64) -> VirtAddr {
    VirtAddr::new(DIRECT + phys)
}

fn symbol(phys: u64) -> std::string::String {
    std::format!("{:x}", DIRECT + phys)
}

fn unreadable(at: u64) -> SectionError {
    SectionError::Read(ReadError::Unreadable(Unreadable { addr: PhysAddr::new(at) }))
}

/// A machine: its kernel, its memory, and the frames below which to look.
struct Machine {
    kernel: TestKernel,
    memory: TestMemory,
    max_pfn: u64,
    rule_set: RuleSet,
}

impl Machine {
    fn of(kernel: TestKernel) -> Self {
        let kernel = kernel.changed("SYMBOL(swapper_pg_dir)", PAGE_TABLES);
        Self { kernel, memory: TestMemory::new(), max_pfn: 1 << 30, rule_set: RuleSet::Makedumpfile }
    }

    /// SPARSEMEM_EXTREME with a vmemmap: section 0 in the first root, 130 in the second.
    fn extreme() -> Self {
        let kernel = TestKernel::of("6.1.0")
            .changed("SYMBOL(mem_section)", &symbol(ROOTS))
            .changed("LENGTH(mem_section)", "4096");
        let mut machine = Self::of(kernel);
        machine.memory.set(ROOTS, DIRECT + ARRAYS[0]);
        machine.memory.set(ROOTS + 8, DIRECT + ARRAYS[1]);
        machine.section(0, VMEMMAP | ONLINE);
        machine.section(130, VMEMMAP | ONLINE);
        machine
    }

    /// SPARSEMEM with an array of 2048 sections, of which 0 and 2 are present; each has an array of `struct page` of its
    /// own.
    fn plain() -> Self {
        let mut machine =
            Self::of(TestKernel::of("2.6.32").changed("SYMBOL(mem_section)", &symbol(ARRAYS[0])));
        machine.memory.set(ARRAYS[0], (DIRECT + 0x100_0000) | ONLINE);
        // The kernel subtracts the section's first frame.
        machine.memory.set(ARRAYS[0] + 2 * 32, (DIRECT + 0x80_0000 - 2 * SECTION * 56) | ONLINE);
        machine
    }

    fn flat() -> Self {
        let kernel = TestKernel::of("2.6.32").without("SYMBOL(mem_section)");
        let mut machine = Self::of(kernel.with(&("SYMBOL(mem_map)=".to_string() + &symbol(POINTER))));
        machine.memory.set(POINTER, DIRECT + 0x10_0000);
        machine.max_pfn = 5000;
        machine
    }

    /// DISCONTIGMEM with these nodes: first frame, frames, array of `struct page`.
    fn discontig(nodes: &[(u64, u64, u64)]) -> Self {
        let kernel = TestKernel::of("2.6.32").with(&std::format!(
            "SYMBOL(node_data)={}\nLENGTH(node_data)={}\nOFFSET(pglist_data.node_mem_map)=8\n\
             OFFSET(pglist_data.node_start_pfn)=16\nOFFSET(pglist_data.node_spanned_pages)=24",
            symbol(NODES),
            nodes.len(),
        ));
        let mut machine = Self::of(kernel);
        for (index, (first, frames, mem_map)) in (0..).zip(nodes) {
            let pgdat = NODES + 0x1000 + 32 * index;
            machine.memory.set(NODES + 8 * index, DIRECT + pgdat);
            machine.memory.set(pgdat + 8, *mem_map);
            machine.memory.set(pgdat + 16, *first);
            machine.memory.set(pgdat + 24, *frames);
        }
        machine.max_pfn = 10_000;
        machine
    }

    /// Sets the word of a section of the first two roots.
    fn section(&mut self, number: u64, word: u64) {
        self.memory.set(ARRAYS[(number / PER_ROOT) as usize] + 32 * (number % PER_ROOT), word);
    }

    fn locate(&self) -> Result<MemorySections, SectionError> {
        MemorySections::locate(&self.kernel.layout(), &self.memory, Pfn::new(self.max_pfn), self.rule_set)
    }

    fn lookup(&self, pfn: u64) -> Option<Lookup> {
        self.locate().unwrap().lookup(&self.memory, Pfn::new(pfn))
    }

    /// The frames that have `struct page`s, and the address of the first of each.
    fn present(&self) -> Vec<(PfnRange, u64)> {
        let sections = self.locate().unwrap();
        let present = |found| match found {
            Lookup::Present(section) => Some((section.frames, section.mem_map.as_u64())),
            _ => None,
        };
        sections.iter(&self.memory).filter_map(present).collect()
    }

    fn frame_of(&self, page: u64) -> Option<u64> {
        self.locate().unwrap().frame_of(&self.memory, VirtAddr::new(page)).map(Pfn::as_u64)
    }
}

// SPARSEMEM, with roots.

#[test]
fn sections_are_found_through_their_roots() {
    let machine = Machine::extreme();
    assert_eq!(
        machine.present(),
        [(range(0, SECTION), VMEMMAP), (range(130 * SECTION, 131 * SECTION), VMEMMAP + 130 * SECTION * 64),]
    );
    assert_eq!(machine.locate().unwrap().model_name(), "SPARSEMEM_EX");
}

#[test]
fn each_frame_of_a_section_leads_to_it() {
    let machine = Machine::extreme();
    let section = machine.lookup(130 * SECTION);
    assert!(matches!(section, Some(Lookup::Present(_))));
    assert_eq!(machine.lookup(130 * SECTION + 1), section);
    assert_eq!(machine.lookup(131 * SECTION - 1), section);
    assert_ne!(machine.lookup(131 * SECTION), section);
    assert_ne!(machine.lookup(130 * SECTION - 1), section);
}

#[test]
fn a_section_without_the_present_bit_is_absent() {
    let mut machine = Machine::extreme();
    machine.section(1, VMEMMAP | (ONLINE & !1));
    assert_eq!(machine.lookup(SECTION + 5), Some(Lookup::Absent(range(SECTION, 2 * SECTION))));
}

#[test]
fn a_root_that_is_not_there_is_absent_to_its_end() {
    let machine = Machine::extreme();
    let root = 2 * PER_ROOT * SECTION;
    assert_eq!(machine.lookup(root), Some(Lookup::Absent(range(root, root + PER_ROOT * SECTION))));
    assert_eq!(machine.lookup(root + 77), Some(Lookup::Absent(range(root + 77, root + PER_ROOT * SECTION))));
}

#[test]
fn a_root_that_cannot_be_read_is_damaged_to_its_end() {
    let mut machine = Machine::extreme();
    machine.memory.lose(ROOTS + 8..ROOTS + 16);
    let (pfn, end) = (130 * SECTION + 3, 2 * PER_ROOT * SECTION);
    assert_eq!(machine.lookup(pfn), Some(Lookup::Damaged(range(pfn, end), unreadable(ROOTS + 8))));
    assert_eq!(machine.present().len(), 1);
}

#[test]
fn a_section_whose_entry_cannot_be_read_is_damaged() {
    let mut machine = Machine::extreme();
    machine.memory.lose(ARRAYS[0] + 32..ARRAYS[0] + 64);
    let damaged = Lookup::Damaged(range(SECTION, 2 * SECTION), unreadable(ARRAYS[0] + 32));
    assert_eq!(machine.lookup(SECTION + 9), Some(damaged));
}

#[test]
fn a_root_that_points_outside_the_kernel_is_damaged_section_by_section() {
    let mut machine = Machine::extreme();
    machine.memory.set(ROOTS + 8, 0x1234);
    let error = SectionError::NotKernelMemory(VirtAddr::new(0x1234));
    let section = range(130 * SECTION, 131 * SECTION);
    assert_eq!(machine.lookup(130 * SECTION), Some(Lookup::Damaged(section, error)));
}

#[test]
fn an_array_at_the_end_of_the_address_space_is_damaged() {
    let mut machine = Machine::extreme();
    machine.memory.set(ROOTS + 8, u64::MAX - 32);
    let found = machine.lookup(130 * SECTION);
    assert!(matches!(found, Some(Lookup::Damaged(_, SectionError::NotKernelMemory(_)))), "{found:?}");
}

#[test]
fn a_section_whose_struct_pages_are_not_in_the_kernel_is_damaged() {
    let mut machine = Machine::extreme();
    machine.section(1, 0x7fff_0000_0000 | ONLINE);
    let error = SectionError::NotKernelMemory(VirtAddr::new(0x7fff_0000_0000 + SECTION * 64));
    assert_eq!(machine.lookup(SECTION), Some(Lookup::Damaged(range(SECTION, 2 * SECTION), error)));
}

#[test]
fn the_field_of_a_section_is_where_the_kernel_says() {
    let mut machine = Machine::extreme();
    machine.kernel = machine.kernel.changed("OFFSET(mem_section.section_mem_map)", "24");
    machine.section(0, 0);
    machine.memory.set(ARRAYS[0] + 24, VMEMMAP | ONLINE);
    assert_eq!(machine.present(), [(range(0, SECTION), VMEMMAP)]);
}

#[test]
fn roots_have_as_many_sections_as_fit_in_a_page() {
    let mut machine = Machine::extreme();
    machine.kernel = machine.kernel.changed("SIZE(mem_section)", "16").changed("LENGTH(mem_section)", "2048");
    // Entries of 16 bytes: section 130 is in the first root now.
    machine.memory.set(ARRAYS[0] + 130 * 16, VMEMMAP | ONLINE);
    machine.memory.set(ROOTS + 8, 0);
    let found = machine.present();
    assert_eq!(found[1].0, range(130 * SECTION, 131 * SECTION));
    assert_eq!(found.len(), 2);
}

// The bits that are flags.

#[test]
fn flags_are_taken_off_the_address_as_each_rule_set_knows_them() {
    for (rule_set, flags, mem_map) in [
        (RuleSet::Makedumpfile, 0x1f, VMEMMAP),
        (RuleSet::Kernel, 0x1f, VMEMMAP),
        // The sixth flag of 6.15 and later.
        (RuleSet::Makedumpfile, 0x21, VMEMMAP + 0x20),
        (RuleSet::Kernel, 0x21, VMEMMAP),
        (RuleSet::Makedumpfile, 0x41, VMEMMAP + 0x40),
        (RuleSet::Kernel, 0x41, VMEMMAP + 0x40),
    ] {
        let mut machine = Machine { rule_set, ..Machine::extreme() };
        machine.section(0, VMEMMAP | flags);
        assert_eq!(machine.present()[0].1, mem_map, "{rule_set:?} {flags:#x}");
    }
}

#[test]
fn the_sixth_bit_is_part_of_the_address_if_struct_pages_are_not_aligned_to_64_bytes() {
    for rule_set in [RuleSet::Makedumpfile, RuleSet::Kernel] {
        let mut machine = Machine { rule_set, ..Machine::plain() };
        machine.memory.set(ARRAYS[0], (DIRECT + 0x20) | 1);
        assert_eq!(machine.present()[0].1, DIRECT + 0x20, "{rule_set:?}");
    }
}

// Where the frames end.

#[test]
fn the_last_section_ends_with_the_machine() {
    let machine = Machine { max_pfn: 1000, ..Machine::extreme() };
    assert_eq!(machine.present(), [(range(0, 1000), VMEMMAP)]);
    assert_eq!(machine.lookup(1000), None);
    assert_eq!(machine.locate().unwrap().frames(), range(0, 1000));
}

#[test]
fn frames_past_the_table_of_sections_are_not_looked_up() {
    let machine = Machine { max_pfn: u64::MAX, ..Machine::extreme() };
    // 46 bits of physical addresses.
    assert_eq!(machine.locate().unwrap().frames(), range(0, 1 << 34));
    assert_eq!(machine.lookup((1 << 34) - 1).map(|found| matches!(found, Lookup::Absent(_))), Some(true));
    assert_eq!(machine.lookup(1 << 34), None);
}

#[test]
fn frames_past_physical_memory_are_not_looked_up() {
    let machine = Machine { max_pfn: u64::MAX, ..Machine::flat() };
    assert_eq!(machine.locate().unwrap().frames(), PfnRange::new(Pfn::new(0), Pfn::END));
}

#[test]
fn the_end_is_that_of_the_last_section_with_struct_pages() {
    let mut machine = Machine::extreme();
    let end = |machine: &Machine| machine.locate().unwrap().end(&machine.memory).as_u64();
    assert_eq!(end(&machine), 131 * SECTION);
    machine.section(130, 0);
    assert_eq!(end(&machine), SECTION);
    // Of a damaged one it is not known whether it has.
    machine.section(200, 1);
    assert_eq!(end(&machine), 201 * SECTION);
}

#[test]
fn all_frames_are_walked_once_in_ascending_order() {
    let mut machine = Machine::extreme();
    machine.section(5, 1);
    let sections = machine.locate().unwrap();
    let mut next = 0;
    for found in sections.iter(&machine.memory) {
        let frames = match found {
            Lookup::Present(section) => section.frames,
            Lookup::Absent(frames) | Lookup::Damaged(frames, _) => frames,
        };
        assert_eq!(frames.start.as_u64(), next);
        assert!(!frames.is_empty());
        next = frames.end.as_u64();
    }
    assert_eq!(next, 1 << 30);
}

// How the array of sections is found.

#[test]
fn sections_without_roots_are_one_array() {
    let machine = Machine::plain();
    assert_eq!(
        machine.present(),
        [(range(0, SECTION), DIRECT + 0x100_0000), (range(2 * SECTION, 3 * SECTION), DIRECT + 0x80_0000),]
    );
    assert_eq!(machine.locate().unwrap().model_name(), "SPARSEMEM");
    assert_eq!(machine.locate().unwrap().frames(), range(0, 2048 * SECTION));
}

#[test]
fn the_symbol_may_be_a_pointer_to_the_roots() {
    let mut machine = Machine::extreme();
    machine.kernel = machine.kernel.changed("SYMBOL(mem_section)", &symbol(POINTER));
    machine.memory.set(POINTER, DIRECT + ROOTS);
    assert_eq!(machine.present().len(), 2);
    assert_eq!(machine.present()[1].0, range(130 * SECTION, 131 * SECTION));
}

#[test]
fn a_plain_array_is_never_taken_for_a_pointer() {
    let mut machine = Machine::plain();
    machine.kernel = machine.kernel.changed("SYMBOL(mem_section)", &symbol(POINTER));
    machine.memory.set(POINTER, DIRECT + ARRAYS[0]);
    assert_eq!(machine.locate().unwrap_err(), SectionError::NoSections);
}

#[test]
fn a_machine_without_sections_is_refused() {
    let mut machine = Machine::extreme();
    machine.section(0, 0);
    machine.section(130, 0);
    assert_eq!(machine.locate().unwrap_err(), SectionError::NoSections);
}

#[test]
fn the_first_damage_is_named_if_no_section_is_found() {
    let mut machine = Machine::extreme();
    machine.section(0, 0);
    machine.section(130, 0);
    machine.section(3, 0x1000 | ONLINE);
    let mem_map = VirtAddr::new(0x1000 + 3 * SECTION * 64);
    assert_eq!(machine.locate().unwrap_err(), SectionError::NotKernelMemory(mem_map));
}

#[test]
fn a_pointer_that_cannot_be_read_is_named() {
    let mut machine = Machine::extreme();
    machine.memory.lose(ROOTS..ROOTS + 8);
    machine.max_pfn = PER_ROOT * SECTION;
    assert_eq!(machine.locate().unwrap_err(), unreadable(ROOTS));
}

// FLATMEM.

#[test]
fn a_flat_machine_has_one_array_from_frame_0_on() {
    let machine = Machine::flat();
    assert_eq!(machine.present(), [(range(0, 5000), DIRECT + 0x10_0000)]);
    assert_eq!(machine.lookup(5000), None);
    assert_eq!(machine.locate().unwrap().model_name(), "FLATMEM");
}

#[test]
fn a_flat_machine_whose_array_is_not_in_the_kernel_is_refused() {
    let mut machine = Machine::flat();
    machine.memory.set(POINTER, 0x1000);
    let error = machine.locate().unwrap_err();
    assert_eq!(error, SectionError::NotKernelMemory(VirtAddr::new(0x1000)));
    assert!(error.to_string().contains("0x1000"), "{error}");
}

#[test]
fn a_flat_machine_whose_pointer_cannot_be_read_is_refused() {
    let mut machine = Machine::flat();
    machine.memory.lose(POINTER..POINTER + 8);
    assert_eq!(machine.locate().unwrap_err(), unreadable(POINTER));
}

// DISCONTIGMEM.

#[test]
fn each_node_has_an_array_and_between_them_there_is_none() {
    // Not in the order of their frames.
    let machine = Machine::discontig(&[(2000, 1000, DIRECT + 0x20_0000), (100, 400, DIRECT + 0x10_0000)]);
    let sections = machine.locate().unwrap();
    let first = Lookup::Present(Section { frames: range(100, 500), mem_map: direct(0x10_0000) });
    let second = Lookup::Present(Section { frames: range(2000, 3000), mem_map: direct(0x20_0000) });
    let found: Vec<_> = sections.iter(&machine.memory).collect();
    assert_eq!(
        found,
        [
            Lookup::Absent(range(0, 100)),
            first,
            Lookup::Absent(range(500, 2000)),
            second,
            Lookup::Absent(range(3000, 10_000)),
        ]
    );
    assert_eq!(machine.lookup(700), Some(Lookup::Absent(range(700, 2000))));
    assert_eq!(machine.lookup(100), Some(first));
    assert_eq!(machine.lookup(499), Some(first));
    assert_eq!(sections.model_name(), "DISCONTIGMEM");
    assert_eq!(sections.end(&machine.memory), Pfn::new(3000));
}

#[test]
fn a_node_ends_with_the_machine() {
    let machine = Machine::discontig(&[(9000, 5000, DIRECT)]);
    assert_eq!(machine.present(), [(range(9000, 10_000), DIRECT)]);
    assert_eq!(machine.locate().unwrap().model_name(), "DISCONTIGMEM");
}

#[test]
fn nodes_without_frames_or_data_are_passed_over() {
    // The second has no frames, the third none of the machine's, and the fourth no struct pglist_data.
    let node = (100, 100, DIRECT);
    let mut machine = Machine::discontig(&[node, (300, 0, 0), (20_000, 5, 0), (400, 100, DIRECT), node]);
    machine.memory.set(NODES + 3 * 8, 0);
    machine.memory.set(NODES + 4 * 8, 0x1000);
    assert_eq!(machine.present(), [(range(100, 200), DIRECT)]);
}

#[test]
fn a_machine_of_empty_nodes_is_refused() {
    assert_eq!(Machine::discontig(&[(0, 0, DIRECT)]).locate().unwrap_err(), SectionError::NoSections);
}

#[test]
fn a_node_whose_array_is_not_in_the_kernel_is_refused() {
    let error = Machine::discontig(&[(0, 10, 0x1000)]).locate().unwrap_err();
    assert_eq!(error, SectionError::NotKernelMemory(VirtAddr::new(0x1000)));
}

#[test]
fn a_node_that_cannot_be_read_is_refused() {
    let mut machine = Machine::discontig(&[(0, 10, DIRECT)]);
    machine.memory.lose(NODES + 0x1010..NODES + 0x1018);
    assert_eq!(machine.locate().unwrap_err(), unreadable(NODES + 0x1010));
}

#[test]
fn at_most_64_nodes_are_accepted() {
    let nodes =
        |count: u64| Machine::discontig(&(0..count).map(|node| (node, 1, DIRECT)).collect::<Vec<_>>());
    assert_eq!(nodes(64).present().len(), 64);
    let error = nodes(65).locate().unwrap_err();
    assert_eq!(error, SectionError::TooManyNodes(65));
    assert!(error.to_string().contains("65"), "{error}");
}

// From a struct page to its frame.

#[test]
fn an_address_leads_to_the_frame_whose_struct_page_it_is() {
    let machine = Machine::extreme();
    for pfn in [0, 1, SECTION - 1, 130 * SECTION, 131 * SECTION - 1] {
        assert_eq!(machine.frame_of(VMEMMAP + pfn * 64), Some(pfn));
    }
}

#[test]
fn an_address_outside_of_the_present_sections_leads_nowhere() {
    let machine = Machine::extreme();
    for page in [0, VMEMMAP - 64, VMEMMAP + SECTION * 64, VMEMMAP + 131 * SECTION * 64, u64::MAX] {
        assert_eq!(machine.frame_of(page), None, "{page:#x}");
    }
}

#[test]
fn an_address_inside_of_a_struct_page_leads_nowhere() {
    let machine = Machine::extreme();
    for offset in [1, 8, 63] {
        assert_eq!(machine.frame_of(VMEMMAP + 5 * 64 + offset), None, "{offset}");
    }
}

#[test]
fn frames_are_found_without_a_vmemmap_too() {
    let machine = Machine::plain();
    assert_eq!(machine.frame_of(DIRECT + 0x100_0000 + 3 * 56), Some(3));
    assert_eq!(machine.frame_of(DIRECT + 0x80_0000 + 7 * 56), Some(2 * SECTION + 7));
    let machine = Machine::discontig(&[(2000, 1000, DIRECT + 0x20_0000), (100, 400, DIRECT + 0x10_0000)]);
    assert_eq!(machine.frame_of(DIRECT + 0x20_0000 + 9 * 56), Some(2009));
    assert_eq!(machine.frame_of(DIRECT + 0x10_0000 + 399 * 56), Some(499));
    assert_eq!(machine.frame_of(DIRECT + 0x10_0000 + 400 * 56), None);
}

#[test]
fn a_finder_finds_frames_in_any_order() {
    let machine = Machine::extreme();
    let sections = machine.locate().unwrap();
    let mut finder = sections.frame_finder();
    for pfn in [130 * SECTION + 3, 5, 130 * SECTION, 6, SECTION - 1] {
        let page = VirtAddr::new(VMEMMAP + pfn * 64);
        assert_eq!(finder.frame_of(&machine.memory, page), Some(Pfn::new(pfn)));
        assert_eq!(finder.frame_of(&machine.memory, VirtAddr::new(VMEMMAP + 1)), None);
    }
}

#[test]
fn a_vmemmap_leads_to_another_section_without_a_search() {
    let machine = Machine::extreme();
    let sections = machine.locate().unwrap();
    let mut finder = sections.frame_finder();
    let mut reads = |pfn: u64| {
        machine.memory.take_reads();
        let found = finder.frame_of(&machine.memory, VirtAddr::new(VMEMMAP + pfn * 64));
        (found.map(Pfn::as_u64), machine.memory.take_reads())
    };
    reads(0);
    // The same section: nothing is read. Another one: its root and its entry, through two page tables each.
    assert_eq!(reads(7), (Some(7), 0));
    assert_eq!(reads(130 * SECTION), (Some(130 * SECTION), 6));
    assert_eq!(reads(130 * SECTION + 1), (Some(130 * SECTION + 1), 0));
    assert_eq!(reads(9), (Some(9), 6));
}

#[test]
fn a_machine_without_sections_has_no_frames_to_find() {
    let mut machine = Machine::extreme();
    let sections = machine.locate().unwrap();
    machine.section(0, 0);
    machine.section(130, 0);
    assert_eq!(sections.frame_of(&machine.memory, VirtAddr::new(VMEMMAP)), None);
}

#[test]
fn a_section_that_was_added_later_is_seen() {
    let mut machine = Machine::extreme();
    let sections = machine.locate().unwrap();
    machine.section(1, VMEMMAP | ONLINE);
    let found = sections.lookup(&machine.memory, Pfn::new(SECTION));
    assert!(matches!(found, Some(Lookup::Present(_))), "{found:?}");
}
