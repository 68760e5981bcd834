// SPDX-License-Identifier: GPL-2.0
/*
 * The run loop. The outer loop is preemptible: it takes requests, sleeps in HLT, faults memory in,
 * returns to userspace. The inner loop (a "stay") has preemption off and the guest's FPU and debug
 * registers loaded; exits that need nothing else go straight back into the guest.
 */
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <asm/debugreg.h>

#include "compat/entry.h"
#include "svm/io.h"

#define POLL_FIRST_NS	10000u

static unsigned int halt_poll_ns = 200000;
module_param(halt_poll_ns, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "longest look-out for an event before HLT sleeps, in ns; 0: none");

/* --- kicks --- */

/**
 * vcpu_kick() - make a vCPU leave the guest, or wake it from HLT. Any context.
 * @v: the vCPU
 *
 * v->mode is VCPU_IN_GUEST for the whole stay, not only around VMRUN, so the vCPU needs no barrier
 * at each entry: with GIF=0 it looks at v->requests, and an IPI sent later than that look is still
 * pending at VMRUN and exits at once.
 */
void vcpu_kick(struct vcpu *v)
{
	int cpu;

	rcuwait_wake_up(&v->wait);
	smp_mb();	/* request bits before v->mode; pairs with smp_store_mb() in stay_begin() */
	if (READ_ONCE(v->mode) != VCPU_IN_GUEST)
		return;
	cpu = READ_ONCE(v->cpu);
	preempt_disable();
	if (cpu != smp_processor_id() && cpu_online(cpu))
		smp_send_reschedule(cpu);
	preempt_enable();
}

/** vcpu_request() - leave a note for the vCPU's thread and kick it. Any context. */
void vcpu_request(struct vcpu *v, int req)
{
	set_bit(req, &v->requests);
	vcpu_kick(v);
}

/** vm_request() - vcpu_request() for all vCPUs. Any context. */
void vm_request(struct vm *vm, int req)
{
	struct vcpu *v;
	unsigned int i;

	vm_for_each_vcpu(i, v, vm)
		vcpu_request(v, req);
}

/* --- one stay --- */

/*
 * Preemption is off from fpu_load() to fpu_store(). The mask has no components of the host in it
 * that the guest does not have: PKRU in particular stays the host's (guests are not offered
 * protection keys).
 */
static __always_inline void fpu_load(struct vcpu *v)
{
	kernel_fpu_begin_mask(0);
	/* XSAVES can't be intercepted: it must not reach this task's shadow stack. */
	if (unlikely(svm_caps.host_xss))
		wrmsrq(MSR_IA32_XSS, 0);
	/*
	 * Before Zen, FXRSTOR/XRSTOR leave FIP, FDP and FOP alone unless an x87 exception is
	 * pending: overwrite the host's (any other task's) pointers by an x87 load of our own.
	 */
	if (static_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex; emms; fildl %0" :: "m"(v->id));
	if (likely(svm_caps.xcr0))
		asm volatile("xrstor64 (%0)" :: "r"(v->fpu), "a"((u32)svm_caps.xcr0),
			     "d"((u32)(svm_caps.xcr0 >> 32)) : "memory");
	else
		asm volatile("fxrstor64 (%0)" :: "r"(v->fpu) : "memory");
}

static __always_inline void fpu_store(struct vcpu *v)
{
	if (likely(svm_caps.xcr0))
		asm volatile("xsave64 (%0)" :: "r"(v->fpu), "a"((u32)svm_caps.xcr0),
			     "d"((u32)(svm_caps.xcr0 >> 32)) : "memory");
	else
		asm volatile("fxsave64 (%0)" :: "r"(v->fpu) : "memory");
	if (unlikely(svm_caps.host_xss))
		wrmsrq(MSR_IA32_XSS, svm_caps.host_xss);
	kernel_fpu_end();
}

#define STAY_ENDS_TIF	(_TIF_NEED_RESCHED | COMPAT_TIF_NEED_RESCHED_LAZY | _TIF_SIGPENDING | \
			 _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME)

