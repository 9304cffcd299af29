/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * fake-kexec COUNT FLAGS [file]: calls kexec_load with COUNT segments, or
 * kexec_file_load. A seccomp filter lets the call succeed without entering the
 * kernel. Prints the call's result and, if the tracer mapped memory during the
 * call, the segments in it and the bytes of the last one.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct segment {
	uint64_t buffer, buffer_size, memory, memory_size;
};

static struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kexec_load, 2, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kexec_file_load, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
};

/* The start address of the anonymous writable mapping number `skip`, counted from 0; 0 if there are fewer. */
static uint64_t mapping(const char *maps, int skip)
{
	uint64_t start, end;
	char flags[8], line[512];
	FILE *file = fopen(maps, "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s", &start, &end, flags) == 3 && !strncmp(flags, "rw-p", 4) &&
		    !strchr(line, '/') && !strchr(line, '[') && skip-- == 0)
			return start;
	return 0;
}

int main(int argc, char **argv)
{
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };
	unsigned long count = strtoul(argv[1], NULL, 0), flags = strtoul(argv[2], NULL, 0);
	struct segment list[32] = { 0 }, *seen;
	uint64_t before[64] = { 0 };
	long result;

	for (unsigned long i = 0; i < count; i++)
		list[i] = (struct segment){ 0x1000 * i, 1, 0x100000 + 0x1000 * i, 0x1000 };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 3;
	fflush(stdout);
	for (int i = 0; i < 63; i++)
		before[i] = mapping("/proc/self/maps", i);
	if (argc > 3)
		result = syscall(SYS_kexec_file_load, -1, -1, 0, "", flags);
	else
		result = syscall(SYS_kexec_load, 0x4444UL, count, list, flags);
	printf("result %ld\n", result);
	for (int i = 0; i < 63; i++) {
		uint64_t start = mapping("/proc/self/maps", i);
		int known = !start;

		for (int j = 0; j < 63; j++)
			known |= before[j] == start;
		if (known)
			continue;
		seen = (struct segment *)start;
		for (unsigned long s = 0; s <= count; s++)
			printf("segment %lu %lx %lx\n", seen[s].buffer_size, seen[s].memory, seen[s].memory_size);
		for (uint64_t byte = 0; byte < seen[count].buffer_size; byte++)
			printf("%02x", ((unsigned char *)seen[count].buffer)[byte]);
		printf("\n");
	}
	return argc > 3 ? 5 : 7;
}
