// SPDX-License-Identifier: GPL-2.0
/* Making, starting and ending a virtual machine. */
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "vm.h"

#define HUGE_SIZE (2ul << 20)

/* An ioctl that has to succeed; @what completes the message "cannot ...". */
int vm_ioctl(int fd, unsigned long request, void *arg, const char *what)
{
	return ioctl(fd, request, arg) < 0 ? complain("cannot %s: %s", what, strerror(errno)) : 0;
}

/* Aligned to 2 MiB on both sides, so that huge pages can back it. */
static int map_ram(struct vm *vm)
{
	const struct vm_options *o = vm->options;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (o->hugetlb ? MAP_HUGETLB : MAP_NORESERVE);

	vm->mapping_size = o->memory + (o->hugetlb ? 0 : HUGE_SIZE);
	vm->mapping = mmap(NULL, vm->mapping_size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (vm->mapping == MAP_FAILED)
		return complain("cannot map guest memory: %s%s", strerror(errno),
				o->hugetlb ? "; see /proc/sys/vm/nr_hugepages" : "");
	vm->ram = (uint8_t *)(((uintptr_t)vm->mapping + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	madvise(vm->ram, o->memory, MADV_HUGEPAGE);
	vm->low_size = o->memory < LOW_RAM_END ? o->memory : LOW_RAM_END;
	return 0;
}

static int add_ram(struct vm *vm)
{
	uint64_t at = (uintptr_t)vm->ram, low = vm->low_size, high = vm->options->memory - low;
	struct kvm_userspace_memory_region slots[] = {
		{ .slot = 0, .memory_size = low, .userspace_addr = at },
		{ 1, 0, HIGH_RAM_START, high, at + low },
	};

	return vm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slots[0], "give out memory") ||
	       (high && vm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slots[1], "give out more"));
}

/*
 * Where guest-physical @address is in our memory; NULL unless all @size bytes from there are RAM.
 */
void *vm_memory(const struct vm *vm, uint64_t address, uint64_t size)
{
	uint64_t high = vm->options->memory - vm->low_size, offset = address - HIGH_RAM_START;

	if (address < vm->low_size && size <= vm->low_size - address)
		return vm->ram + address;
	if (address >= HIGH_RAM_START && offset < high && size <= high - offset)
		return vm->ram + vm->low_size + offset;
	return NULL;
}

/* A bare binary does without interrupt controllers: only so does its HLT come back to us. */
static int create_irqchip(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t map = IDENTITY_MAP;

	if (vm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDR, "place the TSS") ||
	    vm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &map, "place the identity map"))
		return EXIT_HOST;
	return !vm->options->flat.data &&
	       (vm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL, "create the interrupt controllers") ||
		vm_ioctl(vm->fd, KVM_CREATE_PIT2, &pit, "create the timer (PIT)"));
}

/* As firmware leaves it: LINT0 takes the 8259's interrupt on the first CPU, LINT1 is NMI. */
static int setup_lapic(struct vcpu *vcpu)
{
	const uint32_t lint0 = vcpu->id ? 0x10700 : 0x700, lint1 = 0x400;
	struct kvm_lapic_state apic;

	if (vcpu->vm->options->flat.data)
		return 0;
	if (vm_ioctl(vcpu->fd, KVM_GET_LAPIC, &apic, "read a local APIC"))
		return EXIT_HOST;
	memcpy(apic.regs + 0x350, &lint0, sizeof(lint0));
	memcpy(apic.regs + 0x360, &lint1, sizeof(lint1));
	return vm_ioctl(vcpu->fd, KVM_SET_LAPIC, &apic, "set a local APIC");
}

static int create_vcpu(struct vm *vm, unsigned int id)
{
	struct vcpu *vcpu = &vm->vcpus[id];

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	if (vcpu->fd < 0)
		return complain("cannot create vCPU %u: %s", id, strerror(errno));
	vm->nr_vcpus = id + 1;
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		return complain("cannot map the shared page of vCPU %u: %s", id, strerror(errno));
	return setup_lapic(vcpu) || cpuid_install(vcpu);
}

