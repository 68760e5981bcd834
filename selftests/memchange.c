// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory is the owner's memory: what the owner, or the kernel on its own, does to the mapping
 * while vCPUs use it shows in the guest at once, and no write goes to a page that has gone
 * elsewhere. Here every word is accounted for; see notifier.c for the same changes one by one.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

#define WIN	  0x40000000ULL /* guest-physical window of the memory under test */
#define PAGE	  HOST_PAGE
#define WORDS	  (PAGE / 8)
#define MAGIC	  0x1122334400000000ULL
#define MAX_PAGES 1024
#define WAIT_MS	  45000 /* on a busy machine */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static volatile u64 *page(void *mem, u64 i)
{
	return (volatile u64 *)((char *)mem + i * PAGE);
}

static void *fresh(void *at, u64 size)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	CHECKF(p == at, "errno %d", errno);
	return p;
}

/* --- A guest whose memory keeps its contents, whatever happens beneath --- */

static volatile u64 stop, passes, npages, nwrite, skip = ~0ULL, step;
static u64 own[MAX_PAGES];

/*
 * Word 0 of each page is the host's and constant; word 1 of the first @nwrite pages is the
 * guest's, who knows what it wrote last. A write that went astray would be missed in the next
 * pass.
 */
static void guest_keep(u64 gpa)
{
	u64 i;

	for (; !stop; passes++) {
		for (i = 0; i < npages; i++) {
			volatile u64 *p = page((void *)gpa, i);

			if (i == skip)
				continue;
			guest_assert_eq(p[0], MAGIC + i * step);
			guest_assert_eq(p[1], own[i]);
			if (i < nwrite)
				p[1] = own[i] = own[i] + i + 1;
		}
	}
	guest_done();
}

struct keep {
	struct vm *vm;
	struct runner r;
	char *mem;
	u64 size;
};

static void keep_start(struct keep *k, u64 pages, int advice)
{
	u64 i;

	*k = (struct keep){ .vm = vm_create_image(), .size = pages * PAGE };
	k->mem = map_anon(k->size);
	if (advice)
		CHECK_OK(madvise(k->mem, k->size, advice));
	for (i = 0; i < pages; i++)
		page(k->mem, i)[0] = MAGIC + i;
	vm_set_slot(k->vm, 1, WIN, k->mem, k->size, 0);
	*guest_ptr(k->vm, npages) = *guest_ptr(k->vm, nwrite) = pages;
	*guest_ptr(k->vm, step) = 1;
	k->r = (struct runner){ .vcpu = vcpu_create(k->vm, 0), .cpu = -1 };
	vcpu_set_guest(k->r.vcpu, guest_keep, WIN);
	runner_start(&k->r);
}

/* Two whole passes from now. */
static void keep_wait(struct keep *k)
{
	u64 from = *guest_ptr(k->vm, passes), end = now_ms() + WAIT_MS;

	while (*guest_ptr(k->vm, passes) < from + 3 && now_ms() < end && !ktap_timed_out)
		sched_yield();
	CHECK(*guest_ptr(k->vm, passes) >= from + 3);
}

static void keep_stop(struct keep *k)
{
	keep_wait(k);
	*guest_ptr(k->vm, stop) = 1;
	runner_join(&k->r);
	vm_destroy(k->vm);
}

/* KVM_RUN gives -EFAULT, again and again: the guest is stuck. */
static void keep_stuck(struct keep *k)
{
	u64 end = now_ms() + WAIT_MS, from = k->r.efaults;

	while (k->r.efaults < from + 3 && now_ms() < end && !ktap_timed_out)
		sched_yield();
	CHECK(k->r.efaults >= from + 3);
}

/* Nobody writes to these pages for as long as @ms. */
static void check_still(const char *mem, u64 size, unsigned int ms)
{
	char *copy = malloc(size);

	CHECK(copy);
	memcpy(copy, mem, size);
	sleep_ms(ms);
	CHECK(!memcmp(copy, mem, size));
	free(copy);
}

