// SPDX-License-Identifier: GPL-2.0
/* Life of a vCPU and of the CPU half of a VM: creation, RESET and INIT, destruction. */
#include <linux/gfp.h>
#include <linux/mem_encrypt.h>
#include <linux/slab.h>
#include <asm/apicdef.h>

#include "svm/io.h"
#include "uapi/svm.h"

/* --- the VM --- */

static void ack_flush(void *unused)
{
}

/*
 * A translation has gone: no vCPU may use it once this returns. Each drops its TLB before it enters
 * the guest again; those that are inside are interrupted and waited for.
 */
static void vm_flush(struct memory *mem)
{
	struct vm *vm = container_of(mem, struct vm, mem);
	struct vcpu *v;
	unsigned int i;

	preempt_disable();
	vm_for_each_vcpu(i, v, vm)
		set_bit(REQ_TLB_FLUSH, &v->requests);
	smp_mb();	/* requests before v->mode; pairs with smp_store_mb() in stay_begin() */
	cpumask_clear(&vm->flush_cpus);
	vm_for_each_vcpu(i, v, vm)
		if (READ_ONCE(v->mode) == VCPU_IN_GUEST)
			cpumask_set_cpu(READ_ONCE(v->cpu), &vm->flush_cpus);
	smp_call_function_many(&vm->flush_cpus, ack_flush, NULL, true);
	preempt_enable();
}

static const struct memory_ops memory_ops = { .flush = vm_flush };

static void lapic_kick(struct lapic *apic)
{
	vcpu_request(apic->vcpu, REQ_EVENT);
}

static void irqchip_eoi(struct irqchip *chip, u32 input)
{
	struct vm *vm = container_of(chip, struct vm, irqchip);

	vm->eoi(vm, input);
}

static const struct irqchip_ops irqchip_ops = { .kick = lapic_kick, .eoi = irqchip_eoi };

/** svm_vm_init() - memory, which current->mm owns; irqchip, clock. 0, -ENOMEM or -EINTR. */
int svm_vm_init(struct vm *vm)
{
	int r = memory_init(&vm->mem, &memory_ops);

	if (r)
		return r;
	irqchip_init(&vm->irqchip, &irqchip_ops);
	clock_init(vm);
	vm->default_tsc_khz = tsc_khz;
	return 0;
}

/** svm_vm_destroy() - after memory and the last vCPU are gone. Sleeps. */
void svm_vm_destroy(struct vm *vm)
{
	irqchip_destroy(&vm->irqchip);
	msr_filter_free(rcu_dereference_protected(vm->msr_filter, true));
}

/* --- reset --- */

static void reset_seg(struct vmcb_seg *s, u16 attrib)
{
	s->attrib = attrib;
	s->limit = 0xffff;
}

/* Register state after RESET or INIT (APM vol. 2, table 14-1). */
static void reset_regs(struct vcpu *v)
{
	struct vmcb_save *s = &v->vmcb->save;
	u64 cr0 = X86_CR0_ET | (s->cr0 & (X86_CR0_CD | X86_CR0_NW));
	struct vmcb_seg *seg;

	/* Up to the debug registers: segments, CPL, EFER, control registers. */
	memset(s, 0, offsetof(struct vmcb_save, dr7));
	for (seg = &s->es; seg <= &s->gs; seg++)
		reset_seg(seg, SEG_P | SEG_S | (seg == &s->cs ? 0xb : 3));
	reset_seg(&s->ldtr, SEG_P | 2);
	reset_seg(&s->tr, SEG_P | 0xb);
	s->cs.selector = 0xf000;
	s->cs.base = 0xffff0000;
	reset_seg(&s->gdtr, 0);
	reset_seg(&s->idtr, 0);
	s->efer = EFER_SVME;		/* VMRUN demands it; the guest sees 0 */
	s->cr0 = cr0;
	s->cr2 = 0;
	s->rflags = X86_EFLAGS_FIXED;
	s->rip = 0xfff0;
	s->rsp = 0;
	s->rax = 0;
	memset(v->regs, 0, sizeof(v->regs));
	v->regs[REG_RDX] = 0x600;
	memset(v->dr, 0, sizeof(v->dr));
	*guest_dr6(v) = DR6_RESET;
	*guest_dr7(v) = DR7_RESET;
	v->cr8 = 0;
}

