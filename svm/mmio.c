// SPDX-License-Identifier: GPL-2.0
/*
 * #NPF, and the instructions that must be emulated because of it (or because they are string I/O):
 * joins the emulator to guest memory, the in-kernel devices and userspace.
 *
 * An instruction that reads from userspace is run again from its start when the answer has come,
 * from the bytes decoded the first time; what it has read by MMIO already is replayed. Its MMIO
 * writes are posted and leave after it has retired, so it is never run twice past a side effect.
 */
#include "svm/io.h"
#include "uapi/svm.h"

/* --- devices --- */

static bool lapic_page(struct vcpu *v, u64 gpa)
{
	return v->apic && !((READ_ONCE(v->apic->base) ^ gpa) & PAGE_MASK);
}

static bool lapic_answers(struct vcpu *v)
{
	return (READ_ONCE(v->apic->base) & MSR_IA32_APICBASE_ENABLE) && !lapic_x2apic(v->apic);
}

/*
 * APIC registers are 32 bits wide on 16-byte boundaries (APM vol. 2, 16.3.2); narrower and
 * unaligned reads see the bytes that are there, other accesses none. The page of an APIC that is
 * off or in x2APIC mode is a hole, unless memory lies there: what a VMM has behind it, like a
 * window for MSIs, is not the guest's CPU's to reach.
 */
static bool device_read(struct vcpu *v, u64 gpa, void *data, unsigned int len)
{
	if (lapic_page(v, gpa)) {
		u32 offset = gpa & ~PAGE_MASK, val;

		if (!lapic_answers(v)) {
			memset(data, 0xff, len);
			return true;
		}
		memset(data, 0, len);
		if ((offset & 15) + len <= 4) {
			val = lapic_mmio_read(v->apic, offset & ~15) >> (8 * (offset & 3));
			memcpy(data, &val, len);
		}
		return true;
	}
	return irqchip_full(&v->vm->irqchip) &&
	       ioapic_mmio_read(&v->vm->irqchip, gpa, len, data);
}

static bool device_write(struct vcpu *v, u64 gpa, const void *data, unsigned int len)
{
	if (lapic_page(v, gpa)) {
		u32 offset = gpa & ~PAGE_MASK, val;

		if (len == 4 && !(offset & 15) && lapic_answers(v)) {
			memcpy(&val, data, 4);
			lapic_mmio_write(v->apic, offset, val);
			v->check_events = true;
		}
		return true;
	}
	if (irqchip_full(&v->vm->irqchip) &&
	    ioapic_mmio_write(&v->vm->irqchip, gpa, len, data)) {
		v->check_events = true;
		return true;
	}
	return v->vm->ioevent_write && v->vm->ioevent_write(v->vm, false, gpa, len, data);
}

/* --- the emulator's view of memory --- */

static enum emul_status walk(struct emul *e, u64 addr, u32 access, u64 *gpa)
{
	u32 error_code;
	int r = guest_walk(e->opaque, addr, access | (e->cpl == 3 ? WALK_USER : 0), gpa,
			   &error_code);

	if (r && r != -EAGAIN)
		return emul_set_fault(e, X86_TRAP_PF, true, error_code, addr);
	return r ? EMUL_RETRY : EMUL_DONE;
}

/* GVA to GPA in one page; the #NPF's own address is taken where it is this access's. */
static enum emul_status translate_page(struct emul *e, u64 addr, u32 access, u64 *gpa)
{
	const struct vcpu_io *io = ((struct vcpu *)e->opaque)->io;
	u64 known = io->gpa;

	/* Not for a write if it was a read that faulted: the bytes may have been changed since. */
	if (known == EMULATE_NO_GPA || ((addr ^ known) & ~PAGE_MASK) ||
	    ((access & WALK_WRITE) && !io->store))
		return walk(e, addr, access, gpa);
	*gpa = known;
	return EMUL_DONE;
}

/* A data access, which may straddle two pages: both must permit it. */
static enum emul_status translate(struct emul *e, u64 addr, unsigned int len, u32 access,
				  u64 gpa[2])
{
	unsigned int n = min_t(u64, len, PAGE_SIZE - (addr & ~PAGE_MASK));
	enum emul_status st = translate_page(e, addr, access, &gpa[0]);

	if (st == EMUL_DONE && n < len)
		st = translate_page(e, addr + n, access, &gpa[1]);
	return st;
}

