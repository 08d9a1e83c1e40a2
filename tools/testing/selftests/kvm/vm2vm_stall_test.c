// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: an owner that does not answer.
 *
 * The owner, and two backends of its domain, are processes of their own.  The
 * owner's page faults are not answered (userfaultfd), its process is stopped, its
 * address space is locked; and a backend's vCPU accesses just then what the owner
 * has not got ready.  That access has to wait.  Nothing else does: the vCPU can be
 * interrupted and killed, its VM and the owner be changed, and no other VM notices.
 *
 * VM2VM_TRIALS in the environment is how often some of it is done, 20 by default.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/wait.h>

#include "vm2vm_cpu.h"
#include "vm2vm_harness.h"
#include "vm2vm_peer.h"
#include "vm2vm/stall/stall.h"

struct scene {
	struct actor owner, a, b;
	int domain;
	int uffd;
	unsigned int trials;
};

static void scene_start(struct scene *s)
{
	s->trials = vm2vm_trials(20);
	s->uffd = -1;
	actor_start(&s->owner, owner_process);
	actor_start(&s->a, backend_process);
	actor_start(&s->b, backend_process);
	actor_do(&s->owner, OWNER_SHARE, 0);
	s->domain = s->owner.fd;
	TEST_ASSERT(s->domain >= 0, "no domain");
	TEST_ASSERT(!actor_do_fd(&s->a, BACKEND_LINK, 0, s->domain) &&
		    !actor_do_fd(&s->b, BACKEND_LINK, 0, s->domain), "KVM_VM2VM_LINK");
}

static void scene_end(struct scene *s)
{
	if (s->uffd >= 0)
		close(s->uffd);
	actor_kill(&s->a);
	actor_kill(&s->owner);
	actor_kill(&s->b);
	close(s->domain);
}

/* False if there is no userfaultfd. */
static bool scene_stall(struct scene *s, bool events)
{
	if (actor_do(&s->owner, OWNER_STALL, events) < 0)
		return false;
	s->uffd = s->owner.fd;
	return true;
}

/* Wait for the fault of somebody on what the owner has taken away. */
static uint64_t stalled(struct scene *s)
{
	struct uffd_msg msg;

	TEST_ASSERT(readable(s->uffd, LIMIT), "no fault in %u s", LIMIT);
	TEST_ASSERT(read(s->uffd, &msg, sizeof(msg)) == sizeof(msg), "userfaultfd: %s",
		    strerror(errno));
	TEST_ASSERT(msg.event == UFFD_EVENT_PAGEFAULT, "event %u", msg.event);
	return msg.arg.pagefault.address;
}

/* Have a backend's vCPU wait for @page.  Returns the address in the owner. */
static uint64_t stall(struct scene *s, struct actor *backend, unsigned int page)
{
	uint64_t addr;

	actor_do(backend, BACKEND_START, page);
	addr = stalled(s);
	TEST_ASSERT(actor_do(backend, BACKEND_RUNS, 0), "the vCPU does not wait");
	return addr;
}

/* The vCPU still waits, can be interrupted, and then reads @val. */
static void interrupt_and_read(struct actor *backend, uint64_t val)
{
	TEST_ASSERT(actor_do(backend, BACKEND_RUNS, 0), "the vCPU does not wait");
	TEST_ASSERT(actor_do(backend, BACKEND_INTERRUPT, 0) == -EINTR, "not EINTR");
	actor_do(backend, BACKEND_CONTINUE, 0);
	TEST_ASSERT(actor_do(backend, BACKEND_WAIT, 0) == val, "not 0x%lx", val);
}

/* A backend that does not wait works, and as fast as ever once it has its pages. */
static void works(struct actor *backend, int64_t exits)
{
	int64_t now;

	actor_do(backend, BACKEND_SPEED, 1);
	now = actor_do(backend, BACKEND_SPEED, 10);
	TEST_ASSERT(now <= exits, "%ld exits, not %ld", now, exits);
}

/* A VM, and a pair of VMs, that have nothing to do with the owner. */
static void stranger_works(void)
{
	struct peer p;

	peer_init(&p, 4 * 4096);
	*peer_word(&p, 4096) = VALUE(1);
	peer_share(&p, VM2VM_RW, 0);
	TEST_ASSERT(peer_read(&p, 4096) == VALUE(1), "a stranger reads something else");
	peer_write(&p, 0, VALUE(2));
	TEST_ASSERT(*peer_word(&p, 0) == VALUE(2), "a stranger writes something else");
	vm2vm_unmap(p.domain, PEER_IOVA, p.size);
	TEST_ASSERT(peer_read(&p, 4096) == HOLE, "a stranger finds no hole");
	vm2vm_unlink(p.backend, PEER_SLOT);
	peer_free(&p);
}

