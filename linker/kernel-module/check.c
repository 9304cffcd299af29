// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * VMCOREINFO: loads the text that tells the scanner about this kernel, and compares it with this build of the module.
 *
 * The two differ only if something is badly wrong: a module forced into another kernel, the headers of another kernel, an
 * overwritten text. A scan by wrong offsets would lose pages, so the module refuses to load and names the difference.
 */
#include "internal.h"
#include "test.h"

#include <linux/crash_core.h>
#include <linux/elf.h>
#include <linux/kexec.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/page-flags.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include <linux/version.h>
#include <asm/mem_encrypt.h>
#include <generated/utsrelease.h>
#if __has_include(<linux/vmcore_info.h>)
#include <linux/vmcore_info.h>
#endif

struct cdb_text cdb_vmcoreinfo;

/* A value that this build knows, under its key in VMCOREINFO. */
struct fact {
	const char *key;
	/* VMCOREINFO has addresses in hexadecimal and all other values in decimal. */
	bool is_address;
	s64 value;
};

#define SIZE_OF(name, type)		{ "SIZE(" name ")", false, sizeof(type) }
#define OFFSET_OF(name, type, field)	{ "OFFSET(" name "." #field ")", false, offsetof(type, field) }
#define NUMBER_OF(name)			{ "NUMBER(" #name ")", false, (s64)(name) }
#define NUMBER_IS(name, value)		{ "NUMBER(" name ")", false, (s64)(value) }
#define LENGTH_IS(name, value)		{ "LENGTH(" name ")", false, (s64)(value) }
#define SYMBOL_IS(name, value)		{ "SYMBOL(" name ")", true, (s64)(unsigned long)(value) }

