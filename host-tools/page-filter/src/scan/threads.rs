//! One window of a scan in pieces, by one thread or several: pieces that start where a memory section does, since what a
//! section says holds for itself, put together as if one thread had gone over them in order.

use super::{Before, ScanFindings, WindowScan, note_unreadable, scan_from};
use crate::machine::Machine;
use scanner_core::memmap::sections::{Lookup, SectionError};
use scanner_core::rules::{FramesByClass, runs_by_class};
use scanner_core::scan::{Checkpoint, Observer, Outcome, RunToCompletion, SCRATCH_BYTES};
use scanner_core::{Bitmap, PageClass, Pfn, PfnRange, Rules, Scan};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Frames of a piece, at most about: as many as the largest page has, so that hardly anything reaches over a border. The
/// bits, 32 KiB, stay in the processor's cache from when they are set until all are decided.
const PIECE_FRAMES: u64 = 1 << 18;

/// The least number of pieces for each thread, so that a part of memory that takes longer than others doesn't leave
/// threads idle.
const PIECES_PER_THREAD: u64 = 8;

/// Cuts a window, or a part of it, into pieces, which have words of their own.
struct Cutter<'m, 'k> {
    machine: &'m Machine<'m>,
    /// What is not cut yet, and its bits.
    rest: PfnRange,
    words: &'k mut [u64],
    /// How long a piece is to be, about.
    frames: u64,
    /// Where the window ends.
    end: Pfn,
    /// The scan as it stands at the window's start.
    scan: Option<Box<Scan<'m>>>,
    /// What of the window before reaches into this one.
    carried: Option<(PfnRange, PageClass)>,
}

impl Cutter<'_, '_> {
    /// Where the next piece ends: where a section starts, or the window ends.
    fn cut(&self) -> Pfn {
        let mut wanted = self.rest.start.saturating_add(self.frames);
        while wanted < self.rest.end {
            let (section, next) = match self.machine.sections.lookup(self.machine.image, wanted) {
                Some(Lookup::Present(section)) => (section.frames.start, section.frames.end),
                Some(Lookup::Absent(frames) | Lookup::Damaged(frames, _)) => (frames.end, frames.end),
                None => break,
            };
            if section > self.rest.start && section.as_u64().is_multiple_of(64) {
                return section.min(self.rest.end);
            }
            wanted = next;
        }
        self.rest.end
    }
}

impl<'m, 'k> Iterator for Cutter<'m, 'k> {
    type Item = Piece<'m, 'k>;

    fn next(&mut self) -> Option<Piece<'m, 'k>> {
        if self.rest.is_empty() {
            return None;
        }
        let frames = PfnRange::new(self.rest.start, self.cut());
        let (words, later) = std::mem::take(&mut self.words).split_at_mut(frames.len().div_ceil(64) as usize);
        (self.rest.start, self.words) = (frames.end, later);
        Some(Piece {
            frames,
            words,
            is_last: self.rest.start == self.end,
            before: None,
            scan: self.scan.take(),
            carried: self.carried.take(),
            outcome: Outcome::Interrupted,
            findings: ScanFindings::default(),
            behind: Vec::new(),
        })
    }
}

/// Some of a window's frames, and what a thread found out about them.
struct Piece<'m, 'k> {
    frames: PfnRange,
    words: &'k mut [u64],
    /// Whether the window ends with it.
    is_last: bool,
    /// What the bits were before, unless all were ones.
    before: Option<Vec<u64>>,
    /// Where the scan stands, if not at a section's start: before the first piece, behind the last one, and where it
    /// was stopped.
    scan: Option<Box<Scan<'m>>>,
    /// What reaches into the first one.
    carried: Option<(PfnRange, PageClass)>,
    outcome: Outcome,
    findings: ScanFindings,
    /// What reaches behind the frames, in the order it was found.
    behind: Vec<(PfnRange, PageClass)>,
}

