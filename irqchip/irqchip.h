/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interrupt controllers of one VM: local APICs, IOAPIC, the pair of 8259 PICs, the 8254 PIT, and
 * GSI routing.
 *
 * Layering: knows nothing of vCPUs or the VMCB. It reaches upward only by irqchip_ops. Everything
 * may be called from hard interrupt context (hrtimers, irqfd wake-ups), so all its locks are raw
 * and taken with interrupts off; nothing here sleeps except the functions that say so.
 */
#ifndef SVM_IRQCHIP_H
#define SVM_IRQCHIP_H

#include <linux/hrtimer.h>
#include <linux/kvm.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#define IRQCHIP_MAX_VCPUS	1024
#define IRQCHIP_NR_GSIS		24	/* IOAPIC pins; GSI routing may go up to IRQCHIP_MAX_GSI */
#define IRQCHIP_MAX_GSI		4096

struct irqchip;
struct lapic;
struct pit;

struct irqchip_ops {
	/* Something is pending for the vCPU of @apic: wakes it and makes it look. Any context. */
	void (*kick)(struct lapic *apic);
	/* With chip->resampling: an interrupt was ended. By the vCPU's thread, maybe atomic. */
	void (*eoi)(struct irqchip *chip, u32 input);
};

/* Event bits of lapic.events, set by IPIs, consumed by the vCPU's thread. */
#define LAPIC_EV_NMI	0
#define LAPIC_EV_INIT	1
#define LAPIC_EV_SIPI	2
#define LAPIC_EV_NMI_2	3	/* a second one, before the first was taken */
/* split irqchip: userspace's IOAPIC wants to know of the EOI of eoi_vector */
#define LAPIC_EV_EOI	4

struct lapic {
	/* hot: read by the vCPU on each entry */
	/* hint: an IRR bit may be set; cleared only by the owner when it finds none */
	bool maybe_pending;
	bool enabled;		/* APIC_BASE.EN and software-enabled (SVR bit 8) */
	unsigned long events;	/* LAPIC_EV_*, atomic bit operations */
	u8 sipi_vector;
	u8 eoi_vector;
	u32 id;			/* vCPU id = initial APIC id */
	void *vcpu;		/* for irqchip_ops.kick */
	struct irqchip *chip;
	u64 base;		/* MSR 0x1B */
	u64 tscdeadline;	/* guest TSC units */
	struct hrtimer timer;
	u8 highest_isr;		/* highest vector in service, 0: none */
	/* timer (lapic_timer.c) */
	ktime_t expiry;		/* when the current count reaches 0 */
	bool timer_armed;
	u64 ignored;		/* expiries in a row that were not taken */
	bool is_bsp;
	/* errors since the last write to ESR, atomic bit operations */
	unsigned long esr_pending;
	/* how the guest's TSC relates to the host's, for TSC-deadline: set by svm/ */
	u64 tsc_offset;		/* guest TSC = (host TSC * ratio) + tsc_offset */
	u32 guest_tsc_khz;
	u8 regs[KVM_APIC_REG_SIZE] __aligned(16);	/* offsets as in the register page */
};

struct ioapic {
	struct kvm_ioapic_state s;	/* Protected by: irqchip.lock, as all below */
	u32 lines;
	u32 eois[IRQCHIP_NR_GSIS];	/* consecutive EOIs that found the line high */
	struct hrtimer storm_timer;
	unsigned long deferred;	/* pins that the timer delivers */
};

/* What of it is in the kernel: nothing, the APICs alone (KVM_CAP_SPLIT_IRQCHIP), or all. */
enum irqchip_kind { IRQCHIP_NONE, IRQCHIP_SPLIT, IRQCHIP_FULL };

struct irqchip {
	const struct irqchip_ops *ops;
	raw_spinlock_t lock;		/* PIC and IOAPIC state */
	u8 kind;			/* enum irqchip_kind; published with smp_store_release() */
	/* split: the first routes are the pins of userspace's IOAPIC */
	unsigned int ioapic_routes;
	struct kvm_pic_state pic[2];	/* Protected by: lock; see pic.c */
	struct ioapic ioapic;
	struct pit *pit;		/* NULL until pit_create() */
	unsigned int nr_lapics;		/* published after lapics[] with smp_store_release() */
	struct lapic *lapics[IRQCHIP_MAX_VCPUS];
	u32 bsp_id;			/* KVM_SET_BOOT_CPU_ID */
	u32 bus_cycle_ns;		/* of the APIC timers; fixed once there is a vCPU */
	bool x2apic_format;		/* KVM_X2APIC_API_USE_32BIT_IDS */
	bool x2apic_no_broadcast;	/* KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK */
	struct irq_routing __rcu *routing;	/* changed under vm->lock, read under RCU */
	u8 line_sources[IRQCHIP_MAX_GSI]; /* Protected by: lock; who holds the GSI's line high */
	bool resampling;		/* an irqfd wants to know of EOIs; never cleared */
	/* INTR of the PIC pair; written with lock held, read without */
	bool pic_output;
};

