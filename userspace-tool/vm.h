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
/* Virtio devices: each a page of registers in that hole, and an interrupt of its own. */
#define VIRTIO_BASE 0xd0000000ull
enum { VIRTIO_STRIDE = 0x1000, MAX_VIRTIO = 8, IRQ_VIRTIO = 16 /* to 23: the I/O APIC's last */ };
/* --flat loads at FLAT_SEGMENT:0. */
enum { EBDA_START = 0x9fc00, ACPI_ADDR = 0xf0000, FLAT_SEGMENT = 0x1000 };
enum { INPUT_SIZE = 256 }; /* what waits for the guest to read it */
enum { MAX_CPUS = 64, IRQ_SERIAL = 4, IRQ_SCI = 9, RTC_CENTURY = 0x32 };
/* ACPI's fixed registers (event: status and enable), the reset port, --flat's exit port. */
enum { PORT_PM1_EVENT = 0x600, PORT_PM1_CNT = 0x604, PORT_RESET = 0xcf9, PORT_FLAT_EXIT = 0xf4 };

struct vm;

enum vm_state { VM_RUNNING, VM_POWEROFF, VM_RESET, VM_TRIPLE_FAULT, VM_FAILED, VM_QUIT };

/* A file the user named, mapped; data is NULL if none was. */
struct image {
	const char *path;
	const uint8_t *data;
	uint64_t size;
};

/* A virtio device as the user wants it; what it opens stays open for all lives of the guest. */
struct device_option {
	int (*create)(struct vm *vm, const struct device_option *option);
	const char *name; /* of a file or a tap device */
	int fd;
	bool read_only, vhost;
	uint8_t mac[6];
	uint32_t cid;
};

struct vm_options {
	const char *device, *cmdline;
	struct image kernel, initrd, flat;
	uint64_t memory;
	unsigned int cpus;
	bool hugetlb, no_reboot;
	struct device_option devices[MAX_VIRTIO];
	unsigned int nr_devices;
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
	uint8_t rx[INPUT_SIZE];
	_Atomic unsigned int rx_count;
};

/* What waits to be written to standard output. vm->lock protects it. */
struct output {
	uint8_t data[16384];
	unsigned int count;
	pthread_cond_t room;
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
	struct virtio *virtio[MAX_VIRTIO];
	unsigned int nr_virtio;
	struct virtio_console *console; /* one of them, or NULL */

	pthread_mutex_t lock; /* for what follows */
	_Atomic enum vm_state state;
	int exit_code;
	char report[1024]; /* why it stopped */
	struct serial serial;
	struct output output;
	uint8_t cmos_index, pm1_enable[2];
};

/* What returns int gives 0, or an exit code after a message. */
int vm_create(struct vm *vm, const struct vm_options *options);
void vm_destroy(struct vm *vm);
void vm_run(struct vm *vm);
void vm_stop(struct vm *vm, enum vm_state state, int exit_code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void vm_irq(struct vm *vm, unsigned int irq, bool level);
void *vm_memory(const struct vm *vm, uint64_t address, uint64_t size);
int vm_ioctl(int fd, unsigned long request, void *arg, const char *what);
void *vcpu_loop(void *vcpu);
int cpuid_read(struct vm *vm);
int cpuid_install(struct vcpu *vcpu);
int boot_linux(struct vm *vm);
int boot_flat(struct vm *vm);
void acpi_build(struct vm *vm);
bool mmio_access(struct vm *vm, uint64_t address, bool write, uint8_t *data, unsigned int size);
void virtio_destroy_all(struct vm *vm);
/*
 * The options that make devices. They give 0, an exit code after a message, or -1 if @text is
 * wrong, and keep @text.
 */
int disk_option(struct device_option *option, char *text);
int net_option(struct device_option *option, char *text);
int vsock_option(struct device_option *option, char *text);
int rng_option(struct device_option *option, char *text);
int virtio_console_option(struct device_option *option, char *text);
/* Called with vm->lock held: */
bool console_output(struct vm *vm, const uint8_t *data, unsigned int count);
void port_access(struct vm *vm, uint16_t port, bool write, uint8_t *data, unsigned int size);
uint8_t serial_read(struct vm *vm, unsigned int reg);
void serial_write(struct vm *vm, unsigned int reg, uint8_t value);
/* Called by the console, without it: */
unsigned int serial_room(struct vm *vm);
void serial_input(struct vm *vm, const uint8_t *data, unsigned int count);
unsigned int virtio_console_room(struct vm *vm);
void virtio_console_input(struct vm *vm, const uint8_t *data, unsigned int count);
int console_init(void);
void console_loop(struct vm *vm);
void console_flush(struct vm *vm);

#endif