/* Memory that a slot has, but can't be reached: not now, or not at all. */
static enum emul_status out_of_reach(struct vcpu *v)
{
	return v->can_sleep ? EMUL_UNHANDLED : EMUL_RETRY;
}

static enum emul_status op_fetch(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	struct vcpu *v = e->opaque;
	u64 gpa;
	enum emul_status st = walk(e, addr, WALK_FETCH, &gpa);

	return st == EMUL_DONE && guest_access(v, gpa, buf, len, false) ? out_of_reach(v) : st;
}

static enum emul_status mmio_read(struct vcpu *v, u64 gpa, void *buf, unsigned int len)
{
	struct vcpu_io *io = v->io;
	struct io_fragment *f;

	if (io->reads_key != io->emul.regs[EMUL_RCX]) {
		io->reads_key = io->emul.regs[EMUL_RCX];
		io->nr_reads = 0;
		io->next_read = 0;
	}
	if (io->next_read == io->nr_reads) {	/* not answered yet */
		/* What an earlier iteration has posted leaves first. */
		if (io->nr_writes || io->pio_out)
			return EMUL_RETRY;
		if (io->nr_reads >= IO_MAX_READS)
			return EMUL_UNHANDLED;
		f = &io->reads[io->nr_reads];
		f->gpa = gpa;
		f->len = len;
		if (!device_read(v, gpa, f->data, len)) {
			io->state = IO_EMUL_READ;
			return EMUL_IO;
		}
		io->nr_reads++;
	}
	f = &io->reads[io->next_read++];
	if (f->gpa != gpa || f->len != len)
		return EMUL_RETRY;	/* remapped meanwhile */
	memcpy(buf, f->data, len);
	return EMUL_DONE;
}

static enum emul_status mmio_write(struct vcpu *v, u64 gpa, const void *buf, unsigned int len)
{
	struct vcpu_io *io = v->io;
	struct io_fragment *f;

	/* What an earlier iteration has posted leaves first. */
	if (io->nr_writes && io->writes_key != io->emul.regs[EMUL_RCX])
		return EMUL_RETRY;
	io->writes_key = io->emul.regs[EMUL_RCX];
	if (io->nr_writes >= IO_MAX_WRITES)
		return EMUL_UNHANDLED;
	f = &io->writes[io->nr_writes++];
	f->gpa = gpa;
	f->len = len;
	memcpy(f->data, buf, len);
	return EMUL_DONE;
}

/* Is gpa guest memory that permits the access, seen from the slots? */
static bool is_memory(struct vcpu *v, u64 gpa, bool write)
{
	struct memslot *s;

	if (lapic_page(v, gpa) && lapic_answers(v))
		return false;
	s = mem_slot(&v->vm->mem, gpa >> PAGE_SHIFT);
	return s && !(write && (s->flags & KVM_MEM_READONLY));
}

/* In pieces that lie in one page and, of devices, are at most 8 bytes. */
static enum emul_status data_access(struct emul *e, u64 addr, void *buf, unsigned int len,
				    bool write)
{
	struct vcpu *v = e->opaque;
	u64 pages[2] = {}, gpa;
	enum emul_status st = translate(e, addr, len, write ? WALK_WRITE : 0, pages);
	unsigned int n;

	for (gpa = pages[0]; st == EMUL_DONE && len; len -= n, buf += n, gpa += n) {
		n = min_t(u64, len, PAGE_SIZE - (gpa & ~PAGE_MASK));
		if (is_memory(v, gpa, write)) {
			if (guest_access(v, gpa, buf, n, write))
				return out_of_reach(v);
		} else {
			n = min(n, 8u);
			st = write ? mmio_write(v, gpa, buf, n) : mmio_read(v, gpa, buf, n);
		}
		if (!((gpa + n) & ~PAGE_MASK))
			gpa = pages[1] - n;
	}
	return st;
}

static enum emul_status op_read(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	return data_access(e, addr, buf, len, false);
}

static enum emul_status op_write(struct emul *e, u64 addr, const void *buf, unsigned int len)
{
	return data_access(e, addr, (void *)buf, len, true);
}

