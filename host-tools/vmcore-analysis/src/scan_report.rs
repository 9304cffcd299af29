//! What a scan found, for people and for scripts.

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

/// Everything that a scan has to tell.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport {
    /// The kernel's release.
    pub kernel: String,
    /// Its build id, if known.
    pub build_id: Option<String>,
    /// The kernel's memory model, in makedumpfile's words.
    pub memory_model: &'static str,
    /// The rule set.
    pub rules: &'static str,
    /// The dump level.
    pub level: u8,
    /// Frames up to the last that exists and has a `struct page`.
    pub frames: u64,
    /// Frames of them that exist.
    pub existing: u64,
    /// Pages left out, per class, as `(class, pages)`.
    pub excluded: Vec<ClassCount>,
    /// Pages that a dump keeps.
    pub kept: u64,
    /// Pages of them that are all zero bytes, if they were looked at.
    pub zero: Option<u64>,
    /// Pages kept because their `struct page` can't be read.
    pub unreadable: u64,
    /// Where, and why; the first thousand places.
    pub unreadable_places: Vec<String>,
    /// Pages kept because they are marked free with an order that can't be.
    pub bad_orders: u64,
    /// Free lists that are broken, and how; the rest of each is kept.
    pub broken_free_lists: Vec<String>,
    /// Rules that can't find anything in this kernel.
    pub unavailable_rules: Vec<&'static str>,
    /// Seconds of each step.
    pub steps: Vec<Step>,
    /// What an uncompressed dump would need at each level, zero pages included.
    pub sizes: Vec<LevelSize>,
}

/// Pages of a class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClassCount {
    /// The class.
    pub class: &'static str,
    /// Pages.
    pub pages: u64,
}

/// What a step took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub step: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// What an uncompressed dump would need at a level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelSize {
    /// The dump level, without its bit 1.
    pub level: u8,
    /// Pages that it keeps.
    pub pages: u64,
    /// Bytes of the file, at most.
    pub bytes: u64,
}

impl ScanReport {
    /// What `scanned`, a scan of `machine` at `level`, has to tell. `steps` are those before.
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

    /// Looks into the kept pages, and counts those of all zero bytes.
    pub fn count_zero_pages(
        &mut self,
        machine: &Machine<'_>,
        scanned: &ScannedBitmap,
        pace: &mut dyn Checkpoint,
    ) {
        let mut zero = 0;
        each_kept(machine, scanned, |window, kept| {
            for range in kept.to_ranges().as_slice() {
                for index in range.start.as_u64()..range.end.as_u64() {
                    zero += u64::from(is_zero_page(machine.image, window.start.saturating_add(index)));
                }
            }
            pace.check(window.end).is_continue();
        });
        self.zero = Some(zero);
    }
}

fn all_frames(machine: &Machine<'_>) -> PfnRange {
    PfnRange::new(Pfn::new(0), Pfn::new(machine.frames))
}

/// Tells `look` of the frames that a dump starts from and a scan keeps, window by window, so that none of their bits
/// leave the processor's cache; bit 0 is the window's first frame.
fn each_kept(machine: &Machine<'_>, scanned: &ScannedBitmap, mut look: impl FnMut(PfnRange, &FrameBitmap)) {
    /// A multiple of 64.
    const WINDOW_FRAMES: u64 = 1 << 18;
    let exists = machine.exists();
    let dumpable = DumpableFrames::new(machine.image.facts(), &exists);
    let words = scanned.bitmap.words().chunks(WINDOW_FRAMES as usize / 64);
    for (window, words) in windows(machine.frames, WINDOW_FRAMES).zip(words) {
        let mut kept = dumpable.window(window);
        kept.intersect_words(words);
        look(window, &kept);
    }
}

fn count_kept(machine: &Machine<'_>, scanned: &ScannedBitmap) -> u64 {
    let mut count = 0;
    each_kept(machine, scanned, |_, kept| count += kept.count());
    count
}

fn is_zero_page(image: &dyn MemoryImage, pfn: Pfn) -> bool {
    if let Some(page) = image.view(pfn.addr(), PAGE_SIZE).and_then(|bytes| bytes.first_chunk()) {
        return is_zero(page);
    }
    let mut page = [0; PAGE_SIZE];
    image.read(pfn.addr(), &mut page).is_ok() && is_zero(&page)
}

/// The sizes at all levels without bit 1, from a scan at `level` or, if that leaves out less, at all bits. They are
/// upper limits: a page that several rules would leave out counts for the first one only.
fn sizes(machine: &Machine<'_>, level: DumpLevel, scanned: &ScannedBitmap, kept: u64) -> Vec<LevelSize> {
    let all = DumpLevel::all();
    let full =
        if (level | DumpLevel::ZERO) == all { None } else { Some(scan(machine, all, &mut RunToCompletion)) };
    let least = full.as_ref().map_or(kept, |full| count_kept(machine, full));
    let full = full.as_ref().unwrap_or(scanned);
    let notes = machine.image.facts().notes.len().div_ceil(BLOCK_SIZE) as u64 + 2;
    let blocks = notes + bitmap_blocks(machine.frames);
    let size_at = |level: DumpLevel| {
        let stays = PageClass::ALL.into_iter().filter(|class| !class.is_excluded_at(level));
        let pages = least + stays.map(|class| full.findings.counters.get(class)).sum::<u64>();
        let bytes = blocks * BLOCK_SIZE as u64 + pages * (PageDesc::SIZE + PAGE_SIZE) as u64;
        LevelSize { level: level.bits(), pages, bytes }
    };
    (0..32).step_by(2).filter_map(DumpLevel::from_number).map(size_at).collect()
}

impl Step {
    /// A step of `time`.
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
            writeln!(f, "\n{} pages are kept because their struct pages can't be read:", self.unreadable)?;
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
                "\n{} pages are kept because they are marked free with an order that can't be.",
                self.bad_orders
            )?;
        }
        for list in &self.broken_free_lists {
            writeln!(f, "\nA free list is broken, its rest is kept: {list}.")?;
        }
        for rule in &self.unavailable_rules {
            writeln!(f, "\nA rule is dead: {rule}.")?;
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
