// SPDX-License-Identifier: GPL-2.0
/*
 * Local APIC: register masks in xAPIC and x2APIC mode, timers in all modes,
 * IPIs between two vCPUs in every destination mode, EOI and priorities.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define REG_ID	    0x20
#define REG_VERSION 0x30
#define REG_LVR	    0x30
#define REG_TPR	    0x80
#define REG_PPR	    0xa0
#define REG_EOI	    0xb0
#define REG_LDR	    0xd0
#define REG_DFR	    0xe0
#define REG_SVR	    0xf0
#define REG_ISR	    0x100
#define REG_TMR	    0x180
#define REG_IRR	    0x200
#define REG_ESR	    0x280
#define REG_ICR	    0x300
#define REG_ICR2    0x310
#define REG_LVTT    0x320
#define REG_LVTTHMR 0x330
#define REG_LVTPC   0x340
#define REG_LVT0    0x350
#define REG_LVT1    0x360
#define REG_LVTERR  0x370
#define REG_TMICT   0x380
#define REG_TMCCT   0x390
#define REG_TDCR    0x3e0

#define MSR_APICBASE 0x1b
#define MSR_DEADLINE 0x6e0
#define X2APIC(reg)  (0x800 + ((reg) >> 4))

static volatile u64 fired[256], order[16], n_order;
static volatile u64 ap_ready, ap_apic_id, stop_ap;

static void on_irq(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	if (n_order < 16)
		order[n_order++] = f->vector;
	apic_write(REG_EOI, 0);
}

static void on_irq_x2(struct guest_frame *f)
{
	fired[f->vector & 0xff]++;
	wrmsr(X2APIC(REG_EOI), 0);
}

/* The deadline timer has a capability, and no bit in the supported CPUID, on KVM. */
static void offer_deadline(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vcpu->vm->dev);
	u32 i;

	if (!vm_has_cap(vcpu->vm, KVM_CAP_TSC_DEADLINE_TIMER))
		return;
	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx |= 1u << 24;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid));
}

static struct vm *create(int vcpus)
{
	struct vm *vm = vm_create_image();
	guest_handler_fn *h = *guest_ptr(vm, guest_handlers);
	int i;

	vm_irqchip(vm);
	for (i = 32; i < 256; i++)
		h[i] = on_irq;
	for (i = 0; i < vcpus; i++)
		vcpu_create(vm, i);
	return vm;
}

static void run_checks(void (*fn)(u64), u64 arg)
{
	struct vm *vm = create(1);

	vcpu_set_guest(vm->vcpus[0], fn, arg);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
}

static void enable(void)
{
	apic_write(REG_SVR, 0x1ff);
}

/* Wait with interrupts on until *p reaches n; the test's alarm is the limit. */
static void wait_for(volatile u64 *p, u64 n)
{
	while (*p < n) {
		sti();
		cpu_relax();
		cli();
	}
}

/* Registers: what can be written stands, the rest doesn't. */
static void guest_registers(u64 is_kvm)
{
	static const struct {
		u32 reg, mask, reset;
	} regs[] = {
		{ REG_TPR, 0xf0, 0 }, /* CR8 has no room for the low half */
		{ REG_LDR, 0xff000000, 0 },
		{ REG_DFR, 0xf0000000, 0xffffffff },
		{ REG_LVTTHMR, 0x107ff, 0x10000 },
		{ REG_LVTERR, 0x100ff, 0x10000 },
		{ REG_TMICT, 0xffffffff, 0 },
		{ REG_TDCR, 0xb, 0 },
		{ REG_ICR2, 0xff000000, 0 },
	};
	u32 i, ver;

	ver = apic_read(REG_VERSION);
	guest_assert_eq(ver & 0xf0, 0x10);
	guest_assert((ver >> 16 & 0xff) >= 3);
	guest_assert_eq(apic_read(REG_SVR), 0xff);
	/* Disabled: the LVT masks can't be cleared. */
	apic_write(REG_LVTT, 0x40);
	guest_assert_eq(apic_read(REG_LVTT), 0x10040);
	enable();
	guest_assert_eq(apic_read(REG_SVR) & 0x1ff, 0x1ff);
	for (i = 0; i < ARRAY_LEN(regs); i++) {
		u32 reg = regs[i].reg, mask = regs[i].mask, val;

		val = apic_read(reg);
		if (val != regs[i].reset && val != (regs[i].reset & mask))
			guest_fail("reset value (register, value)", __LINE__, reg, val);
		apic_write(reg, mask);
		val = apic_read(reg);
		if ((val & mask) != mask && reg != REG_LVTTHMR)
			guest_fail("lost bits (register, value)", __LINE__, reg, val);
		apic_write(reg, 0);
		if (reg == REG_DFR)
			guest_assert_eq(apic_read(reg), 0x0fffffff);
		else
			guest_assert_eq(apic_read(reg), 0);
	}
	/* Delivery status and remote IRR are read-only. */
	apic_write(REG_LVT0, ~0u);
	guest_assert((apic_read(REG_LVT0) & 0x5000) == 0 || is_kvm);
	apic_write(REG_LVTT, 0x20000 | 0x30);
	guest_assert_eq(apic_read(REG_LVTT), 0x20030);
	/* Read-only registers. */
	apic_write(REG_VERSION, 0);
	guest_assert_eq(apic_read(REG_VERSION), ver);
	apic_write(REG_TMCCT, 0x1234);
	guest_assert_eq(apic_read(REG_TMCCT), 0);
	apic_write(REG_PPR, 0xff);
	guest_assert_eq(apic_read(REG_PPR), 0);
	for (i = 0; i < 8; i++) {
		apic_write(REG_IRR + 16 * i, ~0u);
		apic_write(REG_ISR + 16 * i, ~0u);
		guest_assert_eq(apic_read(REG_IRR + 16 * i), 0);
		guest_assert_eq(apic_read(REG_ISR + 16 * i), 0);
	}
	/* Software disable masks all LVTs. */
	apic_write(REG_LVTT, 0x40);
	apic_write(REG_SVR, 0xff);
	guest_assert_eq(apic_read(REG_LVTT) & 0x10000, 0x10000);
	guest_done();
}

