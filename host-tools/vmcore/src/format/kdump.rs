//! The kdump-compressed format: its headers, and what its readers ([`crate::image::kdump`]) and writers
//! ([`crate::dump::kdump`]) share.
//!
//! ```text
//! block 0                              disk_dump_header
//! block 1 .. 1 + sub_hdr_size          kdump_sub_header, ELF notes behind it
//! (1 + sub_hdr_size) blocks            1st bitmap (memory that exists), 2nd bitmap (pages in the file)
//! + bitmap_blocks blocks               page_desc of each page of the 2nd bitmap, ascending
//! behind them                          page data, unaligned; the shared zero page first, if there is one
//! behind it                            erase info, if any
//! ```
//!
//! Source: makedumpfile's `diskdump_mod.h` and `IMPLEMENTATION`; header versions 1 to 6 only ever added fields.

use crate::{Error, Result};
use scanner_core::PAGE_SIZE;

/// Bytes of a block: the page size, since x86_64 has one only.
pub const BLOCK_SIZE: usize = PAGE_SIZE;

/// Blocks that one bitmap of `max_mapnr` frames takes.
pub const fn bitmap_blocks(max_mapnr: u64) -> u64 {
    max_mapnr.div_ceil(8).div_ceil(BLOCK_SIZE as u64)
}

/// The first bytes of a kdump-compressed file.
pub const SIGNATURE: &[u8; 8] = b"KDUMP   ";
/// The header version that this crate writes.
pub const VERSION: u32 = 6;

/// `status`: the file was cut short, descriptors may be missing.
pub const STATUS_INCOMPLETE: u32 = 0x8;

/// Bytes of one field of `new_utsname`, with its terminating NUL.
pub const UTS_FIELD: usize = 65;

/// Byte offsets in `disk_dump_header`.
mod dh {
    pub const SIGNATURE: usize = 0;
    pub const VERSION: usize = 8;
    pub const UTSNAME: usize = 12;
    pub const TIMESTAMP: usize = 408;
    pub const STATUS: usize = 424;
    pub const BLOCK_SIZE: usize = 428;
    pub const SUB_HDR_SIZE: usize = 432;
    pub const BITMAP_BLOCKS: usize = 436;
    pub const MAX_MAPNR: usize = 440;
    pub const NR_CPUS: usize = 460;
    pub const END: usize = 464;
}

/// Byte offsets in `kdump_sub_header`, and the version that brought the field.
mod sh {
    pub const PHYS_BASE: usize = 0;
    pub const DUMP_LEVEL: usize = 8; // 1
    pub const SPLIT: usize = 12; // 2
    pub const START_PFN: usize = 16; // 2; declared obsolete by 6
    pub const END_PFN: usize = 24; // 2; declared obsolete by 6
    pub const OFFSET_VMCOREINFO: usize = 32; // 3
    pub const SIZE_VMCOREINFO: usize = 40; // 3
    pub const OFFSET_NOTE: usize = 48; // 4
    pub const SIZE_NOTE: usize = 56; // 4
    pub const OFFSET_ERASEINFO: usize = 64; // 5
    pub const SIZE_ERASEINFO: usize = 72; // 5
    pub const START_PFN_64: usize = 80; // 6
    pub const END_PFN_64: usize = 88; // 6
    pub const MAX_MAPNR_64: usize = 96; // 6
    pub const END: usize = 104;
}

/// The fields of `disk_dump_header` that mean something; the others are remnants of diskdump and stay zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpHeader {
    /// 1 to 6.
    pub version: u32,
    /// sysname, nodename, release, version, machine, domainname.
    pub utsname: [[u8; UTS_FIELD]; 6],
    /// Seconds since the epoch.
    pub timestamp: u64,
    /// The codec's flag, [`STATUS_INCOMPLETE`], and 0x10 if vmemmap was filtered too.
    pub status: u32,
    /// Blocks of the sub header with the notes behind it.
    pub sub_hdr_blocks: u32,
    /// Blocks of all bitmaps.
    pub bitmap_blocks: u32,
    /// Frames that the bitmaps cover, as far as 32 bits go.
    pub max_mapnr: u32,
    /// CPUs of the crashed machine, as counted in the notes.
    pub nr_cpus: u32,
}

impl DumpHeader {
    /// Bytes in the file.
    pub const SIZE: usize = dh::END;

