// SPDX-License-Identifier: GPL-2.0
/*
 * The I/O bitmap: every port exits, at CPL 0 and 3, but those of devices in the kernel.
 */
#include "guest.h"
#include "vm.h"

/* Every port exits to userspace; INB and OUTB, in an order that covers the bitmap's end. */
static void guest_ports(u64 arg)
{
	u32 port;

	(void)arg;
	for (port = 0; port < 0x10000; port++)
		outb(port, port);
	guest_done();
}

static void test_all_ports(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_run *run = vcpu->run;
	u32 port;

	vcpu_set_guest(vcpu, guest_ports, 0);
	for (port = 0; port < 0x10000; port++) {
		int got = vcpu_run(vcpu);

		if (got != KVM_EXIT_IO || run->io.port != port || run->io.size != 1 ||
		    *((u8 *)run + run->io.data_offset) != (u8)port) {
			vcpu_dump(vcpu);
			ktap_fail(__FILE__, __LINE__, "port %#x: exit %s", port, vm_exit_name(got));
		}
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A dword at 0xffff reaches past the last port: the bitmap's 3 extra bits. */
static void guest_port_wrap(u64 arg)
{
	(void)arg;
	outl(0xffff, 0x11223344);
	outw(0xffff, 0x5566);
	guest_done();
}

static void test_port_wrap(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	vcpu_set_guest(vcpu, guest_port_wrap, 0);
	CHECK_EQ(vcpu_expect_out(vcpu, 0xffff, 4), 0x11223344);
	CHECK_EQ(vcpu_expect_out(vcpu, 0xffff, 2), 0x5566);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* With an irqchip: only the ports of its chips stay in the kernel. */
static bool kernel_port(u32 port)
{
	return (port & ~0x81u) == 0x20 || port == 0x4d0 || port == 0x4d1;
}

static void guest_ports_in(u64 arg)
{
	u32 port;

	(void)arg;
	for (port = 0; port < 0x1000; port++)
		(void)inb(port);
	guest_done();
}

static void test_kernel_ports(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu;
	u32 port;

	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_ports_in, 0);
	for (port = 0; port < 0x1000; port++) {
		if (kernel_port(port))
			continue;
		vcpu_expect(vcpu, KVM_EXIT_IO);
		CHECK_EQ(vcpu->run->io.port, port);
		CHECK_EQ(vcpu->run->io.direction, KVM_EXIT_IO_IN);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* At CPL 3 without IOPL or bitmap the guest gets #GP, not userspace an exit. */
static void guest_cpl3_denied(u64 arg)
{
	u64 v;

	(void)arg;
	GUEST_TRY(v, "outb %%al, $0x80", OUT(), IN("a"(0)));
	guest_assert_eq(v, NO_EXCEPTION);
	/* The handler runs at CPL 0, and from there back to here at CPL 3. */
	asm volatile("mov %%rsp, %%rax\n\t"
		     "pushq %0\n\t"
		     "pushq %%rax\n\t"
		     "pushq $2\n\t"
		     "pushq %1\n\t"
		     "pushq $1f\n\t"
		     "iretq\n"
		     "1:"
		     :
		     : "i"(SEL_UDATA), "i"(SEL_UCODE64)
		     : "rax", "memory", "cc");
	GUEST_TRY(v, "outb %%al, $0x80", OUT(), IN("a"(0)));
	if (v == 13)
		asm volatile("int $0x90");
	asm volatile("int $0x91");
}

static volatile u64 denied;

static void on_denied(struct guest_frame *f)
{
	denied = f->vector == 0x90;
	guest_done();
}

static void test_cpl3_denied(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	(*guest_ptr(vm, guest_handlers))[0x90] = on_denied;
	(*guest_ptr(vm, guest_handlers))[0x91] = on_denied;
	vcpu_set_guest(vcpu, guest_cpl3_denied, 0);
	vcpu_expect_out(vcpu, 0x80, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(*guest_ptr(vm, denied), 1);
}

static const struct ktap_test tests[] = {
	{ "all_ports", test_all_ports, 120 },
	{ "port_wrap", test_port_wrap, 0 },
	{ "kernel_ports", test_kernel_ports, 0 },
	{ "cpl3_denied", test_cpl3_denied, 0 },
};

KTAP_MAIN(tests)
