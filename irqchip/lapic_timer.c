// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC's timer (APM vol. 2, 16.4.1): one-shot and periodic counts of the bus clock (1 GHz
 * unless userspace wants another), and TSC-deadline, all on one hrtimer.
 *
 * The callback runs in hard interrupts while the vCPU's thread may write registers; what both
 * write, the thread writes only while the timer is cancelled.
 */
#include <linux/hrtimer.h>
#include <linux/math64.h>
#include <asm/tsc.h>

#include "irqchip/private.h"

#define MODE_MASK	(APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE)
/* A deadline further off is looked at again after as many cycles; keeps the product below 2^62. */
#define MAX_DELTA	(1ull << 42)
/* After so many periods in a row that nobody took note of, the next is up to so much late. */
#define IGNORED_MIN	8
#define IGNORED_NS	(10 * NSEC_PER_MSEC)
/* So near to the deadline it has come. */
#define SLACK_NS	500

static u32 mode(const struct lapic *apic)
{
	return lapic_reg(apic, APIC_LVTT) & MODE_MASK;
}

bool lapic_timer_deadline_mode(const struct lapic *apic)
{
	return mode(apic) == APIC_LVT_TIMER_TSCDEADLINE;
}

/* The divisor of the bus clock: bits 3,1,0 of TDCR; 0b111 divides by 1. */
static unsigned int divide_shift(const struct lapic *apic)
{
	u32 tdcr = lapic_reg(apic, APIC_TDCR);
	u32 code = (tdcr & 3) | (tdcr & 8) >> 1;

	return (code + 1) & 7;
}

static bool periodic(const struct lapic *apic)
{
	return mode(apic) == APIC_LVT_TIMER_PERIODIC;
}

/* How long a count takes; below 2^62, as irqchip_check_bus_cycle() sees to. */
static u64 to_ns(const struct lapic *apic, u32 count)
{
	u64 ns = ((u64)count << divide_shift(apic)) * apic->chip->bus_cycle_ns;

	return ns && periodic(apic) ? max(ns, MIN_PERIOD_NS) : ns;
}

/* The length of a period, 0 where the mode has none. */
static u64 period(const struct lapic *apic)
{
	return periodic(apic) ? to_ns(apic, lapic_reg(apic, APIC_TMICT)) : 0;
}

/* From now to a deadline in guest TSC units; 0 if it has passed. */
static u64 until(const struct lapic *apic, u64 deadline)
{
	u64 now = rdtsc() + READ_ONCE(apic->tsc_offset);

	if (deadline <= now)
		return 0;
	/* Rounded up: early is wrong, late is not. */
	return div_u64(min(deadline - now, MAX_DELTA) * 1000000ull,
		       max(READ_ONCE(apic->guest_tsc_khz), 1u)) + 1;
}

/** lapic_set_tsc_offset() - guest TSC less host TSC, which a deadline waits by. Its thread. */
void lapic_set_tsc_offset(struct lapic *apic, u64 offset)
{
	u64 deadline;

	if (apic->tsc_offset == offset)
		return;
	WRITE_ONCE(apic->tsc_offset, offset);
	deadline = READ_ONCE(apic->tscdeadline);
	if (deadline)
		lapic_timer_set_deadline(apic, deadline);
}

/* False where nobody takes note: masked, disabled, or the last one still waits. */
static bool fire(struct lapic *apic)
{
	u32 lvt = lapic_reg(apic, APIC_LVTT);

	return !(lvt & APIC_LVT_MASKED) &&
	       lapic_inject(apic, APIC_DM_FIXED, lvt & 0xff, false) > 0;
}

static enum hrtimer_restart expired(struct hrtimer *timer)
{
	struct lapic *apic = container_of(timer, struct lapic, timer);
	u64 ns;

	if (lapic_timer_deadline_mode(apic)) {
		/* The clocks differ a little, and a far deadline is approached in steps. */
		u64 left = until(apic, READ_ONCE(apic->tscdeadline));

		if (left > SLACK_NS) {
			hrtimer_set_expires(timer, ktime_add_ns(ktime_get(), left));
			return HRTIMER_RESTART;
		}
		WRITE_ONCE(apic->tscdeadline, 0);
	}
	ns = period(apic);
	if (!ns)
		WRITE_ONCE(apic->timer_armed, false);
	apic->ignored = fire(apic) ? 0 : min(apic->ignored + 1, 255ull);
	if (!ns)
		return HRTIMER_NORESTART;
	/* Periods missed while the host was busy are lost, not made up for. */
	hrtimer_forward_now(timer, ns_to_ktime(ns));
	WRITE_ONCE(apic->expiry, hrtimer_get_expires(timer));
	/* Those that nobody takes cost the host less and less; the count goes on all the same. */
	if (apic->ignored >= IGNORED_MIN)
		hrtimer_add_expires_ns(timer, min(apic->ignored, div64_u64(IGNORED_NS, ns)) * ns);
	return HRTIMER_RESTART;
}

