// SPDX-License-Identifier: GPL-2.0
/* vm2vm_miss_test: many vCPUs of several backends. */
#include <poll.h>
#include <sched.h>
#include <signal.h>

#include "miss.h"

/**
 * struct six - six vCPUs that miss
 * @more: two backends besides that of the fixture
 * @r: the vCPUs: of these two, then of the fixture's
 * @by_page: how many misses read_six() has read
 */
struct six {
	struct backend more[2];
	struct runner *r[6];
	unsigned int by_page[PAGES];
};

static void make_six(struct six *s, struct backend *first, int domain)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		backend_make(&s->more[i], 2);
		backend_link(&s->more[i], domain, WAIT);
		s->r[2 * i] = &s->more[i].r[0];
		s->r[2 * i + 1] = &s->more[i].r[1];
	}
	backend_link(first, domain, WAIT);
	s->r[4] = &first->r[0];
	s->r[5] = &first->r[1];
}

/* Read the misses of six vCPUs by one call each two, or all that are there. */
static void read_six(struct six *s, int domain)
{
	struct kvm_vm2vm_miss misses[6];
	unsigned int i, nr;
	ssize_t size;

	memset(s->by_page, 0, sizeof(s->by_page));
	for (nr = 0; nr < 6; nr += size / sizeof(misses[0])) {
		TEST_ASSERT(poll_for(domain, LIMIT * 1000) == POLLIN, "no more misses than %u", nr);
		size = read(domain, misses, sizeof(misses));
		TEST_ASSERT(size > 0 && !(size % sizeof(misses[0])), "read: %zd", size);
		for (i = 0; i < size / sizeof(misses[0]); i++)
			s->by_page[(misses[i].iova - PEER_IOVA) / 4096]++;
	}
	TEST_ASSERT(nr == 6, "%u misses", nr);
}

/* Have each read a page, which is @step pages behind that of the one before, and miss. */
static void start_six(struct six *s, struct backend *first, int domain, unsigned int page,
		      unsigned int step)
{
	unsigned int i;

	make_six(s, first, domain);
	for (i = 0; i < 6; i++)
		access_start(s->r[i], MISS_READ, page + i * step, 0);
	read_six(s, domain);
}

/* One answer is for all that wait for the page, whoever they are. */
TEST_F_TIMEOUT(miss, many_same, 120)
{
	struct six s;
	struct runner **r = s.r;
	unsigned int i;

	start_six(&s, &self->b, self->domain, 7, 0);
	EXPECT_EQ(6, s.by_page[7]);
	map_pages(self->domain, 7, 1, RD);
	for (i = 0; i < 6; i++)
		EXPECT_EQ(VALUE(7), access_val(r[i]));

	/* Those that write miss again if they may only read. */
	unmap_pages(self->domain, 7, 1);
	for (i = 0; i < 6; i++)
		access_start(r[i], i % 2 ? MISS_WRITE : MISS_READ, 7, 8);
	read_six(&s, self->domain);
	map_pages(self->domain, 7, 1, RD);
	for (i = 0; i < 6; i += 2)
		EXPECT_EQ(VALUE(7), access_val(r[i]));
	for (i = 1; i < 6; i += 2)
		expect_miss(self->domain, 7, VM2VM_RW);
	EXPECT_EQ(3, refuse_pages(self->domain, 0, PAGES));
	for (i = 1; i < 6; i += 2) {
		EXPECT_EQ(0, access_end(r[i]));
		EXPECT_EQ(1, r[i]->mmio);
	}
	EXPECT_EQ(VALUE(7), *word(self->mem, 7));
	expect_no_miss(self->domain);
}

