// SPDX-License-Identifier: GPL-2.0
/*
 * What the host does to memory under a running guest: every way in which pages
 * go, move, are shared, split, protected or written out. The guest must see what
 * the owner sees, and must never write where the owner no longer looks.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define GPA   0x4000000ULL
#define PAGE  4096UL
#define SIZE  (2 * HOST_HUGE)
#define PAGES (SIZE / PAGE)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static volatile u64 stop, rounds, gone;

/*
 * A page holds its own number (word 0) and a count (word 1). Adds one to each count; a page whose number
 * is not there was taken away by the host: it reads as zero throughout.
 */
static void guest_count(u64 arg)
{
	(void)arg;
	while (!stop) {
		for (u64 i = 0; i < PAGES; i++) {
			volatile u64 *page = (u64 *)(GPA + i * PAGE);
			u64 number = page[0];

			if (number == i + 1) {
				/* One access, so that a page that goes meanwhile takes its count along. */
				asm volatile("incq %0" : "+m"(page[1]));
			} else {
				guest_assert_eq(number, 0);
				gone++;
			}
		}
		rounds++;
	}
	guest_done();
}

struct fixture {
	struct vm *vm;
	struct runner r;
	u64 *mem;
};

static u64 *page_of(struct fixture *f, u64 i)
{
	return f->mem + i * PAGE / 8;
}

static void number_pages(struct fixture *f)
{
	for (u64 i = 0; i < PAGES; i++)
		page_of(f, i)[0] = i + 1;
}

static void start_with(struct fixture *f, void *mem, bool retry)
{
	f->vm = vm_create_image();
	f->mem = mem;
	number_pages(f);
	vm_set_slot(f->vm, 1, GPA, mem, SIZE, 0);
	f->r = (struct runner){ .vcpu = vcpu_create(f->vm, 0), .cpu = -1, .retry_efault = retry };
	vcpu_set_guest(f->r.vcpu, guest_count, 0);
	runner_start(&f->r);
}

static void start(struct fixture *f, int advice)
{
	char *mem = map_anon(SIZE);

	madvise(mem, SIZE, advice);
	start_with(f, mem, false);
}

/* Two whole rounds from now. */
static void wait_rounds(struct fixture *f)
{
	volatile u64 *r = guest_ptr(f->vm, rounds);
	u64 want = *r + 2, end = now_ms() + 20000;

	while (*r < want && now_ms() < end)
		sleep_ms(1);
	CHECK(*r >= want);
}

/* The owner sees each page that is there counted on. */
static void check_counts(struct fixture *f, u64 first, u64 n)
{
	static u64 before[PAGES];

	for (u64 i = first; i < first + n; i++)
		before[i] = page_of(f, i)[1];
	wait_rounds(f);
	for (u64 i = first; i < first + n; i++)
		CHECKF(page_of(f, i)[1] > before[i], "page %llu", (unsigned long long)i);
}

/*
 * New pages: zero, but for those that the guest was about to count in when the old one went. That can be
 * more than one: a fault waits for the very page that is being taken away.
 */
static void check_fresh(struct fixture *f, u64 first, u64 end)
{
	for (u64 i = first; i < end; i++)
		CHECKF(page_of(f, i)[1] <= 1, "page %llu", (unsigned long long)i);
}

static void end(struct fixture *f)
{
	check_counts(f, 0, PAGES);
	*guest_ptr(f->vm, stop) = 1;
	runner_join(&f->r);
}

static void test_dontneed(void)
{
	struct fixture f;

	start(&f, MADV_HUGEPAGE);
	for (int i = 0; i < 10; i++) {
		u64 seen;

		check_counts(&f, 0, PAGES);
		CHECK_OK(madvise(f.mem, SIZE / 2, MADV_DONTNEED));
		seen = *guest_ptr(f.vm, gone);
		wait_rounds(&f);
		CHECK(*guest_ptr(f.vm, gone) > seen);
		check_fresh(&f, 0, PAGES / 2);
		number_pages(&f);
	}
	end(&f);
}

