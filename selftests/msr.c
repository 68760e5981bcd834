// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs: a sweep of all bitmap ranges and random indices shows no value of the
 * host (security row 15), and bad values for the base MSRs are #GP (row 20).
 */
#include <stdio.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define RESULT_GPA VM_FREE_GPA

struct range {
	u32 first, count;
};

static const struct range ranges[] = {
	{ 0, 0x2000 },	       { 0xc0000000, 0x2000 }, { 0xc0010000, 0x2000 },
	{ 0x40000000, 0x100 }, { 0x4b564d00, 0x100 },
};

/* Found by the guest: every index it could read, and the value. */
struct found {
	u64 index, value;
};

static volatile u64 n_found, n_refused, bad_vector, bad_index;

static void try_read(u32 index)
{
	struct found *found = (struct found *)RESULT_GPA;
	u64 val, vec = guest_try_rdmsr(index, &val);

	if (vec == NO_EXCEPTION) {
		found[n_found].index = index;
		found[n_found].value = val;
		n_found++;
	} else {
		n_refused++;
		if (vec != 13 || guest_ex_error) {
			bad_vector = vec;
			bad_index = index;
		}
	}
}

static void guest_sweep(u64 arg)
{
	u64 rnd = 88172645463325252ULL, i, r;

	(void)arg;
	for (r = 0; r < ARRAY_LEN(ranges); r++)
		for (i = 0; i < ranges[r].count; i++)
			try_read(ranges[r].first + i);
	for (i = 0; i < 2000; i++) {
		rnd ^= rnd << 13;
		rnd ^= rnd >> 7;
		rnd ^= rnd << 17;
		try_read(rnd);
	}
	guest_done();
}

/*
 * MSRs whose value in a fresh guest may well be that of the host: constants of
 * the architecture and of the CPU model that the ABI hands through.
 */
static bool may_match(u32 index)
{
	switch (index) {
	case 0x10:  /* TSC */
	case 0x1b:  /* APIC base */
	case 0x8b:  /* microcode level, kept in step with the host */
	case 0xfe:  /* MTRR capabilities */
	case 0x179: /* MCG_CAP */
	case 0x17a ... 0x17b:
	case 0x198:	      /* PERF_STATUS: a constant, the same in QEMU and KVM */
	case 0x1a0:	      /* MISC_ENABLE */
	case 0x200 ... 0x2ff: /* MTRRs, PAT */
	case 0x400 ... 0x47f: /* MCE banks */
	case 0xc0000080:      /* EFER */
	case 0xc0000081 ... 0xc0000084:
	case 0xc0010015: /* HWCR */
	case 0xc0010055: /* interrupt pending */
	case 0xc0011029: /* DE_CFG */
		return true;
	default:
		return false;
	}
}

static void test_sweep(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu;
	struct found *found = vm_hva(vm, RESULT_GPA);
	int fd = host_msr_open(), leaks = 0;
	u64 i, n;

	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, guest_sweep, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	n = *guest_ptr(vm, n_found);
	ktap_diag("%llu readable, %llu refused", (unsigned long long)n,
		  (unsigned long long)*guest_ptr(vm, n_refused));
	CHECKF(!*guest_ptr(vm, bad_vector), "vector %llu at MSR %#llx",
	       (unsigned long long)*guest_ptr(vm, bad_vector),
	       (unsigned long long)*guest_ptr(vm, bad_index));
	CHECK(*guest_ptr(vm, n_refused) > n);
	for (i = 0; i < n; i++) {
		u64 host;

		if (pread(fd, &host, 8, found[i].index) != 8 || host != found[i].value)
			continue;
		if (host && !may_match(found[i].index)) {
			ktap_diag("MSR %#llx: the host's value %#llx",
				  (unsigned long long)found[i].index, (unsigned long long)host);
			leaks++;
		}
	}
	CHECK_EQ(leaks, 0);
}

/* x2APIC registers are not readable in xAPIC mode, whatever the host's APIC is in. */
static void guest_x2apic_off(u64 arg)
{
	u64 val;
	u32 i;

	(void)arg;
	for (i = 0x800; i < 0xc00; i++)
		guest_assert_eq(guest_try_rdmsr(i, &val), 13);
	guest_done();
}

