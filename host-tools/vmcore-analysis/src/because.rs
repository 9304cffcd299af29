//! The words that reports share: why a frame is kept or left out, and which frames.

use crate::reference::{FrameDecision, KeptBecause};
use scanner_core::PfnRange;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// Ranges that a report lists; what is more is only counted.
pub const MAX_RANGES: usize = 1000;

/// What becomes of a frame by the rules, in one sentence without a full stop.
pub fn because(decision: &FrameDecision) -> String {
    match decision {
        FrameDecision::Excluded(exclusion) => {
            format!("left out as {} by {}", exclusion.class, exclusion.rule)
        }
        FrameDecision::Kept(why) => match why {
            KeptBecause::Rule(rule) => format!("kept by {rule}"),
            KeptBecause::NotScanned => "kept: no struct page is looked at, at this level".to_owned(),
            KeptBecause::NoFileData => {
                "kept: the image has no data for it, so it is not looked at".to_owned()
            }
            KeptBecause::NoStructPage => "kept: it has no struct page".to_owned(),
            KeptBecause::SectionDamaged(error) => format!("kept: {error}"),
            KeptBecause::Unreadable(error) => format!("kept: its struct page can't be read: {error}"),
        },
    }
}

/// Frames in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames(pub PfnRange);

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Frames", 2)?;
        fields.serialize_field("start", &self.0.start.as_u64())?;
        fields.serialize_field("end", &self.0.end.as_u64())?;
        fields.end()
    }
}

impl std::fmt::Display for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}", self.0);
        f.pad(&text)
    }
}
