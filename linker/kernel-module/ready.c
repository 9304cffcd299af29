// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The scan that is ready for a panic.
 *
 * prepare.c puts it here, panic.c takes it from here. Both need its checksum, and the scan calls back for its checkpoint.
 */
#include "internal.h"
#include "test.h"

#include <linux/nmi.h>

struct cdb_prepared __rcu *cdb_ready;

/* The dump level of the scan that is ready. There has to be one. */
u32 cdb_level(void)
{
	u32 level;

	rcu_read_lock();
	level = rcu_dereference(cdb_ready)->scan.level;
	rcu_read_unlock();
	return level;
}

static u64 mix(u64 sum, const void *memory, size_t size)
{
	const u64 *words = memory;
	size_t index;

	/* FNV-1a over words: it finds stray writes; it is no protection against forgery. */
	for (index = 0; index < size / sizeof(*words); index++)
		sum = (sum ^ words[index]) * 0x100000001b3ULL;
	return sum;
}

/* The checksum of all data that the scan relies on and that does not change between set-up and panic. */
u64 cdb_checksum(const struct cdb_prepared *prepared)
{
	const struct cdb_scan *scan = &prepared->scan;
	const struct cdb_bitmap *bitmap = prepared->bitmap;
	u64 sum = mix(0xcbf29ce484222325ULL, scan->state, CRASH_SCAN_STATE_SIZE);

	sum = mix(sum, scan->ram.ranges, scan->ram.count * sizeof(*scan->ram.ranges));
	return mix(sum, bitmap->chunks, bitmap->count * sizeof(*bitmap->chunks));
}

/*
 * Whether the scan in the panic may continue.
 *
 * The scanner seals the bitmap after the last frame. Sealing may take a quarter of the budget in addition: the checksums
 * matter for an incomplete bitmap as well.
 */
int cdb_panic_checkpoint(void *context, u64 next_frame)
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
