// SPDX-License-Identifier: GPL-2.0
/*
 * Nested page table and nested page faults (APM vol. 2, 15.25).
 *
 * A leaf is a copy of the owner's own page-table entry, made under npt_lock while no invalidation
 * covers the address. Whoever takes something away from a host entry (unmap, copy-on-write, KSM,
 * migration, write-protection, cleaning the dirty bit, splitting a huge page) brackets that with
 * invalidate_range_start/end, and start needs npt_lock. So either start comes before the copy,
 * which is then refused until end, or after it, and then start finds the leaf and removes it. A
 * page can therefore not be freed or shared while the guest can reach it, and neither a page
 * reference nor a sequence count is needed. Changes of the slots follow the same pattern.
 *
 * Dirty: a leaf is only made writable when the host entry is writable *and* dirty. Cleaning a host
 * entry is notified, so while a writable leaf exists the page counts as dirty anyway: the D bit of
 * a leaf is set in advance to spare the CPU the update. Accessed: reclaim asks about it through the
 * notifier's young calls. An A bit that goes with a zapped leaf costs accuracy of aging only.
 */
#include <linux/irqflags.h>
#include <linux/mem_encrypt.h>
#include <linux/mmzone.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include "mmu/npt.h"

#define NPT_TABLE_BITS	(PT_P | PT_RW | PT_US | PT_A)
#define NPT_AROUND	64		/* pages of a fault-around window, aligned; a power of 2 */
#define NPT_SPARES_LOW	3		/* a fault needs at most levels - 1 = 4 new tables */

/* What a host entry must look like to be copied, and what of it is tested. */
#define HOST_PKEY	(_PAGE_PKEY_BIT0 | _PAGE_PKEY_BIT1 | _PAGE_PKEY_BIT2 | _PAGE_PKEY_BIT3)
#define HOST_TEST	(_PAGE_PRESENT | _PAGE_USER | _PAGE_SPECIAL | HOST_PKEY)
#define HOST_GOOD	(_PAGE_PRESENT | _PAGE_USER)
#define HOST_RW		(_PAGE_RW | _PAGE_DIRTY)
#define HOST_COPY_4K	(PT_P | PT_PWT | PT_PCD | PT_PAT_4K | PT_ADDR)

/* One leaf of the host's page tables. */
struct host_leaf {
	u64 val;
	int level;
	const u64 *table;	/* the page table that holds it; IRQs off only */
};

static u64 *npt_table(u64 entry)
{
	return __va(__sme_clr(entry & PT_ADDR));
}

static bool npt_is_table(u64 entry, int level)
{
	return level > NPT_LEVEL_4K && (entry & (PT_P | PT_PS)) == PT_P;
}

static unsigned int npt_index(u64 gfn, int level)
{
	return (gfn >> (9 * (level - 1))) & (PTRS_PER_PTE - 1);
}

/* --- Removing --- */

/*
 * Tables that lie inside the range whole are unlinked unread, so the work under the lock is at most
 * two partial tables a level, however large the range is. The CPU may still walk them until the
 * next flush. Recursion: one step a level.
 */
static bool npt_zap_table(u64 *table, int level, u64 gfn, u64 end, struct list_head *free)
{
	bool hit = false;
	u64 next;

	for (; gfn < end; gfn = next) {
		u64 span = npt_pages(level), base = gfn & ~(span - 1);
		u64 *e = &table[npt_index(gfn, level)];

		next = min(base + span, end);
		if (!*e)
			continue;
		if (!npt_is_table(*e, level)) {
			WRITE_ONCE(*e, 0);
			hit = true;
		} else if (base == gfn && base + span == next) {
			struct page *page = virt_to_page(npt_table(*e));

			WRITE_ONCE(*e, 0);
			set_page_private(page, level - 1);
			list_add(&page->lru, free);
			hit = true;
		} else {
			hit |= npt_zap_table(npt_table(*e), level - 1, gfn, next, free);
		}
	}
	return hit;
}

bool npt_zap(struct memory *mem, u64 gfn, u64 end, struct list_head *free)
{
	lockdep_assert_held(&mem->npt_lock);
	return npt_zap_table(mem->root, mem->levels, gfn,
			     min(end, npt_pages(mem->levels + 1)), free);
}

