/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The virtual machine control block, AMD64 Architecture Programmer's Manual (APM) vol. 2, appendix
 * B, as far as this module uses it: the offset of each field beside it, bit names below it.
 */
#ifndef SVM_VMCB_H
#define SVM_VMCB_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/* Segment register in the state save area (16 bytes). */
struct vmcb_seg {
	u16 selector;
	u16 attrib;	/* descriptor bits 55:52 and 47:40, packed into 12 bits */
#define SEG_TYPE_MASK	0x00f
#define SEG_S		BIT(4)
#define SEG_DPL_SHIFT	5
#define SEG_DPL_MASK	(3 << SEG_DPL_SHIFT)
#define SEG_P		BIT(7)
#define SEG_AVL		BIT(8)
#define SEG_L		BIT(9)
#define SEG_DB		BIT(10)
#define SEG_G		BIT(11)
	u32 limit;
	u64 base;
} __packed;

struct vmcb_control {
	u16 intercept_cr_read;		/* 0x000 */
	u16 intercept_cr_write;		/* 0x002 */
	u16 intercept_dr_read;		/* 0x004 */
	u16 intercept_dr_write;		/* 0x006 */
	u32 intercept_exceptions;	/* 0x008 */
	u32 intercept_misc1;		/* 0x00c */
#define INTERCEPT_INTR		BIT(0)
#define INTERCEPT_NMI		BIT(1)
#define INTERCEPT_SMI		BIT(2)
#define INTERCEPT_INIT		BIT(3)
#define INTERCEPT_VINTR		BIT(4)
#define INTERCEPT_RDPMC		BIT(15)
#define INTERCEPT_CPUID		BIT(18)
#define INTERCEPT_RSM		BIT(19)
#define INTERCEPT_IRET		BIT(20)
#define INTERCEPT_INTN		BIT(21)
#define INTERCEPT_INVD		BIT(22)
#define INTERCEPT_HLT		BIT(24)
#define INTERCEPT_INVLPGA	BIT(26)
#define INTERCEPT_IOIO		BIT(27)
#define INTERCEPT_MSR		BIT(28)
#define INTERCEPT_FERR_FREEZE	BIT(30)
#define INTERCEPT_SHUTDOWN	BIT(31)
	u32 intercept_misc2;		/* 0x010 */
#define INTERCEPT_VMRUN		BIT(0)
#define INTERCEPT_VMMCALL	BIT(1)
#define INTERCEPT_VMLOAD	BIT(2)
#define INTERCEPT_VMSAVE	BIT(3)
#define INTERCEPT_STGI		BIT(4)
#define INTERCEPT_CLGI		BIT(5)
#define INTERCEPT_SKINIT	BIT(6)
#define INTERCEPT_WBINVD	BIT(9)
#define INTERCEPT_MONITOR	BIT(10)
#define INTERCEPT_MWAIT		BIT(11)
#define INTERCEPT_XSETBV	BIT(13)
#define INTERCEPT_RDPRU		BIT(14)
	u32 intercept_misc3;		/* 0x014 */
#define INTERCEPT_INVLPGB_ALL	BIT(0)
#define INTERCEPT_INVLPGB_BAD	BIT(1)
#define INTERCEPT_MCOMMIT	BIT(3)
#define INTERCEPT_TLBSYNC	BIT(4)
	u8 reserved_018[0x040 - 0x018];
	u64 iopm_base_pa;		/* 0x040 */
	u64 msrpm_base_pa;		/* 0x048 */
	u64 tsc_offset;			/* 0x050 */
	u32 asid;			/* 0x058 */
	u8 tlb_control;			/* 0x05c */
#define TLB_CONTROL_NOTHING	0
#define TLB_CONTROL_FLUSH_ALL	1
#define TLB_CONTROL_FLUSH_ASID	3
	u8 reserved_05d[3];
	u32 int_ctl;			/* 0x060, virtual interrupt control */
#define INT_CTL_V_TPR_MASK	0x0f
#define INT_CTL_V_IRQ		BIT(8)
#define INT_CTL_V_INTR_PRIO_MASK (0xf << 16)
#define INT_CTL_V_IGN_TPR	BIT(20)
#define INT_CTL_V_INTR_MASKING	BIT(24)
	u32 int_vector;			/* 0x064 */
	u32 int_state;			/* 0x068 */
#define INT_STATE_SHADOW	BIT(0)
	u32 reserved_06c;
	u64 exit_code;			/* 0x070 */
	u64 exit_info_1;		/* 0x078 */
	u64 exit_info_2;		/* 0x080 */
	u32 exit_int_info;		/* 0x088 */
	u32 exit_int_info_err;		/* 0x08c */
	u64 nested_ctl;			/* 0x090 */
#define NESTED_CTL_NP_ENABLE	BIT(0)
	u8 reserved_098[0x0a8 - 0x098];
	u32 event_inj;			/* 0x0a8 */
	u32 event_inj_err;		/* 0x0ac */
/* Format shared by EVENTINJ and EXITINTINFO (APM vol. 2, 15.20) */
#define EVENT_VECTOR_MASK	0xff
#define EVENTINJ_TYPE_MASK		(7 << 8)
#define EVENTINJ_TYPE_INTR		(0 << 8)
#define EVENTINJ_TYPE_NMI		(2 << 8)
#define EVENTINJ_TYPE_EXCEPTION	(3 << 8)
#define EVENTINJ_TYPE_SOFT		(4 << 8)
#define EVENT_ERROR_VALID	BIT(11)
#define EVENT_VALID		BIT(31)
	u64 nested_cr3;			/* 0x0b0 */
	u64 reserved_0b8;
	/* 0x0c0, set bit: field group unchanged since the last VMRUN */
	u32 clean;
#define CLEAN_INTERCEPTS	BIT(0)	/* intercepts, TSC offset, pause filter */
#define CLEAN_PERM_MAPS		BIT(1)	/* IOPM, MSRPM */
#define CLEAN_ASID		BIT(2)
#define CLEAN_TPR		BIT(3)	/* int_ctl, int_vector */
#define CLEAN_NP		BIT(4)	/* nested paging: nCR3, PAT */
#define CLEAN_CR		BIT(5)	/* CR0, CR3, CR4, EFER */
#define CLEAN_DR		BIT(6)	/* DR6, DR7 */
#define CLEAN_SEG		BIT(8)	/* CS, DS, SS, ES, CPL */
#define CLEAN_CR2		BIT(9)
#define CLEAN_ALL		0xfff
	u32 reserved_0c4;
	u64 next_rip;			/* 0x0c8 */
	u8 insn_len;			/* 0x0d0, DecodeAssists */
	u8 insn_bytes[15];		/* 0x0d1 */
	u8 reserved_0e0[0x400 - 0x0e0];
} __packed;

