// SPDX-License-Identifier: GPL-2.0
/*
 * What all virtio devices share: status, features, queues, a thread each. Whatever a guest writes
 * into its queues, they stay inside its memory: every address is checked, everything is read once,
 * and a queue that breaks the rules stops the device until the driver resets it (virtio 1.2,
 * 2.1.2).
 */
#include <poll.h>

#include "virtio.h"

static const uint64_t common_features = FEATURE(VIRTIO_F_VERSION_1) |
					FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
					FEATURE(VIRTIO_RING_F_EVENT_IDX);

void virtio_interrupt(struct virtio *dev, uint32_t why)
{
	dev->interrupt |= why;
	eventfd_write(dev->irq, 1);
}

/*
 * The driver has broken the rules, or the device cannot go on: nothing happens until the driver
 * resets it.
 */
void virtio_broken(struct virtio *dev)
{
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt(dev, INTERRUPT_CONFIG);
}

static void stop(struct virtio *dev)
{
	if (dev->running && dev->ops->stop)
		dev->ops->stop(dev);
	dev->running = false;
	dev->poll_fd = -1;
}

static void reset(struct virtio *dev)
{
	stop(dev);
	dev->status = 0;
	dev->features = 0;
	dev->interrupt = 0;
	for (unsigned int i = 0; i < dev->ops->nr_queues; i++) {
		struct virtqueue *q = &dev->queues[i];

		memset(q->address, 0, sizeof(q->address));
		q->size = QUEUE_SIZE;
		q->ready = false;
	}
}

/*
 * The driver writes its progress (virtio 1.2, 3.1.1). It only adds bits, or resets the device with
 * 0.
 */
void virtio_set_status(struct virtio *dev, uint8_t status)
{
	uint8_t added = status & ~dev->status & ~VIRTIO_CONFIG_S_NEEDS_RESET;

	if (!status) {
		reset(dev);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((dev->features & ~dev->offered) || !(dev->features & FEATURE(VIRTIO_F_VERSION_1))))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	dev->status |= added;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	dev->running = (dev->status & VIRTIO_CONFIG_S_FEATURES_OK) &&
		       !(dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) &&
		       (!dev->ops->start || dev->ops->start(dev));
	if (!dev->running)
		virtio_broken(dev);
	for (unsigned int i = 0; i < dev->ops->nr_queues; i++)
		eventfd_write(dev->queues[i].kick, 1); /* there may be buffers already */
}

/* --- queues --- */

static void *map_area(struct virtio *dev, uint64_t address, uint64_t size, uint64_t alignment)
{
	return address % alignment ? NULL : vm_memory(dev->vm, address, size);
}

/* Starts to use a queue as the driver has described it; false if that is nonsense. */
bool queue_enable(struct virtio *dev, struct virtqueue *q)
{
	uint32_t n = q->size;

	if (!n || n > QUEUE_SIZE || (n & (n - 1)))
		return false;
	q->desc = map_area(dev, q->address[AREA_DESC], sizeof(*q->desc) * n, 16);
	/* Each ring ends with the index of VIRTIO_RING_F_EVENT_IDX. */
	q->avail = map_area(dev, q->address[AREA_AVAIL], sizeof(*q->avail) + 2 * n + 2, 2);
	q->used = map_area(dev, q->address[AREA_USED],
			   sizeof(*q->used) + sizeof(struct vring_used_elem) * n + 2, 4);
	q->next = q->done = q->told = 0;
	return q->ready = q->desc && q->avail && q->used;
}

static bool add_piece(struct virtio *dev, struct chain *c, const struct vring_desc *d)
{
	struct iovec *iov = &c->iov[c->nr_out + c->nr_in];
	bool in = d->flags & VRING_DESC_F_WRITE;

	if (c->nr_out + c->nr_in == QUEUE_SIZE || (c->nr_in && !in))
		return false;
	iov->iov_base = vm_memory(dev->vm, d->addr, d->len);
	iov->iov_len = d->len;
	*(in ? &c->nr_in : &c->nr_out) += 1;
	*(in ? &c->in_size : &c->out_size) += d->len;
	return iov->iov_base;
}

/*
 * Follows the descriptors from c->head. A loop ends at the QUEUE_SIZE pieces that a chain may have.
 */
static bool follow(struct virtio *dev, struct virtqueue *q, struct chain *c)
{
	const volatile struct vring_desc *table = q->desc;
	uint32_t i = c->head, count = q->size;
	struct vring_desc d;

	for (; i < count; i = d.next) {
		d = table[i]; /* once: the guest may change it meanwhile */
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (table != q->desc || (d.flags & VRING_DESC_F_NEXT) ||
			    d.len % sizeof(d) ||
			    !(dev->features & FEATURE(VIRTIO_RING_F_INDIRECT_DESC)))
				return false;
			table = vm_memory(dev->vm, d.addr, d.len);
			count = table ? d.len / sizeof(d) : 0;
			d.next = 0;
			continue;
		}
		if (!add_piece(dev, c, &d))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
	}
	return false;
}

/*
 * Takes the next buffer the guest has made available; false if there is none, or the queue is
 * broken.
 */
