// SPDX-License-Identifier: GPL-2.0
/*
 * Guest page walk by software (APM vol. 2, chapter 5): no paging, 32-bit with PSE and PSE-36, PAE,
 * and four-level long mode. Protection keys and five levels are not offered to guests.
 *
 * Accessed and dirty bits are set like the CPU does, by a compare-exchange, once the walk has found
 * no fault. Where a table cannot be written (read-only slot or host mapping) the walk goes on
 * without: the access itself is legal, and hardware would have reported that table as a nested
 * fault.
 */
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include "mmu/npt.h"

/* #PF error code (APM vol. 2, 8.4.2); W, U and I/D have the positions of WALK_* */
#define PF_P		BIT(0)
#define PF_RSVD		BIT(3)

#define WALK_RETRIES	64

struct walk {
	struct memory *mem;
	const struct walk_ctx *w;
	u32 access;
	bool lma, wide;		/* long mode; 8-byte entries */
	int top;		/* level of the root table */
	u64 gpa[5], pte[5];	/* the entry of each level, from 1 */
};

/* Bits 51:MAXPHYADDR, and NX without EFER.NXE. */
static u64 rsvd_high(const struct walk_ctx *w)
{
	return ((~0ULL << w->maxphyaddr) & PT_ADDR) | (w->efer & EFER_NX ? 0 : PT_NX);
}

/* An address may be accessed by this mode if all of *need are in every entry. */
static u64 rights_needed(const struct walk_ctx *w, u32 access)
{
	bool user = access & WALK_USER;
	u64 need = PT_P;

	if (user)
		need |= PT_US;
	if ((access & WALK_WRITE) && (user || (w->cr0 & X86_CR0_WP)))
		need |= PT_RW;
	return need;
}

/* SMEP and SMAP (APM vol. 2, 5.6.6): is the supervisor kept from a user page? */
static bool user_page_barred(const struct walk_ctx *w, u32 access)
{
	if (access & WALK_USER)
		return false;
	if (access & WALK_FETCH)
		return w->cr4 & X86_CR4_SMEP;
	return (w->cr4 & X86_CR4_SMAP) && !(w->rflags & X86_EFLAGS_AC);
}

/* --- The bytes of an instruction, with no check of any right --- */

/* A slot in bytes, as the steps of the walk want it. */
struct window {
	u64 base, size;
	unsigned long hva;
};

static __always_inline bool window_open(struct memory *mem, u64 gpa, struct window *win)
{
	const struct memslot *slot = mem_slot(mem, gpa >> PAGE_SHIFT);

	if (unlikely(!slot))
		return false;
	win->base = slot->base_gfn << PAGE_SHIFT;
	win->size = slot->npages << PAGE_SHIFT;
	win->hva = slot->hva;
	return true;
}

/*
 * Reads the entry of gva at @shift. The tables are mostly in one slot, which is kept at hand. The
 * address needs no access_ok(), as slots were checked when made, and no fence, as the index is
 * clamped. Nothing may be called while user access is open.
 */
#define FAST_READ(shift)								\
	do {										\
		gpa = (pte & PT_ADDR) | ((gva >> ((shift) - 3)) & 0xff8);		\
		if (unlikely(gpa - win.base >= win.size)) {				\
			user_access_end();						\
			if (!window_open(mem, gpa, &win))				\
				return false;						\
			__uaccess_begin();						\
		}									\
		p = (u64 __user *)(win.hva + array_index_nospec(gpa - win.base, win.size)); \
		unsafe_get_user(pte, p, out);						\
		if (unlikely(!(pte & PT_P)))						\
			goto out;							\
	} while (0)

static __always_inline bool fetch(struct memory *mem, u64 cr3, u64 gva, u64 bytes[2])
{
	u64 pte = cr3, page = PAGE_SIZE - 1, gpa;
	struct window win;
	bool ok = false;
	u64 __user *p;

	if (!window_open(mem, pte & PT_ADDR, &win))
		return false;
	__uaccess_begin();
	FAST_READ(39);
	FAST_READ(30);
	if (pte & PT_PS) {
		page = (1ULL << 30) - 1;
	} else {
		FAST_READ(21);
		if (pte & PT_PS)
			page = (1ULL << 21) - 1;
		else
			FAST_READ(12);
	}
	gpa = (pte & PT_ADDR & ~page) | (gva & page);
	if (unlikely(gpa - win.base >= win.size))
		goto out;
	p = (u64 __user *)(win.hva + array_index_nospec(gpa - win.base, win.size));
	unsafe_get_user(bytes[0], p, out);
	unsafe_get_user(bytes[1], p + 1, out);
	ok = true;
out:
	user_access_end();
	return ok;
}

