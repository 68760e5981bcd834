/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers share: numbers that follow from (seed, stream, index), rounds in processes of
 * their own, and what is counted over all rounds.
 *
 * FUZZ_SECONDS says for how long (20), FUZZ_SEED where to begin (1). Each round has the next seed,
 * tells it to the kernel's log, and is repeated by FUZZ_SEED=that FUZZ_SECONDS=1.
 */
#ifndef SELFTESTS_FUZZ_H
#define SELFTESTS_FUZZ_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "host.h"
#include "../../uapi/svm.h"

#define FUZZ_ROUND_MS  2000
#define FUZZ_HANG_MS   30000 /* a round that takes this long hangs */
#define FUZZ_MAX_ERRNO 134
#define FUZZ_MAX_EXIT  64

struct rng {
	u64 state;
};

/** rng_at() - the numbers of one operation */
void rng_at(struct rng *r, u64 seed, u64 stream, u64 index);

/** rnd() - 64 random bits */
u64 rnd(struct rng *r);

/** below() - a number below @n */
u64 below(struct rng *r, u64 n);

/** chance() - true in @percent of cases */
bool chance(struct rng *r, unsigned int percent);

/** edge() - a number at which something tends to end */
u64 edge(struct rng *r);

/** fill_random() - random bytes */
void fill_random(struct rng *r, void *buf, size_t size);

/** mutate() - change one to three places: bits, or words to edge values */
void mutate(struct rng *r, void *buf, size_t size);

#define PICK(r, array) ((array)[below(r, ARRAY_LEN(array))])

/* Of all rounds, in memory that they share; add with COUNT(). */
struct fuzz_counts {
	u64 errnos[FUZZ_MAX_ERRNO]; /* [0]: successes */
	u64 exits[FUZZ_MAX_EXIT];   /* of KVM_RUN, by reason */
};

#define COUNT(field) __atomic_fetch_add(&(field), 1, __ATOMIC_RELAXED)

extern struct fuzz_counts *fuzz_counts;

/** fuzz_shared() - zeroed memory that stays shared over fork() */
void *fuzz_shared(size_t size);

/** count_errno() - of a call's result; gives it back */
long count_errno(long result);

/** count_exit() - of a KVM_RUN that gave 0 */
void count_exit(u32 reason);

/** fuzz_seconds() - for how long */
unsigned int fuzz_seconds(void);

/** fuzz_rounds() - run rounds until the time is over; fails for one that dies or hangs
 *
 * @round gets its seed and the time (now_ms()) at which it is to end.
 */
void fuzz_rounds(void (*round)(u64 seed, u64 end));

/** fuzz_report() - the counts, as diagnostics; then no VM may be left */
void fuzz_report(void);

/** fuzz_main() - main(): one test that may take FUZZ_SECONDS */
int fuzz_main(const char *name, void (*fn)(void), int argc, char **argv);

#endif
