// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Scans the running system for page_status. This scan counts pages and makes no bitmap.
 *
 * It has its own state and does not touch the scan for the panic. Memory changes during the scan and may go away, so the
 * scanner copies each piece by an access that may fault, and never looks at memory in place.
 */
#include "internal.h"
#include "crash_dump_bitmap.h"

#include <linux/mutex.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

static DEFINE_MUTEX(live_lock);
static struct cdb_live last;
static DEFINE_SPINLOCK(last_lock);

static int live_checkpoint(void *context, u64 next_frame)
{
	cond_resched();
	return !signal_pending(current);
}

/* Scans once, at the level and by the rules in scan, into live. */
static int scan(struct cdb_live *live, struct cdb_scan *scan)
{
	struct crash_scan_setup setup = {
		.checkpoint = live_checkpoint,
		.chunk_shift = CRASH_DUMP_BITMAP_MIN_CHUNK_SHIFT,
		.frame_count = cdb_ram_end(&scan->ram),
	};
	u64 start = cdb_now(NULL), ready;
	int error = cdb_setup(scan, &setup);

	if (error)
		return error;
	ready = cdb_now(NULL);
	if (crash_scan_run(scan->state) != CRASH_SCAN_DONE)
		return -EINTR;
	live->scan_ns = cdb_now(NULL) - ready;
	live->setup_ns = ready - start;
	live->level = scan->level;
	live->rules = scan->rules;
	live->pages = scan->ram.pages;
	live->when = ktime_get_boottime_seconds();
	crash_scan_results(scan->state, &live->result);
	return 0;
}

/* Scans at the dump level of the scan for the panic. Fails with -EINTR if a signal is pending. */
int cdb_live_scan(struct cdb_live *live)
{
	struct cdb_scan own = { .level = cdb_level(), .rules = cdb_rules };
	int error = mutex_lock_interruptible(&live_lock);

	if (error)
		return error;
	error = -ENOMEM;
	own.state = vzalloc(CRASH_SCAN_STATE_SIZE);
	if (!own.state)
		goto out;
	error = cdb_ram_collect(&own.ram);
	if (!error)
		error = scan(live, &own);
	if (!error) {
		spin_lock(&last_lock);
		last = *live;
		spin_unlock(&last_lock);
	}
	cdb_ram_free(&own.ram);
	vfree(own.state);
out:
	mutex_unlock(&live_lock);
	return error;
}

/* Copies the result of the last scan that completed. */
void cdb_live_last(struct cdb_live *live)
{
	spin_lock(&last_lock);
	*live = last;
	spin_unlock(&last_lock);
}
