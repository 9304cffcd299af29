//! What to load, and where: decided from the running kernel before kexec is run.

use super::area::{Area, Facts, StageRequest};
use super::image::StageImage;
use super::iomem::Iomem;
use super::kcore::Kcore;
use scanner_core::{KernelLayout, MemorySections, Pfn, RuleSet, VmcoreInfo};
use std::path::Path;
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// How long the time stamp counter is compared with the clock.
const MEASURE: Duration = Duration::from_millis(50);
/// The area starts at a multiple of this, so that large pages map it.
const ALIGNMENT: u64 = 2 << 20;
/// The least that the capture kernel is left with.
const CAPTURE_MINIMUM: u64 = 64 << 20;

/// A stage that is ready to be loaded.
#[derive(Debug)]
pub struct Plan {
    /// What is loaded.
    pub area: Area,
    /// The memory map to show to kexec.
    pub map: String,
    /// The word for the capture kernel's command line.
    pub word: String,
}

impl Plan {
    /// Looks at the running kernel, and decides.
    ///
    /// # Errors
    /// If there is a reason why the stage can't be loaded on this machine: which one, and what to do about it.
    pub fn for_this_machine(image: &Path, request: &StageRequest) -> Result<Self> {
        let image = StageImage::read(image)?;
        check_permission()?;
        let kcore = Kcore::open(Path::new("/proc/kcore"))?;
        let iomem = read_iomem()?;
        let facts = facts(&kcore, &iomem, request.rules)?;
        Self::new(&image, &facts, &iomem, request)
    }

    /// Decides where the stage lies on a machine with these facts.
    ///
    /// # Errors
    /// If the crash kernel region is missing or too small.
    pub fn new(image: &StageImage, facts: &Facts, iomem: &Iomem, request: &StageRequest) -> Result<Self> {
        let region = iomem.crash_kernel().ok_or_else(|| {
            Error::unusable("no memory is reserved for a capture kernel")
                .with_hint("Boot with crashkernel=SIZE, for example crashkernel=256M.")
        })?;
        let size = Area::size_for(image, facts)?;
        let start = region.end.checked_sub(size).map(|start| start & !(ALIGNMENT - 1));
        let left = start.and_then(|start| start.checked_sub(region.start)).unwrap_or(0);
        let Some(start) = start.filter(|_| left >= CAPTURE_MINIMUM) else {
            return Err(Error::unusable(format!(
                "the crash kernel region of {} MiB has no room for the stage and its bitmap: they take {} MiB",
                (region.end - region.start) >> 20,
                size.div_ceil(1 << 20)
            ))
            .with_hint("Boot with a larger crashkernel=."));
        };
        let area = Area::new(image, facts, request, start)?;
        let word = format!("crash_dump_bitmap={:#x}", area.info());
        Ok(Self { map: iomem.with_shorter_crash_kernel(start), area, word })
    }
}

/// Whether this kernel lets itself be given segments at all.
fn check_permission() -> Result<()> {
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains('[') && !lockdown.contains("[none]") {
        return Err(Error::unusable(format!("the kernel is locked down ({})", lockdown.trim()))
            .with_hint("Secure Boot does that. Only signed kernels can then be loaded, by kexec_file_load, without a stage."));
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/kexec_load_disabled").unwrap_or_default();
    if disabled.trim() == "1" {
        return Err(Error::unusable("loading of kernels is disabled (kernel.kexec_load_disabled is 1)")
            .with_hint("It can't be enabled again before the next boot."));
    }
    Ok(())
}

fn read_iomem() -> Result<Iomem> {
    let path = Path::new("/proc/iomem");
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "can't be read", error))?;
    Iomem::parse(&text).map_err(|what| Error::unusable(what).at(path))
}

/// What the stage has to know, checked by a look at the running kernel: what the stage will do when it has crashed.
fn facts(kcore: &Kcore, iomem: &Iomem, rules: RuleSet) -> Result<Facts> {
    let path = Path::new("/proc/kcore");
    let unknown = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::unusable("the running kernel is not understood").at(path).because(error)
    };
    let info = VmcoreInfo::parse(kcore.vmcoreinfo()).map_err(|error| unknown(error.into()))?;
    let layout = KernelLayout::resolve(&info, None).map_err(|error| unknown(error.into()))?;
    if layout.space.sme_mask != 0 {
        return Err(Error::unusable(
            "the running kernel encrypts its memory (AMD SME or SEV), which the stage doesn't support",
        ));
    }
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        cpu.lines()
            .find(|line| line.starts_with("flags"))
            .is_some_and(|line| line.split(' ').any(|f| f == flag))
    };
    if has("tdx_guest") {
        return Err(Error::unusable("this is a TDX guest, which the stage doesn't support"));
    }
    let ram = iomem.ram();
    let end = ram.last().map_or(Pfn::new(0), |range| range.end);
    MemorySections::locate(&layout, kcore, end, rules).map_err(|error| unknown(error.into()))?;
    Ok(Facts {
        ram,
        vmcoreinfo: kcore.vmcoreinfo().to_vec(),
        five_level: layout.space.five_level,
        has_1g: has("pdpe1gb"),
        tsc_khz: measure_tsc()?,
    })
}

/// Ticks of the time stamp counter in a millisecond.
fn measure_tsc() -> Result<u64> {
    let ticks = || {
        // SAFETY: every x86_64 processor has it, and Linux lets programs read it.
        unsafe { core::arch::x86_64::_rdtsc() }
    };
    let (clock, start) = (Instant::now(), ticks());
    std::thread::sleep(MEASURE);
    let (passed, end) = (clock.elapsed(), ticks());
    let khz = u128::from(end.saturating_sub(start)) * 1_000_000 / passed.as_nanos().max(1);
    match u64::try_from(khz) {
        Ok(khz) if khz >= 1000 => Ok(khz),
        _ => Err(Error::failure(format!("the time stamp counter stands still ({khz} kHz)"))),
    }
}
