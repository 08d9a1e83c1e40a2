// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device behind the peer's virtio-rng, which is about the least that a back-end can be
 */
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

#include "vm2vm.h"
#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_ring.h"

struct rng {
	struct chain chain;
	bool seeded;
	uint64_t seed, max, bytes, buffers;
};

/* For a chain.  A driver takes less than it has asked for, and others wait for this. */
#define MOST	65536

static void rng_fill(struct rng *rng, uint64_t iova, uint32_t len)
{
	uint8_t bytes[256];
	uint32_t chunk;

	for (; len; len -= chunk, iova += chunk) {
		chunk = len < sizeof(bytes) ? len : sizeof(bytes);
		/* Up to 256 bytes it gives all of them */
		if (rng->seeded)
			pattern(rng->seed, iova, bytes, chunk);
		else if (getrandom(bytes, chunk, 0) != chunk)
			die("getrandom: %m");
		window_write(iova, bytes, chunk);
	}
}

static uint32_t rng_serve(struct backend *b, uint32_t q, struct chain *c)
{
	struct rng *rng = b->data;
	uint32_t i, len, left = MOST;

	for (i = 0; i < c->nr && left; i++) {
		if (!c->segments[i].write)
			continue;
		len = c->segments[i].len < left ? c->segments[i].len : left;
		rng_fill(rng, c->segments[i].iova, len);
		left -= len;
	}
	rng->bytes += MOST - left;
	b->done = ++rng->buffers == rng->max;
	return MOST - left;
}

static bool rng_kick(struct backend *b, uint32_t q)
{
	struct rng *rng = b->data;

	return backend_batch(b, q, &rng->chain, rng_serve);
}

static void rng_start(struct backend *b, uint32_t q)
{
}

static void rng_stop(struct backend *b, uint32_t q, bool drain)
{
}

static const struct backend_ops rng_ops = {
	.start = rng_start,
	.stop = rng_stop,
	.kick = rng_kick,
};

int cmd_rng(uint64_t seconds, uint64_t max, bool seeded, uint64_t seed)
{
	struct rng rng = { .seeded = seeded, .seed = seed, .max = max };
	static struct backend b;

	b.ops = &rng_ops;
	b.data = &rng;
	b.device_id = VIRTIO_ID_RNG;
	b.nr_queues = 1;
	b.features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
		     1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	backend_run(&b, deadline_in(seconds));
	printf("served %" PRIu64 " bytes in %" PRIu64 " buffers\n", rng.bytes, rng.buffers);
	return max && rng.buffers < max;
}
