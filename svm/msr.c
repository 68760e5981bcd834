// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs: which ones guests reach directly, and what the others do.
 *
 * Deny by default: the permission map starts with all bits set, and passthrough[] lists the MSRs
 * that hardware switches itself (VMLOAD, VMSAVE and the VMCB). All others exit; one that is not
 * known in guest/msr.c is #GP. A VM with a filter (KVM_X86_SET_MSR_FILTER) has a map of its own, so
 * what userspace denies exits even where hardware would serve it.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user-return-notifier.h>
#include <asm/msr-index.h>

#include "svm/io.h"

/* 65,536 ports and three bits of overhang (APM vol. 2, 15.10.1) */
#define IOPM_SIZE	(3 * PAGE_SIZE)
#define MSRPM_SIZE	(2 * PAGE_SIZE)	/* APM vol. 2, 15.11 */
#define MAX_FILTERED	(8 * 0x600)	/* MSRs of one range */

static void *iopm, *msrpm;		/* constant after load, shared by all vCPUs */

static const u32 passthrough[] = {
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

/* --- the filter --- */

/* Constant once it is in vm->msr_filter. */
struct msr_filter {
	void *map;		/* MSR permission map for the VMCB */
	bool default_allow;
	unsigned int nr;
	struct kvm_msr_filter_range range[KVM_MSR_FILTER_MAX_RANGES];	/* bitmaps of our own */
};

void msr_filter_free(struct msr_filter *f)
{
	unsigned int i;

	if (!f)
		return;
	for (i = 0; i < f->nr; i++)
		kfree(f->range[i].bitmap);
	if (f->map)
		free_pages_exact(f->map, MSRPM_SIZE);
	kfree(f);
}

/*
 * May the guest do @op, KVM_MSR_FILTER_READ or WRITE? As the first range says that covers the MSR,
 * else the default. Those of the x2APIC are never filtered.
 */
static noinline bool filter_allows(const struct msr_filter *f, u32 index, u32 op)
{
	unsigned int i;

	if (index - 0x800 <= 0xff)
		return true;
	for (i = 0; i < f->nr; i++) {
		const struct kvm_msr_filter_range *r = &f->range[i];
		u32 bit = index - r->base;

		if (bit >= r->nmsrs || !(r->flags & op))
			continue;
		bit = array_index_nospec(bit, r->nmsrs);
		return r->bitmap[bit / 8] & BIT(bit % 8);
	}
	return f->default_allow;
}

/* --- permission maps --- */

/* Two bits an MSR, read then write; three ranges of 8,192 MSRs, 2 KiB each. */
static void msrpm_pass(void *map, u32 msr, const struct msr_filter *f)
{
	static const u32 base[] = { 0, 0xc0000000, 0xc0010000 };
	unsigned int i, bit;

	for (i = 0; i < ARRAY_SIZE(base); i++) {
		if (msr - base[i] >= 0x2000)
			continue;
		bit = i * 0x4000 + 2 * (msr - base[i]);
		if (!f || filter_allows(f, msr, KVM_MSR_FILTER_READ))
			__clear_bit(bit, map);
		if (!f || filter_allows(f, msr, KVM_MSR_FILTER_WRITE))
			__clear_bit(bit + 1, map);
	}
}

/* Makes a permission map; @f is the VM's filter or NULL. */
static void map_fill(void *map, const struct msr_filter *f)
{
	unsigned int i;

	memset(map, 0xff, MSRPM_SIZE);
	for (i = 0; i < ARRAY_SIZE(passthrough); i++)
		msrpm_pass(map, passthrough[i], f);
	if (svm_caps.v_spec_ctrl)
		msrpm_pass(map, MSR_IA32_SPEC_CTRL, f);
}

static int copy_range(struct msr_filter *f, const struct kvm_msr_filter_range *u)
{
	struct kvm_msr_filter_range *r = &f->range[f->nr];

	if (!u->nmsrs)
		return 0;
	if (!u->flags || u->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
	    u->nmsrs > MAX_FILTERED)
		return -EINVAL;
	*r = *u;
	r->bitmap = memdup_user((const void __force __user *)u->bitmap, DIV_ROUND_UP(u->nmsrs, 8));
	if (IS_ERR(r->bitmap))
		return PTR_ERR(r->bitmap);
	f->nr++;
	return 0;
}

static struct msr_filter *filter_make(const struct kvm_msr_filter *u)
{
	struct msr_filter *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	int r = -ENOMEM;
	unsigned int i;

	if (!f)
		return ERR_PTR(-ENOMEM);
	f->default_allow = !(u->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	f->map = alloc_pages_exact(MSRPM_SIZE, GFP_KERNEL_ACCOUNT);
	if (!f->map)
		goto err;
	for (i = 0; i < ARRAY_SIZE(u->ranges); i++) {
		r = copy_range(f, &u->ranges[i]);
		if (r)
			goto err;
	}
	map_fill(f->map, f);
	return f;

err:
	msr_filter_free(f);
	return ERR_PTR(r);
}

/** svm_set_msr_filter() - KVM_X86_SET_MSR_FILTER; no vCPU uses the old one any more. Sleeps. */
int svm_set_msr_filter(struct vm *vm, const struct kvm_msr_filter *u)
{
	struct msr_filter *f = NULL, *old;
	bool empty = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(u->ranges); i++)
		empty = empty && !u->ranges[i].nmsrs;
	if (u->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY ||
	    (empty && (u->flags & KVM_MSR_FILTER_DEFAULT_DENY)))
		return -EINVAL;
	if (!empty) {
		f = filter_make(u);
		if (IS_ERR(f))
			return PTR_ERR(f);
	}
	old = rcu_replace_pointer(vm->msr_filter, f, lockdep_is_held(&vm->lock));
	vm_request(vm, REQ_MSR_MAP);
	/* Nobody is in the guest with the old map after this, or goes there. */
	spin_lock(&vm->mem.npt_lock);
	vm->mem.ops->flush(&vm->mem);
	spin_unlock(&vm->mem.npt_lock);
	mem_synchronize(&vm->mem);
	msr_filter_free(old);
	return 0;
}

int msr_maps_init(void)
{
	iopm = alloc_pages_exact(IOPM_SIZE + MSRPM_SIZE, GFP_KERNEL);
	if (!iopm)
		return -ENOMEM;
	msrpm = iopm + IOPM_SIZE;
	memset(iopm, 0xff, IOPM_SIZE);
	map_fill(msrpm, NULL);
	return 0;
}

void msr_maps_exit(void)
{
	if (iopm)
		free_pages_exact(iopm, IOPM_SIZE + MSRPM_SIZE);
}

/* The permission maps: the VM's own, where it has a filter. */
void msr_setup_vmcb(struct vcpu *v)
{
	struct srcu_struct *srcu = &v->vm->mem.srcu;
	int idx = srcu_read_lock(srcu);
	struct msr_filter *f = srcu_dereference(v->vm->msr_filter, srcu);

	v->vmcb->control.iopm_base_pa = __sme_set(virt_to_phys(iopm));
	v->vmcb->control.msrpm_base_pa = __sme_set(virt_to_phys(f ? f->map : msrpm));
	srcu_read_unlock(srcu, idx);
	vmcb_dirty(v, CLEAN_PERM_MAPS);
}

/* --- the exit --- */

/* What the guest may not do: userspace's to decide where it asked for that, else #GP. */
static noinline enum vcpu_next msr_refused(struct vcpu *v, bool write, int error, u64 next_rip)
{
	u32 reason = error == -EPERM ? KVM_MSR_EXIT_REASON_FILTER :
		     error == -ENOENT ? KVM_MSR_EXIT_REASON_UNKNOWN : KVM_MSR_EXIT_REASON_INVAL;
	struct kvm_run *run = v->run;

	if (!(READ_ONCE(v->vm->msr_exits) & reason))
		return raise_gp(v);
	memset(&run->msr, 0, sizeof(run->msr));
	run->msr.reason = reason;
	run->msr.index = v->regs[REG_RCX];
	if (write)
		run->msr.data = reg_read_edx_eax(v);
	v->io->in = !write;
	io_wait(v, IO_MSR, next_rip);
	return vcpu_exit(v, write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR);
}

/* Userspace has answered. */
enum vcpu_next msr_complete(struct vcpu *v)
{
	if (READ_ONCE(v->run->msr.error))
		return raise_gp(v);
	if (v->io->in)
		reg_write_edx_eax(v, READ_ONCE(v->run->msr.data));
	insn_advance(v, v->io->next_rip);
	return NEXT_GUEST;
}

/* EXITINFO1 is 0 for RDMSR, 1 for WRMSR (APM vol. 2, 15.11). */
enum vcpu_next exit_msr(struct vcpu *v)
{
	const struct msr_filter *f = srcu_dereference_check(v->vm->msr_filter, &v->vm->mem.srcu,
							    rcu_read_lock_sched_held());
	bool write = v->vmcb->control.exit_info_1;
	u32 index = v->regs[REG_RCX];
	enum vcpu_next next;
	u64 data, next_rip;
	int r;

	/* The wall clock's page is written at once. */
	if (write && !v->can_sleep &&
	    (index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW))
		return NEXT_SLEEP;
	/* Length first: a write must not happen twice because the code page needs sleeping for. */
	next = insn_end(v, write ? 0x300f : 0x320f, 2, &next_rip);
	if (next != NEXT_GUEST)
		return next;
	if (unlikely(f) &&
	    !filter_allows(f, index, write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ)) {
		r = -EPERM;
	} else if (write) {
		r = guest_set_msr(v, index, reg_read_edx_eax(v), false);
	} else {
		r = guest_get_msr(v, index, &data, false);
		if (!r)
			reg_write_edx_eax(v, data);
	}
	if (r)
		return msr_refused(v, write, r, next_rip);
	insn_advance(v, next_rip);
	return NEXT_GUEST;
}

/* --- TSC_AUX: swapped once and put back at the return to userspace --- */

struct tsc_aux_cpu {
	struct user_return_notifier urn;
	bool registered;
	u64 host, current_value;
};
static DEFINE_PER_CPU(struct tsc_aux_cpu, tsc_aux_cpu);

/* Puts the host's value back: it is due, or SVM goes off on this CPU. Interrupts are off. */
void tsc_aux_cpu_exit(void)
{
	struct tsc_aux_cpu *t = this_cpu_ptr(&tsc_aux_cpu);

	if (!t->registered)
		return;
	t->registered = false;
	user_return_notifier_unregister(&t->urn);
	wrmsrq(MSR_TSC_AUX, t->host);
	t->current_value = t->host;
}

static void tsc_aux_user_return(struct user_return_notifier *urn)
{
	unsigned long flags;

	local_irq_save(flags);
	tsc_aux_cpu_exit();
	local_irq_restore(flags);
}

/*
 * Loads the guest's TSC_AUX for a stay; preemption is off. Even where CPUID does not offer RDTSCP:
 * neither the host's value nor another guest's is to be read.
 */
void tsc_aux_enter(struct vcpu *v)
{
	struct tsc_aux_cpu *t = this_cpu_ptr(&tsc_aux_cpu);
	unsigned long flags;

	if (likely(t->current_value == v->tsc_aux) || !boot_cpu_has(X86_FEATURE_RDTSCP))
		return;
	local_irq_save(flags);
	if (!t->registered) {
		t->urn.on_user_return = tsc_aux_user_return;
		user_return_notifier_register(&t->urn);
		t->registered = true;
	}
	wrmsrq(MSR_TSC_AUX, v->tsc_aux);
	t->current_value = v->tsc_aux;
	local_irq_restore(flags);
}

/* This CPU gets SVM: notes the host's value, which does not change. Interrupts are off. */
void tsc_aux_cpu_init(void)
{
	struct tsc_aux_cpu *t = this_cpu_ptr(&tsc_aux_cpu);

	if (!boot_cpu_has(X86_FEATURE_RDTSCP))
		return;
	rdmsrq(MSR_TSC_AUX, t->host);
	t->current_value = t->host;
}
