// SPDX-License-Identifier: GPL-2.0
/*
 * Probing for SVM and owning it: EFER.SVME and VM_HSAVE_PA on each CPU from the first VM to the
 * last, across CPU hotplug, suspend, reboot and crash (APM vol. 2, 15.4 and 15.30).
 */
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/mem_encrypt.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <linux/syscore_ops.h>
#include <asm/cpufeature.h>
#include <asm/reboot.h>

#include "compat/entry.h"
#include "svm/exit.h"

#define VM_CR_SVM_LOCK		BIT_ULL(3)
#define VM_CR_SVMDIS		BIT_ULL(4)
#define SYSCFG_SNP_EN		BIT_ULL(24)

DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

/* The first four as wanted until probe() has seen what there is. */
struct svm_caps svm_caps __ro_after_init = {
	.nrips = true, .decode = true, .flush_asid = true, .clean = true,
};
module_param_named(nrips, svm_caps.nrips, bool, 0444);
MODULE_PARM_DESC(nrips, "Use next-RIP save where the CPU has it (default: on)");
module_param_named(decodeassists, svm_caps.decode, bool, 0444);
MODULE_PARM_DESC(decodeassists, "Use decode assists where the CPU has them (default: on)");
module_param_named(flushbyasid, svm_caps.flush_asid, bool, 0444);
MODULE_PARM_DESC(flushbyasid, "Use flush-by-ASID where the CPU has it (default: on)");
module_param_named(cleanbits, svm_caps.clean, bool, 0444);
MODULE_PARM_DESC(cleanbits, "Use VMCB clean bits where the CPU has them (default: on)");

u32 svm_disabled_exits __ro_after_init = KVM_X86_DISABLE_EXITS_PAUSE;

static DEFINE_MUTEX(hardware_lock);
/* Protected by: hardware_lock; syscore callbacks, where no locks are, read it without */
static unsigned int hardware_users;
static enum cpuhp_state hotplug_state;

/* Runs on the CPU, interrupts off. */
static int cpu_enable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	u64 efer;

	rdmsrq(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;
	wrmsrq(MSR_EFER, efer | EFER_SVME);
	wrmsrq(MSR_VM_HSAVE_PA, sc->hsave_pa);
	if (boot_cpu_has(X86_FEATURE_TSCRATEMSR))
		wrmsrq(MSR_AMD64_TSC_RATIO, 1ull << 32);	/* 1.0 */
	compat_bp_spec_reduce(true);
	tsc_aux_cpu_init();
	sc->asid_generation++;
	sc->next_asid = svm_caps.nr_asids;	/* first user opens a generation and flushes all */
	sc->last_vcpu = NULL;
	sc->enabled = true;
	return 0;
}

/* Runs on the CPU, interrupts off. For emergencies too: registers and own per-CPU data only. */
static void cpu_disable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	u64 efer;

	if (!sc->enabled)
		return;
	sc->enabled = false;
	tsc_aux_cpu_exit();
	compat_bp_spec_reduce(false);
	wrmsrq(MSR_VM_HSAVE_PA, 0);
	rdmsrq(MSR_EFER, efer);
	if (efer & EFER_SVME) {
		/* GIF=0 after an NMI-driven crash would block the INIT that stops this CPU. */
		stgi();
		wrmsrq(MSR_EFER, efer & ~EFER_SVME);
	}
}

static void cpu_enable_ipi(void *error)
{
	if (cpu_enable())
		atomic_set((atomic_t *)error, -EBUSY);
}

static void cpu_disable_ipi(void *unused)
{
	cpu_disable();
}

static void disable_all(void)
{
	on_each_cpu(cpu_disable_ipi, NULL, 1);
}

static int hotplug_online(unsigned int cpu)
{
	int r = 0;

	mutex_lock(&hardware_lock);
	if (hardware_users) {
		local_irq_disable();
		r = cpu_enable();
		local_irq_enable();
	}
	mutex_unlock(&hardware_lock);
	if (r)
		pr_err("CPU %u: SVM is held by another hypervisor, the CPU stays offline\n", cpu);
	return r;
}

static int hotplug_offline(unsigned int cpu)
{
	local_irq_disable();
	cpu_disable();
	local_irq_enable();
	return 0;
}

static int syscore_suspend_cpu(void)
{
	cpu_disable();
	return 0;
}

static void syscore_resume_cpu(void)
{
	if (READ_ONCE(hardware_users) && cpu_enable())
		pr_err("SVM is held by another hypervisor after resume\n");
}

COMPAT_SYSCORE(svm_syscore, syscore_suspend_cpu, syscore_resume_cpu, disable_all);

/* Reboot and kexec: before other CPUs are stopped wherever they are. */
static int reboot_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	disable_all();
	return NOTIFY_OK;
}

static struct notifier_block reboot_nb = { .notifier_call = reboot_notify };

/** svm_hardware_get() - the first one enables SVM on all CPUs; -EBUSY: none then. Sleeps. */
int svm_hardware_get(void)
{
	atomic_t error = ATOMIC_INIT(0);
	int r = 0;

	cpus_read_lock();
	mutex_lock(&hardware_lock);
	if (!hardware_users) {
		on_each_cpu(cpu_enable_ipi, &error, 1);
		r = atomic_read(&error);
		if (r)
			disable_all();
		else
			compat_emergency_register(cpu_disable);
	}
	if (!r)
		WRITE_ONCE(hardware_users, hardware_users + 1);
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
	if (r == -EBUSY)
		pr_err("SVM is in use by another hypervisor (EFER.SVME is set): unload it first, e.g. 'rmmod kvm_amd' (to stop it coming back: 'options kvm enable_virt_at_load=0' or blacklist kvm_amd)\n");
	return r;
}

