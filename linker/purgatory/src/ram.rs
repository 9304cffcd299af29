//! The dead kernel's memory, as far as it is known to be RAM.

use core::cell::Cell;
use scanner_core::PfnRange;

/// The ranges of memory that may be read. Everything else is refused: a wild pointer must not reach a device.
#[derive(Debug)]
pub struct Ram<'a> {
    ranges: &'a [PfnRange],
    /// The range that the last address was in.
    near: Cell<usize>,
}

impl<'a> Ram<'a> {
    /// Memory in these ranges, which are ascending and disjoint.
    pub const fn new(ranges: &'a [PfnRange]) -> Self {
        Self { ranges, near: Cell::new(0) }
    }

    /// Whether the `len` bytes from `addr` on are all in one of the ranges.
    pub fn has(&self, addr: u64, len: usize) -> bool {
        let Some(end) = addr.checked_add(len as u64) else { return false };
        let holds =
            |range: &PfnRange| range.start.addr().as_u64() <= addr && end <= range.end.addr().as_u64();
        if self.ranges.get(self.near.get()).is_some_and(holds) {
            return true;
        }
        let behind = self.ranges.partition_point(|range| range.start.addr().as_u64() <= addr);
        let Some(near) = behind.checked_sub(1).filter(|near| self.ranges.get(*near).is_some_and(holds))
        else {
            return false;
        };
        self.near.set(near);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scanner_core::Pfn;

    #[test]
    fn only_what_lies_in_one_range_is_there() {
        let ranges =
            [(1, 3), (5, 6), (9, 12)].map(|(start, end)| PfnRange::new(Pfn::new(start), Pfn::new(end)));
        let ram = Ram::new(&ranges);
        for (addr, len, there) in [
            (0x0fff, 1, false),
            (0x1000, 0x2000, true),
            (0x1000, 0x2001, false),
            (0x2fff, 1, true),
            (0x3000, 1, false),
            (0x5000, 0x1000, true),
            (0x5001, 0x1000, false),
            (0xbfff, 1, true),
            (0xc000, 0, true),
            (0xc000, 1, false),
            (u64::MAX, 1, false),
            (u64::MAX, usize::MAX, false),
        ] {
            assert_eq!(ram.has(addr, len), there, "{addr:#x}, {len:#x}");
        }
    }

    #[test]
    fn without_ranges_nothing_is_there() {
        assert!(!Ram::new(&[]).has(0, 0));
    }
}
