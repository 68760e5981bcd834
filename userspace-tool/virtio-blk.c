// SPDX-License-Identifier: GPL-2.0
/* A disk (virtio 1.2, 5.2) that is a raw file or a block device of the host. */
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "virtio.h"

enum { SECTOR_SHIFT = 9, SECTOR = 1 << SECTOR_SHIFT, MAX_DISCARD = 1 << 22 /* sectors */ };

struct disk {
	struct virtio virtio;
	struct virtio_blk_config config;
	const struct device_option *option;
	struct chain chain;
};

/*
 * Reads or writes all of @iov, which it uses up; false on an error, and where the file ends too
 * early.
 */
static bool transfer(int fd, struct iovec *iov, unsigned int count, uint64_t offset, bool write)
{
	while (count) {
		ssize_t n =
			write ? pwritev(fd, iov, count, offset) : preadv(fd, iov, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (!n && iov->iov_len))
			return false;
		offset += n;
		for (; count && (size_t)n >= iov->iov_len; count--, iov++)
			n -= iov->iov_len;
		if (count) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return true;
}

static bool in_disk(const struct disk *d, uint64_t sector, uint64_t bytes)
{
	return bytes % SECTOR == 0 && sector <= d->config.capacity &&
	       bytes >> SECTOR_SHIFT <= d->config.capacity - sector;
}

static uint8_t sync_file(const struct disk *d)
{
	return fdatasync(d->option->fd) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t read_sectors(struct disk *d, uint64_t sector)
{
	struct chain *c = &d->chain;

	return in_disk(d, sector, c->in_size) && transfer(d->option->fd, c->iov + c->nr_out,
							  c->nr_in, sector << SECTOR_SHIFT, false)
		       ? VIRTIO_BLK_S_OK
		       : VIRTIO_BLK_S_IOERR;
}

static uint8_t write_sectors(struct disk *d, uint64_t sector, uint64_t bytes)
{
	struct chain *c = &d->chain;

	if (d->option->read_only || !in_disk(d, sector, bytes) ||
	    !transfer(d->option->fd, c->iov, c->nr_out, sector << SECTOR_SHIFT, true))
		return VIRTIO_BLK_S_IOERR;
	/* A driver that cannot flush relies on what was written being on the disk. */
	return d->virtio.features & FEATURE(VIRTIO_BLK_F_FLUSH) ? VIRTIO_BLK_S_OK : sync_file(d);
}

/* Gives the range's space back to the host; what it reads as afterwards is open. */
static uint8_t discard(struct disk *d, uint64_t bytes)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct virtio_blk_discard_write_zeroes range;
	uint64_t size;

	if (d->option->read_only || bytes != sizeof(range))
		return VIRTIO_BLK_S_IOERR;
	iov_copy(d->chain.iov, d->chain.nr_out, &range, sizeof(range), false);
	size = (uint64_t)range.num_sectors << SECTOR_SHIFT;
	if (range.flags)
		return VIRTIO_BLK_S_UNSUPP;
	if (range.num_sectors > MAX_DISCARD || !in_disk(d, range.sector, size))
		return VIRTIO_BLK_S_IOERR;
	if (!size || !fallocate(d->option->fd, mode, range.sector << SECTOR_SHIFT, size))
		return VIRTIO_BLK_S_OK;
	return errno == EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/* The file's name stands in for a serial number. */
static uint8_t get_id(struct disk *d)
{
	const char *slash = strrchr(d->option->name, '/');
	const char *name = slash ? slash + 1 : d->option->name;
	char id[VIRTIO_BLK_ID_BYTES] = "";

	memcpy(id, name, strnlen(name, sizeof(id)));
	iov_copy(d->chain.iov + d->chain.nr_out, d->chain.nr_in, id, sizeof(id), true);
	return VIRTIO_BLK_S_OK;
}

/*
 * Whether the pieces are a request: a header, data, and room for a status, which is cut off the
 * end.
 */
static bool parse(struct chain *c, struct virtio_blk_outhdr *head, uint8_t **status)
{
	struct iovec *last = &c->iov[c->nr_out + c->nr_in - 1];

	if (!c->in_size || iov_copy(c->iov, c->nr_out, head, sizeof(*head), false) < sizeof(*head))
		return false;
	for (; !last->iov_len; last--)
		;
	*status = (uint8_t *)last->iov_base + --last->iov_len;
	c->in_size--;
	return true;
}

static void disk_kicked(struct virtio *dev, struct virtqueue *q)
{
	struct disk *d = (struct disk *)dev;
	struct virtio_blk_outhdr head;
	struct chain *c = &d->chain;
	uint8_t *status;

	while (queue_take(dev, q, c)) {
		uint32_t written = 0;

		if (!parse(c, &head, &status)) {
			virtio_broken(dev);
			return;
		}
		if (head.type == VIRTIO_BLK_T_IN) {
			*status = read_sectors(d, head.sector);
			written = *status == VIRTIO_BLK_S_OK ? c->in_size : 0;
		} else if (head.type == VIRTIO_BLK_T_OUT) {
			*status = write_sectors(d, head.sector, c->out_size - sizeof(head));
		} else if (head.type == VIRTIO_BLK_T_FLUSH) {
			*status = sync_file(d);
		} else if (head.type == VIRTIO_BLK_T_GET_ID) {
			*status = get_id(d);
			written =
				c->in_size < VIRTIO_BLK_ID_BYTES ? c->in_size : VIRTIO_BLK_ID_BYTES;
		} else if (head.type == VIRTIO_BLK_T_DISCARD) {
			*status = discard(d, c->out_size - sizeof(head));
		} else {
			*status = VIRTIO_BLK_S_UNSUPP;
		}
		queue_done(q, c, written + 1);
		queue_tell(dev, q);
	}
}

static const struct virtio_ops disk_ops = { VIRTIO_ID_BLOCK, 1, .kicked = disk_kicked };

int disk_create(struct vm *vm, const struct device_option *option)
{
	struct disk *d = calloc(1, sizeof(*d));
	off_t size = lseek(option->fd, 0, SEEK_END);

	if (!d || size < 0) {
		free(d);
		return complain("%s: %s", option->name, strerror(errno));
	}
	d->option = option;
	d->config.capacity = size >> SECTOR_SHIFT;
	d->config.seg_max = QUEUE_SIZE - 2;
	d->config.max_discard_sectors = MAX_DISCARD;
	d->config.max_discard_seg = 1;
	d->config.discard_sector_alignment = 8;
	d->virtio.config = &d->config;
	d->virtio.config_size = sizeof(d->config);
	d->virtio.offered =
		FEATURE(VIRTIO_BLK_F_SEG_MAX) | FEATURE(VIRTIO_BLK_F_FLUSH) |
		(option->read_only ? FEATURE(VIRTIO_BLK_F_RO) : FEATURE(VIRTIO_BLK_F_DISCARD));
	return virtio_create(vm, &d->virtio, &disk_ops);
}

/*
 * --disk FILE[,ro]: the file is opened, and locked against other guests, once for all lives of the
 * guest.
 */
int disk_option(struct device_option *option, char *text)
{
	char *comma = strrchr(text, ',');
	struct stat st;

	option->create = disk_create;
	option->name = text;
	option->read_only = comma && !strcmp(comma, ",ro");
	if (option->read_only)
		*comma = 0;
	option->fd = open(text, (option->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (option->fd < 0)
		return complain("cannot open disk %s: %s", text, strerror(errno));
	if (flock(option->fd, (option->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB))
		return complain("disk %s is in use by another guest", text);
	if (fstat(option->fd, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		return complain("disk %s is neither a file nor a block device", text);
	return 0;
}
