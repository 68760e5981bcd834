// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of the instruction emulator in userspace: decoding in all modes, segmentation, faults, the order of accesses,
 * and how an instruction that was interrupted goes on.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "emulate/emulate.h"
#include "ktap.h"
#include "native.h"

#define ATTR_DATA   0xc93 /* present, writable, 32-bit */
#define ATTR_DATA16 0x093
#define ATTR_CODE   0xc9b
#define ATTR_CODE64 0xa9b
#define ATTR_RODATA 0xc91
#define ATTR_DOWN   0xc97

#define CODE	 0x1000u
#define MEM_SIZE 0x20000u

/* The machine: flat memory, and what the ops are told to do. */
static struct {
	u8 mem[MEM_SIZE];
	char log[4096]; /* "r addr len;" and so on, in order */
	u64 fail_addr;	/* the access to it gives fail_status once it has come fail_after times */
	enum emul_status fail_status;
	unsigned int fail_after;
	unsigned int pio_limit;
	u32 pio_next;
	unsigned int fetches;
} m;

static struct emul e;

static void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
	size_t n = strlen(m.log);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m.log + n, sizeof(m.log) - n, fmt, ap);
	va_end(ap);
}

static enum emul_status outcome(u64 addr, unsigned int len, bool write)
{
	if (m.fail_addr >= addr && m.fail_addr < addr + len && m.fail_status != EMUL_DONE) {
		if (m.fail_after) {
			m.fail_after--;
			return EMUL_DONE;
		}
		if (m.fail_status == EMUL_FAULT)
			return emul_set_fault(&e, 14, true, write ? 2 : 0, m.fail_addr);
		return m.fail_status;
	}
	return addr + len <= MEM_SIZE ? EMUL_DONE
				      : emul_set_fault(&e, 14, true, write ? 2 : 0, addr);
}

static enum emul_status op_fetch(struct emul *em, u64 addr, void *buf, unsigned int len)
{
	enum emul_status st = outcome(addr, len, false);

	(void)em;
	m.fetches++;
	CHECKF((addr & 0xfff) + len <= 0x1000, "a fetch crosses a page");
	if (st == EMUL_DONE)
		memcpy(buf, m.mem + addr, len);
	return st;
}

static enum emul_status op_read(struct emul *em, u64 addr, void *buf, unsigned int len)
{
	enum emul_status st;

	(void)em;
	note("r %llx %u;", (unsigned long long)addr, len);
	st = outcome(addr, len, false);
	if (st == EMUL_DONE)
		memcpy(buf, m.mem + addr, len);
	return st;
}

static enum emul_status op_write(struct emul *em, u64 addr, const void *buf, unsigned int len)
{
	enum emul_status st;

	(void)em;
	note("w %llx %u;", (unsigned long long)addr, len);
	st = outcome(addr, len, true);
	if (st == EMUL_DONE)
		memcpy(m.mem + addr, buf, len);
	return st;
}

static enum emul_status op_cas(struct emul *em, u64 addr, const void *old, const void *new,
			       unsigned int len)
{
	enum emul_status st;

	(void)em;
	note("c %llx %u;", (unsigned long long)addr, len);
	st = outcome(addr, len, true);
	if (st != EMUL_DONE)
		return st;
	if (memcmp(m.mem + addr, old, len))
		return EMUL_RETRY;
	memcpy(m.mem + addr, new, len);
	return EMUL_DONE;
}

static enum emul_status op_probe(struct emul *em, u64 addr, unsigned int len)
{
	(void)em;
	note("p %llx %u;", (unsigned long long)addr, len);
	return m.fail_status == EMUL_FAULT ? outcome(addr, len, true) : EMUL_DONE;
}

/* Ports count up, from pio_next. */
static enum emul_status op_pio_in(struct emul *em, u16 port, unsigned int size, void *buf,
				  unsigned int *count)
{
	(void)em;
	if (m.fail_addr == port && m.fail_status == EMUL_IO)
		return EMUL_IO;
	if (m.pio_limit && *count > m.pio_limit)
		*count = m.pio_limit;
	note("in %x %u*%u;", port, size, *count);
	for (unsigned int i = 0; i < *count; i++, m.pio_next++)
		memcpy((u8 *)buf + i * size, &m.pio_next, size);
	return EMUL_DONE;
}

static enum emul_status op_pio_out(struct emul *em, u16 port, unsigned int size, const void *buf,
				   unsigned int *count)
{
	(void)em;
	(void)buf;
	if (m.pio_limit && *count > m.pio_limit)
		*count = m.pio_limit;
	note("out %x %u*%u;", port, size, *count);
	return EMUL_DONE;
}

static enum emul_status op_pio_allowed(struct emul *em, u16 port, unsigned int size)
{
	(void)size;
	return port == 0x99 ? emul_set_fault(em, 13, true, 0, 0) : EMUL_DONE;
}

static const struct emul_ops ops = {
	.fetch = op_fetch,
	.read = op_read,
	.write = op_write,
	.cas = op_cas,
	.probe_write = op_probe,
	.pio_in = op_pio_in,
	.pio_out = op_pio_out,
	.pio_allowed = op_pio_allowed,
};

static void init(enum emul_mode mode)
{
	unsigned int i;

	memset(&m, 0, sizeof(m));
	memset(&e, 0, sizeof(e));
	for (i = 0; i < MEM_SIZE; i++)
		m.mem[i] = i * 7 + (i >> 8);
	for (i = 0; i < EMUL_NR_SEGS; i++) {
		e.segs[i].sel = 8 * i + 8;
		e.segs[i].attr = i == EMUL_CS ? ATTR_CODE : ATTR_DATA;
		e.segs[i].limit = 0xffffffff;
		if (mode == EMUL_REAL || mode == EMUL_V86) {
			e.segs[i].limit = 0xffff;
			e.segs[i].attr = ATTR_DATA16;
		}
	}
	e.mode = mode;
	e.lma = mode == EMUL_LONG64;
	if (e.lma)
		e.segs[EMUL_CS].attr = ATTR_CODE64;
	e.rip = CODE;
	e.rflags = 2;
	e.ops = &ops;
}

#define CODE_BYTES(...) \
	do { \
		static const u8 _b[] = { __VA_ARGS__ }; \
		memcpy(m.mem + (u32)(e.rip + (e.mode == EMUL_LONG64 ? 0 : e.segs[EMUL_CS].base)), \
		       _b, sizeof(_b)); \
		e.insn.nr_bytes = 0; \
		e.insn.len = 0; \
		m.log[0] = 0; \
	} while (0)

static enum emul_status step(void)
{
	enum emul_status st = emul_decode(&e);

	return st == EMUL_DONE ? emul_run(&e) : st;
}

#define CHECK_LOG(s) CHECKF(!strcmp(m.log, s), "accesses \"%s\", expected \"%s\"", m.log, s)

static void check_fault(enum emul_status st, u8 vector, bool has_error)
{
	CHECK_EQ(st, EMUL_FAULT);
	CHECK_EQ(e.vector, vector);
	CHECK_EQ(e.has_error, has_error);
	CHECK_EQ(e.error_code, 0);
}

/* --- decoding --- */

