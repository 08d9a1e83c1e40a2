// SPDX-License-Identifier: GPL-2.0
/*
 * Swap in compressed memory: what include/vm2vm_zram.h declares.
 */
#include <fcntl.h>
#include <sys/swap.h>

#include "test_util.h"
#include "vm2vm_knob.h"
#include "vm2vm_zram.h"

#define ZRAM	"/sys/class/zram-control/"

long zram_add(void)
{
	return knob_read(ZRAM "hot_add");
}

/* A header as mkswap writes it. */
static void zram_make_swap(const char *path, uint64_t size)
{
	static char page[4096];
	uint32_t *info = (uint32_t *)(page + 1024);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	info[0] = 1;			/* version */
	info[1] = size / 4096 - 1;	/* last page */
	memcpy(page + 4086, "SWAPSPACE2", 10);
	TEST_ASSERT(write(fd, page, 4096) == 4096, "%s: %s", path, strerror(errno));
	TEST_ASSERT(!fsync(fd), "%s: %s", path, strerror(errno));
	close(fd);
}

void zram_swapon(long n, uint64_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/zram%ld/disksize", n);
	TEST_ASSERT(knob_write_long(path, size), "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "/dev/zram%ld", n);
	zram_make_swap(path, size);
	TEST_ASSERT(!swapon(path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK), "swapon %s: %s", path,
		    strerror(errno));
}

void zram_remove(long n)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/zram%ld", n);
	swapoff(path);
	snprintf(path, sizeof(path), "/sys/block/zram%ld/reset", n);
	knob_write(path, "1");
	knob_write_long(ZRAM "hot_remove", n);
}
