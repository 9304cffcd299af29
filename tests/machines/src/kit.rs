//! What a machine boots: its kernel, and the initramfs of both kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vmcore::{Error, Result};

/// The files of a machine that is ready to be booted.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The kernel.
    pub kernel: PathBuf,
    /// What the first kernel boots into, with the capture kernel's inside.
    pub initramfs: PathBuf,
    /// Incompressible bytes, the second disk.
    pub files: PathBuf,
}

/// What comes into a [`Kit`], besides what each has.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// For the first kernel: programs, as for `make-initramfs`.
    pub first: Vec<String>,
    /// For the capture kernel.
    pub capture: Vec<String>,
}

impl Kit {
    /// Makes the kit of a kernel series in `directory`. `commands` names the files `guest/NAME-first` and
    /// `guest/NAME-capture`: the functions that tests of the kind call.
    ///
    /// # Errors
    /// A script fails; it has said why.
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

/// A script of this directory.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Where kernels of that series are kept.
pub fn kernel_directory(series: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| Error::unusable("neither XDG_CACHE_HOME nor HOME is set"))?;
    Ok(cache.join("cdbitmap/kernels").join(series))
}

/// Gets kernel and headers of a series unless they are there; returns the directory for `make -C`.
///
/// # Errors
/// The script fails; it has said why.
pub fn get_kernel(series: &str) -> Result<PathBuf> {
    let mut command = Command::new(script("get-kernel"));
    command.arg("--headers").arg(series).arg(kernel_directory(series)?).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| Error::failure("get-kernel can't be started").because(e))?;
    succeeded("get-kernel", Ok(output.status))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// An error unless the program ended well.
pub fn succeeded(program: &str, status: std::io::Result<std::process::ExitStatus>) -> Result<()> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::failure(format!("{program} failed: {status}"))),
        Err(error) => Err(Error::failure(format!("{program} can't be started")).because(error)),
    }
}

/// Removes files.
///
/// # Errors
/// One isn't there, or can't be removed.
pub fn remove_files<P: AsRef<Path>>(files: &[P]) -> Result<()> {
    for file in files.iter().map(AsRef::as_ref) {
        fs::remove_file(file).map_err(|e| Error::io(file, "it can't be removed", e))?;
    }
    Ok(())
}
