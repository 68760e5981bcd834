// SPDX-License-Identifier: GPL-2.0
/*
 * GSI routing: from an interrupt line's number to PIC and IOAPIC pins, or to an MSI.
 */
#include <linux/nospec.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "irqchip/private.h"

#define PIC_PINS	8
#define MAX_PER_GSI	3	/* each of PIC master or slave, IOAPIC; or one MSI */

enum route_type { ROUTE_NONE, ROUTE_PIC, ROUTE_IOAPIC, ROUTE_MSI };

struct route {
	u8 type;
	u8 pin;			/* PIC: 0..15 */
	struct apic_msg msg;
};

/* Replaced whole; readers are under RCU. */
struct irq_routing {
	struct rcu_head rcu;
	unsigned int nr_gsis;
	struct route route[][MAX_PER_GSI];
};

/*
 * MSI address and data (APM vol. 2, 16.11): 0xfee in bits 31:20, destination in 19:12 (with 32-bit
 * ids also bits 63:40), logical mode in bit 2; vector, delivery mode and trigger mode in the data.
 */
static int msi_decode(const struct irqchip *chip, u32 address, u32 address_hi, u32 data,
		      struct apic_msg *msg)
{
	*msg = (struct apic_msg) {
		.dest = (address >> 12) & 0xff,
		.logical = address & BIT(2),
		.vector = data & 0xff,
		.mode = data & APIC_MODE_MASK,
		.trig_level = data & BIT(15),
	};
	if (!chip->x2apic_format)
		return 0;
	msg->dest |= address_hi & 0xffffff00;
	/* Bits 7:0 of the upper half are not part of an id (api.rst, KVM_SIGNAL_MSI). */
	return address_hi & 0xff ? -EINVAL : 0;
}

/** irqchip_signal_msi() - KVM_SIGNAL_MSI. Any context. 1 pending now, 0 nobody took it, -EINVAL. */
int irqchip_signal_msi(struct irqchip *chip, const struct kvm_msi *msi)
{
	struct apic_msg msg;
	int r = msi_decode(chip, msi->address_lo, msi->address_hi, msi->data, &msg);

	return r ?: lapic_deliver(chip, &msg) >= 0;
}

/** irqchip_feeds() - does @gsi drive this input (see IRQ_INPUT_IOAPIC)? In an RCU read section. */
bool irqchip_feeds(struct irqchip *chip, u32 gsi, u32 input)
{
	const struct irq_routing *table = rcu_dereference(chip->routing);
	u8 type = input < IRQ_INPUT_IOAPIC ? ROUTE_PIC : ROUTE_IOAPIC;
	u8 pin = input < IRQ_INPUT_IOAPIC ? input : input - IRQ_INPUT_IOAPIC;
	unsigned int i;

	if (gsi >= table->nr_gsis)
		return false;
	for (i = 0; i < MAX_PER_GSI; i++)
		if (table->route[gsi][i].type == type && table->route[gsi][i].pin == pin)
			return true;
	return false;
}

