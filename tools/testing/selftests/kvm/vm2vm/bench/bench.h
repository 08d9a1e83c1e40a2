/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_bench: what is measured in files of their own. */
#ifndef SELFTEST_KVM_VM2VM_BENCH_H
#define SELFTEST_KVM_VM2VM_BENCH_H

/* KVM's own log of writes, in a VM of which vm2vm knows nothing. */
void bench_plain_log(void);

/* Logging what a backend writes. */
void bench_dirty_logs(void);

void bench_doorbells(void);

/* Very many mappings of a page, and links. */
void bench_bounds(void);

#endif /* SELFTEST_KVM_VM2VM_BENCH_H */
