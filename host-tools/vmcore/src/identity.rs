//! The identity of a dump: its machine, kernel and crash.

use crate::format::kdump::UTS_FIELD;

/// The machine, kernel and crash as the headers of a dump record them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpIdentity {
    /// Operating system; "Linux".
    pub sysname: String,
    /// Host name. Only the kernel's memory has it (`init_uts_ns`).
    pub nodename: String,
    /// Kernel release.
    pub release: String,
    /// Kernel build. Only the kernel's memory has it (`init_uts_ns`).
    pub version: String,
    /// Architecture. crash refuses a dump of an architecture other than its own.
    pub machine: String,
    /// NIS domain name. Only the kernel's memory has it (`init_uts_ns`).
    pub domainname: String,
    /// Time of the crash, in seconds since the epoch; 0 if not known.
    pub crash_time: u64,
    /// `phys_base` of the kernel, in two's complement; 0 if not known.
    pub phys_base: u64,
    /// Number of CPUs whose registers were saved.
    pub nr_cpus: u32,
    /// makedumpfile's text about the data that an earlier filter erased. A new dump copies it.
    pub erase_info: Vec<u8>,
}

impl DumpIdentity {
    /// The fields of `new_utsname`, truncated to [`UTS_FIELD`] bytes with the NUL.
    ///
    /// An unknown field becomes "(unknown)": libkdumpfile treats a header with an empty name as damaged, and then does
    /// not detect the architecture.
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

    /// Copies the known fields of a `new_utsname`. QEMU leaves all fields empty, except "Unknown" for the machine.
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

/// The placeholder for an unknown name.
const UNKNOWN: &[u8] = b"(unknown)";

/// The text of a `new_utsname` field, without the NUL.
pub(crate) fn text(field: &[u8; UTS_FIELD]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utsname_round_trips_and_truncates_long_names() {
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