struct vmcb_save {
	struct vmcb_seg es;		/* 0x000 */
	struct vmcb_seg cs;		/* 0x010 */
	struct vmcb_seg ss;		/* 0x020 */
	struct vmcb_seg ds;		/* 0x030 */
	struct vmcb_seg fs;		/* 0x040 */
	struct vmcb_seg gs;		/* 0x050 */
	struct vmcb_seg gdtr;		/* 0x060 */
	struct vmcb_seg ldtr;		/* 0x070 */
	struct vmcb_seg idtr;		/* 0x080 */
	struct vmcb_seg tr;		/* 0x090 */
	u8 reserved_0a0[0x0cb - 0x0a0];
	u8 cpl;				/* 0x0cb */
	u32 reserved_0cc;
	u64 efer;			/* 0x0d0 */
	u8 reserved_0d8[0x148 - 0x0d8];
	u64 cr4;			/* 0x148 */
	u64 cr3;			/* 0x150 */
	u64 cr0;			/* 0x158 */
	u64 dr7;			/* 0x160 */
	u64 dr6;			/* 0x168 */
	u64 rflags;			/* 0x170 */
	u64 rip;			/* 0x178 */
	u8 reserved_180[0x1d8 - 0x180];
	u64 rsp;			/* 0x1d8 */
	u8 reserved_1e0[0x1f8 - 0x1e0];
	u64 rax;			/* 0x1f8 */
	u64 star;			/* 0x200 */
	u64 lstar;			/* 0x208 */
	u64 cstar;			/* 0x210 */
	u64 sfmask;			/* 0x218 */
	u64 kernel_gs_base;		/* 0x220 */
	u64 sysenter_cs;		/* 0x228 */
	u64 sysenter_esp;		/* 0x230 */
	u64 sysenter_eip;		/* 0x238 */
	u64 cr2;			/* 0x240 */
	u8 reserved_248[0x268 - 0x248];
	u64 g_pat;			/* 0x268 */
	u8 reserved_270[0x2e0 - 0x270];
	u64 spec_ctrl;			/* 0x2e0 */
	u8 reserved_2e8[0xc00 - 0x2e8];
} __packed;