/**
 * mem_fetch() - reads the 16 bytes at an instruction that was just executed in long mode, so that
 * the right to do so need not be checked. Never sleeps, has no effect on the guest.
 * @mem: guest memory; the caller is a reader of its slots, in the context of its owner
 * @cr3: the guest's
 * @gva: the linear address
 * @bytes: where they go
 *
 * Return: false where gva_to_gpa() and mem_read() must find out: bytes on two pages, tables and
 * code in different slots, any kind of fault.
 */
bool mem_fetch(struct memory *mem, u64 cr3, u64 gva, u64 bytes[2])
{
	bool ok;

	if (offset_in_page(gva) > PAGE_SIZE - 16)
		return false;
	pagefault_disable();
	ok = fetch(mem, cr3, gva, bytes);
	pagefault_enable();
	return ok;
}

/* --- The walk --- */

/* Shift of the part of the address that indexes a table of @level, and log2 of its entries. */
static unsigned int level_shift(const struct walk *k, int level)
{
	return PAGE_SHIFT + (level - 1) * (k->wide ? 9 : 10);
}

static bool is_leaf(const struct walk *k, int level, u64 pte)
{
	if (level == 1)
		return true;
	if (!(pte & PT_PS))
		return false;
	if (level == 2)
		return k->wide || (k->w->cr4 & X86_CR4_PSE);
	return level == 3 && k->lma && k->w->gbpages;
}

/* Does the entry have a bit set that must be 0 (APM vol. 2, 5.2.1 to 5.3.5)? */
static bool has_reserved(const struct walk *k, int level, u64 pte)
{
	u64 size = 1ULL << level_shift(k, level);

	if (!k->wide) {
		u64 high;

		if (level == 1 || !is_leaf(k, level, pte))
			return false;
		/* PSE-36: bits 20:13 are bits 39:32 of the address; bit 21 is reserved. */
		high = ((pte >> 13) & 0xff) << 32;
		return (pte & BIT_ULL(21)) || (high & rsvd_high(k->w) & PT_ADDR);
	}
	if (pte & rsvd_high(k->w))
		return true;
	if (!k->lma && (pte & GENMASK_ULL(62, 52)))
		return true;
	if (!k->lma && level == 3)
		/* Bit 5 too is reserved, but QEMU sets it (Documentation/errata.rst). */
		return pte & (PT_NX | GENMASK_ULL(8, 6) | GENMASK_ULL(2, 1));
	if (is_leaf(k, level, pte))
		return level > 1 && (pte & (size - 1) & GENMASK_ULL(51, 13));
	if (level == 4)
		return pte & (PT_PS | PT_G);
	/* PS where there are no 1 GiB pages is reserved as well. */
	return level == 3 && (pte & (PT_PS | PT_G));
}

static u64 leaf_gpa(const struct walk *k, int level, u64 pte, u64 gva)
{
	u64 offset = (1ULL << level_shift(k, level)) - 1, base = pte & PT_ADDR & ~offset;

	if (!k->wide && level == 2)
		base |= ((pte >> 13) & 0xff) << 32;
	return base | (gva & offset);
}

/* The #PF error code, less P and RSVD. */
static u32 fault_code(const struct walk *k)
{
	bool nx = k->wide && (k->w->efer & EFER_NX);
	u32 code = k->access & (WALK_WRITE | WALK_USER);

	/* I/D is reported only where fetches can be told apart (APM vol. 2, 8.4.2). */
	if ((k->access & WALK_FETCH) && (nx || (k->w->cr4 & X86_CR4_SMEP)))
		code |= WALK_FETCH;
	return code;
}

