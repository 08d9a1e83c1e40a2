/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_view_test: a vCPU that stays inside a view, without exits, while the test
 * takes away what it sees there.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_INSIDE_H
#define SELFTEST_KVM_VM2VM_VIEW_INSIDE_H

#include "vm2vm_spin.h"
#include "vm2vm_view.h"

/**
 * struct inside_loop - between the guest and the test; in the guest's own memory
 * @loop: what every guest that spins has
 * @stale: how often OLD was read after @gone
 * @holes: how often all-ones were read
 * @gone: OLD is not to be read any more
 * @enter: enter the view again; the guest clears it
 * @look: have the VMM look at the view; the guest clears it
 * @leave: leave the view and enter it in every pass
 */
struct inside_loop {
	struct spinner_loop loop;
	uint64_t stale;
	uint64_t holes;
	uint64_t gone;
	uint64_t enter;
	uint64_t look;
	uint64_t leave;
};

/**
 * struct inside - a vCPU of a backend that spins in view 1, and a page of an owner for it
 * @w: the backend; its owner 0 has the page @mem only
 * @loop: what the guest tells
 * @in: the same, and what is about the view
 * @memfd: two pages
 * @page: them, in a mapping of the test's own
 * @mem: the owner's mapping of one of them
 * @thread: runs the vCPU
 * @tid: its thread ID
 * @view: the view that the vCPU was in when it was looked at last
 */
struct inside {
	struct view w;
	struct spinner_loop *loop;
	struct inside_loop *in;
	int memfd;
	uint64_t *page[2];
	void *mem;
	pthread_t thread;
	pid_t tid;
	uint32_t view;
};

/* The owner's only page is in @s->mem; nothing is approved. */
void inside_init(struct inside *s);

void inside_start(struct inside *s);

void inside_free(struct inside *s);

/* Approve the page. */
void inside_map(struct inside *s);

/* View 1 is a page of @domain. */
void inside_link(struct inside *s, int domain);

/* All of that: the page is approved and linked, and the guest runs. */
void inside_share(struct inside *s);

/* The view that the spinning vCPU is in. */
uint32_t inside_view(struct inside *s);

/* From the next pass on the guest may read OLD. */
void inside_allow(struct inside *s);

/* Let the guest reach a page that has the value OLD, inside the view, without exits. */
void inside_begin(struct inside *s, uint64_t *page);

/*
 * The page is revoked: put the canary into it, and nothing of the guest may come to it
 * or from it any more.  The guest reads @expect soon.
 */
void inside_end(struct inside *s, uint64_t *page, uint64_t expect, unsigned int trial);

#endif /* SELFTEST_KVM_VM2VM_VIEW_INSIDE_H */
