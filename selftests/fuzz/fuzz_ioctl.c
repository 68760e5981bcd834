// SPDX-License-Identifier: GPL-2.0
/*
 * Ioctls in random order from threads that share the descriptors: every one that there is, with
 * arguments that are mostly plausible. Beside them guests run, and the memory behind slots, the
 * shared pages and the descriptors themselves change all the time.
 *
 * What a thread does at step i follows from (seed, thread, i); how threads meet does not. Where the
 * module was built with KCOV=y, arguments that reached new code are kept and begun from again: then
 * it follows from what was found before as well.
 */
#include <fcntl.h>
#include <linux/kcov.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define THREADS	   3
#define MACHINES   3
#define VCPUS	   2
#define EVENTS	   6
#define STATS	   4
#define DEVICES	   2
#define TICK_MS	   1
#define PAGE	   4096UL
#define ARENA	   (4UL << 20) /* memory for a VM's slots, and a hole behind it */
#define HOLE	   (1UL << 30)
#define BUF_SIZE   (64UL << 10)
#define RUN_SIZE   (3 * PAGE)
#define CODE_GPA   0x10000
#define CR4_PAE	   (1ULL << 5)
#define EFER_LME   (1ULL << 8)
#define USER_END   0x7ffffffff000UL
#define TRACE	   16384 /* addresses of a call that are looked at */
#define FOUND	   4	 /* arguments kept for each call */
#define FOUND_SIZE 512
#define LOW_END	   0x400000UL /* nothing of this program lies below */

static const u32 ports[] = { 0x10, 0x3f8, 0x20, 0x40, 0xfffe };

enum on { DEV, VM, VCPU };

/* Descriptors are taken out of here atomically before they are closed; -1 is none. */
struct machine {
	int fd, vcpu[VCPUS];
	struct kvm_run *run[VCPUS]; /* mapped over at this address, so always there */
	char *mem;
};

static struct machine machines[MACHINES];
static int devices[DEVICES], events[EVENTS], stats[STATS];
static volatile bool over;
static u64 round_seed;

/* One thread, and the step it is at. */
struct ctx {
	pthread_t id;
	struct rng r;
	struct machine *m;
	int v;	    /* which vCPU of it */
	u8 *buf;    /* the argument; a hole follows after BUF_SIZE */
	u8 *ro;	    /* its first page once more, read-only */
	u8 *aux;    /* what the argument points to */
	u64 *trace; /* [0]: how many addresses follow; NULL without KCOV */
	pid_t child;
};

static struct ctx threads[THREADS];

static int look(const int *slot)
{
	return __atomic_load_n(slot, __ATOMIC_RELAXED);
}

/* @fd, which may be -1, in place of what was there. */
static void put(int *slot, int fd)
{
	int old = __atomic_exchange_n(slot, fd, __ATOMIC_ACQ_REL);

	if (old >= 0)
		close(old);
}

/* --- arguments --- */

/* What a field holds, mostly; else an edge value. */
enum kind {
	BELOW,	/* a number below n */
	BITS,	/* some of the bits of n */
	IS,	/* n */
	GPA,	/* a guest-physical address */
	PAGES,	/* a power of two of pages, below n of them */
	MSI,	/* an APIC's address */
	EVENT,	/* an eventfd */
	POINTER /* memory of the size of n pages */
};

struct field {
	unsigned int offset, size;
	enum kind kind;
	u64 n;
};

static const u64 gpas[] = { 0,		0x10000,    0x1ff000,	0x200000,   0x400000,
			    0xd0000000, 0xfec00000, 0xfee00000, 0x100000000 };

/* The kernel may write there: to nothing of this program. */
static u64 bad_pointer(struct ctx *c)
{
	u64 at = edge(&c->r);

	return at >= LOW_END && at < USER_END ? at % LOW_END : at;
}

static u64 plausible(struct ctx *c, const struct field *f)
{
	switch (f->kind) {
	case BELOW:
		return below(&c->r, f->n);
	case BITS:
		return rnd(&c->r) & f->n;
	case IS:
		return f->n;
	case GPA:
		return PICK(&c->r, gpas) + PAGE * below(&c->r, 3);
	case PAGES:
		return PAGE << below(&c->r, f->n);
	case MSI:
		return 0xfee00000 | (rnd(&c->r) & 0x300c);
	case EVENT:
		return look(&PICK(&c->r, events));
	default:
		return (u64)c->aux;
	}
}

static void fill_fields(struct ctx *c, const struct field *f)
{
	for (; f->size; f++) {
		u64 value = chance(&c->r, 96)	 ? plausible(c, f)
			    : f->kind == POINTER ? bad_pointer(c)
						 : edge(&c->r);

		memcpy(c->buf + f->offset, &value, f->size);
	}
}

#define F(type, member, kind, n) \
	{ \
		offsetof(struct type, member), sizeof(((struct type *)0)->member), kind, n \
	}
#define WHOLE(size, kind, n) \
	{ \
		0, size, kind, n \
	}
#define FIELDS(name, ...) static const struct field name[] = { __VA_ARGS__, {} }