/* What needs nothing of the owner's address space goes on while @a waits for it. */
static void no_other_vm_waits(struct scene *s, int64_t exits)
{
	TEST_ASSERT(!actor_do_fd(&s->a, BACKEND_MEMSLOTS, 0, s->domain), "backend's memslots");
	works(&s->b, exits);
	stranger_works();
	TEST_ASSERT(actor_do(&s->a, BACKEND_RUNS, 0), "the vCPU does not wait");
}

/* Nor does what needs other pages of the owner. */
static void no_other_access_waits(struct scene *s)
{
	unsigned int page;

	TEST_ASSERT(!actor_do_fd(&s->b, BACKEND_MEMSLOTS, 0, s->domain), "backend's memslots");
	for (page = 0; page < STALLED; page += 8) {
		TEST_ASSERT(!actor_do(&s->owner, OWNER_UNMAP, page), "KVM_VM2VM_UNMAP");
		TEST_ASSERT(actor_do(&s->b, BACKEND_READ, page) == HOLE, "not a hole");
		TEST_ASSERT(!actor_do(&s->owner, OWNER_MAP, page), "KVM_VM2VM_MAP");
		TEST_ASSERT(actor_do(&s->b, BACKEND_READ, page) == VALUE(page), "page %u", page);
	}
	TEST_ASSERT(!actor_do(&s->owner, OWNER_MEMSLOT, 0), "owner's memslot");
	TEST_ASSERT(actor_do(&s->b, BACKEND_READ, 0) == VALUE(0), "page 0");
	TEST_ASSERT(actor_do(&s->a, BACKEND_RUNS, 0), "the vCPU does not wait");
}

static void nobody_else_waits(struct scene *s, int64_t exits)
{
	no_other_vm_waits(s, exits);
	no_other_access_waits(s);
}

/* Exits of a backend that works, after the first touch, and some that may come on top. */
static int64_t exits_of(struct actor *backend)
{
	actor_do(backend, BACKEND_SPEED, 1);
	return actor_do(backend, BACKEND_SPEED, 10) + 5;
}

FIXTURE(stall)
{
	struct scene scene;
};

FIXTURE_SETUP(stall)
{
	scene_start(&self->scene);
}

FIXTURE_TEARDOWN(stall)
{
	scene_end(&self->scene);
}

/* A signal ends KVM_RUN, however often, and the owner's answer ends the access. */
TEST_F_TIMEOUT(stall, interrupt, 600)
{
	struct scene *s = &self->scene;
	unsigned int i;
	uint64_t addr;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	addr = stall(s, &s->a, STALLED);
	for (i = 0; i < s->trials; i++) {
		ASSERT_EQ(-EINTR, actor_do(&s->a, BACKEND_INTERRUPT, 0));
		actor_do(&s->a, BACKEND_CONTINUE, 0);
		ASSERT_EQ(addr, stalled(s));
	}
	EXPECT_EQ(1, actor_do(&s->a, BACKEND_RUNS, 0));
	answer(s->uffd, addr, STALLED, 4096);
	EXPECT_EQ(VALUE(STALLED), actor_do(&s->a, BACKEND_WAIT, 0));
	EXPECT_EQ(VALUE(STALLED), actor_do(&s->b, BACKEND_READ, STALLED));
}

/* A backend that waits can be killed. */
TEST_F_TIMEOUT(stall, kill_backend, 600)
{
	struct scene *s = &self->scene;
	unsigned int i;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	for (i = 0; i < s->trials / 4 + 1; i++) {
		stall(s, &s->a, STALLED);
		actor_kill(&s->a);
		EXPECT_EQ(VALUE(i), actor_do(&s->b, BACKEND_READ, i));
		actor_start(&s->a, backend_process);
		ASSERT_EQ(0, actor_do_fd(&s->a, BACKEND_LINK, 0, s->domain));
	}
}

/* Only the access waits. */
TEST_F_TIMEOUT(stall, others, 600)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->b);
	uint64_t addr;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	addr = stall(s, &s->a, STALLED);
	nobody_else_waits(s, exits);
	answer(s->uffd, addr, STALLED, 4096);
	EXPECT_EQ(VALUE(STALLED), actor_do(&s->a, BACKEND_WAIT, 0));
}

