//! The area that is handed to kexec: image with info, parameters; then the state, page tables and the bitmap, which kexec
//! fills with zeros. `crash_stage::parameters` says what is where.

use super::image::StageImage;
use crash_scan::STATE_SIZE;
use crash_stage::parameters::{self, MAGIC, Parameters};
use crash_stage::stage::prepare_info;
use scanner_core::crc32c::crc32c;
use scanner_core::paging::{DirectMap, DirectMapOptions, covering};
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, PfnRange, PhysAddr, RuleSet};
use vmcore::{Error, Result};

/// What a stage is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRequest {
    /// The dump level.
    pub level: DumpLevel,
    /// Whose rules decide.
    pub rules: RuleSet,
    /// Milliseconds after which the scan ends.
    pub budget_ms: u64,
    /// The port of a serial console to say on what happens; 0 for none.
    pub serial_port: u16,
    /// The fault to inject: a `crash_stage::parameters::FaultInjection`, or 0.
    pub injected_fault: u64,
}

/// What a stage has to know of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The memory that exists, ascending and disjoint.
    pub ram: Vec<PfnRange>,
    /// The running kernel's VMCOREINFO text.
    pub vmcoreinfo: Vec<u8>,
    /// Whether the kernel has five levels of page tables.
    pub five_level: bool,
    /// Whether the processor has pages of 1 GiB.
    pub has_1g: bool,
    /// Ticks of the time stamp counter in a millisecond.
    pub tsc_khz: u64,
}

/// An area at its place, but for the entry that it hands over to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    numbers: Parameters,
    entry: u64,
    /// From the area's start up to the end of the block; zeros follow.
    bytes: Vec<u8>,
}

impl Facts {
    /// The first frame behind the last one that exists.
    fn end(&self) -> u64 {
        self.ram.last().map_or(0, |range| range.end.as_u64())
    }

    /// The memory without the frames of `own`. The stage maps its own area by itself, with a gap below its stack that a
    /// range over all of it would close.
    fn ram_without(&self, own: PfnRange) -> Vec<PfnRange> {
        let around = |range: &PfnRange| {
            let below = PfnRange::new(range.start, range.end.min(own.start));
            let above = PfnRange::new(range.start.max(own.end), range.end);
            [below, above]
        };
        self.ram.iter().flat_map(around).filter(|range| !range.is_empty()).collect()
    }
}

/// The sizes of what is in an area.
struct Sizes {
    block: u64,
    tables: u64,
    bitmap: u64,
}

/// Bytes of a block with so many ranges and so long a text.
fn block_size(ranges: usize, text: usize) -> u64 {
    (Parameters::SIZE + ranges * size_of::<PfnRange>() + text) as u64
}

impl Sizes {
    fn new(facts: &Facts) -> Result<Self> {
        let options = DirectMapOptions {
            five_level: facts.five_level,
            use_1g: facts.has_1g,
            use_2m: true,
            sme_mask: 0,
            offset: 0,
        };
        let mut ranges: Vec<PfnRange> = facts.ram.clone();
        let map = DirectMap::new(&mut ranges, options)
            .map_err(|error| Error::unusable("the machine's memory can't be mapped").because(error))?;
        // The area itself breaks a large page in two or three, wherever it lies.
        let tables = map.tables_needed() + 16;
        // It may also part a range in two.
        let block = block_size(facts.ram.len() + 1, facts.vmcoreinfo.len());
        Ok(Self { block, tables, bitmap: facts.end().div_ceil(64) * 8 })
    }

    fn total(&self, image: u64) -> u64 {
        let page = |size: u64| size.next_multiple_of(PAGE_SIZE as u64);
        image
            + page(self.block)
            + page(STATE_SIZE as u64)
            + self.tables * PAGE_SIZE as u64
            + page(self.bitmap)
    }
}

impl Area {
    /// How many bytes an area takes.
    ///
    /// # Errors
    /// If there is memory that can't be mapped.
    pub fn size_for(image: &StageImage, facts: &Facts) -> Result<u64> {
        Ok(Sizes::new(facts)?.total(image.size()))
    }

    /// The area for `request` at physical address `at`, a multiple of the page size.
    ///
    /// # Errors
    /// If there is memory that can't be mapped.
    pub fn new(image: &StageImage, facts: &Facts, request: &StageRequest, at: u64) -> Result<Self> {
        let sizes = Sizes::new(facts)?;
        let page = |offset: u64| offset.next_multiple_of(PAGE_SIZE as u64);
        let moved = image.moved_to(at);
        let state = page(image.size() + sizes.block);
        let tables = page(state + STATE_SIZE as u64);
        let bitmap = tables + sizes.tables * PAGE_SIZE as u64;
        let area_size = page(bitmap + sizes.bitmap);
        let ram = facts.ram_without(covering(PhysAddr::new(at), area_size));
        let numbers = Parameters {
            magic: MAGIC,
            entry: 0,
            crc: 0,
            block_size: block_size(ram.len(), facts.vmcoreinfo.len()),
            area: at,
            area_size,
            image_size: image.size(),
            image_checked: image.checked(),
            image_crc: crc32c(&moved[..image.checked() as usize]).into(),
            state,
            tables,
            table_count: sizes.tables,
            bitmap,
            bitmap_size: sizes.bitmap,
            frame_count: facts.end(),
            range_count: ram.len() as u64,
            text_size: facts.vmcoreinfo.len() as u64,
            level: request.level.bits().into(),
            rules: request.rules as u64,
            five_level: facts.five_level.into(),
            large_pages: parameters::LARGE_2M | if facts.has_1g { parameters::LARGE_1G } else { 0 },
            tsc_khz: facts.tsc_khz,
            budget_ms: request.budget_ms,
            serial_port: request.serial_port.into(),
            injected_fault: request.injected_fault,
        };
        if !numbers.is_consistent() {
            return Err(Error::failure("the stage's parameters contradict themselves"));
        }
        let info = numbers.info();
        let mut bytes = moved;
        prepare_info(&mut bytes[info as usize..], at + info)
            .ok_or_else(|| Error::failure("the info can't be prepared"))?;
        bytes.extend(numbers.to_bytes());
        for range in &ram {
            let frame = |pfn: Pfn| pfn.as_u64().to_le_bytes();
            bytes.extend(frame(range.start));
            bytes.extend(frame(range.end));
        }
        bytes.extend(&facts.vmcoreinfo);
        Ok(Self { numbers, entry: at + image.entry(), bytes })
    }

    /// Physical address of the area.
    pub fn start(&self) -> u64 {
        self.numbers.area
    }

    /// Its size in memory.
    pub fn size(&self) -> u64 {
        self.numbers.area_size
    }

    /// Physical address of the info.
    pub fn info(&self) -> u64 {
        self.numbers.area + self.numbers.info()
    }

    /// The stage's entry.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The numbers.
    pub fn numbers(&self) -> &Parameters {
        &self.numbers
    }

    /// The bytes to load at the area's start, for a stage that goes on at `entry`.
    pub fn bytes_for(&self, entry: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let start = self.numbers.image_size as usize;
        let block = &mut bytes[start..start + self.numbers.block_size as usize];
        block[..Parameters::SIZE].copy_from_slice(&Parameters { entry, ..self.numbers }.to_bytes());
        parameters::seal(block);
        bytes
    }
}
