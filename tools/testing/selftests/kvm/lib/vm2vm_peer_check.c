// SPDX-License-Identifier: GPL-2.0
/*
 * Checks of a pair of VMs: what include/vm2vm_peer_check.h declares.
 */
#include <signal.h>
#include <sys/wait.h>

#include "vm2vm_peer_check.h"

void peer_fill(struct peer *p)
{
	unsigned int i;

	for (i = 0; i < p->size / 4096; i++)
		*peer_word(p, i * 4096) = PEER_VALUE + i;
}

uint64_t peer_exits(struct peer *p)
{
	return peer_vcpu_stat(p->vcpu, "exits") - peer_vcpu_stat(p->vcpu, "irq_exits");
}

void peer_check_no_exits(struct peer *p)
{
	uint64_t exits, idle;

	/* What a command costs by itself: its ucall. */
	exits = peer_exits(p);
	peer_sum(p, PEER_WINDOW, 0, 8);
	idle = peer_exits(p) - exits;

	exits = peer_exits(p);
	peer_sum(p, PEER_WINDOW, p->size / 8, 8);
	TEST_ASSERT_EQ(peer_exits(p) - exits, idle);
	TEST_ASSERT_EQ(p->mmio, 0);
}

void peer_check_readonly(struct peer *p, uint64_t window)
{
	TEST_ASSERT_EQ(peer_read(p, 0), PEER_VALUE);
	TEST_ASSERT_EQ(p->mmio, 0);

	peer_write(p, 0, 1);
	TEST_ASSERT_EQ(p->mmio, 1);
	TEST_ASSERT(p->mmio_write, "that was no write");
	TEST_ASSERT_EQ(p->mmio_gpa, window);
	peer_write(p, 4096, 1);
	TEST_ASSERT_EQ(p->mmio, 2);
	TEST_ASSERT_EQ(p->mmio_gpa, window + 4096);

	TEST_ASSERT_EQ(*peer_word(p, 0), PEER_VALUE);
	TEST_ASSERT_EQ(*peer_word(p, 4096), PEER_VALUE + 1);
	TEST_ASSERT_EQ(peer_read(p, 0), PEER_VALUE);
	TEST_ASSERT_EQ(peer_read(p, 4096), PEER_VALUE + 1);
	TEST_ASSERT_EQ(p->mmio, 2);
}

void peer_replace_page(struct peer *p)
{
	void *keep = peer_mmap(4096, 0);

	TEST_ASSERT(mremap(p->mem, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, keep) == keep,
		    "mremap");
	TEST_ASSERT(mmap(p->mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) == p->mem, "mmap");
}

void peer_check_copy_on_write(struct peer *p)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		pause();
		_exit(0);
	}
	*peer_word(p, 0) = 2;
	TEST_ASSERT_EQ(peer_read(p, 0), 2);
	peer_write(p, 4096, 3);
	TEST_ASSERT_EQ(*peer_word(p, 4096), 3);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	TEST_ASSERT_EQ(p->mmio, 0);
}

void peer_check_not_present(struct peer *p)
{
	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	TEST_ASSERT_EQ(peer_read(p, 0), 0);
	*peer_word(p, 0) = 5;
	TEST_ASSERT_EQ(peer_read(p, 0), 5);
	peer_write(p, 4096, 6);
	TEST_ASSERT_EQ(*peer_word(p, 4096), 6);
	TEST_ASSERT_EQ(p->mmio, 0);
}

void peer_check_protection(struct peer *p)
{
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_NONE), "mprotect");
	TEST_ASSERT_EQ(peer_read(p, 0), PEER_HOLE);
	TEST_ASSERT_EQ(p->mmio, 1);
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_READ), "mprotect");
	TEST_ASSERT_EQ(peer_read(p, 0), 5);
	TEST_ASSERT_EQ(p->mmio, 1);
	peer_write(p, 0, 1);
	TEST_ASSERT_EQ(p->mmio, 2);
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_READ | PROT_WRITE), "mprotect");
	peer_write(p, 0, 8);
	TEST_ASSERT_EQ(*peer_word(p, 0), 8);
	TEST_ASSERT_EQ(p->mmio, 2);
}

void peer_reserve_hugetlb(unsigned int pages)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (f) {
		fprintf(f, "%u\n", pages);
		fclose(f);
	}
}

void *peer_mmap_hugetlb(unsigned int pages)
{
	peer_reserve_hugetlb(pages);
	return peer_mmap(pages * PEER_SIZE_2M, MAP_HUGETLB | MAP_HUGE_2MB);
}

bool peer_use_huge(struct peer *p, unsigned int pages)
{
	uint64_t size = pages * PEER_SIZE_2M, i;
	void *mem = peer_mmap_hugetlb(pages);

	if (!mem)
		return false;
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, mem, size, 0);
	for (i = 0; i < size / 4096; i++)
		*peer_word(p, i * 4096) = i;
	return true;
}

void peer_check_part_of_huge(struct peer *p)
{
	vm2vm_map(p->domain, PEER_IOVA + 0x1000, PEER_OWNER_GPA + 0x1000, 0x1000, VM2VM_RW);
	vm2vm_map(p->domain, PEER_IOVA + PEER_SIZE_2M, PEER_OWNER_GPA + PEER_SIZE_2M,
		  PEER_SIZE_2M - 0x1000, VM2VM_RW);

	TEST_ASSERT_EQ(peer_read(p, 0x1000), 1);
	TEST_ASSERT_EQ(p->mmio, 0);
	TEST_ASSERT_EQ(peer_read(p, 0), PEER_HOLE);
	TEST_ASSERT_EQ(peer_read(p, 0x2000), PEER_HOLE);
	TEST_ASSERT_EQ(p->mmio, 2);
	TEST_ASSERT_EQ(peer_read(p, PEER_SIZE_2M), 512);
	TEST_ASSERT_EQ(peer_read(p, 2 * PEER_SIZE_2M - 0x2000), 1022);
	TEST_ASSERT_EQ(p->mmio, 2);
	TEST_ASSERT_EQ(peer_read(p, 2 * PEER_SIZE_2M - 0x1000), PEER_HOLE);
	TEST_ASSERT_EQ(p->mmio, 3);
}
