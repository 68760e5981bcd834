// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_GUEST_DEBUG: single-step, INT3, breakpoint registers, injection, blocked
 * interrupts; what the guest sees of its own debug registers and RFLAGS meanwhile.
 */
#include <stdio.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define DR6_RESET 0xffff0ff0ULL
#define DR6_BD	  (1 << 13)
#define DR6_BS	  (1 << 14)
#define TF	  0x100
#define DB	  1
#define BP	  3

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

/* Until QEMU 10, TCG's VMRUN does not arm breakpoints (errata.rst). */
static bool arms_breakpoints(void)
{
	int version = emulator_version();

	return !version || version >= 1000;
}

static void need_breakpoints(void)
{
	if (!arms_breakpoints())
		ktap_skip("this QEMU's VMRUN does not arm breakpoints");
}

static void need_int3(void)
{
	if (emulator_version() && vm_is_kvm())
		ktap_skip("QEMU's TCG does not intercept INT3 as #BP");
}

/* Debug with @control; breakpoint register @n, if not negative, at @addr with these DR7 bits. */
static void debug(u32 control, int n, u64 addr, u64 dr7)
{
	struct kvm_guest_debug d = { .control = control };

	if (n >= 0)
		d.arch.debugreg[n] = addr;
	d.arch.debugreg[7] = 0x400 | dr7;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d));
}

static u64 rip(void)
{
	struct kvm_regs r;

	vcpu_get_regs(vcpu, &r);
	return r.rip;
}

static void set_rip(u64 to)
{
	struct kvm_regs r;

	vcpu_get_regs(vcpu, &r);
	r.rip = to;
	vcpu_set_regs(vcpu, &r);
}

static void expect_debug(u32 exception, u64 pc, u64 dr6)
{
	struct kvm_debug_exit_arch *d = &vcpu->run->debug.arch;

	vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	CHECK_EQ(d->exception, exception);
	CHECK_EQ(d->pc, pc);
	CHECK_EQ(rip(), pc);
	if (exception == DB)
		CHECK_EQ(d->dr6, dr6);
}

#define STEP (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP)
#define HW   (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP)
#define SW   (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP)

extern char d_int3[], d_bp[], d_data[], d_data_end[], d_gd[];
static volatile u64 watched;

static void guest_points(u64 arg)
{
	(void)arg;
	asm volatile(".globl d_int3, d_bp, d_data, d_data_end, d_gd\n"
		     "d_int3: int3\n"
		     "d_bp: nop\n"
		     "d_data: movq $1, %0\n"
		     "d_data_end: nop\n"
		     "d_gd: mov %%dr0, %%rax\n"
		     : "=m"(watched)
		     :
		     : "rax");
	guest_done();
}

