//! The fields of a `struct page`, with their meaning.

use super::ranges::Ranges;
use crate::reference::{Fixes, Judge, PageFacts, StructPage, locate};
use page_filter::machine::Machine;
use scanner_core::Pfn;
use scanner_core::kernel::layout::{CompoundPages, FreePages};
use scanner_core::kernel::vmcoreinfo::Key;
use serde::Serialize;
use std::fmt;

/// The fields of a `struct page`, decoded.
#[derive(Clone, Debug, Serialize)]
pub struct Fields {
    /// `flags`.
    pub flags: u64,
    /// The set flags whose number VMCOREINFO gives.
    pub flag_names: Vec<&'static str>,
    /// The numbers of the other set bits.
    pub other_bits: Vec<u8>,
    /// The `_mapcount` word.
    pub mapcount: u32,
    /// The meaning of the `_mapcount` word.
    pub page_type: String,
    /// `mapping`.
    pub mapping: u64,
    /// The meaning of `mapping`.
    pub mapping_kind: &'static str,
    /// `private`.
    pub private: u64,
    /// `compound_head`, since 7.1 `compound_info`.
    pub compound_head: u64,
    /// The name of this field: `compound_head` or `compound_info`.
    pub compound_head_name: &'static str,
    /// The frame of the head; `None` if the page is not a tail, or if its head cannot be determined.
    pub head: Option<u64>,
    /// The order of the compound page; `None` if the page is not a head.
    pub order: Option<u64>,
    /// The order in memory, if it is impossible and counts as 0.
    pub impossible_order: Option<u64>,
    /// Whether the page is the head of a hugetlb page.
    pub hugetlb: bool,
}

impl Fields {
    /// Decodes `facts` for the kernel of `machine`.
    pub fn new(machine: &Machine<'_>, facts: &PageFacts) -> Self {
        let (flag_names, named) = flags(machine, facts.flags);
        let judge = Judge::new(&machine.layout, Fixes::of(machine.rule_set));
        let compound = judge.compound(facts);
        let order = compound.claimed_order.map(|_| compound.order);
        Self {
            flags: facts.flags,
            flag_names,
            other_bits: (0..64).filter(|bit| (facts.flags & !named) >> bit & 1 == 1).collect(),
            mapcount: facts.mapcount,
            page_type: page_type(machine, facts),
            mapping: facts.mapping,
            mapping_kind: match facts.mapping & 3 {
                _ if facts.is_tail() => "not a mapping: a tail page",
                _ if judge.is_slab(facts) => "not a mapping: a slab page",
                0 if facts.mapping == 0 => "none",
                0 => "file or shared memory",
                1 => "anonymous",
                2 => "movable",
                _ => "anonymous, merged by KSM",
            },
            private: facts.private,
            compound_head: facts.compound_head,
            compound_head_name: match machine.info.get(Key::OffPageCompoundInfo) {
                Some(_) => "compound_info",
                None => "compound_head",
            },
            head: facts.is_tail().then(|| head(machine, facts)).flatten().map(Pfn::as_u64),
            order,
            impossible_order: compound.claimed_order.filter(|claimed| Some(*claimed) != order),
            hugetlb: compound.hugetlb,
        }
    }

    /// Passes each field to `line`, as a name and a value.
    pub(super) fn lines(&self, line: &mut impl FnMut(&str, &dyn fmt::Display) -> fmt::Result) -> fmt::Result {
        let names: String = self.flag_names.iter().map(|name| format!(" {name}")).collect();
        line("flags", &format_args!("{:#x}:{names}; other bits: {}", self.flags, Ranges(&self.other_bits)))?;
        line("_mapcount", &format_args!("{:#x}: {}", self.mapcount, self.page_type))?;
        line("mapping", &format_args!("{:#x}: {}", self.mapping, self.mapping_kind))?;
        line("private", &format_args!("{:#x}", self.private))?;
        if self.compound_head & 1 == 1 {
            let head = self.head.map_or("unknown".to_owned(), |pfn| format!("{pfn:#x}"));
            let (name, word) = (self.compound_head_name, self.compound_head);
            line("tail of", &format_args!("page frame {head} ({name} {word:#x})"))?;
        }
        if let Some(order) = self.order {
            let hugetlb = if self.hugetlb { ", hugetlb" } else { "" };
            line("head of", &format_args!("a compound page of order {order}{hugetlb}"))?;
        }
        if let Some(claimed) = self.impossible_order {
            line("", &format_args!("its order in memory is {claimed}, which is impossible at this frame"))?;
        }
        Ok(())
    }
}

