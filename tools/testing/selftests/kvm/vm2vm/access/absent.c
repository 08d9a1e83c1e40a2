// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: accesses to memory of the owner that is not there, or is shared with
 * somebody else: never touched, given back, swapped, copy-on-write, asked for.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vm2vm_fuse.h"
#include "vm2vm_harness.h"
#include "vm2vm_lru.h"
#include "access.h"
#include "fixture.h"
#include "mem.h"

/* Memory that the owner never touched, or gave back: it comes in by the access. */
TEST_F(access, absent)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;

	share(p, VM2VM_RW, 0);
	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	EXPECT_EQ(0, access_out(a, 0));
	access_write(a, 0, VALUE);
	EXPECT_EQ(VALUE, *word_at(p, 0));
	EXPECT_EQ(VALUE >> 32, access_out(a, 4));
	access_write(a, 4096, OTHER);
	EXPECT_EQ(OTHER, *word_at(p, 4096));
	access_do(a, ACCESS_MOVSQ, PEER_WINDOW + 8196, DEV_GPA, 600, 0);
	EXPECT_TRUE(!memcmp(word_at(p, 8196), a->dev, 4092));
	EXPECT_TRUE(!memcmp(word_at(p, 3 * 4096), a->dev + 4092, 708));
	EXPECT_EQ(0, a->holes);

	/* Not for this access. */
	TEST_ASSERT(!mprotect(word_at(p, 0), 4096, PROT_READ), "mprotect");
	access_write(a, 0, OTHER);
	EXPECT_EQ(8, a->holes);
	EXPECT_EQ(VALUE, access_read(a, 0));
	TEST_ASSERT(!mprotect(word_at(p, 0), 4096, PROT_NONE), "mprotect");
	EXPECT_EQ(HOLE, access_read(a, 0));
	TEST_ASSERT(!munmap(word_at(p, 4096), 4096), "munmap");
	EXPECT_EQ(HOLE, access_read(a, 4096));
	EXPECT_EQ(24, a->holes);
}

/* Memory that is the owner's secret, of which the kernel has no mapping either. */
TEST_F(access, secret)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "memfd_secret: %s", strerror(errno));
	TEST_ASSERT(!ftruncate(fd, SIZE), "ftruncate: %s", strerror(errno));
	TEST_ASSERT(mmap(p->mem, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    p->mem, "mmap");
	*word_at(p, 0) = VALUE;
	share(p, VM2VM_RW, 0);
	EXPECT_EQ(HOLE, access_read(a, 0));
	access_write(a, 0, OTHER);
	EXPECT_EQ(VALUE, *word_at(p, 0));
	EXPECT_EQ(16, a->holes);
	EXPECT_EQ(~0u, access_out(a, 0));
	close(fd);
}

/* Holes in a file. */
TEST_F(access, file)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	int fd = memfd_create("vm2vm", MFD_CLOEXEC);

	/* It is for a work item to bring in a page of a file. */
	a->patient = true;
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, SIZE), "memfd: %s", strerror(errno));
	TEST_ASSERT(mmap(p->mem, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    p->mem, "mmap");
	share(p, VM2VM_RW, 0);
	EXPECT_EQ(0, access_out(a, 0));
	access_write(a, 4096, VALUE);
	EXPECT_EQ(VALUE, *word_at(p, 4096));
	TEST_ASSERT(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), "hole");
	access_write(a, 0, OTHER);
	EXPECT_EQ(OTHER, *word_at(p, 0));
	EXPECT_EQ(0, access_out(a, 4096));
	EXPECT_EQ(0, a->holes);

	/* Beyond its end. */
	TEST_ASSERT(!ftruncate(fd, owner_offset(0)), "ftruncate");
	EXPECT_EQ(HOLE, access_read(a, 0));
	close(fd);
}

#define GOES_SIZE	(64ul << 20)

/* A process with memory of its own, whose holes in a file have to be brought in. */
static void goes(void)
{
	void *mem = mmap(NULL, GOES_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	int fd = memfd_create("vm2vm", MFD_CLOEXEC);
	static struct access a;
	unsigned int i;

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	memset(mem, 1, GOES_SIZE);
	access_init(&a, SIZE, access_guest);
	a.patient = true;
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, SIZE), "memfd: %s", strerror(errno));
	TEST_ASSERT(mmap(a.p.mem, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    a.p.mem, "mmap");
	share(&a.p, VM2VM_RW, 0);
	for (i = 0; i < PAGES; i++)
		access_write(&a, i * 4096, VALUE);
	_exit(*word_at(&a.p, 0) != VALUE);
}

