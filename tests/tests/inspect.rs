//! The output of `inspect` for real vmcores and for dumps made from them.

use cross_tests::fixture::Fixture;
use page_codecs::Codec;
use page_filter::machine::Machine;
use page_filter::scan::WindowScan;
use scanner_core::{DumpLevel, RuleSet};
use vmcore::dump::kdump::{DumpOptions, write};
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::output::OutputFile;
use vmcore::progress::Silent;
use vmcore_analysis::inspect::ImageReport;

fn report(image: &dyn MemoryImage) -> String {
    ImageReport::new(image).expect("the notes can be read").to_string()
}

#[test]
fn of_a_vmcore_and_its_dump() {
    let fixture = Fixture::unpack("6.1-numa");
    let image = open(fixture.path(), &OpenOptions::default()).expect("the fixture opens");
    insta::assert_snapshot!("vmcore", report(&*image));

    let directory = tempfile::tempdir().expect("a temporary directory");
    let dump = directory.path().join("dump");
    let machine = Machine::new(&*image, RuleSet::Makedumpfile).expect("the machine is understood");
    let options = DumpOptions {
        level: 31,
        codec: Codec::Zstd,
        max_mapnr: Some(machine.frames),
        exists: Some(machine.exists()),
        ..DumpOptions::default()
    };
    let out = OutputFile::create(&dump, false).expect("the dump can be created");
    write(&*image, &mut WindowScan::new(&machine, DumpLevel::all()), &options, out, &Silent).expect("a dump");
    let image = open(&dump, &OpenOptions::default()).expect("the dump opens");
    insta::assert_snapshot!("dump", report(&*image));
}

#[test]
fn of_memory_after_a_hole() {
    let fixture = Fixture::unpack("6.12-hotplug");
    let image = open(fixture.path(), &OpenOptions::default()).expect("the fixture opens");
    insta::assert_snapshot!("hotplug", report(&*image));
}
