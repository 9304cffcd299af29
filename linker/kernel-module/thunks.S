/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The scanner's object returns, and calls through pointers, by the kernel's thunks. These are plain thunks for a kernel
 * that is built without.
 */
#include <linux/linkage.h>

#if !defined(CONFIG_MITIGATION_RETHUNK) && !defined(CONFIG_RETHUNK)
	.text
SYM_FUNC_START(__x86_return_thunk)
	ret
	int3
SYM_FUNC_END(__x86_return_thunk)
#endif

#if !defined(CONFIG_MITIGATION_RETPOLINE) && !defined(CONFIG_RETPOLINE)
	.text
SYM_FUNC_START(__x86_indirect_thunk_r11)
	jmp *%r11
	int3
SYM_FUNC_END(__x86_indirect_thunk_r11)
#endif
