// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI to the letter where clients rarely go: counts that are one too small, calls in the wrong
 * order, calls that go with a capability which is not there. Passes on kvm_amd as well.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"
#include "../uapi/svm.h"

#define PAGE	  4096ULL
#define MAX_CPUID 256
#define CANARY	  0xc0c0c0c0u
#define GPA	  0x10000000ULL

/* --- lists that tell their length --- */

static struct {
	u32 n;
	u32 index[1024];
} list;

static void check_msr_list(int dev, unsigned long cmd)
{
	u32 nr, i;

	list.n = 0;
	CHECK_ERR(ioctl(dev, cmd, &list), E2BIG);
	nr = list.n;
	CHECK(nr && nr < 1000);
	memset(list.index, 0xc0, sizeof(list.index));
	list.n = nr - 1;
	CHECK_ERR(ioctl(dev, cmd, &list), E2BIG);
	CHECK_EQ(list.n, nr);
	CHECK_OK(ioctl(dev, cmd, &list)); /* exactly as many as asked for */
	CHECK_EQ(list.n, nr);
	for (i = 0; i < 1024; i++)
		CHECK((list.index[i] == CANARY) == (i >= nr));
	list.n = 1024;
	CHECK_OK(ioctl(dev, cmd, &list));
	CHECK_EQ(list.n, nr);
	CHECK_EQ(list.index[nr], CANARY);
	CHECK_ERR(ioctl(dev, cmd, NULL), EFAULT);
}

static void test_msr_lists(void)
{
	int dev = vm_open_device();

	check_msr_list(dev, KVM_GET_MSR_INDEX_LIST);
	for (u32 i = 0; i < list.n; i++) /* machine check banks: their number is the vCPU's own */
		CHECK(list.index[i] < 0x400 || list.index[i] >= 0x480);
	check_msr_list(dev, KVM_GET_MSR_FEATURE_INDEX_LIST);
}

#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_PERF_CAPABILITIES 0x345

/* What the list of features names can be read from the device; the first other MSR ends the call. */
static void test_feature_msrs(void)
{
	int dev = vm_open_device();
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[256];
	} m = { .head.nmsrs = 0 };

	list.n = 1024;
	CHECK_OK(ioctl(dev, KVM_GET_MSR_FEATURE_INDEX_LIST, &list));
	CHECK_EQ(ioctl(dev, KVM_GET_MSRS, &m), 0);
	for (u32 i = 0; i < list.n; i++)
		m.e[i].index = list.index[i];
	m.head.nmsrs = list.n;
	CHECK_EQ(ioctl(dev, KVM_GET_MSRS, &m), list.n);
	m.e[0].index = MSR_ARCH_CAPABILITIES;
	m.e[1].index = MSR_PERF_CAPABILITIES;
	m.head.nmsrs = 2;
	CHECK_EQ(ioctl(dev, KVM_GET_MSRS, &m), 2);
	m.e[1] = m.e[0];
	m.e[0].index = 0xdeadbeef;
	m.head.nmsrs = 2;
	CHECK_EQ(ioctl(dev, KVM_GET_MSRS, &m), 0);
	m.e[0] = m.e[1];
	m.e[1].index = 0xdeadbeef;
	CHECK_EQ(ioctl(dev, KVM_GET_MSRS, &m), 1);
	m.head.nmsrs = 256;
	CHECK_ERR(ioctl(dev, KVM_GET_MSRS, &m), E2BIG);
	CHECK_ERR(ioctl(dev, KVM_SET_MSRS, &m), EINVAL); /* of a vCPU only */
}

/* MSRs of a vCPU: none at all; the first refused; the last allowed number. */
static void test_msr_counts(void)
{
	struct vcpu *vcpu = vcpu_create(vm_create(), 0);
	static struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[256];
	} m;

	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, &m), 0);
	CHECK_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &m), 0);
	for (int i = 0; i < 256; i++) {
		m.e[i].index = 0x174;
		m.e[i].data = i;
	}
	m.head.nmsrs = 255;
	CHECK_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &m), 255);
	CHECK_EQ(vcpu_get_msr(vcpu, 0x174), 254);
	m.head.nmsrs = 256;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_MSRS, &m), E2BIG);
	m.head.nmsrs = 255;
	m.e[0].index = 0xdeadbeef;
	CHECK_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &m), 0);
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, &m), 0);
	m.e[0].index = 0x174;
	m.e[254].index = 0xdeadbeef;
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, &m), 254);
	CHECK_EQ(m.e[253].data, 254);
}

/* --- CPUID --- */

static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 e[MAX_CPUID];
} cpuid_buf;

