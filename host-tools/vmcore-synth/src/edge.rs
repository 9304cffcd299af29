//! Edge cases: pages that filters easily classify wrongly. A machine with edge cases has all that its generation
//! allows, in regions next to the capture kernel's memory.

use super::classes::{Class, class};
use super::generation::{Compound, Keys, NO_TYPE};
use super::machine::{Machine, REGION_FRAMES};
use super::page::{Destructor, Edge, Extent, PageImage, State};
use scanner_core::PfnRange;

/// An edge case: its position in its region, and its purpose.
#[derive(Clone, Copy, Debug)]
pub struct EdgeCase {
    /// The kind of edge case.
    pub edge: Edge,
    /// Its special property, and the decision of a filter like makedumpfile.
    pub what: &'static str,
    /// The first frame, counted from the start of the region, which is a multiple of 1024.
    offset: u64,
    /// Its number of frames, as an order.
    order: u8,
}

/// The edge cases that are single blocks, sorted by position. A machine with edge cases also has:
///
/// - a compound page whose head is in a memory hole of the dump, and one whose end is in a hole,
/// - a `PT_LOAD` whose file data ends within a page, one without file data, and one that overlaps another,
/// - a free block that crosses the end of a section,
/// - hugetlb pages with an optimised memory map (HVO), in which tail `struct page`s look like heads.
pub const EDGE_CASES: &[EdgeCase] = &[
    case(
        Edge::MisalignedOrder,
        4,
        3,
        "anonymous head of order 3 at a multiple of 4: the order is ignored, one page is excluded",
    ),
    case(Edge::MisalignedHugetlb, 24, 4, "hugetlb head of order 4 at a multiple of 8: one page is excluded"),
    case(
        Edge::BuddyOrder,
        48,
        0,
        "free block of order 11, above the maximum of 10: kept, and no other rule applies",
    ),
    case(Edge::BuddySlab, 50, 0, "buddy type with slab flag: not free"),
    case(
        Edge::AnonWaiters,
        52,
        0,
        "anonymous page with PG_waiters: treated as slab where PG_slab is not exported",
    ),
    case(Edge::OfflineWaiters, 54, 0, "offline page with PG_waiters: kept where PG_slab is not exported"),
    case(Edge::AllOnes, 56, 0, "uninitialised struct page, all bits set: looks like a tail page, kept"),
    case(
        Edge::OwnerBits,
        58,
        0,
        "offline type with owner data in its low bits: a 32-bit comparison does not recognise it",
    ),
    case(
        Edge::SwapCacheAlone,
        60,
        0,
        "PG_swapcache without PG_swapbacked: the bit has another meaning since 4.10",
    ),
    case(
        Edge::SlabOddMapping,
        62,
        0,
        "slab page with an odd pointer at the offset of mapping: not anonymous",
    ),
    case(Edge::AnonPrivate, 63, 0, "anonymous page with private data: user data, not private cache"),
    case(Edge::HwpoisonHead, 64, 3, "kernel compound page with PG_hwpoison on the head: excluded as a whole"),
    case(
        Edge::HwpoisonTail,
        72,
        3,
        "kernel compound page with PG_hwpoison on a tail: tail flags are ignored",
    ),
    case(
        Edge::FalseHugetlb,
        80,
        2,
        "kernel compound page whose first tail has the bit of PG_hugetlb set by chance: excluded as hugetlb",
    ),
    case(Edge::Order63, 128, 6, "anonymous head of order 63: one page is excluded"),
    case(Edge::Order64, 192, 6, "anonymous head of order 64: one page is excluded"),
    case(Edge::ChunkEnd, 511, 0, "compound head in the last of 512 struct pages: its order is not read"),
];

const fn case(edge: Edge, offset: u64, order: u8, what: &'static str) -> EdgeCase {
    EdgeCase { edge, what, offset, order }
}

