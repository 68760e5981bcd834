/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest-physical memory of one VM: slots, nested page table, notifier, guest page walk.
 *
 * Layering: knows nothing of vCPUs. When a translation goes away it calls memory_ops.flush(),
 * which must not return before no vCPU can use the old translation any more.
 *
 * Lock order: slots_lock, mmap_lock, the page-table locks of the host (notifier callbacks run under
 * them), npt_lock. npt_lock is never waited for with interrupts off, as its holder may wait for
 * other CPUs in flush().
 */
#ifndef SVM_MMU_H
#define SVM_MMU_H

#include <linux/interval_tree.h>
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <linux/xarray.h>

/* KVM_CAP_NR_MEMSLOTS. All may show one host range, which a notifier goes over under npt_lock. */
#define MEM_NR_SLOTS		4096
#define MEM_MAX_PAGES		((1ULL << 31) - 1)	/* of one slot */
#define NPT_SPARES		8
#define MEM_MIN_TABLES		64	/* the least that mem_limit_tables() takes */

/* Immutable but for the bits of @dirty. */
struct memslot {
	u64 base_gfn;		/* first guest frame */
	u64 npages;
	unsigned long hva;	/* host virtual address of base_gfn */
	u32 flags;		/* KVM_MEM_* */
	struct interval_tree_node by_hva;	/* Protected by: npt_lock */
	unsigned long *dirty;	/* bitmap, one bit a page; NULL without KVM_MEM_LOG_DIRTY_PAGES */
};

/* An immutable snapshot, replaced whole under slots_lock; for readers see mem_synchronize(). */
struct memslots {
	unsigned int nr;
	struct memslot *slot[];		/* sorted by base_gfn, no overlaps */
};

struct memory;

struct memory_ops {
	/*
	 * A translation was removed or narrowed: make every vCPU drop its TLB and leave the guest,
	 * and wait until each has left. Called with npt_lock held and interrupts on; must not sleep.
	 */
	void (*flush)(struct memory *mem);
};

struct memory {
	const struct memory_ops *ops;
	struct mm_struct *mm;		/* owner; guest accesses only happen in its context */
	u64 root_hpa;			/* nCR3 */
	int levels;			/* of the nested table: 5 on a host with CR4.LA57, else 4 */
	unsigned int nr_slots;		/* for statistics */
	unsigned int last_slot;		/* index of the last slot found: a hint, racy by design */
	struct memslots __rcu *slots;	/* written under slots_lock and npt_lock */
	struct srcu_struct srcu;
	struct mutex slots_lock;	/* one change of the slots, one reader of a dirty log */
	struct xarray slot_ids;		/* Protected by: slots_lock; the slots by their ids */
	/* Protected by: slots_lock; KVM_DIRTY_LOG_* of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	u32 log_flags;

	spinlock_t npt_lock;
	u64 *root;			/* Protected by: npt_lock (the whole table is) */
	struct rb_root_cached slots_by_hva;	/* Protected by: npt_lock */
	unsigned int invalidate_in_progress; /* Protected by: npt_lock */
	unsigned long invalidate_start;	/* Protected by: npt_lock; hva range in flux, while the */
	unsigned long invalidate_end;	/* count is not 0 */
	unsigned int max_tables;	/* 0: as many as it takes */
	atomic_t nr_tables;		/* below the root; a table counts until it is freed */
	unsigned int nr_spare;		/* Protected by: npt_lock */
	u64 *spare[NPT_SPARES];		/* Protected by: npt_lock; zeroed pages for new tables */
	struct mmu_notifier notifier;
};

int memory_init(struct memory *mem, const struct memory_ops *ops);
void memory_destroy(struct memory *mem);
int mem_set_region(struct memory *mem, const struct kvm_userspace_memory_region *r);
int mem_dirty_log(struct memory *mem, u32 slot_id, void __user *bitmap,
		  const struct kvm_clear_dirty_log *clear);

void mem_synchronize(struct memory *mem);
struct memslot *mem_slot_search(struct memory *mem, const struct memslots *slots, u64 gfn);

