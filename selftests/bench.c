// SPDX-License-Identifier: GPL-2.0
/*
 * bench [DEVICE | --scale DEVICE]: instructions per exit, by RDTSC under QEMU's -icount, where
 * the time-stamp counter counts retired instructions. Prints "name value" lines.
 *
 * The guest times its own loops, so the way through KVM_RUN and this client is
 * in the figures of the exits to userspace, as it is for every VMM.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define ROUNDS		 500
#define BATCHES		 5
#define TIMER_ROUNDS	 60
#define VM_ROUNDS	 20
#define PORT_USER	 0x510
#define MMIO_USER	 0x10000000ULL
#define IOAPIC		 0xfec00000ULL
#define TOUCH_GPA	 0x40000000ULL
#define TOUCH_PAGES	 512
#define TOUCH_HUGE	 16
#define TIMER_COUNT	 100000
#define MSR_TSC_DEADLINE 0x6e0
#define TIMER_VECTOR	 0x40
#define PING_VECTOR	 0x41
#define PONG_VECTOR	 0x42

static volatile u64 result;
static volatile u64 timer_fired, pongs;
static int failures;

/*
 * Time insn, less the loop around it. The best of BATCHES: the host's tick and what its threads do now
 * and then is no part of an exit.
 */
#define BENCH_LOOP(name, insn, ...) \
	static void name(u64 arg) \
	{ \
		u64 start, empty, took, i, batch; \
		(void)arg; \
		start = rdtsc(); \
		for (i = 0; i < ROUNDS; i++) \
			asm volatile("" : : : "memory"); \
		empty = rdtsc() - start; \
		{ \
			insn; \
		} \
		result = ~0ULL; \
		for (batch = 0; batch < BATCHES; batch++) { \
			start = rdtsc(); \
			for (i = 0; i < ROUNDS; i++) { \
				insn; \
			} \
			took = (rdtsc() - start - empty) / ROUNDS; \
			if (took < result) \
				result = took; \
		} \
		guest_done(); \
	}

BENCH_LOOP(guest_cpuid, u32 a = 0; u32 c = 0; asm volatile("cpuid"
							   : "+a"(a), "+c"(c)
							   :
							   : "rbx", "rdx"))
BENCH_LOOP(guest_rdmsr, asm volatile("rdmsr" : : "c"(0x1b) : "rax", "rdx"))
BENCH_LOOP(guest_wrmsr, asm volatile("wrmsr" : : "c"(0x3b), "a"(0), "d"(0)))
BENCH_LOOP(guest_port_kernel, asm volatile("inb $0x21, %%al" : : : "rax"))
BENCH_LOOP(guest_vmmcall, u64 a = 0x1234; asm volatile("vmmcall" : "+a"(a) : "b"(0) : "memory"))
BENCH_LOOP(guest_port_write, asm volatile("outb %%al, %%dx" : : "a"(0), "d"(PORT_USER)))
BENCH_LOOP(guest_port_read, asm volatile("inb %%dx, %%al" : : "d"(PORT_USER) : "rax"))
BENCH_LOOP(guest_mmio_write, *(volatile u32 *)MMIO_USER = 1)
BENCH_LOOP(guest_mmio_read, (void)*(volatile u32 *)MMIO_USER)
BENCH_LOOP(guest_lapic_read, (void)apic_read(0x30))
BENCH_LOOP(guest_ioapic_read, (void)*(volatile u32 *)(IOAPIC + 0x10))

static void die(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

/* KVM_RUN until guest_done(); exits to userspace are answered with whatever is there. */
static void run_to_done(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
			die("KVM_RUN failed");
		if (run->exit_reason == KVM_EXIT_MMIO)
			continue;
		if (run->exit_reason == KVM_EXIT_IO) {
			u64 val;

			if (run->io.port == PORT_USER)
				continue;
			if (vcpu_guest_event(vcpu, &val) && val == GUEST_DONE)
				return;
		}
		vcpu_dump(vcpu);
		die(vm_exit_name(run->exit_reason));
	}
}

