//! Makes a small fixture of a real vmcore: the memory that says which pages to dump stays, all else becomes zeros.
//!
//! What stays, byte by byte and not page by page: the page table entries on the way to the `struct page`s and to the
//! symbols that makedumpfile looks at, the memory sections, and of each `struct page` the fields that a rule reads.
//! Pointers in those are cut down to the bits that count. ELF header, program headers and notes stay as they are.
//! So that not all other pages are zero pages, every `MARK_EVERY`th one keeps its first byte that is not zero.
//!
//! The result is a valid vmcore, and makedumpfile gives the same 2nd bitmaps for it as for the original at all dump
//! levels (the 2nd bitmap of a kdump-compressed file doesn't know zero pages). A 512 MiB machine takes about 50 KiB.

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

/// One page of so many keeps a byte that says whether it is zero.
const MARK_EVERY: u64 = 16;
/// Sizes in bytes of what symbols stand for: six fields of 65 bytes of `struct new_utsname`, and a `nodemask_t` of
/// up to 1024 nodes.
const SIZE_UTSNAME: u64 = 6 * 65;
const SIZE_NODEMASK: u64 = 128;
/// A `page.private` that is larger than any order; larger values become this one.
const NO_ORDER: u64 = 64;

/// A page's bytes.
type Page = Box<[u8; PAGE_SIZE]>;

/// The memory that stays: pages by frame number; all others are zero.
#[derive(Debug, Default)]
pub struct Trimmed {
    pages: BTreeMap<u64, Page>,
}

impl Trimmed {
    /// Goes through `image` and takes what says which pages to dump.
    ///
    /// # Errors
    /// The image has no VMCOREINFO, its kernel is not understood, or its memory sections can't be read.
    pub fn of(image: &dyn MemoryImage) -> Result<Self> {
        let facts = image.facts();
        let text = facts.vmcoreinfo.as_deref().ok_or_else(|| Error::unusable("has no VMCOREINFO"))?;
        let info = VmcoreInfo::parse(text).map_err(|e| Error::unusable("VMCOREINFO").because(e))?;
        let layout = KernelLayout::resolve(&info, None).map_err(|e| Error::unusable("layout").because(e))?;
        if !PAGE_SIZE.is_multiple_of(layout.page.size) {
            return Err(Error::unusable("struct pages that lie across pages can't be trimmed"));
        }
        // By the kernel's rules, since makedumpfile can be off by a flag in the array's address (6.15 and later).
        let recorder = Recorder { memory: image, reads: RefCell::default() };
        let sections = MemorySections::locate(&layout, &recorder, Pfn::new(facts.max_pfn), RuleSet::Kernel)
            .map_err(|e| Error::unusable("memory sections").because(e))?;

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

    /// What stays of frame `pfn`; `None` if nothing does.
    pub fn page(&self, pfn: Pfn) -> Option<&[u8; PAGE_SIZE]> {
        self.pages.get(&pfn.as_u64()).map(|page| &**page)
    }

    /// Takes the fields that count of the struct pages in `len` bytes at `phys`.
    fn take_struct_pages(
        &mut self,
        image: &dyn MemoryImage,
        layout: &KernelLayout,
        phys: PhysAddr,
        len: u64,
    ) -> Result<()> {
        if !phys.as_u64().is_multiple_of(layout.page.size as u64) {
            return Err(Error::unusable("struct pages that lie across pages can't be trimmed"));
        }
        let mut original = vec![0; len as usize];
        image.read(phys, &mut original).map_err(|e| Error::unusable("struct pages").because(e))?;
        let mut kept = Vec::with_capacity(original.len());
        let mut behind_head = false;
        for page in original.chunks_exact(layout.page.size) {
            kept.extend(trim_struct_page(page, layout, behind_head));
            behind_head = number(page, layout.page.flags) & layout.flags.head != 0;
        }
        self.put(phys.as_u64(), &kept);
        Ok(())
    }

    /// Keeps a byte of some pages that are not zero, unless something of them is kept anyway.
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

    /// Writes the vmcore to `target`, which becomes a sparse file laid out as `original`: the ELF vmcore of which
    /// this is what stays of `image`.
    ///
    /// # Errors
    /// A file can't be read or written, or the headers are not all in front of the memory.
    pub fn write(&self, original: &Path, image: &dyn MemoryImage, target: &File) -> Result<()> {
        let failed = |e| Error::io(original, "can't be trimmed", e);
        let source = File::open(original).map_err(failed)?;
        let segments = || image.facts().segments.iter().filter(|s| s.file_size > 0);
        let head = segments().map(|s| s.offset).min().unwrap_or(0);
        if head > 16 << 20 {
            return Err(Error::unusable("the memory is not close behind the headers").at(original));
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

/// Memory that remembers what of it was read.
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

/// Reads what makedumpfile reads beside the memory sections; what isn't there is left out.
fn read_symbols(memory: &Recorder<'_>, info: &VmcoreInfo<'_>, layout: &KernelLayout) {
    let utsname = info.get(Key::OffUtsNamespaceName).unwrap_or(0).min(4096) + SIZE_UTSNAME;
    for (key, len) in [(Key::SymInitUtsNs, utsname), (Key::SymNodeOnlineMap, SIZE_NODEMASK)] {
        if let Some(addr) = info.get(key) {
            let _ = layout.space.read(memory, VirtAddr::new(addr), &mut vec![0; len as usize]);
        }
    }
}

/// The fields of the `struct page` in `page` that a rule reads. `behind_head` says that the one before is the head of
/// a compound page.
fn trim_struct_page(page: &[u8], layout: &KernelLayout, behind_head: bool) -> Vec<u8> {
    let fields = &layout.page;
    let mut kept = vec![0; page.len()];
    let mut keep = |at: usize, len: usize| kept[at..at + len].copy_from_slice(&page[at..at + len]);
    keep(fields.flags, 8);
    if let Some(at) = fields.mapcount {
        keep(at, 4);
    }
    // In a page that is no tail this is `lru`; in a tail it is the same for all tails of a head.
    let tail = fields.compound_head.filter(|&at| number(page, at) & 1 != 0);
    if let Some(at) = tail {
        keep(at, 8);
    }
    if tail.is_some() || behind_head {
        for TailField { offset, width } in tail_fields(&layout.compound) {
            keep(offset, width);
        }
    }
    // The low bits of `mapping` say what kind of pointer it is.
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