static void test_registers(void)
{
	run_checks(guest_registers, vm_is_kvm());
}

/* All offsets and odd sizes do no harm (CVE-2013-6367). */
static void guest_all_offsets(u64 arg)
{
	u32 off;

	(void)arg;
	for (off = 0; off < 0x1000; off += 16) {
		(void)apic_read(off);
		if (off != REG_ICR && off != REG_SVR && off != REG_ID)
			apic_write(off, 0xffffffff);
	}
	enable();
	apic_write(REG_LVTT, 0x20040);
	apic_write(REG_TMICT, 0);
	for (off = 0; off < 16; off++) {
		apic_write(REG_TDCR, off);
		apic_write(REG_TMICT, 1000);
		(void)apic_read(REG_TMCCT);
		apic_write(REG_TMICT, 0);
	}
	(void)*(volatile u8 *)(APIC_BASE + 0x30);
	(void)*(volatile u16 *)(APIC_BASE + 0x32);
	(void)*(volatile u8 *)(APIC_BASE + 0xfff);
	*(volatile u8 *)(APIC_BASE + 0x81) = 0xff;
	apic_write(REG_TPR, 0);
	guest_done();
}

static void test_all_offsets(void)
{
	run_checks(guest_all_offsets, 0);
}

/* x2APIC: enabled by the base MSR, registers by MSR, reserved ones #GP. */
static void guest_x2apic(u64 is_kvm)
{
	u64 base = rdmsr(MSR_APICBASE), val;

	guest_assert_eq(base, 0xfee00900);
	guest_assert_eq(guest_try_wrmsr(MSR_APICBASE, 0xfee00500), 13); /* EXTD without EN */
	wrmsr(MSR_APICBASE, base | 0x400);
	guest_assert_eq(rdmsr(MSR_APICBASE), 0xfee00d00);
	guest_assert_eq(rdmsr(X2APIC(REG_ID)), 0);
	guest_assert_eq(rdmsr(X2APIC(REG_VERSION)) & 0xff, 0x14);
	guest_assert_eq(rdmsr(X2APIC(REG_LDR)), 1); /* cluster 0, bit 0 */
	guest_assert_eq(guest_try_wrmsr(X2APIC(REG_LDR), 0), 13);
	guest_assert_eq(guest_try_wrmsr(X2APIC(REG_ID), 0), 13);
	guest_assert_eq(guest_try_rdmsr(X2APIC(REG_DFR), &val), 13);
	guest_assert_eq(guest_try_rdmsr(X2APIC(REG_ICR2), &val), 13);
	guest_assert_eq(guest_try_rdmsr(X2APIC(REG_EOI), &val), 13);
	if (!is_kvm) { /* KVM takes reserved bits here */
		guest_assert_eq(guest_try_wrmsr(X2APIC(REG_EOI), 1), 13);
		guest_assert_eq(guest_try_wrmsr(X2APIC(REG_TPR), 0x100), 13);
	}
	guest_assert_eq(guest_try_rdmsr(0x8ff, &val), 13);
	wrmsr(X2APIC(REG_SVR), 0x1ff);
	guest_assert_eq(rdmsr(X2APIC(REG_SVR)) & 0x1ff, 0x1ff);
	guest_handlers[0x61] = on_irq_x2;
	guest_handlers[0x62] = on_irq_x2;
	guest_handlers[0x63] = on_irq_x2;
	wrmsr(0x83f, 0x61); /* self IPI */
	sti_nop_cli();
	guest_assert_eq(fired[0x61], 1);
	wrmsr(X2APIC(REG_ICR), 0x4062); /* physical, to APIC id 0 */
	sti_nop_cli();
	guest_assert_eq(fired[0x62], 1);
	wrmsr(X2APIC(REG_ICR), 1ULL << 32 | 0x4863); /* logical, cluster 0 bit 0 */
	sti_nop_cli();
	guest_assert_eq(fired[0x63], 1);
	/* Back to xAPIC only through disabled. */
	guest_assert_eq(guest_try_wrmsr(MSR_APICBASE, 0xfee00900), 13);
	wrmsr(MSR_APICBASE, 0xfee00100);
	wrmsr(MSR_APICBASE, 0xfee00900);
	guest_assert_eq(apic_read(REG_VERSION) & 0xff, 0x14);
	guest_done();
}

static void test_x2apic(void)
{
	run_checks(guest_x2apic, vm_is_kvm());
}

/* Self IPIs, priorities, TPR, ISR and EOI. */
static u64 isr_in_handler, ppr_in_handler;

