// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls of the device, of VMs and of vCPUs: three tables that name for each its lock, how its
 * argument travels, and its handler. Fixed-size arguments are copied in and out here and nowhere
 * else.
 *
 * Documentation/api.rst lists them with their errors.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "vm/vm.h"

#define MAX_MSRS		256	/* entries of KVM_GET_MSRS and KVM_SET_MSRS stay below */
#define TSS_SIZE		(3 * PAGE_SIZE)

/* How the argument travels. <linux/kvm.h>'s own direction bits are not always true. */
enum arg {
	ARG_NONE,	/* ignored */
	ARG_ZERO,	/* must be 0 */
	ARG_VALUE,	/* the number itself */
	ARG_RAW,	/* pointer to something of variable size: the handler copies */
	/* from here on with a buffer */
	ARG_IN,		/* pointer to _IOC_SIZE bytes, copied in, */
	ARG_OUT,	/* out, */
	ARG_INOUT,	/* or both ways */
};

enum lock {
	LOCK_NONE,
	LOCK_VM,	/* vm->lock */
	LOCK_VCPU,	/* vcpu->mutex */
};

/* One call. */
struct call {
	struct vm *vm;		/* NULL on the device */
	struct vcpu *vcpu;	/* NULL on the device and on VMs */
	unsigned long arg;	/* ARG_VALUE */
	void __user *user;	/* ARG_RAW */
	void *buf;		/* ARG_IN, ARG_OUT, ARG_INOUT */
};

struct ioctl {
	unsigned int cmd;
	enum arg arg;
	enum lock lock;
	long (*fn)(struct call *c);
};

#define SMALL_ARG	512

/* A handler that is one call. */
#define HANDLER(name, expr)				\
static long name(struct call *c)			\
{							\
	return expr;					\
}

/* The same with a look at its argument, @a. */
#define HANDLER_OF(name, type, expr)			\
static long name(struct call *c)			\
{							\
	const type *a = c->buf;				\
							\
	return expr;					\
}

/* --- device --- */

HANDLER(get_api_version, KVM_API_VERSION)
HANDLER(create_vm, vm_create_fd())	/* ARG_ZERO: the one machine type is 0 */
HANDLER(get_vcpu_mmap_size, VCPU_MMAP_PAGES * PAGE_SIZE)

static long check_extension(struct call *c)
{
	if (c->vm && c->arg == KVM_CAP_X86_APIC_BUS_CYCLES_NS)
		return READ_ONCE(c->vm->irqchip.bus_cycle_ns);
	return cap_check(c->arg);
}

static long get_mce_cap_supported(struct call *c)
{
	*(u64 *)c->buf = MCG_CAP_SUPPORTED;
	return 0;
}

static long get_cpuid_list(struct call *c, int (*list)(struct kvm_cpuid_entry2 *, unsigned int *))
{
	struct kvm_cpuid2 __user *user = c->user;
	struct kvm_cpuid_entry2 *entries;
	unsigned int n;
	u32 nent;
	long r;

	if (get_user(nent, &user->nent))
		return -EFAULT;
	if (!nent)
		return -E2BIG;
	n = min_t(u32, nent, VCPU_MAX_CPUID);
	entries = kvcalloc(n, sizeof(*entries), GFP_KERNEL_ACCOUNT);
	if (!entries)
		return -ENOMEM;
	r = list(entries, &n);
	if (!r && (copy_to_user(user->entries, entries, n * sizeof(*entries)) ||
		   put_user(n, &user->nent)))
		r = -EFAULT;
	kvfree(entries);
	return r;
}

HANDLER(get_supported_cpuid, get_cpuid_list(c, guest_supported_cpuid))
HANDLER(get_emulated_cpuid, get_cpuid_list(c, guest_emulated_cpuid))

/* The true number is told even where the array is too small for it. */
static long get_msr_list(struct call *c, bool features)
{
	struct kvm_msr_list __user *user = c->user;
	unsigned int nr;
	const u32 *list = guest_msr_list(features, &nr);
	u32 room;

	if (get_user(room, &user->nmsrs) || put_user(nr, &user->nmsrs))
		return -EFAULT;
	if (room < nr)
		return -E2BIG;
	return copy_to_user(user->indices, list, nr * sizeof(*list)) ? -EFAULT : 0;
}

