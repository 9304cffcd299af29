/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Scans a machine of 4 MiB with the C interface, and checks every bit. */
#include "crash_dump_bitmap.h"
#include "crash_scan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 1024
#define PAGE 4096
#define KERNEL 0xffffffff80000000ULL
#define MEM_MAP 0x10000 /* the array of struct page */

static _Alignas(8) unsigned char memory[FRAMES * PAGE];
static _Alignas(CRASH_SCAN_STATE_ALIGN) unsigned char state[CRASH_SCAN_STATE_SIZE];
static uint64_t bitmap[FRAMES / 64];
static _Alignas(8) unsigned char info[512 + 24], info_v1[64];
static int views, reads, paces, may_go_on;

/* A kernel of the 6.1 series: FLATMEM, since that takes the least to simulate. */
static const char vmcoreinfo[] =
	"OSRELEASE=6.1.0-test\nPAGESIZE=4096\nBUILD-ID=00ff10\n"
	"SYMBOL(init_top_pgt)=ffffffff80001000\nNUMBER(phys_base)=0\nSYMBOL(mem_map)=ffffffff80004000\n"
	"SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\n"
	"OFFSET(page._mapcount)=48\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8\nLENGTH(zone.free_area)=11\n"
	"NUMBER(PG_lru)=4\nNUMBER(PG_private)=13\nNUMBER(PG_swapcache)=10\nNUMBER(PG_swapbacked)=19\nNUMBER(PG_slab)=9\n"
	"NUMBER(PG_hwpoison)=23\nNUMBER(PG_head_mask)=65536\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n";

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "machine.c: %s\n", what);
		exit(1);
	}
}

static void put64(size_t at, uint64_t value)
{
	memcpy(memory + at, &value, sizeof(value));
}

static size_t page(unsigned int frame)
{
	return MEM_MAP + frame * 64;
}

static int read_memory(void *context, uint64_t addr, void *buf, size_t len)
{
	check(context == &views, "read: context");
	reads++;
	if (addr > sizeof(memory) || len > sizeof(memory) - addr)
		return -1;
	memcpy(buf, memory + addr, len);
	return 0;
}

static const void *view_memory(void *context, uint64_t addr, size_t len)
{
	check(context == &views, "view: context");
	views++;
	return addr <= sizeof(memory) && len <= sizeof(memory) - addr ? memory + addr : NULL;
}

static int checkpoint(void *context, uint64_t next_frame)
{
	(void)context;
	(void)next_frame;
	paces++;
	return may_go_on;
}

static uint64_t now(void *context)
{
	static uint64_t time;

	(void)context;
	return time += 1000;
}

static void boot(void)
{
	unsigned int frame;

	put64(0x1000 + 511 * 8, 0x2000 | 0x63);	/* PGD, PUD: the kernel's last 2 GiB */
	put64(0x2000 + 510 * 8, 0x3000 | 0x63);
	put64(0x3000, 0x000000 | 0xe3);		/* PMD: two pages of 2 MiB */
	put64(0x3008, 0x200000 | 0xe3);
	put64(0x4000, KERNEL + MEM_MAP);	/* mem_map */
	for (frame = 0; frame < FRAMES; frame++)
		memset(memory + page(frame) + 48, 0xff, 4);	/* _mapcount: not mapped */
	put64(page(512) + 40, 5);		/* 32 free pages from 512 on */
	*(int *)(memory + page(512) + 48) = -129;
	for (frame = 600; frame < 700; frame++)
		put64(page(frame) + 24, 0x1001);	/* anonymous */
	for (frame = 700; frame < 710; frame++)
		put64(page(frame), 1 << 4);		/* page cache: lru */
	put64(page(800), 1 << 23);		/* hwpoison */
}

/* Frame 512 is marked free, but has the info. */
static int left_out(unsigned int frame)
{
	return (frame > 512 && frame < 544) || (frame >= 600 && frame < 710) || frame == 800;
}

