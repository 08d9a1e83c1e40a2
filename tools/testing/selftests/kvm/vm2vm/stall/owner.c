// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: the owner, and the ways in which it keeps others waiting.
 */
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "stall.h"
#include "vm2vm_cpu.h"
#include "vm2vm_peer.h"
#include "vm2vm_peer_check.h"

#define BIG_SIZE	(512ul << 20)	/* of a mapping that takes long to change */

static struct {
	struct kvm_vm *vm;
	void *mem;
	int discard;		/* advice that takes its pages away */
	size_t page_size;
	int domain;
	int uffd;
	pthread_t thread;	/* any: they end with the process */
	/* To keep the lock of the address space taken */
	void *big;
	pthread_t writer, hog, prober;
	bool stop_writer, stop_hog;
	unsigned long writes;
	bool probe, probed;
} owner;

static void *owner_page(unsigned int page)
{
	return owner.mem + page * 4096;
}

static int owner_map(unsigned int page)
{
	return __vm2vm_map(owner.domain, PEER_IOVA + page * 4096, PEER_OWNER_GPA + page * 4096,
			   4096, VM2VM_RW);
}

/* Memory of a file that nobody has a name for. */
static void *owner_shmem(void)
{
	int fd = memfd_create("vm2vm", MFD_CLOEXEC);
	void *mem;

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, PAGES * 4096), "memfd: %s", strerror(errno));
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

/* The end of a huge page, and the beginning of another, which has those of STALLED. */
static void *owner_hugetlb(void)
{
	void *mem;

	/* Some of the tests' before may not be back yet. */
	peer_reserve_hugetlb(8);
	mem = peer_mmap(2 * PEER_SIZE_2M, MAP_HUGETLB | MAP_HUGE_2MB);
	return mem ? mem + PEER_SIZE_2M - STALLED * 4096 : NULL;
}

static void *owner_memory(enum owner_memory memory)
{
	switch (memory) {
	case OWNER_SHMEM:
		return owner_shmem();
	case OWNER_HUGETLB:
		return owner_hugetlb();
	default:
		return peer_mmap(PAGES * 4096, 0);
	}
}

/* Approve all pages, one by one. */
static int owner_share(enum owner_memory memory)
{
	unsigned int i;

	owner.discard = memory == OWNER_SHMEM ? MADV_REMOVE : MADV_DONTNEED;
	owner.page_size = memory == OWNER_HUGETLB ? PEER_SIZE_2M : 4096;
	owner.mem = owner_memory(memory);
	if (!owner.mem)
		return -ENOMEM;
	TEST_ASSERT(memory == OWNER_HUGETLB || !madvise(owner.mem, PAGES * 4096, MADV_NOHUGEPAGE),
		    "madvise: %s", strerror(errno));
	owner.vm = vm_create_barebones();
	vm_set_user_memory_region(owner.vm, 0, 0, PEER_OWNER_GPA, PAGES * 4096, owner.mem);
	owner.domain = vm2vm_create_domain(owner.vm);
	for (i = 0; i < PAGES; i++) {
		*(uint64_t *)owner_page(i) = VALUE(i);
		TEST_ASSERT(!owner_map(i), "KVM_VM2VM_MAP");
	}
	return owner.domain;
}

/*
 * Take the second half of the memory away, for somebody to answer the faults on.
 * Returns the descriptor to do so.  @events: changes are reported, too, and wait
 * for that.
 */
