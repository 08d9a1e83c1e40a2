/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_inject_test: what the calls are about, and whether they have done it. */
#ifndef SELFTEST_KVM_VM2VM_INJECT_ENV_H
#define SELFTEST_KVM_VM2VM_INJECT_ENV_H

#include "faults.h"
#include "vm2vm_peer.h"

#define HOLE		(~0ull)
#define VALUE		0x1122334455667788ull
#define PAGES		64		/* of the owner's memory that are used */
#define WINDOW_SIZE	(2 * PAGES * 4096ul)

/* What a call is made to, and with. */
struct env {
	struct peer p;
	int fd;			/* a domain just made */
	unsigned int first;	/* of the mappings that a call is about */
	unsigned int count;
	uint64_t unmapped;
	uint64_t gpa, size;	/* of the link that a call is about */
	uint32_t slot;
	uint64_t offset;	/* of the page that a vCPU touches */
	int memfd;
};

/* Mappings are at every other page of the window: none is the neighbour of another. */
static inline uint64_t mapping_iova(unsigned int i)
{
	return PEER_IOVA + 2 * i * 4096;
}

/* An owner whose pages have their values, and a backend that has no window yet. */
void env_init(struct env *e);

void env_free(struct env *e);

/* The backend's window has memory there, with this value. */
void expect_word(struct env *e, uint64_t offset, uint64_t val);

/* It has a hole there. */
void expect_hole(struct env *e, uint64_t offset);

/* Make the kernel look through the tree of all that is mapped. */
void shake(struct env *e);

/* What the vCPU does when it runs: an access at @offset of the window. */
void set_cmd(struct env *e, enum peer_op op, uint64_t val, uint64_t count);

#endif /* SELFTEST_KVM_VM2VM_INJECT_ENV_H */