struct vmcb {
	struct vmcb_control control;	/* 0x000 */
	struct vmcb_save save;		/* 0x400 */
} __packed __aligned(4096);

/* One field behind each gap: a wrong size before it would move it. */
static_assert(sizeof(struct vmcb_seg) == 16);
static_assert(sizeof(struct vmcb_control) == 0x400);
static_assert(sizeof(struct vmcb) == 0x1000);
static_assert(offsetof(struct vmcb_control, iopm_base_pa) == 0x040);
static_assert(offsetof(struct vmcb_control, int_ctl) == 0x060);
static_assert(offsetof(struct vmcb_control, event_inj) == 0x0a8);
static_assert(offsetof(struct vmcb_control, clean) == 0x0c0);
static_assert(offsetof(struct vmcb_control, insn_bytes) == 0x0d1);
static_assert(offsetof(struct vmcb_save, cpl) == 0x0cb);
static_assert(offsetof(struct vmcb_save, cr4) == 0x148);
static_assert(offsetof(struct vmcb_save, rsp) == 0x1d8);
static_assert(offsetof(struct vmcb_save, rax) == 0x1f8);
static_assert(offsetof(struct vmcb_save, g_pat) == 0x268);
static_assert(offsetof(struct vmcb_save, spec_ctrl) == 0x2e0);

/* #VMEXIT codes, APM vol. 2, appendix C. */
#define VMEXIT_CR_WRITE(n)	(0x010 + (n))
#define VMEXIT_DR_READ(n)	(0x020 + (n))
#define VMEXIT_DR_WRITE(n)	(0x030 + (n))
#define VMEXIT_EXCP(n)		(0x040 + (n))
#define VMEXIT_INTR		0x060
#define VMEXIT_NMI		0x061
#define VMEXIT_SMI		0x062
#define VMEXIT_INIT		0x063
#define VMEXIT_VINTR		0x064
#define VMEXIT_RDPMC		0x06f
#define VMEXIT_CPUID		0x072
#define VMEXIT_RSM		0x073
#define VMEXIT_IRET		0x074
#define VMEXIT_SWINT		0x075
#define VMEXIT_INVD		0x076
#define VMEXIT_HLT		0x078
#define VMEXIT_INVLPGA		0x07a
#define VMEXIT_IOIO		0x07b
#define VMEXIT_MSR		0x07c
#define VMEXIT_FERR_FREEZE	0x07e
#define VMEXIT_SHUTDOWN		0x07f
#define VMEXIT_VMRUN		0x080
#define VMEXIT_VMMCALL		0x081
#define VMEXIT_VMLOAD		0x082
#define VMEXIT_SKINIT		0x086	/* between them: VMSAVE, STGI, CLGI */
#define VMEXIT_WBINVD		0x089
#define VMEXIT_MONITOR		0x08a
#define VMEXIT_MWAIT		0x08b
#define VMEXIT_MWAIT_ARMED	0x08c
#define VMEXIT_XSETBV		0x08d
#define VMEXIT_RDPRU		0x08e
#define VMEXIT_INVLPGB		0x0a0
#define VMEXIT_TLBSYNC		0x0a4	/* between them: INVLPGB's error, INVPCID, MCOMMIT */
#define VMEXIT_NPF		0x400
/* -1; hypervisors below us store 32 or 64 bits of it, so the codes are compared as 32 bits. */
#define VMEXIT_INVALID		0xffffffffu

/* EXITINFO1 of VMEXIT_IOIO (APM vol. 2, 15.10.2) */
#define IOIO_IN			BIT(0)
#define IOIO_STR		BIT(2)
#define IOIO_SIZE_SHIFT		4
#define IOIO_PORT_SHIFT		16

#endif
