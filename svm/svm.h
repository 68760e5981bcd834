/* SPDX-License-Identifier: GPL-2.0 */
/* The CPU half as vm/ sees it. All take vcpu->mutex as held, except where said. */
#ifndef SVM_SVM_H
#define SVM_SVM_H

#include <linux/kvm_para.h>

#include "svm/vcpu.h"

/* --- module life (svm/enable.c) --- */
int svm_module_init(void);
void svm_module_exit(void);
int svm_hardware_get(void);
void svm_hardware_put(void);

/* --- VM and vCPU (svm/vcpu.c, run.c) --- */
int svm_vm_init(struct vm *vm);
void svm_vm_destroy(struct vm *vm);
int svm_vcpu_init(struct vcpu *v);
void svm_vcpu_destroy(struct vcpu *v);
int svm_create_apic(struct vcpu *v);
void vcpu_request(struct vcpu *v, int req);
void vm_request(struct vm *vm, int req);
void vcpu_kick(struct vcpu *v);
int svm_vcpu_run(struct vcpu *v);

/* --- state (svm/fpu.c, debug.c, vcpu.c, msr.c) --- */
void svm_get_fpu(struct vcpu *v, struct kvm_fpu *f);
int svm_set_fpu(struct vcpu *v, const struct kvm_fpu *f);
void svm_get_xsave(struct vcpu *v, struct kvm_xsave *x);
int svm_set_xsave(struct vcpu *v, const struct kvm_xsave *x);
void svm_get_xcrs(struct vcpu *v, struct kvm_xcrs *x);
int svm_set_xcrs(struct vcpu *v, const struct kvm_xcrs *x);
/* KVM_CAP_EXIT_HYPERCALL: what userspace may ask for */
#define SVM_USER_HYPERCALLS	BIT(KVM_HC_MAP_GPA_RANGE)
/* KVM_X86_DISABLE_EXITS_* that may be asked for; PAUSE is never intercepted */
extern u32 svm_disabled_exits;

/* KVM_CAP_SET_GUEST_DEBUG2 */
#define SVM_GUESTDBG_FLAGS	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | \
				 KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP | \
				 KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | \
				 KVM_GUESTDBG_BLOCKIRQ)
int svm_set_guest_debug(struct vcpu *v, const struct kvm_guest_debug *d);
int svm_enable_cap(struct vm *vm, const struct kvm_enable_cap *e);
int svm_set_msr_filter(struct vm *vm, const struct kvm_msr_filter *f);

#endif