/* Task switches are the processor's to do: with nested paging all that they load is the guest's. */
static void reset_intercepts(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;

	c->intercept_cr_read = 0;
	c->intercept_cr_write = BIT(4) | BIT(8);
	c->intercept_dr_read = 0xff;
	c->intercept_dr_write = 0xff;
	c->intercept_exceptions = BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC) |
				   BIT(X86_TRAP_UD);
	c->intercept_misc1 = INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_SMI | INTERCEPT_INIT |
			     INTERCEPT_RDPMC | INTERCEPT_CPUID | INTERCEPT_RSM | INTERCEPT_INVD |
			     INTERCEPT_HLT | INTERCEPT_INVLPGA | INTERCEPT_IOIO | INTERCEPT_MSR |
			     INTERCEPT_FERR_FREEZE | INTERCEPT_SHUTDOWN;
	c->intercept_misc2 = INTERCEPT_VMRUN | INTERCEPT_VMMCALL | INTERCEPT_VMLOAD |
			     INTERCEPT_VMSAVE | INTERCEPT_STGI | INTERCEPT_CLGI |
			     INTERCEPT_SKINIT | INTERCEPT_WBINVD | INTERCEPT_MONITOR |
			     INTERCEPT_MWAIT | INTERCEPT_XSETBV | INTERCEPT_RDPRU;
	c->intercept_misc3 = INTERCEPT_INVLPGB_ALL | INTERCEPT_INVLPGB_BAD | INTERCEPT_MCOMMIT |
			     INTERCEPT_TLBSYNC;
	if (v->vm->hlt_in_guest)
		c->intercept_misc1 &= ~INTERCEPT_HLT;
	debug_intercepts(v);
}

/* INIT, which keeps FPU, caches, most MSRs and the APIC's id (APM vol. 2, 14.1.3). */
void vcpu_reset(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;

	reset_regs(v);
	pv_reset(v);
	if (v->apic)
		lapic_reset(v->apic, true);
	reset_intercepts(v);
	c->int_ctl = INT_CTL_V_INTR_MASKING;
	c->int_state = 0;
	c->event_inj = 0;
	c->exit_int_info = 0;
	c->nested_ctl = NESTED_CTL_NP_ENABLE;
	c->nested_cr3 = v->vm->mem.root_hpa;
	c->tsc_offset = v->tsc_offset;
	c->clean = 0;
	msr_setup_vmcb(v);
	v->vtpr = 0;
	v->injecting = false;
	v->virq = false;
	memset(&v->events, 0, sizeof(v->events));
	v->shadow_hlt = ~0ull;
	v->check_events = true;
	set_bit(REQ_TLB_FLUSH, &v->requests);
}

/* --- capabilities --- */

