// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: what mem.h declares, memory that is not at hand.
 */
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "numaif.h"
#include "test_util.h"

#define MEM_SWAP_SIZE	(16ul << 20)

/* Write a number to a file; whether that worked. */
static bool mem_knob(const char *path, unsigned long val)
{
	FILE *f = fopen(path, "we");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%lu\n", val) > 0;
	return !fclose(f) && ok;
}

long mem_knob_read(const char *path)
{
	FILE *f = fopen(path, "re");
	long val = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &val) != 1)
		val = -1;
	fclose(f);
	return val;
}

/* A header as mkswap writes it. */
static bool mem_make_swap(const char *path)
{
	static char page[4096];
	uint32_t *info = (uint32_t *)(page + 1024);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	info[0] = 1;				/* version */
	info[1] = MEM_SWAP_SIZE / 4096 - 1;	/* last page */
	memcpy(page + 4086, "SWAPSPACE2", 10);
	ok = write(fd, page, 4096) == 4096 && !fsync(fd);
	close(fd);
	return ok;
}

long mem_swap_start(void)
{
	long n = mem_knob_read("/sys/class/zram-control/hot_add");
	char path[64];

	if (n < 0)
		return -1;
	snprintf(path, sizeof(path), "/sys/block/zram%ld/disksize", n);
	if (!mem_knob(path, MEM_SWAP_SIZE))
		return -1;
	snprintf(path, sizeof(path), "/dev/zram%ld", n);
	return mem_make_swap(path) && !swapon(path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK) ?
	       n : -1;
}

void mem_swap_stop(long n)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/zram%ld", n);
	swapoff(path);
	snprintf(path, sizeof(path), "/sys/block/zram%ld/reset", n);
	mem_knob(path, 1);
	mem_knob("/sys/class/zram-control/hot_remove", n);
}

bool mem_has_nodes(void)
{
	return !access("/sys/devices/system/node/node1/meminfo", F_OK);
}

bool mem_move(void *addr)
{
	int status = -1, node;

	/* Without nodes it says where the page is. */
	if (syscall(__NR_move_pages, 0, 1ul, &addr, NULL, &status, 0) || status < 0)
		return false;
	node = !status;
	return !syscall(__NR_move_pages, 0, 1ul, &addr, &node, &status, MPOL_MF_MOVE) &&
	       status == node;
}

/* What /proc/self/pagemap has about the page at @addr. */
static uint64_t mem_pagemap(void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	TEST_ASSERT(fd >= 0 && pread(fd, &entry, 8, (uintptr_t)addr / 4096 * 8) == 8,
		    "pagemap: %s", strerror(errno));
	close(fd);
	return entry;
}

bool mem_is_swapped(void *addr)
{
	return mem_pagemap(addr) >> 62 & 1;
}

void mem_set_idle(void *addr)
{
	uint64_t pfn = mem_pagemap(addr) & ((1ul << 55) - 1), bits = 1ul << pfn % 64;
	int fd = open(MEM_IDLE, O_WRONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0 && pwrite(fd, &bits, 8, pfn / 64 * 8) == 8, MEM_IDLE ": %s",
		    strerror(errno));
	close(fd);
}

bool mem_is_idle(void *addr)
{
	uint64_t pfn = mem_pagemap(addr) & ((1ul << 55) - 1), bits;
	int fd = open(MEM_IDLE, O_RDONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0 && pread(fd, &bits, 8, pfn / 64 * 8) == 8, MEM_IDLE ": %s",
		    strerror(errno));
	close(fd);
	return bits >> pfn % 64 & 1;
}

int mem_userfault(void *mem, size_t size)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -1;
	TEST_ASSERT(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s", strerror(errno));
	return fd;
}

void *mem_1g(void)
{
	void *mem;

	mem_knob("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", 1);
	mem = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_HUGETLB | MAP_HUGE_1GB, -1, 0);
	return mem == MAP_FAILED ? NULL : mem;
}

double mem_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

double mem_tick(void)
{
	struct timespec tick;

	TEST_ASSERT(!clock_getres(CLOCK_MONOTONIC_COARSE, &tick), "clock_getres");
	return tick.tv_sec + tick.tv_nsec / 1e9;
}
