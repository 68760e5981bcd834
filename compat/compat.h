/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that svm.ko builds against (6.1, 6.12, 7.x).
 *
 * Force-included before every kernel file of the module (see Kbuild); no other file tests
 * LINUX_VERSION_CODE.
 */
#ifndef SVM_COMPAT_H
#define SVM_COMPAT_H

#ifdef __KERNEL__
#ifndef __ASSEMBLY__

#undef pr_fmt
#define pr_fmt(fmt) "svm: " fmt

#include <linux/version.h>
#include <linux/kernel.h>
#include <linux/types.h>
#include <linux/build_bug.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <asm/msr.h>

/* 6.16 moved cpuid_eax() and its kin out of <asm/processor.h>. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#include <asm/cpuid/api.h>
#endif

/* 6.18 renamed the 64-bit MSR accessors (rdmsrl became rdmsrq). */
#ifndef rdmsrq
#define rdmsrq(msr, val)	rdmsrl(msr, val)
#define wrmsrq(msr, val)	wrmsrl(msr, val)
#define rdmsrq_safe(msr, p)	rdmsrl_safe(msr, p)
#define wrmsrq_safe(msr, val)	wrmsrl_safe(msr, val)
#endif

/* 6.13 introduced hrtimer_setup(); 6.15 made the function pointer private. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void compat_hrtimer_setup(struct hrtimer *timer,
					enum hrtimer_restart (*fn)(struct hrtimer *),
					clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = fn;
}
#define hrtimer_setup compat_hrtimer_setup
#endif

/*
 * Newer kernels, and stable ones they were backported to, give syscore callbacks a data pointer
 * (see Kbuild).
 */
#ifdef SVM_HAVE_REGISTER_SYSCORE
#define COMPAT_SYSCORE(name, suspend_fn, resume_fn, shutdown_fn)				\
	static int name##_suspend(void *data) { return suspend_fn(); }				\
	static void name##_resume(void *data) { resume_fn(); }					\
	static void name##_shutdown(void *data) { shutdown_fn(); }				\
	static const struct syscore_ops name##_ops = {						\
		.suspend = name##_suspend,							\
		.resume = name##_resume,							\
		.shutdown = name##_shutdown,							\
	};											\
	static struct syscore name = { .ops = &name##_ops }
#define compat_register_syscore(s)	register_syscore(s)
#define compat_unregister_syscore(s)	unregister_syscore(s)
#else
#define COMPAT_SYSCORE(name, suspend_fn, resume_fn, shutdown_fn)				\
	static struct syscore_ops name = {							\
		.suspend = suspend_fn,								\
		.resume = resume_fn,								\
		.shutdown = shutdown_fn,							\
	}
#define compat_register_syscore(s)	register_syscore_ops(s)
#define compat_unregister_syscore(s)	unregister_syscore_ops(s)
#endif

/*
 * Emergency callback (crash, kexec): a single slot on kernels that export it. 6.1 backports the
 * hook too; where it is gone (7.x) the kernel clears SVME by itself.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define compat_emergency_register(fn)	cpu_emergency_register_virt_callback(fn)
/* It waits for an RCU grace period; these are exported, but no public header has them. */
void rcu_expedite_gp(void);
void rcu_unexpedite_gp(void);
#define compat_emergency_unregister(fn)				\
	do {							\
		rcu_expedite_gp();				\
		cpu_emergency_unregister_virt_callback(fn);	\
		rcu_unexpedite_gp();				\
	} while (0)
#else
#define compat_emergency_register(fn)	((void)(fn))
#define compat_emergency_unregister(fn)	((void)(fn))
#endif

/* 6.8 took the count away from eventfd_signal(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define compat_eventfd_signal(ctx)	((void)eventfd_signal(ctx, 1))
#else
#define compat_eventfd_signal(ctx)	eventfd_signal(ctx)
#endif

/* 6.4 made a word of 64 flags of kvm_run.hypercall.longmode and its padding. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define compat_set_hypercall_long(run, on)	\
	((run)->hypercall.longmode = (on), (run)->hypercall.pad = 0)
#else
#define compat_set_hypercall_long(run, on)	((run)->hypercall.flags = (on))
#endif

/* resume.c: what the thread's TIF flags ask for. May sleep. 0, or -EINTR: a signal is pending. */
int compat_resume_work(void);

#endif /* !__ASSEMBLY__ */
#endif /* __KERNEL__ */
#endif /* SVM_COMPAT_H */
