// SPDX-License-Identifier: GPL-2.0
/*
 * Eventfds that guests signal by writing (ioeventfd), and eventfds that inject interrupts into
 * guests (irqfd).
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "vm/vm.h"

/* --- ioeventfd --- */

struct io_event {
	struct list_head list;
	struct eventfd_ctx *ctx;
	u64 addr;
	u64 match;
	u32 len;		/* 0: writes of any length */
	bool match_data;
};

#define IOEVENTFD_FLAGS (KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | \
			 KVM_IOEVENTFD_FLAG_DEASSIGN)

static bool event_matches(const struct io_event *e, u64 addr, unsigned int len, const void *data)
{
	u64 val = 0;

	if (e->addr != addr || (e->len && e->len != len))
		return false;
	if (!e->match_data)
		return true;
	memcpy(&val, data, len);
	return val == e->match;
}

/* vm->ioevent_write: a write that no in-kernel device has taken. As coalesced_write(). */
static bool claim_write(struct vm *vm, bool port, u64 addr, unsigned int len, const void *data)
{
	struct machine *m = to_machine(vm);
	struct io_event *e;

	if (len > sizeof(u64))
		return false;
	list_for_each_entry_srcu(e, port ? &m->port_events : &m->mmio_events, list,
				 srcu_read_lock_held(&vm->mem.srcu)) {
		if (event_matches(e, addr, len, data)) {
			compat_eventfd_signal(e->ctx);
			return true;
		}
	}
	return coalesced_write(m, port, addr, len, data);
}

/* From now on vm/ wants to see the guest's writes. Never undone. */
void eventfd_claim_writes(struct vm *vm)
{
	WRITE_ONCE(vm->ioevent_write, claim_write);
}

