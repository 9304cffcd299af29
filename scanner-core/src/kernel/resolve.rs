//! Derives the layout from the keys of VMCOREINFO.
//!
//! If a kernel is older than a key, makedumpfile's default applies (`get_value_for_old_linux`, `initial`). All defaults
//! are in this file.

use super::architecture::Architecture;
use super::error::{LayoutError, out_of_range};
use super::free_lists::FreeListLayout;
use super::layout::{
    CompoundPages, FreePages, KernelLayout, MAX_STRUCT_PAGE, MemoryModelKeys, PageFlags, PageTypes,
    StructPage, TailField,
};
use super::nodes::NodeLayout;
use super::vmcoreinfo::{Key, Release, VmcoreInfo, VmcoreInfoError};
use crate::addr::VirtAddr;
use crate::paging::AddressSpace;

impl KernelLayout {
    /// Resolves the layout. `phys_base` is used for kernels that do not export it (before 4.10). It follows from a
    /// vmcore's program headers: `paddr - (vaddr - __START_KERNEL_map)` of the kernel's text.
    ///
    /// # Errors
    /// Fails with the first key that is missing or whose value is out of range.
    pub fn resolve(info: &VmcoreInfo<'_>, phys_base: Option<u64>) -> Result<Self, LayoutError> {
        let architecture = Architecture::X86_64;
        if let Some(size) = info.get(Key::PageSize)
            && size != 1 << architecture.page_shift()
        {
            return Err(out_of_range(Key::PageSize, size, "4096; only x86_64 is supported"));
        }
        let page = struct_page(info)?;
        let flags = page_flags(info)?;
        let free_area_length = match info.get(Key::LenZoneFreeArea) {
            // The value of x86_64 since 2.6. makedumpfile would apply no limit.
            None => 11,
            Some(n @ 1..=32) => n as u32,
            Some(n) => return Err(out_of_range(Key::LenZoneFreeArea, n, "1..=32")),
        };
        Ok(Self {
            release: info.release(),
            architecture,
            page_shift: architecture.page_shift(),
            page,
            flags,
            types: PageTypes {
                offline: page_type(info, Key::NumOfflineType)?,
                slab: page_type(info, Key::NumSlabType)?,
                unaccepted: page_type(info, Key::NumUnacceptedType)?,
            },
            free: free_pages(info, &page)?,
            compound: compound_pages(info, &page)?,
            free_area_length,
            model: memory_model(info, architecture.page_shift())?,
            nodes: NodeLayout::resolve(info)?,
            free_lists: FreeListLayout::resolve(info)?,
            space: address_space(info, phys_base)?,
        })
    }
}

/// The value of `key`, the offset of a field of `width` bytes in a `struct page` of `size` bytes.
fn page_field(
    info: &VmcoreInfo<'_>,
    key: Key,
    size: usize,
    width: usize,
) -> Result<Option<usize>, LayoutError> {
    let Some(value) = info.get(key) else { return Ok(None) };
    match usize::try_from(value) {
        Ok(offset) if offset.checked_add(width).is_some_and(|end| end <= size) => Ok(Some(offset)),
        _ => Err(out_of_range(key, value, "inside struct page")),
    }
}

fn struct_page(info: &VmcoreInfo<'_>) -> Result<StructPage, LayoutError> {
    let size = info.require(Key::SizePage)?;
    if size < 32 || size > MAX_STRUCT_PAGE as u64 || size % 8 != 0 {
        return Err(out_of_range(Key::SizePage, size, "a multiple of 8, 32..=256"));
    }
    let size = size as usize;
    let missing = |key| LayoutError::from(VmcoreInfoError::Missing(key));
    // No rule uses the reference count, but makedumpfile requires its key, and every kernel exports it.
    if page_field(info, Key::OffPageRefcount, size, 4)?.is_none()
        && page_field(info, Key::OffPageCount, size, 4)?.is_none()
    {
        return Err(missing(Key::OffPageRefcount));
    }
    let compound_head = match page_field(info, Key::OffPageCompoundInfo, size, 8)? {
        Some(offset) => Some(offset),
        None => page_field(info, Key::OffPageCompoundHead, size, 8)?,
    };
    Ok(StructPage {
        size,
        flags: page_field(info, Key::OffPageFlags, size, 8)?.ok_or(missing(Key::OffPageFlags))?,
        mapping: page_field(info, Key::OffPageMapping, size, 8)?.ok_or(missing(Key::OffPageMapping))?,
        mapcount: page_field(info, Key::OffPageMapcount, size, 4)?,
        private: page_field(info, Key::OffPagePrivate, size, 8)?,
        compound_head,
    })
}

/// The flag whose bit number is the value of `key`, as a mask. Bit numbers above 30 are refused: makedumpfile shifts a
/// 32-bit 1, and no kernel has them.
fn flag(info: &VmcoreInfo<'_>, key: Key) -> Result<Option<u64>, LayoutError> {
    match info.get(key) {
        None => Ok(None),
        Some(number @ 0..=30) => Ok(Some(1 << number)),
        Some(number) => Err(out_of_range(key, number, "a bit number, 0..=30")),
    }
}

