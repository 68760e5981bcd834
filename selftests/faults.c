// SPDX-License-Identifier: GPL-2.0
/*
 * Fault injection: every allocation and every copy from or to userspace in a call is failed once,
 * the first in the first try, the second in the next (/proc/thread-self/fail-nth), until a try
 * comes through without. Then once more, and all allocations after the first that fails fail as
 * well: what kvmalloc() falls back to, too. What fails says ENOMEM or EFAULT and leaves everything
 * as it was.
 *
 * Wants a kernel with CONFIG_FAULT_INJECTION: make test DEBUG_KERNEL=1. FAULTS_VERBOSE=2 has the
 * kernel's log say where each fault was (scripts/fault-sites).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define GPA	   0x4000000ULL /* beyond the image's memory */
#define PAGE	   4096ULL
#define MMIO	   0xe0000000ULL
#define TRIES_MAX  2000
#define REG_TMICT  0x380
#define STATS_SIZE 16

static int nth_fd = -1, all_fd = -1;
static bool all_after; /* allocations after the chosen one fail, too */

static void faults_setup(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char path[80];

	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (nth_fd < 0)
		ktap_skip("no fault injection in this kernel: make test DEBUG_KERNEL=1");
	all_fd = open("/proc/thread-self/make-it-fail", O_WRONLY);
	CHECK_OK(all_fd);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose", kinds[i]);
		CHECK_EQ(write_text(path, getenv("FAULTS_VERBOSE") ?: "0"), 0);
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait", kinds[i]);
		CHECK(!write_text(path, "N") || !strcmp(kinds[i], "fail_usercopy"));
		if (!strcmp(kinds[i], "fail_usercopy"))
			continue;
		/* For threads with make-it-fail, once fail-nth has come to its end. */
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/task-filter", kinds[i]);
		CHECK_EQ(write_text(path, "Y"), 0);
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/times", kinds[i]);
		CHECK_EQ(write_text(path, "-1"), 0);
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/probability", kinds[i]);
		CHECK_EQ(write_text(path, "100"), 0);
	}
	CHECK_EQ(write_text("/sys/kernel/debug/fail_page_alloc/min-order", "0"), 0);
	CHECK_EQ(write_text("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N"), 0);
}

static void arm(unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	if (all_after)
		CHECK_OK(pwrite(all_fd, "1", 1, 0));
	CHECK_OK(pwrite(nth_fd, text, strlen(text), 0));
}

/* How many chances are left to come; 0: it was met. That the question itself fails says 1. */
static unsigned int disarm(void)
{
	char text[16] = "";
	unsigned int left = 1;

	/* This may be what fails. */
	if (all_after && pwrite(all_fd, "0", 1, 0) < 0)
		CHECK_OK(pwrite(all_fd, "0", 1, 0));
	if (pread(nth_fd, text, sizeof(text) - 1, 0) > 0)
		left = atoi(text);
	if (pwrite(nth_fd, "0", 1, 0) < 0)
		CHECK_OK(pwrite(nth_fd, "0", 1, 0));
	return left;
}

/*
 * ioctl(), or read() where @request is 0, whose @nth chance to fail fails. In @met: there was one.
 * Gives the result or -errno.
 */
static long faulted(unsigned int nth, int fd, unsigned long request, void *arg, bool *met)
{
	long result;

	arm(nth);
	result = request ? ioctl(fd, request, arg) : pread(fd, arg, STATS_SIZE, 0);
	if (result < 0)
		result = -errno;
	*met = !disarm();
	return result;
}

/*
 * One call, failed at each of its chances. before() makes what it needs, after() sees what has
 * become of it: @done tells whether it succeeded (it may have got around the fault).
 */
struct call {
	const char *name;
	unsigned long request;
	void *arg;
	void (*before)(struct call *c);
	void (*after)(struct call *c, bool done, long result);
	int fd;
	bool quiet;
};

