// SPDX-License-Identifier: GPL-2.0
/*
 * Bad input to every ioctl: a clear errno, and state as it was. Then a storm
 * of random calls from threads that share the descriptors (TEST_SEED repeats
 * one, STORM_SECONDS lengthens it).
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define KERNEL_ADDR ((void *)0xffffffff81000000UL)

/* Every call that takes a structure, and on what. */
enum on { DEV, VM, VCPU };

static const struct command {
	u32 cmd;
	enum on on;
} commands[] = {
	{ KVM_GET_SUPPORTED_CPUID, DEV },
	{ KVM_GET_MSR_INDEX_LIST, DEV },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, DEV },
	{ KVM_GET_MSRS, DEV },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, DEV },
	{ KVM_SET_USER_MEMORY_REGION, VM },
	{ KVM_GET_DIRTY_LOG, VM },
	{ KVM_SET_IDENTITY_MAP_ADDR, VM },
	{ KVM_GET_IRQCHIP, VM },
	{ KVM_SET_IRQCHIP, VM },
	{ KVM_IRQ_LINE, VM },
	{ KVM_IRQ_LINE_STATUS, VM },
	{ KVM_SIGNAL_MSI, VM },
	{ KVM_SET_GSI_ROUTING, VM },
	{ KVM_CREATE_PIT2, VM },
	{ KVM_GET_PIT2, VM },
	{ KVM_SET_PIT2, VM },
	{ KVM_GET_CLOCK, VM },
	{ KVM_SET_CLOCK, VM },
	{ KVM_IRQFD, VM },
	{ KVM_IOEVENTFD, VM },
	{ KVM_REGISTER_COALESCED_MMIO, VM },
	{ KVM_UNREGISTER_COALESCED_MMIO, VM },
	{ KVM_ENABLE_CAP, VM },
	{ KVM_GET_REGS, VCPU },
	{ KVM_SET_REGS, VCPU },
	{ KVM_GET_SREGS, VCPU },
	{ KVM_SET_SREGS, VCPU },
	{ KVM_GET_FPU, VCPU },
	{ KVM_SET_FPU, VCPU },
	{ KVM_GET_XSAVE, VCPU },
	{ KVM_SET_XSAVE, VCPU },
	{ KVM_GET_XCRS, VCPU },
	{ KVM_SET_XCRS, VCPU },
	{ KVM_GET_MSRS, VCPU },
	{ KVM_SET_MSRS, VCPU },
	{ KVM_GET_CPUID2, VCPU },
	{ KVM_SET_CPUID2, VCPU },
	{ KVM_GET_LAPIC, VCPU },
	{ KVM_SET_LAPIC, VCPU },
	{ KVM_GET_MP_STATE, VCPU },
	{ KVM_SET_MP_STATE, VCPU },
	{ KVM_GET_VCPU_EVENTS, VCPU },
	{ KVM_SET_VCPU_EVENTS, VCPU },
	{ KVM_GET_DEBUGREGS, VCPU },
	{ KVM_SET_DEBUGREGS, VCPU },
	{ KVM_SET_SIGNAL_MASK, VCPU },
	{ KVM_INTERRUPT, VCPU },
	{ KVM_TRANSLATE, VCPU },
	{ KVM_X86_SETUP_MCE, VCPU },
	{ KVM_X86_SET_MCE, VCPU },
	{ KVM_SET_VAPIC_ADDR, VCPU },
};

/* A VM with all there is, and its state as KVM_GET_* gives it. */
struct fixture {
	struct vm *vm;
	struct vcpu *vcpu;
};

static struct fixture make(void)
{
	struct kvm_pit_config pit = {};
	struct fixture f = { .vm = vm_create_image() };

	vm_irqchip(f.vm);
	CHECK_OK(ioctl(f.vm->fd, KVM_CREATE_PIT2, &pit));
	f.vcpu = vcpu_create(f.vm, 0);
	return f;
}

static int fd_on(struct fixture *f, enum on on)
{
	return on == DEV ? f->vm->dev : on == VM ? f->vm->fd : f->vcpu->fd;
}

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
};

