// SPDX-License-Identifier: GPL-2.0
/*
 * The world switch keeps every register, on both sides: random values in GPRs,
 * x87, SSE and AVX state, MSRs and debug registers over 10,000 exits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"
#include "vm.h"

#define ROUNDS	      625
#define EXITS_A_ROUND 16 /* 625 * 16 = 10,000 exits */

#define XSAVE_SIZE 4096
#define XFEATURES  7ULL /* x87, SSE, AVX */

/* RAX, RBX, RCX, RSI, RDI, RBP, R8-R15; RDX holds the port. */
u64 gpr_in[14], gpr_out[14]; /* the assembly below names them */
static u8 xsave_in[XSAVE_SIZE] __attribute__((aligned(64)));
static u8 xsave_out[XSAVE_SIZE] __attribute__((aligned(64)));

/* Load all from gpr_in, exit 16 times, store all to gpr_out. */
asm(".text\n"
    "gpr_cycle:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, saved_rsp\n"
    "	mov gpr_in+0, %rax; mov gpr_in+8, %rbx; mov gpr_in+16, %rcx\n"
    "	mov gpr_in+24, %rsi; mov gpr_in+32, %rdi; mov gpr_in+40, %rbp\n"
    "	mov gpr_in+48, %r8; mov gpr_in+56, %r9; mov gpr_in+64, %r10\n"
    "	mov gpr_in+72, %r11; mov gpr_in+80, %r12; mov gpr_in+88, %r13\n"
    "	mov gpr_in+96, %r14; mov gpr_in+104, %r15\n"
    "	mov $0x10, %edx\n"
    "	mov gpr_in+40, %rsp\n" /* RSP is just another register */
    "	.rept 16\n"
    "	outb %al, %dx\n"
    "	.endr\n"
    "	cmp gpr_in+40, %rsp\n"
    "	jne 1f\n"
    "	mov saved_rsp, %rsp\n"
    "	mov %rax, gpr_out+0; mov %rbx, gpr_out+8; mov %rcx, gpr_out+16\n"
    "	mov %rsi, gpr_out+24; mov %rdi, gpr_out+32; mov %rbp, gpr_out+40\n"
    "	mov %r8, gpr_out+48; mov %r9, gpr_out+56; mov %r10, gpr_out+64\n"
    "	mov %r11, gpr_out+72; mov %r12, gpr_out+80; mov %r13, gpr_out+88\n"
    "	mov %r14, gpr_out+96; mov %r15, gpr_out+104\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n"
    "1:	ud2\n"
    ".local saved_rsp\n"
    ".comm saved_rsp, 8, 8\n");
void gpr_cycle(void);

static void xrstor(void *area, u64 mask)
{
	asm volatile("xrstor64 (%0)"
		     :
		     : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
		     : "memory");
}

static void xsave(void *area, u64 mask)
{
	asm volatile("xsave64 (%0)"
		     :
		     : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
		     : "memory");
}

/* A random image that XRSTOR accepts. */
static void random_xsave(u8 *area, u64 mask)
{
	int i;

	for (i = 0; i < 1024; i++)
		area[i] = test_random();
	memset(area + 512, 0, 64);    /* header */
	memcpy(area + 512, &mask, 8); /* XSTATE_BV */
	*(u16 *)area = 0x37f;	      /* FCW: all masked */
	*(u16 *)(area + 2) = 0;	      /* FSW: no pending exception, TOP 0 */
	area[4] = 0xff;		      /* FTW: all valid */
	area[5] = 0;
	memset(area + 6, 0, 18);      /* FOP, FIP, FDP: AMD may not keep them */
	*(u32 *)(area + 24) = 0x1f80; /* MXCSR */
	*(u32 *)(area + 28) = 0xffff;
	for (i = 0; i < 8; i++)
		memset(area + 32 + 16 * i + 10, 0, 6); /* ST regs have 80 bits */
	memset(area + 416, 0, 96);		       /* reserved */
}

