//! The page pipeline of a dump: reads pages, detects zero pages, compresses, and returns the data in order.
//!
//! Frames are processed in batches. With more than one thread, each idle thread compresses the next batch. The batches
//! come back in the order of the frames. All batches are allocated at the start and reused, so a slow disk slows down
//! the reads and does not increase the memory.

use super::zero::is_zero;
use crate::image::{Hole, MemoryImage};
use crate::{Error, Result};
use page_codecs::{Codec, Compressor};
use scanner_core::{PAGE_SIZE, Pfn, PhysAddr};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Frames per batch: at most 1 MiB of page data, enough for large writes even if pages compress well.
pub const BATCH: usize = 256;

/// The encoding of the pages of a dump.
#[derive(Clone, Copy, Debug)]
pub struct PageEncoding {
    /// The codec. A page that it does not make smaller is stored raw.
    pub codec: Codec,
    /// Whether all zero pages share one stored page.
    pub share_zero: bool,
}

/// The stored form of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPage {
    /// The page is zero and uses the shared zero page.
    SharedZero,
    /// The page has its own data: the next `size` bytes of the batch.
    Data {
        /// Size of the data in bytes.
        size: u32,
        /// The codec of the data.
        codec: Codec,
    },
}

/// A batch of frames with their stored pages.
pub struct FrameBatch {
    /// The frames, ascending.
    pub frames: Vec<Pfn>,
    /// The stored form of each frame.
    pub pages: Vec<StoredPage>,
    /// Frames that could not be read and are stored as zeros.
    pub unreadable: Vec<Pfn>,
    /// The buffer of the page data, of which `used` bytes are filled.
    buffer: Vec<u8>,
    used: usize,
}

impl FrameBatch {
    fn new() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH),
            pages: Vec::with_capacity(BATCH),
            unreadable: Vec::new(),
            buffer: vec![0; BATCH * PAGE_SIZE + Compressor::ROOM],
            used: 0,
        }
    }

    /// The data of all pages, concatenated.
    pub fn data(&self) -> &[u8] {
        &self.buffer[..self.used]
    }
}

/// The source of the frames, and the destination of the stored pages.
pub trait BatchIo {
    /// Adds the next frames, at most [`BATCH`], to the empty `frames`. Adds no frame if there are no more.
    ///
    /// # Errors
    /// If the next frames cannot be determined.
    fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()>;

    /// Writes a batch. The batches come in the order of their `fill` calls.
    ///
    /// # Errors
    /// If the batch cannot be written.
    fn take(&mut self, batch: &FrameBatch) -> Result<()>;
}

/// Processes all frames of `io` with `threads` compression threads. With 0 or 1 the calling thread compresses.
///
/// # Errors
/// If `io` fails, or a thread cannot be started.
pub fn run(
    image: &dyn MemoryImage,
    encoding: PageEncoding,
    threads: usize,
    io: &mut dyn BatchIo,
) -> Result<()> {
    if threads <= 1 { run_inline(image, encoding, io) } else { run_threaded(image, encoding, threads, io) }
}

fn run_inline(image: &dyn MemoryImage, encoding: PageEncoding, io: &mut dyn BatchIo) -> Result<()> {
    let mut worker = Worker::new(image, encoding);
    let mut batch = FrameBatch::new();
    loop {
        batch.frames.clear();
        io.fill(&mut batch.frames)?;
        if batch.frames.is_empty() {
            return Ok(());
        }
        worker.store(&mut batch);
        io.take(&batch)?;
    }
}

/// Number of batches for `threads` threads: for each thread a current one and a next one, and one that is being
/// written.
fn batches(threads: usize) -> usize {
    2 * threads + 1
}

