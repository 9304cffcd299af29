//! From one version of the format to the other.

use super::file::{BitmapFile, MAX_IN_MEMORY};
use super::info::Info;
use super::stopped::stopped_by;
use super::writer::ALIGNMENT;
use scanner_core::info::v2::{self, Header, NOT_COUNTED, Producer, State};
use scanner_core::info::{Version, v1};
use scanner_core::{Pfn, PfnRange};
use vmcore::frames::FrameBitmap;
use vmcore::{Error, Result};

/// A converted bitmap, and what the new version has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The bitmap in the new version.
    pub file: BitmapFile,
    /// What was recorded and is lost, one phrase each.
    pub lost: Vec<String>,
    /// What the new version could say and the old one didn't, one phrase each.
    pub unknown: Vec<String>,
}

impl BitmapFile {
    /// The same bitmap in format `version`.
    ///
    /// # Errors
    /// If the old version can't be represented in the new one.
    pub fn convert(&self, version: Version) -> Result<Conversion> {
        match (&self.info, version) {
            (Info::V2(header), Version::V1) => to_v1(header, &self.bits),
            (Info::V1(info), Version::V2) => Ok(to_v2(info, &self.bits)),
            _ => Ok(Conversion { file: self.clone(), lost: Vec::new(), unknown: Vec::new() }),
        }
    }
}

/// Frames that the bitmap of version 2 has no bit for, but that of version 1 does, are kept.
fn to_v1(header: &Header, bits: &FrameBitmap) -> Result<Conversion> {
    let frames = header.frames();
    let bytes = frames.end.as_u64().div_ceil(8);
    if bytes > MAX_IN_MEMORY {
        return Err(Error::failure(format!(
            "version 1 starts at page frame 0, and would need {bytes} bytes up to frame {:#x}",
            frames.end
        )));
    }
    let mut all = FrameBitmap::new(bytes * 8);
    all.set_range(PfnRange::from_start(Pfn::new(0), bytes * 8));
    // Version 2 starts at a multiple of 64 frames.
    let first_word = (header.first_frame / 64) as usize;
    for (index, word) in bits.words().iter().enumerate() {
        let behind = frames.len() - 64 * index as u64;
        let keep = if behind < 64 { u64::MAX << behind } else { 0 };
        if let Some(place) = all.words_mut().get_mut(first_word + index) {
            *place &= word | keep;
        }
    }
    let count = |pages: u64| if pages == NOT_COUNTED { 0 } else { pages };
    let info = v1::Info {
        version: v1::VERSION,
        bitmap: ALIGNMENT,
        bitmap_size: bytes,
        cache_pages: count(header.cache_pages),
        cache_private_pages: count(header.cache_private_pages),
        user_pages: count(header.user_pages),
        free_pages: count(header.free_pages).saturating_add(count(header.unaccepted_pages)),
        hwpoison_pages: count(header.hwpoison_pages),
    };
    let file = BitmapFile { info: Info::V1(info), bits: all };
    Ok(Conversion { file, lost: lost_in_v1(header), unknown: Vec::new() })
}

fn lost_in_v1(header: &Header) -> Vec<String> {
    let mut lost = vec!["the checksums of the structure and of each chunk".to_owned()];
    let mut note = |is: bool, what: String| {
        if is {
            lost.push(what);
        }
    };
    let counted = |pages: u64| pages != NOT_COUNTED && pages != 0;
    note(header.producer != Producer::NotRecorded, format!("the producer ({})", header.producer));
    note(header.state != State::NotRecorded, format!("the state of the scan ({})", header.state));
    if let Some(level) = header.level() {
        note(true, format!("the dump level ({level})"));
    }
    let rules = header.rules;
    note(rules != v2::RecordedRules::NotRecorded, format!("the rule set ({rules})"));
    let end = header.frames().end;
    note(
        header.first_frame != 0,
        format!("the first page frame ({:#x}); those below are kept", header.first_frame),
    );
    note(
        !end.is_aligned(3),
        format!("the exact number of page frames; those from {end} to the end of the byte are kept"),
    );
    for (name, pages) in [
        ("zero", header.zero_pages),
        ("offline", header.offline_pages),
        ("unreadable", header.unreadable_pages),
        ("unscanned", header.unscanned_pages),
        ("bad order", header.bad_order_pages),
    ] {
        note(counted(pages), format!("the number of {name} pages ({pages})"));
    }
    let unaccepted = header.unaccepted_pages;
    note(counted(unaccepted), format!("which free pages are unaccepted ({unaccepted}); they count as free"));
    let unreadable = header.first_unreadable;
    note(unreadable != 0, format!("the first address that could not be read ({unreadable:#x})"));
    if let Some(cause) = stopped_by(header) {
        note(true, format!("what stopped the scan ({cause})"));
    }
    note(
        header.setup_ns | header.scan_ns | header.seal_ns != 0,
        "the times of setup, scan and sealing".to_owned(),
    );
    note(!header.kernel_release().is_empty(), format!("the kernel release ({})", header.kernel_release()));
    note(!header.build_id().is_empty(), "the build id of the kernel".to_owned());
    note(header.vmcoreinfo_crc != 0, "the checksum of VMCOREINFO".to_owned());
    lost
}

fn to_v2(info: &v1::Info, bits: &FrameBitmap) -> Conversion {
    let header = Header {
        state: State::NotRecorded,
        cache_pages: info.cache_pages,
        cache_private_pages: info.cache_private_pages,
        user_pages: info.user_pages,
        free_pages: info.free_pages,
        hwpoison_pages: info.hwpoison_pages,
        ..Header::new(Pfn::new(0), info.frames(), v2::MAX_CHUNK_SHIFT)
    };
    let unknown = [
        "the producer",
        "how far the scan got",
        "the dump level",
        "the rule set",
        "the number of zero, offline, unaccepted, unreadable, unscanned and bad order pages",
        "the times of setup, scan and sealing",
        "the kernel release, the build id and the checksum of VMCOREINFO",
    ];
    Conversion {
        file: BitmapFile { info: Info::V2(Box::new(header)), bits: bits.clone() },
        lost: Vec::new(),
        unknown: unknown.map(str::to_owned).to_vec(),
    }
}
