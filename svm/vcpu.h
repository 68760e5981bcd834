/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The two objects that vm/ creates and svm/ runs: a VM and its vCPUs.
 *
 * Fields stand in the order in which the exit path uses them. Those with no lock named are only
 * touched by the thread that holds vcpu->mutex (the one in KVM_RUN or in another vCPU ioctl).
 */
#ifndef SVM_VCPU_H
#define SVM_VCPU_H

#include <linux/kvm.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "irqchip/irqchip.h"
#include "mmu/mmu.h"
#include "svm/vmcb.h"

#define VM_MAX_VCPUS		IRQCHIP_MAX_VCPUS
#define VM_MAX_VCPU_IDS		4096
#define VCPU_MAX_CPUID		256

/* GPRs in the order of their encoding; RAX and RSP live in the VMCB between exits. */
enum {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8,
	NR_GPRS = 16
};

/* vcpu->requests: set by anyone with vcpu_request(), taken by the vCPU in the outer loop. */
#define REQ_KICK		0	/* only leave the guest and look around */
#define REQ_TLB_FLUSH		1	/* drop all translations of this ASID */
#define REQ_EVENT		2	/* an interrupt or APIC event became pending */
#define REQ_CLOCK		3	/* kvmclock page must be rewritten */
#define REQ_TRIPLE_FAULT	4	/* report KVM_EXIT_SHUTDOWN */
#define REQ_DEBUG		5	/* KVM_EXIT_DEBUG: stepped over an emulated instruction */
#define REQ_MSR_MAP		6	/* the VM's MSR filter has changed */
#define REQ_STEAL		7	/* the thread has lost its CPU: update steal time */
/* Those that leave a halted vCPU asleep. */
#define REQ_QUIET		(BIT(REQ_KICK) | BIT(REQ_TLB_FLUSH) | BIT(REQ_EVENT) | \
				 BIT(REQ_DEBUG) | BIT(REQ_STEAL))

/* Event to be delivered at the next VMRUN, or interrupted in its delivery by the last #VMEXIT. */
struct vcpu_exception {
	bool pending;		/* raised, not yet injected */
	bool injected;		/* was being delivered: inject again */
	bool has_error;
	bool soft;		/* INT3 or INTO of userspace's: RIP is still at the instruction */
	u8 vector;
	u32 error_code;
	bool has_payload;	/* payload (CR2/DR6) not yet in the register */
	u64 payload;
};

enum vcpu_mode { VCPU_OUTSIDE, VCPU_IN_GUEST };

struct vm;
struct vcpu_io;

struct vcpu {
	/* world switch */
	u64 regs[NR_GPRS];		/* offset 0: svm/enter.S; [RAX] and [RSP] unused there */
	struct vmcb *vmcb;
	u64 vmcb_pa;
	unsigned long requests;		/* Protected by: atomic bit operations */
	int mode;			/* enum vcpu_mode; ordering: see vcpu_request() */
	int cpu;			/* of the last stay, -1 never; stable while VCPU_IN_GUEST */
	struct kvm_run *run;		/* shared with userspace: never trust, never re-read */
	struct lapic *apic;		/* NULL without the in-kernel irqchip */
	struct vm *vm;

	/* what the inner loop must look at before the next VMRUN */
	bool check_events;		/* injection must be reconsidered; each ioctl sets it */
	bool injecting;			/* EVENTINJ or V_IRQ was filled: look at the outcome */
	bool virq;			/* it was V_IRQ */
	u8 vtpr;			/* V_TPR as of the last entry */
	bool can_sleep;			/* the handler runs in the outer loop */
	u64 xcr0;
	u64 spec_ctrl;
	u64 host_debugctl;		/* what a stay has taken out of DEBUGCTL */

	/* ASID and TLB (svm/asid.c) */
	u64 asid_generation;

	/* control and debug registers that the VMCB does not hold */
	u64 apic_base;			/* where there is no in-kernel APIC */
	u64 cr8;			/* TPR[7:4] where there is no in-kernel APIC */
	u64 dr[4];

	/* what userspace debugs (svm/debug.c), and what the guest has there meanwhile */
	u32 guest_debug;		/* KVM_GUESTDBG_* */
	bool step_tf;
	u64 debug_dr[4], debug_dr6, debug_dr7;
	u64 own_dr6, own_dr7;

	/* events; those of the group end with RESET and INIT */
	struct_group(events,
		struct vcpu_exception exception;
		bool delivering;	/* the last exit came of an event's delivery */
		bool nmi_injected, nmi_masked;
		u8 nmi_pending;		/* 0..2 */
		bool nmi_iret;		/* the IRET of the NMI handler was reached, at iret_rip */
		bool nmi_step;		/* stepping over that IRET */
		bool nmi_step_tf;	/* the guest's own TF meanwhile */
		bool irq_injected;	/* from the APIC, PIC or KVM_INTERRUPT, to be delivered */
		bool irq_lapic;		/* it came of lapic_accept() */
		bool irq_soft, irq_waits;	/* an INT n; an exception went first */
		u8 irq_vector;
	);
	u64 iret_rip;
	bool user_window;		/* userspace asked for an interrupt window */
	bool extint;			/* split irqchip: userspace's PIC wants extint_vector */
	u8 extint_vector;
	u64 shadow_hlt;			/* nested: address of a HLT in an interrupt shadow */
	bool eoi_exit;			/* split irqchip: KVM_EXIT_IOAPIC_EOI is due */
	int error;			/* errno for KVM_RUN with NEXT_ERROR */

