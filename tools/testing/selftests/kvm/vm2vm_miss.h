/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_miss_test: an owner, and backends whose vCPUs access their windows as they
 * are told, each in a thread of its own: it may have to wait.
 */
#ifndef SELFTEST_KVM_VM2VM_MISS_H
#define SELFTEST_KVM_VM2VM_MISS_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "vm2vm_harness.h"
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

static struct miss_cmd miss_cmds[MAX_VCPUS];

static void miss_guest(struct miss_cmd *cmd)
{
	void *from, *to;

	peer_guest_interruptible();
	for (;;) {
		switch (READ_ONCE(cmd->op)) {
		case MISS_READ:
			cmd->val = READ_ONCE(*(uint64_t *)cmd->gva);
			break;
		case MISS_WRITE:
			WRITE_ONCE(*(uint64_t *)cmd->gva, cmd->val);
			break;
		case MISS_EXEC:
			((void (*)(void))cmd->gva)();
			break;
		case MISS_MOVE:
			/* KVM emulates it, as nothing is there to read from. */
			from = (void *)NO_MEMORY;
			to = (void *)cmd->gva;
			asm volatile("movsq" : "+S"(from), "+D"(to) : : "memory");
			break;
		}
		GUEST_SYNC(0);
	}
}

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

static inline void on_signal(int sig)
{
}

/* A signal that interrupts, and is nothing else. */
static inline void catch_signal(int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction: %s", strerror(errno));
}

static inline void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	int r = pthread_create(thread, NULL, run, arg);

	TEST_ASSERT(!r, "pthread_create: %s", strerror(r));
}

/* It ends, or is about to; if it does not, @what is what it does. */
static inline void join_thread(pthread_t thread, const char *what)
{
	struct timespec ts;
	int r;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += LIMIT;
	r = pthread_timedjoin_np(thread, NULL, &ts);
	TEST_ASSERT(!r, "%s: not over after %u s", what, LIMIT);
}

/* A VM with @nr vCPUs, which can address both windows. */
static inline void backend_make(struct backend *b, unsigned int nr)
{
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	unsigned int i;

	memset(b, 0, sizeof(*b));
	b->nr = nr;
	b->vm = vm_create_with_vcpus(nr, miss_guest, vcpus);
	virt_map(b->vm, PEER_WINDOW, PEER_WINDOW, PAGES);
	virt_map(b->vm, WINDOW2, WINDOW2, PAGES);
	virt_map(b->vm, NO_MEMORY, NO_MEMORY, 1);
	for (i = 0; i < nr; i++) {
		vcpu_args_set(vcpus[i], 1, &miss_cmds[i]);
		b->r[i].vcpu = vcpus[i];
		b->r[i].cmd = addr_gva2hva(b->vm, (uintptr_t)&miss_cmds[i]);
		b->r[i].stats = vcpu_get_stats_fd(vcpus[i]);
	}
}

static inline void backend_link(struct backend *b, int domain, uint32_t flags)
{
	vm2vm_link(b->vm, domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, PAGES * 4096, flags);
}

/* Until KVM_RUN fails or there is something else than MMIO. */
static void *runner_thread(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->vcpu->run;

	for (;;) {
		r->err = __vcpu_run(r->vcpu) ? errno : 0;
		if (r->err || run->exit_reason != KVM_EXIT_MMIO)
			break;
		r->mmio++;
		r->mmio_gpa = run->mmio.phys_addr;
		r->mmio_write = run->mmio.is_write;
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
	}
	WRITE_ONCE(r->running, false);
	return NULL;
}

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
static inline int access_end(struct runner *r)
{
	join_thread(r->thread, "access");
	if (r->err)
		return -r->err;
	return get_ucall(r->vcpu, NULL) == UCALL_SYNC ? 0 : r->vcpu->run->exit_reason;
}

static inline int access_now(struct runner *r, enum miss_op op, unsigned int page, uint64_t val)
{
	access_start(r, op, page, val);
	return access_end(r);
}