/* clang-format off */
FIELDS(zero, WHOLE(8, IS, 0));
FIELDS(small, WHOLE(8, BELOW, 4));
FIELDS(capability, WHOLE(8, BELOW, 250));
FIELDS(some_pages, WHOLE(8, BELOW, 4096));
FIELDS(count, WHOLE(4, BELOW, 250));
FIELDS(tss, WHOLE(8, IS, 0xfffbd000));
FIELDS(address, WHOLE(8, GPA, 0));
FIELDS(room, F(kvm_nested_state, size, IS, 4096));
FIELDS(region, F(kvm_userspace_memory_region, slot, BELOW, 4),
	F(kvm_userspace_memory_region, flags, BITS, 3),
	F(kvm_userspace_memory_region, guest_phys_addr, GPA, 0),
	F(kvm_userspace_memory_region, memory_size, PAGES, 11));
FIELDS(dirty_log, F(kvm_dirty_log, slot, BELOW, 4), F(kvm_dirty_log, dirty_bitmap, POINTER, 1));
FIELDS(clear_log, F(kvm_clear_dirty_log, slot, BELOW, 4),
	F(kvm_clear_dirty_log, num_pages, BITS, 0x1c0),
	F(kvm_clear_dirty_log, first_page, BITS, 0x1c0),
	F(kvm_clear_dirty_log, dirty_bitmap, POINTER, 1));
FIELDS(chip, F(kvm_irqchip, chip_id, BELOW, 3));
FIELDS(line, F(kvm_irq_level, irq, BELOW, 24), F(kvm_irq_level, level, BELOW, 2));
FIELDS(msi, F(kvm_msi, address_lo, MSI, 0), F(kvm_msi, data, BITS, 0xc7ff));
FIELDS(pit, F(kvm_pit_config, flags, BELOW, 2));
FIELDS(reinject, F(kvm_reinject_control, pit_reinject, BELOW, 2));
FIELDS(irqfd, F(kvm_irqfd, fd, EVENT, 0), F(kvm_irqfd, gsi, BELOW, 24),
	F(kvm_irqfd, flags, BELOW, 3), F(kvm_irqfd, resamplefd, EVENT, 0));
FIELDS(vcpu_cap, F(kvm_enable_cap, cap, IS, KVM_CAP_ENFORCE_PV_FEATURE_CPUID),
	F(kvm_enable_cap, args[0], BELOW, 2));
FIELDS(signal_mask, F(kvm_signal_mask, len, IS, 8), { 4, 8, BITS, ~0ULL });
FIELDS(mp_state, F(kvm_mp_state, mp_state, BELOW, 6));
FIELDS(irq, F(kvm_interrupt, irq, BELOW, 256));
FIELDS(translation, F(kvm_translation, linear_address, GPA, 0));
FIELDS(mcg_cap, { 0, 1, BELOW, 33 }, { 1, 1, BITS, 1 });
FIELDS(mce, F(kvm_x86_mce, status, BITS, ~0ULL), { 7, 1, IS, 0x80 },
	F(kvm_x86_mce, mcg_status, BITS, 7), F(kvm_x86_mce, bank, BELOW, 10));
FIELDS(guest_debug, F(kvm_guest_debug, control, BITS, 0x1f0003),
	F(kvm_guest_debug, arch.debugreg[0], IS, CODE_GPA),
	F(kvm_guest_debug, arch.debugreg[7], BITS, 0xff));
FIELDS(attr, F(kvm_device_attr, addr, POINTER, 1));
FIELDS(prefault, F(kvm_pre_fault_memory, gpa, GPA, 0), F(kvm_pre_fault_memory, size, PAGES, 11));
/* clang-format on */

/* What fields can't say. */

static const u32 msrs[] = {
	0x10,	    0x1b,	0x3b,	    0x48,	0x174,	    0x175,	0x176,
	0x179,	    0x17a,	0x1a0,	    0x200,	0x201,	    0x250,	0x277,
	0x2ff,	    0x400,	0x401,	    0x6e0,	0x808,	    0x80b,	0x830,
	0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
	0xc0000103, 0xc0010015, 0xc0010117, 0xc0011029, 0x8b,	    0x4b564d00, 0x4b564d01,
	0x4b564d03, 0x4b564d04, 0x4b564d05, 0x11,	0x12,
};

static void fill_msrs(struct ctx *c)
{
	struct kvm_msrs *m = (void *)c->buf;

	m->nmsrs = 1 + below(&c->r, chance(&c->r, 90) ? 6 : 255);
	for (u32 i = 0; i < m->nmsrs; i++) {
		m->entries[i].index = chance(&c->r, 97) ? PICK(&c->r, msrs) : rnd(&c->r);
		m->entries[i].data = chance(&c->r, 70) ? edge(&c->r) : PICK(&c->r, gpas) | 1;
	}
}

static void fill_khz(struct ctx *c)
{
	*(u64 *)c->buf = ioctl(look(&c->m->fd), KVM_GET_TSC_KHZ, 0) + below(&c->r, 9) - 4;
}

static void fill_region(struct ctx *c)
{
	struct kvm_userspace_memory_region *s = (void *)c->buf;

	if (chance(&c->r, 20))
		s->memory_size = 0;
	s->userspace_addr = (u64)c->m->mem + PAGE * below(&c->r, ARENA / PAGE);
}

