/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * workload MIB [huge]: fills memory with pages of every class that user space
 * can make, creates /ready, and stays.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define PAGE 4096UL
#define HUGE_1G (30 << 26) /* MAP_HUGE_1GB */

/* Maps memory with these flags, aligned to 2 MiB. Exits if there is no memory. */
static char *region(size_t size, int flags)
{
	size_t slack = flags & MAP_HUGETLB ? 0 : 2 * MIB;
	char *start = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED) {
		perror("workload: mmap");
		exit(1);
	}
	return slack ? (char *)(((size_t)start + slack - 1) & ~(slack - 1)) : start;
}

/* Writes a different word to each page, so that no two pages are equal and none is zero. */
static void touch(char *start, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE)
		*(size_t *)(start + at) = (size_t)(start + at) | 1;
}

static void survive(int number)
{
	(void)number;
}

static void poison(const char *what, char *page)
{
	int failed = madvise(page, PAGE, MADV_HWPOISON);

	printf("workload: poisoning %s: %s\n", what, failed ? "not possible" : "done");
}

int main(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) * MIB;
	char *small, *large, *shared, *hugetlb, *victims;

	/* Since 6.12 the owner of a poisoned page gets a signal that it cannot ignore. The program must survive it. */
	signal(SIGBUS, survive);
	setvbuf(stdout, NULL, _IOLBF, 0);

	small = region(size, MAP_PRIVATE);
	madvise(small, size, MADV_NOHUGEPAGE);
	touch(small, size);
	/* Free blocks of order 0 between used pages. */
	for (size_t at = 0; at < size / 8; at += 2 * PAGE)
		munmap(small + at, PAGE);

	large = region(size, MAP_PRIVATE);
	madvise(large, size, MADV_HUGEPAGE);
	touch(large, size);
	/* Transparent huge pages that are partly unmapped. */
	for (size_t at = 0; at + 2 * MIB <= size / 2; at += 4 * MIB)
		munmap(large + at + 9 * PAGE, 5 * PAGE);

	shared = region(16 * MIB, MAP_SHARED);
	touch(shared, 16 * MIB);
	hugetlb = region(8 * MIB, MAP_PRIVATE | MAP_HUGETLB);
	touch(hugetlb, 8 * MIB);
	if (argc > 2 && strcmp(argv[2], "huge") == 0)
		touch(region(1024 * MIB, MAP_PRIVATE | MAP_HUGETLB | HUGE_1G), 1024 * MIB);
	/* Allocated pages that contain only zeros. */
	memset(region(8 * MIB, MAP_PRIVATE), 0, 8 * MIB);

	victims = region(2 * MIB, MAP_PRIVATE);
	madvise(victims, 2 * MIB, MADV_NOHUGEPAGE);
	touch(victims, 2 * MIB);
	poison("a page of anonymous memory", victims + 3 * PAGE);
	poison("a page of shared memory", shared + 7 * PAGE);
	poison("a part of a huge page", large + size - MIB);
	poison("a hugetlb page", hugetlb);

	if (fork() == 0) {
		/* Private copies of the pages shared with the parent. */
		touch(small + size / 2, size / 8);
		pause();
	}
	close(open("/ready", O_CREAT | O_WRONLY, 0600));
	for (;;)
		pause();
}