static void run_checks(void (*fn)(u64))
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu;

	vm_irqchip(vm);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(vcpu, fn, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

static void test_x2apic_off(void)
{
	run_checks(guest_x2apic_off);
}

/* Writing 0 and all-ones to everything the guest doesn't live by leaves the host's MSRs. */
static bool guest_needs(u32 index)
{
	return index == 0x10 || index == 0x1b || index == 0x3b || index == 0x6e0 ||
	       (index >= 0x800 && index < 0xc00) || index == 0x11 || index == 0x12 ||
	       index == 0xc0000080 || index == 0xc0000100 || index == 0xc0000101 ||
	       (index >= 0x4b564d00 && index < 0x4b564e00);
}

static void guest_write_sweep(u64 arg)
{
	u64 r, i;

	(void)arg;
	for (r = 0; r < ARRAY_LEN(ranges); r++) {
		for (i = 0; i < ranges[r].count; i++) {
			u32 index = ranges[r].first + i;

			if (guest_needs(index))
				continue;
			guest_try_wrmsr(index, ~0ULL);
			guest_try_wrmsr(index, 0);
		}
	}
	guest_done();
}

static const u32 host_list[] = {
	0x1b,	    0x48,	0x10a,	    0x174,	0x175,	    0x176,
	0x17a,	    0x1d9,	0x277,	    0x2ff,	0x200,	    0x201,
	0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000103,
	0xc0000104, 0xc0010010, 0xc0010015, 0xc0010114, 0xc0010117,
};

static void test_write_sweep(void)
{
	u64 before[ARRAY_LEN(host_list)], after;
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	int fd = host_msr_open();
	u32 i;

	for (i = 0; i < ARRAY_LEN(host_list); i++)
		if (pread(fd, &before[i], 8, host_list[i]) != 8)
			before[i] = 0xdead;
	vcpu_set_guest(vcpu, guest_write_sweep, 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	for (i = 0; i < ARRAY_LEN(host_list); i++) {
		if (pread(fd, &after, 8, host_list[i]) != 8)
			after = 0xdead;
		CHECKF(after == before[i], "host MSR %#x: %#llx, then %#llx", host_list[i],
		       (unsigned long long)before[i], (unsigned long long)after);
	}
}

/* Non-canonical addresses in the base MSRs. */
static const u32 base_msrs[] = {
	0xc0000100, 0xc0000101, 0xc0000102, 0xc0000082, 0xc0000083,
};

static u64 base_result[ARRAY_LEN(base_msrs)];

static void guest_noncanonical(u64 arg)
{
	u32 i;

	for (i = 0; i < ARRAY_LEN(base_msrs); i++) {
		u64 old = rdmsr(base_msrs[i]);

		base_result[i] = guest_try_wrmsr(base_msrs[i], arg);
		guest_sync(i); /* an exit with the value in place */
		wrmsr(base_msrs[i], old);
	}
	guest_done();
}

/* Whether this CPU itself faults: QEMU's doesn't for MSRs that aren't intercepted. */
static bool cpu_checks_canonical(int fd)
{
	u64 old, bad = 0x8000000000000000ULL;
	bool faults;

	if (pread(fd, &old, 8, 0xc0000083) != 8)
		return false;
	faults = pwrite(fd, &bad, 8, 0xc0000083) != 8;
	if (!faults)
		CHECK(pwrite(fd, &old, 8, 0xc0000083) == 8);
	return faults;
}

static void test_noncanonical(void)
{
	static const u64 values[] = { 1ULL << 47, 1ULL << 63, 0xffff7fffffffffffULL };
	int fd = host_msr_open();
	bool silent = false;
	u32 v, i;

	for (v = 0; v < ARRAY_LEN(values); v++) {
		struct vm *vm = vm_create_image();
		struct vcpu *vcpu = vcpu_create(vm, 0);

		vcpu_set_guest(vcpu, guest_noncanonical, values[v]);
		for (i = 0; i < ARRAY_LEN(base_msrs); i++) {
			u64 got;

			CHECK_EQ(vcpu_run_guest(vcpu), i);
			got = (*guest_ptr(vm, base_result))[i];
			if (got == 13)
				continue;
			CHECK_EQ(got, NO_EXCEPTION);
			CHECKF(!cpu_checks_canonical(fd), "MSR %#x took %#llx", base_msrs[i],
			       (unsigned long long)values[v]);
			silent = true;
		}
		CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
		vm_destroy(vm);
	}
	if (silent)
		ktap_skip("this QEMU's WRMSR takes non-canonical bases; the host is unharmed");
}

/* Through KVM_SET_MSRS the module alone decides. */
static void test_noncanonical_ioctl(void)
{
	struct vm *vm = vm_create_image();
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 val;
	u32 i;

	for (i = 0; i < ARRAY_LEN(base_msrs); i++) {
		vcpu_set_msr(vcpu, base_msrs[i], 0x123456);
		CHECKF(!vcpu_try_set_msr(vcpu, base_msrs[i], 1ULL << 63), "MSR %#x", base_msrs[i]);
		val = vcpu_get_msr(vcpu, base_msrs[i]);
		CHECK_EQ(val, 0x123456);
	}
}

/* PAT, EFER, APIC base, MTRRs: bad values are #GP and change nothing. */
static void guest_bad_values(u64 arg)
{
	static const struct {
		u32 index;
		u64 bad;
	} bad[] = {
		{ 0x277, 0x0207040600070406 }, /* type 2 is reserved */
		{ 0x277, 0xff },
		{ 0xc0000080, 0xffffffffffffffff },
		{ 0x1b, 1ULL << 60 | 0xfee00900 },
		{ 0x2ff, 0xffffffff },
		{ 0x250, 0x0202020202020202 }, /* fixed MTRR types */
		{ 0x200, 1ULL << 62 },
	};
	u32 i;

	(void)arg;
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		u64 old = rdmsr(bad[i].index);
		u64 vec = guest_try_wrmsr(bad[i].index, bad[i].bad);

		if (vec != 13)
			guest_fail("bad value taken (MSR, vector)", __LINE__, bad[i].index, vec);
		guest_assert_eq(rdmsr(bad[i].index), old);
	}
	guest_done();
}

static void test_bad_values(void)
{
	run_checks(guest_bad_values);
}

/* TSC: grows, TSC_ADJUST moves it, KVM_SET_MSRS sets it. */
static void guest_tsc(u64 arg)
{
	u64 a, b;

	(void)arg;
	a = rdtsc();
	b = rdtsc();
	guest_assert(b > a);
	a = rdmsr(0x10);
	guest_assert(a > b);
	b = rdmsr(0x3b);
	wrmsr(0x3b, b + (1ULL << 40));
	guest_assert(rdtsc() > a + (1ULL << 40));
	wrmsr(0x3b, b);
	a = rdtsc();
	guest_assert(a < 1ULL << 40);
	wrmsr(0x10, 1ULL << 50);
	guest_assert(rdtsc() >= 1ULL << 50);
	guest_assert(rdtsc() < (1ULL << 50) + (1ULL << 40));
	guest_done();
}

static void test_tsc(void)
{
	run_checks(guest_tsc);
}

/* What Debian's kernels touch early must be accepted or #GP, never death. */
static void guest_debian(u64 arg)
{
	static const u32 list[] = {
		0xc0010007, 0xc0010015, 0xc0010000, 0x8b,	0xc0011029, 0xc0010140,
		0xc0010141, 0x1a0,	0x10a,	    0x122,	0xce,	    0x140,
		0x48,	    0x49,	0xc0000103, 0xda0,	0xc0000104, 0xc001001f,
		0xc0010055, 0xc0010062, 0xc0010200, 0xc00000e7, 0xc00000e8,
	};
	u64 val;
	u32 i;

	(void)arg;
	for (i = 0; i < ARRAY_LEN(list); i++) {
		u64 vec = guest_try_rdmsr(list[i], &val);

		guest_assert(vec == 13 || vec == NO_EXCEPTION);
		if (vec == NO_EXCEPTION) {
			vec = guest_try_wrmsr(list[i], val);
			guest_assert(vec == 13 || vec == NO_EXCEPTION);
		}
	}
	/* Performance counters that do not count: conformance suites reset them all. */
	for (i = 0xc0010000; i < 0xc0010008; i++) {
		guest_assert_eq(guest_try_wrmsr(i, 0x43ffff), NO_EXCEPTION);
		guest_assert_eq(guest_try_rdmsr(i, &val), NO_EXCEPTION);
		guest_assert_eq(val, 0);
	}
	guest_done();
}

static void test_debian(void)
{
	run_checks(guest_debian);
}

static const struct ktap_test tests[] = {
	{ "sweep", test_sweep, 120 },
	{ "x2apic_off", test_x2apic_off, 0 },
	{ "write_sweep", test_write_sweep, 120 },
	{ "noncanonical", test_noncanonical, 0 },
	{ "noncanonical_ioctl", test_noncanonical_ioctl, 0 },
	{ "bad_values", test_bad_values, 0 },
	{ "tsc", test_tsc, 0 },
	{ "debian", test_debian, 0 },
};

KTAP_MAIN(tests)