static void test_supported_cpuid(void)
{
	int dev = vm_open_device();
	u32 nr;

	cpuid_buf.head.nent = 0;
	CHECK_ERR(ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid_buf), E2BIG);
	cpuid_buf.head.nent = MAX_CPUID;
	CHECK_OK(ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid_buf));
	nr = cpuid_buf.head.nent;
	CHECK(nr > 5 && nr < MAX_CPUID);
	for (u32 i = 0; i < nr; i++) {
		if (cpuid_buf.e[i].function == 1)
			CHECK(!(cpuid_buf.e[i].ecx & 1 << 24)); /* TSC deadline: a capability */
		for (u32 j = 0; j < i; j++)
			CHECK(cpuid_buf.e[i].function != cpuid_buf.e[j].function ||
			      cpuid_buf.e[i].index != cpuid_buf.e[j].index);
	}
	cpuid_buf.head.nent = nr - 1;
	CHECK_ERR(ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid_buf), E2BIG);
	memset(cpuid_buf.e, 0xc0, sizeof(cpuid_buf.e));
	cpuid_buf.head.nent = nr;
	CHECK_OK(ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid_buf));
	CHECK_EQ(cpuid_buf.head.nent, nr);
	CHECK(cpuid_buf.e[nr - 1].function != CANARY);
	CHECK_EQ(cpuid_buf.e[nr].function, CANARY);
	cpuid_buf.head.nent = ~0u;
	CHECK_OK(ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid_buf));
	CHECK_EQ(cpuid_buf.head.nent, nr);
	CHECK_ERR(ioctl(dev, KVM_GET_SUPPORTED_CPUID, NULL), EFAULT);
}

/* RDPID is the guest's with its CPUID bit, whether the processor has it or not. */
static void guest_rdpid(u64 arg)
{
	u64 vec, got = ~0ULL;

	(void)arg;
	GUEST_TRY(vec, "rdpid %%rax", OUT("=a"(got)), IN("b"(0)));
	guest_assert_eq(vec, NO_EXCEPTION);
	guest_assert_eq(got, 0x1234567);
	got = ~0ULL; /* prefixes without effect, RDI */
	GUEST_TRY(vec, ".byte 0x41, 0xf3, 0x66, 0x48, 0x0f, 0xc7, 0xff", OUT("+D"(got)),
		  IN("b"(0)));
	guest_assert_eq(vec, NO_EXCEPTION);
	guest_assert_eq(got, 0x1234567);
	/* With LOCK it is nothing. */
	GUEST_TRY(vec, ".byte 0xf0, 0xf3, 0x0f, 0xc7, 0xf8", OUT("+a"(got)), IN("b"(0)));
	guest_assert_eq(vec, 6);
	guest_done();
}

static void test_emulated_cpuid(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_cpuid2 *c;
	struct vcpu *vcpu;
	int i;

	CHECK_EQ(vm_has_cap(vm, KVM_CAP_EXT_EMUL_CPUID), 1);
	cpuid_buf.head.nent = 0;
	CHECK_ERR(ioctl(vm->dev, KVM_GET_EMULATED_CPUID, &cpuid_buf), E2BIG);
	memset(&cpuid_buf, 0xc0, sizeof(cpuid_buf));
	cpuid_buf.head.nent = MAX_CPUID;
	CHECK_OK(ioctl(vm->dev, KVM_GET_EMULATED_CPUID, &cpuid_buf));
	CHECK(cpuid_buf.head.nent >= 1 && cpuid_buf.head.nent < 8);
	for (i = 0; cpuid_buf.e[i].function != 7; i++)
		CHECK(i < (int)cpuid_buf.head.nent);
	CHECK(cpuid_buf.e[i].ecx & 1 << 22);
	vcpu = vcpu_create(vm, 0);
	c = vm_supported_cpuid(vm->dev);
	for (u32 n = 0; n < c->nent; n++)
		if (c->entries[n].function == 7 && !c->entries[n].index)
			c->entries[n].ecx |= 1 << 22;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	vcpu_set_msr(vcpu, 0xc0000103, 0x1234567);
	vcpu_set_guest(vcpu, guest_rdpid, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void guest_nothing(u64 arg)
{
	(void)arg;
	guest_done();
}

/* Once a vCPU has run, its CPUID stays: setting the same again succeeds, any change is refused. */
static void test_cpuid_after_run(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_cpuid2 *c = vm_supported_cpuid(vm->dev);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u32 nr = c->nent, eax;
	struct kvm_sregs s;

	vcpu_set_guest(vcpu, guest_nothing, 0);
	c->entries[0].eax--;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	c->entries[0].eax++;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	for (u32 i = 0; i < nr; i++) {
		eax = c->entries[i].eax;
		c->entries[i].eax ^= 1;
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, c), EINVAL);
		c->entries[i].eax = eax;
	}
	c->nent--;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, c), EINVAL);
	c->nent = nr;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	for (u32 n = 0; n < nr; n += 7) {
		cpuid_buf.head.nent = n;
		CHECK_ERR(ioctl(vcpu->fd, KVM_GET_CPUID2, &cpuid_buf), E2BIG);
		CHECK_EQ(cpuid_buf.head.nent, n);
	}
	/* What follows the registers is given as the guest sees it, and does not count as a change. */
	vcpu_get_sregs(vcpu, &s);
	for (u64 on = 0; on < 2; on++) {
		s.cr4 = (s.cr4 & ~(1ULL << 18)) | on << 18;
		vcpu_set_sregs(vcpu, &s);
		cpuid_buf.head.nent = nr;
		CHECK_OK(ioctl(vcpu->fd, KVM_GET_CPUID2, &cpuid_buf));
		CHECK_EQ(cpuid_buf.head.nent, nr);
		for (u32 i = 0; i < nr; i++)
			if (cpuid_buf.e[i].function == 1)
				CHECK_EQ(cpuid_buf.e[i].ecx >> 27 & 1, on);
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid_buf));
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	}
}

