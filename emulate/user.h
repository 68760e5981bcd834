/* SPDX-License-Identifier: GPL-2.0 */
/* What the emulator needs of the kernel's headers, for the userspace build. */
#ifndef SVM_EMULATE_USER_H
#define SVM_EMULATE_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define BIT(n)		(1UL << (n))
#define likely(x)	__builtin_expect(!!(x), 1)
#define min(a, b)	((a) < (b) ? (a) : (b))
#define memset_startat(p, v, member)			\
	memset((u8 *)(p) + offsetof(typeof(*(p)), member), v,	\
	       sizeof(*(p)) - offsetof(typeof(*(p)), member))
#define fallthrough	__attribute__((__fallthrough__))

#endif
