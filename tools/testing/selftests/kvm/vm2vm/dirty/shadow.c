// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: a model of what the logs must have, and may, while guests write at
 * random and everything changes: approvals, windows, memslots, logging.
 *
 * Each writer has a word of its own in every page, writes a number there that grows,
 * and tells in its private memory which write it has begun and which is over.  Each
 * harvest of a page compares that with the harvests before:
 *
 *  - What is in the memory when a harvest begins, and was not when the last one that
 *    reported the page had ended, is lost if the page is not reported.  A write that
 *    is not over yet is for the next harvest: KVM may be at it.
 *  - A page that is reported although no write was under way since the last harvest
 *    but one began is reported wrongly.
 *
 * Writes to what is not approved are begun and over as all are, and change nothing.
 */
#include <pthread.h>
#include <stdlib.h>

#include "vm2vm_harness.h"
#include "fixture.h"
#include "owner.h"

/*
 * The owner's vCPU, a backend by a domain with the pages in order, and one by a domain
 * with the pages backwards, which has a log of its own.
 */
#define SHADOW_WRITERS	3
#define SHADOW_LOGS	3	/* of the memslots, and of the second domain */

/**
 * struct shadow_log - a log, and what is known of the last harvests
 * @name: for messages
 * @first: page of the owner
 * @end: likewise, exclusively
 * @writers: mask of those who are in this log
 * @on: whether it logs
 * @all: the next harvest reports everything
 * @base: what was in the memory after the page was reported last
 * @word: what is in the memory as the harvest begins
 * @ended: writes that were over then; the same of the last harvest, and the last but one
 * @harvests: number of them
 * @reported: number of pages that were reported
 * @late: number of pages that were reported though only written before the last harvest
 * @under_way: writes that were in memory, and not over, and not reported
 */
struct shadow_log {
	const char *name;
	unsigned int first;
	unsigned int end;
	unsigned int writers;
	bool on;
	bool all;
	uint64_t base[PAGES][SHADOW_WRITERS];
	uint64_t word[PAGES][SHADOW_WRITERS];
	uint64_t ended[3][PAGES][SHADOW_WRITERS];
	unsigned int harvests;
	unsigned int reported;
	unsigned int late;
	unsigned int under_way;
};

/**
 * struct shadow - the owner, its backends and what changes
 * @o: the owner
 * @b: the backends
 * @domain: domains of the owner
 * @log: the logs
 * @seed: of what changes
 * @stop: the changes are to end
 * @changes: number of changes of approvals and windows
 */
struct shadow {
	struct dirty_owner *o;
	struct dirty_vm *b;
	int domain[2];
	struct shadow_log log[SHADOW_LOGS];
	uint64_t seed;
	bool stop;
	unsigned int changes;
};

/* What the second backend has at @page, and the other way round. */
static unsigned int shadow_page(unsigned int writer, unsigned int page)
{
	return writer == 2 ? PAGES - 1 - page : page;
}

static struct dirty_ctl *shadow_ctl(struct shadow *s, unsigned int writer)
{
	return writer ? s->b[writer - 1].ctl : s->o->v.ctl;
}

static uint64_t shadow_ended(struct shadow *s, unsigned int page, unsigned int writer)
{
	return READ_ONCE(shadow_ctl(s, writer)->ended[shadow_page(writer, page)]);
}

static uint64_t shadow_begun(struct shadow *s, unsigned int page, unsigned int writer)
{
	return READ_ONCE(shadow_ctl(s, writer)->begun[shadow_page(writer, page)]);
}

static uint64_t shadow_word(struct shadow *s, unsigned int page, unsigned int writer)
{
	return READ_ONCE(*owner_word(s->o, page, DIRTY_WORD(writer)));
}

/* What everybody has written to the pages of @l. */
static void shadow_words(struct shadow *s, struct shadow_log *l,
			 uint64_t words[PAGES][SHADOW_WRITERS])
{
	unsigned int page, w;

	for (page = l->first; page < l->end; page++)
		for (w = 0; w < SHADOW_WRITERS; w++)
			words[page][w] = shadow_word(s, page, w);
}

/* A harvest is about to begin.  What is over has been in memory before. */
static void shadow_before(struct shadow *s, struct shadow_log *l)
{
	unsigned int page, w;

	memcpy(l->ended[2], l->ended[1], sizeof(l->ended[2]));
	memcpy(l->ended[1], l->ended[0], sizeof(l->ended[1]));
	shadow_words(s, l, l->word);
	for (page = l->first; page < l->end; page++)
		for (w = 0; w < SHADOW_WRITERS; w++)
			l->ended[0][page][w] = shadow_ended(s, page, w);
}

