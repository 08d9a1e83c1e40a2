/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: one cell, the guest that spins in it, and how to wait for
 * that guest.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_H
#define SELFTEST_KVM_VM2VM_MATRIX_H

#include <pthread.h>
#include <time.h>

#include "vm2vm_peer.h"

#define MATRIX_SIZE	PEER_SIZE_2M	/* of the owner's memory, its only memslot */
#define MATRIX_OFFSET	(5 * 4096ul)	/* of the page that the guest is on */
#define SPIN_GPA	0x80000000ul	/* gpa and gva of struct spin */
#define SPIN_SLOT	1

/* The words of a page that are used. */
#define WORD_READ	0	/* the guest reads it */
#define WORD_WRITE	1	/* the guest writes it */
#define WORD_OWNER	2	/* the owner writes it if it just has to write */

/*
 * What is in WORD_READ, a value for each trial: before the event, and what the
 * owner puts there after it.  In WORD_WRITE the guest writes the number of its
 * pass.  The canary goes into pages that the guest must not reach.
 */
#define VAL_OLD(trial)	(0x01d0000000000000ull + (trial))
#define VAL_NEW(trial)	(0x2222000000000000ull + (trial))
#define VAL_PASS(count)	(0x3333000000000000ull + (count))
#define VAL_CANARY	0xdeadbeefdeadbeefull
#define VAL_NONE	0x4444000000000000ull
#define VAL_HOLE	(~0ull)

/**
 * struct spin - between the test, the vCPU's thread and the guest
 * @page: gva of the page to spin on
 * @count: passes of the loop
 * @last: what was read last
 * @forbidden: what must not be read, besides the canary
 * @only: all that may be read, or VAL_NONE
 * @seen: how often something was read that must not be
 * @seen_val: what it was
 * @seen_count: in which pass
 * @readonly: the guest does not write
 * @pause: the vCPU is to leave its guest
 * @paused: it has
 * @stop: the guest is to end
 * @mmio: accesses to holes
 * @exit_reason: the last
 */
struct spin {
	uint64_t page;
	uint64_t count;
	uint64_t last;
	uint64_t forbidden;
	uint64_t only;
	uint64_t seen;
	uint64_t seen_val;
	uint64_t seen_count;
	uint64_t readonly;
	uint64_t pause;
	uint64_t paused;
	uint64_t stop;
	uint64_t mmio;
	uint64_t exit_reason;
};

enum memory { ANON, MEMFD, THP, HUGETLB, NR_KINDS };

extern const char * const kind_names[NR_KINDS];

/**
 * struct region - memory of MATRIX_SIZE
 * @kind: of what
 * @private: a private mapping, of a file too
 * @fd: the file, or -1
 * @mem: where it is
 * @alias: a second mapping of the file, or NULL
 */
struct region {
	enum memory kind;
	bool private;
	int fd;
	void *mem;
	void *alias;
};

/* A page somewhere: in a process that @fd is the /proc/PID/mem of, -1: here. */
struct place {
	int fd;
	uint64_t addr;
};

/**
 * struct old - the page that the guest must no longer reach
 * @place: where it still can be written and read, if @mapped
 * @mapped: whether it can
 * @pipe: holds it, if @pinned
 * @pinned: whether a pipe does, so that it is not freed
 * @pfn: the page, if it may have been freed: somebody else may get it
 * @node: its NUMA node, or -1
 * @huge: whether it was freed as a huge page
 * @area: memory allocated after it was freed
 * @caught: the page, in @area
 */
struct old {
	struct place place;
	bool mapped;
	int pipe[2];
	bool pinned;
	uint64_t pfn;
	int node;
	bool huge;
	void *area;
	uint64_t *caught;
};

/* What all processes of the test know. */
struct shared {
	uint64_t residency;	/* trials with the vCPU in its guest on an old page */
	uint64_t idle;		/* trials with the vCPU outside */
	uint64_t kept;		/* trials in which the page stays the owner's */
	uint64_t freed;		/* old pages that were freed, or left to a child, */
	uint64_t caught;	/* and those of them that got the canary */
	uint64_t sightings;
	uint64_t page;		/* an owner in another process: where its page is, */
	int domain;		/* and its descriptor */
	int zram;		/* swap that was turned on, or -1 */
	char skip[128];		/* why a cell is skipped */
	char note[128];
};

struct event;

struct cell {
	const struct event *event;
	enum memory kind;
	bool spinning;		/* else the vCPU is outside of its guest */
	uint64_t trial;
	struct shared *shared;
	struct spin *s;

	struct kvm_vm *owner;
	int domain;
	struct region r;
	struct place own;	/* the page, as the owner has it */
	struct place first;	/* where VAL_OLD is put */
	int self;		/* /proc/self/mem */

	struct kvm_vm *backend;
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	struct old old;
	void *elsewhere;	/* addresses to move the memory to, */
	void *catch_at;		/* and for @old.area */
	struct region spare;
	uint64_t *sharers[2];	/* for KSM */
	pid_t child;
	int child_mem;
	uint64_t pfn;		/* of the page before the event */
	uint64_t returned;	/* @s->count when the event had returned */
	uint64_t slowest;	/* us */
	int nodes[2];
};

static inline uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

static inline struct place place_at(void *addr)
{
	return (struct place) { .fd = -1, .addr = (uintptr_t)addr };
}

uint64_t place_get(const struct place *p, unsigned int word);

void place_put(const struct place *p, unsigned int word, uint64_t val);

/* What there is to know of a cell that fails. */
void print_cell(struct cell *c);

#define CHECK(c, cond, fmt, ...)				\
do {								\
	if (!(cond)) {						\
		print_cell(c);					\
		TEST_FAIL(fmt, ##__VA_ARGS__);			\
	}							\
} while (0)

/* At once if that is soon, and without a CPU if it is not. */
#define WAIT_FOR(c, cond, fmt, ...)					\
do {									\
	uint64_t __end = now_us() + 60 * 1000000ull;			\
	unsigned int __i;						\
									\
	for (__i = 0; !(cond); __i++) {					\
		if (__i < 2000)						\
			continue;					\
		CHECK(c, now_us() < __end, "for 60 s: " fmt, ##__VA_ARGS__); \
		usleep(100);						\
	}								\
} while (0)

/* The VMM of the backend. */
void spin_run(struct kvm_vcpu *vcpu, struct spin *s);

/* Nothing was read that must not be. */
void check_seen(struct cell *c);

/* The guest goes around its loop @n times from now on. */
void spin_wait(struct cell *c, uint64_t n);

/* The guest reads @val, and may have read other things meanwhile. */
void spin_wait_for(struct cell *c, uint64_t val);

/* What the guest writes from now on comes to @p. */
void spin_wait_arrives(struct cell *c, const struct place *p);

void spin_pause(struct cell *c);

void spin_resume(struct cell *c);

void *spin_thread(void *arg);

void link_window(struct cell *c);

void map_all(struct cell *c);

/* A backend without a window; its vCPU does not run yet. */
void backend_create(struct cell *c);

void spin_reset(struct cell *c);

/* This thread stays on one CPU, so that it gets the pages that it has freed. */
void stay_on_cpu(bool stay);

#endif /* SELFTEST_KVM_VM2VM_MATRIX_H */
