//! Prints the page at a physical address of a vmcore or dump: `read_page IMAGE 0xADDRESS`.

use scanner_core::{PAGE_SIZE, PhysAddr};
use std::path::Path;
use vmcore::image::{OpenOptions, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, image, address] = &arguments[..] else { return Err("usage: read_page IMAGE 0xADDRESS".into()) };
    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16)?;

    let image = open(Path::new(image), &OpenOptions::default())?;
    let mut page = [0; PAGE_SIZE];
    image.read(PhysAddr::new(address).pfn().addr(), &mut page)?;
    for (offset, line) in (0..).step_by(16).zip(page.chunks(16)) {
        println!("{offset:03x}  {}", line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
    }
    Ok(())
}
