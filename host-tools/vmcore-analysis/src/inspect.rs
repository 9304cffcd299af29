//! Reports the headers of an image and the properties of the kernel in it.

use page_filter::machine::Machine;
use scanner_core::kernel::layout::{CompoundPages, FreePages};
use scanner_core::memmap::sections::Lookup;
use scanner_core::{DumpLevel, PAGE_SIZE, RuleSet};
use serde::Serialize;
use std::fmt;
use vmcore::format::kdump::UTS_FIELD;
use vmcore::image::{ImageFormat, MemoryImage, notes::CoreNotes};
use vmcore::units::human_bytes;
use vmcore::{Error, Result};

/// The report about an image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// The file format, in words.
    pub format: String,
    /// The number of frames that exist.
    pub existing_frames: u64,
    /// One more than the largest frame number.
    pub max_pfn: u64,
    /// The memory segments of the image.
    pub segments: Vec<SegmentReport>,
    /// The number of CPUs whose registers were saved.
    pub cpus: usize,
    /// The headers of a dump; `None` if the image is not filtered.
    pub dump: Option<DumpReport>,
    /// The kernel; `None` if its layout cannot be determined from VMCOREINFO.
    pub machine: Option<MachineReport>,
    /// The reason why `machine` is `None`.
    pub not_understood: Option<String>,
    /// Defects of the image that do not prevent its use.
    pub warnings: Vec<String>,
}

/// A segment of memory, all in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Physical address.
    pub phys: u64,
    /// Kernel virtual address; 0 if it is not known.
    pub virt: u64,
    /// Size in memory.
    pub mem_size: u64,
    /// Size in the file.
    pub file_size: u64,
    /// Offset in the file.
    pub offset: u64,
}

/// The headers of a dump.
#[derive(Clone, Debug, Serialize)]
pub struct DumpReport {
    /// The dump level.
    pub level: u32,
    /// The number of pages in the file.
    pub kept: u64,
    /// sysname, nodename, release, version, machine, domainname.
    pub utsname: Vec<String>,
    /// The time of the crash, in seconds since 1970.
    pub crash_time: u64,
}

/// The properties of the kernel and of its memory map.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// The kernel release.
    pub release: String,
    /// The build id, in hexadecimal.
    pub build_id: Option<String>,
    /// The size of `struct page`, in bytes.
    pub struct_page: usize,
    /// How the rules recognise free pages.
    pub free_pages: &'static str,
    /// How the rules recognise compound pages.
    pub compound_pages: &'static str,
    /// The memory model.
    pub memory_model: &'static str,
    /// The number of memory sections with `struct page`s.
    pub sections: usize,
    /// The sections whose description is damaged, with the defect.
    pub damaged_sections: Vec<String>,
    /// The number of frames up to the last one that has a `struct page`: makedumpfile's `max_mapnr`.
    pub frames: u64,
    /// The number of page table levels: 4 or 5.
    pub page_table_levels: u8,
    /// The physical address of the top-level page table.
    pub page_table_root: u64,
    /// The memory encryption bit of page table entries (AMD SME); 0 if there is none.
    pub sme_mask: u64,
    /// Rules that find no page in this kernel because it does not export what they need.
    #[serde(rename = "dead_rules")]
    pub unavailable_rules: Vec<&'static str>,
}

impl ImageReport {
    /// Creates the report about `image`.
    ///
    /// # Errors
    /// Fails if the ELF notes of the image are damaged.
    pub fn new(image: &dyn MemoryImage) -> Result<Self> {
        let facts = image.facts();
        let machine = Machine::new(image, RuleSet::Makedumpfile);
        let identity = image.recorded_identity();
        let dump = facts.filtered.as_ref().map(|filtered| DumpReport {
            level: filtered.level,
            kept: filtered.kept.count(),
            utsname: identity.map(|id| id.utsname().iter().map(text).collect()).unwrap_or_default(),
            crash_time: identity.map_or(0, |id| id.crash_time),
        });
        Ok(Self {
            format: format_name(facts.format),
            existing_frames: facts.exists.count(),
            max_pfn: facts.max_pfn,
            segments: facts
                .segments
                .iter()
                .map(|s| SegmentReport {
                    phys: s.phys.as_u64(),
                    virt: s.virt.as_u64(),
                    mem_size: s.mem_size,
                    file_size: s.file_size,
                    offset: s.offset,
                })
                .collect(),
            cpus: CoreNotes::parse(&facts.notes)?.registers.len(),
            dump,
            not_understood: machine.as_ref().err().map(Error::report),
            machine: machine.ok().map(|m| MachineReport::new(&m)),
            warnings: facts.warnings.clone(),
        })
    }
}

