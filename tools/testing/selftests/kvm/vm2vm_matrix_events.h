/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: the events, part one: what the owner does by calls of vm2vm
 * and KVM, what it does to its address space, and the death of either process.
 *
 * An event has up to five steps.  In each trial prepare() comes first; then the
 * guest gets hold of the page; then arm() sees to it that the old page can be
 * watched; fire() is the event; verify() is for what only this event has to be
 * checked for; restore() makes things as they were.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H
#define SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H

#include <signal.h>

#include "vm2vm_matrix_mem.h"

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

/* The page stays where the owner has it. */
static void arm_own(struct cell *c)
{
	watch_place(c, c->own);
}

/* The file has it, or a pipe. */
static void arm_alias_or_pin(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, place_at(c->r.alias + MATRIX_OFFSET));
	else
		watch_pinned(c);
}

/* The page stays where the owner has it, but the owner may not write it there. */
static void arm_alias_or_force(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, place_at(c->r.alias + MATRIX_OFFSET));
	else
		watch_place(c, (struct place) { .fd = c->self, .addr = c->own.addr });
}

static void fire_unmap(struct cell *c)
{
	uint64_t n = vm2vm_unmap(c->domain, PEER_IOVA, MATRIX_SIZE);

	CHECK(c, n == MATRIX_SIZE, "0x%lx bytes unmapped", n);
}

static void restore_map(struct cell *c)
{
	map_all(c);
}

static void fire_unlink(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
}

static void restore_link(struct cell *c)
{
	link_window(c);
}

static void fire_close(struct cell *c)
{
	MUST(close(c->domain));
}

static void restore_domain(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
	c->domain = vm2vm_create_domain(c->owner);
	map_all(c);
	link_window(c);
}

/* With VM2VM_LOG in the environment the owner's memslots log dirty pages. */
static uint32_t log_flag(void)
{
	return getenv("VM2VM_LOG") ? KVM_MEM_LOG_DIRTY_PAGES : 0;
}

static void set_slot(struct cell *c, uint32_t flags, uint64_t gpa, uint64_t size)
{
	if (size)
		flags |= log_flag();
	vm_set_user_memory_region(c->owner, 0, flags, gpa, size, c->r.mem);
}

static void fire_slot_delete(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, 0);
}

static void restore_slot(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, MATRIX_SIZE);
}

static void fire_slot_move(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA + 2 * MATRIX_SIZE, MATRIX_SIZE);
}

/* KVM does not let a memslot become read-only: it has to be made again. */
static void fire_slot_readonly(struct cell *c)
{
	int r = __vm_set_user_memory_region(c->owner, 0, KVM_MEM_READONLY, PEER_OWNER_GPA,
					    MATRIX_SIZE, c->r.mem);

	CHECK(c, r == -1 && errno == EINVAL, "a memslot becomes read-only: %d", r);
	set_slot(c, 0, PEER_OWNER_GPA, 0);
	set_slot(c, KVM_MEM_READONLY, PEER_OWNER_GPA, MATRIX_SIZE);
}

static void restore_slot_readonly(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, 0);
	restore_slot(c);
}

static void fire_munmap(struct cell *c)
{
	MUST(munmap(c->r.mem, MATRIX_SIZE));
}

static void restore_region(struct cell *c)
{
	region_map(&c->r, c->r.mem);
}

static void fire_dontneed(struct cell *c)
{
	MUST(madvise(c->r.mem, MATRIX_SIZE, MADV_DONTNEED));
}

/* A file's page stays: there is nothing that must not be seen. */
static void arm_dontneed(struct cell *c)
{
	if (!c->r.alias)
		watch_pinned(c);
}

static void fire_mprotect_none(struct cell *c)
{
	MUST(mprotect(c->r.mem, MATRIX_SIZE, PROT_NONE));
}

static void fire_mprotect_read(struct cell *c)
{
	MUST(mprotect(c->r.mem, MATRIX_SIZE, PROT_READ));
}

static void restore_mprotect(struct cell *c)
{
	MUST(mprotect(c->r.mem, MATRIX_SIZE, PROT_READ | PROT_WRITE));
}

static void arm_mremap(struct cell *c)
{
	watch_place(c, place_at(c->elsewhere + MATRIX_OFFSET));
}