static unsigned int each_once(struct call *c)
{
	unsigned int nth, failures = 0, again = 0;
	long result;
	bool met;

	for (nth = 1; nth < TRIES_MAX; nth++) {
		if (c->before)
			c->before(c);
		result = faulted(nth, c->fd, c->request, c->arg, &met);
		CHECKF(result >= 0 || (met && (result == -ENOMEM || result == -EFAULT)),
		       "%s, fault %u: %ld", c->name, nth, result);
		failures += result < 0;
		if (c->after)
			c->after(c, result >= 0, result);
		/* The allocators have chances of their own now and then: the last ones again. */
		if (!met && again++ == 3)
			break;
		if (!met)
			nth = nth > 4 ? nth - 4 : 0;
	}
	CHECKF(nth < TRIES_MAX, "%s never comes through", c->name);
	if (!c->quiet)
		ktap_diag("%s: %u faults%s, failed %u times", c->name, nth - 1,
			  all_after ? " and all after" : "", failures);
	return failures;
}

static void each_fault(struct call *c)
{
	for (int i = 0; i < 2; i++) {
		all_after = i;
		CHECKF(each_once(c), "%s has nothing that can fail", c->name);
	}
	all_after = false;
}

/* Descriptors are as many as before. */
static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static int expected_fd;

static void close_result(struct call *c, bool done, long result)
{
	(void)c;
	if (done)
		close(result);
	CHECK_EQ(next_fd(), expected_fd);
}

static void test_create_vm(void)
{
	struct call c = { .name = "CREATE_VM", .request = KVM_CREATE_VM, .after = close_result };

	faults_setup();
	c.fd = vm_open_device();
	expected_fd = next_fd();
	each_fault(&c);
}

/* What a process has of the MMU notifier comes with its first VM: each try is a process. */
static void test_create_first_vm(void)
{
	unsigned int nth, failures = 0, again = 0;
	int status;
	pid_t pid;

	faults_setup();
	for (nth = 1; nth < TRIES_MAX; nth++) {
		pid = fork();
		CHECK_OK(pid);
		if (!pid) {
			long result;
			bool met;

			faults_setup();
			result = faulted(nth, vm_open_device(), KVM_CREATE_VM, NULL, &met);
			CHECKF(result >= 0 || (met && result == -ENOMEM), "fault %u: %ld", nth,
			       result);
			_exit(result < 0 ? 2 : met ? 3 : 4);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECKF(WIFEXITED(status) && WEXITSTATUS(status) >= 2, "status %#x", status);
		failures += WEXITSTATUS(status) == 2;
		if (WEXITSTATUS(status) == 4 && again++ == 3)
			break;
		if (WEXITSTATUS(status) == 4)
			nth = 0;
	}
	CHECK(failures);
	ktap_diag("first CREATE_VM: %u faults, failed %u times", nth - 1, failures);
}

/* Calls that work once for a VM: each try has a VM of its own. */
static struct vm *fresh;

static void before_fresh(struct call *c)
{
	fresh = vm_create();
	c->fd = fresh->fd;
}

static void after_vcpu(struct call *c, bool done, long result)
{
	if (done)
		close(result);
	else
		CHECK_OK(ioctl(c->fd, KVM_CREATE_VCPU, 0));
	vm_destroy(fresh);
}

static void test_create_vcpu(void)
{
	struct call c = {
		.name = "CREATE_VCPU",
		.request = KVM_CREATE_VCPU,
		.before = before_fresh,
		.after = after_vcpu,
	};

	faults_setup();
	each_fault(&c);
}

static void before_chip_vcpu(struct call *c)
{
	before_fresh(c);
	vm_irqchip(fresh);
}

static void test_create_vcpu_apic(void)
{
	struct call c = {
		.name = "CREATE_VCPU with a local APIC",
		.request = KVM_CREATE_VCPU,
		.before = before_chip_vcpu,
		.after = after_vcpu,
	};

	faults_setup();
	each_fault(&c);
}

static void after_irqchip(struct call *c, bool done, long result)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	(void)result;
	if (!done) {
		CHECK_ERR(ioctl(c->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
		CHECK_OK(ioctl(c->fd, KVM_CREATE_IRQCHIP, 0));
	}
	CHECK_OK(ioctl(c->fd, KVM_GET_IRQCHIP, &chip));
	vm_destroy(fresh);
}

static void test_irqchip(void)
{
	struct call c = {
		.name = "CREATE_IRQCHIP",
		.request = KVM_CREATE_IRQCHIP,
		.before = before_fresh,
		.after = after_irqchip,
	};

	faults_setup();
	each_fault(&c);
}

static struct kvm_pit_config pit_config;

static void after_pit(struct call *c, bool done, long result)
{
	struct kvm_pit_state2 pit;

	(void)result;
	if (!done) {
		CHECK_ERR(ioctl(c->fd, KVM_GET_PIT2, &pit), ENXIO);
		CHECK_OK(ioctl(c->fd, KVM_CREATE_PIT2, &pit_config));
	}
	CHECK_OK(ioctl(c->fd, KVM_GET_PIT2, &pit));
	vm_destroy(fresh);
}

static void before_pit(struct call *c)
{
	before_chip_vcpu(c);
	CHECK_OK(ioctl(c->fd, KVM_CREATE_PIT2, &pit_config));
}

static void after_fresh(struct call *c, bool done, long result)
{
	(void)c, (void)done, (void)result;
	vm_destroy(fresh);
}

static void test_pit(void)
{
	struct call c = {
		.name = "CREATE_PIT2",
		.request = KVM_CREATE_PIT2,
		.arg = &pit_config,
		.before = before_chip_vcpu,
		.after = after_pit,
	};
	struct kvm_reinject_control control = { .pit_reinject = 1 };

	faults_setup();
	each_fault(&c);

	c.name = "REINJECT_CONTROL";
	c.request = KVM_REINJECT_CONTROL;
	c.arg = &control;
	c.before = before_pit;
	c.after = after_fresh;
	each_fault(&c);
}

/* Slots. */
static struct kvm_userspace_memory_region region, other;
static struct vm *vm;

/* Is there a slot at @gpa? Another one cannot take its place then. */
static bool slot_exists(u64 gpa)
{
	struct kvm_userspace_memory_region probe = region;

	probe.slot = 9;
	probe.guest_phys_addr = gpa;
	probe.flags = 0;
	if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &probe)) {
		probe.memory_size = 0;
		CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &probe));
		return false;
	}
	CHECK_EQ(errno, EEXIST);
	return true;
}

