// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: kinds of memory.
 */
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/syscall.h>

#include "mem.h"

#define PAGEMAP_PFN	(BIT_ULL(55) - 1)
#define PAGEMAP_PRESENT	BIT_ULL(63)
/* Bits of /proc/kpageflags */
#define PAGE_COMPOUND	(BIT_ULL(15) | BIT_ULL(16))

const char * const kind_names[NR_KINDS] = { "anon", "memfd", "thp", "hugetlb" };

void reserve(void *where, size_t size)
{
	MUST(mmap(where, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		  MAP_NORESERVE | MAP_FIXED, -1, 0) == where ? 0 : -1);
}

void *reserve_any(size_t size)
{
	void *mem = peer_mmap(size, MAP_NORESERVE);

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	reserve(mem, size);
	return mem;
}

void region_map_file(struct region *r, void *where, int flags)
{
	r->mem = mmap(where, MATRIX_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | flags, r->fd, 0);
	TEST_ASSERT(r->mem == where, "mmap of %s: %s", kind_names[r->kind], strerror(errno));
}

void region_map(struct region *r, void *where)
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

void region_create(struct region *r, enum memory kind, bool private)
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

void region_free(struct region *r)
{
	munmap(r->mem, MATRIX_SIZE);
	if (r->alias)
		munmap(r->alias, MATRIX_SIZE);
	if (r->fd >= 0)
		close(r->fd);
}

void region_renew(struct region *r)
{
	if (r->fd >= 0) {
		MUST(ftruncate(r->fd, 0));
		MUST(ftruncate(r->fd, MATRIX_SIZE));
	}
	region_map(r, r->mem);
}

void region_fill(struct region *r)
{
	size_t off;

	for (off = 0; off < MATRIX_SIZE; off += 4096)
		WRITE_ONCE(*(uint64_t *)(r->mem + off), off + 1);
}

static uint64_t read_entry(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t val;

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	TEST_ASSERT(pread(fd, &val, 8, index * 8) == 8, "%s: %s", path, strerror(errno));
	close(fd);
	return val;
}

uint64_t pfn_of(pid_t pid, const void *addr)
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

void *page_of(struct cell *c)
{
	return c->r.mem + MATRIX_OFFSET;
}

bool pfn_is_compound(uint64_t pfn)
{
	return pfn && read_entry("/proc/kpageflags", pfn) & PAGE_COMPOUND;
}

int move_page(struct cell *c, int node)
{
	void *page = page_of(c);
	int status = -1;
	long r;

	r = syscall(SYS_move_pages, 0, 1ul, &page, node < 0 ? NULL : &node, &status,
		    1 << 1 /* MPOL_MF_MOVE */);
	return r < 0 ? -errno : status;
}

void drain_cpus(struct cell *c)
{
	move_page(c, move_page(c, -1));
}

struct place place_of_process(int *fd, pid_t pid, void *addr)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	*fd = open(path, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(*fd >= 0, "%s: %s", path, strerror(errno));
	return (struct place) { .fd = *fd, .addr = (uintptr_t)addr };
}
