// SPDX-License-Identifier: GPL-2.0
/*
 * The host around the VM; see host.h.
 */
#include <cpuid.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR && !ktap_timed_out)
		;
}

long long read_number(const char *path)
{
	char buf[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return n > 0 ? strtoll(buf, NULL, 0) : -1;
}

u64 host_vmexits(void)
{
	return vm_is_kvm() ? 0 : read_number("/sys/module/svm/parameters/exits");
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static long long field_of(FILE *f, const char *field)
{
	char line[256];
	long long val = -1;

	while (val < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			val = strtoll(line + strlen(field), NULL, 10);
	return val;
}

static long long file_field(const char *path, const char *field)
{
	FILE *f = fopen(path, "re");
	long long val;

	if (!f)
		return -1;
	val = field_of(f, field);
	fclose(f);
	return val;
}

long long meminfo_kb(const char *field)
{
	return file_field("/proc/meminfo", field);
}

long long smaps_kb(const void *addr, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	char line[256];
	long long kb = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && start <= (uintptr_t)addr &&
		    (uintptr_t)addr < end) {
			kb = field_of(f, field);
			break;
		}
	}
	fclose(f);
	return kb;
}

void memcg_create(void)
{
	char root[] = "/tmp/cgroup.XXXXXX";

	CHECK(mkdtemp(root));
	CHECK_OK(mount("cgroup2", root, "cgroup2", 0, NULL));
	CHECK_OK(chdir(root));
	if (write_text("cgroup.subtree_control", "+memory"))
		ktap_skip("no memory controller for cgroups");
	CHECK_OK(mkdir("svm-test", 0700));
}

void memcg_enter(void)
{
	CHECK_EQ(write_text("svm-test/cgroup.procs", "0"), 0);
}

long long memcg_events(const char *field)
{
	return file_field("svm-test/memory.events", field);
}

void memcg_destroy(void)
{
	char *root;

	CHECK_EQ(write_text("cgroup.procs", "0"), 0);
	CHECK_OK(rmdir("svm-test"));
	root = getcwd(NULL, 0);
	CHECK(root);
	CHECK_OK(chdir("/"));
	CHECK_OK(umount(root));
	CHECK_OK(rmdir(root));
	free(root);
}

void *map_anon(size_t size)
{
	size_t total = size + 2 * HOST_HUGE;
	char *raw = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = (char *)(((uintptr_t)raw + HOST_HUGE - 1) & ~(HOST_HUGE - 1));

	CHECK(raw != MAP_FAILED);
	CHECK(mmap(p, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == p);
	return p;
}

u64 cpu_msr(int cpu, u32 index)
{
	char path[64];
	u64 val = 0;
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && !system("modprobe -q msr"))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		ktap_skip("no %s (modprobe msr)", path);
	CHECKF(pread(fd, &val, sizeof(val), index) == sizeof(val), "MSR %#x of CPU %d: errno %d",
	       index, cpu, errno);
	close(fd);
	return val;
}

int cpus_with_svme(void)
{
	int cpu, n = 0, max = sysconf(_SC_NPROCESSORS_CONF);
	char path[64];

	for (cpu = 0; cpu < max; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (read_number(path) != 0)
			n += !!(cpu_msr(cpu, MSR_EFER) & EFER_SVME);
	}
	return n;
}

void bind_cpu(int cpu)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	CHECK_OK(sched_setaffinity(0, sizeof(set), &set));
}

int emulator_version(void)
{
	unsigned int major, minor, out[4];
	int n = 0;
	FILE *f;

	__cpuid(0x40000000, out[0], out[1], out[2], out[3]);
	if (memcmp(&out[1], "TCGTCGTCGTCG", 12))
		return 0;
	f = fopen("/sys/class/dmi/id/product_version", "re");
	if (f) {
		n = fscanf(f, "pc-i440fx-%u.%u", &major, &minor);
		fclose(f);
	}
	return n == 2 ? 100 * major + minor : 1;
}

int module_load(const char *path, const char *params)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	return err;
}

int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

const char *device_module(void)
{
	return vm_is_kvm() ? "kvm" : "svm";
}

long long module_refs(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", name);
	return read_number(path);
}

long long settle_refs(const char *name, long long want, unsigned int ms)
{
	u64 end = now_ms() + ms;
	long long refs;

	while ((refs = module_refs(name)) > want && now_ms() < end)
		sleep_ms(5);
	return refs;
}

static void feed(int fd, const char **input)
{
	ssize_t n = *input && **input ? write(fd, *input, strlen(*input)) : 0;

	if (n > 0)
		*input += n;
}

int spawn(char *const argv[], const char *input, char *out, size_t size, unsigned int limit)
{
	u64 end = now_ms() + limit * 1000ULL;
	int to[2], from[2], status = -1;
	size_t len = 0;
	pid_t pid;

	CHECK_OK(pipe2(to, O_CLOEXEC));
	CHECK_OK(pipe2(from, O_CLOEXEC));
	pid = fork();
	CHECK_OK(pid);
	if (!pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		dup2(from[1], 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	feed(to[1], &input);
	close(to[1]);
	while (now_ms() < end) {
		struct pollfd p = { .fd = from[0], .events = POLLIN };
		char drop[4096];
		ssize_t n;

		if (poll(&p, 1, 200) <= 0)
			continue;
		n = len + 1 < size ? read(from[0], out + len, size - len - 1)
				   : read(from[0], drop, sizeof(drop));
		if (n <= 0)
			break;
		if (len + 1 < size)
			len += n;
	}
	out[len] = 0;
	close(from[0]);
	/* The pipe has ended or the time has. */
	if (now_ms() >= end)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return now_ms() >= end ? -1 : status;
}

static void *run_thread(void *arg)
{
	struct runner *r = arg;
	u64 val;

	if (r->cpu >= 0)
		bind_cpu(r->cpu);
	for (;;) {
		int got = vcpu_run(r->vcpu);

		if (got == KVM_EXIT_IO && vcpu_guest_event(r->vcpu, &val)) {
			r->syncs++;
			if (val == GUEST_DONE)
				break;
			continue;
		}
		if (got == -EINTR && !ktap_timed_out)
			continue;
		if (got == -EFAULT && r->retry_efault && !ktap_timed_out) {
			r->efaults++;
			sched_yield();
			continue;
		}
		if (r->on_exit && r->on_exit(r, got))
			continue;
		vcpu_dump(r->vcpu);
		ktap_fail(__FILE__, __LINE__, "vCPU %u: exit %d (%s)", r->vcpu->id, got,
			  vm_exit_name(got));
	}
	r->state = GUEST_ENDED;
	return NULL;
}

void runner_start(struct runner *r)
{
	r->state = GUEST_RUNNING;
	CHECK(!pthread_create(&r->thread, NULL, run_thread, r));
}

void runner_join(struct runner *r)
{
	u64 end = now_ms() + 60000;
	struct timespec ts;

	/* The alarm of the harness does not reach a thread in KVM_RUN. */
	while (r->state != GUEST_ENDED && !ktap_timed_out && now_ms() < end)
		sleep_ms(2);
	if (r->state != GUEST_ENDED)
		ktap_fail(__FILE__, __LINE__, "vCPU %u does not end", r->vcpu->id);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 5;
	CHECK(!pthread_timedjoin_np(r->thread, NULL, &ts));
}
