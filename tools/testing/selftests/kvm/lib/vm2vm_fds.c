// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptors of this process: what include/vm2vm_fds.h declares.
 */
#include <dirent.h>
#include <errno.h>

#include "test_util.h"
#include "vm2vm_fds.h"

int vm2vm_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	TEST_ASSERT(dir, "/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
