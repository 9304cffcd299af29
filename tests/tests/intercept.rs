//! The loader adds the stage to a program's `kexec_load` call, and leaves all other calls unchanged.

use cross_tests::stage::image;
use scanner_core::{DumpLevel, Pfn, PfnRange, RuleSet};
use stage_loader::area::{Area, Facts, StageRequest};
use stage_loader::intercept::{Outcome, run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Address of the fake kexec's first segment, and an address after all of its segments.
const FIRST_SEGMENT: u64 = 0x10_0000;
const BEHIND: u64 = 0x4000_0000;

fn area(at: u64) -> Area {
    let facts = Facts {
        ram: vec![PfnRange::new(Pfn::new(1), Pfn::new(0x1_0000))],
        vmcoreinfo: b"OSRELEASE=6.1.0\n".to_vec(),
        five_level: false,
        has_1g: false,
        tsc_khz: 1_000_000,
    };
    let request = StageRequest {
        level: DumpLevel::all(),
        rules: RuleSet::Makedumpfile,
        budget_ms: 1000,
        serial_port: 0,
        injected_fault: 0,
    };
    Area::new(&image(), &facts, &request, at).unwrap()
}

/// A program that makes the same calls as kexec, and writes their results to the file `out`.
struct FakeKexec {
    directory: TempDir,
}

impl FakeKexec {
    fn compile() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fake_kexec.c");
        let status =
            Command::new("cc").args(["-O1", "-o"]).arg(directory.path().join("kexec")).arg(source).status();
        assert!(status.unwrap().success());
        Self { directory }
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn run(&self, arguments: &str, area: &Area) -> (Outcome, String) {
        let _ = std::fs::remove_file(self.out());
        let script = format!(
            "exec {} {arguments} > {}",
            self.directory.path().join("kexec").display(),
            self.out().display()
        );
        let arguments = [OsString::from("-c"), OsString::from(script)];
        let outcome = run(&OsString::from("sh"), &arguments, area, None).unwrap();
        (outcome, std::fs::read_to_string(self.out()).unwrap_or_default())
    }
}

#[test]
fn the_stage_becomes_one_more_segment() {
    let (kexec, area) = (FakeKexec::compile(), area(BEHIND));
    // KEXEC_ON_CRASH for x86_64.
    let (outcome, seen) = kexec.run("3 0x3e0001", &area);
    let Outcome::Ended { code: 7, loaded: Some(loaded) } = outcome else { panic!("{outcome:?}") };
    assert_eq!((loaded.entry, loaded.segments.len()), (0x4444, 3));
    assert_eq!(loaded.segments[1].memory, FIRST_SEGMENT + 0x1000);
    let bytes = area.bytes_for(0x4444);
    let mut expected = String::from("result 0\n");
    for segment in 0..3 {
        expected += &format!("segment 1 {:x} 1000\n", FIRST_SEGMENT + segment * 0x1000);
    }
    expected += &format!("segment {} {:x} {:x}\n", bytes.len(), area.start(), area.size());
    expected.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    assert_eq!(seen, expected + "\n");
}

#[test]
fn calls_that_load_no_capture_kernel_are_unchanged() {
    let (kexec, area) = (FakeKexec::compile(), area(BEHIND));
    for arguments in ["3 0x3e0000", "0 0x3e0001"] {
        let (outcome, seen) = kexec.run(arguments, &area);
        assert!(matches!(outcome, Outcome::Ended { code: 7, loaded: None }), "{outcome:?}");
        assert_eq!(seen, "result 0\n");
    }
}

#[test]
fn kexec_is_ended_before_the_call_if_the_stage_does_not_fit() {
    let kexec = FakeKexec::compile();
    for (arguments, at, reason) in [
        ("16 0x3e0001", BEHIND, "has 16 segments already"),
        ("3 0x3e0001", FIRST_SEGMENT + 0x1000, "kexec wants 0x1000 bytes at 0x101000"),
        ("1 0x3e0001 file", BEHIND, "kexec_file_load"),
    ] {
        let (outcome, seen) = kexec.run(arguments, &area(at));
        let Outcome::Refused(why) = outcome else { panic!("{arguments}: {outcome:?}") };
        assert!(why.contains(reason), "{why}");
        assert_eq!(seen, "", "{arguments}");
    }
}

#[test]
fn an_early_exit_is_reported() {
    let area = area(BEHIND);
    let shell = |script: &str| run(&"sh".into(), &["-c".into(), script.into()], &area, None).unwrap();
    assert!(matches!(shell("exit 3"), Outcome::Ended { code: 3, loaded: None }));
    assert!(matches!(shell("kill -9 $$"), Outcome::Ended { code: 137, loaded: None }));
    assert!(run(&"/no/such/kexec".into(), &[], &area, None).is_err());
}
