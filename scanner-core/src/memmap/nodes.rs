//! The NUMA nodes of a machine: the online nodes, and their `struct pglist_data`.

use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::kernel::nodes::{MAX_NODES, NodeLayout};
use crate::memory::{PhysicalMemory, ReadError, u64_at};
use crate::paging::AddressSpace;

/// The nodes of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'l> {
    layout: &'l NodeLayout,
    space: AddressSpace,
}

impl<'l> Nodes<'l> {
    /// The nodes that `layout` describes. `space` translates their addresses.
    pub fn new(layout: &'l NodeLayout, space: AddressSpace) -> Self {
        Self { layout, space }
    }

    /// Reads the set of online nodes.
    ///
    /// # Errors
    /// Fails if the map of online nodes cannot be read.
    pub fn online<M: PhysicalMemory + ?Sized>(&self, memory: &M) -> Result<NodeSet, ReadError> {
        let mut set = NodeSet::default();
        match self.layout.online {
            None => set.0[0] = 1,
            Some((addr, words)) => {
                let mut bytes = [0; MAX_NODES / 8];
                let bytes = bytes.get_mut(..words.saturating_mul(8)).unwrap_or_default();
                self.space.read(memory, addr, bytes)?;
                for (index, word) in set.0.iter_mut().enumerate() {
                    *word = u64_at(bytes, index.saturating_mul(8)).unwrap_or(0);
                }
            }
        }
        Ok(set)
    }

    /// The address of the `struct pglist_data` of `node`. Sources, in makedumpfile's order: `node_data`, `pgdat_list`
    /// as an array, `pgdat_list` as a list, `contig_page_data`. `None` if no source has a readable pointer to kernel
    /// memory.
    pub fn pglist_data<M: PhysicalMemory + ?Sized>(&self, memory: &M, node: u32) -> Option<VirtAddr> {
        let pointer = |at| {
            self.space
                .read_u64(memory, at)
                .ok()
                .map(VirtAddr::new)
                .filter(|pgdat: &VirtAddr| pgdat.is_kernel())
        };
        let element = |(array, length): (VirtAddr, u64)| {
            let at = array.checked_add(u64::from(node).saturating_mul(8))?;
            (u64::from(node) < length).then_some(at).and_then(pointer)
        };
        let linked = || {
            let mut pgdat = pointer(self.layout.pgdat_list?.0)?;
            for _ in 0..(node as usize).min(MAX_NODES) {
                pgdat = pointer(pgdat.checked_add(self.layout.pgdat_next?)?)?;
            }
            Some(pgdat)
        };
        self.layout
            .node_data
            .and_then(element)
            .or_else(|| self.layout.pgdat_list.and_then(|(list, length)| element((list, length?))))
            .or_else(linked)
            .or(self.layout.contig_page_data.filter(|_| node == 0))
    }

    /// The frames that `node` spans, including holes and frames of other nodes. `None` if the span is not known.
    pub fn frames<M: PhysicalMemory + ?Sized>(&self, memory: &M, node: u32) -> Option<PfnRange> {
        let (start_pfn, spanned_pages) = self.layout.span?;
        let pgdat = self.pglist_data(memory, node)?;
        let field = |offset| self.space.read_u64(memory, pgdat.checked_add(offset)?).ok();
        Some(PfnRange::from_start(Pfn::new(field(start_pfn)?), field(spanned_pages)?))
    }
}

/// A set of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet([u64; MAX_NODES / 64]);

impl NodeSet {
    /// The nodes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let has = |node: u32| {
            self.0.get(node as usize / 64).is_some_and(|word| word.wrapping_shr(node % 64) & 1 == 1)
        };
        (0..MAX_NODES as u32).filter(move |node| has(*node))
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
