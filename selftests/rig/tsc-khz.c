// SPDX-License-Identifier: GPL-2.0
/* The frequency of this machine's TSC in kHz, measured against the clock. */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static long long now(unsigned long long *tsc)
{
	struct timespec ts;
	unsigned long long best = -1ULL;
	long long ns = 0;

	/* The reading that took the shortest was not interrupted. */
	for (int i = 0; i < 100; i++) {
		unsigned long long before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			*tsc = before + best / 2;
			ns = ts.tv_sec * 1000000000LL + ts.tv_nsec;
		}
	}
	return ns;
}

int main(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	unsigned long long tsc0, tsc1;
	long long ns0, ns1;

	ns0 = now(&tsc0);
	nanosleep(&pause, NULL);
	ns1 = now(&tsc1);
	printf("%.0f\n", (tsc1 - tsc0) * 1e6 / (ns1 - ns0));
	return 0;
}
