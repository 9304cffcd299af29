//! What each page of a machine is used for. Any region can be asked for by itself, in any order.

use super::classes::{Class, ClassCounts, class};
use super::edge;
use super::generation::KernelGeneration;
use super::machine::{Machine, Profile, REGION_FRAMES};
use super::page::{Extent, State};
use super::rng::Rng;
use scanner_core::{PAGE_SHIFT, Pfn, PfnRange};

/// Frames of a 2 MiB and of a 1 GiB page, as orders.
const ORDER_2M: u8 = 9;
const ORDER_1G: u8 = 18;

/// One way to use memory: how often, what for, and in blocks (or runs of single pages) of which orders.
type Use = (u64, State, u8, u8);

const FREE: &[Use] = &[(1, State::Free, 10, 10)];
const FREE_PIECES: &[Use] = &[
    (50, State::Free, 0, 9),
    (3, State::PerCpuFree, 0, 3),
    (15, State::Cache, 0, 4),
    (15, State::Anon, 0, 4),
    (10, State::Kernel, 0, 3),
    (7, State::Slab, 0, 3),
];
const ANON: &[Use] = &[
    (90, State::Anon, 0, 6),
    (3, State::AnonIsolated, 0, 2),
    (4, State::Ksm, 0, 2),
    (3, State::PageTable, 0, 0),
];
const HUGE_ANON: &[Use] = &[(1, State::Anon, ORDER_2M, ORDER_2M)];
const CACHE: &[Use] = &[
    (85, State::Cache, 0, 6),
    (8, State::Shmem, 0, 5),
    (4, State::CacheBatch, 0, 3),
    (3, State::SwapCache, 0, 2),
];
/// Never a folio of more than one page.
const SINGLE_CACHE: &[Use] = &[
    (60, State::Cache, 0, 1),
    (20, State::CachePrivate, 0, 1),
    (12, State::Shmem, 0, 1),
    (4, State::CacheBatch, 0, 1),
    (4, State::SwapCache, 0, 1),
];
const CACHE_PRIVATE: &[Use] = &[(70, State::CachePrivate, 0, 4), (30, State::Cache, 0, 4)];
const KERNEL: &[Use] = &[
    (50, State::Slab, 0, 3),
    (15, State::PageTable, 0, 1),
    (25, State::Kernel, 0, 5),
    (5, State::Movable, 0, 2),
    (5, State::PerCpuFree, 0, 2),
];
const HUGETLB: &[Use] = &[(1, State::Hugetlb, ORDER_2M, ORDER_2M)];
const BROKEN: &[Use] = &[
    (20, State::Hwpoison, 0, 1),
    (40, State::Offline, 0, 6),
    (20, State::Kernel, 0, 3),
    (20, State::Anon, 0, 3),
];
const UNACCEPTED: &[Use] = &[(1, State::Unaccepted, 10, 10)];

/// Frames of the regions that are not free just after boot, besides the kernel's own data: kernel, slab, page cache, the
/// first processes. They don't grow with the machine, but a small one has no more than a sixteenth of its memory in use so.
const FRAMES_AFTER_BOOT: u64 = 2 << (30 - PAGE_SHIFT);

/// How a profile divides its regions.
fn regions_of(profile: Profile) -> &'static [(u64, &'static [Use])] {
    match profile {
        Profile::Idle => &[(252, FREE), (2, KERNEL), (1, CACHE), (1, FREE_PIECES)],
        // What is not free of a machine just after boot; see `FRAMES_AFTER_BOOT`.
        Profile::Booted => &[(6, KERNEL), (6, CACHE), (3, ANON), (1, FREE_PIECES)],
        Profile::Busy => {
            &[(35, ANON), (15, HUGE_ANON), (25, CACHE), (5, CACHE_PRIVATE), (12, KERNEL), (8, HUGETLB)]
        }
        Profile::Crowded => &[(50, ANON), (38, SINGLE_CACHE), (12, KERNEL)],
        Profile::Mixed => &[
            (20, FREE),
            (20, FREE_PIECES),
            (15, ANON),
            (10, HUGE_ANON),
            (12, CACHE),
            (5, CACHE_PRIVATE),
            (8, KERNEL),
            (5, HUGETLB),
            (3, BROKEN),
            (2, UNACCEPTED),
        ],
    }
}

/// Hands the pages of region `region` to `sink`, ascending; frames without memory are left out.
pub(super) fn region(machine: &Machine, region: u64, sink: &mut impl FnMut(Extent)) {
    let start = region * REGION_FRAMES;
    let window = PfnRange::from_start(Pfn::new(start), REGION_FRAMES);
    let ram: u64 = machine.ram.within(window).map(PfnRange::len).sum();
    if edge::region(machine, region, sink) {
        return;
    }
    let taken = machine.reserved.within(window).next().is_some();
    if ram < REGION_FRAMES || taken || machine.not_online.contains(window.start) {
        let state = if machine.not_online.contains(window.start) { State::Unset } else { State::Reserved };
        for part in machine.ram.within(window) {
            sink(Extent::singles(part.start.as_u64(), part.len(), state));
        }
        return;
    }
    let gigabyte = start >> ORDER_1G;
    if is_gigantic(machine, gigabyte) {
        let head = gigabyte << ORDER_1G;
        sink(Extent { head, order: ORDER_1G, first: start, pages: REGION_FRAMES, state: State::Hugetlb });
        return;
    }
    let mut rng = Rng::new(machine.spec.seed, 1, region);
    let uses = if is_free_after_boot(machine, &mut rng) {
        FREE
    } else {
        pick(&mut rng, regions_of(machine.spec.profile).iter().map(|&(weight, uses)| (weight, uses)))
    };
    fill(machine.generation, start, REGION_FRAMES, uses, &mut rng, sink);
}

