// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: revocation, with the backend's vCPU in its guest.
 *
 * The vCPU reads and writes one page of its window in a loop that never exits.
 * In each trial the approval, or the page, is taken away in one of the ways that
 * there are.  When that has returned, the page is given another value through a
 * mapping of the owner: the guest must never see it, and nothing that it writes
 * may arrive.
 *
 * Emulators flush their TLB at every VM entry and exit, so a translation that was
 * not flushed shows only as long as the vCPU stays in its guest.  That is why the
 * loop has no exit, and why the value is written at once.
 *
 * VM2VM_TRIALS in the environment is the number of trials of each test, 1000 by
 * default.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "vm2vm_harness.h"
#include "vm2vm_peer.h"

#define OLD	0x01d01d01d01d01d0ull
#define NEW	0x2222222222222222ull
#define CANARY	0xdeadbeefdeadbeefull
#define HOLE	(~0ull)

/* Two words of the page: the guest reads one, and writes the other. */
#define WORD_READ	0
#define WORD_WRITE	1

/* Shared with the guest, which has it in its own memory. */
struct spin {
	uint64_t count;		/* passes of the loop */
	uint64_t last;		/* what was read last */
	uint64_t seen;		/* how often the canary was read */
	uint64_t readonly;	/* the guest does not write */
	uint64_t stop;
};

static struct spin spin;

static void spin_guest(void)
{
	uint64_t *page = (uint64_t *)PEER_WINDOW;
	uint64_t val;

	peer_guest_interruptible();
	while (!READ_ONCE(spin.stop)) {
		if (!READ_ONCE(spin.readonly))
			WRITE_ONCE(page[WORD_WRITE], spin.count);
		val = READ_ONCE(page[WORD_READ]);
		if (val == CANARY)
			spin.seen++;
		WRITE_ONCE(spin.last, val);
		WRITE_ONCE(spin.count, spin.count + 1);
	}
	GUEST_DONE();
}

FIXTURE(revoke)
{
	struct kvm_vm *owner;
	struct kvm_vm *backend;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct spin *spin;
	int memfd;		/* two pages */
	uint64_t *page[2];	/* them, in a mapping of the test's own */
	void *mem;		/* the owner's mapping of one of them */
	int domain;
	unsigned int trials;
};

static void *spin_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;

	for (;;) {
		vcpu_run(vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
	}
	TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_DONE, "exit reason %u (%s)",
		    run->exit_reason, exit_reason_str(run->exit_reason));
	return NULL;
}

static void *map_page(int memfd, unsigned int page, void *where)
{
	void *p = mmap(where, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (where ? MAP_FIXED : 0), memfd,
		       page * 4096);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

FIXTURE_SETUP(revoke)
{
	struct userspace_mem_region *ram;
	unsigned int i;

	self->trials = vm2vm_trials(1000);
	self->domain = -1;
	self->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	TEST_ASSERT(self->memfd >= 0 && !ftruncate(self->memfd, 2 * 4096),
		    "memfd: %s", strerror(errno));
	for (i = 0; i < 2; i++)
		self->page[i] = map_page(self->memfd, i, NULL);
	self->mem = map_page(self->memfd, 0, NULL);

	self->owner = vm_create_barebones();
	vm_set_user_memory_region(self->owner, 0, 0, PEER_OWNER_GPA, 4096,
				  self->mem);

	self->backend = vm_create_with_one_vcpu(&self->vcpu, spin_guest);
	virt_map(self->backend, PEER_WINDOW, PEER_WINDOW, 1);
	/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
	ram = memslot2region(self->backend, 0);
	TEST_ASSERT(!madvise(ram->mmap_start, ram->mmap_size, MADV_DONTFORK),
		    "MADV_DONTFORK: %s", strerror(errno));
	self->spin = addr_gva2hva(self->backend, (uintptr_t)&spin);
	pthread_create(&self->thread, NULL, spin_vcpu, self->vcpu);
}

FIXTURE_TEARDOWN(revoke)
{
	WRITE_ONCE(self->spin->stop, 1);
	pthread_join(self->thread, NULL);
	if (self->domain >= 0)
		close(self->domain);
	kvm_vm_free(self->backend);
	if (self->owner)
		kvm_vm_free(self->owner);
}

/* Wait until the guest has been around its loop @n times from now on. */
static void spin_wait(struct spin *s, uint64_t n)
{
	uint64_t end = READ_ONCE(s->count) + n;
	struct timespec start, now;
	unsigned int i = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (READ_ONCE(s->count) < end) {
		if (++i % 1024)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &now);
		TEST_ASSERT(now.tv_sec - start.tv_sec < 20,
			    "the guest does not go on");
	}
}

