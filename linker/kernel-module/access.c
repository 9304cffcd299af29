// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The scanner's access to memory and to the clock, in the running and in the dying kernel.
 *
 * Memory is read through the direct map, and only where RAM was when the scan was set up. Each access may fault without
 * harm: a page that is missing from the direct map, or one under a broken page table, counts as unreadable.
 */
#include "internal.h"
#include "test.h"

#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

/* Whether all len bytes from addr are RAM. */
static bool ram_has(const struct cdb_ram *ram, u64 addr, size_t len)
{
	size_t low = 0, high = ram->count;
	u64 last;

	if (!len || addr + (len - 1) < addr)
		return false;
	last = (addr + (len - 1)) >> PAGE_SHIFT;
	/* Find the first range that ends after the first frame. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ram->ranges[middle].end <= addr >> PAGE_SHIFT)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ram->count && ram->ranges[low].first <= addr >> PAGE_SHIFT && last < ram->ranges[low].end;
}

int cdb_read(void *context, u64 addr, void *buf, size_t len)
{
	const struct cdb_scan *scan = context;

	cdb_test_call();
	if (!ram_has(&scan->ram, addr, len))
		return -EFAULT;
	return copy_from_kernel_nofault(buf, __va(addr), len);
}

/* Only for the panic: no other CPU changes memory, so what was readable once stays readable. */
const void *cdb_view(void *context, u64 addr, size_t len)
{
	const struct cdb_scan *scan = context;
	const char *start = __va(addr), *at;
	char probe;

	cdb_test_call();
	if (!ram_has(&scan->ram, addr, len))
		return NULL;
	for (at = start; at < start + len; at += PAGE_SIZE - offset_in_page(at)) {
		if (copy_from_kernel_nofault(&probe, at, sizeof(probe)))
			return NULL;
	}
	return start;
}

/*
 * The clock is the TSC. The kernel's own clocks need interrupts: without them timekeeping stops, and some clocks wrap
 * around within seconds. A machine without a TSC has to use ktime all the same.
 */
static u64 tsc_start;
static u32 khz;
char cdb_clock_name[24];

void cdb_clock_start(void)
{
	khz = boot_cpu_has(X86_FEATURE_TSC) ? tsc_khz : 0;
	tsc_start = rdtsc_ordered();
	if (khz)
		snprintf(cdb_clock_name, sizeof(cdb_clock_name), "tsc %u MHz", khz / 1000);
	else
		strscpy(cdb_clock_name, "ktime", sizeof(cdb_clock_name));
}

/* Nanoseconds since cdb_clock_start() (TSC) or since boot (ktime). */
u64 cdb_now(void *context)
{
	cdb_test_call();
	if (!khz)
		return ktime_get_mono_fast_ns();
	return mul_u64_u32_div(rdtsc_ordered() - tsc_start, 1000000, khz);
}
