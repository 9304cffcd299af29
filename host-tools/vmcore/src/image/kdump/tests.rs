use super::*;
use crate::format::flattened;
use crate::format::kdump::UTS_FIELD;
use proptest::prelude::*;

/// A dump, put together by hand as any writer might have done it.
struct DumpBuilder {
    version: u32,
    bitmaps: u32,
    frames: u64,
    split: Option<(u64, u64)>,
    status: u32,
}

/// Every third of 70 frames exists; of those, every second is in the file. Two bitmaps, version 6.
const WHOLE: DumpBuilder = DumpBuilder { version: 6, bitmaps: 2, frames: 70, split: None, status: 0 };

fn exists(pfn: u64) -> bool {
    pfn.is_multiple_of(3)
}

fn kept(pfn: u64) -> bool {
    pfn.is_multiple_of(6)
}

const INFO: &[u8] = b"OSRELEASE=4.0\n";

impl DumpBuilder {
    fn build(&self) -> Vec<u8> {
        let header = DumpHeader {
            version: self.version,
            utsname: [[b'x'; UTS_FIELD]; 6],
            timestamp: 3,
            status: self.status,
            sub_hdr_blocks: 1,
            bitmap_blocks: self.bitmaps,
            max_mapnr: self.frames as u32,
            nr_cpus: 4,
        };
        let sub = SubHeader {
            phys_base: 0x1000,
            dump_level: 9,
            split: self.split,
            vmcoreinfo: Extent { offset: 5000, size: INFO.len() as u64 },
            max_mapnr: self.frames,
            ..SubHeader::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(BLOCK_SIZE, 0);
        bytes.extend(sub.to_bytes());
        // A field that the version does not have must not be looked at.
        let known = match self.version {
            1 => 12,
            2 => 32,
            3 => 48,
            4 => 64,
            5 => 80,
            _ => SubHeader::SIZE,
        };
        bytes[BLOCK_SIZE + known..].fill(0xff);
        bytes.resize(5000, 0);
        bytes.extend(INFO);
        bytes.resize(2 * BLOCK_SIZE, 0);
        let in_file: &dyn Fn(u64) -> bool = if self.bitmaps == 2 { &kept } else { &exists };
        for set in [&exists as &dyn Fn(u64) -> bool, in_file].into_iter().take(self.bitmaps as usize) {
            let start = bytes.len();
            bytes.resize(start + BLOCK_SIZE, 0);
            for pfn in (0..self.frames).filter(|pfn| set(*pfn)) {
                bytes[start + (pfn / 8) as usize] |= 1 << (pfn % 8);
            }
        }
        let (first, end) = self.split.unwrap_or((0, self.frames));
        let pages: Vec<u64> = (first..end).filter(|pfn| in_file(*pfn)).collect();
        let mut data_at = (bytes.len() + pages.len() * PageDesc::SIZE) as u64;
        for _ in &pages {
            bytes.extend(PageDesc { offset: data_at, size: PAGE_SIZE as u32, flags: 0 }.to_bytes());
            data_at += PAGE_SIZE as u64;
        }
        for pfn in pages {
            bytes.extend([pfn as u8 + 1; PAGE_SIZE]);
        }
        bytes
    }
}

fn open(bytes: Vec<u8>) -> Result<KdumpImage> {
    KdumpImage::from_bytes(PlainFile::InMemory(bytes))
}

fn byte(image: &KdumpImage, pfn: u64) -> Option<u8> {
    let mut bytes = [0; 2];
    // Across the middle of the page, so that it is not only its start that counts.
    image.read(PhysAddr::new(pfn * PAGE_SIZE as u64 + 2047), &mut bytes).ok()?;
    assert_eq!(bytes[0], bytes[1]);
    Some(bytes[0])
}

/// The stream of `bytes` in records of 1000 bytes, backwards.
fn flatten(bytes: &[u8]) -> Vec<u8> {
    let mut stream = flattened::header().to_vec();
    for (i, piece) in bytes.chunks(1000).enumerate().rev() {
        stream.extend(flattened::record_header(i as u64 * 1000, piece.len() as u64));
        stream.extend(piece);
    }
    stream.extend(flattened::END_RECORD);
    stream
}

#[test]
fn every_version_reads_plain_and_flattened() {
    for version in 1..=6 {
        let plain = DumpBuilder { version, ..WHOLE }.build();
        for (bytes, flattened) in [(plain.clone(), false), (flatten(&plain), true)] {
            let image = open(bytes).unwrap();
            let facts = image.facts();
            assert_eq!(facts.format, ImageFormat::Kdump { version, flattened });
            assert_eq!((facts.max_pfn, facts.exists.count()), (70, 24));
            assert_eq!(facts.backed, facts.exists);
            let filtered = facts.filtered.as_ref().unwrap();
            assert_eq!((filtered.level, filtered.kept.count()), (9, 12));
            assert_eq!(facts.vmcoreinfo.as_deref(), (version >= 3).then_some(INFO));
            for pfn in 0..200 {
                assert_eq!(byte(&image, pfn), (pfn < 70 && kept(pfn)).then_some(pfn as u8 + 1), "{pfn}");
            }
            let view = image.view(PhysAddr::new(6 * 4096 + 8), 16);
            assert_eq!(view, (!flattened).then_some(&[7; 16][..]));
        }
    }
}

#[test]
fn with_one_bitmap_every_page_that_exists_is_there() {
    let image = open(DumpBuilder { bitmaps: 1, ..WHOLE }.build()).unwrap();
    assert_eq!(byte(&image, 3), Some(4));
    assert_eq!(byte(&image, 69), Some(70));
    assert_eq!(byte(&image, 1), None);
}

#[test]
fn one_part_of_a_split_dump_has_its_own_pages() {
    let image = open(DumpBuilder { split: Some((20, 50)), ..WHOLE }.build()).unwrap();
    let there: Vec<u64> = (0..70).filter(|pfn| byte(&image, *pfn).is_some()).collect();
    assert_eq!(there, [24, 30, 36, 42, 48]);
    assert_eq!(byte(&image, 48), Some(49));
    assert_eq!(image.facts().exists.count(), 24);
}

#[test]
fn what_never_arrived_is_unreadable_and_the_rest_is_not() {
    let mut bytes = DumpBuilder { status: STATUS_INCOMPLETE, ..WHOLE }.build();
    let descriptors = 4 * BLOCK_SIZE;
    bytes[descriptors + 3 * PageDesc::SIZE..][..PageDesc::SIZE].fill(0);
    bytes.truncate(bytes.len() - 1);
    let image = open(bytes.clone()).unwrap();
    assert!(image.facts().warnings[0].contains("incomplete"));
    assert_eq!((byte(&image, 12), byte(&image, 18), byte(&image, 24)), (Some(13), None, Some(25)));
    assert_eq!(byte(&image, 66), None);
    let mut stream = flatten(&bytes);
    stream.truncate(stream.len() - 16);
    assert!(open(stream).unwrap().facts().warnings[1].contains("no end record"));
}

#[test]
fn contradictions_are_named() {
    let error = |bytes: Vec<u8>| open(bytes).err().unwrap().report();
    let mut bytes = WHOLE.build();
    bytes[BLOCK_SIZE + 96..][..8].copy_from_slice(&80_000u64.to_le_bytes());
    assert!(error(bytes).contains("don't cover the 80000 frames"));
    let mut bytes = WHOLE.build();
    bytes.truncate(3 * BLOCK_SIZE);
    assert!(error(bytes).contains("lies outside the file"));
    let mut bytes = WHOLE.build();
    bytes[BLOCK_SIZE + 40..][..8].fill(0x7f);
    assert!(error(bytes).contains("VMCOREINFO"));
    assert!(error(b"KDUMP   ".to_vec()).contains("cut off inside the header"));
    let mut bytes = WHOLE.build();
    bytes[12 + 4 * UTS_FIELD..][..8].copy_from_slice(b"aarch64\0");
    assert!(error(bytes).contains("the machine is aarch64, expected x86_64"));
    // A stream that claims a file of exabytes has no bytes to back it.
    let mut stream = flatten(&WHOLE.build());
    stream.truncate(stream.len() - 16);
    let size = 1u64 << 40;
    for (offset, value) in [(436, (size >> 14) as u32), (440, u32::MAX)] {
        stream.extend(flattened::record_header(offset, 4));
        stream.extend(value.to_le_bytes());
    }
    stream.extend(flattened::record_header(4096 + 96, 8));
    stream.extend((1u64 << 39).to_le_bytes());
    stream.extend(flattened::record_header(size, 1));
    stream.extend([0]);
    stream.extend(flattened::END_RECORD);
    assert!(error(stream).contains("lies outside the file"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        head in any::<bool>(), flat in any::<bool>(), cut in any::<prop::sample::Index>(), whole in any::<bool>(),
    ) {
        let mut bytes = WHOLE.build();
        // Most of the file is page data; most numbers are in the first bytes of the headers and descriptors.
        let places = [400..464, BLOCK_SIZE..BLOCK_SIZE + 104, 4 * BLOCK_SIZE..4 * BLOCK_SIZE + 200];
        let places: Vec<usize> = places.into_iter().flatten().collect();
        for (index, value) in changes {
            let at = if head { *index.get(&places) } else { index.index(bytes.len()) };
            bytes[at] = value;
        }
        if flat {
            bytes = flatten(&bytes);
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(image) = open(bytes) {
            for pfn in (0..100).chain([image.facts().max_pfn, Pfn::END.as_u64()]) {
                let _ = image.read(Pfn::new(pfn).addr(), &mut [0; 5000]);
                let _ = image.view(Pfn::new(pfn).addr(), 100);
            }
        }
    }
}
