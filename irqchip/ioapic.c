// SPDX-License-Identifier: GPL-2.0
/*
 * The IOAPIC (Intel 82093AA): 24 pins, each with a redirection entry. The state is the ABI's, with
 * latched edges and levels in irr.
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
	u64 e = io->s.redirtbl[pin].bits;
	struct apic_msg msg = {
		.dest = e >> 56,
		.vector = e & 0xff,
		.mode = e & APIC_MODE_MASK,
		.logical = e & RTE_LOGICAL,
		.trig_level = e & RTE_LEVEL,
	};
	int r;

	if (!(io->s.irr & BIT(pin)) || e & RTE_MASKED)
		return -1;
	if ((e & RTE_LEVEL) && (e & RTE_REMOTE_IRR))
		return 0;
	r = lapic_deliver(chip, &msg);
	if (!(e & RTE_LEVEL))
		io->s.irr &= ~BIT(pin);
	else if (r >= 0)
		io->s.redirtbl[pin].bits |= RTE_REMOTE_IRR;
	return r;
}

/* An input changes. chip->lock held. 1 delivered, 0 coalesced, -1 masked. */
int ioapic_set_irq(struct irqchip *chip, unsigned int pin, int level)
{
	struct ioapic *io = &chip->ioapic;
	u64 e = io->s.redirtbl[pin].bits;
	u32 bit = BIT(pin);

	if (!level) {
		io->lines &= ~bit;
		if (e & RTE_LEVEL)
			io->s.irr &= ~bit;
		return 1;
	}
	if (!(e & RTE_LEVEL) && (io->lines & bit))
		return 0;	/* no new edge */
	io->lines |= bit;
	/* Edges on a masked pin are ignored (82093AA, redirection table, bit 16). */
	if (!(e & RTE_LEVEL) && (e & RTE_MASKED))
		return -1;
	io->s.irr |= bit;
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
		u64 e = io->s.redirtbl[pin].bits;

		if ((e & 0xff) != vector || !!(e & RTE_LEVEL) != level ||
		    (level && !(e & RTE_REMOTE_IRR)))
			continue;
		io->s.redirtbl[pin].bits &= ~RTE_REMOTE_IRR;
		ended |= BIT(pin);
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);

	/* A resampling irqfd lowers its line here, before the line is looked at again. */
	irqchip_report_eois(chip, ended << IRQ_INPUT_IOAPIC);
	if (!level)
		return;

	raw_spin_lock_irqsave(&chip->lock, flags);
	for_each_set_bit(pin, &ended, PINS) {
		if (!(io->s.irr & BIT(pin))) {
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
	u32 select = io->s.ioregsel;
	unsigned int pin = (select - 0x10) >> 1;
	u64 e;

	switch (select) {
	case 0:
	case 2:		/* arbitration id */
		return io->s.id << 24;
	case 1:
		return VERSION;
	}
	if (select < 0x10 || pin >= PINS)
		return 0xffffffff;
	e = io->s.redirtbl[array_index_nospec(pin, PINS)].bits;
	return select & 1 ? e >> 32 : (u32)e;
}

static void write_window(struct irqchip *chip, u32 val)
{
	struct ioapic *io = &chip->ioapic;
	u32 select = io->s.ioregsel;
	unsigned int pin = (select - 0x10) >> 1;
	u64 *rte, e;

	if (select == 0)
		io->s.id = (val >> 24) & 0xf;
	if (select < 0x10 || pin >= PINS)
		return;
	pin = array_index_nospec(pin, PINS);
	rte = &io->s.redirtbl[pin].bits;
	e = select & 1 ? (u32)*rte | (u64)val << 32 : (*rte & ~0xffffffffull) | val;
	e = (e & RTE_WRITABLE) | (*rte & RTE_READONLY);
	/* Edge mode has no remote IRR; some drivers clear a stuck one so. */
	if (!(e & RTE_LEVEL))
		e &= ~RTE_REMOTE_IRR;
	*rte = e;
	/* A level line that is high goes now. */
	if ((e & RTE_LEVEL) && (io->lines & BIT(pin)))
		io->s.irr |= BIT(pin);
	deliver(chip, pin);
}

/** ioapic_mmio_read() - true where @gpa is the IOAPIC's; @len is 1 to 8. */
bool ioapic_mmio_read(struct irqchip *chip, u64 gpa, unsigned int len, void *val)
{
	u32 offset = gpa - IOAPIC_BASE;
	unsigned long flags;
	u64 word = 0;

	if (gpa - IOAPIC_BASE >= IOAPIC_LEN)
		return false;
	raw_spin_lock_irqsave(&chip->lock, flags);
	if ((offset & ~3u) == 0x00)
		word = chip->ioapic.s.ioregsel;
	else if ((offset & ~3u) == 0x10)
		word = read_window(&chip->ioapic);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	word >>= 8 * (offset & 3);
	memcpy(val, &word, len);
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
		chip->ioapic.s.ioregsel = word & 0xff;
	else if (offset == 0x10 && len >= 4)
		write_window(chip, word);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return true;
}

/* All pins masked. */
void ioapic_init(struct ioapic *io)
{
	unsigned int pin;

	io->s.base_address = IOAPIC_BASE;
	for (pin = 0; pin < PINS; pin++)
		io->s.redirtbl[pin].bits = RTE_MASKED;
	hrtimer_setup(&io->storm_timer, storm_over, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
}

/* Of KVM_SET_IRQCHIP; what was pending is delivered. chip->lock held. */
void ioapic_set_state(struct irqchip *chip, const struct kvm_ioapic_state *s)
{
	struct ioapic *io = &chip->ioapic;
	unsigned int pin;

	io->s.ioregsel = s->ioregsel & 0xff;
	io->s.id = s->id & 0xf;
	io->s.irr = s->irr & (BIT(PINS) - 1);
	io->lines = 0;	/* of edges not known: the next rise counts */
	for (pin = 0; pin < PINS; pin++) {
		io->s.redirtbl[pin].bits = s->redirtbl[pin].bits & (RTE_WRITABLE | RTE_READONLY);
		if (s->redirtbl[pin].bits & RTE_LEVEL)
			io->lines |= io->s.irr & BIT(pin);
		deliver(chip, pin);
	}
}
