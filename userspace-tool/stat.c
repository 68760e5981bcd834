// SPDX-License-Identifier: GPL-2.0
/* svmctl stat: what the module lets be seen of itself. */
#include <glob.h>

#include "svmctl.h"

#define MODULE "/sys/module/svm"
#define STATS  "/sys/kernel/debug/svm/stats"

static const char help[] =
	"Usage: svmctl stat\n\n"
	"Shows the svm module's users and parameters and, where debugfs is mounted and you may "
	"read\n"
	"it, its counters: VMs, vCPUs, exits by reason (" STATS ").\n\n"
	"Exit codes: 0, 1 the counters cannot be read, 2 wrong usage, 13 module not loaded.\n";

/* Prints a file's lines, each after @label; false if it cannot be read. */
static bool show(const char *label, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		printf("%s%s", label, line);
	return f && !fclose(f);
}

int cmd_stat(int argc, char **argv)
{
	char label[64], *path;
	glob_t found;

	if (argc > 1) {
		fputs(help, stdout);
		return strcmp(argv[1], "--help") && strcmp(argv[1], "-h") ? EXIT_USAGE : EXIT_OK;
	}
	if (access(MODULE, F_OK)) {
		complain("the svm module is not loaded ('modprobe svm')");
		return EXIT_NO_DEVICE;
	}
	show("users ", MODULE "/refcnt");
	if (!glob(MODULE "/parameters/*", 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			path = found.gl_pathv[i];
			snprintf(label, sizeof(label), "parameter %s ", strrchr(path, '/') + 1);
			show(label, path);
		}
	}
	if (show("", STATS))
		return EXIT_OK;
	return complain("no counters: %s: %s (root? debugfs mounted?)", STATS, strerror(errno));
}