static void npt_free_tree(struct memory *mem, u64 *table, int level, bool may_sleep)
{
	unsigned int i;

	if (level > NPT_LEVEL_4K) {
		for (i = 0; i < PTRS_PER_PTE; i++)
			if (npt_is_table(table[i], level))
				npt_free_tree(mem, npt_table(table[i]), level - 1, may_sleep);
		if (may_sleep)
			cond_resched();
	}
	free_page((unsigned long)table);
	atomic_dec(&mem->nr_tables);
}

void npt_free(struct memory *mem, struct list_head *free, bool may_sleep)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, free, lru) {
		int level = page_private(page);

		list_del(&page->lru);
		set_page_private(page, 0);
		npt_free_tree(mem, page_address(page), level, may_sleep);
	}
}

void npt_zap_all(struct memory *mem)
{
	LIST_HEAD(free);

	spin_lock(&mem->npt_lock);
	npt_zap(mem, 0, ~0ULL, &free);
	mem->ops->flush(mem);
	spin_unlock(&mem->npt_lock);
	npt_free(mem, &free, true);
}

/* The entry that ends the walk to gfn: a leaf, or an empty entry. @level: where. */
static u64 *npt_lookup(struct memory *mem, u64 gfn, int *level)
{
	u64 *table = mem->root, *e;
	int l = mem->levels;

	for (;;) {
		e = &table[npt_index(gfn, l)];
		if (!npt_is_table(*e, l))
			break;
		table = npt_table(*e);
		l--;
	}
	*level = l;
	return e;
}

bool npt_write_protect(struct memory *mem, u64 gfn)
{
	int level;
	u64 *e;

	lockdep_assert_held(&mem->npt_lock);
	e = npt_lookup(mem, gfn, &level);
	/* The CPU may set A and D meanwhile, by a locked operation; so ours is one too. */
	return test_and_clear_bit(ilog2(PT_RW), (unsigned long *)e);
}

bool npt_young(struct memory *mem, u64 gfn, u64 end, bool clear)
{
	bool young = false;
	int level;
	u64 *e;

	lockdep_assert_held(&mem->npt_lock);
	for (; gfn < end; gfn = (gfn | (npt_pages(level) - 1)) + 1) {
		e = npt_lookup(mem, gfn, &level);
		if (!(*e & PT_A))
			continue;
		young = true;
		if (!clear)
			break;
		clear_bit(ilog2(PT_A), (unsigned long *)e);
	}
	return young;
}

/* --- Tables in reserve --- */

/* Where the tables would grow beyond the limit, all go. Two that see it at once do no harm. */
static void npt_keep_limit(struct memory *mem)
{
	unsigned int max = READ_ONCE(mem->max_tables);

	if (max && atomic_read(&mem->nr_tables) + NPT_SPARES > max)
		npt_zap_all(mem);
}

/** mem_limit_tables() - KVM_SET_NR_MMU_PAGES: -EINVAL below MEM_MIN_TABLES. Sleeps. */
int mem_limit_tables(struct memory *mem, u64 tables)
{
	if (tables < MEM_MIN_TABLES)
		return -EINVAL;
	WRITE_ONCE(mem->max_tables, min_t(u64, tables, UINT_MAX));
	npt_keep_limit(mem);
	return 0;
}

/* Fills the reserve of zeroed tables, which npt_lock must not be held for: 0 or -ENOMEM. */
static int npt_top_up(struct memory *mem)
{
	u64 *page;

	npt_keep_limit(mem);
	while (READ_ONCE(mem->nr_spare) < NPT_SPARES) {
		page = (u64 *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!page)
			return -ENOMEM;
		spin_lock(&mem->npt_lock);
		if (mem->nr_spare < NPT_SPARES) {
			mem->spare[mem->nr_spare++] = page;
			page = NULL;
		}
		spin_unlock(&mem->npt_lock);
		free_page((unsigned long)page);	/* NULL, or another vCPU was first */
	}
	return 0;
}

/* --- Mapping --- */

/*
 * Finds the leaf that maps hva in the owner's page tables, which have as many levels as the nested
 * ones. Interrupts are off, which holds back the freeing of page tables (it waits for an IPI or an
 * RCU grace period, like for get_user_pages_fast()). False where nothing is present.
 */
