//! The kernel's NUMA nodes: which are online, and where their `struct pglist_data` are.

use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::layout::{LayoutError, out_of_range};
use crate::memory::{PhysicalMemory, ReadError, u64_at};
use crate::paging::AddressSpace;
use crate::vmcoreinfo::{Key, VmcoreInfo};

/// Nodes that a kernel can have: `MAX_NUMNODES` with the largest `CONFIG_NODES_SHIFT` of x86_64, 10.
pub const MAX_NODES: usize = 1024;

/// Where a kernel keeps its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLayout {
    /// `node_online_map` (`node_states[N_ONLINE]` since 2.6.24), and its words. Without it only node 0 is known to be.
    online: Option<(VirtAddr, usize)>,
    /// The array of pointers `node_data`, and its length.
    node_data: Option<(VirtAddr, u64)>,
    /// `pgdat_list`: an array of pointers if there is a length, else the first of a list (up to 2.6.16).
    pgdat_list: Option<(VirtAddr, Option<u64>)>,
    /// `pglist_data.pgdat_next`, the list's link.
    pgdat_next: Option<u64>,
    /// `contig_page_data`, the only node of a kernel without NUMA.
    contig_page_data: Option<VirtAddr>,
    /// `pglist_data.node_start_pfn` and `node_spanned_pages`.
    span: Option<(u64, u64)>,
}

impl NodeLayout {
    /// Resolves where the nodes are; `None` if no key says so.
    ///
    /// # Errors
    /// A key whose value can't be.
    pub fn resolve(info: &VmcoreInfo<'_>) -> Result<Option<Self>, LayoutError> {
        let symbol = |key| info.get(key).map(VirtAddr::new);
        let offset = |key| offset(info, key, MAX_PGLIST_DATA);
        let layout = Self {
            online: online_map(info)?,
            // makedumpfile doesn't take a node_data whose length it doesn't know for an array.
            node_data: symbol(Key::SymNodeData).zip(info.get(Key::LenNodeData)),
            pgdat_list: symbol(Key::SymPgdatList).map(|list| (list, info.get(Key::LenPgdatList))),
            pgdat_next: offset(Key::OffPgdatNext)?,
            contig_page_data: symbol(Key::SymContigPageData),
            span: offset(Key::OffNodeStartPfn)?.zip(offset(Key::OffNodeSpannedPages)?),
        };
        let known =
            layout.node_data.is_some() || layout.pgdat_list.is_some() || layout.contig_page_data.is_some();
        Ok(known.then_some(layout))
    }

    /// The nodes that are online.
    ///
    /// # Errors
    /// If the map of them can't be read.
    pub fn online<M: PhysicalMemory + ?Sized>(
        &self,
        space: &AddressSpace,
        memory: &M,
    ) -> Result<NodeSet, ReadError> {
        let mut set = NodeSet::default();
        match self.online {
            None => set.0[0] = 1,
            Some((addr, words)) => {
                let mut bytes = [0; MAX_NODES / 8];
                let bytes = bytes.get_mut(..words.saturating_mul(8)).unwrap_or_default();
                space.read(memory, addr, bytes)?;
                for (index, word) in set.0.iter_mut().enumerate() {
                    *word = u64_at(bytes, index.saturating_mul(8)).unwrap_or(0);
                }
            }
        }
        Ok(set)
    }

    /// The `struct pglist_data` of `node`, looked for where makedumpfile does and in its order: `node_data`,
    /// `pgdat_list` as an array, `pgdat_list` as a list, `contig_page_data`. `None` if there is none, or if what is
    /// there can't be read or is no kernel address.
    pub fn pglist_data<M: PhysicalMemory + ?Sized>(
        &self,
        space: &AddressSpace,
        memory: &M,
        node: u32,
    ) -> Option<VirtAddr> {
        let pointer = |at| {
            space.read_u64(memory, at).ok().map(VirtAddr::new).filter(|pgdat: &VirtAddr| pgdat.is_kernel())
        };
        let element = |(array, length): (VirtAddr, u64)| {
            let at = array.checked_add(u64::from(node).saturating_mul(8))?;
            (u64::from(node) < length).then_some(at).and_then(pointer)
        };
        let linked = || {
            let mut pgdat = pointer(self.pgdat_list?.0)?;
            for _ in 0..(node as usize).min(MAX_NODES) {
                pgdat = pointer(pgdat.checked_add(self.pgdat_next?)?)?;
            }
            Some(pgdat)
        };
        self.node_data
            .and_then(element)
            .or_else(|| self.pgdat_list.and_then(|(list, length)| element((list, length?))))
            .or_else(linked)
            .or(self.contig_page_data.filter(|_| node == 0))
    }

    /// The frames that `node` spans, holes and other nodes' frames in between included. `None` if that isn't known.
    pub fn frames<M: PhysicalMemory + ?Sized>(
        &self,
        space: &AddressSpace,
        memory: &M,
        node: u32,
    ) -> Option<PfnRange> {
        let (start_pfn, spanned_pages) = self.span?;
        let pgdat = self.pglist_data(space, memory, node)?;
        let field = |offset| space.read_u64(memory, pgdat.checked_add(offset)?).ok();
        Some(PfnRange::from_start(Pfn::new(field(start_pfn)?), field(spanned_pages)?))
    }
}

/// A set of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet([u64; MAX_NODES / 64]);

impl NodeSet {
    /// The nodes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let has = |node: u32| {
            self.0.get(node as usize / 64).is_some_and(|word| word.wrapping_shr(node % 64) & 1 == 1)
        };
        (0..MAX_NODES as u32).filter(move |node| has(*node))
    }
}

/// Larger than any `struct pglist_data`, which is some 200 KiB with 1024 nodes.
pub(crate) const MAX_PGLIST_DATA: u64 = 1 << 24;

/// The offset `key` in a structure of at most `limit` bytes.
pub(crate) fn offset(info: &VmcoreInfo<'_>, key: Key, limit: u64) -> Result<Option<u64>, LayoutError> {
    match info.get(key) {
        Some(value) if value > limit => Err(out_of_range(key, value, "an offset in a structure")),
        value => Ok(value),
    }
}

fn online_map(info: &VmcoreInfo<'_>) -> Result<Option<(VirtAddr, usize)>, LayoutError> {
    let Some(size) = info.get(Key::SizeNodemask) else { return Ok(None) };
    if size == 0 || size > (MAX_NODES / 8) as u64 || size % 8 != 0 {
        return Err(out_of_range(Key::SizeNodemask, size, "a multiple of 8 up to 128"));
    }
    // node_states is an array of such maps.
    let in_states = || {
        let index = info.get(Key::NumNOnline)?;
        VirtAddr::new(info.get(Key::SymNodeStates)?).checked_add(index.checked_mul(size)?)
    };
    let map = info.get(Key::SymNodeOnlineMap).map(VirtAddr::new).or_else(in_states);
    Ok(map.map(|map| (map, size as usize / 8)))
}
