// SPDX-License-Identifier: GPL-2.0
/*
 * The set of interrupt controllers of a VM: life, ports, state for userspace.
 */
#include <linux/slab.h>

#include "irqchip/private.h"

/** irqchip_init() - at VM creation; nothing is there yet. */
void irqchip_init(struct irqchip *chip, const struct irqchip_ops *ops, void *vm)
{
	chip->ops = ops;
	chip->vm = vm;
	chip->bus_cycle_ns = 1;
	raw_spin_lock_init(&chip->lock);
}

static void free_chips(struct irqchip *chip)
{
	ioapic_free(chip->ioapic);
	chip->ioapic = NULL;
	kfree(chip->pic);
	chip->pic = NULL;
}

/**
 * irqchip_create() - KVM_CREATE_IRQCHIP: PICs, IOAPIC, default routing. vm->lock held; sleeps.
 * @chip: the VM's interrupt controllers
 *
 * Return: 0, -EEXIST, -ENOMEM.
 */
int irqchip_create(struct irqchip *chip)
{
	if (irqchip_in_kernel(chip))
		return -EEXIST;
	chip->pic = pic_alloc(chip);
	chip->ioapic = ioapic_alloc(chip);
	if (!chip->pic || !chip->ioapic || routing_init(chip, false)) {
		free_chips(chip);
		return -ENOMEM;
	}
	/* Pairs with readers without vm->lock: what they find is complete. */
	smp_store_release(&chip->kind, IRQCHIP_FULL);
	return 0;
}

/**
 * irqchip_create_split() - KVM_CAP_SPLIT_IRQCHIP: only APICs here. vm->lock held; sleeps.
 * @chip: the VM's interrupt controllers
 * @routes: how many GSIs are pins of userspace's IOAPIC
 *
 * Return: 0, -EEXIST, -ENOMEM.
 */
int irqchip_create_split(struct irqchip *chip, unsigned int routes)
{
	if (irqchip_in_kernel(chip))
		return -EEXIST;
	if (routing_init(chip, true))
		return -ENOMEM;
	chip->ioapic_routes = routes;
	smp_store_release(&chip->kind, IRQCHIP_SPLIT);	/* as in irqchip_create() */
	return 0;
}

/**
 * irqchip_check_bus_cycle() - KVM_CAP_X86_APIC_BUS_CYCLES_NS: may APIC timers count such cycles?
 * @chip: the VM's interrupt controllers
 * @ns: of one; the longest count must stay below 2^63 ns
 *
 * Return: 0, -EINVAL, -ENXIO without APICs.
 */
int irqchip_check_bus_cycle(const struct irqchip *chip, u64 ns)
{
	if (!ns || ns >> 24)
		return -EINVAL;
	return irqchip_in_kernel(chip) ? 0 : -ENXIO;
}

/** irqchip_destroy() - at VM destruction; sleeps. The APICs are already gone. */
void irqchip_destroy(struct irqchip *chip)
{
	chip->nr_lapics = 0;
	pit_free(chip);
	routing_free(chip);
	free_chips(chip);
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

/**
 * irqchip_port_read() - IN. A wider access is split, as the ISA bus does it. Any context.
 * @chip: the VM's interrupt controllers
 * @port: the first port
 * @size: 1, 2 or 4 bytes
 * @val: where to, zero-extended
 *
 * Return: whether the first port is one of ours.
 */
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
	unsigned int i;

	if (!write_byte(chip, port, val))
		return false;
	for (i = 1; i < size; i++)
		write_byte(chip, port + i, val >> (8 * i));
	return true;
}

/** irqchip_get_state() - KVM_GET_IRQCHIP. 0, -ENXIO without chips, -EINVAL for an unknown one. */
int irqchip_get_state(struct irqchip *chip, struct kvm_irqchip *s)
{
	unsigned long flags;
	int r = 0;

	if (!irqchip_full(chip))
		return -ENXIO;
	memset(&s->chip, 0, sizeof(s->chip));
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (s->chip_id == KVM_IRQCHIP_IOAPIC)
		ioapic_get_state(chip, &s->chip.ioapic);
	else if (s->chip_id < KVM_IRQCHIP_IOAPIC)
		pic_get_state(chip, s->chip_id == KVM_IRQCHIP_PIC_SLAVE, &s->chip.pic);
	else
		r = -EINVAL;
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return r;
}

/** irqchip_set_state() - KVM_SET_IRQCHIP. 0, -ENXIO without chips, -EINVAL for an unknown one. */
int irqchip_set_state(struct irqchip *chip, const struct kvm_irqchip *s)
{
	unsigned long flags;
	int r = 0;

	if (!irqchip_full(chip))
		return -ENXIO;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (s->chip_id == KVM_IRQCHIP_IOAPIC)
		ioapic_set_state(chip, &s->chip.ioapic);
	else if (s->chip_id < KVM_IRQCHIP_IOAPIC)
		pic_set_state(chip, s->chip_id == KVM_IRQCHIP_PIC_SLAVE, &s->chip.pic);
	else
		r = -EINVAL;
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return r;
}
