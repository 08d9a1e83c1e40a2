// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_miss_test: read() and poll() on a domain that has misses, and what the end
 * of a process is to those that wait.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "miss.h"
#include "vm2vm_knob.h"

#define RECORD	sizeof(struct kvm_vm2vm_miss)

/* A thread that reads, or polls if it is given no buffer. */
struct reader {
	int fd;
	void *buf;
	size_t size;
	pthread_t thread;
	pid_t tid;
	int64_t r;		/* bytes, -errno, or what poll() shows */
	bool running;
};

static void *reader_thread(void *arg)
{
	struct reader *rd = arg;
	struct pollfd pfd = { .fd = rd->fd, .events = POLLIN };
	ssize_t r;

	WRITE_ONCE(rd->tid, gettid());
	if (rd->buf) {
		r = read(rd->fd, rd->buf, rd->size);
		rd->r = r < 0 ? -errno : r;
	} else {
		r = poll(&pfd, 1, -1);
		rd->r = r < 0 ? -errno : pfd.revents;
	}
	WRITE_ONCE(rd->running, false);
	return NULL;
}

static void reader_start(struct reader *rd, int fd, void *buf, size_t size)
{
	*rd = (struct reader) { .fd = fd, .buf = buf, .size = size, .running = true };
	start_thread(&rd->thread, reader_thread, rd);
}

static void reader_blocks(struct reader *rd)
{
	usleep(50000);
	TEST_ASSERT(READ_ONCE(rd->running), "it does not block: %ld", rd->r);
}

static int64_t reader_end(struct reader *rd)
{
	join_thread(rd->thread, "read");
	return rd->r;
}

/* One of them is done, or will be soon; returns the other. */
static struct reader *reader_of_two(struct reader *a, struct reader *b)
{
	unsigned int i;

	for (i = 0; READ_ONCE(a->running) && READ_ONCE(b->running); i++) {
		TEST_ASSERT(i < LIMIT * 1000, "both block");
		usleep(1000);
	}
	return READ_ONCE(a->running) ? a : b;
}

/* Send signals until one comes while it blocks. */
static int64_t reader_interrupt(struct reader *rd)
{
	unsigned int i;

	for (i = 0; READ_ONCE(rd->running); i++) {
		TEST_ASSERT(i < LIMIT * 100, "a signal does not end it");
		pthread_kill(rd->thread, SIGUSR1);
		usleep(10000);
	}
	return reader_end(rd);
}

/* Who reads or polls is woken by a miss. */
TEST_F_TIMEOUT(miss, file_woken, 120)
{
	struct kvm_vm2vm_miss miss = {}, other = {};
	struct reader rd, rd2, polling;
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	reader_start(&polling, self->domain, NULL, 0);
	reader_blocks(&polling);
	access_start(r, MISS_READ, 1, 0);
	EXPECT_EQ(POLLIN, reader_end(&polling));
	EXPECT_EQ(POLLIN, poll_for(self->domain, 0));
	expect_miss(self->domain, 1, RD);
	EXPECT_EQ(1, refuse_pages(self->domain, 1, 1));
	EXPECT_EQ(HOLE, access_val(r));

	/* One record is for one of two readers, and the next for the other. */
	reader_start(&rd, self->domain, &miss, RECORD);
	reader_start(&rd2, self->domain, &other, RECORD);
	reader_blocks(&rd);
	reader_blocks(&rd2);
	access_start(r, MISS_READ, 2, 0);
	reader_blocks(reader_of_two(&rd, &rd2));
	access_start(&self->b.r[1], MISS_WRITE, 3, 0);
	EXPECT_EQ(RECORD, reader_end(&rd));
	EXPECT_EQ(RECORD, reader_end(&rd2));
	EXPECT_EQ(IOVA(2) + IOVA(3), miss.iova + other.iova);
	EXPECT_EQ(RD + VM2VM_RW, miss.flags + other.flags);
	EXPECT_EQ(2, refuse_pages(self->domain, 0, PAGES));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(0, access_end(&self->b.r[1]));
}

