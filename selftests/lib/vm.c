// SPDX-License-Identifier: GPL-2.0
/*
 * Client library of the tests: VMs, memory, vCPUs and running them.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define MEM_ALIGN (2ULL << 20)

/* Of the linker: the whole loaded image of this program. */
extern char __executable_start[], _end[];

const char *vm_device(void)
{
	const char *dev = getenv("SVM_DEV");

	return dev ? dev : "/dev/svm";
}

bool vm_is_kvm(void)
{
	return strstr(vm_device(), "kvm");
}

int vm_open_device(void)
{
	int fd = open(vm_device(), O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		ktap_skip("no %s", vm_device());
	CHECKF(fd >= 0, "%s: errno %d", vm_device(), errno);
	return fd;
}

struct vm *vm_create(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int size;

	CHECK(vm);
	vm->dev = vm_open_device();
	vm->fd = ioctl(vm->dev, KVM_CREATE_VM, 0);
	CHECKF(vm->fd >= 0, "KVM_CREATE_VM: errno %d", errno);
	size = ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	CHECKF(size >= 3 * 4096, "size %d", size);
	vm->run_size = size;
	return vm;
}

struct vm *vm_create_flat(u64 size)
{
	struct vm *vm = vm_create();

	CHECK(size >= 4 << 20);
	CHECK_OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	vm_add_mem(vm, 0, 0, size);
	vm_write_tables(vm);
	return vm;
}

struct vm *vm_create_image(void)
{
	struct vm *vm = vm_create_flat(VM_IMAGE_MEM);

	vm_load_image(vm);
	return vm;
}

void vm_load_image(struct vm *vm)
{
	u64 start = (uintptr_t)__executable_start;

	CHECK((uintptr_t)_end < VM_FREE_GPA);
	memcpy(vm_hva(vm, start), __executable_start, _end - __executable_start);
}

void vm_destroy(struct vm *vm)
{
	int i;

	for (i = 0; i < VM_MAX_VCPUS; i++)
		if (vm->vcpus[i])
			vcpu_destroy(vm->vcpus[i]);
	close(vm->fd);
	close(vm->dev);
	for (i = 0; i < VM_MAX_SLOTS; i++)
		if (vm->slots[i].size)
			munmap(vm->slots[i].hva, vm->slots[i].size);
	free(vm);
}

void vm_set_slot(struct vm *vm, u32 slot, u64 gpa, void *hva, u64 size, u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	CHECK(slot < VM_MAX_SLOTS);
	CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region));
	vm->slots[slot] = (struct vm_slot){ .gpa = gpa, .size = size, .hva = hva };
}

void *vm_add_mem(struct vm *vm, u32 slot, u64 gpa, u64 size)
{
	char *raw = mmap(NULL, size + MEM_ALIGN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *hva = (char *)(((uintptr_t)raw + MEM_ALIGN - 1) & ~(MEM_ALIGN - 1));

	CHECK(raw != MAP_FAILED);
	if (hva > raw)
		munmap(raw, hva - raw);
	if (hva < raw + MEM_ALIGN)
		munmap(hva + size, raw + MEM_ALIGN - hva);
	vm_set_slot(vm, slot, gpa, hva, size, 0);
	return hva;
}

void *vm_hva(struct vm *vm, u64 gpa)
{
	int i;

	for (i = 0; i < VM_MAX_SLOTS; i++) {
		struct vm_slot *s = &vm->slots[i];

		if (gpa >= s->gpa && gpa - s->gpa < s->size)
			return (char *)s->hva + (gpa - s->gpa);
	}
	ktap_fail(__FILE__, __LINE__, "no memory at GPA %#llx", (unsigned long long)gpa);
}

void vm_load(struct vm *vm, u64 gpa, const char *start, const char *end)
{
	memcpy(vm_hva(vm, gpa), start, end - start);
}

int vm_has_cap(struct vm *vm, int cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

void vm_irqchip(struct vm *vm)
{
	CHECK_OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
}

void vm_irq_line(struct vm *vm, u32 gsi, u32 level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE, &irq));
}

struct kvm_cpuid2 *vm_supported_cpuid(int dev)
{
	static char buf[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)buf;