static enum emul_status op_cas(struct emul *e, u64 addr, const void *old, const void *new,
			       unsigned int len)
{
	struct vcpu *v = e->opaque;
	u64 gpa, o = 0, n = 0;
	enum emul_status st = translate_page(e, addr, WALK_WRITE, &gpa);
	int r;

	if (st != EMUL_DONE)
		return st;
	/* Where it goes to a device, or straddles pages, there is no atomicity to keep. */
	if (len > 8 || (gpa & (len - 1)) || !is_memory(v, gpa, true))
		return op_write(e, addr, new, len);
	if (!v->can_sleep)
		return EMUL_RETRY;
	memcpy(&o, old, len);
	memcpy(&n, new, len);
	r = mem_cmpxchg(&v->vm->mem, gpa, &o, n, len);
	if (r < 0)
		return EMUL_UNHANDLED;
	return r ? EMUL_RETRY : EMUL_DONE;
}

static enum emul_status op_probe_write(struct emul *e, u64 addr, unsigned int len)
{
	u64 gpa[2];

	return translate(e, addr, len, WALK_WRITE, gpa);
}

/* --- the emulator's view of ports --- */

static enum emul_status op_pio_in(struct emul *e, u16 port, unsigned int size, void *buf,
				  unsigned int *count)
{
	struct vcpu *v = e->opaque;
	struct vcpu_io *io = v->io;
	u32 val;

	if (io->pio_ready) {
		io->pio_ready = false;
		*count = min(*count, io->count);
		memcpy(buf, v->pio_data, *count * size);
		return EMUL_DONE;
	}
	/* What the last iteration wrote to a device leaves before this one takes from the port. */
	if (io->nr_writes)
		return EMUL_RETRY;
	if (port_in_kernel_read(v, port, size, &val)) {
		memcpy(buf, &val, size);
		*count = 1;
		return EMUL_DONE;
	}
	*count = min_t(unsigned int, *count, PAGE_SIZE / size);
	port_to_user(v, port, size, true, *count);
	io->state = IO_EMUL_PIO;
	return EMUL_IO;
}

/* Posted like an MMIO write: the exit follows when the batch has retired. */
static enum emul_status op_pio_out(struct emul *e, u16 port, unsigned int size, const void *buf,
				   unsigned int *count)
{
	struct vcpu *v = e->opaque;
	struct vcpu_io *io = v->io;

	if (io->pio_out)
		return EMUL_RETRY;
	if (port_in_kernel_write(v, port, size, buf)) {
		*count = 1;
		return EMUL_DONE;
	}
	*count = min_t(unsigned int, *count, PAGE_SIZE / size);
	memcpy(v->pio_data, buf, *count * size);
	port_to_user(v, port, size, false, *count);
	io->pio_out = true;
	return EMUL_DONE;
}

/*
 * The intercept comes after the check of the TSS's bitmap (APM vol. 2, 15.10.1): what was checked
 * is in EXITINFO1. An instruction that has been put in its place meanwhile is executed anew.
 */
static enum emul_status op_pio_allowed(struct emul *e, u16 port, unsigned int size)
{
	const struct vmcb_control *c = &((struct vcpu *)e->opaque)->vmcb->control;
	u32 info = c->exit_info_1;

	return c->exit_code == VMEXIT_IOIO && (info & IOIO_STR) && port == info >> IOIO_PORT_SHIFT &&
	       size == ((info >> IOIO_SIZE_SHIFT) & 7) ? EMUL_DONE : EMUL_RETRY;
}

static const struct emul_ops emul_ops = {
	.fetch = op_fetch,
	.read = op_read,
	.write = op_write,
	.cas = op_cas,
	.probe_write = op_probe_write,
	.pio_in = op_pio_in,
	.pio_out = op_pio_out,
	.pio_allowed = op_pio_allowed,
};

/* --- running the emulator --- */

/* The VMCB's segments and tables are what the emulator has. */
static_assert(sizeof(struct emul_seg) == sizeof(struct vmcb_seg));
static_assert(offsetof(struct emul_seg, attr) == offsetof(struct vmcb_seg, attrib));
static_assert(offsetof(struct emul_seg, limit) == offsetof(struct vmcb_seg, limit));
static_assert(offsetof(struct emul_seg, base) == offsetof(struct vmcb_seg, base));
static_assert(offsetof(struct vmcb_save, gdtr) == EMUL_GDTR * sizeof(struct emul_seg));
static_assert(offsetof(struct vmcb_save, tr) == EMUL_TR * sizeof(struct emul_seg));

