//! The report of a scan, as text and as JSON.

use page_filter::machine::Machine;
use page_filter::scan::{ScannedBitmap, scan};
use scanner_core::scan::{Checkpoint, RunToCompletion};
use scanner_core::{DumpLevel, PAGE_SIZE, PageClass, Pfn, PfnRange};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use vmcore::dump::dumpable::{DumpableFrames, windows};
use vmcore::dump::zero::is_zero;
use vmcore::format::kdump::{BLOCK_SIZE, PageDesc, bitmap_blocks};
use vmcore::frames::FrameBitmap;
use vmcore::image::MemoryImage;
use vmcore::units::human_bytes;

/// The report of a scan.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport {
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's build id, if it is known.
    pub build_id: Option<String>,
    /// The kernel's memory model, with makedumpfile's name.
    pub memory_model: &'static str,
    /// The rule set.
    pub rules: &'static str,
    /// The dump level.
    pub level: u8,
    /// The number of frames up to the last one that has a `struct page`: makedumpfile's `max_mapnr`.
    pub frames: u64,
    /// The number of these frames that exist.
    pub existing: u64,
    /// The excluded pages of each class.
    pub excluded: Vec<ClassCount>,
    /// The number of pages that a dump keeps.
    pub kept: u64,
    /// The number of kept pages that are zero pages; `None` if the contents were not read.
    pub zero: Option<u64>,
    /// The number of pages that are kept because their `struct page` cannot be read.
    pub unreadable: u64,
    /// The frames of these pages and the errors: at most 1000 entries.
    pub unreadable_places: Vec<String>,
    /// The number of pages that are kept because they are marked free with an impossible order.
    pub bad_orders: u64,
    /// The broken free lists and their defects. The unvisited blocks of each are kept.
    pub broken_free_lists: Vec<String>,
    /// Rules that find no page in this kernel because it does not export what they need.
    #[serde(rename = "dead_rules")]
    pub unavailable_rules: Vec<&'static str>,
    /// The steps of the command, with their times.
    pub steps: Vec<Step>,
    /// The size of an uncompressed dump at each level, zero pages included.
    pub sizes: Vec<LevelSize>,
}

/// The number of pages of a class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClassCount {
    /// The name of the class.
    pub class: &'static str,
    /// The number of pages.
    pub pages: u64,
}

/// The time of a step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// The name of the step.
    pub step: &'static str,
    /// The time, in seconds.
    pub seconds: f64,
}

/// The size of an uncompressed dump at a level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelSize {
    /// The dump level, without bit 1 (zero pages).
    pub level: u8,
    /// The number of pages in the dump.
    pub pages: u64,
    /// The size of the file in bytes: an upper limit.
    pub bytes: u64,
}

impl ScanReport {
    /// Creates the report of `scanned`, a scan of `machine` at `level`. `steps` are the steps up to now.
    pub fn new(machine: &Machine<'_>, level: DumpLevel, scanned: &ScannedBitmap, steps: Vec<Step>) -> Self {
        let kept = count_kept(machine, scanned);
        let findings = &scanned.findings;
        let counters = findings.counters;
        Self {
            kernel: machine.os_release().to_owned(),
            build_id: machine.info.build_id().map(str::to_owned),
            memory_model: machine.sections.model_name(),
            rules: machine.rule_set.name(),
            level: level.bits(),
            frames: machine.frames,
            existing: machine.exists().within(all_frames(machine)).map(|r| r.len()).sum(),
            excluded: PageClass::ALL
                .into_iter()
                .map(|class| ClassCount { class: class.name(), pages: counters.get(class) })
                .collect(),
            kept,
            zero: None,
            unreadable: findings.unreadable_frames,
            unreadable_places: findings.unreadable.iter().map(|(r, e)| format!("frames {r}: {e}")).collect(),
            bad_orders: findings.bad_orders,
            broken_free_lists: findings.broken_free_lists.iter().map(|(l, e)| format!("{l}: {e}")).collect(),
            unavailable_rules: machine.unavailable_rules(level).iter().map(|rule| rule.reason()).collect(),
            steps,
            sizes: sizes(machine, level, scanned, kept),
        }
    }

    /// Reads the kept pages and counts the zero pages. `checkpoint` reports the progress; it cannot stop the count.
    pub fn count_zero_pages(
        &mut self,
        machine: &Machine<'_>,
        scanned: &ScannedBitmap,
        checkpoint: &mut dyn Checkpoint,
    ) {
        let mut zero = 0;
        for_each_kept_window(machine, scanned, |window, kept| {
            for range in kept.to_ranges().as_slice() {
                for index in range.start.as_u64()..range.end.as_u64() {
                    zero += u64::from(is_zero_page(machine.image, window.start.saturating_add(index)));
                }
            }
            let _ = checkpoint.check(window.end);
        });
        self.zero = Some(zero);
    }
}

fn all_frames(machine: &Machine<'_>) -> PfnRange {
    PfnRange::new(Pfn::new(0), Pfn::new(machine.frames))
}

