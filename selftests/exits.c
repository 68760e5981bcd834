// SPDX-License-Identifier: GPL-2.0
/*
 * Every exit reason to userspace: ports, string I/O, MMIO, HLT, shutdown,
 * signals, immediate_exit, the interrupt window and the two error exits.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define MMIO_GPA 0x10000000ULL /* no memory there */
#define STR_PORT 0x300

static struct vcpu *start_guest(struct vm *vm, void (*fn)(u64), u64 arg)
{
	struct vcpu *vcpu = vcpu_create(vm, 0);

	vcpu_set_guest(vcpu, fn, arg);
	return vcpu;
}

/* Single port accesses. */
static void guest_ports(u64 arg)
{
	(void)arg;
	outb(0x80, 0x11);
	outw(0x1234, 0x2233);
	outl(0xfffc, 0x44556677);
	guest_assert_eq(inb(0x60), 0xa5);
	guest_assert_eq(inw(0x1f0), 0xbeef);
	guest_assert_eq(inl(0xcf8), 0xdeadbeef);
	guest_done();
}

static void answer_in(struct vcpu *vcpu, u16 port, u64 val, int size)
{
	struct kvm_run *run = vcpu->run;

	vcpu_expect(vcpu, KVM_EXIT_IO);
	CHECK_EQ(run->io.direction, KVM_EXIT_IO_IN);
	CHECK_EQ(run->io.port, port);
	CHECK_EQ(run->io.size, size);
	CHECK_EQ(run->io.count, 1);
	memcpy((char *)run + run->io.data_offset, &val, size);
}

static void test_ports(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_ports, 0);

	CHECK_EQ(vcpu_expect_out(vcpu, 0x80, 1), 0x11);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x1234, 2), 0x2233);
	CHECK_EQ(vcpu_expect_out(vcpu, 0xfffc, 4), 0x44556677);
	answer_in(vcpu, 0x60, 0xa5, 1);
	answer_in(vcpu, 0x1f0, 0xbeef, 2);
	answer_in(vcpu, 0xcf8, 0xdeadbeef, 4);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* IN of a byte or word leaves the rest of RAX; a dword clears the upper half. */
static void guest_in_merge(u64 arg)
{
	u64 val = 0x1122334455667788;

	(void)arg;
	asm volatile("inb $0x60, %%al" : "+a"(val));
	guest_assert_eq(val, 0x11223344556677a5);
	asm volatile("inw $0x60, %%ax" : "+a"(val));
	guest_assert_eq(val, 0x112233445566beef);
	asm volatile("inl $0x60, %%eax" : "+a"(val));
	guest_assert_eq(val, 0xdeadbeef);
	guest_done();
}

static void test_in_merge(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_in_merge, 0);

	answer_in(vcpu, 0x60, 0xa5, 1);
	answer_in(vcpu, 0x60, 0xbeef, 2);
	answer_in(vcpu, 0x60, 0xdeadbeef, 4);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A dead register file after OUT: userspace may change registers at the exit. */
static void guest_setregs(u64 arg)
{
	(void)arg;
	asm volatile("movl $1, %%ebx; outb %%al, $0x10; cmpl $77, %%ebx; je 1f; ud2; 1:"
		     :
		     :
		     : "rbx", "cc");
	guest_done();
}

static void test_setregs_at_exit(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_setregs, 0);
	struct kvm_regs regs;

	vcpu_expect_out(vcpu, 0x10, 1);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rbx, 1);
	regs.rbx = 77;
	vcpu_set_regs(vcpu, &regs);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* String I/O: the exits may come in any batches, the stream must be right. */
static u8 str_buf[8192];

#define STR_INSNS(op, reg, ptr) \
	switch (size) { \
	case 1: \
		asm volatile("rep " op "b" \
			     : "+" reg(ptr), "+c"(count) \
			     : "d"(STR_PORT) \
			     : "memory"); \
		break; \
	case 2: \
		asm volatile("rep " op "w" \
			     : "+" reg(ptr), "+c"(count) \
			     : "d"(STR_PORT) \
			     : "memory"); \
		break; \
	default: \
		asm volatile("rep " op "l" \
			     : "+" reg(ptr), "+c"(count) \
			     : "d"(STR_PORT) \
			     : "memory"); \
		break; \
	}

#define STR_BYTES 4900 /* over a page, not a multiple of one */

/* arg: size | in << 8 | backwards << 9 */
static void guest_string(u64 arg)
{
	u64 size = arg & 0xff, count = STR_BYTES / size;
	u64 start = (u64)str_buf + 8, ptr = start;
	u64 i;

	if (!(arg & 0x100))
		for (i = 0; i < STR_BYTES; i++)
			str_buf[8 + i] = i * 7 + (i >> 8);
	if (arg & 0x200) {
		ptr += STR_BYTES - size;
		asm volatile("std");
	}
	if (arg & 0x100)
		STR_INSNS("ins", "D", ptr)
	else
		STR_INSNS("outs", "S", ptr)
	asm volatile("cld");
	guest_assert_eq(count, 0);
	guest_assert_eq(ptr, arg & 0x200 ? start - size : start + STR_BYTES);
	if (arg & 0x100)
		for (i = 0; i < STR_BYTES; i++)
			guest_assert_eq(str_buf[8 + i], (u8)(i * 7 + (i >> 8)));
	guest_done();
}

static u8 str_byte(u32 offset)
{
	return offset * 7 + (offset >> 8);
}

/* Serve one string operation; @pos is the count of bytes done so far. */
static u32 serve_string(struct kvm_run *run, bool back, u32 pos)
{
	u8 *data = (u8 *)run + run->io.data_offset;
	u32 i, b, size = run->io.size;

	for (i = 0; i < run->io.count; i++) {
		u32 off = back ? STR_BYTES - size - pos : pos;

		for (b = 0; b < size; b++) {
			if (run->io.direction == KVM_EXIT_IO_IN)
				data[i * size + b] = str_byte(off + b);
			else
				CHECK_EQ(data[i * size + b], str_byte(off + b));
		}
		pos += size;
	}
	return pos;
}

