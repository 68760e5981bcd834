// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259A interrupt controllers of a PC; names as in Intel's data sheet.
 */
#include <linux/slab.h>

#include "irqchip/private.h"

struct pic {
	u8 irr, imr, isr;
	u8 lines;		/* level of the inputs */
	u8 elcr, elcr_mask;	/* level-triggered inputs; those that may be */
	u8 priority_add;	/* lowest-priority input + 1 */
	u8 irq_base;
	u8 init_state;		/* 0 ready, 1..3 wait for ICW2..4 */
	bool read_isr, poll;
	bool special_mask, auto_eoi, rotate_on_auto_eoi, special_fully_nested;
	bool init4;
};

struct pic_pair {
	struct irqchip *chip;
	struct pic pic[2];	/* Protected by: chip->lock */
};

/* Input with the highest priority among @mask; 8 for none. */
static unsigned int highest(const struct pic *p, u8 mask)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		if (mask & BIT((i + p->priority_add) & 7))
			return i;
	return 8;
}

/* Which input would interrupt now? -1: none. */
static int pending_input(const struct pic *p, bool master)
{
	unsigned int request, service;
	u8 isr = p->isr;

	request = highest(p, p->irr & ~p->imr);
	if (request == 8)
		return -1;
	if (p->special_mask)
		isr &= ~p->imr;
	/* In special fully nested mode the slave's requests pass its own one in service. */
	if (master && p->special_fully_nested)
		isr &= ~BIT(2);
	service = highest(p, isr);
	return request < service ? (request + p->priority_add) & 7 : -1;
}

static void set_line(struct pic *p, unsigned int input, bool level)
{
	u8 bit = BIT(input);

	if (p->elcr & bit) {
		p->irr = level ? p->irr | bit : p->irr & ~bit;
	} else if (level) {
		if (!(p->lines & bit))
			p->irr |= bit;
	}
	p->lines = level ? p->lines | bit : p->lines & ~bit;
}

/* Lets the slave's output drive the master, and the master's the processors. */
static void update(struct pic_pair *pair)
{
	struct irqchip *chip = pair->chip;
	unsigned int i, nr = smp_load_acquire(&chip->nr_lapics); /* pairs with lapic_create() */
	bool out;

	set_line(&pair->pic[0], 2, pending_input(&pair->pic[1], false) >= 0);
	out = pending_input(&pair->pic[0], true) >= 0;
	if (out == chip->pic_output)
		return;
	WRITE_ONCE(chip->pic_output, out);
	if (!out)
		return;
	for (i = 0; i < nr; i++)
		if (lapic_accepts_pic(chip->lapics[i]))
			chip->ops->kick(chip->lapics[i]);
}

/**
 * pic_set_irq() - an input of the pair (0..15) changes. chip->lock held. 1 delivered, 0 coalesced,
 * -1 masked.
 * @pair: the PIC pair
 * @pin: 0 to 15
 * @level: of the line
 */
int pic_set_irq(struct pic_pair *pair, unsigned int pin, int level)
{
	struct pic *p = &pair->pic[(pin >> 3) & 1];
	u8 bit = BIT(pin & 7);
	int r = -1;

	if (!(p->imr & bit))
		r = !level || !(p->irr & bit);
	set_line(p, pin & 7, level);
	update(pair);
	return r;
}

static void acknowledge(struct pic *p, unsigned int input)
{
	if (p->auto_eoi) {
		if (p->rotate_on_auto_eoi)
			p->priority_add = (input + 1) & 7;
	} else {
		p->isr |= BIT(input);
	}
	/* A level-triggered request stays as long as its line does. */
	if (!(p->elcr & BIT(input)))
		p->irr &= ~BIT(input);
}

static void report_eois(struct irqchip *chip, u32 inputs)
{
	unsigned int i;

	for (i = 0; READ_ONCE(chip->resampling) && inputs >> i; i++)
		if (inputs & BIT(i))
			chip->ops->eoi(chip, i);
}

