// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptor and page tables of the test guests, and entry in each CPU mode.
 */
#include <string.h>

#include "guest.h"
#include "vm.h"

#define CR0_PE	       (1ULL << 0)
#define CR0_MP	       (1ULL << 1)
#define CR0_ET	       (1ULL << 4)
#define CR0_NE	       (1ULL << 5)
#define CR0_WP	       (1ULL << 16)
#define CR0_PG	       (1ULL << 31)
#define CR4_PSE	       (1ULL << 4)
#define CR4_PAE	       (1ULL << 5)
#define CR4_OSFXSR     (1ULL << 9)
#define CR4_OSXMMEXCPT (1ULL << 10)
#define EFER_SCE       (1ULL << 0)
#define EFER_LME       (1ULL << 8)
#define EFER_LMA       (1ULL << 10)
#define EFER_NXE       (1ULL << 11)
#define RFLAGS_FIXED   (1ULL << 1)
#define RFLAGS_IOPL3   (3ULL << 12)
#define RFLAGS_VM      (1ULL << 17)

#define PTE_P  1ULL
#define PTE_W  2ULL
#define PTE_U  4ULL
#define PTE_PS 0x80ULL

#define TSS_SIZE   104
#define TSS_STRIDE 0x80
#define TSS_BUSY64 11
/* Busy is what hardware has here; QEMU's I/O bitmap check knows only this type. */
#define TSS_AVAILABLE32 9

const char *const vm_mode_name[] = {
	[MODE_REAL] = "real",
	[MODE_V86] = "v86",
	[MODE_PM16] = "pm16",
	[MODE_PM32] = "pm32",
	[MODE_PM32_PAGING] = "pm32-paging",
	[MODE_PAE] = "pae",
	[MODE_LONG] = "long",
	[MODE_COMPAT] = "compat",
};

/* Segment descriptor from base, limit, access byte and flags nibble (APM vol. 2, 4.7). */
static u64 descriptor(u32 base, u32 limit, u8 access, u8 flags)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
	       (u64)(limit >> 16 & 0xf) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

static void write_gdt(struct vm *vm)
{
	u64 *gdt = vm_hva(vm, VM_GDT_GPA);
	int i;

	gdt[SEL_CODE64 / 8] = descriptor(0, 0xfffff, 0x9b, 0xa);
	gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, 0x93, 0xc);
	gdt[SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0x9b, 0xc);
	gdt[SEL_CODE16 / 8] = descriptor(VM_CODE_GPA, 0xffff, 0x9b, 0);
	gdt[SEL_DATA16 / 8] = descriptor(VM_CODE_GPA, 0xffff, 0x93, 0);
	gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, 0xf3, 0xc);
	gdt[SEL_UCODE64 / 8] = descriptor(0, 0xfffff, 0xfb, 0xa);
	gdt[SEL_UCODE32 / 8] = descriptor(0, 0xfffff, 0xfb, 0xc);
	gdt[SEL_UCODE16 / 8] = descriptor(VM_CODE_GPA, 0xffff, 0xfb, 0);
	gdt[SEL_UDATA16 / 8] = descriptor(VM_CODE_GPA, 0xffff, 0xf3, 0);
	for (i = 0; i < VM_MAX_VCPUS; i++) {
		u64 base = VM_TSS_GPA + i * TSS_STRIDE;
		u64 stack = VM_STACK_GPA + i * 0x10000 + 0x8000;
		char *tss = vm_hva(vm, base);

		gdt[SEL_TSS(i) / 8] = descriptor(base, TSS_SIZE - 1, 0x8b, 0);
		gdt[SEL_TSS(i) / 8 + 1] = 0;
		memcpy(tss + 4, &stack, 8);	/* RSP0 */
		*(u16 *)(tss + 102) = TSS_SIZE; /* no I/O bitmap */
	}
	*(u16 *)((char *)vm_hva(vm, VM_V86_TSS_GPA) + 102) = TSS_SIZE;
}