static void do_mremap(struct cell *c, void *from, void *to, int flags)
{
	void *mem = mremap(from, MATRIX_SIZE, MATRIX_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | flags,
			   to);

	TEST_ASSERT(mem == to, "mremap: %s", strerror(errno));
}

static void fire_mremap(struct cell *c)
{
	do_mremap(c, c->r.mem, c->elsewhere, 0);
}

static void restore_mremap(struct cell *c)
{
	do_mremap(c, c->elsewhere, c->r.mem, 0);
	reserve(c->elsewhere, MATRIX_SIZE);
}

static void fire_mremap_keep(struct cell *c)
{
	do_mremap(c, c->r.mem, c->elsewhere, MREMAP_DONTUNMAP);
}

static void restore_mremap_keep(struct cell *c)
{
	reserve(c->elsewhere, MATRIX_SIZE);
}

/* Other memory comes to where the owner has its. */
static void prepare_mremap_over(struct cell *c)
{
	region_create(&c->spare, c->kind, false);
	WRITE_ONCE(*(uint64_t *)(c->spare.mem + MATRIX_OFFSET), 0);
}

static void fire_mremap_over(struct cell *c)
{
	do_mremap(c, c->spare.mem, c->r.mem, 0);
	reserve(c->spare.mem, MATRIX_SIZE);
}

static void restore_mremap_over(struct cell *c)
{
	void *from = c->spare.mem;

	/* Each has the other's mapping now. */
	c->spare.mem = c->r.mem;
	c->r.mem = from;
	region_free(&c->r);
	c->r = c->spare;
}

static void fire_punch_hole(struct cell *c)
{
	MUST(fallocate(c->r.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MATRIX_SIZE));
}

static void arm_pinned(struct cell *c)
{
	watch_pinned(c);
}

/* A child that does nothing but have the memory that it was born with. */
static void fork_child(struct cell *c)
{
	pid_t parent = getpid();

	fflush(stdout);
	c->child = fork();
	TEST_ASSERT(c->child >= 0, "fork: %s", strerror(errno));
	if (!c->child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	watch_place(c, place_of_process(&c->child_mem, c->child, page_of(c)));
}

static void kill_child(struct cell *c)
{
	int status;

	MUST(kill(c->child, SIGKILL));
	TEST_ASSERT(waitpid(c->child, &status, 0) == c->child, "waitpid: %s", strerror(errno));
	TEST_ASSERT(WIFSIGNALED(status), "the child has ended by itself: 0x%x", status);
	c->child = 0;
}

static void restore_fork(struct cell *c)
{
	kill_child(c);
	close(c->child_mem);
	/* What was huge is in pieces, and the guest's CPU may hold what it has copied. */
	region_map(&c->r, c->r.mem);
}

static void arm_fork(struct cell *c)
{
	fork_child(c);
	spin_wait(c, 3);
	c->pfn = pfn_of(0, page_of(c));
	CHECK(c, pfn_of(c->child, page_of(c)) == c->pfn, "the child has another page");
}

/*
 * The child keeps the old page.  A piece of a huge page it cannot write without
 * getting a copy itself, so there a pipe keeps it too.
 */
static void arm_cow_owner(struct cell *c)
{
	if (c->kind == THP)
		watch_pinned(c);
	arm_fork(c);
}

static void fire_cow_owner(struct cell *c)
{
	put(&c->own, WORD_OWNER, c->trial);
	CHECK(c, pfn_of(0, page_of(c)) != c->pfn, "the owner has no copy");
}

/* Whether the canary went into the very page that the guest had before. */
static void verify_cow(struct cell *c)
{
	if (c->kind == THP)
		return;
	c->shared->freed++;
	c->shared->caught += pfn_of(c->child, page_of(c)) == c->pfn;
}

static void fire_cow_child(struct cell *c)
{
	put(&c->old.place, WORD_READ, VAL_CANARY);
	CHECK(c, pfn_of(0, page_of(c)) == c->pfn, "the owner has a copy");
	CHECK(c, pfn_of(c->child, page_of(c)) != c->pfn, "the child has no copy");
}

static void arm_cow_guest(struct cell *c)
{
	if (c->kind == THP)
		watch_pinned(c);
	c->pfn = pfn_of(0, page_of(c));
}

/* What the guest writes makes the copy, for the owner. */
static void fire_cow_guest(struct cell *c)
{
	fork_child(c);
	if (!c->spinning)
		spin_resume(c);
	WAIT_FOR(c, pfn_of(0, page_of(c)) != c->pfn, "the guest's write makes no copy");
}

/* The page is the file's until the owner writes to its private mapping. */
static void prepare_cow_file(struct cell *c)
{
	WRITE_ONCE(c->s->readonly, 1);
	spin_wait(c, 2);
	c->first = place_at(c->r.alias + MATRIX_OFFSET);
	put(&c->first, WORD_READ, 0);
	region_map_file(&c->r, c->r.mem, MAP_PRIVATE);
}

static void arm_cow_file(struct cell *c)
{
	watch_place(c, c->first);
	c->pfn = pfn_of(0, c->r.alias + MATRIX_OFFSET);
}

/* An owner with memory of its own, or of the file that the test has too. */
static void owner_process(struct cell *c)
{
	struct kvm_vm *vm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stay_on_cpu(false);
	if (c->r.fd < 0)
		region_create(&c->r, c->kind, false);
	WRITE_ONCE(*(uint64_t *)page_of(c), 0);
	if (c->r.fd < 0)
		pin_page(c->old.pipe[1], page_of(c));
	vm = vm_create_barebones();
	vm_set_user_memory_region(vm, 0, log_flag(), PEER_OWNER_GPA, MATRIX_SIZE,
				  c->r.mem);
	c->domain = vm2vm_create_domain(vm);
	map_all(c);
	c->shared->page = (uintptr_t)page_of(c);
	WRITE_ONCE(c->shared->domain, c->domain);
	for (;;)
		pause();
}

static void prepare_owner_kill(struct cell *c)
{
	int pidfd;

	c->shared->domain = -1;
	fflush(stdout);
	c->child = fork();
	MUST(c->child);
	if (!c->child)
		owner_process(c);
	WAIT_FOR(c, READ_ONCE(c->shared->domain) >= 0, "no owner");
	pidfd = syscall(SYS_pidfd_open, c->child, 0);
	MUST(pidfd);
	c->domain = syscall(SYS_pidfd_getfd, pidfd, c->shared->domain, 0);
	MUST(c->domain);
	close(pidfd);
	link_window(c);
	if (c->r.alias)
		c->own = place_at(c->r.alias + MATRIX_OFFSET);
	else
		c->own = place_of_process(&c->child_mem, c->child, (void *)c->shared->page);
	c->first = c->own;
}

static void arm_owner_kill(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, c->own);
	else
		c->old.pinned = true;
}

