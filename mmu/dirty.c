// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty log. While a slot keeps one, its pages are mapped read-only first, 4 KiB each; the write
 * fault sets the page's bit and makes it writable. Clearing the log takes both back.
 *
 * A write is never lost: a vCPU that still has the page writable in its TLB writes before the flush
 * at the end, and so before userspace can act on the bit that was reported; any later write faults
 * and sets the bit anew. Both bit and permission change under npt_lock.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "mmu/npt.h"

#define CHUNK_LONGS	(PAGE_SIZE / sizeof(long))

/*
 * Clears the pages of @mask, @n words from word @first, in the log and takes their write
 * permission. Bits set meanwhile stay. True if a flush is due.
 */
static bool clear_chunk(struct memory *mem, struct memslot *slot, unsigned long first,
			unsigned long n, const unsigned long *mask)
{
	unsigned long i, bits, bit;
	bool flush = false;

	for (i = 0; i < n; i++) {
		if (!(mask[i] & READ_ONCE(slot->dirty[first + i])))
			continue;
		/* Per word, so that the lock is never held for long: 64 walks at most. */
		spin_lock(&mem->npt_lock);
		bits = mask[i] & atomic_long_fetch_andnot(mask[i],
					(atomic_long_t *)&slot->dirty[first + i]);
		for_each_set_bit(bit, &bits, BITS_PER_LONG)
			flush |= npt_write_protect(mem, slot->base_gfn +
						   (first + i) * BITS_PER_LONG + bit);
		spin_unlock(&mem->npt_lock);
		cond_resched();
	}
	return flush;
}

/*
 * One pass over the log. Get: all of it to userspace, and what was told so is cleared, unless
 * KVM_CLEAR_DIRTY_LOG is to do that. Clear: what userspace names.
 */
static int dirty_log(struct memory *mem, struct memslot *slot, unsigned long __user *user,
		     const struct kvm_clear_dirty_log *clear, unsigned long *buf)
{
	u64 first = clear ? clear->first_page : 0;
	u64 pages = clear ? clear->num_pages : slot->npages;
	unsigned long i, done, n, words = BITS_TO_LONGS(pages), left;
	bool flush = false;
	int rc = 0;

	if (first > slot->npages || pages > slot->npages - first ||
	    (pages % BITS_PER_LONG && pages < slot->npages - first))
		return -EINVAL;
	/* Where userspace can't be written, nothing is taken out of the log. */
	if (!clear && clear_user(user, words * sizeof(long)))
		return -EFAULT;

	first /= BITS_PER_LONG;
	for (done = 0; done < words && !rc; done += n) {
		n = min(words - done, CHUNK_LONGS);
		if (clear) {
			left = copy_from_user(buf, user + done, n * sizeof(long));
		} else {
			for (i = 0; i < n; i++)
				buf[i] = READ_ONCE(slot->dirty[first + done + i]);
			left = copy_to_user(user + done, buf, n * sizeof(long));
		}
		if (left)
			rc = -EFAULT;
		else if (clear || !mem->log_flags)
			flush |= clear_chunk(mem, slot, first + done, n, buf);
	}
	if (flush) {
		spin_lock(&mem->npt_lock);
		mem->ops->flush(mem);
		spin_unlock(&mem->npt_lock);
	}
	return rc;
}

/**
 * mem_dirty_log() - KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG
 * @mem: guest memory
 * @slot_id: the slot
 * @bitmap: where to (or from), one bit a page, in multiples of 8 bytes
 * @clear: NULL to get the log of all pages; or which to clear
 *
 * Return: 0, -EINVAL (slot number or pages out of range), -ENOENT (no such slot, or it keeps no
 * log), -EFAULT, -ENOMEM.
 */
int mem_dirty_log(struct memory *mem, u32 slot_id, void __user *bitmap,
		  const struct kvm_clear_dirty_log *clear)
{
	struct memslot *slot;
	unsigned long *buf;
	int rc = -ENOENT;

	if (slot_id >= MEM_NR_SLOTS || (clear && clear->first_page % BITS_PER_LONG))
		return -EINVAL;
	buf = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	mutex_lock(&mem->slots_lock);
	slot = xa_load(&mem->slot_ids, slot_id);
	if (slot && slot->dirty)
		rc = dirty_log(mem, slot, bitmap, clear, buf);
	mutex_unlock(&mem->slots_lock);
	kfree(buf);
	return rc;
}
