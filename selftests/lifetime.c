// SPDX-License-Identifier: GPL-2.0
/*
 * File descriptors, processes and the VM they share: closed in any order,
 * passed on, forked, killed in mid-run, run from two threads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "host.h"

static volatile u64 counter, stop;

static void guest_count(u64 arg)
{
	(void)arg;
	while (!stop) {
		asm volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
		counter++;
	}
	guest_done();
}

static void guest_sync3(u64 arg)
{
	for (u64 i = 0; i < 3; i++)
		guest_sync(arg + i);
	guest_done();
}

/* The VM lives as long as any descriptor does. */
static void test_close_vm_first(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_regs regs;

	vcpu_set_guest(vcpu, guest_sync3, 7);
	CHECK_EQ(vcpu_run_guest(vcpu), 7);
	close(vm->fd);
	close(vm->dev);
	CHECK_EQ(vcpu_run_guest(vcpu), 8);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_REGS, &regs));
	CHECK_EQ(vcpu_run_guest(vcpu), 9);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* The mapping of kvm_run outlives the descriptor, and holds the VM as any open file does. */
static void test_mapping_last(void)
{
	long long refs = module_refs(device_module());
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	vcpu_set_guest(vcpu, guest_sync3, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	close(vm->fd);
	close(vm->dev);
	close(vcpu->fd);
	memset((void *)vcpu->run, 0xa5, 4096);
	CHECK_EQ(*(u8 *)vcpu->run, 0xa5);
	CHECK(module_refs(device_module()) > refs);
	munmap(vcpu->run, vm->run_size);
	CHECK_EQ(settle_refs(device_module(), refs, 3000), refs);
}

/* Eventfds that were given to the VM, closed before and after it. */
static void test_eventfds(void)
{
	for (int order = 0; order < 2; order++) {
		struct vm *vm = vm_create_image();
		int a = eventfd(0, EFD_CLOEXEC), b = eventfd(0, EFD_CLOEXEC);
		struct kvm_irqfd irqfd = { .fd = a, .gsi = 5 };
		struct kvm_ioeventfd io = {
			.addr = 0x1000, .len = 4, .fd = b, .flags = KVM_IOEVENTFD_FLAG_PIO
		};
		u64 one = 1;

		vm_irqchip(vm);
		CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
		CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &io));
		if (order) {
			close(a);
			close(b);
		} else {
			CHECK(write(a, &one, 8) == 8);
		}
		vm_destroy(vm);
		if (!order) {
			CHECK(write(a, &one, 8) == 8);
			close(a);
			close(b);
		}
	}
}

