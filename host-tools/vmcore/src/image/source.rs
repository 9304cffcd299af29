//! The trait of every source of memory.

use super::facts::ImageFacts;
use super::file::Borrowed;
use crate::identity::DumpIdentity;
use scanner_core::{PhysAddr, PhysicalMemory};

/// Memory of which one thing is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Whether it is known to be zeros: a hole of a sparse file. If not, it may still be zeros.
    pub zeros: bool,
    /// The first address behind it.
    pub end: PhysAddr,
}

/// A source of physical memory that can say what it is.
///
/// [`PhysicalMemory::read`] of memory that exists but is not in the file is an error, except that a page of which
/// only a part is in the file reads as that part, with zeros for the rest (as makedumpfile does).
pub trait MemoryImage: PhysicalMemory + Send + Sync {
    /// What is known of it without looking at page contents.
    fn facts(&self) -> &ImageFacts;

    /// The first of the `len` bytes from `addr` on in place: at least one, if these bytes don't have to be read. Unlike
    /// what [`PhysicalMemory::view`] gives they are there only until they are given back, so that `/proc/vmcore`, of
    /// which never all is mapped, can lend them too. `None` says nothing of whether they can be read.
    fn borrow_bytes(&self, addr: PhysAddr, len: usize) -> Option<Borrowed<'_>> {
        self.view(addr, len).map(Borrowed::InPlace)
    }

    /// What is known of memory from `addr` on without reading it; nothing, unless an image can know more.
    fn hole_at(&self, addr: PhysAddr) -> Hole {
        let _ = addr;
        Hole { zeros: false, end: PhysAddr::new(u64::MAX) }
    }

    /// What the image's own headers record of the machine, if they do: a dump's know more than its notes.
    fn recorded_identity(&self) -> Option<&DumpIdentity> {
        None
    }
}
