//! The fields of a `struct page` in words.

use super::ranges::Ranges;
use crate::reference::{Fixes, Judge, PageFacts, StructPage, locate};
use page_filter::machine::Machine;
use scanner_core::Pfn;
use scanner_core::kernel::layout::{CompoundPages, FreePages};
use scanner_core::kernel::vmcoreinfo::Key;
use serde::Serialize;
use std::fmt;

/// What a `struct page` says.
#[derive(Clone, Debug, Serialize)]
pub struct Fields {
    /// `flags`.
    pub flags: u64,
    /// Flags that VMCOREINFO names and that are set.
    pub flag_names: Vec<&'static str>,
    /// Numbers of the other bits that are set.
    pub other_bits: Vec<u8>,
    /// The `_mapcount` word.
    pub mapcount: u32,
    /// What it means.
    pub page_type: String,
    /// `mapping`.
    pub mapping: u64,
    /// What it means.
    pub mapping_kind: &'static str,
    /// `private`.
    pub private: u64,
    /// `compound_head`, since 7.1 `compound_info`.
    pub compound_head: u64,
    /// Which of the two it is.
    pub compound_head_name: &'static str,
    /// The head's frame, if this is a tail page and it can be told.
    pub head: Option<u64>,
    /// The order as a compound page's head.
    pub order: Option<u64>,
    /// Why the order that is in memory doesn't count.
    pub impossible_order: Option<u64>,
    /// Whether it heads a hugetlb page.
    pub hugetlb: bool,
}

impl Fields {
    /// What `facts` mean in `machine`.
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
                _ if facts.is_tail() => "not meant: a tail page",
                _ if judge.is_slab(facts) => "not meant: a slab page",
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

    /// Hands out the fields line by line.
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
            line("", &format_args!("its order says {claimed}, which can't be at this frame"))?;
        }
        Ok(())
    }
}

/// The names of the flags that are set and that VMCOREINFO gives the number of, and the mask of all it gives.
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

/// The type that the `_mapcount` word stands for, by makedumpfile's comparison or the kernel's.
fn page_type(machine: &Machine<'_>, facts: &PageFacts) -> String {
    let (layout, types) = (&machine.layout, &machine.layout.types);
    if layout.page.mapcount.is_none() {
        return "not known where it is".to_owned();
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
    let of = |rules| {
        let judge = Judge::new(layout, Fixes::of(rules));
        known.iter().find(|(_, value)| judge.has_type(facts, *value)).map(|(name, _)| *name)
    };
    use scanner_core::RuleSet::{Kernel, Makedumpfile};
    match (of(Makedumpfile), of(Kernel)) {
        (Some(name), _) => format!("type {name}"),
        (None, Some(name)) => format!("type {name} by its top byte, which makedumpfile doesn't see"),
        (None, None) => match facts.mapcount.cast_signed() {
            -1 => "no type, not mapped".to_owned(),
            0 => "mapped once".to_owned(),
            mapped @ 1.. => format!("mapped {} times", i64::from(mapped) + 1),
            _ => "a type that VMCOREINFO doesn't name".to_owned(),
        },
    }
}

/// The frame of a tail page's head. `compound_head` is its address and bit 0; since 7.1, `compound_info` can be a mask
/// that makes it out of the tail's address instead.
fn head(machine: &Machine<'_>, facts: &PageFacts) -> Option<Pfn> {
    let StructPage::At { addr, .. } = locate(machine, facts.pfn) else { return None };
    let word = facts.compound_head & !1;
    let is_mask = machine.info.get(Key::OffPageCompoundInfo).is_some()
        && word.leading_ones() + word.trailing_zeros() == u64::BITS;
    let head = if is_mask { addr.as_u64() & word } else { word };
    let back = addr.as_u64().checked_sub(head)?;
    let size = machine.layout.page.size as u64;
    // The memory map is linear over section borders, unless it isn't virtual: then heads are in the same section.
    let pfn = Pfn::new(facts.pfn.as_u64().checked_sub(back / size)?);
    let found = locate(machine, pfn);
    let there = matches!(found, StructPage::At { addr, .. } if addr.as_u64() == head);
    (back % size == 0 && there).then_some(pfn)
}