/* Another address space may hold the descriptors, but not use them. */
static void test_other_mm(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int status;
	pid_t pid;

	vcpu_set_guest(vcpu, guest_sync3, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	pid = fork();
	CHECK_OK(pid);
	if (!pid) {
		struct kvm_regs regs;
		int bad = 0;

		bad |= !(ioctl(vcpu->fd, KVM_RUN, 0) == -1 && errno == EIO);
		bad |= !(ioctl(vcpu->fd, KVM_GET_REGS, &regs) == -1 && errno == EIO) << 1;
		bad |= !(ioctl(vm->fd, KVM_CREATE_VCPU, 1) == -1 && errno == EIO) << 2;
		bad |= !(ioctl(vm->dev, KVM_GET_API_VERSION, 0) == 12) << 3;
		_exit(bad);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
}

/* A descriptor that came by a socket keeps the VM when its owner has gone, and is of no use. */
static void test_passed_on(void)
{
	long long refs = module_refs(device_module());
	char control[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int pair[2], fd, status;
	pid_t pid;

	CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork();
	CHECK_OK(pid);
	if (!pid) {
		struct vcpu *vcpu = vcpu_create(vm_create_image(), 0);

		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &vcpu->fd, sizeof(int));
		_exit(sendmsg(pair[1], &msg, 0) != 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	CHECK(recvmsg(pair[0], &msg, MSG_CMSG_CLOEXEC) == 1);
	c = CMSG_FIRSTHDR(&msg);
	CHECK(c && c->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	CHECK_ERR(ioctl(fd, KVM_RUN, 0), EIO);
	CHECK(module_refs(device_module()) > refs);
	close(fd);
	CHECK_EQ(settle_refs(device_module(), refs, 3000), refs);
}

/* The owner forks and execs while its guest runs: the guest goes on, the child inherits nothing. */
static void test_fork_exec(void)
{
	struct vm *vm = vm_create_image();
	struct runner r = { .vcpu = vcpu_create(vm, 0), .cpu = -1 };
	char out[256];

	vcpu_set_guest(r.vcpu, guest_count, 0);
	runner_start(&r);
	for (int i = 0; i < 20; i++) {
		char *ls[] = { "/bin/sh", "-c", "ls -l /proc/self/fd | grep -c -e svm -e kvm",
			       NULL };
		u64 seen = *guest_ptr(vm, counter);

		CHECK(spawn(ls, NULL, out, sizeof(out), 20) >= 0);
		CHECKF(!strncmp(out, "0", 1), "the child has descriptors: %s", out);
		while (*guest_ptr(vm, counter) < seen + 10)
			sleep_ms(1);
	}
	*guest_ptr(vm, stop) = 1;
	runner_join(&r);
}

/* kill -9 while two vCPUs run, fifty times: nothing is left behind. */
static void test_kill(void)
{
	long long refs = module_refs(device_module());

	for (int i = 0; i < 50; i++) {
		int status, ready[2];
		pid_t pid;
		char c;

		CHECK_OK(pipe2(ready, O_CLOEXEC));
		pid = fork();
		CHECK_OK(pid);
		if (!pid) {
			struct vm *vm = vm_create_image();
			struct runner r[2];

			alarm(0);
			if (i & 1)
				vm_irqchip(vm);
			for (int n = 0; n < 2; n++) {
				struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

				r[n] = (struct runner){ .vcpu = vcpu_create(vm, n), .cpu = -1 };
				vcpu_set_guest(r[n].vcpu, guest_count, 0);
				if (i & 1)
					CHECK_OK(ioctl(r[n].vcpu->fd, KVM_SET_MP_STATE, &mp));
				runner_start(&r[n]);
			}
			while (!*guest_ptr(vm, counter))
				sleep_ms(1);
			(void)!write(ready[1], "", 1);
			for (;;)
				pause();
		}
		close(ready[1]);
		CHECK(read(ready[0], &c, 1) == 1);
		sleep_ms(test_random() % 10);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status));
		close(ready[0]);
	}
	CHECK_EQ(settle_refs(device_module(), refs, 5000), refs);
}

/* Row 33: a thread closes the descriptor that is about to be made. */
static volatile int guess;
static volatile bool closing;

static void *close_guess(void *arg)
{
	(void)arg;
	while (closing)
		syscall(SYS_close, guess);
	return NULL;
}

static void test_close_predicted(void)
{
	long long refs = module_refs(device_module());
	int dev = vm_open_device();
	pthread_t thread;
	int fd, made = 0;

	guess = dup(dev);
	close(guess);
	closing = true;
	CHECK(!pthread_create(&thread, NULL, close_guess, NULL));
	for (int i = 0; i < 300; i++) {
		fd = ioctl(dev, KVM_CREATE_VM, 0);
		if (fd < 0)
			continue;
		made++;
		close(ioctl(fd, KVM_CREATE_VCPU, 0));
		close(fd);
	}
	closing = false;
	pthread_join(thread, NULL);
	CHECK(made > 0);
	for (fd = dev + 1; fd < 1024; fd++)
		close(fd);
	close(dev);
	CHECK_EQ(settle_refs(device_module(), refs, 5000), refs);
}

/* Row 34: ids as far as they go, and the order of calls. */
static void test_ids_and_order(void)
{
	static const u64 bad[] = { 1 << 20, 1u << 31, 0xffffffffu, ~0ULL, 1ULL << 32 };
	struct kvm_pit_config pit = {};
	struct vm *vm = vm_create();
	int fd;

	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), ENOENT);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, bad[i]), EINVAL);
	fd = ioctl(vm->fd, KVM_CREATE_VCPU, 3);
	CHECK_OK(fd);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 3), EEXIST);
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
	close(fd);
	/* A vCPU lives as long as its VM. */
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 3), EEXIST);
	vm_destroy(vm);
	vm = vm_create();
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	CHECK_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), EEXIST);
	vm_destroy(vm);
}

