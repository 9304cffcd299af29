// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The files in /proc/crash_dump_bitmap: dump_level, page_status and status. */
#include "internal.h"

#include <linux/fs.h>
#include <linux/kernel_read_file.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#define POST_NOTIFIERS "/sys/module/kernel/parameters/crash_kexec_post_notifiers"

static struct proc_dir_entry *directory;

static int dump_level_show(struct seq_file *file, void *data)
{
	seq_printf(file, "%u\n", cdb_level());
	return 0;
}

static int dump_level_open(struct inode *inode, struct file *file)
{
	return single_open(file, dump_level_show, NULL);
}

static ssize_t dump_level_write(struct file *file, const char __user *from, size_t size, loff_t *offset)
{
	unsigned int level;
	int error;

	if (*offset || kstrtouint_from_user(from, size, 0, &level) || level > CDB_LEVEL_MAX)
		return -EINVAL;
	error = cdb_prepare(level);
	if (error)
		return error;
	*offset += size;
	return size;
}

static const struct proc_ops dump_level_ops = {
	.proc_open = dump_level_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = dump_level_write,
};

static int page_status_show(struct seq_file *file, void *data)
{
	struct cdb_live live;
	const struct crash_scan_result *result = &live.result;
	u64 excluded;
	int error = cdb_live_scan(&live);

	if (error)
		return error;
	excluded = result->free_pages + result->unaccepted_pages + result->cache_pages + result->cache_private_pages +
		   result->user_pages + result->hwpoison_pages + result->offline_pages;
	seq_printf(file, "dump_level           %u\n", live.level);
	seq_printf(file, "rules                %s\n", cdb_rules_name(live.rules));
	seq_printf(file, "total_pages          %llu\n", live.pages);
	seq_printf(file, "cache_pages          %llu\n", result->cache_pages);
	seq_printf(file, "cache_private_pages  %llu\n", result->cache_private_pages);
	seq_printf(file, "user_pages           %llu\n", result->user_pages);
	seq_printf(file, "free_pages           %llu\n", result->free_pages);
	seq_printf(file, "hwpoison_pages       %llu\n", result->hwpoison_pages);
	seq_printf(file, "offline_pages        %llu\n", result->offline_pages);
	seq_printf(file, "unaccepted_pages     %llu\n", result->unaccepted_pages);
	seq_printf(file, "excluded_pages       %llu\n", excluded);
	seq_printf(file, "unreadable_pages     %llu\n", result->unreadable_pages);
	seq_printf(file, "bad_order_pages      %llu\n", result->bad_order_pages);
	seq_printf(file, "setup_us             %llu\n", live.setup_ns / NSEC_PER_USEC);
	seq_printf(file, "scan_us              %llu\n", live.scan_ns / NSEC_PER_USEC);
	return 0;
}

static int page_status_open(struct inode *inode, struct file *file)
{
	return single_open_size(file, page_status_show, NULL, PAGE_SIZE);
}

static const struct proc_ops page_status_ops = {
	.proc_open = page_status_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

/*
 * The parameter crash_kexec_post_notifiers: 'Y', 'N', or '?' if it cannot be read.
 *
 * The kernel does not export the variable. Its file is looked up from the root of init, so that the answer does not
 * depend on the mounts of the process that reads status.
 */
static char post_notifiers(void)
{
	char value;
	void *buf = &value;
	size_t file_size;

	if (kernel_read_file_from_path_initns(POST_NOTIFIERS, 0, &buf, sizeof(value), &file_size,
					      READING_UNKNOWN) != sizeof(value))
		return '?';
	return value;
}

static int status_show(struct seq_file *file, void *data)
{
	const struct cdb_prepared *prepared;
	char post = post_notifiers();
	struct cdb_live live;

	cdb_live_last(&live);
	seq_printf(file, "command line   crash_dump_bitmap=%pa\n", &cdb_area.address);
	seq_printf(file, "header         %pa, %zu bytes\n", &cdb_area.address, cdb_area.size);
	if (cdb_area.v1) {
		phys_addr_t v1 = virt_to_phys(cdb_area.v1);

		seq_printf(file, "version 1      %pa\n", &v1);
	}
	rcu_read_lock();
	prepared = rcu_dereference(cdb_ready);
	seq_printf(file, "bitmap         frames 0x0 to 0x%llx, %zu chunks of %lu KiB\n", prepared->bitmap->frames - 1,
		   prepared->bitmap->count, (PAGE_SIZE << prepared->bitmap->order) / 1024);
	seq_printf(file, "memory         %llu pages in %zu ranges\n", prepared->scan.ram.pages, prepared->scan.ram.count);
	seq_printf(file, "dump level     %u\n", prepared->scan.level);
	rcu_read_unlock();
	seq_printf(file, "rules          %s\n", cdb_rules_name(cdb_rules));
	seq_printf(file, "budget         %u ms\n", cdb_budget_ms());
	seq_printf(file, "clock          %s\n", cdb_clock_name);
	if (kexec_crash_loaded())
		seq_puts(file, "crash kernel   loaded\n");
	else
		seq_puts(file, "crash kernel   not loaded: a panic will not scan; load one (kexec -p)\n");
	if (post == 'Y')
		seq_puts(file, "post notifiers on\n");
	else if (post == 'N')
		seq_puts(file, "post notifiers off: a panic will not scan; echo 1 > " POST_NOTIFIERS "\n");
	else
		seq_puts(file, "post notifiers unknown: cannot read " POST_NOTIFIERS "; a panic scans only if it says Y\n");
	if (live.when)
		seq_printf(file, "last scan      of the running system, %llu s ago, took %llu us\n",
			   ktime_get_boottime_seconds() - live.when, live.scan_ns / NSEC_PER_USEC);
	else
		seq_puts(file, "last scan      none\n");
	return 0;
}

static int status_open(struct inode *inode, struct file *file)
{
	return single_open(file, status_show, NULL);
}

static const struct proc_ops status_ops = {
	.proc_open = status_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

int cdb_proc_create(void)
{
	directory = proc_mkdir("crash_dump_bitmap", NULL);
	if (!directory)
		return -ENOMEM;
	if (!proc_create("dump_level", 0644, directory, &dump_level_ops) ||
	    !proc_create("page_status", 0400, directory, &page_status_ops) ||
	    !proc_create("status", 0400, directory, &status_ops)) {
		cdb_proc_remove();
		return -ENOMEM;
	}
	return 0;
}

void cdb_proc_remove(void)
{
	proc_remove(directory);
}
