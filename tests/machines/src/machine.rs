//! The description of a machine: kernel, processors, memory.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// The description of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Series of the kernel, as in `get-kernel`.
    pub series: String,
    /// Whether the processor supports 5-level paging. The kernel uses it if it can.
    pub la57: bool,
    /// Number of processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Whether memory can be plugged in at run time.
    pub plug: bool,
    /// Memory reserved for the capture kernel, in MiB.
    pub reserved: u32,
    /// Additional words of the first kernel's command line.
    pub append: String,
}

impl Machine {
    /// The memory of a small machine, in MiB. With less, KASLR can place the kernel so that no range is large enough
    /// for the capture kernel.
    pub const SMALL: u32 = 640;

    /// A small machine with the kernel `series`.
    pub fn new(series: &str, la57: bool, cpus: u32) -> Self {
        Self {
            series: series.into(),
            la57,
            cpus,
            memory: Self::SMALL,
            plug: false,
            reserved: 192,
            append: String::new(),
        }
    }

    /// Whether the makedumpfile release `version` supports the kernel.
    pub fn is_known_to(&self, makedumpfile: &str) -> bool {
        let least = match self.series.as_str() {
            "5.10" | "6.1" => [1, 7, 2],
            "6.12" => [1, 7, 8],
            _ => [1, 7, 10],
        };
        let mut numbers =
            makedumpfile.split('.').map(|part| part.trim_end_matches('+').parse::<u32>().unwrap_or(0));
        let version: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
        version >= least
    }

    /// The first kernel's command line.
    fn command_line(&self) -> String {
        format!(
            "console=ttyS0 crashkernel={}M panic=-1 crash_kexec_post_notifiers {}",
            self.reserved, self.append
        )
    }

    /// The QEMU command of this machine. It boots `kernel`, and has one writable and one read-only disk. The
    /// environment variable `QEMU` can replace the program; it can have several words.
    pub(crate) fn qemu(&self, kernel: &Path, initramfs: &Path, disk: &Path, files: &Path) -> Command {
        let qemu = std::env::var("QEMU").unwrap_or_else(|_| "qemu-system-x86_64".into());
        let mut words = qemu.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("qemu-system-x86_64"));
        command
            .args(words)
            .args(["-accel", "tcg,thread=multi", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-cpu", if self.la57 { "max" } else { "max,la57=off" }])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &format!("{}M{}", self.memory, if self.plug { ",slots=1,maxmem=16G" } else { "" })])
            // The kernel passes its VMCOREINFO to QEMU through this device, for dump-guest-memory.
            .args(["-device", "vmcoreinfo"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &self.command_line()])
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,cache=unsafe", disk.display()))
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,readonly=on", files.display()));
        command
    }
}

impl fmt::Display for Machine {
    /// Prints the command line options that select this machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let la57 = if self.la57 { "on" } else { "off" };
        write!(f, "--kernel {} --la57 {la57} --cpus {}", self.series, self.cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_makedumpfile_is_a_reference() {
        let [old, new] = ["6.1", "6.12"].map(|series| Machine::new(series, true, 1));
        assert!(old.is_known_to("1.7.2") && old.is_known_to("1.7.9++"));
        assert!(!new.is_known_to("1.7.2") && new.is_known_to("1.7.8"));
        assert!(!new.is_known_to(""));
    }
}
