//! Version 2: a header that says who wrote the bitmap and how far, with checksums, and a table of chunks.
//!
//! The header, and behind it the chunk table, are one physically contiguous *area*. The bitmap itself is as many
//! chunks as the producer could get memory in. Each chunk but the last stands for `1 << chunk_shift` frames.
//!
//! Bits start as 1 and are cleared only by a finished decision, so that the bitmap of a scan that stopped anywhere
//! is a valid superset. A producer writes the header at three times: `empty` at setup, `scanning` before the
//! first bit is cleared, and the outcome when all is done.

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
/// The number in [`Header::version`].
pub const VERSION: u32 = 2;
/// [`Header::dump_level`] of a bitmap whose producer didn't say.
pub const LEVEL_NOT_RECORDED: u32 = u32::MAX;
/// The number of a page count that the producer didn't make.
pub const NOT_COUNTED: u64 = u64::MAX;
/// The largest dump level: all of makedumpfile's bits.
pub const MAX_DUMP_LEVEL: u32 = 31;
/// The smallest [`Header::chunk_shift`]: a page of bitmap, 128 MiB of memory.
pub const MIN_CHUNK_SHIFT: u32 = 15;
/// The largest [`Header::chunk_shift`]: one chunk for all frames that x86_64 can address.
pub const MAX_CHUNK_SHIFT: u32 = PHYS_ADDR_BITS - PAGE_SHIFT;
/// The most chunks. With the buddy allocator's largest blocks (4 MiB, 128 GiB of memory) that is 512 TiB; larger
/// machines need larger chunks, from boot-time reservations.
pub const MAX_CHUNKS: u32 = 4096;
/// The largest [`Header::chunk_table`]: the table starts in the header's page, or the next one.
pub const MAX_TABLE_OFFSET: u32 = 4096;
/// Frames in a bitmap start at a multiple of this, so that windows and words line up.
pub const FRAME_ALIGNMENT: u64 = 64;

/// Where the version stands, in this version and all later ones.
pub(super) const VERSION_OFFSET: usize = offset_of!(Header, version);

wire_struct! {
    /// The header. Bit `n & 7` of byte `n >> 3` of the bitmap stands for frame `first_frame + n`; 1 means "dump it".
    /// All numbers are little-endian.
    pub struct Header, "crash_dump_bitmap_info_v2", 512 bytes {
        /// The bytes "CDBITMAP".
        0 => magic: [u8; 8], "uint8_t[8]";
        /// Version of the format, 2.
        8 => version: u32, "uint32_t";
        /// Size of this structure in bytes, 512.
        12 => header_size: u32, "uint32_t";
        /// Physical address of this structure (in a file: 0), a multiple of 8.
        16 => self_address: u64, "uint64_t";
        /// Who wrote the bitmap; see the producers.
        24 => producer: Producer, "uint32_t";
        /// How far the scan got; see the states.
        28 => state: State, "uint32_t";
        /// Dump level of the scan, 0 to 31; 0xffffffff if not recorded.
        32 => dump_level: u32, "uint32_t";
        /// Whose rules decided about the pages; see the rule sets.
        36 => rules: RecordedRules, "uint32_t";
        /// First page frame of the bitmap, a multiple of 64.
        40 => first_frame: u64, "uint64_t";
        /// Number of page frames in the bitmap, at least 1.
        48 => frame_count: u64, "uint64_t";
        /// First page frame that is not decided; in state "scanning" a lower bound.
        56 => scanned_up_to: u64, "uint64_t";
        /// Binary logarithm of the frames of each chunk but the last, 15 to 40.
        64 => chunk_shift: u32, "uint32_t";
        /// Binary logarithm of the page size, 12.
        68 => page_shift: u32, "uint32_t";
        /// Offset of the chunk table from this structure, 512 to 4096, a multiple of 8.
        72 => chunk_table: u32, "uint32_t";
        /// Number of chunks, 1 to 4096: the frames divided by those of a chunk, rounded up.
        76 => chunk_count: u32, "uint32_t";
        /// Size of an entry of the chunk table in bytes, 24.
        80 => chunk_entry_size: u32, "uint32_t";
        /// CRC-32C from this structure's start to the chunk table's end, this field taken as 0.
        84 => header_crc: u32, "uint32_t";
        /// Physical address of the first memory that could not be read; 0 if there was none.
        88 => first_unreadable: u64, "uint64_t";
        /// Excluded pages that hold only zeros; looked for on a host alone.
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
        /// Pages kept because they are marked free, but of an order that no free block has.
        176 => bad_order_pages: u64, "uint64_t";
        /// Nanoseconds of the setup: layout, addresses, chunks; 0 if not measured.
        184 => setup_ns: u64, "uint64_t";
        /// Nanoseconds of the scan; 0 if not measured.
        192 => scan_ns: u64, "uint64_t";
        /// Nanoseconds of sealing the chunks; 0 if not measured.
        200 => seal_ns: u64, "uint64_t";
        /// The clock of these times in the producer's words, as "tsc 2893 MHz"; ends with a zero byte.
        208 => clock: [u8; 24], "char[24]";
        /// CRC-32C of the VMCOREINFO text that the scan went by; 0 if not recorded.
        232 => vmcoreinfo_crc: u32, "uint32_t";
        /// Bytes of the kernel's build id, 0 to 20; 0 if not recorded.
        236 => build_id_size: u32, "uint32_t";
        /// The kernel's build id; bytes behind it are 0.
        240 => build_id: [u8; 20], "uint8_t[20]";
        /// The kernel's release, as of uname -r; ends with a zero byte.
        260 => kernel_release: [u8; 65], "char[65]";
        /// Zero.
        325 => padding: [u8; 3], "uint8_t[3]";
        /// What stopped the scan, if more is said than by the state; see the causes.
        328 => cause: Cause, "uint32_t";
        /// Number of the exception, or status of the scanner; 0 for other causes.
        332 => cause_number: u32, "uint32_t";
        /// Error code of the exception; 0 if it has none.
        336 => exception_error: u64, "uint64_t";
        /// Instruction of the exception, from the start of the producer's image on, modulo 2^64.
        344 => exception_at: u64, "uint64_t";
        /// Address that a page fault was about; 0 for other exceptions.
        352 => exception_address: u64, "uint64_t";
        /// Zero. Room for later versions.
        360 => reserved: [u8; 152], "uint8_t[152]";
    }
}

