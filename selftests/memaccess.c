// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses to guest memory that are not plain: writes to read-only slots, execution where there is
 * nothing to execute, and the dirty log of writes by the emulator, by CPL 3, by page walks, and of
 * a guest that runs meanwhile. See memslots.c for the slots themselves.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define WIN   0x40000000ULL /* guest-physical window of slot 1 */
#define HOLE  0x90000000ULL /* nothing is ever here */
#define PAGE  HOST_PAGE
#define MAGIC 0x1122334455667788ULL

#define PTE_ALL 7ULL /* P, W, U */
#define PTE_A	0x20ULL
#define PTE_D	0x40ULL

static volatile u64 stop;

/* Run to the next guest event, answering reads of ports and MMIO with @fill. */
static u64 run_filling(struct vcpu *vcpu, u8 fill)
{
	struct kvm_run *run = vcpu->run;
	u64 val;

	for (;;) {
		int got = vcpu_run(vcpu);

		if (got == KVM_EXIT_IO && vcpu_guest_event(vcpu, &val))
			return val;
		if (got == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN) {
			memset((char *)run + run->io.data_offset, fill,
			       run->io.size * run->io.count);
		} else if (got == KVM_EXIT_MMIO) {
			memset(run->mmio.data, fill, 8);
		} else {
			vcpu_dump(vcpu);
			ktap_fail(__FILE__, __LINE__, "exit %d (%s)", got, vm_exit_name(got));
		}
	}
}

/* --- Read-only slots --- */

static void guest_readonly(u64 gpa)
{
	volatile u8 *p = (u8 *)gpa;

	guest_assert_eq(*(volatile u64 *)p, MAGIC); /* reads do not exit */
	*(p + 1) = 0x11;
	*(volatile u16 *)(p + 2) = 0x2222;
	*(volatile u32 *)(p + 4) = 0x44444444;
	*(volatile u64 *)(p + 8) = 0x8888888888888888;
	asm volatile("addl $5, %0" : "+m"(*(volatile u32 *)p) : : "cc");
	guest_assert_eq(*(volatile u64 *)p, MAGIC);
	((void (*)(void))(gpa + 0x100))(); /* may be executed */
	guest_done();
}

static void expect_write(struct vcpu *vcpu, u64 gpa, u32 len, u64 val)
{
	u64 data = 0;

	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, gpa);
	CHECK_EQ(vcpu->run->mmio.len, len);
	CHECK_EQ(vcpu->run->mmio.is_write, 1);
	memcpy(&data, vcpu->run->mmio.data, len);
	CHECK_EQ(data, val);
}

static void readonly_writes(u32 flags)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *mem = map_anon(PAGE);

	*(u64 *)mem = MAGIC;
	mem[0x100] = (char)0xc3; /* RET */
	vm_set_slot(vm, 1, WIN, mem, PAGE, flags);
	vcpu_set_guest(vcpu, guest_readonly, WIN);
	expect_write(vcpu, WIN + 1, 1, 0x11);
	expect_write(vcpu, WIN + 2, 2, 0x2222);
	expect_write(vcpu, WIN + 4, 4, 0x44444444);
	expect_write(vcpu, WIN + 8, 8, 0x8888888888888888);
	expect_write(vcpu, WIN, 4, (u32)MAGIC + 5);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(*(u64 *)mem, MAGIC);
	CHECK_EQ(*(u64 *)(mem + 8), 0);
}

static void test_readonly(void)
{
	readonly_writes(KVM_MEM_READONLY);
	readonly_writes(KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES);
}

/* --- Where nothing can be executed --- */

static void set_cr3(struct vcpu *vcpu, u64 cr3)
{
	struct kvm_sregs s;

	vcpu_get_sregs(vcpu, &s);
	s.cr3 = cr3;
	vcpu_set_sregs(vcpu, &s);
}

static void lost_hole(struct vm *vm, struct vcpu *vcpu)
{
	(void)vm;
	vcpu_set_mode(vcpu, MODE_LONG, 0, HOLE);
}

static void lost_run_off(struct vm *vm, struct vcpu *vcpu)
{
	memset(vm_hva(vm, VM_IMAGE_MEM - PAGE), 0x90, PAGE);
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_IMAGE_MEM - 64);
}

