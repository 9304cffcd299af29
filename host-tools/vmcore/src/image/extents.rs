//! The map from physical addresses to file offsets.

use super::facts::Segment;
use super::file::{Borrowed, PlainFile};
use super::source::Hole;
use crate::frames::FrameRanges;
use scanner_core::{PAGE_SIZE, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A range of physical memory that is contiguous in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first physical address.
    pub start: u64,
    /// The first physical address after the extent.
    pub end: u64,
    /// The file offset of the first byte.
    pub offset: u64,
}

impl Extent {
    /// The file offset of physical address `addr`, which must be in the extent.
    fn offset_of(&self, addr: u64) -> u64 {
        self.offset + (addr - self.start)
    }
}

/// The extents of a file, ascending and disjoint.
///
/// `PT_LOAD`s may overlap: the kernel's text has its own `PT_LOAD` and is part of the RAM's. makedumpfile searches them
/// in the order of the file and uses the first one whose file data contain the address. This index resolves the
/// overlaps in advance, so a look-up takes O(log n) and gives the same result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Builds the index of the file data of `segments`, in O(n log n).
    ///
    /// The end addresses of the segments' memory and file data must not overflow.
    pub fn of(segments: &[Segment]) -> Self {
        let range = |s: &Segment| (s.phys.as_u64(), s.phys.as_u64() + s.file_size);
        let mut by_start: Vec<usize> = (0..segments.len()).filter(|&i| segments[i].file_size > 0).collect();
        by_start.sort_by_key(|&i| segments[i].phys);
        let mut borders: Vec<u64> =
            by_start.iter().flat_map(|&i| <[u64; 2]>::from(range(&segments[i]))).collect();
        borders.sort_unstable();
        borders.dedup();

        // Between two consecutive borders no segment starts or ends. So all of that range belongs to one segment: the
        // first one in the file of the active segments. An ended segment is removed when it is at the top of the heap.
        let mut extents: Vec<Extent> = Vec::with_capacity(by_start.len());
        let mut started = BinaryHeap::new();
        let mut to_start = by_start.into_iter().peekable();
        for pair in borders.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            while let Some(i) = to_start.next_if(|&i| range(&segments[i]).0 <= start) {
                started.push(Reverse(i));
            }
            while started.peek().is_some_and(|&Reverse(i)| range(&segments[i]).1 <= start) {
                started.pop();
            }
            let Some(&Reverse(first)) = started.peek() else { continue };
            let segment = &segments[first];
            let offset = segment.offset + (start - segment.phys.as_u64());
            match extents.last_mut() {
                Some(last) if last.end == start && last.offset_of(start) == offset => last.end = end,
                _ => extents.push(Extent { start, end, offset }),
            }
        }
        Self(extents)
    }

    /// The extents, ascending.
    pub fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// The frames whose first byte is in an extent.
    pub fn first_bytes(&self) -> FrameRanges {
        let frames =
            |e: &Extent| PfnRange::new(PhysAddr::new(e.start).pfn_ceil(), PhysAddr::new(e.end).pfn_ceil());
        FrameRanges::from_ranges(self.0.iter().map(frames))
    }

    /// The frames whose first byte is the first byte of the file.
    pub fn at_file_start(&self) -> FrameRanges {
        let at_start = self.0.iter().filter(|e| e.offset == 0 && e.start % PAGE_SIZE as u64 == 0);
        FrameRanges::from_ranges(at_start.map(|e| PfnRange::from_start(PhysAddr::new(e.start).pfn(), 1)))
    }

    /// The extent that contains `addr`, or the first extent after it.
    fn at_or_after(&self, addr: u64) -> Option<&Extent> {
        self.0.get(self.0.partition_point(|e| e.end <= addr))
    }

    /// The last extent that ends at or before `addr`.
    fn before(&self, addr: u64) -> Option<&Extent> {
        self.0[..self.0.partition_point(|e| e.end <= addr)].last()
    }

    /// Number of bytes from `addr`, which is in no extent, that read as zeros.
    ///
    /// Such bytes share a page with bytes of the file. 0 if the file has no bytes of the page of `addr`.
    fn zeros_at(&self, addr: u64) -> u64 {
        let page_start = addr & !(PAGE_SIZE as u64 - 1);
        let page_last = addr | (PAGE_SIZE as u64 - 1);
        let next = self.at_or_after(addr).map(|e| e.start).filter(|&start| start <= page_last);
        let in_page = next.is_some() || self.before(addr).is_some_and(|e| e.end > page_start);
        match next {
            Some(next) => next - addr,
            None if in_page => (page_last - addr).saturating_add(1),
            None => 0,
        }
    }
}

/// The physical memory in a file.
#[derive(Debug)]
pub struct FileMemory {
    bytes: PlainFile,
    extents: Extents,
}