/* The current snapshot: the caller is a reader, or holds npt_lock or slots_lock. */
static inline struct memslots *mem_slots(struct memory *mem)
{
	return srcu_dereference_check(mem->slots, &mem->srcu, rcu_read_lock_sched_held() ||
				      lockdep_is_held(&mem->slots_lock));
}

/** mem_slot() - the slot that covers a guest frame, or NULL; the caller is a reader */
static inline struct memslot *mem_slot(struct memory *mem, u64 gfn)
{
	const struct memslots *slots = mem_slots(mem);
	unsigned int i = READ_ONCE(mem->last_slot);

	if (likely(i < slots->nr)) {
		struct memslot *slot = slots->slot[i];

		if (likely(gfn - slot->base_gfn < slot->npages))
			return slot;
	}
	return mem_slot_search(mem, slots, gfn);
}

/* Offset in pages of a frame in its slot; in bounds in speculation too, as the guest chose it. */
static inline u64 mem_slot_index(const struct memslot *slot, u64 gfn)
{
	return array_index_nospec(gfn - slot->base_gfn, slot->npages);
}

/* Host virtual address of a frame of @slot. */
static inline unsigned long mem_slot_hva(const struct memslot *slot, u64 gfn)
{
	return slot->hva + (mem_slot_index(slot, gfn) << PAGE_SHIFT);
}

/*
 * Notes a write, after the data is in memory. Not tested before it is set: the locked operation is
 * also the barrier between the data and the bit.
 */
static inline void mem_mark_dirty(const struct memslot *slot, u64 gfn)
{
	if (slot->dirty)
		set_bit(mem_slot_index(slot, gfn), slot->dirty);
}

/* #NPF error code, EXITINFO1 (APM vol. 2, 15.25.6) */
#define NPF_WRITE		BIT_ULL(1)
#define NPF_RSVD		BIT_ULL(3)
#define NPF_FETCH		BIT_ULL(4)
#define NPF_FINAL		BIT_ULL(32)	/* not on a guest page table */

enum npt_result {
	NPT_OK,			/* mapped (or spurious): re-enter the guest */
	NPT_MMIO,		/* no slot, or a write to a read-only slot: emulate */
	NPT_RETRY = -EAGAIN,	/* raced with an invalidation or a signal is pending: loop */
	NPT_EFAULT = -EFAULT,	/* the slot's host mapping forbids the access */
	NPT_ENOMEM = -ENOMEM,
};

enum npt_result npt_fault(struct memory *mem, u64 gpa, u64 error);
enum npt_result npt_fault_fast(struct memory *mem, u64 gpa, u64 error);
int mem_prefault(struct memory *mem, u64 gpa);
int mem_limit_tables(struct memory *mem, u64 tables);

int mem_access(struct memory *mem, u64 gpa, void *buf, unsigned int len, bool write);
static inline int mem_read(struct memory *mem, u64 gpa, void *buf, unsigned int len)
{
	return mem_access(mem, gpa, buf, len, false);
}

static inline int mem_write(struct memory *mem, u64 gpa, const void *buf, unsigned int len)
{
	return mem_access(mem, gpa, (void *)buf, len, true);
}

int mem_cmpxchg(struct memory *mem, u64 gpa, u64 *old, u64 new, unsigned int len);

/* Guest page walk, GVA -> GPA (APM vol. 2, chapter 5), by software. */
#define WALK_WRITE	BIT(1)		/* bits as in the #PF error code */
#define WALK_USER	BIT(2)
#define WALK_FETCH	BIT(4)
#define WALK_NO_AD	BIT(8)		/* leave accessed/dirty bits alone (KVM_TRANSLATE, ...) */
#define WALK_ATOMIC	BIT(9)		/* must not sleep: -EAGAIN where that would be needed */

struct walk_ctx {
	u64 cr0, cr3, cr4, efer;
	u64 rflags;		/* for SMAP: AC; clear it for implicit supervisor accesses */
	u8 maxphyaddr;		/* guest's MAXPHYADDR, for reserved bits */
	bool gbpages;		/* guest CPUID has 1-GiB pages */
};

int gva_to_gpa(struct memory *mem, const struct walk_ctx *w, u64 gva, u32 access, u64 *gpa,
	       u32 *error_code);
bool mem_fetch(struct memory *mem, u64 cr3, u64 gva, u64 bytes[2]);

#endif