/* Sets A in all entries and D in the leaf. 0, -EAGAIN: may not sleep, 1: changed, walk anew. */
static int mark_accessed(struct walk *k, int leaf)
{
	int level, rc;

	for (level = k->top; level >= leaf; level--) {
		u64 want = PT_A, old = k->pte[level];
		struct memslot *slot;

		if (level == 3 && !k->lma)	/* legacy PDPEs have neither */
			continue;
		if (level == leaf && (k->access & WALK_WRITE))
			want |= PT_D;
		if ((old & want) == want)
			continue;
		slot = mem_slot(k->mem, k->gpa[level] >> PAGE_SHIFT);
		if (!slot || (slot->flags & KVM_MEM_READONLY))
			continue;
		rc = mem_cmpxchg(k->mem, k->gpa[level], &old, old | want, k->wide ? 8 : 4);
		if (rc > 0)
			return rc;
		if (rc && (k->access & WALK_ATOMIC))
			return -EAGAIN;
	}
	return 0;
}

/* One walk. As gva_to_gpa(), or 1: tables changed under it. */
static int walk_once(struct walk *k, u64 gva, u64 *gpa, u32 *error_code)
{
	const struct walk_ctx *w = k->w;
	u64 need = rights_needed(w, k->access), every = ~0ULL, any = 0, pte, table;
	unsigned int size = k->wide ? 8 : 4;
	int level;

	*error_code = fault_code(k);
	if (!k->wide)
		table = w->cr3 & GENMASK_ULL(31, 12);
	else
		table = w->cr3 & (k->lma ? PT_ADDR : GENMASK_ULL(31, 5));

	for (level = k->top; ; level--) {
		unsigned int index = (gva >> level_shift(k, level)) & (PAGE_SIZE / size - 1);
		u64 at = table + index * size;

		if (!mem_slot(k->mem, at >> PAGE_SHIFT))
			return -ENXIO;
		pte = 0;
		if (mem_read(k->mem, at, &pte, size))
			return k->access & WALK_ATOMIC ? -EAGAIN : -ENXIO;
		k->gpa[level] = at;
		k->pte[level] = pte;
		if (!(pte & PT_P))
			return -EFAULT;
		if (has_reserved(k, level, pte)) {
			*error_code |= PF_P | PF_RSVD;
			return -EFAULT;
		}
		if (level < 3 || k->lma) {
			every &= pte;
			any |= pte;
		}
		if (is_leaf(k, level, pte))
			break;
		table = pte & PT_ADDR;
	}

	if ((every & need) != need || ((k->access & WALK_FETCH) && k->wide && (any & PT_NX)) ||
	    ((every & PT_US) && user_page_barred(w, k->access))) {
		*error_code |= PF_P;
		return -EFAULT;
	}
	*gpa = leaf_gpa(k, level, pte, gva);
	return k->access & WALK_NO_AD ? 0 : mark_accessed(k, level);
}

/**
 * gva_to_gpa() - translates a guest virtual address by the guest's page tables
 * @mem: guest memory; the caller is a reader of its slots, in the context of its owner
 * @w: the vCPU's paging state
 * @gva: the (linear) address; in long mode the caller has checked that it is canonical
 * @access: WALK_* flags
 * @gpa: the result
 * @error_code: of the #PF
 *
 * Return: 0, -EFAULT (#PF for the guest), -ENXIO (page table outside memory), -EAGAIN
 * (WALK_ATOMIC).
 */
int gva_to_gpa(struct memory *mem, const struct walk_ctx *w, u64 gva, u32 access, u64 *gpa,
	       u32 *error_code)
{
	struct walk k = {
		.mem = mem,
		.w = w,
		.access = access,
		.lma = w->efer & EFER_LMA,
		.wide = (w->efer & EFER_LMA) || (w->cr4 & X86_CR4_PAE),
	};
	int rc = 1, tries;

	if (!(w->cr0 & X86_CR0_PG)) {
		*gpa = (u32)gva;
		return 0;
	}
	k.top = k.lma ? 4 : k.wide ? 3 : 2;
	if (!k.lma)
		gva = (u32)gva;
	if (access & WALK_ATOMIC)
		pagefault_disable();
	/* Another vCPU may rewrite the tables without end: then the last translation was valid. */
	for (tries = 0; rc > 0 && tries < WALK_RETRIES; tries++)
		rc = walk_once(&k, gva, gpa, error_code);
	if (access & WALK_ATOMIC)
		pagefault_enable();
	return min(rc, 0);
}
