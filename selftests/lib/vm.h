/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Client library of the tests: VMs, vCPUs, memory, payloads and modes, through
 * nothing but the ABI. Every function ends the running test as failed when the
 * device refuses what should work, so callers need no error paths; what a test
 * expects to fail it does with ioctl() on the fds directly.
 *
 * Two kinds of guests:
 *  - flat payloads (payload.h) loaded at a GPA and entered in any mode;
 *  - "image" guests: the test program itself is copied to its own link address
 *    in guest memory, so that C functions run in the guest in long mode and
 *    globals have the same address on both sides (guest_ptr()). See guest.h.
 */
#ifndef SELFTESTS_VM_H
#define SELFTESTS_VM_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "ktap.h"
#include "payload.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define VM_MAX_SLOTS 64
#define VM_MAX_VCPUS 72

/* Where the library keeps its structures in guest memory. */
#define VM_GDT_GPA     0x1000ULL
#define VM_TSS_GPA     0x1800ULL   /* 104 bytes a vCPU, 0x80 apart */
#define VM_V86_TSS_GPA 0x200000ULL /* TSS with an all-zero I/O bitmap, for V86 */
#define VM_PT_GPA      0x2000ULL   /* PML4, PDPT, 4 page directories: 4 GiB of 2 MiB pages */
#define VM_PAE_GPA     0x8000ULL   /* PDPT of PAE mode, over the same directories */
#define VM_PD32_GPA    0x9000ULL   /* page directory of 32-bit mode with 4 MiB pages */
#define VM_IDT_GPA     0xa000ULL
#define VM_CODE_GPA    0x10000ULL    /* free to VM_STACK_GPA; base of the 16-bit segments */
#define VM_STACK_GPA   0x100000ULL   /* 64 KiB a vCPU */
#define VM_FREE_GPA    0x1000000ULL  /* free from here (16 MiB) up */
#define VM_IMAGE_MEM   (32ULL << 20) /* memory of an image guest */

/* Selectors of the library's GDT. */
#define SEL_CODE64  0x08
#define SEL_DATA    0x10
#define SEL_CODE32  0x18
#define SEL_CODE16  0x20
#define SEL_DATA16  0x28
#define SEL_UDATA   0x33
#define SEL_UCODE64 0x3b
#define SEL_UCODE32 0x43
#define SEL_UCODE16 0x4b
#define SEL_UDATA16 0x53
#define SEL_TSS(id) (0x58 + 16 * (id))

struct vm_slot {
	u64 gpa;
	u64 size;
	void *hva;
};

struct vm {
	int dev;
	int fd;
	size_t run_size;
	struct vm_slot slots[VM_MAX_SLOTS];
	struct vcpu *vcpus[VM_MAX_VCPUS];
};

struct vcpu {
	struct vm *vm;
	int fd;
	u32 id;
	struct kvm_run *run;
};

/* The CPU modes that vcpu_set_mode() can enter directly. */
enum vm_mode {
	MODE_REAL,
	MODE_V86,
	MODE_PM16,
	MODE_PM32,
	MODE_PM32_PAGING,
	MODE_PAE,
	MODE_LONG,
	MODE_COMPAT,
};

extern const char *const vm_mode_name[];

/** vm_device() - path of the device under test: $SVM_DEV or /dev/svm */
const char *vm_device(void);

/** vm_is_kvm() - whether the device under test is the kernel's own KVM */
bool vm_is_kvm(void);

/** vm_open_device() - open the device; skips the test if there is none */
int vm_open_device(void);

/** vm_create() - a VM without memory */
struct vm *vm_create(void);

/** vm_create_flat() - a VM with @size bytes (at least 4 MiB) at GPA 0, GDT and page tables */
struct vm *vm_create_flat(u64 size);

/** vm_create_image() - a VM with VM_IMAGE_MEM, the tables and a copy of this program */
struct vm *vm_create_image(void);

/** vm_destroy() - close all fds and unmap all memory */
void vm_destroy(struct vm *vm);

/** vm_set_slot() - KVM_SET_USER_MEMORY_REGION; size 0 deletes. Remembers it for vm_hva(). */
void vm_set_slot(struct vm *vm, u32 slot, u64 gpa, void *hva, u64 size, u32 flags);

/** vm_add_mem() - map anonymous memory (2 MiB aligned) and give it to the VM as @slot */
void *vm_add_mem(struct vm *vm, u32 slot, u64 gpa, u64 size);

/** vm_hva() - the host address of guest-physical address @gpa */
void *vm_hva(struct vm *vm, u64 gpa);

/** vm_load() - copy a payload [start, end) to @gpa */
void vm_load(struct vm *vm, u64 gpa, const char *start, const char *end);