	memset(buf, 0, sizeof(buf));
	cpuid->nent = 256;
	CHECK_OK(ioctl(dev, KVM_GET_SUPPORTED_CPUID, cpuid));
	return cpuid;
}

struct vcpu *vcpu_create_raw(struct vm *vm, u32 id)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

	CHECK(vcpu && id < VM_MAX_VCPUS);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	CHECKF(vcpu->fd >= 0, "KVM_CREATE_VCPU: errno %d", errno);
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	CHECKF(vcpu->run != MAP_FAILED, "errno %d", errno);
	vm->vcpus[id] = vcpu;
	return vcpu;
}

/* The APIC id stands in three leaves. */
static void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, u32 id)
{
	u32 i;

	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 1)
			e->ebx = (e->ebx & 0xffffff) | id << 24;
		else if (e->function == 0xb || e->function == 0x1f)
			e->edx = id;
		else if (e->function == 0x8000001e)
			e->eax = id;
	}
}

struct vcpu *vcpu_create(struct vm *vm, u32 id)
{
	struct vcpu *vcpu = vcpu_create_raw(vm, id);
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm->dev);

	cpuid_set_apic_id(cpuid, id);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid));
	return vcpu;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	munmap(vcpu->run, vcpu->vm->run_size);
	close(vcpu->fd);
	vcpu->vm->vcpus[vcpu->id] = NULL;
	free(vcpu);
}

int vcpu_run(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
		return -errno;
	return vcpu->run->exit_reason;
}

static const char *const exit_names[] = {
	[KVM_EXIT_UNKNOWN] = "UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "EXCEPTION",
	[KVM_EXIT_IO] = "IO",
	[KVM_EXIT_HYPERCALL] = "HYPERCALL",
	[KVM_EXIT_DEBUG] = "DEBUG",
	[KVM_EXIT_HLT] = "HLT",
	[KVM_EXIT_MMIO] = "MMIO",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
	[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
	[KVM_EXIT_INTR] = "INTR",
	[KVM_EXIT_SET_TPR] = "SET_TPR",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
	[KVM_EXIT_SYSTEM_EVENT] = "SYSTEM_EVENT",
};

const char *vm_exit_name(int reason)
{
	if (reason < 0)
		return strerror(-reason);
	if ((size_t)reason < ARRAY_LEN(exit_names) && exit_names[reason])
		return exit_names[reason];
	return "?";
}

static void dump_exit(struct kvm_run *run)
{
	u32 i;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		ktap_diag("io: dir %u size %u port %#x count %u", run->io.direction, run->io.size,
			  run->io.port, run->io.count);
		break;
	case KVM_EXIT_MMIO:
		ktap_diag("mmio: addr %#llx len %u write %u",
			  (unsigned long long)run->mmio.phys_addr, run->mmio.len,
			  run->mmio.is_write);
		break;
	case KVM_EXIT_UNKNOWN:
		ktap_diag("hardware exit reason %#llx",
			  (unsigned long long)run->hw.hardware_exit_reason);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		ktap_diag("hardware entry failure reason %#llx",
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		ktap_diag("suberror %u ndata %u", run->internal.suberror, run->internal.ndata);
		for (i = 0; i < run->internal.ndata && i < 16; i++)
			ktap_diag("  data[%u] %#llx", i, (unsigned long long)run->internal.data[i]);
		break;
	}
}

void vcpu_dump(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	dump_exit(vcpu->run);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) || ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return;
	ktap_diag("rip %#llx rsp %#llx rflags %#llx rax %#llx rbx %#llx rcx %#llx rdx %#llx", r.rip,
		  r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx);
	ktap_diag("rsi %#llx rdi %#llx cr0 %#llx cr2 %#llx cr3 %#llx cr4 %#llx efer %#llx", r.rsi,
		  r.rdi, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
	ktap_diag("cs %#x base %#llx limit %#x db %u l %u dpl %u ss %#x dpl %u", s.cs.selector,
		  s.cs.base, s.cs.limit, s.cs.db, s.cs.l, s.cs.dpl, s.ss.selector, s.ss.dpl);
}

void vcpu_expect(struct vcpu *vcpu, u32 reason)
{
	int got = vcpu_run(vcpu);

	if (got != (int)reason) {
		vcpu_dump(vcpu);
		ktap_fail(__FILE__, __LINE__, "exit %d (%s), expected %u (%s)", got,
			  vm_exit_name(got), reason, vm_exit_name(reason));
	}
}

static u64 io_value(struct kvm_run *run)
{
	u64 val = 0;

	memcpy(&val, (char *)run + run->io.data_offset, run->io.size);
	return val;
}

u64 vcpu_expect_out(struct vcpu *vcpu, u16 port, int size)
{
	struct kvm_run *run = vcpu->run;

	vcpu_expect(vcpu, KVM_EXIT_IO);
	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.port != port || run->io.size != size ||
	    run->io.count != 1) {
		vcpu_dump(vcpu);
		ktap_fail(__FILE__, __LINE__, "expected OUT of %d to port %#x", size, port);
	}
	return io_value(run);
}

