//! A kdump-compressed file as a source of memory: header versions 1 to 6, every codec, one bitmap or two, whole,
//! incomplete or one part of a split dump, plain or flattened.

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
    /// If it is not a kdump-compressed file, or its headers contradict themselves or the file's length.
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
            // makedumpfile's rule for a source that was filtered: a scan looks at every page of the 1st bitmap.
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
        // VMCOREINFO goes first: QEMU takes its number for hexadecimal, and writes nonsense to the sub header.
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

    /// The codec that the dump was written with; single pages may be stored otherwise.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The pages that the file has: the 2nd bitmap.
    fn kept(&self) -> Option<&FrameBitmap> {
        self.facts.filtered.as_ref().map(|filtered| &filtered.kept)
    }

    /// Where the data of a page are; `None` if it is not in the file.
    fn descriptor(&self, pfn: Pfn) -> Option<PageDesc> {
        let offset = self.index.offset_of(self.kept()?, pfn)?;
        let bytes = self.file.get(offset, PageDesc::SIZE as u64)?;
        // A descriptor that was never written is all zero. The descriptor's size is not trusted beyond a page.
        Some(PageDesc::parse(bytes.first_chunk()?))
            .filter(|desc| desc.offset != 0 && (1..=PAGE_SIZE).contains(&(desc.size as usize)))
    }

    /// The data of a page as they are stored.
    fn stored(&self, pfn: Pfn) -> Option<(Codec, Cow<'_, [u8]>)> {
        let desc = self.descriptor(pfn)?;
        Some((Codec::from_flags(desc.flags), self.file.get(desc.offset, desc.size.into())?))
    }

    /// Copies the part of page `pfn` from byte `offset` on.
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

/// Names in `utsname.machine` of architectures that are not known here.
const OTHER_ARCHITECTURES: [&str; 9] =
    ["aarch64", "armv", "i386", "i686", "loongarch", "mips", "ppc", "riscv", "s390"];

/// The architecture that the header names. What names none (QEMU writes "Unknown") counts as x86_64.
fn architecture(header: &DumpHeader) -> Result<Architecture> {
    let machine = text(&header.utsname[4]);
    match OTHER_ARCHITECTURES.iter().any(|other| machine.starts_with(other.as_bytes())) {
        true => Err(Error::unusable(format!(
            "the machine is {}, expected {}",
            String::from_utf8_lossy(machine),
            Architecture::X86_64.name()
        ))
        .with_hint("Only vmcores of x86_64 kernels can be read.")),
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

/// What the user should know of a dump that has not all pages that it names.
fn warnings(file: &FileBytes, header: &DumpHeader, bitmaps: &Bitmaps) -> Vec<String> {
    let mut warnings = Vec::new();
    if header.status & STATUS_INCOMPLETE != 0 {
        warnings
            .push("the dump says of itself that it is incomplete: it could not be written to its end".into());
    }
    if file.is_cut() {
        warnings.push(format!(
            "the flattened dump was cut off: {} bytes of the dump arrived, and no end record",
            file.len()
        ));
    } else if bitmaps.reach(file).is_none_or(|end| end > file.len()) {
        warnings.push(format!(
            "the file of {} bytes is cut off: not all pages that its 2nd bitmap names are there",
            file.len()
        ));
    }
    warnings
}

/// A piece of the file that the sub header points at; empty if there is none.
fn extent<'a>(file: &'a FileBytes, extent: Extent, what: &str) -> Result<Cow<'a, [u8]>> {
    if extent.size == 0 {
        return Ok(Cow::default());
    }
    file.get(extent.offset, extent.size).ok_or_else(|| {
        Error::unusable(format!(
            "{what}: {} bytes at byte {} lie outside the file of {} bytes",
            extent.size,
            extent.offset,
            file.len()
        ))
        .with_hint("The dump is damaged or was cut off.")
    })
}

