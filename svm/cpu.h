/* SPDX-License-Identifier: GPL-2.0 */
/* Per-CPU state and what the hardware offers; private to svm/. */
#ifndef SVM_CPU_H
#define SVM_CPU_H

#include <linux/percpu.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>

#include "svm/svm.h"

/* CPUID 0x8000000A EDX (APM vol. 3, E.4.9). The names of X86_FEATURE_* differ between kernels. */
#define SVMF_NPT		BIT(0)
#define SVMF_NRIPS		BIT(3)
#define SVMF_CLEAN		BIT(5)
#define SVMF_FLUSH_ASID		BIT(6)
#define SVMF_DECODE		BIT(7)
#define SVMF_V_SPEC_CTRL	BIT(20)

/* What this module uses of the hardware; set at load, then constant. */
struct svm_caps {
	u32 nr_asids;
	bool nrips;
	bool decode;
	bool clean;
	bool flush_asid;
	bool v_spec_ctrl;
	bool spec_ctrl;		/* SPEC_CTRL must be switched by the world switch */
	u8 spec_ctrl_bits;	/* those that the CPU has: others are #GP in the world switch */
	bool snp_host;
	bool nested;		/* this host is itself a guest */
	u64 xcr0;		/* XSAVE components that guests can have; 0: no XSAVE */
	u32 xsave_size;		/* bytes of the standard format for xcr0, 512 without XSAVE */
	u64 host_xcr0;		/* what the host runs with */
	u64 host_xss;
	u8 phys_bits;
};
extern struct svm_caps svm_caps __ro_after_init;

/* What a processor's SPEC_CTRL has, by EBX of CPUID 0x80000008: IBRS, STIBP; SSBD; PSFD. */
static inline u8 spec_ctrl_bits(u32 ebx)
{
	return ((ebx >> 14) & 3) | ((ebx >> 22) & 4) | ((ebx >> 21) & 0x80);
}

struct svm_cpu {
	bool enabled;			/* SVME is ours on this CPU */
	unsigned long pages;		/* two: host_vmcb, hsave */
	u64 hsave_pa;			/* VM_HSAVE_PA */
	u64 host_vmcb_pa;		/* VMSAVE keeps the host's FS, GS, TR, LDTR, syscall MSRs */
	u64 asid_generation;		/* never goes back, not even over CPU hotplug */
	u32 next_asid;
	bool flush_all;			/* the generation is new: no VMRUN has flushed yet */
	u64 host_dr[4];			/* while the guest's are loaded; no zeroing as on the stack */
	struct vcpu *last_vcpu;		/* for the IBPB; compared, never dereferenced */
};
DECLARE_PER_CPU(struct svm_cpu, svm_cpu);

/* An exception (SVME cleared by a crash or reboot) is ignored here and met again at VMRUN. */
#define SVM_INSN(insn, ...)	\
	({ asm volatile("1: " insn "\n2:\n" _ASM_EXTABLE(1b, 2b) :: __VA_ARGS__ : "memory"); })
#define clgi()			SVM_INSN("clgi")
#define stgi()			SVM_INSN("stgi")
#define vmsave(pa)		SVM_INSN("vmsave %%rax", "a"((u64)(pa)))

int svm_enter(struct vcpu *v, u64 vmcb_pa, u64 host_vmcb_pa, u64 guest_spec, u64 host_spec);

/* asid.c */
void asid_prepare(struct vcpu *v, struct svm_cpu *sc);
void asid_flush(struct vcpu *v, struct svm_cpu *sc);

#endif
