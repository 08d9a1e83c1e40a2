// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_abi_test: the VMs that the cases run on, and whether a call has changed what
 * it must not; see env.h.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "env.h"
#include "vm2vm_fds.h"
#include "vm2vm_harness.h"

static const uint64_t probe_iovas[NR_PROBED_IOVAS] = {
	0, M1 - PG, M1, M1 + 7 * PG, M1 + 8 * PG, M2, M2 + PG, M2 + 2 * PG, FREE, TOP,
};

static const int iovas_at_first[NR_PROBED_IOVAS] = {
	0, 0, -EEXIST, -EEXIST, 0, -EEXIST, -EEXIST, 0, 0, 0,
};

static const uint32_t probe_slots[NR_PROBED_SLOTS] = {
	0, SLOT_MEM, SLOT_RO, SLOT_WIN, SLOT_NEW, NR_SLOTS - 1,
};

static const int slots_at_first[NR_PROBED_SLOTS] = {
	-EEXIST, -EINVAL, -EINVAL, -EINVAL, -EEXIST, -EEXIST,
};

static const char * const stat_names[NR_STATS] = {
	"vm2vm_domains", "vm2vm_mappings", "vm2vm_links",
};

static const uint64_t stats_at_first[2][NR_STATS] = {
	{ 1, 2, 1 }, { 1, 0, 1 },
};

static unsigned int nr_cases, *total_cases;
static pid_t main_pid;

int resolve(struct env *e, int fd)
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

/* -EEXIST if the iova is mapped, 0 if it is not */
static int probe_iova(int domain, uint64_t iova)
{
	int r = __vm2vm_map(domain, iova, MEM, PG, RD);

	return r ? r : __vm2vm_unmap(domain, iova, PG, NULL);
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

void take_state(struct env *e, struct state *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	take_stats(e->owner, s->stats[0]);
	take_stats(e->backend, s->stats[1]);
	list_domain(e->domain, &s->lists[0]);
	list_domain(e->peer, &s->lists[1]);
	s->fds = vm2vm_count_fds();
	for (i = 0; i < ARRAY_SIZE(probe_iovas); i++)
		s->iovas[i] = probe_iova(e->domain, probe_iovas[i]);
	for (i = 0; i < ARRAY_SIZE(probe_slots); i++) {
		s->slots[0][i] = probe_slot(e, e->owner, probe_slots[i]);
		s->slots[1][i] = probe_slot(e, e->backend, probe_slots[i]);
	}
}

void fails(struct env *e, const char *name, int err, int r)
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

void works(struct env *e, const char *name, int64_t want, int64_t r)
{
	struct __test_metadata *_metadata = e->metadata;

	nr_cases++;
	EXPECT_EQ(want, r)
		TH_LOG("%s: %ld, should be %ld", name, (long)r, (long)want);
	take_state(e, &e->before);
}

int do_call(struct env *e, int fd, unsigned long nr, union args *args)
{
	if (nr == KVM_VM2VM_LINK)
		args->link.domain_fd = resolve(e, args->link.domain_fd);
	return vm2vm_ioctl(resolve(e, fd), nr, args);
}

void run_rows(struct env *e, int fd, unsigned long nr, const struct row *rows, int n)
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

int in_child(struct env *e, int fd, unsigned long nr, union args args)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		_exit(-do_call(e, fd, nr, &args));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "child died");
	return -WEXITSTATUS(status);
}

int read_in_child(int fd, size_t size)
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

int poll_events(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLPRI | POLLOUT };

	TEST_ASSERT(poll(&pfd, 1, 0) >= 0, "poll: %s", strerror(errno));
	return pfd.revents;
}

struct kvm_vm *make_vm(void *mem)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_set_user_memory_region(vm, SLOT_MEM, 0, MEM, 16 * PG, mem);
	vm_set_user_memory_region(vm, SLOT_MEM2, 0, MEM2, 8 * PG, mem + 16 * PG);
	vm_set_user_memory_region(vm, SLOT_RO, KVM_MEM_READONLY, RO, 4 * PG, mem + 24 * PG);
	vm_set_user_memory_region(vm, SLOT_BELOW, 0, BELOW, PG, mem + 28 * PG);
	return vm;
}

void env_init(struct env *e, struct __test_metadata *_metadata)
{
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

void env_free(struct env *e)
{
	printf("# %s: %u cases\n", e->metadata->name, nr_cases);
	fflush(stdout);
	*total_cases += nr_cases;
	kvm_vm_free(e->owner);
	kvm_vm_free(e->backend);
}

static void print_total(void)
{
	if (getpid() == main_pid)
		printf("# all: %u cases\n", *total_cases);
}

void count_cases(void)
{
	main_pid = getpid();
	total_cases = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(total_cases != MAP_FAILED, "mmap: %s", strerror(errno));
	atexit(print_total);
}
