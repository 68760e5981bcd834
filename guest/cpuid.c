// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what guests can be offered (the hardware's features that this module can really give), and
 * what follows from what userspace then gave one.
 */
#include <linux/slab.h>
#include <asm/cpufeature.h>

#include "guest/guest.h"
#include "svm/cpu.h"

/* Feature bits that may be passed on where the host has them (APM vol. 3, appendix E). */
#define F1_EDX	0x0783fbff	/* FPU..CX8, APIC, SEP..PSE36, CLFSH, MMX, FXSR, SSE, SSE2; */
				/* PSN, DS, ACPI, SS, HTT stay out */
#define F1_ECX	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | \
		 BIT(23) | BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
#define F1_ECX_ALWAYS (BIT(21) | BIT(31))	/* x2APIC: emulated; hypervisor */
#define F7_EBX	(BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(16) | \
		 BIT(17) | BIT(18) | BIT(19) | BIT(20) | BIT(21) | BIT(23) | BIT(24) | BIT(28) | \
		 BIT(29) | BIT(30) | BIT(31))
#define F7_EBX_ALWAYS BIT(1)	/* TSC_ADJUST: emulated */
#define F7_ECX	(BIT(1) | BIT(2) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | \
		 BIT(14) | BIT(22))
#define F7_EDX	(BIT(4) | BIT(8))
#define F7_1_EAX (BIT(4) | BIT(5))
#define FD_1_EAX (BIT(0) | BIT(1) | BIT(2))	/* XSAVEOPT, XSAVEC, XGETBV with ECX=1; no XSAVES */
#define FE1_EDX	(0x0183fbff | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | \
		 BIT(27) | BIT(29) | BIT(30) | BIT(31))
#define FE1_ECX	(BIT(0) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | \
		 BIT(16) | BIT(21) | BIT(22))
#define FE7_EDX	BIT(8)		/* invariant TSC */
#define FE8_EBX	(BIT(0) | BIT(2) | BIT(9) | BIT(12) | BIT(14) | BIT(15) | BIT(17) | BIT(24) | \
		 BIT(26) | BIT(28))
#define FE21_EAX (BIT(0) | BIT(2) | BIT(6))

/* --- KVM_GET_SUPPORTED_CPUID --- */

struct cpuid_list {
	struct kvm_cpuid_entry2 *e;
	unsigned int nr, max;
};

#define ALL	(~0u)

/* Adds the host's leaf, as far as the masks let it through. */
static struct kvm_cpuid_entry2 *add(struct cpuid_list *l, u32 function, u32 index,
				    u32 eax, u32 ebx, u32 ecx, u32 edx)
{
	/* written, never read: the count tells userspace */
	static struct kvm_cpuid_entry2 overflow;
	struct kvm_cpuid_entry2 *e = l->nr < l->max ? &l->e[l->nr] : &overflow;
	bool indexed = function == 7 || function == 0xd || function == 0x8000001d;

	l->nr++;
	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	e->flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	cpuid_count(function, index, &e->eax, &e->ebx, &e->ecx, &e->edx);
	e->eax &= eax;
	e->ebx &= ebx;
	e->ecx &= ecx;
	e->edx &= edx;
	return e;
}

static void add_xsave(struct cpuid_list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 0xd, 0, 0, 0, 0, 0);
	unsigned long extended = svm_caps.xcr0 & ~(u64)XFEATURE_MASK_FPSSE;
	unsigned int i;

	e->eax = svm_caps.xcr0;
	e->ebx = svm_caps.xsave_size;
	e->ecx = svm_caps.xsave_size;
	e->edx = svm_caps.xcr0 >> 32;
	if (!svm_caps.xcr0)
		return;
	add(l, 0xd, 1, FD_1_EAX, 0, 0, 0);
	for_each_set_bit(i, &extended, 63)
		add(l, 0xd, i, ALL, ALL, 0, 0);
}

static void add_basic(struct cpuid_list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 0, 0, ALL, ALL, ALL, ALL);
	u32 max = min(e->eax, 0xdu);

	e->eax = max;
	e = add(l, 1, 0, ALL, 0xff00, F1_ECX, F1_EDX);	/* the rest of EBX is a vCPU's own */
	e->ecx |= F1_ECX_ALWAYS;
	if (max >= 7) {
		e = add(l, 7, 0, ALL, F7_EBX, F7_ECX, F7_EDX);
		e->eax = min(e->eax, 1u);
		e->ebx |= F7_EBX_ALWAYS;
		if (e->eax)
			add(l, 7, 1, F7_1_EAX, 0, 0, 0);
	}
	if (max >= 0xd)
		add_xsave(l);
}

