// SPDX-License-Identifier: GPL-2.0
/* The module and its character device, /dev/svm. */
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "vm/vm.h"

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "svm",
	.mode = 0600,
	.fops = &device_fops,
};

static int __init svm_init(void)
{
	int r = svm_module_init();

	if (r)
		return r;
	/* Last: from here on userspace can call in. */
	r = misc_register(&device);
	if (r) {
		pr_err("cannot register /dev/svm (%d)\n", r);
		svm_module_exit();
	}
	return r;
}

static void __exit svm_exit(void)
{
	/* Each open fd holds a reference on the module: no VM is left. */
	misc_deregister(&device);
	svm_module_exit();
}

module_init(svm_init);
module_exit(svm_exit);

MODULE_DESCRIPTION("Hypervisor for AMD processors (SVM with nested paging), KVM ioctl ABI on /dev/svm");
MODULE_AUTHOR("The svm developers");
MODULE_LICENSE("GPL");
