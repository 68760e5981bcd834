// SPDX-License-Identifier: GPL-2.0
/*
 * Memory slots: every field at its limits, changes under a running guest,
 * backing of every kind and size, the dirty log.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define GPA  0x4000000ULL /* 64 MiB: beyond the image's memory */
#define PAGE 4096ULL

static volatile u64 stop, seen, writes;

static int set_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, u64 hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

/* Row 36. */
static void test_limits(void)
{
	struct vm *vm = vm_create();
	char *p = map_anon(16 * PAGE);
	u64 hva = (u64)p;
	int max = vm_has_cap(vm, KVM_CAP_NR_MEMSLOTS);
	const struct {
		u64 slot, flags, gpa, size, hva;
	} bad[] = {
		{ max, 0, 0, PAGE, hva },
		{ 1 << 15, 0, 0, PAGE, hva },
		{ 1 << 16, 0, 0, PAGE, hva }, /* another address space */
		{ ~0U, 0, 0, PAGE, hva },
		{ 0, 4, 0, PAGE, hva },
		{ 0, 1u << 31, 0, PAGE, hva },
		{ 0, 0, 1, PAGE, hva },
		{ 0, 0, 0, PAGE - 1, hva },
		{ 0, 0, 0, 1, hva },
		{ 0, 0, 0, PAGE, hva + 8 },
		{ 0, 0, -PAGE, 2 * PAGE, hva },		  /* wraps */
		{ 0, 0, PAGE, -PAGE, hva },		  /* so does this */
		{ 0, 0, 0, 1ULL << 63, hva },		  /* not even a page count */
		{ 0, 0, 0, PAGE, 0xffffffff80000000ULL }, /* the kernel's */
		{ 0, 0, 0, PAGE, 0xffff888000000000ULL }, /* its direct map */
		{ 0, 0, 0, PAGE, 0x8000000000000000ULL }, /* nobody's */
		{ 0, 0, 0, 2 * PAGE, 0x7ffffffff000ULL }, /* ends beyond userspace */
		{ 0, 0, 0, 16 * PAGE, -8 * PAGE },	  /* wraps too */
	};

	CHECK(max >= 32);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		errno = 0;
		CHECKF(set_slot(vm, bad[i].slot, bad[i].flags, bad[i].gpa, bad[i].size,
				bad[i].hva) == -1 &&
			       errno == EINVAL,
		       "case %zu: errno %d", i, errno);
	}
	/* Nothing of that has left a slot behind. */
	CHECK_OK(set_slot(vm, 0, 0, 0, PAGE, hva));
	CHECK_ERR(set_slot(vm, 1, 0, 0, PAGE, hva), EEXIST);
	CHECK_OK(set_slot(vm, max - 1, 0, PAGE, PAGE, hva));
	CHECK_ERR(set_slot(vm, 1, 0, 0, 3 * PAGE, hva), EEXIST);
	/* The size of a slot stays, and so does READONLY; there is nothing to delete in slot 5. */
	CHECK_ERR(set_slot(vm, 0, 0, 0, 2 * PAGE, hva), EINVAL);
	CHECK_ERR(set_slot(vm, 0, KVM_MEM_READONLY, 0, PAGE, hva), EINVAL);
	CHECK_ERR(set_slot(vm, 5, 0, 0, 0, 0), EINVAL);
	/* Neither does its place in userspace. */
	CHECK_ERR(set_slot(vm, 0, 0, 0, PAGE, hva + PAGE), EINVAL);
	/* Moved onto a neighbour, away, and deleted twice. */
	CHECK_ERR(set_slot(vm, 0, 0, PAGE, PAGE, hva), EEXIST);
	CHECK_OK(set_slot(vm, 0, 0, 64 * PAGE, PAGE, hva));
	CHECK_OK(set_slot(vm, 1, 0, 0, PAGE, hva));
	CHECK_OK(set_slot(vm, 0, 0, 0, 0, 0));
	CHECK_ERR(set_slot(vm, 0, 0, 0, 0, 0), EINVAL);
	vm_destroy(vm);
}

/* Every slot there is, in an order of chance, each found by the guest. */
static void guest_sum(u64 pages)
{
	u64 sum = 0;

	for (u64 i = 0; i < pages; i++)
		sum += *(volatile u64 *)(GPA + 2 * PAGE * i);
	guest_sync(sum);
	guest_done();
}

