//! The command line on a vmcore with a bitmap in its memory: `dump --bitmap`, `extract`, `verify`.

use cdbitmap::commands::{Answer, CommandLine};
use clap::Parser;
use cross_tests::overlay::{MACHINE, pieces};
use page_filter::machine::Machine;
use scanner_core::info::Version;
use scanner_core::{DumpLevel, RuleSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vmcore::ErrorKind;
use vmcore::image::MemoryImage;
use vmcore_analysis::{Asked, Subject, VerifyOutcome, verify};

/// Runs `cdbitmap` with `arguments`, separated by spaces.
fn run(arguments: &str) -> vmcore::Result<Answer> {
    let words = std::iter::once("cdbitmap").chain(arguments.split_whitespace());
    CommandLine::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).run()
}

/// A directory with a vmcore of the machine whose memory contains `overlay`.
fn bench(overlay: &[(u64, Vec<u8>)]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let vmcore = directory.path().join("vmcore");
    fs::copy(MACHINE.file.path(), &vmcore).unwrap();
    let file = File::options().write(true).open(&vmcore).unwrap();
    for (at, bytes) in overlay {
        file.write_all_at(bytes, offset(&*MACHINE.image, *at)).unwrap();
    }
    (directory, vmcore)
}

/// The file offset of physical address `at`.
fn offset(image: &dyn MemoryImage, at: u64) -> u64 {
    let segments = &image.facts().segments;
    let holds = |start: u64, size: u64| (start..start + size).contains(&at);
    let segment = segments.iter().find(|s| holds(s.phys.as_u64(), s.file_size)).unwrap();
    segment.offset + (at - segment.phys.as_u64())
}

/// Whether two dumps have the same bytes.
fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).unwrap() == fs::read(b).unwrap()
}

#[test]
fn dumps_by_the_bitmap_in_memory_and_by_the_bitmap_file_are_equal() {
    for version in [Version::V1, Version::V2] {
        let (directory, vmcore) = bench(&pieces(MACHINE.file_of(version), MACHINE.site));
        let path = |name: &str| directory.path().join(name);
        let (core, address) = (vmcore.display(), MACHINE.site.at);
        for (name, source) in [("auto", "auto"), ("required", "required")] {
            let out = path(name);
            run(&format!("dump {core} {} --bitmap {source} --bitmap-address {address:#x}", out.display()))
                .unwrap();
        }
        let bitmap = path("bitmap");
        run(&format!("extract {core} -o {} --bitmap-address {address}", bitmap.display())).unwrap();
        run(&format!("dump {core} {} --bitmap {}", path("file").display(), bitmap.display())).unwrap();
        assert!(same(&path("auto"), &path("file")) && same(&path("required"), &path("file")));

        // The bitmap's frames in a free block are kept: more pages than necessary, but none missing.
        let asked = Asked { level: Some(DumpLevel::all()), ..Asked::default() };
        let machine = Machine::new(&*MACHINE.image, RuleSet::Makedumpfile).unwrap();
        let report = verify(&Subject::open(&bitmap).unwrap(), Some(&machine), asked).unwrap();
        assert_eq!(report.verdict, VerifyOutcome::KeepsMore);
    }
}

#[test]
fn without_a_bitmap_there_is_a_scan_or_an_error() {
    let mut torn = pieces(&MACHINE.v2, MACHINE.site);
    torn[0].1[100] ^= 1;
    for (overlay, address) in
        [(&[][..], ""), (&torn[..], &*format!("--bitmap-address {:#x}", MACHINE.site.at))]
    {
        let (directory, vmcore) = bench(overlay);
        let path = |name: &str| directory.path().join(name);
        let core = vmcore.display();
        run(&format!("dump {core} {} --bitmap auto {address}", path("auto").display())).unwrap();
        run(&format!("dump {core} {}", path("scan").display())).unwrap();
        assert!(same(&path("auto"), &path("scan")));
        for command in ["dump {core} {out} --bitmap required", "extract {core} -o {out}"] {
            let arguments = command.replace("{core}", &core.to_string());
            let arguments = arguments.replace("{out}", &path("no").display().to_string());
            let error = run(&format!("{arguments} {address}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
            assert!(error.report().starts_with(&core.to_string()), "{error}");
            assert!(!path("no").exists());
        }
    }
}
