// SPDX-License-Identifier: GPL-2.0
/*
 * Guest time: the TSC offset, and kvmclock (Documentation/virt/kvm/x86/msr.rst describes the
 * guest's side).
 *
 * All vCPUs of a VM count from one reference pair (host TSC, nanoseconds), taken when the VM is
 * made or its clock set: so the clock is the same on all of them, and the "stable" flag is true as
 * long as the host's TSC is.
 */
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

/*
 * The offset for a TSC that userspace writes. A VMM restores its vCPUs one after the other: values
 * that belong together (within a second of where the last one would be by now) get one offset.
 */
static u64 common_offset(struct vm *vm, u64 data, u64 now)
{
	u64 offset = data - now, expected, apart;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	expected = vm->tsc_last_value + (now - vm->tsc_last_host);
	apart = max(expected, data) - min(expected, data);
	if (vm->tsc_last_host && apart < tsc_khz * 1000ull)
		offset = vm->tsc_last_offset;
	vm->tsc_last_value = data;
	vm->tsc_last_host = now;
	vm->tsc_last_offset = offset;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	return offset;
}

/** tsc_write() - write the guest's TSC. @host: for userspace; else TSC_ADJUST counts it as well. */
void tsc_write(struct vcpu *v, u64 data, bool host)
{
	u64 now = rdtsc_ordered(), offset = host ? common_offset(v->vm, data, now) : data - now;

	if (!host)
		v->tsc_adjust += offset - v->tsc_offset;
	tsc_set_offset(v, offset);
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
 * The reference for a time page, which counts forward from a TSC value that the guest has seen:
 * where its TSC was set back behind it, it moves to now. The others are told; a request ends a HLT.
 */
static void clock_reference(struct vcpu *v, u64 *tsc, u64 *ns)
{
	struct vm *vm = v->vm;
	unsigned long flags;
	struct vcpu *other;
	unsigned int i;
	bool behind;
	u64 now;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	now = rdtsc_ordered();
	behind = vm->clock_ref_tsc + v->tsc_offset > now + v->tsc_offset;
	if (behind) {
		vm->clock_ref_ns += cycles_to_ns(now - vm->clock_ref_tsc);
		vm->clock_ref_tsc = now;
	}
	*tsc = vm->clock_ref_tsc;
	*ns = vm->clock_ref_ns;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	vm_for_each_vcpu(i, other, vm)
		if (behind && other != v)
			vcpu_request(other, REQ_CLOCK);
}

/** guest_get_clock() - KVM_GET_CLOCK. */
void guest_get_clock(struct vm *vm, struct kvm_clock_data *c)
{
	unsigned long flags;

	memset(c, 0, sizeof(*c));
	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	c->host_tsc = rdtsc_ordered();
	c->clock = vm->clock_ref_ns + cycles_to_ns(c->host_tsc - vm->clock_ref_tsc);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	c->realtime = ktime_get_real_ns();
	c->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	if (!check_tsc_unstable())
		c->flags |= KVM_CLOCK_TSC_STABLE;
}

/** guest_set_clock() - KVM_SET_CLOCK. -EINVAL for flags other than KVM_CLOCK_REALTIME. */
int guest_set_clock(struct vm *vm, const struct kvm_clock_data *c)
{
	unsigned long flags;
	u64 clock = c->clock;

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
	vm_request(vm, REQ_CLOCK);
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

/** write_versioned() - write at @gpa while the u32 at @version_gpa is odd. False: no memory. */
bool write_versioned(struct memory *mem, u64 version_gpa, u64 gpa, const void *data,
		     unsigned int len)
{
	int idx = srcu_read_lock(&mem->srcu);
	bool there = false;
	u32 version;

	if (mem_read(mem, version_gpa, &version, sizeof(version)))
		goto out;
	version = (version | 1) + 2;
	if (mem_write(mem, version_gpa, &version, sizeof(version)))
		goto out;
	smp_wmb(); /* odd version before the contents */
	mem_write(mem, gpa, data, len);
	smp_wmb(); /* contents before the even version */
	version++;
	mem_write(mem, version_gpa, &version, sizeof(version));
	there = true;
out:
	srcu_read_unlock(&mem->srcu, idx);
	return there;
}

/** clock_update() - write the vCPU's time page. Outer loop, SRCU not held. */
void clock_update(struct vcpu *v)
{
	struct pvclock_vcpu_time_info t = {};
	u64 ref_tsc, gpa = v->kvmclock_msr & ~1ull;

	if (!(v->kvmclock_msr & 1))
		return;
	clock_reference(v, &ref_tsc, &t.system_time);
	t.tsc_timestamp = ref_tsc + v->tsc_offset;
	clock_scale(tsc_khz, &t.tsc_to_system_mul, &t.tsc_shift);
	if (!check_tsc_unstable())
		t.flags |= PVCLOCK_TSC_STABLE_BIT;
	if (v->kvmclock_paused)
		t.flags |= PVCLOCK_GUEST_STOPPED;
	if (write_versioned(&v->vm->mem, gpa, gpa + 4, &t.pad0, sizeof(t) - 4))
		v->kvmclock_paused = false;
}

/** clock_write_wall() - MSR_KVM_WALL_CLOCK*: the wall-clock time of kvmclock's 0. Sleeps. */
void clock_write_wall(struct vcpu *v, u64 gpa)
{
	struct pvclock_wall_clock w = {};
	struct kvm_clock_data now;

	guest_get_clock(v->vm, &now);
	w.sec = div_u64_rem(now.realtime - now.clock, NSEC_PER_SEC, &w.nsec);
	write_versioned(&v->vm->mem, gpa, gpa + 4, &w.sec, sizeof(w) - 4);
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
