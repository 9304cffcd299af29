use cdbitmap::{frames::FrameBitmap, image::MemoryImage, image::elf::ElfCore, machine::Machine, scan::scan};
use scanner_core::{DumpLevel, RuleSet, scan::Unhurried};
fn main() {
    let (core, refdir) = (std::env::args().nth(1).unwrap(), std::env::args().nth(2).unwrap());
    let image = ElfCore::open(core.as_ref()).unwrap();
    let t = std::time::Instant::now();
    let machine = Machine::new(&image, RuleSet::Makedumpfile).unwrap();
    println!(
        "{} frames {} setup {:?} dead {:?}",
        machine.os_release(),
        machine.frames,
        t.elapsed(),
        machine.dead_rules(DumpLevel::all())
    );
    let mut bad = 0;
    for level in 0..32 {
        let mut s = scan(&machine, DumpLevel::from_number(level).unwrap(), &mut Unhurried);
        let exists = FrameBitmap::from_ranges(&image.facts().exists, machine.frames);
        s.bitmap.intersect(&exists);
        let r = std::fs::read(format!("{refdir}/d{level:02}.bitmap2")).unwrap();
        let want = FrameBitmap::from_bytes(&r, machine.frames);
        let diff: u64 =
            want.words().iter().zip(s.bitmap.words()).map(|(a, b)| (a ^ b).count_ones() as u64).sum();
        if diff != 0 || level == 31 {
            println!(
                "level {level}: {diff} differ; kept {} want {} {:?}",
                s.bitmap.count(),
                want.count(),
                s.findings
            );
        }
        bad += diff;
    }
    println!("TOTAL {bad}");
}
