/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Messages from VM to VM, by the channels of a region
 *
 * All of it under region_lock.
 */
#ifndef VM2VM_REGION_CHANNEL_H
#define VM2VM_REGION_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"

/**
 * struct peer - another VM
 * @reached: either end has seen the other one's run
 * @news: the other end has to look again; for the caller to clear
 * @written: what it was sent is in the region, as far as that has not gone meanwhile
 * @run: of its program, as this VM has seen it
 * @sent: how many messages it was sent in this run; @taken: how many of its were taken
 * @runs: of the other VM's that this one has seen; @again: how often what was there was not
 *	a whole message
 * @kept: what it was sent last, message n in n % REGION_SLOTS
 */
struct peer {
	bool reached, news, written;
	uint64_t run, sent, taken;
	uint64_t runs, again;
	struct region_message kept[REGION_SLOTS];
};

/**
 * struct region - this VM's idea of it
 * @at: its first byte; NULL: there is none
 * @me: number of this VM; @run: of its program
 * @vms, @common: as its header says, once that was checked; 0 VMs: it is not there
 * @comings: changes whenever it comes, or has gone and come again
 */
struct region {
	volatile uint8_t *at;
	unsigned int me;
	uint64_t run;
	uint64_t vms, common;
	uint64_t comings;
	struct peer peers[REGION_MAX_VMS];
};

/* Is it there, as far as can be told now? */
bool region_present(struct region *r);
/*
 * It may be another one, or be somewhere else, or have gone.  @link_runs: how often the link has
 * come that shows it.
 */
void region_look(struct region *r, volatile uint8_t *at, uint64_t size, uint64_t link_runs);
/* Do what there is to do with another VM's run; true: it is reached. */
bool region_reach(struct region *r, unsigned int vm);
/* Is there anything that could not be written, for which to come back soon? */
bool region_late(const struct region *r);
/* false: it is not reached, or has not taken enough of what was sent before */
bool region_send(struct region *r, unsigned int vm, uint32_t kind, const void *text, uint32_t len);
/* The next message, to @m, which is whole; false: there is none. */
bool region_take(struct region *r, unsigned int vm, struct region_message *m);
/* A message that its index makes: its length */
uint32_t region_pattern(uint64_t index, unsigned int from, uint8_t *text);

#endif /* VM2VM_REGION_CHANNEL_H */
