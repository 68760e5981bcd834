// SPDX-License-Identifier: GPL-2.0
/*
 * A network card (virtio 1.2, 5.1) on a tap device of the host, served here or by the kernel's
 * vhost-net.
 */
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/random.h>

#include "virtio.h"

enum { RX, TX, NR_QUEUES };

/* The tap's and our header before each frame. */
static const int header_size = sizeof(struct virtio_net_hdr_v1);

/* What a tap can do with checksums and segments without the device's help. */
static const uint64_t tap_features =
	FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
	FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) |
	FEATURE(VIRTIO_NET_F_GUEST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO6);

struct net {
	struct virtio virtio;
	struct virtio_net_config config;
	int tap, vhost;
	struct chain chain;
};

/* Moves frames from the tap to the guest, until one of them runs out: then waits for that one. */
static void receive(struct virtio *dev)
{
	struct virtqueue *q = &dev->queues[RX];
	struct net *net = (struct net *)dev;
	struct chain *c = &net->chain;
	uint8_t before[offsetof(struct virtio_net_hdr_v1, num_buffers)];
	uint16_t one = 1;
	ssize_t n = 0;

	dev->poll_fd = -1;
	while (queue_take(dev, q, c)) {
		struct iovec *in = c->iov + c->nr_out;

		if (c->in_size < (size_t)header_size) {
			virtio_broken(dev);
			break;
		}
		n = readv(net->tap, in, c->nr_in);
		if (n < header_size) {
			queue_put_back(q);
			/* A tap that is down or gone stays silent until the guest kicks. */
			if (n >= 0 || errno == EAGAIN || errno == EINTR || errno == EFAULT)
				dev->poll_fd = net->tap;
			break;
		}
		/*
		 * The one field of the header that the tap leaves alone, wherever the pieces end.
		 */
		iov_copy(in, c->nr_in, before, sizeof(before), false);
		iov_copy(in, c->nr_in, &one, sizeof(one), true);
		queue_done(q, c, (size_t)n < c->in_size ? (size_t)n : c->in_size);
	}
	queue_tell(dev, q);
}

static void transmit(struct virtio *dev, struct virtqueue *q)
{
	struct net *net = (struct net *)dev;
	struct chain *c = &net->chain;

	unsigned int n;

	for (n = 0; n < QUEUE_SIZE && queue_take(dev, q, c); n++) {
		/* A frame the tap does not take, be it a wrong one, is lost like on any wire. */
		ssize_t sent = writev(net->tap, c->iov, c->nr_out);

		(void)sent;
		queue_done(q, c, 0);
	}
	queue_tell(dev, q);
	if (n == QUEUE_SIZE)
		eventfd_write(q->kick, 1); /* come back, once what was received has had its turn */
}

static void net_kicked(struct virtio *dev, struct virtqueue *q)
{
	if (q == &dev->queues[TX])
		transmit(dev, q);
	else
		receive(dev);
}

static bool set_backend(const struct net *net, int fd)
{
	struct vhost_vring_file rx = { RX, fd }, tx = { TX, fd };

	int failed = ioctl(net->vhost, VHOST_NET_SET_BACKEND, &rx);

	return !ioctl(net->vhost, VHOST_NET_SET_BACKEND, &tx) && !failed;
}

/* Tells the tap what the guest can take, and gives both to vhost if that is to serve. */
static bool net_start(struct virtio *dev)
{
	struct net *net = (struct net *)dev;
	uint64_t f = dev->features;
	unsigned long offload = (f & FEATURE(VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0) |
				(f & FEATURE(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
				(f & FEATURE(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0);

	if (ioctl(net->tap, TUNSETOFFLOAD, offload))
		return false;
	if (!dev->vhost || (vhost_start(dev, net->vhost, NR_QUEUES) && set_backend(net, net->tap)))
		return true;
	set_backend(net, VHOST_FILE_UNBIND);
	return false;
}

static void net_stop(struct virtio *dev)
{
	if (dev->vhost)
		set_backend((struct net *)dev, VHOST_FILE_UNBIND);
}

static void net_destroy(struct virtio *dev)
{
	close(((struct net *)dev)->vhost);
}

static const struct virtio_ops net_ops = {
	VIRTIO_ID_NET, NR_QUEUES, net_start, net_stop, net_kicked, receive, net_destroy,
};

static int net_create(struct vm *vm, const struct device_option *option)
{
	struct net *net = calloc(1, sizeof(*net));
	uint64_t features = 0;

	if (!net)
		return complain("no memory");
	net->tap = option->fd;
	net->vhost = option->vhost ? vhost_open("/dev/vhost-net", &features) : -1;
	if (option->vhost && net->vhost < 0) {
		free(net);
		return EXIT_HOST;
	}
	memcpy(net->config.mac, option->mac, sizeof(net->config.mac));
	net->virtio.vhost = option->vhost;
	net->virtio.config = &net->config;
	net->virtio.config_size = sizeof(net->config);
	net->virtio.offered = FEATURE(VIRTIO_NET_F_MAC) | tap_features |
			      (features & FEATURE(VIRTIO_NET_F_MRG_RXBUF));
	return virtio_create(vm, &net->virtio, &net_ops);
}

/* Attaches to the tap device @name, or makes it. */
static int open_tap(struct device_option *option)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	option->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (option->fd < 0)
		return complain("cannot open /dev/net/tun: %s", strerror(errno));
	strncpy(request.ifr_name, option->name, IFNAMSIZ - 1);
	if (ioctl(option->fd, TUNSETIFF, &request) ||
	    ioctl(option->fd, TUNSETVNETHDRSZ, &header_size))
		return complain("cannot use tap device %s: %s", option->name, strerror(errno));
	return 0;
}

static bool parse_mac(const char *text, uint8_t *mac)
{
	int end = 0, n = sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1],
				&mac[2], &mac[3], &mac[4], &mac[5], &end);

	return n == 6 && !text[end] && !(mac[0] & 1);
}

/* --net tap=NAME[,mac=MAC][,vhost] */
int net_option(struct device_option *option, char *text)
{
	char *const keys[] = { "tap", "mac", "vhost", NULL };
	char *value;

	option->create = net_create;
	option->fd = -1;
	if (getrandom(option->mac, sizeof(option->mac), 0) < 0)
		return complain("no random bytes: %s", strerror(errno));
	option->mac[0] = (option->mac[0] & ~1) | 2; /* one address, locally administered */
	while (*text) {
		int key = getsubopt(&text, keys, &value);

		if (key == 0 && value && *value && strlen(value) < IFNAMSIZ)
			option->name = value;
		else if (key == 2 && !value)
			option->vhost = true;
		else if (key != 1 || !value || !parse_mac(value, option->mac))
			return -1;
	}
	return option->name ? open_tap(option) : -1;
}