/* An answer is for its range, and for all of it. */
TEST_F_TIMEOUT(miss, many_different, 120)
{
	struct kvm_vm2vm_map maps[2] = {
		{ IOVA(0), GPA(0), 4096, RD }, { IOVA(4), GPA(4), 4096, RD },
	};
	struct six s;
	struct runner **r = s.r;
	unsigned int i;
	uint32_t nr = 2;

	start_six(&s, &self->b, self->domain, 0, 2);
	for (i = 0; i < 6; i++) {
		EXPECT_EQ(1, s.by_page[2 * i]);
		until_waits(r[i], 1);
	}

	/* Pages 0 and 4 by a batch, 2 by a page, 6 to 8 by a refusal, then the rest. */
	EXPECT_EQ(0, __vm2vm_map_batch(self->domain, maps, &nr));
	EXPECT_EQ(VALUE(0), access_val(r[0]));
	EXPECT_EQ(VALUE(4), access_val(r[2]));
	still_waits(r[1], 1);
	map_pages(self->domain, 2, 1, RD);
	EXPECT_EQ(VALUE(2), access_val(r[1]));
	still_waits(r[3], 1);
	still_waits(r[5], 1);
	EXPECT_EQ(2, refuse_pages(self->domain, 5, 5));
	EXPECT_EQ(HOLE, access_val(r[3]));
	EXPECT_EQ(HOLE, access_val(r[4]));
	still_waits(r[5], 1);
	map_pages(self->domain, 5, 11, RD);
	EXPECT_EQ(VALUE(10), access_val(r[5]));
	expect_no_miss(self->domain);
	EXPECT_EQ(0, refuse_pages(self->domain, 0, PAGES));
}

/* All that wait when a signal, the link, or the domain ends it for one, or all. */
TEST_F_TIMEOUT(miss, many_end, 120)
{
	struct six s;
	struct runner **r = s.r;
	unsigned int i;

	start_six(&s, &self->b, self->domain, 3, 0);
	for (i = 0; i < 6; i++)
		until_waits(r[i], 1);
	pthread_kill(r[0]->thread, SIGUSR1);
	EXPECT_EQ(-EINTR, access_end(r[0]));
	vm2vm_unlink(s.more[1].vm, PEER_SLOT);
	EXPECT_EQ(HOLE, access_val(r[2]));
	EXPECT_EQ(HOLE, access_val(r[3]));
	still_waits(r[1], 1);
	still_waits(r[4], 1);
	still_waits(r[5], 1);
	close(self->domain);
	EXPECT_EQ(HOLE, access_val(r[1]));
	EXPECT_EQ(HOLE, access_val(r[4]));
	EXPECT_EQ(HOLE, access_val(r[5]));
	access_continue(r[0]);
	EXPECT_EQ(HOLE, access_val(r[0]));
	for (i = 0; i < 6; i++)
		EXPECT_EQ(1, r[i]->mmio);
}

#define BACKENDS	4
#define DISTURBED	2		/* so many of them get signals, and lose their links */
#define ALL_PAGES	(PAGES + BACKENDS * MAX_VCPUS)

/*
 * The stress: vCPUs access pages at random, and whoever waits is answered somehow,
 * by nothing else than what is read of it.  So if a wake-up is lost, or a record,
 * it does not end.
 *
 * Each vCPU has a page that is its own, behind those that all share, as an answer
 * to another vCPU would hide such a loss; and in each page of the owner's memory a
 * word that it alone writes to.
 */
static struct {
	int domain;
	struct backend b[BACKENDS];
	unsigned int vcpus;		/* of each backend */
	unsigned int accesses;		/* of each vCPU */
	uint64_t last[BACKENDS * MAX_VCPUS][PAGES];	/* what is in its words */
	unsigned long answers, maps, refused;
	unsigned long signals, dropped;
	unsigned int done;		/* accesses of all */
	bool stop;
} stress;

static unsigned int stress_index(struct runner *r)
{
	unsigned int b = 0;

	while (r < stress.b[b].r || r >= stress.b[b].r + MAX_VCPUS)
		b++;
	return b * MAX_VCPUS + (r - stress.b[b].r);
}

