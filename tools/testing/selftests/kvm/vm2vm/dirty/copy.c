// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: what the log is for, migration; and two VMs that are owner and backend
 * of each other, and both harvest.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "vm2vm_harness.h"
#include "fixture.h"
#include "owner.h"
#include "vm2vm_peer.h"

#define COPY_ROUNDS	12

static void copy_reported(struct dirty_owner *o, void *copy)
{
	unsigned int page;

	for (page = 0; page < o->pages; page++)
		if (o->dirty[page])
			memcpy(copy + page * 4096, o->mem + page * 4096, 4096);
}

/* The first byte that is not the same. */
static void compare_copy(struct dirty_owner *o, void *copy, uint64_t seed)
{
	unsigned int page, i;
	uint64_t *from, *to;

	for (page = 0; page < o->pages; page++) {
		from = owner_word(o, page, 0);
		to = copy + page * 4096;
		for (i = 0; i < 512; i++)
			TEST_ASSERT(from[i] == to[i],
				    "seed %lu: the copy has 0x%lx and not 0x%lx in page %u at %u",
				    seed, to[i], from[i], page, i * 8);
	}
}

/* Writers stop one after the other, and what they wrote by then counts. */
static void migrate(struct dirty_owner *o, struct dirty_vm *b, void *copy, uint64_t *seed)
{
	uint64_t this = *seed;
	unsigned int i, stops;

	dirty_go(&o->v, DIRTY_BURSTS, DIRTY_OWN, o->pages);
	for (i = 0; i < 4; i++)
		dirty_go(&b[i], DIRTY_BURSTS, DIRTY_WINDOW(0), o->pages);
	dirty_nap(dirty_random(seed) % 1000);

	owner_log(o, true);
	memcpy(copy, o->mem, o->pages * 4096ul);
	for (i = 0; i < COPY_ROUNDS; i++) {
		stops = dirty_random(seed) % 16;
		if (stops < 4)
			dirty_stop(&b[stops]);
		else if (stops == 4)
			dirty_stop(&o->v);
		dirty_nap(dirty_random(seed) % 1000);
		owner_harvest(o);
		copy_reported(o, copy);
	}
	for (i = 0; i < 4; i++)
		dirty_ask_stop(&b[i]);
	dirty_stop(&o->v);
	for (i = 0; i < 4; i++)
		dirty_stop(&b[i]);
	owner_harvest(o);
	copy_reported(o, copy);
	compare_copy(o, copy, this);
	EXPECT_HARVEST(o, "everybody has stopped");
	owner_log(o, false);
}

/*
 * The owner's memory is copied page by page as the log says, while five VMs write to
 * it.  When they have stopped the copy is what the memory is.
 */
TEST_F_TIMEOUT(dirty_log, migration, 600)
{
	unsigned int trials = vm2vm_trials(100), trial, i;
	uint64_t seed = now_us() | 1, writes = 0;
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	void *copy = peer_mmap(PAGES * 4096, 0);

	TEST_ASSERT(copy, "mmap: %s", strerror(errno));
	/* As many with the ring as with the other styles together. */
	if (variant->style != STYLE_RING)
		trials = (trials + 2) / 3;
	dirty_low_priority();
	o->v.nap = 50;
	domain_map_pages(o->domain, PAGES, VM2VM_RW);
	for (i = 0; i < 4; i++) {
		b[i].nap = 100;
		backend_link(&b[i], 0, o, o->domain, 0);
	}
	for (trial = 0; trial < trials; trial++) {
		o->v.ctl->seed = dirty_random(&seed) | 1;
		for (i = 0; i < 4; i++)
			b[i].ctl->seed = dirty_random(&seed) | 1;
		migrate(o, b, copy, &seed);
	}
	for (i = 0; i < 4; i++)
		writes += b[i].ctl->writes;
	TH_LOG("%u migrations, %lu writes by the backends, %lu by the owner", trials, writes,
	       o->v.ctl->writes);
	EXPECT_EQ(0, b[0].mmio + b[1].mmio + b[2].mmio + b[3].mmio);
	munmap(copy, PAGES * 4096);
}

/* What the peer writes to, and what the owner's own guest does. */
#define MUTUAL_PEER	20
#define MUTUAL_OWN	70
#define MUTUAL_NR	20

