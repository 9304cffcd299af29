//! Version 2: a header with the producer and the state of the scan, a table of chunks, and checksums.
//!
//! The header and the chunk table after it are one physically contiguous *area*. The bitmap consists of chunks, which
//! need not be adjacent. Each chunk except the last has `1 << chunk_shift` frames.
//!
//! Bits start as 1 and are cleared only by a finished decision, so the bitmap of a scan that stopped early is a valid
//! superset. A producer writes the header at least three times: with state `empty` at setup, with `scanning` before it
//! clears the first bit, and with the final state when the scan ends.

pub use super::chunks::{ChunkEntry, ChunkGeometry, ChunkTable};
pub use super::codes::{Cause, MACHINE_CHECK, PAGE_FAULT, Producer, RecordedRules, State, exception_name};

use super::chunks::chunks_for;
use super::codes::LAST_VECTOR;
use super::error::{ADDRESS_END, Expected, InfoError, between, exactly, multiple_of};
use super::wire::{array_at, put_array, wire_struct};
use crate::addr::{PAGE_SHIFT, PHYS_ADDR_BITS, Pfn, PfnRange};
use crate::crc32c::Crc32c;
use crate::rules::{Counters, DumpLevel, PageClass, RuleSet};
use core::mem::offset_of;

/// The first bytes of the header.
pub const MAGIC: [u8; 8] = *b"CDBITMAP";
/// The value of [`Header::version`].
pub const VERSION: u32 = 2;
/// The value of [`Header::dump_level`] if the level is not recorded.
pub const LEVEL_NOT_RECORDED: u32 = u32::MAX;
/// The value of a page count that the producer did not make.
pub const NOT_COUNTED: u64 = u64::MAX;
/// The largest dump level: all bits of makedumpfile's `-d`.
pub const MAX_DUMP_LEVEL: u32 = 31;
/// The smallest [`Header::chunk_shift`]: one page of bitmap, for 128 MiB of memory.
pub const MIN_CHUNK_SHIFT: u32 = 15;
/// The largest [`Header::chunk_shift`]: one chunk for all frames of x86_64's physical address space.
pub const MAX_CHUNK_SHIFT: u32 = PHYS_ADDR_BITS - PAGE_SHIFT;
/// The largest number of chunks. If each chunk is one of the buddy allocator's largest blocks (4 MiB, for 128 GiB of
/// memory), the bitmap covers 512 TiB. Larger machines need larger chunks, which they reserve at boot.
pub const MAX_CHUNKS: u32 = 4096;
/// The largest [`Header::chunk_table`]: the table starts in the header's page, or at the start of the next page.
pub const MAX_TABLE_OFFSET: u32 = 4096;
/// The first frame of a bitmap is a multiple of this, so that parts of a bitmap start at a word.
pub const FRAME_ALIGNMENT: u64 = 64;

/// Offset of the version, in this version and all later ones.
pub(super) const VERSION_OFFSET: usize = offset_of!(Header, version);

