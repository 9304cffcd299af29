/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The crash dump scanner for C: turns the array of struct page of a machine
 * that is about to dump into a bitmap of the pages worth dumping.
 *
 * When all is well:   crash_scan_setup()
 * When it has died:   crash_scan_run(), until it returns CRASH_SCAN_DONE or
 *                     the time is up
 *
 * No function allocates, panics, sleeps, or uses floating point or vector
 * registers. Each is safe to call with interrupts off. None may run at the
 * same time as another one with the same state.
 *
 * The bitmap and crash_dump_bitmap_info are valid at every instant: each bit
 * is 1, "dump it", until the scan has decided that its page can be left out.
 */
#ifndef SCANNER_CORE_H
#define SCANNER_CORE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* Bytes of the state, and what its address has to be a multiple of. */
#define CRASH_SCAN_STATE_SIZE 36864
#define CRASH_SCAN_STATE_ALIGN 64

/* How a call ended. */
enum crash_scan_status {
	/* done */
	CRASH_SCAN_DONE = 0,
	/* interrupted by the caller; the next call goes on */
	CRASH_SCAN_INTERRUPTED = 1,
	/* the state is a null pointer, unaligned, too small, or was not set up */
	CRASH_SCAN_BAD_STATE = 16,
	/* an argument is a null pointer, unaligned, or out of range */
	CRASH_SCAN_BAD_ARGUMENT = 17,
	/* a chunk of the bitmap is missing, unaligned, or too small */
	CRASH_SCAN_BAD_CHUNK = 18,
	/* the memory ranges are not ascending and disjoint */
	CRASH_SCAN_BAD_RANGE = 19,
	/* VMCOREINFO has no OSRELEASE with a kernel version in it, or two different ones */
	CRASH_SCAN_NO_RELEASE = 20,
	/* a key of VMCOREINFO is missing */
	CRASH_SCAN_KEY_MISSING = 21,
	/* the value of a key of VMCOREINFO is not a number */
	CRASH_SCAN_KEY_MALFORMED = 22,
	/* a key of VMCOREINFO stands there twice, with different values */
	CRASH_SCAN_KEY_CONTRADICTORY = 23,
	/* the value of a key of VMCOREINFO can't be */
	CRASH_SCAN_KEY_OUT_OF_RANGE = 24,
	/* the kernel's memory can't be read where the array of struct page is described */
	CRASH_SCAN_UNREADABLE = 25,
	/* no memory section has struct pages */
	CRASH_SCAN_NO_SECTIONS = 26,
	/* the bitmap can't be described by crash_dump_bitmap_info */
	CRASH_SCAN_BAD_INFO = 27,
	/* the direct map takes more page tables */
	CRASH_SCAN_TOO_FEW_TABLES = 28,
	/* a range, an option or a table of the direct map is impossible */
	CRASH_SCAN_CANNOT_MAP = 29,
};

/* Page frames from first up to, not including, end. */
struct crash_scan_range {
	uint64_t first;
	uint64_t end;
};

/* A physically contiguous piece of the bitmap. */
struct crash_scan_chunk {
	/* Its physical address, a multiple of 8. */
	uint64_t address;
	/* The same memory as the scanner can write to it, aligned to 8. */
	uint64_t *words;
	/* Its size in bytes: a bit for each frame, rounded up to a multiple of 8. */
	size_t size;
};

/*
 * What a scan is to do. Everything that it points to, but for the text, has to
 * stay where it is as long as the state is used; the structure itself need not.
 */
