// SPDX-License-Identifier: GPL-2.0
/*
 * Local APIC (APM vol. 2, chapter 16): registers, priorities, interrupt messages.
 *
 * Who touches what: any CPU may set bits of IRR, TMR, esr_pending and events (atomically) and
 * maybe_pending, and reads ID, LDR, DFR, TPR and the mode of other APICs to match destinations. All
 * else belongs to the thread that holds the mutex of the vCPU.
 */
#include <linux/nospec.h>
#include <linux/slab.h>
#include <asm/msr-index.h>

#include "irqchip/private.h"

#define APIC_VERSION		0x00050014	/* version 0x14 as with KVM, LVT entries 0..5 */
#define X2APIC_MODE		(MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE)

#define ICR_RESERVED		0xfff32000
#define LVT_READONLY		0x5000	/* delivery status, remote IRR */

/* --- modes --- */

/** lapic_x2apic() - is the APIC in x2APIC mode? */
bool lapic_x2apic(const struct lapic *apic)
{
	return (READ_ONCE(apic->base) & X2APIC_MODE) == X2APIC_MODE;
}

static bool hw_enabled(const struct lapic *apic)
{
	return READ_ONCE(apic->base) & MSR_IA32_APICBASE_ENABLE;
}

static void kick(struct lapic *apic)
{
	apic->chip->ops->kick(apic);
}

