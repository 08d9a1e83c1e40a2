// SPDX-License-Identifier: GPL-2.0
/*
 * Where vm2vm_demo gets huge pages from.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "huge.h"
#include "vm2vm_knob.h"

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

enum vm_mem_backing_src_type demo_huge_source;
static long demo_huge_reserved = -1;	/* what NR_HUGEPAGES was before us */

u64 demo_huge_bytes(const void *start, u64 size)
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

static bool demo_try_thp(void)
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

static bool demo_try_hugetlb(void)
{
	void *mem = mmap(NULL, DEMO_HUGE_SIZE, PROT_READ | PROT_WRITE,
			 vm_mem_backing_src_alias(demo_huge_source)->flag, -1, 0);

	if (mem == MAP_FAILED)
		return false;
	munmap(mem, DEMO_HUGE_SIZE);
	return true;
}

bool demo_find_huge_pages(void)
{
	demo_huge_source = VM_MEM_SRC_ANONYMOUS_THP;
	if (demo_try_thp())
		return true;

	demo_huge_source = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB;
	if (demo_try_hugetlb())
		return true;
	demo_huge_reserved = knob_read(NR_HUGEPAGES);
	if (demo_huge_reserved < 0)
		return false;
	knob_write_long(NR_HUGEPAGES, demo_huge_reserved + DEMO_HUGE_SIZE / DEMO_BLOCK);
	return demo_try_hugetlb();
}

void demo_return_huge_pages(void)
{
	if (demo_huge_reserved >= 0)
		knob_write_long(NR_HUGEPAGES, demo_huge_reserved);
	demo_huge_reserved = -1;
}
