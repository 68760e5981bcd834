/* SPDX-License-Identifier: GPL-2.0 */
/* One virtual machine as svmctl sees it, and the parts it is made of. */
#ifndef SVMCTL_VM_H
#define SVMCTL_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "svmctl.h"

/* Guest-physical memory: RAM from 0, a hole below 4 GiB for devices, the rest of RAM above it. */
#define LOW_RAM_END    0xc0000000ull
#define HIGH_RAM_START 0x100000000ull
#define IDENTITY_MAP   0xfffbc000ull /* one page, then the three of the TSS */
#define TSS_ADDR       0xfffbd000ull
/* --flat loads at FLAT_SEGMENT:0. */
enum { EBDA_START = 0x9fc00, ACPI_ADDR = 0xf0000, FLAT_SEGMENT = 0x1000 };
enum { MAX_CPUS = 64, IRQ_SERIAL = 4, IRQ_SCI = 9, RTC_CENTURY = 0x32 };
/* ACPI's fixed registers (event: status and enable), the reset port, --flat's exit port. */
enum { PORT_PM1_EVENT = 0x600, PORT_PM1_CNT = 0x604, PORT_RESET = 0xcf9, PORT_FLAT_EXIT = 0xf4 };

enum vm_state { VM_RUNNING, VM_POWEROFF, VM_RESET, VM_TRIPLE_FAULT, VM_FAILED, VM_QUIT };

/* A file the user named, mapped; data is NULL if none was. */
struct image {
	const char *path;
	const uint8_t *data;
	uint64_t size;
};

struct vm_options {
	const char *device, *cmdline;
	struct image kernel, initrd, flat;
	uint64_t memory;
	unsigned int cpus;
	bool hugetlb, no_reboot;
};

struct vcpu {
	struct vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[256];
};

/* A 16550A. vm->lock protects it. */
struct serial {
	uint8_t reg[8], divisor[2];
	bool thr_empty_pending, line; /* line: level of its interrupt line */
	uint8_t rx[256], tx[16384];
	_Atomic unsigned int rx_count;
	unsigned int tx_count;
	pthread_cond_t tx_room;
};

struct vm {
	const struct vm_options *options;
	int dev, fd;
	int event;     /* eventfd: wakes the console loop */
	void *mapping; /* as mmap() gave it */
	size_t mapping_size;
	uint8_t *ram;	    /* the same, aligned to 2 MiB */
	uint64_t low_size;  /* of RAM below the hole */
	struct cpuid cpuid; /* what the device supports */
	int run_size;	    /* of a vCPU's shared page */
	struct vcpu vcpus[MAX_CPUS];
	unsigned int nr_vcpus;

	pthread_mutex_t lock; /* for what follows */
	_Atomic enum vm_state state;
	int exit_code;
	char report[1024]; /* why it stopped */
	struct serial serial;
	uint8_t cmos_index, pm1_enable[2];
};

/* What returns int gives 0, or an exit code after a message. */
int vm_create(struct vm *vm, const struct vm_options *options);
void vm_destroy(struct vm *vm);
void vm_run(struct vm *vm);
void vm_stop(struct vm *vm, enum vm_state state, int exit_code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void vm_irq(struct vm *vm, unsigned int irq, bool level);
int vm_ioctl(int fd, unsigned long request, void *arg, const char *what);
void *vcpu_loop(void *vcpu);
int cpuid_read(struct vm *vm);
int cpuid_install(struct vcpu *vcpu);
int boot_linux(struct vm *vm);
int boot_flat(struct vm *vm);
void acpi_build(struct vm *vm);
/* Called with vm->lock held: */
void port_access(struct vm *vm, uint16_t port, bool write, uint8_t *data, unsigned int size);
uint8_t serial_read(struct vm *vm, unsigned int reg);
void serial_write(struct vm *vm, unsigned int reg, uint8_t value);
/* Called by the console, without it: */
unsigned int serial_room(struct vm *vm);
void serial_input(struct vm *vm, const uint8_t *data, unsigned int count);
unsigned int serial_output(struct vm *vm, uint8_t *data);
int console_init(void);
void console_loop(struct vm *vm);

#endif
