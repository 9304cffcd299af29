/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The interface of test.c. Without CRASH_DUMP_BITMAP_TEST it does nothing. */
#ifndef CRASH_DUMP_BITMAP_TEST_H
#define CRASH_DUMP_BITMAP_TEST_H

#include "internal.h"

/* test.c */
#ifdef CRASH_DUMP_BITMAP_TEST
int cdb_test_order(int order);
int cdb_test_vmcoreinfo(struct cdb_text *text);
void cdb_test_call(void);
bool cdb_test_stopped(void);
void cdb_test_begin(const struct cdb_prepared *prepared);
void cdb_test_end(const struct cdb_prepared *prepared);
#else
static inline int cdb_test_order(int order) { return order; }
static inline int cdb_test_vmcoreinfo(struct cdb_text *text) { return 0; }
static inline void cdb_test_call(void) { }
static inline bool cdb_test_stopped(void) { return false; }
static inline void cdb_test_begin(const struct cdb_prepared *prepared) { }
static inline void cdb_test_end(const struct cdb_prepared *prepared) { }
#endif

#endif
