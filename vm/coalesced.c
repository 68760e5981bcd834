// SPDX-License-Identifier: GPL-2.0
/*
 * Coalesced MMIO and ports: guest writes to registered zones are put into a ring that userspace
 * empties at the next exit for another reason. One ring a VM, shown as page 2 of each vCPU's mmap.
 *
 * Userspace can write the ring's indices at any time, and may set both before it lets a guest run.
 * Each is read once, and an index out of range makes the ring full.
 */
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "vm/vm.h"

struct zone_entry {
	struct list_head list;
	u64 addr;
	u32 size;
	bool port;
};

int coalesced_init(struct machine *m)
{
	INIT_LIST_HEAD(&m->zones);
	spin_lock_init(&m->ring_lock);
	m->ring_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return m->ring_page ? 0 : -ENOMEM;
}

/* The VM goes, or was never complete. */
void coalesced_release(struct machine *m)
{
	struct zone_entry *z, *next;

	list_for_each_entry_safe(z, next, &m->zones, list)
		kfree(z);
	if (m->ring_page)
		__free_page(m->ring_page);
}

static bool ring_add(struct machine *m, bool port, u64 addr, unsigned int len, const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = page_address(m->ring_page);
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
 * A guest's write goes into the ring. Any context, under the SRCU read lock of the memory slots.
 * False where no zone covers it or the ring is full: then it goes to userspace as usual.
 */
bool coalesced_write(struct machine *m, bool port, u64 addr, unsigned int len, const void *data)
{
	struct zone_entry *z;

	if (len > sizeof_field(struct kvm_coalesced_mmio, data))
		return false;
	list_for_each_entry_srcu(z, &m->zones, list, srcu_read_lock_held(&m->vm.mem.srcu)) {
		if (z->port == port && addr >= z->addr && addr - z->addr < z->size &&
		    len <= z->size - (addr - z->addr))
			return ring_add(m, port, addr, len, data);
	}
	return false;
}

static bool zone_valid(const struct kvm_coalesced_mmio_zone *zone)
{
	return zone->pio <= 1 && zone->size && zone->addr + zone->size >= zone->addr;
}

/** coalesced_register() - KVM_REGISTER_COALESCED_MMIO. 0, -EINVAL, -ENOSPC (too many), -ENOMEM. */
int coalesced_register(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	struct machine *m = to_machine(vm);
	struct zone_entry *z;

	if (!zone_valid(zone))
		return -EINVAL;
	if (m->nr_zones >= VM_MAX_EVENTS)
		return -ENOSPC;
	z = kzalloc(sizeof(*z), GFP_KERNEL_ACCOUNT);
	if (!z)
		return -ENOMEM;
	z->addr = zone->addr;
	z->size = zone->size;
	z->port = zone->pio;
	list_add_tail_rcu(&z->list, &m->zones);
	m->nr_zones++;
	eventfd_claim_writes(vm);
	return 0;
}

/** coalesced_unregister() - KVM_UNREGISTER_COALESCED_MMIO: of all zones within @zone. Sleeps. */
int coalesced_unregister(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	struct machine *m = to_machine(vm);
	struct zone_entry *z, *next;

	if (!zone_valid(zone))
		return -EINVAL;
	list_for_each_entry_safe(z, next, &m->zones, list) {
		if (z->port != zone->pio || z->addr < zone->addr ||
		    z->addr + z->size > zone->addr + zone->size)
			continue;
		list_del_rcu(&z->list);
		m->nr_zones--;
		vm_quiesce(vm);
		kfree(z);
	}
	return 0;
}
