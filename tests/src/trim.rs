//! Trims a real vmcore to a small fixture: keeps the bytes that decide which pages a dump has, and zeroes all others.
//!
//! The fixture keeps these bytes:
//!
//! - the page table entries that map the `struct page`s and the symbols that makedumpfile reads,
//! - the memory sections,
//! - the fields of each `struct page` that a rule reads; pointers are reduced to the bits that a rule tests,
//! - ELF header, program headers and notes, unchanged,
//! - the first nonzero byte of every `MARK_EVERY`th other page, so that not all of them become zero pages.
//!
//! The result is a valid vmcore. makedumpfile's 2nd bitmaps for it equal those for the original at all dump levels (the
//! 2nd bitmap of a kdump-compressed file does not record zero pages). A 512 MiB machine takes about 50 KiB.

use scanner_core::kernel::layout::{CompoundPages, KernelLayout, TailField};
use scanner_core::kernel::vmcoreinfo::{Key, VmcoreInfo};
use scanner_core::memmap::sections::Lookup;
use scanner_core::{
    MemorySections, PAGE_SIZE, Pfn, PfnRange, PhysAddr, PhysicalMemory, RuleSet, Unreadable, VirtAddr,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vmcore::image::MemoryImage;
use vmcore::{Error, Result};

/// Interval, in pages, of the pages that keep a nonzero byte.
const MARK_EVERY: u64 = 16;
/// Sizes in bytes of the objects that makedumpfile reads: `struct new_utsname` with six fields of 65 bytes, and a
/// `nodemask_t` of up to 1024 nodes.
const SIZE_UTSNAME: u64 = 6 * 65;
const SIZE_NODEMASK: u64 = 128;
/// A value of `page.private` above every valid order. It replaces all larger values.
const NO_ORDER: u64 = 64;

/// A page's bytes.
type Page = Box<[u8; PAGE_SIZE]>;

/// The kept memory: pages by frame number. All other pages are zero.
#[derive(Debug, Default)]
pub struct Trimmed {
    pages: BTreeMap<u64, Page>,
}

impl Trimmed {
    /// Collects the bytes of `image` that decide which pages a dump has.
    ///
    /// # Errors
    /// The image has no VMCOREINFO, its kernel layout cannot be resolved, its memory sections cannot be read, or a
    /// `struct page` crosses a page border.
    pub fn of(image: &dyn MemoryImage) -> Result<Self> {
        let facts = image.facts();
        let text = facts.vmcoreinfo.as_deref().ok_or_else(|| Error::unusable("has no VMCOREINFO"))?;
        let info =
            VmcoreInfo::parse(text).map_err(|e| Error::unusable("cannot parse VMCOREINFO").because(e))?;
        let layout = KernelLayout::resolve(&info, None)
            .map_err(|e| Error::unusable("cannot resolve the kernel layout").because(e))?;
        if !PAGE_SIZE.is_multiple_of(layout.page.size) {
            return Err(Error::unusable("cannot trim struct pages that cross page borders"));
        }
        // The kernel's rules: since 6.15, a section flag can shift the array's address that makedumpfile computes.
        let recorder = Recorder { memory: image, reads: RefCell::default() };
        let sections = MemorySections::locate(&layout, &recorder, Pfn::new(facts.max_pfn), RuleSet::Kernel)
            .map_err(|e| Error::unusable("cannot locate the memory sections").because(e))?;

        let mut trimmed = Self::default();
        for section in sections.iter(&recorder) {
            if let Lookup::Present(section) = section {
                let len = section.frames.len() * layout.page.size as u64;
                for piece in sections.space().pieces(&recorder, section.mem_map, len).flatten() {
                    trimmed.take_struct_pages(image, &layout, piece.phys, piece.len)?;
                }
            }
        }
        trimmed.take_marks(image, facts.backed.as_slice());
        read_symbols(&recorder, &info, &layout);
        for (addr, bytes) in recorder.reads.into_inner() {
            trimmed.put(addr, &bytes);
        }
        Ok(trimmed)
    }

    /// The kept bytes of frame `pfn`; `None` if the page is zero.
    pub fn page(&self, pfn: Pfn) -> Option<&[u8; PAGE_SIZE]> {
        self.pages.get(&pfn.as_u64()).map(|page| &**page)
    }

    /// Keeps the fields that a rule reads of the `struct page`s in the `len` bytes at `phys`.
    fn take_struct_pages(
        &mut self,
        image: &dyn MemoryImage,
        layout: &KernelLayout,
        phys: PhysAddr,
        len: u64,
    ) -> Result<()> {
        if !phys.as_u64().is_multiple_of(layout.page.size as u64) {
            return Err(Error::unusable("cannot trim struct pages that cross page borders"));
        }
        let mut original = vec![0; len as usize];
        image
            .read(phys, &mut original)
            .map_err(|e| Error::unusable("cannot read the struct pages").because(e))?;
        let mut kept = Vec::with_capacity(original.len());
        let mut follows_head = false;
        for page in original.chunks_exact(layout.page.size) {
            kept.extend(trim_struct_page(page, layout, follows_head));
            follows_head = number(page, layout.page.flags) & layout.flags.head != 0;
        }
        self.put(phys.as_u64(), &kept);
        Ok(())
    }

    /// Keeps one byte of every `MARK_EVERY`th nonzero page of which nothing else is kept.
    fn take_marks(&mut self, image: &dyn MemoryImage, backed: &[PfnRange]) {
        let mut page = [0; PAGE_SIZE];
        for range in backed {
            let first = range.start.as_u64().next_multiple_of(MARK_EVERY);
            for pfn in (first..range.end.as_u64()).step_by(MARK_EVERY as usize) {
                let addr = Pfn::new(pfn).addr();
                if self.pages.contains_key(&pfn) || image.read(addr, &mut page).is_err() {
                    continue;
                }
                if let Some(at) = page.iter().position(|&byte| byte != 0) {
                    self.put(addr.as_u64() + at as u64, &page[at..=at]);
                }
            }
        }
    }

    /// Keeps `bytes` at physical address `addr`.
    fn put(&mut self, mut addr: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (addr % PAGE_SIZE as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE - at));
            let page = self.pages.entry(addr / PAGE_SIZE as u64).or_insert_with(|| Box::new([0; PAGE_SIZE]));
            page[at..at + now.len()].copy_from_slice(now);
            addr += now.len() as u64;
            bytes = later;
        }
    }

    /// Writes the trimmed vmcore to `target`, a sparse file with the layout of `original`, the ELF vmcore that was
    /// opened as `image`.
    ///
    /// # Errors
    /// A file cannot be read or written, or the memory does not start within 16 MiB after the headers.
    pub fn write(&self, original: &Path, image: &dyn MemoryImage, target: &File) -> Result<()> {
        let failed = |e| Error::io(original, "cannot be trimmed", e);
        let source = File::open(original).map_err(failed)?;
        let segments = || image.facts().segments.iter().filter(|s| s.file_size > 0);
        let head = segments().map(|s| s.offset).min().unwrap_or(0);
        if head > 16 << 20 {
            return Err(Error::unusable("the memory starts more than 16 MiB after the headers").at(original));
        }
        let mut headers = vec![0; head as usize];
        source.read_exact_at(&mut headers, 0).map_err(failed)?;
        target.set_len(source.metadata().map_err(failed)?.len()).map_err(failed)?;
        target.write_all_at(&headers, 0).map_err(failed)?;
        for segment in segments() {
            let (start, end) = (segment.phys.as_u64(), segment.phys.as_u64() + segment.file_size);
            for (&pfn, page) in self.pages.range(start / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64)) {
                let addr = Pfn::new(pfn).addr().as_u64();
                let (from, to) = (addr.max(start), (addr + PAGE_SIZE as u64).min(end));
                let bytes = &page[(from - addr) as usize..(to - addr) as usize];
                target.write_all_at(bytes, segment.offset + (from - start)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A memory image that records its reads.
struct Recorder<'m> {
    memory: &'m dyn MemoryImage,
    reads: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl PhysicalMemory for Recorder<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.memory.read(addr, buf)?;
        let mut reads = self.reads.borrow_mut();
        let bytes = reads.entry(addr.as_u64()).or_default();
        if bytes.len() < buf.len() {
            *bytes = buf.to_vec();
        }
        Ok(())
    }
}

/// Reads the symbols that makedumpfile reads, so that they are recorded. Missing symbols are skipped.
fn read_symbols(memory: &Recorder<'_>, info: &VmcoreInfo<'_>, layout: &KernelLayout) {
    let utsname = info.get(Key::OffUtsNamespaceName).unwrap_or(0).min(4096) + SIZE_UTSNAME;
    for (key, len) in [(Key::SymInitUtsNs, utsname), (Key::SymNodeOnlineMap, SIZE_NODEMASK)] {
        if let Some(addr) = info.get(key) {
            let _ = layout.space.read(memory, VirtAddr::new(addr), &mut vec![0; len as usize]);
        }
    }
}

/// The `struct page` in `page`, reduced to the fields that a rule reads. `follows_head`: the previous page is the head
/// of a compound page.
fn trim_struct_page(page: &[u8], layout: &KernelLayout, follows_head: bool) -> Vec<u8> {
    let fields = &layout.page;
    let mut kept = vec![0; page.len()];
    let mut keep = |at: usize, len: usize| kept[at..at + len].copy_from_slice(&page[at..at + len]);
    keep(fields.flags, 8);
    if let Some(at) = fields.mapcount {
        keep(at, 4);
    }
    // In a tail page this word is the same for all tails of a head. In other pages it is `lru`, which no rule reads.
    let tail = fields.compound_head.filter(|&at| number(page, at) & 1 != 0);
    if let Some(at) = tail {
        keep(at, 8);
    }
    if tail.is_some() || follows_head {
        for TailField { offset, width } in tail_fields(&layout.compound) {
            keep(offset, width);
        }
    }
    // Rules read only the low bits of `mapping`, the type of the pointer.
    let mut put = |at: usize, value: u64| kept[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(fields.mapping, number(page, fields.mapping) & 7);
    if let Some(at) = fields.private {
        put(at, number(page, at).min(NO_ORDER));
    }
    kept
}

fn tail_fields(compound: &CompoundPages) -> impl Iterator<Item = TailField> {
    let fields = match *compound {
        CompoundPages::Destructor { order, dtor, .. } => [order, dtor],
        CompoundPages::TypedHugetlb { .. } | CompoundPages::FlaggedHugetlb { .. } => [None, None],
    };
    fields.into_iter().flatten()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