/* Moved away: KVM_RUN says EFAULT; another mapping there: the guest has that one. */
static void test_mremap(void)
{
	char *other = map_anon(SIZE), *mem = map_anon(SIZE);
	struct fixture f;

	start_with(&f, mem, true);
	for (int i = 0; i < 10; i++) {
		u64 faults, count;

		check_counts(&f, 0, PAGES);
		CHECK(mremap(mem, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
		count = ((u64 *)other)[1];
		faults = f.r.efaults;
		while (f.r.efaults < faults + 3)
			sleep_ms(1);
		/* Nothing goes on in the pages that have moved. */
		CHECK_EQ(((u64 *)other)[1], count);
		CHECK(mremap(other, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, mem) == mem);
		CHECK(mmap(other, SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == other);
	}
	end(&f);
}

static void test_munmap(void)
{
	char *mem = map_anon(SIZE);
	struct fixture f;

	start_with(&f, mem, true);
	check_counts(&f, 0, PAGES);
	CHECK_OK(munmap(mem + SIZE / 2, PAGE));
	while (f.r.efaults < 3)
		sleep_ms(1);
	CHECK(mmap(mem + SIZE / 2, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	number_pages(&f);
	end(&f);
}

/* A child sees the memory as it was, and the guest goes on in its owner's. */
static void test_fork(void)
{
	struct fixture f;

	start(&f, MADV_NORMAL);
	for (int i = 0; i < 10; i++) {
		int status, go[2];
		pid_t pid;
		char c;

		check_counts(&f, 0, PAGES);
		CHECK_OK(pipe2(go, O_CLOEXEC));
		pid = fork();
		CHECK_OK(pid);
		if (!pid) {
			u64 sum = 0, again = 0;

			for (u64 n = 0; n < PAGES; n++)
				sum += page_of(&f, n)[1];
			(void)!read(go[0], &c, 1);
			for (u64 n = 0; n < PAGES; n++)
				again += page_of(&f, n)[1];
			_exit(sum != again);
		}
		check_counts(&f, 0, PAGES);
		CHECK(write(go[1], "", 1) == 1);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECKF(!status, "the child saw the guest write, or died: %#x", status);
		close(go[0]);
		close(go[1]);
	}
	end(&f);
}

/* KSM: all pages alike but for the count; merged while the guest stops, unmerged when it writes. */
static void guest_same(u64 arg)
{
	for (u64 round = 1;; round++) {
		for (u64 i = 0; i < arg; i++) {
			volatile u64 *page = (u64 *)(GPA + i * PAGE);

			guest_assert_eq(page[0], round - 1);
			page[0] = round;
		}
		guest_sync(round);
	}
}

/* How many of the pages are in a frame that an earlier one of them has too. KSM's own count is behind what writes undo. */
static u64 merged(char *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	u64 entries[PAGES], count = 0;

	CHECK_OK(fd);
	CHECK(pread(fd, entries, sizeof(entries), (u64)mem / PAGE * 8) == sizeof(entries));
	close(fd);
	for (u64 i = 0; i < PAGES; i++) {
		u64 j = 0;

		while (j < i &&
		       entries[j] << 9 != entries[i] << 9) /* bits 54:0 are the frame's number */
			j++;
		count += j < i;
	}
	return count;
}

static void test_ksm(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	char *mem = map_anon(SIZE);

	if (access("/sys/kernel/mm/ksm/run", W_OK))
		ktap_skip("no KSM in this kernel");
	madvise(mem, SIZE, MADV_NOHUGEPAGE);
	memset(mem, 0, SIZE);
	CHECK_OK(madvise(mem, SIZE, MADV_MERGEABLE));
	vm_set_slot(vm, 1, GPA, mem, SIZE, 0);
	vcpu_set_guest(vcpu, guest_same, PAGES);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	write_text("/sys/kernel/mm/ksm/pages_to_scan", "20000");
	write_text("/sys/kernel/mm/ksm/sleep_millisecs", "5");
	/* 6.7 and later: leaves out, for up to eight scans, pages that found no match. */
	write_text("/sys/kernel/mm/ksm/smart_scan", "0");
	CHECK_EQ(write_text("/sys/kernel/mm/ksm/run", "1"), 0);
	for (u64 round = 2; round < 6; round++) {
		u64 until = now_ms() + 30000;

		while (merged(mem) < PAGES / 2 && now_ms() < until)
			sleep_ms(5);
		CHECK(merged(mem) >= PAGES / 2);
		CHECK_EQ(vcpu_run_guest(vcpu), round);
		for (u64 i = 0; i < PAGES; i++)
			CHECK_EQ(*(u64 *)(mem + i * PAGE), round);
	}
	write_text("/sys/kernel/mm/ksm/run", "2");
}

/* Huge pages split by a change in their middle, and collapsed again. */
static void test_thp_split(void)
{
	struct fixture f;

	start(&f, MADV_HUGEPAGE);
	for (int i = 0; i < 10; i++) {
		check_counts(&f, 0, PAGES);
		CHECK_OK(mprotect(f.mem + 5 * PAGE / 8, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
		check_counts(&f, 0, PAGES);
		CHECK_OK(madvise((char *)f.mem + (i + 7) * PAGE, PAGE, MADV_DONTNEED));
		number_pages(&f);
		check_counts(&f, 0, PAGES);
		CHECK_OK(mprotect(f.mem + 5 * PAGE / 8, PAGE, PROT_READ | PROT_WRITE));
		madvise(f.mem, SIZE, 25); /* MADV_COLLAPSE, where there is one */
	}
	end(&f);
}

/* Write permission taken: EFAULT; given back: goes on. */
static void test_mprotect(void)
{
	char *mem = map_anon(SIZE);
	struct fixture f;

	start_with(&f, mem, true);
	for (int i = 0; i < 10; i++) {
		u64 faults, count;

		check_counts(&f, 0, PAGES);
		CHECK_OK(mprotect(mem, SIZE, PROT_READ));
		faults = f.r.efaults;
		while (f.r.efaults < faults + 3)
			sleep_ms(1);
		count = page_of(&f, 3)[1];
		sleep_ms(2);
		CHECK_EQ(page_of(&f, 3)[1], count);
		CHECK_OK(mprotect(mem, SIZE, PROT_READ | PROT_WRITE));
	}
	end(&f);
}

/* Written out, where there is swap or a file behind it. */
static void test_pageout(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct fixture f;
	char *mem;

	CHECK_OK(ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mem != MAP_FAILED);
	start_with(&f, mem, false);
	for (int i = 0; i < 10; i++) {
		check_counts(&f, 0, PAGES);
		madvise(mem, SIZE, MADV_PAGEOUT);
		write_text("/proc/sys/vm/compact_memory", "1");
	}
	end(&f);
}

/* A hole punched into the file: zeroes, for the guest as well. */
static void test_punch_hole(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct fixture f;
	char *mem;

	CHECK_OK(ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mem != MAP_FAILED);
	start_with(&f, mem, false);
	for (int i = 0; i < 10; i++) {
		check_counts(&f, 0, PAGES);
		CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SIZE / 2,
				   SIZE / 2));
		wait_rounds(&f);
		check_fresh(&f, PAGES / 2, PAGES);
		number_pages(&f);
	}
	end(&f);
}

/* Pages that userspace provides when they are asked for. */
struct provider {
	int uffd;
	u64 *mem;
	volatile u64 served;
};

static void *provide(void *arg)
{
	struct provider *p = arg;
	static char page[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg msg;

	while (read(p->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		u64 addr = msg.arg.pagefault.address & ~(PAGE - 1);
		struct uffdio_copy copy = { .dst = addr, .src = (u64)page, .len = PAGE };

		*(u64 *)page = (addr - (u64)p->mem) / PAGE + 1;
		ioctl(p->uffd, UFFDIO_COPY, &copy);
		p->served++;
	}
	return NULL;
}

static void test_userfaultfd(void)
{
	struct provider p = { .uffd = syscall(SYS_userfaultfd, O_CLOEXEC) };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct fixture f;
	pthread_t thread;

	if (p.uffd < 0)
		ktap_skip("no userfaultfd here: errno %d", errno);
	CHECK_OK(ioctl(p.uffd, UFFDIO_API, &api));
	p.mem = map_anon(SIZE);
	reg.range.start = (u64)p.mem;
	reg.range.len = SIZE;
	CHECK_OK(ioctl(p.uffd, UFFDIO_REGISTER, &reg));
	CHECK(!pthread_create(&thread, NULL, provide, &p));
	start_with(&f, p.mem, false);
	for (int i = 0; i < 10; i++) {
		u64 served = p.served;

		check_counts(&f, 0, PAGES);
		CHECK_OK(madvise(f.mem, SIZE, MADV_DONTNEED));
		wait_rounds(&f);
		for (int n = 0; n < 1000 && p.served < served + PAGES; n++)
			sleep_ms(1); /* its count comes after the page */
		CHECK(p.served >= served + PAGES);
	}
	end(&f);
	CHECK_EQ(*guest_ptr(f.vm, gone), 0);
}

/*
 * Row 38: a storm from several threads. Pages that are dropped are filled with poison elsewhere at once; a guest
 * that still wrote to the old frame would change the poison.
 */
#define POISON	  0x5a5a5a5a5a5a5a5aULL
#define STORMERS  3
#define STORM_MS  5000
#define CATCH_PGS 64

static volatile bool storming;

static void *storm(void *arg)
{
	struct fixture *f = arg;
	u64 x = (u64)pthread_self() | 1;
	u64 *trap = mmap(NULL, CATCH_PGS * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (storming) {
		u64 first, n;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		first = x % PAGES;
		n = 1 + (x >> 32) % (PAGES - first);
		switch ((x >> 16) % 4) {
		case 0:
			mprotect(page_of(f, first), n * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
			break;
		case 1:
			mprotect(page_of(f, first), n * PAGE, PROT_READ | PROT_WRITE);
			break;
		default:
			madvise(page_of(f, first), n * PAGE, MADV_DONTNEED);
		}
		/* The frames just freed are the next to be handed out. */
		madvise(trap, CATCH_PGS * PAGE, MADV_DONTNEED);
		for (u64 i = 0; i < CATCH_PGS * PAGE / 8; i += 64)
			trap[i] = trap[i + 1] = POISON;
		sched_yield();
		for (u64 i = 0; i < CATCH_PGS * PAGE / 8; i += 64)
			if (trap[i] != POISON || trap[i + 1] != POISON)
				return (void *)1;
	}
	return NULL;
}

/* As guest_count(), but a write may hit a page that was dropped after the look at its number. */
static void guest_storm(u64 arg)
{
	(void)arg;
	while (!stop) {
		for (u64 i = 0; i < PAGES; i++) {
			volatile u64 *page = (u64 *)(GPA + i * PAGE);

			page[0] = i + 1;
			page[1]++;
		}
		rounds++;
	}
	guest_done();
}

static void test_storm(void)
{
	pthread_t threads[STORMERS];
	struct fixture f = { .vm = vm_create_image(), .mem = map_anon(SIZE) };
	u64 until = now_ms() + STORM_MS;
	void *bad;

	madvise(f.mem, SIZE, MADV_HUGEPAGE);
	vm_set_slot(f.vm, 1, GPA, f.mem, SIZE, 0);
	f.r = (struct runner){ .vcpu = vcpu_create(f.vm, 0), .cpu = -1, .retry_efault = true };
	vcpu_set_guest(f.r.vcpu, guest_storm, 0);
	runner_start(&f.r);
	storming = true;
	for (int i = 0; i < STORMERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, storm, &f));
	while (now_ms() < until)
		sleep_ms(50);
	storming = false;
	for (int i = 0; i < STORMERS; i++) {
		CHECK(!pthread_join(threads[i], &bad));
		CHECKF(!bad, "the guest wrote to a page that was no longer its own");
	}
	ktap_diag("%llu rounds", (unsigned long long)*guest_ptr(f.vm, rounds));
	end(&f);
}

static const struct ktap_test tests[] = {
	{ "dontneed", test_dontneed, 60 },
	{ "mremap", test_mremap, 60 },
	{ "munmap", test_munmap, 30 },
	{ "fork", test_fork, 60 },
	{ "ksm", test_ksm, 150 },
	{ "thp_split", test_thp_split, 90 },
	{ "mprotect", test_mprotect, 60 },
	{ "pageout", test_pageout, 60 },
	{ "punch_hole", test_punch_hole, 60 },
	{ "userfaultfd", test_userfaultfd, 60 },
	{ "storm", test_storm, 60 },
};

KTAP_MAIN(tests)
