// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The scan in the dying kernel: a panic notifier.
 *
 * The other CPUs are stopped and interrupts are off. A stopped CPU may hold any lock, so this file takes none and waits
 * for nothing. The set-up has resolved and checked all that the scan needs; a checksum tells whether that is intact.
 * The notifier always ends, and then the capture kernel starts:
 *
 *  - The scan checks the time every 4096 frames and stops when its budget is used up.
 *  - A faulting access returns an error (access.c).
 *  - If the scan oopses nevertheless, the oops counts as one in an interrupt: the kernel panics again on the same CPU,
 *    calls this notifier a second time, and the notifier returns at once.
 *
 * In each case the bitmap keeps every page that is not decided, and the header says how far the scan got.
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

static void run(struct cdb_prepared *prepared)
{
	struct cdb_scan *scan = &prepared->scan;
	struct crash_scan_result result;
	size_t index;
	int status;

	cdb_test_begin(prepared);
	if (cdb_checksum(prepared) != prepared->checksum) {
		pr_emerg("no scan: its prepared data was overwritten; the capture kernel has to scan\n");
		return;
	}
	scan->start = cdb_now(NULL);
	scan->budget = (u64)cdb_budget_ms() * NSEC_PER_MSEC;
	/* A bit that a stray write has cleared since the set-up would lose a page. */
	for (index = 0; index < prepared->bitmap->count; index++) {
		memset(prepared->bitmap->chunks[index].words, 0xff, prepared->bitmap->chunks[index].size);
		touch_nmi_watchdog();
	}
	status = crash_scan_run(scan->state);
	cdb_test_end(prepared);
	crash_scan_results(scan->state, &result);
	pr_emerg("%s at frame 0x%llx after %llu ms, dump level %u: free %llu, cache %llu, cache_private %llu, user %llu, hwpoison %llu, offline %llu, unreadable %llu\n",
		 status == CRASH_SCAN_DONE ? "complete" : "out of budget", result.next_frame,
		 (cdb_now(NULL) - scan->start) / NSEC_PER_MSEC, scan->level, result.free_pages + result.unaccepted_pages,
		 result.cache_pages, result.cache_private_pages, result.user_pages, result.hwpoison_pages,
		 result.offline_pages, result.unreadable_pages);
}

static int on_panic(struct notifier_block *block, unsigned long action, void *data)
{
	struct cdb_prepared *prepared;

	if (atomic_xchg(&entered, 1)) {
		pr_emerg("the scan failed: the bitmap keeps every page that is not decided\n");
		return NOTIFY_DONE;
	}
	prepared = rcu_dereference_raw(cdb_ready);
	if (!prepared || !kexec_crash_loaded())
		return NOTIFY_DONE;
	/* An oops in a task would end the task. An oops in an interrupt panics, which starts the capture kernel. */
	__preempt_count_add(HARDIRQ_OFFSET);
	run(prepared);
	__preempt_count_sub(HARDIRQ_OFFSET);
	return NOTIFY_DONE;
}

/* Runs before all other notifiers: they may print a lot, or wait. */
static struct notifier_block panic_block = { .notifier_call = on_panic, .priority = INT_MAX };

int cdb_panic_register(void)
{
	return atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
}

void cdb_panic_unregister(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
}
