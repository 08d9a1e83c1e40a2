/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: kinds of memory, and how an old page is watched.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_MEM_H
#define SELFTEST_KVM_VM2VM_MATRIX_MEM_H

#include "matrix.h"

#define HUGEPAGES	16	/* the owner's, copies, and what is yet to be freed */
#define CATCH_HUGE	(2 * MATRIX_SIZE)

#define MUST(call)	TEST_ASSERT((call) >= 0, #call ": %s", strerror(errno))

/* Kinds of memory */

/* Addresses that nothing else gets. */
void reserve(void *where, size_t size);

void *reserve_any(size_t size);

void region_map_file(struct region *r, void *where, int flags);

/*
 * Map the region where it was, or is to be.  A guest that spins there is not to
 * be the first to touch the page: it would take a small page, or one of zeroes,
 * before this gets further.  So private memory is made elsewhere and moved.
 */
void region_map(struct region *r, void *where);

void region_create(struct region *r, enum memory kind, bool private);

void region_free(struct region *r);

/* New pages in place of all that there are. */
void region_renew(struct region *r);

/* Touch all pages; no two have the same contents, lest KSM merges them. */
void region_fill(struct region *r);

/* The frame at @addr of a process, or 0. */
uint64_t pfn_of(pid_t pid, const void *addr);

void *page_of(struct cell *c);

bool pfn_is_compound(uint64_t pfn);

/* Move the page to @node, or with -1 ask where it is. */
int move_page(struct cell *c, int node);

/*
 * Each CPU holds pages for a while before they come to the LRU lists, and then
 * they cannot be freed, nor be reclaimed.  A page that is to be moved to where
 * it is makes all CPUs let go.
 */
void drain_cpus(struct cell *c);

struct place place_of_process(int *fd, pid_t pid, void *addr);

/* The old page */

/*
 * How the old page is watched.  Best is a way to write to it: the guest must
 * neither see the canary nor overwrite it.
 */
void watch_place(struct cell *c, struct place place);

/*
 * A page without another mapping can be held by a pipe: it is not freed, keeps
 * what was in it, which the guest must not see any more, and shows afterwards
 * whether the guest has written to it.
 */
void pin_page(int fd, void *addr);

void watch_pinned(struct cell *c);

/*
 * A page that something else must be able to free, to move it for instance, can
 * be had again: memory that is allocated right after it was freed is likely to
 * be it.  That memory gets the canary.
 */
void watch_freed(struct cell *c);

void catch_freed(struct cell *c);

/* The guest has not written to the old page since the event. */
void check_old(struct cell *c);

void release_old(struct cell *c);

#endif /* SELFTEST_KVM_VM2VM_MATRIX_MEM_H */
