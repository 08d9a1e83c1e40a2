/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_view_test: revoking while a vCPU spins inside the view.
 *
 * After each way of revoking the page gets a canary, through a mapping of the owner
 * that stays: the guest never sees it, and nothing that the guest writes arrives.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_REVOKE_H
#define SELFTEST_KVM_VM2VM_VIEW_REVOKE_H

#include "vm2vm_view_spin.h"

FIXTURE(inside)
{
	struct spinner s;
	unsigned int trials;
};

FIXTURE_SETUP(inside)
{
	if (!view_feature())
		SKIP(return, "no views here");
	self->trials = vm2vm_trials(20);
	spin_init(&self->s);
}

FIXTURE_TEARDOWN(inside)
{
	spin_free(&self->s);
}

TEST_F_TIMEOUT(inside, revoke_unmap, 900)
{
	struct spinner *s = &self->s;
	int domain = s->w.owner[0].domain;
	unsigned int i;

	spin_link(s, domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_map(s);
		spin_begin(s, s->page[0]);
		vm2vm_unmap(domain, PEER_IOVA, 4096);
		spin_end(s, s->page[0], VIEW_HOLE, i);
	}
	/* It was the page that went, not the view. */
	EXPECT_EQ(1, spin_view(s));
}

/* The view goes, too: the vCPU is in view 0, and in no other that comes in its place. */
TEST_F_TIMEOUT(inside, revoke_unlink, 900)
{
	struct spinner *s = &self->s;
	int domain = s->w.owner[0].domain;
	unsigned int i;

	spin_map(s);
	spin_link(s, domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, s->page[0]);
		ASSERT_EQ(1, spin_view(s));
		spin_wait_for(s->spin, SPIN_OLD);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		spin_end(s, s->page[0], VIEW_HOLE, i);
		ASSERT_EQ(0, spin_view(s));
		spin_link(s, domain);
		WRITE_ONCE(s->spin->gone, 1);
		spin_wait(s->spin, 3);
		ASSERT_EQ(0, s->spin->stale);
		ASSERT_EQ(VIEW_HOLE, READ_ONCE(s->spin->last));
		spin_allow(s->spin);
	}
}

/* The same, and nothing looks at the view before the link goes: no exit at all. */
TEST_F_TIMEOUT(inside, revoke_unlink_quiet, 900)
{
	struct spinner *s = &self->s;
	int domain = s->w.owner[0].domain;
	unsigned int i;

	spin_map(s);
	spin_link(s, domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, s->page[0]);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		spin_end(s, s->page[0], VIEW_HOLE, i);
		spin_link(s, domain);
	}
}

/* Another owner's link has the number at once: the vCPU is not in that one's view. */
TEST_F_TIMEOUT(inside, relink, 900)
{
	struct spinner *s = &self->s;
	struct view_owner *other = &s->w.owner[1];
	unsigned int i;

	view_word(other, 0)[SPIN_READ] = SPIN_CANARY;
	view_word(other, 0)[SPIN_WRITE] = SPIN_CANARY;
	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, s->page[0]);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		spin_link(s, other->domain);
		spin_wait(s->spin, 3);
		TEST_ASSERT(!READ_ONCE(s->spin->canary), "trial %u: the canary was seen", i);
		TEST_ASSERT(view_word(other, 0)[SPIN_WRITE] == SPIN_CANARY,
			    "trial %u: the canary was overwritten", i);
		spin_wait_for(s->spin, VIEW_HOLE);
		ASSERT_EQ(0, spin_view(s));
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		spin_link(s, s->w.owner[0].domain);
	}
}

/* Likewise while the guest goes in and out all the time. */
TEST_F_TIMEOUT(inside, revoke_switching, 900)
{
	struct spinner *s = &self->s;
	int domain = s->w.owner[0].domain;
	unsigned int i;

	spin_link(s, domain);
	WRITE_ONCE(s->spin->leave, 1);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_map(s);
		spin_begin(s, s->page[0]);
		vm2vm_unmap(domain, PEER_IOVA, 4096);
		spin_end(s, s->page[0], VIEW_HOLE, i);
	}
}

TEST_F_TIMEOUT(inside, revoke_close, 900)
{
	struct spinner *s = &self->s;
	unsigned int i;
	int domain;

	for (i = 0; i < self->trials; i++) {
		domain = vm2vm_create_domain(s->w.owner[0].vm);
		vm2vm_map(domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		spin_link(s, domain);
		if (!i)
			spin_start(s);
		spin_begin(s, s->page[0]);
		close(domain);
		spin_end(s, s->page[0], VIEW_HOLE, i);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
	}
}

TEST_F_TIMEOUT(inside, revoke_memslot, 900)
{
	struct spinner *s = &self->s;
	struct kvm_vm *owner = s->w.owner[0].vm;
	unsigned int i;

	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, s->page[0]);
		vm_set_user_memory_region(owner, 0, 0, PEER_OWNER_GPA, 0, s->mem);
		spin_end(s, s->page[0], VIEW_HOLE, i);
		vm_set_user_memory_region(owner, 0, 0, PEER_OWNER_GPA, 4096, s->mem);
	}
	EXPECT_EQ(1, spin_view(s));
}

/* The owner's process maps another page in the place of the one it had. */
TEST_F_TIMEOUT(inside, revoke_mmap, 900)
{
	struct spinner *s = &self->s;
	unsigned int i, now = 0;

	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, s->page[now]);
		WRITE_ONCE(s->page[!now][SPIN_READ], SPIN_NEW);
		spin_map_page(s->memfd, !now, s->mem);
		spin_end(s, s->page[now], SPIN_NEW, i);
		now = !now;
	}
	EXPECT_EQ(1, spin_view(s));
}

