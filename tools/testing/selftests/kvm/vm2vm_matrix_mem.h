/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: kinds of memory, and how an old page is watched.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_MEM_H
#define SELFTEST_KVM_VM2VM_MATRIX_MEM_H

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "vm2vm_matrix.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGEMAP_PFN	(BIT_ULL(55) - 1)
#define PAGEMAP_PRESENT	BIT_ULL(63)
/* Bits of /proc/kpageflags */
#define PAGE_COMPOUND	(BIT_ULL(15) | BIT_ULL(16))

#define NR_HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define HUGEPAGES	16	/* the owner's, copies, and what is yet to be freed */
#define CATCH_SIZE	(64 * 4096ul)
#define CATCH_HUGE	(2 * MATRIX_SIZE)

#define MUST(call)	TEST_ASSERT((call) >= 0, #call ": %s", strerror(errno))

static inline long read_knob(const char *path)
{
	char buf[32] = {};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return n > 0 ? strtol(buf, NULL, 0) : -1;
}

static inline bool write_knob(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, val, strlen(val)) == (ssize_t)strlen(val);
	close(fd);
	return done;
}

static inline bool write_knob_long(const char *path, long val)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%ld", val);
	return write_knob(path, buf);
}

/* Addresses that nothing else gets. */
static inline void reserve(void *where, size_t size)
{
	MUST(mmap(where, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		  MAP_NORESERVE | MAP_FIXED, -1, 0) == where ? 0 : -1);
}

static inline void *reserve_any(size_t size)
{
	void *mem = peer_mmap(size, MAP_NORESERVE);

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	reserve(mem, size);
	return mem;
}

static inline void region_map_file(struct region *r, void *where, int flags)
{
	r->mem = mmap(where, MATRIX_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | flags, r->fd, 0);
	TEST_ASSERT(r->mem == where, "mmap of %s: %s", kind_names[r->kind], strerror(errno));
}

/*
 * Map the region where it was, or is to be.  A guest that spins there is not to
 * be the first to touch the page: it would take a small page, or one of zeroes,
 * before this gets further.  So private memory is made elsewhere and moved.
 */
