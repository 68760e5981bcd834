// SPDX-License-Identifier: GPL-2.0
/* svmctl run: boots a guest and stays until it ends. */
#include <getopt.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vm.h"

/* No probing for PCI and UARTs that are not there; no delays by port 0x80, each of them an exit. */
#define DEFAULT_CMDLINE "console=ttyS0 pci=off 8250.nr_uarts=1 io_delay=none"
#define MAX_MEMORY	(1ull << 39)
static const char help[] =
	"Usage: svmctl run [OPTION]... KERNEL\n"
	"       svmctl run [OPTION]... --flat FILE\n\n"
	"Runs a guest (KERNEL: a bzImage) with its serial line here until it powers off.\n\n"
	"  -k, --kernel FILE    the kernel, instead of KERNEL\n"
	"  -i, --initrd FILE    initial RAM disk\n"
	"  -a, --cmdline TEXT   kernel command line; default:\n"
	"                       " DEFAULT_CMDLINE "\n"
	"  -m, --memory SIZE    memory: MiB, or with suffix M or G (default 256M)\n"
	"  -c, --cpus N         virtual CPUs, 1 to 64 (default 1)\n"
	"  -f, --flat FILE      run a bare binary in real mode: entered at 1000:0000, prints by\n"
	"                       port 0x3f8, ends by HLT or by writing an exit code to port 0xf4\n"
	"      --disk FILE[,ro] a disk: a raw image or a block device\n"
	"      --net tap=NAME[,mac=MAC][,vhost]\n"
	"                       a network card on a tap device of the host\n"
	"      --vsock CID      sockets to the host, under this number (3 and up)\n"
	"      --rng            a source of random bytes\n"
	"      --console        a second console (hvc0), which gets the input\n"
	"      --hugetlb        take memory from the host's reserved 2 MiB pages\n"
	"      --no-reboot      end when the guest resets itself, instead of restarting it\n"
	"  -d, --device PATH    device that speaks the KVM ABI (default " DEFAULT_DEVICE ")\n\n"
	"On a terminal, Ctrl-a x ends the guest at once and Ctrl-a a sends a Ctrl-a.\n\n"
	"Exit codes: 0 powered off (or Ctrl-a x), 1 host error, 2 usage, 3 hypervisor error,\n"
	"4 reset and 5 triple fault under --no-reboot or --flat, 128+N ended by signal N.\n";

enum { FIRST_DEVICE = 256 };
static const struct {
	int (*parse)(struct device_option *device, char *text);
	const char *syntax;
} devices[] = {
	{ disk_option, "--disk wants FILE or FILE,ro" },
	{ net_option, "--net wants tap=NAME, and may have mac=MAC and vhost, with commas" },
	{ vsock_option, "--vsock wants a number from 3 to 4294967294" },
	{ rng_option, "" },
	{ virtio_console_option, "" },
};

static const struct option long_options[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "cmdline", required_argument, NULL, 'a' },
	{ "memory", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'c' },
	{ "flat", required_argument, NULL, 'f' },
	{ "hugetlb", no_argument, NULL, 'H' },
	{ "no-reboot", no_argument, NULL, 'N' },
	{ "disk", required_argument, NULL, FIRST_DEVICE },
	{ "net", required_argument, NULL, FIRST_DEVICE + 1 },
	{ "vsock", required_argument, NULL, FIRST_DEVICE + 2 },
	{ "rng", no_argument, NULL, FIRST_DEVICE + 3 },
	{ "console", no_argument, NULL, FIRST_DEVICE + 4 },
	{ "device", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{},
};

/* "512", "512M", "2G" in bytes; 0 if it is none of these. */
static uint64_t parse_size(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	unsigned int shift = *end == 'G' || *end == 'g' ? 30 : 20;

	if (*end && strchr("MmGg", *end))
		end++;
	return *text < '0' || *text > '9' || *end || n > MAX_MEMORY >> shift ? 0 : n << shift;
}

static int usage_error(const char *what)
{
	complain("%s; see 'svmctl run --help'", what);
	return EXIT_USAGE;
}