static void write_page_tables(struct vm *vm)
{
	u64 *pml4 = vm_hva(vm, VM_PT_GPA);
	u64 *pdpt = vm_hva(vm, VM_PT_GPA + 0x1000);
	u64 *pd = vm_hva(vm, VM_PT_GPA + 0x2000);
	u64 *pae = vm_hva(vm, VM_PAE_GPA);
	u32 *pd32 = vm_hva(vm, VM_PD32_GPA);
	u64 i;

	pml4[0] = (VM_PT_GPA + 0x1000) | PTE_P | PTE_W | PTE_U;
	for (i = 0; i < 4; i++) {
		u64 dir = VM_PT_GPA + 0x2000 + i * 0x1000;

		pdpt[i] = dir | PTE_P | PTE_W | PTE_U;
		pae[i] = dir | PTE_P;
	}
	for (i = 0; i < 4 * 512; i++)
		pd[i] = i << 21 | PTE_P | PTE_W | PTE_U | PTE_PS;
	for (i = 0; i < 1024; i++)
		pd32[i] = i << 22 | PTE_P | PTE_W | PTE_U | PTE_PS;
}

/* 64-bit interrupt gates to the stubs of guest.c; vectors 3 and 4 open to CPL 3. */
static void write_idt(struct vm *vm)
{
	u64 *idt = vm_hva(vm, VM_IDT_GPA);
	int i;

	for (i = 0; i < 256; i++) {
		u64 stub = (uintptr_t)guest_idt_stubs + 16 * i;
		u64 access = i == 3 || i == 4 || i >= 0x80 ? 0xee : 0x8e;

		idt[2 * i] = (stub & 0xffff) | SEL_CODE64 << 16 | access << 40 |
			     (stub >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = stub >> 32;
	}
}

void vm_write_tables(struct vm *vm)
{
	write_gdt(vm);
	write_page_tables(vm);
	write_idt(vm);
}

static struct kvm_segment segment(u16 sel, u64 base, u32 limit, int type, int dpl)
{
	return (struct kvm_segment){
		.selector = sel,
		.base = base,
		.limit = limit,
		.type = type,
		.present = 1,
		.dpl = dpl,
		.s = 1,
	};
}

static void set_data(struct kvm_sregs *s, struct kvm_segment seg)
{
	s->ds = seg;
	s->es = seg;
	s->fs = seg;
	s->gs = seg;
	s->ss = seg;
}

/* Real mode and V86: segment n has base 16n and limit 64 KiB. */
static void set_paragraph_segments(struct kvm_sregs *s, int type_code, int dpl)
{
	u16 sel = VM_CODE_GPA >> 4;

	s->cs = segment(sel, VM_CODE_GPA, 0xffff, type_code, dpl);
	set_data(s, segment(sel, VM_CODE_GPA, 0xffff, 3, dpl));
}

static void set_pm16_segments(struct kvm_sregs *s, int cpl)
{
	u16 code = cpl ? (SEL_UCODE16 & ~3) | cpl : SEL_CODE16;
	u16 data = cpl ? (SEL_UDATA16 & ~3) | cpl : SEL_DATA16;

	s->cs = segment(code, VM_CODE_GPA, 0xffff, 11, cpl);
	set_data(s, segment(data, VM_CODE_GPA, 0xffff, 3, cpl));
}

static void set_flat_segments(struct kvm_sregs *s, int cpl, bool l)
{
	u16 ring0 = l ? SEL_CODE64 : SEL_CODE32;
	u16 ring3 = l ? SEL_UCODE64 : SEL_UCODE32;
	u16 data = cpl ? (SEL_UDATA & ~3) | cpl : SEL_DATA;

	s->cs = segment(cpl ? (ring3 & ~3) | cpl : ring0, 0, ~0U, 11, cpl);
	s->cs.g = 1;
	s->cs.l = l;
	s->cs.db = !l;
	set_data(s, segment(data, 0, ~0U, 3, cpl));
	s->ds.g = s->es.g = s->fs.g = s->gs.g = s->ss.g = 1;
	s->ds.db = s->es.db = s->fs.db = s->gs.db = s->ss.db = 1;
}

static void set_tables(struct kvm_sregs *s, u32 id)
{
	s->gdt.base = VM_GDT_GPA;
	s->gdt.limit = SEL_TSS(VM_MAX_VCPUS) - 1;
	s->tr = (struct kvm_segment){
		.selector = SEL_TSS(id),
		.base = VM_TSS_GPA + id * TSS_STRIDE,
		.limit = TSS_SIZE - 1,
		.type = TSS_BUSY64,
		.present = 1,
	};
	s->ldt = (struct kvm_segment){ .unusable = 1, .type = 2 };
}

static void set_paging(struct kvm_sregs *s, enum vm_mode mode)
{
	s->cr0 |= CR0_PG | CR0_WP;
	switch (mode) {
	case MODE_PM32_PAGING:
		s->cr3 = VM_PD32_GPA;
		s->cr4 |= CR4_PSE;
		break;
	case MODE_PAE:
		s->cr3 = VM_PAE_GPA;
		s->cr4 |= CR4_PAE;
		break;
	default:
		s->cr3 = VM_PT_GPA;
		s->cr4 |= CR4_PAE;
		s->efer |= EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
		break;
	}
}

void vcpu_set_mode(struct vcpu *vcpu, enum vm_mode mode, int cpl, u64 rip)
{
	struct kvm_regs regs = { .rflags = RFLAGS_FIXED | (cpl ? RFLAGS_IOPL3 : 0) };
	struct kvm_sregs s;

	vcpu_get_sregs(vcpu, &s);
	s.cr0 = CR0_ET | CR0_NE | CR0_MP | (mode == MODE_REAL ? 0 : CR0_PE);
	s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = 0;
	s.cr3 = 0;
	set_tables(&s, vcpu->id);
	regs.rip = rip;
	regs.rsp = VM_STACK_GPA + vcpu->id * 0x10000 + 0xff00;
	if (mode >= MODE_PM32_PAGING)
		set_paging(&s, mode);
	switch (mode) {
	case MODE_REAL:
		set_paragraph_segments(&s, 11, 0);
		s.idt.base = 0;
		s.idt.limit = 0x3ff;
		break;
	case MODE_V86:
		set_paragraph_segments(&s, 3, 3);
		s.tr.base = VM_V86_TSS_GPA;
		s.tr.limit = TSS_SIZE + 0x2000;
		s.tr.type = TSS_AVAILABLE32;
		regs.rflags |= RFLAGS_VM | RFLAGS_IOPL3;
		break;
	case MODE_PM16:
		set_pm16_segments(&s, cpl);
		break;
	default:
		set_flat_segments(&s, cpl, mode == MODE_LONG);
		break;
	}
	if (mode <= MODE_PM16) {
		regs.rip = rip - VM_CODE_GPA;
		regs.rsp = 0xf000;
	}
	vcpu_set_sregs(vcpu, &s);
	vcpu_set_regs(vcpu, &regs);
}

void vcpu_set_guest(struct vcpu *vcpu, void (*fn)(u64 arg), u64 arg)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_set_mode(vcpu, MODE_LONG, 0, (uintptr_t)fn);
	vcpu_get_sregs(vcpu, &sregs);
	sregs.idt.base = VM_IDT_GPA;
	sregs.idt.limit = 0xfff;
	vcpu_set_sregs(vcpu, &sregs);
	vcpu_get_regs(vcpu, &regs);
	regs.rdi = arg;
	regs.rsp -= 8; /* as after a call */
	vcpu_set_regs(vcpu, &regs);
}
