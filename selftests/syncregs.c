// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_CAP_SYNC_REGS: register sets in kvm_run, both ways, and sets that there are not.
 */
#include "guest.h"
#include "vm.h"

#define ALL (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

static struct vm *vm;
static struct vcpu *vcpu;
static struct kvm_run *run;

static void guest_count(u64 arg)
{
	u64 n;

	(void)arg;
	for (n = 1;; n++)
		asm volatile("mov %0, %%rbx\n"
			     "out %%al, $0x10\n"
			     "mov %%rbx, %0"
			     : "+r"(n)
			     :
			     : "rbx", "memory");
}

static void setup(void)
{
	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_count, 0);
	run = vcpu->run;
}

static void test_cap(void)
{
	setup();
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_SYNC_REGS), ALL);
}

/* What kvm_run has is what the ioctls give; what was not asked for is left alone. */
static void test_out(void)
{
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	u64 i;

	setup();
	memset(&run->s.regs, 0xa5, sizeof(run->s.regs));
	vcpu_expect_out(vcpu, 0x10, 1);
	for (i = 0; i < sizeof(run->s.regs); i++)
		CHECK_EQ(((u8 *)&run->s.regs)[i], 0xa5);
	run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &regs);
	CHECK(!memcmp(&run->s.regs.regs, &regs, sizeof(regs)));
	CHECK_EQ(regs.rbx, 2);
	CHECK_EQ(*(u8 *)&run->s.regs.sregs, 0xa5);
	if (vm_is_kvm()) /* it leaves padding as it was */
		memset(&run->s.regs, 0, sizeof(run->s.regs));
	run->kvm_valid_regs = ALL;
	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &regs);
	vcpu_get_sregs(vcpu, &sregs);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	CHECK(!memcmp(&run->s.regs.regs, &regs, sizeof(regs)));
	CHECK(!memcmp(&run->s.regs.sregs, &sregs, sizeof(sregs)));
	CHECK(!memcmp(&run->s.regs.events, &events, sizeof(events)));
	CHECK_EQ(run->s.regs.regs.rbx, 3);
}

/* Dirty sets go in, are marked clean, and only they go in. */
static void test_in(void)
{
	struct kvm_regs regs;

	setup();
	run->kvm_valid_regs = ALL;
	vcpu_expect_out(vcpu, 0x10, 1);
	run->s.regs.regs.rbx = 100;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	vcpu_expect_out(vcpu, 0x10, 1);
	CHECK_EQ(run->kvm_dirty_regs, 0);
	CHECK_EQ(run->s.regs.regs.rbx, 101);
	run->s.regs.regs.rbx = 200;
	run->kvm_valid_regs = 0;
	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rbx, 102);
	CHECK_EQ(run->s.regs.regs.rbx, 200);
	run->s.regs.sregs.cr2 = 0x77000;
	run->s.regs.events.nmi.masked = 1;
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	run->kvm_valid_regs = KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	memset(&run->s.regs.regs, 0, sizeof(regs));
	vcpu_expect_out(vcpu, 0x10, 1);
	CHECK_EQ(run->s.regs.sregs.cr2, 0x77000);
	CHECK_EQ(run->s.regs.events.nmi.masked, 1);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rbx, 103);
}

/* Unknown sets, and state that the ioctls refuse. */
static void test_errors(void)
{
	int bit;

	setup();
	for (bit = 3; bit < 64; bit++) {
		run->kvm_valid_regs = 1ULL << bit;
		CHECK_EQ(vcpu_run(vcpu), -EINVAL);
		run->kvm_valid_regs = 0;
		run->kvm_dirty_regs = 1ULL << bit;
		CHECK_EQ(vcpu_run(vcpu), -EINVAL);
		run->kvm_dirty_regs = 0;
	}
	run->kvm_valid_regs = ALL;
	vcpu_expect_out(vcpu, 0x10, 1);
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	run->s.regs.sregs.cr4 = ~0ULL;
	CHECK_EQ(vcpu_run(vcpu), -EINVAL);
	vcpu_get_sregs(vcpu, &run->s.regs.sregs);
	run->kvm_dirty_regs = KVM_SYNC_X86_EVENTS;
	run->s.regs.events.flags = 1u << 31;
	CHECK_EQ(vcpu_run(vcpu), -EINVAL);
	run->kvm_dirty_regs = 0;
	vcpu_expect_out(vcpu, 0x10, 1);
	CHECK_EQ(run->s.regs.regs.rbx, 2);
}

static const struct ktap_test tests[] = {
	{ "cap", test_cap, 0 },
	{ "out", test_out, 0 },
	{ "in", test_in, 0 },
	{ "errors", test_errors, 0 },
};

KTAP_MAIN(tests)
