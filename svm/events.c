// SPDX-License-Identifier: GPL-2.0
/*
 * Delivery of exceptions, NMIs and interrupts: what EVENTINJ carries at the next VMRUN (APM vol. 2,
 * 15.20), and the windows that are opened for what can't be delivered yet (15.21).
 */
#include "svm/exit.h"

#define WINDOW_BITS	(INT_CTL_V_IRQ | INT_CTL_V_INTR_PRIO_MASK | INT_CTL_V_IGN_TPR)

/* --- raising exceptions --- */

/* Classes of faults that don't go together (APM vol. 2, 8.2.9). */
#define CONTRIBUTORY	(BIT(X86_TRAP_DE) | BIT(X86_TRAP_TS) | BIT(X86_TRAP_NP) | \
			 BIT(X86_TRAP_SS) | BIT(X86_TRAP_GP))
#define PAGE_FAULT	BIT(X86_TRAP_PF)
#define DOUBLE_FAULT	BIT(X86_TRAP_DF)
/* Those that push an error code, outside real mode. */
#define WITH_ERROR	(BIT(X86_TRAP_TS) | BIT(X86_TRAP_NP) | BIT(X86_TRAP_SS) | \
			 BIT(X86_TRAP_GP) | BIT(X86_TRAP_AC) | PAGE_FAULT | DOUBLE_FAULT)

/*
 * Queues an exception; @error_code counts where the vector has one. A second one before the first
 * was delivered: serve both in turn, #DF or shutdown.
 */
enum vcpu_next raise(struct vcpu *v, u8 vector, u32 error_code)
{
	struct vcpu_exception *e = &v->exception;

	v->check_events = true;
	if (e->pending || e->injected) {
		u32 first = e->vector < 32 ? BIT(e->vector) : 0, second = BIT(vector);

		if ((first & DOUBLE_FAULT) &&
		    (second & (CONTRIBUTORY | PAGE_FAULT | DOUBLE_FAULT))) {
			e->pending = false;
			e->injected = false;
			vcpu_request(v, REQ_TRIPLE_FAULT);
			return NEXT_GUEST;
		}
		if (((first & (CONTRIBUTORY | PAGE_FAULT)) && (second & CONTRIBUTORY)) ||
		    (first & second & PAGE_FAULT)) {
			vector = X86_TRAP_DF;
			error_code = 0;
		}
	}
	*e = (struct vcpu_exception) {
		.pending = true,
		.vector = vector,
		.has_error = (BIT(vector) & WITH_ERROR) && (v->vmcb->save.cr0 & X86_CR0_PE),
		.error_code = error_code,
	};
	return NEXT_GUEST;
}

/* Queues a #DB; EVENTINJ leaves DR6 to us (APM vol. 2, 15.20). */
enum vcpu_next raise_db(struct vcpu *v, u64 dr6)
{
	if (v->guest_debug & (dr6 & BIT(14) ? KVM_GUESTDBG_SINGLESTEP : KVM_GUESTDBG_USE_HW_BP)) {
		v->debug_dr6 = DR6_RESET | dr6;
		set_bit(REQ_DEBUG, &v->requests);
		return NEXT_GUEST;
	}
	*guest_dr6(v) = (*guest_dr6(v) & ~0xfull) | dr6;
	*guest_dr7(v) &= ~BIT_ULL(13);	/* GD is cleared on delivery */
	vmcb_dirty(v, CLEAN_DR);
	return raise(v, X86_TRAP_DB, 0);
}

/* --- after #VMEXIT --- */

/* Empties EVENTINJ and V_IRQ: what was put there but not entered with is still queued. */
void events_retract(struct vcpu *v)
{
	v->injecting = false;
	v->vmcb->control.event_inj = 0;
	if (v->virq) {
		v->virq = false;
		v->vmcb->control.int_ctl &= ~WINDOW_BITS;
		vmcb_dirty(v, CLEAN_TPR);
	}
	if (unlikely(v->pv_eoi_armed))
		pv_eoi_sync(v);
}

/*
 * EVENTINJ was filled or EXITINTINFO is valid: what became of the event? If its delivery was
 * interrupted, it is queued again. But a software interrupt (INT n, INT3, INTO) that the guest
 * itself executed has not moved RIP: it is simply executed again.
 */
