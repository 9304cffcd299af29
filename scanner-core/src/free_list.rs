//! Free pages by way of the zones' free lists, for kernels whose `struct page` doesn't tell: before 2.6.17, and from
//! VMCOREINFO alone before 3.9.
//!
//! Every online node has zones, every zone has lists of free blocks: one for each order, since 2.6.24 one for each
//! order and migrate type. They are followed as makedumpfile's `reset_bitmap_of_free_pages` does, with two
//! differences. A list that is broken costs the rest of that list, whose pages are then kept, and not the dump. And
//! nothing that stands in the lists can make the walk go on for longer than the machine has frames.

use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::layout::{KernelLayout, LayoutError, out_of_range};
use crate::level::PageClass;
use crate::memory::{PhysicalMemory, ReadError};
use crate::nodes::{MAX_PGLIST_DATA, NodeLayout, offset};
use crate::scan::{Outcome, PACE_FRAMES, Pace, Sink};
use crate::sections::{FrameFinder, MemorySections};
use crate::vmcoreinfo::{Key, VmcoreInfo};
use core::fmt;

/// Broken lists after which the others aren't tried: what is there are no free lists.
pub const MAX_BROKEN: u32 = 1024;

/// Zones of a node. Kernels have six kinds at most.
const MAX_ZONES: u32 = 8;
/// Migrate types. Kernels have seven at most.
const MAX_MIGRATE_TYPES: u64 = 16;
/// Larger than any `struct zone`, which is some 2 KiB.
const MAX_ZONE: u64 = 1 << 20;

/// Where the free lists are: offsets and sizes in bytes, checked to lie inside of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeListLayout {
    /// `pglist_data.node_zones`, an array of `struct zone`.
    node_zones: u64,
    /// `pglist_data.nr_zones`, 32 bits.
    nr_zones: u64,
    zone_size: u64,
    /// `zone.spanned_pages`, 64 bits.
    spanned_pages: u64,
    /// `zone.free_area`, an array of `struct free_area`, one for each order.
    free_area: u64,
    free_area_size: u64,
    /// `free_area.free_list`: a list head, or an array of them.
    free_list: u64,
    list_head_size: u64,
    migrate_types: u32,
    /// `list_head.next` and `prev`.
    next: u64,
    prev: u64,
    /// `page.lru`, through which free blocks are linked.
    lru: u64,
}

impl FreeListLayout {
    /// Resolves where the free lists are; `None` if a key that they take is missing.
    ///
    /// # Errors
    /// A key whose value can't be.
    pub fn resolve(info: &VmcoreInfo<'_>) -> Result<Option<Self>, LayoutError> {
        let size = |key, limit| match info.get(key) {
            Some(value) if value == 0 || value > limit => Err(out_of_range(key, value, "a structure's size")),
            value => Ok(value),
        };
        let (Some(zone_size), Some(free_area_size), Some(orders), Some(page_size)) = (
            size(Key::SizeZone, MAX_ZONE)?,
            size(Key::SizeFreeArea, MAX_ZONE)?,
            size(Key::LenZoneFreeArea, 32)?,
            info.get(Key::SizePage),
        ) else {
            return Ok(None);
        };
        // Two pointers, where the key is missing.
        let list_head_size = size(Key::SizeListHead, 64)?.unwrap_or(16);
        // Up to 2.6.23 there was one list for each order.
        let migrate_types = size(Key::LenFreeList, MAX_MIGRATE_TYPES)?.unwrap_or(1);
        let inside = |key, len: u64, size| match info.get(key) {
            Some(value) if value.checked_add(len).is_none_or(|end| end > size) => {
                Err(out_of_range(key, value, "inside of its structure"))
            }
            value => Ok(value),
        };
        let (Some(spanned_pages), Some(free_area), Some(free_list), Some(next), Some(prev), Some(lru)) = (
            inside(Key::OffZoneSpannedPages, 8, zone_size)?,
            inside(Key::OffZoneFreeArea, free_area_size.saturating_mul(orders), zone_size)?,
            inside(Key::OffFreeList, list_head_size.saturating_mul(migrate_types), free_area_size)?,
            inside(Key::OffListNext, 8, list_head_size)?,
            inside(Key::OffListPrev, 8, list_head_size)?,
            inside(Key::OffPageLru, list_head_size, page_size)?,
        ) else {
            return Ok(None);
        };
        let (Some(node_zones), Some(nr_zones)) = (
            offset(info, Key::OffNodeZones, MAX_PGLIST_DATA)?,
            offset(info, Key::OffNrZones, MAX_PGLIST_DATA)?,
        ) else {
            return Ok(None);
        };
        Ok(Some(Self {
            node_zones,
            nr_zones,
            zone_size,
            spanned_pages,
            free_area,
            free_area_size,
            free_list,
            list_head_size,
            migrate_types: migrate_types as u32,
            next,
            prev,
            lru,
        }))
    }

