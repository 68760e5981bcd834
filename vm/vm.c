// SPDX-License-Identifier: GPL-2.0
/*
 * The VM object and its file descriptor.
 *
 * References: the VM's fd holds one and so does each vCPU's fd. vCPUs live as long as their VM,
 * whether or not their fd is still open. When the last reference goes, so do irqfds, memory, vCPUs
 * and irqchip, in that order.
 */
#include <linux/anon_inodes.h>
#include <linux/slab.h>

#include "vm/vm.h"

static void machine_free(struct machine *m)
{
	free_page((unsigned long)m->ring);
	mutex_destroy(&m->vm.lock);
	kvfree(m);
}

static void vm_destroy(struct kref *ref)
{
	struct vm *vm = container_of(ref, struct vm, ref);
	struct machine *m = to_machine(vm);
	unsigned int i;

	stats_del_vm(m);
	irqfds_release(m);	/* nobody injects any more */
	ioevents_release(m);
	memory_destroy(&vm->mem);	/* no notifier looks for vCPUs to flush */
	for (i = 0; i < vm->nr_vcpus; i++)
		vcpu_free(vm->vcpus[i]);
	svm_vm_destroy(vm);
	machine_free(m);
	svm_hardware_put();
}

/* The last reference destroys the VM. Sleeps. */
void vm_put(struct vm *vm)
{
	kref_put(&vm->ref, vm_destroy);
}

static int vm_release(struct inode *inode, struct file *file)
{
	vm_put(file->private_data);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

/** vm_create_fd() - KVM_CREATE_VM. -EBUSY: SVM is held; -ENOMEM, -EMFILE, -ENFILE, -EINTR. */
int vm_create_fd(void)
{
	struct machine *m = kvzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	int r;

	if (!m)
		return -ENOMEM;
	m->pid = task_tgid_vnr(current);
	mutex_init(&m->vm.lock);
	kref_init(&m->vm.ref);
	INIT_LIST_HEAD(&m->io_events[0]);
	INIT_LIST_HEAD(&m->io_events[1]);
	INIT_LIST_HEAD(&m->irqfds);
	INIT_LIST_HEAD(&m->resamplers);
	spin_lock_init(&m->ring_lock);
	m->ring = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	r = m->ring ? svm_hardware_get() : -ENOMEM;
	if (r)
		goto err_free;
	r = svm_vm_init(&m->vm);
	if (r)
		goto err_hardware;
	stats_add_vm(m);
	r = anon_inode_getfd("svm-vm", &vm_fops, &m->vm, O_RDWR | O_CLOEXEC);
	if (r < 0)
		vm_put(&m->vm);
	return r;

err_hardware:
	svm_hardware_put();
err_free:
	machine_free(m);
	return r;
}
