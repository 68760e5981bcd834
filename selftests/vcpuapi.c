// SPDX-License-Identifier: GPL-2.0
/*
 * The smaller features of vCPUs: event state with payloads, triple faults, the
 * TSC's offset and its deadline, machine checks, nested state, special registers.
 */
#include <stdio.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"
#include "vm.h"

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_MCG_STATUS	 0x17a
#define MSR_MC0_STATUS	 0x401
#define DR6_RESET	 0xffff0ff0ULL
#define MCI_VALID	 (1ULL << 63)
#define MCI_OVERFLOW	 (1ULL << 62)
#define MCI_UNCORRECTED	 (1ULL << 61)
#define MCI_ENABLED	 (1ULL << 60)

static struct vm *vm;
static struct vcpu *vcpu;

static void setup(void (*fn)(u64), bool irqchip)
{
	vm = vm_create_image();
	if (irqchip)
		vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, fn, 0);
}

static int enable(u32 cap, u64 arg, u32 flags)
{
	struct kvm_enable_cap e = { .cap = cap, .flags = flags, .args = { arg } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &e);
}

static void get_events(struct kvm_vcpu_events *e)
{
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, e));
}

/* --- KVM_ENABLE_CAP --- */

static void test_enable_cap(void)
{
	setup(NULL, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_ENABLE_CAP_VM), 1);
	CHECK_OK(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1, 0));
	CHECK_ERR(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1, 1), EINVAL);
	CHECK_ERR(enable(KVM_CAP_USER_MEMORY, 1, 0), EINVAL);
	CHECK_ERR(enable(~0u, 1, 0), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, NULL), EFAULT);
}

/* --- exceptions with payloads --- */

static volatile u64 seen_vector, seen_error, seen_cr2, seen_dr6;

static void on_exception(struct guest_frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	seen_vector = f->vector;
	seen_error = f->error;
	seen_cr2 = read_cr2();
	seen_dr6 = dr6;
}

static void guest_exceptions(u64 arg)
{
	(void)arg;
	guest_handlers[1] = on_exception;
	guest_handlers[14] = on_exception;
	for (;;)
		guest_sync(1);
}

static void set_exception(u8 nr, bool pending, bool payload, u64 value, u32 flags)
{
	struct kvm_vcpu_events e;

	get_events(&e);
	e.flags = flags;
	e.exception.nr = nr;
	e.exception.pending = pending;
	e.exception.injected = !pending;
	e.exception.has_error_code = nr == 14;
	e.exception.error_code = nr == 14 ? 6 : 0;
	e.exception_has_payload = payload;
	e.exception_payload = value;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
}

static void test_payload(void)
{
	struct kvm_vcpu_events e;
	struct kvm_sregs s;

	setup(guest_exceptions, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_EXCEPTION_PAYLOAD), 1);
	get_events(&e);
	CHECK_EQ(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD, 0);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	CHECK_OK(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1, 0));
	get_events(&e);
	CHECK(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_complete(vcpu);

	/* A pending #PF: CR2 changes when it is delivered, not before. */
	set_exception(14, true, true, 0x12345678, KVM_VCPUEVENT_VALID_PAYLOAD);
	get_events(&e);
	CHECK_EQ(e.exception.pending, 1);
	CHECK_EQ(e.exception.injected, 0);
	CHECK_EQ(e.exception.nr, 14);
	CHECK_EQ(e.exception.error_code, 6);
	CHECK_EQ(e.exception_has_payload, 1);
	CHECK_EQ(e.exception_payload, 0x12345678);
	vcpu_get_sregs(vcpu, &s);
	CHECK_EQ(s.cr2, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, seen_vector), 14);
	CHECK_EQ(*guest_ptr(vm, seen_cr2), 0x12345678);
	CHECK_EQ(*guest_ptr(vm, seen_error), 6);
	vcpu_complete(vcpu);

	/* An injected one has its payload delivered already. */
	set_exception(14, false, true, 0x999, KVM_VCPUEVENT_VALID_PAYLOAD);
	get_events(&e);
	CHECK_EQ(e.exception.injected, 1);
	CHECK_EQ(e.exception.pending, 0);
	CHECK_EQ(e.exception_has_payload, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, seen_cr2), 0x12345678);
	vcpu_complete(vcpu);

	/* #DB: the payload are new bits of DR6. */
	set_exception(1, true, true, 1 << 14, KVM_VCPUEVENT_VALID_PAYLOAD);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(*guest_ptr(vm, seen_vector), 1);
	CHECK_EQ(*guest_ptr(vm, seen_dr6), DR6_RESET | 1 << 14);
	vcpu_complete(vcpu);

	/* Bits that VMRUN would refuse do no harm. */
	if (!vm_is_kvm()) {
		set_exception(1, true, true, ~0ULL << 32 | 2, KVM_VCPUEVENT_VALID_PAYLOAD);
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		CHECK_EQ(*guest_ptr(vm, seen_dr6), DR6_RESET | 1 << 14 | 2);
		vcpu_complete(vcpu);
	}

	/* Without the flag the new fields say nothing. */
	get_events(&e);
	e.flags = 0;
	e.exception.pending = 1;
	e.exception.injected = 0;
	e.exception.nr = 14;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	get_events(&e);
	CHECK_EQ(e.exception.pending, 0);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	e.exception.pending = 1;
	e.exception.nr = 32;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	e.exception.nr = 2;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);

	/* Off again. */
	CHECK_OK(enable(KVM_CAP_EXCEPTION_PAYLOAD, 0, 0));
	get_events(&e);
	CHECK_EQ(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD, 0);
}

