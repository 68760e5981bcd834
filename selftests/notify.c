// SPDX-License-Identifier: GPL-2.0
/*
 * ioeventfds, irqfds (with and without resampling) and coalesced writes: what reaches whom.
 */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define PORT 0x3f0
#define MMIO 0xd0000000ULL
#define VEC  0x60
#define PIN  10

static struct vm *vm;
static struct vcpu *vcpu;

/* --- a guest that does what it is told --- */

enum op { OUT8, OUT16, OUT32, ST8, ST16, ST32, ST64, LD32 };

static volatile u64 op, op_addr, op_val;

static void guest_ops(u64 arg)
{
	(void)arg;
	for (;;) {
		u64 p = op_addr, v = op_val;

		guest_sync(1);
		p = op_addr;
		v = op_val;
		switch (op) {
		case OUT8:
			outb(p, v);
			break;
		case OUT16:
			outw(p, v);
			break;
		case OUT32:
			outl(p, v);
			break;
		case ST8:
			*(volatile u8 *)p = v;
			break;
		case ST16:
			*(volatile u16 *)p = v;
			break;
		case ST32:
			*(volatile u32 *)p = v;
			break;
		case ST64:
			*(volatile u64 *)p = v;
			break;
		case LD32:
			v = *(volatile u32 *)p;
			break;
		}
	}
}

static void setup(void)
{
	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_ops, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
}

/* True where the operation did not leave the kernel. */
static bool taken(enum op what, u64 addr, u64 val)
{
	u64 sync;
	int got;

	*guest_ptr(vm, op) = what;
	*guest_ptr(vm, op_addr) = addr;
	*guest_ptr(vm, op_val) = val;
	got = vcpu_run(vcpu);
	if (got == KVM_EXIT_IO && vcpu_guest_event(vcpu, &sync))
		return true;
	if (what <= OUT32)
		CHECK(got == KVM_EXIT_IO && vcpu->run->io.port == addr);
	else
		CHECK(got == KVM_EXIT_MMIO && vcpu->run->mmio.phys_addr == addr);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	return false;
}

static u64 count(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	CHECK(fd >= 0);
	return fd;
}

/* --- ioeventfd --- */

static int io(int fd, u32 flags, u64 addr, u32 len, u64 match)
{
	struct kvm_ioeventfd e = {
		.fd = fd, .flags = flags, .addr = addr, .len = len, .datamatch = match
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &e);
}

#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO   KVM_IOEVENTFD_FLAG_PIO
#define OFF   KVM_IOEVENTFD_FLAG_DEASSIGN

static void test_ioeventfd_port(void)
{
	int a = new_eventfd(), b = new_eventfd();

	setup();
	CHECK(!taken(OUT16, PORT, 1));
	CHECK_OK(io(a, PIO, PORT, 2, 0));
	CHECK(taken(OUT16, PORT, 1));
	CHECK(taken(OUT16, PORT, 0xffff));
	CHECK_EQ(count(a), 2);
	CHECK(!taken(OUT8, PORT, 1)); /* another width, another place, another space */
	CHECK(!taken(OUT32, PORT, 1));
	CHECK(!taken(OUT16, PORT + 1, 1));
	CHECK(!taken(ST16, MMIO + PORT, 1));
	CHECK_EQ(count(a), 0);
	/* Any data there: no room for one with a match. */
	CHECK_ERR(io(b, PIO | MATCH, PORT, 2, 7), EEXIST);
	CHECK_ERR(io(b, PIO, PORT, 2, 0), EEXIST);
	CHECK_OK(io(b, PIO | MATCH, PORT, 4, 7));
	CHECK(taken(OUT32, PORT, 7));
	CHECK(!taken(OUT32, PORT, 8));
	CHECK_EQ(count(b), 1);
	/* Only the very same is removed. */
	CHECK_ERR(io(b, PIO | OFF, PORT, 2, 0), ENOENT);
	CHECK_ERR(io(a, PIO | OFF, PORT, 1, 0), ENOENT);
	CHECK_ERR(io(a, OFF, PORT, 2, 0), ENOENT);
	CHECK_ERR(io(b, PIO | MATCH | OFF, PORT, 4, 8), ENOENT);
	CHECK_ERR(io(b, PIO | OFF, PORT, 4, 7), ENOENT);
	CHECK_OK(io(a, PIO | OFF, PORT, 2, 0));
	CHECK_ERR(io(a, PIO | OFF, PORT, 2, 0), ENOENT);
	CHECK(!taken(OUT16, PORT, 1));
	CHECK(taken(OUT32, PORT, 7));
	CHECK_OK(io(b, PIO | MATCH | OFF, PORT, 4, 7));
	CHECK(!taken(OUT32, PORT, 7));
	CHECK_EQ(count(a), 0);
}

