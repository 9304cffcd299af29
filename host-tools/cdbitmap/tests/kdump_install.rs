//! Tests of the integration into a distribution's kdump: `linker/kdump/install`, the systemd unit, and the script that
//! replaces kexec.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The directory `linker/kdump`.
fn linker() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|parent| parent.join("linker/kdump")).find(|path| path.is_dir()).unwrap()
}

/// The shells of distributions that are installed here.
fn shells() -> Vec<&'static [&'static str]> {
    let all: [&[&str]; 4] = [&["sh"], &["dash"], &["bash"], &["busybox", "sh"]];
    let here = |shell: &&&[&str]| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", "true"]).output().is_ok_and(|output| output.status.success())
    };
    all.iter().filter(here).copied().collect()
}

/// Writes a program, with another process. If this process had the file open for writing while one of its threads
/// forks, the program could not be run (ETXTBSY).
fn write_program(path: &Path, text: &str) {
    let draft = path.with_file_name("draft");
    fs::write(&draft, text).unwrap();
    assert!(Command::new("install").args(["-m", "755"]).arg(&draft).arg(path).status().unwrap().success());
    fs::remove_file(draft).unwrap();
}

/// Runs the installer with the root directory `root`.
fn run_install(root: &Path, arguments: &str) -> Output {
    let mut command = Command::new("bash");
    command.arg(linker().join("install")).arg("--root").arg(root);
    command.args(arguments.split_whitespace()).output().unwrap()
}

