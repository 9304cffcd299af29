//! Tests of the collector for kdump, `linker/kdump/cdbitmap-makedumpfile`: if cdbitmap fails, there is still a dump.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A fake makedumpfile: writes its name and arguments to the dump or to standard output. Without -f, it does not
/// replace an existing dump.
const MAKEDUMPFILE: &str = r#"
for word in "$@"; do last=$word; done
case " $* " in
  " -v ") echo 'makedumpfile: version 1.7.9' ;;
  *" -F "*|*" --dump-dmesg "*) echo "makedumpfile $*" ;;
  *)
    case " $* " in *" -f "*) ;; *) if [ -e "$last" ]; then echo "$last. File exists" >&2; exit 1; fi ;; esac
    echo "makedumpfile $*" > "$last" ;;
esac
"#;

/// A fake cdbitmap that succeeds.
const WORKS: &str = r#"if [ "$3" = - ]; then echo "cdbitmap $*"; else echo "cdbitmap $*" > "$3"; fi"#;

/// A stream that is larger than the collector's buffer.
const TWO_PIECES: &str = "dd if=/dev/zero bs=65536 count=2 2> /dev/null";
const TWO_PIECES_SIZE: usize = 2 * 65536;

/// The directory `linker/kdump`.
fn linker() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|parent| parent.join("linker/kdump")).find(|path| path.is_dir()).unwrap()
}

/// The shells of distributions and initramfs images that are installed here.
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

/// A directory with both fake programs and a vmcore, for the dumps.
struct Bench {
    directory: TempDir,
    shell: &'static [&'static str],
    collector: PathBuf,
    /// Environment variables of the collector; a later entry replaces an earlier one.
    variables: Vec<(&'static str, String)>,
}

