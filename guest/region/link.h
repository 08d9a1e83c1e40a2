/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The links of vm2vm-region, of either side
 */
#ifndef VM2VM_REGION_LINK_H
#define VM2VM_REGION_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct link - to another VM
 * @vm: its number; @name: as the user calls it, for messages
 * @bell_in: readable when the other VM has rung; -1: not yet
 * @bell_out: where to write the index of the queue, 0, to ring the other one's; NULL: not yet
 * @runs: how often it has come
 * @region: where the region is mapped, @size bytes of it; NULL: this link shows none
 *
 * What is done with the region and with @bell_out is done under region_lock.  A link that ends
 * takes it, too, before the next run of the other VM's device is acknowledged.  So nothing of
 * before is written after.
 */
struct link {
	unsigned int vm;
	const char *name;
	int bell_in;
	volatile uint32_t *bell_out;
	bool bell_16;		/* of 2 bytes: virtio's notification */
	uint64_t runs;
	volatile uint8_t *region;
	uint64_t size;
	struct owned *owned;
};

extern pthread_mutex_t region_lock;

/* Something is new with a link: has the main loop look. */
void links_changed(void);

/* For the backend's side: a thread that serves the device, until the program ends */
void link_serve(struct link *l);

/*
 * For the owner's side.  @name is a PCI device that vfio-pci has.  After link_own() there are
 * doorbells; link_map() gives the other VM a part of the region, for reading or for both, and
 * link_unmap() takes it all, the last first: when that returns nothing is reached any more.
 */
void link_own(struct link *l, uint64_t iova, uint64_t size);
void link_map(struct link *l, uint64_t iova, volatile void *at, uint64_t size, bool write);
void link_unmap(struct link *l);
/* The other VM may have written anything to the page of the link: put right what a new one needs */
void link_mend(struct link *l);

static inline void link_ring(const struct link *l)
{
	if (!l->bell_out)
		return;
	if (l->bell_16)
		*(volatile uint16_t *)l->bell_out = 0;
	else
		*l->bell_out = 0;
}

#endif /* VM2VM_REGION_LINK_H */
