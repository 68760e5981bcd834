// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer harness of the instruction emulator:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -I../.. fuzz_emulate.c ../../emulate/[a-z]*.c
 *
 * With -DSWEEP instead a program that goes through instructions by itself: the first three bytes in order, behind each
 * of a list of prefixes, in each mode; the rest, and the state, random.
 *
 * The input is the machine's state and the instruction. Memory answers every access; its ops also wait, fault and ask to
 * retry, as the input says. Whatever happens, an instruction that did not retire has left RIP alone.
 */
#include <stdlib.h>

#include "emulate/emulate.h"

struct input {
	u64 regs[16];
	u64 rflags;
	u64 rip;
	u64 answers; /* two bits an access: what it gives */
	u32 limit[EMUL_NR_TABLES];
	u32 base[EMUL_NR_TABLES];
	u16 attr[EMUL_NR_TABLES];
	u8 mode, cpl, given;
	u8 bytes[EMUL_INSN_MAX];
} __attribute__((packed));

static u64 answers;
static u8 insn_bytes[EMUL_INSN_MAX];
static u64 insn_addr;

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* Mostly done, so that instructions get somewhere. */
static enum emul_status answer(struct emul *e, u64 addr)
{
	unsigned int a = answers & 3;

	answers >>= 2;
	switch (a) {
	case 1:
		return answers & 1 ? EMUL_IO : EMUL_DONE;
	case 2:
		return answers & 1 ? EMUL_RETRY : EMUL_DONE;
	case 3:
		return answers & 1 ? emul_set_fault(e, 14, true, 0, addr) : EMUL_DONE;
	default:
		return EMUL_DONE;
	}
}

static enum emul_status op_fetch(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	u8 *p = buf;

	(void)e;
	require(len && len <= EMUL_INSN_MAX && (addr & 0xfff) + len <= 0x1000);
	for (unsigned int i = 0; i < len; i++)
		p[i] = addr + i - insn_addr < EMUL_INSN_MAX ? insn_bytes[addr + i - insn_addr]
							    : 0x90;
	return EMUL_DONE;
}

static enum emul_status op_read(struct emul *e, u64 addr, void *buf, unsigned int len)
{
	enum emul_status st = answer(e, addr);

	require(len && len <= 512);
	if (st == EMUL_DONE)
		for (unsigned int i = 0; i < len; i++)
			((u8 *)buf)[i] = addr & 0x100 ? addr >> (8 * (i & 7)) : addr;
	return st;
}

static enum emul_status op_write(struct emul *e, u64 addr, const void *buf, unsigned int len)
{
	unsigned int sum = 0;

	require(len && len <= 512);
	for (unsigned int i = 0; i < len; i++) /* all of it is there */
		sum += ((const u8 *)buf)[i];
	return sum == 1 ? EMUL_DONE : answer(e, addr);
}

static enum emul_status op_cas(struct emul *e, u64 addr, const void *old, const void *new,
			       unsigned int len)
{
	require(len <= 16);
	return memcmp(old, new, len) == 12345 ? EMUL_DONE : answer(e, addr);
}

static enum emul_status op_probe(struct emul *e, u64 addr, unsigned int len)
{
	require(len && len <= 512);
	return answer(e, addr);
}

static enum emul_status op_pio_in(struct emul *e, u16 port, unsigned int size, void *buf,
				  unsigned int *count)
{
	require((size == 1 || size == 2 || size == 4) && *count);
	memset(buf, port, *count * size);
	if (answers & 1)
		*count = 1;
	return answer(e, 0);
}

static enum emul_status op_pio_out(struct emul *e, u16 port, unsigned int size, const void *buf,
				   unsigned int *count)
{
	(void)port;
	require((size == 1 || size == 2 || size == 4) && *count);
	if (((const u8 *)buf)[*count * size - 1] & answers & 1)
		*count = 1;
	return answer(e, 0);
}

