// SPDX-License-Identifier: GPL-2.0
/*
 * Instruction decoder (APM vol. 3, chapter 1 and appendix A): prefixes, opcode tables, ModRM, SIB,
 * displacement, immediate. Only opcodes that can have a memory operand and are emulated have a row.
 */
#include "emulate/private.h"

#define ROW(k, f)	{ .kind = (k), .flags = (f) }
/* For bytes, and one further for the operand size. */
#define PAIR(at, k, f)				\
	[(at) + 0] = ROW(k, (f) | F_BYTE),	\
	[(at) + 1] = ROW(k, f)
#define ALU(at)							\
	[(at) + 0] = ROW(K_ALU_MR, F_MODRM | F_BYTE | F_LOCK),	\
	[(at) + 1] = ROW(K_ALU_MR, F_MODRM | F_LOCK),		\
	[(at) + 2] = ROW(K_ALU_RM, F_MODRM | F_BYTE),		\
	[(at) + 3] = ROW(K_ALU_RM, F_MODRM)

static const struct emul_op one_byte[256] = {
	ALU(0x00), ALU(0x08), ALU(0x10), ALU(0x18), ALU(0x20), ALU(0x28), ALU(0x30), ALU(0x38),
	[0x50 ... 0x57] = ROW(K_PUSH, F_STACK),
	[0x58 ... 0x5f] = ROW(K_POP_REG, F_STACK),
	[0x63] = ROW(K_MOVSX, F_MODRM | F_SRC32),	/* in 64-bit mode only */
	[0x68] = ROW(K_PUSH, F_STACK | F_IMM),
	[0x69] = ROW(K_IMUL, F_MODRM | F_IMM),
	[0x6a] = ROW(K_PUSH, F_STACK | F_IMM8),
	[0x6b] = ROW(K_IMUL, F_MODRM | F_IMM8),
	PAIR(0x6c, K_INS, F_DI),
	PAIR(0x6e, K_OUTS, F_SI),
	[0x80] = ROW(K_GROUP1, F_MODRM | F_BYTE | F_IMM8 | F_LOCK),
	[0x81] = ROW(K_GROUP1, F_MODRM | F_IMM | F_LOCK),
	[0x82] = ROW(K_GROUP1, F_MODRM | F_BYTE | F_IMM8 | F_LOCK),	/* not in 64-bit mode */
	[0x83] = ROW(K_GROUP1, F_MODRM | F_IMM8 | F_LOCK),
	PAIR(0x84, K_TEST_MR, F_MODRM),
	PAIR(0x86, K_XCHG, F_MODRM | F_LOCK),
	PAIR(0x88, K_MOV_MR, F_MODRM),
	PAIR(0x8a, K_MOV_RM, F_MODRM),
	[0x8c] = ROW(K_MOV_FROM_SREG, F_MODRM),
	[0x8e] = ROW(K_MOV_TO_SREG, F_MODRM),
	[0x8f] = ROW(K_POP, F_MODRM),
	PAIR(0xa0, K_MOV_RM, F_MOFFS),
	PAIR(0xa2, K_MOV_MR, F_MOFFS),
	PAIR(0xa4, K_MOVS, F_SI | F_DI),
	PAIR(0xa6, K_CMPS, F_SI | F_DI),
	PAIR(0xaa, K_STOS, F_DI),
	PAIR(0xac, K_LODS, F_SI),
	PAIR(0xae, K_SCAS, F_DI),
	PAIR(0xc0, K_GROUP2, F_MODRM | F_IMM8),
	[0xc2] = ROW(K_RET, F_STACK | F_IMM16),
	[0xc3] = ROW(K_RET, F_STACK),
	[0xc6] = ROW(K_MOV_MI, F_MODRM | F_BYTE | F_IMM8),
	[0xc7] = ROW(K_MOV_MI, F_MODRM | F_IMM),
	[0xc8] = ROW(K_ENTER, F_STACK),
	[0xc9] = ROW(K_LEAVE, F_STACK),
	PAIR(0xd0, K_GROUP2, F_MODRM | F_ONE),
	PAIR(0xd2, K_GROUP2, F_MODRM | F_CL),
	[0xe8] = ROW(K_CALL, F_STACK | F_IMM),
	PAIR(0xf6, K_GROUP3, F_MODRM | F_LOCK),
	[0xfe] = ROW(K_GROUP45, F_MODRM | F_BYTE | F_LOCK),
	[0xff] = ROW(K_GROUP45, F_MODRM | F_LOCK | F_STACK),
};

