// SPDX-License-Identifier: GPL-2.0
/*
 * Every CPU mode and privilege level, entered from KVM_SET_SREGS and walked
 * through by a guest itself.
 */
#include "vm.h"

/*
 * One text for all modes: the operand sizes differ, the meaning doesn't.
 * Ports: 0x10 a word of CS, 0x12 a dword, 0x14 a byte read from memory.
 */
#define MODE_CODE(bits, moffset, stack) \
	".code" #bits "\n" \
	"mov %cs, %ax\n" \
	"out %ax, $0x10\n" \
	"mov $0x12345678, %eax\n" \
	"out %eax, $0x12\n" \
	"movb $0x5a, " moffset "\n" \
	"mov " moffset ", %al\n" \
	"out %al, $0x14\n" \
	"push " stack "\n" \
	"pop " stack "\n" \
	"mov $20, %ecx\n" \
	"xor %eax, %eax\n" \
	"1: add %ecx, %eax\n" \
	"dec %ecx\n" \
	"jnz 1b\n" \
	"out %eax, $0x12\n" \
	"in $0x16, %ax\n" \
	"out %ax, $0x16\n" \
	"2: out %al, $0x18\n" \
	"hlt\n" \
	"jmp 2b\n"

PAYLOAD(code16, MODE_CODE(16, "0x8000", "%ax"));
PAYLOAD(code32, MODE_CODE(32, "0x18000", "%eax"));
PAYLOAD(code64, MODE_CODE(64, "0x18000", "%rax"));
PAYLOAD_EXTERN(walk);

static void load_code(struct vm *vm, enum vm_mode mode)
{
	if (mode <= MODE_PM16)
		vm_load_payload(vm, VM_CODE_GPA, code16);
	else if (mode == MODE_LONG)
		vm_load_payload(vm, VM_CODE_GPA, code64);
	else
		vm_load_payload(vm, VM_CODE_GPA, code32);
}

static void run_mode(enum vm_mode mode, int cpl)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_sregs sregs;
	u64 cs;

	load_code(vm, mode);
	vcpu_set_mode(vcpu, mode, cpl, VM_CODE_GPA);
	cs = vcpu_expect_out(vcpu, 0x10, 2);
	if (mode == MODE_REAL || mode == MODE_V86)
		CHECK_EQ(cs, VM_CODE_GPA >> 4);
	else
		CHECK_EQ(cs & 3, cpl);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x12, 4), 0x12345678);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x14, 1), 0x5a);
	CHECK_EQ(*(u8 *)vm_hva(vm, 0x18000), 0x5a);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x12, 4), 210);
	vcpu_expect(vcpu, KVM_EXIT_IO);
	CHECK(vcpu->run->io.direction == KVM_EXIT_IO_IN && vcpu->run->io.port == 0x16);
	*(u16 *)((char *)vcpu->run + vcpu->run->io.data_offset) = 0xbeef;
	CHECK_EQ(vcpu_expect_out(vcpu, 0x16, 2), 0xbeef);
	vcpu_expect_out(vcpu, 0x18, 1);
	vcpu_get_sregs(vcpu, &sregs);
	CHECK_EQ(sregs.ss.dpl, mode == MODE_V86 ? 3 : cpl);
	CHECK_EQ(!!(sregs.efer & 0x400), mode == MODE_LONG || mode == MODE_COMPAT);
	if (!cpl && mode != MODE_V86)
		vcpu_expect(vcpu, KVM_EXIT_HLT);
	vm_destroy(vm);
}

static void mode_cpls(enum vm_mode mode)
{
	int cpl;

	for (cpl = 0; cpl < 4; cpl++)
		run_mode(mode, cpl);
}

static void test_real(void)
{
	run_mode(MODE_REAL, 0);
}

static void test_v86(void)
{
	run_mode(MODE_V86, 3);
}

static void test_pm16(void)
{
	mode_cpls(MODE_PM16);
}

static void test_pm32(void)
{
	mode_cpls(MODE_PM32);
}

static void test_pm32_paging(void)
{
	mode_cpls(MODE_PM32_PAGING);
}

static void test_pae(void)
{
	mode_cpls(MODE_PAE);
}

static void test_long(void)
{
	mode_cpls(MODE_LONG);
}

static void test_compat(void)
{
	mode_cpls(MODE_COMPAT);
}