#define DEBUGCTL_HOST	(DEBUGCTLMSR_BTF | DEBUGCTLMSR_BUS_LOCK_DETECT)

/* Traps that the host has armed for its own tasks are not the guest's; LBRV is off. */
static noinline u64 debugctl_change(u64 clear, u64 set)
{
	unsigned long flags;
	u64 val;

	local_irq_save(flags);
	rdmsrq(MSR_IA32_DEBUGCTLMSR, val);
	wrmsrq(MSR_IA32_DEBUGCTLMSR, (val & ~clear) | set);
	local_irq_restore(flags);
	return val & clear;
}

/* NULL where SVM has gone from this CPU. */
static struct svm_cpu *stay_begin(struct vcpu *v)
{
	struct svm_cpu *sc;

	preempt_disable();
	sc = this_cpu_ptr(&svm_cpu);
	if (unlikely(!sc->enabled)) {
		preempt_enable();
		return NULL;
	}
	if (sc->last_vcpu != v) {
		/* Another guest's branch predictions must not steer this one. */
		compat_vcpu_switch_ibpb();
		sc->last_vcpu = v;
	}
	if (unlikely(svm_caps.snp_host))
		wrmsrq(MSR_VM_HSAVE_PA, sc->hsave_pa);
	asid_prepare(v, sc);
	tsc_aux_enter(v);
	v->host_debugctl = 0;
	if (unlikely(boot_cpu_has(X86_FEATURE_BUS_LOCK_DETECT) || test_thread_flag(TIF_BLOCKSTEP)))
		v->host_debugctl = debugctl_change(DEBUGCTL_HOST, 0);
	smp_store_mb(v->mode, VCPU_IN_GUEST);	/* pairs with vcpu_kick() */
	fpu_load(v);
	/* FS, GS, TR, LDTR and the syscall MSRs stay as they are while preemption is off. */
	vmsave(sc->host_vmcb_pa);
	compat_guest_enter();
	return sc;
}

static void stay_end(struct vcpu *v)
{
	compat_guest_exit();
	fpu_store(v);
	WRITE_ONCE(v->mode, VCPU_OUTSIDE);
	if (unlikely(v->host_debugctl))
		debugctl_change(0, v->host_debugctl);
	/* The guest's branch predictions must not come along to userspace (VMSCAPE). */
	compat_ibpb_exit_to_user();
	preempt_enable();
}

static void dr_load(const u64 *dr)
{
	int i;

	for (i = 0; i < 4; i++)
		set_debugreg(dr[i], i);
}

/*
 * Breakpoint addresses are swapped only where the guest has breakpoints enabled. #VMEXIT leaves DR7
 * with all of them disabled (APM vol. 2, 15.6), so the host's DR7 is put back where it has any; and
 * it leaves the guest's DR6, which the host would take for a debug trap of its own.
 */
static void dr_swap_in(struct vcpu *v, u64 *host)
{
	int i;

	for (i = 0; i < 4; i++)
		get_debugreg(host[i], i);
	if (this_cpu_read(cpu_dr7))	/* it is not for the guest's addresses */
		set_debugreg(DR7_RESET, 7);
	dr_load(v->guest_debug & KVM_GUESTDBG_USE_HW_BP ? v->debug_dr : v->dr);
}

