/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small KTAP harness: a table of named tests, each run in a child process of
 * its own with a time limit, so that a hang or a crash costs one test only.
 */
#ifndef SELFTESTS_KTAP_H
#define SELFTESTS_KTAP_H

#include <stdbool.h>
#include <stddef.h>

struct ktap_test {
	const char *name;
	void (*fn)(void);
	unsigned int timeout; /* seconds; 0 means KTAP_TIMEOUT */
};

#define KTAP_TIMEOUT 30

/**
 * ktap_run() - run a table of tests and print KTAP
 * @tests: the table
 * @count: its length
 * @argc: of main(); arguments select tests by name, or leave them out where a dash is in front
 * @argv: of main()
 *
 * KTAP_NOFORK in the environment runs the tests in this process, for gdb.
 *
 * Return: the exit status for main(): 0 if nothing failed, 1 otherwise.
 */
int ktap_run(const struct ktap_test *tests, size_t count, int argc, char **argv);

/** ktap_fail() - record a failure of the running test, with a reason, and end it */
void __attribute__((noreturn, format(printf, 3, 4)))
ktap_fail(const char *file, int line, const char *fmt, ...);

/** ktap_skip() - end the running test as skipped, with the reason */
void __attribute__((noreturn, format(printf, 1, 2))) ktap_skip(const char *fmt, ...);

/** ktap_diag() - print a diagnostic line */
void __attribute__((format(printf, 1, 2))) ktap_diag(const char *fmt, ...);

/* True once the running test is past its time limit; KVM_RUN then gives -EINTR. */
extern volatile bool ktap_timed_out;

/* End the test as failed unless @cond holds. */
#define CHECK(cond) \
	do { \
		if (!(cond)) \
			ktap_fail(__FILE__, __LINE__, "%s", #cond); \
	} while (0)

/* The same, with a message of the caller's. */
#define CHECKF(cond, fmt, ...) \
	do { \
		if (!(cond)) \
			ktap_fail(__FILE__, __LINE__, "%s: " fmt, #cond, ##__VA_ARGS__); \
	} while (0)

/* Compare two integers and print both when they differ. */
#define CHECK_EQ(a, b) \
	do { \
		unsigned long long _a = (a), _b = (b); \
		if (_a != _b) \
			ktap_fail(__FILE__, __LINE__, "%s is %#llx, expected %s = %#llx", #a, _a, \
				  #b, _b); \
	} while (0)

/* @call must fail with @err. */
#define CHECK_ERR(call, err) \
	do { \
		long _r; \
		errno = 0; \
		_r = (call); \
		if (_r != -1 || errno != (err)) \
			ktap_fail(__FILE__, __LINE__, "%s gave %ld errno %d, expected errno %d", \
				  #call, _r, errno, (err)); \
	} while (0)

/* @call must not fail. */
#define CHECK_OK(call) \
	do { \
		long _r = (call); \
		if (_r < 0) \
			ktap_fail(__FILE__, __LINE__, "%s failed: errno %d", #call, errno); \
	} while (0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define KTAP_MAIN(table) \
	int main(int argc, char **argv) \
	{ \
		return ktap_run(table, ARRAY_LEN(table), argc, argv); \
	}

#endif
