//! A file seen through a few mapped windows, so that a file of any size takes little memory.
//!
//! Mapping `/proc/vmcore` as a whole would take 8 bytes of page tables for each 4 KiB of the machine: 2 GiB for each
//! TiB, in a capture kernel that may have 64 MiB. Mapping another file as a whole costs nothing at first, but every
//! page that was looked at counts as ours.

use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a window; they start at multiples of it in the file.
pub const WINDOW_BYTES: u64 = 4 << 20;
/// How many windows stay mapped.
pub const WINDOWS: usize = 5;
/// Bytes of a file of a disk that are brought into a window at once; a window has as many of them as a word has bits. The
/// kernel maps no less at a page fault.
const PIECE_BYTES: u64 = WINDOW_BYTES / u64::BITS as u64;
/// Reads of at least so many bytes are worth a window at once, smaller ones when the window is asked for again.
const WORTH_A_WINDOW: usize = 64 << 10;
/// Windows that were asked for lately, and are not mapped.
const REMEMBERED: usize = 32;
/// After so many windows in a row that could not be mapped no further one is tried.
const PATIENCE: u32 = 8;

/// What a file's bytes are when they are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory, mapped at once, as that of `/proc/vmcore`.
    Memory,
    /// A disk, of which the kernel brings into its page cache what is looked at. That can fail: windows are asked for
    /// what is needed before it is touched, and what can't be brought is left to `pread`, which names the error.
    Disk,
}

/// A file and the windows of it that are mapped. Any number of threads may read.
///
/// The hazard of [`PlainFile`](super::file::PlainFile) is that of windows too.
#[derive(Debug)]
pub struct Windows {
    file: File,
    size: u64,
    backing: Backing,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last comes first.
    mapped: Vec<Arc<Window>>,
    /// Numbers of windows, in a ring.
    asked: [Option<u64>; REMEMBERED],
    next_asked: usize,
    failed_in_a_row: u32,
}

#[derive(Debug)]
struct Window {
    number: u64,
    bytes: Mmap,
    /// A bit for each piece of [`PIECE_BYTES`] that can be touched.
    there: AtomicU64,
}

impl Window {
    /// The bytes of `range`, if the window has them all and they can be touched.
    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        let bytes = self.bytes.get(range.clone())?;
        let (first, last) = (range.start as u64 / PIECE_BYTES, (range.end.max(1) as u64 - 1) / PIECE_BYTES);
        let wanted = (u64::MAX << first) & (u64::MAX >> (u64::from(u64::BITS) - 1 - last));
        // The bit says nothing of other memory: no order is needed.
        if self.there.load(Ordering::Relaxed) & wanted != wanted {
            let start = (first * PIECE_BYTES) as usize;
            let end = self.bytes.len().min(((last + 1) * PIECE_BYTES) as usize);
            self.bytes.advise_range(Advice::PopulateRead, start, end - start).ok()?;
            self.there.fetch_or(wanted, Ordering::Relaxed);
        }
        Some(bytes)
    }
}

/// Bytes in a window, which stays mapped as long as this is there.
#[derive(Debug)]
pub struct BorrowedWindow {
    window: Arc<Window>,
    /// Lies inside.
    range: Range<usize>,
}

impl Deref for BorrowedWindow {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.window.bytes[self.range.clone()]
    }
}

