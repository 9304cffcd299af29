//! Writes the seeds of the fuzz targets: `fuzz-seeds DIRECTORY` fills `DIRECTORY/TARGET/`.

use cross_tests::fuzz::{TARGETS, seeds};
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: fuzz-seeds DIRECTORY (such as tests/fuzz/corpus)");
        std::process::exit(2);
    };
    for (name, _) in TARGETS {
        let own = directory.join(name);
        std::fs::create_dir_all(&own)?;
        for (index, seed) in seeds(name).iter().enumerate() {
            std::fs::write(own.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
