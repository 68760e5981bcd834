// SPDX-License-Identifier: GPL-2.0
/*
 * Paravirtualization: what CPUID leaf 0x40000001 offers works, and what it does
 * not offer is not there.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"
#include "vm.h"

#define FEATURE_STEAL	 5
#define FEATURE_EOI	 6
#define FEATURE_UNHALT	 7
#define FEATURE_FLUSH	 9
#define FEATURE_IPI	 11
#define FEATURE_POLL	 12
#define FEATURE_YIELD	 13
#define MSR_STEAL	 0x4b564d03
#define MSR_EOI		 0x4b564d04
#define MSR_POLL	 0x4b564d05
#define HC_POLL_IRQ	 1
#define HC_KICK_CPU	 5
#define HC_SEND_IPI	 10
#define HC_SCHED_YIELD	 11
#define ENOSYS_KVM	 1000
#define EINVAL_KVM	 22
#define HC_MAP_GPA_RANGE 12
#define NR_ALL \
	(1 << FEATURE_STEAL | 1 << FEATURE_EOI | 1 << FEATURE_UNHALT | 1 << FEATURE_FLUSH | \
	 1 << FEATURE_IPI | 1 << FEATURE_POLL | 1 << FEATURE_YIELD)

struct steal {
	u64 steal;
	u32 version, flags;
	u8 preempted, pad[47];
};

static struct vm *vm;
static struct vcpu *vcpu;

static void setup(void (*fn)(u64))
{
	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, fn, 0);
}

static struct vcpu *second(void (*fn)(u64), u32 id)
{
	struct vcpu *v = vcpu_create(vm, id);

	CHECK_OK(ioctl(v->fd, KVM_SET_MP_STATE,
		       &(struct kvm_mp_state){ .mp_state = KVM_MP_STATE_RUNNABLE }));
	vcpu_set_guest(v, fn, 0);
	return v;
}

/* The PV leaf of @v with only these bits. */
static void offer(struct vcpu *v, u32 bits)
{
	struct kvm_cpuid2 *c = vm_supported_cpuid(vm->dev);
	u32 i;

	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0x40000001)
			c->entries[i].eax = bits;
	CHECK_OK(ioctl(v->fd, KVM_SET_CPUID2, c));
}

static int enable(u32 cap, u64 arg, u32 flags)
{
	struct kvm_enable_cap e = { .cap = cap, .flags = flags, .args = { arg } };

	return ioctl(vcpu->fd, KVM_ENABLE_CAP, &e);
}

static u64 vmmcall(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	u64 ret;

	asm volatile("vmmcall"
		     : "=a"(ret)
		     : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3)
		     : "memory");
	return ret;
}

static void test_cpuid(void)
{
	struct kvm_cpuid2 *c;
	u32 i, bits = 0;

	setup(NULL);
	c = vm_supported_cpuid(vm->dev);
	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0x40000001)
			bits = c->entries[i].eax;
	CHECK_EQ(bits & NR_ALL, NR_ALL);
	CHECK_EQ(bits & 11, 11);
	if (!vm_is_kvm()) /* no asynchronous page faults, no migration control */
		CHECK_EQ(bits & (1 << 4 | 1 << 10 | 1 << 14 | 1 << 16 | 1 << 17), 0);
}

static void guest_msrs(u64 arg)
{
	u64 val;

	(void)arg;
	guest_assert_eq(rdmsr(MSR_POLL), 1);
	guest_assert_eq(guest_try_wrmsr(MSR_POLL, 2), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_POLL, 0), NO_EXCEPTION);
	guest_assert_eq(rdmsr(MSR_POLL), 0);
	guest_assert_eq(guest_try_wrmsr(MSR_STEAL, VM_FREE_GPA | 3), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_STEAL, VM_FREE_GPA | 0x21), 13);
	guest_assert_eq(rdmsr(MSR_STEAL), 0);
	guest_assert_eq(guest_try_wrmsr(MSR_STEAL, VM_FREE_GPA | 1), NO_EXCEPTION);
	guest_assert_eq(rdmsr(MSR_STEAL), VM_FREE_GPA | 1);
	guest_assert_eq(guest_try_wrmsr(MSR_EOI, VM_FREE_GPA | 3), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_EOI, (VM_FREE_GPA + 0x104) | 1), NO_EXCEPTION);
	guest_assert_eq(guest_try_rdmsr(MSR_EOI, &val), NO_EXCEPTION);
	guest_assert_eq(val, (VM_FREE_GPA + 0x104) | 1);
	guest_done();
}