impl Bench {
    /// Creates the directory. `cdbitmap` is the script of the fake cdbitmap; with `None` there is no cdbitmap.
    fn new(cdbitmap: Option<&str>) -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
            shell: &["sh"],
            collector: linker().join("cdbitmap-makedumpfile"),
            variables: Vec::new(),
        };
        bench.script("makedumpfile", MAKEDUMPFILE);
        if let Some(text) = cdbitmap {
            bench.script("cdbitmap", text);
        }
        fs::write(bench.path("vmcore"), "memory").unwrap();
        bench
    }

    fn with_shell(self, shell: &'static [&'static str]) -> Self {
        Self { shell, ..self }
    }

    /// Uses a changed collector, with `from` replaced by `to`.
    fn with_changed_collector(self, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(&self.collector).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("changed"), text.replace(from, to)).unwrap();
        Self { collector: self.path("changed"), ..self }
    }

    fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    /// Lets the collector look for makedumpfile only in the directory `bin`.
    fn with_makedumpfile_in_bin(self) -> Self {
        fs::create_dir(self.path("bin")).unwrap();
        let places = self.path("bin").to_str().unwrap().to_owned();
        self.with("MAKEDUMPFILE", "").with("CDBITMAP_PLACES", places)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn script(&self, name: &str, text: &str) {
        write_program(&self.path(name), &format!("#!/bin/sh\n{text}\n"));
    }

    /// The command that runs the collector in the directory.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.shell[0]);
        command
            .args(&self.shell[1..])
            .arg(&self.collector)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .env("CDBITMAP", self.path("cdbitmap"))
            .env("MAKEDUMPFILE", self.path("makedumpfile"))
            .env("CDBITMAP_PATIENCE", "1")
            .env("CDBITMAP_RESCUE", self.path("rescue"))
            .env("TMPDIR", self.directory.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn collect(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the collector with a file as output, which must succeed. Returns the contents of the file and the standard
    /// error output.
    fn dump_and_words(&self, options: &str) -> (String, String) {
        let output = self.collect(&format!("{options} vmcore dump"));
        assert!(output.status.success(), "{:?}: {output:?}", self.shell);
        self.assert_clean();
        (own_names(&self.read("dump")), String::from_utf8(output.stderr).unwrap())
    }

    fn dump(&self, options: &str) -> String {
        self.dump_and_words(options).0
    }

    /// Checks that no temporary file of the collector is left.
    fn assert_clean(&self) {
        let names = self.names();
        assert!(names.iter().all(|name| !name.starts_with(".cdbitmap")), "{names:?}");
    }

    fn names(&self) -> Vec<String> {
        let entries = self.directory.path().read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Returns the dump that was saved instead of a broken stream.
    fn rescued(&self) -> String {
        let saved: Vec<_> = self.path("rescue").read_dir().unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(saved.len(), 1, "{saved:?}");
        fs::read_to_string(saved[0].join("dump")).unwrap()
    }
}

/// Returns `text` with only the file name of each file in a temporary directory of the collector.
fn own_names(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.contains("/.cdbitmap.") {
        true => word.rsplit('/').next().unwrap(),
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn options_of_makedumpfile_are_ours() {
    for (theirs, ours) in [
        ("-l --message-level 7 -d 31", "-d 31 -l"),
        ("-c -d31 -D --num-threads=3", "-d 31 -c --num-threads 3"),
        ("--message-level=1 -z", "-d 0 -z"),
        ("-ld31", "-d 31 -l"),
        ("-Dz -d 31 --num-threads 0", "-d 31 -z"),
        ("-z --num-threads=300", "-d 0 -z --num-threads 256"),
    ] {
        let expected = format!("cdbitmap dump vmcore dump {ours} --bitmap auto\n");
        assert_eq!(Bench::new(Some(WORKS)).dump_and_words(theirs), (expected, String::new()), "{theirs}");
    }
    let bench = Bench::new(Some(WORKS));
    let output = bench.collect("-F -l -d 31 vmcore");
    assert_eq!(output.stdout, b"cdbitmap dump vmcore - -d 31 -l -F --bitmap auto\n");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    bench.assert_clean();
}

#[test]
fn the_report_has_the_name_of_the_dump() {
    let bench = Bench::new(Some("echo pages > \"$3\"; printf '%s\\n' \"$3: 5 of 9 pages\" '  as\\it is'"));
    let output = bench.collect("-d 31 vmcore dump");
    assert_eq!(output.stdout, b"dump: 5 of 9 pages\n  as\\it is\n", "{output:?}");
}

#[test]
fn what_we_do_not_do_goes_to_makedumpfile_as_it_is_and_the_reason_is_said() {
    for (options, reason) in [
        ("-x vmlinux -d 31", "cdbitmap has no option -x"),
        ("-d 31,19 -l", "cdbitmap has no list of dump levels"),
        ("-d many", "cdbitmap has no dump level many"),
        ("-E -d 1", "cdbitmap has no option -E"),
        ("-lE", "cdbitmap has no option -E"),
        ("--config=erase -x vmlinux", "cdbitmap has no option --config"),
        // -d takes the next argument, "vmcore", as the level.
        ("-l -d", "cdbitmap has no dump level vmcore"),
    ] {
        let bench = Bench::new(Some(WORKS));
        let (dump, words) = bench.dump_and_words(options);
        assert_eq!(dump, format!("makedumpfile {options} vmcore dump\n"));
        let makedumpfile = bench.path("makedumpfile");
        let expected = format!("cdbitmap-makedumpfile: {reason}: {} takes over\n", makedumpfile.display());
        assert_eq!(words, expected);
    }
    let output = Bench::new(Some(WORKS)).collect("--dump-dmesg vmcore dmesg");
    assert_eq!(output.stdout, b"makedumpfile --dump-dmesg vmcore dmesg\n");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("cdbitmap has no option --dump-dmesg") && words.lines().count() == 1, "{words}");
}

#[test]
fn whatever_becomes_of_cdbitmap_there_is_a_dump() {
    let partial = "echo half > \"${3%/*}/.dump.x1y2z3.partial\"";
    for shell in shells() {
        for (fate, cdbitmap) in [
            ("fails", "exit 1".to_owned()),
            ("cannot use the image", "echo 'cdbitmap: not an ELF file' >&2; exit 2".to_owned()),
            ("is killed", format!("{partial}; kill -9 $$")),
            ("crashes", format!("{partial}; kill -SEGV $$")),
            ("leaves an empty dump", ": > \"$3\"".to_owned()),
            ("leaves nothing, and says that all is well", "exit 0".to_owned()),
            ("stalls", format!("{partial}; exec sleep 60")),
        ] {
            let start = Instant::now();
            let bench = Bench::new(Some(&cdbitmap)).with_shell(shell);
            assert_eq!(bench.dump("-l -d 31"), "makedumpfile -l -d 31 vmcore dump\n", "{fate}");
            assert!(bench.names().iter().all(|name| !name.contains("partial")), "{:?}", bench.names());
            assert!(start.elapsed() < Duration::from_secs(30), "{fate}");
        }
        let missing = Bench::new(None).with_shell(shell);
        assert_eq!(missing.dump("-l -d 31"), "makedumpfile -l -d 31 vmcore dump\n", "is missing");
    }
}

#[test]
fn a_stream_that_has_not_begun_is_made_by_makedumpfile() {
    for shell in shells() {
        for cdbitmap in [
            "exit 2",
            "kill -9 $$",
            "exec sleep 60",
            "exit 0",
            "echo header; exit 1",
            "echo header; kill -9 $$",
        ] {
            let bench = Bench::new(Some(cdbitmap)).with_shell(shell);
            let output = bench.collect("-F -l -d 31 vmcore");
            assert_eq!(
                output.stdout, b"makedumpfile -F -l -d 31 vmcore\n",
                "{shell:?} {cdbitmap}: {output:?}"
            );
            assert!(output.status.success(), "{output:?}");
            bench.assert_clean();
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_taken_for_a_dump_and_another_one_is_saved() {
    for shell in shells() {
        for end in ["exit 1", "exec sleep 60"] {
            let bench = Bench::new(Some(&format!("{TWO_PIECES}; {end}"))).with_shell(shell);
            let output = bench.collect("-F -l -d 31 vmcore");
            assert_eq!(
                (output.status.code(), output.stdout.len()),
                (Some(1), TWO_PIECES_SIZE),
                "{shell:?} {end}"
            );
            let text = bench.rescued();
            assert!(text.starts_with("makedumpfile -l -d 31 vmcore /"), "{text}");
            bench.assert_clean();
        }
    }
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
    symlink(env!("CARGO_BIN_EXE_cdbitmap"), bench.path("cdbitmap")).unwrap();
    fs::remove_file(bench.path("vmcore")).unwrap();
    cdbitmap("synth -o vmcore -m 128M --profile idle");
    cdbitmap("dump vmcore expected -l -d 31");
    let output = bench.collect("-l --message-level 7 -d 31 vmcore dump");
    assert!(output.status.success() && output.stdout.starts_with(b"dump: "), "{output:?}");
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
    bench.assert_clean();
}

#[test]
fn a_temporary_directory_that_cannot_be_used_costs_no_dump() {
    for shell in shells() {
        let bench = Bench::new(Some(WORKS)).with_shell(shell).with("TMPDIR", "/nonexistent");
        let output = bench.collect("-F -d 31 vmcore");
        assert!(output.status.success(), "{shell:?}: {output:?}");
        assert_eq!(output.stdout, b"cdbitmap dump vmcore - -d 31 -F --bitmap auto\n");
    }
}

#[test]
fn where_no_directory_can_be_made_makedumpfile_writes_the_dump() {
    // busybox has these programs built in, so they cannot be made to fail.
    for shell in shells().into_iter().filter(|shell| shell[0] != "busybox") {
        for broken in ["mkdir mktemp", "mkfifo"] {
            let bench = Bench::new(Some(WORKS)).with_shell(shell);
            for program in broken.split(' ') {
                bench.script(program, "exit 1");
            }
            let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bench.directory.path().display());
            let bench = bench.with("PATH", path);
            let output = bench.collect("-F -d 31 vmcore");
            assert!(output.status.success(), "{shell:?}: {output:?}");
            assert_eq!(output.stdout, b"makedumpfile -F -d 31 vmcore\n");
            if broken != "mkfifo" {
                assert_eq!(bench.dump("-d 31"), "makedumpfile -d 31 vmcore dump\n");
            }
        }
    }
}

#[test]
fn an_error_of_the_collector_itself_costs_no_dump() {
    for shell in shells() {
        for (function, arguments) in [
            ("to_file", "-d 31 vmcore dump"),
            ("to_stream", "-F -d 31 vmcore"),
            ("make_private", "-F -d 31 vmcore"),
            ("run_cdbitmap", "-d 31 vmcore dump"),
            ("run_cdbitmap", "-F -d 31 vmcore"),
            ("await", "-d 31 vmcore dump"),
            ("await", "-F -d 31 vmcore"),
        ] {
            let entry = format!("\n{function}() {{\n");
            let bench = Bench::new(Some("exec sleep 60"))
                .with_shell(shell)
                .with_changed_collector(&entry, &format!("{entry}true $not_set\n"))
                .with("CDBITMAP_PATIENCE", "300");
            let output = bench.collect(arguments);
            let case = format!("{shell:?} {function} {arguments}: {output:?}");
            assert!(output.status.success(), "{case}");
            let streamed = arguments.starts_with("-F");
            let written = if streamed { output.stdout } else { fs::read(bench.path("dump")).unwrap() };
            assert_eq!(written, format!("makedumpfile {arguments}\n").as_bytes(), "{case}");
        }
    }
}

#[test]
fn no_dump_is_saved_in_the_memory_of_an_initramfs() {
    let bench = Bench::new(Some(&format!("{TWO_PIECES}; exit 1")));
    let marker = bench.path("initrd-release");
    fs::write(&marker, "").unwrap();
    let rescue = bench.path("var");
    let bench = bench
        .with_changed_collector("/etc/initrd-release", marker.to_str().unwrap())
        .with_changed_collector(
            "CDBITMAP_RESCUE:-/var/crash",
            &format!("CDBITMAP_RESCUE:-{}", rescue.display()),
        )
        .with("CDBITMAP_RESCUE", "");
    let output = bench.collect("-F -d 31 vmcore");
    assert_eq!((output.status.code(), rescue.exists()), (Some(1), false), "{output:?}");
    fs::remove_file(marker).unwrap();
    let output = bench.collect("-F -d 31 vmcore");
    assert_eq!((output.status.code(), rescue.exists()), (Some(1), true), "{output:?}");
}

#[test]
fn names_that_others_have_made_beforehand_change_nothing() {
    // The shell makes the names with its own process id, and then becomes the collector by exec.
    let names = r#"for n in cdbitmap-makedumpfile.$$ .cdbitmap.$$ .cdbitmap.$$.1; do mkdir "$TMPDIR/$n"; done; exec "$@""#;
    for (arguments, expected) in [("-F -d 31 vmcore", "-"), ("-d 31 vmcore dump", "dump")] {
        for mktemp in ["exit 1", "exec /usr/bin/mktemp \"$@\""] {
            let bench = Bench::new(Some(WORKS));
            bench.script("mktemp", mktemp);
            let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bench.directory.path().display());
            let bench = bench.with("PATH", path);
            let inner = bench.command(arguments);
            let mut command = Command::new("sh");
            command.args(["-c", names, "sh"]).arg(inner.get_program()).args(inner.get_args());
            command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let output = command.current_dir(bench.directory.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let written =
                if expected == "-" { String::from_utf8(output.stdout).unwrap() } else { bench.read("dump") };
            assert!(
                own_names(&written).starts_with(&format!("cdbitmap dump vmcore {expected}")),
                "{written}"
            );
        }
    }
}

#[test]
fn a_makedumpfile_that_is_the_collector_itself_is_never_called() {
    let collector = linker().join("cdbitmap-makedumpfile");
    let wrapper = format!("exec {} \"$@\"", collector.display());
    // A program that calls the collector for everything except its version is called once.
    let sly = format!("if [ $1 = -v ]; then exit 0; fi\n{wrapper}");
    for shell in shells() {
        for kind in ["link", "copy", "wrapper", "sly"] {
            for original in ["makedumpfile.distrib", "makedumpfile.real", ""] {
                let bench = Bench::new(Some("exit 1")).with_shell(shell).with_makedumpfile_in_bin();
                match kind {
                    "link" => symlink(&collector, bench.path("bin/makedumpfile")).unwrap(),
                    "copy" => {
                        write_program(
                            &bench.path("bin/makedumpfile"),
                            &fs::read_to_string(&collector).unwrap(),
                        );
                    }
                    "wrapper" => bench.script("bin/makedumpfile", &wrapper),
                    _ => bench.script("bin/makedumpfile", &sly),
                }
                if !original.is_empty() {
                    bench.script(&format!("bin/{original}"), MAKEDUMPFILE);
                }
                let start = Instant::now();
                let output = bench.collect("-l -d 31 vmcore dump");
                let case = format!("{shell:?} {kind} {original}: {output:?}");
                if original.is_empty() {
                    assert!(!output.status.success() && !bench.path("dump").exists(), "{case}");
                    assert!(
                        String::from_utf8_lossy(&output.stderr).contains("there is no makedumpfile"),
                        "{case}"
                    );
                } else {
                    assert!(output.status.success(), "{case}");
                    assert_eq!(bench.read("dump"), "makedumpfile -l -d 31 vmcore dump\n", "{case}");
                }
                assert!(start.elapsed() < Duration::from_secs(20), "{case}");
                bench.assert_clean();
            }
        }
    }
}

#[test]
fn a_collector_that_is_called_as_makedumpfile_finds_the_one_that_it_hides() {
    // As on Debian: a link in a separate directory, which is first in PATH.
    let bench = Bench::new(Some("exit 1"));
    fs::create_dir(bench.path("ours")).unwrap();
    fs::create_dir(bench.path("theirs")).unwrap();
    symlink(linker().join("cdbitmap-makedumpfile"), bench.path("ours/makedumpfile")).unwrap();
    bench.script("theirs/makedumpfile", MAKEDUMPFILE);
    let places = format!("{}:{}", bench.path("ours").display(), bench.path("theirs").display());
    let mut command = Command::new("makedumpfile");
    command.args(["-F", "-d", "31", "vmcore"]).current_dir(bench.directory.path());
    command.env("PATH", format!("{places}:/usr/bin:/bin")).env("CDBITMAP", bench.path("cdbitmap"));
    command.env("CDBITMAP_PLACES", &places);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"makedumpfile -F -d 31 vmcore\n", "{output:?}");
}

#[test]
fn without_makedumpfile_cdbitmap_does_what_it_can_and_says_so() {
    for shell in shells() {
        for (options, ours, without) in [
            ("-x vmlinux -l -d 31", "-d 31 -l --bitmap auto", " without -x"),
            ("-E -d 1 -L 1G", "-d 1 --bitmap auto", " without -E -L"),
            ("--work-dir=/tmp --vtop 0xff -d 31,19", "-d 31 --bitmap auto", " without --work-dir --vtop"),
        ] {
            let bench = Bench::new(Some(WORKS)).with_shell(shell).with_makedumpfile_in_bin();
            let (dump, words) = bench.dump_and_words(options);
            assert_eq!(dump, format!("cdbitmap dump vmcore dump {ours}\n"));
            assert!(
                words.contains(&format!("there is no makedumpfile: cdbitmap writes the dump{without}\n")),
                "{words}"
            );
        }
        for refused in ["--dump-dmesg vmcore dmesg", "--config erase -x vmlinux vmcore dump", "-v", "vmcore"]
        {
            let bench = Bench::new(Some(WORKS)).with_shell(shell).with_makedumpfile_in_bin();
            let output = bench.collect(refused);
            assert_eq!(output.status.code(), Some(1), "{refused}: {output:?}");
            assert!(
                output.stdout.is_empty() && !bench.path("dump").exists() && !bench.path("dmesg").exists()
            );
        }
    }
}

#[test]
fn without_makedumpfile_cdbitmap_tries_in_ever_simpler_ways() {
    let fails_if = |condition: &str| format!("case \" $* \" in {condition}) exit 1 ;; esac\n{WORKS}");
    for (condition, expected) in [
        (r#"*" --bitmap "*"#, "-d 31"),
        (r#"*" -d 31 "*"#, "-d 1"),
        // The collector's temporary directory.
        (r#"*"/.cdbitmap."*"#, "-d 1"),
    ] {
        let bench = Bench::new(Some(&fails_if(condition))).with_makedumpfile_in_bin();
        assert_eq!(bench.dump("-d 31"), format!("cdbitmap dump vmcore dump {expected}\n"), "{condition}");
        let bench = Bench::new(Some(&fails_if(condition))).with_makedumpfile_in_bin();
        let output = bench.collect("-F -d 31 vmcore");
        assert!(output.status.success(), "{output:?}");
    }
    // The collector tries each level of a list, as makedumpfile does if the disk is too small.
    let bench = Bench::new(Some(&fails_if(r#"*" -d 1 "*"#))).with_makedumpfile_in_bin();
    assert_eq!(bench.dump("-d 1,31"), "cdbitmap dump vmcore dump -d 31 --bitmap auto\n");
    // A broken stream.
    let breaks = format!("if [ \"$3\" = - ]; then {TWO_PIECES}; exit 1; fi\n{WORKS}");
    let bench = Bench::new(Some(&breaks)).with_makedumpfile_in_bin();
    let output = bench.collect("-F -d 31 vmcore");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), TWO_PIECES_SIZE));
    assert!(bench.rescued().starts_with("cdbitmap dump vmcore /"));
}

#[test]
fn a_dump_of_another_is_neither_removed_nor_replaced() {
    for (case, cdbitmap) in [
        ("comes while cdbitmap runs, which fails", "echo others > dump; exit 1".to_owned()),
        ("comes while cdbitmap runs, which is killed", "echo others > dump; kill -9 $$".to_owned()),
        ("comes while cdbitmap runs, which works", format!("echo others > dump; {WORKS}")),
        ("is there", WORKS.to_owned()),
    ] {
        for shell in shells() {
            let bench = Bench::new(Some(&cdbitmap)).with_shell(shell);
            if case == "is there" {
                fs::write(bench.path("dump"), "others\n").unwrap();
            }
            // The unfinished dump of another run.
            fs::write(bench.path(".dump.abcdef.partial"), "half").unwrap();
            let output = bench.collect("-l -d 31 vmcore dump");
            assert_eq!(output.status.code(), Some(1), "{shell:?} {case}: {output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("File exists"), "{case}: {output:?}");
            assert_eq!(
                (&bench.read("dump")[..], &bench.read(".dump.abcdef.partial")[..]),
                ("others\n", "half")
            );
            bench.assert_clean();
        }
    }
}

#[test]
fn an_existing_dump_is_replaced_with_f() {
    for (cdbitmap, expected) in [
        (WORKS, "cdbitmap dump vmcore dump -d 31 --bitmap auto\n"),
        ("exit 1", "makedumpfile -f -d 31 vmcore dump\n"),
    ] {
        let bench = Bench::new(Some(cdbitmap));
        fs::write(bench.path("dump"), "old").unwrap();
        assert_eq!(bench.dump("-f -d 31"), expected);
    }
}

/// Waits, then reads the standard output to its end.
fn read_late(child: &mut Child, wait: Duration) -> Vec<u8> {
    std::thread::sleep(wait);
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_slow_reader_is_no_fault_of_cdbitmap() {
    let writes = "dd if=/dev/zero bs=65536 count=64 2> /dev/null";
    for shell in shells() {
        // The reader waits before the first byte, and again in the middle.
        let bench = Bench::new(Some(&format!("exec {writes}"))).with_shell(shell);
        let mut child = bench.command("-F -d 31 vmcore").stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let mut some = vec![0; 3 << 19];
        child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        let rest = read_late(&mut child, Duration::from_secs(3));
        assert_eq!((child.wait().unwrap().code(), some.len() + rest.len()), (Some(0), 64 << 16), "{shell:?}");
        assert!(!bench.path("rescue").exists());
        bench.assert_clean();
    }
    // The dump is a named pipe.
    let bench = Bench::new(Some(&format!("exec {writes} of=\"$3\"")));
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    let mut collector = bench.command("-F -d 31 vmcore pipe").spawn().unwrap();
    let mut reader = Command::new("cat").arg(bench.path("pipe")).stdout(Stdio::piped()).spawn().unwrap();
    let bytes = read_late(&mut reader, Duration::from_secs(4));
    assert_eq!((collector.wait().unwrap().code(), bytes.len()), (Some(0), 64 << 16));
    reader.wait().unwrap();
}

#[test]
fn signals_end_cdbitmap_and_leave_nothing() {
    for shell in shells() {
        for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
            for arguments in ["-d 31 vmcore dump", "-F -d 31 vmcore"] {
                let output = format!("if [ $3 = - ]; then {TWO_PIECES}; else echo half > $3; fi");
                let bench = Bench::new(Some(&format!("{output}; echo $$ > pid; exec sleep 60")))
                    .with_shell(shell)
                    .with("CDBITMAP_PATIENCE", "300");
                let mut collector = bench.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
                let start = Instant::now();
                let pid = loop {
                    match fs::read_to_string(bench.path("pid")) {
                        Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
                        _ => std::thread::sleep(Duration::from_millis(20)),
                    }
                    assert!(start.elapsed() < Duration::from_secs(20));
                };
                let kill = Command::new("kill").args(["-s", name, &collector.id().to_string()]).status();
                assert!(kill.unwrap().success());
                let status = collector.wait().unwrap();
                let case = format!("{shell:?} {name} {arguments}");
                assert_eq!(status.signal(), Some(number), "{case}: {status}");
                assert!(start.elapsed() < Duration::from_secs(20), "{case}");
                assert!(!Path::new("/proc").join(&pid).exists(), "{case}");
                assert!(!bench.path("dump").exists() && !bench.path("rescue").exists(), "{case}");
                bench.assert_clean();
            }
        }
    }
}