/* Logging is about to begin: what the last harvests found does not matter. */
static void shadow_begins(struct shadow *s, struct shadow_log *l)
{
	shadow_before(s, l);
	memcpy(l->ended[1], l->ended[0], sizeof(l->ended[1]));
	memcpy(l->ended[2], l->ended[0], sizeof(l->ended[2]));
}

/* It has begun: what is written from now on has to be reported. */
static void shadow_begun_to_log(struct shadow *s, struct shadow_log *l)
{
	shadow_words(s, l, l->base);
	l->on = true;
	l->all = s->o->style == STYLE_INITIALLY_SET;
}

static void shadow_reported(struct shadow *s, struct shadow_log *l, unsigned int page)
{
	bool written = false, lately = false;
	unsigned int w;
	uint64_t begun;

	for (w = 0; w < SHADOW_WRITERS; w++) {
		l->base[page][w] = shadow_word(s, page, w);
		begun = shadow_begun(s, page, w);
		if (!(l->writers & BIT(w)))
			continue;
		written |= begun > l->ended[2][page][w];
		lately |= begun > l->ended[1][page][w];
	}
	l->reported++;
	if (l->all)
		return;
	TEST_ASSERT(written, "%s, harvest %u: page %u is reported, and nobody has written it",
		    l->name, l->harvests, page);
	l->late += !lately;
}

static void shadow_not_reported(struct shadow *s, struct shadow_log *l, unsigned int page)
{
	unsigned int w;

	TEST_ASSERT(!l->all, "%s, harvest %u: page %u is not reported as logging begins",
		    l->name, l->harvests, page);
	for (w = 0; w < SHADOW_WRITERS; w++) {
		if (!(l->writers & BIT(w)) || l->word[page][w] == l->base[page][w])
			continue;
		if (l->word[page][w] > l->ended[0][page][w]) {
			l->under_way++;
			continue;
		}
		TEST_FAIL("%s, harvest %u: page %u is not reported, writer %u wrote %lu after %lu",
			  l->name, l->harvests, page, w, l->word[page][w], l->base[page][w]);
	}
}

static void shadow_harvest_domain(struct shadow *s)
{
	uint64_t log[(PAGES + 63) / 64];
	unsigned int page;
	int r;

	r = __vm2vm_get_dirty(s->domain[1], DIRTY_IOVA, sizeof(log) * 8 * 4096, log);
	TEST_ASSERT(!r, "KVM_VM2VM_GET_DIRTY: %s", strerror(-r));
	for (page = 0; page < PAGES; page++)
		s->o->dirty[PAGES - 1 - page] = log[page / 64] >> page % 64 & 1;
}

static void shadow_harvest(struct shadow *s, unsigned int n)
{
	struct shadow_log *l = &s->log[n];
	unsigned int page;

	if (!l->on)
		return;
	shadow_before(s, l);
	if (n < 2)
		owner_harvest_slot(s->o, n);
	else
		shadow_harvest_domain(s);
	for (page = l->first; page < l->end; page++) {
		if (s->o->dirty[page])
			shadow_reported(s, l, page);
		else
			shadow_not_reported(s, l, page);
	}
	l->all = false;
	l->harvests++;
}

static void shadow_log_on(struct shadow *s, unsigned int slot)
{
	shadow_begins(s, &s->log[slot]);
	owner_set_slot(s->o, slot, true, true);
	shadow_begun_to_log(s, &s->log[slot]);
}

/* Logging ends for a while, or there is no memslot. */
static void shadow_change_slot(struct shadow *s, unsigned int slot, bool there)
{
	s->log[slot].on = false;
	owner_set_slot(s->o, slot, there, false);
	dirty_nap(dirty_random(&s->seed) % 500);
	if (there)
		owner_set_slot(s->o, slot, false, false);
	shadow_log_on(s, slot);
}