TEST_F_TIMEOUT(miss, file_signal, 120)
{
	struct kvm_vm2vm_miss miss = {};
	struct runner *r = &self->b.r[0];
	struct reader rd;

	backend_link(&self->b, self->domain, WAIT);
	reader_start(&rd, self->domain, &miss, RECORD);
	reader_blocks(&rd);
	EXPECT_EQ(-EINTR, reader_interrupt(&rd));
	reader_start(&rd, self->domain, NULL, 0);
	EXPECT_EQ(-EINTR, reader_interrupt(&rd));

	/* It may be restarted as any read(). */
	catch_signal(SA_RESTART);
	reader_start(&rd, self->domain, &miss, RECORD);
	reader_blocks(&rd);
	pthread_kill(rd.thread, SIGUSR1);
	reader_blocks(&rd);
	access_start(r, MISS_READ, 2, 0);
	EXPECT_EQ(RECORD, reader_end(&rd));
	EXPECT_EQ(IOVA(2), miss.iova);
	map_pages(self->domain, 2, 1, RD);
	EXPECT_EQ(VALUE(2), access_val(r));
}

/* The end wakes all, once and for all. */
TEST_F_TIMEOUT(miss, file_end, 120)
{
	struct runner *r = &self->b.r[0];
	struct reader rd, polling;
	char buf[2 * RECORD];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	reader_start(&rd, self->domain, buf, sizeof(buf));
	reader_start(&polling, self->domain, NULL, 0);
	reader_blocks(&rd);
	reader_blocks(&polling);
	kvm_vm_free(self->owner);
	EXPECT_EQ(0, reader_end(&rd));
	EXPECT_EQ(POLLHUP, reader_end(&polling));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(HOLE, read_now(r, 2));
	EXPECT_EQ(1, waits(r));
	EXPECT_EQ(0, __vm2vm_read_misses(self->domain, buf, sizeof(buf)));
	EXPECT_EQ(POLLHUP, poll_for(self->domain, 0));
	EXPECT_EQ(-ENODEV, __vm2vm_refuse(self->domain, IOVA(0), 4096, NULL));
}

/*
 * The same by END.  What links show then is what no MAP can approve, for ever: EXIT
 * exits, WAIT does not wait.
 */
TEST_F_TIMEOUT(miss, file_end_call, 120)
{
	struct runner *r = &self->b.r[0], *r2 = &self->b.r[1];
	int copy = dup(self->domain);
	struct reader rd, polling;
	char buf[2 * RECORD];

	map_pages(self->domain, 2, 1, VM2VM_RW);
	backend_link(&self->b, self->domain, WAIT);
	vm2vm_link(self->b.vm, self->domain, PEER_SLOT + 1, WINDOW2, PEER_IOVA, PAGES * 4096,
		   EXIT);
	EXPECT_EQ(VALUE(2), read_now(r2, 2));
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	access_start(r2, MISS_WRITE, 3, 0);
	until_waits(r2, 1);
	reader_start(&polling, self->domain, NULL, 0);
	EXPECT_EQ(POLLIN, reader_end(&polling));
	expect_miss(self->domain, 3, VM2VM_RW);
	reader_start(&rd, copy, buf, sizeof(buf));
	reader_start(&polling, copy, NULL, 0);
	reader_blocks(&rd);
	reader_blocks(&polling);

	vm2vm_end(self->domain);
	EXPECT_EQ(0, reader_end(&rd));
	EXPECT_EQ(POLLHUP, reader_end(&polling));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(0, access_end(r2));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(1, r2->mmio);
	EXPECT_EQ(HOLE, read_now(r, 2));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 2, 9));
	EXPECT_EQ(VALUE(2), *word(self->mem, 2));
	EXPECT_EQ(1, waits(r));
	access_start_at(r2, MISS_READ, WINDOW2 + 2 * 4096, 0);
	EXPECT_EQ(-EFAULT, access_end(r2));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, r2->vcpu->run->exit_reason);
	EXPECT_EQ(WINDOW2 + 2 * 4096, r2->vcpu->run->memory_fault.gpa);
	access_continue(r2);
	EXPECT_EQ(-EFAULT, access_end(r2));
	EXPECT_EQ(-ENODEV, __vm2vm_map(copy, IOVA(1), GPA(1), 4096, RD));
	EXPECT_EQ(HOLE, read_now(r, 1));
}

