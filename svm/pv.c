// SPDX-License-Identifier: GPL-2.0
/*
 * Paravirtualization: hypercalls, steal time, interrupts that need no EOI. The guest's side is
 * described in the kernel's Documentation/virt/kvm/x86/hypercalls.rst, msr.rst and cpuid.rst;
 * kvmclock is in clock.c.
 */
#include <linux/kvm_para.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>

#include "svm/io.h"

#define MSR_ENABLE	1ull
#define STEAL_RESERVED	0x3eull	/* bits 5:1: the area is 64 bytes, aligned */
#define EOI_RESERVED	2ull	/* 4 bytes */
#define ICR_ADDRESSING	0xc0800	/* destination mode and shorthand: the bit map is the destination */

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

/* --- MSRs --- */

static u64 *pv_msr(struct vcpu *v, u32 index, u32 *feature)
{
	switch (index) {
	case MSR_KVM_STEAL_TIME:
		*feature = KVM_FEATURE_STEAL_TIME;
		return &v->steal_msr;
	case MSR_KVM_PV_EOI_EN:
		*feature = KVM_FEATURE_PV_EOI;
		return &v->pv_eoi_msr;
	default:
		*feature = KVM_FEATURE_POLL_CONTROL;
		return &v->poll_control;
	}
}

/**
 * pv_get_msr() - MSR_KVM_STEAL_TIME, PV_EOI_EN, POLL_CONTROL. 0, or -EINVAL where the guest does
 * not have it.
 * @v: the vCPU
 * @index: of the MSR
 * @data: the value
 * @host: from userspace
 */
int pv_get_msr(struct vcpu *v, u32 index, u64 *data, bool host)
{
	u32 feature;
	u64 *msr = pv_msr(v, index, &feature);

	if (!host && !pv_has(v, feature))
		return -EINVAL;
	*data = *msr;
	return 0;
}

