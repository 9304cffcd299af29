//! Physical addresses, virtual addresses and page frame numbers as distinct types.

use core::fmt;

/// Binary logarithm of [`PAGE_SIZE`]. x86_64 has no other base page size.
pub const PAGE_SHIFT: u32 = 12;
/// Size of a page frame in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Width of a physical address on x86_64, in bits (AMD APM volume 2, 5.3: bits 51:0).
pub const PHYS_ADDR_BITS: u32 = 52;

/// A physical address of the machine under inspection, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

/// A virtual address of the kernel under inspection, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

/// A page frame number: a physical address in units of [`PAGE_SIZE`].
#[repr(transparent)]
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

    /// The frame that contains this address.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// The frame that starts at this address. For an address inside a frame: the next frame.
    pub const fn pfn_ceil(self) -> Pfn {
        // Shift first: rounding the address up would overflow for the highest addresses.
        Pfn((self.0 >> PAGE_SHIFT).saturating_add((self.page_offset() != 0) as u64))
    }

    /// Offset of the address in its frame, in bytes.
    pub const fn page_offset(self) -> usize {
        (self.0 & !(u64::MAX << PAGE_SHIFT)) as usize
    }

    /// The address plus `bytes`; `None` if the sum overflows.
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

    /// Whether the address is in the upper half of the address space, which belongs to the kernel.
    pub const fn is_kernel(self) -> bool {
        self.0 >> 63 == 1
    }

    /// The address plus `bytes`; `None` if the sum overflows.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }
}

impl Pfn {
    /// The first frame after the largest physical address of x86_64.
    pub const END: Self = Self(1 << (PHYS_ADDR_BITS - PAGE_SHIFT));

    /// Frame `pfn`.
    pub const fn new(pfn: u64) -> Self {
        Self(pfn)
    }

    /// The frame number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The physical address of the frame's first byte. A frame at or after [`Pfn::END`] has no address; the result is
    /// then meaningless.
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame number plus `count`; the largest number if the sum overflows.
    pub const fn saturating_add(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The number of frames from `earlier` to `self`; 0 if `earlier` is after `self`.
    pub const fn frames_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether the frame number is a multiple of `1 << order`.
    pub const fn is_aligned(self, order: u32) -> bool {
        self.0.trailing_zeros() >= order || self.0 == 0
    }
}

/// The frames from `start` up to, but not including, `end`. Empty if `end <= start`. In C: two `uint64_t`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PfnRange {
    /// The first frame.
    pub start: Pfn,
    /// The first frame after the range.
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

    /// The number of frames.
    pub const fn len(self) -> u64 {
        self.end.frames_since(self.start)
    }

    /// Whether the range has no frame.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `pfn` is in the range.
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end.0
    }

    /// The frames that are in both ranges.
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
