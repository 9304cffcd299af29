//! What a bitmap file says, for people and for programs.

use super::check_machine::hex;
use super::info::Info;
use super::reader::{BitmapReader, Survey};
use super::stopped::stopped_by;
use scanner_core::PhysicalMemory;
use scanner_core::info::v2::{Cause, Header, NOT_COUNTED, PAGE_FAULT, exception_name};
use scanner_core::info::{Version, v1};
use serde::Serialize;
use std::fmt;
use vmcore::Result;

/// What a bitmap file says, and what its bits show. What the format or the producer doesn't record is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// The first page frame.
    pub first_frame: u64,
    /// Page frames.
    pub frames: u64,
    /// Page frames that the bitmap keeps.
    pub kept_frames: u64,
    /// Page frames that it excludes.
    pub excluded_frames: u64,
    /// Excluded and kept pages as the producer counted them.
    pub counts: Vec<CountReport>,
    /// The scan; absent in version 1.
    pub scan: Option<RecordedScan>,
    /// The chunks.
    pub chunks: ChunkReport,
}

/// One of the producer's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountReport {
    /// The page class, or why pages are kept.
    pub class: &'static str,
    /// Whether these pages are kept, or excluded.
    pub kept: bool,
    /// How many.
    pub pages: u64,
}

/// How the bitmap came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedScan {
    /// Who wrote the bitmap.
    pub producer: &'static str,
    /// How far the scan got.
    pub state: &'static str,
    /// The same in words.
    pub state_meaning: &'static str,
    /// What stopped the scan, in words.
    pub stopped_by: Option<String>,
    /// The exception that stopped it.
    pub exception: Option<ExceptionReport>,
    /// The dump level.
    pub dump_level: Option<u32>,
    /// The rule set.
    pub rules: &'static str,
    /// The first page frame that is not decided.
    pub scanned_up_to: u64,
    /// Nanoseconds of setup, scan and sealing; 0 if not measured.
    pub nanoseconds: [u64; 3],
    /// The clock of these times.
    pub clock: Option<String>,
    /// The first address that could not be read.
    pub first_unreadable: Option<u64>,
    /// The kernel's release.
    pub kernel_release: Option<String>,
    /// The kernel's build id, in hexadecimal.
    pub build_id: Option<String>,
    /// CRC-32C of the VMCOREINFO text.
    pub vmcoreinfo_crc: Option<u32>,
}

/// An exception of the processor that the producer ran into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExceptionReport {
    /// Its number.
    pub number: u32,
    /// Its name, if it has one.
    pub name: Option<&'static str>,
    /// Its error code.
    pub error_code: u64,
    /// The instruction, counted from the start of the producer's image.
    pub at: u64,
    /// The address that a page fault was about.
    pub address: Option<u64>,
}

/// The pieces of the bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChunkReport {
    /// How many there are.
    pub total: usize,
    /// Bytes in all of them.
    pub bytes: u64,
    /// How many have the checksum that the table gives.
    pub sealed: u32,
    /// How many have none.
    pub unsealed: u32,
    /// The numbers of those that have another one.
    pub damaged: Vec<u32>,
}

impl<M: PhysicalMemory> BitmapReader<M> {
    /// Reads all of the bitmap, and says what it is. A damaged chunk is part of the report, not an error.
    ///
    /// # Errors
    /// If a chunk can't be read.
    pub fn describe(&self) -> Result<Report> {
        Ok(self.report(&self.survey()?))
    }

    /// What the bitmap is, of which `survey` has looked at every bit.
    pub fn report(&self, survey: &Survey) -> Report {
        let frames = self.info().frames();
        let (counts, scan) = match self.info() {
            Info::V1(info) => (counts_v1(info), None),
            Info::V2(header) => (counts_v2(header), Some(scan(header))),
        };
        Report {
            version: match self.info().version() {
                Version::V1 => 1,
                Version::V2 => 2,
            },
            first_frame: frames.start.as_u64(),
            frames: frames.len(),
            kept_frames: survey.kept,
            excluded_frames: frames.len() - survey.kept,
            counts,
            scan,
            chunks: self.chunk_report(survey),
        }
    }

    fn chunk_report(&self, survey: &Survey) -> ChunkReport {
        ChunkReport {
            total: self.chunks().len(),
            bytes: self.chunks().iter().map(|(_, chunk)| chunk.size).sum(),
            sealed: survey.sealed,
            unsealed: survey.unsealed,
            damaged: survey.damaged.iter().map(|chunk| chunk.index).collect(),
        }
    }
}

fn counts_v1(info: &v1::Info) -> Vec<CountReport> {
    [
        ("cache", info.cache_pages),
        ("cache_private", info.cache_private_pages),
        ("user", info.user_pages),
        ("free", info.free_pages),
        ("hwpoison", info.hwpoison_pages),
    ]
    .map(|(class, pages)| CountReport { class, kept: false, pages })
    .to_vec()
}

