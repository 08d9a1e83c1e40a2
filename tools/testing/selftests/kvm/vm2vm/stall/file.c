// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: owners whose memory is a file of a server that does not answer.  The
 * kernel waits for that where no signal ends it; so it is nothing for a backend's thread.
 */
#include <signal.h>
#include <stdio.h>

#include "vm2vm_fuse.h"
#include "vm2vm_harness.h"
#include "vm2vm_peer.h"
#include "stall.h"

/* Of the owner: the first page that the server keeps waiting, and one before that. */
#define STUCK		(STALLED + FUSE_STUCK)
#define ANSWERED	(STUCK - 1)
#define FILE_VALUE(page) FUSE_VALUE((page) - STALLED)

/* How many requests KVM has for a domain at once. */
#define PLACES		16

/* An owner, two backends of its domain, and its server. */
struct world {
	struct fuse_server server;
	struct actor owner, a, b;
	int domain;
	int references;	/* to KVM, before */
};

/* References to KVM's modules, by VMs and by what is left of them. */
static int kvm_references(void)
{
	static const char * const modules[] = { "kvm", "kvm_amd", "kvm_intel" };
	int refs = 0, n;
	char path[64];
	unsigned int i;
	FILE *f;

	for (i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%d", &n) == 1)
			refs += n;
		fclose(f);
	}
	return refs;
}

/* False if there is no FUSE. */
static bool world_start(struct world *w, bool shared)
{
	w->references = kvm_references();
	if (!fuse_start(&w->server))
		return false;
	actor_start(&w->owner, owner_process);
	actor_start(&w->a, backend_process);
	actor_start(&w->b, backend_process);
	actor_do(&w->owner, OWNER_SHARE, 0);
	w->domain = w->owner.fd;
	TEST_ASSERT(!actor_do_fd(&w->owner, OWNER_FILE, shared, w->server.file), "mmap");
	TEST_ASSERT(!actor_do_fd(&w->a, BACKEND_LINK, 0, w->domain) &&
		    !actor_do_fd(&w->b, BACKEND_LINK, 0, w->domain), "KVM_VM2VM_LINK");
	return true;
}

/* When all are dead, and the server is, nothing is left: no VM and no request. */
static void world_end(struct world *w)
{
	unsigned int i;

	if (!w->server.pid)
		return;
	actor_kill(&w->a);
	actor_kill(&w->owner);
	actor_kill(&w->b);
	close(w->domain);
	fuse_kill(&w->server);
	for (i = 0; i < LIMIT * 100 && kvm_references() > w->references; i++)
		usleep(10000);
	TEST_ASSERT(kvm_references() <= w->references, "%d references to KVM, not %d",
		    kvm_references(), w->references);
}

/* Have a backend's vCPU access @page, so that the server keeps @nr waiting. */
static void stick(struct world *w, struct actor *backend, enum stall_cmd how, unsigned int page,
		  unsigned int nr)
{
	actor_do(backend, how, page);
	fuse_wait_for(&w->server, nr);
	TEST_ASSERT(actor_do(backend, BACKEND_RUNS, 0), "the vCPU does not wait");
}

/* Everybody else goes on, on other pages. */
static void others_go_on(struct world *w)
{
	TEST_ASSERT(!actor_do_fd(&w->a, BACKEND_MEMSLOTS, 0, w->domain), "backend's memslots");
	TEST_ASSERT(actor_do(&w->b, BACKEND_READ, 1) == VALUE(1), "page 1");
	TEST_ASSERT(!actor_do(&w->owner, OWNER_UNMAP, 2), "KVM_VM2VM_UNMAP");
	TEST_ASSERT(actor_do(&w->b, BACKEND_READ, 2) == HOLE, "not a hole");
	TEST_ASSERT(!actor_do(&w->owner, OWNER_MAP, 2), "KVM_VM2VM_MAP");
	TEST_ASSERT(actor_do(&w->b, BACKEND_READ, 2) == VALUE(2), "page 2");
	TEST_ASSERT(!actor_do(&w->owner, OWNER_MEMSLOT, 0), "owner's memslot");
	TEST_ASSERT(actor_do(&w->a, BACKEND_RUNS, 0), "the vCPU does not wait");
}

FIXTURE(stall_file)
{
	struct world w;
};

FIXTURE_VARIANT(stall_file)
{
	bool shared;
};

FIXTURE_VARIANT_ADD(stall_file, private) { .shared = false };
FIXTURE_VARIANT_ADD(stall_file, shared) { .shared = true };

FIXTURE_SETUP(stall_file)
{
	if (!world_start(&self->w, variant->shared))
		SKIP(return, "no FUSE");
}