HANDLER(get_msr_index_list, get_msr_list(c, false))
HANDLER(get_msr_feature_index_list, get_msr_list(c, true))

/* KVM_GET_MSRS of the device: the features of this host. */
static int access_msr(struct vcpu *v, struct kvm_msr_entry *e, bool set)
{
	if (!v)
		return guest_get_feature_msr(e->index, &e->data);
	return set ? guest_set_msr(v, e->index, e->data, true) :
		     guest_get_msr(v, e->index, &e->data, true);
}

/* Works through the array as far as it goes; the number of entries done is the result. */
static long access_msrs(struct call *c, bool set)
{
	struct kvm_msrs __user *user = c->user;
	struct kvm_msr_entry *entries;
	struct kvm_msrs head;
	size_t size;
	long n;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nmsrs >= MAX_MSRS)
		return -E2BIG;
	size = head.nmsrs * sizeof(*entries);
	entries = memdup_user(user->entries, size);
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	for (n = 0; n < head.nmsrs; n++) {
		if (access_msr(c->vcpu, &entries[n], set))
			break;
	}
	if (!set && copy_to_user(user->entries, entries, size))
		n = -EFAULT;
	kfree(entries);
	return n;
}

HANDLER(get_msrs, access_msrs(c, false))
HANDLER(set_msrs, access_msrs(c, true))

static const struct ioctl device_ioctls[] = {
	{ KVM_GET_API_VERSION, ARG_ZERO, LOCK_NONE, get_api_version },
	{ KVM_CHECK_EXTENSION, ARG_VALUE, LOCK_NONE, check_extension },
	{ KVM_CREATE_VM, ARG_ZERO, LOCK_NONE, create_vm },
	{ KVM_GET_VCPU_MMAP_SIZE, ARG_ZERO, LOCK_NONE, get_vcpu_mmap_size },
	{ KVM_GET_SUPPORTED_CPUID, ARG_RAW, LOCK_NONE, get_supported_cpuid },
	{ KVM_GET_EMULATED_CPUID, ARG_RAW, LOCK_NONE, get_emulated_cpuid },
	{ KVM_GET_MSR_INDEX_LIST, ARG_RAW, LOCK_NONE, get_msr_index_list },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, ARG_RAW, LOCK_NONE, get_msr_feature_index_list },
	{ KVM_GET_MSRS, ARG_RAW, LOCK_NONE, get_msrs },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, ARG_OUT, LOCK_NONE, get_mce_cap_supported },
};

/* --- VM --- */

HANDLER(create_vcpu, vcpu_create_fd(c->vm, c->arg))
HANDLER(get_stats_fd, stats_create_fd(c->vm, c->vcpu))

/*
 * Of either form. The first fields of the newer one are those of the older; its one new flag
 * (guest_memfd) is refused as unknown.
 */
HANDLER(set_user_memory_region, mem_set_region(&c->vm->mem, c->buf))
static_assert(offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset) ==
	      sizeof(struct kvm_userspace_memory_region));

HANDLER(set_nr_mmu_pages, mem_limit_tables(&c->vm->mem, c->arg))

HANDLER_OF(get_dirty_log, struct kvm_dirty_log,
	   mem_dirty_log(&c->vm->mem, a->slot, a->dirty_bitmap, NULL))
HANDLER_OF(clear_dirty_log, struct kvm_clear_dirty_log,
	   mem_dirty_log(&c->vm->mem, a->slot, a->dirty_bitmap, a))

/* Checked, and not needed with SVM. */
HANDLER(set_tss_addr, c->arg > BIT_ULL(32) - TSS_SIZE ? -EINVAL : 0)
HANDLER_OF(set_identity_map_addr, u64,
	   c->vm->nr_vcpus || *a > BIT_ULL(32) - PAGE_SIZE ? -EINVAL : 0)

