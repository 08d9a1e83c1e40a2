/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the cases of vm2vm_abi_test.c run on: two VMs with a domain each, the
 * calls to make, and the state that a call that fails must leave as it was.
 *
 * The VMs never run.  They look alike, and each links a domain of the other:
 *
 *	MEM	16 pages, memslot SLOT_MEM
 *	MEM2	8 pages, right behind
 *	RO	4 pages, right behind, KVM_MEM_READONLY; then nothing
 *	BELOW	1 page, right below the window
 *	WIN	8 pages, the window, onto iova M1 of the other's domain
 *
 * and in the owner's domain iova M1 (8 pages) and M2 (2 pages) are mapped.  That
 * domain has KVM_VM2VM_DOMAIN_MISSES and _LOG, the backend's has no flags.
 */
#ifndef SELFTEST_KVM_VM2VM_ABI_H
#define SELFTEST_KVM_VM2VM_ABI_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "vm2vm_harness.h"
#include "test_util.h"
#include "kvm_util.h"
#include "vm2vm.h"

#define PG		4096ull
#define MEM		0x10000000ull
#define MEM2		(MEM + 16 * PG)
#define RO		(MEM2 + 8 * PG)
#define ALL_PAGES	28
#define WIN		0x20000000ull
#define BELOW		(WIN - PG)
#define NEW		0x40000000ull	/* a window could go here */
#define M1		0x100000ull
#define M2		(M1 + 10 * PG)
#define FREE		0x300000ull	/* an iova that is not mapped */
#define TOP		(-2 * PG)	/* the highest iova there is */
#define RD		KVM_VM2VM_MAP_READ

enum { SLOT_MEM = 1, SLOT_MEM2, SLOT_RO, SLOT_BELOW, SLOT_WIN, SLOT_NEW, SLOT_MANY = 100 };
#define NR_SLOTS	32764

/* Kinds of descriptors; numbers that are none of these stand for themselves. */
enum { FD_DOMAIN = -100, FD_PEER, FD_KVM, FD_VM, FD_VCPU, FD_PIPE, FD_PATH, FD_CLOSED };

static const uint64_t probe_iovas[] = {
	0, M1 - PG, M1, M1 + 7 * PG, M1 + 8 * PG, M2, M2 + PG, M2 + 2 * PG, FREE, TOP,
};

static const int iovas_at_first[] = {
	0, 0, -EEXIST, -EEXIST, 0, -EEXIST, -EEXIST, 0, 0, 0,
};

static const uint32_t probe_slots[] = {
	0, SLOT_MEM, SLOT_RO, SLOT_WIN, SLOT_NEW, NR_SLOTS - 1,
};

static const int slots_at_first[] = {
	-EEXIST, -EINVAL, -EINVAL, -EINVAL, -EEXIST, -EEXIST,
};

static const char * const stat_names[] = { "vm2vm_domains", "vm2vm_mappings", "vm2vm_links" };

static const uint64_t stats_at_first[2][ARRAY_SIZE(stat_names)] = {
	{ 1, 2, 1 }, { 1, 0, 1 },
};

/* All mappings of a domain: how many, and every bit of them in one number. */
struct list {
	unsigned int nr;
	uint64_t size, hash;
	int err;		/* how it ends */
};

/* What user space can see of what the calls may change. */
struct state {
	uint64_t stats[2][ARRAY_SIZE(stat_names)];
	struct list lists[2];
	int fds;
	int iovas[ARRAY_SIZE(probe_iovas)];
	int slots[2][ARRAY_SIZE(probe_slots)];
};

struct env {
	struct __test_metadata *metadata;
	struct kvm_vm *owner, *backend;
	void *mem;
	int domain;		/* the owner's */
	int peer;		/* a domain of the backend */
	int vcpu, pipe, path;
	struct state before;
};

union args {
	struct kvm_vm2vm_create_domain create;
	struct kvm_vm2vm_map map;
	struct kvm_vm2vm_unmap unmap;
	struct kvm_vm2vm_link link;
	struct kvm_vm2vm_unlink unlink;
	struct kvm_vm2vm_batch batch;
	struct kvm_vm2vm_query query;
	struct kvm_vm2vm_refuse refuse;
	struct kvm_vm2vm_get_dirty get_dirty;
};