    /// Reads the header from the start of `bytes`.
    ///
    /// # Errors
    /// If it is not the header of a kdump-compressed file of version 1 to 6 with blocks of 4096 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let Some(bytes) = bytes.first_chunk::<{ dh::END }>() else {
            return Err(Error::unusable(format!(
                "cut off inside the header of a kdump-compressed file, of which {} bytes are there",
                bytes.len()
            ))
            .with_hint("Copy the dump again; was the disk full?"));
        };
        if bytes[dh::SIGNATURE..][..8] != *SIGNATURE {
            return Err(Error::unusable(
                "not a kdump-compressed file: the signature \"KDUMP   \" is missing",
            ));
        }
        let version = u32_at(bytes, dh::VERSION);
        if !(1..=VERSION).contains(&version) {
            return Err(Error::unusable(format!("header version {version} is not known"))
                .with_hint("Versions 1 to 6 of the kdump-compressed format can be read."));
        }
        let block_size = u32_at(bytes, dh::BLOCK_SIZE);
        if block_size as usize != BLOCK_SIZE {
            return Err(Error::unusable(format!(
                "block size {block_size} is not the page size of x86_64, {BLOCK_SIZE}"
            ))
            .with_hint("The dump is of another architecture, or damaged."));
        }
        let mut utsname = [[0; UTS_FIELD]; 6];
        for (field, raw) in utsname.iter_mut().zip(bytes[dh::UTSNAME..].chunks_exact(UTS_FIELD)) {
            field.copy_from_slice(raw);
        }
        Ok(Self {
            version,
            utsname,
            timestamp: u64_at(bytes, dh::TIMESTAMP),
            status: u32_at(bytes, dh::STATUS),
            sub_hdr_blocks: u32_at(bytes, dh::SUB_HDR_SIZE),
            bitmap_blocks: u32_at(bytes, dh::BITMAP_BLOCKS),
            max_mapnr: u32_at(bytes, dh::MAX_MAPNR),
            nr_cpus: u32_at(bytes, dh::NR_CPUS),
        })
    }

    /// The bytes as they stand in the file.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        put(&mut bytes, dh::SIGNATURE, SIGNATURE);
        put(&mut bytes, dh::VERSION, &self.version.to_le_bytes());
        put(&mut bytes, dh::UTSNAME, self.utsname.as_flattened());
        put(&mut bytes, dh::TIMESTAMP, &self.timestamp.to_le_bytes());
        put(&mut bytes, dh::STATUS, &self.status.to_le_bytes());
        put(&mut bytes, dh::BLOCK_SIZE, &(BLOCK_SIZE as u32).to_le_bytes());
        put(&mut bytes, dh::SUB_HDR_SIZE, &self.sub_hdr_blocks.to_le_bytes());
        put(&mut bytes, dh::BITMAP_BLOCKS, &self.bitmap_blocks.to_le_bytes());
        put(&mut bytes, dh::MAX_MAPNR, &self.max_mapnr.to_le_bytes());
        put(&mut bytes, dh::NR_CPUS, &self.nr_cpus.to_le_bytes());
        bytes
    }
}

/// A piece of the file; absent if `size` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// `kdump_sub_header`, with the defaults of what an older version does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubHeader {
    /// `phys_base` of the kernel; negative numbers are in two's complement.
    pub phys_base: u64,
    /// The dump level.
    pub dump_level: u32,
    /// If the file is one part of a split dump: the frames whose pages it holds.
    pub split: Option<(u64, u64)>,
    /// The VMCOREINFO text (3 and later).
    pub vmcoreinfo: Extent,
    /// The ELF notes (4 and later).
    pub notes: Extent,
    /// What was erased, as text (5 and later).
    pub erase_info: Extent,
    /// Frames that the bitmaps cover; before version 6 the header's 32-bit number.
    pub max_mapnr: u64,
}

impl SubHeader {
    /// Bytes in a file of version 6.
    pub const SIZE: usize = sh::END;

    /// Reads what `header.version` has of it from the start of `bytes`; bytes that are missing at the end count
    /// as zeros.
    pub fn parse(bytes: &[u8], header: &DumpHeader) -> Self {
        let mut raw = [0; sh::END];
        let there = bytes.len().min(raw.len());
        raw[..there].copy_from_slice(&bytes[..there]);

        let since = |version: u32| header.version >= version;
        let extent = |version, offset, size| {
            if since(version) {
                Extent { offset: u64_at(&raw, offset), size: u64_at(&raw, size) }
            } else {
                Extent::default()
            }
        };
        let (start, end) =
            if since(6) { (sh::START_PFN_64, sh::END_PFN_64) } else { (sh::START_PFN, sh::END_PFN) };
        let max_mapnr = if since(6) { u64_at(&raw, sh::MAX_MAPNR_64) } else { 0 };
        Self {
            phys_base: u64_at(&raw, sh::PHYS_BASE),
            dump_level: u32_at(&raw, sh::DUMP_LEVEL),
            split: (since(2) && u32_at(&raw, sh::SPLIT) != 0)
                .then(|| (u64_at(&raw, start), u64_at(&raw, end))),
            vmcoreinfo: extent(3, sh::OFFSET_VMCOREINFO, sh::SIZE_VMCOREINFO),
            notes: extent(4, sh::OFFSET_NOTE, sh::SIZE_NOTE),
            erase_info: extent(5, sh::OFFSET_ERASEINFO, sh::SIZE_ERASEINFO),
            max_mapnr: if max_mapnr != 0 { max_mapnr } else { u64::from(header.max_mapnr) },
        }
    }

