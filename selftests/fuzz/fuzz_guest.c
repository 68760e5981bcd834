// SPDX-License-Identifier: GPL-2.0
/*
 * Random guests: any bytes as code in any mode, with hostile registers, descriptor tables and page
 * tables, while another thread writes to all of them. KVM_RUN must come back at each signal, with
 * an exit reason that there is; what a vCPU's state then is can be read and written back; memory
 * beside the guest's is not touched.
 *
 * FUZZ_SECONDS says for how long (20), TEST_SEED where to begin. The seed of a machine is in the
 * kernel's log before it runs, and repeats it but for what the two threads do to each other.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host.h"
#include "insns.h"
#include "vm.h"

#define MEM_SIZE     (4ULL << 20)
#define CANARY	     0xa5
#define CODE_BYTES   192
#define CASES_PER_VM 64
#define HOLE	     0x10000000ULL
#define MAX_REASON   64

static u64 exits[MAX_REASON], cases, interrupted, refused, machines;
static volatile bool stop_threads;

static u64 pick(const u64 *list, size_t n)
{
	return list[test_random() % n];
}

#define PICK(list) pick(list, ARRAY_LEN(list))

/* --- code --- */

static void write_code(u8 *code)
{
	size_t n = 0;

	while (n < CODE_BYTES - 8) {
		const struct insn *insn = &insns[test_random() % ARRAY_LEN(insns)];

		if (test_random() % 4 == 0)
			code[n++] = prefixes[test_random() % sizeof(prefixes)];
		if (test_random() % 8 == 0) {
			code[n++] = test_random();
			continue;
		}
		memcpy(code + n, insn->bytes, insn->len);
		n += insn->len;
	}
	memset(code + n, 0xf4, CODE_BYTES - n);
}

/* --- registers --- */

static u64 any_address(void)
{
	static const u64 list[] = {
		0,
		8,
		0xfff,
		VM_GDT_GPA,
		VM_PT_GPA,
		VM_PT_GPA + 0xffe,
		VM_IDT_GPA,
		VM_CODE_GPA,
		VM_STACK_GPA - 1,
		MEM_SIZE - 3,
		MEM_SIZE,
		HOLE,
		HOLE + 0xffd,
		0xfee00000,
		0xfee00080,
		0xfee00300,
		0xfee00380,
		0xfee00ffe,
		0xfec00000,
		0xfec00010,
		0xffffffff,
		0x7ffffffffffe,
		0x800000000000,
		0xffff800000000000,
		~0ULL,
	};

	return PICK(list) + (test_random() % 4 ? 0 : test_random() % 64);
}

static u64 any_value(void)
{
	switch (test_random() % 4) {
	case 0:
		return test_random();
	case 1:
		return 1ULL << test_random() % 64;
	case 2:
		return test_random() % 256;
	default:
		return any_address();
	}
}

static u64 any_msr(void)
{
	static const u64 list[] = {
		0x10,	    0x1b,	0x3b,	    0x8b,	0xfe,	    0x174,	0x175,
		0x176,	    0x179,	0x17a,	    0x1d9,	0x200,	    0x277,	0x2ff,
		0x400,	    0x6e0,	0x800,	    0x80b,	0x830,	    0x838,	0x83f,
		0xc0000081, 0xc0000082, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010010,
		0xc0010015, 0xc0010114, 0xc0010117, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04,
		0x4b564d05, 0x48,	0x49,	    0xda0,
	};

	return test_random() % 8 ? PICK(list) : test_random() & 0xc001ffff;
}

static u64 any_port(void)
{
	static const u64 list[] = { 0x20, 0x21, 0xa0,  0xa1,  0x40,  0x42,
				    0x43, 0x61, 0x4d0, 0x3f8, 0xcf8, 0xffff };

	return PICK(list);
}

static void hostile_registers(struct vcpu *vcpu)
{
	struct kvm_regs r;

	vcpu_get_regs(vcpu, &r);
	r.rax = any_value();
	r.rbx = any_address();
	r.rcx = test_random() % 2 ? any_msr() : any_value();
	r.rdx = test_random() % 2 ? any_port() : any_value();
	r.rsi = any_address();
	r.rdi = any_address();
	r.rbp = any_address();
	if (test_random() % 4 == 0)
		r.rsp = any_address();
	if (test_random() % 8 == 0)
		r.rflags ^= 1ULL << test_random() % 22;
	r.rflags = (r.rflags & 0x3f7fd5) | 2;
	vcpu_set_regs(vcpu, &r);
}

static void hostile_sregs(struct vcpu *vcpu)
{
	struct kvm_sregs s, old;
	u8 *bytes = (u8 *)&s;

	vcpu_get_sregs(vcpu, &s);
	old = s;
	for (u64 n = test_random() % 3; n; n--)
		bytes[test_random() % sizeof(s)] ^= 1 << test_random() % 8;
	s.apic_base = old.apic_base;
	s.efer = old.efer;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &s)) {
		CHECK_EQ(errno, EINVAL);
		refused++;
	}
}

/* --- the threads --- */

static void ignore(int sig)
{
	(void)sig;
}

