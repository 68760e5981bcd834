// SPDX-License-Identifier: GPL-2.0
/*
 * Round trips through every get and set ioctl: what is set comes back, bad
 * input is refused with the errno of the ABI and changes nothing, and every
 * byte that a get hands out is defined (security rows 35 and 44).
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static void setup(bool irqchip)
{
	vm = vm_create_flat(4 << 20);
	if (irqchip)
		vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_CODE_GPA);
}

/*
 * A get must write every byte it is documented to: two calls into buffers with
 * different poison give the same. @fixed is the count of bytes that may differ
 * because they move (clocks): a bitmap by the caller is not needed, so far.
 */
static void check_defined(int fd, unsigned long cmd, const char *name, size_t size)
{
	u8 *a = malloc(size), *b = malloc(size);
	size_t i;

	memset(a, 0xaa, size);
	memset(b, 0x55, size);
	CHECKF(ioctl(fd, cmd, a) >= 0, "%s: errno %d", name, errno);
	CHECKF(ioctl(fd, cmd, b) >= 0, "%s: errno %d", name, errno);
	for (i = 0; i < size; i++)
		CHECKF(a[i] == b[i], "%s: byte %zu is %#x, then %#x", name, i, a[i], b[i]);
	free(a);
	free(b);
}

#define CHECK_DEFINED(fd, cmd, type) check_defined(fd, cmd, #cmd, sizeof(type))

static void test_defined_bytes(void)
{
	setup(true);
	CHECK_DEFINED(vcpu->fd, KVM_GET_REGS, struct kvm_regs);
	CHECK_DEFINED(vcpu->fd, KVM_GET_SREGS, struct kvm_sregs);
	CHECK_DEFINED(vcpu->fd, KVM_GET_FPU, struct kvm_fpu);
	CHECK_DEFINED(vcpu->fd, KVM_GET_XSAVE, struct kvm_xsave);
	CHECK_DEFINED(vcpu->fd, KVM_GET_XCRS, struct kvm_xcrs);
	CHECK_DEFINED(vcpu->fd, KVM_GET_VCPU_EVENTS, struct kvm_vcpu_events);
	CHECK_DEFINED(vcpu->fd, KVM_GET_DEBUGREGS, struct kvm_debugregs);
	CHECK_DEFINED(vcpu->fd, KVM_GET_LAPIC, struct kvm_lapic_state);
	CHECK_DEFINED(vcpu->fd, KVM_GET_MP_STATE, struct kvm_mp_state);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &(struct kvm_pit_config){ 0 }));
}

static void test_defined_bytes_pit(void)
{
	struct kvm_pit_state2 a, b;
	int i;

	setup(true);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &(struct kvm_pit_config){ 0 }));
	memset(&a, 0xaa, sizeof(a));
	memset(&b, 0x55, sizeof(b));
	CHECK_OK(ioctl(vm->fd, KVM_GET_PIT2, &a));
	CHECK_OK(ioctl(vm->fd, KVM_GET_PIT2, &b));
	for (i = 0; i < 3; i++)
		a.channels[i].count_load_time = b.channels[i].count_load_time = 0;
	CHECK(!memcmp(&a, &b, sizeof(a)));
}

static void test_defined_bytes_irqchip(void)
{
	struct kvm_irqchip a, b;
	u32 id;

	setup(true);
	for (id = 0; id < 3; id++) {
		size_t size = id == KVM_IRQCHIP_IOAPIC ? sizeof(a.chip.ioapic) : sizeof(a.chip.pic);

		memset(&a, 0xaa, sizeof(a));
		memset(&b, 0x55, sizeof(b));
		a.chip_id = b.chip_id = id;
		CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &a));
		CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &b));
		CHECK(!memcmp(&a.chip, &b.chip, size));
	}
	a.chip_id = 3;
	CHECK_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &a), EINVAL);
}

