//! The layout of the free lists of a kernel's zones.

use super::error::{LayoutError, out_of_range};
use super::nodes::{MAX_PGLIST_DATA, offset};
use super::vmcoreinfo::{Key, VmcoreInfo};
use crate::addr::VirtAddr;

/// The largest number of migrate types that is accepted. Kernels have at most seven.
const MAX_MIGRATE_TYPES: u64 = 16;
/// The largest size of `struct zone` that is accepted, in bytes. Its size is about 2 KiB.
const MAX_ZONE: u64 = 1 << 20;

/// Locations of the free lists: offsets and sizes in bytes. Each field is known to lie inside its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeListLayout {
    /// `pglist_data.node_zones`, an array of `struct zone`.
    pub node_zones: u64,
    /// `pglist_data.nr_zones`, 32 bits.
    pub nr_zones: u64,
    /// `sizeof(struct zone)`.
    pub zone_size: u64,
    /// `zone.spanned_pages`, 64 bits.
    pub spanned_pages: u64,
    /// `zone.free_area`, an array of `struct free_area`, one for each order.
    pub free_area: u64,
    /// `sizeof(struct free_area)`.
    pub free_area_size: u64,
    /// `free_area.free_list`: a list head, or an array of them.
    pub free_list: u64,
    /// `sizeof(struct list_head)`.
    pub list_head_size: u64,
    /// The number of lists per order: one for each migrate type.
    pub migrate_types: u32,
    /// `list_head.next`.
    pub next: u64,
    /// `list_head.prev`.
    pub prev: u64,
    /// `page.lru`, which links free blocks.
    pub lru: u64,
}

impl FreeListLayout {
    /// Resolves the layout; `None` if a key that it needs is missing.
    ///
    /// # Errors
    /// Fails if the value of a key is out of range.
    pub fn resolve(info: &VmcoreInfo<'_>) -> Result<Option<Self>, LayoutError> {
        let size = |key, limit, expected| match info.get(key) {
            Some(value) if value == 0 || value > limit => Err(out_of_range(key, value, expected)),
            value => Ok(value),
        };
        let (Some(zone_size), Some(free_area_size), Some(orders), Some(page_size)) = (
            size(Key::SizeZone, MAX_ZONE, "1 byte to 1 MiB")?,
            size(Key::SizeFreeArea, MAX_ZONE, "1 byte to 1 MiB")?,
            size(Key::LenZoneFreeArea, 32, "1..=32")?,
            info.get(Key::SizePage),
        ) else {
            return Ok(None);
        };
        // If the key is missing: two pointers.
        let list_head_size = size(Key::SizeListHead, 64, "1..=64")?.unwrap_or(16);
        // Kernels up to 2.6.23 have one list per order.
        let migrate_types = size(Key::LenFreeList, MAX_MIGRATE_TYPES, "1..=16")?.unwrap_or(1);
        let inside = |key, len: u64, size| match info.get(key) {
            Some(value) if value.checked_add(len).is_none_or(|end| end > size) => {
                Err(out_of_range(key, value, "inside its structure"))
            }
            value => Ok(value),
        };
        let (Some(spanned_pages), Some(free_area), Some(free_list), Some(next), Some(prev), Some(lru)) = (
            inside(Key::OffZoneSpannedPages, 8, zone_size)?,
            inside(Key::OffZoneFreeArea, free_area_size.saturating_mul(orders), zone_size)?,
            inside(Key::OffFreeList, list_head_size.saturating_mul(migrate_types), free_area_size)?,
            inside(Key::OffListNext, 8, list_head_size)?,
            inside(Key::OffListPrev, 8, list_head_size)?,
            inside(Key::OffPageLru, list_head_size, page_size)?,
        ) else {
            return Ok(None);
        };
        let (Some(node_zones), Some(nr_zones)) = (
            offset(info, Key::OffNodeZones, MAX_PGLIST_DATA)?,
            offset(info, Key::OffNrZones, MAX_PGLIST_DATA)?,
        ) else {
            return Ok(None);
        };
        Ok(Some(Self {
            node_zones,
            nr_zones,
            zone_size,
            spanned_pages,
            free_area,
            free_area_size,
            free_list,
            list_head_size,
            migrate_types: migrate_types as u32,
            next,
            prev,
            lru,
        }))
    }

    /// The address of the list head for blocks of `order` and `migrate_type`. `zone` is the address of the `struct
    /// zone`.
    pub fn head(&self, zone: VirtAddr, order: u32, migrate_type: u32) -> Option<VirtAddr> {
        zone.checked_add(self.free_area)?
            .checked_add(self.free_area_size.checked_mul(u64::from(order))?)?
            .checked_add(self.free_list)?
            .checked_add(self.list_head_size.checked_mul(u64::from(migrate_type))?)
    }
}
