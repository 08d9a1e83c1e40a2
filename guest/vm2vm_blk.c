// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device behind the peer's disk, for tests: a file, or memory
 *
 * Requests are taken as they come and done one after the other, in another order if that is
 * asked for.  Which were taken is in the in-flight memory, so that they are done by the next
 * one if this one is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_inflight.h"
#include "vm2vm_log.h"
#include "vm2vm_ring.h"

#define SECTOR		512u
/* What is copied at a time */
#define CHUNK		(1u << 20)
/* Taken and not done yet, of a queue */
#define MAX_PENDING	16
#define MAX_QUEUES	8

struct request {
	struct chain chain;
	uint64_t counter;
	bool again;		/* one before us had taken it */
};

struct blk_queue {
	volatile struct inflight_queue *inflight;
	uint64_t counter;
	unsigned int nr;	/* of those pending, which are the first */
	struct request pending[MAX_PENDING];
	/* Taken by one before us, and still to be taken again */
	uint16_t *again;
	int nr_again, next_again;
};

struct blk {
	int fd;
	uint64_t sectors;
	bool shuffle;
	uint8_t *data;		/* a chunk, as O_DIRECT wants it */
	uint64_t done, repeated;
	struct blk_queue queues[MAX_QUEUES];
};

/* The disk */

