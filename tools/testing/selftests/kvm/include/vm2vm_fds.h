/* SPDX-License-Identifier: GPL-2.0 */
/* Descriptors of this process, for the vm2vm selftests. */
#ifndef SELFTEST_KVM_VM2VM_FDS_H
#define SELFTEST_KVM_VM2VM_FDS_H

/* How many there are; the number is only good to be compared with another. */
int vm2vm_count_fds(void);

#endif /* SELFTEST_KVM_VM2VM_FDS_H */
