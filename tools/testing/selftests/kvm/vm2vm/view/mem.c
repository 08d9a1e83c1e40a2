// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: what is written inside a view is in the dirty logs, and KVM's own
 * accesses for the guest see what the guest sees.
 */
#include "inside_fixture.h"
#include "views.h"
#include "vm2vm_access.h"

/* Memory of the backend that logs: more pages than the CPU's buffer (PML) has room for. */
#define MEM_GPA		0x90000000ul
#define MEM_SLOT	7
#define MEM_PAGES	1200u

static void mem_owner_log(struct view_owner *o, bool log)
{
	vm_set_user_memory_region(o->vm, 0, log ? KVM_MEM_LOG_DIRTY_PAGES : 0, PEER_OWNER_GPA,
				  o->size, o->mem);
}

static uint64_t mem_owner_harvest(struct view_owner *o)
{
	uint64_t bitmap = 0;

	kvm_vm_get_dirty_log(o->vm, 0, &bitmap);
	return bitmap;
}

/* What the guest writes to its window inside the view is in the owner's log. */
TEST_F(views, dirty_peer)
{
	struct view_owner *o = &self->w.owner[0];
	struct view_cpu *cpu = &self->w.cpu[0];
	unsigned int i;

	view_link(&self->w, 1, 0, 0, VIEW_PAGES, 0);
	view_enter(cpu, 1);
	/* All are mapped for writing before the log begins. */
	for (i = 0; i < VIEW_PAGES; i++)
		view_write(cpu, 1, i * 4096 + 8, i);
	mem_owner_log(o, true);
	EXPECT_EQ(0, mem_owner_harvest(o));

	for (i = 0; i < 3; i++) {
		view_write(cpu, 1, 1 * 4096, i);
		view_write(cpu, 1, 3 * 4096 + 16, i);
		view_write(cpu, 1, (5 + i) * 4096 + 32, i);
		EXPECT_EQ(8, view_read(cpu, 1, 8 * 4096 + 8));
		EXPECT_EQ(BIT(1) | BIT(3) | BIT(5 + i), mem_owner_harvest(o));
		EXPECT_EQ(0, mem_owner_harvest(o));
		/* Nothing is written in the other view. */
		view_enter(cpu, 0);
		view_write(cpu, 1, 4 * 4096, 1);
		EXPECT_EQ(0, mem_owner_harvest(o));
		view_enter(cpu, 1);
	}
	EXPECT_EQ(3, cpu->mmio);
	EXPECT_EQ(VIEW_VALUE(0, 4), *view_word(o, 4 * 4096));

	mem_owner_log(o, false);
	view_write(cpu, 1, 0, 9);
	EXPECT_EQ(9, *view_word(o, 0));
	EXPECT_EQ(1, view_get(cpu));
}

/* The guest writes all the time and does not leave the view: each harvest has it. */
TEST_F_TIMEOUT(inside, dirty_peer, 900)
{
	struct view_owner *o = &self->s.w.owner[0];
	struct inside *s = &self->s;
	unsigned int i;

	o->size = 4096;
	inside_map(s);
	inside_link(s, o->domain);
	mem_owner_log(o, true);
	inside_start(s);
	inside_begin(s, s->page[0]);
	for (i = 0; i < self->trials; i++) {
		WRITE_ONCE(s->in->leave, i % 2);
		spinner_wait(s->loop, 2);
		mem_owner_harvest(o);
		spinner_wait(s->loop, 2);
		ASSERT_EQ(1, mem_owner_harvest(o));
	}
	/* It is the writes that are in there. */
	vm2vm_unmap(o->domain, PEER_IOVA, 4096);
	mem_owner_harvest(o);
	spinner_wait(s->loop, 2);
	EXPECT_EQ(0, mem_owner_harvest(o));
	EXPECT_EQ(1, inside_view(s));
}

/* Have the guest write to @count pages of its own, from page @page on, in view @view. */
static void mem_fill(struct view_cpu *cpu, unsigned int view, unsigned int page,
		     unsigned int count, uint64_t val)
{
	cpu->cmd->view = view;
	cpu->cmd->gva = MEM_GPA + page * 4096ul;
	cpu->cmd->count = count;
	cpu->cmd->val = val;
	view_do(cpu, VIEW_FILL);
}