static void string_case(int size, bool in, bool back)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = start_guest(vm, guest_string, size | in << 8 | back << 9);
	struct kvm_run *run = vcpu->run;
	u32 pos = 0;

	while (pos < STR_BYTES) {
		vcpu_expect(vcpu, KVM_EXIT_IO);
		CHECK_EQ(run->io.port, STR_PORT);
		CHECK_EQ(run->io.size, size);
		CHECK_EQ(run->io.direction, in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT);
		CHECK(run->io.data_offset + run->io.count * size <= vm->run_size);
		pos = serve_string(run, back, pos);
	}
	CHECK_EQ(pos, STR_BYTES);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	vm_destroy(vm);
}

static void test_string_out(void)
{
	string_case(1, false, false);
	string_case(2, false, false);
	string_case(4, false, false);
}

static void test_string_in(void)
{
	string_case(1, true, false);
	string_case(2, true, false);
	string_case(4, true, false);
}

static void test_string_backwards(void)
{
	int size;

	for (size = 1; size <= 4; size *= 2) {
		string_case(size, false, true);
		string_case(size, true, true);
	}
}

/* REP with RCX zero does nothing; without REP one unit moves. */
static void guest_string_edges(u64 arg)
{
	u64 count = 0, ptr = (u64)str_buf;

	(void)arg;
	str_buf[0] = 0x31;
	asm volatile("rep outsb" : "+S"(ptr), "+c"(count) : "d"(STR_PORT) : "memory");
	guest_assert_eq(ptr, (u64)str_buf);
	guest_sync(1);
	asm volatile("outsb" : "+S"(ptr) : "d"(STR_PORT) : "memory");
	guest_assert_eq(ptr, (u64)str_buf + 1);
	asm volatile("insb" : "+D"(ptr) : "d"(STR_PORT) : "memory");
	guest_assert_eq(str_buf[1], 0x32);
	guest_done();
}

