//! The class of each page frame of a machine, as runs of frames of one class.

use page_filter::machine::Machine;
use page_filter::scan::{ScanFindings, WindowScan, WindowTarget};
use scanner_core::scan::Checkpoint;
use scanner_core::{DumpLevel, PageClass, Pfn, PfnRange};
use serde::Serialize;
use vmcore::frames::FrameRanges;

/// The class of a page frame. The order is that of the shares in a cell, from the bottom up: kept classes are at the
/// bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FrameClass {
    /// Poisoned by a memory error.
    Hwpoison,
    /// Kept: kernel memory, and all other pages that no rule excludes at this level.
    Kept,
    /// Kept because its `struct page` cannot be read.
    Unreadable,
    /// Exists, but the image does not have its contents, and no rule excludes it.
    NoData,
    /// Anonymous memory or hugetlb.
    User,
    /// Page cache with private data.
    CachePrivate,
    /// Page cache without private data.
    Cache,
    /// Logically offline.
    Offline,
    /// Free, and not accepted from the hypervisor yet.
    Unaccepted,
    /// Free.
    Free,
    /// No memory, or memory that a dump does not have: the crash kernel's, the firmware's.
    Hole,
}

impl FrameClass {
    /// All classes, in their order.
    pub const ALL: [Self; 11] = [
        Self::Hwpoison,
        Self::Kept,
        Self::Unreadable,
        Self::NoData,
        Self::User,
        Self::CachePrivate,
        Self::Cache,
        Self::Offline,
        Self::Unaccepted,
        Self::Free,
        Self::Hole,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hwpoison => "hwpoison",
            Self::Kept => "kept",
            Self::Unreadable => "unreadable",
            Self::NoData => "no_data",
            Self::User => "user",
            Self::CachePrivate => "cache_private",
            Self::Cache => "cache",
            Self::Offline => "offline",
            Self::Unaccepted => "unaccepted",
            Self::Free => "free",
            Self::Hole => "hole",
        }
    }

    /// The name in a legend.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kept => "kept (kernel, other)",
            Self::Unreadable => "kept, unreadable",
            Self::NoData => "not in this image",
            Self::CachePrivate => "cache, private data",
            Self::Hole => "no memory, reserved",
            Self::Unaccepted => "free, not accepted",
            Self::Hwpoison | Self::User | Self::Cache | Self::Offline | Self::Free => self.name(),
        }
    }

    /// Whether a picture must show even a single page of this class.
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Hwpoison | Self::Unreadable)
    }
}

impl From<PageClass> for FrameClass {
    fn from(class: PageClass) -> Self {
        match class {
            PageClass::Free => Self::Free,
            PageClass::Unaccepted => Self::Unaccepted,
            PageClass::Cache => Self::Cache,
            PageClass::CachePrivate => Self::CachePrivate,
            PageClass::User => Self::User,
            PageClass::Hwpoison => Self::Hwpoison,
            PageClass::Offline => Self::Offline,
        }
    }
}

/// Page frames per class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts([u64; FrameClass::ALL.len()]);

impl ClassCounts {
    /// The number of frames of `class`.
    pub fn get(&self, class: FrameClass) -> u64 {
        self.0[class as usize]
    }

    /// Adds `frames` frames of `class`.
    pub fn add(&mut self, class: FrameClass, frames: u64) {
        self.0[class as usize] += frames;
    }

    /// The number of frames of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The number of frames that exist: of all classes but [`FrameClass::Hole`].
    pub fn existing(&self) -> u64 {
        self.total() - self.get(FrameClass::Hole)
    }

    /// The classes that have frames, in their order.
    pub fn present(&self) -> impl Iterator<Item = (FrameClass, u64)> + '_ {
        FrameClass::ALL.into_iter().map(|class| (class, self.get(class))).filter(|(_, frames)| *frames > 0)
    }
}

/// Adjacent page frames of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRun {
    /// The frames.
    pub frames: PfnRange,
    /// Their class.
    pub class: FrameClass,
}

/// The frames of a window. A window has one byte for each.
const WINDOW_FRAMES: u64 = 1 << 18;

/// An iterator over the runs of a machine, ascending from frame 0. Runs have their maximum length.
///
/// The memory use does not depend on the size of the machine.
pub struct ClassRuns<'m, 'p> {
    machine: &'m Machine<'m>,
    scan: WindowScan<'m>,
    exists: FrameRanges,
    no_data: FrameRanges,
    checkpoint: &'p mut dyn Checkpoint,
    window: ClassWindow,
    /// The first frame of the window that no run has yet.
    next: Pfn,
    /// The last run. The next window may extend it.
    pending: Option<ClassRun>,
}

