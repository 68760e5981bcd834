// SPDX-License-Identifier: GPL-2.0
/*
 * Guest-physical memory as the hypervisor reads and writes it: through the owner's addresses, like
 * any user memory. So the host's own protection, copy-on-write and dirty tracking hold, and a slot
 * that was replaced meanwhile does no harm. Slots were checked to lie in user space when they were
 * made.
 */
#include <linux/pagemap.h>
#include <linux/uaccess.h>
#include "mmu/mmu.h"

/* The bytes of [gpa, gpa + len) that lie in one slot, and where; 0 where there is no such slot. */
static unsigned int mem_span(struct memory *mem, u64 gpa, unsigned int len, bool write,
			     struct memslot **slot, void __user **p)
{
	u64 gfn = gpa >> PAGE_SHIFT, in_slot;
	struct memslot *s = mem_slot(mem, gfn);

	if (unlikely(!s || (write && (s->flags & KVM_MEM_READONLY)) || current->mm != mem->mm))
		return 0;
	*slot = s;
	*p = (void __user *)(mem_slot_hva(s, gfn) + offset_in_page(gpa));
	in_slot = ((s->base_gfn + s->npages) << PAGE_SHIFT) - gpa;
	return min_t(u64, len, in_slot);
}

/**
 * mem_access() - copies from guest memory, or to it, which marks it dirty
 * @mem: guest memory; the caller is a reader of its slots, in the context of its owner
 * @gpa: guest-physical address
 * @buf: where to, or from
 * @len: number of bytes
 * @write: to guest memory
 *
 * Return: 0, or -EFAULT where not all of it is memory that permits it (under pagefault_disable():
 * or not without sleeping); a part may have been copied then.
 */
int mem_access(struct memory *mem, u64 gpa, void *buf, unsigned int len, bool write)
{
	struct memslot *slot;
	void __user *p;
	unsigned int n;
	u64 gfn;
	int rc;

	for (; len; len -= n, buf += n, gpa += n) {
		n = mem_span(mem, gpa, len, write, &slot, &p);
		if (!n)
			return -EFAULT;
		rc = write ? __copy_to_user_inatomic(p, buf, n) :
			     __copy_from_user_inatomic(buf, p, n);
		/* Also after a fault: a part may have been written. */
		for (gfn = gpa >> PAGE_SHIFT; write && gfn <= (gpa + n - 1) >> PAGE_SHIFT; gfn++)
			mem_mark_dirty(slot, gfn);
		if (rc)
			return -EFAULT;
	}
	return 0;
}

/* The kernel's accessor defines the label that it is given. */
#define USER_CMPXCHG(type)	\
	__try_cmpxchg_user((type __user *)p, (type *)old, (type)new, fault_##type)

/**
 * mem_cmpxchg() - compares and exchanges in guest memory, atomically towards vCPUs and the owner
 * @mem: guest memory; the caller is a reader of its slots, in the context of its owner
 * @gpa: guest-physical address, a multiple of @len
 * @old: expected value; on a mismatch the value found
 * @new: value to store
 * @len: 1, 2, 4 or 8
 *
 * Does not sleep under pagefault_disable().
 * Return: 0 if stored, 1 if the memory differs, -EFAULT where it is not writable memory or @gpa or
 * @len is out of order.
 */
int mem_cmpxchg(struct memory *mem, u64 gpa, u64 *old, u64 new, unsigned int len)
{
	struct memslot *slot;
	void __user *p;
	int rc;

	if ((gpa & (len - 1)) || mem_span(mem, gpa, len, true, &slot, &p) != len)
		return -EFAULT;
	switch (len) {
	case 1:
		rc = USER_CMPXCHG(u8);
		break;
	case 2:
		rc = USER_CMPXCHG(u16);
		break;
	case 4:
		rc = USER_CMPXCHG(u32);
		break;
	case 8:
		rc = USER_CMPXCHG(u64);
		break;
	default:
		return -EFAULT;
	}
	if (!rc)
		mem_mark_dirty(slot, gpa >> PAGE_SHIFT);
	return rc;
}