/* An access that was started gives this value, or all ones. */
static inline uint64_t access_val(struct runner *r)
{
	int err = access_end(r);

	TEST_ASSERT(!err, "access: %d", err);
	return READ_ONCE(r->cmd->val);
}

static inline uint64_t read_now(struct runner *r, unsigned int page)
{
	access_start(r, MISS_READ, page, 0);
	return access_val(r);
}

/* One of the statistics of a vCPU, whether it runs or not. */
static inline uint64_t runner_stat(struct runner *r, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc;
	uint64_t val = 0;
	bool found = false;
	uint32_t i;

	read_stats_header(r->stats, &header);
	descs = read_stats_descriptors(r->stats, &header);
	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		found = !strcmp(desc->name, name);
		if (found)
			read_stat_data(r->stats, &header, desc, &val, 1);
	}
	TEST_ASSERT(found, "no vCPU statistic '%s'", name);
	free(descs);
	return val;
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
static inline void until_waits(struct runner *r, uint64_t n)
{
	unsigned int i;

	for (i = 0; waits(r) < n; i++) {
		TEST_ASSERT(i < LIMIT * 1000, "the vCPU does not wait");
		usleep(1000);
	}
	TEST_ASSERT(waits(r) == n, "the vCPU has waited %lu times, not %lu", waits(r), n);
}

/* For the @n-th time @r waits, and nothing that happened has woken it. */
static inline void still_waits(struct runner *r, uint64_t n)
{
	until_waits(r, n);
	usleep(20000);
	TEST_ASSERT(READ_ONCE(r->running), "the access is over: %d", r->err);
	until_waits(r, n);
}

/* What poll() shows within @ms. */
static inline int poll_for(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	TEST_ASSERT(poll(&pfd, 1, ms) >= 0, "poll: %s", strerror(errno));
	return pfd.revents;
}

static inline struct kvm_vm2vm_miss next_miss(int domain)
{
	struct kvm_vm2vm_miss miss;
	int events = poll_for(domain, LIMIT * 1000);

	TEST_ASSERT(events == POLLIN, "poll: %x", events);
	TEST_ASSERT(read(domain, &miss, sizeof(miss)) == sizeof(miss), "read: %s",
		    strerror(errno));
	return miss;
}

/* The next miss is of this page, and needs these rights. */
static inline void expect_miss(int domain, unsigned int page, uint32_t flags)
{
	struct kvm_vm2vm_miss miss = next_miss(domain);

	TEST_ASSERT(miss.iova == IOVA(page) && miss.flags == flags && !miss.pad,
		    "missed iova %llx with %x (%x), should be %lx with %x", miss.iova, miss.flags,
		    miss.pad, IOVA(page), flags);
}

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
static inline void *make_memory(void)
{
	void *mem = peer_mmap(PAGES * 4096, 0);
	unsigned int i;

	TEST_ASSERT(mem && !madvise(mem, PAGES * 4096, MADV_NOHUGEPAGE), "mmap: %s",
		    strerror(errno));
	for (i = 0; i < PAGES; i++)
		*(uint64_t *)(mem + i * 4096) = VALUE(i);
	return mem;
}

static inline uint64_t *word(void *mem, unsigned int page)
{
	return mem + page * 4096ul;
}

/* One owner, one backend with two vCPUs, and no link yet. */
FIXTURE(miss) {
	struct kvm_vm *owner;
	void *mem;
	int domain;
	struct backend b;
};

FIXTURE_SETUP(miss)
{
	catch_signal(0);
	self->mem = make_memory();
	self->owner = vm_create_barebones();
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), PAGES * 4096, self->mem);
	self->domain = vm2vm_create_domain_flags(self->owner, KVM_VM2VM_DOMAIN_MISSES);
	backend_make(&self->b, 2);
}

/* Every test is a process of its own; what it leaves goes with it. */
FIXTURE_TEARDOWN(miss)
{
	unsigned int i;

	for (i = 0; i < self->b.nr; i++)
		EXPECT_FALSE(self->b.r[i].running);
}

#endif /* SELFTEST_KVM_VM2VM_MISS_H */