/* The window that the vCPU waits in can be removed. */
TEST_F_TIMEOUT(stall, unlink, 300)
{
	struct scene *s = &self->scene;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	stall(s, &s->a, STALLED);
	EXPECT_EQ(0, actor_do(&s->a, BACKEND_UNLINK, 0));
	interrupt_and_read(&s->a, HOLE);
	EXPECT_EQ(VALUE(0), actor_do(&s->b, BACKEND_READ, 0));
}

/* The page that a vCPU waits for can be revoked, in all ways. */
TEST_F_TIMEOUT(stall, revoke, 300)
{
	struct scene *s = &self->scene;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	stall(s, &s->a, STALLED);
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_UNMAP, STALLED));
	interrupt_and_read(&s->a, HOLE);

	stall(s, &s->a, STALLED + 1);
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_CLOSE, 0));
	close(s->domain);
	s->domain = -1;
	/* The messages that brought the descriptor to the backends are gone, too. */
	interrupt_and_read(&s->a, HOLE);
	EXPECT_EQ(HOLE, actor_do(&s->b, BACKEND_READ, 0));
}

/*
 * The owner is killed while a vCPU waits for it, and while somebody else has the
 * descriptor that its faults are answered by, or not.
 */
static void kill_owner(struct scene *s, bool keep)
{
	stall(s, &s->a, STALLED);
	if (!keep) {
		close(s->uffd);
		s->uffd = -1;
	}
	actor_kill(&s->owner);
	TEST_ASSERT(actor_do(&s->b, BACKEND_READ, 0) == HOLE, "not a hole");
	if (keep)
		interrupt_and_read(&s->a, HOLE);
	else
		TEST_ASSERT(actor_do(&s->a, BACKEND_WAIT, 0) == HOLE, "not a hole");
	stranger_works();
}

TEST_F_TIMEOUT(stall, owner_killed, 300)
{
	struct scene *s = &self->scene;

	EXPECT_EQ(VALUE(0), actor_do(&s->b, BACKEND_READ, 0));
	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	kill_owner(s, false);
}

TEST_F_TIMEOUT(stall, owner_killed_uffd_kept, 300)
{
	struct scene *s = &self->scene;

	EXPECT_EQ(VALUE(0), actor_do(&s->b, BACKEND_READ, 0));
	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	kill_owner(s, true);
}

static void stop_process(struct actor *a)
{
	int status;

	TEST_ASSERT(!kill(a->pid, SIGSTOP), "SIGSTOP: %s", strerror(errno));
	TEST_ASSERT(waitpid(a->pid, &status, WUNTRACED) == a->pid && WIFSTOPPED(status),
		    "it does not stop");
}

/* The owner is stopped: its pages are as fast as before, and its death revokes them. */
TEST_F_TIMEOUT(stall, owner_stopped, 300)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->a);
	unsigned int page;

	stop_process(&s->owner);
	works(&s->a, exits);
	/* Pages that this backend touches for the first time. */
	for (page = 0; page < PAGES; page++)
		EXPECT_EQ(VALUE(page), actor_do(&s->b, BACKEND_READ, page));
	works(&s->b, exits);
	EXPECT_EQ(0, actor_do_fd(&s->b, BACKEND_MEMSLOTS, 0, s->domain));
	EXPECT_EQ(0, actor_do(&s->b, BACKEND_UNLINK, 0));
	EXPECT_EQ(0, actor_do_fd(&s->b, BACKEND_LINK, 0, s->domain));
	EXPECT_EQ(VALUE(1), actor_do(&s->b, BACKEND_READ, 1));
	actor_kill(&s->owner);
	EXPECT_EQ(HOLE, actor_do(&s->a, BACKEND_READ, 0));
	EXPECT_EQ(HOLE, actor_do(&s->b, BACKEND_READ, 1));
}

/* The owner's VMM answers its faults, and is stopped. */
TEST_F_TIMEOUT(stall, vmm_stopped, 300)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->b);
	unsigned int i;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	actor_do(&s->owner, OWNER_SERVE, 0);
	EXPECT_EQ(VALUE(STALLED), actor_do(&s->a, BACKEND_READ, STALLED));

	stop_process(&s->owner);
	actor_do(&s->a, BACKEND_START, STALLED + 1);
	ASSERT_TRUE(readable(s->uffd, LIMIT));
	works(&s->b, exits);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-EINTR, actor_do(&s->a, BACKEND_INTERRUPT, 0));
		actor_do(&s->a, BACKEND_CONTINUE, 0);
		ASSERT_TRUE(readable(s->uffd, LIMIT));
	}
	EXPECT_EQ(1, actor_do(&s->a, BACKEND_RUNS, 0));
	kill(s->owner.pid, SIGCONT);
	EXPECT_EQ(VALUE(STALLED + 1), actor_do(&s->a, BACKEND_WAIT, 0));
}