static void test_many_slots(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u32 nr = vm_has_cap(vm, KVM_CAP_NR_MEMSLOTS), order[1024];
	char *p = map_anon(1024 * PAGE);
	u64 sum = 0;

	nr = nr > 1000 ? 1000 : nr - 1;
	CHECK(nr >= 500);
	for (u32 i = 0; i < nr; i++)
		order[i] = i;
	for (u32 i = nr - 1; i; i--) {
		u32 j = test_random() % (i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (u32 n = 0; n < nr; n++) {
		u32 i = order[n];

		*(u64 *)(p + i * PAGE) = 1000 + i;
		sum += 1000 + i;
		CHECK_OK(set_slot(vm, n + 1, 0, GPA + 2 * PAGE * i, PAGE, (u64)p + i * PAGE));
	}
	vcpu_set_guest(vcpu, guest_sum, nr);
	CHECK_EQ(vcpu_run_guest(vcpu), sum);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	for (u32 n = 0; n < nr; n++)
		CHECK_OK(set_slot(vm, n + 1, 0, 0, 0, 0));
}

/* A guest that reads and writes one page for as long as it may. */
static void guest_poke(u64 arg)
{
	(void)arg;
	while (!stop) {
		seen = *(volatile u64 *)GPA;
		*(volatile u64 *)(GPA + 8) = ++writes;
	}
	guest_done();
}

static u32 mmio_reads, mmio_writes;

static bool count_mmio(struct runner *r, int reason)
{
	struct kvm_run *run = r->vcpu->run;

	if (reason != KVM_EXIT_MMIO || run->mmio.phys_addr > GPA + 8)
		return false;
	if (run->mmio.is_write)
		mmio_writes++;
	else
		mmio_reads++;
	memset(run->mmio.data, 0xff, 8);
	return true;
}

static struct runner poker(struct vm **vm)
{
	struct runner r = { .cpu = -1, .on_exit = count_mmio };

	*vm = vm_create_image();
	r.vcpu = vcpu_create(*vm, 0);
	vcpu_set_guest(r.vcpu, guest_poke, 0);
	mmio_reads = mmio_writes = 0;
	return r;
}

static void wait_seen(struct vm *vm, u64 want)
{
	u64 end = now_ms() + 10000;

	while (*guest_ptr(vm, seen) != want && now_ms() < end)
		sleep_ms(1);
	CHECK_EQ(*guest_ptr(vm, seen), want);
}

static void poker_end(struct vm *vm, struct runner *r)
{
	*guest_ptr(vm, stop) = 1;
	runner_join(r);
}

/* Deleted, another in its place, moved away and back, all while the guest runs. */
static void test_change_running(void)
{
	struct vm *vm;
	struct runner r = poker(&vm);
	u64 *a = map_anon(HOST_HUGE), *b = map_anon(HOST_HUGE);

	a[0] = 0xaaaa;
	b[0] = 0xbbbb;
	CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)a));
	runner_start(&r);
	for (int i = 0; i < 50; i++) {
		wait_seen(vm, 0xaaaa);
		CHECK_OK(set_slot(vm, 1, 0, 0, 0, 0));
		wait_seen(vm, ~0ULL); /* MMIO */
		CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)b));
		wait_seen(vm, 0xbbbb);
		/* Moved: its old place is a hole from the moment the call returns. */
		CHECK_OK(set_slot(vm, 1, 0, GPA + (1 << 28), HOST_HUGE, (u64)b));
		b[1] = 0;
		sleep_ms(1);
		CHECK_EQ(b[1], 0);
		CHECK_OK(set_slot(vm, 1, 0, 0, 0, 0));
		CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)a));
	}
	wait_seen(vm, 0xaaaa);
	poker_end(vm, &r);
	CHECK(mmio_reads && mmio_writes);
}

/* A slot that comes and goes beside a guest which computes, and has no exits of its own. */
static void guest_compute(u64 arg)
{
	(void)arg;
	seen = 1;
	while (!stop)
		cpu_relax();
	guest_done();
}

