//! The machine in a memory image: its kernel's structure layout and memory sections, resolved.

use scanner_core::kernel::layout::UnavailableRule;
use scanner_core::kernel::vmcoreinfo;
use scanner_core::{DumpLevel, KernelLayout, MemorySections, Pfn, RuleSet, VmcoreInfo};
use vmcore::frames::FrameRanges;
use vmcore::image::MemoryImage;
use vmcore::{Error, Result};

/// The largest machine, in frames: 256 TiB of address space, with a bitmap of 8 GiB. Limits the memory that a damaged
/// image can make the process allocate.
const MAX_FRAMES: u64 = 1 << 36;

/// A machine whose kernel's layout is known.
pub struct Machine<'i> {
    /// The memory image.
    pub image: &'i dyn MemoryImage,
    /// The VMCOREINFO text, parsed.
    pub info: VmcoreInfo<'i>,
    /// The kernel's structure layout.
    pub layout: KernelLayout,
    /// The rule set that decides.
    pub rule_set: RuleSet,
    /// The memory sections, which locate the `struct page`s.
    pub sections: MemorySections,
    /// Number of page frames: one more than the last frame that exists and has a `struct page` (makedumpfile's
    /// `max_mapnr`).
    pub frames: u64,
}

impl<'i> Machine<'i> {
    /// Resolves the layout and the memory sections of the machine in `image`.
    ///
    /// # Errors
    /// Fails if the image has no VMCOREINFO, if a key is missing or invalid, or if the sections cannot be read. The
    /// error names the key or address, and what to do.
    pub fn new(image: &'i dyn MemoryImage, rule_set: RuleSet) -> Result<Self> {
        let facts = image.facts();
        let text = facts.vmcoreinfo.as_deref().ok_or_else(|| {
            Error::unusable("the image has no VMCOREINFO, so the kernel's layout is not known").with_hint(
                "Give one with --vmcoreinfo FILE: from another dump of the same boot (cdbitmap inspect IMAGE \
                 --vmcoreinfo-text), or made from the kernel's debug information by makedumpfile -x VMLINUX -g FILE.",
            )
        })?;
        check_end(text)?;
        let info = VmcoreInfo::parse(text).map_err(|e| layout_error(e.to_string()))?;
        let layout =
            KernelLayout::resolve(&info, facts.phys_base()).map_err(|e| layout_error(e.to_string()))?;
        let max_pfn = Pfn::new(facts.max_pfn);
        let sections = MemorySections::locate(&layout, image, max_pfn, rule_set).map_err(|error| {
            let hint = if facts.warnings.is_empty() {
                "The VMCOREINFO may belong to another kernel or another boot (KASLR). Check with: cdbitmap inspect \
                 IMAGE"
            } else {
                "The image is incomplete, and that memory may be in the missing part. Dump at level 0 or 1, which \
                 needs no scan and keeps all pages in the image."
            };
            Error::unusable(format!("cannot locate the struct page array: {error}")).with_hint(hint)
        })?;
        let frames = sections.end(image).as_u64();
        if frames > MAX_FRAMES {
            return Err(Error::unusable(format!(
                "the memory sections extend to frame {frames:#x}, beyond 256 TiB"
            )));
        }
        Ok(Self { image, info, layout, rule_set, sections, frames })
    }

    /// The 1st bitmap: the frames that exist. By makedumpfile's rules it has the frames that makedumpfile's default
    /// mode takes from the segments. By the kernel's rules it has every frame that a segment touches.
    pub fn exists(&self) -> FrameRanges {
        let facts = self.image.facts();
        if self.rule_set == RuleSet::Makedumpfile && facts.makedumpfile_is_cyclic() {
            facts.exists_in_cycles()
        } else {
            facts.exists.clone()
        }
    }

    /// The kernel release, as `uname -r` prints it.
    pub fn os_release(&self) -> &'i str {
        self.info.os_release()
    }

    /// The kernel's build id in bytes; empty if VMCOREINFO has none.
    pub fn build_id(&self) -> Vec<u8> {
        let digits = self.info.build_id().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks(2).map(byte).collect::<Option<_>>().unwrap_or_default()
    }

    /// CRC-32C of the VMCOREINFO text, which identifies the boot that a bitmap belongs to; see
    /// [`vmcoreinfo::checksum`].
    pub fn vmcoreinfo_crc(&self) -> u32 {
        vmcoreinfo::checksum(self.image.facts().vmcoreinfo.as_deref().unwrap_or_default())
    }

    /// The rules that `level` needs and that cannot work on this kernel.
    pub fn unavailable_rules(&self, level: DumpLevel) -> Vec<UnavailableRule> {
        let is_needed = |rule: &UnavailableRule| match rule {
            UnavailableRule::Free | UnavailableRule::FreeByListsOnly => level.contains(DumpLevel::FREE),
            UnavailableRule::Hugetlb => level.contains(DumpLevel::USER),
            UnavailableRule::CompoundOrder => {
                level.intersects(DumpLevel::USER | DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE)
            }
            UnavailableRule::Hwpoison | UnavailableRule::Offline => true,
        };
        self.layout.unavailable_rules().filter(is_needed).collect()
    }
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("release", &self.os_release())
            .field("layout", &self.layout)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

/// Refuses a text whose last line has no newline. The kernel ends each line with one, and a truncated `SIZE(page)=6`
/// may have been 64.
fn check_end(text: &[u8]) -> Result<()> {
    let last = text.split(|b| *b == b'\n').next_back().unwrap_or_default();
    if last.is_empty() {
        return Ok(());
    }
    let last = String::from_utf8_lossy(last);
    Err(layout_error(format!("VMCOREINFO is truncated: its last line {last:?} has no newline")))
}

fn layout_error(what: String) -> Error {
    Error::unusable(what).with_hint(
        "The kernel's structure layout cannot be trusted. Give a corrected text with --vmcoreinfo FILE.",
    )
}