static void test_defined_bytes_clock(void)
{
	struct kvm_clock_data a, b;

	setup(false);
	memset(&a, 0xaa, sizeof(a));
	memset(&b, 0x55, sizeof(b));
	CHECK_OK(ioctl(vm->fd, KVM_GET_CLOCK, &a));
	CHECK_OK(ioctl(vm->fd, KVM_GET_CLOCK, &b));
	CHECK_EQ(a.flags, b.flags);
	CHECK_EQ(a.pad0, b.pad0);
	CHECK(!memcmp(a.pad, b.pad, sizeof(a.pad)));
	CHECK(b.clock >= a.clock);
	if (!(a.flags & KVM_CLOCK_REALTIME))
		CHECK_EQ(a.realtime, b.realtime);
	if (!(a.flags & KVM_CLOCK_HOST_TSC))
		CHECK_EQ(a.host_tsc, b.host_tsc);
}

/* KVM_GET/SET_REGS */
static void random_bytes(void *buf, size_t size)
{
	u8 *p = buf;

	while (size--)
		*p++ = test_random();
}

static void test_regs(void)
{
	struct kvm_regs in, out;
	int i;

	setup(false);
	for (i = 0; i < 50; i++) {
		random_bytes(&in, sizeof(in));
		in.rflags = (in.rflags & 0xcd5) | 2;
		vcpu_set_regs(vcpu, &in);
		vcpu_get_regs(vcpu, &out);
		CHECK(!memcmp(&in, &out, sizeof(in)));
	}
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_REGS, NULL), EFAULT);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_REGS, NULL), EFAULT);
	vcpu_get_regs(vcpu, &out);
	CHECK(!memcmp(&in, &out, sizeof(in)));
}

/* KVM_GET/SET_SREGS: all modes round trip, every bad set is refused whole. */
static void test_sregs(void)
{
	struct kvm_sregs in, out;
	int mode;

	setup(false);
	for (mode = MODE_REAL; mode <= MODE_COMPAT; mode++) {
		vcpu_set_mode(vcpu, mode, 0, VM_CODE_GPA);
		vcpu_get_sregs(vcpu, &in);
		in.fs.base = 0x1234560;
		in.gs.base = mode >= MODE_LONG ? 0xffff888000000000 : 0x7654320;
		in.idt.base = 0x5000;
		in.idt.limit = 0x7ff;
		in.cr2 = test_random();
		in.cr8 = 7;
		vcpu_set_sregs(vcpu, &in);
		vcpu_get_sregs(vcpu, &out);
		CHECK_EQ(out.cr0, in.cr0);
		CHECK_EQ(out.cr2, in.cr2);
		CHECK_EQ(out.cr3, in.cr3);
		CHECK_EQ(out.cr4, in.cr4);
		CHECK_EQ(out.cr8, in.cr8);
		CHECK_EQ(out.efer, in.efer);
		CHECK_EQ(out.apic_base, in.apic_base);
		CHECK(!memcmp(&out.cs, &in.cs, sizeof(in.cs)));
		CHECK(!memcmp(&out.ds, &in.ds, sizeof(in.ds)));
		CHECK(!memcmp(&out.ss, &in.ss, sizeof(in.ss)));
		CHECK_EQ(out.fs.base, in.fs.base);
		CHECK_EQ(out.gs.base, in.gs.base);
		CHECK_EQ(out.tr.base, in.tr.base);
		CHECK_EQ(out.gdt.base, in.gdt.base);
		CHECK_EQ(out.gdt.limit, in.gdt.limit);
		CHECK_EQ(out.idt.base, in.idt.base);
		CHECK_EQ(out.idt.limit, in.idt.limit);
		CHECK(!memcmp(out.interrupt_bitmap, in.interrupt_bitmap, 32));
	}
}

#define BAD_SREGS(field, value) \
	do { \
		struct kvm_sregs _bad = good, _now; \
		_bad.field = (value); \
		_bad.cr2 = 0xbadbad; \
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, &_bad), EINVAL); \
		vcpu_get_sregs(vcpu, &_now); \
		CHECK(!memcmp(&_now, &good, sizeof(good))); \
	} while (0)