static void lost_unpaged(struct vm *vm, struct vcpu *vcpu)
{
	(void)vm;
	vcpu_set_mode(vcpu, MODE_PM32, 0, HOLE);
}

static void lost_cr3(struct vm *vm, struct vcpu *vcpu)
{
	(void)vm;
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_CODE_GPA);
	set_cr3(vcpu, HOLE);
}

static void lost_cr3_readonly(struct vm *vm, struct vcpu *vcpu)
{
	char *mem = map_anon(PAGE);

	memcpy(mem, vm_hva(vm, VM_PT_GPA), PAGE);
	vm_set_slot(vm, 1, WIN, mem, PAGE, KVM_MEM_READONLY);
	memcpy(vm_hva(vm, VM_CODE_GPA), "\xeb\xfe", 2); /* JMP to itself */
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_CODE_GPA);
	set_cr3(vcpu, WIN);
}

static void lost_idt(struct vm *vm, struct vcpu *vcpu)
{
	struct kvm_sregs s;

	memcpy(vm_hva(vm, VM_CODE_GPA), "\x0f\x0b", 2); /* UD2 */
	vcpu_set_mode(vcpu, MODE_LONG, 0, VM_CODE_GPA);
	vcpu_get_sregs(vcpu, &s);
	s.idt.base = HOLE;
	s.idt.limit = 0xfff;
	vcpu_set_sregs(vcpu, &s);
}

struct lost_case {
	void (*set)(struct vm *vm, struct vcpu *vcpu);
	bool code; /* the exit must be KVM_INTERNAL_ERROR_EMULATION, each time */
};

static void lost_child(const struct lost_case *c, int ready)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int i, got;

	c->set(vm, vcpu);
	for (i = 0; c->code && i < 20; i++) {
		got = vcpu_run(vcpu);
		if (i && vm_is_kvm()) /* has queued a #UD for the next time */
			break;
		CHECKF(got == KVM_EXIT_INTERNAL_ERROR, "exit %d (%s)", got, vm_exit_name(got));
		CHECK_EQ(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	}
	CHECK(write(ready, "", 1) == 1);
	for (;;)
		(void)vcpu_run(vcpu);
}

/* Row 19: a process whose guest is lost for good dies of SIGKILL at once. */
static void lost(void (*set)(struct vm *vm, struct vcpu *vcpu), bool code)
{
	struct lost_case c = { set, code };
	int fds[2], status, got;
	pid_t pid;
	u64 end;
	char b;

	CHECK_OK(pipe(fds));
	pid = fork();
	CHECK_OK(pid);
	if (!pid)
		lost_child(&c, fds[1]);
	close(fds[1]);
	if (read(fds[0], &b, 1) != 1)
		ktap_fail(__FILE__, __LINE__, "the child gave up");
	close(fds[0]);
	sleep_ms(200);
	CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
	CHECK_OK(kill(pid, SIGKILL));
	end = now_ms() + 3000;
	while (!(got = waitpid(pid, &status, WNOHANG)) && now_ms() < end)
		sleep_ms(5);
	CHECK(got == pid && WIFSIGNALED(status));
}

static void test_execute_hole(void)
{
	lost(lost_hole, true);
	lost(lost_run_off, true);
	lost(lost_unpaged, true);
}

static void test_tables_hole(void)
{
	lost(lost_cr3, false);
	lost(lost_cr3_readonly, false);
	lost(lost_idt, false);
}

/* --- Dirty log --- */

#define LOG_PAGES 128

static char *log_create(struct vm *vm)
{
	char *mem = map_anon(LOG_PAGES * PAGE);

	vm_set_slot(vm, 1, WIN, mem, LOG_PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES);
	return mem;
}

static void get_log(struct vm *vm, u64 *bitmap)
{
	struct kvm_dirty_log log = { .slot = 1 };

	log.dirty_bitmap = bitmap;
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
}

/* Exactly the pages of @want, a list ended by -1, are dirty; and none when asked again. */
static void check_log(struct vm *vm, const int *want)
{
	u64 bitmap[LOG_PAGES / 64], expected[LOG_PAGES / 64] = { 0 };

	for (; *want >= 0; want++)
		expected[*want / 64] |= 1ULL << *want % 64;
	get_log(vm, bitmap);
	CHECK_EQ(bitmap[0], expected[0]);
	CHECK_EQ(bitmap[1], expected[1]);
	get_log(vm, bitmap);
	CHECK_EQ(bitmap[0] | bitmap[1], 0);
}

