// SPDX-License-Identifier: GPL-2.0
/*
 * ASIDs: which translations of the TLB belong to which vCPU (APM vol. 2, 15.16).
 *
 * Each CPU hands out numbers 1..nr_asids-1 and counts generations. A vCPU's number is good on one
 * CPU and in one generation:
 *
 *	vCPU comes to	number is from		TLB may hold		so
 *	same CPU	this generation		its translations	keep it
 *	same CPU	an older one		another vCPU's		new number
 *	other CPU	any			another vCPU's		new number
 *	any, and wants a flush (REQ_TLB_FLUSH)	its stale ones		FlushByAsid, else new number
 *	new number wanted, none left		anybody's		new generation, flush all
 *
 * 0 is the host's. Generations never repeat on a CPU, so an offline/online cycle can't revive an
 * old number.
 */
#include "svm/cpu.h"

static void asid_new(struct vcpu *v, struct svm_cpu *sc)
{
	struct vmcb_control *c = &v->vmcb->control;

	if (sc->next_asid >= svm_caps.nr_asids) {
		sc->asid_generation++;
		sc->next_asid = 1;
		sc->flush_all = true;
	}
	c->asid = sc->next_asid++;
	c->clean &= ~CLEAN_ASID;
	v->asid_generation = sc->asid_generation;
}

/* Makes the vCPU's ASID good for this CPU. Preemption is off. */
void asid_prepare(struct vcpu *v, struct svm_cpu *sc)
{
	int cpu = raw_smp_processor_id();

	if (v->cpu != cpu || v->asid_generation != sc->asid_generation) {
		v->cpu = cpu;
		/* what this CPU has cached of the VMCB may be of an earlier stay */
		v->vmcb->control.clean = 0;
		asid_new(v, sc);
	}
	/* By whoever enters first: the vCPU that opened the generation may have left without. */
	if (unlikely(sc->flush_all))
		v->vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
}

/* No translation made so far may be used by this vCPU again. Preemption is off. */
void asid_flush(struct vcpu *v, struct svm_cpu *sc)
{
	if (!svm_caps.flush_asid)
		asid_new(v, sc);
	if (sc->flush_all)
		v->vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
	else if (svm_caps.flush_asid)
		v->vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ASID;
}
