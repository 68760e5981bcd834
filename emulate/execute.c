// SPDX-License-Identifier: GPL-2.0
/*
 * The operations, all with a memory operand but for what two-operand forms need. Registers change
 * only when the instruction retires: an access that needs userspace ends the attempt, and the
 * instruction is run again from its start.
 */
#include "emulate/private.h"

#define CR0_EM		BIT(2)
#define CR0_TS		BIT(3)
#define CR4_OSFXSR	BIT(9)
#define CR4_UMIP	BIT(11)

/* --- registers --- */

static unsigned int reg_number(const struct emul *e)
{
	return modrm_reg(e) | (e->insn.rex & 4 ? 8 : 0);
}

/* AH, CH, DH, BH: byte registers 4..7 without a REX prefix. */
static bool high_byte(const struct emul *e, unsigned int reg, unsigned int size)
{
	return size == 1 && !e->insn.rex && reg >= 4 && reg < 8;
}

static u64 reg_get(const struct emul *e, unsigned int reg, unsigned int size)
{
	if (high_byte(e, reg, size))
		return (e->regs[reg - 4] >> 8) & 0xff;
	return e->regs[reg] & size_mask(size);
}

static void reg_set(struct emul *e, unsigned int reg, u64 val, unsigned int size)
{
	if (high_byte(e, reg, size))
		e->regs[reg - 4] = (e->regs[reg - 4] & ~0xff00ull) | (val & 0xff) << 8;
	else
		e->regs[reg] = merge(e->regs[reg], val, size);
}

enum emul_status emul_retire(struct emul *e)
{
	e->rip += e->insn.len;
	if (e->mode != EMUL_LONG64)
		e->rip = (u32)e->rip;
	return EMUL_DONE;
}

/* --- memory operand --- */

static enum emul_status mem_read(struct emul *e, u64 *val, unsigned int size)
{
	*val = 0;
	return emul_read(e, e->insn.seg, e->insn.mem_off, val, size);
}

static enum emul_status mem_write(struct emul *e, u64 val, unsigned int size)
{
	return emul_write(e, e->insn.seg, e->insn.mem_off, &val, size);
}

/* First half of a read-modify-write: write permission is checked before anything is read. */
static enum emul_status rmw_read(struct emul *e, u64 *addr, u64 *val, unsigned int size)
{
	enum emul_status st;

	*val = 0;
	st = emul_linear(e, e->insn.seg, e->insn.mem_off, size, true, addr);
	if (st == EMUL_DONE)
		st = e->ops->probe_write(e, *addr, size);
	return st == EMUL_DONE ? e->ops->read(e, *addr, val, size) : st;
}

static enum emul_status rmw_write(struct emul *e, u64 addr, u64 old, u64 val, unsigned int size,
				  bool locked)
{
	if (locked)
		return e->ops->cas(e, addr, &old, &val, size);
	return e->ops->write(e, addr, &val, size);
}

/* --- arithmetic --- */

/* The new value of a memory operand that is also a source. */
static u64 modified(const struct emul *e, u64 val, u64 *flags)
{
	const struct emul_op *op = e->insn.op;
	unsigned int size = e->insn.op_size, sub = modrm_reg(e), count;
	u64 reg = reg_get(e, reg_number(e), size);

	count = op->flags & F_ONE ? 1 : (op->flags & F_CL ? e->regs[EMUL_RCX] : e->insn.imm) & 0xff;
	switch (op->kind) {
	case K_ALU_MR:
		return alu_op((e->insn.opcode >> 3) & 7, val, reg, size, flags);
	case K_GROUP1:
		return alu_op(sub, val, e->insn.imm, size, flags);
	case K_XADD:
		return alu_op(ALU_ADD, val, reg, size, flags);
	case K_XCHG:
		return reg;
	case K_CMPXCHG:		/* memory is written in any case (APM vol. 3, CMPXCHG) */
		alu_op(ALU_CMP, reg_get(e, EMUL_RAX, size), val, size, flags);
		return *flags & FLAG_ZF ? reg : val;
	case K_SHIFT_DOUBLE:
		return alu_shld(e->insn.opcode & 8, val, reg, count, size, flags);
	case K_GROUP2:
		return alu_shift(sub, val, count, size, flags);
	case K_GROUP3:
		return sub == 2 ? ~val : alu_op(ALU_SUB, 0, val, size, flags);
	default:
		return alu_step(sub ? ALU_SUB : ALU_ADD, val, size, flags);
	}
}