/* GIF=0. Context tracking is for nohz_full CPUs; elsewhere the whole stay was noted to RCU. */
static __always_inline int enter_guest(struct vcpu *v, struct svm_cpu *sc)
{
	u64 host_spec = 0, guest_spec = 0;
	bool tracking = context_tracking_enabled_this_cpu();
	const struct vmcb_save *save = &v->vmcb->save;
	bool swap_dr = unlikely(save->dr7 & 0xff);
	u64 host_xcr0 = 0;
	u32 zero = 0, zero_high = 0;
	int r;

	if (svm_caps.spec_ctrl) {
		host_spec = this_cpu_read(x86_spec_ctrl_current);
		guest_spec = v->spec_ctrl | host_spec;
	}
	/* Without CR4.OSXSAVE a guest can neither read XCR0 nor use what it enables. */
	if ((save->cr4 & X86_CR4_OSXSAVE) && svm_caps.xcr0) {
		host_xcr0 = svm_caps.host_xcr0;
		if (unlikely(v->xcr0 != host_xcr0))
			xsetbv(XCR_XFEATURE_ENABLED_MASK, v->xcr0);
	}
	if (unlikely(swap_dr))
		dr_swap_in(v, sc->host_dr);
	/* Another thread of the process may have changed its LDT (by IPI) since stay_begin(). */
	if (unlikely(compat_ldt()))
		vmsave(sc->host_vmcb_pa);
	if (unlikely(tracking))
		compat_context_enter();
	/* Zen 1's divider keeps what the last division left: leave 0/1 (CVE-2023-20588). */
	if (static_cpu_has_bug(X86_BUG_DIV0))
		asm volatile("div %2" : "+a"(zero), "+d"(zero_high) : "r"(1) : "cc");
	r = svm_enter(v, v->vmcb_pa, sc->host_vmcb_pa, guest_spec, host_spec);
	if (unlikely(tracking))
		compat_context_exit();
	if (unlikely(swap_dr))
		dr_load(sc->host_dr);
	if (unlikely((u32)save->dr6 != (u32)DR6_RESET))
		set_debugreg(DR6_RESET, 6);
	if (unlikely(this_cpu_read(cpu_dr7)))
		set_debugreg(this_cpu_read(cpu_dr7), 7);
	if (host_xcr0) {
		/* QEMU's TCG does not intercept XSETBV (Documentation/errata.rst). */
		if (svm_caps.nested)
			v->xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
		if (unlikely(v->xcr0 != host_xcr0))
			xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
	}
	return r;
}

/* Requests that the inner loop serves itself. */
static bool take_event_request(struct vcpu *v)
{
	if (READ_ONCE(v->requests) & ~BIT(REQ_EVENT) || (v->apic && READ_ONCE(v->apic->events)))
		return false;
	clear_bit(REQ_EVENT, &v->requests);
	smp_mb__after_atomic();		/* before the look at what is pending */
	v->check_events = true;
	return true;
}

/*
 * Runs the guest until an exit needs more than the inner loop can give. Preemptible on entry and
 * exit; between, preemption is off, which makes it an RCU reader: see mem_synchronize().
 */
static enum vcpu_next stay(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	struct svm_cpu *sc = stay_begin(v);
	enum vcpu_next next;
	int r;

	if (unlikely(!sc))
		return vcpu_fail(v, -EIO);
	if (unlikely(test_and_clear_bit(REQ_TLB_FLUSH, &v->requests)))
		asid_flush(v, sc);
	v->can_sleep = false;
	do {
		if (unlikely(v->check_events))
			events_inject(v);
		clgi();
		if (unlikely(READ_ONCE(v->requests))) {
			stgi();
			next = take_event_request(v) ? NEXT_GUEST : NEXT_OUTER;
			continue;
		}
		if (unlikely(read_thread_flags() & STAY_ENDS_TIF)) {
			stgi();
			next = NEXT_OUTER;
			break;
		}
		r = enter_guest(v, sc);
		stgi();
		if (unlikely(r)) {
			next = vcpu_fail(v, -EIO);
			break;
		}
		if ((u32)c->exit_code != VMEXIT_INVALID) {
			if (unlikely(c->tlb_control)) {
				c->tlb_control = TLB_CONTROL_NOTHING;
				sc->flush_all = false;
			}
			if (svm_caps.clean)
				c->clean = CLEAN_ALL & ~CLEAN_CR2;
		}
		v->stat_exits++;
		if (unlikely(v->injecting || (c->exit_int_info & EVENT_VALID)))
			events_after_exit(v);
		if (unlikely((c->int_ctl & INT_CTL_V_TPR_MASK) != v->vtpr)) {
			v->vtpr = c->int_ctl & INT_CTL_V_TPR_MASK;
			set_guest_cr8(v, v->vtpr);
			v->check_events = true;
		}
		next = vcpu_handle_exit(v);
	} while (next == NEXT_GUEST);
	if (v->injecting) {
		events_retract(v);
		v->check_events = true;
	}
	stay_end(v);
	return next;
}

