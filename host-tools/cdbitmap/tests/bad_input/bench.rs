//! Runs the real binary on bad input, and records its messages in a transcript.

use page_filter::bitmap_file::{BitmapFile, Info};
use rustix::fs::SeekFrom::Data;
use rustix::fs::seek;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use tempfile::TempDir;

/// Limits of every run: address space (in KiB) and CPU time (in seconds). They detect allocations for sizes in damaged
/// headers, and endless loops.
const LIMITS: &str = "ulimit -v 2097152; ulimit -t 30";

/// The working directory of `cdbitmap`, so that all paths in messages are relative, and the transcript.
pub struct Bench {
    directory: TempDir,
    transcript: String,
    /// Whether a check failed.
    wrong: bool,
}

impl Bench {
    /// Creates an empty directory.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), transcript: String::new(), wrong: false }
    }

    /// The path of `name` in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in the directory.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs `cdbitmap` with `arguments`, separated by spaces, which it must refuse: exit code 1 or 2, a message,
    /// nothing on standard output, and no changed files.
    pub fn refused(&mut self, arguments: &str) {
        self.refused_within("", arguments);
    }

    /// Does what [`refused`](Self::refused) does, with an additional limit of the shell, for example `ulimit -f 8`.
    pub fn refused_within(&mut self, limit: &str, arguments: &str) {
        let before = self.files();
        let output = self.run(limit, arguments);
        self.note(limit, arguments, &output);
        self.must(matches!(output.status.code(), Some(1 | 2)), "is not refused");
        self.must(!output.stderr.is_empty() || limit.contains("2>"), "is silent");
        self.must(output.stdout.is_empty(), "prints something");
        self.must(self.files() == before, "changes files");
    }

    /// Runs `cdbitmap` with `arguments`, which may succeed or be refused, but must not crash or exceed the limits.
    /// Returns the standard output.
    pub fn survived(&mut self, arguments: &str) -> String {
        let output = self.run("", arguments);
        self.note("", arguments, &output);
        self.must(matches!(output.status.code(), Some(0..=2)), "crashes");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `cdbitmap` with `arguments`, which must succeed. Returns the standard output.
    pub fn done(&mut self, arguments: &str) -> String {
        self.done_within("", arguments)
    }

    /// Does what [`done`](Self::done) does, with an additional limit of the shell.
    pub fn done_within(&mut self, limit: &str, arguments: &str) -> String {
        let output = self.run(limit, arguments);
        self.note(limit, arguments, &output);
        self.must(output.status.success(), "fails");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Adds a comment to the transcript.
    pub fn say(&mut self, remark: &str) {
        for line in remark.lines() {
            self.transcript += &format!("# {line}\n");
        }
    }

    /// Returns the transcript for the snapshot. Panics if a check failed.
    pub fn transcript(self) -> String {
        assert!(!self.wrong, "what is marked with !!! must not be:\n\n{}", self.transcript);
        self.transcript
    }

    fn note(&mut self, limit: &str, arguments: &str, output: &Output) {
        self.transcript += &format!("\n$ {limit} cdbitmap {arguments}\n").replace("$  ", "$ ");
        let stderr = String::from_utf8_lossy(&output.stderr);
        for line in stderr.lines().filter(|line| !line.ends_with(" ...") && !line.contains(": done in ")) {
            self.transcript += &format!("{line}\n");
        }
        self.transcript += &format!("({})\n", output.status);
        self.must(!stderr.contains("panicked"), "panics");
    }

    fn must(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.wrong = true;
            self.transcript += &format!("!!! {otherwise}\n");
        }
    }

    fn run(&self, limit: &str, arguments: &str) -> Output {
        Command::new("sh")
            .args(["-c", &format!("{LIMITS}; {limit}\nexec \"$@\""), "sh", env!("CARGO_BIN_EXE_cdbitmap")])
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .env_remove("COLUMNS")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap()
    }

    /// Names and sizes of the files in the directory.
    fn files(&self) -> BTreeSet<(PathBuf, u64)> {
        let entries = self.directory.path().read_dir().unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect()
    }
}

