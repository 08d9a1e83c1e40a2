// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: translations that KVM makes, or looks at, without a fault.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm2vm_harness.h"
#include "vm2vm_lru.h"
#include "access.h"
#include "mem.h"

/* KVM_PRE_FAULT_MEMORY on pages of the window; returns -errno, and what is left. */
static int prefault(struct peer *p, uint64_t offset, uint64_t size, uint64_t *left)
{
	struct kvm_pre_fault_memory range = { .gpa = PEER_WINDOW + offset, .size = size };
	int r = __vcpu_ioctl(p->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? -errno : 0;

	if (left)
		*left = range.size;
	return r;
}

/* Have the guest's own memory there, by accesses to a window that has nothing yet. */
static void warm_up(struct peer *p, unsigned int pages)
{
	peer_sum(p, PEER_WINDOW, pages, 4096);
	peer_read(p, 0);
	peer_write(p, 0, 0);
	p->mmio = 0;
}

FIXTURE(prefault)
{
	struct peer p;
};

FIXTURE_SETUP(prefault)
{
	struct peer *p = &self->p;
	unsigned int i;

	peer_init(p, SIZE);
	if (!kvm_is_tdp_enabled())
		SKIP(return, "KVM has no two-dimensional paging");
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, 0);
	peer_map_window(p, PEER_WINDOW, p->size);
	warm_up(p, PAGES);
	approve(p, VM2VM_RW);
	for (i = 0; i < PAGES; i++)
		*word_at(p, i * 4096) = i;
}

FIXTURE_TEARDOWN(prefault)
{
	peer_free(&self->p);
}

static uint64_t faults(struct peer *p)
{
	return peer_vcpu_stat(p->vcpu, "pf_fixed") + peer_vcpu_stat(p->vcpu, "vm2vm_faults");
}

TEST_F(prefault, present)
{
	struct peer *p = &self->p;
	uint64_t before = peer_vcpu_stat(p->vcpu, "vm2vm_faults"), left, i;

	EXPECT_EQ(0, prefault(p, 0, SIZE, &left));
	EXPECT_EQ(0, left);
	EXPECT_EQ(before + PAGES, peer_vcpu_stat(p->vcpu, "vm2vm_faults"));
	before = faults(p);
	EXPECT_EQ(PAGES * (PAGES - 1) / 2, peer_sum(p, PEER_WINDOW, PAGES, 4096));
	for (i = 0; i < PAGES; i++)
		peer_write(p, i * 4096, i + 1);
	EXPECT_EQ(before, faults(p));
	EXPECT_EQ(PAGES, *word_at(p, (PAGES - 1) * 4096));

	/* It is revoked as ever, and again not there. */
	p->mmio = 0;
	vm2vm_unmap(p->domain, PEER_IOVA, SIZE);
	EXPECT_EQ(HOLE, peer_read(p, 0));
	EXPECT_EQ(1, p->mmio);
}

TEST_F(prefault, absent)
{
	struct peer *p = &self->p;
	uint64_t before, left;

	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	EXPECT_EQ(0, prefault(p, 0, SIZE, &left));
	EXPECT_EQ(0, left);
	before = faults(p);
	EXPECT_EQ(0, peer_sum(p, PEER_WINDOW, PAGES, 4096));
	EXPECT_EQ(before, faults(p));
}

/* As far as there is something. */
TEST_F(prefault, hole)
{
	uint64_t holes = peer_vcpu_stat(self->p.vcpu, "vm2vm_holes"), left;
	struct peer *p = &self->p;

	vm2vm_unmap(p->domain, PEER_IOVA + 3 * 4096, 4096);
	EXPECT_EQ(0, prefault(p, 0, SIZE, &left));
	EXPECT_EQ(SIZE - 3 * 4096, left);
	EXPECT_EQ(-ENOENT, prefault(p, SIZE - left, left, &left));
	EXPECT_EQ(SIZE - 3 * 4096, left);
	EXPECT_EQ(0, prefault(p, 4 * 4096, SIZE - 4 * 4096, &left));
	EXPECT_EQ(0, left);
	EXPECT_EQ(holes, peer_vcpu_stat(p->vcpu, "vm2vm_holes"));

	/* Nothing of the hole is kept. */
	vm2vm_map(p->domain, PEER_IOVA + 3 * 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
	p->mmio = 0;
	EXPECT_EQ(PAGES - 1, peer_read(p, 3 * 4096));
	EXPECT_EQ(0, p->mmio);
}

/* By a root that the removal of memory has made obsolete. */
TEST_F(prefault, obsolete)
{
	struct peer *p = &self->p;
	uint64_t left;

	EXPECT_EQ(0, prefault(p, 0, SIZE, NULL));
	vm2vm_unlink(p->backend, PEER_SLOT);
	EXPECT_EQ(-ENOENT, prefault(p, 0, SIZE, &left));
	EXPECT_EQ(SIZE, left);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, 0);
	EXPECT_EQ(0, prefault(p, 0, SIZE, &left));
	EXPECT_EQ(0, left);
	EXPECT_EQ(PAGES * (PAGES - 1) / 2, peer_sum(p, PEER_WINDOW, PAGES, 4096));
	EXPECT_EQ(0, p->mmio);
}

static struct {
	struct peer *p;
	bool stop;
	unsigned int done;
} prefaulting;

static void *prefault_thread(void *arg)
{
	int r;

	while (!READ_ONCE(prefaulting.stop)) {
		r = prefault(prefaulting.p, 0, SIZE, NULL);
		TEST_ASSERT(!r || r == -EAGAIN || r == -ENOENT, "prefault: %s", strerror(-r));
		WRITE_ONCE(prefaulting.done, prefaulting.done + 1);
	}
	return NULL;
}

