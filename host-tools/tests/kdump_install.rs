//! What puts cdbitmap into a distribution's kdump: `linker/kdump/install`, the unit, and the script in kexec's place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `linker/kdump`.
fn linker() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|parent| parent.join("linker/kdump")).find(|path| path.is_dir()).unwrap()
}

/// Calls the installer below `root`.
fn install(root: &Path, arguments: &str) {
    let script = linker().join("install");
    let output = Command::new("bash")
        .arg(script)
        .arg("--root")
        .arg(root)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What a shell that reads the file `path` has in `variable` afterwards.
fn variable(path: &Path, variable: &str) -> String {
    let script = format!("PATH=/usr/bin:/bin; . {}; echo \"${variable}\"", path.display());
    let output = Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn settings_of_kdump_tools_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let settings = root.path().join("etc/default/kdump-tools");
    let before = "USE_KDUMP=1\nKDUMP_COREDIR=\"/var/crash\"\n#MAKEDUMP_ARGS=\"-c -d 31\"\n";
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, before).unwrap();
    install(root.path(), "kdump-tools");
    let once = fs::read_to_string(&settings).unwrap();
    install(root.path(), "kdump-tools");
    assert_eq!(fs::read_to_string(&settings).unwrap(), once);
    assert!(once.starts_with(before));
    assert_eq!(variable(&settings, "MAKEDUMP_ARGS"), "-F -l -d 31\n");
    assert_eq!(variable(&settings, "PATH"), "/usr/local/lib/crash-dump-bitmap:/usr/bin:/bin\n");
    assert!(variable(&settings, "KDUMP_CMDLINE_APPEND").starts_with("reset_devices systemd.unit="));
    let collector = root.path().join("usr/local/lib/crash-dump-bitmap/makedumpfile");
    assert!(fs::metadata(&collector).unwrap().permissions().mode() & 0o111 == 0o111, "the link leads to it");
    install(root.path(), "--remove kdump-tools");
    assert_eq!(fs::read_to_string(&settings).unwrap(), before);
    assert!(!collector.exists());
}

#[test]
fn settings_of_kdump_utils_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let (settings, system) = (root.path().join("etc/kdump.conf"), root.path().join("etc/sysconfig/kdump"));
    let before =
        "path /var/crash\ncore_collector makedumpfile -l -d 31\nextra_bins /usr/bin/lftp\n#raw /dev/vg/lv\n";
    let system_before = "KDUMP_COMMANDLINE_APPEND=\"irqpoll nr_cpus=1\"\n";
    fs::create_dir_all(system.parent().unwrap()).unwrap();
    fs::write(&settings, before).unwrap();
    fs::write(&system, system_before).unwrap();
    install(root.path(), "kdump-utils");
    let once = fs::read_to_string(&settings).unwrap();
    install(root.path(), "kdump-utils");
    assert_eq!(fs::read_to_string(&settings).unwrap(), once);
    // kdumpctl takes each option only once.
    let set: Vec<&str> = once.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        set,
        [
            "path /var/crash",
            "extra_bins /usr/local/sbin/cdbitmap /usr/bin/lftp",
            "core_collector /usr/local/sbin/cdbitmap-makedumpfile -l --message-level 7 -d 31",
        ]
    );
    assert!(variable(&system, "KDUMP_COMMANDLINE_APPEND").starts_with("irqpoll nr_cpus=1"));
    install(root.path(), "--remove kdump-utils");
    assert_eq!(fs::read_to_string(&settings).unwrap(), before);
    assert_eq!(fs::read_to_string(&system).unwrap(), system_before);
}

#[test]
fn kexec_in_place_of_kexec_loads_the_stage_if_cdbitmap_can_be_run() {
    let directory = tempfile::tempdir().unwrap();
    let kexec = directory.path().join("kexec");
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let here = linker().join("kdump-tools/kexec");
    script("kexec", &fs::read_to_string(here).unwrap());
    script("kexec.distrib", "#!/bin/sh\necho \"kexec $*\"; exit 3\n");
    let works = script("cdbitmap", "#!/bin/sh\necho \"cdbitmap $*\"\n");
    let broken = script("broken", "#!/bin/sh\nexit 127\n");
    let run = |cdbitmap: &Path| {
        let mut command = Command::new(&kexec);
        command.args(["-p", "--append=a b", "vmlinuz"]).env("CDBITMAP", cdbitmap);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr.len())
    };
    let loaded = format!("stage exec -d 31 -- {}.distrib -p --append=a b vmlinuz\n", kexec.display());
    let (_, said, _) = run(&works);
    assert_eq!(said.trim_start_matches("cdbitmap --version\n"), format!("cdbitmap {loaded}"));
    for missing in [broken, directory.path().join("none")] {
        let (code, said, warned) = run(&missing);
        assert_eq!((code, &said[..]), (Some(3), "kexec -p --append=a b vmlinuz\n"));
        assert!(warned > 0);
    }
}

/// A machine's files, and the unit's commands with its paths.
struct Unit {
    directory: tempfile::TempDir,
    text: String,
}

impl Unit {
    /// A machine on which `crash_kexec_post_notifiers` is `value`, and `modprobe` is a program that is called so.
    fn new(value: &str, modprobe: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_str().unwrap();
        let text = fs::read_to_string(linker().join("crash-dump-bitmap.service")).unwrap();
        let text = text
            .replace("/sys/module/kernel/parameters", here)
            .replace("/sbin/modprobe", modprobe)
            .replace("%t/crash-dump-bitmap", &format!("{here}/run"));
        fs::create_dir(directory.path().join("run")).unwrap();
        fs::write(directory.path().join("crash_kexec_post_notifiers"), value).unwrap();
        Self { directory, text }
    }

    /// Runs the unit's commands of a kind, as systemd does: up to the first that fails.
    fn run(&self, kind: &str) -> bool {
        let mut commands = self.text.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix('='));
        commands.all(|command| Command::new("sh").args(["-c", command]).status().unwrap().success())
    }

    fn value(&self) -> String {
        fs::read_to_string(self.directory.path().join("crash_kexec_post_notifiers")).unwrap()
    }
}

#[test]
fn the_unit_restores_crash_kexec_post_notifiers() {
    for before in ["N\n", "Y\n"] {
        let unit = Unit::new(before, "true");
        assert!(unit.run("ExecStart"));
        assert_eq!(unit.value(), "1\n");
        assert!(unit.run("ExecStop") && unit.run("ExecStopPost"));
        assert_eq!(unit.value(), before);
        // systemd runs these after a failed start.
        let unit = Unit::new(before, "false");
        assert!(!unit.run("ExecStart") && unit.run("ExecStopPost"));
        assert_eq!(unit.value(), before);
    }
}
