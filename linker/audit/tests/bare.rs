//! `linker/bare` takes the first compiler that has the source of core, and refuses to build without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Toolchains made of scripts that print what they are called with.
struct Toolchains {
    directory: tempfile::TempDir,
    path: Vec<PathBuf>,
}

impl Toolchains {
    fn new() -> Self {
        let mut toolchains = Self { directory: tempfile::tempdir().unwrap(), path: Vec::new() };
        let bin = toolchains.directory.path().join("cargo");
        let cargo =
            "echo \"cargo $*, RUSTC=$RUSTC, RUSTFLAGS=$RUSTFLAGS, level=$CARGO_PROFILE_CRASH_OPT_LEVEL\"";
        script(&bin.join("cargo"), cargo);
        toolchains.path.push(bin);
        toolchains
    }

    /// Adds a toolchain to the end of PATH.
    fn add(mut self, name: &str, with_source: bool, with_clippy: bool) -> Self {
        let sysroot = self.directory.path().join(name);
        let rustc = format!("[ \"$*\" = '--print sysroot' ] && echo {}", sysroot.display());
        script(&sysroot.join("bin/rustc"), &rustc);
        if with_source {
            let core = sysroot.join("lib/rustlib/src/rust/library/core");
            fs::create_dir_all(&core).unwrap();
            fs::write(core.join("Cargo.toml"), "").unwrap();
        }
        if with_clippy {
            script(&sysroot.join("bin/cargo-clippy"), "echo \"cargo-clippy $*, RUSTC=$RUSTC\"");
        }
        self.path.push(sysroot.join("bin"));
        self
    }

    /// Runs a function of linker/bare in bash.
    fn run(&self, call: &str) -> Output {
        let bare = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bare");
        let program = format!("set -euo pipefail; . {}; {call}; echo \"bare=${{bare-}}\"", bare.display());
        // All that linker/bare calls is in bash or in PATH.
        Command::new("/bin/bash")
            .args(["-c", &program, "linker/crash-scan/build"])
            .env_clear()
            .env("PATH", std::env::join_paths(&self.path).unwrap())
            .env("CARGO_TARGET_DIR", "/target")
            .output()
            .unwrap()
    }

    fn rustc(&self, name: &str) -> String {
        self.directory.path().join(name).join("bin/rustc").display().to_string()
    }
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refuses(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn core_is_built_along_by_the_first_compiler_with_its_source() {
    let toolchains = Toolchains::new()
        .add("rustup", false, true)
        .add("distribution", true, false)
        .add("another", true, false);
    let text = succeeds(&toolchains.run("build_bare crash-scan s '-C code-model=kernel'"));
    let expected = format!(
        "cargo rustc --locked --quiet --package crash-scan --lib --crate-type staticlib --profile crash --target x86_64-unknown-none \
         -Z build-std=core, RUSTC={}, RUSTFLAGS=-C code-model=kernel, level=s\n\
         bare=/target/x86_64-unknown-none/crash\n",
        toolchains.rustc("distribution")
    );
    assert_eq!(text, expected);
}

#[test]
fn without_the_source_of_core_nothing_is_built() {
    let toolchains = Toolchains::new().add("rustup", false, true);
    for call in ["build_bare crash-scan s ''", "lint_bare crash-scan"] {
        let text = refuses(&toolchains.run(call));
        assert!(
            text.starts_with("linker/crash-scan/build: no rustc in PATH has the source of core"),
            "{text}"
        );
        assert!(
            text.contains("run rustup component add rust-src, or install rustc-web and rust-web-src"),
            "{text}"
        );
    }
    refuses(&Toolchains::new().run("build_bare crash-scan s ''"));
}

#[test]
fn clippy_is_that_of_the_same_compiler() {
    let toolchains = Toolchains::new().add("rustup", false, true).add("distribution", true, true);
    let text = succeeds(&toolchains.run("lint_bare crash-scan crash-stage"));
    let expected = format!(
        "cargo-clippy clippy --locked --quiet --package=crash-scan --package=crash-stage \
         --target x86_64-unknown-none -Z build-std=core -- -D warnings, RUSTC={}\nbare=\n",
        toolchains.rustc("distribution")
    );
    assert_eq!(text, expected);

    let text = refuses(&Toolchains::new().add("distribution", true, false).run("lint_bare crash-scan"));
    assert!(
        text.contains("has no clippy: run rustup component add clippy, or install rust-web-clippy"),
        "{text}"
    );
}
