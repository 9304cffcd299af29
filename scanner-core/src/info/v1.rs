//! Version 1: the structure of the 2013 proposal.

use super::error::{ADDRESS_END, Expected, InfoError, between};
use super::wire::wire_struct;
use crate::addr::Pfn;
use crate::rules::{Counters, PageClass};

/// The value of [`Info::version`].
pub const VERSION: u32 = 1;

/// The largest size of a bitmap, in bytes: one bit per frame of x86_64's physical address space.
pub const MAX_BITMAP_SIZE: u64 = Pfn::END.as_u64() >> 3;

wire_struct! {
    /// `crash_dump_bitmap_info` with the layout of the proposal, in C types of an LP64 kernel. The bitmap starts with
    /// frame 0. Bit `pfn & 7` of byte `pfn >> 3` is the bit of frame `pfn`; 1 means "dump the page".
    pub struct Info, "crash_dump_bitmap_info_v1", 64 bytes {
        /// Version of the format, 1; 4 bytes of padding follow.
        0 => version: u32, "unsigned int";
        /// Physical address of the bitmap (in a file: offset); 0 if there is none.
        8 => bitmap: u64, "unsigned long long";
        /// Size of the bitmap in bytes; 0 if there is none.
        16 => bitmap_size: u64, "unsigned long long";
        /// Excluded pages of the non-private page cache.
        24 => cache_pages: u64, "unsigned long";
        /// Excluded pages of the private page cache.
        32 => cache_private_pages: u64, "unsigned long";
        /// Excluded pages of user data.
        40 => user_pages: u64, "unsigned long";
        /// Excluded free pages.
        48 => free_pages: u64, "unsigned long";
        /// Excluded pages that are hardware poisoned.
        56 => hwpoison_pages: u64, "unsigned long";
    }
}

impl Info {
    /// The structure for "no bitmap".
    pub const NO_BITMAP: Self = Self {
        version: VERSION,
        bitmap: 0,
        bitmap_size: 0,
        cache_pages: 0,
        cache_private_pages: 0,
        user_pages: 0,
        free_pages: 0,
        hwpoison_pages: 0,
    };

    /// Whether there is a bitmap. Without one, a reader has to scan.
    pub const fn has_bitmap(&self) -> bool {
        self.bitmap != 0 && self.bitmap_size != 0
    }

    /// The number of frames in the bitmap, which starts with frame 0.
    pub const fn frames(&self) -> u64 {
        if self.has_bitmap() { self.bitmap_size.saturating_mul(8) } else { 0 }
    }

    /// Sets the counts of a scan. As in makedumpfile, unaccepted pages count as free. The structure has no count of
    /// offline pages.
    pub fn set_counters(&mut self, counters: &Counters) {
        let unaccepted = counters.get(PageClass::Unaccepted);
        self.cache_pages = counters.get(PageClass::Cache);
        self.cache_private_pages = counters.get(PageClass::CachePrivate);
        self.user_pages = counters.get(PageClass::User);
        self.free_pages = counters.get(PageClass::Free).saturating_add(unaccepted);
        self.hwpoison_pages = counters.get(PageClass::Hwpoison);
    }

    /// Reads the structure from the start of `bytes`. Ignores padding: the proposal does not define its contents.
    ///
    /// # Errors
    /// Fails if the input is too short, if the version is not 1, or if the bitmap does not fit into physical memory.
    pub fn decode(bytes: &[u8]) -> Result<Self, InfoError> {
        let Some(bytes) = bytes.first_chunk::<{ Self::SIZE }>() else {
            let needed = Self::SIZE as u64;
            return Err(InfoError::new(
                "crash_dump_bitmap_info",
                Expected::Bytes(needed),
                bytes.len() as u64,
            ));
        };
        let info = Self::from_bytes(bytes)?;
        info.check()?;
        Ok(info)
    }

    /// Writes the structure to the start of `out`. Returns its size in bytes.
    ///
    /// # Errors
    /// Fails if `out` is too small, or if [`decode`](Self::decode) would refuse the structure. `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, InfoError> {
        self.check()?;
        let room = out.len() as u64;
        let Some(place) = out.first_chunk_mut() else {
            return Err(InfoError::new("crash_dump_bitmap_info", Expected::Bytes(Self::SIZE as u64), room));
        };
        *place = self.to_bytes();
        Ok(Self::SIZE)
    }

    fn check(&self) -> Result<(), InfoError> {
        if self.version != VERSION {
            return Err(InfoError::new("version", Expected::Version(VERSION), u64::from(self.version)));
        }
        if self.has_bitmap() {
            between("bitmap_size", 1, MAX_BITMAP_SIZE, self.bitmap_size)?;
            between("bitmap", 1, ADDRESS_END.saturating_sub(self.bitmap_size), self.bitmap)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "v1_tests.rs"]
mod tests;
