/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What image guests (see vm.h) call: these run inside the guest, in long mode.
 * All tests are compiled with -mgeneral-regs-only, so plain C is safe here;
 * don't call libc.
 */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include "vm.h"

#define GUEST_PORT	0x5c0 /* dword OUT: RDI holds the value */
#define GUEST_PORT_FAIL 0x5c4 /* RDI text, RSI line, RBX and RCX numbers */
#define GUEST_DONE	(~0ULL)

#define GUEST_CS SEL_CODE64

/* The frame that the IDT stubs build. */
struct guest_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

typedef void (*guest_handler_fn)(struct guest_frame *frame);

/* Handlers by vector. Set them before vm_create_image() copies the image, or in the guest. */
extern guest_handler_fn guest_handlers[256];

/* What the last GUEST_TRY() met. */
extern volatile u64 guest_fixup;
extern volatile u64 guest_ex_vector, guest_ex_error, guest_ex_cr2;

/* 16-byte gates, filled by vm_write_tables(); the stubs are 16 bytes apart. */
extern char guest_idt_stubs[];

#define NO_EXCEPTION 0x100

/*
 * GUEST_TRY(vec, "insn", outputs, inputs): run an instruction that may fault.
 * vec becomes the exception's vector, or NO_EXCEPTION; the error code is in
 * guest_ex_error. Outputs and inputs are operand lists in OUT()/IN() wrappers.
 */
#define OUT(...) __VA_ARGS__
#define IN(...)	 __VA_ARGS__
#define GUEST_TRY(vec, insn, outputs, inputs) \
	do { \
		guest_ex_vector = NO_EXCEPTION; \
		guest_ex_error = 0; \
		asm volatile("movq $991f, guest_fixup\n\t" insn "\n991:\tmovq $0, guest_fixup" \
			     : outputs:inputs \
			     : "memory", "cc"); \
		(vec) = guest_ex_vector; \
	} while (0)

static inline void guest_sync(u64 val)
{
	asm volatile("outl %%eax, %%dx" : : "D"(val), "d"(GUEST_PORT), "a"(0) : "memory");
}

static inline void guest_done(void)
{
	for (;;)
		guest_sync(GUEST_DONE);
}

static inline void guest_fail(const char *what, int line, u64 a, u64 b)
{
	for (;;)
		asm volatile("outl %%eax, %%dx"
			     :
			     : "D"(what), "S"((u64)line), "d"(GUEST_PORT_FAIL), "a"(0), "b"(a),
			       "c"(b)
			     : "memory");
}

#define guest_assert(cond) \
	do { \
		if (!(cond)) \
			guest_fail(#cond, __LINE__, 0, 0); \
	} while (0)

#define guest_assert_eq(a, b) \
	do { \
		u64 _ga = (u64)(a), _gb = (u64)(b); \
		if (_ga != _gb) \
			guest_fail(#a " == " #b, __LINE__, _ga, _gb); \
	} while (0)

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32)) : "memory");
}

/* The same, but give the exception's vector or NO_EXCEPTION. */
static inline u64 guest_try_rdmsr(u32 msr, u64 *val)
{
	u64 vec;
	u32 lo = 0, hi = 0;

	GUEST_TRY(vec, "rdmsr", OUT("+a"(lo), "+d"(hi)), IN("c"(msr)));
	*val = lo | (u64)hi << 32;
	return vec;
}

static inline u64 guest_try_wrmsr(u32 msr, u64 val)
{
	u64 vec;

	GUEST_TRY(vec, "wrmsr", OUT(), IN("c"(msr), "a"((u32)val), "d"((u32)(val >> 32))));
	return vec;
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (u64)hi << 32;
}

static inline void cpuid(u32 leaf, u32 sub, u32 out[4])
{
	asm volatile("cpuid"
		     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
		     : "a"(leaf), "c"(sub));
}

#define GUEST_INOUT(suffix, type) \
	static inline void out##suffix(u16 port, type val) \
	{ \
		asm volatile("out" #suffix " %0, %1" : : "a"(val), "Nd"(port) : "memory"); \
	} \
	static inline type in##suffix(u16 port) \
	{ \
		type val; \
		asm volatile("in" #suffix " %1, %0" : "=a"(val) : "Nd"(port) : "memory"); \
		return val; \
	}
GUEST_INOUT(b, u8)
GUEST_INOUT(w, u16)
GUEST_INOUT(l, u32)

#define GUEST_CR(n) \
	static inline u64 read_cr##n(void) \
	{ \
		u64 val; \
		asm volatile("mov %%cr" #n ", %0" : "=r"(val) : : "memory"); \
		return val; \
	} \
	static inline void write_cr##n(u64 val) \
	{ \
		asm volatile("mov %0, %%cr" #n : : "r"(val) : "memory"); \
	}
GUEST_CR(0)
GUEST_CR(2)
GUEST_CR(3)
GUEST_CR(4)
GUEST_CR(8)

static inline void cli(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void sti(void)
{
	asm volatile("sti" : : : "memory");
}

static inline void hlt(void)
{
	asm volatile("hlt" : : : "memory");
}

static inline void sti_hlt(void)
{
	asm volatile("sti; hlt" : : : "memory");
}

static inline void sti_nop_cli(void)
{
	asm volatile("sti; nop; nop; cli" : : : "memory");
}

static inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}

/* xAPIC registers, through the identity mapping. */
#define APIC_BASE 0xfee00000ULL

static inline u32 apic_read(u32 reg)
{
	return *(volatile u32 *)(APIC_BASE + reg);
}

static inline void apic_write(u32 reg, u32 val)
{
	*(volatile u32 *)(APIC_BASE + reg) = val;
}

#endif
