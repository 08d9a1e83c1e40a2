// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_shapes_test: two VMs that link each other, or a ring of them, all of whose guests
 * read and write through their windows at the same time, and which are taken away one
 * after the other.
 */
#include <sys/socket.h>

#include "shapes.h"

#define WORLD_MAX	3
#define WORLD_FLOW	10	/* passes of the other side to be seen for data to flow */

/* What a node's VMM is told. */
enum order { DO_CREATE, DO_LINK, DO_GO, DO_UNMAP, DO_UNLINK, DO_CLOSE, DO_DESTROY };

/**
 * struct world - the VMs, each with a window to the next one
 * @nr: how many
 * @processes: whether each has a process of its own
 * @node: they; the test has @node[i].ctl and @node[i].own of all of them
 * @domain: their domains' descriptors, in their processes
 * @pid: their processes
 * @socket: to them
 * @alive: not destroyed or killed
 * @linked: has its window, and approvals behind it
 */
struct world {
	unsigned int nr;
	bool processes;
	struct node node[WORLD_MAX];
	int domain[WORLD_MAX];
	pid_t pid[WORLD_MAX];
	int socket[WORLD_MAX];
	bool alive[WORLD_MAX];
	bool linked[WORLD_MAX];
};

struct message {
	enum order order;
	int domain;
	pid_t pid;
};

static unsigned int world_next(struct world *w, unsigned int i)
{
	return (i + 1) % w->nr;
}

static unsigned int world_prev(struct world *w, unsigned int i)
{
	return (i + w->nr - 1) % w->nr;
}

static void world_link(struct node *n, const struct message *m)
{
	int domain = m->domain;

	if (m->pid)
		domain = __node_steal_fd(m->pid, m->domain);
	TEST_ASSERT(domain >= 0, "no domain from process %d: %s", m->pid, strerror(-domain));
	node_link(n, domain, 0);
	if (m->pid)
		close(domain);
}

/* In the node's process. */
static int world_obey(struct node *n, const struct message *m)
{
	switch (m->order) {
	case DO_CREATE:
		node_create(n);
		node_create_domain(n);
		return n->domain;
	case DO_LINK:
		world_link(n, m);
		break;
	case DO_GO:
		node_go(n);
		break;
	case DO_UNMAP:
		vm2vm_unmap(n->domain, NODE_IOVA, NODE_SIZE);
		break;
	case DO_UNLINK:
		node_unlink(n, 0);
		break;
	case DO_CLOSE:
		node_close(&n->domain);
		break;
	case DO_DESTROY:
		node_destroy(n);
		break;
	}
	return 0;
}

static void world_serve(struct node *n, int socket)
{
	struct message m;
	int r;

	while (read(socket, &m, sizeof(m)) == sizeof(m)) {
		r = world_obey(n, &m);
		TEST_ASSERT(write(socket, &r, sizeof(r)) == sizeof(r), "write");
	}
	exit(0);
}

static int world_do(struct world *w, unsigned int i, enum order order)
{
	unsigned int next = world_next(w, i);
	struct message m = {
		.order = order, .domain = w->domain[next], .pid = w->pid[next],
	};
	int r;

	if (!w->processes)
		return world_obey(&w->node[i], &m);
	TEST_ASSERT(write(w->socket[i], &m, sizeof(m)) == sizeof(m) &&
		    read(w->socket[i], &r, sizeof(r)) == sizeof(r),
		    "the process of node %u is gone", i);
	return r;
}

static void world_fork(struct world *w, unsigned int i)
{
	int s[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), "socketpair: %s",
		    strerror(errno));
	w->pid[i] = node_fork();
	if (!w->pid[i]) {
		close(s[0]);
		world_serve(&w->node[i], s[1]);
	}
	close(s[1]);
	w->socket[i] = s[0];
}

static void world_start(struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->nr; i++) {
		node_init(&w->node[i], i);
		if (w->processes)
			world_fork(w, i);
	}
	for (i = 0; i < w->nr; i++) {
		w->domain[i] = world_do(w, i, DO_CREATE);
		w->alive[i] = true;
	}
	for (i = 0; i < w->nr; i++) {
		struct node_ctl *c = w->node[i].ctl;

		world_do(w, i, DO_LINK);
		w->linked[i] = true;
		c->nr_windows = 1;
		c->owners[0] = world_next(w, i);
		c->writers = 1ull << world_prev(w, i);
	}
	for (i = 0; i < w->nr; i++)
		world_do(w, i, DO_GO);
}

static void world_kill(struct world *w, unsigned int i)
{
	node_kill(w->pid[i]);
	close(w->socket[i]);
}

static void world_end(struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->nr; i++) {
		node_check(&w->node[i]);
		if (w->alive[i])
			world_do(w, i, DO_DESTROY);
		if (w->alive[i] && w->processes)
			world_kill(w, i);
		node_fini(&w->node[i]);
	}
}