static void test_addr16(void)
{
	static const struct {
		u8 modrm, disp[2], len;
		const char *log;
	} t[] = {
		{ 0x00, {}, 2, "r 20300 1;" },
		{ 0x01, {}, 2, "r 20500 1;" },
		{ 0x02, {}, 2, "r 41200 1;" },
		{ 0x03, {}, 2, "r 41400 1;" },
		{ 0x04, {}, 2, "r 20200 1;" },
		{ 0x05, {}, 2, "r 20400 1;" },
		{ 0x06, { 0x34, 0x12 }, 4, "r 21234 1;" },
		{ 0x07, {}, 2, "r 20100 1;" },
		{ 0x46, { 0xff }, 3, "r 40fff 1;" },
		{ 0x87, { 0x00, 0xff }, 4, "r 20000 1;" },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(t); i++) {
		init(EMUL_REAL);
		e.segs[EMUL_DS].base = 0x20000;
		e.segs[EMUL_SS].base = 0x40000;
		e.regs[EMUL_RBX] = 0x100;
		e.regs[EMUL_RSI] = 0x200;
		e.regs[EMUL_RDI] = 0x400;
		e.regs[EMUL_RBP] = 0x1000;
		CODE_BYTES(0x8a);
		m.mem[CODE + 1] = t[i].modrm;
		memcpy(m.mem + CODE + 2, t[i].disp, 2);
		step();
		CHECK_LOG(t[i].log);
		CHECK_EQ(e.insn.len, t[i].len);
	}
}

static void test_wrap16(void)
{
	init(EMUL_REAL);
	e.regs[EMUL_RBX] = 0xfff0;
	e.regs[EMUL_RSI] = 0x30;
	CODE_BYTES(0x8a, 0x00); /* mov al, [bx+si] */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 20 1;");
	CHECK_EQ(e.rip, CODE + 2);

	CODE_BYTES(0xa1, 0xff, 0xff); /* mov ax, [0xffff] */
	check_fault(step(), 13, true);
	CHECK_EQ(e.rip, CODE + 2);
}

static void test_override(void)
{
	init(EMUL_PROT32);
	e.segs[EMUL_GS].base = 0x8000;
	e.segs[EMUL_ES].base = 0x4000;
	e.regs[EMUL_RBP] = 0x10;
	CODE_BYTES(0x65, 0x8a, 0x45, 0x01);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 8011 1;");
	CODE_BYTES(0x65, 0x26, 0x8a, 0x45, 0x01); /* the last one counts */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 4011 1;");

	init(EMUL_LONG64);
	e.segs[EMUL_GS].base = 0x8000;
	e.segs[EMUL_ES].base = 0x4000;
	CODE_BYTES(0x65, 0x26, 0x8a, 0x04, 0x25, 0x11, 0, 0, 0);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 8011 1;");
}

static void test_sizes(void)
{
	init(EMUL_PROT16);
	e.regs[EMUL_RBX] = 0x12345678;
	CODE_BYTES(0x67, 0x66, 0xc7, 0x05, 0x00, 0x20, 0, 0, 1, 2, 3,
		   4); /* mov dword [dword 0x2000] */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("w 2000 4;");
	CHECK_EQ(e.rip, CODE + 12);
	CODE_BYTES(0x89, 0x1e, 0x00, 0x20);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("w 2000 2;");
	init(EMUL_LONG64);
	CODE_BYTES(0x48, 0xc7, 0x04, 0x25, 0x00, 0x20, 0, 0, 0xff, 0xff, 0xff, 0xff);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("w 2000 8;");
	CHECK_EQ(m.mem[0x2007], 0xff);
}

static void test_fetch(void)
{
	/* Nothing of the next page while the instruction does not reach it. */
	init(EMUL_LONG64);
	e.rip = 0x1ffe;
	m.fail_addr = 0x2000;
	m.fail_status = EMUL_FAULT;
	e.regs[EMUL_RBX] = 0x3000;
	CODE_BYTES(0x8a, 0x03);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(m.fetches, 1);
	/* One byte longer, it does. */
	init(EMUL_LONG64);
	e.rip = 0x1ffe;
	m.fail_addr = 0x2000;
	m.fail_status = EMUL_FAULT;
	CODE_BYTES(0x8a, 0x43, 0x00);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(e.vector, 14);
	CHECK_EQ(e.fault_addr, 0x2000);
	CHECK_EQ(e.insn.len, 0);
	/* Bytes that hardware has given are not fetched. */
	init(EMUL_LONG64);
	CODE_BYTES(0x8a, 0x04, 0x25, 0, 0x30, 0, 0);
	memcpy(e.insn.bytes, m.mem + CODE, 15);
	e.insn.nr_bytes = 15;
	m.fetches = 0;
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(m.fetches, 0);
	CHECK_LOG("r 3000 1;");
}

static void test_overlong(void)
{
	init(EMUL_LONG64);
	memset(m.mem + CODE, 0x66, 13);
	m.mem[CODE + 13] = 0x8a;
	m.mem[CODE + 14] = 0x03;
	CHECK_EQ(step(), EMUL_DONE); /* 15 bytes are legal */
	init(EMUL_LONG64);
	memset(m.mem + CODE, 0x66, 14);
	m.mem[CODE + 14] = 0x8a;
	m.mem[CODE + 15] = 0x03;
	check_fault(step(), 13, true);
}

static void test_cs_limit(void)
{
	init(EMUL_PROT32);
	e.segs[EMUL_CS].limit = CODE + 1;
	CODE_BYTES(0x8a, 0x03);
	CHECK_EQ(step(), EMUL_DONE);
	init(EMUL_PROT32);
	e.segs[EMUL_CS].limit = CODE;
	CODE_BYTES(0x8a, 0x03);
	check_fault(step(), 13, true);
}

static void test_rip_wrap(void)
{
	init(EMUL_PROT32);
	e.segs[EMUL_CS].base = 0x3000;
	e.rip = 0xfffffffe;
	e.regs[EMUL_RBX] = 0x4000;
	m.mem[0x2ffe] = 0x8a;
	m.mem[0x2fff] = 0x03;
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, 0);
	/* The same behind a string instruction. */
	init(EMUL_PROT32);
	e.segs[EMUL_CS].base = 0x3000;
	e.rip = 0xffffffff;
	m.mem[0x2fff] = 0xac;
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, 0);
}

static void test_lock(void)
{
	static const u8 illegal[][5] = {
		{ 0xf0, 0x89, 0x03 },
		{ 0xf0, 0x8b, 0x03 },
		{ 0xf0, 0x03, 0x03 },
		{ 0xf0, 0x39, 0x03 },
		{ 0xf0, 0x83, 0x3b, 0x01 },
		{ 0xf0, 0x85, 0x03 },
		{ 0xf0, 0xf6, 0x03, 0x01 },
		{ 0xf0, 0x01, 0xc3 },
		{ 0xf0, 0x0f, 0xa3, 0x03 },
		{ 0xf0, 0x0f, 0xba, 0x23, 0x01 },
		{ 0xf0, 0xff, 0x33 },
		{ 0xf0, 0x8f, 0x03 },
		{ 0xf0, 0xa4 },
		{ 0xf0, 0x0f, 0xb6, 0x03 },
		{ 0xf0, 0xc6, 0x03, 0x00 },
		{ 0xf0, 0x87, 0xc3 },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(illegal); i++) {
		init(EMUL_LONG64);
		e.regs[EMUL_RBX] = 0x3000;
		memcpy(m.mem + CODE, illegal[i], 5);
		CHECKF(step() == EMUL_FAULT && e.vector == 6 && !e.has_error, "case %u", i);
		CHECK_LOG("");
	}
	init(EMUL_LONG64);
	e.regs[EMUL_RBX] = 0x3000;
	CODE_BYTES(0xf0, 0x83, 0x03, 0x01);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3000 4;r 3000 4;c 3000 4;");
}

