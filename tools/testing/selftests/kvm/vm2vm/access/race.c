// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: a guest that has KVM read and write a page of its window again and
 * again, while the page is taken away.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "vm2vm_harness.h"
#include "access.h"

#define RACE_OLD	0x01d01d01d01d01d0ull
#define RACE_CANARY	0xdeadbeefdeadbeefull
#define RACE_HOLE	(~0ull)

/* Two words of the page: the guest reads one, and writes the other. */
#define RACE_READ	0
#define RACE_WRITE	1

/* In the backend's memory. */
struct race {
	uint64_t count;		/* passes of the loop */
	uint64_t last;		/* what was read last */
	uint64_t seen;		/* how often the canary was read */
	uint64_t odd;		/* and what is neither the page's nor a hole's, by moves */
	uint64_t forced;	/* by forced emulation, not by moves from and to the device */
	uint64_t stop;
};

static struct race race;

static void race_pass_forced(uint64_t *page)
{
	uint64_t val;

	asm volatile(KVM_FEP "movq %[val], (%[dst])"
		     : : [val] "r"(race.count), [dst] "r"(&page[RACE_WRITE]) : "memory");
	asm volatile(KVM_FEP "movq (%[src]), %[val]"
		     : [val] "=r"(val) : [src] "r"(&page[RACE_READ]) : "memory");
	if (val == RACE_CANARY)
		race.seen++;
	WRITE_ONCE(race.last, val);
}

/* The same from and to the first words of the device, which counts what it gets. */
static void race_pass_moves(uint64_t *page)
{
	uint64_t src = DEV_GPA, dst = (uintptr_t)&page[RACE_WRITE];

	asm volatile("movsq" : "+S"(src), "+D"(dst) : : "memory");
	src = (uintptr_t)&page[RACE_READ];
	dst = DEV_GPA + 8;
	asm volatile("movsq" : "+S"(src), "+D"(dst) : : "memory");
}

static void race_guest(void)
{
	uint64_t *page = (uint64_t *)PEER_WINDOW;

	peer_guest_interruptible();
	while (!READ_ONCE(race.stop)) {
		if (race.forced)
			race_pass_forced(page);
		else
			race_pass_moves(page);
		WRITE_ONCE(race.count, race.count + 1);
	}
	GUEST_DONE();
}

/**
 * struct race_world - an owner with one page of a file, and such a guest
 * @a: owner and backend
 * @race: the guest's
 * @page: the owner's page, in a mapping of the test's own
 * @memfd: the file
 * @thread: of the vCPU
 */
struct race_world {
	struct access a;
	struct race *race;
	uint64_t *page;
	int memfd;
	pthread_t thread;
};

