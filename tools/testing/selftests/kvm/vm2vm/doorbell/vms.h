/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_doorbell_test: VM A rings VM B, or each the other; C has the same interrupts
 * and nobody rings it.
 */
#ifndef SELFTEST_KVM_VM2VM_DOORBELL_VMS_H
#define SELFTEST_KVM_VM2VM_DOORBELL_VMS_H

#include "vm2vm_doorbell.h"

struct __test_metadata;

/* The VMs, an eventfd to ring, and one that C listens to. */
void bell_vms_init(struct bell_vm *a, struct bell_vm *b, struct bell_vm *c, int *fd, int *stranger);

/* Free all of it; C must not have heard anything. */
void bell_vms_free(struct __test_metadata *_metadata, struct bell_vm *a, struct bell_vm *b,
		   struct bell_vm *c, int fd, int stranger);

/* Whether so many interrupts of @vector have come to @b, and writes to @a's VMM. */
bool bell_rang(struct bell_vm *b, unsigned int vector, uint64_t hits, struct bell_vm *a,
	       uint64_t exits);

#define EXPECT_RANG(...)	EXPECT_TRUE(bell_rang(__VA_ARGS__))

#endif /* SELFTEST_KVM_VM2VM_DOORBELL_VMS_H */