impl MachineReport {
    fn new(machine: &Machine<'_>) -> Self {
        let layout = &machine.layout;
        let mut sections = 0;
        let mut damaged = Vec::new();
        for lookup in machine.sections.iter(machine.image) {
            match lookup {
                Lookup::Present(_) => sections += 1,
                Lookup::Absent(_) => {}
                Lookup::Damaged(frames, error) => damaged.push(format!("frames {frames}: {error}")),
            }
        }
        Self {
            release: machine.os_release().to_owned(),
            build_id: machine.info.build_id().map(str::to_owned),
            struct_page: layout.page.size,
            free_pages: match layout.free {
                FreePages::Type(_) => "by page type, order in private",
                FreePages::Flag(_) => "by PG_buddy, order in private",
                FreePages::FreeLists => "by the zones' free lists",
            },
            compound_pages: match layout.compound {
                CompoundPages::TypedHugetlb { .. } => "order in the first tail's flags, hugetlb by page type",
                CompoundPages::FlaggedHugetlb { .. } => "order and hugetlb in the first tail's flags",
                CompoundPages::Destructor { .. } => "order and destructor in the first tail",
            },
            memory_model: machine.sections.model_name(),
            sections,
            damaged_sections: damaged,
            frames: machine.frames,
            page_table_levels: if layout.space.five_level { 5 } else { 4 },
            page_table_root: layout.space.root.as_u64(),
            sme_mask: layout.space.sme_mask,
            unavailable_rules: machine
                .unavailable_rules(DumpLevel::all())
                .iter()
                .map(|rule| rule.reason())
                .collect(),
        }
    }
}

fn format_name(format: ImageFormat) -> String {
    match format {
        ImageFormat::Elf => "ELF core".to_owned(),
        ImageFormat::Kdump { version, flattened } => {
            format!(
                "kdump-compressed, header version {version}{}",
                if flattened { ", flattened" } else { "" }
            )
        }
        ImageFormat::Raw => "raw memory with a map".to_owned(),
    }
}

fn text(field: &[u8; UTS_FIELD]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

impl fmt::Display for ImageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = human_bytes(self.existing_frames * PAGE_SIZE as u64);
        writeln!(f, "Format           {}", self.format)?;
        writeln!(
            f,
            "Memory           {} page frames ({memory}), the last is {:#x}",
            self.existing_frames,
            self.max_pfn.saturating_sub(1)
        )?;
        writeln!(f, "CPUs             {} with saved registers", self.cpus)?;
        if let Some(dump) = &self.dump {
            writeln!(f, "Dump level       {}", dump.level)?;
            writeln!(f, "Pages kept       {}", dump.kept)?;
            writeln!(f, "System           {}", dump.utsname.join(" "))?;
            writeln!(f, "Crashed at       {} (seconds since 1970)", dump.crash_time)?;
        }
        if !self.segments.is_empty() {
            writeln!(
                f,
                "\n{:<20}{:>20}{:>18}{:>18}{:>18}",
                "Physical", "virtual", "bytes", "in the file", "at offset"
            )?;
            for s in &self.segments {
                writeln!(
                    f,
                    "{:<#20x}{:>#20x}{:>#18x}{:>#18x}{:>#18x}",
                    s.phys, s.virt, s.mem_size, s.file_size, s.offset
                )?;
            }
        }
        if let Some(machine) = &self.machine {
            writeln!(f)?;
            machine.fmt(f)?;
        }
        if let Some(why) = &self.not_understood {
            writeln!(f, "\nThe kernel's layout is not known: {why}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "\nWarning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MachineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Kernel           {}", self.release)?;
        if let Some(id) = &self.build_id {
            writeln!(f, "Build id         {id}")?;
        }
        writeln!(f, "struct page      {} bytes", self.struct_page)?;
        writeln!(f, "Free pages       {}", self.free_pages)?;
        writeln!(f, "Compound pages   {}", self.compound_pages)?;
        writeln!(f, "Memory model     {}, {} sections present", self.memory_model, self.sections)?;
        writeln!(f, "Page frames      {} up to the last section's end (max_mapnr)", self.frames)?;
        writeln!(
            f,
            "Page tables      {} levels, root at {:#x}",
            self.page_table_levels, self.page_table_root
        )?;
        if self.sme_mask != 0 {
            writeln!(f, "Encryption bit   {:#x}", self.sme_mask)?;
        }
        for section in &self.damaged_sections {
            writeln!(f, "Damaged section  {section}")?;
        }
        for rule in &self.unavailable_rules {
            writeln!(f, "Unavailable rule {rule}")?;
        }
        Ok(())
    }
}