/* Moved away: the guest is stuck, the pages at their new place are left alone. */
static void test_mremap(void)
{
	char *elsewhere = map_anon(MAX_PAGES * PAGE);
	struct keep k;
	int i;

	keep_start(&k, MAX_PAGES, 0);
	k.r.retry_efault = true;
	for (i = 0; i < 8; i++) {
		keep_wait(&k);
		CHECK(mremap(k.mem, k.size, k.size, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) ==
		      elsewhere);
		check_still(elsewhere, k.size, 10);
		keep_stuck(&k);
		CHECK(mremap(elsewhere, k.size, k.size, MREMAP_MAYMOVE | MREMAP_FIXED, k.mem) ==
		      k.mem);
	}
	keep_stop(&k);
}

/* Read-only: reads go on, the first write is stuck. */
static void test_mprotect(void)
{
	struct keep k;
	int i;

	keep_start(&k, MAX_PAGES, 0);
	k.r.retry_efault = true;
	for (i = 0; i < 8; i++) {
		keep_wait(&k);
		CHECK_OK(mprotect(k.mem, k.size, i & 1 ? PROT_NONE : PROT_READ));
		keep_stuck(&k);
		if (!(i & 1))
			check_still(k.mem, k.size, 10);
		CHECK_OK(mprotect(k.mem, k.size, PROT_READ | PROT_WRITE));
	}
	/* Only reads: nothing to be stuck for. */
	*guest_ptr(k.vm, nwrite) = 0;
	keep_wait(&k);
	CHECK_OK(mprotect(k.mem, k.size, PROT_READ));
	keep_wait(&k);
	CHECK_OK(mprotect(k.mem, k.size, PROT_READ | PROT_WRITE));
	keep_stop(&k);
}

