// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Finds RAM, and allocates the bitmap and the header.
 *
 * Both are ordinary pages of the buddy allocator, unmovable and outside of CMA. The capture kernel does not use these
 * pages, and has them in /proc/vmcore.
 */
#include "internal.h"
#include "crash_dump_bitmap.h"
#include "test.h"

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

/* Frames that one page of the bitmap covers. */
#define FRAMES_PER_PAGE (PAGE_SIZE * BITS_PER_BYTE)

struct collected {
	struct cdb_ram *ram;
	/* Number of ranges that fit; 0 only counts them. */
	size_t room;
};

static int collect(struct resource *resource, void *arg)
{
	struct collected *collected = arg;
	struct cdb_ram *ram = collected->ram;
	/* Skip frames that are RAM only in part: their struct page does not tell. */
	u64 first = DIV_ROUND_UP_ULL((u64)resource->start, PAGE_SIZE);
	u64 end = ((u64)resource->end + 1) >> PAGE_SHIFT;

	if (first >= end)
		return 0;
	if (ram->count && collected->room && ram->ranges[ram->count - 1].end == first) {
		ram->ranges[ram->count - 1].end = end;
		ram->pages += end - first;
		return 0;
	}
	if (collected->room) {
		/* Memory was added since the ranges were counted. Its notifier follows, and collects again. */
		if (ram->count == collected->room)
			return 1;
		ram->ranges[ram->count].first = first;
		ram->ranges[ram->count].end = end;
		ram->pages += end - first;
	}
	ram->count++;
	return 0;
}

static void walk(struct collected *collected)
{
	collected->ram->count = 0;
	collected->ram->pages = 0;
	walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0, -1ULL, collected, collect);
}

/* Collects the RAM that is online now. */
int cdb_ram_collect(struct cdb_ram *ram)
{
	struct collected collected = { .ram = ram };

	walk(&collected);
	if (!ram->count)
		return -ENODEV;
	collected.room = ram->count;
	ram->ranges = kvcalloc(collected.room, sizeof(*ram->ranges), GFP_KERNEL);
	if (!ram->ranges)
		return -ENOMEM;
	walk(&collected);
	return 0;
}

void cdb_ram_free(struct cdb_ram *ram)
{
	kvfree(ram->ranges);
	ram->ranges = NULL;
}

/* The frame after the last one. */
u64 cdb_ram_end(const struct cdb_ram *ram)
{
	return ram->count ? ram->ranges[ram->count - 1].end : 0;
}

static void free_chunks(struct cdb_bitmap *bitmap)
{
	while (bitmap->count--) {
		struct crash_scan_chunk *chunk = &bitmap->chunks[bitmap->count];

		free_pages_exact(chunk->words, chunk->size);
	}
	kvfree(bitmap->chunks);
	bitmap->chunks = NULL;
	bitmap->count = 0;
}

/* Allocates all chunks in blocks of this order, or none. */
static int alloc_chunks(struct cdb_bitmap *bitmap, unsigned int order)
{
	/* Do not retry for a large block: smaller blocks do as well, down to a page. */
	gfp_t flags = GFP_KERNEL | __GFP_NOWARN | (order ? __GFP_NORETRY : 0);
	u64 pages = DIV_ROUND_UP_ULL(bitmap->frames, FRAMES_PER_PAGE);
	size_t count = (pages + (1ULL << order) - 1) >> order;

	bitmap->order = order;
	bitmap->count = 0;
	bitmap->chunks = kvcalloc(count, sizeof(*bitmap->chunks), GFP_KERNEL);
	if (!bitmap->chunks)
		return -ENOMEM;
	while (bitmap->count < count) {
		struct crash_scan_chunk *chunk = &bitmap->chunks[bitmap->count];

		chunk->size = min_t(u64, pages, 1ULL << order) << PAGE_SHIFT;
		chunk->words = alloc_pages_exact(chunk->size, flags);
		if (!chunk->words) {
			free_chunks(bitmap);
			return -ENOMEM;
		}
		memset(chunk->words, 0xff, chunk->size);
		chunk->address = virt_to_phys(chunk->words);
		pages -= chunk->size >> PAGE_SHIFT;
		bitmap->count++;
	}
	return 0;
}

/*
 * Allocates a bitmap of one bit per frame, in as few chunks as the buddy allocator has, and in no more chunks than a
 * header of area_size bytes can describe. Returns NULL if that is impossible.
 */
struct cdb_bitmap *cdb_bitmap_alloc(u64 frames, size_t area_size, bool one_chunk)
{
	u64 pages = DIV_ROUND_UP_ULL(frames, FRAMES_PER_PAGE);
	size_t most = one_chunk ? 1 : min_t(size_t, CRASH_DUMP_BITMAP_MAX_CHUNKS,
					    (area_size - sizeof(struct crash_dump_bitmap_info_v2)) /
					    sizeof(struct crash_dump_bitmap_chunk));
	int order = cdb_test_order(min_t(int, ilog2(MAX_ORDER_NR_PAGES), order_base_2(pages)));
	struct cdb_bitmap *bitmap = kzalloc(sizeof(*bitmap), GFP_KERNEL);

	if (!bitmap)
		return NULL;
	bitmap->frames = frames;
	for (; order >= 0 && (pages + (1ULL << order) - 1) >> order <= most; order--) {
		if (!alloc_chunks(bitmap, order))
			return bitmap;
	}
	kfree(bitmap);
	return NULL;
}

void cdb_bitmap_free(struct cdb_bitmap *bitmap)
{
	if (!bitmap)
		return;
	free_chunks(bitmap);
	kfree(bitmap);
}

/*
 * Allocates the header for a bitmap of twice as many frames: memory can be added later. It has at least 16 KiB, enough
 * for 661 chunks; in chunks of 4 MiB that is 41 TiB of memory, and as much again.
 */
int cdb_area_alloc(struct cdb_area *area, u64 frames, bool v1)
{
	u64 chunks = DIV_ROUND_UP_ULL(2 * frames, MAX_ORDER_NR_PAGES * FRAMES_PER_PAGE);

	chunks = min_t(u64, chunks, CRASH_DUMP_BITMAP_MAX_CHUNKS);
	area->size = sizeof(struct crash_dump_bitmap_info_v2) + chunks * sizeof(struct crash_dump_bitmap_chunk);
	area->size = max_t(size_t, 4 * PAGE_SIZE, PAGE_ALIGN(area->size));
	area->memory = alloc_pages_exact(area->size, GFP_KERNEL | __GFP_ZERO);
	if (!area->memory)
		return -ENOMEM;
	area->address = virt_to_phys(area->memory);
	if (v1)
		area->v1 = area->memory + area->size - sizeof(struct crash_dump_bitmap_info_v1);
	return 0;
}

void cdb_area_free(struct cdb_area *area)
{
	if (!area->memory)
		return;
	/* A capture kernel that still has the address must not find a stale header. */
	memset(area->memory, 0, area->size);
	free_pages_exact(area->memory, area->size);
	area->memory = NULL;
}
