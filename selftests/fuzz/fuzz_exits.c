// SPDX-License-Identifier: GPL-2.0
/*
 * Exits in great number. The guest itself chooses what it does next: one of some hundred short
 * pieces of code, most of which begin with an instruction that exits, random registers and flags, a
 * code segment of 16, 32 or 64 bits, CPL 0 or 3. Whatever becomes of it ends at an exception or
 * interrupt, which goes back to where the choice was made, so userspace is left alone.
 *
 * Two vCPUs do so in one machine, with the controllers in the kernel, and reach each other by IPIs.
 * A guest that got lost, and every guest now and then, is begun anew with another seed, on any CPU.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "guest.h"
#include "insns.h"

#define VCPUS	     2
#define TIMER_VECTOR 0xf1
#define TIMER_NS     2000000
#define TICK_MS	     2
#define FRESH_TICKS  64	     /* a guest is begun anew after so many */
#define FEW	     10	     /* cases are few for a guest. So many of these in a row, */
#define POOR	     4	     /* and its memory is not what it should be */
#define MANY	     1000000 /* more a tick are none: the guest has written over the count */
#define PIECES	     300
#define PIECE_SIZE   40
#define PIECE_INSNS  5
#define INT3	     0xcc
#define LOOP	     0xe2 /* until rCX, mostly an MSR's address, is 0; or an interrupt */
#define STACK(id)    (VM_STACK_GPA + (id)*0x10000ULL) /* 64 KiB each, as of vcpu_set_mode() */
#define TRAP_STACK   0x4000			      /* from STACK(): that of all gates, IST1 */
#define IST1	     36				      /* in a TSS (APM vol. 2, 12.2.5) */
#define SCRATCH	     VM_FREE_GPA
#define SCRATCH_SIZE 0x10000ULL

/* Of one vCPU, in memory that both sides use. */
struct storm {
	struct rng r;
	u64 cases;
	u64 way_back; /* RSP in storm_enter() */
};

/* Where loops over strings in SCRATCH do not come. */
#define STORM(id) ((struct storm *)(VM_FREE_GPA + (4ULL << 20) + (id)*0x1000ULL))

/* --- in the guest --- */

/* Pops all of @frame but vector and error code. Comes back by storm_return(). */
void storm_enter(struct guest_frame *frame, u64 *way_back);
void storm_return(u64 way_back) __attribute__((noreturn));

asm(".text\n"
    "storm_enter:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, (%rsi)\n"
    "	mov %rdi, %rsp\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n"
    "	pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
    "	add $16, %rsp\n"
    "	iretq\n"
    "storm_return:\n"
    "	mov %rdi, %rsp\n"
    "	push $2\n"
    "	popfq\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n");

/* All vectors. On the stack of IST1, which tells whose it is. */
static void come_back(struct guest_frame *frame)
{
	u64 id = ((u64)frame - VM_STACK_GPA) / 0x10000 % VCPUS;

	if (frame->vector == 1)
		asm volatile("mov %0, %%dr7" : : "r"(0x400ULL));
	else if (frame->vector >= 32)
		apic_write(0xb0, 0); /* EOI */
	storm_return(STORM(id)->way_back);
}

static u64 any_address(struct rng *r)
{
	switch (below(r, 8)) {
	case 0:
	case 1:
	case 2:
		return PICK(r, guest_addresses);
	case 3:
		return 0xfee00000 + below(r, 0x400);
	case 4:
		return chance(r, 2) ? below(r, 32ULL << 20) : HOLE;
	default:
		return SCRATCH + below(r, SCRATCH_SIZE);
	}
}

static u64 any_msr(struct rng *r)
{
	if (chance(r, 2))
		return MSR_EFER;
	return chance(r, 85) ? PICK(r, guest_msrs) : rnd(r) & 0xc001ffff;
}

static u64 any_port(struct rng *r)
{
	return chance(r, 90) ? PICK(r, guest_ports) : rnd(r);
}

static u64 any_value(struct rng *r)
{
	switch (below(r, 4)) {
	case 0:
		return rnd(r);
	case 1:
		return 1ULL << below(r, 64);
	case 2:
		return below(r, 256);
	default:
		return any_address(r);
	}
}