static bool disk_io(struct blk *blk, bool write, uint64_t sector, size_t len)
{
	off_t at = sector * SECTOR;
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		if (write)
			n = pwrite(blk->fd, blk->data + done, len - done, at + done);
		else
			n = pread(blk->fd, blk->data + done, len - done, at + done);
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

/* From the peer to the disk; -1 if the peer is gone. */
static int64_t do_write(struct blk *blk, struct ring *r, struct request *request, uint64_t sector,
			uint64_t len, uint8_t *status)
{
	struct chain *c = &request->chain;
	uint64_t done, n;

	for (done = 0; done < len; done += n) {
		n = len - done < CHUNK ? len - done : CHUNK;
		chain_read(c, sizeof(struct virtio_blk_outhdr) + done, blk->data, n);
		/* All-ones, which are not what the driver wants to have written? */
		if (!ring_there(r, c))
			return -1;
		if (!done)
			log_request(request->again ? 'r' : 'w', r->index, request->counter, sector,
				    len, blk->data);
		if (!disk_io(blk, true, sector + done / SECTOR, n))
			return 0;
	}
	*status = VIRTIO_BLK_S_OK;
	return 0;
}

static int64_t do_read(struct blk *blk, struct chain *c, uint64_t sector, uint64_t len,
		       uint8_t *status)
{
	uint64_t done, n;

	for (done = 0; done < len; done += n) {
		n = len - done < CHUNK ? len - done : CHUNK;
		if (!disk_io(blk, false, sector + done / SECTOR, n))
			return done;
		chain_write(c, done, blk->data, n);
	}
	*status = VIRTIO_BLK_S_OK;
	return done;
}

/*
 * Do one: how much of what the driver has us write is written before the status, which is
 * in the last byte; -1 if the peer is gone.
 */
static int64_t do_request(struct blk *blk, struct ring *r, struct request *request, uint8_t *status)
{
	struct chain *c = &request->chain;
	struct virtio_blk_outhdr header;
	uint64_t len;

	*status = VIRTIO_BLK_S_IOERR;
	if (chain_read(c, 0, &header, sizeof(header)) < sizeof(header) || !c->in)
		return 0;
	len = header.type == VIRTIO_BLK_T_OUT ? c->out - sizeof(header) : c->in - 1;
	if (header.type == VIRTIO_BLK_T_FLUSH) {
		if (!fdatasync(blk->fd))
			*status = VIRTIO_BLK_S_OK;
		return ring_there(r, c) ? 0 : -1;
	}
	if (header.type == VIRTIO_BLK_T_GET_ID) {
		*status = VIRTIO_BLK_S_OK;
		return chain_write(c, 0, "vm2vm\0\0\0\0\0\0\0\0\0\0\0\0\0\0", len < 20 ? len : 20);
	}
	if (header.type != VIRTIO_BLK_T_IN && header.type != VIRTIO_BLK_T_OUT) {
		*status = VIRTIO_BLK_S_UNSUPP;
		return ring_there(r, c) ? 0 : -1;
	}
	if (len % SECTOR || header.sector > blk->sectors ||
	    len / SECTOR > blk->sectors - header.sector)
		return ring_there(r, c) ? 0 : -1;
	if (header.type == VIRTIO_BLK_T_OUT)
		return do_write(blk, r, request, header.sector, len, status);
	return do_read(blk, c, header.sector, len, status);
}

static void finish(struct backend *b, uint32_t q, unsigned int i)
{
	struct blk *blk = b->data;
	struct blk_queue *bq = &blk->queues[q];
	struct request *request = &bq->pending[i], last;
	struct chain *c = &request->chain;
	uint8_t status;
	int64_t n;

	n = do_request(blk, &b->rings[q], request, &status);
	if (n < 0) {
		ring_break(&b->rings[q], "the peer's memory is gone");
		return;
	}
	if (c->in)
		chain_write(c, c->in - 1, &status, 1);
	n += c->in > 0;
	if (!bq->inflight) {
		ring_push(&b->rings[q], c->head, n);
	} else if (!inflight_push(bq->inflight, &b->rings[q], c, n)) {
		ring_break(&b->rings[q], "the peer's memory is gone");
		return;
	}
	blk->done++;
	blk->repeated += request->again;
	/* Its segments are kept for another one */
	last = bq->pending[--bq->nr];
	bq->pending[bq->nr] = *request;
	*request = last;
}

/* Requests */

static bool take(struct backend *b, uint32_t q)
{
	struct blk *blk = b->data;
	struct blk_queue *bq = &blk->queues[q];
	struct ring *r = &b->rings[q];
	struct request *request;

	if (bq->nr == MAX_PENDING)
		return false;
	request = &bq->pending[bq->nr];
	request->again = bq->next_again < bq->nr_again;
	if (request->again) {
		if (!ring_load_chain(r, &request->chain, bq->again[bq->next_again]))
			return false;
		request->counter = bq->inflight->desc[bq->again[bq->next_again++]].counter;
	} else {
		if (!ring_pop(r, &request->chain))
			return false;
		request->counter = bq->counter++;
		if (bq->inflight)
			inflight_take(bq->inflight, request->chain.head, request->counter);
	}
	bq->nr++;
	return true;
}

static bool blk_kick(struct backend *b, uint32_t q)
{
	struct blk *blk = b->data;
	struct blk_queue *bq = &blk->queues[q];
	struct ring *r = &b->rings[q];
	unsigned int n;

	for (n = 0; n < BACKEND_BATCH && !ring_broken(r); n++) {
		/* As many as there are, so that there is something to choose from */
		while (take(b, q))
			;
		if (!bq->nr && !ring_want_kick(r))
			return false;
		if (!bq->nr)
			continue;
		finish(b, q, blk->shuffle ? rand() % bq->nr : 0);
		backend_tell(b, q);
	}
	return true;
}

static void blk_start(struct backend *b, uint32_t q)
{
	struct blk *blk = b->data;
	struct blk_queue *bq = &blk->queues[q];
	struct ring *r = &b->rings[q];
	uint64_t size = reg64(VM2VM_PCI_INFLIGHT_SIZE);
	uint32_t queues = reg32(VM2VM_PCI_INFLIGHT_QUEUES);
	uint32_t queue_size = reg32(VM2VM_PCI_INFLIGHT_QUEUE_SIZE);
	uint64_t stride = inflight_bytes(queue_size);

	bq->nr = 0;
	bq->counter = 0;
	bq->nr_again = 0;
	bq->next_again = 0;
	bq->inflight = NULL;
	if (!size)
		return;
	/* All of these are the peer's numbers */
	if (size > VM2VM_PCI_INFLIGHT_BAR_SIZE)
		size = VM2VM_PCI_INFLIGHT_BAR_SIZE;
	if (q >= queues || r->size > queue_size ||
	    q * stride + inflight_bytes(r->size) > size) {
		ring_break(r, "the in-flight memory is not for it");
		return;
	}
	bq->inflight = open_inflight() + q * stride;
	bq->again = realloc(bq->again, r->size * sizeof(*bq->again));
	if (!bq->again)
		die("%m");
	bq->nr_again = inflight_load(bq->inflight, r, bq->again, &bq->counter);
	if (bq->nr_again < 0) {
		bq->nr_again = 0;
		ring_break(r, "the in-flight memory makes no sense");
	}
}

static void blk_stop(struct backend *b, uint32_t q, bool drain)
{
	struct blk *blk = b->data;
	struct blk_queue *bq = &blk->queues[q];

	while (drain && bq->nr && !ring_broken(&b->rings[q])) {
		finish(b, q, 0);
		backend_tell(b, q);
	}
	bq->nr = 0;
}

/* What it is */

static volatile sig_atomic_t look_again;

static void hang_up(int signal)
{
	look_again = 1;
}

static void measure(struct blk *blk, const char *path)
{
	uint64_t size;
	struct stat st;

	if (fstat(blk->fd, &st))
		die("%s: %m", path);
	size = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(blk->fd, BLKGETSIZE64, &size))
		die("%s: %m", path);
	blk->sectors = size / SECTOR;
	if (!blk->sectors)
		die("%s is empty", path);
}

