//! Whether a bitmap can be used for a request, and as a filter of what it decides.

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

/// What a bitmap is wanted for: one in memory, or in a file.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The dump level.
    pub level: DumpLevel,
    /// Whose rules are to decide.
    pub rules: RuleSet,
}

/// A bitmap that was found in memory and can be used for a request.
pub struct MemoryBitmap<'m> {
    bitmap: BitmapReader<&'m dyn MemoryImage>,
    /// The frames of which it says something.
    frames: PfnRange,
    /// Those of them that its producer has decided about: the first ones.
    decided: PfnRange,
    /// Decides about the others.
    rest: Option<WindowScan<'m>>,
    report: MemoryBitmapReport,
}

impl LocatedBitmap<'_> {
    /// Reads all of the bitmap, and says what it is, whatever it may be good for.
    ///
    /// # Errors
    /// If a chunk can't be read.
    pub fn describe(&self) -> Result<MemoryBitmapReport> {
        let report = self.reader.describe()?;
        Ok(MemoryBitmapReport::new(self.place, self.at, report, decided(self.reader.info())))
    }
}

impl<'m> MemoryBitmap<'m> {
    /// Finds the bitmap of `machine` in its memory, and checks all of it.
    ///
    /// # Errors
    /// If there is none, or it can't be used for `request`: in one line why.
    pub fn new(machine: &'m Machine<'m>, hints: &SearchHints, request: Request) -> Result<Self> {
        let LocatedBitmap { place, at, reader } = find(machine.image, Some(&machine.layout.space), hints)?;
        let here =
            |error: Error| Error::unusable(format!("{}: at {at}: {}", place.name(), error.in_one_line()));
        let survey = request.check(&reader, machine).map_err(here)?;
        if survey.unsealed > 0 {
            keeps_itself(&reader, at).map_err(here)?;
        }
        let decided = decided(reader.info());
        let report = MemoryBitmapReport::new(place, at, reader.report(&survey), decided);
        let frames = reader.info().frames();
        Ok(Self { bitmap: reader, frames, decided, rest: None, report })
    }

    /// Lets a scan of `machine` decide about the frames of the bitmap that its producer has left undecided. Without
    /// that they are kept, as frames are that the bitmap doesn't have.
    pub fn scan_the_rest(&mut self, machine: &'m Machine<'m>, level: DumpLevel) {
        if self.decided.end < self.frames.end {
            self.rest = Some(WindowScan::starting_at(machine, level, self.decided.end));
            self.report.undecided_are_scanned();
        }
    }

    /// What to tell about it.
    pub fn report(&self) -> &MemoryBitmapReport {
        &self.report
    }

    /// What the scan of the rest has found, if there was one.
    pub fn findings(&self) -> Option<&ScanFindings> {
        self.rest.as_ref().map(WindowScan::findings)
    }
}

impl FrameFilter for MemoryBitmap<'_> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        self.bitmap.clear_excluded(window, keep)?;
        // Both start at a multiple of 64 frames, and so does what they have in common.
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
    /// Reads all of a bitmap, and refuses one that can't be used for this request on `machine`.
    ///
    /// # Errors
    /// Names the first thing that doesn't hold.
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

    /// Refuses a bitmap that is not at this level, or not by these rules. Pages of zeros are found while a dump is
    /// written, whatever the bitmap's level says of them.
    ///
    /// # Errors
    /// Names the level, the rules, or the class of pages that the bitmap leaves out.
    pub fn matches(self, info: &Info) -> Result<()> {
        let recorded = match info {
            Info::V1(_) => None,
            Info::V2(header) => {
                check_rules(header, self.rules)?;
                header.level()
            }
        };
        let Some(level) = recorded else { return check_counts(info, self.level) };
        let asked = u32::from(self.level.bits());
        if (level ^ asked) & !u32::from(DumpLevel::ZERO.bits()) != 0 {
            return Err(Error::unusable(format!("its dump level is {level}, not {asked}")).with_hint(
                format!("Ask for its level with -d {level}, or make a bitmap at level {asked}."),
            ));
        }
        Ok(())
    }
}

fn check_rules(header: &Header, asked: RuleSet) -> Result<()> {
    let recorded = header.rules;
    if recorded != RecordedRules::NotRecorded && recorded != asked.into() {
        return Err(Error::unusable(format!("its rules are those of {recorded}, not of {}", asked.name()))
            .with_hint(format!(
                "Ask for its rules with --rules {recorded}, or make a bitmap by those of {}.",
                asked.name()
            )));
    }
    Ok(())
}