/* What a process had is free when it is gone: nobody keeps its address space. */
TEST(owner_goes)
{
	uint64_t before = vm2vm_free_memory();
	unsigned int i;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		goes();
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (i = 0; i < 1000 && vm2vm_free_memory() + GOES_SIZE / 2 < before; i++)
		usleep(10000);
	EXPECT_GT(1000, i);
}

/* A file whose server keeps KVM waiting: in time there is a hole, and later the page. */
TEST_F_TIMEOUT(access, file_not_answered, 120)
{
	const uint64_t stuck = FUSE_STUCK * 4096;
	struct access *a = &self->a;
	struct peer *p = &a->p;
	struct fuse_server server;
	uint32_t val = -1;
	unsigned int i;
	double start;

	if (!fuse_start(&server))
		SKIP(return, "no FUSE");
	TEST_ASSERT(mmap(p->mem, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, server.file,
			 stuck) == p->mem && !madvise(p->mem, SIZE, MADV_RANDOM), "mmap");
	share(p, VM2VM_RW, 0);
	start = mem_now();
	EXPECT_EQ((uint32_t)HOLE, access_out(a, 0));
	EXPECT_GT(30, mem_now() - start);
	EXPECT_LE(1, peer_fd_stat(p->backend->fd, "vm2vm_owner_slow"));
	/* Who brings the page in may have been slow to ask. */
	fuse_wait_for(&server, 1);
	EXPECT_EQ(1, fuse_waiting(&server));
	EXPECT_NE(0, a->holes);
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW, PEER_IOVA, 4096, 0);
	vm2vm_unlink(p->backend, PEER_SLOT + 1);

	fuse_release(&server);
	for (i = 0; i < 100 && val == (uint32_t)HOLE; i++)
		val = access_out(a, 0);
	EXPECT_EQ((uint32_t)FUSE_VALUE(FUSE_STUCK + owner_offset(0) / 4096), val);
	fuse_kill(&server);
}

/* The pages that the guest, or KVM for it, has read and written are nobody's but the owner's. */
TEST_F(access, not_pinned)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	unsigned int i, tries;
	bool moved;

	if (!mem_has_nodes())
		SKIP(return, "no two nodes of memory");
	share(p, VM2VM_RW, 0);
	for (i = 0; i < 4; i++)
		*word_at(p, i * 4096) = VALUE + i;
	access_do(a, ACCESS_MOVSQ_ONE, PEER_WINDOW + 4096, PEER_WINDOW, 0, 0);
	EXPECT_EQ(VALUE + 2, access_read(a, 2 * 4096));
	access_write(a, 3 * 4096, VALUE);
	for (i = 0; i < 4; i++) {
		/* It may be on its way to the lists of pages. */
		for (moved = false, tries = 0; !moved && tries < 100; tries++) {
			lru_settle();
			moved = mem_move(word_at(p, i * 4096));
		}
		EXPECT_TRUE(moved);
	}
	for (i = 0; i < 4; i++)
		EXPECT_EQ(VALUE + (i == 2 ? 2 : 0), access_read(a, i * 4096));
	EXPECT_EQ(0, a->holes);
}

TEST_F(access, swapped)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	unsigned int i, tries;
	long swap;

	swap = mem_swap_start();
	if (swap < 0)
		SKIP(return, "no swap in compressed memory");
	/* It is for a work item if the page is locked just then. */
	a->patient = true;
	share(p, VM2VM_RW, 0);
	for (i = 0; i < 4; i++) {
		*word_at(p, i * 4096) = VALUE + i;
		for (tries = 0; tries < 100 && !mem_is_swapped(word_at(p, i * 4096)); tries++) {
			lru_settle();
			TEST_ASSERT(!madvise(word_at(p, i * 4096), 4096, MADV_PAGEOUT),
				    "MADV_PAGEOUT: %s", strerror(errno));
			usleep(10000);
		}
		ASSERT_TRUE(mem_is_swapped(word_at(p, i * 4096)));
		if (i % 2) {
			EXPECT_EQ((uint32_t)(VALUE + i), access_out(a, i * 4096));
		} else {
			access_write(a, i * 4096 + 8, OTHER);
			EXPECT_EQ(OTHER, *word_at(p, i * 4096 + 8));
			EXPECT_EQ(VALUE + i, *word_at(p, i * 4096));
		}
	}
	EXPECT_EQ(0, a->holes);
	mem_swap_stop(swap);
}