static void test_sregs_bad(void)
{
	struct kvm_sregs good;

	setup(false);
	vcpu_get_sregs(vcpu, &good);
	BAD_SREGS(cr4, good.cr4 & ~0x20ULL);   /* long mode without PAE */
	BAD_SREGS(cr4, good.cr4 | 1ULL << 13); /* VMXE */
	BAD_SREGS(cr4, good.cr4 | 1ULL << 40);
	BAD_SREGS(efer, good.efer & ~0x400ULL); /* LMA off under paging */
	BAD_SREGS(cr3, 1ULL << 63);
	if (vm_is_kvm())
		return; /* older ones let these pass, to fail at VMRUN */
	BAD_SREGS(efer, good.efer | 1ULL << 40);
	BAD_SREGS(cr0, good.cr0 | 1ULL << 29); /* NW without CD */
	BAD_SREGS(cr0, good.cr0 & ~1ULL);      /* paging without protection */
	BAD_SREGS(cr0, good.cr0 | 1ULL << 40);
}

/* OSXSAVE in CR4 without XSAVE in CPUID (CVE-2012-4461), and random register sets. */
static void test_sregs_random(void)
{
	struct kvm_sregs good, bad;
	struct kvm_regs regs;
	int i, refused = 0, failed = 0;

	setup(false);
	vcpu_get_sregs(vcpu, &good);
	vcpu_get_regs(vcpu, &regs);
	*(u8 *)vm_hva(vm, VM_CODE_GPA) = 0xf4;
	for (i = 0; i < 600; i++) {
		u32 off = test_random() % sizeof(bad);

		bad = good;
		if (i & 1)
			((u8 *)&bad)[off] ^= 1 << (test_random() & 7);
		else
			random_bytes((u8 *)&bad + off,
				     sizeof(bad) - off > 8 ? 8 : sizeof(bad) - off);
		if (ioctl(vcpu->fd, KVM_SET_SREGS, &bad) < 0) {
			CHECK_EQ(errno, EINVAL);
			refused++;
			continue;
		}
		vcpu->run->immediate_exit = 0;
		alarm(1);
		if (vcpu_run(vcpu) == KVM_EXIT_FAIL_ENTRY)
			failed++;
		ktap_timed_out = false;
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS, &good));
		vcpu_set_regs(vcpu, &regs);
	}
	alarm(20);
	ktap_diag("%d refused, %d failed entries", refused, failed);
	vcpu_destroy(vcpu);
	vcpu = vcpu_create(vm, 1);
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_CODE_GPA);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
}

static void test_sregs_osxsave(void)
{
	struct kvm_cpuid2 none = { .nent = 0 };
	struct kvm_sregs s;

	vm = vm_create_flat(4 << 20);
	vcpu = vcpu_create_raw(vm, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, &none));
	vcpu_get_sregs(vcpu, &s);
	s.cr4 |= 1 << 18;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, &s), EINVAL);
	vcpu_get_sregs(vcpu, &s);
	CHECK(!(s.cr4 & 1 << 18));
}

/* FPU, XSAVE and XCRs */
static void test_fpu(void)
{
	struct kvm_fpu in, out;

	setup(false);
	memset(&in, 0, sizeof(in));
	random_bytes(in.fpr, sizeof(in.fpr));
	random_bytes(in.xmm, sizeof(in.xmm));
	in.fcw = 0x37f;
	in.ftwx = 0xff;
	in.mxcsr = 0x1f80;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_FPU, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_FPU, &out));
	CHECK(!memcmp(in.fpr, out.fpr, sizeof(in.fpr)));
	CHECK(!memcmp(in.xmm, out.xmm, sizeof(in.xmm)));
	CHECK_EQ(out.fcw, in.fcw);
	CHECK_EQ(out.ftwx, in.ftwx);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_FPU, NULL), EFAULT);
}

