// SPDX-License-Identifier: GPL-2.0
/*
 * Differential test of the emulator: random instructions with a memory operand run on the CPU and in the emulator,
 * from the same registers, flags and memory; what they leave behind must be the same.
 */
#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "emulate/emulate.h"
#include "ktap.h"
#include "native.h"

/* All below 2 GiB, so that absolute and 32-bit addressing reach it. */
#define STATE_AT  0x20000000UL
#define CODE_AT	  0x20010000UL
#define DATA_AT	  0x20020000UL
#define DATA_SIZE 0x8000UL
#define GS_BASE	  0x400UL

#define FL_CF	 0x001
#define FL_PF	 0x004
#define FL_AF	 0x010
#define FL_ZF	 0x040
#define FL_SF	 0x080
#define FL_DF	 0x400
#define FL_OF	 0x800
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

struct state {
	u64 in[16];
	u64 in_flags;
	u64 out[16];
	u64 out_flags;
	u64 host_rsp;
};

enum shape { SHAPE_MODRM, SHAPE_MOFFS, SHAPE_STRING, SHAPE_IMPLICIT };
enum undef {
	UNDEF_NONE,
	UNDEF_LOGIC,
	UNDEF_SHIFT,
	UNDEF_ROTATE,
	UNDEF_BIT,
	UNDEF_MUL,
	UNDEF_SCAN,
	UNDEF_ALL
};

/* How to make an instruction; @reg is ModRM.reg, -1 for any register, -2 for any segment register. */
struct template
{
	const char *name;
	u8 len, opcode[2];
	s8 reg;
	u8 imm; /* bytes; 4: by operand size */
	bool byte, lock;
	enum shape shape;
	enum undef undef;
	u8 special;
};

enum {
	SP_NONE,
	SP_BITREG,
	SP_CX8,
	SP_STACK,
	SP_NO66,
	SP_CMPXCHG,
	SP_COMPARE,
	SP_DIV,
	SP_DOUBLE,
	SP_LEAVE
};

#define T1(n, op, r, i, b, l, ...) \
	{ \
		n, 1, { op }, r, i, b, l, SHAPE_MODRM, ##__VA_ARGS__ \
	}
#define T2(n, op, r, i, b, l, ...) \
	{ \
		n, 2, { 0x0f, op }, r, i, b, l, SHAPE_MODRM, ##__VA_ARGS__ \
	}
#define ALU(n, op, l, u) \
	T1(n, 8 * (op) + 0, -1, 0, true, l, u), T1(n, 8 * (op) + 1, -1, 0, false, l, u), \
		T1(n, 8 * (op) + 2, -1, 0, true, false, u), \
		T1(n, 8 * (op) + 3, -1, 0, false, false, u), T1(n, 0x80, op, 1, true, l, u), \
		T1(n, 0x81, op, 4, false, l, u), T1(n, 0x83, op, 1, false, l, u)
#define STR(n, op, sp) \
	{ n, 1, { op }, 0, 0, true, false, SHAPE_STRING, UNDEF_NONE, sp }, \
	{ \
		n, 1, { (op) + 1 }, 0, 0, false, false, SHAPE_STRING, UNDEF_NONE, sp \
	}
#define SHIFT(n, r, u) \
	T1(n, 0xc0, r, 1, true, false, u), T1(n, 0xc1, r, 1, false, false, u), \
		T1(n, 0xd0, r, 0, true, false, u), T1(n, 0xd1, r, 0, false, false, u), \
		T1(n, 0xd2, r, 0, true, false, u), T1(n, 0xd3, r, 0, false, false, u)