static void get_state(struct fixture *f, struct state *s, int fill)
{
	memset(s, fill, sizeof(*s));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_REGS, &s->regs));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_SREGS, &s->sregs));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_FPU, &s->fpu));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_XSAVE, &s->xsave));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_XCRS, &s->xcrs));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_LAPIC, &s->lapic));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_MP_STATE, &s->mp));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_VCPU_EVENTS, &s->events));
	CHECK_OK(ioctl(f->vcpu->fd, KVM_GET_DEBUGREGS, &s->debug));
	for (u32 i = 0; i < 3; i++) {
		s->chips[i].chip_id = i;
		s->chips[i].pad = 0;
		CHECK_OK(ioctl(f->vm->fd, KVM_GET_IRQCHIP, &s->chips[i]));
	}
	CHECK_OK(ioctl(f->vm->fd, KVM_GET_PIT2, &s->pit));
}

#define SAME(field) CHECKF(!memcmp(&a->field, &b->field, sizeof(a->field)), #field)

static void compare(const struct state *a, const struct state *b)
{
	SAME(regs);
	SAME(sregs);
	SAME(fpu);
	SAME(xsave);
	SAME(xcrs);
	SAME(lapic);
	SAME(mp);
	SAME(events);
	SAME(debug);
	SAME(chips);
	SAME(pit);
}

static void check_state(struct fixture *f, const struct state *before)
{
	static struct state now;

	get_state(f, &now, 0);
	compare(&now, before);
}

/* Addresses that can't be read or written. */
static void test_addresses(void)
{
	struct fixture f = make();
	static struct state before;
	char *edge = map_anon(HOST_HUGE) + HOST_HUGE; /* a hole begins here */
	void *const bad[] = { NULL, (void *)8, KERNEL_ADDR, (void *)-8UL, edge, edge - 4 };

	get_state(&f, &before, 0);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		const struct command *c = &commands[i];

		if (c->cmd == KVM_ENABLE_CAP && !vm_has_cap(f.vm, KVM_CAP_ENABLE_CAP_VM))
			continue;
		for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
			if (bad[n] == edge - 4 && _IOC_SIZE(c->cmd) <= 4)
				continue;
			memset(edge - 4, 0, 4);
			/* No mask at all is a mask. */
			if (c->cmd == KVM_SET_SIGNAL_MASK && (!bad[n] || bad[n] == edge - 4))
				continue;
			errno = 0;
			if (ioctl(fd_on(&f, c->on), c->cmd, bad[n]) != -1 ||
			    (errno != EFAULT && errno != E2BIG)) {
				/* A count of 0 asks for nothing behind it. */
				if (bad[n] == edge - 4 && !errno)
					continue;
				ktap_fail(__FILE__, __LINE__, "command %#x address %p: errno %d",
					  c->cmd, bad[n], errno);
			}
		}
	}
	check_state(&f, &before);
}

/* Calls that take nothing refuse an argument; calls that there are not, on each kind of descriptor. */
static void test_unknown(void)
{
	struct fixture f = make();

	CHECK_ERR(ioctl(f.vm->dev, KVM_GET_API_VERSION, 1), EINVAL);
	CHECK_ERR(ioctl(f.vm->dev, KVM_GET_VCPU_MMAP_SIZE, 1), EINVAL);
	CHECK_ERR(ioctl(f.vcpu->fd, KVM_RUN, 1), EINVAL);
	CHECK_ERR(ioctl(f.vm->dev, KVM_CREATE_VM, 77), EINVAL);
	for (u32 nr = 0; nr < 256; nr += 5) {
		CHECK_ERR(ioctl(f.vm->dev, _IO('z', nr), 0), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, _IO('z', nr), 0), ENOTTY);
		CHECK_ERR(ioctl(f.vcpu->fd, _IO('z', nr), 0), EINVAL);
	}
	/* Each on the wrong descriptor. */
	CHECK_ERR(ioctl(f.vm->dev, KVM_RUN, 0), EINVAL);
	CHECK_ERR(ioctl(f.vm->fd, KVM_RUN, 0), ENOTTY);
	CHECK_ERR(ioctl(f.vcpu->fd, KVM_CREATE_VCPU, 1), EINVAL);
	CHECK_ERR(ioctl(f.vm->fd, KVM_CREATE_VM, 0), ENOTTY);
	CHECK_EQ(ioctl(f.vm->dev, KVM_CHECK_EXTENSION, 0xffffff), 0);
}