static void fill_routing(struct ctx *c)
{
	struct kvm_irq_routing *t = (void *)c->buf;

	t->nr = below(&c->r, 24);
	for (u32 i = 0; i < t->nr; i++) {
		struct kvm_irq_routing_entry *e = &t->entries[i];

		e->gsi = chance(&c->r, 70) ? i : below(&c->r, 4096);
		e->type = chance(&c->r, 50) ? KVM_IRQ_ROUTING_IRQCHIP : KVM_IRQ_ROUTING_MSI;
		if (e->type == KVM_IRQ_ROUTING_MSI) {
			e->u.msi.address_lo = 0xfee00000 | (rnd(&c->r) & 0x300c);
			e->u.msi.data = rnd(&c->r) & 0xc7ff;
		} else {
			e->u.irqchip.irqchip = below(&c->r, 3);
			e->u.irqchip.pin = below(&c->r, 8);
		}
	}
}

static void fill_ioeventfd(struct ctx *c)
{
	struct kvm_ioeventfd *f = (void *)c->buf;

	f->flags = below(&c->r, 8);
	f->addr = f->flags & KVM_IOEVENTFD_FLAG_PIO ? PICK(&c->r, ports) : PICK(&c->r, gpas);
	f->len = (1 << below(&c->r, 5)) >> 1;
	f->datamatch = below(&c->r, 3);
	f->fd = look(&PICK(&c->r, events));
}

static void fill_zone(struct ctx *c)
{
	struct kvm_coalesced_mmio_zone *z = (void *)c->buf;

	z->pio = below(&c->r, 2);
	z->addr = z->pio ? PICK(&c->r, ports) : PICK(&c->r, gpas);
	z->size = chance(&c->r, 80) ? 1 + below(&c->r, 64) : edge(&c->r);
}

