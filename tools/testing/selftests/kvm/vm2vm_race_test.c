// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: two things at once.
 *
 * Each test is a pair of what may happen to an owner, its domain and its backends,
 * hammered against each other by two threads while the backend's guest reads and
 * writes its window without a pause.  Whatever comes of it,
 *
 *  - a call fails only with what it documents, and that only if the other actor can
 *    be the reason;
 *  - the guest reads holes, or what the owner wrote into that very page, never older
 *    than it has been read before or than the owner's memory is known to be;
 *  - what an actor has revoked by itself is a hole until it gives it back;
 *  - and when both have stopped, what is mapped and linked reads right, and the rest
 *    is a hole.
 *
 * The kernel's own checks, on a debug kernel, are the main judge.
 *
 * VM2VM_TRIALS in the environment is the number of rounds that both actors shall do
 * if that does not take too long, 1000 by default.
 */
#include <pthread.h>

#include "vm2vm_harness.h"
#include "vm2vm/race/race.h"

FIXTURE(race)
{
	struct race r;
};

FIXTURE_VARIANT(race)
{
	const struct op *ops[2];
};

FIXTURE_VARIANT_ADD(race, map_unmap) { .ops = { &op_map, &op_unmap } };
FIXTURE_VARIANT_ADD(race, map_link) { .ops = { &op_map, &op_link } };
FIXTURE_VARIANT_ADD(race, map_access) { .ops = { &op_map, &op_access } };
FIXTURE_VARIANT_ADD(race, map_dontneed) { .ops = { &op_map, &op_dontneed } };
FIXTURE_VARIANT_ADD(race, map_mremap) { .ops = { &op_map, &op_mremap } };
FIXTURE_VARIANT_ADD(race, map_cow) { .ops = { &op_map, &op_cow } };
FIXTURE_VARIANT_ADD(race, map_slot) { .ops = { &op_map, &op_slot } };
FIXTURE_VARIANT_ADD(race, map_backend_slot) { .ops = { &op_map, &op_backend_slot } };
FIXTURE_VARIANT_ADD(race, map_close) { .ops = { &op_map, &op_close } };
FIXTURE_VARIANT_ADD(race, map_end) { .ops = { &op_map, &op_end } };
FIXTURE_VARIANT_ADD(race, unmap_link) { .ops = { &op_unmap, &op_link } };
FIXTURE_VARIANT_ADD(race, unmap_access) { .ops = { &op_unmap, &op_access } };
FIXTURE_VARIANT_ADD(race, unmap_mprotect) { .ops = { &op_unmap, &op_mprotect } };
FIXTURE_VARIANT_ADD(race, unmap_remap) { .ops = { &op_unmap, &op_remap } };
FIXTURE_VARIANT_ADD(race, unmap_slot_move) { .ops = { &op_unmap, &op_slot_move } };
FIXTURE_VARIANT_ADD(race, unmap_close) { .ops = { &op_unmap, &op_close } };
FIXTURE_VARIANT_ADD(race, unmap_end) { .ops = { &op_unmap, &op_end } };
FIXTURE_VARIANT_ADD(race, link_unlink) { .ops = { &op_link, &op_unlink } };
FIXTURE_VARIANT_ADD(race, link_access) { .ops = { &op_link, &op_access } };
FIXTURE_VARIANT_ADD(race, link_dontneed) { .ops = { &op_link, &op_dontneed } };
FIXTURE_VARIANT_ADD(race, link_mprotect) { .ops = { &op_link, &op_mprotect } };
FIXTURE_VARIANT_ADD(race, link_mremap) { .ops = { &op_link, &op_mremap } };
FIXTURE_VARIANT_ADD(race, link_remap) { .ops = { &op_link, &op_remap } };
FIXTURE_VARIANT_ADD(race, link_cow) { .ops = { &op_link, &op_cow } };
FIXTURE_VARIANT_ADD(race, link_slot) { .ops = { &op_link, &op_slot } };
FIXTURE_VARIANT_ADD(race, link_slot_move) { .ops = { &op_link, &op_slot_move } };
FIXTURE_VARIANT_ADD(race, link_backend_slot) { .ops = { &op_link, &op_backend_slot } };
FIXTURE_VARIANT_ADD(race, link_close) { .ops = { &op_link, &op_close } };
FIXTURE_VARIANT_ADD(race, link_end) { .ops = { &op_link, &op_end } };
FIXTURE_VARIANT_ADD(race, access_dontneed) { .ops = { &op_access, &op_dontneed } };
FIXTURE_VARIANT_ADD(race, access_mprotect) { .ops = { &op_access, &op_mprotect } };
FIXTURE_VARIANT_ADD(race, access_mremap) { .ops = { &op_access, &op_mremap } };
FIXTURE_VARIANT_ADD(race, access_remap) { .ops = { &op_access, &op_remap } };
FIXTURE_VARIANT_ADD(race, access_cow) { .ops = { &op_access, &op_cow } };
FIXTURE_VARIANT_ADD(race, access_slot) { .ops = { &op_access, &op_slot } };
FIXTURE_VARIANT_ADD(race, access_backend_slot) { .ops = { &op_access, &op_backend_slot } };
FIXTURE_VARIANT_ADD(race, access_close) { .ops = { &op_access, &op_close } };
FIXTURE_VARIANT_ADD(race, access_end) { .ops = { &op_access, &op_end } };
FIXTURE_VARIANT_ADD(race, dontneed_slot) { .ops = { &op_dontneed, &op_slot } };
FIXTURE_VARIANT_ADD(race, mprotect_slot_move) { .ops = { &op_mprotect, &op_slot_move } };
FIXTURE_VARIANT_ADD(race, remap_cow) { .ops = { &op_remap, &op_cow } };
FIXTURE_VARIANT_ADD(race, remap_backend_slot) { .ops = { &op_remap, &op_backend_slot } };
FIXTURE_VARIANT_ADD(race, mprotect_dontneed) { .ops = { &op_mprotect, &op_dontneed } };
FIXTURE_VARIANT_ADD(race, mremap_close) { .ops = { &op_mremap, &op_close } };
FIXTURE_VARIANT_ADD(race, cow_close) { .ops = { &op_cow, &op_close } };
FIXTURE_VARIANT_ADD(race, slot_slot_move) { .ops = { &op_slot, &op_slot_move } };
FIXTURE_VARIANT_ADD(race, slot_backend_slot) { .ops = { &op_slot, &op_backend_slot } };
FIXTURE_VARIANT_ADD(race, slot_close) { .ops = { &op_slot, &op_close } };
FIXTURE_VARIANT_ADD(race, slot_end) { .ops = { &op_slot, &op_end } };
FIXTURE_VARIANT_ADD(race, backend_slot_close) { .ops = { &op_backend_slot, &op_close } };

