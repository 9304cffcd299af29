//! The memory map: a `struct page` for each frame, as the generation lays it out, and the free lists through them.

use super::classes::ClassCounts;
use super::elf::SparseCore;
use super::free_lists::{FreeLists, list_head};
use super::generation::{Compound, HUGETLB_PAGE_DTOR, KernelGeneration, Keys, NO_TYPE, TailLink};
use super::machine::{Machine, REGION_FRAMES, SECTION_FRAMES};
use super::page::{Destructor, Extent, PageImage, State};
use super::population;
use super::rng::Rng;
use super::symbols::Symbols;
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};
use vmcore::Result;

/// The largest `struct page`, in bytes.
const LARGEST: usize = 64;
/// `COMPOUND_PAGE_DTOR`, the destructor of ordinary compound pages.
const COMPOUND_PAGE_DTOR: u8 = 1;
/// `TAIL_MAPPING`: what `mapping` is in tail pages (poison, and even).
const TAIL_MAPPING: u64 = 0xdead_0000_0000_0400;
/// Bits of `mapping`: anonymous, movable, both for merged anonymous pages.
const MAPPING_ANON: u64 = 1;
const MAPPING_MOVABLE: u64 = 2;
const MAPPING_KSM: u64 = 3;

/// Writes all `struct page`s; returns what a filter has to count, and the ends of the free lists.
pub(super) fn write(machine: &Machine, out: &SparseCore<'_>) -> Result<(ClassCounts, FreeLists)> {
    let mut counts = ClassCounts::default();
    let mut writer = MapWriter::new(machine, out);
    for piece in &machine.memmap {
        let (first, last) = (piece.frames.start.as_u64(), piece.frames.end.as_u64());
        for start in (first / SECTION_FRAMES * SECTION_FRAMES..last).step_by(SECTION_FRAMES as usize) {
            let section = PfnRange::from_start(Pfn::new(start), SECTION_FRAMES).intersection(piece.frames);
            if machine.ram.within(section).next().is_none() {
                continue;
            }
            writer.open(section);
            let regions =
                section.start.as_u64() / REGION_FRAMES..section.end.as_u64().div_ceil(REGION_FRAMES);
            let mut failed = Ok(());
            for region in regions {
                population::region(machine, region, &mut |extent: Extent| {
                    population::count(machine, &extent, &mut counts);
                    if failed.is_ok() {
                        failed = writer.put(&extent);
                    }
                });
            }
            failed?;
            writer.flush()?;
        }
    }
    writer.lists.break_one(machine, out)?;
    Ok((counts, writer.lists))
}

/// Puts extents into a buffer that holds the memory map of one section.
struct MapWriter<'a> {
    machine: &'a Machine,
    generation: &'a KernelGeneration,
    out: &'a SparseCore<'a>,
    lists: FreeLists,
    section: PfnRange,
    bytes: Vec<u8>,
    /// The pages of the buffer that are not all holes.
    touched: Vec<bool>,
}

impl<'a> MapWriter<'a> {
    fn new(machine: &'a Machine, out: &'a SparseCore<'a>) -> Self {
        let len = (SECTION_FRAMES * machine.page_size()) as usize;
        Self {
            machine,
            generation: machine.generation,
            out,
            lists: FreeLists::new(machine),
            section: PfnRange::default(),
            bytes: vec![0; len],
            touched: vec![false; len / PAGE_SIZE],
        }
    }

    fn open(&mut self, section: PfnRange) {
        self.section = section;
        if self.machine.spec.dense {
            let bytes = (section.len() * self.machine.page_size()) as usize;
            self.touched[..bytes.div_ceil(PAGE_SIZE)].fill(true);
        }
    }

