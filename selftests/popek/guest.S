/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of the selftest popek: entry, the runners of forms in real mode, in 32-bit and in
 * 64-bit mode, handlers of all vectors, and the forms.
 *
 * A runner copies GOLD to LIVE, pops a frame that is prepared, which enters the form, and gets
 * control back through the handler of INT3 or of another exception. The handler leaves a record, which the
 * runner hashes together with LIVE. Nothing between the first run and the last is an instruction
 * that a hypervisor has to intercept.
 */
#include "guest.h"

	.section .head, "ax"
	.code32
	.globl	image_start
/* Multiboot, a flat image: the way in on bare QEMU. On KVM the client does what a loader does. */
image_start:
	.long	0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
	.long	image_start, image_start, image_end, image_bss_end, entry
/* The client may change these. */
	.globl	verbose, runs
runs:
	.long	8
verbose:
	.long	0
entry:
	cli
	cld
	mov	$stack_top, %esp
	push	$2
	popf
	call	guest_main
1:	mov	$1, %al
	out	%al, $PORT_END
	jmp	1b

	.bss
	.balign	16
	.skip	0x2000
stack_top:

/* --- handlers: a stub of 16 bytes for each vector --- */

.macro STUBS push, common, codes
	.set	vector, 0
	.rept	VECTORS
	.balign	16
	.if	(\codes >> (vector & 31)) & 1 == 0 || vector >= 32
	\push	$0
	.endif
	\push	$vector
	jmp	\common
	.set	vector, vector + 1
	.endr
.endm
/* Vectors with an error code. */
#define ERROR_CODES 0x00227d00

	.text
	.code32
	.globl	stubs32, stubs64
	.balign	16
stubs32:
	STUBS	push, common32, ERROR_CODES
common32:
	pushal
	mov	%ds, %eax
	push	%eax
	mov	%es, %eax
	push	%eax
	mov	%fs, %eax
	push	%eax
	mov	%gs, %eax
	push	%eax
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	cld
	mov	%esp, %esi
	mov	$17, %ecx
	mov	%ss:15*4(%esi), %edx
	testl	$0x20000, %ss:16*4(%esi)
	jz	1f
	mov	$23, %ecx
	jmp	2f
1:	test	$3, %dl
	jz	2f
	mov	$19, %ecx
2:	mov	$REC, %edi
	rep movsl %ss:(%esi), %es:(%edi)
	mov	%ss, REC + 4 * REC_SS
	jmp	done32

	.code64
	.balign	16
stubs64:
	STUBS	push, common64, ERROR_CODES
common64:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%ds, %eax
	push	%rax
	mov	%es, %eax
	push	%rax
	mov	%fs, %eax
	push	%rax
	mov	%gs, %eax
	push	%rax
	mov	%ss, REC + 4 * REC_SS
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	cld
	mov	%rsp, %rsi
	mov	$REC, %edi
	mov	$26, %ecx
	rep movsq
	jmp	done64

/* What gates and tasks lead to. */
	.code32
	.globl	gate32, gate32_return, task_end, task_return, int_return32
gate32:
	int3
gate32_return:
	lret	$8
task_end:
	int3
task_return:
	iret
	int3
int_return32:
	iret
	.code64
	.globl	gate64, gate64_return, int_return64
gate64:
	int3
gate64_return:
	lretq
int_return64:
	iretq
	.code32
	.globl	ring1_32, ring1_64
ring1_32:
	int3
ring1_64:
	int3

/* --- runners --- */

/* Flat DS and ES are 0-based in all of them. */
.macro PREPARE
	mov	$GOLD, %esi
	mov	$LIVE, %edi
	mov	$LIVE_N, %ecx
	rep movsl (%esi), %es:(%edi)
	mov	$REC, %edi
	mov	$REC_N, %ecx
	xor	%eax, %eax
	rep stosl %eax, %es:(%edi)
	mov	$FRAME, %esi
	mov	V_FRAME_DST, %edi
	mov	V_FRAME_N, %ecx
	rep movsl (%esi), %es:(%edi)
.endm

.macro HASH_RANGE start, words
	mov	$\start, %esi
	mov	$\words, %ecx
1:	mov	(%esi), %ebx
	xor	%ebx, %eax
	imul	$0x01000193, %eax, %eax
	rol	$7, %edx
	add	%ebx, %edx
	imul	$0x85ebca6b, %edx, %edx
	add	$4, %esi
	dec	%ecx
	jnz	1b
