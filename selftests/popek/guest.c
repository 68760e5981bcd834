// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of the selftest popek, 32-bit code: builds the tables of each mode, runs each form in
 * it and prints a line for each:
 *
 *	@MODE CPL IOPL UMIP	a context
 *	FORM HASH VECTOR FLAGS	a form in it: what came of it, and how it ended
 *
 * It runs unchanged on a bare machine (multiboot) and in a VM, and looks at no CPUID bits but
 * those that say which modes there are.
 */
#include <stdbool.h>

#include "guest.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define VAR(address) (*(volatile u32 *)(address))

#define CR0_PE	   (1U << 0)
#define CR0_ET	   (1U << 4)
#define CR0_NE	   (1U << 5)
#define CR0_WP	   (1U << 16)
#define CR0_PG	   (1U << 31)
#define CR4_VME	   (1U << 0)
#define CR4_PAE	   (1U << 5)
#define CR4_UMIP   (1U << 11)
#define MSR_EFER   0xc0000080
#define EFER_LME   (1U << 8)
#define FLAGS	   0xd7 /* all of the arithmetic flags but OF */
#define FLAGS_IF   0x200
#define FLAGS_IOPL 0x3000
#define FLAGS_RF   0x10000
#define FLAGS_VM   0x20000

/* Access bytes and flags of descriptors (APM vol. 2, 4.7). */
#define CODE	  0x9b
#define DATA	  0x93
#define DPL(n)	  ((n) << 5)
#define FLAT32	  0xc
#define FLAT64	  0xa
#define TSS32	  0x89
#define TSS16BIT  0x81
#define GATE16	  0x84
#define TASKGATE  0x85
#define GATE32	  0x8c
#define INTGATE16 0x86
#define INTGATE	  0x8e
#define TRAPGATE  0x8f

struct form {
	const char *name;
	u32 code, flags;
};

struct mode {
	const char *name;
	u32 env, mask, bits;
};

enum env { ENV_FLAT, ENV_PAGING, ENV_PAE, ENV_LONG, ENVS };

/* Of guest.S and the linker. */
extern const struct form forms[], forms_end[];
extern u32 runs, verbose;
extern const u8 stubs16[], stubs32[], stubs64[], text16_start[], text16_end[];
extern const u8 gate32[], gate32_return[], task_end[], task_return[], int_return32[], gate64[],
	gate64_return[], int_return64[], ring1_16[], ring1_32[], ring1_64[], int_return16[],
	gate16_16[], task16[], int_gate16[];
extern void run16(void), run32(void), run64(void);

static u32 dir32[1024] __attribute__((aligned(4096)));
static u32 table32[1024] __attribute__((aligned(4096)));
static u64 pml4[512] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[512] __attribute__((aligned(4096)));
static u64 table[512] __attribute__((aligned(4096)));

static const struct mode modes[] = {
	{ "real", ENV_FLAT, M_REAL, 16 },	{ "v86", ENV_FLAT, M_V86, 16 },
	{ "pm16", ENV_FLAT, M_PM16, 16 },	{ "pm32", ENV_FLAT, M_PM32, 32 },
	{ "v86-pg", ENV_PAGING, M_V86, 16 },	{ "pm16-pg", ENV_PAGING, M_PM16, 16 },
	{ "pm32-pg", ENV_PAGING, M_PM32, 32 },	{ "v86-pae", ENV_PAE, M_V86, 16 },
	{ "pm16-pae", ENV_PAE, M_PM16, 16 },	{ "pm32-pae", ENV_PAE, M_PM32, 32 },
	{ "compat16", ENV_LONG, M_LONG16, 16 }, { "compat32", ENV_LONG, M_LONG32, 32 },
	{ "long64", ENV_LONG, M_LONG64, 64 },
};

static u32 env_cr3[ENVS];
static char line[256];
static u32 line_len;

static u32 address(const void *p)
{
	return (u32)(unsigned long)p;
}

static u32 offset16(const u8 *p)
{
	return p - text16_start;
}

static void *memory(u32 at)
{
	return (void *)(unsigned long)at;
}

/* --- text --- */

static void put(char c)
{
	if (line_len < sizeof(line))
		line[line_len++] = c;
}