static void test_unhandled(void)
{
	static const u8 bytes[][3] = {
		{ 0x0f, 0x05 },	      { 0x89, 0xc3 },	    { 0xff, 0x1b },	  { 0x8f, 0x0b },
		{ 0xc7, 0x0b },	      { 0x0f, 0xba, 0x03 }, { 0x0f, 0xc7, 0x03 }, { 0x82, 0x03 },
		{ 0xc4, 0xe1, 0x78 }, { 0xfe, 0x33 },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(bytes); i++) {
		u64 regs[16];

		init(EMUL_LONG64);
		e.regs[EMUL_RBX] = 0x3000;
		memcpy(regs, e.regs, sizeof(regs));
		memcpy(m.mem + CODE, bytes[i], 3);
		CHECKF(step() == EMUL_UNHANDLED, "case %u", i);
		CHECK(!memcmp(regs, e.regs, sizeof(regs)) && e.rip == CODE);
		CHECK_LOG("");
	}
	init(EMUL_PROT32); /* ARPL there */
	CODE_BYTES(0x63, 0x03);
	CHECK_EQ(step(), EMUL_UNHANDLED);
}

static void test_insn_len(void)
{
	static const u8 cpuid[] = { 0x66, 0x48, 0x0f, 0xa2 }, hlt[] = { 0xf4 };

	CHECK_EQ(emul_insn_len(cpuid, 4, EMUL_LONG64, cpuid + 2, 2), 4);
	CHECK_EQ(emul_insn_len(cpuid, 4, EMUL_PROT32, cpuid + 2, 2), 0);
	CHECK_EQ(emul_insn_len(cpuid, 3, EMUL_LONG64, cpuid + 2, 2), 0);
	CHECK_EQ(emul_insn_len(hlt, 1, EMUL_REAL, hlt, 1), 1);
	CHECK_EQ(emul_insn_len(hlt, 1, EMUL_REAL, cpuid + 2, 2), 0);
}

/* --- segmentation --- */

/* The short cut must see what the decoder sees, and take what drivers use. */
static void test_mov(void)
{
	static const u8 opcodes[] = { 0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7 };
	unsigned int i, j, taken = 0;
	struct emul_mov m;
	u8 b[EMUL_INSN_MAX];

	srand(1);
	for (i = 0; i < 2000000; i++) {
		enum emul_mode mode = i & 1 ? EMUL_LONG64 : EMUL_PROT32;
		unsigned int at = rand() % 3;

		for (j = 0; j < sizeof(b); j++)
			b[j] = rand();
		if (at)
			b[0] = at == 2 ? 0x66 : 0x40 | rand() % 16;
		b[at] = opcodes[rand() % 6];
		if (!emul_decode_mov(b, mode, &m))
			continue;
		taken++;
		init(mode);
		memcpy(e.insn.bytes, b, sizeof(b));
		e.insn.nr_bytes = sizeof(b);
		CHECK_EQ(emul_decode(&e), EMUL_DONE);
		CHECK_EQ(m.len, e.insn.len);
		CHECK_EQ(m.size, e.insn.op_size);
		CHECK(e.insn.mem_valid);
		CHECK_EQ(m.store, (e.insn.opcode & 2) == 0 || e.insn.opcode >= 0xc6);
		CHECK_EQ(m.has_imm, e.insn.opcode >= 0xc6);
		CHECK_EQ(m.reg, ((e.insn.modrm >> 3) & 7) | (e.insn.rex & 4 ? 8 : 0));
		if (m.has_imm)
			CHECK_EQ(m.imm & (~0ull >> (64 - 8 * m.size)),
				 e.insn.imm & (~0ull >> (64 - 8 * m.size)));
	}
	CHECK(taken > 100000);
}

static enum emul_status access_at(u32 off, bool write)
{
	e.regs[EMUL_RBX] = off;
	if (write)
		CODE_BYTES(0x89, 0x03);
	else
		CODE_BYTES(0x8b, 0x03);
	return step();
}

static void test_segments(void)
{
	init(EMUL_PROT32);
	e.segs[EMUL_DS].limit = 0x2fff;
	CHECK_EQ(access_at(0x2ffc, true), EMUL_DONE);
	check_fault(access_at(0x2ffd, true), 13, true);
	check_fault(access_at(0xffffffff, false), 13, true);
	e.segs[EMUL_DS].attr = ATTR_DOWN;
	check_fault(access_at(0x2fff, false), 13, true);
	CHECK_EQ(access_at(0x3000, false), EMUL_DONE);
	e.segs[EMUL_DS].attr = ATTR_DOWN & ~0x400;
	CHECK_EQ(access_at(0xfffc, false), EMUL_DONE);
	check_fault(access_at(0xfffd, false), 13, true);
	e.segs[EMUL_DS].limit = 0xffffffff;
	e.segs[EMUL_DS].attr = ATTR_RODATA;
	CHECK_EQ(access_at(0x3000, false), EMUL_DONE);
	check_fault(access_at(0x3000, true), 13, true);
	e.segs[EMUL_DS].attr = ATTR_CODE;
	CHECK_EQ(access_at(0x3000, false), EMUL_DONE);
	check_fault(access_at(0x3000, true), 13, true);
	e.segs[EMUL_DS].attr = 0; /* null selector */
	check_fault(access_at(0x3000, false), 13, true);
	init(EMUL_PROT32);
	e.segs[EMUL_SS].limit = 0xfff;
	e.regs[EMUL_RBP] = 0x2000;
	CODE_BYTES(0x8b, 0x45, 0x00);
	check_fault(step(), 12, true);
}

static void test_canonical(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RBX] = 0x800000000000;
	CODE_BYTES(0x8b, 0x03);
	check_fault(step(), 13, true);
	e.regs[EMUL_RBX] = 0x7ffffffffffe;
	CODE_BYTES(0x8b, 0x03);
	check_fault(step(), 13, true);
	e.regs[EMUL_RBP] = 0x800000000000;
	CODE_BYTES(0x8b, 0x45, 0x00);
	check_fault(step(), 12, true);
}

static void test_stack(void)
{
	init(EMUL_PROT32);
	e.segs[EMUL_SS].attr = ATTR_DATA16; /* SP wraps at 16 bits */
	e.regs[EMUL_RSP] = 0x50000002;
	e.regs[EMUL_RBX] = 0x3000;
	CODE_BYTES(0x66, 0xff, 0x33);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.regs[EMUL_RSP], 0x50000000);
	CHECK_LOG("r 3000 2;w 0 2;");
	init(EMUL_PROT32);
	e.regs[EMUL_RSP] = 0x3000;
	CODE_BYTES(0x8f, 0x04, 0x24); /* pop [esp]: ESP has moved */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 3000 4;w 3004 4;");
	init(EMUL_LONG64);
	e.regs[EMUL_RSP] = 0x3000;
	e.regs[EMUL_RBX] = 0x4000;
	m.fail_addr = 0x4000;
	m.fail_status = EMUL_FAULT;
	CODE_BYTES(0x8f, 0x03);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(e.regs[EMUL_RSP], 0x3000);
}