/** svm_hardware_put() - drop a reference; the last one disables SVM on all CPUs. Sleeps. */
void svm_hardware_put(void)
{
	cpus_read_lock();
	mutex_lock(&hardware_lock);
	WRITE_ONCE(hardware_users, hardware_users - 1);
	if (!hardware_users) {
		compat_emergency_unregister(cpu_disable);
		disable_all();
	}
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
}

static int refuse(int error, const char *why)
{
	pr_err("%s\n", why);
	return error;
}

static int probe(void)
{
	u64 vm_cr = 0, syscfg = 0;
	u32 edx;

	if (boot_cpu_data.x86_vendor != X86_VENDOR_AMD &&
	    boot_cpu_data.x86_vendor != X86_VENDOR_HYGON)
		return refuse(-ENODEV, "not an AMD processor");
	if (cpuid_eax(0x80000000) < 0x8000000a || !(cpuid_ecx(0x80000001) & BIT(2)))
		return refuse(-ENODEV, "this processor has no SVM (CPUID 8000_0001 ECX bit 2)");
	if (rdmsrq_safe(MSR_VM_CR, &vm_cr) || (vm_cr & VM_CR_SVMDIS))
		return refuse(-EOPNOTSUPP, vm_cr & VM_CR_SVM_LOCK ?
			"SVM is disabled and locked by the firmware (VM_CR.SVMDIS, SVM_LOCK): enable it in the firmware's setup" :
			"SVM is disabled (VM_CR.SVMDIS): enable it in the firmware's setup");
	edx = cpuid_edx(0x8000000a);
	if (!(edx & SVMF_NPT))
		return refuse(-ENODEV, "this processor has no nested paging");
	/* A SEV guest can't run VMRUN on memory that the outer host does not see. */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return refuse(-EOPNOTSUPP,
			      "nested virtualization in an encrypted guest is not possible");
	if (!tsc_khz)
		return refuse(-ENODEV, "the kernel doesn't know how fast the TSC is");
	svm_caps.nr_asids = cpuid_ebx(0x8000000a);
	if (svm_caps.nr_asids < 2)
		return refuse(-ENODEV, "this processor offers no ASIDs to guests");
	if (cpuid_eax(0x80000000) >= 0x8000001f)
		rdmsrq_safe(MSR_AMD64_SYSCFG, &syscfg);
	svm_caps.snp_host = syscfg & SYSCFG_SNP_EN;
	svm_caps.nrips &= !!(edx & SVMF_NRIPS);
	svm_caps.decode &= !!(edx & SVMF_DECODE);
	svm_caps.flush_asid &= !!(edx & SVMF_FLUSH_ASID);
	svm_caps.clean &= !!(edx & SVMF_CLEAN);
	svm_caps.v_spec_ctrl = edx & SVMF_V_SPEC_CTRL;
	svm_caps.spec_ctrl = boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL) && !svm_caps.v_spec_ctrl;
	svm_caps.spec_ctrl_bits = spec_ctrl_bits(cpuid_ebx(0x80000008));
	svm_caps.nested = boot_cpu_has(X86_FEATURE_HYPERVISOR);
	svm_caps.phys_bits = boot_cpu_data.x86_phys_bits;
	/* A thread that halts lets the guest steer its sibling's returns (CVE-2022-27672). */
	if (!boot_cpu_has_bug(X86_BUG_SMT_RSB) || !cpu_smt_possible())
		svm_disabled_exits |= KVM_X86_DISABLE_EXITS_HLT;
	fpu_probe();
	return 0;
}

static void free_cpu_pages(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_pages(per_cpu_ptr(&svm_cpu, cpu)->pages, 1);
}

static int alloc_cpu_pages(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		sc->pages = __get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
		if (!sc->pages)
			return -ENOMEM;
		/* SNP hosts: never at a multiple of 2 MiB, which the RMP would take for in use. */
		sc->host_vmcb_pa = __sme_set(__pa(sc->pages));
		sc->hsave_pa = sc->host_vmcb_pa + PAGE_SIZE;
	}
	return 0;
}

/** svm_module_init() - probe; hook CPU hotplug, suspend, reboot. -ENODEV, -EOPNOTSUPP, -ENOMEM. */
int svm_module_init(void)
{
	int r = probe();

	if (r)
		return r;
	r = alloc_cpu_pages() ?: msr_maps_init() ?:
	    cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "virt/svm:online", hotplug_online,
			      hotplug_offline);
	if (r < 0) {
		msr_maps_exit();
		free_cpu_pages();
		return r;
	}
	hotplug_state = r;
	register_reboot_notifier(&reboot_nb);
	compat_register_syscore(&svm_syscore);
	pr_info("SVM with nested paging, %u ASIDs%s%s%s%s\n", svm_caps.nr_asids,
		svm_caps.nrips ? ", NRIPS" : "", svm_caps.decode ? ", DecodeAssists" : "",
		svm_caps.flush_asid ? ", FlushByAsid" : "", svm_caps.clean ? ", clean bits" : "");
	return 0;
}

/** svm_module_exit() - undo svm_module_init(); no VM exists any more. */
void svm_module_exit(void)
{
	compat_unregister_syscore(&svm_syscore);
	unregister_reboot_notifier(&reboot_nb);
	cpuhp_remove_state(hotplug_state);
	msr_maps_exit();
	free_cpu_pages();
}