/*
 * The owner gives its page back, and has one of zeros when it is touched again.  No
 * mapping of the old page stays for a canary: it is known by what was in it.
 */
TEST_F_TIMEOUT(inside, revoke_madvise, 900)
{
	struct spinner *s = &self->s;
	uint64_t *mem = s->mem;
	unsigned int i;

	TEST_ASSERT(mmap(mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) == mem, "mmap");
	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	for (i = 0; i < self->trials; i++) {
		spin_begin(s, mem);
		TEST_ASSERT(!madvise(mem, 4096, MADV_DONTNEED), "MADV_DONTNEED");
		WRITE_ONCE(s->spin->gone, 1);
		spin_wait_for(s->spin, 0);
		WRITE_ONCE(mem[SPIN_READ], SPIN_NEW);
		spin_wait_for(s->spin, SPIN_NEW);
		TEST_ASSERT(!READ_ONCE(s->spin->stale), "trial %u: the page was seen", i);
		spin_allow(s->spin);
		/* Writes follow as well. */
		spin_wait(s->spin, 2);
		TEST_ASSERT(READ_ONCE(mem[SPIN_WRITE]), "trial %u: no write arrives", i);
	}
	EXPECT_EQ(1, spin_view(s));
	EXPECT_EQ(0, s->spin->holes);
}

TEST_F_TIMEOUT(inside, revoke_kill, 900)
{
	struct spinner *s = &self->s;
	int domain, status;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < self->trials; i++) {
		pid = spin_start_owner(s->memfd, &domain);
		spin_link(s, domain);
		if (!i)
			spin_start(s);
		spin_begin(s, s->page[0]);
		TEST_ASSERT(!kill(pid, SIGKILL), "kill");
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		spin_end(s, s->page[0], VIEW_HOLE, i);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(1));
		close(domain);
	}
}

/* Memory of the backend comes and goes: all roots are new, and the view stays. */
TEST_F_TIMEOUT(inside, root, 900)
{
	struct spinner *s = &self->s;
	struct kvm_vm *vm = s->w.vm;
	void *more = peer_mmap(PEER_SIZE_2M, 0);
	uint64_t holes, i;

	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	spin_begin(s, s->page[0]);
	holes = READ_ONCE(s->spin->holes);
	for (i = 0; i < self->trials; i++) {
		WRITE_ONCE(s->spin->leave, i % 2);
		vm_set_user_memory_region(vm, 9, 0, PEER_WINDOW, PEER_SIZE_2M, more);
		spin_wait(s->spin, 2);
		vm_set_user_memory_region(vm, 9, 0, PEER_WINDOW, 0, more);
		spin_wait(s->spin, 2);
		/* It is the owner's page still, in both ways. */
		WRITE_ONCE(s->page[0][SPIN_READ], i + 1);
		spin_wait_for(s->spin, i + 1);
		WRITE_ONCE(s->page[0][SPIN_WRITE], VIEW_HOLE);
		spin_wait(s->spin, 2);
		ASSERT_NE(VIEW_HOLE, READ_ONCE(s->page[0][SPIN_WRITE]));
	}
	EXPECT_EQ(1, spin_view(s));
	EXPECT_EQ(holes, s->spin->holes);
}

/* A link of another view goes, while the guest is in this one. */
TEST_F_TIMEOUT(inside, other_view, 900)
{
	struct spinner *s = &self->s;
	uint64_t holes;
	unsigned int i;

	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	spin_begin(s, s->page[0]);
	holes = READ_ONCE(s->spin->holes);
	for (i = 0; i < self->trials; i++) {
		ASSERT_EQ(0, __view_link(&s->w, 2, s->w.owner[1].domain, PEER_IOVA, 4096, 0));
		spin_wait(s->spin, 2);
		vm2vm_unlink(s->w.vm, VIEW_SLOT(2));
		spin_wait(s->spin, 2);
	}
	spin_wait_for(s->spin, SPIN_OLD);
	EXPECT_EQ(1, spin_view(s));
	EXPECT_EQ(holes, s->spin->holes);
}

/* The thread of the vCPU goes from CPU to CPU while the guest is inside and switches. */
TEST_F_TIMEOUT(inside, migrate, 900)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct spinner *s = &self->s;
	uint64_t holes, i;
	cpu_set_t set;

	if (cpus < 2)
		SKIP(return, "one CPU only");
	spin_map(s);
	spin_link(s, s->w.owner[0].domain);
	spin_start(s);
	spin_begin(s, s->page[0]);
	holes = READ_ONCE(s->spin->holes);
	for (i = 0; i < self->trials; i++) {
		WRITE_ONCE(s->spin->leave, i / 2 % 2);
		CPU_ZERO(&set);
		CPU_SET(i % cpus, &set);
		TEST_ASSERT(!sched_setaffinity(s->tid, sizeof(set), &set),
			    "sched_setaffinity: %s", strerror(errno));
		WRITE_ONCE(s->page[0][SPIN_READ], i + 1);
		spin_wait_for(s->spin, i + 1);
	}
	EXPECT_EQ(1, spin_view(s));
	EXPECT_EQ(holes, s->spin->holes);
}

#endif /* SELFTEST_KVM_VM2VM_VIEW_REVOKE_H */