/* Some clients set CR4 before CPUID: then every bit goes that host and module have, no other. */
static void test_cr4_before_cpuid(void)
{
	static const struct {
		u32 leaf;
		bool ecx;
		int bit, cr4;
	} bits[] = {
		{ 1, true, 26, 18 }, { 1, true, 17, 17 },  { 7, false, 0, 16 },
		{ 7, false, 7, 20 }, { 7, false, 20, 21 }, { 7, true, 2, 11 },
	};
	struct vm *vm = vm_create();
	struct kvm_cpuid2 *c = vm_supported_cpuid(vm->dev);
	struct vcpu *vcpu = vcpu_create_raw(vm, 0);
	struct kvm_sregs s;

	vcpu_get_sregs(vcpu, &s);
	for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
		bool has = false;

		for (u32 j = 0; j < c->nent; j++)
			if (c->entries[j].function == bits[i].leaf && !c->entries[j].index)
				has = (bits[i].ecx ? c->entries[j].ecx : c->entries[j].ebx) >>
					      bits[i].bit &
				      1;
		s.cr4 = 0x7ff | 1ULL << bits[i].cr4;
		if (has)
			CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS, &s));
		else
			CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, &s), EINVAL);
	}
	s.cr4 = 1 << 13; /* VMXE */
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, &s), EINVAL);
	/* With CPUID it is the guest's features that count. */
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, &(struct kvm_cpuid2){ 0 }));
	s.cr4 = 1 << 20;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, &s), EINVAL);
}

/* --- capabilities --- */

static void test_caps(void)
{
	struct vm *vm = vm_create();

	CHECK_EQ(ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_CHECK_EXTENSION_VM), 1);
	for (u32 cap = 0; cap < 300; cap++) {
		if (vm_is_kvm() && (cap == 233 || cap == 234)) /* guest_memfd: by type of VM */
			continue;
		CHECKF(ioctl(vm->fd, KVM_CHECK_EXTENSION, cap) ==
			       ioctl(vm->dev, KVM_CHECK_EXTENSION, cap),
		       "capability %u", cap);
	}
	CHECK_EQ(ioctl(vm->dev, KVM_CHECK_EXTENSION, ~0UL), 0);
	CHECK_EQ(ioctl(vm->fd, KVM_CHECK_EXTENSION, ~0UL), 0);
	CHECK(ioctl(vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) >= 4096);
}

/* What belongs to a capability that is 0, another architecture or another kind of descriptor. */
static void test_missing(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_reg_list regs = { .n = 0 };
	struct kvm_one_reg reg = { .id = KVM_REG_X86 | KVM_REG_SIZE_U64 };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_NR_MEMSLOTS };
	struct kvm_create_device device = { .type = 1000 };
	struct kvm_device_attr attr = { .group = 1000 };

	CHECK_EQ(vm_has_cap(vm, KVM_CAP_ONE_REG), 0);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_REG_LIST, &regs), EINVAL);
	CHECK_EQ(regs.n, 0);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_DEVICE, &device),
		  vm_has_cap(vm, KVM_CAP_DEVICE_CTRL) ? ENODEV : ENOTTY);
	if (!vm_has_cap(vm, KVM_CAP_X86_SMM))
		CHECK_ERR(ioctl(vcpu->fd, KVM_SMI, 0), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_SUPPORTED_CPUID, &cpuid_buf), ENOTTY);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_MSR_INDEX_LIST, &list), ENOTTY);
	CHECK_ERR(ioctl(vm->dev, KVM_CREATE_VCPU, 0), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_CHECK_EXTENSION, KVM_CAP_HLT), EINVAL);
}

/* --- order --- */