static void puts(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_hex(u32 v, int digits)
{
	while (digits--)
		put("0123456789abcdef"[v >> 4 * digits & 15]);
}

static void flush(void)
{
	const char *from = line;

	put('\n');
	asm volatile("rep outsb" : "+S"(from), "+c"(line_len) : "d"(PORT_TEXT) : "memory");
	line_len = 0;
}

/* --- the machine --- */

static void outb(u16 port, u8 val)
{
	asm volatile("outb %0, %1" : : "a"(val), "d"(port));
}

static u32 cpuid(u32 leaf, int reg)
{
	u32 r[4] = { leaf, 0, 0, 0 };

	asm volatile("cpuid" : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]), "=d"(r[3]));
	return r[reg];
}

static void set_cr0(u32 val)
{
	asm volatile("mov %0, %%cr0; jmp 1f; 1:" : : "r"(val) : "memory");
}

static void set_cr4(u32 val)
{
	asm volatile("mov %0, %%cr4" : : "r"(val) : "memory");
}

static void set_efer(u32 val)
{
	asm volatile("wrmsr" : : "a"(val), "c"(MSR_EFER), "d"(0));
}

static void env_enter(u32 env, u32 cr4)
{
	u32 cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP;

	set_cr0(cr0);
	set_cr4(cr4 | (env >= ENV_PAE ? CR4_PAE : 0));
	asm volatile("mov %0, %%cr3" : : "r"(env_cr3[env]) : "memory");
	if (env == ENV_LONG)
		set_efer(EFER_LME);
	if (env != ENV_FLAT)
		set_cr0(cr0 | CR0_PG);
}

static void env_leave(void)
{
	set_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_WP);
	set_efer(0);
	set_cr4(0);
}

/* Identity, open to CPL 3 but for three pages. */
static void make_page_tables(void)
{
	u32 i;

	for (i = 0; i < 1024; i++) {
		u32 entry = i << 12 | 7;

		if (i == PAGE_NONE >> 12)
			entry &= ~1;
		else if (i == PAGE_RO >> 12)
			entry &= ~2;
		else if (i == PAGE_SUPER >> 12)
			entry &= ~4;
		table32[i] = entry;
		if (i < 512)
			table[i] = entry;
	}
	dir32[0] = address(table32) | 7;
	pd[0] = address(table) | 7;
	pd[1] = 0x200000 | 0x87;
	env_cr3[ENV_PAGING] = address(dir32);
	env_cr3[ENV_PAE] = address(pdpt);
	env_cr3[ENV_LONG] = address(pml4);
}

/* The two share their third level; the legacy PDPT has no W and U bits. */
static void make_pdpt(u32 env)
{
	pdpt[0] = address(pd) | (env == ENV_LONG ? 7 : 1);
	pml4[0] = address(pdpt) | 7;
}

/* --- descriptors --- */

