/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: the fixture that several files have tests of.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_FIXTURE_H
#define SELFTEST_KVM_VM2VM_DIRTY_FIXTURE_H

#include "vm2vm_harness.h"
#include "owner.h"

/* A variant defines a variable that is global, and the same in each of these files. */
#pragma weak _dirty_log_get_variant
#pragma weak _dirty_log_clear_variant
#pragma weak _dirty_log_initially_set_variant
#pragma weak _dirty_log_ring_variant

FIXTURE(dirty_log)
{
	struct dirty_owner o;
	struct dirty_vm b[4];
};

FIXTURE_VARIANT(dirty_log)
{
	enum dirty_style style;
};

FIXTURE_VARIANT_ADD(dirty_log, get) { .style = STYLE_GET };
FIXTURE_VARIANT_ADD(dirty_log, clear) { .style = STYLE_CLEAR };
FIXTURE_VARIANT_ADD(dirty_log, initially_set) { .style = STYLE_INITIALLY_SET };
FIXTURE_VARIANT_ADD(dirty_log, ring) { .style = STYLE_RING };

FIXTURE_SETUP(dirty_log)
{
	dirty_log_begin(&self->o, self->b, variant->style);
}

FIXTURE_TEARDOWN(dirty_log)
{
	dirty_log_end(&self->o, self->b);
}

#endif /* SELFTEST_KVM_VM2VM_DIRTY_FIXTURE_H */
