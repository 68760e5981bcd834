// SPDX-License-Identifier: GPL-2.0
/*
 * Guest FPU state as userspace sees it. The buffer v->fpu is in the standard XSAVE format (APM vol.
 * 2, 11.5): the 512-byte FXSAVE image, a 64-byte header, then the components at their CPUID
 * Fn0000_000D offsets.
 */
#include <linux/gfp.h>
#include <linux/kvm.h>
#include <linux/string.h>

#include "svm/exit.h"
#include "svm/fpu.h"

#define MXCSR_RESET	0x1f80
#define FCW_RESET	0x37f

struct fxsave_image {
	u16 fcw;		/* 0x000 */
	u16 fsw;
	u8 ftw;			/* abridged tag word */
	u8 reserved1;
	u16 fop;
	u64 fip;
	u64 fdp;
	u32 mxcsr;		/* 0x018 */
	u32 mxcsr_mask;
	u8 st[8][16];		/* 0x020 */
	u8 xmm[16][16];		/* 0x0a0 */
	u8 reserved2[96];
} __packed;
static_assert(sizeof(struct fxsave_image) == 512);

struct xsave_header {
	u64 xstate_bv;		/* 0x200 */
	u64 xcomp_bv;
	u64 reserved[6];
} __packed;

struct xsave_image {
	struct fxsave_image fx;
	struct xsave_header header;
} __packed;
static_assert(sizeof(struct xsave_image) == 576);

static u32 mxcsr_mask __ro_after_init;

static struct xsave_image *image(struct vcpu *v)
{
	return (struct xsave_image *)v->fpu;
}

/** fpu_probe() - find the components and size of the guest state; at load. */
void fpu_probe(void)
{
	struct fxsave_image fx __aligned(16) = {};
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
			(XSTATE_X87 | XSTATE_SSE | XSTATE_AVX | XSTATE_AVX512);
	svm_caps.xsave_size = sizeof(struct xsave_image);
	for (i = 2; i < 64; i++) {
		u32 size, offset, ecx, edx;

		if (!(svm_caps.xcr0 & BIT_ULL(i)))
			continue;
		cpuid_count(0xd, i, &size, &offset, &ecx, &edx);
		svm_caps.xsave_size = max(svm_caps.xsave_size, offset + size);
	}
	/* KVM_GET_XSAVE gives 4096 bytes; what does not fit is not offered. */
	if (svm_caps.xsave_size > PAGE_SIZE) {
		svm_caps.xcr0 &= XSTATE_X87 | XSTATE_SSE | XSTATE_AVX;
		svm_caps.xsave_size = 832;
	}
}

int fpu_alloc(struct vcpu *v)
{
	v->fpu = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->fpu)
		return -ENOMEM;
	fpu_reset(v);
	return 0;
}

void fpu_free(struct vcpu *v)
{
	free_page((unsigned long)v->fpu);
}

/** fpu_reset() - state after RESET#. */
void fpu_reset(struct vcpu *v)
{
	struct xsave_image *x = image(v);

	memset(x, 0, PAGE_SIZE);
	x->fx.fcw = 0x40;
	x->fx.ftw = 0xff;
	x->fx.mxcsr = MXCSR_RESET;
	x->header.xstate_bv = svm_caps.xcr0 & (XSTATE_X87 | XSTATE_SSE);
	v->xcr0 = XSTATE_X87;
}

/** fpu_image() - the guest's FXSAVE image, to be read and written; outside of a stay. */
void *fpu_image(struct vcpu *v)
{
	struct xsave_image *x = image(v);

	/* A component in its initial state is that, whatever the buffer has. */
	if (svm_caps.xcr0 && !(x->header.xstate_bv & XSTATE_SSE))
		memset(x->fx.xmm, 0, sizeof(x->fx.xmm));
	if (svm_caps.xcr0 && !(x->header.xstate_bv & XSTATE_X87)) {
		memset(&x->fx, 0, offsetof(struct fxsave_image, mxcsr));
		memset(x->fx.st, 0, sizeof(x->fx.st));
		x->fx.fcw = FCW_RESET;
	}
	if (svm_caps.xcr0)
		x->header.xstate_bv |= XSTATE_X87 | XSTATE_SSE;
	return &x->fx;
}

