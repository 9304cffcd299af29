//! The area: the contents of the kexec segment of the stage.
//!
//! The loader provides the image with its info, and the block of parameters. kexec fills the rest with zeros: the
//! scanner's state, the page tables and the bitmap. See `crash_stage::parameters` for the order.

use super::image::StageImage;
use crash_scan::STATE_SIZE;
use crash_stage::parameters::{self, MAGIC, Parameters};
use crash_stage::stage::prepare_info;
use scanner_core::crc32c::crc32c;
use scanner_core::paging::{DirectMap, DirectMapOptions, covering};
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, PfnRange, PhysAddr, RuleSet};
use vmcore::{Error, Result};

/// The options of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRequest {
    /// The dump level.
    pub level: DumpLevel,
    /// The rule set that decides which pages are excluded.
    pub rules: RuleSet,
    /// Time budget of the scan in milliseconds.
    pub budget_ms: u64,
    /// I/O port of a serial console, on which the stage prints a summary; 0 for none.
    pub serial_port: u16,
    /// The fault to inject: a `crash_stage::parameters::FaultInjection`, or 0.
    pub injected_fault: u64,
}

/// The facts about a machine that its stage needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The ranges of RAM, ascending and disjoint.
    pub ram: Vec<PfnRange>,
    /// The running kernel's VMCOREINFO text.
    pub vmcoreinfo: Vec<u8>,
    /// Whether the kernel uses five levels of page tables.
    pub five_level: bool,
    /// Whether the processor supports 1 GiB pages.
    pub has_1g: bool,
    /// Frequency of the time stamp counter in kHz: ticks per millisecond.
    pub tsc_khz: u64,
}

/// An area at a fixed physical address. Only the address that the stage jumps to at its end is still missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    numbers: Parameters,
    entry: u64,
    /// Bytes from the start of the area to the end of the block. The rest of the area is zeros.
    bytes: Vec<u8>,
}

impl Facts {
    /// The first frame after the last frame of RAM.
    fn end(&self) -> u64 {
        self.ram.last().map_or(0, |range| range.end.as_u64())
    }

    /// The ranges of RAM without the frames of `own`, the area. The stage maps its own area separately, with an
    /// unmapped guard page below its stack. A range that covers the area would map the guard page.
    fn ram_without(&self, own: PfnRange) -> Vec<PfnRange> {
        let around = |range: &PfnRange| {
            let below = PfnRange::new(range.start, range.end.min(own.start));
            let above = PfnRange::new(range.start.max(own.end), range.end);
            [below, above]
        };
        self.ram.iter().flat_map(around).filter(|range| !range.is_empty()).collect()
    }
}

/// The sizes of the parts of an area: the block and the bitmap in bytes, the page tables in tables.
struct Sizes {
    block: u64,
    tables: u64,
    bitmap: u64,
}

/// Size of a block with `ranges` memory ranges and `text` bytes of VMCOREINFO, in bytes.
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
            .map_err(|error| Error::unusable("cannot map the machine's memory").because(error))?;
        // The area can split large pages at its start, its end and its guard page, which takes more tables.
        let tables = map.tables_needed() + 16;
        // The area can split a range of RAM in two.
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
    /// Size of an area in bytes.
    ///
    /// # Errors
    /// If the page tables cannot map the machine's memory.
    pub fn size_for(image: &StageImage, facts: &Facts) -> Result<u64> {
        Ok(Sizes::new(facts)?.total(image.size()))
    }

    /// The area for `request` at physical address `at`, a multiple of the page size.
    ///
    /// # Errors
    /// If the page tables cannot map the machine's memory.
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
            return Err(Error::failure("the stage's parameters are inconsistent"));
        }
        let info = numbers.info();
        let mut bytes = moved;
        prepare_info(&mut bytes[info as usize..], at + info)
            .ok_or_else(|| Error::failure("cannot prepare the bitmap's info"))?;
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

    /// Size of the area in memory, in bytes.
    pub fn size(&self) -> u64 {
        self.numbers.area_size
    }

    /// Physical address of the bitmap's info.
    pub fn info(&self) -> u64 {
        self.numbers.area + self.numbers.info()
    }

    /// Physical address of the stage's entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The numbers of the parameters, with 0 as the entry and the checksum.
    pub fn numbers(&self) -> &Parameters {
        &self.numbers
    }

    /// The bytes to load at the start of the area, for a stage that jumps to `entry` at its end.
    pub fn bytes_for(&self, entry: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let start = self.numbers.image_size as usize;
        let block = &mut bytes[start..start + self.numbers.block_size as usize];
        block[..Parameters::SIZE].copy_from_slice(&Parameters { entry, ..self.numbers }.to_bytes());
        parameters::seal(block);
        bytes
    }
}
