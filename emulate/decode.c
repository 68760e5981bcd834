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
	[0x63] = ROW(K_MOVSXD, F_MODRM),
	[0x68] = ROW(K_PUSH, F_STACK | F_IMM),
	[0x69] = ROW(K_IMUL, F_MODRM | F_IMM),
	[0x6a] = ROW(K_PUSH, F_STACK | F_IMM8),
	[0x6b] = ROW(K_IMUL, F_MODRM | F_IMM8),
	PAIR(0x6c, K_INS, 0),
	PAIR(0x6e, K_OUTS, 0),
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
	PAIR(0xa0, K_MOFFS_LOAD, 0),
	PAIR(0xa2, K_MOFFS_STORE, 0),
	PAIR(0xa4, K_MOVS, 0),
	PAIR(0xa6, K_CMPS, 0),
	PAIR(0xaa, K_STOS, 0),
	PAIR(0xac, K_LODS, 0),
	PAIR(0xae, K_SCAS, 0),
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
	[0xb6] = ROW(K_MOVZX, F_MODRM | F_SRC8),
	[0xb7] = ROW(K_MOVZX, F_MODRM | F_SRC16),
	[0xba] = ROW(K_GROUP8, F_MODRM | F_IMM8 | F_LOCK),
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

/* Takes a sign-extended value of @size bytes at in->len. */
static enum emul_status take(struct emul *e, unsigned int size, s64 *val)
{
	enum emul_status st = need(e, e->insn.len + size);
	unsigned int unused = 64 - 8 * size;
	u64 v = 0;

	if (st != EMUL_DONE)
		return st;
	memcpy(&v, e->insn.bytes + e->insn.len, size);
	*val = (s64)(v << unused) >> unused;
	e->insn.len += size;
	return EMUL_DONE;
}

/* --- addressing --- */

static u64 reg_ext(struct emul *e, unsigned int low, u8 rex_bit)
{
	return e->regs[low | (e->insn.rex & rex_bit ? 8 : 0)];
}

static enum emul_status address16(struct emul *e)
{
	static const u8 base[] = { EMUL_RBX, EMUL_RBX, EMUL_RBP, EMUL_RBP, EMUL_RSI, EMUL_RDI,
				   EMUL_RBP,
				   EMUL_RBX };
	struct emul_insn *in = &e->insn;
	unsigned int mod = in->modrm >> 6, rm = in->modrm & 7, default_seg = EMUL_DS;
	enum emul_status st = EMUL_DONE;
	s64 disp = 0;
	u64 off = 0;

	if (!(mod == 0 && rm == 6)) {
		off = e->regs[base[rm]];
		if (rm < 4)
			off += e->regs[rm & 1 ? EMUL_RDI : EMUL_RSI];
		if (base[rm] == EMUL_RBP)
			default_seg = EMUL_SS;
	}
	if (mod == 1)
		st = take(e, 1, &disp);
	else if (mod == 2 || (mod == 0 && rm == 6))
		st = take(e, 2, &disp);
	in->mem_off = off + disp;
	if (in->seg == EMUL_NR_SEGS)
		in->seg = default_seg;
	return st;
}

static enum emul_status address_sib(struct emul *e, unsigned int mod, u64 *off, bool *stack)
{
	struct emul_insn *in = &e->insn;
	unsigned int index, base;
	enum emul_status st;
	s64 disp = 0;
	u8 sib;

	st = need(e, in->len + 1);
	if (st != EMUL_DONE)
		return st;
	sib = in->bytes[in->len++];
	index = ((sib >> 3) & 7) | (in->rex & 2 ? 8 : 0);
	base = sib & 7;
	if (base == 5 && mod == 0) {
		st = take(e, 4, &disp);
		*off = disp;
	} else {
		*off = reg_ext(e, base, 1);
		*stack = !(in->rex & 1) && (base == EMUL_RSP || base == EMUL_RBP);
		in->base_rsp = base == EMUL_RSP && !(in->rex & 1);
	}
	if (index != EMUL_RSP)
		*off += e->regs[index] << (sib >> 6);
	return st;
}

