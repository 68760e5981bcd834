// SPDX-License-Identifier: GPL-2.0
/*
 * Paravirtualization: steal time, interrupts that need no EOI. The guest's side is described in the
 * kernel's Documentation/virt/kvm/x86/msr.rst and cpuid.rst; kvmclock is in clock.c, hypercalls in
 * svm/hypercall.c.
 */
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>

#include "guest/guest.h"

#define MSR_ENABLE	1ull

/** pv_supported() - the bits of CPUID leaf 0x40000001 that stand for what is in this file. */
u32 pv_supported(void)
{
	u32 bits = PV_NEEDS_APIC | BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD);

	if (sched_info_on())
		bits |= BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_TLB_FLUSH);
	return bits;
}

/** pv_reset() - RESET or INIT: the guest's areas are its own again. */
void pv_reset(struct vcpu *v)
{
	v->kvmclock_msr = 0;
	v->wall_clock_msr = 0;
	v->steal_msr = 0;
	v->pv_eoi_msr = 0;
	v->pv_eoi_armed = false;
	v->pv_unhalted = false;
}

/* --- steal time --- */

static u64 run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

#define STEAL(field)	(gpa + offsetof(struct kvm_steal_time, field))

/** pv_sched_out() - the thread gives its CPU away: the guest sees so until REQ_STEAL. Sleeps. */
void pv_sched_out(struct vcpu *v)
{
	struct memory *mem = &v->vm->mem;
	u64 gpa = v->steal_msr & ~MSR_ENABLE;
	u8 preempted = KVM_VCPU_PREEMPTED;
	struct pid *old;
	int idx;

	if (rcu_access_pointer(v->pid) != task_pid(current)) {
		old = rcu_replace_pointer(v->pid, get_task_pid(current, PIDTYPE_PID),
					  lockdep_is_held(&v->mutex));
		if (old)
			synchronize_rcu();
		put_pid(old);
	}
	if (test_and_set_bit(REQ_STEAL, &v->requests))
		return;
	idx = srcu_read_lock(&mem->srcu);
	mem_write(mem, STEAL(preempted), &preempted, sizeof(preempted));
	srcu_read_unlock(&mem->srcu, idx);
}

/** pv_steal_update() - REQ_STEAL: account for the time that others had the CPU. Sleeps. */
void pv_steal_update(struct vcpu *v)
{
	struct memory *mem = &v->vm->mem;
	u64 gpa = v->steal_msr & ~MSR_ENABLE, steal, flags = 0, delay = run_delay();
	int idx, r = 1, tries;

	if (!(v->steal_msr & MSR_ENABLE))
		return;
	idx = srcu_read_lock(&mem->srcu);
	/* A guest that fights for the byte may lose it. */
	for (tries = 0; r > 0 && tries < 100; tries++)
		r = mem_cmpxchg(mem, STEAL(preempted), &flags, 0, 1);
	if (r || flags & KVM_VCPU_FLUSH_TLB)
		set_bit(REQ_TLB_FLUSH, &v->requests);
	if (!r && !mem_read(mem, STEAL(steal), &steal, sizeof(steal))) {
		/* Enabled just now, or run by another thread: nothing stolen that we know of. */
		steal += delay - min(v->steal_seen, delay);
		if (write_versioned(mem, STEAL(version), STEAL(steal), &steal, sizeof(steal)))
			v->steal_seen = delay;
	}
	srcu_read_unlock(&mem->srcu, idx);
}

/** pv_steal_look() - was something stolen that no one has told? Steal time is enabled. */
void pv_steal_look(struct vcpu *v)
{
	if (run_delay() != v->steal_seen)
		set_bit(REQ_STEAL, &v->requests);
}

/* --- end of interrupt without an exit --- */

/** pv_eoi_arm() - an interrupt is injected, whose EOI may be left out where it unblocks nothing. */
void pv_eoi_arm(struct vcpu *v)
{
	u8 one = 1;

	v->pv_eoi_armed = lapic_eoi_can_wait(v->apic) &&
			  !guest_access(v, v->pv_eoi_msr & ~MSR_ENABLE, &one, 1, true);
}

/** pv_eoi_sync() - was the EOI left out? If that needs sleeping, the stay ends: run_once(). */
void pv_eoi_sync(struct vcpu *v)
{
	u64 gpa = v->pv_eoi_msr & ~MSR_ENABLE;
	u8 bit, zero = 0;

	if (guest_access(v, gpa, &bit, 1, false) ||
	    ((bit & 1) && guest_access(v, gpa, &zero, 1, true))) {
		if (!v->can_sleep) {
			set_bit(REQ_KICK, &v->requests);
			return;
		}
		bit = 1;
	}
	v->pv_eoi_armed = false;
	if (!(bit & 1)) {
		lapic_eoi(v->apic);
		v->check_events = true;
	}
}
