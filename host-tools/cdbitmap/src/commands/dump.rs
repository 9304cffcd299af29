//! `cdbitmap dump`: writes the filtered dump.

use super::arguments::{ImageArgs, parse_level, parse_physical, parse_rules};
use super::print::warn;
use crate::progress;
use clap::Args;
use page_codecs::Codec;
use page_filter::choose::{Choice, Search, Source, choose, needs_kernel};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{MemoryBitmapReport, Request, SearchHints};
use page_filter::scan::ScanFindings;
use scanner_core::{DumpLevel, PhysAddr, RuleSet};
use serde::Serialize;
use std::convert::Infallible;
use std::path::PathBuf;
use vmcore::dump::kdump::{DumpOptions, DumpReport, write};
use vmcore::image::file::Access;
use vmcore::output::{OutputFile, is_stdout};
use vmcore::units::human_bytes;
use vmcore::{Error, Result};

/// Writes a filtered dump.
#[derive(Args, Debug)]
pub struct Dump {
    #[command(flatten)]
    image: ImageArgs,
    /// The dump to write; - is standard output, with --flattened
    output: PathBuf,
    /// The classes of pages to leave out: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", allow_hyphen_values = true,
        value_parser = parse_level)]
    level: DumpLevel,
    /// Take the pages from a bitmap instead of scanning: auto (the one that the first kernel left in memory, or a scan
    /// if it cannot be used), required (that one, or no dump), or a bitmap file
    #[arg(long, value_name = "auto|required|FILE", value_parser = parse_source)]
    bitmap: Option<Source>,
    /// The physical address of that bitmap, if neither the image nor the kernel command line gives it
    #[arg(long, value_name = "ADDRESS", requires = "bitmap", value_parser = parse_physical)]
    bitmap_address: Option<PhysAddr>,
    /// Which rules decide: makedumpfile (its own, bit for bit) or kernel (the kernel's predicates)
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    #[command(flatten)]
    codec: CodecArgs,
    /// Compress with this many threads
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    num_threads: u16,
    /// Process this many KiB of bitmap at a time; the dump does not depend on it
    #[arg(long, value_name = "KIB", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
    cyclic_buffer: u32,
    /// Map only small windows of the image, as always for /proc/vmcore: to measure a dump of /proc/vmcore on a file
    #[arg(long)]
    windows: bool,
    /// Write a flattened stream, which needs no seeking
    #[arg(short = 'F', long)]
    flattened: bool,
    /// Replace the output file if it exists
    #[arg(short, long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn parse_source(text: &str) -> Result<Source, Infallible> {
    Ok(match text {
        "auto" => Source::Auto,
        "required" => Source::Required,
        path => Source::File(path.into()),
    })
}

/// The compression of pages, with makedumpfile's option letters. The default is none.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
struct CodecArgs {
    /// Compress each page with zlib
    #[arg(short = 'c')]
    zlib: bool,
    /// Compress each page with lzo
    #[arg(short = 'l')]
    lzo: bool,
    /// Compress each page with snappy
    #[arg(short = 'p')]
    snappy: bool,
    /// Compress each page with zstd
    #[arg(short = 'z')]
    zstd: bool,
}

impl CodecArgs {
    fn codec(self) -> Codec {
        match self {
            Self { zlib: true, .. } => Codec::Zlib,
            Self { lzo: true, .. } => Codec::Lzo,
            Self { snappy: true, .. } => Codec::Snappy,
            Self { zstd: true, .. } => Codec::Zstd,
            _ => Codec::Raw,
        }
    }
}

/// The report on a dump, as JSON.
#[derive(Serialize)]
struct Report {
    output: PathBuf,
    level: u8,
    codec: &'static str,
    frames: u64,
    existing: u64,
    kept: u64,
    zero: u64,
    compressed: u64,
    unreadable: u64,
    bytes: u64,
    /// Present if the command line requests a bitmap in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    bitmap: Option<InMemory>,
}

