// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_X86_SET_MSR_FILTER and KVM_CAP_X86_USER_SPACE_MSR: who may do what, the
 * exits with their reasons, and their answers.
 */
#include "guest.h"
#include "vm.h"

#define MSR_STAR       0xc0000081
#define MSR_GS_KERNEL  0xc0000102
#define MSR_TSC_ADJUST 0x3b
#define MSR_NONE       0x41414141
#define MSR_X2APIC_TPR 0x808
#define MSR_PAT	       0x277
#define MSR_APICBASE   0x1b
#define GP	       13
#define REASON_ALL \
	(KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER)

static struct vm *vm;
static struct vcpu *vcpu;
static struct kvm_run *run;

/* One access a command of the host's. */
static volatile u64 cmd_write, cmd_index, cmd_data, res_vec, res_data;

static void guest_access(u64 arg)
{
	u64 data;

	(void)arg;
	for (;;) {
		if (cmd_write) {
			res_vec = guest_try_wrmsr(cmd_index, cmd_data);
		} else {
			res_vec = guest_try_rdmsr(cmd_index, &data);
			res_data = data;
		}
		guest_sync(1);
	}
}

static void setup(u32 reasons)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args = { reasons } };

	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_access, 0);
	run = vcpu->run;
	if (reasons)
		CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
}

static void command(bool write, u32 index, u64 data)
{
	*guest_ptr(vm, cmd_write) = write;
	*guest_ptr(vm, cmd_index) = index;
	*guest_ptr(vm, cmd_data) = data;
}

/* The vector of the access, NO_EXCEPTION if it went through. */
static u64 do_read(u32 index)
{
	command(false, index, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	return *guest_ptr(vm, res_vec);
}

static u64 do_write(u32 index, u64 data)
{
	command(true, index, data);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	return *guest_ptr(vm, res_vec);
}

static void expect_exit(bool write, u32 index, u32 reason)
{
	vcpu_expect(vcpu, write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR);
	CHECK_EQ(run->msr.index, index);
	CHECK_EQ(run->msr.reason, reason);
	CHECK_EQ(run->msr.error, 0);
}

static void filter(u32 flags, u32 range_flags, u32 base, u32 n, void *bitmap)
{
	struct kvm_msr_filter f = {
		.flags = flags,
		.ranges[0] = { .flags = range_flags, .base = base, .nmsrs = n, .bitmap = bitmap },
	};

	CHECK_OK(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f));
}

#define RW (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

/* Denied without the capability: #GP, also where hardware would have served it. */
static void test_deny(void)
{
	u64 none[4] = { 0 };

	setup(0);
	CHECK_EQ(do_read(MSR_STAR), NO_EXCEPTION);
	filter(0, RW, MSR_STAR, 1, none);
	CHECK_EQ(do_read(MSR_STAR), GP);
	CHECK_EQ(do_write(MSR_STAR, 1), GP);
	CHECK_EQ(do_read(MSR_STAR + 1), NO_EXCEPTION);
	CHECK_EQ(do_write(MSR_GS_KERNEL, 0x1000), NO_EXCEPTION);
	filter(0, KVM_MSR_FILTER_WRITE, MSR_TSC_ADJUST, 1, none);
	CHECK_EQ(do_read(MSR_STAR), NO_EXCEPTION);
	CHECK_EQ(do_read(MSR_TSC_ADJUST), NO_EXCEPTION);
	CHECK_EQ(do_write(MSR_TSC_ADJUST, 0), GP);
	filter(0, KVM_MSR_FILTER_READ, MSR_STAR, 1, none);
	CHECK_EQ(do_read(MSR_STAR), GP);
	CHECK_EQ(do_write(MSR_STAR, 0x12), NO_EXCEPTION);
	filter(0, 0, 0, 0, NULL);
	CHECK_EQ(do_read(MSR_STAR), NO_EXCEPTION);
	CHECK_EQ(*guest_ptr(vm, res_data), 0x12);
	CHECK_EQ(do_write(MSR_TSC_ADJUST, 0), NO_EXCEPTION);
}