/// A bitmap that doesn't record its level shows by its counts what it leaves out.
fn check_counts(info: &Info, asked: DumpLevel) -> Result<()> {
    let [cache, cache_private, user, free] = match info {
        Info::V1(v1::Info { cache_pages, cache_private_pages, user_pages, free_pages, .. }) => {
            [*cache_pages, *cache_private_pages, *user_pages, *free_pages]
        }
        Info::V2(header) => {
            [header.cache_pages, header.cache_private_pages, header.user_pages, header.free_pages]
        }
    };
    // Level 4 leaves out all of the page cache, as in makedumpfile.
    let any_cache = DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE;
    let classes = [
        ("cache", cache, any_cache),
        ("private cache", cache_private, DumpLevel::CACHE_PRIVATE),
        ("user", user, DumpLevel::USER),
        ("free", free, DumpLevel::FREE),
    ];
    let unwanted = classes
        .into_iter()
        .find(|(_, pages, bits)| *pages != 0 && *pages != NOT_COUNTED && !asked.intersects(*bits));
    match unwanted {
        Some((class, pages, _)) => Err(Error::unusable(format!(
            "it leaves out {pages} {class} pages, which dump level {} keeps",
            asked.bits()
        ))),
        None => Ok(()),
    }
}

/// Refuses a bitmap whose producer has decided about nothing.
fn check_progress(info: &Info) -> Result<()> {
    let Info::V2(header) = info else { return Ok(()) };
    if !decided(info).is_empty() {
        return Ok(());
    }
    Err(Error::unusable(match header.state {
        State::Empty => "it is stale: it was set up, but the scan of this crash never began".to_owned(),
        state => format!("its scan has decided about no page (state {state})"),
    }))
}

/// The frames that the producer has decided about: all of the bitmap's, or the first ones.
fn decided(info: &Info) -> PfnRange {
    let frames = info.frames();
    match info {
        Info::V2(header) if !matches!(header.state, State::Complete | State::NotRecorded) => {
            PfnRange::new(frames.start, frames.end.min(Pfn::new(header.scanned_up_to)).max(frames.start))
        }
        _ => frames,
    }
}

/// Refuses a bitmap for far more frames than the machine has (some room for memory to be added there may be), so that
/// no number in it makes us read for hours.
fn check_size(info: &Info, machine: &Machine<'_>) -> Result<()> {
    /// How much larger it may be.
    const MOST: u64 = 64;
    let frames = info.frames().len();
    if frames / MOST > machine.frames {
        return Err(Error::unusable(format!(
            "it is for {frames} page frames, the machine has {}",
            machine.frames
        )));
    }
    Ok(())
}

/// Holds the bits against what the producer counted. What no checksum protects (version 1, a scan without the time to
/// seal) is also held against pages that no bitmap leaves out, so that other memory is not taken for one.
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
            must_keep(reader, PfnRange::from_start(piece.phys.pfn(), 1), "the array of struct page")?;
        }
    }
    Ok(())
}

/// Refuses a bitmap in memory, its structure at `at`, that leaves out the pages that it lies in.
fn keeps_itself(reader: &BitmapReader<&dyn MemoryImage>, at: PhysAddr) -> Result<()> {
    let own = std::iter::once((at, 1))
        .chain(reader.chunks().iter().map(|(_, chunk)| (PhysAddr::new(chunk.address), chunk.size)));
    for (start, size) in own {
        let end = PhysAddr::new(start.as_u64().saturating_add(size)).pfn_ceil();
        must_keep(reader, PfnRange::new(start.pfn(), end), "the bitmap itself")?;
    }
    Ok(())
}

/// Refuses a bitmap that leaves out one of `frames`, where `what` is.
fn must_keep<M: PhysicalMemory>(reader: &BitmapReader<M>, frames: PfnRange, what: &str) -> Result<()> {
    let first = Pfn::new(frames.start.as_u64() / 64 * 64);
    for start in (first.as_u64()..frames.end.as_u64()).step_by(64) {
        let word = PfnRange::from_start(Pfn::new(start), 64);
        let mut keep = [u64::MAX];
        reader.clear_excluded(word, &mut keep)?;
        let asked = frames.intersection(word);
        let excluded =
            (asked.start.as_u64()..asked.end.as_u64()).find(|pfn| keep[0] >> (pfn - start) & 1 == 0);
        if let Some(pfn) = excluded {
            return Err(Error::unusable(format!("it leaves out frame {pfn:#x}, a page of {what}")));
        }
    }
    Ok(())
}
