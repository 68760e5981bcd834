// SPDX-License-Identifier: GPL-2.0
/*
 * #VMEXIT: one switch, short handlers (APM vol. 2, appendix C for the codes, 15.9-15.14 for what
 * they carry).
 *
 * A handler that cannot finish without sleeping returns NEXT_SLEEP with nothing changed and is
 * called again from the outer loop with v->can_sleep set.
 */
#include <linux/interrupt.h>
#include <asm/mce.h>
#include <asm/ptrace.h>

#include "compat/entry.h"
#include "svm/exit.h"

/* --- exceptions --- */

/*
 * The host's machine-check handler never saw it: run it here, before this thread can migrate. As if
 * the error had hit user mode: it was the guest's access, and the kernel's own state is sound.
 */
static enum vcpu_next exit_mc(struct vcpu *v)
{
	struct pt_regs regs = { .cs = 3, .flags = X86_EFLAGS_IF };

	if (IS_ENABLED(CONFIG_X86_MCE))
		do_machine_check(&regs);
	return NEXT_OUTER;
}

/* --- physical events --- */

/*
 * QEMU 7.2 does not load the shadow that the VMCB has (Documentation/errata.rst): after a second
 * interrupt it would be gone, and a virtual interrupt between STI and HLT leave the guest asleep.
 * So a shadow seen before a HLT stands until that exits.
 */
static void keep_shadow(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	u64 rip = v->vmcb->save.rip, bytes[2];

	if (c->int_state & INT_STATE_SHADOW)
		v->shadow_hlt = insn_fetch(v, bytes) > 0 && (u8)bytes[0] == 0xf4 ? rip : ~0ull;
	if (rip == v->shadow_hlt) {
		c->int_state |= INT_STATE_SHADOW;
		v->check_events = true;	/* see window_open() */
	}
}

/* STGI has let the host take it. Where the FPU bracket holds softirqs off, give way to them. */
static enum vcpu_next exit_intr(struct vcpu *v)
{
	if (svm_caps.nested)
		keep_shadow(v);
	compat_rcu_quiescent();
	return local_softirq_pending() ? NEXT_OUTER : NEXT_GUEST;
}

static enum vcpu_next exit_shutdown(struct vcpu *v)
{
	/* The VMCB is undefined now (APM vol. 2, 15.14.3): give userspace a vCPU as after INIT. */
	vcpu_reset(v);
	return vcpu_exit(v, KVM_EXIT_SHUTDOWN);
}

/* --- control and debug registers --- */

#define CR4_FLUSHES	(X86_CR4_PGE | X86_CR4_PAE | X86_CR4_PSE | X86_CR4_SMEP | X86_CR4_SMAP | \
			 X86_CR4_PCIDE)

/* May the guest have this CR4? (APM vol. 2, 3.1.3) */
static bool cr4_valid(struct vcpu *v, u64 cr4)
{
	const struct vmcb_save *s = &v->vmcb->save;

	if (cr4 & v->cr4_reserved || ((s->efer & EFER_LMA) && !(cr4 & X86_CR4_PAE)))
		return false;
	return !(cr4 & ~s->cr4 & X86_CR4_PCIDE) || ((s->efer & EFER_LMA) && !(s->cr3 & 0xfff));
}

/* MOV to CR4 or CR8. */
static enum vcpu_next exit_cr_write(struct vcpu *v, unsigned int cr)
{
	struct crdr_move m;
	enum vcpu_next next = insn_crdr(v, 0x22, &m);
	bool lower;

	if (next != NEXT_GUEST)
		return next;
	if (cr == 4 ? !cr4_valid(v, m.val) : m.val > 15)
		return raise_gp(v);
	insn_advance(v, v->vmcb->save.rip + m.len);
	if (cr == 4) {
		/* Paging bits that changed make old translations wrong (APM vol. 2, 5.5.2). */
		if ((m.val ^ v->vmcb->save.cr4) & CR4_FLUSHES)
			set_bit(REQ_TLB_FLUSH, &v->requests);
		v->vmcb->save.cr4 = m.val;
		vmcb_dirty(v, CLEAN_CR);
		return NEXT_GUEST;
	}
	lower = m.val < v->cr8;
	set_guest_cr8(v, m.val);
	v->check_events = true;
	return !v->apic && lower ? vcpu_exit(v, KVM_EXIT_SET_TPR) : NEXT_GUEST;
}

/* All debug-register accesses exit: they are rare, and host breakpoints stay where they are. */
static enum vcpu_next exit_dr(struct vcpu *v, unsigned int dr, bool write)
{
	struct vmcb_save *s = &v->vmcb->save;
	struct crdr_move m;
	enum vcpu_next next = insn_crdr(v, write ? 0x23 : 0x21, &m);
	u64 *reg;

