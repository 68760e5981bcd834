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

/* --- state (svm/fpu.c, debug.c, vcpu.c, msr_filter.c) --- */
void svm_get_fpu(struct vcpu *v, struct kvm_fpu *f);
int svm_set_fpu(struct vcpu *v, const struct kvm_fpu *f);
/* exactly 4096 bytes, zero-filled */
void svm_get_xsave(struct vcpu *v, struct kvm_xsave *x);
int svm_set_xsave(struct vcpu *v, const struct kvm_xsave *x);
unsigned int svm_xsave_size(void);				/* KVM_CAP_XSAVE2: >= 4096 */
void svm_get_xcrs(struct vcpu *v, struct kvm_xcrs *x);
int svm_set_xcrs(struct vcpu *v, const struct kvm_xcrs *x);
/* KVM_CAP_EXIT_HYPERCALL: what userspace may ask for */
#define SVM_USER_HYPERCALLS	BIT(KVM_HC_MAP_GPA_RANGE)
/* PAUSE is never intercepted. */
#define SVM_DISABLED_EXITS	(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE)

int svm_set_guest_debug(struct vcpu *v, const struct kvm_guest_debug *d);
u32 svm_guest_debug_flags(void);			/* KVM_CAP_SET_GUEST_DEBUG2 */
/* vm->lock; -EINVAL: flags, not ours, args */
int svm_enable_cap(struct vm *vm, const struct kvm_enable_cap *e);
/* vm->lock; -EINVAL, -EFAULT, -ENOMEM */
int svm_set_msr_filter(struct vm *vm, const struct kvm_msr_filter *f);


/* Called by vm/ right after an in-kernel LAPIC may exist: creates v->apic. */
int svm_create_apic(struct vcpu *v);

#endif