static void test_string_edges(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_string_edges, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu_expect_out(vcpu, STR_PORT, 1), 0x31);
	answer_in(vcpu, STR_PORT, 0x32, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* MMIO */
static void guest_mmio(u64 arg)
{
	volatile u8 *b = (void *)(MMIO_GPA + 1);
	volatile u16 *w = (void *)(MMIO_GPA + 2);
	volatile u32 *l = (void *)(MMIO_GPA + 4);
	volatile u64 *q = (void *)(MMIO_GPA + 8);

	(void)arg;
	*b = 0x12;
	*w = 0x3456;
	*l = 0x789abcde;
	*q = 0x1122334455667788;
	guest_assert_eq(*b, 0x81);
	guest_assert_eq(*w, 0x8281);
	guest_assert_eq(*l, 0x84838281);
	guest_assert_eq(*q, 0x8887868584838281);
	guest_done();
}

static void mmio_write(struct vcpu *vcpu, u64 gpa, u64 val, u32 len)
{
	struct kvm_run *run = vcpu->run;
	u64 got = 0;

	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(run->mmio.is_write, 1);
	CHECK_EQ(run->mmio.phys_addr, gpa);
	CHECK_EQ(run->mmio.len, len);
	memcpy(&got, run->mmio.data, len);
	CHECK_EQ(got, val);
}

static void mmio_read(struct vcpu *vcpu, u64 gpa, u64 val, u32 len)
{
	struct kvm_run *run = vcpu->run;

	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(run->mmio.is_write, 0);
	CHECK_EQ(run->mmio.phys_addr, gpa);
	CHECK_EQ(run->mmio.len, len);
	memcpy(run->mmio.data, &val, len);
}

static void test_mmio(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_mmio, 0);
	u64 val = 0x8887868584838281;

	mmio_write(vcpu, MMIO_GPA + 1, 0x12, 1);
	mmio_write(vcpu, MMIO_GPA + 2, 0x3456, 2);
	mmio_write(vcpu, MMIO_GPA + 4, 0x789abcde, 4);
	mmio_write(vcpu, MMIO_GPA + 8, 0x1122334455667788, 8);
	mmio_read(vcpu, MMIO_GPA + 1, val, 1);
	mmio_read(vcpu, MMIO_GPA + 2, val, 2);
	mmio_read(vcpu, MMIO_GPA + 4, val, 4);
	mmio_read(vcpu, MMIO_GPA + 8, val, 8);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* SSE moves: all other XMM registers stay, through exits in the kernel and to userspace. */
static void guest_mmio_sse(u64 movss)
{
	u64 in[2] = { 0x0123456789abcdef, 0xfedcba9876543210 }, out[2], other[2];
	u32 a = 0, c = 0;

	asm volatile("movups (%1), %%xmm5; movups (%1), %%xmm6\n"
		     "movaps %%xmm5, (%0)\n"
		     "movups 16(%0), %%xmm5"
		     :
		     : "r"(MMIO_GPA), "r"(in)
		     : "memory");
	if (movss)
		asm volatile("movss %%xmm5, 4(%0)" : : "r"(MMIO_GPA) : "memory");
	asm volatile("cpuid; movups %%xmm5, %0; movups %%xmm6, %1"
		     : "=m"(out), "=m"(other), "+a"(a), "+c"(c)
		     :
		     : "rbx", "rdx");
	guest_assert_eq(out[0], 0x1111222233334444);
	guest_assert_eq(out[1], 0x5555666677778888);
	guest_assert_eq(other[0], in[0]);
	guest_assert_eq(other[1], in[1]);
	guest_done();
}

static void test_mmio_sse(void)
{
	struct vm *vm = vm_create_image();
	bool movss = !vm_is_kvm(); /* KVM does not have it */
	struct vcpu *vcpu = start_guest(vm, guest_mmio_sse, movss);

	mmio_write(vcpu, MMIO_GPA, 0x0123456789abcdef, 8);
	mmio_write(vcpu, MMIO_GPA + 8, 0xfedcba9876543210, 8);
	mmio_read(vcpu, MMIO_GPA + 16, 0x1111222233334444, 8);
	mmio_read(vcpu, MMIO_GPA + 24, 0x5555666677778888, 8);
	if (movss)
		mmio_write(vcpu, MMIO_GPA + 4, 0x33334444, 4);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Instructions other than MOV on MMIO. */
static void guest_mmio_insns(u64 arg)
{
	u64 val = ~0ULL, flags;

	(void)arg;
	asm volatile("movzbl (%1), %k0" : "+r"(val) : "r"(MMIO_GPA));
	guest_assert_eq(val, 0x80);
	asm volatile("movsbq (%1), %0" : "+r"(val) : "r"(MMIO_GPA));
	guest_assert_eq(val, 0xffffffffffffff80);
	asm volatile("movl $0x55aa, (%0)" : : "r"(MMIO_GPA) : "memory");
	asm volatile("addl %1, (%0)" : : "r"(MMIO_GPA), "r"(5) : "memory");
	asm volatile("testb $0x80, (%1); pushf; pop %0" : "=r"(flags) : "r"(MMIO_GPA));
	guest_assert_eq(flags & 0xc0, 0x80);
	asm volatile("xchgl %k0, (%1)" : "+r"(val) : "r"(MMIO_GPA) : "memory");
	guest_assert_eq(val, 0x1234);
	guest_done();
}

static void test_mmio_insns(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_mmio_insns, 0);

	mmio_read(vcpu, MMIO_GPA, 0x80, 1);
	mmio_read(vcpu, MMIO_GPA, 0x80, 1);
	mmio_write(vcpu, MMIO_GPA, 0x55aa, 4);
	mmio_read(vcpu, MMIO_GPA, 0x100, 4);
	mmio_write(vcpu, MMIO_GPA, 0x105, 4);
	mmio_read(vcpu, MMIO_GPA, 0x80, 1);
	mmio_read(vcpu, MMIO_GPA, 0x1234, 4);
	mmio_write(vcpu, MMIO_GPA, 0xffffff80, 4);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* A page of a device that keeps what is written, until the guest syncs; ports give 0x99. */
static u64 serve_device(struct vcpu *vcpu, u8 *mem)
{
	struct kvm_run *run = vcpu->run;
	u64 val;

	for (;;) {
		int got = vcpu_run(vcpu);

		if (got == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN) {
			memset((u8 *)run + run->io.data_offset, 0x99, run->io.size * run->io.count);
			continue;
		}
		if (got == KVM_EXIT_IO && vcpu_guest_event(vcpu, &val))
			return val;
		CHECKF(got == KVM_EXIT_MMIO, "%s", vm_exit_name(got));
		CHECK(run->mmio.len && run->mmio.len <= 8 && run->mmio.phys_addr >= MMIO_GPA &&
		      run->mmio.phys_addr + run->mmio.len <= MMIO_GPA + 0x1000);
		if (run->mmio.is_write)
			memcpy(mem + run->mmio.phys_addr - MMIO_GPA, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, mem + run->mmio.phys_addr - MMIO_GPA, run->mmio.len);
	}
}

static void on_device(void (*fn)(u64))
{
	static u8 mem[0x1000];
	struct vcpu *vcpu = start_guest(vm_create_image(), fn, MMIO_GPA);

	memset(mem, 0, sizeof(mem));
	CHECK_EQ(serve_device(vcpu, mem), GUEST_DONE);
}

static void guest_device_arith(u64 arg)
{
	volatile u64 *dev = (void *)arg;
	u64 a, d, vec;
	bool zero;

	*dev = 0x3333333333333333;
	a = 0x1111111111111111;
	d = 0x2222222222222222;
	asm volatile("mulb %2" : "+a"(a), "+d"(d) : "m"(*dev) : "cc");
	guest_assert_eq(a, 0x1111111111110363);
	asm volatile("mulq %2" : "+a"(a), "+d"(d) : "m"(*dev) : "cc");
	guest_assert_eq(d, 0x0369d0369d036713);
	*dev = 1000;
	a = 123456;
	d = 0;
	asm volatile("divq %2" : "+a"(a), "+d"(d) : "m"(*dev) : "cc");
	guest_assert_eq(a, 123);
	guest_assert_eq(d, 456);
	a = -123456;
	d = -1;
	asm volatile("idivl %2" : "+a"(a), "+d"(d) : "m"(*dev) : "cc");
	guest_assert_eq(a, (u32)-123);
	guest_assert_eq(d, (u32)-456);
	*dev = 0;
	a = 1;
	GUEST_TRY(vec, "divq %2", OUT("+a"(a), "+d"(d)), IN("m"(*dev)));
	guest_assert_eq(vec, 0);
	guest_assert_eq(a, 1);
	asm volatile("bsfq %1, %0; setz %2" : "=r"(a), "+m"(*dev), "=r"(zero) : : "cc");
	guest_assert(zero);
	*dev = 0x300;
	asm volatile("imulq $-5, %1, %0" : "=r"(a) : "m"(*dev) : "cc");
	guest_assert_eq(a, -0xf00ULL);
	asm volatile("bsfq %1, %0" : "=r"(a) : "m"(*dev) : "cc");
	guest_assert_eq(a, 8);
	asm volatile("bsrw %1, %w0" : "=r"(a) : "m"(*dev) : "cc");
	guest_assert_eq((u16)a, 9);
	asm volatile("shldq $4, %1, %0" : "+m"(*dev) : "r"(0xa000000000000000) : "cc");
	guest_assert_eq(*dev, 0x300a);
	asm volatile("shrdl %%cl, %1, %0" : "+m"(*dev) : "r"(0x55), "c"(8) : "cc");
	guest_assert_eq(*dev, 0x55000030);
	guest_done();
}

static void test_device_arith(void)
{
	on_device(guest_device_arith);
}

/* The stack is in the device: pushes, pops, frames, calls. */
static void guest_device_stack(u64 arg)
{
	volatile u64 *top = (void *)(arg + 0x1000);
	u64 in = 0x123456789abcdef, out = 0, rsp = 0, ret = 0;

	asm volatile("mov %%rsp, %%r8; mov %1, %%rsp\n"
		     "push $-7; push %2; pushq (%3); push $-7070707\n"
		     "mov %%rsp, %0\n"
		     "pop %%r9; popq (%4)\n"
		     "mov %%r8, %%rsp"
		     : "=&a"(rsp)
		     : "b"(top), "c"(-17ULL), "S"(&in), "D"(&out)
		     : "r8", "r9", "memory");
	guest_assert_eq(rsp, (u64)(top - 4));
	guest_assert_eq(top[-1], -7ULL);
	guest_assert_eq(top[-2], -17ULL);
	guest_assert_eq(top[-3], in);
	guest_assert_eq(top[-4], -7070707ULL);
	guest_assert_eq(out, in);

	asm volatile("mov %%rsp, %%r8; mov %%rbp, %%r9; mov %3, %%rsp; mov $0x55aa, %%ebp\n"
		     "enter $0x238, $0\n"
		     "mov %%rsp, %0; mov %%rbp, %1\n"
		     "leave\n"
		     "mov %%rbp, %2; mov %%r9, %%rbp\n"
		     "cmp %3, %%rsp; mov %%r8, %%rsp; je 1f; ud2; 1:"
		     : "=&a"(rsp), "=&b"(ret), "=&c"(out)
		     : "d"(top)
		     : "r8", "r9", "memory", "cc");
	guest_assert_eq(rsp, (u64)top - 8 - 0x238);
	guest_assert_eq(ret, (u64)(top - 1));
	guest_assert_eq(out, 0x55aa);
	guest_assert_eq(top[-1], 0x55aa);

	/* CALL of memory, of a register and relative, RET with and without an operand */
	top[-64] = 0;
	asm volatile("mov %%rsp, %%r8; mov %1, %%rsp; xor %%r9d, %%r9d\n"
		     "lea 2f(%%rip), %%r10; mov %%r10, -512(%1)\n"
		     "call *-512(%1); call 2f; call *%%r10; push $0; call 3f; jmp 4f\n"
		     "2: inc %%r9; ret\n"
		     "3: inc %%r9; ret $8\n"
		     "4: lea 5f(%%rip), %%r10; mov %%r10, -512(%1); jmp *-512(%1); ud2\n"
		     "5: cmp %1, %%rsp; mov %%r8, %%rsp; je 1f; ud2; 1: mov %%r9, %0"
		     : "=r"(out)
		     : "r"(top)
		     : "r8", "r9", "r10", "memory", "cc");
	guest_assert_eq(out, 4);
	guest_done();
}

static void test_device_stack(void)
{
	on_device(guest_device_stack);
}

static void guest_device_system(u64 arg)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) gdtr;
	volatile u64 *dev = (void *)arg;
	volatile u16 *sel = (void *)arg;
	u64 vec, *gdt, mm;
	u16 tr, ss;

	/* SMSW stores 16 bits. */
	*dev = -1ULL;
	asm volatile("smsw %0" : "+m"(*sel));
	guest_assert_eq(*dev, -1ULL << 16 | (u16)read_cr0());

	asm volatile("sgdt %0" : "=m"(gdtr));
	gdt = (u64 *)gdtr.base;
	asm volatile("str %0; mov %%ss, %1" : "=r"(tr), "=r"(ss));
	gdt[tr >> 3] &= ~(1ULL << 41);
	*dev = tr;
	asm volatile("ltr %0" : : "m"(*sel) : "memory");
	guest_assert(gdt[tr >> 3] & 1ULL << 41);
	GUEST_TRY(vec, "ltr %0", OUT(), IN("m"(*sel)));
	guest_assert_eq(vec, 13);
	guest_assert_eq(guest_ex_error, tr);
	asm volatile("str %0" : "=r"(tr));
	guest_assert_eq(tr, *sel);

	/* Null in SS is legal here if its RPL is CPL; and the exits after that still work. */
	*dev = 0;
	asm volatile("mov %0, %%ss" : : "m"(*sel));
	asm volatile("mov %%ss, %0" : "=r"(tr));
	guest_assert_eq(tr, 0);
	*dev = 3;
	GUEST_TRY(vec, "mov %0, %%ss", OUT(), IN("m"(*sel)));
	guest_assert_eq(vec, 13);
	guest_assert_eq(guest_ex_error, 0);
	asm volatile("mov %0, %%ss" : : "r"(ss));
	gdt[SEL_DATA >> 3] &= ~(1ULL << 40);
	*dev = SEL_DATA;
	asm volatile("mov %0, %%ss; mov %0, %%es; mov %0, %%fs" : : "m"(*sel));
	asm volatile("mov %%fs, %0" : "=r"(tr));
	guest_assert_eq(tr, SEL_DATA);
	guest_assert(gdt[SEL_DATA >> 3] & 1ULL << 40);
	*dev = SEL_TSS(0);
	GUEST_TRY(vec, "mov %0, %%ds", OUT(), IN("m"(*sel)));
	guest_assert_eq(vec, 13);
	guest_assert_eq(guest_ex_error, SEL_TSS(0));

	/* Far to ourselves, with an offset of 32 bits; near to nowhere. */
	asm volatile("lea 1f(%%rip), %%rax; mov %%eax, (%0); movl %1, 4(%0); ljmpl *(%0); ud2; 1:"
		     :
		     : "r"(dev), "i"(GUEST_CS)
		     : "rax", "memory");
	asm volatile("lea 1f(%%rip), %%rax; mov %%rax, (%0); movl %1, 8(%0); rex.w ljmp *(%0)\n"
		     "ud2; 1:"
		     :
		     : "r"(dev), "i"(GUEST_CS)
		     : "rax", "memory");
	*dev = 0x1111111111111111;
	GUEST_TRY(vec, "jmp *%0", OUT(), IN("m"(*dev)));
	guest_assert_eq(vec, 13);

	/* MMX, with x87's stack not empty; then with an exception of it pending */
	mm = 0x0102030405060708;
	asm volatile("fninit; fld1; movq %2, %%mm3; movq %%mm3, %0; movq %%mm3, %1"
		     : "=m"(*dev), "=m"(dev[1])
		     : "m"(mm));
	guest_assert_eq(*dev, mm);
	guest_assert_eq(dev[1], mm);
	*dev = 0x8070605040302010;
	asm volatile("movq %1, %%mm5; movq %%mm5, %0; emms" : "=m"(mm) : "m"(*dev));
	guest_assert_eq(mm, 0x8070605040302010);

	/* INS to it, in one batch */
	{
		u64 dst = arg, count = 1024;

		asm volatile("cld; rep insb" : "+D"(dst), "+c"(count) : "d"(STR_PORT) : "memory");
		guest_assert_eq(dst, arg + 1024);
	}
	guest_assert_eq(dev[127], 0x9999999999999999);
	guest_done();
}

