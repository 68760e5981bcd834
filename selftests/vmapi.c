// SPDX-License-Identifier: GPL-2.0
/*
 * What VM-wide calls do to a guest that runs: interrupts of resampling irqfds, routes and MSIs, the
 * dirty log cleared by hand, statistics, memory that is missing or mapped ahead, as many slots and
 * ids as are promised.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../uapi/svm.h"
#include "guest.h"
#include "host.h"

#define PAGE	  4096ULL
#define GPA	  0x10000000ULL
#define VEC	  0x60 /* IOAPIC pin n goes to VEC + n */
#define PIC_VEC	  0x20
#define EDGE_PIN  9
#define LEVEL_PIN 10

static struct vm *vm;
static struct vcpu *vcpu;

/* --- a guest that takes interrupts, and says each time how many of the kind asked for --- */

static volatile u64 fired[256];

static void on_apic(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	apic_write(0xb0, 0);
}

static void on_pic(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	if (f->vector >= PIC_VEC + 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static void pic_init(u32 pic, u32 vector, u32 cascade)
{
	outb(pic, 0x11);
	outb(pic + 1, vector);
	outb(pic + 1, cascade);
	outb(pic + 1, 1);
	outb(pic + 1, 0);
}

static void irqs_init(void)
{
	for (int i = PIC_VEC; i < 256; i++)
		guest_handlers[i] = i < PIC_VEC + 16 ? on_pic : on_apic;
	pic_init(0x20, PIC_VEC, 4);
	pic_init(0xa0, PIC_VEC + 8, 2);
	apic_write(0xf0, 0x1ff);
	apic_write(0x350, 0x700); /* ExtINT */
}

static void ioapic_write(u32 reg, u32 val)
{
	*(volatile u32 *)0xfec00000ULL = reg;
	*(volatile u32 *)0xfec00010ULL = val;
}

static void serve(u64 vector)
{
	for (;;) {
		sti_nop_cli();
		guest_sync(fired[vector]);
	}
}

static void guest_ioapic(u64 pin)
{
	irqs_init();
	outb(0x21, 0xff);
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, (pin == LEVEL_PIN ? 0x8000 : 0) | (VEC + pin));
	serve(VEC + pin);
}

static void guest_pic(u64 pin)
{
	irqs_init();
	outb(0x4d0 + pin / 8, 1 << pin % 8); /* level */
	serve(PIC_VEC + pin);
}

static void start(void (*fn)(u64), u64 arg)
{
	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, fn, arg);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
}

/* --- eventfds --- */

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	CHECK_OK(fd);
	return fd;
}

static u64 count(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static void signal_fd(int fd)
{
	u64 one = 1;

	CHECK_EQ(write(fd, &one, 8), 8);
}

static int irqfd(int fd, u32 flags, u32 gsi, int resample)
{
	struct kvm_irqfd i = { .fd = fd, .flags = flags, .gsi = gsi, .resamplefd = resample };

	return ioctl(vm->fd, KVM_IRQFD, &i);
}

#define RESAMPLE KVM_IRQFD_FLAG_RESAMPLE
#define DEASSIGN KVM_IRQFD_FLAG_DEASSIGN

/* kvm_amd may deliver by a work item. */
static void settle(void)
{
	sleep_ms(20);
}

/* The line of a PIC's or IOAPIC's pin, seen by userspace. */
static bool requested(u32 pin)
{
	struct kvm_irqchip chip = { .chip_id = pin < 8 ? KVM_IRQCHIP_PIC_MASTER
						       : KVM_IRQCHIP_PIC_SLAVE };

	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip));
	return chip.chip.pic.irr >> (pin & 7) & 1;
}

/* --- irqfds --- */

