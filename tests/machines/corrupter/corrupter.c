// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * corrupter: damages data of the purgatory stage, and panics immediately, before the damage affects the kernel itself.
 *
 * Data that leads the scanner to the struct pages:
 *
 *	insmod corrupter.ko what=unmapped	clears a PMD page in the middle of the vmemmap
 *	insmod corrupter.ko what=garbage	lets its entries point outside of memory
 *	insmod corrupter.ko what=loop		lets the PUD page above it point to itself
 *	insmod corrupter.ko what=endless	fills every root of the section table
 *
 * The loaded stage, whose parameters are at physical address BLOCK:
 *
 *	insmod corrupter.ko what=code block=BLOCK	changes the last byte of its code and constants
 *	insmod corrupter.ko what=chunk block=BLOCK to=TO [seal=1]
 *		moves the bitmap to physical address TO; seal=1 corrects the checksum of the parameters
 */
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/io.h>
#include <asm/pgtable.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "unmapped, garbage, loop, endless, code or chunk");

static unsigned long block;
module_param(block, ulong, 0);
MODULE_PARM_DESC(block, "Physical address of the stage's parameters");

static unsigned long to;
module_param(to, ulong, 0);
MODULE_PARM_DESC(to, "Physical address that the bitmap is moved to");

static bool seal;
module_param(seal, bool, 0);
MODULE_PARM_DESC(seal, "Correct the checksum of the parameters");

/* Indices of some of the stage's parameters. */
enum {
	PARAMETER_CRC = 2,
	PARAMETER_BLOCK_SIZE = 3,
	PARAMETER_AREA = 4,
	PARAMETER_IMAGE_CHECKED = 7,
	PARAMETER_BITMAP = 12,
};
#define PARAMETERS_MAGIC "CDSTAGE\x02"

/* The entry for `address` in the page table `table`; one entry covers 1 << `shift` bytes. */
static u64 *entry_of(u64 *table, unsigned long address, int shift)
{
	return table + ((address >> shift) & 511);
}

/* The table that an entry points to. */
static u64 *below(u64 *entry)
{
	return __va(*entry & 0x000ffffffffff000UL);
}

static u32 crc32c_of(const u8 *bytes, size_t size)
{
	u32 crc = ~0;
	int bit;

	while (size--) {
		crc ^= *bytes++;
		for (bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

/* The kernel maps the loaded stage read-only, so a separate mapping of 8 pages is used for writing. */
#define WINDOW_PAGES 8

static u8 *map_stage(unsigned long address)
{
	struct page *pages[WINDOW_PAGES];
	unsigned int i;
	u8 *window;

	for (i = 0; i < WINDOW_PAGES; i++)
		pages[i] = pfn_to_page((address >> PAGE_SHIFT) + i);
	window = vmap(pages, WINDOW_PAGES, VM_MAP, PAGE_KERNEL);
	return window ? window + offset_in_page(address) : NULL;
}

static int damage_stage(void)
{
	u64 *words = (u64 *)map_stage(block);
	unsigned long last;
	u8 *byte;

	if (!words || memcmp(words, PARAMETERS_MAGIC, sizeof(u64)) ||
	    words[PARAMETER_BLOCK_SIZE] > WINDOW_PAGES * PAGE_SIZE)
		return -EINVAL;
	if (!strcmp(what, "code")) {
		last = words[PARAMETER_AREA] + words[PARAMETER_IMAGE_CHECKED] - 1;
		byte = map_stage(last);
		if (!byte)
			return -ENOMEM;
		*byte ^= 1;
		return 0;
	}
	words[PARAMETER_BITMAP] = to - words[PARAMETER_AREA];
	if (seal) {
		words[PARAMETER_CRC] = 0;
		words[PARAMETER_CRC] = crc32c_of((u8 *)words, words[PARAMETER_BLOCK_SIZE]);
	}
	return 0;
}

/* Damages the vmemmap near the struct page of the middle of memory. */
static int damage_page_tables(void)
{
	unsigned long address = (unsigned long)pfn_to_page(totalram_pages() / 2);
	u64 *table, *puds, *pmds;
	unsigned long cr3;

	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	table = __va(cr3 & 0x000ffffffffff000UL);
	if (pgtable_l5_enabled())
		table = below(entry_of(table, address, 48));
	puds = below(entry_of(table, address, 39));
	pmds = below(entry_of(puds, address, 30));

	if (!strcmp(what, "unmapped"))
		memset(pmds, 0, PAGE_SIZE);
	else if (!strcmp(what, "garbage"))
		memset(pmds, 0xe3, PAGE_SIZE);
	else if (!strcmp(what, "loop"))
		*entry_of(puds, address, 30) = __pa(puds) | _KERNPG_TABLE;
	else
		return -EINVAL;
	return 0;
}

static int damage_sections(void)
{
	unsigned long root;

	for (root = 0; root < NR_SECTION_ROOTS; root++)
		mem_section[root] = mem_section[0];
	return 0;
}

static int __init corrupter_init(void)
{
	unsigned long flags;
	int error;

	if (block) {
		error = damage_stage();
		if (error)
			return error;
		panic("corrupter: %s", what);
	}
	local_irq_save(flags);
	error = !strcmp(what, "endless") ? damage_sections() : damage_page_tables();
	if (!error)
		panic("corrupter: %s", what);
	local_irq_restore(flags);
	return error;
}
module_init(corrupter_init);

MODULE_DESCRIPTION("Damages page tables, the section table and the purgatory stage, and panics, for tests");
MODULE_LICENSE("Dual MIT/GPL");
