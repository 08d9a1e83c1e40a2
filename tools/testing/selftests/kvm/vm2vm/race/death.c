// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_race_test: an owner's or a backend's process is killed while it, or the other one,
 * does something.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "vm2vm_harness.h"
#include "race.h"

/**
 * struct death - who dies is actor 0 (or both are), what happens meanwhile actor 1
 * @r: the race; what survives is of this process
 * @owner_dies: whether the owner is a process that is made and killed, round by round
 * @backend_dies: likewise
 * @act_here: whether the actor is a thread of this process
 * @domain: of who is to die, once it is ready; shared with it
 * @ready: whether the process that is to die has a domain, or a window
 * @up: us until there is a domain and a window, about; 0 before the first round
 * @seed: of random numbers
 */
struct death {
	struct race r;
	bool owner_dies;
	bool backend_dies;
	bool act_here;
	int *domain;
	bool ready;
	uint64_t up;
	unsigned int seed;
};

/* Whether an owner does that, in its process. */
static bool by_owner(const struct op *op)
{
	return op->factor == APPROVAL || op->factor == MEMORY || op->factor == MEMSLOT ||
	       op == &op_close;
}

static void death_init(struct death *d, const struct op * const *ops)
{
	struct race *r = &d->r;

	memset(d, 0, sizeof(*d));
	race_init(r, ops);
	race_memory(r, ops[1]->private);
	d->domain = node_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1);
	d->owner_dies = ops[0] == &op_owner_exit;
	d->backend_dies = ops[0] == &op_backend_exit || ops[1] == &op_backend_exit;
	d->act_here = ops[1]->round && by_owner(ops[1]) != d->owner_dies;
	r->actor[1].linked = false;
	r->backend.ctl->op = NODE_GO;

	race_create_owner(r);
	if (d->owner_dies) {
		/* Until there is another: the domain of an owner that has ended. */
		node_close(&r->owner.vm);
		flip_all(&r->actor[0]);
	}
	if (d->backend_dies)
		return;
	/* Nor is there a window yet. */
	if (r->actor[1].op->factor == LINK)
		flip_all(&r->actor[1]);
	race_create_backend(&r->backend);
	node_go(&r->backend);
	if (race_has(r, ACCESS))
		race_create_backend(&r->second);
}

static void death_fini(struct death *d)
{
	struct race *r = &d->r;

	node_stop(&r->backend);
	node_check(&r->backend);
	node_check(&r->second);
	node_destroy(&r->second);
	node_destroy(&r->backend);
	node_close(&r->domain);
	node_close(&r->owner.vm);
	munmap(d->domain, 4096);
	race_fini(r);
}

static void __noreturn live(struct death *d)
{
	if (d->r.actor[1].op->round && !d->act_here)
		act(&d->r.actor[1]);
	for (;;)
		pause();
}

static void __noreturn owner_process(struct death *d)
{
	write_pages(&d->r);
	race_create_owner(&d->r);
	WRITE_ONCE(*d->domain, d->r.domain);
	live(d);
}

static void __noreturn backend_process(struct death *d)
{
	struct race *r = &d->r;
	int e;

	race_create_backend(&r->backend);
	e = __node_link(r->backend.vm, r->domain, 0, NODE_IOVA);
	check_errno("LINK", e, d->owner_dies ? ENODEV : 0, 0);
	r->actor[1].linked = true;
	node_go(&r->backend);
	WRITE_ONCE(*d->domain, r->domain);
	live(d);
}

/* Put @fd in the place of @r->domain. */
static void replace_domain(struct race *r, int fd)
{
	int old;

	if (r->actor[1].op == &op_drop) {
		old = __atomic_exchange_n(&r->domain, fd, __ATOMIC_SEQ_CST);
		if (old >= 0)
			close(old);
		return;
	}
	TEST_ASSERT(dup2(fd, r->domain) == r->domain, "dup2: %s", strerror(errno));
	close(fd);
}

/* The survivor gets the domain of an owner that is to die, and a window to it. */
static void adopt(struct death *d, pid_t owner)
{
	struct race *r = &d->r;
	int fd = __node_steal_fd(owner, READ_ONCE(*d->domain));

	TEST_ASSERT(fd >= 0, "pidfd_getfd: %s", strerror(-fd));
	flip_all(&r->actor[0]);
	if (!d->backend_dies && r->actor[1].op->factor != LINK) {
		node_link(&r->backend, fd, 0);
		if (r->second.vm >= 0)
			node_link(&r->second, fd, 0);
	}
	replace_domain(r, fd);
}

