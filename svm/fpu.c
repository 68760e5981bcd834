// SPDX-License-Identifier: GPL-2.0
/*
 * Guest FPU state as userspace sees it. The buffer v->fpu is in the standard XSAVE format (APM vol.
 * 2, 11.5): the 512-byte FXSAVE image, a 64-byte header, then the components at their CPUID
 * Fn0000_000D offsets.
 */
#include <linux/string.h>

#include "svm/exit.h"

static u32 mxcsr_mask __ro_after_init;

/* Finds the components and size of the guest state; at load. */
void fpu_probe(void)
{
	struct fxregs_state fx __aligned(16) = {};
	unsigned long extended;
	unsigned int i;

	kernel_fpu_begin();
	asm volatile("fxsave64 %0" : "+m"(fx));
	kernel_fpu_end();
	mxcsr_mask = fx.mxcsr_mask ?: 0xffbf;

	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrq(MSR_IA32_XSS, svm_caps.host_xss);
	svm_caps.xsave_size = 512;
	if (!boot_cpu_has(X86_FEATURE_XSAVE) || !boot_cpu_has(X86_FEATURE_OSXSAVE))
		return;
	svm_caps.host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	svm_caps.xcr0 = svm_caps.host_xcr0 &
			(XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512);
	svm_caps.xsave_size = offsetof(struct xregs_state, extended_state_area);
	extended = svm_caps.xcr0 & ~(u64)XFEATURE_MASK_FPSSE;
	for_each_set_bit(i, &extended, 64) {
		u32 size, offset, ecx, edx;

		cpuid_count(0xd, i, &size, &offset, &ecx, &edx);
		svm_caps.xsave_size = max(svm_caps.xsave_size, offset + size);
	}
	/* KVM_GET_XSAVE gives 4096 bytes; what does not fit is not offered. */
	if (svm_caps.xsave_size > PAGE_SIZE) {
		svm_caps.xcr0 &= XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM;
		svm_caps.xsave_size = 832;
	}
}

/* State after RESET#, in a page of zeroes. */
void fpu_init(struct vcpu *v)
{
	struct xregs_state *x = v->fpu;

	x->i387.cwd = 0x40;
	x->i387.twd = 0xff;
	x->i387.mxcsr = MXCSR_DEFAULT;
	x->header.xfeatures = svm_caps.xcr0 & (XFEATURE_MASK_FPSSE);
	v->xcr0 = XFEATURE_MASK_FP;
}

/* The guest's FXSAVE image, to be read and written; outside of a stay. */
void *fpu_image(struct vcpu *v)
{
	struct xregs_state *x = v->fpu;

	/* A component in its initial state is that, whatever the buffer has. */
	if (!svm_caps.xcr0)
		return &x->i387;
	if (!(x->header.xfeatures & XFEATURE_MASK_SSE))
		memset(x->i387.xmm_space, 0, sizeof(x->i387.xmm_space));
	if (!(x->header.xfeatures & XFEATURE_MASK_FP)) {
		memset(&x->i387, 0, offsetof(struct fxregs_state, mxcsr));
		memset(x->i387.st_space, 0, sizeof(x->i387.st_space));
		x->i387.cwd = 0x37f;
	}
	x->header.xfeatures |= XFEATURE_MASK_FPSSE;
	return &x->i387;
}

/** svm_get_fpu() - KVM_GET_FPU, into zeroes. */
void svm_get_fpu(struct vcpu *v, struct kvm_fpu *f)
{
	struct fxregs_state *fx = v->fpu;

	memcpy(f->fpr, fx->st_space, sizeof(f->fpr));
	f->fcw = fx->cwd;
	f->fsw = fx->swd;
	f->ftwx = fx->twd;
	f->last_opcode = fx->fop;
	f->last_ip = fx->rip;
	f->last_dp = fx->rdp;
	memcpy(f->xmm, fx->xmm_space, sizeof(f->xmm));
	f->mxcsr = fx->mxcsr;
}