static const struct emul_op two_byte[256] = {
	[0x00] = ROW(K_GROUP6, F_MODRM),
	[0x01] = ROW(K_GROUP7, F_MODRM),
	[0x10 ... 0x11] = ROW(K_SSE, F_MODRM),
	[0x28 ... 0x29] = ROW(K_SSE, F_MODRM),
	[0x2b] = ROW(K_SSE, F_MODRM),
	[0x40 ... 0x4f] = ROW(K_CMOV, F_MODRM),
	[0x6e ... 0x6f] = ROW(K_SSE, F_MODRM),
	[0x7e ... 0x7f] = ROW(K_SSE, F_MODRM),
	[0x90 ... 0x9f] = ROW(K_SETCC, F_MODRM | F_BYTE),
	[0xa3] = ROW(K_BT, F_MODRM),
	[0xa4] = ROW(K_SHIFT_DOUBLE, F_MODRM | F_IMM8),
	[0xa5] = ROW(K_SHIFT_DOUBLE, F_MODRM | F_CL),
	[0xab] = ROW(K_BT, F_MODRM | F_LOCK),
	[0xac] = ROW(K_SHIFT_DOUBLE, F_MODRM | F_IMM8),
	[0xad] = ROW(K_SHIFT_DOUBLE, F_MODRM | F_CL),
	[0xaf] = ROW(K_IMUL, F_MODRM),
	PAIR(0xb0, K_CMPXCHG, F_MODRM | F_LOCK),
	[0xb3] = ROW(K_BT, F_MODRM | F_LOCK),
	[0xb6] = ROW(K_MOV_RM, F_MODRM | F_SRC8),
	[0xb7] = ROW(K_MOV_RM, F_MODRM | F_SRC16),
	[0xba] = ROW(K_BT, F_MODRM | F_IMM8 | F_LOCK),	/* group 8 */
	[0xbb] = ROW(K_BT, F_MODRM | F_LOCK),
	[0xbc ... 0xbd] = ROW(K_BIT_SCAN, F_MODRM),
	[0xbe] = ROW(K_MOVSX, F_MODRM | F_SRC8),
	[0xbf] = ROW(K_MOVSX, F_MODRM | F_SRC16),
	PAIR(0xc0, K_XADD, F_MODRM | F_LOCK),
	[0xc3] = ROW(K_MOV_MR, F_MODRM),	/* MOVNTI */
	[0xc7] = ROW(K_GROUP9, F_MODRM | F_LOCK),
	[0xd6] = ROW(K_SSE, F_MODRM),
	[0xe7] = ROW(K_SSE, F_MODRM),
	[0xf0] = ROW(K_SSE, F_MODRM),
};

enum emul_status emul_set_fault(struct emul *e, u8 vector, bool has_error, u32 error_code,
				u64 addr)
{
	e->vector = vector;
	e->has_error = has_error;
	e->error_code = error_code;
	e->fault_addr = addr;
	return EMUL_FAULT;
}

enum emul_status emul_gp(struct emul *e)
{
	return emul_set_fault(e, VEC_GP, true, 0, 0);
}

enum emul_status emul_ud(struct emul *e)
{
	return emul_set_fault(e, VEC_UD, false, 0, 0);
}

/* --- instruction bytes --- */

/* Makes bytes[0..n-1] valid; what lies behind the page's end is fetched only where needed. */
static enum emul_status need(struct emul *e, unsigned int n)
{
	struct emul_insn *in = &e->insn;
	enum emul_status st;
	unsigned int len;
	u64 addr;

	if (likely(n <= in->nr_bytes))
		return EMUL_DONE;
	if (n > EMUL_INSN_MAX)
		return emul_gp(e);
	while (in->nr_bytes < n) {
		addr = e->rip + in->nr_bytes;
		if (e->mode != EMUL_LONG64)
			addr = (u32)(e->segs[EMUL_CS].base + (u32)addr);
		len = min((unsigned int)(EMUL_INSN_MAX - in->nr_bytes),
			  (unsigned int)(0x1000 - (addr & 0xfff)));
		st = e->ops->fetch(e, addr, in->bytes + in->nr_bytes, len);
		if (st != EMUL_DONE)
			return st;
		in->nr_bytes += len;
	}
	return EMUL_DONE;
}

static enum emul_status next_byte(struct emul *e, u8 *b)
{
	enum emul_status st = need(e, e->insn.len + 1);

	if (st == EMUL_DONE)
		*b = e->insn.bytes[e->insn.len++];
	return st;
}

/* Takes a value of @size bytes, sign-extended. */
static enum emul_status take(struct emul *e, unsigned int size, u64 *val)
{
	enum emul_status st = need(e, e->insn.len + size);

	if (st != EMUL_DONE)
		return st;
	*val = 0;
	memcpy(val, e->insn.bytes + e->insn.len, size);
	*val = sign_extend(*val, size);
	e->insn.len += size;
	return EMUL_DONE;
}

