//! Version 1 of `crash_dump_bitmap_info`: what decodes is written back as the same bytes, but for the padding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scanner_core::info::{probe, v1::Info};

fuzz_target!(|bytes: &[u8]| {
    let _ = probe(bytes);
    if let Ok(info) = Info::decode(bytes) {
        let mut again = [0xff; Info::SIZE];
        assert_eq!(info.encode(&mut again), Ok(Info::SIZE));
        assert_eq!(again[..4], bytes[..4]);
        assert_eq!(again[8..], bytes[8..Info::SIZE]);
    }
});