	/* wake-up */
	struct rcuwait wait;
	unsigned int poll_ns;		/* how long to look out for an event before sleeping */
	u32 mp_state;			/* KVM_MP_STATE_* */

	/* guest FPU, standard XSAVE format, one page (svm/fpu.c) */
	void *fpu;

	/* MSRs with storage of their own (guest/msr.c) */
	u64 tsc_offset;
	u64 tsc_adjust;
	u64 tsc_aux;
	u32 tsc_khz;
	u64 misc_enable, platform_info, misc_features;
	u64 mcg_cap, mcg_status, mcg_ctl;
	u64 mce_banks[32 * 4];
	u64 mtrr_deftype, mtrr_var[16], mtrr_fixed[11];
	u64 hwcr;
	u64 patch_level, de_cfg;
	u64 arch_capabilities;
	u64 kvmclock_msr;		/* MSR_KVM_SYSTEM_TIME_NEW; bit 0: enabled */
	u64 wall_clock_msr;
	bool kvmclock_paused;		/* KVM_KVMCLOCK_CTRL: tell the guest at the next update */

	/* paravirtualization (guest/pv.c) */
	u32 pv_features;		/* KVM_FEATURE_* that the guest may use */
	bool pv_enforce;		/* those of its CPUID, not all */
	u64 steal_msr, pv_eoi_msr, poll_control;
	u64 steal_seen;			/* the thread's run delay as of the last update */
	bool pv_eoi_armed;		/* the guest may end its interrupt in memory */
	bool pv_unhalted;		/* KVM_HC_KICK_CPU: the next HLT ends at once. Any thread */
	struct pid __rcu *pid;		/* of the thread when it last lost its CPU */

	/* CPUID as set by userspace, and what follows from it (guest/cpuid.c) */
	struct kvm_cpuid_entry2 *cpuid;
	unsigned int cpuid_nent;
	u8 maxphyaddr;
	u32 features;			/* GF_* */
	u64 cr4_reserved;		/* CR4 bits that #GP */
	u64 xcr0_allowed, efer_allowed;
	u8 spec_ctrl_allowed;

	/* work of the last exit that userspace completes (svm/io.c) */
	struct vcpu_io *io;

	/* identity and life (vm/) */
	struct mutex mutex;		/* held in each vCPU ioctl, over all of KVM_RUN */
	u32 id;				/* KVM_CREATE_VCPU's number = initial APIC id */
	void *pio_data;			/* page 1 of the mmap: port data */
	bool sigset_active;
	sigset_t sigset;
	u64 stat_exits, stat_user_exits, stat_sleeps;
};

struct vm {
	struct memory mem;
	struct irqchip irqchip;

	/*
	 * Set by vm/ once an ioeventfd exists: takes a guest's write to a port or MMIO address.
	 * True where one matched. Must not sleep. The caller reads the slots, too.
	 */
	bool (*ioevent_write)(struct vm *vm, bool port, u64 addr, unsigned int len,
			      const void *data);
	/* Set by vm/ before irqchip.resampling: as irqchip_ops.eoi. */
	void (*eoi)(struct vm *vm, u32 input);

	struct cpumask flush_cpus;	/* Protected by: mem.npt_lock; of vm_flush() */
	unsigned int nr_vcpus;		/* published with smp_store_release() after vcpus[] */
	struct vcpu *vcpus[VM_MAX_VCPUS];

	/* kvmclock (guest/clock.c) */
	raw_spinlock_t clock_lock;
	u64 clock_ref_tsc;		/* Protected by: clock_lock; host TSC at which ... */
	u64 clock_ref_ns;		/* Protected by: clock_lock; ... kvmclock had this value */
	/* Protected by: clock_lock; last TSC written by userspace */
	u64 tsc_last_value, tsc_last_host, tsc_last_offset;
	u32 default_tsc_khz;

	/* KVM_ENABLE_CAP and KVM_X86_SET_MSR_FILTER, changed with lock held */
	struct msr_filter __rcu *msr_filter;	/* read as mem.slots are */
	u32 msr_exits;			/* KVM_MSR_EXIT_REASON_* */
	u32 hypercall_exits;		/* bits of KVM_HC_* that userspace serves */
	bool exception_payload, triple_fault_event;
	bool emulation_exits;		/* KVM_CAP_EXIT_ON_EMULATION_FAILURE: user code's, too */
	bool platform_info_hidden;	/* reading MSR_PLATFORM_INFO is #GP */
	bool hlt_in_guest;		/* HLT is not intercepted; set before the first vCPU */
	bool has_halt_poll;		/* halt_poll_ns counts, not the module's parameter */
	unsigned int halt_poll_ns;

	struct mutex lock;		/* creation of vCPUs and irqchip, KVM_ENABLE_CAP, clock */
	struct kref ref;
};

#define vm_for_each_vcpu(i, v, vm) \
	for ((i) = 0; \
	     /* vcpus[i] is complete before nr_vcpus says so */ \
	     (i) < smp_load_acquire(&(vm)->nr_vcpus) && ((v) = (vm)->vcpus[i]); (i)++)

/* Changing a cached part of the VMCB goes with this. */
static inline void vmcb_dirty(struct vcpu *v, u32 bits)
{
	v->vmcb->control.clean &= ~bits;
}

#endif