struct mutual {
	struct dirty_owner *o;
	struct dirty_vm *peer;
	unsigned int rounds;
	unsigned int reports;
	uint64_t base[MUTUAL_NR];	/* what was in the page after it was reported last */
};

/* What is in memory as a harvest begins is in that, or in one before. */
static void mutual_harvest(struct mutual *m, unsigned int round)
{
	struct dirty_owner *o = m->o;
	uint64_t now[MUTUAL_NR];
	unsigned int page;

	for (page = 0; page < MUTUAL_NR; page++)
		now[page] = READ_ONCE(*owner_word(o, MUTUAL_PEER + page,
						  DIRTY_WORD(m->peer->ctl->id)));
	owner_harvest(o);
	for (page = 0; page < MUTUAL_NR; page++) {
		if (!o->dirty[MUTUAL_PEER + page]) {
			TEST_ASSERT(now[page] == m->base[page],
				    "VM %lu, round %u: page %u is not reported, pass %lu of the peer wrote it after %lu",
				    o->v.ctl->id, round, MUTUAL_PEER + page, now[page],
				    m->base[page]);
			continue;
		}
		m->reports += now[page] != m->base[page];
		m->base[page] = READ_ONCE(*owner_word(o, MUTUAL_PEER + page,
						      DIRTY_WORD(m->peer->ctl->id)));
	}
	for (page = 0; page < o->pages; page++)
		TEST_ASSERT(!o->dirty[page] || page - MUTUAL_PEER < MUTUAL_NR ||
			    page - MUTUAL_OWN < MUTUAL_NR,
			    "VM %lu, round %u: page %u is reported and nobody writes it",
			    o->v.ctl->id, round, page);
}

static void *mutual_thread(void *arg)
{
	struct mutual *m = arg;
	uint64_t end = now_us() + 60 * 1000000ull;
	unsigned int i;

	/* The guests need the CPU as well. */
	dirty_low_priority();
	for (i = 0; i < m->rounds || !m->reports; i++) {
		mutual_harvest(m, i);
		/* Enough of it, but the peer's guest has not come to write. */
		if (i >= m->rounds)
			usleep(1000);
		TEST_ASSERT(m->reports || i % 64 || now_us() < end,
			    "VM %lu: in %u harvests the peer has written %u pages",
			    m->o->v.ctl->id, i, m->reports);
	}
	m->rounds = i;
	return NULL;
}

/*
 * A and B show each other their memory, both write to it and to their own, and both
 * harvest all the time.
 */
TEST_F_TIMEOUT(dirty_log, mutual, 300)
{
	struct dirty_owner *o[2] = { &self->o, NULL }, other;
	unsigned int i, trials = vm2vm_trials(100);
	struct mutual m[2];
	pthread_t thread[2];

	o[1] = &other;
	owner_create(o[1], variant->style, 6, PAGES, SPLIT);
	for (i = 0; i < 2; i++) {
		domain_map_pages(o[i]->domain, PAGES, VM2VM_RW);
		backend_link(&o[!i]->v, 0, o[i], o[i]->domain, 0);
		owner_log_on(o[i]);
		o[i]->v.ctl->addr[1] = DIRTY_OWN + MUTUAL_OWN * 4096;
		o[i]->v.ctl->count[1] = MUTUAL_NR;
		m[i] = (struct mutual) { o[i], &o[!i]->v, 5 * trials };
	}
	for (i = 0; i < 2; i++)
		dirty_go(&o[i]->v, DIRTY_PASSES, DIRTY_WINDOW(0) + MUTUAL_PEER * 4096, MUTUAL_NR);
	for (i = 0; i < 2; i++)
		TEST_ASSERT(!pthread_create(&thread[i], NULL, mutual_thread, &m[i]),
			    "pthread_create");
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < 2; i++)
		TH_LOG("%u harvests, %u pages reported that the peer wrote", m[i].rounds,
		       m[i].reports);
	for (i = 0; i < 2; i++)
		dirty_stop(&o[i]->v);
	for (i = 0; i < 2; i++) {
		owner_harvest(o[i]);
		EXPECT_HARVEST(o[i], "both have stopped");
		dirty_write(o[i], &o[!i]->v, 0, 3);
		EXPECT_HARVEST(o[i], "the peer's last write");
	}
	owner_destroy(&other);
}
