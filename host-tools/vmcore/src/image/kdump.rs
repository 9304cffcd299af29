//! A kdump-compressed file as a memory image.
//!
//! Supported are header versions 1 to 6, all codecs, one bitmap or two, complete and incomplete dumps, single parts of
//! a split dump, and plain and flattened files.

use super::bytes::FileBytes;
use super::facts::{Architecture, Filtered, ImageFacts, ImageFormat};
use super::file::{Access, PlainFile};
use super::identify::from_facts;
use super::notes::CoreNotes;
use super::source::MemoryImage;
use crate::format::kdump::{
    BLOCK_SIZE, DumpHeader, Extent, PageDesc, STATUS_INCOMPLETE, SubHeader, bitmap_blocks,
};
use crate::frames::FrameBitmap;
use crate::identity::{DumpIdentity, text};
use crate::{Error, Result};
use page_codecs::{Codec, Decompressor};
use scanner_core::{PAGE_SIZE, Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use std::borrow::Cow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A kdump-compressed file.
pub struct KdumpImage {
    file: FileBytes,
    facts: ImageFacts,
    identity: DumpIdentity,
    codec: Codec,
    index: DescIndex,
    cache: PageCache,
}

impl KdumpImage {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If the file is not kdump-compressed, or its headers contradict each other or the file's size.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(PlainFile::open(path, Access::Whole)?).map_err(|e| e.at(path))
    }

    /// The dump in `bytes`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: PlainFile) -> Result<Self> {
        let file = FileBytes::new(bytes)?;
        let header = DumpHeader::parse(&file.get_up_to(0, DumpHeader::SIZE as u64))?;
        let sub = SubHeader::parse(&file.get_up_to(BLOCK_SIZE as u64, SubHeader::SIZE as u64), &header);
        let bitmaps = Bitmaps::read(&file, &header, &sub)?;

        let notes = extent(&file, sub.notes, "ELF notes")?.into_owned();
        let vmcoreinfo = match extent(&file, sub.vmcoreinfo, "VMCOREINFO")? {
            text if text.is_empty() => CoreNotes::parse(&notes)?.vmcoreinfo.map(<[u8]>::to_vec),
            text => Some(text.into_owned()),
        };
        let exists = bitmaps.exists.to_ranges();
        let format = ImageFormat::Kdump { version: header.version, flattened: file.is_flattened() };
        let facts = ImageFacts {
            // As makedumpfile does for a filtered dump: a scan examines every page of the 1st bitmap.
            backed: exists.clone(),
            exists,
            max_pfn: bitmaps.kept.frames(),
            notes,
            vmcoreinfo,
            warnings: warnings(&file, &header, &bitmaps),
            architecture: architecture(&header)?,
            ..ImageFacts::empty(format)
        };

        let mut identity = from_facts(&facts);
        identity.set_utsname(&header.utsname);
        identity.nr_cpus = header.nr_cpus;
        if header.timestamp != 0 {
            identity.crash_time = header.timestamp;
        }
        // VMCOREINFO has priority: QEMU parses `NUMBER(phys_base)` as hexadecimal, so its sub header has a wrong value.
        if identity.phys_base == 0 {
            identity.phys_base = sub.phys_base;
        }
        identity.erase_info = extent(&file, sub.erase_info, "erase info")?.into_owned();

        let index = DescIndex::new(&bitmaps.kept, bitmaps.descriptors);
        let filtered = Some(Filtered { level: sub.dump_level, kept: bitmaps.kept });
        Ok(Self {
            codec: Codec::from_flags(header.status),
            index,
            cache: PageCache::new(),
            facts: ImageFacts { filtered, ..facts },
            identity,
            file,
        })
    }

    /// The codec of the dump. Single pages can have another encoding.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The 2nd bitmap: the pages in the file.
    fn kept(&self) -> Option<&FrameBitmap> {
        self.facts.filtered.as_ref().map(|filtered| &filtered.kept)
    }

    /// The descriptor of page `pfn`; `None` if the page is not in the file.
    fn descriptor(&self, pfn: Pfn) -> Option<PageDesc> {
        let offset = self.index.offset_of(self.kept()?, pfn)?;
        let bytes = self.file.get(offset, PageDesc::SIZE as u64)?;
        // A descriptor that was never written is all zeros. A size larger than a page is damage.
        Some(PageDesc::parse(bytes.first_chunk()?))
            .filter(|desc| desc.offset != 0 && (1..=PAGE_SIZE).contains(&(desc.size as usize)))
    }

    /// The codec and the stored data of page `pfn`.
    fn stored(&self, pfn: Pfn) -> Option<(Codec, Cow<'_, [u8]>)> {
        let desc = self.descriptor(pfn)?;
        Some((Codec::from_flags(desc.flags), self.file.get(desc.offset, desc.size.into())?))
    }

    /// Fills `out` with the bytes of page `pfn` that start at `offset` in the page.
    fn read_in_page(&self, pfn: Pfn, offset: usize, out: &mut [u8]) -> Option<()> {
        self.cache.with_page(
            pfn,
            |decompressor, page| {
                let (codec, data) = self.stored(pfn)?;
                decompressor.decompress(codec, &data, page).then_some(())
            },
            |page| out.copy_from_slice(&page[offset..offset + out.len()]),
        )
    }
}