/* --- the outer loop --- */

static bool must_wake(struct vcpu *v)
{
	if (signal_pending(current))
		return true;
	if (v->mp_state == KVM_MP_STATE_HALTED)
		return events_pending(v);
	return v->apic && READ_ONCE(v->apic->events);	/* before its SIPI it serves no requests */
}

/*
 * Sleeps until something is pending for the vCPU, or a signal. A vCPU whose last sleeps were short
 * looks out for a while first, where no other task wants the CPU: that saves the way through the
 * scheduler. The while grows as long as it pays, and falls to nothing at the first long sleep.
 */
static void block(struct vcpu *v)
{
	unsigned int limit = READ_ONCE(v->vm->has_halt_poll) ? READ_ONCE(v->vm->halt_poll_ns) :
							      halt_poll_ns;
	u64 start = ktime_get_ns(), now = start;

	while (now - start < v->poll_ns && !need_resched() && single_task_running()) {
		if (must_wake(v))
			return;
		cpu_relax();
		now = ktime_get_ns();
	}
	v->stat_sleeps++;
	if (unlikely(v->steal_msr & 1))
		pv_sched_out(v);
	prepare_to_rcuwait(&v->wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (must_wake(v))
			break;
		schedule();
	}
	finish_rcuwait(&v->wait);
	if (ktime_get_ns() - start < limit && v->poll_control)
		v->poll_ns = min(max(2 * v->poll_ns, POLL_FIRST_NS), limit);
	else
		v->poll_ns = 0;
}

/* Takes what others left in v->requests, all but what the stay itself serves. */
static enum vcpu_next serve_requests(struct vcpu *v)
{
	clear_bit(REQ_KICK, &v->requests);
	if (test_and_clear_bit(REQ_CLOCK, &v->requests))
		clock_update(v);
	if (test_and_clear_bit(REQ_MSR_MAP, &v->requests))
		msr_setup_vmcb(v);
	if (test_and_clear_bit(REQ_STEAL, &v->requests))
		pv_steal_update(v);
	clear_bit(REQ_EVENT, &v->requests);
	smp_mb__after_atomic(); /* the sender set the event first, the bit then */
	v->check_events = true;
	vcpu_apic_events(v);
	if (v->eoi_exit) {
		v->eoi_exit = false;
		v->run->eoi.vector = v->apic->eoi_vector;
		return vcpu_exit(v, KVM_EXIT_IOAPIC_EOI);
	}
	if (test_and_clear_bit(REQ_TRIPLE_FAULT, &v->requests))
		return vcpu_exit(v, KVM_EXIT_SHUTDOWN);
	if (test_and_clear_bit(REQ_DEBUG, &v->requests))
		return debug_exit(v, X86_TRAP_DB, v->debug_dr6);
	return NEXT_GUEST;
}

/* Could userspace's PIC inject now? */
static bool user_can_inject(struct vcpu *v)
{
	return events_irq_allowed(v) && events_user_pic(v);
}

static enum vcpu_next run_once(struct vcpu *v)
{
	struct memory *mem = &v->vm->mem;
	enum vcpu_next next = stay(v);
	int idx;

	if (next != NEXT_SLEEP && likely(!v->pv_eoi_armed))
		return next;
	idx = srcu_read_lock(&mem->srcu);
	v->can_sleep = true;
	if (unlikely(v->pv_eoi_armed))
		pv_eoi_sync(v);
	if (next == NEXT_SLEEP) {
		next = vcpu_handle_exit(v);
		if (next == NEXT_SLEEP)
			next = NEXT_OUTER;
	}
	srcu_read_unlock(&mem->srcu, idx);
	return next;
}

static enum vcpu_next outer_loop(struct vcpu *v)
{
	enum vcpu_next next;

