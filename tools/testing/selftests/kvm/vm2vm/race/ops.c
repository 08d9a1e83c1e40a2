// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_race_test: the things that an actor may do.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "race.h"

static void nap(struct actor *a)
{
	if (rand_r(&a->seed) % 4 == 0)
		usleep(rand_r(&a->seed) % 200);
}

/*
 * Whether this actor alone says which pages are approved: not if the other one
 * approves and revokes them too, or replaces the whole domain.
 */
static bool rules_approvals(struct actor *a)
{
	return !is_half(a) && a->other->factor != DOMAIN;
}

/* A call may come to the domain that the other one has just ended. */
static bool ends(struct actor *a)
{
	return a->other == &op_end;
}

/* Errors of a MAP, for what the other one does. */
static void check_map(struct actor *a, int e)
{
	if (e == -ENODEV && ends(a))
		return;
	check_errno("MAP", e, a->other->factor == MEMSLOT ? ENOENT : 0,
		    rules_approvals(a) ? 0 : EEXIST);
}

/* UNMAP and MAP a page; or the latter alone. */
static void do_map(struct actor *a)
{
	unsigned int page = random_page(a);
	uint64_t size;
	int e;

	if (is_half(a)) {
		check_map(a, race_map(a->race, page));
		return;
	}
	e = race_unmap(a->race, page, 1, &size);
	check_errno("UNMAP", e, ends(a) ? ENODEV : 0, 0);
	if (rules_approvals(a))
		flip(a, page);
	nap(a);
	if (rules_approvals(a))
		flip(a, page);
	do {
		e = race_map(a->race, page);
		check_map(a, e);
	} while (e == -ENOENT && !READ_ONCE(a->race->stop));
}

/* UNMAP all, and MAP each page again; or the former alone, and some pages. */
static void do_unmap(struct actor *a)
{
	unsigned int page, nr;
	uint64_t size;

	if (is_half(a)) {
		page = random_page(a);
		nr = 1 + rand_r(&a->seed) % (a->first + a->nr - page);
		check_errno("UNMAP", race_unmap(a->race, page, nr, &size), 0, 0);
		TEST_ASSERT(size <= nr * 4096, "unmapped %lu bytes of %u pages", size, nr);
		return;
	}
	check_errno("UNMAP", race_unmap(a->race, a->first, a->nr, &size),
		    ends(a) ? ENODEV : 0, 0);
	if (rules_approvals(a))
		flip_all(a);
	nap(a);
	if (rules_approvals(a))
		flip_all(a);
	for (page = a->first; page < a->first + a->nr; page++)
		check_map(a, race_map(a->race, page));
}

/* A domain that is being closed may have ended before LINK gets to it. */
static int race_link(struct actor *a)
{
	int e = __node_link(a->race->backend.vm, a->race->domain, 0, NODE_IOVA);

	check_errno("LINK", e, is_half(a) ? EEXIST : 0,
		    a->other->factor == DOMAIN || a->other->factor == LIFE ? ENODEV : 0);
	return e;
}

/* UNLINK and LINK; or the latter alone. */
static void do_link(struct actor *a)
{
	int e;

	if (is_half(a)) {
		race_link(a);
		return;
	}
	if (a->linked) {
		e = __node_unlink(a->race->backend.vm, 0);
		check_errno("UNLINK", e, 0, 0);
		flip_all(a);
		a->linked = false;
	}
	nap(a);
	flip_all(a);
	a->linked = !race_link(a);
	if (!a->linked)
		flip_all(a);
}

static void do_unlink(struct actor *a)
{
	if (!is_half(a)) {
		do_link(a);
		return;
	}
	check_errno("UNLINK", __node_unlink(a->race->backend.vm, 0), ENOENT, 0);
}

/* Another backend's guest is entered and left, and has pages brought in. */
static void do_access(struct actor *a)
{
	struct kvm_pre_fault_memory range = { .gpa = NODE_WINDOW(0), .size = NODE_SIZE };
	struct node *s = &a->race->second;
	uint64_t passes = READ_ONCE(s->ctl->passes);
	int e;

	node_go(s);
	NODE_WAIT(READ_ONCE(s->ctl->passes) > passes + 2, "the second backend does not go on");
	node_stop(s);
	node_check(s);
	e = node_ioctl(s->vcpu, KVM_PRE_FAULT_MEMORY, &range);
	check_errno("PRE_FAULT_MEMORY", e, EAGAIN, ENOENT);
}

static void do_dontneed(struct actor *a)
{
	unsigned int page = random_page(a);
	void *addr = page_addr(a->race, page);

	TEST_ASSERT(!madvise(addr, 4096, MADV_DONTNEED), "madvise: %s", strerror(errno));
	write_page(a->race, page, addr);
}