static u64 any_flags(struct rng *r)
{
	u64 flags = 2 | (rnd(r) & 0x8d5); /* those of arithmetic */

	if (chance(r, 90))
		flags |= 1 << 9; /* IF */
	if (chance(r, 3))
		flags |= 1 << 8; /* TF */
	if (chance(r, 20))
		flags |= 3 << 12; /* IOPL */
	if (chance(r, 5))
		flags |= 1ULL << below(r, 22) & 0x274400; /* DF, NT, RF, AC, ID */
	return flags;
}

static void choose(struct rng *r, struct guest_frame *f)
{
	static const struct {
		u16 cs, ss;
	} segments[] = {
		{ SEL_CODE64, SEL_DATA },   { SEL_CODE64, SEL_DATA },	{ SEL_CODE32, SEL_DATA },
		{ SEL_CODE16, SEL_DATA },   { SEL_UCODE64, SEL_UDATA }, { SEL_UCODE32, SEL_UDATA },
		{ SEL_UCODE16, SEL_UDATA },
	};
	u64 piece = below(r, PIECES) * PIECE_SIZE, segment = below(r, ARRAY_LEN(segments));

	f->cs = segments[segment].cs;
	f->ss = segments[segment].ss;
	f->rip = piece + (f->cs == SEL_CODE16 || f->cs == SEL_UCODE16 ? 0 : VM_CODE_GPA);
	f->rflags = any_flags(r);
	f->rsp = SCRATCH + below(r, SCRATCH_SIZE);
	f->rax = any_value(r);
	f->rbx = any_address(r);
	f->rcx = chance(r, 70) ? any_msr(r) : any_value(r);
	f->rdx = chance(r, 70) ? any_port(r) : any_value(r);
	f->rsi = any_address(r);
	f->rdi = any_address(r);
	f->rbp = f->rsp;
	f->r8 = f->rax;
	f->r12 = f->rbx;
}

/* Takes loops to their end, and has interrupts in all that is done. */
static void start_timer(void)
{
	apic_write(0x80, 0);
	apic_write(0xf0, 0x1ff);
	apic_write(0x3e0, 0xb);
	apic_write(0x320, 0x20000 | TIMER_VECTOR); /* periodic */
	apic_write(0x380, TIMER_NS);
}

static void storm(u64 id)
{
	struct storm *s = STORM(id);
	struct guest_frame frame = {};

	for (;;) {
		if (s->cases % 16 == 0)
			start_timer();
		s->cases++;
		choose(&s->r, &frame);
		storm_enter(&frame, &s->way_back);
	}
}

/* --- its code --- */

/* What is intercepted, or reaches a device in the kernel. */
static const struct insn exiting[] = {
	I(0x0f, 0xa2),
	I(0x0f, 0x32),
	I(0x0f, 0x32),
	I(0x0f, 0x30),
	I(0x0f, 0x30),
	I(0x0f, 0x01, 0xd9),
	I(0x0f, 0x01, 0xd9),
	I(0xe4, 0x40),
	I(0xe6, 0x43),
	I(0xe6, 0x21),
	I(0xec),
	I(0xed),
	I(0xee),
	I(0xef),
	I(0x6c),
	I(0x6e),
	I(0x8b, 0x03),
	I(0x89, 0x03),
	I(0x8b, 0x06),
	I(0x89, 0x07),
	I(0x31, 0x03),
	I(0xa5),
	I(0xab),
	I(0x0f, 0xb6, 0x03),
	I(0x0f, 0x33),
	I(0x0f, 0x09),
	I(0x0f, 0x08),
	I(0x0f, 0x01, 0xc8),
	I(0x0f, 0x01, 0xd1),
	I(0x0f, 0x01, 0xd8),
	I(0x0f, 0x01, 0xda),
	I(0x0f, 0x01, 0xdb),
	I(0x0f, 0x01, 0xdc),
	I(0x0f, 0x01, 0xdd),
	I(0x0f, 0x01, 0xde),
	I(0x0f, 0x01, 0xdf),
	I(0x0f, 0x20, 0xe0),
	I(0x0f, 0x22, 0xe0),
	I(0x44, 0x0f, 0x20, 0xc0),
	I(0x44, 0x0f, 0x22, 0xc0),
	I(0x0f, 0x21, 0xf0),
	I(0x0f, 0x21, 0xc0),
	I(0x0f, 0x23, 0xf0),
	I(0x0f, 0x0b),
	I(0x0f, 0xaa),
};

