/* SPDX-License-Identifier: GPL-2.0 */
/* What every part of svmctl shares: the commands, the exit codes, messages. */
#ifndef SVMCTL_H
#define SVMCTL_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_DEVICE "/dev/svm"

/* Exit codes; svmctl.8 documents them, so they never change their meaning. */
enum {
	EXIT_OK = 0,
	EXIT_HOST = 1, /* something failed on the host: a file, memory, the device */
	EXIT_USAGE = 2,
	EXIT_HYPERVISOR = 3,   /* run: the hypervisor could not go on with the guest */
	EXIT_RESET = 4,	       /* run: the guest reset itself and --no-reboot was given */
	EXIT_TRIPLE_FAULT = 5, /* run: the same, by triple fault */
	EXIT_NO_SVM = 10,      /* check: ... */
	EXIT_NO_NPT = 11,
	EXIT_FIRMWARE = 12,
	EXIT_NO_DEVICE = 13, /* also stat: module not loaded */
	EXIT_PERMISSION = 14,
	EXIT_BUSY = 15,	   /* another hypervisor holds the processor */
	EXIT_ABI = 16,	   /* the device lacks what svmctl needs */
	EXIT_SIGNAL = 128, /* plus the number of the signal that ended svmctl */
};

int cmd_check(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_stat(int argc, char **argv);

/* Prints "svmctl: message" on standard error; returns EXIT_HOST for the caller to return. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
