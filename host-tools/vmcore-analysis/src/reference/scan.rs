//! The decisions about all frames of a machine, in ascending order, with the reasons.

use super::difference::Fixes;
use super::facts::PageFacts;
use super::rules::{BLOCK, Judge, Rule, RuleDecision};
use page_filter::machine::Machine;
use scanner_core::kernel::layout::FreePages;
use scanner_core::memmap::free_lists::{FreeBlockVisitor, FreeListError, FreeLists, walk_free_lists};
use scanner_core::memmap::sections::{Lookup, Section, SectionError};
use scanner_core::memory::ReadError;
use scanner_core::{DumpLevel, PageClass, Pfn, PfnRange, VirtAddr};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// The reason why frames are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBecause {
    /// A rule keeps them.
    Rule(Rule),
    /// The rules read no `struct page` at this level for this kernel.
    NotScanned,
    /// The image has no data for them, so makedumpfile does not classify them.
    NoFileData,
    /// They have no `struct page`.
    NoStructPage,
    /// The section's description is damaged, so it is unknown whether they have a `struct page`.
    SectionDamaged(SectionError),
    /// Their `struct page`s cannot be read. makedumpfile stops in this case.
    Unreadable(ReadError),
}

/// Frames that one decision excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The rule.
    pub rule: Rule,
    /// The class.
    pub class: PageClass,
    /// The frames. The `struct page` of the first one was decisive.
    pub frames: PfnRange,
}

/// The decision about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameDecision {
    /// The frame is kept.
    Kept(KeptBecause),
    /// The frame is excluded.
    Excluded(Exclusion),
}

/// Adjacent frames with the same decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The frames.
    pub frames: PfnRange,
    /// The decision about them.
    pub decision: FrameDecision,
}

/// The location of a frame's `struct page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructPage {
    /// The frame has a `struct page`.
    At {
        /// Its kernel virtual address.
        addr: VirtAddr,
        /// The memory section of the frame.
        section: Section,
    },
    /// The frame has no `struct page`.
    None,
    /// The section's description is damaged.
    Damaged(SectionError),
}

/// Locates the `struct page` of `pfn`.
pub fn locate(machine: &Machine<'_>, pfn: Pfn) -> StructPage {
    match machine.sections.lookup(machine.image, pfn) {
        Some(Lookup::Present(section)) => StructPage::At { addr: address(machine, &section, pfn), section },
        Some(Lookup::Damaged(_, error)) => StructPage::Damaged(error),
        Some(Lookup::Absent(_)) | None => StructPage::None,
    }
}

/// Reads the `struct page` of `pfn`.
///
/// # Errors
/// Fails if there is no readable `struct page`. The error is never [`KeptBecause::Rule`].
pub fn page(machine: &Machine<'_>, pfn: Pfn) -> Result<PageFacts, KeptBecause> {
    match locate(machine, pfn) {
        StructPage::None => Err(KeptBecause::NoStructPage),
        StructPage::Damaged(error) => Err(KeptBecause::SectionDamaged(error)),
        StructPage::At { section, .. } => Block::read(machine, &section, pfn)
            .and_then(|block| block.facts(machine, pfn))
            .map_err(KeptBecause::Unreadable),
    }
}

fn address(machine: &Machine<'_>, section: &Section, pfn: Pfn) -> VirtAddr {
    let offset = pfn.frames_since(section.frames.start).saturating_mul(machine.layout.page.size as u64);
    VirtAddr::new(section.mem_map.as_u64().wrapping_add(offset))
}

/// The `struct page`s of one read: from a frame to the end of its 512-frame block or of its section.
struct Block {
    frames: PfnRange,
    bytes: Result<Vec<u8>, ReadError>,
}

impl Block {
    fn at(machine: &Machine<'_>, section: &Section, pfn: Pfn) -> Self {
        let end = Pfn::new((pfn.as_u64() / BLOCK + 1) * BLOCK).min(section.frames.end);
        let frames = PfnRange::new(pfn, end);
        let mut bytes = vec![0; frames.len() as usize * machine.layout.page.size];
        let read = machine.layout.space.read(machine.image, address(machine, section, pfn), &mut bytes);
        Self { frames, bytes: read.map(|()| bytes) }
    }

