/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The C interface of the crash dump scanner, which turns the array of struct
 * page of a machine into a bitmap of the pages worth dumping.
 *
 * While the kernel is healthy:  crash_scan_setup()
 * When it has crashed:          crash_scan_run(), until it returns
 *                               CRASH_SCAN_DONE or the time is up
 *
 * No function allocates, panics, sleeps, or uses floating point or vector
 * registers. All can be called with interrupts off. Calls with the same state
 * must not overlap.
 *
 * The bitmap and crash_dump_bitmap_info are valid at every instant: each bit
 * is 1, "dump the page", until the scan has decided to exclude its page.
 */
#ifndef SCANNER_CORE_H
#define SCANNER_CORE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* Size and alignment of the state, in bytes. */
#define CRASH_SCAN_STATE_SIZE 36864
#define CRASH_SCAN_STATE_ALIGN 64

/* The status of a call. */
enum crash_scan_status {
	/* done */
	CRASH_SCAN_DONE = 0,
	/* interrupted by the caller; the next call resumes the scan */
	CRASH_SCAN_INTERRUPTED = 1,
	/* the state is a null pointer, unaligned, too small, or was not set up */
	CRASH_SCAN_BAD_STATE = 16,
	/* an argument is a null pointer, unaligned, or out of range */
	CRASH_SCAN_BAD_ARGUMENT = 17,
	/* a chunk of the bitmap is missing, unaligned, or too small */
	CRASH_SCAN_BAD_CHUNK = 18,
	/* the memory ranges are not ascending and disjoint */
	CRASH_SCAN_BAD_RANGE = 19,
	/* VMCOREINFO has no OSRELEASE with a kernel version, or two different ones */
	CRASH_SCAN_NO_RELEASE = 20,
	/* a key of VMCOREINFO is missing */
	CRASH_SCAN_KEY_MISSING = 21,
	/* the value of a key of VMCOREINFO is not a number */
	CRASH_SCAN_KEY_MALFORMED = 22,
	/* a key of VMCOREINFO occurs twice, with different values */
	CRASH_SCAN_KEY_CONTRADICTORY = 23,
	/* the value of a key of VMCOREINFO is out of range */
	CRASH_SCAN_KEY_OUT_OF_RANGE = 24,
	/* the memory that describes the array of struct page cannot be read */
	CRASH_SCAN_UNREADABLE = 25,
	/* no memory section has struct pages */
	CRASH_SCAN_NO_SECTIONS = 26,
	/* crash_dump_bitmap_info cannot describe the bitmap */
	CRASH_SCAN_BAD_INFO = 27,
	/* the direct map needs more page tables */
	CRASH_SCAN_TOO_FEW_TABLES = 28,
	/* a range, an option or a table of the direct map is invalid */
	CRASH_SCAN_CANNOT_MAP = 29,
};

/* The page frames from first up to, but not including, end. */
struct crash_scan_range {
	uint64_t first;
	uint64_t end;
};

/* A physically contiguous part of the bitmap. */
struct crash_scan_chunk {
	/* Its physical address, a multiple of 8. */
	uint64_t address;
	/* Its address for the scanner, aligned to 8. */
	uint64_t *words;
	/* Its size in bytes: one bit per frame, rounded up to a multiple of 8. */
	size_t size;
};

/*
 * The parameters of a scan. All memory that it points to, except the text, must
 * stay valid as long as the state is used. The structure itself need not.
 */
