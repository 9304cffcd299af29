//! Bitmap files: what is read can be described, converted and written, and reads the same again.
#![no_main]

use cdbitmap::bitmap_file::{BitmapFile, BitmapReader};
use libfuzzer_sys::fuzz_target;
use scanner_core::info::Version;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reader) = BitmapReader::from_bytes(bytes) {
        let report = reader.describe().expect("all chunks are inside the file");
        assert!(!report.to_string().is_empty());
    }
    let Ok(file) = BitmapFile::from_bytes(bytes) else { return };
    for version in [Version::V1, Version::V2] {
        // Version 1 starts at frame 0: a bitmap that starts high up would take gigabytes.
        if file.info.frames().end.as_u64() > 1 << 24 {
            return;
        }
        let converted = file.convert(version).expect("small enough").file;
        let again = BitmapFile::from_bytes(&converted.to_bytes().expect("valid")).expect("valid");
        assert_eq!(again.bits, converted.bits);
    }
});