/* Without an interrupt controller in the kernel. */
static void test_no_irqchip(void)
{
	struct vm *vm = vm_create();
	struct kvm_irqfd irqfd = { .fd = eventfd(0, 0), .gsi = 4 };
	struct kvm_irq_routing routes = { .nr = 0 };
	struct kvm_msi msi = { .address_lo = 0xfee00000 };
	struct kvm_reinject_control reinject = { .pit_reinject = 1 };
	struct kvm_vapic_addr vapic = { .vapic_addr = 0x1000 };
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_pit_config pit = { .flags = 0 };
	struct kvm_mp_state mp = { .mp_state = 99 };
	struct vcpu *vcpu;

	CHECK_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_REINJECT_CONTROL, &reinject), ENXIO);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), ENOENT);
	vcpu = vcpu_create(vm, 0);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VAPIC_ADDR, &vapic), EINVAL);
	/* A processor runs or waits in userspace: there is no other state. */
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
	for (mp.mp_state = 1; mp.mp_state <= KVM_MP_STATE_SIPI_RECEIVED; mp.mp_state++)
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp), EINVAL);
	irq.irq = 256;
	CHECK_ERR(ioctl(vcpu->fd, KVM_INTERRUPT, &irq), EINVAL);
	irq.irq = 0x40;
	CHECK_OK(ioctl(vcpu->fd, KVM_INTERRUPT, &irq));
}

/* With half of one. */
static void test_split_irqchip(void)
{
	struct vm *vm = vm_create();
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_pit_config pit = { .flags = 0 };
	static struct kvm_irqchip chip;
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct vcpu *vcpu;

	split.args[0] = 1 << 20;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &split), EINVAL);
	split.args[0] = 24;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &split));
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &split), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), ENOENT);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	vcpu = vcpu_create(vm, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_INTERRUPT, &irq));
	CHECK_ERR(ioctl(vcpu->fd, KVM_INTERRUPT, &irq), EEXIST);
}

/* What must come before the first vCPU, and what comes at its own time. */
static void test_before_vcpus(void)
{
	struct vm *vm = vm_create();
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_enable_cap max = { .cap = KVM_CAP_MAX_VCPU_ID, .args = { 8 } };
	int khz = ioctl(vm->fd, KVM_GET_TSC_KHZ, 0), ids = vm_has_cap(vm, KVM_CAP_MAX_VCPU_ID);
	u64 identity = 0xfeffc000;

	CHECK_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity));
	identity = 0; /* the default */
	CHECK_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity));
	CHECK_OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	CHECK_ERR(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xffffe000), EINVAL);
	CHECK_OK(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 3));
	if (khz > 0)
		CHECK_OK(ioctl(vm->fd, KVM_SET_TSC_KHZ, khz));
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &max));
	max.args[0] = 9; /* set once */
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &max), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, ids), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 8), EINVAL);

	vcpu_create(vm, 7);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 7), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 0), EBUSY);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &split), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &max), EINVAL);
	if (khz > 0 && !vm_is_kvm()) /* newer kernels have it like that */
		CHECK_ERR(ioctl(vm->fd, KVM_SET_TSC_KHZ, khz), EINVAL);
}

/* --- memory --- */

static long region(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, void *hva)
{
	struct kvm_userspace_memory_region r = { slot, flags, gpa, size, (u64)hva };

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static void test_regions(void)
{
	struct vm *vm = vm_create();
	char *p = map_anon(HOST_HUGE);
	struct kvm_userspace_memory_region2 r2 = {
		.slot = 9,
		.guest_phys_addr = 64 * PAGE,
		.memory_size = PAGE,
		.userspace_addr = (u64)p,
	};
	u64 bitmap[1];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };
	u32 max = vm_has_cap(vm, KVM_CAP_NR_MEMSLOTS);

	CHECK_OK(region(vm, 1, 0, 0, 4 * PAGE, p));
	CHECK_OK(region(vm, 1, 0, 0, 4 * PAGE, p)); /* nothing changes */
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
	CHECK_OK(region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * PAGE, p));
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	CHECK_ERR(region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY, 0, 4 * PAGE, p),
		  EINVAL);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	/* Moved by less than its size: it does not stand in its own way. */
	CHECK_OK(region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, PAGE, 4 * PAGE, p));
	CHECK_ERR(region(vm, 2, 0, 4 * PAGE, PAGE, p), EEXIST);
	CHECK_OK(region(vm, 2, 0, 0, PAGE, p));
	CHECK_ERR(region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * PAGE, p), EEXIST);
	CHECK_OK(region(vm, 1, 0, PAGE, 4 * PAGE, p));
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
	/* The same memory may be at two places. */
	CHECK_OK(region(vm, 3, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, 8 * PAGE, 4 * PAGE, p));
	log.slot = 4;
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
	log.slot = max;
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EINVAL);
	log.slot = 3;
	log.dirty_bitmap = NULL;
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EFAULT);
	/* What deletes is checked like what creates. */
	CHECK_ERR(region(vm, 1, 0, 1, 0, p), EINVAL);
	CHECK_ERR(region(vm, 1, 0, 0, 0, p + 1), EINVAL);
	CHECK_ERR(region(vm, 1, 1u << 30, 0, 0, p), EINVAL);
	CHECK_ERR(region(vm, max, 0, 0, 0, p), EINVAL);
	CHECK_OK(region(vm, 1, 0, 0, 0, NULL));
	CHECK_ERR(region(vm, 1, 0, 0, 0, NULL), EINVAL);
	if (vm_has_cap(vm, KVM_CAP_USER_MEMORY2)) {
		CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r2));
		r2.flags = 1 << 2; /* KVM_MEM_GUEST_MEMFD, without one */
		r2.slot = 10;
		r2.guest_phys_addr = 128 * PAGE;
		r2.guest_memfd = ~0u;
		CHECK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r2) == -1);
		CHECK_ERR(region(vm, 10, 1 << 2, 128 * PAGE, PAGE, p), EINVAL);
	}
}