/// The names of the set flags whose numbers VMCOREINFO gives, and the mask of all flags whose numbers it gives.
fn flags(machine: &Machine<'_>, flags: u64) -> (Vec<&'static str>, u64) {
    let known = &machine.layout.flags;
    let buddy = match machine.layout.free {
        FreePages::Flag(mask) => mask,
        _ => 0,
    };
    let masks = [
        ("lru", Key::NumPgLru, known.lru),
        ("head", Key::NumPgHeadMask, known.head),
        ("slab", Key::NumPgSlab, known.slab),
        ("swapcache", Key::NumPgSwapcache, known.swapcache),
        ("private", Key::NumPgPrivate, known.private),
        ("swapbacked", Key::NumPgSwapbacked, known.swapbacked.unwrap_or(0)),
        ("hwpoison", Key::NumPgHwpoison, known.hwpoison.unwrap_or(0)),
        ("buddy", Key::NumPgBuddy, buddy),
    ];
    let exported: Vec<_> = masks.into_iter().filter(|(_, key, _)| machine.info.get(*key).is_some()).collect();
    let names = exported.iter().filter(|(.., mask)| flags & mask != 0).map(|(name, ..)| *name).collect();
    (names, exported.iter().fold(0, |all, (.., mask)| all | mask))
}

/// The meaning of the `_mapcount` word, by makedumpfile's comparison and by the kernel's.
fn page_type(machine: &Machine<'_>, facts: &PageFacts) -> String {
    let (layout, types) = (&machine.layout, &machine.layout.types);
    if layout.page.mapcount.is_none() {
        return "unknown: VMCOREINFO has no offset for it".to_owned();
    }
    let buddy = match layout.free {
        FreePages::Type(value) => Some(value),
        _ => None,
    };
    let hugetlb = match layout.compound {
        CompoundPages::TypedHugetlb { hugetlb } => Some(hugetlb),
        _ => None,
    };
    let known = [
        ("free (buddy)", buddy),
        ("slab", types.slab),
        ("offline", types.offline),
        ("unaccepted", types.unaccepted),
        ("hugetlb", hugetlb),
    ];
    let type_by = |rules| {
        let judge = Judge::new(layout, Fixes::of(rules));
        known.iter().find(|(_, value)| judge.has_type(facts, *value)).map(|(name, _)| *name)
    };
    use scanner_core::RuleSet::{Kernel, Makedumpfile};
    match (type_by(Makedumpfile), type_by(Kernel)) {
        (Some(name), _) => format!("type {name}"),
        (None, Some(name)) => format!("type {name} by its top byte; makedumpfile compares the whole word"),
        (None, None) => match facts.mapcount.cast_signed() {
            -1 => "no type, not mapped".to_owned(),
            0 => "mapped once".to_owned(),
            mapped @ 1.. => format!("mapped {} times", i64::from(mapped) + 1),
            _ => "a type that VMCOREINFO does not name".to_owned(),
        },
    }
}

/// The frame of a tail page's head. `compound_head` is the address of the head's `struct page`, with bit 0 set. Since
/// 7.1, `compound_info` can instead be a mask that turns the tail's address into the head's.
fn head(machine: &Machine<'_>, facts: &PageFacts) -> Option<Pfn> {
    let StructPage::At { addr, .. } = locate(machine, facts.pfn) else { return None };
    let word = facts.compound_head & !1;
    let is_mask = machine.info.get(Key::OffPageCompoundInfo).is_some()
        && word.leading_ones() + word.trailing_zeros() == u64::BITS;
    let head = if is_mask { addr.as_u64() & word } else { word };
    let back = addr.as_u64().checked_sub(head)?;
    let size = machine.layout.page.size as u64;
    // A virtual memory map is linear across sections. Otherwise the head is in the same section as the tail.
    let pfn = Pfn::new(facts.pfn.as_u64().checked_sub(back / size)?);
    let found = locate(machine, pfn);
    let is_head = matches!(found, StructPage::At { addr, .. } if addr.as_u64() == head);
    (back % size == 0 && is_head).then_some(pfn)
}
