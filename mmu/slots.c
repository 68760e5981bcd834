// SPDX-License-Identifier: GPL-2.0
/*
 * Memory slots: which guest frames are backed by which addresses of the owner.
 *
 * The slots are a sorted array that is never changed, only replaced. A change publishes the new
 * array, removes the affected translations and flushes in one critical section of npt_lock; faults
 * look their slot up again inside that lock, so none can map from a slot that is gone. The old
 * array is freed when its readers are through.
 */
#include <linux/bitmap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/processor.h>
#include "mmu/npt.h"

/* Where the first slot is that ends behind @gfn. */
static unsigned int slots_find(const struct memslots *slots, u64 gfn)
{
	unsigned int lo = 0, hi = slots->nr;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (slots->slot[mid]->base_gfn + slots->slot[mid]->npages <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The part of mem_slot() that is not inline. */
struct memslot *mem_slot_search(struct memory *mem, const struct memslots *slots, u64 gfn)
{
	unsigned int i = slots_find(slots, gfn);
	struct memslot *slot;

	if (i == slots->nr)
		return NULL;
	slot = slots->slot[i];
	if (gfn < slot->base_gfn)
		return NULL;
	WRITE_ONCE(mem->last_slot, i);
	return slot;
}

/**
 * mem_synchronize() - waits until nobody reads what was replaced: slots, event lists, MSR filter
 * @mem: guest memory
 *
 * Readers hold the SRCU read lock, or are vCPUs in a stay, with preemption off. Those are in the
 * guest for as long as it likes, but not over the IPI of an expedited RCU grace period. Sleeps.
 */
void mem_synchronize(struct memory *mem)
{
	synchronize_srcu_expedited(&mem->srcu);
	synchronize_rcu_expedited();
}

/* @other: the slot that has taken over the dirty bitmap, if one has. */
static void slot_free(struct memslot *slot, const struct memslot *other)
{
	if (slot && !(other && other->dirty == slot->dirty))
		kvfree(slot->dirty);
	kfree(slot);
}

/* What can be said of a region without looking at the others. */
static bool region_valid(const struct memory *mem, const struct kvm_userspace_memory_region *r)
{
	/* What the nested table spans and the CPU has (CPUID 8000_0008h). */
	u64 limit = BIT_ULL(min_t(unsigned int, PAGE_SHIFT + 9 * mem->levels,
				  boot_cpu_data.x86_phys_bits));

	if (r->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return false;
	/* The upper half is the address space, of which there is one. */
	if (r->slot >= MEM_NR_SLOTS || r->memory_size >> PAGE_SHIFT > MEM_MAX_PAGES)
		return false;
	if (!PAGE_ALIGNED(r->guest_phys_addr | r->memory_size | r->userspace_addr))
		return false;
	if (r->guest_phys_addr > limit || r->memory_size > limit - r->guest_phys_addr)
		return false;
	/* Stricter than access_ok(), which on newer kernels only looks at the top bit; no tags. */
	return r->userspace_addr <= TASK_SIZE_MAX &&
	       r->memory_size <= TASK_SIZE_MAX - r->userspace_addr &&
	       access_ok((void __user *)(unsigned long)r->userspace_addr, r->memory_size);
}

/* A slot as @r wants it. Takes over the dirty bitmap of @old if both keep a log. */
static struct memslot *slot_alloc(const struct kvm_userspace_memory_region *r,
				  const struct memslot *old, u32 log_flags)
{
	struct memslot *slot = kzalloc(sizeof(*slot), GFP_KERNEL_ACCOUNT);

	if (!slot)
		return NULL;
	slot->base_gfn = r->guest_phys_addr >> PAGE_SHIFT;
	slot->npages = r->memory_size >> PAGE_SHIFT;
	slot->hva = r->userspace_addr;
	slot->by_hva.start = slot->hva;
	slot->by_hva.last = slot->hva + r->memory_size - 1;
	slot->flags = r->flags;
	if (!(r->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return slot;
	if (old && old->dirty) {
		slot->dirty = old->dirty;
		return slot;
	}
	slot->dirty = kvcalloc(BITS_TO_LONGS(slot->npages), sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!slot->dirty) {
		kfree(slot);
		return NULL;
	}
	if (log_flags & KVM_DIRTY_LOG_INITIALLY_SET)
		bitmap_set(slot->dirty, 0, slot->npages);
	return slot;
}

/*
 * The array @cur without @old and with @new, either of which may be NULL. -EEXIST: @new overlaps
 * another slot, -ENOMEM.
 */
static struct memslots *slots_replace(const struct memslots *cur, const struct memslot *old,
				      struct memslot *new)
{
	struct memslot **at;
	struct memslots *slots;

	slots = kvzalloc(struct_size(slots, slot, cur->nr + !!new), GFP_KERNEL_ACCOUNT);
	if (!slots)
		return ERR_PTR(-ENOMEM);
	slots->nr = cur->nr;
	memcpy(slots->slot, cur->slot, cur->nr * sizeof(*at));
	if (old) {
		at = &slots->slot[slots_find(slots, old->base_gfn)];
		slots->nr--;
		memmove(at, at + 1, (&slots->slot[slots->nr] - at) * sizeof(*at));
	}
	if (!new)
		return slots;
	at = &slots->slot[slots_find(slots, new->base_gfn)];
	if (at < &slots->slot[slots->nr] && (*at)->base_gfn < new->base_gfn + new->npages) {
		kvfree(slots);
		return ERR_PTR(-EEXIST);
	}
	memmove(at + 1, at, (&slots->slot[slots->nr] - at) * sizeof(*at));
	*at = new;
	slots->nr++;
	return slots;
}

/*
 * Makes @slots the current ones in place of @cur, with @new and without @old, of which it removes
 * what was mapped.
 */
static void slots_publish(struct memory *mem, struct memslots *cur, struct memslots *slots,
			  struct memslot *old, struct memslot *new)
{
	LIST_HEAD(free);

	lockdep_assert_held(&mem->slots_lock);
	spin_lock(&mem->npt_lock);
	rcu_assign_pointer(mem->slots, slots);
	WRITE_ONCE(mem->nr_slots, slots->nr);
	if (new)
		interval_tree_insert(&new->by_hva, &mem->slots_by_hva);
	if (old) {
		interval_tree_remove(&old->by_hva, &mem->slots_by_hva);
		if (npt_zap(mem, old->base_gfn, old->base_gfn + old->npages, &free))
			mem->ops->flush(mem);
	}
	spin_unlock(&mem->npt_lock);

	npt_free(mem, &free, true);
	mem_synchronize(mem);
	kvfree(cur);
}

static int set_region(struct memory *mem, const struct kvm_userspace_memory_region *r)
{
	struct memslots *cur = mem_slots(mem), *slots;
	struct memslot *old = xa_load(&mem->slot_ids, r->slot), *new = NULL;
	int rc;

	if (!r->memory_size && !old)
		return -EINVAL;
	if (r->memory_size && old) {
		if (old->npages != r->memory_size >> PAGE_SHIFT || old->hva != r->userspace_addr ||
		    ((old->flags ^ r->flags) & KVM_MEM_READONLY))
			return -EINVAL;	/* what may not be changed */
		if (old->flags == r->flags && old->base_gfn == r->guest_phys_addr >> PAGE_SHIFT)
			return 0;
	}
	if (r->memory_size) {
		new = slot_alloc(r, old, mem->log_flags);
		if (!new)
			return -ENOMEM;
	}
	slots = slots_replace(cur, old, new);
	rc = PTR_ERR_OR_ZERO(slots);
	if (rc)
		goto fail;
	rc = xa_err(xa_store(&mem->slot_ids, r->slot, new, GFP_KERNEL_ACCOUNT));
	if (rc) {
		kvfree(slots);
		goto fail;
	}

	slots_publish(mem, cur, slots, old, new);
	slot_free(old, new);	/* readers are through */
	return 0;

fail:
	slot_free(new, old);
	return rc;
}

/**
 * mem_set_region() - KVM_SET_USER_MEMORY_REGION: creates, moves, reflags or deletes a slot
 * @mem: guest memory
 * @r: the region
 *
 * Return: 0, -EINVAL for a region that is malformed, unknown (deletion) or of another size, address
 * or read-only flag than the slot it changes, -EEXIST where it overlaps another slot, -ENOMEM.
 */
int mem_set_region(struct memory *mem, const struct kvm_userspace_memory_region *r)
{
	int rc;

	if (!region_valid(mem, r))
		return -EINVAL;
	mutex_lock(&mem->slots_lock);
	rc = set_region(mem, r);
	mutex_unlock(&mem->slots_lock);
	return rc;
}

/** memory_init() - zeroed memory gets its owner, the current process. 0, -ENOMEM or -EINTR. */
int memory_init(struct memory *mem, const struct memory_ops *ops)
{
	struct memslots *slots;
	int rc;

	mem->ops = ops;
	mem->mm = current->mm;
	mutex_init(&mem->slots_lock);
	xa_init(&mem->slot_ids);
	slots = kvzalloc(sizeof(*slots), GFP_KERNEL_ACCOUNT);
	if (!slots)
		return -ENOMEM;
	RCU_INIT_POINTER(mem->slots, slots);
	rc = init_srcu_struct(&mem->srcu);
	if (rc)
		goto free_slots;
	rc = npt_init(mem);
	if (rc)
		goto free_srcu;
	mem->notifier.ops = &mem_notifier_ops;
	rc = mmu_notifier_register(&mem->notifier, mem->mm);	/* keeps the mm_struct */
	if (!rc)
		return 0;

	npt_destroy(mem);
free_srcu:
	cleanup_srcu_struct(&mem->srcu);
free_slots:
	kvfree(slots);
	return rc;
}

/** memory_destroy() - when no vCPU uses it; from any process, as the owner may have exited */
void memory_destroy(struct memory *mem)
{
	struct memslots *slots;
	unsigned int i;

	mmu_notifier_unregister(&mem->notifier, mem->mm);
	npt_destroy(mem);
	slots = rcu_dereference_protected(mem->slots, true);
	for (i = 0; i < slots->nr; i++)
		slot_free(slots->slot[i], NULL);
	kvfree(slots);
	xa_destroy(&mem->slot_ids);
	RCU_INIT_POINTER(mem->slots, NULL);
	cleanup_srcu_struct(&mem->srcu);
	mutex_destroy(&mem->slots_lock);
}