static const struct template templates[] = {
	ALU("add", 0, true, UNDEF_NONE),
	ALU("or", 1, true, UNDEF_LOGIC),
	ALU("adc", 2, true, UNDEF_NONE),
	ALU("sbb", 3, true, UNDEF_NONE),
	ALU("and", 4, true, UNDEF_LOGIC),
	ALU("sub", 5, true, UNDEF_NONE),
	ALU("xor", 6, true, UNDEF_LOGIC),
	ALU("cmp", 7, false, UNDEF_NONE),
	T1("test", 0x84, -1, 0, true, false, UNDEF_LOGIC),
	T1("test", 0x85, -1, 0, false, false, UNDEF_LOGIC),
	T1("test", 0xf6, 0, 1, true, false, UNDEF_LOGIC),
	T1("test", 0xf7, 0, 4, false, false, UNDEF_LOGIC),
	T1("not", 0xf6, 2, 0, true, true),
	T1("not", 0xf7, 2, 0, false, true),
	T1("neg", 0xf6, 3, 0, true, true),
	T1("neg", 0xf7, 3, 0, false, true),
	T1("inc", 0xfe, 0, 0, true, true),
	T1("inc", 0xff, 0, 0, false, true),
	T1("dec", 0xfe, 1, 0, true, true),
	T1("dec", 0xff, 1, 0, false, true),
	T1("mul", 0xf6, 4, 0, true, false, UNDEF_MUL),
	T1("mul", 0xf7, 4, 0, false, false, UNDEF_MUL),
	T1("imul", 0xf6, 5, 0, true, false, UNDEF_MUL),
	T1("imul", 0xf7, 5, 0, false, false, UNDEF_MUL),
	T1("div", 0xf6, 6, 0, true, false, UNDEF_ALL, SP_DIV),
	T1("div", 0xf7, 6, 0, false, false, UNDEF_ALL, SP_DIV),
	T1("idiv", 0xf6, 7, 0, true, false, UNDEF_ALL, SP_DIV),
	T1("idiv", 0xf7, 7, 0, false, false, UNDEF_ALL, SP_DIV),
	T2("imul", 0xaf, -1, 0, false, false, UNDEF_MUL),
	T1("imul", 0x69, -1, 4, false, false, UNDEF_MUL),
	T1("imul", 0x6b, -1, 1, false, false, UNDEF_MUL),
	T1("mov", 0x88, -1, 0, true, false),
	T1("mov", 0x89, -1, 0, false, false),
	T1("mov", 0x8a, -1, 0, true, false),
	T1("mov", 0x8b, -1, 0, false, false),
	T1("mov", 0xc6, 0, 1, true, false),
	T1("mov", 0xc7, 0, 4, false, false),
	T1("mov sreg", 0x8c, -2, 0, false, false),
	T1("movsxd", 0x63, -1, 0, false, false),
	T2("movzx", 0xb6, -1, 0, false, false),
	T2("movzx", 0xb7, -1, 0, false, false),
	T2("movsx", 0xbe, -1, 0, false, false),
	T2("movsx", 0xbf, -1, 0, false, false),
	T2("movnti", 0xc3, -1, 0, false, false, UNDEF_NONE, SP_NO66),
	{ "mov moffs", 1, { 0xa0 }, 0, 0, true, false, SHAPE_MOFFS, UNDEF_NONE, 0 },
	{ "mov moffs", 1, { 0xa1 }, 0, 0, false, false, SHAPE_MOFFS, UNDEF_NONE, 0 },
	{ "mov moffs", 1, { 0xa2 }, 0, 0, true, false, SHAPE_MOFFS, UNDEF_NONE, 0 },
	{ "mov moffs", 1, { 0xa3 }, 0, 0, false, false, SHAPE_MOFFS, UNDEF_NONE, 0 },
	T1("xchg", 0x86, -1, 0, true, true),
	T1("xchg", 0x87, -1, 0, false, true),
	T2("xadd", 0xc0, -1, 0, true, true),
	T2("xadd", 0xc1, -1, 0, false, true),
	T2("cmpxchg", 0xb0, -1, 0, true, true, UNDEF_NONE, SP_CMPXCHG),
	T2("cmpxchg", 0xb1, -1, 0, false, true, UNDEF_NONE, SP_CMPXCHG),
	T2("cmpxchg8b", 0xc7, 1, 0, false, true, UNDEF_NONE, SP_CX8),
	T2("bt", 0xa3, -1, 0, false, false, UNDEF_BIT, SP_BITREG),
	T2("bts", 0xab, -1, 0, false, true, UNDEF_BIT, SP_BITREG),
	T2("btr", 0xb3, -1, 0, false, true, UNDEF_BIT, SP_BITREG),
	T2("btc", 0xbb, -1, 0, false, true, UNDEF_BIT, SP_BITREG),
	T2("bsf", 0xbc, -1, 0, false, false, UNDEF_SCAN),
	T2("bsr", 0xbd, -1, 0, false, false, UNDEF_SCAN),
	T2("shld", 0xa4, -1, 1, false, false, UNDEF_SHIFT, SP_DOUBLE),
	T2("shld", 0xa5, -1, 0, false, false, UNDEF_SHIFT, SP_DOUBLE),
	T2("shrd", 0xac, -1, 1, false, false, UNDEF_SHIFT, SP_DOUBLE),
	T2("shrd", 0xad, -1, 0, false, false, UNDEF_SHIFT, SP_DOUBLE),
	T2("bt", 0xba, 4, 1, false, false, UNDEF_BIT),
	T2("bts", 0xba, 5, 1, false, true, UNDEF_BIT),
	T2("btr", 0xba, 6, 1, false, true, UNDEF_BIT),
	T2("btc", 0xba, 7, 1, false, true, UNDEF_BIT),
	T1("push", 0xff, 6, 0, false, false, UNDEF_NONE, SP_STACK),
	T1("pop", 0x8f, 0, 0, false, false, UNDEF_NONE, SP_STACK),
	{ "push", 1, { 0x51 }, 0, 0, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "push rsp", 1, { 0x54 }, 0, 0, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "push imm", 1, { 0x68 }, 0, 4, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "push imm", 1, { 0x6a }, 0, 1, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "pop", 1, { 0x5a }, 0, 0, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "pop rsp", 1, { 0x5c }, 0, 0, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_STACK },
	{ "leave", 1, { 0xc9 }, 0, 0, false, false, SHAPE_IMPLICIT, UNDEF_NONE, SP_LEAVE },
	STR("movs", 0xa4, 0),
	STR("stos", 0xaa, 0),
	STR("lods", 0xac, 0),
	STR("cmps", 0xa6, SP_COMPARE),
	STR("scas", 0xae, SP_COMPARE),
	SHIFT("rol", 0, UNDEF_ROTATE),
	SHIFT("ror", 1, UNDEF_ROTATE),
	SHIFT("rcl", 2, UNDEF_ROTATE),
	SHIFT("rcr", 3, UNDEF_ROTATE),
	SHIFT("shl", 4, UNDEF_SHIFT),
	SHIFT("shr", 5, UNDEF_SHIFT),
	SHIFT("sal", 6, UNDEF_SHIFT),
	SHIFT("sar", 7, UNDEF_SHIFT),
	T2("seto", 0x90, 0, 0, true, false),
	T2("setb", 0x92, 0, 0, true, false),
	T2("sete", 0x94, 0, 0, true, false),
	T2("seta", 0x97, 0, 0, true, false),
	T2("sets", 0x98, 0, 0, true, false),
	T2("setnp", 0x9b, 0, 0, true, false),
	T2("setl", 0x9c, 0, 0, true, false),
	T2("setg", 0x9f, 0, 0, true, false),
	T2("cmovno", 0x41, -1, 0, false, false),
	T2("cmovae", 0x43, -1, 0, false, false),
	T2("cmovne", 0x45, -1, 0, false, false),
	T2("cmovbe", 0x46, -1, 0, false, false),
	T2("cmovns", 0x49, -1, 0, false, false),
	T2("cmovp", 0x4a, -1, 0, false, false),
	T2("cmovge", 0x4d, -1, 0, false, false),
	T2("cmovle", 0x4e, -1, 0, false, false),
};