    /// Writes the touched pages of the buffer, and leaves it empty.
    fn flush(&mut self) -> Result<()> {
        let base = self.machine.struct_page_phys(self.section.start.as_u64());
        let mut page = 0;
        while page < self.touched.len() {
            let run = self.touched[page..].iter().take_while(|&&touched| touched).count();
            if run > 0 {
                let bytes = &mut self.bytes[page * PAGE_SIZE..(page + run) * PAGE_SIZE];
                self.out.write(base + (page * PAGE_SIZE) as u64, bytes)?;
                bytes.fill(0);
                self.touched[page..page + run].fill(false);
            }
            page += run + 1;
        }
        Ok(())
    }

    /// The bytes of `count` `struct page`s, to be filled.
    fn slots(&mut self, first: u64, count: u64) -> &mut [u8] {
        let size = self.generation.page.size;
        let start = ((first - self.section.start.as_u64()) * size) as usize;
        let end = start + (count * size) as usize;
        self.touched[start / PAGE_SIZE..end.div_ceil(PAGE_SIZE)].fill(true);
        &mut self.bytes[start..end]
    }

    fn put(&mut self, extent: &Extent) -> Result<()> {
        if extent.pages == 0 {
            return Ok(());
        }
        let place = self.place_flags(extent.first);
        let image = image(self.machine, extent.state, extent);
        if image.all_ones {
            // A filter that doesn't know tail pages would take them for anything; there they stay zeros.
            if self.generation.keys.contains(Keys::TAIL) {
                self.slots(extent.first, extent.pages).fill(0xff);
            }
            return Ok(());
        }
        match extent.state {
            // A filter looks at the first page of a free block only, and the rest of it stays a hole.
            State::Free => {
                self.single(extent.head, &image, place);
                self.link(extent.head, u64::from(extent.order))?;
            }
            State::Unaccepted => self.single(extent.head, &image, place),
            _ if extent.order > 0 => self.compound(extent, &image, place),
            _ if image.order.is_some() => self.single(extent.head, &image, place),
            _ => self.singles(extent, &image, place),
        }
        Ok(())
    }

    /// The bits of `flags` that say where the page is: node from bit 54 on, zone from bit 52 on.
    fn place_flags(&self, pfn: u64) -> u64 {
        (self.machine.node_of(pfn) as u64) << 54 | (Machine::zone_of(pfn) as u64) << 52
    }

    fn head_bytes(&self, image: &PageImage, place: u64) -> [u8; LARGEST] {
        let page = &self.generation.page;
        let mut bytes = [0; LARGEST];
        let mut put = |at: u64, field: &[u8]| bytes[at as usize..][..field.len()].copy_from_slice(field);
        let head = if image.order.is_some() { 1 << self.generation.flags.head } else { 0 };
        put(0, &(image.flags | head | place).to_le_bytes());
        put(page.mapping, &image.mapping.to_le_bytes());
        put(page.mapcount, &image.mapcount.to_le_bytes());
        put(page.private, &image.private.to_le_bytes());
        put(page.refcount, &image.refcount.to_le_bytes());
        // Neighbours on whatever list the page is on; even, as every pointer to a list head.
        put(page.lru, &(self.machine.page_offset + 0x10_0040).to_le_bytes());
        put(page.lru + 8, &(self.machine.page_offset + 0x10_0080).to_le_bytes());
        bytes
    }

    fn single(&mut self, pfn: u64, image: &PageImage, place: u64) {
        let bytes = self.head_bytes(image, place);
        let slot = self.slots(pfn, 1);
        slot.copy_from_slice(&bytes[..slot.len()]);
    }

    fn singles(&mut self, extent: &Extent, image: &PageImage, place: u64) {
        let bytes = self.head_bytes(image, place);
        let size = self.generation.page.size as usize;
        // The index within the file or mapping follows `mapping` in every layout.
        let index = self.generation.page.mapping as usize + 8;
        for (slot, pfn) in self.slots(extent.first, extent.pages).chunks_exact_mut(size).zip(extent.first..) {
            slot.copy_from_slice(&bytes[..size]);
            slot[index..index + 8].copy_from_slice(&pfn.to_le_bytes());
        }
    }

