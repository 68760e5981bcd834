// SPDX-License-Identifier: GPL-2.0
/* svmctl: boots guests through /dev/svm. This file only picks the command. */
#include <stdarg.h>

#include "svmctl.h"

static const struct command {
	const char *name, *summary;
	int (*main)(int argc, char **argv); /* argv[0] is the name; returns an exit code */
} commands[] = { { "check", "say whether this host can run guests, and if not, why", cmd_check },
		 { "run", "run a Linux kernel or a bare binary as a guest", cmd_run },
		 { "stat", "show what the kernel module counts", cmd_stat },
		 {} };

int complain(const char *format, ...)
{
	va_list args;

	fputs("svmctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_HOST;
}

int main(int argc, char **argv)
{
	const struct command *c;

	for (c = commands; argc > 1 && c->name; c++)
		if (!strcmp(argv[1], c->name))
			return c->main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "--help") && strcmp(argv[1], "-h")) {
		complain("there is no command '%s'; 'svmctl --help' lists them", argv[1]);
		return EXIT_USAGE;
	}
	puts("Usage: svmctl COMMAND [OPTION]...\n");
	for (c = commands; c->name; c++)
		printf("  %-8s %s\n", c->name, c->summary);
	puts("\n'svmctl COMMAND --help' explains a command; svmctl(8) has it all.");
	return argc > 1 ? EXIT_OK : EXIT_USAGE;
}
