// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty log. While a slot keeps one, its pages are mapped read-only first, 4 KiB each; the write
 * fault sets the page's bit and makes it writable. Reading the log takes both back.
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

/* Fetches and clears @n words of the bitmap from word @first. True if a flush is due. */
static bool fetch_chunk(struct memory *mem, struct memslot *slot, unsigned long first,
			unsigned long n, unsigned long *buf)
{
	bool flush = false;
	unsigned long i, bit;

	for (i = 0; i < n; i++) {
		buf[i] = 0;
		if (!READ_ONCE(slot->dirty[first + i]))
			continue;
		/* Per word, so that the lock is never held for long: 64 walks at most. */
		spin_lock(&mem->npt_lock);
		buf[i] = xchg(&slot->dirty[first + i], 0);
		for_each_set_bit(bit, &buf[i], BITS_PER_LONG)
			flush |= npt_write_protect(mem, slot->base_gfn +
						   (first + i) * BITS_PER_LONG + bit);
		spin_unlock(&mem->npt_lock);
		cond_resched();
	}
	return flush;
}

static void flush_log(struct memory *mem)
{
	spin_lock(&mem->npt_lock);
	mem->ops->flush(mem);
	spin_unlock(&mem->npt_lock);
}

static int copy_log(struct memory *mem, struct memslot *slot, unsigned long __user *to,
		    unsigned long *buf)
{
	unsigned long first, n, words = BITS_TO_LONGS(slot->npages);
	bool flush = false;
	int rc = 0;

	/* Where userspace can't be written, nothing is taken out of the log. */
	if (clear_user(to, words * sizeof(long)))
		return -EFAULT;
	for (first = 0; first < words && !rc; first += n) {
		n = min(words - first, CHUNK_LONGS);
		flush |= fetch_chunk(mem, slot, first, n, buf);
		if (copy_to_user(to + first, buf, n * sizeof(long)))
			rc = -EFAULT;
	}
	if (flush)
		flush_log(mem);
	return rc;
}

/**
 * mem_get_dirty_log() - KVM_GET_DIRTY_LOG: the pages written since the last call
 * @mem: guest memory
 * @slot_id: the slot
 * @user_bitmap: where to, one bit a page, in multiples of 8 bytes
 *
 * Return: 0, -EINVAL for a slot number out of range, -ENOENT for a slot that does not exist or
 * keeps no log, -EFAULT, -ENOMEM.
 */
int mem_get_dirty_log(struct memory *mem, u32 slot_id, void __user *user_bitmap)
{
	struct memslots *slots;
	unsigned long *buf;
	unsigned int i;
	int rc = -ENOENT;

	if (slot_id >= MEM_NR_SLOTS)
		return -EINVAL;
	buf = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	mutex_lock(&mem->slots_lock);
	slots = mem_slots(mem);
	for (i = 0; i < slots->nr; i++)
		if (slots->slot[i]->id == slot_id && slots->slot[i]->dirty)
			rc = copy_log(mem, slots->slot[i], user_bitmap, buf);
	mutex_unlock(&mem->slots_lock);
	kfree(buf);
	return rc;
}
