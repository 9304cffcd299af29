/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * crash_dump_bitmap_info: how a crash dump bitmap is found and described.
 * Documentation/format.md is the specification.
 *
 * Made by `cdbitmap layout --as c`; a test compares the two. All numbers are
 * little-endian, and the machine is LP64.
 */
#ifndef CRASH_DUMP_BITMAP_H
#define CRASH_DUMP_BITMAP_H

#ifdef __KERNEL__
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* Compiles only if the field is at the offset. */
#define CRASH_DUMP_BITMAP_AT(structure, field, offset) \
	_Static_assert(offsetof(struct structure, field) == (offset), #structure "." #field)

/* Version 1. */

/* The version field of version 1. */
#define CRASH_DUMP_BITMAP_V1_VERSION 1

struct crash_dump_bitmap_info_v1 {
	/* Version of the format, 1; 4 bytes of padding follow. */
	unsigned int version;
	/* Physical address of the bitmap (in a file: offset); 0 if there is none. */
	unsigned long long bitmap;
	/* Size of the bitmap in bytes; 0 if there is none. */
	unsigned long long bitmap_size;
	/* Excluded pages of the non-private page cache. */
	unsigned long cache_pages;
	/* Excluded pages of the private page cache. */
	unsigned long cache_private_pages;
	/* Excluded pages of user data. */
	unsigned long user_pages;
	/* Excluded free pages. */
	unsigned long free_pages;
	/* Excluded pages that are hardware poisoned. */
	unsigned long hwpoison_pages;
};
_Static_assert(sizeof(struct crash_dump_bitmap_info_v1) == 64, "size of crash_dump_bitmap_info_v1");
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, version, 0);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, bitmap, 8);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, bitmap_size, 16);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, cache_pages, 24);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, cache_private_pages, 32);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, user_pages, 40);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, free_pages, 48);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v1, hwpoison_pages, 56);

/* Version 2. */

/* The version field of version 2. */
#define CRASH_DUMP_BITMAP_V2_VERSION 2
/* The magic field, without the zero byte of a C string. */
#define CRASH_DUMP_BITMAP_V2_MAGIC "CDBITMAP"
/* Where header_crc is, which counts as 0 in the checksum. */
#define CRASH_DUMP_BITMAP_V2_HEADER_CRC_OFFSET 84
/* The dump_level of a bitmap whose producer didn't say. */
#define CRASH_DUMP_BITMAP_LEVEL_NOT_RECORDED 0xffffffffu
/* The number of pages of a kind that the producer didn't count. */
#define CRASH_DUMP_BITMAP_NOT_COUNTED 0xffffffffffffffffull
/* The smallest chunk_shift. */
#define CRASH_DUMP_BITMAP_MIN_CHUNK_SHIFT 15
/* The largest chunk_shift. */
#define CRASH_DUMP_BITMAP_MAX_CHUNK_SHIFT 40
/* The largest chunk_count. */
#define CRASH_DUMP_BITMAP_MAX_CHUNKS 4096
/* The bit of a chunk's flags: final, with checksum. */
#define CRASH_DUMP_BITMAP_CHUNK_SEALED 1u

/* Not recorded: converted from version 1. */
#define CRASH_DUMP_BITMAP_PRODUCER_NOT_RECORDED 0u
/* The panic path of the first kernel. */
#define CRASH_DUMP_BITMAP_PRODUCER_PANIC 1u
/* A purgatory stage between the first kernel and the capture kernel. */
#define CRASH_DUMP_BITMAP_PRODUCER_PURGATORY 2u
/* A tool on a host, from a vmcore. */
#define CRASH_DUMP_BITMAP_PRODUCER_HOST 3u

/* Set up, not begun: every bit is 1. */
#define CRASH_DUMP_BITMAP_STATE_EMPTY 0u
/* Begun, and never ended by the producer: the machine stopped, or the scan runs still. */
#define CRASH_DUMP_BITMAP_STATE_SCANNING 1u
/* All frames are decided and all chunks sealed. */
#define CRASH_DUMP_BITMAP_STATE_COMPLETE 2u
/* Stopped by the time budget. */
#define CRASH_DUMP_BITMAP_STATE_OUT_OF_BUDGET 3u
/* Stopped by memory that could not be read, or another exception. */
#define CRASH_DUMP_BITMAP_STATE_FAULT 4u
/* Stopped because the kernel's data contradict themselves. */
#define CRASH_DUMP_BITMAP_STATE_CORRUPT 5u
/* Stopped by whoever ran it, or by a check of its own. */
#define CRASH_DUMP_BITMAP_STATE_CANCELLED 6u
/* Not recorded: converted from version 1. */
#define CRASH_DUMP_BITMAP_STATE_NOT_RECORDED 7u