/// Prefixes of `utsname.machine` for unsupported architectures.
const OTHER_ARCHITECTURES: [&str; 9] =
    ["aarch64", "armv", "i386", "i686", "loongarch", "mips", "ppc", "riscv", "s390"];

/// The architecture in the header. An unknown name counts as x86_64, since QEMU writes "Unknown".
fn architecture(header: &DumpHeader) -> Result<Architecture> {
    let machine = text(&header.utsname[4]);
    match OTHER_ARCHITECTURES.iter().any(|other| machine.starts_with(other.as_bytes())) {
        true => Err(Error::unusable(format!(
            "the machine is {}, expected {}",
            String::from_utf8_lossy(machine),
            Architecture::X86_64.name()
        ))
        .with_hint("Only vmcores of x86_64 kernels are supported.")),
        false => Ok(Architecture::X86_64),
    }
}

impl PhysicalMemory for KdumpImage {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.checked_add(done as u64).ok_or(Unreadable { addr })?;
            let offset = at.page_offset();
            let size = (PAGE_SIZE - offset).min(buf.len() - done);
            self.read_in_page(at.pfn(), offset, &mut buf[done..done + size])
                .ok_or(Unreadable { addr: at })?;
            done += size;
        }
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let offset = addr.page_offset();
        let desc = self.descriptor(addr.pfn())?;
        if Codec::from_flags(desc.flags) != Codec::Raw || desc.size as usize != PAGE_SIZE {
            return None;
        }
        self.file.view(desc.offset, PAGE_SIZE)?.get(offset..)?.get(..len)
    }
}

impl MemoryImage for KdumpImage {
    fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    fn recorded_identity(&self) -> Option<&DumpIdentity> {
        Some(&self.identity)
    }
}

/// The warnings for a dump that does not have all pages of its 2nd bitmap.
fn warnings(file: &FileBytes, header: &DumpHeader, bitmaps: &Bitmaps) -> Vec<String> {
    let mut warnings = Vec::new();
    if header.status & STATUS_INCOMPLETE != 0 {
        warnings.push("the dump is marked as incomplete: its writer could not finish it".into());
    }
    if file.is_cut() {
        warnings.push(format!(
            "the flattened dump is cut off: it has {} bytes of the dump and no end record",
            file.len()
        ));
    } else if bitmaps.end_of_data(file).is_none_or(|end| end > file.len()) {
        warnings.push(format!(
            "the file of {} bytes is cut off: it does not have all pages of its 2nd bitmap",
            file.len()
        ));
    }
    warnings
}

/// The bytes of an extent of the sub header; empty if the extent is absent.
fn extent<'a>(file: &'a FileBytes, extent: Extent, what: &str) -> Result<Cow<'a, [u8]>> {
    if extent.size == 0 {
        return Ok(Cow::default());
    }
    file.get(extent.offset, extent.size).ok_or_else(|| {
        Error::unusable(format!(
            "{what}: {} bytes at byte {} are outside the file of {} bytes",
            extent.size,
            extent.offset,
            file.len()
        ))
        .with_hint("The dump is damaged or cut off. Copy it again.")
    })
}

/// The bitmaps of a file.
struct Bitmaps {
    /// The 1st bitmap.
    exists: FrameBitmap,
    /// The 2nd bitmap. For one part of a split dump, only the pages of this part.
    kept: FrameBitmap,
    /// File offset of the first descriptor.
    descriptors: u64,
}

impl Bitmaps {
    fn read(file: &FileBytes, header: &DumpHeader, sub: &SubHeader) -> Result<Self> {
        let (frames, blocks) = (sub.max_mapnr, u64::from(header.bitmap_blocks));
        let needed = bitmap_blocks(frames);
        if frames == 0 || frames > Pfn::END.as_u64() || needed > blocks {
            return Err(Error::unusable(format!(
                "{blocks} bitmap blocks do not cover the {frames} frames (max_mapnr) of the header"
            ))
            .with_hint("The header of the dump is damaged. Copy the dump again."));
        }
        let start = (1 + u64::from(header.sub_hdr_blocks)) * BLOCK_SIZE as u64;
        let size = blocks * BLOCK_SIZE as u64;
        let bitmap = |offset| {
            let bytes = file.get(offset, frames.div_ceil(8)).ok_or_else(|| {
                Error::unusable(format!(
                    "the bitmap at byte {offset} is outside the file of {} bytes",
                    file.len()
                ))
                .with_hint("The dump is damaged or cut off. Copy it again.")
            })?;
            Ok(FrameBitmap::from_bytes(&bytes, frames))
        };
        // A sparse file can claim any size, so the size alone does not limit the allocation.
        if file.can_hold(frames.div_ceil(8)) {
            FrameBitmap::require_room(frames, 2)?;
        }
        let exists = bitmap(start)?;
        // If the blocks are enough for two bitmaps, there are two. Otherwise every existing page is in the file.
        let mut kept = if blocks / 2 >= needed { bitmap(start + size / 2)? } else { exists.clone() };
        if let Some((first, end)) = sub.split {
            let part = PfnRange::new(Pfn::new(first), Pfn::new(end));
            let all = PfnRange::new(Pfn::new(0), Pfn::new(frames));
            kept.clear_range(PfnRange::new(all.start, part.start));
            kept.clear_range(PfnRange::new(part.end, all.end));
        }
        Ok(Self { exists, kept, descriptors: start + size })
    }
}

