/* SPDX-License-Identifier: GPL-2.0 */
/* The MSR filter of a VM; private to msr.c and msr_filter.c. */
#ifndef SVM_MSR_FILTER_H
#define SVM_MSR_FILTER_H

#include <linux/kvm.h>

#define MSRPM_SIZE	(2 * PAGE_SIZE)	/* APM vol. 2, 15.11 */

/* Constant once it is in vm->msr_filter. */
struct msr_filter {
	void *map;		/* MSR permission map for the VMCB */
	bool default_allow;
	unsigned int nr;
	struct msr_range {
		u32 base, nmsrs, flags;
		u8 *bitmap;	/* a set bit allows */
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

#endif
