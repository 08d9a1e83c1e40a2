/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_miss_test: the fixture of all tests. */
#ifndef SELFTEST_KVM_VM2VM_MISS_H
#define SELFTEST_KVM_VM2VM_MISS_H

#include "vm2vm_harness.h"
#include "access.h"

/* One owner, one backend with two vCPUs, and no link yet. */
FIXTURE(miss) {
	struct kvm_vm *owner;
	void *mem;
	int domain;
	struct backend b;
};

FIXTURE_SETUP(miss)
{
	catch_signal(0);
	self->mem = make_memory();
	self->owner = make_owner(self->mem, &self->domain);
	backend_make(&self->b, 2);
}

/* Every test is a process of its own; what it leaves goes with it. */
FIXTURE_TEARDOWN(miss)
{
	unsigned int i;

	for (i = 0; i < self->b.nr; i++)
		EXPECT_FALSE(self->b.r[i].running);
}

#endif /* SELFTEST_KVM_VM2VM_MISS_H */
