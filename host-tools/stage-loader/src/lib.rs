//! Loading the purgatory stage: the scan that runs between a dying kernel and the capture kernel.
//!
//! kexec-tools does the loading, unchanged. [`intercept`] lets it run with a trace on its system calls, and puts one
//! more segment into its `kexec_load`: the stage ([`image`]), what it has to know ([`area`]), and room for the bitmap.
//! Where these lie is decided beforehand ([`plan`]): at the end of the crash kernel region. kexec is shown a memory map
//! ([`iomem`]) in which the region ends before that and ordinary memory follows, so that the capture kernel leaves the
//! area alone and lists it in `/proc/vmcore`; and one more word for the capture kernel's command line
//! ([`kexec_command`]) says where the bitmap will be.

pub mod area;
pub mod image;
pub mod intercept;
pub mod iomem;
pub mod kcore;
pub mod kexec_command;
pub mod plan;
pub mod record;
pub mod status;

/// Where the stage's image is installed.
pub const DEFAULT_IMAGE: &str = "/usr/lib/cdbitmap/crash_stage.elf";