/* The EOI at a PIC is told like one at the IOAPIC; an unassigned irqfd takes its level with it. */
static void resample_pic(u32 pin)
{
	int a = new_eventfd(), b = new_eventfd(), done = new_eventfd();

	start(guest_pic, pin);
	CHECK_OK(irqfd(a, RESAMPLE, pin, done));
	for (u64 i = 1; i < 4; i++) {
		signal_fd(a);
		settle();
		CHECK(requested(pin));
		CHECK_EQ(count(done), 0);
		CHECK_EQ(vcpu_run_guest(vcpu), i);
		settle();
		CHECK_EQ(count(done), 1);
		CHECK(!requested(pin));
		CHECK_EQ(vcpu_run_guest(vcpu), i);
	}
	signal_fd(a);
	settle();
	CHECK(requested(pin));
	CHECK_OK(irqfd(a, DEASSIGN, pin, 0));
	CHECK(!requested(pin));
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	/* A line that userspace holds as well stays: the level is of all who drive it. */
	CHECK_OK(irqfd(b, RESAMPLE, pin, done));
	vm_irq_line(vm, pin, 1);
	signal_fd(b);
	settle();
	CHECK_OK(irqfd(b, DEASSIGN, pin, 0));
	CHECK(requested(pin));
	CHECK_OK(irqfd(b, RESAMPLE, pin, done));
	signal_fd(b);
	settle();
	vm_irq_line(vm, pin, 0);
	CHECK(requested(pin));
	CHECK_EQ(vcpu_run_guest(vcpu), 4);
	settle();
	CHECK(!requested(pin));
	CHECK_EQ(count(done), 1);
}

static void test_resample_pic(void)
{
	resample_pic(5);
	resample_pic(11);
}

/* At an edge pin each signal is one interrupt, as the EOI takes the line down. */
static void test_resample_edge(void)
{
	int a = new_eventfd(), done = new_eventfd();

	start(guest_ioapic, EDGE_PIN);
	CHECK_OK(irqfd(a, RESAMPLE, EDGE_PIN, done));
	for (u64 i = 1; i < 4; i++) {
		signal_fd(a);
		settle();
		CHECK_EQ(vcpu_run_guest(vcpu), i);
		settle();
		CHECK_EQ(count(done), 1);
		CHECK_EQ(vcpu_run_guest(vcpu), i);
	}
}

/* A device that has always more: it is asked after each EOI, and no interrupt is lost. */
#define STORM 300

static void guest_storm(u64 pin)
{
	irqs_init();
	outb(0x21, 0xff);
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, 0x8000 | (VEC + pin));
	guest_sync(0);
	while (fired[VEC + pin] < STORM)
		sti_hlt();
	guest_done();
}

static void test_resample_storm(void)
{
	int a = new_eventfd(), done = eventfd(0, EFD_CLOEXEC);
	struct runner r = { .cpu = -1 };
	u64 n;

	start(guest_storm, LEVEL_PIN);
	CHECK_OK(irqfd(a, RESAMPLE, LEVEL_PIN, done));
	r.vcpu = vcpu;
	runner_start(&r);
	for (int i = 0; i < STORM; i++) {
		signal_fd(a);
		CHECK_EQ(read(done, &n, 8), 8);
		CHECK_EQ(n, 1);
	}
	runner_join(&r);
	CHECK_EQ((*guest_ptr(vm, fired))[VEC + LEVEL_PIN], STORM);
}

/* The eventfd lives as long as one descriptor of it; its number may come again. */
static void test_irqfd_close(void)
{
	int a = new_eventfd(), b = fcntl(a, F_DUPFD_CLOEXEC, 100), c;

	start(guest_ioapic, EDGE_PIN);
	CHECK_OK(irqfd(a, 0, EDGE_PIN, 0));
	close(a);
	signal_fd(b);
	settle();
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_ERR(irqfd(b, 0, EDGE_PIN, 0), EBUSY);
	close(b);
	settle();
	for (u64 i = 0; i < 3; i++) {
		c = new_eventfd();
		CHECK_OK(irqfd(c, 0, EDGE_PIN, 0));
		signal_fd(c);
		settle();
		CHECK_EQ(vcpu_run_guest(vcpu), 2 + i);
		close(c);
	}
	CHECK_ERR(irqfd(c, DEASSIGN, EDGE_PIN, 0), EBADF);
}

/* --- routes and MSIs --- */

struct routing {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[4];
};

#define MSI_ROUTE(n, low, hi, val) \
	{ \
		.gsi = (n), .type = KVM_IRQ_ROUTING_MSI, .u.msi = { \
			.address_lo = (low), \
			.address_hi = (hi), \
			.data = (val) \
		} \
	}
#define PIN_ROUTE(n, which, input) \
	{ \
		.gsi = (n), .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { \
			.irqchip = (which), \
			.pin = (input) \
		} \
	}
#define MASTER KVM_IRQCHIP_PIC_MASTER
#define SLAVE  KVM_IRQCHIP_PIC_SLAVE
#define IOAPIC KVM_IRQCHIP_IOAPIC
#define MSI    0xfee00000

