/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_abi_test: the fixture of all tests. */
#ifndef SELFTEST_KVM_VM2VM_ABI_H
#define SELFTEST_KVM_VM2VM_ABI_H

#include "vm2vm_harness.h"
#include "env.h"

FIXTURE(abi) {
	struct env env;
};

FIXTURE_SETUP(abi)
{
	env_init(&self->env, _metadata);
}

FIXTURE_TEARDOWN(abi)
{
	env_free(&self->env);
}

#endif /* SELFTEST_KVM_VM2VM_ABI_H */