#define READERS		8

/* Wait until the thread sleeps in read(); when it has been made it has not begun to. */
static void reader_settle(struct reader *rd)
{
	char path[64];
	unsigned int i;

	for (i = 0; i < LIMIT * 1000; i++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", READ_ONCE(rd->tid));
		if (knob_has(path, "vm2vm"))
			return;
		usleep(1000);
	}
	TEST_FAIL("it does not sleep in read()");
}

/* How often a thread has gone to sleep. */
static unsigned long reader_sleeps(struct reader *rd)
{
	unsigned long sleeps = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", READ_ONCE(rd->tid));
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		sscanf(line, "voluntary_ctxt_switches: %lu", &sleeps);
	fclose(f);
	return sleeps;
}

/* Of many readers a miss wakes one, and the end all. */
TEST_F_TIMEOUT(miss, file_readers, 120)
{
	struct reader rd[READERS], *done = NULL;
	struct kvm_vm2vm_miss misses[READERS];
	struct runner *r = &self->b.r[0];
	unsigned long sleeps[READERS];
	unsigned int i, n;

	backend_link(&self->b, self->domain, WAIT);
	for (i = 0; i < READERS; i++)
		reader_start(&rd[i], self->domain, &misses[i], RECORD);
	for (i = 0; i < READERS; i++) {
		reader_settle(&rd[i]);
		sleeps[i] = reader_sleeps(&rd[i]);
	}
	access_start(r, MISS_READ, 1, 0);
	for (n = 0; !done; n++) {
		TEST_ASSERT(n < LIMIT * 1000, "all block");
		usleep(1000);
		for (i = 0; i < READERS; i++)
			done = READ_ONCE(rd[i].running) ? done : &rd[i];
	}
	EXPECT_EQ(RECORD, reader_end(done));
	for (i = 0; i < READERS; i++) {
		if (&rd[i] == done)
			continue;
		reader_blocks(&rd[i]);
		EXPECT_EQ(sleeps[i], reader_sleeps(&rd[i]));
	}
	vm2vm_end(self->domain);
	for (i = 0; i < READERS; i++) {
		if (&rd[i] != done)
			EXPECT_EQ(0, reader_end(&rd[i]));
	}
	EXPECT_EQ(HOLE, access_val(r));
}

/*
 * Who watches is woken in a backend's vCPU, so there are not many: neither as one epoll
 * instance each, nor as copies of the descriptor in one of them.
 */