/* Memory that the emulator writes: from MMIO and from ports, over a page's end. */
static void guest_log_emulated(u64 gpa)
{
	u64 to = gpa + 4 * PAGE - 4, from = HOLE, n = 8;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	to = gpa + 8 * PAGE - 4;
	n = 2;
	asm volatile("rep insl" : "+D"(to), "+c"(n) : "d"(0x77) : "memory");
	to = gpa + 11 * PAGE;
	asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push (%1); mov %%rbx, %%rsp"
		     :
		     : "r"(to), "r"(HOLE)
		     : "rbx", "memory");
	guest_done();
}

static void test_log_emulated(void)
{
	static const int want[] = { 3, 4, 7, 8, 10, -1 };
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *mem = log_create(vm);
	int i;

	vcpu_set_guest(vcpu, guest_log_emulated, WIN);
	CHECK_EQ(run_filling(vcpu, 0x5a), GUEST_DONE);
	for (i = 0; i < 8; i++) {
		CHECK_EQ(mem[4 * PAGE - 4 + i], 0x5a);
		CHECK_EQ(mem[8 * PAGE - 4 + i], 0x5a);
		CHECK_EQ(mem[11 * PAGE - 8 + i], 0x5a);
	}
	check_log(vm, want);
}

PAYLOAD(user_writes, "movabs $0x40000000, %rbx\n"
		     "1: movl $1, 0x2008(%rbx)\n"
		     "lock incl 0x5ffe(%rbx)\n"
		     "mov 0x9000(%rbx), %eax\n"
		     "lea 0x7000(%rbx), %rdi\n"
		     "mov $600, %ecx\n"
		     "rep stosq\n"
		     "out %eax, $0x80\n"
		     "jmp 1b");

static void test_log_user(void)
{
	static const int want[] = { 2, 5, 6, 7, 8, -1 };
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int i;

	log_create(vm);
	vm_load_payload(vm, VM_CODE_GPA, user_writes);
	vcpu_set_mode(vcpu, MODE_LONG, 3, VM_CODE_GPA);
	for (i = 0; i < 3; i++) {
		vcpu_expect_out(vcpu, 0x80, 4);
		check_log(vm, want);
	}
}

/*
 * As in a migration: pages are copied when the log names them, while the guest goes on writing. A
 * write that the log misses would leave the copy different.
 */
static volatile u64 live_count;

static void guest_live(u64 gpa)
{
	u64 x = 88172645463325252;

	while (!stop) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		*(volatile u64 *)(gpa + x % (LOG_PAGES * PAGE / 8) * 8) = x;
		live_count++;
	}
	guest_done();
}

static void copy_dirty(struct vm *vm, char *to, const char *from)
{
	u64 bitmap[LOG_PAGES / 64];
	int i;

	get_log(vm, bitmap);
	for (i = 0; i < LOG_PAGES; i++)
		if (bitmap[i / 64] >> i % 64 & 1)
			memcpy(to + i * PAGE, from + i * PAGE, PAGE);
}

static void test_log_live(void)
{
	struct vm *vm = vm_create_image();
	struct runner r = { .vcpu = vcpu_create(vm, 0), .cpu = -1 };
	char *mem = log_create(vm), *copy = map_anon(LOG_PAGES * PAGE);
	u64 end = now_ms() + 4000, seen;

	vcpu_set_guest(r.vcpu, guest_live, WIN);
	runner_start(&r);
	while (now_ms() < end) {
		seen = *guest_ptr(vm, live_count);
		copy_dirty(vm, copy, mem);
		while (*guest_ptr(vm, live_count) < seen + 20 && now_ms() < end)
			sched_yield();
	}
	*guest_ptr(vm, stop) = 1;
	runner_join(&r);
	copy_dirty(vm, copy, mem);
	CHECK(*guest_ptr(vm, live_count) > 1000);
	CHECK(!memcmp(mem, copy, LOG_PAGES * PAGE));
}

/* --- Accessed and dirty bits of the guest's page tables, in a logged slot --- */

#define AD_VA 0x8000000000ULL /* the second entry of the PML4 */