static void test_triple_fault(void)
{
	struct kvm_vcpu_events e;

	setup(guest_exceptions, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT), 1);
	get_events(&e);
	CHECK_EQ(e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT, 0);
	e.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	CHECK_OK(enable(KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	get_events(&e);
	CHECK(e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	CHECK_EQ(e.triple_fault.pending, 0);
	e.triple_fault.pending = 1;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	get_events(&e);
	CHECK_EQ(e.triple_fault.pending, 1);
	/* It can be taken back. */
	e.triple_fault.pending = 0;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	get_events(&e);
	e.triple_fault.pending = 1;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	vcpu_expect(vcpu, KVM_EXIT_SHUTDOWN);
	get_events(&e);
	CHECK_EQ(e.triple_fault.pending, 0);
}

/* Flags, SMM that there is not, fields that a flag guards. */
static void test_events_flags(void)
{
	struct kvm_vcpu_events e, got;
	u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		    KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	int bit;

	setup(guest_exceptions, true);
	get_events(&e);
	for (bit = 0; bit < 32; bit++) {
		e.flags = 1u << bit;
		if (e.flags & known)
			CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
		else
			CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	}
	if (!vm_is_kvm()) {
		e.flags = KVM_VCPUEVENT_VALID_SMM;
		e.smi.smm = 1;
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
		e.smi.smm = 0;
		CHECK_EQ(vm_has_cap(vm, KVM_CAP_X86_SMM), 0);
		CHECK_ERR(ioctl(vcpu->fd, KVM_SMI, 0), EINVAL);
	}
	e.flags = 0;
	e.nmi.pending = 1;
	e.interrupt.shadow = 1;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	get_events(&got);
	CHECK_EQ(got.nmi.pending, 0);
	CHECK_EQ(got.interrupt.shadow, 0);
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	get_events(&got);
	CHECK_EQ(got.nmi.pending, 1);
	CHECK(got.interrupt.shadow);
	CHECK_EQ(got.flags & (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW),
		 KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW);
}

/* --- NMIs --- */

static volatile u64 nmis;

static void on_nmi(struct guest_frame *f)
{
	(void)f;
	nmis++;
}

static void guest_nmis(u64 arg)
{
	(void)arg;
	guest_handlers[2] = on_nmi;
	for (;;)
		guest_sync(nmis);
}

static void test_nmi(void)
{
	setup(guest_nmis, false);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	/* One is served while one waits; more are lost. */
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
	CHECK_EQ(vcpu_run_guest(vcpu), 3);
}

/* --- TSC --- */

static struct kvm_device_attr tsc_attr(u64 *offset)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};
}

static void guest_rdtsc(u64 arg)
{
	(void)arg;
	for (;;)
		guest_sync(rdtsc());
}

static void test_tsc_offset(void)
{
	u64 offset, a, b, moved;
	struct kvm_device_attr attr = tsc_attr(&offset);

	setup(guest_rdtsc, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_VCPU_ATTRIBUTES), 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	a = vcpu_run_guest(vcpu);
	b = rdtsc() + offset;
	CHECKF(b > a && b - a < 1ULL << 32, "%#llx %#llx", (unsigned long long)a,
	       (unsigned long long)b);
	moved = offset + (1ULL << 45);
	attr.addr = (uintptr_t)&moved;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	attr.addr = (uintptr_t)&offset;
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	CHECK_EQ(offset, moved);
	b = vcpu_run_guest(vcpu);
	CHECKF(b > a + (1ULL << 45) && b - a < (1ULL << 45) + (1ULL << 33), "%#llx %#llx",
	       (unsigned long long)a, (unsigned long long)b);
	attr.addr = 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), EFAULT);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), EFAULT);
	attr.attr = 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
	attr.attr = 0;
	attr.group = 7;
	CHECK_ERR(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
}

static volatile u64 timer_fired;

static void on_timer(struct guest_frame *f)
{
	(void)f;
	timer_fired++;
	apic_write(0xb0, 0);
}

