// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: revoking while a vCPU spins inside the view.
 *
 * After each way of revoking the page gets a canary, through a mapping of the owner
 * that stays: the guest never sees it, and nothing that the guest writes arrives.
 */
#include <signal.h>
#include <sched.h>

#include "inside_fixture.h"

/* The approval goes, and comes again. */
static void revoke_by_unmap(struct inside *s, unsigned int trials)
{
	int domain = s->w.owner[0].domain;
	unsigned int i;

	inside_share(s);
	for (i = 0; i < trials; i++) {
		inside_begin(s, s->page[0]);
		vm2vm_unmap(domain, PEER_IOVA, 4096);
		inside_end(s, s->page[0], VIEW_HOLE, i);
		inside_map(s);
	}
}

TEST_F_TIMEOUT(inside, revoke_unmap, 900)
{
	revoke_by_unmap(&self->s, self->trials);
	/* It was the page that went, not the view. */
	EXPECT_EQ(1, inside_view(&self->s));
}

/* Likewise while the guest goes in and out all the time. */
TEST_F_TIMEOUT(inside, revoke_switching, 900)
{
	WRITE_ONCE(self->s.in->leave, 1);
	revoke_by_unmap(&self->s, self->trials);
}

/* The link goes, between @before and @after; that one has to end with a link. */
static void revoke_by_unlink(struct inside *s, unsigned int trials,
			     void (*before)(struct inside *s),
			     void (*after)(struct inside *s, unsigned int trial))
{
	unsigned int i;

	inside_share(s);
	for (i = 0; i < trials; i++) {
		inside_begin(s, s->page[0]);
		if (before)
			before(s);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		after(s, i);
	}
}

static void unlink_looked_at(struct inside *s)
{
	TEST_ASSERT_EQ(inside_view(s), 1);
	spinner_wait_for(s->loop, SPINNER_OLD);
}

static void unlink_look(struct inside *s, unsigned int trial)
{
	inside_end(s, s->page[0], VIEW_HOLE, trial);
	TEST_ASSERT_EQ(inside_view(s), 0);
	inside_link(s, s->w.owner[0].domain);
	WRITE_ONCE(s->in->gone, 1);
	spinner_wait(s->loop, 3);
	TEST_ASSERT_EQ(s->in->stale, 0);
	TEST_ASSERT_EQ(READ_ONCE(s->loop->last), VIEW_HOLE);
	inside_allow(s);
}

/* The view goes, too: the vCPU is in view 0, and in no other that comes in its place. */
TEST_F_TIMEOUT(inside, revoke_unlink, 900)
{
	revoke_by_unlink(&self->s, self->trials, unlink_looked_at, unlink_look);
}

static void unlink_quiet(struct inside *s, unsigned int trial)
{
	inside_end(s, s->page[0], VIEW_HOLE, trial);
	inside_link(s, s->w.owner[0].domain);
}

/* The same, and nothing looks at the view before the link goes: no exit at all. */
TEST_F_TIMEOUT(inside, revoke_unlink_quiet, 900)
{
	revoke_by_unlink(&self->s, self->trials, NULL, unlink_quiet);
}

static void unlink_relink(struct inside *s, unsigned int trial)
{
	struct view_owner *other = &s->w.owner[1];

	inside_link(s, other->domain);
	spinner_wait(s->loop, 3);
	TEST_ASSERT(!READ_ONCE(s->loop->canary), "trial %u: the canary was seen", trial);
	TEST_ASSERT(view_word(other, 0)[SPINNER_WRITE] == SPINNER_CANARY,
		    "trial %u: the canary was overwritten", trial);
	spinner_wait_for(s->loop, VIEW_HOLE);
	TEST_ASSERT_EQ(inside_view(s), 0);
	vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
	inside_link(s, s->w.owner[0].domain);
}

/* Another owner's link has the number at once: the vCPU is not in that one's view. */
TEST_F_TIMEOUT(inside, relink, 900)
{
	uint64_t *page = view_word(&self->s.w.owner[1], 0);

	page[SPINNER_READ] = SPINNER_CANARY;
	page[SPINNER_WRITE] = SPINNER_CANARY;
	revoke_by_unlink(&self->s, self->trials, NULL, unlink_relink);
}