    /// The part of a compound page that lies in this extent: its head, or only tails.
    fn compound(&mut self, extent: &Extent, image: &PageImage, place: u64) {
        let generation = self.generation;
        let page = &generation.page;
        let size = page.size as usize;
        let head = self.machine.struct_page(extent.head);
        let mut tail = [0_u8; LARGEST];
        let mut put = |at: u64, field: &[u8]| tail[at as usize..][..field.len()].copy_from_slice(field);
        let flags = place | generation.flags.tail.map_or(0, |bit| 1 << bit);
        put(0, &flags.to_le_bytes());
        put(page.mapcount, &NO_TYPE.to_le_bytes());
        match page.tail {
            TailLink::FirstPage => put(page.private, &head.to_le_bytes()),
            TailLink::Head(at) => {
                put(page.mapping, &TAIL_MAPPING.to_le_bytes());
                put(at, &(head | 1).to_le_bytes());
            }
            TailLink::Mask(at) => {
                put(page.mapping, &TAIL_MAPPING.to_le_bytes());
                let mask = !((page.size << extent.order) - 1);
                put(at, &(mask | 1).to_le_bytes());
            }
        }
        let mut first_tail = tail;
        self.describe_compound(image, &mut first_tail);
        let mut second_tail = tail;
        second_tail[..8].copy_from_slice(&(flags | image.second_tail_flags).to_le_bytes());
        let head_bytes = self.head_bytes(image, place);
        for (slot, pfn) in self.slots(extent.first, extent.pages).chunks_exact_mut(size).zip(extent.first..) {
            let bytes = match pfn - extent.head {
                0 => &head_bytes,
                1 => &first_tail,
                2 => &second_tail,
                _ => &tail,
            };
            slot.copy_from_slice(&bytes[..size]);
        }
    }

    /// Puts order and destructor into the first tail page.
    fn describe_compound(&self, image: &PageImage, tail: &mut [u8; LARGEST]) {
        let order = image.order.unwrap_or(0);
        let hugetlb = image.destructor == Destructor::Hugetlb;
        let number = if hugetlb { HUGETLB_PAGE_DTOR } else { COMPOUND_PAGE_DTOR };
        let mut put = |at: u64, field: &[u8]| tail[at as usize..][..field.len()].copy_from_slice(field);
        match self.generation.compound {
            Compound::LruPointers => {
                let destructor = Symbols::of(self.machine).free_huge_page + if hugetlb { 0 } else { 0x100 };
                put(self.generation.page.lru, &destructor.to_le_bytes());
                put(self.generation.page.lru + 8, &u64::from(order).to_le_bytes());
            }
            Compound::Words { dtor, order: at } => {
                put(dtor, &u16::from(number).to_le_bytes());
                put(at, &u16::from(order).to_le_bytes());
            }
            Compound::Bytes { dtor, order: at } => {
                put(dtor, &[number]);
                put(at, &[order]);
            }
            Compound::TailFlags { hugetlb: bit } => {
                put(0, &[order]);
                if hugetlb {
                    tail[usize::from(bit / 8)] |= 1 << (bit % 8);
                }
            }
            Compound::TailFlagsTyped => put(0, &[order]),
        }
    }

    /// Appends a free block to its list.
    fn link(&mut self, pfn: u64, order: u64) -> Result<()> {
        let lru = self.generation.page.lru;
        let list = self.lists.list_of(self.machine, pfn, order);
        let (node, zone) = (self.machine.node_of(pfn), Machine::zone_of(pfn));
        let head = list_head(self.machine, node, zone, order, self.lists.migrate_type(pfn));
        let previous = self.lists.append(list, pfn, node, zone, order);
        let back = previous.map_or(head, |previous| self.machine.struct_page(previous) + lru);
        let slot = self.slots(pfn, 1);
        slot[lru as usize..][..8].copy_from_slice(&head.to_le_bytes());
        slot[lru as usize + 8..][..8].copy_from_slice(&back.to_le_bytes());
        // The block before led to the list's head so far.
        let Some(previous) = previous else { return Ok(()) };
        let forward = self.machine.struct_page(pfn) + lru;
        if self.section.contains(Pfn::new(previous)) {
            self.slots(previous, 1)[lru as usize..][..8].copy_from_slice(&forward.to_le_bytes());
            Ok(())
        } else {
            self.out.write_u64(self.machine.struct_page_phys(previous) + lru, forward)
        }
    }
}

