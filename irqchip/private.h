/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of irqchip/ share. */
#ifndef SVM_IRQCHIP_PRIVATE_H
#define SVM_IRQCHIP_PRIVATE_H

#include <asm/apicdef.h>

#include "irqchip/irqchip.h"

/* A guest can't make the host take timer interrupts more often than this. */
#define MIN_PERIOD_NS	100000ull

/* An interrupt message on the (virtual) APIC bus. */
struct apic_msg {
	u32 dest;		/* physical id or logical destination */
	u32 shorthand;		/* 0 or APIC_DEST_SELF ... */
	u16 mode;		/* APIC_DM_FIXED ... */
	u8 vector;
	bool logical;
	bool trig_level;	/* level-triggered */
	struct lapic *src;	/* NULL for IOAPIC and MSI */
};

/* lapic.c. Any context: number that accepted, 0 coalesced (IRR was set), -1 no target. */
int lapic_deliver(struct irqchip *chip, const struct apic_msg *msg);
int lapic_inject(struct lapic *apic, u32 mode, u8 vector, bool trig_level);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *apic);
void lapic_timer_set_count(struct lapic *apic, u32 count);
void lapic_timer_restore(struct lapic *apic);
void lapic_timer_stop(struct lapic *apic);
void lapic_timer_set_divisor(struct lapic *apic, u32 tdcr);
bool lapic_timer_counting(const struct lapic *apic);
u32 lapic_timer_current(struct lapic *apic);
void lapic_timer_set_deadline(struct lapic *apic, u64 deadline);
bool lapic_timer_deadline_mode(const struct lapic *apic);
void lapic_timer_set_lvt(struct lapic *apic, u32 val);

/* The register page: offsets and bits as in <asm/apicdef.h>. */
static inline u32 lapic_reg(const struct lapic *apic, u32 offset)
{
	return READ_ONCE(*(u32 *)(apic->regs + offset));
}

static inline void lapic_set_reg(struct lapic *apic, u32 offset, u32 val)
{
	WRITE_ONCE(*(u32 *)(apic->regs + offset), val);
}

/* For resampling irqfds: these inputs' interrupts were ended. No lock held. */
static inline void irqchip_report_eois(struct irqchip *chip, unsigned long inputs)
{
	unsigned int input;

	if (READ_ONCE(chip->resampling))
		for_each_set_bit(input, &inputs, BITS_PER_LONG)
			chip->ops->eoi(chip, input);
}

/* pic.c, ioapic.c: level of an input line, ORed over its sources. chip->lock held. */
int pic_set_irq(struct irqchip *chip, unsigned int pin, int level);
int ioapic_set_irq(struct irqchip *chip, unsigned int pin, int level);
void pic_init(struct irqchip *chip);
bool pic_port_read(struct irqchip *chip, u16 port, u8 *val);
bool pic_port_write(struct irqchip *chip, u16 port, u8 val);
void pic_set_state(struct irqchip *chip, unsigned int which, const struct kvm_pic_state *s);
void ioapic_init(struct ioapic *io);
void ioapic_eoi(struct irqchip *chip, u8 vector, bool level);
void ioapic_set_state(struct irqchip *chip, const struct kvm_ioapic_state *s);

/* pit.c */
bool pit_port_read(struct irqchip *chip, u16 port, u8 *val);
bool pit_port_write(struct irqchip *chip, u16 port, u8 val);
void pit_irq_acked(struct irqchip *chip);
void pit_free(struct irqchip *chip);

/* routing.c */
int routing_init(struct irqchip *chip);
bool routing_has_level_vector(struct irqchip *chip, u8 vector);

#endif
