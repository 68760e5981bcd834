// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259A interrupt controllers of a PC; names as in Intel's data sheet.
 */
#include <linux/bitops.h>
#include <linux/slab.h>

#include "irqchip/private.h"

/*
 * The state is the ABI's. last_irr is the level of the inputs, priority_add the input of lowest
 * priority + 1, init_state 0 when ready and 1..3 while ICW2..4 are awaited; elcr has the
 * level-triggered inputs, elcr_mask those that may be.
 */
struct pic_pair {
	struct irqchip *chip;
	struct kvm_pic_state pic[2];	/* Protected by: chip->lock */
};

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
		isr &= ~BIT(2);
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

/* An input of the pair (0..15) changes. chip->lock held. 1 delivered, 0 coalesced, -1 masked. */
int pic_set_irq(struct pic_pair *pair, unsigned int pin, int level)
{
	struct kvm_pic_state *p = &pair->pic[(pin >> 3) & 1];
	u8 bit = BIT(pin & 7);
	int r = -1;

	if (!(p->imr & bit))
		r = !level || !(p->irr & bit);
	set_line(p, pin & 7, level);
	update(pair);
	return r;
}

static void acknowledge(struct kvm_pic_state *p, unsigned int input)
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

/** pic_accept() - interrupt acknowledge: the vector, of input 7 where the request has gone. */
u8 pic_accept(struct irqchip *chip)
{
	struct pic_pair *pair = chip->pic;
	struct kvm_pic_state *master = &pair->pic[0], *slave = &pair->pic[1];
	unsigned long flags;
	int input, slave_input;
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
	}
	update(pair);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	irqchip_report_eois(chip, eois);
	if (input == 0)
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
static u32 write_ocw2(struct pic_pair *pair, struct kvm_pic_state *p, u8 val)
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
	return BIT(p == &pair->pic[1] ? input + 8 : input);
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

static u8 read_poll(struct kvm_pic_state *p)
{
	int input = pending_input(p, false);

	p->poll = false;
	if (input < 0)
		return 7;
	acknowledge(p, input);
	return 0x80 | input;
}

static struct kvm_pic_state *by_port(struct pic_pair *pair, u16 port)
{
	switch (port) {
	case 0x20 ... 0x21:
	case 0x4d0:
		return &pair->pic[0];
	case 0xa0 ... 0xa1:
	case 0x4d1:
		return &pair->pic[1];
	default:
		return NULL;
	}
}

/* Ports 20, 21, A0, A1 and the edge/level registers 4D0, 4D1. */
bool pic_port_read(struct irqchip *chip, u16 port, u8 *val)
{
	struct pic_pair *pair = chip->pic;
	struct kvm_pic_state *p = by_port(pair, port);
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
		*val = p->read_reg_select ? p->isr : p->irr;
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return true;
}

bool pic_port_write(struct irqchip *chip, u16 port, u8 val)
{
	struct pic_pair *pair = chip->pic;
	struct kvm_pic_state *p = by_port(pair, port);
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
		eois = write_ocw2(pair, p, val);
	update(pair);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	irqchip_report_eois(chip, eois);
	return true;
}

/* In its state after power-on. */
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

/* The rest as irqchip_get_state() and irqchip_set_state(): chip->lock held. */
void pic_get_state(struct irqchip *chip, unsigned int which, struct kvm_pic_state *s)
{
	*s = chip->pic->pic[which];
}

/* Any bytes are safe. */
void pic_set_state(struct irqchip *chip, unsigned int which, const struct kvm_pic_state *s)
{
	struct kvm_pic_state *p = &chip->pic->pic[which];

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
	update(chip->pic);
}