static void update_enabled(struct lapic *apic)
{
	WRITE_ONCE(apic->enabled, hw_enabled(apic) &&
				  lapic_reg(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED);
}

/* Identity registers as a change of mode or a reset leaves them (16.6.1, 16.11). */
static void reset_identity(struct lapic *apic)
{
	u32 x2_ldr = (apic->id >> 4) << 16 | BIT(apic->id & 15);
	bool x2 = lapic_x2apic(apic);

	lapic_set_reg(apic, APIC_ID, x2 ? apic->id : apic->id << 24);
	lapic_set_reg(apic, APIC_LDR, x2 ? x2_ldr : 0);
}

/* --- IRR, ISR, PPR --- */

/* Registers of 256 bits: eight words, 16 bytes apart. */
static unsigned long *vector_word(struct lapic *apic, u32 reg, u8 vector)
{
	return (unsigned long *)(apic->regs + reg + (vector >> 5) * 16);
}

static bool set_vector(struct lapic *apic, u32 reg, u8 vector)
{
	return test_and_set_bit(vector & 31, vector_word(apic, reg, vector));
}

static bool clear_vector(struct lapic *apic, u32 reg, u8 vector)
{
	return test_and_clear_bit(vector & 31, vector_word(apic, reg, vector));
}

static bool test_vector(const struct lapic *apic, u32 reg, u8 vector)
{
	return lapic_reg(apic, reg + (vector >> 5) * 16) & BIT(vector & 31);
}

static int highest(const struct lapic *apic, u32 reg)
{
	int i;

	for (i = 7; i >= 0; i--) {
		u32 word = lapic_reg(apic, reg + i * 16);

		if (word)
			return i * 32 + __fls(word);
	}
	return -1;
}

static u8 ppr(const struct lapic *apic)
{
	u8 tpr = lapic_reg(apic, APIC_TASKPRI), isr = READ_ONCE(apic->highest_isr);

	return (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
}

/* Arbitration priority (16.6.4). */
static u8 apr(const struct lapic *apic)
{
	u8 tpr = lapic_reg(apic, APIC_TASKPRI), isr = apic->highest_isr & 0xf0;
	u8 irr = max(highest(apic, APIC_IRR), 0) & 0xf0;

	if ((tpr & 0xf0) >= irr && (tpr & 0xf0) > isr)
		return tpr;
	return max3((u8)(tpr & isr & 0xf0), isr, irr);
}

/** lapic_pending_slow() - the highest vector in IRR if it beats PPR, else -1. The vCPU's thread. */
int lapic_pending_slow(struct lapic *apic)
{
	int vector;

	if (!apic->enabled)
		return -1;
	vector = highest(apic, APIC_IRR);
	if (vector < 0) {
		WRITE_ONCE(apic->maybe_pending, false);
		/* Clear the hint, then look again: a sender sets IRR, then the hint. */
		smp_mb();
		vector = highest(apic, APIC_IRR);
		if (vector < 0)
			return -1;
		WRITE_ONCE(apic->maybe_pending, true);
	}
	return (vector & 0xf0) > (ppr(apic) & 0xf0) ? vector : -1;
}

static void update_highest_isr(struct lapic *apic)
{
	WRITE_ONCE(apic->highest_isr, max(highest(apic, APIC_ISR), 0));
}

static bool leave_service(struct lapic *apic, u8 vector)
{
	bool was_set = clear_vector(apic, APIC_ISR, vector);

	update_highest_isr(apic);
	return was_set;
}

/** lapic_accept() - the vCPU takes what lapic_pending() returned: IRR to ISR. */
void lapic_accept(struct lapic *apic, u8 vector)
{
	clear_vector(apic, APIC_IRR, vector);
	set_vector(apic, APIC_ISR, vector);
	if (vector > apic->highest_isr)
		WRITE_ONCE(apic->highest_isr, vector);
}

/** lapic_put_back() - it was not taken after all: ISR to IRR. False: it is not in service. */
bool lapic_put_back(struct lapic *apic, u8 vector)
{
	if (!leave_service(apic, vector))
		return false;
	set_vector(apic, APIC_IRR, vector);
	WRITE_ONCE(apic->maybe_pending, true);
	return true;
}

/** lapic_eoi() - end of interrupt: the highest vector in service is done. The vCPU's thread. */
void lapic_eoi(struct lapic *apic)
{
	u8 vector = apic->highest_isr;
	bool level = test_vector(apic, APIC_TMR, vector);

	if (!vector)
		return;
	leave_service(apic, vector);
	if (!level && !READ_ONCE(apic->chip->resampling))
		return;
	if (irqchip_full(apic->chip)) {
		ioapic_eoi(apic->chip, vector, level);
	} else if (level && routing_has_level_vector(apic->chip, vector)) {
		apic->eoi_vector = vector;
		set_bit(LAPIC_EV_EOI, &apic->events);
		kick(apic);
	}
}

/** lapic_eoi_can_wait() - would an EOI now unblock nothing and tell nobody? (PV EOI) */
bool lapic_eoi_can_wait(const struct lapic *apic)
{
	unsigned int i, in_service = 0;

	/* One edge-triggered interrupt is in service and none waits. */
	if (!apic->highest_isr || READ_ONCE(apic->maybe_pending) ||
	    READ_ONCE(apic->chip->resampling) ||
	    test_vector(apic, APIC_TMR, apic->highest_isr))
		return false;
	for (i = 0; i < 8; i++)
		in_service += hweight32(lapic_reg(apic, APIC_ISR + i * 16));
	return in_service == 1;
}

/** lapic_accepts_pic() - does the PIC's INTR come in? By LVT0, or past an APIC that is off. */
bool lapic_accepts_pic(struct lapic *apic)
{
	u32 lvt0 = lapic_reg(apic, APIC_LVT0);
	bool extint = (lvt0 & (APIC_LVT_MASKED | APIC_MODE_MASK)) == APIC_DM_EXTINT;

	return !hw_enabled(apic) || extint;
}

/** lapic_get_cr8() - bits 7:4 of TPR. */
u8 lapic_get_cr8(struct lapic *apic)
{
	return lapic_reg(apic, APIC_TASKPRI) >> 4;
}

/** lapic_set_cr8() - write bits 7:4 of TPR; the rest of it becomes 0. */
void lapic_set_cr8(struct lapic *apic, u8 cr8)
{
	lapic_set_reg(apic, APIC_TASKPRI, (cr8 & 15) << 4);
}

/* --- messages --- */

/* A vector into IRR: 1, or 0 where it waits there already. */
static int request_vector(struct lapic *apic, u8 vector, bool trig_level)
{
	/* TMR first: it must be right when the vCPU sees the request. */
	if (trig_level != test_vector(apic, APIC_TMR, vector)) {
		if (trig_level)
			set_vector(apic, APIC_TMR, vector);
		else
			clear_vector(apic, APIC_TMR, vector);
	}
	/* The atomic operation orders IRR before the hint; pairs with lapic_pending_slow(). */
	if (set_vector(apic, APIC_IRR, vector))
		return 0;	/* whoever set it sees to the rest */
	WRITE_ONCE(apic->maybe_pending, true);
	kick(apic);
	return 1;
}

/* Note an error, and raise the error interrupt (16.4.6). Any context. */
static void raise_error(struct lapic *apic, u32 error)
{
	u32 lvt = lapic_reg(apic, APIC_LVTERR);

	set_bit(__ffs(error), &apic->esr_pending);
	if (READ_ONCE(apic->enabled) && !(lvt & APIC_LVT_MASKED) && (lvt & 0xff) >= 16)
		request_vector(apic, lvt & 0xff, false);
}

/*
 * One message arrives at one APIC. Any context. 1 accepted, 0 coalesced with one that waits
 * already, -1 not accepted (disabled, bad vector).
 */
int lapic_inject(struct lapic *apic, u32 mode, u8 vector, bool trig_level)
{
	switch (mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		if (!READ_ONCE(apic->enabled))
			return -1;
		if (vector < 16) {
			raise_error(apic, APIC_ESR_RECVILL);
			return -1;
		}
		return request_vector(apic, vector, trig_level);
	case APIC_DM_NMI:
		if (test_and_set_bit(LAPIC_EV_NMI, &apic->events))
			set_bit(LAPIC_EV_NMI_2, &apic->events);
		break;
	case APIC_DM_INIT:
		/* INIT cancels a SIPI that was sent before it. */
		clear_bit(LAPIC_EV_SIPI, &apic->events);
		set_bit(LAPIC_EV_INIT, &apic->events);
		break;
	case APIC_DM_STARTUP:
		WRITE_ONCE(apic->sipi_vector, vector);
		smp_wmb();	/* the vector before the event */
		set_bit(LAPIC_EV_SIPI, &apic->events);
		break;
	case APIC_DM_EXTINT:	/* reaches processors by the PIC's own line */
	default:		/* no SMM */
		return -1;
	}
	kick(apic);
	return 1;
}

static bool match_logical(const struct lapic *apic, u32 dest)
{
	u32 ldr = lapic_reg(apic, APIC_LDR);

	if (lapic_x2apic(apic))
		return (dest >> 16) == (ldr >> 16) && (dest & ldr & 0xffff);
	if (dest > 0xff)
		return false;
	ldr >>= 24;
	if ((lapic_reg(apic, APIC_DFR) >> 28) == 0xf)	/* flat */
		return ldr & dest;
	return (ldr >> 4) == (dest >> 4) && (ldr & dest & 15);
}

static bool match_physical(const struct lapic *apic, u32 dest)
{
	/* One that no xAPIC has addresses the vCPU, in either mode, as with KVM. */
	if (lapic_x2apic(apic) || dest > 0xff)
		return dest == apic->id;
	return dest == lapic_reg(apic, APIC_ID) >> 24;
}

/*
 * 0xff addresses all from where destinations have 8 bits: xAPICs, IOAPIC, and MSIs without
 * interrupt remapping (api.rst: KVM_CAP_X2APIC_API).
 */
static bool broadcast(const struct lapic *apic, const struct apic_msg *msg)
{
	if (msg->dest != 0xff || (msg->src && lapic_x2apic(msg->src)))
		return msg->dest == ~0u;
	return msg->src || !apic->chip->x2apic_no_broadcast || !lapic_x2apic(apic);
}

static bool match(const struct lapic *apic, const struct apic_msg *msg)
{
	if (!hw_enabled(apic))
		return false;
	switch (msg->shorthand) {
	case APIC_DEST_SELF:
		return apic == msg->src;
	case APIC_DEST_ALLINC:
		return true;
	case APIC_DEST_ALLBUT:
		return apic != msg->src;
	}
	if (broadcast(apic, msg))
		return true;
	return msg->logical ? match_logical(apic, msg->dest) : match_physical(apic, msg->dest);
}

/*
 * A message goes to all APICs that it addresses; lowest priority to the one of them with the lowest
 * PPR. Any context. How many accepted it, 0 where it coalesced with one that waits, -1 for none.
 */
int lapic_deliver(struct irqchip *chip, const struct apic_msg *msg)
{
	/* Pairs with the publication in lapic_create(). */
	unsigned int i, nr = smp_load_acquire(&chip->nr_lapics);
	struct lapic *best = NULL, *apic;
	int r = -1, one;

	/* A processor by its number: no need to look at all. 255 may be a broadcast. */
	if (!msg->shorthand && !msg->logical && msg->dest < min(nr, 0xffu)) {
		apic = chip->lapics[array_index_nospec(msg->dest, IRQCHIP_MAX_VCPUS)];
		if (apic->id == msg->dest && match(apic, msg))
			return lapic_inject(apic, msg->mode, msg->vector, msg->trig_level);
	}
	for (i = 0; i < nr; i++) {
		apic = chip->lapics[i];
		if (!match(apic, msg))
			continue;
		if (msg->mode == APIC_DM_LOWEST) {
			if (READ_ONCE(apic->enabled) && (!best || ppr(apic) < ppr(best)))
				best = apic;
			continue;
		}
		one = lapic_inject(apic, msg->mode, msg->vector, msg->trig_level);
		if (one >= 0)
			r = max(r, 0) + one;
	}
	if (best)
		r = lapic_inject(best, msg->mode, msg->vector, msg->trig_level);
	return r;
}

/** lapic_send() - PV IPI to the APIC ids @first + n, by bit n of @map. How many accepted it. */
int lapic_send(struct irqchip *chip, const unsigned long map[2], unsigned int width, u32 first,
	       u32 icr)
{
	/* Pairs with the publication in lapic_create(). */
	unsigned int i, nr = smp_load_acquire(&chip->nr_lapics);
	int sent = 0;

	for (i = 0; i < nr; i++) {
		struct lapic *apic = chip->lapics[i];
		u32 n = apic->id - first;

		/* @width bits of each word are used */
		if (apic->id < first || n >= 2 * width)
			continue;
		n = array_index_nospec(n, 2 * width);
		if ((map[n / width] >> (n % width) & 1) &&
		    lapic_inject(apic, icr & APIC_MODE_MASK, icr & APIC_VECTOR_MASK, false) >= 0)
			sent++;
	}
	return sent;
}

static void write_icr(struct lapic *apic, u32 low, u32 dest)
{
	struct apic_msg msg = {
		.dest = dest,
		.shorthand = low & APIC_DEST_ALLBUT,
		.mode = low & APIC_MODE_MASK,
		.vector = low & APIC_VECTOR_MASK,
		.logical = low & APIC_DEST_LOGICAL,
		.src = apic,	/* and edge-triggered, whatever the bit says */
	};

	if ((msg.mode == APIC_DM_FIXED || msg.mode == APIC_DM_LOWEST) && msg.vector < 16) {
		raise_error(apic, APIC_ESR_SENDILL);
		return;
	}
	/* De-assertion of INIT only set arbitration ids on processors of old. */
	if (msg.mode == APIC_DM_INIT &&
	    (low & (APIC_INT_LEVELTRIG | APIC_INT_ASSERT)) == APIC_INT_LEVELTRIG)
		return;
	lapic_deliver(apic->chip, &msg);
}

/* --- registers --- */

static u32 read_reg(struct lapic *apic, u32 offset)
{
	switch (offset) {
	case APIC_ARBPRI:
		return apr(apic);
	case APIC_PROCPRI:
		return ppr(apic);
	case APIC_TMCCT:
		return lapic_timer_current(apic);
	default:	/* a register that exists; the mask is for speculation */
		return lapic_reg(apic, offset & (KVM_APIC_REG_SIZE - 1));
	}
}

static bool reg_exists(u32 offset)
{
	switch (offset) {
	case APIC_ID ... APIC_LVR:
	case APIC_TASKPRI ... APIC_ESR:
	case APIC_ICR ... APIC_TMCCT:
	case APIC_TDCR:
		return true;
	default:
		return false;
	}
}

/** lapic_mmio_read() - a 32-bit read at @offset of the register page; 0 where nothing is. */
u32 lapic_mmio_read(struct lapic *apic, u32 offset)
{
	offset &= 0xff0;
	if (offset == APIC_EOI)
		return 0;
	if (!reg_exists(offset)) {
		raise_error(apic, APIC_ESR_ILLREGA);
		return 0;
	}
	return read_reg(apic, offset);
}

/* The bits that can be set in the registers that both modes write alike. */
static u32 writable(u32 offset)
{
	static const u32 bits[] = {
		[APIC_TASKPRI >> 4]	= 0x000000ff,
		[APIC_SPIV >> 4]	= 0x000003ff,
		[APIC_LVTT >> 4]	= 0x000700ff,	/* vector, mask, mode */
		[APIC_LVTTHMR >> 4]	= 0x000107ff,	/* vector, delivery mode, mask */
		[APIC_LVTPC >> 4]	= 0x000107ff,
		[APIC_LVT0 >> 4]	= 0x0001a7ff,	/* and polarity, trigger mode */
		[APIC_LVT1 >> 4]	= 0x0001a7ff,
		[APIC_LVTERR >> 4]	= 0x000100ff,
		[APIC_TMICT >> 4]	= 0xffffffff,
		[APIC_TDCR >> 4]	= 0x0000000b,
	};
	u32 n = offset >> 4;

	return n < ARRAY_SIZE(bits) ? bits[array_index_nospec(n, ARRAY_SIZE(bits))] : 0;
}

static void mask_lvts(struct lapic *apic)
{
	u32 offset;

	for (offset = APIC_LVTT; offset <= APIC_LVTERR; offset += 16)
		lapic_set_reg(apic, offset, lapic_reg(apic, offset) | APIC_LVT_MASKED);
}

/* Registers that both modes write alike; false where there is none to write. */
static bool write_reg(struct lapic *apic, u32 offset, u32 val)
{
	switch (offset) {
	case APIC_TASKPRI:
		lapic_set_reg(apic, APIC_TASKPRI, val & writable(APIC_TASKPRI));
		return true;
	case APIC_EOI:
		lapic_eoi(apic);
		return true;
	case APIC_SPIV:
		lapic_set_reg(apic, APIC_SPIV, val & writable(APIC_SPIV));
		if (!(val & APIC_SPIV_APIC_ENABLED))
			mask_lvts(apic);
		update_enabled(apic);
		/* What was latched while disabled may go now. */
		WRITE_ONCE(apic->maybe_pending, true);
		return true;
	case APIC_ESR:
		lapic_set_reg(apic, APIC_ESR, xchg(&apic->esr_pending, 0ul));
		return true;
	case APIC_LVTT ... APIC_LVTERR:
		val &= writable(offset);
		if (!(lapic_reg(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED))
			val |= APIC_LVT_MASKED;
		if (offset == APIC_LVTT)
			lapic_timer_set_lvt(apic, val);
		else
			lapic_set_reg(apic, offset, val);
		return true;
	case APIC_TMICT:
		lapic_timer_set_count(apic, val);
		return true;
	case APIC_TDCR:
		lapic_timer_set_divisor(apic, val & writable(APIC_TDCR));
		return true;
	default:
		return false;
	}
}

/** lapic_mmio_write() - a 32-bit write at @offset of the register page. */
void lapic_mmio_write(struct lapic *apic, u32 offset, u32 val)
{
	/* What lies further off becomes 0, where no register is. */
	offset = array_index_nospec(offset & 0xff0, KVM_APIC_REG_SIZE);
	switch (offset) {
	case APIC_ID:
	case APIC_LDR:
	case APIC_ICR2:
		lapic_set_reg(apic, offset, val & 0xff000000);
		return;
	case APIC_DFR:
		lapic_set_reg(apic, APIC_DFR, val | 0x0fffffff);
		return;
	case APIC_ICR:
		lapic_set_reg(apic, APIC_ICR, val & ~APIC_ICR_BUSY);
		write_icr(apic, val, lapic_reg(apic, APIC_ICR2) >> 24);
		return;
	}
	if (!write_reg(apic, offset, val) && !reg_exists(offset))
		raise_error(apic, APIC_ESR_ILLREGA);
}

/** lapic_msr_read() - x2APIC registers and IA32_TSC_DEADLINE. 0, or -EINVAL (#GP). */
int lapic_msr_read(struct lapic *apic, u32 msr, u64 *val)
{
	u32 offset = array_index_nospec(msr - APIC_BASE_MSR, KVM_APIC_REG_SIZE / 16) << 4;

	if (msr == MSR_IA32_TSC_DEADLINE) {
		*val = lapic_timer_deadline_mode(apic) ? READ_ONCE(apic->tscdeadline) : 0;
		return 0;
	}
	if (!lapic_x2apic(apic) || !reg_exists(offset))
		return -EINVAL;
	switch (offset) {
	case APIC_DFR:
	case APIC_ICR2:
	case APIC_EOI:
	case APIC_ARBPRI:
	case APIC_RRR:
		return -EINVAL;
	case APIC_ICR:
		*val = lapic_reg(apic, APIC_ICR) | (u64)lapic_reg(apic, APIC_ICR2) << 32;
		return 0;
	}
	*val = read_reg(apic, offset);
	return 0;
}

/** lapic_msr_write() - likewise. */
int lapic_msr_write(struct lapic *apic, u32 msr, u64 val)
{
	u32 offset = array_index_nospec(msr - APIC_BASE_MSR, KVM_APIC_REG_SIZE / 16) << 4;

	if (msr == MSR_IA32_TSC_DEADLINE) {
		if (lapic_timer_deadline_mode(apic))
			lapic_timer_set_deadline(apic, val);
		return 0;
	}
	if (!lapic_x2apic(apic))
		return -EINVAL;
	if (offset == APIC_ICR) {
		if ((u32)val & ICR_RESERVED)
			return -EINVAL;
		lapic_set_reg(apic, APIC_ICR, (u32)val & ~APIC_ICR_BUSY);
		lapic_set_reg(apic, APIC_ICR2, val >> 32);
		write_icr(apic, val, val >> 32);
		return 0;
	}
	if (offset == APIC_SELF_IPI) {
		if (val & ~0xffull)
			return -EINVAL;
		write_icr(apic, APIC_DEST_SELF | (u32)val, 0);
		return 0;
	}
	/* The read-only bits of LVT entries may be set. */
	if (offset >= APIC_LVTT && offset <= APIC_LVTERR)
		val &= ~(u64)LVT_READONLY;
	if (val & ~(u64)writable(offset))
		return -EINVAL;
	return write_reg(apic, offset, val) ? 0 : -EINVAL;
}

/* --- APIC_BASE --- */

/** lapic_set_base() - write IA32_APIC_BASE. 0, -EINVAL. @host: userspace, any valid mode. */
int lapic_set_base(struct lapic *apic, u64 val, bool host)
{
	u64 mode = val & X2APIC_MODE, old_mode = apic->base & X2APIC_MODE;
	unsigned int i;

	if (val & (~0ull << 52 | 0x2ffull) || mode == X2APIC_ENABLE)
		return -EINVAL;
	/* Not from disabled to x2APIC mode or from there to xAPIC mode (APM vol. 2, 16.9). */
	if (!host && ((old_mode == X2APIC_MODE && mode == MSR_IA32_APICBASE_ENABLE) ||
		      (!old_mode && mode == X2APIC_MODE)))
		return -EINVAL;
	WRITE_ONCE(apic->base, val);
	if ((mode ^ old_mode) & X2APIC_ENABLE)
		reset_identity(apic);
	if (old_mode && !mode) {
		lapic_timer_stop(apic);
		lapic_set_reg(apic, APIC_SPIV, 0xff);
		mask_lvts(apic);
		/* Disabling forgets what was requested and in service (APM vol. 2, 16.3.1). */
		for (i = 0; i < 8; i++) {
			lapic_set_reg(apic, APIC_ISR + i * 16, 0);
			lapic_set_reg(apic, APIC_IRR + i * 16, 0);
		}
		WRITE_ONCE(apic->highest_isr, 0);
	}
	update_enabled(apic);
	return 0;
}

/* --- life --- */

/** lapic_reset() - RESET, or INIT, after which base and events stay (APM vol. 2, 16.3.3). */
void lapic_reset(struct lapic *apic, bool init)
{
	u32 id = lapic_reg(apic, APIC_ID);

	if (!init) {
		WRITE_ONCE(apic->base, APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
				       (apic->is_bsp ? MSR_IA32_APICBASE_BSP : 0));
		WRITE_ONCE(apic->events, 0);
	}
	lapic_timer_set_deadline(apic, 0);
	/* Disabled first, so that nothing that is sent meanwhile is half forgotten. */
	WRITE_ONCE(apic->enabled, false);
	memset(apic->regs, 0, sizeof(apic->regs));
	reset_identity(apic);
	if (init)	/* INIT leaves the id */
		lapic_set_reg(apic, APIC_ID, id);
	lapic_set_reg(apic, APIC_LVR, APIC_VERSION);
	lapic_set_reg(apic, APIC_DFR, 0xffffffff);
	lapic_set_reg(apic, APIC_SPIV, 0xff);
	mask_lvts(apic);
	/* The PIC reaches the boot processor (api.rst: KVM_X86_QUIRK_LINT0_REENABLED). */
	if (apic->is_bsp)
		lapic_set_reg(apic, APIC_LVT0, APIC_DM_EXTINT);
	WRITE_ONCE(apic->highest_isr, 0);
	WRITE_ONCE(apic->esr_pending, 0);
	WRITE_ONCE(apic->maybe_pending, false);
}

/** lapic_create() - make and publish a vCPU's APIC. vm->lock held; sleeps. NULL: no memory. */
struct lapic *lapic_create(struct irqchip *chip, u32 id, void *vcpu)
{
	struct lapic *apic = kzalloc(sizeof(*apic), GFP_KERNEL_ACCOUNT);

	if (!apic)
		return NULL;
	apic->id = id;
	apic->vcpu = vcpu;
	apic->chip = chip;
	apic->is_bsp = id == chip->bsp_id;
	lapic_timer_init(apic);
	lapic_reset(apic, false);
	chip->lapics[chip->nr_lapics] = apic;
	/* pairs with lapic_deliver() */
	smp_store_release(&chip->nr_lapics, chip->nr_lapics + 1);
	return apic;
}

/** lapic_destroy() - the VM is going. Sleeps. */
void lapic_destroy(struct lapic *apic)
{
	struct irqchip *chip = apic->chip;

	/*
	 * The PIT may still tick and an irqfd may still be on its way: hide the APICs, all at once,
	 * and wait for messages under way, sent from hard interrupts, under raw locks or RCU.
	 */
	if (READ_ONCE(chip->nr_lapics)) {
		WRITE_ONCE(chip->nr_lapics, 0);
		synchronize_rcu_expedited();
	}
	lapic_timer_stop(apic);
	kfree(apic);
}

/* --- KVM_GET/SET_LAPIC --- */

/** lapic_get_state() - KVM_GET_LAPIC. 0. A 32-bit ID only where userspace asked for that form. */
int lapic_get_state(struct lapic *apic, struct kvm_lapic_state *s)
{
	u32 *regs = (u32 *)s->regs;

	memcpy(s->regs, apic->regs, sizeof(s->regs));
	regs[APIC_TMCCT / 4] = lapic_timer_current(apic);
	/* A count that is just running out must not look like one that has. */
	if (!regs[APIC_TMCCT / 4] && lapic_timer_counting(apic))
		regs[APIC_TMCCT / 4] = 1;
	regs[APIC_ARBPRI / 4] = apr(apic);
	regs[APIC_PROCPRI / 4] = ppr(apic);
	if (lapic_x2apic(apic) && !apic->chip->x2apic_format)
		regs[APIC_ID / 4] = apic->id << 24;
	return 0;
}

/* Bring what userspace wrote to the register page into a form that the guest could have made. */
static void sanitise(struct lapic *apic)
{
	u32 offset;

	lapic_set_reg(apic, APIC_LVR, APIC_VERSION);
	lapic_set_reg(apic, APIC_DFR, lapic_reg(apic, APIC_DFR) | 0x0fffffff);
	lapic_set_reg(apic, APIC_ESR, lapic_reg(apic, APIC_ESR) & 0xff);
	lapic_set_reg(apic, APIC_ICR, lapic_reg(apic, APIC_ICR) & ~APIC_ICR_BUSY);
	for (offset = 0; offset <= APIC_TDCR; offset += 16)
		if (writable(offset))
			lapic_set_reg(apic, offset, lapic_reg(apic, offset) & writable(offset));
	if (lapic_x2apic(apic)) {
		reset_identity(apic);
	} else {
		lapic_set_reg(apic, APIC_ID, lapic_reg(apic, APIC_ID) & 0xff000000);
		lapic_set_reg(apic, APIC_LDR, lapic_reg(apic, APIC_LDR) & 0xff000000);
		lapic_set_reg(apic, APIC_ICR2, lapic_reg(apic, APIC_ICR2) & 0xff000000);
	}
}

/** lapic_set_state() - KVM_SET_LAPIC, any bytes. 0, or -EINVAL for an ID that can't be. */
int lapic_set_state(struct lapic *apic, const struct kvm_lapic_state *s)
{
	u32 id = *(const u32 *)(s->regs + APIC_ID);

	/* The older format has room for 8 bits of it: what stands there is ignored. */
	if (lapic_x2apic(apic) && apic->chip->x2apic_format && id != apic->id)
		return -EINVAL;
	lapic_timer_stop(apic);
	memcpy(apic->regs, s->regs, sizeof(s->regs));
	sanitise(apic);
	update_highest_isr(apic);
	update_enabled(apic);
	WRITE_ONCE(apic->maybe_pending, true);
	lapic_timer_restore(apic);
	/* Not asleep any more, if what waits says so. */
	kick(apic);
	return 0;
}
