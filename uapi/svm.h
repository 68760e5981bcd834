/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of /dev/svm is the KVM ioctl ABI, version 12, as <linux/kvm.h> declares it. Here stands
 * only what the headers of older kernels (6.1) do not have yet.
 */
#ifndef _UAPI_SVM_H
#define _UAPI_SVM_H

#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>

/* of 6.8 */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_CAP_USER_MEMORY2		231
#define KVM_CAP_MEMORY_FAULT_INFO	232
#define KVM_CAP_VM_TYPES		235
#define KVM_EXIT_MEMORY_FAULT		39
#define KVM_SET_USER_MEMORY_REGION2	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};
#endif

/* of 6.11 */
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY	236
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237
#define KVM_PRE_FAULT_MEMORY		_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#endif

/* kvm_run.memory_fault, which older headers do not have */
struct svm_memory_fault {
	__u64 flags;
	__u64 gpa;
	__u64 size;
};

#endif /* _UAPI_SVM_H */