/// Whether a region is one that nobody has used since boot, if that is what the machine is like.
fn is_free_after_boot(machine: &Machine, rng: &mut Rng) -> bool {
    let frames = machine.spec.memory >> PAGE_SHIFT;
    machine.spec.profile == Profile::Booted && rng.below(frames) >= FRAMES_AFTER_BOOT.min(frames / 16)
}

/// Fills `count` frames from `start` on.
fn fill(
    generation: &KernelGeneration,
    start: u64,
    count: u64,
    uses: &[Use],
    rng: &mut Rng,
    sink: &mut impl FnMut(Extent),
) {
    let (mut at, end) = (start, start + count);
    while at < end {
        let (state, min, max) =
            pick(rng, uses.iter().map(|&(weight, state, min, max)| (weight, (state, min, max))));
        let (state, min) = if exists(state, generation) { (state, min) } else { (State::Kernel, 0) };
        let wanted = u64::from(min) + rng.below(u64::from(max - min) + 1);
        let room = (end - at).ilog2().min(at.trailing_zeros());
        let order = wanted.min(u64::from(room)) as u8;
        if is_block(state, order, generation, rng) {
            sink(Extent::block(at, order, state));
        } else {
            sink(Extent::singles(at, 1 << order, state));
        }
        at += 1 << order;
    }
}

/// Whether `1 << order` pages of this state are one block, rather than as many single pages.
fn is_block(state: State, order: u8, generation: &KernelGeneration, rng: &mut Rng) -> bool {
    match state {
        State::Free | State::Unaccepted | State::Hugetlb => true,
        State::Slab => order > 0,
        State::Kernel => order > 0 && order <= 3 && rng.below(2) == 0,
        State::Anon => order == ORDER_2M && generation.huge_anon,
        State::Cache => order >= 2 && generation.large_folios && rng.below(3) == 0,
        _ => false,
    }
}

/// Whether the generation knows the state.
fn exists(state: State, generation: &KernelGeneration) -> bool {
    match state {
        State::Unaccepted => generation.types.unaccepted.is_some(),
        State::Offline => generation.types.offline.is_some(),
        State::Hwpoison => generation.flags.hwpoison.is_some(),
        _ => true,
    }
}

/// Whether a gigabyte of memory is one hugetlb page.
fn is_gigantic(machine: &Machine, gigabyte: u64) -> bool {
    let frames = PfnRange::from_start(Pfn::new(gigabyte << ORDER_1G), 1 << ORDER_1G);
    let wanted = match machine.spec.profile {
        Profile::Idle | Profile::Booted | Profile::Crowded => false,
        Profile::Busy | Profile::Mixed => Rng::new(machine.spec.seed, 2, gigabyte).below(6) == 0,
    };
    wanted
        && machine.generation.huge_anon
        && machine.ram.within(frames).next().is_some_and(|part| part.len() == frames.len())
        && machine.reserved.within(frames).next().is_none()
        && machine.nodes.iter().any(|node| node.intersection(frames).len() == frames.len())
        && frames.intersection(machine.not_online).is_empty()
        && !edge::touches(machine, frames)
}

fn pick<T>(rng: &mut Rng, choices: impl Iterator<Item = (u64, T)> + Clone) -> T {
    let total = choices.clone().map(|(weight, _)| weight).sum();
    let mut left = rng.below(total);
    for (weight, choice) in choices {
        if left < weight {
            return choice;
        }
        left -= weight;
    }
    unreachable!("a number below the sum of all weights belongs to one of them")
}

/// Adds an extent to the counts that a filter has to come to.
pub(super) fn count(machine: &Machine, extent: &Extent, counts: &mut ClassCounts) {
    let (class, pages) = match extent.state {
        State::Edge(edge) => edge.expected(machine, 1 << extent.order),
        state => (class(machine, state), 1 << extent.order),
    };
    let counter = match class {
        Class::Kept => return,
        Class::Cache => &mut counts.cache,
        Class::CachePrivate => &mut counts.cache_private,
        Class::User => &mut counts.user,
        Class::Free => &mut counts.free,
        Class::Hwpoison => &mut counts.hwpoison,
        Class::Offline => &mut counts.offline,
    };
    if extent.order == 0 {
        let frames = PfnRange::from_start(Pfn::new(extent.first), extent.pages);
        *counter += machine.backed.within(frames).map(PfnRange::len).sum::<u64>();
    } else if extent.first == extent.head && machine.backed.contains(Pfn::new(extent.head)) {
        *counter += pages;
    }
}
