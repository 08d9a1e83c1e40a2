/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What holds for a pair of VMs however its window came to be: checks that several
 * programs make.  The window shows all of the owner's memory, which is approved unless
 * it says otherwise, and nothing of it was in a hole before.
 */
#ifndef SELFTEST_KVM_VM2VM_PEER_CHECK_H
#define SELFTEST_KVM_VM2VM_PEER_CHECK_H

#include "vm2vm_peer.h"

#define PEER_HOLE	(~0ull)
/* What is in the owner's first word, and one more in each page after it. */
#define PEER_VALUE	0x1122334455667788ull

/* Put PEER_VALUE + i into each page i. */
void peer_fill(struct peer *p);

/* The exits of the vCPU that are not for the host's interrupts. */
uint64_t peer_exits(struct peer *p);

/* What was touched once does not exit. */
void peer_check_no_exits(struct peer *p);

/*
 * Writes to what may be read only are dropped, whether it was read before.  The window
 * is at gpa @window.
 */
void peer_check_readonly(struct peer *p, uint64_t window);

/* Another page in the place of the owner's first; that one stays in use. */
void peer_replace_page(struct peer *p);

/* Copy-on-write in the owner's process: backend and owner stay together. */
void peer_check_copy_on_write(struct peer *p);

/* Memory of the owner that nobody touched yet, and the zero page. */
void peer_check_not_present(struct peer *p);

/* The owner's process may not access its first page, whose first word is 5, or not write. */
void peer_check_protection(struct peer *p);

/* Have the kernel keep @pages pages of 2 MiB for hugetlb, if it can. */
void peer_reserve_hugetlb(unsigned int pages);

/* Map as many of them; NULL if there are not so many. */
void *peer_mmap_hugetlb(unsigned int pages);

/* Give the owner @pages pages of 2 MiB, each 4 KiB page with its number, if there are such. */
bool peer_use_huge(struct peer *p, unsigned int pages);

/* The sum of the numbers of @count 4 KiB pages from the first on. */
static inline uint64_t peer_huge_sum(uint64_t count)
{
	return count * (count - 1) / 2;
}

/* An approval of a part of a 2 MiB page is of that part only; nothing is approved yet. */
void peer_check_part_of_huge(struct peer *p);

#endif /* SELFTEST_KVM_VM2VM_PEER_CHECK_H */
