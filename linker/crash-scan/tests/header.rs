//! The C header says what the library does: names and numbers, sizes and offsets, and a scan by a C program.

use crash_scan::{BitmapChunk, DirectMapSetup, Range, STATE_ALIGN, STATE_SIZE, ScanResult, Setup, Status};
use scanner_core::info::v2::Header;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = include_str!("../include/crash_scan.h");

#[test]
fn the_header_names_every_status_and_the_states_size() {
    let mut expected = String::from("enum crash_scan_status {\n");
    for (name, value, meaning) in Status::C_NAMES {
        writeln!(expected, "\t/* {meaning} */\n\t{name} = {value},").unwrap();
    }
    expected.push_str("};\n");
    assert!(HEADER.contains(&expected), "the header should have:\n{expected}");
    for (name, value) in [("SIZE", STATE_SIZE), ("ALIGN", STATE_ALIGN)] {
        let line = format!("#define CRASH_SCAN_STATE_{name} {value}\n");
        assert!(HEADER.contains(&line), "the header should have:\n{line}");
    }
}

/// The assertions that make a C program compile only if the structure in C is what `$rust` is.
macro_rules! same_layout {
    ($rust:ident, $c_name:literal, $($field:ident)*) => {{
        // A field that is not listed makes this pattern fail to compile.
        let _ = |$rust { $($field: _),* }: $rust| ();
        let mut text = format!("_Static_assert(sizeof(struct {}) == {}, \"size\");\n", $c_name, size_of::<$rust>());
        $(
            let (name, offset) = (stringify!($field), core::mem::offset_of!($rust, $field));
            writeln!(text, "_Static_assert(offsetof(struct {}, {name}) == {offset}, \"{name}\");", $c_name).unwrap();
        )*
        text
    }};
}

#[test]
fn structures_have_the_same_layout_in_c() {
    let mut program = String::from("#include <crash_scan.h>\n");
    program += &same_layout!(Range, "crash_scan_range", first end);
    program += &same_layout!(BitmapChunk, "crash_scan_chunk", address words size);
    program += &same_layout!(
        Setup, "crash_scan_setup", vmcoreinfo vmcoreinfo_size phys_base context read view checkpoint now ranges range_count
        chunks chunk_count chunk_shift level rules producer first_frame frame_count info info_address info_size info_v1
        clock
    );
    program += &same_layout!(
        ScanResult, "crash_scan_result", next_frame free_pages unaccepted_pages cache_pages cache_private_pages
        user_pages hwpoison_pages offline_pages unreadable_pages bad_order_pages
    );
    program += &same_layout!(
        DirectMapSetup, "crash_direct_map", ranges range_count tables table_count tables_address offset sme_mask
        five_level large_pages
    );
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("layout.c");
    std::fs::write(&source, program).unwrap();
    compile(&[Path::new("-c"), &source], &directory.path().join("layout.o"));
}

#[test]
fn a_c_program_scans_a_machine() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("machine");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine.c");
    if !compile(&[&source, &library()], &program) {
        return;
    }
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The info that it wrote is one that a reader accepts.
    let header = Header::decode(&output.stdout, 0x20_0000).unwrap();
    assert_eq!(header.user_pages, 100);
    assert_eq!(header.build_id(), [0x00, 0xff, 0x10]);
    assert!(header.chunks(&output.stdout).unwrap().iter().all(|chunk| chunk.is_sealed()));
}

#[test]
fn the_kernel_module_has_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let module = include_str!("../../kernel-module/main.c");
    assert!(module.contains(&format!("MODULE_VERSION(\"{version}\");\n")));
    let dkms = include_str!("../../kernel-module/dkms.conf");
    assert!(dkms.contains(&format!("PACKAGE_VERSION=\"{version}\"\n")));
}

/// The static library for this machine. Cargo builds it for nobody but whoever asks: a test can't depend on it.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().join("for-c");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--package", env!("CARGO_PKG_NAME"), "--target-dir"]).arg(&target);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug/libcrash_scan.a")
}

/// Compiles `inputs` with the C compiler; `false` if there is none on this machine.
fn compile(inputs: &[&Path], output: &Path) -> bool {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include);
    match compiler.args(inputs).arg("-o").arg(output).output() {
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            true
        }
        Err(error) => {
            eprintln!("not tested, since there is no C compiler: {error}");
            false
        }
    }
}
