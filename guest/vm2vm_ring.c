// SPDX-License-Identifier: GPL-2.0-only
/*
 * Split virtqueues of a peer that may be hostile, read through the window
 */
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vm2vm_dev.h"
#include "vm2vm_ring.h"

static bool has(const struct ring *r, unsigned int bit)
{
	return r->features & 1ULL << bit;
}

static uint64_t avail_slot(const struct ring *r, uint16_t i)
{
	return r->avail + offsetof(struct vring_avail, ring) + (i % r->size) * 2;
}

static uint64_t used_slot(const struct ring *r, uint16_t i)
{
	return r->used + offsetof(struct vring_used, ring) +
	       (i % r->size) * sizeof(struct vring_used_elem);
}

/* Behind the entries: which index the driver wants to be told of, and which we do */
static uint64_t used_event(const struct ring *r)
{
	return r->avail + offsetof(struct vring_avail, ring) + r->size * 2;
}

static uint64_t avail_event(const struct ring *r)
{
	return r->used + offsetof(struct vring_used, ring) +
	       r->size * sizeof(struct vring_used_elem);
}

uint16_t ring_avail_idx(const struct ring *r)
{
	return window16(r->avail + offsetof(struct vring_avail, idx));
}

uint16_t ring_used_idx(const struct ring *r)
{
	return window16(r->used + offsetof(struct vring_used, idx));
}

const char *ring_load(struct ring *r, uint16_t next)
{
	unsigned int event = has(r, VIRTIO_RING_F_EVENT_IDX) ? 2 : 0;

	r->next = next;
	r->used_idx = next;
	r->told_valid = false;
	r->wrong[0] = '\0';
	if (!r->size || r->size > RING_MAX_SIZE || (r->size & (r->size - 1)))
		return "has a size that is not a power of two";
	if (r->desc % VRING_DESC_ALIGN_SIZE || r->avail % VRING_AVAIL_ALIGN_SIZE ||
	    r->used % VRING_USED_ALIGN_SIZE)
		return "is not aligned";
	if (!in_window(r->desc, r->size * sizeof(struct vring_desc)) ||
	    !in_window(r->avail, used_event(r) + event - r->avail) ||
	    !in_window(r->used, avail_event(r) + event - r->used))
		return "is not in the window";
	return NULL;
}

bool ring_broken(const struct ring *r)
{
	return r->wrong[0];
}

void ring_break(struct ring *r, const char *format, ...)
{
	va_list args;

	if (ring_broken(r))
		return;
	va_start(args, format);
	vsnprintf(r->wrong, sizeof(r->wrong), format, args);
	va_end(args);
}

/* Buffers */

static bool add_segment(struct ring *r, struct chain *c, const struct vring_desc *d)
{
	bool write = d->flags & VRING_DESC_F_WRITE;
	uint64_t *total = write ? &c->in : &c->out;

	if (!in_window(d->addr, d->len)) {
		ring_break(r, "0x%" PRIx64 "+0x%x is not in the window", (uint64_t)d->addr, d->len);
		return false;
	}
	if (c->nr == r->size) {
		ring_break(r, "the chain at %u is a loop, or too long", c->head);
		return false;
	}
	if (c->nr == c->room) {
		c->room = c->room ? 2 * c->room : 16;
		c->segments = realloc(c->segments, c->room * sizeof(*c->segments));
		if (!c->segments)
			die("%m");
	}
	*total += d->len;
	if (*total > UINT32_MAX) {
		ring_break(r, "the chain at %u has more than 4 GiB", c->head);
		return false;
	}
	c->segments[c->nr++] = (struct segment){ .iova = d->addr, .len = d->len, .write = write };
	return true;
}

/* A table of descriptors, the ring's own or an indirect one, from one of them on */
static bool add_table(struct ring *r, struct chain *c, uint64_t table, uint32_t size,
		      uint32_t id, bool indirect)
{
	struct vring_desc d;

	for (;;) {
		if (id >= size) {
			ring_break(r, "bad descriptor index %u of %u", id, size);
			return false;
		}
		window_read(table + id * sizeof(d), &d, sizeof(d));
		if (!(d.flags & VRING_DESC_F_INDIRECT)) {
			if (!add_segment(r, c, &d))
				return false;
			if (!(d.flags & VRING_DESC_F_NEXT))
				return true;
			id = d.next;
			continue;
		}
		if (indirect || !has(r, VIRTIO_RING_F_INDIRECT_DESC) ||
		    d.flags & VRING_DESC_F_NEXT || !d.len || d.len % sizeof(d) ||
		    d.len / sizeof(d) > RING_MAX_SIZE || !in_window(d.addr, d.len)) {
			ring_break(r, "descriptor %u is indirect, and not as it should be", id);
			return false;
		}
		table = d.addr;
		size = d.len / sizeof(d);
		id = 0;
		indirect = true;
	}
}