static u8 shadow[DATA_SIZE], pattern[DATA_SIZE];
static u64 rng_state;

static u64 rnd(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static u64 below(u64 n)
{
	return (rnd() >> 16) % n;
}

/* Values around which flags change are as likely as any other. */
static u64 value(void)
{
	static const u64 edges[] = { 0,
				     1,
				     0x7f,
				     0x80,
				     0xff,
				     0x7fff,
				     0x8000,
				     0xffff,
				     0x7fffffff,
				     0x80000000,
				     0xffffffff,
				     0x7fffffffffffffff,
				     0x8000000000000000,
				     ~0ULL };

	return below(3) ? rnd() : edges[below(ARRAY_LEN(edges))];
}

/* --- making an instruction --- */

struct insn {
	const struct template *t;
	u8 bytes[32];
	unsigned int len;
	bool opsize, addrsize, gs;
	u8 rex, rep;
	unsigned int op_size;
	u64 target; /* address of the memory operand, before GS */
	u8 imm;
};

static void put(struct insn *in, u64 val, unsigned int n)
{
	memcpy(in->bytes + in->len, &val, n);
	in->len += n;
}

/* Registers that ModRM uses get the values that make the address. */
static bool put_modrm(struct insn *in, u64 *regs, unsigned int reg, unsigned int tail)
{
	unsigned int mod = below(3), rm = below(8), base = rm, index = 4, scale = 0, disp_size = 0;
	bool has_base = true, has_sib = rm == 4, rip = false;
	u64 off = in->target, disp = 0;
	u8 sib = rnd();

	if (has_sib) {
		base = sib & 7;
		index = ((sib >> 3) & 7) | (in->rex & 2 ? 8 : 0);
		scale = sib >> 6;
	}
	if (mod == 0 && base == 5) {
		has_base = false;
		rip = !has_sib;
	}
	disp_size = !has_base || mod == 2 ? 4 : mod;
	base |= in->rex & 1 ? 8 : 0;
	if (has_base && index != 4 && base == index)
		return false;
	/* The bit offset is a value of its own. */
	if (in->t->special == SP_BITREG &&
	    ((has_base && reg == base) || (index != 4 && reg == index)))
		return false;
	if (index != 4) {
		regs[index] = below(256);
		off -= regs[index] << scale;
	}
	if (has_base) {
		/* Little, so that RSP as a base is still a stack. */
		disp = disp_size == 1 ? (u64)(s8)rnd() : disp_size ? below(0x1000) - 0x800 : 0;
		regs[base] = off - disp;
	} else {
		disp = off;
	}
	if (in->addrsize) {
		if (index != 4)
			regs[index] |= rnd() << 32;
		if (has_base && base != 4)
			regs[base] = (u32)regs[base] | rnd() << 32;
	}
	put(in, mod << 6 | (reg & 7) << 3 | rm, 1);
	if (has_sib)
		put(in, sib, 1);
	if (rip)
		disp = off - (CODE_AT + 0x400 + in->len + 4 + tail);
	put(in, disp, disp_size);
	return true;
}

static unsigned int operand_size(const struct insn *in)
{
	if (in->t->byte)
		return 1;
	if (in->t->special == SP_STACK || in->t->special == SP_LEAVE)
		return in->opsize && !(in->rex & 8) ? 2 : 8;
	return in->rex & 8 ? 8 : in->opsize ? 2 : 4;
}

static void set_operands(struct insn *in, u64 *regs, unsigned int reg)
{
	u64 mid = DATA_AT + DATA_SIZE / 2;

	switch (in->t->special) {
	case SP_BITREG:
		regs[reg] = (rnd() & ~0xffffffffULL) | (u32)(s32)(below(0x8000) - 0x4000);
		if (in->op_size == 8)
			regs[reg] = (u64)(s32)regs[reg];
		break;
	case SP_DIV: /* quotients that fit are as likely as others */
		regs[2] = below(2) ? below(16) : (u64)((s64)regs[0] >> 63);
		if (in->op_size == 1)
			regs[0] = (u16)(s8)below(256);
		break;
	case SP_LEAVE:
		regs[5] = mid + below(0x400);
		break;
	case SP_STACK:
		regs[4] = mid + below(0x400) * 8;
		break;
	}
	if (in->t->shape == SHAPE_STRING) {
		regs[6] = mid + below(0x800) - 0x400;
		regs[7] = mid + below(0x800) - 0x400;
		if (!below(3))
			regs[7] = regs[6] + below(16);
		if (in->addrsize) {
			regs[6] |= rnd() << 32;
			regs[7] |= rnd() << 32;
		}
		if (in->rep)
			regs[1] = below(40) | (in->addrsize ? rnd() << 32 : 0);
	}
}

static bool make(struct insn *in, u64 *regs)
{
	static const u8 ignored[] = { 0x26, 0x2e, 0x36, 0x3e };
	const struct template *t = &templates[below(ARRAY_LEN(templates))];
	unsigned int reg, tail;
	bool lock = t->lock && below(2);

	memset(in, 0, sizeof(*in));
	in->t = t;
	in->opsize = t->special != SP_NO66 && !below(4);
	in->addrsize = !below(4);
	in->gs = !below(6);
	if (t->shape == SHAPE_STRING)
		in->rep = below(3) == 0 ? 0 : below(2) ? 0xf2 : 0xf3;
	in->rex = below(2) ? 0x40 | below(16) : 0;
	if (t->special == SP_CX8 && !below(3))
		in->rex = 0x48 | (in->rex & 7);
	in->op_size = operand_size(in);
	reg = t->reg == -1 ? below(8) : t->reg == -2 ? below(6) : (unsigned int)t->reg;
	reg |= t->reg == -1 && (in->rex & 4) ? 8 : 0;
	in->target = DATA_AT + DATA_SIZE / 2 + below(0x1000);
	if (t->special == SP_CX8)
		in->target &= ~15ULL;
	if (in->gs && t->special == SP_CX8)
		in->gs = false;
	for (unsigned int i = 0; i < 16; i++)
		regs[i] = value();
	set_operands(in, regs, reg);

	if (in->opsize)
		put(in, 0x66, 1);
	if (!below(8))
		put(in, ignored[below(4)], 1);
	if (in->gs)
		put(in, 0x65, 1);
	if (!below(12) && !in->rex)
		put(in, 0x3e48, 2); /* a REX that does not count */
	if (lock)
		put(in, 0xf0, 1);
	if (in->rep)
		put(in, in->rep, 1);
	if (in->addrsize)
		put(in, 0x67, 1);
	if (in->rex)
		put(in, in->rex, 1);
	put(in, t->opcode[0], 1);
	if (t->len == 2)
		put(in, t->opcode[1], 1);
	tail = t->imm == 4 && in->op_size == 2 ? 2 : t->imm;
	if (t->shape == SHAPE_MODRM && !put_modrm(in, regs, reg, tail))
		return false;
	if (t->shape == SHAPE_MOFFS)
		put(in, in->target, in->addrsize ? 4 : 8);
	in->imm = rnd();
	/* A count beyond the operand's size gives nothing defined. */
	if (t->special == SP_DOUBLE && in->op_size == 2) {
		in->imm &= 0xef;
		if (!t->imm && (regs[1] & 0x1f) > 16)
			return false;
	}
	put(in, tail == 1 ? in->imm : value(), tail);
	return in->len <= 15;
}

/* --- running it --- */

static void emit(u8 **p, const void *bytes, unsigned int n)
{
	memcpy(*p, bytes, n);
	*p += n;
}

/* MOV between register @reg and an absolute address. */
static void emit_mov(u8 **p, u8 opcode, unsigned int reg, u64 addr)
{
	u8 b[4] = { 0x48 | (reg & 8 ? 4 : 0), opcode, 0x04 | (reg & 7) << 3, 0x25 };
	u32 a = addr;

	emit(p, b, 4);
	emit(p, &a, 4);
}

static void emit_flags(u8 **p, bool load, u64 addr)
{
	static const u8 in[] = { 0xff, 0x34, 0x25 }, out[] = { 0x8f, 0x04, 0x25 };
	u32 a = addr;

	if (!load)
		*(*p)++ = 0x9c;
	emit(p, load ? in : out, 3);
	emit(p, &a, 4);
	if (load)
		*(*p)++ = 0x9d;
}

#define FIELD(f) (STATE_AT + offsetof(struct state, f))

/* Everything but the instruction itself, which ends at CODE_AT + 0x400 + its length. */
static void build(const struct insn *in)
{
	static const u8 save[] = { 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57 };
	static const u8 restore[] = { 0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41,
				      0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 };
	u8 code[0x400], *p = code;
	unsigned int i;

	emit(&p, save, sizeof(save));
	emit_mov(&p, 0x89, 4, FIELD(host_rsp));
	emit_flags(&p, true, FIELD(in_flags));
	for (i = 0; i < 16; i++)
		emit_mov(&p, 0x8b, i, FIELD(in) + 8 * i);
	memcpy((u8 *)CODE_AT + 0x400 - (p - code), code, p - code);

	p = (u8 *)CODE_AT + 0x400;
	emit(&p, in->bytes, in->len);
	for (i = 0; i < 16; i++)
		emit_mov(&p, 0x89, i, FIELD(out) + 8 * i);
	emit_mov(&p, 0x8b, 4, FIELD(host_rsp));
	emit_flags(&p, false, FIELD(out_flags));
	emit(&p, restore, sizeof(restore));
}

static void run_native(void)
{
	unsigned int prologue = 10 + 8 + 8 + 16 * 8;

	((void (*)(void))(CODE_AT + 0x400 - prologue))();
}

/* #DE: on with the epilogue, which takes the registers as they are. */
static unsigned int insn_size;
static bool divide_error;

static void on_fpe(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	divide_error = true;
	uc->uc_mcontext.gregs[REG_RIP] += insn_size;
}

static void catch_divide_errors(void)
{
	static u8 stack[0x4000];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigaltstack(&ss, NULL);
	sigaction(SIGFPE, &sa, NULL);
}

static u8 *shadow_at(u64 addr, unsigned int len)
{
	if (addr < DATA_AT || addr + len > DATA_AT + DATA_SIZE)
		return NULL;
	return shadow + (addr - DATA_AT);
}

static enum emul_status op_fetch(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	(void)e;
	memcpy(buf, (void *)addr, len);
	return EMUL_DONE;
}

static enum emul_status op_read(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	u8 *p = shadow_at(addr, len);

	if (!p)
		return emul_set_fault(e, 14, true, 0, addr);
	memcpy(buf, p, len);
	return EMUL_DONE;
}

static enum emul_status op_write(struct emul *e, u64 addr, const void *buf, unsigned int len)
{
	u8 *p = shadow_at(addr, len);

	if (!p)
		return emul_set_fault(e, 14, true, 2, addr);
	memcpy(p, buf, len);
	return EMUL_DONE;
}

static enum emul_status op_cas(struct emul *e, u64 addr, const void *old, const void *new,
			       unsigned int len)
{
	u8 *p = shadow_at(addr, len);

	if (!p)
		return emul_set_fault(e, 14, true, 2, addr);
	if (memcmp(p, old, len))
		return EMUL_RETRY;
	memcpy(p, new, len);
	return EMUL_DONE;
}

static enum emul_status op_probe(struct emul *e, u64 addr, unsigned int len)
{
	return shadow_at(addr, len) ? EMUL_DONE : emul_set_fault(e, 14, true, 2, addr);
}

static const struct emul_ops ops = {
	.fetch = op_fetch,
	.read = op_read,
	.write = op_write,
	.cas = op_cas,
	.probe_write = op_probe,
};

static enum emul_status run_emulated(struct emul *e, const struct state *s)
{
	enum emul_status st;
	unsigned int i;
	u16 sel;

	memset(e, 0, sizeof(*e));
	memcpy(e->regs, s->in, sizeof(e->regs));
	e->rip = CODE_AT + 0x400;
	e->rflags = s->in_flags;
	e->mode = EMUL_LONG64;
	e->lma = true;
	e->segs[EMUL_CS].attr = 0xa9b;
	e->cpl = 3;
	e->ops = &ops;
	__asm__("mov %%es, %0" : "=r"(sel));
	e->segs[EMUL_ES].sel = sel;
	__asm__("mov %%cs, %0" : "=r"(sel));
	e->segs[EMUL_CS].sel = sel;
	__asm__("mov %%ss, %0" : "=r"(sel));
	e->segs[EMUL_SS].sel = sel;
	__asm__("mov %%ds, %0" : "=r"(sel));
	e->segs[EMUL_DS].sel = sel;
	__asm__("mov %%fs, %0" : "=r"(sel));
	e->segs[EMUL_FS].sel = sel;
	__asm__("mov %%gs, %0" : "=r"(sel));
	e->segs[EMUL_GS].sel = sel;
	e->segs[EMUL_GS].base = GS_BASE;
	st = emul_decode(e);
	for (i = 0; st == EMUL_DONE && e->rip == CODE_AT + 0x400 && i < 10; i++)
		st = emul_run(e);
	return st;
}

/* Flags that the instruction leaves undefined. */
static u64 undefined(const struct insn *in, const u64 *regs)
{
	unsigned int count;
	u64 mask = 0;

	switch (in->t->undef) {
	case UNDEF_LOGIC:
		return FL_AF;
	case UNDEF_SCAN:
		return FL_ARITH & ~FL_ZF;
	case UNDEF_MUL:
		return FL_SF | FL_ZF | FL_AF | FL_PF;
	case UNDEF_ALL:
		return FL_ARITH;
	case UNDEF_BIT:
		return FL_OF | FL_SF | FL_AF | FL_PF;
	case UNDEF_SHIFT:
	case UNDEF_ROTATE:
		count = in->t->imm					       ? in->imm
			: in->t->opcode[0] == 0x0f || in->t->opcode[0] >= 0xd2 ? regs[1] & 0xff
									       : 1;
		count &= in->op_size == 8 ? 63 : 31;
		if (!count)
			return 0;
		if (in->t->undef == UNDEF_SHIFT) {
			mask |= FL_AF;
			if (count >= 8 * in->op_size)
				mask |= FL_CF;
		}
		return count == 1 ? mask : mask | FL_OF;
	default:
		return 0;
	}
}

static void fail_insn(const struct insn *in, const char *what, u64 got, u64 want,
		      const struct state *s)
{
	char hex[64] = "";

	for (unsigned int i = 0; i < in->len; i++)
		sprintf(hex + 3 * i, "%02x ", in->bytes[i]);
	ktap_diag("rax %#llx rcx %#llx rdx %#llx rflags %#llx target %#llx",
		  (unsigned long long)s->in[0], (unsigned long long)s->in[1],
		  (unsigned long long)s->in[2], (unsigned long long)s->in_flags,
		  (unsigned long long)in->target);
	ktap_fail(__FILE__, __LINE__, "%s: %s: %s is %#llx, natively %#llx", in->t->name, hex, what,
		  (unsigned long long)got, (unsigned long long)want);
}

/*
 * With 32-bit addresses and ECX=0 a REP does nothing, on AMD's processors. Intel's may clear the upper halves of RCX, RSI
 * and RDI.
 */
static bool rep_of_nothing(const struct insn *in, const struct state *s)
{
	return in->rep && in->addrsize && !(u32)s->in[1];
}

static bool same_register(const struct insn *in, const struct state *s, unsigned int i,
			  u64 emulated)
{
	if (rep_of_nothing(in, s) && __builtin_cpu_is("intel") && (i == 1 || i == 6 || i == 7))
		return emulated == s->in[i] &&
		       (s->out[i] == s->in[i] || s->out[i] == (u32)s->in[i]);
	return emulated == s->out[i];
}

static void compare(const struct insn *in, const struct emul *e, const struct state *s)
{
	u64 mask = (FL_ARITH | FL_DF) & ~undefined(in, s->in);
	char name[16];

	for (unsigned int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "register %u", i);
		if (!same_register(in, s, i, e->regs[i]))
			fail_insn(in, name, e->regs[i], s->out[i], s);
	}
	if ((e->rflags ^ s->out_flags) & mask)
		fail_insn(in, "rflags", e->rflags & mask, s->out_flags & mask, s);
	if (e->rip != CODE_AT + 0x400 + (divide_error ? 0 : in->len))
		fail_insn(in, "rip", e->rip, CODE_AT + 0x400 + (divide_error ? 0 : in->len), s);
	for (unsigned int i = 0; i < DATA_SIZE; i++)
		if (shadow[i] != ((u8 *)DATA_AT)[i])
			fail_insn(in, "memory", shadow[i], ((u8 *)DATA_AT)[i], s);
}

