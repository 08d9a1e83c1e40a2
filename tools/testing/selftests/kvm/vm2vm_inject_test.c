// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: failing allocations and copies.
 *
 * Each call of the ABI, and the fault of a backend's vCPU on its window, is made
 * to fail at every allocation and every copy that it does, one after the other,
 * see vm2vm/inject/faults.h.  Each time the call must say so, by an errno that there
 * is for it, it must have changed nothing, and it must work when it is tried again.
 *
 * Here are domains, MAP, UNMAP, END, LINK, UNLINK, and the fault; vm2vm/inject/ has the
 * batches and QUERY (batch.c), misses (miss.c), doorbells (bell.c), and views (view.c).
 *
 * The kernel needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC,
 * CONFIG_FAULT_INJECTION_USERCOPY and CONFIG_FAULT_INJECTION_DEBUG_FS.  What it
 * detects by itself (KASAN, kmemleak, ...) makes this a much better test.
 *
 * VM2VM_TRIALS in the environment: with less than 10, memory runs out at each third
 * allocation only; one that fails alone is always each.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "vm2vm/inject/inject.h"

#define REGIONS		48		/* more page tables than KVM has in stock */
#define FREE_SLOT	(PEER_SLOT + 1)
#define BIG_SIZE	(64ul << 30)
#define BIG_GPA		(64ul << 30)
#define TABLE_SIZE	256		/* of the kernel's table of descriptors */

/*
 * KVM_VM2VM_CREATE_DOMAIN
 */

static int create(struct env *e)
{
	e->fd = __vm2vm_create_domain(e->p.owner);
	return e->fd;
}