static enum emul_status modify(struct emul *e)
{
	unsigned int size = e->insn.op_size, kind = ((const struct emul_op *)e->insn.op)->kind;
	u64 addr, old, val, flags = e->rflags;
	enum emul_status st;

	st = rmw_read(e, &addr, &old, size);
	if (st != EMUL_DONE)
		return st;
	val = modified(e, old, &flags) & size_mask(size);
	/* XCHG with memory is always locked. */
	st = rmw_write(e, addr, old, val, size, e->insn.lock || kind == K_XCHG);
	if (st != EMUL_DONE)
		return st;
	if (kind == K_XCHG || kind == K_XADD)
		reg_set(e, reg_number(e), old, size);
	if (kind == K_CMPXCHG && !(flags & FLAG_ZF))
		reg_set(e, EMUL_RAX, old, size);
	e->rflags = flags;
	return emul_retire(e);
}

/* CMP and TEST: two sources. */
static enum emul_status compare(struct emul *e, unsigned int op, u64 src)
{
	unsigned int size = e->insn.op_size;
	enum emul_status st;
	u64 val;

	st = mem_read(e, &val, size);
	if (st != EMUL_DONE)
		return st;
	alu_op(op, val, src, size, &e->rflags);
	return emul_retire(e);
}

/* A register as destination, memory of @from bytes as source. */
static enum emul_status to_reg(struct emul *e, unsigned int kind, unsigned int from)
{
	unsigned int reg = kind == K_MOFFS_LOAD ? EMUL_RAX : reg_number(e), size = e->insn.op_size;
	u64 val, hi, dst = reg_get(e, reg, size);
	enum emul_status st;

	st = mem_read(e, &val, from);
	if (st != EMUL_DONE)
		return st;
	switch (kind) {
	case K_ALU_RM:
		val = alu_op((e->insn.opcode >> 3) & 7, dst, val, size, &e->rflags);
		if (((e->insn.opcode >> 3) & 7) == ALU_CMP)
			return emul_retire(e);
		break;
	case K_IMUL:
		alu_mul(true, e->insn.map ? dst : e->insn.imm, val, size, &hi, &val, &e->rflags);
		break;
	case K_BIT_SCAN:	/* zero leaves the destination alone (APM vol. 3, BSF) */
		e->rflags = (e->rflags & ~(u64)FLAG_ZF) | (val ? 0 : FLAG_ZF);
		if (!val)
			return emul_retire(e);
		val = e->insn.opcode & 1 ? 63 - __builtin_clzll(val) : __builtin_ctzll(val);
		break;
	case K_MOVSX:
	case K_MOVSXD:
		val = from == 1 ? (u64)(s8)val : from == 2 ? (u64)(s16)val : (u64)(s32)val;
		break;
	case K_CMOV:
		/* Memory is read, and a 32-bit destination cleared above, in any case. */
		if (!alu_condition(e->insn.opcode & 15, e->rflags))
			val = dst;
		break;
	}
	reg_set(e, reg, val, size);
	return emul_retire(e);
}

/* Group 3: MUL, IMUL, DIV, IDIV. Those of bytes have AX for rDX:rAX. */
static enum emul_status muldiv(struct emul *e, unsigned int sub)
{
	unsigned int size = e->insn.op_size;
	u64 src, lo = reg_get(e, EMUL_RAX, size), hi;
	enum emul_status st;

