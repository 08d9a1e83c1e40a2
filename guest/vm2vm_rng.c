// SPDX-License-Identifier: GPL-2.0-only
/*
 * The peer's virtqueues, and the device behind its virtio-rng, which is about the least
 * that a backend can be.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_dev.h"
#include "vm2vm_pci.h"

/* Virtqueues */

struct queue {
	uint32_t index, size;
	uint64_t desc, avail, used;
	uint16_t next, used_idx;
};

/* What of the peer's queue can be used; NULL, or what is wrong with it */
static const char *queue_load(struct queue *q, uint32_t index)
{
	uint32_t at = VM2VM_PCI_QUEUE(index);

	q->index = index;
	if (!reg32(at + VM2VM_PCI_QUEUE_ENABLED))
		return "is not enabled";
	q->size = reg32(at + VM2VM_PCI_QUEUE_SIZE);
	q->desc = reg64(at + VM2VM_PCI_QUEUE_DESC);
	q->avail = reg64(at + VM2VM_PCI_QUEUE_AVAIL);
	q->used = reg64(at + VM2VM_PCI_QUEUE_USED);
	q->next = reg32(at + VM2VM_PCI_QUEUE_NEXT);
	if (!q->size || q->size > 32768 || (q->size & (q->size - 1)))
		return "has a size that is not a power of two";
	if (q->desc % VRING_DESC_ALIGN_SIZE || q->avail % VRING_AVAIL_ALIGN_SIZE ||
	    q->used % VRING_USED_ALIGN_SIZE)
		return "is not aligned";
	if (!in_window(q->desc, q->size * sizeof(struct vring_desc)) ||
	    !in_window(q->avail, sizeof(struct vring_avail) + q->size * 2) ||
	    !in_window(q->used, sizeof(struct vring_used) +
		       q->size * sizeof(struct vring_used_elem)))
		return "is not in the window";
	return NULL;
}

static uint64_t avail_slot(const struct queue *q, uint16_t i)
{
	return q->avail + offsetof(struct vring_avail, ring) + (i % q->size) * 2;
}

static uint64_t used_slot(const struct queue *q, uint16_t i)
{
	return q->used + offsetof(struct vring_used, ring) +
	       (i % q->size) * sizeof(struct vring_used_elem);
}

static uint16_t avail_idx(const struct queue *q)
{
	return window16(q->avail + offsetof(struct vring_avail, idx));
}

static void read_desc(const struct queue *q, uint32_t i, struct vring_desc *d)
{
	window_read(q->desc + i * sizeof(*d), d, sizeof(*d));
}

int cmd_queue(uint32_t index)
{
	struct vring_used_elem e;
	struct vring_desc d;
	const char *wrong;
	struct queue q;
	uint32_t i;

	wrong = queue_load(&q, index);
	if (wrong)
		die("queue %u %s", index, wrong);
	printf("size %u\n", q.size);
	printf("next %u\n", q.next);
	printf("desc 0x%" PRIx64 "\n", q.desc);
	printf("avail 0x%" PRIx64 "\n", q.avail);
	printf("used 0x%" PRIx64 "\n", q.used);
	printf("avail.flags 0x%x\n", window16(q.avail));
	printf("avail.idx %u\n", avail_idx(&q));
	printf("used.flags 0x%x\n", window16(q.used));
	printf("used.idx %u\n", window16(q.used + offsetof(struct vring_used, idx)));
	for (i = 0; i < q.size; i++) {
		read_desc(&q, i, &d);
		printf("desc%u 0x%" PRIx64 " %u 0x%x %u\n", i, (uint64_t)d.addr, d.len, d.flags,
		       d.next);
	}
	for (i = 0; i < q.size; i++)
		printf("avail%u %u\n", i, window16(avail_slot(&q, i)));
	for (i = 0; i < q.size; i++) {
		window_read(used_slot(&q, i), &e, sizeof(e));
		printf("used%u %u %u\n", i, e.id, e.len);
	}
	return 0;
}

/* A virtio-rng's device */

struct rng {
	struct queue q;
	bool running, seeded;
	uint64_t seed, bytes, buffers;
	uint32_t generation;
};

#define RNG_STATE	(VM2VM_PCI_STATE_CONNECTED | VM2VM_PCI_STATE_WINDOW | \
			 VM2VM_PCI_STATE_DRIVER_OK)

static const uint64_t unserved = 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_RING_F_EVENT_IDX;

/*
 * Something makes no sense.  Was the peer's driver being reset, or is the peer gone?  Then
 * the registers say so in a moment, and what was read is no longer so.
 */
static bool rng_gone(struct rng *r)
{
	usleep(100000);
	r->running = false;
	return (reg32(VM2VM_PCI_STATE) & RNG_STATE) != RNG_STATE ||
	       reg32(VM2VM_PCI_GENERATION) != r->generation;
}

static void __attribute__((format(printf, 2, 3)))
rng_bad(struct rng *r, const char *format, ...)
{
	char text[128];
	va_list args;

	if (rng_gone(r))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	die("queue %u: %s", r->q.index, text);
}

/*
 * The peer's driver is set up, or set up anew: look at everything again.  What cannot be
 * served is an error, not something to wait for.
 */