/* Copies the text of the VMCOREINFO note that the kernel keeps in memory. */
int cdb_vmcoreinfo_load(void)
{
	static const char name[] = VMCOREINFO_NOTE_NAME;
	phys_addr_t address = paddr_vmcoreinfo_note();
	struct elf64_note note;
	char found[ALIGN(sizeof(name), 4)];
	const char *at = __va(address);
	char *text;

	if (!address || copy_from_kernel_nofault(&note, at, sizeof(note)) ||
	    copy_from_kernel_nofault(found, at + sizeof(note), sizeof(found)) ||
	    note.n_namesz != sizeof(name) || memcmp(found, name, sizeof(name)) ||
	    !note.n_descsz || note.n_descsz > VMCOREINFO_BYTES) {
		pr_err("VMCOREINFO: no note at %pa\n", &address);
		return -ENODEV;
	}
	text = kmalloc(note.n_descsz + 1, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	if (copy_from_kernel_nofault(text, at + sizeof(note) + sizeof(found), note.n_descsz)) {
		pr_err("VMCOREINFO: cannot read the note at %pa\n", &address);
		kfree(text);
		return -ENODEV;
	}
	text[note.n_descsz] = '\0';
	cdb_vmcoreinfo.text = text;
	cdb_vmcoreinfo.size = strlen(text);
	return cdb_test_vmcoreinfo(&cdb_vmcoreinfo);
}

void cdb_vmcoreinfo_free(void)
{
	kfree(cdb_vmcoreinfo.text);
	cdb_vmcoreinfo.text = NULL;
}

/* The value of "key=value", up to the end of the line; null if no line has the key. */
static const char *value_of(const char *key, size_t *size)
{
	const char *line = cdb_vmcoreinfo.text;
	size_t len = strlen(key);

	while (line && *line) {
		if (!strncmp(line, key, len) && line[len] == '=') {
			*size = strcspn(line + len + 1, "\n");
			return line + len + 1;
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return NULL;
}

/* Whether VMCOREINFO agrees with the fact. A missing key agrees: the scanner decides whether it needs the key. */
static bool holds(const struct fact *fact)
{
	char digits[24] = "";
	size_t size;
	const char *value = value_of(fact->key, &size);
	s64 number;
	int failed;

	if (!value)
		return true;
	if (size < sizeof(digits))
		memcpy(digits, value, size);
	if (fact->is_address)
		failed = kstrtou64(digits, 16, (u64 *)&number);
	else
		failed = kstrtos64(digits, 0, &number);
	if (!failed && number == fact->value)
		return true;
	if (fact->is_address)
		pr_err("VMCOREINFO: %s=%.*s, but this module has 0x%llx: rebuild it for this kernel\n", fact->key,
		       (int)min_t(size_t, size, 40), value, fact->value);
	else
		pr_err("VMCOREINFO: %s=%.*s, but this module has %lld: rebuild it for this kernel\n", fact->key,
		       (int)min_t(size_t, size, 40), value, fact->value);
	return false;
}

/* Compares VMCOREINFO with the headers of this build and with the symbols that the kernel exports. */
int cdb_vmcoreinfo_check(void)
{
	const struct fact facts[] = {
		{ "PAGESIZE", false, PAGE_SIZE },
		SIZE_OF("page", struct page),
		OFFSET_OF("page", struct page, flags),
		OFFSET_OF("page", struct page, _refcount),
		OFFSET_OF("page", struct page, mapping),
		OFFSET_OF("page", struct page, lru),
		OFFSET_OF("page", struct page, _mapcount),
		OFFSET_OF("page", struct page, private),
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
		OFFSET_OF("page", struct page, compound_info),
#else
		OFFSET_OF("page", struct page, compound_head),
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
		OFFSET_OF("page", struct page, compound_dtor),
		OFFSET_OF("page", struct page, compound_order),
#endif
		SIZE_OF("mem_section", struct mem_section),
		OFFSET_OF("mem_section", struct mem_section, section_mem_map),
		LENGTH_IS("mem_section", NR_SECTION_ROOTS),
		SYMBOL_IS("mem_section", mem_section),
		NUMBER_OF(SECTION_SIZE_BITS),
		NUMBER_OF(MAX_PHYSMEM_BITS),
		SYMBOL_IS("vmemmap", vmemmap),
		NUMBER_OF(phys_base),
		NUMBER_IS("sme_mask", sme_me_mask),
		NUMBER_IS("pgtable_l5_enabled", pgtable_l5_enabled()),
		SYMBOL_IS("init_uts_ns", &init_uts_ns),
		SIZE_OF("pglist_data", struct pglist_data),
		OFFSET_OF("pglist_data", struct pglist_data, node_zones),
		OFFSET_OF("pglist_data", struct pglist_data, nr_zones),
		OFFSET_OF("pglist_data", struct pglist_data, node_start_pfn),
		OFFSET_OF("pglist_data", struct pglist_data, node_spanned_pages),
		SIZE_OF("zone", struct zone),
		OFFSET_OF("zone", struct zone, free_area),
		OFFSET_OF("zone", struct zone, spanned_pages),
		LENGTH_IS("zone.free_area", ARRAY_SIZE(((struct zone *)0)->free_area)),
		SIZE_OF("free_area", struct free_area),
		OFFSET_OF("free_area", struct free_area, free_list),
		LENGTH_IS("free_area.free_list", MIGRATE_TYPES),
		SIZE_OF("list_head", struct list_head),
		NUMBER_OF(PG_lru),
		NUMBER_OF(PG_private),
		NUMBER_OF(PG_swapcache),
		NUMBER_OF(PG_swapbacked),
#ifdef CONFIG_MEMORY_FAILURE
		NUMBER_OF(PG_hwpoison),
#endif
		NUMBER_IS("PG_head_mask", 1UL << PG_head),
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
		NUMBER_OF(PG_slab),
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
		NUMBER_IS("PAGE_BUDDY_MAPCOUNT_VALUE", (int)((u32)PGTY_buddy << 24)),
		NUMBER_IS("PAGE_OFFLINE_MAPCOUNT_VALUE", (int)((u32)PGTY_offline << 24)),
		NUMBER_IS("PAGE_HUGETLB_MAPCOUNT_VALUE", (int)((u32)PGTY_hugetlb << 24)),
		NUMBER_IS("PAGE_SLAB_MAPCOUNT_VALUE", (int)((u32)PGTY_slab << 24)),
#else
		NUMBER_IS("PAGE_BUDDY_MAPCOUNT_VALUE", (int)~PG_buddy),
		NUMBER_IS("PAGE_OFFLINE_MAPCOUNT_VALUE", (int)~PG_offline),
#endif
	};
	size_t index, size;
	const char *release = value_of("OSRELEASE", &size);

	if (!release || size != strlen(UTS_RELEASE) || memcmp(release, UTS_RELEASE, size)) {
		pr_err("VMCOREINFO: OSRELEASE=%.*s, but this module has " UTS_RELEASE ": rebuild it for this kernel\n",
		       release ? (int)min_t(size_t, size, 64) : 7, release ?: "missing");
		return -EINVAL;
	}
	for (index = 0; index < ARRAY_SIZE(facts); index++) {
		if (!holds(&facts[index]))
			return -EINVAL;
	}
	return 0;
}
