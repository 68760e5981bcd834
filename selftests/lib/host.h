/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What tests need of the host around the VM: files of sysfs, modules, the MSRs of each CPU, time,
 * vCPUs that run in threads of their own.
 */
#ifndef SELFTESTS_HOST_H
#define SELFTESTS_HOST_H

#include <pthread.h>

#include "vm.h"

#define MSR_EFER      0xc0000080
#define MSR_HSAVE_PA  0xc0010117
#define EFER_SVME     (1 << 12)
#define HOST_PAGE     4096UL
#define HOST_HUGE     (2UL << 20)
#define GUEST_RUNNING 0
#define GUEST_ENDED   1

/** now_ms() - milliseconds of the monotonic clock */
u64 now_ms(void);

/** sleep_ms() - sleep, over signals too */
void sleep_ms(unsigned int ms);

/** read_number() - the number a file of sysfs or procfs starts with; -1 if there is none */
long long read_number(const char *path);

/** host_vmexits() - #VMEXITs of all VMs since svm.ko was loaded; 0 on KVM, which does not say */
u64 host_vmexits(void);

/** write_text() - write to a file of sysfs or procfs; 0 or -errno */
int write_text(const char *path, const char *text);

/** meminfo_kb() - a field of /proc/meminfo (with its colon), in KiB; -1 if there is none */
long long meminfo_kb(const char *field);

/** smaps_kb() - a field (with its colon) of the mapping at @addr in /proc/self/smaps, in KiB */
long long smaps_kb(const void *addr, const char *field);

/**
 * memcg_create() - the cgroup "svm-test" with a memory controller, in what becomes the working
 * directory: the root of all cgroups. Skips the test where there is no such controller.
 */
void memcg_create(void);

/** memcg_enter() - the calling process moves to it */
void memcg_enter(void);

/** memcg_events() - a field (with its space) of its memory.events; -1 if there is none */
long long memcg_events(const char *field);

/** memcg_destroy() - the caller leaves it, and it goes */
void memcg_destroy(void);

/** map_anon() - anonymous memory aligned to 2 MiB, ended by a hole */
void *map_anon(size_t size);

/** cpu_msr() - MSR @index of CPU @cpu by its driver; skips the test without */
u64 cpu_msr(int cpu, u32 index);

/** cpus_with_svme() - how many online CPUs have EFER.SVME set */
int cpus_with_svme(void);

/** bind_cpu() - let this thread run on CPU @cpu alone; on all if negative */
void bind_cpu(int cpu);

/** emulator_version() - 100 * major + minor of the QEMU whose TCG this machine is; 0 on hardware */
int emulator_version(void);

/** module_load() - insmod of a file with parameters; 0 or -errno */
int module_load(const char *path, const char *params);

/** module_unload() - rmmod that does not wait; 0 or -errno */
int module_unload(const char *name);

/** device_module() - name of the module behind vm_device(): svm or kvm */
const char *device_module(void);

/** module_refs() - references on a module; -1 if it is not loaded */
long long module_refs(const char *name);

/** settle_refs() - wait until the module's references fell to @want; the last number */
long long settle_refs(const char *name, long long want, unsigned int ms);

/** spawn() - run @argv with @input as stdin; stdout and stderr into @out (ended by a NUL)
 *
 * Kills it after @limit seconds. Return: its wait status, or -1 if it was killed for the time.
 */
int spawn(char *const argv[], const char *input, char *out, size_t size, unsigned int limit);

/* A vCPU of an image guest that runs in a thread of its own until guest_done(). */
struct runner {
	struct vcpu *vcpu;
	pthread_t thread;
	bool retry_efault; /* memory comes and goes: try again */
	volatile u64 efaults;
	volatile u64 syncs; /* guest_sync() so far */
	volatile int state;
	int cpu; /* bind the thread there; -1 not */
	/* Exits that are neither guest events nor -EINTR; false ends the test. May be NULL. */
	bool (*on_exit)(struct runner *r, int reason);
};

/** runner_start() - start the thread; the other fields are set before */
void runner_start(struct runner *r);

/** runner_join() - wait for its guest_done() */
void runner_join(struct runner *r);

#endif