static void set_region(u64 gpa, u64 size, u32 flags)
{
	struct kvm_userspace_memory_region r = region;

	r.guest_phys_addr = gpa;
	r.memory_size = size;
	r.flags = flags;
	CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r));
}

static void after_add(struct call *c, bool done, long result)
{
	(void)c, (void)result;
	CHECK_EQ(slot_exists(GPA), done);
	if (done)
		set_region(GPA, 0, 0);
}

static void before_there(struct call *c)
{
	(void)c;
	set_region(GPA, region.memory_size, 0);
}

static void after_delete(struct call *c, bool done, long result)
{
	(void)c, (void)result;
	CHECK_EQ(slot_exists(GPA), !done);
	if (!done)
		set_region(GPA, 0, 0);
}

static void after_move(struct call *c, bool done, long result)
{
	(void)c, (void)result;
	CHECK_EQ(slot_exists(GPA), !done);
	CHECK_EQ(slot_exists(2 * GPA), done);
	set_region(GPA, 0, 0);
}

static void after_log(struct call *c, bool done, long result)
{
	u64 bits[16];
	struct kvm_dirty_log log = { .slot = 5, .dirty_bitmap = bits };

	(void)c, (void)result;
	CHECK_EQ(!ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), done);
	CHECK(done || errno == ENOENT);
	set_region(GPA, 0, 0);
}

static void test_slots(void)
{
	struct call c = {
		.name = "a slot more",
		.request = KVM_SET_USER_MEMORY_REGION,
		.arg = &other,
		.after = after_add,
	};

	faults_setup();
	vm = vm_create_image();
	vcpu_create(vm, 0);
	c.fd = vm->fd;
	region.slot = 5;
	region.guest_phys_addr = GPA;
	region.memory_size = 1024 * PAGE;
	region.userspace_addr = (u64)map_anon(1024 * PAGE);
	other = region;
	other.flags = KVM_MEM_LOG_DIRTY_PAGES;
	each_fault(&c);

	c.name = "a slot less";
	c.before = before_there;
	c.after = after_delete;
	other.memory_size = 0;
	other.flags = 0;
	each_fault(&c);

	c.name = "a slot moved";
	c.after = after_move;
	other = region;
	other.guest_phys_addr = 2 * GPA;
	each_fault(&c);

	c.name = "a dirty log begun";
	c.after = after_log;
	other = region;
	other.flags = KVM_MEM_LOG_DIRTY_PAGES;
	each_fault(&c);
}

/* What is dirty stays so until userspace has it. */
static void guest_dirty(u64 pages)
{
	for (;;) {
		for (u64 i = 0; i < pages; i++)
			++*(volatile u64 *)(GPA + i * PAGE);
		guest_sync(pages);
	}
}