static enum emul_status op_pio_allowed(struct emul *e, u16 port, unsigned int size)
{
	(void)size;
	return port & 1 ? answer(e, 0) : EMUL_DONE;
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

static u8 image[512]; /* FXSAVE */

/* These may go to themselves. */
static bool jumps(u8 opcode)
{
	return opcode == 0xc2 || opcode == 0xc3 || opcode == 0xe8 || opcode == 0xff;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct emul e = {};
	struct input in = {};
	enum emul_status st;
	struct emul_mov mov;
	u64 rip;

	if (size > sizeof(in))
		size = sizeof(in);
	/* What is missing is zero; the instruction comes first, so that short inputs do something. */
	memcpy(in.bytes, data, size < sizeof(in.bytes) ? size : sizeof(in.bytes));
	if (size > sizeof(in.bytes))
		memcpy(&in, data + sizeof(in.bytes), size - sizeof(in.bytes));
	memcpy(e.regs, in.regs, sizeof(e.regs));
	e.rflags = in.rflags | 2;
	e.mode = in.mode % (EMUL_LONG64 + 1);
	e.rip = e.mode == EMUL_LONG64 ? in.rip : (u32)in.rip;
	e.cpl = in.cpl & 3;
	e.lma = e.mode == EMUL_LONG64 || (in.cpl & 4);
	e.ops = &ops;
	e.fx = image;
	e.cr0 = in.given >> 6 << 2;		 /* EM, TS */
	e.cr4 = (in.given & 0x10) << 5 ^ 1 << 9; /* OSFXSR */
	e.cr4 |= (in.given & 0x20) << 6;	 /* UMIP */
	image[2] = in.cpl & 8 ? 0x80 : 0;	 /* an x87 exception is pending */
	for (unsigned int i = 0; i < EMUL_NR_TABLES; i++) {
		e.segs[i].base = in.base[i];
		e.segs[i].limit = ~in.limit[i];
		e.segs[i].attr = in.attr[i] ^ 0xc93;
	}
	memcpy(insn_bytes, in.bytes, sizeof(insn_bytes));
	insn_addr = e.mode == EMUL_LONG64 ? e.rip : (u32)(e.rip + e.segs[EMUL_CS].base);
	answers = in.answers;
	e.insn.nr_bytes = in.given & 15;
	memcpy(e.insn.bytes, in.bytes, sizeof(in.bytes));

	rip = e.rip;
	st = emul_decode(&e);
	require(e.rip == rip && !memcmp(e.regs, in.regs, sizeof(e.regs)));
	require((st == EMUL_DONE) == (e.insn.len != 0) && e.insn.len <= EMUL_INSN_MAX);
	for (unsigned int i = 0; st == EMUL_DONE && i < 8; i++) {
		do {
			st = emul_run(&e);
		} while (st == EMUL_IO && answers);
		if (e.rip != rip)
			break;
		require(st != EMUL_DONE || e.insn.rep || jumps(e.insn.opcode));
	}
	require(st == EMUL_DONE || e.rip == rip);
	emul_insn_len(in.bytes, in.given & 15, e.mode, in.bytes + (in.cpl >> 4 & 3), 2);
	if (emul_decode_mov(in.bytes, e.mode, &mov))
		require(mov.len <= EMUL_INSN_MAX && mov.modrm < mov.len && mov.reg < 16);
	return 0;
}

#ifdef SWEEP
#include <stdio.h>

static u64 next_random(u64 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	return *x ^= *x << 17;
}

/* SWEEP SEED FIRST LAST STEP: prefixes FIRST to LAST, every STEPth value of the three bytes */
int main(int argc, char **argv)
{
	static const u8 prefixes[][4] = {
		{ 0 },
		{ 1, 0x66 },
		{ 1, 0x67 },
		{ 1, 0xf0 },
		{ 1, 0xf2 },
		{ 1, 0xf3 },
		{ 1, 0x0f },
		{ 1, 0x48 },
		{ 1, 0x4f },
		{ 2, 0x66, 0x0f },
		{ 2, 0xf3, 0x0f },
		{ 2, 0xf2, 0x0f },
		{ 2, 0xf0, 0x0f },
		{ 2, 0x48, 0x0f },
		{ 3, 0x0f, 0x38 },
	};
	u64 seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, x = seed, runs = 0;
	unsigned int first = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	unsigned int last = argc > 3 ? strtoul(argv[3], NULL, 0) : 100;
	unsigned int step = argc > 4 ? strtoul(argv[4], NULL, 0) : 1;
	u8 data[(sizeof(struct input) + 7) & ~7] = {};

	setvbuf(stdout, NULL, _IONBF, 0);
	printf("KTAP version 1\n1..1\n");
	for (unsigned int p = first; p <= last && p < sizeof(prefixes) / 4; p++) {
		for (u32 v = 0; v < 1 << 24; v += step) {
			/* The state of one in eight: that is most of the work. */
			if (!(v / step & 7))
				for (size_t i = 0; i < sizeof(data); i += 8)
					memcpy(data + i, &(u64){ next_random(&x) }, 8);
			memcpy(data, prefixes[p] + 1, prefixes[p][0] & 3);
			memcpy(data + (prefixes[p][0] & 3), &v, 3);
			for (u8 mode = 0; mode <= EMUL_LONG64; mode++, runs++) {
				data[EMUL_INSN_MAX + offsetof(struct input, mode)] = mode;
				LLVMFuzzerTestOneInput(data, sizeof(struct input));
			}
		}
	}
	printf("# %llu runs\nok 1 sweep\n", (unsigned long long)runs);
	return 0;
}
#endif