/* Bits within a range, the edges of ranges, the first range that covers decides. */
static void test_ranges(void)
{
	u8 bits[2] = { 0x02, 0x01 };
	struct kvm_msr_filter f = {
		.ranges[0] = { .flags = RW, .base = MSR_STAR, .nmsrs = 9, .bitmap = bits },
		.ranges[5] = { .flags = RW, .base = MSR_STAR, .nmsrs = 2, .bitmap = (u8[]){ 3 } },
		.ranges[15] = { .flags = RW, .base = MSR_PAT, .nmsrs = 1, .bitmap = (u8[]){ 0 } },
	};

	setup(0);
	CHECK_OK(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f));
	CHECK_EQ(do_read(MSR_STAR), GP);
	CHECK_EQ(do_read(MSR_STAR + 1), NO_EXCEPTION);
	CHECK_EQ(do_read(MSR_STAR + 2), GP);
	CHECK_EQ(do_read(0xc0000080), NO_EXCEPTION);
	CHECK_EQ(do_read(MSR_PAT), GP);
	CHECK_EQ(do_read(MSR_APICBASE), NO_EXCEPTION);
}

/* DEFAULT_DENY: only what a range allows, and the x2APIC's own. */
static void test_default_deny(void)
{
	u8 all[1] = { 1 };

	setup(0);
	vcpu_set_msr(vcpu, MSR_APICBASE, 0xfee00d00);
	filter(KVM_MSR_FILTER_DEFAULT_DENY, RW, MSR_STAR, 1, all);
	CHECK_EQ(do_read(MSR_STAR), NO_EXCEPTION);
	CHECK_EQ(do_read(MSR_GS_KERNEL), GP);
	CHECK_EQ(do_read(MSR_APICBASE), GP);
	CHECK_EQ(do_read(MSR_X2APIC_TPR), NO_EXCEPTION);
	CHECK_EQ(do_write(MSR_X2APIC_TPR, 0x20), NO_EXCEPTION);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_APICBASE), 0xfee00d00);
}

/* A filter that names x2APIC MSRs is ignored for them. */
static void test_x2apic(void)
{
	u8 none[32] = { 0 };

	setup(REASON_ALL);
	vcpu_set_msr(vcpu, MSR_APICBASE, 0xfee00d00);
	filter(0, RW, 0x800, 256, none);
	CHECK_EQ(do_read(MSR_X2APIC_TPR), NO_EXCEPTION);
	CHECK_EQ(do_write(MSR_X2APIC_TPR, 0x30), NO_EXCEPTION);
}

/* Exits for filtered MSRs, and how they are answered. */
static void test_exit_filter(void)
{
	u8 none[1] = { 0 };

	setup(KVM_MSR_EXIT_REASON_FILTER);
	filter(0, RW, MSR_STAR, 1, none);
	command(false, MSR_STAR, 0);
	expect_exit(false, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
	run->msr.data = 0x1122334455667788;
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), NO_EXCEPTION);
	CHECK_EQ(*guest_ptr(vm, res_data), 0x1122334455667788);

	command(false, MSR_STAR, 0);
	expect_exit(false, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
	run->msr.error = 1;
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), GP);

	command(true, MSR_STAR, 0xabcdef0123456789);
	expect_exit(true, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
	CHECK_EQ(run->msr.data, 0xabcdef0123456789);
	vcpu_complete(vcpu);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), NO_EXCEPTION);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_STAR), 0);

	command(true, MSR_STAR, 7);
	expect_exit(true, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
	run->msr.error = 1;
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), GP);

	/* Reasons that were not asked for are #GP as ever. */
	CHECK_EQ(do_read(MSR_NONE), GP);
	CHECK_EQ(do_write(MSR_PAT, ~0ULL), GP);
}

/* Unknown MSRs. */
static void test_exit_unknown(void)
{
	u8 none[1] = { 0 };

	setup(KVM_MSR_EXIT_REASON_UNKNOWN);
	command(false, MSR_NONE, 0);
	expect_exit(false, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
	run->msr.data = 99;
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_data), 99);
	command(true, MSR_NONE, 5);
	expect_exit(true, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
	CHECK_EQ(run->msr.data, 5);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(do_write(MSR_PAT, ~0ULL), GP);
	filter(0, RW, MSR_STAR, 1, none);
	CHECK_EQ(do_read(MSR_STAR), GP);
}

