// SPDX-License-Identifier: GPL-2.0
/*
 * Registers, events and modes as userspace gets and sets them. Every setter checks all it was given
 * before it changes anything: what reaches the VMCB passes VMRUN's consistency checks (APM vol. 2,
 * 15.5.1) or is refused here.
 */
#include <linux/slab.h>

#include "svm/exit.h"
#include "vm/vm.h"

/* --- KVM_GET/SET_REGS --- */

/* The numbers of struct kvm_regs' first 16 registers, in its order: RAX, RBX, RCX, RDX, RSI ... */
static const u8 reg_numbers[] = { 0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15 };
static_assert(offsetof(struct kvm_regs, rip) == sizeof(u64) * ARRAY_SIZE(reg_numbers));

/** svm_get_regs() - KVM_GET_REGS. */
void svm_get_regs(struct vcpu *v, struct kvm_regs *r)
{
	u64 *regs = (u64 *)r;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reg_numbers); i++)
		regs[i] = reg_read(v, reg_numbers[i]);
	r->rip = v->vmcb->save.rip;
	r->rflags = v->vmcb->save.rflags;
	if (v->nmi_step && !v->nmi_step_tf)
		r->rflags &= ~(u64)X86_EFLAGS_TF;
}

/** svm_set_regs() - KVM_SET_REGS. 0. Exceptions that were only pending are dropped, as KVM does. */
int svm_set_regs(struct vcpu *v, const struct kvm_regs *r)
{
	const u64 *regs = (const u64 *)r;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reg_numbers); i++)
		reg_write(v, reg_numbers[i], regs[i]);
	v->vmcb->save.rip = r->rip;
	v->vmcb->save.rflags = r->rflags | X86_EFLAGS_FIXED;
	v->nmi_step = false;	/* its TF has gone: events_inject() begins anew */
	v->exception.pending = false;
	v->check_events = true;
	return 0;
}

/* --- segments --- */

static void get_seg(const struct vmcb_seg *s, struct kvm_segment *k)
{
	k->base = s->base;
	k->limit = s->limit;
	k->selector = s->selector;
	k->type = s->attrib & SEG_TYPE_MASK;
	k->present = !!(s->attrib & SEG_P);
	k->dpl = (s->attrib & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
	k->db = !!(s->attrib & SEG_DB);
	k->s = !!(s->attrib & SEG_S);
	k->l = !!(s->attrib & SEG_L);
	k->g = !!(s->attrib & SEG_G);
	k->avl = !!(s->attrib & SEG_AVL);
	k->unusable = !k->present;
}

static void set_seg(struct vmcb_seg *s, const struct kvm_segment *k)
{
	s->base = k->base;
	s->limit = k->limit;
	s->selector = k->selector;
	s->attrib = (k->type & SEG_TYPE_MASK) | (k->s & 1 ? SEG_S : 0) |
		    (k->dpl & 3) << SEG_DPL_SHIFT |
		    ((k->present & 1) && !k->unusable ? SEG_P : 0) | (k->avl & 1 ? SEG_AVL : 0) |
		    (k->l & 1 ? SEG_L : 0) | (k->db & 1 ? SEG_DB : 0) | (k->g & 1 ? SEG_G : 0);
}

/* --- KVM_GET/SET_SREGS --- */

#define CR0_RESERVED	(~(u64)(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | \
				X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | \
				X86_CR0_PG))

/* The part that KVM_GET_SREGS and KVM_GET_SREGS2 share has the same layout up to apic_base. */
static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base));