static void sti_hlt_cli(void)
{
	sti_hlt();
	cli();
}

static void guest_deadline(u64 arg)
{
	(void)arg;
	guest_handlers[0x40] = on_timer;
	apic_write(0xf0, 0x1ff);
	apic_write(0x320, 0x40040);
	/* Some hours away. */
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ULL << 45));
	guest_sync(1);
	while (!timer_fired)
		sti_hlt_cli();
	guest_done();
}

/* KVM's supported CPUID leaves the deadline timer to the VMM to add. */
static void setup_deadline(void (*fn)(u64))
{
	struct kvm_cpuid2 *c;
	u32 i;

	setup(fn, true);
	CHECK(vm_has_cap(vm, KVM_CAP_TSC_DEADLINE_TIMER));
	if (vm_is_kvm())
		ktap_skip("kvm_amd lets the deadline wait for the old TSC");
	c = vm_supported_cpuid(vm->dev);
	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1)
			c->entries[i].ecx |= 1 << 24;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, c));
}

/* A deadline that waits comes when the TSC says so, also where the TSC was moved. */
static void test_deadline(void)
{
	u64 offset;
	struct kvm_device_attr attr = tsc_attr(&offset);

	setup_deadline(guest_deadline);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	offset += 1ULL << 45;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* The same by KVM_SET_MSRS. */
static void test_deadline_msr(void)
{
	setup_deadline(guest_deadline);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_set_msr(vcpu, MSR_TSC, vcpu_get_msr(vcpu, MSR_TSC) + (1ULL << 46));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void guest_adjust(u64 arg)
{
	(void)arg;
	guest_handlers[0x40] = on_timer;
	apic_write(0xf0, 0x1ff);
	apic_write(0x320, 0x40040);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ULL << 45));
	wrmsr(0x3b, 1ULL << 45);
	while (!timer_fired)
		sti_hlt_cli();
	guest_done();
}

/* And by the guest's TSC_ADJUST. */
static void test_deadline_adjust(void)
{
	setup_deadline(guest_adjust);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void test_vm_tsc_khz(void)
{
	int khz;

	vm = vm_create();
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_GET_TSC_KHZ), 1);
	khz = ioctl(vm->fd, KVM_GET_TSC_KHZ, 0);
	CHECK(khz > 1000);
	CHECK_OK(ioctl(vm->fd, KVM_SET_TSC_KHZ, khz));
	CHECK_EQ(ioctl(vm->fd, KVM_GET_TSC_KHZ, 0), khz);
	if (!vm_has_cap(vm, KVM_CAP_VM_TSC_CONTROL) && !vm_is_kvm())
		CHECK_ERR(ioctl(vm->fd, KVM_SET_TSC_KHZ, khz / 2), EINVAL);
	vcpu = vcpu_create(vm, 0);
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0), khz);
	if (!vm_is_kvm()) /* 6.1's takes it and it has no effect */
		CHECK_ERR(ioctl(vm->fd, KVM_SET_TSC_KHZ, khz), EINVAL);
}

/* --- machine checks --- */

static volatile u64 mce_status, mce_mcg;

static void on_mce(struct guest_frame *f)
{
	(void)f;
	mce_mcg = rdmsr(MSR_MCG_STATUS);
	mce_status = rdmsr(MSR_MC0_STATUS + 4 * 2);
	wrmsr(MSR_MCG_STATUS, 0);
}

static void guest_mce(u64 arg)
{
	(void)arg;
	guest_handlers[18] = on_mce;
	write_cr4(read_cr4() | 1 << 6);
	for (;;)
		guest_sync(mce_status);
}

static void test_mce(void)
{
	struct kvm_x86_mce m = { .status = MCI_VALID | MCI_ENABLED | 5, .addr = 0x1000, .bank = 2 };
	u64 cap, supported;

	setup(guest_mce, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_MCE), 32);
	CHECK_OK(ioctl(vm->dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported));
	cap = 0;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 33;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 10 | ~(supported | 0xff);
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &cap), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, NULL), EFAULT);
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SET_MCE, NULL), EFAULT);
	cap = 10 | supported;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &cap));
	if (!vm_is_kvm()) /* it drops a bit that it says it supports */
		CHECK_EQ(vcpu_get_msr(vcpu, 0x179), cap & 0x1ff);
	m.bank = 10;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m), EINVAL);
	m.bank = 2;
	m.status = 5;
	CHECK_ERR(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m), EINVAL);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);

	/* Corrected: stored only. */
	m.status = MCI_VALID | MCI_ENABLED | 5;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_MC0_STATUS + 8), m.status);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_MC0_STATUS + 9), 0x1000);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);

	/* Uncorrected: #MC. The bank was in use: overflow. */
	m.status |= MCI_UNCORRECTED;
	m.mcg_status = 5;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	CHECK_EQ(vcpu_run_guest(vcpu), m.status | MCI_OVERFLOW);
	CHECK_EQ(*guest_ptr(vm, mce_mcg), 5);

	/* A corrected one does not take its place. */
	m.status = MCI_VALID | MCI_ENABLED | 7;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	CHECK(vcpu_get_msr(vcpu, MSR_MC0_STATUS + 8) & MCI_UNCORRECTED);

	/* One while one is in progress: shutdown. */
	vcpu_set_msr(vcpu, MSR_MCG_STATUS, 4);
	m.status |= MCI_UNCORRECTED;
	CHECK_OK(ioctl(vcpu->fd, KVM_X86_SET_MCE, &m));
	vcpu_expect(vcpu, KVM_EXIT_SHUTDOWN);
}

