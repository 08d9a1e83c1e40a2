/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where vm2vm_demo gets huge pages from: transparent ones, else hugetlbfs, for
 * which it may have to set some aside.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_HUGE_H
#define SELFTEST_KVM_VM2VM_DEMO_HUGE_H

#include <stdio.h>
#include <sys/mman.h>

#include "test_util.h"
#include "vm2vm_demo_guest.h"

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

static enum vm_mem_backing_src_type demo_huge_source;
static long demo_huge_reserved = -1;	/* what NR_HUGEPAGES was before us */

/* How much of the mappings that overlap the range is huge pages. */
static inline u64 demo_huge_bytes(const void *start, u64 size)
{
	unsigned long from = (unsigned long)start, a, b, kb, sum = 0;
	bool inside = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "re");

	TEST_ASSERT(f, "cannot open /proc/self/smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			inside = a < from + size && b > from;
		else if (inside && (sscanf(line, "AnonHugePages: %lu", &kb) == 1 ||
				    sscanf(line, "Private_Hugetlb: %lu", &kb) == 1))
			sum += kb << 10;
	}
	fclose(f);
	return sum;
}

static inline bool demo_try_thp(void)
{
	size_t size = DEMO_HUGE_SIZE + DEMO_BLOCK;
	bool huge = false;
	char *mem, *start;

	if (!thp_configured())
		return false;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	start = align_ptr_up(mem, DEMO_BLOCK);
	if (!madvise(start, DEMO_HUGE_SIZE, MADV_HUGEPAGE)) {
		memset(start, 1, DEMO_HUGE_SIZE);
		huge = demo_huge_bytes(start, DEMO_HUGE_SIZE) >= DEMO_HUGE_SIZE;
	}
	munmap(mem, size);
	return huge;
}

static inline bool demo_try_hugetlb(void)
{
	void *mem = mmap(NULL, DEMO_HUGE_SIZE, PROT_READ | PROT_WRITE,
			 vm_mem_backing_src_alias(demo_huge_source)->flag, -1, 0);

	if (mem == MAP_FAILED)
		return false;
	munmap(mem, DEMO_HUGE_SIZE);
	return true;
}

static inline long demo_get_nr_hugepages(void)
{
	FILE *f = fopen(NR_HUGEPAGES, "re");
	long nr = -1;

	if (f) {
		if (fscanf(f, "%ld", &nr) != 1)
			nr = -1;
		fclose(f);
	}
	return nr;
}

static inline void demo_set_nr_hugepages(long nr)
{
	FILE *f = fopen(NR_HUGEPAGES, "we");

	if (f) {
		fprintf(f, "%ld\n", nr);
		fclose(f);
	}
}

/* False: this machine gives no huge pages. */
static inline bool demo_find_huge_pages(void)
{
	demo_huge_source = VM_MEM_SRC_ANONYMOUS_THP;
	if (demo_try_thp())
		return true;

	demo_huge_source = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB;
	if (demo_try_hugetlb())
		return true;
	demo_huge_reserved = demo_get_nr_hugepages();
	if (demo_huge_reserved < 0)
		return false;
	demo_set_nr_hugepages(demo_huge_reserved + DEMO_HUGE_SIZE / DEMO_BLOCK);
	return demo_try_hugetlb();
}

static inline void demo_return_huge_pages(void)
{
	if (demo_huge_reserved >= 0)
		demo_set_nr_hugepages(demo_huge_reserved);
	demo_huge_reserved = -1;
}

#endif /* SELFTEST_KVM_VM2VM_DEMO_HUGE_H */
