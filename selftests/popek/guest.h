/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of the selftest popek: where things lie in its memory, for C and assembly.
 *
 * All that a form may touch or change lies between LIVE and LIVE_END. It is copied from GOLD
 * before each run and hashed after it. Everything that real mode needs lies in the first 64 KiB.
 */
#ifndef POPEK_GUEST_H
#define POPEK_GUEST_H

#include "ports.h"

/* Of the runners: variables, the record of how a form ended, the frame it is entered with. */
#define VARS	    0x4000
#define V_REPS	    (VARS + 0x00) /* runs left */
#define V_FRAME_N   (VARS + 0x04) /* words of the frame */
#define V_FRAME_DST (VARS + 0x08) /* where the frame is popped from */
#define V_ESP	    (VARS + 0x0c) /* the stack it is popped with, as LSS loads it */
#define V_SS	    (VARS + 0x10)
#define V_HASH	    (VARS + 0x14) /* two words */
#define V_UNSTABLE  (VARS + 0x1c) /* a run had another hash than the first */
#define V_FIRST	    (VARS + 0x20)
#define V_RUN_ESP   (VARS + 0x24) /* of the runner itself */
#define V_IDTR	    (VARS + 0x28) /* of protected mode */
#define V_IVTR	    (VARS + 0x30) /* of real mode */
#define FRAME	    0x4200
#define REC	    0x4100
#define REC_N	    64

/* Words of the record. Below them is what the handler has pushed and what the processor has. */
#define REC_VECTOR   12
#define REC_VECTOR64 38
#define REC_FLAGS    16
#define REC_FLAGS64  46
#define REC_SS	     56
#define REC_CR0	     57
#define REC_CR2	     58
#define REC_TR	     59
#define REC_LDTR     60

#define REAL_STACK 0x6000 /* of the real-mode runner */
#define IDT	   0x2000
#define LIVE	   0x3000
#define LIVE_END   0x3e00
#define LIVE_N	   ((LIVE_END - LIVE) / 4)
#define GOLD	   0xb000
#define GDT	   LIVE
#define LDT	   (LIVE + 0x1a0)
#define TSS0	   (LIVE + 0x200) /* the runner's */
#define TSS1	   (LIVE + 0x280) /* its task ends the form */
#define TSSR	   (LIVE + 0x300) /* its task returns at once */
#define TSS16	   (LIVE + 0x380)
#define OPS	   (LIVE + 0x400) /* base of the form's data and stack segments */
#define OPS_STACK  0x3f0	  /* its stack pointer, within the segment */
#define STACK_IST  (LIVE + 0xaf0)
#define STACK0	   (LIVE + 0xbf0)
#define STACK1	   (LIVE + 0xcf0)
#define STACK2	   (LIVE + 0xdf0)
#define CODE16	   0x10000 /* where the 16-bit code is run */

/* Pages that are not present, read-only and the supervisor's, where there is paging. */
#define PAGE_NONE  0x8000
#define PAGE_RO	   0x9000
#define PAGE_SUPER 0xa000

/* Selectors; long mode's descriptors of the system take two places, so all do. */
#define SEL_CODE32	 0x08
#define SEL_DATA	 0x10
#define SEL_CODE64	 0x18
#define SEL_CODE16	 0x20
#define SEL_DATA16	 0x28
#define SEL_UCODE(n)	 (0x30 + 17 * (n)) /* the form's own, by CPL */
#define SEL_UDATA(n)	 (0x38 + 17 * (n))
#define SEL_CONFORMING	 0x70
#define SEL_EXEC_ONLY	 0x78
#define SEL_READ_ONLY	 0x80
#define SEL_NOT_PRESENT	 0x88
#define SEL_EXPAND_DOWN	 0x90
#define SEL_CODE_ABSENT	 0x98
#define SEL_TSS0	 0xa0
#define SEL_TSS1	 0xb0
#define SEL_LDT		 0xc0
#define SEL_GATE	 0xd0
#define SEL_GATE16	 0xe0
#define SEL_GATE_DPL0	 0xf0
#define SEL_GATE_ABSENT	 0x100
#define SEL_TASK_GATE	 0x110
#define SEL_TSS_BUSY	 0x120
#define SEL_TSS16	 0x130
#define SEL_GATE_RETURN	 0x140
#define SEL_OTHER_BASE	 0x150
#define SEL_TSSR	 0x160
#define SEL_GATE_RING1	 0x170
#define SEL_GATE_TO_CONF 0x180
#define GDT_SIZE	 0x190
#define LDT_SIZE	 0x40

/* Vectors above the processor's own. */
#define VEC_INT	       0x40
#define VEC_TRAP       0x41
#define VEC_DPL0       0x42
#define VEC_GATE16     0x43
#define VEC_ABSENT     0x44
#define VEC_TASK       0x45
#define VEC_TASK_RET   0x46
#define VEC_RETURN     0x47
#define VEC_CONFORMING 0x48
#define VEC_GATE16_END 0x49
#define VECTORS	       0x50

/* Modes of a form, as a mask; F_BITS is which copy of it: 0 is 16-bit code, then 32, 64. */
#define M_REAL	     0x01
#define M_V86	     0x02
#define M_PM16	     0x04
#define M_PM32	     0x08
#define M_LONG16     0x10
#define M_LONG32     0x20
#define M_LONG64     0x40
#define M_LEGACY     (M_PM16 | M_PM32)
#define M_LONG	     (M_LONG16 | M_LONG32 | M_LONG64)
#define M_PROT	     (M_LEGACY | M_LONG)
#define M_ALL	     0x7f
#define F_CPL_SHIFT  8
#define F_EXITS	     0x1000  /* it holds instructions that a hypervisor intercepts by right */
#define F_IF	     0x2000  /* begins with IF set */
#define F_PAGING     0x4000  /* only where there is paging */
#define F_UMIP	     0x8000  /* differs with CR4.UMIP */
#define F_IOPL	     0x10000 /* differs with IOPL */
#define F_BITS_SHIFT 20

#endif