static void guest_ad(u64 arg)
{
	(void)arg;
	(void)*(volatile u64 *)AD_VA;
	*(volatile u64 *)(AD_VA + PAGE) = 1;
	(void)*(volatile u64 *)(AD_VA + 3 * PAGE); /* MMIO: the emulator walks */
	*(volatile u64 *)(AD_VA + 4 * PAGE) = 1;
	guest_done();
}

static void test_accessed_dirty(void)
{
	static const u64 bits[] = { PTE_A, PTE_A | PTE_D, 0, PTE_A, PTE_A | PTE_D };
	static const int want[] = { 0, 1, 2, 3, 4, 9, -1 };
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *mem = log_create(vm);
	u64 *table = (u64 *)mem; /* PML4, PDPT of the low half, PDPT, PD, PT; data from page 8 */
	int i;

	table[0] = (WIN + PAGE) | PTE_ALL;
	table[1] = (WIN + 2 * PAGE) | PTE_ALL;
	memcpy(mem + PAGE, vm_hva(vm, VM_PT_GPA + PAGE), 32);
	table[2 * 512] = (WIN + 3 * PAGE) | PTE_ALL;
	table[3 * 512] = (WIN + 4 * PAGE) | PTE_ALL;
	for (i = 0; i < 3; i++)
		table[4 * 512 + i] = (WIN + (8 + i) * PAGE) | PTE_ALL;
	for (; i < 5; i++)
		table[4 * 512 + i] = (HOLE + i * PAGE) | PTE_ALL;
	vcpu_set_guest(vcpu, guest_ad, 0);
	set_cr3(vcpu, WIN);
	CHECK_EQ(run_filling(vcpu, 0), GUEST_DONE);
	CHECK_EQ(table[0] & (PTE_A | PTE_D), PTE_A);
	CHECK_EQ(table[1] & (PTE_A | PTE_D), PTE_A);
	CHECK_EQ(table[2 * 512] & (PTE_A | PTE_D), PTE_A);
	CHECK_EQ(table[3 * 512] & (PTE_A | PTE_D), PTE_A);
	for (i = 0; i < 5; i++)
		CHECKF((table[4 * 512 + i] & (PTE_A | PTE_D)) == bits[i], "entry %d is %#llx", i,
		       (unsigned long long)table[4 * 512 + i]);
	check_log(vm, want);
}

/* --- A file that was cut: SIGBUS for the owner, -EFAULT for the guest --- */

static void guest_access(u64 gpa)
{
	guest_sync(*(volatile u64 *)gpa);
	*(volatile u64 *)gpa = 5;
	guest_sync(*(volatile u64 *)gpa);
	guest_done();
}

static void test_truncated(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int fd = memfd_create("cut", MFD_CLOEXEC);
	char *mem;

	CHECK_OK(ftruncate(fd, 2 * PAGE));
	mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mem != MAP_FAILED);
	*(u64 *)(mem + PAGE) = 4;
	vm_set_slot(vm, 1, WIN, mem, 2 * PAGE, 0);
	vcpu_set_guest(vcpu, guest_access, WIN + PAGE);
	CHECK_EQ(vcpu_run_guest(vcpu), 4);
	CHECK_OK(ftruncate(fd, PAGE));
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	CHECK_OK(ftruncate(fd, 2 * PAGE));
	CHECK_EQ(vcpu_run_guest(vcpu), 5);
}

/* --- How large the leaves are, by the number of exits --- */

static volatile u64 touch_size, touch_step;

static void guest_touch(u64 gpa)
{
	u64 off;

	for (off = 0; off < touch_size; off += touch_step)
		*(volatile u64 *)(gpa + off) ^= MAGIC + off;
	guest_done();
}

/* The guest touches memory whose pages are all there: @faults exits, and at most so many more. */
static void leaves(char *mem, u64 size, u64 step, u64 faults)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	long long before;
	u64 off, n;

	for (off = 0; off < size; off += step)
		*(volatile u64 *)(mem + off) = off;
	vm_set_slot(vm, 1, WIN, mem, size, 0);
	*guest_ptr(vm, touch_size) = size;
	*guest_ptr(vm, touch_step) = step;
	vcpu_set_guest(vcpu, guest_touch, WIN);
	before = read_number("/sys/module/svm/parameters/exits");
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	n = read_number("/sys/module/svm/parameters/exits") - before;
	for (off = 0; off < size; off += step)
		CHECK_EQ(*(volatile u64 *)(mem + off), off ^ (MAGIC + off));
	if (!vm_is_kvm())
		CHECKF(n >= faults && n < 2 * faults + 60, "%llu exits", (unsigned long long)n);
}