/// The result of the search for a bitmap in memory, as JSON.
#[derive(Serialize)]
struct InMemory {
    used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<MemoryBitmapReport>,
    /// The reason why no bitmap is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Prints the result of the search for a bitmap in memory on standard error.
fn report_search(search: Search) -> InMemory {
    match search {
        Search::Used(report) => {
            warn(format_args!("bitmap: {report}"));
            InMemory { used: true, found: Some(*report), reason: None }
        }
        Search::NotUsed { reason, scanned } => {
            let instead = if scanned { "memory is scanned" } else { "every page is kept" };
            warn(format_args!("bitmap: not used, {instead} instead: {reason}"));
            InMemory { used: false, found: None, reason: Some(reason) }
        }
    }
}

impl Dump {
    /// Runs the command.
    ///
    /// # Errors
    /// Fails if the image cannot be scanned, the bitmap cannot be used, or the dump cannot be written.
    pub fn run(&self) -> Result<()> {
        let image = self.image.open_by(if self.windows { Access::Windows } else { Access::Pieces })?;
        let at_image = |error: Error| error.at(&self.image.image);
        let to_stdout = is_stdout(&self.output);
        let mut options = DumpOptions {
            level: u32::from(self.level.bits()),
            codec: self.codec.codec(),
            threads: usize::from(self.num_threads),
            buffer_bytes: u64::from(self.cyclic_buffer) << 10,
            flattened: self.flattened || to_stdout,
            ..DumpOptions::default()
        };
        let machine = match Machine::new(&*image, self.rules) {
            Ok(machine) => Some(machine),
            // Levels 0 and 1 do not need the kernel's layout.
            Err(error) if !needs_kernel(self.level) => {
                warn(format_args!("{}\n  Every page is kept.", at_image(error).report()));
                None
            }
            Err(error) => return Err(at_image(error)),
        };
        if let Some(machine) = &machine {
            options.max_mapnr = Some(machine.frames);
            options.exists = Some(machine.exists());
        }
        let Choice { mut decider, search } = self.choose(machine.as_ref())?;
        let in_memory = search.map(report_search);
        let mut inputs = vec![self.image.image.as_path()];
        if let Some(Source::File(path)) = &self.bitmap {
            inputs.push(path);
        }
        let out = OutputFile::create_beside(&self.output, self.force, &inputs)?;
        let report = write(&*image, &mut decider, &options, out, &*progress::for_stderr())?;
        if let (Some(findings), Some(machine)) = (decider.findings(), &machine) {
            self.warn_about_kept(findings, machine);
        }
        self.print_report(&report, options.codec, in_memory, to_stdout)
    }

    /// Chooses what decides about the pages.
    fn choose<'m>(&self, machine: Option<&'m Machine<'m>>) -> Result<Choice<'m>> {
        let source = self.bitmap.as_ref().unwrap_or(&Source::Scan);
        let request = Request { level: self.level, rules: self.rules };
        let hints = || SearchHints::for_image(&self.image.image, self.bitmap_address);
        choose(source, machine, request, &hints, usize::from(self.num_threads)).map_err(
            |error| match source {
                Source::Required => error.at(&self.image.image),
                _ => error,
            },
        )
    }

    /// Warns about rules that do not work and unreadable `struct page`s, which make the dump larger than expected.
    fn warn_about_kept(&self, findings: &ScanFindings, machine: &Machine<'_>) {
        for rule in machine.unavailable_rules(self.level) {
            warn(format_args!("{}: {}", self.image.image.display(), rule.reason()));
        }
        if let Some((frames, error)) = findings.unreadable.first() {
            warn(format_args!(
                "{}: {} pages are kept because their struct pages cannot be read, the first are frames {frames}: \
                 {error}",
                self.image.image.display(),
                findings.unreadable_frames
            ));
        }
    }

    fn print_report(
        &self,
        report: &DumpReport,
        codec: Codec,
        in_memory: Option<InMemory>,
        to_stdout: bool,
    ) -> Result<()> {
        if report.unreadable > 0 {
            let first = report.first_unreadable.map(|pfn| pfn.to_string()).unwrap_or_default();
            warn(format_args!(
                "{}: {} pages cannot be read, the first is frame {first}; the dump has zeros in their place",
                self.image.image.display(),
                report.unreadable
            ));
        }
        if self.json && !to_stdout {
            return super::print::print_json(&Report {
                output: self.output.clone(),
                level: self.level.bits(),
                codec: codec.name(),
                frames: report.max_mapnr,
                existing: report.existing,
                kept: report.kept,
                zero: report.zero,
                compressed: report.compressed,
                unreadable: report.unreadable,
                bytes: report.written,
                bitmap: in_memory,
            });
        }
        let compressed = match codec {
            Codec::Raw => "none compressed".to_owned(),
            codec => format!("{} compressed by {}", report.compressed, codec.name()),
        };
        let text = format!(
            "{}: {} of {} pages at dump level {}, {} ({} pages of zeros, {compressed})",
            self.output.display(),
            report.kept,
            report.existing,
            self.level.bits(),
            human_bytes(report.written),
            report.zero,
        );
        if to_stdout {
            warn(text);
        } else if let Err(error) = super::print::print(text + "\n") {
            // The dump is complete, so a failure to print the report is only a warning.
            warn(error.report());
        }
        Ok(())
    }
}