/* The child of a fork has the old contents, and neither sees the other's writes. */
static void fork_once(struct keep *k, const char *mem)
{
	pid_t pid = fork();
	int status;
	u64 i;

	CHECK_OK(pid);
	if (!pid) {
		check_still(mem, k->size, 60);
		for (i = 0; i < k->size / PAGE; i++) {
			CHECK_EQ(page((void *)mem, i)[0], MAGIC + i);
			page((void *)mem, i)[0] = page((void *)mem, i)[1] = 0xdead;
		}
		_exit(0);
	}
	keep_wait(k);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void fork_with(int advice)
{
	struct keep k;
	int i;

	keep_start(&k, MAX_PAGES, advice);
	for (i = 0; i < 3; i++) {
		keep_wait(&k);
		fork_once(&k, k.mem);
	}
	keep_stop(&k);
}

static void test_fork(void)
{
	fork_with(MADV_NOHUGEPAGE);
}

static void test_fork_huge(void)
{
	fork_with(MADV_HUGEPAGE);
}

#define KSM "/sys/kernel/mm/ksm/"

static void ksm_wait(long long at_least, long long at_most)
{
	u64 end = now_ms() + WAIT_MS;
	long long n = read_number(KSM "pages_sharing");

	while ((n < at_least || n > at_most) && now_ms() < end && !ktap_timed_out) {
		sleep_ms(10);
		n = read_number(KSM "pages_sharing");
	}
	CHECKF(n >= at_least && n <= at_most, "%lld pages are shared", n);
}

/* All pages alike, so all become one; then the guest writes to half of them. */
static void test_ksm(void)
{
	struct keep k;
	u64 i, n = 256;
	int round;

	if (write_text(KSM "run", "1"))
		ktap_skip("no KSM here");
	write_text(KSM "sleep_millisecs", "5");
	write_text(KSM "pages_to_scan", "2000");
	keep_start(&k, n, MADV_NOHUGEPAGE);
	for (round = 0; round < 2; round++) {
		*guest_ptr(k.vm, nwrite) = n;
		*guest_ptr(k.vm, skip) = ~0ULL;
		keep_wait(&k);
		/* Stop the guest's writes, and start over with pages that are alike. */
		*guest_ptr(k.vm, npages) = 0;
		keep_wait(&k);
		for (i = 0; i < n; i++) {
			page(k.mem, i)[0] = MAGIC;
			page(k.mem, i)[1] = (*guest_ptr(k.vm, own))[i] = round;
		}
		*guest_ptr(k.vm, step) = 0;
		*guest_ptr(k.vm, nwrite) = 0;
		*guest_ptr(k.vm, npages) = n;
		CHECK_OK(madvise(k.mem, k.size, MADV_MERGEABLE));
		ksm_wait(n / 2, 1 << 30);
		keep_wait(&k);
		*guest_ptr(k.vm, nwrite) = n / 2;
		keep_wait(&k);
		ksm_wait(n / 4, n / 2 + 8);
		CHECK_OK(madvise(k.mem, k.size, MADV_UNMERGEABLE));
		keep_wait(&k);
		ksm_wait(0, 8);
	}
	write_text(KSM "run", "2");
	keep_stop(&k);
	write_text(KSM "run", "0");
}

static u64 huge_kb(struct keep *k)
{
	return smaps_kb(k->mem, "AnonHugePages:");
}

/* 2 MiB pages that fall apart, and are put together again. */
static void test_thp_split(void)
{
	u64 hole = 700;
	bool collapsed = false;
	struct keep k;
	int i;

	keep_start(&k, MAX_PAGES, MADV_HUGEPAGE);
	if (huge_kb(&k) != k.size >> 10)
		ktap_skip("no 2 MiB pages to be had");
	keep_wait(&k);
	/* One page becomes another mapping, and so the page table must be split. */
	for (i = 0; i < 5; i++) {
		CHECK_OK(mprotect(k.mem + 100 * PAGE, PAGE, PROT_READ | PROT_EXEC | PROT_WRITE));
		keep_wait(&k);
		CHECK(huge_kb(&k) < k.size >> 10);
		CHECK_OK(mprotect(k.mem + 100 * PAGE, PAGE, PROT_READ | PROT_WRITE));
		collapsed |= !madvise(k.mem, k.size, MADV_COLLAPSE);
		keep_wait(&k);
		if (collapsed)
			CHECK_EQ(huge_kb(&k), k.size >> 10);
	}
	/* One page is given back, another replaced. */
	*guest_ptr(k.vm, skip) = hole;
	keep_wait(&k);
	for (i = 0; i < 5; i++) {
		CHECK_OK(munmap(k.mem + hole * PAGE, PAGE));
		keep_wait(&k);
		fresh(k.mem + hole * PAGE, PAGE);
		madvise(k.mem, k.size, MADV_HUGEPAGE);
		madvise(k.mem, k.size, MADV_COLLAPSE);
		keep_wait(&k);
	}
	CHECK_OK(madvise(k.mem + hole * PAGE, PAGE, MADV_DONTNEED));
	keep_wait(&k);
	ktap_diag("collapsed again: %s", collapsed ? "yes" : "not by this kernel");
	keep_stop(&k);
}

/* Compaction moves pages about. */
static void test_compaction(void)
{
	struct keep k;
	int i;

	keep_start(&k, MAX_PAGES, MADV_NOHUGEPAGE);
	keep_wait(&k);
	for (i = 0; i < 5; i++) {
		if (write_text("/proc/sys/vm/compact_memory", "1"))
			ktap_skip("no compaction here");
		keep_wait(&k);
	}
	keep_stop(&k);
}

static void swap_on(void)
{
	if (system("swapoff /dev/zram0 2>/dev/null; modprobe -q zram num_devices=1 && "
		   "echo 1 >/sys/block/zram0/reset && echo 64M >/sys/block/zram0/disksize && "
		   "mkswap /dev/zram0 >/dev/null && swapon /dev/zram0"))
		ktap_skip("no swap on zram");
}

/* Out to swap, in memory of the host's, and back. */
static void test_swap(void)
{
	struct keep k;
	long long out;
	int i;

	swap_on();
	keep_start(&k, MAX_PAGES, MADV_NOHUGEPAGE);
	keep_wait(&k);
	/*
	 * The guest has all pages mapped but leaves them alone: out they go, as soon as the kernel has
	 * asked once whether they were accessed.
	 */
	*guest_ptr(k.vm, npages) = 0;
	keep_wait(&k);
	for (i = 0; i < 3; i++)
		CHECK_OK(madvise(k.mem, k.size, MADV_PAGEOUT));
	out = smaps_kb(k.mem, "Swap:") * 1024 / PAGE;
	CHECKF(out >= MAX_PAGES / 2, "%lld pages out", out);
	*guest_ptr(k.vm, npages) = MAX_PAGES;
	for (i = 0; i < 10; i++) {
		CHECK_OK(madvise(k.mem, k.size, i & 1 ? MADV_COLD : MADV_PAGEOUT));
		keep_wait(&k);
	}
	CHECK_OK(madvise(k.mem, k.size, MADV_PAGEOUT));
	CHECKF(!system("swapoff /dev/zram0"), "swapoff");
	CHECK_EQ(smaps_kb(k.mem, "Swap:"), 0);
	keep_stop(&k);
	ktap_diag("%lld pages were out", out);
}

/* The kernel takes memory back on its own account, and asks what was used of late. */
static void test_reclaim(void)
{
	long long out = 0;
	struct keep k;

	swap_on();
	memcg_create();
	memcg_enter();
	keep_start(&k, MAX_PAGES, MADV_NOHUGEPAGE);
	for (int i = 0; i < 20; i++) {
		long long now;

		keep_wait(&k);
		/* Not all that was asked for may be had. */
		write_text("svm-test/memory.reclaim", "2M");
		now = smaps_kb(k.mem, "Swap:") * 1024 / PAGE;
		out = now > out ? now : out;
	}
	keep_wait(&k);
	keep_stop(&k);
	memcg_destroy();
	CHECKF(!system("swapoff /dev/zram0"), "swapoff");
	CHECK(out);
	ktap_diag("up to %lld pages were out", out);
}

/* --- userfaultfd: the owner itself supplies the pages --- */

static int uffd_open(struct keep *k, u64 mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = mode };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		ktap_skip("no userfaultfd: errno %d", errno);
	CHECK_OK(ioctl(fd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)k->mem;
	reg.range.len = k->size;
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		ktap_skip("userfaultfd does not know this mode: errno %d", errno);
	return fd;
}

/* The page of the next fault; ends the test if none comes. */
static u64 uffd_next(struct keep *k, int fd, bool wp)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;
	u64 end = now_ms() + WAIT_MS;

	while (now_ms() < end && !ktap_timed_out) {
		if (poll(&p, 1, 100) <= 0 || read(fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		CHECK_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
		CHECK_EQ(!!(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP), wp);
		return (msg.arg.pagefault.address - (uintptr_t)k->mem) / PAGE;
	}
	ktap_fail(__FILE__, __LINE__, "the guest met no fault");
}

static void test_uffd_missing(void)
{
	static u64 src[WORDS] __attribute__((aligned(4096)));
	u64 pages = 128, n;
	struct keep k;
	int fd;

	keep_start(&k, pages, MADV_NOHUGEPAGE);
	*guest_ptr(k.vm, npages) = 0;
	keep_wait(&k);
	fd = uffd_open(&k, UFFDIO_REGISTER_MODE_MISSING);
	CHECK_OK(madvise(k.mem, k.size, MADV_DONTNEED));
	*guest_ptr(k.vm, npages) = pages;
	for (n = 0; n < pages; n++) {
		u64 i = uffd_next(&k, fd, false);
		struct uffdio_copy copy = {
			.dst = (uintptr_t)page(k.mem, i),
			.src = (uintptr_t)src,
			.len = PAGE,
		};

		CHECK_EQ(i, n); /* the guest goes through them in order */
		src[0] = MAGIC + i;
		src[1] = (*guest_ptr(k.vm, own))[i];
		CHECK_OK(ioctl(fd, UFFDIO_COPY, &copy));
	}
	keep_wait(&k);
	close(fd);
	keep_stop(&k);
}

static void test_uffd_wp(void)
{
	u64 pages = 128, round, n;
	struct keep k;
	int fd;

	keep_start(&k, pages, MADV_NOHUGEPAGE);
	keep_wait(&k);
	fd = uffd_open(&k, UFFDIO_REGISTER_MODE_WP);
	for (round = 0; round < 4; round++) {
		bool seen[128] = { false };
		struct uffdio_writeprotect wp = {
			.range = { (uintptr_t)k.mem, k.size },
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		CHECK_OK(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
		check_still(k.mem, k.size, 10);
		for (n = 0; n < pages; n++) {
			u64 i = uffd_next(&k, fd, true);

			CHECK(!seen[i]);
			seen[i] = true;
			wp.range.start = (uintptr_t)page(k.mem, i);
			wp.range.len = PAGE;
			wp.mode = 0;
			CHECK_OK(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
		}
		keep_wait(&k);
	}
	close(fd);
	keep_stop(&k);
}

/* --- A guest whose memory is replaced --- */

/*
 * While @phase is odd the contents change, and the guest uses the pages without asking. What it
 * reads while it is even must be @expect plus the page's number (all 0 for 0); what it writes
 * must arrive in the pages that are mapped then.
 */
static volatile u64 phase, expect, complete;

static void guest_replaced(u64 gpa)
{
	while (!stop) {
		u64 p = phase, want = expect, i;

		for (i = 0; i < npages; i++) {
			volatile u64 *at = page((void *)gpa, i);
			u64 got = at[0];

			at[1] = p;
			if (phase != p)
				break;
			if (!(p & 1))
				guest_assert_eq(got, want ? want + i : 0);
		}
		if (i == npages)
			complete = p;
	}
	guest_done();
}

struct replaced {
	struct vm *vm;
	struct runner r;
	char *mem;
	u64 pages;
};

static void replaced_start(struct replaced *p, u64 pages, char *mem)
{
	*p = (struct replaced){ .vm = vm_create_image(), .mem = mem, .pages = pages };
	vm_set_slot(p->vm, 1, WIN, mem, pages * PAGE, 0);
	p->r = (struct runner){ .vcpu = vcpu_create(p->vm, 0), .cpu = -1, .retry_efault = true };
	*guest_ptr(p->vm, npages) = pages;
	*guest_ptr(p->vm, phase) = 1;
	vcpu_set_guest(p->r.vcpu, guest_replaced, WIN);
	runner_start(&p->r);
}

static void replaced_fill(struct replaced *p, u64 val)
{
	u64 i;

	for (i = 0; i < p->pages; i++)
		page(p->mem, i)[0] = val + i;
}

/* The change is made: let the guest go through all pages once, and see what it wrote. */
static void replaced_check(struct replaced *p, u64 val)
{
	u64 end = now_ms() + WAIT_MS, now, i;

	*guest_ptr(p->vm, expect) = val;
	__sync_synchronize();
	now = ++*guest_ptr(p->vm, phase);
	while (*guest_ptr(p->vm, complete) != now && now_ms() < end && !ktap_timed_out)
		sched_yield();
	CHECK_EQ(*guest_ptr(p->vm, complete), now);
	for (i = 0; i < p->pages; i++)
		CHECK_EQ(page(p->mem, i)[1], now);
	++*guest_ptr(p->vm, phase);
}

static void replaced_stop(struct replaced *p)
{
	*guest_ptr(p->vm, stop) = 1;
	runner_join(&p->r);
	vm_destroy(p->vm);
}

static void dontneed_with(int advice)
{
	u64 size = MAX_PAGES * PAGE;
	char *mem = map_anon(size);
	struct replaced p;
	int i;

	CHECK_OK(madvise(mem, size, advice));
	replaced_start(&p, MAX_PAGES, mem);
	for (i = 1; i < 9; i++) {
		u64 from = test_random() % MAX_PAGES, len = 1 + test_random() % (MAX_PAGES - from);

		replaced_fill(&p, MAGIC * i);
		replaced_check(&p, MAGIC * i);
		CHECK_OK(madvise(mem, size, MADV_DONTNEED));
		replaced_check(&p, 0);
		/* A part, filled anew. */
		replaced_fill(&p, MAGIC * i + 1);
		CHECK_OK(madvise(mem + from * PAGE, len * PAGE, MADV_DONTNEED));
		replaced_fill(&p, MAGIC * i + 2);
		replaced_check(&p, MAGIC * i + 2);
	}
	replaced_stop(&p);
}

static void test_dontneed(void)
{
	dontneed_with(MADV_NOHUGEPAGE);
}

static void test_dontneed_huge(void)
{
	dontneed_with(MADV_HUGEPAGE);
}

static void test_munmap(void)
{
	u64 pages = 256, from, end;
	char *mem = map_anon(pages * PAGE);
	struct replaced p;
	int i;

	replaced_start(&p, pages, mem);
	for (i = 1; i < 9; i++) {
		from = p.r.efaults;
		CHECK_OK(munmap(mem, pages * PAGE));
		end = now_ms() + WAIT_MS;
		while (p.r.efaults < from + 3 && now_ms() < end && !ktap_timed_out)
			sched_yield();
		CHECK(p.r.efaults >= from + 3);
		fresh(mem, pages * PAGE);
		replaced_fill(&p, MAGIC * i);
		replaced_check(&p, MAGIC * i);
	}
	replaced_stop(&p);
}

/* Two files take turns behind the slot; who is not mapped is not written. */
static void test_files(void)
{
	u64 pages = 256, size = pages * PAGE, i;
	char *mem = map_anon(size), *view[2];
	struct replaced p;
	int fd[2];

	for (i = 0; i < 2; i++) {
		fd[i] = memfd_create("memchange", MFD_CLOEXEC);
		CHECK_OK(ftruncate(fd[i], size));
		view[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
		CHECK(view[i] != MAP_FAILED);
	}
	replaced_start(&p, pages, mem);
	for (i = 1; i < 9; i++) {
		int flags = MAP_FIXED | (i % 3 ? MAP_SHARED : MAP_PRIVATE);

		CHECK(mmap(mem, size, PROT_READ | PROT_WRITE, flags, fd[i & 1], 0) == mem);
		replaced_fill(&p, MAGIC * i);
		check_still(view[!(i & 1)], size, 5);
		replaced_check(&p, MAGIC * i);
		if (flags & MAP_SHARED) {
			/* A page of the file is cut off and comes back as zeros. */
			CHECK_OK(fallocate(fd[i & 1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					   size));
			replaced_check(&p, 0);
		}
	}
	replaced_stop(&p);
}

/* --- A storm of changes from several threads --- */

#define STORM_MS     4000
#define STORM_GUEST  0x6775657374677565ULL
#define STORM_POISON 0x706f69736f6e2121ULL

static volatile u64 storm_pages, storm_seed, accesses[2];

/* Any word is either fresh, or what a guest wrote. */
static void guest_storm(u64 id)
{
	u64 x = 88172645463325252 + id;

	while (!stop) {
		volatile u64 *at;
		u64 got;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		at = page((void *)WIN, x % storm_pages) + (x >> 32) % WORDS;
		got = *at;
		if (got && got != STORM_GUEST)
			guest_fail("stale read", (x >> 32) % WORDS, x % storm_pages, got);
		*at = STORM_GUEST;
		accesses[id]++;
	}
	guest_done();
}

struct storm {
	pthread_t thread;
	char *mem;
	char *aside;		  /* as large as a chunk */
	u64 chunk, chunks, first; /* works on every other chunk from @first */
	u64 seed;
	volatile u64 ops;
};

static volatile bool storm_over;

static u64 storm_random(struct storm *s)
{
	s->seed ^= s->seed << 13;
	s->seed ^= s->seed >> 7;
	s->seed ^= s->seed << 17;
	return s->seed;
}

/* Fill pages that the guest has no business with; they must stay so for a while. */
static void poison(char *mem, u64 size, unsigned int spin)
{
	volatile u64 *p = (volatile u64 *)mem;
	u64 i;

	for (i = 0; i < size / 8; i++)
		p[i] = STORM_POISON;
	while (spin--)
		sched_yield();
	for (i = 0; i < size / 8; i++)
		CHECKF(p[i] == STORM_POISON, "stale write of %#llx at %#llx",
		       (unsigned long long)p[i], (unsigned long long)i * 8);
}

static void storm_op(struct storm *s)
{
	u64 r = storm_random(s);
	char *at = s->mem + (s->first + 2 * (r % (s->chunks / 2))) * s->chunk;
	unsigned int spin = r >> 8 & 15;

	switch (r >> 16 & 7) {
	case 0:
	case 1:
		CHECK_OK(madvise(at, s->chunk, MADV_DONTNEED));
		break;
	case 2:
		CHECK_OK(madvise(at + (r >> 24) % (s->chunk / PAGE) * PAGE, PAGE, MADV_DONTNEED));
		break;
	case 3:
	case 4: /* moved away: the pages themselves are watched */
		CHECK(mremap(at, s->chunk, s->chunk, MREMAP_MAYMOVE | MREMAP_FIXED, s->aside) ==
		      s->aside);
		poison(s->aside, s->chunk, spin);
		fresh(at, s->chunk);
		break;
	case 5: /* freed: whoever gets the pages next, often this thread, is watched */
		CHECK_OK(madvise(s->aside, s->chunk, MADV_DONTNEED));
		CHECK_OK(madvise(at, s->chunk, MADV_DONTNEED));
		poison(s->aside, s->chunk, spin);
		break;
	case 6:
		CHECK_OK(mprotect(at, s->chunk, PROT_READ));
		memcpy(s->aside, at, s->chunk);
		while (spin--)
			sched_yield();
		CHECK(!memcmp(s->aside, at, s->chunk));
		CHECK_OK(mprotect(at, s->chunk, PROT_READ | PROT_WRITE));
		break;
	default:
		(void)madvise(at, s->chunk, MADV_COLLAPSE);
		break;
	}
	s->ops++;
}

static void *storm_thread(void *arg)
{
	struct storm *s = arg;

	while (!storm_over && !ktap_timed_out) {
		storm_op(s);
		sleep_ms(1);
	}
	return NULL;
}

static bool storm_enough(struct vm *vm, struct storm s[2])
{
	volatile u64 *n = *guest_ptr(vm, accesses);

	return n[0] > 100 && n[1] > 100 && s[0].ops > 20 && s[1].ops > 20;
}

static void storm(u64 chunk, u64 chunks, int advice)
{
	u64 size = chunk * chunks, start = now_ms(), i;
	char *mem = map_anon(size);
	struct vm *vm = vm_create_image();
	struct storm s[2];
	struct runner r[2];

	CHECK_OK(madvise(mem, size, advice));
	vm_set_slot(vm, 1, WIN, mem, size, 0);
	*guest_ptr(vm, storm_pages) = size / PAGE;
	for (i = 0; i < 2; i++) {
		r[i] = (struct runner){
			.vcpu = vcpu_create(vm, i),
			.cpu = -1,
			.retry_efault = true,
		};
		/* The second waits for no SIPI: there is no irqchip. */
		vcpu_set_guest(r[i].vcpu, guest_storm, i);
		runner_start(&r[i]);
		s[i] = (struct storm){
			.mem = mem,
			.aside = map_anon(chunk),
			.chunk = chunk,
			.chunks = chunks,
			.first = i,
			.seed = test_random(),
		};
		madvise(s[i].aside, chunk, advice);
	}
	for (i = 0; i < 2; i++)
		CHECK(!pthread_create(&s[i].thread, NULL, storm_thread, &s[i]));
	/* On a busy machine it takes longer until everybody had a turn. */
	while (now_ms() < start + STORM_MS || (now_ms() < start + WAIT_MS && !storm_enough(vm, s)))
		sleep_ms(20);
	storm_over = true;
	for (i = 0; i < 2; i++)
		CHECK(!pthread_join(s[i].thread, NULL));
	*guest_ptr(vm, stop) = 1;
	for (i = 0; i < 2; i++)
		runner_join(&r[i]);
	CHECK(storm_enough(vm, s));
	ktap_diag(
		"%llu changes, %llu accesses, %llu times EFAULT",
		(unsigned long long)(s[0].ops + s[1].ops),
		(unsigned long long)((*guest_ptr(vm, accesses))[0] + (*guest_ptr(vm, accesses))[1]),
		(unsigned long long)(r[0].efaults + r[1].efaults));
	vm_destroy(vm);
}

static void test_storm(void)
{
	storm(8 * PAGE, 16, MADV_NOHUGEPAGE);
}

static void test_storm_huge(void)
{
	storm(HOST_HUGE, 8, MADV_HUGEPAGE);
}

static const struct ktap_test tests[] = {
	{ "dontneed", test_dontneed, 120 },
	{ "dontneed_huge", test_dontneed_huge, 120 },
	{ "munmap", test_munmap, 120 },
	{ "files", test_files, 120 },
	{ "mremap", test_mremap, 120 },
	{ "mprotect", test_mprotect, 120 },
	{ "fork", test_fork, 120 },
	{ "fork_huge", test_fork_huge, 120 },
	{ "ksm", test_ksm, 120 },
	{ "thp_split", test_thp_split, 120 },
	{ "compaction", test_compaction, 120 },
	{ "swap", test_swap, 120 },
	{ "reclaim", test_reclaim, 120 },
	{ "uffd_missing", test_uffd_missing, 120 },
	{ "uffd_wp", test_uffd_wp, 120 },
	{ "storm", test_storm, 120 },
	{ "storm_huge", test_storm_huge, 120 },
};

KTAP_MAIN(tests)