static void nested_handler(struct guest_frame *f)
{
	isr_in_handler = apic_read(REG_ISR + 16 * (f->vector >> 5));
	ppr_in_handler = apic_read(REG_PPR);
	apic_write(REG_ICR, 0x44035); /* lower: must wait for the EOI */
	apic_write(REG_ICR, 0x44075); /* higher: at once, when IF is set */
	sti();
	asm volatile("nop; nop");
	cli();
	guest_assert_eq(fired[0x75], 1);
	guest_assert_eq(fired[0x35], 0);
	apic_write(REG_EOI, 0);
	fired[f->vector]++;
}

static void guest_priorities(u64 arg)
{
	(void)arg;
	enable();
	apic_write(REG_ICR, 0x44041);
	apic_write(REG_ICR, 0x44091);
	apic_write(REG_ICR, 0x44065);
	guest_assert_eq(apic_read(REG_IRR + 0x20), 1 << 1);
	guest_assert_eq(apic_read(REG_IRR + 0x40), 1 << 17);
	sti_nop_cli();
	sti_nop_cli();
	sti_nop_cli();
	guest_assert_eq(n_order, 3);
	guest_assert_eq(order[0], 0x91);
	guest_assert_eq(order[1], 0x65);
	guest_assert_eq(order[2], 0x41);
	guest_handlers[0x55] = nested_handler;
	apic_write(REG_ICR, 0x44055);
	sti_nop_cli();
	guest_assert_eq(fired[0x55], 1);
	guest_assert_eq(isr_in_handler, 1 << 21);
	guest_assert_eq(ppr_in_handler, 0x50);
	sti_nop_cli();
	guest_assert_eq(fired[0x35], 1);
	guest_assert_eq(apic_read(REG_ISR + 0x20), 0);
	/* Two of the same vector while pending are one. */
	apic_write(REG_ICR, 0x44042);
	apic_write(REG_ICR, 0x44042);
	sti_nop_cli();
	sti_nop_cli();
	guest_assert_eq(fired[0x42], 1);
	/* A stray EOI does nothing. */
	apic_write(REG_EOI, 0);
	guest_done();
}

static void test_priorities(void)
{
	run_checks(guest_priorities, 0);
}

/* An illegal vector sets the ESR, and raises the error interrupt. */
static void guest_esr(u64 arg)
{
	(void)arg;
	enable();
	apic_write(REG_ESR, 0);
	guest_assert_eq(apic_read(REG_ESR), 0);
	apic_write(REG_ICR, 0x44005); /* vector 5 is illegal */
	apic_write(REG_ESR, 0);
	sti_nop_cli();
	guest_assert_eq(fired[5], 0);
	guest_sync(apic_read(REG_ESR));
	guest_done();
}

static void test_esr(void)
{
	struct vm *vm = create(1);
	u64 esr;

	vcpu_set_guest(vm->vcpus[0], guest_esr, 0);
	esr = vcpu_run_guest(vm->vcpus[0]);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
	CHECKF(esr == 0x20 || vm_is_kvm(), "ESR %#llx", (unsigned long long)esr);
}

/* Timers. Divide by 1 at 1 GHz: counts are nanoseconds. */
static void guest_one_shot(u64 arg)
{
	u32 a, b;

	(void)arg;
	enable();
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_LVTT, 0x40);
	apic_write(REG_TMICT, 2000000);
	a = apic_read(REG_TMCCT);
	b = apic_read(REG_TMCCT);
	guest_assert(a > 0 && a <= 2000000 && b <= a);
	wait_for(&fired[0x40], 1);
	guest_assert_eq(apic_read(REG_TMCCT), 0);
	/* Masked: it runs out silently. */
	apic_write(REG_LVTT, 0x10041);
	apic_write(REG_TMICT, 1000);
	while (apic_read(REG_TMCCT))
		cpu_relax();
	sti_nop_cli();
	guest_assert_eq(fired[0x41], 0);
	/* Zero stops it. */
	apic_write(REG_LVTT, 0x42);
	apic_write(REG_TMICT, 0x7fffffff);
	apic_write(REG_TMICT, 0);
	guest_assert_eq(apic_read(REG_TMCCT), 0);
	guest_assert_eq(fired[0x40], 1);
	guest_done();
}

static void test_one_shot(void)
{
	run_checks(guest_one_shot, 0);
}

static void guest_periodic(u64 arg)
{
	(void)arg;
	enable();
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_LVTT, 0x20040);
	apic_write(REG_TMICT, 1000000);
	wait_for(&fired[0x40], 10);
	guest_assert(apic_read(REG_TMCCT) <= 1000000);
	apic_write(REG_TMICT, 0);
	guest_done();
}

static void test_periodic(void)
{
	run_checks(guest_periodic, 0);
}

/* Dividers: by 16 takes longer than by 1. The best of a few, on a busy host. */
static u64 count_down(u32 divider)
{
	u64 best = ~0ULL, i;

	apic_write(REG_TDCR, divider);
	for (i = 0; i < 8; i++) {
		u64 start = rdtsc(), took;

		apic_write(REG_TMICT, 1000000);
		while (apic_read(REG_TMCCT))
			cpu_relax();
		took = rdtsc() - start;
		if (took < best)
			best = took;
	}
	return best;
}

static void guest_divider(u64 arg)
{
	u64 by1, by16;

	(void)arg;
	enable();
	apic_write(REG_LVTT, 0x10040);
	by1 = count_down(0xb);
	by16 = count_down(3);
	if (by16 < 6 * by1)
		guest_fail("by 16 and by 1 take (TSC ticks)", __LINE__, by16, by1);
	guest_done();
}

static void test_divider(void)
{
	run_checks(guest_divider, 0);
}

