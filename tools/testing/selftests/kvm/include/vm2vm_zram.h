/* SPDX-License-Identifier: GPL-2.0 */
/* Swap in compressed memory, for tests of what is swapped out. */
#ifndef SELFTEST_KVM_VM2VM_ZRAM_H
#define SELFTEST_KVM_VM2VM_ZRAM_H

#include <stdint.h>

/* A new device; its number, or -1: there is no zram. */
long zram_add(void);

/* It is swap of @size bytes from now on, preferred to what there is. */
void zram_swapon(long n, uint64_t size);

/* What is still in there is lost, unless its owner gets it back in time. */
void zram_remove(long n);

#endif /* SELFTEST_KVM_VM2VM_ZRAM_H */