static void test_xsave(void)
{
	struct kvm_xsave in, out;
	u64 *header = (u64 *)&in.region[128];

	setup(false);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, &in));
	random_bytes(&in.region[8], 8 * 16);
	random_bytes(&in.region[40], 16 * 16); /* XMM */
	((u16 *)in.region)[0] = 0x37f;
	in.region[6] = 0x1f80;
	header[0] |= 3;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_XSAVE, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, &out));
	CHECK(!memcmp(&in.region[40], &out.region[40], 16 * 16));
	CHECK_EQ(out.region[6], 0x1f80);
	/* An unknown component, and a reserved MXCSR bit. */
	header[0] |= 1ULL << 62;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_XSAVE, &in), EINVAL);
	header[0] &= ~(1ULL << 62);
	in.region[6] = 0xffff0000;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_XSAVE, &in), EINVAL);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, &in));
	CHECK(!memcmp(&in, &out, sizeof(in)));
}

static void test_xcrs(void)
{
	struct kvm_xcrs x, out;
	static const u64 bad[] = { 0, 2, 5, 1ULL << 62 | 3, 1ULL << 40 | 7 };
	u32 i;

	setup(false);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XCRS, &x));
	CHECK_EQ(x.nr_xcrs, 1);
	CHECK_EQ(x.xcrs[0].xcr, 0);
	CHECK_EQ(x.xcrs[0].value, 1);
	x.xcrs[0].value = 3;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		x.xcrs[0].value = bad[i];
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &x), EINVAL);
	}
	x.xcrs[0].value = 3;
	x.nr_xcrs = KVM_MAX_XCRS + 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &x), EINVAL);
	x.nr_xcrs = 1;
	x.flags = 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &x), EINVAL);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XCRS, &out));
	CHECK_EQ(out.xcrs[0].value, 3);
}

/* MSRs: the counts that SET and GET give, stopping at the first refused. */
static void test_msrs(void)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[4];
	} m = { .head.nmsrs = 4 };

	setup(false);
	m.e[0] = (struct kvm_msr_entry){ .index = 0xc0000082, .data = 0x1234 };
	m.e[1] = (struct kvm_msr_entry){ .index = 0x174, .data = 0x10 };
	m.e[2] = (struct kvm_msr_entry){ .index = 0xdeadbeef };
	m.e[3] = (struct kvm_msr_entry){ .index = 0x176, .data = 0x20 };
	CHECK_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &m), 2);
	CHECK_EQ(vcpu_get_msr(vcpu, 0xc0000082), 0x1234);
	CHECK_EQ(vcpu_get_msr(vcpu, 0x174), 0x10);
	CHECK_EQ(vcpu_get_msr(vcpu, 0x176), 0);
	m.e[0].data = m.e[1].data = 0;
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, &m), 2);
	CHECK_EQ(m.e[0].data, 0x1234);
	CHECK_EQ(m.e[1].data, 0x10);
	m.head.nmsrs = 1 << 20;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_MSRS, &m), E2BIG);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_MSRS, &m), E2BIG);
}

/* Every MSR of the index list can be read, and written back as it is. */
static void test_msr_list(void)
{
	struct {
		struct kvm_msr_list head;
		u32 index[1024];
	} list = { .head.nmsrs = 0 };
	u32 i, n;

	setup(true);
	CHECK_ERR(ioctl(vm->dev, KVM_GET_MSR_INDEX_LIST, &list), E2BIG);
	n = list.head.nmsrs;
	CHECK(n > 20 && n < 1024);
	CHECK_OK(ioctl(vm->dev, KVM_GET_MSR_INDEX_LIST, &list));
	CHECK_EQ(list.head.nmsrs, n);
	for (i = 0; i < n; i++) {
		u64 val;

		if (!vcpu_try_get_msr(vcpu, list.index[i], &val)) {
			CHECKF(vm_is_kvm(), "MSR %#x not readable", list.index[i]);
			continue;
		}
		if (!vcpu_try_set_msr(vcpu, list.index[i], val))
			CHECKF(vm_is_kvm(), "MSR %#x not writable", list.index[i]);
	}
}