static int owner_stall(bool events)
{
	struct uffdio_register reg = {
		.range = {
			(uintptr_t)owner_page(STALLED),
			max((PAGES - STALLED) * 4096ul, owner.page_size)
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = events ? UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
				     UFFD_FEATURE_EVENT_UNMAP : 0,
	};

	owner.uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (owner.uffd < 0 || ioctl(owner.uffd, UFFDIO_API, &api))
		return -EOPNOTSUPP;
	TEST_ASSERT(!madvise(owner_page(STALLED), reg.range.len, owner.discard), "madvise: %s",
		    strerror(errno));
	TEST_ASSERT(!ioctl(owner.uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	return owner.uffd;
}

void answer(int uffd, uint64_t addr, unsigned int page, size_t size)
{
	/* Not static: the guests are loaded with all of that. */
	uint64_t *contents = calloc(1, size);
	unsigned int in = size > 4096 ? page - STALLED : 0;
	struct uffdio_copy copy = {
		.dst = addr & -size, .src = (uintptr_t)contents, .len = size,
	};

	TEST_ASSERT(contents, "calloc");
	contents[in * 512] = VALUE(page);
	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
	free(contents);
}

/* The owner's VMM answers by itself, as long as it runs. */
static void *owner_serve(void *arg)
{
	struct uffd_msg msg;

	for (;;) {
		if (!readable(owner.uffd, LIMIT) ||
		    read(owner.uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		if (msg.event == UFFD_EVENT_PAGEFAULT)
			answer(owner.uffd, msg.arg.pagefault.address,
			       (msg.arg.pagefault.address - (uintptr_t)owner.mem) / 4096, 4096);
	}
	return NULL;
}

/* The second half of the memory is @file from now on, at random. */
static int owner_file(int file, bool shared)
{
	size_t size = (PAGES - STALLED) * 4096;
	void *mem = owner_page(STALLED);

	if (mmap(mem, size, PROT_READ | PROT_WRITE, MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE),
		 file, 0) != mem || madvise(mem, size, MADV_RANDOM))
		return -errno;
	return 0;
}

/* Have a page of the file written to it, and wait for that. */
static void *owner_dirty(void *page)
{
	WRITE_ONCE(*(uint64_t *)page, 1);
	msync(page, 4096, MS_SYNC);
	return NULL;
}

static int owner_memslot(void)
{
	vm_set_user_memory_region(owner.vm, 0, 0, PEER_OWNER_GPA, 0, owner.mem);
	vm_set_user_memory_region(owner.vm, 0, 0, PEER_OWNER_GPA, PAGES * 4096, owner.mem);
	return 0;
}

/* A thread of the owner waits for the same as the backend's vCPU. */
static void *owner_touch(void *page)
{
	READ_ONCE(*(uint64_t *)page);
	return NULL;
}

/* And one that waits until the event is read. */
static void *owner_discard(void *page)
{
	madvise(page, 4096, MADV_DONTNEED);
	return NULL;
}

/* The address space changes all the time, beside what is shared. */
static void *owner_writer(void *arg)
{
	void *area = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *from, *to = area + 8 * 4096;

	for (;;) {
		from = mmap(area, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			    MAP_FIXED, -1, 0);
		WRITE_ONCE(*(int *)from, 1);
		TEST_ASSERT(mremap(from, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to &&
			    !mprotect(to, 4096, PROT_READ) && !munmap(to, 4096), "mremap");
		WRITE_ONCE(owner.writes, owner.writes + 1);
	}
	return NULL;
}

/* Returns when all of it has been done a few times. */
static int owner_writers(void)
{
	unsigned long end = owner.writes + 100;
	uint64_t start = now_ms();

	if (!owner.writes)
		start_thread(&owner.thread, owner_writer, NULL);
	while (READ_ONCE(owner.writes) < end) {
		if (now_ms() - start > LIMIT * 500ul)
			return -ETIMEDOUT;
		usleep(10000);
	}
	return 0;
}

/*
 * Keep the lock of the owner's address space taken for writing: one thread does
 * not much else than to take it, on a CPU that it is given no time on any more.
 */

static void *hold_writer(void *arg)
{
	pin_to(HOG_CPU);
	while (!READ_ONCE(owner.stop_writer)) {
		mprotect(owner.big, BIG_SIZE, PROT_NONE);
		mprotect(owner.big, BIG_SIZE, PROT_READ);
		WRITE_ONCE(owner.writes, owner.writes + 1);
	}
	return NULL;
}

static void *hold_hog(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };

	pin_to(HOG_CPU);
	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "SCHED_FIFO: %s", strerror(errno));
	while (!READ_ONCE(owner.stop_hog))
		;
	return NULL;
}

static void *hold_prober(void *arg)
{
	void *page;

	while (!READ_ONCE(owner.probe))
		usleep(1000);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page, 4096);
	WRITE_ONCE(owner.probed, true);
	return NULL;
}

static void hold_release(void)
{
	WRITE_ONCE(owner.stop_hog, true);
	pthread_join(owner.hog, NULL);
	pthread_join(owner.prober, NULL);
}

/* Whether the writer was caught with the lock.  Threads are made before: it takes it. */
static bool hold_try(void)
{
	unsigned int i;

	owner.stop_hog = false;
	owner.probe = false;
	owner.probed = false;
	start_thread(&owner.prober, hold_prober, NULL);
	start_thread(&owner.hog, hold_hog, NULL);
	usleep(100000);
	WRITE_ONCE(owner.probe, true);
	for (i = 0; i < 20; i++) {
		usleep(50000);
		if (READ_ONCE(owner.probed))
			break;
	}
	if (!READ_ONCE(owner.probed))
		return true;
	hold_release();
	return false;
}

static int owner_hold(void)
{
	unsigned int i;

	owner.big = mmap(NULL, BIG_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
			 -1, 0);
	TEST_ASSERT(owner.big != MAP_FAILED, "mmap: %s", strerror(errno));
	start_thread(&owner.writer, hold_writer, NULL);
	for (i = 0; i < 20; i++) {
		unsigned long writes = READ_ONCE(owner.writes);

		while (READ_ONCE(owner.writes) == writes)
			usleep(1000);
		if (hold_try())
			return 0;
	}
	return -EBUSY;
}

static int owner_release(void)
{
	hold_release();
	WRITE_ONCE(owner.stop_writer, true);
	pthread_join(owner.writer, NULL);
	return 0;
}

static void owner_signal(int sig)
{
}

/* Have the hardware lose a page, as far as the kernel knows; that is a signal, too. */
static int owner_poison(void *page)
{
	struct sigaction sa = { .sa_handler = owner_signal };

	sigaction(SIGBUS, &sa, NULL);
	return madvise(page, 4096, MADV_HWPOISON);
}

static int owner_do(const struct stall_msg *msg, int fd)
{
	uint64_t page = msg->arg;

	switch (msg->cmd) {
	case OWNER_SHARE:
		return owner_share(msg->arg);
	case OWNER_STALL:
		return owner_stall(msg->arg);
	case OWNER_SERVE:
		start_thread(&owner.thread, owner_serve, NULL);
		return 0;
	case OWNER_UNMAP:
		return __vm2vm_unmap(owner.domain, PEER_IOVA + page * 4096, 4096, NULL);
	case OWNER_MAP:
		return owner_map(page);
	case OWNER_MEMSLOT:
		return owner_memslot();
	case OWNER_CLOSE:
		return close(owner.domain);
	case OWNER_TOUCH:
		start_thread(&owner.thread, owner_touch, owner_page(page));
		return 0;
	case OWNER_DISCARD:
		start_thread(&owner.thread, owner_discard, owner_page(page));
		return 0;
	case OWNER_WRITERS:
		return owner_writers();
	case OWNER_HOLD:
		return owner_hold();
	case OWNER_RELEASE:
		return owner_release();
	case OWNER_FILE:
		return owner_file(fd, msg->arg);
	case OWNER_DIRTY:
		start_thread(&owner.thread, owner_dirty, owner_page(page));
		return 0;
	case OWNER_ABSENT:
		return madvise(owner_page(page), 4096, MADV_DONTNEED);
	case OWNER_VM:
		return owner.vm->fd;
	case OWNER_POISON:
		return owner_poison(owner_page(page));
	default:
		TEST_FAIL("command %u", msg->cmd);
	}
	return 0;
}

void owner_process(int sock)
{
	struct stall_msg msg;
	int fd;

	while (stall_receive(sock, &msg, &fd)) {
		msg.val = owner_do(&msg, fd);
		if (fd >= 0)
			close(fd);
		/* The answer to these is a descriptor. */
		fd = (msg.cmd == OWNER_SHARE || msg.cmd == OWNER_STALL ||
		      msg.cmd == OWNER_VM) ? msg.val : -1;
		stall_send(sock, &msg, fd);
	}
}
