/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Virtio devices (OASIS virtio 1.2, split queues, nothing legacy). virtio.c has what all share,
 * virtio-mmio.c is how guests reach them, and each device has a file.
 */
#ifndef SVMCTL_VIRTIO_H
#define SVMCTL_VIRTIO_H

#include <stddef.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <sys/uio.h>

#include "vm.h"

#define FEATURE(bit) (1ull << (bit))

enum { MAX_QUEUES = 3, QUEUE_SIZE = 256 };
/* What a guest is told by interrupt: buffers came back, or: look at my status. */
enum { INTERRUPT_QUEUE = 1, INTERRUPT_CONFIG = 2 };
enum { AREA_DESC, AREA_AVAIL, AREA_USED, NR_AREAS }; /* a queue's three areas of guest memory */

struct virtqueue {
	uint64_t address[NR_AREAS];
	uint32_t size;
	int kick; /* eventfd: the guest has made buffers available */
	bool ready;
	/*
	 * While it is ready: the areas on the host, inside the guest's RAM. The guest may write
	 * there at any time.
	 */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next;	     /* the available buffer to take next */
	uint16_t done, told; /* used buffers: given back; when the guest was last told */
};

/* A buffer of the guest: nr_out pieces to read, after them nr_in to write. */
struct chain {
	uint16_t head;
	unsigned int nr_out, nr_in;
	size_t out_size, in_size;
	struct iovec iov[QUEUE_SIZE];
};

struct virtio;

struct virtio_ops {
	uint32_t id; /* VIRTIO_ID_... */
	unsigned int nr_queues;
	/* All are called with the device's lock held, and all but start may be missing. */
	bool (*start)(struct virtio *dev); /* the driver is ready; false: cannot */
	void (*stop)(struct virtio *dev);  /* undoes start */
	void (*kicked)(struct virtio *dev, struct virtqueue *q);
	void (*input)(struct virtio *dev); /* dev->poll_fd is readable */
	void (*destroy)(struct virtio *dev);
};

/* The start of each device's own struct, which malloc() made. */
struct virtio {
	const struct virtio_ops *ops;
	struct vm *vm;
	uint64_t offered; /* features; virtio.c adds those of the queues */
	const void *config;
	size_t config_size;
	_Atomic int poll_fd; /* what the thread waits for beside queues, or -1 */

	int irq;    /* eventfd, wired to the guest's interrupt controller */
	bool vhost; /* the kernel serves the queues, and svmctl has no thread for them */
	int wake;   /* eventfd: the thread shall end */
	pthread_t thread;
	_Atomic bool quit;
	_Atomic uint32_t interrupt; /* bits of INTERRUPT_... that the guest has not acknowledged */

	pthread_mutex_t lock; /* for what follows; vm->lock nests inside */
	bool running;	      /* between start and stop */
	uint8_t status;
	uint64_t features; /* what the driver took */
	uint32_t features_sel[2], queue_sel;
	struct virtqueue queues[MAX_QUEUES];
};

/* virtio.c */
int virtio_create(struct vm *vm, struct virtio *dev, const struct virtio_ops *ops);
void virtio_set_status(struct virtio *dev, uint8_t status);
bool queue_enable(struct virtio *dev, struct virtqueue *q);
void virtio_broken(struct virtio *dev);
void virtio_interrupt(struct virtio *dev, uint32_t why);
bool queue_take(struct virtio *dev, struct virtqueue *q, struct chain *c);
void queue_put_back(struct virtqueue *q);
void queue_done(struct virtqueue *q, const struct chain *c, uint32_t written);
void queue_tell(struct virtio *dev, struct virtqueue *q);
size_t iov_copy(struct iovec *iov, unsigned int count, void *data, size_t size, bool write);

/* virtio-mmio.c */
int mmio_connect(struct vm *vm, struct virtio *dev);

/* vhost.c */
int vhost_open(const char *path, uint64_t *features);
bool vhost_start(struct virtio *dev, int fd, unsigned int nr_queues);

#endif
