// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: an owner whose vCPU logs to a ring.
 */
#include "vm2vm_harness.h"
#include "owner.h"

FIXTURE(ring)
{
	struct dirty_owner o;
	struct dirty_vm b;
};

FIXTURE_SETUP(ring)
{
	dirty_template_init();
	dirty_vm_create(&self->b, 1);
}

FIXTURE_TEARDOWN(ring)
{
	dirty_vm_destroy(&self->b);
	owner_destroy(&self->o);
}

/* The ring is the owner's own vCPU's, the bitmap is for all others. */
TEST_F_TIMEOUT(ring, and_bitmap, 120)
{
	struct dirty_owner *o = &self->o;
	uint64_t log[DIRTY_MAX / 64];
	unsigned int i;

	owner_create(o, STYLE_RING, 0, PAGES, SPLIT);
	owner_show_and_log(o, &self->b);
	for (i = 0; i < 3; i++) {
		dirty_write(o, &self->b, 0, 6);
		dirty_write_own(o, 7);
		dirty_write_own(o, 8);
		dirty_write(o, &self->b, 0, 8);
		memset(o->want, 0, sizeof(o->want));

		owner_collect_ring(o);
		EXPECT_FALSE(o->ring[6]);
		EXPECT_TRUE(o->ring[7]);
		EXPECT_TRUE(o->ring[8]);
		EXPECT_EQ(0, __owner_get_log(o, 0, log));
		EXPECT_EQ(BIT(6) | BIT(8), log[0]);
		memset(o->ring, 0, sizeof(o->ring));

		EXPECT_EQ(0, __owner_get_log(o, 0, log));
		EXPECT_EQ(0, log[0]);
		EXPECT_HARVEST(o, "nothing since");
	}
}

/* A ring has no place for what others write. */
TEST_F_TIMEOUT(ring, without_bitmap, 120)
{
	struct kvm_vm2vm_create_domain all = { .flags = KVM_VM2VM_DOMAIN_ALL_MEMORY };
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b;
	unsigned int slot;

	owner_begin(o, STYLE_GET, 0);
	dirty_enable_ring(o->v.vm);
	owner_complete(o, owner_memory(PAGES), PAGES, SPLIT, false);
	owner_show(o, b);
	dirty_write(o, b, 0, 5);

	/* It has a domain: logging cannot begin, neither here nor in a new memslot. */
	for (slot = 0; slot < 2; slot++)
		EXPECT_EQ(-EBUSY, __owner_set_slot(o, slot, true, true));
	owner_set_slot(o, 1, false, false);
	EXPECT_EQ(-EBUSY, __owner_set_slot(o, 1, true, true));
	owner_set_slot(o, 1, true, false);
	dirty_write(o, b, 0, 5);
	dirty_write(o, b, 0, 50);
	dirty_write_own(o, 50);
	EXPECT_EQ(0, b->mmio);

	/* It logs: there cannot be a domain. */
	node_close(&o->domain);
	for (slot = 0; slot < 2; slot++) {
		EXPECT_EQ(0, __owner_set_slot(o, slot, true, true));
		EXPECT_EQ(-EBUSY, __node_create_domain(o->v.vm));
		EXPECT_EQ(-EBUSY, node_ioctl(o->v.vm, KVM_VM2VM_CREATE_DOMAIN, &all));
		EXPECT_EQ(0, __owner_set_slot(o, slot, true, false));
	}
	o->domain = owner_more_domain(o);
	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	backend_link(b, 1, o, o->domain, 0);
	dirty_write(o, b, 1, 5);
	for (slot = 0; slot < 2; slot++)
		EXPECT_EQ(-EBUSY, __owner_set_slot(o, slot, true, true));
}