static void test_msrs(void)
{
	if (vm_is_kvm())
		ktap_skip("kvm_amd takes MSR_KVM_PV_EOI_EN as write-only");
	setup(guest_msrs);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_POLL), 0);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_STEAL), VM_FREE_GPA | 1);
	vcpu_set_msr(vcpu, MSR_POLL, 1);
	CHECK(!vcpu_try_set_msr(vcpu, MSR_STEAL, 3));
}

static void guest_nothing(u64 arg)
{
	u64 val;

	(void)arg;
	guest_assert_eq(guest_try_rdmsr(MSR_POLL, &val), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_STEAL, VM_FREE_GPA | 1), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_EOI, VM_FREE_GPA | 1), 13);
	guest_assert_eq(vmmcall(HC_KICK_CPU, 0, 0, 0, 0), -ENOSYS_KVM);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 1, 0, 0, 0x40), -ENOSYS_KVM);
	guest_assert_eq(vmmcall(HC_SCHED_YIELD, 0, 0, 0, 0), -ENOSYS_KVM);
	guest_done();
}

/* A vCPU whose CPUID has none of it, and has to mean it. */
static void test_not_offered(void)
{
	setup(guest_nothing);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_ENFORCE_PV_FEATURE_CPUID), 1);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_STEAL_TIME), 1);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_ENABLE_CAP), 1);
	CHECK_ERR(enable(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 1), EINVAL);
	CHECK_ERR(enable(KVM_CAP_STEAL_TIME, 1, 0), EINVAL);
	CHECK_OK(enable(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 0));
	offer(vcpu, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void guest_unenforced(u64 arg)
{
	u64 val;

	(void)arg;
	guest_assert_eq(guest_try_rdmsr(MSR_POLL, &val), NO_EXCEPTION);
	guest_assert_eq(guest_try_wrmsr(MSR_STEAL, VM_FREE_GPA | 1), NO_EXCEPTION);
	guest_assert_eq(guest_try_wrmsr(0x4b564d01, 0), NO_EXCEPTION);
	guest_assert_eq(vmmcall(HC_KICK_CPU, 0, 0, 0, 0), 0);
	guest_done();
}

/* Without an APIC in the kernel, what needs one is not offered. */
static void test_no_irqchip(void)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	u32 i, bits = 0;

	if (vm_is_kvm())
		ktap_skip("kvm_amd leaves that to the VMM");
	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	offer(vcpu, NR_ALL);
	c->nent = 256;
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_CPUID2, c));
	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0x40000001)
			bits = c->entries[i].eax;
	CHECK_EQ(bits, NR_ALL & ~(1 << FEATURE_EOI | 1 << FEATURE_UNHALT | 1 << FEATURE_IPI));
	free(c);
}

/* As long as nobody asks for it, CPUID forbids nothing. */
static void test_unenforced(void)
{
	setup(guest_unenforced);
	CHECK_OK(enable(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 0));
	CHECK_OK(enable(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 0));
	offer(vcpu, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* What a migration carries over. */
static void test_msr_list(void)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 4096 * sizeof(u32));
	u32 i, seen = 0;

	setup(NULL);
	list->nmsrs = 4096;
	CHECK_OK(ioctl(vm->dev, KVM_GET_MSR_INDEX_LIST, list));
	for (i = 0; i < list->nmsrs; i++)
		if (list->indices[i] - MSR_STEAL < 3)
			seen |= 1 << (list->indices[i] - MSR_STEAL);
	CHECK_EQ(seen, 7);
	free(list);
}

