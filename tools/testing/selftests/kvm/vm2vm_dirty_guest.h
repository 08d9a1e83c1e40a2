/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: what the guests do, all of them with the same program: the
 * owner's in its own memory, a backend's in its windows.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_GUEST_H
#define SELFTEST_KVM_VM2VM_DIRTY_GUEST_H

#include "vm2vm_access.h"
#include "vm2vm_shapes_node.h"

#define DIRTY_MAX	1024		/* pages of an owner, and of a window */
#define DIRTY_CTL	0x80000000ul	/* gpa and gva of struct dirty_ctl, one a vCPU */
#define DIRTY_OWN	0x90000000ul	/* gpa and gva of what the owner shares */
#define DIRTY_WINDOWS	4
#define DIRTY_WINDOW(w)	(0x100000000ul + (w) * DIRTY_MAX * 4096ul)	/* likewise */

/* Each VM has a number, and writes to a word of its own in each page. */
#define DIRTY_IDS	8
#define DIRTY_WORD(id)	((id) * 57)

enum dirty_op {
	DIRTY_STOP, DIRTY_READ, DIRTY_WRITE, DIRTY_ACCESS,
	/* These go on until the operation changes. */
	DIRTY_PASSES, DIRTY_RANDOM, DIRTY_BURSTS,
};

/**
 * struct dirty_ctl - between a guest and its VMM, in memory that is not shared
 * @op: what the guest is to do
 * @addr: gva of the first page; for DIRTY_PASSES also of a second area
 * @count: number of pages at @addr
 * @val: what is written, or the sum of what was read
 * @id: number of the VM
 * @seed: of the random numbers, not 0
 * @pause: with DIRTY_RANDOM, how long it pauses at most after each write; 0 not at all
 * @passes: number of passes over all the pages; this is what DIRTY_PASSES writes
 * @writes: number of writes
 * @access: what KVM is to emulate
 * @begun: by page at @addr[0], writes that DIRTY_RANDOM has begun; this is what it
 *	   writes
 * @ended: likewise, writes that are over
 */
struct dirty_ctl {
	uint64_t op;
	uint64_t addr[2];
	uint64_t count[2];
	uint64_t val;
	uint64_t id;
	uint64_t seed;
	uint64_t pause;
	uint64_t passes;
	uint64_t writes;
	struct access_cmd access;
	uint64_t begun[DIRTY_MAX];
	uint64_t ended[DIRTY_MAX];
};

#define DIRTY_CTL_SIZE	align_up(sizeof(struct dirty_ctl), 4096)

static inline uint64_t dirty_random(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*seed = x;
	return x * 0x2545f4914f6cdd1dull >> 24;
}

static inline uint64_t *dirty_guest_word(struct dirty_ctl *c, unsigned int area, uint64_t page)
{
	return (uint64_t *)(c->addr[area] + page * 4096) + DIRTY_WORD(c->id);
}

static inline void dirty_guest_pause(uint64_t n)
{
	while (n--)
		asm volatile("" : : : "memory");
}

static inline void dirty_guest_passes(struct dirty_ctl *c)
{
	uint64_t pass, i, area;

	while (READ_ONCE(c->op) == DIRTY_PASSES) {
		pass = c->passes + 1;
		for (area = 0; area < 2; area++)
			for (i = 0; i < c->count[area]; i++)
				WRITE_ONCE(*dirty_guest_word(c, area, i), pass);
		WRITE_ONCE(c->passes, pass);
	}
}

/* Each write is the n-th of this VM to the page, and writes this n. */
static inline void dirty_guest_random(struct dirty_ctl *c)
{
	uint64_t page, n;

	while (READ_ONCE(c->op) == DIRTY_RANDOM) {
		page = dirty_random(&c->seed) % c->count[0];
		n = c->begun[page] + 1;
		WRITE_ONCE(c->begun[page], n);
		WRITE_ONCE(*dirty_guest_word(c, 0, page), n);
		WRITE_ONCE(c->ended[page], n);
		WRITE_ONCE(c->writes, c->writes + 1);
		n = READ_ONCE(c->pause);
		if (n)
			dirty_guest_pause(dirty_random(&c->seed) % n);
	}
}

/* Anything anywhere, with pauses: so not every page is written all the time. */
static inline void dirty_guest_bursts(struct dirty_ctl *c)
{
	uint64_t n, r, *page;

	while (READ_ONCE(c->op) == DIRTY_BURSTS) {
		for (n = dirty_random(&c->seed) % 16 + 1; n; n--) {
			r = dirty_random(&c->seed);
			page = (uint64_t *)(c->addr[0] + r % c->count[0] * 4096);
			WRITE_ONCE(page[(r >> 20) % 512], dirty_random(&c->seed));
			WRITE_ONCE(c->writes, c->writes + 1);
		}
		r = dirty_random(&c->seed);
		if (r % 4)
			node_guest_leave(NODE_PORT_YIELD);
		else
			dirty_guest_pause((r >> 8) % 16384);
	}
}

static inline void dirty_guest_read(struct dirty_ctl *c)
{
	uint64_t i;

	c->val = 0;
	for (i = 0; i < c->count[0]; i++)
		c->val += READ_ONCE(*(uint64_t *)(c->addr[0] + i * 4096));
}

static inline void dirty_guest_write(struct dirty_ctl *c)
{
	uint64_t i;

	for (i = 0; i < c->count[0]; i++)
		WRITE_ONCE(*(uint64_t *)(c->addr[0] + i * 4096), c->val);
}

static void dirty_guest(struct dirty_ctl *c)
{
	peer_guest_interruptible();
	for (;;) {
		switch (READ_ONCE(c->op)) {
		case DIRTY_READ:
			dirty_guest_read(c);
			break;
		case DIRTY_WRITE:
			dirty_guest_write(c);
			break;
		case DIRTY_ACCESS:
			guest_do(&c->access);
			break;
		case DIRTY_PASSES:
			dirty_guest_passes(c);
			break;
		case DIRTY_RANDOM:
			dirty_guest_random(c);
			break;
		case DIRTY_BURSTS:
			dirty_guest_bursts(c);
			break;
		}
		node_guest_leave(NODE_PORT_DONE);
	}
}

#endif /* SELFTEST_KVM_VM2VM_DIRTY_GUEST_H */
