// SPDX-License-Identifier: GPL-2.0
/* Sockets between guest and host (virtio 1.2, 5.10): the kernel's vhost-vsock is the device. */
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "virtio.h"

/* The third queue is for events, of which there are none. */
enum { VHOST_QUEUES = 2, NR_QUEUES };

struct vsock {
	struct virtio virtio;
	struct virtio_vsock_config config;
	int fd;
};

static bool vsock_start(struct virtio *dev)
{
	struct vsock *v = (struct vsock *)dev;
	int on = 1;

	return vhost_start(dev, v->fd, VHOST_QUEUES) && !ioctl(v->fd, VHOST_VSOCK_SET_RUNNING, &on);
}

static void vsock_stop(struct virtio *dev)
{
	struct vsock *v = (struct vsock *)dev;
	int off = 0;

	ioctl(v->fd, VHOST_VSOCK_SET_RUNNING, &off);
}

static void vsock_destroy(struct virtio *dev)
{
	close(((struct vsock *)dev)->fd);
}

static const struct virtio_ops vsock_ops = {
	VIRTIO_ID_VSOCK, NR_QUEUES, vsock_start, vsock_stop, .destroy = vsock_destroy,
};

static int vsock_create(struct vm *vm, const struct device_option *option)
{
	struct vsock *v = calloc(1, sizeof(*v));
	uint64_t cid = option->cid, features;

	if (!v)
		return complain("no memory");
	v->fd = vhost_open("/dev/vhost-vsock", &features);
	if (v->fd >= 0 && !ioctl(v->fd, VHOST_VSOCK_SET_GUEST_CID, &cid)) {
		v->config.guest_cid = cid;
		v->virtio.offered = features & FEATURE(VIRTIO_VSOCK_F_SEQPACKET);
		v->virtio.config = &v->config;
		v->virtio.config_size = sizeof(v->config);
		v->virtio.vhost = true;
		return virtio_create(vm, &v->virtio, &vsock_ops);
	}
	if (v->fd >= 0) {
		complain("vsock CID %u: %s", option->cid, strerror(errno));
		close(v->fd);
	}
	free(v);
	return EXIT_HOST;
}

/* --vsock CID */
int vsock_option(struct device_option *option, char *text)
{
	unsigned long cid;
	char *end;

	cid = strtoul(text, &end, 10);
	option->create = vsock_create;
	option->cid = cid;
	return *end || cid <= VMADDR_CID_HOST || cid >= VMADDR_CID_ANY ? -1 : 0;
}