static void test_device_system(void)
{
	on_device(guest_device_system);
}

/* A store over the border of two MMIO pages comes in parts (security row 27). */
static void guest_mmio_split(u64 arg)
{
	(void)arg;
	*(volatile u64 *)(MMIO_GPA + 0xffd) = 0x8877665544332211;
	guest_assert_eq(*(volatile u64 *)(MMIO_GPA + 0xffd), 0x8877665544332211);
	guest_done();
}

static void test_mmio_split(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_mmio_split, 0);
	struct kvm_run *run = vcpu->run;
	u8 bytes[8] = { 0 };
	u32 done;

	for (done = 0; done < 16; done += run->mmio.len) {
		u64 off;

		vcpu_expect(vcpu, KVM_EXIT_MMIO);
		off = run->mmio.phys_addr - (MMIO_GPA + 0xffd);
		CHECK_EQ(run->mmio.is_write, done < 8);
		CHECK(run->mmio.len && off + run->mmio.len <= 8);
		if (done < 8)
			memcpy(bytes + off, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, bytes + off, run->mmio.len);
	}
	CHECK_EQ(*(u64 *)bytes, 0x8877665544332211);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* An access that begins in memory and ends in a device: only its rest is the device's. */
static void guest_mmio_straddle(u64 arg)
{
	(void)arg;
	*(volatile u32 *)(MMIO_GPA - 2) = 0x44332211;
	guest_assert_eq(*(volatile u32 *)(MMIO_GPA - 2), 0x44332211);
	guest_done();
}

