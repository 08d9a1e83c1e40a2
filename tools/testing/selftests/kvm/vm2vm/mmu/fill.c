// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_mmu_test: holes that are filled, by every MMU and in nested guests; and windows
 * that are not executed after the mitigation of nx_huge_pages has split a huge page.
 */
#include "vm2vm_harness.h"
#include "mmu.h"
#include "vm2vm_knob.h"
#include "vm2vm_peer_check.h"

#define FILL		KVM_VM2VM_LINK_FILL
#define NX_HUGE_PAGES	"/sys/module/kvm/parameters/nx_huge_pages"

FIXTURE(filled)
{
	struct mmu m;
	bool forced;
};

FIXTURE_VARIANT(filled)
{
	enum mmu_who who;
};

FIXTURE_VARIANT_ADD(filled, l1) { .who = MMU_L1 };
FIXTURE_VARIANT_ADD(filled, l2) { .who = MMU_L2 };
FIXTURE_VARIANT_ADD(filled, l2_npt_1g) { .who = MMU_L2_1G };
FIXTURE_VARIANT_ADD(filled, l2_npt_4k) { .who = MMU_L2_4K };

FIXTURE_SETUP(filled)
{
	const char *lacks = mmu_lacks(variant->who);

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_init(&self->m, variant->who, MMU_PAGES * 4096, peer_guest);
	peer_fill(&self->m.p);
}

FIXTURE_TEARDOWN(filled)
{
	EXPECT_EQ(0, self->m.p.mmio);
	peer_free(&self->m.p);
	if (self->forced)
		knob_write(NX_HUGE_PAGES, "off");
}

/* Fillers come and go as what they fill does, and no access leaves the guest. */
TEST_F(filled, map_and_unmap)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass;

	mmu_link(&self->m, FILL, PG_LEVEL_4K);
	for (pass = 0; pass < 3; pass++) {
		for (i = 0; i < MMU_PAGES; i++) {
			EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096));
			if (i % 2)
				peer_write(p, i * 4096 + 8, 5);
			/* One that is written first, and one that is not. */
			EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096 + 16));
		}
		for (i = 0; i < MMU_PAGES; i++)
			EXPECT_EQ(0, *peer_word(p, i * 4096 + 8));
		mmu_approve(&self->m, VM2VM_RW);
		for (i = 0; i < MMU_PAGES; i++) {
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 24, i + pass);
			EXPECT_EQ(i + pass, *peer_word(p, i * 4096 + 24));
		}
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	}
}

/* A page that may be read only and is written to is the owner's again soon. */
TEST_F(filled, readonly)
{
	struct peer *p = &self->m.p;
	unsigned int i;

	mmu_link(&self->m, FILL, PG_LEVEL_4K);
	mmu_approve(&self->m, KVM_VM2VM_MAP_READ);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 1);
	EXPECT_EQ(PEER_VALUE, *peer_word(p, 0));
	for (i = 0; i < 1000 && peer_read(p, 0) != PEER_VALUE; i++)
		usleep(10000);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
}

/* Pages of 2 MiB after fillers, and fillers after them. */
TEST_F(filled, huge)
{
	const uint64_t pages = PEER_SIZE_2M / 4096;
	struct peer *p = &self->m.p;
	unsigned int pass;
	uint64_t before;

	if (!peer_use_huge(p, 1))
		SKIP(return, "no 2 MiB pages");
	mmu_link(&self->m, FILL, PG_LEVEL_2M);
	before = vm_get_stat(p->backend, "pages_2m");
	for (pass = 0; pass < 3; pass++) {
		EXPECT_EQ(PEER_HOLE, peer_read(p, 5 * 4096));
		peer_write(p, 6 * 4096, 1);
		EXPECT_EQ(PEER_HOLE, peer_read(p, PEER_SIZE_2M - 4096));
		EXPECT_EQ(before, vm_get_stat(p->backend, "pages_2m"));
		mmu_approve(&self->m, VM2VM_RW);
		EXPECT_EQ(peer_huge_sum(pages), peer_sum(p, PEER_WINDOW, pages, 4096));
		EXPECT_EQ(before + (variant->who != MMU_L2_4K),
			  vm_get_stat(p->backend, "pages_2m"));
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	}

	/* A part of it. */
	vm2vm_map(p->domain, PEER_IOVA + 4096, PEER_OWNER_GPA + 4096, 4096, VM2VM_RW);
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	EXPECT_EQ(1, peer_read(p, 4096));
	EXPECT_EQ(PEER_HOLE, peer_read(p, 2 * 4096));
}

static void expect_no_exec(struct __test_metadata *_metadata, struct mmu *m, uint64_t gva)
{
	int r;

	r = peer_run(&m->p, PEER_EXEC, gva, 0, 0, 0);
	if (m->who == MMU_L1) {
		EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, r);
	} else {
		EXPECT_EQ(0, r);
		EXPECT_EQ(1, m->exit->count);
		EXPECT_EQ(UD_VECTOR, m->exit->vector);
	}
}

/* Nor are fillers executed, whatever was written there. */
TEST_F(filled, no_exec)
{
	struct peer *p = &self->m.p;

	vm_install_exception_handler(p->backend, UD_VECTOR, mmu_exception);
	mmu_link(&self->m, FILL, PG_LEVEL_4K);
	peer_write(p, 0, 0xc3c3c3c3c3c3c3c3ull);	/* ret */
	EXPECT_EQ(0xc3c3c3c3c3c3c3c3ull, peer_read(p, 0));
	expect_no_exec(_metadata, &self->m, PEER_WINDOW);
}

/*
 * With the mitigation no huge page is executable, and the pages that one is split into
 * become so, other than those of a window.  Here a hole next to them splits it: a write
 * to what may be read only.
 */
TEST_F(filled, no_exec_after_split)
{
	struct peer *p = &self->m.p;

	self->forced = knob_write(NX_HUGE_PAGES, "force");
	if (!self->forced)
		SKIP(return, "no " NX_HUGE_PAGES);
	vm_install_exception_handler(p->backend, UD_VECTOR, mmu_exception);
	if (!peer_use_huge(p, 1))
		SKIP(return, "no 2 MiB pages");
	memset(p->mem, 0xc3, p->size);	/* ret */
	mmu_link(&self->m, FILL | KVM_VM2VM_LINK_READONLY, PG_LEVEL_2M);
	mmu_approve(&self->m, VM2VM_RW);
	EXPECT_EQ(0xc3c3c3c3c3c3c3c3ull, peer_read(p, 0));
	peer_write(p, 7 * 4096, 1);
	/* The page that is executed is one that the split has made. */
	expect_no_exec(_metadata, &self->m, PEER_WINDOW + 5 * 4096);
}
