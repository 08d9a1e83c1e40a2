// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_miss_test: doorbells inside a window.  A write rings where it finds a hole,
 * and nowhere else.
 */
#include <sys/eventfd.h>

#include "miss.h"

static int make_bell(struct backend *b, unsigned int page)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	int r = __vm2vm_doorbell(b->vm, PEER_WINDOW + page * 4096ul, 8, 0, fd, 0);

	TEST_ASSERT(fd >= 0 && !r, "KVM_VM2VM_DOORBELL: %s", strerror(-r));
	return fd;
}

static uint64_t rings(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

TEST_F_TIMEOUT(miss, bell_hole, 120)
{
	struct runner *r = &self->b.r[0];
	int fd = make_bell(&self->b, 3);

	backend_link(&self->b, self->domain, 0);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 3, 1));
	EXPECT_EQ(1, rings(fd));
	EXPECT_EQ(0, r->mmio);
	EXPECT_EQ(1, holes(r));
	/* A read is the VMM's. */
	EXPECT_EQ(HOLE, read_now(r, 3));
	EXPECT_EQ(1, r->mmio);

	/* Approved for reading, it is a hole for writes. */
	map_pages(self->domain, 3, 1, RD);
	EXPECT_EQ(VALUE(3), read_now(r, 3));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 3, 2));
	EXPECT_EQ(1, rings(fd));
	EXPECT_EQ(VALUE(3), *word(self->mem, 3));

	/* Approved for writing, it is memory, which rings nothing. */
	unmap_pages(self->domain, 3, 1);
	map_pages(self->domain, 3, 1, VM2VM_RW);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 3, 3));
	EXPECT_EQ(0, rings(fd));
	EXPECT_EQ(3, *word(self->mem, 3));
	EXPECT_EQ(1, r->mmio);

	/* And again, once it is revoked for good. */
	vm2vm_end(self->domain);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 3, 4));
	EXPECT_EQ(1, rings(fd));
	EXPECT_EQ(1, r->mmio);
}

TEST_F_TIMEOUT(miss, bell_exit, 120)
{
	struct runner *r = &self->b.r[0];
	int fd = make_bell(&self->b, 3);

	backend_link(&self->b, self->domain, EXIT);
	access_start(r, MISS_WRITE, 3, 1);
	EXPECT_EQ(-EFAULT, access_end(r));
	EXPECT_EQ(0, rings(fd));
	map_pages(self->domain, 3, 1, VM2VM_RW);
	access_continue(r);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, *word(self->mem, 3));
	EXPECT_EQ(0, rings(fd));
	EXPECT_EQ(0, r->mmio);
}

TEST_F_TIMEOUT(miss, bell_wait, 120)
{
	struct runner *r = &self->b.r[0];
	int fd = make_bell(&self->b, 3);

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_WRITE, 3, 1);
	expect_miss(self->domain, 3, VM2VM_RW);
	still_waits(r, 1);
	EXPECT_EQ(0, rings(fd));
	EXPECT_EQ(1, refuse_pages(self->domain, 3, 1));
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, rings(fd));

	access_start(r, MISS_WRITE, 3, 2);
	expect_miss(self->domain, 3, VM2VM_RW);
	map_pages(self->domain, 3, 1, VM2VM_RW);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(0, rings(fd));
	EXPECT_EQ(2, *word(self->mem, 3));
	EXPECT_EQ(0, r->mmio);
}