/* Wait for a random time, and do meanwhile what a survivor has to. */
static void wait_randomly(struct death *d, pid_t pid, bool is_owner)
{
	uint64_t start = now_us(), end = start + 60 * 1000000;

	if (d->up)
		end = start + rand_r(&d->seed) % (3 * d->up);
	while (now_us() < end) {
		if (!d->ready && READ_ONCE(*d->domain) >= 0) {
			d->ready = true;
			if (!d->up)
				end = now_us();
			d->up = (d->up * 7 + now_us() - start) / 8 + 1000;
			if (is_owner)
				adopt(d, pid);
		}
		usleep(50);
	}
}

/* The owner is dead: nothing of its memory can be seen, or changes. */
static void check_owner_dead(struct death *d)
{
	struct race *r = &d->r;
	unsigned int i;

	for (i = 0; r->memfd >= 0 && i < NODE_PAGES; i++) {
		WRITE_ONCE(r->owner.own[i][NODE_WORD_OWNER], NODE_CANARY);
		WRITE_ONCE(r->owner.own[i][NODE_WORD_FROM(BACKEND)], NODE_CANARY);
	}
	node_wait_passes(&r->backend, 1, 1);
	node_check(&r->backend);
	for (i = 0; r->memfd >= 0 && i < NODE_PAGES; i++)
		TEST_ASSERT(r->owner.own[i][NODE_WORD_FROM(BACKEND)] == NODE_CANARY,
			    "the backend has written to page %u of the dead", i);
}

/* What an actor had closed when it was killed is for the next one to open. */
static void reset_closed(struct death *d)
{
	uint64_t *b = d->r.backend.ctl->closed[1], *s = d->r.second.ctl->closed[1];
	unsigned int i;

	for (i = 0; i < NODE_PAGES && !d->act_here; i++) {
		WRITE_ONCE(b[i], (b[i] + 1) & ~1ull);
		WRITE_ONCE(s[i], (s[i] + 1) & ~1ull);
	}
}

static void unlink_windows(struct death *d)
{
	struct race *r = &d->r;

	if (!d->ready || d->backend_dies)
		return;
	if (r->domain >= 0)
		node_wait_ended(&r->backend, r->domain, 1);
	if (r->actor[1].op->factor == LINK)
		return;
	node_unlink(&r->backend, 0);
	if (r->second.vm >= 0)
		node_unlink(&r->second, 0);
}

static pid_t start(struct death *d, void (*process)(struct death *d))
{
	pid_t pid;

	d->ready = false;
	WRITE_ONCE(*d->domain, -1);
	pid = node_fork();
	if (!pid)
		process(d);
	return pid;
}

static void stop_actor(struct death *d)
{
	if (!d->act_here)
		return;
	WRITE_ONCE(d->r.stop, true);
	pthread_join(d->r.actor[1].thread, NULL);
	WRITE_ONCE(d->r.stop, false);
}

static void owner_round(struct death *d)
{
	pid_t pid = start(d, owner_process);

	if (d->act_here)
		actor_go(&d->r.actor[1]);
	wait_randomly(d, pid, true);
	node_kill(pid);
	if (d->ready)
		flip_all(&d->r.actor[0]);
	check_owner_dead(d);
	stop_actor(d);
	unlink_windows(d);
	reset_closed(d);
}

/* The backend is dead: what it wrote is right, and that was it. */
static void check_backend_dead(struct death *d)
{
	struct race *r = &d->r;
	uint64_t val[NODE_PAGES];
	unsigned int i;

	node_check(&r->backend);
	for (i = 0; i < NODE_PAGES; i++) {
		val[i] = r->owner.own[i][NODE_WORD_FROM(BACKEND)];
		TEST_ASSERT(!val[i] || val[i] == NODE_TAG(BACKEND, i, NODE_GEN(val[i])),
			    "0x%lx has arrived in page %u", val[i], i);
	}
	usleep(500);
	for (i = 0; i < NODE_PAGES; i++)
		TEST_ASSERT(r->owner.own[i][NODE_WORD_FROM(BACKEND)] == val[i],
			    "the dead has written to page %u", i);
}

static void backend_round(struct death *d)
{
	pid_t pid;

	if (d->act_here)
		actor_go(&d->r.actor[1]);
	pid = start(d, backend_process);
	wait_randomly(d, pid, false);
	node_kill(pid);
	stop_actor(d);
	check_backend_dead(d);
	reset_closed(d);
}

