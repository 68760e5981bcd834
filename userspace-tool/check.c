// SPDX-License-Identifier: GPL-2.0
/* svmctl check: can this host run guests, and if not, why, and what is to be done? */
#include <cpuid.h>
#include <getopt.h>
#include <linux/kvm.h>

#include "svmctl.h"

enum { MSR_VM_CR = 0xc0010114, VM_CR_SVMDIS = 1 << 4 };

static const char help[] =
	"Usage: svmctl check [--device PATH]\n\n"
	"Says whether this host can run guests; if not, why, and what to do.\n\n"
	"  -d, --device PATH    device to look at (default " DEFAULT_DEVICE ")\n\n"
	"Exit codes: 0 guests can run, 1 another error, 2 wrong usage, 10 no SVM, 11 no nested\n"
	"paging, 12 disabled in firmware, 13 module not loaded, 14 no permission, 15 held by\n"
	"another hypervisor, 16 the device lacks something svmctl needs.\n";

/* @error: an errno to explain, or 0 */
static int failed(int code, const char *what, int error, const char *advice)
{
	printf("FAILED   %s%s%s\n         %s\n", what, error ? ": " : "",
	       error ? strerror(error) : "", advice);
	return code;
}

/* VM_CR (APM vol. 2, 15.30.1) if we may read it; else: has Linux taken svm off the CPU's flags? */
static bool disabled_in_firmware(void)
{
	int msr = open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
	char line[8192] = "";
	uint64_t vm_cr;
	FILE *f;

	if (msr >= 0 && pread(msr, &vm_cr, sizeof(vm_cr), MSR_VM_CR) == sizeof(vm_cr))
		return vm_cr & VM_CR_SVMDIS;
	f = fopen("/proc/cpuinfo", "re");
	while (f && fgets(line, sizeof(line), f) && strncmp(line, "flags", 5))
		;
	return f && !strncmp(line, "flags", 5) && !strstr(line, " svm ");
}

/* APM vol. 2, 15.4: how to tell whether SVM is there and usable. */
static int check_processor(void)
{
	const char *advice = "It takes an AMD processor of today, or nesting on a VM's host.";
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) || !(ecx & 1 << 2))
		return failed(EXIT_NO_SVM, "the processor has no SVM (AMD-V)", 0, advice);
	puts("ok       the processor has SVM (AMD-V)");
	if (!__get_cpuid(0x8000000a, &eax, &ebx, &ecx, &edx) || !(edx & 1 << 0))
		return failed(EXIT_NO_NPT, "the processor has no nested paging", 0, advice);
	puts("ok       the processor has nested paging");
	if (disabled_in_firmware())
		return failed(EXIT_FIRMWARE, "SVM is disabled in firmware", 0,
			      "Enable \"SVM Mode\" or \"AMD-V\" in the BIOS or UEFI setup.");
	puts("ok       firmware leaves SVM enabled");
	return 0;
}

static int open_failed(const char *device, int error)
{
	if (error == EACCES || error == EPERM)
		return failed(EXIT_PERMISSION, device, error,
			      "Become root or a member of the device's group ('ls -l' shows it).");
	if (error != ENOENT && error != ENODEV && error != ENXIO)
		return failed(EXIT_HOST, device, error, "See 'dmesg | grep svm'.");
	if (!access("/sys/module/svm", F_OK))
		return failed(EXIT_NO_DEVICE, device, error, "The module is loaded: a container?");
	return failed(EXIT_NO_DEVICE, device, error,
		      "Load the module: 'modprobe svm'. 'dmesg | grep svm' says why it refuses.");
}

static int check_device(int fd)
{
	static const int needed[] = { KVM_CAP_IRQCHIP, KVM_CAP_PIT2, KVM_CAP_IMMEDIATE_EXIT,
				      KVM_CAP_IRQFD, KVM_CAP_IOEVENTFD };
	bool complete = ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION;
	int vm;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		complete = complete && ioctl(fd, KVM_CHECK_EXTENSION, needed[i]) > 0;
	if (!complete)
		return failed(EXIT_ABI, "the device speaks too little of the KVM ABI", 0,
			      "Do module and svmctl belong together?");
	puts("ok       the device speaks the KVM ABI");
	/* This enables SVM on the processors: the proof that nobody else holds them. */
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	if (vm >= 0) {
		close(vm);
		puts("ok       a virtual machine can be created\nThis host can run guests.");
		return 0;
	}
	if (errno != EBUSY)
		return failed(EXIT_HOST, "a virtual machine", errno, "See 'dmesg | grep svm'.");
	return failed(
		EXIT_BUSY, "another hypervisor holds the processor", 0,
		"End its guests and unload it; for KVM, 'rmmod kvm_amd'. To keep KVM off from\n"
		"         boot: 'options kvm enable_virt_at_load=0' in /etc/modprobe.d/svm.conf.");
}

int cmd_check(int argc, char **argv)
{
	const struct option options[] = { { "device", 1, NULL, 'd' },
					  { "help", 0, NULL, 'h' },
					  {} };
	const char *device = DEFAULT_DEVICE;
	int option, fd, err;

	while ((option = getopt_long(argc, argv, "d:h", options, NULL)) == 'd')
		device = optarg;
	if (option == 'h')
		return fputs(help, stdout) < 0;
	if (option != -1 || optind < argc) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	err = check_processor();
	if (err)
		return err;
	fd = open(device, O_RDWR | O_CLOEXEC);
	return fd < 0 ? open_failed(device, errno) : check_device(fd);
}