/* The memory operand that ModRM names, but for what operands() does to all. */
static enum emul_status address(struct emul *e)
{
	static const u8 base16[] = { EMUL_RBX, EMUL_RBX, EMUL_RBP, EMUL_RBP, EMUL_RSI, EMUL_RDI,
				     EMUL_RBP, EMUL_RBX };
	struct emul_insn *in = &e->insn;
	unsigned int mod = in->modrm >> 6, rm = in->modrm & 7, base = rm, index;
	enum emul_status st = EMUL_DONE;
	bool no_base;
	u64 disp = 0;
	u8 sib;

	if (in->addr_size == 2) {
		no_base = mod == 0 && rm == 6;
		base = base16[rm];
		if (rm < 4)
			in->mem_off = e->regs[rm & 1 ? EMUL_RDI : EMUL_RSI];
	} else {
		if (rm == 4) {
			st = next_byte(e, &sib);
			if (st != EMUL_DONE)
				return st;
			base = sib & 7;
			index = ((sib >> 3) & 7) | (in->rex & 2 ? 8 : 0);
			if (index != EMUL_RSP)
				in->mem_off = e->regs[index] << (sib >> 6);
		}
		no_base = mod == 0 && base == 5;
		base |= in->rex & 1 ? 8 : 0;
	}
	if (no_base) {
		mod = 2;	/* but a displacement */
	} else {
		in->mem_off += e->regs[base];
		if (base == EMUL_RSP && in->op->kind == K_POP)	/* which moves RSP first */
			in->mem_off += push_size(e);
		if (in->seg == EMUL_NR_SEGS && (base == EMUL_RSP || base == EMUL_RBP))
			in->seg = EMUL_SS;
	}
	if (mod == 1)
		st = take(e, 1, &disp);
	else if (mod == 2)
		st = take(e, in->addr_size == 2 ? 2 : 4, &disp);
	in->mem_off += disp;
	return st;
}

/* Prefixes, what they make of the sizes, and the byte behind them. */
static enum emul_status prefixes(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	bool long64 = e->mode == EMUL_LONG64, op16, addr_toggle = false;
	enum emul_status st;
	u8 b;

	for (;;) {
		st = next_byte(e, &b);
		if (st != EMUL_DONE)
			return st;
		switch (b) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			if (!long64)
				in->seg = (b >> 3) & 3;
			break;
		case 0x64: case 0x65:
			in->seg = EMUL_FS + (b & 1);
			break;
		case 0x66:
			in->prefix66 = true;
			break;
		case 0x67:
			addr_toggle = true;
			break;
		case 0xf0:
			in->lock = true;
			break;
		case 0xf2: case 0xf3:
			in->rep = b;
			break;
		default:
			if (!long64 || (b & 0xf0) != 0x40)
				goto done;
			in->rex = b;
			continue;
		}
		in->rex = 0;	/* a REX prefix counts only right before the opcode */
	}
done:
	in->opcode = b;
	op16 = e->mode == EMUL_REAL || e->mode == EMUL_V86 || e->mode == EMUL_PROT16;
	if (long64) {
		in->addr_size = addr_toggle ? 4 : 8;
		in->op_size = in->rex & 8 ? 8 : in->prefix66 ? 2 : 4;
	} else {
		in->addr_size = op16 != addr_toggle ? 2 : 4;
		in->op_size = op16 != in->prefix66 ? 2 : 4;
	}
	return EMUL_DONE;
}

/* LOCK is for what writes memory. */
static bool lock_legal(const struct emul *e)
{
	unsigned int sub = sub_op(e);

	if (!(e->insn.op->flags & F_LOCK) || !e->insn.mem_valid)
		return false;
	switch (e->insn.op->kind) {
	case K_ALU_MR:
	case K_GROUP1:
		return sub != ALU_CMP;
	case K_GROUP3:
		return sub == 2 || sub == 3;
	case K_GROUP45:
		return sub < 2;
	case K_BT:
		return sub > 4;
	default:
		return true;
	}
}

