// SPDX-License-Identifier: GPL-2.0
/*
 * The part of image guests that runs inside: exception and interrupt entry.
 */
#include "guest.h"

guest_handler_fn guest_handlers[256];
volatile u64 guest_fixup;
volatile u64 guest_ex_vector, guest_ex_error, guest_ex_cr2;

/* Vectors that push an error code: 8, 10-14, 17, 21, 29, 30 (APM vol. 2, 8.2). */
asm(".text\n"
    ".balign 16\n"
    ".globl guest_idt_stubs\n"
    "guest_idt_stubs:\n"
    ".set vec, 0\n"
    ".rept 256\n"
    "	.balign 16\n"
    "	.if (vec != 8) && (vec < 10 || vec > 14) && (vec != 17) && (vec != 21) &&"
    "	    (vec != 29) && (vec != 30)\n"
    "		pushq $0\n"
    "	.endif\n"
    "	pushq $vec\n"
    "	jmp guest_trap_entry\n"
    "	.set vec, vec + 1\n"
    ".endr\n"
    "guest_trap_entry:\n"
    "	push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi\n"
    "	push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14\n"
    "	push %r15\n"
    "	mov %rsp, %rdi\n"
    "	cld\n"
    "	call guest_trap\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "	pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "	add $16, %rsp\n"
    "	iretq\n");

void guest_trap(struct guest_frame *frame);
void guest_trap(struct guest_frame *frame)
{
	guest_handler_fn fn = guest_handlers[frame->vector & 0xff];

	if (fn) {
		fn(frame);
		return;
	}
	if (!guest_fixup || frame->vector >= 32)
		guest_fail("unhandled vector (the line); rip, error", frame->vector, frame->rip,
			   frame->error);
	guest_ex_vector = frame->vector;
	guest_ex_error = frame->error;
	if (frame->vector == 14)
		guest_ex_cr2 = read_cr2();
	frame->rip = guest_fixup;
}
