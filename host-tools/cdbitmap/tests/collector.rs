//! The collector for kdump, `linker/kdump/cdbitmap-makedumpfile`: whatever becomes of cdbitmap, there is a dump.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Stands for makedumpfile: writes what it is, and how it was called, to the dump or the standard output.
const MAKEDUMPFILE: &str = r#"
for word in "$@"; do last=$word; done
case " $* " in *" -F "*|*" --dump-dmesg "*) echo "makedumpfile $*" ;; *) echo "makedumpfile $*" > "$last" ;; esac
"#;

/// Stands for cdbitmap, and works.
const WORKS: &str = r#"if [ "$3" = - ]; then echo "cdbitmap $*"; else echo "cdbitmap $*" > "$3"; fi"#;

/// A directory with both programs, a vmcore and room for dumps.
struct Bench {
    directory: TempDir,
}

impl Bench {
    /// `cdbitmap` is what the fake one does; without it, it is missing.
    fn new(cdbitmap: Option<&str>) -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        bench.script("makedumpfile", MAKEDUMPFILE);
        if let Some(text) = cdbitmap {
            bench.script("cdbitmap", text);
        }
        fs::write(bench.path("vmcore"), "memory").unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let mut file = fs::File::create(self.path(name)).unwrap();
        write!(file, "#!/bin/sh\n{text}\n").unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Calls the collector in the directory.
    fn collect(&self, arguments: &str) -> Output {
        let collector =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker/kdump/cdbitmap-makedumpfile");
        Command::new("sh")
            .arg(collector)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .env("CDBITMAP", self.path("cdbitmap"))
            .env("MAKEDUMPFILE", self.path("makedumpfile"))
            .env("CDBITMAP_PATIENCE", "1")
            .env("CDBITMAP_RESCUE", self.path("rescue"))
            .env("TMPDIR", self.directory.path())
            .output()
            .unwrap()
    }

    /// Calls it for a file, which must succeed, and says what is in the file.
    fn dump(&self, options: &str) -> String {
        let output = self.collect(&format!("{options} vmcore dump"));
        assert!(output.status.success(), "{output:?}");
        let names: Vec<_> =
            self.directory.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_str().unwrap().contains("partial")), "{names:?}");
        fs::read_to_string(self.path("dump")).unwrap()
    }
}

#[test]
fn options_of_makedumpfile_are_ours() {
    let bench = Bench::new(Some(WORKS));
    for (theirs, ours) in [
        ("-l --message-level 7 -d 31", "-d 31 -l"),
        ("-c -d31 -D --num-threads=3", "-d 31 -c --num-threads 3"),
        ("--message-level=1 -z -f", "-d 0 -z -f"),
    ] {
        let expected = format!("cdbitmap dump vmcore dump {ours} --bitmap auto\n");
        assert_eq!(bench.dump(theirs), expected);
    }
    let output = bench.collect("-F -l -d 31 vmcore");
    assert_eq!(output.stdout, b"cdbitmap dump vmcore - -d 31 -l -F --bitmap auto\n");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_we_do_not_do_goes_to_makedumpfile_as_it_is() {
    let bench = Bench::new(Some(WORKS));
    for options in ["-x vmlinux -d 31", "-d 31,19 -l", "-E -d 1", "-l -d"] {
        assert_eq!(bench.dump(options), format!("makedumpfile {options} vmcore dump\n"));
    }
    let output = bench.collect("--dump-dmesg vmcore dmesg");
    assert_eq!(output.stdout, b"makedumpfile --dump-dmesg vmcore dmesg\n");
}

#[test]
fn whatever_becomes_of_cdbitmap_there_is_a_dump() {
    let partial = "echo half > .dump.x1y2z3.partial";
    for (fate, cdbitmap) in [
        ("fails", "exit 1".to_owned()),
        ("can't use the image", "echo 'cdbitmap: not an ELF file' >&2; exit 2".to_owned()),
        ("is killed", format!("{partial}; kill -9 $$")),
        ("crashes", format!("{partial}; kill -SEGV $$")),
        ("leaves an empty dump", ": > dump".to_owned()),
        ("leaves nothing, and says that all is well", "exit 0".to_owned()),
        ("gets stuck", format!("{partial}; exec sleep 60")),
    ] {
        let start = Instant::now();
        assert_eq!(
            Bench::new(Some(&cdbitmap)).dump("-l -d 31"),
            "makedumpfile -l -d 31 vmcore dump\n",
            "{fate}"
        );
        assert!(start.elapsed() < Duration::from_secs(30), "{fate}");
    }
    assert_eq!(Bench::new(None).dump("-l -d 31"), "makedumpfile -l -d 31 vmcore dump\n", "is missing");
}

#[test]
fn a_stream_that_has_not_begun_is_made_by_makedumpfile() {
    for cdbitmap in ["exit 2", "kill -9 $$", "exec sleep 60", "exit 0"] {
        let output = Bench::new(Some(cdbitmap)).collect("-F -l -d 31 vmcore");
        assert_eq!(output.stdout, b"makedumpfile -F -l -d 31 vmcore\n", "{cdbitmap}");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_taken_for_a_dump_and_another_one_is_saved() {
    let bench = Bench::new(Some("echo begun; exit 1"));
    let output = bench.collect("-F -l -d 31 vmcore");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"begun\n"[..]), "{output:?}");
    let rescued = bench.path("rescue").read_dir().unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&rescued).unwrap();
    assert!(text.starts_with("makedumpfile -l -d 31 vmcore /"), "{text}");
}

#[test]
fn the_real_cdbitmap_writes_the_dump_that_it_writes_by_itself() {
    let bench = Bench::new(None);
    let cdbitmap = |arguments: &str| {
        let arguments = arguments.split_whitespace();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdbitmap"));
        let output = command.args(arguments).current_dir(bench.directory.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cdbitmap"), bench.path("cdbitmap")).unwrap();
    fs::remove_file(bench.path("vmcore")).unwrap();
    cdbitmap("synth -o vmcore -m 128M --profile idle");
    cdbitmap("dump vmcore expected -l -d 31");
    let output = bench.collect("-l --message-level 7 -d 31 vmcore dump");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cdbitmap: bitmap: not used, memory is scanned instead: no bitmap is named"),
        "{said}"
    );
    let read = |name: &str| fs::read(bench.path(name)).unwrap();
    assert!(read("dump") == read("expected"));
    let stream = bench.collect("-F -l -d 31 vmcore");
    cdbitmap("dump vmcore expected.flat -F -l -d 31");
    assert!(stream.status.success() && stream.stdout == read("expected.flat"));
}

/// Calls the installer below `root`.
fn install(root: &Path, arguments: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker/kdump/install");
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
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker/kdump/kdump-tools/kexec");
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
