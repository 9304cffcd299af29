// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * corrupter: damages what the scanner follows to the struct pages, and panics at once, before the kernel itself trips
 * over it.
 *
 *	insmod corrupter.ko what=unmapped	a page of PMDs of the vmemmap's middle is empty
 *	insmod corrupter.ko what=garbage	it points outside of memory
 *	insmod corrupter.ko what=loop		the page of PUDs above it points to itself
 *	insmod corrupter.ko what=endless	every root of the section table is there
 */
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/io.h>
#include <asm/pgtable.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "unmapped, garbage, loop or endless");

/* The entry of the page table `table` that leads to `address` at the level whose entries have `shift` bits below. */
static u64 *entry_of(u64 *table, unsigned long address, int shift)
{
	return table + ((address >> shift) & 511);
}

/* The table below an entry. */
static u64 *below(u64 *entry)
{
	return __va(*entry & 0x000ffffffffff000UL);
}

static int __init corrupter_init(void)
{
	/* In the vmemmap, the struct page of what is about the middle of memory. */
	unsigned long address = (unsigned long)pfn_to_page(totalram_pages() / 2);
	u64 *table, *puds, *pmds;
	unsigned long cr3, flags, root;

	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	table = __va(cr3 & 0x000ffffffffff000UL);
	if (pgtable_l5_enabled())
		table = below(entry_of(table, address, 48));
	puds = below(entry_of(table, address, 39));
	pmds = below(entry_of(puds, address, 30));

	local_irq_save(flags);
	if (!strcmp(what, "unmapped")) {
		memset(pmds, 0, PAGE_SIZE);
	} else if (!strcmp(what, "garbage")) {
		memset(pmds, 0xe3, PAGE_SIZE);
	} else if (!strcmp(what, "loop")) {
		*entry_of(puds, address, 30) = __pa(puds) | _KERNPG_TABLE;
	} else if (!strcmp(what, "endless")) {
		for (root = 0; root < NR_SECTION_ROOTS; root++)
			mem_section[root] = mem_section[0];
	} else {
		local_irq_restore(flags);
		return -EINVAL;
	}
	panic("corrupter: %s", what);
}
module_init(corrupter_init);

MODULE_DESCRIPTION("Damages page tables and the section table, and panics, for tests");
MODULE_LICENSE("Dual MIT/GPL");
