/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the files of crash_dump_bitmap.ko share.
 *
 * Before the crash (process context): main.c has the parameters and the order of things, memory.c finds RAM and
 * allocates, check.c compares VMCOREINFO with this build, prepare.c sets the scan for the panic up and does it again
 * when the level or the memory changes, live.c scans the running system, proc.c shows and changes.
 *
 * In the crash: panic.c, and of the others access.c only. It uses what prepare.c has left at cdb_ready.
 */
#ifndef CRASH_DUMP_BITMAP_INTERNAL_H
#define CRASH_DUMP_BITMAP_INTERNAL_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/types.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>

#include "scanner_core.h"

/* The memory that exists. */
struct cdb_ram {
	struct crash_scan_range *ranges;
	size_t count;
	/* Pages in all ranges. */
	u64 pages;
};

/* The memory for a bitmap. */
struct cdb_bitmap {
	struct crash_scan_chunk *chunks;
	size_t count;
	/* Each chunk is 1 << order pages; the last one can be smaller. */
	unsigned int order;
	/* Frames that it has bits for. */
	u64 frames;
};

/* The memory for the info: it stays where it is as long as the module is loaded. */
struct cdb_area {
	void *memory;
	phys_addr_t address;
	size_t size;
	/* Version 1, in its last 64 bytes; null if that was not asked for. */
	void *v1;
};

/* A scan: what the scanner's callbacks get as their context. */
struct cdb_scan {
	void *state;
	struct cdb_ram ram;
	u32 level;
	u32 rules;
	/* The frame behind the last one of the bitmap. */
	u64 frames;
	/* When it began, and how many nanoseconds it may take (panic.c). */
	u64 start, budget;
};

/* A scan that is ready to run in a panic. */
struct cdb_prepared {
	struct cdb_scan scan;
	struct cdb_bitmap *bitmap;
	/* Of everything that the scan relies on. */
	u64 checksum;
};

/* main.c */
extern unsigned int cdb_budget_ms;
extern u32 cdb_rules;
extern bool cdb_wants_v1;
extern struct cdb_area cdb_area;
const char *cdb_rules_name(u32 rules);

/* memory.c */
int cdb_ram_collect(struct cdb_ram *ram);
void cdb_ram_free(struct cdb_ram *ram);
u64 cdb_ram_end(const struct cdb_ram *ram);
struct cdb_bitmap *cdb_bitmap_alloc(u64 frames, size_t area_size, bool one_chunk);
void cdb_bitmap_free(struct cdb_bitmap *bitmap);
int cdb_area_alloc(struct cdb_area *area, u64 frames, bool v1);
void cdb_area_free(struct cdb_area *area);

/* access.c */
int cdb_read(void *context, u64 addr, void *buf, size_t len);
const void *cdb_view(void *context, u64 addr, size_t len);
void cdb_clock_start(void);
u64 cdb_now(void *context);
extern char cdb_clock_name[24];

/* check.c */
struct cdb_text {
	char *text;	/* ends with a zero byte */
	size_t size;	/* without that */
};
extern struct cdb_text cdb_vmcoreinfo;
int cdb_vmcoreinfo_load(void);
void cdb_vmcoreinfo_free(void);
int cdb_vmcoreinfo_check(void);

/* prepare.c */
extern struct cdb_prepared __rcu *cdb_ready;
int cdb_setup(struct cdb_scan *scan, struct crash_scan_setup *setup);
int cdb_prepare(u32 level);
void cdb_unprepare(void);
u64 cdb_checksum(const struct cdb_prepared *prepared);
u32 cdb_level(void);
int cdb_hotplug_register(void);
void cdb_hotplug_unregister(void);

/* live.c */
struct cdb_live {
	struct crash_scan_findings found;
	u64 pages;
	u32 level;
	u32 rules;
	u64 setup_ns, scan_ns;
	/* Seconds since boot when it ended; 0 if there was none. */
	u64 when;
};
int cdb_live_scan(struct cdb_live *live);
void cdb_live_last(struct cdb_live *live);

/* panic.c */
int cdb_panic_pace(void *context, u64 next_frame);
int cdb_panic_register(void);
void cdb_panic_unregister(void);

/* proc.c */
int cdb_proc_create(void);
void cdb_proc_remove(void);

#endif
