/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest payloads: position-independent machine code between NAME_start and
 * NAME_end, in a read-only section of the test program. The same text serves
 * .S files and, as PAYLOAD(name, "asm ..."), C files.
 */
#ifndef SELFTESTS_PAYLOAD_H
#define SELFTESTS_PAYLOAD_H

#ifdef __ASSEMBLER__

/* clang-format off */
.macro PAYLOAD_BEGIN name
	.pushsection .rodata.payload, "a"
	.globl	\name\()_start, \name\()_end
\name\()_start:
.endm

.macro PAYLOAD_END name
\name\()_end:
	.code64
	.popsection
.endm
/* clang-format on */

#else

#define PAYLOAD(name, code) \
	extern const char name##_start[], name##_end[]; \
	asm(".pushsection .rodata.payload, \"a\"\n" \
	    ".globl " #name "_start, " #name "_end\n" #name "_start:\n" code "\n" #name "_end:\n" \
	    ".code64\n" \
	    ".popsection\n")

/* For payloads that live in a .S file. */
#define PAYLOAD_EXTERN(name) extern const char name##_start[], name##_end[]

#endif
#endif