struct crash_scan_setup {
	/* The VMCOREINFO text, and its size in bytes. */
	const char *vmcoreinfo;
	size_t vmcoreinfo_size;
	/* Where the kernel image was loaded (phys_base), for kernels before 4.10, which don't say it themselves; else 0. */
	uint64_t phys_base;
	/* Passed to each callback. */
	void *context;
	/*
	 * Copies len bytes of physical memory from addr on to buf, and returns 0
	 * if that was possible. May be asked for any address: it decides what
	 * exists.
	 */
	int (*read)(void *context, uint64_t addr, void *buf, size_t len);
	/*
	 * Where the len bytes of physical memory from addr on can be read in
	 * place; null if they can't. May be null itself, which costs speed.
	 */
	const void *(*view)(void *context, uint64_t addr, size_t len);
	/*
	 * Called every 4096 frames with the next one: the place to look at a
	 * deadline and to touch watchdogs. Free blocks side by side count once
	 * for each memory section. 0 ends the scan. Then it is called
	 * with the frame behind the last one before each 64 KiB of the bitmap
	 * are sealed; 0 leaves the rest without checksums. May be null.
	 */
	int (*pace)(void *context, uint64_t next_frame);
	/* Nanoseconds since any instant, for the times in the info. May be null. */
	uint64_t (*now)(void *context);
	/* The memory that exists, ascending and disjoint. */
	const struct crash_scan_range *ranges;
	size_t range_count;
	/*
	 * The memory for the bitmap. With a chunk_count of 0 the scan only
	 * counts: there is no bitmap, no info is written, and chunks and info
	 * may be null.
	 */
	const struct crash_scan_chunk *chunks;
	size_t chunk_count;
	/* Each chunk but the last stands for 1 << chunk_shift frames, 15 to 40. */
	uint32_t chunk_shift;
	/* Dump level, 0 to 31. */
	uint32_t level;
	/* 0 for makedumpfile's rules, 1 for the kernel's. */
	uint32_t rules;
	/* Who produces the bitmap, as in crash_dump_bitmap_info_v2. */
	uint32_t producer;
	/* The first frame of the bitmap, a multiple of 64, and how many there are. */
	uint64_t first_frame;
	uint64_t frame_count;
	/* Where crash_dump_bitmap_info_v2 and the chunk table behind it go. */
	void *info;
	/* Its physical address, a multiple of 8. */
	uint64_t info_address;
	/* Its size in bytes: at least 512, and 24 more for each chunk. */
	size_t info_size;
	/*
	 * Where crash_dump_bitmap_info_v1 goes, 64 bytes; may be null. It
	 * describes only a bitmap in one chunk that starts with frame 0.
	 */
	void *info_v1;
	/* What measures the time, for the info: up to 23 bytes and a zero byte. May be null. */
	const char *clock;
};

/* What a scan has found. */
struct crash_scan_findings {
	/* The first frame that is not decided. */
	uint64_t next_frame;
	/* Excluded pages. */
	uint64_t free_pages;
	uint64_t unaccepted_pages;
	uint64_t cache_pages;
	uint64_t cache_private_pages;
	uint64_t user_pages;
	uint64_t hwpoison_pages;
	uint64_t offline_pages;
	/* Pages kept because their struct page can't be read. */
	uint64_t unreadable_pages;
	/* Pages kept because they are marked free with an order that no free block has. */
	uint64_t bad_order_pages;
};

/* How a direct map shall look. */
struct crash_direct_map {
	/* What to map: sorted and merged in place. */
	struct crash_scan_range *ranges;
	size_t range_count;
	/* Memory for the page tables, aligned to 4096; may be null if table_count is 0. */
	void *tables;
	/* How many tables of 4096 bytes fit there. */
	size_t table_count;
	/* Their physical address. */
	uint64_t tables_address;
	/* Virtual minus physical address; 0 for an identity map. */
	uint64_t offset;
	/* The memory encryption bit; 0 for none. */
	uint64_t sme_mask;
	/* 1 for five levels of page tables, 0 for four. */
	uint32_t five_level;
	/* Bit 0: 2 MiB pages, bit 1: 1 GiB pages. */
	uint32_t large_pages;
};

/*
 * Sets a scan up in state, of state_size bytes, and sets every bit of the
 * bitmap. Parses VMCOREINFO and reads the description of the memory sections:
 * to be called before anything goes wrong. Takes up to 10 KiB of stack, the
 * callbacks' own not counted.
 */
int crash_scan_setup(void *state, size_t state_size, const struct crash_scan_setup *setup);

/*
 * Scans until the bitmap is complete (CRASH_SCAN_DONE), or until pace says stop
 * (CRASH_SCAN_INTERRUPTED; can be called again to go on). The info says what
 * was found either way. All of the info is written anew first, so that several
 * states may share one, as long as one of them runs. The frames that hold the
 * bitmap and the info are kept whatever their struct pages say. Takes up to
 * 1 KiB of stack, the callbacks' own not counted.
 */
int crash_scan_run(void *state);

/* Copies what the scan has found so far. */
int crash_scan_findings(const void *state, struct crash_scan_findings *findings);

/*
 * Writes why crash_scan_setup() failed, in a line that names the key, the
 * argument or the address, with a zero byte behind it; cut off where there is no
 * more room. Returns the length without the zero byte.
 */
size_t crash_scan_error_text(const void *state, char *text, size_t size);

/*
 * Builds page tables that map physical memory. Stores the physical address of
 * the top one at root, and how many tables it takes at needed; either may be
 * null. With a table_count of 0 it only counts.
 */
int crash_direct_map(const struct crash_direct_map *map, uint64_t *root, uint64_t *needed);

#endif