static bool host_walk(const struct memory *mem, unsigned long hva, struct host_leaf *h)
{
	const u64 *table = (const u64 *)mem->mm->pgd;
	int level = mem->levels;
	u64 val;

	for (;;) {
		val = READ_ONCE(table[npt_index(hva >> PAGE_SHIFT, level)]);
		if (!(val & _PAGE_PRESENT))
			return false;
		if (level == NPT_LEVEL_4K || (val & _PAGE_PSE))
			break;
		table = npt_table(val);
		level--;
	}
	*h = (struct host_leaf) { .val = val, .level = level, .table = table };
	return true;
}

static bool host_is_zero_page(const struct host_leaf *h, bool faulted)
{
	u64 pfn = __sme_clr(h->val & PT_ADDR) >> PAGE_SHIFT;

	if (h->level == NPT_LEVEL_4K)
		return is_zero_pfn(pfn);
	/*
	 * Newer kernels mark the huge zero page special too. It cannot be told by its number, but
	 * the host has just checked that this is no mapping of a device.
	 */
	return faulted && !(h->val & _PAGE_RW);
}

/*
 * May this leaf be given to the guest? 0, -ENOENT: not before the host has faulted it in, -EFAULT:
 * it is not memory with a struct page of the usual kind (device memory; DAX is refused as well).
 * @faulted: the host has faulted it in just now, and has checked its protection key and its VMA.
 */
static int host_check(const struct host_leaf *h, bool write, bool faulted)
{
	if (unlikely((h->val & HOST_TEST) != HOST_GOOD)) {
		if (!(h->val & _PAGE_USER))
			return -EFAULT;
		/* The shared zero pages are marked special, and stay while they are mapped. */
		if ((h->val & _PAGE_SPECIAL) && !host_is_zero_page(h, faulted))
			return faulted ? -EFAULT : -ENOENT;
		if ((h->val & HOST_PKEY) && !faulted)
			return -ENOENT;
	}
	if (unlikely(h->level != NPT_LEVEL_4K)) {
		/* Older kernels have no special mark for huge mappings of devices. */
		u64 pfn = __sme_clr(h->val & PT_ADDR & ~PT_PAT_LARGE) >> PAGE_SHIFT;

		if (!pfn_valid(pfn) || PageReserved(pfn_to_page(pfn)))
			return -EFAULT;
	}
	return !write || (h->val & HOST_RW) == HOST_RW ? 0 : -ENOENT;
}

/*
 * The leaf of @level for hva, read-only and not accessed. The memory type comes with it: nested
 * entries are read with the host's PAT (APM vol. 2, 15.25.8), like the entry this was copied from.
 */
static u64 npt_leaf(const struct host_leaf *h, unsigned long hva, int level)
{
	u64 e, offset;

	if (h->level == NPT_LEVEL_4K)
		return (h->val & HOST_COPY_4K) | PT_US;

	offset = hva & ((npt_pages(h->level) << PAGE_SHIFT) - 1);
	offset &= ~((npt_pages(level) << PAGE_SHIFT) - 1);
	e = (h->val & (PT_P | PT_PWT | PT_PCD | (PT_ADDR & ~PT_PAT_LARGE))) | PT_US;
	e += offset;
	if (level > NPT_LEVEL_4K)
		return e | PT_PS | (h->val & PT_PAT_LARGE);
	return e | (h->val & PT_PAT_LARGE ? PT_PAT_4K : 0);
}

/* The largest leaf that host mapping, slot bounds, alignment and dirty log permit for gfn. */
static int npt_leaf_level(const struct memslot *slot, u64 gfn, int host_level)
{
	u64 hfn = slot->hva >> PAGE_SHIFT;
	int level;

	if (slot->dirty)
		return NPT_LEVEL_4K;
	for (level = host_level; level > NPT_LEVEL_4K; level--) {
		u64 mask = npt_pages(level) - 1, base = gfn & ~mask;

		if (!((slot->base_gfn ^ hfn) & mask) && base >= slot->base_gfn &&
		    base + mask < slot->base_gfn + slot->npages)
			break;
	}
	return level;
}

/*
 * Walks to the entry for gfn in a table of @level, adding tables from the reserve. ERR_PTR(-EBUSY)
 * where a larger leaf is in the way, ERR_PTR(-ENOMEM) where the reserve is empty.
 */
