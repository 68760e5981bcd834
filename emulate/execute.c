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

/* The register in the low bits of ModRM or of the opcode. */
static unsigned int low_reg(const struct emul *e, u8 byte)
{
	return (byte & 7) | (e->insn.rex & 1 ? 8 : 0);
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

/* The operand beside the memory operand: an immediate or a register. */
static u64 source(const struct emul *e)
{
	return e->insn.has_imm ? e->insn.imm : reg_get(e, reg_number(e), e->insn.op_size);
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

static enum emul_status store(struct emul *e, u64 val, unsigned int size)
{
	return mem_write(e, val, size) ?: emul_retire(e);
}

/* First half of a read-modify-write: write permission is checked before anything is read. */
static enum emul_status rmw_read(struct emul *e, u64 *addr, void *val, unsigned int size)
{
	enum emul_status st = emul_linear(e, e->insn.seg, e->insn.mem_off, size, true, addr);

	if (st == EMUL_DONE && size == 16 && (*addr & 15))
		return emul_gp(e);
	return st ?: e->ops->probe_write(e, *addr, size) ?: e->ops->read(e, *addr, val, size);
}

static enum emul_status rmw_write(struct emul *e, u64 addr, const void *old, const void *val,
				  unsigned int size, bool locked)
{
	return locked ? e->ops->cas(e, addr, old, val, size) : e->ops->write(e, addr, val, size);
}

/* --- arithmetic --- */

/* Where a result goes. */
enum dest { TO_NONE, TO_MEM, TO_REG };

/* The width of a memory operand that is only read. */
static unsigned int source_size(const struct emul *e)
{
	u16 flags = e->insn.op->flags;

	if (flags & (F_SRC8 | F_SRC16))
		return flags & F_SRC8 ? 1 : 2;
	return flags & F_SRC32 ? 4 : e->insn.op_size;
}

/* What an operation makes of its memory operand and the other one. */
static u64 result(const struct emul *e, u64 mem, u64 *flags)
{
	const struct emul_op *op = e->insn.op;
	unsigned int size = e->insn.op_size, sub = sub_op(e), count;
	u64 src = source(e), reg = reg_get(e, reg_number(e), size), val, bit;

	count = op->flags & F_ONE ? 1 : (op->flags & F_CL ? e->regs[EMUL_RCX] : e->insn.imm) & 0xff;
	switch (op->kind) {
	case K_ALU_MR:
	case K_GROUP1:
		return alu_op(sub, mem, src, size, flags);
	case K_ALU_RM:
		return alu_op(sub, reg, mem, size, flags);
	case K_TEST_MR:
		return alu_op(ALU_AND, mem, src, size, flags);
	case K_XADD:
		return alu_op(ALU_ADD, mem, reg, size, flags);
	case K_XCHG:
		return reg;
	case K_CMPXCHG:		/* memory is written in any case (APM vol. 3, CMPXCHG) */
		alu_op(ALU_CMP, reg_get(e, EMUL_RAX, size), mem, size, flags);
		return *flags & FLAG_ZF ? reg : mem;
	case K_SHIFT_DOUBLE:
		return alu_shld(e->insn.opcode & 8, mem, reg, count, size, flags);
	case K_BT:		/* BT, BTS, BTR, BTC are 4 to 7 */
		bit = 1ull << (src & (8 * size - 1));
		*flags = (*flags & ~(u64)FLAG_CF) | (mem & bit ? FLAG_CF : 0);
		return sub == 5 ? mem | bit : sub == 6 ? mem & ~bit : mem ^ bit;
	case K_GROUP2:
		return alu_shift(sub, mem, count, size, flags);
	case K_GROUP3:		/* TEST, NOT, NEG */
		if (sub < 2)
			return alu_op(ALU_AND, mem, src, size, flags);
		return sub == 2 ? ~mem : alu_op(ALU_SUB, 0, mem, size, flags);
	case K_GROUP45:		/* INC and DEC leave CF alone */
		val = alu_op(sub ? ALU_SUB : ALU_ADD, mem, 1, size, flags);
		*flags = (*flags & ~(u64)FLAG_CF) | (e->rflags & FLAG_CF);
		return val;
	case K_IMUL:
		alu_mul(true, src, mem, size, &reg, &val, flags);
		return val;
	case K_BIT_SCAN:
		*flags = (*flags & ~(u64)FLAG_ZF) | (mem ? 0 : FLAG_ZF);
		if (!mem)
			return 0;
		return e->insn.opcode & 1 ? 63 - __builtin_clzll(mem) : __builtin_ctzll(mem);
	case K_MOVSX:
		return sign_extend(mem, source_size(e));
	case K_CMOV:		/* memory is read, a 32-bit register cleared above, in any case */
		return alu_condition(e->insn.opcode & 15, *flags) ? mem : reg;
	default:		/* K_MOV_RM */
		return mem;
	}
}

static enum emul_status operate(struct emul *e, enum dest dest)
{
	unsigned int size = e->insn.op_size, kind = e->insn.op->kind;
	u64 addr, mem = 0, val, flags = e->rflags;
	enum emul_status st;

	if (dest == TO_MEM)
		st = rmw_read(e, &addr, &mem, size);
	else
		st = mem_read(e, &mem, source_size(e));
	if (st != EMUL_DONE)
		return st;
	val = result(e, mem, &flags);
	if (dest == TO_MEM)	/* XCHG with memory is always locked */
		st = rmw_write(e, addr, &mem, &val, size, e->insn.lock || kind == K_XCHG);
	if (st != EMUL_DONE)
		return st;
	/* BSF and BSR of zero leave the register alone (APM vol. 3, BSF). */
	if (dest == TO_REG && !(kind == K_BIT_SCAN && !mem))
		reg_set(e, reg_number(e), val, size);
	if (kind == K_XCHG || kind == K_XADD)
		reg_set(e, reg_number(e), mem, size);
	if (kind == K_CMPXCHG && !(flags & FLAG_ZF))
		reg_set(e, EMUL_RAX, mem, size);
	e->rflags = flags;
	return emul_retire(e);
}

/* Group 3: MUL, IMUL, DIV, IDIV. Those of bytes have AX for rDX:rAX. */
static enum emul_status muldiv(struct emul *e)
{
	unsigned int size = e->insn.op_size, sub = sub_op(e);
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

/* A pair of registers as it stands in memory. */
static void pair(const struct emul *e, unsigned int lo, unsigned int hi, unsigned int half, u8 *buf)
{
	memcpy(buf, &e->regs[lo], half);
	memcpy(buf + half, &e->regs[hi], half);
}

/* CMPXCHG8B and CMPXCHG16B. */
static enum emul_status cmpxchg_wide(struct emul *e)
{
	unsigned int half = e->insn.op_size == 8 ? 8 : 4;
	u8 old[16], expected[16], new[16];
	enum emul_status st;
	bool equal;
	u64 addr;

	if (sub_op(e) != 1)
		return EMUL_UNHANDLED;
	st = rmw_read(e, &addr, old, 2 * half);
	if (st != EMUL_DONE)
		return st;
	pair(e, EMUL_RAX, EMUL_RDX, half, expected);
	pair(e, EMUL_RBX, EMUL_RCX, half, new);
	equal = !memcmp(old, expected, 2 * half);
	st = rmw_write(e, addr, old, equal ? new : old, 2 * half, e->insn.lock);
	if (st != EMUL_DONE)
		return st;
	e->rflags &= ~(u64)FLAG_ZF;
	if (equal) {
		e->rflags |= FLAG_ZF;
	} else {
		e->regs[EMUL_RAX] = 0;
		e->regs[EMUL_RDX] = 0;
		memcpy(&e->regs[EMUL_RAX], old, half);
		memcpy(&e->regs[EMUL_RDX], old + half, half);
	}
	return emul_retire(e);
}

/* --- stack --- */

static unsigned int stack_size(const struct emul *e)
{
	if (e->mode == EMUL_LONG64)
		return 8;
	return e->segs[EMUL_SS].attr & BIT(10) ? 4 : 2;
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
	enum emul_status st = emul_branch_check(e, &e->segs[EMUL_CS], target);

	if (st == EMUL_DONE)
		e->rip = target;
	return st;
}

static enum emul_status call_near(struct emul *e, u64 target)
{
	enum emul_status st;

	target &= size_mask(push_size(e));
	st = emul_branch_check(e, &e->segs[EMUL_CS], target) ?: push(e, e->rip + e->insn.len);
	if (st == EMUL_DONE)
		e->rip = target;
	return st;
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
	st = st ?: e->ops->probe_write(e, addr, size) ?: push(e, e->regs[EMUL_RBP]);
	if (st != EMUL_DONE)
		return st;
	reg_set(e, EMUL_RBP, rbp, size);
	reg_set(e, EMUL_RSP, rsp, width);
	return emul_retire(e);
}

static enum emul_status stack_op(struct emul *e, unsigned int kind)
{
	unsigned int base = kind == K_LEAVE ? EMUL_RBP : EMUL_RSP, reg = low_reg(e, e->insn.opcode);
	enum emul_status st;
	u64 val, rsp;

	switch (kind) {
	case K_PUSH:
		return push(e, e->insn.has_imm ? e->insn.imm : e->regs[reg]) ?: emul_retire(e);
	case K_CALL:
		return call_near(e, e->rip + e->insn.len + e->insn.imm);
	case K_ENTER:
		return enter(e);
	}
	st = pop_from(e, base, &val);
	rsp = e->regs[base] + push_size(e) + (kind == K_RET ? (u16)e->insn.imm : 0);
	if (kind == K_RET)
		st = st ?: jump_near(e, val);
	else if (kind == K_POP)
		st = st ?: mem_write(e, val, push_size(e));
	if (st != EMUL_DONE)
		return st;
	reg_set(e, EMUL_RSP, rsp, stack_size(e));
	if (kind == K_RET)
		return EMUL_DONE;
	if (kind != K_POP)
		reg_set(e, kind == K_LEAVE ? EMUL_RBP : reg, val, push_size(e));
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

static unsigned int fx_top(const u8 *fx)
{
	return (fx[FX_FSW + 1] >> 3) & 7;
}

/*
 * MM0 to MM7 are the x87 registers by number, the image has them from the stack's top. Every MMX
 * instruction sets the top to 0 and all tags to valid (APM vol. 1, 5.10.2).
 */
static void enter_mmx(u8 *fx)
{
	unsigned int i, top = fx_top(fx);
	u8 old[8 * 16];

	memcpy(old, fx + FX_ST, sizeof(old));
	for (i = 0; i < 8; i++)
		memcpy(fx + FX_ST + 16 * i, old + 16 * ((i - top) & 7), 16);
	fx[FX_FSW + 1] &= ~0x38;
	fx[FX_FTW] = 0xff;
}

static enum emul_status sse(struct emul *e)
{
	unsigned int move = sse_move(&e->insn), size = move & SSE_SIZE, number = reg_number(e);
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
	reg = mmx ? e->fx + FX_ST + 16 * ((number - fx_top(e->fx)) & 7) :
		e->fx + FX_XMM + 16 * number;
	st = writes ? e->ops->write(e, addr, reg, size) : e->ops->read(e, addr, buf, size);
	if (st != EMUL_DONE)
		return st;
	if (mmx) {	/* as x87 sees it, what was loaded has an exponent of all ones */
		enter_mmx(e->fx);
		reg = e->fx + FX_ST + 16 * (number & 7);
		memset(buf + 8, 0xff, 2);
	}
	if (!writes)	/* a load clears what it does not fill */
		memcpy(reg, buf, sizeof(buf));
	return emul_retire(e);
}

/* --- segments and tables --- */

static enum emul_status load_segment(struct emul *e, unsigned int seg)
{
	enum emul_status st;
	struct emul_seg s;
	u64 sel;

	st = mem_read(e, &sel, 2) ?: emul_selector(e, seg, sel, &s);
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
	st = emul_selector(e, EMUL_CS, sel, &cs) ?: emul_branch_check(e, &cs, offset);
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
	unsigned int sub = sub_op(e), size = push_size(e);
	enum emul_status st = EMUL_DONE;
	u64 val;

	if (sub < 2 && e->insn.mem_valid)
		return operate(e, TO_MEM);
	if (e->insn.opcode == 0xff && sub == 5 && e->insn.mem_valid)
		return jump_far(e);
	if (e->insn.opcode != 0xff || !(BIT(sub) & (BIT(2) | BIT(4) | BIT(6))))
		return EMUL_UNHANDLED;
	if (e->insn.mem_valid)
		st = mem_read(e, &val, size);
	else
		val = e->regs[low_reg(e, e->insn.modrm)] & size_mask(size);
	if (sub == 2)
		return st ?: call_near(e, val);
	if (sub == 4)
		return st ?: jump_near(e, val);
	return st ?: push(e, val) ?: emul_retire(e);
}

enum emul_status emul_run(struct emul *e)
{
	const struct emul_op *op = e->insn.op;
	unsigned int sub = sub_op(e);

	if (op->flags & (F_SI | F_DI))
		return emul_string(e);
	if (op->kind >= K_PUSH && op->kind <= K_RET)
		return stack_op(e, op->kind);
	if (!e->insn.mem_valid && !(op->flags & F_STACK))
		return EMUL_UNHANDLED;	/* register forms never fault on memory */
	switch (op->kind) {
	case K_MOV_MI:
		if (sub)
			return EMUL_UNHANDLED;
		fallthrough;
	case K_MOV_MR:
		return store(e, source(e), e->insn.op_size);
	case K_ALU_MR:
	case K_GROUP1:
		return operate(e, sub == ALU_CMP ? TO_NONE : TO_MEM);
	case K_ALU_RM:
		return operate(e, sub == ALU_CMP ? TO_NONE : TO_REG);
	case K_TEST_MR:
		return operate(e, TO_NONE);
	case K_GROUP3:
		if (sub >= 4)
			return muldiv(e);
		return operate(e, sub < 2 ? TO_NONE : TO_MEM);
	case K_BT:
		if (sub < 4)
			return EMUL_UNHANDLED;
		return operate(e, sub == 4 ? TO_NONE : TO_MEM);
	case K_XCHG:
	case K_XADD:
	case K_CMPXCHG:
	case K_GROUP2:
	case K_SHIFT_DOUBLE:
		return operate(e, TO_MEM);
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
	case K_BIT_SCAN:
		if (e->insn.rep == 0xf3)	/* TZCNT, LZCNT where there are BMI1, ABM */
			return EMUL_UNHANDLED;
		fallthrough;
	case K_MOV_RM:
	case K_MOVSX:
	case K_IMUL:
	case K_CMOV:
		return operate(e, TO_REG);
	case K_GROUP45:
		return group45(e);
	case K_POP:
		return sub ? EMUL_UNHANDLED : stack_op(e, op->kind);
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