/* Tables that are refused leave the one before. */
static void test_routing_errors(void)
{
	static struct routing bad[] = {
		{ { .nr = 1 }, { PIN_ROUTE(3, MASTER, 8) } },
		{ { .nr = 1 }, { PIN_ROUTE(3, SLAVE, 8) } },
		{ { .nr = 1 }, { PIN_ROUTE(3, IOAPIC, 24) } },
		{ { .nr = 1 }, { PIN_ROUTE(3, 3, 0) } },
		{ { .nr = 1 }, { PIN_ROUTE(4096, IOAPIC, 1) } },
		{ { .nr = 2 }, { PIN_ROUTE(3, IOAPIC, 1), PIN_ROUTE(3, IOAPIC, 2) } },
		{ { .nr = 2 }, { PIN_ROUTE(3, MASTER, 1), PIN_ROUTE(3, MASTER, 1) } },
		{ { .nr = 2 }, { MSI_ROUTE(3, MSI, 0, 0x60), MSI_ROUTE(3, MSI, 0, 0x61) } },
		{ { .nr = 2 }, { MSI_ROUTE(3, MSI, 0, 0x60), PIN_ROUTE(3, IOAPIC, 3) } },
		{ { .nr = 2 }, { PIN_ROUTE(3, IOAPIC, 3), MSI_ROUTE(3, MSI, 0, 0x60) } },
		{ { .nr = 1 }, { { .gsi = 3, .type = 0 } } },
		{ { .nr = 1, .flags = 1 }, { PIN_ROUTE(3, IOAPIC, 3) } },
	};
	static struct kvm_irq_routing most = { .nr = 4097 };
	struct routing ok = { { .nr = 3 },
			      { PIN_ROUTE(700, IOAPIC, EDGE_PIN), PIN_ROUTE(700, MASTER, 3),
				MSI_ROUTE(701, MSI, 0, VEC + EDGE_PIN) } };
	struct kvm_irq_level line = { .irq = 700, .level = 1 };
	struct kvm_msi msi = { .address_lo = MSI, .data = VEC + EDGE_PIN };

	start(guest_ioapic, EDGE_PIN);
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &ok));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ktap_diag("table %zu", i);
		CHECK_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &bad[i]), EINVAL);
	}
	CHECK_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &most), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, NULL), EFAULT);
	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line));
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	line.level = 0;
	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line));
	vm_irq_line(vm, 701, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	line.irq = EDGE_PIN; /* has no route any more */
	line.level = 1;
	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line));
	CHECK((int)line.status < 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	msi.address_lo |= 5 << 12; /* nobody's */
	CHECK(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) <= 0);
	if (!vm_is_kvm()) { /* which takes unknown flags */
		msi.flags = 1;
		CHECK_ERR(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	ok.head.nr = 0;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &ok));
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
}

/* --- x2APIC ids --- */

static void apic_mode(struct vcpu *v, bool x2)
{
	struct kvm_lapic_state s;

	vcpu_set_msr(v, 0x1b, vcpu_get_msr(v, 0x1b) | 0x800 | (x2 ? 0x400 : 0));
	CHECK_OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	*(u32 *)(s.regs + 0xf0) = 0x1ff;
	CHECK_OK(ioctl(v->fd, KVM_SET_LAPIC, &s));
}

static bool pending(struct vcpu *v, u32 vector)
{
	struct kvm_lapic_state s;

	CHECK_OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	return *(u32 *)(s.regs + 0x200 + vector / 32 * 16) >> vector % 32 & 1;
}