/* Many slots, with the highest numbers that there are; the guest reads from three of them. */
#define NR_SLOTS 2000

static void guest_ends(u64 nr)
{
	for (u64 i = 0; i < 3; i++)
		guest_sync(*(volatile u64 *)(GPA + i * (nr - 1) / 2 * 2 * PAGE));
	guest_done();
}

static void test_many_slots(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u32 max = vm_has_cap(vm, KVM_CAP_NR_MEMSLOTS), nr = max - 1 < NR_SLOTS ? max - 1 : NR_SLOTS;
	u64 *p = map_anon(HOST_HUGE), start = now_ms();

	CHECK(max >= 512);
	*p = 0x1234;
	for (u32 i = 0; i < nr; i++)
		CHECK_OK(region(vm, max - 1 - i, 0, GPA + i * 2 * PAGE, PAGE, p));
	ktap_diag("%u slots in %llu ms", nr, (unsigned long long)(now_ms() - start));
	CHECK_ERR(region(vm, max, 0, GPA - PAGE, PAGE, p), EINVAL);
	vcpu_set_guest(vcpu, guest_ends, nr);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(vcpu_run_guest(vcpu), 0x1234);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	for (u32 i = 0; i < nr; i += 20)
		CHECK_OK(region(vm, max - 1 - i, 0, 0, 0, NULL));
}

/* KVM_CLEAR_DIRTY_LOG: which pages may be named; what is not named stays, what is written comes again. */
#define LOG_PAGES 150

static void guest_write(u64 page)
{
	for (;;) {
		*(volatile u64 *)(GPA + page * PAGE) = page;
		guest_sync(1);
	}
}

static void test_clear_log(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *p = map_anon(HOST_HUGE);
	u64 map[3], all[3] = { ~0ULL, ~0ULL, ~0ULL };
	struct kvm_dirty_log get = { .slot = 5, .dirty_bitmap = map };
	struct kvm_clear_dirty_log clear = { .slot = 5, .dirty_bitmap = all };
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { KVM_DIRTY_LOG_INITIALLY_SET },
	};
	static const struct {
		u64 first, num;
		int err;
	} range[] = {
		{ 1, 64, EINVAL },  { 0, 1, EINVAL },	 { 64, 1, EINVAL },
		{ 0, 151, EINVAL }, { 128, 23, EINVAL }, { 192, 0, EINVAL },
		{ 0, 0, 0 },	    { 0, 64, 0 },	 { 64, 86, 0 },
		{ 128, 22, 0 },	    { 0, 150, 0 },	 { 1ULL << 58, 64, EINVAL },
	};

	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL); /* goes with MANUAL_PROTECT only */
	cap.args[0] = 4;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	CHECK_OK(region(vm, 5, 0, GPA, LOG_PAGES * PAGE, p));
	CHECK_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), ENOENT);
	CHECK_OK(region(vm, 5, KVM_MEM_LOG_DIRTY_PAGES, GPA, LOG_PAGES * PAGE, p));
	for (size_t i = 0; i < ARRAY_LEN(range); i++) {
		clear.first_page = range[i].first;
		clear.num_pages = range[i].num;
		if (range[i].err)
			CHECK_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), range[i].err);
		else
			CHECK_OK(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
	}
	vcpu_set_guest(vcpu, guest_write, 3);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_set_guest(vcpu, guest_write, 149);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get)); /* does not clear */
		CHECK_EQ(map[0], 1 << 3);
		CHECK_EQ(map[1], 0);
		CHECK_EQ(map[2], 1 << 21);
	}
	clear.first_page = 128;
	clear.num_pages = 22;
	CHECK_OK(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(map[0] == 1 << 3 && !map[1] && !map[2]);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(map[0] == 1 << 3 && !map[1] && map[2] == 1 << 21);
	all[0] = ~(1ULL << 3);
	clear.first_page = 0;
	clear.num_pages = 150;
	CHECK_OK(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear)); /* all but page 3 */
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(map[0] == 1 << 3 && !map[1] && !map[2]);
	/* A log begins with every page in it, if wanted. */
	cap.args[0] |= KVM_DIRTY_LOG_INITIALLY_SET;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	CHECK_OK(region(vm, 5, 0, GPA, LOG_PAGES * PAGE, p));
	CHECK_OK(region(vm, 5, KVM_MEM_LOG_DIRTY_PAGES, GPA, LOG_PAGES * PAGE, p));
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(map[0] == ~0ULL && map[1] == ~0ULL && map[2] == (1 << 22) - 1);
	all[0] = ~0ULL;
	CHECK_OK(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(!map[0] && !map[1] && !map[2]);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get));
	CHECK(!map[0] && !map[1] && map[2] == 1 << 21);
}