#define LEAVES_SIZE (32ULL << 20)

static void test_leaves_small(void)
{
	char *mem = map_anon(LEAVES_SIZE);

	madvise(mem, LEAVES_SIZE, MADV_NOHUGEPAGE);
	leaves(mem, LEAVES_SIZE, PAGE, LEAVES_SIZE / PAGE / 64);
}

static void test_leaves_huge(void)
{
	char *mem = map_anon(LEAVES_SIZE);

	madvise(mem, LEAVES_SIZE, MADV_HUGEPAGE);
	memset(mem, 0, LEAVES_SIZE);
	if (smaps_kb(mem, "AnonHugePages:") != LEAVES_SIZE >> 10)
		ktap_skip("no 2 MiB pages to be had");
	leaves(mem, LEAVES_SIZE, PAGE, LEAVES_SIZE / HOST_HUGE);
}

static void test_leaves_1g(void)
{
	char *mem = mmap(NULL, 1 << 30, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 30 << 26, -1, 0);

	if (mem == MAP_FAILED)
		ktap_skip("no 1 GiB page to be had");
	/* 512 leaves of 2 MiB would show. */
	leaves(mem, 1 << 30, HOST_HUGE, 1);
}

/*
 * KVM_SET_NR_MMU_PAGES. A page in every 2 MiB needs a table each: more of them than the limit allows cannot stay, so a
 * second look at all of them faults again.
 */
#define TABLES_SIZE (256ULL << 20)

static void guest_look(u64 gpa)
{
	for (u64 round = 1;; round++) {
		for (u64 off = 0; off < TABLES_SIZE; off += HOST_HUGE) {
			volatile u64 *p = (u64 *)(gpa + off);

			guest_assert_eq(*p, off + round - 1);
			*p = off + round;
		}
		guest_sync(round);
	}
}

static void test_limit_tables(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *mem = map_anon(TABLES_SIZE);
	long long exits[5];

	CHECK_EQ(vm_has_cap(vm, KVM_CAP_MMU_SHADOW_CACHE_CONTROL), 1);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 0), EINVAL);
	CHECK_ERR(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 63), EINVAL);
	madvise(mem, TABLES_SIZE, MADV_NOHUGEPAGE);
	for (u64 off = 0; off < TABLES_SIZE; off += HOST_HUGE)
		*(volatile u64 *)(mem + off) = off;
	vm_set_slot(vm, 1, WIN, mem, TABLES_SIZE, 0);
	vcpu_set_guest(vcpu, guest_look, WIN);
	for (int i = 0; i < 5; i++) {
		/* Unlimited twice, at the least that there is twice, and with enough. */
		if (i == 2)
			CHECK_OK(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 64));
		if (i == 4)
			CHECK_OK(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, ~0UL));
		exits[i] = -read_number("/sys/module/svm/parameters/exits");
		CHECK_EQ(vcpu_run_guest(vcpu), i + 1);
		exits[i] += read_number("/sys/module/svm/parameters/exits");
	}
	if (vm_is_kvm())
		return;
	CHECKF(exits[0] >= 128 && exits[1] < 32, "unlimited: %lld, %lld exits", exits[0], exits[1]);
	CHECKF(exits[2] >= 128 && exits[3] >= 128, "limited: %lld, %lld exits", exits[2], exits[3]);
	CHECK_EQ(vcpu_run_guest(vcpu), 6);
}

static const struct ktap_test tests[] = {
	{ "limit_tables", test_limit_tables, 60 }, { "readonly", test_readonly, 0 },
	{ "execute_hole", test_execute_hole, 60 }, { "tables_hole", test_tables_hole, 60 },
	{ "log_emulated", test_log_emulated, 0 },  { "log_user", test_log_user, 0 },
	{ "log_live", test_log_live, 60 },	   { "accessed_dirty", test_accessed_dirty, 0 },
	{ "truncated", test_truncated, 0 },	   { "leaves_small", test_leaves_small, 60 },
	{ "leaves_huge", test_leaves_huge, 60 },   { "leaves_1g", test_leaves_1g, 60 },
};

KTAP_MAIN(tests)
