// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: owners whose user space has to be asked for a page, by the kind of
 * memory, and that die while they are asked.
 *
 * A fault in shmem may have to wait for a hole that is being punched, before it comes to
 * ask, one in hugetlb for a mutex, and no signal ends that.  So they are not for a backend's
 * thread.
 */
#include <linux/userfaultfd.h>

#include "vm2vm_harness.h"
#include "vm2vm_peer.h"
#include "stall.h"

/* An owner, and two backends of its domain.  Its faults are answered here. */
FIXTURE(asked)
{
	struct actor owner, a, b;
	int domain, uffd;
	size_t page_size;
};

FIXTURE_VARIANT(asked)
{
	enum owner_memory memory;
};

FIXTURE_VARIANT_ADD(asked, anonymous) { .memory = OWNER_ANONYMOUS };
FIXTURE_VARIANT_ADD(asked, shmem) { .memory = OWNER_SHMEM };
FIXTURE_VARIANT_ADD(asked, hugetlb) { .memory = OWNER_HUGETLB };

FIXTURE_SETUP(asked)
{
	actor_start(&self->owner, owner_process);
	actor_start(&self->a, backend_process);
	actor_start(&self->b, backend_process);
	if (actor_do(&self->owner, OWNER_SHARE, variant->memory) < 0)
		SKIP(return, "no memory of this kind");
	self->domain = self->owner.fd;
	self->page_size = variant->memory == OWNER_HUGETLB ? PEER_SIZE_2M : 4096;
	ASSERT_EQ(0, actor_do_fd(&self->a, BACKEND_LINK, 0, self->domain));
	ASSERT_EQ(0, actor_do_fd(&self->b, BACKEND_LINK, 0, self->domain));
	if (actor_do(&self->owner, OWNER_STALL, false) < 0)
		SKIP(return, "no userfaultfd");
	self->uffd = self->owner.fd;
}

FIXTURE_TEARDOWN(asked)
{
	actor_kill(&self->a);
	actor_kill(&self->owner);
	actor_kill(&self->b);
	close(self->domain);
	if (self->uffd > 0)
		close(self->uffd);
}

/* Wait until somebody asks for a page; returns its address in the owner. */
static uint64_t wait_asked(struct _test_data_asked *self)
{
	struct uffd_msg msg;

	TEST_ASSERT(readable(self->uffd, LIMIT), "no fault in %u s", LIMIT);
	TEST_ASSERT(read(self->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT, "userfaultfd: %s", strerror(errno));
	return msg.arg.pagefault.address;
}

/* A signal ends the wait, and the answer gives the page. */
TEST_F_TIMEOUT(asked, interrupt, 300)
{
	bool asks = variant->memory == OWNER_ANONYMOUS;
	uint64_t addr;

	actor_do(&self->a, BACKEND_START, STALLED);
	addr = wait_asked(self);
	EXPECT_EQ(1, actor_do(&self->a, BACKEND_RUNS, 0));
	EXPECT_EQ(asks, actor_do(&self->a, BACKEND_ASKS, 0));
	EXPECT_EQ(-EINTR, actor_do(&self->a, BACKEND_INTERRUPT, 0));
	actor_do(&self->a, BACKEND_CONTINUE, 0);
	/* Who leaves takes the question along, or there is a request that goes on. */
	if (asks)
		EXPECT_EQ(addr, wait_asked(self));
	EXPECT_EQ(asks, actor_do(&self->a, BACKEND_ASKS, 0));
	EXPECT_EQ(VALUE(1), actor_do(&self->b, BACKEND_READ, 1));
	EXPECT_EQ(0, actor_do(&self->a, BACKEND_UNLINK, 0));
	EXPECT_EQ(-EINTR, actor_do(&self->a, BACKEND_INTERRUPT, 0));
	EXPECT_EQ(0, actor_do_fd(&self->a, BACKEND_LINK, 0, self->domain));
	actor_do(&self->a, BACKEND_CONTINUE, 0);
	answer(self->uffd, addr, STALLED, self->page_size);
	EXPECT_EQ(VALUE(STALLED), actor_do(&self->a, BACKEND_WAIT, 0));
	EXPECT_EQ(VALUE(STALLED), actor_do(&self->b, BACKEND_READ, STALLED));
}

/* So does death, of the backend's. */
TEST_F_TIMEOUT(asked, kill_backend, 300)
{
	uint64_t addr;

	actor_do(&self->a, BACKEND_START, STALLED);
	addr = wait_asked(self);
	actor_kill(&self->a);
	EXPECT_EQ(VALUE(1), actor_do(&self->b, BACKEND_READ, 1));
	answer(self->uffd, addr, STALLED, self->page_size);
	EXPECT_EQ(VALUE(STALLED), actor_do(&self->b, BACKEND_READ, STALLED));
}

/*
 * Who waits keeps the owner's address space, and somebody else has its VM's descriptor:
 * its death ends its domains all the same.
 */
TEST_F_TIMEOUT(asked, owner_killed_vm_held, 300)
{
	int vm;

	EXPECT_EQ(VALUE(0), actor_do(&self->b, BACKEND_READ, 0));
	actor_do(&self->owner, OWNER_VM, 0);
	vm = self->owner.fd;
	TEST_ASSERT(vm >= 0, "no VM");
	actor_do(&self->a, BACKEND_START, STALLED);
	wait_asked(self);
	/* It is still watched when it has waited for some time. */
	sleep(3);
	EXPECT_EQ(VALUE(0), actor_do(&self->b, BACKEND_READ, 0));

	actor_kill(&self->owner);
	EXPECT_TRUE(ends_soon(self->domain));
	EXPECT_EQ(HOLE, actor_do(&self->b, BACKEND_READ, 0));
	EXPECT_EQ(1, actor_do(&self->a, BACKEND_RUNS, 0));
	EXPECT_EQ(-EINTR, actor_do(&self->a, BACKEND_INTERRUPT, 0));
	actor_do(&self->a, BACKEND_CONTINUE, 0);
	EXPECT_EQ(HOLE, actor_do(&self->a, BACKEND_WAIT, 0));
	close(vm);
}