	if (next != NEXT_GUEST)
		return next;
	if (s->dr7 & BIT(13))		/* general detect */
		return raise_db(v, BIT(13));
	if (dr == 4 || dr == 5) {
		if (s->cr4 & X86_CR4_DE)
			return raise_ud(v);
		dr += 2;
	}
	reg = dr < 4 ? &v->dr[dr] : dr == 6 ? guest_dr6(v) : guest_dr7(v);
	if (!write) {
		reg_write_sized(v, m.gpr, *reg, m.size);
	} else if (dr < 4) {
		*reg = m.val;
	} else {
		if (m.val >> 32)
			return raise_gp(v);
		*reg = dr == 6 ? (m.val & DR6_MASK) | DR6_RESET : (m.val & DR7_MASK) | DR7_RESET;
		vmcb_dirty(v, CLEAN_DR);
	}
	insn_advance(v, s->rip + m.len);
	return NEXT_GUEST;
}

static enum vcpu_next exit_xsetbv(struct vcpu *v)
{
	u64 xcr0 = reg_read_edx_eax(v);
	enum vcpu_next next;

	if (!(v->vmcb->save.cr4 & X86_CR4_OSXSAVE))	/* QEMU 10 has not looked */
		return raise_ud(v);
	if (v->vmcb->save.cpl || (u32)v->regs[REG_RCX] != 0 || !xcr0_valid(v, xcr0))
		return raise_gp(v);
	next = insn_skip(v, 0xd1010f, 3);
	if (next == NEXT_GUEST)
		v->xcr0 = xcr0;
	return next;
}

/* --- instructions --- */

static enum vcpu_next exit_hlt(struct vcpu *v)
{
	enum vcpu_next next = insn_skip(v, 0xf4, 1);

	if (next != NEXT_GUEST)
		return next;
	if (!v->apic)
		return vcpu_exit(v, KVM_EXIT_HLT);
	if (events_pending(v)) {
		v->check_events = true;
		WRITE_ONCE(v->pv_unhalted, false);
		return NEXT_GUEST;
	}
	v->mp_state = KVM_MP_STATE_HALTED;
	return NEXT_OUTER;
}

/*
 * WBINVD and INVD: no device of a guest here does DMA behind the caches' back, so there is nothing
 * to write back, and what INVD would throw away is the host's too. One handler: QEMU's TCG reports
 * both as WBINVD (Documentation/errata.rst).
 */
static enum vcpu_next exit_wbinvd(struct vcpu *v)
{
	enum vcpu_next next;

	if (unlikely(v->vmcb->save.cpl))	/* QEMU 10 has not looked */
		return raise_gp(v);
	next = insn_skip(v, 0x090f, 2);
	return next == NEXT_OUTER ? insn_skip(v, 0x080f, 2) : next;
}

/* --- what can't be handled --- */

/* KVM_INTERNAL_ERROR_EMULATION with the bytes at RIP, as far as they can be read. */
enum vcpu_next exit_internal_error(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 bytes[2] = {};
	int n;

	if (!v->can_sleep)
		return NEXT_SLEEP;
	n = insn_fetch(v, bytes);
	memset(&run->emulation_failure, 0, sizeof(run->emulation_failure));
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = n > 0 ? 1 + 2 : 1;
	if (n > 0) {
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = n;
		memcpy(run->emulation_failure.insn_bytes, bytes, n);
	}
	return vcpu_exit(v, KVM_EXIT_INTERNAL_ERROR);
}

/* KVM_INTERNAL_ERROR_DELIVERY_EV: an event can't be delivered through MMIO at @gpa. */
enum vcpu_next exit_delivery_error(struct vcpu *v, u64 gpa)
{
	const struct vmcb_control *c = &v->vmcb->control;
	struct kvm_run *run = v->run;

	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 5;
	run->internal.data[0] = v->exception.injected ? v->exception.vector :
				v->nmi_injected ? X86_TRAP_NMI : v->irq_vector;
	run->internal.data[1] = c->exit_code;
	run->internal.data[2] = c->exit_info_1;
	run->internal.data[3] = gpa;
	run->internal.data[4] = v->cpu;
	return vcpu_exit(v, KVM_EXIT_INTERNAL_ERROR);
}

static enum vcpu_next exit_invalid(struct vcpu *v)
{
	v->run->fail_entry.hardware_entry_failure_reason = VMEXIT_INVALID;
	/*
	 * QEMU's TCG wipes int_ctl here (Documentation/errata.rst), and a guest that runs without
	 * V_INTR_MASKING keeps the host's interrupts out with CLI.
	 */
	v->vmcb->control.int_ctl = INT_CTL_V_INTR_MASKING | v->vtpr;
	v->vmcb->control.intercept_misc1 &= ~INTERCEPT_VINTR;	/* no window is open now */
	vmcb_dirty(v, CLEAN_INTERCEPTS | CLEAN_TPR);
	v->run->fail_entry.cpu = v->cpu;
	return vcpu_exit(v, KVM_EXIT_FAIL_ENTRY);
}