struct row {
	const char *name;
	int err;
	union args args;
};

static struct kvm_vm2vm_map map_entry = { FREE, MEM, PG, VM2VM_RW };
static struct kvm_vm2vm_unmap unmap_entry = { FREE, PG };
static uint64_t dirty_word;

/* A valid argument of each call; MAP undoes UNMAP and LINK undoes UNLINK. */
static const struct call {
	const char *name;
	unsigned long nr;
	bool on_domain;
	union args args;
	size_t zeros;		/* where what must be zero starts, */
	uint32_t not_zero;	/* but for these bits of its first word, */
	size_t end;		/* and ends, if not with the argument */
} calls[] = {
	{ "create", KVM_VM2VM_CREATE_DOMAIN, false, { .create = {} },
	  offsetof(struct kvm_vm2vm_create_domain, flags), 7 },
	{ "map", KVM_VM2VM_MAP, true, { .map = { FREE, MEM, PG, VM2VM_RW } },
	  offsetof(struct kvm_vm2vm_map, flags), VM2VM_RW },
	{ "unmap", KVM_VM2VM_UNMAP, true, { .unmap = { FREE, PG } },
	  offsetof(struct kvm_vm2vm_unmap, flags), 0, offsetof(struct kvm_vm2vm_unmap, unmapped) },
	{ "link", KVM_VM2VM_LINK, false, { .link = { FD_DOMAIN, SLOT_NEW, NEW, FREE, PG } },
	  offsetof(struct kvm_vm2vm_link, flags), 7 },
	{ "unlink", KVM_VM2VM_UNLINK, false, { .unlink = { SLOT_NEW } },
	  offsetof(struct kvm_vm2vm_unlink, flags) },
	{ "map_batch", KVM_VM2VM_MAP_BATCH, true, { .batch = { (uintptr_t)&map_entry, 1 } },
	  offsetof(struct kvm_vm2vm_batch, flags) },
	{ "unmap_batch", KVM_VM2VM_UNMAP_BATCH, true, { .batch = { (uintptr_t)&unmap_entry, 1 } },
	  offsetof(struct kvm_vm2vm_batch, flags) },
	{ "query", KVM_VM2VM_QUERY, true, { .query = { M1 } },
	  offsetof(struct kvm_vm2vm_query, flags) },
	{ "refuse", KVM_VM2VM_REFUSE, true, { .refuse = { M1, PG } },
	  offsetof(struct kvm_vm2vm_refuse, flags), 0, offsetof(struct kvm_vm2vm_refuse, refused) },
	{ "get_dirty", KVM_VM2VM_GET_DIRTY, true,
	  { .get_dirty = { M1, 64 * PG, (uintptr_t)&dirty_word } },
	  offsetof(struct kvm_vm2vm_get_dirty, flags) },
};

static unsigned int nr_cases, *total_cases;