/*
 * Threads of the owner wait for the same page, and others queue up for the lock of
 * the address space.
 */
TEST_F_TIMEOUT(stall, owner_waits_too, 300)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->b);
	uint64_t addr;

	if (!scene_stall(s, false))
		SKIP(return, "no userfaultfd");
	actor_do(&s->owner, OWNER_TOUCH, STALLED);
	addr = stalled(s);
	EXPECT_EQ(addr, stall(s, &s->a, STALLED));
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_WRITERS, 0));
	nobody_else_waits(s, exits);
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_WRITERS, 0));
	EXPECT_EQ(-EINTR, actor_do(&s->a, BACKEND_INTERRUPT, 0));
	actor_do(&s->a, BACKEND_CONTINUE, 0);
	stalled(s);
	actor_kill(&s->a);
	works(&s->b, exits);
}

/* A change of the owner's address space that waits for its being heard of. */
TEST_F_TIMEOUT(stall, event_not_read, 300)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->b);
	struct uffd_msg msg;

	if (!scene_stall(s, true))
		SKIP(return, "no userfaultfd with events");
	stall(s, &s->a, STALLED);
	actor_do(&s->owner, OWNER_DISCARD, STALLED + 1);
	ASSERT_TRUE(readable(s->uffd, LIMIT));
	nobody_else_waits(s, exits);
	EXPECT_EQ(-EINTR, actor_do(&s->a, BACKEND_INTERRUPT, 0));
	ASSERT_EQ(sizeof(msg), read(s->uffd, &msg, sizeof(msg)));
	EXPECT_EQ(UFFD_EVENT_REMOVE, msg.event);
	actor_do(&s->a, BACKEND_CONTINUE, 0);
	stalled(s);
	actor_kill(&s->a);
}

/*
 * The lock of the owner's address space is taken for writing and stays so.  All
 * but the owner's threads for that are on another CPU than they.
 */
FIXTURE(stall_lock)
{
	struct scene scene;
};

FIXTURE_SETUP(stall_lock)
{
	struct scene *s = &self->scene;

	if (!hog_prepare())
		SKIP(return, "no second CPU that can be taken away from a thread");
	scene_start(s);
}

FIXTURE_TEARDOWN(stall_lock)
{
	struct scene *s = &self->scene;

	if (s->owner.sock)
		scene_end(s);
	hog_restore();
}

TEST_F_TIMEOUT(stall_lock, others, 300)
{
	struct scene *s = &self->scene;
	int64_t exits = exits_of(&s->b);

	ASSERT_EQ(0, actor_do(&s->owner, OWNER_HOLD, 0));
	/* A page that this backend has not touched: the vCPU needs the lock. */
	actor_do(&s->a, BACKEND_START, 0);
	usleep(100000);
	EXPECT_EQ(1, actor_do(&s->a, BACKEND_RUNS, 0));
	no_other_vm_waits(s, exits);
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_RELEASE, 0));
	EXPECT_EQ(VALUE(0), actor_do(&s->a, BACKEND_WAIT, 0));
}

TEST_F_TIMEOUT(stall_lock, interrupt, 300)
{
	struct scene *s = &self->scene;

	ASSERT_EQ(0, actor_do(&s->owner, OWNER_HOLD, 0));
	actor_do(&s->a, BACKEND_START, 0);
	usleep(100000);
	EXPECT_EQ(1, actor_do(&s->a, BACKEND_RUNS, 0));
	EXPECT_EQ(-EINTR, actor_do(&s->a, BACKEND_INTERRUPT, 0));
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_RELEASE, 0));
	actor_do(&s->a, BACKEND_CONTINUE, 0);
	EXPECT_EQ(VALUE(0), actor_do(&s->a, BACKEND_WAIT, 0));
}

TEST_F_TIMEOUT(stall_lock, kill_backend, 300)
{
	struct scene *s = &self->scene;

	ASSERT_EQ(0, actor_do(&s->owner, OWNER_HOLD, 0));
	actor_do(&s->a, BACKEND_START, 0);
	usleep(100000);
	EXPECT_EQ(1, actor_do(&s->a, BACKEND_RUNS, 0));
	actor_kill(&s->a);
	EXPECT_EQ(0, actor_do(&s->owner, OWNER_RELEASE, 0));
}

TEST_HARNESS_MAIN