impl Edge {
    /// Whether the machine's generation can have such a page.
    fn exists(self, machine: &Machine) -> bool {
        let generation = machine.generation;
        match self {
            Self::BuddyOrder => machine.finds_buddies(),
            Self::BuddySlab => {
                machine.finds_buddies() && generation.types.buddy.is_some() && generation.flags.slab.is_some()
            }
            Self::AnonWaiters => generation.flags.waiters.is_some(),
            Self::OfflineWaiters => generation.flags.waiters.is_some() && generation.types.offline.is_some(),
            Self::HwpoisonHead | Self::HwpoisonTail => generation.flags.hwpoison.is_some(),
            Self::AllOnes => generation.keys.contains(Keys::TAIL),
            Self::FalseHugetlb => matches!(generation.compound, Compound::TailFlags { .. }),
            Self::OwnerBits => generation.types.offline.is_some_and(|word| word & 0xff_ffff == 0),
            _ => true,
        }
    }

    /// The class at dump level 31, and the number of pages that a filter counts. `block` is the number of pages in the
    /// block.
    pub(super) fn expected(self, machine: &Machine, block: u64) -> (Class, u64) {
        let (keys, flags) = (machine.generation.keys, &machine.generation.flags);
        // If PG_slab is not exported, makedumpfile assumes bit 7, which is PG_waiters.
        let waiters_hide = flags.slab.is_none();
        let hwpoison = if keys.contains(Keys::HWPOISON) { Class::Hwpoison } else { Class::Kept };
        let tails_known = keys.contains(Keys::TAIL);
        match self {
            Self::MisalignedOrder | Self::Order63 | Self::Order64 | Self::ChunkEnd | Self::AnonPrivate => {
                (Class::User, 1)
            }
            Self::MisalignedHugetlb => (class(machine, State::Hugetlb), 1),
            Self::AnonWaiters => (if waiters_hide { Class::Cache } else { Class::User }, 1),
            Self::OfflineWaiters => {
                (if waiters_hide { Class::Kept } else { class(machine, State::Offline) }, 1)
            }
            Self::HwpoisonHead => (hwpoison, block),
            Self::HwpoisonTail => (if tails_known { Class::Kept } else { hwpoison }, 1),
            Self::FalseHugetlb => (Class::User, block),
            Self::SwapCacheAlone => {
                // Without the key, makedumpfile derives PG_swapbacked only from the flag numbers of 4.10 and later.
                let known = keys.contains(Keys::SWAPBACKED) || flags.swapcache < flags.private;
                (if known { Class::Kept } else { Class::Cache }, 1)
            }
            Self::BuddyOrder | Self::BuddySlab | Self::AllOnes | Self::OwnerBits | Self::SlabOddMapping => {
                (Class::Kept, 1)
            }
        }
    }