static int resolve(struct env *e, int fd)
{
	switch (fd) {
	case FD_DOMAIN:
		return e->domain;
	case FD_PEER:
		return e->peer;
	case FD_KVM:
		return e->backend->kvm_fd;
	case FD_VM:
		return e->backend->fd;
	case FD_VCPU:
		return e->vcpu;
	case FD_PIPE:
		return e->pipe;
	case FD_PATH:
		return e->path;
	case FD_CLOSED:
		fd = dup(e->pipe);
		close(fd);
		return fd;
	default:
		return fd;
	}
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	TEST_ASSERT(dir, "/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* -EEXIST if the iova is mapped, 0 if it is not */
static int probe_iova(int domain, uint64_t iova)
{
	int r = __vm2vm_map(domain, iova, MEM, PG, RD);

	return r ? r : __vm2vm_unmap(domain, iova, PG, NULL);
}

static int set_region(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
		      uint64_t size, void *hva)
{
	return __vm_set_user_memory_region(vm, slot, flags, gpa, size, hva) ? -errno : 0;
}

/*
 * No memslot can be changed to this, nor be made where another is: -EINVAL if
 * the slot is in use, -EEXIST if it is not.
 */
static int probe_slot(struct env *e, struct kvm_vm *vm, uint32_t slot)
{
	return vm ? set_region(vm, slot, 0, MEM, PG, e->mem + 31 * PG) : -ENODEV;
}

static void list_domain(int domain, struct list *l)
{
	struct kvm_vm2vm_query q = {};
	uint64_t iova = 0;
	const uint8_t *p;

	while (!(l->err = __vm2vm_query(domain, iova, &q))) {
		iova = q.iova + q.size;
		l->nr++;
		l->size += q.size;
		for (p = (void *)&q; p < (uint8_t *)(&q + 1); p++)
			l->hash = (l->hash ^ *p) * 0x100000001b3ull;
	}
}

static void take_stats(struct kvm_vm *vm, uint64_t *stats)
{
	int i;

	for (i = 0; vm && i < ARRAY_SIZE(stat_names); i++)
		stats[i] = vm_get_stat(vm, stat_names[i]);
}

static void take_state(struct env *e, struct state *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	take_stats(e->owner, s->stats[0]);
	take_stats(e->backend, s->stats[1]);
	list_domain(e->domain, &s->lists[0]);
	list_domain(e->peer, &s->lists[1]);
	s->fds = count_fds();
	for (i = 0; i < ARRAY_SIZE(probe_iovas); i++)
		s->iovas[i] = probe_iova(e->domain, probe_iovas[i]);
	for (i = 0; i < ARRAY_SIZE(probe_slots); i++) {
		s->slots[0][i] = probe_slot(e, e->owner, probe_slots[i]);
		s->slots[1][i] = probe_slot(e, e->backend, probe_slots[i]);
	}
}

/* The call has given @r: the error @err, and nothing changed. */
static void fails(struct env *e, const char *name, int err, int r)
{
	struct __test_metadata *_metadata = e->metadata;
	struct state now;

	nr_cases++;
	EXPECT_EQ(-err, r)
		TH_LOG("%s: %d, should be %d (%s)", name, r, -err, strerror(err));
	take_state(e, &now);
	EXPECT_EQ(e->before.fds, now.fds)
		TH_LOG("%s: left a descriptor", name);
	EXPECT_EQ(0, memcmp(e->before.iovas, now.iovas, sizeof(now.iovas)))
		TH_LOG("%s: changed the mappings", name);
	EXPECT_EQ(0, memcmp(e->before.lists, now.lists, sizeof(now.lists)))
		TH_LOG("%s: changed the list of mappings", name);
	EXPECT_EQ(0, memcmp(e->before.stats, now.stats, sizeof(now.stats)))
		TH_LOG("%s: changed the statistics", name);
	EXPECT_EQ(0, memcmp(e->before.slots, now.slots, sizeof(now.slots)))
		TH_LOG("%s: changed the memslots", name);
	e->before = now;
}

/* The call has given @r, which is right if it is @want. */
static void works(struct env *e, const char *name, int64_t want, int64_t r)
{
	struct __test_metadata *_metadata = e->metadata;

	nr_cases++;
	EXPECT_EQ(want, r)
		TH_LOG("%s: %ld, should be %ld", name, (long)r, (long)want);
	take_state(e, &e->before);
}

static int do_call(struct env *e, int fd, unsigned long nr, union args *args)
{
	if (nr == KVM_VM2VM_LINK)
		args->link.domain_fd = resolve(e, args->link.domain_fd);
	return vm2vm_ioctl(resolve(e, fd), nr, args);
}

static void run_rows(struct env *e, int fd, unsigned long nr, const struct row *rows, int n)
{
	struct __test_metadata *_metadata = e->metadata;
	union args args, sent;
	int i, r;

	for (i = 0; i < n; i++) {
		args = rows[i].args;
		if (nr == KVM_VM2VM_LINK)
			args.link.domain_fd = resolve(e, args.link.domain_fd);
		sent = args;
		r = vm2vm_ioctl(resolve(e, fd), nr, &args);
		EXPECT_EQ(0, memcmp(&args, &sent, sizeof(args)))
			TH_LOG("%s: changed its argument", rows[i].name);
		fails(e, rows[i].name, rows[i].err, r);
	}
}

static int in_child(struct env *e, int fd, unsigned long nr, union args args)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		_exit(-do_call(e, fd, nr, &args));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "child died");
	return -WEXITSTATUS(status);
}

