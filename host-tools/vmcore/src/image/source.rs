//! The trait of all memory images.

use super::facts::ImageFacts;
use super::file::Borrowed;
use crate::identity::DumpIdentity;
use scanner_core::{PhysAddr, PhysicalMemory};

/// A range of memory that is in a hole of a sparse file, or is not known to be in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Whether the range is a hole, which reads as zeros. Memory outside holes can also be zeros.
    pub zeros: bool,
    /// The first address after the range.
    pub end: PhysAddr,
}

/// An image of the physical memory of a machine.
///
/// [`PhysicalMemory::read`] fails for memory that exists but is not in the file. A page that is partly in the file is
/// readable: the missing bytes read as zeros, as in makedumpfile.
pub trait MemoryImage: PhysicalMemory + Send + Sync {
    /// The facts about the image that are known without its page contents.
    fn facts(&self) -> &ImageFacts;

    /// Borrows the first of the `len` bytes at `addr` without a copy: at least one byte.
    ///
    /// The bytes are valid as long as the returned value, not as long as the image as with [`PhysicalMemory::view`]. So
    /// this also works for `/proc/vmcore`, which is never mapped as a whole. If it returns `None`, the bytes may still
    /// be readable.
    fn borrow_bytes(&self, addr: PhysAddr, len: usize) -> Option<Borrowed<'_>> {
        self.view(addr, len).map(Borrowed::InPlace)
    }

    /// Whether memory at `addr` is in a hole of the file, and up to which address. By default no holes are known.
    fn hole_at(&self, addr: PhysAddr) -> Hole {
        let _ = addr;
        Hole { zeros: false, end: PhysAddr::new(u64::MAX) }
    }

    /// The identity that the image's own headers record. Headers of a dump have more of it than its notes.
    fn recorded_identity(&self) -> Option<&DumpIdentity> {
        None
    }
}