/* The log has these pages, and no others. */
static void mem_expect(struct kvm_vm *vm, unsigned int page, unsigned int count)
{
	uint64_t bitmap[MEM_PAGES / 64 + 1] = {};
	bool is, want;
	unsigned int i;

	kvm_vm_get_dirty_log(vm, MEM_SLOT, bitmap);
	for (i = 0; i < MEM_PAGES; i++) {
		want = i >= page && i < page + count;
		is = bitmap[i / 64] >> i % 64 & 1;
		TEST_ASSERT(is == want, "page %u is %sdirty", i, is ? "" : "not ");
	}
}

/* What the guest writes to its own memory inside a view is in the backend's log. */
TEST_F_TIMEOUT(views, dirty_own, 300)
{
	struct view *w = &self->w;
	struct view_cpu *cpu = &w->cpu[0];
	uint64_t *mem = peer_mmap(MEM_PAGES * 4096ul, 0);
	unsigned int i;

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	view_link(w, 1, 0, 0, 1, 0);
	view_link(w, 2, 1, 0, 1, 0);
	vm_set_user_memory_region(w->vm, MEM_SLOT, 0, MEM_GPA, MEM_PAGES * 4096ul, mem);
	virt_map(w->vm, MEM_GPA, MEM_GPA, MEM_PAGES);
	mem_fill(cpu, 1, 0, MEM_PAGES, 1);
	view_enter(cpu, 1);
	vm_set_user_memory_region(w->vm, MEM_SLOT, KVM_MEM_LOG_DIRTY_PAGES, MEM_GPA,
				  MEM_PAGES * 4096ul, mem);
	EXPECT_EQ(1, view_get(cpu));
	mem_expect(w->vm, 0, 0);

	for (i = 0; i < 6; i++) {
		/* In the views in turns, and in view 0. */
		mem_fill(cpu, i % 3, 100 * i, 7, i + 2);
		mem_expect(w->vm, 100 * i, 7);
		EXPECT_EQ(i + 2, mem[100 * i * 512]);
		mem_expect(w->vm, 0, 0);
	}
	mem_fill(cpu, 2, 3, MEM_PAGES - 5, 77);
	mem_expect(w->vm, 3, MEM_PAGES - 5);
	EXPECT_EQ(77, mem[(MEM_PAGES - 3) * 512]);
	EXPECT_EQ(0, cpu->mmio);
	vm_set_user_memory_region(w->vm, MEM_SLOT, 0, MEM_GPA, 0, mem);
}

static void mem_access(struct view *w, enum access_op op, uint64_t dst, uint64_t src, uint64_t val)
{
	struct access_cmd *cmd = view_access(w);

	cmd->op = op;
	cmd->dst = dst;
	cmd->src = src;
	cmd->count = 1;
	cmd->val = val;
	view_do(&w->cpu[0], VIEW_ACCESS);
}

/* A word of window @view, which KVM reads for the guest: it moves it to a device. */
static uint64_t mem_read(struct view *w, unsigned int view, uint64_t offset)
{
	w->cpu[0].dev = 0xbad;
	mem_access(w, ACCESS_MOVSQ_ONE, DEV_GPA, VIEW_GPA(view) + offset, 0);
	return w->cpu[0].dev;
}

static void mem_write(struct view *w, unsigned int view, uint64_t offset, uint64_t val)
{
	w->cpu[0].dev = val;
	mem_access(w, ACCESS_MOVSQ_ONE, VIEW_GPA(view) + offset, DEV_GPA, 0);
}

/* By emulated accesses only: what is there in the view is, and nothing else. */
TEST_F(views, emulated)
{
	struct view *w = &self->w;
	struct view_cpu *cpu = &w->cpu[0];
	unsigned int v, turn, mmio;

	view_link(w, 1, 0, 0, 2, 0);
	view_link(w, 2, 1, 0, 2, 0);
	/* Twice around, as KVM remembers which addresses are MMIO. */
	for (turn = 0; turn < 9; turn++) {
		v = turn % 3;
		view_enter(cpu, v);
		mmio = cpu->mmio;
		EXPECT_EQ(v == 1 ? VIEW_VALUE(0, 1) : VIEW_HOLE, mem_read(w, 1, 4096));
		EXPECT_EQ(v == 2 ? VIEW_VALUE(1, 1) : VIEW_HOLE, mem_read(w, 2, 4096));
		mem_write(w, 1, 4096 + 8, turn + 100);
		mem_write(w, 2, 4096 + 16, turn + 200);
		EXPECT_EQ(v == 0 ? 4 : 2, cpu->mmio - mmio);
		EXPECT_EQ(v == 1, *view_word(&w->owner[0], 4096 + 8) == turn + 100);
		EXPECT_EQ(v == 2, *view_word(&w->owner[1], 4096 + 16) == turn + 200);
		/* And again by the guest itself. */
		EXPECT_EQ(v == 1 ? VIEW_VALUE(0, 1) : VIEW_HOLE, view_read(cpu, 1, 4096));
		EXPECT_EQ(v == 2 ? VIEW_VALUE(1, 1) : VIEW_HOLE, view_read(cpu, 2, 4096));
		EXPECT_EQ(v, view_get(cpu));
	}

	/* A page that is approved or not while the guest is inside. */
	view_enter(cpu, 1);
	vm2vm_unmap(w->owner[0].domain, PEER_IOVA, w->owner[0].size);
	EXPECT_EQ(VIEW_HOLE, mem_read(w, 1, 4096));
	vm2vm_map(w->owner[0].domain, PEER_IOVA, PEER_OWNER_GPA, w->owner[0].size, VM2VM_RW);
	EXPECT_EQ(VIEW_VALUE(0, 1), mem_read(w, 1, 4096));
}

/* The same by force, if the module does that: all kinds of accesses. */
TEST_F(views, emulated_force)
{
	struct view *w = &self->w;
	struct access_cmd *cmd = view_access(w);
	uint64_t *page = view_word(&w->owner[0], 0);
	struct view_cpu *cpu = &w->cpu[0];
	unsigned int turn;

	if (!is_forced_emulation_enabled)
		SKIP(return, "KVM has no kvm.force_emulation_prefix");
	view_link(w, 1, 0, 0, 1, 0);
	for (turn = 0; turn < 3; turn++) {
		view_enter(cpu, 0);
		mem_access(w, ACCESS_LOAD, 0, VIEW_GPA(1), 0);
		EXPECT_EQ(VIEW_HOLE, cmd->val);
		mem_access(w, ACCESS_STORE, VIEW_GPA(1), 0, 5);
		EXPECT_EQ(VIEW_VALUE(0, 0), page[0]);

		view_enter(cpu, 1);
		mem_access(w, ACCESS_LOAD, 0, VIEW_GPA(1), 0);
		EXPECT_EQ(VIEW_VALUE(0, 0), cmd->val);
		mem_access(w, ACCESS_STORE, VIEW_GPA(1) + 8, 0, turn + 5);
		EXPECT_EQ(turn + 5, page[1]);
		mem_access(w, ACCESS_XCHG, VIEW_GPA(1) + 8, 0, turn + 6);
		EXPECT_EQ(turn + 5, cmd->val);
		EXPECT_EQ(turn + 6, page[1]);
		cmd->old = turn + 6;
		mem_access(w, ACCESS_CMPXCHG, VIEW_GPA(1) + 8, 0, turn + 9);
		EXPECT_EQ(1, cmd->equal);
		EXPECT_EQ(turn + 9, page[1]);
		mem_access(w, ACCESS_INC, VIEW_GPA(1) + 8, 0, 0);
		EXPECT_EQ(turn + 10, page[1]);
		mem_access(w, ACCESS_PUSH, VIEW_GPA(1) + 32, 0, turn + 50);
		EXPECT_EQ(turn + 50, page[3]);
		mem_access(w, ACCESS_POP, 0, VIEW_GPA(1) + 24, 0);
		EXPECT_EQ(turn + 50, cmd->val);
		mem_access(w, ACCESS_CMPS, VIEW_GPA(1) + 24, VIEW_GPA(1) + 24, 0);
		EXPECT_EQ(1, cmd->equal);
		EXPECT_EQ(2 * (turn + 1), cpu->mmio);
	}
}
