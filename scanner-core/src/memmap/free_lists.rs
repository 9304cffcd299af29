//! Walks the zones' free lists, for kernels whose `struct page` does not identify free pages: kernels before 2.6.17,
//! and kernels before 3.9 without debug information.
//!
//! Every online node has zones. Every zone has lists of free blocks: one per order, since 2.6.24 one per order and
//! migrate type. The walk is that of makedumpfile's `reset_bitmap_of_free_pages`, with two differences:
//!
//! - After a broken link the walk skips the rest of the list, and its pages are kept. makedumpfile fails.
//! - The number of frames of the machine bounds the walk, whatever the lists contain.

use super::nodes::Nodes;
use super::sections::{FrameFinder, MemorySections};
use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::kernel::free_lists::FreeListLayout;
use crate::kernel::layout::KernelLayout;
use crate::memory::{PhysicalMemory, ReadError};
use core::fmt;
use core::ops::ControlFlow;

/// The walk ends after this many broken lists: the memory does not hold free lists.
pub const MAX_BROKEN: u32 = 1024;

/// The largest number of zones per node that is accepted. Kernels have at most six.
const MAX_ZONES: u32 = 8;

/// Free lists that the walk could not follow to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeLists {
    /// The lists of all nodes.
    All,
    /// The lists of a node.
    Node(u32),
    /// The lists of a zone.
    Zone {
        /// The node.
        node: u32,
        /// The index of the zone in the node.
        zone: u32,
    },
    /// One list.
    List {
        /// The node.
        node: u32,
        /// The index of the zone in the node.
        zone: u32,
        /// The order of its blocks.
        order: u32,
        /// The migrate type of its blocks.
        migrate_type: u32,
    },
}

impl fmt::Display for FreeLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("the free lists of all nodes"),
            Self::Node(node) => write!(f, "the free lists of node {node}"),
            Self::Zone { node, zone } => write!(f, "the free lists of node {node}, zone {zone}"),
            Self::List { node, zone, order, migrate_type } => {
                write!(
                    f,
                    "the free list of node {node}, zone {zone}, order {order}, migrate type {migrate_type}"
                )
            }
        }
    }
}

/// Why the walk could not follow free lists to their end. The blocks before the error are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeListError {
    /// A structure or a link cannot be read.
    Read(ReadError),
    /// The node has no `struct pglist_data`.
    NoNode,
    /// `nr_zones` of a node is out of range.
    TooManyZones(u32),
    /// A link does not point into a `struct page`.
    NotAPage(VirtAddr),
    /// The back link of a block does not point to the previous entry.
    BrokenLink {
        /// The address of the block's links.
        at: VirtAddr,
        /// The value of its back link.
        prev: VirtAddr,
    },
    /// The first frame of a block is not a multiple of its size.
    Misaligned(Pfn),
    /// The lists contain more frames than the machine has.
    TooManyFrames,
    /// [`MAX_BROKEN`] lists are broken, so the walk ended.
    TooManyBroken,
}

impl From<ReadError> for FreeListError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for FreeListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::NoNode => f.write_str("the node is online, but its struct pglist_data cannot be located"),
            Self::TooManyZones(zones) => {
                write!(f, "pglist_data.nr_zones={zones} is out of range (0..={MAX_ZONES})")
            }
            Self::NotAPage(addr) => write!(f, "a link points to {addr}, which is not in a struct page"),
            Self::BrokenLink { at, prev } => {
                write!(
                    f,
                    "the back link of the entry at {at} points to {prev}, which is not the previous entry"
                )
            }
            Self::Misaligned(pfn) => write!(f, "the block at pfn {pfn} is not aligned to its order"),
            Self::TooManyFrames => f.write_str("the free lists contain more frames than the machine has"),
            Self::TooManyBroken => write!(f, "{MAX_BROKEN} lists are broken; the other lists are skipped"),
        }
    }
}

impl core::error::Error for FreeListError {}

/// Receives the free blocks that a walk of the free lists finds.
pub trait FreeBlockVisitor {
    /// `frames` are one free block, cut at the end of the machine's frames. Blocks come in the order of the lists.
    /// `Break` ends the walk.
    fn free_block(&mut self, frames: PfnRange) -> ControlFlow<()>;

    /// `lists` cannot be followed to their end. Their remaining blocks are unknown, so their pages are kept.
    fn broken_lists(&mut self, lists: FreeLists, error: FreeListError);
}

/// Walks the free lists of all nodes and reports each free block and each broken list to `visitor`. Reports nothing if
/// `layout` has no free lists. Returns `Break` if the visitor ended the walk.
pub fn walk_free_lists<M, V>(
    layout: &KernelLayout,
    sections: &MemorySections,
    memory: &M,
    visitor: &mut V,
) -> ControlFlow<()>
where
    M: PhysicalMemory + ?Sized,
    V: FreeBlockVisitor + ?Sized,
{
    let (Some(nodes), Some(lists)) = (&layout.nodes, &layout.free_lists) else {
        return ControlFlow::Continue(());
    };
    let mut walk = Walk {
        lists,
        orders: layout.free_area_length.min(32),
        memory,
        sections,
        finder: sections.frame_finder(),
        visitor,
        frames_left: sections.frames().len(),
        broken: 0,
    };
    match walk.all(&Nodes::new(nodes, *sections.space())) {
        Ok(()) => ControlFlow::Continue(()),
        Err(Stop::Ended) => ControlFlow::Break(()),
        Err(Stop::GiveUp(error)) => {
            visitor.broken_lists(FreeLists::All, error);
            ControlFlow::Continue(())
        }
    }
}

