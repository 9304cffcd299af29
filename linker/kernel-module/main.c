// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * crash_dump_bitmap.ko decides in the dying kernel which pages are worth dumping, and leaves a bitmap of them for the
 * capture kernel. Documentation/kernel-module.md describes its use.
 */
#include "internal.h"

#include <linux/module.h>

static int __init cdb_init(void)
{
	int error = cdb_params_check();

	if (error)
		return error;
	cdb_clock_start();
	error = cdb_vmcoreinfo_load();
	if (!error)
		error = cdb_vmcoreinfo_check();
	if (error)
		goto no_check;
	/* Registered before RAM is collected, so that no memory comes online unseen in between. */
	error = cdb_hotplug_register();
	if (error)
		goto no_check;
	error = cdb_prepare(cdb_first_level);
	if (error)
		goto no_prepare;
	error = cdb_proc_create();
	if (error)
		goto no_prepare;
	error = cdb_panic_register();
	if (error)
		goto no_panic;
	pr_info("ready; append to the capture kernel's command line: crash_dump_bitmap=%pa\n", &cdb_area.address);
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
