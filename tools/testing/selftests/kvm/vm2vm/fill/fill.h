/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_fill_test: a pair of VMs whose window has holes that are filled.
 */
#ifndef SELFTEST_KVM_VM2VM_FILL_H
#define SELFTEST_KVM_VM2VM_FILL_H

#include "vm2vm_peer.h"
#include "vm2vm_peer_check.h"

#define FILL		KVM_VM2VM_LINK_FILL
#define FILL_PAGES	64

/* A pair with a window in which nothing is approved. */
static inline void fill_init(struct peer *p, uint32_t link_flags)
{
	peer_init(p, FILL_PAGES * 4096);
	peer_fill(p);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size,
		   FILL | link_flags);
	peer_map_window(p, PEER_WINDOW, p->size);
}

static inline void fill_map(struct peer *p, unsigned int page, unsigned int n, uint32_t flags)
{
	vm2vm_map(p->domain, PEER_IOVA + page * 4096, PEER_OWNER_GPA + page * 4096, n * 4096ul,
		  flags);
}

static inline void fill_unmap(struct peer *p, unsigned int page, unsigned int n)
{
	vm2vm_unmap(p->domain, PEER_IOVA + page * 4096, n * 4096ul);
}

/* What passes is to be gone soon: read until the word at @offset is @val. */
static inline void fill_wait_for(struct peer *p, uint64_t offset, uint64_t val)
{
	unsigned int i;

	for (i = 0; i < 1000 && peer_read(p, offset) != val; i++)
		usleep(10000);
	TEST_ASSERT_EQ(peer_read(p, offset), val);
}

#endif /* SELFTEST_KVM_VM2VM_FILL_H */