static void guest_hypercalls(u64 arg)
{
	u64 ret, vec;

	(void)arg;
	guest_assert_eq(vmmcall(HC_POLL_IRQ, 0, 0, 0, 0), 0);
	guest_assert_eq(vmmcall(0x1234, 0, 0, 0, 0), -ENOSYS_KVM);
	guest_assert_eq(vmmcall(1ULL << 32 | HC_POLL_IRQ, 0, 0, 0, 0), -ENOSYS_KVM);
	/* VMCALL as well, and only VMCALL: another #UD is the guest's. */
	GUEST_TRY(vec, "vmcall", OUT("=a"(ret)), IN("a"(HC_POLL_IRQ), "b"(0)));
	guest_assert_eq(vec, NO_EXCEPTION);
	guest_assert_eq(ret, 0);
	GUEST_TRY(vec, "vmcall", OUT("=a"(ret)), IN("a"(0x1234), "b"(0)));
	guest_assert_eq(vec, NO_EXCEPTION);
	guest_assert_eq(ret, -ENOSYS_KVM);
	GUEST_TRY(vec, "ud2", OUT("+a"(ret)), IN("b"(0)));
	guest_assert_eq(vec, 6);
	GUEST_TRY(vec, ".byte 0x0f, 0x01, 0xc7", OUT("+a"(ret)), IN("b"(0)));
	guest_assert_eq(vec, 6);
	guest_done();
}

static void test_hypercalls(void)
{
	setup(guest_hypercalls);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

PAYLOAD(hyper_user, "mov $1, %eax\n"
		    "vmmcall\n"
		    "mov %rax, %r8\n"
		    "mov $1, %eax\n"
		    "vmcall\n"
		    "mov %rax, %r9\n"
		    "out %al, $0x10\n");
PAYLOAD(hyper_32, ".code32\n"
		  "mov $1, %eax\n"
		  "vmcall\n"
		  "mov %eax, %esi\n"
		  "mov $0x1234, %eax\n"
		  "vmmcall\n"
		  "out %al, $0x10\n");

/* From CPL 3 both are refused; in 32-bit mode the registers have 32 bits. */
static void test_hypercall_modes(void)
{
	struct kvm_regs r;

	if (vm_is_kvm())
		ktap_skip("kvm_amd patches VMCALL, which fails from CPL 3");
	setup(NULL);
	vm_load_payload(vm, VM_CODE_GPA, hyper_user);
	vcpu_set_mode(vcpu, MODE_LONG, 3, VM_CODE_GPA);
	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.r8, -1ULL);
	CHECK_EQ(r.r9, -1ULL);
	vcpu_complete(vcpu);
	vm_load_payload(vm, VM_CODE_GPA, hyper_32);
	vcpu_set_mode(vcpu, MODE_PM32, 0, VM_CODE_GPA);
	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.rsi, 0);
	CHECK_EQ(r.rax, (u32)-ENOSYS_KVM);
}

/* KVM_HC_MAP_GPA_RANGE is userspace's where it asked for it. */
static void guest_map_range(u64 arg)
{
	(void)arg;
	guest_assert_eq(vmmcall(HC_MAP_GPA_RANGE, 0x1234000, 1, 5, 0), -ENOSYS_KVM);
	guest_sync(1);
	guest_assert_eq(vmmcall(HC_MAP_GPA_RANGE, 0x1234000, 2, 5, 0), 0x1111222233334444);
	guest_assert_eq(vmmcall(HC_MAP_GPA_RANGE, 0x1234001, 2, 5, 0), -EINVAL_KVM);
	guest_assert_eq(vmmcall(HC_MAP_GPA_RANGE, 0x1234000, 0, 5, 0), -EINVAL_KVM);
	guest_assert_eq(vmmcall(HC_MAP_GPA_RANGE, 0x1234000, -1ULL, 5, 0), -EINVAL_KVM);
	guest_done();
}

