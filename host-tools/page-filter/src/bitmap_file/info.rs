//! The structure that describes a bitmap, in either version.

use scanner_core::info::{Version, v1, v2};
use scanner_core::{Pfn, PfnRange};

/// The structure that describes a bitmap, in one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// Version 1.
    V1(v1::Info),
    /// Version 2.
    V2(Box<v2::Header>),
}

impl Info {
    /// The version of the format.
    pub fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// The frames that the bitmap stands for.
    pub fn frames(&self) -> PfnRange {
        match self {
            Self::V1(info) => PfnRange::from_start(Pfn::new(0), info.frames()),
            Self::V2(header) => header.frames(),
        }
    }
}

/// Pages that a producer has counted as excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub pages: u64,
    /// Whether the format and the producer count every page that is excluded.
    pub all: bool,
}

impl Counted {
    /// Whether a bitmap of which `cleared` bits are clear may be the one that was counted.
    pub fn agrees_with(self, cleared: u64) -> bool {
        self.pages == cleared || (self.pages < cleared && !self.all)
    }
}

impl Info {
    /// What the producer has counted; `None` as long as it was not done with it.
    pub fn counted(&self) -> Option<Counted> {
        let (counts, complete) = match self {
            // Version 1 has no room for offline pages.
            Self::V1(i) => (
                vec![i.cache_pages, i.cache_private_pages, i.user_pages, i.free_pages, i.hwpoison_pages],
                false,
            ),
            Self::V2(h) if matches!(h.state, v2::State::Empty | v2::State::Scanning) => return None,
            Self::V2(h) => {
                let counts = [
                    h.cache_pages,
                    h.cache_private_pages,
                    h.user_pages,
                    h.free_pages,
                    h.hwpoison_pages,
                    h.offline_pages,
                    h.unaccepted_pages,
                ];
                let complete = !counts.contains(&v2::NOT_COUNTED);
                // Zero pages that were not counted were not looked for.
                (counts.into_iter().chain([h.zero_pages]).collect(), complete)
            }
        };
        let counts = counts.into_iter().filter(|count| *count != v2::NOT_COUNTED);
        Some(Counted { pages: counts.fold(0, u64::saturating_add), all: complete })
    }
}
