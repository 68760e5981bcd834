// SPDX-License-Identifier: GPL-2.0
/*
 * Random numbers, rounds and counts of the fuzzers; see fuzz.h.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define POLL_MS 5

struct fuzz_counts *fuzz_counts;

/* splitmix64: neighbouring states give unrelated numbers. */
u64 rnd(struct rng *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

void rng_at(struct rng *r, u64 seed, u64 stream, u64 index)
{
	r->state = seed;
	r->state = rnd(r) ^ stream;
	r->state = rnd(r) ^ index;
}

u64 below(struct rng *r, u64 n)
{
	return rnd(r) % n;
}

bool chance(struct rng *r, unsigned int percent)
{
	return below(r, 100) < percent;
}

u64 edge(struct rng *r)
{
	static const u64 values[] = {
		0,
		1,
		2,
		3,
		0x7f,
		0xff,
		0x1000,
		0xffff,
		0x10000,
		0xfffff000,
		0xffffffff,
		0xfee00000,
		0xfec00000,
		0x80000000,
		0x7fffffff,
		0x100000000ULL,
		0x7ffffffff000ULL,
		0x800000000000ULL,
		0xffff800000000000ULL,
		0xffffffff81000000ULL,
		-4096ULL,
	};

	switch (below(r, 4)) {
	case 0:
		return PICK(r, values);
	case 1:
		return (1ULL << below(r, 64)) + below(r, 3) - 1;
	case 2:
		return -below(r, 17);
	default:
		return rnd(r) >> below(r, 64);
	}
}

void fill_random(struct rng *r, void *buf, size_t size)
{
	u8 *p = buf;
	u64 x = 0;

	for (size_t i = 0; i < size; i++, x >>= 8) {
		if (i % 8 == 0)
			x = rnd(r);
		p[i] = x;
	}
}

void mutate(struct rng *r, void *buf, size_t size)
{
	u8 *p = buf;
	u64 word;

	for (u64 n = size ? 1 + below(r, 3) : 0; n; n--) {
		size_t len = 1ULL << below(r, 4);

		if (len > size || chance(r, 50)) {
			p[below(r, size)] ^= 1 << below(r, 8);
			continue;
		}
		word = edge(r);
		memcpy(p + below(r, size / len) * len, &word, len);
	}
}

void *fuzz_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

long count_errno(long result)
{
	int err = result < 0 ? errno : 0;

	COUNT(fuzz_counts->errnos[err < FUZZ_MAX_ERRNO ? err : FUZZ_MAX_ERRNO - 1]);
	return result;
}

void count_exit(u32 reason)
{
	COUNT(fuzz_counts->exits[reason < FUZZ_MAX_EXIT ? reason : FUZZ_MAX_EXIT - 1]);
}

static u64 option(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

unsigned int fuzz_seconds(void)
{
	return option("FUZZ_SECONDS", 20);
}

/* Where it is still to be read when L1 has died. */
static void announce(u64 seed)
{
	char line[80];

	snprintf(line, sizeof(line), "fuzz: %s seed %llu\n", program_invocation_short_name,
		 (unsigned long long)seed);
	write_text("/dev/kmsg", line);
}

static void print_lines(const char *path, const char *with)
{
	FILE *f = fopen(path, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!with || strstr(line, with))
			ktap_diag("  %.*s", (int)strcspn(line, "\n"), line);
	if (f)
		fclose(f);
}

/* Where the threads of a process are in the kernel, and what signals wait or are blocked. */
static void print_threads(pid_t pid)
{
	struct dirent *entry;
	char path[300];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		ktap_diag("thread %s:", entry->d_name);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
		print_lines(path, "Sig");
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stack", pid, entry->d_name);
		print_lines(path, NULL);
	}
}

/* Time in which nothing ran, this process included, is not counted. */
static void wait_round(pid_t pid, u64 seed)
{
	unsigned int polls = 0;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (++polls > FUZZ_HANG_MS / POLL_MS || ktap_timed_out) {
			print_threads(pid);
			kill(pid, SIGKILL);
			ktap_fail(__FILE__, __LINE__, "seed %llu hangs", (unsigned long long)seed);
		}
		sleep_ms(POLL_MS);
	}
	CHECKF(!status, "seed %llu: status %#x", (unsigned long long)seed, status);
}

void fuzz_rounds(void (*round)(u64 seed, u64 end))
{
	u64 seed = option("FUZZ_SEED", 1), first = seed;
	u64 end = now_ms() + 1000ULL * fuzz_seconds();

	fuzz_counts = fuzz_shared(sizeof(*fuzz_counts));
	close(vm_open_device()); /* or skip */
	for (; now_ms() < end; seed++) {
		pid_t pid;

		announce(seed);
		pid = fork();
		CHECK_OK(pid);
		if (!pid) {
			round(seed, now_ms() + FUZZ_ROUND_MS);
			_exit(0);
		}
		wait_round(pid, seed);
	}
	ktap_diag("seeds %llu to %llu", (unsigned long long)first, (unsigned long long)seed - 1);
}

void fuzz_report(void)
{
	for (int i = 0; i < FUZZ_MAX_ERRNO; i++)
		if (fuzz_counts->errnos[i])
			ktap_diag("  errno %3d %-36s %9llu", i, i ? strerror(i) : "(success)",
				  (unsigned long long)fuzz_counts->errnos[i]);
	for (int i = 0; i < FUZZ_MAX_EXIT; i++)
		if (fuzz_counts->exits[i])
			ktap_diag("  exit %4d %-36s %9llu", i, vm_exit_name(i),
				  (unsigned long long)fuzz_counts->exits[i]);
	if (!vm_is_kvm()) {
		for (u64 limit = now_ms() + 5000; now_ms() < limit; sleep_ms(20))
			if (!read_number("/sys/module/svm/parameters/vms"))
				break;
		CHECK_EQ(read_number("/sys/module/svm/parameters/vms"), 0);
	}
}

int fuzz_main(const char *name, void (*fn)(void), int argc, char **argv)
{
	const struct ktap_test test = { name, fn, fuzz_seconds() + 120 };

	return ktap_run(&test, 1, argc, argv);
}
