// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps the nested page table in step with the owner's page tables
 * (Documentation/mm/mmu_notifier.rst of the kernel). The callbacks may come under the host's
 * page-table locks, and never sleep: the work under npt_lock is bounded (see npt_zap_table()), and
 * tables are freed after it is released.
 */
#include "mmu/npt.h"

/* The return type of the young callbacks differs between kernels. */
#define young_t typeof(((struct mmu_notifier_ops *)NULL)->clear_young(NULL, NULL, 0, 0))

#define to_memory(mn)	container_of(mn, struct memory, notifier)

/* The part of a slot that lies in the host range [start, end), as frames [*gfn, *gfn_end). */
static bool slot_overlap(const struct memslot *slot, unsigned long start, unsigned long end,
			 u64 *gfn, u64 *gfn_end)
{
	unsigned long from = max(start, slot->hva);
	unsigned long to = min(end, slot->hva + (slot->npages << PAGE_SHIFT));

	if (from >= to)
		return false;
	*gfn = slot->base_gfn + ((from - slot->hva) >> PAGE_SHIFT);
	*gfn_end = slot->base_gfn + ((to - 1 - slot->hva) >> PAGE_SHIFT) + 1;
	return true;
}

/*
 * Announces the range first, then removes what is mapped of it. Slots that appear later cannot be
 * mapped from the range before invalidate_range_end(); slots that have gone were zapped in the same
 * critical section that replaced the array.
 */
static int invalidate_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct memory *mem = to_memory(mn);
	struct memslots *slots;
	bool flush = false;
	LIST_HEAD(free);
	unsigned int i;
	u64 gfn, end;

	spin_lock(&mem->npt_lock);
	if (!mem->invalidate_in_progress++) {
		mem->invalidate_start = range->start;
		mem->invalidate_end = range->end;
	} else {
		/* The union of all, until the last one ends. */
		mem->invalidate_start = min(mem->invalidate_start, range->start);
		mem->invalidate_end = max(mem->invalidate_end, range->end);
	}
	slots = mem_slots(mem);
	for (i = 0; i < slots->nr; i++)
		if (slot_overlap(slots->slot[i], range->start, range->end, &gfn, &end))
			flush |= npt_zap(mem, gfn, end, &free);
	if (flush)
		mem->ops->flush(mem);
	spin_unlock(&mem->npt_lock);

	npt_free(mem, &free, mmu_notifier_range_blockable(range));
	return 0;
}

static void invalidate_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct memory *mem = to_memory(mn);

	spin_lock(&mem->npt_lock);
	mem->invalidate_in_progress--;
	spin_unlock(&mem->npt_lock);
}

static bool range_young(struct mmu_notifier *mn, unsigned long start, unsigned long end, bool clear)
{
	struct memory *mem = to_memory(mn);
	struct memslots *slots;
	bool young = false;
	unsigned int i;
	u64 gfn, last;

	spin_lock(&mem->npt_lock);
	slots = mem_slots(mem);
	for (i = 0; i < slots->nr; i++)
		if (slot_overlap(slots->slot[i], start, end, &gfn, &last))
			young |= npt_young(mem, gfn, last, clear);
	spin_unlock(&mem->npt_lock);
	return young;
}

/*
 * Also for clear_flush_young, without the flush, as in the host's own aging on x86: a stale TLB
 * entry only delays the next A bit, and kicking every vCPU would cost more than that is worth.
 */
static young_t clear_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start,
			   unsigned long end)
{
	return range_young(mn, start, end, true);
}

static young_t test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	return range_young(mn, address, address + PAGE_SIZE, false);
}

/*
 * The owner's address space goes. Nobody can fault anything in again: npt_fault() wants to run in
 * the owner, and there is none left.
 */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	npt_zap_all(to_memory(mn));
}

const struct mmu_notifier_ops mem_notifier_ops = {
	.invalidate_range_start	= invalidate_range_start,
	.invalidate_range_end	= invalidate_range_end,
	.clear_flush_young	= clear_young,
	.clear_young		= clear_young,
	.test_young		= test_young,
	.release		= release,
};
