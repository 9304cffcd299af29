//! Which machine, kernel and crash an image is of.

use super::facts::ImageFacts;
use super::notes::CoreNotes;
use super::source::MemoryImage;
use crate::format::kdump::UTS_FIELD;
use crate::identity::{DumpIdentity, text};
use scanner_core::kernel::vmcoreinfo::Key;
use scanner_core::paging::START_KERNEL_MAP;
use scanner_core::{PhysAddr, VmcoreInfo};

/// Offset of `struct new_utsname` in `struct uts_namespace` if VMCOREINFO does not say (before 5.11): after `kref`.
const UTS_NAME_OFFSET: u64 = 4;

/// The keys of VMCOREINFO that say which machine an image is of, besides `OSRELEASE`.
const KEYS: [Key; 4] = [Key::CrashTime, Key::SymInitUtsNs, Key::OffUtsNamespaceName, Key::NumPhysBase];

/// All that is known of the machine of an image: what a dump's headers record, or else what notes, program headers and
/// the kernel's own `init_uts_ns` say.
pub fn identify(image: &dyn MemoryImage) -> DumpIdentity {
    let facts = image.facts();
    let lines = lines_of_identity(facts);
    let info = VmcoreInfo::parse(&lines).ok();
    let mut identity = known(facts, info.as_ref());
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

/// The lines of VMCOREINFO that say which machine it is of. Damage of another line does not cost the dump its names.
fn lines_of_identity(facts: &ImageFacts) -> Vec<u8> {
    let text = facts.vmcoreinfo.as_deref().unwrap_or_default();
    let keys = || std::iter::once("OSRELEASE").chain(KEYS.map(Key::text));
    let is_of_identity = |line: &&[u8]| {
        keys().any(|key| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
    };
    text.split(|b| *b == b'\n').filter(is_of_identity).collect::<Vec<_>>().join(&b'\n')
}

/// The names in the kernel's memory, if they are where VMCOREINFO says, and of the kernel that it is of.
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

/// What VMCOREINFO, notes and program headers say. Names that are only in the kernel's memory stay empty.
pub fn from_facts(facts: &ImageFacts) -> DumpIdentity {
    let lines = lines_of_identity(facts);
    known(facts, VmcoreInfo::parse(&lines).ok().as_ref())
}

fn known(facts: &ImageFacts, info: Option<&VmcoreInfo<'_>>) -> DumpIdentity {
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
    fn damage_of_other_lines_does_not_matter() {
        let text = b"XOSRELEASE=no\nOSRELEASE=6.1\nSIZE(page)=x\nCRASHTIME=12\nNUMBER(phys_base)=-4096\n";
        let facts = ImageFacts { vmcoreinfo: Some(text.to_vec()), ..ImageFacts::empty(ImageFormat::Raw) };
        let identity = from_facts(&facts);
        assert_eq!((identity.release.as_str(), identity.crash_time), ("6.1", 12));
        assert_eq!(identity.phys_base, 4096_u64.wrapping_neg());
    }
}
