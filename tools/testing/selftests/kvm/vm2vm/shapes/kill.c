// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_shapes_test: SIGKILL of an owner, of a backend, or of a process that is both, at any
 * moment of its life.
 */
#include <sys/mman.h>

#include "shapes.h"

#define VICTIM_OWNS	1	/* the survivor has a window to it */
#define VICTIM_BACKS	2	/* it has a window to the survivor */

#define SURVIVOR	0
#define VICTIM		1

void kill_init(struct kill *k)
{
	struct node *s = &k->survivor, *v = &k->victim;

	memset(k, 0, sizeof(*k));
	node_init(s, SURVIVOR);
	node_init(v, VICTIM);
	k->domain = node_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1);

	node_create(s);
	node_create_domain(s);
	s->ctl->owners[0] = VICTIM;
	s->ctl->nr_windows = 1;
	s->ctl->writers = 1ull << VICTIM;
	v->ctl->owners[0] = SURVIVOR;
	v->ctl->writers = 1ull << SURVIVOR;
	v->ctl->op = NODE_GO;
	/* Most of the time something is waited for: leave the CPU to another test. */
	s->ctl->nap = 500;
	v->ctl->nap = 500;
	node_go(s);
}

void kill_fini(struct kill *k)
{
	node_destroy(&k->survivor);
	node_check(&k->survivor);
	node_check(&k->victim);
	node_fini(&k->survivor);
	node_fini(&k->victim);
	munmap(k->domain, 4096);
}

/* The victim's process. */
static void __noreturn kill_victim(struct kill *k, unsigned int role)
{
	struct node *v = &k->victim;

	node_create(v);
	if (role & VICTIM_OWNS) {
		node_create_domain(v);
		WRITE_ONCE(*k->domain, v->domain);
	}
	v->ctl->nr_windows = 0;
	if (role & VICTIM_BACKS) {
		node_link(v, k->survivor.domain, 0);
		v->ctl->nr_windows = 1;
	}
	node_run(v);
	TEST_FAIL("the victim's guest has stopped");
}

/* What a survivor's VMM does for its victim: link its domain once there is one. */
static void kill_link(struct kill *k, pid_t pid)
{
	int fd = READ_ONCE(*k->domain);

	if (k->linked || fd < 0)
		return;
	k->stolen = __node_steal_fd(pid, fd);
	TEST_ASSERT(k->stolen >= 0, "pidfd_getfd: %s", strerror(-k->stolen));
	node_link(&k->survivor, k->stolen, 0);
	k->linked = true;
}

/* The domain of the dead: known, but ended. */
static void kill_unlink(struct kill *k)
{
	if (!k->linked)
		return;
	node_wait_ended(&k->survivor, k->stolen, 1);
	node_unlink(&k->survivor, 0);
	close(k->stolen);
	k->linked = false;
}

/*
 * The victim is dead: nothing can be seen of its memory any more, nothing written
 * to it, and it writes to nothing.
 */
static void kill_check(struct kill *k)
{
	struct node *s = &k->survivor, *v = &k->victim;
	uint64_t arrived[NODE_PAGES];
	unsigned int p;

	for (p = 0; p < NODE_PAGES; p++) {
		WRITE_ONCE(v->own[p][NODE_WORD_OWNER], NODE_CANARY);
		WRITE_ONCE(v->own[p][NODE_WORD_FROM(SURVIVOR)], NODE_CANARY);
		arrived[p] = READ_ONCE(s->own[p][NODE_WORD_FROM(VICTIM)]);
	}
	node_wait_passes(s, 1, 1);
	node_check(s);
	node_check(v);
	for (p = 0; p < NODE_PAGES; p++) {
		TEST_ASSERT(READ_ONCE(v->own[p][NODE_WORD_FROM(SURVIVOR)]) == NODE_CANARY &&
			    READ_ONCE(v->own[p][NODE_WORD_OWNER]) == NODE_CANARY,
			    "the survivor has written to page %u of the dead", p);
		TEST_ASSERT(READ_ONCE(s->own[p][NODE_WORD_FROM(VICTIM)]) == arrived[p],
			    "the dead has written to page %u", p);
	}
}

/* The next victim's memory is what the last one's was. */
static void kill_restore(struct kill *k)
{
	struct node *v = &k->victim;
	uint64_t gen;
	unsigned int p;

	for (p = 0; p < NODE_PAGES; p++) {
		gen = v->ctl->arrived[SURVIVOR][p];
		WRITE_ONCE(v->own[p][NODE_WORD_FROM(SURVIVOR)],
			   gen ? NODE_TAG(SURVIVOR, p, gen) : 0);
		WRITE_ONCE(v->own[p][NODE_WORD_OWNER], NODE_TAG(VICTIM, p, v->ctl->gen));
	}
}

void kill_round(struct kill *k, unsigned int round)
{
	uint64_t passes = k->victim.ctl->passes, start, end;
	bool up = false;
	pid_t pid;

	WRITE_ONCE(*k->domain, -1);
	pid = node_fork();
	if (!pid)
		kill_victim(k, 1 + round % 3);
	start = now_us();
	end = start + (k->up ? random() % (3 * k->up) : 60 * 1000000);
	while (now_us() < end) {
		kill_link(k, pid);
		if (!up && READ_ONCE(k->victim.ctl->passes) != passes) {
			up = true;
			if (!k->up)
				end = now_us();
			k->up = (k->up * 7 + now_us() - start) / 8 + 1000;
		}
		usleep(50);
	}
	node_kill(pid);
	kill_check(k);
	kill_unlink(k);
	kill_restore(k);
	k->early += READ_ONCE(*k->domain) < 0 && (1 + round % 3) & VICTIM_OWNS;
	k->late += READ_ONCE(k->victim.ctl->passes) != passes;
}