impl<'m> WindowScan<'m> {
    /// Scans `window` into `keep`, which has words for it from a multiple of 64 on and is as `before` says; `false` if
    /// `checkpoint` has stopped it.
    pub(super) fn run_pieces(
        &mut self,
        first: Scan<'m>,
        window: PfnRange,
        keep: &mut [u64],
        before: Before,
        checkpoint: &mut dyn Checkpoint,
    ) -> bool {
        let (machine, rules) = (self.machine, self.rules);
        let frames = (window.len() / (self.threads as u64 * PIECES_PER_THREAD)).clamp(1, PIECE_FRAMES);
        let parts = Cutter {
            machine,
            rest: window,
            words: keep,
            frames: (window.len() / self.threads as u64).max(1),
            end: window.end,
            scan: Some(Box::new(first)),
            carried: self.carried.take(),
        };
        // Each thread has a part of its own, so that no two touch the same page first, and then helps the others.
        let queues: Vec<_> =
            parts.map(|part| Mutex::new(part.cut_into(frames, machine, window.end))).collect();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = |thread: usize, asked: Option<&mut dyn Checkpoint>| {
            let mut checkpoint = SharedCheckpoint {
                done: &done,
                stop: &stop,
                start: window.start,
                at: window.start,
                own: 0,
                asked,
            };
            let mut scratch = vec![0; SCRATCH_BYTES];
            let mut pieces = Vec::new();
            for queue in queues.iter().cycle().skip(thread).take(queues.len()) {
                while let Some(mut piece) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    checkpoint.at = piece.frames.start;
                    piece.start(before);
                    piece.run(machine, rules, &mut scratch, &mut checkpoint);
                    checkpoint.own += piece.frames.end.frames_since(checkpoint.at);
                    pieces.push(piece);
                }
            }
            pieces
        };
        let mut pieces = std::thread::scope(|scope| {
            let work = &work;
            let others: Vec<_> =
                (1..self.threads).map(|thread| scope.spawn(move || work(thread, None))).collect();
            let mut pieces = work(0, Some(checkpoint));
            for other in others {
                pieces.append(&mut other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            pieces
        });
        pieces.sort_unstable_by_key(|piece| piece.frames.start);
        self.put_together(pieces)
    }

    /// Puts together what has been found, up to the first piece that was not finished.
    fn put_together(&mut self, pieces: Vec<Piece<'m, '_>>) -> bool {
        let mut reaching: Vec<(PfnRange, PageClass)> = Vec::new();
        let mut pieces = pieces.into_iter();
        let mut finished = true;
        for mut piece in pieces.by_ref() {
            // What pieces before say about this one's frames counts first.
            let earlier = std::mem::take(&mut reaching);
            if piece.outcome == Outcome::Completed
                && earlier.iter().any(|(frames, _)| piece.disputes(*frames))
            {
                piece.restart();
                piece.exclude_all(earlier);
                piece.run(self.machine, self.rules, &mut vec![0; SCRATCH_BYTES], &mut RunToCompletion);
            } else {
                let later = std::mem::take(&mut piece.behind);
                piece.exclude_all(earlier);
                piece.behind.extend(later);
            }
            self.findings.add(&piece.findings);
            reaching = piece.behind;
            finished = piece.outcome == Outcome::Completed;
            self.scan = piece.scan.map(|scan| *scan).or(self.scan.take());
            if !finished {
                break;
            }
        }
        // What does not count leaves no trace.
        pieces.for_each(|mut piece| piece.restart());
        self.carried = reaching.into_iter().max_by_key(|(frames, _)| frames.end);
        finished
    }
}

impl<'m, 'k> Piece<'m, 'k> {
    /// Cuts a piece that nobody has scanned into smaller ones.
    fn cut_into(self, frames: u64, machine: &'m Machine<'m>, end: Pfn) -> Cutter<'m, 'k> {
        let (scan, carried) = (self.scan, self.carried);
        Cutter { machine, rest: self.frames, words: self.words, frames, end, scan, carried }
    }

