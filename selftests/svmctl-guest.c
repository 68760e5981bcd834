// SPDX-License-Identifier: GPL-2.0
/*
 * What svmctl-virtio.sh runs inside the guest: a hostile driver for svmctl's virtio devices, and
 * sockets to the host. Not a test program of its own; it prints "RESULT NAME ok|FAIL ..." lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <time.h>
#include <unistd.h>

#define DEVICE_BASE 0xd0000000ul
#define PAGE	    4096
#define RAM_HOLE    0xc0000000ull /* no memory from here, whatever the guest's size */
#define QSIZE	    16u

/* One page: a queue of QSIZE entries, and room for a request. */
struct arena {
	struct vring_desc desc[QSIZE];
	struct vring_desc indirect[QSIZE];
	struct {
		uint16_t flags, idx, ring[QSIZE], used_event;
	} avail;
	struct {
		uint16_t flags, idx;
		struct vring_used_elem ring[QSIZE];
		uint16_t avail_event;
	} used __attribute__((aligned(4)));
	struct virtio_blk_outhdr head;
	uint8_t status, data[512];
} __attribute__((aligned(PAGE)));

static volatile struct arena *arena;
static uint64_t arena_phys;
static volatile uint8_t *regs; /* of the device under attack */
static const char *device_name;
static unsigned int failures;
static unsigned int nr_queues; /* of it */
static bool vhost;	       /* it is run by the host's kernel */

#define PHYS(field) (arena_phys + offsetof(struct arena, field))

static uint32_t get(unsigned int reg)
{
	return *(volatile uint32_t *)(regs + reg);
}

static void set(unsigned int reg, uint32_t value)
{
	*(volatile uint32_t *)(regs + reg) = value;
}

static void die(const char *what)
{
	printf("RESULT %s FAIL %s\n", what, strerror(errno));
	exit(1);
}

static void expect(bool good, const char *what)
{
	if (good)
		return;
	failures++;
	printf("device %s: %s: status %#x used %u result %u\n", device_name, what,
	       get(VIRTIO_MMIO_STATUS), arena->used.idx, arena->status);
}

static uint64_t virt_to_phys(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8) != 8 || !(entry >> 63))
		die("pagemap");
	close(fd);
	return (entry & ((1ull << 55) - 1)) * PAGE;
}

static void set_queue(uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	set(VIRTIO_MMIO_QUEUE_NUM, size);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
	set(VIRTIO_MMIO_QUEUE_DESC_HIGH, desc >> 32);
	set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail);
	set(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, avail >> 32);
	set(VIRTIO_MMIO_QUEUE_USED_LOW, used);
	set(VIRTIO_MMIO_QUEUE_USED_HIGH, used >> 32);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
}

