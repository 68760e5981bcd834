// SPDX-License-Identifier: GPL-2.0
/*
 * Guest time: the TSC offset, and kvmclock (Documentation/virt/kvm/x86/msr.rst describes the
 * guest's side).
 *
 * All vCPUs of a VM count from one reference pair (host TSC, nanoseconds), taken when the VM is
 * made or its clock set: so the clock is the same on all of them, and the "stable" flag is true as
 * long as the host's TSC is.
 */
#include <linux/kvm_para.h>
#include <linux/timekeeping.h>
#include <asm/pvclock-abi.h>
#include <asm/tsc.h>

#include "guest/guest.h"
#include "svm/cpu.h"

/** guest_tsc() - what RDTSC gives the guest now. */
u64 guest_tsc(struct vcpu *v)
{
	return rdtsc_ordered() + v->tsc_offset;
}

/** tsc_set_offset() - guest TSC = host TSC + offset; also for the APIC's TSC-deadline timer. */
void tsc_set_offset(struct vcpu *v, u64 offset)
{
	v->tsc_offset = offset;
	v->vmcb->control.tsc_offset = offset;
	vmcb_dirty(v, CLEAN_INTERCEPTS);
	if (v->apic)
		lapic_set_tsc_offset(v->apic, offset);
	if (v->kvmclock_msr & 1)
		vcpu_request(v, REQ_CLOCK);
}

/**
 * tsc_write() - write the guest's TSC.
 * @v: the vCPU
 * @data: guest TSC ticks
 * @host: from userspace. A VMM restores its vCPUs one after the other; values that belong together
 * (within a second of where the last one would be by now) must give one common offset.
 */
int tsc_write(struct vcpu *v, u64 data, bool host)
{
	struct vm *vm = v->vm;
	u64 now = rdtsc_ordered(), offset = data - now;
	unsigned long flags;

	if (!host) {
		/* TSC_ADJUST counts writes to the TSC as well. */
		v->tsc_adjust += offset - v->tsc_offset;
		tsc_set_offset(v, offset);
		return 0;
	}
	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	if (vm->tsc_last_host) {
		u64 expected = vm->tsc_last_value + (now - vm->tsc_last_host);
		u64 apart = expected > data ? expected - data : data - expected;

		if (apart < (u64)tsc_khz * 1000)
			offset = vm->tsc_last_offset;
	}
	vm->tsc_last_value = data;
	vm->tsc_last_host = now;
	vm->tsc_last_offset = offset;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	tsc_set_offset(v, offset);
	return 0;
}

/** guest_check_tsc_khz() - without scaling: 0 (the host's) or what a crystal's 250 ppm explain. */
int guest_check_tsc_khz(u32 khz)
{
	u32 tolerance = tsc_khz / 4000;

	if (khz && (khz < tsc_khz - tolerance || khz > tsc_khz + tolerance))
		return -EINVAL;
	return 0;
}

/* --- kvmclock --- */

static u64 cycles_to_ns(u64 cycles)
{
	return mul_u64_u64_div_u64(cycles, 1000000, tsc_khz);
}

/** clock_init() - the VM's clock starts at zero. */
void clock_init(struct vm *vm)
{
	raw_spin_lock_init(&vm->clock_lock);
	vm->clock_ref_tsc = rdtsc_ordered();
	vm->clock_ref_ns = 0;
}

/*
 * A time page counts forward from a TSC value that the guest has seen: where the guest's TSC was
 * set back behind the reference, the reference moves to now, for all vCPUs.
 */
static void clock_rebase(struct vcpu *v)
{
	struct vm *vm = v->vm;
	unsigned long flags;
	struct vcpu *other;
	unsigned int i;
	u64 now;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	now = rdtsc_ordered();
	if (vm->clock_ref_tsc + v->tsc_offset <= now + v->tsc_offset) {
		raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
		return;
	}
	vm->clock_ref_ns += cycles_to_ns(now - vm->clock_ref_tsc);
	vm->clock_ref_tsc = now;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	vm_for_each_vcpu(i, other, vm)
		if (other != v)
			vcpu_request(other, REQ_CLOCK);
}

static void clock_reference(struct vm *vm, u64 *tsc, u64 *ns)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	*tsc = vm->clock_ref_tsc;
	*ns = vm->clock_ref_ns;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
}

/** guest_get_clock() - KVM_GET_CLOCK. */
void guest_get_clock(struct vm *vm, struct kvm_clock_data *c)
{
	u64 ref_tsc, ref_ns, now;

	memset(c, 0, sizeof(*c));
	clock_reference(vm, &ref_tsc, &ref_ns);
	now = rdtsc_ordered();
	c->clock = ref_ns + cycles_to_ns(now - ref_tsc);
	c->host_tsc = now;
	c->realtime = ktime_get_real_ns();
	c->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	if (!check_tsc_unstable())
		c->flags |= KVM_CLOCK_TSC_STABLE;
}

