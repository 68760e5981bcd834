// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259A interrupt controllers of a PC; names as in Intel's data sheet.
 *
 * The state is the ABI's. last_irr is the level of the inputs, priority_add the input of lowest
 * priority + 1, init_state 0 when ready and 1..3 while ICW2..4 are awaited; elcr has the
 * level-triggered inputs, elcr_mask those that may be.
 */
#include <linux/bitops.h>

#include "irqchip/private.h"

#define SLAVE_INPUT	2	/* of the master: the slave's output */

/* Input with the highest priority among @mask; 8 for none. */
static unsigned int highest(const struct kvm_pic_state *p, u8 mask)
{
	return mask ? __ffs(ror8(mask, p->priority_add)) : 8;
}

/* Which input would interrupt now? -1: none. */
static int pending_input(const struct kvm_pic_state *p, bool master)
{
	unsigned int request, service;
	u8 isr = p->isr;

	if (p->special_mask)
		isr &= ~p->imr;
	/* In special fully nested mode the slave's requests pass its own one in service. */
	if (master && p->special_fully_nested_mode)
		isr &= ~BIT(SLAVE_INPUT);
	request = highest(p, p->irr & ~p->imr);
	service = highest(p, isr);
	return request < service ? (request + p->priority_add) & 7 : -1;
}

static void set_line(struct kvm_pic_state *p, unsigned int input, bool level)
{
	u8 bit = BIT(input);

	if (level && (p->elcr & bit || !(p->last_irr & bit)))
		p->irr |= bit;
	else if (!level && p->elcr & bit)
		p->irr &= ~bit;
	p->last_irr = level ? p->last_irr | bit : p->last_irr & ~bit;
}

/* Lets the slave's output drive the master, and the master's the processors. chip->lock held. */
static void update(struct irqchip *chip)
{
	unsigned int i, nr = smp_load_acquire(&chip->nr_lapics); /* pairs with lapic_create() */
	bool out;

	set_line(&chip->pic[0], SLAVE_INPUT, pending_input(&chip->pic[1], false) >= 0);
	out = pending_input(&chip->pic[0], true) >= 0;
	if (out == chip->pic_output)
		return;
	WRITE_ONCE(chip->pic_output, out);
	if (!out)
		return;
	for (i = 0; i < nr; i++)
		if (lapic_accepts_pic(chip->lapics[i]))
			chip->ops->kick(chip->lapics[i]);
}

/* An input of the pair (0..15) changes. chip->lock held. 1 delivered, 0 coalesced, -1 masked. */
int pic_set_irq(struct irqchip *chip, unsigned int pin, int level)
{
	struct kvm_pic_state *p = &chip->pic[(pin >> 3) & 1];
	u8 bit = BIT(pin & 7);
	int r = -1;

	if (!(p->imr & bit))
		r = !level || !(p->irr & bit);
	set_line(p, pin & 7, level);
	update(chip);
	return r;
}

/* Takes the input that interrupts now, -1: none. */
static int acknowledge(struct irqchip *chip, struct kvm_pic_state *p, bool master)
{
	int input = pending_input(p, master);

	if (input < 0)
		return -1;
	/* An 8259A lowers its output meanwhile: what the slave has besides is a new edge. */
	if (!master)
		set_line(&chip->pic[0], SLAVE_INPUT, false);
	if (!p->auto_eoi)
		p->isr |= BIT(input);
	else if (p->rotate_on_auto_eoi)
		p->priority_add = (input + 1) & 7;
	/* A level-triggered request stays as long as its line does. */
	if (!(p->elcr & BIT(input)))
		p->irr &= ~BIT(input);
	return input;
}

/** pic_accept() - interrupt acknowledge: the vector, of input 7 where the request has gone. */
u8 pic_accept(struct irqchip *chip)
{
	struct kvm_pic_state *p = &chip->pic[0];
	unsigned int first = 0;
	unsigned long flags;
	u32 eois = 0;
	int input;
	u8 vector;

	raw_spin_lock_irqsave(&chip->lock, flags);
	input = acknowledge(chip, p, true);
	if (input == SLAVE_INPUT) {
		p = &chip->pic[1];
		first = 8;
		input = acknowledge(chip, p, false);
	}
	vector = p->irq_base + (input & 7);
	if (input >= 0 && p->auto_eoi)
		eois = BIT(first + input);
	update(chip);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	irqchip_report_eois(chip, eois);
	if (first + input == 0)
		pit_irq_acked(chip);
	return vector;
}