static u64 dirty_bits[8];
static struct kvm_dirty_log dirty_log = { .slot = 5, .dirty_bitmap = dirty_bits };

static void before_dirty(struct call *c)
{
	(void)c;
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), 200);
	memset(dirty_bits, 0, sizeof(dirty_bits));
}

static void expect_dirty(unsigned int pages, bool done)
{
	unsigned int bits = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirty_bits); i++)
		bits += __builtin_popcountll(dirty_bits[i]);
	CHECKF(bits == pages, "%u bits, %s", bits, done ? "at once" : "later");
}

static void after_dirty(struct call *c, bool done, long result)
{
	(void)c, (void)result;
	if (!done)
		CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &dirty_log));
	expect_dirty(200, done);
}

static struct kvm_clear_dirty_log clear = { .slot = 5,
					    .num_pages = 512,
					    .dirty_bitmap = dirty_bits };

static void before_clear(struct call *c)
{
	before_dirty(c);
	memset(dirty_bits, 0xff, sizeof(dirty_bits));
}

static void after_clear(struct call *c, bool done, long result)
{
	(void)c, (void)result;
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &dirty_log));
	expect_dirty(done ? 0 : 200, done);
}

static void test_dirty_log(void)
{
	struct call c = {
		.name = "GET_DIRTY_LOG",
		.request = KVM_GET_DIRTY_LOG,
		.arg = &dirty_log,
		.before = before_dirty,
		.after = after_dirty,
	};

	faults_setup();
	vm = vm_create_image();
	vcpu_create(vm, 0);
	c.fd = vm->fd;
	vm_set_slot(vm, 5, GPA, map_anon(512 * PAGE), 512 * PAGE, KVM_MEM_LOG_DIRTY_PAGES);
	vcpu_set_guest(vm->vcpus[0], guest_dirty, 200);
	each_fault(&c);

	c.name = "CLEAR_DIRTY_LOG";
	c.request = KVM_CLEAR_DIRTY_LOG;
	c.arg = &clear;
	c.before = before_clear;
	c.after = after_clear;
	each_fault(&c);
}

/* All of a vCPU and of the devices that stands still while nothing runs. */
struct snapshot {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_fpu fpu;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[4];
	} msrs;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid;
};

static const struct {
	const char *name;
	unsigned long get, set;
	size_t offset;
	bool of_vm;
} parts[] = {
#define PART(part, GET, SET, of_vm) \
	{ \
#part, GET, SET, offsetof(struct snapshot, part), of_vm \
	}
	PART(regs, KVM_GET_REGS, KVM_SET_REGS, false),
	PART(sregs, KVM_GET_SREGS, KVM_SET_SREGS, false),
	PART(debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, false),
	PART(events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, false),
	PART(fpu, KVM_GET_FPU, KVM_SET_FPU, false),
	PART(xsave, KVM_GET_XSAVE, KVM_SET_XSAVE, false),
	PART(xcrs, KVM_GET_XCRS, KVM_SET_XCRS, false),
	PART(mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE, false),
	PART(lapic, KVM_GET_LAPIC, KVM_SET_LAPIC, false),
	PART(msrs, KVM_GET_MSRS, KVM_SET_MSRS, false),
	PART(cpuid, KVM_GET_CPUID2, KVM_SET_CPUID2, false),
	PART(chips[0], KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, true),
	PART(chips[1], KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, true),
	PART(chips[2], KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, true),
	PART(pit, KVM_GET_PIT2, KVM_SET_PIT2, true),
#undef PART
};

static void snapshot_init(struct snapshot *s)
{
	static const u32 indices[] = { 0x174, 0x175, 0x277, 0xc0000103 };

	memset(s, 0, sizeof(*s));
	for (u32 i = 0; i < 3; i++)
		s->chips[i].chip_id = i;
	s->msrs.head.nmsrs = ARRAY_LEN(indices);
	for (size_t i = 0; i < ARRAY_LEN(indices); i++)
		s->msrs.entries[i].index = indices[i];
	s->cpuid.head.nent = ARRAY_LEN(s->cpuid.entries);
}