static u64 *npt_walk(struct memory *mem, u64 gfn, int level)
{
	u64 *table = mem->root;
	int l;

	for (l = mem->levels; l > level; l--) {
		u64 *e = &table[npt_index(gfn, l)];

		if (unlikely(!*e)) {
			if (!mem->nr_spare)
				return ERR_PTR(-ENOMEM);
			table = mem->spare[--mem->nr_spare];
			atomic_inc(&mem->nr_tables);
			WRITE_ONCE(*e, __sme_set(__pa(table)) | NPT_TABLE_BITS);
			continue;
		}
		if (unlikely(!npt_is_table(*e, l)))
			return ERR_PTR(-EBUSY);
		table = npt_table(*e);
	}
	return &table[npt_index(gfn, level)];
}

/*
 * Maps the neighbours of gfn whose host pages are there already: those of an aligned window, inside
 * the slot and inside the host page table (or huge page) that maps gfn. Not marked accessed: aging
 * must not take them for used. @e: the entry of gfn. Only adds, so needs no flush.
 */
static void npt_fault_around(const struct memslot *slot, u64 gfn, unsigned long hva, u64 *e,
			     const struct host_leaf *h)
{
	u64 span = npt_pages(max(h->level, NPT_LEVEL_2M));
	u64 offset = (hva >> PAGE_SHIFT) & (span - 1), index = mem_slot_index(slot, gfn);
	u64 before = min3(gfn & (NPT_AROUND - 1), offset, index);
	u64 after = min3(NPT_AROUND - 1 - (gfn & (NPT_AROUND - 1)), span - 1 - offset,
			 slot->npages - 1 - index);
	/* no entry has all bits set */
	u64 rw = slot->dirty || (slot->flags & KVM_MEM_READONLY) ? ~0ULL : HOST_RW;
	u64 *end = e + after, val;

	e -= before;
	if (h->level == NPT_LEVEL_4K) {
		const u64 *host = &h->table[offset - before];

		for (; e <= end; e++, host++) {
			val = READ_ONCE(*host);
			if (*e || (val & HOST_TEST) != HOST_GOOD)
				continue;
			WRITE_ONCE(*e, (val & HOST_COPY_4K) | PT_US |
				       ((val & rw) == rw ? PT_RW | PT_D : 0));
		}
		return;
	}
	val = npt_leaf(h, hva - (before << PAGE_SHIFT), NPT_LEVEL_4K) |
	      ((h->val & rw) == rw ? PT_RW | PT_D : 0);
	for (; e <= end; e++, val += PAGE_SIZE)
		if (!*e)
			WRITE_ONCE(*e, val);
}

/* Does an invalidation under way touch the pages around hva that one leaf of @level maps? */
static bool npt_in_flux(const struct memory *mem, unsigned long hva, int level)
{
	unsigned long size = npt_pages(level) << PAGE_SHIFT, start = hva & ~(size - 1);

	return mem->invalidate_in_progress && start < mem->invalidate_end &&
	       start + size > mem->invalidate_start;
}

/*
 * Copies the host entry for gfn. Interrupts off, npt_lock held. 0, -EAGAIN: being invalidated,
 * -ENOENT/-EFAULT as host_check(), -ENOMEM/-EBUSY as npt_walk(); *level: of the leaf.
 */