/* Resets the device and takes @features; the queue @index lies in the arena, empty. */
static void start(unsigned int index, uint64_t features)
{
	memset((void *)arena, 0, sizeof(*arena));
	set(VIRTIO_MMIO_STATUS, 0);
	expect(get(VIRTIO_MMIO_STATUS) == 0, "reset");
	set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (unsigned int i = 0; i < 2; i++) {
		set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		set(VIRTIO_MMIO_DRIVER_FEATURES, features >> 32 * i);
	}
	set(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_FEATURES_OK);
	expect(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK, "features");
	/* vhost starts only with all queues, so there they share the arena. */
	for (unsigned int i = 0; i < nr_queues; i++) {
		if (i != index && !vhost)
			continue;
		set(VIRTIO_MMIO_QUEUE_SEL, i);
		set_queue(QSIZE, PHYS(desc), PHYS(avail), PHYS(used));
		expect(get(VIRTIO_MMIO_QUEUE_READY) == 1, "queue");
	}
	set(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
	expect(!(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET), "start");
}

static const uint64_t plain = 1ull << VIRTIO_F_VERSION_1;
static const uint64_t indirect = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC;

static void describe(volatile struct vring_desc *d, uint64_t addr, uint32_t len, uint16_t flags,
		     uint16_t next)
{
	d->addr = addr;
	d->len = len;
	d->flags = flags;
	d->next = next;
}

/*
 * Makes the chain that starts at @head available and gives the device up to 10 s to take it or
 * break.
 */
static void offer(unsigned int index, uint16_t head)
{
	arena->avail.ring[arena->avail.idx % QSIZE] = head;
	__sync_synchronize();
	arena->avail.idx++;
	set(VIRTIO_MMIO_QUEUE_NOTIFY, index);
	for (unsigned int i = 0; i < 10000; i++) {
		if (arena->used.idx == arena->avail.idx ||
		    (get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET))
			return;
		usleep(1000);
	}
}

static void expect_broken(const char *what)
{
	expect((get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) && !arena->used.idx, what);
	expect(get(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, "told of the break");
}

/* A device that svmctl serves itself must notice each of these and stop. */
static void attack_ring(unsigned int queue, uint64_t memory_end)
{
	const uint64_t nowhere[] = { RAM_HOLE,	 RAM_HOLE - 8, DEVICE_BASE,
				     0xfee00000, memory_end,   memory_end - 8,
				     1ull << 63, -8ull,	       0xfffffffffull };

	for (unsigned int i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		for (unsigned int flags = 0; flags <= VRING_DESC_F_WRITE;
		     flags += VRING_DESC_F_WRITE) {
			start(queue, plain);
			describe(&arena->desc[0], nowhere[i], 64, flags, 0);
			offer(queue, 0);
			expect_broken("an address outside of memory");
		}
	}
	start(queue, plain);
	describe(&arena->desc[0], PHYS(data), 0xffffffff, VRING_DESC_F_WRITE, 0);
	describe(&arena->desc[1], -1ull, 0xffffffff, 0, 0);
	offer(queue, 1);
	expect_broken("a length that wraps");
	start(queue, plain);
	describe(&arena->desc[0], PHYS(data), 4, VRING_DESC_F_NEXT, 1);
	describe(&arena->desc[1], PHYS(data), 4, VRING_DESC_F_NEXT, 0);
	offer(queue, 0);
	expect_broken("a loop");
	start(queue, plain);
	describe(&arena->desc[0], PHYS(data), 4, VRING_DESC_F_NEXT, QSIZE);
	offer(queue, 0);
	expect_broken("a next outside of the table");
	start(queue, plain);
	offer(queue, 0xffff);
	expect_broken("a head outside of the table");
	start(queue, plain);
	arena->avail.idx = QSIZE;
	offer(queue, 0);
	expect_broken("more buffers than the queue has");
	start(queue, plain);
	describe(&arena->desc[0], PHYS(data), 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	describe(&arena->desc[1], PHYS(data), 4, 0, 0);
	offer(queue, 0);
	expect_broken("a piece to read after one to write");
}

static void attack_indirect(unsigned int queue)
{
	const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, inner;
		uint64_t features;
	} cases[] = {
		{ RAM_HOLE, 32, 0, 0, indirect },
		{ RAM_HOLE - 16, 32, 0, 0, indirect },
		{ PHYS(indirect), 8, 0, 0, indirect },
		{ PHYS(indirect), 0, 0, 0, indirect },
		{ PHYS(indirect), 0xfffffff0, 0, 0, indirect },
		{ PHYS(indirect), 16, VRING_DESC_F_NEXT, 0, indirect },
		{ PHYS(indirect), 16, 0, VRING_DESC_F_INDIRECT, indirect },
		{ PHYS(indirect), 16, 0, VRING_DESC_F_NEXT, indirect }, /* to itself */
		{ PHYS(indirect), 16, 0, 0, plain },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start(queue, cases[i].features);
		describe(&arena->indirect[0], PHYS(indirect), 16, cases[i].inner, 0);
		describe(&arena->desc[0], cases[i].addr, cases[i].len,
			 VRING_DESC_F_INDIRECT | cases[i].flags, 1);
		offer(queue, 0);
		expect_broken("a wrong indirect table");
	}
}

/* Wherever the rings are said to be, the device must not go there. */
static void attack_setup(void)
{
	const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} cases[] = {
		{ 0, PHYS(desc), PHYS(avail), PHYS(used) },
		{ 15, PHYS(desc), PHYS(avail), PHYS(used) },
		{ 512, PHYS(desc), PHYS(avail), PHYS(used) },
		{ 0x80000000, PHYS(desc), PHYS(avail), PHYS(used) },
		{ QSIZE, PHYS(desc) + 8, PHYS(avail), PHYS(used) },
		{ QSIZE, PHYS(desc), PHYS(avail) + 1, PHYS(used) },
		{ QSIZE, PHYS(desc), PHYS(avail), PHYS(used) + 2 },
		{ QSIZE, RAM_HOLE, PHYS(avail), PHYS(used) },
		{ QSIZE, RAM_HOLE - 16, PHYS(avail), PHYS(used) },
		{ QSIZE, PHYS(desc), RAM_HOLE - 2, PHYS(used) },
		{ QSIZE, PHYS(desc), PHYS(avail), RAM_HOLE - 4 },
		{ QSIZE, -16ull, PHYS(avail), PHYS(used) },
		{ QSIZE, PHYS(desc), PHYS(avail), 1ull << 62 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set(VIRTIO_MMIO_STATUS, 0);
		set(VIRTIO_MMIO_QUEUE_SEL, 0);
		set_queue(cases[i].size, cases[i].desc, cases[i].avail, cases[i].used);
		expect(get(VIRTIO_MMIO_QUEUE_READY) == 0, "nonsense is no queue");
	}
	/* Features that were not offered, and the lack of VERSION_1, are refused. */
	for (unsigned int i = 0; i < 2; i++) {
		set(VIRTIO_MMIO_STATUS, 0);
		set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		set(VIRTIO_MMIO_DRIVER_FEATURES, i ? 0x80000001 : 0);
		set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FEATURES_OK);
		expect(!(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK), "wrong features");
	}
	set(VIRTIO_MMIO_STATUS, 0);
	set(VIRTIO_MMIO_QUEUE_SEL, 1000);
	expect(get(VIRTIO_MMIO_QUEUE_NUM_MAX) == 0, "a queue that is not there");
}

static uint32_t random32(void)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 16;
}

