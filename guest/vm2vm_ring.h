/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Split virtqueues of a peer that may be hostile, read through the window
 *
 * The peer may change all of it at any time, and it may be gone at any time, so that
 * everything reads as all-ones.  Each word is read once, and looked at before it is used.
 * What makes no sense breaks the ring: nothing is taken from it until it is loaded again.
 * An index of all-ones never makes sense, as no ring has more than 32768 entries.
 */
#ifndef VM2VM_RING_H
#define VM2VM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MAX_SIZE	32768

struct ring {
	uint32_t index, size;
	uint64_t desc, avail, used;
	uint64_t features;
	uint16_t next, used_idx;
	uint16_t told;		/* used index of which the driver was told, or would not be */
	bool told_valid;
	char wrong[96];		/* why it is broken, if it is */
};

struct segment {
	uint64_t iova;
	uint32_t len;
	bool write;		/* by us */
};

/* A buffer of the driver's.  The segments are the caller's to keep from one to the next. */
struct chain {
	uint16_t head;
	uint32_t nr, room;
	struct segment *segments;
	uint64_t in, out;	/* bytes that we write, and read */
};

/*
 * Addresses, size, index and features are filled in by the caller.  Returns NULL, or what
 * is wrong with them.  Both indices are @next: a device that serves all it takes in order.
 */
const char *ring_load(struct ring *r, uint16_t next);
bool ring_broken(const struct ring *r);
/* Nothing is taken from it any more. */
void __attribute__((format(printf, 2, 3))) ring_break(struct ring *r, const char *format, ...);
/* The next buffer; false if there is none, or none that makes sense. */
bool ring_pop(struct ring *r, struct chain *c);
/* One that was taken before, of which only the head is known */
bool ring_load_chain(struct ring *r, struct chain *c, uint16_t head);
/* There is nothing more: have the driver kick.  true if there is something now. */
bool ring_want_kick(struct ring *r);
void ring_no_kick(struct ring *r);
/*
 * Is the peer's memory still there?  To be asked after something was read from it, which
 * may else be all-ones, or was written to it.  No entry of an available ring is all-ones,
 * and we never write there, so that what fills a hole does not look like it either.
 */
bool ring_there(const struct ring *r, const struct chain *c);
/* Entry and index.  @len is how much was written. */
void ring_push(struct ring *r, uint16_t head, uint32_t len);
/* Does the driver want an interrupt for what was pushed since the last time? */
bool ring_must_tell(struct ring *r);
uint16_t ring_used_idx(const struct ring *r);
uint16_t ring_avail_idx(const struct ring *r);

/*
 * Copy from or to a buffer, beginning @offset bytes into what the driver has us read, or
 * write.  Returns how much was there.
 */
size_t chain_read(const struct chain *c, uint64_t offset, void *to, size_t len);
size_t chain_write(const struct chain *c, uint64_t offset, const void *from, size_t len);

#endif /* VM2VM_RING_H */
