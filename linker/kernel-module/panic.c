// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The scan when the kernel dies: a panic notifier.
 *
 * The other CPUs are stopped, interrupts are off, and any lock may be held by who will never release it: nothing here
 * waits for anything. What the scan needs was resolved and checked when it was set up, and a checksum says whether it is
 * still the same. Whatever happens, the notifier comes to an end and the capture kernel is started:
 *
 *  - The scan looks at the time every 4096 frames and ends with its budget.
 *  - An access that faults is an access that failed (access.c).
 *  - Should the scan oops nevertheless, then as in an interrupt: the kernel panics again, on the same CPU, comes here a
 *    second time, finds that it has been here, and goes on to the capture kernel.
 *
 * At each of these ends the bitmap keeps all that is not decided, and the info says how far it got.
 */
#include "internal.h"
#include "test.h"

#include <linux/atomic.h>
#include <linux/kernel.h>
#include <linux/kexec.h>
#include <linux/nmi.h>
#include <linux/notifier.h>
#include <linux/preempt.h>
#if __has_include(<linux/panic_notifier.h>)
#include <linux/panic_notifier.h>
#endif

static atomic_t entered = ATOMIC_INIT(0);

/*
 * Whether the scan may go on. Sealing, which begins behind the last frame, may take a quarter of the budget on top: a
 * bitmap that ends early is worth its checksums too.
 */
int cdb_panic_pace(void *context, u64 next_frame)
{
	const struct cdb_scan *scan = context;
	u64 limit = scan->budget;

	touch_nmi_watchdog();
	if (cdb_test_stopped())
		return 0;
	if (next_frame >= scan->frames)
		limit += limit / 4;
	return cdb_now(NULL) - scan->start < limit;
}

static void run(struct cdb_prepared *prepared)
{
	struct cdb_scan *scan = &prepared->scan;
	struct crash_scan_findings found;
	size_t index;
	int status;

	cdb_test_begin(prepared);
	if (cdb_checksum(prepared) != prepared->checksum) {
		pr_emerg("no scan: what was prepared for it has been overwritten; the capture kernel has to scan\n");
		return;
	}
	scan->start = cdb_now(NULL);
	scan->budget = (u64)cdb_budget_ms * NSEC_PER_MSEC;
	/* Bits that something cleared since the set-up would lose pages. */
	for (index = 0; index < prepared->bitmap->count; index++) {
		memset(prepared->bitmap->chunks[index].words, 0xff, prepared->bitmap->chunks[index].size);
		touch_nmi_watchdog();
	}
	status = crash_scan_run(scan->state);
	cdb_test_end(prepared);
	crash_scan_findings(scan->state, &found);
	pr_emerg("%s at frame 0x%llx after %llu ms, dump level %u: free %llu, cache %llu, cache_private %llu, user %llu, hwpoison %llu, offline %llu, unreadable %llu\n",
		 status == CRASH_SCAN_DONE ? "complete" : "out of budget", found.next_frame,
		 (cdb_now(NULL) - scan->start) / NSEC_PER_MSEC, scan->level, found.free_pages + found.unaccepted_pages,
		 found.cache_pages, found.cache_private_pages, found.user_pages, found.hwpoison_pages,
		 found.offline_pages, found.unreadable_pages);
}

static int on_panic(struct notifier_block *block, unsigned long action, void *data)
{
	struct cdb_prepared *prepared;

	if (atomic_xchg(&entered, 1)) {
		pr_emerg("the scan has failed: the bitmap keeps what it has not decided\n");
		return NOTIFY_DONE;
	}
	prepared = rcu_dereference_raw(cdb_ready);
	if (!prepared || !kexec_crash_loaded())
		return NOTIFY_DONE;
	/* An oops in a task would end the task, and not start the capture kernel. */
	__preempt_count_add(HARDIRQ_OFFSET);
	run(prepared);
	__preempt_count_sub(HARDIRQ_OFFSET);
	return NOTIFY_DONE;
}

/* The first of all: the others may print a lot, or wait. */
static struct notifier_block panic_block = { .notifier_call = on_panic, .priority = INT_MAX };

int cdb_panic_register(void)
{
	return atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
}

void cdb_panic_unregister(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
}