/// Runs the installer, which must succeed without output on standard error.
fn install(root: &Path, arguments: &str) {
    let output = run_install(root, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// The value of `variable` in a shell that has read the file `path`.
fn variable(path: &Path, variable: &str) -> String {
    let script = format!("PATH=/usr/bin:/bin; . {}; echo \"${variable}\"", path.display());
    let output = Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Creates a root directory with these files.
fn root_with(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// All files and links below `root`, with their mode, and their contents or link target.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in directory.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = path.symlink_metadata().unwrap();
            let contents = if metadata.is_dir() {
                directories.push(path);
                continue;
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path, (metadata.permissions().mode(), contents));
        }
    }
    found
}

const KDUMP_TOOLS: &str = "etc/default/kdump-tools";
const KDUMP_CONF: &str = "etc/kdump.conf";
const SYSCONFIG: &str = "etc/sysconfig/kdump";
const SETTINGS: &str = "USE_KDUMP=1\nKDUMP_COREDIR=\"/var/crash\"\n#MAKEDUMP_ARGS=\"-c -d 31\"\n";

/// kdump-config's defaults, in the form of Debian and Ubuntu.
const KDUMP_CONFIG: &str = "KDUMP_COREDIR=${KDUMP_COREDIR:=/var/crash}\n\
    KDUMP_CMDLINE_APPEND=${KDUMP_CMDLINE_APPEND:=\"reset_devices systemd.unit=dump.service nr_cpus=7\"}\n";

#[test]
fn settings_of_kdump_tools_come_and_go() {
    let root = root_with(&[(KDUMP_TOOLS, SETTINGS)]);
    let settings = root.path().join(KDUMP_TOOLS);
    install(root.path(), "kdump-tools");
    let once = tree(root.path());
    install(root.path(), "kdump-tools");
    assert_eq!(tree(root.path()), once);
    let text = fs::read_to_string(&settings).unwrap();
    let part = text.strip_prefix(SETTINGS).unwrap();
    // systemd also reads the file (EnvironmentFile=), and does not expand variables.
    assert!(!part.lines().any(|line| !line.starts_with('#') && line.contains('=')), "{part}");
    let collector = root.path().join("usr/local/lib/crash-dump-bitmap/makedumpfile");
    assert!(fs::metadata(&collector).unwrap().permissions().mode() & 0o111 == 0o111, "the link leads to it");
    install(root.path(), "--remove kdump-tools");
    assert_eq!(fs::read_to_string(&settings).unwrap(), SETTINGS);
    assert_eq!(tree(root.path()).len(), 1);
    assert!(!root.path().join("usr/local/lib/crash-dump-bitmap").exists());
}

/// Installs kdump-tools' settings where the kernel module gives `word` for the capture kernel's command line.
/// `settings` is the file before, `kdump_config` the text of kdump-config. All paths are in the returned directory.
fn installed_settings(settings: &str, word: &str, kdump_config: &str) -> TempDir {
    let status = format!("state: armed\ncommand line {word}\n");
    let mut files = vec![(KDUMP_TOOLS, settings), ("usr/sbin/kdump-config", kdump_config)];
    if !word.is_empty() {
        files.push(("proc/crash_dump_bitmap/status", &status));
    }
    let root = root_with(&files);
    install(root.path(), "kdump-tools");
    for name in [KDUMP_TOOLS, "usr/local/lib/crash-dump-bitmap/kdump-tools.default"] {
        let path = root.path().join(name);
        let mut text = fs::read_to_string(&path).unwrap();
        for place in ["/usr/local/lib/crash-dump-bitmap", "/proc/crash_dump_bitmap", "/usr/sbin/kdump-config"]
        {
            text = text.replace(place, &format!("{}{place}", root.path().display()));
        }
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn words_of_the_distribution_stay_in_the_capture_kernels_command_line() {
    let own = format!("{SETTINGS}KDUMP_CMDLINE_APPEND=\"own words\"\n");
    let told = "crash_dump_bitmap=0x3be00000";
    let inherited = format!("{SETTINGS}KDUMP_CMDLINE_APPEND=\"own {told} words\"\n");
    for (settings, word, kdump_config, expected) in [
        (SETTINGS, told, KDUMP_CONFIG, format!("reset_devices systemd.unit=dump.service nr_cpus=7 {told}")),
        (&own, told, KDUMP_CONFIG, format!("own words {told}")),
        (&inherited, told, KDUMP_CONFIG, format!("own {told} words")),
        // kdump-config's default applies.
        (SETTINGS, "", KDUMP_CONFIG, String::new()),
        (&own, "", KDUMP_CONFIG, "own words".to_owned()),
        // The default has an unknown form: the capture kernel dumps without a bitmap.
        (SETTINGS, told, "KDUMP_CMDLINE_APPEND=`words`\n", String::new()),
    ] {
        let root = installed_settings(settings, word, kdump_config);
        let path = root.path().join(KDUMP_TOOLS);
        assert_eq!(variable(&path, "{KDUMP_CMDLINE_APPEND:-}"), format!("{expected}\n"));
    }
}

#[test]
fn settings_of_kdump_tools_name_the_collector_and_keep_own_options() {
    let own = format!("{SETTINGS}MAKEDUMP_ARGS=\"-F -z -d 17\"\n");
    for (settings, expected) in [(SETTINGS, "-F -l -d 31\n"), (&own, "-F -z -d 17\n")] {
        let root = installed_settings(settings, "", KDUMP_CONFIG);
        let path = root.path().join(KDUMP_TOOLS);
        assert_eq!(variable(&path, "MAKEDUMP_ARGS"), expected);
        let places = variable(&path, "PATH");
        assert!(places.contains("/usr/local/lib/crash-dump-bitmap:/usr/bin:/bin"), "{places}");
        // If the collector was removed by hand, the remaining settings have no effect.
        fs::remove_dir_all(root.path().join("usr/local/lib/crash-dump-bitmap")).unwrap();
        assert_eq!(variable(&path, "PATH"), "/usr/bin:/bin\n");
    }
}

#[test]
fn settings_of_kdump_utils_come_and_go() {
    let sysconfig = "KDUMP_COMMANDLINE_APPEND=\"irqpoll nr_cpus=1\"\n";
    let default = "-l --message-level 7 -d 31";
    for (collector, extra, options) in [
        ("core_collector makedumpfile -l -d 31\n", "/usr/bin/lftp", "-l -d 31"),
        ("  core_collector\t/usr/sbin/makedumpfile -z -d 17\n", "/usr/bin/lftp", "-z -d 17"),
        ("core_collector scp\n", "/usr/bin/lftp", default),
        ("", r"/usr/bin/a|b /usr/bin/c&d /usr/bin/\1", default),
    ] {
        let before = format!("path /var/crash\n{collector}\t extra_bins {extra}\n#raw /dev/vg/lv\n");
        let root = root_with(&[(KDUMP_CONF, &before), (SYSCONFIG, sysconfig)]);
        let original = tree(root.path());
        install(root.path(), "kdump-utils");
        let once = tree(root.path());
        install(root.path(), "kdump-utils");
        assert_eq!(tree(root.path()), once);
        // kdumpctl takes each option only once.
        let text = fs::read_to_string(root.path().join(KDUMP_CONF)).unwrap();
        let set: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            set,
            [
                "path /var/crash",
                &format!("extra_bins /usr/local/sbin/cdbitmap {extra}"),
                &format!("core_collector /usr/local/sbin/cdbitmap-makedumpfile {options}"),
            ]
        );
        let words = variable(&root.path().join(SYSCONFIG), "KDUMP_COMMANDLINE_APPEND");
        assert!(words.starts_with("irqpoll nr_cpus=1"));
        install(root.path(), "--remove kdump-utils");
        assert_eq!(tree(root.path()), original);
    }
}

#[test]
fn files_are_restored_byte_for_byte() {
    for before in ["", "\n", "a=1", "a=1\n", "a=1\n\n\n", "a=1\r\nb=2\r\n", "\n\na=1", " \t\n# \\n %s\n"] {
        let root = root_with(&[(KDUMP_TOOLS, before)]);
        fs::set_permissions(root.path().join(KDUMP_TOOLS), fs::Permissions::from_mode(0o640)).unwrap();
        let original = tree(root.path());
        install(root.path(), "kdump-tools");
        install(root.path(), "kdump-tools");
        install(root.path(), "--remove kdump-tools");
        assert_eq!(tree(root.path()), original, "{before:?}");
        // Lines after our part stay separate lines.
        install(root.path(), "kdump-tools");
        let path = root.path().join(KDUMP_TOOLS);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "later=1\n").unwrap();
        install(root.path(), "kdump-tools");
        install(root.path(), "--remove kdump-tools");
        let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{before}{separator}later=1\n"), "{before:?}");
    }
}

#[test]
fn a_lost_mark_stops_the_installer_before_it_changes_anything() {
    let root = root_with(&[(KDUMP_TOOLS, SETTINGS)]);
    install(root.path(), "kdump-tools");
    let path = root.path().join(KDUMP_TOOLS);
    let whole = fs::read_to_string(&path).unwrap() + "later=1\n";
    for lost in ["# crash dump bitmap: end\n", "# crash dump bitmap: begin\n"] {
        fs::write(&path, whole.replace(lost, "")).unwrap();
        let before = tree(root.path());
        for arguments in ["kdump-tools", "--remove kdump-tools"] {
            let output = run_install(root.path(), arguments);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(lost.trim()) && said.contains(path.to_str().unwrap()), "{said}");
            assert_eq!(tree(root.path()), before);
        }
    }
}