static void test_mmio_straddle(void)
{
	struct vm *vm = vm_create_image();
	u16 *last = (u16 *)((u8 *)vm_add_mem(vm, 7, MMIO_GPA - 0x1000, 0x1000) + 0x1000) - 1;
	struct vcpu *vcpu = start_guest(vm, guest_mmio_straddle, 0);
	struct kvm_run *run = vcpu->run;

	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK(run->mmio.is_write);
	CHECK_EQ(run->mmio.phys_addr, MMIO_GPA);
	CHECK_EQ(run->mmio.len, 2);
	CHECK_EQ(*(u16 *)run->mmio.data, 0x4433);
	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(*last, 0x2211);
	CHECK(!run->mmio.is_write);
	CHECK_EQ(run->mmio.phys_addr, MMIO_GPA);
	CHECK_EQ(run->mmio.len, 2);
	*(u16 *)run->mmio.data = 0x4433;
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* String instructions between memory and MMIO. */
static void guest_mmio_string(u64 arg)
{
	u64 src = (u64)str_buf, dst = MMIO_GPA, count = 4;

	(void)arg;
	str_buf[0] = 1;
	str_buf[1] = 2;
	str_buf[2] = 3;
	str_buf[3] = 4;
	asm volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	guest_assert_eq(dst, MMIO_GPA + 4);
	src = MMIO_GPA;
	dst = (u64)str_buf + 16;
	count = 4;
	asm volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	guest_assert_eq(*(u32 *)(str_buf + 16), 0x40302010);
	dst = MMIO_GPA + 8;
	count = 3;
	asm volatile("rep stosl" : "+D"(dst), "+c"(count) : "a"(0x77) : "memory");
	src = MMIO_GPA;
	dst = MMIO_GPA + 16;
	count = 2;
	asm volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	guest_done();
}

static void test_mmio_string(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_mmio_string, 0);
	int i;

	for (i = 0; i < 4; i++)
		mmio_write(vcpu, MMIO_GPA + i, i + 1, 1);
	for (i = 0; i < 4; i++)
		mmio_read(vcpu, MMIO_GPA + i, (i + 1) << 4, 1);
	for (i = 0; i < 3; i++)
		mmio_write(vcpu, MMIO_GPA + 8 + 4 * i, 0x77, 4);
	/* What an iteration writes leaves before the next one reads, and each address is read once. */
	for (i = 0; i < 2; i++) {
		mmio_read(vcpu, MMIO_GPA + i, 0x50 + i, 1);
		mmio_write(vcpu, MMIO_GPA + 16 + i, 0x50 + i, 1);
	}
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Writes to a read-only slot are MMIO; reads come from the memory. */
static void guest_readonly(u64 arg)
{
	guest_assert_eq(*(volatile u32 *)arg, 0xcafe);
	*(volatile u32 *)arg = 0xbad;
	guest_assert_eq(*(volatile u32 *)arg, 0xcafe);
	guest_done();
}

static void test_mmio_readonly_slot(void)
{
	struct vm *vm = vm_create_image();
	u32 *mem = vm_add_mem(vm, 1, MMIO_GPA, 4096);
	struct vcpu *vcpu;

	vm_set_slot(vm, 1, MMIO_GPA, mem, 0, 0);
	vm_set_slot(vm, 1, MMIO_GPA, mem, 4096, KVM_MEM_READONLY);
	*mem = 0xcafe;
	vcpu = start_guest(vm, guest_readonly, MMIO_GPA);
	mmio_write(vcpu, MMIO_GPA, 0xbad, 4);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(*mem, 0xcafe);
}

/* HLT without an irqchip exits, RIP past it; with one it sleeps in the kernel. */
static void guest_hlt(u64 arg)
{
	(void)arg;
	cli();
	hlt();
	guest_done();
}

static void test_hlt(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_hlt, 0);

	vcpu_expect(vcpu, KVM_EXIT_HLT);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void on_usr1(int sig)
{
	(void)sig;
}

/* Send SIGUSR1 to this thread after @ms milliseconds, and then every 20 ms. */
static timer_t signal_in(int ms)
{
	struct sigaction sa = { .sa_handler = on_usr1 };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec when = {
		.it_value.tv_nsec = ms * 1000000L,
		.it_interval.tv_nsec = 20000000,
	};
	timer_t timer;

	sigaction(SIGUSR1, &sa, NULL);
	CHECK_OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	CHECK_OK(timer_settime(timer, 0, &when, NULL));
	return timer;
}

static void nmi_handler(struct guest_frame *frame)
{
	(void)frame;
}

static void test_hlt_irqchip(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_mp_state mp;
	struct vcpu *vcpu;
	timer_t timer;
	int i, got;

	vm_irqchip(vm);
	*guest_ptr(vm, guest_handlers[2]) = nmi_handler;
	vcpu = start_guest(vm, guest_hlt, 0);
	timer = signal_in(50);
	for (i = 0; i < 3; i++) {
		got = vcpu_run(vcpu);
		CHECKF(got == -EINTR, "%s", vm_exit_name(got));
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
	}
	timer_delete(timer);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_HALTED);
	CHECK_OK(ioctl(vcpu->fd, KVM_NMI, 0));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
}