static void restore_owner_kill(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
	close(c->domain);
	if (c->own.fd >= 0)
		close(c->child_mem);
}

static void prepare_backend_kill(struct cell *c)
{
	spin_reset(c);
	fflush(stdout);
	c->child = fork();
	MUST(c->child);
	if (c->child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stay_on_cpu(false);
	backend_create(c);
	link_window(c);
	spin_run(c->vcpu, c->s);
	_exit(0);
}

/*
 * The owner's calls do not wait for a backend that dies, and it does not write
 * any more when it has been waited for.  Every other time there is an UNMAP right
 * after the signal.
 */
static void fire_backend_kill(struct cell *c)
{
	uint64_t start = now_us();
	int status;

	MUST(kill(c->child, SIGKILL));
	if (c->trial % 2)
		fire_unmap(c);
	if (c->slowest < now_us() - start)
		c->slowest = now_us() - start;
	TEST_ASSERT(waitpid(c->child, &status, 0) == c->child, "waitpid: %s", strerror(errno));
	CHECK(c, WIFSIGNALED(status), "the backend has ended by itself: 0x%x", status);
}

static void verify_backend_kill(struct cell *c)
{
	uint64_t start;

	usleep(2000);
	CHECK(c, c->s->count == c->returned, "the guest goes on: pass %lu", c->s->count);
	CHECK(c, get(&c->own, WORD_READ) == VAL_CANARY, "the owner's page has changed");
	start = now_us();
	if (c->trial % 2)
		map_all(c);
	fire_unmap(c);
	map_all(c);
	if (c->slowest < now_us() - start)
		c->slowest = now_us() - start;
	CHECK(c, c->slowest < 10 * 1000000, "the owner's calls took %lu us", c->slowest);
	snprintf(c->shared->note, sizeof(c->shared->note), "the owner's calls took %lu us at most",
		 c->slowest);
}

#endif /* SELFTEST_KVM_VM2VM_MATRIX_EVENTS_H */
