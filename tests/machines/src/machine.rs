//! What a machine is: its kernel, its processors, its memory.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// A machine to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's series, as `get-kernel` knows it.
    pub series: String,
    /// Whether the processor can do 5-level paging; the kernel uses it if it can.
    pub la57: bool,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Whether more memory can be plugged in while it runs.
    pub plug: bool,
    /// What of the memory is the capture kernel's, in MiB.
    pub reserved: u32,
    /// More words for the first kernel's command line.
    pub append: String,
}

impl Machine {
    /// The memory of a small machine, in MiB: with less, a kernel that came to lie in its middle leaves no piece that is
    /// large enough for a capture kernel.
    pub const SMALL: u32 = 640;

    /// A small machine of that kernel.
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

    /// Whether that version of makedumpfile knows the kernel.
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

    /// The words for the first kernel's command line.
    fn command_line(&self) -> String {
        format!(
            "console=ttyS0 crashkernel={}M panic=-1 crash_kexec_post_notifiers {}",
            self.reserved, self.append
        )
    }

    /// The QEMU that is this machine, booting `kernel`; with one disk to write to and one to read. QEMU is the program
    /// that the environment's QEMU names, which can be several words.
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
            // Where QEMU learns from the kernel what its own dump of the memory needs.
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
    /// As the options that ask for it.
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