/** guest_set_clock() - KVM_SET_CLOCK. -EINVAL for flags other than KVM_CLOCK_REALTIME. */
int guest_set_clock(struct vm *vm, const struct kvm_clock_data *c)
{
	unsigned long flags;
	unsigned int i;
	u64 clock = c->clock;
	struct vcpu *v;

	if (c->flags & ~(u32)KVM_CLOCK_REALTIME)
		return -EINVAL;
	if (c->flags & KVM_CLOCK_REALTIME) {
		u64 now = ktime_get_real_ns();

		if (now > c->realtime)
			clock += now - c->realtime;
	}
	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	vm->clock_ref_tsc = rdtsc_ordered();
	vm->clock_ref_ns = clock;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	vm_for_each_vcpu(i, v, vm)
		vcpu_request(v, REQ_CLOCK);
	return 0;
}

/* ns = ((cycles << shift) * mul) >> 32, with mul in the upper half of its range. */
static void clock_scale(u32 khz, u32 *mul, s8 *shift)
{
	u64 base = khz * 1000ull;

	*shift = 0;
	for (; base <= NSEC_PER_SEC; base <<= 1)
		(*shift)++;
	for (; base > 2 * NSEC_PER_SEC; base >>= 1)
		(*shift)--;
	*mul = div64_u64((u64)NSEC_PER_SEC << 32, base);
}

/*
 * Writes what begins with a version, as time pages do. That is odd while the rest changes, so that
 * another vCPU that looks waits. False where there is no memory for it.
 */
static bool write_versioned(struct vcpu *v, u64 gpa, void *page, unsigned int len)
{
	struct memory *mem = &v->vm->mem;
	u32 *version = page;

	if (mem_read(mem, gpa, version, sizeof(*version)))
		return false;
	*version = (*version | 1) + 2;
	if (mem_write(mem, gpa, version, sizeof(*version)))
		return false;
	smp_wmb(); /* odd version before the contents */
	mem_write(mem, gpa, page, len);
	smp_wmb(); /* contents before the even version */
	++*version;
	mem_write(mem, gpa, version, sizeof(*version));
	return true;
}

/** clock_update() - write the vCPU's time page. Outer loop, SRCU not held. */
void clock_update(struct vcpu *v)
{
	struct pvclock_vcpu_time_info t = {};
	u64 ref_tsc;
	int idx;

	if (!(v->kvmclock_msr & 1))
		return;
	clock_rebase(v);
	clock_reference(v->vm, &ref_tsc, &t.system_time);
	t.tsc_timestamp = ref_tsc + v->tsc_offset;
	clock_scale(tsc_khz, &t.tsc_to_system_mul, &t.tsc_shift);
	if (!check_tsc_unstable())
		t.flags |= PVCLOCK_TSC_STABLE_BIT;
	if (v->kvmclock_paused)
		t.flags |= PVCLOCK_GUEST_STOPPED;
	idx = srcu_read_lock(&v->vm->mem.srcu);
	if (write_versioned(v, v->kvmclock_msr & ~1ull, &t, sizeof(t)))
		v->kvmclock_paused = false;
	srcu_read_unlock(&v->vm->mem.srcu, idx);
}

/* The wall-clock time at which kvmclock was zero. */
static void write_wall_clock(struct vcpu *v, u64 gpa)
{
	struct pvclock_wall_clock w = {};
	struct kvm_clock_data now;
	u32 rem;
	int idx;

	guest_get_clock(v->vm, &now);
	w.sec = div_u64_rem(now.realtime - now.clock, NSEC_PER_SEC, &rem);
	w.nsec = rem;
	idx = srcu_read_lock(&v->vm->mem.srcu);
	write_versioned(v, gpa, &w, sizeof(w));
	srcu_read_unlock(&v->vm->mem.srcu, idx);
}

/* MSR_KVM_WALL_CLOCK*, written at once, and MSR_KVM_SYSTEM_TIME*, at the next entry. Sleeps. */
int clock_write_msr(struct vcpu *v, u32 index, u64 data)
{
	if (index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW) {
		v->wall_clock_msr = data;
		if (data)
			write_wall_clock(v, data);
		return 0;
	}
	v->kvmclock_msr = data;
	if (data & 1)
		vcpu_request(v, REQ_CLOCK);
	return 0;
}

/** guest_kvmclock_ctrl() - KVM_KVMCLOCK_CTRL. -EINVAL until the guest has enabled kvmclock. */
int guest_kvmclock_ctrl(struct vcpu *v)
{
	if (!(v->kvmclock_msr & 1))
		return -EINVAL;
	v->kvmclock_paused = true;
	vcpu_request(v, REQ_CLOCK);
	return 0;
}