/* As many vCPUs as are promised, each with its own id, and not one more. */
static void test_max_vcpus(void)
{
	struct vm *vm = vm_create();
	int max = vm_has_cap(vm, KVM_CAP_MAX_VCPUS);

	CHECK(max >= 64);
	if (max > 256)
		max = 256;
	for (int i = 0; i < max; i++)
		CHECK_OK(ioctl(vm->fd, KVM_CREATE_VCPU, i));
	if (max == vm_has_cap(vm, KVM_CAP_MAX_VCPUS))
		CHECK_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, max), EINVAL);
	for (int fd = vm->fd + 1; fd < vm->fd + 1 + max; fd++)
		close(fd);
}

/* Two threads in KVM_RUN of one vCPU, and ioctls in between: each waits for its turn. */
static void *run_too(void *arg)
{
	struct vcpu *vcpu = arg;

	for (int i = 0; i < 200; i++) {
		struct kvm_regs regs;

		if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) || !regs.rip)
			return (void *)1;
	}
	return NULL;
}

static void ignore(int sig)
{
	(void)sig;
}

static void test_shared_vcpu(void)
{
	struct vm *vm = vm_create_image();
	struct runner r = { .vcpu = vcpu_create(vm, 0), .cpu = -1 };
	struct sigaction sa = { .sa_handler = ignore };
	pthread_t other;
	void *bad;

	sigaction(SIGUSR1, &sa, NULL);
	vcpu_set_guest(r.vcpu, guest_count, 0);
	runner_start(&r);
	CHECK(!pthread_create(&other, NULL, run_too, r.vcpu));
	/* The runner gives the vCPU away only when a signal takes it out of KVM_RUN. */
	while (pthread_tryjoin_np(other, &bad)) {
		pthread_kill(r.thread, SIGUSR1);
		sleep_ms(1);
	}
	CHECK(!bad);
	*guest_ptr(vm, stop) = 1;
	runner_join(&r);
}

/* Row 31: kvm_run is the user's to scribble on at any time. */
static volatile bool scribbling;

static void *scribble(void *arg)
{
	volatile u32 *words = arg;
	u64 x = 88172645463325252ULL;

	while (scribbling) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[x % (3 * 4096 / 4)] = x >> 32;
	}
	return NULL;
}

static void guest_everything(u64 arg)
{
	u8 buf[64];

	(void)arg;
	for (;;) {
		outl(0x600, 1);
		(void)inl(0x604);
		*(volatile u32 *)0x10000000 = 1;
		(void)*(volatile u64 *)0x10000ffc;
		asm volatile("rep outsb" : : "S"(buf), "c"(64), "d"(0x608) : "memory");
		{
			void *p = buf;
			u64 n = 64;

			asm volatile("rep insb" : "+D"(p), "+c"(n) : "d"(0x60c) : "memory");
		}
		asm volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
	}
}

static void test_scribble(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 end = now_ms() + 3000;
	int runs = 0, reasons[64] = {};
	pthread_t thread;

	vcpu_set_guest(vcpu, guest_everything, 0);
	scribbling = true;
	CHECK(!pthread_create(&thread, NULL, scribble, (void *)vcpu->run));
	while (now_ms() < end) {
		u32 reason;

		if (ioctl(vcpu->fd, KVM_RUN, 0) && errno != EINTR && errno != EINVAL)
			break;
		reason = vcpu->run->exit_reason;
		reasons[reason % 64]++;
		runs++;
	}
	scribbling = false;
	pthread_join(thread, NULL);
	ktap_diag("%d runs", runs);
	CHECK(runs > 100);
}

/* Thousands of VMs come and go; the host's memory is what it was. */
static long long slab(void)
{
	return meminfo_kb("Slab:") + meminfo_kb("PageTables:") + meminfo_kb("KernelStack:");
}

static void cycle(int n)
{
	for (int i = 0; i < n; i++) {
		struct vm *vm = vm_create_flat(4 << 20);

		vm_irqchip(vm);
		vcpu_destroy(vcpu_create(vm, 0));
		vm_destroy(vm);
	}
}

