//! VMCOREINFO: the text in which a kernel describes its layout for tools that have no debug information.
//!
//! The kernel writes lines of `KEY=VALUE` at boot (kernel/vmcore_info.c, earlier kernel/crash_core.c and
//! kernel/kexec.c). `SYMBOL(x)` is hexadecimal. `SIZE(x)`, `OFFSET(x)` and `LENGTH(x)` are decimal. `NUMBER(x)` is
//! decimal, or hexadecimal with the prefix `0x`. A few keys, such as `OSRELEASE`, have their own form. The text is
//! parsed in place, in one pass.

use crate::crc32c::Crc32c;
use core::fmt;

macro_rules! keys {
    ($($(#[$doc:meta])* $variant:ident = $radix:ident $text:literal,)*) => {
        /// The keys of VMCOREINFO that the scanner uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is named after its key")]
        pub enum Key { $($(#[$doc])* $variant,)* }

        impl Key {
            /// Every key.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The key as in the text, without the `=`.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(crate) const fn radix(self) -> Radix {
                match self { $(Self::$variant => Radix::$radix,)* }
            }
        }

        const KEYS: usize = Key::ALL.len();
    };
}

keys! {
    PageSize = Dec "PAGESIZE",
    CrashTime = Dec "CRASHTIME",
    SymInitUtsNs = Hex "SYMBOL(init_uts_ns)",
    SymSystemUtsname = Hex "SYMBOL(system_utsname)",
    OffUtsNamespaceName = Dec "OFFSET(uts_namespace.name)",
    SymInitTopPgt = Hex "SYMBOL(init_top_pgt)",
    SymInitLevel4Pgt = Hex "SYMBOL(init_level4_pgt)",
    SymSwapperPgDir = Hex "SYMBOL(swapper_pg_dir)",
    NumPhysBase = Any "NUMBER(phys_base)",
    NumPgtableL5 = Any "NUMBER(pgtable_l5_enabled)",
    NumSmeMask = Any "NUMBER(sme_mask)",
    SymMemSection = Hex "SYMBOL(mem_section)",
    LenMemSection = Dec "LENGTH(mem_section)",
    SizeMemSection = Dec "SIZE(mem_section)",
    OffSectionMemMap = Dec "OFFSET(mem_section.section_mem_map)",
    NumSectionSizeBits = Any "NUMBER(SECTION_SIZE_BITS)",
    NumMaxPhysmemBits = Any "NUMBER(MAX_PHYSMEM_BITS)",
    SymMemMap = Hex "SYMBOL(mem_map)",
    SymContigPageData = Hex "SYMBOL(contig_page_data)",
    SymNodeData = Hex "SYMBOL(node_data)",
    LenNodeData = Dec "LENGTH(node_data)",
    SymPgdatList = Hex "SYMBOL(pgdat_list)",
    LenPgdatList = Dec "LENGTH(pgdat_list)",
    SymNodeOnlineMap = Hex "SYMBOL(node_online_map)",
    SymNodeStates = Hex "SYMBOL(node_states)",
    NumNOnline = Any "NUMBER(N_ONLINE)",
    SizeNodemask = Dec "SIZE(nodemask_t)",
    SizePglistData = Dec "SIZE(pglist_data)",
    OffNodeZones = Dec "OFFSET(pglist_data.node_zones)",
    OffNrZones = Dec "OFFSET(pglist_data.nr_zones)",
    OffNodeMemMap = Dec "OFFSET(pglist_data.node_mem_map)",
    OffNodeStartPfn = Dec "OFFSET(pglist_data.node_start_pfn)",
    OffNodeSpannedPages = Dec "OFFSET(pglist_data.node_spanned_pages)",
    OffPgdatNext = Dec "OFFSET(pglist_data.pgdat_next)",
    SizeZone = Dec "SIZE(zone)",
    OffZoneFreeArea = Dec "OFFSET(zone.free_area)",
    OffZoneSpannedPages = Dec "OFFSET(zone.spanned_pages)",
    LenZoneFreeArea = Dec "LENGTH(zone.free_area)",
    SizeFreeArea = Dec "SIZE(free_area)",
    OffFreeList = Dec "OFFSET(free_area.free_list)",
    LenFreeList = Dec "LENGTH(free_area.free_list)",
    SizeListHead = Dec "SIZE(list_head)",
    OffListNext = Dec "OFFSET(list_head.next)",
    OffListPrev = Dec "OFFSET(list_head.prev)",
    SizePage = Dec "SIZE(page)",
    OffPageFlags = Dec "OFFSET(page.flags)",
    OffPageRefcount = Dec "OFFSET(page._refcount)",
    OffPageCount = Dec "OFFSET(page._count)",
    OffPageMapping = Dec "OFFSET(page.mapping)",
    OffPageMapcount = Dec "OFFSET(page._mapcount)",
    OffPagePrivate = Dec "OFFSET(page.private)",
    OffPageLru = Dec "OFFSET(page.lru)",
    OffPageCompoundHead = Dec "OFFSET(page.compound_head)",
    OffPageCompoundInfo = Dec "OFFSET(page.compound_info)",
    OffPageCompoundOrder = Dec "OFFSET(page.compound_order)",
    OffPageCompoundDtor = Dec "OFFSET(page.compound_dtor)",
    OffFolioOrder = Dec "OFFSET(folio._folio_order)",
    OffFolioDtor = Dec "OFFSET(folio._folio_dtor)",
    NumPgLru = Any "NUMBER(PG_lru)",
    NumPgPrivate = Any "NUMBER(PG_private)",
    NumPgSwapcache = Any "NUMBER(PG_swapcache)",
    NumPgSwapbacked = Any "NUMBER(PG_swapbacked)",
    NumPgSlab = Any "NUMBER(PG_slab)",
    NumPgHwpoison = Any "NUMBER(PG_hwpoison)",
    NumPgHeadMask = Any "NUMBER(PG_head_mask)",
    NumPgHugetlb = Any "NUMBER(PG_hugetlb)",
    NumPgBuddy = Any "NUMBER(PG_buddy)",
    NumBuddyType = Any "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)",
    NumOfflineType = Any "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)",
    NumHugetlbType = Any "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)",
    NumSlabType = Any "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)",
    NumUnacceptedType = Any "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)",
    NumHugetlbDtor = Any "NUMBER(HUGETLB_PAGE_DTOR)",
    SymFreeHugePage = Hex "SYMBOL(free_huge_page)",
}

/// The number format of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Radix {
    /// Decimal. A value that is not decimal is parsed as hexadecimal, as in makedumpfile.
    Dec,
    /// Hexadecimal without a prefix.
    Hex,
    /// Signed decimal, or hexadecimal.
    Any,
}

impl Radix {
    const fn describe(self) -> &'static str {
        match self {
            Self::Dec => "a number of at most 64 bits",
            Self::Hex => "an address (hexadecimal, not 0)",
            Self::Any => "a signed number of at most 64 bits",
        }
    }
}

/// Why a VMCOREINFO text cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmcoreInfoError {
    /// The value of a key is not a number in the key's format.
    Malformed(Key),
    /// A key occurs twice, with different values.
    Contradictory {
        /// The key.
        key: Key,
        /// Its first value, as a 64-bit number.
        first: u64,
        /// Its second value.
        second: u64,
    },
    /// `OSRELEASE` occurs twice, with different values.
    ContradictoryRelease,
    /// There is no `OSRELEASE` line, or its value is not a kernel version.
    NoRelease,
    /// A required key is missing.
    Missing(Key),
}

impl fmt::Display for VmcoreInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(key) => {
                write!(f, "VMCOREINFO: the value of {} is not {}", key.text(), key.radix().describe())
            }
            Self::Contradictory { key, first, second } => {
                write!(f, "VMCOREINFO: {} occurs twice, as {first:#x} and as {second:#x}", key.text())
            }
            Self::ContradictoryRelease => {
                f.write_str("VMCOREINFO: OSRELEASE occurs twice, with different values")
            }
            Self::NoRelease => f.write_str("VMCOREINFO: no OSRELEASE line with a kernel version"),
            Self::Missing(key) => write!(f, "VMCOREINFO: {} is missing", key.text()),
        }
    }
}

