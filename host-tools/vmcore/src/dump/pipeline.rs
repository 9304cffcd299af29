//! From frames to page data, ready to be written: read, find zero pages, compress, in order.
//!
//! Frames go in batches. With more than one thread each batch is compressed by whoever is free, and taken back in
//! the order of the frames; there are never more batches under way than were made at the start, so a slow disk
//! slows the reading instead of filling the memory.

use super::zero::is_zero;
use crate::image::{Hole, MemoryImage};
use crate::{Error, Result};
use page_codecs::{Codec, Compressor};
use scanner_core::{PAGE_SIZE, Pfn, PhysAddr};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Frames per batch: a megabyte of page data at most, so that a write is large even if pages compress well.
pub const BATCH: usize = 256;

/// How pages are stored.
#[derive(Clone, Copy, Debug)]
pub struct PageEncoding {
    /// The codec; a page that it does not make smaller is stored as it is.
    pub codec: Codec,
    /// Whether zero pages are left to one shared page.
    pub share_zero: bool,
}

/// How one page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPage {
    /// It is the shared zero page.
    SharedZero,
    /// It has data of its own: the next `size` bytes of the batch.
    Data {
        /// Bytes.
        size: u32,
        /// How they are stored.
        codec: Codec,
    },
}

/// Frames, and what became of them.
pub struct FrameBatch {
    /// The frames, ascending.
    pub frames: Vec<Pfn>,
    /// How each of them is stored.
    pub pages: Vec<StoredPage>,
    /// Frames that could not be read, and are stored as zeros.
    pub unreadable: Vec<Pfn>,
    room: Vec<u8>,
    used: usize,
}

impl FrameBatch {
    fn new() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH),
            pages: Vec::with_capacity(BATCH),
            unreadable: Vec::new(),
            room: vec![0; BATCH * PAGE_SIZE + Compressor::ROOM],
            used: 0,
        }
    }

    /// The data of its pages, one behind the other.
    pub fn data(&self) -> &[u8] {
        &self.room[..self.used]
    }
}

/// Who says which frames are next, and takes what became of them.
pub trait BatchIo {
    /// Puts the next frames, at most [`BATCH`], into the empty `frames`; none if there are no more.
    ///
    /// # Errors
    /// If it can't be said.
    fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()>;

    /// Takes a batch, in the order in which its frames were given.
    ///
    /// # Errors
    /// If it can't be written.
    fn take(&mut self, batch: &FrameBatch) -> Result<()>;
}

/// Brings all frames of `feed` through, with `threads` threads beside this one; none if that is 0 or 1.
///
/// # Errors
/// What `feed` returns, or if a thread can't be started.
pub fn run(
    image: &dyn MemoryImage,
    encoding: PageEncoding,
    threads: usize,
    feed: &mut dyn BatchIo,
) -> Result<()> {
    if threads <= 1 { inline(image, encoding, feed) } else { threaded(image, encoding, threads, feed) }
}

fn inline(image: &dyn MemoryImage, encoding: PageEncoding, feed: &mut dyn BatchIo) -> Result<()> {
    let mut worker = Worker::new(image, encoding);
    let mut batch = FrameBatch::new();
    loop {
        batch.frames.clear();
        feed.fill(&mut batch.frames)?;
        if batch.frames.is_empty() {
            return Ok(());
        }
        worker.store(&mut batch);
        feed.take(&batch)?;
    }
}

/// Batches for so many threads: one for each to work on, one to be next, and one that is being written.
fn batches(threads: usize) -> usize {
    2 * threads + 1
}