wire_struct! {
    /// The header. Bit `n & 7` of byte `n >> 3` of the bitmap is the bit of frame `first_frame + n`; 1 means "dump the
    /// page". All numbers are little-endian.
    pub struct Header, "crash_dump_bitmap_info_v2", 512 bytes {
        /// The bytes "CDBITMAP".
        0 => magic: [u8; 8], "uint8_t[8]";
        /// Version of the format, 2.
        8 => version: u32, "uint32_t";
        /// Size of this structure in bytes, 512.
        12 => header_size: u32, "uint32_t";
        /// Physical address of this structure (in a file: 0), a multiple of 8.
        16 => self_address: u64, "uint64_t";
        /// Producer of the bitmap; see the producers.
        24 => producer: Producer, "uint32_t";
        /// State of the scan; see the states.
        28 => state: State, "uint32_t";
        /// Dump level of the scan, 0 to 31; 0xffffffff if not recorded.
        32 => dump_level: u32, "uint32_t";
        /// Rule set that decided about the pages; see the rule sets.
        36 => rules: RecordedRules, "uint32_t";
        /// First page frame of the bitmap, a multiple of 64.
        40 => first_frame: u64, "uint64_t";
        /// Number of page frames in the bitmap, at least 1.
        48 => frame_count: u64, "uint64_t";
        /// First page frame that is not decided; in state "scanning" a lower bound.
        56 => scanned_up_to: u64, "uint64_t";
        /// Binary logarithm of the frames of each chunk except the last, 15 to 40.
        64 => chunk_shift: u32, "uint32_t";
        /// Binary logarithm of the page size, 12.
        68 => page_shift: u32, "uint32_t";
        /// Offset of the chunk table from this structure, 512 to 4096, a multiple of 8.
        72 => chunk_table: u32, "uint32_t";
        /// Number of chunks, 1 to 4096: frame_count divided by the frames of a chunk, rounded up.
        76 => chunk_count: u32, "uint32_t";
        /// Size of an entry of the chunk table in bytes, 24.
        80 => chunk_entry_size: u32, "uint32_t";
        /// CRC-32C from the start of this structure to the end of the chunk table, with this field as 0.
        84 => header_crc: u32, "uint32_t";
        /// Physical address of the first memory that could not be read; 0 if there was none.
        88 => first_unreadable: u64, "uint64_t";
        /// Excluded pages that hold only zeros; only a host tool searches for them.
        96 => zero_pages: u64, "uint64_t";
        /// Excluded pages of the non-private page cache.
        104 => cache_pages: u64, "uint64_t";
        /// Excluded pages of the private page cache.
        112 => cache_private_pages: u64, "uint64_t";
        /// Excluded pages of user data.
        120 => user_pages: u64, "uint64_t";
        /// Excluded free pages, without the unaccepted ones.
        128 => free_pages: u64, "uint64_t";
        /// Excluded pages that are hardware poisoned.
        136 => hwpoison_pages: u64, "uint64_t";
        /// Excluded pages that are logically offline.
        144 => offline_pages: u64, "uint64_t";
        /// Excluded pages that a confidential guest has not accepted; makedumpfile counts them as free.
        152 => unaccepted_pages: u64, "uint64_t";
        /// Pages kept because their struct page could not be read.
        160 => unreadable_pages: u64, "uint64_t";
        /// Pages kept because the scan stopped before it reached them.
        168 => unscanned_pages: u64, "uint64_t";
        /// Pages kept because they are marked free but have an order that is out of range.
        176 => bad_order_pages: u64, "uint64_t";
        /// Duration of the setup (layout, addresses, chunks) in nanoseconds; 0 if not measured.
        184 => setup_ns: u64, "uint64_t";
        /// Duration of the scan in nanoseconds; 0 if not measured.
        192 => scan_ns: u64, "uint64_t";
        /// Duration of sealing the chunks in nanoseconds; 0 if not measured.
        200 => seal_ns: u64, "uint64_t";
        /// Name of the clock of these durations, such as "tsc 2893 MHz"; ends with a zero byte.
        208 => clock: [u8; 24], "char[24]";
        /// CRC-32C of the VMCOREINFO text that the scan used; 0 if not recorded.
        232 => vmcoreinfo_crc: u32, "uint32_t";
        /// Size of the kernel's build ID in bytes, 0 to 20; 0 if not recorded.
        236 => build_id_size: u32, "uint32_t";
        /// The kernel's build ID; the bytes after it are 0.
        240 => build_id: [u8; 20], "uint8_t[20]";
        /// The kernel's release, as printed by uname -r; ends with a zero byte.
        260 => kernel_release: [u8; 65], "char[65]";
        /// Zero.
        325 => padding: [u8; 3], "uint8_t[3]";
        /// Cause of the stop, in more detail than the state; see the causes.
        328 => cause: Cause, "uint32_t";
        /// Number of the exception, or status of the scanner; 0 for other causes.
        332 => cause_number: u32, "uint32_t";
        /// Error code of the exception; 0 if it has none.
        336 => exception_error: u64, "uint64_t";
        /// Offset of the instruction that caused the exception in the producer's image, modulo 2^64.
        344 => exception_at: u64, "uint64_t";
        /// Address whose access caused a page fault; 0 for other exceptions.
        352 => exception_address: u64, "uint64_t";
        /// Zero. Reserved for later versions.
        360 => reserved: [u8; 152], "uint8_t[152]";
    }
}