static u64 segment(u32 base, u32 limit, u32 access, u32 flags)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
	       (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

static u64 gate(u32 sel, u32 off, u32 access, u32 params)
{
	return (off & 0xffff) | (u64)sel << 16 | (u64)params << 32 | (u64)access << 40 |
	       (u64)(off >> 16) << 48;
}

static u64 *gold(u32 live)
{
	return memory(live - LIVE + GOLD);
}

static void set_gdt(u32 sel, u64 desc)
{
	gold(GDT)[sel >> 3] = desc;
}

static u64 form_code(u32 bits, u32 access)
{
	if (bits == 16)
		return segment(CODE16, 0xffff, access, 0);
	return segment(0, 0xfffff, access, bits == 64 ? FLAT64 : FLAT32);
}

static u64 form_data(u32 bits, u32 base, u32 access)
{
	return bits == 16 ? segment(base, 0xffff, access, 0)
			  : segment(base, 0xfffff, access, FLAT32);
}

static void make_segments(u32 bits)
{
	u32 n;

	set_gdt(SEL_CODE32, segment(0, 0xfffff, CODE, FLAT32));
	set_gdt(SEL_DATA, segment(0, 0xfffff, DATA, FLAT32));
	set_gdt(SEL_CODE64, segment(0, 0xfffff, CODE, FLAT64));
	set_gdt(SEL_CODE16, segment(CODE16, 0xffff, CODE, 0));
	set_gdt(SEL_DATA16, segment(0, 0xffff, DATA, 0));
	for (n = 0; n < 4; n++) {
		/* Not accessed yet, all of these. */
		set_gdt(SEL_UCODE(n), form_code(bits, 0x9a | DPL(n)));
		set_gdt(SEL_UDATA(n), form_data(bits, OPS, 0x92 | DPL(n)));
	}
	set_gdt(SEL_CONFORMING, form_code(bits, 0x9e));
	set_gdt(SEL_EXEC_ONLY, form_code(bits, 0x98 | DPL(3)));
	set_gdt(SEL_READ_ONLY, form_data(bits, OPS, 0x90 | DPL(3)));
	set_gdt(SEL_NOT_PRESENT, form_data(bits, OPS, 0x12 | DPL(3)));
	set_gdt(SEL_EXPAND_DOWN, segment(OPS, 0xf, 0x96 | DPL(3), 0));
	set_gdt(SEL_CODE_ABSENT, form_code(bits, 0x1a | DPL(3)));
	set_gdt(SEL_OTHER_BASE, form_data(bits, OPS + 0x80, 0x92 | DPL(3)));
	gold(LDT)[0] = form_code(bits, 0xfa);
	gold(LDT)[1] = form_data(bits, OPS + 0x40, 0xf2);
	gold(LDT)[2] = form_data(bits, OPS + 0x40, 0x92);
	gold(LDT)[3] = form_data(bits, OPS + 0x40, 0x72);
	gold(LDT)[4] = form_code(bits, 0x9e);
}

static void call_gate(u32 env, u32 sel, u32 access, u32 params, u32 code, const u8 *to32,
		      const u8 *to64)
{
	if (env == ENV_LONG) {
		if (code == SEL_CODE32)
			code = SEL_CODE64;
		params = 0;
	}
	set_gdt(sel, gate(code, address(env == ENV_LONG ? to64 : to32), access, params));
}

static void make_gates(u32 env, u32 bits)
{
	const u8 *ring1 = bits == 64 ? ring1_64 : ring1_32;

	call_gate(env, SEL_GATE, GATE32 | DPL(3), 2, SEL_CODE32, gate32, gate64);
	call_gate(env, SEL_GATE_DPL0, GATE32, 2, SEL_CODE32, gate32, gate64);
	call_gate(env, SEL_GATE_ABSENT, 0xc | DPL(3), 2, SEL_CODE32, gate32, gate64);
	call_gate(env, SEL_GATE_RETURN, GATE32 | DPL(3), 2, SEL_CODE32, gate32_return,
		  gate64_return);
	call_gate(env, SEL_GATE_RING1, GATE32 | DPL(3), 1, SEL_UCODE(1) & ~3, ring1, ring1);
	call_gate(env, SEL_GATE_TO_CONF, GATE32 | DPL(3), 1, SEL_CONFORMING, ring1, ring1);
	if (bits == 16) {
		set_gdt(SEL_GATE_RING1,
			gate(SEL_UCODE(1) & ~3, offset16(ring1_16), GATE32 | DPL(3), 1));
		set_gdt(SEL_GATE_TO_CONF,
			gate(SEL_CONFORMING, offset16(ring1_16), GATE32 | DPL(3), 1));
	}
	set_gdt(SEL_GATE16, gate(SEL_CODE16, offset16(gate16_16), GATE16 | DPL(3), 2));
	set_gdt(SEL_TASK_GATE, gate(SEL_TSS1, 0, TASKGATE | DPL(3), 0));
}

/* The state of a task that has not run (APM vol. 2, 12.2.3). */
static void make_task(u32 at, u32 env, const u8 *eip)
{
	u32 *tss = (u32 *)gold(at);

	tss[7] = env_cr3[env];
	tss[8] = address(eip);
	tss[9] = 2;
	tss[14] = STACK_IST;
	tss[18] = SEL_DATA;
	tss[19] = SEL_CODE32;
	tss[20] = SEL_DATA;
	tss[21] = SEL_DATA;
	tss[22] = SEL_DATA;
	tss[23] = SEL_DATA;
	tss[25] = 0x68 << 16;
}

static void make_task16(void)
{
	u16 *tss = (u16 *)gold(TSS16);

	tss[7] = offset16(task16);
	tss[8] = 2;
	tss[13] = STACK_IST;
	tss[17] = SEL_DATA;
	tss[18] = SEL_CODE16;
	tss[19] = SEL_DATA;
	tss[20] = SEL_DATA;
}

static void make_tasks(u32 env)
{
	u32 *tss = (u32 *)gold(TSS0), *frame = (u32 *)gold(STACK_IST);

	set_gdt(SEL_TSS0, segment(TSS0, 0x67, TSS32, 0));
	set_gdt(SEL_TSS1, segment(TSS1, 0x67, TSS32 | DPL(3), 0));
	set_gdt(SEL_TSSR, segment(TSSR, 0x67, TSS32 | DPL(3), 0));
	set_gdt(SEL_TSS_BUSY, segment(TSS1, 0x67, TSS32 | 2 | DPL(3), 0));
	set_gdt(SEL_TSS16, segment(TSS16, 0x2b, TSS16BIT | DPL(3), 0));
	set_gdt(SEL_LDT, segment(LDT, LDT_SIZE - 1, 0x82, 0));
	if (env == ENV_LONG) {
		tss[1] = STACK0;
		tss[3] = STACK1;
		tss[5] = STACK2;
		tss[9] = STACK_IST;
	} else {
		tss[0] = SEL_TSS1;
		tss[1] = STACK0;
		tss[2] = SEL_DATA;
		tss[3] = STACK1 - OPS;
		tss[4] = SEL_UDATA(1);
		tss[5] = STACK2 - OPS;
		tss[6] = SEL_UDATA(2);
		/* A task switch does not save these. */
		tss[7] = env_cr3[env];
		tss[24] = SEL_LDT;
		make_task(TSS1, env, task_end);
		make_task(TSSR, env, task_return);
		make_task16();
		/* Jumped to, the task that returns has no one to return to but this. */
		frame[0] = address(task_end);
		frame[1] = SEL_CODE32;
		frame[2] = 2;
	}
	tss[25] = 0x68 << 16;
}

/* What LIVE is before each run. */
static void make_gold(u32 env, u32 bits)
{
	u32 *word = memory(GOLD), i;

	for (i = 0; i < LIVE_N; i++)
		word[i] = i < (OPS - LIVE) / 4 ? 0 : i * 0x9e3779b1 ^ 0x5bd1e995;
	make_segments(bits);
	make_gates(env, bits);
	make_tasks(env);
}

static void set_idt(u32 env, u32 vector, u32 sel, u32 to, u32 access)
{
	u64 *idt = memory(IDT);

	if (env == ENV_LONG) {
		/* IST 1: the stack of a form has a base that 64-bit code does not know. */
		idt[2 * vector] = gate(sel, to, access, 1);
		idt[2 * vector + 1] = 0;
	} else {
		idt[vector] = gate(sel, to, access, 0);
	}
}

static void make_idt(u32 env)
{
	u32 sel = env == ENV_LONG ? SEL_CODE64 : SEL_CODE32, i;
	const u8 *stubs = env == ENV_LONG ? stubs64 : stubs32;
	const u8 *back = env == ENV_LONG ? int_return64 : int_return32;

	for (i = 0; i < VECTORS; i++) {
		u32 dpl = i == 3 || i == 4 || i >= VEC_INT ? DPL(3) : 0;

		set_idt(env, i, sel, address(stubs + 16 * i), INTGATE | dpl);
	}
	set_idt(env, VEC_TRAP, sel, address(stubs + 16 * VEC_TRAP), TRAPGATE | DPL(3));
	set_idt(env, VEC_DPL0, sel, address(stubs + 16 * VEC_DPL0), INTGATE);
	set_idt(env, VEC_GATE16, SEL_CODE16, offset16(int_gate16), INTGATE16 | DPL(3));
	set_idt(env, VEC_GATE16_END, SEL_CODE16, offset16(gate16_16), INTGATE16 | DPL(3));
	set_idt(env, VEC_ABSENT, sel, 0, 0xe | DPL(3));
	set_idt(env, VEC_TASK, SEL_TSS1, 0, TASKGATE | DPL(3));
	set_idt(env, VEC_TASK_RET, SEL_TSSR, 0, TASKGATE | DPL(3));
	set_idt(env, VEC_RETURN, sel, address(back), INTGATE | DPL(3));
	set_idt(env, VEC_CONFORMING, SEL_CONFORMING, address(stubs + 16 * VEC_CONFORMING),
		INTGATE | DPL(3));
	VAR(V_IDTR) = (VECTORS * (env == ENV_LONG ? 16 : 8) - 1) | IDT << 16;
	VAR(V_IDTR + 4) = IDT >> 16;
	asm volatile("lidt %0" : : "m"(VAR(V_IDTR)));
}

static void make_ivt(void)
{
	volatile u32 *ivt = memory(0);
	u32 i;

	for (i = 0; i < VECTORS; i++)
		ivt[i] = (CODE16 >> 4) << 16 | offset16(stubs16 + 16 * i);
	ivt[VEC_RETURN] = (CODE16 >> 4) << 16 | offset16(int_return16);
	/* Flat code that is entered at 0 ends there. */
	*(volatile u8 *)ivt = 0xcc;
	VAR(V_IVTR) = 0x3ff;
	VAR(V_IVTR + 4) = 0;
}

/* --- a form --- */

static u32 reg_value(u32 n)
{
	return 0x01010101 * (n + 1);
}

/* What the runners pop; guest.S has the order. */
static void make_frame(const struct mode *m, u32 cpl, u32 eip, u32 flags)
{
	u32 *frame = memory(FRAME), *f = frame, i, words;
	bool paragraphs = m->mask & (M_REAL | M_V86);
	u32 data = paragraphs ? OPS >> 4 : SEL_UDATA(cpl);
	u32 code = paragraphs ? CODE16 >> 4 : SEL_UCODE(cpl);
	u32 esp = m->bits == 64 ? OPS + OPS_STACK : OPS_STACK;
	bool own_stack = m->env != ENV_LONG && !cpl;

	for (i = 0; i < 4; i++)
		*f++ = m->mask == M_V86 ? 0 : data;
	for (i = 0; i < (m->env == ENV_LONG ? 15 : 8); i++)
		*f++ = reg_value(i);
	/* [ER]BX */
	frame[m->env == ENV_LONG ? 4 + 11 : 4 + 4] = m->bits == 64 ? OPS : 0;
	*f++ = eip;
	*f++ = code;
	*f++ = flags;
	if (!own_stack) {
		*f++ = esp;
		*f++ = data;
		for (i = 0; m->mask == M_V86 && i < 4; i++)
			*f++ = data;
	}
	words = f - frame;
	if (m->env == ENV_LONG) {
		for (i = words; i-- > 0;) {
			frame[2 * i] = frame[i];
			frame[2 * i + 1] = 0;
		}
		words *= 2;
		for (i = 4; i < 4 + 15; i++)
			if (frame[2 * i] == reg_value(i - 4))
				frame[2 * i + 1] = ~reg_value(i - 4);
	}
	VAR(V_FRAME_N) = words;
	VAR(V_SS) = own_stack ? data : SEL_DATA;
	VAR(V_ESP) = (own_stack ? OPS_STACK : REAL_STACK) - 4 * words;
	VAR(V_FRAME_DST) = VAR(V_ESP) + (own_stack ? OPS : 0);
}

static void run(const struct mode *m)
{
	VAR(V_REPS) = runs;
	VAR(V_FIRST) = 1;
	VAR(V_UNSTABLE) = 0;
	VAR(V_HASH) = 0;
	VAR(V_HASH + 4) = 0;
	if (m->mask == M_REAL)
		run16();
	else if (m->env == ENV_LONG)
		asm volatile("lcall %0, $run64"
			     :
			     : "i"(SEL_CODE64)
			     : "eax", "ecx", "edx", "memory", "cc");
	else
		run32();
}

static void hash_words(u32 at, u32 n, u32 hash[2])
{
	while (n--) {
		u32 word = VAR(at);

		hash[0] = (hash[0] ^ word) * 0x01000193;
		hash[1] = ((hash[1] << 7 | hash[1] >> 25) + word) * 0x85ebca6b;
		at += 4;
	}
}

/*
 * The last run's hash again, without RF in the flags that the exception has pushed: there QEMU's own
 * #UD differs from one that is injected.
 */
static void put_hash_without_rf(u32 flags_at)
{
	u32 hash[2] = { 0x811c9dc5, 0x2545f491 }, flags = VAR(flags_at), i;

	for (i = 0; i < LIVE_N; i++)
		if (VAR(LIVE + 4 * i) == flags && VAR(GOLD + 4 * i) != flags)
			VAR(LIVE + 4 * i) = flags & ~FLAGS_RF;
	VAR(flags_at) = flags & ~FLAGS_RF;
	hash_words(REC, REC_N, hash);
	hash_words(LIVE, LIVE_N, hash);
	puts(" norf=");
	put_hex(hash[0], 8);
	put_hex(hash[1], 8);
}

/* All of the record, and what has changed in LIVE. */
static void dump(void)
{
	u32 i;

	for (i = 0; i < REC_N; i++) {
		if (!VAR(REC + 4 * i))
			continue;
		puts("  record ");
		put_hex(i, 2);
		put(' ');
		put_hex(VAR(REC + 4 * i), 8);
		flush();
	}
	for (i = 0; i < LIVE_N; i++) {
		if (VAR(LIVE + 4 * i) == VAR(GOLD + 4 * i))
			continue;
		puts("  memory ");
		put_hex(LIVE + 4 * i, 4);
		put(' ');
		put_hex(VAR(LIVE + 4 * i), 8);
		flush();
	}
}

static void run_form(const struct mode *m, const struct form *f, u32 cpl, u32 iopl)
{
	u32 flags = FLAGS | (iopl ? FLAGS_IOPL : 0) | (f->flags & F_IF ? FLAGS_IF : 0);
	bool is_long = m->env == ENV_LONG;
	u32 vector;

	if (m->mask == M_V86)
		flags |= FLAGS_VM;
	make_frame(m, cpl, f->code, flags);
	run(m);
	puts(f->name);
	put(' ');
	put_hex(VAR(V_HASH), 8);
	put_hex(VAR(V_HASH + 4), 8);
	put(' ');
	vector = VAR(REC + 4 * (is_long ? REC_VECTOR64 : REC_VECTOR));
	put_hex(vector, 2);
	if (f->flags & F_EXITS)
		puts(" exits");
	if (VAR(V_UNSTABLE))
		puts(" unstable");
	if (vector == 6)
		put_hash_without_rf(REC + 4 * (is_long ? REC_FLAGS64 : REC_FLAGS));
	flush();
	if (verbose)
		dump();
}

static void run_context(const struct mode *m, u32 cpl, u32 iopl, const char *cr4, u32 need)
{
	const struct form *f;

	put('@');
	puts(m->name);
	put(' ');
	put_hex(cpl, 1);
	put(' ');
	put_hex(iopl, 1);
	put(' ');
	puts(cr4);
	flush();
	for (f = forms; f < forms_end; f++) {
		if (!(f->flags & m->mask) || !(f->flags >> F_CPL_SHIFT & 1 << cpl) ||
		    (f->flags & need) != need || ((f->flags & F_PAGING) && m->env == ENV_FLAT))
			continue;
		run_form(m, f, cpl, iopl);
	}
}

/* All forms once, and those again that differ with IOPL or with the bit of CR4. */
static void run_mode(const struct mode *m, const char *cr4, u32 need)
{
	u32 first = m->mask == M_V86 ? 3 : 0, last = m->mask == M_REAL ? 0 : 3, cpl;

	make_gold(m->env, m->bits);
	for (cpl = first; cpl <= last; cpl++) {
		run_context(m, cpl, 0, cr4, need);
		if (m->mask != M_REAL)
			run_context(m, cpl, 3, cr4, need | (need == F_UMIP ? 0 : F_IOPL));
	}
}

static void run_env(u32 env, u32 bits, const char *cr4, u32 need)
{
	u32 i;

	make_pdpt(env);
	make_idt(env);
	env_enter(env, bits);
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (modes[i].env == env && (!(bits & CR4_VME) || modes[i].mask == M_V86))
			run_mode(&modes[i], cr4, need);
	env_leave();
}

void guest_main(void);

void guest_main(void)
{
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) gdtr = { GDT_SIZE - 1, GDT };
	bool umip = cpuid(7, 2) >> 2 & 1, vme = cpuid(1, 3) >> 1 & 1;
	u32 env, i;

	/* No interrupts of a bare machine's PICs. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	for (i = 0; i < (u32)(text16_end - text16_start); i++)
		*(volatile u8 *)memory(CODE16 + i) = text16_start[i];
	make_page_tables();
	make_gold(ENV_FLAT, 32);
	for (i = 0; i < LIVE_N; i++)
		VAR(LIVE + 4 * i) = VAR(GOLD + 4 * i);
	asm volatile("lgdt %0\n\t"
		     "ljmp %1, $1f\n"
		     "1:\tmov %2, %%ds; mov %2, %%es; mov %2, %%fs; mov %2, %%gs; mov %2, %%ss"
		     :
		     : "m"(gdtr), "i"(SEL_CODE32), "r"(SEL_DATA)
		     : "memory");
	asm volatile("ltr %w0" : : "r"(SEL_TSS0));
	make_ivt();
	for (env = 0; env < ENVS; env++) {
		run_env(env, 0, "-", 0);
		if (umip)
			run_env(env, CR4_UMIP, "umip", F_UMIP);
		if (vme && env != ENV_LONG)
			run_env(env, CR4_VME, "vme", F_IOPL);
	}
	puts("end");
	flush();
	outb(PORT_END, 0);
}
