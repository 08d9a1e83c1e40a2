// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bound_test: a thread of somebody's is in the middle of something when it is given
 * no CPU any more.  Nobody else waits for it.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "vm2vm_cpu.h"
#include "vm2vm_harness.h"
#include "vm2vm_peer.h"

#define LINKS		64u
#define STRIDE		16384ul	/* from one window to the next */
#define LIMIT		20.0	/* seconds: what waits for the thread takes HOG_TIME */
#define HOG_TIME	60.0
#define FAULTS		8192ul
#define ALIASES		200u	/* more than are looked at one by one */

FIXTURE(starve)
{
	struct peer p;
	pthread_t thread;
	bool stop;
	unsigned long rounds;
	double longest;
};

FIXTURE_SETUP(starve)
{
	if (!hog_prepare())
		SKIP(return, "no second CPU that can be taken away from a thread");
	peer_init(&self->p, 4096);
	virt_map_level(self->p.backend, PEER_WINDOW, PEER_WINDOW, 1ul << 30, PG_LEVEL_1G);
}

FIXTURE_TEARDOWN(starve)
{
	hog_restore();
	if (self->p.owner)
		peer_free(&self->p);
}

static void link_many(struct peer *p, int domain)
{
	unsigned int i;

	for (i = 0; i < LINKS; i++)
		vm2vm_link(p->backend, domain, PEER_SLOT + i, PEER_WINDOW + i * STRIDE, PEER_IOVA,
			   8192, 0);
}

static void unlink_many(struct peer *p)
{
	unsigned int i;

	for (i = 0; i < LINKS; i++)
		vm2vm_unlink(p->backend, PEER_SLOT + i);
}

/* The thread goes on when it has the CPU, over and over. */
static void start(struct _test_data_starve *self, void *(*run)(void *arg))
{
	unsigned long before;

	if (!self->thread)
		TEST_ASSERT(!pthread_create(&self->thread, NULL, run, self), "pthread_create");
	before = READ_ONCE(self->rounds);
	while (READ_ONCE(self->rounds) == before)
		usleep(1000);
}

static void stop(struct _test_data_starve *self)
{
	WRITE_ONCE(self->stop, true);
	pthread_join(self->thread, NULL);
}

/* What a stranger did since @begin had to be quick; the thread goes on again. */
static void expect_quick(struct _test_data_starve *self, struct hog *h, double begin)
{
	double t = now_seconds() - begin;

	self->longest = t > self->longest ? t : self->longest;
	hog_stop(h);
	TEST_ASSERT(t < LIMIT, "%.3f s", t);
}

/* The same, with a page in each that stays: so there is something to revoke in all. */
static void link_and_touch(struct peer *p)
{
	link_many(p, p->domain);
	peer_sum(p, PEER_WINDOW, LINKS, STRIDE);
}

