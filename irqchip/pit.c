// SPDX-License-Identifier: GPL-2.0
/*
 * The 8254 timer of a PC, and the part of port 61h that belongs to it (Intel's data sheet; APM has
 * nothing on it).
 *
 * Counts are not kept but computed from the time at which they were loaded. Only channel 0
 * interrupts.
 */
#include <linux/hrtimer.h>
#include <linux/math64.h>
#include <linux/nospec.h>
#include <linux/slab.h>

#include "irqchip/private.h"

#define PIT_HZ		1193182ull
#define MAX_MISSED	1000		/* ticks to catch up with at most */

/* rw_mode; RW_HIGH_NEXT is a value of read_state and write_state only, which have rw_mode else. */
enum { RW_LATCH, RW_LOW, RW_HIGH, RW_WORD, RW_HIGH_NEXT };

/*
 * Channels are kept as the ABI has them: count 1..65536; count_latched the bytes of the latch still
 * to be read; count_load_time the ktime at which counting began, 0 before a count was written.
 */
struct pit {
	struct irqchip *chip;
	raw_spinlock_t lock;
	struct kvm_pit_state2 s;	/* Protected by: lock, as all below */
	bool speaker_port;		/* port 61h is ours */
	bool reinject;
	u32 missed;			/* ticks that came before the last one was acknowledged */
	bool unacked;
	struct hrtimer timer;
};

static struct kvm_pit_channel_state *channel(struct pit *pit, unsigned int i)
{
	return &pit->s.channels[array_index_nospec(i, 3)];
}

static u64 elapsed_ticks(const struct kvm_pit_channel_state *c)
{
	s64 ns = ktime_get() - c->count_load_time;

	return ns <= 0 ? 0 : mul_u64_u32_div(ns, PIT_HZ, NSEC_PER_SEC);
}