fn page_flags(info: &VmcoreInfo<'_>) -> Result<PageFlags, LayoutError> {
    let private = flag(info, Key::NumPgPrivate)?.unwrap_or(1 << 11);
    let swapcache = flag(info, Key::NumPgSwapcache)?.unwrap_or(1 << 15);
    let swapbacked = match flag(info, Key::NumPgSwapbacked)? {
        // Since 4.10 PG_swapcache shares its bit with PG_owner_priv_1 and counts only with PG_swapbacked. Kernels 4.10
        // to 4.16 do not export PG_swapbacked; the bit numbers identify these kernels.
        None if swapcache < private => Some(private << 6),
        exported => exported,
    };
    let slab = flag(info, Key::NumPgSlab)?;
    Ok(PageFlags {
        lru: flag(info, Key::NumPgLru)?.unwrap_or(1 << 5),
        private,
        swapcache,
        swapbacked,
        slab: slab.unwrap_or(1 << 7),
        slab_exported: slab.is_some(),
        head: match info.get(Key::NumPgHeadMask) {
            None => 1 << 14,
            Some(0) => return Err(out_of_range(Key::NumPgHeadMask, 0, "a mask of at least one bit")),
            Some(mask) => mask,
        },
        hwpoison: flag(info, Key::NumPgHwpoison)?,
    })
}

/// The value of `key`, a page type, as the 32 bits of the `_mapcount` field. "-129", "4294967167" and "0xffffff7f" are
/// the same type.
fn page_type(info: &VmcoreInfo<'_>, key: Key) -> Result<Option<u32>, LayoutError> {
    let Some(value) = info.get(key) else { return Ok(None) };
    let high = value >> 31;
    // An unsigned 32-bit number, or a negative 32-bit number.
    if high <= 1 || high == u64::MAX >> 31 {
        Ok(Some(value as u32))
    } else {
        Err(out_of_range(key, value, "32 bits"))
    }
}

fn free_pages(info: &VmcoreInfo<'_>, page: &StructPage) -> Result<FreePages, LayoutError> {
    let buddy_type = page_type(info, Key::NumBuddyType)?;
    let buddy_flag = flag(info, Key::NumPgBuddy)?;
    Ok(match (page.private, buddy_type, page.mapcount, buddy_flag) {
        (Some(_), Some(value), Some(_), _) => FreePages::Type(value),
        (Some(_), None, _, Some(mask)) => FreePages::Flag(mask),
        _ => FreePages::FreeLists,
    })
}

fn compound_pages(info: &VmcoreInfo<'_>, page: &StructPage) -> Result<CompoundPages, LayoutError> {
    if let Some(hugetlb) = page_type(info, Key::NumHugetlbType)? {
        return Ok(CompoundPages::TypedHugetlb { hugetlb });
    }
    if let Some(hugetlb) = flag(info, Key::NumPgHugetlb)? {
        return Ok(CompoundPages::FlaggedHugetlb { hugetlb });
    }
    let release = info.release();
    let order_width = if release >= Release::new(4, 16, 0) { 1 } else { 2 };
    let dtor_width = match release {
        r if r >= Release::new(4, 16, 0) => 1,
        r if r >= Release::new(4, 4, 0) => 2,
        _ => 8,
    };
    let lists = [Key::OffListPrev, Key::OffListNext];
    Ok(CompoundPages::Destructor {
        order: tail_field(
            info,
            page,
            [Key::OffFolioOrder, Key::OffPageCompoundOrder, lists[0]],
            order_width,
        )?,
        dtor: tail_field(info, page, [Key::OffFolioDtor, Key::OffPageCompoundDtor, lists[1]], dtor_width)?,
        hugetlb_dtor: info.get(Key::NumHugetlbDtor),
        free_huge_page: info.get(Key::SymFreeHugePage),
    })
}

/// A field of the first tail page: in `struct folio` (6.3 to 6.5; its offset counts from the head), in `struct page`
/// (4.4 to 6.2), or overlaid on `page.lru` (before 4.4).
fn tail_field(
    info: &VmcoreInfo<'_>,
    page: &StructPage,
    [folio, own, list]: [Key; 3],
    width: usize,
) -> Result<Option<TailField>, LayoutError> {
    let inside = |key, value: u64| match usize::try_from(value) {
        Ok(offset) if offset.checked_add(width).is_some_and(|end| end <= page.size) => {
            // makedumpfile treats offset 0 as unknown.
            Ok((offset != 0).then_some(TailField { offset, width }))
        }
        _ => Err(out_of_range(key, value, "inside the first tail page")),
    };
    if let Some(value) = info.get(folio) {
        let in_tail = value.checked_sub(page.size as u64);
        return in_tail
            .map_or(Err(out_of_range(folio, value, "inside the first tail page")), |v| inside(folio, v));
    }
    if let Some(value) = info.get(own) {
        return inside(own, value);
    }
    match (info.get(Key::OffPageLru), info.get(list)) {
        (Some(lru), Some(link)) if info.release() < Release::new(4, 4, 0) => {
            inside(Key::OffPageLru, lru.saturating_add(link))
        }
        _ => Ok(None),
    }
}

