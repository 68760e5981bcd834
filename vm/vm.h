/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of vm/ share: the device, VM and vCPU file descriptors, and events on eventfds. */
#ifndef SVM_VM_VM_H
#define SVM_VM_VM_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/spinlock.h>

#include "guest/guest.h"
#include "svm/svm.h"
#include "uapi/svm.h"

#define VCPU_MMAP_PAGES		3	/* run, port data, coalesced ring */
#define VM_MAX_EVENTS		1024	/* of each kind: irqfds, ioeventfds, coalesced zones */
#define VM_MAX_ROUTES		4096	/* entries of KVM_SET_GSI_ROUTING */

/* A VM with what only vm/ knows of it. */
struct machine {
	struct vm vm;
	struct list_head list;		/* Protected by: machines_lock (stats.c) */
	pid_t pid;			/* of the creator, for the names of statistics */
	unsigned int max_vcpu_id;	/* KVM_CAP_MAX_VCPU_ID; 0: not limited further */

	/* ioevent.c. The lists are changed with vm.lock held and read as the slots are */
	struct list_head io_events[2];	/* of memory, of ports */
	unsigned int nr_io_events, nr_zones;
	spinlock_t ring_lock;
	struct kvm_coalesced_mmio_ring *ring;	/* page 2 of each vCPU's mmap */

	/* irqfd.c. Changed with vm.lock held */
	struct list_head irqfds;
	struct list_head resamplers;	/* read under RCU */
	unsigned int nr_irqfds;
};

static inline struct machine *to_machine(struct vm *vm)
{
	return container_of(vm, struct machine, vm);
}

/* vm.c */
int vm_create_fd(void);
void vm_put(struct vm *vm);

/* vcpu.c */
int vcpu_create_fd(struct vm *vm, unsigned long id);
void vcpu_free(struct vcpu *v);

/* state.c. v->mutex is held */
void svm_get_regs(struct vcpu *v, struct kvm_regs *r);
int svm_set_regs(struct vcpu *v, const struct kvm_regs *r);
void svm_get_sregs(struct vcpu *v, struct kvm_sregs *s);
int svm_set_sregs(struct vcpu *v, const struct kvm_sregs *s);
void svm_get_sregs2(struct vcpu *v, struct kvm_sregs2 *s);
int svm_set_sregs2(struct vcpu *v, const struct kvm_sregs2 *s);
void svm_get_debugregs(struct vcpu *v, struct kvm_debugregs *d);
int svm_set_debugregs(struct vcpu *v, const struct kvm_debugregs *d);
void svm_get_vcpu_events(struct vcpu *v, struct kvm_vcpu_events *e);
int svm_set_vcpu_events(struct vcpu *v, const struct kvm_vcpu_events *e);
void svm_get_mp_state(struct vcpu *v, struct kvm_mp_state *m);
int svm_set_mp_state(struct vcpu *v, const struct kvm_mp_state *m);
int svm_set_mce(struct vcpu *v, const struct kvm_x86_mce *m);
int svm_interrupt(struct vcpu *v, const struct kvm_interrupt *i);
int svm_nmi(struct vcpu *v);
int svm_translate(struct vcpu *v, struct kvm_translation *t);
/* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_ADJUST_CLOCK, KVM_CAP_SYNC_REGS */
#define DIRTY_LOG_FLAGS	(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)
#define CLOCK_FLAGS	(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)
#define SYNC_REGS	(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
int sync_regs_in(struct vcpu *v);
void sync_regs_out(struct vcpu *v);

/* ioctl.c */
long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* cap.c */
int cap_check(unsigned long cap);

/* stats.c */
void stats_add_vm(struct machine *m);
void stats_del_vm(struct machine *m);
int stats_create_fd(struct vm *vm, struct vcpu *v);

/* ioevent.c, irqfd.c. The caller holds vm->lock, or is the last to know the VM. */
int ioeventfd_ioctl(struct machine *m, const struct kvm_ioeventfd *args);
int coalesced_register(struct machine *m, const struct kvm_coalesced_mmio_zone *zone);
int coalesced_unregister(struct machine *m, const struct kvm_coalesced_mmio_zone *zone);
void ioevents_release(struct machine *m);
int irqfd_ioctl(struct machine *m, const struct kvm_irqfd *args);
void irqfds_release(struct machine *m);

#endif
