//! Loading the purgatory stage: the scan that runs between a dying kernel and the capture kernel.
//!
//! An unmodified kexec-tools does the loading. [`intercept`] runs it under ptrace and adds one segment to its
//! `kexec_load`. This segment, the [`area`], contains the stage's [`image`], its parameters, and memory for the bitmap.
//!
//! [`plan`] chooses the address of the area: the end of the crash kernel region. kexec sees a memory map ([`iomem`]) in
//! which the region ends before the area. The capture kernel therefore does not use the area, and `/proc/vmcore`
//! contains it. One more parameter on the capture kernel's command line ([`kexec_command`]) gives the address of the
//! bitmap's info.

pub mod area;
pub mod image;
pub mod intercept;
pub mod iomem;
pub mod kcore;
pub mod kexec_command;
pub mod plan;
pub mod record;
pub mod status;

/// Path at which the stage's image is installed.
pub const DEFAULT_IMAGE: &str = "/usr/lib/cdbitmap/crash_stage.elf";