static void load_regs(struct vcpu *v)
{
	u64 *regs = v->io->emul.regs;

	memcpy(regs, v->regs, sizeof(v->io->emul.regs));
	regs[REG_RAX] = v->vmcb->save.rax;
	regs[REG_RSP] = v->vmcb->save.rsp;
}

static void emul_load(struct vcpu *v)
{
	const struct vmcb_save *s = &v->vmcb->save;
	struct emul *e = &v->io->emul;

	load_regs(v);
	e->rip = s->rip;
	e->rflags = s->rflags;
	e->mode = cpu_mode(v);
	e->cpl = s->cpl;
	e->lma = s->efer & EFER_LMA;
	e->cr0 = s->cr0;
	e->cr4 = s->cr4;
	/* During a stay they are in the processor: NEXT_SLEEP brings us back without it. */
	e->fx = v->can_sleep ? fpu_image(v) : NULL;
	memcpy(e->segs, s, sizeof(e->segs));
	e->ops = &emul_ops;
	e->opaque = v;
}

/* Registers back; retired instructions end the interrupt shadow and take their single-step trap. */
static void emul_store(struct vcpu *v)
{
	struct vmcb_save *s = &v->vmcb->save;
	struct emul *e = &v->io->emul;
	bool retired = e->rip != s->rip;

	memcpy(v->regs, e->regs, sizeof(e->regs));
	s->rax = e->regs[REG_RAX];
	s->rsp = e->regs[REG_RSP];
	s->rflags = e->rflags;
	if (e->system) {
		memcpy(s, e->segs, sizeof(e->segs));
		vmcb_dirty(v, CLEAN_SEG);
		e->system = false;
	}
	if (e->shadow) {	/* MOV SS: no single-step trap before the next instruction */
		s->rip = e->rip;
		v->vmcb->control.int_state |= INT_STATE_SHADOW;
		e->shadow = false;
	} else if (retired) {
		insn_advance(v, e->rip);
	}
}

static enum vcpu_next mmio_to_user(struct vcpu *v, u64 gpa, unsigned int len, u64 data, bool write)
{
	struct kvm_run *run = v->run;

	run->mmio.phys_addr = gpa;
	run->mmio.len = len;
	run->mmio.is_write = write;
	memcpy(run->mmio.data, &data, sizeof(data));
	return vcpu_exit(v, KVM_EXIT_MMIO);
}

/* Posted writes, one exit each; devices in the kernel take theirs here. */
static enum vcpu_next post_writes(struct vcpu *v)
{
	struct vcpu_io *io = v->io;

	while (io->next_write < io->nr_writes) {
		const struct io_fragment *f = &io->writes[io->next_write++];
		u64 data = 0;

		if (device_write(v, f->gpa, f->data, f->len))
			continue;
		io->state = IO_EMUL_WRITE;
		memcpy(&data, f->data, f->len);
		return mmio_to_user(v, f->gpa, f->len, data, true);
	}
	io->nr_writes = 0;
	io->next_write = 0;
	io->state = io->pio_out ? IO_EMUL_WRITE : IO_NONE;
	if (!io->pio_out)
		return NEXT_GUEST;
	io->pio_out = false;
	return NEXT_USER;	/* kvm_run was filled when the data was taken */
}

/* Posted writes of an iteration that did not retire never happened. */
static void drop_unretired_writes(struct vcpu_io *io)
{
	if (io->nr_writes && io->writes_key == io->emul.regs[EMUL_RCX])
		io->nr_writes = 0;
}

/*
 * Only where an instruction accesses one address is it the one that #NPF has translated. PUSH, POP
 * and CALL have the stack as well, loads of segment registers and far jumps the descriptor table.
 */
static bool one_operand(const struct emul_insn *in)
{
	return in->mem_valid && (in->map ? in->opcode != 0x00 :
				 in->opcode != 0x8e && in->opcode != 0x8f && in->opcode != 0xff);
}

/* What the emulator can't do is userspace's to know; but user code must not end the VM by it. */
static bool failure_is_ud(struct vcpu *v)
{
	return v->can_sleep && v->vmcb->save.cpl && !READ_ONCE(v->vm->emulation_exits);
}

