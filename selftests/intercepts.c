// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions that the module intercepts to keep the host safe, at CPL 0 and
 * 3 (security row 1 and 16), and task switches.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

#define CANARY	   0x5afe5afe5afe5afeULL
#define CANARY_GPA VM_FREE_GPA

#define MSR_PLATFORM_INFO	  0xce
#define MSR_MISC_FEATURES	  0x140
#define PLATFORM_INFO_CPUID_FAULT (1ULL << 31)

static struct vm *create_image_vm(struct vcpu **vcpu, void (*fn)(u64), u64 arg)
{
	struct vm *vm = vm_create_image();

	*vcpu = vcpu_create(vm, 0);
	vcpu_set_guest(*vcpu, fn, arg);
	return vm;
}

/* Run a guest function that checks for itself. */
static void run_checks(void (*fn)(u64), u64 arg)
{
	struct vcpu *vcpu;
	struct vm *vm = create_image_vm(&vcpu, fn, arg);

	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	vm_destroy(vm);
}

/* Drop to CPL 3 in the same function, with ports allowed (IOPL 3). */
static void enter_cpl3(void)
{
	asm volatile("mov %%rsp, %%rax\n\t"
		     "pushq %0\n\t"
		     "pushq %%rax\n\t"
		     "pushq $0x3002\n\t"
		     "pushq %1\n\t"
		     "pushq $1f\n\t"
		     "iretq\n"
		     "1:"
		     :
		     : "i"(SEL_UDATA), "i"(SEL_UCODE64)
		     : "rax", "memory", "cc");
}

/*
 * The SVM instructions. With EFER.SVME clear, as it is for our guests, VMRUN,
 * VMLOAD, VMSAVE, CLGI, STGI, SKINIT and INVLPGA are #UD at any CPL (APM
 * vol. 3). RAX is the address of a canary that must stay.
 */
#define TRY_SVM(insn) \
	do { \
		u64 _v; \
		GUEST_TRY(_v, insn, OUT(), IN("a"(CANARY_GPA), "c"(0))); \
		guest_assert(_v == 6 || (cpl && _v == 13)); \
		if (!cpl) \
			guest_assert_eq(_v, 6); \
	} while (0)

static void guest_svm_insns(u64 cpl)
{
	if (cpl)
		enter_cpl3();
	TRY_SVM(".byte 0x0f, 0x01, 0xd8"); /* VMRUN */
	TRY_SVM(".byte 0x0f, 0x01, 0xda"); /* VMLOAD */
	TRY_SVM(".byte 0x0f, 0x01, 0xdb"); /* VMSAVE */
	TRY_SVM(".byte 0x0f, 0x01, 0xdc"); /* STGI */
	TRY_SVM(".byte 0x0f, 0x01, 0xdd"); /* CLGI */
	TRY_SVM(".byte 0x0f, 0x01, 0xde"); /* SKINIT */
	TRY_SVM(".byte 0x0f, 0x01, 0xdf"); /* INVLPGA */
	guest_done();
}

static void svm_insns(u64 cpl)
{
	struct vcpu *vcpu;
	struct vm *vm = create_image_vm(&vcpu, guest_svm_insns, cpl);
	u64 *canary = vm_hva(vm, CANARY_GPA);
	int i;

	for (i = 0; i < 512; i++)
		canary[i] = CANARY;
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	for (i = 0; i < 512; i++)
		CHECK_EQ(canary[i], CANARY);
}

static void test_svm_insns_cpl0(void)
{
	svm_insns(0);
}

static void test_svm_insns_cpl3(void)
{
	svm_insns(3);
}

/* EFER.SVME can't be set by a guest without the SVM feature. */
static void guest_svme(u64 arg)
{
	u32 r[4];

	(void)arg;
	cpuid(0x80000000, 0, r);
	if (r[0] >= 0x80000001) {
		cpuid(0x80000001, 0, r);
		guest_sync(r[2] >> 2 & 1);
	}
	guest_assert_eq(guest_try_wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 12), 13);
	guest_assert_eq(rdmsr(0xc0000080) & 1 << 12, 0);
	guest_done();
}