static int send(u32 dest, u32 vector)
{
	struct kvm_msi msi = { .address_lo = MSI | (dest & 0xff) << 12,
			       .address_hi = dest & ~0xffu,
			       .data = vector };

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

static struct vcpu *big_vcpu(u32 id)
{
	static struct vcpu room[4];
	static int n;
	struct vcpu *v = &room[n++];
	struct kvm_cpuid2 *c = vm_supported_cpuid(vm->dev);

	*v = (struct vcpu){ .vm = vm, .id = id, .fd = ioctl(vm->fd, KVM_CREATE_VCPU, id) };
	CHECK_OK(v->fd);
	CHECK_OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	return v;
}

static void test_x2apic_ids(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API, .args = { 4 } };
	u32 last;
	struct vcpu *a, *b, *c;
	struct kvm_lapic_state s;

	vm = vm_create();
	last = vm_has_cap(vm, KVM_CAP_MAX_VCPU_ID) - 1;
	CHECK(last >= 255);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	vm_irqchip(vm);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, last + 1), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, -1UL), EINVAL);
	a = big_vcpu(0);
	b = big_vcpu(255);
	c = big_vcpu(last);
	apic_mode(a, false);
	apic_mode(b, true);
	apic_mode(c, true);
	/* 8 bits: 255 is all. */
	CHECK_OK(ioctl(c->fd, KVM_GET_LAPIC, &s));
	CHECK_EQ(*(u32 *)(s.regs + 0x20), last << 24);
	CHECK(send(255, 0x50) > 0);
	CHECK(pending(a, 0x50) && pending(b, 0x50) && pending(c, 0x50));
	/* 32 bits, and 255 is one of the x2APICs. */
	cap.args[0] = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	CHECK_OK(ioctl(c->fd, KVM_GET_LAPIC, &s));
	CHECK_EQ(*(u32 *)(s.regs + 0x20), last);
	*(u32 *)(s.regs + 0x20) = last - 1;
	CHECK_ERR(ioctl(c->fd, KVM_SET_LAPIC, &s), EINVAL);
	CHECK_EQ(send(last, 0x51), 1);
	CHECK(!pending(a, 0x51) && !pending(b, 0x51) && pending(c, 0x51));
	CHECK_EQ(send(255, 0x52), 1);
	CHECK(pending(b, 0x52) && !pending(c, 0x52));
	CHECK(send(~0u, 0x53) > 0);
	CHECK(pending(b, 0x53) && pending(c, 0x53));
	CHECK(send(last - 1, 0x54) <= 0);
	CHECK_ERR(ioctl(vm->fd, KVM_SIGNAL_MSI,
			&(struct kvm_msi){ .address_lo = MSI, .address_hi = 1, .data = 0x55 }),
		  EINVAL);
}

/* With every 8-bit id in use, 255 is still all of them. */
#define ALL_IDS 256

static void test_broadcast_all(void)
{
	static struct vcpu v[ALL_IDS];

	vm = vm_create();
	CHECK(vm_has_cap(vm, KVM_CAP_MAX_VCPUS) >= ALL_IDS);
	vm_irqchip(vm);
	for (int i = 0; i < ALL_IDS; i++) {
		v[i] = (struct vcpu){ .vm = vm, .id = i, .fd = ioctl(vm->fd, KVM_CREATE_VCPU, i) };
		CHECK_OK(v[i].fd);
		apic_mode(&v[i], false);
	}
	CHECK_EQ(send(254, 0x50), 1);
	CHECK(!pending(&v[253], 0x50) && pending(&v[254], 0x50) && !pending(&v[255], 0x50));
	CHECK(send(255, 0x51) > 0);
	for (int i = 0; i < ALL_IDS; i++)
		CHECKF(pending(&v[i], 0x51), "vCPU %d", i);
}

/* --- split irqchip --- */

static void guest_eois(u64 arg)
{
	(void)arg;
	for (int i = 32; i < 256; i++)
		guest_handlers[i] = on_apic;
	apic_write(0xf0, 0x1ff);
	guest_sync(0);
	for (;;) {
		sti_nop_cli();
		guest_sync(fired[0x70] | fired[0x80] << 8 | fired[0x90] << 16);
	}
}

/* The IOAPIC is userspace's: it is told of the EOIs of what its pins send as levels. */
static void test_split_eoi(void)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct routing r = { { .nr = 3 },
			     { MSI_ROUTE(3, MSI, 0, 0x8070), MSI_ROUTE(4, MSI, 0, 0x8080),
			       MSI_ROUTE(5, MSI, 0, 0x90) } };

	vm = vm_create_image();
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &split));
	vcpu = vcpu_create(vm, 0);
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	CHECK_ERR(irqfd(new_eventfd(), RESAMPLE, 3, new_eventfd()), EINVAL);
	vcpu_set_guest(vcpu, guest_eois, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	for (u64 i = 1; i < 3; i++) {
		vm_irq_line(vm, 3, 1);
		vcpu_expect(vcpu, KVM_EXIT_IOAPIC_EOI);
		CHECK_EQ(vcpu->run->eoi.vector, 0x70);
		CHECK_EQ(vcpu_run_guest(vcpu), i);
	}
	/* Both at once: the higher one is first. */
	vm_irq_line(vm, 3, 1);
	vm_irq_line(vm, 4, 1);
	vcpu_expect(vcpu, KVM_EXIT_IOAPIC_EOI);
	CHECK_EQ(vcpu->run->eoi.vector, 0x80);
	vcpu_expect(vcpu, KVM_EXIT_IOAPIC_EOI);
	CHECK_EQ(vcpu->run->eoi.vector, 0x70);
	CHECK_EQ(vcpu_run_guest(vcpu), 3 | 1 << 8);
	vm_irq_line(vm, 5, 1); /* an edge: nobody asks */
	CHECK_EQ(vcpu_run_guest(vcpu), 3 | 1 << 8 | 1 << 16);
}

