//! Kernels of each generation for tests: their VMCOREINFO, and `struct page`s as they lay them out.

use super::{DumpLevel, RuleSet, Rules};
use crate::kernel::layout::KernelLayout;
use crate::kernel::vmcoreinfo::VmcoreInfo;
use std::string::String;
use std::vec::Vec;

/// What every text says, whatever the kernel.
const COMMON: &str = "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82022000\nSYMBOL(mem_section)=ff21ec18deeb0680\n\
    LENGTH(mem_section)=2048\nSIZE(mem_section)=32\nOFFSET(mem_section.section_mem_map)=0\n\
    OFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8\nLENGTH(zone.free_area)=11\n";

/// `struct page` of 2.6.32, without debug options.
const PAGE_2_6_32: &str = "SIZE(page)=56\nOFFSET(page.flags)=0\nOFFSET(page._count)=8\nOFFSET(page._mapcount)=12\n\
    OFFSET(page.private)=16\nOFFSET(page.mapping)=24\nOFFSET(page.lru)=40\n";
/// `struct page` of 3.x up to 4.17.
const PAGE_3_9: &str = "SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._count)=28\nOFFSET(page.mapping)=8\n\
    OFFSET(page.lru)=32\nOFFSET(page._mapcount)=24\nOFFSET(page.private)=48\n";
/// `struct page` since 4.18.
const PAGE_4_18: &str = "SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\n\
    OFFSET(page.lru)=8\nOFFSET(page._mapcount)=48\nOFFSET(page.private)=40\n";

/// Flags of 2.6.24 and later.
const FLAGS_2_6: &str = "NUMBER(PG_lru)=5\nNUMBER(PG_private)=11\nNUMBER(PG_swapcache)=15\n";
/// Flags of 4.10 to 4.16, which do not export `PG_swapbacked`; makedumpfile takes bit 19 for it.
const FLAGS_4_10: &str = "NUMBER(PG_lru)=4\nNUMBER(PG_private)=13\nNUMBER(PG_swapcache)=10\nNUMBER(PG_slab)=9\n\
    NUMBER(PG_hwpoison)=23\nNUMBER(PG_head_mask)=65536\n";
/// Flags of 6.6 to 6.9.
const FLAGS_6_6: &str = "NUMBER(PG_lru)=5\nNUMBER(PG_private)=15\nNUMBER(PG_swapcache)=12\n\
    NUMBER(PG_swapbacked)=19\nNUMBER(PG_slab)=11\nNUMBER(PG_hwpoison)=22\nNUMBER(PG_head_mask)=64\n";
/// Flags since 6.10, which do not export `PG_slab`; makedumpfile takes bit 7 for it.
const FLAGS_6_10: &str = "NUMBER(PG_lru)=5\nNUMBER(PG_private)=14\nNUMBER(PG_swapcache)=10\n\
    NUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=21\nNUMBER(PG_head_mask)=64\n";

/// Types of 4.18 to 6.9.
const TYPES_4_18: &str = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n";
/// Types since 6.12: the top byte of the word.
const TYPES_6_12: &str = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n\
    NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\nNUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n\
    NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\n";

/// A destructor and an order, in 8 bits each.
const DESTRUCTOR: &str =
    "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\nNUMBER(HUGETLB_PAGE_DTOR)=2\n";