static void *race_vcpu(void *arg)
{
	struct race_world *w = arg;
	struct access *a = &w->a;
	struct kvm_run *run = a->p.vcpu->run;
	uint64_t val;

	for (;;) {
		vcpu_run(a->p.vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		access_mmio(a);
		if (run->mmio.phys_addr != DEV_GPA + 8)
			continue;
		memcpy(&val, run->mmio.data, sizeof(val));
		if (val == RACE_CANARY)
			w->race->seen++;
		else if (val != RACE_OLD && val != RACE_HOLE)
			w->race->odd++;
		WRITE_ONCE(w->race->last, val);
	}
	TEST_ASSERT(get_ucall(a->p.vcpu, NULL) == UCALL_DONE, "exit reason %u (%s)",
		    run->exit_reason, exit_reason_str(run->exit_reason));
	return NULL;
}

static void *race_map(struct race_world *w, void *where)
{
	void *p = mmap(where, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | (where ? MAP_FIXED : 0),
		       w->memfd, 0);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void race_start(struct race_world *w, bool forced)
{
	w->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	TEST_ASSERT(w->memfd >= 0 && !ftruncate(w->memfd, 4096), "memfd: %s", strerror(errno));
	access_init(&w->a, 4096, race_guest);
	w->page = race_map(w, NULL);
	race_map(w, w->a.p.mem);
	vm2vm_link(w->a.p.backend, w->a.p.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, 4096, 0);
	peer_map_window(&w->a.p, PEER_WINDOW, 4096);
	w->race = addr_gva2hva(w->a.p.backend, (uintptr_t)&race);
	w->race->forced = forced;
	pthread_create(&w->thread, NULL, race_vcpu, w);
}

static void race_stop(struct race_world *w)
{
	WRITE_ONCE(w->race->stop, 1);
	pthread_join(w->thread, NULL);
	peer_free(&w->a.p);
}

/* Wait until the guest has been around its loop @n times from now on. */
static void race_wait(struct race_world *w, uint64_t n)
{
	uint64_t end = READ_ONCE(w->race->count) + n;
	struct timespec start, now;
	unsigned int i = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (READ_ONCE(w->race->count) < end) {
		if (++i % 1024)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &now);
		TEST_ASSERT(now.tv_sec - start.tv_sec < 60, "the guest does not go on");
	}
}

/* After a revocation: nothing of the guest gets to the page or comes from it. */
static void race_end(struct race_world *w, unsigned int trial)
{
	WRITE_ONCE(w->page[RACE_READ], RACE_CANARY);
	WRITE_ONCE(w->page[RACE_WRITE], RACE_CANARY);
	race_wait(w, 3);
	TEST_ASSERT(READ_ONCE(w->page[RACE_WRITE]) == RACE_CANARY,
		    "trial %u: the canary was overwritten", trial);
	TEST_ASSERT(!READ_ONCE(w->race->seen), "trial %u: the canary was seen", trial);
	TEST_ASSERT(READ_ONCE(w->race->last) == RACE_HOLE, "trial %u: 0x%lx was read", trial,
		    w->race->last);
	WRITE_ONCE(w->page[RACE_READ], RACE_OLD);
}

FIXTURE(race)
{
	struct race_world w;
	unsigned int trials;
};

FIXTURE_VARIANT(race)
{
	bool forced;
};

FIXTURE_VARIANT_ADD(race, moves) { .forced = false };
FIXTURE_VARIANT_ADD(race, forced) { .forced = true };

FIXTURE_SETUP(race)
{
	if (variant->forced && !kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");
	self->trials = vm2vm_trials(1000);
	race_start(&self->w, variant->forced);
}

FIXTURE_TEARDOWN(race)
{
	race_stop(&self->w);
}

TEST_F_TIMEOUT(race, unmap, 600)
{
	struct race_world *w = &self->w;
	unsigned int i;

	for (i = 0; i < self->trials; i++) {
		vm2vm_map(w->a.p.domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		race_wait(w, i % 4);
		vm2vm_unmap(w->a.p.domain, PEER_IOVA, 4096);
		race_end(w, i);
	}
}

TEST_F_TIMEOUT(race, munmap, 600)
{
	struct race_world *w = &self->w;
	unsigned int i;

	vm2vm_map(w->a.p.domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	for (i = 0; i < self->trials; i++) {
		race_wait(w, 1 + i % 4);
		TEST_ASSERT(!munmap(w->a.p.mem, 4096), "munmap");
		race_end(w, i);
		race_map(w, w->a.p.mem);
	}
}

/*
 * While the memslot goes it is neither there nor not: then it is a hole, and not what KVM
 * has read before, which was from the device.
 */
TEST_F_TIMEOUT(race, unlink, 600)
{
	struct race_world *w = &self->w;
	struct peer *p = &w->a.p;
	unsigned int i;

	WRITE_ONCE(w->page[RACE_READ], RACE_OLD);
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
	for (i = 0; i < self->trials; i++) {
		race_wait(w, i % 4);
		vm2vm_unlink(p->backend, PEER_SLOT);
		race_end(w, i);
		TEST_ASSERT(!READ_ONCE(w->race->odd), "trial %u: something else was read", i);
		vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, 4096, 0);
	}
}
