// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Makes faults on purpose, to show that the module survives them. Only a module that is built with
 * CRASH_DUMP_BITMAP_TEST=1 has this file.
 *
 * Module parameters. The first two are read at load, the others can change at any time:
 *
 *   test_vmcoreinfo=KEY=VALUE    sets or adds the key in the copy of VMCOREINFO
 *   test_order=N                 limits chunks to 1 << N pages: many chunks on a small machine
 *   test_do=ACTION test_at=N     acts at the Nth callback of the scan in the panic (callbacks read memory, view memory,
 *                                check the time limit and read the clock):
 *                                  stop   the time limit is reached
 *                                  panic  the kernel panics, and the capture kernel starts at this instant
 *                                  fault  writes to a null pointer
 *                                The number of callbacks is printed when the scan ends.
 *   test_flip=WHERE:N:SEED       flips N random bits, the same ones for the same SEED. Before the scan, in
 *                                  state         the state of the scan
 *                                  early-chunks  the bitmap
 *                                  pages         the struct pages of RAM
 *                                  tables        the lower three levels of the page tables that map them
 *                                and after the scan, in
 *                                  header        the header and the chunk table
 *                                  chunks        the bitmap
 */
#include "internal.h"
#include "crash_dump_bitmap.h"
#include "test.h"

#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *test_vmcoreinfo;
module_param(test_vmcoreinfo, charp, 0444);
static int test_order = -1;
module_param(test_order, int, 0444);
static char test_do[16];
module_param_string(test_do, test_do, sizeof(test_do), 0644);
static unsigned long test_at;
module_param(test_at, ulong, 0644);
static char test_flip[64];
module_param_string(test_flip, test_flip, sizeof(test_flip), 0644);

/* The number of callbacks since the scan in the panic began. */
static bool counting;
static unsigned long calls;
static bool stopped;

int cdb_test_order(int order)
{
	return test_order >= 0 ? min(order, test_order) : order;
}

/* Sets or adds the key of test_vmcoreinfo in the text. */
int cdb_test_vmcoreinfo(struct cdb_text *text)
{
	const char *equals = test_vmcoreinfo ? strrchr(test_vmcoreinfo, '=') : NULL;
	size_t key = equals ? equals + 1 - test_vmcoreinfo : 0, size = 0;
	const char *line, *next;
	char *edited;

	if (!equals)
		return 0;
	edited = kzalloc(text->size + strlen(test_vmcoreinfo) + 2, GFP_KERNEL);
	if (!edited)
		return -ENOMEM;
	for (line = text->text; *line; line = next) {
		next = strchrnul(line, '\n');
		next += *next == '\n';
		if (strncmp(line, test_vmcoreinfo, key)) {
			memcpy(edited + size, line, next - line);
			size += next - line;
		}
	}
	size += sprintf(edited + size, "%s\n", test_vmcoreinfo);
	kfree(text->text);
	text->text = edited;
	text->size = size;
	return 0;
}

/* Counts a callback, and acts if it is number test_at. */
void cdb_test_call(void)
{
	if (!counting || ++calls != test_at)
		return;
	if (!strcmp(test_do, "stop")) {
		stopped = true;
	} else if (!strcmp(test_do, "panic")) {
		panic("test: at call %lu", calls);
	} else if (!strcmp(test_do, "fault")) {
		/* Volatile, so that the compiler does not see the null pointer. */
		volatile int *volatile nowhere = NULL;

		*nowhere = 1;
	}
}

bool cdb_test_stopped(void)
{
	return stopped;
}

static u64 random;

static u64 random_below(u64 end)
{
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return end ? random % end : 0;
}

static void flip_in(void *memory, size_t size)
{
	u8 *byte = (u8 *)memory + random_below(size);

	*byte ^= 1 << random_below(BITS_PER_BYTE);
}

static struct page *random_page(const struct cdb_ram *ram)
{
	u64 index = random_below(ram->pages);
	size_t range;

	for (range = 0; range < ram->count; range++) {
		u64 size = ram->ranges[range].end - ram->ranges[range].first;

		if (index < size)
			return pfn_to_page(ram->ranges[range].first + index);
		index -= size;
	}
	return NULL;
}

/*
 * Finds the page table entries that map an address, from the third level down, and the address in the direct map.
 * Entries of higher levels map the kernel's stacks as well, and are left alone.
 */
static size_t walk(unsigned long address, u64 *entries[3], void **mapped)
{
	u64 *table = __va(read_cr3_pa());
	size_t count = 0;
	int level;

	*mapped = NULL;
	for (level = pgtable_l5_enabled() ? 5 : 4; level > 0; level--) {
		unsigned int shift = PAGE_SHIFT + 9 * (level - 1);
		u64 *entry = table + (address >> shift & 511);
		u64 at = *entry & PTE_PFN_MASK;

		if (level <= 3)
			entries[count++] = entry;
		if (!(*entry & _PAGE_PRESENT) || !pfn_valid(at >> PAGE_SHIFT))
			return count;
		if (level == 1 || (level <= 3 && *entry & _PAGE_PSE)) {
			*mapped = __va((at & ~((1UL << shift) - 1)) | (address & ((1UL << shift) - 1)));
			return count;
		}
		table = __va(at);
	}
	return count;
}

static void flip(const struct cdb_prepared *prepared, const char *where)
{
	const struct cdb_bitmap *bitmap = prepared->bitmap;
	struct page *page = random_page(&prepared->scan.ram);
	u64 *entries[3];
	void *mapped;
	size_t count = walk((unsigned long)page, entries, &mapped);

	if (!strcmp(where, "state")) {
		flip_in(prepared->scan.state, CRASH_SCAN_STATE_SIZE);
	} else if (!strcmp(where, "chunks") || !strcmp(where, "early-chunks")) {
		struct crash_scan_chunk *chunk = &bitmap->chunks[random_below(bitmap->count)];

		flip_in(chunk->words, chunk->size);
	} else if (!strcmp(where, "header")) {
		flip_in(prepared->area->memory, sizeof(struct crash_dump_bitmap_info_v2) +
			bitmap->count * sizeof(struct crash_dump_bitmap_chunk));
	} else if (!strcmp(where, "pages") && mapped) {
		/* Through the direct map: the virtual memory map can be read-only in parts. */
		flip_in(mapped, sizeof(struct page));
	} else if (!strcmp(where, "tables") && count) {
		flip_in(entries[random_below(count)], sizeof(u64));
	}
}

static void flips(const struct cdb_prepared *prepared, bool before)
{
	char where[16];
	u64 seed, index;
	unsigned int count;
	bool is_before;

	if (sscanf(test_flip, "%15[^:]:%u:%llu", where, &count, &seed) != 3)
		return;
	is_before = strcmp(where, "header") && strcmp(where, "chunks");
	if (is_before != before)
		return;
	random = seed * 0x9e3779b97f4a7c15ULL | 1;
	for (index = 0; index < count; index++)
		flip(prepared, where);
	pr_emerg("test: flipped %u bits in %s\n", count, where);
}

void cdb_test_begin(const struct cdb_prepared *prepared)
{
	flips(prepared, true);
	calls = 0;
	counting = true;
}

void cdb_test_end(const struct cdb_prepared *prepared)
{
	counting = false;
	pr_emerg("test: %lu calls\n", calls);
	flips(prepared, false);
}