static u64 mem64(u64 addr)
{
	u64 val;

	memcpy(&val, m.mem + addr, 8);
	return val;
}

static void test_near(void)
{
	static const u64 target = 0x123456789a;

	init(EMUL_LONG64);
	e.regs[EMUL_RSP] = 0x5008;
	e.regs[EMUL_RBX] = 0x3000;
	memcpy(m.mem + 0x3000, &target, 8);
	CODE_BYTES(0xff, 0x13); /* call [rbx] */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 3000 8;w 5000 8;");
	CHECK_EQ(e.rip, target);
	CHECK_EQ(mem64(0x5000), CODE + 2);
	e.rip = CODE;
	CODE_BYTES(0xc2, 0x10, 0x80); /* ret 0x8010 */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 5000 8;");
	CHECK_EQ(e.rip, CODE + 2);
	CHECK_EQ(e.regs[EMUL_RSP], 0x5008 + 0x8010);
	CODE_BYTES(0xff, 0x23); /* jmp [rbx] */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, target);
	e.rip = CODE;
	CODE_BYTES(0xe8, 0xfb, 0xff, 0xff, 0xff); /* call itself */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, CODE);
	CHECK_EQ(mem64(0xd010), CODE + 5);

	/* Not canonical: nothing is pushed or popped. */
	init(EMUL_LONG64);
	e.regs[EMUL_RSP] = 0x5008;
	e.regs[EMUL_RBX] = 1ULL << 47;
	CODE_BYTES(0xff, 0xd3);
	check_fault(step(), 13, true);
	CHECK_LOG("");
	m.mem[0x500f] = 0x12;
	CODE_BYTES(0xc3);
	check_fault(step(), 13, true);
	CHECK_EQ(e.regs[EMUL_RSP], 0x5008);
	CHECK_EQ(e.rip, CODE);

	/* Beyond the limit of CS, and a target of 16 bits. */
	init(EMUL_PROT32);
	e.segs[EMUL_CS].limit = 0x2fff;
	e.regs[EMUL_RSP] = 0x5008;
	e.regs[EMUL_RBX] = 0x13000;
	CODE_BYTES(0xff, 0xe3);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(e.vector, 13);
	e.regs[EMUL_RBX] = 0x12000;
	CODE_BYTES(0x66, 0xff, 0xd3);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, 0x2000);
	CHECK_LOG("w 5006 2;");
}

static void test_frame(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RSP] = 0x5008;
	e.regs[EMUL_RBP] = 0x1234;
	CODE_BYTES(0xc8, 0x00, 0x20, 0x00);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3000 8;w 5000 8;");
	CHECK_EQ(e.regs[EMUL_RSP], 0x3000);
	CHECK_EQ(e.regs[EMUL_RBP], 0x5000);
	CHECK_EQ(e.rip, CODE + 4);
	CODE_BYTES(0xc9);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.regs[EMUL_RSP], 0x5008);
	CHECK_EQ(e.regs[EMUL_RBP], 0x1234);
	CODE_BYTES(0xc8, 0x00, 0x20, 0x01);
	CHECK_EQ(step(), EMUL_UNHANDLED);
	m.fail_addr = 0x3000;
	m.fail_status = EMUL_FAULT;
	CODE_BYTES(0xc8, 0x00, 0x20, 0x00);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(e.fault_addr, 0x3000);
	CHECK_EQ(e.regs[EMUL_RSP], 0x5008);
	/* SP is 16 bits wide, the operand 32. */
	init(EMUL_PROT32);
	e.segs[EMUL_SS].attr = ATTR_DATA16;
	e.regs[EMUL_RSP] = 0x77770002;
	e.regs[EMUL_RBP] = 0x12345678;
	CODE_BYTES(0x55);
	e.segs[EMUL_SS].limit = 0xffff;
	check_fault(step(), 12, true);
	e.regs[EMUL_RSP] = 0x77770000;
	CODE_BYTES(0x55);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("w fffc 4;");
	CHECK_EQ(e.regs[EMUL_RSP], 0x7777fffc);
}

/* --- waiting and faulting --- */

static void test_rmw_order(void)
{
	u64 flags;

	init(EMUL_LONG64);
	e.regs[EMUL_RBX] = 0x3000;
	CODE_BYTES(0x01, 0x03);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3000 4;r 3000 4;w 3000 4;");
	CODE_BYTES(0x87, 0x03);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3000 4;r 3000 4;c 3000 4;");
	CODE_BYTES(0x39, 0x03);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 3000 4;");
	/* A destination that is not writable faults as a write, with nothing read. */
	m.fail_addr = 0x3000;
	m.fail_status = EMUL_FAULT;
	flags = e.rflags;
	CODE_BYTES(0x01, 0x03);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(e.error_code, 2);
	CHECK_LOG("p 3000 4;");
	CHECK_EQ(e.rflags, flags);
}

/* Each of these, stopped at each of its accesses, changes nothing and can be run again. */
static void test_rerun(void)
{
	static const u8 insns[][4] = {
		{ 0x01, 0x03 },
		{ 0x87, 0x03 },
		{ 0x0f, 0xb1, 0x03 },
		{ 0x0f, 0xc1, 0x03 },
		{ 0xf0, 0x0f, 0xab, 0x03 },
		{ 0x8b, 0x03 },
		{ 0x0f, 0xc7, 0x0b },
		{ 0xff, 0x33 },
		{ 0x8f, 0x03 },
		{ 0x03, 0x03 },
		{ 0xa5 },
		{ 0xa7 },
		{ 0xaf },
		{ 0xad },
		{ 0xf7, 0x1b },
		{ 0xf7, 0x23 },
		{ 0x0f, 0xa5, 0x03 },
		{ 0xff, 0x13 },
		{ 0xff, 0x23 },
	};
	static const enum emul_status how[] = { EMUL_IO, EMUL_RETRY };

	for (unsigned int i = 0; i < 4 * ARRAY_LEN(insns); i++) {
		struct emul before;
		u8 mem[16];

		init(EMUL_LONG64);
		e.regs[EMUL_RBX] = 0x3000;
		e.regs[EMUL_RSP] = 0x5000;
		e.regs[EMUL_RSI] = 0x3000;
		e.regs[EMUL_RDI] = 0x3000;
		e.regs[EMUL_RAX] = 0x1122334455667788;
		memcpy(m.mem + CODE, insns[i / 4], 4);
		memset(m.mem + 0x3004, 0, 4); /* an address */
		m.fail_addr = 0x3000;
		m.fail_status = how[i & 1];
		m.fail_after = i & 2 ? 1 : 0;
		CHECK_EQ(emul_decode(&e), EMUL_DONE);
		before = e;
		memcpy(mem, m.mem + 0x3000, 16);
		m.fetches = 0;
		if (emul_run(&e) != how[i & 1])
			continue; /* it has no second access there */
		CHECKF(!memcmp(before.regs, e.regs, sizeof(e.regs)) && before.rip == e.rip &&
			       before.rflags == e.rflags,
		       "case %u", i / 4);
		CHECKF(!memcmp(mem, m.mem + 0x3000, 16), "case %u", i / 4);
		m.fail_status = EMUL_DONE;
		CHECKF(emul_run(&e) == EMUL_DONE && e.rip > CODE, "case %u", i / 4);
		CHECK_EQ(m.fetches, 0);
	}
}