static void test_svme(void)
{
	struct vcpu *vcpu;
	struct vm *vm = create_image_vm(&vcpu, guest_svme, 0);
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm->dev);
	u32 i;

	if (vm_is_kvm()) {
		for (i = 0; i < cpuid->nent; i++)
			if (cpuid->entries[i].function == 0x80000001)
				cpuid->entries[i].ecx &= ~4u;
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid));
	}
	CHECK_EQ(vcpu_run_guest(vcpu), 0);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* MONITOR and MWAIT: #UD when CPUID doesn't offer them, or no-ops. Never a sleeping host CPU. */
static void guest_mwait(u64 arg)
{
	u64 v;

	(void)arg;
	GUEST_TRY(v, "monitor", OUT(), IN("a"(CANARY_GPA), "c"(0), "d"(0)));
	guest_assert(v == 6 || v == NO_EXCEPTION);
	GUEST_TRY(v, "mwait", OUT(), IN("a"(0), "c"(0)));
	guest_assert(v == 6 || v == NO_EXCEPTION);
	enter_cpl3();
	GUEST_TRY(v, "mwait", OUT(), IN("a"(0), "c"(0)));
	guest_assert(v == 6 || v == 13 || v == NO_EXCEPTION);
	guest_done();
}

static void test_mwait(void)
{
	run_checks(guest_mwait, 0);
}

/*
 * CPUID faulting, by Intel's MSRs as KVM has them (gVisor lives by it): with MISC_FEATURES_ENABLES[0]
 * CPUID is #GP above CPL 0.
 */