/* --- life; these sleep --- */
void irqchip_init(struct irqchip *chip, const struct irqchip_ops *ops);
int irqchip_create(struct irqchip *chip);
int irqchip_check_bus_cycle(const struct irqchip *chip, u64 ns);
int irqchip_create_split(struct irqchip *chip, unsigned int routes);
void irqchip_destroy(struct irqchip *chip);
static inline bool irqchip_in_kernel(const struct irqchip *chip)
{
	return READ_ONCE(chip->kind) != IRQCHIP_NONE;
}

static inline bool irqchip_full(const struct irqchip *chip)
{
	return READ_ONCE(chip->kind) == IRQCHIP_FULL;
}

struct lapic *lapic_create(struct irqchip *chip, u32 id, void *vcpu);
void lapic_destroy(struct lapic *apic);

/* --- the local APIC, by its vCPU's thread --- */
void lapic_reset(struct lapic *apic, bool init);
/* Highest deliverable vector against PPR, or -1. Cheap where maybe_pending is false. */
int lapic_pending_slow(struct lapic *apic);
static inline int lapic_pending(struct lapic *apic)
{
	return likely(!READ_ONCE(apic->maybe_pending)) ? -1 : lapic_pending_slow(apic);
}

void lapic_accept(struct lapic *apic, u8 vector);
bool lapic_put_back(struct lapic *apic, u8 vector);
void lapic_eoi(struct lapic *apic);
bool lapic_eoi_can_wait(const struct lapic *apic);
int lapic_send(struct irqchip *chip, const unsigned long map[2], unsigned int width, u32 first,
	       u32 icr);
bool lapic_accepts_pic(struct lapic *apic);
u8 lapic_get_cr8(struct lapic *apic);
void lapic_set_cr8(struct lapic *apic, u8 cr8);
u32 lapic_mmio_read(struct lapic *apic, u32 offset);
void lapic_mmio_write(struct lapic *apic, u32 offset, u32 val);
int lapic_msr_read(struct lapic *apic, u32 msr, u64 *val);
int lapic_msr_write(struct lapic *apic, u32 msr, u64 val);
int lapic_set_base(struct lapic *apic, u64 val, bool host);
bool lapic_x2apic(const struct lapic *apic);
void lapic_set_tsc_offset(struct lapic *apic, u64 offset);
int lapic_get_state(struct lapic *apic, struct kvm_lapic_state *s);
int lapic_set_state(struct lapic *apic, const struct kvm_lapic_state *s);

/* --- PIC: INTR output and acknowledge --- */
static inline bool pic_pending(struct irqchip *chip)
{
	return READ_ONCE(chip->pic_output);
}

u8 pic_accept(struct irqchip *chip);

/* --- ports and MMIO of in-kernel devices --- */
/* The PICs, the PIT and its speaker gate, the ELCRs: most ports are none of them. */
static inline bool irqchip_has_port(u16 port)
{
	return (port & ~0x81) == 0x20 || (port & ~3) == 0x40 || port == 0x61 ||
		(port & ~1) == 0x4d0;
}

bool irqchip_port_read(struct irqchip *chip, u16 port, unsigned int size, u32 *val);
bool irqchip_port_write(struct irqchip *chip, u16 port, unsigned int size, u32 val);
bool ioapic_mmio_read(struct irqchip *chip, u64 gpa, unsigned int len, void *val);
bool ioapic_mmio_write(struct irqchip *chip, u64 gpa, unsigned int len, const void *val);

/* --- injection --- */
#define IRQ_SOURCE_USER		0
#define IRQ_SOURCE_PIT		1
#define IRQ_SOURCE_RESAMPLE	2	/* irqfds that hold the line until its EOI */
/* Inputs, for irqchip_ops.eoi: 0..15 of the PICs, from here on of the IOAPIC. */
#define IRQ_INPUT_IOAPIC	16
bool irqchip_feeds(struct irqchip *chip, u32 gsi, u32 input);
int irqchip_set_irq(struct irqchip *chip, int source, u32 gsi, int level);
int irqchip_signal_msi(struct irqchip *chip, const struct kvm_msi *msi);
int irqchip_set_routing(struct irqchip *chip, const struct kvm_irq_routing_entry *entries,
			unsigned int nr);

/* --- state for userspace --- */
int irqchip_get_state(struct irqchip *chip, struct kvm_irqchip *s);
int irqchip_set_state(struct irqchip *chip, const struct kvm_irqchip *s);
int pit_create(struct irqchip *chip, const struct kvm_pit_config *cfg);
int pit_get_state(struct irqchip *chip, struct kvm_pit_state2 *s);
int pit_set_state(struct irqchip *chip, const struct kvm_pit_state2 *s);
int pit_set_reinject(struct irqchip *chip, bool reinject);

#endif