static void take_snapshot(struct vcpu *vcpu, struct snapshot *s)
{
	snapshot_init(s);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		CHECKF(ioctl(parts[i].of_vm ? vcpu->vm->fd : vcpu->fd, parts[i].get,
			     (char *)s + parts[i].offset) >= 0,
		       "%s: errno %d", parts[i].name, errno);
}

static struct snapshot was, set_to, is, scratch;
static struct vcpu *subject;

static void before_get(struct call *c)
{
	(void)c;
	snapshot_init(&scratch);
}

static void after_get(struct call *c, bool done, long result)
{
	(void)result;
	take_snapshot(subject, &is);
	CHECKF(!memcmp(&is, &was, sizeof(is)), "%s changed something", c->name);
	if (done)
		CHECKF(!memcmp(c->arg, (char *)&was + ((char *)c->arg - (char *)&scratch), 8),
		       "%s gave something else", c->name);
}

/* What a failed SET leaves is what was, all of it; a good one changes its part. */
static void after_set(struct call *c, bool done, long result)
{
	(void)result;
	take_snapshot(subject, &is);
	CHECKF(!!memcmp(&is, &was, sizeof(is)) == done, "%s, %s", c->name,
	       done ? "done, has changed nothing" : "failed, has changed something");
	if (done)
		CHECKF(ioctl(c->fd, c->request,
			     (char *)&was + ((char *)c->arg - (char *)&set_to)) >= 0,
		       "%s back: errno %d", c->name, errno);
}

static void vcpu_with_all(void)
{
	struct kvm_pit_config pit = { 0 };

	vm = vm_create_image();
	vm_irqchip(vm);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	subject = vcpu_create(vm, 0);
	vcpu_set_mode(subject, MODE_LONG, 0, VM_CODE_GPA);
	take_snapshot(subject, &was);
}

static void test_get_state(void)
{
	struct call c = { .before = before_get, .after = after_get, .quiet = true };

	faults_setup();
	vcpu_with_all();
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		c.name = parts[i].name;
		c.request = parts[i].get;
		c.fd = parts[i].of_vm ? vm->fd : subject->fd;
		c.arg = (char *)&scratch + parts[i].offset;
		each_fault(&c);
	}
}

static void test_set_state(void)
{
	struct call c = { .after = after_set, .quiet = true };

	faults_setup();
	vcpu_with_all();
	set_to = was;
	set_to.regs.rax ^= 0x1234;
	set_to.sregs.gs.base ^= 0x1000;
	set_to.debugregs.db[0] ^= 0x1000;
	set_to.events.nmi.masked ^= 1;
	set_to.fpu.mxcsr ^= 0x20;
	set_to.xsave.region[6] ^= 0x20; /* MXCSR too */
	set_to.xsave.region[128] |= 2;
	set_to.xcrs.xcrs[0].value ^= 2;
	set_to.mp_state.mp_state = KVM_MP_STATE_HALTED;
	set_to.lapic.regs[0x80] ^= 0x20; /* TPR */
	set_to.msrs.entries[0].data ^= 8;
	set_to.cpuid.entries[0].ebx ^= 1;
	set_to.chips[0].chip.pic.irq_base ^= 8;
	set_to.chips[1].chip.pic.irq_base ^= 8;
	set_to.chips[2].chip.ioapic.redirtbl[3].bits ^= 0x31;
	set_to.pit.channels[2].mode ^= 1;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		c.name = parts[i].name;
		c.request = parts[i].set;
		c.fd = parts[i].of_vm ? vm->fd : subject->fd;
		c.arg = (char *)&set_to + parts[i].offset;
		each_fault(&c);
	}
}

/* Eventfds, routes, coalesced zones, filters: what was refused is not there. */
static struct kvm_ioeventfd io;
static struct kvm_irqfd irqfd;
static struct kvm_coalesced_mmio_zone zone;

static void after_ioeventfd(struct call *c, bool done, long result)
{
	(void)result;
	io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	if (done)
		CHECK_OK(ioctl(c->fd, KVM_IOEVENTFD, &io));
	else
		CHECK_ERR(ioctl(c->fd, KVM_IOEVENTFD, &io), ENOENT);
	io.flags &= ~KVM_IOEVENTFD_FLAG_DEASSIGN;
}