/// One kernel of each generation: its release, and what its text says more than [`COMMON`].
const GENERATIONS: [(&str, &[&str]); 15] = [
    // Free pages have a flag; compound pages keep order and destructor in page.lru.
    ("2.6.32", &[PAGE_2_6_32, FLAGS_2_6, "NUMBER(PG_buddy)=19\nSYMBOL(free_huge_page)=ffffffff81110000\n"]),
    // Free pages have a type.
    (
        "3.10.0",
        &[
            PAGE_3_9,
            FLAGS_2_6,
            "NUMBER(PG_slab)=7\nNUMBER(PG_hwpoison)=23\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-128\n\
             SYMBOL(free_huge_page)=ffffffff81110000\n",
        ],
    ),
    // Order and destructor have fields of 16 bits; tail pages point to their head.
    (
        "4.14.0",
        &[
            PAGE_3_9,
            FLAGS_4_10,
            "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-128\nOFFSET(page.compound_head)=32\n\
             OFFSET(page.compound_dtor)=40\nOFFSET(page.compound_order)=42\nNUMBER(HUGETLB_PAGE_DTOR)=2\n",
        ],
    ),
    // Of 8 bits.
    (
        "4.16.18",
        &[
            PAGE_3_9,
            FLAGS_4_10,
            "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-128\nOFFSET(page.compound_head)=32\n\
             OFFSET(page.compound_dtor)=40\nOFFSET(page.compound_order)=41\nNUMBER(HUGETLB_PAGE_DTOR)=2\n",
        ],
    ),
    // RHEL 8: offline pages have a type, and PG_swapbacked is exported.
    (
        "4.18.0",
        &[
            PAGE_4_18,
            FLAGS_4_10,
            "NUMBER(PG_swapbacked)=19\nOFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            DESTRUCTOR,
        ],
    ),
    (
        "5.10.0",
        &[
            PAGE_4_18,
            FLAGS_4_10,
            "NUMBER(PG_swapbacked)=19\nOFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            DESTRUCTOR,
        ],
    ),
    (
        "6.1.0",
        &[
            PAGE_4_18,
            FLAGS_4_10,
            "NUMBER(PG_swapbacked)=19\nOFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            DESTRUCTOR,
        ],
    ),
    // Order and destructor are fields of struct folio.
    (
        "6.4.0",
        &[
            PAGE_4_18,
            FLAGS_4_10,
            "NUMBER(PG_swapbacked)=19\nOFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            "OFFSET(folio._folio_dtor)=80\nOFFSET(folio._folio_order)=81\nNUMBER(HUGETLB_PAGE_DTOR)=2\n",
        ],
    ),
    // The order in the first tail's flags, hugetlb as one of them.
    (
        "6.6.0",
        &[PAGE_4_18, FLAGS_6_6, "OFFSET(page.compound_head)=8\n", TYPES_4_18, "NUMBER(PG_hugetlb)=8\n"],
    ),
    (
        "6.8.0",
        &[PAGE_4_18, FLAGS_6_6, "OFFSET(page.compound_head)=8\n", TYPES_4_18, "NUMBER(PG_hugetlb)=8\n"],
    ),
    // hugetlb as a type.
    (
        "6.9.0",
        &[
            PAGE_4_18,
            FLAGS_6_6,
            "OFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049\n",
        ],
    ),
    // Slab as a type.
    (
        "6.10.0",
        &[
            PAGE_4_18,
            FLAGS_6_10,
            "OFFSET(page.compound_head)=8\n",
            TYPES_4_18,
            "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049\nNUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-4097\n",
        ],
    ),
    ("6.12.0", &[PAGE_4_18, FLAGS_6_10, "OFFSET(page.compound_head)=8\n", TYPES_6_12]),
    // Pages that a guest has not accepted have a type.
    (
        "6.16.0",
        &[
            PAGE_4_18,
            FLAGS_6_10,
            "OFFSET(page.compound_head)=8\n",
            TYPES_6_12,
            "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n",
        ],
    ),
    (
        "7.1.0",
        &[
            PAGE_4_18,
            FLAGS_6_10,
            "OFFSET(page.compound_info)=8\n",
            TYPES_6_12,
            "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944\n",
        ],
    ),
];

/// A kernel: its VMCOREINFO.
#[derive(Clone, Debug)]
pub(crate) struct TestKernel {
    pub(crate) text: String,
}

impl TestKernel {
    /// One kernel of each generation, the oldest first.
    pub(crate) fn all() -> Vec<Self> {
        GENERATIONS.iter().map(|(release, _)| Self::of(release)).collect()
    }

