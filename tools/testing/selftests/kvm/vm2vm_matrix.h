/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: one cell, the guest that spins in it, and how to wait for
 * that guest.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_H
#define SELFTEST_KVM_VM2VM_MATRIX_H

#include <pthread.h>
#include <sched.h>
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

static const char * const kind_names[NR_KINDS] = { "anon", "memfd", "thp", "hugetlb" };

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

static void spin_guest(void)
{
	struct spin *s = (struct spin *)SPIN_GPA;
	uint64_t val, only, forbidden;
	uint64_t *page;

	peer_guest_interruptible();
	while (!READ_ONCE(s->stop)) {
		if (READ_ONCE(s->pause))
			GUEST_SYNC(0);
		page = (uint64_t *)READ_ONCE(s->page);
		if (!READ_ONCE(s->readonly))
			WRITE_ONCE(page[WORD_WRITE], VAL_PASS(s->count));
		/* The rules first, then the page: they are made before it matters. */
		only = READ_ONCE(s->only);
		forbidden = READ_ONCE(s->forbidden);
		val = READ_ONCE(page[WORD_READ]);
		if (val == VAL_CANARY || val == forbidden ||
		    (only != VAL_NONE && val != only)) {
			WRITE_ONCE(s->seen_val, val);
			WRITE_ONCE(s->seen_count, s->count);
			WRITE_ONCE(s->seen, s->seen + 1);
		}
		WRITE_ONCE(s->last, val);
		WRITE_ONCE(s->count, s->count + 1);
	}
	GUEST_DONE();
}

/* The VMM of the backend. */
static inline void spin_run(struct kvm_vcpu *vcpu, struct spin *s)
{
	struct kvm_run *run = vcpu->run;

	for (;;) {
		vcpu_run(vcpu);
		WRITE_ONCE(s->exit_reason, run->exit_reason);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			WRITE_ONCE(s->mmio, s->mmio + 1);
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			continue;
		}
		switch (get_ucall(vcpu, NULL)) {
		case UCALL_SYNC:
			WRITE_ONCE(s->paused, 1);
			while (READ_ONCE(s->pause))
				usleep(200);
			WRITE_ONCE(s->paused, 0);
			break;
		case UCALL_DONE:
			return;
		default:
			TEST_FAIL("exit reason %u (%s)", run->exit_reason,
				  exit_reason_str(run->exit_reason));
		}
	}
}

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

static inline bool place_try_get(const struct place *p, int self, unsigned int word,
				 uint64_t *val)
{
	return pread(p->fd < 0 ? self : p->fd, val, 8, p->addr + word * 8) == 8;
}

static inline uint64_t get(const struct place *p, unsigned int word)
{
	uint64_t val;

	if (p->fd < 0)
		return READ_ONCE(((uint64_t *)p->addr)[word]);
	TEST_ASSERT(pread(p->fd, &val, 8, p->addr + word * 8) == 8,
		    "read of another address space: %s", strerror(errno));
	return val;
}

static inline void put(const struct place *p, unsigned int word, uint64_t val)
{
	if (p->fd < 0)
		WRITE_ONCE(((uint64_t *)p->addr)[word], val);
	else
		TEST_ASSERT(pwrite(p->fd, &val, 8, p->addr + word * 8) == 8,
			    "write to another address space: %s", strerror(errno));
}

static inline void print_place(struct cell *c, const char *name, const struct place *p)
{
	uint64_t val[2];

	if (place_try_get(p, c->self, WORD_READ, &val[0]) &&
	    place_try_get(p, c->self, WORD_WRITE, &val[1]))
		printf("# %s: word read by the guest 0x%lx, written 0x%lx\n", name,
		       val[0], val[1]);
	else
		printf("# %s: no page\n", name);
}

/* What there is to know of a cell that fails. */
static inline void print_cell(struct cell *c)
{
	struct spin *s = c->s;

	printf("# trial %lu; the guest: pass %lu, read last 0x%lx, %s\n", c->trial, s->count,
	       s->last, s->paused ? "outside" : "inside");
	printf("# %lu accesses to holes, last exit %s\n", s->mmio,
	       exit_reason_str(s->exit_reason));
	printf("# forbidden 0x%lx, only 0x%lx, the event returned in pass %lu\n", s->forbidden,
	       s->only, c->returned);
	if (s->seen)
		printf("# %lu sightings, the last of 0x%lx in pass %lu\n", s->seen, s->seen_val,
		       s->seen_count);
	print_place(c, "the owner's page", &c->own);
	if (c->old.mapped)
		print_place(c, "the old page", &c->old.place);
	fflush(stdout);
}

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