#define vm_load_payload(vm, gpa, name) vm_load(vm, gpa, name##_start, name##_end)

/** vm_write_tables() - GDT, TSSs and page tables at the VM_*_GPA addresses */
void vm_write_tables(struct vm *vm);

/** vm_load_image() - copy this program's loaded image to its own addresses */
void vm_load_image(struct vm *vm);

/** vm_has_cap() - KVM_CHECK_EXTENSION on the VM */
int vm_has_cap(struct vm *vm, int cap);

/** vm_irqchip() - KVM_CREATE_IRQCHIP; before the vCPUs */
void vm_irqchip(struct vm *vm);

/** vm_irq_line() - KVM_IRQ_LINE */
void vm_irq_line(struct vm *vm, u32 gsi, u32 level);

/** vm_supported_cpuid() - KVM_GET_SUPPORTED_CPUID, in a static buffer */
struct kvm_cpuid2 *vm_supported_cpuid(int dev);

/** vcpu_create() - a vCPU with the supported CPUID */
struct vcpu *vcpu_create(struct vm *vm, u32 id);

/** vcpu_create_raw() - a vCPU and nothing else */
struct vcpu *vcpu_create_raw(struct vm *vm, u32 id);

/** vcpu_destroy() - close a vCPU's fd and mapping */
void vcpu_destroy(struct vcpu *vcpu);

/** vcpu_set_mode() - set up @mode at CPL @cpl at linear address @rip, IF clear and an own stack
 *
 * 16-bit modes have all segments based at VM_CODE_GPA, so @rip must lie within
 * 64 KiB of it, and SP at 0xf000; the others are flat. IOPL is 3 for @cpl > 0.
 */
void vcpu_set_mode(struct vcpu *vcpu, enum vm_mode mode, int cpl, u64 rip);

/** vcpu_set_guest() - long mode at CPL 0 in function @fn of an image guest, IDT loaded */
void vcpu_set_guest(struct vcpu *vcpu, void (*fn)(u64 arg), u64 arg);

/** vcpu_run() - KVM_RUN; gives the exit reason, or -errno */
int vcpu_run(struct vcpu *vcpu);

/** vcpu_run_guest() - run an image guest to its next guest_sync() or guest_done()
 *
 * Port and other exits a test wants to see itself it takes from vcpu_run().
 *
 * Return: the value given to guest_sync(), GUEST_DONE, or it ends the test on
 * a failed guest_assert() or any other exit.
 */
u64 vcpu_run_guest(struct vcpu *vcpu);

/** vcpu_guest_event() - interpret the exit just taken: is it a guest_sync()? In *@val its value.
 *
 * Ends the test on a failed guest_assert().
 */
bool vcpu_guest_event(struct vcpu *vcpu, u64 *val);

/** vcpu_expect() - run until the next exit, which must be for @reason */
void vcpu_expect(struct vcpu *vcpu, u32 reason);

/** vcpu_expect_out() - run; the next exit must be OUT of @size bytes to @port; gives the value */
u64 vcpu_expect_out(struct vcpu *vcpu, u16 port, int size);

/** vcpu_complete() - finish a pending exit without running the guest (immediate_exit) */
void vcpu_complete(struct vcpu *vcpu);

/** vm_exit_name() - the name of a KVM_EXIT_* reason */
const char *vm_exit_name(int reason);

/** vcpu_dump() - print the vCPU's registers as diagnostics */
void vcpu_dump(struct vcpu *vcpu);

void vcpu_get_regs(struct vcpu *vcpu, struct kvm_regs *regs);
void vcpu_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs);
void vcpu_get_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs);
void vcpu_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs);
u64 vcpu_get_msr(struct vcpu *vcpu, u32 index);
void vcpu_set_msr(struct vcpu *vcpu, u32 index, u64 value);

/** vcpu_try_msr() - KVM_GET_MSRS or KVM_SET_MSRS of one; false if refused */
bool vcpu_try_get_msr(struct vcpu *vcpu, u32 index, u64 *value);
bool vcpu_try_set_msr(struct vcpu *vcpu, u32 index, u64 value);

/** guest_ptr() - the guest's copy of global variable @var of an image guest */
#define guest_ptr(vm, var) ((typeof(&(var)))vm_hva(vm, (u64)(uintptr_t) & (var)))

/** host_msr_open() - the MSRs of CPU 0, and this thread bound to it; skips without the driver */
int host_msr_open(void);

/** test_random() - xorshift, seeded by TEST_SEED or a constant */
u64 test_random(void);

/** test_random_seed() - begin anew from @seed, which is not 0 */
void test_random_seed(u64 seed);

#endif