static void test_pre_fault(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_pre_fault_memory f;

	if (!vm_has_cap(vm, KVM_CAP_PRE_FAULT_MEMORY))
		ktap_skip("no KVM_CAP_PRE_FAULT_MEMORY");
	CHECK_OK(region(vm, 0, 0, GPA, 16 * PAGE, map_anon(HOST_HUGE)));
#define FAULT(g, s, fl) \
	(f = (struct kvm_pre_fault_memory){ .gpa = (g), .size = (s), .flags = (fl) }, \
	 ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &f))
	CHECK_ERR(FAULT(GPA + 1, PAGE, 0), EINVAL);
	CHECK_ERR(FAULT(GPA, PAGE - 1, 0), EINVAL);
	CHECK_ERR(FAULT(GPA, 0, 0), EINVAL);
	CHECK_ERR(FAULT(GPA, -GPA, 0), EINVAL);
	CHECK_ERR(FAULT(GPA, PAGE, 1), EINVAL);
	CHECK_ERR(FAULT(GPA - PAGE, PAGE, 0), ENOENT);
	CHECK_ERR(FAULT(GPA + 16 * PAGE, PAGE, 0), ENOENT);
	CHECK_OK(FAULT(GPA, 16 * PAGE, 0));
	CHECK_EQ(f.size, 0);
	CHECK_EQ(f.gpa, GPA + 16 * PAGE);
	CHECK_OK(FAULT(GPA + 8 * PAGE, 16 * PAGE,
		       0)); /* half of it is there: what is left is told */
	CHECK_EQ(f.size, 8 * PAGE);
	CHECK_EQ(f.gpa, GPA + 16 * PAGE);
}

/* --- newer forms of state --- */

static void test_sregs2(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	static const int modes[] = { MODE_REAL, MODE_PM32_PAGING, MODE_LONG };
	struct kvm_sregs s;
	struct kvm_sregs2 a, b;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		vcpu_set_mode(vcpu, modes[i], 0, VM_CODE_GPA);
		vcpu_get_sregs(vcpu, &s);
		memset(&a, 0x55, sizeof(a));
		CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS2, &a));
		CHECK(!memcmp(&a, &s, offsetof(struct kvm_sregs, interrupt_bitmap)));
		CHECK_EQ(a.flags, 0); /* no PDPTEs outside PAE paging */
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS2, &a));
		CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS2, &b));
		CHECK(!memcmp(&a, &b, offsetof(struct kvm_sregs2, pdptrs)));
		a.flags = 2;
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &a), EINVAL);
		a.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &a), EINVAL);
	}
	vcpu_set_mode(vcpu, MODE_PAE, 0, VM_CODE_GPA);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS2, &a));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS2, &a));
}

static void test_xsave2(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u32 size = vm_has_cap(vm, KVM_CAP_XSAVE2);
	struct kvm_xsave *a = calloc(1, sizeof(*a)), *b = calloc(1, size);

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, a));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE2, b));
	CHECK(!memcmp(a, b, sizeof(*a)));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_XSAVE, b));
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_XSAVE2, NULL), EFAULT);
}

static void test_nested_state(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	static struct {
		struct kvm_nested_state s;
		char room[8192];
	} n;
	u32 size;

	if (!vm_has_cap(vm, KVM_CAP_NESTED_STATE))
		ktap_skip("no KVM_CAP_NESTED_STATE");
	n.s.size = 8; /* of room: the size needed is told */
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &n), E2BIG);
	size = n.s.size;
	CHECK(size >= sizeof(n.s) && (int)size <= vm_has_cap(vm, KVM_CAP_NESTED_STATE));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &n));
	CHECK_EQ(n.s.size, size);
	CHECK_EQ(n.s.format, KVM_STATE_NESTED_FORMAT_SVM);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &n));
	n.s.flags = 1 << 14;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &n), EINVAL);
	n.s.flags = KVM_STATE_NESTED_GIF_SET;
	n.s.format = KVM_STATE_NESTED_FORMAT_VMX;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &n), EINVAL);
	n.s.format = KVM_STATE_NESTED_FORMAT_SVM;
	n.s.size = sizeof(n.s) - 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &n), EINVAL);
}

