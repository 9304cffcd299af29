//! Simulated machines whose `struct page` array is in RAM, in huge pages as in a running kernel.

use memmap2::{Advice, MmapMut};
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use scanner_core::kernel::layout::KernelLayout;
use scanner_core::memmap::sections::Lookup;
use scanner_core::{MemorySections, Pfn, PhysAddr, PhysicalMemory, RuleSet, Unreadable, VmcoreInfo};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use vmcore::image::elf::ElfImage;
use vmcore::image::file::Access;
use vmcore::image::{ImageFacts, MemoryImage};
use vmcore_synth::{Spec, write};

/// Bytes moved in one step.
const STEP: usize = 64 << 20;

/// Memory for the `struct page` array of one machine at a time. It uses 2 MiB pages, like the kernel's own array, if
/// the system has transparent huge pages.
#[derive(Debug)]
pub struct Room(MmapMut);

impl Room {
    /// Allocates `len` bytes, rounded up to 64 MiB.
    ///
    /// # Panics
    /// Panics if the memory cannot be mapped.
    pub fn new(len: usize) -> Self {
        let map = MmapMut::map_anon(len.next_multiple_of(STEP)).expect("memory for the array of struct page");
        map.advise(Advice::HugePage).expect("advice about huge pages");
        Self(map)
    }

    /// The whole memory.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A contiguous range of the machine's physical memory whose bytes are in the [`Room`] at offset `at`.
#[derive(Clone, Copy, Debug)]
struct Part {
    phys: u64,
    len: u64,
    at: usize,
}

/// A machine whose `struct page` array is in a [`Room`]. All other memory is in a memfd.
#[derive(Debug)]
pub struct MachineInMemory<'r> {
    array: &'r [u8],
    parts: Vec<Part>,
    image: ElfImage,
}

impl<'r> MachineInMemory<'r> {
    /// Upper limit of the size of the `struct page` array of a machine with `memory` bytes, in bytes. It includes the
    /// hole below 4 GiB.
    pub fn array_size(memory: u64) -> usize {
        ((memory + (2 << 30)) / 64).next_multiple_of(2 << 20) as usize
    }

    /// Makes the machine `spec`. It replaces the previous machine in `room`.
    ///
    /// # Panics
    /// Panics if the machine cannot be made, or if `room` is too small.
    pub fn new(spec: &Spec, room: &'r mut Room) -> Self {
        // The array is moved out of the file in steps, so it never occupies memory twice.
        *room = Room::new(room.0.len());
        let file =
            File::from(rustix::fs::memfd_create("machine", MemfdFlags::empty()).expect("a memory file"));
        write(spec, &file).expect("the machine can be written");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let image = ElfImage::open(&path, Access::default()).expect("the machine opens");
        let offsets = array_of(&image);
        let mut parts = Vec::new();
        let mut used = 0;
        for (phys, len) in offsets {
            let start = image
                .facts()
                .segments
                .iter()
                .find(|s| s.phys.as_u64() <= phys && phys + len <= s.phys.as_u64() + s.file_size);
            let segment = start.expect("a part of the array is in one segment");
            let offset = segment.offset + (phys - segment.phys.as_u64());
            move_out(&file, offset, &mut room.0[used..][..len as usize]);
            parts.push(Part { phys, len, at: used });
            used += len as usize;
        }
        Self { array: &room.0[..used], parts, image }
    }

    /// The `struct page` array of the present sections.
    pub fn array(&self) -> &[u8] {
        self.array
    }
}

/// The physical memory of a simulated machine's `struct page` array, as `(start, bytes)`.
///
/// # Panics
/// Panics if the kernel layout cannot be resolved.
pub fn array_of(image: &dyn MemoryImage) -> Vec<(u64, u64)> {
    let text = image.facts().vmcoreinfo.as_deref().expect("a simulated machine has VMCOREINFO");
    let info = VmcoreInfo::parse(text).expect("VMCOREINFO");
    let layout = KernelLayout::resolve(&info, None).expect("a layout");
    let end = Pfn::new(image.facts().max_pfn);
    let sections = MemorySections::locate(&layout, image, end, RuleSet::Makedumpfile).expect("sections");
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for found in sections.iter(image) {
        let Lookup::Present(section) = found else { continue };
        let bytes = section.frames.len() * layout.page.size as u64;
        for piece in layout.space.pieces(image, section.mem_map, bytes).flatten() {
            match parts.last_mut() {
                Some((start, len)) if *start + *len == piece.phys.as_u64() => *len += piece.len,
                _ => parts.push((piece.phys.as_u64(), piece.len)),
            }
        }
    }
    parts
}

/// Moves the bytes of `file` from `offset` on to `place`, and punches holes into the file.
fn move_out(file: &File, offset: u64, place: &mut [u8]) {
    for (index, place) in place.chunks_mut(STEP).enumerate() {
        let start = offset + (index * STEP) as u64;
        let end = start + place.len() as u64;
        place.fill(0);
        let mut at = start;
        // Reading a hole of a memfd would allocate memory for it.
        while let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(at)) {
            if data >= end {
                break;
            }
            let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).expect("a file has an end").min(end);
            let bytes = &mut place[(data - start) as usize..(hole - start) as usize];
            file.read_exact_at(bytes, data).expect("a memory file can be read");
            at = hole;
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, punch, start, end - start).expect("a hole can be made");
    }
}

impl PhysicalMemory for MachineInMemory<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        match self.view(addr, buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => self.image.read(addr, buf),
        }
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let addr = addr.as_u64();
        let part = self.parts.iter().find(|part| addr.wrapping_sub(part.phys) < part.len)?;
        let first = addr - part.phys;
        if part.len - first < len as u64 {
            return None;
        }
        self.array.get(part.at + first as usize..)?.get(..len)
    }
}

impl MemoryImage for MachineInMemory<'_> {
    fn facts(&self) -> &ImageFacts {
        self.image.facts()
    }
}