static void guest_deadline(u64 arg)
{
	u64 when;
	u32 r[4];

	(void)arg;
	cpuid(1, 0, r);
	if (!(r[2] & 1u << 24)) {
		guest_sync(2);
		guest_done();
	}
	guest_sync(1);
	enable();
	/* Not in deadline mode: writes are ignored. */
	wrmsr(MSR_DEADLINE, 1234);
	guest_assert_eq(rdmsr(MSR_DEADLINE), 0);
	apic_write(REG_LVTT, 0x40040);
	when = rdtsc() + 30000000000; /* far enough to get to the next line on a busy host */
	wrmsr(MSR_DEADLINE, when);
	guest_assert_eq(rdmsr(MSR_DEADLINE), when);
	guest_assert_eq(apic_read(REG_TMCCT), 0);
	when = rdtsc() + 3000000;
	wrmsr(MSR_DEADLINE, when);
	wait_for(&fired[0x40], 1);
	guest_assert(rdtsc() >= when);
	guest_assert_eq(rdmsr(MSR_DEADLINE), 0);
	/* In the past: at once. */
	wrmsr(MSR_DEADLINE, 1);
	wait_for(&fired[0x40], 2);
	/* Disarmed by 0. */
	when = rdtsc() + 300000000; /* far enough, too */
	wrmsr(MSR_DEADLINE, when);
	wrmsr(MSR_DEADLINE, 0);
	when += 3000000;
	while (rdtsc() < when)
		sti_nop_cli();
	guest_assert_eq(fired[0x40], 2);
	guest_done();
}

static void test_deadline(void)
{
	struct vm *vm = create(1);

	offer_deadline(vm->vcpus[0]);
	vcpu_set_guest(vm->vcpus[0], guest_deadline, 0);
	if (vcpu_run_guest(vm->vcpus[0]) == 2)
		ktap_skip("no TSC deadline timer in CPUID");
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
}

/* HLT is woken by the timer. */
static void guest_hlt_timer(u64 arg)
{
	u64 i;

	(void)arg;
	enable();
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_LVTT, 0x40);
	for (i = 1; i <= 20; i++) {
		cli();
		apic_write(REG_TMICT, 500000);
		while (fired[0x40] < i) {
			sti_hlt();
			cli();
		}
	}
	guest_assert_eq(fired[0x40], 20);
	guest_done();
}

static void test_hlt_timer(void)
{
	run_checks(guest_hlt_timer, 0);
}

/*
 * Halt polling: short waits are looked out for, which spares sleeps; over long ones the thread
 * sleeps, and takes no more of the CPU than with polling off.
 */
static void guest_naps(u64 arg)
{
	u64 i, n = arg >> 32;

	enable();
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_LVTT, 0x40);
	for (i = 1; i <= n; i++) {
		cli();
		apic_write(REG_TMICT, (u32)arg);
		while (fired[0x40] < i) {
			sti_hlt();
			cli();
		}
	}
	guest_done();
}

struct naps {
	long sleeps;
	u64 cpu_us;
};

/* Naps of a guest, with an argument for one capability of its VM's. */
static struct naps take_naps(u32 cap, u64 cap_arg, u64 n, u32 ns)
{
	struct kvm_enable_cap enable_cap = { .cap = cap, .args = { cap_arg } };
	struct rusage before, after;
	struct vm *vm = create(0);
	struct naps result;

	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &enable_cap));
	vcpu_create(vm, 0);
	vcpu_set_guest(vm->vcpus[0], guest_naps, n << 32 | ns);
	getrusage(RUSAGE_THREAD, &before);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
	getrusage(RUSAGE_THREAD, &after);
	vm_destroy(vm);
	result.sleeps = after.ru_nvcsw - before.ru_nvcsw;
	result.cpu_us = (after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec -
			 before.ru_stime.tv_sec) *
				1000000 +
			after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec -
			before.ru_stime.tv_usec;
	printf("# capability %u, %llu: %llu naps of %u ns: %ld sleeps, %llu us of CPU\n", cap,
	       (unsigned long long)cap_arg, (unsigned long long)n, ns, result.sleeps,
	       (unsigned long long)result.cpu_us);
	return result;
}

static void test_halt_poll(void)
{
	struct kvm_enable_cap bad = { .cap = KVM_CAP_HALT_POLL, .args = { 1ULL << 32 } };
	struct vm *vm = vm_create();
	struct naps off, on;

	CHECK_EQ(vm_has_cap(vm, KVM_CAP_HALT_POLL), 1);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &bad), EINVAL);
	bad.args[0] = 0;
	bad.flags = 1;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &bad), EINVAL);
	vm_destroy(vm);
	/* 2 ms: long enough that a slow host is at its HLT before the timer is. */
	off = take_naps(KVM_CAP_HALT_POLL, 0, 200, 2000000);
	on = take_naps(KVM_CAP_HALT_POLL, 20000000, 200, 2000000);
	CHECK(off.sleeps > 150);
	CHECK(on.sleeps < off.sleeps / 2);
	off = take_naps(KVM_CAP_HALT_POLL, 0, 200, 5000000);
	on = take_naps(KVM_CAP_HALT_POLL, 200000, 200, 5000000);
	CHECK(on.sleeps > 150);
	CHECK(on.cpu_us < off.cpu_us * 2 + 50000);
}