static void guest_cpuid_fault(u64 arg)
{
	u64 val, v;
	u32 eax = 0, ebx, ecx = 0, edx;

	(void)arg;
	guest_assert_eq(guest_try_rdmsr(MSR_PLATFORM_INFO, &val), NO_EXCEPTION);
	guest_assert_eq(val, PLATFORM_INFO_CPUID_FAULT);
	guest_assert_eq(guest_try_wrmsr(MSR_PLATFORM_INFO, val), 13);
	guest_assert_eq(guest_try_rdmsr(MSR_MISC_FEATURES, &val), NO_EXCEPTION);
	guest_assert_eq(val, 0);
	guest_assert_eq(guest_try_wrmsr(MSR_MISC_FEATURES, 2), 13);
	guest_assert_eq(guest_try_wrmsr(MSR_MISC_FEATURES, 1), NO_EXCEPTION);
	guest_sync(1);
	guest_assert_eq(guest_try_rdmsr(MSR_PLATFORM_INFO, &val), 13);
	GUEST_TRY(v, "cpuid", OUT("+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)), IN());
	guest_assert_eq(v, NO_EXCEPTION);
	enter_cpl3();
	GUEST_TRY(v, "cpuid", OUT("+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)), IN());
	guest_assert_eq(v, 13);
	guest_assert_eq(guest_ex_error, 0);
	guest_sync(2);
	GUEST_TRY(v, "cpuid", OUT("+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)), IN());
	guest_assert_eq(v, NO_EXCEPTION);
	guest_done();
}

static void test_cpuid_fault(void)
{
	struct kvm_enable_cap hide = { .cap = KVM_CAP_MSR_PLATFORM_INFO };
	struct vcpu *vcpu;
	struct vm *vm = create_image_vm(&vcpu, guest_cpuid_fault, 0);

	CHECK_EQ(vcpu_run_guest(vcpu), 1);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_MISC_FEATURES), 1);
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_PLATFORM_INFO), PLATFORM_INFO_CPUID_FAULT);
	/* What the guest uses is not taken away, other bits are kept as they are. */
	CHECK(!vcpu_try_set_msr(vcpu, MSR_PLATFORM_INFO, 0));
	CHECK(vcpu_try_set_msr(vcpu, MSR_PLATFORM_INFO, PLATFORM_INFO_CPUID_FAULT | 0xff00));
	CHECK_EQ(vcpu_get_msr(vcpu, MSR_PLATFORM_INFO), PLATFORM_INFO_CPUID_FAULT | 0xff00);
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &hide));
	CHECK_EQ(vcpu_run_guest(vcpu), 2);
	CHECK(vcpu_try_set_msr(vcpu, MSR_MISC_FEATURES, 0));
	CHECK(vcpu_try_set_msr(vcpu, MSR_PLATFORM_INFO, 0));
	CHECK(!vcpu_try_set_msr(vcpu, MSR_MISC_FEATURES, 1));
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* RDPMC: bad counters and CPL 3 without CR4.PCE are #GP. */
static void guest_rdpmc(u64 arg)
{
	u64 v;
	u32 lo, hi;

	(void)arg;
	GUEST_TRY(v, "rdpmc", OUT("=a"(lo), "=d"(hi)), IN("c"(0x12345)));
	guest_assert_eq(v, 13);
	enter_cpl3();
	GUEST_TRY(v, "rdpmc", OUT("=a"(lo), "=d"(hi)), IN("c"(0)));
	guest_assert_eq(v, 13);
	guest_done();
}

static void test_rdpmc(void)
{
	run_checks(guest_rdpmc, 0);
}

/* XSETBV: #UD without OSXSAVE, #GP for bad values, bad registers and CPL 3. */
static u64 try_xsetbv(u32 index, u64 val)
{
	u64 v;

	GUEST_TRY(v, "xsetbv", OUT(), IN("c"(index), "a"((u32)val), "d"((u32)(val >> 32))));
	return v;
}

static void guest_xsetbv(u64 arg)
{
	u32 lo, hi;

	(void)arg;
	guest_assert_eq(try_xsetbv(0, 1), 6);
	write_cr4(read_cr4() | 1 << 18);
	guest_assert_eq(try_xsetbv(0, 0), 13); /* x87 clear */
	guest_assert_eq(try_xsetbv(0, 2), 13);
	guest_assert_eq(try_xsetbv(0, 5), 13); /* AVX without SSE */
	guest_assert_eq(try_xsetbv(0, 1ULL << 63 | 3), 13);
	guest_assert_eq(try_xsetbv(0, 1ULL << 40 | 3), 13);
	guest_assert_eq(try_xsetbv(1, 3), 13);
	guest_assert_eq(try_xsetbv(0xffffffff, 3), 13);
	guest_assert_eq(try_xsetbv(0, 3), NO_EXCEPTION);
	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	guest_assert_eq(lo, 3);
	guest_assert_eq(hi, 0);
	guest_assert_eq(try_xsetbv(0, 1), NO_EXCEPTION);
	enter_cpl3();
	guest_assert_eq(try_xsetbv(0, 3), 13);
	guest_done();
}

static void test_xsetbv(void)
{
	run_checks(guest_xsetbv, 0);
}

/* WBINVD and INVD: nothing happens to the host, CPL 3 gets #GP. */
static void guest_cache(u64 arg)
{
	u64 v;

	(void)arg;
	*(volatile u64 *)CANARY_GPA = CANARY;
	GUEST_TRY(v, "wbinvd", OUT(), IN());
	guest_assert_eq(v, NO_EXCEPTION);
	GUEST_TRY(v, "invd", OUT(), IN());
	guest_assert_eq(v, NO_EXCEPTION);
	guest_assert_eq(*(volatile u64 *)CANARY_GPA, CANARY);
	enter_cpl3();
	GUEST_TRY(v, "wbinvd", OUT(), IN());
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "invd", OUT(), IN());
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "hlt", OUT(), IN());
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "mov %0, %%cr3", OUT(), IN("r"(0ULL)));
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "rdmsr", OUT(), IN("a"(0), "d"(0), "c"(0x1b)));
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "wrmsr", OUT(), IN("a"(0), "d"(0), "c"(0x1b)));
	guest_assert_eq(v, 13);
	guest_done();
}

