// SPDX-License-Identifier: GPL-2.0
/*
 * Guest debugging by userspace (KVM_SET_GUEST_DEBUG): single-step, INT3, breakpoint registers.
 *
 * The guest's debug registers stay its own: while userspace debugs with registers, its DR7 stands
 * in the VMCB, its addresses are loaded around VMRUN, and guest_dr6() and guest_dr7() find the
 * guest's. RFLAGS.TF is userspace's only inside KVM_RUN.
 */
#include "svm/exit.h"

/* INT3 where userspace wants it. QEMU's TCG takes it for an INT n (Documentation/errata.rst). */
void debug_intercepts(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;

	c->intercept_exceptions &= ~BIT(X86_TRAP_BP);
	c->intercept_misc1 &= ~INTERCEPT_INTN;
	if (v->guest_debug & KVM_GUESTDBG_USE_SW_BP) {
		c->intercept_exceptions |= BIT(X86_TRAP_BP);
		c->intercept_misc1 |= svm_caps.nested ? INTERCEPT_INTN : 0;
	}
	vmcb_dirty(v, CLEAN_INTERCEPTS);
}

/** svm_set_guest_debug() - KVM_SET_GUEST_DEBUG. -EINVAL: flags; -EBUSY: an exception waits. */
int svm_set_guest_debug(struct vcpu *v, const struct kvm_guest_debug *d)
{
	u64 dr6 = *guest_dr6(v), dr7 = *guest_dr7(v);
	struct vmcb *vmcb = v->vmcb;

	if (d->control & ~SVM_GUESTDBG_FLAGS)
		return -EINVAL;
	if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (v->exception.pending || v->exception.injected)
			return -EBUSY;
		raise(v, d->control & KVM_GUESTDBG_INJECT_DB ? X86_TRAP_DB : X86_TRAP_BP, 0);
		v->exception.soft = !(d->control & KVM_GUESTDBG_INJECT_DB);
	}
	v->guest_debug = d->control & KVM_GUESTDBG_ENABLE ? d->control : 0;
	memcpy(v->debug_dr, d->arch.debugreg, sizeof(v->debug_dr));
	v->debug_dr7 = (d->arch.debugreg[7] & DR7_MASK) | DR7_RESET;
	vmcb->save.dr6 = DR6_RESET;
	vmcb->save.dr7 = v->debug_dr7;
	*guest_dr6(v) = dr6;	/* where they are from now on */
	*guest_dr7(v) = dr7;
	debug_intercepts(v);
	vmcb_dirty(v, CLEAN_DR);
	clear_bit(REQ_DEBUG, &v->requests);
	return 0;
}

/* KVM_EXIT_DEBUG for @exception (#DB or #BP) at CS:RIP. */
enum vcpu_next debug_exit(struct vcpu *v, u8 exception, u64 dr6)
{
	struct vmcb_save *s = &v->vmcb->save;

	v->run->debug.arch = (struct kvm_debug_exit_arch){
		.exception = exception,
		.pc = s->cs.base + s->rip,
		.dr6 = dr6,
		.dr7 = v->guest_debug & KVM_GUESTDBG_USE_HW_BP ? v->debug_dr7 : s->dr7,
	};
	if (v->guest_debug & DEBUG_TAKES_DB) {
		s->dr6 = DR6_RESET;
		if (v->guest_debug & KVM_GUESTDBG_USE_HW_BP)
			s->dr7 = v->debug_dr7;	/* #DB has cleared its GD */
		vmcb_dirty(v, CLEAN_DR);
	}
	return vcpu_exit(v, KVM_EXIT_DEBUG);
}

/* DR6 and DR7 are already as the handler must see them (APM vol. 2, 15.12.2). */
enum vcpu_next exit_db(struct vcpu *v)
{
	if (events_nmi_step(v))
		return NEXT_GUEST;
	if (v->guest_debug & DEBUG_TAKES_DB)
		return debug_exit(v, X86_TRAP_DB, v->vmcb->save.dr6);
	return raise(v, X86_TRAP_DB, 0);
}

/* INT n that we did not mean to intercept, or TCG's INT3. */
enum vcpu_next exit_swint(struct vcpu *v)
{
	u64 raw[2];
	const u8 *bytes = (u8 *)raw;
	int n = insn_fetch(v, raw), i = 0;

	if (n == -EAGAIN)
		return NEXT_SLEEP;
	if (n > 0 && bytes[0] == 0xcc)
		return debug_exit(v, X86_TRAP_BP, 0);
	while (i + 1 < n && bytes[i] != 0xcd)
		i++;
	if (i + 1 >= n)
		return NEXT_OUTER;
	v->vmcb->save.rip = rip_after(v, i + 2);
	irq_queue(v, bytes[i + 1], false);
	v->irq_soft = true;
	v->check_events = true;
	return NEXT_GUEST;
}

/* KVM_RUN of a vCPU that is single-stepped begins: TF becomes userspace's. */
void debug_step_begin(struct vcpu *v)
{
	u64 *rflags = &v->vmcb->save.rflags;

	v->step_tf = v->nmi_step ? v->nmi_step_tf : *rflags & X86_EFLAGS_TF;
	if (v->nmi_step)
		v->nmi_step_tf = true;
	*rflags |= X86_EFLAGS_TF;
}

/* ... and ends: TF is the guest's again. Where the guest has cleared it, it stays so. */
void debug_step_end(struct vcpu *v)
{
	if (v->nmi_step)
		v->nmi_step_tf = v->step_tf;
	else if (!v->step_tf)
		v->vmcb->save.rflags &= ~(u64)X86_EFLAGS_TF;
}
