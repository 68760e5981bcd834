// SPDX-License-Identifier: GPL-2.0
/*
 * The values of MSRs: what a guest may read and write, and what userspace may. One that is unknown
 * here is #GP; svm/msr.c has the intercept.
 */
#include <linux/err.h>
#include <linux/nospec.h>
#include <asm/msr-index.h>

#include "guest/guest.h"
#include "svm/cpu.h"

#define MISC_ENABLE_NO_PMU	(BIT_ULL(11) | BIT_ULL(12))	/* no BTS, no PEBS */
#define MTRR_CAP		(8 | BIT(8) | BIT(10))	/* 8 variable ranges, fixed ranges, WC */
#define MTRR_TYPES		(BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6))
#define PAT_TYPES		(MTRR_TYPES | BIT(7))
#define PAT_RESET		0x0007040600070406ull
#define HWCR_KEPT		(BIT_ULL(18) | BIT_ULL(24))
/* Cache and TLB work-arounds, which have no effect on a guest; Linux sets them. */
#define HWCR_IGNORED		(BIT_ULL(3) | BIT_ULL(6) | BIT_ULL(8))
#define EFER_WRITABLE		(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX | EFER_FFXSR)

/** msr_init() - values after RESET# (APM vol. 2, 14.1.3), of those that are not 0 then. */
void msr_init(struct vcpu *v)
{
	v->misc_enable = MISC_ENABLE_NO_PMU;
	v->vmcb->save.g_pat = PAT_RESET;
	v->patch_level = 0x01000065;
	guest_get_feature_msr(MSR_IA32_ARCH_CAPABILITIES, &v->arch_capabilities);
	v->poll_control = 1;
	v->mcg_cap = 32;
	v->platform_info = MSR_PLATFORM_INFO_CPUID_FAULT;
}

/* --- lists for userspace --- */

static const u32 msr_list[] = {
	MSR_IA32_TSC, MSR_IA32_APICBASE, MSR_IA32_TSC_ADJUST,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
	MSR_IA32_CR_PAT, MSR_IA32_TSC_DEADLINE, MSR_IA32_MISC_ENABLE, MSR_IA32_SPEC_CTRL,
	MSR_IA32_MCG_CAP, MSR_IA32_MCG_STATUS, MSR_IA32_MCG_CTL,
	MSR_MTRRdefType, MSR_IA32_ARCH_CAPABILITIES, MSR_IA32_PERF_CAPABILITIES,
	MSR_PLATFORM_INFO, MSR_MISC_FEATURES_ENABLES,
	MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
	MSR_K7_HWCR, MSR_VM_HSAVE_PA, MSR_AMD64_PATCH_LEVEL, MSR_AMD64_DE_CFG,
	MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW,
	MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN, MSR_KVM_POLL_CONTROL,
};

static const u32 feature_msr_list[] = {
	MSR_AMD64_DE_CFG, MSR_AMD64_PATCH_LEVEL, MSR_IA32_ARCH_CAPABILITIES,
	MSR_IA32_PERF_CAPABILITIES,
};

/** guest_msr_list() - KVM_GET_MSR_INDEX_LIST or, of @features, KVM_GET_MSR_FEATURE_INDEX_LIST. */
const u32 *guest_msr_list(bool features, unsigned int *nr)
{
	*nr = features ? ARRAY_SIZE(feature_msr_list) : ARRAY_SIZE(msr_list);
	return features ? feature_msr_list : msr_list;
}

#define DE_CFG_LFENCE_SERIALIZE	BIT_ULL(1)

