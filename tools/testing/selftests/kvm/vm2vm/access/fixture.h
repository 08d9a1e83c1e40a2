/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_access_test: the fixtures that several files have tests of.
 */
#ifndef SELFTEST_KVM_VM2VM_ACCESS_FIXTURE_H
#define SELFTEST_KVM_VM2VM_ACCESS_FIXTURE_H

#include "vm2vm_harness.h"
#include "access.h"

FIXTURE(access)
{
	struct access a;
	uint8_t model[SIZE];	/* what the window has to have */
};

FIXTURE_SETUP(access)
{
	access_init(&self->a, SIZE, access_guest);
	access_fill(&self->a, self->model);
}

FIXTURE_TEARDOWN(access)
{
	peer_free(&self->a.p);
}

FIXTURE(forced)
{
	struct access a;
};

FIXTURE_SETUP(forced)
{
	if (!kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");
	access_init(&self->a, SIZE, access_guest);
	share(&self->a.p, VM2VM_RW, 0);
}

FIXTURE_TEARDOWN(forced)
{
	peer_free(&self->a.p);
}

#endif /* SELFTEST_KVM_VM2VM_ACCESS_FIXTURE_H */