static void *tick(void *arg)
{
	while (!stop_threads) {
		sleep_ms(4);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

/* Code and tables change under the guest and under the emulator. */
static void *scribble(void *arg)
{
	volatile u8 *mem = arg;
	u64 x = 88172645463325252ULL;

	while (!stop_threads) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		mem[(x & 1 ? VM_CODE_GPA + (x >> 8) % CODE_BYTES : 0x1000 + (x >> 8) % 0x9000)] ^=
			1 << (x >> 4) % 8;
		sleep_ms(1);
	}
	return NULL;
}

/* --- a case --- */

/* What the vCPU has become can be saved, and restored. */
static void round_trip(struct vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	static struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_fpu fpu;

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_REGS, &regs));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_FPU, &fpu));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &debug));
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debug));
	/* QEMU's FXRSTOR takes any MXCSR, where a processor has #GP. */
	if (fpu.mxcsr & ~0xffff)
		fpu.mxcsr = 0x1f80;
	else
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_FPU, &fpu));
	if (ioctl(vcpu->fd, KVM_SET_SREGS,
		  &sregs)) /* what SET_SREGS before let pass, and the guest not */
		CHECK_EQ(errno, EINVAL);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_REGS, &regs));
}

static void run_case(struct vcpu *vcpu)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu_events events = {};
	struct kvm_run *run = vcpu->run;
	int reason, n;

	ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	vcpu_set_mode(vcpu, test_random() % (MODE_COMPAT + 1), test_random() % 4 ? 0 : 3,
		      VM_CODE_GPA);
	hostile_registers(vcpu);
	if (test_random() % 4 == 0)
		hostile_sregs(vcpu);
	if (test_random() % 8 == 0)
		ioctl(vcpu->fd, KVM_NMI, 0);
	for (n = 0; n < 200; n++) {
		/* In the end only what was begun is finished. */
		run->immediate_exit = n >= 40;
		reason = vcpu_run(vcpu);
		if (reason < 0) {
			CHECKF(reason == -EINTR || reason == -EFAULT || reason == -EAGAIN, "%d",
			       reason);
			interrupted++;
			break;
		}
		CHECKF(reason < MAX_REASON && reason != KVM_EXIT_UNKNOWN, "exit reason %d", reason);
		exits[reason]++;
		if (reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			*(u64 *)run->mmio.data = test_random();
		else if (reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			*(u64 *)((u8 *)run + run->io.data_offset) = test_random();
		else if (reason != KVM_EXIT_MMIO && reason != KVM_EXIT_IO)
			break;
	}
	run->immediate_exit = 0;
	round_trip(vcpu);
	cases++;
}

static void say_seed(u64 seed)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[64];
	int len = snprintf(line, sizeof(line), "fuzz_guest: seed %#lx\n", seed);

	/* dprintf() seeks, which this file refuses. */
	CHECK(fd < 0 || write(fd, line, len) == len);
	if (fd >= 0)
		close(fd);
}

static void run_machine(pthread_t *self)
{
	u8 *mem = mmap(NULL, MEM_SIZE + 2 * 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vm *vm = vm_create();
	pthread_t ticker, scribbler;
	struct vcpu *vcpu;

	CHECK(mem != MAP_FAILED);
	memset(mem, CANARY, 4096);
	memset(mem + 4096 + MEM_SIZE, CANARY, 4096);
	vm_set_slot(vm, 0, 0, mem + 4096, MEM_SIZE, 0);
	vm_write_tables(vm);
	if (test_random() % 2)
		vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	stop_threads = false;
	CHECK(!pthread_create(&ticker, NULL, tick, self));
	CHECK(!pthread_create(&scribbler, NULL, scribble, mem + 4096));
	for (int i = 0; i < CASES_PER_VM; i++) {
		if (i % 8 == 0)
			vm_write_tables(vm);
		write_code(mem + 4096 + VM_CODE_GPA);
		run_case(vcpu);
	}
	stop_threads = true;
	pthread_join(ticker, NULL);
	pthread_join(scribbler, NULL);
	for (int i = 0; i < 4096; i++)
		CHECK(mem[i] == CANARY && mem[4096 + MEM_SIZE + i] == CANARY);
	vm_set_slot(vm, 0, 0, NULL, 0, 0);
	vm_destroy(vm);
	munmap(mem, MEM_SIZE + 2 * 4096);
	machines++;
}

static void test_guests(void)
{
	const char *seconds = getenv("FUZZ_SECONDS"), *seed = getenv("TEST_SEED");
	struct sigaction sa = { .sa_handler = ignore };
	u64 end = now_ms() + 1000 * (seconds ? strtoull(seconds, NULL, 0) : 20);
	u64 base = seed ? strtoull(seed, NULL, 0) : 1, n;
	pthread_t self = pthread_self();
	u64 before = host_vmexits();

	sigaction(SIGUSR1, &sa, NULL);
	for (n = 0; now_ms() < end && !ktap_timed_out; n++) {
		say_seed(base + n);
		test_random_seed(base + n);
		run_machine(&self);
	}
	ktap_diag(
		"seeds %lu to %lu: %lu machines, %lu cases, %lu interrupted, %lu SET_SREGS refused",
		base, base + n - 1, machines, cases, interrupted, refused);
	ktap_diag("%lu #VMEXITs, of them to userspace:", host_vmexits() - before);
	for (int i = 0; i < MAX_REASON; i++)
		if (exits[i])
			ktap_diag("  %-16s %lu", vm_exit_name(i), exits[i]);
	CHECK(cases >= CASES_PER_VM && exits[KVM_EXIT_MMIO] && exits[KVM_EXIT_IO]);
}

static const struct ktap_test tests[] = {
	{ "guests", test_guests, 86400 },
};

KTAP_MAIN(tests)
