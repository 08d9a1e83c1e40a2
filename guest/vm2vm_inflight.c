// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which buffers were taken and not given back, in memory that survives us
 */
#include <stdint.h>

#include "vm2vm_dev.h"
#include "vm2vm_inflight.h"
#include "vm2vm_ring.h"

#define INFLIGHT_VERSION	1
#define INFLIGHT_ALIGN		64

size_t inflight_bytes(uint32_t size)
{
	size_t n = sizeof(struct inflight_queue) + size * sizeof(struct inflight_desc);

	return (n + INFLIGHT_ALIGN - 1) / INFLIGHT_ALIGN * INFLIGHT_ALIGN;
}

static void insert(volatile struct inflight_queue *q, uint16_t *heads, int n, uint16_t head)
{
	uint64_t counter = q->desc[head].counter;

	for (; n && q->desc[heads[n - 1]].counter > counter; n--)
		heads[n] = heads[n - 1];
	heads[n] = head;
}

int inflight_load(volatile struct inflight_queue *q, struct ring *r, uint16_t *heads,
		  uint64_t *counter)
{
	/* The peer may write to it at any time: what was checked is what is used */
	uint16_t used, last = q->last_batch_head;
	uint32_t i;
	int n = 0;

	*counter = 0;
	if (!q->version && !q->desc_num) {
		q->desc_num = r->size;
		q->used_idx = r->used_idx;
		fence();
		q->version = INFLIGHT_VERSION;
		return 0;
	}
	if (q->version != INFLIGHT_VERSION || q->desc_num != r->size ||
	    last >= r->size)
		return -1;
	/* Killed after it had given the last one back, and before it said so here? */
	used = ring_used_idx(r);
	if (q->used_idx != used) {
		q->desc[last].inflight = 0;
		fence();
		q->used_idx = used;
	}
	for (i = 0; i < r->size; i++) {
		if (!q->desc[i].inflight)
			continue;
		if (q->desc[i].counter >= *counter)
			*counter = q->desc[i].counter + 1;
		insert(q, heads, n++, i);
	}
	r->used_idx = used;
	r->next = used + n;
	return n;
}

void inflight_take(volatile struct inflight_queue *q, uint16_t head, uint64_t counter)
{
	q->desc[head].counter = counter;
	fence();
	q->desc[head].inflight = 1;
	fence();
}

bool inflight_push(volatile struct inflight_queue *q, struct ring *r, const struct chain *c,
		   uint32_t len)
{
	q->last_batch_head = c->head;
	fence();
	ring_push(r, c->head, len);
	/* Did that go to the peer's memory? If it did not, it is for the next time. */
	if (!ring_there(r, c))
		return false;
	q->desc[c->head].inflight = 0;
	fence();
	q->used_idx = r->used_idx;
	return true;
}
