/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * load: changes a machine's memory continuously until it is killed: page cache, anonymous memory, huge pages, shared
 * memory, and bursts of forks. It creates /loaded when all of these are running.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define PAGE 4096UL

/* A random number less than "end" (xorshift). Each process has its own state. */
static unsigned long state;

static unsigned long below(unsigned long end)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % end;
}

static void touch(char *start, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE)
		start[at] = 1;
}

/* A private mapping with all pages touched; NULL if there is no memory. */
static char *mapping(size_t size, int advice)
{
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	madvise(start, size, advice);
	touch(start, size);
	return start;
}

static void anonymous(void)
{
	size_t size = (1 + below(512)) * PAGE;
	char *start = mapping(size, MADV_NOHUGEPAGE);

	if (start)
		munmap(start, size);
}

/* Allocates transparent huge pages and splits some of them. */
static void huge(void)
{
	size_t size = 8 * MIB;
	char *start = mapping(size, MADV_HUGEPAGE);

	if (!start)
		return;
	madvise(start + below(size / PAGE) * PAGE, PAGE, MADV_DONTNEED);
	mprotect(start + below(size / PAGE) * PAGE, PAGE, PROT_READ);
	munmap(start, size);
}

/* Changes the number of reserved huge pages. */
static void reserved(void)
{
	int file = open("/proc/sys/vm/nr_hugepages", O_WRONLY);

	if (file < 0)
		return;
	dprintf(file, "%lu", 4 + below(8));
	close(file);
}

static void page_cache(void)
{
	static char buffer[64 * PAGE];
	int disk = open("/dev/vdb", O_RDONLY);
	off_t offset = below(96) * sizeof(buffer);

	if (disk < 0)
		return;
	if (below(4) == 0)
		posix_fadvise(disk, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < 16; i++)
		if (pread(disk, buffer, sizeof(buffer), offset + i * sizeof(buffer)) <= 0)
			break;
	close(disk);
}

static void shared(void)
{
	char name[32];
	int file;

	snprintf(name, sizeof(name), "/files/load-%lu", below(8));
	file = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
	if (file < 0)
		return;
	if (ftruncate(file, MIB) == 0) {
		char *start = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

		if (start != MAP_FAILED) {
			touch(start, MIB);
			munmap(start, MIB);
		}
	}
	close(file);
	if (below(2))
		unlink(name);
}

/* Starts many children at once; each gets private copies of some pages. */
static void storm(void)
{
	size_t size = MIB;
	char *start = mapping(size, MADV_NOHUGEPAGE);

	if (!start)
		return;
	for (int i = 0; i < 16; i++) {
		if (fork() == 0) {
			touch(start, size / 4);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	munmap(start, size);
}

int main(void)
{
	static void (*const kinds[])(void) = { anonymous, huge, reserved, page_cache, shared, storm };
	const size_t count = sizeof(kinds) / sizeof(*kinds);

	for (size_t i = 0; i < count; i++) {
		if (fork() == 0) {
			state = 0x9e3779b97f4a7c15UL * (i + 1);
			for (;;)
				kinds[i]();
		}
	}
	close(open("/loaded", O_CREAT | O_WRONLY, 0600));
	for (;;)
		pause();
}
