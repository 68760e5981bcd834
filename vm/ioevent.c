// SPDX-License-Identifier: GPL-2.0
/*
 * Guest writes that userspace wants to see without an exit of their own: an ioeventfd signals an
 * eventfd, a coalesced zone puts the write into a ring that userspace empties at the next exit for
 * another reason. One ring a VM, shown as page 2 of each vCPU's mmap.
 */
#include <linux/eventfd.h>
#include <linux/nospec.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "vm/vm.h"

struct io_event {
	struct list_head list;		/* zones stand behind ioeventfds */
	struct eventfd_ctx *ctx;	/* NULL: a coalesced zone */
	u64 addr;
	u32 len;		/* of the write, 0 for any; or of the zone */
	bool match_data;
	u64 match;
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

static bool zone_covers(const struct io_event *zone, u64 addr, unsigned int len)
{
	return addr >= zone->addr && addr - zone->addr < zone->len &&
	       len <= zone->len - (addr - zone->addr);
}

/*
 * Userspace can write the ring's indices at any time, and may set both before it lets a guest run.
 * Each is read once, and an index out of range makes the ring full. False where it is.
 */
static bool ring_add(struct machine *m, bool port, u64 addr, unsigned int len, const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = m->ring;
	struct kvm_coalesced_mmio *entry;
	u32 first, last, next;
	bool room;

	spin_lock(&m->ring_lock);
	last = READ_ONCE(ring->last);
	next = (last + 1) % KVM_COALESCED_MMIO_MAX;
	first = READ_ONCE(ring->first);
	room = last < KVM_COALESCED_MMIO_MAX && first < KVM_COALESCED_MMIO_MAX && first != next;
	if (room) {
		last = array_index_nospec(last, KVM_COALESCED_MMIO_MAX);
		entry = &ring->coalesced_mmio[last];
		entry->phys_addr = addr;
		entry->len = len;
		entry->pio = port;
		memset(entry->data, 0, sizeof(entry->data));
		memcpy(entry->data, data, len);
		/* The entry before its index; pairs with the barrier in userspace. */
		smp_store_release(&ring->last, next);
	}
	spin_unlock(&m->ring_lock);
	return room;
}

/*
 * vm->ioevent_write: a write that no in-kernel device has taken. Any context, as a reader of the
 * memory slots. False where it is to go to userspace as usual.
 */
static bool claim_write(struct vm *vm, bool port, u64 addr, unsigned int len, const void *data)
{
	struct machine *m = to_machine(vm);
	struct io_event *e;

	if (len > sizeof(u64))
		return false;
	list_for_each_entry_srcu(e, &m->io_events[port], list,
				 srcu_read_lock_held(&vm->mem.srcu) ||
				 rcu_read_lock_sched_held()) {
		if (!e->ctx && zone_covers(e, addr, len))
			return ring_add(m, port, addr, len, data);
		if (e->ctx && event_matches(e, addr, len, data)) {
			compat_eventfd_signal(e->ctx);
			return true;
		}
	}
	return false;
}

/* Are these ioeventfds that would both answer the same write? */
static bool events_collide(const struct io_event *a, const struct io_event *b)
{
	return a->ctx && b->ctx && a->addr == b->addr &&
	       (!a->len || !b->len || a->len == b->len) &&
	       (!a->match_data || !b->match_data || a->match == b->match);
}

/* @nr: how many there are of this kind. */
static int event_add(struct machine *m, bool port, const struct io_event *new, unsigned int *nr)
{
	struct list_head *events = &m->io_events[port];
	struct io_event *e;

	if (*nr >= VM_MAX_EVENTS)
		return -ENOSPC;
	list_for_each_entry(e, events, list) {
		if (events_collide(e, new))
			return -EEXIST;
	}
	e = kmemdup(new, sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	if (e->ctx)
		list_add_rcu(&e->list, events);
	else
		list_add_tail_rcu(&e->list, events);
	++*nr;
	/* From now on the guest's writes are looked at. Never undone. */
	WRITE_ONCE(m->vm.ioevent_write, claim_write);
	return 0;
}

static void event_free(struct io_event *e)
{
	if (e->ctx)
		eventfd_ctx_put(e->ctx);
	kfree(e);
}

static void event_remove(struct machine *m, struct io_event *e, unsigned int *nr)
{
	list_del_rcu(&e->list);
	--*nr;
	mem_synchronize(&m->vm.mem);
	event_free(e);
}

static bool ioeventfd_valid(const struct kvm_ioeventfd *args)
{
	u64 end = args->addr + args->len;

	if (args->flags & ~(u32)IOEVENTFD_FLAGS || end < args->addr)
		return false;
	if (args->flags & KVM_IOEVENTFD_FLAG_PIO && (args->addr >= 0x10000 || end > 0x10000))
		return false;
	if (!args->len)
		return !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
	return args->len <= 8 && is_power_of_2(args->len);
}

static int ioeventfd_deassign(struct machine *m, bool port, const struct io_event *old)
{
	struct io_event *e;

	list_for_each_entry(e, &m->io_events[port], list) {
		if (e->ctx == old->ctx && e->len == old->len &&
		    e->match_data == old->match_data && events_collide(e, old)) {
			event_remove(m, e, &m->nr_io_events);
			return 0;
		}
	}
	return -ENOENT;
}

/**
 * ioeventfd_ioctl() - KVM_IOEVENTFD. The caller holds vm->lock. Sleeps.
 * @m: the VM
 * @args: unchecked
 *
 * Return: 0, -EINVAL (flags, length, address), -EBADF, -EEXIST (another event answers the same
 * write), -ENOENT (to be removed, but not there), -ENOSPC, -ENOMEM.
 */
int ioeventfd_ioctl(struct machine *m, const struct kvm_ioeventfd *args)
{
	bool deassign = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	bool port = args->flags & KVM_IOEVENTFD_FLAG_PIO;
	struct io_event e = {
		.addr = args->addr,
		.len = args->len,
		.match = args->datamatch,
		.match_data = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int r;

	if (!ioeventfd_valid(args))
		return -EINVAL;
	e.ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(e.ctx))
		return PTR_ERR(e.ctx);
	r = deassign ? ioeventfd_deassign(m, port, &e) :
		       event_add(m, port, &e, &m->nr_io_events);
	if (r || deassign)
		eventfd_ctx_put(e.ctx);
	return r;
}

static bool zone_valid(const struct kvm_coalesced_mmio_zone *zone)
{
	return zone->pio <= 1 && zone->size && zone->addr + zone->size >= zone->addr;
}

/** coalesced_register() - KVM_REGISTER_COALESCED_MMIO. 0, -EINVAL, -ENOSPC (too many), -ENOMEM. */
int coalesced_register(struct machine *m, const struct kvm_coalesced_mmio_zone *zone)
{
	struct io_event e = { .addr = zone->addr, .len = zone->size };

	return zone_valid(zone) ? event_add(m, zone->pio, &e, &m->nr_zones) : -EINVAL;
}

/** coalesced_unregister() - KVM_UNREGISTER_COALESCED_MMIO: of all zones within @zone. Sleeps. */
int coalesced_unregister(struct machine *m, const struct kvm_coalesced_mmio_zone *zone)
{
	struct io_event *e, *next;
	bool port = zone->pio;	/* an index: no other value in speculation either */

	if (!zone_valid(zone))
		return -EINVAL;
	list_for_each_entry_safe(e, next, &m->io_events[port], list) {
		if (!e->ctx && e->addr >= zone->addr &&
		    e->addr + e->len <= zone->addr + zone->size)
			event_remove(m, e, &m->nr_zones);
	}
	return 0;
}

/** ioevents_release() - the VM goes; no vCPU runs. */
void ioevents_release(struct machine *m)
{
	struct io_event *e, *next;
	int port;

	for (port = 0; port < 2; port++)
		list_for_each_entry_safe(e, next, &m->io_events[port], list)
			event_free(e);
}