/* Inside of the arena, or nowhere: the device may write where it is told. */
static uint64_t random_address(void)
{
	if (random32() % 8)
		return PHYS(head) + random32() % (sizeof(arena->data) / 2);
	return RAM_HOLE + random32() % 0x40000000;
}

/* Random rings and registers: nothing to expect but that svmctl survives. */
static void fuzz(unsigned int rounds)
{
	while (rounds--) {
		unsigned int queue = random32() % nr_queues;

		start(queue, random32() % 2 ? plain : indirect);
		for (unsigned int i = 0; i < QSIZE; i++) {
			describe(&arena->desc[i], random_address(), random32() % 256,
				 random32() % 4, random32() % (QSIZE + 1));
			describe(&arena->indirect[i], random_address(), random32() % 128,
				 random32() % 8, random32() % (QSIZE + 1));
			arena->avail.ring[i] = random32() % (QSIZE + 1);
		}
		describe(&arena->desc[random32() % QSIZE], PHYS(indirect),
			 16 * (random32() % QSIZE), VRING_DESC_F_INDIRECT, 0);
		arena->head.type =
			random32() % 16; /* with a sector of 0 or so: a disk stays as it is */
		arena->head.sector = random32() % 2 ? ~0ull : 1ull << 40;
		if (arena->head.type == VIRTIO_BLK_T_OUT ||
		    arena->head.type == VIRTIO_BLK_T_DISCARD)
			arena->head.type = VIRTIO_BLK_T_IN;
		arena->avail.idx = random32() % (QSIZE + 2);
		arena->avail.flags = random32() % 2;
		__sync_synchronize();
		set(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
		set(VIRTIO_MMIO_QUEUE_SEL, random32() % 4);
		for (unsigned int i = 0; i < 4; i++)
			*(volatile uint8_t *)(regs + random32() % PAGE);
		*(volatile uint16_t *)(regs + random32() % 0x80 * 2) =
			0; /* no register is 2 wide */
		set(VIRTIO_MMIO_INTERRUPT_ACK, random32());
		if (random32() % 4 == 0)
			usleep(500);
	}
	set(VIRTIO_MMIO_STATUS, 0);
}

/* A disk request of three pieces, or four where @size of data is split. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t size, bool in)
{
	uint16_t flags = VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0);

	arena->head.type = type;
	arena->head.sector = sector;
	arena->status = 0xee;
	describe(&arena->desc[0], PHYS(head), sizeof(arena->head), VRING_DESC_F_NEXT, 1);
	describe(&arena->desc[1], PHYS(data), size / 2, flags, 2);
	describe(&arena->desc[2], PHYS(data) + size / 2, size - size / 2, flags, 3);
	describe(&arena->desc[3], PHYS(status), 1, VRING_DESC_F_WRITE, 0);
	offer(0, 0);
	return arena->status;
}

/*
 * What a driver may ask of a disk and must be refused; and that the disk still answers a right
 * request.
 */
static void attack_disk(bool read_only)
{
	start(0, plain);
	describe(&arena->desc[0], PHYS(head), 8, VRING_DESC_F_NEXT, 1);
	describe(&arena->desc[1], PHYS(status), 1, VRING_DESC_F_WRITE, 0);
	offer(0, 0);
	expect_broken("half a header");
	start(0, plain);
	describe(&arena->desc[0], PHYS(head), sizeof(arena->head), 0, 0);
	offer(0, 0);
	expect_broken("no room for a status");

	start(0, read_only ? plain | 1ull << VIRTIO_BLK_F_RO : plain);
	expect(request(VIRTIO_BLK_T_IN, 1ull << 40, 512, true) == VIRTIO_BLK_S_IOERR, "far end");
	expect(request(VIRTIO_BLK_T_IN, -1ull, 512, true) == VIRTIO_BLK_S_IOERR, "wrapped sector");
	expect(request(VIRTIO_BLK_T_IN, 0, 100, true) == VIRTIO_BLK_S_IOERR, "part of a sector");
	expect(request(VIRTIO_BLK_T_OUT, -1ull, 512, false) == VIRTIO_BLK_S_IOERR, "write far");
	expect(request(77, 0, 512, true) == VIRTIO_BLK_S_UNSUPP, "unknown request");
	if (read_only)
		expect(request(VIRTIO_BLK_T_OUT, 0, 512, false) == VIRTIO_BLK_S_IOERR,
		       "write to a read-only disk");
	expect(request(VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES, true) == VIRTIO_BLK_S_OK &&
		       strstr((char *)arena->data, ".img"),
	       "its name");
	expect(arena->used.ring[(arena->used.idx - 1) % QSIZE].len == VIRTIO_BLK_ID_BYTES + 1,
	       "length written");
	set(VIRTIO_MMIO_STATUS, 0);
}

static void attack(unsigned int index, uint64_t memory_end)
{
	static const char *const names[] = { [VIRTIO_ID_NET] = "net",
					     [VIRTIO_ID_BLOCK] = "disk",
					     [VIRTIO_ID_CONSOLE] = "console",
					     [VIRTIO_ID_RNG] = "rng",
					     [VIRTIO_ID_VSOCK] = "vsock" };
	unsigned int id = get(VIRTIO_MMIO_DEVICE_ID);
	bool read_only;

	device_name = id <= VIRTIO_ID_VSOCK && names[id] ? names[id] : "unknown";
	set(VIRTIO_MMIO_STATUS, 0);
	for (nr_queues = 0;; nr_queues++) {
		set(VIRTIO_MMIO_QUEUE_SEL, nr_queues);
		if (!get(VIRTIO_MMIO_QUEUE_NUM_MAX))
			break;
	}
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	read_only = get(VIRTIO_MMIO_DEVICE_FEATURES) & 1 << VIRTIO_BLK_F_RO;
	/* The bit is for merged receive buffers, which svmctl itself does not do. */
	vhost = id == VIRTIO_ID_VSOCK ||
		(id == VIRTIO_ID_NET && get(VIRTIO_MMIO_DEVICE_FEATURES) & 1 << 15);
	attack_setup();
	if (!vhost) {
		/* The transmit queue of a card or a console: its buffers are looked at at once. */
		unsigned int queue = nr_queues > 1 ? 1 : 0;

		attack_ring(queue, memory_end);
		attack_indirect(queue);
	}
	fuzz(vhost ? 50 : 200);
	if (id == VIRTIO_ID_BLOCK)
		attack_disk(read_only);
	printf("attacked device %u: %s%s, %u queues\n", index, device_name, vhost ? " (vhost)" : "",
	       nr_queues);
}

/* @memory_end: where the RAM above 4 GiB ends */
static int hostile(uint64_t memory_end)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
	unsigned int found = 0;

	arena = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
	if (arena == MAP_FAILED || fd < 0)
		die("hostile");
	memset((void *)arena, 0, sizeof(*arena));
	arena_phys = virt_to_phys(arena);
	for (unsigned int i = 0; i < 8; i++) {
		regs = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    DEVICE_BASE + i * PAGE);
		if (regs == MAP_FAILED)
			die("hostile");
		if (get(VIRTIO_MMIO_MAGIC_VALUE) != 0x74726976)
			continue;
		attack(i, memory_end);
		found++;
	}
	printf("RESULT hostile %s %u devices, %u failures\n", !failures && found ? "ok" : "FAIL",
	       found, failures);
	return failures || !found;
}

static void copy(int from, int to)
{
	static char buffer[65536];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, n) != n)
			die("vsock write");
	if (n < 0)
		die("vsock read");
}

/*
 * "listen": what the first to connect sends goes to standard output. "send": standard input goes to
 * the host.
 */
static int vsock(bool listening, unsigned int port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = listening ? VMADDR_CID_ANY : VMADDR_CID_HOST,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		die("vsock socket");
	if (!listening) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
			die("vsock connect");
		copy(STDIN_FILENO, fd);
		return 0;
	}
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		die("vsock listen");
	copy(accept(fd, NULL, NULL), STDOUT_FILENO);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "hostile"))
		return hostile(strtoull(argv[2], NULL, 0));
	if (argc == 3 && !strcmp(argv[1], "vsock-listen"))
		return vsock(true, atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "vsock-send"))
		return vsock(false, atoi(argv[2]));
	fprintf(stderr,
		"usage: svmctl-guest hostile MEMORY-END | vsock-listen PORT | vsock-send PORT\n");
	return 2;
}
