//! One window of a scan by several threads: pieces that start where a memory section does, since what a section says
//! holds for itself, put together as if one thread had gone over them in order.

use super::{Findings, WindowScan, note_unreadable};
use scanner_core::scan::{Outcome, Pace, SCRATCH_BYTES, Sink};
use scanner_core::sections::{Lookup, SectionError};
use scanner_core::{Bitmap, PageClass, Pfn, PfnRange, Scan};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Pieces for each thread, so that a part of memory that takes longer than others doesn't leave threads idle.
const PIECES_PER_THREAD: u64 = 8;

/// Some of a window's frames, and what a thread found out about them.
struct Piece<'m> {
    frames: PfnRange,
    /// Bits of these frames: a copy, so that what turns out not to count leaves no trace.
    words: Vec<u64>,
    scan: Scan<'m>,
    outcome: Outcome,
    findings: Findings,
    /// What reaches behind the frames, in the order it was found.
    behind: Vec<(PfnRange, PageClass)>,
}

impl<'m> WindowScan<'m> {
    /// Where to cut `window` for `threads` threads: at least one piece; none is empty.
    pub(super) fn pieces(&self, window: PfnRange, threads: usize) -> Vec<PfnRange> {
        let count = threads as u64 * PIECES_PER_THREAD;
        let mut cuts = vec![window.start];
        // Pieces have words of their own.
        if threads > 1 && window.start.as_u64().is_multiple_of(64) {
            for index in 1..count {
                let wanted = window.start.saturating_add(window.len() / count * index);
                let section = match self.machine.sections.lookup(self.machine.image, wanted) {
                    Some(Lookup::Present(section)) => section.frames.start,
                    Some(Lookup::Absent(frames) | Lookup::Damaged(frames, _)) => frames.end,
                    None => break,
                };
                let is_new = cuts.last().is_some_and(|last| *last < section) && section < window.end;
                if is_new && section.as_u64().is_multiple_of(64) {
                    cuts.push(section);
                }
            }
        }
        let ends = cuts.iter().skip(1).copied().chain([window.end]);
        cuts.iter().zip(ends).map(|(start, end)| PfnRange::new(*start, end)).collect()
    }

    /// Scans `pieces`, which make up a window, into `keep`, that window's bits; `false` if `pace` has stopped it.
    pub(super) fn run_pieces(
        &mut self,
        first: Scan<'m>,
        pieces: &[PfnRange],
        keep: &mut [u64],
        pace: &mut dyn Pace,
    ) -> bool {
        let window = PfnRange::new(pieces[0].start, pieces[pieces.len() - 1].end);
        let mut firsts = Some(first);
        let mut pieces: Vec<Piece<'m>> = pieces
            .iter()
            .map(|frames| Piece {
                frames: *frames,
                words: words_of(keep, window, *frames).to_vec(),
                scan: firsts.take().unwrap_or_else(|| self.scan_from(frames.start)),
                outcome: Outcome::Interrupted,
                findings: Findings::default(),
                behind: Vec::new(),
            })
            .collect();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let queue = Mutex::new(pieces.iter_mut());
        let work = |pace: &mut SharedPace<'_, '_>| {
            let mut scratch = vec![0; SCRATCH_BYTES];
            loop {
                let next = queue.lock().map(|mut queue| queue.next());
                let Ok(Some(piece)) = next else { break };
                pace.at = piece.frames.start;
                piece.run(self.machine.image, &mut scratch, pace);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(|| {
                    let mut pace = SharedPace { done: &done, stop: &stop, at: window.start, asked: None };
                    work(&mut pace);
                });
            }
            let asked = Some((window.start, pace));
            work(&mut SharedPace { done: &done, stop: &stop, at: window.start, asked });
        });
        self.put_together(window, pieces, keep)
    }

    /// Puts together what has been found, up to the first piece that was not finished.
    fn put_together(&mut self, window: PfnRange, pieces: Vec<Piece<'m>>, keep: &mut [u64]) -> bool {
        let mut reaching: Vec<(PfnRange, PageClass)> = self.carried.take().into_iter().collect();
        for mut piece in pieces {
            let before = words_of(keep, window, piece.frames);
            // What pieces before say about this one's frames counts first.
            let is_disputed = reaching.iter().any(|(frames, _)| {
                ones(before, piece.frames, *frames) != ones(&piece.words, piece.frames, *frames)
            });
            let earlier = std::mem::take(&mut reaching);
            if is_disputed && piece.outcome == Outcome::Reached {
                piece = Piece {
                    words: before.to_vec(),
                    scan: self.scan_from(piece.frames.start),
                    findings: Findings::default(),
                    behind: Vec::new(),
                    ..piece
                };
                piece.exclude_all(earlier);
                let mut scratch = vec![0; SCRATCH_BYTES];
                piece.run(self.machine.image, &mut scratch, &mut scanner_core::scan::Unhurried);
            } else {
                let later = std::mem::take(&mut piece.behind);
                piece.exclude_all(earlier);
                piece.behind.extend(later);
            }
            words_of_mut(keep, window, piece.frames).copy_from_slice(&piece.words);
            self.findings.add(&piece.findings);
            reaching = piece.behind;
            let finished = piece.outcome == Outcome::Reached;
            self.scan = Some(piece.scan);
            if !finished {
                break;
            }
        }
        self.carried = reaching.into_iter().max_by_key(|(frames, _)| frames.end);
        self.scan.as_ref().is_some_and(|scan| scan.next() >= window.end)
    }
}

