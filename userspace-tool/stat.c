// SPDX-License-Identifier: GPL-2.0
/* svmctl stat: what the module lets be seen of itself. */
#include <glob.h>

#include "svmctl.h"

#define MODULE "/sys/module/svm"

static const char help[] =
	"Usage: svmctl stat\n\n"
	"Shows how many files use the svm module, and its parameters: what it counts (vms, vcpus,\n"
	"exits) and how it is set.\n\n"
	"Exit codes: 0, 1 they cannot be read, 2 wrong usage, 13 module not loaded.\n";

/* Prints a file's lines, each after @label; false if it cannot be read. */
static bool show(const char *label, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		printf("%-16s %s", label, line);
	return f && !fclose(f);
}

int cmd_stat(int argc, char **argv)
{
	bool complete;
	glob_t found;

	if (argc > 1) {
		bool asked = !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h");

		fputs(help, asked ? stdout : stderr);
		return asked ? EXIT_OK : EXIT_USAGE;
	}
	if (access(MODULE, F_OK)) {
		complain("the svm module is not loaded ('modprobe svm')");
		return EXIT_NO_DEVICE;
	}
	complete = show("users", MODULE "/refcnt");
	if (glob(MODULE "/parameters/*", 0, NULL, &found))
		return complain("cannot read " MODULE "/parameters");
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *path = found.gl_pathv[i];

		complete = show(strrchr(path, '/') + 1, path) && complete;
	}
	globfree(&found);
	return complete ? EXIT_OK : complain("some of it cannot be read: %s", strerror(errno));
}