fn counts_v2(header: &Header) -> Vec<CountReport> {
    let counts = [
        ("zero", false, header.zero_pages),
        ("cache", false, header.cache_pages),
        ("cache_private", false, header.cache_private_pages),
        ("user", false, header.user_pages),
        ("free", false, header.free_pages),
        ("unaccepted", false, header.unaccepted_pages),
        ("hwpoison", false, header.hwpoison_pages),
        ("offline", false, header.offline_pages),
        ("unreadable", true, header.unreadable_pages),
        ("unscanned", true, header.unscanned_pages),
        ("bad_order", true, header.bad_order_pages),
    ];
    let recorded = counts.into_iter().filter(|(_, _, pages)| *pages != NOT_COUNTED);
    recorded.map(|(class, kept, pages)| CountReport { class, kept, pages }).collect()
}

fn scan(header: &Header) -> RecordedScan {
    let meaning = scanner_core::info::v2::State::CODES.iter().find(|code| code.value == header.state.code());
    RecordedScan {
        producer: header.producer.name(),
        state: header.state.name(),
        state_meaning: meaning.map_or("", |code| code.meaning),
        stopped_by: stopped_by(header),
        exception: (header.cause == Cause::Exception).then(|| exception(header)),
        dump_level: header.level(),
        rules: header.rules.name(),
        scanned_up_to: header.scanned_up_to,
        nanoseconds: [header.setup_ns, header.scan_ns, header.seal_ns],
        clock: recorded(header.clock()),
        first_unreadable: (header.first_unreadable != 0).then_some(header.first_unreadable),
        kernel_release: recorded(header.kernel_release()),
        build_id: recorded(&hex(header.build_id())),
        vmcoreinfo_crc: (header.vmcoreinfo_crc != 0).then_some(header.vmcoreinfo_crc),
    }
}

fn exception(header: &Header) -> ExceptionReport {
    let number = header.cause_number;
    ExceptionReport {
        number,
        name: exception_name(number),
        error_code: header.exception_error,
        at: header.exception_at,
        address: (number == PAGE_FAULT).then_some(header.exception_address),
    }
}

fn recorded(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<17} {value}");
        line("format", &format_args!("crash_dump_bitmap_info version {}", self.version))?;
        let end = self.first_frame + self.frames;
        line("page frames", &format_args!("{} ({:#x}..{end:#x})", self.frames, self.first_frame))?;
        line("kept", &Share(self.kept_frames, self.frames))?;
        line("excluded", &Share(self.excluded_frames, self.frames))?;
        for count in &self.counts {
            let verb = match (count.class, count.pages) {
                ("unreadable", 1..) => "kept, since their struct pages can't be read",
                _ if count.kept => "kept",
                _ => "excluded",
            };
            line(&format!("  {}", count.class), &format_args!("{} {verb}", count.pages))?;
        }
        if let Some(scan) = &self.scan {
            line("producer", &scan.producer)?;
            line("state", &format_args!("{}: {}", scan.state, scan.state_meaning))?;
            if let Some(cause) = &scan.stopped_by {
                line("stopped by", cause)?;
            }
            line("scanned up to", &format_args!("{:#x}", scan.scanned_up_to))?;
            line("dump level", &Optional(scan.dump_level))?;
            line("rules", &scan.rules)?;
            let [setup, scan_time, seal] = scan.nanoseconds;
            let clock = scan.clock.as_deref().unwrap_or("clock not recorded");
            line("setup, scan, seal", &format_args!("{setup} ns, {scan_time} ns, {seal} ns ({clock})"))?;
            if let Some(addr) = scan.first_unreadable {
                line("first unreadable", &format_args!("{addr:#x}"))?;
            }
            line("kernel release", &Optional(scan.kernel_release.as_ref()))?;
            line("build id", &Optional(scan.build_id.as_ref()))?;
            line("vmcoreinfo crc32c", &Optional(scan.vmcoreinfo_crc.map(|crc| format!("{crc:#010x}"))))?;
        }
        let chunks = &self.chunks;
        line(
            "chunks",
            &format_args!(
                "{} of {} bytes: {} sealed, {} without checksum, {} damaged",
                chunks.total,
                chunks.bytes,
                chunks.sealed,
                chunks.unsealed,
                chunks.damaged.len()
            ),
        )?;
        for index in &chunks.damaged {
            line("  damaged", &format_args!("chunk {index}"))?;
        }
        Ok(())
    }
}

/// A part of a whole, with its percentage.
struct Share(u64, u64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1} %)", self.0, 100.0 * self.0 as f64 / self.1.max(1) as f64)
    }
}

/// A value that may not be recorded.
struct Optional<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("not recorded"),
        }
    }
}