/*
 * What ends QEMU (Documentation/errata.rst): MOV to CR0, to segment registers that there are not,
 * LTR, LOCK before BT and its kin.
 */
static void tame(u8 *insn)
{
	u8 reg = insn[2] >> 3 & 7;

	if (insn[0] == 0xf0)
		insn[0] = 0x3e;
	if (insn[0] == 0x8e && (insn[1] >> 3 & 7) >= 6)
		insn[1] ^= 4 << 3;
	if (insn[0] != 0x0f)
		return;
	if (insn[1] == 0x22 && reg == 0)
		insn[2] |= 4 << 3; /* CR4 */
	else if (insn[1] == 0x00 && reg == 3)
		insn[2] ^= 6 << 3; /* VERW */
}

/* Prefixes without REP: a long string operation is many exits to userspace, and but one #VMEXIT. */
static const u8 changes[] = { 0x66, 0x67, 0x2e, 0x36, 0x64, 0x41, 0x44, 0x48, 0x4c };

static size_t write_insn(struct rng *r, u8 *to)
{
	const struct insn *insn = chance(r, 80) ? &PICK(r, exiting) : &PICK(r, insns);
	size_t n = 0;

	/* HLT and JMP to itself only wait for the next tick. */
	if (insn->bytes[0] == 0xf4 || insn->bytes[0] == 0xeb)
		insn = &exiting[0];
	if (chance(r, 20))
		to[n++] = PICK(r, changes);
	memcpy(to + n, insn->bytes, insn->len);
	n += insn->len;
	if (chance(r, 20))
		to[below(r, n)] ^= 1 << below(r, 8);
	return n;
}

static void write_piece(struct rng *r, u8 *to)
{
	size_t n = 0;

	memset(to, INT3, PIECE_SIZE);
	for (u64 i = 1 + below(r, PIECE_INSNS); i; i--)
		n += write_insn(r, to + n);
	for (size_t i = 0; i + 1 < n; i++)
		tame(to + i);
	if (chance(r, 75)) {
		to[n] = LOOP;
		to[n + 1] = -(n + 2);
	}
}

/* --- the machine --- */

struct machine {
	struct vm *vm;
	u64 end;
	pthread_mutex_t lock; /* of its memory, where written from outside */
};

struct player {
	struct machine *m;
	struct vcpu *vcpu;
	pthread_t thread;
	struct kvm_sregs reset;
	struct rng r;
	volatile bool over;
};

static struct {
	u64 cases, lost, fresh;
} * totals;

static void load_memory(struct machine *m, struct rng *r)
{
	u64 *idt = vm_hva(m->vm, VM_IDT_GPA);

	vm_load_image(m->vm);
	vm_write_tables(m->vm);
	for (int i = 0; i < 256; i++)
		idt[2 * i] |= 1ULL << 32; /* IST1 */
	for (int id = 0; id < VCPUS; id++) {
		u64 stack = STACK(id) + TRAP_STACK;

		memcpy((u8 *)vm_hva(m->vm, VM_TSS_GPA + id * 0x80) + IST1, &stack, sizeof(stack));
	}
	for (int i = 0; i < PIECES; i++)
		write_piece(r, (u8 *)vm_hva(m->vm, VM_CODE_GPA) + i * PIECE_SIZE);
}