static void test_ioeventfd_mmio(void)
{
	int fd[3] = { new_eventfd(), new_eventfd(), new_eventfd() }, any = new_eventfd();

	setup();
	for (u64 i = 0; i < 3; i++)
		CHECK_OK(io(fd[i], MATCH, MMIO, 4, i));
	CHECK_ERR(io(any, MATCH, MMIO, 4, 2), EEXIST);
	CHECK_ERR(io(any, 0, MMIO, 4, 0), EEXIST);
	CHECK(taken(ST32, MMIO, 2));
	CHECK(taken(ST32, MMIO, 0));
	CHECK(!taken(ST32, MMIO, 3));
	CHECK(!taken(ST16, MMIO, 2));
	CHECK(!taken(LD32, MMIO, 0)); /* reads always leave */
	CHECK_EQ(count(fd[0]), 1);
	CHECK_EQ(count(fd[1]), 0);
	CHECK_EQ(count(fd[2]), 1);
	/* The value is compared in the width of the write. */
	CHECK_OK(io(any, MATCH, MMIO + 8, 8, 0x1122334455667788));
	CHECK(taken(ST64, MMIO + 8, 0x1122334455667788));
	CHECK(!taken(ST64, MMIO + 8, 0x55667788));
	CHECK_EQ(count(any), 1);
	/* Of any width. */
	CHECK_ERR(io(any, MATCH, MMIO + 16, 0, 0), EINVAL);
	CHECK_OK(io(any, 0, MMIO + 16, 0, 0));
	CHECK(taken(ST8, MMIO + 16, 1));
	CHECK(taken(ST16, MMIO + 16, 1));
	CHECK(taken(ST32, MMIO + 16, 1));
	CHECK(taken(ST64, MMIO + 16, 1));
	CHECK(!taken(ST8, MMIO + 17, 1));
	CHECK_EQ(count(any), 4);
	CHECK_ERR(io(fd[0], 0, MMIO + 16, 2, 0), EEXIST);
	CHECK_OK(io(any, OFF, MMIO + 16, 0, 0));
	CHECK(!taken(ST8, MMIO + 16, 1));
	/* Ports and memory are different spaces; s390's bus is nobody's here. */
	if (!vm_is_kvm())
		CHECK_ERR(io(any, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY, MMIO + 32, 4, 0), EINVAL);
	CHECK_ERR(io(any, 0, MMIO + 32, 3, 0), EINVAL);
	CHECK_ERR(io(any, 0, ~0ULL - 1, 4, 0), EINVAL);
}

/* --- coalesced writes --- */

static int zone(unsigned long cmd, u64 addr, u32 size, u32 pio)
{
	struct kvm_coalesced_mmio_zone z = { .addr = addr, .size = size, .pio = pio };

	return ioctl(vm->fd, cmd, &z);
}