.endm

/* The first run's hash stays; another one of a later run is a finding. */
.macro CONCLUDE
	mov	$0x811c9dc5, %eax
	mov	$0x2545f491, %edx
	HASH_RANGE REC, REC_N
	HASH_RANGE LIVE, LIVE_N
	cmpl	$0, V_FIRST
	je	1f
	movl	$0, V_FIRST
	mov	%eax, V_HASH
	mov	%edx, V_HASH + 4
1:	cmp	%eax, V_HASH
	jne	2f
	cmp	%edx, V_HASH + 4
	je	3f
2:	movl	$1, V_UNSTABLE
3:
.endm

	.text
	.code32
	.globl	run32
run32:
	pushal
	mov	%esp, V_RUN_ESP
	out	%al, $PORT_MARK
again32:
	PREPARE
	xor	%eax, %eax
	mov	%eax, %cr2
	mov	$SEL_TSS0, %eax
	ltr	%ax
	mov	$SEL_LDT, %eax
	lldt	%ax
	clts
	lss	V_ESP, %esp
	pop	%gs
	pop	%fs
	pop	%es
	pop	%ds
	popal
	iret
done32:
	mov	%cr0, %eax
	mov	%eax, REC + 4 * REC_CR0
	mov	%cr2, %eax
	mov	%eax, REC + 4 * REC_CR2
	str	REC + 4 * REC_TR
	sldt	REC + 4 * REC_LDTR
	mov	$SEL_DATA, %eax
	mov	%eax, %ss
	mov	V_RUN_ESP, %esp
	CONCLUDE
	decl	V_REPS
	jnz	again32
	out	%al, $PORT_DONE
	popal
	ret

/* Called from compatibility mode. */
	.code64
	.globl	run64
run64:
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	mov	%esp, V_RUN_ESP
	out	%al, $PORT_MARK
again64:
	PREPARE
	xor	%eax, %eax
	mov	%rax, %cr2
	mov	$SEL_TSS0, %eax
	ltr	%ax
	mov	$SEL_LDT, %eax
	lldt	%ax
	clts
	mov	V_ESP, %esp
	pop	%rax
	mov	%eax, %gs
	pop	%rax
	mov	%eax, %fs
	pop	%rax
	mov	%eax, %es
	pop	%rax
	mov	%eax, %ds
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq
done64:
	mov	%cr0, %rax
	mov	%eax, REC + 4 * REC_CR0
	mov	%cr2, %rax
	mov	%eax, REC + 4 * REC_CR2
	str	REC + 4 * REC_TR
	sldt	REC + 4 * REC_LDTR
	mov	V_RUN_ESP, %esp
	CONCLUDE
	decl	V_REPS
	jnz	again64
	out	%al, $PORT_DONE
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	lretl

/* From 32-bit mode without paging to real mode and back. */
	.code32
	.globl	run16
run16:
	pushal
	mov	%esp, V_RUN_ESP
	mov	$SEL_DATA16, %eax
	ljmp	$SEL_CODE16, $(1f - text16_start)

	.section .text16, "ax"
	.code16
	.globl	text16_start, text16_end
text16_start:
	int3
1:	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	lidtl	V_IVTR
	mov	%cr0, %eax
	and	$~1, %al
	mov	%eax, %cr0
	ljmp	$(CODE16 >> 4), $(1f - text16_start)
1:	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$REAL_STACK, %esp
	out	%al, $PORT_MARK
again16:
	PREPARE
	xor	%eax, %eax
	mov	%eax, %cr2
	clts
	lssl	V_ESP, %esp
	popl	%gs
	popl	%fs
	popl	%es
	popl	%ds
	popal
	iretl
	.balign	16
	.globl	stubs16, int_return16
stubs16:
	STUBS	pushw, common16, 0
common16:
	pushal
	mov	%ds, %eax
	pushl	%eax
	mov	%es, %eax
	pushl	%eax
	mov	%fs, %eax
	pushl	%eax
	mov	%gs, %eax
	pushl	%eax
	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
	cld
	movzwl	%sp, %esi
	mov	$12, %ecx
	mov	$REC, %edi
	rep movsl %ss:(%esi), %es:(%edi)
	/* Vector, 0, IP, CS and FLAGS. */
	mov	$5, %ecx