/* Values and MSRs that this vCPU may not have. */
static void test_exit_inval(void)
{
	setup(KVM_MSR_EXIT_REASON_INVAL);
	command(true, MSR_PAT, ~0ULL);
	expect_exit(true, MSR_PAT, KVM_MSR_EXIT_REASON_INVAL);
	CHECK_EQ(run->msr.data, ~0ULL);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), NO_EXCEPTION);
	command(true, MSR_APICBASE, 0xfee00900 | 1ULL << 60);
	expect_exit(true, MSR_APICBASE, KVM_MSR_EXIT_REASON_INVAL);
	run->msr.error = 1;
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, res_vec), GP);
	CHECK_EQ(do_read(MSR_NONE), GP);
}

/* A filter that changes while the guest runs: old or new, nothing else. */
static void test_change(void)
{
	u8 bit = 0;
	int i;

	setup(KVM_MSR_EXIT_REASON_FILTER);
	for (i = 0; i < 20; i++) {
		bit ^= 1;
		filter(0, RW, MSR_STAR, 1, &bit);
		command(false, MSR_STAR, 0);
		if (bit) {
			CHECK_EQ(do_read(MSR_STAR), NO_EXCEPTION);
		} else {
			expect_exit(false, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
			CHECK_EQ(vcpu_run_guest(vcpu), 1);
		}
	}
	/* Another vCPU, made now, has it too. */
	CHECK_EQ(bit, 0);
	vcpu = vcpu_create(vm, 1);
	vcpu_set_guest(vcpu, guest_access, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_MP_STATE,
		       &(struct kvm_mp_state){ .mp_state = KVM_MP_STATE_RUNNABLE }));
	run = vcpu->run;
	command(false, MSR_STAR, 0);
	expect_exit(false, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
}

/* Userspace itself is never filtered. */
static void test_host(void)
{
	u8 none[1] = { 0 };

	setup(REASON_ALL);
	filter(0, RW, MSR_STAR, 1, none);
	vcpu_set_msr(vcpu, MSR_STAR, 0x55);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_STAR), 0x55);
}

/* Every documented error. */
static void test_errors(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR };
	struct kvm_msr_filter f = { .flags = 0 };
	u8 bits[1] = { 0 };
	int bit;

	setup(0);
	CHECK(vm_has_cap(vm, KVM_CAP_X86_USER_SPACE_MSR));
	CHECK(vm_has_cap(vm, KVM_CAP_X86_MSR_FILTER));
	for (bit = 0; bit < 64; bit++) {
		cap.args[0] = 1ULL << bit;
		if (cap.args[0] & REASON_ALL)
			CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
		else
			CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	}
	cap.args[0] = 0;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	cap.flags = 1;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.flags = 0;
	cap.cap = 0x7fffffff;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);

	CHECK_OK(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f));
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, NULL), EFAULT);
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[3] = (struct kvm_msr_filter_range){
		.flags = RW, .base = MSR_STAR, .nmsrs = 1, .bitmap = bits
	};
	CHECK_OK(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f));
	for (bit = 1; bit < 32; bit++) {
		f.flags = 1u << bit;
		CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	}
	f.flags = 0;
	for (bit = 2; bit < 32; bit++) {
		f.ranges[3].flags = 1u << bit;
		CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	}
	f.ranges[3].flags = 0;
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[3].flags = RW;
	f.ranges[3].nmsrs = 0x600 * 8 + 1;
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[3].nmsrs = ~0u;
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[3].nmsrs = 64;
	f.ranges[3].bitmap = NULL;
	CHECK_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EFAULT);
	/* The one before stands: everything but STAR is denied. */
	CHECK_EQ(do_read(MSR_GS_KERNEL), GP);
}

static const struct ktap_test tests[] = {
	{ "deny", test_deny, 0 },
	{ "ranges", test_ranges, 0 },
	{ "default_deny", test_default_deny, 0 },
	{ "x2apic", test_x2apic, 0 },
	{ "exit_filter", test_exit_filter, 0 },
	{ "exit_unknown", test_exit_unknown, 0 },
	{ "exit_inval", test_exit_inval, 0 },
	{ "change", test_change, 0 },
	{ "host", test_host, 0 },
	{ "errors", test_errors, 0 },
};

KTAP_MAIN(tests)
