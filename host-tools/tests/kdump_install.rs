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

/// The shells of distributions, as far as they are here.
fn shells() -> Vec<&'static [&'static str]> {
    let all: [&[&str]; 4] = [&["sh"], &["dash"], &["bash"], &["busybox", "sh"]];
    let here = |shell: &&&[&str]| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", "true"]).output().is_ok_and(|output| output.status.success())
    };
    all.iter().filter(here).copied().collect()
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

/// A directory with the script in kexec's place, kexec, cdbitmap, and what the script reads of /sys.
struct Kexec {
    directory: tempfile::TempDir,
    shell: &'static [&'static str],
}

/// Stands for cdbitmap: says how it was called, and loads a kernel.
const LOADS: &str = r#"echo "cdbitmap $*"; echo 1 > "$CDBITMAP_SYS/kernel/kexec_crash_loaded""#;

impl Kexec {
    /// `cdbitmap` is what the fake one does to load; without it, it is missing.
    fn new(shell: &'static [&'static str], cdbitmap: Option<&str>) -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap(), shell };
        fs::copy(linker().join("kdump-tools/kexec"), bench.path("kexec")).unwrap();
        let loads = "echo \"kexec $*\"; echo 1 > \"$CDBITMAP_SYS/kernel/kexec_crash_loaded\"; exit 3";
        bench.script("kexec.distrib", loads);
        if let Some(text) = cdbitmap {
            bench.script("cdbitmap", &format!("if [ $1 = --version ]; then exit 0; fi; {text}"));
        }
        bench.sys("kernel/kexec_crash_loaded", b"0\n");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn sys(&self, name: &str, bytes: &[u8]) {
        let path = self.path("sys").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Its exit code, and all that it and the programs said, without this directory's name.
    fn run(&self, arguments: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg(self.path("kexec")).args(arguments.split('|'));
        command.env("CDBITMAP", self.path("cdbitmap")).env("CDBITMAP_SYS", self.path("sys"));
        let output = command.env("CDBITMAP_PATIENCE", "1").output().unwrap();
        let here = format!("{}/", self.directory.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&here, "");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn kexec_in_place_of_kexec_loads_the_stage_by_kexec_load() {
    for shell in shells() {
        for (arguments, called) in [
            ("-p|--append=a b|vmlinuz", "-p --append=a b vmlinuz -c"),
            ("--load-panic|-a|vmlinuz", "--load-panic -a vmlinuz -c"),
            ("-pd|-s|-a|vmlinuz", "-pd -s -a vmlinuz -c"),
            ("-p|-c|vmlinuz", "-p -c vmlinuz"),
            ("-p|-s|--kexec-syscall|vmlinuz", "-p -s --kexec-syscall vmlinuz"),
            ("-p|--|vmlinuz", "-p -c -- vmlinuz"),
        ] {
            let kexec = Kexec::new(shell, Some(LOADS));
            kexec.sys("kernel/security/lockdown", b"[none] integrity confidentiality\n");
            kexec.sys("firmware/efi/efivars/SecureBoot-1", &[6, 0, 0, 0, 0]);
            let expected = format!("cdbitmap stage exec -d 31 -- kexec.distrib {called}\n");
            assert_eq!(kexec.run(arguments), (Some(0), expected, String::new()), "{shell:?}");
        }
    }
}

#[test]
fn kexec_in_place_of_kexec_runs_it_unchanged_where_no_stage_can_be_loaded() {
    let sys = [
        ("kernel/security/lockdown", &b"none [integrity] confidentiality\n"[..], "the kernel is locked down"),
        ("firmware/efi/efivars/SecureBoot-1", &[6, 0, 0, 0, 1][..], "Secure Boot is on"),
    ];
    for shell in shells() {
        for (arguments, called) in
            [("-p|--append=a b|vmlinuz", "-p --append=a b vmlinuz"), ("-p|-a|vmlinuz", "-p -a vmlinuz")]
        {
            for (name, bytes, reason) in sys {
                let kexec = Kexec::new(shell, Some(LOADS));
                kexec.sys(name, bytes);
                let (code, said, warned) = kexec.run(arguments);
                assert_eq!((code, said), (Some(3), format!("kexec {called}\n")), "{shell:?}");
                assert!(warned.contains(reason) && warned.lines().count() == 1, "{warned}");
            }
        }
        let (code, said, warned) = Kexec::new(shell, Some(LOADS)).run("-s|-p|vmlinuz");
        assert_eq!((code, &said[..]), (Some(3), "kexec -s -p vmlinuz\n"));
        assert!(warned.contains("kexec_file_load"), "{warned}");
        // These are not about a capture kernel that is loaded.
        for arguments in ["-p|-u", "-l|vmlinuz", "-e", "-S", "-tp|vmlinuz", "-l|--|-p"] {
            let output = Kexec::new(shell, Some(LOADS)).run(arguments);
            let called = arguments.replace('|', " ");
            assert_eq!(output, (Some(3), format!("kexec {called}\n"), String::new()), "{shell:?}");
        }
    }
}

#[test]
fn kexec_in_place_of_kexec_loads_without_the_stage_whatever_becomes_of_cdbitmap() {
    let unload = r#"echo 0 > "$CDBITMAP_SYS/kernel/kexec_crash_loaded""#;
    for shell in shells() {
        for (fate, cdbitmap) in [
            ("is missing", None),
            ("panics", Some("exit 101".to_owned())),
            ("is killed", Some("kill -9 $$".to_owned())),
            ("is killed after it has unloaded the old kernel", Some(format!("{unload}; kill -9 $$"))),
            ("fails", Some(format!("{unload}; exit 1"))),
            ("fails, and what was loaded before stays", Some("exit 1".to_owned())),
            ("loads nothing, and says that all is well", Some(format!("{unload}; exit 0"))),
            ("takes for ever", Some("exec sleep 60".to_owned())),
        ] {
            let kexec = Kexec::new(shell, cdbitmap.as_deref());
            kexec.sys("kernel/kexec_crash_loaded", b"1\n");
            let (code, said, warned) = kexec.run("-p|--append=a b|vmlinuz");
            let case = format!("{shell:?} {fate}: {warned}");
            assert_eq!((code, &said[..]), (Some(3), "kexec -p --append=a b vmlinuz\n"), "{case}");
            assert!(warned.contains("the purgatory stage is not loaded"), "{case}");
            assert_eq!(fs::read(kexec.path("sys/kernel/kexec_crash_loaded")).unwrap(), b"1\n");
        }
        let kexec = Kexec::new(shell, Some(LOADS));
        for broken in ["not a program", "#!/nonexistent\n", "\x7fELF"] {
            fs::write(kexec.path("cdbitmap"), broken).unwrap();
            let (code, said, _) = kexec.run("-p|vmlinuz");
            assert_eq!((code, &said[..]), (Some(3), "kexec -p vmlinuz\n"), "{shell:?}");
            fs::set_permissions(kexec.path("cdbitmap"), fs::Permissions::from_mode(0o644)).unwrap();
        }
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