fn run_threaded(
    image: &dyn MemoryImage,
    encoding: PageEncoding,
    threads: usize,
    io: &mut dyn BatchIo,
) -> Result<()> {
    let batches = batches(threads);
    let queue = BatchQueue::new(batches);
    std::thread::scope(|scope| {
        // If this thread returns or panics, the compression threads must end too.
        let _close = CloseOnDrop(&queue);
        for number in 0..threads {
            let (queue, mut worker) = (&queue, Worker::new(image, encoding));
            let work = move || {
                let _close = CloseOnDrop(queue);
                while let Some((number, mut batch)) = queue.next_job() {
                    worker.store(&mut batch);
                    queue.put_done(number, batch);
                }
            };
            std::thread::Builder::new()
                .name(format!("compress {number}"))
                .spawn_scoped(scope, work)
                .map_err(|e| {
                    Error::failure("cannot start a compression thread")
                        .because(e)
                        .with_hint("Use fewer threads.")
                })?;
        }

        let mut spare: Vec<FrameBatch> = (0..batches).map(|_| FrameBatch::new()).collect();
        loop {
            while let Some(mut batch) = spare.pop() {
                batch.frames.clear();
                io.fill(&mut batch.frames)?;
                if batch.frames.is_empty() {
                    break;
                }
                queue.put_job(batch);
            }
            match queue.next_done() {
                NextDone::Batch(batch) => {
                    io.take(&batch)?;
                    spare.push(batch);
                }
                NextDone::Empty => return Ok(()),
                NextDone::WorkerEnded => return Err(Error::failure("a compression thread panicked")),
            }
        }
    })
}

/// Passes batches to the compression threads and returns them in order.
///
/// Waiters sleep immediately. Spinning first, as most channels do, would steal CPU time from the compressing threads.
struct BatchQueue {
    state: Mutex<QueueState>,
    /// Signals a new job, or that the queue is closed.
    job: Condvar,
    /// Signals that the first batch in flight is done, or that the queue is closed.
    done: Condvar,
}

struct QueueState {
    jobs: VecDeque<(u64, FrameBatch)>,
    /// The batches in flight, starting with number `first`. `None` is a batch that is not done.
    in_flight: VecDeque<Option<FrameBatch>>,
    first: u64,
    closed: bool,
}

/// The result of [`BatchQueue::next_done`].
enum NextDone {
    Batch(FrameBatch),
    /// No batch is in flight.
    Empty,
    /// A thread ended while a batch was in flight.
    WorkerEnded,
}

impl BatchQueue {
    fn new(batches: usize) -> Self {
        let (jobs, in_flight) = (VecDeque::with_capacity(batches), VecDeque::with_capacity(batches));
        let state = QueueState { jobs, in_flight, first: 0, closed: false };
        Self { state: Mutex::new(state), job: Condvar::new(), done: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // A panic of a thread that held the lock cannot leave the state inconsistent, so poisoning is ignored.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_job(&self, batch: FrameBatch) {
        let mut state = self.state();
        let number = state.first + state.in_flight.len() as u64;
        state.in_flight.push_back(None);
        state.jobs.push_back((number, batch));
        self.job.notify_one();
    }

    /// Waits for the next job and returns it with its number. `None` if the queue is closed.
    fn next_job(&self) -> Option<(u64, FrameBatch)> {
        let is_empty = |state: &mut QueueState| state.jobs.is_empty() && !state.closed;
        let mut state = self.job.wait_while(self.state(), is_empty).unwrap_or_else(PoisonError::into_inner);
        if state.closed { None } else { state.jobs.pop_front() }
    }

    fn put_done(&self, number: u64, batch: FrameBatch) {
        let mut state = self.state();
        let index = (number - state.first) as usize;
        state.in_flight[index] = Some(batch);
        if index == 0 {
            self.done.notify_one();
        }
    }

    /// Waits until the first batch in flight is done, and returns it.
    fn next_done(&self) -> NextDone {
        let is_pending =
            |state: &mut QueueState| matches!(state.in_flight.front(), Some(None)) && !state.closed;
        let mut state =
            self.done.wait_while(self.state(), is_pending).unwrap_or_else(PoisonError::into_inner);
        match state.in_flight.pop_front() {
            Some(Some(batch)) => {
                state.first += 1;
                NextDone::Batch(batch)
            }
            Some(None) => NextDone::WorkerEnded,
            None => NextDone::Empty,
        }
    }
}

/// Closes a [`BatchQueue`] when it is dropped, also during a panic.
struct CloseOnDrop<'q>(&'q BatchQueue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.job.notify_all();
        self.0.done.notify_all();
    }
}

/// Maximum number of adjacent pages that are read in one operation. The cost of a system call or a window is then small
/// compared with the copy, and the pages are still in a CPU cache when they are compressed.
const RUN: usize = 64;

/// Compresses batches, one at a time.
struct Worker<'a> {
    image: &'a dyn MemoryImage,
    encoding: PageEncoding,
    compressor: Compressor,
    /// The buffer for a run that must be read.
    pages: Vec<[u8; PAGE_SIZE]>,
    /// The last result of [`MemoryImage::hole_at`], and its start address.
    last_hole: Option<(PhysAddr, Hole)>,
}

