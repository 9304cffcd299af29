//! From frames to page data, ready to be written: read, find zero pages, compress, in order.
//!
//! Frames go in batches. With more than one thread each batch is compressed by whoever is free, and taken back in
//! the order of the frames; there are never more batches under way than were made at the start, so a slow disk
//! slows the reading instead of filling the memory.

use crate::image::MemoryImage;
use crate::kdump::codec::{Codec, Compressor};
use crate::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use scanner_core::{PAGE_SIZE, Pfn};
use std::collections::VecDeque;

/// Frames per batch: a megabyte of page data at most, so that a write is large even if pages compress well.
pub const BATCH: usize = 256;

/// How pages are stored.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
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
pub struct Batch {
    /// The frames, ascending.
    pub frames: Vec<Pfn>,
    /// How each of them is stored.
    pub pages: Vec<StoredPage>,
    /// Frames that could not be read, and are stored as zeros.
    pub unreadable: Vec<Pfn>,
    room: Vec<u8>,
    used: usize,
}

impl Batch {
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
pub trait Feed {
    /// Puts the next frames, at most [`BATCH`], into the empty `frames`; none if there are no more.
    ///
    /// # Errors
    /// If it can't be said.
    fn fill(&mut self, frames: &mut Vec<Pfn>) -> Result<()>;

    /// Takes a batch, in the order in which its frames were given.
    ///
    /// # Errors
    /// If it can't be written.
    fn take(&mut self, batch: &Batch) -> Result<()>;
}

/// Brings all frames of `feed` through, with `threads` threads beside this one; none if that is 0 or 1.
///
/// # Errors
/// What `feed` returns, or if a thread can't be started.
pub fn run(image: &dyn MemoryImage, recipe: Recipe, threads: usize, feed: &mut dyn Feed) -> Result<()> {
    if threads <= 1 { inline(image, recipe, feed) } else { threaded(image, recipe, threads, feed) }
}

fn inline(image: &dyn MemoryImage, recipe: Recipe, feed: &mut dyn Feed) -> Result<()> {
    let mut worker = Worker::new(image, recipe)?;
    let mut batch = Batch::new();
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

/// A batch to be compressed, and where it goes when that is done.
type Job = (Batch, Sender<Batch>);

fn threaded(image: &dyn MemoryImage, recipe: Recipe, threads: usize, feed: &mut dyn Feed) -> Result<()> {
    // One for each thread to work on, one to be next, and one that is being written.
    let batches = 2 * threads + 1;
    std::thread::scope(|scope| {
        let (jobs, queue) = bounded::<Job>(batches);
        for number in 0..threads {
            let (queue, mut worker) = (queue.clone(), Worker::new(image, recipe)?);
            let work = move || {
                for (mut batch, done) in queue {
                    worker.store(&mut batch);
                    // Nobody waits any more after an error; the queue then ends, too.
                    let _ = done.send(batch);
                }
            };
            std::thread::Builder::new()
                .name(format!("compress {number}"))
                .spawn_scoped(scope, work)
                .map_err(|e| {
                    Error::failure("a thread can't be started").because(e).hint("Use fewer threads.")
                })?;
        }
        drop(queue);

        let mut spare: Vec<Batch> = (0..batches).map(|_| Batch::new()).collect();
        let mut under_way: VecDeque<Receiver<Batch>> = VecDeque::with_capacity(batches);
        loop {
            while let Some(mut batch) = spare.pop() {
                batch.frames.clear();
                feed.fill(&mut batch.frames)?;
                if batch.frames.is_empty() {
                    break;
                }
                let (done, result) = bounded(1);
                jobs.send((batch, done)).map_err(|_| thread_died())?;
                under_way.push_back(result);
            }
            let Some(next) = under_way.pop_front() else { return Ok(()) };
            let batch = next.recv().map_err(|_| thread_died())?;
            feed.take(&batch)?;
            spare.push(batch);
        }
    })
}

fn thread_died() -> Error {
    Error::failure("a thread that compresses pages died")
}

/// Compresses batches, one at a time.
struct Worker<'a> {
    image: &'a dyn MemoryImage,
    recipe: Recipe,
    compressor: Compressor,
    scratch: Box<[u8; PAGE_SIZE]>,
}

impl<'a> Worker<'a> {
    fn new(image: &'a dyn MemoryImage, recipe: Recipe) -> Result<Self> {
        let compressor = Compressor::new(recipe.codec)?;
        Ok(Self { image, recipe, compressor, scratch: Box::new([0; PAGE_SIZE]) })
    }

    /// Reads and stores the frames of `batch`.
    fn store(&mut self, batch: &mut Batch) {
        batch.pages.clear();
        batch.unreadable.clear();
        batch.used = 0;
        for &frame in &batch.frames {
            let addr = frame.addr();
            let page = match self.image.view(addr, PAGE_SIZE).and_then(<[u8]>::first_chunk) {
                Some(page) => page,
                None => {
                    if self.image.read(addr, &mut *self.scratch).is_err() {
                        self.scratch.fill(0);
                        batch.unreadable.push(frame);
                    }
                    &*self.scratch
                }
            };
            if self.recipe.share_zero && is_zero(page) {
                batch.pages.push(StoredPage::SharedZero);
                continue;
            }
            let room = &mut batch.room[batch.used..];
            let (size, codec) = match self.compressor.compress(page, room) {
                Some(size) => (size, self.recipe.codec),
                None => {
                    room[..PAGE_SIZE].copy_from_slice(page);
                    (PAGE_SIZE, Codec::Raw)
                }
            };
            batch.used += size;
            batch.pages.push(StoredPage::Data { size: size as u32, codec });
        }
    }
}

/// Whether a page is all zeros.
pub fn is_zero(page: &[u8; PAGE_SIZE]) -> bool {
    // Pieces that are long enough for vector instructions, and short enough to stop early in most pages.
    page.as_chunks::<256>().0.iter().all(|piece| piece.iter().fold(0, |bits, byte| bits | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_a_page_not_zero() {
        let mut page = [0; PAGE_SIZE];
        assert!(is_zero(&page));
        for at in [0, 255, 256, PAGE_SIZE - 1] {
            page[at] = 0x80;
            assert!(!is_zero(&page));
            page[at] = 0;
        }
    }
}