impl core::error::Error for VmcoreInfoError {}

/// A kernel version. Versions compare by number: 4.16 is after 4.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 6 of 6.1.12.
    pub major: u16,
    /// 1 of 6.1.12.
    pub minor: u16,
    /// 12 of 6.1.12; 0 if the version has no third number.
    pub patch: u16,
}

impl Release {
    /// Version `major.minor.patch`.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The version at the start of an `OSRELEASE` value, such as `6.1.0-50-amd64`.
    pub fn parse(text: &str) -> Option<Self> {
        // Split bytes, not characters: core's character search has a path to a panic.
        let mut numbers = text.as_bytes().split(|b| !b.is_ascii_digit()).map(number_of);
        let major = numbers.next()??;
        let minor = numbers.next()??;
        // The rest may be a third number, "-rc1", or empty.
        let patch = numbers.next().flatten().unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A parsed VMCOREINFO text.
#[derive(Clone, Debug)]
pub struct VmcoreInfo<'a> {
    values: [Option<u64>; KEYS],
    os_release: &'a str,
    build_id: Option<&'a str>,
    release: Release,
}

impl<'a> VmcoreInfo<'a> {
    /// Parses `text` in one pass. Ignores lines with other keys, and everything after a NUL byte (the padding of the
    /// note).
    ///
    /// # Errors
    /// See [`VmcoreInfoError`].
    pub fn parse(text: &'a [u8]) -> Result<Self, VmcoreInfoError> {
        let text = text.split(|b| *b == 0).next().unwrap_or(&[]);
        let mut info =
            Self { values: [None; KEYS], os_release: "", build_id: None, release: Release::default() };
        for line in text.split(|b| *b == b'\n') {
            let Some((key, value)) = split_line(line) else { continue };
            match key {
                "OSRELEASE" if info.os_release.is_empty() => info.os_release = value,
                "OSRELEASE" if info.os_release != value => return Err(VmcoreInfoError::ContradictoryRelease),
                "BUILD-ID" => info.build_id = Some(value),
                _ => {
                    if let Some(key) = Key::ALL.iter().find(|k| k.text() == key) {
                        info.take(*key, value)?;
                    }
                }
            }
        }
        info.release = Release::parse(info.os_release).ok_or(VmcoreInfoError::NoRelease)?;
        Ok(info)
    }