static void test_privileged(void)
{
	run_checks(guest_cache, 0);
}

/* INVLPG and TLB flushes have their effect: a remapped page shows its new memory. */
static void guest_invlpg(u64 arg)
{
	u64 *pd = (u64 *)(VM_PT_GPA + 0x2000);
	volatile u64 *window = (u64 *)(30ULL << 21); /* 60 MiB: remapped below */

	(void)arg;
	*(volatile u64 *)(8ULL << 21) = 1;
	*(volatile u64 *)(9ULL << 21) = 2;
	pd[30] = 8ULL << 21 | 0x87;
	asm volatile("invlpg (%0)" : : "r"(window) : "memory");
	guest_assert_eq(*window, 1);
	pd[30] = 9ULL << 21 | 0x87;
	asm volatile("invlpg (%0)" : : "r"(window) : "memory");
	guest_assert_eq(*window, 2);
	pd[30] = 8ULL << 21 | 0x87;
	write_cr3(read_cr3());
	guest_assert_eq(*window, 1);
	pd[30] = 9ULL << 21 | 0x187; /* global */
	write_cr4(read_cr4() | 1 << 7);
	guest_assert_eq(*window, 2);
	pd[30] = 8ULL << 21 | 0x87;
	write_cr4(read_cr4() & ~(1ULL << 7));
	guest_assert_eq(*window, 1);
	guest_done();
}

static void test_invlpg(void)
{
	run_checks(guest_invlpg, 0);
}

/* What the emulator can't do is #UD for user code, which else could end the VM. */
#define DEVICE_GPA 0xe0000000ULL

static void guest_user_emulation(u64 arg)
{
	u64 vector;

	enter_cpl3();
	GUEST_TRY(vector, "pxor (%%rax), %%xmm0", OUT(), IN("a"(arg)));
	guest_assert_eq(vector, 6);
	/* What it can do with the FPU's registers it does, for user code too. */
	GUEST_TRY(vector, "movq %%xmm0, (%%rax)", OUT(), IN("a"(arg)));
	guest_assert_eq(vector, NO_EXCEPTION);
	guest_done();
}

static void test_user_emulation(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };
	struct vcpu *vcpu;
	struct vm *vm = create_image_vm(&vcpu, guest_user_emulation, DEVICE_GPA);

	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, DEVICE_GPA);
	CHECK_EQ(vcpu->run->mmio.len, 8);
	CHECK(vcpu->run->mmio.is_write);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
	vm_destroy(vm);
	vm = create_image_vm(&vcpu, guest_user_emulation, DEVICE_GPA);
	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	vcpu_expect(vcpu, KVM_EXIT_INTERNAL_ERROR);
	vm_destroy(vm);
}

/* VMMCALL of an unknown number: -KVM_ENOSYS; from CPL 3: -KVM_EPERM (security row 23). */
static void guest_vmmcall(u64 arg)
{
	u64 ret;

	(void)arg;
	asm volatile("vmmcall" : "=a"(ret) : "a"(0x1234), "b"(0) : "memory");
	guest_assert_eq(ret, -1000LL);
	enter_cpl3();
	asm volatile("vmmcall" : "=a"(ret) : "a"(1), "b"(0) : "memory");
	guest_assert_eq(ret, -1LL);
	guest_done();
}

static void test_vmmcall(void)
{
	run_checks(guest_vmmcall, 0);
}

/* CPUID: OSXSAVE follows CR4, the signature leaf, and leaves out of range do no harm. */
static void guest_cpuid(u64 arg)
{
	u32 r[4], i;

	(void)arg;
	cpuid(0, 0, r);
	guest_assert(r[0] >= 1);
	cpuid(1, 0, r);
	guest_assert_eq(r[1] >> 24, 0);
	guest_assert(!(r[2] & 1u << 27)); /* OSXSAVE follows CR4 */
	write_cr4(read_cr4() | 1 << 18);
	cpuid(1, 0, r);
	guest_assert(r[2] & 1u << 27);
	cpuid(0x40000000, 0, r);
	guest_assert_eq(r[1], 0x4b4d564b); /* "KVMK" */
	guest_assert_eq(r[2], 0x564b4d56);
	guest_assert_eq(r[3], 0x4d);
	for (i = 0; i < 64; i++)
		cpuid(0x80000000 + i, i & 3, r);
	guest_done();
}

