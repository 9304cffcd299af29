//! Text that all reports share: the reason for a decision, and ranges of frames.

use crate::reference::{FrameDecision, KeptBecause};
use scanner_core::PfnRange;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// The most ranges that a report lists. Further ranges are only counted.
pub const MAX_RANGES: usize = 1000;

/// Describes the decision about a frame in one sentence, without a full stop.
pub fn because(decision: &FrameDecision) -> String {
    match decision {
        FrameDecision::Excluded(exclusion) => {
            format!("left out as {} by {}", exclusion.class, exclusion.rule)
        }
        FrameDecision::Kept(why) => match why {
            KeptBecause::Rule(rule) => format!("kept by {rule}"),
            KeptBecause::NotScanned => "kept: the rules read no struct page at this level".to_owned(),
            KeptBecause::NoFileData => "kept: not classified, the image has no data for it".to_owned(),
            KeptBecause::NoStructPage => "kept: it has no struct page".to_owned(),
            KeptBecause::SectionDamaged(error) => format!("kept: {error}"),
            KeptBecause::Unreadable(error) => format!("kept: cannot read its struct page: {error}"),
        },
    }
}

/// A range of frames in a report, as JSON `{"start", "end"}` or as text.
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
