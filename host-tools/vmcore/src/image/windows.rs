//! A file that is accessed through a few mapped windows. Memory use does not depend on the file's size.
//!
//! A mapping of all of `/proc/vmcore` would take 8 bytes of page tables for each 4 KiB of the machine: 2 GiB for each
//! TiB, in a capture kernel that may have 64 MiB. A mapping of another file takes no memory initially, but every
//! accessed page counts as memory of this process.

use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a window. A window starts at a multiple of this in the file.
pub const WINDOW_BYTES: u64 = 4 << 20;
/// Maximum number of windows that stay mapped.
pub const WINDOWS: usize = 5;
/// Bytes of a window on a disk that are populated in one operation. A window has 64 pieces, one for each bit of a word.
/// The kernel's fault-around maps as much at a page fault.
const PIECE_BYTES: u64 = WINDOW_BYTES / u64::BITS as u64;
/// A read of at least this many bytes maps its window immediately. A smaller read maps it at the second request.
const MIN_MAPPED_READ: usize = 64 << 10;
/// Number of recent requests for unmapped windows that are kept.
const REQUEST_HISTORY: usize = 32;
/// After this many consecutive failures no more windows are mapped.
const MAX_MAP_FAILURES: u32 = 8;

/// The storage of a file's mapped bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory, as for `/proc/vmcore`. `mmap` maps all pages of a window immediately.
    Memory,
    /// A disk. The kernel reads it into the page cache at the first access, which can fail. So a window populates its
    /// pages before the access. If that fails, `pread` reads the bytes and returns the error.
    Disk,
}

/// A file and its mapped windows. Any number of threads may read.
///
/// The hazard of [`PlainFile`](super::file::PlainFile) also applies to windows.
#[derive(Debug)]
pub struct Windows {
    file: File,
    size: u64,
    backing: Backing,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The mapped windows, the most recently used first.
    mapped: Vec<Arc<Window>>,
    /// A ring of the numbers of recently requested unmapped windows.
    requested: [Option<u64>; REQUEST_HISTORY],
    next_request: usize,
    consecutive_failures: u32,
}

#[derive(Debug)]
struct Window {
    number: u64,
    bytes: Mmap,
    /// One bit for each piece of [`PIECE_BYTES`] that is populated.
    populated: AtomicU64,
}

impl Window {
    /// The bytes of `range`, if the window has all of them and they can be populated.
    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        let bytes = self.bytes.get(range.clone())?;
        let (first, last) = (range.start as u64 / PIECE_BYTES, (range.end.max(1) as u64 - 1) / PIECE_BYTES);
        let wanted = (u64::MAX << first) & (u64::MAX >> (u64::from(u64::BITS) - 1 - last));
        // Relaxed: no other memory depends on the bits.
        if self.populated.load(Ordering::Relaxed) & wanted != wanted {
            let start = (first * PIECE_BYTES) as usize;
            let end = self.bytes.len().min(((last + 1) * PIECE_BYTES) as usize);
            self.bytes.advise_range(Advice::PopulateRead, start, end - start).ok()?;
            self.populated.fetch_or(wanted, Ordering::Relaxed);
        }
        Some(bytes)
    }
}

/// Bytes of a window, which stays mapped as long as this value exists.
#[derive(Debug)]
pub struct BorrowedWindow {
    window: Arc<Window>,
    /// A range inside the window.
    range: Range<usize>,
}

impl Deref for BorrowedWindow {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.window.bytes[self.range.clone()]
    }
}