static void begin(struct player *p, bool reload)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct storm *s = vm_hva(p->m->vm, (u64)STORM(p->vcpu->id));
	struct kvm_vcpu_events events = {};
	struct kvm_debugregs debug = {};

	if (reload) {
		pthread_mutex_lock(&p->m->lock);
		load_memory(p->m, &p->r);
		pthread_mutex_unlock(&p->m->lock);
	}
	bind_cpu(below(&p->r, sysconf(_SC_NPROCESSORS_ONLN)));
	vcpu_complete(p->vcpu);
	CHECK_OK(ioctl(p->vcpu->fd, KVM_SET_MP_STATE, &runnable));
	CHECK_OK(ioctl(p->vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	CHECK_OK(ioctl(p->vcpu->fd, KVM_SET_DEBUGREGS, &debug));
	vcpu_set_sregs(p->vcpu, &p->reset);
	vcpu_set_guest(p->vcpu, storm, p->vcpu->id);
	s->r.state = rnd(&p->r);
}

static void *run(void *arg)
{
	struct player *p = arg;
	struct kvm_run *run = p->vcpu->run;
	struct storm *s = vm_hva(p->m->vm, (u64)STORM(p->vcpu->id));
	unsigned int ticks = 0, still = 0, poor = 0;
	u64 before = 0, begun = 0, cases = 0, done;

	begin(p, false);
	while (now_ms() < p->m->end) {
		int reason = vcpu_run(p->vcpu);
		bool lost = false;

		if (reason < 0) {
			CHECKF(reason == -EINTR || reason == -EFAULT || reason == -EAGAIN, "%d",
			       reason);
			done = s->cases - before;
			still = done ? 0 : still + 1;
			lost = still == 2 || reason == -EFAULT;
			cases += done < MANY ? done : 0;
			before += done;
			ticks++;
		} else {
			CHECKF(reason < FUZZ_MAX_EXIT && reason != KVM_EXIT_UNKNOWN, "reason %d",
			       reason);
			count_exit(reason);
			if (reason == KVM_EXIT_MMIO)
				*(u64 *)run->mmio.data = rnd(&p->r);
			else if (reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
				*(u64 *)((u8 *)run + run->io.data_offset) = rnd(&p->r);
			else if (reason != KVM_EXIT_IO)
				lost = true;
		}
		if (lost || ticks >= FRESH_TICKS) {
			__atomic_fetch_add(lost ? &totals->lost : &totals->fresh, 1,
					   __ATOMIC_RELAXED);
			poor = cases - begun < FEW ? poor + 1 : 0;
			begin(p, poor == POOR);
			poor %= POOR;
			begun = cases;
			ticks = still = 0;
		}
	}
	__atomic_fetch_add(&totals->cases, cases, __ATOMIC_RELAXED);
	p->over = true;
	return NULL;
}

static void ignore(int sig)
{
	(void)sig;
}

static void storm_round(u64 seed, u64 end)
{
	struct machine m = { .end = end, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct sigaction sa = { .sa_handler = ignore };
	struct player players[VCPUS] = {};
	int over = 0;

	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 256; i++)
		guest_handlers[i] = come_back;
	m.vm = vm_create();
	vm_irqchip(m.vm);
	/* So that what jumps anywhere comes back. */
	memset(vm_add_mem(m.vm, 0, 0, VM_IMAGE_MEM), INT3, VM_IMAGE_MEM);
	for (int i = 0; i < VCPUS; i++) {
		rng_at(&players[i].r, seed, i, 0);
		players[i].m = &m;
		memset(vm_hva(m.vm, (u64)STORM(i)), 0, sizeof(struct storm));
		players[i].vcpu = vcpu_create(m.vm, i);
		vcpu_get_sregs(players[i].vcpu, &players[i].reset);
	}
	load_memory(&m, &players[0].r);
	for (int i = 0; i < VCPUS; i++)
		CHECK(!pthread_create(&players[i].thread, NULL, run, &players[i]));
	while (over < VCPUS) {
		sleep_ms(TICK_MS);
		over = 0;
		for (int i = 0; i < VCPUS; i++) {
			if (players[i].over)
				over++;
			else
				pthread_kill(players[i].thread, SIGUSR1);
		}
	}
	for (int i = 0; i < VCPUS; i++)
		pthread_join(players[i].thread, NULL);
	vm_destroy(m.vm);
}

static void test_exits(void)
{
	u64 before = host_vmexits();

	totals = fuzz_shared(sizeof(*totals));
	fuzz_rounds(storm_round);
	fuzz_report();
	ktap_diag("%lu #VMEXITs in %lu cases; guests begun anew: %lu lost, %lu by time",
		  host_vmexits() - before, totals->cases, totals->lost, totals->fresh);
	CHECK(vm_is_kvm() ? totals->cases > 1000 : host_vmexits() - before > 1000);
}

int main(int argc, char **argv)
{
	return fuzz_main("fuzz_exits", test_exits, argc, argv);
}