static void test_exit_hypercall(void)
{
	struct kvm_enable_cap e = { .cap = KVM_CAP_EXIT_HYPERCALL, .args = { 1 << 11 } };
	struct kvm_run *run;
	struct kvm_regs r;
	u64 rip;

	setup(guest_map_range);
	run = vcpu->run;
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_EXIT_HYPERCALL), 1 << HC_MAP_GPA_RANGE);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	e.args[0] = 1 << HC_MAP_GPA_RANGE;
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &e));
	vcpu_expect(vcpu, KVM_EXIT_HYPERCALL);
	CHECK_EQ(run->hypercall.nr, HC_MAP_GPA_RANGE);
	CHECK_EQ(run->hypercall.args[0], 0x1234000);
	CHECK_EQ(run->hypercall.args[1], 2);
	CHECK_EQ(run->hypercall.args[2], 5);
	CHECK_EQ(*(u64 *)(&run->hypercall.ret + 1), 1); /* KVM_EXIT_HYPERCALL_LONG_MODE */
	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.rax, HC_MAP_GPA_RANGE);
	rip = r.rip;
	run->hypercall.ret = 0x1111222233334444;
	vcpu_complete(vcpu);
	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.rip, rip + 3);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static volatile u64 ipis[128], nmis[128], ready, sent, stop, eoi_skipped;

static u32 my_id(void)
{
	return apic_read(0x20) >> 24;
}

static void on_ipi(struct guest_frame *f)
{
	(void)f;
	apic_write(0xb0, 0);
	ipis[my_id()]++;
}

static void on_nmi(struct guest_frame *f)
{
	(void)f;
	nmis[my_id()]++;
}

static void apic_on(void)
{
	guest_handlers[0x40] = on_ipi;
	guest_handlers[2] = on_nmi;
	apic_write(0xf0, 0x1ff);
}

static void guest_receiver(u64 arg)
{
	(void)arg;
	apic_on();
	sti();
	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	while (!stop)
		cpu_relax();
	guest_done();
}

#define WAIT(cond) \
	do { \
		u64 _n; \
		for (_n = 0; !(cond) && _n < 1ULL << 32; _n++) \
			cpu_relax(); \
		guest_assert(cond); \
	} while (0)

static void guest_sender(u64 arg)
{
	(void)arg;
	apic_on();
	sti();
	WAIT(ready == 3);
	/* Ids 1 and 2, from a base of 0; then from a base of 1; then with nobody there. */
	guest_assert_eq(vmmcall(HC_SEND_IPI, 6, 0, 0, 0x40), 2);
	WAIT(ipis[1] == 1 && ipis[2] == 1);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 3, 0, 1, 0x40), 2);
	WAIT(ipis[1] == 2 && ipis[2] == 2);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 0xf0, 0, 100, 0x40), 0);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 1, 0, 255, 0x40), 0);
	/* Ids do not wrap. The second word goes on where the first ends. */
	guest_assert_eq(vmmcall(HC_SEND_IPI, 0, 1, (u32)-63, 0x40), 0);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 2, 1 << 6, 0, 0x40), 2);
	WAIT(ipis[1] == 3 && ipis[70] == 1);
	/* The bit map says where to. */
	guest_assert_eq(vmmcall(HC_SEND_IPI, 2, 0, 0, 0x840), -22);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 2, 0, 0, 0x80040), -22);
	guest_assert_eq(vmmcall(HC_SEND_IPI, 4, 0, 0, 0x400), 1);
	WAIT(nmis[2] == 1);
	/* Itself. */
	guest_assert_eq(vmmcall(HC_SEND_IPI, 1, 0, 0, 0x40), 1);
	WAIT(ipis[0] == 1);
	guest_assert_eq(ipis[1], 3);
	guest_assert_eq(ipis[2], 2);
	stop = 1;
	guest_done();
}