static enum emul_status operands(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	const struct emul_op *op = in->op;
	enum emul_status st = EMUL_DONE;
	unsigned int imm = 0;

	if (op->flags & F_MODRM) {
		st = next_byte(e, &in->modrm);
		in->mem_valid = in->modrm < 0xc0;
		if (st == EMUL_DONE && in->mem_valid)
			st = address(e);
	} else if (op->flags & F_MOFFS) {
		in->rex &= ~4;	/* the register is rAX */
		in->mem_valid = true;
		st = take(e, in->addr_size, &in->mem_off);
	}
	if (op->flags & F_IMM8)
		imm = 1;
	else if (op->flags & F_IMM16)
		imm = 2;
	else if (op->kind == K_ENTER)
		imm = 3;	/* 16 bits of space, 8 of nesting */
	else if (op->flags & F_IMM || (op->kind == K_GROUP3 && sub_op(e) < 2))	/* TEST */
		imm = min((unsigned int)in->op_size, 4u);
	in->has_imm = imm;
	if (st == EMUL_DONE && imm)
		st = take(e, imm, &in->imm);
	if (e->mode == EMUL_LONG64 && (in->modrm & 0xc7) == 5)	/* relative to RIP */
		in->mem_off += e->rip + in->len;
	/* By a register, bit n is in the byte n / 8. */
	if (op->kind == K_BT && !imm)
		in->mem_off += (sign_extend(e->regs[reg_number(e)], in->op_size) >> 3) &
			       -(s64)in->op_size;
	in->mem_off &= size_mask(in->addr_size);
	if (in->seg == EMUL_NR_SEGS)
		in->seg = EMUL_DS;
	return st;
}

static enum emul_status decode(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	enum emul_status st;

	memset_startat(in, 0, len);
	in->seg = EMUL_NR_SEGS;
	e->system = false;
	e->shadow = false;
	st = prefixes(e);
	if (st != EMUL_DONE)
		return st;
	in->op = &one_byte[in->opcode];
	if (in->opcode == 0x0f) {
		st = next_byte(e, &in->opcode);
		if (st != EMUL_DONE)
			return st;
		in->map = 1;
		in->op = &two_byte[in->opcode];
	}
	/* 63h is ARPL outside of 64-bit mode, 82h is nothing in it. */
	if (in->op->kind == K_NONE ||
	    (!in->map && in->opcode == (e->mode == EMUL_LONG64 ? 0x82 : 0x63)))
		return EMUL_UNHANDLED;
	/* 0F C3 and its like take a mandatory prefix to other instructions. */
	if (in->map && in->opcode == 0xc3 && in->op_size == 2)
		return EMUL_UNHANDLED;
	if (in->op->flags & F_BYTE)
		in->op_size = 1;
	st = operands(e);
	if (st != EMUL_DONE)
		return st;
	/* CS.limit holds for what is executed, not for what has been read ahead. */
	if (e->mode != EMUL_LONG64 && (u32)e->rip + (u64)in->len - 1 > e->segs[EMUL_CS].limit)
		return emul_gp(e);
	return in->lock && !lock_legal(e) ? emul_ud(e) : EMUL_DONE;
}

enum emul_status emul_decode(struct emul *e)
{
	enum emul_status st = decode(e);

	if (st != EMUL_DONE)
		e->insn.len = 0;
	return st;
}

unsigned int emul_insn_len(const u8 *bytes, unsigned int n, enum emul_mode mode, const u8 *opcode,
			   unsigned int opcode_len)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		switch (bytes[i]) {
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
			continue;
		}
		if (mode == EMUL_LONG64 && (bytes[i] & 0xf0) == 0x40)
			continue;
		break;
	}
	if (i + opcode_len > n || memcmp(bytes + i, opcode, opcode_len))
		return 0;
	return i + opcode_len;
}

bool emul_decode_mov(const u8 *b, enum emul_mode mode, struct emul_mov *m)
{
	unsigned int i = 0, rex = 0, op, mod, rm;

	if (mode != EMUL_LONG64 && mode != EMUL_PROT32)
		return false;
	m->size = 4;
	if (b[i] == 0x66) {
		m->size = 2;
		i++;
	}
	if (mode == EMUL_LONG64 && (b[i] & 0xf0) == 0x40) {
		rex = b[i++];
		if (rex & 8)
			m->size = 8;
	}
	op = b[i++];
	if ((op & 0xfc) != 0x88 && (op & 0xfe) != 0xc6)
		return false;
	m->modrm = i;
	m->rex = rex;
	mod = b[i] >> 6;
	rm = b[i] & 7;
	m->reg = ((b[i] >> 3) & 7) | (rex & 4) << 1;
	m->has_imm = op >= 0xc6;
	m->store = m->has_imm || !(op & 2);
	if (!(op & 1))
		m->size = 1;
	/* Group 11 has one member; without REX, byte registers 4 to 7 are AH to BH. */
	if (mod == 3 || (m->has_imm ? m->reg & 7 : m->size == 1 && !rex && m->reg > 3))
		return false;
	i++;
	if (rm == 4)
		rm = b[i++] & 7;	/* SIB: its base without MOD is a displacement too */
	if (mod == 1)
		i++;
	else if (mod == 2 || rm == 5)
		i += 4;
	if (m->has_imm) {
		m->imm = (s32)(b[i] | b[i + 1] << 8 | b[i + 2] << 16 | (u32)b[i + 3] << 24);
		m->imm &= size_mask(m->size);
		i += min(m->size, 4);
	}
	m->len = i;
	return true;
}
