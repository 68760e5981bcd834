// SPDX-License-Identifier: GPL-2.0
/*
 * Counters that everyone may read: /sys/module/svm/parameters/{vms,vcpus,exits}. The first two are what exists now, the
 * last counts #VMEXITs since the module was loaded.
 */
#include <linux/moduleparam.h>
#include <linux/sysfs.h>

#include "vm/vm.h"

static DEFINE_MUTEX(machines_lock);
static LIST_HEAD(machines);	/* Protected by: machines_lock */
static u64 past_exits;		/* Protected by: machines_lock; of VMs that are gone */

static u64 vm_exits(struct vm *vm)
{
	struct vcpu *v;
	u64 sum = 0;
	unsigned int i;

	vm_for_each_vcpu(i, v, vm)
		sum += READ_ONCE(v->stat_exits);
	return sum;
}

/** stats_add_vm() - count a VM, now complete, in. Sleeps. */
void stats_add_vm(struct machine *m)
{
	mutex_lock(&machines_lock);
	list_add_tail(&m->list, &machines);
	mutex_unlock(&machines_lock);
}

/** stats_del_vm() - count a VM out while its vCPUs still exist. Sleeps. */
void stats_del_vm(struct machine *m)
{
	mutex_lock(&machines_lock);
	list_del(&m->list);
	past_exits += vm_exits(&m->vm);
	mutex_unlock(&machines_lock);
}

static int show_vms(char *buf, const struct kernel_param *kp)
{
	unsigned int n = 0;
	struct machine *m;

	mutex_lock(&machines_lock);
	list_for_each_entry(m, &machines, list)
		n++;
	mutex_unlock(&machines_lock);
	return sysfs_emit(buf, "%u\n", n);
}

static int show_vcpus(char *buf, const struct kernel_param *kp)
{
	unsigned int n = 0;
	struct machine *m;

	mutex_lock(&machines_lock);
	list_for_each_entry(m, &machines, list)
		n += READ_ONCE(m->vm.nr_vcpus);
	mutex_unlock(&machines_lock);
	return sysfs_emit(buf, "%u\n", n);
}

static int show_exits(char *buf, const struct kernel_param *kp)
{
	struct machine *m;
	u64 n;

	mutex_lock(&machines_lock);
	n = past_exits;
	list_for_each_entry(m, &machines, list)
		n += vm_exits(&m->vm);
	mutex_unlock(&machines_lock);
	return sysfs_emit(buf, "%llu\n", n);
}

/* The kernel calls .set without a look where the parameter is given at load. */
static int refuse(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops vms_ops = { .set = refuse, .get = show_vms };
static const struct kernel_param_ops vcpus_ops = { .set = refuse, .get = show_vcpus };
static const struct kernel_param_ops exits_ops = { .set = refuse, .get = show_exits };

module_param_cb(vms, &vms_ops, NULL, 0444);
__MODULE_PARM_TYPE(vms, "uint");
MODULE_PARM_DESC(vms, "Number of VMs (read-only)");
module_param_cb(vcpus, &vcpus_ops, NULL, 0444);
__MODULE_PARM_TYPE(vcpus, "uint");
MODULE_PARM_DESC(vcpus, "Number of vCPUs (read-only)");
module_param_cb(exits, &exits_ops, NULL, 0444);
__MODULE_PARM_TYPE(exits, "ullong");
MODULE_PARM_DESC(exits, "#VMEXITs since the module was loaded (read-only)");