static void test_cas_retry(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RBX] = 0x3000;
	e.regs[EMUL_RAX] = 5;
	m.fail_addr = 0x3000;
	m.fail_status = EMUL_RETRY;
	m.fail_after = 1; /* the read passes */
	CODE_BYTES(0xf0, 0x01, 0x03);
	CHECK_EQ(step(), EMUL_RETRY);
	CHECK_LOG("p 3000 4;r 3000 4;c 3000 4;");
	CHECK_EQ(e.rip, CODE);
}

static void test_cx16_alignment(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RBX] = 0x3008;
	CODE_BYTES(0x48, 0x0f, 0xc7, 0x0b);
	check_fault(step(), 13, true);
	e.regs[EMUL_RBX] = 0x3004;
	CODE_BYTES(0x0f, 0xc7, 0x0b);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3004 8;r 3004 8;w 3004 8;");
}

/* --- segments and tables --- */

#define GDT 0x6000u
#define LDT 0x7000u

/* Selectors of the GDT; the LDT has one data segment, 0x0c. */
enum {
	G_CODE64 = 0x08,
	G_DATA = 0x10,
	G_CODE32 = 0x18,
	G_DATA3 = 0x20,
	G_ABSENT = 0x28,
	G_RODATA = 0x30,
	G_CONFORMING = 0x38,
	G_LDT = 0x40,
	G_TSS = 0x50,
	G_BUSY = 0x60,
	G_FRESH = 0x70,
	G_XONLY = 0x78,
	G_SIZE = 0x80,
};

static void tables(enum emul_mode mode)
{
	static const u64 gdt[] = {
		0,
		0x00af9b000000ffff,
		0x00cf93000000ffff,
		0x00cf9b000000ffff,
		0x00cff3000000ffff,
		0x00cf13000000ffff,
		0x00cf91000000ffff,
		0x00cf9f000000ffff,
		0x1200823456780fff,
		0,
		0x1200893456780067,
		0,
		0x00008b0000000067,
		0,
		0x0040921234560001,
		0x00cf99000000ffff,
	};
	static const u64 ldt[] = { 0, 0x00cf93000000ffff };

	init(mode);
	memcpy(m.mem + GDT, gdt, sizeof(gdt));
	memcpy(m.mem + LDT, ldt, sizeof(ldt));
	if (mode == EMUL_LONG64) {
		m.mem[GDT + G_LDT + 8] = 0x80; /* bits 63:32 of the base */
		m.mem[GDT + G_LDT + 9] = 0xff;
		m.mem[GDT + G_LDT + 10] = 0xff;
		m.mem[GDT + G_LDT + 11] = 0xff;
	}
	e.segs[EMUL_GDTR].base = GDT;
	e.segs[EMUL_GDTR].limit = G_SIZE - 1;
	e.segs[EMUL_LDTR].base = LDT;
	e.segs[EMUL_LDTR].limit = 15;
	e.segs[EMUL_LDTR].attr = 0x82;
	e.regs[EMUL_RBX] = 0x3000;
}

/* MOV sreg, LLDT, LTR of a selector in memory. */
static enum emul_status load(const char *insn, u16 sel)
{
	memcpy(m.mem + 0x3000, &sel, 2);
	memcpy(m.mem + CODE, insn, 3);
	e.rip = CODE;
	e.insn.nr_bytes = 0;
	m.log[0] = 0;
	return step();
}

#define MOV_ES "\x8e\x03"
#define MOV_SS "\x8e\x13"
#define MOV_DS "\x8e\x1b"
#define LLDT   "\x0f\x00\x13"
#define LTR    "\x0f\x00\x1b"

static void check_load(const char *insn, u16 sel, int vector, u16 error)
{
	struct emul_seg before[EMUL_NR_TABLES];
	enum emul_status st;

	memcpy(before, e.segs, sizeof(before));
	e.vector = 0xff;
	e.error_code = 0;
	st = load(insn, sel);
	CHECKF(st == (vector < 0 ? EMUL_DONE : EMUL_FAULT) && e.vector == (u8)vector &&
		       e.error_code == error,
	       "%02x %#x: %d, vector %d, %#x", (u8)insn[1], sel, st, e.vector, e.error_code);
	CHECK_EQ(e.system, vector < 0);
	CHECK_EQ(e.shadow, vector < 0 && insn[1] == MOV_SS[1]);
	if (vector >= 0)
		CHECK(!memcmp(before, e.segs, sizeof(before)) && e.rip == CODE);
}

static void test_sreg(void)
{
	tables(EMUL_LONG64);
	check_load(MOV_ES, G_DATA, -1, 0);
	CHECK_LOG("r 3000 2;r 6010 8;");
	CHECK_EQ(e.segs[EMUL_ES].attr, 0xc93);
	CHECK_EQ(e.segs[EMUL_ES].limit, 0xffffffff);
	check_load(MOV_ES, G_FRESH, -1, 0); /* is marked as accessed */
	CHECK_LOG("r 3000 2;r 6070 8;c 6070 8;");
	CHECK_EQ(m.mem[GDT + G_FRESH + 5], 0x93);
	CHECK_EQ(e.segs[EMUL_ES].attr, 0x493);
	CHECK_EQ(e.segs[EMUL_ES].base, 0x123456);
	CHECK_EQ(e.segs[EMUL_ES].limit, 1);
	check_load(MOV_DS, 0x0c, -1, 0);
	CHECK_LOG("r 3000 2;r 7008 8;");
	check_load(MOV_DS, 0x14, 13, 0x14); /* beyond the LDT */
	check_load(MOV_DS, G_SIZE, 13, G_SIZE);
	check_load(MOV_DS, G_ABSENT, 11, G_ABSENT);
	check_load(MOV_DS, G_XONLY, 13, G_XONLY);
	check_load(MOV_DS, G_TSS, 13, G_TSS);
	check_load(MOV_DS, 3, -1, 0);
	CHECK_EQ(e.segs[EMUL_DS].sel, 3);
	CHECK_EQ(e.segs[EMUL_DS].attr, 0);
	check_load(MOV_SS, G_DATA, -1, 0);
	check_load(MOV_SS, G_DATA | 3, 13, G_DATA);
	check_load(MOV_SS, G_RODATA, 13, G_RODATA);
	check_load(MOV_SS, G_DATA3, 13, G_DATA3);
	check_load(MOV_SS, 0, -1, 0);
	check_load(MOV_SS, 3, 13, 0);
	e.cpl = 3;
	check_load(MOV_SS, 3, 13, 0);
	check_load(MOV_DS, G_DATA, 13, G_DATA);
	check_load(MOV_DS, G_CONFORMING, -1, 0);
	check_load(MOV_SS, G_DATA3 | 3, -1, 0);
	memcpy(m.mem + GDT + G_DATA3, m.mem + GDT + G_ABSENT, 8);
	m.mem[GDT + G_DATA3 + 5] = 0x73;
	check_load(MOV_SS, G_DATA3 | 3, 12, G_DATA3);
	e.segs[EMUL_LDTR].attr = 0;
	check_load(MOV_DS, 0x0f, 13, 0x0c);
	CODE_BYTES(0x8e, 0x0b); /* CS */
	check_fault(step(), 6, false);
	tables(EMUL_PROT32);
	check_load(MOV_SS, 0, 13, 0);
	tables(EMUL_REAL);
	check_load("\x8e\x1f\x00", 0x1234, -1, 0); /* [bx] */
	CHECK_EQ(e.segs[EMUL_DS].base, 0x12340);
	CHECK_EQ(e.segs[EMUL_DS].limit, 0xffff);
}