    /// Makes its bits what a scan starts with.
    fn start(&mut self, before: Before) {
        match before {
            Before::Given => self.before = Some(self.words.to_vec()),
            Before::Unset => self.words.fill(u64::MAX),
        }
        let carried = self.carried.take();
        self.exclude_all(carried);
    }

    /// Forgets what was found.
    fn restart(&mut self) {
        match &self.before {
            Some(before) => self.words.copy_from_slice(before),
            None => self.words.fill(u64::MAX),
        }
        self.findings = ScanFindings::default();
        self.behind.clear();
        self.scan = None;
    }

    fn run(
        &mut self,
        machine: &'m Machine<'m>,
        rules: Rules,
        scratch: &mut [u8],
        checkpoint: &mut dyn Checkpoint,
    ) {
        let mut scan = match self.scan.take() {
            Some(scan) => *scan,
            None => scan_from(machine, rules, self.frames.start),
        };
        let end = self.frames.end;
        let Some(outcome) =
            self.with_observer(|observer| scan.run(machine.image, end, scratch, observer, checkpoint))
        else {
            return;
        };
        self.outcome = outcome;
        if self.is_last || outcome == Outcome::Interrupted {
            self.scan = Some(Box::new(scan));
        }
    }

    fn exclude_all(&mut self, ranges: impl IntoIterator<Item = (PfnRange, PageClass)>) {
        self.with_observer(|observer| {
            ranges.into_iter().for_each(|(frames, class)| observer.exclude(frames, class))
        });
    }

    fn with_observer<R>(&mut self, work: impl FnOnce(&mut PieceObserver<'_, '_>) -> R) -> Option<R> {
        let mut bitmap = Bitmap::new(self.frames, self.words).ok()?;
        let (findings, behind) = (&mut self.findings, &mut self.behind);
        Some(work(&mut PieceObserver { bitmap: &mut bitmap, findings, behind }))
    }

    /// Whether its own scan has cleared bits of `range`.
    fn disputes(&self, range: PfnRange) -> bool {
        let range = range.intersection(self.frames);
        let before = self.before.as_ref().map_or(range.len(), |words| ones(words, self.frames, range));
        before != ones(self.words, self.frames, range)
    }
}

struct PieceObserver<'p, 'a> {
    bitmap: &'p mut Bitmap<'a>,
    findings: &'p mut ScanFindings,
    behind: &'p mut Vec<(PfnRange, PageClass)>,
}

impl Observer for PieceObserver<'_, '_> {
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
    fn exclude_masked(&mut self, first: Pfn, which: &FramesByClass) {
        match self.bitmap.word_mut(first) {
            Some(word) => self.findings.counters.clear(word, which),
            None => runs_by_class(first, which).for_each(|(frames, class)| self.exclude(frames, class)),
        }
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        note_unreadable(self.findings, frames, error);
    }

    fn bad_order(&mut self, _: Pfn) {
        self.findings.bad_orders += 1;
    }
}

/// Frames between two looks at what threads share: a line of memory that each of them writes is slow.
const SHARING_FRAMES: u64 = 1 << 15;

/// What paces one thread: it counts for all, and one of them asks the caller.
struct SharedCheckpoint<'s, 'p> {
    done: &'s AtomicU64,
    stop: &'s AtomicBool,
    /// Of the window.
    start: Pfn,
    at: Pfn,
    /// Frames that are not in `done` yet.
    own: u64,
    asked: Option<&'p mut dyn Checkpoint>,
}

impl Checkpoint for SharedCheckpoint<'_, '_> {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        self.own += next.frames_since(self.at);
        self.at = next;
        if self.own >= SHARING_FRAMES {
            let done = self.done.fetch_add(self.own, Ordering::Relaxed) + self.own;
            self.own = 0;
            if let Some(checkpoint) = &mut self.asked
                && checkpoint.check(self.start.saturating_add(done)).is_break()
            {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
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