/* The window goes and comes meanwhile: neither of both waits for the other. */
TEST_F_TIMEOUT(prefault, unlink, 120)
{
	unsigned int trials = vm2vm_trials(300), i;
	struct peer *p = &self->p;
	pthread_t thread;

	prefaulting.p = p;
	ASSERT_EQ(0, pthread_create(&thread, NULL, prefault_thread, NULL));
	for (i = 0; i < trials || READ_ONCE(prefaulting.done) < trials; i++) {
		usleep(i * 37 % 500);
		vm2vm_unlink(p->backend, PEER_SLOT);
		vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, 0);
	}
	WRITE_ONCE(prefaulting.stop, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, prefault(p, 0, SIZE, NULL));
	EXPECT_EQ(PAGES * (PAGES - 1) / 2, peer_sum(p, PEER_WINDOW, PAGES, 4096));
}

TEST_F(prefault, userfault)
{
	struct peer *p = &self->p;
	double start;
	int uffd;

	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	uffd = mem_userfault(p->mem, p->size);
	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	start = mem_now();
	EXPECT_EQ(-EAGAIN, prefault(p, 0, SIZE, NULL));
	EXPECT_GT(10, mem_now() - start);
	close(uffd);
	EXPECT_EQ(0, prefault(p, 0, SIZE, NULL));
}

/* What only the backend uses does not look idle to the owner's kernel. */
TEST(ageing)
{
	struct peer p;
	uint64_t before;
	unsigned int i;

	if (access(MEM_IDLE, W_OK))
		SKIP(return, "the kernel has no CONFIG_IDLE_PAGE_TRACKING");
	peer_init(&p, 4 * 4096);
	for (i = 0; i < 4; i++)
		*peer_word(&p, i * 4096) = i;
	peer_share(&p, VM2VM_RW, 0);
	EXPECT_EQ(6, peer_sum(&p, PEER_WINDOW, 4, 4096));
	EXPECT_EQ(1, peer_read(&p, 4096));
	peer_write(&p, 2 * 4096, 1);

	lru_settle();
	for (i = 0; i < 4; i++)
		mem_set_idle(p.mem + i * 4096);
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(mem_is_idle(p.mem + i * 4096));
	before = faults(&p);
	EXPECT_EQ(1, peer_read(&p, 4096));
	peer_write(&p, 2 * 4096, 2);
	EXPECT_EQ(before, faults(&p));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(i == 0 || i == 3, mem_is_idle(p.mem + i * 4096));
	EXPECT_EQ(0, p.mmio);
	peer_free(&p);
}

#define GIGABYTE	0x40000000ul
#define GIGABYTE_STEP	(16ul << 20)

/* What the alignment of the window to the owner's 1 GiB page leaves of it. */
static void expect_level(struct __test_metadata *_metadata, uint64_t *mem, uint64_t offset,
			 const char *stat, uint64_t count)
{
	const char * const stats[] = { "pages_1g", "pages_2m", "pages_4k" };
	uint64_t before[3], i, gva = PEER_WINDOW + offset;
	struct peer p;

	peer_init(&p, 4096);
	vm_set_user_memory_region(p.owner, 1, 0, GIGABYTE, GIGABYTE, mem);
	vm2vm_link(p.backend, p.domain, PEER_SLOT, gva, PEER_IOVA, GIGABYTE, 0);
	for (i = 0; i < 4; i++)
		virt_map_level(p.backend, gva + i * GIGABYTE_STEP, gva + i * GIGABYTE_STEP, 4096,
			       PG_LEVEL_4K);
	/* The guest's own memory is there then. */
	peer_sum(&p, gva, 4, GIGABYTE_STEP);
	peer_run(&p, PEER_WRITE, gva, 0, 0, 0);
	for (i = 0; i < 3; i++)
		before[i] = vm_get_stat(p.backend, stats[i]);

	p.mmio = 0;
	vm2vm_map(p.domain, PEER_IOVA, GIGABYTE, GIGABYTE, VM2VM_RW);
	EXPECT_EQ(0 + 1 + 2 + 3, peer_sum(&p, gva, 4, GIGABYTE_STEP));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(before[i] + (strcmp(stat, stats[i]) ? 0 : count),
			  vm_get_stat(p.backend, stats[i]));
	EXPECT_EQ(0, peer_run(&p, PEER_WRITE, gva + 8, 5, 0, 0));
	EXPECT_EQ(5, mem[1]);
	EXPECT_EQ(GIGABYTE, vm2vm_unmap(p.domain, PEER_IOVA, GIGABYTE));
	EXPECT_EQ(0, p.mmio);
	EXPECT_EQ(HOLE, peer_sum(&p, gva + GIGABYTE_STEP, 1, 8));
	EXPECT_EQ(1, p.mmio);
	peer_free(&p);
}

TEST(gigabyte)
{
	unsigned int i;
	uint64_t *mem;

	/* It writes beyond its memory for a page that is larger than a section. */
	if (!access("/sys/kernel/debug/page_owner", F_OK))
		SKIP(return, "Linux 6.12 has no page of 1 GiB with page_owner=on");
	mem = mem_1g();
	if (!mem)
		SKIP(return, "no page of 1 GiB: %s", strerror(errno));
	if (!kvm_is_tdp_enabled())
		SKIP(return, "KVM has no two-dimensional paging");
	for (i = 0; i < 4; i++)
		mem[i * (GIGABYTE_STEP / 8)] = i;
	expect_level(_metadata, mem, 0, "pages_1g", 1);
	expect_level(_metadata, mem, PEER_SIZE_2M, "pages_2m", 4);
	expect_level(_metadata, mem, 4096, "pages_4k", 4);
}