static void add_paravirt(struct cpuid_list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, KVM_CPUID_SIGNATURE, 0, 0, 0, 0, 0);

	e->eax = KVM_CPUID_FEATURES;
	memcpy(&e->ebx, "KVMK", 4);
	memcpy(&e->ecx, "VMKV", 4);
	memcpy(&e->edx, "M\0\0\0", 4);
	e = add(l, KVM_CPUID_FEATURES, 0, 0, 0, 0, 0);
	e->eax = BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
		 BIT(KVM_FEATURE_NOP_IO_DELAY) | pv_supported();
	if (!check_tsc_unstable())
		e->eax |= BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
}

/* All up to 0x8000000a are there: svm_module_init() insists. */
static void add_extended(struct cpuid_list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 0x80000000, 0, ALL, ALL, ALL, ALL);
	u32 max = min(e->eax, 0x80000021u), i;

	e->eax = max;
	add(l, 0x80000001, 0, ALL, ALL, FE1_ECX, FE1_EDX);
	for (i = 0x80000002; i <= 0x80000006; i++)
		add(l, i, 0, ALL, ALL, ALL, ALL);
	add(l, 0x80000007, 0, 0, 0, 0, check_tsc_unstable() ? 0 : FE7_EDX);
	e = add(l, 0x80000008, 0, 0xff00, FE8_EBX, 0, 0);
	e->eax |= svm_caps.phys_bits;
	for (i = 0x80000019; i <= min(max, 0x8000001au); i++)
		add(l, i, 0, ALL, ALL, ALL, ALL);
	if (max >= 0x8000001e && boot_cpu_has(X86_FEATURE_TOPOEXT)) {
		for (i = 0; i < 8; i++) {
			e = add(l, 0x8000001d, i, ALL, ALL, ALL, ALL);
			if (!(e->eax & 0x1f))
				break;
		}
		add(l, 0x8000001e, 0, 0, 0, 0, ALL);	/* the others are a vCPU's own */
	}
	if (max >= 0x80000021)
		add(l, 0x80000021, 0, FE21_EAX, 0, 0, 0);
}

/** guest_supported_cpuid() - KVM_GET_SUPPORTED_CPUID. 0, or -E2BIG with *nent that is needed. */
int guest_supported_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent)
{
	struct cpuid_list l = { .e = e, .max = *nent };

	add_basic(&l);
	add_paravirt(&l);
	add_extended(&l);
	*nent = l.nr;
	return l.nr > l.max ? -E2BIG : 0;
}

/** guest_emulated_cpuid() - KVM_GET_EMULATED_CPUID: RDPID; as guest_supported_cpuid(). */
int guest_emulated_cpuid(struct kvm_cpuid_entry2 *e, unsigned int *nent)
{
	*nent = 1;
	*e = (struct kvm_cpuid_entry2) {
		.function = 7,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ecx = BIT(22),
	};
	return 0;
}

/* --- a vCPU's CPUID --- */

static const struct kvm_cpuid_entry2 *leaf(const struct vcpu *v, u32 function, u32 index)
{
	static const struct kvm_cpuid_entry2 none;

	return cpuid_find(v, function, index) ?: &none;
}

/* CR4 bits that need no feature, and those that come with one: the host's until KVM_SET_CPUID2. */
static u64 cr4_allowed(struct vcpu *v)
{
	u32 any = v->cpuid ? 0 : ~0u;
	u32 c1 = any | leaf(v, 1, 0)->ecx;
	u32 b7 = any | leaf(v, 7, 0)->ebx, c7 = any | leaf(v, 7, 0)->ecx;

	return X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
	       X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
	       (c1 & BIT(26) && svm_caps.xcr0 ? X86_CR4_OSXSAVE : 0) |
	       (c1 & BIT(17) && boot_cpu_has(X86_FEATURE_PCID) ? X86_CR4_PCIDE : 0) |
	       (b7 & BIT(0) && boot_cpu_has(X86_FEATURE_FSGSBASE) ? X86_CR4_FSGSBASE : 0) |
	       (b7 & BIT(7) && boot_cpu_has(X86_FEATURE_SMEP) ? X86_CR4_SMEP : 0) |
	       (b7 & BIT(20) && boot_cpu_has(X86_FEATURE_SMAP) ? X86_CR4_SMAP : 0) |
	       (c7 & BIT(2) && boot_cpu_has(X86_FEATURE_UMIP) ? X86_CR4_UMIP : 0);
}