bool ring_load_chain(struct ring *r, struct chain *c, uint16_t head)
{
	c->head = head;
	c->nr = 0;
	c->in = 0;
	c->out = 0;
	return add_table(r, c, r->desc, r->size, head, false);
}

bool ring_pop(struct ring *r, struct chain *c)
{
	uint16_t available;

	if (ring_broken(r))
		return false;
	available = ring_avail_idx(r);
	if ((uint16_t)(available - r->next) > r->size) {
		ring_break(r, "bad available index %u after %u", available, r->next);
		return false;
	}
	if (available == r->next)
		return false;
	/* The entry only after the index that says it is there */
	fence();
	if (!ring_load_chain(r, c, window16(avail_slot(r, r->next))))
		return false;
	r->next++;
	return true;
}

bool ring_there(const struct ring *r, const struct chain *c)
{
	fence();
	return window16(avail_slot(r, c->head)) != UINT16_MAX;
}

/* Kicks, and interrupts */

static void set_used_flags(struct ring *r, uint16_t flags)
{
	window_write(r->used + offsetof(struct vring_used, flags), &flags, sizeof(flags));
}

void ring_no_kick(struct ring *r)
{
	/* By an index it has only to be left behind */
	if (!has(r, VIRTIO_RING_F_EVENT_IDX))
		set_used_flags(r, VRING_USED_F_NO_NOTIFY);
}

bool ring_want_kick(struct ring *r)
{
	if (ring_broken(r))
		return false;
	if (has(r, VIRTIO_RING_F_EVENT_IDX))
		window_write(avail_event(r), &r->next, sizeof(r->next));
	else
		set_used_flags(r, 0);
	/* Before looking whether something came meanwhile */
	fence();
	return ring_avail_idx(r) != r->next;
}

void ring_push(struct ring *r, uint16_t head, uint32_t len)
{
	struct vring_used_elem e = { .id = head, .len = len };

	window_write(used_slot(r, r->used_idx), &e, sizeof(e));
	/* The bytes and the entry before the index */
	fence();
	r->used_idx++;
	window_write(r->used + offsetof(struct vring_used, idx), &r->used_idx, sizeof(r->used_idx));
}

bool ring_must_tell(struct ring *r)
{
	uint16_t old = r->told, event;
	bool first = !r->told_valid;

	/* The index before looking whether the driver wants to hear of it */
	fence();
	r->told = r->used_idx;
	r->told_valid = true;
	if (!has(r, VIRTIO_RING_F_EVENT_IDX))
		return !(window16(r->avail + offsetof(struct vring_avail, flags)) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	event = window16(used_event(r));
	return first || vring_need_event(event, r->used_idx, old);
}

/* What is in buffers */

static size_t chain_copy(const struct chain *c, bool write, uint64_t offset, uint8_t *bytes,
			 size_t len)
{
	size_t done = 0, n;
	uint32_t i;

	for (i = 0; i < c->nr && done < len; i++) {
		const struct segment *s = &c->segments[i];

		if (s->write != write)
			continue;
		if (offset >= s->len) {
			offset -= s->len;
			continue;
		}
		n = s->len - offset;
		if (n > len - done)
			n = len - done;
		if (write)
			window_write(s->iova + offset, bytes + done, n);
		else
			window_read(s->iova + offset, bytes + done, n);
		offset = 0;
		done += n;
	}
	return done;
}

size_t chain_read(const struct chain *c, uint64_t offset, void *to, size_t len)
{
	return chain_copy(c, false, offset, to, len);
}

size_t chain_write(const struct chain *c, uint64_t offset, const void *from, size_t len)
{
	return chain_copy(c, true, offset, (uint8_t *)from, len);
}