	for (;;) {
		if (unlikely(v->steal_msr & 1))
			pv_steal_look(v);
		if (unlikely(READ_ONCE(v->requests)) || (v->apic && READ_ONCE(v->apic->events))) {
			next = serve_requests(v);
			if (next != NEXT_GUEST)
				return next;
		}
		if (unlikely(read_thread_flags() & STAY_ENDS_TIF)) {
			if (v->steal_msr & 1)
				pv_sched_out(v);
			if (compat_resume_work()) {
				v->run->exit_reason = KVM_EXIT_INTR;
				return vcpu_fail(v, -EINTR);
			}
			if (READ_ONCE(v->requests))
				continue;
		}
		if (unlikely(v->user_window) && user_can_inject(v))
			return vcpu_exit(v, KVM_EXIT_IRQ_WINDOW_OPEN);
		if (unlikely(v->mp_state != KVM_MP_STATE_RUNNABLE)) {
			/* An AP before its SIPI: say so after each wake-up, as KVM does. */
			if (v->mp_state != KVM_MP_STATE_HALTED)
				return vcpu_fail(v, -EAGAIN);
			if (!events_pending(v)) {
				block(v);
				continue;
			}
			v->mp_state = KVM_MP_STATE_RUNNABLE;
			v->check_events = true;
			WRITE_ONCE(v->pv_unhalted, false);
		}
		next = run_once(v);
		if (next == NEXT_USER || next == NEXT_ERROR)
			return next;
	}
}

/* What userspace reads beside the exit itself. */
static void fill_run_state(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	run->if_flag = !!(v->vmcb->save.rflags & X86_EFLAGS_IF);
	run->flags = 0;
	run->cr8 = guest_cr8(v);
	run->apic_base = guest_apic_base(v);
	run->ready_for_interrupt_injection = irqchip_full(&v->vm->irqchip) || user_can_inject(v);
}

/**
 * svm_vcpu_run() - KVM_RUN: completes what userspace answered, then runs until the next exit.
 * @v: the vCPU
 *
 * Context: sleeps; vcpu->mutex held, in the context of the VM's owner.
 * Return: 0 with kvm_run filled; -EINTR (signal or immediate_exit), -EAGAIN (AP before SIPI),
 * -EFAULT (host mapping forbids the access), -ENOMEM, -EIO (SVM on this CPU is gone).
 */
int svm_vcpu_run(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	enum vcpu_next next = NEXT_GUEST;

	if (!v->apic) {
		u64 cr8 = READ_ONCE(run->cr8);

		if (cr8 > 15)
			return -EINVAL;
		v->cr8 = cr8;
	}
	if (!irqchip_full(&v->vm->irqchip)) {
		v->user_window = READ_ONCE(run->request_interrupt_window);
		v->check_events = true;
	}
	v->error = 0;
	if (unlikely(v->mp_state == KVM_MP_STATE_UNINITIALIZED ||
		     v->mp_state == KVM_MP_STATE_INIT_RECEIVED)) {
		if (READ_ONCE(run->COMPAT_IMMEDIATE_EXIT))
			return -EINTR;
		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		block(v);
		vcpu_apic_events(v);
		if (v->mp_state != KVM_MP_STATE_RUNNABLE) {
			run->exit_reason = KVM_EXIT_INTR;
			return signal_pending(current) ? -EINTR : -EAGAIN;
		}
		/* Started: as api.rst wants, one more KVM_RUN is needed only after a signal. */
	}
	if (unlikely(v->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		debug_step_begin(v);
	if (v->io->state != IO_NONE) {
		int idx = srcu_read_lock(&v->vm->mem.srcu);

		v->can_sleep = true;
		next = io_complete(v);
		srcu_read_unlock(&v->vm->mem.srcu, idx);
	}
	if (next == NEXT_GUEST || next == NEXT_OUTER) {
		/* The exit before stays readable: immediate_exit only completes it. */
		next = READ_ONCE(run->COMPAT_IMMEDIATE_EXIT) ? vcpu_fail(v, -EINTR) : outer_loop(v);
	}
	if (unlikely(v->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		debug_step_end(v);
	fill_run_state(v);
	return next == NEXT_ERROR ? v->error : 0;
}
