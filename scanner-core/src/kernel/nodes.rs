//! The layout of a kernel's NUMA nodes.

use super::error::{LayoutError, out_of_range};
use super::vmcoreinfo::{Key, VmcoreInfo};
use crate::addr::VirtAddr;

/// The largest number of nodes: `MAX_NUMNODES` with the largest `CONFIG_NODES_SHIFT` of x86_64, 10.
pub const MAX_NODES: usize = 1024;

/// Locations of a kernel's NUMA nodes: addresses of symbols, and offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLayout {
    /// `node_online_map` (`node_states[N_ONLINE]` since 2.6.24), and its size in 64-bit words. If `None`, only node 0
    /// is assumed to be online.
    pub online: Option<(VirtAddr, usize)>,
    /// `node_data`, an array of pointers, and its length.
    pub node_data: Option<(VirtAddr, u64)>,
    /// `pgdat_list`: an array of pointers if it has a length, else the first node of a list (up to 2.6.16).
    pub pgdat_list: Option<(VirtAddr, Option<u64>)>,
    /// Offset of `pglist_data.pgdat_next`, the link of that list.
    pub pgdat_next: Option<u64>,
    /// `contig_page_data`, the single node of a kernel without NUMA.
    pub contig_page_data: Option<VirtAddr>,
    /// Offsets of `pglist_data.node_start_pfn` and `pglist_data.node_spanned_pages`.
    pub span: Option<(u64, u64)>,
}

impl NodeLayout {
    /// Resolves the layout; `None` if VMCOREINFO does not describe the nodes.
    ///
    /// # Errors
    /// Fails if the value of a key is out of range.
    pub fn resolve(info: &VmcoreInfo<'_>) -> Result<Option<Self>, LayoutError> {
        let symbol = |key| info.get(key).map(VirtAddr::new);
        let offset = |key| offset(info, key, MAX_PGLIST_DATA);
        let layout = Self {
            online: online_map(info)?,
            // As in makedumpfile: without a length, node_data is not used.
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
}

/// An upper limit for the size of `struct pglist_data`, in bytes. With 1024 nodes its size is about 200 KiB.
pub(crate) const MAX_PGLIST_DATA: u64 = 1 << 24;

/// The value of `key`, an offset in a structure of at most `limit` bytes.
pub(crate) fn offset(info: &VmcoreInfo<'_>, key: Key, limit: u64) -> Result<Option<u64>, LayoutError> {
    match info.get(key) {
        Some(value) if value > limit => Err(out_of_range(key, value, "an offset in struct pglist_data")),
        value => Ok(value),
    }
}

fn online_map(info: &VmcoreInfo<'_>) -> Result<Option<(VirtAddr, usize)>, LayoutError> {
    let Some(size) = info.get(Key::SizeNodemask) else { return Ok(None) };
    if size == 0 || size > (MAX_NODES / 8) as u64 || size % 8 != 0 {
        return Err(out_of_range(Key::SizeNodemask, size, "a multiple of 8, 8..=128"));
    }
    // node_states is an array of nodemask_t.
    let in_states = || {
        let index = info.get(Key::NumNOnline)?;
        VirtAddr::new(info.get(Key::SymNodeStates)?).checked_add(index.checked_mul(size)?)
    };
    let map = info.get(Key::SymNodeOnlineMap).map(VirtAddr::new).or_else(in_states);
    Ok(map.map(|map| (map, size as usize / 8)))
}