static bool swap_stop;

/* A thread that has the owner's page at @arg written to swap, again and again. */
static void *swap_out(void *arg)
{
	while (!READ_ONCE(swap_stop)) {
		lru_settle();
		madvise(arg, 4096, MADV_PAGEOUT);
	}
	return NULL;
}

/*
 * The owner's page is written out, and so clean again, between the moment that KVM looks
 * it up and its write.  It is dirty for that write, or else reclaim would drop it.
 */
TEST_F_TIMEOUT(access, written_while_swapped, 120)
{
	unsigned int i, trials = vm2vm_trials(50);
	struct access *a = &self->a;
	struct peer *p = &a->p;
	pthread_t thread;
	long swap;

	swap = mem_swap_start();
	if (swap < 0)
		SKIP(return, "no swap in compressed memory");
	/* It is for a work item if the page is locked just then. */
	a->patient = true;
	share(p, VM2VM_RW, 0);
	for (i = 0; i < trials; i++) {
		WRITE_ONCE(swap_stop, false);
		pthread_create(&thread, NULL, swap_out, word_at(p, 0));
		access_write(a, 8, VALUE + i);
		/* Until it was reclaimed at least once after that. */
		usleep(20000);
		WRITE_ONCE(swap_stop, true);
		pthread_join(thread, NULL);
		TEST_ASSERT_EQ(*word_at(p, 8), VALUE + i);
	}
	EXPECT_EQ(0, a->holes);
	mem_swap_stop(swap);
}

/* Copy-on-write: KVM writes to the owner's copy, and not to its child's. */
TEST_F(access, copy_on_write)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	int to_child[2], status;
	pid_t pid;
	char c;

	share(p, VM2VM_RW, 0);
	*word_at(p, 0) = VALUE;
	TEST_ASSERT(!pipe(to_child), "pipe");
	pid = fork();
	if (!pid) {
		close(to_child[1]);
		_exit(read(to_child[0], &c, 1) == 0 && *word_at(p, 0) == VALUE ? 0 : 1);
	}
	access_write(a, 0, OTHER);
	EXPECT_EQ(OTHER, *word_at(p, 0));
	EXPECT_EQ((uint32_t)OTHER, access_out(a, 0));
	close(to_child[1]);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, a->holes);
}

/*
 * What has to be asked for is not there, for KVM: it holds up others meanwhile.  The
 * answer takes a few ticks for each access.
 */
static int start_userfault(struct peer *p)
{
	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	return mem_userfault(p->mem, p->size);
}

TEST_F(access, userfault)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	double start;
	int uffd;

	share(p, VM2VM_RW, 0);
	uffd = start_userfault(p);
	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	start = mem_now();
	access_write(a, 0, VALUE);
	/* There is some time to answer, which is counted in ticks. */
	EXPECT_LT(10 * mem_tick(), mem_now() - start);
	EXPECT_GT(10, mem_now() - start);
	EXPECT_EQ(8, a->holes);
	close(uffd);
	access_write(a, 0, VALUE);
	EXPECT_EQ(VALUE, *word_at(p, 0));
	EXPECT_EQ(8, a->holes);
}

TEST_F(forced, userfault)
{
	struct access *a = &self->a;
	double start;
	int uffd;

	uffd = start_userfault(&a->p);
	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	start = mem_now();
	access_do(a, ACCESS_LOAD, 0, PEER_WINDOW, 0, 0);
	EXPECT_EQ(HOLE, a->cmd->val);
	access_do(a, ACCESS_STORE, PEER_WINDOW, 0, 0, VALUE);
	EXPECT_GT(10, mem_now() - start);
	EXPECT_EQ(16, a->holes);
	close(uffd);
	access_do(a, ACCESS_LOAD, 0, PEER_WINDOW, 0, 0);
	EXPECT_EQ(0, a->cmd->val);
	EXPECT_EQ(16, a->holes);
}
