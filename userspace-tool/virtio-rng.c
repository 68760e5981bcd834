// SPDX-License-Identifier: GPL-2.0
/* The entropy device (virtio 1.2, 5.4): fills the guest's buffers from the host's generator. */
#include <sys/random.h>

#include "virtio.h"

enum { ENOUGH = 4096 /* bytes for one buffer; the driver comes again if it wants more */ };

static void rng_kicked(struct virtio *dev, struct virtqueue *q)
{
	static _Thread_local struct chain c;
	uint8_t bytes[ENOUGH];

	while (queue_take(dev, q, &c)) {
		ssize_t n = getrandom(bytes, c.in_size < ENOUGH ? c.in_size : ENOUGH, 0);

		n = iov_copy(c.iov + c.nr_out, c.nr_in, bytes, n > 0 ? n : 0, true);
		queue_done(q, &c, n);
	}
	queue_tell(dev, q);
}

static const struct virtio_ops rng_ops = { VIRTIO_ID_RNG, 1, .kicked = rng_kicked };

static int rng_create(struct vm *vm, const struct device_option *option)
{
	struct virtio *dev = calloc(1, sizeof(*dev));

	(void)option;
	return dev ? virtio_create(vm, dev, &rng_ops) : complain("no memory");
}

/* --rng */
int rng_option(struct device_option *option, char *text)
{
	(void)text;
	option->create = rng_create;
	return 0;
}
