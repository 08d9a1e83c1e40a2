// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: a switch in the backend's guest between two owners, each of which it
 * sees in a view of its own.
 */
#include "vm2vm_harness.h"
#include "vm2vm_switch.h"

#define SWITCH_FRAMES	SWITCH_SLOTS	/* so that all that have come are there to look at */

FIXTURE(switch)
{
	struct view w;
	uint64_t own;
	struct switch_port *port[VIEW_OWNERS];
};

static void switch_main(void)
{
	for (;;) {
		switch_guest();
		GUEST_SYNC(0);
	}
}

FIXTURE_SETUP(switch)
{
	unsigned int i;

	if (!view_feature())
		SKIP(return, "no views here");
	view_init(&self->w, SWITCH_PAGES);
	self->w.cpus = 0;
	kvm_vm_free(self->w.vm);
	self->w.vm = vm_create(1);
	view_add_cpu(&self->w, switch_main);
	self->own = switch_add_memory(self->w.vm);
	for (i = 0; i < VIEW_OWNERS; i++) {
		self->port[i] = switch_port_init(&self->w.owner[i], SWITCH_FRAMES, 1500);
		view_link(&self->w, i + 1, i, 0, SWITCH_PAGES, 0);
	}
}

FIXTURE_TEARDOWN(switch)
{
	view_free(&self->w);
}

static void switch_run(struct view *w, uint64_t own, unsigned int batch)
{
	int r;

	switch_job = (struct switch_job){
		.from = VIEW_GPA(1), .to = VIEW_GPA(2), .from_view = 1, .to_view = 2,
		.own = own, .batch = batch, .frames = SWITCH_FRAMES, .stray = true,
	};
	sync_global_to_guest(w->vm, switch_job);
	r = __view_run(&w->cpu[0]);
	TEST_ASSERT(!r, "the switch: %d", r);
	sync_global_from_guest(w->vm, switch_job);
}

/* Each frame arrives as it was, and what belongs to the sender is not reached meanwhile. */
TEST_F(switch, frames)
{
	struct switch_port *from = self->port[0], *to = self->port[1];
	static const uint64_t lengths[SWITCH_SLOTS] = {
		1, 7, 8, 64, 1499, 1500, 9000, SWITCH_FRAME,
	};
	unsigned int batch, i;

	for (batch = 1; batch <= SWITCH_BATCH; batch++) {
		memset(to->in, 0, sizeof(to->in));
		for (i = 0; i < SWITCH_SLOTS; i++)
			*(uint64_t *)from->out[i] = lengths[(i + batch) % SWITCH_SLOTS];
		switch_run(&self->w, self->own, batch);
		EXPECT_EQ(0, switch_job.bad);
		EXPECT_EQ(0, switch_job.strays);
		EXPECT_EQ(DIV_ROUND_UP(SWITCH_FRAMES, batch), self->w.cpu[0].mmio);
		EXPECT_EQ(VIEW_GPA(1), self->w.cpu[0].mmio_gpa);
		self->w.cpu[0].mmio = 0;
		EXPECT_EQ(batch * SWITCH_FRAMES, from->taken);
		EXPECT_EQ(batch * SWITCH_FRAMES, to->received);
		for (i = 0; i < SWITCH_SLOTS; i++)
			EXPECT_EQ(0, memcmp(to->in[i], from->out[i],
					    8 + lengths[(i + batch) % SWITCH_SLOTS]));
	}
	EXPECT_EQ(0, view_get(&self->w.cpu[0]));
}

/* An owner that lies loses its own frames, and the switch goes on. */
TEST_F(switch, lengths)
{
	struct switch_port *from = self->port[0], *to = self->port[1];

	*(uint64_t *)from->out[1] = 0;
	*(uint64_t *)from->out[3] = SWITCH_FRAME + 1;
	*(uint64_t *)from->out[6] = ~0ull;
	switch_run(&self->w, self->own, 3);
	EXPECT_EQ(3, switch_job.bad);
	EXPECT_EQ(SWITCH_FRAMES, from->taken);
	EXPECT_EQ(SWITCH_FRAMES - 3, to->received);
	EXPECT_EQ(0, memcmp(to->in[1], from->out[2], 1508));
}

/* Half of what the sender has to send goes: of that the switch gets nothing, and goes on. */
TEST_F(switch, revoked)
{
	struct switch_port *from = self->port[0], *to = self->port[1];
	uint64_t gone = offsetof(struct switch_port, out[4]);

	switch_run(&self->w, self->own, 2);
	EXPECT_EQ(0, switch_job.bad);
	vm2vm_unmap(self->w.owner[0].domain, PEER_IOVA, self->w.owner[0].size);
	vm2vm_map(self->w.owner[0].domain, PEER_IOVA, PEER_OWNER_GPA, gone, VM2VM_RW);
	memset(to->in, 0, sizeof(to->in));
	switch_run(&self->w, self->own, 2);
	EXPECT_EQ(4, switch_job.bad);
	EXPECT_EQ(2 * SWITCH_FRAMES, from->taken);
	EXPECT_EQ(SWITCH_FRAMES + 4, to->received);
	EXPECT_EQ(0, memcmp(to->in[0], from->out[0], 1508));
	EXPECT_EQ(0, *(uint64_t *)to->in[4]);
}
