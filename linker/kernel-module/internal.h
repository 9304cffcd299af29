/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The interfaces between the files of crash_dump_bitmap.ko. A file calls only files that stand below it in this list:
 *
 *   main.c     loads and unloads the module
 *   proc.c     /proc/crash_dump_bitmap
 *   live.c     scans the running system for page_status
 *   panic.c    scans the dying kernel (runs in the panic)
 *   prepare.c  sets up the scan for the panic, again after each change of the level or of the memory
 *   memory.c   finds RAM, allocates the bitmap and the header
 *   check.c    compares VMCOREINFO with this build
 *   ready.c    holds the scan that is ready for a panic (runs in the panic)
 *   access.c   reads memory and the clock for the scanner (runs in the panic)
 *   params.c   has the module parameters
 *   test.c     makes faults on purpose; only in a module for tests
 */
#ifndef CRASH_DUMP_BITMAP_INTERNAL_H
#define CRASH_DUMP_BITMAP_INTERNAL_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/types.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>

#include "crash_scan.h"

/* The highest dump level: each of the five page classes is excluded. */
#define CDB_LEVEL_MAX 31

/* System RAM, as ranges of page frames. */
struct cdb_ram {
	struct crash_scan_range *ranges;
	size_t count;
	/* Pages in all ranges. */
	u64 pages;
};

/* The memory of a bitmap. */
struct cdb_bitmap {
	struct crash_scan_chunk *chunks;
	size_t count;
	/* Each chunk has 1 << order pages; the last one can be smaller. */
	unsigned int order;
	/* Page frames that the bitmap covers. */
	u64 frames;
};

/* The memory of the header. Its address stays the same until the module is unloaded. */
struct cdb_area {
	void *memory;
	phys_addr_t address;
	size_t size;
	/* The header of version 1, in the last 64 bytes of the area; null if it was not asked for. */
	void *v1;
};

/* A scan. The scanner's callbacks get it as their context. */
struct cdb_scan {
	void *state;
	struct cdb_ram ram;
	u32 level;
	u32 rules;
	/* The frame after the last one of the bitmap. */
	u64 frames;
	/* Nanoseconds: start time, and the time that the scan may take. Set by panic.c. */
	u64 start, budget;
};

/* A scan that is ready to run in a panic. */
struct cdb_prepared {
	struct cdb_scan scan;
	struct cdb_bitmap *bitmap;
	const struct cdb_area *area;
	/* cdb_checksum() of the rest. */
	u64 checksum;
};

/* proc.c */
int cdb_proc_create(void);
void cdb_proc_remove(void);

/* live.c */
struct cdb_live {
	struct crash_scan_result result;
	u64 pages;
	u32 level;
	u32 rules;
	u64 setup_ns, scan_ns;
	/* When the scan ended, in seconds since boot; 0 if there was no scan. */
	u64 when;
};
int cdb_live_scan(struct cdb_live *live);
void cdb_live_last(struct cdb_live *live);

/* panic.c */
int cdb_panic_register(void);
void cdb_panic_unregister(void);

/* prepare.c */
extern struct cdb_area cdb_area;
int cdb_setup(struct cdb_scan *scan, struct crash_scan_setup *setup);
int cdb_prepare(u32 level);
void cdb_unprepare(void);
int cdb_hotplug_register(void);
void cdb_hotplug_unregister(void);

/* memory.c */
int cdb_ram_collect(struct cdb_ram *ram);
void cdb_ram_free(struct cdb_ram *ram);
u64 cdb_ram_end(const struct cdb_ram *ram);
struct cdb_bitmap *cdb_bitmap_alloc(u64 frames, size_t area_size, bool one_chunk);
void cdb_bitmap_free(struct cdb_bitmap *bitmap);
int cdb_area_alloc(struct cdb_area *area, u64 frames, bool v1);
void cdb_area_free(struct cdb_area *area);

/* check.c */
struct cdb_text {
	char *text;	/* ends with a zero byte */
	size_t size;	/* without the zero byte */
};
extern struct cdb_text cdb_vmcoreinfo;
int cdb_vmcoreinfo_load(void);
void cdb_vmcoreinfo_free(void);
int cdb_vmcoreinfo_check(void);

/* ready.c */
extern struct cdb_prepared __rcu *cdb_ready;
u32 cdb_level(void);
u64 cdb_checksum(const struct cdb_prepared *prepared);
int cdb_panic_checkpoint(void *context, u64 next_frame);

/* access.c */
int cdb_read(void *context, u64 addr, void *buf, size_t len);
const void *cdb_view(void *context, u64 addr, size_t len);
void cdb_clock_start(void);
u64 cdb_now(void *context);
extern char cdb_clock_name[24];

/* params.c */
extern unsigned int cdb_first_level;
extern u32 cdb_rules;
extern bool cdb_wants_v1;
int cdb_params_check(void);
unsigned int cdb_budget_ms(void);
const char *cdb_rules_name(u32 rules);

#endif