	hi = size == 1 ? (e->regs[EMUL_RAX] >> 8) & 0xff : reg_get(e, EMUL_RDX, size);
	st = mem_read(e, &src, size);
	if (st != EMUL_DONE)
		return st;
	if (sub < 6)
		alu_mul(sub & 1, lo, src, size, &hi, &lo, &e->rflags);
	else if (!alu_div(sub & 1, &hi, &lo, src, size))
		return emul_set_fault(e, VEC_DE, false, 0, 0);
	if (size == 1) {
		reg_set(e, EMUL_RAX, hi << 8 | (lo & 0xff), 2);
	} else {
		reg_set(e, EMUL_RAX, lo, size);
		reg_set(e, EMUL_RDX, hi, size);
	}
	return emul_retire(e);
}

/* --- exchanges --- */

/* CMPXCHG8B and CMPXCHG16B. */
static enum emul_status cmpxchg_wide(struct emul *e)
{
	unsigned int half = e->insn.op_size == 8 ? 8 : 4;
	u64 addr, old[2] = {}, val[2];
	u8 old_bytes[16], new_bytes[16];
	enum emul_status st;
	bool equal;

	if (modrm_reg(e) != 1)
		return EMUL_UNHANDLED;
	st = emul_linear(e, e->insn.seg, e->insn.mem_off, 2 * half, true, &addr);
	if (st != EMUL_DONE)
		return st;
	if (half == 8 && (addr & 15))
		return emul_gp(e);
	st = e->ops->probe_write(e, addr, 2 * half);
	if (st == EMUL_DONE)
		st = e->ops->read(e, addr, old_bytes, 2 * half);
	if (st != EMUL_DONE)
		return st;
	memcpy(&old[0], old_bytes, half);
	memcpy(&old[1], old_bytes + half, half);
	equal = old[0] == reg_get(e, EMUL_RAX, half) && old[1] == reg_get(e, EMUL_RDX, half);
	val[0] = equal ? e->regs[EMUL_RBX] : old[0];
	val[1] = equal ? e->regs[EMUL_RCX] : old[1];
	memcpy(new_bytes, &val[0], half);
	memcpy(new_bytes + half, &val[1], half);
	if (e->insn.lock)
		st = e->ops->cas(e, addr, old_bytes, new_bytes, 2 * half);
	else
		st = e->ops->write(e, addr, new_bytes, 2 * half);
	if (st != EMUL_DONE)
		return st;
	e->rflags &= ~(u64)FLAG_ZF;
	if (equal) {
		e->rflags |= FLAG_ZF;
	} else {
		reg_set(e, EMUL_RAX, old[0], half);
		reg_set(e, EMUL_RDX, old[1], half);
	}
	return emul_retire(e);
}

/* --- bits --- */

/* @which: 0 BT, 1 BTS, 2 BTR, 3 BTC. By a register, bit n is in the byte n / 8. */
static enum emul_status bit_op(struct emul *e, unsigned int which, s64 bit, bool reaches)
{
	unsigned int size = e->insn.op_size, bits = 8 * size;
	u64 off = e->insn.mem_off, addr, old, val, mask;
	enum emul_status st;

	if (reaches) {
		s64 word = bit >> (size == 2 ? 4 : size == 4 ? 5 : 6);

		e->insn.mem_off = (off + word * (s64)size) & size_mask(e->insn.addr_size);
	}
	mask = 1ull << (bit & (bits - 1));
	if (which == 0) {
		st = mem_read(e, &old, size);
	} else {
		st = rmw_read(e, &addr, &old, size);
		val = which == 1 ? old | mask : which == 2 ? old & ~mask : old ^ mask;
		if (st == EMUL_DONE)
			st = rmw_write(e, addr, old, val, size, e->insn.lock);
	}
	e->insn.mem_off = off;	/* the instruction may be run again */
	if (st != EMUL_DONE)
		return st;
	e->rflags = (e->rflags & ~(u64)FLAG_CF) | (old & mask ? FLAG_CF : 0);
	return emul_retire(e);
}

static enum emul_status bit_by_reg(struct emul *e)
{
	unsigned int size = e->insn.op_size;
	u64 raw = reg_get(e, reg_number(e), size);
	s64 bit = size == 8 ? (s64)raw : size == 4 ? (s32)raw : (s16)raw;