TEST_F_TIMEOUT(miss, file_watches, 120)
{
	const unsigned int max = KVM_VM2VM_MAX_WATCHES;
	struct epoll_event ev = { .events = EPOLLIN }, out;
	struct runner *r = &self->b.r[0];
	struct kvm_vm2vm_miss miss;
	struct reader rd;
	unsigned int i;
	int ep[2], fd;

	backend_link(&self->b, self->domain, WAIT);
	for (i = 0; i < 2; i++)
		ep[i] = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < max; i++) {
		fd = dup(self->domain);
		/* Exclusive ones are counted as any. */
		ev.events = EPOLLIN | (i % 3 ? 0 : EPOLLEXCLUSIVE);
		ASSERT_EQ(0, epoll_ctl(ep[i % 2], EPOLL_CTL_ADD, fd, &ev));
	}
	EXPECT_EQ(0, epoll_wait(ep[0], &out, 1, 0));
	EXPECT_EQ(0, poll_for(self->domain, 0));
	EXPECT_EQ(POLLERR, poll_for(self->domain, LIMIT * 1000));
	fd = dup(self->domain);
	ev.events = EPOLLIN;
	ASSERT_EQ(0, epoll_ctl(ep[1], EPOLL_CTL_ADD, fd, &ev));
	EXPECT_EQ(1, epoll_wait(ep[1], &out, 1, 0));
	EXPECT_EQ(EPOLLERR, out.events);
	ASSERT_EQ(0, epoll_ctl(ep[1], EPOLL_CTL_DEL, fd, NULL));
	EXPECT_EQ(0, epoll_wait(ep[1], &out, 1, 0));

	/* Who reads waits as ever. */
	reader_start(&rd, self->domain, &miss, RECORD);
	reader_blocks(&rd);
	EXPECT_EQ(-EINTR, reader_interrupt(&rd));

	access_start(r, MISS_READ, 1, 0);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(1, epoll_wait(ep[i], &out, 1, LIMIT * 1000));
		EXPECT_EQ(EPOLLIN | EPOLLERR, out.events);
	}
	/* When some have gone others may. */
	close(ep[0]);
	EXPECT_EQ(POLLIN, poll_for(self->domain, LIMIT * 1000));
	close(ep[1]);
	expect_miss(self->domain, 1, RD);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
}

static void *epoll_thread(void *arg)
{
	struct epoll_event out = {};

	epoll_wait((intptr_t)arg, &out, 1, LIMIT * 1000);
	return (void *)(uintptr_t)out.events;
}

/* Of exclusive watches a miss may wake one; the end wakes all. */
TEST_F_TIMEOUT(miss, file_end_exclusive, 120)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	pthread_t threads[3];
	unsigned int i;
	void *events;
	int ep[3];

	for (i = 0; i < 3; i++) {
		ep[i] = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, epoll_ctl(ep[i], EPOLL_CTL_ADD, self->domain, &ev));
		start_thread(&threads[i], epoll_thread, (void *)(intptr_t)ep[i]);
	}
	usleep(100000);
	vm2vm_end(self->domain);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], &events));
		EXPECT_EQ(EPOLLHUP, (uintptr_t)events);
		close(ep[i]);
	}
}

/* The end takes records with it that were not read, and waits for nobody. */
TEST_F_TIMEOUT(miss, file_end_unread, 120)
{
	struct kvm_vm2vm_miss miss;
	struct runner *r = &self->b.r[0];
	int copy = dup(self->domain);

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_WRITE, 1, 5);
	until_waits(r, 1);
	close(copy);
	still_waits(r, 1);
	kvm_vm_free(self->owner);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(VALUE(1), *word(self->mem, 1));
	EXPECT_EQ(0, __vm2vm_read_misses(self->domain, &miss, RECORD));
}

/* The close of the descriptor, from which nobody reads. */
TEST_F_TIMEOUT(miss, file_close, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	access_start(&self->b.r[1], MISS_READ, 2, 0);
	until_waits(&self->b.r[1], 1);
	until_waits(r, 1);
	close(self->domain);
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(HOLE, access_val(&self->b.r[1]));
	EXPECT_EQ(HOLE, read_now(r, 1));
	EXPECT_EQ(1, waits(r));
	EXPECT_EQ(2, r->mmio);
	vm2vm_unlink(self->b.vm, PEER_SLOT);
}