static void test_coalesced(void)
{
	struct kvm_coalesced_mmio_ring *ring;
	u32 max = (4096 - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);

	setup();
	ring = (void *)vcpu->run + 4096 * vm_has_cap(vm, KVM_CAP_COALESCED_MMIO);
	CHECK_OK(zone(KVM_REGISTER_COALESCED_MMIO, MMIO, 0x100, 0));
	CHECK(taken(ST8, MMIO, 0x11));
	CHECK(taken(ST32, MMIO + 0xfc, 0x22222222));
	CHECK(taken(ST64, MMIO + 8, 0x3333333344444444));
	CHECK(!taken(ST32, MMIO + 0xfe, 1)); /* not wholly inside */
	CHECK(!taken(ST32, MMIO + 0x100, 1));
	CHECK(!taken(LD32, MMIO, 0));
	CHECK_EQ(ring->first, 0);
	CHECK_EQ(ring->last, 3);
	CHECK_EQ(ring->coalesced_mmio[0].phys_addr, MMIO);
	CHECK_EQ(ring->coalesced_mmio[0].len, 1);
	CHECK_EQ(ring->coalesced_mmio[0].data[0], 0x11);
	CHECK_EQ(ring->coalesced_mmio[1].phys_addr, MMIO + 0xfc);
	CHECK_EQ(ring->coalesced_mmio[1].len, 4);
	CHECK_EQ(*(u32 *)ring->coalesced_mmio[1].data, 0x22222222);
	CHECK_EQ(ring->coalesced_mmio[2].len, 8);
	CHECK_EQ(*(u64 *)ring->coalesced_mmio[2].data, 0x3333333344444444);
	CHECK_EQ(ring->coalesced_mmio[2].pio, 0);
	/* Full at one less than its size: then writes leave, and go in again when there is room. */
	while ((ring->last + 1) % max != ring->first)
		CHECK(taken(ST8, MMIO + 1, ring->last));
	CHECK(!taken(ST8, MMIO + 1, 1));
	ring->first = 2;
	CHECK(taken(ST8, MMIO + 1, 0x77));
	CHECK_EQ(ring->last, 0);
	CHECK_EQ(ring->coalesced_mmio[max - 1].data[0], 0x77);
	/* Ports. */
	ring->first = ring->last;
	CHECK_OK(zone(KVM_REGISTER_COALESCED_MMIO, PORT, 4, 1));
	CHECK(taken(OUT16, PORT + 2, 0xabcd));
	CHECK(!taken(OUT32, PORT + 2, 1));
	CHECK_EQ(ring->coalesced_mmio[0].pio, 1);
	CHECK_EQ(ring->coalesced_mmio[0].phys_addr, PORT + 2);
	CHECK_EQ(ring->coalesced_mmio[0].len, 2);
	CHECK_EQ(*(u16 *)ring->coalesced_mmio[0].data, 0xabcd);
	CHECK_ERR(zone(KVM_REGISTER_COALESCED_MMIO, PORT, 4, 2), EINVAL);
	CHECK_ERR(zone(KVM_UNREGISTER_COALESCED_MMIO, PORT, 4, 2), EINVAL);
	CHECK_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, PORT, 4, 1));
	CHECK(!taken(OUT16, PORT + 2, 1));
	CHECK(taken(ST8, MMIO, 1));
	CHECK_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, MMIO, 0x100, 0));
	CHECK(!taken(ST8, MMIO, 1));
	CHECK_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, MMIO, 0x100, 0)); /* nothing there */
}

/* --- irqfd --- */

static volatile u64 fired[256];

static void on_irq(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	apic_write(0xb0, 0);
}

static void ioapic_write(u32 reg, u32 val)
{
	*(volatile u32 *)0xfec00000ULL = reg;
	*(volatile u32 *)0xfec00010ULL = val;
}

/* Says each time how many interrupts there were. */
static void guest_irqs(u64 low)
{
	for (int i = 32; i < 256; i++)
		guest_handlers[i] = on_irq;
	apic_write(0xf0, 0x1ff);
	apic_write(0x350, 0x10000); /* no PIC */
	ioapic_write(0x11 + 2 * PIN, 0);
	ioapic_write(0x10 + 2 * PIN, low);
	for (;;) {
		sti_nop_cli();
		guest_sync(fired[VEC] | fired[VEC + 1] << 16);
	}
}

static void irq_setup(u32 low)
{
	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_irqs, low);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
}

static int irqfd(int fd, u32 flags, u32 gsi, int resample)
{
	struct kvm_irqfd i = { .fd = fd, .flags = flags, .gsi = gsi, .resamplefd = resample };

	return ioctl(vm->fd, KVM_IRQFD, &i);
}

static void signal_fd(int fd)
{
	u64 one = 1;

	CHECK_EQ(write(fd, &one, 8), 8);
	sleep_ms(20); /* delivery may be a work item's */
}