#[test]
fn what_a_link_leads_to_is_edited() {
    for target in ["../../srv/settings", "/srv/settings", "/srv/again"] {
        let root = root_with(&[("srv/settings", SETTINGS)]);
        fs::create_dir_all(root.path().join("etc/default")).unwrap();
        symlink("settings", root.path().join("srv/again")).unwrap();
        symlink(target, root.path().join(KDUMP_TOOLS)).unwrap();
        let original = tree(root.path());
        install(root.path(), "kdump-tools");
        assert_eq!(fs::read_link(root.path().join(KDUMP_TOOLS)).unwrap(), Path::new(target));
        let text = fs::read_to_string(root.path().join("srv/settings")).unwrap();
        assert!(text.starts_with(SETTINGS) && text.len() > SETTINGS.len(), "{text}");
        install(root.path(), "--remove kdump-tools");
        assert_eq!(tree(root.path()), original);
    }
    let root = root_with(&[]);
    fs::create_dir_all(root.path().join("etc/default")).unwrap();
    symlink("kdump-tools", root.path().join(KDUMP_TOOLS)).unwrap();
    assert_eq!(run_install(root.path(), "kdump-tools").status.code(), Some(1));
}

/// Creates a root directory in which dpkg has kexec-tools installed.
fn root_with_kexec() -> TempDir {
    let root = root_with(&[
        (KDUMP_TOOLS, SETTINGS),
        ("sbin/kexec", "kexec"),
        ("var/lib/dpkg/info/kexec-tools.list", "/.\n/sbin\n/sbin/kexec\n"),
        (
            "var/lib/dpkg/status",
            "Package: kexec-tools\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\
             Maintainer: a <a@b>\nDescription: a\n\n",
        ),
        ("var/lib/dpkg/diversions", ""),
    ]);
    fs::set_permissions(root.path().join("sbin/kexec"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(root.path().join("var/lib/dpkg/updates")).unwrap();
    root
}

/// The tree without the backups of dpkg-divert.
fn tree_without_backups(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut tree = tree(root);
    tree.retain(|path, _| !path.to_str().unwrap().ends_with("-old"));
    tree
}

#[test]
fn kexec_is_diverted_and_comes_back() {
    if Command::new("dpkg-divert").arg("--version").output().is_err() {
        return;
    }
    let root = root_with_kexec();
    let original = tree_without_backups(root.path());
    let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    for _ in ["first", "again"] {
        install(root.path(), "--stage kdump-tools");
        assert_eq!(read("sbin/kexec"), fs::read_to_string(linker().join("kdump-tools/kexec")).unwrap());
        assert_eq!(read("sbin/kexec.distrib"), "kexec");
        assert!(read("var/lib/dpkg/diversions").starts_with("/sbin/kexec\n/sbin/kexec.distrib\n"));
    }
    // dpkg writes an update of the package to the diverted name.
    fs::write(root.path().join("sbin/kexec.distrib"), "kexec 2").unwrap();
    install(root.path(), "kdump-tools");
    assert_eq!(read("sbin/kexec"), "kexec 2");
    assert!(!root.path().join("sbin/kexec.distrib").exists());
    assert!(root.path().join("etc/systemd/system/crash-dump-bitmap.service").exists());
    fs::write(root.path().join("sbin/kexec"), "kexec").unwrap();
    install(root.path(), "--stage kdump-tools");
    assert!(!root.path().join("etc/systemd/system/crash-dump-bitmap.service").exists());
    install(root.path(), "--remove kdump-tools");
    assert_eq!(tree_without_backups(root.path()), original);
}

/// The programs that the installer uses to change files.
const CHANGES: [&str; 9] = ["mv", "cp", "ln", "mkdir", "chmod", "mktemp", "rm", "rmdir", "dpkg-divert"];

/// Runs the installer on copies of `root`, with the first, second, ... call of one of [`CHANGES`] failing, until no
/// call fails. If the installer fails, it must leave all files unchanged.
fn fail_each(root: &TempDir, arguments: &str) {
    let bin = tempfile::tempdir().unwrap();
    let counter = bin.path().join("counter");
    for program in CHANGES {
        let mut places =
            ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().map(|place| format!("{place}/{program}"));
        let Some(real) = places.find(|path| Path::new(path).exists()) else { continue };
        let fake = format!(
            "#!/bin/sh\necho >> {0}\nif [ $(wc -l < {0}) = $FAILS ]; then exit 1; fi\nexec {real} \"$@\"\n",
            counter.display()
        );
        write_program(&bin.path().join(program), &fake);
    }
    for fails in 1..200 {
        let _ = fs::remove_file(&counter);
        let copy = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("."), copy.path());
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
        let before = tree_without_backups(to);
        let mut command = Command::new("bash");
        command.arg(linker().join("install")).arg("--root").arg(to).args(arguments.split(' '));
        command.env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.path().display()));
        let output = command.env("FAILS", fails.to_string()).env("TMPDIR", bin.path()).output().unwrap();
        if !output.status.success() {
            let after = tree_without_backups(to);
            assert!(after == before, "call {fails} for {arguments}: {output:?}\n{:?}", after.keys());
        }
        if fs::read_to_string(&counter).unwrap().len() < fails {
            assert!(fails > 5 && output.status.success(), "{arguments}: {output:?}");
            return;
        }
    }
    panic!("{arguments}: there is no end");
}