/* CPUID */
static void test_cpuid2(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[300];
	} out;
	struct kvm_cpuid2 *in;
	u32 i;

	setup(true); /* without one, less PV is offered */
	in = vm_supported_cpuid(vm->dev);
	CHECK(in->nent > 5 && in->nent < 256);
	out.head.nent = 1;
	CHECK_ERR(ioctl(vm->dev, KVM_GET_SUPPORTED_CPUID, &out), E2BIG);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, in));
	out.head.nent = 300;
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_CPUID2, &out));
	CHECK(out.head.nent == in->nent || vm_is_kvm()); /* 6.1 left it alone */
	for (i = 0; i < in->nent; i++) {
		CHECK_EQ(out.e[i].function, in->entries[i].function);
		CHECK_EQ(out.e[i].index, in->entries[i].index);
		CHECK_EQ(out.e[i].eax, in->entries[i].eax);
	}
	out.head.nent = 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_CPUID2, &out), E2BIG);
	out.head.nent = 1000;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, &out), E2BIG);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, NULL), EFAULT);
}

/* The supported CPUID promises nothing that isn't there: no SVM, no VMX, the KVM leaf. */
static void test_cpuid_honest(void)
{
	struct kvm_cpuid2 *c;
	bool signature = false;
	u32 i;

	setup(false);
	c = vm_supported_cpuid(vm->dev);
	for (i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == 1)
			CHECK(!(e->ecx & 1 << 5));
		if (e->function == 0x80000001 && !vm_is_kvm())
			CHECK(!(e->ecx & 1 << 2));
		if (e->function == 0x40000000)
			signature = e->ebx == 0x4b4d564b;
	}
	CHECK(signature);
}

/* LAPIC, MP state */
static void test_lapic_state(void)
{
	struct kvm_lapic_state in, out;

	setup(true);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &in));
	CHECK_EQ(*(u32 *)(in.regs + 0xf0), 0xff); /* reset state */
	CHECK_EQ(*(u32 *)(in.regs + 0xe0), 0xffffffff);
	CHECK_EQ(*(u32 *)(in.regs + 0x320), 0x10000);
	*(u32 *)(in.regs + 0xf0) = 0x1ff;
	*(u32 *)(in.regs + 0x320) = 0x20040;
	*(u32 *)(in.regs + 0x80) = 0x30;
	*(u32 *)(in.regs + 0x220) = 1 << 5;  /* IRR: vector 0x45 */
	*(u32 *)(in.regs + 0x200) = 0x44000; /* 14 as well, which is never delivered */
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_LAPIC, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &out));
	CHECK_EQ(*(u32 *)(out.regs + 0xf0), 0x1ff);
	CHECK_EQ(*(u32 *)(out.regs + 0x320), 0x20040);
	CHECK_EQ(*(u32 *)(out.regs + 0x80), 0x30);
	CHECK_EQ(*(u32 *)(out.regs + 0x220), 1 << 5);
	CHECK_EQ(*(u32 *)(out.regs + 0x200), 0x44000);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_LAPIC, NULL), EFAULT);
}

static void test_lapic_none(void)
{
	struct kvm_lapic_state state = { 0 };

	setup(false);
	CHECK_ERR(ioctl(vcpu->fd, KVM_GET_LAPIC, &state), EINVAL);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_LAPIC, &state), EINVAL);
}

