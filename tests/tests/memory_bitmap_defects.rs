//! Unusable bitmaps in memory: each is rejected with its reason, and no page is lost.

use core::mem::offset_of;
use cross_tests::overlay::{MACHINE, OverlayImage, Site, by_address, kept, pieces};
use page_filter::bitmap_file::{BitmapFile, Info};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{MemoryBitmap, Request};
use proptest::prelude::*;
use scanner_core::info::v2::{ChunkEntry, Header, LEVEL_NOT_RECORDED, RecordedRules, State};
use scanner_core::{DumpLevel, RuleSet};
use vmcore::image::MemoryImage;

const REQUEST: Request = Request { level: DumpLevel::all(), rules: RuleSet::Makedumpfile };

/// The reason why the bitmap at the default site of `image` is rejected.
fn reason(image: &dyn MemoryImage, request: Request) -> String {
    let machine = Machine::new(image, request.rules).unwrap();
    match MemoryBitmap::new(&machine, &by_address(MACHINE.site.at), request) {
        Ok(found) => format!("not refused: {}", found.report()),
        Err(error) => error.in_one_line(),
    }
}

/// The valid bitmap of version 2 with the header changed by `change`.
fn with_header(change: impl FnOnce(&mut Header)) -> BitmapFile {
    let mut file = MACHINE.v2.clone();
    if let Info::V2(header) = &mut file.info {
        change(header);
    }
    file
}

fn with_bitmap(file: &BitmapFile) -> OverlayImage<'_> {
    with_bitmap_at(file, MACHINE.site)
}

fn with_bitmap_at(file: &BitmapFile, site: Site) -> OverlayImage<'_> {
    OverlayImage::new(&*MACHINE.image).put_all(pieces(file, site))
}

#[test]
fn bitmaps_of_another_request_or_machine_are_rejected() {
    let refused = |file: &BitmapFile, request: Request, why: &str| {
        let said = reason(&with_bitmap(file), request);
        assert!(said.contains(why) && said.starts_with("--bitmap-address: at 0x"), "{why}: {said}");
    };
    let of = |change: fn(&mut Header)| with_header(change);
    refused(&of(|h| h.dump_level = 15), REQUEST, "its dump level is 15, not 31");
    refused(&of(|h| h.dump_level = 17), REQUEST, "its dump level is 17, not 31");
    refused(&MACHINE.v2, Request { level: DumpLevel::USER, ..REQUEST }, "its dump level is 31, not 8");
    refused(
        &MACHINE.v2,
        Request { rules: RuleSet::Kernel, ..REQUEST },
        "its rules are those of makedumpfile, not of kernel",
    );
    refused(&of(|h| h.set_kernel_release("6.12.1")), REQUEST, "its kernel is 6.12.1, the image's is");
    refused(&of(|h| h.vmcoreinfo_crc ^= 1), REQUEST, "its VMCOREINFO is that of another boot");
    refused(
        &of(|h| {
            h.state = State::Empty;
            h.scanned_up_to = 0;
        }),
        REQUEST,
        "it is stale: it was set up, but the scan of this crash never began",
    );
    refused(
        &of(|h| {
            h.state = State::Scanning;
            h.scanned_up_to = 0;
        }),
        REQUEST,
        "its scan has decided about no page (state scanning)",
    );
    refused(&of(|h| h.user_pages += 1), REQUEST, "pages are counted as excluded, but");
    let other_build = of(|h| h.set_build_id(&[7; 20]));
    let said = reason(&with_bitmap(&other_build).vmcoreinfo_line("BUILD-ID=0808"), REQUEST);
    assert!(
        said.contains("build id is 0707070707070707070707070707070707070707, the image's is 0808"),
        "{said}"
    );
    let without_user = DumpLevel::all().difference(DumpLevel::USER);
    let request = Request { level: without_user, ..REQUEST };
    refused(&MACHINE.v1, request, "user pages, which dump level 23 keeps");
    refused(&of(|h| h.dump_level = LEVEL_NOT_RECORDED), request, "user pages, which dump level 23 keeps");
}

#[test]
fn bitmaps_that_level_and_rules_allow_are_used() {
    for file in [
        MACHINE.v2.clone(),
        with_header(|h| h.dump_level = 30),
        with_header(|h| h.dump_level = LEVEL_NOT_RECORDED),
        with_header(|h| h.rules = RecordedRules::NotRecorded),
        with_header(|h| h.vmcoreinfo_crc = 0),
        with_header(|h| h.set_kernel_release("")),
        MACHINE.v1.clone(),
    ] {
        let said = reason(&with_bitmap(&file), REQUEST);
        assert!(said.starts_with("not refused: found by --bitmap-address"), "{said}");
    }
    // The dump itself finds zero pages while it is written, so a bitmap need not cover that bit of the level.
    let level = DumpLevel::all().difference(DumpLevel::ZERO);
    assert!(reason(&with_bitmap(&MACHINE.v2), Request { level, ..REQUEST }).starts_with("not refused"));
}

