//! Scans one window in pieces, with one thread or several. Pieces start at a memory section, because sections can be
//! scanned independently of one another. The merged result equals that of one thread that scans the pieces in order.

use super::{InitialBits, ScanFindings, WindowScan, record_unreadable, scan_from};
use crate::machine::Machine;
use scanner_core::memmap::sections::{Lookup, SectionError};
use scanner_core::rules::{FramesByClass, runs_by_class};
use scanner_core::scan::{Checkpoint, Observer, Outcome, RunToCompletion, SCRATCH_BYTES};
use scanner_core::{Bitmap, PageClass, Pfn, PfnRange, Rules, Scan};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Approximate maximum of frames in a piece: as many as the largest huge page has, so that few ranges cross the end of
/// a piece. The bits (32 KiB) stay in the CPU cache while the piece is scanned.
const PIECE_FRAMES: u64 = 1 << 18;

/// Minimum number of pieces for each thread, so that threads do not wait for one slow part of memory.
const PIECES_PER_THREAD: u64 = 8;

/// Cuts a window, or a part of it, into pieces. No two pieces share a word of the bitmap.
struct Cutter<'m, 'k> {
    machine: &'m Machine<'m>,
    /// The frames that are not cut yet.
    rest: PfnRange,
    /// The bits of `rest`.
    words: &'k mut [u64],
    /// Approximate number of frames in a piece.
    frames: u64,
    /// The end of the window.
    end: Pfn,
    /// The state of the scan at the start of the window.
    scan: Option<Box<Scan<'m>>>,
    /// The part of an excluded range of the previous window that extends into this one.
    carried: Option<(PfnRange, PageClass)>,
}

impl Cutter<'_, '_> {
    /// The end of the next piece: the start of a section, or the end of the window.
    fn next_cut(&self) -> Pfn {
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
        let frames = PfnRange::new(self.rest.start, self.next_cut());
        let (words, later) = std::mem::take(&mut self.words).split_at_mut(frames.len().div_ceil(64) as usize);
        (self.rest.start, self.words) = (frames.end, later);
        Some(Piece {
            frames,
            words,
            is_last: self.rest.start == self.end,
            initial_words: None,
            scan: self.scan.take(),
            carried: self.carried.take(),
            outcome: Outcome::Interrupted,
            findings: ScanFindings::default(),
            overhang: Vec::new(),
        })
    }
}

/// A part of a window, and the result of its scan.
struct Piece<'m, 'k> {
    frames: PfnRange,
    words: &'k mut [u64],
    /// Whether this is the last piece of the window.
    is_last: bool,
    /// The bits before the scan; `None` if all were ones.
    initial_words: Option<Vec<u64>>,
    /// The state of the scan, if it is not at the start of a section: before the first piece, after the last one, and
    /// where the scan was interrupted.
    scan: Option<Box<Scan<'m>>>,
    /// The part of an excluded range of the previous window that extends into the first piece.
    carried: Option<(PfnRange, PageClass)>,
    outcome: Outcome,
    findings: ScanFindings,
    /// Excluded ranges after the end of the piece, in the order in which the scan found them.
    overhang: Vec<(PfnRange, PageClass)>,
}