static void print(const char *name, u64 value)
{
	printf("%s %llu\n", name, (unsigned long long)value);
	fflush(stdout);
}

static void run_guest(const char *name, void (*fn)(u64))
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu;

	/* Those that need it fail by themselves where there is none. */
	ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, fn, 0);
	run_to_done(vcpu);
	print(name, *guest_ptr(vm, result));
	vm_destroy(vm);
}

/* One benchmark in a process of its own: those after it run though it fails. */
static bool child(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		return true;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		failures++;
	return false;
}

static void bench_guest(const char *name, void (*fn)(u64))
{
	if (child()) {
		run_guest(name, fn);
		exit(0);
	}
}

/* HLT until the APIC timer fires: what passes beyond the time asked for. */
static void on_timer(struct guest_frame *frame)
{
	(void)frame;
	timer_fired++;
	apic_write(0xb0, 0);
}

static void guest_hlt_timer(u64 arg)
{
	u64 start, total, batch, i;

	(void)arg;
	guest_handlers[TIMER_VECTOR] = on_timer;
	apic_write(0xf0, 0x1ff);
	apic_write(0x3e0, 0xb); /* divide by 1: nanoseconds */
	apic_write(0x320, TIMER_VECTOR);
	result = ~0ULL;
	for (batch = 0; batch < BATCHES; batch++) {
		for (i = total = 0; i < TIMER_ROUNDS; i++) {
			u64 seen = timer_fired;

			cli();
			start = rdtsc();
			apic_write(0x380, TIMER_COUNT);
			while (timer_fired == seen) {
				sti_hlt();
				cli();
			}
			total += rdtsc() - start - TIMER_COUNT;
		}
		if (total / TIMER_ROUNDS < result)
			result = total / TIMER_ROUNDS;
	}
	guest_done();
}

/* The timer fires while the guest computes: what arming it, its interrupt and the EOI take from the guest. */
static u64 compute(void)
{
	u64 start = rdtsc(), n = TIMER_COUNT;

	asm volatile("1: dec %0; jnz 1b" : "+r"(n));
	return rdtsc() - start;
}

static void guest_timer(u64 deadline)
{
	u64 alone = ~0ULL, start, took, total, batch, i;

	guest_handlers[TIMER_VECTOR] = on_timer;
	apic_write(0xf0, 0x1ff);
	apic_write(0x3e0, 0xb);
	apic_write(0x320, TIMER_VECTOR | (deadline ? 2 << 17 : 0));
	for (i = 0; i < TIMER_ROUNDS; i++) {
		took = compute();
		if (took < alone)
			alone = took;
	}
	sti();
	result = ~0ULL;
	for (batch = 0; batch < BATCHES; batch++) {
		for (i = total = 0; i < TIMER_ROUNDS; i++) {
			u64 seen = timer_fired;

			start = rdtsc();
			if (deadline)
				wrmsr(MSR_TSC_DEADLINE, start + TIMER_COUNT);
			else
				apic_write(0x380, TIMER_COUNT);
			compute();
			total += rdtsc() - start - alone;
			guest_assert_eq(timer_fired, seen + 1);
		}
		if (total / TIMER_ROUNDS < result)
			result = total / TIMER_ROUNDS;
	}
	guest_done();
}

static void bench_deadline(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm->dev);
	struct vcpu *vcpu;
	u32 i;

	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx |= 1 << 24; /* TSC_DEADLINE */
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid));
	vcpu_set_guest(vcpu, guest_timer, 1);
	run_to_done(vcpu);
	print("timer_deadline", *guest_ptr(vm, result));
	vm_destroy(vm);
}

/* IPI there and back between two vCPUs that sleep in HLT. */
static void on_ping(struct guest_frame *frame)
{
	(void)frame;
	apic_write(0xb0, 0);
	apic_write(0x310, 0);
	apic_write(0x300, 0x4000 | PONG_VECTOR);
}

