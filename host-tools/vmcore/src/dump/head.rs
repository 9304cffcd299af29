//! The head of a dump (headers and notes), and the offsets of the parts after it.

use crate::format::kdump::{BLOCK_SIZE, bitmap_blocks};
use crate::format::kdump::{DumpHeader, Extent, SubHeader, VERSION};
use crate::identity::DumpIdentity;
use crate::image::ImageFacts;
use crate::image::notes::{CoreNotes, VMCOREINFO};
use crate::{Error, Result};
use page_codecs::Codec;
use std::ops::Range;

/// The part of a dump before the bitmaps: headers and notes.
pub struct Head {
    /// The main header.
    pub header: DumpHeader,
    /// The sub header.
    pub sub: SubHeader,
    notes: Vec<u8>,
}

impl Head {
    /// The head of a dump of `max_mapnr` frames.
    ///
    /// # Errors
    /// If the notes are too large for the header's block count.
    pub fn new(
        facts: &ImageFacts,
        identity: &DumpIdentity,
        level: u32,
        codec: Codec,
        max_mapnr: u64,
    ) -> Result<Self> {
        let mut notes = facts.notes.clone();
        let mut text = vmcoreinfo_range(&notes);
        if let (None, Some(foreign)) = (&text, &facts.vmcoreinfo) {
            // The VMCOREINFO comes from another file. Readers search the notes for it, so it gets a note.
            notes.resize(notes.len().next_multiple_of(4), 0);
            text = Some(append_vmcoreinfo(&mut notes, foreign));
        }
        let start = (BLOCK_SIZE + SubHeader::SIZE) as u64;
        let vmcoreinfo = text.map_or(Extent::default(), |text| Extent {
            offset: start + text.start as u64,
            size: text.len() as u64,
        });
        let sub_hdr_blocks = u32::try_from((SubHeader::SIZE + notes.len()).div_ceil(BLOCK_SIZE))
            .map_err(|_| Error::unusable("the image's ELF notes are too large for a dump"))?;
        let header = DumpHeader {
            version: VERSION,
            utsname: identity.utsname(),
            timestamp: identity.crash_time,
            status: codec.flag(),
            sub_hdr_blocks,
            bitmap_blocks: (2 * bitmap_blocks(max_mapnr)) as u32,
            max_mapnr: u32::try_from(max_mapnr).unwrap_or(u32::MAX),
            nr_cpus: identity.nr_cpus,
        };
        let sub = SubHeader {
            phys_base: identity.phys_base,
            dump_level: level,
            split: None,
            vmcoreinfo,
            notes: if notes.is_empty() {
                Extent::default()
            } else {
                Extent { offset: start, size: notes.len() as u64 }
            },
            erase_info: Extent::default(),
            max_mapnr,
        };
        Ok(Self { header, sub, notes })
    }

    /// The bytes before the bitmaps, with the padding. A block device can have other bytes there, so it is written too.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes().to_vec();
        bytes.resize(BLOCK_SIZE, 0);
        bytes.extend(self.sub.to_bytes());
        bytes.extend(&self.notes);
        bytes.resize((1 + self.header.sub_hdr_blocks as usize) * BLOCK_SIZE, 0);
        bytes
    }
}

/// The file offsets of the parts of a dump.
pub struct FileLayout {
    /// Offset of the 1st bitmap.
    pub bitmap1: u64,
    /// Offset of the 2nd bitmap.
    pub bitmap2: u64,
    /// Offset of the descriptors, directly after the bitmaps. The page data follow them.
    pub descriptors: u64,
}

impl FileLayout {
    /// The layout of a dump that starts with `head`.
    pub fn new(head: &Head) -> Self {
        let bitmap1 = (1 + u64::from(head.header.sub_hdr_blocks)) * BLOCK_SIZE as u64;
        let size = u64::from(head.header.bitmap_blocks) * BLOCK_SIZE as u64;
        Self { bitmap1, bitmap2: bitmap1 + size / 2, descriptors: bitmap1 + size }
    }

    /// Bytes of one bitmap, with its padding.
    pub fn bitmap_size(&self) -> u64 {
        self.bitmap2 - self.bitmap1
    }
}

/// The byte range of the VMCOREINFO text in `notes`.
fn vmcoreinfo_range(notes: &[u8]) -> Option<Range<usize>> {
    let text = CoreNotes::parse(notes).ok()?.vmcoreinfo?;
    let start = text.as_ptr().addr() - notes.as_ptr().addr();
    Some(start..start + text.len())
}

/// Appends a note with the VMCOREINFO `text` to `notes`. Returns the byte range of the text.
fn append_vmcoreinfo(notes: &mut Vec<u8>, text: &[u8]) -> Range<usize> {
    for number in [VMCOREINFO.len() as u32 + 1, text.len() as u32, 0] {
        notes.extend(number.to_le_bytes());
    }
    notes.extend(VMCOREINFO);
    notes.push(0);
    notes.resize(notes.len().next_multiple_of(4), 0);
    let start = notes.len();
    notes.extend(text);
    notes.resize(notes.len().next_multiple_of(4), 0);
    start..start + text.len()
}