/* What read() gives in another process: 0, or -errno. */
static int read_in_child(int fd, size_t size)
{
	char buf[64];
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		_exit(read(fd, buf, size) < 0 ? errno : 0);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "child died");
	return -WEXITSTATUS(status);
}

/* read() as the calls are: the bytes read, or -errno. */
static int64_t read_misses(int fd, void *buf, size_t size)
{
	ssize_t r = read(fd, buf, size);

	return r < 0 ? -errno : r;
}

/* What poll() shows now. */
static int poll_events(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLPRI | POLLOUT };

	TEST_ASSERT(poll(&pfd, 1, 0) >= 0, "poll: %s", strerror(errno));
	return pfd.revents;
}

static struct kvm_vm *make_vm(void *mem)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_set_user_memory_region(vm, SLOT_MEM, 0, MEM, 16 * PG, mem);
	vm_set_user_memory_region(vm, SLOT_MEM2, 0, MEM2, 8 * PG, mem + 16 * PG);
	vm_set_user_memory_region(vm, SLOT_RO, KVM_MEM_READONLY, RO, 4 * PG, mem + 24 * PG);
	vm_set_user_memory_region(vm, SLOT_BELOW, 0, BELOW, PG, mem + 28 * PG);
	return vm;
}

FIXTURE(abi) {
	struct env env;
};

FIXTURE_SETUP(abi)
{
	struct env *e = &self->env;
	int fds[2];

	nr_cases = 0;
	e->metadata = _metadata;
	e->mem = mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, e->mem);
	e->owner = make_vm(e->mem);
	e->backend = make_vm(e->mem + 32 * PG);
	e->vcpu = __vm_ioctl(e->backend, KVM_CREATE_VCPU, NULL);
	ASSERT_GE(e->vcpu, 0);
	ASSERT_EQ(0, pipe(fds));
	e->pipe = fds[0];
	e->path = open("/dev/null", O_PATH);
	ASSERT_GE(e->path, 0);
	ASSERT_EQ(NR_SLOTS, vm_check_cap(e->owner, KVM_CAP_NR_MEMSLOTS));

	e->domain = vm2vm_create_domain_flags(e->owner, KVM_VM2VM_DOMAIN_MISSES |
					      KVM_VM2VM_DOMAIN_LOG);
	e->peer = vm2vm_create_domain(e->backend);
	vm2vm_map(e->domain, M1, MEM, 8 * PG, VM2VM_RW);
	vm2vm_map(e->domain, M2, MEM, 2 * PG, RD);
	vm2vm_link(e->backend, e->domain, SLOT_WIN, WIN, M1, 8 * PG, 0);
	vm2vm_link(e->owner, e->peer, SLOT_WIN, WIN, M1, 8 * PG, 0);

	/* The probes must be able to tell. */
	take_state(e, &e->before);
	ASSERT_EQ(0, memcmp(e->before.iovas, iovas_at_first, sizeof(iovas_at_first)));
	ASSERT_EQ(0, memcmp(e->before.slots[0], slots_at_first, sizeof(slots_at_first)));
	ASSERT_EQ(0, memcmp(e->before.slots[1], slots_at_first, sizeof(slots_at_first)));
	ASSERT_EQ(0, memcmp(e->before.stats, stats_at_first, sizeof(stats_at_first)));
	ASSERT_EQ(2, e->before.lists[0].nr);
	ASSERT_EQ(10 * PG, e->before.lists[0].size);
	ASSERT_EQ(-ENOENT, e->before.lists[0].err);
	ASSERT_EQ(0, e->before.lists[1].nr);
}

FIXTURE_TEARDOWN(abi)
{
	printf("# %s: %u cases\n", _metadata->name, nr_cases);
	fflush(stdout);
	*total_cases += nr_cases;
	kvm_vm_free(self->env.owner);
	kvm_vm_free(self->env.backend);
}

static pid_t main_pid;

static void print_total(void)
{
	if (getpid() == main_pid)
		printf("# all: %u cases\n", *total_cases);
}

/* Every test is a process of its own. */
static inline void count_cases(void)
{
	main_pid = getpid();
	total_cases = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(total_cases != MAP_FAILED, "mmap: %s", strerror(errno));
	atexit(print_total);
}

#endif /* SELFTEST_KVM_VM2VM_ABI_H */