	return bit_op(e, (e->insn.opcode >> 3) & 3, bit, true);
}

/* --- moves --- */

static enum emul_status store(struct emul *e, u64 val, unsigned int size)
{
	enum emul_status st = mem_write(e, val & size_mask(size), size);

	return st == EMUL_DONE ? emul_retire(e) : st;
}

/* --- stack --- */

static unsigned int stack_size(const struct emul *e)
{
	if (e->mode == EMUL_LONG64)
		return 8;
	return e->segs[EMUL_SS].attr & BIT(10) ? 4 : 2;
}

static unsigned int push_size(const struct emul *e)
{
	return e->mode == EMUL_LONG64 && e->insn.op_size == 4 ? 8 : e->insn.op_size;
}

/* The last access of its instruction: RSP moves at once. */
static enum emul_status push(struct emul *e, u64 val)
{
	unsigned int size = push_size(e), width = stack_size(e);
	u64 rsp = (e->regs[EMUL_RSP] - size) & size_mask(width);
	enum emul_status st = emul_write(e, EMUL_SS, rsp, &val, size);

	if (st == EMUL_DONE)
		reg_set(e, EMUL_RSP, rsp, width);
	return st;
}

static enum emul_status pop_from(struct emul *e, unsigned int reg, u64 *val)
{
	*val = 0;
	return emul_read(e, EMUL_SS, e->regs[reg] & size_mask(stack_size(e)), val, push_size(e));
}

static enum emul_status jump_near(struct emul *e, u64 target)
{
	enum emul_status st;

	st = emul_branch_check(e, &e->segs[EMUL_CS], target);
	if (st == EMUL_DONE)
		e->rip = target;
	return st;
}

static enum emul_status call_near(struct emul *e, u64 target)
{
	u64 rip = e->rip;
	enum emul_status st;

	st = jump_near(e, target & size_mask(push_size(e)));
	if (st == EMUL_DONE)
		st = push(e, rip + e->insn.len);
	if (st != EMUL_DONE)
		e->rip = rip;
	return st;
}

static enum emul_status pop(struct emul *e)
{
	unsigned int size = push_size(e), width = stack_size(e);
	u64 off = e->insn.mem_off, val;
	enum emul_status st;

	if (modrm_reg(e))
		return EMUL_UNHANDLED;
	st = pop_from(e, EMUL_RSP, &val);
	if (st != EMUL_DONE)
		return st;
	/* An address based on RSP is computed with RSP already moved (APM vol. 3, POP). */
	if (e->insn.base_rsp)
		e->insn.mem_off = (off + size) & size_mask(e->insn.addr_size);
	st = mem_write(e, val, size);
	e->insn.mem_off = off;
	if (st != EMUL_DONE)
		return st;
	reg_set(e, EMUL_RSP, (e->regs[EMUL_RSP] + size) & size_mask(width), width);
	return emul_retire(e);
}

/* The new stack pointer must be writable, though nothing is written there (APM vol. 3, ENTER). */
static enum emul_status enter(struct emul *e)
{
	unsigned int size = push_size(e), width = stack_size(e);
	u64 rbp = (e->regs[EMUL_RSP] - size) & size_mask(width), rsp, addr;
	enum emul_status st;

	if ((e->insn.imm >> 16) & 31)	/* nested frames */
		return EMUL_UNHANDLED;
	rsp = (rbp - (u16)e->insn.imm) & size_mask(width);
	st = emul_linear(e, EMUL_SS, rsp, size, true, &addr);
	if (st == EMUL_DONE)
		st = e->ops->probe_write(e, addr, size);
	if (st == EMUL_DONE)
		st = push(e, e->regs[EMUL_RBP]);
	if (st != EMUL_DONE)
		return st;
	reg_set(e, EMUL_RBP, rbp, size);
	reg_set(e, EMUL_RSP, rsp, width);
	return emul_retire(e);
}

static enum emul_status stack_op(struct emul *e, unsigned int kind)
{
	unsigned int size = push_size(e), low = (e->insn.opcode & 7) | (e->insn.rex & 1 ? 8 : 0);
	unsigned int base = kind == K_LEAVE ? EMUL_RBP : EMUL_RSP;
	enum emul_status st;
	u64 val, rsp;