    /// The value of `key`: an address, a size, an offset, a length, or a signed number in two's complement.
    pub fn get(&self, key: Key) -> Option<u64> {
        self.values.get(key as usize).copied().flatten()
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`VmcoreInfoError::Missing`] with the key.
    pub fn require(&self, key: Key) -> Result<u64, VmcoreInfoError> {
        self.get(key).ok_or(VmcoreInfoError::Missing(key))
    }

    /// The value of `OSRELEASE`, such as `6.1.0-50-amd64`.
    pub fn os_release(&self) -> &'a str {
        self.os_release
    }

    /// The kernel version in `OSRELEASE`.
    pub fn release(&self) -> Release {
        self.release
    }

    /// The kernel's build id in hexadecimal (since 5.15).
    pub fn build_id(&self) -> Option<&'a str> {
        self.build_id
    }

    fn take(&mut self, key: Key, text: &str) -> Result<(), VmcoreInfoError> {
        let value = parse_number(key.radix(), text).ok_or(VmcoreInfoError::Malformed(key))?;
        let Some(slot) = self.values.get_mut(key as usize) else { return Ok(()) };
        match *slot {
            Some(first) if first != value => {
                Err(VmcoreInfoError::Contradictory { key, first, second: value })
            }
            _ => {
                *slot = Some(value);
                Ok(())
            }
        }
    }
}

/// CRC-32C of a VMCOREINFO text. It identifies a boot, since KASLR moves symbols, so a bitmap can be matched to a
/// vmcore.
///
/// The checksum excludes the line that the kernel appends when it crashes (`CRASHTIME`), and the lines with the address
/// of a bitmap. The texts from before and after the crash therefore have the same checksum.
pub fn checksum(text: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    // Not split_inclusive: the compiler does not remove its panic path.
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at.saturating_add(1));
        let Some((line, following)) = rest.split_at_checked(end) else { break };
        rest = following;
        if !line.starts_with(b"CRASHTIME=") && !line.starts_with(b"SYMBOL(crash_dump_bitmap_info)=") {
            crc.update(line);
        }
    }
    crc.finish()
}

