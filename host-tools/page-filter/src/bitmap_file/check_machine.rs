//! Checks that a bitmap belongs to a machine.

use super::info::Info;
use super::reader::BitmapReader;
use crate::machine::Machine;
use scanner_core::PhysicalMemory;
use vmcore::{Error, Result};

impl<M: PhysicalMemory> BitmapReader<M> {
    /// Refuses a bitmap of another machine, kernel or boot than `machine`, as far as the bitmap records them. A version
    /// 1 bitmap records only its number of frames.
    ///
    /// # Errors
    /// Names the difference.
    pub fn check_machine(&self, machine: &Machine<'_>) -> Result<()> {
        let refuse = |difference: String| {
            Err(Error::unusable(format!("the bitmap is not of this machine: {difference}"))
                .with_hint("Make a bitmap from this image with cdbitmap scan IMAGE -o FILE."))
        };
        let frames = self.info().frames();
        if let Info::V2(header) = self.info() {
            let release = header.kernel_release();
            if !release.is_empty() && release != machine.os_release() {
                return refuse(format!("its kernel is {release}, the image's is {}", machine.os_release()));
            }
            let (build_id, own) = (header.build_id(), machine.build_id());
            if !build_id.is_empty() && !own.is_empty() && build_id != own {
                return refuse(format!(
                    "its kernel's build id is {}, the image's is {}",
                    hex(build_id),
                    hex(&own)
                ));
            }
            if header.vmcoreinfo_crc != 0 && header.vmcoreinfo_crc != machine.vmcoreinfo_crc() {
                return refuse("its VMCOREINFO is that of another boot of this kernel".to_owned());
            }
        }
        // A bitmap may end before the machine's last frame, because frames outside it are kept. It must start inside
        // the machine and reach at least half of its frames.
        let covers = frames.end.as_u64().next_multiple_of(64);
        if frames.start.as_u64() >= machine.frames || covers < machine.frames / 2 {
            return refuse(format!("it is for frames {frames}, the image has {:#x} frames", machine.frames));
        }
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