static void test_ipi(void)
{
	struct runner r[3] = { { .cpu = -1 }, { .cpu = -1 }, { .cpu = -1 } };

	setup(guest_sender);
	r[0].vcpu = second(guest_receiver, 1);
	r[1].vcpu = second(guest_receiver, 2);
	r[2].vcpu = second(guest_receiver, 70);
	runner_start(&r[0]);
	runner_start(&r[1]);
	runner_start(&r[2]);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	runner_join(&r[0]);
	runner_join(&r[1]);
	runner_join(&r[2]);
}

static volatile u64 woken;

static void guest_sleeper(u64 arg)
{
	u64 i;

	(void)arg;
	apic_on();
	cli();
	for (i = 1; i <= 50; i++) {
		ready = i;
		hlt();
		woken = i;
	}
	guest_done();
}

static void guest_kicker(u64 arg)
{
	u64 i, n;

	(void)arg;
	for (i = 1; i <= 50; i++) {
		WAIT(ready == i);
		/* Sometimes before it sleeps, sometimes after. */
		for (n = 0; n < (i & 7) << 12; n++)
			cpu_relax();
		guest_assert_eq(woken, i - 1);
		guest_assert_eq(vmmcall(HC_KICK_CPU, 0, 1, 0, 0), 0);
		WAIT(woken == i);
	}
	guest_assert_eq(vmmcall(HC_KICK_CPU, 0, 77, 0, 0), 0);
	guest_done();
}

/* HLT with interrupts off ends by a kick, one that came before included; never without. */
static void test_kick(void)
{
	struct runner r = { .cpu = -1 };

	setup(guest_kicker);
	r.vcpu = second(guest_sleeper, 1);
	runner_start(&r);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	runner_join(&r);
}

static void guest_yielder(u64 arg)
{
	u64 i;

	(void)arg;
	for (i = 0; i < 200; i++)
		guest_assert_eq(vmmcall(HC_SCHED_YIELD, i % 4, 0, 0, 0), 0);
	guest_done();
}

static void test_yield(void)
{
	struct runner r = { .cpu = -1 };

	setup(guest_yielder);
	r.vcpu = second(guest_yielder, 1);
	runner_start(&r);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	runner_join(&r);
}

/* --- PV EOI --- */

static volatile u32 eoi_word __attribute__((aligned(64)));
static volatile u64 eoi_irqs, eoi_explicit;

static void on_eoi_irq(struct guest_frame *f)
{
	u8 was;

	(void)f;
	eoi_irqs++;
	asm volatile("btrl $0, %1\n\tsetc %0" : "=r"(was), "+m"(eoi_word)::"cc");
	if (was) {
		eoi_skipped++;
	} else {
		apic_write(0xb0, 0);
		eoi_explicit++;
	}
}

static void self_ipi(u8 vector)
{
	apic_write(0x300, 0x44000 | vector);
	sti_nop_cli();
}

/* ISR of a vector, as the APIC shows it. */
static bool in_service(u8 vector)
{
	return apic_read(0x100 + vector / 32 * 16) >> (vector & 31) & 1;
}

static void on_nested(struct guest_frame *f)
{
	(void)f;
	/* A second interrupt waits: the EOI of this one must come at once. */
	apic_write(0x300, 0x44000 | 0x40);
	guest_assert(in_service(0x50));
	on_eoi_irq(f);
	guest_assert(!in_service(0x50));
}

static void guest_eoi(u64 arg)
{
	u64 i;

	(void)arg;
	guest_handlers[0x40] = on_eoi_irq;
	guest_handlers[0x50] = on_nested;
	apic_write(0xf0, 0x1ff);
	self_ipi(0x40);
	guest_assert_eq(eoi_irqs, 1);
	guest_assert_eq(eoi_explicit, 1);
	wrmsr(MSR_EOI, (u64)&eoi_word | 1);
	for (i = 0; i < 20; i++) {
		self_ipi(0x40);
		guest_assert_eq(eoi_irqs, i + 2);
		guest_assert(!in_service(0x40));
		guest_assert_eq(eoi_word & 1, 0);
	}
	/* Not a single one was left out? Then it does nothing. */
	guest_assert(eoi_skipped);
	eoi_irqs = 0;
	self_ipi(0x50);
	sti_nop_cli();
	guest_assert_eq(eoi_irqs, 2);
	guest_assert(!in_service(0x40));
	wrmsr(MSR_EOI, 0);
	i = eoi_explicit;
	self_ipi(0x40);
	guest_assert_eq(eoi_explicit, i + 1);
	guest_sync(eoi_skipped);
	guest_done();
}

