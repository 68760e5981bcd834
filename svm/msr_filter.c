// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_X86_SET_MSR_FILTER: which MSRs userspace denies its guest. A VM with a filter has a
 * permission map of its own, so what is denied exits even where hardware would serve it.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "svm/exit.h"

#define MAX_MSRS	(8 * 0x600)	/* bits of one range */

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
bool msr_filter_allows(const struct msr_filter *f, u32 index, u32 op)
{
	unsigned int i;

	if (index - 0x800 <= 0xff)
		return true;
	for (i = 0; i < f->nr; i++) {
		const struct msr_range *r = &f->range[i];
		u32 bit = index - r->base;

		if (bit >= r->nmsrs || !(r->flags & op))
			continue;
		bit = array_index_nospec(bit, r->nmsrs);
		return r->bitmap[bit / 8] & BIT(bit % 8);
	}
	return f->default_allow;
}

static int copy_range(struct msr_filter *f, const struct kvm_msr_filter_range *u)
{
	struct msr_range *r = &f->range[f->nr];

	if (!u->nmsrs)
		return 0;
	if (!u->flags || u->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
	    u->nmsrs > MAX_MSRS)
		return -EINVAL;
	r->bitmap = memdup_user((const void __force __user *)u->bitmap, DIV_ROUND_UP(u->nmsrs, 8));
	if (IS_ERR(r->bitmap))
		return PTR_ERR(r->bitmap);
	r->base = u->base;
	r->nmsrs = u->nmsrs;
	r->flags = u->flags;
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
	msr_map_fill(f->map, f);
	return f;

err:
	msr_filter_free(f);
	return ERR_PTR(r);
}

/**
 * svm_set_msr_filter() - KVM_X86_SET_MSR_FILTER. When it returns, no vCPU uses the old one. Sleeps.
 * @vm: the VM, locked
 * @u: the filter; without ranges it removes the one there is
 *
 * Return: 0, -EINVAL (unknown flags, a range that is too long or has no flags, DEFAULT_DENY without
 * ranges), -EFAULT, -ENOMEM.
 */
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
	synchronize_srcu_expedited(&vm->mem.srcu);
	msr_filter_free(old);
	return 0;
}