/* Leaves that userspace did not give read as zero, as beyond the last one on AMD. */
static enum vcpu_next exit_cpuid(struct vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(v, v->vmcb->save.rax, v->regs[REG_RCX]);
	static const struct kvm_cpuid_entry2 none;
	struct kvm_cpuid_entry2 seen;
	enum vcpu_next next;

	if (unlikely(v->misc_features) && v->vmcb->save.cpl)	/* CPUID faulting */
		return raise_gp(v);
	next = insn_skip(v, 0xa20f, 2);
	if (next != NEXT_GUEST)
		return next;
	if (!e) {
		e = &none;
	} else if (e->function == 1 || e->function == 0xd) {
		seen = *e;
		guest_cpuid_registers(v, &seen);
		e = &seen;
	}
	v->vmcb->save.rax = e->eax;
	v->regs[REG_RBX] = e->ebx;
	v->regs[REG_RCX] = e->ecx;
	v->regs[REG_RDX] = e->edx;
	return NEXT_GUEST;
}

/* The switch. Inner loop, or outer with v->can_sleep. */
enum vcpu_next vcpu_handle_exit(struct vcpu *v)
{
	u32 code = v->vmcb->control.exit_code;

	switch (code) {
	case VMEXIT_INTR:
		return exit_intr(v);
	case VMEXIT_NPF:
		return exit_npf(v);
	case VMEXIT_MSR:
		return exit_msr(v);
	case VMEXIT_IOIO:
		return exit_ioio(v);
	case VMEXIT_CPUID:
		return exit_cpuid(v);
	case VMEXIT_HLT:
		return exit_hlt(v);
	case VMEXIT_VINTR:
		return exit_vintr(v);
	case VMEXIT_VMMCALL:
		return exit_vmmcall(v);
	case VMEXIT_IRET:
		return exit_iret(v);
	case VMEXIT_CR_WRITE(4):
	case VMEXIT_CR_WRITE(8):
		return exit_cr_write(v, code - VMEXIT_CR_WRITE(0));
	case VMEXIT_DR_READ(0) ... VMEXIT_DR_READ(7):
		return exit_dr(v, code - VMEXIT_DR_READ(0), false);
	case VMEXIT_DR_WRITE(0) ... VMEXIT_DR_WRITE(7):
		return exit_dr(v, code - VMEXIT_DR_WRITE(0), true);
	case VMEXIT_EXCP(X86_TRAP_DB):
		return exit_db(v);
	case VMEXIT_EXCP(X86_TRAP_BP):	/* RIP is that of the INT3 (APM vol. 2, 15.12.4) */
		return debug_exit(v, X86_TRAP_BP, 0);
	case VMEXIT_EXCP(X86_TRAP_UD):
		return exit_ud_exception(v);
	case VMEXIT_EXCP(X86_TRAP_AC):
		/* So that no guest loops in microcode for ever (CVE-2015-5307; #DB: -8104). */
		return raise(v, X86_TRAP_AC, v->vmcb->control.exit_info_1);
	case VMEXIT_EXCP(X86_TRAP_MC):
		return exit_mc(v);
	case VMEXIT_SWINT:
		return exit_swint(v);
	case VMEXIT_XSETBV:
		return exit_xsetbv(v);
	case VMEXIT_WBINVD:
	case VMEXIT_INVD:
		return exit_wbinvd(v);
	case VMEXIT_MONITOR:	/* not offered, but see KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS */
		return insn_skip(v, 0xc8010f, 3);
	case VMEXIT_MWAIT:
	case VMEXIT_MWAIT_ARMED:
		return insn_skip(v, 0xc9010f, 3);
	case VMEXIT_RDPMC:
		return raise_gp(v);
	case VMEXIT_NMI:		/* taken by the host at STGI */
	case VMEXIT_SMI:
	case VMEXIT_INIT:
	case VMEXIT_FERR_FREEZE:
		return NEXT_GUEST;
	case VMEXIT_SHUTDOWN:
		return exit_shutdown(v);
	case VMEXIT_VMRUN:
	case VMEXIT_VMLOAD ... VMEXIT_SKINIT:
	case VMEXIT_INVLPGA:
	case VMEXIT_RDPRU:
	case VMEXIT_RSM:
	case VMEXIT_INVLPGB ... VMEXIT_TLBSYNC:
		return raise_ud(v);	/* features that CPUID does not offer */
	case VMEXIT_INVALID:
		return exit_invalid(v);
	default:
		v->run->hw.hardware_exit_reason = v->vmcb->control.exit_code;
		return vcpu_exit(v, KVM_EXIT_UNKNOWN);
	}
}