void events_after_exit(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	u32 info = c->exit_int_info, type = info & EVENTINJ_TYPE_MASK;
	u8 vector = info & EVENT_VECTOR_MASK;
	/* What of the queue it was, as events_inject() chooses. */
	bool ours = v->injecting, exception = ours && v->exception.injected;
	bool nmi = ours && !exception && v->nmi_injected, irq = ours && !exception && !nmi;
	bool soft = type == EVENTINJ_TYPE_SOFT || (type == EVENTINJ_TYPE_EXCEPTION &&
						   (vector == X86_TRAP_BP || vector == X86_TRAP_OF));
	bool own = type == EVENTINJ_TYPE_SOFT ? irq && v->irq_soft && v->irq_vector == vector :
						exception && v->exception.vector == vector;

	v->delivering = (info & EVENT_VALID) && (own || !soft);
	if (exception) {
		v->exception.injected = false;
	} else if (nmi) {
		v->nmi_injected = false;
	} else if (irq) {
		/* Still in V_IRQ: not taken; TCG calls it an exception if it was interrupted. */
		v->irq_injected = v->virq && (c->int_ctl & INT_CTL_V_IRQ);
		if (v->irq_injected && vector == v->irq_vector)
			info = 0;
	}
	if (ours)
		events_retract(v);
	v->check_events |= v->irq_injected | v->nmi_injected;
	c->exit_int_info = 0;
	if (!v->delivering || !(info & EVENT_VALID))
		return;
	v->check_events = true;
	switch (type) {
	case EVENTINJ_TYPE_NMI:
		v->nmi_injected = true;
		break;
	case EVENTINJ_TYPE_EXCEPTION:
		if (soft)
			v->vmcb->save.rip--;
		v->exception = (struct vcpu_exception) {
			.injected = true,
			.soft = soft,
			.vector = vector,
			.has_error = info & EVENT_ERROR_VALID,
			.error_code = c->exit_int_info_err,
		};
		break;
	case EVENTINJ_TYPE_SOFT:
	case EVENTINJ_TYPE_INTR:
		v->irq_injected = true;
		v->irq_soft = soft;
		v->irq_lapic &= v->irq_vector == vector;
		v->irq_vector = vector;
		break;
	}
}

/* --- before VMRUN --- */

static void inject(struct vcpu *v, u32 event, u32 error_code)
{
	struct vmcb_control *c = &v->vmcb->control;

	c->event_inj = event | EVENT_VALID;
	c->event_inj_err = error_code;
	c->next_rip = v->vmcb->save.rip;	/* with NRIPS, what a software event pushes */
	v->injecting = true;
}

static bool shadow(const struct vcpu *v)
{
	return v->vmcb->control.int_state & INT_STATE_SHADOW;
}

static void window_close(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;

	if (!(c->intercept_misc1 & INTERCEPT_VINTR))
		return;
	c->int_ctl &= ~WINDOW_BITS;
	c->intercept_misc1 &= ~INTERCEPT_VINTR;
	vmcb_dirty(v, CLEAN_INTERCEPTS | CLEAN_TPR);
}

/* The window is open: events_inject() uses it, or opens the next. */
enum vcpu_next exit_vintr(struct vcpu *v)
{
	window_close(v);
	v->check_events = true;
	return v->user_window ? NEXT_OUTER : NEXT_GUEST;
}

static void window_open(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;

	/* QEMU 7.2 would open it at once, in the shadow; but HLT will exit, see keep_shadow(). */
	if (svm_caps.nested && shadow(v) && v->vmcb->save.rip == v->shadow_hlt) {
		window_close(v);
		return;
	}
	if (c->intercept_misc1 & INTERCEPT_VINTR)
		return;
	/* A virtual interrupt of the highest priority exits as soon as IF and the shadow permit. */
	c->int_ctl |= WINDOW_BITS;
	c->int_vector = 0;
	c->intercept_misc1 |= INTERCEPT_VINTR;
	vmcb_dirty(v, CLEAN_INTERCEPTS | CLEAN_TPR);
}