/** irqchip_set_irq() - any context. >0 delivered, 0 coalesced, <0 masked, -EINVAL: no route. */
int irqchip_set_irq(struct irqchip *chip, int source, u32 gsi, int level)
{
	struct irq_routing *table;
	unsigned long flags;
	struct route *route;
	int r = -EINVAL, i;
	u8 *line;

	if (gsi >= IRQCHIP_MAX_GSI)
		return -EINVAL;
	rcu_read_lock();
	table = rcu_dereference(chip->routing);
	if (!table || gsi >= table->nr_gsis)
		goto out;
	route = table->route[array_index_nospec(gsi, table->nr_gsis)];
	if (route->type == ROUTE_MSI) {
		r = level ? lapic_deliver(chip, &route->msg) : 0;
		goto out;
	}
	raw_spin_lock_irqsave(&chip->lock, flags);
	/* The line is high while any source holds it. */
	line = &chip->line_sources[array_index_nospec(gsi, IRQCHIP_MAX_GSI)];
	*line = level ? *line | BIT(source) : *line & ~BIT(source);
	for (i = 0; i < MAX_PER_GSI && route[i].type != ROUTE_NONE; i++) {
		int one = route[i].type == ROUTE_PIC ?
			  pic_set_irq(chip, route[i].pin, *line) :
			  ioapic_set_irq(chip, route[i].pin, *line);

		r = r < 0 ? one : r + max(one, 0);
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
out:
	rcu_read_unlock();
	return r;
}

static struct irq_routing *table_alloc(unsigned int nr_gsis)
{
	struct irq_routing *table = kvzalloc(struct_size(table, route, nr_gsis),
					     GFP_KERNEL_ACCOUNT);

	if (table)
		table->nr_gsis = nr_gsis;
	return table;
}

static int add_route(struct irqchip *chip, struct irq_routing *table,
		     const struct kvm_irq_routing_entry *e)
{
	struct route *route = table->route[array_index_nospec(e->gsi, table->nr_gsis)];
	u32 chip_id = e->u.irqchip.irqchip, pin = e->u.irqchip.pin;
	struct route new = {};
	unsigned int i;

	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		new.type = chip_id == KVM_IRQCHIP_IOAPIC ? ROUTE_IOAPIC : ROUTE_PIC;
		new.pin = pin + (chip_id == KVM_IRQCHIP_PIC_SLAVE ? PIC_PINS : 0);
		if (!irqchip_full(chip) || chip_id > KVM_IRQCHIP_IOAPIC ||
		    pin >= (new.type == ROUTE_PIC ? PIC_PINS : IRQCHIP_NR_GSIS))
			return -EINVAL;
		break;
	case KVM_IRQ_ROUTING_MSI:
		new.type = ROUTE_MSI;
		if (msi_decode(chip, e->u.msi.address_lo, e->u.msi.address_hi, e->u.msi.data,
			       &new.msg))
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	/* One entry a chip and GSI, and an MSI stands alone. */
	for (i = 0; i < MAX_PER_GSI && route[i].type != ROUTE_NONE; i++)
		if (route[i].type == new.type || route[i].type == ROUTE_MSI ||
		    new.type == ROUTE_MSI)
			return -EINVAL;
	if (i == MAX_PER_GSI)
		return -EINVAL;
	route[i] = new;
	return 0;
}

static void publish(struct irqchip *chip, struct irq_routing *table)
{
	struct irq_routing *old = rcu_dereference_protected(chip->routing, true);

	rcu_assign_pointer(chip->routing, table);
	if (old)
		kvfree_rcu(old, rcu);
}

/** irqchip_set_routing() - KVM_SET_GSI_ROUTING. vm->lock held; sleeps. 0, -EINVAL, -ENOMEM. */
int irqchip_set_routing(struct irqchip *chip, const struct kvm_irq_routing_entry *entries,
			unsigned int nr)
{
	struct irq_routing *table;
	unsigned int i, nr_gsis = 0;

	for (i = 0; i < nr; i++) {
		if (entries[i].gsi >= IRQCHIP_MAX_GSI || entries[i].flags)
			return -EINVAL;
		nr_gsis = max(nr_gsis, entries[i].gsi + 1);
	}
	table = table_alloc(max(nr_gsis, 1u));
	if (!table)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		if (add_route(chip, table, &entries[i])) {	/* the old table stays */
			kvfree(table);
			return -EINVAL;
		}
	}
	publish(chip, table);
	return 0;
}

/* Split irqchip: does a pin of userspace's IOAPIC send this vector, level-triggered? */
bool routing_has_level_vector(struct irqchip *chip, u8 vector)
{
	struct irq_routing *table;
	bool found = false;
	unsigned int i;

	rcu_read_lock();
	table = rcu_dereference(chip->routing);
	for (i = 0; !found && i < min(table->nr_gsis, chip->ioapic_routes); i++) {
		const struct route *r = table->route[i];

		found = r->type == ROUTE_MSI && r->msg.trig_level && r->msg.vector == vector;
	}
	rcu_read_unlock();
	return found;
}

/* The default: GSI n to IOAPIC pin n, and below 16 to PIC input n as well. 0 or -ENOMEM. */
int routing_init(struct irqchip *chip)
{
	struct irq_routing *table = table_alloc(IRQCHIP_NR_GSIS);
	unsigned int gsi;

	if (!table)
		return -ENOMEM;
	for (gsi = 0; gsi < IRQCHIP_NR_GSIS; gsi++) {
		table->route[gsi][0] = (struct route) { .type = ROUTE_IOAPIC, .pin = gsi };
		if (gsi < 2 * PIC_PINS)
			table->route[gsi][1] = (struct route) { .type = ROUTE_PIC, .pin = gsi };
	}
	publish(chip, table);
	return 0;
}
