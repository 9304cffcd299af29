use super::*;
use proptest::prelude::*;
use std::string::ToString;

const INFO: Info = Info { bitmap: 0x1000_0000, bitmap_size: 0x8000, user_pages: 7, ..Info::NO_BITMAP };

fn refused(info: Info) -> &'static str {
    assert_eq!(info.encode(&mut [0; 64]), Info::decode(&info.to_bytes()).map(|_| 64));
    Info::decode(&info.to_bytes()).unwrap_err().field
}

#[test]
fn an_info_comes_back_as_it_was() {
    let info = Info {
        version: 1,
        bitmap: 0x1234_5000,
        bitmap_size: 4097,
        cache_pages: 1,
        cache_private_pages: 2,
        user_pages: 3,
        free_pages: 4,
        hwpoison_pages: u64::MAX,
    };
    let mut bytes = [0xff; 80];
    assert_eq!(info.encode(&mut bytes), Ok(64));
    assert_eq!(Info::decode(&bytes), Ok(info));
    assert_eq!(bytes[64..], [0xff; 16]);
}

#[test]
fn no_bitmap_is_no_error() {
    let mut bytes = [0; 64];
    Info::NO_BITMAP.encode(&mut bytes).unwrap();
    let info = Info::decode(&bytes).unwrap();
    assert!(!info.has_bitmap());
    assert_eq!(info.frames(), 0);
}

#[test]
fn a_bitmap_has_an_address_and_a_size() {
    let info = |bitmap, bitmap_size| Info { bitmap, bitmap_size, ..Info::NO_BITMAP };
    for (bitmap, size, frames) in [(0x1000, 2, 16), (0x1000, 0, 0), (0, 2, 0), (0, 0, 0)] {
        assert_eq!(info(bitmap, size).has_bitmap(), frames != 0, "{bitmap:#x} {size}");
        assert_eq!(info(bitmap, size).frames(), frames, "{bitmap:#x} {size}");
        assert!(Info::decode(&info(bitmap, size).to_bytes()).is_ok());
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let mut bytes = INFO.to_bytes();
    bytes[0] = 4;
    let error = Info::decode(&bytes).unwrap_err();
    assert!(error.is_newer_version());
    assert_eq!(error.to_string(), "version: expected 1, found 4");
    assert_eq!(refused(Info { version: 0, ..INFO }), "version");
}

#[test]
fn a_bitmap_outside_physical_memory_is_refused() {
    assert_eq!(refused(Info { bitmap: (1 << 52) - 0x7fff, ..INFO }), "bitmap");
    assert_eq!(refused(Info { bitmap: u64::MAX, ..INFO }), "bitmap");
    assert_eq!(refused(Info { bitmap_size: MAX_BITMAP_SIZE + 1, ..INFO }), "bitmap_size");
}

#[test]
fn a_bitmap_that_just_fits_into_physical_memory_is_accepted() {
    for info in [
        Info { bitmap: (1 << 52) - 0x8000, ..INFO },
        Info { bitmap: 1, bitmap_size: MAX_BITMAP_SIZE, ..INFO },
        Info { bitmap: 1, bitmap_size: 1, ..INFO },
    ] {
        assert_eq!(Info::decode(&info.to_bytes()), Ok(info));
    }
    // A bit for each of 2^40 frames.
    assert_eq!(MAX_BITMAP_SIZE, 1 << 37);
}

#[test]
fn counters_are_recorded_as_makedumpfile_sorts_them() {
    let mut counters = Counters::default();
    for (pages, class) in [10, 20, 30, 40, 50, 60, 70].into_iter().zip(PageClass::ALL) {
        counters.add(class, pages);
    }
    let mut info = INFO;
    info.set_counters(&counters);
    let recorded =
        [info.free_pages, info.cache_pages, info.cache_private_pages, info.user_pages, info.hwpoison_pages];
    // Unaccepted pages are free ones; offline pages have no field.
    assert_eq!(recorded, [10 + 20, 30, 40, 50, 60]);
    assert_eq!((info.bitmap, info.bitmap_size, info.version), (INFO.bitmap, INFO.bitmap_size, 1));
}

#[test]
fn every_truncation_is_seen() {
    let bytes = INFO.to_bytes();
    for len in 0..bytes.len() {
        assert!(Info::decode(&bytes[..len]).unwrap_err().is_truncated());
        assert!(INFO.encode(&mut bytes.to_vec()[..len]).unwrap_err().is_truncated());
    }
}

#[test]
fn what_decode_would_refuse_is_not_encoded() {
    let mut bytes = [0x55; 64];
    assert_eq!(Info { version: 2, ..INFO }.encode(&mut bytes).unwrap_err().field, "version");
    assert_eq!(bytes, [0x55; 64]);
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same(raw in any::<[u8; 60]>()) {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&1u32.to_le_bytes());
        bytes[8..].copy_from_slice(&raw[4..]);
        // Half of the cases get an address that can be valid.
        if raw[0] & 1 == 0 {
            bytes[13..16].fill(0);
            bytes[8] &= 0xf8;
            bytes[20..24].fill(0);
        }
        if let Ok(info) = Info::decode(&bytes) {
            let mut again = [0xff; 64];
            prop_assert_eq!(info.encode(&mut again), Ok(64));
            prop_assert_eq!(again, bytes);
        }
    }
}
