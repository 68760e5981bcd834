/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of svm/ share about running a vCPU. */
#ifndef SVM_EXIT_H
#define SVM_EXIT_H

#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "emulate/emulate.h"
#include "guest/guest.h"
#include "svm/cpu.h"

/* What happens after a #VMEXIT has been handled. */
enum vcpu_next {
	NEXT_GUEST,	/* straight back into the guest */
	NEXT_OUTER,	/* leave the inner loop, look at requests, enter again */
	NEXT_SLEEP,	/* the handler must sleep and changed nothing: again, with v->can_sleep */
	NEXT_USER,	/* kvm_run is filled: return to userspace */
	NEXT_ERROR,	/* v->error says why KVM_RUN fails */
};

/* Debug registers (APM vol. 2, 13.1.1): bits that read as one, and those that can be written. */
#define DR6_RESET	0xffff0ff0ull
#define DR6_MASK	0x0000e00full
#define DR7_RESET	0x00000400ull
#define DR7_MASK	0xffff2bffull

/* What of guest_debug makes each #DB userspace's. */
#define DEBUG_TAKES_DB	(KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)

/* Where the guest's own DR6 and DR7 are: userspace's stand in the VMCB while it debugs. */
static inline u64 *guest_dr6(struct vcpu *v)
{
	return v->guest_debug & DEBUG_TAKES_DB ? &v->own_dr6 : &v->vmcb->save.dr6;
}

static inline u64 *guest_dr7(struct vcpu *v)
{
	return v->guest_debug & KVM_GUESTDBG_USE_HW_BP ? &v->own_dr7 : &v->vmcb->save.dr7;
}

/* --- registers --- */
static inline u64 reg_read(struct vcpu *v, unsigned int n)
{
	if (n == REG_RAX)
		return v->vmcb->save.rax;
	if (n == REG_RSP)
		return v->vmcb->save.rsp;
	return v->regs[n & (NR_GPRS - 1)];
}

static inline void reg_write(struct vcpu *v, unsigned int n, u64 val)
{
	if (n == REG_RAX)
		v->vmcb->save.rax = val;
	else if (n == REG_RSP)
		v->vmcb->save.rsp = val;
	else
		v->regs[n & (NR_GPRS - 1)] = val;
}

/* An operand of 1, 2, 4 or 8 bytes: 4 clear the upper half, fewer leave the rest. */
static inline void reg_write_sized(struct vcpu *v, unsigned int n, u64 val, unsigned int size)
{
	if (size < 4) {
		u64 mask = (1ull << 8 * size) - 1;

		val = (reg_read(v, n) & ~mask) | (val & mask);
	} else if (size == 4) {
		val = (u32)val;
	}
	reg_write(v, n, val);
}

/* EDX:EAX as RDMSR, CPUID and friends leave them. */
static inline void reg_write_edx_eax(struct vcpu *v, u64 val)
{
	v->vmcb->save.rax = (u32)val;
	v->regs[REG_RDX] = val >> 32;
}

static inline u64 reg_read_edx_eax(struct vcpu *v)
{
	return (u32)v->vmcb->save.rax | v->regs[REG_RDX] << 32;
}

/* CR8 is TPR[7:4]. */
static inline u8 guest_cr8(struct vcpu *v)
{
	return v->apic ? lapic_get_cr8(v->apic) : v->cr8;
}

static inline void set_guest_cr8(struct vcpu *v, u8 cr8)
{
	if (v->apic)
		lapic_set_cr8(v->apic, cr8);
	else
		v->cr8 = cr8;
}

static inline bool in_long64(const struct vmcb_save *s)
{
	return (s->efer & EFER_LMA) && (s->cs.attrib & SEG_L);
}

static inline enum emul_mode cpu_mode(const struct vcpu *v)
{
	const struct vmcb_save *s = &v->vmcb->save;

	if (!(s->cr0 & X86_CR0_PE))
		return EMUL_REAL;
	if (s->rflags & X86_EFLAGS_VM)
		return EMUL_V86;
	if (in_long64(s))
		return EMUL_LONG64;
	return s->cs.attrib & SEG_DB ? EMUL_PROT32 : EMUL_PROT16;
}

/* The guest's own page tables, asleep or not as the handler may. */
static inline int guest_walk(struct vcpu *v, u64 addr, u32 access, u64 *gpa,
			     u32 *error_code)
{
	const struct vmcb_save *s = &v->vmcb->save;
	const struct walk_ctx w = {
		.cr0 = s->cr0,
		.cr3 = s->cr3,
		.cr4 = s->cr4,
		.efer = s->efer,
		.rflags = s->rflags,
		.maxphyaddr = v->maxphyaddr,
		.gbpages = v->features & GF_1G,
	};

	return gva_to_gpa(&v->vm->mem, &w, addr, access | (v->can_sleep ? 0 : WALK_ATOMIC), gpa,
			  error_code);
}