impl<'a> Worker<'a> {
    fn new(image: &'a dyn MemoryImage, encoding: PageEncoding) -> Self {
        let compressor = Compressor::new(encoding.codec);
        Self { image, encoding, compressor, pages: vec![[0; PAGE_SIZE]; RUN], last_hole: None }
    }

    /// Splits the `pages` pages at `first` at the next border of a hole. Returns `(true, count)` if the first `count`
    /// pages are in a hole, so that they are zeros, or `(false, count)` if they must be read.
    fn split_at_hole(&mut self, first: PhysAddr, pages: usize) -> (bool, usize) {
        let hole = match self.last_hole {
            Some((start, hole)) if (start..hole.end).contains(&first) => hole,
            _ => {
                let hole = self.image.hole_at(first);
                self.last_hole = Some((first, hole));
                hole
            }
        };
        let bytes = hole.end.as_u64().saturating_sub(first.as_u64());
        let (whole, touched) = (bytes / PAGE_SIZE as u64, bytes.div_ceil(PAGE_SIZE as u64).max(1));
        match hole.zeros {
            true if whole > 0 => (true, whole.min(pages as u64) as usize),
            // The page starts in a hole and ends outside it.
            true => (false, 1),
            false => (false, touched.min(pages as u64) as usize),
        }
    }

    /// Reads and stores the frames of `batch`.
    fn store(&mut self, batch: &mut FrameBatch) {
        let FrameBatch { frames, pages, unreadable, buffer, used } = batch;
        pages.clear();
        unreadable.clear();
        *used = 0;
        let adjacent = |a: &Pfn, b: &Pfn| b.frames_since(*a) == 1;
        for run in frames.chunk_by(adjacent).flat_map(|run| run.chunks(RUN)) {
            let mut rest = run;
            while !rest.is_empty() {
                let (zeros, count) = self.split_at_hole(rest[0].addr(), rest.len());
                if zeros {
                    for _ in 0..count {
                        let (stored, size) =
                            store_zeros(self.encoding, &mut self.compressor, &mut buffer[*used..]);
                        pages.push(stored);
                        *used += size;
                    }
                    rest = &rest[count..];
                    continue;
                }
                let now = &rest[..count];
                let borrowed = self.image.borrow_bytes(now[0].addr(), now.len() * PAGE_SIZE);
                let contents = match borrowed.as_deref().map(|bytes| bytes.as_chunks().0) {
                    Some(whole @ [_, ..]) => whole,
                    // The image cannot lend the bytes, or lends less than one page.
                    _ => {
                        read_run(self.image, now, &mut self.pages[..now.len()], unreadable);
                        &self.pages[..now.len()]
                    }
                };
                for page in contents {
                    let (stored, size) =
                        store_page(page, self.encoding, &mut self.compressor, &mut buffer[*used..]);
                    pages.push(stored);
                    *used += size;
                }
                rest = &rest[contents.len()..];
            }
        }
    }
}

/// Stores a page that is known to be zeros, without reading it.
fn store_zeros(encoding: PageEncoding, compressor: &mut Compressor, out: &mut [u8]) -> (StoredPage, usize) {
    if encoding.share_zero {
        return (StoredPage::SharedZero, 0);
    }
    store_page(&[0; PAGE_SIZE], encoding, compressor, out)
}

/// Reads the pages of the adjacent frames `run`. Pages that cannot be read become zeros and are added to `unreadable`.
fn read_run(image: &dyn MemoryImage, run: &[Pfn], pages: &mut [[u8; PAGE_SIZE]], unreadable: &mut Vec<Pfn>) {
    if image.read(run[0].addr(), pages.as_flattened_mut()).is_ok() {
        return;
    }
    for (&frame, page) in run.iter().zip(pages) {
        if image.read(frame.addr(), page).is_err() {
            page.fill(0);
            unreadable.push(frame);
        }
    }
}