/* Machine checks that userspace reports: corrected ones only fill their bank. */
static void test_mce(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int banks = vm_has_cap(vm, KVM_CAP_MCE);
	struct kvm_x86_mce m = {
		.status = 1ULL << 63 | 0x123, .addr = 0x4567, .misc = 0x89, .bank = 2
	};
	u64 cap, set;

	CHECK_OK(ioctl(vm->dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	set = cap & ~0xffULL;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &set), EINVAL);
	set |= banks + 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &set), EINVAL);
	set = 4 | 1ULL << 40;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &set), EINVAL);
	set = (cap & ~0xffULL) | 4;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &set));
	CHECK_EQ(vcpu_get_msr(vcpu, 0x179), 0x104); /* AMD's has nothing above MCG_CTL_P */
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	CHECK_EQ(vcpu_get_msr(vcpu, 0x401 + 4 * 2), m.status);
	CHECK_EQ(vcpu_get_msr(vcpu, 0x402 + 4 * 2), m.addr);
	CHECK_EQ(vcpu_get_msr(vcpu, 0x403 + 4 * 2), m.misc);
	m.status |= 0x400; /* one more before the first was seen: told by bit 62 */
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	CHECK_EQ(vcpu_get_msr(vcpu, 0x401 + 4 * 2), m.status | 1ULL << 62);
	m.bank = 4;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m), EINVAL);
	m.bank = 1;
	m.status &= ~(1ULL << 63);
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m), EINVAL);
	vcpu_set_guest(vcpu, guest_nothing, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	/* Uncorrected, and the guest has no CR4.MCE: it shuts down. */
	m.status = 1ULL << 63 | 1ULL << 61;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	vcpu_expect(vcpu, KVM_EXIT_SHUTDOWN);
}

/* KVM_VCPU_TSC_OFFSET: what the guest's TSC is ahead of the host's. */
static void test_tsc_offset(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 offset = 0, before, after, step = 1ULL << 50;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (u64)&offset,
	};

	CHECK_OK(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	before = vcpu_get_msr(vcpu, 0x10);
	offset += step;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	after = vcpu_get_msr(vcpu, 0x10);
	CHECK(after - before >= step && after - before < step + (1ULL << 44));
	before = offset;
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	CHECK_EQ(offset, before);
	attr.addr = 8;
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), EFAULT);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), EFAULT);
	attr.attr = 77;
	CHECK_ERR(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
}

/* The processor that KVM_SET_BOOT_CPU_ID names runs first, and says so in its APIC base. */
static void test_boot_cpu(void)
{
	struct vm *vm = vm_create();
	struct kvm_mp_state mp;
	struct kvm_sregs s;

	vm_irqchip(vm);
	CHECK_OK(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 1));
	for (u32 i = 0; i < 3; i++) {
		struct vcpu *vcpu = vcpu_create(vm, i);

		CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
		CHECK_EQ(mp.mp_state, i == 1 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
		vcpu_get_sregs(vcpu, &s);
		CHECK_EQ(s.apic_base >> 8 & 1, i == 1);
	}
}

/* --- statistics --- */

static void check_stats(int fd)
{
	struct kvm_stats_header h;
	char id[256];

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
	CHECK(h.num_desc && h.name_size <= sizeof(id));
	CHECK(h.id_offset >= sizeof(h) && h.desc_offset >= h.id_offset + h.name_size);
	CHECK(h.data_offset >=
	      h.desc_offset + h.num_desc * (sizeof(struct kvm_stats_desc) + h.name_size));
	CHECK_EQ(pread(fd, id, h.name_size, h.id_offset), h.name_size);
	CHECK(!strncmp(id, "kvm-", 4) && memchr(id, 0, h.name_size)); /* tools look for that */
	for (u32 i = 0; i < h.num_desc; i++) {
		char buf[sizeof(struct kvm_stats_desc) + 256];
		struct kvm_stats_desc *d = (void *)buf;
		size_t size = sizeof(*d) + h.name_size;
		u64 value;

		CHECK_EQ(pread(fd, buf, size, h.desc_offset + i * size), size);
		CHECK(d->size && memchr(d->name, 0, h.name_size) && d->name[0]);
		CHECK_EQ(pread(fd, &value, 8, h.data_offset + d->offset), 8);
	}
	CHECK_EQ(pread(fd, id, 1, 1 << 20), 0); /* beyond its end */
	CHECK(write(fd, id, 1) == -1);
	close(fd);
}

static void test_stats(void)
{
	struct vm *vm = vm_create();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	check_stats(ioctl(vm->fd, KVM_GET_STATS_FD, NULL));
	check_stats(ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL));
}

/* --- KVM_RUN --- */

static void guest_in(u64 arg)
{
	(void)arg;
	guest_assert_eq(inb(0x60), 0x5a);
	guest_done();
}