impl Header {
    /// The header of a bitmap of `frame_count` frames from `first_frame` on, in chunks of `1 << chunk_shift` frames.
    /// Its state is `empty`; producer, dump level and rule set are not recorded.
    pub const fn new(first_frame: Pfn, frame_count: u64, chunk_shift: u32) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            header_size: Self::SIZE as u32,
            self_address: 0,
            producer: Producer::NotRecorded,
            state: State::Empty,
            dump_level: LEVEL_NOT_RECORDED,
            rules: RecordedRules::NotRecorded,
            first_frame: first_frame.as_u64(),
            frame_count,
            scanned_up_to: first_frame.as_u64(),
            chunk_shift,
            page_shift: PAGE_SHIFT,
            chunk_table: Self::SIZE as u32,
            chunk_count: chunks_for(frame_count, chunk_shift),
            chunk_entry_size: ChunkEntry::SIZE as u32,
            header_crc: 0,
            first_unreadable: 0,
            zero_pages: NOT_COUNTED,
            cache_pages: NOT_COUNTED,
            cache_private_pages: NOT_COUNTED,
            user_pages: NOT_COUNTED,
            free_pages: NOT_COUNTED,
            hwpoison_pages: NOT_COUNTED,
            offline_pages: NOT_COUNTED,
            unaccepted_pages: NOT_COUNTED,
            unreadable_pages: NOT_COUNTED,
            unscanned_pages: NOT_COUNTED,
            bad_order_pages: NOT_COUNTED,
            setup_ns: 0,
            scan_ns: 0,
            seal_ns: 0,
            clock: [0; 24],
            vmcoreinfo_crc: 0,
            build_id_size: 0,
            build_id: [0; 20],
            kernel_release: [0; 65],
            padding: [0; 3],
            cause: Cause::NotSaid,
            cause_number: 0,
            exception_error: 0,
            exception_at: 0,
            exception_address: 0,
            reserved: [0; 152],
        }
    }

    /// The number of bytes that [`decode`](Self::decode) needs, from the first [`SIZE`](Self::SIZE) bytes of the area.
    /// It is at most 100 KiB.
    ///
    /// # Errors
    /// Fails if `bytes` is shorter, or is not the start of a header of this version.
    pub fn area_size_of(bytes: &[u8]) -> Result<usize, InfoError> {
        let Some(bytes) = bytes.first_chunk::<{ Self::SIZE }>() else {
            let needed = Self::SIZE as u64;
            return Err(InfoError::new("header_size", Expected::Bytes(needed), bytes.len() as u64));
        };
        let number = |offset| u32::from_le_bytes(array_at(bytes, offset));
        if array_at(bytes, 0) != MAGIC {
            let found = u64::from_be_bytes(array_at(bytes, 0));
            return Err(InfoError::new("magic", Expected::Rule("the bytes CDBITMAP"), found));
        }
        if number(VERSION_OFFSET) != VERSION {
            let found = u64::from(number(VERSION_OFFSET));
            return Err(InfoError::new("version", Expected::Version(VERSION), found));
        }
        let (table, count) = (number(offset_of!(Self, chunk_table)), number(offset_of!(Self, chunk_count)));
        check_sizes(
            number(offset_of!(Self, header_size)),
            table,
            count,
            number(offset_of!(Self, chunk_entry_size)),
        )?;
        Ok(area_size(table, count))
    }

    /// Reads the header from the start of `area`, and checks the header and the chunk table. `area` is at physical
    /// address `at` (in a file: 0) and contains the chunk table.
    ///
    /// # Errors
    /// Fails with the first invalid field. The checksum is checked before all fields except those that define its
    /// extent.
    pub fn decode(area: &[u8], at: u64) -> Result<Self, InfoError> {
        let size = Self::area_size_of(area)?;
        let Some((covered, header)) = area.get(..size).zip(area.first_chunk()) else {
            return Err(InfoError::new("chunk_table", Expected::Bytes(size as u64), area.len() as u64));
        };
        let recorded = u32::from_le_bytes(array_at(covered, CRC_OFFSET));
        let computed = area_crc(covered);
        if recorded != computed {
            let rule = Expected::Exactly(u64::from(computed));
            return Err(InfoError::new("header_crc", rule, u64::from(recorded)));
        }
        let header = Self::from_bytes(header)?;
        header.check()?;
        exactly("self_address", at, header.self_address)?;
        if let Some(gap) = covered.get(Self::SIZE..header.chunk_table as usize) {
            check_zero("chunk_table", "zero bytes between the header and the chunk table", gap)?;
        }
        header.chunks(covered)?.check(header.own_area(), header.state == State::Complete)?;
        Ok(header)
    }

    /// Writes the header to the start of `area`, with the checksum of the header and the chunk table. The table must
    /// already be in `area` ([`put_chunk`](Self::put_chunk)). Returns the size of both in bytes. The entries of the
    /// table are not checked, to save time in the panic path, which made them itself.
    ///
    /// # Errors
    /// Fails if `area` is too small, or if [`decode`](Self::decode) would refuse the header. `area` is then unchanged.
    pub fn encode(&self, area: &mut [u8]) -> Result<usize, InfoError> {
        self.check()?;
        let (size, room) = (self.area_size(), area.len() as u64);
        self.update(area).ok_or(InfoError::new("chunk_table", Expected::Bytes(size as u64), room))
    }

    /// As [`encode`](Self::encode), but without its checks. Use it for a header that has passed them and in which only
    /// the progress of a scan has changed. `None` if `area` is too small.
    pub fn update(&self, area: &mut [u8]) -> Option<usize> {
        let size = self.area_size();
        let covered = area.get_mut(..size)?;
        if let Some(gap) = covered.get_mut(Self::SIZE..self.chunk_table as usize) {
            gap.fill(0);
        }
        put_array(covered, 0, self.to_bytes());
        let crc = area_crc(covered);
        put_array(covered, CRC_OFFSET, crc.to_le_bytes());
        Some(size)
    }

    /// The chunk table in `area`, which starts with this header.
    ///
    /// # Errors
    /// Fails if `area` ends before the end of the table.
    pub fn chunks<'a>(&self, area: &'a [u8]) -> Result<ChunkTable<'a>, InfoError> {
        let needed = self.area_size();
        match area.get(self.chunk_table as usize..needed) {
            Some(table) => Ok(ChunkTable::new(self.geometry(), table)),
            None => Err(InfoError::new("chunk_table", Expected::Bytes(needed as u64), area.len() as u64)),
        }
    }

    /// The division of the frames into chunks.
    #[inline]
    pub const fn geometry(&self) -> ChunkGeometry {
        ChunkGeometry {
            first_frame: self.first_frame,
            frame_count: self.frame_count,
            chunk_shift: self.chunk_shift,
            chunk_count: self.chunk_count,
        }
    }

    /// The memory of the header and the chunk table, described as a chunk.
    fn own_area(&self) -> ChunkEntry {
        ChunkEntry::unsealed(self.self_address, self.area_size() as u64)
    }

    /// Size of the header and the chunk table in bytes.
    pub const fn area_size(&self) -> usize {
        area_size(self.chunk_table, self.chunk_count)
    }

    /// The frames of the bitmap.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    /// The frames of chunk `index`; `None` after the last chunk.
    #[inline]
    pub const fn chunk_frames(&self, index: u32) -> Option<PfnRange> {
        self.geometry().chunk_frames(index)
    }

    /// Size of chunk `index` in bytes; 0 after the last chunk.
    #[inline]
    pub const fn chunk_size(&self, index: u32) -> u64 {
        self.geometry().chunk_size(index)
    }

    /// The dump level of the scan, if the producer recorded it.
    pub const fn level(&self) -> Option<u32> {
        if self.dump_level == LEVEL_NOT_RECORDED { None } else { Some(self.dump_level) }
    }

    /// Sets the dump level, the rule set and the counts of a scan. A scan does not count zero pages.
    pub fn set_scan(&mut self, level: DumpLevel, rules: RuleSet, counters: &Counters) {
        self.dump_level = u32::from(level.bits());
        self.rules = rules.into();
        self.set_counters(counters);
    }

    /// Sets the counts of a scan; see [`set_scan`](Self::set_scan).
    pub fn set_counters(&mut self, counters: &Counters) {
        self.cache_pages = counters.get(PageClass::Cache);
        self.cache_private_pages = counters.get(PageClass::CachePrivate);
        self.user_pages = counters.get(PageClass::User);
        self.free_pages = counters.get(PageClass::Free);
        self.hwpoison_pages = counters.get(PageClass::Hwpoison);
        self.offline_pages = counters.get(PageClass::Offline);
        self.unaccepted_pages = counters.get(PageClass::Unaccepted);
    }

    /// The kernel's release; empty if not recorded.
    pub fn kernel_release(&self) -> &str {
        text(&self.kernel_release)
    }

    /// The name of the clock; empty if not recorded.
    pub fn clock(&self) -> &str {
        text(&self.clock)
    }

    /// The kernel's build ID; empty if not recorded.
    pub fn build_id(&self) -> &[u8] {
        self.build_id.get(..self.build_id_size as usize).unwrap_or_default()
    }

    /// Sets the kernel's release. The text is cut after 64 bytes, and before the first byte that is not printable
    /// ASCII.
    pub fn set_kernel_release(&mut self, release: &str) {
        self.kernel_release = field_text(release);
    }

    /// Sets the name of the clock. The text is cut after 23 bytes, and before the first byte that is not printable
    /// ASCII.
    pub fn set_clock(&mut self, clock: &str) {
        self.clock = field_text(clock);
    }

    /// Sets the kernel's build ID. A build ID of more than 20 bytes is not recorded.
    pub fn set_build_id(&mut self, id: &[u8]) {
        self.build_id = [0; 20];
        self.build_id_size = 0;
        if let Some(place) = self.build_id.get_mut(..id.len()) {
            // Not copy_from_slice: the compiler removes its panic path only if it inlines enough to see equal lengths.
            place.iter_mut().zip(id).for_each(|(place, byte)| *place = *byte);
            self.build_id_size = id.len() as u32;
        }
    }

    /// Writes entry `index` of the chunk table to `area`, which starts with the header. Call [`encode`](Header::encode)
    /// afterwards: the header's checksum covers the table.
    ///
    /// # Errors
    /// Fails if there is no chunk `index`, or if `area` ends before the end of the table.
    pub fn put_chunk(&self, area: &mut [u8], index: u32, chunk: &ChunkEntry) -> Result<(), InfoError> {
        between("chunk_count", 0, u64::from(self.chunk_count).saturating_sub(1), u64::from(index))?;
        let room = area.len() as u64;
        let offset = self.chunk_offset(index);
        let Some(place) = area.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) else {
            return Err(InfoError::new("chunk_table", Expected::Bytes(self.area_size() as u64), room));
        };
        *place = chunk.to_bytes();
        Ok(())
    }

    fn chunk_offset(&self, index: u32) -> usize {
        (index as usize).saturating_mul(ChunkEntry::SIZE).saturating_add(self.chunk_table as usize)
    }

    fn check(&self) -> Result<(), InfoError> {
        check_sizes(self.header_size, self.chunk_table, self.chunk_count, self.chunk_entry_size)?;
        exactly("page_shift", u64::from(PAGE_SHIFT), u64::from(self.page_shift))?;
        multiple_of("self_address", 8, self.self_address)?;
        let last_address = ADDRESS_END.saturating_sub(self.area_size() as u64);
        between("self_address", 0, last_address, self.self_address)?;
        if self.dump_level != LEVEL_NOT_RECORDED {
            between("dump_level", 0, u64::from(MAX_DUMP_LEVEL), u64::from(self.dump_level))?;
        }
        self.check_frames()?;
        between("first_unreadable", 0, ADDRESS_END.saturating_sub(1), self.first_unreadable)?;
        check_text("clock", &self.clock)?;
        check_text("kernel_release", &self.kernel_release)?;
        between("build_id_size", 0, self.build_id.len() as u64, u64::from(self.build_id_size))?;
        let rest = self.build_id.get(self.build_id_size as usize..).unwrap_or_default();
        check_zero("build_id", "zero bytes after the build ID", rest)?;
        check_zero("padding", "zero bytes", &self.padding)?;
        self.check_stop()?;
        check_zero("reserved", "zero bytes", &self.reserved)
    }

    /// Checks that the details of a stop match its cause.
    fn check_stop(&self) -> Result<(), InfoError> {
        let number = u64::from(self.cause_number);
        match self.cause {
            Cause::Exception => return between("cause_number", 0, LAST_VECTOR, number),
            Cause::Refused => {}
            _ => exactly("cause_number", 0, number)?,
        }
        exactly("exception_error", 0, self.exception_error)?;
        exactly("exception_at", 0, self.exception_at)?;
        exactly("exception_address", 0, self.exception_address)
    }

    fn check_frames(&self) -> Result<(), InfoError> {
        multiple_of("first_frame", FRAME_ALIGNMENT, self.first_frame)?;
        between("first_frame", 0, Pfn::END.as_u64(), self.first_frame)?;
        between("frame_count", 1, Pfn::END.as_u64().saturating_sub(self.first_frame), self.frame_count)?;
        let end = self.first_frame.saturating_add(self.frame_count);
        let (least, most) = match self.state {
            State::Empty => (self.first_frame, self.first_frame),
            State::Complete => (end, end),
            _ => (self.first_frame, end),
        };
        between("scanned_up_to", least, most, self.scanned_up_to)?;
        let shift = u64::from(self.chunk_shift);
        between("chunk_shift", u64::from(MIN_CHUNK_SHIFT), u64::from(MAX_CHUNK_SHIFT), shift)?;
        let chunks = u64::from(chunks_for(self.frame_count, self.chunk_shift));
        exactly("chunk_count", chunks, u64::from(self.chunk_count))
    }
}

