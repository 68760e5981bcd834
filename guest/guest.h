/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest's processor has beside the VMCB: CPUID, the values of MSRs, time, paravirtual
 * features. For svm/'s exit handlers and vm/'s ioctls; of what lies above, guest/ shares struct
 * vcpu and calls vcpu_request() and vm_request() only. All take vcpu->mutex as held, except where
 * said.
 */
#ifndef SVM_GUEST_H
#define SVM_GUEST_H

#include <linux/kvm_para.h>
#include <linux/uaccess.h>

#include "svm/vcpu.h"

/* Guest features digested from its CPUID (v->features). */
#define GF_1G		BIT(0)
#define GF_RDTSCP	BIT(1)
#define GF_IBPB		BIT(2)
#define GF_X2APIC	BIT(3)
#define GF_TSC_ADJUST	BIT(4)
#define GF_ARCH_CAP	BIT(5)
#define GF_RDPID	BIT(6)

static inline u64 guest_efer(const struct vcpu *v)
{
	return v->vmcb->save.efer & ~EFER_SVME;	/* SVM itself is not offered to guests */
}

/* mem_access(), asleep or not as the handler may: else a host page may be missing too. */
static inline int guest_access(struct vcpu *v, u64 gpa, void *buf, unsigned int len, bool write)
{
	int r;

	if (v->can_sleep)
		return mem_access(&v->vm->mem, gpa, buf, len, write);
	pagefault_disable();
	r = mem_access(&v->vm->mem, gpa, buf, len, write);
	pagefault_enable();
	return r;
}

/* --- cpuid.c --- */
static inline const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *v, u32 function,
							u32 index)
{
	const struct kvm_cpuid_entry2 *e = v->cpuid, *end = e + v->cpuid_nent;

	for (; e < end; e++) {
		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

void cpuid_update(struct vcpu *v);
int guest_set_cpuid(struct vcpu *v, struct kvm_cpuid_entry2 *e, unsigned int nent);
void guest_cpuid_registers(struct vcpu *v, struct kvm_cpuid_entry2 *e);
int guest_supported_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent);
int guest_emulated_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent);
void guest_enforce_pv(struct vcpu *v, bool on);

/* --- msr.c --- */
#define MAX_MCE_BANKS	32
#define MCG_CTL_P	BIT_ULL(8)
#define MCG_CAP_SUPPORTED (MCG_CTL_P | BIT_ULL(24))	/* and SER_P */

static inline u64 guest_apic_base(const struct vcpu *v)
{
	return v->apic ? v->apic->base : v->apic_base;
}

void msr_init(struct vcpu *v);
int guest_get_msr(struct vcpu *v, u32 index, u64 *data, bool host);	/* 0, -EINVAL, -ENOENT */
int guest_set_msr(struct vcpu *v, u32 index, u64 data, bool host);
int guest_get_feature_msr(u32 index, u64 *data);			/* 0 or -EINVAL */
const u32 *guest_msr_list(bool features, unsigned int *nr);
int guest_setup_mce(struct vcpu *v, u64 mcg_cap);
int guest_set_apic_base(struct vcpu *v, u64 data, bool host);

/* --- clock.c --- */
void clock_init(struct vm *vm);
void clock_update(struct vcpu *v);		/* writes the kvmclock page; sleeps */
void clock_write_wall(struct vcpu *v, u64 gpa);
bool write_versioned(struct memory *mem, u64 version_gpa, u64 gpa, const void *data,
		     unsigned int len);
u64 guest_tsc(struct vcpu *v);
void tsc_write(struct vcpu *v, u64 data, bool host);
void tsc_set_offset(struct vcpu *v, u64 offset);
int guest_check_tsc_khz(u32 khz);		/* 0 or -EINVAL */
int guest_kvmclock_ctrl(struct vcpu *v);
void guest_get_clock(struct vm *vm, struct kvm_clock_data *c);
int guest_set_clock(struct vm *vm, const struct kvm_clock_data *c);

/* --- pv.c --- */
static inline bool pv_has(const struct vcpu *v, unsigned int feature)
{
	return v->pv_features & BIT(feature);
}

#define PV_NEEDS_APIC	((u32)(BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) | \
			       BIT(KVM_FEATURE_PV_SEND_IPI)))

u32 pv_supported(void);
void pv_reset(struct vcpu *v);
void pv_sched_out(struct vcpu *v);
void pv_steal_update(struct vcpu *v);
void pv_steal_look(struct vcpu *v);
void pv_eoi_arm(struct vcpu *v);
void pv_eoi_sync(struct vcpu *v);

#endif