static void test_cpuid(void)
{
	run_checks(guest_cpuid, 0);
}

/*
 * A loop of #AC and of #DB that never leaves guest mode on real hardware
 * (CVE-2015-5307, CVE-2015-8104) must end within a second of SIGKILL.
 */
static void guest_ac_loop(u64 arg)
{
	u64 *idt = (u64 *)VM_IDT_GPA;

	(void)arg;
	/* CPL 3 #AC handler: its delivery misaligns again. CR0.AM and RFLAGS.AC on. */
	write_cr0(read_cr0() | 1 << 18);
	idt[2 * 17] |= 3ULL << 45;
	asm volatile("mov %%rsp, %%rax\n\t"
		     "pushq %0\n\t"
		     "lea -3(%%rax), %%rax\n\t"
		     "pushq %%rax\n\t"
		     "pushq $0x43002\n\t"
		     "pushq %1\n\t"
		     "pushq $1f\n\t"
		     "iretq\n"
		     "1: mov 1(%%rsp), %%rax\n\t"
		     "jmp 1b"
		     :
		     : "i"(SEL_UDATA), "i"(SEL_UCODE64)
		     : "rax", "memory", "cc");
}

static volatile u64 watched_stack[64] __attribute__((aligned(64)));

static void guest_db_loop(u64 arg)
{
	(void)arg;
	/* A data breakpoint on the stack that #DB itself pushes to. */
	asm volatile("mov %0, %%dr0" : : "r"(&watched_stack[56]));
	asm volatile("mov %0, %%dr7" : : "r"(0xb0703ULL)); /* L0 G0, r/w, 8 bytes */
	asm volatile("mov %0, %%rsp\n"
		     "1: push %%rax; pop %%rax; jmp 1b"
		     :
		     : "r"(&watched_stack[60]));
}

static void nothing(struct guest_frame *frame)
{
	(void)frame;
}

static void killable(void (*fn)(u64))
{
	struct timespec start, end, pause = { .tv_nsec = 300000000 };
	pid_t pid;
	int status;

	pid = fork();
	if (!pid) {
		struct vcpu *vcpu;
		struct vm *vm = create_image_vm(&vcpu, fn, 0);

		(*guest_ptr(vm, guest_handlers))[17] = nothing;
		(*guest_ptr(vm, guest_handlers))[1] = nothing;
		vcpu_run(vcpu);
		for (;;)
			pause.tv_nsec = 0;
	}
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid);
	clock_gettime(CLOCK_MONOTONIC, &end);
	CHECK((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 < 1000);
}

static void test_ac_loop(void)
{
	killable(guest_ac_loop);
}

static void test_db_loop(void)
{
	killable(guest_db_loop);
}

/* The guest's own single-step: #DB with DR6.BS after one instruction. */
static volatile u64 db_count, db_dr6;

static void db_handler(struct guest_frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	db_dr6 = dr6;
	db_count++;
	f->rflags &= ~0x100ULL;
}

static void guest_single_step(u64 arg)
{
	(void)arg;
	guest_handlers[1] = db_handler;
	asm volatile("pushf; orq $0x100, (%%rsp); popf; nop; nop; nop" : : : "memory", "cc");
	guest_assert_eq(db_count, 1);
	guest_assert(db_dr6 & 1 << 14);
	/* Over an intercepted instruction too. */
	db_count = 0;
	asm volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; mov $0x80, %%edx\n\t"
		     "pushf; orq $0x100, (%%rsp); popf; cpuid; nop; nop"
		     :
		     :
		     : "memory", "cc", "rax", "rbx", "rcx", "rdx");
	guest_assert_eq(db_count, 1);
	guest_done();
}