/** pv_set_msr() - its counterpart. -EINVAL for reserved bits also. */
int pv_set_msr(struct vcpu *v, u32 index, u64 data, bool host)
{
	u64 reserved = index == MSR_KVM_STEAL_TIME ? STEAL_RESERVED :
		       index == MSR_KVM_PV_EOI_EN ? EOI_RESERVED : ~MSR_ENABLE;
	u32 feature;
	u64 *msr = pv_msr(v, index, &feature);

	if ((!host && !pv_has(v, feature)) || (data & reserved))
		return -EINVAL;
	*msr = data;
	if (index == MSR_KVM_STEAL_TIME) {
		v->steal_seen = ~0ull;
		set_bit(REQ_STEAL, &v->requests);
	}
	return 0;
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

/**
 * pv_sched_out() - the vCPU's thread gives its CPU away: say so in the guest's steal-time area.
 * Sleeps.
 * @v: the vCPU, whose guest has enabled steal time
 *
 * Other vCPUs may then leave it a TLB flush for later instead of waiting for it. REQ_STEAL undoes
 * this before the guest runs on.
 */
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

/**
 * pv_steal_update() - REQ_STEAL: running again; account for the time that others had the CPU.
 * Sleeps.
 * @v: the vCPU
 */
void pv_steal_update(struct vcpu *v)
{
	struct memory *mem = &v->vm->mem;
	u64 gpa = v->steal_msr & ~MSR_ENABLE, steal, flags = 0, delay = run_delay();
	int idx, r = 1, tries;
	u32 version;

	if (!(v->steal_msr & MSR_ENABLE))
		return;
	idx = srcu_read_lock(&mem->srcu);
	/* A guest that fights for the byte may lose it. */
	for (tries = 0; r > 0 && tries < 100; tries++)
		r = mem_cmpxchg(mem, STEAL(preempted), &flags, 0, 1);
	if (r || flags & KVM_VCPU_FLUSH_TLB)
		set_bit(REQ_TLB_FLUSH, &v->requests);
	if (r || mem_read(mem, STEAL(version), &version, sizeof(version)) ||
	    mem_read(mem, STEAL(steal), &steal, sizeof(steal)))
		goto out;
	version |= 1;		/* odd: being changed */
	mem_write(mem, STEAL(version), &version, sizeof(version));
	smp_wmb();	/* the odd version before the contents, they before the even one */
	/* Enabled just now, or another thread runs the vCPU: nothing was stolen that we know of. */
	steal += delay - min(v->steal_seen, delay);
	v->steal_seen = delay;
	mem_write(mem, STEAL(steal), &steal, sizeof(steal));
	smp_wmb();	/* see above */
	version++;
	mem_write(mem, STEAL(version), &version, sizeof(version));
out:
	srcu_read_unlock(&mem->srcu, idx);
}

/**
 * pv_steal_look() - before the guest runs on: was something stolen that no one has told?
 * @v: the vCPU, whose guest has enabled steal time
 *
 * In userspace, or in the kernel where that is preemptible.
 */
void pv_steal_look(struct vcpu *v)
{
	if (run_delay() != v->steal_seen)
		set_bit(REQ_STEAL, &v->requests);
}

/* --- end of interrupt without an exit --- */

/**
 * pv_eoi_arm() - an interrupt is being injected: where its EOI would unblock nothing, the guest may
 * leave it out.
 * @v: the vCPU
 *
 * Inner loop. What came of it, pv_eoi_sync() finds out at the next #VMEXIT.
 */
void pv_eoi_arm(struct vcpu *v)
{
	u8 one = 1;

	if (lapic_eoi_can_wait(v->apic))
		v->pv_eoi_armed = !mem_write_atomic(&v->vm->mem, v->pv_eoi_msr & ~MSR_ENABLE, &one,
						    1);
}

/**
 * pv_eoi_sync() - the guest has cleared the bit, and that was the EOI; or it has not, and must
 * write one.
 * @v: the vCPU
 *
 * Where the page is not there without sleeping, the stay ends and run_once() does it.
 */
void pv_eoi_sync(struct vcpu *v)
{
	u64 gpa = v->pv_eoi_msr & ~MSR_ENABLE;
	u8 bit, zero = 0;

	if (guest_read(v, gpa, &bit, 1) || ((bit & 1) && guest_write(v, gpa, &zero, 1))) {
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

/* --- hypercalls --- */

static struct vcpu *find_vcpu(struct vm *vm, u32 apic_id)
{
	struct vcpu *v;
	unsigned int i;

	vm_for_each_vcpu(i, v, vm)
		if (v->id == apic_id)
			return v;
	return NULL;
}

static long kick_cpu(struct vm *vm, u32 apic_id)
{
	struct vcpu *target = find_vcpu(vm, apic_id);

	if (target) {
		WRITE_ONCE(target->pv_unhalted, true);
		vcpu_kick(target);
	}
	return 0;
}

static long send_ipi(struct vcpu *v, unsigned int width)
{
	unsigned long map[2] = { v->regs[REG_RBX], v->regs[REG_RCX] };
	u32 icr = v->regs[REG_RSI];

	if (icr & ICR_ADDRESSING)
		return -KVM_EINVAL;
	return lapic_send(&v->vm->irqchip, map, width, v->regs[REG_RDX], icr);
}

static long sched_yield(struct vm *vm, u32 apic_id)
{
	struct vcpu *target = find_vcpu(vm, apic_id);
	struct task_struct *task = NULL;

	rcu_read_lock();
	if (target && READ_ONCE(target->mode) != VCPU_IN_GUEST)
		task = get_pid_task(rcu_dereference(target->pid), PIDTYPE_PID);
	rcu_read_unlock();
	if (task) {
		if (task != current)
			yield_to(task, true);
		put_task_struct(task);
	}
	return 0;
}

static noinline_for_stack long serve(struct vcpu *v, u32 nr, unsigned int width)
{
	if (nr == KVM_HC_KICK_CPU && pv_has(v, KVM_FEATURE_PV_UNHALT))
		return kick_cpu(v->vm, v->regs[REG_RCX]);
	if (nr == KVM_HC_SEND_IPI && pv_has(v, KVM_FEATURE_PV_SEND_IPI))
		return send_ipi(v, width);
	if (nr == KVM_HC_SCHED_YIELD && pv_has(v, KVM_FEATURE_PV_SCHED_YIELD))
		return sched_yield(v->vm, v->regs[REG_RBX]);
	if (nr != KVM_HC_VAPIC_POLL_IRQ)
		return -KVM_ENOSYS;
	v->check_events = true;
	return 0;
}

/* KVM_HC_MAP_GPA_RANGE, where userspace serves it. It finds RIP at the instruction. */
static noinline enum vcpu_next hypercall_to_user(struct vcpu *v, u32 opcode)
{
	bool long64 = cpu_mode(v) == EMUL_LONG64;
	u64 mask = long64 ? ~0ull : ~0u, gpa = v->regs[REG_RBX] & mask;
	u64 pages = v->regs[REG_RCX] & mask;
	struct kvm_run *run = v->run;
	enum vcpu_next next = insn_end(v, opcode, 3, &v->io->next_rip);

	if (next != NEXT_GUEST)
		return next;
	run->hypercall.ret = 0;
	if (!PAGE_ALIGNED(gpa) || !pages || (gpa >> PAGE_SHIFT) + pages <= gpa >> PAGE_SHIFT) {
		run->hypercall.ret = -KVM_EINVAL;
		return hypercall_complete(v);
	}
	run->exit_reason = KVM_EXIT_HYPERCALL;
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	memset(run->hypercall.args, 0, sizeof(run->hypercall.args));
	run->hypercall.args[0] = gpa;
	run->hypercall.args[1] = pages;
	run->hypercall.args[2] = v->regs[REG_RDX] & mask;
	compat_set_hypercall_long(run, long64);
	v->io->state = IO_HYPERCALL;
	v->io->rip = v->vmcb->save.rip;
	return NEXT_USER;
}

/** hypercall_complete() - userspace has answered. */
enum vcpu_next hypercall_complete(struct vcpu *v)
{
	u64 ret = READ_ONCE(v->run->hypercall.ret);

	v->vmcb->save.rax = cpu_mode(v) == EMUL_LONG64 ? ret : (u32)ret;
	insn_advance(v, v->io->next_rip);
	return NEXT_GUEST;
}

/* From CPL>0 none is served (CVE-2009-3290). */
static __always_inline enum vcpu_next hypercall(struct vcpu *v, u32 opcode)
{
	struct vmcb_save *s = &v->vmcb->save;
	enum vcpu_next next;
	bool long64;
	u64 nr;
	long r;

	if (unlikely((u32)s->rax == KVM_HC_SCHED_YIELD && !v->can_sleep))
		return NEXT_SLEEP;
	if (unlikely(v->vm->hypercall_exits && (u32)s->rax == KVM_HC_MAP_GPA_RANGE && !s->cpl))
		return hypercall_to_user(v, opcode);
	next = insn_skip(v, opcode, 3);
	if (unlikely(next != NEXT_GUEST))
		return next;
	long64 = (s->efer & EFER_LMA) && (s->cs.attrib & SEG_L);
	nr = long64 ? s->rax : (u32)s->rax;
	if (unlikely(s->cpl))
		r = -KVM_EPERM;
	else if (nr > KVM_HC_SCHED_YIELD)
		r = -KVM_ENOSYS;
	else
		r = serve(v, nr, long64 ? 64 : 32);
	s->rax = long64 ? r : (u32)r;
	return NEXT_GUEST;
}

enum vcpu_next exit_vmmcall(struct vcpu *v)
{
	return hypercall(v, 0xd9010f);
}

/**
 * exit_ud_exception() - #UD: VMCALL is what Intel's processors have for VMMCALL, and guests may use
 * either. RDPID is served where the processor lacks it.
 * @v: the vCPU
 */
enum vcpu_next exit_ud_exception(struct vcpu *v)
{
	enum vcpu_next next;

	v->vmcb->control.next_rip = 0;	/* an exception has none */
	next = hypercall(v, 0xc1010f);
	if (next == NEXT_OUTER)		/* other bytes */
		next = insn_rdpid(v);
	if (next == NEXT_OUTER) {
		raise(v, X86_TRAP_UD);
		next = NEXT_GUEST;
	}
	return next;
}