static int ioeventfd_check(const struct kvm_ioeventfd *args)
{
	u64 end = args->addr + args->len;

	if (args->flags & ~(u32)IOEVENTFD_FLAGS)
		return -EINVAL;
	if (args->len > 8 || (args->len && !is_power_of_2(args->len)))
		return -EINVAL;
	if (!args->len && (args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	if (end < args->addr)
		return -EINVAL;
	if (args->flags & KVM_IOEVENTFD_FLAG_PIO && (args->addr >= 0x10000 || end > 0x10000))
		return -EINVAL;
	return 0;
}

/* Would both answer the same write? */
static bool events_collide(const struct io_event *a, const struct io_event *b)
{
	return a->addr == b->addr && (!a->len || !b->len || a->len == b->len) &&
	       (!a->match_data || !b->match_data || a->match == b->match);
}

static int ioeventfd_assign(struct machine *m, struct list_head *events,
			    const struct io_event *template)
{
	struct io_event *e;

	if (m->nr_io_events >= VM_MAX_EVENTS)
		return -ENOSPC;
	list_for_each_entry(e, events, list) {
		if (events_collide(e, template))
			return -EEXIST;
	}
	e = kmemdup(template, sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	list_add_tail_rcu(&e->list, events);
	m->nr_io_events++;
	eventfd_claim_writes(&m->vm);
	return 0;
}

static int ioeventfd_deassign(struct machine *m, struct list_head *events,
			      const struct io_event *template)
{
	struct io_event *e;

	list_for_each_entry(e, events, list) {
		if (e->ctx != template->ctx || e->addr != template->addr ||
		    e->len != template->len || e->match_data != template->match_data ||
		    (e->match_data && e->match != template->match))
			continue;
		list_del_rcu(&e->list);
		m->nr_io_events--;
		vm_quiesce(&m->vm);
		eventfd_ctx_put(e->ctx);
		kfree(e);
		return 0;
	}
	return -ENOENT;
}

/**
 * ioeventfd_ioctl() - KVM_IOEVENTFD. The caller holds vm->lock. Sleeps.
 * @vm: the VM
 * @args: copied from userspace, unchecked
 *
 * Return: 0, -EINVAL (flags, length, address), -EBADF, -EEXIST (another event answers the same
 * write), -ENOENT (to be removed, but not there), -ENOSPC, -ENOMEM.
 */
int ioeventfd_ioctl(struct vm *vm, const struct kvm_ioeventfd *args)
{
	struct machine *m = to_machine(vm);
	struct list_head *events;
	struct io_event e = {
		.addr = args->addr,
		.len = args->len,
		.match = args->datamatch,
		.match_data = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int r = ioeventfd_check(args);

	if (r)
		return r;
	e.ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(e.ctx))
		return PTR_ERR(e.ctx);
	events = args->flags & KVM_IOEVENTFD_FLAG_PIO ? &m->port_events : &m->mmio_events;
	if (args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		r = ioeventfd_deassign(m, events, &e);
	else
		r = ioeventfd_assign(m, events, &e);
	if (r || args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		eventfd_ctx_put(e.ctx);
	return r;
}

/* --- irqfd --- */

struct irqfd {
	struct list_head list;
	struct vm *vm;
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
	struct irqchip *chip = &f->vm->irqchip;

	irqchip_set_irq(chip, f->resample ? IRQ_SOURCE_RESAMPLE : IRQ_SOURCE_USER, f->gsi, 1);
	if (!f->resample)
		irqchip_set_irq(chip, IRQ_SOURCE_USER, f->gsi, 0);
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
	irqchip_set_irq(&m->vm.irqchip, IRQ_SOURCE_RESAMPLE, f->gsi, 0);
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
	f->vm = &m->vm;
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
 * @vm: the VM
 * @args: copied from userspace, unchecked
 *
 * Return: 0, -EINVAL (flags, GSI, no in-kernel irqchip, or for resampling no PIC and IOAPIC there,
 * not an eventfd), -EBADF, -EBUSY (the eventfd is in use by another irqfd of this VM), -ENOSPC,
 * -ENOMEM.
 */
int irqfd_ioctl(struct vm *vm, const struct kvm_irqfd *args)
{
	struct machine *m = to_machine(vm);
	struct eventfd_ctx *ctx;
	struct file *file;
	bool deassign;
	int r = 0;

	if (args->flags & ~(u32)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE) ||
	    args->gsi >= IRQCHIP_MAX_GSI || !irqchip_in_kernel(&vm->irqchip))
		return -EINVAL;
	if (args->flags == KVM_IRQFD_FLAG_RESAMPLE && !irqchip_full(&vm->irqchip))
		return -EINVAL;
	file = eventfd_fget(args->fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(ctx)) {
		r = PTR_ERR(ctx);
		goto out;
	}
	deassign = args->flags & KVM_IRQFD_FLAG_DEASSIGN;
	irqfds_free(m, deassign ? ctx : NULL, args->gsi);
	if (!deassign)
		r = irqfd_assign(m, file, ctx, args);
	if (r || deassign)
		eventfd_ctx_put(ctx);
out:
	fput(file);
	return r;
}

/* --- life --- */

void eventfd_init(struct machine *m)
{
	INIT_LIST_HEAD(&m->port_events);
	INIT_LIST_HEAD(&m->mmio_events);
	INIT_LIST_HEAD(&m->irqfds);
	INIT_LIST_HEAD(&m->resamplers);
}

static void io_events_free(struct list_head *events)
{
	struct io_event *e, *next;

	list_for_each_entry_safe(e, next, events, list) {
		eventfd_ctx_put(e->ctx);
		kfree(e);
	}
}

/* The VM goes; no vCPU runs, but eventfds may still be signalled. Sleeps. */
void eventfd_release(struct machine *m)
{
	struct irqfd *f, *next;

	list_for_each_entry_safe(f, next, &m->irqfds, list)
		irqfd_free(m, f);
	io_events_free(&m->port_events);
	io_events_free(&m->mmio_events);
}