/* --- PIT --- */

#define PIT_MS	  20
#define PIT_COUNT (1193182 * PIT_MS / 1000)

static void guest_pit(u64 arg)
{
	(void)arg;
	irqs_init();
	outb(0x21, 0xfe);
	outb(0xa1, 0xff);
	outb(0x43, 0x34);
	outb(0x40, PIT_COUNT & 0xff);
	outb(0x40, PIT_COUNT >> 8);
	serve(PIC_VEC);
}

/* Ticks that a guest could not take come later, or never. */
static void test_reinject(void)
{
	struct kvm_pit_config config = { .flags = 0 };
	struct kvm_reinject_control rc = { .pit_reinject = 1 }; /* the default */

	vm = vm_create_image();
	vm_irqchip(vm);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_pit, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	for (int i = 0; i < 4; i++) {
		u64 before = vcpu_run_guest(vcpu), start, n, due;

		if (i)
			CHECK_OK(ioctl(vm->fd, KVM_REINJECT_CONTROL, &rc));
		sleep_ms(40 * PIT_MS);
		start = now_ms();
		for (int j = 0; j < 25; j++) {
			n = vcpu_run_guest(vcpu) - before;
			sleep_ms(1);
		}
		due = (now_ms() - start) / PIT_MS;
		if (rc.pit_reinject)
			CHECKF(n >= 20, "round %d: %llu ticks", i, (unsigned long long)n);
		else
			CHECKF(n >= 1 && n <= 4 + due, "round %d: %llu ticks", i,
			       (unsigned long long)n);
		rc.pit_reinject ^= 1;
	}
}

/* --- coalesced writes --- */

static void guest_port(u64 port)
{
	for (u32 i = 0;; i++) {
		outb(port, i);
		guest_sync(i);
	}
}