/// What the `struct page`s of an extent say.
fn image(machine: &Machine, state: State, extent: &Extent) -> PageImage {
    if let State::Edge(edge) = state {
        return edge.image(machine, |state| image(machine, state, &Extent { order: 0, ..*extent }));
    }
    let generation = machine.generation;
    let (flags, types) = (&generation.flags, &generation.types);
    let bit = |number: Option<u8>| number.map_or(0, |number| 1_u64 << number);
    let used = bit(Some(flags.uptodate)) | bit(Some(flags.referenced));
    let lru = used | bit(Some(flags.lru));
    let backed = bit(flags.swapbacked);
    // An object in the direct map: a file's address space, an anon_vma.
    let object =
        machine.page_offset + 0x200_0000 + Rng::new(machine.spec.seed, 3, extent.head).below(1 << 20) * 64;
    let base = PageImage {
        flags: 0,
        mapping: 0,
        mapcount: NO_TYPE,
        private: 0,
        refcount: 1,
        order: (extent.order > 0).then_some(extent.order),
        destructor: Destructor::Ordinary,
        second_tail_flags: 0,
        all_ones: false,
    };
    let typed = |word: Option<u32>| word.unwrap_or(NO_TYPE);
    match state {
        State::Free => PageImage {
            flags: bit(flags.buddy),
            mapcount: typed(types.buddy),
            private: extent.order.into(),
            refcount: 0,
            order: None,
            ..base
        },
        State::PerCpuFree => PageImage { refcount: 0, ..base },
        State::Unaccepted => {
            PageImage { mapcount: typed(types.unaccepted), order: None, refcount: 0, ..base }
        }
        State::Anon => PageImage { flags: lru | backed, mapping: object | MAPPING_ANON, mapcount: 0, ..base },
        State::AnonIsolated => PageImage {
            flags: used | backed,
            mapping: object | MAPPING_ANON,
            mapcount: 0,
            refcount: 2,
            ..base
        },
        State::Ksm => PageImage { flags: lru | backed, mapping: object | MAPPING_KSM, mapcount: 2, ..base },
        State::Cache => PageImage { flags: lru, mapping: object, refcount: 2, ..base },
        State::CachePrivate => PageImage {
            flags: lru | bit(Some(flags.private)),
            mapping: object,
            private: object + 0x40,
            refcount: 3,
            ..base
        },
        State::CacheBatch => PageImage { flags: used, mapping: object, refcount: 2, ..base },
        State::Shmem => PageImage { flags: lru | backed, mapping: object, refcount: 2, ..base },
        State::SwapCache => PageImage {
            flags: used | backed | bit(Some(flags.swapcache)),
            mapping: object,
            refcount: 2,
            ..base
        },
        State::Hugetlb => PageImage {
            flags: bit(Some(flags.uptodate)),
            mapping: object,
            mapcount: types.hugetlb.unwrap_or(0),
            destructor: Destructor::Hugetlb,
            ..base
        },
        State::Slab => {
            PageImage { flags: bit(flags.slab), mapping: object, mapcount: typed(types.slab), ..base }
        }
        State::PageTable => PageImage { mapcount: typed(types.table), private: object, ..base },
        State::Kernel => base,
        State::Reserved => PageImage { flags: bit(Some(flags.reserved)), ..base },
        State::Movable => PageImage { mapping: object | MAPPING_MOVABLE, ..base },
        State::Hwpoison => PageImage { flags: bit(flags.hwpoison), ..base },
        State::Offline => PageImage { mapcount: typed(types.offline), ..base },
        State::Unset | State::Edge(_) => PageImage { all_ones: true, ..base },
    }
}