/* KVM_RUN until the access is done; whether it was done by memory. */
static bool stress_access(struct runner *r)
{
	unsigned int before = r->mmio;

	for (;;) {
		runner_thread(r);
		if (!r->err)
			break;
		TEST_ASSERT(r->err == EINTR, "KVM_RUN: %s", strerror(r->err));
		__sync_fetch_and_add(&stress.signals, 1);
	}
	TEST_ASSERT(get_ucall(r->vcpu, NULL) == UCALL_SYNC, "exit reason %u",
		    r->vcpu->run->exit_reason);
	if (r->mmio == before)
		return true;
	__sync_fetch_and_add(&stress.dropped, 1);
	return false;
}

static void stress_write(struct runner *r, unsigned int page, uint64_t val)
{
	unsigned int me = stress_index(r);

	r->cmd->op = MISS_WRITE;
	r->cmd->gva += (me + 1) * 8;
	r->cmd->val = val;
	if (stress_access(r))
		stress.last[me][page % PAGES] = val;
}

static void stress_read(struct runner *r, unsigned int page)
{
	uint64_t want;

	r->cmd->op = MISS_READ;
	want = stress_access(r) ? VALUE(page % PAGES) : HOLE;
	TEST_ASSERT(r->cmd->val == want, "page %u has 0x%lx, not 0x%lx", page, r->cmd->val, want);
}

/* Done, the thread stays until all are, as it may be sent a signal. */
static void *stress_vcpu(void *arg)
{
	struct runner *r = arg;
	unsigned int i, page, me = stress_index(r), seed = me;

	for (i = 1; i <= stress.accesses; i++) {
		page = rand_r(&seed) % (2 * PAGES);
		if (page >= PAGES)
			page = PAGES + me;
		r->cmd->gva = PEER_WINDOW + page * 4096ul;
		if (rand_r(&seed) % 2)
			stress_write(r, page, i);
		else
			stress_read(r, page);
		__sync_fetch_and_add(&stress.done, 1);
	}
	while (!READ_ONCE(stress.stop))
		usleep(10000);
	return NULL;
}

/* Approve what is asked for, or too little, or more. */
static void stress_map(const struct kvm_vm2vm_miss *miss, unsigned int *seed)
{
	unsigned int page = (miss->iova - PEER_IOVA) / 4096;
	unsigned int nr = page < PAGES ? 1 + rand_r(seed) % min(4u, PAGES - page) : 1;
	uint32_t flags = rand_r(seed) % 4 ? miss->flags : RD;
	struct kvm_vm2vm_map map = { IOVA(page), GPA(page % PAGES), nr * 4096, flags };
	uint32_t left = 1;
	int r = __vm2vm_map_batch(stress.domain, &map, &left);

	if (r == -EEXIST) {
		/* There is no telling what is in the way. */
		unmap_pages(stress.domain, 0, ALL_PAGES);
		left = 1;
		r = __vm2vm_map_batch(stress.domain, &map, &left);
	}
	TEST_ASSERT(!r, "KVM_VM2VM_MAP_BATCH: %s", strerror(-r));
	stress.maps++;
}

/* Until the domain ends. */
static void *stress_owner(void *arg)
{
	struct kvm_vm2vm_miss misses[5];
	unsigned int seed = 1;
	ssize_t i, size;

	while ((size = read(stress.domain, misses, sizeof(misses[0]) * (1 + seed % 5)))) {
		TEST_ASSERT(size > 0, "read: %s", strerror(errno));
		for (i = 0; i < size / sizeof(misses[0]); i++) {
			stress.answers++;
			if (rand_r(&seed) % 4)
				stress_map(&misses[i], &seed);
			else
				stress.refused += vm2vm_refuse(stress.domain, misses[i].iova, 4096);
		}
	}
	return NULL;
}

static void stress_link(struct backend *b)
{
	vm2vm_link(b->vm, stress.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, ALL_PAGES * 4096,
		   WAIT);
}