static void test_irqfd(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} r = { .head.nr = 2 };
	int a = new_eventfd(), b = new_eventfd();

	irq_setup(VEC); /* edge */
	CHECK_OK(irqfd(a, 0, PIN, 0));
	CHECK_ERR(irqfd(a, 0, PIN, 0), EBUSY);
	CHECK_ERR(irqfd(a, 0, 30, 0), EBUSY); /* an eventfd serves one */
	CHECK_OK(irqfd(b, 0, 30, 0));	      /* nothing is routed there yet */
	signal_fd(a);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	r.e[0].gsi = 30;
	r.e[0].type = KVM_IRQ_ROUTING_MSI;
	r.e[0].u.msi.address_lo = 0xfee00000;
	r.e[0].u.msi.data = VEC + 1;
	r.e[1].gsi = PIN;
	r.e[1].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.e[1].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.e[1].u.irqchip.pin = PIN;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 1 | 1 << 16);
	signal_fd(a);
	CHECK_EQ(vcpu_run_guest(vcpu), 2 | 1 << 16);
	/* Routed elsewhere from now on. */
	r.e[0].u.msi.data = VEC;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 3 | 1 << 16);
	CHECK_OK(irqfd(b, KVM_IRQFD_FLAG_DEASSIGN, 30, 0));
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 3 | 1 << 16);
	CHECK_EQ(count(b), 1); /* nobody takes it any more */
	/* What was signalled before it was assigned counts. */
	signal_fd(b);
	CHECK_OK(irqfd(b, 0, 30, 0));
	sleep_ms(20);
	CHECK_EQ(vcpu_run_guest(vcpu), 4 | 1 << 16);
	CHECK_ERR(irqfd(-1, 0, PIN, 0), EBADF);
	CHECK_ERR(irqfd(vm->fd, 0, PIN, 0), EINVAL);
	CHECK_ERR(irqfd(new_eventfd(), 1u << 5, PIN, 0), EINVAL);
}

/* A level that stays until the guest's EOI, which is told: whoever still has a reason raises it again. */
static void test_resample(void)
{
	int a = new_eventfd(), b = new_eventfd(), done = new_eventfd(), done_b = new_eventfd();

	irq_setup(0x8000 | VEC);
	if (!vm_has_cap(vm, KVM_CAP_IRQFD_RESAMPLE))
		ktap_skip("no resampling");
	CHECK_OK(irqfd(a, KVM_IRQFD_FLAG_RESAMPLE, PIN, done));
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_EQ(count(done), 0);
	signal_fd(a);
	CHECK_EQ(count(done), 0); /* the guest has not seen it */
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	sleep_ms(20);
	CHECK_EQ(count(done), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 1); /* once: the line has fallen */
	CHECK_EQ(count(done), 0);
	signal_fd(a);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_EQ(count(done), 1);
	/* Two at one pin: both are asked. */
	CHECK_OK(irqfd(b, KVM_IRQFD_FLAG_RESAMPLE, PIN, done_b));
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	sleep_ms(20);
	CHECK_EQ(count(done), 1);
	CHECK_EQ(count(done_b), 1);
	CHECK_OK(irqfd(a, KVM_IRQFD_FLAG_DEASSIGN, PIN, 0));
	signal_fd(b);
	CHECK_EQ(vcpu_run_guest(vcpu), 4);
	CHECK_EQ(count(done), 0);
	CHECK_EQ(count(done_b), 1);
	CHECK_ERR(irqfd(a, KVM_IRQFD_FLAG_RESAMPLE, PIN, -1), EBADF);
	CHECK_ERR(irqfd(a, KVM_IRQFD_FLAG_RESAMPLE, PIN, vm->fd), EINVAL);
}

static const struct ktap_test tests[] = {
	{ "ioeventfd_port", test_ioeventfd_port, 0 },
	{ "ioeventfd_mmio", test_ioeventfd_mmio, 0 },
	{ "coalesced", test_coalesced, 0 },
	{ "irqfd", test_irqfd, 0 },
	{ "resample", test_resample, 0 },
};

KTAP_MAIN(tests)
