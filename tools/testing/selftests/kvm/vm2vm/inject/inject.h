/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_inject_test: the fixture of all tests. */
#ifndef SELFTEST_KVM_VM2VM_INJECT_H
#define SELFTEST_KVM_VM2VM_INJECT_H

#include "vm2vm_harness.h"
#include "env.h"

FIXTURE(inject)
{
	struct env env;
};

FIXTURE_SETUP(inject)
{
	if (!inject_start())
		SKIP(return, "the kernel cannot inject faults");
	env_init(&self->env);
}

FIXTURE_TEARDOWN(inject)
{
	inject_stop();
	env_free(&self->env);
}

#endif /* SELFTEST_KVM_VM2VM_INJECT_H */
