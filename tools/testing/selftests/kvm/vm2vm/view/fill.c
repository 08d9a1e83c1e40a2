// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: transient links whose holes are filled.
 */
#include "views.h"

#define FILL	KVM_VM2VM_LINK_FILL

/* What a view does not show is filled, as is what is not approved in it. */
TEST_F(views, filled)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	struct view_owner *o = self->w.owner;
	const uint64_t size = VIEW_PAGES * 4096;
	unsigned int pass;

	view_link(&self->w, 1, 0, 0, VIEW_PAGES, FILL);
	view_link(&self->w, 2, 1, 0, VIEW_PAGES, FILL);
	for (pass = 0; pass < 3; pass++) {
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
		view_write(cpu, 1, 8, 5);
		view_write(cpu, 2, 8, 5);
		view_enter(cpu, 1);
		EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 2, 4096));
		view_write(cpu, 2, 16, 5);
		view_write(cpu, 1, 24, 6 + pass);
		EXPECT_EQ(6 + pass, *view_word(&o[0], 24));

		EXPECT_EQ(size, vm2vm_unmap(o[0].domain, PEER_IOVA, size));
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 4096));
		view_write(cpu, 1, 2 * 4096, 5);
		vm2vm_map(o[0].domain, PEER_IOVA, PEER_OWNER_GPA, size, VM2VM_RW);
		EXPECT_EQ(VIEW_VALUE(0, 1), view_read(cpu, 1, 4096));
		EXPECT_EQ(VIEW_VALUE(0, 2), view_read(cpu, 1, 2 * 4096));

		view_enter(cpu, 2);
		EXPECT_EQ(VIEW_VALUE(1, 1), view_read(cpu, 2, 4096));
		EXPECT_EQ(0, *view_word(&o[1], 16));
		view_enter(cpu, 0);
		EXPECT_EQ(0, *view_word(&o[0], 8));
		EXPECT_EQ(0, *view_word(&o[1], 8));
	}
	EXPECT_EQ(0, cpu->mmio);
}
