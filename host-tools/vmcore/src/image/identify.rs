//! Determines the machine, kernel and crash of an image.

use super::facts::ImageFacts;
use super::notes::CoreNotes;
use super::source::MemoryImage;
use crate::format::kdump::UTS_FIELD;
use crate::identity::{DumpIdentity, text};
use scanner_core::kernel::vmcoreinfo::Key;
use scanner_core::paging::START_KERNEL_MAP;
use scanner_core::{PhysAddr, VmcoreInfo};

/// Offset of `struct new_utsname` in `struct uts_namespace`, if VMCOREINFO does not have it (kernels before 5.11):
/// after `kref`.
const UTS_NAME_OFFSET: u64 = 4;

/// The VMCOREINFO keys that identify the machine, in addition to `OSRELEASE`.
const KEYS: [Key; 4] = [Key::CrashTime, Key::SymInitUtsNs, Key::OffUtsNamespaceName, Key::NumPhysBase];

/// The identity of the machine of an image.
///
/// The sources are the headers of a dump, or else the notes, the program headers and the kernel's `init_uts_ns`.
pub fn identify(image: &dyn MemoryImage) -> DumpIdentity {
    let facts = image.facts();
    let lines = identity_lines(facts);
    let info = VmcoreInfo::parse(&lines).ok();
    let mut identity = identity_from(facts, info.as_ref());
    if let Some(info) = &info
        && let Some(utsname) = read_utsname(&identity, info, image)
    {
        identity.set_utsname(&utsname);
    }
    if let Some(recorded) = image.recorded_identity() {
        identity.set_utsname(&recorded.utsname());
        (identity.phys_base, identity.nr_cpus) = (recorded.phys_base, recorded.nr_cpus);
        identity.crash_time = recorded.crash_time;
        identity.erase_info.clone_from(&recorded.erase_info);
    }
    identity
}

/// The VMCOREINFO lines that identify the machine. They are parsed alone, so that a damaged other line does not matter.
fn identity_lines(facts: &ImageFacts) -> Vec<u8> {
    let text = facts.vmcoreinfo.as_deref().unwrap_or_default();
    let keys = || std::iter::once("OSRELEASE").chain(KEYS.map(Key::text));
    let has_identity_key = |line: &&[u8]| {
        keys().any(|key| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
    };
    text.split(|b| *b == b'\n').filter(has_identity_key).collect::<Vec<_>>().join(&b'\n')
}

/// The `new_utsname` in the kernel's memory, at the address from VMCOREINFO.
///
/// `None` if it cannot be read, or if its `sysname` or `release` differs from `identity`.
fn read_utsname(
    identity: &DumpIdentity,
    info: &VmcoreInfo<'_>,
    image: &dyn MemoryImage,
) -> Option<[[u8; UTS_FIELD]; 6]> {
    let phys = info
        .get(Key::SymInitUtsNs)?
        .checked_sub(START_KERNEL_MAP.as_u64())?
        .wrapping_add(identity.phys_base)
        .wrapping_add(info.get(Key::OffUtsNamespaceName).unwrap_or(UTS_NAME_OFFSET));
    let mut utsname = [[0; UTS_FIELD]; 6];
    image.read(PhysAddr::new(phys), utsname.as_flattened_mut()).ok()?;
    let release = text(&utsname[2]);
    (text(&utsname[0]) == identity.sysname.as_bytes() && release == identity.release.as_bytes())
        .then_some(utsname)
}

/// The identity from VMCOREINFO, notes and program headers. The names that only the kernel's memory has are empty.
pub fn from_facts(facts: &ImageFacts) -> DumpIdentity {
    let lines = identity_lines(facts);
    identity_from(facts, VmcoreInfo::parse(&lines).ok().as_ref())
}

fn identity_from(facts: &ImageFacts, info: Option<&VmcoreInfo<'_>>) -> DumpIdentity {
    let value = |key| info.and_then(|info| info.get(key));
    DumpIdentity {
        sysname: "Linux".into(),
        release: info.map(VmcoreInfo::os_release).unwrap_or_default().into(),
        machine: facts.architecture.name().into(),
        crash_time: value(Key::CrashTime).unwrap_or(0),
        phys_base: value(Key::NumPhysBase).or_else(|| facts.phys_base()).unwrap_or(0),
        nr_cpus: CoreNotes::parse(&facts.notes).map_or(0, |notes| notes.registers.len() as u32),
        ..DumpIdentity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageFormat;

    #[test]
    fn damaged_other_lines_do_not_matter() {
        let text = b"XOSRELEASE=no\nOSRELEASE=6.1\nSIZE(page)=x\nCRASHTIME=12\nNUMBER(phys_base)=-4096\n";
        let facts = ImageFacts { vmcoreinfo: Some(text.to_vec()), ..ImageFacts::empty(ImageFormat::Raw) };
        let identity = from_facts(&facts);
        assert_eq!((identity.release.as_str(), identity.crash_time), ("6.1", 12));
        assert_eq!(identity.phys_base, 4096_u64.wrapping_neg());
    }
}