static long set_boot_cpu_id(struct call *c)
{
	if (c->vm->nr_vcpus)
		return -EBUSY;
	if (c->arg >= VM_MAX_VCPU_IDS ||
	    c->arg > (to_machine(c->vm)->max_vcpu_id ?: VM_MAX_VCPU_IDS))
		return -EINVAL;
	c->vm->irqchip.bsp_id = c->arg;
	return 0;
}

/* vCPUs that exist would have no APIC. */
HANDLER(create_irqchip, c->vm->nr_vcpus && !irqchip_in_kernel(&c->vm->irqchip) ? -EINVAL :
	irqchip_create(&c->vm->irqchip))
HANDLER(get_irqchip, irqchip_get_state(&c->vm->irqchip, c->buf))
HANDLER(set_irqchip, irqchip_set_state(&c->vm->irqchip, c->buf))

static long irq_line(struct call *c)
{
	struct kvm_irq_level *l = c->buf;

	if (!irqchip_in_kernel(&c->vm->irqchip))
		return -ENXIO;
	if (l->irq >= IRQCHIP_MAX_GSI)
		return -EINVAL;
	l->status = irqchip_set_irq(&c->vm->irqchip, IRQ_SOURCE_USER, l->irq, !!l->level);
	return 0;
}

/* KVM_CAP_MSI_DEVID is not offered, so its flag is unknown. */
HANDLER_OF(signal_msi, struct kvm_msi, !irqchip_in_kernel(&c->vm->irqchip) || a->flags ? -EINVAL :
	   irqchip_signal_msi(&c->vm->irqchip, a))

static long set_gsi_routing(struct call *c)
{
	struct kvm_irq_routing __user *user = c->user;
	struct kvm_irq_routing_entry *entries;
	struct kvm_irq_routing head;
	long r;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (!irqchip_in_kernel(&c->vm->irqchip) || head.flags || head.nr > VM_MAX_ROUTES)
		return -EINVAL;
	entries = vmemdup_user(user->entries, array_size(head.nr, sizeof(*entries)));
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	r = irqchip_set_routing(&c->vm->irqchip, entries, head.nr);
	kvfree(entries);
	return r;
}

HANDLER_OF(create_pit2, struct kvm_pit_config, a->flags & ~(u32)KVM_PIT_SPEAKER_DUMMY ? -EINVAL :
	   pit_create(&c->vm->irqchip, a))
HANDLER(get_pit2, pit_get_state(&c->vm->irqchip, c->buf))
HANDLER(set_pit2, pit_set_state(&c->vm->irqchip, c->buf))

static long reinject_control(struct call *c)
{
	struct kvm_reinject_control rc;	/* whose size is not in the number */

	if (copy_from_user(&rc, c->user, sizeof(rc)))
		return -EFAULT;
	return pit_set_reinject(&c->vm->irqchip, rc.pit_reinject);
}

static long get_clock(struct call *c)
{
	guest_get_clock(c->vm, c->buf);
	return 0;
}

static long set_clock(struct call *c)
{
	struct kvm_clock_data *data = c->buf;

	if (data->flags & ~(u32)CLOCK_FLAGS)
		return -EINVAL;
	data->flags &= KVM_CLOCK_REALTIME;	/* the others may be set and mean nothing here */
	return guest_set_clock(c->vm, data);
}

/* Of vCPUs that are created later. */
static long vm_set_tsc_khz(struct call *c)
{
	if (c->vm->nr_vcpus || c->arg > INT_MAX || guest_check_tsc_khz(c->arg))
		return -EINVAL;
	c->vm->default_tsc_khz = c->arg ?: tsc_khz;
	return 0;
}

HANDLER(vm_get_tsc_khz, check_tsc_unstable() ? -EIO : (long)(c->vm->default_tsc_khz ?: tsc_khz))
HANDLER(set_irqfd, irqfd_ioctl(to_machine(c->vm), c->buf))
HANDLER(set_ioeventfd, ioeventfd_ioctl(to_machine(c->vm), c->buf))
HANDLER(register_coalesced, coalesced_register(to_machine(c->vm), c->buf))
HANDLER(unregister_coalesced, coalesced_unregister(to_machine(c->vm), c->buf))
HANDLER(set_msr_filter, svm_set_msr_filter(c->vm, c->buf))

