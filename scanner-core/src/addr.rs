//! Addresses and page frames as types that can't be mixed up.

use core::fmt;

/// Bytes of a page frame are `1 << PAGE_SHIFT`; x86_64 has no other base page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page frame.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Bits of a physical address that x86_64 defines (AMD APM volume 2, 5.3: bits 51:0).
pub const PHYS_ADDR_BITS: u32 = 52;

/// A physical address of the machine under inspection, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

/// A virtual address of the kernel under inspection, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

/// A page frame number: a physical address in units of [`PAGE_SIZE`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(u64);

impl PhysAddr {
    /// The address `addr`, in bytes.
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The address in bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The frame that holds this address.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// The frame that starts at this address, or the next one.
    pub const fn pfn_ceil(self) -> Pfn {
        // A shift first, so that the topmost addresses don't overflow.
        Pfn((self.0 >> PAGE_SHIFT).saturating_add((self.page_offset() != 0) as u64))
    }

    /// Bytes from the start of the frame.
    pub const fn page_offset(self) -> usize {
        (self.0 & !(u64::MAX << PAGE_SHIFT)) as usize
    }

    /// `bytes` further on, or `None` past the end of the address space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }
}

impl VirtAddr {
    /// The address `addr`, in bytes.
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The address in bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Whether the address lies in the upper half, where the kernel lives.
    pub const fn is_kernel(self) -> bool {
        self.0 >> 63 == 1
    }

    /// `bytes` further on, or `None` past the end of the address space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }
}

impl Pfn {
    /// The first frame behind the largest physical address that x86_64 can form.
    pub const END: Self = Self(1 << (PHYS_ADDR_BITS - PAGE_SHIFT));

    /// Frame `pfn`.
    pub const fn new(pfn: u64) -> Self {
        Self(pfn)
    }

    /// The frame number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The physical address of the frame's first byte. Frames at or behind [`Pfn::END`] have no address; for
    /// those the result is meaningless, but harmless.
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `count` further on; stays at the largest number instead of wrapping.
    pub const fn saturating_add(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Frames from `earlier` to `self`; 0 if `earlier` is behind.
    pub const fn frames_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether the frame number is a multiple of `1 << order`.
    pub const fn is_aligned(self, order: u32) -> bool {
        self.0.trailing_zeros() >= order || self.0 == 0
    }
}

/// Frames from `start` up to, not including, `end`. Empty if `end <= start`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PfnRange {
    /// The first frame.
    pub start: Pfn,
    /// The first frame behind.
    pub end: Pfn,
}

impl PfnRange {
    /// Frames `start..end`.
    pub const fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, end }
    }

    /// `count` frames from `start` on.
    pub const fn from_start(start: Pfn, count: u64) -> Self {
        Self { start, end: start.saturating_add(count) }
    }

    /// How many frames there are.
    pub const fn len(self) -> u64 {
        self.end.frames_since(self.start)
    }

    /// Whether there is no frame.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `pfn` is one of the frames.
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end.0
    }

    /// The frames in both; empty if there are none.
    pub const fn intersection(self, other: Self) -> Self {
        let start = if self.start.0 > other.start.0 { self.start } else { other.start };
        let end = if self.end.0 < other.end.0 { self.end } else { other.end };
        if end.0 < start.0 { Self { start, end: start } } else { Self { start, end } }
    }
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}
hexadecimal!(PhysAddr);
hexadecimal!(VirtAddr);
hexadecimal!(Pfn);

impl fmt::Debug for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

impl fmt::Display for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_an_address() {
        assert_eq!(PhysAddr::new(0x1fff).pfn(), Pfn::new(1));
        assert_eq!(PhysAddr::new(0x1fff).pfn_ceil(), Pfn::new(2));
        assert_eq!(PhysAddr::new(0x2000).pfn_ceil(), Pfn::new(2));
        assert_eq!(PhysAddr::new(u64::MAX).pfn_ceil(), Pfn::new(1 << 52));
    }

    #[test]
    fn alignment_at_the_extremes() {
        assert!(Pfn::new(0).is_aligned(63));
        assert!(Pfn::new(512).is_aligned(9));
        assert!(!Pfn::new(512).is_aligned(10));
    }

    #[test]
    fn an_intersection_is_never_negative() {
        let low = PfnRange::new(Pfn::new(1), Pfn::new(4));
        let high = PfnRange::new(Pfn::new(9), Pfn::new(12));
        assert!(low.intersection(high).is_empty());
        assert_eq!(low.intersection(PfnRange::new(Pfn::new(2), Pfn::new(9))).len(), 2);
    }
}