static void shadow_step(struct shadow *s)
{
	uint64_t r = dirty_random(&s->seed);
	unsigned int i;

	switch (r % 64) {
	case 0:
		s->log[r >> 8 & 1].on = false;
		owner_set_slot(s->o, r >> 8 & 1, true, false);
		dirty_nap(r >> 10 & 511);
		shadow_log_on(s, r >> 8 & 1);
		break;
	case 1:
		shadow_change_slot(s, r >> 8 & 1, r >> 9 & 1);
		break;
	case 2:
		/* From full speed to a few writes between two harvests. */
		for (i = 0; i < SHADOW_WRITERS; i++)
			WRITE_ONCE(shadow_ctl(s, i)->pause, r >> 20 & 1 ? 1 << (r >> 8 & 15) : 0);
		break;
	default:
		shadow_harvest(s, (r >> 8) % SHADOW_LOGS);
		break;
	}
	if (r >> 20 & 1)
		dirty_nap(r >> 21 & 255);
}

/*
 * A page of a domain; the second has them backwards.  What is not there just now
 * cannot be approved.
 */
static void shadow_map(struct shadow *s, unsigned int d, unsigned int page)
{
	uint64_t gpa = DIRTY_OWN + shadow_page(d + 1, page) * 4096, end = now_us() + 60000000;
	int r;

	do {
		r = __vm2vm_map(s->domain[d], DIRTY_IOVA + page * 4096, gpa, 4096, VM2VM_RW);
		if (r == -ENOENT)
			dirty_nap(50);
	} while (r == -ENOENT && now_us() < end);
	TEST_ASSERT(!r, "KVM_VM2VM_MAP of page %u: %s", page, strerror(-r));
}

/* Approvals and windows go and come back while others harvest. */
static void *shadow_changes(void *arg)
{
	struct shadow *s = arg;
	uint64_t seed = s->seed ^ 0x5555, r;
	unsigned int d, first, nr, i;

	dirty_low_priority();
	while (!READ_ONCE(s->stop)) {
		r = dirty_random(&seed);
		d = r & 1;
		if (r >> 1 & 7) {
			nr = (r >> 4) % 8 + 1;
			first = (r >> 8) % (PAGES - nr);
			vm2vm_unmap(s->domain[d], DIRTY_IOVA + first * 4096, nr * 4096);
			dirty_nap(r >> 20 & 127);
			for (i = first; i < first + nr; i++)
				shadow_map(s, d, i);
		} else {
			backend_unlink(&s->b[d], 0);
			dirty_nap(r >> 20 & 127);
			backend_link(&s->b[d], 0, s->o, s->domain[d], 0);
		}
		s->changes++;
		dirty_nap(r >> 30 & 1023);
	}
	return NULL;
}

static uint64_t shadow_writes(struct shadow *s)
{
	unsigned int i;
	uint64_t n = 0;

	for (i = 0; i < SHADOW_WRITERS; i++)
		n += READ_ONCE(shadow_ctl(s, i)->writes);
	return n;
}

static void shadow_init(struct __test_metadata *_metadata, struct shadow *s, struct dirty_owner *o,
			struct dirty_vm *b)
{
	static const char * const names[] = { "first memslot", "second memslot", "domain" };
	struct shadow_log *l = s->log;
	unsigned int i, d;

	s->o = o;
	s->b = b;
	s->seed = now_us() | 1;
	TH_LOG("seed %lu", s->seed);
	s->domain[0] = o->domain;
	s->domain[1] = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_LOG);
	for (d = 0; d < 2; d++) {
		for (i = 0; i < PAGES; i++)
			shadow_map(s, d, i);
		backend_link(&b[d], 0, o, s->domain[d], 0);
	}
	for (i = 0; i < SHADOW_LOGS; i++) {
		l[i].name = names[i];
		l[i].first = i < 2 ? owner_first(o, i) : 0;
		l[i].end = i < 2 ? owner_end(o, i) : PAGES;
		l[i].writers = i < 2 ? BIT(SHADOW_WRITERS) - 1 : BIT(2);
	}
	shadow_begins(s, &l[2]);
	shadow_begun_to_log(s, &l[2]);
	l[2].all = false;
	for (i = 0; i < SHADOW_WRITERS; i++)
		shadow_ctl(s, i)->seed = dirty_random(&s->seed) | 1;
}

/* Everybody has stopped: what was written last, and then nothing. */
static void shadow_end(struct shadow *s)
{
	unsigned int i, page, pass;

	for (i = 0; i < 2; i++)
		dirty_ask_stop(&s->b[i]);
	dirty_stop(&s->o->v);
	for (i = 0; i < 2; i++)
		dirty_stop(&s->b[i]);
	for (i = 0; i < SHADOW_LOGS; i++) {
		for (pass = 0; pass < 3; pass++)
			shadow_harvest(s, i);
		for (page = s->log[i].first; page < s->log[i].end; page++)
			TEST_ASSERT(!s->o->dirty[page], "%s: page %u is reported to the end",
				    s->log[i].name, page);
	}
}

