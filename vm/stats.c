// SPDX-License-Identifier: GPL-2.0
/*
 * Counters that everyone may read, /sys/module/svm/parameters/{vms,vcpus,exits}: what exists now,
 * #VMEXITs since the module was loaded. And the statistics of VMs and vCPUs (KVM_GET_STATS_FD).
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "vm/vm.h"

static DEFINE_MUTEX(machines_lock);
static LIST_HEAD(machines);	/* Protected by: machines_lock */
static u64 past_exits;		/* Protected by: machines_lock; of VMs that are gone */
/* Protected by: machines_lock; the parameters, counted when one is read. */
static struct { u64 vms, vcpus, exits; } total;

static u64 vm_exits(struct vm *vm)
{
	struct vcpu *v;
	u64 sum = 0;
	unsigned int i;

	vm_for_each_vcpu(i, v, vm)
		sum += READ_ONCE(v->stat_exits);
	return sum;
}

/* The VM is complete. Sleeps. */
void stats_add_vm(struct machine *m)
{
	mutex_lock(&machines_lock);
	list_add_tail(&m->list, &machines);
	mutex_unlock(&machines_lock);
}

/* The VM goes; its vCPUs still exist. Sleeps. */
void stats_del_vm(struct machine *m)
{
	mutex_lock(&machines_lock);
	list_del(&m->list);
	past_exits += vm_exits(&m->vm);
	mutex_unlock(&machines_lock);
}

/* @kp->arg is one of total's. */
static int show(char *buf, const struct kernel_param *kp)
{
	struct machine *m;
	int r;

	mutex_lock(&machines_lock);
	memset(&total, 0, sizeof(total));
	total.exits = past_exits;
	list_for_each_entry(m, &machines, list) {
		total.vms++;
		total.vcpus += READ_ONCE(m->vm.nr_vcpus);
		total.exits += vm_exits(&m->vm);
	}
	r = sysfs_emit(buf, "%llu\n", *(u64 *)kp->arg);
	mutex_unlock(&machines_lock);
	return r;
}

/* --- statistics files --- */

#define NAME_SIZE	48
#define MAX_STATS	5

#define COUNTER		(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)
#define INSTANT		(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)

/* What a file shows. The VM is kept by a reference. */
struct stats_file {
	struct vm *vm;
	struct vcpu *v;		/* NULL: the VM as a whole */
};

/* struct kvm_stats_desc, whose name has no length */
struct stat_desc {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset;
	u32 bucket_size;
	char name[NAME_SIZE];
};

static_assert(offsetof(struct stat_desc, name) == offsetof(struct kvm_stats_desc, name));

/* All of a file. */
struct stats_image {
	struct kvm_stats_header header;
	char id[NAME_SIZE];
	struct stat_desc desc[MAX_STATS];
	u64 data[MAX_STATS];
};

static void add_stat(struct stats_image *image, const char *name, u32 flags, u64 value)
{
	u32 n = image->header.num_desc++;
	struct stat_desc *d = &image->desc[n];

	d->flags = flags;
	d->size = 1;
	d->offset = n * sizeof(u64);
	strscpy(d->name, name, NAME_SIZE);
	image->data[n] = value;
}

static ssize_t stats_read(struct file *file, char __user *user, size_t count, loff_t *pos)
{
	struct stats_file *f = file->private_data;
	struct machine *m = to_machine(f->vm);
	struct stats_image *image = kzalloc(sizeof(*image), GFP_KERNEL_ACCOUNT);
	ssize_t r;

	if (!image)
		return -ENOMEM;
	image->header.name_size = NAME_SIZE;
	image->header.id_offset = offsetof(struct stats_image, id);
	image->header.desc_offset = offsetof(struct stats_image, desc);
	image->header.data_offset = offsetof(struct stats_image, data);
	if (f->v) {
		snprintf(image->id, NAME_SIZE, "kvm-%d/vcpu-%u", m->pid, f->v->id);
		add_stat(image, "exits", COUNTER, READ_ONCE(f->v->stat_exits));
		add_stat(image, "user_exits", COUNTER, READ_ONCE(f->v->stat_user_exits));
		add_stat(image, "halt_sleeps", COUNTER, READ_ONCE(f->v->stat_sleeps));
	} else {
		snprintf(image->id, NAME_SIZE, "kvm-%d", m->pid);
		add_stat(image, "exits", COUNTER, vm_exits(f->vm));
		add_stat(image, "vcpus", INSTANT, READ_ONCE(f->vm->nr_vcpus));
		add_stat(image, "memslots", INSTANT, READ_ONCE(f->vm->mem.nr_slots));
		add_stat(image, "irqfds", INSTANT, READ_ONCE(m->nr_irqfds));
		add_stat(image, "ioeventfds", INSTANT, READ_ONCE(m->nr_io_events));
	}
	r = simple_read_from_buffer(user, count, pos, image, sizeof(*image));
	kfree(image);
	return r;
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct stats_file *f = file->private_data;

	vm_put(f->vm);
	kfree(f);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.release = stats_release,
	.llseek = default_llseek,
};

/** stats_create_fd() - KVM_GET_STATS_FD, of @v or, where that is NULL, of the VM. Sleeps. */
int stats_create_fd(struct vm *vm, struct vcpu *v)
{
	struct stats_file *f = kmalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	struct file *file;
	int fd;

	if (!f)
		return -ENOMEM;
	*f = (struct stats_file) { .vm = vm, .v = v };
	file = anon_inode_getfile(v ? "svm-vcpu-stats" : "svm-vm-stats", &stats_fops, f, O_RDONLY);
	if (IS_ERR(file)) {
		kfree(f);
		return PTR_ERR(file);
	}
	kref_get(&vm->ref);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd >= 0)
		fd_install(fd, file);
	else
		fput(file);
	return fd;
}

/* --- module parameters --- */

/* The kernel calls .set without a look where the parameter is given at load. */
static int refuse(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops count_ops = { .set = refuse, .get = show };

module_param_cb(vms, &count_ops, &total.vms, 0444);
__MODULE_PARM_TYPE(vms, "uint");
MODULE_PARM_DESC(vms, "Number of VMs (read-only)");
module_param_cb(vcpus, &count_ops, &total.vcpus, 0444);
__MODULE_PARM_TYPE(vcpus, "uint");
MODULE_PARM_DESC(vcpus, "Number of vCPUs (read-only)");
module_param_cb(exits, &count_ops, &total.exits, 0444);
__MODULE_PARM_TYPE(exits, "ullong");
MODULE_PARM_DESC(exits, "#VMEXITs since the module was loaded (read-only)");
