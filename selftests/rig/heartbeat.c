// SPDX-License-Identifier: GPL-2.0
/*
 * Visits each CPU of L1 from another one, once a second. QEMU 7.2 may lose a CPU's timer interrupt
 * for good (Documentation/errata.rst); the IPI of a visit brings it back.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

/* Fails where the CPU is offline. */
static void go_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int main(void)
{
	/* At once, whatever runs there: without a tick nothing else would make it give way. */
	struct sched_param first = { .sched_priority = 1 };
	int cpus = sysconf(_SC_NPROCESSORS_CONF), own;

	sched_setscheduler(0, SCHED_FIFO, &first);
	/* Each sleeps by the timer of its own CPU. */
	for (own = 1; own < cpus; own++)
		if (fork() == 0)
			break;
	own %= cpus;
	mlockall(MCL_CURRENT); /* some tests take the disk away */
	while (cpus > 1) {
		go_to((own + 1) % cpus);
		go_to(own);
		sleep(1);
	}
	return 0;
}
