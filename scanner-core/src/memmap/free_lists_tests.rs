use super::*;
use crate::addr::PhysAddr;
use crate::kernel::layout::FreePages;
use crate::kernel::{LayoutError, VmcoreInfo};
use crate::memory::Unreadable;
use crate::rules::RuleSet;
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec::Vec;

/// The direct map: kernel address of physical 0.
const DIRECT: u64 = 0xffff_8880_0000_0000;
/// Where things are in physical memory.
const TOP_TABLE: u64 = 0x1000;
const PUD_TABLE: u64 = 0x2000;
const ONLINE_MAP: u64 = 0x3000;
const NODE_DATA: u64 = 0x3100;
const MEM_MAP: u64 = 0x3200;
const PGDAT: [u64; 2] = [0x4000, 0x5000];
const PAGES: u64 = 0x8000;
/// Frames, and bytes of memory that can be read: the tables, the nodes and the array of struct page.
const FRAMES: u64 = 512;
const BYTES: usize = 0x8000 + 512 * 64;

const ZONE_SIZE: u64 = 0x200;
const LRU: u64 = 8;

/// Two nodes with two zones each; lists for orders 0 to 3, of two migrate types.
const TEXT: &str = "OSRELEASE=2.6.32\nPAGESIZE=4096\nSYMBOL(init_level4_pgt)=ffffffff80001000\n\
    SYMBOL(mem_map)=ffff888000003200\nSYMBOL(node_online_map)=ffff888000003000\nSIZE(nodemask_t)=8\n\
    SYMBOL(node_data)=ffff888000003100\nLENGTH(node_data)=2\nSIZE(page)=64\nOFFSET(page.flags)=0\n\
    OFFSET(page._count)=28\nOFFSET(page.mapping)=32\nOFFSET(page.lru)=8\nOFFSET(list_head.next)=0\n\
    OFFSET(list_head.prev)=8\nSIZE(list_head)=16\nSIZE(zone)=512\nSIZE(free_area)=40\nLENGTH(zone.free_area)=4\n\
    LENGTH(free_area.free_list)=2\nOFFSET(free_area.free_list)=0\nOFFSET(zone.free_area)=16\n\
    OFFSET(zone.spanned_pages)=8\nOFFSET(pglist_data.node_zones)=64\nOFFSET(pglist_data.nr_zones)=4\n\
    OFFSET(pglist_data.node_start_pfn)=16\nOFFSET(pglist_data.node_spanned_pages)=24\n";

struct Memory(Vec<u8>);

