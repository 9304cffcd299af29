//! Decides what to load and at which address, from the running kernel, before kexec runs.

use super::area::{Area, Facts, StageRequest};
use super::image::StageImage;
use super::iomem::Iomem;
use super::kcore::Kcore;
use scanner_core::{KernelLayout, MemorySections, Pfn, RuleSet, VmcoreInfo};
use std::path::Path;
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// Time for which the time stamp counter is measured against the clock.
const MEASURE: Duration = Duration::from_millis(50);
/// Alignment of the area in bytes: the size of a large page, so that large pages map it.
const ALIGNMENT: u64 = 2 << 20;
/// Smallest part of the crash kernel region that remains for the capture kernel, in bytes.
const CAPTURE_MINIMUM: u64 = 64 << 20;

/// A stage that is ready to load.
#[derive(Debug)]
pub struct Plan {
    /// The area to load.
    pub area: Area,
    /// The memory map that kexec sees in place of `/proc/iomem`.
    pub map: String,
    /// The parameter to add to the capture kernel's command line.
    pub word: String,
}

impl Plan {
    /// The plan for the running kernel.
    ///
    /// # Errors
    /// If the stage cannot be loaded on this machine. The error names the reason and what to do.
    pub fn for_this_machine(image: &Path, request: &StageRequest) -> Result<Self> {
        let image = StageImage::read(image)?;
        check_permission()?;
        let kcore = Kcore::open(Path::new("/proc/kcore"))?;
        let iomem = read_iomem()?;
        let facts = facts(&kcore, &iomem, request.rules)?;
        Self::new(&image, &facts, &iomem, request)
    }

    /// The plan for a machine with these facts.
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

/// Fails if the running kernel does not permit `kexec_load`.
fn check_permission() -> Result<()> {
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains('[') && !lockdown.contains("[none]") {
        return Err(Error::unusable(format!("the kernel is locked down ({})", lockdown.trim())).with_hint(
            "Secure Boot enables lockdown. Only kexec_file_load is allowed, which takes no stage.",
        ));
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/kexec_load_disabled").unwrap_or_default();
    if disabled.trim() == "1" {
        return Err(Error::unusable("loading of kernels is disabled (kernel.kexec_load_disabled is 1)")
            .with_hint("The sysctl cannot be cleared. Reboot without it."));
    }
    Ok(())
}

fn read_iomem() -> Result<Iomem> {
    let path = Path::new("/proc/iomem");
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "cannot be read", error))?;
    Iomem::parse(&text).map_err(|what| Error::unusable(what).at(path))
}

/// The facts about the running machine. The sections of the running kernel are located once, as the stage does after a
/// crash, so that an unsupported kernel fails now.
fn facts(kcore: &Kcore, iomem: &Iomem, rules: RuleSet) -> Result<Facts> {
    let path = Path::new("/proc/kcore");
    let unknown = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::unusable("cannot determine the layout of the running kernel").at(path).because(error)
    };
    let info = VmcoreInfo::parse(kcore.vmcoreinfo()).map_err(|error| unknown(error.into()))?;
    let layout = KernelLayout::resolve(&info, None).map_err(|error| unknown(error.into()))?;
    if layout.space.sme_mask != 0 {
        return Err(Error::unusable(
            "the running kernel encrypts its memory (AMD SME or SEV), which the stage does not support",
        ));
    }
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        cpu.lines()
            .find(|line| line.starts_with("flags"))
            .is_some_and(|line| line.split(' ').any(|f| f == flag))
    };
    if has("tdx_guest") {
        return Err(Error::unusable("this is a TDX guest, which the stage does not support"));
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

/// Measures the frequency of the time stamp counter in kHz: ticks per millisecond.
fn measure_tsc() -> Result<u64> {
    let ticks = || {
        // SAFETY: every x86_64 processor has RDTSC, and the instruction accesses no memory. Linux permits it in user
        // space unless PR_SET_TSC disables it for the process. A forbidden RDTSC ends the process with a signal.
        unsafe { core::arch::x86_64::_rdtsc() }
    };
    let (clock, start) = (Instant::now(), ticks());
    std::thread::sleep(MEASURE);
    let (passed, end) = (clock.elapsed(), ticks());
    let khz = u128::from(end.saturating_sub(start)) * 1_000_000 / passed.as_nanos().max(1);
    match u64::try_from(khz) {
        Ok(khz) if khz >= 1000 => Ok(khz),
        _ => Err(Error::failure(format!("the time stamp counter is stopped or too slow: {khz} kHz"))),
    }
}
