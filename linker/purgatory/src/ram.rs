//! The dead kernel's memory that is known to be RAM.

use core::cell::Cell;
use scanner_core::PfnRange;

/// The ranges of memory that may be read. Other addresses are refused, so that a wild pointer cannot access a device.
#[derive(Debug)]
pub struct Ram<'a> {
    ranges: &'a [PfnRange],
    /// Index of the range of the last address.
    last: Cell<usize>,
}

impl<'a> Ram<'a> {
    /// The memory in `ranges`, which must be ascending and disjoint.
    pub const fn new(ranges: &'a [PfnRange]) -> Self {
        Self { ranges, last: Cell::new(0) }
    }

    /// Whether one range contains all of the `len` bytes from `addr` on.
    pub fn contains(&self, addr: u64, len: usize) -> bool {
        let Some(end) = addr.checked_add(len as u64) else { return false };
        let holds =
            |range: &PfnRange| range.start.addr().as_u64() <= addr && end <= range.end.addr().as_u64();
        if self.ranges.get(self.last.get()).is_some_and(holds) {
            return true;
        }
        let following = self.ranges.partition_point(|range| range.start.addr().as_u64() <= addr);
        let Some(index) = following.checked_sub(1).filter(|index| self.ranges.get(*index).is_some_and(holds))
        else {
            return false;
        };
        self.last.set(index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scanner_core::Pfn;

    #[test]
    fn a_read_must_lie_in_one_range() {
        let ranges =
            [(1, 3), (5, 6), (9, 12)].map(|(start, end)| PfnRange::new(Pfn::new(start), Pfn::new(end)));
        let ram = Ram::new(&ranges);
        for (addr, len, expected) in [
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
            assert_eq!(ram.contains(addr, len), expected, "{addr:#x}, {len:#x}");
        }
    }

    #[test]
    fn without_ranges_every_read_is_refused() {
        assert!(!Ram::new(&[]).contains(0, 0));
    }
}