/// Stores `page` at the start of `out`. Returns its stored form and the number of bytes in `out`.
fn store_page(
    page: &[u8; PAGE_SIZE],
    encoding: PageEncoding,
    compressor: &mut Compressor,
    out: &mut [u8],
) -> (StoredPage, usize) {
    if encoding.share_zero && is_zero(page) {
        return (StoredPage::SharedZero, 0);
    }
    let (size, codec) = match compressor.compress(page, out) {
        Some(size) => (size, encoding.codec),
        None => {
            out[..PAGE_SIZE].copy_from_slice(page);
            (PAGE_SIZE, Codec::Raw)
        }
    };
    (StoredPage::Data { size: size as u32, codec }, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageFacts;
    use crate::image::elf::ElfImage;
    use crate::image::file::PlainFile;
    use crate::image::raw::{MapRange, RawImage};
    use crate::image::testing::ElfBuilder;
    use crate::image::windows::{Backing, Windows};
    use page_codecs::Decompressor;
    use scanner_core::{PhysicalMemory, Unreadable};
    use std::os::unix::fs::FileExt;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Duration;

    /// Unlimited memory. Each page contains its frame number. Counts the pages read; a read of page `bad` fails.
    struct Numbers {
        read: AtomicU64,
        bad: Option<Pfn>,
        /// Duration of a read.
        delay: Duration,
    }

    impl Numbers {
        fn new(bad: Option<Pfn>) -> Self {
            Self { read: AtomicU64::new(0), bad, delay: Duration::ZERO }
        }
    }

    impl PhysicalMemory for Numbers {
        fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
            std::thread::sleep(self.delay);
            for (i, page) in (0..).zip(buf.chunks_mut(PAGE_SIZE)) {
                let pfn = addr.pfn().as_u64() + i;
                if self.bad == Some(Pfn::new(pfn)) {
                    return Err(Unreadable { addr });
                }
                page.fill(pfn as u8);
                self.read.fetch_add(1, SeqCst);
            }
            Ok(())
        }
    }

    impl MemoryImage for Numbers {
        fn facts(&self) -> &ImageFacts {
            static FACTS: LazyLock<ElfImage> = LazyLock::new(|| {
                let elf = ElfBuilder::new().load(0, PAGE_SIZE as u64, &[0]).build();
                ElfImage::from_bytes(PlainFile::InMemory(elf)).unwrap()
            });
            FACTS.facts()
        }
    }

    /// Provides `batches` batches of frames, and writes slowly.
    struct SlowDisk<'a> {
        image: &'a Numbers,
        given: u64,
        taken: u64,
        batches: u64,
        /// The maximum number of pages that were read and not written.
        most_in_flight: u64,
        unreadable: Vec<Pfn>,
    }

    impl<'a> SlowDisk<'a> {
        fn new(image: &'a Numbers, batches: u64) -> Self {
            Self { image, given: 0, taken: 0, batches, most_in_flight: 0, unreadable: Vec::new() }
        }
    }

    impl BatchIo for SlowDisk<'_> {
        fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()> {
            if self.given / (BATCH as u64) < self.batches {
                frames.extend((self.given..).take(BATCH).map(Pfn::new));
                self.given += BATCH as u64;
            }
            Ok(())
        }

        fn take(&mut self, batch: &FrameBatch) -> Result<()> {
            // Long enough for the threads to read as many pages as the pipeline allows.
            std::thread::sleep(Duration::from_millis(5));
            self.most_in_flight = self.most_in_flight.max(self.image.read.load(SeqCst) - self.taken);
            assert_eq!(batch.frames[0], Pfn::new(self.taken), "in order");
            self.taken += batch.frames.len() as u64;
            self.unreadable.extend(&batch.unreadable);
            if self.batches == u64::MAX && self.taken >= 4 * BATCH as u64 {
                return Err(Error::failure("the disk is full"));
            }
            Ok(())
        }
    }

    const ENCODING: PageEncoding = PageEncoding { codec: Codec::Lzo, share_zero: true };

    #[test]
    fn a_slow_disk_limits_the_reads() {
        for threads in [1, 2, 5] {
            let image = Numbers::new(None);
            let mut disk = SlowDisk::new(&image, 40);
            run(&image, ENCODING, threads, &mut disk).unwrap();
            assert_eq!((disk.taken, image.read.load(SeqCst)), (40 * BATCH as u64, 40 * BATCH as u64));
            let limit = if threads == 1 { 1 } else { batches(threads) as u64 } * BATCH as u64;
            assert!(disk.most_in_flight <= limit, "{threads} threads: {}", disk.most_in_flight);
        }
    }

    /// Provides frames and writes batches without a delay.
    struct FastDisk {
        given: u64,
        taken: u64,
        most_in_flight: u64,
    }

    impl BatchIo for FastDisk {
        fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()> {
            if self.given < 20 * BATCH as u64 {
                frames.extend((self.given..).take(BATCH).map(Pfn::new));
                self.given += BATCH as u64;
            }
            self.most_in_flight = self.most_in_flight.max(self.given - self.taken);
            Ok(())
        }

        fn take(&mut self, batch: &FrameBatch) -> Result<()> {
            assert_eq!(batch.frames[0], Pfn::new(self.taken), "in order");
            self.taken += batch.frames.len() as u64;
            Ok(())
        }
    }

    #[test]
    fn slow_reads_do_not_increase_the_batches_in_flight() {
        for threads in [1, 2, 5] {
            let image = Numbers { delay: Duration::from_millis(1), ..Numbers::new(None) };
            let mut disk = FastDisk { given: 0, taken: 0, most_in_flight: 0 };
            run(&image, ENCODING, threads, &mut disk).unwrap();
            let limit = if threads == 1 { 1 } else { batches(threads) as u64 } * BATCH as u64;
            assert_eq!((disk.taken, image.read.load(SeqCst)), (20 * BATCH as u64, 20 * BATCH as u64));
            assert!(disk.most_in_flight <= limit, "{threads} threads: {}", disk.most_in_flight);
        }
    }

    #[test]
    fn a_full_disk_stops_the_pipeline() {
        for threads in [1, 3] {
            let image = Numbers::new(None);
            let error = run(&image, ENCODING, threads, &mut SlowDisk::new(&image, u64::MAX)).unwrap_err();
            assert_eq!(error.report(), "the disk is full");
            assert!(image.read.load(SeqCst) <= (4 + batches(threads) as u64) * BATCH as u64);
        }
    }

    #[test]
    fn holes_of_a_sparse_file_are_not_read() {
        // A sparse file of 8 MiB with 3 * 4 KiB of data. The second one is not page-aligned.
        let file = tempfile::NamedTempFile::new().unwrap();
        let size = 8 << 20;
        file.as_file().set_len(size).unwrap();
        for at in [0x1_0000, 0x20_0800, size - 0x1000] {
            file.as_file().write_all_at(&[7; PAGE_SIZE], at).unwrap();
        }
        let range = MapRange { start: 0, size, offset: 0 };
        let read = PlainFile::open_unmapped(file.path()).unwrap();
        let windows = Windows::new(file.reopen().unwrap(), size, Backing::Disk);
        let images =
            [read, PlainFile::Windowed(Box::new(windows))].map(|f| RawImage::from_bytes(f, &[range]));
        for (image, share_zero) in images.iter().flat_map(|image| [(image, false), (image, true)]) {
            let hole = image.hole_at(PhysAddr::new(0x10_0000));
            assert!(hole.zeros, "the file system does not support SEEK_HOLE");
            let mut batch = FrameBatch::new();
            let mut worker = Worker::new(image, PageEncoding { codec: Codec::Lzo, share_zero });
            let mut data = Vec::new();
            for frames in (0..size / PAGE_SIZE as u64).collect::<Vec<_>>().chunks(BATCH) {
                batch.frames.clear();
                batch.frames.extend(frames.iter().map(|pfn| Pfn::new(*pfn)));
                worker.store(&mut batch);
                let mut rest = batch.data();
                for (pfn, page) in frames.iter().zip(&batch.pages) {
                    let StoredPage::Data { size, codec } = *page else { continue };
                    let (stored, later) = rest.split_at(size as usize);
                    rest = later;
                    let mut page = [1; PAGE_SIZE];
                    assert!(Decompressor::default().decompress(codec, stored, &mut page));
                    if !is_zero(&page) {
                        data.push((*pfn, page[0], page[PAGE_SIZE - 1]));
                    }
                }
                assert_eq!(batch.pages.len(), BATCH);
                assert!(share_zero || !batch.pages.contains(&StoredPage::SharedZero));
            }
            assert_eq!(data, [(0x10, 7, 7), (0x200, 0, 7), (0x201, 7, 0), (0x7ff, 7, 7)]);
        }
    }

    #[test]
    fn one_bad_page_does_not_affect_its_run() {
        let image = Numbers::new(Some(Pfn::new(70)));
        let mut disk = SlowDisk::new(&image, 2);
        run(&image, ENCODING, 2, &mut disk).unwrap();
        assert_eq!((disk.unreadable, disk.taken), (vec![Pfn::new(70)], 2 * BATCH as u64));
    }
}