/* makedumpfile's, bit for bit. */
#define CRASH_DUMP_BITMAP_RULES_MAKEDUMPFILE 0u
/* The kernel's own predicates. */
#define CRASH_DUMP_BITMAP_RULES_KERNEL 1u
/* Not recorded: converted from version 1. */
#define CRASH_DUMP_BITMAP_RULES_NOT_RECORDED 2u

/* Nothing that the state doesn't say. */
#define CRASH_DUMP_BITMAP_CAUSE_NOT_SAID 0u
/* An exception of the processor: cause_number and the exception's fields say which. */
#define CRASH_DUMP_BITMAP_CAUSE_EXCEPTION 1u
/* The producer's parameters are not those that it was given, or contradict themselves. */
#define CRASH_DUMP_BITMAP_CAUSE_PARAMETERS 2u
/* The producer's code is not what was loaded. */
#define CRASH_DUMP_BITMAP_CAUSE_CODE 3u
/* The processor's page tables have another number of levels than the kernel's were known to have. */
#define CRASH_DUMP_BITMAP_CAUSE_LEVELS 4u
/* The producer's own page tables don't fit where they have to. */
#define CRASH_DUMP_BITMAP_CAUSE_TABLES 5u
/* The scanner refuses what it was given: cause_number is its status. */
#define CRASH_DUMP_BITMAP_CAUSE_REFUSED 6u

