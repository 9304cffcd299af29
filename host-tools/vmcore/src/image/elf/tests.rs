use super::super::testing::{ElfBuilder, in_memory, mapped, note, unmapped, windowed};
use super::*;
use proptest::prelude::*;
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};

fn image(bytes: &[u8]) -> ElfImage {
    ElfImage::from_bytes(in_memory(bytes)).unwrap()
}

fn error(bytes: &[u8]) -> String {
    ElfImage::from_bytes(in_memory(bytes)).unwrap_err().report()
}

fn ranges(pairs: &[(u64, u64)]) -> Vec<PfnRange> {
    pairs.iter().map(|&(start, end)| PfnRange::new(Pfn::new(start), Pfn::new(end))).collect()
}

fn read(image: &ElfImage, addr: u64, len: usize) -> Result<Vec<u8>, Unreadable> {
    let mut buf = vec![0xee; len];
    image.read(PhysAddr::new(addr), &mut buf).map(|()| buf)
}

fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE_SIZE]
}

/// Two pages of RAM, the second also listed before (as the kernel's text is), and a hole.
fn small() -> ElfBuilder {
    ElfBuilder::new()
        .load(0x2000, 0x1000, &page(0x22))
        .load(0x1000, 0x2000, &[page(0x11), page(0x33)].concat())
        .load(0x8000, 0x2000, &page(0x88))
}

#[test]
fn facts_of_a_small_core() {
    let image = image(&small().build());
    let facts = image.facts();
    assert_eq!(facts.format, ImageFormat::Elf);
    assert_eq!(facts.exists.as_slice(), ranges(&[(1, 3), (8, 10)]));
    assert_eq!(facts.backed.as_slice(), ranges(&[(1, 3), (8, 9)]));
    assert_eq!(facts.max_pfn, 10);
    assert_eq!(facts.segments.len(), 3);
    assert_eq!(facts.segments[1].virt, VirtAddr::new(0xffff_8880_0000_1000));
    assert_eq!(facts.vmcoreinfo.as_deref(), Some(&b"OSRELEASE=6.1.0\n"[..]));
    assert_eq!(facts.warnings, [""; 0]);
}

#[test]
fn the_first_pt_load_in_the_file_wins() {
    let image = image(&small().build());
    assert_eq!(read(&image, 0x1ffe, 4).unwrap(), [0x11, 0x11, 0x22, 0x22]);
    assert_eq!(read(&image, 0x8fff, 2), Err(Unreadable { addr: PhysAddr::new(0x9000) }));
    assert_eq!(read(&image, 0x5000, 1), Err(Unreadable { addr: PhysAddr::new(0x5000) }));
    assert_eq!(read(&image, u64::MAX, 9), Err(Unreadable { addr: PhysAddr::new(u64::MAX) }));
    assert_eq!(image.view(PhysAddr::new(0x2ff0), 16), Some(&[0x22; 16][..]));
    assert_eq!(image.view(PhysAddr::new(0x1ffe), 4), None, "not contiguous in the file");
    assert_eq!(image.view(PhysAddr::new(0x8fff), 2), None);
}

#[test]
fn a_file_that_is_not_mapped_reads_the_same() {
    let bytes = small().build();
    let [mapped, windowed, unmapped] =
        [mapped(&bytes), windowed(&bytes), unmapped(&bytes)].map(|b| ElfImage::from_bytes(b).unwrap());
    assert_eq!(mapped.facts().segments, unmapped.facts().segments);
    assert_eq!(mapped.facts().notes, unmapped.facts().notes);
    assert_eq!(mapped.facts().segments, windowed.facts().segments);
    for _ in 0..3 {
        // At first as it is, then through a window.
        assert_eq!(read(&mapped, 0x1ffe, 4), read(&windowed, 0x1ffe, 4));
    }
    assert_eq!(read(&mapped, 0x1ffe, 4), read(&unmapped, 0x1ffe, 4));
    assert_eq!(mapped.view(PhysAddr::new(0x2000), 1), Some(&[0x22][..]));
    assert_eq!(unmapped.view(PhysAddr::new(0x2000), 1), None);
}

#[test]
fn a_partial_page_reads_as_zeros_where_the_file_has_nothing() {
    // The first page's tail, the second page's head and middle: two pieces with a gap.
    let builder = ElfBuilder::new()
        .load(0x1c00, 0x400, &[0x1c; 0x400])
        .load(0x4000, 0x100, &[0x40; 0x100])
        .load(0x4800, 0x2000, &[0x48; 0x100]);
    let image = image(&builder.build());
    assert_eq!(image.facts().exists.as_slice(), ranges(&[(1, 2), (4, 7)]));
    assert_eq!(image.facts().backed.as_slice(), ranges(&[(4, 5)]), "only first bytes count");
    assert_eq!(image.facts().max_pfn, 7);

    let first = read(&image, 0x1000, 0x1000).unwrap();
    assert_eq!(first, [vec![0; 0xc00], vec![0x1c; 0x400]].concat());
    let second = read(&image, 0x4000, 0x1000).unwrap();
    let parts = [vec![0x40; 0x100], vec![0; 0x700], vec![0x48; 0x100], vec![0; 0x700]];
    assert_eq!(second, parts.concat());
    assert_eq!(read(&image, 0x4fff, 2), Err(Unreadable { addr: PhysAddr::new(0x5000) }));
    assert_eq!(read(&image, 0x4200, 8).unwrap(), [0; 8]);
}

