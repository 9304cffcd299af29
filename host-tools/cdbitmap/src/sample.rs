//! The file formats of the trimmed vmcores in this program and in the test fixtures: the vmcore, compressed with zstd,
//! and makedumpfile's 2nd bitmaps for it. A file of bitmaps has a text header of `key: value` lines, an empty line, and
//! the bitmaps for dump levels 0 to 31, of `bitmap_bytes` bytes each.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use vmcore::frames::FrameBitmap;

/// Number of dump levels.
pub const LEVELS: usize = 32;
/// Size of the copy buffer, in bytes.
const BLOCK: usize = 64 << 10;

/// makedumpfile's 2nd bitmaps of one vmcore, at every dump level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmaps {
    /// `OSRELEASE` of the kernel.
    pub kernel: String,
    /// The version of makedumpfile, as `makedumpfile -v` prints it.
    pub makedumpfile: String,
    /// Number of frames in each bitmap.
    pub max_mapnr: u64,
    /// The bitmaps, indexed by dump level.
    pub levels: Vec<FrameBitmap>,
}

impl Bitmaps {
    /// Returns the uncompressed contents of a file with these bitmaps.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { kernel, makedumpfile, max_mapnr, levels } = self;
        let bitmap_bytes = max_mapnr.div_ceil(8);
        let head = format!(
            "kernel: {kernel}\nmakedumpfile: {makedumpfile}\nmax_mapnr: {max_mapnr}\nbitmap_bytes: {bitmap_bytes}\n\n"
        );
        let bitmaps = levels.iter().flat_map(FrameBitmap::to_bytes);
        head.into_bytes().into_iter().chain(bitmaps).collect()
    }

    /// Parses the result of [`Bitmaps::to_bytes`]. Returns `None` if `bytes` is not valid.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let value = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        let max_mapnr: u64 = value("max_mapnr")?.parse().ok()?;
        let bitmap_bytes: usize = value("bitmap_bytes")?.parse().ok().filter(|&n| n > 0)?;
        let levels: Vec<_> = bytes[end + 2..]
            .chunks_exact(bitmap_bytes)
            .map(|b| FrameBitmap::from_bytes(b, max_mapnr))
            .collect();
        (levels.len() == LEVELS && bitmap_bytes as u64 == max_mapnr.div_ceil(8)).then_some(Self {
            kernel: value("kernel")?.to_owned(),
            makedumpfile: value("makedumpfile")?.to_owned(),
            max_mapnr,
            levels,
        })
    }
}

/// Copies `source` to `target`, with a hole for each page of zeros.
///
/// # Errors
/// Fails if `source` cannot be read, or `target` cannot be written.
pub fn copy_sparse(mut source: impl Read, target: &mut File) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut size = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match source.read(&mut block[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return target.set_len(size);
        }
        // A hole has whole pages.
        for (at, page) in (0..).step_by(4096).zip(block[..filled].chunks(4096)) {
            if page.iter().any(|&byte| byte != 0) {
                target.seek(SeekFrom::Start(size + at))?;
                target.write_all(page)?;
            }
        }
        size += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scanner_core::{Pfn, PfnRange};

    #[test]
    fn bitmaps_are_read_as_written() {
        let mut levels = vec![FrameBitmap::new(77); LEVELS];
        for (i, level) in (0..).zip(&mut levels) {
            level.set_range(PfnRange::new(Pfn::new(i), Pfn::new(2 * i + 5)));
        }
        let makedumpfile = "makedumpfile: version 1.7.9".into();
        let bitmaps = Bitmaps { kernel: "6.1.0".into(), makedumpfile, max_mapnr: 77, levels };
        let bytes = bitmaps.to_bytes();
        assert_eq!(Bitmaps::parse(&bytes), Some(bitmaps));
        assert_eq!(Bitmaps::parse(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Bitmaps::parse(b""), None);
    }

    #[test]
    fn a_sparse_copy_has_the_same_contents() {
        let mut contents = vec![0; 5 * BLOCK + 3];
        (contents[9], contents[3 * BLOCK - 1], contents[4 * BLOCK]) = (1, 2, 3);
        for tail in [0, 7] {
            *contents.last_mut().unwrap() = tail;
            let mut copy = tempfile::tempfile().unwrap();
            copy_sparse(&contents[..], &mut copy).unwrap();
            copy.rewind().unwrap();
            let mut read_back = Vec::new();
            copy.read_to_end(&mut read_back).unwrap();
            assert!(read_back == contents);
        }
    }
}