    /// The bytes as they stand in a file of version 6.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut put_u64 = |offset: usize, value: u64| put(&mut bytes, offset, &value.to_le_bytes());
        put_u64(sh::PHYS_BASE, self.phys_base);
        if let Some((start, end)) = self.split {
            put_u64(sh::START_PFN, start.min(u32::MAX.into()));
            put_u64(sh::END_PFN, end.min(u32::MAX.into()));
            put_u64(sh::START_PFN_64, start);
            put_u64(sh::END_PFN_64, end);
        }
        for (extent, offset, size) in [
            (self.vmcoreinfo, sh::OFFSET_VMCOREINFO, sh::SIZE_VMCOREINFO),
            (self.notes, sh::OFFSET_NOTE, sh::SIZE_NOTE),
            (self.erase_info, sh::OFFSET_ERASEINFO, sh::SIZE_ERASEINFO),
        ] {
            put_u64(offset, extent.offset);
            put_u64(size, extent.size);
        }
        put_u64(sh::MAX_MAPNR_64, self.max_mapnr);
        put(&mut bytes, sh::DUMP_LEVEL, &self.dump_level.to_le_bytes());
        put(&mut bytes, sh::SPLIT, &u32::from(self.split.is_some()).to_le_bytes());
        bytes
    }
}

/// `page_desc`: where the data of a page are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageDesc {
    /// Bytes from the start of the file; 0 if the page was never written (an incomplete dump).
    pub offset: u64,
    /// Bytes of data.
    pub size: u32,
    /// The codec's flag.
    pub flags: u32,
}

impl PageDesc {
    /// Bytes in the file.
    pub const SIZE: usize = 24;

    /// Reads a descriptor.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        Self { offset: u64_at(bytes, 0), size: u32_at(bytes, 8), flags: u32_at(bytes, 12) }
    }

    /// The bytes as they stand in the file.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        put(&mut bytes, 0, &self.offset.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 12, &self.flags.to_le_bytes());
        bytes
    }
}

fn u32_at<const N: usize>(bytes: &[u8; N], offset: usize) -> u32 {
    bytes[offset..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at<const N: usize>(bytes: &[u8; N], offset: usize) -> u64 {
    bytes[offset..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u32) -> DumpHeader {
        let mut utsname = [[0; UTS_FIELD]; 6];
        utsname[2][..3].copy_from_slice(b"6.1");
        DumpHeader {
            version,
            utsname,
            timestamp: 1_700_000_000,
            status: 2,
            sub_hdr_blocks: 3,
            bitmap_blocks: 4,
            max_mapnr: 77,
            nr_cpus: 8,
        }
    }

    fn sub_header() -> SubHeader {
        SubHeader {
            phys_base: 0x1000_0000,
            dump_level: 31,
            split: Some((5, 1 << 33)),
            vmcoreinfo: Extent { offset: 1, size: 2 },
            notes: Extent { offset: 3, size: 4 },
            erase_info: Extent { offset: 5, size: 6 },
            max_mapnr: 1 << 34,
        }
    }

    #[test]
    fn headers_survive_the_file() {
        let header = header(6);
        assert_eq!(DumpHeader::parse(&header.to_bytes()).unwrap(), header);
        assert_eq!(SubHeader::parse(&sub_header().to_bytes(), &header), sub_header());
        let desc = PageDesc { offset: 1 << 40, size: 17, flags: 0x20 };
        assert_eq!(PageDesc::parse(&desc.to_bytes()), desc);
    }

    #[test]
    fn fields_count_only_since_their_version() {
        let bytes = sub_header().to_bytes();
        let read = |version| SubHeader::parse(&bytes, &header(version));
        assert_eq!((read(1).dump_level, read(1).split, read(1).max_mapnr), (31, None, 77));
        assert_eq!(read(2).split, Some((5, u32::MAX.into())));
        assert_eq!((read(2).vmcoreinfo.size, read(3).vmcoreinfo.size), (0, 2));
        assert_eq!((read(3).notes.size, read(4).notes.size), (0, 4));
        assert_eq!((read(4).erase_info.size, read(5).erase_info.size), (0, 6));
        assert_eq!((read(5).max_mapnr, read(6).max_mapnr), (77, 1 << 34));
    }

    #[test]
    fn foreign_headers_are_refused_by_name() {
        let error = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = header(6).to_bytes();
            change(&mut bytes);
            DumpHeader::parse(&bytes).unwrap_err().report()
        };
        assert!(error(&|b| b[0] = b'k').contains("signature"));
        assert!(error(&|b| b[dh::VERSION] = 7).contains("version 7"));
        assert!(error(&|b| b[dh::VERSION] = 0).contains("version 0"));
        assert!(error(&|b| b[dh::BLOCK_SIZE + 1] = 0x20).contains("8192"));
        assert!(DumpHeader::parse(&header(6).to_bytes()[..463]).unwrap_err().report().contains("463"));
    }
}
