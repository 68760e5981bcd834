// SPDX-License-Identifier: GPL-2.0
/*
 * KTAP harness: one child process a test, each with a time limit.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ktap.h"

#define EXIT_SKIP  4
#define KILL_GRACE 10 /* seconds between the soft limit and SIGKILL */

volatile bool ktap_timed_out;

/* The reason of a skip, handed from the child to the harness. */
static char *skip_reason;

static void on_alarm(int sig)
{
	(void)sig;
	ktap_timed_out = true;
	alarm(1); /* once more: the first may fall between two ioctls */
}

static void diag_va(const char *fmt, va_list ap)
{
	fputs("# ", stdout);
	vprintf(fmt, ap);
	fputc('\n', stdout);
	fflush(stdout);
}

void ktap_diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	diag_va(fmt, ap);
	va_end(ap);
}

void ktap_fail(const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	va_list ap;

	printf("# %s:%d: ", base ? base + 1 : file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("%s\n", ktap_timed_out ? " (timed out)" : "");
	fflush(stdout);
	_exit(1);
}

void ktap_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(skip_reason, 256, fmt, ap);
	va_end(ap);
	_exit(EXIT_SKIP);
}

static void run_child(const struct ktap_test *t, unsigned int limit)
{
	struct sigaction sa = { .sa_handler = on_alarm }; /* no SA_RESTART */

	sigaction(SIGALRM, &sa, NULL);
	alarm(limit);
	t->fn();
	if (ktap_timed_out)
		ktap_diag("%s: past its limit of %u s", t->name, limit);
	fflush(stdout);
	_exit(ktap_timed_out);
}

static int wait_child(pid_t pid, unsigned int limit)
{
	struct timespec tick = { .tv_nsec = 2000000 }, now;
	time_t end;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + limit + KILL_GRACE;
	while (waitpid(pid, &status, WNOHANG) != pid) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
		nanosleep(&tick, NULL);
		if (tick.tv_nsec < 50000000)
			tick.tv_nsec *= 2;
	}
	kill(-pid, SIGKILL); /* stragglers of the test's own making */
	return status;
}

static int run_one(const struct ktap_test *t)
{
	unsigned int limit = t->timeout ? t->timeout : KTAP_TIMEOUT;
	pid_t pid;

	fflush(stdout);
	skip_reason[0] = 0;
	pid = getenv("KTAP_NOFORK") ? 0 : fork();
	if (!pid) {
		setpgid(0, 0);
		run_child(t, limit);
	}
	return pid < 0 ? -1 : wait_child(pid, limit);
}

/* Arguments name tests to run, or with a '-' in front to leave out. */
static bool selected(const struct ktap_test *t, int argc, char **argv)
{
	bool named = false, all = true;
	int i;

	for (i = 1; i < argc; i++) {
		if (argv[i][0] == '-') {
			if (!strcmp(argv[i] + 1, t->name))
				return false;
			continue;
		}
		all = false;
		if (!strcmp(argv[i], t->name))
			named = true;
	}
	return named || all;
}

int ktap_run(const struct ktap_test *tests, size_t count, int argc, char **argv)
{
	size_t i, n = 0, chosen = 0, failed = 0;

	skip_reason = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (skip_reason == MAP_FAILED)
		return 1;
	for (i = 0; i < count; i++)
		chosen += selected(&tests[i], argc, argv);
	printf("KTAP version 1\n1..%zu\n", chosen);
	for (i = 0; i < count; i++) {
		int status;

		if (!selected(&tests[i], argc, argv))
			continue;
		status = run_one(&tests[i]);
		n++;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			printf("ok %zu %s\n", n, tests[i].name);
		} else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
			printf("ok %zu %s # SKIP %s\n", n, tests[i].name, skip_reason);
		} else {
			failed++;
			if (WIFSIGNALED(status))
				printf("# %s: ended by signal %d\n", tests[i].name,
				       WTERMSIG(status));
			printf("not ok %zu %s\n", n, tests[i].name);
		}
	}
	fflush(stdout);
	return failed ? 1 : 0;
}