impl FileMemory {
    /// The memory of the file `bytes`, at the file offsets in `extents`.
    pub fn new(bytes: PlainFile, extents: Extents) -> Self {
        Self { bytes, extents }
    }

    /// The extents of the file.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Whether memory at `addr` is in a hole of the file; see [`MemoryImage::hole_at`](super::MemoryImage::hole_at).
    pub fn hole_at(&self, addr: PhysAddr) -> Hole {
        let addr = addr.as_u64();
        let Some(extent) = self.extents.at_or_after(addr) else {
            return Hole { zeros: false, end: PhysAddr::new(u64::MAX) };
        };
        if addr < extent.start {
            return Hole { zeros: false, end: PhysAddr::new(extent.start) };
        }
        let offset = extent.offset_of(addr);
        let (zeros, end) = self.bytes.hole_at(offset);
        let end = addr.saturating_add(end - offset).min(extent.end);
        Hole { zeros, end: PhysAddr::new(end) }
    }

    /// Borrows the first of the `len` bytes at `addr`; see
    /// [`MemoryImage::borrow_bytes`](super::MemoryImage::borrow_bytes).
    pub fn borrow_bytes(&self, addr: PhysAddr, len: usize) -> Option<Borrowed<'_>> {
        self.bytes.borrow_bytes(self.contiguous_offset(addr, len)?, len)
    }

    /// The file offset of the `len` bytes at `addr`, if one extent contains all of them.
    fn contiguous_offset(&self, addr: PhysAddr, len: usize) -> Option<u64> {
        let addr = addr.as_u64();
        let extent = self.extents.at_or_after(addr).filter(|e| e.start <= addr)?;
        (len as u64 <= extent.end - addr).then(|| extent.offset_of(addr))
    }
}

impl PhysicalMemory for FileMemory {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let mut addr = addr.as_u64();
        let mut rest = buf;
        while !rest.is_empty() {
            let unreadable = Unreadable { addr: PhysAddr::new(addr) };
            let extent = self.extents.at_or_after(addr).filter(|e| e.start <= addr);
            let available = match extent {
                Some(extent) => extent.end - addr,
                None => self.extents.zeros_at(addr),
            };
            if available == 0 {
                return Err(unreadable);
            }
            let len = rest.len().min(usize::try_from(available).unwrap_or(usize::MAX));
            let (now, later) = rest.split_at_mut(len);
            match extent {
                Some(extent) => self.bytes.read(extent.offset_of(addr), now).map_err(|_| unreadable)?,
                None => now.fill(0),
            }
            rest = later;
            addr = addr.saturating_add(len as u64);
        }
        Ok(())
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.bytes.view(self.contiguous_offset(addr, len)?, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scanner_core::{Pfn, VirtAddr};

    fn segment(phys: u64, file_size: u64, mem_size: u64, offset: u64) -> Segment {
        Segment { phys: PhysAddr::new(phys), virt: VirtAddr::new(0), mem_size, file_size, offset }
    }

    /// makedumpfile's `paddr_to_offset()` as the specification: the first match in the order of the file.
    fn first_match(segments: &[Segment], addr: u64) -> Option<u64> {
        let contains = |s: &&Segment| s.phys.as_u64() <= addr && addr < s.phys.as_u64() + s.file_size;
        segments.iter().find(contains).map(|s| s.offset + (addr - s.phys.as_u64()))
    }

    #[test]
    fn extents_adjacent_in_memory_and_file_are_merged() {
        let extents =
            Extents::of(&[segment(0x3000, 0x1000, 0x1000, 0x2000), segment(0x1000, 0x2000, 0x2000, 0)]);
        assert_eq!(extents.as_slice(), [Extent { start: 0x1000, end: 0x4000, offset: 0 }]);
    }

    #[test]
    fn frames_count_by_their_first_byte() {
        let extents = Extents::of(&[segment(0x1000, 0x2001, 0x2001, 0), segment(0x7fff, 1, 1, 0)]);
        assert_eq!(extents.first_bytes().as_slice(), [PfnRange::new(Pfn::new(1), Pfn::new(4))]);
        assert_eq!(extents.at_file_start().as_slice(), [PfnRange::new(Pfn::new(1), Pfn::new(2))]);
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_search_in_file_order(
            pieces in proptest::collection::vec((0u64..64, 0u64..24, 0u64..500), 0..12)
        ) {
            let segments: Vec<Segment> = pieces.iter().map(|&(p, size, o)| segment(p, size, size, o)).collect();
            let extents = Extents::of(&segments);
            for pair in extents.as_slice().windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            for addr in 0..100 {
                let found = extents.at_or_after(addr).filter(|e| e.start <= addr).map(|e| e.offset_of(addr));
                prop_assert_eq!(found, first_match(&segments, addr), "address {}", addr);
            }
        }
    }
}
