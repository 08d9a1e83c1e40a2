// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: a page that is being revoked for as long as KVM tries.  The thread of
 * the owner's that does it is given no CPU meanwhile.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "vm2vm_cpu.h"
#include "vm2vm_harness.h"
#include "access.h"

#define BIG_SIZE	(64ul << 20)
#define BIG_GPA		0x80000000ul
#define TRIES		20

FIXTURE(busy)
{
	struct access a;
};

FIXTURE_SETUP(busy)
{
	if (!hog_prepare())
		SKIP(return, "no second CPU that can be taken away from a thread");
	access_init(&self->a, SIZE, access_guest);
}

FIXTURE_TEARDOWN(busy)
{
	hog_restore();
	if (self->a.p.owner)
		peer_free(&self->a.p);
}

struct freer {
	void *mem;
	bool stop;
};

/* All of the time it walks over the memory, and says so to whoever maps it. */
static void *free_all(void *arg)
{
	struct freer *f = arg;

	pin_to(HOG_CPU);
	while (!READ_ONCE(f->stop))
		TEST_ASSERT(!madvise(f->mem, BIG_SIZE, MADV_FREE), "MADV_FREE: %s",
			    strerror(errno));
	return NULL;
}

/* KVM gives up after 100 tries, and says so. */
TEST_F_TIMEOUT(busy, owner, 120)
{
	struct freer f = { .mem = peer_mmap(BIG_SIZE, MAP_POPULATE) };
	struct peer *p = &self->a.p;
	uint64_t busy = 0;
	pthread_t thread;
	unsigned int i;
	struct hog h;

	vm_set_user_memory_region(p->owner, 1, 0, BIG_GPA, BIG_SIZE, f.mem);
	vm2vm_map(p->domain, PEER_IOVA, BIG_GPA, 4096, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, 4096, 0);
	peer_map_window(p, PEER_WINDOW, 4096);
	*(uint64_t *)f.mem = VALUE;
	EXPECT_EQ((uint32_t)VALUE, access_out(&self->a, 0));
	EXPECT_EQ(0, peer_fd_stat(p->backend->fd, "vm2vm_owner_busy"));

	TEST_ASSERT(!pthread_create(&thread, NULL, free_all, &f), "pthread_create");
	for (i = 0; i < TRIES && !busy; i++) {
		usleep(10000);
		hog_start(&h, 60);
		if (access_out(&self->a, 0) == (uint32_t)HOLE)
			busy = peer_fd_stat(p->backend->fd, "vm2vm_owner_busy");
		hog_stop(&h);
	}
	EXPECT_EQ(1, busy);
	EXPECT_NE(0, self->a.holes);
	f.stop = true;
	pthread_join(thread, NULL);

	/* And then it is there. */
	*(uint64_t *)f.mem = OTHER;
	EXPECT_EQ((uint32_t)OTHER, access_out(&self->a, 0));
	EXPECT_EQ(1, peer_fd_stat(p->backend->fd, "vm2vm_owner_busy"));
}