static void test_walk(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_sregs sregs;
	unsigned int stage;

	vm_load_payload(vm, VM_CODE_GPA, walk);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	for (stage = 1; stage <= 11; stage++) {
		CHECK_EQ(vcpu_expect_out(vcpu, 0x10, 1), stage);
		vcpu_get_sregs(vcpu, &sregs);
		CHECK_EQ(sregs.cr0 & 1, stage > 1 && stage < 11);
		CHECK_EQ(sregs.cr0 >> 31, stage >= 4 && stage <= 8);
		CHECK_EQ(sregs.efer >> 10 & 1, stage >= 6 && stage <= 8);
		CHECK_EQ(sregs.cs.l, stage == 7);
	}
	vcpu_expect(vcpu, KVM_EXIT_HLT);
	CHECK_EQ(*(u64 *)vm_hva(vm, 0x18000), 0x9abcdef012345678);
	CHECK_EQ(*(u32 *)vm_hva(vm, 0x18008) & 0x500, 0x500);
	CHECK_EQ(*(u32 *)vm_hva(vm, 0x1800c) & 0x500, 0x100);
	vm_destroy(vm);
}

/* The state after creation is the architectural reset state (APM vol. 2, 14.1.3). */
PAYLOAD(reset_code, ".code16\n mov $0x77, %al\n out %al, $0x10\n hlt\n");

static void test_reset_state(void)
{
	struct vm *vm = vm_create();
	char *rom = vm_add_mem(vm, 0, 0xfffff000, 4096);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_regs regs;
	struct kvm_sregs s;

	vcpu_get_regs(vcpu, &regs);
	vcpu_get_sregs(vcpu, &s);
	CHECK_EQ(regs.rip, 0xfff0);
	CHECK_EQ(regs.rflags, 2);
	CHECK_EQ(s.cr0, 0x60000010);
	CHECK_EQ(s.cs.selector, 0xf000);
	CHECK_EQ(s.cs.base, 0xffff0000);
	CHECK_EQ(s.cs.limit, 0xffff);
	CHECK_EQ(s.ds.limit, 0xffff);
	CHECK_EQ(s.idt.limit, 0xffff);
	CHECK_EQ(s.efer, 0);
	CHECK_EQ(s.apic_base, 0xfee00900);
	memcpy(rom + 0xff0, reset_code_start, reset_code_end - reset_code_start);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x10, 1), 0x77);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
	vm_destroy(vm);
}

/* A 16-bit real-mode address wraps or reaches past 1 MiB as FFFF:FFFF does. */
PAYLOAD(unreal, ".code16\n"
		"mov $0xffff, %ax\n mov %ax, %ds\n movb $0x42, 0x10\n"
		"mov $0x1000, %ax\n mov %ax, %ds\n hlt\n");

static void test_real_hma(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);

	vm_load_payload(vm, VM_CODE_GPA, unreal);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
	CHECK_EQ(*(u8 *)vm_hva(vm, 0x100000), 0x42);
	vm_destroy(vm);
}

/* Real-mode interrupts go through the vector table at 0. */
PAYLOAD(real_int, ".code16\n"
		  "int $0x21\n mov %al, %bl\n out %al, $0x10\n hlt\n"
		  ".skip 0x100 - (. - real_int_start)\n mov $0x99, %al\n iret\n");

static void test_real_int(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u16 *ivt = vm_hva(vm, 0);

	ivt[0x21 * 2] = 0x100;
	ivt[0x21 * 2 + 1] = VM_CODE_GPA >> 4;
	vm_load_payload(vm, VM_CODE_GPA, real_int);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x10, 1), 0x99);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
	vm_destroy(vm);
}

static const struct ktap_test tests[] = {
	{ "reset_state", test_reset_state, 0 },
	{ "real", test_real, 0 },
	{ "v86", test_v86, 0 },
	{ "pm16", test_pm16, 0 },
	{ "pm32", test_pm32, 0 },
	{ "pm32_paging", test_pm32_paging, 0 },
	{ "pae", test_pae, 0 },
	{ "long", test_long, 0 },
	{ "compat", test_compat, 0 },
	{ "walk_all_modes", test_walk, 0 },
	{ "real_hma", test_real_hma, 0 },
	{ "real_int", test_real_int, 0 },
};

KTAP_MAIN(tests)
