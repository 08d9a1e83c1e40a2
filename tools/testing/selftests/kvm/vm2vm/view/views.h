/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_view_test: the fixture of most of its tests, two owners and a backend that has
 * no view yet.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_VIEWS_H
#define SELFTEST_KVM_VM2VM_VIEW_VIEWS_H

#include "vm2vm_harness.h"
#include "vm2vm_view.h"

FIXTURE(views)
{
	struct view w;
};

FIXTURE_SETUP(views)
{
	if (!view_feature())
		SKIP(return, "no views here");
	view_init(&self->w, VIEW_PAGES);
}

FIXTURE_TEARDOWN(views)
{
	view_free(&self->w);
}

#endif /* SELFTEST_KVM_VM2VM_VIEW_VIEWS_H */
