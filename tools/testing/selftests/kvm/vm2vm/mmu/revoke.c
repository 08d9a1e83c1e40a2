// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_mmu_test: a guest that reads and writes one page of its window in a loop
 * without exits, while the page is taken away.
 */
#include "vm2vm_harness.h"
#include "mmu.h"
#include "vm2vm_spin.h"

FIXTURE(revoke)
{
	struct mmu m;
	struct spinner s;
};

FIXTURE_VARIANT(revoke)
{
	enum mmu_who who;
};

FIXTURE_VARIANT_ADD(revoke, l1) { .who = MMU_L1 };
FIXTURE_VARIANT_ADD(revoke, l2) { .who = MMU_L2 };
FIXTURE_VARIANT_ADD(revoke, l2_npt_1g) { .who = MMU_L2_1G };
FIXTURE_VARIANT_ADD(revoke, l2_npt_4k) { .who = MMU_L2_4K };

FIXTURE_SETUP(revoke)
{
	const char *lacks = mmu_lacks(variant->who);

	if (lacks)
		SKIP(return, "%s", lacks);
	spinner_patience = 60;
	mmu_init(&self->m, variant->who, 4096, spinner_guest);
	mmu_map_window(&self->m, 4096, PG_LEVEL_4K);
	spinner_start(&self->s, &self->m.p, self->m.link, vm2vm_trials(100));
}

FIXTURE_TEARDOWN(revoke)
{
	spinner_stop(&self->s);
	peer_free(&self->m.p);
}

TEST_F_TIMEOUT(revoke, unmap, 600)
{
	spinner_try_unmap(&self->s);
}

TEST_F_TIMEOUT(revoke, unmap_races_fault, 600)
{
	spinner_try_unmap_races_fault(&self->s);
}

TEST_F_TIMEOUT(revoke, unlink, 600)
{
	spinner_try_unlink(&self->s);
}

TEST_F_TIMEOUT(revoke, close, 600)
{
	spinner_try_close(&self->s);
}

TEST_F_TIMEOUT(revoke, mmap, 600)
{
	spinner_try_mmap(&self->s);
}

TEST_F_TIMEOUT(revoke, munmap, 600)
{
	spinner_try_munmap(&self->s);
}

TEST_F_TIMEOUT(revoke, memslot, 600)
{
	spinner_try_memslot_delete(&self->s);
}