#[test]
fn the_cyclic_mode_drops_the_page_that_a_pt_load_ends_within() {
    let builder =
        ElfBuilder::new().load(0x1800, 0x1400, &[]).load(0x4000, 0x1800, &[]).load(0x5800, 0x800, &[]);
    let image = image(&builder.build());
    assert_eq!(image.facts().exists.as_slice(), ranges(&[(1, 3), (4, 6)]));
    assert_eq!(image.facts().exists_in_cycles().as_slice(), ranges(&[(1, 2), (4, 6)]));
    assert!(image.facts().makedumpfile_is_cyclic(), "6 frames are no multiple of 4");
    let is_cyclic = |end: u64| {
        let image =
            ElfImage::from_bytes(in_memory(&ElfBuilder::new().load(0, end << 12, &[]).build())).unwrap();
        image.facts().makedumpfile_is_cyclic()
    };
    assert_eq!([8, 9, 16 << 20, (16 << 20) + 4].map(is_cyclic), [false, true, false, true]);
}

#[test]
fn a_pt_load_without_bytes_marks_the_page_it_cuts() {
    // makedumpfile adds a frame for an end within a page, even if start and end are the same address.
    let image = image(&ElfBuilder::new().load(0x1800, 0, &[]).load(0x5000, 0, &[]).build());
    assert_eq!(image.facts().exists.as_slice(), ranges(&[(1, 2)]));
    assert_eq!(image.facts().max_pfn, 5);
    assert!(image.facts().backed.as_slice().is_empty());
}

#[test]
fn pt_loads_without_physical_address_do_not_count() {
    let image = image(&small().load(u64::MAX, 0x1000, &page(0)).build());
    assert_eq!((image.facts().max_pfn, image.facts().segments.len()), (10, 3));
}

#[test]
fn counts_program_headers_in_section_0_if_there_are_many() {
    let mut builder = ElfBuilder { extended: true, ..ElfBuilder::new() };
    for i in 0..70_000 {
        builder = builder.load(i * 0x2000, 0x1000, &[]);
    }
    builder.loads[69_990].data = page(7);
    let bytes = builder.build();
    for file in [in_memory(&bytes), windowed(&bytes), unmapped(&bytes)] {
        let image = ElfImage::from_bytes(file).unwrap();
        assert_eq!(image.facts().segments.len(), 70_000);
        assert_eq!(image.facts().exists.count(), 70_000);
        assert_eq!(read(&image, 69_990 * 0x2000, 1).unwrap(), [7]);
    }
    assert!(error(&bytes[..100]).contains("number of program headers"), "{}", error(&bytes[..100]));
}

#[test]
fn each_cut_in_headers_or_notes_is_an_error_and_each_later_one_a_warning() {
    let bytes = small().build();
    let data = 64 + 4 * 56 + small().notes.len();
    for len in 0..data {
        let error = error(&bytes[..len]);
        assert!(error.contains("cut off inside its"), "{len}: {error}");
    }
    for len in [data, data + 1, data + 0x1fff, bytes.len() - 1] {
        let image = image(&bytes[..len]);
        let [warning] = &image.facts().warnings[..] else { panic!("no warning at {len}") };
        assert!(warning.contains(&format!("{} bytes of memory", bytes.len() - len)), "{warning}");
        let there: u64 = image.facts().segments.iter().map(|s| s.file_size).sum();
        assert_eq!(there, (len - data) as u64);
        assert_eq!(image.facts().exists.as_slice(), ranges(&[(1, 3), (8, 10)]));
    }
    let image = image(&bytes[..data + 0x1800]);
    assert_eq!(image.facts().backed.as_slice(), ranges(&[(1, 3)]));
    assert_eq!(read(&image, 0x1900, 1).unwrap(), [0], "the page is there in part");
    assert!(read(&image, 0x8000, 1).is_err());
}

#[test]
fn names_what_is_not_an_x86_64_core() {
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = small().build();
        change(&mut bytes);
        error(&bytes)
    };
    assert!(with(|b| b[18] = 183).contains("the machine is aarch64 (183), expected x86_64"));
    assert!(with(|b| (b[5], b[18], b[19]) = (2, 0, 22)).contains("the machine is s390 (22)"));
    assert!(with(|b| b[4] = 1).contains("32-bit little-endian"));
    assert!(with(|b| b[16] = 2).contains("not a core"));
    assert!(with(|b| b[0] = 0).contains("not an ELF file"));
    assert!(with(|b| b[54] = 55).contains("program headers can't be read"));
    assert!(error(&ElfBuilder::new().build()).contains("no PT_LOAD"));
    let high = ElfBuilder::new().load(1 << 52, 1, &[]);
    assert!(error(&high.build()).contains("leaves the physical address space"));
    let xen = ElfBuilder { notes: note("Xen", 0x1000001, &[]), ..small() };
    assert!(error(&xen.build()).contains("Xen"));
}

#[test]
fn tells_of_a_dump_that_makedumpfile_could_not_finish() {
    let mut bytes = small().build();
    bytes[48] = 1;
    assert!(image(&bytes).facts().warnings[0].contains("incomplete"));
}

proptest! {
    #[test]
    fn mutated_headers_never_panic(
        mutations in proptest::collection::vec((0usize..400, any::<u8>()), 1..8),
        extended: bool,
        addr in 0u64..0xc000,
    ) {
        let mut bytes = ElfBuilder { extended, ..small() }.build();
        for (at, value) in mutations {
            bytes[at] = value;
        }
        let both = [in_memory(&bytes), unmapped(&bytes)].map(ElfImage::from_bytes);
        if let [Ok(one), Ok(other)] = &both {
            prop_assert_eq!(read(one, addr, 0x1800), read(other, addr, 0x1800));
            prop_assert!(one.facts().backed.minus(&one.facts().exists).as_slice().is_empty());
        } else {
            prop_assert!(both.iter().all(Result::is_err));
        }
    }
}
