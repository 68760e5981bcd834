/* SPDX-License-Identifier: GPL-2.0 */
/* Page-table entries, and the nested page table: inside mmu/ only. */
#ifndef SVM_MMU_NPT_H
#define SVM_MMU_NPT_H

#include "mmu/mmu.h"

/* Entry bits, AMD64 long-mode format (APM vol. 2, 5.3 and 15.25.5). */
#define PT_P		BIT_ULL(0)
#define PT_RW		BIT_ULL(1)
#define PT_US		BIT_ULL(2)	/* set in all nested ones: those walks count as user's */
#define PT_PWT		BIT_ULL(3)
#define PT_PCD		BIT_ULL(4)
#define PT_A		BIT_ULL(5)
#define PT_D		BIT_ULL(6)
#define PT_PS		BIT_ULL(7)	/* large leaf; in a 4 KiB leaf bit 7 is PAT */
#define PT_PAT_4K	BIT_ULL(7)
#define PT_G		BIT_ULL(8)	/* must be 0 in PML4Es and in PDPEs that are no leaf */
#define PT_PAT_LARGE	BIT_ULL(12)
#define PT_NX		BIT_ULL(63)
#define PT_ADDR		GENMASK_ULL(51, 12)	/* with the encryption bit, where there is one */

#define NPT_LEVEL_4K	1
#define NPT_LEVEL_2M	2
#define NPT_LEVEL_1G	3

/* 4 KiB pages that one entry of a table of @level spans. */
static inline u64 npt_pages(int level)
{
	return 1ULL << (9 * (level - 1));
}

int npt_init(struct memory *mem);
void npt_destroy(struct memory *mem);

/*
 * Removes all translations of [gfn, end); whole tables go to @free, for npt_free() after the flush
 * and outside npt_lock, as a large VM has very many. True if a flush is due. Caller holds npt_lock.
 */
bool npt_zap(struct memory *mem, u64 gfn, u64 end, struct list_head *free);
void npt_free(struct memory *mem, struct list_head *free, bool may_sleep);

/* Removes everything, of which faults bring back what is in use. Sleeps. */
void npt_zap_all(struct memory *mem);

/* Takes the write permission from one 4 KiB leaf; true if it had it. Caller holds npt_lock. */
bool npt_write_protect(struct memory *mem, u64 gfn);

/* True if a leaf in [gfn, end) was accessed since; @clear resets it. Caller holds npt_lock. */
bool npt_young(struct memory *mem, u64 gfn, u64 end, bool clear);

extern const struct mmu_notifier_ops mem_notifier_ops;

#endif