impl Windows {
    /// Windows of `file`, which has `size` bytes.
    pub fn new(file: File, size: u64, backing: Backing) -> Self {
        Self { file, size, backing, state: Mutex::default() }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the file's bytes are.
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
    /// The file ends before, or can't be read.
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

    /// The first of the `len` bytes at `offset` in place: all that lie in one window, if that is mapped, or is worth it.
    pub fn borrow_bytes(&self, offset: u64, len: usize) -> Option<BorrowedWindow> {
        offset.checked_add(len as u64).filter(|end| *end <= self.size)?;
        let start = (offset % WINDOW_BYTES) as usize;
        let range = start..(start + len).min(WINDOW_BYTES as usize);
        let window = self.window(offset / WINDOW_BYTES, len)?;
        window.get(range.clone())?;
        Some(BorrowedWindow { window, range })
    }

    /// Window `number`, if it is mapped, or a read of `wanted` bytes is worth that.
    fn window(&self, number: u64, wanted: usize) -> Option<Arc<Window>> {
        {
            let mut state = self.state();
            if let Some(at) = state.mapped.iter().position(|window| window.number == number) {
                state.mapped[..=at].rotate_right(1);
                return state.mapped.first().cloned();
            }
            if state.failed_in_a_row >= PATIENCE {
                return None;
            }
            if wanted < WORTH_A_WINDOW && !state.asked.contains(&Some(number)) {
                let place = state.next_asked;
                state.asked[place] = Some(number);
                state.next_asked = (place + 1) % REMEMBERED;
                return None;
            }
        }
        // Mapping takes long, and other threads go on meanwhile. Two may map the same window: it is there twice then.
        let mapped = self.map(number);
        let mut state = self.state();
        let Ok(bytes) = mapped else {
            state.failed_in_a_row += 1;
            return None;
        };
        state.failed_in_a_row = 0;
        let there = match self.backing {
            Backing::Memory => u64::MAX,
            Backing::Disk => 0,
        };
        let window = Arc::new(Window { number, bytes, there: there.into() });
        let dropped = if state.mapped.len() >= WINDOWS { state.mapped.pop() } else { None };
        state.mapped.insert(0, Arc::clone(&window));
        // Whoever still reads from the dropped one unmaps it.
        drop(state);
        drop(dropped);
        Some(window)
    }

    fn map(&self, number: u64) -> io::Result<Mmap> {
        let start = number * WINDOW_BYTES;
        let len = WINDOW_BYTES.min(self.size - start) as usize;
        // SAFETY: The mapping is read-only and private to its window, which hands out its bytes only as long as it is
        // held. That nobody else changes the file meanwhile can't be enforced: as of a file that is mapped as a whole,
        // a change shows up as other bytes of type `u8`, for which each value is valid. A file that is cut off
        // meanwhile ends the process; see the type's documentation.
        unsafe { MmapOptions::new().offset(start).len(len).map(&self.file) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at any time, even if a thread gave up while it held it.
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
    fn a_window_is_mapped_when_it_is_worth_it() {
        let file = file(&contents());
        let windows = Windows::new(file.reopen().unwrap(), SIZE as u64, Backing::Disk);
        let mut page = [0; 4096];
        windows.read(0, &mut page).unwrap();
        assert_eq!(mapped_windows(&windows), 0, "one look at a place");
        windows.read(4096, &mut page).unwrap();
        assert_eq!(mapped_windows(&windows), 1, "a second one");
        windows.read(WINDOW_BYTES, &mut vec![0; WORTH_A_WINDOW]).unwrap();
        assert_eq!(mapped_windows(&windows), 2, "much at once");
    }

    #[test]
    fn what_is_lent_stays_although_its_window_is_dropped() {
        let contents = contents();
        let windows = Windows::new(file(&contents).reopen().unwrap(), SIZE as u64, Backing::Disk);
        let borrowed = windows.borrow_bytes(WINDOW_BYTES - WORTH_A_WINDOW as u64, WORTH_A_WINDOW).unwrap();
        windows.state().mapped.clear();
        let start = WINDOW_BYTES as usize - WORTH_A_WINDOW;
        assert!(borrowed[..] == contents[start..start + WORTH_A_WINDOW]);
        let border = windows.borrow_bytes(start as u64, 2 * WORTH_A_WINDOW).unwrap();
        assert!(border[..] == borrowed[..], "what lies in one window");
        assert!(windows.borrow_bytes(SIZE as u64 - 1, 2).is_none(), "behind the end");
        assert!(windows.borrow_bytes(u64::MAX, 2).is_none());
    }

    #[test]
    fn what_can_not_be_mapped_is_read() {
        // A pipe's end can't be mapped, nor sought; a file of /proc can only be read.
        let windows = Windows::new(File::open("/proc/self/maps").unwrap(), 1 << 20, Backing::Disk);
        let mut start = [0; 16];
        for _ in 0..2 * PATIENCE {
            windows.read(0, &mut start).unwrap();
            assert!(start.contains(&b'-'));
        }
        assert_eq!(mapped_windows(&windows), 0);
        assert_eq!(windows.state().failed_in_a_row, PATIENCE);
    }

    #[test]
    fn what_the_disk_does_not_give_is_an_error_and_no_signal() {
        let file = file(&contents());
        let windows = Windows::new(file.reopen().unwrap(), SIZE as u64, Backing::Disk);
        assert!(windows.borrow_bytes(0, WORTH_A_WINDOW).is_some());
        // As a sector that can't be read: the window is mapped, and has no bytes there.
        file.as_file().set_len(WORTH_A_WINDOW as u64).unwrap();
        assert!(windows.borrow_bytes(2 * WORTH_A_WINDOW as u64, WORTH_A_WINDOW).is_none());
        assert!(windows.read(2 * WORTH_A_WINDOW as u64, &mut [0; 4096]).is_err());
        assert!(windows.read(0, &mut [0; 4096]).is_ok());
    }

    #[test]
    fn there_are_never_more_windows_than_the_limit() {
        let file = tempfile::tempfile().unwrap();
        let size = WINDOW_BYTES * 3 * WINDOWS as u64;
        file.set_len(size).unwrap();
        let windows = Windows::new(file, size, Backing::Disk);
        let mut buffer = vec![1; WORTH_A_WINDOW];
        for number in (0..3 * WINDOWS as u64).rev() {
            windows.read(number * WINDOW_BYTES, &mut buffer).unwrap();
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(mapped_windows(&windows) <= WINDOWS);
        }
        assert_eq!(windows.state().mapped[0].number, 0, "the last one comes first");
    }

    proptest! {
        #[test]
        fn windows_show_the_file(
            reads in proptest::collection::vec((0..SIZE + 9, 0..WORTH_A_WINDOW * 2), 1..40),
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