/* Counts that are too small, too large, or overflow. */
static void test_counts(void)
{
	struct fixture f = make();
	static struct {
		u32 n, pad;
		char room[64 * 1024];
	} buf;
	static struct state before;
	const u32 huge[] = { 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x06666667 };

	get_state(&f, &before, 0);
	buf.n = 0;
	CHECK_ERR(ioctl(f.vm->dev, KVM_GET_MSR_INDEX_LIST, &buf), E2BIG);
	CHECK(buf.n > 10);
	CHECK_OK(ioctl(f.vm->dev, KVM_GET_MSR_INDEX_LIST, &buf));
	buf.n = 1;
	CHECK_ERR(ioctl(f.vm->dev, KVM_GET_SUPPORTED_CPUID, &buf), E2BIG);
	buf.n = 1;
	CHECK_ERR(ioctl(f.vcpu->fd, KVM_GET_CPUID2, &buf), E2BIG);
	for (size_t i = 0; i < ARRAY_LEN(huge); i++) {
		buf.n = huge[i];
		CHECK_ERR(ioctl(f.vcpu->fd, KVM_SET_CPUID2, &buf), E2BIG);
		buf.n = huge[i];
		CHECK_ERR(ioctl(f.vcpu->fd, KVM_GET_MSRS, &buf), E2BIG);
		buf.n = huge[i];
		CHECK_ERR(ioctl(f.vcpu->fd, KVM_SET_MSRS, &buf), E2BIG);
		buf.n = huge[i];
		CHECK_ERR(ioctl(f.vm->fd, KVM_SET_GSI_ROUTING, &buf), EINVAL);
	}
	check_state(&f, &before);
}

/* One bad field each; all other fields as KVM_GET_* gave them. */
#define REFUSED(get, set, type, change) \
	do { \
		type s; \
		memset(&s, 0, sizeof(s)); \
		CHECK_OK(ioctl(f.vcpu->fd, get, &s)); \
		change; \
		CHECK_ERR(ioctl(f.vcpu->fd, set, &s), EINVAL); \
	} while (0)

static void test_fields(void)
{
	struct fixture f = make();
	static struct state before;

	get_state(&f, &before, 0);
#define SREGS(change) REFUSED(KVM_GET_SREGS, KVM_SET_SREGS, struct kvm_sregs, change)
	SREGS(s.cr0 |= 1ULL << 32);
	SREGS(s.cr0 = 0x80000000);			     /* PG without PE */
	SREGS(s.cr0 |= 0x20000000; s.cr0 &= ~0x40000000ULL); /* NW without CD */
	SREGS(s.cr4 |= 1ULL << 31);
	SREGS(s.cr4 |= 1ULL << 13); /* VMXE */
	SREGS(s.efer |= 1ULL << 40);
	SREGS(s.efer = 0x500; s.cr0 = 0x80000011; s.cr4 = 0); /* long mode without PAE */
	SREGS(s.cr8 = 16);
	SREGS(s.apic_base |= 1ULL << 60);
	SREGS(s.apic_base = 0x400); /* x2APIC without the enable bit */
#define EVENTS(change) \
	REFUSED(KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events, change)
	EVENTS(s.flags = 1u << 31);
	EVENTS(s.exception.injected = 1; s.exception.nr = 32);
	EVENTS(s.exception.injected = 1; s.exception.nr = 2);
	EVENTS(s.flags = KVM_VCPUEVENT_VALID_SMM; s.smi.smm = 1);
#define DEBUG(change) REFUSED(KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, struct kvm_debugregs, change)
	DEBUG(s.flags = 1);
	DEBUG(s.dr6 = 1ULL << 32);
	DEBUG(s.dr7 = 1ULL << 32);
#define XCRS(change) REFUSED(KVM_GET_XCRS, KVM_SET_XCRS, struct kvm_xcrs, change)
	XCRS(s.flags = 1);
	XCRS(s.nr_xcrs = 100);
	XCRS(s.xcrs[0].value = 0); /* x87 is always on */
	XCRS(s.xcrs[0].value = 5); /* AVX without SSE */
	XCRS(s.xcrs[0].value = 1ULL << 62 | 1);
	REFUSED(KVM_GET_FPU, KVM_SET_FPU, struct kvm_fpu, s.mxcsr = 0xffff0000);
	REFUSED(KVM_GET_MP_STATE, KVM_SET_MP_STATE, struct kvm_mp_state, s.mp_state = 77);
	{
		static struct kvm_xsave s;

		CHECK_OK(ioctl(f.vcpu->fd, KVM_GET_XSAVE, &s));
		s.region[128 + 1] |= 1u << 30; /* XSTATE_BV */
		CHECK_ERR(ioctl(f.vcpu->fd, KVM_SET_XSAVE, &s), EINVAL);
	}
	{
		struct kvm_interrupt irq = { .irq = 256 };
		struct kvm_irq_level line = { .irq = 5000, .level = 1 };
		struct kvm_clock_data clock = { .flags = 1u << 31 };
		struct kvm_enable_cap cap = { .cap = KVM_CAP_USER_MEMORY };
		struct kvm_msi msi = { .flags = 1u << 31 };
		struct kvm_irqchip chip = { .chip_id = 7 };
		struct kvm_irqfd irqfd = { .fd = -1, .gsi = 4 };
		struct kvm_ioeventfd io = { .fd = f.vm->fd, .len = 4 };

		CHECK_ERR(ioctl(f.vcpu->fd, KVM_INTERRUPT, &irq), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_IRQ_LINE, &line), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_SET_CLOCK, &clock), EINVAL);
		if (vm_has_cap(f.vm, KVM_CAP_ENABLE_CAP_VM))
			CHECK_ERR(ioctl(f.vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_GET_IRQCHIP, &chip), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_SET_IRQCHIP, &chip), EINVAL);
		CHECK_ERR(ioctl(f.vm->fd, KVM_IRQFD, &irqfd), EBADF);
		CHECK_ERR(ioctl(f.vm->fd, KVM_IOEVENTFD, &io), EINVAL); /* not an eventfd */
		io.fd = eventfd(0, 0);
		io.len = 3;
		CHECK_ERR(ioctl(f.vm->fd, KVM_IOEVENTFD, &io), EINVAL);
		io.len = 4;
		io.flags = 1u << 31;
		CHECK_ERR(ioctl(f.vm->fd, KVM_IOEVENTFD, &io), EINVAL);
		io.flags = 0;
		io.addr = -2ULL;
		CHECK_ERR(ioctl(f.vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	}
	check_state(&f, &before);
}