	switch (kind) {
	case K_PUSH:
		st = push(e, e->insn.opcode < 0x58 ? e->regs[low] : e->insn.imm);
		return st == EMUL_DONE ? emul_retire(e) : st;
	case K_CALL:
		return call_near(e, e->rip + e->insn.len + e->insn.imm);
	case K_ENTER:
		return enter(e);
	}
	st = pop_from(e, base, &val);
	rsp = e->regs[base] + size + (kind == K_RET ? (u16)e->insn.imm : 0);
	if (st == EMUL_DONE && kind == K_RET)
		st = jump_near(e, val);
	if (st != EMUL_DONE)
		return st;
	reg_set(e, EMUL_RSP, rsp, stack_size(e));
	if (kind == K_RET)
		return EMUL_DONE;
	reg_set(e, kind == K_LEAVE ? EMUL_RBP : low, val, size);
	return emul_retire(e);
}

/* --- SSE, MMX --- */

#define SSE_STORE	BIT(7)
#define SSE_ALIGNED	BIT(6)
#define SSE_SIZE	0x1f

/*
 * A move's size, 0: none, and how. The last of F2 and F3, else 66, else nothing, is part of the
 * opcode (APM vol. 4, 1.2.1).
 */
static unsigned int sse_move(const struct emul_insn *in)
{
	unsigned int dword = in->rex & 8 ? 8 : 4;

	switch ((in->rep ? in->rep : in->prefix66) << 8 | in->opcode) {
	case 0x010: case 0x110:				/* MOVUPS, MOVUPD */
	case 0xf36f: case 0xf2f0:			/* MOVDQU, LDDQU */
		return 16;
	case 0x011: case 0x111: case 0xf37f:
		return 16 | SSE_STORE;
	case 0x028: case 0x128: case 0x16f:		/* MOVAPS, MOVAPD, MOVDQA */
		return 16 | SSE_ALIGNED;
	case 0x029: case 0x129: case 0x17f:
	case 0x02b: case 0x12b: case 0x1e7:		/* MOVNTPS, MOVNTPD, MOVNTDQ */
		return 16 | SSE_STORE | SSE_ALIGNED;
	case 0xf310:					/* MOVSS */
		return 4;
	case 0xf311:
		return 4 | SSE_STORE;
	case 0xf210: case 0xf37e: case 0x06f:		/* MOVSD, MOVQ */
		return 8;
	case 0xf211: case 0x1d6: case 0x07f: case 0x0e7:	/* and MOVNTQ */
		return 8 | SSE_STORE;
	case 0x16e: case 0x06e:				/* MOVD */
		return dword;
	case 0x17e: case 0x07e:
		return dword | SSE_STORE;
	default:
		return 0;
	}
}

/* The FXSAVE image (APM vol. 2, 11.4.4) */
#define FX_FSW		2
#define FX_FTW		4
#define FX_ST		32
#define FX_XMM		160

/*
 * MM0 to MM7 are the x87 registers by number, the image has them from the stack's top. Every MMX
 * instruction sets the top to 0 and all tags to valid (APM vol. 1, 5.10.2).
 */
static void enter_mmx(u8 *fx)
{
	unsigned int i, top = (fx[FX_FSW + 1] >> 3) & 7;
	u8 old[8 * 16];

	memcpy(old, fx + FX_ST, sizeof(old));
	for (i = 0; i < 8; i++)
		memcpy(fx + FX_ST + 16 * i, old + 16 * ((i - top) & 7), 16);
	fx[FX_FSW + 1] &= ~0x38;
	fx[FX_FTW] = 0xff;
}

static enum emul_status sse(struct emul *e)
{
	unsigned int move = sse_move(&e->insn), size = move & SSE_SIZE, top;
	bool writes = move & SSE_STORE;
	bool mmx = !e->insn.rep && !e->insn.prefix66 && e->insn.opcode >= 0x6e;
	u8 *reg, buf[16] = {};
	enum emul_status st;
	u64 addr;