#[test]
fn invalid_structures_are_rejected() {
    let at = MACHINE.site.at;
    let refused = |image: OverlayImage<'_>, why: &str| {
        let said = reason(&image, REQUEST);
        assert!(said.contains(why), "{why}: {said}");
    };
    let healthy = || with_bitmap(&MACHINE.v2);
    let number = |offset: usize, value: u64| healthy().put(at + offset as u64, value.to_le_bytes().to_vec());
    refused(
        number(offset_of!(Header, magic), 0),
        "version: expected 1, or version 2's magic CDBITMAP, found 0",
    );
    refused(number(offset_of!(Header, version), 3), "version: expected 2, found 3");
    refused(number(offset_of!(Header, chunk_table), 512 | 5000 << 32), "chunk_count: expected 1 to 4096");
    refused(number(offset_of!(Header, first_frame), 64), "header_crc: expected ");
    refused(
        OverlayImage::new(&*MACHINE.image).put(at, b"irqpoll crash_dump_bitmap=0x1000 quiet ".repeat(20)),
        "version",
    );
    // A copied structure, or one that an earlier kernel left at another address.
    let elsewhere = pieces(&MACHINE.v2, Site { at: at + 0x1000, ..MACHINE.site });
    let copy = OverlayImage::new(&*MACHINE.image).put_all(elsewhere.clone()).put(at, elsewhere[0].1.clone());
    refused(copy, "self_address: expected");
    // Chunks.
    let outside = Site { chunks: 1 << 45, ..MACHINE.site };
    refused(with_bitmap_at(&MACHINE.v2, outside), "cannot be read: physical memory at 0x200000000000");
    refused(with_bitmap_at(&MACHINE.v1, outside), "cannot be read: physical memory at 0x200000000000");
    refused(structure_over(&MACHINE.v2, at), "chunk 0, address: expected a chunk outside");
    refused(structure_over(&MACHINE.v1, at + 8), "overlaps its structure");
    let [_, (first, bytes), ..] = &pieces(&MACHINE.v2, MACHINE.site)[..] else { panic!("there are chunks") };
    let flipped = healthy().put(*first, vec![!bytes[0]]);
    refused(flipped, "chunk 0 of the bitmap (page frames 0x0..0x8000): crc32c: expected 0x");
    let mut overlapping = pieces(&MACHINE.v2, MACHINE.site);
    overlap(&mut overlapping[0].1);
    refused(
        OverlayImage::new(&*MACHINE.image).put_all(overlapping),
        "chunk 1, address: expected a chunk that no earlier",
    );
    // Version 1: no bitmap, a bitmap that is too large, and memory that is not a bitmap.
    let v1 = |bitmap: u64, size: u64| {
        let structure = pieces(&MACHINE.v1, MACHINE.site).swap_remove(0).1;
        let numbers = [bitmap.to_le_bytes(), size.to_le_bytes()].concat();
        OverlayImage::new(&*MACHINE.image).put(at, structure).put(at + 8, numbers)
    };
    let size = MACHINE.v1.info.frames().len() / 8;
    refused(v1(0, size), "says that there is no bitmap");
    refused(v1(at + 0x8000, 1 << 36), "the machine has");
    refused(v1(at + 0x8000, 64), "it is for frames 0x0..0x200");
    refused(v1(at + 0x8000, size).put(at + 0x8000, vec![0; size as usize]), "it leaves out frame");
    refused(
        v1(at + 0x8000, size).put(at + 0x8000, vec![0xff; size as usize]),
        "pages are counted as excluded",
    );
}

/// The machine with a structure on top of its own chunks, which start at `chunks`.
fn structure_over(file: &BitmapFile, chunks: u64) -> OverlayImage<'_> {
    let mut pieces = pieces(file, Site { chunks, ..MACHINE.site });
    pieces.rotate_left(1);
    OverlayImage::new(&*MACHINE.image).put_all(pieces)
}

/// Gives chunk 1 the address of chunk 0, and corrects the checksum of the area.
fn overlap(area: &mut [u8]) {
    let header = Header::decode(area, MACHINE.site.at).unwrap();
    let first = header.chunks(area).unwrap().get(0).unwrap();
    let second = header.chunks(area).unwrap().get(1).unwrap();
    header.put_chunk(area, 1, &ChunkEntry { address: first.address, ..second }).unwrap();
    header.encode(area).unwrap();
}

#[test]
fn each_flipped_byte_of_a_structure_is_detected() {
    let area = pieces(&MACHINE.v2, MACHINE.site).swap_remove(0).1;
    for (index, byte) in (0..).zip(area) {
        let image = with_bitmap(&MACHINE.v2).put(MACHINE.site.at + index, vec![byte ^ 0x10]);
        let said = reason(&image, REQUEST);
        assert!(!said.starts_with("not refused"), "byte {index}: {said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged sealed bitmap is either rejected or unchanged in its bits.
    #[test]
    fn damage_is_detected_or_harmless(
        scribbles in proptest::collection::vec((0u64..0xc000, proptest::collection::vec(any::<u8>(), 1..40)), 1..4)
    ) {
        let mut image = with_bitmap(&MACHINE.v2);
        for (offset, bytes) in scribbles {
            image = image.put(MACHINE.site.at + offset, bytes);
        }
        let machine = Machine::new(&image, REQUEST.rules).unwrap();
        if let Ok(mut found) = MemoryBitmap::new(&machine, &by_address(MACHINE.site.at), REQUEST) {
            prop_assert!(kept(&mut found, machine.frames, 4096) == MACHINE.v2.bits);
        }
    }

    /// Version 1 has no checksum, but reading it must end for any structure.
    #[test]
    fn any_structure_of_version_1_can_be_read(numbers in any::<[u64; 7]>(), small in any::<bool>()) {
        let mask = if small { 0x1fff_ffff } else { u64::MAX };
        let bytes = numbers.iter().flat_map(|number| (number & mask).to_le_bytes());
        let structure: Vec<u8> = 1u64.to_le_bytes().into_iter().chain(bytes).collect();
        let image = OverlayImage::new(&*MACHINE.image).put(MACHINE.site.at, structure);
        let _ = reason(&image, REQUEST);
    }
}