/* Row 44: every byte of each KVM_GET_* is defined. */
static void poison_stack(int byte)
{
	volatile char path[3000];
	struct utsname u;

	/* System calls with deep frames leave the bytes behind. */
	memset((void *)path, byte, sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	for (int i = 0; i < 20; i++) {
		(void)!access((const char *)path, F_OK);
		uname(&u);
	}
}

static void test_defined_bytes(void)
{
	struct fixture f = make();
	static struct state a, b;

	poison_stack(0x11);
	get_state(&f, &a, 0x55);
	poison_stack(0xee);
	get_state(&f, &b, 0xaa);
	compare(&a, &b);
}

/* A guest that loops is taken out of KVM_RUN every few milliseconds. */
static volatile bool ticking;

static void ignore(int sig)
{
	(void)sig;
}

static void *tick(void *arg)
{
	while (ticking) {
		sleep_ms(5);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

/* Row 35: any special registers are refused, or the vCPU exits in order. */
static void test_random_sregs(void)
{
	struct fixture f = make();
	struct sigaction sa = { .sa_handler = ignore };
	pthread_t self = pthread_self(), ticker;
	int refused = 0, ran = 0, invalid = 0;
	struct kvm_sregs good;

	sigaction(SIGUSR1, &sa, NULL);
	ticking = true;
	CHECK(!pthread_create(&ticker, NULL, tick, &self));
	CHECK_OK(ioctl(f.vcpu->fd, KVM_GET_SREGS, &good));
	for (int i = 0; i < 4000; i++) {
		struct kvm_sregs s = good;
		u8 *bytes = (u8 *)&s;

		for (u64 n = 1 + test_random() % 4; n; n--)
			bytes[test_random() % sizeof(s)] ^= 1 << test_random() % 8;
		if (test_random() % 2) {
			s.cr4 = test_random() & 0x3f07ff;
			s.cr0 ^= test_random() & 0xe005003f;
		}
		if (ioctl(f.vcpu->fd, KVM_SET_SREGS, &s)) {
			CHECK_EQ(errno, EINVAL);
			refused++;
			continue;
		}
		f.vcpu->run->immediate_exit = test_random() % 4 != 0;
		if (ioctl(f.vcpu->fd, KVM_RUN, 0))
			CHECK(errno == EINTR || errno == EFAULT || errno == EAGAIN);
		else if (f.vcpu->run->exit_reason == KVM_EXIT_FAIL_ENTRY)
			invalid++;
		else
			CHECK(f.vcpu->run->exit_reason != KVM_EXIT_UNKNOWN);
		ran++;
	}
	ticking = false;
	pthread_join(ticker, NULL);
	ktap_diag("%d refused, %d run, %d of them failed entries", refused, ran, invalid);
	CHECK(refused > 100 && ran > 100);
}

/* --- the storm --- */

#define THREADS	   3
#define ARENA_SIZE (64ULL << 20)

static struct storm {
	struct vm *vm;
	void *arena;
	struct vcpu *vcpu[2];
	volatile bool on;
	u64 seed, ops, results[134];
} storm;

static u64 next(u64 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Mostly what the call before gave, with some bits changed: near to what is legal. */
static void *storm_thread(void *arg)
{
	u64 x = storm.seed + 7919 * (u64)arg;
	static __thread u64 buf[16384 / 8];

	for (int i = 0; i < 10; i++)
		next(&x);
	while (storm.on) {
		const struct command *c = &commands[next(&x) % ARRAY_LEN(commands)];
		struct vcpu *vcpu = storm.vcpu[next(&x) & 1];
		int fd = c->on == DEV ? storm.vm->dev : c->on == VM ? storm.vm->fd : vcpu->fd;
		u64 n = next(&x) % 8, cmd = c->cmd;

		if (!(next(&x) % 8)) {
			vcpu->run->immediate_exit = 1;
			fd = vcpu->fd;
			cmd = KVM_RUN;
		}
		if (!(next(&x) % 4))
			for (u64 i = 0; i < 64; i++)
				buf[i] = next(&x) >> (next(&x) % 64);
		while (n--)
			buf[next(&x) % 64] ^= 1ULL << next(&x) % 64;
		/* Counts come first. */
		if (next(&x) % 2)
			*(u32 *)buf = next(&x) % 16;
		errno = 0;
		if (cmd == KVM_SET_USER_MEMORY_REGION) {
			struct kvm_userspace_memory_region *r = (void *)buf;

			/* Not over the memory of this program, which the guest would write to. */
			r->userspace_addr = (u64)storm.arena + (r->userspace_addr & 0xfff);
			r->memory_size %= ARENA_SIZE;
		}
		ioctl(fd, cmd, cmd == KVM_RUN ? 0 : (u64)buf);
		__atomic_fetch_add(&storm.ops, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&storm.results[errno < 134 ? errno : 0], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_storm(void)
{
	const char *seconds = getenv("STORM_SECONDS");
	u64 end = now_ms() + 1000 * (seconds ? atoi(seconds) : 15);
	struct fixture f = make();
	pthread_t threads[THREADS];

	storm.seed = test_random();
	storm.arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(storm.arena != MAP_FAILED);
	storm.vm = f.vm;
	storm.vcpu[0] = f.vcpu;
	storm.vcpu[1] = vcpu_create(f.vm, 1);
	storm.on = true;
	for (u64 i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, storm_thread, (void *)i));
	while (now_ms() < end)
		sleep_ms(100);
	storm.on = false;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ktap_diag("seed %#llx, %llu calls", (unsigned long long)storm.seed,
		  (unsigned long long)storm.ops);
	for (int i = 0; i < 134; i++)
		if (storm.results[i])
			ktap_diag("  errno %3d (%s): %llu", i, i ? strerror(i) : "none",
				  (unsigned long long)storm.results[i]);
	CHECK(storm.results[0] > 100 && storm.results[EINVAL] > 100);
	/* The hypervisor is none the worse. */
	f = make();
	vm_destroy(f.vm);
}

static const struct ktap_test tests[] = {
	{ "addresses", test_addresses, 0 },
	{ "unknown", test_unknown, 0 },
	{ "counts", test_counts, 0 },
	{ "fields", test_fields, 0 },
	{ "defined_bytes", test_defined_bytes, 0 },
	{ "random_sregs", test_random_sregs, 90 },
	{ "storm", test_storm, 86400 },
};

KTAP_MAIN(tests)