/* Whatever the indices are made, the kernel stays within its page, and no write is lost. */
static void test_ring_hostile(void)
{
	static const u32 bad[] = { ~0u, 1u << 31, 4096, 1000, 200, 171, 170, 169, 168, 1, 0 };
	struct kvm_coalesced_mmio_zone zone = { .addr = 0x3f0, .size = 1, .pio = 1 };
	struct kvm_coalesced_mmio_ring *ring;
	u32 max = (PAGE - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
	u64 seq = 0, sync;

	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	ring = (void *)vcpu->run + PAGE * vm_has_cap(vm, KVM_CAP_COALESCED_MMIO);
	CHECK_OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	vcpu_set_guest(vcpu, guest_port, zone.addr);
	for (size_t i = 0; i < ARRAY_LEN(bad) * ARRAY_LEN(bad); i++, seq++) {
		u32 first = bad[i / ARRAY_LEN(bad)], last = bad[i % ARRAY_LEN(bad)];
		bool room = last < max && (last + 1) % max != first;

		if (first >= max) {
			if (vm_is_kvm()) { /* differs between kernels */
				seq--;
				continue;
			}
			room = false;
		}
		ring->first = first;
		ring->last = last;
		CHECK_EQ(vcpu_run(vcpu), KVM_EXIT_IO);
		if (room) { /* it is in the ring */
			CHECK(vcpu_guest_event(vcpu, &sync));
			CHECK_EQ(ring->last, (last + 1) % max);
			CHECK_EQ(ring->coalesced_mmio[last].data[0], seq & 0xff);
		} else {
			CHECK_EQ(vcpu->run->io.port, zone.addr);
			CHECK_EQ(*((u8 *)vcpu->run + vcpu->run->io.data_offset), seq & 0xff);
			CHECK_EQ(ring->last, last);
			sync = vcpu_run_guest(vcpu);
		}
		CHECK_EQ(sync, seq);
		CHECK_EQ(ring->first, first);
	}
}

/* --- dirty log --- */

#define LOG_PAGES 192
#define ROUNDS	  60

static volatile u64 log_stop;

static void guest_writes(u64 arg)
{
	for (u64 n = 1; !log_stop; n++)
		*(volatile u64 *)(GPA + n * arg % LOG_PAGES * PAGE) = n;
	guest_done();
}

/* A copy that is made of the reported pages alone is complete, although the guest never stops. */
static void log_running(u64 init)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
				      .args = { KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | init } };
	struct kvm_userspace_memory_region m = { .slot = 5,
						 .flags = KVM_MEM_LOG_DIRTY_PAGES,
						 .guest_phys_addr = GPA,
						 .memory_size = LOG_PAGES * PAGE };
	u64 map[LOG_PAGES / 64], *mem = map_anon(HOST_HUGE), copy[LOG_PAGES] = { 0 }, seen = 0;
	struct kvm_dirty_log get = { .slot = 5, .dirty_bitmap = map };
	struct kvm_clear_dirty_log clear = { .slot = 5 };
	struct runner r = { .cpu = -1 };

	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	m.userspace_addr = (u64)mem;
	CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &m));
	vcpu_set_guest(vcpu, guest_writes, 7);
	r.vcpu = vcpu;
	runner_start(&r);
	for (int round = 0; round <= ROUNDS; round++) {
		if (round == ROUNDS) {
			*guest_ptr(vm, log_stop) = 1;
			runner_join(&r);
		} else if (round % 8 == 0) {
			sleep_ms(10);
		}
		CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
		for (u32 w = 0; w < LOG_PAGES / 64; w++) {
			clear.first_page = w * 64;
			clear.num_pages = 64;
			clear.dirty_bitmap = &map[w];
			CHECK_OK(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
			for (u32 i = 0; i < 64; i++) {
				if (!(map[w] >> i & 1))
					continue;
				copy[w * 64 + i] = *(volatile u64 *)(mem + (w * 64 + i) * 512);
				seen++;
			}
		}
	}
	for (u32 i = 0; i < LOG_PAGES; i++)
		CHECKF(copy[i] == mem[i * 512], "page %u: %llu, copied %llu", i,
		       (unsigned long long)mem[i * 512], (unsigned long long)copy[i]);
	CHECK(seen > LOG_PAGES);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(!map[0] && !map[1] && !map[2]);
	vm_destroy(vm);
}

static void test_log_running(void)
{
	log_running(0);
	log_running(KVM_DIRTY_LOG_INITIALLY_SET);
}

/* --- statistics --- */

/* By name; -1 if there is none such. */
static long long stat_of(int fd, const char *name)
{
	struct kvm_stats_header h;

	CHECK_EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
	for (u32 i = 0; i < h.num_desc; i++) {
		char buf[sizeof(struct kvm_stats_desc) + 256];
		struct kvm_stats_desc *d = (void *)buf;
		size_t size = sizeof(*d) + h.name_size;
		long long value;

		CHECK(size <= sizeof(buf));
		CHECK_EQ(pread(fd, buf, size, h.desc_offset + i * size), size);
		if (strcmp(d->name, name))
			continue;
		CHECK_EQ(pread(fd, &value, 8, h.data_offset + d->offset), 8);
		return value;
	}
	return -1;
}

static int stats_fd(int fd)
{
	int stats = ioctl(fd, KVM_GET_STATS_FD, NULL);

	CHECK_OK(stats);
	return stats;
}

static void guest_cpuids(u64 arg)
{
	u32 out[4];

	(void)arg;
	for (u64 n = 0;; n++) {
		for (int i = 0; i < 100; i++)
			cpuid(0, 0, out);
		guest_sync(n);
	}
}