/* One dies right after the other, in any order. */
static void both_round(struct death *d)
{
	pid_t owner = start(d, owner_process), backend;

	NODE_WAIT(READ_ONCE(*d->domain) >= 0, "no owner");
	adopt(d, owner);
	backend = start(d, backend_process);
	wait_randomly(d, backend, false);
	if (rand_r(&d->seed) % 2) {
		kill(owner, SIGKILL);
		node_kill(backend);
		node_kill(owner);
	} else {
		kill(backend, SIGKILL);
		node_kill(owner);
		node_kill(backend);
	}
	flip_all(&d->r.actor[0]);
	node_check(&d->r.backend);
}

static void death_round(struct death *d)
{
	if (!d->owner_dies)
		backend_round(d);
	else if (!d->backend_dies)
		owner_round(d);
	else
		both_round(d);
}

FIXTURE(death)
{
	struct death d;
};

FIXTURE_VARIANT(death)
{
	const struct op *ops[2];
};

FIXTURE_VARIANT_ADD(death, owner_exit_map) { .ops = { &op_owner_exit, &op_map } };
FIXTURE_VARIANT_ADD(death, owner_exit_unmap) { .ops = { &op_owner_exit, &op_unmap } };
FIXTURE_VARIANT_ADD(death, owner_exit_dontneed) { .ops = { &op_owner_exit, &op_dontneed } };
FIXTURE_VARIANT_ADD(death, owner_exit_mprotect) { .ops = { &op_owner_exit, &op_mprotect } };
FIXTURE_VARIANT_ADD(death, owner_exit_mremap) { .ops = { &op_owner_exit, &op_mremap } };
FIXTURE_VARIANT_ADD(death, owner_exit_remap) { .ops = { &op_owner_exit, &op_remap } };
FIXTURE_VARIANT_ADD(death, owner_exit_slot) { .ops = { &op_owner_exit, &op_slot } };
FIXTURE_VARIANT_ADD(death, owner_exit_slot_move) { .ops = { &op_owner_exit, &op_slot_move } };
FIXTURE_VARIANT_ADD(death, owner_exit_link) { .ops = { &op_owner_exit, &op_link } };
FIXTURE_VARIANT_ADD(death, owner_exit_access) { .ops = { &op_owner_exit, &op_access } };
FIXTURE_VARIANT_ADD(death, owner_exit_slots) { .ops = { &op_owner_exit, &op_backend_slot } };
FIXTURE_VARIANT_ADD(death, owner_exit_drop) { .ops = { &op_owner_exit, &op_drop } };
FIXTURE_VARIANT_ADD(death, backend_exit_map) { .ops = { &op_backend_exit, &op_map } };
FIXTURE_VARIANT_ADD(death, backend_exit_unmap) { .ops = { &op_backend_exit, &op_unmap } };
FIXTURE_VARIANT_ADD(death, backend_exit_mprotect) { .ops = { &op_backend_exit, &op_mprotect } };
FIXTURE_VARIANT_ADD(death, backend_exit_remap) { .ops = { &op_backend_exit, &op_remap } };
FIXTURE_VARIANT_ADD(death, backend_exit_cow) { .ops = { &op_backend_exit, &op_cow } };
FIXTURE_VARIANT_ADD(death, backend_exit_slot) { .ops = { &op_backend_exit, &op_slot } };
FIXTURE_VARIANT_ADD(death, backend_exit_link) { .ops = { &op_backend_exit, &op_link } };
FIXTURE_VARIANT_ADD(death, backend_exit_slots) { .ops = { &op_backend_exit, &op_backend_slot } };
FIXTURE_VARIANT_ADD(death, backend_exit_close) { .ops = { &op_backend_exit, &op_close } };
FIXTURE_VARIANT_ADD(death, both_exit) { .ops = { &op_owner_exit, &op_backend_exit } };

FIXTURE_SETUP(death)
{
	death_init(&self->d, variant->ops);
}

FIXTURE_TEARDOWN(death)
{
	death_fini(&self->d);
}

TEST_F_TIMEOUT(death, hammer, 120)
{
	uint64_t end = now_us() + TIME_LIMIT;
	unsigned int trials = vm2vm_trials(1000), i;

	for (i = 0; i < LEAST_ROUNDS || (i < trials && now_us() < end); i++)
		death_round(&self->d);
	printf("# %u deaths, %s %lu rounds\n", i, variant->ops[1]->name,
	       *self->d.r.actor[1].rounds);
}
