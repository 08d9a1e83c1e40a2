/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: what the guests do, all of them with the same program: the owner's in
 * its own memory, a backend's in its windows.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_GUEST_H
#define SELFTEST_KVM_VM2VM_DIRTY_GUEST_H

#include "vm2vm_access.h"

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

/* The next random number. */
uint64_t dirty_random(uint64_t *seed);

/* What each vCPU runs: does what @c says, again and again. */
void dirty_guest(struct dirty_ctl *c);

#endif /* SELFTEST_KVM_VM2VM_DIRTY_GUEST_H */
