/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's lists of pages, for the vm2vm selftests. */
#ifndef SELFTEST_KVM_VM2VM_LRU_H
#define SELFTEST_KVM_VM2VM_LRU_H

/*
 * Get new pages to where reclaim, and who asks what is idle, looks for them: from what
 * each CPU collects before.  Moving pages does that first, also if it moves none.
 */
void lru_settle(void);

#endif /* SELFTEST_KVM_VM2VM_LRU_H */