/* Comparisons should also succeed: plant what the instruction compares with. */
static void set_memory(const struct insn *in, const struct state *s)
{
	u8 *p = (u8 *)in->target + (in->gs ? GS_BASE : 0);

	memcpy((void *)DATA_AT, pattern, DATA_SIZE);
	if (below(2))
		return;
	if (in->t->special == SP_CMPXCHG) {
		memcpy(p, &s->in[0], 8);
	} else if (in->t->special == SP_CX8) {
		memcpy(p, &s->in[0], in->op_size == 8 ? 8 : 4);
		memcpy(p + (in->op_size == 8 ? 8 : 4), &s->in[2], 8);
	} else if (in->t->undef == UNDEF_SCAN) {
		memset(p, 0, 8);
	} else if (in->t->special == SP_COMPARE) {
		memset((u8 *)DATA_AT + DATA_SIZE / 2 - 0x400, s->in[0], 0x800);
		((u8 *)DATA_AT)[DATA_SIZE / 2 + below(0x400)] ^= 1;
	}
}

static void map_all(void)
{
	static const u64 at[] = { STATE_AT, CODE_AT, DATA_AT };
	static const u64 size[] = { 0x1000, 0x1000, DATA_SIZE };

	for (unsigned int i = 0; i < ARRAY_LEN(at); i++)
		if (mmap((void *)at[i], size[i], PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)at[i])
			ktap_skip("no executable memory at a fixed address");
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE))
		ktap_skip("cannot set the GS base");
}

void test_native(void)
{
	struct state *s = (struct state *)STATE_AT;
	const char *seed = getenv("SEED"), *rounds = getenv("ROUNDS");
	unsigned long n = rounds ? strtoul(rounds, NULL, 0) : 100000;
	enum emul_status st;
	struct insn in;
	struct emul e;

	map_all();
	catch_divide_errors();
	rng_state = (seed ? strtoull(seed, NULL, 0) : 1) * 0x9e3779b97f4a7c15ULL | 1;
	for (unsigned int i = 0; i < DATA_SIZE; i++)
		pattern[i] = rnd() >> 32;
	while (n) {
		if (!make(&in, s->in))
			continue;
		n--;
		s->in_flags = 0x202 | (rnd() & FL_ARITH) | (below(4) ? 0 : FL_DF);
		set_memory(&in, s);
		memcpy(shadow, (void *)DATA_AT, DATA_SIZE);
		build(&in);
		st = run_emulated(&e, s);
		insn_size = in.len;
		divide_error = false;
		run_native();
		if (st != (divide_error ? EMUL_FAULT : EMUL_DONE) || (divide_error && e.vector))
			fail_insn(&in, "status", st, divide_error, s);
		compare(&in, &e, s);
	}
}