static void test_mp_state(void)
{
	struct kvm_mp_state mp;
	struct vcpu *ap;
	int got;

	setup(true);
	ap = vcpu_create(vm, 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_OK(ioctl(ap->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	ap->run->immediate_exit = 1;
	got = vcpu_run(ap);
	CHECKF(got == -EAGAIN || got == -EINTR, "%s", vm_exit_name(got));
	mp.mp_state = KVM_MP_STATE_HALTED;
	CHECK_OK(ioctl(ap->fd, KVM_SET_MP_STATE, &mp));
	mp.mp_state = 99;
	CHECK_OK(ioctl(ap->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_HALTED);
	mp.mp_state = KVM_MP_STATE_STOPPED;
	CHECK_ERR(ioctl(ap->fd, KVM_SET_MP_STATE, &mp), EINVAL);
	if (!vm_is_kvm()) { /* KVM takes any number */
		mp.mp_state = 77;
		CHECK_ERR(ioctl(ap->fd, KVM_SET_MP_STATE, &mp), EINVAL);
	}
	CHECK_OK(ioctl(ap->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_HALTED);
}

/* KVM_GET/SET_VCPU_EVENTS */
static void test_vcpu_events(void)
{
	struct kvm_vcpu_events in, out;

	setup(true);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &in));
	in.nmi.pending = 1;
	in.nmi.masked = 1;
	in.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &out));
	CHECK_EQ(out.nmi.pending, 1);
	CHECK_EQ(out.nmi.masked, 1);
	in.exception.injected = 1;
	in.exception.nr = 14;
	in.exception.has_error_code = 1;
	in.exception.error_code = 6;
	in.interrupt.injected = 1;
	in.interrupt.nr = 0x99;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &out));
	CHECK_EQ(out.exception.injected, 1);
	CHECK_EQ(out.exception.nr, 14);
	CHECK_EQ(out.exception.has_error_code, 1);
	CHECK_EQ(out.exception.error_code, 6);
	CHECK_EQ(out.interrupt.injected, 1);
	CHECK_EQ(out.interrupt.nr, 0x99);
	in.flags = 1u << 31;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &in), EINVAL);
	in.flags = 0;
	in.exception.nr = 200;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &in), EINVAL);
	in.exception.nr = 2; /* NMI isn't an exception */
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &in), EINVAL);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &in));
	CHECK(!memcmp(&in, &out, sizeof(in)));
}

/* Debug registers */
static void test_debugregs(void)
{
	struct kvm_debugregs in, out;
	int i;

	setup(false);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &in));
	CHECK_EQ(in.dr6, 0xffff0ff0);
	CHECK_EQ(in.dr7, 0x400);
	for (i = 0; i < 4; i++)
		in.db[i] = 0x1000 * i + 8;
	in.dr6 = 0xffff0ff1;
	in.dr7 = 0x402;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &in));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &out));
	CHECK(!memcmp(&in, &out, sizeof(in)));
	in.dr7 = 1ULL << 40;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &in), EINVAL);
	in.dr7 = 0x400;
	in.dr6 = 1ULL << 40;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &in), EINVAL);
	in.dr6 = 0xffff0ff0;
	in.flags = 1;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &in), EINVAL);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &in));
	CHECK(!memcmp(&in, &out, sizeof(in)));
}

/* Clock */
static void test_clock(void)
{
	struct kvm_clock_data c = { .clock = 1000000000000ULL }, now;

	setup(false);
	CHECK_OK(ioctl(vm->fd, KVM_SET_CLOCK, &c));
	CHECK_OK(ioctl(vm->fd, KVM_GET_CLOCK, &now));
	CHECK(now.clock >= c.clock && now.clock < c.clock + 10000000000ULL);
	c.flags = 1u << 31;
	CHECK_ERR(ioctl(vm->fd, KVM_SET_CLOCK, &c), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_CLOCK, NULL), EFAULT);
}

/* PIT */
static void test_pit2(void)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_pit_state2 in, out;

	setup(true);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_PIT2, &out), ENXIO);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &config), EEXIST);
	CHECK_OK(ioctl(vm->fd, KVM_GET_PIT2, &in));
	in.channels[2].count = 0x1234;
	in.channels[2].mode = 3;
	in.channels[2].gate = 1;
	CHECK_OK(ioctl(vm->fd, KVM_SET_PIT2, &in));
	CHECK_OK(ioctl(vm->fd, KVM_GET_PIT2, &out));
	CHECK_EQ(out.channels[2].count, 0x1234);
	CHECK_EQ(out.channels[2].mode, 3);
	CHECK_EQ(out.channels[2].gate, 1);
}

static void test_pit2_none(void)
{
	struct kvm_pit_config config = { 0 };

	setup(false);
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &config) == 0) {
		CHECK(vm_is_kvm()); /* 6.1 took it */
		return;
	}
	CHECKF(errno == ENOENT || errno == ENXIO || errno == EINVAL, "errno %d", errno);
}