/* Room for some records, for a part of one more, and none at all. */
TEST_F_TIMEOUT(miss, file_sizes, 120)
{
	struct kvm_vm2vm_miss misses[4];
	struct runner *r[3] = { &self->b.r[0], &self->b.r[1] };
	struct backend more;
	uint64_t sum = 0;
	unsigned int i;

	backend_make(&more, 1);
	r[2] = &more.r[0];
	backend_link(&self->b, self->domain, WAIT);
	backend_link(&more, self->domain, WAIT);
	ASSERT_EQ(0, fcntl(self->domain, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-EAGAIN, __vm2vm_read_misses(self->domain, misses, sizeof(misses)));
	for (i = 0; i < 3; i++) {
		access_start(r[i], MISS_READ, 1 + i, 0);
		until_waits(r[i], 1);
	}
	EXPECT_EQ(-EINVAL, __vm2vm_read_misses(self->domain, misses, 0));
	EXPECT_EQ(-EINVAL, __vm2vm_read_misses(self->domain, misses, RECORD - 1));
	EXPECT_EQ(2 * RECORD, __vm2vm_read_misses(self->domain, misses, 3 * RECORD - 1));
	EXPECT_EQ(POLLIN, poll_for(self->domain, 0));
	EXPECT_EQ(RECORD, __vm2vm_read_misses(self->domain, misses + 2, 2 * RECORD));
	EXPECT_EQ(-EAGAIN, __vm2vm_read_misses(self->domain, misses + 3, RECORD));
	expect_no_miss(self->domain);
	for (i = 0; i < 3; i++) {
		sum |= 1 << (misses[i].iova - PEER_IOVA) / 4096;
		EXPECT_EQ(RD, misses[i].flags);
		EXPECT_EQ(0, misses[i].pad);
	}
	EXPECT_EQ(2 + 4 + 8, sum);
	map_pages(self->domain, 0, PAGES, RD);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(VALUE(1 + i), access_val(r[i]));
}

static int64_t read_nowait_at(int fd, void *buf, size_t size, off_t offset)
{
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = preadv2(fd, &iov, 1, offset, RWF_NOWAIT);

	return r < 0 ? -errno : r;
}

static int64_t read_nowait(int fd, void *buf, size_t size)
{
	return read_nowait_at(fd, buf, size, -1);
}

/* Whether a call blocks is not for whoever else has the descriptor to say. */
TEST_F_TIMEOUT(miss, file_nowait, 120)
{
	struct kvm_vm2vm_miss miss;
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	EXPECT_EQ(-EAGAIN, read_nowait(self->domain, &miss, RECORD));
	EXPECT_EQ(-EINVAL, read_nowait(self->domain, &miss, RECORD - 1));
	EXPECT_EQ(-ESPIPE, read_nowait_at(self->domain, &miss, RECORD, 0));
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	EXPECT_EQ(RECORD, read_nowait(self->domain, &miss, RECORD));
	EXPECT_EQ(PEER_IOVA + 4096, miss.iova);
	EXPECT_EQ(-EAGAIN, read_nowait(self->domain, &miss, RECORD));
	EXPECT_EQ(1, vm2vm_refuse(self->domain, PEER_IOVA + 4096, 4096));
	EXPECT_EQ(HOLE, access_val(r));
	vm2vm_end(self->domain);
	EXPECT_EQ(0, read_nowait(self->domain, &miss, RECORD));
}

/* What cannot be written to the reader is there for the next. */
TEST_F_TIMEOUT(miss, file_bad_memory, 120)
{
	void *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	struct kvm_vm2vm_miss *last = pages + 4096 - RECORD;
	struct runner *r = &self->b.r[0], *r2 = &self->b.r[1];

	ASSERT_EQ(0, mprotect(pages + 4096, 4096, PROT_NONE));
	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	EXPECT_EQ(-EFAULT, __vm2vm_read_misses(self->domain, (void *)-4096ul, RECORD));
	EXPECT_EQ(-EFAULT, __vm2vm_read_misses(self->domain, pages + 4096, RECORD));
	EXPECT_EQ(-EFAULT, __vm2vm_read_misses(self->domain, pages + 4095, 3 * RECORD));
	EXPECT_EQ(POLLIN, poll_for(self->domain, 0));

	/* One of two fits. */
	access_start(r2, MISS_WRITE, 2, 9);
	until_waits(r2, 1);
	EXPECT_EQ(RECORD, __vm2vm_read_misses(self->domain, last, 2 * RECORD));
	EXPECT_EQ(POLLIN, poll_for(self->domain, 0));
	EXPECT_EQ(-EFAULT, __vm2vm_read_misses(self->domain, last + 1, RECORD));
	if (last->iova == IOVA(1))
		expect_miss(self->domain, 2, VM2VM_RW);
	else
		expect_miss(self->domain, 1, RD);
	expect_no_miss(self->domain);
	still_waits(r, 1);
	still_waits(r2, 1);
	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	EXPECT_EQ(VALUE(1), access_val(r));
	EXPECT_EQ(0, access_end(r2));
	EXPECT_EQ(9, *word(self->mem, 2));
}

/* Of two for one page, the one that was not delivered is put back. */
TEST_F_TIMEOUT(miss, file_bad_memory_same_page, 120)
{
	void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct runner *r = &self->b.r[0], *r2 = &self->b.r[1];

	ASSERT_NE(MAP_FAILED, page);
	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	access_start(r2, MISS_WRITE, 1, 9);
	until_waits(r2, 1);
	expect_miss(self->domain, 1, RD);
	EXPECT_EQ(-EFAULT, __vm2vm_read_misses(self->domain, page, RECORD));
	expect_miss(self->domain, 1, VM2VM_RW);
	expect_no_miss(self->domain);
	map_pages(self->domain, 1, 1, VM2VM_RW);
	access_val(r);
	EXPECT_EQ(0, access_end(r2));
	EXPECT_EQ(9, *word(self->mem, 1));
}

/*
 * The same while another reader, who came too late for the record, waits for one:
 * the reader that has it waits for the page that it reads to, which never comes.
 */
TEST_F_TIMEOUT(miss, file_bad_memory_late, 120)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	struct runner *r = &self->b.r[0];
	struct kvm_vm2vm_miss miss = {};
	struct reader rd, polling;
	struct uffd_msg msg;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	reader_start(&rd, self->domain, page, RECORD);
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	reader_start(&polling, self->domain, NULL, 0);
	reader_blocks(&polling);

	ASSERT_EQ(0, munmap(page, 4096));
	close(uffd);
	EXPECT_EQ(-EFAULT, reader_end(&rd));
	EXPECT_EQ(POLLIN, reader_end(&polling));
	EXPECT_EQ(RECORD, __vm2vm_read_misses(self->domain, &miss, RECORD));
	EXPECT_EQ(IOVA(1), miss.iova);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
}

