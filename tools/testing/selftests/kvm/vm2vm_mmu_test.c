// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: what must hold for a window whatever MMU shows it to the guest.
 *
 * The guest is the backend's, or a guest of that with and without nested paging;
 * lab/check/mmu.sh runs the whole of it with KVM's two-dimensional paging, without, and
 * without its TDP MMU.  What else a guest can do with the memory of a window than
 * access it, from page tables to SMM, is in vm2vm/mmu/odd.c; vm2vm/mmu/revoke.c takes
 * it away while the guest uses it.
 *
 * VM2VM_TRIALS in the environment is the number of trials of each revocation, 100
 * by default.
 */
#include "vm2vm_harness.h"
#include "vm2vm/mmu/mmu.h"
#include "vm2vm_peer_check.h"

FIXTURE(mmu)
{
	struct mmu m;
};

FIXTURE_VARIANT(mmu)
{
	enum mmu_who who;
};

FIXTURE_VARIANT_ADD(mmu, l1) { .who = MMU_L1 };
FIXTURE_VARIANT_ADD(mmu, l2) { .who = MMU_L2 };
FIXTURE_VARIANT_ADD(mmu, l2_npt_1g) { .who = MMU_L2_1G };
FIXTURE_VARIANT_ADD(mmu, l2_npt_4k) { .who = MMU_L2_4K };

FIXTURE_SETUP(mmu)
{
	const char *lacks = mmu_lacks(variant->who);

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_init(&self->m, variant->who, MMU_PAGES * 4096, peer_guest);
	peer_fill(&self->m.p);
}

FIXTURE_TEARDOWN(mmu)
{
	peer_free(&self->m.p);
}

/*
 * Bytes go both ways, by memory alone: also when the guest's page tables say that
 * it has been there before, so that a MMU may look ahead.
 */
TEST_F(mmu, read_write)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	for (pass = 0; pass < 3; pass++) {
		mmu_approve(&self->m, VM2VM_RW);
		for (i = 0; i < MMU_PAGES; i++) {
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 8, i + pass);
			EXPECT_EQ(i + pass, *peer_word(p, i * 4096 + 8));
			*peer_word(p, i * 4096 + 16) = ~(uint64_t)i;
			EXPECT_EQ(~(uint64_t)i, peer_read(p, i * 4096 + 16));
		}
		EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	}
	EXPECT_EQ(0, p->mmio);
}

/* Written first, and read then. */
TEST_F(mmu, write_read)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	for (pass = 0; pass < 3; pass++) {
		mmu_approve(&self->m, VM2VM_RW);
		for (i = 0; i < MMU_PAGES; i++)
			peer_write(p, i * 4096, i + pass);
		for (i = 0; i < MMU_PAGES; i++) {
			EXPECT_EQ(i + pass, peer_read(p, i * 4096));
			EXPECT_EQ(i + pass, *peer_word(p, i * 4096));
		}
		EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	}
	EXPECT_EQ(0, p->mmio);
}

/* After the first touch nothing exits. */
TEST_F(mmu, no_exits)
{
	struct peer *p = &self->m.p;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_sum(p, PEER_WINDOW, MMU_PAGES, 4096);
	peer_check_no_exits(p);
}

TEST_F(mmu, readonly_mapping)
{
	struct peer *p = &self->m.p;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, KVM_VM2VM_MAP_READ);
	peer_check_readonly(&self->m.p, self->m.link);

	/* The same approved for writing, and back: each at once. */
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	mmu_approve(&self->m, VM2VM_RW);
	peer_write(p, 0, 5);
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(5, *peer_word(p, 0));
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	mmu_approve(&self->m, KVM_VM2VM_MAP_READ);
	peer_write(p, 0, 6);
	EXPECT_EQ(3, p->mmio);
	EXPECT_EQ(5, *peer_word(p, 0));
	EXPECT_EQ(5, peer_read(p, 0));
}

