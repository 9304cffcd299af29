//! A scan of an image from beginning to end, as the tests need it.

use cdbitmap::frames::FrameBitmap;
use cdbitmap::image::MemoryImage;
use cdbitmap::{Error, Result};
use scanner_core::scan::{BitmapSink, SCRATCH_BYTES, Unhurried};
use scanner_core::{
    Bitmap, DumpLevel, KernelLayout, MemorySections, Pfn, PfnRange, RuleSet, Rules, Scan, VmcoreInfo,
};

/// The pages of `image` that a scan at `level` does not exclude, over all frames below `max_pfn`. Zero pages are not
/// looked for, and memory that doesn't exist is not told apart.
///
/// # Errors
/// The kernel is not understood, or its memory sections can't be read.
pub fn scan(image: &dyn MemoryImage, level: DumpLevel, rule_set: RuleSet) -> Result<FrameBitmap> {
    let facts = image.facts();
    let text = facts.vmcoreinfo.as_deref().ok_or_else(|| Error::unusable("has no VMCOREINFO"))?;
    let info = VmcoreInfo::parse(text).map_err(|e| Error::unusable("VMCOREINFO").because(e))?;
    let layout = KernelLayout::resolve(&info, None).map_err(|e| Error::unusable("layout").because(e))?;
    let end = Pfn::new(facts.max_pfn);
    let sections = MemorySections::locate(&layout, image, end, rule_set)
        .map_err(|e| Error::unusable("memory sections").because(e))?;
    let frames = PfnRange::new(Pfn::new(0), end);
    let mut result = FrameBitmap::new(facts.max_pfn);
    result.set_range(frames);
    let mut chunks = [result.words_mut()];
    let mut bitmap = Bitmap::new(frames, 63, &mut chunks).expect("the chunk has all frames");
    let mut sink = BitmapSink::new(&mut bitmap);
    let rules = Rules::new(&layout, level, rule_set);
    Scan::new(rules, &sections, facts.backed.as_slice()).run(
        image,
        end,
        &mut vec![0; SCRATCH_BYTES],
        &mut sink,
        &mut Unhurried,
    );
    Ok(result)
}
