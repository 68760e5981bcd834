/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of irqchip/ share. */
#ifndef SVM_IRQCHIP_PRIVATE_H
#define SVM_IRQCHIP_PRIVATE_H

#include "irqchip/irqchip.h"

/* Delivery modes of ICR, LVT, redirection entries and MSIs (APM vol. 2, 16.5). */
#define APIC_FIXED	0
#define APIC_LOWEST	1
#define APIC_SMI	2
#define APIC_NMI	4
#define APIC_INIT	5
#define APIC_STARTUP	6
#define APIC_EXTINT	7

#define SHORTHAND_NONE	0
#define SHORTHAND_SELF	1
#define SHORTHAND_ALL	2
#define SHORTHAND_OTHERS 3

/* An interrupt message on the (virtual) APIC bus. */
struct apic_msg {
	u32 dest;		/* physical id or logical destination */
	u8 vector;
	u8 mode;		/* APIC_FIXED ... */
	bool logical;
	bool level;		/* asserted; only INIT knows de-assert */
	bool trig_level;	/* level-triggered */
	u8 shorthand;
	struct lapic *src;	/* NULL for IOAPIC and MSI */
};

/* lapic.c. Any context: number that accepted, 0 coalesced (IRR was set), -1 no target. */
int lapic_deliver(struct irqchip *chip, const struct apic_msg *msg);
int lapic_inject(struct lapic *apic, u8 mode, u8 vector, bool trig_level);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *apic);
void lapic_timer_restart(struct lapic *apic);
void lapic_timer_restore(struct lapic *apic);
void lapic_timer_reset(struct lapic *apic);
void lapic_timer_stop(struct lapic *apic);
void lapic_timer_set_divisor(struct lapic *apic, u32 tdcr);
bool lapic_timer_counting(const struct lapic *apic);
u32 lapic_timer_current(struct lapic *apic);
void lapic_timer_set_deadline(struct lapic *apic, u64 deadline);
bool lapic_timer_deadline_mode(struct lapic *apic);
void lapic_timer_mode_changed(struct lapic *apic);

/* register page */
#define LAPIC_ID	0x020
#define LAPIC_LVR	0x030
#define LAPIC_TPR	0x080
#define LAPIC_APR	0x090
#define LAPIC_PPR	0x0a0
#define LAPIC_EOI	0x0b0
#define LAPIC_RRR	0x0c0
#define LAPIC_LDR	0x0d0
#define LAPIC_DFR	0x0e0
#define LAPIC_SVR	0x0f0
#define LAPIC_ISR	0x100
#define LAPIC_TMR	0x180
#define LAPIC_IRR	0x200
#define LAPIC_ESR	0x280
#define LAPIC_ICR	0x300
#define LAPIC_ICR2	0x310
#define LAPIC_LVTT	0x320
#define LAPIC_LVTTHMR	0x330
#define LAPIC_LVTPC	0x340
#define LAPIC_LVT0	0x350
#define LAPIC_LVT1	0x360
#define LAPIC_LVTERR	0x370
#define LAPIC_TMICT	0x380
#define LAPIC_TMCCT	0x390
#define LAPIC_TDCR	0x3e0
#define LAPIC_SELF_IPI	0x3f0

#define LVT_MASKED	BIT(16)

static inline u32 lapic_reg(const struct lapic *apic, u32 offset)
{
	return READ_ONCE(*(u32 *)(apic->regs + offset));
}

static inline void lapic_set_reg(struct lapic *apic, u32 offset, u32 val)
{
	WRITE_ONCE(*(u32 *)(apic->regs + offset), val);
}

/* pic.c, ioapic.c: level of an input line, ORed over its sources. chip->lock held. */
int pic_set_irq(struct pic_pair *pic, unsigned int pin, int level);
struct pic_pair *pic_alloc(struct irqchip *chip);
int ioapic_set_irq(struct ioapic *io, unsigned int pin, int level);
struct ioapic *ioapic_alloc(struct irqchip *chip);
void ioapic_free(struct ioapic *io);
void ioapic_eoi(struct irqchip *chip, u8 vector, bool level);
bool pic_port_read(struct irqchip *chip, u16 port, u8 *val);
bool pic_port_write(struct irqchip *chip, u16 port, u8 val);
void pic_get_state(struct irqchip *chip, unsigned int which, struct kvm_pic_state *s);
void pic_set_state(struct irqchip *chip, unsigned int which, const struct kvm_pic_state *s);
void ioapic_get_state(struct irqchip *chip, struct kvm_ioapic_state *s);
void ioapic_set_state(struct irqchip *chip, const struct kvm_ioapic_state *s);
bool pit_port_read(struct irqchip *chip, u16 port, u8 *val);
bool pit_port_write(struct irqchip *chip, u16 port, u8 val);
void pit_irq_acked(struct irqchip *chip);
void pit_free(struct irqchip *chip);

/* routing.c */
int routing_init(struct irqchip *chip, bool empty);
bool routing_has_level_vector(struct irqchip *chip, u8 vector);
void routing_free(struct irqchip *chip);

#endif
