//! Which machine, kernel and crash a dump is of.

use crate::format::kdump::UTS_FIELD;

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

impl DumpIdentity {
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
pub(crate) fn text(field: &[u8; UTS_FIELD]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
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
}