static void test_single_step(void)
{
	run_checks(guest_single_step, 0);
}

/* A task switch by far JMP to a 32-bit TSS. */
PAYLOAD(task, ".code32\n"
	      "ljmp $0x88, $0\n"
	      "1: out %al, $0x30\n"
	      "hlt\n"
	      ".skip 0x80 - (. - task_start)\n"
	      "out %eax, $0x31\n"
	      "hlt\n");

static void test_task_switch(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u64 *gdt = vm_hva(vm, VM_GDT_GPA);
	u32 *tss = vm_hva(vm, 0x18000);
	struct kvm_sregs s;
	int got;

	/* Selector 0x80: the current TSS, 0x88: the new one. */
	gdt[0x80 / 8] = 0x00008b0000000067ULL | 0x17000ULL << 16;
	gdt[0x88 / 8] = 0x0000890000000067ULL | 0x18000ULL << 16;
	tss[0x20 / 4] = VM_CODE_GPA + 0x80; /* EIP */
	tss[0x24 / 4] = 2;		    /* EFLAGS */
	tss[0x28 / 4] = 0x1234;		    /* EAX */
	tss[0x38 / 4] = 0x1e000;	    /* ESP */
	tss[0x48 / 4] = SEL_DATA;	    /* ES, CS, SS, DS, FS, GS */
	tss[0x4c / 4] = SEL_CODE32;
	tss[0x50 / 4] = SEL_DATA;
	tss[0x54 / 4] = SEL_DATA;
	tss[0x58 / 4] = SEL_DATA;
	tss[0x5c / 4] = SEL_DATA;
	vm_load_payload(vm, VM_CODE_GPA, task);
	vcpu_set_mode(vcpu, MODE_PM32, 0, VM_CODE_GPA);
	vcpu_get_sregs(vcpu, &s);
	s.tr.selector = 0x80;
	s.tr.base = 0x17000;
	vcpu_set_sregs(vcpu, &s);
	got = vcpu_run(vcpu);
	if (got != KVM_EXIT_IO)
		vcpu_dump(vcpu);
	CHECKF(got == KVM_EXIT_IO, "%s", vm_exit_name(got));
	CHECK_EQ(vcpu->run->io.port, 0x31);
	CHECK_EQ(*(u32 *)((char *)vcpu->run + vcpu->run->io.data_offset), 0x1234);
	vcpu_get_sregs(vcpu, &s);
	CHECK_EQ(s.tr.selector, 0x88);
	CHECK_EQ(s.tr.base, 0x18000);
}

/* Descriptor-table reads give the guest's own, SMSW its own CR0 (Popek and Goldberg). */
static void guest_tables(u64 arg)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) dt;
	u64 cr0;
	u16 sel;

	(void)arg;
	asm volatile("sgdt %0" : "=m"(dt));
	guest_assert_eq(dt.base, VM_GDT_GPA);
	guest_assert_eq(dt.limit, SEL_TSS(VM_MAX_VCPUS) - 1);
	asm volatile("sidt %0" : "=m"(dt));
	guest_assert_eq(dt.base, VM_IDT_GPA);
	asm volatile("str %0" : "=r"(sel));
	guest_assert_eq(sel, SEL_TSS(0));
	asm volatile("sldt %0" : "=r"(sel));
	guest_assert_eq(sel, 0);
	asm volatile("smsw %0" : "=r"(cr0));
	guest_assert_eq((u16)cr0, (u16)read_cr0());
	write_cr0(read_cr0() | 8); /* TS */
	asm volatile("smsw %0" : "=r"(cr0));
	guest_assert(cr0 & 8);
	asm volatile("clts");
	guest_assert(!(read_cr0() & 8));
	guest_done();
}

static void test_tables(void)
{
	run_checks(guest_tables, 0);
}

