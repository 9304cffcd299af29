//! A machine behind a memory image: its kernel's layout and memory sections, resolved.

use scanner_core::kernel::layout::UnavailableRule;
use scanner_core::kernel::vmcoreinfo;
use scanner_core::{DumpLevel, KernelLayout, MemorySections, Pfn, RuleSet, VmcoreInfo};
use vmcore::frames::FrameRanges;
use vmcore::image::MemoryImage;
use vmcore::{Error, Result};

/// The largest machine, in frames: 256 TiB of address space, of which the bitmap takes 8 GiB. A bound for what a
/// damaged image can make us allocate.
const MAX_FRAMES: u64 = 1 << 36;

/// A machine whose kernel's layout is known.
pub struct Machine<'i> {
    /// The memory.
    pub image: &'i dyn MemoryImage,
    /// The VMCOREINFO text, parsed.
    pub info: VmcoreInfo<'i>,
    /// The layout.
    pub layout: KernelLayout,
    /// Which rules decide.
    pub rule_set: RuleSet,
    /// Where the `struct page`s are.
    pub sections: MemorySections,
    /// Page frames: one more than the last that exists and has a `struct page` (makedumpfile's `max_mapnr`).
    pub frames: u64,
}

impl<'i> Machine<'i> {
    /// Resolves the layout and the memory sections of the machine in `image`.
    ///
    /// # Errors
    /// If the image has no VMCOREINFO, if a key is missing or wrong, or if the sections can't be read. Each names
    /// what, and what to do.
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
                "Is the VMCOREINFO that of this machine's kernel and boot? KASLR moves addresses at each boot."
            } else {
                "The image is not whole: that memory may be in the part that is missing. At dump level 0 or 1 what \
                 is there is kept as it is, without a scan."
            };
            Error::unusable(format!("the array of struct page can't be found: {error}")).with_hint(hint)
        })?;
        let frames = sections.end(image).as_u64();
        if frames > MAX_FRAMES {
            return Err(Error::unusable(format!(
                "the memory sections reach up to frame {frames:#x}, past 256 TiB"
            )));
        }
        Ok(Self { image, info, layout, rule_set, sections, frames })
    }

    /// The 1st bitmap: the memory that a dump of this machine has. By makedumpfile's rules that is what its default
    /// mode makes of the segments; by the kernel's it is every frame that a segment touches.
    pub fn exists(&self) -> FrameRanges {
        let facts = self.image.facts();
        if self.rule_set == RuleSet::Makedumpfile && facts.makedumpfile_is_cyclic() {
            facts.exists_in_cycles()
        } else {
            facts.exists.clone()
        }
    }

    /// The kernel's release as `uname -r` says it.
    pub fn os_release(&self) -> &'i str {
        self.info.os_release()
    }

    /// The kernel's build id, as bytes; empty if VMCOREINFO has none.
    pub fn build_id(&self) -> Vec<u8> {
        let digits = self.info.build_id().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks(2).map(byte).collect::<Option<_>>().unwrap_or_default()
    }

    /// CRC-32C of the VMCOREINFO text, by which a bitmap is known to be of the same boot; see
    /// [`vmcoreinfo::checksum`].
    pub fn vmcoreinfo_crc(&self) -> u32 {
        vmcoreinfo::checksum(self.image.facts().vmcoreinfo.as_deref().unwrap_or_default())
    }

    /// The rules that can't find anything in this kernel although `level` asks for them.
    pub fn unavailable_rules(&self, level: DumpLevel) -> Vec<UnavailableRule> {
        let matters = |rule: &UnavailableRule| match rule {
            UnavailableRule::Free | UnavailableRule::FreeByListsOnly => level.contains(DumpLevel::FREE),
            UnavailableRule::Hugetlb => level.contains(DumpLevel::USER),
            UnavailableRule::CompoundOrder => {
                level.intersects(DumpLevel::USER | DumpLevel::CACHE | DumpLevel::CACHE_PRIVATE)
            }
            UnavailableRule::Hwpoison | UnavailableRule::Offline => true,
        };
        self.layout.unavailable_rules().filter(matters).collect()
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

/// Refuses a text whose last line is not whole: the kernel ends each one, and `SIZE(page)=6` may have been 64.
fn check_end(text: &[u8]) -> Result<()> {
    let last = text.split(|b| *b == b'\n').next_back().unwrap_or_default();
    if last.is_empty() {
        return Ok(());
    }
    let last = String::from_utf8_lossy(last);
    Err(layout_error(format!("VMCOREINFO ends in the middle of a line: {last:?} has no newline behind it")))
}

fn layout_error(what: String) -> Error {
    Error::unusable(what).with_hint(
        "The kernel's layout can't be trusted; a corrected text can be given with --vmcoreinfo FILE.",
    )
}