/* An application processor sleeps until its SIPI, whatever was asked of it before. */
static void test_ap_sleeps(void)
{
	struct vm *vm = vm_create_image();
	struct kvm_clock_data clock = {};
	struct vcpu *vcpu;
	timer_t timer;
	int got;

	vm_irqchip(vm);
	vcpu_create(vm, 0);
	vcpu = vcpu_create(vm, 1);
	vcpu_try_set_msr(vcpu, 0xc0000103, 1); /* TSC_AUX */
	CHECK_OK(ioctl(vm->fd, KVM_SET_CLOCK, &clock));
	timer = signal_in(50);
	got = vcpu_run(vcpu);
	CHECKF(got == -EINTR, "%s", vm_exit_name(got));
	timer_delete(timer);
}

/* Triple fault: no IDT to deliver #UD, #DF (security row 17). */
PAYLOAD(triple, ".code32\n ud2\n");

static void test_shutdown(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_sregs s;
	int mode;

	vm_load_payload(vm, VM_CODE_GPA, triple);
	for (mode = MODE_REAL; mode <= MODE_COMPAT; mode++) {
		if (mode == MODE_V86)
			continue;
		vcpu_set_mode(vcpu, mode, 0, VM_CODE_GPA);
		vcpu_get_sregs(vcpu, &s);
		s.idt.base = 0;
		s.idt.limit = 0;
		vcpu_set_sregs(vcpu, &s);
		vcpu_expect(vcpu, KVM_EXIT_SHUTDOWN);
	}
}

/* A spinning guest, with interrupts off, and each way to get it out. */
static volatile u64 spin_count;

static void guest_spin(u64 arg)
{
	(void)arg;
	cli();
	for (;;)
		spin_count++;
}

static void test_intr_signal(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = start_guest(vm, guest_spin, 0);
	timer_t timer = signal_in(20);
	u64 last = 0;
	int i;

	for (i = 0; i < 5; i++) {
		int got = vcpu_run(vcpu);

		CHECKF(got == -EINTR, "%s", vm_exit_name(got));
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
	}
	CHECK(*guest_ptr(vm, spin_count) > last);
	timer_delete(timer);
}

static void test_immediate_exit(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = start_guest(vm, guest_spin, 0);
	int got;

	vcpu->run->immediate_exit = 1;
	got = vcpu_run(vcpu);
	CHECKF(got == -EINTR, "%s", vm_exit_name(got));
	CHECK_EQ(*guest_ptr(vm, spin_count), 0);
}

/* A pending IN completes under immediate_exit: the data is taken, nothing else runs. */
static void guest_in_complete(u64 arg)
{
	(void)arg;
	guest_assert_eq(inl(0x60), 0x1234);
	guest_done();
}

static void test_immediate_exit_completes(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_in_complete, 0);
	struct kvm_regs regs;

	answer_in(vcpu, 0x60, 0x1234, 4);
	vcpu_complete(vcpu);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rax, 0x1234);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

struct sigmask_arg {
	struct kvm_signal_mask head;
	u8 bits[8];
};