impl<'m, 'p> ClassRuns<'m, 'p> {
    /// Starts a scan of `machine` at `level`.
    pub fn new(machine: &'m Machine<'m>, level: DumpLevel, checkpoint: &'p mut dyn Checkpoint) -> Self {
        let facts = machine.image.facts();
        let exists = machine.exists();
        let no_data = match &facts.filtered {
            Some(filtered) => exists.minus(&filtered.kept.to_ranges()),
            None => exists.minus(&facts.backed),
        };
        let scan = WindowScan::new(machine, level);
        let (window, next) = (ClassWindow::default(), Pfn::new(0));
        Self { machine, scan, exists, no_data, checkpoint, window, next, pending: None }
    }

    /// The findings of the scan up to now.
    pub fn findings(&self) -> &ScanFindings {
        self.scan.findings()
    }

    /// Scans the next window; `false` at the end.
    fn advance(&mut self) -> bool {
        let all = PfnRange::new(self.window.frames.end, Pfn::new(self.machine.frames));
        let Some(next) = (!all.is_empty()).then(|| self.exists.within(all).next().map(|r| r.start)) else {
            return false;
        };
        let frames = match next {
            // A hole of any size takes one step.
            Some(start) if start > all.start => PfnRange::new(all.start, start),
            None => all,
            Some(start) => PfnRange::from_start(start, WINDOW_FRAMES).intersection(all),
        };
        self.window.reset(frames, next == Some(frames.start));
        for (ranges, class) in [(&self.exists, FrameClass::Kept), (&self.no_data, FrameClass::NoData)] {
            for range in ranges.within(frames) {
                self.window.slice(range).fill(class);
            }
        }
        self.scan.run_into(&mut self.window, self.checkpoint)
    }

    /// The next run of the window; `None` at its end.
    fn next_in_window(&mut self) -> Option<ClassRun> {
        let rest = PfnRange::new(self.next, self.window.frames.end);
        if rest.is_empty() {
            return None;
        }
        let classes = self.window.slice(rest);
        let run = match classes.first() {
            None => ClassRun { frames: rest, class: FrameClass::Hole },
            Some(&class) => {
                let len = classes.iter().take_while(|c| **c == class).count();
                ClassRun { frames: PfnRange::from_start(rest.start, len as u64), class }
            }
        };
        self.next = run.frames.end;
        Some(run)
    }
}

impl Iterator for ClassRuns<'_, '_> {
    type Item = ClassRun;

    fn next(&mut self) -> Option<ClassRun> {
        loop {
            let run = match self.next_in_window() {
                Some(run) => run,
                None if self.advance() => continue,
                None => return self.pending.take(),
            };
            match &mut self.pending {
                Some(pending) if pending.class == run.class => pending.frames.end = run.frames.end,
                _ => {
                    if let Some(finished) = self.pending.replace(run) {
                        return Some(finished);
                    }
                }
            }
        }
    }
}

/// The classes of a window's frames. `classes` is empty for a hole.
#[derive(Default)]
struct ClassWindow {
    frames: PfnRange,
    classes: Vec<FrameClass>,
}

impl ClassWindow {
    fn reset(&mut self, frames: PfnRange, has_memory: bool) {
        self.frames = frames;
        self.classes.clear();
        if has_memory {
            self.classes.resize(frames.len() as usize, FrameClass::Hole);
        }
    }

    fn slice(&mut self, frames: PfnRange) -> &mut [FrameClass] {
        let frames = frames.intersection(self.frames);
        let start = frames.start.frames_since(self.frames.start) as usize;
        self.classes.get_mut(start..start + frames.len() as usize).unwrap_or_default()
    }
}

impl WindowTarget for ClassWindow {
    fn window(&self) -> PfnRange {
        self.frames
    }

    fn exclude(&mut self, frames: PfnRange, class: PageClass) -> u64 {
        let mut excluded = 0;
        for frame in self.slice(frames) {
            if matches!(*frame, FrameClass::Kept | FrameClass::NoData | FrameClass::Unreadable) {
                *frame = class.into();
                excluded += 1;
            }
        }
        excluded
    }

    fn unreadable(&mut self, frames: PfnRange) {
        for frame in self.slice(frames) {
            if *frame == FrameClass::Kept {
                *frame = FrameClass::Unreadable;
            }
        }
    }
}