/* Both sides of the window of node @i: @gen are of its own and of the next one. */
static void world_wait_flow(struct world *w, unsigned int i, const uint64_t *gen)
{
	unsigned int next = world_next(w, i), p;
	struct node_ctl *c = w->node[i].ctl, *n = w->node[next].ctl;

	for (p = 0; p < NODE_PAGES; p++) {
		NODE_WAIT(READ_ONCE(c->seen[0][p]) >= gen[next],
			  "node %u does not see page %u of the next", i, p);
		NODE_WAIT(READ_ONCE(n->arrived[i][p]) >= gen[i],
			  "the next does not see what node %u writes to page %u", i, p);
	}
}

/*
 * All guests go on.  What each of them writes from now on arrives through all
 * windows that are left, both ways, in every page, and is right.
 */
static void world_check_flow(struct world *w)
{
	uint64_t gen[WORLD_MAX];
	unsigned int i;

	for (i = 0; i < w->nr; i++)
		gen[i] = READ_ONCE(w->node[i].ctl->gen) + WORLD_FLOW;
	for (i = 0; i < w->nr; i++) {
		if (!w->alive[i])
			continue;
		NODE_WAIT(READ_ONCE(w->node[i].ctl->gen) >= gen[i], "node %u does not go on", i);
		if (w->linked[i])
			world_wait_flow(w, i, gen);
		node_check(&w->node[i]);
	}
}

/*
 * The window of node @i is a hole from now on.  The canary is put where it showed,
 * and the node must neither see nor overwrite it.
 */
static void world_check_hole(struct world *w, unsigned int i)
{
	struct node *n = &w->node[i], *next = &w->node[world_next(w, i)];
	uint64_t good, holes;
	unsigned int p;

	WRITE_ONCE(next->ctl->writers, 0);
	if (w->alive[world_next(w, i)])
		node_wait_passes(next, 1, 1);
	for (p = 0; p < NODE_PAGES; p++) {
		if (!w->alive[world_next(w, i)])
			WRITE_ONCE(next->own[p][NODE_WORD_OWNER], NODE_CANARY);
		WRITE_ONCE(next->own[p][NODE_WORD_FROM(i)], NODE_CANARY);
	}
	if (w->alive[i]) {
		/* A pass that has begun before may have read what was there. */
		node_wait_passes(n, 1, 1);
		good = READ_ONCE(n->ctl->good[0]);
		holes = READ_ONCE(n->ctl->holes[0]);
		node_wait_passes(n, 1, 3);
		TEST_ASSERT(READ_ONCE(n->ctl->good[0]) == good,
			    "node %u has still a window", i);
		TEST_ASSERT(READ_ONCE(n->ctl->holes[0]) >= holes + 3 * NODE_PAGES,
			    "node %u reads neither data nor holes", i);
		node_check(n);
	}
	for (p = 0; p < NODE_PAGES; p++)
		TEST_ASSERT(READ_ONCE(next->own[p][NODE_WORD_FROM(i)]) == NODE_CANARY,
			    "node %u has still overwritten page %u", i, p);
}

/* The window of node @i goes, in whatever way. */
static void world_unlinked(struct world *w, unsigned int i)
{
	if (w->linked[i])
		world_check_hole(w, i);
	w->linked[i] = false;
}

static void world_revoke(struct world *w, unsigned int i, enum method method)
{
	switch (method) {
	case BY_UNMAP:
		world_do(w, i, DO_UNMAP);
		break;
	case BY_UNLINK:
		world_do(w, i, DO_UNLINK);
		world_unlinked(w, i);
		return;
	case BY_CLOSE:
		world_do(w, i, DO_CLOSE);
		break;
	case BY_DESTROY:
		world_do(w, i, DO_DESTROY);
		if (w->processes)
			world_kill(w, i);
		w->alive[i] = false;
		break;
	case BY_KILL:
		world_kill(w, i);
		w->alive[i] = false;
		break;
	default:
		break;
	}
	world_unlinked(w, world_prev(w, i));
	if (!w->alive[i])
		world_unlinked(w, i);
}

void permutation(unsigned int n, unsigned int nr, unsigned int *what)
{
	unsigned int i, j, k, left = nr, all[8];

	for (i = 0; i < nr; i++)
		all[i] = i;
	for (i = 0; i < nr; i++, left--) {
		j = n % left;
		n /= left;
		what[i] = all[j];
		for (k = j; k < left - 1; k++)
			all[k] = all[k + 1];
	}
}

unsigned int factorial(unsigned int n)
{
	return n < 2 ? 1 : n * factorial(n - 1);
}

void world_run(unsigned int nr, bool processes, enum method method, unsigned int order)
{
	struct world w = { .nr = nr, .processes = processes };
	unsigned int who[WORLD_MAX], i;

	permutation(order, nr, who);
	world_start(&w);
	world_check_flow(&w);
	for (i = 0; i < nr; i++) {
		world_revoke(&w, who[i], method);
		world_check_flow(&w);
	}
	world_end(&w);
}
