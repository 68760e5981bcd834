// SPDX-License-Identifier: GPL-2.0
/* KVM_CHECK_EXTENSION: one table. What is not in it is answered with 0. */
#include <linux/cpumask.h>
#include <linux/sched/stat.h>

#include "vm/vm.h"

#define NR_MCE_BANKS	32

struct capability {
	u32 cap;
	int value;
	int (*get)(void);	/* instead of value */
};

static int online_cpus(void)
{
	return min_t(unsigned int, num_online_cpus(), VM_MAX_VCPUS);
}

static int tsc_control(void)
{
	return guest_has_tsc_control();
}

static int xsave_size(void)
{
	return svm_xsave_size();
}

static int guest_debug(void)
{
	return svm_guest_debug_flags();
}

static int sync_regs(void)
{
	return svm_sync_regs_flags();
}

static int steal_time(void)
{
	return sched_info_on();
}

static const struct capability capabilities[] = {
	/* objects and the device itself */
	{ KVM_CAP_CHECK_EXTENSION_VM, 1 },
	{ KVM_CAP_VM_TYPES, BIT(0) },
	{ KVM_CAP_NR_VCPUS, .get = online_cpus },
	{ KVM_CAP_MAX_VCPUS, VM_MAX_VCPUS },
	{ KVM_CAP_MAX_VCPU_ID, VM_MAX_VCPU_IDS },
	{ KVM_CAP_BINARY_STATS_FD, 1 },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_INTERNAL_ERROR_DATA, 1 },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },

	/* memory */
	{ KVM_CAP_USER_MEMORY, 1 },
	{ KVM_CAP_USER_MEMORY2, 1 },
	{ KVM_CAP_NR_MEMSLOTS, MEM_NR_SLOTS },
	{ KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
	{ KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
	{ KVM_CAP_SYNC_MMU, 1 },
	{ KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1 },
	{ KVM_CAP_READONLY_MEM, 1 },
	{ KVM_CAP_SET_TSS_ADDR, 1 },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
	  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET },
	{ KVM_CAP_MEMORY_FAULT_INFO, 1 },
	{ KVM_CAP_PRE_FAULT_MEMORY, 1 },
	{ KVM_CAP_COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET },
	{ KVM_CAP_COALESCED_PIO, 1 },

	/* vCPU state */
	{ KVM_CAP_HLT, 1 },
	{ KVM_CAP_HALT_POLL, 1 },
	{ KVM_CAP_X86_DISABLE_EXITS, SVM_DISABLED_EXITS },
	{ KVM_CAP_EXT_CPUID, 1 },
	{ KVM_CAP_EXT_EMUL_CPUID, 1 },
	{ KVM_CAP_GET_MSR_FEATURES, 1 },
	{ KVM_CAP_MSR_PLATFORM_INFO, 1 },
	{ KVM_CAP_MP_STATE, 1 },
	{ KVM_CAP_VCPU_EVENTS, 1 },
	{ KVM_CAP_INTR_SHADOW, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG2, .get = guest_debug },
	{ KVM_CAP_X86_ROBUST_SINGLESTEP, 1 },
	{ KVM_CAP_SYNC_REGS, .get = sync_regs },
	{ KVM_CAP_ENABLE_CAP, 1 },
	{ KVM_CAP_ENABLE_CAP_VM, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, 1 },
	{ KVM_CAP_X86_MSR_FILTER, 1 },
	{ KVM_CAP_EXIT_HYPERCALL, SVM_USER_HYPERCALLS },
	{ KVM_CAP_VCPU_ATTRIBUTES, 1 },
	{ KVM_CAP_NESTED_STATE, sizeof(struct kvm_nested_state) },
	{ KVM_CAP_XSAVE, 1 },
	{ KVM_CAP_XSAVE2, .get = xsave_size },
	{ KVM_CAP_XCRS, 1 },
	{ KVM_CAP_SREGS2, 1 },
	{ KVM_CAP_MCE, NR_MCE_BANKS },
	{ KVM_CAP_USER_NMI, 1 },
	{ KVM_CAP_SET_BOOT_CPU_ID, 1 },

	/* time */
	{ KVM_CAP_CLOCKSOURCE, 1 },
	{ KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC },
	{ KVM_CAP_KVMCLOCK_CTRL, 1 },
	{ KVM_CAP_GET_TSC_KHZ, 1 },
	{ KVM_CAP_TSC_CONTROL, .get = tsc_control },
	{ KVM_CAP_VM_TSC_CONTROL, .get = tsc_control },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1 },
	{ KVM_CAP_NOP_IO_DELAY, 1 },
	{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1 },
	{ KVM_CAP_STEAL_TIME, .get = steal_time },

	/* interrupts */
	{ KVM_CAP_IRQCHIP, 1 },
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1 },	/* a VM's: what it has */
	{ KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS |
	  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK },
	{ KVM_CAP_IRQ_ROUTING, IRQCHIP_MAX_GSI },
	{ KVM_CAP_IRQ_INJECT_STATUS, 1 },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_PIT2, 1 },
	{ KVM_CAP_PIT_STATE2, 1 },
	{ KVM_CAP_REINJECT_CONTROL, 1 },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_IRQFD_RESAMPLE, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, 1 },
};

/** cap_check() - KVM_CHECK_EXTENSION on the device, and nearly all of it on VMs. */
int cap_check(unsigned long cap)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(capabilities); i++) {
		const struct capability *c = &capabilities[i];

		if (c->cap == cap)
			return c->get ? c->get() : c->value;
	}
	return 0;
}
