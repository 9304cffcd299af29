use super::*;
use crate::addr::PhysAddr;
use crate::memmap::test_memory::{DIRECT, PAGE_TABLES, TestMemory};
use crate::memory::Unreadable;
use crate::paging::START_KERNEL_MAP;
use std::vec::Vec;

const ONLINE: u64 = 0x3000;
const NODE_DATA: u64 = 0x4000;
const PGDAT_LIST: u64 = 0x5000;

/// A layout that describes nothing.
const NOTHING: NodeLayout = NodeLayout {
    online: None,
    node_data: None,
    pgdat_list: None,
    pgdat_next: None,
    contig_page_data: None,
    span: None,
};

fn direct(phys: u64) -> VirtAddr {
    VirtAddr::new(DIRECT + phys)
}

fn nodes(layout: &NodeLayout) -> Nodes<'_> {
    let root = u64::from_str_radix(PAGE_TABLES, 16).unwrap() - START_KERNEL_MAP.as_u64();
    Nodes::new(layout, AddressSpace { root: PhysAddr::new(root), five_level: false, sme_mask: 0 })
}

fn online(layout: &NodeLayout, memory: &TestMemory) -> Vec<u32> {
    nodes(layout).online(memory).unwrap().iter().collect()
}

// Which nodes are online.

#[test]
fn without_a_map_node_0_is_online() {
    assert_eq!(online(&NOTHING, &TestMemory::new()), [0]);
}

#[test]
fn each_bit_of_the_map_is_a_node() {
    let mut memory = TestMemory::new();
    memory.set(ONLINE, 1 << 63 | 0b101);
    memory.set(ONLINE + 8, 1);
    memory.set(ONLINE + 15 * 8, 1 << 63);
    let layout = NodeLayout { online: Some((direct(ONLINE), 16)), ..NOTHING };
    assert_eq!(online(&layout, &memory), [0, 2, 63, 64, 1023]);
}

#[test]
fn what_follows_the_map_is_not_part_of_it() {
    let mut memory = TestMemory::new();
    memory.set(ONLINE, 1);
    memory.set(ONLINE + 8, u64::MAX);
    let layout = NodeLayout { online: Some((direct(ONLINE), 1)), ..NOTHING };
    assert_eq!(online(&layout, &memory), [0]);
}

#[test]
fn a_map_that_cannot_be_read_is_an_error() {
    let mut memory = TestMemory::new();
    memory.lose(ONLINE + 8..ONLINE + 16);
    let layout = NodeLayout { online: Some((direct(ONLINE), 2)), ..NOTHING };
    let error = ReadError::Unreadable(Unreadable { addr: PhysAddr::new(ONLINE + 8) });
    assert_eq!(nodes(&layout).online(&memory).unwrap_err(), error);
}

// Where their struct pglist_data are.

/// Memory with two nodes in `node_data`, and two others in `pgdat_list`, by its array and by its links.
fn memory() -> TestMemory {
    let mut memory = TestMemory::new();
    memory.set(NODE_DATA, DIRECT + 0x1_0000);
    memory.set(NODE_DATA + 8, DIRECT + 0x2_0000);
    memory.set(PGDAT_LIST, DIRECT + 0x3_0000);
    memory.set(PGDAT_LIST + 8, DIRECT + 0x4_0000);
    memory.set(0x3_0000 + 0x10, DIRECT + 0x5_0000);
    memory.set(0x5_0000 + 0x10, DIRECT + 0x6_0000);
    memory
}

/// Everything is described at once.
const ALL: NodeLayout = NodeLayout {
    node_data: Some((VirtAddr::new(DIRECT + NODE_DATA), 2)),
    pgdat_list: Some((VirtAddr::new(DIRECT + PGDAT_LIST), Some(2))),
    pgdat_next: Some(0x10),
    contig_page_data: Some(VirtAddr::new(DIRECT + 0x7_0000)),
    span: Some((0x20, 0x28)),
    ..NOTHING
};

fn found(layout: &NodeLayout, memory: &TestMemory) -> [Option<u64>; 4] {
    [0, 1, 2, 3].map(|node| nodes(layout).pglist_data(memory, node).map(|addr| addr.as_u64() - DIRECT))
}

#[test]
fn node_data_comes_first() {
    // What it does not have is looked for in the others: the list has a third node.
    assert_eq!(found(&ALL, &memory()), [Some(0x1_0000), Some(0x2_0000), Some(0x6_0000), None]);
}

#[test]
fn what_follows_an_array_is_no_pointer_to_a_node() {
    let mut memory = memory();
    memory.set(NODE_DATA + 16, DIRECT + 0x9_0000);
    memory.set(PGDAT_LIST + 16, DIRECT + 0x9_0000);
    let layout = NodeLayout { pgdat_next: None, ..ALL };
    assert_eq!(found(&layout, &memory)[2], None);
}

#[test]
fn then_pgdat_list_as_an_array() {
    let layout = NodeLayout { node_data: None, pgdat_next: None, ..ALL };
    assert_eq!(found(&layout, &memory()), [Some(0x3_0000), Some(0x4_0000), None, None]);
}

#[test]
fn then_pgdat_list_as_a_list() {
    let layout =
        NodeLayout { node_data: None, pgdat_list: ALL.pgdat_list.map(|(list, _)| (list, None)), ..ALL };
    assert_eq!(found(&layout, &memory()), [Some(0x3_0000), Some(0x5_0000), Some(0x6_0000), None]);
}

#[test]
fn at_last_the_only_node() {
    let layout = NodeLayout { node_data: None, pgdat_list: None, ..ALL };
    assert_eq!(found(&layout, &memory()), [Some(0x7_0000), None, None, None]);
}

#[test]
fn a_list_without_a_link_has_one_node() {
    let layout = NodeLayout {
        node_data: None,
        pgdat_list: ALL.pgdat_list.map(|(list, _)| (list, None)),
        pgdat_next: None,
        ..ALL
    };
    assert_eq!(found(&layout, &memory()), [Some(0x3_0000), None, None, None]);
}

#[test]
fn a_pointer_that_is_no_kernel_address_or_cannot_be_read_is_not_followed() {
    let layout = NodeLayout { pgdat_list: None, contig_page_data: None, ..ALL };
    let mut memory = memory();
    memory.set(NODE_DATA, 0x1_0000);
    memory.lose(NODE_DATA + 8..NODE_DATA + 16);
    assert_eq!(found(&layout, &memory), [None; 4]);
}

#[test]
fn a_list_that_points_to_itself_ends() {
    let layout =
        NodeLayout { node_data: None, pgdat_list: ALL.pgdat_list.map(|(list, _)| (list, None)), ..ALL };
    let mut memory = memory();
    memory.set(0x3_0000 + 0x10, DIRECT + 0x3_0000);
    assert_eq!(nodes(&layout).pglist_data(&memory, u32::MAX), Some(direct(0x3_0000)));
}

// Their frames.

#[test]
fn a_node_spans_the_frames_that_it_says() {
    let mut memory = memory();
    memory.set(0x2_0000 + 0x20, 1000);
    memory.set(0x2_0000 + 0x28, 50);
    let frames = PfnRange::new(Pfn::new(1000), Pfn::new(1050));
    assert_eq!(nodes(&ALL).frames(&memory, 1), Some(frames));
    assert_eq!(nodes(&ALL).frames(&memory, 9), None);
    assert_eq!(nodes(&NodeLayout { span: None, ..ALL }).frames(&memory, 1), None);
    memory.lose(0x2_0000 + 0x28..0x2_0000 + 0x30);
    assert_eq!(nodes(&ALL).frames(&memory, 1), None);
}