static void test_stats_grow(void)
{
	char whole[8192], piece[8192];
	long long exits, before;
	int vms, vcpus, n = 0;
	ssize_t size, got;

	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	vms = stats_fd(vm->fd);
	vcpus = stats_fd(vcpu->fd);
	before = stat_of(vcpus, "exits");
	CHECK_EQ(before, 0);
	vcpu_set_guest(vcpu, guest_cpuids, 0);
	for (u64 i = 0; i < 3; i++) {
		CHECK_EQ(vcpu_run_guest(vcpu), i);
		exits = stat_of(vcpus, "exits");
		CHECK(exits >= before + 101 && exits < before + 10000);
		before = exits;
	}
	if (!vm_is_kvm()) { /* names of our own */
		CHECK_EQ(stat_of(vms, "exits"), exits);
		CHECK_EQ(stat_of(vcpus, "user_exits"), 3);
		CHECK_EQ(stat_of(vms, "vcpus"), 1);
		CHECK_EQ(stat_of(vms, "memslots"), 1);
		vcpu_create(vm, 1);
		vm_add_mem(vm, 7, GPA, HOST_HUGE);
		CHECK_EQ(stat_of(vms, "vcpus"), 2);
		CHECK_EQ(stat_of(vms, "memslots"), 2);
	}
	/* In pieces as at once. */
	size = pread(vms, whole, sizeof(whole), 0);
	CHECK(size > 0 && size < (ssize_t)sizeof(whole));
	while ((got = read(vms, piece + n, 7)) > 0)
		n += got;
	CHECK_EQ(n, size);
	CHECK(!memcmp(whole, piece, sizeof(struct kvm_stats_header)));
	/* They outlive what they tell of. */
	vm_destroy(vm);
	CHECK_EQ(stat_of(vcpus, "exits"), exits);
	CHECK_EQ(pread(vms, piece, sizeof(piece), 0), size);
}

/* --- memory that is not there, or not yet mapped --- */

static void guest_touch(u64 arg)
{
	(void)arg;
	*(volatile u64 *)(GPA + 3 * PAGE + 8) = 0x1234;
	guest_sync(*(volatile u64 *)(GPA + 5 * PAGE + 16));
	guest_done();
}

static void expect_memory_fault(u64 gpa)
{
	struct svm_memory_fault *fault = (void *)vcpu->run->padding;

	memset(fault, 0xff, sizeof(*fault));
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	if (vm_is_kvm()) /* which tells so for guest_memfd only */
		return;
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	CHECK_EQ(fault->gpa, gpa);
	CHECK_EQ(fault->size, PAGE);
	CHECK_EQ(fault->flags, 0);
}