/* An owner that revokes another page, and walks over all links for that. */
static void *walk(void *arg)
{
	struct _test_data_starve *self = arg;
	int domain = self->p.domain;

	pin_to(HOG_CPU);
	while (!READ_ONCE(self->stop)) {
		vm2vm_map(domain, PEER_IOVA + 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
		vm2vm_unmap(domain, PEER_IOVA + 4096, 4096);
		WRITE_ONCE(self->rounds, self->rounds + 1);
	}
	return NULL;
}

/* Windows that it walks over can be removed, and its backend can go. */
TEST_F_TIMEOUT(starve, unlink, 120)
{
	unsigned int i, rounds = vm2vm_trials(10);
	struct peer *p = &self->p;
	struct hog h;
	double begin;

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	for (i = 0; i < rounds; i++) {
		link_and_touch(p);
		start(self, walk);
		hog_start(&h, HOG_TIME);
		begin = now_seconds();
		unlink_many(p);
		expect_quick(self, &h, begin);
	}
	link_and_touch(p);
	start(self, walk);
	hog_start(&h, HOG_TIME);
	begin = now_seconds();
	kvm_vm_free(p->backend);
	p->backend = NULL;
	expect_quick(self, &h, begin);
	stop(self);
	ksft_print_msg("longest %.3f s\n", self->longest);
}

/* A backend's holes are filled, while the owner revokes another page. */
TEST_F_TIMEOUT(starve, filled, 120)
{
	unsigned int i, rounds = vm2vm_trials(10);
	uint64_t window = PEER_WINDOW + LINKS * STRIDE;
	struct peer *p = &self->p;
	struct hog h;
	double begin;

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	link_and_touch(p);
	vm2vm_link(p->backend, p->domain, PEER_SLOT + LINKS, window, PEER_IOVA + 16 * 4096,
		   rounds * 4096ul, KVM_VM2VM_LINK_FILL);
	for (i = 0; i < rounds; i++) {
		start(self, walk);
		usleep(i * 100);
		hog_start(&h, HOG_TIME);
		begin = now_seconds();
		EXPECT_EQ(~0ull, peer_sum(p, window + i * 4096ul, 1, 4096));
		expect_quick(self, &h, begin);
	}
	stop(self);
	ksft_print_msg("longest %.3f s\n", self->longest);
}

/* What is not for a stranger to call is refused, while the owner is in such a call. */
TEST_F_TIMEOUT(starve, refused, 120)
{
	unsigned int i, rounds = vm2vm_trials(10);
	struct peer *p = &self->p;
	struct kvm_vm2vm_query found;
	int status, child[2];
	struct hog h;
	double begin;
	pid_t pid;
	char c;

	TEST_ASSERT(!pipe(child), "pipe");
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	link_and_touch(p);
	for (i = 0; i < rounds; i++) {
		pid = fork();
		if (!pid) {
			_exit(read(child[0], &c, 1) != 1 ||
			      __vm2vm_query(p->domain, 0, &found) != -EPERM ||
			      __vm2vm_end(p->domain) != -EPERM);
		}
		start(self, walk);
		hog_start(&h, HOG_TIME);
		begin = now_seconds();
		TEST_ASSERT(write(child[1], "", 1) == 1 && waitpid(pid, &status, 0) == pid,
			    "fork");
		expect_quick(self, &h, begin);
		EXPECT_EQ(0, status);
	}
	stop(self);
	ksft_print_msg("longest %.3f s\n", self->longest);
}

/* An owner whose memory comes and goes: its MMU notifier walks over domains and links. */
static void *walk_domains(void *arg)
{
	struct _test_data_starve *self = arg;

	pin_to(HOG_CPU);
	while (!READ_ONCE(self->stop)) {
		WRITE_ONCE(*peer_word(&self->p, 0), 1);
		TEST_ASSERT(!madvise(self->p.mem, 4096, MADV_DONTNEED), "madvise");
		WRITE_ONCE(self->rounds, self->rounds + 1);
	}
	return NULL;
}

/* The last descriptor of a domain that it walks over can be closed. */
TEST_F_TIMEOUT(starve, close, 120)
{
	unsigned int i, k, rounds = vm2vm_trials(20);
	struct peer *p = &self->p;
	double begin;
	struct hog h;
	int domain;

	for (i = 0; i < rounds; i++) {
		domain = vm2vm_create_domain(p->owner);
		for (k = 0; k < ALIASES; k++)
			vm2vm_map(domain, PEER_IOVA + k * 8192, PEER_OWNER_GPA, 4096, VM2VM_RW);
		link_many(p, domain);
		start(self, walk_domains);
		hog_start(&h, HOG_TIME);
		begin = now_seconds();
		close(domain);
		expect_quick(self, &h, begin);
		unlink_many(p);
	}
	stop(self);
	ksft_print_msg("longest %.3f s\n", self->longest);
}

/* A backend whose vCPU takes one fault after the other. */
static void *fault(void *arg)
{
	struct _test_data_starve *self = arg;
	struct peer *p = &self->p;

	pin_to(HOG_CPU);
	while (!READ_ONCE(self->stop)) {
		WRITE_ONCE(self->rounds, self->rounds + 1);
		peer_sum(p, PEER_WINDOW, FAULTS, 4096);
		vm2vm_unlink(p->backend, PEER_SLOT);
		vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
			   FAULTS * 4096, 0);
	}
	return NULL;
}

/* Domains and VMs of strangers end while it does, and its owner's memslots change. */
TEST_F_TIMEOUT(starve, end, 120)
{
	unsigned int i, rounds = vm2vm_trials(20);
	struct kvm_vm *vm = vm_create_barebones();
	struct peer *p = &self->p;
	struct hog h;
	double begin;
	int domain;

	*peer_word(p, 0) = 1;
	for (i = 0; i < FAULTS; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, FAULTS * 4096, 0);
	for (i = 0; i < rounds; i++) {
		domain = vm2vm_create_domain(vm);
		start(self, fault);
		usleep(20000);
		hog_start(&h, HOG_TIME);
		begin = now_seconds();
		vm2vm_end(domain);
		close(domain);
		vm_set_user_memory_region(p->owner, 7, 0, 2 * PEER_OWNER_GPA, 4096, p->mem);
		vm_set_user_memory_region(p->owner, 7, 0, 2 * PEER_OWNER_GPA, 0, p->mem);
		expect_quick(self, &h, begin);
	}
	stop(self);
	kvm_vm_free(vm);
	ksft_print_msg("longest %.3f s\n", self->longest);
}