static void test_ltr(void)
{
	tables(EMUL_LONG64);
	check_load(LTR, G_TSS, -1, 0);
	CHECK_LOG("r 3000 2;r 6050 16;c 6050 8;");
	CHECK_EQ(m.mem[GDT + G_TSS + 5], 0x8b);
	CHECK_EQ(e.segs[EMUL_TR].attr, 0x08b);
	CHECK_EQ(e.segs[EMUL_TR].base, 0x12345678);
	CHECK_EQ(e.segs[EMUL_TR].limit, 0x67);
	check_load(LTR, G_TSS, 13, G_TSS); /* busy now */
	check_load(LTR, 0, 13, 0);
	check_load(LTR, 0x0c, 13, 0x0c);
	check_load(LTR, G_LDT, 13, G_LDT);
	check_load(LLDT, G_LDT, -1, 0);
	CHECK_LOG("r 3000 2;r 6040 16;");
	CHECK_EQ(e.segs[EMUL_LDTR].base, 0xffffff8012345678);
	check_load(LLDT, 0, -1, 0);
	CHECK_EQ(e.segs[EMUL_LDTR].attr, 0);
	m.mem[GDT + G_LDT + 13] = 1; /* type of the upper half */
	check_load(LLDT, G_LDT, 13, G_LDT);
	m.mem[GDT + G_LDT + 13] = 0;
	m.mem[GDT + G_LDT + 9] = 0;
	check_load(LLDT, G_LDT, 13, G_LDT);
	e.segs[EMUL_GDTR].limit = G_LDT + 14;
	check_load(LLDT, G_LDT, 13, G_LDT);
	e.cpl = 3;
	check_load(LTR, G_BUSY, 13, 0);
	CHECK_LOG("");
	tables(EMUL_PROT32);
	check_load(LTR, G_TSS, -1, 0);
	CHECK_LOG("r 3000 2;r 6050 8;c 6050 8;");
	tables(EMUL_V86);
	check_load("\x0f\x00\x1f", G_TSS, 6, 0);
}

static enum emul_status jump_far(unsigned int size, u64 offset, u16 sel)
{
	memcpy(m.mem + 0x3000, &offset, 8);
	memcpy(m.mem + 0x3000 + size, &sel, 2);
	e.rip = CODE;
	if (size == 8)
		CODE_BYTES(0x48, 0xff, 0x2b);
	else if (size == 2)
		CODE_BYTES(0x66, 0xff, 0x2b);
	else
		CODE_BYTES(0xff, 0x2b);
	return step();
}

static void test_jump_far(void)
{
	tables(EMUL_LONG64);
	CHECK_EQ(jump_far(8, 0x7fffffffffff, G_CODE64 | 3), EMUL_FAULT);
	CHECK_EQ(e.error_code, G_CODE64);
	CHECK_EQ(jump_far(8, 0x7fffffffffff, G_CODE64), EMUL_DONE);
	CHECK_LOG("r 3000 10;r 6008 8;");
	CHECK_EQ(e.rip, 0x7fffffffffff);
	CHECK_EQ(e.segs[EMUL_CS].attr, 0xa9b);
	CHECK(e.system && !e.shadow);
	check_fault(jump_far(8, 0x800000000000, G_CODE64), 13, true);
	check_fault(jump_far(4, 0x1000, 0), 13, true);
	CHECK_EQ(jump_far(4, 0x1000, G_DATA), EMUL_UNHANDLED);
	CHECK_EQ(jump_far(4, 0x1000, G_TSS), EMUL_UNHANDLED);
	CHECK_EQ(jump_far(2, 0x20002000, G_CODE32), EMUL_DONE); /* to compatibility mode */
	CHECK_EQ(e.rip, 0x2000);
	CHECK_EQ(e.segs[EMUL_CS].attr, 0xc9b);
	tables(EMUL_LONG64);
	m.mem[GDT + G_CODE64 + 6] = 0xef; /* L and D */
	CHECK_EQ(jump_far(4, 0x1000, G_CODE64), EMUL_FAULT);
	tables(EMUL_PROT32);
	e.cpl = 3;
	CHECK_EQ(jump_far(4, 0x2000, G_CODE32), EMUL_FAULT);
	CHECK_EQ(e.error_code, G_CODE32);
	CHECK_EQ(jump_far(4, 0x2000, G_CONFORMING), EMUL_DONE);
	CHECK_EQ(e.segs[EMUL_CS].sel, G_CONFORMING | 3);
	e.cpl = 0;
	m.mem[GDT + G_CODE32 + 6] = 0x40;
	m.mem[GDT + G_CODE32 + 1] = 0x1f; /* limit 0x1fff */
	check_fault(jump_far(4, 0x2000, G_CODE32), 13, true);
	CHECK_EQ(jump_far(4, 0x1fff, G_CODE32), EMUL_DONE);
	tables(EMUL_REAL);
	m.mem[0x3000] = 0x34;
	m.mem[0x3001] = 0x12;
	m.mem[0x3002] = 0x00;
	m.mem[0x3003] = 0xf0;
	CODE_BYTES(0xff, 0x2f);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, 0x1234);
	CHECK_EQ(e.segs[EMUL_CS].base, 0xf0000);
}

static void test_msw(void)
{
	tables(EMUL_LONG64);
	e.cr0 = 0x80050033;
	CODE_BYTES(0x48, 0x0f, 0x01, 0x23); /* smsw [rbx] */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("w 3000 2;");
	CHECK_EQ(m.mem[0x3000], 0x33);
	CHECK_EQ(m.mem[0x3001], 0x00);
	e.cpl = 3;
	CODE_BYTES(0x0f, 0x01, 0x23);
	CHECK_EQ(step(), EMUL_DONE);
	e.cr4 = 0x800; /* UMIP */
	CODE_BYTES(0x0f, 0x01, 0x23);
	check_fault(step(), 13, true);
	CODE_BYTES(0x0f, 0x01, 0x3b); /* invlpg */
	CHECK_EQ(step(), EMUL_UNHANDLED);
}

/* --- SSE --- */