static int open_device(struct vm *vm)
{
	const char *path = vm->options->device;

	vm->dev = open(path, O_RDWR | O_CLOEXEC);
	if (vm->dev >= 0) {
		vm->fd = ioctl(vm->dev, KVM_CREATE_VM, 0);
		vm->run_size = ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
		if (vm->fd >= 0 && vm->run_size > 0)
			return 0;
	}
	return complain("cannot %s %s: %s\n'svmctl check --device %s' says what to do",
			vm->dev < 0 ? "open" : "use", path, strerror(errno), path);
}

/* Makes a VM with all but a guest in memory. vm_destroy() is due even if this fails. */
int vm_create(struct vm *vm, const struct vm_options *options)
{
	pthread_mutexattr_t attr;
	int err;

	memset(vm, 0, sizeof(*vm));
	vm->options = options;
	vm->dev = vm->fd = -1;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE); /* devices call vm_stop() */
	pthread_mutex_init(&vm->lock, &attr);
	pthread_cond_init(&vm->output.room, NULL);
	vm->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = vm->event < 0 && complain("no eventfd: %s", strerror(errno));
	err = err || open_device(vm) || map_ram(vm) || add_ram(vm) || create_irqchip(vm) ||
	      cpuid_read(vm);
	for (unsigned int i = 0; !err && i < options->cpus; i++)
		err = create_vcpu(vm, i);
	for (unsigned int i = 0; !err && i < options->nr_devices; i++)
		err = options->devices[i].create(vm, &options->devices[i]);
	return err;
}

void vm_destroy(struct vm *vm)
{
	virtio_destroy_all(vm);
	for (unsigned int i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i].run != MAP_FAILED)
			munmap(vm->vcpus[i].run, vm->run_size);
		close(vm->vcpus[i].fd);
	}
	close(vm->fd); /* what never opened is -1, which does no harm here */
	close(vm->dev);
	close(vm->event);
	if (vm->ram)
		munmap(vm->mapping, vm->mapping_size);
}

/* Runs the vCPUs in threads of their own and the console in this one, until the VM stops. */
void vm_run(struct vm *vm)
{
	unsigned int n;

	for (n = 0; n < vm->nr_vcpus; n++) {
		int err = pthread_create(&vm->vcpus[n].thread, NULL, vcpu_loop, &vm->vcpus[n]);

		if (err) {
			vm_stop(vm, VM_FAILED, EXIT_HOST, "no thread: %s", strerror(err));
			break;
		}
	}
	console_loop(vm);
	while (n--) {
		vm->vcpus[n].run->immediate_exit = 1; /* it may be just about to enter the guest */
		pthread_kill(vm->vcpus[n].thread, SIGUSR1);
		pthread_join(vm->vcpus[n].thread, NULL);
	}
	virtio_destroy_all(vm);
	console_flush(vm); /* their last words */
}

/* Lets the VM end. The first reason counts; it is shown once the terminal is itself again. */
void vm_stop(struct vm *vm, enum vm_state state, int exit_code, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&vm->lock);
	if (vm->state == VM_RUNNING) {
		va_start(args, format);
		vsnprintf(vm->report, sizeof(vm->report), format, args);
		va_end(args);
		vm->exit_code = exit_code;
		vm->state = state;
		pthread_cond_broadcast(&vm->output.room);
		eventfd_write(vm->event, 1);
	}
	pthread_mutex_unlock(&vm->lock);
}

void vm_irq(struct vm *vm, unsigned int irq, bool level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	if (!vm->options->flat.data && ioctl(vm->fd, KVM_IRQ_LINE, &line))
		vm_stop(vm, VM_FAILED, EXIT_HOST, "no interrupt %u: %s", irq, strerror(errno));
}