static enum emul_status address32(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	unsigned int mod = in->modrm >> 6, rm = in->modrm & 7;
	enum emul_status st = EMUL_DONE;
	bool stack = false;
	s64 disp = 0;
	u64 off = 0;

	if (rm == 4) {
		st = address_sib(e, mod, &off, &stack);
		if (st != EMUL_DONE)
			return st;
	} else if (mod == 0 && rm == 5) {
		st = take(e, 4, &disp);
		in->rip_relative = e->mode == EMUL_LONG64;
	} else {
		off = reg_ext(e, rm, 1);
		stack = rm == EMUL_RBP && !(in->rex & 1);
	}
	if (st == EMUL_DONE && mod == 1)
		st = take(e, 1, &disp);
	else if (st == EMUL_DONE && mod == 2)
		st = take(e, 4, &disp);
	in->mem_off = off + disp;
	if (in->seg == EMUL_NR_SEGS)
		in->seg = stack ? EMUL_SS : EMUL_DS;
	return st;
}

/* --- prefixes --- */

static enum emul_status prefixes(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	bool long64 = e->mode == EMUL_LONG64, op16, addr_toggle = false, op_toggle = false;
	enum emul_status st;

	for (;;) {
		u8 b;

		st = need(e, in->len + 1);
		if (st != EMUL_DONE)
			return st;
		b = in->bytes[in->len];
		switch (b) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			if (!long64)
				in->seg = (b >> 3) & 3;
			break;
		case 0x64:
		case 0x65:
			in->seg = EMUL_FS + (b & 1);
			break;
		case 0x66:
			op_toggle = true;
			in->prefix66 = true;
			break;
		case 0x67:
			addr_toggle = true;
			break;
		case 0xf0:
			in->lock = true;
			break;
		case 0xf2:
		case 0xf3:
			in->rep = b;
			break;
		default:
			if (long64 && (b & 0xf0) == 0x40) {
				in->rex = b;
				in->len++;
				continue;
			}
			goto done;
		}
		in->rex = 0;	/* a REX prefix counts only right before the opcode */
		in->len++;
	}
done:
	op16 = e->mode == EMUL_REAL || e->mode == EMUL_V86 || e->mode == EMUL_PROT16;
	if (long64) {
		in->addr_size = addr_toggle ? 4 : 8;
		in->op_size = in->rex & 8 ? 8 : op_toggle ? 2 : 4;
	} else {
		in->addr_size = op16 != addr_toggle ? 2 : 4;
		in->op_size = op16 != op_toggle ? 2 : 4;
	}
	return EMUL_DONE;
}

/* --- the whole --- */

/* LOCK is for what writes memory. */
static bool lock_legal(const struct emul_insn *in, const struct emul_op *op)
{
	unsigned int reg = (in->modrm >> 3) & 7;

	if (!(op->flags & F_LOCK) || !in->mem_valid)
		return false;
	switch (op->kind) {
	case K_ALU_MR:
		return ((in->opcode >> 3) & 7) != ALU_CMP;
	case K_GROUP1:
		return reg != ALU_CMP;
	case K_GROUP3:
		return reg == 2 || reg == 3;
	case K_GROUP45:
		return reg < 2;
	case K_GROUP8:
		return reg > 4;
	default:
		return true;
	}
}

static enum emul_status operands(struct emul *e, const struct emul_op *op)
{
	struct emul_insn *in = &e->insn;
	enum emul_status st = EMUL_DONE;
	unsigned int imm = 0;
	s64 val = 0;