impl Bitmaps {
    /// The end of the last page's data, in bytes from the start of the file. `None` if the file does not have the last
    /// descriptor.
    ///
    /// Pages are written in ascending order, so no page data follow.
    fn end_of_data(&self, file: &FileBytes) -> Option<u64> {
        let pages = self.kept.count();
        let Some(last) = pages.checked_sub(1) else { return Some(0) };
        let at = last.checked_mul(PageDesc::SIZE as u64)?.checked_add(self.descriptors)?;
        let desc = PageDesc::parse(file.get(at, PageDesc::SIZE as u64)?.first_chunk()?);
        desc.offset.checked_add(desc.size.into())
    }
}

/// Finds the descriptor of a page. Its number is the number of bits before the page's bit in the 2nd bitmap.
struct DescIndex {
    /// File offset of the first descriptor.
    start: u64,
    /// Number of bits set before each group of [`Self::GROUP`] words.
    before: Vec<u64>,
}

impl DescIndex {
    /// Words of a group: one cache line. A look-up counts the bits of at most one group.
    const GROUP: usize = 8;

    fn new(kept: &FrameBitmap, start: u64) -> Self {
        let mut sum = 0;
        let before = kept
            .words()
            .chunks(Self::GROUP)
            .map(|group| {
                let before = sum;
                sum += ones(group);
                before
            })
            .collect();
        Self { start, before }
    }

    /// The file offset of the descriptor of `pfn`; `None` if its bit is clear.
    fn offset_of(&self, kept: &FrameBitmap, pfn: Pfn) -> Option<u64> {
        if !kept.get(pfn) {
            return None;
        }
        let (word, bit) = ((pfn.as_u64() >> 6) as usize, pfn.as_u64() & 63);
        let group = word / Self::GROUP;
        let in_group = ones(&kept.words()[group * Self::GROUP..word]);
        let in_word = u64::from((kept.words()[word] & !(u64::MAX << bit)).count_ones());
        let number = self.before[group] + in_group + in_word;
        Some(self.start + number * PageDesc::SIZE as u64)
    }
}

/// Number of bits set in `words`.
fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// A cache of recently decompressed pages. It has shards, so that threads rarely wait for the same lock.
struct PageCache {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    decompressor: Decompressor,
    slots: Vec<Option<Slot>>,
}

struct Slot {
    pfn: Pfn,
    page: Box<[u8; PAGE_SIZE]>,
}

impl PageCache {
    const SHARDS: u64 = 16;
    /// Pages per shard. All shards together have 4 MiB of pages.
    const SLOTS: u64 = 64;

    fn new() -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Calls `use_page` with page `pfn`. If the page is not in the cache, `fill` makes it first. `None` if `fill`
    /// fails.
    fn with_page(
        &self,
        pfn: Pfn,
        fill: impl FnOnce(&mut Decompressor, &mut [u8; PAGE_SIZE]) -> Option<()>,
        use_page: impl FnOnce(&[u8; PAGE_SIZE]),
    ) -> Option<()> {
        let number = pfn.as_u64();
        // A panic of a thread that held the lock cannot leave the shard inconsistent, so poisoning is ignored.
        let mut shard =
            self.shards[(number % Self::SHARDS) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { decompressor, slots } = &mut *shard;
        slots.resize_with(Self::SLOTS as usize, || None);
        let slot = &mut slots[(number / Self::SHARDS % Self::SLOTS) as usize];
        if slot.as_ref().is_none_or(|slot| slot.pfn != pfn) {
            // The slot is empty while the page is filled, so a failure or a panic leaves no partly filled page in it.
            let mut page = slot.take().map_or_else(|| Box::new([0; PAGE_SIZE]), |slot| slot.page);
            fill(decompressor, &mut page)?;
            *slot = Some(Slot { pfn, page });
        }
        slot.as_ref().map(|slot| use_page(&slot.page))
    }
}

#[cfg(test)]
mod tests;
