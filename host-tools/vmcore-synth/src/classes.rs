//! The page classes that a filter must find, and the number of pages in each.

use super::generation::{Compound, Keys};
use super::machine::Machine;
use super::page::State;

/// Pages of each class, as makedumpfile's report counts them at dump level 31. A page in two excluded ranges counts
/// twice, and a hole inside an excluded range counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Page cache without private data.
    pub cache: u64,
    /// Page cache with private data.
    pub cache_private: u64,
    /// User data: anonymous and hugetlb pages.
    pub user: u64,
    /// Free and unaccepted pages.
    pub free: u64,
    /// Pages with hardware errors.
    pub hwpoison: u64,
    /// Logically offline pages.
    pub offline: u64,
}

/// The class that a filter assigns to a page at dump level 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Kept,
    Cache,
    CachePrivate,
    User,
    Free,
    Hwpoison,
    Offline,
}

/// The class of a page in `state`, which is not an edge case.
pub(super) fn class(machine: &Machine, state: State) -> Class {
    let generation = machine.generation;
    let keys = generation.keys;
    match state {
        State::Free | State::Unaccepted => Class::Free,
        State::Anon | State::AnonIsolated | State::Ksm => Class::User,
        State::Cache | State::Shmem | State::SwapCache => Class::Cache,
        State::CachePrivate => Class::CachePrivate,
        State::Hugetlb => {
            let known = match generation.compound {
                Compound::LruPointers => keys.contains(Keys::FREE_HUGE_PAGE),
                _ => true,
            };
            if known { Class::User } else { Class::Kept }
        }
        State::Hwpoison if keys.contains(Keys::HWPOISON) => Class::Hwpoison,
        State::Offline if keys.contains(Keys::OFFLINE) => Class::Offline,
        _ => Class::Kept,
    }
}
