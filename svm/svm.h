/* SPDX-License-Identifier: GPL-2.0 */
/* The CPU half as vm/ sees it. All take vcpu->mutex as held, except where said. */
#ifndef SVM_SVM_H
#define SVM_SVM_H

#include <linux/kvm_para.h>

#include "svm/vcpu.h"

/* --- module life (svm/enable.c) --- */
/* probes; one clear log line for each refusal. -ENODEV, -EOPNOTSUPP, -ENOMEM */
int svm_module_init(void);
void svm_module_exit(void);
/* first VM enables SVM on all CPUs: -EBUSY where SVME is already set. Sleeps. */
int svm_hardware_get(void);
void svm_hardware_put(void);

/* --- VM (svm/vcpu.c) --- */
int svm_vm_init(struct vm *vm);		/* memory, irqchip base, clock; current->mm is the owner */
void svm_vm_destroy(struct vm *vm);	/* after the last vCPU is gone */

/* --- vCPU life (svm/vcpu.c) --- */
/* v->vm, id, index, run, pio_data are set; state as after RESET */
int svm_vcpu_init(struct vcpu *v);
void svm_vcpu_destroy(struct vcpu *v);
void vcpu_request(struct vcpu *v, int req);	/* sets the bit and kicks; any context */
void vcpu_kick(struct vcpu *v);			/* any context */

/*
 * KVM_RUN without the signal-mask handling: completes the userspace part of the last exit, then
 * runs until the next one. 0 with kvm_run filled, -EINTR (exit_reason KVM_EXIT_INTR; immediate_exit
 * leaves it), -EAGAIN, -EFAULT, -EIO, -ENOMEM.
 */
int svm_vcpu_run(struct vcpu *v);

/* --- state (svm/state.c, fpu.c, msr.c, cpuid.c, events.c) --- */
void svm_get_regs(struct vcpu *v, struct kvm_regs *r);
int svm_set_regs(struct vcpu *v, const struct kvm_regs *r);
void svm_get_sregs(struct vcpu *v, struct kvm_sregs *s);
int svm_set_sregs(struct vcpu *v, const struct kvm_sregs *s);
void svm_get_sregs2(struct vcpu *v, struct kvm_sregs2 *s);
int svm_set_sregs2(struct vcpu *v, const struct kvm_sregs2 *s);
void svm_get_fpu(struct vcpu *v, struct kvm_fpu *f);
int svm_set_fpu(struct vcpu *v, const struct kvm_fpu *f);
/* exactly 4096 bytes, zero-filled */
void svm_get_xsave(struct vcpu *v, struct kvm_xsave *x);
int svm_set_xsave(struct vcpu *v, const struct kvm_xsave *x);
unsigned int svm_xsave_size(void);				/* KVM_CAP_XSAVE2: >= 4096 */
void svm_get_xcrs(struct vcpu *v, struct kvm_xcrs *x);
int svm_set_xcrs(struct vcpu *v, const struct kvm_xcrs *x);
void svm_get_debugregs(struct vcpu *v, struct kvm_debugregs *d);
int svm_set_debugregs(struct vcpu *v, const struct kvm_debugregs *d);
void svm_get_vcpu_events(struct vcpu *v, struct kvm_vcpu_events *e);
int svm_set_vcpu_events(struct vcpu *v, const struct kvm_vcpu_events *e);
int svm_get_mp_state(struct vcpu *v, struct kvm_mp_state *m);
int svm_set_mp_state(struct vcpu *v, const struct kvm_mp_state *m);
int svm_get_msr(struct vcpu *v, u32 index, u64 *data, bool host);	/* 0 or -EINVAL */
int svm_set_msr(struct vcpu *v, u32 index, u64 data, bool host);
int svm_get_feature_msr(u32 index, u64 *data);				/* 0 or -EINVAL */
const u32 *svm_msr_list(unsigned int *nr);		/* KVM_GET_MSR_INDEX_LIST */
const u32 *svm_feature_msr_list(unsigned int *nr);
void svm_enforce_pv(struct vcpu *v, bool on);
/* takes over e (kvmalloc) on 0 */
int svm_set_cpuid(struct vcpu *v, struct kvm_cpuid_entry2 *e, unsigned int nent);
void svm_cpuid_registers(struct vcpu *v, struct kvm_cpuid_entry2 *e);
/* -E2BIG with *nent needed */
int svm_supported_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent);
/* KVM_CAP_EXIT_HYPERCALL: what userspace may ask for */
#define SVM_USER_HYPERCALLS	BIT(KVM_HC_MAP_GPA_RANGE)
/* PAUSE is never intercepted. */
#define SVM_DISABLED_EXITS	(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE)

int svm_emulated_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent);
int svm_interrupt(struct vcpu *v, const struct kvm_interrupt *i);
int svm_nmi(struct vcpu *v);
int svm_set_guest_debug(struct vcpu *v, const struct kvm_guest_debug *d);
u32 svm_guest_debug_flags(void);			/* KVM_CAP_SET_GUEST_DEBUG2 */
u32 svm_sync_regs_flags(void);				/* KVM_CAP_SYNC_REGS */
/* vm->lock; -EINVAL: flags, not ours, args */
int svm_enable_cap(struct vm *vm, const struct kvm_enable_cap *e);
/* vm->lock; -EINVAL, -EFAULT, -ENOMEM */
int svm_set_msr_filter(struct vm *vm, const struct kvm_msr_filter *f);
void svm_set_tsc_offset(struct vcpu *v, u64 offset);	/* KVM_VCPU_TSC_OFFSET */
int svm_translate(struct vcpu *v, struct kvm_translation *t);
/* 0: the host's. -EINVAL where it would need scaling that is not there */
int svm_set_tsc_khz(struct vcpu *v, u32 khz);
u32 svm_get_tsc_khz(struct vcpu *v);
int svm_kvmclock_ctrl(struct vcpu *v);
int svm_setup_mce(struct vcpu *v, u64 mcg_cap);
int svm_set_mce(struct vcpu *v, const struct kvm_x86_mce *m);
u64 svm_mce_cap_supported(void);
/* TPR-shadow page of old Windows: accepted, validated */
int svm_set_vapic_addr(struct vcpu *v, u64 addr);
void svm_get_clock(struct vm *vm, struct kvm_clock_data *c);
int svm_set_clock(struct vm *vm, const struct kvm_clock_data *c);
bool svm_has_tsc_control(void);

u64 svm_apic_base(struct vcpu *v);
int svm_set_apic_base(struct vcpu *v, u64 data, bool host);

/* Called by vm/ right after an in-kernel LAPIC may exist: creates v->apic. */
int svm_create_apic(struct vcpu *v);

#endif