TEST_F_TIMEOUT(dirty_log, shadow, 900)
{
	unsigned int trials = vm2vm_trials(100) * (getenv("VM2VM_DIRTY_LONG") ? 10 : 1);
	unsigned int steps = 20 * trials, i, harvests = 0, reported = 0, late = 0;
	uint64_t writes = 10000ull * trials;
	struct shadow *s = calloc(1, sizeof(*s));
	pthread_t changes;

	TEST_ASSERT(s, "no memory");
	/* Nobody before the others: whatever can happen is to happen. */
	dirty_low_priority();
	shadow_init(_metadata, s, &self->o, self->b);
	dirty_go(&self->o.v, DIRTY_RANDOM, DIRTY_OWN, PAGES);
	for (i = 0; i < 2; i++)
		dirty_go(&self->b[i], DIRTY_RANDOM, DIRTY_WINDOW(0), PAGES);
	shadow_log_on(s, 0);
	shadow_log_on(s, 1);
	TEST_ASSERT(!pthread_create(&changes, NULL, shadow_changes, s), "pthread_create");
	for (i = 0; i < steps || shadow_writes(s) < writes; i++)
		shadow_step(s);
	WRITE_ONCE(s->stop, true);
	pthread_join(changes, NULL);
	shadow_end(s);
	for (i = 0; i < SHADOW_LOGS; i++) {
		TH_LOG("%s: %u harvests, %u pages reported, %u of them late, %u writes under way",
		       s->log[i].name, s->log[i].harvests, s->log[i].reported, s->log[i].late,
		       s->log[i].under_way);
		harvests += s->log[i].harvests;
		reported += s->log[i].reported;
		late += s->log[i].late;
	}
	TH_LOG("%lu writes, %u harvests, %u changes, 0 lost", shadow_writes(s), harvests,
	       s->changes);
	TH_LOG("0 of %u reported pages unwritten, %u of them reported late", reported, late);
	for (i = 0; i < SHADOW_WRITERS; i++)
		EXPECT_LT(0, shadow_ctl(s, i)->writes);
	node_close(&s->domain[1]);
	free(s);
}

/*
 * Two vCPUs of one backend write by the same translation, which one of them may have
 * given its write access back but not yet logged.  Once nobody can write any more,
 * all that was written is in the log.
 */
TEST_F_TIMEOUT(dirty_log, revoked_while_two_write, 600)
{
	unsigned int trials = 10 * vm2vm_trials(100), i, w, reported = 0;
	struct dirty_vm second, *b[2] = { &self->b[0], &second };
	struct dirty_owner *o = &self->o;
	uint64_t base[2], now[2];

	dirty_second_vcpu(&second, b[0], 5);
	backend_link(b[0], 0, o, o->domain, 0);
	owner_log_on(o);
	dirty_low_priority();
	domain_map(o->domain, 50, 1, VM2VM_RW);
	for (w = 0; w < 2; w++)
		dirty_go(b[w], DIRTY_PASSES, DIRTY_WINDOW(0) + 50 * 4096, 1);
	/* Where others take the CPUs, a vCPU does not get to a write as soon. */
	for (i = 0; i < trials || (!reported && i < 20 * trials); i++) {
		dirty_wait_passes(b[i % 2], 2 + i / 2 % 4);
		/* The write access goes, and comes back with the next write. */
		owner_harvest(o);
		for (w = 0; w < 2; w++)
			base[w] = READ_ONCE(*owner_word(o, 50, DIRTY_WORD(b[w]->ctl->id)));
		dirty_nap(i % 8 * 10 * (1 + i / trials));
		domain_unmap(o->domain, 50, 1);
		for (w = 0; w < 2; w++)
			now[w] = READ_ONCE(*owner_word(o, 50, DIRTY_WORD(b[w]->ctl->id)));
		owner_harvest(o);
		for (w = 0; w < 2; w++)
			TEST_ASSERT(o->dirty[50] || now[w] == base[w],
				    "trial %u: not reported, and vCPU %u wrote %lu after %lu", i,
				    w, now[w], base[w]);
		reported += o->dirty[50];
		domain_map(o->domain, 50, 1, VM2VM_RW);
	}
	TH_LOG("%u of %u times written after the harvest", reported, i);
	EXPECT_LT(0, reported);
	for (w = 0; w < 2; w++)
		dirty_ask_stop(b[w]);
	dirty_vcpu_destroy(&second);
}