/** svm_get_sregs2() - KVM_GET_SREGS2. PDPTEs are read from memory by the hardware: none to give. */
void svm_get_sregs2(struct vcpu *v, struct kvm_sregs2 *k)
{
	const struct vmcb_save *s = &v->vmcb->save;

	get_seg(&s->cs, &k->cs);
	get_seg(&s->ds, &k->ds);
	get_seg(&s->es, &k->es);
	get_seg(&s->fs, &k->fs);
	get_seg(&s->gs, &k->gs);
	get_seg(&s->ss, &k->ss);
	get_seg(&s->tr, &k->tr);
	get_seg(&s->ldtr, &k->ldt);
	k->ss.dpl = s->cpl;
	k->gdt.base = s->gdtr.base;
	k->gdt.limit = s->gdtr.limit;
	k->idt.base = s->idtr.base;
	k->idt.limit = s->idtr.limit;
	k->cr0 = s->cr0;
	k->cr2 = s->cr2;
	k->cr3 = s->cr3;
	k->cr4 = s->cr4;
	k->cr8 = guest_cr8(v);
	k->efer = guest_efer(v);
	k->apic_base = guest_apic_base(v);
}

/** svm_get_sregs() - KVM_GET_SREGS. interrupt_bitmap has the interrupt that waits for delivery. */
void svm_get_sregs(struct vcpu *v, struct kvm_sregs *k)
{
	memset(k, 0, sizeof(*k));
	svm_get_sregs2(v, (struct kvm_sregs2 *)k);
	if (v->irq_injected)
		__set_bit(v->irq_vector, (unsigned long *)k->interrupt_bitmap);
}

static bool sregs_valid(struct vcpu *v, const struct kvm_sregs2 *k)
{
	bool pg = k->cr0 & X86_CR0_PG, lma = k->efer & EFER_LMA;

	if (k->cr0 & CR0_RESERVED || k->cr8 > 15)
		return false;
	if ((pg && !(k->cr0 & X86_CR0_PE)) || ((k->cr0 & X86_CR0_NW) && !(k->cr0 & X86_CR0_CD)))
		return false;
	if (k->cr4 & v->cr4_reserved)
		return false;
	if (k->efer & ~(u64)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX | EFER_FFXSR))
		return false;
	if ((k->efer & EFER_LME) && pg) {
		/* Long mode is active (APM vol. 2, 15.5.1). */
		if (!(k->cr4 & X86_CR4_PAE) || !lma || (k->cs.l && k->cs.db))
			return false;
		if (k->cr3 & (~0ull << v->maxphyaddr))
			return false;
	} else if (lma || k->cs.l) {
		return false;
	}
	return true;
}