void vcpu_complete(struct vcpu *vcpu)
{
	int got;

	vcpu->run->immediate_exit = 1;
	got = vcpu_run(vcpu);
	vcpu->run->immediate_exit = 0;
	CHECKF(got == -EINTR, "%s", vm_exit_name(got));
}

static void guest_failed(struct vcpu *vcpu, struct kvm_regs *r)
{
	const char *text = vm_hva(vcpu->vm, r->rdi);

	vcpu_dump(vcpu);
	ktap_fail("guest", r->rsi, "%s (%#llx, %#llx)", text, r->rbx, r->rcx);
}

bool vcpu_guest_event(struct vcpu *vcpu, u64 *val)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;

	if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT ||
	    run->io.size != 4)
		return false;
	vcpu_get_regs(vcpu, &regs);
	if (run->io.port == GUEST_PORT_FAIL)
		guest_failed(vcpu, &regs);
	*val = regs.rdi;
	return run->io.port == GUEST_PORT;
}

u64 vcpu_run_guest(struct vcpu *vcpu)
{
	int got = vcpu_run(vcpu);
	u64 val;

	if (got == KVM_EXIT_IO && vcpu_guest_event(vcpu, &val))
		return val;
	vcpu_dump(vcpu);
	ktap_fail(__FILE__, __LINE__, "exit %d (%s) instead of guest_sync()", got,
		  vm_exit_name(got));
}

void vcpu_get_regs(struct vcpu *vcpu, struct kvm_regs *regs)
{
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_REGS, regs));
}

void vcpu_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs)
{
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_REGS, regs));
}

void vcpu_get_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs)
{
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_SREGS, sregs));
}

void vcpu_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs)
{
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SREGS, sregs));
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

bool vcpu_try_get_msr(struct vcpu *vcpu, u32 index, u64 *value)
{
	struct one_msr msr = { .head.nmsrs = 1, .entry.index = index };

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) != 1)
		return false;
	*value = msr.entry.data;
	return true;
}

bool vcpu_try_set_msr(struct vcpu *vcpu, u32 index, u64 value)
{
	struct one_msr msr = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return ioctl(vcpu->fd, KVM_SET_MSRS, &msr) == 1;
}

u64 vcpu_get_msr(struct vcpu *vcpu, u32 index)
{
	u64 value = 0;

	CHECKF(vcpu_try_get_msr(vcpu, index, &value), "MSR %#x", index);
	return value;
}

void vcpu_set_msr(struct vcpu *vcpu, u32 index, u64 value)
{
	CHECKF(vcpu_try_set_msr(vcpu, index, value), "MSR %#x to %#llx", index,
	       (unsigned long long)value);
}

int host_msr_open(void)
{
	cpu_set_t set;
	int fd;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	CHECK_OK(sched_setaffinity(0, sizeof(set), &set));
	fd = open("/dev/cpu/0/msr", O_RDWR | O_CLOEXEC);
	if (fd < 0 && !system("modprobe -q msr"))
		fd = open("/dev/cpu/0/msr", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		ktap_skip("no /dev/cpu/0/msr (modprobe msr)");
	return fd;
}

static u64 state;

void test_random_seed(u64 seed)
{
	state = seed * 0x9e3779b97f4a7c15ULL;
}

u64 test_random(void)
{
	if (!state) {
		const char *seed = getenv("TEST_SEED");

		state = seed ? strtoull(seed, NULL, 0) : 0x9e3779b97f4a7c15ULL;
	}
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}