static void write_icw1(struct kvm_pic_state *p, u8 val)
{
	u8 levels = p->last_irr & p->elcr;	/* edges must come again */

	*p = (struct kvm_pic_state) {
		.last_irr = levels,
		.irr = levels,
		.elcr = p->elcr,
		.elcr_mask = p->elcr_mask,
		.init4 = val & 1,
		.init_state = 1,
	};
}

/* Rotations and EOIs. Returns the inputs whose interrupt was ended. */
static u8 write_ocw2(struct kvm_pic_state *p, u8 val)
{
	bool rotate = val & 0x80, specific = val & 0x40, eoi = val & 0x20;
	unsigned int input = val & 7;

	if (!specific && !eoi) {
		p->rotate_on_auto_eoi = rotate;
		return 0;
	}
	if (!specific) {
		input = highest(p, p->isr);
		if (input == 8)
			return 0;
		input = (input + p->priority_add) & 7;
	}
	if (rotate)
		p->priority_add = (input + 1) & 7;
	if (!eoi)
		return 0;
	p->isr &= ~BIT(input);
	return BIT(input);
}

static void write_ocw3(struct kvm_pic_state *p, u8 val)
{
	if (val & 4)
		p->poll = true;
	if (val & 2)
		p->read_reg_select = val & 1;
	if (val & 0x40)
		p->special_mask = (val >> 5) & 1;
}

static void write_data(struct kvm_pic_state *p, u8 val)
{
	switch (p->init_state) {
	case 0:
		p->imr = val;
		break;
	case 1:
		p->irq_base = val & 0xf8;
		p->init_state = 2;
		break;
	case 2:
		p->init_state = p->init4 ? 3 : 0;
		break;
	case 3:
		p->special_fully_nested_mode = !!(val & 0x10);
		p->auto_eoi = !!(val & 2);
		p->init_state = 0;
		break;
	}
}

static struct kvm_pic_state *by_port(struct irqchip *chip, u16 port)
{
	switch (port) {
	case 0x20 ... 0x21:
	case 0x4d0:
		return &chip->pic[0];
	case 0xa0 ... 0xa1:
	case 0x4d1:
		return &chip->pic[1];
	default:
		return NULL;
	}
}

/* Ports 20, 21, A0, A1 and the edge/level registers 4D0, 4D1. */
bool pic_port_read(struct irqchip *chip, u16 port, u8 *val)
{
	struct kvm_pic_state *p = by_port(chip, port);
	unsigned long flags;
	int input;

	if (!p)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (port >= 0x4d0) {
		*val = p->elcr;
	} else if (p->poll) {
		p->poll = false;
		input = acknowledge(chip, p, p == &chip->pic[0]);
		*val = input < 0 ? 7 : 0x80 | input;
		update(chip);
	} else if (port & 1) {
		*val = p->imr;
	} else {
		*val = p->read_reg_select ? p->isr : p->irr;
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return true;
}

bool pic_port_write(struct irqchip *chip, u16 port, u8 val)
{
	struct kvm_pic_state *p = by_port(chip, port);
	unsigned long flags;
	u32 eois = 0;

	if (!p)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (port >= 0x4d0)
		p->elcr = val & p->elcr_mask;
	else if (port & 1)
		write_data(p, val);
	else if (val & 0x10)
		write_icw1(p, val);
	else if (val & 8)
		write_ocw3(p, val);
	else
		eois = write_ocw2(p, val) << (p == &chip->pic[1] ? 8 : 0);
	update(chip);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	irqchip_report_eois(chip, eois);
	return true;
}

/* The state after power-on. */
void pic_init(struct irqchip *chip)
{
	/* Timer, keyboard, cascade, RTC and FPU are edge-triggered in every PC. */
	chip->pic[0].elcr_mask = 0xf8;
	chip->pic[1].elcr_mask = 0xde;
}

/* Of KVM_SET_IRQCHIP, any bytes. chip->lock held. */
void pic_set_state(struct irqchip *chip, unsigned int which, const struct kvm_pic_state *s)
{
	struct kvm_pic_state *p = &chip->pic[which];

	*p = *s;
	p->priority_add &= 7;
	p->read_reg_select &= 1;
	p->init_state &= 3;
	p->poll = !!p->poll;
	p->special_mask = !!p->special_mask;
	p->auto_eoi = !!p->auto_eoi;
	p->rotate_on_auto_eoi = !!p->rotate_on_auto_eoi;
	p->special_fully_nested_mode = !!p->special_fully_nested_mode;
	p->init4 = !!p->init4;
	update(chip);
}
