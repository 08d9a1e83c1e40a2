// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: what a backend writes to pages of 2 MiB.
 */
#include <linux/mman.h>
#include <sys/mman.h>

#include "vm2vm_harness.h"
#include "fixture.h"
#include "owner.h"
#include "vm2vm_peer.h"
#include "vm2vm_peer_check.h"

/* In a page of 2 MiB each 4 KiB count alone while they log, and only then. */
static void harvest_huge(struct dirty_owner *o, struct dirty_vm *b)
{
	static const unsigned int alone[] = { 0, 17, 511, 512, 700, 1023 };
	unsigned int i;

	owner_log_on(o);
	for (i = 0; i < ARRAY_SIZE(alone); i++) {
		dirty_write(o, b, 0, alone[i]);
		EXPECT_HARVEST(o, "one of 512 small pages");
	}
	dirty_read(o, b, 0, 0, 1024);
	EXPECT_HARVEST(o, "all are read");
	for (i = 0; i < ARRAY_SIZE(alone); i++)
		dirty_write(o, b, 0, alone[i]);
	EXPECT_HARVEST(o, "some of 512 small pages");
	dirty_write_own(o, 513);
	EXPECT_HARVEST(o, "the owner's write to a small page");
	dirty_do(b, DIRTY_WRITE, DIRTY_WINDOW(0), 1024, 1);
	owner_want(o, 0, 1024);
	EXPECT_HARVEST(o, "all are written");
	EXPECT_HARVEST(o, "nothing since");
	owner_log(o, false);
}

static void test_huge(struct __test_metadata *_metadata, struct dirty_owner *o, struct dirty_vm *b,
		      void *mem)
{
	uint64_t fixed, huge;
	unsigned int i;

	memset(mem, 0, 2 * PEER_SIZE_2M);
	owner_complete(o, mem, 1024, 512, false);
	owner_show(o, b);
	/* The program itself is there. */
	dirty_do(b, DIRTY_WRITE, DIRTY_WINDOW(0), 0, 0);
	dirty_do(b, DIRTY_READ, DIRTY_WINDOW(0), 0, 0);
	huge = peer_fd_stat(b->vm, "pages_2m");
	for (i = 0; i < 4; i++) {
		fixed = peer_fd_stat(b->vcpu, "pf_fixed");
		dirty_do(b, i % 2 ? DIRTY_READ : DIRTY_WRITE, DIRTY_WINDOW(0), 1024, i);
		/* The first time there are the guest's page tables as well. */
		if (i)
			EXPECT_EQ(2, peer_fd_stat(b->vcpu, "pf_fixed") - fixed);
		EXPECT_EQ(2, peer_fd_stat(b->vm, "pages_2m") - huge);
		harvest_huge(o, b);
	}
	EXPECT_EQ(0, b->mmio);
}

TEST_F_TIMEOUT(dirty_log, huge_hugetlb, 120)
{
	struct dirty_owner *o = &self->o;
	void *mem = peer_mmap_hugetlb(2);

	if (!mem)
		SKIP(return, "no 2 MiB pages: %s", strerror(errno));
	owner_destroy(o);
	owner_begin(o, variant->style, 0);
	test_huge(_metadata, o, &self->b[0], mem);
}

TEST_F_TIMEOUT(dirty_log, huge_thp, 120)
{
	struct dirty_owner *o = &self->o;
	void *mem = peer_mmap(2 * PEER_SIZE_2M, 0);

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	if (madvise(mem, 2 * PEER_SIZE_2M, MADV_HUGEPAGE))
		SKIP(return, "no transparent huge pages: %s", strerror(errno));
	owner_destroy(o);
	owner_begin(o, variant->style, 0);
	test_huge(_metadata, o, &self->b[0], mem);
}
