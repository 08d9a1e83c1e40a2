// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bound_test: whoever closes the last descriptor of a domain does not pay for what
 * the owner has brought.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vm2vm_cpu.h"
#include "vm2vm_harness.h"
#include "vm2vm_peer.h"

#define MAPPINGS	200000ul

/* What the owner's process and the test tell each other. */
struct talk {
	int domain;		/* the owner's descriptor */
	double end;		/* how long END of as many mappings took */
	bool ready;
	bool taken;		/* the test has its own descriptor */
	bool closed;		/* and so the only one */
};

FIXTURE(close)
{
	struct talk *talk;
	pid_t pid;
};

static void map_many(int domain)
{
	struct kvm_vm2vm_map *maps = calloc(MAPPINGS, sizeof(*maps));
	uint32_t i, nr = MAPPINGS;

	TEST_ASSERT(maps, "calloc");
	for (i = 0; i < MAPPINGS; i++)
		maps[i] = (struct kvm_vm2vm_map) {
			.iova = i * 8192ul, .gpa = PEER_OWNER_GPA, .size = 4096,
			.flags = VM2VM_RW,
		};
	TEST_ASSERT(!__vm2vm_map_batch(domain, maps, &nr) && !nr, "KVM_VM2VM_MAP_BATCH");
	free(maps);
}

static void owner(struct talk *t)
{
	struct kvm_vm *vm = vm_create_barebones();
	int domain = vm2vm_create_domain(vm);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096, peer_mmap(4096, 0));
	map_many(domain);
	t->end = now_seconds();
	vm2vm_end(domain);
	t->end = now_seconds() - t->end;
	close(domain);

	t->domain = vm2vm_create_domain(vm);
	map_many(t->domain);
	WRITE_ONCE(t->ready, true);
	while (!READ_ONCE(t->taken))
		usleep(1000);
	close(t->domain);
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
	int pidfd = syscall(__NR_pidfd_open, self->pid, 0), domain;
	struct talk *t = self->talk;
	double time;

	while (!READ_ONCE(t->ready))
		usleep(10000);
	domain = syscall(__NR_pidfd_getfd, pidfd, t->domain, 0);
	TEST_ASSERT(domain >= 0, "pidfd_getfd: %s", strerror(errno));
	WRITE_ONCE(t->taken, true);
	while (!READ_ONCE(t->closed))
		usleep(1000);

	time = now_seconds();
	close(domain);
	time = now_seconds() - time;
	ksft_print_msg("%lu mappings: END %.4f s, the last close by a stranger %.4f s\n",
		       MAPPINGS, t->end, time);
	EXPECT_LT(time * 4, t->end);
	close(pidfd);
}
