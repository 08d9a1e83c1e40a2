// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bound_test: whoever closes the last descriptor of a domain does not pay for what
 * the owner has brought.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vm2vm_cpu.h"
#include "vm2vm_harness.h"
#include "vm2vm_knob.h"
#include "vm2vm_peer.h"

#define MAPPINGS	100000u		/* or as many as take so long to make */
#define MAP_SECONDS	4.0
#define MAP_AT_ONCE	1000u
#define CLOSES		3

/* What the owner's process and the test tell each other. */
struct talk {
	int domains[CLOSES];	/* the owner's descriptors */
	double end;		/* how long END of as many mappings took */
	uint32_t mappings;
	bool ready;
	bool taken;		/* the test has its own descriptors */
	bool closed;		/* and so the only ones */
};

FIXTURE(close)
{
	struct talk *talk;
	pid_t pid;
};

/* Make @many mappings from number @first on. */
static void map_many(int domain, uint32_t first, uint32_t many)
{
	struct kvm_vm2vm_map *maps = calloc(many, sizeof(*maps));
	uint32_t i, nr = many;

	TEST_ASSERT(maps, "calloc");
	for (i = 0; i < many; i++)
		maps[i] = (struct kvm_vm2vm_map) {
			.iova = (first + i) * 8192ul, .gpa = PEER_OWNER_GPA, .size = 4096,
			.flags = VM2VM_RW,
		};
	TEST_ASSERT(!__vm2vm_map_batch(domain, maps, &nr) && !nr, "KVM_VM2VM_MAP_BATCH");
	free(maps);
}

static void owner(struct talk *t)
{
	struct kvm_vm *vm = vm_create_barebones();
	int domain = vm2vm_create_domain(vm);
	double start;
	uint32_t nr, i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096, peer_mmap(4096, 0));
	start = now_seconds();
	for (nr = 0; nr < MAPPINGS && now_seconds() - start < MAP_SECONDS; nr += MAP_AT_ONCE)
		map_many(domain, nr, MAP_AT_ONCE);
	t->mappings = nr;
	t->end = now_seconds();
	vm2vm_end(domain);
	t->end = now_seconds() - t->end;
	close(domain);

	for (i = 0; i < CLOSES; i++) {
		t->domains[i] = vm2vm_create_domain(vm);
		map_many(t->domains[i], 0, nr);
	}
	WRITE_ONCE(t->ready, true);
	while (!READ_ONCE(t->taken))
		usleep(1000);
	for (i = 0; i < CLOSES; i++)
		close(t->domains[i]);
	WRITE_ONCE(t->closed, true);
	pause();
}

FIXTURE_SETUP(close)
{
	self->talk = mmap(NULL, sizeof(*self->talk), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(self->talk != MAP_FAILED, "mmap");
	self->pid = fork();
	TEST_ASSERT(self->pid >= 0, "fork");
	if (!self->pid) {
		owner(self->talk);
		_exit(0);
	}
}

FIXTURE_TEARDOWN(close)
{
	kill(self->pid, SIGKILL);
	waitpid(self->pid, NULL, 0);
}

TEST_F_TIMEOUT(close, stranger, 120)
{
	int pidfd = syscall(__NR_pidfd_open, self->pid, 0), domains[CLOSES];
	struct talk *t = self->talk;
	double time, least = 1e9;
	unsigned int i;

	while (!READ_ONCE(t->ready))
		usleep(10000);
	for (i = 0; i < CLOSES; i++) {
		domains[i] = syscall(__NR_pidfd_getfd, pidfd, t->domains[i], 0);
		TEST_ASSERT(domains[i] >= 0, "pidfd_getfd: %s", strerror(errno));
	}
	WRITE_ONCE(t->taken, true);
	while (!READ_ONCE(t->closed))
		usleep(1000);

	/* The machine may stop for a while, but not in each of them. */
	for (i = 0; i < CLOSES; i++) {
		time = now_seconds();
		close(domains[i]);
		time = now_seconds() - time;
		least = time < least ? time : least;
	}
	ksft_print_msg("%u mappings: END %.4f s, the last close by a stranger %.4f s\n",
		       t->mappings, t->end, least);
	EXPECT_LT(least * 4, t->end);
	close(pidfd);
}

#define CGROUP		"/sys/fs/cgroup/vm2vm-close"
#define ENDED		200		/* domains */
#define ENDED_MAPPINGS	128u		/* of each, some 15 KiB */
#define ENDED_SIZE	1024		/* what a domain that has ended may cost at most */
#define SLACK		(1024 * 1024l)	/* what the kernel has charged in advance */

/* How much the cgroup has now. */
static long charged(void)
{
	return knob_read(CGROUP "/memory.current");
}

/* Does what it is told by a byte on its socket, and says when that is done. */
static void owner_of_many(int sock)
{
	struct kvm_vm *vm = vm_create_barebones();
	int domain[ENDED], i;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096, peer_mmap(4096, 0));
	/* What is made once. */
	close(vm2vm_create_domain(vm));
	TEST_ASSERT(write(sock, "r", 1) == 1 && read(sock, &c, 1) == 1, "socket");
	for (i = 0; i < ENDED; i++) {
		domain[i] = vm2vm_create_domain(vm);
		map_many(domain[i], 0, ENDED_MAPPINGS);
	}
	TEST_ASSERT(write(sock, "m", 1) == 1 && read(sock, &c, 1) == 1, "socket");
	for (i = 0; i < ENDED; i++)
		vm2vm_end(domain[i]);
	TEST_ASSERT(write(sock, "e", 1) == 1 && read(sock, &c, 1) == 1, "socket");
}

static void wait_byte(int sock)
{
	char c;

	TEST_ASSERT(read(sock, &c, 1) == 1, "the owner is gone");
}

FIXTURE(ended)
{
	pid_t pid;
};

FIXTURE_SETUP(ended)
{
}

FIXTURE_TEARDOWN(ended)
{
	if (self->pid) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
	}
	rmdir(CGROUP);
}

/* Domains that have ended, with their descriptors, cost their owner little. */
TEST_F_TIMEOUT(ended, is_small, 120)
{
	long before, mapped, after = 0;
	char number[16];
	int sock[2], i;

	knob_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) || charged() < 0)
		SKIP(return, "no memory cgroups");
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock), "socketpair");
	self->pid = fork();
	if (!self->pid) {
		snprintf(number, sizeof(number), "%d", getpid());
		TEST_ASSERT(knob_write(CGROUP "/cgroup.procs", number), "cgroup.procs");
		owner_of_many(sock[1]);
		_exit(0);
	}
	wait_byte(sock[0]);
	before = charged();
	TEST_ASSERT(write(sock[0], "m", 1) == 1, "socket");
	wait_byte(sock[0]);
	mapped = charged();
	TEST_ASSERT(write(sock[0], "e", 1) == 1, "socket");
	wait_byte(sock[0]);
	/* Some of it is freed a little later. */
	for (i = 0; i < 200; i++) {
		after = charged();
		if (after < before + ENDED * ENDED_SIZE + SLACK)
			break;
		usleep(100000);
	}
	ksft_print_msg("%ld KiB with mappings, %ld when %d domains have ended\n",
		       (mapped - before) >> 10, (after - before) >> 10, ENDED);
	EXPECT_LT(before + ENDED * ENDED_MAPPINGS * 100, mapped);
	EXPECT_LT(after, before + ENDED * ENDED_SIZE + SLACK);
}