/* What may happen at any time. */
static void stress_event(unsigned int *seed, void *mem)
{
	struct backend *b = &stress.b[rand_r(seed) % BACKENDS];
	struct backend *disturbed = &stress.b[rand_r(seed) % DISTURBED];

	/* What waits for all vCPUs of a VM takes as long as a hundred of the others. */
	switch (rand_r(seed) % 100) {
	case 0:
		vm2vm_unlink(disturbed->vm, PEER_SLOT);
		stress_link(disturbed);
		break;
	case 1:
		vm_set_user_memory_region(b->vm, 50, 0, 4 * PEER_WINDOW, 4096, mem);
		vm_set_user_memory_region(b->vm, 50, 0, 4 * PEER_WINDOW, 0, mem);
		break;
	case 2 ... 50:
		pthread_kill(disturbed->r[rand_r(seed) % stress.vcpus].thread, SIGUSR1);
		break;
	default:
		unmap_pages(stress.domain, 0, ALL_PAGES);
	}
}

static void *stress_events(void *arg)
{
	void *mem = peer_mmap(4096, 0);
	unsigned int seed = 2;

	while (!READ_ONCE(stress.stop)) {
		stress_event(&seed, mem);
		usleep(rand_r(&seed) % 2000);
	}
	return NULL;
}

static void stress_start(void)
{
	unsigned int b, v, n = vm2vm_trials(1000);

	stress.accesses = 20 + n / 10;
	stress.vcpus = n >= 50 ? MAX_VCPUS : 4;
	for (b = 0; b < BACKENDS; b++) {
		backend_make(&stress.b[b], stress.vcpus);
		virt_map(stress.b[b].vm, PEER_WINDOW + PAGES * 4096, PEER_WINDOW + PAGES * 4096,
			 ALL_PAGES - PAGES);
		stress_link(&stress.b[b]);
	}
	for (b = 0; b < BACKENDS; b++) {
		for (v = 0; v < stress.vcpus; v++)
			start_thread(&stress.b[b].r[v].thread, stress_vcpu, &stress.b[b].r[v]);
	}
}

/* Wait for all accesses, as long as they go on. */
static void stress_wait(void)
{
	unsigned int all = BACKENDS * stress.vcpus * stress.accesses, last = 0, idle = 0;

	while (READ_ONCE(stress.done) < all) {
		usleep(10000);
		idle = READ_ONCE(stress.done) == last ? idle + 1 : 0;
		last = READ_ONCE(stress.done);
		TEST_ASSERT(idle < LIMIT * 100, "nothing goes on after %u of %u", last, all);
	}
	WRITE_ONCE(stress.stop, true);
}

/* Returns how often a vCPU has waited. */
static unsigned long stress_join(void)
{
	unsigned long total = 0;
	unsigned int b, v;

	for (b = 0; b < BACKENDS; b++) {
		for (v = 0; v < stress.vcpus; v++) {
			join_thread(stress.b[b].r[v].thread, "vCPU");
			total += waits(&stress.b[b].r[v]);
		}
	}
	return total;
}

TEST_F_TIMEOUT(miss, stress, 600)
{
	pthread_t owner, events;
	unsigned int i, page;
	unsigned long total;

	stress.domain = self->domain;
	start_thread(&owner, stress_owner, NULL);
	stress_start();
	start_thread(&events, stress_events, NULL);
	stress_wait();
	join_thread(events, "events");
	total = stress_join();
	expect_no_miss(self->domain);
	EXPECT_EQ(0, refuse_pages(self->domain, 0, ALL_PAGES));
	kvm_vm_free(self->owner);
	join_thread(owner, "read");

	for (page = 0; page < PAGES; page++) {
		EXPECT_EQ(VALUE(page), *word(self->mem, page));
		for (i = 0; i < BACKENDS * MAX_VCPUS; i++)
			EXPECT_EQ(stress.last[i][page], word(self->mem, page)[i + 1]);
	}
	EXPECT_GE(total, stress.answers);
	EXPECT_NE(0, stress.maps);
	EXPECT_NE(0, stress.refused);
	TH_LOG("%u vCPUs, %u accesses: %lu waits, %lu records, %lu MAPs, %lu refused",
	       BACKENDS * stress.vcpus, stress.done, total, stress.answers, stress.maps,
	       stress.refused);
	TH_LOG("%lu accesses to holes, %lu signals", stress.dropped, stress.signals);
}