/* KVM_SET_SIGNAL_MASK: a signal blocked outside but not in the mask ends KVM_RUN. */
static void test_signal_mask(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_spin, 0);
	struct sigmask_arg arg = { .head.len = 8 };
	u64 one = 1ULL << (SIGUSR2 - 1);
	sigset_t set;
	int got;

	memcpy(arg.head.sigset, &one, 8);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &arg));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGUSR1, on_usr1);
	raise(SIGUSR1);
	got = vcpu_run(vcpu);
	CHECKF(got == -EINTR, "%s", vm_exit_name(got));
	sigpending(&set);
	CHECK(sigismember(&set, SIGUSR1));
	arg.head.len = 7;
	CHECK_ERR(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &arg), EINVAL);
}

static void guest_window(u64 arg)
{
	(void)arg;
	cli();
	guest_sync(1);
	sti_nop_cli();
	guest_sync(2);
	guest_done();
}

static void test_irq_window(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_window, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu->run->if_flag, 0);
	CHECK_EQ(vcpu->run->ready_for_interrupt_injection, 0);
	vcpu->run->request_interrupt_window = 1;
	vcpu_expect(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(vcpu->run->if_flag, 1);
	CHECK_EQ(vcpu->run->ready_for_interrupt_injection, 1);
	vcpu->run->request_interrupt_window = 0;
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/*
 * State that VMRUN refuses: CS with both L and D in long mode (APM vol. 2,
 * 15.5.1). Either KVM_SET_SREGS refuses it or the entry fails, cleanly.
 */
static void test_fail_entry(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = start_guest(vm, guest_hlt, 0);
	struct kvm_sregs bad, good;
	struct kvm_regs regs;
	int got;

	vcpu_get_regs(vcpu, &regs);
	vcpu_get_sregs(vcpu, &good);
	bad = good;
	bad.cs.db = 1;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &bad) < 0) {
		CHECK_EQ(errno, EINVAL);
	} else {
		got = vcpu_run(vcpu);
		CHECKF(got == KVM_EXIT_FAIL_ENTRY || got == KVM_EXIT_INTERNAL_ERROR, "%s",
		       vm_exit_name(got));
		if (got == KVM_EXIT_FAIL_ENTRY)
			CHECK(vcpu->run->fail_entry.hardware_entry_failure_reason);
	}
	/* The vCPU is not spoilt, except that QEMU's VMRUN stores a RIP of its own. */
	vcpu_set_sregs(vcpu, &good);
	vcpu_set_regs(vcpu, &regs);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* PXOR from MMIO: nobody's emulator has a reason to know it. */
extern const char undecodable_insn[];

static void guest_undecodable(u64 arg)
{
	asm volatile(".globl undecodable_insn\n"
		     "undecodable_insn: .byte 0x66, 0x0f, 0xef, 0x00	# pxor (%%rax), %%xmm0\n"
		     :
		     : "a"(arg)
		     : "memory");
	guest_done();
}

