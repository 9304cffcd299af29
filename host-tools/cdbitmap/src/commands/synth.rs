//! `cdbitmap synth`: write a simulated machine as an ELF vmcore.

use clap::Args;
use std::fmt;
use std::path::{Path, PathBuf};
use vmcore::output::OutputFile;
use vmcore::{Error, Result};
use vmcore_synth::{
    EDGE_CASES, Fault, GENERATIONS, KernelGeneration, MemoryModel, Profile, Spec, Summary, write,
};

/// Write a simulated machine as an ELF vmcore: a sparse file with page tables, memory sections, struct pages and
/// VMCOREINFO of any kernel generation.
#[derive(Args, Debug)]
pub struct Synth {
    /// The file to write.
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(short, long)]
    pub force: bool,
    /// Memory of the machine, with a suffix: 512M, 64G, 4T.
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value = "512M")]
    pub memory: u64,
    /// What the machine does.
    #[arg(short, long, value_enum, default_value = "mixed")]
    pub profile: Profile,
    /// The kernel's generation, such as 6.12; --list names all.
    #[arg(short, long, value_name = "GENERATION", value_parser = generation, default_value = "6.12")]
    pub kernel: &'static KernelGeneration,
    /// Decides everything that is left to chance: the same command and seed write the same file.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another memory model than the usual one of the generation.
    #[arg(long, value_enum)]
    pub memory_model: Option<MemoryModel>,
    /// Five levels of page tables.
    #[arg(long)]
    pub five_level: bool,
    /// NUMA nodes.
    #[arg(long, default_value_t = 1)]
    pub nodes: u32,
    /// Add two sections behind a hole, the second of them not online.
    #[arg(long)]
    pub hotplug: bool,
    /// Leave out the values that users add by hand to the VMCOREINFO of kernels before 3.9; free pages are then found
    /// by the free lists.
    #[arg(long)]
    pub no_hand_keys: bool,
    /// Pages that a filter easily gets wrong; the mixed profile always has them.
    #[arg(long)]
    pub edge_cases: bool,
    /// Leave all pages without contents.
    #[arg(long)]
    pub no_contents: bool,
    /// Write all of the array of struct page, as a copied vmcore has it, instead of leaving holes where it is zeros: 16
    /// GiB for each TiB of the machine.
    #[arg(long)]
    pub dense: bool,
    /// Make the machine defective; may be given several times.
    #[arg(long, value_enum, value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// List the generations and the edge cases instead of writing a file.
    #[arg(long)]
    pub list: bool,
}

impl Synth {
    /// Runs the command.
    ///
    /// # Errors
    /// A machine that can't exist, or a file that can't be written.
    pub fn run(&self) -> Result<()> {
        let Some(path) = self.output.as_ref().filter(|_| !self.list) else {
            return super::print::print(List);
        };
        let spec = Spec {
            generation: self.kernel,
            memory: self.memory,
            profile: self.profile,
            model: self.memory_model,
            five_level: self.five_level,
            nodes: self.nodes,
            hotplug: self.hotplug,
            hand_keys: !self.no_hand_keys,
            edge_cases: self.edge_cases || self.profile == Profile::Mixed,
            contents: !self.no_contents,
            dense: self.dense,
            faults: self.fault.clone(),
            seed: self.seed,
        };
        let out = OutputFile::create(path, self.force)?;
        if !out.can_seek() {
            return Err(Error::unusable("a machine is written to a file with holes, not to a pipe")
                .at(path)
                .with_hint("Give the name of a file."));
        }
        let summary = write(&spec, out.file()).map_err(|error| error.at(path))?;
        out.finish()?;
        super::print::print(Done { path, kernel: self.kernel, summary: &summary })
    }
}

/// What was written, for people.
struct Done<'a> {
    path: &'a Path,
    kernel: &'a KernelGeneration,
    summary: &'a Summary,
}

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (release, frames) = (self.kernel.release, self.summary.frames);
        writeln!(f, "{}: Linux {release}, {frames} frames", self.path.display())?;
        writeln!(f, "At dump level 31 a filter finds:")?;
        let expected = self.summary.expected;
        for (name, pages) in [
            ("non-private cache", expected.cache),
            ("private cache", expected.cache_private),
            ("user data", expected.user),
            ("free", expected.free),
            ("hwpoison", expected.hwpoison),
            ("offline", expected.offline),
        ] {
            writeln!(f, "  {name:<18}{pages:>12}")?;
        }
        Ok(())
    }
}

/// What `--list` prints.
struct List;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Kernel generations:")?;
        GENERATIONS.iter().try_for_each(|generation| writeln!(f, "  {}", generation.name))?;
        writeln!(f, "Edge cases:")?;
        EDGE_CASES.iter().try_for_each(|case| writeln!(f, "  {}", case.what))
    }
}

fn generation(name: &str) -> Result<&'static KernelGeneration, String> {
    KernelGeneration::named(name).ok_or_else(|| {
        let names: Vec<&str> = GENERATIONS.iter().map(|generation| generation.name).collect();
        format!("no such generation; there are {}", names.join(", "))
    })
}

/// Bytes from a number with a binary suffix.
fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| "a size is a number with K, M, G or T".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("4t"), Ok(4 << 40));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("M").is_err());
        assert!(size("99999999999T").is_err());
    }
}
