// SPDX-License-Identifier: GPL-2.0
/*
 * The set of interrupt controllers of a VM: life, ports, state for userspace.
 */
#include <linux/slab.h>

#include "irqchip/private.h"

/** irqchip_init() - at VM creation; nothing is there yet. */
void irqchip_init(struct irqchip *chip, const struct irqchip_ops *ops)
{
	chip->ops = ops;
	chip->bus_cycle_ns = 1;
	raw_spin_lock_init(&chip->lock);
	pic_init(chip);
	ioapic_init(&chip->ioapic);
}

/** irqchip_create() - KVM_CREATE_IRQCHIP. vm->lock held; sleeps. 0, -EEXIST, -ENOMEM. */
int irqchip_create(struct irqchip *chip)
{
	if (irqchip_in_kernel(chip))
		return -EEXIST;
	if (routing_init(chip))
		return -ENOMEM;
	/* Pairs with readers without vm->lock: what they find is complete. */
	smp_store_release(&chip->kind, IRQCHIP_FULL);
	return 0;
}

/** irqchip_create_split() - KVM_CAP_SPLIT_IRQCHIP, likewise; @routes: see ioapic_routes. */
int irqchip_create_split(struct irqchip *chip, unsigned int routes)
{
	if (irqchip_in_kernel(chip))
		return -EEXIST;
	if (irqchip_set_routing(chip, NULL, 0))
		return -ENOMEM;
	chip->ioapic_routes = routes;
	smp_store_release(&chip->kind, IRQCHIP_SPLIT);	/* as in irqchip_create() */
	return 0;
}

/** irqchip_check_bus_cycle() - may APIC timers count so? 0, -EINVAL, -ENXIO without APICs. */
int irqchip_check_bus_cycle(const struct irqchip *chip, u64 ns)
{
	if (!ns || ns >> 23)	/* the longest count from now must stay below 2^63 ns */
		return -EINVAL;
	return irqchip_in_kernel(chip) ? 0 : -ENXIO;
}

/** irqchip_destroy() - at VM destruction; sleeps. The APICs are already gone. */
void irqchip_destroy(struct irqchip *chip)
{
	chip->nr_lapics = 0;
	pit_free(chip);
	hrtimer_cancel(&chip->ioapic.storm_timer);
	kvfree(rcu_dereference_protected(chip->routing, true));
	RCU_INIT_POINTER(chip->routing, NULL);
}

/* The 8-bit devices behind a port. */
static bool read_byte(struct irqchip *chip, u16 port, u8 *val)
{
	return pic_port_read(chip, port, val) || pit_port_read(chip, port, val);
}

static bool write_byte(struct irqchip *chip, u16 port, u8 val)
{
	return pic_port_write(chip, port, val) || pit_port_write(chip, port, val);
}

/** irqchip_port_read() - IN of bytes, as the ISA bus does it: is the first port one of ours? */
bool irqchip_port_read(struct irqchip *chip, u16 port, unsigned int size, u32 *val)
{
	unsigned int i;
	u8 byte;

	if (!read_byte(chip, port, &byte))
		return false;
	*val = byte;
	for (i = 1; i < size; i++) {
		if (!read_byte(chip, port + i, &byte))
			byte = 0xff;
		*val |= (u32)byte << (8 * i);
	}
	return true;
}

/** irqchip_port_write() - OUT, likewise. */
bool irqchip_port_write(struct irqchip *chip, u16 port, unsigned int size, u32 val)
{
	bool ours = write_byte(chip, port, val);
	unsigned int i;

	for (i = 1; ours && i < size; i++)
		write_byte(chip, port + i, val >> (8 * i));
	return ours;
}

/** irqchip_get_state() - KVM_GET_IRQCHIP. 0, -ENXIO without chips, -EINVAL for an unknown one. */
int irqchip_get_state(struct irqchip *chip, struct kvm_irqchip *s)
{
	unsigned long flags;

	if (!irqchip_full(chip))
		return -ENXIO;
	memset(&s->chip, 0, sizeof(s->chip));
	if (s->chip_id > KVM_IRQCHIP_IOAPIC)
		return -EINVAL;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (s->chip_id == KVM_IRQCHIP_IOAPIC)
		s->chip.ioapic = chip->ioapic.s;
	else
		s->chip.pic = chip->pic[s->chip_id == KVM_IRQCHIP_PIC_SLAVE];
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return 0;
}

/** irqchip_set_state() - KVM_SET_IRQCHIP, likewise. */
int irqchip_set_state(struct irqchip *chip, const struct kvm_irqchip *s)
{
	unsigned long flags;

	if (!irqchip_full(chip))
		return -ENXIO;
	if (s->chip_id > KVM_IRQCHIP_IOAPIC)
		return -EINVAL;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (s->chip_id == KVM_IRQCHIP_IOAPIC)
		ioapic_set_state(chip, &s->chip.ioapic);
	else
		pic_set_state(chip, s->chip_id == KVM_IRQCHIP_PIC_SLAVE, &s->chip.pic);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return 0;
}
