//! Which machine, kernel and crash a dump is of.

use super::header::UTS_FIELD;
use crate::image::notes::CoreNotes;
use crate::image::{ImageFacts, MemoryImage};
use scanner_core::PhysAddr;

/// What the headers of a dump say of the machine, beside its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpIdentity {
    /// Operating system; "Linux".
    pub sysname: String,
    /// Host name; only in the kernel's memory (`init_uts_ns`).
    pub nodename: String,
    /// Kernel release.
    pub release: String,
    /// Kernel build; only in the kernel's memory (`init_uts_ns`).
    pub version: String,
    /// Architecture; crash refuses a dump of another one than its own.
    pub machine: String,
    /// NIS domain name; only in the kernel's memory (`init_uts_ns`).
    pub domainname: String,
    /// When the kernel crashed, in seconds since the epoch; 0 if not known.
    pub crash_time: u64,
    /// `phys_base` of the kernel, in two's complement; 0 if not known.
    pub phys_base: u64,
    /// CPUs that left their registers.
    pub nr_cpus: u32,
    /// What an earlier filter erased, as makedumpfile's text; to be carried over.
    pub erase_info: Vec<u8>,
}

/// Where x86_64 maps the kernel's own image (`__START_KERNEL_map`).
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Where `struct new_utsname` is in `struct uts_namespace` if VMCOREINFO does not say (before 5.11): behind `kref`.
const UTS_NAME_OFFSET: u64 = 4;

impl DumpIdentity {
    /// All that is known of the machine of an image: what a dump's headers record, or else what notes, program
    /// headers and the kernel's own `init_uts_ns` tell.
    pub fn of_image(image: &dyn MemoryImage) -> Self {
        let mut identity = Self::of(image.facts());
        if let Some(utsname) = identity.read_utsname(image) {
            identity.set_utsname(&utsname);
        }
        if let Some(recorded) = image.recorded_identity() {
            identity.set_utsname(&recorded.utsname());
            let (phys_base, nr_cpus) = (recorded.phys_base, recorded.nr_cpus);
            (identity.phys_base, identity.nr_cpus) = (phys_base, nr_cpus);
            identity.crash_time = recorded.crash_time;
            identity.erase_info.clone_from(&recorded.erase_info);
        }
        identity
    }

    /// The names in the kernel's memory, if they are where VMCOREINFO says, and of the kernel that it is of.
    fn read_utsname(&self, image: &dyn MemoryImage) -> Option<[[u8; UTS_FIELD]; 6]> {
        let info = VmcoreinfoText(image.facts().vmcoreinfo.as_deref()?);
        let namespace = u64::from_str_radix(info.get("SYMBOL(init_uts_ns)")?, 16).ok()?;
        let offset = info.get("OFFSET(uts_namespace.name)").and_then(|v| v.parse().ok());
        let phys = namespace
            .checked_sub(START_KERNEL_MAP)?
            .wrapping_add(self.phys_base)
            .wrapping_add(offset.unwrap_or(UTS_NAME_OFFSET));
        let mut utsname = [[0; UTS_FIELD]; 6];
        image.read(PhysAddr::new(phys), utsname.as_flattened_mut()).ok()?;
        let release = text(&utsname[2]);
        (text(&utsname[0]) == self.sysname.as_bytes() && release == self.release.as_bytes())
            .then_some(utsname)
    }

    /// What VMCOREINFO, notes and program headers of an image tell. Names that are only in the kernel's memory
    /// stay empty.
    pub fn of(facts: &ImageFacts) -> Self {
        let info = VmcoreinfoText(facts.vmcoreinfo.as_deref().unwrap_or_default());
        let from_segments = || {
            let kernel = facts.segments.iter().find(|s| s.virt.as_u64() >= START_KERNEL_MAP)?;
            Some(kernel.phys.as_u64().wrapping_sub(kernel.virt.as_u64() - START_KERNEL_MAP))
        };
        Self {
            sysname: "Linux".into(),
            release: info.get("OSRELEASE").unwrap_or_default().into(),
            machine: "x86_64".into(),
            crash_time: info.get("CRASHTIME").and_then(|v| v.parse().ok()).unwrap_or(0),
            phys_base: info
                .get("NUMBER(phys_base)")
                .and_then(|v| v.parse::<i64>().ok().map(|v| v as u64).or_else(|| v.parse().ok()))
                .or_else(from_segments)
                .unwrap_or(0),
            nr_cpus: CoreNotes::parse(&facts.notes).map_or(0, |notes| notes.registers.len() as u32),
            ..Self::default()
        }
    }

    /// The fields of `new_utsname`, cut to the room there is. One that is not known gets a stand-in: libkdumpfile
    /// takes a header with an empty name for damaged, and then does not find out the architecture.
    pub fn utsname(&self) -> [[u8; UTS_FIELD]; 6] {
        let fields =
            [&self.sysname, &self.nodename, &self.release, &self.version, &self.machine, &self.domainname];
        fields.map(|name| {
            let mut field = [0; UTS_FIELD];
            let name = if name.is_empty() { UNKNOWN } else { name.as_bytes() };
            let size = name.len().min(UTS_FIELD - 1);
            field[..size].copy_from_slice(&name[..size]);
            field
        })
    }

    /// Takes over what a `new_utsname` knows. QEMU knows nothing, and says "Unknown" for the machine.
    pub fn set_utsname(&mut self, utsname: &[[u8; UTS_FIELD]; 6]) {
        let known: [&mut String; 6] = [
            &mut self.sysname,
            &mut self.nodename,
            &mut self.release,
            &mut self.version,
            &mut self.machine,
            &mut self.domainname,
        ];
        for (name, field) in known.into_iter().zip(utsname) {
            let text = text(field);
            if !text.is_empty() && text != UNKNOWN && text != b"Unknown" {
                *name = String::from_utf8_lossy(text).into_owned();
            }
        }
    }
}

/// Stands for a name that is not known.
const UNKNOWN: &[u8] = b"(unknown)";

/// A field of `new_utsname` up to its NUL.
fn text(field: &[u8; UTS_FIELD]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// `KEY=value` lines.
struct VmcoreinfoText<'a>(&'a [u8]);

impl<'a> VmcoreinfoText<'a> {
    /// The value of `key`, if it is text.
    fn get(&self, key: &str) -> Option<&'a str> {
        let line = self
            .0
            .split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))?;
        std::str::from_utf8(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_header_and_long_ones_are_cut() {
        let identity = DumpIdentity {
            sysname: "Linux".into(),
            release: "6.1.0-50-amd64".into(),
            version: "x".repeat(100),
            ..DumpIdentity::default()
        };
        let mut back = DumpIdentity::default();
        back.set_utsname(&identity.utsname());
        assert_eq!((back.sysname, back.release, back.version.len()), ("Linux".into(), identity.release, 64));
    }

    #[test]
    fn vmcoreinfo_values_are_found_by_whole_key() {
        let text = VmcoreinfoText(b"XOSRELEASE=no\nOSRELEASE=6.1\nCRASHTIME=12\n");
        assert_eq!(
            (text.get("OSRELEASE"), text.get("CRASHTIME"), text.get("OS")),
            (Some("6.1"), Some("12"), None)
        );
    }
}
