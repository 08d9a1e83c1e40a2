/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which buffers were taken and not given back, in memory that survives us
 *
 * The layout is that of vhost-user's specification for split virtqueues, which libvhost-user
 * and others have too.  The memory is the front-end's to keep: the next back-end, or the same
 * after it was killed, finds what has to be done again, in the order in which it was taken.
 */
#ifndef VM2VM_INFLIGHT_H
#define VM2VM_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm2vm_ring.h"

struct inflight_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct inflight_queue {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct inflight_desc desc[];
};

/* Bytes of a queue of this size, which is also from one queue to the next */
size_t inflight_bytes(uint32_t size);
/*
 * The ring was loaded: correct its indices by what @q says, and fill @heads, which has room
 * for all of the ring, with those that have to be done again.  Returns how many, and in
 * @counter what the next to be taken gets; or -1, if @q makes no sense for this ring.
 */
int inflight_load(volatile struct inflight_queue *q, struct ring *r, uint16_t *heads,
		  uint64_t *counter);
void inflight_take(volatile struct inflight_queue *q, uint16_t head, uint64_t counter);
/*
 * As ring_push(): whenever we are killed, it is given back once.  false: the peer's memory
 * is gone, and it is still to be done.
 */
bool inflight_push(volatile struct inflight_queue *q, struct ring *r, const struct chain *c,
		   uint32_t len);

#endif /* VM2VM_INFLIGHT_H */