static long vm_enable_cap(struct call *c)
{
	const struct kvm_enable_cap *e = c->buf;
	struct machine *m = to_machine(c->vm);
	u64 arg = e->args[0];

	if (e->flags)
		return -EINVAL;
	switch (e->cap) {
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		if (arg & ~(u64)DIRTY_LOG_FLAGS || arg == KVM_DIRTY_LOG_INITIALLY_SET)
			return -EINVAL;
		mutex_lock(&c->vm->mem.slots_lock);
		c->vm->mem.log_flags = arg;
		mutex_unlock(&c->vm->mem.slots_lock);
		return 0;
	case KVM_CAP_MAX_VCPU_ID:	/* once */
		if (arg > VM_MAX_VCPU_IDS || (arg && arg < c->vm->irqchip.bsp_id) || c->vm->nr_vcpus ||
		    (m->max_vcpu_id && m->max_vcpu_id != arg))
			return -EINVAL;
		m->max_vcpu_id = arg;
		return 0;
	default:
		return svm_enable_cap(c->vm, e);
	}
}

static const struct ioctl vm_ioctls[] = {
	{ KVM_IRQ_LINE, ARG_IN, LOCK_NONE, irq_line },
	{ KVM_IRQ_LINE_STATUS, ARG_INOUT, LOCK_NONE, irq_line },
	{ KVM_SIGNAL_MSI, ARG_IN, LOCK_NONE, signal_msi },
	{ KVM_CHECK_EXTENSION, ARG_VALUE, LOCK_NONE, check_extension },
	{ KVM_CREATE_VCPU, ARG_VALUE, LOCK_VM, create_vcpu },
	{ KVM_SET_USER_MEMORY_REGION, ARG_IN, LOCK_NONE, set_user_memory_region },
	{ KVM_SET_USER_MEMORY_REGION2, ARG_IN, LOCK_NONE, set_user_memory_region },
	{ KVM_GET_DIRTY_LOG, ARG_IN, LOCK_NONE, get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG, ARG_IN, LOCK_NONE, clear_dirty_log },
	{ KVM_SET_NR_MMU_PAGES, ARG_VALUE, LOCK_NONE, set_nr_mmu_pages },
	{ KVM_SET_TSS_ADDR, ARG_VALUE, LOCK_VM, set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR, ARG_IN, LOCK_VM, set_identity_map_addr },
	{ KVM_SET_BOOT_CPU_ID, ARG_VALUE, LOCK_VM, set_boot_cpu_id },
	{ KVM_CREATE_IRQCHIP, ARG_NONE, LOCK_VM, create_irqchip },
	{ KVM_GET_IRQCHIP, ARG_INOUT, LOCK_VM, get_irqchip },
	{ KVM_SET_IRQCHIP, ARG_IN, LOCK_VM, set_irqchip },
	{ KVM_SET_GSI_ROUTING, ARG_RAW, LOCK_VM, set_gsi_routing },
	{ KVM_CREATE_PIT2, ARG_IN, LOCK_VM, create_pit2 },
	{ KVM_GET_PIT2, ARG_OUT, LOCK_VM, get_pit2 },
	{ KVM_SET_PIT2, ARG_IN, LOCK_VM, set_pit2 },
	{ KVM_REINJECT_CONTROL, ARG_RAW, LOCK_VM, reinject_control },
	{ KVM_GET_CLOCK, ARG_OUT, LOCK_VM, get_clock },
	{ KVM_SET_CLOCK, ARG_IN, LOCK_VM, set_clock },
	{ KVM_SET_TSC_KHZ, ARG_VALUE, LOCK_VM, vm_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, ARG_NONE, LOCK_VM, vm_get_tsc_khz },
	{ KVM_IRQFD, ARG_IN, LOCK_VM, set_irqfd },
	{ KVM_IOEVENTFD, ARG_IN, LOCK_VM, set_ioeventfd },
	{ KVM_REGISTER_COALESCED_MMIO, ARG_IN, LOCK_VM, register_coalesced },
	{ KVM_UNREGISTER_COALESCED_MMIO, ARG_IN, LOCK_VM, unregister_coalesced },
	{ KVM_ENABLE_CAP, ARG_IN, LOCK_VM, vm_enable_cap },
	{ KVM_X86_SET_MSR_FILTER, ARG_IN, LOCK_VM, set_msr_filter },
	{ KVM_GET_STATS_FD, ARG_NONE, LOCK_NONE, get_stats_fd },
};