1:	movzwl	%ss:(%esi), %eax
	mov	%eax, (%edi)
	add	$2, %esi
	add	$4, %edi
	dec	%ecx
	jnz	1b
	mov	%ss, REC + 4 * REC_SS
	mov	%cr0, %eax
	mov	%eax, REC + 4 * REC_CR0
	mov	%cr2, %eax
	mov	%eax, REC + 4 * REC_CR2
	xor	%eax, %eax
	mov	%eax, %ss
	mov	$REAL_STACK, %esp
	CONCLUDE
	decl	V_REPS
	jnz	again16
	out	%al, $PORT_DONE
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $back32
int_return16:
	iret
	.globl	gate16_16, task16
/* Through gates of 16 bits, whose frames no handler knows: back at once, or to the end. */
gate16_16:
	int3
task16:
	int3
	.globl	int_gate16, ring1_16
int_gate16:
	iret
ring1_16:
	int3
v86_landing:
	mov	%ds, %ax
	int3

	.text
	.code32
back32:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	V_RUN_ESP, %esp
	lidt	V_IDTR
	popal
	ret

/* --- the forms --- */

.macro END
	int3
.endm

	.section .forms, "a"
	.globl	forms
forms:

	.section .text16
	.balign	16
	.code16
#define BITS	    16
#define BITS_INDEX  0
#define BITS_OFFSET 2
#define MODES	    (M_REAL|M_V86|M_PM16|M_LONG16)
#define FLAGS1	    0x7ed7
#define IRET_FLAGS  0x3ed7
#define OFF(l)	    (l-text16_start)
#define STACK_AT(n) (OPS_STACK - n)
#define M(n)	    (n)(%bx)
#define NAX	    %ax
#define XAX	    %eax
#define XBX	    %ebx
#define XDI	    %edi
#define FAR_REG	    %cx
#define FAR_RET	    lret
#define IRET	    iret
.macro FAR_JMP to:vararg
	ljmp	*\to
.endm
.macro FAR_CALL to:vararg
	lcall	*\to
.endm
.macro STORE_OFF off
	movw	$\off, M(0x10)
.endm
.macro PUSH_OFF off
	push	$\off
.endm
.macro PUSH_OSIZE value
	pushl	$\value
.endm
.macro IRET_FRAME flags
	push	$\flags
.endm
#include "forms.inc"
text16_end:

	.text
	.balign	16
	.code32
#undef BITS
#undef BITS_INDEX
#undef BITS_OFFSET
#undef MODES
#undef FLAGS1
#undef OFF
#undef M
#undef NAX
#undef FAR_REG
#define BITS	    32
#define BITS_INDEX  1
#define BITS_OFFSET 4
#define MODES	    (M_PM32|M_LONG32)
#define FLAGS1	    0x3f7ed7
/* No NT, and no VM, which QEMU takes from IRET at any CPL. */
#undef IRET_FLAGS
#define IRET_FLAGS  0x3d3ed7
#define OFF(l)	    l
#define M(n)	    (n)(%ebx)
#define NAX	    %eax
#define FAR_REG	    %ecx
	.purgem	STORE_OFF
	.purgem	PUSH_OSIZE
.macro STORE_OFF off
	movl	$\off, M(0x10)
.endm
.macro PUSH_OSIZE value
	pushw	$(\value & 0xffff)
.endm
#include "forms.inc"

	.balign	16
	.code64
#undef BITS
#undef BITS_INDEX
#undef MODES
#undef STACK_AT
#undef M
#undef NAX
#undef XAX
#undef XBX
#undef XDI
#undef FAR_RET
#undef IRET
#define BITS	    64
#define BITS_INDEX  2
#define MODES	    M_LONG64
#define STACK_AT(n) (OPS + OPS_STACK - n)
#define M(n)	    (n)(%rbx)
#define NAX	    %rax
#define XAX	    %rax
#define XBX	    %rbx
#define XDI	    %rdi
#define FAR_RET	    lretq
#define IRET	    iretq
	.purgem	STORE_OFF
	.purgem	PUSH_OFF
	.purgem	IRET_FRAME
.macro STORE_OFF off
	movl	$\off, M(0x10)
.endm
/* An object of 32 bits has no relocation for a sign-extended PUSH. */
.macro PUSH_OFF off
	mov	$\off, %eax
	push	%rax
.endm
.macro IRET_FRAME flags
	mov	%ss, %eax
	push	%rax
	push	$STACK_AT(0x40)
	push	$\flags
.endm
#include "forms.inc"

	.section .forms, "a"
	.globl	forms_end
forms_end:
