// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: transient links, each of which is seen in a view of its own only, and VMFUNC
 * by which the guest goes from view to view.
 *
 * VM2VM_TRIALS in the environment is the number of trials of what is repeated, 20 by
 * default.
 */
#define VM2VM_VIEW_SIGILL

#include <signal.h>

#include "vm2vm/view/views.h"

/* The window is there in its view, with what the owner has, and nowhere else. */
TEST_F(views, content)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	struct view_owner *o = &self->w.owner[0];
	unsigned int i;

	view_link(&self->w, 1, 0, 0, VIEW_PAGES, 0);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	EXPECT_EQ(1, cpu->mmio);
	EXPECT_EQ(VIEW_GPA(1), cpu->mmio_gpa);
	EXPECT_EQ(0, view_get(cpu));

	view_enter(cpu, 1);
	EXPECT_EQ(1, view_get(cpu));
	for (i = 0; i < VIEW_PAGES; i++) {
		EXPECT_EQ(VIEW_VALUE(0, i), view_read(cpu, 1, i * 4096));
		view_write(cpu, 1, i * 4096 + 8, i);
		EXPECT_EQ(i, *view_word(o, i * 4096 + 8));
		*view_word(o, i * 4096 + 16) = ~(uint64_t)i;
		EXPECT_EQ(~(uint64_t)i, view_read(cpu, 1, i * 4096 + 16));
	}
	EXPECT_EQ(1, cpu->mmio);
	/* Behind its end is a hole in the view, too. */
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, VIEW_PAGES * 4096));
	EXPECT_EQ(2, cpu->mmio);

	view_enter(cpu, 0);
	EXPECT_EQ(0, view_get(cpu));
	for (i = 0; i < VIEW_PAGES; i++) {
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, i * 4096));
		view_write(cpu, 1, i * 4096, 0);
		EXPECT_EQ(VIEW_VALUE(0, i), *view_word(o, i * 4096));
	}
	EXPECT_EQ(2 + 2 * VIEW_PAGES, cpu->mmio);
	EXPECT_TRUE(cpu->mmio_write);
	view_enter(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	EXPECT_EQ(2 + 2 * VIEW_PAGES, cpu->mmio);
}

/* Two owners in two views of one vCPU, in turns: each is where it has to be only. */
TEST_F(views, turns)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	unsigned int v;

	view_link(&self->w, 1, 0, 0, 1, 0);
	view_link(&self->w, 2, 1, 0, 1, 0);
	for (v = 1; v < 9; v++) {
		view_enter(cpu, v % 3);
		EXPECT_EQ(v % 3, view_get(cpu));
		EXPECT_EQ(v % 3 == 1 ? VIEW_VALUE(0, 0) : VIEW_HOLE, view_read(cpu, 1, 0));
		EXPECT_EQ(v % 3 == 2 ? VIEW_VALUE(1, 0) : VIEW_HOLE, view_read(cpu, 2, 0));
	}
}

/* Round trips with copies in and out: once all is touched they do not exit. */
TEST_F_TIMEOUT(views, trips, 300)
{
	const unsigned int trips = 10000;
	struct view_cpu *cpu = &self->w.cpu[0];
	uint64_t exits, idle, *page = view_word(&self->w.owner[0], 0);

	view_link(&self->w, 1, 0, 0, 1, 0);
	/* Nothing is touched yet: it costs exits to get there, which are counted. */
	exits = view_exits(cpu);
	view_do_trips(cpu, 1, page, 200);
	idle = view_exits(cpu) - exits;
	EXPECT_EQ(0, cpu->cmd->bad);
	EXPECT_EQ(200, page[1]);

	/* What a command costs by itself: its ucall. */
	exits = view_exits(cpu);
	view_do_trips(cpu, 1, page, 0);
	EXPECT_GT(idle, view_exits(cpu) - exits);
	idle = view_exits(cpu) - exits;

	exits = view_exits(cpu);
	view_do_trips(cpu, 1, page, trips);
	EXPECT_EQ(idle, view_exits(cpu) - exits);
	EXPECT_EQ(0, cpu->cmd->bad);
	EXPECT_EQ(trips, page[1]);
	EXPECT_EQ(trips, page[7]);
	EXPECT_EQ(0, page[8]);
	EXPECT_EQ(VIEW_VALUE(0, 0), page[0]);
	EXPECT_EQ(0, cpu->mmio);
	EXPECT_EQ(0, view_get(cpu));
}

/* As many views as there can be. */
TEST_F_TIMEOUT(views, all, 300)
{
	const unsigned int views = KVM_VM2VM_NR_VIEWS - 1;
	struct view_owner *o = &self->w.owner[0];
	struct view_cpu *cpu = &self->w.cpu[0];
	uint64_t exits, idle;
	unsigned int v;

	view_owner_free(o);
	view_owner_init(o, 0, views, 0);
	for (v = 1; v <= views; v++)
		view_link(&self->w, v, 0, v - 1, 1, 0);

	cpu->cmd->view = 1;
	cpu->cmd->count = views;
	view_do(cpu, VIEW_CHECK);
	EXPECT_EQ(0, cpu->cmd->bad);
	for (v = 1; v <= views; v++)
		EXPECT_EQ(~(uint64_t)v, *view_word(o, (v - 1) * 4096 + 8));

	exits = view_exits(cpu);
	view_do(cpu, VIEW_NOP);
	idle = view_exits(cpu) - exits;
	exits = view_exits(cpu);
	view_do(cpu, VIEW_CHECK);
	EXPECT_EQ(idle, view_exits(cpu) - exits);
	EXPECT_EQ(0, cpu->cmd->bad);
	EXPECT_EQ(0, cpu->mmio);

	/* Of all the others none is seen in the last one. */
	view_enter(cpu, views);
	for (v = 1; v < views; v += 17)
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, v, 0));
	EXPECT_EQ(DIV_ROUND_UP(views - 1, 17), cpu->mmio);
	EXPECT_EQ(VIEW_VALUE(0, views - 1), view_read(cpu, views, 0));
}

/* A CPU without views, and a VM that has none, say so. */
TEST(amd)
{
	struct kvm_vm2vm_view args = {};
	struct view w;

	if (view_feature())
		SKIP(return, "there are views");
	view_init(&w, VIEW_PAGES);
	EXPECT_NE(0, kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_LINK);
	EXPECT_EQ(-EOPNOTSUPP, __view_link(&w, 1, w.owner[0].domain, PEER_IOVA, 4096, 0));
	EXPECT_EQ(-EINVAL, __view_get(&w.cpu[0], &args));
	EXPECT_EQ(-EINVAL, __view_set(&w.cpu[0], 0));
	EXPECT_EQ(-EINVAL, __view_set(&w.cpu[0], 1));
	EXPECT_EQ(UD_VECTOR, view_vmfunc(&w.cpu[0], 0, 0));

	/* A plain link does the job, in the place where the transient one would be. */
	vm2vm_link(w.vm, w.owner[0].domain, VIEW_SLOT(1), VIEW_GPA(1), PEER_IOVA, 4096, 0);
	view_map_window(&w, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(&w.cpu[0], 1, 0));
	view_write(&w.cpu[0], 1, 8, 5);
	EXPECT_EQ(5, *view_word(&w.owner[0], 8));
	EXPECT_EQ(0, w.cpu[0].mmio);
	EXPECT_EQ(UD_VECTOR, view_vmfunc(&w.cpu[0], 0, 0));
	view_free(&w);
}

/* This process is no guest with views, and lives to tell. */
TEST(probe)
{
	struct sigaction old;

	EXPECT_FALSE(vm2vm_view_probe());
	EXPECT_FALSE(vm2vm_view_try(1));
	EXPECT_EQ(0, sigaction(SIGILL, NULL, &old));
	EXPECT_TRUE(old.sa_handler == SIG_DFL);
}

TEST_HARNESS_MAIN