static bool periodic(const struct kvm_pit_channel_state *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* How long the count takes. */
static u64 duration(const struct kvm_pit_channel_state *c)
{
	u64 ns = mul_u64_u32_div(c->count, NSEC_PER_SEC, PIT_HZ);

	return periodic(c) ? max(ns, MIN_PERIOD_NS) : ns;
}

static u16 current_count(const struct kvm_pit_channel_state *c)
{
	u64 t = elapsed_ticks(c);
	u32 in_period;

	if (!c->count_load_time)
		return 0;
	if (!periodic(c))
		return c->count - t;
	/* Mode 3 counts down by two. */
	div_u64_rem(c->mode == 3 ? 2 * t : t, c->count, &in_period);
	return c->count - in_period;
}

static bool output(const struct kvm_pit_channel_state *c)
{
	u64 t = elapsed_ticks(c);
	u32 in_period;

	if (!c->count_load_time)
		return c->mode != 0;
	div_u64_rem(t, c->count, &in_period);
	switch (c->mode) {
	case 0:
	case 1:
		return t >= c->count;
	case 2:
		return in_period != c->count - 1;
	case 3:
		return in_period < (c->count + 1) / 2;
	default:		/* 4, 5: low for one tick */
		return t != c->count;
	}
}

/* --- channel 0's interrupt --- */

static void pulse(struct pit *pit)
{
	irqchip_set_irq(pit->chip, IRQ_SOURCE_PIT, 0, 1);
	irqchip_set_irq(pit->chip, IRQ_SOURCE_PIT, 0, 0);
}

static enum hrtimer_restart tick(struct hrtimer *timer)
{
	struct pit *pit = container_of(timer, struct pit, timer);
	struct kvm_pit_channel_state *c = &pit->s.channels[0];
	enum hrtimer_restart restart = HRTIMER_NORESTART;
	unsigned long flags;

	raw_spin_lock_irqsave(&pit->lock, flags);
	/* Another thread started a new count, or set a new mode, while this waited for the lock. */
	if (hrtimer_is_queued(timer) || !c->count_load_time) {
		raw_spin_unlock_irqrestore(&pit->lock, flags);
		return HRTIMER_NORESTART;
	}
	if (pit->reinject) {
		if (pit->unacked)
			pit->missed = min(pit->missed + 1, MAX_MISSED);
		pit->unacked = true;
	}
	if (periodic(c)) {
		hrtimer_forward_now(timer, ns_to_ktime(duration(c)));
		restart = HRTIMER_RESTART;
	}
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	/* Not acknowledged (masked, or taken by the IOAPIC): the line is pulsed all the same. */
	pulse(pit);
	return restart;
}

/* The guest took IRQ 0 from the PIC: send a tick that it missed. Any context. */
void pit_irq_acked(struct irqchip *chip)
{
	struct pit *pit = READ_ONCE(chip->pit);
	unsigned long flags;
	bool again;

	if (!pit)
		return;
	raw_spin_lock_irqsave(&pit->lock, flags);
	again = pit->reinject && pit->missed;
	if (again)
		pit->missed--;
	pit->unacked = again;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (again)
		pulse(pit);
}

/* Counting of channel 0 starts anew. The timer is stopped by the caller, without the lock. */
static void arm(struct pit *pit)
{
	struct kvm_pit_channel_state *c = &pit->s.channels[0];

	pit->missed = 0;
	pit->unacked = false;
	if (!c->count_load_time || c->mode == 1 || c->mode == 5 ||
	    pit->s.flags & KVM_PIT_FLAGS_HPET_LEGACY)
		return;
	hrtimer_start(&pit->timer, c->count_load_time + duration(c), HRTIMER_MODE_ABS_HARD);
}

static void load(struct kvm_pit_channel_state *c, u16 count)
{
	c->count = count ?: 65536;
	c->count_load_time = ktime_get();
}

/* --- ports --- */

static void latch_count(struct kvm_pit_channel_state *c)
{
	if (c->count_latched)
		return;
	c->latched_count = current_count(c);
	c->count_latched = c->rw_mode == RW_WORD ? 2 : 1;
}

static void latch_status(struct kvm_pit_channel_state *c)
{
	if (c->status_latched)
		return;
	c->status = (output(c) ? 0x80 : 0) | (c->count_load_time ? 0 : 0x40) | c->rw_mode << 4 |
		    c->mode << 1 | c->bcd;
	c->status_latched = true;
}

static void write_control(struct pit *pit, u8 val)
{
	unsigned int i = val >> 6, rw = (val >> 4) & 3;
	struct kvm_pit_channel_state *c = channel(pit, i);

	if (i == 3) {		/* read-back */
		for (i = 0; i < 3; i++) {
			if (!(val & (2 << i)))
				continue;
			if (!(val & 0x20))
				latch_count(&pit->s.channels[i]);
			if (!(val & 0x10))
				latch_status(&pit->s.channels[i]);
		}
		return;
	}
	if (rw == RW_LATCH) {
		latch_count(c);
		return;
	}
	c->rw_mode = rw;
	c->read_state = rw;
	c->write_state = rw;
	c->mode = (val >> 1) & 7;
	if (c->mode > 5)
		c->mode -= 4;
	c->bcd = val & 1;
	c->count_latched = 0;
	c->status_latched = false;
	c->count_load_time = 0;
}

/* True where counting starts. */
static bool write_count(struct kvm_pit_channel_state *c, u8 val)
{
	if (c->rw_mode == RW_LOW) {
		load(c, val);
	} else if (c->rw_mode == RW_HIGH) {
		load(c, val << 8);
	} else if (c->write_state == RW_HIGH_NEXT) {
		c->write_state = RW_WORD;
		load(c, val << 8 | c->write_latch);
	} else {
		c->write_state = RW_HIGH_NEXT;
		c->write_latch = val;
		return false;
	}
	return true;
}

static u8 read_count(struct kvm_pit_channel_state *c)
{
	u16 count;
	bool low;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	count = c->count_latched ? c->latched_count : current_count(c);
	if (c->rw_mode == RW_LOW || c->rw_mode == RW_HIGH) {
		c->count_latched = 0;
		return c->rw_mode == RW_LOW ? count : count >> 8;
	}
	/* Of a latch the low byte comes first, whatever was read before. */
	low = c->count_latched ? --c->count_latched == 1 : c->read_state != RW_HIGH_NEXT;
	c->read_state = low ? RW_HIGH_NEXT : RW_WORD;
	return low ? count : count >> 8;
}

static u8 read_speaker(struct pit *pit)
{
	u64 refresh = div_u64(ktime_get_ns(), 15085);	/* the DRAM refresh signal toggles */

	/* The flag is bit 1, as in the port. */
	return (pit->s.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) | pit->s.channels[2].gate |
	       (output(&pit->s.channels[2]) ? 0x20 : 0) | (refresh & 1) << 4;
}

static void write_speaker(struct pit *pit, u8 val)
{
	struct kvm_pit_channel_state *c = &pit->s.channels[2];
	bool gate = val & 1;

	pit->s.flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	pit->s.flags |= val & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	/* A rising gate starts the count again in the modes that look at it. */
	if (gate && !c->gate && c->mode != 0 && c->mode != 4 && c->count_load_time)
		c->count_load_time = ktime_get();
	c->gate = gate;
}

static bool claims(const struct pit *pit, u16 port)
{
	return pit && ((port & ~3) == 0x40 || (port == 0x61 && pit->speaker_port));
}

/* Ports 40h to 43h, and 61h where asked for. */
bool pit_port_read(struct irqchip *chip, u16 port, u8 *val)
{
	struct pit *pit = READ_ONCE(chip->pit);
	unsigned long flags;

	if (!claims(pit, port))
		return false;
	raw_spin_lock_irqsave(&pit->lock, flags);
	if (port == 0x61)
		*val = read_speaker(pit);
	else
		*val = port == 0x43 ? 0 : read_count(channel(pit, port - 0x40));
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return true;
}

bool pit_port_write(struct irqchip *chip, u16 port, u8 val)
{
	struct pit *pit = READ_ONCE(chip->pit);
	unsigned long flags;

	if (!claims(pit, port))
		return false;
	/* Channel 0's count or mode ends the running count; the callback takes the lock. */
	if (port == 0x40 || (port == 0x43 && val >> 6 == 0 && (val & 0x30)))
		hrtimer_cancel(&pit->timer);
	raw_spin_lock_irqsave(&pit->lock, flags);
	if (port == 0x61)
		write_speaker(pit, val);
	else if (port == 0x43)
		write_control(pit, val);
	else if (write_count(channel(pit, port - 0x40), val) && port == 0x40)
		arm(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return true;
}

/* --- life and state --- */

/* Any bytes become a state that the guest could have made; zeroes become all but mode and gate. */
static void sanitise(struct kvm_pit_channel_state *c)
{
	if (!c->count || c->count > 65536)
		c->count = 65536;
	c->count_latched = min_t(u8, c->count_latched, 2);
	c->status_latched = !!c->status_latched;
	c->rw_mode = c->rw_mode & 3 ?: RW_WORD;
	if (c->read_state != RW_HIGH_NEXT)
		c->read_state = c->rw_mode;
	if (c->write_state != RW_HIGH_NEXT)
		c->write_state = c->rw_mode;
	if (c->mode > 5)
		c->mode = 3;
	c->bcd &= 1;
	c->gate = !!c->gate;
	if (c->count_load_time)	/* nothing says how far it had come */
		c->count_load_time = ktime_get();
}

/** pit_create() - KVM_CREATE_PIT2. vm->lock held; sleeps. 0, -EEXIST, -ENOENT, -ENOMEM. */
int pit_create(struct irqchip *chip, const struct kvm_pit_config *cfg)
{
	struct pit *pit;
	unsigned int i;

	if (chip->pit)
		return -EEXIST;
	if (!irqchip_full(chip))
		return -ENOENT;
	pit = kzalloc(sizeof(*pit), GFP_KERNEL_ACCOUNT);
	if (!pit)
		return -ENOMEM;
	pit->chip = chip;
	pit->speaker_port = cfg->flags & KVM_PIT_SPEAKER_DUMMY;
	pit->reinject = true;
	raw_spin_lock_init(&pit->lock);
	hrtimer_setup(&pit->timer, tick, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	for (i = 0; i < 3; i++) {
		pit->s.channels[i].mode = 3;
		pit->s.channels[i].gate = i != 2;
		sanitise(&pit->s.channels[i]);
	}
	/* As chip->kind. */
	smp_store_release(&chip->pit, pit);
	return 0;
}

void pit_free(struct irqchip *chip)
{
	struct pit *pit = chip->pit;

	if (pit)
		hrtimer_cancel(&pit->timer);
	chip->pit = NULL;
	kfree(pit);
}

/** pit_set_reinject() - KVM_REINJECT_CONTROL. 0, or -ENXIO without a PIT. */
int pit_set_reinject(struct irqchip *chip, bool reinject)
{
	struct pit *pit = chip->pit;
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->reinject = reinject;
	pit->missed = 0;
	pit->unacked = false;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

/** pit_get_state() - KVM_GET_PIT2. 0, or -ENXIO without a PIT. */
int pit_get_state(struct irqchip *chip, struct kvm_pit_state2 *s)
{
	struct pit *pit = chip->pit;
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	raw_spin_lock_irqsave(&pit->lock, flags);
	*s = pit->s;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

/** pit_set_state() - KVM_SET_PIT2, any bytes. 0, -ENXIO without a PIT, -EINVAL: flags. */
int pit_set_state(struct irqchip *chip, const struct kvm_pit_state2 *s)
{
	struct pit *pit = chip->pit;
	unsigned long flags;
	unsigned int i;

	if (!pit)
		return -ENXIO;
	if (s->flags & ~(u32)(KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON))
		return -EINVAL;
	hrtimer_cancel(&pit->timer);
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(pit->s.channels, s->channels, sizeof(s->channels));
	pit->s.flags = s->flags;
	for (i = 0; i < 3; i++)
		sanitise(&pit->s.channels[i]);
	arm(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}