const CRC_OFFSET: usize = offset_of!(Header, header_crc);

/// The checksum of an area, with the checksum field as 0.
fn area_crc(area: &[u8]) -> u32 {
    let (before, rest) = area.split_at_checked(CRC_OFFSET).unwrap_or_default();
    let (_, after) = rest.split_at_checked(size_of::<u32>()).unwrap_or_default();
    let mut crc = Crc32c::new();
    crc.update(before);
    crc.update(&[0; size_of::<u32>()]);
    crc.update(after);
    crc.finish()
}

/// Checks the fields that define the extent of the area.
fn check_sizes(header: u32, table: u32, count: u32, entry: u32) -> Result<(), InfoError> {
    exactly("header_size", Header::SIZE as u64, u64::from(header))?;
    exactly("chunk_entry_size", ChunkEntry::SIZE as u64, u64::from(entry))?;
    multiple_of("chunk_table", 8, u64::from(table))?;
    between("chunk_table", Header::SIZE as u64, u64::from(MAX_TABLE_OFFSET), u64::from(table))?;
    between("chunk_count", 1, u64::from(MAX_CHUNKS), u64::from(count))
}

const fn area_size(chunk_table: u32, chunk_count: u32) -> usize {
    (chunk_count as usize).saturating_mul(ChunkEntry::SIZE).saturating_add(chunk_table as usize)
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field.get(..end).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// `value` as a field that ends with a zero byte. Cuts the text as [`Header::set_kernel_release`] does.
fn field_text<const N: usize>(value: &str) -> [u8; N] {
    let mut field = [0; N];
    let printable = value.bytes().take_while(is_printable).take(N.saturating_sub(1));
    for (place, byte) in field.iter_mut().zip(printable) {
        *place = byte;
    }
    field
}

/// Checks a text field, which reports print: printable ASCII, then only zero bytes, at least one.
fn check_text(field: &'static str, bytes: &[u8]) -> Result<(), InfoError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at_checked(end).unwrap_or_default();
    if rest.is_empty() {
        return Err(InfoError::new(field, Expected::Rule("a zero byte at the end"), last(text)));
    }
    if let Some(byte) = text.iter().find(|byte| !is_printable(byte)) {
        return Err(InfoError::new(field, Expected::Rule("printable ASCII"), u64::from(*byte)));
    }
    check_zero(field, "zero bytes after the text", rest)
}

fn last(bytes: &[u8]) -> u64 {
    bytes.last().copied().map_or(0, u64::from)
}

fn check_zero(field: &'static str, rule: &'static str, bytes: &[u8]) -> Result<(), InfoError> {
    match bytes.iter().find(|byte| **byte != 0) {
        Some(byte) => Err(InfoError::new(field, Expected::Rule(rule), u64::from(*byte))),
        None => Ok(()),
    }
}

/// Whether `byte` is a space or a visible ASCII character.
fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
#[path = "v2_tests.rs"]
mod tests;