    /// The kernel with this release.
    pub(crate) fn of(release: &str) -> Self {
        let (_, parts) = GENERATIONS.iter().find(|(name, _)| *name == release).unwrap();
        Self { text: std::format!("OSRELEASE={release}\n{COMMON}{}", parts.concat()) }
    }

    /// The same kernel, with `lines` added.
    pub(crate) fn with(self, lines: &str) -> Self {
        Self { text: self.text + lines + "\n" }
    }

    /// The same kernel, without the line of `key`.
    pub(crate) fn without(self, key: &str) -> Self {
        let start = std::format!("{key}=");
        assert!(self.text.contains(&start), "{key} is in the text");
        Self {
            text: self
                .text
                .lines()
                .filter(|line| !line.starts_with(&start))
                .flat_map(|l| [l, "\n"])
                .collect(),
        }
    }

    /// The same kernel, with another value of `key`.
    pub(crate) fn changed(self, key: &str, value: &str) -> Self {
        self.without(key).with(&std::format!("{key}={value}"))
    }

    pub(crate) fn release(&self) -> &str {
        self.value("OSRELEASE").unwrap()
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The number that stands in the text: an address, or a signed number.
    pub(crate) fn key(&self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        Some(if key.starts_with("SYMBOL") {
            u64::from_str_radix(value, 16).unwrap()
        } else {
            value.parse::<i64>().unwrap() as u64
        })
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.key(&std::format!("NUMBER({name})"))
    }

    pub(crate) fn offset(&self, field: &str) -> Option<usize> {
        self.key(&std::format!("OFFSET({field})")).map(|offset| offset as usize)
    }

    pub(crate) fn page_size(&self) -> usize {
        self.key("SIZE(page)").unwrap() as usize
    }

    /// The value of `_mapcount` that marks pages of this type: `BUDDY`, `OFFLINE`, `HUGETLB`, `SLAB`, `UNACCEPTED`.
    pub(crate) fn page_type(&self, name: &str) -> Option<u32> {
        self.number(&std::format!("PAGE_{name}_MAPCOUNT_VALUE")).map(|value| value as u32)
    }

    /// The flag as a mask. One that the kernel does not export is where makedumpfile takes it to be.
    pub(crate) fn flag(&self, name: &str) -> u64 {
        let number = self.number(name).or_else(|| match name {
            "PG_slab" => Some(7),
            "PG_swapbacked" if self.number("PG_swapcache") < self.number("PG_private") => {
                Some(self.number("PG_private")? + 6)
            }
            _ => None,
        });
        number.map_or(0, |number| 1 << number)
    }

    /// The flags of the head of a compound page.
    pub(crate) fn head_mask(&self) -> u64 {
        self.number("PG_head_mask").unwrap_or(1 << 14)
    }

    /// Where the first tail keeps order and destructor, if it has fields for them.
    fn tail_fields(&self) -> Option<(usize, usize)> {
        let of = |folio, own| {
            self.offset(folio).map(|offset| offset - self.page_size()).or_else(|| self.offset(own))
        };
        let own = of("folio._folio_order", "page.compound_order")
            .zip(of("folio._folio_dtor", "page.compound_dtor"));
        let is_old = self.key("SYMBOL(free_huge_page)").is_some();
        own.or_else(|| self.offset("page.lru").filter(|_| is_old).map(|lru| (lru + 8, lru)))
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        KernelLayout::resolve(&VmcoreInfo::parse(self.text.as_bytes()).unwrap(), Some(0)).unwrap()
    }

    pub(crate) fn rules(&self, level: u64, rule_set: RuleSet) -> Rules {
        Rules::new(&self.layout(), DumpLevel::from_number(level).unwrap(), rule_set)
    }
}

/// The fields of a `struct page`. The default is a page in the kernel's own use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestPage {
    pub(crate) flags: u64,
    pub(crate) mapping: u64,
    pub(crate) mapcount: u32,
    pub(crate) private: u64,
    pub(crate) compound_head: u64,
    /// Fields of a first tail. Written before the others, which may lie over them.
    pub(crate) order: u64,
    pub(crate) dtor: u64,
}