static enum vcpu_next emul_step(struct vcpu *v)
{
	struct vcpu_io *io = v->io;
	struct emul *e = &io->emul;
	u64 rip = e->rip;
	enum emul_status st;

	io->next_read = 0;
	st = e->insn.len ? EMUL_DONE : emul_decode(e);
	if (st == EMUL_DONE) {
		if (!one_operand(&e->insn))
			io->gpa = EMULATE_NO_GPA;
		st = emul_run(e);
	}
	if (st == EMUL_UNHANDLED && failure_is_ud(v))
		st = emul_set_fault(e, X86_TRAP_UD, false, 0, 0);
	switch (st) {
	case EMUL_DONE:
		emul_store(v);
		return post_writes(v);
	case EMUL_IO:
		if (io->state == IO_EMUL_READ)
			return mmio_to_user(v, io->reads[io->nr_reads].gpa,
					    io->reads[io->nr_reads].len, 0, false);
		/* INS: kvm_run is filled. Userspace sees, and may change, how far it is. */
		emul_store(v);
		return NEXT_USER;
	case EMUL_RETRY:
		/* Iterations that retired count; what they posted leaves now. */
		emul_store(v);
		drop_unretired_writes(io);
		if (io->nr_writes || io->pio_out)
			return post_writes(v);
		return v->can_sleep ? NEXT_OUTER : NEXT_SLEEP;
	case EMUL_FAULT:
		e->rip = rip;
		emul_store(v);
		drop_unretired_writes(io);
		if (e->vector == X86_TRAP_PF) {
			v->vmcb->save.cr2 = e->fault_addr;
			vmcb_dirty(v, CLEAN_CR2);
		}
		raise(v, e->vector, e->error_code);
		return post_writes(v);
	default:
		return exit_internal_error(v);
	}
}

/* Does this access begin at a page? #NPF there may be of one that began before. False if unsure. */
static bool begins_page(struct vcpu *v, const u8 *bytes, const struct emul_mov *m, bool long64)
{
	unsigned int mod = bytes[m->modrm] >> 6, rm = bytes[m->modrm] & 7, index;
	const u8 *disp = bytes + m->modrm + 1;
	const struct vmcb_save *s = &v->vmcb->save;
	u64 at = 0;

	if (!long64 && (s->ds.base | s->ss.base) & ~PAGE_MASK)
		return false;
	if (rm == 4) {
		index = ((*disp >> 3) & 7) | (m->rex & 2) << 2;
		if (index != REG_RSP)
			at = reg_read(v, index) << (*disp >> 6);
		rm = *disp++ & 7;
	} else if (rm == 5 && !mod && long64) {
		return false;
	}
	if (rm == 5 && !mod)
		mod = 2;	/* a displacement without a base */
	else
		at += reg_read(v, rm | (m->rex & 1) << 3);
	if (mod == 1)
		at += (s8)disp[0];
	else if (mod == 2)
		at += disp[0] | disp[1] << 8;
	return !(at & ~PAGE_MASK);
}

/*
 * A plain MOV of a device register, whose address the processor checked when it raised #NPF.
 * NEXT_SLEEP: not such an instruction, nothing done.
 */
static enum vcpu_next mov_device(struct vcpu *v, const u8 *bytes, u64 gpa, bool store)
{
	struct vcpu_io *io = v->io;
	enum emul_mode mode = cpu_mode(v);
	struct emul_mov m;
	u64 data = 0, next_rip;

	if (!emul_decode_mov(bytes, mode, &m) || m.store != store || (gpa & (m.size - 1)) ||
	    (!(gpa & ~PAGE_MASK) && !begins_page(v, bytes, &m, mode == EMUL_LONG64)))
		return NEXT_SLEEP;
	next_rip = rip_after(v, m.len);
	if (store) {
		data = m.has_imm ? m.imm : reg_read(v, m.reg);
		data &= ~0ull >> (64 - 8 * m.size);
		insn_advance(v, next_rip);
		return device_write(v, gpa, &data, m.size) ? NEXT_GUEST :
		       mmio_to_user(v, gpa, m.size, data, true);
	}
	if (device_read(v, gpa, &data, m.size)) {
		reg_write_sized(v, m.reg, data, m.size);
		insn_advance(v, next_rip);
		return NEXT_GUEST;
	}
	io->in = true;
	io->size = m.size;
	io->reg = m.reg;
	io_wait(v, IO_MOV_READ, next_rip);
	return mmio_to_user(v, gpa, m.size, 0, false);
}