/// Why the whole walk ends.
enum Stop {
    /// The visitor ended it.
    Ended,
    /// The lists are unusable.
    GiveUp(FreeListError),
}

struct Walk<'a, M: ?Sized, V: ?Sized> {
    lists: &'a FreeListLayout,
    orders: u32,
    memory: &'a M,
    sections: &'a MemorySections,
    finder: FrameFinder<'a>,
    visitor: &'a mut V,
    /// Frames of the machine that are not in a free block so far. Free blocks are disjoint, so this bounds the walk.
    frames_left: u64,
    broken: u32,
}

impl<M, V> Walk<'_, M, V>
where
    M: PhysicalMemory + ?Sized,
    V: FreeBlockVisitor + ?Sized,
{
    fn all(&mut self, nodes: &Nodes<'_>) -> Result<(), Stop> {
        let online = nodes.online(self.memory).map_err(|error| Stop::GiveUp(error.into()))?;
        for node in online.iter() {
            match nodes.pglist_data(self.memory, node) {
                Some(pgdat) => self.node(node, pgdat)?,
                None => self.report_broken(FreeLists::Node(node), FreeListError::NoNode)?,
            }
        }
        Ok(())
    }

    fn node(&mut self, node: u32, pgdat: VirtAddr) -> Result<(), Stop> {
        let zones = match self.read_u32(pgdat, self.lists.nr_zones) {
            Ok(zones) if zones <= MAX_ZONES => zones,
            Ok(zones) => {
                return self.report_broken(FreeLists::Node(node), FreeListError::TooManyZones(zones));
            }
            Err(error) => return self.report_broken(FreeLists::Node(node), error.into()),
        };
        for index in 0..zones {
            let offset = self.lists.zone_size.saturating_mul(u64::from(index));
            let zone = pgdat.checked_add(self.lists.node_zones.saturating_add(offset)).unwrap_or_default();
            match self.read_u64(zone, self.lists.spanned_pages) {
                Ok(0) => {}
                Ok(_) => self.zone(node, index, zone)?,
                Err(error) => self.report_broken(FreeLists::Zone { node, zone: index }, error.into())?,
            }
        }
        Ok(())
    }

    fn zone(&mut self, node: u32, index: u32, zone: VirtAddr) -> Result<(), Stop> {
        for order in (0..self.orders).rev() {
            for migrate_type in 0..self.lists.migrate_types {
                let head = self.lists.head(zone, order, migrate_type).unwrap_or_default();
                if let Err(error) = self.list(head, order)? {
                    self.report_broken(FreeLists::List { node, zone: index, order, migrate_type }, error)?;
                }
            }
        }
        Ok(())
    }

    /// Walks the list at `head`. Each back link is checked, which also excludes loops: the first entry that occurs
    /// twice would need two different back links.
    fn list(&mut self, head: VirtAddr, order: u32) -> Result<Result<(), FreeListError>, Stop> {
        let mut previous = head;
        loop {
            let link = match self.read_u64(previous, self.lists.next) {
                Ok(next) => VirtAddr::new(next),
                Err(error) => return Ok(Err(error.into())),
            };
            if link == head {
                return Ok(Ok(()));
            }
            let block = match self.block(previous, link, order) {
                Ok(block) => block,
                Err(error) => return Ok(Err(error)),
            };
            self.frames_left = self
                .frames_left
                .checked_sub(block.len())
                .ok_or(Stop::GiveUp(FreeListError::TooManyFrames))?;
            if self.visitor.free_block(block).is_break() {
                return Err(Stop::Ended);
            }
            previous = link;
        }
    }

    /// The block that `link` points to. `link` is the forward link of the entry `previous`.
    fn block(&mut self, previous: VirtAddr, link: VirtAddr, order: u32) -> Result<PfnRange, FreeListError> {
        let page =
            link.as_u64().checked_sub(self.lists.lru).map(VirtAddr::new).filter(|page| page.is_kernel());
        let pfn = page
            .and_then(|page| self.finder.frame_of(self.memory, page))
            .ok_or(FreeListError::NotAPage(link))?;
        let prev = VirtAddr::new(self.read_u64(link, self.lists.prev)?);
        if prev != previous {
            return Err(FreeListError::BrokenLink { at: link, prev });
        }
        if !pfn.is_aligned(order) {
            return Err(FreeListError::Misaligned(pfn));
        }
        let frames = 1_u64.checked_shl(order).unwrap_or(u64::MAX);
        Ok(PfnRange::from_start(pfn, frames).intersection(self.sections.frames()))
    }

    /// Reports `lists` as broken.
    fn report_broken(&mut self, lists: FreeLists, error: FreeListError) -> Result<(), Stop> {
        self.visitor.broken_lists(lists, error);
        self.broken = self.broken.saturating_add(1);
        if self.broken < MAX_BROKEN { Ok(()) } else { Err(Stop::GiveUp(FreeListError::TooManyBroken)) }
    }

    fn read_u64(&self, base: VirtAddr, offset: u64) -> Result<u64, ReadError> {
        self.sections.space().read_u64(self.memory, base.checked_add(offset).unwrap_or_default())
    }

    fn read_u32(&self, base: VirtAddr, offset: u64) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.sections.space().read(self.memory, base.checked_add(offset).unwrap_or_default(), &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

#[cfg(test)]
#[path = "free_lists_tests.rs"]
mod tests;