struct crash_scan_setup {
	/* The VMCOREINFO text, and its size in bytes. */
	const char *vmcoreinfo;
	size_t vmcoreinfo_size;
	/* phys_base, for kernels that do not export it (before 4.10); else 0. */
	uint64_t phys_base;
	/* Passed to each callback. */
	void *context;
	/*
	 * Copies len bytes of physical memory at addr to buf. Returns 0 on
	 * success. Called with any address: the callback decides which memory
	 * exists.
	 */
	int (*read)(void *context, uint64_t addr, void *buf, size_t len);
	/*
	 * Returns a pointer to the len bytes of physical memory at addr; null if
	 * they cannot be read in place. The callback may be null, which costs
	 * speed.
	 */
	const void *(*view)(void *context, uint64_t addr, size_t len);
	/*
	 * Checks a deadline and touches watchdogs. The scan calls it with the
	 * next frame every 4096 frames; adjacent free blocks count as one frame
	 * per memory section. Returning 0 stops the scan. The sealing calls it
	 * before each 64 KiB of the bitmap, with the first frame after the
	 * bitmap. Returning 0 leaves the rest without checksums. May be null.
	 */
	int (*checkpoint)(void *context, uint64_t next_frame);
	/* Returns nanoseconds since an arbitrary instant, for the durations in the info. May be null. */
	uint64_t (*now)(void *context);
	/* The ranges of memory that exist, ascending and disjoint. */
	const struct crash_scan_range *ranges;
	size_t range_count;
	/*
	 * The memory for the bitmap. If chunk_count is 0, the scan only counts:
	 * it has no bitmap and writes no info, and chunks and info may be null.
	 */
	const struct crash_scan_chunk *chunks;
	size_t chunk_count;
	/* Binary logarithm of the frames of each chunk except the last, 15 to 40. */
	uint32_t chunk_shift;
	/* Dump level, 0 to 31. */
	uint32_t level;
	/* Rule set: 0 for makedumpfile's rules, 1 for the kernel's. */
	uint32_t rules;
	/* The producer, as in crash_dump_bitmap_info_v2. */
	uint32_t producer;
	/* The first frame of the bitmap, a multiple of 64, and the number of frames. */
	uint64_t first_frame;
	uint64_t frame_count;
	/* The memory for crash_dump_bitmap_info_v2 and the chunk table after it. */
	void *info;
	/* Its physical address, a multiple of 8. */
	uint64_t info_address;
	/* Its size in bytes: at least 512, plus 24 per chunk. */
	size_t info_size;
	/*
	 * The memory for crash_dump_bitmap_info_v1, 64 bytes; may be null. It
	 * describes a bitmap only if that has one chunk and starts with frame 0.
	 */
	void *info_v1;
	/* The name of the clock, for the info: up to 23 bytes and a zero byte. May be null. */
	const char *clock;
};

/* The results of a scan. */
struct crash_scan_result {
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
	/* Pages kept because their struct page cannot be read. */
	uint64_t unreadable_pages;
	/* Pages kept because they are marked free but have an order that is out of range. */
	uint64_t bad_order_pages;
};

/* The parameters of a direct map. */
struct crash_direct_map {
	/* The ranges to map. They are sorted and merged in place. */
	struct crash_scan_range *ranges;
	size_t range_count;
	/* Memory for the page tables, aligned to 4096; may be null if table_count is 0. */
	void *tables;
	/* Number of tables of 4096 bytes in that memory. */
	size_t table_count;
	/* Its physical address. */
	uint64_t tables_address;
	/* Virtual minus physical address; 0 for an identity map. */
	uint64_t offset;
	/* Mask of the memory encryption bit; 0 for none. */
	uint64_t sme_mask;
	/* 1 for five levels of page tables, 0 for four. */
	uint32_t five_level;
	/* Bit 0: 2 MiB pages, bit 1: 1 GiB pages. */
	uint32_t large_pages;
};

/*
 * Sets up a scan in state, which has state_size bytes, and sets every bit of
 * the bitmap. Parses VMCOREINFO and reads the description of the memory
 * sections, so it must be called while the kernel is healthy. Uses up to
 * 10 KiB of stack, without the stack of the callbacks.
 */
int crash_scan_setup(void *state, size_t state_size, const struct crash_scan_setup *setup);

/*
 * Scans until the bitmap is complete (CRASH_SCAN_DONE), or until the callback
 * checkpoint stops the scan (CRASH_SCAN_INTERRUPTED; the next call resumes
 * it). In both cases the info has the results. The call first writes all of the
 * info anew, so several states may share the memory of one info, as long as
 * only one of them runs. The frames that hold the bitmap and the info are always
 * kept. Uses up to 1 KiB of stack, without the stack of the callbacks.
 */
int crash_scan_run(void *state);

/* Copies the current results of the scan. */
int crash_scan_results(const void *state, struct crash_scan_result *result);

/*
 * Writes the reason why crash_scan_setup() failed to text, which has size
 * bytes: one line with the key, the argument or the address, and a zero byte.
 * The line is truncated if text is too small. Returns its length without the
 * zero byte.
 */
size_t crash_scan_error_text(const void *state, char *text, size_t size);

/*
 * Builds page tables that map physical memory. Stores the physical address of
 * the top-level table at root, and the number of tables that the map needs at
 * needed; both pointers may be null. If table_count is 0, it only counts the
 * tables.
 */
int crash_direct_map(const struct crash_direct_map *map, uint64_t *root, uint64_t *needed);

#endif