/* Random PIT states are refused or harmless (CVE-2015-7513). */
static void test_pit2_random(void)
{
	struct kvm_pit_config config = { 0 };
	struct kvm_pit_state2 s;
	int i;

	setup(true);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	for (i = 0; i < 200; i++) {
		random_bytes(&s, sizeof(s));
		if (i & 1)
			s.channels[0].count = 0;
		ioctl(vm->fd, KVM_SET_PIT2, &s);
		CHECK_OK(ioctl(vm->fd, KVM_GET_PIT2, &s));
	}
}

/* IRQCHIP: three chips */
static void test_irqchip_state(void)
{
	struct kvm_irqchip in = { 0 }, out = { 0 };

	setup(true);
	in.chip_id = out.chip_id = KVM_IRQCHIP_PIC_MASTER;
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &in));
	in.chip.pic.imr = 0x5a;
	in.chip.pic.irq_base = 0x20;
	in.chip.pic.elcr = 0xf8;
	CHECK_OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &in));
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &out));
	CHECK_EQ(out.chip.pic.imr, 0x5a);
	CHECK_EQ(out.chip.pic.irq_base, 0x20);
	/* What is set can be got, also what no guest could have set. */
	in.chip.pic.irq_base = 10;
	in.chip.pic.elcr_mask = 0;
	CHECK_OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &in));
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &out));
	CHECK_EQ(out.chip.pic.irq_base, 10);
	CHECK_EQ(out.chip.pic.elcr_mask, 0);
	in.chip_id = out.chip_id = KVM_IRQCHIP_IOAPIC;
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &in));
	CHECK_EQ(in.chip.ioapic.base_address, 0xfec00000);
	CHECK_EQ(in.chip.ioapic.redirtbl[5].bits & 0x10000, 0x10000); /* masked at reset */
	in.chip.ioapic.redirtbl[5].bits = 0x100000000010045;
	CHECK_OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &in));
	CHECK_OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &out));
	CHECK_EQ(out.chip.ioapic.redirtbl[5].bits, 0x100000000010045);
	in.chip_id = 3;
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &in), EINVAL);
}

static void test_irqchip_none(void)
{
	struct kvm_irqchip chip = { 0 };
	struct kvm_irq_level line = { .irq = 4, .level = 1 };

	setup(false);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	CHECK_ERR(ioctl(vm->fd, KVM_IRQ_LINE, &line), ENXIO);
}

/* The irqchip after a vCPU, twice (security row 34). */
static void test_irqchip_order(void)
{
	setup(false);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
	vm_destroy(vm);
	setup(true);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
}

/* TSC frequency */
static void test_tsc_khz(void)
{
	int khz;

	setup(false);
	khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	CHECK(khz > 1000);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz));
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0), khz);
	if (!ioctl(vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL))
		return;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz / 2));
	CHECK_EQ(ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0), khz / 2);
}

/* KVMCLOCK_CTRL before the guest has a clock */
static void test_kvmclock_ctrl(void)
{
	setup(false);
	CHECK_ERR(ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0), EINVAL);
}

/* KVM_TRANSLATE */
static void test_translate(void)
{
	struct kvm_translation tr = { .linear_address = 0x12345 };

	setup(false);
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.valid, 1);
	CHECK_EQ(tr.physical_address, 0x12345);
	tr.linear_address = 1ULL << 45;
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.valid, 0);
	vcpu_set_mode(vcpu, MODE_PM32_PAGING, 0, VM_CODE_GPA);
	tr.linear_address = 0xfee00123;
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.valid, 1);
	CHECK_EQ(tr.physical_address, 0xfee00123);
	vcpu_set_mode(vcpu, MODE_PAE, 0, VM_CODE_GPA);
	tr.linear_address = 0x7654321;
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.physical_address, 0x7654321);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	tr.linear_address = 0x54321;
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.physical_address, 0x54321);
	tr.linear_address = ~0ULL; /* more than 32 bits: no address in this mode */
	CHECK_OK(ioctl(vcpu->fd, KVM_TRANSLATE, &tr));
	CHECK_EQ(tr.valid, 0);
}

/* The kvmclock page: version even, time that grows. */
static volatile u64 clock_page[512] __attribute__((aligned(4096)));

