// SPDX-License-Identifier: GPL-2.0
/*
 * String instructions and their REP forms (APM vol. 3, MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS and
 * section 1.2.6). Each iteration commits its registers, so whatever stops the loop leaves the
 * instruction resumable.
 */
#include "emulate/private.h"

#define BATCH		128	/* iterations in one call; each may look at 2,000 ioeventfds */
#define PORT_BUFFER	512	/* bytes of port data in one call */

static u64 address_reg(const struct emul *e, unsigned int reg)
{
	return e->regs[reg] & size_mask(e->insn.addr_size);
}

/* Adds to rSI, rDI or rCX in the address size. */
static void advance(struct emul *e, unsigned int reg, s64 by)
{
	e->regs[reg] = merge(e->regs[reg], e->regs[reg] + by, e->insn.addr_size);
}

static enum emul_status read_element(struct emul *e, unsigned int seg, unsigned int reg, u64 *val)
{
	*val = 0;
	return emul_read(e, seg, address_reg(e, reg), val, e->insn.op_size);
}

/* How many elements may go in one port access: within the buffer, one page, and the count. */
static unsigned int port_count(const struct emul *e, u64 addr, unsigned int size)
{
	u64 n = address_reg(e, EMUL_RCX), room = (0x1000 - (addr & 0xfff)) / size;

	if (!e->insn.rep || (e->rflags & FLAG_DF))
		return 1;
	n = min(n, room);
	n = min(n, (u64)(PORT_BUFFER / size));
	return n ? n : 1;
}

/* The bitmap of the TSS is asked where IOPL does not permit the access (APM vol. 2, 12.2.4). */
static enum emul_status port_allowed(struct emul *e, u16 port, unsigned int size)
{
	if (e->mode == EMUL_REAL || (e->mode != EMUL_V86 && e->cpl <= ((e->rflags >> 12) & 3)))
		return EMUL_DONE;
	return e->ops->pio_allowed(e, port, size);
}

/* INS, or OUTS where @out, of *count elements at once; that may be lowered. */
static enum emul_status port_string(struct emul *e, bool out, unsigned int *count)
{
	unsigned int size = e->insn.op_size, seg = out ? e->insn.seg : EMUL_ES;
	u64 off = address_reg(e, out ? EMUL_RSI : EMUL_RDI), addr, first;
	u16 port = e->regs[EMUL_RDX];
	enum emul_status st;
	u8 buf[PORT_BUFFER];

	st = emul_linear(e, seg, off, size, !out, &first);
	if (st != EMUL_DONE)
		return st;
	*count = port_count(e, first, size);
	while (*count > 1 && emul_linear(e, seg, off, *count * size, !out, &addr) != EMUL_DONE)
		*count /= 2;
	st = port_allowed(e, port, size);
	if (out)
		return st ?: e->ops->read(e, first, buf, *count * size) ?:
		       e->ops->pio_out(e, port, size, buf, count);
	/* All of it must be writable before the device gives anything away. */
	return st ?: e->ops->probe_write(e, first, *count * size) ?:
	       e->ops->pio_in(e, port, size, buf, count) ?:
	       e->ops->write(e, first, buf, *count * size);
}

/* One iteration, for ports *count at once. */
static enum emul_status iterate(struct emul *e, unsigned int *count)
{
	const struct emul_op *op = e->insn.op;
	unsigned int size = e->insn.op_size;
	enum emul_status st = EMUL_DONE;
	u64 a = e->regs[EMUL_RAX], b;

	*count = 1;
	if (op->kind == K_INS || op->kind == K_OUTS)
		return port_string(e, op->kind == K_OUTS, count);
	if (op->flags & F_SI)
		st = read_element(e, e->insn.seg, EMUL_RSI, &a);
	if (st != EMUL_DONE)
		return st;
	switch (op->kind) {
	case K_MOVS:
	case K_STOS:
		return emul_write(e, EMUL_ES, address_reg(e, EMUL_RDI), &a, size);
	case K_LODS:
		e->regs[EMUL_RAX] = merge(e->regs[EMUL_RAX], a, size);
		return EMUL_DONE;
	default:	/* K_CMPS, K_SCAS */
		st = read_element(e, EMUL_ES, EMUL_RDI, &b);
		if (st == EMUL_DONE)
			alu_op(ALU_CMP, a, b, size, &e->rflags);
		return st;
	}
}

/* REPE and REPNE end at the first difference or match; plain REP at the count alone. */
static bool compare_ends(const struct emul *e)
{
	bool compares = e->insn.op->kind == K_CMPS || e->insn.op->kind == K_SCAS;

	return compares && !!(e->rflags & FLAG_ZF) != (e->insn.rep == 0xf3);
}

/** emul_string() - run a string instruction. EMUL_DONE with RIP moved only when it is over. */
enum emul_status emul_string(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	unsigned int done, count;
	enum emul_status st;

	if (in->op->kind == K_INS || in->op->kind == K_OUTS)
		in->op_size = min(in->op_size, 4);
	for (done = 0; done < BATCH; done += count) {
		s64 step;

		if (in->rep && !address_reg(e, EMUL_RCX))
			break;
		st = iterate(e, &count);
		if (st != EMUL_DONE)
			return st;
		step = (s64)in->op_size * count * (e->rflags & FLAG_DF ? -1 : 1);
		if (in->op->flags & F_SI)
			advance(e, EMUL_RSI, step);
		if (in->op->flags & F_DI)
			advance(e, EMUL_RDI, step);
		if (!in->rep)
			break;
		advance(e, EMUL_RCX, -(s64)count);
		if (compare_ends(e) || !address_reg(e, EMUL_RCX))
			break;
	}
	return done < BATCH ? emul_retire(e) : EMUL_DONE;
}
