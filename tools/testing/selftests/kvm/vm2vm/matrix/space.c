// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: what the owner does to its address space.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "events.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define FILES_ONLY	"needs a file: anonymous memory has none to punch a hole into"

/* The file has it, or a pipe. */
static void arm_alias_or_pin(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, place_at(c->r.alias + MATRIX_OFFSET));
	else
		watch_pinned(c);
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

void restore_mprotect(struct cell *c)
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

void kill_child(struct cell *c)
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
	place_put(&c->own, WORD_OWNER, c->trial);
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
	place_put(&c->old.place, WORD_READ, VAL_CANARY);
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
	place_put(&c->first, WORD_READ, 0);
	region_map_file(&c->r, c->r.mem, MAP_PRIVATE);
}

static void arm_cow_file(struct cell *c)
{
	watch_place(c, c->first);
	c->pfn = pfn_of(0, c->r.alias + MATRIX_OFFSET);
}

const struct event events_space[] = {
	{
		.name = "munmap", .expect = SHOWS_HOLE,
		.arm = arm_alias_or_pin, .fire = fire_munmap, .restore = restore_region,
	}, {
		.name = "dontneed", .expect = SHOWS_OWNER,
		.same = BIT(MEMFD) | BIT(HUGETLB),	/* the file keeps it */
		.arm = arm_dontneed, .fire = fire_dontneed,
	}, {
		.name = "mprotect_none", .expect = SHOWS_HOLE,
		.arm = arm_alias_or_force, .fire = fire_mprotect_none,
		.restore = restore_mprotect,
	}, {
		.name = "mprotect_read", .expect = SHOWS_READONLY,
		.arm = arm_alias_or_force, .fire = fire_mprotect_read,
		.restore = restore_mprotect,
	}, {
		.name = "mremap", .expect = SHOWS_HOLE,
		.arm = arm_mremap, .fire = fire_mremap, .restore = restore_mremap,
	}, {
		.name = "mremap_keep", .expect = SHOWS_OWNER,
		.arm = arm_mremap, .fire = fire_mremap_keep, .restore = restore_mremap_keep,
		.na = {
			[MEMFD] = "both mappings show the same page of the file, as after dontneed",
			[HUGETLB] = "MREMAP_DONTUNMAP is refused for hugetlb",
		},
	}, {
		.name = "mremap_over", .expect = SHOWS_OWNER, .cost = 2,
		.prepare = prepare_mremap_over, .arm = arm_alias_or_pin,
		.fire = fire_mremap_over, .restore = restore_mremap_over,
	}, {
		.name = "cow_owner", .expect = SHOWS_OWNER, .private = true, .reader = true,
		.cost = 4,
		.arm = arm_cow_owner, .fire = fire_cow_owner, .verify = verify_cow,
		.restore = restore_fork,
	}, {
		.name = "cow_child", .expect = SHOWS_OWNER, .private = true, .reader = true,
		.same = BIT(ANON) | BIT(MEMFD) | BIT(THP) | BIT(HUGETLB), .cost = 4,
		.arm = arm_fork, .fire = fire_cow_child, .restore = restore_fork,
	}, {
		.name = "cow_guest", .expect = SHOWS_OWNER, .private = true, .cost = 4,
		.arm = arm_cow_guest, .fire = fire_cow_guest, .verify = verify_cow,
		.restore = restore_fork,
	}, {
		.name = "cow_file", .expect = SHOWS_OWNER, .private = true, .reader = true,
		.prepare = prepare_cow_file, .arm = arm_cow_file, .fire = fire_cow_owner,
		.na = {
			[ANON] = "has no file",
			[THP] = "has no file",
		},
	}, {
		.name = "punch_hole", .expect = SHOWS_OWNER,
		.arm = arm_pinned, .fire = fire_punch_hole,
		.na = { [ANON] = FILES_ONLY, [THP] = FILES_ONLY },
	},
	{}
};
