/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A walk through every CPU mode and back, in one guest, switched by the guest
 * itself. Each stage writes its number to port 0x10.
 */
#include "payload.h"

#define CODE	0x10000		/* VM_CODE_GPA */
#define A(x)	(CODE + x - walk_start)
#define CODE64	0x08
#define DATA	0x10
#define CODE32	0x18
#define CODE16	0x20
#define DATA16	0x28

.macro STAGE n
	mov	$\n, %al
	out	%al, $0x10
.endm

PAYLOAD_BEGIN walk
	.code16
	STAGE	1
	lgdtl	(gdtr - walk_start)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$CODE16, $(pm16 - walk_start)
pm16:
	mov	$DATA16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	STAGE	2
	ljmpl	$CODE32, $A(pm32)
	.code32
pm32:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$0x1f000, %esp
	STAGE	3
	mov	$0x10, %eax		/* PSE */
	mov	%eax, %cr4
	mov	$0x9000, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	jmp	1f
1:	STAGE	4			/* 32-bit paging */
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$0x8000, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	jmp	1f
1:	STAGE	5
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0x2000, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax		/* EFER.LME */
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	jmp	1f
1:	STAGE	6			/* compatibility mode */
	ljmp	$CODE64, $A(long64)
	.code64
long64:
	STAGE	7
	movabs	$0x123456789abcdef0, %r8
	rol	$32, %r8
	mov	%r8, 0x18000
	mov	$0xc0000080, %ecx
	rdmsr
	mov	%eax, 0x18008		/* LMA as the guest sees it */
	pushq	$CODE32
	pushq	$A(compat)
	lretq
	.code32
compat:
	STAGE	8
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	jmp	1f
1:	mov	$0xc0000080, %ecx
	rdmsr
	mov	%eax, 0x1800c
	and	$~0x100, %eax
	wrmsr
	xor	%eax, %eax
	mov	%eax, %cr4
	mov	%eax, %cr3
	STAGE	9
	ljmp	$CODE16, $(back16 - walk_start)
	.code16
back16:
	mov	$DATA16, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0xf000, %sp
	STAGE	10
	mov	%cr0, %eax
	and	$~1, %al
	mov	%eax, %cr0
	ljmp	$(CODE >> 4), $(real - walk_start)
real:
	mov	$(CODE >> 4), %ax
	mov	%ax, %ds
	STAGE	11
	hlt
gdtr:
	.word	0xd7
	.long	0x1000
PAYLOAD_END walk