/*
 * An interrupt that the guest takes at once (IF=1, no shadow). Where V_IRQ is not needed as a
 * window it goes there: EVENTINJ would do as well, but QEMU's TCG may deliver that twice
 * (Documentation/errata.rst).
 */
static void inject_irq(struct vcpu *v, bool window)
{
	struct vmcb_control *c = &v->vmcb->control;

	v->irq_waits = false;
	if (window || v->irq_soft || shadow(v) || !(v->vmcb->save.rflags & X86_EFLAGS_IF)) {
		inject(v, v->irq_vector | (v->irq_soft ? EVENTINJ_TYPE_SOFT : EVENTINJ_TYPE_INTR),
		       0);
		return;
	}
	window_close(v);
	c->int_ctl |= WINDOW_BITS;
	c->int_vector = v->irq_vector;
	vmcb_dirty(v, CLEAN_TPR);
	v->virq = true;
	v->injecting = true;
}

/* One that was left behind an exception waits for IF and the shadow anew. */
static bool irq_due(struct vcpu *v)
{
	return v->irq_injected && !v->injecting &&
	       (!v->irq_waits || ((v->vmcb->save.rflags & X86_EFLAGS_IF) && !shadow(v)));
}

static void inject_exception(struct vcpu *v)
{
	struct vcpu_exception *e = &v->exception;
	struct vmcb_save *s = &v->vmcb->save;

	if (e->has_payload) {
		if (e->vector == X86_TRAP_PF) {
			s->cr2 = e->payload;
			vmcb_dirty(v, CLEAN_CR2);
		} else if (e->vector == X86_TRAP_DB) {
			u64 *dr6 = guest_dr6(v), active_low = e->payload & DR6_RESET;

			*dr6 = (((*dr6 & ~0xfull) | DR6_RESET) ^ active_low) |
			       (e->payload & DR6_MASK);
			vmcb_dirty(v, CLEAN_DR);
		}
		e->has_payload = false;
	}
	/* Faults push RFLAGS with RF set (APM vol. 2, 8.1.2); a #DB raised here is a trap. */
	if (e->pending && e->vector != X86_TRAP_DB && e->vector != X86_TRAP_BP &&
	    e->vector != X86_TRAP_OF)
		s->rflags |= X86_EFLAGS_RF;
	if (unlikely(e->soft))
		s->rip = rip_after(v, 1);
	e->soft = false;
	e->pending = false;
	e->injected = true;
	inject(v, e->vector | EVENTINJ_TYPE_EXCEPTION | (e->has_error ? EVENT_ERROR_VALID : 0),
	       e->error_code);
}

/** events_nmi_masked() - until the IRET of the NMI's handler has retired, not just been reached */
bool events_nmi_masked(struct vcpu *v)
{
	if (v->nmi_masked && v->nmi_iret && v->vmcb->save.rip != v->iret_rip) {
		v->nmi_masked = false;
		v->nmi_iret = false;
	}
	return v->nmi_masked;
}

/** events_add_nmi() - one more NMI: a processor latches one while it serves another. */
void events_add_nmi(struct vcpu *v)
{
	u8 limit = events_nmi_masked(v) || v->nmi_injected ? 1 : 2;

	v->nmi_pending = min_t(u8, v->nmi_pending + 1, limit);
	v->check_events = true;
}

static bool nmi_blocked(struct vcpu *v)
{
	struct vmcb_save *s = &v->vmcb->save;

	if (!events_nmi_masked(v))
		return false;
	if (v->nmi_iret && !v->nmi_step) {
		/* Step over the IRET. TF of the frame it pops replaces ours. */
		v->nmi_step = true;
		v->nmi_step_tf = s->rflags & X86_EFLAGS_TF;
		s->rflags |= X86_EFLAGS_TF;
	}
	return true;
}

static void inject_nmi(struct vcpu *v)
{
	v->nmi_masked = true;
	v->nmi_iret = false;
	v->vmcb->control.intercept_misc1 |= INTERCEPT_IRET;
	vmcb_dirty(v, CLEAN_INTERCEPTS);
	v->nmi_injected = true;
	inject(v, X86_TRAP_NMI | EVENTINJ_TYPE_NMI, 0);
}

