//! Bitmap files that are damaged, of another machine, or of a future version.

use crate::bench::{Bench, HEALTHY, with};
use core::mem::offset_of;
use scanner_core::info::v2::{ChunkEntry, Header};

#[test]
fn cut_off_anywhere() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    let bitmap = &HEALTHY.bitmap;
    for (name, size) in [
        ("empty", 0),
        ("in_the_magic", 5),
        ("in_the_header", Header::SIZE - 1),
        ("in_the_table", Header::SIZE + ChunkEntry::SIZE - 1),
        ("in_the_bits", bitmap.len() - 1),
    ] {
        bench.put(name, &bitmap[..size]);
        bench.refused(&format!("convert {name} out --format 2"));
        bench.refused(&format!("dump core out --bitmap {name}"));
    }
    bench.refused("dump core out --bitmap .");
    bench.put("cut", &bitmap[..bitmap.len() / 2]);
    bench.refused("verify cut");
    bench.refused("verify cut --image core");
    bench.refused("diff cut cut");
    bench.refused("inspect cut");
    for (name, size) in [("v1_in_the_structure", 50), ("v1_in_the_bits", HEALTHY.bitmap_v1.len() - 1)] {
        bench.put(name, &HEALTHY.bitmap_v1[..size]);
        bench.refused(&format!("convert {name} out --format 2"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn headers_that_contradict_the_file_or_themselves() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    let bitmap = &HEALTHY.bitmap;
    let frames = offset_of!(Header, frame_count);
    for (name, bytes) in [
        ("magic", with(bitmap, 0, b"cdbitmap")),
        ("version_3", with(bitmap, offset_of!(Header, version), &[3])),
        ("version_0", with(bitmap, offset_of!(Header, version), &[0])),
        ("header_size", with(bitmap, offset_of!(Header, header_size), &[0xff; 4])),
        ("more_frames", with(bitmap, frames, &(1_u64 << 40).to_le_bytes())),
        ("chunk_count", with(bitmap, offset_of!(Header, chunk_count), &[0xff; 4])),
        ("chunk_table", with(bitmap, Header::SIZE, &[0xff; 8])),
        ("a_bit_flipped", with(bitmap, bitmap.len() - 1, &[!bitmap[bitmap.len() - 1]])),
        ("a_vmcore", HEALTHY.core.first(8192)),
    ] {
        bench.put(name, bytes);
        bench.refused(&format!("dump core out --bitmap {name}"));
    }
    let v1 = &HEALTHY.bitmap_v1;
    for (name, bytes) in [
        ("v1_version", with(v1, 0, &[9])),
        ("v1_address", with(v1, 8, &[0xff; 8])),
        ("v1_size", with(v1, 16, &(1_u64 << 60).to_le_bytes())),
    ] {
        bench.put(name, bytes);
        bench.refused(&format!("dump core out --bitmap {name}"));
    }
    insta::assert_snapshot!(bench.transcript());
}

#[test]
fn of_another_machine() {
    let mut bench = Bench::new();
    bench.put("bitmap_v1", &HEALTHY.bitmap_v1);
    HEALTHY.core.write(&bench.path("core"));
    for other in ["--kernel 6.1", "--five-level", "-m 512M --kernel 5.10"] {
        bench.done(&format!("synth -o other --force {other}"));
        bench.done("scan other -o bitmap --force");
        bench.refused("dump core out --bitmap bitmap");
        let verdict = bench.survived("verify bitmap --image core");
        bench.say(&verdict.lines().filter(|line| line.contains("another machine")).collect::<String>());
    }
    bench.done("synth -o other -m 16G --force");
    bench.refused("dump other out --bitmap bitmap_v1");
    // The message about a damaged image names the image, not the bitmap.
    HEALTHY.core.cut(1 << 20).write(&bench.path("cut"));
    bench.refused("verify bitmap_v1 --image cut -d 31");
    bench.refused("diff bitmap_v1 bitmap_v1 --image cut");
    insta::assert_snapshot!(bench.transcript());
}

/// A dump records its level, so a bitmap of another level must be refused.
#[test]
fn of_another_level() {
    let mut bench = Bench::new();
    HEALTHY.core.write(&bench.path("core"));
    bench.put("bitmap", &HEALTHY.bitmap);
    bench.put("bitmap_v1", &HEALTHY.bitmap_v1);
    bench.refused("dump core out --bitmap bitmap -d 1");
    bench.refused("dump core out --bitmap bitmap_v1 -d 1");
    bench.refused("dump core out --bitmap bitmap --rules kernel");
    // The zero-page bit may differ: zero pages are detected when the dump is written.
    bench.done("dump core out --bitmap bitmap -d 30");
    insta::assert_snapshot!(bench.transcript());
}