impl Header {
    /// The header of an empty bitmap of `frame_count` frames from `first_frame` on, in chunks of
    /// `1 << chunk_shift` frames. Nothing is recorded yet of who scans at which level.
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

    /// How many bytes to read for [`decode`](Self::decode), from the first [`SIZE`](Self::SIZE) of them: at most
    /// 100 KiB.
    ///
    /// # Errors
    /// If there are fewer bytes, or they aren't the start of a header of this version.
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

    /// Reads the header from the start of `area`, which was found at physical address `at` (in a file: 0) and
    /// holds the chunk table too, and checks it and the table.
    ///
    /// # Errors
    /// The first field that is not as it must be. The checksum is looked at as soon as it is known what it covers,
    /// before any other field.
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

    /// Writes the header to the start of `area`, with the checksum over itself and the chunk table that stands
    /// there already ([`put_chunk`](Self::put_chunk)), and says how many bytes the two take. The entries of the
    /// table are not checked: the panic path made them itself, and has better things to do.
    ///
    /// # Errors
    /// If the area is too small, or [`decode`](Self::decode) would refuse the header; `area` is then as it was.
    pub fn encode(&self, area: &mut [u8]) -> Result<usize, InfoError> {
        self.check()?;
        let (size, room) = (self.area_size(), area.len() as u64);
        self.update(area).ok_or(InfoError::new("chunk_table", Expected::Bytes(size as u64), room))
    }

