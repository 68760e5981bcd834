// SPDX-License-Identifier: GPL-2.0
/*
 * Hypercalls, by VMMCALL and VMCALL. The guest's side is described in the kernel's
 * Documentation/virt/kvm/x86/hypercalls.rst.
 */
#include <linux/pid.h>
#include <linux/sched.h>

#include "svm/io.h"

#define ICR_ADDRESSING	0xc0800	/* destination mode and shorthand: the bit map is the destination */

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
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	memset(run->hypercall.args, 0, sizeof(run->hypercall.args));
	run->hypercall.args[0] = gpa;
	run->hypercall.args[1] = pages;
	run->hypercall.args[2] = v->regs[REG_RDX] & mask;
	compat_set_hypercall_long(run, long64);
	io_wait(v, IO_HYPERCALL, v->io->next_rip);
	return vcpu_exit(v, KVM_EXIT_HYPERCALL);
}

/* Userspace has answered. */
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
	long64 = in_long64(s);
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

/*
 * #UD: VMCALL is what Intel's processors have for VMMCALL, and guests may use either. RDPID is
 * served where the processor lacks it.
 */
enum vcpu_next exit_ud_exception(struct vcpu *v)
{
	enum vcpu_next next;

	v->vmcb->control.next_rip = 0;	/* an exception has none */
	next = hypercall(v, 0xc1010f);
	if (next == NEXT_OUTER)		/* other bytes */
		next = insn_rdpid(v);
	return next == NEXT_OUTER ? raise_ud(v) : next;
}