#[test]
fn a_failure_halfway_leaves_what_was_before() {
    let utils = root_with(&[(KDUMP_CONF, "extra_bins a\n"), (SYSCONFIG, "KDUMP_COMMANDLINE_APPEND=b\n")]);
    let utils = std::thread::spawn(move || {
        fail_each(&utils, "kdump-utils");
        install(utils.path(), "kdump-utils");
        fail_each(&utils, "--remove kdump-utils");
    });
    let tools = root_with_kexec();
    fail_each(&tools, "kdump-tools");
    if Command::new("dpkg-divert").arg("--version").output().is_ok() {
        install(tools.path(), "kdump-tools");
        fail_each(&tools, "--stage kdump-tools");
        install(tools.path(), "--stage kdump-tools");
        fail_each(&tools, "kdump-tools");
        fail_each(&tools, "--remove kdump-tools");
    }
    utils.join().unwrap();
    // The installer finds a missing file before it changes anything.
    let root = root_with(&[(KDUMP_CONF, "path /var/crash\n")]);
    let before = tree(root.path());
    let output = run_install(root.path(), "kdump-utils");
    assert_eq!((output.status.code(), tree(root.path())), (Some(1), before));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/etc/sysconfig/kdump is missing"));
}

/// A directory with the script that replaces kexec, kexec, cdbitmap, and the files in /sys that the script reads.
struct Kexec {
    directory: TempDir,
    shell: &'static [&'static str],
}

/// A fake cdbitmap: prints its arguments, and loads a kernel.
const LOADS: &str = r#"echo "cdbitmap $*"; echo 1 > "$CDBITMAP_SYS/kernel/kexec_crash_loaded""#;

impl Kexec {
    /// Creates the directory. `cdbitmap` is the script of the fake cdbitmap; with `None` there is no cdbitmap.
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
        write_program(&self.path(name), &format!("#!/bin/sh\n{text}\n"));
    }

    fn sys(&self, name: &str, bytes: &[u8]) {
        let path = self.path("sys").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Runs the script. Returns its exit code and all output, without the name of the directory.
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
        // These commands do not load a capture kernel.
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

/// The files of a machine, and the text of the unit with their paths.
struct Unit {
    directory: TempDir,
    text: String,
}

impl Unit {
    /// Creates a machine where `crash_kexec_post_notifiers` is `value`, and `modprobe` is the program that replaces
    /// modprobe.
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

    /// Runs the unit's commands of a kind, as systemd does: until the first one fails.
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