    /// The list head of blocks of `order`.
    fn head(&self, zone: VirtAddr, order: u32, migrate_type: u32) -> Option<VirtAddr> {
        zone.checked_add(self.free_area)?
            .checked_add(self.free_area_size.checked_mul(u64::from(order))?)?
            .checked_add(self.free_list)?
            .checked_add(self.list_head_size.checked_mul(u64::from(migrate_type))?)
    }
}

/// Free lists that could not be followed, or not to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeLists {
    /// Those of all nodes.
    All,
    /// Those of a node.
    Node(u32),
    /// Those of a zone.
    Zone {
        /// Its node.
        node: u32,
        /// Its index in the node.
        zone: u32,
    },
    /// One list.
    List {
        /// Its node.
        node: u32,
        /// Its zone's index in the node.
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

/// Why free lists could not be followed to their end. What came before stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeListError {
    /// Something of them can't be read.
    Read(ReadError),
    /// The node has no `struct pglist_data`.
    NoNode,
    /// A node has more zones than can be.
    TooManyZones(u32),
    /// A link doesn't lead to a `struct page`.
    NotAPage(VirtAddr),
    /// The block that a link leads to doesn't point back to where the link is.
    BrokenLink {
        /// The block's link.
        at: VirtAddr,
        /// What it points back to.
        prev: VirtAddr,
    },
    /// A block doesn't start at a multiple of its size.
    Misaligned(Pfn),
    /// The lists have more frames than the machine.
    TooManyFrames,
    /// So many others were broken that the rest wasn't tried.
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
            Self::NoNode => f.write_str("the node is online, but its struct pglist_data is not to be found"),
            Self::TooManyZones(zones) => {
                write!(f, "pglist_data.nr_zones is {zones}, but a node has at most {MAX_ZONES}")
            }
            Self::NotAPage(addr) => write!(f, "a link leads to {addr}, which is not in a struct page"),
            Self::BrokenLink { at, prev } => {
                write!(f, "the entry at {at} points back to {prev}, which is not the entry before it")
            }
            Self::Misaligned(pfn) => write!(f, "the block at pfn {pfn} is not aligned to its order"),
            Self::TooManyFrames => f.write_str("the free lists have more frames than the machine"),
            Self::TooManyBroken => write!(f, "{MAX_BROKEN} lists are broken; the rest is not tried"),
        }
    }
}

impl core::error::Error for FreeListError {}

/// Follows the free lists of all nodes, and tells `sink` of each free block ([`Sink::exclude`], as
/// [`PageClass::Free`], in the lists' order) and of each list that is broken ([`Sink::broken_free_list`]). `pace` is
/// asked every [`PACE_FRAMES`] blocks whether to go on. A layout that has no free lists has no free blocks.
pub fn exclude_free_blocks<M, S, P>(
    layout: &KernelLayout,
    sections: &MemorySections,
    memory: &M,
    sink: &mut S,
    pace: &mut P,
) -> Outcome
where
    M: PhysicalMemory + ?Sized,
    S: Sink + ?Sized,
    P: Pace + ?Sized,
{
    let (Some(nodes), Some(lists)) = (&layout.nodes, &layout.free_lists) else { return Outcome::Reached };
    let mut walk = Walk {
        lists,
        orders: layout.free_area_length.min(32),
        memory,
        sections,
        finder: sections.frame_finder(),
        sink,
        pace,
        frames_left: sections.frames().len(),
        blocks_to_pace: 0,
        broken: 0,
    };
    match walk.all(nodes) {
        Ok(()) => Outcome::Reached,
        Err(Stop::Interrupted) => Outcome::Interrupted,
        Err(Stop::GiveUp(error)) => {
            sink.broken_free_list(FreeLists::All, error);
            Outcome::Reached
        }
    }
}

/// What ends the whole walk.
enum Stop {
    Interrupted,
    GiveUp(FreeListError),
}

struct Walk<'a, M: ?Sized, S: ?Sized, P: ?Sized> {
    lists: &'a FreeListLayout,
    orders: u32,
    memory: &'a M,
    sections: &'a MemorySections,
    finder: FrameFinder<'a>,
    sink: &'a mut S,
    pace: &'a mut P,
    /// Frames that are not known to be free yet: blocks are distinct, so there can't be more of them.
    frames_left: u64,
    blocks_to_pace: u64,
    broken: u32,
}