    /// The page's image. `plain` returns the image of an ordinary state.
    pub(super) fn image(self, machine: &Machine, plain: impl Fn(State) -> PageImage) -> PageImage {
        let (flags, types) = (&machine.generation.flags, &machine.generation.types);
        let bit = |number: Option<u8>| number.map_or(0, |number| 1_u64 << number);
        let anon = plain(State::Anon);
        let kernel = plain(State::Kernel);
        match self {
            Self::MisalignedOrder => PageImage { order: Some(3), ..anon },
            Self::MisalignedHugetlb => PageImage { order: Some(4), ..plain(State::Hugetlb) },
            Self::Order63 => PageImage { order: Some(63), ..anon },
            Self::Order64 => PageImage { order: Some(64), ..anon },
            Self::ChunkEnd => PageImage { order: Some(3), ..anon },
            Self::AnonPrivate => PageImage { flags: anon.flags | bit(Some(flags.private)), ..anon },
            Self::AnonWaiters => PageImage { flags: anon.flags | bit(flags.waiters), ..anon },
            Self::OfflineWaiters => {
                let offline = plain(State::Offline);
                PageImage { flags: offline.flags | bit(flags.waiters), ..offline }
            }
            Self::BuddyOrder => PageImage { private: 11, ..plain(State::Free) },
            Self::BuddySlab => {
                let free = plain(State::Free);
                PageImage { flags: free.flags | bit(flags.slab), ..free }
            }
            Self::HwpoisonHead => {
                PageImage { flags: kernel.flags | bit(flags.hwpoison), order: Some(3), ..kernel }
            }
            Self::HwpoisonTail => {
                PageImage { second_tail_flags: bit(flags.hwpoison), order: Some(3), ..kernel }
            }
            Self::FalseHugetlb => {
                PageImage { order: Some(2), destructor: Destructor::Hugetlb, mapcount: NO_TYPE, ..kernel }
            }
            Self::AllOnes => PageImage { all_ones: true, ..kernel },
            Self::OwnerBits => PageImage { mapcount: types.offline.unwrap_or(NO_TYPE) | 0x12_3456, ..kernel },
            Self::SwapCacheAlone => PageImage {
                flags: kernel.flags | bit(Some(flags.swapcache)),
                mapping: plain(State::Cache).mapping,
                ..kernel
            },
            Self::SlabOddMapping => {
                let slab = plain(State::Slab);
                PageImage { mapping: slab.mapping | 1, ..slab }
            }
        }
    }
}

/// Passes the pages of `region` to `sink` if the region has edge cases. Returns whether it has.
pub(super) fn region(machine: &Machine, region: u64, sink: &mut impl FnMut(Extent)) -> bool {
    let Some(edges) = machine.edges else { return false };
    let start = region * REGION_FRAMES;
    let half = REGION_FRAMES / 2;
    let singles = |first: u64, pages, state| Extent { head: first, order: 0, first, pages, state };
    let huge = |head, state| Extent { head, order: 9, first: head, pages: half, state };
    if region == edges.hole_start || region == edges.hole_end {
        sink(huge(start, State::Anon));
        sink(singles(start + half, half, State::Reserved));
    } else if region == edges.no_data || region == edges.no_data + 1 {
        sink(singles(start, REGION_FRAMES, State::Cache));
    } else if region == edges.folded {
        sink(huge(start, State::Hugetlb));
        sink(huge(start + half, State::Hugetlb));
    } else if region == edges.listed {
        let mut at = start;
        for case in EDGE_CASES.iter().filter(|case| case.edge.exists(machine)) {
            let (head, pages) = (start + case.offset, 1 << case.order);
            sink(singles(at, head - at, State::Kernel));
            sink(Extent { head, order: case.order, first: head, pages, state: State::Edge(case.edge) });
            at = head + pages;
        }
        sink(singles(at, start + REGION_FRAMES - at, State::Kernel));
    } else if edges.crossing == Some(region) {
        sink(singles(start, half, State::Kernel));
        sink(Extent { head: start + half, order: 10, first: start + half, pages: half, state: State::Free });
    } else if edges.crossing.is_some_and(|crossing| crossing + 1 == region) {
        sink(singles(start, REGION_FRAMES, State::Kernel));
    } else {
        return false;
    }
    true
}

/// Whether `frames` overlaps the regions from the first to the last edge case.
pub(super) fn touches(machine: &Machine, frames: PfnRange) -> bool {
    let Some(edges) = machine.edges else { return false };
    let last = edges.crossing.map_or(edges.folded, |crossing| crossing + 1);
    let first = edges.hole_start * REGION_FRAMES;
    frames.start.as_u64() < (last + 1) * REGION_FRAMES && first < frames.end.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_sorted_and_fit_their_region() {
        let mut at = 0;
        for case in EDGE_CASES {
            assert!(case.offset >= at, "{:?}", case.edge);
            at = case.offset + (1 << case.order);
        }
        assert!(at <= REGION_FRAMES);
    }
}