static void test_change_beside(void)
{
	struct vm *vm = vm_create_image();
	struct runner r = { .cpu = 1, .vcpu = vcpu_create(vm, 0) };
	u64 *a = map_anon(HOST_HUGE), longest = 0, begin, ms;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		ktap_skip("one CPU");
	vcpu_set_guest(r.vcpu, guest_compute, 0);
	bind_cpu(0);
	runner_start(&r);
	wait_seen(vm, 1);
	for (int i = 0; i < 200; i++) {
		begin = now_ms();
		CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)a));
		CHECK_OK(set_slot(vm, 1, 0, 0, 0, 0));
		ms = now_ms() - begin;
		longest = ms > longest ? ms : longest;
	}
	ktap_diag("two changes took at most %llu ms", (unsigned long long)longest);
	poker_end(vm, &r);
}

/* A host page that is broken: the owner gets its SIGBUS, as if it had touched it. */
static volatile sig_atomic_t bus_code;
static void *volatile bus_addr;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	bus_code = info->si_code;
	bus_addr = info->si_addr;
}

static void guest_read_one(u64 gpa)
{
	guest_sync(*(volatile u64 *)gpa);
	guest_sync(*(volatile u64 *)gpa);
	guest_done();
}

static void test_host_poison(void)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 *p = map_anon(HOST_HUGE);

	CHECK_OK(madvise(p, HOST_HUGE, MADV_NOHUGEPAGE));
	*p = 0x77;
	CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)p));
	vcpu_set_guest(vcpu, guest_read_one, GPA);
	CHECK_EQ(vcpu_run_guest(vcpu), 0x77);
	sigaction(SIGBUS, &sa, NULL);
	if (madvise(p, PAGE, MADV_HWPOISON)) /* newer kernels say so at once, too */
		ktap_skip("no CONFIG_MEMORY_FAILURE");
	bus_code = 0;
	bus_addr = NULL;
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK_EQ(bus_code, BUS_MCEERR_AR);
	CHECKF(bus_addr == p, "%p", bus_addr);
	/* A new page in its place, and the guest goes on. */
	CHECK_OK(madvise(p, PAGE, MADV_DONTNEED));
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Read-only: reads see memory, writes go to userspace with their data. */
static void test_readonly(void)
{
	struct vm *vm;
	struct runner r = poker(&vm);
	u64 *a = map_anon(HOST_HUGE), end = now_ms() + 10000;

	a[0] = 0x1234;
	CHECK_OK(set_slot(vm, 1, KVM_MEM_READONLY, GPA, HOST_HUGE, (u64)a));
	runner_start(&r);
	wait_seen(vm, 0x1234);
	while (mmio_writes < 100 && now_ms() < end)
		sleep_ms(1);
	CHECK(mmio_writes >= 100);
	CHECK_EQ(mmio_reads, 0);
	CHECK_EQ(a[1], 0);
	/* A change of the host's is seen. */
	a[0] = 0x5678;
	wait_seen(vm, 0x5678);
	CHECK_OK(set_slot(vm, 1, 0, 0, 0, 0));
	CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)a));
	end = now_ms() + 10000;
	while (!*(volatile u64 *)&a[1] && now_ms() < end)
		sleep_ms(1);
	CHECK(a[1]);
	poker_end(vm, &r);
}

/* --- dirty log --- */

#define LOG_PAGES 1024ULL

static void get_log(struct vm *vm, u32 slot, u64 *bits)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };

	memset(bits, 0xff, LOG_PAGES / 8);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
}

/* Writes to the pages i, i + step ... of the slot; a sync after each round. */
static void guest_dirty(u64 arg)
{
	(void)arg;
	for (u64 round = 0;; round++) {
		for (u64 i = round; i < LOG_PAGES; i += 7)
			*(volatile u8 *)(GPA + i * PAGE + (i % PAGE)) = round;
		guest_sync(round);
	}
}

