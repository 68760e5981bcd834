// SPDX-License-Identifier: GPL-2.0
/* Port I/O: IN and OUT go to a device here or to userspace, the string forms to the emulator. */
#include "svm/io.h"

/* IN from an in-kernel device; false where userspace has the port. */
bool port_in_kernel_read(struct vcpu *v, u16 port, unsigned int size, u32 *val)
{
	return irqchip_has_port(port) && irqchip_full(&v->vm->irqchip) &&
	       irqchip_port_read(&v->vm->irqchip, port, size, val);
}

/* OUT to an in-kernel device or an ioeventfd; false where userspace has the port. */
bool port_in_kernel_write(struct vcpu *v, u16 port, unsigned int size, const void *data)
{
	u32 val = 0;

	memcpy(&val, data, size);
	if (irqchip_has_port(port) && irqchip_full(&v->vm->irqchip) &&
	    irqchip_port_write(&v->vm->irqchip, port, size, val)) {
		v->check_events = true;		/* an EOI to the PIC may free the next interrupt */
		return true;
	}
	return v->vm->ioevent_write && v->vm->ioevent_write(v->vm, true, port, size, data);
}

/* KVM_EXIT_IO; for OUT the data is in v->pio_data already. */
enum vcpu_next port_to_user(struct vcpu *v, u16 port, unsigned int size, bool in,
			    unsigned int count)
{
	struct kvm_run *run = v->run;
	struct vcpu_io *io = v->io;

	io->size = size;
	io->in = in;
	io->count = count;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = PAGE_SIZE;
	return vcpu_exit(v, KVM_EXIT_IO);
}

/* EXITINFO1 names port, size and direction, EXITINFO2 the next RIP (APM vol. 2, 15.10.2). */
enum vcpu_next exit_ioio(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	u32 info = c->exit_info_1;
	unsigned int size = (info >> IOIO_SIZE_SHIFT) & 7;
	u16 port = info >> IOIO_PORT_SHIFT;
	bool in = info & IOIO_IN, served;
	u32 val = 0;

	if (unlikely(info & IOIO_STR))
		return emulate(v, EMULATE_NO_GPA, false);
	if (in) {
		served = port_in_kernel_read(v, port, size, &val);
		if (served)
			reg_write_sized(v, REG_RAX, val, size);
	} else {
		val = v->vmcb->save.rax;
		served = port_in_kernel_write(v, port, size, &val);
		if (!served)
			memcpy(v->pio_data, &val, size);
	}
	if (served) {
		insn_advance(v, c->exit_info_2);
		return NEXT_GUEST;
	}
	v->io->reg = REG_RAX;
	io_wait(v, IO_PORT, c->exit_info_2);
	return port_to_user(v, port, size, in, 1);
}

/* Userspace has answered: finishes the instruction. May need userspace again. */
enum vcpu_next io_complete(struct vcpu *v)
{
	struct vcpu_io *io = v->io;
	enum io_state state = io->state;
	u64 val = 0;

	if (state >= IO_EMUL_READ)
		return mmio_complete(v);
	io->state = IO_NONE;
	if (v->vmcb->save.rip != io->rip)	/* reset or moved by userspace meanwhile */
		return NEXT_GUEST;
	if (state == IO_MSR)
		return msr_complete(v);
	if (state == IO_HYPERCALL)
		return hypercall_complete(v);
	if (io->in) {
		memcpy(&val, state == IO_PORT ? v->pio_data : v->run->mmio.data, sizeof(val));
		reg_write_sized(v, io->reg, val, io->size);
	}
	insn_advance(v, io->next_rip);
	return NEXT_GUEST;
}