static inline enum vcpu_next vcpu_fail(struct vcpu *v, int error)
{
	v->error = error;
	return NEXT_ERROR;
}

/* To userspace, which finds KVM_EXIT_@reason. */
static inline enum vcpu_next vcpu_exit(struct vcpu *v, u32 reason)
{
	v->run->exit_reason = reason;
	return NEXT_USER;
}

/* --- events.c --- */
/* They return NEXT_GUEST. */
enum vcpu_next raise(struct vcpu *v, u8 vector, u32 error_code);
enum vcpu_next raise_db(struct vcpu *v, u64 dr6);

static inline enum vcpu_next raise_ud(struct vcpu *v)
{
	return raise(v, X86_TRAP_UD, 0);
}

static inline enum vcpu_next raise_gp(struct vcpu *v)
{
	return raise(v, X86_TRAP_GP, 0);
}

/* An interrupt that was accepted: to be delivered before any other. */
static inline void irq_queue(struct vcpu *v, u8 vector, bool lapic)
{
	v->irq_injected = true;
	v->irq_soft = false;
	v->irq_waits = false;
	v->irq_lapic = lapic;
	v->irq_vector = vector;
}

void events_after_exit(struct vcpu *v);
void events_retract(struct vcpu *v);
void events_inject(struct vcpu *v);
bool events_pending(struct vcpu *v);		/* would HLT end? */
bool events_irq_allowed(struct vcpu *v);	/* IF=1, no shadow, nothing being injected */
bool events_user_pic(struct vcpu *v);
bool events_nmi_masked(struct vcpu *v);
void events_add_nmi(struct vcpu *v);
void events_take_nmis(struct vcpu *v);
enum vcpu_next exit_vintr(struct vcpu *v);
enum vcpu_next exit_iret(struct vcpu *v);
bool events_nmi_step(struct vcpu *v);		/* #DB was our own single step over IRET */
void vcpu_apic_events(struct vcpu *v);		/* INIT, SIPI, NMI from the APIC */

/* --- insn.c --- */
int insn_fetch(struct vcpu *v, u64 buf[2]);
u64 rip_after(const struct vcpu *v, unsigned int len);
enum vcpu_next insn_end(struct vcpu *v, u32 opcode, unsigned int opcode_len, u64 *next_rip);
enum vcpu_next insn_skip(struct vcpu *v, u32 opcode, unsigned int opcode_len);
void insn_advance(struct vcpu *v, u64 next_rip);
struct crdr_move {
	u8 gpr, len;
	u8 size;	/* 4 or 8 bytes, as the mode has it */
	u64 val;	/* what the GPR holds */
};
enum vcpu_next insn_crdr(struct vcpu *v, u8 opcode, struct crdr_move *m);
enum vcpu_next insn_rdpid(struct vcpu *v);

/* --- exit.c, io.c, mmio.c --- */
enum vcpu_next vcpu_handle_exit(struct vcpu *v);
enum vcpu_next exit_internal_error(struct vcpu *v);
enum vcpu_next exit_delivery_error(struct vcpu *v, u64 gpa);
enum vcpu_next exit_ioio(struct vcpu *v);
enum vcpu_next exit_npf(struct vcpu *v);

/* --- debug.c --- */
enum vcpu_next debug_exit(struct vcpu *v, u8 exception, u64 dr6);
enum vcpu_next exit_db(struct vcpu *v);
enum vcpu_next exit_swint(struct vcpu *v);
void debug_intercepts(struct vcpu *v);
void debug_step_begin(struct vcpu *v);
void debug_step_end(struct vcpu *v);

/* --- msr.c, vcpu.c, fpu.c, hypercall.c --- */
enum vcpu_next exit_msr(struct vcpu *v);
enum vcpu_next msr_complete(struct vcpu *v);
void msr_filter_free(struct msr_filter *f);
int msr_maps_init(void);
void msr_maps_exit(void);
void msr_setup_vmcb(struct vcpu *v);
void tsc_aux_enter(struct vcpu *v);
void tsc_aux_cpu_init(void);
void tsc_aux_cpu_exit(void);
void vcpu_reset(struct vcpu *v);
void fpu_probe(void);
void fpu_init(struct vcpu *v);
void *fpu_image(struct vcpu *v);
bool xcr0_valid(struct vcpu *v, u64 xcr0);
enum vcpu_next exit_vmmcall(struct vcpu *v);
enum vcpu_next exit_ud_exception(struct vcpu *v);
enum vcpu_next hypercall_complete(struct vcpu *v);

#endif