/** cpuid_update() - digest the guest's CPUID into what the rest of svm/ asks for. */
void cpuid_update(struct vcpu *v)
{
	u32 c1 = leaf(v, 1, 0)->ecx, b7 = leaf(v, 7, 0)->ebx, c7 = leaf(v, 7, 0)->ecx;
	u32 d7 = leaf(v, 7, 0)->edx, de = leaf(v, 0x80000001, 0)->edx;
	u32 b8 = leaf(v, 0x80000008, 0)->ebx;
	u64 xcr0 = leaf(v, 0xd, 0)->eax | (u64)leaf(v, 0xd, 0)->edx << 32;
	u8 bits = leaf(v, 0x80000008, 0)->eax;

	v->pv_features = v->pv_enforce ? leaf(v, KVM_CPUID_FEATURES, 0)->eax : ~0u;
	v->features = (c1 & BIT(21) ? GF_X2APIC : 0) | (b7 & BIT(1) ? GF_TSC_ADJUST : 0) |
		      (c7 & BIT(22) ? GF_RDPID : 0) | (d7 & BIT(29) ? GF_ARCH_CAP : 0) |
		      (de & BIT(26) ? GF_1G : 0) | (b8 & BIT(12) ? GF_IBPB : 0);
	/* RDPID reads TSC_AUX too. */
	if (boot_cpu_has(X86_FEATURE_RDTSCP) && (de & BIT(27) || c7 & BIT(22)))
		v->features |= GF_RDTSCP;
	v->maxphyaddr = bits >= 32 && bits <= 52 ? bits : 36;
	v->cr4_reserved = ~cr4_allowed(v);
	v->xcr0_allowed = XFEATURE_MASK_FP | (c1 & BIT(26) ? xcr0 & svm_caps.xcr0 : 0);
	v->efer_allowed = (de & BIT(11) ? EFER_SCE : 0) | (de & BIT(20) ? EFER_NX : 0) |
			  (de & BIT(25) ? EFER_FFXSR : 0) |
			  (de & BIT(29) ? EFER_LME | EFER_LMA : 0);
	v->spec_ctrl_allowed = spec_ctrl_bits(b8);
}

/* Bytes of the components in XCR0, in the standard format or the compacted one. */
static u32 xsave_size(struct vcpu *v, bool compact)
{
	unsigned long extended = v->xcr0 & ~(u64)XFEATURE_MASK_FPSSE;
	u32 size = 576;
	unsigned int i;

	for_each_set_bit(i, &extended, 63) {
		const struct kvm_cpuid_entry2 *e = leaf(v, 0xd, i);

		if (!compact)
			size = max(size, e->ebx + e->eax);
		else
			size = (e->ecx & BIT(1) ? ALIGN(size, 64) : size) + e->eax;
	}
	return size;
}

/** guest_cpuid_registers() - in @e, what follows the vCPU's registers rather than userspace. */
void guest_cpuid_registers(struct vcpu *v, struct kvm_cpuid_entry2 *e)
{
	if (e->function == 1) {
		e->ecx &= ~BIT(27);
		if (v->vmcb->save.cr4 & X86_CR4_OSXSAVE)
			e->ecx |= BIT(27);
		if (!(guest_apic_base(v) & MSR_IA32_APICBASE_ENABLE))
			e->edx &= ~BIT(9);
	} else if (e->function == 0xd &&
		   (e->index == 0 || (e->index == 1 && (e->eax & (BIT(1) | BIT(3)))))) {
		e->ebx = xsave_size(v, e->index);
	}
}

static bool same_entry(struct vcpu *v, struct kvm_cpuid_entry2 a, struct kvm_cpuid_entry2 b)
{
	guest_cpuid_registers(v, &a);
	guest_cpuid_registers(v, &b);
	return !memcmp(&a, &b, sizeof(a));
}

/** guest_set_cpuid() - KVM_SET_CPUID2. 0: @e (kvmalloc'ed) is taken over. -EINVAL: see api.rst. */
int guest_set_cpuid(struct vcpu *v, struct kvm_cpuid_entry2 *e, unsigned int nent)
{
	unsigned int i;

	if (v->cpu >= 0 && nent != v->cpuid_nent)
		return -EINVAL;
	for (i = 0; i < nent; i++) {
		u32 virt = (e[i].eax >> 8) & 0xff;

		/* VMMs offer these without asking whether there is an APIC to serve them. */
		if (e[i].function == KVM_CPUID_FEATURES && !v->apic)
			e[i].eax &= ~PV_NEEDS_APIC;
		/* Who halts by himself is not to be kicked. */
		if (e[i].function == KVM_CPUID_FEATURES && v->vm->hlt_in_guest)
			e[i].eax &= ~BIT(KVM_FEATURE_PV_UNHALT);
		if (v->cpu >= 0 && !same_entry(v, e[i], v->cpuid[i]))
			return -EINVAL;
		if (e[i].function == 0x80000008 && virt != 48 && virt != 57 && virt != 0)
			return -EINVAL;
	}
	kvfree(v->cpuid);
	v->cpuid = e;
	v->cpuid_nent = nent;
	cpuid_update(v);
	return 0;
}

/** guest_enforce_pv() - KVM_CAP_ENFORCE_PV_FEATURE_CPUID: is the guest held to its CPUID? */
void guest_enforce_pv(struct vcpu *v, bool on)
{
	v->pv_enforce = on;
	cpuid_update(v);
}