static void test_internal_error(void)
{
	static const u8 insn[] = { 0x66, 0x0f, 0xef, 0x00 };
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_undecodable, MMIO_GPA);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 2 } };
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;

	CHECK_EQ(vm_has_cap(vcpu->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE), 1);
	CHECK_ERR(ioctl(vcpu->vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	CHECK_OK(ioctl(vcpu->vm->fd, KVM_ENABLE_CAP, &cap));
	vcpu_expect(vcpu, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	vcpu_get_regs(vcpu, &regs);
	CHECK_EQ(regs.rip, (u64)undecodable_insn);
	CHECK(run->emulation_failure.ndata >= 3);
	CHECK(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	CHECK(run->emulation_failure.insn_size >= sizeof(insn));
	CHECK(!memcmp(run->emulation_failure.insn_bytes, insn, sizeof(insn)));
	/* Userspace may step over it. */
	regs.rip += sizeof(insn);
	vcpu_set_regs(vcpu, &regs);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* Execution from a hole neither hangs nor oopses (security row 19). */
/* An interrupt whose IDT lies in a hole: not an access of the instruction at RIP. */
static void guest_idt_hole(u64 arg)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) idt = { 0xfff, MMIO_GPA };

	(void)arg;
	asm volatile("lidt %0; sti" : : "m"(idt));
	outb(0x80, 1);
	for (;;)
		asm volatile("movl $1, 0x20000000" : : : "memory");
}

static void test_delivery(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), guest_idt_hole, 0);
	struct kvm_interrupt irq = { .irq = 0x30 };

	vcpu_expect_out(vcpu, 0x80, 1);
	vcpu_complete(vcpu);
	CHECK_OK(ioctl(vcpu->fd, KVM_INTERRUPT, &irq));
	vcpu_expect(vcpu, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	CHECK_EQ(vcpu->run->internal.data[0], 0x30);
}

static void test_execute_hole(void)
{
	struct vcpu *vcpu = start_guest(vm_create_image(), (void (*)(u64))MMIO_GPA, 0);
	timer_t timer = signal_in(300);
	int got = vcpu_run(vcpu);

	timer_delete(timer);
	CHECKF(got == KVM_EXIT_INTERNAL_ERROR || got == -EINTR || got == KVM_EXIT_MMIO, "%s",
	       vm_exit_name(got));
}

/* Execution from a read-only slot works; a store into it is MMIO. */
static void guest_call(u64 arg)
{
	u64 val;

	asm volatile("call *%1" : "=a"(val) : "r"(arg) : "memory");
	guest_assert_eq(val, 0x77);
	guest_done();
}

static void test_execute_readonly(void)
{
	static const u8 code[] = {
		0xc6, 0x05, 0xf9, 0, 0, 0, 0x12, /* movb $0x12, 0x100(start) */
		0xb8, 0x77, 0,	  0, 0,		 /* mov $0x77, %eax */
		0xc3,
	};
	struct vm *vm = vm_create_image();
	u8 *mem = vm_add_mem(vm, 1, MMIO_GPA, 4096);
	struct vcpu *vcpu;

	vm_set_slot(vm, 1, MMIO_GPA, mem, 0, 0);
	vm_set_slot(vm, 1, MMIO_GPA, mem, 4096, KVM_MEM_READONLY);
	memcpy(mem, code, sizeof(code));
	vcpu = start_guest(vm, guest_call, MMIO_GPA);
	mmio_write(vcpu, MMIO_GPA + 0x100, 0x12, 1);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	CHECK_EQ(mem[0x100], 0);
}

/* String I/O in real mode: 16-bit addresses, ES and an overridden segment. */
PAYLOAD(real_string, ".code16\n"
		     "mov $0x300, %dx\n cld\n"
		     "mov $0x9000, %si\n mov $4, %cx\n rep outsw\n"
		     "mov $0x2000, %ax\n mov %ax, %es\n"
		     "mov $0x10, %si\n mov $3, %cx\n rep outsb %es:(%si), %dx\n"
		     "mov $0x20, %di\n mov $2, %cx\n rep insl\n"
		     "mov %di, %ax\n out %ax, $0x12\n"
		     "hlt\n");

static void test_string_real(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_run *run = vcpu->run;
	u8 *ds = vm_hva(vm, VM_CODE_GPA + 0x9000), *es = vm_hva(vm, 0x20000), seen[14];
	u32 done = 0, i;

	for (i = 0; i < 8; i++)
		ds[i] = 0x40 + i;
	for (i = 0; i < 3; i++)
		es[0x10 + i] = 0x90 + i;
	vm_load_payload(vm, VM_CODE_GPA, real_string);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	while (done < 11) {
		vcpu_expect(vcpu, KVM_EXIT_IO);
		CHECK_EQ(run->io.size, done < 8 ? 2 : 1);
		CHECK(done + run->io.size * run->io.count <= 11);
		memcpy(seen + done, (char *)run + run->io.data_offset,
		       run->io.size * run->io.count);
		done += run->io.size * run->io.count;
	}
	CHECK(!memcmp(seen, ds, 8) && !memcmp(seen + 8, es + 0x10, 3));
	for (done = 0; done < 8; done += 4 * run->io.count) {
		vcpu_expect(vcpu, KVM_EXIT_IO);
		CHECK_EQ(run->io.size, 4);
		memset((char *)run + run->io.data_offset, 0xc3, 4 * run->io.count);
	}
	CHECK_EQ(vcpu_expect_out(vcpu, 0x12, 2), 0x28);
	CHECK_EQ(*(u64 *)(es + 0x20), 0xc3c3c3c3c3c3c3c3);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
}

/* A thread that scribbles over kvm_run during KVM_RUN (security row 31). */
static void *scribble(void *arg)
{
	struct kvm_run *run = arg;
	volatile u8 *bytes = (void *)run;
	size_t i;

	for (;;)
		for (i = 8; i < sizeof(*run); i++)
			bytes[i] = test_random();
	return NULL;
}

static void guest_io_loop(u64 arg)
{
	(void)arg;
	for (;;) {
		u64 ptr = (u64)str_buf, count = 64;

		outb(0x10, 1);
		inl(0x20);
		asm volatile("rep insb" : "+D"(ptr), "+c"(count) : "d"(STR_PORT) : "memory");
		*(volatile u32 *)MMIO_GPA = 5;
		(void)*(volatile u64 *)MMIO_GPA;
	}
}

static void test_scribble_run(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = start_guest(vm, guest_io_loop, 0);
	pthread_t thread;
	int i;

	signal_in(50);
	CHECK(!pthread_create(&thread, NULL, scribble, vcpu->run));
	for (i = 0; i < 3000; i++) {
		vcpu->run->immediate_exit = 0;
		vcpu_run(vcpu);
	}
}

static const struct ktap_test tests[] = {
	{ "ports", test_ports, 0 },
	{ "in_merge", test_in_merge, 0 },
	{ "setregs_at_exit", test_setregs_at_exit, 0 },
	{ "string_out", test_string_out, 0 },
	{ "string_in", test_string_in, 0 },
	{ "string_backwards", test_string_backwards, 60 },
	{ "string_edges", test_string_edges, 0 },
	{ "string_real", test_string_real, 0 },
	{ "mmio", test_mmio, 0 },
	{ "mmio_sse", test_mmio_sse, 0 },
	{ "mmio_insns", test_mmio_insns, 0 },
	{ "device_arith", test_device_arith, 0 },
	{ "device_stack", test_device_stack, 0 },
	{ "device_system", test_device_system, 0 },
	{ "mmio_split", test_mmio_split, 0 },
	{ "mmio_straddle", test_mmio_straddle, 0 },
	{ "mmio_string", test_mmio_string, 0 },
	{ "mmio_readonly_slot", test_mmio_readonly_slot, 0 },
	{ "hlt", test_hlt, 0 },
	{ "hlt_irqchip", test_hlt_irqchip, 0 },
	{ "ap_sleeps", test_ap_sleeps, 0 },
	{ "shutdown", test_shutdown, 0 },
	{ "intr_signal", test_intr_signal, 0 },
	{ "immediate_exit", test_immediate_exit, 0 },
	{ "immediate_exit_completes", test_immediate_exit_completes, 0 },
	{ "signal_mask", test_signal_mask, 0 },
	{ "irq_window", test_irq_window, 0 },
	{ "fail_entry", test_fail_entry, 0 },
	{ "internal_error", test_internal_error, 0 },
	{ "delivery", test_delivery, 0 },
	{ "execute_hole", test_execute_hole, 0 },
	{ "execute_readonly", test_execute_readonly, 0 },
	{ "scribble_run", test_scribble_run, 0 },
};

KTAP_MAIN(tests)