/* The guest is about to execute the IRET that ends its NMI handler. */
enum vcpu_next exit_iret(struct vcpu *v)
{
	v->vmcb->control.intercept_misc1 &= ~INTERCEPT_IRET;
	vmcb_dirty(v, CLEAN_INTERCEPTS);
	v->nmi_iret = true;
	v->iret_rip = v->vmcb->save.rip;
	if (v->nmi_pending)
		v->check_events = true;
	return NEXT_GUEST;
}

/* A #DB came: was it the step over IRET? Then it is not the guest's to see. */
bool events_nmi_step(struct vcpu *v)
{
	struct vmcb_save *s = &v->vmcb->save;

	if (!v->nmi_step)
		return false;
	v->nmi_step = false;
	if (s->rip == v->iret_rip) {	/* not ours: IRET did not retire */
		if (!v->nmi_step_tf)
			s->rflags &= ~X86_EFLAGS_TF;
		return false;
	}
	v->check_events = true;
	if (v->nmi_step_tf)
		return false;
	s->dr6 &= ~BIT_ULL(14);
	vmcb_dirty(v, CLEAN_DR);
	return true;
}

/* Could an interrupt be delivered at the next VMRUN? */
bool events_irq_allowed(struct vcpu *v)
{
	return (v->vmcb->save.rflags & X86_EFLAGS_IF) && !shadow(v) && !v->irq_injected &&
	       !v->nmi_injected && !v->exception.pending && !v->exception.injected;
}

/* V_TPR follows the APIC's TPR, and CR8 writes exit only while they could unblock something. */
static void sync_tpr(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	u8 tpr = guest_cr8(v);
	u16 cr_write = c->intercept_cr_write & ~BIT(8);

	/* QEMU 7.2 ends where a guest writes CR8 with V_IRQ set (Documentation/errata.rst). */
	if (!v->apic || READ_ONCE(v->apic->maybe_pending) || (c->intercept_misc1 & INTERCEPT_VINTR))
		cr_write |= BIT(8);
	if (cr_write != c->intercept_cr_write) {
		c->intercept_cr_write = cr_write;
		vmcb_dirty(v, CLEAN_INTERCEPTS);
	}
	if (v->vtpr != tpr) {
		v->vtpr = tpr;
		c->int_ctl = (c->int_ctl & ~INT_CTL_V_TPR_MASK) | tpr;
		vmcb_dirty(v, CLEAN_TPR);
	}
}

/* ExtINT: of the PIC, or with a split irqchip what userspace's PIC has asked for. */
static bool extint_pending(struct vcpu *v)
{
	return unlikely(v->extint || pic_pending(&v->vm->irqchip)) && lapic_accepts_pic(v->apic);
}

static u8 extint_accept(struct vcpu *v)
{
	if (!v->extint)
		return pic_accept(&v->vm->irqchip);
	v->extint = false;
	return v->extint_vector;
}

/*
 * An interrupt that was accepted and not delivered steps back for one of higher priority that came
 * since, as in a processor (APM vol. 2, 16.6.4).
 */
static void yield_irq(struct vcpu *v)
{
	if (!v->irq_lapic || v->irq_soft || v->pv_eoi_armed ||
	    ((!v->nmi_pending || v->nmi_masked) && lapic_pending(v->apic) < 0))
		return;
	v->irq_injected = !lapic_put_back(v->apic, v->irq_vector);
}

/* The in-kernel controllers' interrupt: first the PIC (ExtINT), then the APIC. -1: none. */
static int irq_source(struct vcpu *v, bool *from_pic)
{
	*from_pic = false;
	if (!v->apic)
		return -1;
	if (extint_pending(v)) {
		*from_pic = true;
		return 0;
	}
	return lapic_pending(v->apic);
}

/* Would an interrupt of userspace's PIC come in, were interrupts allowed? */
bool events_user_pic(struct vcpu *v)
{
	return !v->apic || (!v->extint && lapic_accepts_pic(v->apic));
}

/*
 * Before VMRUN where v->check_events is set: chooses the event, and opens windows for the rest. In
 * this order (APM vol. 2, 8.5): what was being delivered; exceptions; NMI; interrupts.
 */