/* Wait until the guest reads @val. */
static void spin_wait_for(struct spin *s, uint64_t val)
{
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		spin_wait(s, 2);
		if (READ_ONCE(s->last) == val)
			return;
	}
	TEST_FAIL("the guest reads 0x%lx, not 0x%lx", s->last, val);
}

/* Let the guest reach a page that has the value OLD, without exits. */
static void trial_begin(struct spin *s, uint64_t *page)
{
	WRITE_ONCE(page[WORD_READ], OLD);
	spin_wait_for(s, OLD);
	spin_wait(s, 10);
}

/*
 * The page is revoked: put the canary into it, and nothing of the guest may come
 * to it or from it any more.  The guest reads @expect soon.
 */
static void trial_end(struct spin *s, uint64_t *page, uint64_t expect,
		      unsigned int trial)
{
	WRITE_ONCE(page[WORD_READ], CANARY);
	WRITE_ONCE(page[WORD_WRITE], CANARY);
	spin_wait(s, 3);
	TEST_ASSERT(!READ_ONCE(s->seen), "trial %u: the canary was seen", trial);
	TEST_ASSERT(READ_ONCE(page[WORD_WRITE]) == CANARY,
		    "trial %u: the canary was overwritten", trial);
	spin_wait_for(s, expect);
	TEST_ASSERT(!READ_ONCE(s->seen), "trial %u: the canary was seen", trial);
	/* The next trial may approve it before anything else. */
	WRITE_ONCE(page[WORD_READ], OLD);
}

TEST_F_TIMEOUT(revoke, unmap, 600)
{
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096,
			  VM2VM_RW);
		trial_begin(self->spin, self->page[0]);
		vm2vm_unmap(self->domain, PEER_IOVA, 4096);
		trial_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_F_TIMEOUT(revoke, unlink, 600)
{
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	for (i = 0; i < self->trials; i++) {
		vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
			   PEER_IOVA, 4096, 0);
		trial_begin(self->spin, self->page[0]);
		vm2vm_unlink(self->backend, PEER_SLOT);
		trial_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_F_TIMEOUT(revoke, close, 600)
{
	unsigned int i;
	int domain;

	for (i = 0; i < self->trials; i++) {
		domain = vm2vm_create_domain(self->owner);
		vm2vm_map(domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		vm2vm_link(self->backend, domain, PEER_SLOT, PEER_WINDOW,
			   PEER_IOVA, 4096, 0);
		trial_begin(self->spin, self->page[0]);
		close(domain);
		trial_end(self->spin, self->page[0], HOLE, i);
		vm2vm_unlink(self->backend, PEER_SLOT);
	}
}

/* The owner's process maps another page in the place of the one it had. */
TEST_F_TIMEOUT(revoke, mmu_notifier, 600)
{
	unsigned int i, now = 0;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		trial_begin(self->spin, self->page[now]);
		WRITE_ONCE(self->page[!now][WORD_READ], NEW);
		map_page(self->memfd, !now, self->mem);
		trial_end(self->spin, self->page[now], NEW, i);
		now = !now;
	}
}

/* The owner's process unmaps the page, which is a hole until it is back. */
TEST_F_TIMEOUT(revoke, munmap, 600)
{
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		trial_begin(self->spin, self->page[0]);
		TEST_ASSERT(!munmap(self->mem, 4096), "munmap");
		trial_end(self->spin, self->page[0], HOLE, i);
		map_page(self->memfd, 0, self->mem);
	}
}