bool queue_take(struct virtio *dev, struct virtqueue *q, struct chain *c)
{
	uint16_t available;

	if (!q->ready || !dev->running || (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return false;
	available = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	if (available == q->next && (dev->features & FEATURE(VIRTIO_RING_F_EVENT_IDX))) {
		/*
		 * Ask to be kicked for the next; then look once more, or one just added is missed.
		 */
		__atomic_store_n((uint16_t *)&q->used->ring[q->size], q->next, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		available = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	}
	if (available == q->next)
		return false;
	memset(c, 0, offsetof(struct chain, iov));
	c->head = __atomic_load_n(&q->avail->ring[q->next % q->size], __ATOMIC_RELAXED);
	if ((uint16_t)(available - q->next) > q->size || !follow(dev, q, c)) {
		virtio_broken(dev);
		return false;
	}
	q->next++;
	return true;
}

/* Undoes the last queue_take(). */
void queue_put_back(struct virtqueue *q)
{
	q->next--;
}

/* Gives a buffer back, with @written bytes in its pieces to write. */
void queue_done(struct virtqueue *q, const struct chain *c, uint32_t written)
{
	struct vring_used_elem *e = &q->used->ring[q->done % q->size];

	e->id = c->head;
	e->len = written;
	__atomic_store_n(&q->used->idx, ++q->done, __ATOMIC_RELEASE);
}

/* Interrupts the guest for what was given back, if it wants that. */
void queue_tell(struct virtio *dev, struct virtqueue *q)
{
	uint16_t told = q->told;
	bool wanted;

	q->told = q->done;
	if (q->done == told)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index before what the guest wants */
	if (dev->features & FEATURE(VIRTIO_RING_F_EVENT_IDX))
		wanted = vring_need_event(
			__atomic_load_n(&q->avail->ring[q->size], __ATOMIC_RELAXED), q->done, told);
	else
		wanted = !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) &
			   VRING_AVAIL_F_NO_INTERRUPT);
	if (wanted)
		virtio_interrupt(dev, INTERRUPT_QUEUE);
}

/* Moves up to @size bytes between @data and the front of @iov, which then begins after them. */
size_t iov_copy(struct iovec *iov, unsigned int count, void *data, size_t size, bool write)
{
	size_t moved = 0;

	for (; count && moved < size; count--, iov++) {
		size_t n = iov->iov_len < size - moved ? iov->iov_len : size - moved;

		if (write)
			memcpy(iov->iov_base, (uint8_t *)data + moved, n);
		else
			memcpy((uint8_t *)data + moved, iov->iov_base, n);
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		moved += n;
	}
	return moved;
}

/* --- life --- */

/* Serves the queues of one device until its VM goes. */
static void *device_thread(void *arg)
{
	struct virtio *dev = arg;
	unsigned int nr_queues = dev->ops->nr_queues;
	struct pollfd fds[2 + MAX_QUEUES];
	bool last = false;
	eventfd_t value;

	/* Once more after the end has come: for what the guest had still asked for. */
	while (!last) {
		last = dev->quit;
		fds[0] = (struct pollfd){ dev->wake, POLLIN, 0 };
		fds[1] = (struct pollfd){ dev->poll_fd, POLLIN, 0 };
		for (unsigned int i = 0; i < nr_queues; i++)
			fds[2 + i] = (struct pollfd){ dev->queues[i].kick, POLLIN, 0 };
		if (poll(fds, 2 + nr_queues, -1) < 0)
			continue;
		pthread_mutex_lock(&dev->lock);
		for (unsigned int i = 0; i < nr_queues; i++) {
			if (fds[2 + i].revents)
				eventfd_read(dev->queues[i].kick, &value);
			if (fds[2 + i].revents && dev->running && dev->ops->kicked)
				dev->ops->kicked(dev, &dev->queues[i]);
		}
		if (fds[1].revents && dev->running && dev->poll_fd >= 0)
			dev->ops->input(dev);
		pthread_mutex_unlock(&dev->lock);
	}
	return NULL;
}

/*
 * Makes a device, whose own fields are set, part of a VM; from here virtio_destroy_all() is what
 * frees it. Returns 0 or an exit code.
 */
int virtio_create(struct vm *vm, struct virtio *dev, const struct virtio_ops *ops)
{
	bool complete;
	int err;

	dev->ops = ops;
	dev->vm = vm;
	dev->offered |= common_features;
	dev->poll_fd = -1;
	pthread_mutex_init(&dev->lock, NULL);
	dev->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	complete = dev->irq >= 0 && dev->wake >= 0;
	for (unsigned int i = 0; i < ops->nr_queues; i++) {
		dev->queues[i].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		complete = complete && dev->queues[i].kick >= 0;
	}
	reset(dev);
	vm->virtio[vm->nr_virtio++] = dev;
	dev->quit = true; /* no thread yet */
	if (!complete)
		return complain("no eventfd: %s", strerror(errno));
	err = mmio_connect(vm, dev);
	if (err || dev->vhost)
		return err;
	dev->quit = false;
	err = pthread_create(&dev->thread, NULL, device_thread, dev);
	dev->quit = err;
	return err ? complain("no thread: %s", strerror(err)) : 0;
}

/* Ends all devices of a VM whose vCPUs are gone. What the guest has asked for is still done. */
void virtio_destroy_all(struct vm *vm)
{
	while (vm->nr_virtio) {
		struct virtio *dev = vm->virtio[--vm->nr_virtio];

		if (!dev->quit) {
			dev->quit = true;
			eventfd_write(dev->wake, 1);
			pthread_join(dev->thread, NULL);
		}
		reset(dev);
		if (dev->ops->destroy)
			dev->ops->destroy(dev);
		for (unsigned int q = 0; q < dev->ops->nr_queues; q++)
			close(dev->queues[q].kick);
		close(dev->irq);
		close(dev->wake);
		free(dev);
	}
}