static void rng_start(struct rng *r)
{
	uint32_t state = reg32(VM2VM_PCI_STATE), generation = reg32(VM2VM_PCI_GENERATION);
	uint64_t features;
	const char *wrong;
	uint32_t type;

	if ((state & RNG_STATE) != RNG_STATE) {
		r->running = false;
		return;
	}
	if (r->running && r->generation == generation)
		return;
	r->generation = generation;
	type = reg32(VM2VM_PCI_DEVICE_TYPE);
	features = reg64(VM2VM_PCI_FEATURES);
	wrong = queue_load(&r->q, 0);
	if ((type != VIRTIO_ID_RNG || !(features & 1ULL << VIRTIO_F_VERSION_1) ||
	     (features & unserved) || wrong) && rng_gone(r))
		return;
	if (type != VIRTIO_ID_RNG)
		die("the peer's device has type %u: it is no virtio-rng", type);
	if (!(features & 1ULL << VIRTIO_F_VERSION_1))
		die("the peer's driver uses the legacy interface");
	if (features & unserved)
		die("the peer's driver has taken features that are not served: 0x%" PRIx64,
		    features);
	if (wrong)
		die("queue 0 %s", wrong);
	/*
	 * Buffers are served in order, each at once: those used are those taken.  A backend
	 * before us may have taken more and not finished, and so they are served now.
	 */
	r->q.used_idx = window16(r->q.used + offsetof(struct vring_used, idx));
	r->q.next = r->q.used_idx;
	r->running = true;
	/* Nor may it have told the driver of what it used */
	ring_doorbell(r->q.index);
}

/*
 * Serve the buffer that starts with this descriptor, and tell its length.  The chain
 * is in memory that the peer may change at any time: each descriptor is read once, and
 * the whole chain is looked at before a byte is written.
 */
static bool rng_fill(struct rng *r, uint16_t head, uint32_t *filled)
{
	static struct vring_desc chain[32768];
	uint32_t i, n = 0, id = head, chunk, len;
	uint64_t total = 0, iova;
	uint8_t bytes[256];

	for (;;) {
		struct vring_desc *d = &chain[n];

		if (id >= r->q.size) {
			rng_bad(r, "bad descriptor index %u of %u", id, r->q.size);
			return false;
		}
		if (n == r->q.size) {
			rng_bad(r, "the chain at %u is a loop", head);
			return false;
		}
		read_desc(&r->q, id, d);
		if (d->flags & VRING_DESC_F_INDIRECT) {
			rng_bad(r, "descriptor %u is indirect, which is not served", id);
			return false;
		}
		if (!in_window(d->addr, d->len)) {
			rng_bad(r, "descriptor %u, 0x%" PRIx64 "+0x%x, is not in the window",
				id, (uint64_t)d->addr, d->len);
			return false;
		}
		if (d->flags & VRING_DESC_F_WRITE)
			total += d->len;
		n++;
		if (!(d->flags & VRING_DESC_F_NEXT))
			break;
		id = d->next;
	}
	if (total > UINT32_MAX) {
		rng_bad(r, "the chain at %u has %" PRIu64 " bytes", head, total);
		return false;
	}

	for (i = 0; i < n; i++) {
		if (!(chain[i].flags & VRING_DESC_F_WRITE))
			continue;
		iova = chain[i].addr;
		for (len = chain[i].len; len; len -= chunk, iova += chunk) {
			chunk = len < sizeof(bytes) ? len : sizeof(bytes);
			/* Up to 256 bytes it gives all of them */
			if (r->seeded)
				pattern(r->seed, iova, bytes, chunk);
			else if (getrandom(bytes, chunk, 0) != chunk)
				die("getrandom: %m");
			window_write(iova, bytes, chunk);
		}
	}
	*filled = total;
	return true;
}

static void rng_serve(struct rng *r, uint64_t max)
{
	struct queue *q = &r->q;
	uint16_t available = avail_idx(q), flags;
	struct vring_used_elem e;
	bool any = false;

	if ((uint16_t)(available - q->next) > q->size) {
		rng_bad(r, "bad available index %u after %u", available, q->next);
		return;
	}
	/* The entries only after the index that says they are there */
	fence();
	for (; q->next != available && (!max || r->buffers < max); q->next++) {
		e.id = window16(avail_slot(q, q->next));
		if (!rng_fill(r, e.id, &e.len))
			return;
		window_write(used_slot(q, q->used_idx), &e, sizeof(e));
		/* The bytes and the entry before the index */
		fence();
		q->used_idx++;
		window_write(q->used + offsetof(struct vring_used, idx), &q->used_idx, 2);
		r->bytes += e.len;
		r->buffers++;
		any = true;
	}
	if (!any)
		return;
	/* The index before looking whether the driver wants to hear of it */
	fence();
	flags = window16(q->avail + offsetof(struct vring_avail, flags));
	if (!(flags & VRING_AVAIL_F_NO_INTERRUPT))
		ring_doorbell(q->index);
}

int cmd_serve_rng(uint64_t seconds, uint64_t max, bool seeded, uint64_t seed)
{
	bool wanted[2] = { true, true };
	struct rng r = { .seeded = seeded, .seed = seed };
	int64_t deadline = deadline_in(seconds);
	struct pollfd events[2];

	/* Before the first look at the queue, so that no kick is lost after it */
	open_vectors(2, wanted, events);
	say_ready();
	do {
		if (take_event(&events[VM2VM_PCI_VECTOR_STATE])) {
			/* A driver that was reset and set up again between two looks */
			r.running = false;
		}
		take_event(&events[VM2VM_PCI_VECTOR_QUEUE(0)]);
		rng_start(&r);
		if (r.running)
			rng_serve(&r, max);
	} while ((!max || r.buffers < max) && wait_events(events, 2, deadline));
	printf("served %" PRIu64 " bytes in %" PRIu64 " buffers\n", r.bytes, r.buffers);
	return max && r.buffers < max;
}