static void dirty_rounds(int advice)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *p = map_anon(LOG_PAGES * PAGE);
	u64 bits[LOG_PAGES / 64];

	madvise(p, LOG_PAGES * PAGE, advice);
	memset(p, 1, LOG_PAGES * PAGE);
	CHECK_OK(set_slot(vm, 1, 0, GPA, LOG_PAGES * PAGE, (u64)p));
	vcpu_set_guest(vcpu, guest_dirty, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	/* The log begins under mappings that are writable already, large ones among them. */
	CHECK_OK(set_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, GPA, LOG_PAGES * PAGE, (u64)p));
	get_log(vm, 1, bits);
	for (u64 round = 1; round < 7; round++) {
		CHECK_EQ(vcpu_run_guest(vcpu), round);
		get_log(vm, 1, bits);
		for (u64 i = 0; i < LOG_PAGES; i++) {
			bool want = i >= round && (i - round) % 7 == 0;

			CHECKF(!!(bits[i / 64] & 1ULL << (i % 64)) == want, "round %llu page %llu",
			       (unsigned long long)round, (unsigned long long)i);
		}
		get_log(vm, 1, bits);
		for (u64 i = 0; i < LOG_PAGES / 64; i++)
			CHECK_EQ(bits[i], 0);
	}
	/* And ends: no log, no error in the guest. */
	CHECK_OK(set_slot(vm, 1, 0, GPA, LOG_PAGES * PAGE, (u64)p));
	CHECK_EQ(vcpu_run_guest(vcpu), 7);
	{
		struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

		CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
		log.slot = 9;
		CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
		log.slot = 1 << 20;
		CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EINVAL);
	}
}

static void test_dirty_log(void)
{
	dirty_rounds(MADV_NOHUGEPAGE);
}

static void test_dirty_log_huge(void)
{
	dirty_rounds(MADV_HUGEPAGE);
}

/*
 * A page that its owner has written counts as dirty when the guest first reads it; a page that
 * nobody has written does not, nor does one that is read again.
 */
static void guest_read(u64 arg)
{
	for (;;) {
		for (u64 i = 0; i < arg; i++)
			(void)*(volatile u8 *)(GPA + i * PAGE);
		guest_sync(0);
	}
}

static void test_dirty_log_read(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *p = map_anon(LOG_PAGES * PAGE);
	u64 bits[LOG_PAGES / 64];

	madvise(p, LOG_PAGES * PAGE, MADV_NOHUGEPAGE);
	p[0] = 1;
	CHECK_OK(set_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, GPA, LOG_PAGES * PAGE, (u64)p));
	vcpu_set_guest(vcpu, guest_read, 64);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	get_log(vm, 1, bits);
	CHECK_EQ(bits[0], 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	get_log(vm, 1, bits);
	CHECK_EQ(bits[0], 0);
}

/* A log whose buffer can't be written loses nothing. */
static void test_dirty_log_fault(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *p = map_anon(LOG_PAGES * PAGE);
	u64 bits[LOG_PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = (void *)8 };

	CHECK_OK(set_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, GPA, LOG_PAGES * PAGE, (u64)p));
	vcpu_set_guest(vcpu, guest_dirty, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EFAULT);
	get_log(vm, 1, bits);
	CHECK(bits[0] & 1);
}

/* Writes that the kernel makes for the guest count as well: the Accessed bits of its page tables. */
static void test_dirty_log_tables(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	static u64 bits[VM_IMAGE_MEM / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bits };
	char *mem = vm_hva(vm, 0);
	u64 *pd = vm_hva(vm, VM_PT_GPA + 2 * PAGE);

	/* Clear A and D in the first page directory, and log slot 0. */
	for (int i = 0; i < 512; i++)
		pd[i] &= ~0x60ULL;
	CHECK_OK(set_slot(vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, VM_IMAGE_MEM, (u64)mem));
	vcpu_set_guest(vcpu, guest_sum, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	CHECK(bits[0] & 1ULL << ((VM_PT_GPA + 2 * PAGE) / PAGE));
}

/* --- backing --- */

static volatile u64 fill_gpa = GPA;

static void guest_fill(u64 size)
{
	for (u64 i = 0; i < size; i += PAGE) {
		guest_assert_eq(*(volatile u64 *)(fill_gpa + i), i);
		*(volatile u64 *)(fill_gpa + i + 8) = ~i;
	}
	guest_done();
}

static void check_backing(char *p, u64 size)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	for (u64 i = 0; i < size; i += PAGE)
		*(u64 *)(p + i) = i;
	CHECK_OK(set_slot(vm, 1, 0, fill_gpa, size, (u64)p));
	vcpu_set_guest(vcpu, guest_fill, size);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	for (u64 i = 0; i < size; i += PAGE)
		CHECK_EQ(*(u64 *)(p + i + 8), ~i);
	vm_destroy(vm);
}

