//! Checks whether a bitmap can be used for a request, and filters with a bitmap in memory.

use super::locate::{LocatedBitmap, SearchHints, find};
use super::report::MemoryBitmapReport;
use crate::bitmap_file::{BitmapReader, Info, Survey};
use crate::machine::Machine;
use crate::scan::{ScanFindings, WindowScan};
use scanner_core::info::v1;
use scanner_core::info::v2::{Header, NOT_COUNTED, RecordedRules, State};
use scanner_core::memmap::sections::Lookup;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, Pfn, PfnRange, PhysAddr, PhysicalMemory, RuleSet};
use vmcore::filter::FrameFilter;
use vmcore::image::MemoryImage;
use vmcore::{Error, Result};

/// The requirements on a bitmap, in memory or in a file.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The dump level.
    pub level: DumpLevel,
    /// The rule set.
    pub rules: RuleSet,
}

/// A bitmap that was found in memory and can be used for a request.
pub struct MemoryBitmap<'m> {
    bitmap: BitmapReader<&'m dyn MemoryImage>,
    /// The frames of the bitmap.
    frames: PfnRange,
    /// The frames that its producer decided about: all, or the first ones.
    decided: PfnRange,
    /// A scan of the other frames.
    rest: Option<WindowScan<'m>>,
    report: MemoryBitmapReport,
}

impl LocatedBitmap<'_> {
    /// Reads all of the bitmap, and reports on it. Does not check whether it can be used.
    ///
    /// # Errors
    /// Fails if a chunk cannot be read.
    pub fn describe(&self) -> Result<MemoryBitmapReport> {
        let report = self.reader.describe()?;
        Ok(MemoryBitmapReport::new(self.place, self.at, report, decided_frames(self.reader.info())))
    }
}

impl<'m> MemoryBitmap<'m> {
    /// Finds the bitmap of `machine` in its memory, and checks all of it.
    ///
    /// # Errors
    /// Fails if there is none, or if it cannot be used for `request`. The error is one line.
    pub fn new(machine: &'m Machine<'m>, hints: &SearchHints, request: Request) -> Result<Self> {
        let LocatedBitmap { place, at, reader } = find(machine.image, Some(&machine.layout.space), hints)?;
        let in_place =
            |error: Error| Error::unusable(format!("{}: at {at}: {}", place.name(), error.in_one_line()));
        let survey = request.check(&reader, machine).map_err(in_place)?;
        if survey.unsealed > 0 {
            check_own_pages(&reader, at).map_err(in_place)?;
        }
        let decided = decided_frames(reader.info());
        let report = MemoryBitmapReport::new(place, at, reader.report(&survey), decided);
        let frames = reader.info().frames();
        Ok(Self { bitmap: reader, frames, decided, rest: None, report })
    }

    /// Lets a scan of `machine` decide about the frames that the bitmap's producer left undecided. Without this call
    /// they are kept, like frames outside the bitmap.
    pub fn scan_the_rest(&mut self, machine: &'m Machine<'m>, level: DumpLevel) {
        if self.decided.end < self.frames.end {
            self.rest = Some(WindowScan::starting_at(machine, level, self.decided.end));
            self.report.undecided_are_scanned();
        }
    }

    /// The report on the bitmap.
    pub fn report(&self) -> &MemoryBitmapReport {
        &self.report
    }

    /// The findings of the scan of the undecided frames, if there is one.
    pub fn findings(&self) -> Option<&ScanFindings> {
        self.rest.as_ref().map(WindowScan::findings)
    }
}

impl FrameFilter for MemoryBitmap<'_> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        self.bitmap.clear_excluded(window, keep)?;
        // Both start at a multiple of 64 frames, so their intersection does, too.
        let common = window.intersection(self.frames);
        if let Some(rest) = &mut self.rest
            && common.end > self.decided.end
        {
            let skip = (common.start.frames_since(window.start) / 64) as usize;
            let words = common.len().div_ceil(64) as usize;
            rest.run(common, &mut keep[skip..skip + words], &mut RunToCompletion);
        }
        Ok(())
    }
}

impl Request {
    /// Reads all of a bitmap, and refuses one that cannot be used for this request on `machine`.
    ///
    /// # Errors
    /// Names the first check that fails.
    pub fn check<M: PhysicalMemory>(self, reader: &BitmapReader<M>, machine: &Machine<'_>) -> Result<Survey> {
        reader.check_machine(machine)?;
        self.matches(reader.info())?;
        check_progress(reader.info())?;
        check_size(reader.info(), machine)?;
        let survey = reader.survey()?;
        survey.intact()?;
        check_bits(reader, &survey, machine)?;
        Ok(survey)
    }

    /// Refuses a bitmap of another level or rule set. The zero-page bit of the level may differ, because zero pages are
    /// detected when the dump is written.
    ///
    /// # Errors
    /// Names the level, the rule set, or the class of pages that the bitmap must not exclude.
    pub fn matches(self, info: &Info) -> Result<()> {
        let recorded = match info {
            Info::V1(_) => None,
            Info::V2(header) => {
                check_rules(header, self.rules)?;
                header.level()
            }
        };
        let Some(level) = recorded else { return check_counts(info, self.level) };
        let requested = u32::from(self.level.bits());
        if (level ^ requested) & !u32::from(DumpLevel::ZERO.bits()) != 0 {
            return Err(Error::unusable(format!("its dump level is {level}, not {requested}")).with_hint(
                format!("Use the bitmap's level with -d {level}, or make a bitmap at level {requested}."),
            ));
        }
        Ok(())
    }
}