/* KVM_CAP_X86_DISABLE_EXITS: a guest halts by itself, and its interrupts wake it. */
static void test_disable_exits(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS };
	struct vm *vm = vm_create();
	int all = vm_has_cap(vm, cap.cap);
	struct naps naps;

	if (!(all & KVM_X86_DISABLE_EXITS_HLT))
		ktap_skip("HLT cannot be left to the guest");
	cap.args[0] = 1ULL << 40;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = all;
	cap.flags = 1;
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.flags = 0;
	vcpu_create(vm, 0);
	CHECK_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	vm_destroy(vm);
	naps = take_naps(KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, 200, 2000000);
	CHECK(naps.sleeps < 50);
}

/* KVM_CAP_X86_APIC_BUS_CYCLES_NS: counts of the timer over a time by the TSC, taken between two looks at it. */
static volatile u64 bus_count, bus_least, bus_most;

static void guest_bus(u64 ticks)
{
	u64 before[2], after[2];
	u32 count[2];

	enable();
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_LVTT, 0x10000);
	apic_write(REG_TMICT, ~0u);
	for (int i = 0; i < 2; i++) {
		before[i] = rdtsc();
		count[i] = apic_read(REG_TMCCT);
		after[i] = rdtsc();
		while (rdtsc() - before[0] < ticks)
			cpu_relax();
	}
	bus_count = count[0] - count[1];
	bus_least = before[1] - after[0];
	bus_most = after[1] - before[0];
	guest_done();
}

#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237
#endif

static int set_bus(struct vm *vm, u64 ns)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_APIC_BUS_CYCLES_NS, .args = { ns } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static void test_bus_cycle(void)
{
	static const u64 cycles[] = { 1, 7, 1000 };

	for (unsigned int i = 0; i < 3; i++) {
		struct vm *vm = vm_create_image();
		struct vcpu *vcpu;
		u64 khz, ns;

		if (!vm_has_cap(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS))
			ktap_skip("this kernel's KVM has no such capability");
		CHECK_EQ(vm_has_cap(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS), 1);
		CHECK_ERR(set_bus(vm, 1), ENXIO);
		CHECK_ERR(set_bus(vm, 0), EINVAL);
		vm_irqchip(vm);
		CHECK_ERR(set_bus(vm, 0), EINVAL);
		CHECK_ERR(set_bus(vm, ~0ULL), EINVAL);
		if (!vm_is_kvm())
			CHECK_ERR(set_bus(vm, 1 << 23), EINVAL);
		if (i)
			CHECK_OK(set_bus(vm, cycles[i]));
		CHECK_EQ(vm_has_cap(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS), (int)cycles[i]);
		vcpu = vcpu_create(vm, 0);
		CHECK_ERR(set_bus(vm, 1), EINVAL);
		khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
		vcpu_set_guest(vcpu, guest_bus, khz * 20);
		CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
		ns = *guest_ptr(vm, bus_count) * cycles[i];
		CHECKF(ns + cycles[i] >= *guest_ptr(vm, bus_least) * 1000000 / khz * 98 / 100 &&
			       ns <= *guest_ptr(vm, bus_most) * 1000000 / khz * 102 / 100 +
					       cycles[i],
		       "%llu ns, by the TSC %llu to %llu", (unsigned long long)ns,
		       (unsigned long long)*guest_ptr(vm, bus_least) * 1000000 / khz,
		       (unsigned long long)*guest_ptr(vm, bus_most) * 1000000 / khz);
		vm_destroy(vm);
	}
}

/* Two vCPUs: the second is started by INIT and SIPI in real mode. */
#define AP_CODE_GPA 0x10000ULL

PAYLOAD(ap_hello, ".code16\n"
		  "mov %cs, %ax\n"
		  "mov $0, %bx\n"
		  "mov %bx, %ds\n"
		  "mov %ax, 0x7000\n"
		  "1: hlt\n"
		  "jmp 1b\n");

static void guest_sipi(u64 id)
{
	volatile u16 *flag = (void *)0x7000;

	enable();
	*flag = 0;
	apic_write(REG_ICR2, id << 24);
	apic_write(REG_ICR, 0x4500); /* INIT */
	apic_write(REG_ICR, 0x4610); /* SIPI: 0x10000 */
	while (!*flag)
		cpu_relax();
	guest_assert_eq(*flag, 0x1000);
	/* A second SIPI is ignored by a running CPU, INIT and SIPI restart it. */
	*flag = 0;
	apic_write(REG_ICR, 0x4500);
	apic_write(REG_ICR, 0x4610);
	while (!*flag)
		cpu_relax();
	guest_done();
}

static void *ap_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	int got;

	do {
		got = vcpu_run(vcpu);
	} while (got == -EAGAIN || got == -EINTR || got == KVM_EXIT_HLT);
	if (got == KVM_EXIT_IO) {
		u64 val;

		vcpu_guest_event(vcpu, &val);
	} else {
		vcpu_dump(vcpu);
		ktap_diag("AP: exit %s", vm_exit_name(got));
	}
	return NULL;
}

static u32 ap_xapic_id; /* another than 1 */

static void renumber(struct vcpu *vcpu, u32 id)
{
	struct kvm_lapic_state state;

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	*(u32 *)(state.regs + REG_ID) = id << 24;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
}

static void run_two(void (*bsp)(u64), void (*ap)(u64), u64 arg)
{
	struct vm *vm = create(2);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	pthread_t thread;

	if (ap_xapic_id)
		renumber(vm->vcpus[1], ap_xapic_id);
	if (ap) {
		vcpu_set_guest(vm->vcpus[1], ap, arg);
		CHECK_OK(ioctl(vm->vcpus[1]->fd, KVM_SET_MP_STATE, &mp));
	} else {
		vm_load_payload(vm, AP_CODE_GPA, ap_hello);
	}
	vcpu_set_guest(vm->vcpus[0], bsp, arg);
	CHECK(!pthread_create(&thread, NULL, ap_thread, vm->vcpus[1]));
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
}