void lapic_timer_init(struct lapic *apic)
{
	hrtimer_setup(&apic->timer, expired, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
}

/* No expiry after this. Waits for one that is running; not from hard interrupts. */
void lapic_timer_stop(struct lapic *apic)
{
	hrtimer_cancel(&apic->timer);
	WRITE_ONCE(apic->timer_armed, false);
}

static void arm(struct lapic *apic, u64 delay_ns)
{
	apic->expiry = ktime_add_ns(ktime_get(), delay_ns);
	apic->ignored = 0;
	WRITE_ONCE(apic->timer_armed, true);
	hrtimer_start(&apic->timer, apic->expiry, HRTIMER_MODE_ABS_HARD);
}

/* Count down from @count; the timer is stopped, and not in deadline mode. */
static void start(struct lapic *apic, u32 count)
{
	u64 ns = to_ns(apic, count);

	if (ns)
		arm(apic, ns);
}

/* The initial count is written. */
void lapic_timer_set_count(struct lapic *apic, u32 count)
{
	if (lapic_timer_deadline_mode(apic))
		return;
	lapic_timer_stop(apic);
	lapic_set_reg(apic, APIC_TMICT, count);
	start(apic, count);
}

/*
 * The registers were set from userspace, with the timer stopped: go on from the current count. 0
 * may be one that has run out, or QEMU's, which restores none: a period begins anew, and a one-shot
 * count ends at once, so that no guest waits for it for ever.
 */
void lapic_timer_restore(struct lapic *apic)
{
	u32 initial = lapic_reg(apic, APIC_TMICT), left = lapic_reg(apic, APIC_TMCCT);

	if (lapic_timer_deadline_mode(apic)) {
		lapic_timer_set_deadline(apic, apic->tscdeadline);
		return;
	}
	apic->tscdeadline = 0;
	if (!left)
		left = periodic(apic) ? initial : 1;
	start(apic, min(left, initial));
}

/* TDCR is written: a count under way goes on at the new rate. */
void lapic_timer_set_divisor(struct lapic *apic, u32 tdcr)
{
	/* Read before the cancellation: a count that is just running out ends after all. */
	u32 left = max(lapic_timer_current(apic), 1u);
	bool counting = false;

	if (lapic_timer_counting(apic) && tdcr != lapic_reg(apic, APIC_TDCR))
		counting = hrtimer_cancel(&apic->timer);
	lapic_set_reg(apic, APIC_TDCR, tdcr);
	if (counting)
		start(apic, left);
}

/*
 * The LVT entry is written. A change to or from TSC-deadline mode disarms; one between one-shot and
 * periodic takes effect at the next expiry.
 */
void lapic_timer_set_lvt(struct lapic *apic, u32 val)
{
	bool was_deadline = lapic_timer_deadline_mode(apic);

	if (was_deadline != ((val & MODE_MASK) == APIC_LVT_TIMER_TSCDEADLINE)) {
		lapic_timer_set_deadline(apic, 0);
		lapic_set_reg(apic, APIC_TMICT, 0);
	}
	lapic_set_reg(apic, APIC_LVTT, val);
}

/* Is a count (not a deadline) under way? */
bool lapic_timer_counting(const struct lapic *apic)
{
	return READ_ONCE(apic->timer_armed) && !lapic_timer_deadline_mode(apic);
}

/* TMCCT, 0 where nothing counts. */
u32 lapic_timer_current(struct lapic *apic)
{
	u64 ns = period(apic), over;
	s64 left;

	if (!lapic_timer_counting(apic))
		return 0;
	left = ktime_to_ns(ktime_sub(READ_ONCE(apic->expiry), ktime_get()));
	if (left <= 0) {
		if (!ns)
			return 0;
		/* The callback is late: how far into the next period? */
		div64_u64_rem(-left, ns, &over);
		left = ns - over;
	}
	/* A period that was lengthened begins at the initial count nevertheless. */
	return min_t(u64, div64_u64(left, apic->chip->bus_cycle_ns) >> divide_shift(apic),
		     lapic_reg(apic, APIC_TMICT));
}

/* IA32_TSC_DEADLINE was written, in guest TSC units: 0 disarms, the past fires at once. */
void lapic_timer_set_deadline(struct lapic *apic, u64 deadline)
{
	u64 ns;

	lapic_timer_stop(apic);
	WRITE_ONCE(apic->tscdeadline, 0);
	if (!deadline)
		return;
	ns = until(apic, deadline);
	if (!ns) {
		fire(apic);
		return;
	}
	WRITE_ONCE(apic->tscdeadline, deadline);
	arm(apic, ns);
}