/**
 * pic_accept() - interrupt acknowledge: the vector. A request that has gone gives the spurious
 * input 7.
 * @chip: the VM's interrupt controllers
 */
u8 pic_accept(struct irqchip *chip)
{
	struct pic_pair *pair = chip->pic;
	struct pic *master = &pair->pic[0], *slave = &pair->pic[1];
	unsigned long flags;
	int input, slave_input;
	bool timer = false;
	u32 eois = 0;
	u8 vector;

	raw_spin_lock_irqsave(&chip->lock, flags);
	input = pending_input(master, true);
	if (input < 0) {
		vector = master->irq_base + 7;
	} else if (input == 2) {
		acknowledge(master, 2);
		slave_input = pending_input(slave, false);
		if (slave_input >= 0) {
			acknowledge(slave, slave_input);
			eois = slave->auto_eoi ? BIT(slave_input + 8) : 0;
		} else {
			slave_input = 7;
		}
		vector = slave->irq_base + slave_input;
	} else {
		acknowledge(master, input);
		eois = master->auto_eoi ? BIT(input) : 0;
		vector = master->irq_base + input;
		timer = input == 0;
	}
	update(pair);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	report_eois(chip, eois);
	if (timer)
		pit_irq_acked(chip);
	return vector;
}

static void ack_eoi(struct pic_pair *pair, struct pic *p, unsigned int input, u32 *eois)
{
	p->isr &= ~BIT(input);
	*eois |= BIT(input + (p == &pair->pic[1] ? 8 : 0));
}

static void write_icw1(struct pic *p, u8 val)
{
	u8 lines = p->lines, elcr = p->elcr, elcr_mask = p->elcr_mask;

	*p = (struct pic) {
		.lines = lines & elcr,	/* edges must come again */
		.irr = lines & elcr,
		.elcr = elcr,
		.elcr_mask = elcr_mask,
		.init4 = val & 1,
		.init_state = 1,
	};
}

static void write_ocw2(struct pic_pair *pair, struct pic *p, u8 val, u32 *eois)
{
	unsigned int input;

	switch (val >> 5) {
	case 0:		/* rotate in automatic EOI mode: clear, set */
	case 4:
		p->rotate_on_auto_eoi = val >> 7;
		break;
	case 1:		/* non-specific EOI, with and without rotation */
	case 5:
		input = highest(p, p->isr);
		if (input == 8)
			break;
		input = (input + p->priority_add) & 7;
		ack_eoi(pair, p, input, eois);
		if (val >> 5 == 5)
			p->priority_add = (input + 1) & 7;
		break;
	case 3:		/* specific EOI */
		ack_eoi(pair, p, val & 7, eois);
		break;
	case 6:		/* set priority */
		p->priority_add = (val + 1) & 7;
		break;
	case 7:		/* specific EOI with rotation */
		p->priority_add = (val + 1) & 7;
		ack_eoi(pair, p, val & 7, eois);
		break;
	}
}

static void write_ocw3(struct pic *p, u8 val)
{
	if (val & 4)
		p->poll = true;
	if (val & 2)
		p->read_isr = val & 1;
	if (val & 0x40)
		p->special_mask = (val >> 5) & 1;
}

static void write_command(struct pic_pair *pair, struct pic *p, u8 val, u32 *eois)
{
	if (val & 0x10)
		write_icw1(p, val);
	else if (val & 8)
		write_ocw3(p, val);
	else
		write_ocw2(pair, p, val, eois);
}

static void write_data(struct pic *p, u8 val)
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
		p->special_fully_nested = val & 0x10;
		p->auto_eoi = val & 2;
		p->init_state = 0;
		break;
	}
}

static u8 read_poll(struct pic *p)
{
	int input = pending_input(p, false);

	p->poll = false;
	if (input < 0)
		return 7;
	acknowledge(p, input);
	return 0x80 | input;
}