/* Checks, then sets everything that the two forms share. */
static int set_sregs_common(struct vcpu *v, const struct kvm_sregs2 *k)
{
	struct vmcb_save *s = &v->vmcb->save;

	if (!sregs_valid(v, k))
		return -EINVAL;
	if (k->apic_base != guest_apic_base(v) && guest_set_apic_base(v, k->apic_base, true))
		return -EINVAL;
	set_seg(&s->cs, &k->cs);
	set_seg(&s->ds, &k->ds);
	set_seg(&s->es, &k->es);
	set_seg(&s->fs, &k->fs);
	set_seg(&s->gs, &k->gs);
	set_seg(&s->ss, &k->ss);
	set_seg(&s->tr, &k->tr);
	set_seg(&s->ldtr, &k->ldt);
	/* CPL is SS.DPL, but for real mode (0) and virtual-8086 mode (3). */
	if (!(k->cr0 & X86_CR0_PE))
		s->cpl = 0;
	else
		s->cpl = s->rflags & X86_EFLAGS_VM ? 3 : k->ss.dpl & 3;
	s->gdtr.base = k->gdt.base;
	s->gdtr.limit = k->gdt.limit;
	s->idtr.base = k->idt.base;
	s->idtr.limit = k->idt.limit;
	s->cr0 = k->cr0 | X86_CR0_ET;
	s->cr2 = k->cr2;
	s->cr3 = k->cr3;
	s->cr4 = k->cr4;
	s->efer = k->efer | EFER_SVME;
	set_guest_cr8(v, k->cr8);
	v->vmcb->control.clean = 0;
	v->check_events = true;
	set_bit(REQ_TLB_FLUSH, &v->requests);
	/* A processor set up at the reset vector is one that runs. */
	if (v->id == v->vm->irqchip.bsp_id && s->rip == 0xfff0 && s->cs.selector == 0xf000 &&
	    !(s->cr0 & X86_CR0_PE) && v->mp_state != KVM_MP_STATE_HALTED)
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

/** svm_set_sregs() - KVM_SET_SREGS. 0, or -EINVAL for what no processor can be in: as it was. */
int svm_set_sregs(struct vcpu *v, const struct kvm_sregs *k)
{
	struct kvm_sregs2 common = {};
	unsigned int vector;
	int r;

	memcpy(&common, k, offsetof(struct kvm_sregs, interrupt_bitmap));
	r = set_sregs_common(v, &common);
	vector = find_first_bit((unsigned long *)k->interrupt_bitmap, KVM_NR_INTERRUPTS);
	if (!r && vector < KVM_NR_INTERRUPTS)
		irq_queue(v, vector, false);
	return r;
}

/** svm_set_sregs2() - KVM_SET_SREGS2. As KVM_SET_SREGS; -EINVAL also for flags. */
int svm_set_sregs2(struct vcpu *v, const struct kvm_sregs2 *k)
{
	/* With nested paging the processor reads PDPTEs from memory: given ones are not kept. */
	if (k->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if ((k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) &&
	    (!(k->cr0 & X86_CR0_PG) || !(k->cr4 & X86_CR4_PAE) || (k->efer & EFER_LMA)))
		return -EINVAL;
	return set_sregs_common(v, k);
}

/* --- debug registers --- */

/** svm_get_debugregs() - KVM_GET_DEBUGREGS. */
void svm_get_debugregs(struct vcpu *v, struct kvm_debugregs *d)
{
	memcpy(d->db, v->dr, sizeof(d->db));
	d->dr6 = *guest_dr6(v);
	d->dr7 = *guest_dr7(v);
}

/** svm_set_debugregs() - KVM_SET_DEBUGREGS. -EINVAL for flags or upper halves of DR6 and DR7. */
int svm_set_debugregs(struct vcpu *v, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	memcpy(v->dr, d->db, sizeof(v->dr));
	*guest_dr6(v) = (d->dr6 & DR6_MASK) | DR6_RESET;
	*guest_dr7(v) = (d->dr7 & DR7_MASK) | DR7_RESET;
	vmcb_dirty(v, CLEAN_DR);
	return 0;
}

/* --- events --- */

/** svm_get_vcpu_events() - KVM_GET_VCPU_EVENTS. */
void svm_get_vcpu_events(struct vcpu *v, struct kvm_vcpu_events *e)
{
	const struct vcpu_exception *x = &v->exception;
	bool pending = v->vm->exception_payload && x->pending;

	events_take_nmis(v);
	memset(e, 0, sizeof(*e));
	/*
	 * Without the payload capability a pending exception is shown as injected. Software
	 * exceptions have no length here: the guest executes them again.
	 */
	if (!x->soft) {
		e->exception.pending = pending;
		e->exception.injected = x->injected || (x->pending && !pending);
	}
	e->exception.nr = x->vector;
	e->exception.has_error_code = x->has_error;
	e->exception.error_code = x->error_code;
	e->exception_has_payload = x->has_payload;
	e->exception_payload = x->payload;
	e->interrupt.injected = v->irq_injected && !v->irq_soft;
	e->interrupt.nr = v->irq_vector;
	e->interrupt.shadow = v->vmcb->control.int_state & INT_STATE_SHADOW ?
			      KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI : 0;
	e->nmi.injected = v->nmi_injected;
	e->nmi.pending = v->nmi_pending;
	e->nmi.masked = events_nmi_masked(v);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	if (v->vm->exception_payload)
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (v->vm->triple_fault_event) {
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
		e->triple_fault.pending = test_bit(REQ_TRIPLE_FAULT, &v->requests);
	}
}

/** svm_set_vcpu_events() - KVM_SET_VCPU_EVENTS. -EINVAL for flags, SMM or exceptions not there. */
int svm_set_vcpu_events(struct vcpu *v, const struct kvm_vcpu_events *e)
{
	u32 allowed = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		      KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM |
		      (v->vm->exception_payload ? KVM_VCPUEVENT_VALID_PAYLOAD : 0) |
		      (v->vm->triple_fault_event ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0);
	bool pending = (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && e->exception.pending;

	if (e->flags & ~allowed)
		return -EINVAL;
	if ((e->flags & KVM_VCPUEVENT_VALID_SMM) &&
	    (e->smi.smm || e->smi.pending || e->smi.smm_inside_nmi))
		return -EINVAL;
	if ((e->exception.injected || pending) &&
	    (e->exception.nr > 31 || e->exception.nr == X86_TRAP_NMI))
		return -EINVAL;
	v->exception = (struct vcpu_exception) {
		.pending = pending,
		.injected = e->exception.injected && !pending,
		.soft = e->exception.nr == X86_TRAP_BP || e->exception.nr == X86_TRAP_OF,
		.vector = e->exception.nr,
		.has_error = e->exception.has_error_code,
		.error_code = e->exception.error_code,
		.has_payload = pending && e->exception_has_payload,
		.payload = e->exception_payload,
	};
	irq_queue(v, e->interrupt.nr, false);
	v->irq_injected = e->interrupt.injected;
	v->delivering = false;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW)
		v->vmcb->control.int_state = e->interrupt.shadow ? INT_STATE_SHADOW : 0;
	v->nmi_injected = e->nmi.injected;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		v->nmi_pending = min_t(u8, e->nmi.pending, 2);
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		assign_bit(REQ_TRIPLE_FAULT, &v->requests, e->triple_fault.pending);
	v->nmi_masked = e->nmi.masked;
	v->nmi_iret = false;
	if (v->nmi_masked)
		v->vmcb->control.intercept_misc1 |= INTERCEPT_IRET;
	else
		v->vmcb->control.intercept_misc1 &= ~INTERCEPT_IRET;
	vmcb_dirty(v, CLEAN_INTERCEPTS);
	if ((e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) && v->apic)
		v->apic->sipi_vector = e->sipi_vector;
	v->check_events = true;
	return 0;
}

/* --- KVM_CAP_SYNC_REGS --- */

/* Takes what userspace has changed in kvm_run. -EINVAL for unknown sets, and as their ioctls. */
int sync_regs_in(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 dirty = READ_ONCE(run->kvm_dirty_regs);
	struct kvm_sync_regs s;
	int r = 0;

	if ((dirty | READ_ONCE(run->kvm_valid_regs)) & ~(u64)SYNC_REGS)
		return -EINVAL;
	if (!dirty)
		return 0;
	memcpy(&s, &run->s.regs, sizeof(s));	/* userspace may go on writing */
	barrier();
	if (dirty & KVM_SYNC_X86_REGS)
		svm_set_regs(v, &s.regs);
	if (dirty & KVM_SYNC_X86_SREGS)
		r = svm_set_sregs(v, &s.sregs);
	if (!r && (dirty & KVM_SYNC_X86_EVENTS))
		r = svm_set_vcpu_events(v, &s.events);
	if (!r)
		run->kvm_dirty_regs = 0;
	return r;
}

/* Gives userspace the sets that it asked for. */
void sync_regs_out(struct vcpu *v)
{
	struct kvm_sync_regs *s = &v->run->s.regs;
	u64 valid = READ_ONCE(v->run->kvm_valid_regs);

	if (valid & KVM_SYNC_X86_REGS)
		svm_get_regs(v, &s->regs);
	if (valid & KVM_SYNC_X86_SREGS)
		svm_get_sregs(v, &s->sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		svm_get_vcpu_events(v, &s->events);
}

/** svm_get_mp_state() - KVM_GET_MP_STATE. Takes INIT and SIPI that have arrived into account. */
void svm_get_mp_state(struct vcpu *v, struct kvm_mp_state *m)
{
	vcpu_apic_events(v);
	m->mp_state = v->mp_state;
	if (v->mp_state == KVM_MP_STATE_HALTED && READ_ONCE(v->pv_unhalted))
		m->mp_state = KVM_MP_STATE_RUNNABLE;
}

/** svm_set_mp_state() - KVM_SET_MP_STATE. Without the in-kernel APIC only RUNNABLE. -EINVAL. */
int svm_set_mp_state(struct vcpu *v, const struct kvm_mp_state *m)
{
	/* The states after the first are the APIC's. */
	if (m->mp_state > KVM_MP_STATE_SIPI_RECEIVED ||
	    (m->mp_state != KVM_MP_STATE_RUNNABLE && !v->apic))
		return -EINVAL;
	v->mp_state = m->mp_state;
	if (m->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		set_bit(LAPIC_EV_SIPI, &v->apic->events);
	}
	v->check_events = true;
	return 0;
}

/** svm_interrupt() - KVM_INTERRUPT: -EEXIST where one is queued, -ENXIO with an in-kernel PIC. */
int svm_interrupt(struct vcpu *v, const struct kvm_interrupt *i)
{
	if (i->irq > 255)
		return -EINVAL;
	if (irqchip_full(&v->vm->irqchip))
		return -ENXIO;
	if (v->apic ? v->extint : v->irq_injected)
		return -EEXIST;
	v->check_events = true;
	if (v->apic) {
		v->extint = true;
		v->extint_vector = i->irq;
	} else {
		irq_queue(v, i->irq, false);
	}
	return 0;
}

/** svm_nmi() - KVM_NMI: one more NMI; up to two are kept. */
int svm_nmi(struct vcpu *v)
{
	events_add_nmi(v);
	return 0;
}

/** svm_translate() - KVM_TRANSLATE: the guest's page tables, without side effects. Sleeps. */
int svm_translate(struct vcpu *v, struct kvm_translation *t)
{
	int idx, r = -EFAULT;
	u32 error_code;
	u64 gpa;

	v->can_sleep = true;
	/* Outside long mode a linear address has 32 bits. */
	if ((v->vmcb->save.efer & EFER_LMA) || !(t->linear_address >> 32)) {
		idx = srcu_read_lock(&v->vm->mem.srcu);
		r = guest_walk(v, t->linear_address, WALK_NO_AD, &gpa, &error_code);
		srcu_read_unlock(&v->vm->mem.srcu, idx);
	}
	t->physical_address = r ? ~0ull : gpa;
	t->valid = !r;
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}

/* --- machine checks --- */

#define MCI_STATUS_VALID	BIT_ULL(63)
#define MCI_STATUS_OVERFLOW	BIT_ULL(62)
#define MCI_STATUS_UNCORRECTED	BIT_ULL(61)
#define MCG_STATUS_IN_PROGRESS	BIT_ULL(2)

/** svm_set_mce() - KVM_X86_SET_MCE: log an error into a bank and, if uncorrected, raise #MC. */
int svm_set_mce(struct vcpu *v, const struct kvm_x86_mce *m)
{
	bool uncorrected = m->status & MCI_STATUS_UNCORRECTED;
	u64 *bank;

	if (m->bank >= (v->mcg_cap & 0xff) || !(m->status & MCI_STATUS_VALID))
		return -EINVAL;
	bank = &v->mce_banks[4 * array_index_nospec(m->bank, MAX_MCE_BANKS)];
	if (uncorrected) {
		/* Disabled reporting drops the error. */
		if (((v->mcg_cap & MCG_CTL_P) && v->mcg_ctl != ~0ull) || bank[0] != ~0ull)
			return 0;
		if ((v->mcg_status & MCG_STATUS_IN_PROGRESS) ||
		    !(v->vmcb->save.cr4 & X86_CR4_MCE)) {
			vcpu_request(v, REQ_TRIPLE_FAULT);
			return 0;
		}
		v->mcg_status = m->mcg_status;
		raise(v, X86_TRAP_MC, 0);
	} else if ((bank[1] & MCI_STATUS_VALID) && (bank[1] & MCI_STATUS_UNCORRECTED)) {
		bank[1] |= MCI_STATUS_OVERFLOW;
		return 0;
	}
	bank[1] = m->status | (bank[1] & MCI_STATUS_VALID ? MCI_STATUS_OVERFLOW : 0);
	bank[2] = m->addr;
	bank[3] = m->misc;
	return 0;
}