TEST_F_TIMEOUT(inside, revoke_close, 900)
{
	struct inside *s = &self->s;
	unsigned int i;
	int domain;

	for (i = 0; i < self->trials; i++) {
		domain = vm2vm_create_domain(s->w.owner[0].vm);
		vm2vm_map(domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		inside_link(s, domain);
		if (!i)
			inside_start(s);
		inside_begin(s, s->page[0]);
		close(domain);
		inside_end(s, s->page[0], VIEW_HOLE, i);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
	}
}

TEST_F_TIMEOUT(inside, revoke_memslot, 900)
{
	struct inside *s = &self->s;
	struct kvm_vm *owner = s->w.owner[0].vm;
	unsigned int i;

	inside_share(s);
	for (i = 0; i < self->trials; i++) {
		inside_begin(s, s->page[0]);
		vm_set_user_memory_region(owner, 0, 0, PEER_OWNER_GPA, 0, s->mem);
		inside_end(s, s->page[0], VIEW_HOLE, i);
		vm_set_user_memory_region(owner, 0, 0, PEER_OWNER_GPA, 4096, s->mem);
	}
	EXPECT_EQ(1, inside_view(s));
}

/* The owner's process maps another page in the place of the one it had. */
TEST_F_TIMEOUT(inside, revoke_mmap, 900)
{
	struct inside *s = &self->s;
	unsigned int i, now = 0;

	inside_share(s);
	for (i = 0; i < self->trials; i++) {
		inside_begin(s, s->page[now]);
		WRITE_ONCE(s->page[!now][SPINNER_READ], SPINNER_NEW);
		spinner_map_page(s->memfd, !now, s->mem);
		inside_end(s, s->page[now], SPINNER_NEW, i);
		now = !now;
	}
	EXPECT_EQ(1, inside_view(s));
}

/*
 * The owner gives its page back, and has one of zeros when it is touched again.  No
 * mapping of the old page stays for a canary: it is known by what was in it.
 */
TEST_F_TIMEOUT(inside, revoke_madvise, 900)
{
	struct inside *s = &self->s;
	uint64_t *mem = s->mem;
	unsigned int i;

	TEST_ASSERT(mmap(mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) == mem, "mmap");
	inside_share(s);
	for (i = 0; i < self->trials; i++) {
		inside_begin(s, mem);
		TEST_ASSERT(!madvise(mem, 4096, MADV_DONTNEED), "MADV_DONTNEED");
		WRITE_ONCE(s->in->gone, 1);
		spinner_wait_for(s->loop, 0);
		WRITE_ONCE(mem[SPINNER_READ], SPINNER_NEW);
		spinner_wait_for(s->loop, SPINNER_NEW);
		TEST_ASSERT(!READ_ONCE(s->in->stale), "trial %u: the page was seen", i);
		inside_allow(s);
		/* Writes follow as well. */
		spinner_wait(s->loop, 2);
		TEST_ASSERT(READ_ONCE(mem[SPINNER_WRITE]), "trial %u: no write arrives", i);
	}
	EXPECT_EQ(1, inside_view(s));
	EXPECT_EQ(0, s->in->holes);
}

TEST_F_TIMEOUT(inside, revoke_kill, 900)
{
	struct inside *s = &self->s;
	unsigned int i;
	int domain;
	pid_t pid;

	for (i = 0; i < self->trials; i++) {
		pid = spinner_start_owner(s->memfd, &domain);
		inside_link(s, domain);
		if (!i)
			inside_start(s);
		inside_begin(s, s->page[0]);
		spinner_kill_owner(pid);
		inside_end(s, s->page[0], VIEW_HOLE, i);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		close(domain);
	}
}

/* Memory of the backend comes and goes: all roots are new, and the view stays. */
TEST_F_TIMEOUT(inside, root, 900)
{
	struct inside *s = &self->s;
	struct kvm_vm *vm = s->w.vm;
	void *more = peer_mmap(PEER_SIZE_2M, 0);
	uint64_t holes, i;

	inside_share(s);
	inside_begin(s, s->page[0]);
	holes = READ_ONCE(s->in->holes);
	for (i = 0; i < self->trials; i++) {
		WRITE_ONCE(s->in->leave, i % 2);
		vm_set_user_memory_region(vm, 9, 0, PEER_WINDOW, PEER_SIZE_2M, more);
		spinner_wait(s->loop, 2);
		vm_set_user_memory_region(vm, 9, 0, PEER_WINDOW, 0, more);
		spinner_wait(s->loop, 2);
		/* It is the owner's page still, in both ways. */
		WRITE_ONCE(s->page[0][SPINNER_READ], i + 1);
		spinner_wait_for(s->loop, i + 1);
		WRITE_ONCE(s->page[0][SPINNER_WRITE], VIEW_HOLE);
		spinner_wait(s->loop, 2);
		ASSERT_NE(VIEW_HOLE, READ_ONCE(s->page[0][SPINNER_WRITE]));
	}
	EXPECT_EQ(1, inside_view(s));
	EXPECT_EQ(holes, s->in->holes);
}

/* A link of another view goes, while the guest is in this one. */
TEST_F_TIMEOUT(inside, other_view, 900)
{
	struct inside *s = &self->s;
	uint64_t holes;
	unsigned int i;

	inside_share(s);
	inside_begin(s, s->page[0]);
	holes = READ_ONCE(s->in->holes);
	for (i = 0; i < self->trials; i++) {
		ASSERT_EQ(0, __view_link(&s->w, 2, s->w.owner[1].domain, PEER_IOVA, 4096, 0));
		spinner_wait(s->loop, 2);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(2));
		spinner_wait(s->loop, 2);
	}
	spinner_wait_for(s->loop, SPINNER_OLD);
	EXPECT_EQ(1, inside_view(s));
	EXPECT_EQ(holes, s->in->holes);
}

/* The thread of the vCPU goes from CPU to CPU while the guest is inside and switches. */
TEST_F_TIMEOUT(inside, migrate, 900)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct inside *s = &self->s;
	uint64_t holes, i;
	cpu_set_t set;

	if (cpus < 2)
		SKIP(return, "one CPU only");
	inside_share(s);
	inside_begin(s, s->page[0]);
	holes = READ_ONCE(s->in->holes);
	for (i = 0; i < self->trials; i++) {
		WRITE_ONCE(s->in->leave, i / 2 % 2);
		CPU_ZERO(&set);
		CPU_SET(i % cpus, &set);
		TEST_ASSERT(!sched_setaffinity(s->tid, sizeof(set), &set),
			    "sched_setaffinity: %s", strerror(errno));
		WRITE_ONCE(s->page[0][SPINNER_READ], i + 1);
		spinner_wait_for(s->loop, i + 1);
	}
	EXPECT_EQ(1, inside_view(s));
	EXPECT_EQ(holes, s->in->holes);
}
