// SPDX-License-Identifier: GPL-2.0
/*
 * IOAPIC, PIC pair and PIT: registers, edge and level interrupts, masks,
 * spurious interrupts, cascades, and the routes from KVM_IRQ_LINE.
 */
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define IOAPIC	 0xfec00000ULL
#define VEC	 0x60 /* IOAPIC pin n goes to VEC + n */
#define PIC_VEC	 0x20
#define REG_EOI	 0xb0
#define REG_SVR	 0xf0
#define REG_LVT0 0x350

static volatile u64 fired[256];

static void on_irq(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	apic_write(REG_EOI, 0);
}

static void on_pic_irq(struct guest_frame *f)
{
	u64 pin = f->vector - PIC_VEC;

	fired[f->vector & 0xff]++;
	if (pin >= 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static struct vm *create(bool pit)
{
	struct vm *vm = vm_create_image();
	guest_handler_fn *h = *guest_ptr(vm, guest_handlers);
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int i;

	vm_irqchip(vm);
	if (pit)
		CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	for (i = 32; i < 256; i++)
		h[i] = i < PIC_VEC + 16 ? on_pic_irq : on_irq;
	vcpu_create(vm, 0);
	return vm;
}

static struct vcpu *start(bool pit, void (*fn)(u64), u64 arg)
{
	struct vm *vm = create(pit);

	vcpu_set_guest(vm->vcpus[0], fn, arg);
	return vm->vcpus[0];
}

static u32 ioapic_read(u32 reg)
{
	*(volatile u32 *)IOAPIC = reg;
	return *(volatile u32 *)(IOAPIC + 0x10);
}

static void ioapic_write(u32 reg, u32 val)
{
	*(volatile u32 *)IOAPIC = reg;
	*(volatile u32 *)(IOAPIC + 0x10) = val;
}

static void ioapic_set(u32 pin, u32 low, u32 high)
{
	ioapic_write(0x10 + 2 * pin, 0x10000);
	ioapic_write(0x11 + 2 * pin, high);
	ioapic_write(0x10 + 2 * pin, low);
}

static u32 ioapic_low(u32 pin)
{
	return ioapic_read(0x10 + 2 * pin);
}

/* The reset value of LVT0 lets the PIC through on KVM: mask it. */
static void apic_on(void)
{
	apic_write(REG_SVR, 0x1ff);
	apic_write(REG_LVT0, 0x10000);
}

/* IOAPIC registers: version, reset values, masks, every selector and size (CVE-2013-1798). */
static void guest_ioapic_regs(u64 arg)
{
	u32 i;

	(void)arg;
	guest_assert_eq(ioapic_read(1) & 0xff00ff, 0x170011); /* 24 pins, version 11h */
	for (i = 0; i < 24; i++)
		guest_assert_eq(ioapic_low(i) & 0x10000, 0x10000);
	ioapic_write(0, 0xff000000);
	guest_assert_eq(ioapic_read(0) & 0xf000000, 0xf000000);
	ioapic_write(0, 0);
	ioapic_write(1, 0xffffffff);
	guest_assert_eq(ioapic_read(1) & 0xff00ff, 0x170011);
	ioapic_write(0x10, 0xffffffff);
	guest_assert_eq(ioapic_low(0) & 0x5000, 0); /* status and remote IRR */
	guest_assert_eq(ioapic_low(0) & 0x1afff, 0x1afff);
	ioapic_write(0x10, 0x10000);
	for (i = 0; i < 256; i++) {
		(void)ioapic_read(i);
		if (i < 0x10 || i >= 0x40)
			ioapic_write(i, 0xffffffff);
	}
	for (i = 0; i < 0xf8; i += 4) {
		if (i == 0x40)
			continue;
		(void)*(volatile u32 *)(IOAPIC + i);
		(void)*(volatile u8 *)(IOAPIC + i);
		(void)*(volatile u16 *)(IOAPIC + i + 1);
		(void)*(volatile u64 *)(IOAPIC + i);
	}
	*(volatile u32 *)IOAPIC = 0;
	ioapic_write(0, 0);
	guest_assert_eq(ioapic_read(0), 0);
	guest_done();
}

static void test_ioapic_regs(void)
{
	CHECK_EQ(vcpu_run_guest(start(false, guest_ioapic_regs, 0)), GUEST_DONE);
}

/* Let the host act, then take what is pending. */
static void step(u64 stage)
{
	guest_sync(stage);
	sti_nop_cli();
	sti_nop_cli();
}

/* Edge: one interrupt for each rise; masked rises are lost or kept as the chip does. */
static void guest_ioapic_edge(u64 arg)
{
	(void)arg;
	apic_on();
	ioapic_set(5, VEC + 5, 0);
	step(1); /* rise */
	guest_assert_eq(fired[VEC + 5], 1);
	step(2); /* still high */
	guest_assert_eq(fired[VEC + 5], 1);
	step(3); /* low, high */
	guest_assert_eq(fired[VEC + 5], 2);
	ioapic_set(5, 0x10000 | (VEC + 5), 0);
	step(4); /* low, high, low while masked */
	guest_assert_eq(fired[VEC + 5], 2);
	guest_done();
}

static void test_ioapic_edge(void)
{
	struct vcpu *vcpu = start(false, guest_ioapic_edge, 0);
	struct vm *vm = vcpu->vm;

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vm, 5, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	vm_irq_line(vm, 5, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	vm_irq_line(vm, 5, 0);
	vm_irq_line(vm, 5, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 4);
	vm_irq_line(vm, 5, 0);
	vm_irq_line(vm, 5, 1);
	vm_irq_line(vm, 5, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Level: remote IRR holds it back until the EOI; high at EOI comes again. */
static void on_level(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	guest_assert_eq(ioapic_low(10) & 0x4000, 0x4000);
	if (fired[f->vector & 0xff] == 3)
		guest_sync(100); /* the host lowers the line */
	apic_write(REG_EOI, 0);
}

static void guest_ioapic_level(u64 arg)
{
	(void)arg;
	guest_handlers[VEC + 10] = on_level;
	apic_on();
	ioapic_set(10, 0x8000 | (VEC + 10), 0);
	guest_sync(1);
	while (fired[VEC + 10] < 3)
		sti_nop_cli();
	sti_nop_cli();
	guest_assert_eq(fired[VEC + 10], 3);
	guest_assert_eq(ioapic_low(10) & 0x4000, 0);
	/* Masked and high; unmasking delivers. */
	ioapic_set(10, 0x18000 | (VEC + 10), 0);
	step(2);
	guest_assert_eq(fired[VEC + 10], 3);
	fired[VEC + 10] = 2;
	ioapic_write(0x10 + 2 * 10, 0x8000 | (VEC + 10));
	sti_nop_cli();
	guest_assert_eq(fired[VEC + 10], 3);
	guest_done();
}

static void test_ioapic_level(void)
{
	struct vcpu *vcpu = start(false, guest_ioapic_level, 0);
	struct vm *vm = vcpu->vm;

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vm, 10, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 100);
	vm_irq_line(vm, 10, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	vm_irq_line(vm, 10, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 100);
	vm_irq_line(vm, 10, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A level line that never falls storms at the guest's pace and doesn't hang the host. */
static void guest_level_storm(u64 arg)
{
	(void)arg;
	apic_on();
	ioapic_set(11, 0x8000 | (VEC + 11), 0);
	guest_sync(1);
	while (fired[VEC + 11] < 20000)
		sti_nop_cli();
	guest_done();
}

static void test_level_storm(void)
{
	struct vcpu *vcpu = start(false, guest_level_storm, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vcpu->vm, 11, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Every pin, and destinations that don't exist. */
static void guest_ioapic_pins(u64 arg)
{
	u32 pin;

	(void)arg;
	apic_on();
	for (pin = 0; pin < 24; pin++) {
		ioapic_set(pin, VEC + pin, 0);
		step(pin);
		guest_assert_eq(fired[VEC + pin], 1);
		ioapic_set(pin, 0x10000, 0);
	}
	ioapic_set(7, VEC + 7, 0x7 << 24); /* nobody */
	step(7);
	guest_assert_eq(fired[VEC + 7], 1);
	ioapic_set(7, VEC + 7, 0xff << 24); /* everybody */
	step(7);
	guest_assert_eq(fired[VEC + 7], 2);
	ioapic_set(7, 0x800 | (VEC + 7), 0x1 << 24); /* logical, LDR not set */
	step(7);
	guest_assert_eq(fired[VEC + 7], 2);
	guest_done();
}

static void test_ioapic_pins(void)
{
	struct vcpu *vcpu = start(false, guest_ioapic_pins, 0);
	u64 pin;

	while ((pin = vcpu_run_guest(vcpu)) != GUEST_DONE) {
		vm_irq_line(vcpu->vm, pin, 1);
		vm_irq_line(vcpu->vm, pin, 0);
	}
}

static void test_irq_line_bad(void)
{
	struct kvm_irq_level line = { .irq = 5000, .level = 1 };
	struct vm *vm = create(false);

	/* KVM says nothing about a GSI without a route. */
	CHECK(ioctl(vm->fd, KVM_IRQ_LINE, &line) == 0 || errno == EINVAL);
	line.irq = ~0u;
	CHECK(ioctl(vm->fd, KVM_IRQ_LINE, &line) == 0 || errno == EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_IRQ_LINE, NULL), EFAULT);
}

/* KVM_IRQ_LINE_STATUS says whether the interrupt was coalesced. */
static void guest_nothing(u64 arg)
{
	(void)arg;
	apic_on();
	ioapic_set(6, VEC + 6, 0);
	guest_sync(1);
	guest_done();
}

static void test_irq_line_status(void)
{
	struct vcpu *vcpu = start(false, guest_nothing, 0);
	struct kvm_irq_level line = { .irq = 6, .level = 1 };

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vcpu->vm->fd, KVM_IRQ_LINE_STATUS, &line));
	CHECK(line.status >= 1);
	line.irq = 6;
	line.level = 0;
	CHECK_OK(ioctl(vcpu->vm->fd, KVM_IRQ_LINE_STATUS, &line));
	line.irq = 6;
	line.level = 1;
	CHECK_OK(ioctl(vcpu->vm->fd, KVM_IRQ_LINE_STATUS, &line));
	CHECK(line.status <= 1); /* 0 if coalesced with the pending one */
}

/* PIC: initialisation, masks, priorities, EOIs, the slave's cascade. */
static void pic_init(void)
{
	outb(0x20, 0x11);
	outb(0x21, PIC_VEC);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, PIC_VEC + 8);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, 0);
	outb(0xa1, 0);
	apic_on();
	apic_write(REG_LVT0, 0x700); /* ExtINT */
}

static void guest_pic(u64 arg)
{
	(void)arg;
	pic_init();
	outb(0x21, 0x5a);
	guest_assert_eq(inb(0x21), 0x5a);
	outb(0xa1, 0xa5);
	guest_assert_eq(inb(0xa1), 0xa5);
	outb(0x21, 0);
	outb(0xa1, 0);
	step(1); /* IRQ 4 */
	guest_assert_eq(fired[PIC_VEC + 4], 1);
	step(2); /* IRQ 12: through the slave */
	guest_assert_eq(fired[PIC_VEC + 12], 1);
	/* Masked: in the IRR, delivered when unmasked. */
	outb(0x21, 0x10);
	step(3); /* IRQ 4 */
	guest_assert_eq(fired[PIC_VEC + 4], 1);
	outb(0x20, 0x0a); /* OCW3: read IRR */
	guest_assert_eq(inb(0x20) & 0x10, 0x10);
	outb(0x21, 0);
	sti_nop_cli();
	guest_assert_eq(fired[PIC_VEC + 4], 2);
	outb(0x20, 0x0b); /* read ISR */
	guest_assert_eq(inb(0x20), 0);
	guest_done();
}

static void test_pic(void)
{
	static const u32 line[] = { 4, 12, 4 };
	struct vcpu *vcpu = start(false, guest_pic, 0);
	u32 i;

	for (i = 0; i < 3; i++) {
		CHECK_EQ(vcpu_run_guest(vcpu), i + 1);
		vm_irq_line(vcpu->vm, line[i], 0);
		vm_irq_line(vcpu->vm, line[i], 1);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* The order of pending lines, and an in-service line holding back lower ones. */
static volatile u64 pic_order[8], n_pic;

static void on_pic_order(struct guest_frame *f)
{
	pic_order[n_pic++ & 7] = f->vector - PIC_VEC;
	if (f->vector >= PIC_VEC + 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static void guest_pic_order(u64 arg)
{
	u32 i;

	(void)arg;
	for (i = 0; i < 16; i++)
		guest_handlers[PIC_VEC + i] = on_pic_order;
	pic_init();
	guest_sync(1); /* IRQs 7, 3, 9, 5 rise */
	for (i = 0; i < 8; i++)
		sti_nop_cli();
	guest_assert_eq(n_pic, 4);
	guest_assert_eq(pic_order[0], 9);
	guest_assert_eq(pic_order[1], 3);
	guest_assert_eq(pic_order[2], 5);
	guest_assert_eq(pic_order[3], 7);
	guest_done();
}

static void test_pic_order(void)
{
	static const u32 lines[] = { 7, 3, 9, 5 };
	struct vcpu *vcpu = start(false, guest_pic_order, 0);
	u32 i;

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	for (i = 0; i < 4; i++)
		vm_irq_line(vcpu->vm, lines[i], 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Spurious: a level line that falls before it is taken gives IRQ 7, ISR clear. */
static void guest_pic_spurious(u64 arg)
{
	(void)arg;
	pic_init();
	outb(0x4d0, 0x20); /* IRQ 5 level triggered */
	guest_assert_eq(inb(0x4d0), 0x20);
	guest_sync(1); /* rises and falls */
	sti_nop_cli();
	guest_assert_eq(fired[PIC_VEC + 5], 0);
	outb(0x4d0, 0xff);
	guest_assert_eq(inb(0x4d0), 0xf8); /* 0-2 can't be level */
	outb(0x4d1, 0xff);
	guest_assert_eq(inb(0x4d1), 0xde);
	guest_done();
}

static void test_pic_spurious(void)
{
	struct vcpu *vcpu = start(false, guest_pic_spurious, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vcpu->vm, 5, 1);
	vm_irq_line(vcpu->vm, 5, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* The poll command and automatic EOI. */
static void on_no_eoi(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
}

static void on_master_eoi(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	outb(0x20, 0x20);
}

static void guest_pic_aeoi(u64 arg)
{
	(void)arg;
	guest_handlers[PIC_VEC + 4] = on_no_eoi;
	pic_init();
	outb(0x20, 0x11);
	outb(0x21, PIC_VEC);
	outb(0x21, 4);
	outb(0x21, 3); /* AEOI */
	outb(0x21, 0);
	step(1);
	guest_assert_eq(fired[PIC_VEC + 4], 1);
	outb(0x20, 0x0b);
	guest_assert_eq(inb(0x20), 0); /* nothing in service */
	step(2);
	guest_assert_eq(fired[PIC_VEC + 4], 2);
	guest_done();
}

static void test_pic_aeoi(void)
{
	struct vcpu *vcpu = start(false, guest_pic_aeoi, 0);
	u64 i;

	for (i = 1; i <= 2; i++) {
		CHECK_EQ(vcpu_run_guest(vcpu), i);
		vm_irq_line(vcpu->vm, 4, 0);
		vm_irq_line(vcpu->vm, 4, 1);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A slave with automatic EOI that has two requests waiting: the second is an edge of its own. */
static void guest_pic_slave_aeoi(u64 arg)
{
	(void)arg;
	guest_handlers[PIC_VEC + 12] = on_master_eoi;
	guest_handlers[PIC_VEC + 14] = on_master_eoi;
	pic_init();
	outb(0xa0, 0x11);
	outb(0xa1, PIC_VEC + 8);
	outb(0xa1, 2);
	outb(0xa1, 3); /* AEOI */
	outb(0xa1, 0);
	guest_sync(1); /* IRQs 12 and 14 */
	sti_nop_cli();
	sti_nop_cli();
	guest_assert_eq(fired[PIC_VEC + 12], 1);
	guest_assert_eq(fired[PIC_VEC + 14], 1);
	step(2); /* IRQ 12 again */
	guest_assert_eq(fired[PIC_VEC + 12], 2);
	guest_done();
}

static void test_pic_slave_aeoi(void)
{
	struct vcpu *vcpu = start(false, guest_pic_slave_aeoi, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vcpu->vm, 12, 1);
	vm_irq_line(vcpu->vm, 14, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	vm_irq_line(vcpu->vm, 12, 0);
	vm_irq_line(vcpu->vm, 12, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A state in which the line was low is restored while it is high: its next rise is an edge. */
static void guest_ioapic_restored(u64 arg)
{
	(void)arg;
	apic_on();
	ioapic_set(5, VEC + 5, 0);
	step(1); /* saved; then a rise */
	guest_assert_eq(fired[VEC + 5], 1);
	step(2); /* restored; another */
	guest_assert_eq(fired[VEC + 5], 2);
	guest_done();
}

static void test_ioapic_restored(void)
{
	struct vcpu *vcpu = start(false, guest_ioapic_restored, 0);
	struct kvm_irqchip saved = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct vm *vm = vcpu->vm;

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &saved));
	vm_irq_line(vm, 5, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &saved));
	vm_irq_line(vm, 5, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* ExtINT needs LVT0 unmasked (or the APIC off). */
static void guest_extint_masked(u64 is_kvm)
{
	pic_init();
	apic_write(REG_LVT0, 0x10700);
	step(1);
	guest_assert_eq(fired[PIC_VEC + 3], 0);
	apic_write(REG_LVT0, 0x700);
	sti_nop_cli();
	guest_assert(fired[PIC_VEC + 3] == 1 || is_kvm); /* KVM doesn't look again */
	guest_done();
}

static void test_extint_masked(void)
{
	struct vcpu *vcpu = start(false, guest_extint_masked, vm_is_kvm());

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vcpu->vm, 3, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* PIT: counters, latch, read-back, modes, the interrupt and the speaker port. */
static u16 pit_latch(u8 channel)
{
	u8 low;

	outb(0x43, channel << 6);
	low = inb(0x40 + channel);
	return low | inb(0x40 + channel) << 8;
}

static void guest_pit(u64 arg)
{
	u32 a, b, i;

	(void)arg;
	outb(0x43, 0x34); /* channel 0, low and high, mode 2 */
	outb(0x40, 0xff);
	outb(0x40, 0xff);
	a = pit_latch(0);
	for (i = 0; i < 20000; i++)
		cpu_relax();
	b = pit_latch(0);
	guest_assert(a != b);
	/* Latched: a second latch before reading doesn't move it. */
	outb(0x43, 0);
	for (i = 0; i < 20000; i++)
		cpu_relax();
	outb(0x43, 0);
	a = inb(0x40) | inb(0x40) << 8;
	b = pit_latch(0);
	guest_assert(a != b);
	/* Read-back of the status: null count clear, mode 2, access 3. */
	outb(0x43, 0xe2);
	guest_assert_eq(inb(0x40) & 0x3f, 0x34);
	/* Channel 2: gate and speaker through port 0x61. */
	outb(0x61, 0);
	guest_assert_eq(inb(0x61) & 3, 0);
	outb(0x61, 1);
	guest_assert_eq(inb(0x61) & 3, 1);
	outb(0x43, 0xb0); /* mode 0: out rises at the end */
	outb(0x42, 0x00);
	outb(0x42, 0x04);
	while (!(inb(0x61) & 0x20))
		cpu_relax();
	outb(0x61, 0);
	/* Port 0x61 bit 4 toggles. */
	a = inb(0x61) & 0x10;
	while ((inb(0x61) & 0x10) == a)
		cpu_relax();
	guest_done();
}

static void test_pit(void)
{
	CHECK_EQ(vcpu_run_guest(start(true, guest_pit, 0)), GUEST_DONE);
}

static void guest_pit_irq(u64 arg)
{
	(void)arg;
	pic_init();
	outb(0x21, 0xfe);
	outb(0x43, 0x34);
	outb(0x40, 1193 & 0xff); /* 1 kHz */
	outb(0x40, 1193 >> 8);
	while (fired[PIC_VEC] < 10)
		sti_hlt();
	cli();
	/* One-shot: mode 0 gives one more. */
	outb(0x43, 0x30);
	fired[PIC_VEC] = 0;
	outb(0x40, 0x00);
	outb(0x40, 0x08);
	while (fired[PIC_VEC] < 1)
		sti_hlt();
	guest_done();
}

static void test_pit_irq(void)
{
	CHECK_EQ(vcpu_run_guest(start(true, guest_pit_irq, 0)), GUEST_DONE);
}

/* Through the IOAPIC: in the default routing GSI 0 is pin 0. */
static void guest_pit_ioapic(u64 arg)
{
	(void)arg;
	apic_on();
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	ioapic_set(0, VEC, 0);
	outb(0x43, 0x34);
	outb(0x40, 1193 & 0xff);
	outb(0x40, 1193 >> 8);
	while (fired[VEC] < 5)
		sti_hlt();
	guest_done();
}

static void test_pit_ioapic(void)
{
	CHECK_EQ(vcpu_run_guest(start(true, guest_pit_ioapic, 0)), GUEST_DONE);
}

/* Without KVM_CREATE_PIT2 the ports are userspace's; the PIC's never are. */
static void guest_pit_ports(u64 arg)
{
	(void)arg;
	outb(0x40, 1);
	(void)inb(0x21);
	(void)inb(0x4d0);
	outb(0x22, 2);
	guest_done();
}

static void test_pit_ports(void)
{
	struct vcpu *vcpu = start(false, guest_pit_ports, 0);

	CHECK_EQ(vcpu_expect_out(vcpu, 0x40, 1), 1);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x22, 1), 2);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* KVM_SET_GSI_ROUTING: a GSI as an MSI, and refused tables. */
struct routing {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[2];
};

static void guest_routed(u64 arg)
{
	(void)arg;
	apic_on();
	step(1);
	guest_assert_eq(fired[0x91], 1);
	guest_done();
}

static void test_gsi_routing(void)
{
	struct vcpu *vcpu = start(false, guest_routed, 0);
	struct routing r = {
		.head.nr = 1,
		.e[0] = {
			.gsi = 20,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = 0x91 },
		},
	};

	CHECK_OK(ioctl(vcpu->vm->fd, KVM_SET_GSI_ROUTING, &r));
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vm_irq_line(vcpu->vm, 20, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	r.head.flags = 1;
	CHECK_ERR(ioctl(vcpu->vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.flags = 0;
	r.e[0].type = 99;
	CHECK_ERR(ioctl(vcpu->vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.e[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.e[0].u.irqchip.pin = 24;
	CHECK_ERR(ioctl(vcpu->vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.nr = 1u << 30;
	CHECK(ioctl(vcpu->vm->fd, KVM_SET_GSI_ROUTING, &r) < 0 &&
	      (errno == EINVAL || errno == E2BIG || errno == ENOMEM));
}

static const struct ktap_test tests[] = {
	{ "ioapic_regs", test_ioapic_regs, 0 },
	{ "ioapic_edge", test_ioapic_edge, 0 },
	{ "ioapic_level", test_ioapic_level, 0 },
	{ "ioapic_level_storm", test_level_storm, 0 },
	{ "ioapic_pins", test_ioapic_pins, 0 },
	{ "irq_line_bad", test_irq_line_bad, 0 },
	{ "irq_line_status", test_irq_line_status, 0 },
	{ "gsi_routing", test_gsi_routing, 0 },
	{ "pic", test_pic, 0 },
	{ "pic_order", test_pic_order, 0 },
	{ "pic_spurious", test_pic_spurious, 0 },
	{ "pic_aeoi", test_pic_aeoi, 0 },
	{ "pic_slave_aeoi", test_pic_slave_aeoi, 0 },
	{ "ioapic_restored", test_ioapic_restored, 0 },
	{ "extint_masked", test_extint_masked, 0 },
	{ "pit", test_pit, 0 },
	{ "pit_irq", test_pit_irq, 0 },
	{ "pit_ioapic", test_pit_ioapic, 0 },
	{ "pit_ports", test_pit_ports, 0 },
};

KTAP_MAIN(tests)
