/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_view_test: the fixture of tests that have a vCPU inside a view.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_INSIDE_FIXTURE_H
#define SELFTEST_KVM_VM2VM_VIEW_INSIDE_FIXTURE_H

#include "vm2vm_harness.h"
#include "inside.h"

FIXTURE(inside)
{
	struct inside s;
	unsigned int trials;
};

FIXTURE_SETUP(inside)
{
	if (!view_feature())
		SKIP(return, "no views here");
	self->trials = vm2vm_trials(20);
	inside_init(&self->s);
}

FIXTURE_TEARDOWN(inside)
{
	inside_free(&self->s);
}

#endif /* SELFTEST_KVM_VM2VM_VIEW_INSIDE_FIXTURE_H */
