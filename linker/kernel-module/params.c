// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The module parameters.
 *
 * All but the budget are read once, when the module is loaded.
 */
#include "internal.h"

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

unsigned int cdb_first_level = CDB_LEVEL_MAX;
module_param_named(level, cdb_first_level, uint, 0444);
MODULE_PARM_DESC(level, "dump level, 0 to 31 (default 31); change it in /proc/crash_dump_bitmap/dump_level");

static unsigned int budget = 10000;
module_param(budget, uint, 0644);
MODULE_PARM_DESC(budget, "milliseconds that the scan may take in a panic (default 10000); 0 scans nothing");

static char *rules = "makedumpfile";
module_param(rules, charp, 0444);
MODULE_PARM_DESC(rules, "rule set that decides: makedumpfile (default) or kernel");

static unsigned int format = 2;
module_param(format, uint, 0444);
MODULE_PARM_DESC(format, "2 (default), or 1 to write crash_dump_bitmap_info of version 1 as well");

/* The parameter rules as the scanner's number, and whether format is 1: set by cdb_params_check(). */
u32 cdb_rules;
bool cdb_wants_v1;

static const char *const rules_names[] = { "makedumpfile", "kernel" };

const char *cdb_rules_name(u32 rules)
{
	return rules < ARRAY_SIZE(rules_names) ? rules_names[rules] : "?";
}

/* The budget can change at any time, through sysfs. */
unsigned int cdb_budget_ms(void)
{
	return READ_ONCE(budget);
}

int cdb_params_check(void)
{
	int found = match_string(rules_names, ARRAY_SIZE(rules_names), rules);

	if (found < 0) {
		pr_err("rules=%s is unknown: use makedumpfile or kernel\n", rules);
		return -EINVAL;
	}
	cdb_rules = found;
	if (cdb_first_level > CDB_LEVEL_MAX) {
		pr_err("level=%u is out of range: use 0 to %d\n", cdb_first_level, CDB_LEVEL_MAX);
		return -EINVAL;
	}
	if (format != 1 && format != 2) {
		pr_err("format=%u is unknown: use 1 or 2\n", format);
		return -EINVAL;
	}
	cdb_wants_v1 = format == 1;
	return 0;
}