/* Compare what matters: FCW, ST/XMM registers, MXCSR, YMM halves. */
static bool same_xsave(const u8 *a, const u8 *b, u64 mask)
{
	u64 i;

	for (i = 0; i < 2; i++)
		if (a[i] != b[i])
			return false;
	for (i = 24; i < 28; i++)
		if (a[i] != b[i])
			return false;
	for (i = 32; i < 416; i++)
		if (a[i] != b[i])
			return false;
	for (i = 576; (mask & 4) && i < 576 + 256; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* What the CPU this runs on has: the host's and the guest's may differ. */
static u64 avx_mask(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	return r[2] & 1u << 28 ? 7 : 3;
}

static u64 guest_avx_mask(struct vm *vm)
{
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm->dev);
	u32 i;

	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			return cpuid->entries[i].ecx & 1u << 28 ? 7 : 3;
	return 3;
}

static bool have_xsave(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	return r[2] & 1u << 26;
}

/* GPRs: the guest checks after 16 exits; the host checks at each. */
static void guest_gprs(u64 arg)
{
	u64 round;
	int i;

	for (round = 0; round < arg; round++) {
		guest_sync(1);
		gpr_cycle();
		for (i = 0; i < 14; i++)
			guest_assert_eq(gpr_out[i], gpr_in[i]);
	}
	guest_done();
}

static void check_gprs(struct vcpu *vcpu, const u64 *in)
{
	struct kvm_regs r;

	vcpu_get_regs(vcpu, &r);
	CHECK_EQ(r.rax, in[0]);
	CHECK_EQ(r.rbx, in[1]);
	CHECK_EQ(r.rcx, in[2]);
	CHECK_EQ(r.rsi, in[3]);
	CHECK_EQ(r.rdi, in[4]);
	CHECK_EQ(r.rbp, in[5]);
	CHECK_EQ(r.rsp, in[5]);
	CHECK_EQ(r.r8, in[6]);
	CHECK_EQ(r.r15, in[13]);
}

static void test_gprs(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 *in = *guest_ptr(vm, gpr_in);
	int round, i;

	vcpu_set_guest(vcpu, guest_gprs, ROUNDS);
	for (round = 0; round < ROUNDS; round++) {
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		for (i = 0; i < 14; i++)
			in[i] = test_random();
		for (i = 0; i < EXITS_A_ROUND; i++) {
			vcpu_expect_out(vcpu, 0x10, 1);
			if (i % 4 == 0)
				check_gprs(vcpu, in);
		}
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* x87, SSE and AVX, with the host's own registers filled with other values. */
static void guest_fpu(u64 arg)
{
	u64 mask = avx_mask();
	u64 round;
	int i;

	write_cr4(read_cr4() | 1 << 18); /* OSXSAVE */
	for (round = 0; round < arg; round++) {
		guest_sync(1);
		xrstor(xsave_in, mask);
		for (i = 0; i < EXITS_A_ROUND; i++)
			outb(0x10, i);
		/* An exit that stays in the kernel. */
		asm volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx");
		xsave(xsave_out, mask);
		guest_assert(same_xsave(xsave_in, xsave_out, mask));
	}
	guest_done();
}

/* Not by XSETBV in the guest: QEMU runs that without telling the hypervisor. */
static void set_xcr0(struct vcpu *vcpu, u64 value)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = value };

	CHECK_OK(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs));
}

/* KVM_RUN with nothing between our registers and the system call. */
static int run_raw(struct vcpu *vcpu, const u8 *in, u8 *out, u64 mask)
{
	register long r10 asm("r10") = 0;
	long ret;

	if (mask & 4)
		asm volatile("xrstor64 (%0)" : : "r"(in), "a"((u32)mask), "d"(0) : "memory");
	else
		asm volatile("fxrstor64 (%0)" : : "r"(in) : "memory");
	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(SYS_ioctl), "D"(vcpu->fd), "S"(KVM_RUN), "d"(0), "r"(r10)
		     : "rcx", "r11", "memory");
	if (mask & 4)
		asm volatile("xsave64 (%0)" : : "r"(out), "a"((u32)mask), "d"(0) : "memory");
	else
		asm volatile("fxsave64 (%0)" : : "r"(out) : "memory");
	return ret < 0 ? ret : (int)vcpu->run->exit_reason;
}