static void test_backing_small(void)
{
	char *p = map_anon(4 * HOST_HUGE);

	madvise(p, 4 * HOST_HUGE, MADV_NOHUGEPAGE);
	check_backing(p, 4 * HOST_HUGE);
	/* Not aligned alike in guest and host: never a large mapping. */
	check_backing(p + PAGE, 3 * HOST_HUGE);
}

static void test_backing_thp(void)
{
	char *p = map_anon(4 * HOST_HUGE);

	madvise(p, 4 * HOST_HUGE, MADV_HUGEPAGE);
	check_backing(p, 4 * HOST_HUGE);
	check_backing(p + PAGE, 3 * HOST_HUGE);
}

static void hugetlb(int flags, u64 size, const char *pool)
{
	char *p;

	if (read_number(pool) < 1)
		write_text(pool, "2");
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
	if (p == MAP_FAILED)
		ktap_skip("no huge pages of that size here");
	check_backing(p, size);
	munmap(p, size);
}

static void test_backing_2m(void)
{
	hugetlb(21 << 26, 2 * HOST_HUGE, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
}

static void test_backing_1g(void)
{
	fill_gpa = 1 << 30;
	hugetlb(30 << 26, 1 << 30, "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages");
}

static void test_backing_memfd(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	char *p;

	CHECK_OK(ftruncate(fd, HOST_HUGE));
	p = mmap(NULL, HOST_HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	check_backing(p, HOST_HUGE);
}

/* A file that the host maps read-only: reads work, a write is KVM_RUN's EFAULT. */
static void guest_read_write(u64 arg)
{
	(void)arg;
	guest_sync(*(volatile u32 *)GPA);
	*(volatile u32 *)GPA = 1;
	guest_done();
}

static void test_host_readonly(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);

	CHECK(p != MAP_FAILED);
	CHECK_OK(set_slot(vm, 1, 0, GPA, PAGE, (u64)p));
	vcpu_set_guest(vcpu, guest_read_write, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 0x464c457f); /* ELF */
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	/* The guest is still there, and writes once it may. */
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	CHECK_OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(*(u32 *)p, 1);
}

/* No mapping behind the slot at all, and one that comes later. */
static void test_host_hole(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *p = map_anon(HOST_HUGE);

	munmap(p, HOST_HUGE);
	CHECK_OK(set_slot(vm, 1, 0, GPA, HOST_HUGE, (u64)p));
	vcpu_set_guest(vcpu, guest_read_write, 0);
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	CHECK(mmap(p, HOST_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == p);
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Row 37: pages without a struct page to hold are not mapped; nothing is reached after munmap(). */
static void test_pfnmap(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC), got;
	char *p;

	if (fd < 0)
		ktap_skip("no /dev/mem");
	/* The legacy ROM area, which the kernel lets root map. */
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0xf0000);
	if (p == MAP_FAILED)
		ktap_skip("/dev/mem does not map 0xf0000");
	CHECK_OK(set_slot(vm, 1, 0, GPA, PAGE, (u64)p));
	vcpu_set_guest(vcpu, guest_read_write, 0);
	got = vcpu_run(vcpu);
	CHECKF(got == -EFAULT || got == KVM_EXIT_IO, "%s", vm_exit_name(got));
	munmap(p, PAGE);
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
}

static const struct ktap_test tests[] = {
	{ "limits", test_limits, 0 },
	{ "many_slots", test_many_slots, 60 },
	{ "change_beside", test_change_beside, 0 },
	{ "host_poison", test_host_poison, 0 },
	{ "change_running", test_change_running, 60 },
	{ "readonly", test_readonly, 0 },
	{ "dirty_log", test_dirty_log, 0 },
	{ "dirty_log_huge", test_dirty_log_huge, 0 },
	{ "dirty_log_read", test_dirty_log_read, 0 },
	{ "dirty_log_fault", test_dirty_log_fault, 0 },
	{ "dirty_log_tables", test_dirty_log_tables, 0 },
	{ "backing_small", test_backing_small, 0 },
	{ "backing_thp", test_backing_thp, 0 },
	{ "backing_2m", test_backing_2m, 0 },
	{ "backing_1g", test_backing_1g, 0 },
	{ "backing_memfd", test_backing_memfd, 0 },
	{ "host_readonly", test_host_readonly, 0 },
	{ "host_hole", test_host_hole, 0 },
	{ "pfnmap", test_pfnmap, 0 },
};

KTAP_MAIN(tests)