FIXTURE_TEARDOWN(stall_file)
{
	world_end(&self->w);
}

/* A signal ends KVM_RUN at once, however often, and one request is for all of them. */
TEST_F_TIMEOUT(stall_file, interrupt, 300)
{
	struct world *w = &self->w;
	unsigned int i;

	EXPECT_EQ(FILE_VALUE(ANSWERED), actor_do(&w->b, BACKEND_READ, ANSWERED));
	stick(w, &w->a, BACKEND_START, STUCK, 1);
	for (i = 0; i < PLACES + 4; i++) {
		ASSERT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
		actor_do(&w->a, BACKEND_CONTINUE, 0);
	}
	others_go_on(w);
	EXPECT_EQ(1, fuse_waiting(&w->server));
	EXPECT_EQ(FILE_VALUE(STALLED), actor_do(&w->b, BACKEND_READ, STALLED));
	fuse_release(&w->server);
	EXPECT_EQ(FILE_VALUE(STUCK), actor_do(&w->a, BACKEND_WAIT, 0));
	EXPECT_EQ(FILE_VALUE(STUCK), actor_do(&w->b, BACKEND_READ, STUCK));
}

/* So does death. */
TEST_F_TIMEOUT(stall_file, kill_backend, 300)
{
	struct world *w = &self->w;

	stick(w, &w->a, BACKEND_START, STUCK, 1);
	actor_kill(&w->a);
	EXPECT_EQ(VALUE(1), actor_do(&w->b, BACKEND_READ, 1));
	EXPECT_EQ(1, fuse_waiting(&w->server));
}

/* A first write to a private file is a read, and one to a shared file waits for it, too. */
TEST_F_TIMEOUT(stall_file, write, 300)
{
	struct world *w = &self->w;

	stick(w, &w->a, BACKEND_WRITE, STUCK, 1);
	ASSERT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	others_go_on(w);
	fuse_release(&w->server);
	EXPECT_LE(0, actor_do(&w->a, BACKEND_WAIT, 0));
	EXPECT_EQ(VALUE(STUCK), actor_do(&w->b, BACKEND_READ, STUCK));
}

/* The page is there, and is being written back: a write has to wait for the server. */
TEST_F_TIMEOUT(stall_file, writeback, 300)
{
	struct world *w = &self->w;

	if (!variant->shared)
		SKIP(return, "nothing is written back");
	EXPECT_EQ(FILE_VALUE(STALLED), actor_do(&w->a, BACKEND_READ, STALLED));
	fuse_keep_writes(&w->server);
	actor_do(&w->owner, OWNER_DIRTY, STALLED);
	fuse_wait_for(&w->server, 1);
	actor_do(&w->a, BACKEND_WRITE, STALLED);
	usleep(200000);
	EXPECT_EQ(1, actor_do(&w->a, BACKEND_RUNS, 0));
	EXPECT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	others_go_on(w);
	fuse_release(&w->server);
	EXPECT_LE(0, actor_do(&w->a, BACKEND_WAIT, 0));
	EXPECT_EQ(VALUE(STALLED), actor_do(&w->b, BACKEND_READ, STALLED));
}

/* Where nothing is waited for, it is started all the same. */
TEST_F_TIMEOUT(stall_file, prefault, 300)
{
	struct world *w = &self->w;
	uint64_t start = now_ms();
	unsigned int i;
	int64_t r;

	r = actor_do(&w->a, BACKEND_PREFAULT, STUCK);
	if (r == -EOPNOTSUPP)
		SKIP(return, "KVM has no two-dimensional paging");
	EXPECT_EQ(-EAGAIN, r);
	EXPECT_GT(10000, now_ms() - start);
	fuse_wait_for(&w->server, 1);
	EXPECT_EQ(-EAGAIN, actor_do(&w->a, BACKEND_PREFAULT, STUCK));
	EXPECT_EQ(1, fuse_waiting(&w->server));
	EXPECT_EQ(0, actor_do_fd(&w->a, BACKEND_MEMSLOTS, 0, w->domain));
	fuse_release(&w->server);
	/* Linux 6.12 prefaults for ever unless the vCPU has run since its memslots changed. */
	EXPECT_EQ(VALUE(1), actor_do(&w->a, BACKEND_READ, 1));
	for (i = 0; i < LIMIT * 100 && r == -EAGAIN; i++) {
		usleep(10000);
		r = actor_do(&w->a, BACKEND_PREFAULT, STUCK);
	}
	EXPECT_EQ(0, r);
}