static void test_many_vms(void)
{
	int n = getenv("MANY_VMS") ? atoi(getenv("MANY_VMS")) : 1000;
	long long refs = module_refs(device_module()), before, after;

	cycle(50);
	before = slab();
	cycle(n);
	after = slab();
	/* Freed memory may lie in the allocators' queues a while. */
	for (int i = 0; i < 50 && after > before + 4096; i++) {
		sleep_ms(100);
		after = slab();
	}
	ktap_diag("slab and tables %lld KiB before, %lld KiB after %d VMs", before, after, n);
	CHECK(after < before + 4096);
	CHECK_EQ(settle_refs(device_module(), refs, 3000), refs);
}

/* --- the end of memory inside a memory cgroup --- */

#define GUEST_RAM     (256ULL << 20)
#define GUEST_RAM_GPA (1ULL << 30)

static void guest_touch(u64 arg)
{
	for (u64 gpa = GUEST_RAM_GPA; gpa < GUEST_RAM_GPA + arg; gpa += 4096)
		*(volatile u64 *)gpa = gpa;
	guest_done();
}

static void touch_all(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);

	vm_set_slot(vm, 1, GUEST_RAM_GPA, map_anon(GUEST_RAM), GUEST_RAM, 0);
	vcpu_set_guest(vcpu, guest_touch, GUEST_RAM);
	vcpu_run_guest(vcpu);
}

/* What the module itself allocates counts, too: nothing here touches memory of its own. */
static void create_all(void)
{
	struct rlimit files = { 65536, 65536 };
	int dev = vm_open_device();

	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < 3000; i++) {
		int vm = ioctl(dev, KVM_CREATE_VM, 0);

		if (vm < 0)
			break;
		for (int n = 0; n < 16; n++)
			ioctl(vm, KVM_CREATE_VCPU, n);
	}
}

static void test_memcg(void)
{
	static void (*const greedy[])(void) = { touch_all, create_all };
	static const char current[] = "svm-test/memory.current";
	long long refs = module_refs(device_module());

	for (unsigned int i = 0; i < ARRAY_LEN(greedy); i++) {
		int status;
		pid_t pid;

		memcg_create();
		CHECK_EQ(write_text("svm-test/memory.max", "67108864"), 0);
		write_text("svm-test/memory.swap.max", "0");
		pid = fork();
		CHECK_OK(pid);
		if (!pid) {
			alarm(0);
			memcg_enter();
			greedy[i]();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		/* Of many VMs the last may be refused, instead of the process killed. */
		CHECKF(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
					   : i && !WEXITSTATUS(status),
		       "%u: status %#x", i, status);
		CHECKF(memcg_events("max ") > 0, "%u: the limit was not reached", i);
		CHECK_EQ(settle_refs(device_module(), refs, 20000), refs);
		for (int n = 0; n < 100 && read_number(current) > 1 << 20; n++)
			sleep_ms(100);
		ktap_diag("%u: %lld times at the limit, %lld killed, %lld KiB left", i,
			  memcg_events("max "), memcg_events("oom_kill "),
			  read_number(current) / 1024);
		CHECK(read_number(current) <= 1 << 20);
		memcg_destroy();
	}
}

static const struct ktap_test tests[] = {
	{ "close_vm_first", test_close_vm_first, 0 },
	{ "mapping_last", test_mapping_last, 0 },
	{ "eventfds", test_eventfds, 0 },
	{ "other_mm", test_other_mm, 0 },
	{ "passed_on", test_passed_on, 0 },
	{ "fork_exec", test_fork_exec, 180 },
	{ "kill", test_kill, 90 },
	{ "close_predicted", test_close_predicted, 60 },
	{ "ids_and_order", test_ids_and_order, 0 },
	{ "max_vcpus", test_max_vcpus, 60 },
	{ "shared_vcpu", test_shared_vcpu, 60 },
	{ "scribble", test_scribble, 0 },
	{ "many_vms", test_many_vms, 120 },
	{ "memcg", test_memcg, 120 },
};

KTAP_MAIN(tests)
