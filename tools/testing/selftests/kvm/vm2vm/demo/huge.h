/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where vm2vm_demo gets huge pages from: transparent ones, else hugetlbfs, for
 * which it may have to set some aside.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_HUGE_H
#define SELFTEST_KVM_VM2VM_DEMO_HUGE_H

#include "test_util.h"
#include "guest.h"

/* As demo_find_huge_pages() has found. */
extern enum vm_mem_backing_src_type demo_huge_source;

/* How much of the mappings that overlap the range is huge pages. */
u64 demo_huge_bytes(const void *start, u64 size);

/* False: this machine gives no huge pages. */
bool demo_find_huge_pages(void);

void demo_return_huge_pages(void);

#endif /* SELFTEST_KVM_VM2VM_DEMO_HUGE_H */