impl<'m> WindowScan<'m> {
    /// Scans `window` into `keep`. The window starts at a multiple of 64 frames, and `keep` has a bit for each frame.
    /// Returns `false` if `checkpoint` stopped the scan.
    pub(super) fn run_pieces(
        &mut self,
        first: Scan<'m>,
        window: PfnRange,
        keep: &mut [u64],
        initial: InitialBits,
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
        // Each thread starts with its own part, so that no two threads fault in the same page of the bitmap, and then
        // takes pieces of the other parts.
        let queues: Vec<_> =
            parts.map(|part| Mutex::new(part.cut_into(frames, machine, window.end))).collect();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = |thread: usize, callers: Option<&mut dyn Checkpoint>| {
            let mut checkpoint = SharedCheckpoint {
                done: &done,
                stop: &stop,
                start: window.start,
                position: window.start,
                unreported: 0,
                callers,
            };
            let mut scratch = vec![0; SCRATCH_BYTES];
            let mut pieces = Vec::new();
            for queue in queues.iter().cycle().skip(thread).take(queues.len()) {
                while let Some(mut piece) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    checkpoint.position = piece.frames.start;
                    piece.start(initial);
                    piece.run(machine, rules, &mut scratch, &mut checkpoint);
                    checkpoint.unreported += piece.frames.end.frames_since(checkpoint.position);
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
        self.merge(pieces)
    }

    /// Merges the results of the pieces, up to the first interrupted one. Returns `false` if there is one.
    fn merge(&mut self, pieces: Vec<Piece<'m, '_>>) -> bool {
        let mut overhang: Vec<(PfnRange, PageClass)> = Vec::new();
        let mut pieces = pieces.into_iter();
        let mut completed = true;
        for mut piece in pieces.by_ref() {
            // As in a scan by one thread, the overhang of earlier pieces counts before this piece's own exclusions.
            let earlier = std::mem::take(&mut overhang);
            if piece.outcome == Outcome::Completed
                && earlier.iter().any(|(frames, _)| piece.has_cleared(*frames))
            {
                piece.restart();
                piece.exclude_all(earlier);
                piece.run(self.machine, self.rules, &mut vec![0; SCRATCH_BYTES], &mut RunToCompletion);
            } else {
                let own = std::mem::take(&mut piece.overhang);
                piece.exclude_all(earlier);
                piece.overhang.extend(own);
            }
            self.findings.add(&piece.findings);
            overhang = piece.overhang;
            completed = piece.outcome == Outcome::Completed;
            self.scan = piece.scan.map(|scan| *scan).or(self.scan.take());
            if !completed {
                break;
            }
        }
        // Undo the pieces after the interrupted one: a scan by one thread would not have reached them.
        pieces.for_each(|mut piece| piece.restart());
        self.carried = overhang.into_iter().max_by_key(|(frames, _)| frames.end);
        completed
    }
}

impl<'m, 'k> Piece<'m, 'k> {
    /// Cuts a piece that is not scanned yet into smaller ones.
    fn cut_into(self, frames: u64, machine: &'m Machine<'m>, end: Pfn) -> Cutter<'m, 'k> {
        let (scan, carried) = (self.scan, self.carried);
        Cutter { machine, rest: self.frames, words: self.words, frames, end, scan, carried }
    }

    /// Sets the bits to those at the start of the scan.
    fn start(&mut self, initial: InitialBits) {
        match initial {
            InitialBits::Given => self.initial_words = Some(self.words.to_vec()),
            InitialBits::Unset => self.words.fill(u64::MAX),
        }
        let carried = self.carried.take();
        self.exclude_all(carried);
    }

    /// Discards the result of the scan, and restores the bits.
    fn restart(&mut self) {
        match &self.initial_words {
            Some(initial) => self.words.copy_from_slice(initial),
            None => self.words.fill(u64::MAX),
        }
        self.findings = ScanFindings::default();
        self.overhang.clear();
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
        let (findings, overhang) = (&mut self.findings, &mut self.overhang);
        Some(work(&mut PieceObserver { bitmap: &mut bitmap, findings, overhang }))
    }

    /// Whether the scan of this piece cleared bits of `range`.
    fn has_cleared(&self, range: PfnRange) -> bool {
        let range = range.intersection(self.frames);
        let initial =
            self.initial_words.as_ref().map_or(range.len(), |words| count_ones(words, self.frames, range));
        initial != count_ones(self.words, self.frames, range)
    }
}

struct PieceObserver<'p, 'a> {
    bitmap: &'p mut Bitmap<'a>,
    findings: &'p mut ScanFindings,
    overhang: &'p mut Vec<(PfnRange, PageClass)>,
}

impl Observer for PieceObserver<'_, '_> {
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        self.findings.counters.add(class, self.bitmap.clear(frames));
        let end = self.bitmap.frames().end;
        // A range that ends before the previous overhang adds nothing.
        if frames.end > end && self.overhang.last().is_none_or(|(last, _)| last.end < frames.end) {
            let frames = PfnRange::new(end.max(frames.start), frames.end);
            match self.overhang.last_mut() {
                Some((last, other)) if *other == class && last.end >= frames.start => last.end = frames.end,
                _ => self.overhang.push((frames, class)),
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
        record_unreadable(self.findings, frames, error);
    }

    fn bad_order(&mut self, _: Pfn) {
        self.findings.bad_orders += 1;
    }
}

/// Frames between two updates of the shared counter: a cache line that all threads write is slow.
const SHARING_FRAMES: u64 = 1 << 15;

/// The checkpoint of one thread. All threads add to one counter, and one of them calls the caller's checkpoint.
struct SharedCheckpoint<'s, 'p> {
    /// Frames that all threads have scanned.
    done: &'s AtomicU64,
    /// Set when the caller's checkpoint stops the scan.
    stop: &'s AtomicBool,
    /// The first frame of the window.
    start: Pfn,
    /// The first frame that this thread has not scanned yet.
    position: Pfn,
    /// Frames that this thread has scanned and not yet added to `done`.
    unreported: u64,
    /// The caller's checkpoint, in one of the threads.
    callers: Option<&'p mut dyn Checkpoint>,
}

impl Checkpoint for SharedCheckpoint<'_, '_> {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        self.unreported += next.frames_since(self.position);
        self.position = next;
        if self.unreported >= SHARING_FRAMES {
            let done = self.done.fetch_add(self.unreported, Ordering::Relaxed) + self.unreported;
            self.unreported = 0;
            if let Some(checkpoint) = &mut self.callers
                && checkpoint.check(self.start.saturating_add(done)).is_break()
            {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Counts the set bits of `range` in `words`, the bits of `frames`.
fn count_ones(words: &[u64], frames: PfnRange, range: PfnRange) -> u64 {
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