static void create_done(struct env *e)
{
	vm2vm_map(e->fd, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

static void create_undo(struct env *e)
{
	close(e->fd);
}

/* As many domains as the owner may have besides @n: those that failed do not count. */
static void count_domains(struct env *e, unsigned int n)
{
	static int fds[KVM_VM2VM_MAX_DOMAINS];
	struct rlimit limit = { 2 * KVM_VM2VM_MAX_DOMAINS, 2 * KVM_VM2VM_MAX_DOMAINS };
	unsigned int i;
	int r;

	TEST_ASSERT(!setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE: %s", strerror(errno));
	for (i = n; i < KVM_VM2VM_MAX_DOMAINS; i++)
		fds[i] = vm2vm_create_domain(e->p.owner);
	r = __vm2vm_create_domain(e->p.owner);
	TEST_ASSERT(r == -ENOSPC, "one domain too many: %d", r);
	while (i-- > n)
		close(fds[i]);
}

static const struct inject_op create_op = {
	.name = "create-domain",
	.errs = ERR(ENOMEM) | ERR(EFAULT),
	.fds = 1,
	.call = create,
	.changed = create_done,
	.undo = create_undo,
};

static const struct inject_op create_full_op = {
	.name = "create, full",
	.errs = ERR(ENOMEM) | ERR(EFAULT),
	.fds = 1,
	.call = create,
	.changed = create_done,
};

/* One try, in a thread with a full table of descriptors of its own. */
struct full_table {
	struct env *env;
	struct inject_count *count;
	unsigned int nth;
	bool injected;
};

static void *create_full(void *arg)
{
	struct full_table *t = arg;

	TEST_ASSERT(!unshare(CLONE_FILES), "unshare: %s", strerror(errno));
	close(TABLE_SIZE - 1);
	TEST_ASSERT(inject_open() && inject_fd == TABLE_SIZE - 1, "descriptor %d", inject_fd);
	t->injected = inject_nth(t->env, &create_full_op, t->count, t->nth);
	TEST_ASSERT(t->env->fd == TABLE_SIZE, "descriptor %d", t->env->fd);
	return NULL;
}

/* A table grows once: so each fault has to be given a new one. */
static void create_in_full_tables(struct env *e)
{
	struct inject_count c = {};
	struct full_table t = { .env = e, .count = &c, .injected = true };
	pthread_t thread;
	int fd;

	do {
		fd = dup(e->p.domain);
	} while (fd >= 0 && fd < TABLE_SIZE - 1);
	TEST_ASSERT(fd == TABLE_SIZE - 1, "descriptor %d", fd);
	while (t.injected) {
		t.nth++;
		TEST_ASSERT(!pthread_create(&thread, NULL, create_full, &t) &&
			    !pthread_join(thread, NULL), "pthread_create");
	}
	inject_report(&create_full_op, &c);
}

TEST_F_TIMEOUT(inject, create_domain, 300)
{
	struct env *e = &self->env;

	inject(e, &create_op);
	create_in_full_tables(e);
	/* The one of peer_init(), and the one that inject() has left. */
	count_domains(e, 2);
}

/*
 * KVM_VM2VM_MAP and KVM_VM2VM_UNMAP: mapping i is of page i at mapping_iova(i).
 */

static int map_one(struct env *e)
{
	return __vm2vm_map(e->p.domain, mapping_iova(e->first),
			   PEER_OWNER_GPA + e->first * 4096, 4096, VM2VM_RW);
}

static void map_unchanged(struct env *e)
{
	expect_hole(e, 2 * e->first * 4096);
	TEST_ASSERT(!vm2vm_unmap(e->p.domain, mapping_iova(e->first), 4096), "it is mapped");
	if (e->first)
		expect_word(e, 2 * (e->first - 1) * 4096, VALUE + e->first - 1);
	shake(e);
}

static void map_done(struct env *e)
{
	expect_word(e, 2 * e->first * 4096, VALUE + e->first);
	TEST_ASSERT(map_one(e) == -EEXIST, "it is not mapped");
}

static void map_undo(struct env *e)
{
	vm2vm_unmap(e->p.domain, mapping_iova(e->first), 4096);
}

static void link_window(struct env *e)
{
	vm2vm_link(e->p.backend, e->p.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, WINDOW_SIZE, 0);
	peer_map_window(&e->p, PEER_WINDOW, WINDOW_SIZE);
}

/* The tree of mappings grows from nothing to three levels. */
TEST_F_TIMEOUT(inject, map, 600)
{
	const struct inject_op op = {
		.name = "map",
		.errs = ERR(ENOMEM) | ERR(EFAULT),
		.call = map_one,
		.unchanged = map_unchanged,
		.changed = map_done,
		.undo = map_undo,
	};
	struct inject_count nth = { .how = INJECT_NTH }, from = { .how = INJECT_FROM };
	struct env *e = &self->env;
	unsigned int i;

	link_window(e);
	for (e->first = 0; e->first < PAGES; e->first++) {
		inject_add(e, &op, &nth);
		map_undo(e);
		inject_add(e, &op, &from);
	}
	inject_report(&op, &nth);
	inject_report(&op, &from);
	/* The nodes of the tree, besides the mapping itself. */
	EXPECT_LT(PAGES, from.err[ENOMEM]);
	for (i = 0; i < PAGES; i++) {
		expect_word(e, 2 * i * 4096, VALUE + i);
		expect_hole(e, (2 * i + 1) * 4096);
	}
	EXPECT_EQ(PAGES * 4096, vm2vm_unmap(e->p.domain, PEER_IOVA, WINDOW_SIZE));
	expect_hole(e, 0);
}

static void map_range(struct env *e)
{
	unsigned int i;

	for (i = e->first; i < e->first + e->count; i++)
		vm2vm_map(e->p.domain, mapping_iova(i), PEER_OWNER_GPA + i * 4096, 4096, VM2VM_RW);
}

static int unmap_range(struct env *e)
{
	return __vm2vm_unmap(e->p.domain, mapping_iova(e->first), (2 * e->count - 1) * 4096,
			     &e->unmapped);
}

/* Look at the mappings of the range, and at those beside it, which stay. */
static void check_range(struct env *e, bool mapped)
{
	unsigned int i, first = e->first, end = e->first + e->count;

	for (i = first ? first - 1 : 0; i < PAGES && i <= end; i++) {
		if (mapped || i < first || i == end)
			expect_word(e, 2 * i * 4096, VALUE + i);
		else
			expect_hole(e, 2 * i * 4096);
	}
	shake(e);
}

static void unmap_unchanged(struct env *e)
{
	check_range(e, true);
}

static void unmap_done(struct env *e)
{
	TEST_ASSERT(e->unmapped == e->count * 4096, "0x%lx bytes unmapped", e->unmapped);
	check_range(e, false);
}

static void unmap(struct env *e, const char *name, unsigned int first, unsigned int count)
{
	const struct inject_op op = {
		.name = name,
		.errs = ERR(EFAULT),
		.call = unmap_range,
		.unchanged = unmap_unchanged,
		.changed = unmap_done,
		.undo = map_range,
	};

	e->first = first;
	e->count = count;
	inject(e, &op);
	map_range(e);
}

/*
 * Revoking does not fail for lack of memory, be it that nodes of the tree are replaced,
 * as when some of many mappings are removed.
 */
TEST_F_TIMEOUT(inject, unmap, 600)
{
	struct env *e = &self->env;

	link_window(e);
	e->count = PAGES;
	map_range(e);
	unmap(e, "unmap 1", 10, 1);
	unmap(e, "unmap 3", 10, 3);
	unmap(e, "unmap 40", 10, 40);
	unmap(e, "unmap all", 0, PAGES);
	EXPECT_EQ(PAGES * 4096, vm2vm_unmap(e->p.domain, PEER_IOVA, WINDOW_SIZE));
}

/*
 * KVM_VM2VM_END, which has nothing that can fail.
 */

static void end_prepare(struct env *e)
{
	close(e->p.domain);
	e->p.domain = vm2vm_create_domain(e->p.owner);
	map_range(e);
	if (__vm2vm_unlink(e->p.backend, PEER_SLOT))
		peer_map_window(&e->p, PEER_WINDOW, WINDOW_SIZE);
	vm2vm_link(e->p.backend, e->p.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, WINDOW_SIZE, 0);
	expect_word(e, 0, VALUE);
}

static int end(struct env *e)
{
	return __vm2vm_end(e->p.domain);
}

static void end_done(struct env *e)
{
	expect_hole(e, 0);
	TEST_ASSERT(end(e) == -ENODEV, "it has not ended");
	shake(e);
}

TEST_F_TIMEOUT(inject, end, 300)
{
	const struct inject_op op = {
		.name = "end",
		.prepare = end_prepare,
		.call = end,
		.changed = end_done,
	};
	struct env *e = &self->env;

	e->count = PAGES;
	inject(e, &op);
}

/*
 * KVM_VM2VM_LINK and KVM_VM2VM_UNLINK
 */

static int make_link(struct env *e)
{
	return __vm2vm_link(e->p.backend, e->p.domain, e->slot, e->gpa, PEER_IOVA, e->size, 0);
}

static int remove_link(struct env *e)
{
	return __vm2vm_unlink(e->p.backend, e->slot);
}

static void is_linked(struct env *e)
{
	expect_word(e, e->gpa - PEER_WINDOW, VALUE);
	TEST_ASSERT(make_link(e) == -EEXIST, "it is not linked");
	shake(e);
}

static void is_not_linked(struct env *e)
{
	expect_hole(e, e->gpa - PEER_WINDOW);
	TEST_ASSERT(remove_link(e) == -ENOENT, "it is linked");
	shake(e);
}

static void undo_link(struct env *e)
{
	vm2vm_unlink(e->p.backend, e->slot);
}

static void undo_unlink(struct env *e)
{
	TEST_ASSERT(!make_link(e), "KVM_VM2VM_LINK");
}

/* As many links as a domain may have besides @n: those that failed do not count. */
static void count_links(struct env *e, unsigned int n)
{
	unsigned int i;
	int r;

	for (i = n; i < KVM_VM2VM_MAX_LINKS; i++)
		vm2vm_link(e->p.backend, e->p.domain, 1000 + i, 4 * BIG_GPA + i * 4096, PEER_IOVA,
			   4096, 0);
	r = __vm2vm_link(e->p.backend, e->p.domain, 1000 + i, 4 * BIG_GPA + i * 4096, PEER_IOVA,
			 4096, 0);
	TEST_ASSERT(r == -ENOSPC, "one link too many: %d", r);
}

static void link_and_unlink(struct env *e, const char *name, const char *unname)
{
	const struct inject_op link_op = {
		.name = name,
		.errs = ERR(ENOMEM) | ERR(EFAULT),
		.call = make_link,
		.unchanged = is_not_linked,
		.changed = is_linked,
		.undo = undo_link,
	};
	const struct inject_op unlink_op = {
		.name = unname,
		.errs = ERR(ENOMEM) | ERR(EFAULT),
		.call = remove_link,
		.unchanged = is_linked,
		.changed = is_not_linked,
		.undo = undo_unlink,
	};

	virt_map(e->p.backend, e->gpa, e->gpa, 1);
	inject(e, &link_op);
	inject(e, &unlink_op);
}

TEST_F_TIMEOUT(inject, link, 900)
{
	struct env *e = &self->env;

	vm2vm_map(e->p.domain, PEER_IOVA, PEER_OWNER_GPA, e->p.size, VM2VM_RW);
	e->slot = PEER_SLOT;
	e->gpa = PEER_WINDOW;
	e->size = 4096;
	link_and_unlink(e, "link 4 KiB", "unlink 4 KiB");
	/* Besides another link of the same VM, and with much to allocate. */
	TEST_ASSERT(!make_link(e), "KVM_VM2VM_LINK");
	e->slot = FREE_SLOT;
	e->gpa = BIG_GPA;
	e->size = BIG_SIZE;
	link_and_unlink(e, "link 64 GiB", "unlink 64 GiB");
	count_links(e, 1);
}

/*
 * The fault on a window.  KVM_RUN fails, nothing has come of the access, and
 * KVM_RUN again does it.
 */

static int run_vcpu(struct env *e)
{
	struct kvm_run *run = e->p.vcpu->run;

	if (__vcpu_run(e->p.vcpu))
		return -errno;
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO, "exit reason %u (%s), address 0x%llx",
		    run->exit_reason, exit_reason_str(run->exit_reason), run->mmio.phys_addr);
	return 0;
}

static void check_val(struct env *e, uint64_t val)
{
	TEST_ASSERT(get_ucall(e->p.vcpu, NULL) == UCALL_SYNC, "not the end of the command");
	TEST_ASSERT(peer_val(&e->p) == val, "0x%lx, not 0x%lx", peer_val(&e->p), val);
}

/* The page tables of the backend: a link that goes takes all of them along. */
static void regions_prepare(struct env *e)
{
	if (!remove_link(e))
		TEST_ASSERT(!make_link(e), "KVM_VM2VM_LINK");
	set_cmd(e, PEER_READ_STRIDE, 0, REGIONS);
}

static void regions_done(struct env *e)
{
	check_val(e, REGIONS * VALUE);
}

TEST_F_TIMEOUT(inject, fault_page_tables, 900)
{
	const struct inject_op op = {
		.name = "fault, tables",
		.errs = ERR(ENOMEM),
		.more_errs = ERR(EFAULT) | ERR(EAGAIN),
		.prepare = regions_prepare,
		.call = run_vcpu,
		.changed = regions_done,
	};
	struct env *e = &self->env;
	unsigned int i;

	for (i = 0; i < REGIONS; i++) {
		vm2vm_map(e->p.domain, PEER_IOVA + i * PEER_SIZE_2M, PEER_OWNER_GPA, 4096,
			  VM2VM_RW);
		peer_map_window(&e->p, PEER_WINDOW + i * PEER_SIZE_2M, 4096);
	}
	e->slot = PEER_SLOT;
	e->gpa = PEER_WINDOW;
	e->size = REGIONS * PEER_SIZE_2M;
	TEST_ASSERT(!make_link(e), "KVM_VM2VM_LINK");
	inject(e, &op);
}

/* The owner's memory anew: no page, and no page tables for it. */
static void map_memory(struct env *e, int flags, int advice)
{
	void *mem = e->p.mem;

	TEST_ASSERT(mmap(mem, PEER_SIZE_2M, PROT_READ | PROT_WRITE, flags | MAP_FIXED, e->memfd,
			 0) == mem, "mmap: %s", strerror(errno));
	TEST_ASSERT(!madvise(mem, PEER_SIZE_2M, advice), "madvise: %s", strerror(errno));
}

static void prepare_read(struct env *e)
{
	map_memory(e, MAP_PRIVATE | MAP_ANONYMOUS, MADV_NOHUGEPAGE);
	set_cmd(e, PEER_READ, 1, 0);
}

static void prepare_write(struct env *e)
{
	map_memory(e, MAP_PRIVATE | MAP_ANONYMOUS, MADV_NOHUGEPAGE);
	set_cmd(e, PEER_WRITE, VALUE, 0);
}

static void prepare_huge(struct env *e)
{
	map_memory(e, MAP_PRIVATE | MAP_ANONYMOUS, MADV_HUGEPAGE);
	set_cmd(e, PEER_WRITE, VALUE, 0);
}

/* The owner has read: it has the zero page. */
static void prepare_zero_page(struct env *e)
{
	prepare_write(e);
	TEST_ASSERT(!READ_ONCE(*peer_word(&e->p, e->offset)), "not zero");
}

static void prepare_file(struct env *e)
{
	TEST_ASSERT(!fallocate(e->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       PEER_SIZE_2M), "fallocate: %s", strerror(errno));
	map_memory(e, MAP_SHARED, MADV_NOHUGEPAGE);
	set_cmd(e, PEER_WRITE, VALUE, 0);
}

/* A page of the file is there, and a write is to copy it. */
static void prepare_copy(struct env *e)
{
	map_memory(e, MAP_PRIVATE, MADV_NOHUGEPAGE);
	set_cmd(e, PEER_WRITE, VALUE, 0);
}

static void zero_done(struct env *e)
{
	check_val(e, 0);
}

static void write_done(struct env *e)
{
	uint64_t val = *peer_word(&e->p, e->offset);

	check_val(e, VALUE);
	TEST_ASSERT(val == VALUE, "the page has 0x%lx, not 0x%llx", val, VALUE);
}

static void fault(struct env *e, const char *name, void (*prepare)(struct env *e),
		  void (*done)(struct env *e))
{
	const struct inject_op op = {
		.name = name,
		/* One failure is made up for by a work item. */
		.more_errs = ERR(ENOMEM) | ERR(EFAULT) | ERR(EAGAIN),
		.prepare = prepare,
		.call = run_vcpu,
		.changed = done,
	};

	inject(e, &op);
}

/* The owner's page has to be brought in, or to be copied. */
TEST_F_TIMEOUT(inject, fault_owner_page, 900)
{
	struct env *e = &self->env;

	peer_share(&e->p, VM2VM_RW, 0);
	/* So that nothing else of the backend faults. */
	expect_word(e, 0, VALUE);
	peer_write(&e->p, 8, 0);
	e->offset = 100 * 4096;
	fault(e, "fault, read", prepare_read, zero_done);
	fault(e, "fault, write", prepare_write, write_done);
	fault(e, "fault, huge", prepare_huge, write_done);
	fault(e, "fault, zero page", prepare_zero_page, write_done);
	e->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	ASSERT_GE(e->memfd, 0);
	ASSERT_EQ(0, ftruncate(e->memfd, PEER_SIZE_2M));
	fault(e, "fault, file", prepare_file, write_done);
	fault(e, "fault, copy", prepare_copy, write_done);
	EXPECT_EQ(0, e->p.mmio);
}

TEST_HARNESS_MAIN