/* Another process cannot take records from the owner, nor answer. */
TEST_F_TIMEOUT(miss, file_stranger, 120)
{
	struct runner *r = &self->b.r[0];
	int status;
	pid_t pid;

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	pid = fork();
	if (!pid) {
		char buf[RECORD];

		if (__vm2vm_read_misses(self->domain, buf, sizeof(buf)) != -EPERM)
			_exit(1);
		if (__vm2vm_refuse(self->domain, IOVA(1), 4096, NULL) != -EPERM)
			_exit(2);
		if (__vm2vm_map(self->domain, IOVA(1), GPA(1), 4096, RD) != -EPERM)
			_exit(3);
		_exit(poll_for(self->domain, 0) == POLLIN ? 0 : 4);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	still_waits(r, 1);
	expect_miss(self->domain, 1, RD);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
}

/* What another process gets of poll(): 0, or what is wrong. */
static int stranger_polls(int domain, int sock)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);
	char c = 0;

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, domain, &ev))
		return 1;
	if (write(sock, &c, 1) != 1 || read(sock, &c, 1) != 1)
		return 2;
	/* There is a miss now. */
	if (epoll_wait(ep, &ev, 1, 500))
		return 3;
	return poll_for(domain, 0) == POLLIN ? 0 : 4;
}

