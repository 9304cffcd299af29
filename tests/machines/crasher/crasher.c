// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * crasher: crashes the kernel in ways that user space alone cannot.
 *
 *	echo oops > /sys/module/crasher/parameters/crash	a null pointer, in process context
 *	echo interrupt > ...					panic() in a hard interrupt on this CPU
 *	echo hung > ...						a task that sleeps uninterruptibly for ever
 *
 * With "echo 1 > .../parameters/churn" a panic notifier of the lowest priority allocates a block of pages and frees
 * another one, as other code in the panic path could.
 *
 * kernel.panic_on_oops and kernel.hung_task_panic decide whether an oops and a hung task cause a panic.
 */
#define pr_fmt(fmt) "crasher: " fmt

#include <linux/err.h>
#include <linux/irq_work.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>

static void crash_oops(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static void panic_here(struct irq_work *work)
{
	panic("crasher: in a hard interrupt (%d) on CPU %u", !!in_hardirq(), smp_processor_id());
}

static DEFINE_IRQ_WORK(interrupt, panic_here);

static void crash_interrupt(void)
{
	irq_work_queue(&interrupt);
}

static int sleep_for_ever(void *unused)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule();
	}
	return 0;
}

static void crash_hung(void)
{
	struct task_struct *task = kthread_run(sleep_for_ever, NULL, "crasher-hung");

	if (IS_ERR(task))
		pr_err("cannot create the task: %ld\n", PTR_ERR(task));
}

static int set_crash(const char *value, const struct kernel_param *param)
{
	if (sysfs_streq(value, "oops"))
		crash_oops();
	else if (sysfs_streq(value, "interrupt"))
		crash_interrupt();
	else if (sysfs_streq(value, "hung"))
		crash_hung();
	else
		return -EINVAL;
	return 0;
}

static const struct kernel_param_ops crash_ops = { .set = set_crash };
module_param_cb(crash, &crash_ops, NULL, 0200);
MODULE_PARM_DESC(crash, "oops, interrupt or hung");

#define CHURN_ORDER 5

static bool churn;
module_param(churn, bool, 0644);
MODULE_PARM_DESC(churn, "allocate and free in the panic path");

static struct page *to_free;

static int on_panic(struct notifier_block *block, unsigned long action, void *data)
{
	struct page *page;

	if (!churn)
		return NOTIFY_DONE;
	page = alloc_pages(GFP_ATOMIC, CHURN_ORDER);
	if (page) {
		memset(page_address(page), 0x5a, PAGE_SIZE << CHURN_ORDER);
		pr_emerg("%u frames allocated from 0x%lx on\n", 1 << CHURN_ORDER, page_to_pfn(page));
	}
	pr_emerg("%u frames freed from 0x%lx on\n", 1 << CHURN_ORDER, page_to_pfn(to_free));
	__free_pages(to_free, CHURN_ORDER);
	return NOTIFY_DONE;
}

static struct notifier_block panic_block = { .notifier_call = on_panic, .priority = INT_MIN };

static unsigned int leak;
module_param(leak, uint, 0);
MODULE_PARM_DESC(leak, "bytes that are allocated and never freed");

static int __init crasher_init(void)
{
	if (leak && !kmalloc(leak, GFP_KERNEL))
		return -ENOMEM;
	to_free = alloc_pages(GFP_KERNEL, CHURN_ORDER);
	if (!to_free)
		return -ENOMEM;
	return atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
}
module_init(crasher_init);

static void __exit crasher_exit(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
	__free_pages(to_free, CHURN_ORDER);
}
module_exit(crasher_exit);

MODULE_DESCRIPTION("Crashes the kernel in a chosen way, for tests");
MODULE_LICENSE("Dual MIT/GPL");