fn threaded(
    image: &dyn MemoryImage,
    encoding: PageEncoding,
    threads: usize,
    feed: &mut dyn BatchIo,
) -> Result<()> {
    let batches = batches(threads);
    let line = Line::new(batches);
    std::thread::scope(|scope| {
        // Whatever ends this thread's part ends that of the others.
        let _closing = Closing(&line);
        for number in 0..threads {
            let (line, mut worker) = (&line, Worker::new(image, encoding));
            let work = move || {
                let _closing = Closing(line);
                while let Some((number, mut batch)) = line.job() {
                    worker.store(&mut batch);
                    line.put_done(number, batch);
                }
            };
            std::thread::Builder::new()
                .name(format!("compress {number}"))
                .spawn_scoped(scope, work)
                .map_err(|e| {
                    Error::failure("a thread can't be started").because(e).with_hint("Use fewer threads.")
                })?;
        }

        let mut spare: Vec<FrameBatch> = (0..batches).map(|_| FrameBatch::new()).collect();
        loop {
            while let Some(mut batch) = spare.pop() {
                batch.frames.clear();
                feed.fill(&mut batch.frames)?;
                if batch.frames.is_empty() {
                    break;
                }
                line.put_job(batch);
            }
            match line.next_done() {
                Next::Done(batch) => {
                    feed.take(&batch)?;
                    spare.push(batch);
                }
                Next::Nothing => return Ok(()),
                Next::Died => return Err(Error::failure("a thread that compresses pages died")),
            }
        }
    })
}

/// Batches on their way to the threads that compress, and back in order. Who waits here sleeps at once: to look again and
/// again, as channels do at first, would take the processor from those that compress.
struct Line {
    state: Mutex<LineState>,
    /// There is a job, or the end.
    job: Condvar,
    /// The batch that is next is done, or a thread has ended.
    done: Condvar,
}

struct LineState {
    jobs: VecDeque<(u64, FrameBatch)>,
    /// What is under way; the first one is number `first`.
    under_way: VecDeque<Option<FrameBatch>>,
    first: u64,
    closed: bool,
}

/// What comes back from a [`Line`].
enum Next {
    Done(FrameBatch),
    /// Nothing is under way.
    Nothing,
    /// Nothing will come any more, although something is under way.
    Died,
}

impl Line {
    fn new(batches: usize) -> Self {
        let (jobs, under_way) = (VecDeque::with_capacity(batches), VecDeque::with_capacity(batches));
        let state = LineState { jobs, under_way, first: 0, closed: false };
        Self { state: Mutex::new(state), job: Condvar::new(), done: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        // The state is whole at any time, even if a thread gave up while it held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_job(&self, batch: FrameBatch) {
        let mut state = self.state();
        let number = state.first + state.under_way.len() as u64;
        state.under_way.push_back(None);
        state.jobs.push_back((number, batch));
        self.job.notify_one();
    }

    /// The next job, and its number; waits for it. None if it's all over.
    fn job(&self) -> Option<(u64, FrameBatch)> {
        let nothing = |state: &mut LineState| state.jobs.is_empty() && !state.closed;
        let mut state = self.job.wait_while(self.state(), nothing).unwrap_or_else(PoisonError::into_inner);
        if state.closed { None } else { state.jobs.pop_front() }
    }

    fn put_done(&self, number: u64, batch: FrameBatch) {
        let mut state = self.state();
        let place = (number - state.first) as usize;
        state.under_way[place] = Some(batch);
        if place == 0 {
            self.done.notify_one();
        }
    }

    /// The first batch that is under way; waits until it is done.
    fn next_done(&self) -> Next {
        let nothing = |state: &mut LineState| matches!(state.under_way.front(), Some(None)) && !state.closed;
        let mut state = self.done.wait_while(self.state(), nothing).unwrap_or_else(PoisonError::into_inner);
        match state.under_way.pop_front() {
            Some(Some(batch)) => {
                state.first += 1;
                Next::Done(batch)
            }
            Some(None) => Next::Died,
            None => Next::Nothing,
        }
    }
}

/// Ends a [`Line`] when it is dropped, also by a panic.
struct Closing<'l>(&'l Line);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.job.notify_all();
        self.0.done.notify_all();
    }
}

/// Pages that are read in one go, if they follow one another: what a system call or a window costs is then nothing
/// beside what is copied, and they are still in a near cache when they are compressed.
const RUN: usize = 64;

/// Compresses batches, one at a time.
struct Worker<'a> {
    image: &'a dyn MemoryImage,
    encoding: PageEncoding,
    compressor: Compressor,
    /// Room for a run that has to be read.
    pages: Vec<[u8; PAGE_SIZE]>,
    /// What the image knew without reading, and from where on.
    known: Option<(PhysAddr, Hole)>,
}