/* --- nested state of a processor without SVM --- */

static void test_nested_state(void)
{
	struct kvm_nested_state s;
	int size;

	setup(NULL, false);
	size = vm_has_cap(vm, KVM_CAP_NESTED_STATE);
	CHECK(size >= (int)sizeof(s));
	if (vm_is_kvm())
		ktap_skip("kvm_amd has nested SVM");
	memset(&s, 0xa5, sizeof(s));
	s.size = sizeof(s) - 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &s), E2BIG);
	CHECK_EQ(s.size, sizeof(s));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &s));
	CHECK_EQ(s.flags, KVM_STATE_NESTED_GIF_SET);
	CHECK_EQ(s.format, KVM_STATE_NESTED_FORMAT_SVM);
	CHECK_EQ(s.size, sizeof(s));
	CHECK_EQ(s.hdr.svm.vmcb_pa, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s));
	s.flags = KVM_STATE_NESTED_GIF_SET | KVM_STATE_NESTED_GUEST_MODE;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s), EINVAL);
	s.flags = 0;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s), EINVAL);
	s.flags = KVM_STATE_NESTED_GIF_SET;
	s.format = KVM_STATE_NESTED_FORMAT_VMX;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s), EINVAL);
	s.format = KVM_STATE_NESTED_FORMAT_SVM;
	s.size = 8;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_NESTED_STATE, NULL), EFAULT);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_NESTED_STATE, NULL), EFAULT);
}

/* --- the rest --- */

static void test_sregs2(void)
{
	struct kvm_sregs2 in, out;

	setup(guest_rdtsc, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_SREGS2), 1);
	memset(&in, 0xa5, sizeof(in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS2, &in));
	CHECK_EQ(in.flags, 0);
	in.cr2 = 0x1234;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS2, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS2, &out));
	CHECK_EQ(out.cr2, 0x1234);
	in.flags = 2;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &in), EINVAL);
	in.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID; /* not in long mode */
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &in), EINVAL);
	in.flags = 0;
	in.cr4 = ~0ULL;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &in), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, NULL), EFAULT);
	CHECK(vcpu_run_guest(vcpu));
}

static void test_xsave2(void)
{
	static u8 a[4096], b[8192];
	int size;

	setup(NULL, false);
	size = vm_has_cap(vm, KVM_CAP_XSAVE2);
	CHECK(size >= 4096 && size <= (int)sizeof(b));
	memset(b, 0xa5, sizeof(b));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, a));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE2, b));
	CHECK(!memcmp(a, b, sizeof(a)));
	if (size < (int)sizeof(b))
		CHECK_EQ(b[size], 0xa5);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_XSAVE, b));
}

static void test_identity_map(void)
{
	u64 addr = 0xfffbc000;

	vm = vm_create();
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_SET_IDENTITY_MAP_ADDR), 1);
	CHECK_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, NULL), EFAULT);
	addr = 0;
	CHECK_OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	vcpu_create_raw(vm, 0);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr), EINVAL);
}

static const struct ktap_test tests[] = {
	{ "enable_cap", test_enable_cap, 0 },
	{ "payload", test_payload, 0 },
	{ "triple_fault", test_triple_fault, 0 },
	{ "events_flags", test_events_flags, 0 },
	{ "nmi", test_nmi, 0 },
	{ "tsc_offset", test_tsc_offset, 0 },
	{ "deadline", test_deadline, 0 },
	{ "deadline_msr", test_deadline_msr, 0 },
	{ "deadline_adjust", test_deadline_adjust, 0 },
	{ "vm_tsc_khz", test_vm_tsc_khz, 0 },
	{ "mce", test_mce, 0 },
	{ "nested_state", test_nested_state, 0 },
	{ "sregs2", test_sregs2, 0 },
	{ "xsave2", test_xsave2, 0 },
	{ "identity_map", test_identity_map, 0 },
};

KTAP_MAIN(tests)