static void guest_kvmclock(u64 arg)
{
	struct pvclock {
		u32 version, pad;
		u64 tsc, time;
		u32 mul;
		signed char shift;
		u8 flags;
	} volatile *clock = (void *)clock_page;
	u64 now;

	(void)arg;
	wrmsr(0x4b564d01, (u64)clock_page | 1);
	outb(0x10, 0);
	guest_assert_eq(clock->version & 1, 0);
	guest_assert(clock->version);
	guest_assert(clock->mul);
	now = rdtsc();
	if (clock->tsc > now)
		guest_fail("clock->tsc is ahead of the TSC", __LINE__, clock->tsc, now);
	wrmsr(0x4b564d01, 0);
	guest_done();
}

static void test_kvmclock(void)
{
	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_kvmclock, 0);
	vcpu_expect_out(vcpu, 0x10, 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Unknown ioctls and extensions */
static void test_unknown(void)
{
	setup(false);
	CHECK_ERR(ioctl(vm->dev, _IO(KVMIO, 0xfe), 0), EINVAL);
	CHECK(ioctl(vm->fd, _IO(KVMIO, 0xfe), 0) == -1 && (errno == EINVAL || errno == ENOTTY));
	CHECK(ioctl(vcpu->fd, _IO(KVMIO, 0xfe), 0) == -1 && (errno == EINVAL || errno == ENOTTY));
	CHECK_EQ(ioctl(vm->dev, KVM_CHECK_EXTENSION, 0x7fffffff), 0);
	CHECK_EQ(ioctl(vm->fd, KVM_CHECK_EXTENSION, 0x7fffffff), 0);
	CHECK_EQ(ioctl(vm->dev, KVM_GET_API_VERSION, 0), 12);
	CHECK_ERR(ioctl(vm->dev, KVM_GET_API_VERSION, 1), EINVAL);
	CHECK_ERR(ioctl(vm->dev, KVM_CREATE_VM, 0x7777), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, ~0UL), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0x80000000UL), EINVAL);
}

static const struct ktap_test tests[] = {
	{ "defined_bytes", test_defined_bytes, 0 },
	{ "defined_bytes_pit", test_defined_bytes_pit, 0 },
	{ "defined_bytes_irqchip", test_defined_bytes_irqchip, 0 },
	{ "defined_bytes_clock", test_defined_bytes_clock, 0 },
	{ "regs", test_regs, 0 },
	{ "sregs", test_sregs, 0 },
	{ "sregs_bad", test_sregs_bad, 0 },
	{ "sregs_random", test_sregs_random, 120 },
	{ "sregs_osxsave", test_sregs_osxsave, 0 },
	{ "fpu", test_fpu, 0 },
	{ "xsave", test_xsave, 0 },
	{ "xcrs", test_xcrs, 0 },
	{ "msrs", test_msrs, 0 },
	{ "msr_list", test_msr_list, 0 },
	{ "cpuid2", test_cpuid2, 0 },
	{ "cpuid_honest", test_cpuid_honest, 0 },
	{ "lapic_state", test_lapic_state, 0 },
	{ "lapic_none", test_lapic_none, 0 },
	{ "mp_state", test_mp_state, 0 },
	{ "vcpu_events", test_vcpu_events, 0 },
	{ "debugregs", test_debugregs, 0 },
	{ "clock", test_clock, 0 },
	{ "pit2", test_pit2, 0 },
	{ "pit2_none", test_pit2_none, 0 },
	{ "pit2_random", test_pit2_random, 0 },
	{ "irqchip_state", test_irqchip_state, 0 },
	{ "irqchip_none", test_irqchip_none, 0 },
	{ "irqchip_order", test_irqchip_order, 0 },
	{ "tsc_khz", test_tsc_khz, 0 },
	{ "kvmclock_ctrl", test_kvmclock_ctrl, 0 },
	{ "kvmclock", test_kvmclock, 0 },
	{ "translate", test_translate, 0 },
	{ "unknown", test_unknown, 0 },
};

KTAP_MAIN(tests)