/* immediate_exit completes the exit before, and leaves what kvm_run says of it. */
static void test_immediate_exit(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;

	vcpu_set_guest(vcpu, guest_in, 0);
	vcpu_expect(vcpu, KVM_EXIT_IO);
	*((u8 *)run + run->io.data_offset) = 0x5a;
	for (int i = 0; i < 3; i++) {
		run->immediate_exit = 1;
		CHECK_ERR(ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
		CHECK_EQ(run->exit_reason, KVM_EXIT_IO);
		CHECK_EQ(run->io.port, 0x60);
		vcpu_get_regs(vcpu, &regs);
		CHECK_EQ(regs.rax & 0xff, 0x5a);
	}
	run->immediate_exit = 0;
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void test_signal_mask_len(void)
{
	static const u32 bad[] = { 0, 1, 4, 7, 9, 16, 128, 1u << 31, ~0u };
	struct vcpu *vcpu = vcpu_create(vm_create(), 0);
	struct {
		u32 len;
		u8 set[128];
	} mask = { .len = 8 };

	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		mask.len = bad[i];
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask), EINVAL);
	}
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, NULL));
	CHECK_ERR(ioctl(vcpu->fd, KVM_RUN, 1), EINVAL);
}

/*
 * REP INS in batches: at each exit the registers tell how far the guest is, and what userspace
 * makes of the count there is what is left to do.
 */
#define INS_PORT 0x81
#define INS_LEN	 8192
static u8 ins_buf[INS_LEN] __attribute__((aligned(4096)));

static void guest_ins(u64 arg)
{
	u64 count = arg, ptr = (u64)ins_buf;

	asm volatile("rep insb" : "+D"(ptr), "+c"(count) : "d"(INS_PORT) : "memory");
	guest_assert_eq(count, 0);
	guest_sync(ptr - (u64)ins_buf);
	guest_done();
}

static void test_ins_count(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;
	u64 left = INS_LEN;

	while (left) {
		if (left == INS_LEN)
			vcpu_set_guest(vcpu, guest_ins, INS_LEN);
		vcpu_expect(vcpu, KVM_EXIT_IO);
		CHECK_EQ(run->io.port, INS_PORT);
		vcpu_get_regs(vcpu, &regs);
		CHECK_EQ(regs.rcx, left);
		CHECK_EQ(regs.rdi, (u64)ins_buf + INS_LEN - left);
		CHECK(run->io.count && run->io.count <= left);
		memset((u8 *)run + run->io.data_offset, 0xaa, run->io.count);
		left -= run->io.count;
	}
	CHECK_EQ(vcpu_run_guest(vcpu), INS_LEN);
	for (u32 i = 0; i < INS_LEN; i++)
		CHECK_EQ((*guest_ptr(vm, ins_buf))[i], 0xaa);

	vcpu_set_guest(vcpu, guest_ins, 2); /* fewer than were answered */
	vcpu_expect(vcpu, KVM_EXIT_IO);
	vcpu_get_regs(vcpu, &regs);
	regs.rcx = 1;
	vcpu_set_regs(vcpu, &regs);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);

	vcpu_set_guest(vcpu, guest_ins, 3); /* more: userspace is asked for the rest */
	vcpu_expect(vcpu, KVM_EXIT_IO);
	vcpu_get_regs(vcpu, &regs);
	regs.rcx = 4096 + 5;
	vcpu_set_regs(vcpu, &regs);
	do
		vcpu_expect(vcpu, KVM_EXIT_IO);
	while (run->io.port == INS_PORT);
	CHECK_EQ(run->io.port, GUEST_PORT);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rdi, 4096 + 5);
}

static const struct ktap_test tests[] = {
	{ "msr_lists", test_msr_lists, 0 },
	{ "feature_msrs", test_feature_msrs, 0 },
	{ "msr_counts", test_msr_counts, 0 },
	{ "supported_cpuid", test_supported_cpuid, 0 },
	{ "emulated_cpuid", test_emulated_cpuid, 0 },
	{ "cpuid_after_run", test_cpuid_after_run, 0 },
	{ "cr4_before_cpuid", test_cr4_before_cpuid, 0 },
	{ "caps", test_caps, 0 },
	{ "missing", test_missing, 0 },
	{ "no_irqchip", test_no_irqchip, 0 },
	{ "split_irqchip", test_split_irqchip, 0 },
	{ "before_vcpus", test_before_vcpus, 0 },
	{ "regions", test_regions, 0 },
	{ "many_slots", test_many_slots, 90 },
	{ "clear_log", test_clear_log, 0 },
	{ "pre_fault", test_pre_fault, 0 },
	{ "sregs2", test_sregs2, 0 },
	{ "xsave2", test_xsave2, 0 },
	{ "nested_state", test_nested_state, 0 },
	{ "mce", test_mce, 0 },
	{ "tsc_offset", test_tsc_offset, 0 },
	{ "boot_cpu", test_boot_cpu, 0 },
	{ "stats", test_stats, 0 },
	{ "immediate_exit", test_immediate_exit, 0 },
	{ "signal_mask_len", test_signal_mask_len, 0 },
	{ "ins_count", test_ins_count, 0 },
};

KTAP_MAIN(tests)
