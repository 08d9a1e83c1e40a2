// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: how an old page is watched.
 */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "events.h"

#define CATCH_SIZE	(64 * 4096ul)

void watch_place(struct cell *c, struct place place)
{
	c->old.place = place;
	c->old.mapped = true;
}

void pin_page(int fd, void *addr)
{
	struct iovec iov = { .iov_base = addr, .iov_len = 4096 };

	TEST_ASSERT(vmsplice(fd, &iov, 1, 0) == 4096, "vmsplice: %s", strerror(errno));
}

void watch_pinned(struct cell *c)
{
	pin_page(c->old.pipe[1], page_of(c));
	c->old.pinned = true;
}

void watch_freed(struct cell *c)
{
	drain_cpus(c);
	c->old.pfn = pfn_of(0, page_of(c));
	c->old.node = -1;
}

static void bind_to_node(void *mem, size_t size, int node)
{
	unsigned long mask = 1ul << node;

	TEST_ASSERT(!syscall(SYS_mbind, mem, size, 2 /* MPOL_BIND */, &mask, 64, 0), "mbind: %s",
		    strerror(errno));
}

void catch_freed(struct cell *c)
{
	struct old *old = &c->old;
	size_t size = old->huge ? CATCH_HUGE : CATCH_SIZE, off;
	bool hugetlb = old->huge && c->kind == HUGETLB;
	struct place p;

	c->shared->freed++;
	old->area = mmap(c->catch_at, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
			 (hugetlb ? MAP_HUGETLB : 0), -1, 0);
	TEST_ASSERT(old->area == c->catch_at, "mmap: %s", strerror(errno));
	if (!hugetlb)
		MUST(madvise(old->area, size, old->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
	if (old->node >= 0)
		bind_to_node(old->area, size, old->node);
	for (off = 0; off < size; off += 4096) {
		p = place_at(old->area + off);
		place_put(&p, WORD_READ, VAL_CANARY);
		place_put(&p, WORD_WRITE, VAL_CANARY);
		if (pfn_of(0, old->area + off) != old->pfn)
			continue;
		old->caught = old->area + off;
		c->shared->caught++;
		break;
	}
}

void check_old(struct cell *c)
{
	struct old *old = &c->old;
	uint64_t page[512];

	check_seen(c);
	if (old->mapped)
		CHECK(c, place_get(&old->place, WORD_WRITE) == VAL_CANARY,
		      "the guest writes to the old page: 0x%lx",
		      place_get(&old->place, WORD_WRITE));
	if (old->caught)
		CHECK(c, READ_ONCE(old->caught[WORD_WRITE]) == VAL_CANARY,
		      "the guest writes to a page that was freed: 0x%lx", old->caught[WORD_WRITE]);
	if (!old->pinned)
		return;
	TEST_ASSERT(read(old->pipe[0], page, 4096) == 4096, "read: %s", strerror(errno));
	old->pinned = false;
	CHECK(c, page[WORD_READ] == VAL_OLD(c->trial), "not the old page: 0x%lx",
	      page[WORD_READ]);
	/* The pass that was under way had perhaps written already. */
	CHECK(c, page[WORD_WRITE] <= VAL_PASS(c->returned) || page[WORD_WRITE] >= VAL_NONE,
	      "the guest writes to the old page: 0x%lx", page[WORD_WRITE]);
}

void release_old(struct cell *c)
{
	struct old *old = &c->old;

	/* It may become the owner's again. */
	if (old->mapped)
		place_put(&old->place, WORD_READ, 0);
	if (old->area)
		reserve(old->area, CATCH_HUGE);
	old->mapped = false;
	old->huge = false;
	old->pfn = 0;
	old->area = NULL;
	old->caught = NULL;
}

void arm_own(struct cell *c)
{
	watch_place(c, c->own);
}

void arm_pinned(struct cell *c)
{
	watch_pinned(c);
}

void arm_alias_or_force(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, place_at(c->r.alias + MATRIX_OFFSET));
	else
		watch_place(c, (struct place) { .fd = c->self, .addr = c->own.addr });
}