	if (op->flags & F_MODRM) {
		st = need(e, in->len + 1);
		if (st != EMUL_DONE)
			return st;
		in->modrm = in->bytes[in->len++];
		if (in->modrm < 0xc0) {
			in->mem_valid = true;
			st = in->addr_size == 2 ? address16(e) : address32(e);
			if (st != EMUL_DONE)
				return st;
		}
	} else if (op->kind == K_MOFFS_LOAD || op->kind == K_MOFFS_STORE) {
		st = take(e, in->addr_size, &val);
		if (st != EMUL_DONE)
			return st;
		in->mem_off = val;
		in->mem_valid = true;
	}
	if (op->flags & F_IMM8)
		imm = 1;
	else if (op->flags & F_IMM)
		imm = min((unsigned int)in->op_size, 4u);
	else if (op->flags & F_IMM16)
		imm = 2;
	else if (op->kind == K_ENTER)
		imm = 3;	/* 16 bits of space, 8 of nesting */
	else if (op->kind == K_GROUP3 && (in->modrm & 0x30) == 0)	/* TEST */
		imm = min((unsigned int)in->op_size, 4u);
	if (imm) {
		st = take(e, imm, &val);
		if (st != EMUL_DONE)
			return st;
		in->imm = val;
	}
	if (in->rip_relative)
		in->mem_off += e->rip + in->len;
	in->mem_off &= size_mask(in->addr_size);
	if (in->seg == EMUL_NR_SEGS)
		in->seg = EMUL_DS;
	return EMUL_DONE;
}

enum emul_status emul_decode(struct emul *e)
{
	struct emul_insn *in = &e->insn;
	const struct emul_op *op;
	enum emul_status st;

	in->len = 0;
	in->map = 0;
	in->rep = 0;
	in->prefix66 = false;
	in->lock = false;
	in->rex = 0;
	in->modrm = 0;
	in->seg = EMUL_NR_SEGS;
	in->mem_valid = false;
	in->rip_relative = false;
	in->base_rsp = false;
	in->mem_off = 0;
	in->imm = 0;
	e->system = false;
	e->shadow = false;
	st = prefixes(e);
	if (st != EMUL_DONE)
		goto fail;
	in->opcode = in->bytes[in->len++];
	op = &one_byte[in->opcode];
	if (in->opcode == 0x0f) {
		st = need(e, in->len + 1);
		if (st != EMUL_DONE)
			goto fail;
		in->map = 1;
		in->opcode = in->bytes[in->len++];
		op = &two_byte[in->opcode];
	}
	st = EMUL_UNHANDLED;
	if (op->kind == K_NONE || (op->kind == K_MOVSXD && e->mode != EMUL_LONG64) ||
	    (in->opcode == 0x82 && !in->map && e->mode == EMUL_LONG64))
		goto fail;
	/* 0F C3 and its like take a mandatory prefix to other instructions. */
	if (in->map && in->opcode == 0xc3 && in->op_size == 2)
		goto fail;
	if (op->flags & F_BYTE)
		in->op_size = 1;
	st = operands(e, op);
	if (st != EMUL_DONE)
		goto fail;
	/* CS.limit holds for what is executed, not for what has been read ahead. */
	if (e->mode != EMUL_LONG64 && (u32)e->rip + (u64)in->len - 1 > e->segs[EMUL_CS].limit) {
		st = emul_gp(e);
		goto fail;
	}
	if (in->lock && !lock_legal(in, op)) {
		st = emul_ud(e);
		goto fail;
	}
	in->op = op;
	return EMUL_DONE;
fail:
	in->len = 0;
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
		switch (m->size) {
		case 1:
			m->imm = b[i];
			i += 1;
			break;
		case 2:
			m->imm = b[i] | b[i + 1] << 8;
			i += 2;
			break;
		default:
			m->imm = (s64)(s32)(b[i] | b[i + 1] << 8 | b[i + 2] << 16 |
					    (u32)b[i + 3] << 24);
			i += 4;
		}
	}
	m->len = i;
	return true;
}