static void test_eoi(void)
{
	setup(guest_eoi);
	ktap_diag("%llu EOIs left out", (unsigned long long)vcpu_run_guest(vcpu));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void on_long_irq(struct guest_frame *f)
{
	guest_sync(1);
	on_eoi_irq(f);
}

static void guest_eoi_exit(u64 arg)
{
	(void)arg;
	guest_handlers[0x40] = on_long_irq;
	apic_write(0xf0, 0x1ff);
	wrmsr(MSR_EOI, (u64)&eoi_word | 1);
	self_ipi(0x40);
	guest_assert(!in_service(0x40));
	guest_sync(2);
	guest_done();
}

/* While userspace looks, nothing is in the balance: the APIC's state is all there is. */
static void test_eoi_state(void)
{
	struct kvm_lapic_state s;

	setup(guest_eoi_exit);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &s));
	CHECK_EQ(*(u32 *)(s.regs + 0x120), 1);
	CHECK_EQ(*guest_ptr(vm, eoi_word) & 1, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &s));
	CHECK_EQ(*(u32 *)(s.regs + 0x120), 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* --- steal time --- */

static struct steal steal_area __attribute__((aligned(64)));

static void guest_steal(u64 arg)
{
	volatile struct steal *s = &steal_area;
	u64 end, first, last;

	(void)arg;
	wrmsr(MSR_STEAL, (u64)s | 1);
	guest_sync(1);
	first = s->steal;
	/* Compete with the host's thread for a while. */
	for (end = rdtsc() + (30ULL << 30); rdtsc() < end && s->steal < first + 50000000;)
		cpu_relax();
	guest_assert_eq(s->version & 1, 0);
	guest_assert(s->version >= 2);
	guest_assert_eq(s->flags, 0);
	guest_assert_eq(s->preempted, 0);
	last = s->steal;
	guest_sync(last - first);
	/* What is stolen in userspace is known as soon as the guest runs on. */
	guest_sync(s->steal - last);
	guest_done();
}

static volatile bool hog_stop;

static void *hog(void *arg)
{
	bind_cpu(0);
	while (!hog_stop)
		;
	return arg;
}

static void test_steal(void)
{
	u64 stolen, end;
	pthread_t t;

	setup(guest_steal);
	bind_cpu(0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK(!pthread_create(&t, NULL, hog, NULL));
	stolen = vcpu_run_guest(vcpu);
	for (end = now_ms() + 200; now_ms() < end;)
		;
	hog_stop = true;
	pthread_join(t, NULL);
	CHECKF(stolen > 1000000, "%llu ns", (unsigned long long)stolen);
	stolen = vcpu_run_guest(vcpu);
	CHECKF(stolen > 1000000, "%llu ns in userspace", (unsigned long long)stolen);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A sleeping vCPU is marked; a flush left for it is taken, the mark goes. */
static void on_wake(struct guest_frame *f)
{
	(void)f;
}

static void guest_halted(u64 arg)
{
	(void)arg;
	guest_handlers[2] = on_wake;
	wrmsr(MSR_STEAL, (u64)&steal_area | 1);
	ready = 1;
	cli();
	hlt();
	guest_assert_eq(steal_area.preempted, 0);
	guest_done();
}

static void test_preempted(void)
{
	volatile struct steal *s;
	struct runner r = { .cpu = -1 };
	u64 end;

	if (vm_is_kvm())
		ktap_skip("kvm_amd marks no vCPU that halts");
	setup(guest_halted);
	r.vcpu = vcpu;
	runner_start(&r);
	s = guest_ptr(vm, steal_area);
	for (end = now_ms() + 10000; !(s->preempted & 1) && now_ms() < end;)
		sleep_ms(1);
	CHECK_EQ(s->preempted, 1);
	s->preempted = 3;
	CHECK_OK(ioctl(vm->fd, KVM_SIGNAL_MSI,
		       &(struct kvm_msi){ .address_lo = 0xfee00000, .data = 0x400 }));
	runner_join(&r);
	CHECK_EQ(s->preempted & 2, 0);
}

/* The flush that was left for it: a stale translation is gone when the vCPU runs again. */
#define FLUSH_VA  (1ULL << 30)
#define FLUSH_PDE (VM_PT_GPA + 0x3000)

static void guest_flushed(u64 arg)
{
	(void)arg;
	guest_handlers[2] = on_wake;
	wrmsr(MSR_STEAL, (u64)&steal_area | 1);
	guest_assert_eq(*(volatile u64 *)FLUSH_VA, 0x1111);
	ready = 1;
	cli();
	hlt();
	guest_assert_eq(*(volatile u64 *)FLUSH_VA, 0x2222);
	guest_done();
}

static void test_flush(void)
{
	volatile struct steal *s;
	struct runner r = { .cpu = -1 };
	u64 *pde, end;

	if (vm_is_kvm())
		ktap_skip("kvm_amd marks no vCPU that halts");
	setup(guest_flushed);
	pde = vm_hva(vm, FLUSH_PDE);
	pde[0] = (VM_FREE_GPA + (2 << 20)) | 0xe3;
	*(u64 *)vm_hva(vm, VM_FREE_GPA + (2 << 20)) = 0x1111;
	*(u64 *)vm_hva(vm, VM_FREE_GPA + (4 << 20)) = 0x2222;
	r.vcpu = vcpu;
	runner_start(&r);
	s = guest_ptr(vm, steal_area);
	for (end = now_ms() + 10000;
	     !(*guest_ptr(vm, ready) && (s->preempted & 1)) && now_ms() < end;)
		sleep_ms(1);
	CHECK_EQ(s->preempted, 1);
	pde[0] = (VM_FREE_GPA + (4 << 20)) | 0xe3;
	s->preempted = 3;
	CHECK_OK(ioctl(vm->fd, KVM_SIGNAL_MSI,
		       &(struct kvm_msi){ .address_lo = 0xfee00000, .data = 0x400 }));
	runner_join(&r);
}

/* Areas in memory that goes away, is elsewhere then, or never was there: nothing stale is written. */
#define AREA_GPA (1ULL << 30)

static void guest_areas(u64 gpa)
{
	u64 i;

	guest_handlers[0x40] = on_eoi_irq;
	apic_write(0xf0, 0x1ff);
	wrmsr(MSR_STEAL, gpa | 1);
	wrmsr(MSR_EOI, (gpa + 64) | 1);
	for (i = 1;; i++) {
		apic_write(0x380, 0);
		self_ipi(0x40);
		guest_assert_eq(eoi_irqs, i);
		guest_assert(!in_service(0x40));
		/* Its thread sleeps and wakes up again. */
		apic_write(0x320, 0x40);
		apic_write(0x380, 5000000);
		sti_hlt();
		cli();
		guest_assert_eq(eoi_irqs, ++i);
		guest_sync(i);
	}
}

static bool untouched(const u8 *p)
{
	u32 i;

	for (i = 0; i < 4096; i++)
		if (p[i] != 0xaa)
			return false;
	return true;
}

/* The thread does not sleep each time: the timer may have been quicker. */
static void run_until_updated(volatile struct steal *s, u64 *n)
{
	u32 tries;

	for (tries = 0; tries < 50 && s->version < 2; tries++, *n += 2)
		CHECK_EQ(vcpu_run_guest(vcpu), *n);
	CHECK(s->version >= 2);
	CHECK_EQ(s->version & 1, 0);
}

static void test_areas(void)
{
	u64 n = 2;
	u8 *first, *other;

	setup(guest_areas);
	first = vm_add_mem(vm, 1, AREA_GPA, 2 << 20);
	vcpu_set_guest(vcpu, guest_areas, AREA_GPA);
	run_until_updated((void *)first, &n);
	vm_set_slot(vm, 1, AREA_GPA, first, 0, 0);
	memset(first, 0xaa, 4096);
	CHECK_EQ(vcpu_run_guest(vcpu), n);
	CHECK(untouched(first));
	n += 2;
	other = vm_add_mem(vm, 1, AREA_GPA, 2 << 20);
	run_until_updated((void *)other, &n);
	CHECK(untouched(first));
	/* Read-only. */
	vm_set_slot(vm, 1, AREA_GPA, other, 0, 0);
	vm_set_slot(vm, 1, AREA_GPA, first, 2 << 20, KVM_MEM_READONLY);
	CHECK_EQ(vcpu_run_guest(vcpu), n);
	CHECK(untouched(first));
	n += 2;
	/* Pages that are not there come back by and by; here, as zeroes. */
	vm_set_slot(vm, 1, AREA_GPA, first, 0, 0);
	vm_set_slot(vm, 1, AREA_GPA, other, 2 << 20, 0);
	CHECK(!madvise(other, 2 << 20, MADV_DONTNEED));
	run_until_updated((void *)other, &n);
}

/* INIT takes the areas back from the guest. */
static void test_init_resets(void)
{
	struct vcpu *ap;
	u64 end;

	if (vm_is_kvm())
		ktap_skip("not asked of kvm_amd");
	setup(NULL);
	ap = second(guest_nothing, 1);
	vcpu_set_msr(ap, MSR_STEAL, VM_FREE_GPA | 1);
	vcpu_set_msr(ap, MSR_EOI, VM_FREE_GPA | 1);
	vcpu_set_msr(ap, 0x4b564d01, (VM_FREE_GPA + 0x1000) | 1);
	CHECK_OK(ioctl(vm->fd, KVM_SIGNAL_MSI,
		       &(struct kvm_msi){ .address_lo = 0xfee01000, .data = 0x500 }));
	for (end = now_ms() + 5000; now_ms() < end;) {
		struct kvm_mp_state m;

		CHECK_OK(ioctl(ap->fd, KVM_GET_MP_STATE, &m));
		if (m.mp_state == KVM_MP_STATE_INIT_RECEIVED)
			break;
	}
	CHECK_EQ(vcpu_get_msr(ap, MSR_STEAL), 0);
	CHECK_EQ(vcpu_get_msr(ap, MSR_EOI), 0);
	CHECK_EQ(vcpu_get_msr(ap, 0x4b564d01), 0);
}

static const struct ktap_test tests[] = {
	{ "cpuid", test_cpuid, 0 },
	{ "msrs", test_msrs, 0 },
	{ "not_offered", test_not_offered, 0 },
	{ "unenforced", test_unenforced, 0 },
	{ "no_irqchip", test_no_irqchip, 0 },
	{ "msr_list", test_msr_list, 0 },
	{ "hypercalls", test_hypercalls, 0 },
	{ "hypercall_modes", test_hypercall_modes, 0 },
	{ "exit_hypercall", test_exit_hypercall, 0 },
	{ "ipi", test_ipi, 60 },
	{ "kick", test_kick, 60 },
	{ "yield", test_yield, 60 },
	{ "eoi", test_eoi, 0 },
	{ "eoi_state", test_eoi_state, 0 },
	{ "steal", test_steal, 60 },
	{ "preempted", test_preempted, 0 },
	{ "flush", test_flush, 0 },
	{ "areas", test_areas, 60 },
	{ "init_resets", test_init_resets, 0 },
};

KTAP_MAIN(tests)
