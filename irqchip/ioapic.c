// SPDX-License-Identifier: GPL-2.0
/*
 * The IOAPIC (Intel 82093AA): 24 pins, each with a redirection entry.
 */
#include <linux/nospec.h>

#include "irqchip/private.h"

#define IOAPIC_BASE	0xfec00000ull
#define IOAPIC_LEN	0x100
#define PINS		IRQCHIP_NR_GSIS
#define VERSION		(0x11 | (PINS - 1) << 16)

#define RTE_LOGICAL	BIT_ULL(11)
#define RTE_REMOTE_IRR	BIT_ULL(14)
#define RTE_LEVEL	BIT_ULL(15)
#define RTE_MASKED	BIT_ULL(16)
#define RTE_WRITABLE	0xff0000000001afffull
#define RTE_READONLY	(BIT_ULL(12) | RTE_REMOTE_IRR)

/*
 * A level interrupt whose EOI finds the line still high this often in a row is a storm: the next
 * one waits.
 */
#define STORM_LIMIT	10000
#define STORM_DELAY_NS	(10 * NSEC_PER_MSEC)

/*
 * Sends the pin's interrupt if it is pending, not masked, and (level) not in service. As
 * lapic_deliver(); -1 where it can't go.
 */
static int deliver(struct irqchip *chip, unsigned int pin)
{
	struct ioapic *io = &chip->ioapic;
	u64 e = io->rte[pin];
	struct apic_msg msg = {
		.dest = e >> 56,
		.vector = e & 0xff,
		.mode = e & APIC_MODE_MASK,
		.logical = e & RTE_LOGICAL,
		.trig_level = e & RTE_LEVEL,
	};
	int r;

	if (!(io->irr & BIT(pin)) || e & RTE_MASKED)
		return -1;
	if ((e & RTE_LEVEL) && (e & RTE_REMOTE_IRR))
		return 0;
	r = lapic_deliver(chip, &msg);
	if (!(e & RTE_LEVEL))
		io->irr &= ~BIT(pin);
	else if (r >= 0)
		io->rte[pin] |= RTE_REMOTE_IRR;
	return r;
}

/* An input changes. chip->lock held. 1 delivered, 0 coalesced, -1 masked. */
int ioapic_set_irq(struct irqchip *chip, unsigned int pin, int level)
{
	struct ioapic *io = &chip->ioapic;
	u32 bit;
	u64 e;

	if (pin >= PINS)
		return -1;
	pin = array_index_nospec(pin, PINS);
	bit = BIT(pin);
	e = io->rte[pin];
	if (!level) {
		io->lines &= ~bit;
		if (e & RTE_LEVEL)
			io->irr &= ~bit;
		return 1;
	}
	if (!(e & RTE_LEVEL) && (io->lines & bit))
		return 0;	/* no new edge */
	io->lines |= bit;
	/* Edges on a masked pin are ignored (82093AA, redirection table, bit 16). */
	if (!(e & RTE_LEVEL) && (e & RTE_MASKED))
		return -1;
	io->irr |= bit;
	return deliver(chip, pin);
}

static enum hrtimer_restart storm_over(struct hrtimer *timer)
{
	struct irqchip *chip = container_of(timer, struct irqchip, ioapic.storm_timer);
	unsigned long flags;
	unsigned int pin;

	raw_spin_lock_irqsave(&chip->lock, flags);
	for_each_set_bit(pin, &chip->ioapic.deferred, PINS)
		deliver(chip, pin);
	chip->ioapic.deferred = 0;
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return HRTIMER_NORESTART;
}