FIXTURE_SETUP(race)
{
	struct race *r = &self->r;

	race_init(r, variant->ops);
	race_memory(r, variant->ops[0]->private || variant->ops[1]->private);
	race_create_owner(r);
	race_create_backend(&r->backend);
	node_link(&r->backend, r->domain, 0);
	if (race_has(r, ACCESS)) {
		race_create_backend(&r->second);
		node_link(&r->second, r->domain, 0);
	}
}

FIXTURE_TEARDOWN(race)
{
	struct race *r = &self->r;

	node_destroy(&r->second);
	node_destroy(&r->backend);
	close(r->domain);
	node_close(&r->owner.vm);
	race_fini(r);
}

static bool have_rounds(struct race *r, unsigned int rounds)
{
	return READ_ONCE(*r->actor[0].rounds) >= rounds && READ_ONCE(*r->actor[1].rounds) >= rounds;
}

static void hammer(struct race *r)
{
	unsigned int trials = vm2vm_trials(1000), i;
	uint64_t end = now_us() + TIME_LIMIT;

	node_go(&r->backend);
	for (i = 0; i < 2; i++)
		actor_go(&r->actor[i]);
	NODE_WAIT(have_rounds(r, trials) || (have_rounds(r, LEAST_ROUNDS) && now_us() > end),
		  "%s %lu rounds, %s %lu", r->actor[0].op->name, *r->actor[0].rounds,
		  r->actor[1].op->name, *r->actor[1].rounds);
	WRITE_ONCE(r->stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(r->actor[i].thread, NULL);
	node_wait_passes(&r->backend, 1, 1);
	node_stop(&r->backend);
	node_check(&r->backend);
}

/* What the guest reads on each page is what it must, if there is a window to it. */
static void check_pages(struct race *r, struct node *n, bool approved, const bool *mapped)
{
	uint64_t val, own;
	unsigned int i;

	for (i = 0; i < NODE_PAGES; i++) {
		val = node_read(n, NODE_WINDOW(0) + i * 4096);
		own = *(uint64_t *)page_addr(r, i);
		TEST_ASSERT(own == NODE_TAG(OWNER, i, r->gen[i]), "the owner has 0x%lx", own);
		TEST_ASSERT(val == (approved && mapped[i] ? own : NODE_HOLE),
			    "in the end page %u reads 0x%lx, the owner has 0x%lx, %s", i, val, own,
			    !approved ? "no window" : mapped[i] ? "mapped" : "not mapped");
	}
}

/* Nothing but what this backend wrote to a page has arrived in it. */
static void check_arrived(struct race *r, struct node *n)
{
	unsigned int i, id = n->ctl->id;
	uint64_t val;

	for (i = 0; i < NODE_PAGES; i++) {
		val = r->owner.own[i][NODE_WORD_FROM(id)];
		TEST_ASSERT(!val || val == NODE_TAG(id, i, NODE_GEN(val)),
			    "0x%lx has arrived in page %u", val, i);
	}
}

/*
 * What is there now is known from the answers to asking for it: EEXIST.  What the
 * guest read before must agree with that.
 */
static void check_final(struct race *r, struct node *n)
{
	uint64_t val[NODE_PAGES];
	bool mapped[NODE_PAGES], linked;
	unsigned int i;
	int e;

	for (i = 0; i < NODE_PAGES; i++)
		val[i] = node_read(n, NODE_WINDOW(0) + i * 4096);
	e = __node_link(n->vm, r->domain, 0, NODE_IOVA);
	TEST_ASSERT(!e || e == -EEXIST, "LINK: %s", strerror(-e));
	linked = e;
	for (i = 0; i < NODE_PAGES; i++) {
		e = race_map(r, i);
		TEST_ASSERT(!e || e == -EEXIST, "MAP: %s", strerror(-e));
		mapped[i] = e;
		TEST_ASSERT((val[i] != NODE_HOLE) == (linked && mapped[i]),
			    "page %u: read 0x%lx, %s, %s", i, val[i],
			    linked ? "linked" : "not linked", mapped[i] ? "mapped" : "not mapped");
		if (val[i] != NODE_HOLE)
			TEST_ASSERT_EQ(val[i], NODE_TAG(OWNER, i, r->gen[i]));
		mapped[i] = true;
	}
	check_pages(r, n, true, mapped);
	check_arrived(r, n);
}

TEST_F_TIMEOUT(race, hammer, 120)
{
	struct race *r = &self->r;
	const bool none[NODE_PAGES] = {};
	uint64_t size;

	hammer(r);
	/* The window may be to a domain that was replaced, if nobody cared for that. */
	if (race_has(r, DOMAIN) && race_has(r, LINK))
		__node_unlink(r->backend.vm, 0);
	check_final(r, &r->backend);
	if (r->second.vm >= 0)
		check_final(r, &r->second);
	TEST_ASSERT(!race_unmap(r, 0, NODE_PAGES, &size) && size == NODE_SIZE, "UNMAP");
	check_pages(r, &r->backend, true, none);
	printf("# %s %lu rounds, %s %lu; guest %lu passes, %lu pages, %lu holes\n",
	       r->actor[0].op->name, *r->actor[0].rounds, r->actor[1].op->name,
	       *r->actor[1].rounds, r->backend.ctl->passes, r->backend.ctl->good[0],
	       r->backend.ctl->holes[0]);
}

int main(int argc, char **argv)
{
	node_template_init();
	return test_harness_run(argc, argv);
}