    fn read(machine: &Machine<'_>, section: &Section, pfn: Pfn) -> Result<Self, ReadError> {
        let block = Self::at(machine, section, pfn);
        match block.bytes {
            Ok(_) => Ok(block),
            Err(error) => Err(error),
        }
    }

    fn facts(&self, machine: &Machine<'_>, pfn: Pfn) -> Result<PageFacts, ReadError> {
        let bytes = self.bytes.as_ref().map_err(|error| *error)?;
        let mut pages = bytes.chunks_exact(machine.layout.page.size);
        let page = pages.nth(pfn.frames_since(self.frames.start) as usize).unwrap_or_default();
        Ok(PageFacts::read(&machine.layout, pfn, page, pages.next()))
    }
}

/// An iterator over the decisions about all frames of a machine at a dump level, ascending, by the machine's rule set.
///
/// The order is makedumpfile's, section by section. After an excluded page, the scan continues after the last frame of
/// this exclusion, but each section starts at its own first frame. Frames of an earlier exclusion stay excluded,
/// whatever their own `struct page` contains.
pub struct ReferenceScan<'m> {
    machine: &'m Machine<'m>,
    judge: Judge<'m>,
    level: DumpLevel,
    next: Pfn,
    end: Pfn,
    section: Option<Section>,
    block: Option<Block>,
    /// Exclusions that extend beyond the section of their first frame.
    spanning: Vec<Exclusion>,
    /// Blocks of the free lists, ascending and disjoint. Empty if `struct page` shows which pages are free.
    free_blocks: Vec<PfnRange>,
    /// Decided runs. A further step may extend the last one.
    ready: VecDeque<Run>,
}

impl<'m> ReferenceScan<'m> {
    /// Creates a scan of all frames of `machine` at `level`.
    pub fn new(machine: &'m Machine<'m>, level: DumpLevel) -> Self {
        Self::over(machine, level, PfnRange::new(Pfn::new(0), Pfn::new(machine.frames)))
    }

    /// Creates a scan of `frames` alone. The scan does not know exclusions that start before `frames`, so the first
    /// frame should be aligned to the largest compound page.
    pub fn over(machine: &'m Machine<'m>, level: DumpLevel, frames: PfnRange) -> Self {
        Self {
            machine,
            judge: Judge::new(&machine.layout, Fixes::of(machine.rule_set)),
            level,
            next: frames.start,
            end: frames.end.min(Pfn::new(machine.frames)),
            section: None,
            block: None,
            spanning: Vec::new(),
            free_blocks: free_blocks(machine, level),
            ready: VecDeque::new(),
        }
    }

    /// Decides about the next frames.
    fn step(&mut self) {
        if !self.judge.scans_at(self.level) {
            return self.keep_up_to(self.end, KeptBecause::NotScanned);
        }
        let pfn = self.next;
        let section = match self.section.filter(|section| section.frames.contains(pfn)) {
            Some(section) => section,
            None => match self.machine.sections.lookup(self.machine.image, pfn) {
                Some(Lookup::Present(section)) => {
                    self.block = None;
                    *self.section.insert(section)
                }
                Some(Lookup::Absent(frames)) => {
                    return self.keep_up_to(frames.end, KeptBecause::NoStructPage);
                }
                Some(Lookup::Damaged(frames, error)) => {
                    return self.keep_up_to(frames.end, KeptBecause::SectionDamaged(error));
                }
                None => return self.keep_up_to(self.end, KeptBecause::NoStructPage),
            },
        };
        let backed = &self.machine.image.facts().backed;
        if !backed.contains(pfn) {
            // A block that was not readable is read again after the gap.
            self.block.take_if(|block| block.bytes.is_err());
            let rest = PfnRange::new(pfn, section.frames.end);
            let end = backed.within(rest).next().map_or(rest.end, |range| range.start);
            return self.keep_up_to(end, KeptBecause::NoFileData);
        }
        let block = match self.block.take().filter(|block| block.frames.contains(pfn)) {
            Some(block) => block,
            None => Block::at(self.machine, &section, pfn),
        };
        let facts = block.facts(self.machine, pfn);
        self.block = Some(block);
        match facts.map(|facts| self.judge.decide(&facts, self.level)) {
            Ok(RuleDecision { rule, class: None, .. }) => {
                self.keep_up_to(pfn.saturating_add(1), KeptBecause::Rule(rule));
            }
            Ok(RuleDecision { rule, class: Some(class), frames }) => {
                let frames = PfnRange::from_start(pfn, frames);
                self.exclude(Exclusion { rule, class, frames }, section.frames.end);
            }
            Err(error) => self.keep_up_to(pfn.saturating_add(1), KeptBecause::Unreadable(error)),
        }
    }