static void test_init_sipi(void)
{
	run_two(guest_sipi, NULL, 1);
}

/* An xAPIC keeps the id that it was given: SIPI finds it by the number that INIT did. */
static void test_init_keeps_id(void)
{
	ap_xapic_id = 5;
	run_two(guest_sipi, NULL, 5);
}

/* A vCPU with an id that no xAPIC has is started by that. */
PAYLOAD(ap_out, ".code16\n"
		"out %al, $0x10\n"
		"1: hlt\n"
		"jmp 1b\n");

static void guest_sipi_far(u64 id)
{
	enable();
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) | 1 << 10);
	wrmsr(X2APIC(REG_ICR), id << 32 | 0x4500);
	wrmsr(X2APIC(REG_ICR), id << 32 | 0x4610);
	guest_done();
}

static void test_far_id(void)
{
	struct vm *vm = create(1);
	struct kvm_run *run;
	int fd = ioctl(vm->fd, KVM_CREATE_VCPU, 256);

	CHECK_OK(fd);
	run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(run != MAP_FAILED);
	vm_load_payload(vm, AP_CODE_GPA, ap_out);
	vcpu_set_guest(vm->vcpus[0], guest_sipi_far, 256);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
	while (ioctl(fd, KVM_RUN, 0) < 0)
		CHECKF(errno == EAGAIN, "errno %d", errno);
	CHECK_EQ(run->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(run->io.port, 0x10);
}

/* IPIs in every destination mode. Each vCPU counts per vector and APIC id. */
static volatile u64 got_ipi[2][256];

static void on_ipi(struct guest_frame *f)
{
	got_ipi[apic_read(REG_ID) >> 24 & 1][f->vector & 0xff]++;
	apic_write(REG_EOI, 0);
}

static void ipi_setup(u32 id, u32 ldr, u32 dfr)
{
	u32 v;

	for (v = 32; v < 256; v++)
		guest_handlers[v] = on_ipi;
	enable();
	apic_write(REG_DFR, dfr);
	apic_write(REG_LDR, ldr);
	guest_assert_eq(apic_read(REG_ID), id << 24);
}

static void guest_ap_ipi(u64 arg)
{
	ipi_setup(1, arg ? 0x12000000 : 0x02000000, arg ? 0x0fffffff : 0xffffffff);
	ap_ready = 1;
	for (;;) {
		sti();
		cpu_relax();
	}
}

/* Send, wait for those that must get it, and see that the others don't. */
static void send(u32 dest, u32 icr, u8 vector, bool to0, bool to1)
{
	apic_write(REG_ICR2, dest << 24);
	apic_write(REG_ICR, 0x4000 | icr | vector);
	sti();
	while (got_ipi[0][vector] < to0 || got_ipi[1][vector] < to1)
		cpu_relax();
	cli();
	guest_assert_eq(got_ipi[0][vector], to0);
	guest_assert_eq(got_ipi[1][vector], to1);
}

static void guest_bsp_ipi(u64 cluster)
{
	ipi_setup(0, cluster ? 0x11000000 : 0x01000000, cluster ? 0x0fffffff : 0xffffffff);
	while (!ap_ready)
		cpu_relax();
	send(1, 0, 0x40, false, true); /* physical */
	send(0, 0, 0x41, true, false);
	send(0xff, 0, 0x42, true, true);     /* physical broadcast */
	send(0, 0x40000, 0x43, true, false); /* self */
	send(0, 0x80000, 0x44, true, true);  /* all */
	send(0, 0xc0000, 0x45, false, true); /* all but self */
	if (cluster) {
		send(0x11, 0x800, 0x50, true, false);
		send(0x12, 0x800, 0x51, false, true);
		send(0x13, 0x800, 0x52, true, true);
		send(0xff, 0x800, 0x54, true, true);
	} else {
		send(1, 0x800, 0x50, true, false);
		send(2, 0x800, 0x51, false, true);
		send(3, 0x800, 0x52, true, true);
		send(0xff, 0x800, 0x54, true, true);
	}
	/* Lowest priority: exactly one of them. */
	apic_write(REG_ICR2, (cluster ? 0x13 : 3) << 24);
	apic_write(REG_ICR, 0x4000 | 0x800 | 0x100 | 0x60);
	sti();
	while (got_ipi[0][0x60] + got_ipi[1][0x60] < 1)
		cpu_relax();
	cli();
	guest_assert_eq(got_ipi[0][0x60] + got_ipi[1][0x60], 1);
	guest_done();
}

static void test_ipi_flat(void)
{
	run_two(guest_bsp_ipi, guest_ap_ipi, 0);
}

static void test_ipi_cluster(void)
{
	run_two(guest_bsp_ipi, guest_ap_ipi, 1);
}

/* An NMI by IPI reaches the other vCPU, out of HLT. */
static volatile u64 nmis, ap_in_hlt;

static void on_nmi(struct guest_frame *f)
{
	(void)f;
	nmis++;
}

static void guest_ap_nmi(u64 arg)
{
	(void)arg;
	enable();
	ap_in_hlt = 1;
	for (;;)
		hlt();
}

static void guest_bsp_nmi(u64 arg)
{
	u64 i;

	(void)arg;
	guest_handlers[2] = on_nmi;
	enable();
	while (!ap_in_hlt)
		cpu_relax();
	for (i = 1; i <= 10; i++) {
		apic_write(REG_ICR2, 1 << 24);
		apic_write(REG_ICR, 0x4400);
		while (nmis < i)
			cpu_relax();
	}
	guest_done();
}

static void test_ipi_nmi(void)
{
	run_two(guest_bsp_nmi, guest_ap_nmi, 0);
}

/* x2APIC on both: IPIs by one 64-bit MSR write. */
static volatile u64 x2_got[2];

static void on_x2_ipi(struct guest_frame *f)
{
	(void)f;
	x2_got[rdmsr(X2APIC(REG_ID)) & 1]++;
	wrmsr(X2APIC(REG_EOI), 0);
}

static void x2_setup(void)
{
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) | 0x400);
	wrmsr(X2APIC(REG_SVR), 0x1ff);
}