/* By SIGHUP it looks how large the disk is now. */
static int blk_tick(struct backend *b)
{
	struct blk *blk = b->data;
	struct virtio_blk_config *config = (void *)b->config;

	if (look_again) {
		look_again = 0;
		measure(blk, "the disk");
		config->capacity = blk->sectors;
		backend_config_changed(b);
	}
	return 200;
}

static const struct backend_ops blk_ops = {
	.start = blk_start,
	.stop = blk_stop,
	.kick = blk_kick,
	.tick = blk_tick,
};

static void open_disk(struct blk *blk, const char *path)
{
	uint64_t size;
	char *end;

	blk->data = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (blk->data == MAP_FAILED)
		die("%m");
	if (!strncmp(path, "ram:", 4)) {
		size = strtoull(path + 4, &end, 0) << 20;
		blk->fd = memfd_create("disk", MFD_CLOEXEC);
		if (blk->fd < 0 || *end || ftruncate(blk->fd, size))
			die("%s: not so many MiB", path);
	} else {
		/* What was done is on the disk, also if all of this VM is killed */
		blk->fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | O_DSYNC);
		if (blk->fd < 0 && errno == EINVAL)
			blk->fd = open(path, O_RDWR | O_CLOEXEC);
		if (blk->fd < 0)
			die("%s: %m", path);
	}
	measure(blk, path);
}

int cmd_test_blk(const char *path, unsigned int queues, uint64_t seconds, bool shuffle,
		 const char *log)
{
	struct virtio_blk_config config = {
		.seg_max = 126,
		.blk_size = SECTOR,
		.num_queues = queues,
	};
	static struct backend b;
	static struct blk blk;

	if (!queues || queues > MAX_QUEUES)
		die("%u queues: 1 to %u", queues, MAX_QUEUES);
	open_disk(&blk, path);
	log_open(log);
	blk.shuffle = shuffle;
	srand(getpid());
	signal(SIGHUP, hang_up);
	config.capacity = blk.sectors;
	b.ops = &blk_ops;
	b.data = &blk;
	b.device_id = VIRTIO_ID_BLOCK;
	b.nr_queues = queues;
	b.features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
		     1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_BLK_F_SEG_MAX |
		     1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_FLUSH |
		     (queues > 1 ? 1ULL << VIRTIO_BLK_F_MQ : 0);
	b.protocol = VM2VM_PCI_PROTOCOL_CONFIG | VM2VM_PCI_PROTOCOL_INFLIGHT_SHMFD;
	b.config_size = sizeof(config);
	memcpy(b.config, &config, sizeof(config));
	backend_run(&b, deadline_in(seconds));
	printf("done %" PRIu64 ", of which again %" PRIu64 "\n", blk.done, blk.repeated);
	return 0;
}