void events_inject(struct vcpu *v)
{
	bool from_pic, user_window;
	int vector;

	v->check_events = false;
	if (v->injecting)
		events_retract(v);
	if (v->exception.injected || v->exception.pending)
		inject_exception(v);
	else if (v->nmi_injected)
		inject_nmi(v);
	v->irq_waits |= v->injecting && v->irq_injected && !v->irq_soft;
	if (unlikely(v->guest_debug & KVM_GUESTDBG_BLOCKIRQ)) {
		if (irq_due(v))
			inject_irq(v, true);
		window_close(v);
		sync_tpr(v);
		return;
	}
	if (unlikely(v->irq_injected) && !v->injecting)
		yield_irq(v);
	if (v->nmi_pending && !v->injecting && !v->irq_injected && !shadow(v) && !nmi_blocked(v)) {
		v->nmi_pending--;
		inject_nmi(v);
	}
	/*
	 * An NMI behind an interrupt shadow: the window serves where IF=1 (STI). Behind MOV SS with
	 * IF=0 it waits for the next exit; SVM has no NMI window without vNMI.
	 */
	if (unlikely(v->nmi_pending && !v->nmi_masked))
		window_open(v);

	user_window = v->user_window && events_user_pic(v);
	vector = irq_source(v, &from_pic);
	if (vector >= 0 && !v->injecting && events_irq_allowed(v) && !v->pv_eoi_armed) {
		if (from_pic)
			vector = extint_accept(v);
		else
			lapic_accept(v->apic, vector);
		irq_queue(v, vector, !from_pic);
		vector = irq_source(v, &from_pic);
		if (unlikely(v->pv_eoi_msr & 1) && vector < 0)
			pv_eoi_arm(v);
	}
	if (irq_due(v))
		inject_irq(v, vector >= 0 || user_window || v->nmi_pending);
	if (vector >= 0 || user_window || (v->irq_waits && v->irq_injected))
		window_open(v);
	else if (!v->nmi_pending)
		window_close(v);
	sync_tpr(v);
}

/* --- HLT and the APIC's INIT, SIPI and NMI --- */

/* Is there a reason to leave HLT? */
bool events_pending(struct vcpu *v)
{
	if (v->exception.pending || v->exception.injected || v->nmi_injected || v->irq_injected ||
	    (v->nmi_pending && !events_nmi_masked(v)) ||
	    (READ_ONCE(v->requests) & ~REQ_QUIET) || READ_ONCE(v->pv_unhalted))
		return true;
	if (!v->apic)
		return false;
	return READ_ONCE(v->apic->events) ||
	       ((v->vmcb->save.rflags & X86_EFLAGS_IF) &&
		(lapic_pending(v->apic) >= 0 || extint_pending(v)));
}

/** events_take_nmis() - NMIs that the local APIC received. */
void events_take_nmis(struct vcpu *v)
{
	if (!v->apic)
		return;
	if (test_and_clear_bit(LAPIC_EV_NMI, &v->apic->events))
		events_add_nmi(v);
	if (test_and_clear_bit(LAPIC_EV_NMI_2, &v->apic->events))
		events_add_nmi(v);
}

/** vcpu_apic_events() - act on INIT, SIPI (APM vol. 2, 14.1.3, 16.5) and NMI. Outer loop. */
void vcpu_apic_events(struct vcpu *v)
{
	struct lapic *apic = v->apic;

	if (!apic || !READ_ONCE(apic->events))
		return;
	if (test_and_clear_bit(LAPIC_EV_EOI, &apic->events))
		v->eoi_exit = true;
	events_take_nmis(v);
	if (test_and_clear_bit(LAPIC_EV_INIT, &apic->events)) {
		vcpu_reset(v);
		v->mp_state = v->id == v->vm->irqchip.bsp_id ? KVM_MP_STATE_RUNNABLE :
						       KVM_MP_STATE_INIT_RECEIVED;
	}
	if (test_and_clear_bit(LAPIC_EV_SIPI, &apic->events) &&
	    (v->mp_state == KVM_MP_STATE_INIT_RECEIVED)) {
		u8 vector = READ_ONCE(apic->sipi_vector);
		struct vmcb_save *s = &v->vmcb->save;

		s->cs.selector = vector << 8;
		s->cs.base = (u64)vector << 12;
		s->rip = 0;
		vmcb_dirty(v, CLEAN_SEG);
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}