static void on_pong(struct guest_frame *frame)
{
	(void)frame;
	pongs++;
	apic_write(0xb0, 0);
}

static void guest_ping(u64 arg)
{
	u64 start, took, batch, i;

	(void)arg;
	guest_handlers[PONG_VECTOR] = on_pong;
	guest_handlers[PING_VECTOR] = on_ping;
	apic_write(0xf0, 0x1ff);
	result = ~0ULL;
	for (batch = 0; batch < BATCHES; batch++) {
		start = rdtsc();
		for (i = 0; i < TIMER_ROUNDS; i++) {
			u64 seen = pongs;

			cli();
			apic_write(0x310, 1 << 24);
			apic_write(0x300, 0x4000 | PING_VECTOR);
			while (pongs == seen) {
				sti_hlt();
				cli();
			}
		}
		took = (rdtsc() - start) / TIMER_ROUNDS;
		if (took < result)
			result = took;
	}
	guest_done();
}

static void guest_pong(u64 arg)
{
	(void)arg;
	apic_write(0xf0, 0x1ff);
	for (;;)
		sti_hlt();
}

static void *run_forever(void *arg)
{
	struct vcpu *vcpu = arg;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	ioctl(vcpu->fd, KVM_RUN, 0);
	return NULL;
}

static void bench_ipi(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct vcpu *ping, *pong;
	pthread_t thread;

	vm_irqchip(vm);
	ping = vcpu_create(vm, 0);
	pong = vcpu_create(vm, 1);
	vcpu_set_guest(ping, guest_ping, 0);
	vcpu_set_guest(pong, guest_pong, 0);
	CHECK_OK(ioctl(pong->fd, KVM_SET_MP_STATE, &mp));
	pthread_create(&thread, NULL, run_forever, pong);
	usleep(20000);
	run_to_done(ping);
	print("ipi_round_trip", *guest_ptr(vm, result));
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	vm_destroy(vm);
}

/* --- many vCPUs and VMs share the CPU: what does one CPUID exit cost then? --- */

#define SCALE_ROUNDS 40000

static pthread_barrier_t scale_start;

static void guest_scale(u64 arg)
{
	guest_sync(0);
	while (arg--) {
		u32 a = 0, c = 0;

		asm volatile("cpuid" : "+a"(a), "+c"(c) : : "rbx", "rdx");
	}
	guest_done();
}

static void *scale_vcpu(void *arg)
{
	if (vcpu_run_guest(arg))
		die("no first exit");
	pthread_barrier_wait(&scale_start);
	run_to_done(arg);
	return NULL;
}

static void bench_scale(int vms, int vcpus)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	int n = 0, i, k, total = vms * vcpus;
	pthread_t *thread = calloc(total, sizeof(*thread));
	struct vm *vm;
	char name[32];
	u64 start;

	if (!child())
		return;
	pthread_barrier_init(&scale_start, NULL, total + 1);
	for (i = 0; i < vms; i++) {
		vm = vm_create_image();
		vm_irqchip(vm);
		for (k = 0; k < vcpus; k++) {
			struct vcpu *vcpu = vcpu_create(vm, k);

			vcpu_set_guest(vcpu, guest_scale, SCALE_ROUNDS);
			CHECK_OK(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
			pthread_create(&thread[n++], NULL, scale_vcpu, vcpu);
		}
	}
	usleep(100000); /* all wait at the barrier */
	start = rdtsc();
	pthread_barrier_wait(&scale_start);
	for (i = 0; i < total; i++)
		pthread_join(thread[i], NULL);
	snprintf(name, sizeof(name), "cpuid_%dx%d_vcpus", vms, vcpus);
	print(name, (rdtsc() - start) / ((u64)total * SCALE_ROUNDS));
	exit(0);
}

static void scale(void)
{
	static const int pairs[][2] = { { 1, 1 }, { 1, 2 }, { 1, 4 },  { 1, 8 },
					{ 4, 1 }, { 8, 1 }, { 16, 1 }, { 32, 1 } };

	for (unsigned int i = 0; i < ARRAY_LEN(pairs); i++)
		bench_scale(pairs[i][0], pairs[i][1]);
}

