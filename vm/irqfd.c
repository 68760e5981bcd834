// SPDX-License-Identifier: GPL-2.0
/* irqfd: eventfds that inject interrupts into guests. */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "vm/vm.h"

struct irqfd {
	struct list_head list;
	struct irqchip *chip;
	struct eventfd_ctx *ctx;
	/* to be told of the EOI, which ends the line's level; NULL: pulsed */
	struct eventfd_ctx *resample;
	struct list_head resamplers;	/* in machine.resamplers */
	u32 gsi;
	bool dead;		/* the last fd of the eventfd was closed: reaped later */
	wait_queue_entry_t wait;
	poll_table table;
};

static void irqfd_inject(struct irqfd *f)
{
	irqchip_set_irq(f->chip, f->resample ? IRQ_SOURCE_RESAMPLE : IRQ_SOURCE_USER, f->gsi, 1);
	if (!f->resample)
		irqchip_set_irq(f->chip, IRQ_SOURCE_USER, f->gsi, 0);
}

/*
 * vm->eoi: the lines that resampling irqfds hold there go down, then their owners are told. All
 * lines first, as an owner may raise its own again at once.
 */
static void irqfd_eoi(struct vm *vm, u32 input)
{
	struct machine *m = to_machine(vm);
	struct irqfd *f;

	rcu_read_lock();
	list_for_each_entry_rcu(f, &m->resamplers, resamplers)
		if (irqchip_feeds(&vm->irqchip, f->gsi, input))
			irqchip_set_irq(&vm->irqchip, IRQ_SOURCE_RESAMPLE, f->gsi, 0);
	list_for_each_entry_rcu(f, &m->resamplers, resamplers)
		if (irqchip_feeds(&vm->irqchip, f->gsi, input))
			compat_eventfd_signal(f->resample);
	rcu_read_unlock();
}

/* The eventfd was signalled or closed. Its wait queue's lock is held, interrupts are off. */
static int irqfd_wake(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *f = container_of(wait, struct irqfd, wait);
	__poll_t events = key_to_poll(key);
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(f->ctx, &count);
		irqfd_inject(f);
	}
	if (events & EPOLLHUP)
		WRITE_ONCE(f->dead, true);
	return 0;
}

static void irqfd_queue(struct file *file, wait_queue_head_t *head, poll_table *table)
{
	struct irqfd *f = container_of(table, struct irqfd, table);

	add_wait_queue(head, &f->wait);
}

/* The line goes down with the last that could hold it. */
static void resampler_free(struct machine *m, struct irqfd *f)
{
	struct irqfd *other;

	list_del_rcu(&f->resamplers);
	synchronize_rcu_expedited();	/* irqfd_eoi() */
	eventfd_ctx_put(f->resample);
	list_for_each_entry(other, &m->resamplers, resamplers)
		if (other->gsi == f->gsi)
			return;
	irqchip_set_irq(f->chip, IRQ_SOURCE_RESAMPLE, f->gsi, 0);
}

static void irqfd_free(struct machine *m, struct irqfd *f)
{
	u64 count;

	/* Takes the queue's lock: afterwards no wake-up is under way. */
	eventfd_ctx_remove_wait_queue(f->ctx, &f->wait, &count);
	list_del(&f->list);
	m->nr_irqfds--;
	if (f->resample)
		resampler_free(m, f);
	eventfd_ctx_put(f->ctx);
	kfree(f);
}

/* Those of @ctx and @gsi, and such whose eventfd was closed. */
static void irqfds_free(struct machine *m, struct eventfd_ctx *ctx, u32 gsi)
{
	struct irqfd *f, *next;

	list_for_each_entry_safe(f, next, &m->irqfds, list)
		if (READ_ONCE(f->dead) || (f->ctx == ctx && f->gsi == gsi))
			irqfd_free(m, f);
}

static int irqfd_assign(struct machine *m, struct file *file, struct eventfd_ctx *ctx,
			const struct kvm_irqfd *args)
{
	struct irqfd *f;

	if (m->nr_irqfds >= VM_MAX_EVENTS)
		return -ENOSPC;
	list_for_each_entry(f, &m->irqfds, list) {
		if (f->ctx == ctx)
			return -EBUSY;
	}
	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->chip = &m->vm.irqchip;
	f->ctx = ctx;
	f->gsi = array_index_nospec(args->gsi, IRQCHIP_MAX_GSI);
	if (args->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		f->resample = eventfd_ctx_fdget(args->resamplefd);
		if (IS_ERR(f->resample)) {
			int r = PTR_ERR(f->resample);

			kfree(f);
			return r;
		}
		list_add_tail_rcu(&f->resamplers, &m->resamplers);
		WRITE_ONCE(m->vm.eoi, irqfd_eoi);
		smp_wmb();	/* whoever sees the flag finds the function */
		WRITE_ONCE(m->vm.irqchip.resampling, true);
	}
	init_waitqueue_func_entry(&f->wait, irqfd_wake);
	init_poll_funcptr(&f->table, irqfd_queue);
	list_add_tail(&f->list, &m->irqfds);
	m->nr_irqfds++;
	/* Queues us; what was signalled before that is delivered now. */
	if (vfs_poll(file, &f->table) & EPOLLIN)
		irqfd_inject(f);
	return 0;
}

/**
 * irqfd_ioctl() - KVM_IRQFD. The caller holds vm->lock. Sleeps.
 * @m: the VM
 * @args: unchecked
 *
 * Return: 0, -EINVAL (flags, GSI, no in-kernel irqchip, or for resampling no PIC and IOAPIC there,
 * not an eventfd), -EBADF, -EBUSY (the eventfd is in use by another irqfd of this VM), -ENOSPC,
 * -ENOMEM.
 */
int irqfd_ioctl(struct machine *m, const struct kvm_irqfd *args)
{
	bool deassign = args->flags & KVM_IRQFD_FLAG_DEASSIGN;
	struct irqchip *chip = &m->vm.irqchip;
	struct eventfd_ctx *ctx;
	struct file *file;
	int r = 0;

	if (args->flags & ~(u32)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE) ||
	    args->gsi >= IRQCHIP_MAX_GSI || !irqchip_in_kernel(chip))
		return -EINVAL;
	if (args->flags == KVM_IRQFD_FLAG_RESAMPLE && !irqchip_full(chip))
		return -EINVAL;
	file = eventfd_fget(args->fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ctx = eventfd_ctx_fileget(file);	/* cannot fail: it is an eventfd */
	irqfds_free(m, deassign ? ctx : NULL, args->gsi);
	if (!deassign)
		r = irqfd_assign(m, file, ctx, args);
	if (r || deassign)
		eventfd_ctx_put(ctx);
	fput(file);
	return r;
}

/** irqfds_release() - the VM goes; no vCPU runs, but eventfds may still be signalled. Sleeps. */
void irqfds_release(struct machine *m)
{
	struct irqfd *f, *next;

	list_for_each_entry_safe(f, next, &m->irqfds, list)
		irqfd_free(m, f);
}