/// The bitmaps of a file, and what follows from them.
struct Bitmaps {
    /// The 1st bitmap.
    exists: FrameBitmap,
    /// The 2nd bitmap, as far as this file has the pages.
    kept: FrameBitmap,
    /// Where the descriptors start.
    descriptors: u64,
}

impl Bitmaps {
    fn read(file: &FileBytes, header: &DumpHeader, sub: &SubHeader) -> Result<Self> {
        let (frames, blocks) = (sub.max_mapnr, u64::from(header.bitmap_blocks));
        let needed = bitmap_blocks(frames);
        if frames == 0 || frames > Pfn::END.as_u64() || needed > blocks {
            return Err(Error::unusable(format!(
                "{blocks} blocks of bitmaps don't cover the {frames} frames that the header names"
            ))
            .with_hint("The dump's header is damaged."));
        }
        let start = (1 + u64::from(header.sub_hdr_blocks)) * BLOCK_SIZE as u64;
        let size = blocks * BLOCK_SIZE as u64;
        let bitmap = |offset| {
            let bytes = file.get(offset, frames.div_ceil(8)).ok_or_else(|| {
                Error::unusable(format!(
                    "the bitmap at byte {offset} lies outside the file of {} bytes",
                    file.len()
                ))
                .with_hint("The dump is damaged or was cut off.")
            })?;
            Ok(FrameBitmap::from_bytes(&bytes, frames))
        };
        // A file with holes can be of any size.
        if file.can_hold(frames.div_ceil(8)) {
            FrameBitmap::require_room(frames, 2)?;
        }
        let exists = bitmap(start)?;
        // Room for two bitmaps means that there are two; otherwise every page that exists is in the file.
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
    /// Where the data of the last page end: pages are written in ascending order. `None` if its descriptor is not
    /// in the file.
    fn reach(&self, file: &FileBytes) -> Option<u64> {
        let pages = self.kept.count();
        let Some(last) = pages.checked_sub(1) else { return Some(0) };
        let at = last.checked_mul(PageDesc::SIZE as u64)?.checked_add(self.descriptors)?;
        let desc = PageDesc::parse(file.get(at, PageDesc::SIZE as u64)?.first_chunk()?);
        desc.offset.checked_add(desc.size.into())
    }
}

/// Finds a page's descriptor: it has as many before it as there are bits before the page's in the 2nd bitmap.
struct DescIndex {
    /// Where the descriptors start in the file.
    start: u64,
    /// Bits set before each group of [`Self::GROUP`] words.
    before: Vec<u64>,
}

impl DescIndex {
    /// Words of the bitmap that are counted for a look-up: a cache line.
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

    /// Where the descriptor of `pfn` is in the file; `None` if its bit is clear.
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

fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Pages that were decompressed lately, in shards so that threads seldom wait for each other.
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
    /// Pages per shard; 4 MiB in all.
    const SLOTS: u64 = 64;

    fn new() -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Hands page `pfn` to `use_page`, after `fill` has made it if it is not there.
    fn with_page(
        &self,
        pfn: Pfn,
        fill: impl FnOnce(&mut Decompressor, &mut [u8; PAGE_SIZE]) -> Option<()>,
        use_page: impl FnOnce(&[u8; PAGE_SIZE]),
    ) -> Option<()> {
        let number = pfn.as_u64();
        // A shard is whole at any time, even if a thread gave up while it held it.
        let mut shard =
            self.shards[(number % Self::SHARDS) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { decompressor, slots } = &mut *shard;
        slots.resize_with(Self::SLOTS as usize, || None);
        let slot = &mut slots[(number / Self::SHARDS % Self::SLOTS) as usize];
        if slot.as_ref().is_none_or(|slot| slot.pfn != pfn) {
            // Taken out while it is filled, so that no half-written page stays behind.
            let mut page = slot.take().map_or_else(|| Box::new([0; PAGE_SIZE]), |slot| slot.page);
            fill(decompressor, &mut page)?;
            *slot = Some(Slot { pfn, page });
        }
        slot.as_ref().map(|slot| use_page(&slot.page))
    }
}

#[cfg(test)]
mod tests;