/* A guest's INT3 is userspace's; it stays at the instruction. */
static void test_sw_bp(void)
{
	need_int3();
	setup(guest_points, false);
	debug(SW, -1, 0, 0);
	expect_debug(BP, (u64)d_int3, 0);
	expect_debug(BP, (u64)d_int3, 0);
	set_rip((u64)d_bp);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* An instruction breakpoint in each register, before the instruction; then it runs on. */
static void test_hw_bp(void)
{
	int i;

	need_breakpoints();
	setup(guest_points, false);
	set_rip((u64)d_bp);
	for (i = 0; i < 4; i++) {
		debug(HW, i, (u64)d_bp, 2 << 2 * i);
		expect_debug(DB, (u64)d_bp, DR6_RESET | 1 << i);
	}
	CHECK_EQ(vcpu->run->debug.arch.dr7, 0x400 | 2 << 6);
	debug(0, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Data breakpoints: after the store. */
static void test_watch(void)
{
	int i;

	need_breakpoints();
	setup(guest_points, false);
	for (i = 0; i < 4; i++) {
		set_rip((u64)d_bp);
		debug(HW, i, (u64)&watched, 2 << 2 * i | 0xdULL << (16 + 4 * i));
		expect_debug(DB, (u64)d_data_end, DR6_RESET | 1 << i);
	}
}

/* DR7.GD: the guest's next access of a debug register. */
static void test_general_detect(void)
{
	if (vm_is_kvm())
		ktap_skip("kvm_amd leaves GD of userspace's DR7 aside");
	setup(guest_points, false);
	set_rip((u64)d_bp);
	debug(HW, -1, 0, 1 << 13);
	expect_debug(DB, (u64)d_gd, DR6_RESET | DR6_BD);
	expect_debug(DB, (u64)d_gd, DR6_RESET | DR6_BD);
	debug(0, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

extern char s_start[], s_cpuid[], s_rdmsr[], s_out[], s_hlt[], s_push[], s_pop[], s_jmp[], s_end[];

static void guest_steps(u64 arg)
{
	(void)arg;
	asm volatile(".globl s_start, s_cpuid, s_rdmsr, s_out, s_push, s_pop, s_jmp, s_end\n"
		     "s_start: xor %%eax, %%eax\n"
		     "s_cpuid: cpuid\n"
		     "	mov $0x1b, %%ecx\n"
		     "s_rdmsr: rdmsr\n"
		     "s_out: out %%al, $0x10\n"
		     "s_push: pushf\n"
		     "s_pop: pop %%rbx\n"
		     "	jmp s_jmp\n"
		     "	nop\n"
		     "s_jmp: nop\n"
		     "s_end:\n"
		     :
		     :
		     : "rax", "rbx", "rcx", "rdx");
	guest_done();
}

/* One instruction a run, emulated ones and those that userspace completes as well. */
static void test_step(void)
{
	struct kvm_regs r;

	setup(guest_steps, false);
	set_rip((u64)s_start);
	debug(STEP, -1, 0, 0);
	expect_debug(DB, (u64)s_cpuid, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_cpuid + 2, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_rdmsr, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_rdmsr + 2, DR6_RESET | DR6_BS);
	CHECK_EQ((u64)s_out, (u64)s_rdmsr + 2);
	vcpu_expect_out(vcpu, 0x10, 1);
	expect_debug(DB, (u64)s_push, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_pop, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_pop + 1, DR6_RESET | DR6_BS);
	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.rflags & TF, 0);
	expect_debug(DB, (u64)s_jmp, DR6_RESET | DR6_BS);
	expect_debug(DB, (u64)s_end, DR6_RESET | DR6_BS);
	debug(0, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Both at once: the step over a breakpoint's address is reported as the breakpoint first. */
static void test_step_and_bp(void)
{
	need_breakpoints();
	setup(guest_steps, false);
	set_rip((u64)s_start);
	debug(STEP | HW, 2, (u64)s_cpuid, 2 << 4);
	vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	CHECK_EQ(rip(), (u64)s_cpuid);
	CHECK(vcpu->run->debug.arch.dr6 & 4);
}

static volatile u64 db_count, db_dr6, db_rip;

static void on_db(struct guest_frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	db_dr6 = dr6;
	db_rip = f->rip;
	db_count++;
	f->rflags &= ~(u64)TF;
	f->rflags |= 0x10000;
}

extern char own_bp[], own_step[], own_after[];

/* The guest has breakpoints and single-steps itself; userspace looks on. */
static void guest_own(u64 arg)
{
	u64 dr7, dr6;

	guest_handlers[DB] = on_db;
	asm volatile("mov %0, %%dr0" : : "r"((u64)own_bp));
	asm volatile("mov %0, %%dr7" : : "r"(0x402ULL));
	guest_sync(1);
	asm volatile("mov %%dr7, %0" : "=r"(dr7));
	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	guest_assert_eq(dr7, 0x402);
	guest_assert_eq(dr6, DR6_RESET);
	asm volatile(".globl own_bp\n"
		     "own_bp: nop\n" ::
			     : "memory");
	guest_assert_eq(db_count, arg ? 1 : 0);
	if (arg) {
		guest_assert_eq(db_rip, (u64)own_bp);
		guest_assert_eq(db_dr6 & 15, 1);
	}
	guest_sync(2);
	asm volatile("mov %0, %%dr6" : : "r"(DR6_RESET));
	asm volatile(".globl own_step, own_after\n"
		     "pushf; orl $0x100, (%%rsp); popf\n"
		     "own_step: nop\n"
		     "own_after: nop\n" ::
			     : "memory");
	guest_assert_eq(db_count, arg ? 2 : 1);
	guest_assert_eq(db_dr6 & 15, 0);
	guest_assert_eq(db_rip, (u64)own_after);
	guest_assert_eq(db_dr6 & DR6_BS, DR6_BS);
	guest_done();
}

/* The guest's own registers, undisturbed by INT3 debugging alone. */
static void test_own_with_sw(void)
{
	vm = vm_create_image();
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_own, arms_breakpoints());
	debug(SW, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* With userspace's registers the guest's sleep, but it and KVM_GET_DEBUGREGS still see them. */
static void test_own_with_hw(void)
{
	struct kvm_debugregs d;

	setup(guest_own, false);
	debug(HW, 1, 0x123456, 8);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &d));
	CHECK_EQ(d.db[0], (u64)own_bp);
	CHECK_EQ(d.db[1], 0);
	CHECK_EQ(d.dr7, 0x402);
	CHECK_EQ(d.dr6, DR6_RESET);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	debug(0, -1, 0, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &d));
	CHECK_EQ(d.dr7, 0x402);
	CHECK_EQ(d.dr6, DR6_RESET);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static volatile u64 seen_vector, seen_rip;

static void on_exception(struct guest_frame *f)
{
	seen_vector = f->vector;
	seen_rip = f->rip;
}

static void guest_inject(u64 arg)
{
	(void)arg;
	guest_handlers[DB] = on_exception;
	guest_handlers[BP] = on_exception;
	guest_sync(1);
	guest_assert_eq(seen_vector, DB);
	asm volatile("d_own: int3" ::: "memory");
	guest_assert_eq(seen_vector, BP);
	guest_sync(seen_rip);
	guest_done();
}

/* INJECT_DB, INJECT_BP: a foreign INT3 is handed on to the guest, which returns behind it. */
static void test_inject(void)
{
	struct kvm_guest_debug d = { .control = SW | KVM_GUESTDBG_INJECT_DB };
	u64 pc;

	need_int3();
	setup(guest_inject, false);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_complete(vcpu);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d));
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d), EBUSY);
	d.control = SW | KVM_GUESTDBG_INJECT_BP;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d), EBUSY);
	vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	pc = vcpu->run->debug.arch.pc;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d));
	CHECK_EQ(vcpu_run_guest(vcpu), pc + 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* The same by KVM_SET_VCPU_EVENTS, as QEMU does it. */
static void test_inject_events(void)
{
	struct kvm_vcpu_events e;
	u64 pc;

	need_int3();
	setup(guest_inject, false);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	vcpu_complete(vcpu);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = DB;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	debug(SW, -1, 0, 0);
	vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	pc = vcpu->run->debug.arch.pc;
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(e.exception.injected, 0);
	e.exception.injected = 1;
	e.exception.nr = BP;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &e));
	CHECK_EQ(vcpu_run_guest(vcpu), pc + 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static volatile u64 irqs;

static void on_irq(struct guest_frame *f)
{
	(void)f;
	irqs++;
	apic_write(0xb0, 0);
}

extern char b_sti[], b_end[];

static void guest_blocked(u64 arg)
{
	(void)arg;
	guest_handlers[0x40] = on_irq;
	apic_write(0xf0, 0x1ff);
	apic_write(0x300, 0x40040 | 0x4000);
	guest_sync(0);
	asm volatile(".globl b_sti, b_end\n"
		     "b_sti: sti\n"
		     "nop\n"
		     "nop\n"
		     "nop\n"
		     "b_end: nop\n" ::
			     : "memory");
	guest_sync(irqs);
	guest_done();
}

/* BLOCKIRQ: no interrupt is taken while it is on; it is not lost. */
static void test_blockirq(void)
{
	int i;

	setup(guest_blocked, true);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	debug(STEP | KVM_GUESTDBG_BLOCKIRQ, -1, 0, 0);
	for (i = 0; i < 20 && rip() != (u64)b_sti; i++)
		vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	/* QEMU's TCG takes STI and the instruction behind it as one step. */
	for (i = 0; i < 4 && rip() != (u64)b_end; i++)
		vcpu_expect(vcpu, KVM_EXIT_DEBUG);
	CHECK_EQ(rip(), (u64)b_end);
	CHECK_EQ(*guest_ptr(vm, irqs), 0);
	debug(0, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* KVM_SET_DEBUGREGS while userspace debugs sets the guest's, for later. */
static void test_debugregs_meanwhile(void)
{
	struct kvm_debugregs d = { .db = { 1, 2, 3, 4 }, .dr6 = DR6_RESET | 2, .dr7 = 0x401 };
	struct kvm_debugregs got;

	need_breakpoints();
	setup(guest_points, false);
	set_rip((u64)d_bp);
	debug(HW, 0, (u64)d_data, 2);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &d));
	expect_debug(DB, (u64)d_data, DR6_RESET | 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &got));
	CHECK(!memcmp(&d, &got, sizeof(d)));
	debug(0, -1, 0, 0);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &got));
	CHECK(!memcmp(&d, &got, sizeof(d)));
}

