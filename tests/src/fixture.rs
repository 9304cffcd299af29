//! The trimmed vmcores in `tests/fixtures`, and makedumpfile's bitmaps for them.
//!
//! `NAME.vmcore.zst` is a vmcore trimmed by [`trim`](crate::trim), compressed with zstd. `NAME.bitmaps.zst` is a text
//! head of `key: value` lines and an empty line, and then makedumpfile's 2nd bitmaps for dump levels 0 to 31, each of
//! `bitmap_bytes` bytes, compressed with zstd too. The binary `trim-vmcore` makes both.

use cdbitmap::frames::FrameBitmap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// How many dump levels there are.
pub const LEVELS: usize = 32;
/// What is looked at for being zero when a sparse file is written, in bytes.
const BLOCK: usize = 64 << 10;

/// A fixture, ready to be used: its vmcore is a sparse temporary file.
#[derive(Debug)]
pub struct Fixture {
    /// The vmcore.
    pub vmcore: NamedTempFile,
    /// makedumpfile's bitmaps.
    pub bitmaps: Bitmaps,
}

impl Fixture {
    /// Unpacks the fixture `name`.
    ///
    /// # Panics
    /// It can't be read, or there is no room for it.
    pub fn unpack(name: &str) -> Self {
        let compressed = File::open(path(name, "vmcore.zst")).expect("the fixture's vmcore can be opened");
        let mut vmcore = NamedTempFile::new().expect("a temporary file");
        copy_sparse(decoder(compressed), vmcore.as_file_mut()).expect("the fixture's vmcore unpacks");
        let compressed = File::open(path(name, "bitmaps.zst")).expect("the fixture's bitmaps can be opened");
        let mut bytes = Vec::new();
        decoder(compressed).read_to_end(&mut bytes).expect("the fixture's bitmaps unpack");
        Self { vmcore, bitmaps: Bitmaps::parse(&bytes).expect("the fixture's bitmaps are well-formed") }
    }

    /// The path of the vmcore.
    pub fn path(&self) -> &Path {
        self.vmcore.path()
    }
}

/// The names of all fixtures, sorted.
///
/// # Panics
/// The directory can't be read.
pub fn names() -> Vec<String> {
    let entries = directory().read_dir().expect("tests/fixtures can be read");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.expect("an entry of tests/fixtures").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".vmcore.zst").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Where the fixture `name` has the file that ends in `ending`.
pub fn path(name: &str, ending: &str) -> PathBuf {
    directory().join(format!("{name}.{ending}"))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// makedumpfile's 2nd bitmaps of one vmcore at every dump level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmaps {
    /// `OSRELEASE` of the kernel.
    pub kernel: String,
    /// The version of makedumpfile, as `makedumpfile -v` says it.
    pub makedumpfile: String,
    /// Frames that the bitmaps cover.
    pub max_mapnr: u64,
    /// The bitmaps, by level.
    pub levels: Vec<FrameBitmap>,
}

impl Bitmaps {
    /// The bytes of a file with these bitmaps, not compressed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { kernel, makedumpfile, max_mapnr, levels } = self;
        let bitmap_bytes = max_mapnr.div_ceil(8);
        let head = format!(
            "kernel: {kernel}\nmakedumpfile: {makedumpfile}\nmax_mapnr: {max_mapnr}\nbitmap_bytes: {bitmap_bytes}\n\n"
        );
        let bitmaps = levels.iter().flat_map(FrameBitmap::to_bytes);
        head.into_bytes().into_iter().chain(bitmaps).collect()
    }

    /// Reads what [`Bitmaps::to_bytes`] wrote; `None` if it did not.
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

/// Compresses what `source` has into the file `target`.
///
/// # Errors
/// Either can't be read or written.
pub fn compress(mut source: impl Read, target: &Path) -> std::io::Result<()> {
    let mut encoder = zstd::Encoder::new(File::create(target)?, 19)?;
    std::io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.flush()
}

fn decoder(compressed: File) -> impl Read {
    zstd::Decoder::new(compressed).expect("a decoder")
}

/// Copies `source` to `target`, leaving holes for blocks of zeros.
fn copy_sparse(mut source: impl Read, target: &mut File) -> std::io::Result<()> {
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
        // A page is the unit of a hole.
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
    fn bitmaps_survive_their_file() {
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
    fn a_sparse_copy_is_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let packed = directory.path().join("packed.zst");
        let mut contents = vec![0; 5 * BLOCK + 3];
        (contents[9], contents[3 * BLOCK - 1], contents[4 * BLOCK]) = (1, 2, 3);
        for tail in [0, 7] {
            *contents.last_mut().unwrap() = tail;
            compress(&contents[..], &packed).unwrap();
            let mut copy = tempfile::tempfile().unwrap();
            copy_sparse(decoder(File::open(&packed).unwrap()), &mut copy).unwrap();
            copy.rewind().unwrap();
            let mut read_back = Vec::new();
            copy.read_to_end(&mut read_back).unwrap();
            assert!(read_back == contents);
        }
    }
}