/// A file with many holes, in memory.
#[derive(Clone, Default)]
pub struct SparseFile {
    pages: BTreeMap<u64, Vec<u8>>,
    /// Size of the file in bytes.
    size: u64,
}

const PAGE: usize = 4096;

impl SparseFile {
    fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let mut sparse = Self { pages: BTreeMap::new(), size: file.metadata().unwrap().len() };
        let mut at = 0;
        // SEEK_DATA skips holes, and fails after the last data.
        while let Ok(data) = seek(&file, Data(at)) {
            at = data / PAGE as u64 * PAGE as u64;
            let mut page = vec![0; PAGE.min((sparse.size - at) as usize)];
            file.read_exact_at(&mut page, at).unwrap();
            if page.iter().any(|byte| *byte != 0) {
                sparse.pages.insert(at, page);
            }
            at += PAGE as u64;
        }
        sparse
    }

    /// Overwrites the bytes at `offset`.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            let page = self.pages.entry(at / PAGE as u64 * PAGE as u64).or_insert_with(|| vec![0; PAGE]);
            page[at as usize % PAGE] = *byte;
        }
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file, truncated to `size` bytes.
    pub fn cut(&self, size: u64) -> Self {
        Self { size, ..self.clone() }
    }

    /// Returns the first `size` bytes.
    pub fn first(&self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        for (&at, page) in self.pages.range(..size as u64) {
            let there = page.len().min(size - at as usize);
            bytes[at as usize..][..there].copy_from_slice(&page[..there]);
        }
        bytes
    }

    /// Writes the file to `path`.
    pub fn write(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (&at, page) in self.pages.range(..self.size) {
            let there = page.len().min((self.size - at) as usize);
            file.write_all_at(&page[..there], at).unwrap();
        }
    }
}

/// A small simulated machine without faults, and the files that `cdbitmap` makes from it.
pub struct Healthy {
    /// The ELF vmcore.
    pub core: SparseFile,
    /// Its filtered dump, kdump-compressed.
    pub kdump: Vec<u8>,
    /// Its filtered dump as a flattened stream.
    pub flattened: Vec<u8>,
    /// Its bitmap file, version 2.
    pub bitmap: Vec<u8>,
    /// Its bitmap file, version 1.
    pub bitmap_v1: Vec<u8>,
    /// Its VMCOREINFO text.
    pub vmcoreinfo: String,
}

/// Made once for all tests.
pub static HEALTHY: LazyLock<Healthy> = LazyLock::new(|| {
    let mut bench = Bench::new();
    bench.done("synth -o core -m 128M --profile idle");
    // Uncompressed, so that the sizes in the messages do not depend on an encoder.
    bench.done("dump core kdump");
    bench.done("dump core flattened -F");
    bench.done("scan core -o bitmap");
    bench.done("scan core -o bitmap_v1 --format 1");
    let read = |name| std::fs::read(bench.path(name)).unwrap();
    let core = SparseFile::read(&bench.path("core"));
    let head = core.first(2 * PAGE);
    let start = head.windows(10).position(|w| w == b"OSRELEASE=").unwrap();
    let end = start + head[start..].iter().position(|byte| *byte == 0).unwrap();
    Healthy {
        kdump: read("kdump"),
        flattened: read("flattened"),
        bitmap: timeless(&read("bitmap")),
        bitmap_v1: read("bitmap_v1"),
        vmcoreinfo: String::from_utf8(head[start..end].to_vec()).unwrap(),
        core,
    }
});

/// The bitmap file `bytes` without the times of the scan, which differ in each run.
fn timeless(bytes: &[u8]) -> Vec<u8> {
    let mut file = BitmapFile::from_bytes(bytes).unwrap();
    let Info::V2(header) = &mut file.info else { panic!("version 2 is the default") };
    (header.setup_ns, header.scan_ns, header.seal_ns) = (0, 0, 0);
    file.to_bytes().unwrap()
}

/// Returns `bytes` with `new` at `offset`.
pub fn with(bytes: &[u8], offset: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + new.len()].copy_from_slice(new);
    bytes
}