impl<'a> Worker<'a> {
    fn new(image: &'a dyn MemoryImage, encoding: PageEncoding) -> Self {
        let compressor = Compressor::new(encoding.codec);
        Self { image, encoding, compressor, pages: vec![[0; PAGE_SIZE]; RUN], known: None }
    }

    /// Whether so many of the `pages` from `first` on are known to be zeros; or else, so many have to be looked at.
    fn look_ahead(&mut self, first: PhysAddr, pages: usize) -> (bool, usize) {
        let hole = match self.known {
            Some((start, hole)) if (start..hole.end).contains(&first) => hole,
            _ => {
                let hole = self.image.hole_at(first);
                self.known = Some((first, hole));
                hole
            }
        };
        let bytes = hole.end.as_u64().saturating_sub(first.as_u64());
        let (whole, touched) = (bytes / PAGE_SIZE as u64, bytes.div_ceil(PAGE_SIZE as u64).max(1));
        match hole.zeros {
            true if whole > 0 => (true, whole.min(pages as u64) as usize),
            // A page that only begins in a hole.
            true => (false, 1),
            false => (false, touched.min(pages as u64) as usize),
        }
    }

    /// Reads and stores the frames of `batch`.
    fn store(&mut self, batch: &mut FrameBatch) {
        let FrameBatch { frames, pages, unreadable, room, used } = batch;
        pages.clear();
        unreadable.clear();
        *used = 0;
        let neighbours = |a: &Pfn, b: &Pfn| b.frames_since(*a) == 1;
        for run in frames.chunk_by(neighbours).flat_map(|run| run.chunks(RUN)) {
            let mut rest = run;
            while !rest.is_empty() {
                let (zeros, count) = self.look_ahead(rest[0].addr(), rest.len());
                if zeros {
                    for _ in 0..count {
                        let (stored, size) =
                            store_zeros(self.encoding, &mut self.compressor, &mut room[*used..]);
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
                    // Not in place, or not all of its first page.
                    _ => {
                        read_run(self.image, now, &mut self.pages[..now.len()], unreadable);
                        &self.pages[..now.len()]
                    }
                };
                for page in contents {
                    let (stored, size) =
                        store_page(page, self.encoding, &mut self.compressor, &mut room[*used..]);
                    pages.push(stored);
                    *used += size;
                }
                rest = &rest[contents.len()..];
            }
        }
    }
}

/// Stores a page of zeros that nobody has to look at.
fn store_zeros(encoding: PageEncoding, compressor: &mut Compressor, room: &mut [u8]) -> (StoredPage, usize) {
    if encoding.share_zero {
        return (StoredPage::SharedZero, 0);
    }
    store_page(&[0; PAGE_SIZE], encoding, compressor, room)
}

/// Reads the pages of `run`, frames that follow one another. Those that can't be read are zeros, and named.
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

/// Stores `page` at the start of `room`. Returns how, and in how many bytes.
fn store_page(
    page: &[u8; PAGE_SIZE],
    encoding: PageEncoding,
    compressor: &mut Compressor,
    room: &mut [u8],
) -> (StoredPage, usize) {
    if encoding.share_zero && is_zero(page) {
        return (StoredPage::SharedZero, 0);
    }
    let (size, codec) = match compressor.compress(page, room) {
        Some(size) => (size, encoding.codec),
        None => {
            room[..PAGE_SIZE].copy_from_slice(page);
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

    /// Memory without end, each page with its number, that counts the pages read. Reads fail if they touch `bad`.
    struct Numbers {
        read: AtomicU64,
        bad: Option<Pfn>,
        /// How long a read takes.
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

    /// Gives frames without end, and takes them back slowly.
    struct SlowDisk<'a> {
        image: &'a Numbers,
        given: u64,
        taken: u64,
        batches: u64,
        /// The most pages that were read and not taken yet.
        most_under_way: u64,
        unreadable: Vec<Pfn>,
    }

    impl<'a> SlowDisk<'a> {
        fn new(image: &'a Numbers, batches: u64) -> Self {
            Self { image, given: 0, taken: 0, batches, most_under_way: 0, unreadable: Vec::new() }
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
            // Long enough for the others to read all that they are let.
            std::thread::sleep(Duration::from_millis(5));
            self.most_under_way = self.most_under_way.max(self.image.read.load(SeqCst) - self.taken);
            assert_eq!(batch.frames[0], Pfn::new(self.taken), "in order");
            self.taken += batch.frames.len() as u64;
            self.unreadable.extend(&batch.unreadable);
            if self.batches == u64::MAX && self.taken >= 4 * BATCH as u64 {
                return Err(Error::failure("the disk is full"));
            }
            Ok(())
        }
    }

    const RECIPE: PageEncoding = PageEncoding { codec: Codec::Lzo, share_zero: true };

    #[test]
    fn a_slow_disk_slows_the_reading_and_nothing_grows() {
        for threads in [1, 2, 5] {
            let image = Numbers::new(None);
            let mut disk = SlowDisk::new(&image, 40);
            run(&image, RECIPE, threads, &mut disk).unwrap();
            assert_eq!((disk.taken, image.read.load(SeqCst)), (40 * BATCH as u64, 40 * BATCH as u64));
            let limit = if threads == 1 { 1 } else { batches(threads) as u64 } * BATCH as u64;
            assert!(disk.most_under_way <= limit, "{threads} threads: {}", disk.most_under_way);
        }
    }

    /// Gives frames as fast as they are asked for, and takes them back at once.
    struct FastDisk {
        given: u64,
        taken: u64,
        most_under_way: u64,
    }

    impl BatchIo for FastDisk {
        fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()> {
            if self.given < 20 * BATCH as u64 {
                frames.extend((self.given..).take(BATCH).map(Pfn::new));
                self.given += BATCH as u64;
            }
            self.most_under_way = self.most_under_way.max(self.given - self.taken);
            Ok(())
        }

        fn take(&mut self, batch: &FrameBatch) -> Result<()> {
            assert_eq!(batch.frames[0], Pfn::new(self.taken), "in order");
            self.taken += batch.frames.len() as u64;
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_is_waited_for_and_nothing_grows() {
        for threads in [1, 2, 5] {
            let image = Numbers { delay: Duration::from_millis(1), ..Numbers::new(None) };
            let mut disk = FastDisk { given: 0, taken: 0, most_under_way: 0 };
            run(&image, RECIPE, threads, &mut disk).unwrap();
            let limit = if threads == 1 { 1 } else { batches(threads) as u64 } * BATCH as u64;
            assert_eq!((disk.taken, image.read.load(SeqCst)), (20 * BATCH as u64, 20 * BATCH as u64));
            assert!(disk.most_under_way <= limit, "{threads} threads: {}", disk.most_under_way);
        }
    }

    #[test]
    fn a_disk_that_gets_full_ends_it_all() {
        for threads in [1, 3] {
            let image = Numbers::new(None);
            let error = run(&image, RECIPE, threads, &mut SlowDisk::new(&image, u64::MAX)).unwrap_err();
            assert_eq!(error.report(), "the disk is full");
            assert!(image.read.load(SeqCst) <= (4 + batches(threads) as u64) * BATCH as u64);
        }
    }

    #[test]
    fn what_is_in_a_hole_is_not_read() {
        // 8 MiB of a sparse file: three pages of data, one of them not at a page's border.
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
            assert!(hole.zeros, "the file system does not know of holes");
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
                    let (now, later) = rest.split_at(size as usize);
                    rest = later;
                    let mut back = [1; PAGE_SIZE];
                    assert!(Decompressor::default().decompress(codec, now, &mut back));
                    if !is_zero(&back) {
                        data.push((*pfn, back[0], back[PAGE_SIZE - 1]));
                    }
                }
                assert_eq!(batch.pages.len(), BATCH);
                assert!(share_zero || !batch.pages.contains(&StoredPage::SharedZero));
            }
            assert_eq!(data, [(0x10, 7, 7), (0x200, 0, 7), (0x201, 7, 0), (0x7ff, 7, 7)]);
        }
    }

    #[test]
    fn one_bad_page_of_a_run_costs_only_itself() {
        let image = Numbers::new(Some(Pfn::new(70)));
        let mut disk = SlowDisk::new(&image, 2);
        run(&image, RECIPE, 2, &mut disk).unwrap();
        assert_eq!((disk.unreadable, disk.taken), (vec![Pfn::new(70)], 2 * BATCH as u64));
    }
}