static void test_fpu(void)
{
	static u8 mine[XSAVE_SIZE] __attribute__((aligned(64)));
	static u8 after[XSAVE_SIZE] __attribute__((aligned(64)));
	static u8 own[XSAVE_SIZE] __attribute__((aligned(64)));
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 mask = avx_mask(), guest_mask = guest_avx_mask(vm);
	int round, i, got;

	if (!have_xsave())
		ktap_skip("no XSAVE");
	xsave(own, mask);
	set_xcr0(vcpu, guest_mask);
	vcpu_set_guest(vcpu, guest_fpu, ROUNDS);
	for (round = 0; round < ROUNDS; round++) {
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		random_xsave(*guest_ptr(vm, xsave_in), guest_mask);
		random_xsave(mine, mask);
		for (i = 0; i < EXITS_A_ROUND; i++) {
			got = run_raw(vcpu, mine, after, mask);
			xrstor(own, mask);
			CHECKF(got == KVM_EXIT_IO, "%s", vm_exit_name(got));
			if (vcpu->run->io.port != 0x10)
				vcpu_run_guest(vcpu);
			CHECKF(same_xsave(mine, after, mask), "host registers, round %d", round);
		}
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* MSRs and CR2 that the switch moves. */
static const u32 switch_msrs[] = {
	0xc0000100, 0xc0000101, 0xc0000102,		/* FS, GS, KERNEL_GS base */
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, /* STAR, LSTAR, CSTAR, SFMASK */
	0x174,	    0x175,	0x176,			/* SYSENTER */
	0x277,						/* PAT */
};
#define N_MSRS ARRAY_LEN(switch_msrs)

static u64 msr_in[N_MSRS], cr2_in, dr_in[4];

static void guest_msrs(u64 arg)
{
	u64 round, val;
	u32 i;

	for (round = 0; round < arg; round++) {
		guest_sync(1);
		for (i = 0; i < N_MSRS; i++)
			wrmsr(switch_msrs[i], msr_in[i]);
		write_cr2(cr2_in);
		asm volatile("mov %0, %%dr0" : : "r"(dr_in[0]));
		asm volatile("mov %0, %%dr1" : : "r"(dr_in[1]));
		asm volatile("mov %0, %%dr2" : : "r"(dr_in[2]));
		asm volatile("mov %0, %%dr3" : : "r"(dr_in[3]));
		for (i = 0; i < EXITS_A_ROUND; i++)
			outb(0x10, i);
		for (i = 0; i < N_MSRS; i++)
			guest_assert_eq(rdmsr(switch_msrs[i]), msr_in[i]);
		guest_assert_eq(read_cr2(), cr2_in);
		asm volatile("mov %%dr0, %0" : "=r"(val));
		guest_assert_eq(val, dr_in[0]);
		asm volatile("mov %%dr1, %0" : "=r"(val));
		guest_assert_eq(val, dr_in[1]);
		asm volatile("mov %%dr2, %0" : "=r"(val));
		guest_assert_eq(val, dr_in[2]);
		asm volatile("mov %%dr3, %0" : "=r"(val));
		guest_assert_eq(val, dr_in[3]);
	}
	guest_done();
}

static u64 random_canonical(void)
{
	return (u64)((int64_t)(test_random() << 16) >> 16);
}

static u64 random_msr(u32 index)
{
	switch (index) {
	case 0x277:
		return test_random() & 1 ? 0x0007040600070406 : 0x0606060606060606;
	case 0xc0000084:
		return test_random() & 0xffffffff;
	case 0xc0000081:
		return test_random();
	case 0x174:
		return test_random() & 0xffff;
	case 0x175:
	case 0x176:
		return test_random() & 0x7fffffff;
	default:
		return random_canonical();
	}
}

static void test_msrs(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 *in = *guest_ptr(vm, msr_in);
	struct kvm_sregs s;
	int round;
	u32 i;

	vcpu_set_guest(vcpu, guest_msrs, 200);
	for (round = 0; round < 200; round++) {
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		for (i = 0; i < N_MSRS; i++)
			in[i] = random_msr(switch_msrs[i]);
		*guest_ptr(vm, cr2_in) = test_random();
		for (i = 0; i < 4; i++)
			(*guest_ptr(vm, dr_in))[i] = random_canonical();
		for (i = 0; i < EXITS_A_ROUND; i++)
			vcpu_expect_out(vcpu, 0x10, 1);
		for (i = 0; i < N_MSRS; i++)
			CHECKF(vcpu_get_msr(vcpu, switch_msrs[i]) == in[i], "MSR %#x",
			       switch_msrs[i]);
		vcpu_get_sregs(vcpu, &s);
		CHECK_EQ(s.fs.base, in[0]);
		CHECK_EQ(s.gs.base, in[1]);
		CHECK_EQ(s.cr2, *guest_ptr(vm, cr2_in));
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Two vCPUs on one CPU in turn don't see each other's state. */
static void test_two_vcpus(void)
{
	struct vm *vm[2];
	struct vcpu *vcpu[2];
	int round, i, k;

	for (k = 0; k < 2; k++) {
		vm[k] = vm_create_image();
		vcpu[k] = vcpu_create(vm[k], 0);
		set_xcr0(vcpu[k], guest_avx_mask(vm[k]));
		vcpu_set_guest(vcpu[k], guest_fpu, 50);
	}
	for (round = 0; round < 50; round++) {
		for (k = 0; k < 2; k++) {
			CHECK_EQ(vcpu_run_guest(vcpu[k]), 1);
			random_xsave(*guest_ptr(vm[k], xsave_in), guest_avx_mask(vm[k]));
		}
		for (i = 0; i < 2 * EXITS_A_ROUND; i++)
			vcpu_expect_out(vcpu[i & 1], 0x10, 1);
	}
	for (k = 0; k < 2; k++)
		CHECK_EQ(vcpu_run_guest(vcpu[k]), GUEST_DONE);
}

/* The host's MSRs, through the msr driver. */
static const u32 host_msrs[] = {
	0x1b,	    0x10a,	0x174,	    0x175,	0x176,	    0x17a,
	0x1d9,	    0x277,	0x2ff,	    0x48,	0xda0,	    0xc0000081,
	0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
	0xc0000103, 0xc0000104, 0xc0010010, 0xc0010015, 0xc0010114,
};
#define N_HOST ARRAY_LEN(host_msrs)

static void read_host(int fd, u64 *vals)
{
	u32 i;

	for (i = 0; i < N_HOST; i++)
		if (pread(fd, &vals[i], 8, host_msrs[i]) != 8)
			vals[i] = 0xdead;
}

static void test_host_msrs(void)
{
	u64 before[N_HOST], after[N_HOST];
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 *in = *guest_ptr(vm, msr_in);
	int fd = host_msr_open();
	int round;
	u32 i;

	vcpu_set_guest(vcpu, guest_msrs, 100);
	read_host(fd, before);
	for (round = 0; round < 100; round++) {
		CHECK_EQ(vcpu_run_guest(vcpu), 1);
		for (i = 0; i < N_MSRS; i++)
			in[i] = random_msr(switch_msrs[i]);
		for (i = 0; i < EXITS_A_ROUND; i++)
			vcpu_expect_out(vcpu, 0x10, 1);
		read_host(fd, after);
		for (i = 0; i < N_HOST; i++)
			CHECKF(before[i] == after[i], "host MSR %#x: %#llx, then %#llx",
			       host_msrs[i], (unsigned long long)before[i],
			       (unsigned long long)after[i]);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A host breakpoint, set by ptrace, survives a guest that writes its own (and D13229). */
static volatile int watched;

static void guest_drs(u64 arg)
{
	u64 i, val;

	for (i = 0; i < arg; i++) {
		asm volatile("mov %0, %%dr0" : : "r"(i * 8));
		/* Not enabled: QEMU 7.2 crashes when guest and host both have breakpoints. */
		asm volatile("mov %0, %%dr7" : : "r"(0x400ULL | (i & 3) << 16));
		outb(0x10, i);
		asm volatile("mov %%dr0, %0" : "=r"(val));
		guest_assert_eq(val, i * 8);
	}
	guest_done();
}

static void drs_tracee(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int i;

	vcpu_set_guest(vcpu, guest_drs, 100);
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
	for (i = 0; i < 100; i++) {
		vcpu_expect_out(vcpu, 0x10, 1);
		if (i % 10 == 0)
			watched = i; /* one SIGTRAP each */
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	_exit(0);
}

static void poke_dr(pid_t pid, int n, u64 val)
{
	CHECK_OK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]) + 8 * n, val));
}

static void test_host_breakpoint(void)
{
	int status, traps = 0;
	pid_t pid = fork();

	if (!pid)
		drs_tracee();
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFSTOPPED(status));
	poke_dr(pid, 0, (u64)&watched);
	poke_dr(pid, 7, 1 | 1 << 16 | 3 << 18); /* DR0: local, write, 4 bytes */
	for (;;) {
		CHECK_OK(ptrace(PTRACE_CONT, pid, 0, 0));
		CHECK(waitpid(pid, &status, 0) == pid);
		if (!WIFSTOPPED(status))
			break;
		CHECK_EQ(WSTOPSIG(status), SIGTRAP);
		traps++;
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK_EQ(traps, 10);
}

/* Segment state of the host with an LDT selector loaded (security row 45). */
static void test_host_segments(void)
{
	struct {
		u32 entry, base, limit, flags;
	} ldt = { 0, 0, 0xfffff, 0x51 };
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u16 sel = 7, fs, gs;
	int i;

	if (syscall(SYS_modify_ldt, 1, &ldt, sizeof(ldt)) < 0)
		ktap_skip("no modify_ldt()");
	vcpu_set_guest(vcpu, guest_drs, 20);
	asm volatile("mov %0, %%gs" : : "r"(sel));
	for (i = 0; i < 20; i++) {
		vcpu_expect_out(vcpu, 0x10, 1);
		asm volatile("mov %%gs, %0" : "=r"(gs));
		asm volatile("mov %%fs, %0" : "=r"(fs));
		CHECK_EQ(gs, 7);
		CHECK_EQ(fs, 0);
		CHECK_OK(syscall(SYS_modify_ldt, 1, &ldt, sizeof(ldt)));
	}
}

/* Another thread gives the process a new LDT while the guest runs: this one must not go on with the old, freed one. */
static volatile u64 ldt_running, ldt_done;

static void guest_ldt(u64 arg)
{
	u32 regs[4];

	(void)arg;
	ldt_running = 1;
	while (!ldt_done)
		cpuid(0, 0, regs);
	cpuid(0, 0, regs);
	guest_done();
}

static int write_ldt(u32 limit)
{
	struct {
		u32 entry, base, limit, flags;
	} ldt = { 0, 0, limit, 0x41 };

	return syscall(SYS_modify_ldt, 1, &ldt, sizeof(ldt));
}

static void *change_ldt(void *arg)
{
	struct vm *vm = arg;

	bind_cpu(1);
	while (!*guest_ptr(vm, ldt_running))
		;
	CHECK_OK(write_ldt(0x2222));
	*guest_ptr(vm, ldt_done) = 1;
	return NULL;
}

static void test_host_ldt_changes(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	pthread_t thread;
	u32 limit;
	int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		ktap_skip("needs two CPUs");
	for (i = 0; i < 20; i++) {
		if (write_ldt(0x1111) < 0)
			ktap_skip("no modify_ldt()");
		bind_cpu(0);
		*guest_ptr(vm, ldt_running) = 0;
		*guest_ptr(vm, ldt_done) = 0;
		vcpu_set_guest(vcpu, guest_ldt, 0);
		CHECK(!pthread_create(&thread, NULL, change_ldt, vm));
		CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
		asm volatile("lsl %1, %0" : "=r"(limit) : "r"(7));
		CHECK_EQ(limit, 0x2222);
		pthread_join(thread, NULL);
	}
}

static const struct ktap_test tests[] = {
	{ "gprs", test_gprs, 60 },
	{ "fpu", test_fpu, 60 },
	{ "msrs_cr2_drs", test_msrs, 60 },
	{ "two_vcpus", test_two_vcpus, 0 },
	{ "host_msrs", test_host_msrs, 60 },
	{ "host_breakpoint", test_host_breakpoint, 0 },
	{ "host_segments", test_host_segments, 0 },
	{ "host_ldt_changes", test_host_ldt_changes, 60 },
};

KTAP_MAIN(tests)
