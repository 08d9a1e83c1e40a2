// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's lists of pages: what include/vm2vm_lru.h declares.
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm2vm_lru.h"

void lru_settle(void)
{
	int node = 0;

	syscall(__NR_move_pages, 0, 0ul, NULL, &node, NULL, MPOL_MF_MOVE);
}
