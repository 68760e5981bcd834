// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns SVM: EFER.SVME and VM_HSAVE_PA of each CPU from the first VM to the
 * last, beside kvm_amd in both orders, through hotplug and suspend, and the
 * module's own coming and going. Starts with no hypervisor module loaded.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

static volatile u64 counter, stop;

static void load(void)
{
	const char *ko = getenv("SVM_KO");

	if (!ko)
		ktap_skip("SVM_KO does not name the module");
	if (module_refs("svm") < 0)
		CHECK_EQ(module_load(ko, ""), 0);
	/* The device node comes a moment after the module. */
	for (int i = 0; i < 100 && access("/dev/svm", F_OK); i++)
		sleep_ms(20);
}

static void unload(void)
{
	settle_refs("svm", 0, 3000);
	CHECK_EQ(module_unload("svm"), 0);
}

static int online(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static void check_off(void)
{
	CHECK_EQ(cpus_with_svme(), 0);
	for (int cpu = 0; cpu < online(); cpu++)
		CHECK_EQ(cpu_msr(cpu, MSR_HSAVE_PA), 0);
}

/* All CPUs have it, with a save area of their own each. */
static void check_on(void)
{
	CHECK_EQ(cpus_with_svme(), online());
	for (int cpu = 0; cpu < online(); cpu++) {
		u64 pa = cpu_msr(cpu, MSR_HSAVE_PA);

		CHECK(pa && !(pa & 0xfff));
		for (int other = 0; other < cpu; other++)
			CHECK(cpu_msr(other, MSR_HSAVE_PA) != pa);
	}
}

/* Does the kernel's log say @text since it was opened? */
static int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	CHECK_OK(fd);
	lseek(fd, 0, SEEK_END);
	return fd;
}