static void test_sse(void)
{
	static const struct {
		u8 code[5], size;
		bool store, aligned;
	} t[] = {
		{ { 0x0f, 0x10, 0x1b }, 16, false, false },
		{ { 0x66, 0x0f, 0x10, 0x1b }, 16, false, false },
		{ { 0x0f, 0x11, 0x1b }, 16, true, false },
		{ { 0x66, 0x0f, 0x11, 0x1b }, 16, true, false },
		{ { 0xf3, 0x0f, 0x10, 0x1b }, 4, false, false },
		{ { 0xf3, 0x0f, 0x11, 0x1b }, 4, true, false },
		{ { 0xf2, 0x0f, 0x10, 0x1b }, 8, false, false },
		{ { 0x66, 0xf2, 0x0f, 0x11, 0x1b }, 8, true, false },
		{ { 0x0f, 0x28, 0x1b }, 16, false, true },
		{ { 0x66, 0x0f, 0x28, 0x1b }, 16, false, true },
		{ { 0x0f, 0x29, 0x1b }, 16, true, true },
		{ { 0x66, 0x0f, 0x29, 0x1b }, 16, true, true },
		{ { 0x0f, 0x2b, 0x1b }, 16, true, true },
		{ { 0x66, 0x0f, 0x2b, 0x1b }, 16, true, true },
		{ { 0x66, 0x0f, 0x6e, 0x1b }, 4, false, false },
		{ { 0x66, 0x48, 0x0f, 0x6e, 0x1b }, 8, false, false },
		{ { 0x66, 0x0f, 0x7e, 0x1b }, 4, true, false },
		{ { 0x66, 0x48, 0x0f, 0x7e, 0x1b }, 8, true, false },
		{ { 0x66, 0x0f, 0x6f, 0x1b }, 16, false, true },
		{ { 0xf3, 0x0f, 0x6f, 0x1b }, 16, false, false },
		{ { 0x66, 0x0f, 0x7f, 0x1b }, 16, true, true },
		{ { 0xf3, 0x0f, 0x7f, 0x1b }, 16, true, false },
		{ { 0xf3, 0x0f, 0x7e, 0x1b }, 8, false, false },
		{ { 0x66, 0x0f, 0xd6, 0x1b }, 8, true, false },
		{ { 0x66, 0x0f, 0xe7, 0x1b }, 16, true, true },
		{ { 0xf2, 0x0f, 0xf0, 0x1b }, 16, false, false },
		/* no instruction of this kind */
		{ { 0x0f, 0xd6, 0x1b }, 0, false, false },
		{ { 0xf3, 0x0f, 0x28, 0x1b }, 0, false, false },
	};
	u8 image[512], (*xmm)[16] = (void *)(image + 160), before[16][16], zero[16] = {};

	for (unsigned int i = 0; i < ARRAY_LEN(t) * 2; i++) {
		const u8 *code = t[i / 2].code;
		u8 size = t[i / 2].size, *mem = m.mem + (i & 1 ? 0x3004 : 0x3000);
		enum emul_status st;

		init(EMUL_LONG64);
		e.cr4 = 0x200;
		e.regs[EMUL_RBX] = mem - m.mem;
		for (unsigned int j = 0; j < sizeof(image); j++)
			image[j] = 0x80 ^ j;
		memcpy(before, xmm, sizeof(before));
		memcpy(m.mem + CODE, code, sizeof(t[0].code));
		CHECKF(step() == EMUL_UNHANDLED, "case %u without registers", i);
		e.fx = image;
		e.insn.nr_bytes = 0;
		e.insn.len = 0;
		st = step();
		if (!size) {
			CHECKF(st == EMUL_UNHANDLED, "case %u", i);
			continue;
		}
		if (t[i / 2].aligned && (i & 1)) {
			check_fault(st, 13, true);
			CHECK(!memcmp(xmm, before, sizeof(before)));
			continue;
		}
		CHECKF(st == EMUL_DONE && e.rip > CODE + 2, "case %u", i);
		CHECKF(!memcmp(mem, xmm[3], size), "case %u", i);
		if (!t[i / 2].store) {
			CHECKF(!memcmp(xmm[3] + size, zero, 16 - size), "case %u", i);
			memcpy(xmm[3], before[3], 16);
		}
		CHECKF(!memcmp(xmm, before, sizeof(before)), "case %u", i);
		/* EM, OSFXSR and TS */
		for (unsigned int j = 0; j < 3; j++) {
			e.rip = CODE;
			e.cr0 = j == 0 ? 4 : j == 2 ? 8 : 0;
			e.cr4 = j == 1 ? 0 : 0x200;
			check_fault(emul_run(&e), j == 2 ? 7 : 6, false);
		}
	}
}

/* Registers by number, whatever the stack's top; the same by x87 afterwards. */
static void test_mmx(void)
{
	static const struct {
		u8 code[4], size;
		bool store;
	} t[] = {
		{ { 0x0f, 0x6e, 0x1b }, 4, false },	  { { 0x0f, 0x7e, 0x1b }, 4, true },
		{ { 0x48, 0x0f, 0x6e, 0x1b }, 8, false }, { { 0x48, 0x0f, 0x7e, 0x1b }, 8, true },
		{ { 0x0f, 0x6f, 0x1b }, 8, false },	  { { 0x0f, 0x7f, 0x1b }, 8, true },
		{ { 0x44, 0x0f, 0x6f, 0x1b }, 8, false }, { { 0x0f, 0xe7, 0x1b }, 8, true },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(t) * 8; i++) {
		u8 image[512] = {}, before[8][16], zero[8] = {};
		unsigned int top = i & 7, size = t[i / 8].size;

		init(EMUL_LONG64);
		e.regs[EMUL_RBX] = 0x3001;
		e.fx = image;
		for (unsigned int j = 0; j < 128; j++) {
			before[j / 16][j % 16] = j + 1;
			image[32 + 16 * ((j / 16 - top) & 7) + j % 16] = j + 1;
		}
		image[3] = 0x41 | top << 3;
		memcpy(m.mem + CODE, t[i / 8].code, 4);
		e.insn.nr_bytes = 0;
		/* EM, TS, a pending exception */
		e.cr0 = 4;
		check_fault(step(), 6, false);
		e.cr0 = 8;
		check_fault(step(), 7, false);
		e.cr0 = 0;
		image[2] = 0x80;
		check_fault(step(), 16, false);
		CHECK_LOG("");
		image[2] = 0;
		CHECKF(step() == EMUL_DONE, "case %u", i);
		CHECK_EQ(image[3], 0x41);
		CHECK_EQ(image[4], 0xff);
		CHECKF(!memcmp(image + 32 + 3 * 16, m.mem + 0x3001, size), "case %u", i);
		if (!t[i / 8].store) {
			memcpy(before[3], m.mem + 0x3001, size);
			memcpy(before[3] + size, zero, 8 - size);
			memset(before[3] + 8, 0xff, 2);
			memset(before[3] + 10, 0, 6);
		}
		CHECKF(!memcmp(image + 32, before, 128), "case %u", i);
	}
}

/* --- strings --- */

static void test_rep_progress(void)
{
	static const enum emul_status how[] = { EMUL_IO, EMUL_RETRY, EMUL_FAULT };

	for (unsigned int i = 0; i < ARRAY_LEN(how); i++) {
		init(EMUL_LONG64);
		e.regs[EMUL_RCX] = 8;
		e.regs[EMUL_RSI] = 0x3000;
		e.regs[EMUL_RDI] = 0x4000;
		m.fail_addr = 0x300c; /* the fourth element */
		m.fail_status = how[i];
		CODE_BYTES(0xf3, 0xa5);
		CHECK_EQ(step(), how[i]);
		CHECK_EQ(e.regs[EMUL_RCX], 5);
		CHECK_EQ(e.regs[EMUL_RSI], 0x300c);
		CHECK_EQ(e.regs[EMUL_RDI], 0x400c);
		CHECK_EQ(e.rip, CODE);
		m.fail_status = EMUL_DONE;
		CHECK_EQ(emul_run(&e), EMUL_DONE);
		CHECK_EQ(e.regs[EMUL_RCX], 0);
		CHECK_EQ(e.rip, CODE + 2);
		CHECK(!memcmp(m.mem + 0x3000, m.mem + 0x4000, 32));
	}
}