struct crash_dump_bitmap_info_v2 {
	/* The bytes "CDBITMAP". */
	uint8_t magic[8];
	/* Version of the format, 2. */
	uint32_t version;
	/* Size of this structure in bytes, 512. */
	uint32_t header_size;
	/* Physical address of this structure (in a file: 0), a multiple of 8. */
	uint64_t self_address;
	/* Who wrote the bitmap; see the producers. */
	uint32_t producer;
	/* How far the scan got; see the states. */
	uint32_t state;
	/* Dump level of the scan, 0 to 31; 0xffffffff if not recorded. */
	uint32_t dump_level;
	/* Whose rules decided about the pages; see the rule sets. */
	uint32_t rules;
	/* First page frame of the bitmap, a multiple of 64. */
	uint64_t first_frame;
	/* Number of page frames in the bitmap, at least 1. */
	uint64_t frame_count;
	/* First page frame that is not decided; in state "scanning" a lower bound. */
	uint64_t scanned_up_to;
	/* Binary logarithm of the frames of each chunk but the last, 15 to 40. */
	uint32_t chunk_shift;
	/* Binary logarithm of the page size, 12. */
	uint32_t page_shift;
	/* Offset of the chunk table from this structure, 512 to 4096, a multiple of 8. */
	uint32_t chunk_table;
	/* Number of chunks, 1 to 4096: the frames divided by those of a chunk, rounded up. */
	uint32_t chunk_count;
	/* Size of an entry of the chunk table in bytes, 24. */
	uint32_t chunk_entry_size;
	/* CRC-32C from this structure's start to the chunk table's end, this field taken as 0. */
	uint32_t header_crc;
	/* Physical address of the first memory that could not be read; 0 if there was none. */
	uint64_t first_unreadable;
	/* Excluded pages that hold only zeros; looked for on a host alone. */
	uint64_t zero_pages;
	/* Excluded pages of the non-private page cache. */
	uint64_t cache_pages;
	/* Excluded pages of the private page cache. */
	uint64_t cache_private_pages;
	/* Excluded pages of user data. */
	uint64_t user_pages;
	/* Excluded free pages, without the unaccepted ones. */
	uint64_t free_pages;
	/* Excluded pages that are hardware poisoned. */
	uint64_t hwpoison_pages;
	/* Excluded pages that are logically offline. */
	uint64_t offline_pages;
	/* Excluded pages that a confidential guest has not accepted; makedumpfile counts them as free. */
	uint64_t unaccepted_pages;
	/* Pages kept because their struct page could not be read. */
	uint64_t unreadable_pages;
	/* Pages kept because the scan stopped before it reached them. */
	uint64_t unscanned_pages;
	/* Pages kept because they are marked free, but of an order that no free block has. */
	uint64_t bad_order_pages;
	/* Nanoseconds of the setup: layout, addresses, chunks; 0 if not measured. */
	uint64_t setup_ns;
	/* Nanoseconds of the scan; 0 if not measured. */
	uint64_t scan_ns;
	/* Nanoseconds of sealing the chunks; 0 if not measured. */
	uint64_t seal_ns;
	/* The clock of these times in the producer's words, as "tsc 2893 MHz"; ends with a zero byte. */
	char clock[24];
	/* CRC-32C of the VMCOREINFO text that the scan went by; 0 if not recorded. */
	uint32_t vmcoreinfo_crc;
	/* Bytes of the kernel's build id, 0 to 20; 0 if not recorded. */
	uint32_t build_id_size;
	/* The kernel's build id; bytes behind it are 0. */
	uint8_t build_id[20];
	/* The kernel's release, as of uname -r; ends with a zero byte. */
	char kernel_release[65];
	/* Zero. */
	uint8_t padding[3];
	/* What stopped the scan, if more is said than by the state; see the causes. */
	uint32_t cause;
	/* Number of the exception, or status of the scanner; 0 for other causes. */
	uint32_t cause_number;
	/* Error code of the exception; 0 if it has none. */
	uint64_t exception_error;
	/* Instruction of the exception, from the start of the producer's image on, modulo 2^64. */
	uint64_t exception_at;
	/* Address that a page fault was about; 0 for other exceptions. */
	uint64_t exception_address;
	/* Zero. Room for later versions. */
	uint8_t reserved[152];
};
_Static_assert(sizeof(struct crash_dump_bitmap_info_v2) == 512, "size of crash_dump_bitmap_info_v2");
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, magic, 0);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, version, 8);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, header_size, 12);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, self_address, 16);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, producer, 24);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, state, 28);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, dump_level, 32);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, rules, 36);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, first_frame, 40);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, frame_count, 48);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, scanned_up_to, 56);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, chunk_shift, 64);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, page_shift, 68);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, chunk_table, 72);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, chunk_count, 76);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, chunk_entry_size, 80);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, header_crc, 84);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, first_unreadable, 88);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, zero_pages, 96);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, cache_pages, 104);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, cache_private_pages, 112);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, user_pages, 120);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, free_pages, 128);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, hwpoison_pages, 136);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, offline_pages, 144);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, unaccepted_pages, 152);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, unreadable_pages, 160);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, unscanned_pages, 168);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, bad_order_pages, 176);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, setup_ns, 184);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, scan_ns, 192);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, seal_ns, 200);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, clock, 208);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, vmcoreinfo_crc, 232);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, build_id_size, 236);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, build_id, 240);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, kernel_release, 260);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, padding, 325);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, cause, 328);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, cause_number, 332);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, exception_error, 336);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, exception_at, 344);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, exception_address, 352);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_info_v2, reserved, 360);

struct crash_dump_bitmap_chunk {
	/* Physical address of the chunk (in a file: offset), a multiple of 8. */
	uint64_t address;
	/* Size of the chunk in bytes: a bit for each of its frames, rounded up to whole bytes. */
	uint64_t size;
	/* CRC-32C of the chunk's bytes if it is sealed, else 0. */
	uint32_t crc32c;
	/* Bit 0: the chunk is final, and sealed with its checksum. Other bits are 0. */
	uint32_t flags;
};
_Static_assert(sizeof(struct crash_dump_bitmap_chunk) == 24, "size of crash_dump_bitmap_chunk");
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_chunk, address, 0);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_chunk, size, 8);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_chunk, crc32c, 16);
CRASH_DUMP_BITMAP_AT(crash_dump_bitmap_chunk, flags, 20);

#undef CRASH_DUMP_BITMAP_AT

#endif /* CRASH_DUMP_BITMAP_H */
