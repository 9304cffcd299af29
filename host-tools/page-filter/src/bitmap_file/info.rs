//! The structure that describes a bitmap, in version 1 or 2.

use scanner_core::info::{Version, v1, v2};
use scanner_core::{Pfn, PfnRange};

/// The structure that describes a bitmap, `crash_dump_bitmap_info`.
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

    /// The frames of the bitmap.
    pub fn frames(&self) -> PfnRange {
        match self {
            Self::V1(info) => PfnRange::from_start(Pfn::new(0), info.frames()),
            Self::V2(header) => header.frames(),
        }
    }
}

/// The number of excluded pages that the producer counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Number of pages.
    pub pages: u64,
    /// Whether the format and the producer count every excluded page.
    pub all: bool,
}

impl Counted {
    /// Whether the count is possible for a bitmap with `cleared` clear bits.
    pub fn agrees_with(self, cleared: u64) -> bool {
        self.pages == cleared || (self.pages < cleared && !self.all)
    }
}

impl Info {
    /// The producer's count; `None` if the producer did not finish counting.
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
                // If zero pages were not counted, the scan did not look for them, and the count is complete.
                (counts.into_iter().chain([h.zero_pages]).collect(), complete)
            }
        };
        let counts = counts.into_iter().filter(|count| *count != v2::NOT_COUNTED);
        Some(Counted { pages: counts.fold(0, u64::saturating_add), all: complete })
    }
}