static void test_memory_fault(void)
{
	char *p = map_anon(HOST_HUGE);

	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	vm_set_slot(vm, 1, GPA, p, HOST_HUGE, 0);
	CHECK_OK(mprotect(p + 3 * PAGE, PAGE, PROT_READ));
	CHECK_OK(mprotect(p + 5 * PAGE, PAGE, PROT_NONE));
	vcpu_set_guest(vcpu, guest_touch, 0);
	for (int i = 0; i < 3; i++)
		expect_memory_fault(GPA + 3 * PAGE);
	CHECK_OK(mprotect(p + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	for (int i = 0; i < 3; i++)
		expect_memory_fault(GPA + 5 * PAGE);
	CHECK_EQ(*(u64 *)(p + 3 * PAGE + 8), 0x1234);
	CHECK_OK(mprotect(p + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	*(u64 *)(p + 5 * PAGE + 16) = 0x5678;
	CHECK_EQ(vcpu_run_guest(vcpu), 0x5678);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

#define AHEAD 256

static void guest_reads(u64 base)
{
	for (u64 run = 0;; run++) {
		for (u64 i = 0; i < AHEAD; i++)
			(void)*(volatile u64 *)(base + i * PAGE);
		guest_sync(run);
	}
}

/* What one more of the guest's rounds costs, in exits. */
static u64 round_exits(u64 run)
{
	int fd = stats_fd(vcpu->fd);
	u64 before = stat_of(fd, "exits");

	CHECK_EQ(vcpu_run_guest(vcpu), run);
	return stat_of(fd, "exits") - before;
}

static void test_pre_fault_maps(void)
{
	struct kvm_pre_fault_memory f = { .gpa = GPA, .size = AHEAD * PAGE };
	char *p = map_anon(2 * HOST_HUGE);
	u64 cold, ahead;

	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	if (!vm_has_cap(vm, KVM_CAP_PRE_FAULT_MEMORY))
		ktap_skip("no KVM_CAP_PRE_FAULT_MEMORY");
	/* Kernels without huge pages refuse: PREEMPT_RT's. */
	if (madvise(p, 2 * HOST_HUGE, MADV_NOHUGEPAGE))
		CHECK_EQ(errno, EINVAL);
	/* Nothing there yet, so that a fault has no neighbours to map. */
	vm_set_slot(vm, 1, GPA, p, HOST_HUGE, 0);
	vm_set_slot(vm, 2, GPA + HOST_HUGE, p + HOST_HUGE, HOST_HUGE, 0);
	vcpu_set_guest(vcpu, guest_reads, GPA + HOST_HUGE);
	cold = round_exits(0);
	CHECK_OK(ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &f));
	CHECK_EQ(f.size, 0);
	vcpu_set_guest(vcpu, guest_reads, GPA);
	ahead = round_exits(0);
	/* Its own exit, and what the host's interrupts cause. */
	CHECKF(cold >= AHEAD && ahead < AHEAD / 4, "%llu exits, %llu without",
	       (unsigned long long)ahead, (unsigned long long)cold);
	/* It ends where the memory does, and says what is left; there it fails. */
	CHECK_OK(mprotect(p + HOST_HUGE + 100 * PAGE, PAGE, PROT_NONE));
	f = (struct kvm_pre_fault_memory){ .gpa = GPA + HOST_HUGE + 98 * PAGE, .size = 8 * PAGE };
	CHECK_OK(ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &f));
	CHECK_EQ(f.gpa, GPA + HOST_HUGE + 100 * PAGE);
	CHECK_EQ(f.size, 6 * PAGE);
	CHECK_ERR(ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &f), EFAULT);
	CHECK_EQ(f.gpa, GPA + HOST_HUGE + 100 * PAGE);
	CHECK_EQ(f.size, 6 * PAGE);
}

/* --- every slot there is --- */

static void guest_sum(u64 nr)
{
	for (u64 i = 0; i < nr; i += nr / 8)
		guest_sync(*(volatile u64 *)(GPA + i * 2 * PAGE));
	guest_done();
}

static long slot(u32 id, u64 gpa, u64 size, void *p)
{
	struct kvm_userspace_memory_region m = {
		.slot = id, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (u64)p
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &m);
}

static void test_all_slots(void)
{
	u64 *p = map_anon(HOST_HUGE), start, mid;
	u32 max;

	/* A grace period for each slot is quick where no other CPU has to be woken for it. */
	bind_cpu(0);
	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	max = vm_has_cap(vm, KVM_CAP_NR_MEMSLOTS);
	CHECK(max >= 4096);
	*p = 0x4321;
	start = now_ms();
	for (u32 i = 1; i < max; i++)
		CHECK_OK(slot(i, GPA + (i - 1) * 2 * PAGE, PAGE, p));
	ktap_diag("%u slots in %llu ms", max, (unsigned long long)(now_ms() - start));
	CHECK_ERR(slot(max, GPA - PAGE, PAGE, p), EINVAL);
	/* In the gap between any two, none has room for more than a page, or another's number. */
	mid = GPA + max / 2 * 2 * PAGE;
	CHECK_OK(slot(max / 2, 0, 0, NULL));
	CHECK_ERR(slot(max / 2, mid + PAGE, 2 * PAGE, p), EEXIST);
	CHECK_ERR(slot(max / 2, mid, PAGE, p), EEXIST);
	CHECK_OK(slot(max / 2, mid + PAGE, PAGE, p));
	CHECK_OK(slot(max / 2, mid - 2 * PAGE, PAGE, p)); /* back to where it was */
	vcpu_set_guest(vcpu, guest_sum, max - 1);
	for (u32 i = 0; i < max - 1; i += (max - 1) / 8)
		CHECK_EQ(vcpu_run_guest(vcpu), 0x4321);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static const struct ktap_test tests[] = {
	{ "resample_pic", test_resample_pic, 0 },
	{ "resample_edge", test_resample_edge, 0 },
	{ "resample_storm", test_resample_storm, 60 },
	{ "irqfd_close", test_irqfd_close, 0 },
	{ "routing_errors", test_routing_errors, 0 },
	{ "x2apic_ids", test_x2apic_ids, 0 },
	{ "broadcast_all", test_broadcast_all, 0 },
	{ "split_eoi", test_split_eoi, 0 },
	{ "reinject", test_reinject, 0 },
	{ "ring_hostile", test_ring_hostile, 0 },
	{ "log_running", test_log_running, 60 },
	{ "stats_grow", test_stats_grow, 0 },
	{ "memory_fault", test_memory_fault, 0 },
	{ "pre_fault_maps", test_pre_fault_maps, 0 },
	{ "all_slots", test_all_slots, 170 },
};

KTAP_MAIN(tests)