/// Parses a decimal number.
fn number_of(digits: &[u8]) -> Option<u16> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The key and the value of a line. Splits bytes for the same reason as [`Release::parse`].
fn split_line(line: &[u8]) -> Option<(&str, &str)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let equals = line.iter().position(|b| *b == b'=')?;
    let (key, value) = (line.get(..equals)?, line.get(equals.checked_add(1)?..)?);
    Some((core::str::from_utf8(key).ok()?, core::str::from_utf8(value).ok()?))
}

fn parse_number(radix: Radix, text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let hexadecimal = || u64::from_str_radix(digits, 16).ok();
    match radix {
        // makedumpfile refuses symbols at address 0 and at the end of the address space as "invalid data".
        Radix::Hex => hexadecimal().filter(|v| *v != 0 && *v != u64::MAX),
        Radix::Dec => text.parse().ok().or_else(hexadecimal),
        Radix::Any => text
            .parse::<i64>()
            .map(i64::cast_unsigned)
            .ok()
            .or_else(|| text.parse().ok())
            .or_else(hexadecimal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"OSRELEASE=6.1.0-50-amd64\nBUILD-ID=06f8\nPAGESIZE=4096\nSYMBOL(mem_section)=ff170beebf216000\n\
        SIZE(page)=64\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(sme_mask)=0x800000000000\nSIZE(unknown)=x\n\
        CRASHTIME=1795310979\n\0garbage=1";

    #[test]
    fn values_of_every_kind() {
        let info = VmcoreInfo::parse(TEXT).unwrap();
        assert_eq!(info.release(), Release::new(6, 1, 0));
        assert_eq!(info.build_id(), Some("06f8"));
        assert_eq!(info.get(Key::SymMemSection), Some(0xff17_0bee_bf21_6000));
        assert_eq!(info.get(Key::SizePage), Some(64));
        assert_eq!(info.get(Key::NumBuddyType), Some(-129_i64 as u64));
        assert_eq!(info.get(Key::NumSmeMask), Some(1 << 47));
        assert_eq!(info.require(Key::OffPageFlags), Err(VmcoreInfoError::Missing(Key::OffPageFlags)));
    }

    #[test]
    fn wrong_texts_are_named() {
        let parse = |text: &'static str| VmcoreInfo::parse(text.as_bytes()).map(|_| ());
        assert_eq!(parse(""), Err(VmcoreInfoError::NoRelease));
        assert_eq!(parse("OSRELEASE=linux"), Err(VmcoreInfoError::NoRelease));
        assert_eq!(parse("OSRELEASE=6.1.0\nSIZE(page)=big"), Err(VmcoreInfoError::Malformed(Key::SizePage)));
        assert_eq!(
            parse("OSRELEASE=6.1.0\nSYMBOL(mem_map)=0"),
            Err(VmcoreInfoError::Malformed(Key::SymMemMap))
        );
        assert_eq!(
            parse("OSRELEASE=6.1.0\nSIZE(page)=64\nSIZE(page)=56"),
            Err(VmcoreInfoError::Contradictory { key: Key::SizePage, first: 64, second: 56 })
        );
        assert_eq!(parse("OSRELEASE=6.1.0\nSIZE(page)=64\nSIZE(page)=64"), Ok(()));
        assert_eq!(parse("OSRELEASE=6.1.0\nOSRELEASE=6.2.0"), Err(VmcoreInfoError::ContradictoryRelease));
    }

    #[test]
    fn lines_of_a_crash_and_of_a_bitmap_are_not_in_the_checksum() {
        let before = checksum(b"OSRELEASE=6.1.0\nKERNELOFFSET=1f000000\n");
        let after: &[u8] =
            b"OSRELEASE=6.1.0\nSYMBOL(crash_dump_bitmap_info)=1000\nKERNELOFFSET=1f000000\nCRASHTIME=17\n";
        assert_eq!(checksum(after), before);
        assert_ne!(checksum(b"OSRELEASE=6.1.0\nKERNELOFFSET=2f000000\n"), before);
    }

    #[test]
    fn versions() {
        assert_eq!(Release::parse("7.2-rc1"), Some(Release::new(7, 2, 0)));
        assert_eq!(Release::parse("2.6.32-754.el6"), Some(Release::new(2, 6, 32)));
        assert!(Release::new(4, 16, 0) > Release::new(4, 4, 99));
        assert_eq!(Release::parse("6"), None);
    }
}