static struct pic *by_port(struct pic_pair *pair, u16 port)
{
	switch (port) {
	case 0x20:
	case 0x21:
	case 0x4d0:
		return &pair->pic[0];
	case 0xa0:
	case 0xa1:
	case 0x4d1:
		return &pair->pic[1];
	default:
		return NULL;
	}
}

/** pic_port_read() - ports 20, 21, A0, A1 and the edge/level registers 4D0, 4D1. */
bool pic_port_read(struct irqchip *chip, u16 port, u8 *val)
{
	struct pic_pair *pair = chip->pic;
	struct pic *p = by_port(pair, port);
	unsigned long flags;

	if (!p)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (port >= 0x4d0) {
		*val = p->elcr;
	} else if (p->poll) {
		*val = read_poll(p);
		update(pair);
	} else if (port & 1) {
		*val = p->imr;
	} else {
		*val = p->read_isr ? p->isr : p->irr;
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return true;
}

/** pic_port_write() - likewise. */
bool pic_port_write(struct irqchip *chip, u16 port, u8 val)
{
	struct pic_pair *pair = chip->pic;
	struct pic *p = by_port(pair, port);
	unsigned long flags;
	u32 eois = 0;

	if (!p)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (port >= 0x4d0)
		p->elcr = val & p->elcr_mask;
	else if (port & 1)
		write_data(p, val);
	else
		write_command(pair, p, val, &eois);
	update(pair);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	report_eois(chip, eois);
	return true;
}

/** pic_alloc() - a pair in its state after power-on. */
struct pic_pair *pic_alloc(struct irqchip *chip)
{
	struct pic_pair *pair = kzalloc(sizeof(*pair), GFP_KERNEL_ACCOUNT);

	if (!pair)
		return NULL;
	pair->chip = chip;
	/* Timer, keyboard, cascade, RTC and FPU are edge-triggered in every PC. */
	pair->pic[0].elcr_mask = 0xf8;
	pair->pic[1].elcr_mask = 0xde;
	return pair;
}

/** pic_get_state() - KVM_GET_IRQCHIP. */
void pic_get_state(struct irqchip *chip, unsigned int which, struct kvm_pic_state *s)
{
	const struct pic *p = &chip->pic->pic[which & 1];
	unsigned long flags;

	raw_spin_lock_irqsave(&chip->lock, flags);
	s->last_irr = p->lines;
	s->irr = p->irr;
	s->imr = p->imr;
	s->isr = p->isr;
	s->priority_add = p->priority_add;
	s->irq_base = p->irq_base;
	s->read_reg_select = p->read_isr;
	s->poll = p->poll;
	s->special_mask = p->special_mask;
	s->init_state = p->init_state;
	s->auto_eoi = p->auto_eoi;
	s->rotate_on_auto_eoi = p->rotate_on_auto_eoi;
	s->special_fully_nested_mode = p->special_fully_nested;
	s->init4 = p->init4;
	s->elcr = p->elcr;
	s->elcr_mask = p->elcr_mask;
	raw_spin_unlock_irqrestore(&chip->lock, flags);
}

/** pic_set_state() - KVM_SET_IRQCHIP; any bytes are safe. */
void pic_set_state(struct irqchip *chip, unsigned int which, const struct kvm_pic_state *s)
{
	struct pic *p = &chip->pic->pic[which & 1];
	unsigned long flags;

	raw_spin_lock_irqsave(&chip->lock, flags);
	p->lines = s->last_irr;
	p->irr = s->irr;
	p->imr = s->imr;
	p->isr = s->isr;
	p->priority_add = s->priority_add & 7;
	p->irq_base = s->irq_base;
	p->read_isr = s->read_reg_select & 1;
	p->poll = s->poll;
	p->special_mask = s->special_mask;
	p->init_state = s->init_state & 3;
	p->auto_eoi = s->auto_eoi;
	p->rotate_on_auto_eoi = s->rotate_on_auto_eoi;
	p->special_fully_nested = s->special_fully_nested_mode;
	p->init4 = s->init4;
	p->elcr = s->elcr;
	p->elcr_mask = s->elcr_mask;
	update(chip->pic);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
}