/* Bad control-register writes are #GP. */
static void guest_bad_crs(u64 is_kvm)
{
	u64 v;

	/*
	 * The processor checks CR0 itself, and QEMU's doesn't: there nothing
	 * faults that the hypervisor has no reason to intercept. So PG without
	 * PE isn't tried, and the upper half may just be dropped.
	 */
	GUEST_TRY(v, "mov %0, %%cr0", OUT(), IN("r"(read_cr0() | 1ULL << 32)));
	guest_assert(v == 13 || !(read_cr0() >> 32));
	GUEST_TRY(v, "mov %0, %%cr4", OUT(), IN("r"(read_cr4() & ~0x20ULL))); /* PAE off */
	guest_assert_eq(v, 13);
	GUEST_TRY(v, "mov %0, %%cr4", OUT(), IN("r"(read_cr4() | 1ULL << 40)));
	guest_assert(v == 13 || is_kvm); /* KVM's emulator drops the upper half */
	GUEST_TRY(v, "mov %0, %%cr4", OUT(), IN("r"(read_cr4() | 1ULL << 13))); /* VMXE */
	guest_assert_eq(v, 13);
	guest_assert_eq(guest_try_wrmsr(0xc0000080, 1ULL << 40), 13);
	guest_assert_eq(guest_try_wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ULL), 13);
	guest_done();
}

static void test_bad_crs(void)
{
	run_checks(guest_bad_crs, vm_is_kvm());
}

/*
 * Lengths of intercepted instructions with all kinds of useless prefixes, and
 * over a page border: a wrong one derails the guest at once.
 */
#define PREFIXED(insn) \
	insn ".byte 0x66\n" insn ".byte 0x48\n" insn ".byte 0x2e, 0x3e, 0x64\n" insn \
	     ".byte 0x67\n" insn ".byte 0x66, 0x67, 0x26, 0x4f\n" insn

static void guest_lengths(u64 arg)
{
	u64 count = 0;

	(void)arg;
	asm volatile(PREFIXED("cpuid\n xor %%eax, %%eax\n inc %0\n")
		     : "+r"(count)
		     :
		     : "rax", "rbx", "rcx", "rdx", "cc");
	guest_assert_eq(count, 6);
	asm volatile("mov $0x1b, %%ecx\n" PREFIXED("rdmsr\n inc %0\n")
		     : "+r"(count)
		     :
		     : "rax", "rcx", "rdx", "cc");
	guest_assert_eq(count, 12);
	asm volatile(PREFIXED("wbinvd\n inc %0\n") : "+r"(count) : : "memory", "cc");
	guest_assert_eq(count, 18);
	asm volatile("mov $0x1b, %%ecx\n rdmsr\n" PREFIXED("wrmsr\n inc %0\n")
		     : "+r"(count)
		     :
		     : "rax", "rcx", "rdx", "cc");
	guest_assert_eq(count, 24);
	asm volatile("mov %%cr0, %%rax\n" PREFIXED("mov %%rax, %%cr0\n inc %0\n")
		     : "+r"(count)
		     :
		     : "rax", "cc", "memory");
	guest_assert_eq(count, 30);
	asm volatile("mov %%cr4, %%r9\n" PREFIXED("mov %%r9, %%cr4\n inc %0\n")
		     : "+r"(count)
		     :
		     : "r9", "cc", "memory");
	guest_assert_eq(count, 36);
	asm volatile(PREFIXED("out %%al, $0x10\n inc %0\n") : "+r"(count) : "a"(1) : "cc");
	guest_assert_eq(count, 42);
	asm volatile(PREFIXED("hlt\n inc %0\n") : "+r"(count) : : "cc", "memory");
	guest_assert_eq(count, 48);
	asm volatile("mov $0x1234, %%eax\n" PREFIXED("vmmcall\n inc %0\n")
		     : "+r"(count)
		     : "b"(0)
		     : "cc", "memory", "rax");
	guest_assert_eq(count, 54);
	guest_done();
}