/** guest_get_feature_msr() - KVM_GET_MSRS on the system fd. 0 or -EINVAL. */
int guest_get_feature_msr(u32 index, u64 *data)
{
	switch (index) {
	case MSR_AMD64_DE_CFG:
		*data = boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ? DE_CFG_LFENCE_SERIALIZE : 0;
		return 0;
	case MSR_AMD64_PATCH_LEVEL:
		*data = boot_cpu_data.microcode;
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		*data = (boot_cpu_has_bug(X86_BUG_CPU_MELTDOWN) ? 0 : ARCH_CAP_RDCL_NO) |
			(boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS) ? 0 : ARCH_CAP_SSB_NO) |
			(boot_cpu_has_bug(X86_BUG_MDS) ? 0 : ARCH_CAP_MDS_NO) |
			(boot_cpu_has_bug(X86_BUG_TAA) ? 0 : ARCH_CAP_TAA_NO);
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:	/* no PMU */
		*data = 0;
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- validity --- */

/* Are the lowest @nr bytes memory types of the set @types? */
static bool types_valid(u64 data, unsigned int nr, u32 types)
{
	for (; nr; nr--, data >>= 8)
		if ((data & 0xff) > 7 || !(types & BIT(data & 7)))
			return false;
	return true;
}

/* Userspace may also set LMA. */
static int set_efer(struct vcpu *v, u64 efer, bool host)
{
	struct vmcb_save *s = &v->vmcb->save;

	if (efer & ~(host ? (u64)EFER_WRITABLE : v->efer_allowed))
		return -EINVAL;
	if (!host) {
		/* LME can't change while paging is on (APM vol. 2, 3.1.7). */
		if (((efer ^ s->efer) & EFER_LME) && (s->cr0 & X86_CR0_PG))
			return -EINVAL;
		efer = (efer & ~(u64)EFER_LMA) | (s->efer & EFER_LMA);
	}
	if ((efer ^ s->efer) & EFER_NX)
		set_bit(REQ_TLB_FLUSH, &v->requests);
	s->efer = efer | EFER_SVME;
	vmcb_dirty(v, CLEAN_CR);
	return 0;
}

/* MTRRs are for the guest's own reading: nested paging takes the memory type from PAT. */
static bool mtrr_valid(struct vcpu *v, u32 index, u64 data)
{
	u64 reserved = ~0ull << v->maxphyaddr;

	if (index == MSR_MTRRdefType)
		return !(data & ~0xcffull) && types_valid(data, 1, MTRR_TYPES);
	if (index >= MSR_MTRRfix64K_00000)
		return types_valid(data, 8, MTRR_TYPES);
	return index & 1 ? !(data & (reserved | 0x7ff)) :
	       !(data & (reserved | 0xf00)) && types_valid(data, 1, MTRR_TYPES);
}

/** guest_setup_mce() - KVM_X86_SETUP_MCE. -EINVAL for unknown bits or other than 1..32 banks. */
int guest_setup_mce(struct vcpu *v, u64 mcg_cap)
{
	unsigned int banks = mcg_cap & 0xff, i;

	if (!banks || banks > MAX_MCE_BANKS || mcg_cap & ~(MCG_CAP_SUPPORTED | 0xff))
		return -EINVAL;
	/* AMD: reserved above MCG_CTL_P, whatever userspace knows */
	v->mcg_cap = mcg_cap & 0x1ff;
	if (mcg_cap & MCG_CTL_P)
		v->mcg_ctl = ~0ull;
	for (i = 0; i < banks; i++)
		v->mce_banks[4 * i] = ~0ull;
	return 0;
}

/* --- read and write --- */

#define IN_VCPU(msr, field, ...) { msr, 1, offsetof(struct vcpu, field), __VA_ARGS__ }
#define IN_VMCB(msr, field, ...) \
	{ msr, 1, offsetof(struct vmcb_save, field), .vmcb = true, __VA_ARGS__ }
#define CLOCKSOURCE	.pv = BIT(KVM_FEATURE_CLOCKSOURCE)
#define CLOCKSOURCE2	.pv = BIT(KVM_FEATURE_CLOCKSOURCE2)

/* MSRs that are a value and little more. A guest has them where it has one of @gf and of @pv. */
static const struct msr_row {
	u32 index;
	u16 nr, offset;		/* so many MSRs from @index on, side by side at @offset */
	bool vmcb;
	bool canonical;		/* holds an address */
	bool host;		/* the guest only reads it */
	u32 gf, pv;		/* GF_*, bits of KVM_FEATURE_*; 0: any guest */
	u64 reserved;		/* bits that can't be set */
	u64 ignored;		/* bits that are dropped */
} rows[] = {
	IN_VMCB(MSR_IA32_SYSENTER_CS, sysenter_cs),
	IN_VMCB(MSR_IA32_SYSENTER_ESP, sysenter_esp, .canonical = true),
	IN_VMCB(MSR_IA32_SYSENTER_EIP, sysenter_eip, .canonical = true),
	IN_VMCB(MSR_IA32_CR_PAT, g_pat),
	IN_VMCB(MSR_STAR, star),
	IN_VMCB(MSR_LSTAR, lstar, .canonical = true),
	IN_VMCB(MSR_CSTAR, cstar, .canonical = true),
	IN_VMCB(MSR_SYSCALL_MASK, sfmask, .ignored = ~0ull << 32),
	IN_VMCB(MSR_FS_BASE, fs.base, .canonical = true),
	IN_VMCB(MSR_GS_BASE, gs.base, .canonical = true),
	IN_VMCB(MSR_KERNEL_GS_BASE, kernel_gs_base, .canonical = true),
	IN_VCPU(MSR_TSC_AUX, tsc_aux, .gf = GF_RDTSCP, .ignored = ~0ull << 32),
	IN_VCPU(MSR_IA32_TSC_ADJUST, tsc_adjust, .gf = GF_TSC_ADJUST),
	IN_VCPU(MSR_IA32_MISC_ENABLE, misc_enable),
	IN_VCPU(MSR_PLATFORM_INFO, platform_info, .host = true),
	IN_VCPU(MSR_MISC_FEATURES_ENABLES, misc_features,
		.reserved = ~MSR_MISC_FEATURES_ENABLES_CPUID_FAULT),
	{ 0x200, 16, offsetof(struct vcpu, mtrr_var) },
	{ MSR_MTRRfix64K_00000, 1, offsetof(struct vcpu, mtrr_fixed[0]) },
	{ MSR_MTRRfix16K_80000, 2, offsetof(struct vcpu, mtrr_fixed[1]) },
	{ MSR_MTRRfix4K_C0000, 8, offsetof(struct vcpu, mtrr_fixed[3]) },
	IN_VCPU(MSR_MTRRdefType, mtrr_deftype),
	IN_VCPU(MSR_IA32_MCG_CAP, mcg_cap, .host = true),
	IN_VCPU(MSR_IA32_MCG_STATUS, mcg_status),
	IN_VCPU(MSR_IA32_MCG_CTL, mcg_ctl),
	{ MSR_IA32_MC0_CTL, 4 * MAX_MCE_BANKS, offsetof(struct vcpu, mce_banks) },
	IN_VCPU(MSR_K7_HWCR, hwcr, .reserved = ~(HWCR_KEPT | HWCR_IGNORED),
		.ignored = HWCR_IGNORED),
	IN_VCPU(MSR_AMD64_PATCH_LEVEL, patch_level, .host = true),
	IN_VCPU(MSR_AMD64_DE_CFG, de_cfg),
	IN_VCPU(MSR_IA32_ARCH_CAPABILITIES, arch_capabilities, .gf = GF_ARCH_CAP, .host = true),
	IN_VCPU(MSR_KVM_WALL_CLOCK, wall_clock_msr, CLOCKSOURCE),
	IN_VCPU(MSR_KVM_SYSTEM_TIME, kvmclock_msr, CLOCKSOURCE),
	IN_VCPU(MSR_KVM_WALL_CLOCK_NEW, wall_clock_msr, CLOCKSOURCE2),
	IN_VCPU(MSR_KVM_SYSTEM_TIME_NEW, kvmclock_msr, CLOCKSOURCE2),
	/* The area is 64 bytes, aligned; that of the next is 4. */
	IN_VCPU(MSR_KVM_STEAL_TIME, steal_msr, .pv = BIT(KVM_FEATURE_STEAL_TIME), .reserved = 0x3e),
	IN_VCPU(MSR_KVM_PV_EOI_EN, pv_eoi_msr, .pv = BIT(KVM_FEATURE_PV_EOI), .reserved = 2),
	IN_VCPU(MSR_KVM_POLL_CONTROL, poll_control, .pv = BIT(KVM_FEATURE_POLL_CONTROL),
		.reserved = ~1ull),
};

/* The row of such an MSR. -EINVAL: the guest does not have it, -ENOENT: it is none of these. */
static const struct msr_row *find_row(struct vcpu *v, u32 index, bool host)
{
	const struct msr_row *r = rows;

	while (index - r->index >= r->nr)
		if (++r == rows + ARRAY_SIZE(rows))
			return ERR_PTR(-ENOENT);
	if (r->index == MSR_IA32_MC0_CTL && index - r->index >= 4 * (v->mcg_cap & 0xff))
		return ERR_PTR(-ENOENT);
	if (!host && ((r->gf && !(v->features & r->gf)) || (r->pv && !(v->pv_features & r->pv))))
		return ERR_PTR(-EINVAL);
	return r;
}

static u64 *row_value(struct vcpu *v, const struct msr_row *r, u32 index)
{
	u64 *first = (r->vmcb ? (void *)&v->vmcb->save : (void *)v) + r->offset;

	return first + array_index_nospec(index - r->index, r->nr);
}

static noinline int get_row(struct vcpu *v, u32 index, u64 *data, bool host)
{
	const struct msr_row *row = find_row(v, index, host);

	if (IS_ERR(row))
		return PTR_ERR(row);
	*data = *row_value(v, row, index);
	return 0;
}

/** guest_set_apic_base() - the APIC_BASE MSR, of KVM_SET_SREGS where @host. 0 or -EINVAL. */
int guest_set_apic_base(struct vcpu *v, u64 data, bool host)
{
	if ((data & ~0ull << v->maxphyaddr) ||
	    ((data & BIT(10)) && !(v->features & GF_X2APIC)))
		return -EINVAL;
	if (v->apic) {
		v->check_events = true;
		return lapic_set_base(v->apic, data, host);
	}
	if (data & 0x2ff || (data & BIT(10) && !(data & BIT(11))))
		return -EINVAL;
	v->apic_base = data;
	return 0;
}

/** guest_get_msr() - RDMSR, or KVM_GET_MSRS (@host). -EINVAL: not this guest's, -ENOENT: none. */
int guest_get_msr(struct vcpu *v, u32 index, u64 *data, bool host)
{
	switch (index) {
	case MSR_IA32_TSC:
		*data = guest_tsc(v);
		return 0;
	case MSR_IA32_APICBASE:
		*data = guest_apic_base(v);
		return 0;
	case MSR_EFER:
		*data = guest_efer(v);
		return 0;
	case MSR_IA32_TSC_DEADLINE:
		if (v->apic)
			return lapic_msr_read(v->apic, index, data);
		*data = 0;
		return host ? 0 : -EINVAL;
	case MSR_IA32_SPEC_CTRL:
		if (!host && !v->spec_ctrl_allowed)
			return -EINVAL;
		*data = svm_caps.v_spec_ctrl ? v->vmcb->save.spec_ctrl : v->spec_ctrl;
		return 0;
	case MSR_MTRRcap:
		*data = MTRR_CAP;
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:
	case MSR_VM_HSAVE_PA:
		*data = 0;
		return host ? 0 : -EINVAL;
	case MSR_VM_CR:
		*data = BIT_ULL(3) | BIT_ULL(4);	/* SVM is disabled and locked for guests */
		return 0;
	/* Every AMD processor has them. These hold and count nothing, as KVM's without a PMU. */
	case MSR_K7_EVNTSEL0 ... MSR_K7_EVNTSEL3:
	case MSR_K7_PERFCTR0 ... MSR_K7_PERFCTR3:
	case MSR_AMD64_SYSCFG:		/* no memory encryption, no TOM2: what Linux probes for */
	case MSR_AMD64_OSVW_ID_LENGTH:
	case MSR_AMD64_OSVW_STATUS:
	case MSR_K8_INT_PENDING_MSG:
	case MSR_AMD64_NB_CFG:
	case MSR_FAM10H_MMIO_CONF_BASE:
	case MSR_IA32_DEBUGCTLMSR:
	case MSR_IA32_LASTBRANCHFROMIP:
	case MSR_IA32_LASTBRANCHTOIP:
		*data = 0;
		return 0;
	case 0x800 ... 0x8ff:
		return v->apic ? lapic_msr_read(v->apic, index, data) : -EINVAL;
	case MSR_PLATFORM_INFO:
		if (!host && READ_ONCE(v->vm->platform_info_hidden))
			return -EINVAL;
		break;
	case MSR_IA32_MCG_CTL:
		if (!host && !(v->mcg_cap & MCG_CTL_P))
			return -EINVAL;
		break;
	}
	return get_row(v, index, data, host);
}

/* A write of one of the rows: what each may hold. */
static noinline int set_row(struct vcpu *v, u32 index, u64 data, bool host)
{
	const struct msr_row *row = find_row(v, index, host);
	u64 have;

	if (IS_ERR(row))
		return PTR_ERR(row);
	/* A base that hardware would #GP on reaches the VMCB by no way (CVE-2014-3610). */
	if ((row->host && !host) || data & row->reserved ||
	    (row->canonical && !__is_canonical_address(data, 48)))
		return -EINVAL;
	data &= ~row->ignored;
	switch (index) {
	case MSR_IA32_CR_PAT:
		if (!types_valid(data, 8, PAT_TYPES))
			return -EINVAL;
		vmcb_dirty(v, CLEAN_NP);
		break;
	case MSR_TSC_AUX:
		set_bit(REQ_KICK, &v->requests);	/* loaded at the next stay */
		break;
	case MSR_IA32_MISC_ENABLE:
		if (!host && (data ^ v->misc_enable) & MISC_ENABLE_NO_PMU)
			return -EINVAL;
		break;
	case MSR_PLATFORM_INFO:
		/* What the guest has turned on stays possible. */
		if (v->misc_features && !(data & MSR_PLATFORM_INFO_CPUID_FAULT))
			return -EINVAL;
		break;
	case MSR_MISC_FEATURES_ENABLES:
		if (data && !(v->platform_info & MSR_PLATFORM_INFO_CPUID_FAULT))
			return -EINVAL;
		break;
	case 0x200 ... MSR_MTRRfix4K_F8000:
	case MSR_MTRRdefType:
		if (!mtrr_valid(v, index, data))
			return -EINVAL;
		break;
	case MSR_IA32_MC0_CTL ... MSR_IA32_MC0_CTL + 4 * MAX_MCE_BANKS - 1:
		/* CTL: nothing or all, but for bit 10. */
		if ((index & 3) == 0 && data && (data | BIT_ULL(10)) != ~0ull)
			return -EINVAL;
		/* STATUS: a guest clears it, or has HWCR.McStatusWrEn (APM vol. 2, 9.3.2). */
		if ((index & 3) == 1 && data && !host && !(v->hwcr & BIT_ULL(18)))
			return -EINVAL;
		break;
	case MSR_IA32_MCG_CTL:
		if (!(v->mcg_cap & MCG_CTL_P) || (data && data != ~0ull))
			return host && !data ? 0 : -EINVAL;
		break;
	case MSR_IA32_MCG_CAP:
		return data == v->mcg_cap ? 0 : -EINVAL;
	case MSR_AMD64_DE_CFG:
		guest_get_feature_msr(index, &have);
		if (data & ~have)
			return -EINVAL;
		break;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		if (data)
			clock_write_wall(v, data);
		break;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		set_bit(REQ_CLOCK, &v->requests);
		break;
	case MSR_KVM_STEAL_TIME:
		v->steal_seen = ~0ull;
		set_bit(REQ_STEAL, &v->requests);
		break;
	}
	*row_value(v, row, index) = data;
	return 0;
}

/** guest_set_msr() - WRMSR, or KVM_SET_MSRS (@host). -EINVAL or -ENOENT: nothing has changed. */
int guest_set_msr(struct vcpu *v, u32 index, u64 data, bool host)
{
	switch (index) {
	case MSR_IA32_TSC:
		tsc_write(v, data, host);
		return 0;
	case MSR_IA32_APICBASE:
		return guest_set_apic_base(v, data, host);
	case MSR_EFER:
		return set_efer(v, data, host);
	case MSR_IA32_TSC_ADJUST:
		if (!host && !(v->features & GF_TSC_ADJUST))
			return -EINVAL;
		if (!host)
			tsc_set_offset(v, v->tsc_offset + data - v->tsc_adjust);
		v->tsc_adjust = data;
		return 0;
	case MSR_IA32_TSC_DEADLINE:
		if (!v->apic)
			return host && !data ? 0 : -EINVAL;
		return lapic_msr_write(v->apic, index, data);
	case MSR_IA32_SPEC_CTRL:
		if (data & ~(u64)svm_caps.spec_ctrl_bits ||
		    (!host && (!v->spec_ctrl_allowed || data & ~(u64)v->spec_ctrl_allowed)))
			return -EINVAL;
		if (svm_caps.v_spec_ctrl)
			v->vmcb->save.spec_ctrl = data;
		else
			v->spec_ctrl = data;
		return 0;
	case MSR_IA32_PRED_CMD:
		if (data & ~1ull ||
		    (!host && !(v->features & GF_IBPB) && !(v->spec_ctrl_allowed & 1)))
			return -EINVAL;
		if (data && !host && boot_cpu_has(X86_FEATURE_IBPB))
			wrmsrq(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:
	case MSR_VM_HSAVE_PA:
		return host && !data ? 0 : -EINVAL;
	case MSR_K7_EVNTSEL0 ... MSR_K7_EVNTSEL3:
	case MSR_K7_PERFCTR0 ... MSR_K7_PERFCTR3:
		return 0;
	case MSR_IA32_DEBUGCTLMSR:	/* no LBR and no BTF for guests */
		return data ? -EINVAL : 0;
	case 0x800 ... 0x8ff:
		if (!v->apic)
			return -EINVAL;
		v->check_events = true;
		return lapic_msr_write(v->apic, index, data);
	default:
		return set_row(v, index, data, host);
	}
}
