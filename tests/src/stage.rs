//! A minimal purgatory stage image for tests of the loader. It contains no real code.

use scanner_core::PAGE_SIZE;
use stage_loader::image::StageImage;

/// An image with one page of code and one page for the info.
///
/// # Panics
/// Panics if the loader rejects it.
pub fn image() -> StageImage {
    StageImage::parse(&image_file()).expect("an image")
}

/// The ELF file of [`image`]: an ELF header, one program header, and the page of code.
pub fn image_file() -> Vec<u8> {
    let mut file = vec![0; 64 + 56 + PAGE_SIZE];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    // ET_DYN, EM_X86_64, EV_CURRENT.
    put(16, &[3, 0, 62, 0, 1]);
    // e_phoff, and the sizes and numbers of headers from e_ehsize on.
    put(32, &[64]);
    put(52, &[64, 0, 56, 0, 1, 0, 64]);
    // PT_LOAD, readable and executable: one page from offset 120 at address 0, two pages in memory.
    put(64, &[1, 0, 0, 0, 5]);
    put(64 + 8, &120_u64.to_le_bytes());
    for (at, pages) in [(32, 1), (40, 2)] {
        put(64 + at, &(pages * PAGE_SIZE as u64).to_le_bytes());
    }
    put(120, b"code");
    file
}