static void guest_int(u64 arg)
{
	(void)arg;
	guest_handlers[0x55] = on_exception;
	asm volatile("int $0x55" ::: "memory");
	guest_assert_eq(seen_vector, 0x55);
	guest_done();
}

/* INT n is not INT3: the guest takes it, whatever is debugged. */
static void test_int_n(void)
{
	setup(guest_int, false);
	debug(SW, -1, 0, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Capabilities, flags, bad pointers. */
static void test_errors(void)
{
	struct kvm_guest_debug d = { .control = STEP };
	int flags;

	setup(guest_points, false);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_SET_GUEST_DEBUG), 1);
	CHECK_EQ(vm_has_cap(vm, KVM_CAP_X86_ROBUST_SINGLESTEP), 1);
	flags = vm_has_cap(vm, KVM_CAP_SET_GUEST_DEBUG2);
	CHECK_EQ(flags, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
				KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB |
				KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ);
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, NULL), EFAULT);
	if (!vm_is_kvm()) {
		d.control |= 1u << 31;
		CHECK_ERR(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d), EINVAL);
	}
	/* Without ENABLE nothing is debugged. */
	d.control = KVM_GUESTDBG_SINGLESTEP;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d));
	set_rip((u64)d_bp);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static const struct ktap_test tests[] = {
	{ "sw_bp", test_sw_bp, 0 },
	{ "hw_bp", test_hw_bp, 0 },
	{ "watch", test_watch, 0 },
	{ "general_detect", test_general_detect, 0 },
	{ "step", test_step, 0 },
	{ "step_and_bp", test_step_and_bp, 0 },
	{ "own_with_sw", test_own_with_sw, 0 },
	{ "own_with_hw", test_own_with_hw, 0 },
	{ "inject", test_inject, 0 },
	{ "inject_events", test_inject_events, 0 },
	{ "int_n", test_int_n, 0 },
	{ "blockirq", test_blockirq, 0 },
	{ "debugregs_meanwhile", test_debugregs_meanwhile, 0 },
	{ "errors", test_errors, 0 },
};

KTAP_MAIN(tests)