impl<M, S, P> Walk<'_, M, S, P>
where
    M: PhysicalMemory + ?Sized,
    S: Sink + ?Sized,
    P: Pace + ?Sized,
{
    fn all(&mut self, nodes: &NodeLayout) -> Result<(), Stop> {
        let space = self.sections.space();
        let online = nodes.online(space, self.memory).map_err(|error| Stop::GiveUp(error.into()))?;
        for node in online.iter() {
            match nodes.pglist_data(space, self.memory, node) {
                Some(pgdat) => self.node(node, pgdat)?,
                None => self.lose(FreeLists::Node(node), FreeListError::NoNode)?,
            }
        }
        Ok(())
    }

    fn node(&mut self, node: u32, pgdat: VirtAddr) -> Result<(), Stop> {
        let zones = match self.read_u32(pgdat, self.lists.nr_zones) {
            Ok(zones) if zones <= MAX_ZONES => zones,
            Ok(zones) => return self.lose(FreeLists::Node(node), FreeListError::TooManyZones(zones)),
            Err(error) => return self.lose(FreeLists::Node(node), error.into()),
        };
        for index in 0..zones {
            let offset = self.lists.zone_size.saturating_mul(u64::from(index));
            let zone = pgdat.checked_add(self.lists.node_zones.saturating_add(offset)).unwrap_or_default();
            match self.read_u64(zone, self.lists.spanned_pages) {
                Ok(0) => {}
                Ok(_) => self.zone(node, index, zone)?,
                Err(error) => self.lose(FreeLists::Zone { node, zone: index }, error.into())?,
            }
        }
        Ok(())
    }

    fn zone(&mut self, node: u32, index: u32, zone: VirtAddr) -> Result<(), Stop> {
        for order in (0..self.orders).rev() {
            for migrate_type in 0..self.lists.migrate_types {
                let head = self.lists.head(zone, order, migrate_type).unwrap_or_default();
                if let Err(error) = self.list(head, order)? {
                    self.lose(FreeLists::List { node, zone: index, order, migrate_type }, error)?;
                }
            }
        }
        Ok(())
    }

    /// Follows the list at `head`. Its links are each checked to point back, which also rules out loops: the first
    /// entry that came again would have two entries before it.
    fn list(&mut self, head: VirtAddr, order: u32) -> Result<Result<(), FreeListError>, Stop> {
        let mut before = head;
        loop {
            let link = match self.read_u64(before, self.lists.next) {
                Ok(next) => VirtAddr::new(next),
                Err(error) => return Ok(Err(error.into())),
            };
            if link == head {
                return Ok(Ok(()));
            }
            let block = match self.block(before, link, order) {
                Ok(block) => block,
                Err(error) => return Ok(Err(error)),
            };
            self.frames_left = self
                .frames_left
                .checked_sub(block.len())
                .ok_or(Stop::GiveUp(FreeListError::TooManyFrames))?;
            if self.blocks_to_pace == 0 {
                if !self.pace.go_on(block.start) {
                    return Err(Stop::Interrupted);
                }
                self.blocks_to_pace = PACE_FRAMES;
            }
            self.blocks_to_pace = self.blocks_to_pace.saturating_sub(1);
            self.sink.exclude(block, PageClass::Free);
            before = link;
        }
    }

    /// The block that `link`, which stands in the entry `before`, leads to.
    fn block(&mut self, before: VirtAddr, link: VirtAddr, order: u32) -> Result<PfnRange, FreeListError> {
        let page =
            link.as_u64().checked_sub(self.lists.lru).map(VirtAddr::new).filter(|page| page.is_kernel());
        let pfn = page
            .and_then(|page| self.finder.frame_of(self.memory, page))
            .ok_or(FreeListError::NotAPage(link))?;
        let prev = VirtAddr::new(self.read_u64(link, self.lists.prev)?);
        if prev != before {
            return Err(FreeListError::BrokenLink { at: link, prev });
        }
        if !pfn.is_aligned(order) {
            return Err(FreeListError::Misaligned(pfn));
        }
        let frames = 1_u64.checked_shl(order).unwrap_or(u64::MAX);
        Ok(PfnRange::from_start(pfn, frames).intersection(self.sections.frames()))
    }

    /// Reports `lists` as lost.
    fn lose(&mut self, lists: FreeLists, error: FreeListError) -> Result<(), Stop> {
        self.sink.broken_free_list(lists, error);
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
mod tests;