/** svm_enable_cap() - KVM_ENABLE_CAP of a locked VM. -EEXIST: the split irqchip comes too late. */
int svm_enable_cap(struct vm *vm, const struct kvm_enable_cap *e)
{
	u64 arg = e->args[0];
	int r;

	switch (e->cap) {
	case KVM_CAP_EXCEPTION_PAYLOAD:
		WRITE_ONCE(vm->exception_payload, arg);
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		WRITE_ONCE(vm->triple_fault_event, arg);
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (arg & ~(u64)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
				 KVM_MSR_EXIT_REASON_FILTER))
			return -EINVAL;
		WRITE_ONCE(vm->msr_exits, arg);
		return 0;
	case KVM_CAP_EXIT_HYPERCALL:
		if (arg & ~(u64)SVM_USER_HYPERCALLS)
			return -EINVAL;
		WRITE_ONCE(vm->hypercall_exits, arg);
		return 0;
	case KVM_CAP_HALT_POLL:
		if (arg != (unsigned int)arg)
			return -EINVAL;
		WRITE_ONCE(vm->halt_poll_ns, arg);
		WRITE_ONCE(vm->has_halt_poll, true);
		return 0;
	case KVM_CAP_X86_DISABLE_EXITS:
		if (arg & ~(u64)svm_disabled_exits || vm->nr_vcpus)
			return -EINVAL;
		vm->hlt_in_guest |= arg & KVM_X86_DISABLE_EXITS_HLT;
		return 0;
	case KVM_CAP_MSR_PLATFORM_INFO:
		WRITE_ONCE(vm->platform_info_hidden, !arg);
		return 0;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (arg > 1)
			return -EINVAL;
		WRITE_ONCE(vm->emulation_exits, arg);
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		if (arg > IRQCHIP_MAX_GSI)
			return -EINVAL;
		return vm->nr_vcpus ? -EEXIST : irqchip_create_split(&vm->irqchip, arg);
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		r = irqchip_check_bus_cycle(&vm->irqchip, arg);
		if (r || vm->nr_vcpus)
			return r ?: -EINVAL;
		vm->irqchip.bus_cycle_ns = arg;
		return 0;
	case KVM_CAP_X2APIC_API:
		if (arg & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS |
				 KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
			return -EINVAL;
		vm->irqchip.x2apic_format |= !!(arg & KVM_X2APIC_API_USE_32BIT_IDS);
		vm->irqchip.x2apic_no_broadcast |=
			!!(arg & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- the vCPU --- */

/** svm_create_apic() - v->apic, where the VM has the in-kernel irqchip. 0 or -ENOMEM. */
int svm_create_apic(struct vcpu *v)
{
	struct lapic *apic = lapic_create(&v->vm->irqchip, v->id, v);

	if (!apic)
		return -ENOMEM;
	apic->tsc_offset = v->tsc_offset;
	apic->guest_tsc_khz = v->tsc_khz;
	v->apic = apic;
	/* Application processors wait for INIT and SIPI. */
	if (v->id != v->vm->irqchip.bsp_id)
		v->mp_state = KVM_MP_STATE_UNINITIALIZED;
	return 0;
}

/** svm_vcpu_init() - a vCPU in its state after RESET. 0, or -ENOMEM: svm_vcpu_destroy() is due. */
int svm_vcpu_init(struct vcpu *v)
{
	/* Two pages: on SNP hosts a VMCB must not lie at a multiple of 2 MiB. */
	v->fpu = (void *)__get_free_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO, 1);
	v->io = kzalloc(sizeof(*v->io), GFP_KERNEL_ACCOUNT);
	if (!v->fpu || !v->io)
		return -ENOMEM;
	v->vmcb = v->fpu + PAGE_SIZE;
	v->vmcb_pa = __sme_set(__pa(v->vmcb));
	v->cpu = -1;
	v->tsc_khz = v->vm->default_tsc_khz;
	v->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
		       (v->id == v->vm->irqchip.bsp_id ? MSR_IA32_APICBASE_BSP : 0);
	rcuwait_init(&v->wait);
	cpuid_update(v);
	msr_init(v);
	fpu_init(v);
	v->vmcb->save.cr0 = X86_CR0_CD | X86_CR0_NW;	/* RESET's; INIT leaves them */
	vcpu_reset(v);
	/* The guest's TSC starts at 0, in step with the VM's other vCPUs. */
	tsc_write(v, 0, true);
	v->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

/** svm_vcpu_destroy() - the vCPU runs no more and nobody can kick it. */
void svm_vcpu_destroy(struct vcpu *v)
{
	int cpu;

	/* A later vCPU at this address must not be taken for this one, without an IBPB. */
	for_each_possible_cpu(cpu)
		cmpxchg(&per_cpu_ptr(&svm_cpu, cpu)->last_vcpu, v, NULL);
	if (v->apic)
		lapic_destroy(v->apic);
	kvfree(v->cpuid);
	put_pid(rcu_access_pointer(v->pid));
	kfree(v->io);
	free_pages((unsigned long)v->fpu, 1);
}
