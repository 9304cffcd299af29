// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Sets up the scan for the panic, and again after each change of the dump level or of the memory.
 *
 * The new scan is set up beside the ready one, and one store replaces it: a panic at any instant finds a complete scan.
 * Until then both may share the bitmap and the header. That is safe: set-up writes only ones over ones to the bitmap, and
 * the scan that runs writes the whole header again.
 */
#include "internal.h"
#include "crash_dump_bitmap.h"

#include <linux/log2.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

struct cdb_area cdb_area;
/* Serializes changes of cdb_ready and cdb_area. */
static DEFINE_MUTEX(prepare_lock);

struct setup_work {
	struct work_struct work;
	void *state;
	const struct crash_scan_setup *setup;
	int status;
};

static void setup_work(struct work_struct *work)
{
	struct setup_work *own = container_of(work, struct setup_work, work);

	own->status = crash_scan_setup(own->state, CRASH_SCAN_STATE_SIZE, own->setup);
}

/*
 * Sets up a scan. The caller fills in the fields of setup that differ between scans.
 *
 * crash_scan_setup() takes up to 10 KiB of stack, so it runs on the almost empty stack of a worker.
 */
int cdb_setup(struct cdb_scan *scan, struct crash_scan_setup *setup)
{
	struct setup_work own = { .state = scan->state, .setup = setup };
	char text[160];

	setup->vmcoreinfo = cdb_vmcoreinfo.text;
	setup->vmcoreinfo_size = cdb_vmcoreinfo.size;
	setup->phys_base = phys_base;
	setup->context = scan;
	setup->read = cdb_read;
	setup->ranges = scan->ram.ranges;
	setup->range_count = scan->ram.count;
	setup->level = scan->level;
	setup->rules = scan->rules;
	setup->producer = CRASH_DUMP_BITMAP_PRODUCER_PANIC;
	INIT_WORK_ONSTACK(&own.work, setup_work);
	schedule_work(&own.work);
	flush_work(&own.work);
	destroy_work_on_stack(&own.work);
	if (own.status == CRASH_SCAN_DONE)
		return 0;
	crash_scan_error_text(scan->state, text, sizeof(text));
	pr_err("cannot set up the scan: %s\n", text);
	return -EINVAL;
}

static void free_prepared(struct cdb_prepared *prepared, bool with_bitmap)
{
	if (!prepared)
		return;
	if (with_bitmap)
		cdb_bitmap_free(prepared->bitmap);
	cdb_ram_free(&prepared->scan.ram);
	if (prepared->scan.state)
		free_pages_exact(prepared->scan.state, CRASH_SCAN_STATE_SIZE);
	kfree(prepared);
}

static int set_up(struct cdb_prepared *prepared)
{
	struct cdb_scan *scan = &prepared->scan;
	const struct cdb_bitmap *bitmap = prepared->bitmap;
	struct crash_scan_setup setup = {
		.view = cdb_view,
		.checkpoint = cdb_panic_checkpoint,
		.now = cdb_now,
		.chunks = bitmap->chunks,
		.chunk_count = bitmap->count,
		.chunk_shift = bitmap->order + PAGE_SHIFT + ilog2(BITS_PER_BYTE),
		.frame_count = bitmap->frames,
		.info = cdb_area.memory,
		.info_address = cdb_area.address,
		.info_size = cdb_area.size - (cdb_area.v1 ? sizeof(struct crash_dump_bitmap_info_v1) : 0),
		.info_v1 = cdb_area.v1,
		.clock = cdb_clock_name,
	};

	scan->frames = bitmap->frames;
	return cdb_setup(scan, &setup);
}

/* Sets up a scan at this level for the RAM that is online now, and makes it the ready one. */
static int prepare(u32 level)
{
	struct cdb_prepared *old = rcu_dereference_protected(cdb_ready, lockdep_is_held(&prepare_lock));
	struct cdb_prepared *new = kzalloc(sizeof(*new), GFP_KERNEL);
	bool own_bitmap = false;
	u64 frames;
	int error = -ENOMEM;

	if (!new)
		return -ENOMEM;
	new->scan.level = level;
	new->scan.rules = cdb_rules;
	new->area = &cdb_area;
	new->scan.state = alloc_pages_exact(CRASH_SCAN_STATE_SIZE, GFP_KERNEL | __GFP_ZERO);
	if (!new->scan.state)
		goto failed;
	error = cdb_ram_collect(&new->scan.ram);
	if (error)
		goto failed;
	frames = cdb_ram_end(&new->scan.ram);
	if (!cdb_area.memory) {
		error = cdb_area_alloc(&cdb_area, frames, cdb_wants_v1);
		if (error)
			goto failed;
	}
	if (old && frames <= old->bitmap->frames) {
		new->bitmap = old->bitmap;
	} else {
		error = -ENOMEM;
		new->bitmap = cdb_bitmap_alloc(frames, cdb_area.size, cdb_wants_v1);
		if (!new->bitmap)
			goto failed;
		own_bitmap = true;
	}
	error = set_up(new);
	if (error)
		goto failed;
	new->checksum = cdb_checksum(new);
	rcu_assign_pointer(cdb_ready, new);
	/* Panic notifiers run in an RCU read-side section. Wait for one that may run on another CPU. */
	synchronize_rcu();
	free_prepared(old, own_bitmap);
	return 0;
failed:
	free_prepared(new, own_bitmap);
	return error;
}

int cdb_prepare(u32 level)
{
	int error;

	mutex_lock(&prepare_lock);
	error = prepare(level);
	mutex_unlock(&prepare_lock);
	return error;
}

void cdb_unprepare(void)
{
	struct cdb_prepared *old;

	mutex_lock(&prepare_lock);
	old = rcu_dereference_protected(cdb_ready, lockdep_is_held(&prepare_lock));
	RCU_INIT_POINTER(cdb_ready, NULL);
	mutex_unlock(&prepare_lock);
	synchronize_rcu();
	free_prepared(old, true);
	cdb_area_free(&cdb_area);
}

/*
 * Memory is about to come online, and the scan has to cover it. If the set-up fails, the ready scan stays, and the dump
 * has all new frames. Memory that goes offline needs no action: the scan keeps pages that it cannot read.
 */
static int on_memory(struct notifier_block *block, unsigned long action, void *data)
{
	const struct memory_notify *notify = data;
	u64 first = notify->start_pfn, end = first + notify->nr_pages;
	const struct cdb_prepared *ready;
	int error = 0;

	if (action != MEM_GOING_ONLINE)
		return NOTIFY_DONE;
	mutex_lock(&prepare_lock);
	ready = rcu_dereference_protected(cdb_ready, lockdep_is_held(&prepare_lock));
	/* If no scan is ready yet, the first one will find the new memory. */
	if (ready)
		error = prepare(ready->scan.level);
	mutex_unlock(&prepare_lock);
	if (error)
		pr_warn("cannot set up the scan for new frames 0x%llx to 0x%llx (error %d): a dump will have all of them\n",
			first, end - 1, error);
	return NOTIFY_OK;
}

static struct notifier_block memory_block = { .notifier_call = on_memory };

int cdb_hotplug_register(void)
{
	return register_memory_notifier(&memory_block);
}

void cdb_hotplug_unregister(void)
{
	unregister_memory_notifier(&memory_block);
}
