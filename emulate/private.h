/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the decoder and the operations. */
#ifndef SVM_EMULATE_PRIVATE_H
#define SVM_EMULATE_PRIVATE_H

#include "emulate/emulate.h"

#define FLAG_CF		BIT(0)
#define FLAG_PF		BIT(2)
#define FLAG_AF		BIT(4)
#define FLAG_ZF		BIT(6)
#define FLAG_SF		BIT(7)
#define FLAG_DF		BIT(10)
#define FLAG_OF		BIT(11)
#define FLAGS_ARITH	(FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define VEC_DE		0
#define VEC_UD		6
#define VEC_NM		7
#define VEC_NP		11
#define VEC_SS		12
#define VEC_GP		13
#define VEC_MF		16

/* What an opcode does; a row of the tables in decode.c. */
enum emul_kind {
	K_NONE,			/* not emulated */
	K_ALU_MR, K_ALU_RM,	/* ADD..CMP, direction; the operation is in opcode bits 5:3 */
	K_GROUP1,		/* ADD..CMP r/m,imm; the operation is in ModRM.reg */
	K_TEST_MR, K_XCHG, K_MOV_MR, K_MOV_RM, K_MOV_MI, K_MOV_FROM_SREG, K_MOV_TO_SREG, K_MOVSX,
	K_MOVS, K_CMPS, K_STOS, K_LODS, K_SCAS, K_INS, K_OUTS,
	K_GROUP2,		/* shifts and rotates */
	K_GROUP3,		/* TEST, NOT, NEG, MUL, DIV */
	K_IMUL,			/* with two or three operands */
	K_GROUP45,		/* INC, DEC, PUSH */
	K_POP,
	K_PUSH, K_POP_REG, K_ENTER, K_LEAVE, K_CALL, K_RET,	/* the stack is their memory */
	K_GROUP6, K_GROUP7, K_SHIFT_DOUBLE, K_BIT_SCAN,
	K_BT,			/* BT..BTC; the operation is in opcode bits 5:3, or ModRM.reg */
	K_CMPXCHG, K_GROUP9, K_XADD, K_SETCC, K_CMOV,
	K_SSE,			/* moves between XMM or MMX registers and memory */
};

#define F_MODRM		BIT(0)
#define F_BYTE		BIT(1)	/* 8-bit operand */
#define F_IMM		BIT(2)	/* immediate of operand size, at most 4 bytes */
#define F_IMM8		BIT(3)	/* 8-bit immediate, sign-extended */
#define F_LOCK		BIT(4)	/* LOCK may precede it where it writes memory */
#define F_SRC8		BIT(5)	/* memory operand of 8 bits (MOVZX, MOVSX) */
#define F_SRC16		BIT(6)	/* memory operand of 16 bits */
#define F_ONE		BIT(7)	/* shift by one */
#define F_CL		BIT(8)	/* shift by CL */
#define F_IMM16		BIT(9)	/* 16-bit immediate */
#define F_STACK		BIT(10)	/* memory is accessed though ModRM may name none */
#define F_SRC32		BIT(11)	/* memory operand of 32 bits (MOVSXD) */
#define F_MOFFS		BIT(12)	/* the address of memory stands in the instruction */
#define F_SI		BIT(13)	/* string at rSI */
#define F_DI		BIT(14)	/* string at rDI */

struct emul_op {
	u8 kind;
	u16 flags;
};

static inline u64 size_mask(unsigned int size)
{
	return size == 8 ? ~0ull : (1ull << (8 * size)) - 1;
}

static inline s64 sign_extend(u64 val, unsigned int size)
{
	unsigned int unused = 64 - 8 * size;

	return (s64)(val << unused) >> unused;
}

/* A register after a write of @size bytes: 4 clear the upper half, fewer leave the rest. */
static inline u64 merge(u64 old, u64 val, unsigned int size)
{
	if (size == 4)
		return (u32)val;
	return (old & ~size_mask(size)) | (val & size_mask(size));
}

static inline unsigned int reg_number(const struct emul *e)
{
	return ((e->insn.modrm >> 3) & 7) | (e->insn.rex & 4 ? 8 : 0);
}

/* What the stack pointer moves by. */
static inline unsigned int push_size(const struct emul *e)
{
	return e->mode == EMUL_LONG64 && e->insn.op_size == 4 ? 8 : e->insn.op_size;
}

/* Which of an opcode's operations: ModRM.reg, but for those that have an opcode for each. */
static inline unsigned int sub_op(const struct emul *e)
{
	const struct emul_insn *in = &e->insn;
	bool in_opcode = in->op->kind == K_ALU_MR || in->op->kind == K_ALU_RM ||
			 (in->op->kind == K_BT && !in->has_imm);

	return ((in_opcode ? in->opcode : in->modrm) >> 3) & 7;
}

/* address.c */
enum emul_status emul_linear(struct emul *e, unsigned int seg, u64 offset, unsigned int len,
			     bool write, u64 *addr);
enum emul_status emul_read(struct emul *e, unsigned int seg, u64 offset, void *buf,
			   unsigned int len);
enum emul_status emul_write(struct emul *e, unsigned int seg, u64 offset, const void *buf,
			    unsigned int len);
enum emul_status emul_gp(struct emul *e);
enum emul_status emul_ud(struct emul *e);
enum emul_status emul_retire(struct emul *e);
enum emul_status emul_selector(struct emul *e, unsigned int seg, u16 sel, struct emul_seg *s);
enum emul_status emul_branch_check(struct emul *e, const struct emul_seg *cs, u64 target);

/* alu.c */
u64 alu_op(unsigned int op, u64 dst, u64 src, unsigned int size, u64 *rflags);
u64 alu_shift(unsigned int op, u64 dst, unsigned int count, unsigned int size, u64 *rflags);
u64 alu_shld(bool right, u64 dst, u64 src, unsigned int n, unsigned int size, u64 *rflags);
void alu_mul(bool sign, u64 a, u64 b, unsigned int size, u64 *hi, u64 *lo, u64 *rflags);
bool alu_div(bool sign, u64 *hi, u64 *lo, u64 div, unsigned int size);
bool alu_condition(unsigned int cc, u64 rflags);
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* string.c */
enum emul_status emul_string(struct emul *e);

#endif