static void after_irqfd(struct call *c, bool done, long result)
{
	(void)result;
	/* Not there twice: a second one is refused only where the first one stands. */
	if (done)
		CHECK_ERR(ioctl(c->fd, KVM_IRQFD, &irqfd), EBUSY);
	else
		CHECK_OK(ioctl(c->fd, KVM_IRQFD, &irqfd));
	irqfd.flags |= KVM_IRQFD_FLAG_DEASSIGN;
	CHECK_OK(ioctl(c->fd, KVM_IRQFD, &irqfd));
	irqfd.flags &= ~KVM_IRQFD_FLAG_DEASSIGN;
}

static void after_zone(struct call *c, bool done, long result)
{
	(void)result;
	if (done)
		CHECK_OK(ioctl(c->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
}

static struct {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[1];
} routes;

static int line_status(int fd)
{
	struct kvm_irq_level level = { .irq = 30, .level = 1 };

	CHECK_OK(ioctl(fd, KVM_IRQ_LINE_STATUS, &level));
	return (int)level.status;
}

static int no_route;

static void before_routes(struct call *c)
{
	before_chip_vcpu(c);
	vcpu_create(fresh, 0);
	no_route = line_status(c->fd);
}

static void after_routes(struct call *c, bool done, long result)
{
	(void)result;
	CHECKF((line_status(c->fd) != no_route) == done, "%s", done ? "no route" : "a route");
	vm_destroy(fresh);
}

static void before_no_routes(struct call *c)
{
	routes.head.nr = 1;
	before_routes(c);
	CHECK_OK(ioctl(c->fd, KVM_SET_GSI_ROUTING, &routes));
	routes.head.nr = 0;
}

static void after_no_routes(struct call *c, bool done, long result)
{
	after_routes(c, !done, result);
}

static void test_plumbing(void)
{
	struct call c = { 0 };

	faults_setup();
	vm = vm_create_image();
	vm_irqchip(vm);
	vcpu_create(vm, 0);
	c.fd = vm->fd;

	io.fd = eventfd(0, 0);
	io.addr = MMIO;
	io.len = 4;
	c.name = "IOEVENTFD";
	c.request = KVM_IOEVENTFD;
	c.arg = &io;
	c.after = after_ioeventfd;
	each_fault(&c);

	irqfd.fd = eventfd(0, 0);
	irqfd.gsi = 5;
	c.name = "IRQFD";
	c.request = KVM_IRQFD;
	c.arg = &irqfd;
	c.after = after_irqfd;
	each_fault(&c);

	zone.addr = MMIO;
	zone.size = PAGE;
	c.name = "REGISTER_COALESCED_MMIO";
	c.request = KVM_REGISTER_COALESCED_MMIO;
	c.arg = &zone;
	c.after = after_zone;
	each_fault(&c);

	routes.head.nr = 1;
	routes.entries[0].gsi = 30;
	routes.entries[0].type = KVM_IRQ_ROUTING_MSI;
	routes.entries[0].u.msi.address_lo = 0xfee00000;
	routes.entries[0].u.msi.data = 0x51;
	c.name = "SET_GSI_ROUTING";
	c.request = KVM_SET_GSI_ROUTING;
	c.arg = &routes;
	c.before = before_routes;
	c.after = after_routes;
	each_fault(&c);

	c.name = "SET_GSI_ROUTING to nothing";
	routes.head.nr = 0;
	c.before = before_no_routes;
	c.after = after_no_routes;
	each_fault(&c);
}

static struct kvm_msr_filter filter;
static u8 filter_bitmap[8];

/* STAR is readable where no filter stands. */
static void guest_star(u64 arg)
{
	u64 value;

	(void)arg;
	for (;;)
		guest_sync(guest_try_rdmsr(0xc0000081, &value));
}

static void after_filter(struct call *c, bool done, long result)
{
	struct kvm_msr_filter none = { 0 };

	(void)result;
	CHECK_EQ(vcpu_run_guest(vm->vcpus[0]), done ? 13 : NO_EXCEPTION);
	if (done)
		CHECK_OK(ioctl(c->fd, KVM_X86_SET_MSR_FILTER, &none));
}

static void test_msr_filter(void)
{
	struct call c = {
		.name = "X86_SET_MSR_FILTER",
		.request = KVM_X86_SET_MSR_FILTER,
		.arg = &filter,
		.after = after_filter,
	};

	faults_setup();
	vm = vm_create_image();
	vcpu_create(vm, 0);
	vcpu_set_guest(vm->vcpus[0], guest_star, 0);
	filter.ranges[0].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	filter.ranges[0].base = 0xc0000080;
	filter.ranges[0].nmsrs = 64;
	filter.ranges[0].bitmap = filter_bitmap;
	c.fd = vm->fd;
	each_fault(&c);
}

static void test_stats_and_cpuid(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid;
	static struct {
		struct kvm_msr_list head;
		u32 indices[256];
	} list;
	static struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) mask;
	struct kvm_nested_state nested;
	char stats[STATS_SIZE];
	struct call c = {
		.name = "GET_STATS_FD",
		.request = KVM_GET_STATS_FD,
		.after = close_result,
	};

	faults_setup();
	vm = vm_create();
	vcpu_create(vm, 0);
	expected_fd = next_fd();
	c.fd = vm->fd;
	each_fault(&c);
	c.fd = vm->vcpus[0]->fd;
	each_fault(&c);

	c.name = "read() of statistics";
	c.fd = ioctl(vm->fd, KVM_GET_STATS_FD, 0);
	CHECK_OK(c.fd);
	c.request = 0;
	c.arg = stats;
	c.after = NULL;
	each_fault(&c);

	cpuid.head.nent = ARRAY_LEN(cpuid.entries);
	c.name = "GET_SUPPORTED_CPUID";
	c.request = KVM_GET_SUPPORTED_CPUID;
	c.arg = &cpuid;
	c.fd = vm->dev;
	each_fault(&c);

	list.head.nmsrs = ARRAY_LEN(list.indices);
	c.name = "GET_MSR_INDEX_LIST";
	c.request = KVM_GET_MSR_INDEX_LIST;
	c.arg = &list;
	each_fault(&c);

	nested.size = sizeof(nested);
	c.name = "GET_NESTED_STATE";
	c.request = KVM_GET_NESTED_STATE;
	c.arg = &nested;
	c.fd = vm->vcpus[0]->fd;
	each_fault(&c);

	mask.head.len = sizeof(mask.set);
	c.name = "SET_SIGNAL_MASK";
	c.request = KVM_SET_SIGNAL_MASK;
	c.arg = &mask;
	each_fault(&c);
}

/*
 * A guest that touches pages, ports, devices and MSRs. KVM_RUN may fail at any point, or say that
 * it could not emulate something: entered again, the guest comes to its end as if nothing had been.
 */
#define TOUCHED 6

static void guest_work(u64 arg)
{
	u64 sum = 0;

	(void)arg;
	for (u64 i = 0; i < TOUCHED; i++) {
		*(volatile u64 *)(GPA + (i * 517) * PAGE) = i + 1;
		sum += *(volatile u64 *)(GPA + (i * 517) * PAGE);
	}
	apic_write(REG_TMICT, 0);
	sum += apic_read(0x30) & 0xff;
	*(volatile u32 *)MMIO = 0x77;
	sum += *(volatile u32 *)MMIO;
	/* Strings: from a port into a page not touched yet, and from there to the device. */
	asm volatile("rep insb" : : "D"(GPA + 3000 * PAGE), "c"(4UL), "d"(0x10) : "memory");
	asm volatile("rep movsb" : : "S"(GPA + 3000 * PAGE), "D"(MMIO + 8), "c"(4UL) : "memory");
	wrmsr(0x174, sum);
	guest_sync(rdmsr(0x174) + *(volatile u32 *)(GPA + 3000 * PAGE));
	guest_done();
}

/* Runs to guest_sync() with the fault after *@left chances, which are left over in there. */
static u64 run_to_end(struct vcpu *vcpu, unsigned int *left, unsigned int *failures)
{
	struct kvm_run *run = vcpu->run;
	unsigned int again = 0;
	u64 value, stored = 0;
	int reason;

	for (;;) {
		if (*left)
			arm(*left);
		reason = vcpu_run(vcpu);
		if (*left)
			*left = disarm();
		switch (reason) {
		case KVM_EXIT_MMIO:
			if (run->mmio.is_write && run->mmio.phys_addr == MMIO)
				memcpy(&stored, run->mmio.data, run->mmio.len);
			else if (!run->mmio.is_write)
				memcpy(run->mmio.data, &stored, run->mmio.len);
			continue;
		case KVM_EXIT_IO:
			if (run->io.port == 0x10) {
				memset((char *)run + run->io.data_offset, 1,
				       run->io.size * run->io.count);
				continue;
			}
			CHECK(vcpu_guest_event(vcpu, &value));
			return value;
		case -ENOMEM:
		case -EFAULT:
		case KVM_EXIT_INTERNAL_ERROR:
			CHECKF(++again < 3, "%d again and again", reason);
			++*failures;
			continue;
		default:
			CHECKF(false, "exit %d", reason);
		}
	}
}

static void run_with_faults(void)
{
	unsigned int nth, left = 0, failures = 0;
	u64 value, expected = 0;
	struct vm *v;

	for (nth = 0; nth < TRIES_MAX && !(nth && left); nth++) {
		v = vm_create_image();
		vm_irqchip(v);
		vcpu_create(v, 0);
		vm_add_mem(v, 5, GPA, 4096 * PAGE);
		vcpu_set_guest(v->vcpus[0], guest_work, 0);
		left = nth;
		value = run_to_end(v->vcpus[0], &left, &failures);
		if (!nth)
			expected = value;
		CHECKF(value == expected, "fault %u: the guest's sum is %#llx, not %#llx", nth,
		       (unsigned long long)value, (unsigned long long)expected);
		vm_destroy(v);
	}
	CHECK(nth < TRIES_MAX);
	CHECK(failures);
	ktap_diag("KVM_RUN: %u faults%s, %u of them seen by userspace", nth - 2,
		  all_after ? " and all after" : "", failures);
}

static void test_run(void)
{
	faults_setup();
	run_with_faults();
	all_after = true;
	run_with_faults();
}

/*
 * Loading svm.ko, from memory: what reads the file is not to be failed. The module's init comes
 * last, so the chances are met from the last back, and then again; the first of these are the
 * kernel's own.
 */
#define LOADS 110

static int load(const void *image, size_t size, unsigned int nth, unsigned int *left)
{
	int result;

	arm(nth);
	result = syscall(SYS_init_module, image, size, "") ? -errno : 0;
	*left = disarm();
	CHECK_EQ(module_refs("svm") >= 0, !result);
	CHECK_EQ(!access("/dev/svm", F_OK), !result);
	return result;
}

static void test_load(void)
{
	unsigned int chances, left, met = 0, failures = 0;
	const char *ko = getenv("SVM_KO");
	size_t room = 64 << 20;
	char *image = malloc(room);
	int result = 0, fd;
	ssize_t size;

	if (!ko || vm_is_kvm())
		ktap_skip("SVM_KO does not name the module");
	faults_setup();
	fd = open(ko, O_RDONLY);
	size = read(fd, image, room);
	CHECK(size > 0 && (size_t)size < room);
	close(fd);

	/* The first time has more chances than those after it. */
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(module_unload("svm"), 0);
		CHECK_EQ(load(image, size, INT32_MAX, &left), 0);
	}
	chances = INT32_MAX - left;
	CHECK(chances > LOADS);
	for (unsigned int i = 0; i < LOADS; i++) {
		unsigned int nth = chances - i % (LOADS / 2);

		if (module_refs("svm") >= 0)
			CHECK_EQ(module_unload("svm"), 0);
		result = load(image, size, nth, &left);
		CHECKF(!result || result == -ENOMEM, "fault %u of %u: %d", nth, chances, result);
		failures += result < 0;
		met += !left;
	}
	if (result)
		CHECK_EQ(module_load(ko, ""), 0);
	vm_destroy(vm_create());
	CHECK(failures);
	ktap_diag("loading: %u times a fault in the last %u of %u chances, failed %u times", met,
		  LOADS / 2, chances, failures);
}

static const struct ktap_test tests[] = {
	{ "create_vm", test_create_vm, 300 },
	{ "create_first_vm", test_create_first_vm, 300 },
	{ "create_vcpu", test_create_vcpu, 300 },
	{ "create_vcpu_apic", test_create_vcpu_apic, 300 },
	{ "irqchip", test_irqchip, 300 },
	{ "pit", test_pit, 300 },
	{ "slots", test_slots, 300 },
	{ "dirty_log", test_dirty_log, 300 },
	{ "get_state", test_get_state, 300 },
	{ "set_state", test_set_state, 300 },
	{ "plumbing", test_plumbing, 300 },
	{ "msr_filter", test_msr_filter, 300 },
	{ "stats_and_cpuid", test_stats_and_cpuid, 300 },
	{ "run", test_run, 600 },
	{ "load", test_load, 900 },
};

KTAP_MAIN(tests)