/* Nothing was read that must not be. */
static inline void check_seen(struct cell *c)
{
	if (!READ_ONCE(c->s->seen))
		return;
	c->shared->sightings += c->s->seen;
	CHECK(c, false, "the guest has read what it must not: 0x%lx", c->s->seen_val);
}

/* The guest goes around its loop @n times from now on. */
static inline void spin_wait(struct cell *c, uint64_t n)
{
	uint64_t end = READ_ONCE(c->s->count) + n;

	WAIT_FOR(c, READ_ONCE(c->s->count) >= end, "the guest does not go on");
}

/* The guest reads @val, and may have read other things meanwhile. */
static inline void spin_wait_for(struct cell *c, uint64_t val)
{
	spin_wait(c, 2);
	WAIT_FOR(c, READ_ONCE(c->s->last) == val, "the guest reads 0x%lx, not 0x%lx",
		 c->s->last, val);
}

/* What the guest writes from now on comes to @p. */
static inline void spin_wait_arrives(struct cell *c, const struct place *p)
{
	uint64_t least = VAL_PASS(READ_ONCE(c->s->count)), val;

	WAIT_FOR(c, (val = get(p, WORD_WRITE)) >= least && val < VAL_NONE,
		 "what the guest writes does not arrive: there is 0x%lx, not 0x%lx", val, least);
}

static inline void spin_pause(struct cell *c)
{
	WRITE_ONCE(c->s->pause, 1);
	WAIT_FOR(c, READ_ONCE(c->s->paused), "the vCPU does not leave its guest");
}

static inline void spin_resume(struct cell *c)
{
	WRITE_ONCE(c->s->pause, 0);
	WAIT_FOR(c, !READ_ONCE(c->s->paused), "the vCPU does not enter its guest");
}

static inline void *spin_thread(void *arg)
{
	struct cell *c = arg;

	spin_run(c->vcpu, c->s);
	return NULL;
}

static inline void link_window(struct cell *c)
{
	vm2vm_link(c->backend, c->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, MATRIX_SIZE, 0);
}

static inline void map_all(struct cell *c)
{
	vm2vm_map(c->domain, PEER_IOVA, PEER_OWNER_GPA, MATRIX_SIZE, VM2VM_RW);
}

/* A backend without a window; its vCPU does not run yet. */
static inline void backend_create(struct cell *c)
{
	struct userspace_mem_region *ram;

	c->backend = vm_create_with_one_vcpu(&c->vcpu, spin_guest);
	vm_set_user_memory_region(c->backend, SPIN_SLOT, 0, SPIN_GPA, 4096, c->s);
	virt_map(c->backend, SPIN_GPA, SPIN_GPA, 1);
	virt_map(c->backend, PEER_WINDOW, PEER_WINDOW, MATRIX_SIZE / 4096);
	/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
	ram = memslot2region(c->backend, 0);
	TEST_ASSERT(!madvise(ram->mmap_start, ram->mmap_size, MADV_DONTFORK),
		    "MADV_DONTFORK: %s", strerror(errno));
}

static inline void spin_reset(struct cell *c)
{
	memset(c->s, 0, sizeof(*c->s));
	c->s->page = PEER_WINDOW + MATRIX_OFFSET;
	c->s->forbidden = VAL_NONE;
	c->s->only = VAL_NONE;
}

/* This thread stays on one CPU, so that it gets the pages that it has freed. */
static inline void stay_on_cpu(bool stay)
{
	static cpu_set_t all;
	cpu_set_t one;
	int cpu;

	if (!CPU_COUNT(&all))
		TEST_ASSERT(!sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	for (cpu = 0; !CPU_ISSET(cpu, &all); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(one), stay ? &one : &all), "sched_setaffinity");
}

#endif /* SELFTEST_KVM_VM2VM_MATRIX_H */
