// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: what guest.h declares, the program of the guests.
 */
#include "guest.h"
#include "vm2vm_peer.h"
#include "vm2vm_shapes_node.h"

uint64_t dirty_random(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*seed = x;
	return x * 0x2545f4914f6cdd1dull >> 24;
}

static uint64_t *dirty_guest_word(struct dirty_ctl *c, unsigned int area, uint64_t page)
{
	return (uint64_t *)(c->addr[area] + page * 4096) + DIRTY_WORD(c->id);
}

static void dirty_guest_pause(uint64_t n)
{
	while (n--)
		asm volatile("" : : : "memory");
}

static void dirty_guest_passes(struct dirty_ctl *c)
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
static void dirty_guest_random(struct dirty_ctl *c)
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
static void dirty_guest_bursts(struct dirty_ctl *c)
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

static void dirty_guest_read(struct dirty_ctl *c)
{
	uint64_t i;

	c->val = 0;
	for (i = 0; i < c->count[0]; i++)
		c->val += READ_ONCE(*(uint64_t *)(c->addr[0] + i * 4096));
}

static void dirty_guest_write(struct dirty_ctl *c)
{
	uint64_t i;

	for (i = 0; i < c->count[0]; i++)
		WRITE_ONCE(*(uint64_t *)(c->addr[0] + i * 4096), c->val);
}

void dirty_guest(struct dirty_ctl *c)
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
