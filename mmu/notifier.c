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

/* The slots of which a part lies in the host range [start, end). */
#define for_each_overlap(node, mem, start, end)						\
	for (node = interval_tree_iter_first(&(mem)->slots_by_hva, start, (end) - 1); node;	\
	     node = interval_tree_iter_next(node, start, (end) - 1))

/* That part of a slot, as frames [*gfn, *gfn_end). */
static void overlap(const struct interval_tree_node *node, unsigned long start, unsigned long end,
		    u64 *gfn, u64 *gfn_end)
{
	const struct memslot *slot = container_of(node, struct memslot, by_hva);

	*gfn = slot->base_gfn + ((max(start, node->start) - node->start) >> PAGE_SHIFT);
	*gfn_end = slot->base_gfn + ((min(end - 1, node->last) - node->start) >> PAGE_SHIFT) + 1;
}

/*
 * Announces the range first, then removes what is mapped of it. Slots that appear later cannot be
 * mapped from the range before invalidate_range_end(); slots that have gone were zapped in the same
 * critical section that replaced the array.
 */
static int invalidate_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct memory *mem = to_memory(mn);
	struct interval_tree_node *node;
	bool flush = false;
	LIST_HEAD(free);
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
	for_each_overlap(node, mem, range->start, range->end) {
		overlap(node, range->start, range->end, &gfn, &end);
		flush |= npt_zap(mem, gfn, end, &free);
	}
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
	struct interval_tree_node *node;
	bool young = false;
	u64 gfn, last;

	spin_lock(&mem->npt_lock);
	for_each_overlap(node, mem, start, end) {
		overlap(node, start, end, &gfn, &last);
		young |= npt_young(mem, gfn, last, clear);
	}
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