	if (!size || !e->fx)
		return EMUL_UNHANDLED;
	if ((e->cr0 & CR0_EM) || (!mmx && !(e->cr4 & CR4_OSFXSR)))
		return emul_ud(e);
	if (e->cr0 & CR0_TS)
		return emul_set_fault(e, VEC_NM, false, 0, 0);
	if (mmx && (e->fx[FX_FSW] & 0x80))	/* an x87 exception is pending */
		return emul_set_fault(e, VEC_MF, false, 0, 0);
	st = emul_linear(e, e->insn.seg, e->insn.mem_off, size, writes, &addr);
	if (st != EMUL_DONE)
		return st;
	if ((move & SSE_ALIGNED) && (addr & 15))
		return emul_gp(e);
	top = (e->fx[FX_FSW + 1] >> 3) & 7;
	reg = mmx ? e->fx + FX_ST + 16 * ((reg_number(e) - top) & 7) :
		e->fx + FX_XMM + 16 * reg_number(e);
	st = writes ? e->ops->write(e, addr, reg, size) : e->ops->read(e, addr, buf, size);
	if (st != EMUL_DONE)
		return st;
	if (mmx) {	/* as x87 sees it, what was loaded has an exponent of all ones */
		enter_mmx(e->fx);
		reg = e->fx + FX_ST + 16 * (reg_number(e) & 7);
		memset(buf + 8, 0xff, 2);
	}
	if (!writes)	/* a load clears what it does not fill */
		memcpy(reg, buf, sizeof(buf));
	return emul_retire(e);
}

/* --- groups --- */

/* --- segments and tables --- */

static enum emul_status load_segment(struct emul *e, unsigned int seg)
{
	struct emul_seg s;
	enum emul_status st;
	u64 sel;

	st = mem_read(e, &sel, 2);
	if (st == EMUL_DONE)
		st = emul_selector(e, seg, sel, &s);
	if (st != EMUL_DONE)
		return st;
	e->segs[seg] = s;
	e->system = true;
	e->shadow = seg == EMUL_SS;
	return emul_retire(e);
}

/* AMD's processors have no m16:64 and take REX.W for m16:32; it is taken as Intel's here. */
static enum emul_status jump_far(struct emul *e)
{
	unsigned int size = e->insn.op_size;
	u64 offset = 0;
	enum emul_status st;
	struct emul_seg cs;
	u8 ptr[10];
	u16 sel;

	st = emul_read(e, e->insn.seg, e->insn.mem_off, ptr, size + 2);
	if (st != EMUL_DONE)
		return st;
	memcpy(&offset, ptr, size);
	memcpy(&sel, ptr + size, 2);
	st = emul_selector(e, EMUL_CS, sel, &cs);
	if (st == EMUL_DONE)
		st = emul_branch_check(e, &cs, offset);
	if (st != EMUL_DONE)
		return st;
	e->segs[EMUL_CS] = cs;
	e->system = true;
	e->rip = offset;
	return EMUL_DONE;
}

/* LLDT, LTR: not in real and virtual-8086 mode. */
static enum emul_status group6(struct emul *e, unsigned int sub)
{
	if (sub != 2 && sub != 3)
		return EMUL_UNHANDLED;
	if (e->mode == EMUL_REAL || e->mode == EMUL_V86)
		return emul_ud(e);
	if (e->cpl)
		return emul_gp(e);
	return load_segment(e, sub == 3 ? EMUL_TR : EMUL_LDTR);
}

static enum emul_status group45(struct emul *e)
{
	unsigned int sub = modrm_reg(e), size = push_size(e);
	enum emul_status st = EMUL_DONE;
	u64 val;