/* An APIC ended @vector, which came as @level or edge: pins that sent a level may send again. */
void ioapic_eoi(struct irqchip *chip, u8 vector, bool level)
{
	struct ioapic *io = &chip->ioapic;
	unsigned long flags, ended = 0;
	unsigned int pin;

	raw_spin_lock_irqsave(&chip->lock, flags);
	for (pin = 0; pin < PINS; pin++) {
		u64 e = io->rte[pin];

		if ((e & 0xff) != vector || !!(e & RTE_LEVEL) != level ||
		    (level && !(e & RTE_REMOTE_IRR)))
			continue;
		io->rte[pin] &= ~RTE_REMOTE_IRR;
		ended |= BIT(pin);
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);

	/* A resampling irqfd lowers its line here, before the line is looked at again. */
	irqchip_report_eois(chip, ended << IRQ_INPUT_IOAPIC);
	if (!level)
		return;

	raw_spin_lock_irqsave(&chip->lock, flags);
	for_each_set_bit(pin, &ended, PINS) {
		if (!(io->irr & BIT(pin))) {
			io->eois[pin] = 0;
		} else if (++io->eois[pin] < STORM_LIMIT) {
			deliver(chip, pin);
		} else {
			io->eois[pin] = 0;
			io->deferred |= BIT(pin);
			hrtimer_start(&io->storm_timer, ns_to_ktime(STORM_DELAY_NS),
				      HRTIMER_MODE_REL_HARD);
		}
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
}

/* --- registers: an index, and a window on what it selects --- */

static u32 read_window(const struct ioapic *io)
{
	unsigned int pin = (io->select - 0x10) >> 1;

	switch (io->select) {
	case 0:
	case 2:		/* arbitration id */
		return (u32)io->id << 24;
	case 1:
		return VERSION;
	}
	if (io->select < 0x10 || pin >= PINS)
		return 0xffffffff;
	pin = array_index_nospec(pin, PINS);
	return io->select & 1 ? io->rte[pin] >> 32 : (u32)io->rte[pin];
}

static void write_window(struct irqchip *chip, u32 val)
{
	struct ioapic *io = &chip->ioapic;
	unsigned int pin = (io->select - 0x10) >> 1;
	u64 e;

	if (io->select == 0)
		io->id = (val >> 24) & 0xf;
	if (io->select < 0x10 || pin >= PINS)
		return;
	pin = array_index_nospec(pin, PINS);
	e = io->rte[pin];
	if (io->select & 1)
		e = (u32)e | (u64)val << 32;
	else
		e = (e & ~0xffffffffull) | val;
	e = (e & RTE_WRITABLE) | (io->rte[pin] & RTE_READONLY);
	/* Edge mode has no remote IRR; some drivers clear a stuck one so. */
	if (!(e & RTE_LEVEL))
		e &= ~RTE_REMOTE_IRR;
	io->rte[pin] = e;
	/* A level line that is high goes now. */
	if ((e & RTE_LEVEL) && (io->lines & BIT(pin)))
		io->irr |= BIT(pin);
	deliver(chip, pin);
}

/** ioapic_mmio_read() - true where @gpa is the IOAPIC's; @len is 1 to 8. */
bool ioapic_mmio_read(struct irqchip *chip, u64 gpa, unsigned int len, void *val)
{
	u32 offset = gpa - IOAPIC_BASE, word = 0;
	unsigned long flags;

	if (gpa - IOAPIC_BASE >= IOAPIC_LEN)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if ((offset & ~3u) == 0x00)
		word = chip->ioapic.select;
	else if ((offset & ~3u) == 0x10)
		word = read_window(&chip->ioapic);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	memset(val, 0, len);
	word >>= 8 * (offset & 3);
	memcpy(val, &word, min(len, 4u));
	return true;
}

/** ioapic_mmio_write() - true where @gpa is the IOAPIC's. Only aligned accesses have an effect. */
bool ioapic_mmio_write(struct irqchip *chip, u64 gpa, unsigned int len, const void *val)
{
	u32 offset = gpa - IOAPIC_BASE, word = 0;
	unsigned long flags;

	if (gpa - IOAPIC_BASE >= IOAPIC_LEN)
		return false;
	memcpy(&word, val, min(len, 4u));
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (offset == 0x00)
		chip->ioapic.select = word;
	else if (offset == 0x10 && len >= 4)
		write_window(chip, word);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return true;
}

/* All pins masked. */
void ioapic_init(struct ioapic *io)
{
	unsigned int pin;

	for (pin = 0; pin < PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	hrtimer_setup(&io->storm_timer, storm_over, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
}

/* Of KVM_GET_IRQCHIP. chip->lock held. */
void ioapic_get_state(const struct ioapic *io, struct kvm_ioapic_state *s)
{
	unsigned int pin;

	s->base_address = IOAPIC_BASE;
	s->ioregsel = io->select;
	s->id = io->id;
	s->irr = io->irr;
	for (pin = 0; pin < PINS; pin++)
		s->redirtbl[pin].bits = io->rte[pin];
}

/* Of KVM_SET_IRQCHIP; what was pending is delivered. chip->lock held. */
void ioapic_set_state(struct irqchip *chip, const struct kvm_ioapic_state *s)
{
	struct ioapic *io = &chip->ioapic;
	unsigned int pin;

	io->select = s->ioregsel;
	io->id = s->id & 0xf;
	io->irr = s->irr & (BIT(PINS) - 1);
	for (pin = 0; pin < PINS; pin++) {
		io->rte[pin] = s->redirtbl[pin].bits & (RTE_WRITABLE | RTE_READONLY);
		deliver(chip, pin);
	}
}