/** svm_set_fpu() - KVM_SET_FPU. -EINVAL for reserved MXCSR bits (XRSTOR would #GP on them). */
int svm_set_fpu(struct vcpu *v, const struct kvm_fpu *f)
{
	struct xregs_state *x = v->fpu;
	struct fxregs_state *fx = &x->i387;

	if (f->mxcsr & ~mxcsr_mask)
		return -EINVAL;
	memcpy(fx->st_space, f->fpr, sizeof(f->fpr));
	fx->cwd = f->fcw;
	fx->swd = f->fsw;
	fx->twd = f->ftwx;
	fx->fop = f->last_opcode;
	fx->rip = f->last_ip;
	fx->rdp = f->last_dp;
	memcpy(fx->xmm_space, f->xmm, sizeof(f->xmm));
	fx->mxcsr = f->mxcsr;
	x->header.xfeatures |= svm_caps.xcr0 & (XFEATURE_MASK_FPSSE);
	return 0;
}

/** svm_get_xsave() - KVM_GET_XSAVE: 4096 bytes, standard format. */
void svm_get_xsave(struct vcpu *v, struct kvm_xsave *x)
{
	memcpy_and_pad(x->region, sizeof(x->region), v->fpu, svm_caps.xsave_size, 0);
	if (!svm_caps.xcr0)	/* FXSAVE only: say which parts are there all the same */
		((struct xregs_state *)x->region)->header.xfeatures = XFEATURE_MASK_FPSSE;
}

/** svm_set_xsave() - KVM_SET_XSAVE. -EINVAL for what XRSTOR would #GP on, or guests can't have. */
int svm_set_xsave(struct vcpu *v, const struct kvm_xsave *xs)
{
	const struct xregs_state *x = (const struct xregs_state *)xs->region;
	u64 allowed = svm_caps.xcr0 ?: XFEATURE_MASK_FPSSE;

	if (x->header.xfeatures & ~allowed || x->header.xcomp_bv ||
	    memchr_inv(x->header.reserved, 0, sizeof(x->header.reserved)) ||
	    x->i387.mxcsr & ~mxcsr_mask)
		return -EINVAL;
	memcpy(v->fpu, xs->region, svm_caps.xsave_size);
	return 0;
}

/** svm_get_xcrs() - KVM_GET_XCRS, into zeroes. */
void svm_get_xcrs(struct vcpu *v, struct kvm_xcrs *x)
{
	if (!svm_caps.xcr0)
		return;
	x->nr_xcrs = 1;
	x->xcrs[0].value = v->xcr0;
}

/* The rules of XSETBV (APM vol. 4). */
bool xcr0_valid(struct vcpu *v, u64 xcr0)
{
	if (!(xcr0 & XFEATURE_MASK_FP) || xcr0 & ~v->xcr0_allowed)
		return false;
	if ((xcr0 & XFEATURE_MASK_YMM) && !(xcr0 & XFEATURE_MASK_SSE))
		return false;
	if (xcr0 & XFEATURE_MASK_AVX512)
		return (~xcr0 & (XFEATURE_MASK_AVX512 | XFEATURE_MASK_YMM)) == 0;
	return true;
}

/** svm_set_xcrs() - KVM_SET_XCRS. -EINVAL for a value of XCR0 that XSETBV refuses, or flags. */
int svm_set_xcrs(struct vcpu *v, const struct kvm_xcrs *x)
{
	unsigned int i;

	if (!svm_caps.xcr0 || x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (i = 0; i < x->nr_xcrs; i++) {
		if (x->xcrs[i].xcr != XCR_XFEATURE_ENABLED_MASK)
			continue;
		if (!xcr0_valid(v, x->xcrs[i].value))
			return -EINVAL;
		v->xcr0 = x->xcrs[i].value;
		break;
	}
	return 0;
}