/** svm_get_fpu() - KVM_GET_FPU. */
void svm_get_fpu(struct vcpu *v, struct kvm_fpu *f)
{
	struct fxsave_image *fx = &image(v)->fx;

	memset(f, 0, sizeof(*f));
	memcpy(f->fpr, fx->st, sizeof(f->fpr));
	f->fcw = fx->fcw;
	f->fsw = fx->fsw;
	f->ftwx = fx->ftw;
	f->last_opcode = fx->fop;
	f->last_ip = fx->fip;
	f->last_dp = fx->fdp;
	memcpy(f->xmm, fx->xmm, sizeof(f->xmm));
	f->mxcsr = fx->mxcsr;
}

/** svm_set_fpu() - KVM_SET_FPU. -EINVAL for reserved MXCSR bits (XRSTOR would #GP on them). */
int svm_set_fpu(struct vcpu *v, const struct kvm_fpu *f)
{
	struct xsave_image *x = image(v);

	if (f->mxcsr & ~mxcsr_mask)
		return -EINVAL;
	memcpy(x->fx.st, f->fpr, sizeof(f->fpr));
	x->fx.fcw = f->fcw;
	x->fx.fsw = f->fsw;
	x->fx.ftw = f->ftwx;
	x->fx.fop = f->last_opcode;
	x->fx.fip = f->last_ip;
	x->fx.fdp = f->last_dp;
	memcpy(x->fx.xmm, f->xmm, sizeof(f->xmm));
	x->fx.mxcsr = f->mxcsr;
	x->header.xstate_bv |= svm_caps.xcr0 & (XSTATE_X87 | XSTATE_SSE);
	return 0;
}

/** svm_get_xsave() - KVM_GET_XSAVE: 4096 bytes, standard format. */
void svm_get_xsave(struct vcpu *v, struct kvm_xsave *x)
{
	memcpy(x->region, v->fpu, svm_caps.xsave_size);
	memset((u8 *)x->region + svm_caps.xsave_size, 0,
	       sizeof(x->region) - svm_caps.xsave_size);
	if (!svm_caps.xcr0)	/* FXSAVE only: say which parts are there all the same */
		((struct xsave_image *)x->region)->header.xstate_bv = XSTATE_X87 | XSTATE_SSE;
}

/**
 * svm_set_xsave() - KVM_SET_XSAVE.
 * @v: the vCPU
 * @xs: standard format, 4096 bytes
 *
 * Return: 0, or -EINVAL for what XRSTOR would #GP on: components that guests are not offered, the
 * compact format, reserved header or MXCSR bits.
 */
int svm_set_xsave(struct vcpu *v, const struct kvm_xsave *xs)
{
	const struct xsave_image *x = (const struct xsave_image *)xs->region;
	u64 allowed = svm_caps.xcr0 ?: XSTATE_X87 | XSTATE_SSE;

	if (x->header.xstate_bv & ~allowed || x->header.xcomp_bv ||
	    memchr_inv(x->header.reserved, 0, sizeof(x->header.reserved)) ||
	    x->fx.mxcsr & ~mxcsr_mask)
		return -EINVAL;
	memcpy(v->fpu, xs->region, svm_caps.xsave_size);
	return 0;
}

/** svm_xsave_size() - size for KVM_CAP_XSAVE2. */
unsigned int svm_xsave_size(void)
{
	return sizeof(struct kvm_xsave);
}

/** svm_get_xcrs() - KVM_GET_XCRS. */
void svm_get_xcrs(struct vcpu *v, struct kvm_xcrs *x)
{
	memset(x, 0, sizeof(*x));
	if (!svm_caps.xcr0)
		return;
	x->nr_xcrs = 1;
	x->xcrs[0].value = v->xcr0;
}

/** xcr0_valid() - the rules of XSETBV (APM vol. 4, XSETBV). */
bool xcr0_valid(struct vcpu *v, u64 xcr0)
{
	if (!(xcr0 & XSTATE_X87) || xcr0 & ~v->xcr0_allowed)
		return false;
	if ((xcr0 & XSTATE_AVX) && !(xcr0 & XSTATE_SSE))
		return false;
	if (xcr0 & XSTATE_AVX512)
		return (xcr0 & XSTATE_AVX512) == XSTATE_AVX512 && (xcr0 & XSTATE_AVX);
	return true;
}

/**
 * svm_set_xcrs() - KVM_SET_XCRS. -EINVAL for another register than XCR0, or a value that XSETBV
 * refuses.
 * @v: the vCPU
 * @x: the ioctl's argument
 */
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
