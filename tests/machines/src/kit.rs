//! The files that a machine boots: the kernel, and the initramfs of both kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vmcore::{Error, Result};

/// The boot files of a machine.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The kernel.
    pub kernel: PathBuf,
    /// The first kernel's initramfs, which contains the capture kernel's.
    pub initramfs: PathBuf,
    /// Incompressible data: the second disk.
    pub files: PathBuf,
}

/// Additional contents of a [`Kit`].
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Items for the first kernel's initramfs, as in `make-initramfs`.
    pub first: Vec<String>,
    /// Items for the capture kernel's initramfs.
    pub capture: Vec<String>,
}

impl Kit {
    /// Makes the kit of a kernel series in `directory`. `commands` is the NAME of the files `guest/NAME-first` and
    /// `guest/NAME-capture`, which define the commands of the two kernels.
    ///
    /// # Errors
    /// A script failed; it has printed the reason.
    pub fn build(series: &str, commands: &str, contents: &Contents, directory: &Path) -> Result<Self> {
        let kernels = kernel_directory(series)?;
        let made = Command::new(script("make-kit"))
            .arg(&kernels)
            .arg(commands)
            .arg(directory)
            .args(contents.first.iter().map(|item| format!("first:{item}")))
            .args(contents.capture.iter().map(|item| format!("capture:{item}")))
            .status();
        succeeded("make-kit", made)?;
        Ok(Self {
            kernel: directory.join("vmlinuz"),
            initramfs: directory.join("first.gz"),
            files: directory.join("files"),
        })
    }
}

/// The path of a script in this directory.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The cache directory of a kernel series.
pub fn kernel_directory(series: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| Error::unusable("neither XDG_CACHE_HOME nor HOME is set"))?;
    Ok(cache.join("cdbitmap/kernels").join(series))
}

/// Downloads kernel and headers of a series unless they are cached. Returns the directory for `make -C`.
///
/// # Errors
/// The script failed; it has printed the reason.
pub fn get_kernel(series: &str) -> Result<PathBuf> {
    let mut command = Command::new(script("get-kernel"));
    command.arg("--headers").arg(series).arg(kernel_directory(series)?).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| Error::failure("cannot start get-kernel").because(e))?;
    succeeded("get-kernel", Ok(output.status))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Returns an error unless the program exited with status 0.
pub fn succeeded(program: &str, status: std::io::Result<std::process::ExitStatus>) -> Result<()> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::failure(format!("{program} failed: {status}"))),
        Err(error) => Err(Error::failure(format!("cannot start {program}")).because(error)),
    }
}

/// Removes files.
///
/// # Errors
/// A file does not exist or cannot be removed.
pub fn remove_files<P: AsRef<Path>>(files: &[P]) -> Result<()> {
    for file in files.iter().map(AsRef::as_ref) {
        fs::remove_file(file).map_err(|e| Error::io(file, "cannot be removed", e))?;
    }
    Ok(())
}