static bool kmsg_has(int fd, const char *text)
{
	bool found = false;
	char line[2048];
	ssize_t n;

	while ((n = read(fd, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		found |= !!strstr(line, text);
	}
	close(fd);
	return found;
}

static void test_module(void)
{
	load();
	check_off();
	CHECK_EQ(module_refs("svm"), 0);
	unload();
	check_off();
}

static void test_first_to_last(void)
{
	struct vm *a, *b;

	load();
	a = vm_create();
	check_on();
	b = vm_create();
	vm_destroy(a);
	check_on();
	vm_destroy(b);
	check_off();
	a = vm_create();
	check_on();
	vm_destroy(a);
	unload();
	check_off();
}

static void test_unload_refused(void)
{
	struct vm *vm;
	int dev;

	load();
	dev = vm_open_device();
	CHECK_EQ(module_unload("svm"), -EAGAIN);
	close(dev);
	vm = vm_create();
	CHECK_EQ(module_unload("svm"), -EAGAIN);
	check_on();
	vm_destroy(vm);
	unload();
	CHECK(access("/dev/svm", F_OK));
}

static void guest_count(u64 arg)
{
	(void)arg;
	while (!stop) {
		asm volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
		counter++;
	}
	guest_done();
}

struct running {
	struct vm *vm;
	struct runner runner;
};

static void guest_start(struct running *g, int cpu)
{
	g->vm = vm_create_image();
	g->runner = (struct runner){ .vcpu = vcpu_create(g->vm, 0), .cpu = cpu };
	vcpu_set_guest(g->runner.vcpu, guest_count, 0);
	runner_start(&g->runner);
}

static void guest_goes_on(struct running *g)
{
	u64 seen = *guest_ptr(g->vm, counter), end = now_ms() + 20000;

	while (*guest_ptr(g->vm, counter) < seen + 100 && now_ms() < end)
		sleep_ms(5);
	CHECK(*guest_ptr(g->vm, counter) >= seen + 100);
}

static void guest_end(struct running *g)
{
	guest_goes_on(g);
	*guest_ptr(g->vm, stop) = 1;
	runner_join(&g->runner);
	vm_destroy(g->vm);
}

/* CREATE_VM on @path; the fd, or -errno. */
static int create_on(const char *path)
{
	int dev = open(path, O_RDWR | O_CLOEXEC), fd, err;

	CHECKF(dev >= 0, "%s: errno %d", path, errno);
	fd = ioctl(dev, KVM_CREATE_VM, 0);
	err = errno;
	close(dev);
	return fd < 0 ? -err : fd;
}

static void wait_kvm(void)
{
	if (system("modprobe -q kvm_amd"))
		ktap_skip("no kvm_amd in this kernel");
	for (int i = 0; i < 100 && access("/dev/kvm", F_OK); i++)
		sleep_ms(20);
}

static void kvm_gone(void)
{
	CHECK(!system("rmmod kvm_amd kvm"));
	check_off();
}

/* kvm_amd holds SVM: from its first VM on, or from its loading on newer kernels. */
static void test_kvm_first(void)
{
	int vm, kmsg;

	load();
	wait_kvm();
	vm = create_on("/dev/kvm");
	CHECK_OK(vm);
	CHECK_EQ(cpus_with_svme(), online());
	kmsg = kmsg_open();
	CHECK_EQ(create_on("/dev/svm"), -EBUSY);
	CHECK(kmsg_has(kmsg, "rmmod kvm_amd"));
	/* It still has what it had. */
	CHECK_EQ(cpus_with_svme(), online());
	close(vm);
	if (cpus_with_svme())
		CHECK_EQ(create_on("/dev/svm"), -EBUSY);
	kvm_gone();
	vm = create_on("/dev/svm");
	CHECK_OK(vm);
	check_on();
	close(vm);
	unload();
}

/* We hold SVM: kvm_amd gets no VM, and our guest does not notice. */
static void test_svm_first(void)
{
	struct running g;
	bool loaded;

	load();
	guest_start(&g, -1);
	guest_goes_on(&g);
	loaded = !system("modprobe -q kvm_amd");
	if (loaded) {
		for (int i = 0; i < 100 && access("/dev/kvm", F_OK); i++)
			sleep_ms(20);
		CHECK_EQ(create_on("/dev/kvm"), -EBUSY);
	}
	check_on();
	guest_end(&g);
	check_off();
	if (loaded) {
		int vm = create_on("/dev/kvm");

		CHECK_OK(vm);
		close(vm);
		kvm_gone();
	} else {
		(void)!system("rmmod kvm 2>/dev/null");
	}
	unload();
}

static void set_online(int cpu, int on)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	if (access(path, W_OK))
		ktap_skip("CPU %d can't be taken offline", cpu);
	CHECK_EQ(write_text(path, on ? "1" : "0"), 0);
}

/* A guest's CPU goes, and comes back. */
static void test_hotplug(void)
{
	struct running g;

	if (online() < 2)
		ktap_skip("one CPU only");
	load();
	guest_start(&g, 1);
	guest_goes_on(&g);
	for (int i = 0; i < 3; i++) {
		set_online(1, 0);
		CHECK_EQ(cpus_with_svme(), online());
		guest_goes_on(&g);
		set_online(1, 1);
		check_on();
		guest_goes_on(&g);
	}
	guest_end(&g);
	check_off();
	/* One that comes while there is no VM stays off. */
	set_online(1, 0);
	set_online(1, 1);
	check_off();
	unload();
}

static volatile u64 canary;

static void guest_canary(u64 arg)
{
	while (!stop) {
		guest_assert_eq(canary, arg);
		asm volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
		counter++;
	}
	guest_done();
}

/* Row 13: after offline and online no VM sees translations of another's ASID. */
static void test_hotplug_asid(void)
{
	struct running g[4];

	if (online() < 2)
		ktap_skip("one CPU only");
	load();
	for (int i = 0; i < 4; i++) {
		g[i].vm = vm_create_image();
		g[i].runner = (struct runner){ .vcpu = vcpu_create(g[i].vm, 0), .cpu = 1 };
		*guest_ptr(g[i].vm, canary) = 0x1111 * (i + 1);
		vcpu_set_guest(g[i].runner.vcpu, guest_canary, 0x1111 * (i + 1));
		runner_start(&g[i].runner);
		if (i == 1) {
			guest_goes_on(&g[0]);
			set_online(1, 0);
			set_online(1, 1);
			/* Offline has unbound them. */
		}
	}
	for (int i = 0; i < 4; i++)
		guest_goes_on(&g[i]);
	for (int i = 0; i < 4; i++)
		guest_end(&g[i]);
	unload();
}

/* Read the files that all processes have mapped, so that the page cache has them in full. */
static void cache_mapped_files(void)
{
	(void)!system("sed -n 's|.* \\(/.*\\)|\\1|p' /proc/[0-9]*/maps 2>/dev/null | sort -u |"
		      "grep -v '^/dev/' | xargs cat >/dev/null 2>&1");
	CHECK_OK(mlockall(MCL_CURRENT | MCL_FUTURE));
}

/*
 * Through the kernel's own suspend path, as far as the level that pm_test names.
 * The last test: L1's root on 9p does not survive it (diskless in tests.list).
 */
static void test_suspend(void)
{
	struct running g;

	if (access("/sys/power/pm_test", W_OK))
		ktap_skip("no /sys/power/pm_test in this kernel");
	cache_mapped_files();
	load();
	guest_start(&g, -1);
	guest_goes_on(&g);
	CHECK_EQ(write_text("/sys/power/pm_test", "core"), 0);
	CHECK_EQ(write_text("/sys/power/state", "mem"), 0);
	write_text("/sys/power/pm_test", "none");
	check_on();
	guest_end(&g);
	check_off();
	unload();
}

static const u32 host_msrs[] = {
	0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103,
	0x174,	    0x175,	0x176,	    0x277,	0x1b,	    0xc0010117,
};

/* What guests do to registers stays in them. */
static void guest_hostile(u64 arg)
{
	(void)arg;
	for (u64 i = 0; i < 2000; i++) {
		wrmsr(0xc0000081, i << 32);
		wrmsr(0xc0000082, i);
		wrmsr(0xc0000083, i);
		wrmsr(0xc0000084, i & 0xffff);
		wrmsr(0xc0000102, i << 12);
		wrmsr(0x174, i & 0xffff);
		wrmsr(0x175, i);
		wrmsr(0x176, i);
		guest_try_wrmsr(0x277, 0x0606060606060606ULL);
		guest_try_wrmsr(0xc0000103, i & 0xff);
		asm volatile("mov %0, %%dr0; mov %0, %%dr3" : : "r"(i));
		asm volatile("fninit; cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
	}
	guest_done();
}

static void test_host_state(void)
{
	struct vm *keep;

	load();
	keep = vm_create();
	for (int cpu = 0; cpu < online(); cpu++) {
		u64 before[ARRAY_LEN(host_msrs)];
		struct running g = { .vm = vm_create_image() };

		for (size_t i = 0; i < ARRAY_LEN(host_msrs); i++)
			before[i] = cpu_msr(cpu, host_msrs[i]);
		g.runner = (struct runner){ .vcpu = vcpu_create(g.vm, 0), .cpu = cpu };
		vcpu_set_guest(g.runner.vcpu, guest_hostile, 0);
		runner_start(&g.runner);
		runner_join(&g.runner);
		/* GS bases differ from task to task. */
		for (size_t i = 0; i < ARRAY_LEN(host_msrs); i++)
			if (host_msrs[i] != 0xc0000102)
				CHECKF(cpu_msr(cpu, host_msrs[i]) == before[i], "MSR %#x",
				       host_msrs[i]);
		vm_destroy(g.vm);
	}
	vm_destroy(keep);
	unload();
}

static const struct ktap_test tests[] = {
	{ "module", test_module, 0 },
	{ "first_to_last", test_first_to_last, 0 },
	{ "unload_refused", test_unload_refused, 0 },
	{ "host_state", test_host_state, 60 },
	{ "kvm_first", test_kvm_first, 0 },
	{ "svm_first", test_svm_first, 60 },
	{ "hotplug", test_hotplug, 90 },
	{ "hotplug_asid", test_hotplug_asid, 90 },
	{ "suspend", test_suspend, 90 },
};

KTAP_MAIN(tests)
