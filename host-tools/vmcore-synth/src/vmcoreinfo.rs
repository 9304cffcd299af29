//! The VMCOREINFO text of a simulated machine: the keys that its generation has, in the kernel's order.

use super::generation::{Compound, HUGETLB_PAGE_DTOR, KernelGeneration, Keys, MemoryModel, ORDERS, TailLink};
use super::machine::{KERNEL_MAP, Machine, SECTION_FRAMES};
use super::symbols::Symbols;
use std::fmt::Write;

/// Some address of `free_huge_page`, of a kernel by itself.
const FREE_HUGE_PAGE: u64 = 0xffff_ffff_811b_0000;

/// The text that the kernel of `machine` would have in its VMCOREINFO note.
pub(super) fn text(machine: &Machine) -> String {
    let mut text = Text(String::new());
    kernel(machine, &mut text);
    memory_model(machine, &mut text);
    structures(machine.generation, machine.model, &mut text);
    classes(machine.generation, Symbols::of(machine).free_huge_page, &mut text);
    if machine.by_hand() {
        by_hand(machine.generation, &mut text);
    }
    architecture(machine, &mut text);
    text.line("CRASHTIME", "1700000000");
    text.0
}

/// The lines of VMCOREINFO by which a kernel of `generation` lets its pages be classified, and its release: nothing of a
/// machine. `hand_keys` adds what users add for kernels before 3.9.
pub(super) fn page_keys(generation: &KernelGeneration, hand_keys: bool) -> String {
    /// Starts of the keys of `struct page`, its flags and its types.
    const PREFIXES: [&str; 9] = [
        "SIZE(page)",
        "OFFSET(page.",
        "OFFSET(folio.",
        "OFFSET(list_head.",
        "LENGTH(zone.free_area)",
        "NUMBER(PG_",
        "NUMBER(PAGE_",
        "NUMBER(HUGETLB_PAGE_DTOR)",
        "SYMBOL(free_huge_page)",
    ];
    let mut text = Text(String::new());
    structures(generation, generation.model, &mut text);
    classes(generation, FREE_HUGE_PAGE, &mut text);
    if hand_keys {
        by_hand(generation, &mut text);
    }
    let mut keys = Text(String::new());
    keys.line("OSRELEASE", generation.release);
    for line in text.0.lines().filter(|line| PREFIXES.iter().any(|prefix| line.starts_with(prefix))) {
        keys.0 += line;
        keys.0.push('\n');
    }
    keys.0
}

fn kernel(machine: &Machine, text: &mut Text) {
    let symbols = Symbols::of(machine);
    text.line("OSRELEASE", machine.generation.release);
    text.line("PAGESIZE", 4096);
    text.symbol("init_uts_ns", symbols.init_uts_ns);
    if machine.generation.keys.contains(Keys::UTS_NAME) {
        text.offset("uts_namespace.name", 0);
    }
    text.symbol("node_online_map", symbols.node_online_map);
    text.symbol("swapper_pg_dir", symbols.root_table);
    text.symbol("_stext", symbols.stext);
}

fn memory_model(machine: &Machine, text: &mut Text) {
    let symbols = Symbols::of(machine);
    match machine.model {
        MemoryModel::Flat => {
            text.symbol("mem_map", symbols.mem_map);
            text.symbol("contig_page_data", machine.direct(machine.node_data));
        }
        MemoryModel::Discontig => {}
        MemoryModel::Vmemmap | MemoryModel::SparseExtreme | MemoryModel::Sparse => {
            text.symbol("mem_section", machine.direct(machine.sections));
            text.length("mem_section", machine.mem_section_length());
            text.size("mem_section", machine.generation.mem_section_size);
            text.offset("mem_section.section_mem_map", 0);
            if machine.generation.keys.contains(Keys::SECTION_BITS) {
                text.number("SECTION_SIZE_BITS", i64::from((SECTION_FRAMES * 4096).trailing_zeros()));
                text.number("MAX_PHYSMEM_BITS", i64::from(machine.physmem_bits()));
            }
        }
    }
}

fn structures(generation: &KernelGeneration, model: MemoryModel, text: &mut Text) {
    let (keys, page, zones) = (generation.keys, &generation.page, generation.zones);
    text.size("page", page.size);
    text.size("pglist_data", zones.node_size);
    text.size("zone", zones.zone_size);
    text.size("free_area", zones.free_area_size);
    text.size("list_head", 16);
    text.size("nodemask_t", zones.max_nodes / 8);
    text.offset("page.flags", 0);
    text.offset(if keys.contains(Keys::REFCOUNT) { "page._refcount" } else { "page._count" }, page.refcount);
    text.offset("page.mapping", page.mapping);
    text.offset("page.lru", page.lru);
    if keys.contains(Keys::BUDDY) {
        text.offset("page._mapcount", page.mapcount);
        text.offset("page.private", page.private);
    }
    match generation.compound {
        Compound::Words { dtor, order } | Compound::Bytes { dtor, order } if keys.contains(Keys::DTOR) => {
            if generation.names_folio() {
                text.offset("folio._folio_dtor", page.size + dtor);
                text.offset("folio._folio_order", page.size + order);
            } else {
                text.offset("page.compound_dtor", dtor);
                text.offset("page.compound_order", order);
            }
        }
        _ => {}
    }
    match page.tail {
        TailLink::Head(offset) if keys.contains(Keys::TAIL) => text.offset("page.compound_head", offset),
        TailLink::Mask(offset) => text.offset("page.compound_info", offset),
        _ => {}
    }
    text.offset("pglist_data.node_zones", 0);
    text.offset("pglist_data.nr_zones", zones.nr_zones);
    if matches!(model, MemoryModel::Flat | MemoryModel::Discontig) {
        text.offset("pglist_data.node_mem_map", zones.node_mem_map);
    }
    text.offset("pglist_data.node_start_pfn", zones.node_start_pfn);
    text.offset("pglist_data.node_spanned_pages", zones.node_spanned_pages);
    text.offset("pglist_data.node_id", zones.node_id);
    text.offset("zone.free_area", zones.free_area);
    text.offset(
        if zones.migrate_types.is_some() { "zone.vm_stat" } else { "zone.free_pages" },
        zones.free_pages,
    );
    text.offset("zone.spanned_pages", zones.spanned_pages);
    text.offset("free_area.free_list", 0);
    text.offset("list_head.next", 0);
    text.offset("list_head.prev", 8);
    text.length("zone.free_area", ORDERS);
    if let Some(types) = zones.migrate_types {
        text.length("free_area.free_list", types);
        text.number("NR_FREE_PAGES", 0);
    }
}