impl PhysicalMemory for Memory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let from = usize::try_from(addr.as_u64()).map_err(|_| Unreadable { addr })?;
        let bytes = self.0.get(from..).and_then(|rest| rest.get(..buf.len())).ok_or(Unreadable { addr })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl Memory {
    /// A machine with empty lists.
    fn new() -> Self {
        let mut memory = Self(std::vec![0; BYTES]);
        // One page of 1 GiB maps everything.
        memory.set(TOP_TABLE + 8 * (DIRECT >> 39 & 511), PUD_TABLE | 1);
        memory.set(PUD_TABLE + 8 * (DIRECT >> 30 & 511), 1 << 7 | 1);
        memory.set(ONLINE_MAP, 0b11);
        memory.set(MEM_MAP, DIRECT + PAGES);
        for (node, pgdat) in PGDAT.into_iter().enumerate() {
            memory.set(NODE_DATA + 8 * node as u64, DIRECT + pgdat);
            memory.0[pgdat as usize + 4] = 2;
            memory.set(pgdat + 16, 256 * node as u64);
            memory.set(pgdat + 24, 256);
            for zone in 0..2 {
                memory.set(pgdat + 64 + zone * ZONE_SIZE + 8, 256);
                for order in 0..4 {
                    for migrate_type in 0..2 {
                        let head = head(node, zone, order, migrate_type);
                        memory.link(head, head);
                    }
                }
            }
        }
        memory
    }

    fn set(&mut self, addr: u64, value: u64) {
        self.0[addr as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }

    fn link(&mut self, from: u64, to: u64) {
        self.set(from, DIRECT + to);
        self.set(to + 8, DIRECT + from);
    }

    /// Makes `pfns` the list at `head`.
    fn list(&mut self, head: u64, pfns: &[u64]) {
        let mut before = head;
        for pfn in pfns {
            self.link(before, entry(*pfn));
            before = entry(*pfn);
        }
        self.link(before, head);
    }
}

/// The physical address of a list head.
fn head(node: usize, zone: u64, order: u64, migrate_type: u64) -> u64 {
    PGDAT[node] + 64 + zone * ZONE_SIZE + 16 + 40 * order + 16 * migrate_type
}

/// The physical address of a page's links.
fn entry(pfn: u64) -> u64 {
    PAGES + 64 * pfn + LRU
}

#[derive(Debug, Default)]
struct Found {
    blocks: Vec<(u64, u64)>,
    broken: Vec<(FreeLists, FreeListError)>,
}

impl FreeBlockVisitor for Found {
    fn free_block(&mut self, frames: PfnRange) -> ControlFlow<()> {
        self.blocks.push((frames.start.as_u64(), frames.len()));
        ControlFlow::Continue(())
    }

    fn broken_lists(&mut self, lists: FreeLists, error: FreeListError) {
        self.broken.push((lists, error));
    }
}

fn layout(text: &str) -> Result<KernelLayout, LayoutError> {
    KernelLayout::resolve(&VmcoreInfo::parse(text.as_bytes()).unwrap(), Some(0))
}

fn follow(memory: &Memory) -> Found {
    follow_by(TEXT, memory)
}

fn follow_by(text: &str, memory: &Memory) -> Found {
    let layout = layout(text).unwrap();
    assert_eq!(layout.free, FreePages::FreeLists);
    let sections = MemorySections::locate(&layout, memory, Pfn::new(FRAMES), RuleSet::Makedumpfile).unwrap();
    let mut found = Found::default();
    let flow = walk_free_lists(&layout, &sections, memory, &mut found);
    assert_eq!(flow, ControlFlow::Continue(()));
    found
}

fn list(node: u32, zone: u32, order: u32, migrate_type: u32) -> FreeLists {
    FreeLists::List { node, zone, order, migrate_type }
}

fn virt(phys: u64) -> VirtAddr {
    VirtAddr::new(DIRECT + phys)
}

#[test]
fn blocks_of_every_order_type_zone_and_node_are_found() {
    let mut memory = Memory::new();
    memory.list(head(0, 0, 0, 0), &[7, 3]);
    memory.list(head(0, 0, 3, 1), &[8, 24, 16]);
    memory.list(head(0, 1, 2, 0), &[100]);
    memory.list(head(1, 0, 1, 1), &[510]);
    let found = follow(&memory);
    assert_eq!(found.blocks, [(8, 8), (24, 8), (16, 8), (7, 1), (3, 1), (100, 4), (510, 2)]);
    assert!(found.broken.is_empty());
    // Zones without frames have no lists, whatever stands there; and so have nodes that are not online.
    memory.set(PGDAT[0] + 64 + 8, 0);
    memory.set(ONLINE_MAP, 0b01);
    assert_eq!(follow(&memory).blocks, [(100, 4)]);
}

#[test]
fn a_broken_list_costs_its_rest_only() {
    let mut memory = Memory::new();
    memory.list(head(0, 0, 0, 0), &[5, 6, 7, 8]);
    memory.list(head(0, 0, 0, 1), &[9]);
    memory.set(entry(7) + 8, DIRECT);
    let found = follow(&memory);
    assert_eq!(found.blocks, [(5, 1), (6, 1), (9, 1)]);
    let broken = FreeListError::BrokenLink { at: virt(entry(7)), prev: VirtAddr::new(DIRECT) };
    assert_eq!(found.broken, [(list(0, 0, 0, 0), broken)]);
    assert_eq!(found.broken[0].0.to_string(), "the free list of node 0, zone 0, order 0, migrate type 0");
}

#[test]
fn a_loop_ends() {
    let mut memory = Memory::new();
    memory.list(head(0, 0, 1, 0), &[10, 20, 30]);
    memory.link(entry(30), entry(20));
    let found = follow(&memory);
    // Turning back to 20 has made its back pointer wrong.
    assert_eq!(found.blocks, [(10, 2)]);
    assert_eq!(
        found.broken,
        [(list(0, 0, 1, 0), FreeListError::BrokenLink { at: virt(entry(20)), prev: virt(entry(30)) })]
    );
    memory.list(head(0, 0, 1, 0), &[10, 20, 30]);
    memory.set(entry(30), DIRECT + entry(20));
    let found = follow(&memory);
    assert_eq!(found.blocks, [(10, 2), (20, 2), (30, 2)]);
    assert_eq!(
        found.broken,
        [(list(0, 0, 1, 0), FreeListError::BrokenLink { at: virt(entry(20)), prev: virt(entry(10)) })]
    );
}

#[test]
fn links_to_elsewhere_are_named() {
    let mut memory = Memory::new();
    memory.list(head(0, 0, 3, 0), &[8]);
    memory.set(head(0, 0, 3, 0), DIRECT + entry(8) + 16);
    memory.list(head(0, 0, 2, 0), &[6]);
    memory.set(head(0, 0, 1, 0), 0x1234);
    memory.set(head(0, 0, 0, 0), DIRECT + entry(FRAMES));
    let found = follow(&memory);
    assert!(found.blocks.is_empty());
    let not_a_page = |addr| FreeListError::NotAPage(VirtAddr::new(addr));
    assert_eq!(
        found.broken,
        [
            (list(0, 0, 3, 0), not_a_page(DIRECT + entry(8) + 16)),
            (list(0, 0, 2, 0), FreeListError::Misaligned(Pfn::new(6))),
            (list(0, 0, 1, 0), not_a_page(0x1234)),
            (list(0, 0, 0, 0), not_a_page(DIRECT + entry(FRAMES))),
        ]
    );
}

#[test]
fn nodes_that_cannot_be_are_named() {
    let mut memory = Memory::new();
    memory.list(head(1, 1, 0, 0), &[5]);
    memory.0[PGDAT[0] as usize + 4] = 200;
    assert_eq!(follow(&memory).broken, [(FreeLists::Node(0), FreeListError::TooManyZones(200))]);
    memory.set(NODE_DATA, 0);
    memory.set(ONLINE_MAP, 0b111);
    let found = follow(&memory);
    assert_eq!(found.blocks, [(5, 1)]);
    let no_node = |node| (FreeLists::Node(node), FreeListError::NoNode);
    assert_eq!(found.broken, [no_node(0), no_node(2)]);
}

#[test]
fn after_1024_broken_lists_the_rest_is_not_tried() {
    let text = TEXT.replace("SIZE(nodemask_t)=8", "SIZE(nodemask_t)=128");
    // All of 1024 nodes are online, and have no struct pglist_data.
    let mut memory = Memory::new();
    let online = (ONLINE_MAP..).step_by(8).take(16);
    online.for_each(|at| memory.set(at, u64::MAX));
    [0, 8].into_iter().for_each(|node| memory.set(NODE_DATA + node, 0));
    let found = follow_by(&text, &memory);
    assert_eq!(found.broken.len(), 1025);
    assert_eq!(found.broken[1023], (FreeLists::Node(1023), FreeListError::NoNode));
    assert_eq!(found.broken[1024], (FreeLists::All, FreeListError::TooManyBroken));
    // One less is not too many.
    memory.set(NODE_DATA + 8, DIRECT + PGDAT[1]);
    assert_eq!(follow_by(&text, &memory).broken.len(), 1023);
}

#[test]
fn errors_say_what_is_wrong_with_which_lists() {
    let (at, prev) = (VirtAddr::new(0x1234), VirtAddr::new(0x5678));
    for (error, words) in [
        (FreeListError::TooManyZones(200), &["200", "8"][..]),
        (FreeListError::NotAPage(at), &["0x1234"]),
        (FreeListError::BrokenLink { at, prev }, &["0x1234", "0x5678"]),
        (FreeListError::Misaligned(Pfn::new(6)), &["0x6"]),
        (FreeListError::TooManyBroken, &["1024"]),
        (FreeListError::NoNode, &["pglist_data"]),
        (FreeListError::TooManyFrames, &["frames"]),
        (FreeListError::Read(Unreadable { addr: PhysAddr::new(0x9000) }.into()), &["0x9000"]),
    ] {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    for (lists, words) in [
        (FreeLists::All, &["all"][..]),
        (FreeLists::Node(3), &["node 3"]),
        (FreeLists::Zone { node: 3, zone: 1 }, &["node 3", "zone 1"]),
        (list(3, 1, 9, 2), &["node 3", "zone 1", "order 9", "migrate type 2"]),
    ] {
        let text = lists.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn lists_never_have_more_frames_than_the_machine() {
    let mut memory = Memory::new();
    let blocks: Vec<u64> = (0..40).map(|block| 8 * block).collect();
    memory.list(head(0, 0, 3, 0), &blocks);
    memory.set(NODE_DATA + 8, DIRECT + PGDAT[0]);
    let found = follow(&memory);
    assert_eq!(found.blocks.len() as u64, FRAMES / 8);
    assert_eq!(found.broken, [(FreeLists::All, FreeListError::TooManyFrames)]);
}

#[test]
fn the_visitor_can_end_the_walk() {
    struct First(u64);
    impl FreeBlockVisitor for First {
        fn free_block(&mut self, frames: PfnRange) -> ControlFlow<()> {
            assert_eq!(frames.start.as_u64(), 5);
            self.0 += 1;
            ControlFlow::Break(())
        }

        fn broken_lists(&mut self, lists: FreeLists, error: FreeListError) {
            panic!("{lists}: {error}");
        }
    }
    let mut memory = Memory::new();
    memory.list(head(0, 0, 0, 0), &[5, 6]);
    let layout = layout(TEXT).unwrap();
    let sections = MemorySections::locate(&layout, &memory, Pfn::new(FRAMES), RuleSet::Makedumpfile).unwrap();
    let mut first = First(0);
    assert_eq!(walk_free_lists(&layout, &sections, &memory, &mut first), ControlFlow::Break(()));
    assert_eq!(first.0, 1);
}

#[test]
fn keys_are_checked() {
    let with = |key: &str, value: &str| {
        let line = TEXT.lines().find(|line| line.starts_with(key)).unwrap();
        layout(&TEXT.replace(line, value))
    };
    assert!(layout(TEXT).unwrap().free_lists.is_some());
    assert_eq!(with("SIZE(zone)", "").unwrap().free_lists, None);
    let one_type = with("LENGTH(free_area.free_list)", "").unwrap().free_lists.unwrap();
    assert_eq!(one_type.migrate_types, 1);
    for (key, value) in [
        ("SIZE(zone)", "SIZE(zone)=160"),
        ("SIZE(free_area)", "SIZE(free_area)=24"),
        ("LENGTH(free_area.free_list)", "LENGTH(free_area.free_list)=200"),
        ("OFFSET(page.lru)", "OFFSET(page.lru)=56"),
        ("OFFSET(zone.spanned_pages)", "OFFSET(zone.spanned_pages)=18446744073709551615"),
        ("OFFSET(pglist_data.nr_zones)", "OFFSET(pglist_data.nr_zones)=99999999"),
        ("SIZE(nodemask_t)", "SIZE(nodemask_t)=136"),
    ] {
        let error = with(key, value).unwrap_err();
        assert!(matches!(error, LayoutError::OutOfRange { .. }), "{key}: {error}");
    }
}

#[test]
fn frames_of_nodes() {
    let memory = Memory::new();
    let layout = layout(TEXT).unwrap();
    let nodes = Nodes::new(layout.nodes.as_ref().unwrap(), layout.space);
    let online: Vec<u32> = nodes.online(&memory).unwrap().iter().collect();
    assert_eq!(online, [0, 1]);
    let frames = nodes.frames(&memory, 1).unwrap();
    assert_eq!((frames.start, frames.len()), (Pfn::new(256), 256));
    assert_eq!(nodes.frames(&memory, 2), None);
}

#[test]
fn nodes_of_old_kernels() {
    // A list of nodes up to 2.6.16, the only node without NUMA, and no map of those that are online.
    let text: String = TEXT
        .lines()
        .filter(|l| !l.contains("node_data") && !l.contains("node_online"))
        .fold(String::new(), |text, line| text + line + "\n");
    let listed = text.clone() + "SYMBOL(pgdat_list)=ffff888000003100\nOFFSET(pglist_data.pgdat_next)=32\n";
    let mut memory = Memory::new();
    memory.set(PGDAT[0] + 32, DIRECT + PGDAT[1]);
    let layout_of = |text: &str| {
        let layout = layout(text).unwrap();
        (layout.space, layout.nodes.unwrap())
    };
    let (space, layout_of_nodes) = layout_of(&listed);
    let nodes = Nodes::new(&layout_of_nodes, space);
    assert_eq!(nodes.online(&memory).unwrap().iter().collect::<Vec<_>>(), [0]);
    let at = |node| nodes.pglist_data(&memory, node);
    assert_eq!((at(0), at(1), at(2)), (Some(virt(PGDAT[0])), Some(virt(PGDAT[1])), None));

    let (space, layout_of_nodes) = layout_of(&(text.clone() + "SYMBOL(contig_page_data)=ffff888000004000\n"));
    let nodes = Nodes::new(&layout_of_nodes, space);
    assert_eq!(nodes.pglist_data(&memory, 0), Some(virt(PGDAT[0])));
    assert_eq!(nodes.pglist_data(&memory, 1), None);
    assert_eq!(layout(&text).unwrap().nodes, None);
}

proptest! {
    #[test]
    fn whatever_stands_in_memory_the_walk_ends(
        words in prop::collection::vec((0_usize..BYTES / 8 - 0x600, any::<u64>(), any::<bool>()), 0..200),
        seeds in prop::collection::vec(0_u64..FRAMES, 0..60),
    ) {
        let mut memory = Memory::new();
        memory.list(head(0, 0, 0, 0), &seeds);
        for (word, value, pointer) in words {
            // Behind the page tables; often something that looks like a link.
            let value = if pointer { DIRECT + PAGES + value % 0x8000 / 8 * 8 } else { value };
            memory.set(0x3000 + 8 * word as u64, value);
        }
        memory.set(MEM_MAP, DIRECT + PAGES);
        let found = follow(&memory);
        prop_assert!(found.blocks.iter().map(|(_, frames)| frames).sum::<u64>() <= FRAMES);
        prop_assert!(found.broken.len() <= MAX_BROKEN as usize + 1);
    }
}
