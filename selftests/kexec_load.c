// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_load KERNEL INITRD CMDLINE [crash] - the kernel that comes after this one; kexec_load --go
 *
 * For kexec.sh: what kexec-tools do, without installing them on somebody's machine.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REBOOT_MAGIC1 0xfee1dead
#define REBOOT_MAGIC2 672274793
#define REBOOT_KEXEC  0x45584543

int main(int argc, char **argv)
{
	int kernel, initrd;

	if (argc == 2 && !strcmp(argv[1], "--go")) {
		syscall(SYS_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_KEXEC, NULL);
		perror("reboot");
		return 1;
	}
	if (argc < 4) {
		fprintf(stderr,
			"kexec_load: wants a kernel, an initial RAM disk, a command line\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0 ||
	    syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    argc > 4 ? KEXEC_FILE_ON_CRASH : 0)) {
		perror("kexec_file_load");
		return 1;
	}
	return 0;
}
