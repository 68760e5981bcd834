/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel-version differences of what the run loop includes: accounting, RCU, speculation control.
 * Part of compat.h kept apart because of the headers it needs.
 */
#ifndef SVM_COMPAT_ENTRY_H
#define SVM_COMPAT_ENTRY_H

#include <linux/context_tracking.h>
#include <linux/irqflags.h>
#include <linux/rcupdate.h>
#include <linux/vtime.h>
#include <asm/nospec-branch.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <trace/events/ipi.h>	/* smp_send_reschedule() became a tracing macro */
#endif

/* 6.9 marked the field as one that userspace may change at any time. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#define COMPAT_IMMEDIATE_EXIT	immediate_exit__unsafe
#else
#define COMPAT_IMMEDIATE_EXIT	immediate_exit
#endif

#ifdef _TIF_NEED_RESCHED_LAZY
#define COMPAT_TIF_NEED_RESCHED_LAZY	_TIF_NEED_RESCHED_LAZY
#else
#define COMPAT_TIF_NEED_RESCHED_LAZY	0
#endif

#define COMPAT_IRQS_OFF(prefix, call)		\
	do {					\
		unsigned long flags;		\
						\
		prefix##_irq_save(flags);	\
		call;				\
		prefix##_irq_restore(flags);	\
	} while (0)

/* The stay counts as guest time. */
#define compat_guest_enter()	COMPAT_IRQS_OFF(local, vtime_account_guest_enter())
#define compat_guest_exit()	COMPAT_IRQS_OFF(local, vtime_account_guest_exit())

/* As for userspace, the tick that interrupts the guest is a quiescent state of RCU. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define compat_rcu_quiescent()	COMPAT_IRQS_OFF(local, rcu_virt_note_context_switch())
#else
#define compat_rcu_quiescent()	\
	COMPAT_IRQS_OFF(local, rcu_virt_note_context_switch(smp_processor_id()))
#endif

/* nohz_full: RCU does not watch this CPU between the two. GIF is 0, so IF may be on. */
#define compat_context_enter()	COMPAT_IRQS_OFF(raw_local, context_tracking_guest_enter())
#define compat_context_exit()	COMPAT_IRQS_OFF(raw_local, context_tracking_guest_exit())

/* Zen 5: where the kernel relies on it, branches of guests must not steer the host's (SRSO). */
static inline void compat_bp_spec_reduce(bool on)
{
#ifdef X86_FEATURE_SRSO_BP_SPEC_REDUCE
	u64 val;

	if (!cpu_feature_enabled(X86_FEATURE_SRSO_BP_SPEC_REDUCE))
		return;
	rdmsrq(MSR_ZEN4_BP_CFG, val);
	val &= ~BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);
	wrmsrq(MSR_ZEN4_BP_CFG, val | (u64)on << MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);
#endif
}

static __always_inline bool compat_ldt(void)
{
#ifdef CONFIG_MODIFY_LDT_SYSCALL
	return READ_ONCE(current->mm->context.ldt);
#else
	return false;
#endif
}

/* Another vCPU comes to this CPU. write_ibpb() is not for us on 7.x: write the MSR. */
#ifndef X86_FEATURE_USE_IBPB
#define X86_FEATURE_USE_IBPB	X86_FEATURE_IBPB
#endif
static __always_inline void compat_vcpu_switch_ibpb(void)
{
	if (cpu_feature_enabled(X86_FEATURE_USE_IBPB))
		wrmsrq(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
}

static __always_inline void compat_ibpb_exit_to_user(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

#endif