	if (sub < 2 && e->insn.mem_valid)
		return modify(e);
	if (e->insn.opcode == 0xff && sub == 5 && e->insn.mem_valid)
		return jump_far(e);
	if (e->insn.opcode != 0xff || !(BIT(sub) & (BIT(2) | BIT(4) | BIT(6))))
		return EMUL_UNHANDLED;
	if (e->insn.mem_valid)
		st = mem_read(e, &val, size);
	else
		val = e->regs[(e->insn.modrm & 7) | (e->insn.rex & 1 ? 8 : 0)] & size_mask(size);
	if (st != EMUL_DONE)
		return st;
	if (sub == 2)
		return call_near(e, val);
	if (sub == 4)
		return jump_near(e, val);
	st = push(e, val);
	return st == EMUL_DONE ? emul_retire(e) : st;
}

enum emul_status emul_run(struct emul *e)
{
	const struct emul_op *op = e->insn.op;
	unsigned int size = e->insn.op_size, sub = modrm_reg(e);

	if (op->kind >= K_MOVS && op->kind <= K_OUTS)
		return emul_string(e, op->kind);
	if (op->kind >= K_PUSH && op->kind <= K_RET)
		return stack_op(e, op->kind);
	if (!e->insn.mem_valid && !(op->flags & F_STACK))
		return EMUL_UNHANDLED;	/* register forms never fault on memory */
	switch (op->kind) {
	case K_MOV_MR:
		return store(e, reg_get(e, reg_number(e), size), size);
	case K_MOV_MI:
		return sub ? EMUL_UNHANDLED : store(e, e->insn.imm, size);
	case K_ALU_MR:
		if (((e->insn.opcode >> 3) & 7) != ALU_CMP)
			return modify(e);
		return compare(e, ALU_CMP, reg_get(e, reg_number(e), size));
	case K_GROUP1:
		return sub == ALU_CMP ? compare(e, ALU_CMP, e->insn.imm) : modify(e);
	case K_TEST_MR:
		return compare(e, ALU_AND, reg_get(e, reg_number(e), size));
	case K_XCHG:
	case K_XADD:
	case K_CMPXCHG:
	case K_GROUP2:
	case K_SHIFT_DOUBLE:
		return modify(e);
	case K_MOV_FROM_SREG:
		if (sub >= EMUL_NR_SEGS)
			return emul_ud(e);
		return store(e, e->segs[sub].sel, 2);
	case K_MOV_TO_SREG:
		if (sub >= EMUL_NR_SEGS || sub == EMUL_CS)
			return emul_ud(e);
		return load_segment(e, sub);
	case K_GROUP6:
		return group6(e, sub);
	case K_GROUP7:
		if (sub != 4)	/* SMSW */
			return EMUL_UNHANDLED;
		if (e->cpl && (e->cr4 & CR4_UMIP))
			return emul_gp(e);
		return store(e, e->cr0, 2);
	case K_MOFFS_STORE:
		return store(e, e->regs[EMUL_RAX], size);
	case K_MOVSXD:
		return to_reg(e, op->kind, 4);
	case K_MOVZX:
	case K_MOVSX:
		return to_reg(e, op->kind, op->flags & F_SRC8 ? 1 : 2);
	case K_BIT_SCAN:
		if (e->insn.rep == 0xf3)	/* TZCNT, LZCNT where there are BMI1, ABM */
			return EMUL_UNHANDLED;
		fallthrough;
	case K_MOV_RM:
	case K_MOFFS_LOAD:
	case K_ALU_RM:
	case K_IMUL:
	case K_CMOV:
		return to_reg(e, op->kind, size);
	case K_GROUP3:
		if (sub < 2)
			return compare(e, ALU_AND, e->insn.imm);
		return sub < 4 ? modify(e) : muldiv(e, sub);
	case K_GROUP45:
		return group45(e);
	case K_POP:
		return pop(e);
	case K_BT:
		return bit_by_reg(e);
	case K_GROUP8:
		return sub < 4 ? EMUL_UNHANDLED : bit_op(e, sub & 3, e->insn.imm & 0x3f, false);
	case K_GROUP9:
		return cmpxchg_wide(e);
	case K_SETCC:
		return store(e, alu_condition(e->insn.opcode & 15, e->rflags), 1);
	case K_SSE:
		return sse(e);
	default:
		return EMUL_UNHANDLED;
	}
}