fn check_rules(header: &Header, requested: RuleSet) -> Result<()> {
    let recorded = header.rules;
    if recorded != RecordedRules::NotRecorded && recorded != requested.into() {
        return Err(Error::unusable(format!(
            "its rules are those of {recorded}, not of {}",
            requested.name()
        ))
        .with_hint(format!(
            "Use the bitmap's rules with --rules {recorded}, or make a bitmap with --rules {}.",
            requested.name()
        )));
    }
    Ok(())
}

/// Refuses a bitmap without a recorded level if its counters show pages that the requested level keeps.
fn check_counts(info: &Info, requested: DumpLevel) -> Result<()> {
    let [cache, cache_private, user, free] = match info {
        Info::V1(v1::Info { cache_pages, cache_private_pages, user_pages, free_pages, .. }) => {
            [*cache_pages, *cache_private_pages, *user_pages, *free_pages]
        }
        Info::V2(header) => {
            [header.cache_pages, header.cache_private_pages, header.user_pages, header.free_pages]
        }
    };
    // Level 4 excludes all of the page cache, as in makedumpfile.
    let any_cache = DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE;
    let classes = [
        ("cache", cache, any_cache),
        ("private cache", cache_private, DumpLevel::CACHE_PRIVATE),
        ("user", user, DumpLevel::USER),
        ("free", free, DumpLevel::FREE),
    ];
    let unwanted = classes
        .into_iter()
        .find(|(_, pages, bits)| *pages != 0 && *pages != NOT_COUNTED && !requested.intersects(*bits));
    match unwanted {
        Some((class, pages, _)) => Err(Error::unusable(format!(
            "it leaves out {pages} {class} pages, which dump level {} keeps",
            requested.bits()
        ))),
        None => Ok(()),
    }
}

/// Refuses a bitmap whose producer decided about no frame.
fn check_progress(info: &Info) -> Result<()> {
    let Info::V2(header) = info else { return Ok(()) };
    if !decided_frames(info).is_empty() {
        return Ok(());
    }
    Err(Error::unusable(match header.state {
        State::Empty => "it is stale: it was set up, but the scan of this crash never began".to_owned(),
        state => format!("its scan has decided about no page (state {state})"),
    }))
}

/// The frames that the producer decided about: all of the bitmap's, or the first ones.
fn decided_frames(info: &Info) -> PfnRange {
    let frames = info.frames();
    match info {
        Info::V2(header) if !matches!(header.state, State::Complete | State::NotRecorded) => {
            PfnRange::new(frames.start, frames.end.min(Pfn::new(header.scanned_up_to)).max(frames.start))
        }
        _ => frames,
    }
}

/// Refuses a bitmap for far more frames than the machine has, so that a damaged size cannot cause hours of reading. A
/// bitmap may have more frames than the machine, for memory hotplug.
fn check_size(info: &Info, machine: &Machine<'_>) -> Result<()> {
    /// Maximum ratio of the bitmap's frames to the machine's.
    const MAX_RATIO: u64 = 64;
    let frames = info.frames().len();
    if frames / MAX_RATIO > machine.frames {
        return Err(Error::unusable(format!(
            "it is for {frames} page frames, the machine has {}",
            machine.frames
        )));
    }
    Ok(())
}

/// Compares the bits with the producer's counters. If a chunk has no checksum (version 1, or a scan without time to
/// seal), also checks pages of the `struct page` array, which every valid bitmap keeps: other memory that looks like a
/// bitmap fails this check.
fn check_bits<M: PhysicalMemory>(
    reader: &BitmapReader<M>,
    survey: &Survey,
    machine: &Machine<'_>,
) -> Result<()> {
    let cleared = reader.info().frames().len() - survey.kept;
    if let Some(counted) = reader.info().counted()
        && !counted.agrees_with(cleared)
    {
        let counted = counted.pages;
        return Err(Error::unusable(format!(
            "{counted} pages are counted as excluded, but {cleared} bits are clear"
        )));
    }
    if survey.unsealed == 0 {
        return Ok(());
    }
    for lookup in machine.sections.iter(machine.image) {
        if let Lookup::Present(section) = lookup
            && let Ok(piece) = machine.layout.space.translate(machine.image, section.mem_map)
        {
            require_kept(reader, PfnRange::from_start(piece.phys.pfn(), 1), "the struct page array")?;
        }
    }
    Ok(())
}

/// Refuses a bitmap in memory, with its structure at `at`, that excludes the pages that contain it.
fn check_own_pages(reader: &BitmapReader<&dyn MemoryImage>, at: PhysAddr) -> Result<()> {
    let own = std::iter::once((at, 1))
        .chain(reader.chunks().iter().map(|(_, chunk)| (PhysAddr::new(chunk.address), chunk.size)));
    for (start, size) in own {
        let end = PhysAddr::new(start.as_u64().saturating_add(size)).pfn_ceil();
        require_kept(reader, PfnRange::new(start.pfn(), end), "the bitmap itself")?;
    }
    Ok(())
}

/// Refuses a bitmap that excludes one of `frames`, which contain `what`.
fn require_kept<M: PhysicalMemory>(reader: &BitmapReader<M>, frames: PfnRange, what: &str) -> Result<()> {
    let first = Pfn::new(frames.start.as_u64() / 64 * 64);
    for start in (first.as_u64()..frames.end.as_u64()).step_by(64) {
        let word = PfnRange::from_start(Pfn::new(start), 64);
        let mut keep = [u64::MAX];
        reader.clear_excluded(word, &mut keep)?;
        let checked = frames.intersection(word);
        let excluded =
            (checked.start.as_u64()..checked.end.as_u64()).find(|pfn| keep[0] >> (pfn - start) & 1 == 0);
        if let Some(pfn) = excluded {
            return Err(Error::unusable(format!("it leaves out frame {pfn:#x}, a page of {what}")));
        }
    }
    Ok(())
}