int main(void)
{
	static const struct crash_scan_range ranges[] = { { 0, 256 }, { 256, FRAMES } };
	const struct crash_scan_chunk chunk = { 0x100000, bitmap, sizeof(bitmap) };
	struct crash_scan_setup setup = {
		.vmcoreinfo = vmcoreinfo, .vmcoreinfo_size = sizeof(vmcoreinfo) - 1,
		.context = &views, .read = read_memory, .view = view_memory, .checkpoint = checkpoint, .now = now,
		.ranges = ranges, .range_count = 2, .chunks = &chunk, .chunk_count = 1, .chunk_shift = 15,
		.level = 31, .rules = 0, .producer = CRASH_DUMP_BITMAP_PRODUCER_HOST, .frame_count = FRAMES,
		.info = info, .info_address = 0x200000, .info_size = sizeof(info), .info_v1 = info_v1,
		.clock = "counted",
	};
	struct crash_scan_result result;
	struct crash_dump_bitmap_info_v1 v1;
	struct crash_dump_bitmap_info_v2 v2;
	char text[200];
	unsigned int frame;

	boot();
	/* What is wrong is named. */
	check(crash_scan_run(NULL) == CRASH_SCAN_BAD_STATE, "a null state runs");
	check(crash_scan_run(state) == CRASH_SCAN_BAD_STATE, "an empty state runs");
	check(crash_scan_setup(state, sizeof(state) - 1, &setup) == CRASH_SCAN_BAD_STATE, "a small state is set up");
	check(crash_scan_setup(state + 8, sizeof(state), &setup) == CRASH_SCAN_BAD_STATE, "an unaligned state is set up");
	check(crash_scan_setup(state, sizeof(state), NULL) == CRASH_SCAN_BAD_ARGUMENT, "no set-up is set up");
	setup.vmcoreinfo_size = strstr(vmcoreinfo, "SIZE(page)") - vmcoreinfo;
	check(crash_scan_setup(state, sizeof(state), &setup) == CRASH_SCAN_KEY_MISSING, "half a text is enough");
	check(crash_scan_error_text(state, text, sizeof(text)) == strlen(text), "length of the text");
	check(strstr(text, "SIZE(page)") != NULL, "the missing key is not named");
	check(crash_scan_error_text(state, text, 5) == 4 && strlen(text) == 4, "the text is not cut off");
	check(crash_scan_run(state) == CRASH_SCAN_BAD_STATE, "a state that was refused runs");
	setup.vmcoreinfo_size = sizeof(vmcoreinfo) - 1;
	setup.frame_count = FRAMES + 1;
	check(crash_scan_setup(state, sizeof(state), &setup) == CRASH_SCAN_BAD_CHUNK, "a small chunk is enough");
	setup.frame_count = FRAMES;

	check(crash_scan_setup(state, sizeof(state), &setup) == CRASH_SCAN_DONE, "set-up fails");
	for (frame = 0; frame < FRAMES / 64; frame++)
		check(bitmap[frame] == ~0ULL, "set-up leaves a bit cleared");
	memcpy(&v2, info, sizeof(v2));
	check(v2.state == CRASH_DUMP_BITMAP_STATE_EMPTY, "set-up doesn't say empty");

	/* A scan that is stopped at once says so, and goes on when it may. */
	check(crash_scan_run(state) == CRASH_SCAN_INTERRUPTED, "it can't be stopped");
	memcpy(&v2, info, sizeof(v2));
	check(v2.state == CRASH_DUMP_BITMAP_STATE_OUT_OF_BUDGET && v2.unscanned_pages == FRAMES, "what was stopped");
	may_go_on = 1;
	check(crash_scan_run(state) == CRASH_SCAN_DONE, "it doesn't finish");
	check(views > 0 && reads > 0 && paces > 1, "a callback was not called");

	for (frame = 0; frame < FRAMES; frame++)
		check((bitmap[frame / 64] >> frame % 64 & 1) == !left_out(frame), "a bit is wrong");
	check(crash_scan_results(state, &result) == CRASH_SCAN_DONE, "no result");
	check(result.free_pages == 32 && result.user_pages == 100 && result.cache_pages == 10 && result.hwpoison_pages == 1,
	      "counters");
	check(result.next_frame == FRAMES && result.unreadable_pages == 0 && result.bad_order_pages == 0, "findings");
	memcpy(&v2, info, sizeof(v2));
	check(memcmp(v2.magic, "CDBITMAP", 8) == 0 && v2.state == CRASH_DUMP_BITMAP_STATE_COMPLETE, "version 2");
	check(v2.free_pages == 32 && v2.unscanned_pages == 0 && v2.scan_ns > 0 && v2.build_id_size == 3, "version 2 says");
	check(strcmp(v2.kernel_release, "6.1.0-test") == 0, "release");
	memcpy(&v1, info_v1, sizeof(v1));
	check(v1.version == 1 && v1.bitmap == 0x100000 && v1.bitmap_size == FRAMES / 8 && v1.user_pages == 100, "version 1");

	check(strcmp(v2.clock, "counted") == 0, "the clock");

	/* A scan without a bitmap counts the same, and leaves everything as it is. */
	setup.chunk_count = 0;
	setup.chunks = NULL;
	setup.info = setup.info_v1 = NULL;
	memset(bitmap, 0x55, sizeof(bitmap));
	check(crash_scan_setup(state, sizeof(state), &setup) == CRASH_SCAN_DONE, "set-up without a bitmap fails");
	check(crash_scan_run(state) == CRASH_SCAN_DONE, "a scan without a bitmap doesn't finish");
	check(crash_scan_results(state, &result) == CRASH_SCAN_DONE && result.next_frame == FRAMES, "how far it counted");
	check(result.free_pages == 32 && result.user_pages == 100 && result.cache_pages == 10 && result.hwpoison_pages == 1,
	      "counters without a bitmap");
	check(bitmap[3] == 0x5555555555555555 && memcmp(info, &v2, sizeof(v2)) == 0, "it wrote to a bitmap or an info");

	/* An identity map of the machine: two 2 MiB pages under three tables. */
	{
		static _Alignas(PAGE) uint64_t tables[3][512];
		struct crash_scan_range all = { 0, FRAMES };
		struct crash_direct_map map = { .ranges = &all, .range_count = 1, .large_pages = 1 };
		uint64_t root = 0, needed = 0;

		check(crash_direct_map(&map, &root, &needed) == CRASH_SCAN_DONE && needed == 3, "counting tables");
		map.tables = tables;
		map.tables_address = 0x300000;
		map.table_count = 2;
		check(crash_direct_map(&map, &root, &needed) == CRASH_SCAN_TOO_FEW_TABLES, "two tables are enough");
		map.table_count = 3;
		check(crash_direct_map(&map, &root, NULL) == CRASH_SCAN_DONE && root == 0x300000, "the direct map");
		check((tables[2][1] & ~0xfffULL) == 0x200000 && (tables[2][1] & 0x80), "the second 2 MiB page");
	}
	/* The info, for who wants to read it by other means. */
	fwrite(info, 1, sizeof(info), stdout);
	return 0;
}