static void test_rep_batch(void)
{
	unsigned int runs = 1;

	init(EMUL_LONG64);
	e.regs[EMUL_RCX] = 0x4000;
	e.regs[EMUL_RDI] = 0x8000;
	CODE_BYTES(0xf3, 0xaa);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_EQ(e.rip, CODE);
	CHECKF(e.regs[EMUL_RCX] && e.regs[EMUL_RCX] < 0x4000, "no bounded batch");
	while (e.rip == CODE && runs++ < 1000)
		CHECK_EQ(emul_run(&e), EMUL_DONE);
	CHECK_EQ(e.regs[EMUL_RCX], 0);
	CHECK_EQ(e.regs[EMUL_RDI], 0xc000);
}

static void test_rep_zero(void)
{
	init(EMUL_PROT32);
	e.regs[EMUL_RCX] = 0x10000; /* CX is 0 */
	CODE_BYTES(0x67, 0xf3, 0xaa);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("");
	CHECK_EQ(e.rip, CODE + 3);
	CHECK_EQ(e.regs[EMUL_RCX], 0x10000);
}

static void test_string16(void)
{
	init(EMUL_REAL);
	e.regs[EMUL_RSI] = 0xaaaa0000;
	e.regs[EMUL_RDI] = 0x5555fffe;
	e.regs[EMUL_RCX] = 0x77770002;
	e.rflags |= 0x400;
	e.segs[EMUL_ES].base = 0x10000;
	CODE_BYTES(0xf3, 0xa5);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 0 2;w 1fffe 2;r fffe 2;w 1fffc 2;");
	CHECK_EQ(e.regs[EMUL_RSI], 0xaaaafffc);
	CHECK_EQ(e.regs[EMUL_RDI], 0x5555fffa);
	CHECK_EQ(e.regs[EMUL_RCX], 0x77770000);
}

/* --- ports --- */

static void test_ins(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RCX] = 6;
	e.regs[EMUL_RDX] = 0x1f0;
	e.regs[EMUL_RDI] = 0x3ff8; /* four words in this page */
	CODE_BYTES(0xf3, 0x66, 0x6d);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3ff8 8;in 1f0 2*4;w 3ff8 8;p 4000 4;in 1f0 2*2;w 4000 4;");
	CHECK_EQ(e.regs[EMUL_RCX], 0);
	CHECK_EQ(e.regs[EMUL_RDI], 0x4004);
	CHECK_EQ(m.mem[0x4002], 5);

	init(EMUL_LONG64); /* downwards: one at a time */
	e.regs[EMUL_RCX] = 2;
	e.regs[EMUL_RDX] = 0x1f0;
	e.regs[EMUL_RDI] = 0x3008;
	e.rflags |= 0x400;
	CODE_BYTES(0xf3, 0x48, 0x6d); /* never more than 32 bits */
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("p 3008 4;in 1f0 4*1;w 3008 4;p 3004 4;in 1f0 4*1;w 3004 4;");
	CHECK_EQ(e.regs[EMUL_RDI], 0x3000);
}

static void test_ins_wait(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RCX] = 4;
	e.regs[EMUL_RDX] = 0x60;
	e.regs[EMUL_RDI] = 0x3000;
	m.fail_addr = 0x60;
	m.fail_status = EMUL_IO;
	CODE_BYTES(0xf3, 0x6c);
	CHECK_EQ(step(), EMUL_IO);
	CHECK_EQ(e.regs[EMUL_RCX], 4);
	CHECK_LOG("p 3000 4;");
	m.fail_status = EMUL_DONE;
	m.pio_limit = 3;
	CHECK_EQ(emul_run(&e), EMUL_DONE);
	CHECK_EQ(e.regs[EMUL_RDI], 0x3004);
	CHECK_EQ(m.mem[0x3003], 3);

	/* A page that cannot be written is found before the port is read. */
	init(EMUL_LONG64);
	e.regs[EMUL_RCX] = 4;
	e.regs[EMUL_RDI] = 0x3000;
	m.fail_addr = 0x3000;
	m.fail_status = EMUL_FAULT;
	CODE_BYTES(0xf3, 0x6c);
	CHECK_EQ(step(), EMUL_FAULT);
	CHECK_EQ(m.pio_next, 0);
}

static void test_outs(void)
{
	init(EMUL_LONG64);
	e.regs[EMUL_RCX] = 5;
	e.regs[EMUL_RDX] = 0x3f8;
	e.regs[EMUL_RSI] = 0x3000;
	m.pio_limit = 2;
	CODE_BYTES(0xf3, 0x6e);
	CHECK_EQ(step(), EMUL_DONE);
	CHECK_LOG("r 3000 5;out 3f8 1*2;r 3002 3;out 3f8 1*2;r 3004 1;out 3f8 1*1;");
	CHECK_EQ(e.regs[EMUL_RSI], 0x3005);
	CHECK_EQ(e.rip, CODE + 2);
}

static void test_port_permission(void)
{
	init(EMUL_PROT32);
	e.cpl = 3;
	e.regs[EMUL_RDX] = 0x99;
	e.regs[EMUL_RSI] = 0x3000;
	CODE_BYTES(0x6e);
	check_fault(step(), 13, true);
	CHECK_LOG("");
	e.rflags |= 0x3000; /* IOPL 3: the bitmap is not asked */
	CODE_BYTES(0x6e);
	CHECK_EQ(step(), EMUL_DONE);
	e.mode = EMUL_V86; /* there it always is */
	CODE_BYTES(0x6e);
	check_fault(step(), 13, true);
}

static const struct ktap_test tests[] = {
	{ "addr16", test_addr16, 0 },
	{ "wrap16", test_wrap16, 0 },
	{ "override", test_override, 0 },
	{ "sizes", test_sizes, 0 },
	{ "fetch", test_fetch, 0 },
	{ "overlong", test_overlong, 0 },
	{ "cs_limit", test_cs_limit, 0 },
	{ "rip_wrap", test_rip_wrap, 0 },
	{ "lock", test_lock, 0 },
	{ "unhandled", test_unhandled, 0 },
	{ "insn_len", test_insn_len, 0 },
	{ "mov", test_mov, 120 },
	{ "segments", test_segments, 0 },
	{ "canonical", test_canonical, 0 },
	{ "stack", test_stack, 0 },
	{ "near", test_near, 0 },
	{ "frame", test_frame, 0 },
	{ "rmw_order", test_rmw_order, 0 },
	{ "rerun", test_rerun, 0 },
	{ "cas_retry", test_cas_retry, 0 },
	{ "cx16_alignment", test_cx16_alignment, 0 },
	{ "sreg", test_sreg, 0 },
	{ "ltr", test_ltr, 0 },
	{ "jump_far", test_jump_far, 0 },
	{ "msw", test_msw, 0 },
	{ "sse", test_sse, 0 },
	{ "mmx", test_mmx, 0 },
	{ "rep_progress", test_rep_progress, 0 },
	{ "rep_batch", test_rep_batch, 0 },
	{ "rep_zero", test_rep_zero, 0 },
	{ "string16", test_string16, 0 },
	{ "ins", test_ins, 0 },
	{ "ins_wait", test_ins_wait, 0 },
	{ "outs", test_outs, 0 },
	{ "port_permission", test_port_permission, 0 },
	{ "native", test_native, 120 },
};

KTAP_MAIN(tests)