/* --- vCPU --- */

static long set_signal_mask(struct call *c)
{
	struct kvm_signal_mask __user *user = c->user;
	struct vcpu *v = c->vcpu;
	sigset_t set;
	u32 len;

	if (!user) {
		v->sigset_active = false;
		return 0;
	}
	if (get_user(len, &user->len))
		return -EFAULT;
	if (len != sizeof(set))
		return -EINVAL;
	if (copy_from_user(&set, user->sigset, sizeof(set)))
		return -EFAULT;
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	v->sigset = set;
	v->sigset_active = true;
	return 0;
}

/* KVM_GET_... and KVM_SET_... of one part of a vCPU's state. */
#define STATE_HANDLERS(name)				\
static long get_##name(struct call *c)			\
{							\
	svm_get_##name(c->vcpu, c->buf);		\
	return 0;					\
}							\
HANDLER(set_##name, svm_set_##name(c->vcpu, c->buf))

STATE_HANDLERS(regs)
STATE_HANDLERS(sregs)
STATE_HANDLERS(sregs2)
STATE_HANDLERS(fpu)
STATE_HANDLERS(xsave)
STATE_HANDLERS(xcrs)
STATE_HANDLERS(debugregs)
STATE_HANDLERS(vcpu_events)
STATE_HANDLERS(mp_state)

static long set_cpuid2(struct call *c)
{
	struct kvm_cpuid2 __user *user = c->user;
	struct kvm_cpuid_entry2 *entries;
	u32 nent;
	long r;

	if (get_user(nent, &user->nent))
		return -EFAULT;
	if (nent > VCPU_MAX_CPUID)
		return -E2BIG;
	entries = kvcalloc(max(nent, 1u), sizeof(*entries), GFP_KERNEL_ACCOUNT);
	if (!entries)
		return -ENOMEM;
	if (copy_from_user(entries, user->entries, nent * sizeof(*entries)))
		r = -EFAULT;
	else
		r = guest_set_cpuid(c->vcpu, entries, nent);
	if (r)
		kvfree(entries);
	return r;
}

static long get_cpuid2(struct call *c)
{
	struct kvm_cpuid2 __user *user = c->user;
	struct vcpu *v = c->vcpu;
	u32 nent, i;

	if (get_user(nent, &user->nent))
		return -EFAULT;
	if (nent < v->cpuid_nent)
		return -E2BIG;
	for (i = 0; i < v->cpuid_nent; i++) {
		struct kvm_cpuid_entry2 e = v->cpuid[i];

		guest_cpuid_registers(v, &e);
		if (copy_to_user(&user->entries[i], &e, sizeof(e)))
			return -EFAULT;
	}
	return put_user(i, &user->nent) ? -EFAULT : 0;
}

HANDLER(get_lapic, c->vcpu->apic ? lapic_get_state(c->vcpu->apic, c->buf) : -EINVAL)
HANDLER(set_lapic, c->vcpu->apic ? lapic_set_state(c->vcpu->apic, c->buf) : -EINVAL)
HANDLER(interrupt, svm_interrupt(c->vcpu, c->buf))
HANDLER(nmi, svm_nmi(c->vcpu))
HANDLER(translate, svm_translate(c->vcpu, c->buf))
HANDLER(vcpu_set_tsc_khz, c->arg > INT_MAX ? -EINVAL : guest_check_tsc_khz(c->arg))
HANDLER(vcpu_get_tsc_khz, check_tsc_unstable() ? -EIO : (long)c->vcpu->tsc_khz)
HANDLER(kvmclock_ctrl, guest_kvmclock_ctrl(c->vcpu))
HANDLER_OF(setup_mce, u64, guest_setup_mce(c->vcpu, *a))
HANDLER(set_mce, svm_set_mce(c->vcpu, c->buf))
HANDLER(set_guest_debug, svm_set_guest_debug(c->vcpu, c->buf))

/* The page for the TPR of old Windows: checked, and not needed with SVM. */
HANDLER_OF(set_vapic_addr, struct kvm_vapic_addr,
	   !c->vcpu->apic || a->vapic_addr >> c->vcpu->maxphyaddr ? -EINVAL : 0)

/* The one attribute: KVM_VCPU_TSC_OFFSET. */
HANDLER_OF(has_attr, struct kvm_device_attr,
	   a->group == KVM_VCPU_TSC_CTRL && a->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO)

static long access_attr(struct call *c, bool set)
{
	const struct kvm_device_attr *a = c->buf;
	u64 __user *user = u64_to_user_ptr(a->addr);
	u64 offset;

	if (has_attr(c))
		return -ENXIO;
	if (a->flags)
		return -EINVAL;
	if (!set)
		return put_user(c->vcpu->tsc_offset, user);
	if (get_user(offset, user))
		return -EFAULT;
	tsc_set_offset(c->vcpu, offset);
	return 0;
}

HANDLER(get_attr, access_attr(c, false))
HANDLER(set_attr, access_attr(c, true))

/* Guests have no SVM: their nested state is always that GIF is set, and nothing else. */
static long get_nested_state(struct call *c)
{
	struct kvm_nested_state __user *user = c->user;
	struct kvm_nested_state s = {
		.flags = KVM_STATE_NESTED_GIF_SET,
		.format = KVM_STATE_NESTED_FORMAT_SVM,
		.size = sizeof(s),
	};
	u32 room;

	if (get_user(room, &user->size))
		return -EFAULT;
	if (room < sizeof(s))
		return put_user(s.size, &user->size) ? -EFAULT : -E2BIG;
	return copy_to_user(user, &s, sizeof(s)) ? -EFAULT : 0;
}

HANDLER_OF(set_nested_state, struct kvm_nested_state,
	   a->size < sizeof(*a) || a->flags != KVM_STATE_NESTED_GIF_SET ||
	   a->format != KVM_STATE_NESTED_FORMAT_SVM ? -EINVAL : 0)

static long vcpu_enable_cap(struct call *c)
{
	const struct kvm_enable_cap *e = c->buf;

	if (e->flags || e->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	guest_enforce_pv(c->vcpu, e->args[0]);
	return 0;
}

/* Page by page as a read of the guest would; what is left is told. */
static long pre_fault_memory(struct call *c)
{
	struct kvm_pre_fault_memory *p = c->buf;
	u64 first = p->gpa;
	int r = 0;

	if (p->flags || !p->size || !PAGE_ALIGNED(p->gpa | p->size) || p->gpa + p->size < p->gpa)
		return -EINVAL;
	for (; p->size; p->gpa += PAGE_SIZE, p->size -= PAGE_SIZE) {
		r = mem_prefault(&c->vm->mem, p->gpa);
		if (r)
			break;
	}
	return p->gpa == first ? r : 0;
}

/* Tables are searched in order. */
static const struct ioctl vcpu_ioctls[] = {
	{ KVM_GET_REGS, ARG_OUT, LOCK_VCPU, get_regs },
	{ KVM_SET_REGS, ARG_IN, LOCK_VCPU, set_regs },
	{ KVM_GET_SREGS, ARG_OUT, LOCK_VCPU, get_sregs },
	{ KVM_SET_SREGS, ARG_IN, LOCK_VCPU, set_sregs },
	{ KVM_GET_SREGS2, ARG_OUT, LOCK_VCPU, get_sregs2 },
	{ KVM_SET_SREGS2, ARG_IN, LOCK_VCPU, set_sregs2 },
	{ KVM_GET_FPU, ARG_OUT, LOCK_VCPU, get_fpu },
	{ KVM_SET_FPU, ARG_IN, LOCK_VCPU, set_fpu },
	{ KVM_GET_XSAVE, ARG_OUT, LOCK_VCPU, get_xsave },
	{ KVM_GET_XSAVE2, ARG_OUT, LOCK_VCPU, get_xsave },
	{ KVM_SET_XSAVE, ARG_IN, LOCK_VCPU, set_xsave },
	{ KVM_GET_XCRS, ARG_OUT, LOCK_VCPU, get_xcrs },
	{ KVM_SET_XCRS, ARG_IN, LOCK_VCPU, set_xcrs },
	{ KVM_GET_MSRS, ARG_RAW, LOCK_VCPU, get_msrs },
	{ KVM_SET_MSRS, ARG_RAW, LOCK_VCPU, set_msrs },
	{ KVM_GET_CPUID2, ARG_RAW, LOCK_VCPU, get_cpuid2 },
	{ KVM_SET_CPUID2, ARG_RAW, LOCK_VCPU, set_cpuid2 },
	{ KVM_GET_LAPIC, ARG_OUT, LOCK_VCPU, get_lapic },
	{ KVM_SET_LAPIC, ARG_IN, LOCK_VCPU, set_lapic },
	{ KVM_GET_MP_STATE, ARG_OUT, LOCK_VCPU, get_mp_state },
	{ KVM_SET_MP_STATE, ARG_IN, LOCK_VCPU, set_mp_state },
	{ KVM_GET_VCPU_EVENTS, ARG_OUT, LOCK_VCPU, get_vcpu_events },
	{ KVM_SET_VCPU_EVENTS, ARG_IN, LOCK_VCPU, set_vcpu_events },
	{ KVM_GET_DEBUGREGS, ARG_OUT, LOCK_VCPU, get_debugregs },
	{ KVM_SET_DEBUGREGS, ARG_IN, LOCK_VCPU, set_debugregs },
	{ KVM_SET_SIGNAL_MASK, ARG_RAW, LOCK_VCPU, set_signal_mask },
	{ KVM_INTERRUPT, ARG_IN, LOCK_VCPU, interrupt },
	{ KVM_NMI, ARG_NONE, LOCK_VCPU, nmi },
	{ KVM_TRANSLATE, ARG_INOUT, LOCK_VCPU, translate },
	{ KVM_SET_TSC_KHZ, ARG_VALUE, LOCK_VCPU, vcpu_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, ARG_NONE, LOCK_VCPU, vcpu_get_tsc_khz },
	{ KVM_KVMCLOCK_CTRL, ARG_NONE, LOCK_VCPU, kvmclock_ctrl },
	{ KVM_X86_SETUP_MCE, ARG_IN, LOCK_VCPU, setup_mce },
	{ KVM_X86_SET_MCE, ARG_IN, LOCK_VCPU, set_mce },
	{ KVM_SET_VAPIC_ADDR, ARG_IN, LOCK_VCPU, set_vapic_addr },
	{ KVM_SET_GUEST_DEBUG, ARG_IN, LOCK_VCPU, set_guest_debug },
	{ KVM_HAS_DEVICE_ATTR, ARG_IN, LOCK_VCPU, has_attr },
	{ KVM_GET_DEVICE_ATTR, ARG_IN, LOCK_VCPU, get_attr },
	{ KVM_SET_DEVICE_ATTR, ARG_IN, LOCK_VCPU, set_attr },
	{ KVM_GET_NESTED_STATE, ARG_RAW, LOCK_VCPU, get_nested_state },
	{ KVM_SET_NESTED_STATE, ARG_IN, LOCK_VCPU, set_nested_state },
	{ KVM_GET_STATS_FD, ARG_NONE, LOCK_NONE, get_stats_fd },
	{ KVM_ENABLE_CAP, ARG_IN, LOCK_VCPU, vcpu_enable_cap },
	{ KVM_PRE_FAULT_MEMORY, ARG_INOUT, LOCK_VCPU, pre_fault_memory },
};

/* --- dispatch --- */

static long call_locked(const struct ioctl *d, struct call *c)
{
	struct mutex *lock = d->lock == LOCK_VM ? &c->vm->lock : &c->vcpu->mutex;
	long r;

	if (d->lock == LOCK_NONE)
		return d->fn(c);
	if (mutex_lock_killable(lock))
		return -EINTR;
	if (c->vcpu)
		c->vcpu->check_events = true;
	r = d->fn(c);
	mutex_unlock(lock);
	return r;
}

/* Copies with no lock held: a page fault on the argument may wait for userspace. */
static noinline long call_with_buffer(const struct ioctl *d, struct call *c)
{
	unsigned int size = _IOC_SIZE(d->cmd);
	u64 small[SMALL_ARG / sizeof(u64)];
	long r;

	c->buf = small;
	if (size > sizeof(small)) {
		c->buf = kmalloc(size, GFP_KERNEL_ACCOUNT);
		if (!c->buf)
			return -ENOMEM;
	}
	if (d->arg == ARG_OUT) {
		memset(c->buf, 0, size);
	} else if (copy_from_user(c->buf, c->user, size)) {
		r = -EFAULT;
		goto out;
	}
	r = call_locked(d, c);
	if (r >= 0 && d->arg != ARG_IN && copy_to_user(c->user, c->buf, size))
		r = -EFAULT;
out:
	if (c->buf != small)
		kfree(c->buf);
	return r;
}

static long call(const struct ioctl *table, unsigned int n, unsigned int cmd, struct call *c,
		 long unknown)
{
	const struct ioctl *d;

	c->user = (void __user *)c->arg;
	for (d = table; d < table + n; d++) {
		if (d->cmd != cmd)
			continue;
		if (d->arg == ARG_ZERO && c->arg)
			return -EINVAL;
		return d->arg >= ARG_IN ? call_with_buffer(d, c) : call_locked(d, c);
	}
	return unknown;
}

/** device_ioctl() - on /dev/svm. */
long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct call c = { .arg = arg };

	return call(device_ioctls, ARRAY_SIZE(device_ioctls), cmd, &c, -EINVAL);
}

/* A VM belongs to the address space that created it: only there do its addresses mean anything. */
static bool vm_usable(const struct vm *vm)
{
	return vm->mem.mm == current->mm;
}

/** vm_ioctl() - on a VM's fd. -EIO from another address space. */
long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vm *vm = file->private_data;
	struct call c = { .vm = vm, .arg = arg };

	if (!vm_usable(vm))
		return -EIO;
	return call(vm_ioctls, ARRAY_SIZE(vm_ioctls), cmd, &c, -ENOTTY);
}