TEST_F(mmu, readonly_link)
{
	mmu_link(&self->m, KVM_VM2VM_LINK_READONLY, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_check_readonly(&self->m.p, self->m.link);
}

/* Holes next to pages: neither makes the other what it is not. */
TEST_F(mmu, hole)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass, holes = 0;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	EXPECT_EQ(PEER_HOLE, peer_read(p, 4096));
	EXPECT_EQ(++holes, p->mmio);
	EXPECT_EQ(self->m.link + 4096, p->mmio_gpa);
	p->fill = 0x5a;
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aull, peer_read(p, 4096));
	EXPECT_EQ(++holes, p->mmio);
	p->fill = 0xff;

	for (i = 0; i < MMU_PAGES; i += 2)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i * 4096, 4096,
			  VM2VM_RW);
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < MMU_PAGES; i++) {
			EXPECT_EQ(i % 2 ? PEER_HOLE : PEER_VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 8, i);
			EXPECT_EQ(i % 2 ? 0 : i, *peer_word(p, i * 4096 + 8));
			holes += i % 2 * 2;
		}
		EXPECT_EQ(holes, p->mmio);
	}

	for (i = 1; i < MMU_PAGES; i += 2)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i * 4096, 4096,
			  VM2VM_RW);
	for (i = 0; i < MMU_PAGES; i++)
		EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
	EXPECT_EQ(holes, p->mmio);

	for (i = 0; i < MMU_PAGES; i += 2)
		vm2vm_unmap(p->domain, PEER_IOVA + i * 4096, 4096);
	for (i = 0; i < MMU_PAGES; i++)
		EXPECT_EQ(i % 2 ? PEER_VALUE + i : PEER_HOLE, peer_read(p, i * 4096));
	EXPECT_EQ(holes + MMU_PAGES / 2, p->mmio);
}

/* The window is never executable: KVM gives up on L1, and L2 gets an exception. */
TEST_F(mmu, no_exec)
{
	struct peer *p = &self->m.p;
	int r;

	memset(p->mem, 0xc3, p->size);	/* ret */
	vm_install_exception_handler(p->backend, UD_VECTOR, mmu_exception);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_read(p, 0);
	r = peer_run(p, PEER_EXEC, PEER_WINDOW, 0, 0, 0);
	if (variant->who == MMU_L1) {
		EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, r);
	} else {
		EXPECT_EQ(0, r);
		EXPECT_EQ(1, self->m.exit->count);
		EXPECT_EQ(UD_VECTOR, self->m.exit->vector);
	}
}

/* The backend follows the owner's page tables. */
TEST_F(mmu, owner_pages)
{
	struct peer *p = &self->m.p;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_sum(p, PEER_WINDOW, MMU_PAGES, 4096);

	peer_replace_page(p);
	*peer_word(p, 0) = 7;
	EXPECT_EQ(7, peer_read(p, 0));
	peer_write(p, 8, 8);
	EXPECT_EQ(8, *peer_word(p, 8));

	peer_check_copy_on_write(p);
	peer_check_not_present(p);
	peer_check_protection(p);
}

#define HUGE_PAGES	2
#define HUGE_SIZE	(HUGE_PAGES * PEER_SIZE_2M)

/* The owner's 2 MiB pages are the backend's where everything in between permits. */
TEST_F(mmu, huge)
{
	struct peer *p = &self->m.p;
	uint64_t before;
	unsigned int i;

	if (!peer_use_huge(p, HUGE_PAGES))
		SKIP(return, "no 2 MiB pages");
	mmu_link(&self->m, 0, PG_LEVEL_2M);
	before = vm_get_stat(p->backend, "pages_2m");
	for (i = 0; i < 2; i++) {
		mmu_approve(&self->m, VM2VM_RW);
		EXPECT_EQ(peer_huge_sum(HUGE_SIZE / 4096),
			  peer_sum(p, PEER_WINDOW, HUGE_SIZE / 4096, 4096));
		EXPECT_EQ(before + (variant->who != MMU_L2_4K ? HUGE_PAGES : 0),
			  vm_get_stat(p->backend, "pages_2m"));
		peer_write(p, 8, 1 + i);
		EXPECT_EQ(1 + i, *peer_word(p, 8));
		EXPECT_EQ(0, p->mmio);
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
		EXPECT_EQ(before, vm_get_stat(p->backend, "pages_2m"));
	}
	EXPECT_EQ(PEER_HOLE, peer_read(p, PEER_SIZE_2M));
	EXPECT_EQ(1, p->mmio);
}

/* An approval of a part of a 2 MiB page is of that part only. */
TEST_F(mmu, part_of_huge)
{
	struct peer *p = &self->m.p;

	if (!peer_use_huge(p, HUGE_PAGES))
		SKIP(return, "no 2 MiB pages");
	mmu_link(&self->m, 0, PG_LEVEL_2M);
	peer_check_part_of_huge(p);
}

TEST_HARNESS_MAIN