static void test_lengths(void)
{
	struct vcpu *vcpu;
	u64 val;

	create_image_vm(&vcpu, guest_lengths, 0);
	for (;;) {
		int got = vcpu_run(vcpu);

		if (got == KVM_EXIT_HLT || (got == KVM_EXIT_IO && vcpu->run->io.port == 0x10))
			continue;
		if (got == KVM_EXIT_IO && vcpu_guest_event(vcpu, &val) && val == GUEST_DONE)
			return;
		vcpu_dump(vcpu);
		ktap_fail(__FILE__, __LINE__, "exit %s", vm_exit_name(got));
	}
}

/* The first byte of CPUID is the last of a page; so is that of an MMIO store. */
static void guest_border(u64 arg)
{
	static const u8 code[] = { 0x0f, 0xa2, 0xc3 };
	static const u8 store[] = { 0xc7, 0x07, 1, 2, 3, 4, 0xc3 };
	u8 *to = (u8 *)VM_FREE_GPA + 0xfff;
	u32 i, max;

	(void)arg;
	for (i = 0; i < sizeof(code); i++)
		to[i] = code[i];
	asm volatile("call *%1" : "=a"(max) : "r"(to), "a"(0), "c"(0) : "rbx", "rdx", "memory");
	guest_assert(max >= 1);
	to -= 2;
	for (i = 0; i < sizeof(store); i++)
		to[i] = store[i];
	asm volatile("call *%0" : : "r"(to), "D"(0x10000000ULL) : "memory");
	guest_done();
}

static void test_page_border(void)
{
	struct vcpu *vcpu;

	create_image_vm(&vcpu, guest_border, 0);
	vcpu_expect(vcpu, KVM_EXIT_MMIO);
	CHECK_EQ(*(u32 *)vcpu->run->mmio.data, 0x04030201);
	CHECK_EQ(vcpu_run_guest(vcpu), GUEST_DONE);
}

/* CPUID in the middle of a 16-bit segment whose base isn't 0, in real mode. */
PAYLOAD(real_cpuid, ".code16\n"
		    "xor %eax, %eax\n cpuid\n mov %ebx, %eax\n out %eax, $0x10\n"
		    "mov $0x1b, %ecx\n rdmsr\n out %eax, $0x10\n hlt\n");

static void test_real_cpuid(void)
{
	struct vm *vm = vm_create_flat(4 << 20);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	u32 r[4];

	cpuid(0, 0, r);
	vm_load_payload(vm, VM_CODE_GPA, real_cpuid);
	vcpu_set_mode(vcpu, MODE_REAL, 0, VM_CODE_GPA);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x10, 4), r[1]);
	CHECK_EQ(vcpu_expect_out(vcpu, 0x10, 4), 0xfee00900);
	vcpu_expect(vcpu, KVM_EXIT_HLT);
}

static const struct ktap_test tests[] = {
	{ "svm_insns_cpl0", test_svm_insns_cpl0, 0 },
	{ "svm_insns_cpl3", test_svm_insns_cpl3, 0 },
	{ "cpuid_fault", test_cpuid_fault, 0 },
	{ "svme", test_svme, 0 },
	{ "mwait", test_mwait, 0 },
	{ "rdpmc", test_rdpmc, 0 },
	{ "xsetbv", test_xsetbv, 0 },
	{ "privileged", test_privileged, 0 },
	{ "invlpg", test_invlpg, 0 },
	{ "user_emulation", test_user_emulation, 0 },
	{ "vmmcall", test_vmmcall, 0 },
	{ "cpuid", test_cpuid, 0 },
	{ "ac_loop", test_ac_loop, 0 },
	{ "db_loop", test_db_loop, 0 },
	{ "single_step", test_single_step, 0 },
	{ "task_switch", test_task_switch, 0 },
	{ "tables", test_tables, 0 },
	{ "bad_crs", test_bad_crs, 0 },
	{ "insn_lengths", test_lengths, 0 },
	{ "page_border", test_page_border, 0 },
	{ "real_cpuid", test_real_cpuid, 0 },
};

KTAP_MAIN(tests)
