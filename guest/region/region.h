/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm-region: memory that one VM gives to others, each a part of it, and doorbells among
 * all of them
 *
 * VMs have numbers.  VM 0 has the region, and is the owner of a link to each other VM: by the
 * IOMMU of its device at that link it says what that VM reaches.  Where it begins, and how
 * large it is, VM 0 tells in a page that also has the device's queue, &struct region_card.
 *
 *	header		all read it
 *	channel i, j	of each pair i != j: VM i writes it, VM j reads it, and no other VM sees it.
 *			A page of indices, &struct region_channel, then REGION_SLOTS messages
 *	common		all read and write it
 *
 * A channel is a ring of messages from i to j.  What i has taken of the ring from j to i it
 * writes into its own channel, so that nobody ever writes where another VM does.
 *
 * Nobody trusts anybody: what another VM writes is copied, and then checked.  A part that is
 * not approved, or not at the moment, reads as all-ones, which is no magic number, run or index;
 * and what is written to it is nowhere to be found later.  So who sends a message keeps it until
 * it was taken, and when the region comes back writes it again.
 */
#ifndef VM2VM_REGION_H
#define VM2VM_REGION_H

#include <stdint.h>

#define REGION_PAGE	4096ULL
/* The region begins so far behind the page of the link, so that it can be of huge pages */
#define REGION_HUGE	(2ULL << 20)
#define REGION_MAX_VMS	16
#define REGION_SLOTS	64
#define REGION_TEXT	240

#define REGION_MAGIC		0x6e6f696765723276ULL	/* "v2region" */
#define REGION_CARD_MAGIC	0x0064726163723276ULL	/* "v2rcard" */

/**
 * struct region_header - what there is
 * @magic: REGION_MAGIC
 * @vms: how many VMs there can be, VM 0 included
 * @common: bytes of the common part
 * @grants: how often VM 0 has given the region to some VM
 */
struct region_header {
	uint64_t magic;
	uint64_t vms;
	uint64_t common;
	uint64_t grants;
};

/**
 * struct region_message - a slot
 * @kind: enum region_kind
 * @length: bytes of @text, at most REGION_TEXT
 * @sum: of all that, of the sender's run and of the message's index: see message_sum()
 * @text: what is told
 */
struct region_message {
	uint32_t kind;
	uint32_t length;
	uint64_t sum;
	uint8_t text[REGION_TEXT];
};

enum region_kind {
	REGION_TEXT_MESSAGE = 1,
	REGION_PATTERN_MESSAGE = 2,	/* that of its index, for tests */
};

/**
 * struct region_channel - from VM i to VM j, written by VM i
 * @run: a number that VM i takes anew each time its program begins, never 0
 * @seen: @run of the channel from j to i, that the indices below go with
 * @head: how many messages were ever written in this run
 * @tail: how many were taken of the other channel
 * @slots: message n is in slot n % REGION_SLOTS
 *
 * Indices count only if either end has seen the other one's run.
 */
struct region_channel {
	uint64_t run;
	uint64_t seen;
	uint64_t head;
	uint64_t tail;
	uint8_t pad[REGION_PAGE - 32];
	struct region_message slots[REGION_SLOTS];
};

/*
 * struct region_card - the page with a link's only queue, which nobody uses as one: it has
 * the doorbells.  At a link that is for doorbells only, @size is 0.
 */
struct region_card {
	uint8_t desc[16 * 8];
	uint8_t avail[128];
	uint8_t used[256];
	uint64_t magic;		/* REGION_CARD_MAGIC */
	uint64_t region;	/* bus address */
	uint64_t size;		/* of all of it, in bytes */
	uint8_t pad[REGION_PAGE - 512 - 24];
};

_Static_assert(sizeof(struct region_message) == 256, "a power of two");
_Static_assert(sizeof(struct region_channel) % REGION_PAGE == 0, "rights end at pages");
_Static_assert(sizeof(struct region_card) == REGION_PAGE, "rights end at pages");

/* Where the channel from VM i to VM j is in the region */
static inline uint64_t region_channel_at(uint64_t vms, unsigned int i, unsigned int j)
{
	return REGION_PAGE + (i * (vms - 1) + j - (j > i)) * sizeof(struct region_channel);
}

static inline uint64_t region_common_at(uint64_t vms)
{
	return REGION_PAGE + vms * (vms - 1) * sizeof(struct region_channel);
}

static inline uint64_t region_size(uint64_t vms, uint64_t common)
{
	return region_common_at(vms) + common;
}

#endif /* VM2VM_REGION_H */