/* It sees what there is, and is not woken: who wakes the owner would do that for it. */
TEST_F_TIMEOUT(miss, file_stranger_polls, 120)
{
	struct runner *r = &self->b.r[0];
	int status, sock[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	backend_link(&self->b, self->domain, WAIT);
	pid = fork();
	if (!pid)
		_exit(stranger_polls(self->domain, sock[1]));
	close(sock[1]);
	ASSERT_EQ(1, read(sock[0], &c, 1));
	access_start(r, MISS_READ, 1, 0);
	until_waits(r, 1);
	ASSERT_EQ(1, write(sock[0], &c, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(sock[0]);
	still_waits(r, 1);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
}

/* A process that is killed is gone soon. */
static void kill_now(pid_t pid)
{
	int status, i;

	TEST_ASSERT(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
	for (i = 0; waitpid(pid, &status, WNOHANG) != pid; i++) {
		TEST_ASSERT(i < LIMIT * 100, "killed, and not dead after %u s", LIMIT);
		usleep(10000);
	}
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it ended by itself: %x",
		    status);
}

/* A backend that waits can be killed, and then does not wait. */
TEST_F_TIMEOUT(miss, backend_killed, 120)
{
	struct backend other;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			backend_make(&other, 1);
			backend_link(&other, self->domain, WAIT);
			_exit(access_now(&other.r[0], MISS_READ, 3, 0));
		}
		/* With its record read, or not. */
		ASSERT_EQ(POLLIN, poll_for(self->domain, LIMIT * 1000));
		if (i)
			expect_miss(self->domain, 3, RD);
		usleep(50000);
		kill_now(pid);
		expect_no_miss(self->domain);
		EXPECT_EQ(0, refuse_pages(self->domain, 0, PAGES));
		map_pages(self->domain, 3, 1, RD);
		EXPECT_EQ(1, unmap_pages(self->domain, 3, 1));
	}
}

static void send_fds(int sock, int *fds)
{
	char buf[CMSG_SPACE(2 * sizeof(int))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, 2 * sizeof(int));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == 1, "sendmsg: %s", strerror(errno));
}

static void receive_fds(int sock, int *fds)
{
	char buf[CMSG_SPACE(2 * sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = sizeof(buf),
	};

	TEST_ASSERT(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg),
		    "recvmsg: %s", strerror(errno));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), 2 * sizeof(int));
}

/* An owner in a process of its own, which only lives.  Gives its domain and its VM. */
static pid_t start_owner(int *fds)
{
	struct kvm_vm *vm;
	int socks[2];
	pid_t pid;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair");
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		vm = make_owner(make_memory(), &fds[0]);
		fds[1] = vm->fd;
		map_pages(fds[0], 0, 1, VM2VM_RW);
		send_fds(socks[1], fds);
		for (;;)
			pause();
	}
	close(socks[1]);
	receive_fds(socks[0], fds);
	close(socks[0]);
	return pid;
}

/* It can be killed, and then nobody waits for it, also if its VM's descriptor is held. */
static void owner_killed(struct __test_metadata *_metadata, struct backend *b, bool hold_vm)
{
	struct runner *r = &b->r[0], *r2 = &b->r[1];
	int fds[2];
	pid_t pid = start_owner(fds);

	if (!hold_vm)
		close(fds[1]);
	backend_link(b, fds[0], WAIT);
	EXPECT_EQ(VALUE(0), read_now(r, 0));
	access_start(r, MISS_READ, 1, 0);
	access_start(r2, MISS_WRITE, 0, 1);
	EXPECT_EQ(0, access_end(r2));
	access_start(r2, MISS_WRITE, 2, 1);
	until_waits(r, 1);
	until_waits(r2, 1);
	still_waits(r, 1);
	kill_now(pid);
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(0, access_end(r2));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(1, r2->mmio);
	EXPECT_EQ(HOLE, read_now(r, 0));
	EXPECT_EQ(HOLE, read_now(r, 1));
	EXPECT_EQ(1, waits(r));
	EXPECT_EQ(POLLHUP, poll_for(fds[0], LIMIT * 1000));
}

TEST_F_TIMEOUT(miss, owner_killed, 120)
{
	owner_killed(_metadata, &self->b, false);
}

TEST_F_TIMEOUT(miss, owner_killed_vm_held, 120)
{
	owner_killed(_metadata, &self->b, true);
}
