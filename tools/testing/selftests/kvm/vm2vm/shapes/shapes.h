/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_shapes_test: worlds of VMs that link each other (world.c), pairs whose descriptors
 * are closed in any order (close.c), and deaths (kill.c).
 */
#ifndef SELFTEST_KVM_VM2VM_SHAPES_SHAPES_H
#define SELFTEST_KVM_VM2VM_SHAPES_SHAPES_H

#include "vm2vm_fds.h"
#include "vm2vm_shapes_node.h"

/* What may happen to a node: its approvals, its window, all of it goes. */
enum method { BY_UNMAP, BY_UNLINK, BY_CLOSE, BY_DESTROY, BY_KILL, NR_METHODS };

/* The @n th permutation of @nr things. */
void permutation(unsigned int n, unsigned int nr, unsigned int *what);

/* And how many there are. */
unsigned int factorial(unsigned int n);

/* All of the nodes are taken away by @method, in the @order th order. */
void world_run(unsigned int nr, bool processes, enum method method, unsigned int order);

/* The descriptors of a pair. */
enum part { DOMAIN, OWNER_VM, BACKEND_VM, BACKEND_VCPU, OWNER_VCPU, NR_PARTS };

/* Without the owner's vCPU it is the first ones. */
#define NR_PARTS_MEMORY_OWNER	OWNER_VCPU

/**
 * struct pair - two VMs
 * @owner: the one that shares
 * @backend: the one that has a window to it, and the only one that writes
 * @gen: of what is written
 */
struct pair {
	struct node owner;
	struct node backend;
	uint64_t gen;
};

/* The VMs that this process has made, as debugfs has them; -1 without it. */
int count_vms(void);

/* What is between the VMs and the test. */
void pair_init(struct pair *p);
void pair_fini(struct pair *p);

/* Close everything in the @order th order, and look at what each close leaves. */
void close_in_order(unsigned int order, unsigned int nr_parts);

/* Make, link, use and end a pair: a cycle of which a thousand must leave nothing. */
void cycle(struct pair *p, unsigned int n);

/*
 * Bytes of the kernel that are in use and that a leak would be in.  Pages that the
 * slab allocator keeps in reserve, and caches that have nothing to do with VMs, are
 * not among them.  Returns -1 if the kernel does not tell.
 */
long kernel_memory(void);

/**
 * struct kill - a survivor, and what dies next to it
 * @survivor: VM of this process; its guest never stops
 * @victim: VM of a process that is made and killed, round by round.  The test has
 *	    what it shares, and the state of its guest, which goes on from one victim
 *	    to the next
 * @domain: the victim's domain as soon as it has one; shared with it
 * @linked: whether the survivor has linked it
 * @stolen: its descriptor, here
 * @up: us that a victim needs until its guest runs, about; 0 for the first victim,
 *	which lives until it does
 * @early: rounds in which it had no domain yet
 * @late: rounds in which its guest ran
 */
struct kill {
	struct node survivor;
	struct node victim;
	int *domain;
	bool linked;
	int stolen;
	uint64_t up;
	unsigned int early;
	unsigned int late;
};

/* The survivor begins, and ends. */
void kill_init(struct kill *k);
void kill_fini(struct kill *k);

/* A victim lives and dies. */
void kill_round(struct kill *k, unsigned int round);

#endif /* SELFTEST_KVM_VM2VM_SHAPES_SHAPES_H */
