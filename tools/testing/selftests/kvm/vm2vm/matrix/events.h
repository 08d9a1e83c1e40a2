/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: the events.
 *
 * An event has up to five steps.  In each trial prepare() comes first; then the
 * guest gets hold of the page; then arm() sees to it that the old page can be
 * watched; fire() is the event; verify() is for what only this event has to be
 * checked for; restore() makes things as they were.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H
#define SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H

#include "mem.h"

/* What the window shows after the event. */
enum expect {
	SHOWS_HOLE,		/* reads give all ones, writes are dropped */
	SHOWS_OWNER,		/* what the owner has; writes arrive there */
	SHOWS_READONLY,		/* what the owner has; writes are dropped */
	SHOWS_NOTHING,		/* there is no guest any more */
};

/**
 * struct event - a row of the matrix
 * @name: its name
 * @expect: what the window shows after it
 * @private: private mappings, of files too
 * @reader: the guest does not write before the event
 * @keeps: the contents are the same after the event: the guest must not see
 *	   anything else on the way
 * @same: the kinds of memory whose page stays the owner's, and its contents
 * @small: the kinds that have no huge pages here although they could
 * @own_owner: each trial has an owner in another process
 * @own_backend: each trial has a backend in another process
 * @cost: one trial, in trials of a cheap event
 * @start: once; returns why the cell cannot run, or NULL
 * @finish: once
 * @prepare: before the guest gets hold of the page
 * @arm: before the event
 * @fire: the event
 * @verify: after it
 * @restore: undo it
 * @na: for each kind of memory why the event does not apply, NULL if it does
 */
struct event {
	const char *name;
	enum expect expect;
	bool private;
	bool reader;
	bool keeps;
	unsigned int same;
	unsigned int small;
	bool own_owner;
	bool own_backend;
	unsigned int cost;
	const char *(*start)(struct cell *c);
	void (*finish)(struct cell *c);
	void (*prepare)(struct cell *c);
	void (*arm)(struct cell *c);
	void (*fire)(struct cell *c);
	void (*verify)(struct cell *c);
	void (*restore)(struct cell *c);
	const char *na[NR_KINDS];
};

/* All of them; each list ends with an event that has no name. */
extern const struct event events_calls[];
extern const struct event events_space[];
extern const struct event events_kernel[];
extern const struct event events_death[];

/* Steps of events of several lists */

void fire_unmap(struct cell *c);

/* With VM2VM_LOG in the environment the owner's memslots log dirty pages. */
uint32_t log_flag(void);

void set_slot(struct cell *c, uint32_t flags, uint64_t gpa, uint64_t size);

/* The page stays where the owner has it. */
void arm_own(struct cell *c);

void arm_pinned(struct cell *c);

/* The page stays where the owner has it, but the owner may not write it there. */
void arm_alias_or_force(struct cell *c);

void restore_mprotect(struct cell *c);

void kill_child(struct cell *c);

/* Also for a cell that died; what it had in there died with it. */
void stop_swap(struct shared *shared);

#endif /* SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H */