    fn keep_up_to(&mut self, end: Pfn, why: KeptBecause) {
        self.record(end, FrameDecision::Kept(why));
    }

    fn exclude(&mut self, exclusion: Exclusion, section_end: Pfn) {
        self.record(exclusion.frames.end.min(section_end), FrameDecision::Excluded(exclusion));
        if exclusion.frames.end > section_end {
            self.spanning.push(exclusion);
        }
    }

    /// Records `decision` for the frames from `next` up to `end`. An earlier exclusion takes precedence, and so does a
    /// free list's block if `decision` keeps the frames.
    fn record(&mut self, end: Pfn, decision: FrameDecision) {
        let end = end.min(self.end);
        while self.next < end {
            let next = self.next;
            let earlier = self.spanning.iter().find(|exclusion| exclusion.frames.end > next).copied();
            let (until, decision) = match earlier {
                Some(exclusion) => (exclusion.frames.end.min(end), FrameDecision::Excluded(exclusion)),
                None => self.or_free_list(next, end, decision),
            };
            match self.ready.back_mut() {
                Some(run) if run.decision == decision && run.frames.end == next => run.frames.end = until,
                _ => self.ready.push_back(Run { frames: PfnRange::new(next, until), decision }),
            }
            self.next = until;
        }
        self.spanning.retain(|exclusion| exclusion.frames.end > end);
    }

    /// The decision about the frames from `next` on, and the end of these frames, at most `end`: `decision`, or the
    /// exclusion by a free list's block.
    fn or_free_list(&self, next: Pfn, end: Pfn, decision: FrameDecision) -> (Pfn, FrameDecision) {
        let index = self.free_blocks.partition_point(|block| block.end <= next);
        match (decision, self.free_blocks.get(index)) {
            (FrameDecision::Kept(_), Some(block)) if block.start <= next => {
                let exclusion = Exclusion { rule: Rule::FreeList, class: PageClass::Free, frames: *block };
                (block.end.min(end), FrameDecision::Excluded(exclusion))
            }
            (FrameDecision::Kept(_), Some(block)) => (block.start.min(end), decision),
            _ => (end, decision),
        }
    }
}

/// The blocks of the free lists, if only these show which pages are free. Overlapping blocks are cut.
fn free_blocks(machine: &Machine<'_>, level: DumpLevel) -> Vec<PfnRange> {
    struct Blocks(Vec<PfnRange>);
    impl FreeBlockVisitor for Blocks {
        fn free_block(&mut self, frames: PfnRange) -> ControlFlow<()> {
            self.0.push(frames);
            ControlFlow::Continue(())
        }

        // The blocks of a broken list that were not visited are kept.
        fn broken_lists(&mut self, _: FreeLists, _: FreeListError) {}
    }
    if !level.contains(DumpLevel::FREE) || machine.layout.free != FreePages::FreeLists {
        return Vec::new();
    }
    let mut blocks = Blocks(Vec::new());
    let _ = walk_free_lists(&machine.layout, &machine.sections, machine.image, &mut blocks);
    let Blocks(mut blocks) = blocks;
    blocks.sort_by_key(|block| block.start);
    let mut end = Pfn::new(0);
    for block in &mut blocks {
        block.start = block.start.max(end);
        end = end.max(block.end);
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

impl Iterator for ReferenceScan<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        // A further step may extend the last run, so only the runs before it are final.
        while self.ready.len() < 2 && self.next < self.end {
            self.step();
        }
        self.ready.pop_front()
    }
}
