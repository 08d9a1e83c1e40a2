/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_miss_test: an owner, and backends whose vCPUs access their windows as they
 * are told, each in a thread of its own: it may have to wait.
 */
#ifndef SELFTEST_KVM_VM2VM_MISS_ACCESS_H
#define SELFTEST_KVM_VM2VM_MISS_ACCESS_H

#include <pthread.h>

#include "vm2vm_peer.h"

/*
 * What must not take long is given this many seconds.  A slow machine needs a
 * small part of it, what waits for an answer that does not come needs for ever.
 */
#define LIMIT		60

#define PAGES		16
#define VALUE(page)	(0x1122334455667700ull + (page))
#define HOLE		(~0ull)
#define IOVA(page)	(PEER_IOVA + (page) * 4096ul)
#define GPA(page)	(PEER_OWNER_GPA + (page) * 4096ul)
#define WINDOW2		(2 * PEER_WINDOW)
#define NO_MEMORY	(3 * PEER_WINDOW)	/* of the backend; gpa and gva */
#define MAX_VCPUS	16			/* of a backend */

#define RD		KVM_VM2VM_MAP_READ
#define READONLY	KVM_VM2VM_LINK_READONLY
#define EXIT		KVM_VM2VM_LINK_EXIT
#define WAIT		KVM_VM2VM_LINK_WAIT

enum miss_op { MISS_READ, MISS_WRITE, MISS_EXEC, MISS_MOVE };

/* What a vCPU is to do, and what it has read. */
struct miss_cmd {
	uint64_t op;
	uint64_t gva;
	uint64_t val;
};

/**
 * struct runner - a vCPU and its thread
 * @vcpu: it
 * @cmd: its part of the guest's memory
 * @stats: descriptor; that of the vCPU itself is busy while it runs
 * @thread: in KVM_RUN while an access is under way
 * @running: whether it is
 * @err: errno of the last KVM_RUN
 * @mmio: number of MMIO exits, each answered with all ones
 * @mmio_gpa: address of the last
 * @mmio_write: whether the last was a write
 */
struct runner {
	struct kvm_vcpu *vcpu;
	struct miss_cmd *cmd;
	int stats;
	pthread_t thread;
	bool running;
	int err;
	unsigned int mmio;
	uint64_t mmio_gpa;
	bool mmio_write;
};

struct backend {
	struct kvm_vm *vm;
	unsigned int nr;
	struct runner r[MAX_VCPUS];
};

/* A signal that interrupts, and is nothing else. */
void catch_signal(int flags);

static inline void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	int r = pthread_create(thread, NULL, run, arg);

	TEST_ASSERT(!r, "pthread_create: %s", strerror(r));
}

/* It ends, or is about to; if it does not, @what is what it does. */
void join_thread(pthread_t thread, const char *what);

/* A VM with @nr vCPUs, which can address both windows. */
void backend_make(struct backend *b, unsigned int nr);

static inline void backend_link(struct backend *b, int domain, uint32_t flags)
{
	vm2vm_link(b->vm, domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, PAGES * 4096, flags);
}

/* Until KVM_RUN fails or there is something else than MMIO. */
void *runner_thread(void *arg);

/* Go on with an access that KVM_RUN came back from. */
static inline void access_continue(struct runner *r)
{
	r->running = true;
	start_thread(&r->thread, runner_thread, r);
}

static inline void access_start_at(struct runner *r, enum miss_op op, uint64_t gva, uint64_t val)
{
	*r->cmd = (struct miss_cmd) { .op = op, .gva = gva, .val = val };
	access_continue(r);
}

static inline void access_start(struct runner *r, enum miss_op op, unsigned int page, uint64_t val)
{
	access_start_at(r, op, PEER_WINDOW + page * 4096ul, val);
}

/* Returns 0 if the access is done, -errno of KVM_RUN, or another exit reason. */
int access_end(struct runner *r);

static inline int access_now(struct runner *r, enum miss_op op, unsigned int page, uint64_t val)
{
	access_start(r, op, page, val);
	return access_end(r);
}

/* An access that was started gives this value, or all ones. */
uint64_t access_val(struct runner *r);

static inline uint64_t read_now(struct runner *r, unsigned int page)
{
	access_start(r, MISS_READ, page, 0);
	return access_val(r);
}

/* One of the statistics of a vCPU, whether it runs or not. */
static inline uint64_t runner_stat(struct runner *r, const char *name)
{
	return peer_stat(r->stats, name);
}

static inline uint64_t waits(struct runner *r)
{
	return runner_stat(r, "vm2vm_waits");
}

static inline uint64_t holes(struct runner *r)
{
	return runner_stat(r, "vm2vm_holes");
}

/* Wait until @r has begun to wait for the @n-th time. */
void until_waits(struct runner *r, uint64_t n);

/* For the @n-th time @r waits, and nothing that happened has woken it. */
void still_waits(struct runner *r, uint64_t n);

/* What poll() shows within @ms. */
int poll_for(int fd, int ms);

/* The next miss, for which there may have to be one first. */
struct kvm_vm2vm_miss next_miss(int domain);

/* The next miss is of this page, and needs these rights. */
void expect_miss(int domain, unsigned int page, uint32_t flags);

static inline void expect_no_miss(int domain)
{
	int events = poll_for(domain, 0);

	TEST_ASSERT(!events, "poll: %x", events);
}

static inline void map_pages(int domain, unsigned int page, unsigned int nr, uint32_t flags)
{
	vm2vm_map(domain, IOVA(page), GPA(page), nr * 4096, flags);
}

static inline uint64_t unmap_pages(int domain, unsigned int page, unsigned int nr)
{
	return vm2vm_unmap(domain, IOVA(page), nr * 4096) / 4096;
}

static inline uint32_t refuse_pages(int domain, unsigned int page, unsigned int nr)
{
	return vm2vm_refuse(domain, IOVA(page), nr * 4096);
}

/* Memory of an owner, each page with its value. */
void *make_memory(void);

static inline uint64_t *word(void *mem, unsigned int page)
{
	return mem + page * 4096ul;
}

/* A VM without vCPU that has this memory, and a domain that has misses. */
struct kvm_vm *make_owner(void *mem, int *domain);

#endif /* SELFTEST_KVM_VM2VM_MISS_ACCESS_H */