/*
 * The owner's process writes to a page of its own that is still the file's, and
 * gets a copy of it; the backend is to follow.
 */
TEST_F_TIMEOUT(revoke, copy_on_write, 600)
{
	uint64_t *mem = self->mem;
	unsigned int i;

	WRITE_ONCE(self->spin->readonly, 1);
	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		TEST_ASSERT(mmap(mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				 MAP_FIXED, self->memfd, 0) == mem, "mmap");
		trial_begin(self->spin, self->page[0]);
		WRITE_ONCE(mem[2], i);
		trial_end(self->spin, self->page[0], OLD, i);
	}
}

TEST_F_TIMEOUT(revoke, memslot_delete, 600)
{
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		trial_begin(self->spin, self->page[0]);
		vm_set_user_memory_region(self->owner, 0, 0, PEER_OWNER_GPA, 0,
					  self->mem);
		trial_end(self->spin, self->page[0], HOLE, i);
		vm_set_user_memory_region(self->owner, 0, 0, PEER_OWNER_GPA,
					  4096, self->mem);
	}
}

TEST_F_TIMEOUT(revoke, memslot_move, 600)
{
	uint64_t there = PEER_OWNER_GPA + 0x100000;
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		trial_begin(self->spin, self->page[0]);
		vm_set_user_memory_region(self->owner, 0, 0, there, 4096,
					  self->mem);
		trial_end(self->spin, self->page[0], HOLE, i);
		vm_set_user_memory_region(self->owner, 0, 0, PEER_OWNER_GPA,
					  4096, self->mem);
	}
}

static void send_fd(int sock, int fd)
{
	char buf[CMSG_SPACE(sizeof(fd))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == 1, "sendmsg: %s", strerror(errno));
}

static int receive_fd(int sock)
{
	char buf[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	int fd;

	TEST_ASSERT(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1 &&
		    CMSG_FIRSTHDR(&msg), "recvmsg: %s", strerror(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* An owner in a process of its own, which does nothing but live. */
static pid_t start_owner(int memfd, int *domain)
{
	struct kvm_vm *vm;
	int socks[2], fd;
	pid_t pid;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair");
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		vm = vm_create_barebones();
		vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096,
					  map_page(memfd, 0, NULL));
		fd = vm2vm_create_domain(vm);
		vm2vm_map(fd, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		send_fd(socks[1], fd);
		for (;;)
			pause();
	}
	close(socks[1]);
	*domain = receive_fd(socks[0]);
	close(socks[0]);
	return pid;
}

TEST_F_TIMEOUT(revoke, owner_killed, 900)
{
	int domain, status;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < self->trials; i++) {
		pid = start_owner(self->memfd, &domain);
		vm2vm_link(self->backend, domain, PEER_SLOT, PEER_WINDOW,
			   PEER_IOVA, 4096, 0);
		trial_begin(self->spin, self->page[0]);
		TEST_ASSERT(!kill(pid, SIGKILL), "kill");
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		trial_end(self->spin, self->page[0], HOLE, i);
		vm2vm_unlink(self->backend, PEER_SLOT);
		close(domain);
	}
}

/*
 * A fault that is under way while the approval goes: the guest takes one on every
 * pass, as the page is approved and revoked without a pause.
 */
TEST_F_TIMEOUT(revoke, unmap_races_fault, 600)
{
	unsigned int i;

	self->domain = vm2vm_create_domain(self->owner);
	vm2vm_link(self->backend, self->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA, 4096, 0);
	for (i = 0; i < self->trials; i++) {
		vm2vm_map(self->domain, PEER_IOVA, PEER_OWNER_GPA, 4096,
			  VM2VM_RW);
		if (i % 4)
			spin_wait(self->spin, i % 4 - 1);
		vm2vm_unmap(self->domain, PEER_IOVA, 4096);
		trial_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_HARNESS_MAIN
