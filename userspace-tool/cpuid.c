// SPDX-License-Identifier: GPL-2.0
/* CPUID: what the device supports, with each vCPU's own ids and the shape of this machine. */
#include "vm.h"

/* Asks the device once what it supports. */
int cpuid_read(struct vm *vm)
{
	vm->cpuid.head.nent = sizeof(vm->cpuid.entries) / sizeof(vm->cpuid.entries[0]);
	return vm_ioctl(vm->dev, KVM_GET_SUPPORTED_CPUID, &vm->cpuid, "read the supported CPUID");
}

/* Every vCPU is a core of its own in one package, say all these leaves (APM vol. 3, appendix E). */
static void patch(const struct vcpu *vcpu, struct kvm_cpuid_entry2 *e)
{
	unsigned int id = vcpu->id, n = vcpu->vm->options->cpus, bits = 0;

	while (1u << bits < n)
		bits++;
	switch (e->function) {
	case 0x1:
		e->ebx = (e->ebx & 0xffff) | n << 16 | id << 24;
		e->ecx |= 1u << 31; /* under a hypervisor */
		/* The device reports the deadline timer apart, as it needs the in-kernel APIC. */
		if (!vcpu->vm->options->flat.data &&
		    ioctl(vcpu->vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			e->ecx |= 1 << 24;
		e->edx = (e->edx & ~(1u << 28)) | (n > 1) << 28;
		break;
	case 0xb:
		e->eax = e->index == 1 ? bits : 0;
		e->ebx = e->index == 0 ? 1 : e->index == 1 ? n : 0;
		e->ecx = e->index | (e->index < 2 ? (e->index + 1) << 8 : 0);
		e->edx = id;
		break;
	case 0x80000001:
		e->ecx = (e->ecx & ~(1u << 1)) | (n > 1) << 1; /* CmpLegacy */
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffu) | bits << 12 | (n - 1);
		break;
	case 0x8000001d: /* no cache is shared */
		e->eax &= ~(0xfffu << 14);
		break;
	case 0x8000001e:
		e->eax = e->ebx = id;
		e->ecx = 0;
		break;
	}
}

/* Gives a vCPU its CPUID. */
int cpuid_install(struct vcpu *vcpu)
{
	struct cpuid own = vcpu->vm->cpuid;

	for (unsigned int i = 0; i < own.head.nent; i++)
		patch(vcpu, &own.entries[i]);
	return vm_ioctl(vcpu->fd, KVM_SET_CPUID2, &own, "set a vCPU's CPUID");
}