/* First touch of memory that the host has already. */
static void guest_touch(u64 stride)
{
	u64 count = stride == 4096 ? TOUCH_PAGES : TOUCH_HUGE;
	u64 start, i;

	start = rdtsc();
	for (i = 0; i < count; i++)
		*(volatile u8 *)(TOUCH_GPA + i * stride) = 1;
	result = (rdtsc() - start) / count;
	guest_done();
}

static void bench_touch(const char *name, u64 stride, int advice)
{
	struct vm *vm = vm_create_image();
	u64 size = stride * (stride == 4096 ? TOUCH_PAGES : TOUCH_HUGE);
	struct vcpu *vcpu;
	char *mem = vm_add_mem(vm, 1, TOUCH_GPA, size);

	madvise(mem, size, advice);
	memset(mem, 1, size);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_touch, stride);
	run_to_done(vcpu);
	print(name, *guest_ptr(vm, result));
	vm_destroy(vm);
}

/* A whole VM: created, one instruction, destroyed. */
PAYLOAD(halt, ".code16\n hlt\n");

static void bench_vm(void)
{
	u64 start, best = ~0ULL;
	int i;

	for (i = 0; i < VM_ROUNDS; i++) {
		struct vcpu *vcpu;
		struct vm *vm;

		start = rdtsc();
		vm = vm_create();
		vm_add_mem(vm, 0, 0, 1 << 20);
		vm_load_payload(vm, 0xf0000, halt);
		vcpu = vcpu_create_raw(vm, 0);
		{
			struct kvm_sregs s;
			struct kvm_regs r = { .rflags = 2 };

			vcpu_get_sregs(vcpu, &s);
			s.cs.base = 0xf0000;
			s.cs.selector = 0xf000;
			vcpu_set_sregs(vcpu, &s);
			vcpu_set_regs(vcpu, &r);
		}
		vcpu_expect(vcpu, KVM_EXIT_HLT);
		vm_destroy(vm);
		start = rdtsc() - start;
		if (start < best)
			best = start;
	}
	print("vm_create_run_destroy", best);
}

int main(int argc, char **argv)
{
	bool scaling = argc > 1 && !strcmp(argv[1], "--scale");

	argv += scaling;
	argc -= scaling;
	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fprintf(stderr, "usage: bench [--scale] [DEVICE]\n");
		return 2;
	}
	if (argc == 2)
		setenv("SVM_DEV", argv[1], 1);
	alarm(300);
	if (scaling) {
		scale();
		return failures ? 1 : 0;
	}
	bench_guest("cpuid", guest_cpuid);
	bench_guest("rdmsr_apicbase", guest_rdmsr);
	bench_guest("wrmsr_tsc_adjust", guest_wrmsr);
	bench_guest("port_in_kernel", guest_port_kernel);
	bench_guest("vmmcall", guest_vmmcall);
	bench_guest("port_write_user", guest_port_write);
	bench_guest("port_read_user", guest_port_read);
	bench_guest("mmio_write_user", guest_mmio_write);
	bench_guest("mmio_read_user", guest_mmio_read);
	bench_guest("lapic_read", guest_lapic_read);
	bench_guest("ioapic_read", guest_ioapic_read);
	if (child()) {
		bench_ipi();
		exit(0);
	}
	bench_guest("hlt_wakeup", guest_hlt_timer);
	bench_guest("timer_oneshot", guest_timer);
	if (child()) {
		bench_deadline();
		exit(0);
	}
	if (child()) {
		bench_touch("first_touch_4k", 4096, MADV_NOHUGEPAGE);
		exit(0);
	}
	if (child()) {
		bench_touch("first_touch_2m", 2 << 20, MADV_HUGEPAGE);
		exit(0);
	}
	if (child()) {
		bench_vm();
		exit(0);
	}
	return failures ? 1 : 0;
}