/// The memory model that the keys describe. The models are tried in makedumpfile's order.
fn memory_model(info: &VmcoreInfo<'_>, page_shift: u32) -> Result<MemoryModelKeys, LayoutError> {
    if let (
        Some(node_data),
        Some(nodes),
        Some(node_mem_map),
        Some(node_start_pfn),
        Some(node_spanned_pages),
    ) = (
        info.get(Key::SymNodeData),
        info.get(Key::LenNodeData),
        info.get(Key::OffNodeMemMap),
        info.get(Key::OffNodeStartPfn),
        info.get(Key::OffNodeSpannedPages),
    ) {
        let node_data = VirtAddr::new(node_data);
        return Ok(MemoryModelKeys::Discontig {
            node_data,
            nodes,
            node_mem_map,
            node_start_pfn,
            node_spanned_pages,
        });
    }
    if let (Some(mem_section), Some(entry_size), Some(map_offset)) =
        (info.get(Key::SymMemSection), info.get(Key::SizeMemSection), info.get(Key::OffSectionMemMap))
    {
        return sparse_model(info, page_shift, mem_section, entry_size, map_offset);
    }
    if let Some(mem_map) = info.get(Key::SymMemMap) {
        return Ok(MemoryModelKeys::Flat { mem_map: VirtAddr::new(mem_map) });
    }
    Err(LayoutError::NoneOf {
        what: "the array of struct page",
        keys: "SYMBOL(mem_section) with SIZE and OFFSET, SYMBOL(node_data) with node_mem_map, or SYMBOL(mem_map)",
    })
}

fn sparse_model(
    info: &VmcoreInfo<'_>,
    page_shift: u32,
    mem_section: u64,
    entry_size: u64,
    map_offset: u64,
) -> Result<MemoryModelKeys, LayoutError> {
    let page_size = 1_u64 << page_shift;
    if !(8..=page_size).contains(&entry_size) {
        return Err(out_of_range(Key::SizeMemSection, entry_size, "8..=4096"));
    }
    if map_offset.checked_add(8).is_none_or(|end| end > entry_size) {
        return Err(out_of_range(Key::OffSectionMemMap, map_offset, "inside struct mem_section"));
    }
    let section_bits = info.get(Key::NumSectionSizeBits).unwrap_or(27);
    if !(21..=40).contains(&section_bits) {
        return Err(out_of_range(Key::NumSectionSizeBits, section_bits, "21..=40"));
    }
    let default_bits = match info.release() {
        r if r < Release::new(2, 6, 26) => 40,
        r if r < Release::new(2, 6, 31) => 44,
        _ if info.get(Key::NumPgtableL5).is_some_and(|n| n != 0) => 52,
        _ => 46,
    };
    let physmem_bits = info.get(Key::NumMaxPhysmemBits).unwrap_or(default_bits);
    if physmem_bits <= section_bits || physmem_bits > 52 {
        return Err(out_of_range(
            Key::NumMaxPhysmemBits,
            physmem_bits,
            "greater than SECTION_SIZE_BITS, at most 52",
        ));
    }
    let sections = 1_u64 << physmem_bits.wrapping_sub(section_bits);
    let per_root = page_size.checked_div(entry_size).unwrap_or(1);
    // EXTREME: the array has one pointer per root. Otherwise: one entry per section.
    let extreme = info.get(Key::LenMemSection).is_none_or(|length| length == sections.div_ceil(per_root));
    Ok(MemoryModelKeys::Sparse {
        mem_section: VirtAddr::new(mem_section),
        extreme,
        entry_size,
        map_offset,
        frames_shift: section_bits.wrapping_sub(u64::from(page_shift)) as u32,
        sections: match info.get(Key::LenMemSection) {
            None => sections,
            Some(roots) if extreme => roots.saturating_mul(per_root),
            Some(length) => length,
        },
    })
}

fn address_space(info: &VmcoreInfo<'_>, phys_base: Option<u64>) -> Result<AddressSpace, LayoutError> {
    let (key, root) = [Key::SymInitTopPgt, Key::SymInitLevel4Pgt, Key::SymSwapperPgDir]
        .into_iter()
        .find_map(|key| info.get(key).map(|addr| (key, addr)))
        .ok_or(LayoutError::NoneOf {
            what: "the kernel's page tables",
            keys: "SYMBOL(init_top_pgt), SYMBOL(init_level4_pgt) or SYMBOL(swapper_pg_dir)",
        })?;
    // Default: the kernel image is mapped from physical address 0 on.
    let phys_base = info.get(Key::NumPhysBase).or(phys_base).unwrap_or(0);
    let five_level = info.get(Key::NumPgtableL5).is_some_and(|n| n != 0);
    let sme_mask = info.get(Key::NumSmeMask).unwrap_or(0);
    AddressSpace::from_symbol(VirtAddr::new(root), phys_base, five_level, sme_mask).ok_or(out_of_range(
        key,
        root,
        "a page-aligned address in the kernel image, with NUMBER(phys_base)",
    ))
}