impl Piece<'_> {
    fn run(&mut self, image: &dyn crate::image::MemoryImage, scratch: &mut [u8], pace: &mut dyn Pace) {
        let end = self.frames.end;
        let (mut chunks, frames) = ([&mut self.words[..]], self.frames);
        // One chunk with a bit for each of the frames.
        let Ok(mut bitmap) = Bitmap::new(frames, 63, &mut chunks) else { return };
        let mut sink =
            PieceSink { bitmap: &mut bitmap, findings: &mut self.findings, behind: &mut self.behind };
        self.outcome = self.scan.run(image, end, scratch, &mut sink, pace);
    }

    fn exclude_all(&mut self, ranges: Vec<(PfnRange, PageClass)>) {
        let (mut chunks, frames) = ([&mut self.words[..]], self.frames);
        let Ok(mut bitmap) = Bitmap::new(frames, 63, &mut chunks) else { return };
        let mut sink =
            PieceSink { bitmap: &mut bitmap, findings: &mut self.findings, behind: &mut self.behind };
        ranges.into_iter().for_each(|(frames, class)| sink.exclude(frames, class));
    }
}

struct PieceSink<'p, 'a, 'c> {
    bitmap: &'p mut Bitmap<'a, 'c>,
    findings: &'p mut Findings,
    behind: &'p mut Vec<(PfnRange, PageClass)>,
}

impl Sink for PieceSink<'_, '_, '_> {
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        self.findings.counters.add(class, self.bitmap.clear(frames));
        let end = self.bitmap.frames().end;
        // What is behind one that reaches further adds nothing.
        if frames.end > end && self.behind.last().is_none_or(|(last, _)| last.end < frames.end) {
            let frames = PfnRange::new(end.max(frames.start), frames.end);
            match self.behind.last_mut() {
                Some((last, its)) if *its == class && last.end >= frames.start => last.end = frames.end,
                _ => self.behind.push((frames, class)),
            }
        }
    }

    #[inline]
    fn exclude_some(&mut self, first: Pfn, which: u64, class: PageClass) {
        self.findings.counters.add(class, self.bitmap.clear_some(first, which));
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        note_unreadable(self.findings, frames, error);
    }

    fn bad_order(&mut self, _: Pfn) {
        self.findings.bad_orders += 1;
    }
}

/// What paces one thread: it counts for all, and one of them asks the caller.
struct SharedPace<'s, 'p> {
    done: &'s AtomicU64,
    stop: &'s AtomicBool,
    at: Pfn,
    asked: Option<(Pfn, &'p mut dyn Pace)>,
}

impl Pace for SharedPace<'_, '_> {
    fn go_on(&mut self, next: Pfn) -> bool {
        let own = next.frames_since(self.at);
        self.at = next;
        let done = self.done.fetch_add(own, Ordering::Relaxed) + own;
        if let Some((start, pace)) = &mut self.asked
            && !pace.go_on(start.saturating_add(done))
        {
            self.stop.store(true, Ordering::Relaxed);
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Where the words of `frames` are among those of `window`.
fn place(window: PfnRange, frames: PfnRange) -> std::ops::Range<usize> {
    let first = (frames.start.frames_since(window.start) / 64) as usize;
    first..first + frames.len().div_ceil(64) as usize
}

fn words_of(keep: &[u64], window: PfnRange, frames: PfnRange) -> &[u64] {
    &keep[place(window, frames)]
}

fn words_of_mut(keep: &mut [u64], window: PfnRange, frames: PfnRange) -> &mut [u64] {
    &mut keep[place(window, frames)]
}

/// How many bits of `range` are set in `words`, which has those of `frames`.
fn ones(words: &[u64], frames: PfnRange, range: PfnRange) -> u64 {
    let range = range.intersection(frames);
    let (mut at, end) = (range.start.frames_since(frames.start), range.end.frames_since(frames.start));
    let mut count = 0;
    while at < end {
        let len = (64 - at % 64).min(end - at);
        let bits = words[(at / 64) as usize] >> (at % 64) & (u64::MAX >> (64 - len));
        count += u64::from(bits.count_ones());
        at += len;
    }
    count
}
