// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * crash_dump_bitmap.ko: decides in the dying kernel which pages are worth dumping, and leaves a bitmap of them for the
 * capture kernel. Documentation/kernel-module.md says how it is used.
 */
#include "internal.h"

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

static unsigned int level = 31;
module_param(level, uint, 0444);
MODULE_PARM_DESC(level, "dump level, 0 to 31 (default 31); later by /proc/crash_dump_bitmap/dump_level");

unsigned int cdb_budget_ms = 10000;
module_param_named(budget, cdb_budget_ms, uint, 0644);
MODULE_PARM_DESC(budget, "milliseconds that the scan may take in a panic (default 10000); 0 scans nothing");

static char *rules = "makedumpfile";
module_param(rules, charp, 0444);
MODULE_PARM_DESC(rules, "whose rules decide: makedumpfile (default) or kernel");

static unsigned int format = 2;
module_param(format, uint, 0444);
MODULE_PARM_DESC(format, "2 (default), or 1 to write crash_dump_bitmap_info of version 1 as well");

u32 cdb_rules;
bool cdb_wants_v1;
struct cdb_area cdb_area;

static const char *const rules_names[] = { "makedumpfile", "kernel" };

const char *cdb_rules_name(u32 rules)
{
	return rules < ARRAY_SIZE(rules_names) ? rules_names[rules] : "?";
}

static int check_parameters(void)
{
	int found = match_string(rules_names, ARRAY_SIZE(rules_names), rules);

	if (found < 0) {
		pr_err("rules=%s: makedumpfile or kernel\n", rules);
		return -EINVAL;
	}
	cdb_rules = found;
	if (level > 31) {
		pr_err("level=%u: a dump level is a number from 0 to 31\n", level);
		return -EINVAL;
	}
	if (format != 1 && format != 2) {
		pr_err("format=%u: 1 or 2\n", format);
		return -EINVAL;
	}
	cdb_wants_v1 = format == 1;
	return 0;
}

static int __init cdb_init(void)
{
	int error = check_parameters();

	if (error)
		return error;
	cdb_clock_start();
	error = cdb_vmcoreinfo_load();
	if (!error)
		error = cdb_vmcoreinfo_check();
	if (error)
		goto no_check;
	/* First, so that no memory comes between. */
	error = cdb_hotplug_register();
	if (error)
		goto no_check;
	error = cdb_prepare(level);
	if (error)
		goto no_prepare;
	error = cdb_proc_create();
	if (error)
		goto no_prepare;
	error = cdb_panic_register();
	if (error)
		goto no_panic;
	pr_info("ready; for the capture kernel's command line: crash_dump_bitmap=%pa\n", &cdb_area.address);
	return 0;

no_panic:
	cdb_proc_remove();
no_prepare:
	cdb_hotplug_unregister();
	cdb_unprepare();
no_check:
	cdb_vmcoreinfo_free();
	return error;
}

static void __exit cdb_exit(void)
{
	cdb_panic_unregister();
	cdb_proc_remove();
	cdb_hotplug_unregister();
	cdb_unprepare();
	cdb_vmcoreinfo_free();
}

module_init(cdb_init);
module_exit(cdb_exit);
MODULE_DESCRIPTION("A bitmap of the pages worth dumping, made when the kernel panics");
MODULE_AUTHOR("The authors of crash dump bitmap");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("0.1.0");
