// SPDX-License-Identifier: GPL-2.0
/* The life of one vCPU: enter the guest, serve what it came out for, again. */
#include <stdarg.h>

#include "vm.h"

/* Ends the VM with a message, where the guest stood, and what to do. */
static void __attribute__((format(printf, 4, 5)))
give_up(struct vcpu *vcpu, enum vm_state state, int exit_code, const char *format, ...)
{
	char what[512], where[256] = "registers unreadable";
	struct kvm_sregs s;
	struct kvm_regs r;
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (!ioctl(vcpu->fd, KVM_GET_REGS, &r) && !ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		snprintf(where, sizeof(where),
			 "CS:RIP %04x:%016llx RSP %016llx CR0 %llx CR3 %llx CR4 %llx EFER %llx",
			 s.cs.selector, r.rip, r.rsp, s.cr0, s.cr3, s.cr4, s.efer);
	vm_stop(vcpu->vm, state, exit_code, "%s\nvCPU %u at %s%s", what, vcpu->id, where,
		exit_code == EXIT_HYPERVISOR ? "\nSee 'dmesg | grep svm', and report a bug." : "");
}

/* Says with the error what came with it: the bytes that could not be decoded, or numbers. */
static void internal_error(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	bool emulation = run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
	bool bytes = emulation && run->internal.ndata >= 3 && (run->internal.data[0] & 1);
	char text[400] = "";

	for (unsigned int i = 0, n = 0; i < (bytes ? 15 : run->internal.ndata) && i < 16; i++)
		n += snprintf(text + n, sizeof(text) - n, bytes ? " %02llx" : " %#llx",
			      bytes ? run->emulation_failure.insn_bytes[i] : run->internal.data[i]);
	give_up(vcpu, VM_FAILED, EXIT_HYPERVISOR, "internal error %u%s:%s", run->internal.suberror,
		emulation ? ", an instruction that cannot be emulated" : "", text);
}

static void serve_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		pthread_mutex_lock(&vm->lock);
		for (unsigned int i = 0; i < run->io.count; i++)
			port_access(vm, run->io.port, run->io.direction == KVM_EXIT_IO_OUT,
				    data + i * run->io.size, run->io.size);
		pthread_mutex_unlock(&vm->lock);
		break;
	case KVM_EXIT_MMIO:
		if (!mmio_access(vm, run->mmio.phys_addr, run->mmio.is_write, run->mmio.data,
				 run->mmio.len))
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		break;
	case KVM_EXIT_HLT:
		vm_stop(vm, VM_POWEROFF, EXIT_OK, "the guest halted");
		break;
	case KVM_EXIT_SHUTDOWN:
		give_up(vcpu, VM_TRIPLE_FAULT, EXIT_TRIPLE_FAULT, "the guest's triple fault");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		give_up(vcpu, VM_FAILED, EXIT_HYPERVISOR,
			"the processor refused to enter the guest (FAIL_ENTRY, reason %#llx)",
			run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(vcpu);
		break;
	default:
		give_up(vcpu, VM_FAILED, EXIT_HYPERVISOR,
			"the guest left for an unknown reason (KVM exit %u, hardware code %#llx)",
			run->exit_reason, run->hw.hardware_exit_reason);
	}
}

/* A vCPU's thread. EINTR: our own kick or a debugger's; EAGAIN: the guest has not started this CPU. */
void *vcpu_loop(void *arg)
{
	struct vcpu *vcpu = arg;

	while (vcpu->vm->state == VM_RUNNING) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0))
			serve_exit(vcpu);
		else if (errno == EFAULT)
			give_up(vcpu, VM_FAILED, EXIT_HOST, "no memory for the guest on the host");
		else if (errno != EINTR && errno != EAGAIN)
			give_up(vcpu, VM_FAILED, EXIT_HYPERVISOR, "KVM_RUN: %s", strerror(errno));
	}
	return NULL;
}