/*
 * Emulates the instruction at CS:RIP. @gpa: of its only memory operand, from #NPF, or
 * EMULATE_NO_GPA; @store: #NPF came from a write.
 */
enum vcpu_next emulate(struct vcpu *v, u64 gpa, bool store)
{
	struct vcpu_io *io = v->io;
	struct emul_insn *insn = &io->emul.insn;
	enum vcpu_next next;
	u64 bytes[2];
	int n;

	if (svm_caps.decode && gpa != EMULATE_NO_GPA && v->vmcb->control.insn_len) {
		n = min_t(u8, v->vmcb->control.insn_len & 15, EMUL_INSN_MAX);
		memcpy(bytes, v->vmcb->control.insn_bytes, EMUL_INSN_MAX);
	} else {
		n = insn_fetch(v, bytes);
	}
	if (n == EMUL_INSN_MAX && gpa != EMULATE_NO_GPA) {
		next = mov_device(v, (u8 *)bytes, gpa, store);
		if (next != NEXT_SLEEP)
			return next;
	}
	io->gpa = gpa;
	io->store = store;
	io->nr_reads = 0;
	io->nr_writes = 0;
	io->next_write = 0;
	io->pio_ready = false;
	io->pio_out = false;
	emul_load(v);
	insn->len = 0;
	insn->nr_bytes = max(n, 0);
	memcpy(insn->bytes, bytes, EMUL_INSN_MAX);
	return emul_step(v);
}

/* Userspace has answered an exit of the emulator. */
enum vcpu_next mmio_complete(struct vcpu *v)
{
	struct vcpu_io *io = v->io;
	struct io_fragment *f;

	if (io->state == IO_EMUL_WRITE)
		return post_writes(v);
	if (io->state == IO_EMUL_READ) {
		f = &io->reads[io->nr_reads++];
		memcpy(f->data, v->run->mmio.data, f->len);
	} else {
		io->pio_ready = true;
		load_regs(v);
	}
	io->state = IO_NONE;
	if (v->vmcb->save.rip != io->emul.rip)	/* reset or moved by userspace meanwhile */
		return NEXT_GUEST;
	return emul_step(v);
}

/* --- #NPF --- */

/* Userspace does not back this page: KVM_RUN fails, and kvm_run says where. */
static enum vcpu_next exit_memory_fault(struct vcpu *v, u64 gpa)
{
	struct svm_memory_fault *fault = (void *)v->run->padding;

	v->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	*fault = (struct svm_memory_fault) { .gpa = gpa & PAGE_MASK, .size = PAGE_SIZE };
	return vcpu_fail(v, -EFAULT);
}

/* Nested page fault at EXITINFO2 with the error code in EXITINFO1 (APM vol. 2, 15.25.6). */
enum vcpu_next exit_npf(struct vcpu *v)
{
	struct vmcb_control *c = &v->vmcb->control;
	u64 gpa = c->exit_info_2, error = c->exit_info_1;
	enum npt_result r;

	if (lapic_page(v, gpa) && lapic_answers(v))
		r = NPT_MMIO;
	else if (v->can_sleep)
		r = npt_fault(&v->vm->mem, gpa, error);
	else
		r = npt_fault_fast(&v->vm->mem, gpa, error);
	switch (r) {
	case NPT_OK:
		return NEXT_GUEST;
	case NPT_MMIO:
		/* Of an event's delivery (IDT, TSS or stack in a hole), not of an instruction. */
		if (v->delivering)
			return exit_delivery_error(v, gpa);
		/* Only a fault on the final address is an access of the instruction itself. */
		if (error & NPF_FETCH)
			return failure_is_ud(v) ? raise_ud(v) : exit_internal_error(v);
		return emulate(v, error & NPF_FINAL ? gpa : EMULATE_NO_GPA, error & NPF_WRITE);
	case NPT_RETRY:
		return v->can_sleep ? NEXT_OUTER : NEXT_SLEEP;
	case NPT_ENOMEM:
		return vcpu_fail(v, -ENOMEM);
	default:
		return exit_memory_fault(v, gpa);
	}
}