static inline void region_map(struct region *r, void *where)
{
	static void *stage;

	if (r->fd >= 0 && !r->private) {
		region_map_file(r, where, MAP_SHARED);
		return;
	}
	stage = stage ?: reserve_any(MATRIX_SIZE);
	region_map_file(r, stage, r->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE);
	if (r->fd < 0)
		MUST(madvise(stage, MATRIX_SIZE,
			     r->kind == THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
	WRITE_ONCE(*(uint64_t *)(stage + MATRIX_OFFSET), 0);
	r->mem = mremap(stage, MATRIX_SIZE, MATRIX_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, where);
	TEST_ASSERT(r->mem == where, "mremap: %s", strerror(errno));
	reserve(stage, MATRIX_SIZE);
}

static inline void region_create(struct region *r, enum memory kind, bool private)
{
	*r = (struct region) { .kind = kind, .private = private, .fd = -1 };
	if (kind == MEMFD || kind == HUGETLB) {
		r->fd = memfd_create("vm2vm", MFD_CLOEXEC |
				     (kind == HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
		MUST(r->fd);
		MUST(ftruncate(r->fd, MATRIX_SIZE));
		r->alias = reserve_any(MATRIX_SIZE);
		MUST(mmap(r->alias, MATRIX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			  r->fd, 0) == r->alias ? 0 : -1);
	}
	region_map(r, reserve_any(MATRIX_SIZE));
}

static inline void region_free(struct region *r)
{
	munmap(r->mem, MATRIX_SIZE);
	if (r->alias)
		munmap(r->alias, MATRIX_SIZE);
	if (r->fd >= 0)
		close(r->fd);
}

/* New pages in place of all that there are. */
static inline void region_renew(struct region *r)
{
	if (r->fd >= 0) {
		MUST(ftruncate(r->fd, 0));
		MUST(ftruncate(r->fd, MATRIX_SIZE));
	}
	region_map(r, r->mem);
}

/* Touch all pages; no two have the same contents, lest KSM merges them. */
static inline void region_fill(struct region *r)
{
	size_t off;

	for (off = 0; off < MATRIX_SIZE; off += 4096)
		WRITE_ONCE(*(uint64_t *)(r->mem + off), off + 1);
}

static inline uint64_t read_entry(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t val;

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	TEST_ASSERT(pread(fd, &val, 8, index * 8) == 8, "%s: %s", path, strerror(errno));
	close(fd);
	return val;
}

/* The frame at @addr of a process, or 0. */
static inline uint64_t pfn_of(pid_t pid, const void *addr)
{
	char path[64] = "/proc/self/pagemap";
	uint64_t entry;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	entry = read_entry(path, (uintptr_t)addr / 4096);
	if (!(entry & PAGEMAP_PRESENT))
		return 0;
	TEST_ASSERT(entry & PAGEMAP_PFN, "frame numbers are hidden: root is needed");
	return entry & PAGEMAP_PFN;
}

static inline void *page_of(struct cell *c)
{
	return c->r.mem + MATRIX_OFFSET;
}

static inline bool pfn_is_compound(uint64_t pfn)
{
	return pfn && read_entry("/proc/kpageflags", pfn) & PAGE_COMPOUND;
}

/* Move the page to @node, or with -1 ask where it is. */
static inline int move_page(struct cell *c, int node)
{
	void *page = page_of(c);
	int status = -1;
	long r;

	r = syscall(SYS_move_pages, 0, 1ul, &page, node < 0 ? NULL : &node, &status,
		    1 << 1 /* MPOL_MF_MOVE */);
	return r < 0 ? -errno : status;
}

/*
 * Each CPU holds pages for a while before they come to the LRU lists, and then
 * they cannot be freed, nor be reclaimed.  A page that is to be moved to where
 * it is makes all CPUs let go.
 */
static inline void drain_cpus(struct cell *c)
{
	move_page(c, move_page(c, -1));
}

static inline struct place place_of_process(int *fd, pid_t pid, void *addr)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	*fd = open(path, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(*fd >= 0, "%s: %s", path, strerror(errno));
	return (struct place) { .fd = *fd, .addr = (uintptr_t)addr };
}

/*
 * How the old page is watched.  Best is a way to write to it: the guest must
 * neither see the canary nor overwrite it.
 */
static inline void watch_place(struct cell *c, struct place place)
{
	c->old.place = place;
	c->old.mapped = true;
}

/*
 * A page without another mapping can be held by a pipe: it is not freed, keeps
 * what was in it, which the guest must not see any more, and shows afterwards
 * whether the guest has written to it.
 */
static inline void pin_page(int fd, void *addr)
{
	struct iovec iov = { .iov_base = addr, .iov_len = 4096 };

	TEST_ASSERT(vmsplice(fd, &iov, 1, 0) == 4096, "vmsplice: %s", strerror(errno));
}

static inline void watch_pinned(struct cell *c)
{
	pin_page(c->old.pipe[1], page_of(c));
	c->old.pinned = true;
}

/*
 * A page that something else must be able to free, to move it for instance, can
 * be had again: memory that is allocated right after it was freed is likely to
 * be it.  That memory gets the canary.
 */
static inline void watch_freed(struct cell *c)
{
	drain_cpus(c);
	c->old.pfn = pfn_of(0, page_of(c));
	c->old.node = -1;
}

static inline void bind_to_node(void *mem, size_t size, int node)
{
	unsigned long mask = 1ul << node;

	TEST_ASSERT(!syscall(SYS_mbind, mem, size, 2 /* MPOL_BIND */, &mask, 64, 0), "mbind: %s",
		    strerror(errno));
}

static inline void catch_freed(struct cell *c)
{
	struct old *old = &c->old;
	size_t size = old->huge ? CATCH_HUGE : CATCH_SIZE, off;
	bool hugetlb = old->huge && c->kind == HUGETLB;
	struct place p;

	c->shared->freed++;
	old->area = mmap(c->catch_at, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
			 (hugetlb ? MAP_HUGETLB : 0), -1, 0);
	TEST_ASSERT(old->area == c->catch_at, "mmap: %s", strerror(errno));
	if (!hugetlb)
		MUST(madvise(old->area, size, old->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
	if (old->node >= 0)
		bind_to_node(old->area, size, old->node);
	for (off = 0; off < size; off += 4096) {
		p = place_at(old->area + off);
		put(&p, WORD_READ, VAL_CANARY);
		put(&p, WORD_WRITE, VAL_CANARY);
		if (pfn_of(0, old->area + off) != old->pfn)
			continue;
		old->caught = old->area + off;
		c->shared->caught++;
		break;
	}
}

/* The guest has not written to the old page since the event. */
static inline void check_old(struct cell *c)
{
	struct old *old = &c->old;
	uint64_t page[512];

	check_seen(c);
	if (old->mapped)
		CHECK(c, get(&old->place, WORD_WRITE) == VAL_CANARY,
		      "the guest writes to the old page: 0x%lx", get(&old->place, WORD_WRITE));
	if (old->caught)
		CHECK(c, READ_ONCE(old->caught[WORD_WRITE]) == VAL_CANARY,
		      "the guest writes to a page that was freed: 0x%lx", old->caught[WORD_WRITE]);
	if (!old->pinned)
		return;
	TEST_ASSERT(read(old->pipe[0], page, 4096) == 4096, "read: %s", strerror(errno));
	old->pinned = false;
	CHECK(c, page[WORD_READ] == VAL_OLD(c->trial), "not the old page: 0x%lx",
	      page[WORD_READ]);
	/* The pass that was under way had perhaps written already. */
	CHECK(c, page[WORD_WRITE] <= VAL_PASS(c->returned) || page[WORD_WRITE] >= VAL_NONE,
	      "the guest writes to the old page: 0x%lx", page[WORD_WRITE]);
}

static inline void release_old(struct cell *c)
{
	struct old *old = &c->old;

	/* It may become the owner's again. */
	if (old->mapped)
		put(&old->place, WORD_READ, 0);
	if (old->area)
		reserve(old->area, CATCH_HUGE);
	old->mapped = false;
	old->huge = false;
	old->pfn = 0;
	old->area = NULL;
	old->caught = NULL;
}

#endif /* SELFTEST_KVM_VM2VM_MATRIX_MEM_H */