impl Windows {
    /// Access to `file`, which has `size` bytes. No window is mapped yet.
    pub fn new(file: File, size: u64, backing: Backing) -> Self {
        Self { file, size, backing, state: Mutex::default() }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The storage of the file.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// If the file ends before the last byte, or cannot be read.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = buf.len();
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let in_window = at % WINDOW_BYTES;
            let len = rest.len().min((WINDOW_BYTES - in_window) as usize);
            let (now, later) = rest.split_at_mut(len);
            let window = self.window(at / WINDOW_BYTES, whole);
            let range = in_window as usize..in_window as usize + len;
            match window.as_ref().and_then(|window| window.get(range)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => self.file.read_exact_at(now, at)?,
            }
            rest = later;
            at += len as u64;
        }
        Ok(())
    }

    /// Borrows the bytes at `offset`: `len` bytes, or those of them that are in the first window.
    ///
    /// `None` if the window is not mapped and `len` does not justify the cost of mapping it, or if the file has fewer
    /// bytes.
    pub fn borrow_bytes(&self, offset: u64, len: usize) -> Option<BorrowedWindow> {
        offset.checked_add(len as u64).filter(|end| *end <= self.size)?;
        let start = (offset % WINDOW_BYTES) as usize;
        let range = start..(start + len).min(WINDOW_BYTES as usize);
        let window = self.window(offset / WINDOW_BYTES, len)?;
        window.get(range.clone())?;
        Some(BorrowedWindow { window, range })
    }

    /// Window `number`, if it is mapped, or a read of `wanted` bytes justifies the cost of mapping it.
    fn window(&self, number: u64, wanted: usize) -> Option<Arc<Window>> {
        {
            let mut state = self.state();
            if let Some(at) = state.mapped.iter().position(|window| window.number == number) {
                state.mapped[..=at].rotate_right(1);
                return state.mapped.first().cloned();
            }
            if state.consecutive_failures >= MAX_MAP_FAILURES {
                return None;
            }
            if wanted < MIN_MAPPED_READ && !state.requested.contains(&Some(number)) {
                let slot = state.next_request;
                state.requested[slot] = Some(number);
                state.next_request = (slot + 1) % REQUEST_HISTORY;
                return None;
            }
        }
        // Mapping is slow, so the lock is not held and other threads continue. If two threads map the same window, it
        // is in the list twice, which costs memory only.
        let mapped = self.map(number);
        let mut state = self.state();
        let Ok(bytes) = mapped else {
            state.consecutive_failures += 1;
            return None;
        };
        state.consecutive_failures = 0;
        let populated = match self.backing {
            Backing::Memory => u64::MAX,
            Backing::Disk => 0,
        };
        let window = Arc::new(Window { number, bytes, populated: populated.into() });
        let dropped = if state.mapped.len() >= WINDOWS { state.mapped.pop() } else { None };
        state.mapped.insert(0, Arc::clone(&window));
        // Unmapping is slow, so it happens without the lock. If another thread still reads the dropped window, that
        // thread unmaps it.
        drop(state);
        drop(dropped);
        Some(window)
    }

    fn map(&self, number: u64) -> io::Result<Mmap> {
        let start = number * WINDOW_BYTES;
        let len = WINDOW_BYTES.min(self.size - start) as usize;
        // SAFETY: `map` requires that no process modifies or truncates the file while it is mapped. This code cannot
        // enforce that; it relies on the user, as for a file that is mapped as a whole (see `PlainFile`).
        // `/proc/vmcore` is the memory of the first kernel, which no longer runs. The mapping is read-only and owned by
        // its `Window`, so this process does not write the bytes, and each slice of them keeps the window alive through
        // an `Arc`. A write by another process changes the contents of a `&[u8]`, which Rust does not define. In
        // practice every value of a `u8` is valid. A truncation raises SIGBUS.
        unsafe { MmapOptions::new().offset(start).len(len).map(&self.file) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a thread that held the lock cannot leave the state inconsistent, so poisoning is ignored.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::file;
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 3 * WINDOW_BYTES as usize + 777;

    fn contents() -> Vec<u8> {
        (0..SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    fn mapped_windows(windows: &Windows) -> usize {
        windows.state().mapped.len()
    }

    #[test]
    fn large_or_repeated_reads_map_a_window() {
        let file = file(&contents());
        let windows = Windows::new(file.reopen().unwrap(), SIZE as u64, Backing::Disk);
        let mut page = [0; 4096];
        windows.read(0, &mut page).unwrap();
        assert_eq!(mapped_windows(&windows), 0, "first small read");
        windows.read(4096, &mut page).unwrap();
        assert_eq!(mapped_windows(&windows), 1, "second small read");
        windows.read(WINDOW_BYTES, &mut vec![0; MIN_MAPPED_READ]).unwrap();
        assert_eq!(mapped_windows(&windows), 2, "large read");
    }

    #[test]
    fn borrowed_bytes_keep_a_dropped_window_mapped() {
        let contents = contents();
        let windows = Windows::new(file(&contents).reopen().unwrap(), SIZE as u64, Backing::Disk);
        let borrowed = windows.borrow_bytes(WINDOW_BYTES - MIN_MAPPED_READ as u64, MIN_MAPPED_READ).unwrap();
        windows.state().mapped.clear();
        let start = WINDOW_BYTES as usize - MIN_MAPPED_READ;
        assert!(borrowed[..] == contents[start..start + MIN_MAPPED_READ]);
        let border = windows.borrow_bytes(start as u64, 2 * MIN_MAPPED_READ).unwrap();
        assert!(border[..] == borrowed[..], "only the bytes in the first window");
        assert!(windows.borrow_bytes(SIZE as u64 - 1, 2).is_none(), "after the end of the file");
        assert!(windows.borrow_bytes(u64::MAX, 2).is_none());
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_read() {
        // This file on procfs does not support mmap.
        let windows = Windows::new(File::open("/proc/self/maps").unwrap(), 1 << 20, Backing::Disk);
        let mut start = [0; 16];
        for _ in 0..2 * MAX_MAP_FAILURES {
            windows.read(0, &mut start).unwrap();
            assert!(start.contains(&b'-'));
        }
        assert_eq!(mapped_windows(&windows), 0);
        assert_eq!(windows.state().consecutive_failures, MAX_MAP_FAILURES);
    }

    #[test]
    fn an_unreadable_disk_is_an_error_and_not_a_signal() {
        let file = file(&contents());
        let windows = Windows::new(file.reopen().unwrap(), SIZE as u64, Backing::Disk);
        assert!(windows.borrow_bytes(0, MIN_MAPPED_READ).is_some());
        // Simulates an unreadable sector: the window is mapped, but its pages cannot be populated.
        file.as_file().set_len(MIN_MAPPED_READ as u64).unwrap();
        assert!(windows.borrow_bytes(2 * MIN_MAPPED_READ as u64, MIN_MAPPED_READ).is_none());
        assert!(windows.read(2 * MIN_MAPPED_READ as u64, &mut [0; 4096]).is_err());
        assert!(windows.read(0, &mut [0; 4096]).is_ok());
    }

    #[test]
    fn the_number_of_windows_is_limited() {
        let file = tempfile::tempfile().unwrap();
        let size = WINDOW_BYTES * 3 * WINDOWS as u64;
        file.set_len(size).unwrap();
        let windows = Windows::new(file, size, Backing::Disk);
        let mut buffer = vec![1; MIN_MAPPED_READ];
        for number in (0..3 * WINDOWS as u64).rev() {
            windows.read(number * WINDOW_BYTES, &mut buffer).unwrap();
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(mapped_windows(&windows) <= WINDOWS);
        }
        assert_eq!(windows.state().mapped[0].number, 0, "the most recently used window is first");
    }

    proptest! {
        #[test]
        fn reads_through_windows_return_the_contents(
            reads in proptest::collection::vec((0..SIZE + 9, 0..MIN_MAPPED_READ * 2), 1..40),
            on_disk: bool,
        ) {
            let contents = contents();
            let file = file(&contents);
            let backing = if on_disk { Backing::Disk } else { Backing::Memory };
            let windows = Windows::new(file.reopen().unwrap(), SIZE as u64, backing);
            for (offset, len) in reads {
                let mut buffer = vec![0xaa; len];
                let read = windows.read(offset as u64, &mut buffer);
                match contents.get(offset..).and_then(|rest| rest.get(..len)) {
                    Some(expected) => {
                        read.unwrap();
                        prop_assert!(buffer == expected);
                    }
                    None => prop_assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
                }
            }
        }
    }
}
