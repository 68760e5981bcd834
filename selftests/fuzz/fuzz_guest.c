// SPDX-License-Identifier: GPL-2.0
/*
 * Random guests: any bytes as code in any mode, with hostile registers, descriptor tables and page
 * tables, while another thread writes to all of them. KVM_RUN must come back at each signal, with
 * an exit reason that there is; what a vCPU's state then is can be read and written back; memory
 * beside the guest's is not touched.
 *
 * The seed of a round is in the kernel's log before it runs, and repeats it but for what the
 * threads do to each other.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "insns.h"

#define MEM_SIZE     (4ULL << 20)
#define CANARY	     0xa5
#define CODE_BYTES   192
#define CASES_PER_VM 64

static struct {
	u64 cases, interrupted, refused, machines;
} * totals;

static struct rng r;
static volatile bool stop_threads;

/* --- code --- */

static void write_code(u8 *code)
{
	size_t n = 0;

	while (n < CODE_BYTES - 8) {
		const struct insn *insn = &PICK(&r, insns);

		if (chance(&r, 25))
			code[n++] = PICK(&r, prefixes);
		if (chance(&r, 12)) {
			code[n++] = rnd(&r);
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
	static const u64 own[] = {
		8,	    0xfff,	 VM_GDT_GPA,	   VM_PT_GPA,	 VM_PT_GPA + 0xffe,
		VM_IDT_GPA, VM_CODE_GPA, VM_STACK_GPA - 1, MEM_SIZE - 3, MEM_SIZE,
	};

	return (chance(&r, 40) ? PICK(&r, own) : PICK(&r, guest_addresses)) +
	       (chance(&r, 75) ? 0 : below(&r, 64));
}

static u64 any_value(void)
{
	switch (below(&r, 4)) {
	case 0:
		return rnd(&r);
	case 1:
		return 1ULL << below(&r, 64);
	case 2:
		return below(&r, 256);
	default:
		return any_address();
	}
}

static u64 any_msr(void)
{
	return chance(&r, 85) ? PICK(&r, guest_msrs) : rnd(&r) & 0xc001ffff;
}

static void hostile_registers(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_get_regs(vcpu, &regs);
	regs.rax = any_value();
	regs.rbx = any_address();
	regs.rcx = chance(&r, 50) ? any_msr() : any_value();
	regs.rdx = chance(&r, 50) ? PICK(&r, guest_ports) : any_value();
	regs.rsi = any_address();
	regs.rdi = any_address();
	regs.rbp = any_address();
	if (chance(&r, 25))
		regs.rsp = any_address();
	if (chance(&r, 12))
		regs.rflags ^= 1ULL << below(&r, 22);
	regs.rflags = (regs.rflags & 0x3f7fd5) | 2;
	vcpu_set_regs(vcpu, &regs);
}

static void hostile_sregs(struct vcpu *vcpu)
{
	struct kvm_sregs s, old;
	u8 *bytes = (u8 *)&s;

	vcpu_get_sregs(vcpu, &s);
	old = s;
	for (u64 n = below(&r, 3); n; n--)
		bytes[below(&r, sizeof(s))] ^= 1 << below(&r, 8);
	s.apic_base = old.apic_base;
	s.efer = old.efer;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &s)) {
		CHECK_EQ(errno, EINVAL);
		COUNT(totals->refused);
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
	vcpu_set_mode(vcpu, below(&r, MODE_COMPAT + 1), chance(&r, 75) ? 0 : 3, VM_CODE_GPA);
	hostile_registers(vcpu);
	if (chance(&r, 25))
		hostile_sregs(vcpu);
	if (chance(&r, 12))
		ioctl(vcpu->fd, KVM_NMI, 0);
	for (n = 0; n < 200; n++) {
		/* In the end only what was begun is finished. */
		run->immediate_exit = n >= 40;
		reason = vcpu_run(vcpu);
		if (reason < 0) {
			CHECKF(reason == -EINTR || reason == -EFAULT || reason == -EAGAIN, "%d",
			       reason);
			COUNT(totals->interrupted);
			break;
		}
		CHECKF(reason < FUZZ_MAX_EXIT && reason != KVM_EXIT_UNKNOWN, "exit reason %d",
		       reason);
		count_exit(reason);
		if (reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			*(u64 *)run->mmio.data = rnd(&r);
		else if (reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			*(u64 *)((u8 *)run + run->io.data_offset) = rnd(&r);
		else if (reason != KVM_EXIT_MMIO && reason != KVM_EXIT_IO)
			break;
	}
	run->immediate_exit = 0;
	round_trip(vcpu);
	COUNT(totals->cases);
}

static void run_machine(pthread_t *self)
{
	u8 *mem = mmap(NULL, MEM_SIZE + 2 * 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* Else #UD goes to user code with a hostile TSS, which ends QEMU (Documentation/errata.rst). */
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };
	struct vm *vm = vm_create();
	pthread_t ticker, scribbler;
	struct vcpu *vcpu;

	CHECK(mem != MAP_FAILED);
	memset(mem, CANARY, 4096);
	memset(mem + 4096 + MEM_SIZE, CANARY, 4096);
	vm_set_slot(vm, 0, 0, mem + 4096, MEM_SIZE, 0);
	vm_write_tables(vm);
	ioctl(vm->fd, KVM_ENABLE_CAP, &cap); /* KVM of 6.1 may not have it */
	if (chance(&r, 50))
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
	COUNT(totals->machines);
}

static void guest_round(u64 seed, u64 end)
{
	struct sigaction sa = { .sa_handler = ignore };
	pthread_t self = pthread_self();

	rng_at(&r, seed, 0, 0);
	sigaction(SIGUSR1, &sa, NULL);
	while (now_ms() < end)
		run_machine(&self);
}

static void test_guests(void)
{
	u64 before = host_vmexits();

	totals = fuzz_shared(sizeof(*totals));
	fuzz_rounds(guest_round);
	fuzz_report();
	ktap_diag("%lu #VMEXITs; %lu machines, %lu cases, %lu interrupted, %lu SET_SREGS refused",
		  host_vmexits() - before, totals->machines, totals->cases, totals->interrupted,
		  totals->refused);
	CHECK(totals->cases >= CASES_PER_VM && fuzz_counts->exits[KVM_EXIT_MMIO] &&
	      fuzz_counts->exits[KVM_EXIT_IO]);
}

int main(int argc, char **argv)
{
	return fuzz_main("fuzz_guest", test_guests, argc, argv);
}