impl Default for TestPage {
    fn default() -> Self {
        Self { flags: 0, mapping: 0, mapcount: u32::MAX, private: 0, compound_head: 0, order: 0, dtor: 0 }
    }
}

impl TestPage {
    /// The page as `kernel` lays it out.
    pub(crate) fn bytes(&self, kernel: &TestKernel) -> Vec<u8> {
        let mut bytes = std::vec![0; kernel.page_size()];
        let mut put = |at: usize, value: &[u8]| bytes[at..][..value.len()].copy_from_slice(value);
        if let Some((order, dtor)) = kernel.tail_fields() {
            let width = match order.abs_diff(dtor) {
                difference @ (1 | 2) => difference,
                _ => 8,
            };
            put(dtor, &self.dtor.to_le_bytes()[..width]);
            put(order, &self.order.to_le_bytes()[..width.min(2)]);
        }
        let head = kernel.offset("page.compound_head").or_else(|| kernel.offset("page.compound_info"));
        let fields = [
            (kernel.offset("page.flags"), self.flags),
            (kernel.offset("page.mapping"), self.mapping),
            (kernel.offset("page.private"), self.private),
            (head, self.compound_head),
        ];
        for (at, value) in fields {
            if let Some(at) = at {
                put(at, &value.to_le_bytes());
            }
        }
        if let Some(at) = kernel.offset("page._mapcount") {
            put(at, &self.mapcount.to_le_bytes());
        }
        bytes
    }

    /// The first tail of a compound page of `order`, which hugetlb owns or not.
    pub(crate) fn first_tail(kernel: &TestKernel, order: u64, hugetlb: bool) -> Self {
        let dtor = kernel.number("HUGETLB_PAGE_DTOR").or(kernel.key("SYMBOL(free_huge_page)"));
        let flag = kernel.flag("PG_hugetlb");
        Self {
            flags: if kernel.tail_fields().is_some() { 0 } else { order | if hugetlb { flag } else { 0 } },
            compound_head: 1,
            order,
            dtor: dtor.filter(|_| hugetlb).unwrap_or(1),
            ..Self::default()
        }
    }

    /// The head of a compound page, which hugetlb owns or not.
    pub(crate) fn head(kernel: &TestKernel, hugetlb: bool) -> Self {
        let mapcount = kernel.page_type("HUGETLB").filter(|_| hugetlb).unwrap_or(u32::MAX);
        Self { flags: kernel.head_mask(), mapcount, ..Self::default() }
    }

    /// The first page of a free block of `order`.
    pub(crate) fn free(kernel: &TestKernel, order: u64) -> Self {
        Self {
            flags: kernel.flag("PG_buddy"),
            mapcount: kernel.page_type("BUDDY").unwrap_or(u32::MAX),
            private: order,
            ..Self::default()
        }
    }

    /// A page of this type.
    pub(crate) fn typed(kernel: &TestKernel, name: &str) -> Self {
        let mapcount =
            kernel.page_type(name).unwrap_or_else(|| panic!("{name} is a type of {}", kernel.release()));
        Self { mapcount, ..Self::default() }
    }

    /// A page with these flags.
    pub(crate) fn flagged(kernel: &TestKernel, names: &[&str]) -> Self {
        Self { flags: names.iter().fold(0, |flags, name| flags | kernel.flag(name)), ..Self::default() }
    }

    /// An anonymous page that has never been on an LRU list.
    pub(crate) fn anonymous() -> Self {
        Self { mapping: 0xffff_8881_0000_0001, ..Self::default() }
    }

    /// The same page, with these flags too.
    #[must_use]
    pub(crate) fn and(self, flags: u64) -> Self {
        Self { flags: self.flags | flags, ..self }
    }
}

impl core::fmt::Display for TestKernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.release())
    }
}
