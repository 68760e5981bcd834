// SPDX-License-Identifier: GPL-2.0
/*
 * The transport: a page of registers for each device (virtio 1.2, 4.2.2). acpi.c describes them to
 * the guest as LNRO0005. That way Debian's kernels find them by themselves (they lack the parameter
 * virtio_mmio.device=) with the drivers of their own initrds, and PCI would take a host bridge,
 * configuration spaces and MSI-X for the same.
 *
 * The kernel turns writes to QueueNotify into eventfds (ioeventfd) and eventfds into edge-triggered
 * interrupts (irqfd), so that neither comes by here.
 */
#include <linux/virtio_mmio.h>

#include "virtio.h"

enum { MAGIC = 0x74726976 /* "virt" */, VERSION = 2, VENDOR = 0x434d5653 /* "SVMC" */ };

static uint32_t device_features(const struct virtio *dev)
{
	return dev->features_sel[0] < 2 ? dev->offered >> 32 * dev->features_sel[0] : 0;
}

static uint32_t read_register(struct virtio *dev, unsigned int offset)
{
	const struct virtqueue *q =
		dev->queue_sel < dev->ops->nr_queues ? &dev->queues[dev->queue_sel] : NULL;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return device_features(dev);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? QUEUE_SIZE : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_STATUS:
		return dev->status;
	case VIRTIO_MMIO_SHM_LEN_LOW ... VIRTIO_MMIO_SHM_BASE_HIGH:
		return ~0u; /* no shared memory */
	default:
		return 0; /* ConfigGeneration too: configurations do not change */
	}
}

/* The driver takes features before it has FEATURES_OK, never after. */
static void set_features(struct virtio *dev, uint32_t value)
{
	unsigned int shift = 32 * dev->features_sel[1];

	if (dev->features_sel[1] > 1 || (dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	dev->features = (dev->features & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

static void set_ready(struct virtio *dev, struct virtqueue *q, bool ready)
{
	/* vhost cannot let go of one queue alone: this resets the device. */
	if (!ready && dev->vhost && dev->running)
		virtio_set_status(dev, 0);
	else if (!ready)
		q->ready = false;
	else if (!q->ready && !queue_enable(dev, q))
		virtio_broken(dev);
}

static void write_queue(struct virtio *dev, unsigned int offset, uint32_t value)
{
	struct virtqueue *q = &dev->queues[dev->queue_sel];
	unsigned int area = (offset - VIRTIO_MMIO_QUEUE_DESC_LOW) / 0x10;

	if (offset == VIRTIO_MMIO_QUEUE_READY)
		set_ready(dev, q, value & 1);
	else if (q->ready)
		return; /* its shape is fixed */
	else if (offset == VIRTIO_MMIO_QUEUE_NUM)
		q->size = value;
	else if (offset % 0x10 == 0)
		q->address[area] = (q->address[area] & ~0xffffffffull) | value;
	else
		q->address[area] = (uint32_t)q->address[area] | (uint64_t)value << 32;
}

static void write_register(struct virtio *dev, unsigned int offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		dev->features_sel[0] = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		dev->features_sel[1] = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		set_features(dev, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		dev->queue_sel = value;
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(dev, value);
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
	case VIRTIO_MMIO_QUEUE_READY:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		if (dev->queue_sel < dev->ops->nr_queues)
			write_queue(dev, offset, value);
		break;
	}
}

/*
 * These do without the lock, as every interrupt reads them: a device at work must not stall a vCPU.
 */
static bool interrupt_register(struct virtio *dev, unsigned int offset, bool write, uint32_t *value)
{
	if (!write && offset == VIRTIO_MMIO_INTERRUPT_STATUS)
		/*
		 * What vhost signals, svmctl does not see; to look in vain does a driver no harm.
		 */
		*value = dev->interrupt | (dev->vhost ? INTERRUPT_QUEUE : 0);
	else if (write && offset == VIRTIO_MMIO_INTERRUPT_ACK)
		dev->interrupt &= ~*value;
	else
		return false;
	return true;
}

/* An access to a device's page. False if there is no device: nobody answers. */
bool mmio_access(struct vm *vm, uint64_t address, bool write, uint8_t *data, unsigned int size)
{
	uint64_t index = (address - VIRTIO_BASE) / VIRTIO_STRIDE;
	unsigned int offset = address % VIRTIO_STRIDE;
	uint32_t value = 0;
	struct virtio *dev;

	if (address < VIRTIO_BASE || index >= vm->nr_virtio)
		return false;
	dev = vm->virtio[index];
	memcpy(&value, data, write && size == 4 ? 4 : 0);
	if (offset >= VIRTIO_MMIO_CONFIG) { /* read-only in all devices, by bytes or more */
		offset -= VIRTIO_MMIO_CONFIG;
		for (unsigned int i = 0; !write && i < size; i++, offset++)
			data[i] = offset < dev->config_size ? ((uint8_t *)dev->config)[offset] : 0;
		return true;
	}
	if (size == 4 && !interrupt_register(dev, offset, write, &value)) {
		pthread_mutex_lock(&dev->lock);
		if (write)
			write_register(dev, offset, value);
		else
			value = read_register(dev, offset);
		pthread_mutex_unlock(&dev->lock);
	}
	if (!write) {
		memset(data, 0, size);
		memcpy(data, &value, size < 4 ? size : 4);
	}
	return true;
}

/* Wires the newest device's eventfds to its registers and its interrupt. */
int mmio_connect(struct vm *vm, struct virtio *dev)
{
	unsigned int index = vm->nr_virtio - 1;
	struct kvm_irqfd irqfd = { .fd = dev->irq, .gsi = IRQ_VIRTIO + index };

	if (vm_ioctl(vm->fd, KVM_IRQFD, &irqfd, "wire an interrupt (irqfd)"))
		return EXIT_HOST;
	for (unsigned int i = 0; i < dev->ops->nr_queues; i++) {
		struct kvm_ioeventfd event = {
			.addr = VIRTIO_BASE + index * VIRTIO_STRIDE + VIRTIO_MMIO_QUEUE_NOTIFY,
			.len = 4,
			.datamatch = i,
			.fd = dev->queues[i].kick,
			.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
		};

		if (vm_ioctl(vm->fd, KVM_IOEVENTFD, &event, "wire a doorbell (ioeventfd)"))
			return EXIT_HOST;
	}
	return 0;
}