static int npt_copy(struct memory *mem, const struct memslot *slot, u64 gfn, unsigned long hva,
		    bool write, bool faulted, int *level)
{
	struct host_leaf h;
	u64 *e, old, new;
	int rc;

	/* Before the host is asked to fault in what it is about to remove ... */
	if (unlikely(npt_in_flux(mem, hva, NPT_LEVEL_4K)))
		return -EAGAIN;
	if (!host_walk(mem, hva, &h))
		return -ENOENT;
	rc = host_check(&h, write, faulted);
	if (rc)
		return rc;
	*level = npt_leaf_level(slot, gfn, h.level);
	/* ... and again, as a large leaf may reach into a range that does not hold hva itself. */
	if (unlikely(npt_in_flux(mem, hva, *level)))
		return -EAGAIN;
	e = npt_walk(mem, gfn, *level);
	if (IS_ERR(e))
		return PTR_ERR(e);

	/*
	 * With a dirty log the first write must fault, to be noted. But a page that its owner has
	 * written counts as dirty when the guest first touches it, as with KVM: that spares the
	 * second fault.
	 */
	old = *e;
	new = npt_leaf(&h, hva, *level) | PT_A;
	if (!(slot->flags & KVM_MEM_READONLY) && (h.val & HOST_RW) == HOST_RW)
		write |= !slot->dirty || !old;
	if (write) {
		mem_mark_dirty(slot, gfn);
		new |= PT_RW | PT_D;
	}

	if (!old) {
		WRITE_ONCE(*e, new);
		/* While an invalidation is under way elsewhere, stay clear of its range. */
		if (*level == NPT_LEVEL_4K && !mem->invalidate_in_progress)
			npt_fault_around(slot, gfn, hva, e, &h);
		return 0;
	}
	if (npt_is_table(old, *level) || ((old ^ new) & PT_ADDR))
		return -EBUSY;
	/* Another vCPU was first, or this adds the write permission: never take it away here. */
	WRITE_ONCE(*e, new | (old & PT_RW));
	return 0;
}

/*
 * Maps gfn if the host has it. npt_lock is held. @free: tables to free later; NULL where the caller
 * cannot flush. 0, -ENOENT: the host must fault *hva in first, -ENOMEM: the reserve must be filled,
 * -EFAULT: never, -EAGAIN: not now (it is being invalidated, or a flush would be needed).
 */
static int npt_map(struct memory *mem, u64 gfn, bool write, bool faulted, struct list_head *free,
		   unsigned long *hva)
{
	struct memslot *slot = mem_slot(mem, gfn);
	unsigned long flags;
	int rc, level;
	u64 base;

	lockdep_assert_held(&mem->npt_lock);
	if (!slot || (write && (slot->flags & KVM_MEM_READONLY)))
		return -EAGAIN;	/* replaced since npt_fault_early(), which will see it */
	*hva = mem_slot_hva(slot, gfn);

	for (;;) {
		local_irq_save(flags);
		rc = npt_copy(mem, slot, gfn, *hva, write, faulted, &level);
		local_irq_restore(flags);
		if (rc != -EBUSY)
			return rc;
		if (!free)
			return -EAGAIN;
		/* A table where a large leaf belongs, or the reverse: remove it, and walk anew. */
		base = gfn & ~(npt_pages(level) - 1);
		npt_zap(mem, base, base + npt_pages(level), free);
		mem->ops->flush(mem);
	}
}

/*
 * Makes the host fault the page in for the access, as if the owner had done it: with a write the
 * host entry comes out writable and dirty. 0, or -EFAULT, -ENOMEM, -EINTR (a signal is pending).
 */
static int host_fault(struct mm_struct *mm, unsigned long hva, bool write)
{
	unsigned int flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE |
			     FAULT_FLAG_INTERRUPTIBLE | (write ? FAULT_FLAG_WRITE : 0);
	struct vm_area_struct *vma;
	vm_fault_t ret;

	for (;;) {
		if (signal_pending(current) || mmap_read_lock_killable(mm))
			return -EINTR;
		vma = vma_lookup(mm, hva);
		if (!vma || (vma->vm_flags & (VM_IO | VM_PFNMAP)) ||
		    !(vma->vm_flags & (write ? VM_WRITE : VM_ACCESS_FLAGS))) {
			mmap_read_unlock(mm);
			return -EFAULT;
		}
		ret = handle_mm_fault(vma, hva, flags, NULL);
		if (ret & VM_FAULT_COMPLETED)	/* the lock is dropped */
			return 0;
		if (!(ret & VM_FAULT_RETRY))
			break;
		flags |= FAULT_FLAG_TRIED;	/* the lock is dropped */
	}
	mmap_read_unlock(mm);
	if (ret & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) {
		/* The page is broken: the owner's to deal with, as if it had touched it. */
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
		return -EINTR;
	}
	if (ret & VM_FAULT_ERROR)
		return ret & VM_FAULT_OOM ? -ENOMEM : -EFAULT;
	return 0;
}

/* Faults that need no look at the page tables; NPT_RETRY for all others. */
static enum npt_result npt_fault_early(struct memory *mem, u64 gfn, u64 error)
{
	struct memslot *slot = mem_slot(mem, gfn);