static void do_mprotect(struct actor *a)
{
	unsigned int page = random_page(a);
	void *addr = page_addr(a->race, page);

	TEST_ASSERT(!mprotect(addr, 4096, PROT_NONE), "mprotect: %s", strerror(errno));
	flip(a, page);
	nap(a);
	flip(a, page);
	TEST_ASSERT(!mprotect(addr, 4096, PROT_READ), "mprotect: %s", strerror(errno));
	nap(a);
	TEST_ASSERT(!mprotect(addr, 4096, PROT_READ | PROT_WRITE), "mprotect: %s",
		    strerror(errno));
	write_page(a->race, page, addr);
}

/* Move a page away, change it there, and move it back. */
static void do_mremap(struct actor *a)
{
	unsigned int page = random_page(a);
	void *addr = page_addr(a->race, page), *spare = spare_addr(a->race, page);

	TEST_ASSERT(mremap(addr, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, spare) == spare,
		    "mremap: %s", strerror(errno));
	flip(a, page);
	write_page(a->race, page, spare);
	nap(a);
	flip(a, page);
	TEST_ASSERT(mremap(spare, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == addr,
		    "mremap: %s", strerror(errno));
}

static void do_remap(struct actor *a)
{
	unsigned int page = random_page(a);
	void *addr = page_addr(a->race, page);

	TEST_ASSERT(!munmap(addr, 4096), "munmap: %s", strerror(errno));
	flip(a, page);
	nap(a);
	flip(a, page);
	TEST_ASSERT(race_mmap(a->race, addr, page, 4096, MAP_FIXED_NOREPLACE) == addr,
		    "mmap: %s", strerror(errno));
	write_page(a->race, page, addr);
}

/* Write to memory that a child has, too. */
static void do_cow(struct actor *a)
{
	unsigned int page;
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	for (page = a->first; page < a->first + a->nr; page++)
		write_page(a->race, page, page_addr(a->race, page));
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
}

static unsigned int random_slot(struct actor *a)
{
	return random_page(a) / RACE_SLOT_PAGES;
}

static void flip_slot(struct actor *a, unsigned int slot)
{
	unsigned int i;

	for (i = 0; i < RACE_SLOT_PAGES; i++)
		flip(a, slot * RACE_SLOT_PAGES + i);
}

static void do_slot(struct actor *a)
{
	unsigned int slot = random_slot(a);

	check_errno("delete a memslot", race_set_slot(a->race, slot, slot_gpa(slot), 0), 0, 0);
	flip_slot(a, slot);
	nap(a);
	flip_slot(a, slot);
	check_errno("create a memslot",
		    race_set_slot(a->race, slot, slot_gpa(slot), RACE_SLOT_SIZE), 0, 0);
}

static void do_slot_move(struct actor *a)
{
	unsigned int slot = random_slot(a);
	uint64_t gpa = slot_gpa(slot);

	check_errno("move a memslot",
		    race_set_slot(a->race, slot, gpa + (1 << 20), RACE_SLOT_SIZE), 0, 0);
	flip_slot(a, slot);
	nap(a);
	flip_slot(a, slot);
	check_errno("move a memslot", race_set_slot(a->race, slot, gpa, RACE_SLOT_SIZE), 0, 0);
}

#define BACKEND_SLOT_ID	50
#define BACKEND_SLOT_GPA	0xa0000000ul

/* A memslot of the backend comes, moves and goes, and gets into the window's way. */
static void do_backend_slot(struct actor *a)
{
	struct node *b = &a->race->backend;
	void *mem = b->ram;

	check_errno("create a memslot",
		    __node_set_memory(b->vm, BACKEND_SLOT_ID, BACKEND_SLOT_GPA, 8192, mem, 0),
		    0, 0);
	check_errno("move a memslot",
		    __node_set_memory(b->vm, BACKEND_SLOT_ID, BACKEND_SLOT_GPA + 8192, 8192, mem,
				      0), 0, 0);
	TEST_ASSERT(__node_link(b->vm, a->race->domain, NODE_WINDOW_MAX, NODE_IOVA) == 0 ||
		    a->other->factor == DOMAIN || a->other->factor == LIFE, "another window");
	check_errno("UNLINK", __node_unlink(b->vm, NODE_WINDOW_MAX),
		    a->other->factor == DOMAIN || a->other->factor == LIFE ? ENOENT : 0, 0);
	check_errno("delete a memslot",
		    __node_set_memory(b->vm, BACKEND_SLOT_ID, BACKEND_SLOT_GPA + 8192, 0, mem, 0),
		    0, 0);
}

/*
 * Whether nothing but the descriptor keeps the domain: a call of the other actor that
 * is under way does, and so does the child that it forks.
 */
static bool closes_last(struct actor *a)
{
	return a->other->factor != APPROVAL && a->other->factor != LINK &&
	       a->other->factor != BACKEND_SLOT && a->other->factor != LIFE &&
	       strcmp(a->other->name, "cow");
}

static void relink(struct actor *a, struct node *n)
{
	if (n->vm < 0)
		return;
	check_errno("UNLINK", __node_unlink(n->vm, 0), 0, 0);
	check_errno("LINK", __node_link(n->vm, a->race->domain, 0, NODE_IOVA), 0, 0);
}

/* Close the domain by putting another in its place, and link that. */
static void do_close(struct actor *a)
{
	struct race *r = a->race;
	int domain = __node_create_domain(r->owner.vm);

	check_errno("CREATE_DOMAIN", domain, 0, 0);
	race_map_all(r, domain);
	TEST_ASSERT(dup2(domain, r->domain) == r->domain, "dup2: %s", strerror(errno));
	if (closes_last(a))
		flip_all(a);
	nap(a);
	if (closes_last(a))
		flip_all(a);
	close(domain);
	if (a->other->factor == LINK)
		return;
	relink(a, &r->backend);
	relink(a, &r->second);
}

/*
 * Put another domain in the place of the one there is, and end that, which calls of the
 * other one may be under way to.
 */
static void do_end(struct actor *a)
{
	struct race *r = a->race;
	int domain = __node_create_domain(r->owner.vm), old = dup(r->domain);

	check_errno("CREATE_DOMAIN", domain, 0, 0);
	race_map_all(r, domain);
	TEST_ASSERT(old >= 0 && dup2(domain, r->domain) == r->domain, "dup: %s", strerror(errno));
	close(domain);
	check_errno("END", __vm2vm_end(old), 0, 0);
	if (a->other->factor != LINK)
		flip_all(a);
	nap(a);
	check_errno("END again", __vm2vm_end(old), ENODEV, 0);
	if (a->other->factor != LINK)
		flip_all(a);
	close(old);
	if (a->other->factor == LINK)
		return;
	relink(a, &r->backend);
	relink(a, &r->second);
}

/* The backend's copy of a descriptor goes while the owner's does. */
static void do_drop(struct actor *a)
{
	int fd;

	usleep(rand_r(&a->seed) % 1000);
	fd = __atomic_exchange_n(&a->race->domain, -1, __ATOMIC_SEQ_CST);
	if (fd >= 0)
		close(fd);
}

void *act(void *arg)
{
	struct actor *a = arg;

	while (!READ_ONCE(a->race->stop)) {
		a->op->round(a);
		WRITE_ONCE(*a->rounds, *a->rounds + 1);
		nap(a);
	}
	return NULL;
}

void actor_go(struct actor *a)
{
	TEST_ASSERT(!pthread_create(&a->thread, NULL, act, a), "pthread_create");
}

const struct op op_map = {
	.name = "map", .factor = APPROVAL, .round = do_map, .counterpart = "unmap",
};

const struct op op_unmap = {
	.name = "unmap", .factor = APPROVAL, .round = do_unmap, .counterpart = "map",
};

const struct op op_link = {
	.name = "link", .factor = LINK, .round = do_link, .counterpart = "unlink",
};

const struct op op_unlink = {
	.name = "unlink", .factor = LINK, .round = do_unlink, .counterpart = "link",
};

const struct op op_access = {
	.name = "access", .factor = ACCESS, .round = do_access,
};

const struct op op_dontneed = {
	.name = "dontneed", .factor = MEMORY, .round = do_dontneed, .private = true,
};

const struct op op_mprotect = {
	.name = "mprotect", .factor = MEMORY, .round = do_mprotect,
};

const struct op op_mremap = {
	.name = "mremap", .factor = MEMORY, .round = do_mremap, .private = true,
};

const struct op op_remap = {
	.name = "remap", .factor = MEMORY, .round = do_remap,
};

const struct op op_cow = {
	.name = "cow", .factor = MEMORY, .round = do_cow, .private = true,
};

const struct op op_slot = {
	.name = "slot", .factor = MEMSLOT, .round = do_slot,
};

const struct op op_slot_move = {
	.name = "slot_move", .factor = MEMSLOT, .round = do_slot_move,
};

const struct op op_backend_slot = {
	.name = "backend_slot", .factor = BACKEND_SLOT, .round = do_backend_slot,
};

const struct op op_close = {
	.name = "close", .factor = DOMAIN, .round = do_close,
};

const struct op op_end = {
	.name = "end", .factor = DOMAIN, .round = do_end,
};

const struct op op_drop = {
	.name = "drop", .factor = DOMAIN, .round = do_drop,
};

const struct op op_owner_exit = {
	.name = "owner_exit", .factor = LIFE,
};

const struct op op_backend_exit = {
	.name = "backend_exit", .factor = LIFE,
};
