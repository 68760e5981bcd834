// SPDX-License-Identifier: GPL-2.0
/*
 * A console (virtio 1.2, 5.3), hvc0 to Linux: the same terminal as the serial line's, without an
 * exit a byte.
 */
#include "virtio.h"

enum { RX, TX, NR_QUEUES };

struct virtio_console {
	struct virtio virtio;
	int input; /* eventfd: there is input */
	uint8_t rx[INPUT_SIZE];
	_Atomic unsigned int rx_count; /* vm->lock */
	struct chain chain;
};

/* Gives the guest what was typed, as far as it has buffers for it. */
static void receive(struct virtio *dev)
{
	struct virtio_console *con = (struct virtio_console *)dev;
	struct virtqueue *q = &dev->queues[RX];
	struct chain *c = &con->chain;
	eventfd_t value;

	eventfd_read(con->input, &value);
	dev->poll_fd = con->input;
	pthread_mutex_lock(&dev->vm->lock);
	while (con->rx_count && queue_take(dev, q, c)) {
		size_t n = iov_copy(c->iov + c->nr_out, c->nr_in, con->rx, con->rx_count, true);

		con->rx_count -= n;
		memmove(con->rx, con->rx + n, con->rx_count);
		queue_done(q, c, n);
		eventfd_write(dev->vm->event, 1); /* there is room */
	}
	pthread_mutex_unlock(&dev->vm->lock);
	queue_tell(dev, q);
}

static void transmit(struct virtio *dev, struct virtqueue *q)
{
	struct virtio_console *con = (struct virtio_console *)dev;
	struct chain *c = &con->chain;
	uint8_t bytes[512];
	bool heard;
	size_t n;

	while (queue_take(dev, q, c)) {
		do {
			n = iov_copy(c->iov, c->nr_out, bytes, sizeof(bytes), false);
			pthread_mutex_lock(&dev->vm->lock);
			heard = console_output(dev->vm, bytes, n);
			pthread_mutex_unlock(&dev->vm->lock);
		} while (n && heard);
		queue_done(q, c, 0);
	}
	queue_tell(dev, q);
}

static void console_kicked(struct virtio *dev, struct virtqueue *q)
{
	if (q == &dev->queues[TX])
		transmit(dev, q);
	else
		receive(dev);
}

static void console_destroy(struct virtio *dev)
{
	close(((struct virtio_console *)dev)->input);
}

static const struct virtio_ops console_ops = {
	VIRTIO_ID_CONSOLE,	    NR_QUEUES, .kicked = console_kicked, .input = receive,
	.destroy = console_destroy,
};

/* For the terminal, as serial_room() and serial_input(). */
unsigned int virtio_console_room(struct vm *vm)
{
	return sizeof(vm->console->rx) - vm->console->rx_count;
}

void virtio_console_input(struct vm *vm, const uint8_t *data, unsigned int count)
{
	struct virtio_console *con = vm->console;

	pthread_mutex_lock(&vm->lock);
	while (count-- && virtio_console_room(vm))
		con->rx[con->rx_count++] = *data++;
	pthread_mutex_unlock(&vm->lock);
	eventfd_write(con->input, 1);
}

static int console_create(struct vm *vm, const struct device_option *option)
{
	struct virtio_console *con = calloc(1, sizeof(*con));

	(void)option;
	if (!con || vm->console) {
		free(con);
		return complain("a guest has at most one --console");
	}
	con->input = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->console = con;
	return virtio_create(vm, &con->virtio, &console_ops);
}

/* --console */
int virtio_console_option(struct device_option *option, char *text)
{
	(void)text;
	option->create = console_create;
	return 0;
}