	if (!slot || ((error & NPF_WRITE) && (slot->flags & KVM_MEM_READONLY)))
		return NPT_MMIO;
	/* Our entries have no reserved bits set: the table is corrupt, or the CPU disagrees. */
	if (unlikely(error & NPF_RSVD) || unlikely(current->mm != mem->mm))
		return NPT_EFAULT;
	return NPT_RETRY;
}

/** npt_fault_fast() - npt_fault() that never sleeps, whatever the state of interrupts. */
enum npt_result npt_fault_fast(struct memory *mem, u64 gpa, u64 error)
{
	u64 gfn = gpa >> PAGE_SHIFT;
	enum npt_result early = npt_fault_early(mem, gfn, error);
	unsigned long hva;
	int rc;

	/* Not waited for: the holder may be waiting for this CPU to leave the guest. */
	if (early != NPT_RETRY || !spin_trylock(&mem->npt_lock))
		return early;
	rc = npt_map(mem, gfn, error & NPF_WRITE, false, NULL, &hva);
	spin_unlock(&mem->npt_lock);
	return rc ? NPT_RETRY : NPT_OK;
}

/**
 * npt_fault() - handles a nested page fault
 * @mem: guest memory; the caller holds its SRCU read lock, outside of a stay
 * @gpa: faulting guest-physical address (EXITINFO2)
 * @error: error code (EXITINFO1)
 *
 * A fault on the walk of the guest's own page tables counts as a write (APM vol. 2, 15.25.6), so
 * page tables in a read-only slot give NPT_MMIO.
 */
enum npt_result npt_fault(struct memory *mem, u64 gpa, u64 error)
{
	u64 gfn = gpa >> PAGE_SHIFT;
	enum npt_result early = npt_fault_early(mem, gfn, error);
	bool write = error & NPF_WRITE, faulted = false;
	unsigned long hva;
	int rc, tries;

	might_sleep();
	if (early != NPT_RETRY)
		return early;
	if (READ_ONCE(mem->nr_spare) < NPT_SPARES_LOW && npt_top_up(mem))
		return NPT_ENOMEM;

	/* Bounded: who keeps losing to reclaim goes round by way of the guest and its signals. */
	for (tries = 0; tries < 4; tries++) {
		LIST_HEAD(free);

		spin_lock(&mem->npt_lock);
		rc = npt_map(mem, gfn, write, faulted, &free, &hva);
		spin_unlock(&mem->npt_lock);
		npt_free(mem, &free, true);

		if (!rc)
			return NPT_OK;
		if (rc == -ENOMEM) {
			rc = npt_top_up(mem);
		} else if (rc == -ENOENT) {
			rc = host_fault(mem->mm, hva, write);
			faulted = true;
		}
		if (rc)
			break;
	}
	return rc == -EFAULT || rc == -ENOMEM ? rc : NPT_RETRY;
}

/** mem_prefault() - maps a page as a read would: 0, -ENOENT (no slot), -EINTR, -EFAULT, -ENOMEM. */
int mem_prefault(struct memory *mem, u64 gpa)
{
	enum npt_result r;
	int idx;

	do {
		if (signal_pending(current))
			return -EINTR;
		idx = srcu_read_lock(&mem->srcu);
		r = npt_fault(mem, gpa, 0);
		srcu_read_unlock(&mem->srcu, idx);
		cond_resched();
	} while (r == NPT_RETRY);
	return r == NPT_MMIO ? -ENOENT : r;
}

/* --- Life --- */

int npt_init(struct memory *mem)
{
	spin_lock_init(&mem->npt_lock);
	/* The nested walk has the paging mode of the host (APM vol. 2, 15.25.3). */
	mem->levels = pgtable_l5_enabled() ? 5 : 4;
	mem->root = (u64 *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!mem->root)
		return -ENOMEM;
	mem->root_hpa = __sme_set(__pa(mem->root));
	return 0;
}

void npt_destroy(struct memory *mem)
{
	while (mem->nr_spare)
		free_page((unsigned long)mem->spare[--mem->nr_spare]);
	npt_free_tree(mem, mem->root, mem->levels, true);
	mem->root = NULL;
	mem->root_hpa = 0;
}