static void guest_ap_x2(u64 arg)
{
	(void)arg;
	x2_setup();
	guest_assert_eq(rdmsr(X2APIC(REG_ID)), 1);
	guest_assert_eq(rdmsr(X2APIC(REG_LDR)), 2);
	ap_ready = 1;
	for (;;)
		sti_hlt();
}

static void guest_bsp_x2(u64 arg)
{
	u64 i;

	(void)arg;
	guest_handlers[0x70] = on_x2_ipi;
	x2_setup();
	while (!ap_ready)
		cpu_relax();
	for (i = 1; i <= 10; i++) {
		wrmsr(X2APIC(REG_ICR), 1ULL << 32 | 0x4070);
		while (x2_got[1] < i)
			cpu_relax();
	}
	wrmsr(X2APIC(REG_ICR), 3ULL << 32 | 0x4870); /* both, logical */
	sti();
	while (x2_got[0] < 1 || x2_got[1] < 11)
		cpu_relax();
	cli();
	wrmsr(X2APIC(REG_ICR), 0xffffffffULL << 32 | 0x4070);
	sti();
	while (x2_got[0] < 2 || x2_got[1] < 12)
		cpu_relax();
	cli();
	guest_done();
}

static void test_x2apic_ipi(void)
{
	run_two(guest_bsp_x2, guest_ap_x2, 0);
}

/* The APIC base moves, and disabled means gone. */
static void guest_base(u64 arg)
{
	u32 r[4], lvr = apic_read(REG_LVR);

	(void)arg;
	cpuid(1, 0, r);
	guest_assert(r[3] & 1 << 9);
	wrmsr(MSR_APICBASE, 0xfee00100); /* off */
	cpuid(1, 0, r);
	guest_assert(!(r[3] & 1 << 9));
	/* Its page is a hole then. The TPR is the processor's, and stays. */
	guest_assert_eq(apic_read(REG_LVR), ~0U);
	write_cr8(5);
	apic_write(REG_TPR, 0x20);
	guest_assert_eq(apic_read(REG_TPR), ~0U);
	guest_assert_eq(read_cr8(), 5);
	wrmsr(MSR_APICBASE, 0xfee00900);
	cpuid(1, 0, r);
	guest_assert(r[3] & 1 << 9);
	guest_assert(apic_read(REG_LVR) != ~0U);
	write_cr8(0);
	/* The same in x2APIC mode. */
	wrmsr(MSR_APICBASE, 0xfee00d00);
	guest_assert_eq(apic_read(REG_LVR), ~0U);
	apic_write(REG_TPR, 0x20);
	guest_assert_eq(rdmsr(0x808), 0);
	wrmsr(MSR_APICBASE, 0xfee00100);
	/* Elsewhere. */
	wrmsr(MSR_APICBASE, 0xfed40900);
	guest_assert_eq(*(volatile u32 *)(0xfed40000 + REG_LVR), lvr);
	guest_assert_eq(guest_try_wrmsr(MSR_APICBASE, 0xfed40901), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_APICBASE, 0xfed40900 | 1ULL << 52), 13);
	guest_assert_eq(rdmsr(MSR_APICBASE), 0xfed40900);
	guest_done();
}

static void test_base(void)
{
	run_checks(guest_base, 0);
}

/* QEMU restores an APIC without its current count: a one-shot timer under way must end after all. */
static void guest_restored(u64 arg)
{
	(void)arg;
	enable();
	apic_write(REG_LVTT, 0x77);
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_TMICT, 0xf0000000);
	guest_sync(1);
	wait_for(&fired[0x77], 1);
	guest_done();
}

