// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: the death of either process.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "events.h"

/* An owner with memory of its own, or of the file that the test has too. */
static void owner_process(struct cell *c)
{
	struct kvm_vm *vm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stay_on_cpu(false);
	if (c->r.fd < 0)
		region_create(&c->r, c->kind, false);
	WRITE_ONCE(*(uint64_t *)page_of(c), 0);
	if (c->r.fd < 0)
		pin_page(c->old.pipe[1], page_of(c));
	vm = vm_create_barebones();
	vm_set_user_memory_region(vm, 0, log_flag(), PEER_OWNER_GPA, MATRIX_SIZE,
				  c->r.mem);
	c->domain = vm2vm_create_domain(vm);
	map_all(c);
	c->shared->page = (uintptr_t)page_of(c);
	WRITE_ONCE(c->shared->domain, c->domain);
	for (;;)
		pause();
}

static void prepare_owner_kill(struct cell *c)
{
	int pidfd;

	c->shared->domain = -1;
	fflush(stdout);
	c->child = fork();
	MUST(c->child);
	if (!c->child)
		owner_process(c);
	WAIT_FOR(c, READ_ONCE(c->shared->domain) >= 0, "no owner");
	pidfd = syscall(SYS_pidfd_open, c->child, 0);
	MUST(pidfd);
	c->domain = syscall(SYS_pidfd_getfd, pidfd, c->shared->domain, 0);
	MUST(c->domain);
	close(pidfd);
	link_window(c);
	if (c->r.alias)
		c->own = place_at(c->r.alias + MATRIX_OFFSET);
	else
		c->own = place_of_process(&c->child_mem, c->child, (void *)c->shared->page);
	c->first = c->own;
}

static void arm_owner_kill(struct cell *c)
{
	if (c->r.alias)
		watch_place(c, c->own);
	else
		c->old.pinned = true;
}

static void restore_owner_kill(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
	close(c->domain);
	if (c->own.fd >= 0)
		close(c->child_mem);
}

static void prepare_backend_kill(struct cell *c)
{
	spin_reset(c);
	fflush(stdout);
	c->child = fork();
	MUST(c->child);
	if (c->child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stay_on_cpu(false);
	backend_create(c);
	link_window(c);
	spin_run(c->vcpu, c->s);
	_exit(0);
}

/*
 * The owner's calls do not wait for a backend that dies, and it does not write
 * any more when it has been waited for.  Every other time there is an UNMAP right
 * after the signal.
 */
static void fire_backend_kill(struct cell *c)
{
	uint64_t start = now_us();
	int status;

	MUST(kill(c->child, SIGKILL));
	if (c->trial % 2)
		fire_unmap(c);
	if (c->slowest < now_us() - start)
		c->slowest = now_us() - start;
	TEST_ASSERT(waitpid(c->child, &status, 0) == c->child, "waitpid: %s", strerror(errno));
	CHECK(c, WIFSIGNALED(status), "the backend has ended by itself: 0x%x", status);
}

static void verify_backend_kill(struct cell *c)
{
	uint64_t start;

	usleep(2000);
	CHECK(c, c->s->count == c->returned, "the guest goes on: pass %lu", c->s->count);
	CHECK(c, place_get(&c->own, WORD_READ) == VAL_CANARY, "the owner's page has changed");
	start = now_us();
	if (c->trial % 2)
		map_all(c);
	fire_unmap(c);
	map_all(c);
	if (c->slowest < now_us() - start)
		c->slowest = now_us() - start;
	CHECK(c, c->slowest < 10 * 1000000, "the owner's calls took %lu us", c->slowest);
	snprintf(c->shared->note, sizeof(c->shared->note), "the owner's calls took %lu us at most",
		 c->slowest);
}

const struct event events_death[] = {
	{
		.name = "owner_kill", .expect = SHOWS_HOLE, .own_owner = true, .cost = 4,
		.prepare = prepare_owner_kill, .arm = arm_owner_kill, .fire = kill_child,
		.restore = restore_owner_kill,
	}, {
		.name = "backend_kill", .expect = SHOWS_NOTHING, .own_backend = true, .cost = 8,
		.prepare = prepare_backend_kill, .arm = arm_own, .fire = fire_backend_kill,
		.verify = verify_backend_kill,
	},
	{}
};