/* The window, and the approval, go while a vCPU waits. */
TEST_F_TIMEOUT(stall_file, revoke, 300)
{
	struct world *w = &self->w;

	stick(w, &w->a, BACKEND_START, STUCK, 1);
	stick(w, &w->b, BACKEND_START, STUCK + 1, 2);
	EXPECT_EQ(0, actor_do(&w->a, BACKEND_UNLINK, 0));
	EXPECT_EQ(0, actor_do(&w->owner, OWNER_UNMAP, STUCK + 1));
	EXPECT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	EXPECT_EQ(-EINTR, actor_do(&w->b, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	actor_do(&w->b, BACKEND_CONTINUE, 0);
	EXPECT_EQ(HOLE, actor_do(&w->a, BACKEND_WAIT, 0));
	EXPECT_EQ(HOLE, actor_do(&w->b, BACKEND_WAIT, 0));
	EXPECT_EQ(VALUE(0), actor_do(&w->b, BACKEND_READ, 0));
}

TEST_F_TIMEOUT(stall_file, owner_killed, 300)
{
	struct world *w = &self->w;

	EXPECT_EQ(VALUE(0), actor_do(&w->b, BACKEND_READ, 0));
	stick(w, &w->a, BACKEND_START, STUCK, 1);
	actor_kill(&w->owner);
	EXPECT_EQ(HOLE, actor_do(&w->b, BACKEND_READ, 0));
	EXPECT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	EXPECT_EQ(HOLE, actor_do(&w->a, BACKEND_WAIT, 0));
}

/* The server's file keeps the owner's address space, and somebody has its VM's descriptor. */
TEST_F_TIMEOUT(stall_file, owner_killed_vm_held, 300)
{
	struct world *w = &self->w;
	int vm;

	EXPECT_EQ(VALUE(0), actor_do(&w->b, BACKEND_READ, 0));
	actor_do(&w->owner, OWNER_VM, 0);
	vm = w->owner.fd;
	stick(w, &w->a, BACKEND_START, STUCK, 1);
	actor_kill(&w->owner);
	EXPECT_TRUE(ends_soon(w->domain));
	EXPECT_EQ(HOLE, actor_do(&w->b, BACKEND_READ, 0));
	EXPECT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	EXPECT_EQ(HOLE, actor_do(&w->a, BACKEND_WAIT, 0));
	close(vm);
}

/* A server that dies: what it has not answered is not there, and counted. */
TEST_F_TIMEOUT(stall_file, server_killed, 300)
{
	struct world *w = &self->w;
	int64_t before = actor_do(&w->a, BACKEND_STAT, STAT_NOPAGE);

	stick(w, &w->a, BACKEND_START, STUCK, 1);
	kill(w->server.pid, SIGKILL);
	EXPECT_EQ(HOLE, actor_do(&w->a, BACKEND_WAIT, 0));
	EXPECT_LT(before, actor_do(&w->a, BACKEND_STAT, STAT_NOPAGE));
	EXPECT_EQ(VALUE(0), actor_do(&w->a, BACKEND_READ, 0));
}

/* As many requests as there can be: who wants one more can be interrupted. */
TEST_F_TIMEOUT(stall_file, limit, 300)
{
	struct world *w = &self->w, other;
	unsigned int i;

	for (i = 0; i < PLACES; i++) {
		ASSERT_EQ(-EAGAIN, actor_do(&w->a, BACKEND_PREFAULT, STUCK + i));
		fuse_wait_for(&w->server, i + 1);
	}
	actor_do(&w->a, BACKEND_START, STUCK + PLACES);
	usleep(200000);
	EXPECT_EQ(PLACES, fuse_waiting(&w->server));
	others_go_on(w);
	/* What takes no server needs no place. */
	EXPECT_EQ(0, actor_do(&w->owner, OWNER_ABSENT, 3));
	EXPECT_EQ(0, actor_do(&w->b, BACKEND_READ, 3));
	EXPECT_EQ(-EAGAIN, actor_do(&w->b, BACKEND_PREFAULT, ANSWERED));

	/* Nor is any of that a matter for another owner. */
	ASSERT_TRUE(world_start(&other, variant->shared));
	EXPECT_EQ(FILE_VALUE(ANSWERED), actor_do(&other.b, BACKEND_READ, ANSWERED));
	world_end(&other);

	EXPECT_EQ(-EINTR, actor_do(&w->a, BACKEND_INTERRUPT, 0));
	actor_do(&w->a, BACKEND_CONTINUE, 0);
	EXPECT_EQ(1, actor_do(&w->a, BACKEND_RUNS, 0));
	fuse_release(&w->server);
	EXPECT_EQ(FILE_VALUE(STUCK + PLACES), actor_do(&w->a, BACKEND_WAIT, 0));
}
