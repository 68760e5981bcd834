/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The world switch: moves state and applies speculation mitigations, nothing else.
 *
 * int svm_enter(struct vcpu *v, u64 vmcb_pa, u64 host_vmcb_pa, u64 guest_spec, u64 host_spec)
 *               RDI             RSI          RDX               RCX             R8
 *
 * Called with GIF=0 (CLGI) and RFLAGS.IF=1. v->regs[] stands at offset 0 of struct vcpu, in encoding order; RAX, RSP, RIP
 * and RFLAGS are in the VMCB. guest_spec == host_spec where SPEC_CTRL need not be switched.
 * Returns 0, or -EIO where an instruction faulted because SVME was cleared under us (crash, kexec, reboot).
 *
 * Stack after the prologue:
 *	 0(%rsp)	struct vcpu *
 *	 8(%rsp)	host VMCB (physical), for the host's VMLOAD
 *	16(%rsp)	guest SPEC_CTRL
 *	24(%rsp)	host SPEC_CTRL
 *	32(%rsp)...	RBX R12 R13 R14 R15 RBP, return address
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/asm.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/errno.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/segment.h>

#define REG(n)	(8 * (n))

.section .noinstr.text, "ax"

SYM_FUNC_START(svm_enter)
	push %rbp
	push %r15
	push %r14
	push %r13
	push %r12
	push %rbx
	push %r8
	push %rcx
	push %rdx
	push %rdi

	/* VMRUN, VMLOAD and VMSAVE take the physical address of the VMCB in RAX. */
	mov %rsi, %rax

	/*
	 * Guest SPEC_CTRL; from here to VMRUN there is no RET and no indirect branch. The conditional jump is the only
	 * speculation on a guest-chosen value and it leaks only whether the two differ.
	 */
	cmp %rcx, %r8
	je 1f
	mov %rax, %rsi
	mov %ecx, %eax
	xor %edx, %edx
	mov $MSR_IA32_SPEC_CTRL, %ecx
	wrmsr
	mov %rsi, %rax
1:
	mov REG(1)(%rdi), %rcx
	mov REG(2)(%rdi), %rdx
	mov REG(3)(%rdi), %rbx
	mov REG(5)(%rdi), %rbp
	mov REG(6)(%rdi), %rsi
	mov REG(8)(%rdi), %r8
	mov REG(9)(%rdi), %r9
	mov REG(10)(%rdi), %r10
	mov REG(11)(%rdi), %r11
	mov REG(12)(%rdi), %r12
	mov REG(13)(%rdi), %r13
	mov REG(14)(%rdi), %r14
	mov REG(15)(%rdi), %r15
	mov REG(7)(%rdi), %rdi

	/* Overwrite what microarchitectural buffers still hold of the host (TSA). */
	ALTERNATIVE "jmp 2f", "", X86_FEATURE_CLEAR_CPU_BUF_VM
	verw verw_sel(%rip)
2:
3:	vmload %rax
	vmrun %rax
	vmsave %rax
	/* FS, GS, TR and LDTR are still the guest's: no per-CPU access before this VMLOAD. */
	mov 8(%rsp), %rax
	vmload %rax

	/* Guest RAX is in the VMCB, so RAX is free. A guest-filled RSB must not steer the first RET. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT

	pop %rax
	mov %rcx, REG(1)(%rax)
	mov %rdx, REG(2)(%rax)
	mov %rbx, REG(3)(%rax)
	mov %rbp, REG(5)(%rax)
	mov %rsi, REG(6)(%rax)
	mov %rdi, REG(7)(%rax)
	mov %r8, REG(8)(%rax)
	mov %r9, REG(9)(%rax)
	mov %r10, REG(10)(%rax)
	mov %r11, REG(11)(%rax)
	mov %r12, REG(12)(%rax)
	mov %r13, REG(13)(%rax)
	mov %r14, REG(14)(%rax)
	mov %r15, REG(15)(%rax)
	pop %rdx			/* host VMCB */
	xor %ebp, %ebp			/* the result */
9:
	pop %rcx			/* guest SPEC_CTRL as loaded (writes are intercepted) */
	pop %rax			/* host SPEC_CTRL */
	cmp %rcx, %rax
	je 7f
	mov $MSR_IA32_SPEC_CTRL, %ecx
	xor %edx, %edx
	wrmsr
7:
	/* Between here and the first RET nothing of the guest may steer the return predictor. */
	CALL_UNTRAIN_RET
	ALTERNATIVE_2 "jmp 8f", "", X86_FEATURE_ENTRY_IBPB, "", X86_FEATURE_IBPB_ON_VMEXIT
	mov $MSR_IA32_PRED_CMD, %ecx
	mov $PRED_CMD_IBPB, %eax
	xor %edx, %edx
	wrmsr
	/* Some parts keep the return predictor across an IBPB. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_ALWAYS
8:
	/* Values of the guest left in registers could feed a gadget of the host. */
	xor %eax, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	xor %esi, %esi
	xor %edi, %edi
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	mov %ebp, %eax
	pop %rbx
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	pop %rbp
	RET

	/*
	 * VMLOAD raised #UD: SVME was cleared before CLGI, which then failed as well. Once GIF is 0 nothing that would clear
	 * it gets through, so the others cannot fail, and the host's FS and GS are still in place here.
	 */
10:	add $16, %rsp
	mov $-EIO, %ebp
	jmp 9b
	_ASM_EXTABLE(3b, 10b)
SYM_FUNC_END(svm_enter)
STACK_FRAME_NON_STANDARD svm_enter

.section .rodata
.balign 2
verw_sel:	.word __KERNEL_DS
