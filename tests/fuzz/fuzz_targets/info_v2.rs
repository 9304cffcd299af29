//! Version 2 of `crash_dump_bitmap_info`, with a checksum that fits, so that the checks behind it are reached.
#![no_main]

use core::mem::offset_of;
use libfuzzer_sys::fuzz_target;
use scanner_core::info::crc32c;
use scanner_core::info::v2::{Chunk, Header, MAGIC, VERSION};

fuzz_target!(|bytes: &[u8]| {
    let _ = Header::decode(bytes, 0);
    if bytes.len() < Header::SIZE {
        return;
    }
    let mut area = bytes.to_vec();
    let mut put =
        |offset: usize, number: u32| area[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
    put(offset_of!(Header, version), VERSION);
    put(offset_of!(Header, header_size), Header::SIZE as u32);
    put(offset_of!(Header, chunk_entry_size), Chunk::SIZE as u32);
    put(offset_of!(Header, header_crc), 0);
    area[..MAGIC.len()].copy_from_slice(&MAGIC);
    let Ok(size) = Header::area_size_of(&area) else { return };
    if size > area.len() {
        return;
    }
    let crc = crc32c(&area[..size]);
    area[offset_of!(Header, header_crc)..][..4].copy_from_slice(&crc.to_le_bytes());
    let at = u64::from_le_bytes(area[offset_of!(Header, self_address)..][..8].try_into().unwrap());
    if let Ok(header) = Header::decode(&area, at) {
        let mut again = area[..size].to_vec();
        again[..Header::SIZE].fill(0xff);
        assert_eq!(header.encode(&mut again), Ok(size));
        assert_eq!(again, area[..size]);
        let frames: u64 =
            (0..header.chunk_count).filter_map(|i| header.chunk_frames(i)).map(|f| f.len()).sum();
        assert_eq!(frames, header.frame_count);
    }
});
