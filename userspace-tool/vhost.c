// SPDX-License-Identifier: GPL-2.0
/*
 * Queues served by the host's kernel (<linux/vhost.h>), of networks and vsock: svmctl only sets
 * them up.
 */
#include <linux/vhost.h>

#include "virtio.h"

/*
 * Opens a vhost device for this process, and reads the features it has. Returns the fd, or -1 after
 * a message.
 */
int vhost_open(const char *path, uint64_t *features)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0 && !ioctl(fd, VHOST_SET_OWNER) && !ioctl(fd, VHOST_GET_FEATURES, features))
		return fd;
	complain("cannot use %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool set_memory(const struct vm *vm, int fd)
{
	uint64_t at = (uintptr_t)vm->ram, low = vm->low_size, high = vm->options->memory - low;
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[2];
	} table = {
		{ .nregions = high ? 2 : 1 },
		{ { 0, low, at, 0 }, { HIGH_RAM_START, high, at + low, 0 } },
	};

	return !ioctl(fd, VHOST_SET_MEM_TABLE, &table);
}

static bool set_queue(struct virtio *dev, int fd, unsigned int index)
{
	const struct virtqueue *q = &dev->queues[index];
	struct vhost_vring_state size = { index, q->size }, start = { index, 0 };
	struct vhost_vring_file kick = { index, q->kick }, call = { index, dev->irq };
	struct vhost_vring_addr address = {
		.index = index,
		.desc_user_addr = (uintptr_t)q->desc,
		.avail_user_addr = (uintptr_t)q->avail,
		.used_user_addr = (uintptr_t)q->used,
	};

	return q->ready && !ioctl(fd, VHOST_SET_VRING_NUM, &size) &&
	       !ioctl(fd, VHOST_SET_VRING_BASE, &start) &&
	       !ioctl(fd, VHOST_SET_VRING_ADDR, &address) &&
	       !ioctl(fd, VHOST_SET_VRING_KICK, &kick) && !ioctl(fd, VHOST_SET_VRING_CALL, &call);
}

/* Hands the first @nr_queues queues to vhost; its own kind of start comes after this. */
bool vhost_start(struct virtio *dev, int fd, unsigned int nr_queues)
{
	uint64_t features;
	bool ok = !ioctl(fd, VHOST_GET_FEATURES, &features);

	features &= dev->features;
	ok = ok && !ioctl(fd, VHOST_SET_FEATURES, &features) && set_memory(dev->vm, fd);
	for (unsigned int i = 0; ok && i < nr_queues; i++)
		ok = set_queue(dev, fd, i);
	return ok;
}