/* A virtio device; the guest sees them in the order of the command line. */
static int parse_device(struct vm_options *o, int option, char *text)
{
	struct device_option *device = &o->devices[o->nr_devices];
	int err;

	if (o->nr_devices++ == MAX_VIRTIO)
		return usage_error("a guest has at most 8 devices");
	err = devices[option - FIRST_DEVICE].parse(device, text);
	return err < 0 ? usage_error(devices[option - FIRST_DEVICE].syntax) : err;
}

/* Returns 0, an exit code, or -1 where --help was all. */
static int parse(int argc, char **argv, struct vm_options *o)
{
	int option, err;

	while ((option = getopt_long(argc, argv, "k:i:a:m:c:f:d:h", long_options, NULL)) != -1) {
		if (option == 'k')
			o->kernel.path = optarg;
		else if (option == 'i')
			o->initrd.path = optarg;
		else if (option == 'f')
			o->flat.path = optarg;
		else if (option == 'a')
			o->cmdline = optarg;
		else if (option == 'd')
			o->device = optarg;
		else if (option == 'm')
			o->memory = parse_size(optarg);
		else if (option == 'c')
			o->cpus = parse_size(optarg) >> 20;
		else if (option == 'H')
			o->hugetlb = true;
		else if (option == 'N')
			o->no_reboot = true;
		else if (option >= FIRST_DEVICE && (err = parse_device(o, option, optarg)))
			return err;
		else if (option < FIRST_DEVICE)
			return option == 'h' ? -1 : usage_error("wrong option");
	}
	if (optind < argc && !o->kernel.path)
		o->kernel.path = argv[optind++];
	if (optind < argc || !o->kernel.path == !o->flat.path)
		return usage_error("give one kernel, or --flat FILE");
	if (o->flat.path && (o->initrd.path || o->cpus > 1 || o->nr_devices))
		return usage_error("--flat goes with one CPU, no initrd and no devices");
	if (o->memory < 4 << 20 || (o->hugetlb && o->memory % (2 << 20)))
		return usage_error("--memory wants 4M to 512G, a multiple of 2M under --hugetlb");
	return o->cpus < 1 || o->cpus > MAX_CPUS ? usage_error("--cpus wants 1 to 64") : 0;
}

/* Maps a file of the user's, if one was given; it stays for all lives of the guest. */
static int map_image(struct image *image)
{
	struct stat st;
	int fd;

	if (!image->path)
		return 0;
	fd = open(image->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return complain("cannot open %s: %s", image->path, strerror(errno));
	image->size = st.st_size;
	image->data = mmap(NULL, image->size, PROT_READ, MAP_PRIVATE, fd, 0);
	return image->data != MAP_FAILED ? 0 : complain("%s: %s", image->path, strerror(errno));
}

/* One life of the guest, from power on to whatever ends it. */
static int run_once(const struct vm_options *o, enum vm_state *state)
{
	static struct vm vm;
	int err = vm_create(&vm, o) || (o->flat.data ? boot_flat(&vm) : boot_linux(&vm));

	*state = VM_FAILED;
	if (!err) {
		vm_run(&vm);
		err = vm.exit_code;
		*state = vm.state;
		if (*state != VM_POWEROFF)
			complain("%s", vm.report);
	}
	vm_destroy(&vm);
	return err;
}

int cmd_run(int argc, char **argv)
{
	struct vm_options o = { DEFAULT_DEVICE, DEFAULT_CMDLINE, .memory = 256 << 20, .cpus = 1 };
	enum vm_state state;
	int err = parse(argc, argv, &o);

	if (err)
		return err < 0 ? fputs(help, stdout) < 0 : err;
	if (map_image(&o.kernel) || map_image(&o.initrd) || map_image(&o.flat) || console_init())
		return EXIT_HOST;
	do {
		err = run_once(&o, &state);
	} while ((state == VM_RESET || state == VM_TRIPLE_FAULT) && !o.no_reboot && !o.flat.data);
	return err;
}