static void fill_vm_cap(struct ctx *c)
{
	static const struct {
		u32 cap;
		u64 most;
	} caps[] = {
		{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3 },
		{ KVM_CAP_MAX_VCPU_ID, 4096 },
		{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
		{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
		{ KVM_CAP_X86_USER_SPACE_MSR, 7 },
		{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
		{ KVM_CAP_SPLIT_IRQCHIP, 24 },
		{ KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1000 },
		{ KVM_CAP_X2APIC_API, 3 },
	};
	struct kvm_enable_cap *e = (void *)c->buf;
	size_t i = below(&c->r, ARRAY_LEN(caps));

	e->cap = caps[i].cap;
	e->args[0] = chance(&c->r, 90) ? below(&c->r, caps[i].most + 1) : edge(&c->r);
}

static void fill_filter(struct ctx *c)
{
	struct kvm_msr_filter *f = (void *)c->buf;
	u64 n = below(&c->r, KVM_MSR_FILTER_MAX_RANGES + 1);

	f->flags = n ? below(&c->r, 2) : 0;
	for (u64 i = 0; i < n; i++) {
		f->ranges[i].flags = 1 + below(&c->r, 3);
		f->ranges[i].base = PICK(&c->r, msrs) - below(&c->r, 4);
		f->ranges[i].nmsrs = chance(&c->r, 99) ? 1 + below(&c->r, 64) : edge(&c->r);
		f->ranges[i].bitmap = chance(&c->r, 99) ? c->aux : (u8 *)bad_pointer(c);
	}
}

/* --- after mutation: what would be this program's own end --- */

/* Guests may write to what belongs to no one else: arenas, holes, what is not there. */
static void tame_region(struct ctx *c)
{
	struct kvm_userspace_memory_region *s = (void *)c->buf;
	u64 base = (u64)c->m->mem, addr = s->userspace_addr, size = s->memory_size;

	if (addr >= USER_END || (addr + size >= addr && addr + size <= LOW_END))
		return;
	if (addr - base >= ARENA)
		s->userspace_addr = base + (addr & (ARENA - 1));
	if (size > HOLE && addr + size < USER_END)
		s->memory_size = size & (HOLE - 1);
}

static void tame_pointer(struct ctx *c, void *field)
{
	u64 at = *(u64 *)field;

	if (at >= LOW_END && at < USER_END)
		*(u64 *)field = (u64)c->aux + at % BUF_SIZE;
}

static void tame_log(struct ctx *c)
{
	tame_pointer(c, &((struct kvm_dirty_log *)c->buf)->dirty_bitmap);
}

static void tame_attr(struct ctx *c)
{
	tame_pointer(c, &((struct kvm_device_attr *)c->buf)->addr);
}

/* Long mode enabled without PAE is the end of an L1 (Documentation/errata.rst). */
static void tame_sregs(struct ctx *c)
{
	struct kvm_sregs *s = (void *)c->buf; /* and struct kvm_sregs2 begins like it */

	if (!(s->cr4 & CR4_PAE))
		s->efer &= ~EFER_LME;
}

static void tame_msrs(struct ctx *c)
{
	struct kvm_msrs *m = (void *)c->buf;

	for (u32 i = 0; i < m->nmsrs && i < 256; i++)
		if (m->entries[i].index == MSR_EFER)
			m->entries[i].data &= ~EFER_LME;
}

/* A KVM_RUN that no signal ends. */
static void tame_mask(struct ctx *c)
{
	struct kvm_signal_mask *m = (void *)c->buf;

	m->sigset[(SIGUSR1 - 1) / 8] &= ~(1 << (SIGUSR1 - 1) % 8);
}

/* --- the table: what vm/ioctl.c serves --- */

static const struct call {
	const char *name;
	enum on on;
	u32 cmd;
	unsigned int percent; /* of its draws that are done */
	const struct field *fields;
	void (*fill)(struct ctx *c); /* after the fields */
	u32 get;		     /* gives what it starts from, after that */
	void (*tame)(struct ctx *c); /* after it was mutated */
} calls[] = {
/* clang-format off */
#define CALL(where, number, share, ...) \
	{ .name = #number, .on = where, .cmd = number, .percent = share, ##__VA_ARGS__ }
	CALL(DEV, KVM_GET_API_VERSION, 30, .fields = zero),
	CALL(DEV, KVM_CHECK_EXTENSION, 30, .fields = capability),
	CALL(DEV, KVM_CREATE_VM, 10, .fields = zero),
	CALL(DEV, KVM_GET_VCPU_MMAP_SIZE, 30, .fields = zero),
	CALL(DEV, KVM_GET_SUPPORTED_CPUID, 30, .fields = count),
	CALL(DEV, KVM_GET_MSR_INDEX_LIST, 30, .fields = count),
	CALL(DEV, KVM_GET_MSR_FEATURE_INDEX_LIST, 30, .fields = count),
	CALL(DEV, KVM_GET_MSRS, 30, .fill = fill_msrs),
	CALL(DEV, KVM_X86_GET_MCE_CAP_SUPPORTED, 30),
	CALL(VM, KVM_IRQ_LINE, 100, .fields = line),
	CALL(VM, KVM_IRQ_LINE_STATUS, 100, .fields = line),
	CALL(VM, KVM_SIGNAL_MSI, 100, .fields = msi),
	CALL(VM, KVM_CHECK_EXTENSION, 30, .fields = capability),
	CALL(VM, KVM_CREATE_VCPU, 50, .fields = small),
	CALL(VM, KVM_SET_USER_MEMORY_REGION, 100, .fields = region, .fill = fill_region, .tame = tame_region),
	CALL(VM, KVM_SET_USER_MEMORY_REGION2, 100, .fields = region, .fill = fill_region, .tame = tame_region),
	CALL(VM, KVM_GET_DIRTY_LOG, 100, .fields = dirty_log, .tame = tame_log),
	CALL(VM, KVM_CLEAR_DIRTY_LOG, 100, .fields = clear_log),
	CALL(VM, KVM_SET_NR_MMU_PAGES, 30, .fields = some_pages),
	CALL(VM, KVM_SET_TSS_ADDR, 50, .fields = tss),
	CALL(VM, KVM_SET_IDENTITY_MAP_ADDR, 50, .fields = address),
	CALL(VM, KVM_SET_BOOT_CPU_ID, 50, .fields = small),
	CALL(VM, KVM_CREATE_IRQCHIP, 50),
	CALL(VM, KVM_GET_IRQCHIP, 100, .fields = chip),
	CALL(VM, KVM_SET_IRQCHIP, 100, .fields = chip, .get = KVM_GET_IRQCHIP),
	CALL(VM, KVM_SET_GSI_ROUTING, 100, .fill = fill_routing),
	CALL(VM, KVM_CREATE_PIT2, 50, .fields = pit),
	CALL(VM, KVM_GET_PIT2, 100),
	CALL(VM, KVM_SET_PIT2, 100, .get = KVM_GET_PIT2),
	CALL(VM, KVM_REINJECT_CONTROL, 50, .fields = reinject),
	CALL(VM, KVM_GET_CLOCK, 50),
	CALL(VM, KVM_SET_CLOCK, 50, .get = KVM_GET_CLOCK),
	CALL(VM, KVM_SET_TSC_KHZ, 50, .fill = fill_khz),
	CALL(VM, KVM_GET_TSC_KHZ, 30),
	CALL(VM, KVM_IRQFD, 100, .fields = irqfd),
	CALL(VM, KVM_IOEVENTFD, 100, .fill = fill_ioeventfd),
	CALL(VM, KVM_REGISTER_COALESCED_MMIO, 100, .fill = fill_zone),
	CALL(VM, KVM_UNREGISTER_COALESCED_MMIO, 100, .fill = fill_zone),
	CALL(VM, KVM_ENABLE_CAP, 100, .fill = fill_vm_cap),
	CALL(VM, KVM_X86_SET_MSR_FILTER, 100, .fill = fill_filter),
	CALL(VM, KVM_GET_STATS_FD, 100),
	CALL(VCPU, KVM_GET_REGS, 50),
	CALL(VCPU, KVM_SET_REGS, 100, .get = KVM_GET_REGS),
	CALL(VCPU, KVM_GET_SREGS, 50),
	CALL(VCPU, KVM_SET_SREGS, 100, .get = KVM_GET_SREGS, .tame = tame_sregs),
	CALL(VCPU, KVM_GET_SREGS2, 50),
	CALL(VCPU, KVM_SET_SREGS2, 100, .get = KVM_GET_SREGS2, .tame = tame_sregs),
	CALL(VCPU, KVM_GET_FPU, 50),
	CALL(VCPU, KVM_SET_FPU, 100, .get = KVM_GET_FPU),
	CALL(VCPU, KVM_GET_XSAVE, 50),
	CALL(VCPU, KVM_GET_XSAVE2, 50),
	CALL(VCPU, KVM_SET_XSAVE, 100, .get = KVM_GET_XSAVE),
	CALL(VCPU, KVM_GET_XCRS, 50),
	CALL(VCPU, KVM_SET_XCRS, 100, .get = KVM_GET_XCRS),
	CALL(VCPU, KVM_GET_MSRS, 100, .fill = fill_msrs),
	CALL(VCPU, KVM_SET_MSRS, 100, .fill = fill_msrs, .tame = tame_msrs),
	CALL(VCPU, KVM_GET_CPUID2, 50, .fields = count),
	CALL(VCPU, KVM_SET_CPUID2, 100, .fields = count, .get = KVM_GET_CPUID2),
	CALL(VCPU, KVM_GET_LAPIC, 50),
	CALL(VCPU, KVM_SET_LAPIC, 100, .get = KVM_GET_LAPIC),
	CALL(VCPU, KVM_GET_MP_STATE, 50),
	CALL(VCPU, KVM_SET_MP_STATE, 100, .fields = mp_state),
	CALL(VCPU, KVM_GET_VCPU_EVENTS, 50),
	CALL(VCPU, KVM_SET_VCPU_EVENTS, 100, .get = KVM_GET_VCPU_EVENTS),
	CALL(VCPU, KVM_GET_DEBUGREGS, 50),
	CALL(VCPU, KVM_SET_DEBUGREGS, 100, .get = KVM_GET_DEBUGREGS),
	CALL(VCPU, KVM_SET_SIGNAL_MASK, 100, .fields = signal_mask, .tame = tame_mask),
	CALL(VCPU, KVM_INTERRUPT, 100, .fields = irq),
	CALL(VCPU, KVM_NMI, 50),
	CALL(VCPU, KVM_TRANSLATE, 100, .fields = translation),
	CALL(VCPU, KVM_SET_TSC_KHZ, 50, .fill = fill_khz),
	CALL(VCPU, KVM_GET_TSC_KHZ, 50),
	CALL(VCPU, KVM_KVMCLOCK_CTRL, 50),
	CALL(VCPU, KVM_X86_SETUP_MCE, 50, .fields = mcg_cap),
	CALL(VCPU, KVM_X86_SET_MCE, 100, .fields = mce),
	CALL(VCPU, KVM_SET_VAPIC_ADDR, 50, .fields = address),
	CALL(VCPU, KVM_SET_GUEST_DEBUG, 100, .fields = guest_debug),
	CALL(VCPU, KVM_HAS_DEVICE_ATTR, 50, .fields = attr, .tame = tame_attr),
	CALL(VCPU, KVM_GET_DEVICE_ATTR, 50, .fields = attr, .tame = tame_attr),
	CALL(VCPU, KVM_SET_DEVICE_ATTR, 50, .fields = attr, .tame = tame_attr),
	CALL(VCPU, KVM_GET_NESTED_STATE, 50, .fields = room),
	CALL(VCPU, KVM_SET_NESTED_STATE, 50, .fields = room, .get = KVM_GET_NESTED_STATE),
	CALL(VCPU, KVM_GET_STATS_FD, 100),
	CALL(VCPU, KVM_ENABLE_CAP, 50, .fields = vcpu_cap),
	CALL(VCPU, KVM_PRE_FAULT_MEMORY, 100, .fields = prefault),
	/* clang-format on */
};

/* Of all rounds. */
static struct {
	u64 done[ARRAY_LEN(calls)], good[ARRAY_LEN(calls)];
	u64 runs, others, scribbled;
} * counts;

/* --- VMs with all there is --- */

/* A guest that leaves for everything, from which it comes back. */
PAYLOAD(guest, ".code16\n"
	       "1: inc %cx\n"
	       "mov %cl, (%bx)\n"
	       "add %cx, %bx\n"
	       "in $0x40, %al\n"
	       "mov $0x3f8, %dx\n"
	       "out %al, %dx\n"
	       "cpuid\n"
	       "mov %cx, %es:0x10\n"
	       "addl %eax, %es:0x20\n"
	       "mov $0xc0000080, %ecx\n"
	       "rdmsr\n"
	       "sti\n"
	       "nop\n"
	       "cli\n"
	       "test $7, %bl\n"
	       "jnz 1b\n"
	       "hlt\n"
	       "jmp 1b\n");

/* The arena anew: what the threads did to its mappings is gone. */
static void fresh_memory(struct ctx *c)
{
	int flags = chance(&c->r, 50) ? MAP_PRIVATE : MAP_SHARED;
	struct iovec from = { (void *)guest_start, guest_end - guest_start }, to = from;
	char *mem = c->m->mem;

	if (mmap(mem, ARENA, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
	    mem)
		return;
	/* Others may change it already: a call fails where a store would fault. */
	for (u64 at = CODE_GPA; at < CODE_GPA + 0x8000; at += 0x1000) {
		to.iov_base = mem + at;
		process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	}
}

static void adopt(struct machine *m, int v, int fd)
{
	mmap(m->run[v], RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	put(&m->vcpu[v], fd);
}

static void make_vcpu(struct ctx *c, int vm, int v)
{
	int fd = ioctl(vm, KVM_CREATE_VCPU, v);
	struct kvm_cpuid2 *cpuid = (void *)c->buf;
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2, .rbx = rnd(&c->r) };

	if (fd < 0)
		return;
	cpuid->nent = 256;
	ioctl(look(&devices[0]), KVM_GET_SUPPORTED_CPUID, cpuid);
	ioctl(fd, KVM_SET_CPUID2, cpuid);
	ioctl(fd, KVM_GET_SREGS, &sregs);
	sregs.cs.base = CODE_GPA + below(&c->r, 8) * 0x1000;
	sregs.cs.selector = sregs.cs.base >> 4;
	sregs.es.base = PICK(&c->r, gpas);
	sregs.ds.base = PICK(&c->r, gpas);
	ioctl(fd, KVM_SET_SREGS, &sregs);
	ioctl(fd, KVM_SET_REGS, &regs);
	adopt(c->m, v, fd);
}

static void make_machine(struct ctx *c)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = ARENA / 2,
		.userspace_addr = (u64)c->m->mem,
		.flags = chance(&c->r, 50) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
	};
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_pit_config pit = {};
	int vm = ioctl(look(&PICK(&c->r, devices)), KVM_CREATE_VM, 0);

	if (vm < 0)
		return;
	fresh_memory(c);
	if (chance(&c->r, 25)) { /* bare: all is still to come */
		put(&c->m->fd, vm);
		return;
	}
	switch (below(&c->r, 4)) {
	case 0:
		break;
	case 1:
		ioctl(vm, KVM_ENABLE_CAP, &split);
		break;
	default:
		ioctl(vm, KVM_CREATE_IRQCHIP, 0);
		if (chance(&c->r, 70))
			ioctl(vm, KVM_CREATE_PIT2, &pit);
	}
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	for (int v = 0; v < VCPUS; v++)
		make_vcpu(c, vm, v);
	put(&c->m->fd, vm);
}

/* --- steps --- */

/* Where the argument lies: mostly in good memory. */
static u64 place(struct ctx *c, size_t size)
{
	switch (below(&c->r, 50)) {
	case 0:
		return bad_pointer(c);
	case 1: /* reaches into the hole */
		size = below(&c->r, size + 1);
		return (u64)memmove(c->buf + BUF_SIZE - size, c->buf, size);
	case 2:
		return (u64)c->ro;
	case 3: /* with what follows, where the size is not all */
		return (u64)memmove(c->buf + 1, c->buf, 8192);
	default:
		return (u64)c->buf;
	}
}

static int fd_on(struct ctx *c, enum on on)
{
	if (chance(&c->r, 2))
		on = below(&c->r, 3);
	return look(on == DEV ? &PICK(&c->r, devices) : on == VM ? &c->m->fd : &c->m->vcpu[c->v]);
}

/* A call may have made a descriptor. */
static void keep(struct ctx *c, u32 cmd, int fd)
{
	if (cmd == KVM_CREATE_VM)
		put(&c->m->fd, fd);
	else if (cmd == KVM_CREATE_VCPU)
		adopt(c->m, c->v, fd);
	else if (cmd == KVM_GET_STATS_FD)
		put(&PICK(&c->r, stats), fd);
}

/* Of all rounds: code reached, and the latest arguments that reached it first. */
static struct {
	u64 seen[1 << 10];
	u64 places;
	struct {
		u64 n;
		u8 arg[FOUND][FOUND_SIZE];
	} found[ARRAY_LEN(calls)];
} * guide;

/* For the calling thread. */
static u64 *open_trace(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	u64 *trace;

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, TRACE))
		return NULL;
	trace = mmap(NULL, TRACE * sizeof(u64), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return trace == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) ? NULL : trace;
}

/* Was the last call anywhere that none was before? */
static bool reached_new(struct ctx *c)
{
	u64 n = __atomic_load_n(c->trace, __ATOMIC_RELAXED);
	bool new = false;

	for (u64 i = 1; i <= n && i < TRACE; i++) {
		u64 bit = c->trace[i] * 0x9e3779b97f4a7c15ULL >> 48, mask = 1ULL << (bit & 63);

		if (__atomic_load_n(&guide->seen[bit >> 6], __ATOMIC_RELAXED) & mask)
			continue;
		if (!(__atomic_fetch_or(&guide->seen[bit >> 6], mask, __ATOMIC_RELAXED) & mask)) {
			COUNT(guide->places);
			new = true;
		}
	}
	return new;
}

static void step_call(struct ctx *c)
{
	size_t i = below(&c->r, ARRAY_LEN(calls));
	const struct call *call = &calls[i];
	size_t size = _IOC_SIZE(call->cmd);
	int fd = fd_on(c, call->on);
	u8 given[FOUND_SIZE];
	u64 arg;
	long r;

	if (!chance(&c->r, call->percent))
		return;
	/* Those of variable size have a small one in their number. */
	memset(c->buf, 0, 8192);
	if (call->fields)
		fill_fields(c, call->fields);
	if (call->fill)
		call->fill(c);
	if (call->get)
		ioctl(fd, call->get, c->buf);
	if (c->trace && guide->found[i].n && chance(&c->r, 40))
		memcpy(c->buf, guide->found[i].arg[below(&c->r, FOUND)], FOUND_SIZE);
	if (chance(&c->r, 30))
		mutate(&c->r, c->buf, size < 256 && chance(&c->r, 20) ? 256 : size);
	if (call->tame)
		call->tame(c);
	arg = size ? place(c, size) : *(u64 *)c->buf;
	if (call->cmd == KVM_REINJECT_CONTROL)
		arg = place(c, sizeof(struct kvm_reinject_control));
	if (c->trace) {
		memcpy(given, c->buf, sizeof(given));
		__atomic_store_n(c->trace, 0, __ATOMIC_RELAXED);
	}
	r = count_errno(ioctl(fd, call->cmd, arg));
	if (c->trace && reached_new(c))
		memcpy(guide->found[i].arg[COUNT(guide->found[i].n) % FOUND], given, sizeof(given));
	COUNT(counts->done[i]);
	if (r < 0)
		return;
	COUNT(counts->good[i]);
	keep(c, call->cmd, r);
}

static void step_run(struct ctx *c)
{
	struct kvm_run *run = c->m->run[c->v];
	long r;

	run->immediate_exit = chance(&c->r, 25);
	if (chance(&c->r, 50))
		fill_random(&c->r, run->mmio.data, 8);
	r = count_errno(ioctl(look(&c->m->vcpu[c->v]), KVM_RUN, 0));
	COUNT(counts->runs);
	if (!r)
		count_exit(run->exit_reason);
}

/* Over the three pages that vCPU and user share. */
static void step_scribble(struct ctx *c)
{
	u8 *page = (u8 *)c->m->run[c->v] + PAGE * below(&c->r, 3);

	for (u64 n = below(&c->r, 16); n; n--) {
		u64 at = chance(&c->r, 50) ? below(&c->r, 128) : below(&c->r, PAGE / 4);

		if (at * 4 - offsetof(struct kvm_run, s.regs.sregs.efer) < 8)
			continue;
		((volatile u32 *)page)[at] = edge(&c->r);
		COUNT(counts->scribbled);
	}
	/* Not what makes each KVM_RUN fail. */
	c->m->run[c->v]->kvm_dirty_regs &= 7;
	c->m->run[c->v]->kvm_valid_regs &= 7;
	c->m->run[c->v]->cr8 &= 15;
}

static void step_descriptors(struct ctx *c)
{
	int *slot;
	char buf[512];

	switch (below(&c->r, 12)) {
	case 0:
		put(&c->m->vcpu[c->v], -1);
		break;
	case 1:
		put(&c->m->fd, -1);
		break;
	case 2: /* the same vCPU twice */
		put(&c->m->vcpu[c->v], dup(look(&c->m->vcpu[below(&c->r, VCPUS)])));
		break;
	case 3:
		put(&PICK(&c->r, devices), open(vm_device(), O_RDWR | O_CLOEXEC));
		break;
	case 4:
		put(&PICK(&c->r, events), eventfd(below(&c->r, 3), EFD_NONBLOCK | EFD_CLOEXEC));
		break;
	case 5:
		put(&PICK(&c->r, stats), -1);
		break;
	default:
		slot = &PICK(&c->r, stats);
		if (chance(&c->r, 50))
			lseek(look(slot), edge(&c->r), below(&c->r, 3));
		pread(look(slot), chance(&c->r, 90) ? (void *)c->aux : (void *)bad_pointer(c),
		      below(&c->r, sizeof(buf)), below(&c->r, 256));
		read(look(slot), buf, below(&c->r, sizeof(buf)));
	}
}

static void step_event(struct ctx *c)
{
	int fd = look(&PICK(&c->r, events));
	u64 n = chance(&c->r, 90) ? 1 : -2ULL;

	if (chance(&c->r, 80))
		write(fd, &n, sizeof(n));
	else
		read(fd, &n, sizeof(n));
}

/* What the host may do to memory; it never faults in this thread. */
static void step_memory(struct ctx *c)
{
	static const int advice[] = { MADV_DONTNEED,	  MADV_FREE,	  MADV_HUGEPAGE,
				      MADV_NOHUGEPAGE,	  MADV_COLD,	  MADV_PAGEOUT,
				      MADV_REMOVE,	  MADV_MERGEABLE, MADV_WILLNEED,
				      MADV_POPULATE_WRITE };
	static const int prot[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
				    PROT_READ | PROT_WRITE };
	u64 page = below(&c->r, ARENA / PAGE), left = ARENA / PAGE - page;
	char *at = c->m->mem + page * PAGE, *to;
	size_t len = PAGE * (1 + below(&c->r, chance(&c->r, 50) ? 4 : left));

	if (len > left * PAGE)
		len = left * PAGE;
	switch (below(&c->r, 8)) {
	case 0:
		mmap(at, len, PROT_READ | PROT_WRITE,
		     (chance(&c->r, 50) ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
		break;
	case 1: /* nothing else of this program lies in the arena: it moves within */
		to = c->m->mem + PAGE * below(&c->r, ARENA / PAGE - len / PAGE + 1);
		if (to + len <= at || at + len <= to)
			mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		mmap(at, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 2:
	case 3:
		mprotect(at, len, PICK(&c->r, prot));
		break;
	case 4: /* all good again */
		mprotect(c->m->mem, ARENA, PROT_READ | PROT_WRITE);
		break;
	default:
		madvise(at, len, PICK(&c->r, advice));
	}
}

/* A child has the descriptors, and for a while the memory. To it the VMs are closed. */
static void step_fork(struct ctx *c)
{
	struct kvm_regs regs;

	if (c->child > 0 && waitpid(c->child, NULL, WNOHANG) != c->child)
		return;
	c->child = fork();
	if (c->child)
		return;
	for (int i = 0; i < MACHINES; i++) {
		ioctl(machines[i].vcpu[0], KVM_GET_REGS, &regs);
		ioctl(machines[i].vcpu[0], KVM_RUN, 0);
		ioctl(machines[i].fd, KVM_CREATE_VCPU, 7);
	}
	usleep(below(&c->r, 20000));
	_exit(0);
}

static void step_unknown(struct ctx *c)
{
	u32 cmd = chance(&c->r, 80) ? _IOC(below(&c->r, 4), KVMIO, below(&c->r, 256),
					   below(&c->r, 4) ? 8 << below(&c->r, 8) : 0)
				    : (u32)rnd(&c->r);

	/* Nothing that this grammar has its reasons for. */
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (calls[i].cmd == cmd || cmd == KVM_RUN)
			return;
	count_errno(ioctl(fd_on(c, below(&c->r, 3)), cmd, place(c, 256)));
	COUNT(counts->others);
}

static const struct {
	unsigned int weight;
	void (*fn)(struct ctx *c);
} steps[] = {
	{ 680, step_call },	  { 150, step_run },	{ 40, step_scribble },
	{ 14, step_descriptors }, { 30, step_event },	{ 50, step_memory },
	{ 4, step_fork },	  { 16, step_unknown }, { 16, make_machine },
};

static void *fuzz_thread(void *arg)
{
	struct ctx *c = arg;

	c->trace = open_trace();
	for (u64 i = 0; !over; i++) {
		unsigned int n;

		rng_at(&c->r, round_seed, c - threads, i);
		c->m = &PICK(&c->r, machines);
		c->v = below(&c->r, VCPUS);
		n = below(&c->r, 1000);
		for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
			if (n < steps[s].weight) {
				steps[s].fn(c);
				break;
			}
			n -= steps[s].weight;
		}
	}
	return NULL;
}

/* --- rounds --- */

static void ignore(int sig)
{
	(void)sig;
}

/* Good memory, a hole behind it. */
static void *with_hole(size_t size, size_t hole, int fd)
{
	char *p = mmap(NULL, size + hole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	CHECK(p != MAP_FAILED);
	CHECK(mmap(p, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0) == p);
	return p;
}

static void prepare(void)
{
	for (size_t i = 0; i < DEVICES; i++)
		devices[i] = vm_open_device();
	for (size_t i = 0; i < EVENTS; i++)
		events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	memset(stats, -1, sizeof(stats));
	for (size_t i = 0; i < MACHINES; i++) {
		struct machine *m = &machines[i];

		m->mem = with_hole(ARENA, HOLE, -1);
		m->fd = -1;
		for (int v = 0; v < VCPUS; v++) {
			m->run[v] = with_hole(RUN_SIZE, PAGE, -1);
			m->vcpu[v] = -1;
		}
	}
	for (size_t i = 0; i < THREADS; i++) {
		struct ctx *c = &threads[i];
		int fd = memfd_create("argument", MFD_CLOEXEC);

		CHECK(!ftruncate(fd, BUF_SIZE));
		c->buf = with_hole(BUF_SIZE, PAGE, fd);
		c->ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(c->ro != MAP_FAILED);
		c->aux = with_hole(BUF_SIZE, PAGE, -1);
		close(fd);
	}
}

static void fuzz_round(u64 seed, u64 end)
{
	struct sigaction sa = { .sa_handler = ignore };
	size_t joined = 0;

	round_seed = seed;
	sigaction(SIGUSR1, &sa, NULL);
	prepare();
	for (size_t i = 0; i < MACHINES; i++) {
		threads[0].m = &machines[i];
		rng_at(&threads[0].r, seed, THREADS, i);
		make_machine(&threads[0]);
	}
	for (size_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i].id, NULL, fuzz_thread, &threads[i]));
	/* Takes threads out of KVM_RUN until all have seen the end. */
	while (joined < THREADS) {
		sleep_ms(TICK_MS);
		over = now_ms() >= end;
		for (size_t i = joined; i < THREADS; i++)
			pthread_kill(threads[i].id, SIGUSR1);
		while (joined < THREADS && over && !pthread_tryjoin_np(threads[joined].id, NULL))
			joined++;
	}
	while (wait(NULL) > 0)
		;
}

static void report(void)
{
	unsigned int never = 0;
	u64 done = counts->runs + counts->others, good = 0;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		static const char *const on[] = { "device", "VM", "vCPU" };

		done += counts->done[i];
		good += counts->good[i];
		ktap_diag("  %-6s %-36s %8llu, %3llu %% succeeded", on[calls[i].on], calls[i].name,
			  (unsigned long long)counts->done[i],
			  (unsigned long long)(100 * counts->good[i] / (counts->done[i] ?: 1)));
	}
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		if (!counts->good[i]) {
			ktap_diag("  never succeeded: %s", calls[i].name);
			never++;
		}
	}
	ktap_diag("%llu operations: %llu KVM_RUN, %llu unknown ioctls, %llu others succeeded; "
		  "%llu words scribbled",
		  (unsigned long long)done, (unsigned long long)counts->runs,
		  (unsigned long long)counts->others, (unsigned long long)good,
		  (unsigned long long)counts->scribbled);
	if (guide->places)
		ktap_diag("guided by coverage: %llu places in the code",
			  (unsigned long long)guide->places);
	CHECKF(done < 20000 || never <= ARRAY_LEN(calls) / 20, "%u calls", never);
}

static void test_ioctl(void)
{
	counts = fuzz_shared(sizeof(*counts));
	guide = fuzz_shared(sizeof(*guide));
	fuzz_rounds(fuzz_round);
	report();
	fuzz_report();
	vm_destroy(vm_create_image()); /* and the hypervisor is none the worse */
}

int main(int argc, char **argv)
{
	return fuzz_main("fuzz_ioctl", test_ioctl, argc, argv);
}
