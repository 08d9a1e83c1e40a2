/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_race_test: what two actors do to one owner and its backends.
 */
#ifndef SELFTEST_KVM_VM2VM_RACE_RACE_H
#define SELFTEST_KVM_VM2VM_RACE_RACE_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vm2vm_shapes_node.h"

/* How often, at least; and for how long, if it is more often. */
#define LEAST_ROUNDS	5
#define TIME_LIMIT	700000	/* us, but for LEAST_ROUNDS */

/* The numbers of the nodes. */
#define OWNER		0
#define BACKEND		1
#define SECOND		2

/* The owner's memory are two memslots. */
#define RACE_SLOTS	2
#define RACE_SLOT_PAGES	(NODE_PAGES / RACE_SLOTS)

/* What has to be there for a page to be seen; an actor rules over one of them. */
enum factor { APPROVAL, LINK, DOMAIN, MEMORY, MEMSLOT, BACKEND_SLOT, ACCESS, LIFE };

struct actor;

/**
 * struct op - what an actor does, over and over
 * @name: of it
 * @factor: what it takes away and gives back
 * @round: it
 * @counterpart: its name: the two do one half each, and do not know of each other
 * @private: needs private memory
 */
struct op {
	const char *name;
	enum factor factor;
	void (*round)(struct actor *a);
	const char *counterpart;
	bool private;
};

/**
 * struct actor - a thread, or a process, that does one thing
 * @op: what
 * @other: what the other one does
 * @race: where
 * @idx: its number
 * @first: the first page that it does it to
 * @nr: how many pages these are
 * @seed: of its random numbers
 * @rounds: how often it did it; shared with other processes
 * @linked: whether there is a window
 * @thread: it
 */
struct actor {
	const struct op *op;
	const struct op *other;
	struct race *race;
	unsigned int idx;
	unsigned int first;
	unsigned int nr;
	unsigned int seed;
	uint64_t *rounds;
	bool linked;
	pthread_t thread;
};

/**
 * struct race - one owner, and who has windows to it
 * @actor: the two
 * @owner: has no vCPU
 * @backend: its guest never stops
 * @second: another backend, if an actor is the access
 * @domain: the owner's; the number stays the same when it is replaced
 * @memfd: the owner's memory, or -1 if that is private
 * @area: addresses kept for it; the memory is in the middle
 * @gen: of each page, as the owner wrote it; shared with other processes
 * @stop: the actors are to end
 */
struct race {
	struct actor actor[2];
	struct node owner;
	struct node backend;
	struct node second;
	int domain;
	int memfd;
	void *area;
	uint64_t *gen;
	bool stop;
};

/* Whether an actor rules over this. */
static inline bool race_has(struct race *r, enum factor factor)
{
	return r->actor[0].op->factor == factor || r->actor[1].op->factor == factor;
}

/* Whether the actor and its counterpart do one half each. */
bool is_half(struct actor *a);

unsigned int random_page(struct actor *a);

static inline void *page_addr(struct race *r, unsigned int page)
{
	return r->owner.own[page];
}

/* Where a page is moved to. */
static inline void *spare_addr(struct race *r, unsigned int page)
{
	return r->area + 2 * NODE_SIZE + page * 4096;
}

/* The owner's memory from @page on, mapped at @addr. */
void *race_mmap(struct race *r, void *addr, unsigned int page, size_t size, int flags);

/*
 * Of the actor: nobody can see the page from now on, or may see it.  A backend's link
 * is its own matter; everything else concerns both.
 */
void flip(struct actor *a, unsigned int page);

void flip_all(struct actor *a);

/* The owner writes to a page, at @at; whoever reads it from now on must find that. */
void write_page(struct race *r, unsigned int page, void *at);

/* The call may succeed, or fail with one of two errors, or (0) with none. */
void check_errno(const char *call, int r, int e1, int e2);

/* Approve a page, or revoke some: 0 or -errno. */
int race_map(struct race *r, unsigned int page);
int race_unmap(struct race *r, unsigned int page, unsigned int nr, uint64_t *size);

/* Approve each page. */
void race_map_all(struct race *r, int domain);

/* One of the owner's memslots; @size 0 deletes it. */
int race_set_slot(struct race *r, unsigned int slot, uint64_t gpa, size_t size);

static inline uint64_t slot_gpa(unsigned int slot)
{
	return NODE_OWN + slot * RACE_SLOT_PAGES * 4096;
}

#define RACE_SLOT_SIZE	(RACE_SLOT_PAGES * 4096ul)

/* The owner writes to all pages. */
void write_pages(struct race *r);

/* Memory of the owner: private, or of a file that the test can look at. */
void race_memory(struct race *r, bool private);

/* The owner's VM and its domain, in which all is approved. */
void race_create_owner(struct race *r);

/* A backend, but for its window. */
void race_create_backend(struct node *n);

/* What the test keeps, for two actors that do @ops; no VM yet. */
void race_init(struct race *r, const struct op * const *ops);

void race_fini(struct race *r);

/* The things that an actor may do. */
extern const struct op op_map;
extern const struct op op_unmap;
extern const struct op op_link;
extern const struct op op_unlink;
extern const struct op op_access;
extern const struct op op_dontneed;
extern const struct op op_mprotect;
extern const struct op op_mremap;
extern const struct op op_remap;
extern const struct op op_cow;
extern const struct op op_slot;
extern const struct op op_slot_move;
extern const struct op op_backend_slot;
extern const struct op op_close;
extern const struct op op_end;
extern const struct op op_drop;
extern const struct op op_owner_exit;
extern const struct op op_backend_exit;

/* What an actor does until the race stops: the thread of actor_go(), or a process's own. */
void *act(void *arg);

void actor_go(struct actor *a);

#endif /* SELFTEST_KVM_VM2VM_RACE_RACE_H */
