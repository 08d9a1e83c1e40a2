// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bound_test: what the kernel does for something that an owner has much of is no more
 * than it has to be.  It is counted, or compared with the same for little.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "vm2vm_harness.h"
#include "vm2vm_peer.h"

#define PAGES		8ul
#define WINDOW_SIZE	0x40000000ul

FIXTURE(cost)
{
	struct peer p;
};

FIXTURE_SETUP(cost)
{
	peer_init(&self->p, PAGES * 4096);
	virt_map_level(self->p.backend, PEER_WINDOW, PEER_WINDOW, WINDOW_SIZE, PG_LEVEL_1G);
}

FIXTURE_TEARDOWN(cost)
{
	peer_free(&self->p);
}

/* Approve iovas number @first up to @end for the owner's first page. */
static void approve(struct peer *p, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		vm2vm_map(p->domain, PEER_IOVA + first * 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

#define BESIDE		500ul		/* pages at either side */
#define TURN		10ul		/* pages that are read at a time */
#define BATCH		4096ul		/* how many mappings UNMAP removes at once */
#define BATCHES		8

/* A thread that has UNMAP remove BATCHES times BATCH mappings, from iova number @first on. */
struct unmap {
	struct peer *p;
	uint64_t first;
	pthread_t thread;
};

static void *unmap_thread(void *arg)
{
	struct unmap *u = arg;

	vm2vm_unmap(u->p->domain, PEER_IOVA + u->first * 4096, BATCHES * BATCH * 4096);
	return NULL;
}

/* Start it, and wait until UNMAP is through with the first batch. */
static void unmap_start(struct unmap *u)
{
	uint64_t revokes = peer_fd_stat(u->p->owner->fd, "vm2vm_revokes");

	TEST_ASSERT(!pthread_create(&u->thread, NULL, unmap_thread, u), "pthread_create");
	while (peer_fd_stat(u->p->owner->fd, "vm2vm_revokes") == revokes)
		sched_yield();
}

/*
 * What is on either side of what UNMAP is at takes one look, by @stat, each.  The end of each
 * batch may cost another one.
 */
static void check_beside(struct peer *p, uint64_t first, uint64_t end, uint32_t flags,
			 const char *stat)
{
	const uint64_t behind = BESIDE + BATCHES * BATCH;
	struct unmap u = { .p = p, .first = BESIDE };
	uint64_t looks, i;

	approve(p, first, end);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   (behind + BESIDE) * 4096, flags);
	looks = peer_vcpu_stat(p->vcpu, stat);
	unmap_start(&u);
	/* By turns: UNMAP is not at it for long. */
	for (i = 0; i < BESIDE; i += TURN) {
		peer_sum(p, PEER_WINDOW + i * 4096, TURN, 4096);
		peer_sum(p, PEER_WINDOW + (behind + i) * 4096, TURN, 4096);
	}
	pthread_join(u.thread, NULL);
	looks = peer_vcpu_stat(p->vcpu, stat) - looks;
	TEST_ASSERT(looks >= 2 * BESIDE && looks <= 2 * BESIDE + 2 * BATCHES,
		    "%lu pages took %lu looks", 2 * BESIDE, looks);
	TEST_ASSERT_EQ(0, p->mmio);
}

TEST_F_TIMEOUT(cost, faults_beside, 120)
{
	check_beside(&self->p, 0, 2 * BESIDE + BATCHES * BATCH, 0, "vm2vm_faults");
}

TEST_F_TIMEOUT(cost, fillers_beside, 120)
{
	check_beside(&self->p, BESIDE, BESIDE + BATCHES * BATCH, KVM_VM2VM_LINK_FILL,
		     "vm2vm_fills");
}

#define AHEAD		50ul		/* pages at the end of what UNMAP is at */

/* Whether the last pages are there, for a look each, while UNMAP is at the first ones. */
static bool there_ahead(struct peer *p)
{
	const uint64_t all = BATCHES * BATCH;
	struct unmap u = { .p = p };
	uint64_t looks;

	approve(p, 0, all);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, all * 4096, 0);
	p->mmio = 0;
	looks = peer_vcpu_stat(p->vcpu, "vm2vm_faults");
	unmap_start(&u);
	peer_sum(p, PEER_WINDOW + (all - AHEAD) * 4096, AHEAD, 4096);
	pthread_join(u.thread, NULL);
	looks = peer_vcpu_stat(p->vcpu, "vm2vm_faults") - looks;
	vm2vm_unlink(p->backend, PEER_SLOT);
	ksft_print_msg("%lu looks, %u holes\n", looks, p->mmio);
	return !p->mmio && looks <= AHEAD + 2 * BATCHES;
}

/* Others may have the CPU while UNMAP goes on: one time tells. */
TEST_F_TIMEOUT(cost, faults_ahead, 120)
{
	bool there = false;
	unsigned int i;

	for (i = 0; i < 5 && !there; i++)
		there = there_ahead(&self->p);
	EXPECT_TRUE(there);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

#define TRIALS	20

/* Seconds to take the first page away that it takes when others have the CPU least. */
static double dontneed_time(struct peer *p)
{
	double t, best = 100;
	unsigned int i;

	for (i = 0; i < TRIALS; i++) {
		*peer_word(p, 0) = i;
		TEST_ASSERT_EQ(i, peer_read(p, 0));
		t = seconds();
		TEST_ASSERT(!madvise(p->mem, 4096, MADV_DONTNEED), "madvise");
		t = seconds() - t;
		best = t < best ? t : best;
	}
	return best;
}

/* One after the other are one part; but no more of them are looked at than of any others. */
TEST_F_TIMEOUT(cost, aliases_in_a_row, 120)
{
	const uint64_t few = 300, many = 50000;
	struct peer *p = &self->p;
	double t[2];

	approve(p, 0, few);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, many * 4096, 0);
	t[0] = dontneed_time(p);
	approve(p, few, many);
	t[1] = dontneed_time(p);
	ksft_print_msg("%lu aliases: %.6f s, %lu: %.6f s\n", few, t[0], many, t[1]);
	EXPECT_LT(t[1], 10 * t[0]);
}

/* Likewise to harvest the log, with so many of the pages written to. */
static double harvest_time(struct peer *p, uint64_t written)
{
	double t, best = 100;
	uint64_t bitmap, i, k;

	for (i = 0; i < TRIALS; i++) {
		for (k = 0; k < written; k++)
			peer_write(p, k * 4096, i);
		t = seconds();
		kvm_vm_get_dirty_log(p->owner, 0, &bitmap);
		t = seconds() - t;
		TEST_ASSERT_EQ((1ul << written) - 1, bitmap);
		best = t < best ? t : best;
	}
	return best;
}

/* To take write access from a page is to go to the backend once. */
TEST_F(cost, harvest)
{
	struct peer *p = &self->p;
	double t[2];

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, PAGES * 4096, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, PAGES * 4096, 0);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_LOG_DIRTY_PAGES, PEER_OWNER_GPA, p->size,
				  p->mem);
	t[0] = harvest_time(p, 0);
	t[1] = harvest_time(p, PAGES);
	ksft_print_msg("nothing: %.6f s, %lu pages: %.6f s\n", t[0], PAGES, t[1]);
	EXPECT_LT(t[1], 100 * t[0]);
}