/// Calls `visit` for each window of frames, with the dumpable frames in it that the scan keeps. Bit 0 is the window's
/// first frame. A window's bits fit the processor's cache.
fn for_each_kept_window(
    machine: &Machine<'_>,
    scanned: &ScannedBitmap,
    mut visit: impl FnMut(PfnRange, &FrameBitmap),
) {
    /// In frames, a multiple of 64: a window is a whole number of bitmap words.
    const WINDOW_FRAMES: u64 = 1 << 18;
    let exists = machine.exists();
    let dumpable = DumpableFrames::new(machine.image.facts(), &exists);
    let words = scanned.bitmap.words().chunks(WINDOW_FRAMES as usize / 64);
    for (window, words) in windows(machine.frames, WINDOW_FRAMES).zip(words) {
        let mut kept = dumpable.window(window);
        kept.intersect_words(words);
        visit(window, &kept);
    }
}

fn count_kept(machine: &Machine<'_>, scanned: &ScannedBitmap) -> u64 {
    let mut count = 0;
    for_each_kept_window(machine, scanned, |_, kept| count += kept.count());
    count
}

fn is_zero_page(image: &dyn MemoryImage, pfn: Pfn) -> bool {
    if let Some(page) = image.view(pfn.addr(), PAGE_SIZE).and_then(|bytes| bytes.first_chunk()) {
        return is_zero(page);
    }
    let mut page = [0; PAGE_SIZE];
    image.read(pfn.addr(), &mut page).is_ok() && is_zero(&page)
}

/// The sizes at all levels without bit 1: from the scan at `level` if it has all other bits, else from a further scan.
///
/// The sizes are upper limits: a page that several rules exclude counts for the first rule only.
fn sizes(machine: &Machine<'_>, level: DumpLevel, scanned: &ScannedBitmap, kept: u64) -> Vec<LevelSize> {
    let all = DumpLevel::all();
    let full =
        if (level | DumpLevel::ZERO) == all { None } else { Some(scan(machine, all, &mut RunToCompletion)) };
    let kept_at_full_level = full.as_ref().map_or(kept, |full| count_kept(machine, full));
    let full = full.as_ref().unwrap_or(scanned);
    let notes = machine.image.facts().notes.len().div_ceil(BLOCK_SIZE) as u64 + 2;
    let blocks = notes + bitmap_blocks(machine.frames);
    let size_at = |level: DumpLevel| {
        let kept_classes = PageClass::ALL.into_iter().filter(|class| !class.is_excluded_at(level));
        let pages =
            kept_at_full_level + kept_classes.map(|class| full.findings.counters.get(class)).sum::<u64>();
        let bytes = blocks * BLOCK_SIZE as u64 + pages * (PageDesc::SIZE + PAGE_SIZE) as u64;
        LevelSize { level: level.bits(), pages, bytes }
    };
    (0..32).step_by(2).filter_map(DumpLevel::from_number).map(size_at).collect()
}

impl Step {
    /// Creates a step that took `time`.
    pub fn new(step: &'static str, time: Duration) -> Self {
        Self { step, seconds: time.as_secs_f64() }
    }
}

impl fmt::Display for ScanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |pages: u64| pages as f64 * 100.0 / self.existing.max(1) as f64;
        let memory = |pages: u64| human_bytes(pages * PAGE_SIZE as u64);
        writeln!(f, "Kernel       {}", self.kernel)?;
        if let Some(id) = &self.build_id {
            writeln!(f, "Build id     {id}")?;
        }
        writeln!(
            f,
            "Memory       {} page frames exist ({}) of {}, {}",
            self.existing,
            memory(self.existing),
            self.frames,
            self.memory_model
        )?;
        writeln!(f, "Dump level   {}, rules of {}", self.level, self.rules)?;
        writeln!(f)?;
        writeln!(f, "{:<16}{:>14}{:>14}{:>9}", "Class", "pages", "memory", "share")?;
        let mut row = |name: &str, pages| {
            writeln!(f, "{name:<16}{pages:>14}{:>14}{:>7.1} %", memory(pages), share(pages))
        };
        for count in &self.excluded {
            row(count.class, count.pages)?;
        }
        row("kept", self.kept)?;
        if let Some(zero) = self.zero {
            row("  of them zero", zero)?;
        }
        if self.unreadable > 0 {
            writeln!(f, "\n{} pages are kept because their struct pages cannot be read:", self.unreadable)?;
            for place in self.unreadable_places.iter().take(10) {
                writeln!(f, "  {place}")?;
            }
            if self.unreadable_places.len() > 10 {
                writeln!(f, "  and {} more places (--json lists them)", self.unreadable_places.len() - 10)?;
            }
        }
        if self.bad_orders > 0 {
            writeln!(
                f,
                "\n{} pages are kept because they are marked free with an impossible order.",
                self.bad_orders
            )?;
        }
        for list in &self.broken_free_lists {
            writeln!(f, "\nA free list is broken; its remaining blocks are kept: {list}.")?;
        }
        for rule in &self.unavailable_rules {
            writeln!(f, "\nA rule is unavailable: {rule}.")?;
        }
        writeln!(f, "\nAn uncompressed dump needs at most, at level")?;
        for pair in self.sizes.chunks(4) {
            for size in pair {
                write!(f, "{:>6}: {:>10}", size.level, human_bytes(size.bytes))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "Odd levels: the same, less 4 KiB for each page of zeros.\n")?;
        for step in &self.steps {
            writeln!(f, "STEP [{:<28}] : {:.6} seconds", step.step, step.seconds)?;
        }
        Ok(())
    }
}