static void test_timer_restored(void)
{
	struct vm *vm = create(1);
	struct vcpu *vcpu = vm->vcpus[0];
	struct kvm_lapic_state state;

	vcpu_set_guest(vcpu, guest_restored, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_complete(vcpu);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	CHECK(*(u32 *)(state.regs + REG_TMCCT));
	*(u32 *)(state.regs + REG_TMCCT) = 0;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A periodic timer that nobody takes note of goes on counting, and comes back when it is wanted. */
static void guest_ignored(u64 arg)
{
	u32 i, now, last = 0, turns = 0;

	(void)arg;
	enable();
	apic_write(REG_LVTT, 0x30077); /* periodic, masked */
	apic_write(REG_TDCR, 0xb);
	apic_write(REG_TMICT, 300000);
	for (i = 0; turns < 200; i++) {
		now = apic_read(REG_TMCCT);
		guest_assert(now <= 300000);
		turns += now > last;
		last = now;
	}
	guest_assert_eq(fired[0x77], 0);
	apic_write(REG_LVTT, 0x20077);
	wait_for(&fired[0x77], 100);
	/* Waiting in IRR: one of them comes. */
	for (turns = 0; turns < 50;) {
		now = apic_read(REG_TMCCT);
		turns += now > last;
		last = now;
	}
	wait_for(&fired[0x77], 150);
	guest_done();
}

static void test_timer_ignored(void)
{
	run_checks(guest_ignored, 0);
}

/* KVM_SIGNAL_MSI and KVM_SET_LAPIC's IRR deliver from outside. */
static void guest_msi(u64 arg)
{
	(void)arg;
	enable();
	guest_sync(1);
	wait_for(&fired[0x77], 1);
	guest_sync(2);
	wait_for(&fired[0x88], 1);
	guest_done();
}

static void test_msi(void)
{
	struct vm *vm = create(1);
	struct vcpu *vcpu = vm->vcpus[0];
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x77 };
	struct kvm_lapic_state state;

	if (!vm_has_cap(vm, KVM_CAP_SIGNAL_MSI))
		ktap_skip("no KVM_CAP_SIGNAL_MSI");
	vcpu_set_guest(vcpu, guest_msi, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	vcpu_complete(vcpu);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	*(u32 *)(state.regs + REG_IRR + 0x40) |= 1 << 8;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Two NMIs before the first is taken are two; behind one that is being served there is one more. */
static void on_nmi_report(struct guest_frame *f)
{
	(void)f;
	guest_sync(0x100 + ++nmis);
}

static void guest_nmi_pair(u64 arg)
{
	(void)arg;
	guest_handlers[2] = on_nmi_report;
	enable();
	guest_sync(1);
	guest_assert_eq(nmis, 3);
	guest_done();
}

static u8 pending_nmis(struct vcpu *vcpu)
{
	struct kvm_vcpu_events ev;

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &ev));
	return ev.nmi.pending;
}

static void test_nmi_pair(void)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x400 };
	struct vm *vm = create(1);
	struct vcpu *vcpu = vm->vcpus[0];

	vcpu_set_guest(vcpu, guest_nmi_pair, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), 1);
	CHECK_EQ(pending_nmis(vcpu), 2);
	CHECK_EQ(vcpu_run_guest(vcpu), 0x101);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), 1);
	CHECK_EQ(pending_nmis(vcpu), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 0x102);
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), 0x103);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Two senders, of a low and of a high vector: each interrupt is delivered exactly once. */
#define STORM 500

struct storm {
	struct vm *vm;
	u8 vector;
};

static void guest_storm(u64 arg)
{
	(void)arg;
	enable();
	sti();
	while (fired[0x41] < STORM || fired[0x91] < STORM)
		cpu_relax();
	guest_sync(1); /* the senders have stopped: what comes now is one too many */
	guest_assert_eq(fired[0x41], STORM);
	guest_assert_eq(fired[0x91], STORM);
	guest_done();
}

static void *storm_sender(void *arg)
{
	struct storm *s = arg;
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = s->vector };
	volatile u64 *seen = &(*guest_ptr(s->vm, fired))[s->vector];
	u64 i;

	for (i = 0; i < STORM; i++) {
		while (*seen < i)
			sched_yield();
		while (ioctl(s->vm->fd, KVM_SIGNAL_MSI, &msi) != 1)
			sched_yield(); /* the guest's APIC is not enabled yet */
	}
	return NULL;
}

static void test_msi_storm(void)
{
	struct vm *vm = create(1);
	struct storm low = { vm, 0x41 }, high = { vm, 0x91 };
	pthread_t a, b;

	vcpu_set_guest(vm->vcpus[0], guest_storm, 0);
	CHECK_EQ(pthread_create(&a, NULL, storm_sender, &low), 0);
	CHECK_EQ(pthread_create(&b, NULL, storm_sender, &high), 0);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), 1);
	CHECK_EQ(pthread_join(a, NULL), 0);
	CHECK_EQ(pthread_join(b, NULL), 0);
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), GUEST_DONE);
}

static const struct ktap_test tests[] = {
	{ "registers", test_registers, 0 },
	{ "all_offsets", test_all_offsets, 0 },
	{ "x2apic", test_x2apic, 0 },
	{ "base", test_base, 0 },
	{ "priorities", test_priorities, 0 },
	{ "esr", test_esr, 0 },
	{ "one_shot", test_one_shot, 0 },
	{ "periodic", test_periodic, 0 },
	{ "divider", test_divider, 0 },
	{ "deadline", test_deadline, 0 },
	{ "bus_cycle", test_bus_cycle, 0 },
	{ "hlt_timer", test_hlt_timer, 0 },
	{ "disable_exits", test_disable_exits, 60 },
	{ "halt_poll", test_halt_poll, 0 },
	{ "init_sipi", test_init_sipi, 0 },
	{ "init_keeps_id", test_init_keeps_id, 0 },
	{ "far_id", test_far_id, 0 },
	{ "ipi_flat", test_ipi_flat, 0 },
	{ "ipi_cluster", test_ipi_cluster, 0 },
	{ "ipi_nmi", test_ipi_nmi, 0 },
	{ "x2apic_ipi", test_x2apic_ipi, 0 },
	{ "timer_restored", test_timer_restored, 0 },
	{ "timer_ignored", test_timer_ignored, 0 },
	{ "msi", test_msi, 0 },
	{ "nmi_pair", test_nmi_pair, 0 },
	{ "msi_storm", test_msi_storm, 0 },
};

KTAP_MAIN(tests)