/*
 * With a signal mask of its own, KVM_RUN sees (and ends for) signals that the thread blocks.
 * real_blocked keeps those that are ignored by default from being dropped while they are unblocked
 * here.
 */
static long run_with_mask(struct vcpu *v)
{
	sigset_t saved;
	long r;

	sigprocmask(SIG_SETMASK, &v->sigset, &saved);
	current->real_blocked = saved;
	r = svm_vcpu_run(v);
	sigprocmask(SIG_SETMASK, &saved, NULL);
	sigemptyset(&current->real_blocked);
	return r;
}

static long run(struct vcpu *v)
{
	long r = 0;

	if (mutex_lock_killable(&v->mutex))
		return -EINTR;
	if (unlikely(READ_ONCE(v->run->kvm_valid_regs) | READ_ONCE(v->run->kvm_dirty_regs)))
		r = sync_regs_in(v);
	if (!r)
		r = likely(!v->sigset_active) ? svm_vcpu_run(v) : run_with_mask(v);
	if (unlikely(READ_ONCE(v->run->kvm_valid_regs)))
		sync_regs_out(v);
	v->stat_user_exits++;
	mutex_unlock(&v->mutex);
	return r;
}

/** vcpu_ioctl() - on a vCPU's fd. -EIO as for the VM. KVM_RUN must be fast: it is in no table. */
long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vcpu *v = file->private_data;
	struct call c = { .vm = v->vm, .vcpu = v, .arg = arg };

	if (!vm_usable(v->vm))
		return -EIO;
	if (likely(cmd == KVM_RUN))
		return arg ? -EINVAL : run(v);
	return call(vcpu_ioctls, ARRAY_SIZE(vcpu_ioctls), cmd, &c, -EINVAL);
}
