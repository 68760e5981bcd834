// SPDX-License-Identifier: GPL-2.0
/*
 * String instructions and their REP forms (APM vol. 3, MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS and
 * section 1.2.6). Each iteration commits its registers, so whatever stops the loop leaves the
 * instruction resumable.
 */
#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/string.h>
#endif
#include "emulate/private.h"

#define BATCH		1024	/* iterations in one call */
#define PORT_BUFFER	512	/* bytes of port data in one call */

static u64 address_reg(const struct emul *e, unsigned int reg)
{
	return e->regs[reg] & size_mask(e->insn.addr_size);
}

/*
 * Adds to rSI, rDI or rCX in the address size: 16-bit ones keep the upper part, 32-bit ones clear
 * it.
 */
static void advance(struct emul *e, unsigned int reg, s64 by)
{
	u64 val = e->regs[reg] + by;

	switch (e->insn.addr_size) {
	case 2:
		e->regs[reg] = (e->regs[reg] & ~0xffffull) | (u16)val;
		break;
	case 4:
		e->regs[reg] = (u32)val;
		break;
	default:
		e->regs[reg] = val;
	}
}

static enum emul_status read_element(struct emul *e, unsigned int seg, unsigned int reg, u64 *val)
{
	unsigned int size = e->insn.op_size;
	enum emul_status st;
	u64 addr;

	*val = 0;
	st = emul_linear(e, seg, address_reg(e, reg), size, false, &addr);
	return st == EMUL_DONE ? e->ops->read(e, addr, val, size) : st;
}

static enum emul_status write_element(struct emul *e, u64 val)
{
	unsigned int size = e->insn.op_size;
	enum emul_status st;
	u64 addr;

	st = emul_linear(e, EMUL_ES, address_reg(e, EMUL_RDI), size, true, &addr);
	return st == EMUL_DONE ? e->ops->write(e, addr, &val, size) : st;
}

static u64 merge(u64 old, u64 val, unsigned int size)
{
	if (size == 4)
		return (u32)val;
	return (old & ~size_mask(size)) | (val & size_mask(size));
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

static enum emul_status ins(struct emul *e, unsigned int *count)
{
	unsigned int size = min(e->insn.op_size, 4);
	u16 port = e->regs[EMUL_RDX];
	u64 off = address_reg(e, EMUL_RDI), addr, first;
	enum emul_status st;
	u8 buf[PORT_BUFFER];

	st = emul_linear(e, EMUL_ES, off, size, true, &first);
	if (st != EMUL_DONE)
		return st;
	*count = port_count(e, first, size);
	/* All of it must be writable before the device gives anything away. */
	while (*count > 1 && emul_linear(e, EMUL_ES, off, *count * size, true, &addr) != EMUL_DONE)
		*count /= 2;
	st = port_allowed(e, port, size);
	if (st == EMUL_DONE)
		st = e->ops->probe_write(e, first, *count * size);
	if (st == EMUL_DONE)
		st = e->ops->pio_in(e, port, size, buf, count);
	if (st == EMUL_DONE)
		st = e->ops->write(e, first, buf, *count * size);
	return st;
}

static enum emul_status outs(struct emul *e, unsigned int *count)
{
	unsigned int size = min(e->insn.op_size, 4);
	u16 port = e->regs[EMUL_RDX];
	u64 off = address_reg(e, EMUL_RSI), addr, first;
	enum emul_status st;
	u8 buf[PORT_BUFFER];

	st = emul_linear(e, e->insn.seg, off, size, false, &first);
	if (st != EMUL_DONE)
		return st;
	*count = port_count(e, first, size);
	while (*count > 1 &&
	       emul_linear(e, e->insn.seg, off, *count * size, false, &addr) != EMUL_DONE)
		*count /= 2;
	st = port_allowed(e, port, size);
	if (st == EMUL_DONE)
		st = e->ops->read(e, first, buf, *count * size);
	return st == EMUL_DONE ? e->ops->pio_out(e, port, size, buf, count) : st;
}

/*
 * One iteration (for ports: as many as go at once); *count says how many, *si and *di whether the
 * pointers move.
 */
static enum emul_status iterate(struct emul *e, unsigned int kind, unsigned int *count, bool *si,
				bool *di)
{
	unsigned int size = e->insn.op_size;
	enum emul_status st;
	u64 a, b;

	*si = kind == K_MOVS || kind == K_CMPS || kind == K_LODS || kind == K_OUTS;
	*di = kind != K_LODS && kind != K_OUTS;
	*count = 1;
	switch (kind) {
	case K_MOVS:
		st = read_element(e, e->insn.seg, EMUL_RSI, &a);
		return st == EMUL_DONE ? write_element(e, a) : st;
	case K_STOS:
		return write_element(e, e->regs[EMUL_RAX]);
	case K_LODS:
		st = read_element(e, e->insn.seg, EMUL_RSI, &a);
		if (st == EMUL_DONE)
			e->regs[EMUL_RAX] = merge(e->regs[EMUL_RAX], a, size);
		return st;
	case K_CMPS:
		st = read_element(e, e->insn.seg, EMUL_RSI, &a);
		if (st == EMUL_DONE)
			st = read_element(e, EMUL_ES, EMUL_RDI, &b);
		if (st == EMUL_DONE)
			alu_op(ALU_CMP, a, b, size, &e->rflags);
		return st;
	case K_SCAS:
		st = read_element(e, EMUL_ES, EMUL_RDI, &b);
		if (st == EMUL_DONE)
			alu_op(ALU_CMP, e->regs[EMUL_RAX], b, size, &e->rflags);
		return st;
	case K_INS:
		return ins(e, count);
	default:
		return outs(e, count);
	}
}

/* REPE and REPNE end at the first difference or match; plain REP at the count alone. */
static bool compare_ends(const struct emul *e, unsigned int kind)
{
	if (kind != K_CMPS && kind != K_SCAS)
		return false;
	return !!(e->rflags & FLAG_ZF) != (e->insn.rep == 0xf3);
}

/** emul_string() - run a string instruction. EMUL_DONE with RIP moved only when it is over. */
enum emul_status emul_string(struct emul *e, unsigned int kind)
{
	struct emul_insn *in = &e->insn;
	unsigned int size = kind == K_INS || kind == K_OUTS ? min(in->op_size, 4) : in->op_size;
	unsigned int done, count;
	enum emul_status st;
	bool si, di;

	in->op_size = size;
	for (done = 0; done < BATCH; done += count) {
		s64 step;

		if (in->rep && !address_reg(e, EMUL_RCX))
			goto over;
		st = iterate(e, kind, &count, &si, &di);
		if (st != EMUL_DONE)
			return st;
		step = (s64)size * count * (e->rflags & FLAG_DF ? -1 : 1);
		if (si)
			advance(e, EMUL_RSI, step);
		if (di)
			advance(e, EMUL_RDI, step);
		if (!in->rep)
			goto over;
		advance(e, EMUL_RCX, -(s64)count);
		if (compare_ends(e, kind) || !address_reg(e, EMUL_RCX))
			goto over;
	}
	return EMUL_DONE;
over:
	e->rip += in->len;
	if (e->mode != EMUL_LONG64)
		e->rip = (u32)e->rip;
	return EMUL_DONE;
}
