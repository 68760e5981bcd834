// SPDX-License-Identifier: GPL-2.0
/*
 * Work that the kernel wants done before userspace or a guest runs on (task work, memcg throttling,
 * rseq, rescheduling).
 *
 * The one exported function for it takes a struct kvm_vcpu before 6.18, but only to count signals
 * and to set the exit reason in its kvm_run. Ours gets one that nobody reads. Its own file, because
 * of the headers it needs.
 */
#include <linux/kvm_host.h>
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#include <linux/entry-kvm.h>

static struct kvm_run sink_run;
static struct kvm_vcpu sink = { .run = &sink_run };
#define SINK	(&sink)
#else
#include <linux/entry-virt.h>
#define SINK
#endif

int compat_resume_work(void)
{
	return xfer_to_guest_mode_handle_work(SINK);
}
