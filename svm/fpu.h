/* SPDX-License-Identifier: GPL-2.0 */
/* Guest FPU, SSE and AVX state: loaded once per stay in the inner loop. */
#ifndef SVM_FPU_H
#define SVM_FPU_H

#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>

#include "svm/cpu.h"

void fpu_probe(void);
void fpu_reset(struct vcpu *v);
void *fpu_image(struct vcpu *v);

/*
 * Preemption is off from fpu_load() to fpu_store(). The mask has no components of the host in it
 * that the guest does not have: PKRU in particular stays the host's (guests are not offered
 * protection keys).
 */
static __always_inline void fpu_load(struct vcpu *v)
{
	kernel_fpu_begin_mask(0);
	/* XSAVES can't be intercepted: it must not reach this task's shadow stack. */
	if (unlikely(svm_caps.host_xss))
		wrmsrq(MSR_IA32_XSS, 0);
	/*
	 * Before Zen, FXRSTOR/XRSTOR leave FIP, FDP and FOP alone unless an x87 exception is
	 * pending: overwrite the host's (any other task's) pointers by an x87 load of our own.
	 */
	if (static_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex; emms; fildl %0" :: "m"(v->id));
	if (likely(svm_caps.xcr0))
		asm volatile("xrstor64 (%0)" :: "r"(v->fpu), "a"((u32)svm_caps.xcr0),
			     "d"((u32)(svm_caps.xcr0 >> 32)) : "memory");
	else
		asm volatile("fxrstor64 (%0)" :: "r"(v->fpu) : "memory");
}

static __always_inline void fpu_store(struct vcpu *v)
{
	if (likely(svm_caps.xcr0))
		asm volatile("xsave64 (%0)" :: "r"(v->fpu), "a"((u32)svm_caps.xcr0),
			     "d"((u32)(svm_caps.xcr0 >> 32)) : "memory");
	else
		asm volatile("fxsave64 (%0)" :: "r"(v->fpu) : "memory");
	if (unlikely(svm_caps.host_xss))
		wrmsrq(MSR_IA32_XSS, svm_caps.host_xss);
	kernel_fpu_end();
}

#endif