fn classes(generation: &KernelGeneration, free_huge_page: u64, text: &mut Text) {
    let (keys, flags, types) = (generation.keys, &generation.flags, &generation.types);
    text.number("PG_lru", flags.lru.into());
    text.number("PG_private", flags.private.into());
    text.number("PG_swapcache", flags.swapcache.into());
    if let (Some(bit), true) = (flags.swapbacked, keys.contains(Keys::SWAPBACKED)) {
        text.number("PG_swapbacked", bit.into());
    }
    if keys.contains(Keys::BUDDY) {
        match flags.slab {
            Some(bit) => text.number("PG_slab", bit.into()),
            None => text.page_type("SLAB", types.slab),
        }
    }
    if let (Some(bit), true) = (flags.hwpoison, keys.contains(Keys::HWPOISON)) {
        text.number("PG_hwpoison", bit.into());
    }
    if keys.contains(Keys::HEAD_MASK) {
        text.number("PG_head_mask", 1 << flags.head);
    }
    if keys.contains(Keys::BUDDY) {
        text.page_type("BUDDY", types.buddy);
    }
    match generation.compound {
        Compound::TailFlags { hugetlb } => text.number("PG_hugetlb", hugetlb.into()),
        Compound::TailFlagsTyped => text.page_type("HUGETLB", types.hugetlb),
        _ if keys.contains(Keys::DTOR) => text.number("HUGETLB_PAGE_DTOR", HUGETLB_PAGE_DTOR.into()),
        _ => {}
    }
    if keys.contains(Keys::FREE_HUGE_PAGE) {
        text.symbol("free_huge_page", free_huge_page);
    }
    if keys.contains(Keys::OFFLINE) {
        text.page_type("OFFLINE", types.offline);
    }
    text.page_type("UNACCEPTED", types.unaccepted);
}

/// What users add for kernels before 3.9, so that free pages are found without the free lists.
fn by_hand(generation: &KernelGeneration, text: &mut Text) {
    text.size("pageflags", 4);
    text.offset("page._mapcount", generation.page.mapcount);
    text.offset("page.private", generation.page.private);
    text.number("PG_slab", generation.flags.slab.unwrap_or_default().into());
    match generation.flags.buddy {
        Some(bit) => text.number("PG_buddy", bit.into()),
        None => text.page_type("BUDDY", generation.types.buddy),
    }
}

fn architecture(machine: &Machine, text: &mut Text) {
    let (keys, symbols) = (machine.generation.keys, Symbols::of(machine));
    if keys.contains(Keys::RANDOM_BASE) {
        text.number("phys_base", machine.phys_base());
    }
    text.symbol(
        if keys.contains(Keys::TOP_PGT) { "init_top_pgt" } else { "init_level4_pgt" },
        symbols.root_table,
    );
    if keys.contains(Keys::FIVE_LEVEL) {
        text.number("pgtable_l5_enabled", machine.spec.five_level.into());
    }
    if machine.model != MemoryModel::Flat {
        text.symbol("node_data", symbols.node_data);
        text.length("node_data", machine.generation.zones.max_nodes);
    }
    if keys.contains(Keys::RANDOM_BASE) {
        text.line("KERNELOFFSET", format_args!("{:x}", symbols.stext - KERNEL_MAP - (16 << 20)));
        text.number("KERNEL_IMAGE_SIZE", 1 << 30);
    }
    if keys.contains(Keys::FIVE_LEVEL) {
        text.number("sme_mask", 0);
    }
}

struct Text(String);

impl Text {
    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{key}={value}");
    }

    fn symbol(&mut self, name: &str, addr: u64) {
        self.line(&format!("SYMBOL({name})"), format_args!("{addr:x}"));
    }

    fn size(&mut self, name: &str, bytes: u64) {
        self.line(&format!("SIZE({name})"), bytes);
    }

    fn offset(&mut self, name: &str, bytes: u64) {
        self.line(&format!("OFFSET({name})"), bytes);
    }

    fn length(&mut self, name: &str, count: u64) {
        self.line(&format!("LENGTH({name})"), count);
    }

    fn number(&mut self, name: &str, value: i64) {
        self.line(&format!("NUMBER({name})"), value);
    }

    /// A page type: a 32-bit word, which the kernel prints as a signed number.
    fn page_type(&mut self, name: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.number(&format!("PAGE_{name}_MAPCOUNT_VALUE"), (value as i32).into());
        }
    }
}
