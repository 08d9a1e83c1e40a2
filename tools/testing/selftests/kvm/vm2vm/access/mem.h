/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_access_test: memory of an owner that is not at hand: swapped, idle, in pages of
 * 1 GiB, or with a user that has to be asked.
 */
#ifndef SELFTEST_KVM_VM2VM_ACCESS_MEM_H
#define SELFTEST_KVM_VM2VM_ACCESS_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* A number that is in a file, or -1. */
long mem_knob_read(const char *path);

/* Swap in compressed memory; returns its number, or -1. */
long mem_swap_start(void);

void mem_swap_stop(long n);

/* Whether there are two NUMA nodes, for pages to move between. */
bool mem_has_nodes(void);

/* Move the page at @addr to the other of them; false if somebody keeps it where it is. */
bool mem_move(void *addr);

bool mem_is_swapped(void *addr);

#define MEM_IDLE	"/sys/kernel/mm/page_idle/bitmap"

/* Mark the page at @addr idle, which clears what says that it was accessed. */
void mem_set_idle(void *addr);

/* Whether nobody has accessed it since. */
bool mem_is_idle(void *addr);

/* A descriptor that is told of missing pages in the memory, or -1. */
int mem_userfault(void *mem, size_t size);

/* One page of 1 GiB, or NULL if there is none to be had. */
void *mem_1g(void);

/* Seconds since an arbitrary time. */
double mem_now(void);

/* Seconds from one tick of the kernel's to the next. */
double mem_tick(void);

#endif /* SELFTEST_KVM_VM2VM_ACCESS_MEM_H */
