// SPDX-License-Identifier: GPL-2.0
/* The vCPU object, its file descriptor and the pages that it shares with userspace. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "vm/vm.h"

/* The VM goes, or the vCPU was never published, nor perhaps made as a whole. Sleeps. */
void vcpu_free(struct vcpu *v)
{
	svm_vcpu_destroy(v);
	free_page((unsigned long)v->pio_data);
	free_page((unsigned long)v->run);
	mutex_destroy(&v->mutex);
	kfree(v);
}

static struct vcpu *vcpu_alloc(struct vm *vm, u32 id)
{
	struct vcpu *v;
	int r = -ENOMEM;

	v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	if (!v)
		return ERR_PTR(-ENOMEM);
	mutex_init(&v->mutex);
	v->vm = vm;
	v->id = id;
	v->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	v->pio_data = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (v->run && v->pio_data)
		r = svm_vcpu_init(v);
	if (!r)
		return v;
	vcpu_free(v);
	return ERR_PTR(r);
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct vcpu *v = vmf->vma->vm_file->private_data;
	void *pages[VCPU_MMAP_PAGES] = {
		[0] = v->run,
		[KVM_PIO_PAGE_OFFSET] = v->pio_data,
		[KVM_COALESCED_MMIO_PAGE_OFFSET] = to_machine(v->vm)->ring,
	};

	if (vmf->pgoff >= VCPU_MMAP_PAGES)
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(pages[array_index_nospec(vmf->pgoff, VCPU_MMAP_PAGES)]);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_fault,
};

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct vcpu *v = file->private_data;

	if (v)		/* NULL: creation failed after the file was made */
		vm_put(v->vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.release = vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vcpu_mmap,
	.llseek = noop_llseek,
};

static int vcpu_id_check(struct vm *vm, unsigned long id)
{
	unsigned int i, limit = to_machine(vm)->max_vcpu_id ?: VM_MAX_VCPU_IDS;

	if (id >= limit || vm->nr_vcpus >= VM_MAX_VCPUS)
		return -EINVAL;
	for (i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i]->id == id)
			return -EEXIST;
	}
	return 0;
}

/**
 * vcpu_create_fd() - KVM_CREATE_VCPU. The caller holds vm->lock.
 * @vm: the VM
 * @id: from userspace; also the APIC id
 *
 * Return: the new fd, -EINVAL (id too large, or too many vCPUs), -EEXIST, -ENOMEM, -EMFILE,
 * -ENFILE.
 */
int vcpu_create_fd(struct vm *vm, unsigned long id)
{
	struct file *file;
	struct vcpu *v;
	int fd, r;

	lockdep_assert_held(&vm->lock);
	r = vcpu_id_check(vm, id);
	if (r)
		return r;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	v = vcpu_alloc(vm, id);
	if (IS_ERR(v)) {
		r = PTR_ERR(v);
		goto err_fd;
	}
	file = anon_inode_getfile("svm-vcpu", &vcpu_fops, NULL, O_RDWR);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_vcpu;
	}
	if (irqchip_in_kernel(&vm->irqchip)) {
		r = svm_create_apic(v);		/* last, as interrupts reach it at once */
		if (r)
			goto err_file;
	}
	vm->vcpus[vm->nr_vcpus] = v;
	smp_store_release(&vm->nr_vcpus, vm->nr_vcpus + 1);	/* pairs with vm_for_each_vcpu() */
	kref_get(&vm->ref);
	file->private_data = v;
	fd_install(fd, file);
	return fd;

err_file:
	fput(file);
err_vcpu:
	vcpu_free(v);
err_fd:
	put_unused_fd(fd);
	return r;
}