    /// Like [`encode`](Self::encode), but without its checks: for a header that has passed them, and in which only the
    /// progress of a scan has changed since. `None` if the area is too small.
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
    /// If `area` ends before the table does.
    pub fn chunks<'a>(&self, area: &'a [u8]) -> Result<ChunkTable<'a>, InfoError> {
        let needed = self.area_size();
        match area.get(self.chunk_table as usize..needed) {
            Some(table) => Ok(ChunkTable::new(self.geometry(), table)),
            None => Err(InfoError::new("chunk_table", Expected::Bytes(needed as u64), area.len() as u64)),
        }
    }

    /// Which frames each chunk stands for.
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

    /// Bytes of the header and the chunk table.
    pub const fn area_size(&self) -> usize {
        area_size(self.chunk_table, self.chunk_count)
    }

    /// The frames that the bitmap stands for.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    /// The frames that chunk `index` stands for; `None` after the last one.
    #[inline]
    pub const fn chunk_frames(&self, index: u32) -> Option<PfnRange> {
        self.geometry().chunk_frames(index)
    }

    /// Bytes of chunk `index`; 0 after the last one.
    #[inline]
    pub const fn chunk_size(&self, index: u32) -> u64 {
        self.geometry().chunk_size(index)
    }

    /// The dump level of the scan, if the producer recorded it.
    pub const fn level(&self) -> Option<u32> {
        if self.dump_level == LEVEL_NOT_RECORDED { None } else { Some(self.dump_level) }
    }

    /// Records what a scan by `rules` at `level` counted. A scan doesn't look for pages of zeros.
    pub fn set_scan(&mut self, level: DumpLevel, rules: RuleSet, counters: &Counters) {
        self.dump_level = u32::from(level.bits());
        self.rules = rules.into();
        self.set_counters(counters);
    }

    /// Records what a scan counted; see [`set_scan`](Self::set_scan).
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

    /// The clock of the times in the producer's words; empty if not recorded.
    pub fn clock(&self) -> &str {
        text(&self.clock)
    }

    /// The kernel's build id; empty if not recorded.
    pub fn build_id(&self) -> &[u8] {
        self.build_id.get(..self.build_id_size as usize).unwrap_or_default()
    }

    /// Sets the kernel's release; what is longer than 64 bytes or not printable ASCII is cut off.
    pub fn set_kernel_release(&mut self, release: &str) {
        self.kernel_release = field_text(release);
    }

    /// Sets the clock's name; what is longer than 23 bytes or not printable ASCII is cut off.
    pub fn set_clock(&mut self, clock: &str) {
        self.clock = field_text(clock);
    }

    /// Sets the kernel's build id; one that is longer than 20 bytes is not recorded.
    pub fn set_build_id(&mut self, id: &[u8]) {
        self.build_id = [0; 20];
        self.build_id_size = 0;
        if let Some(place) = self.build_id.get_mut(..id.len()) {
            // Not copied as a slice: whether the compiler sees that the lengths agree depends on what it inlines.
            place.iter_mut().zip(id).for_each(|(place, byte)| *place = *byte);
            self.build_id_size = id.len() as u32;
        }
    }

    /// Puts entry `index` of the chunk table into `area`, which starts with the header. The header's checksum
    /// covers the table: [`encode`](Header::encode) comes afterwards.
    ///
    /// # Errors
    /// If there is no such chunk, or `area` ends before the table does.
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
        let behind = self.build_id.get(self.build_id_size as usize..).unwrap_or_default();
        check_zero("build_id", "zero bytes behind the build id", behind)?;
        check_zero("padding", "zero bytes", &self.padding)?;
        self.check_stop()?;
        check_zero("reserved", "zero bytes", &self.reserved)
    }

    /// What is said of a stop has to fit its cause.
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

/// The checksum of an area as if its field for it were 0.
fn area_crc(area: &[u8]) -> u32 {
    let (before, rest) = area.split_at_checked(CRC_OFFSET).unwrap_or_default();
    let (_, behind) = rest.split_at_checked(size_of::<u32>()).unwrap_or_default();
    let mut crc = Crc32c::new();
    crc.update(before);
    crc.update(&[0; size_of::<u32>()]);
    crc.update(behind);
    crc.finish()
}

/// The checks that must hold before the extent of the area is known.
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

/// `value` as a field that ends with a zero byte.
fn field_text<const N: usize>(value: &str) -> [u8; N] {
    let mut field = [0; N];
    let printable = value.bytes().take_while(is_printable).take(N.saturating_sub(1));
    for (place, byte) in field.iter_mut().zip(printable) {
        *place = byte;
    }
    field
}

/// Text that ends up in reports and on terminals: printable ASCII, a zero byte, and nothing behind it.
fn check_text(field: &'static str, bytes: &[u8]) -> Result<(), InfoError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at_checked(end).unwrap_or_default();
    if rest.is_empty() {
        return Err(InfoError::new(field, Expected::Rule("a zero byte at the end"), last(text)));
    }
    if let Some(byte) = text.iter().find(|byte| !is_printable(byte)) {
        return Err(InfoError::new(field, Expected::Rule("printable ASCII"), u64::from(*byte)));
    }
    check_zero(field, "zero bytes behind the text", rest)
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

/// A space or a visible character of ASCII.
fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
#[path = "v2_tests.rs"]
mod tests;
